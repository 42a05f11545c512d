"""The list of the nodes for ComfyUI. Of the pack, the files of this package import ``api/__init__.py`` only."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .hidream import HiDreamAPIImageToImage, HiDreamAPIModelPhotoSet, HiDreamAPIOutpaint, HiDreamAPIUpscale
from .outpaint import RemoteOutpaintPasteBack, RemoteOutpaintPlacement
from .tasks import RemoteTaskResult
from .volcengine import VolcengineAPIOutpaint, VolcengineAPIOutpaintCanvas


class RemoteImageExtension(ComfyExtension):
    """The extension that ``comfy_entrypoint`` returns to ComfyUI; it names the node classes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            HiDreamAPIOutpaint,
            HiDreamAPIImageToImage,
            HiDreamAPIUpscale,
            HiDreamAPIModelPhotoSet,
            VolcengineAPIOutpaint,
            VolcengineAPIOutpaintCanvas,
            RemoteOutpaintPlacement,
            RemoteOutpaintPasteBack,
            RemoteTaskResult,
        ]
