"""The nodes: a schema and a short ``execute`` each. They import from the facade ``api`` only."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .hidream import HiDreamAPIImageToImage, HiDreamAPIModelPhotoSet, HiDreamAPIOutpaint, HiDreamAPIUpscale
from .outpaint import RemoteOutpaintPasteBack, RemoteOutpaintPlacement
from .tasks import RemoteTaskResult
from .volcengine import VolcengineAPIOutpaint, VolcengineAPIOutpaintCanvas


class RemoteImageExtension(ComfyExtension):
    """What ComfyUI loads."""

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
