"""The list of the nodes for ComfyUI. Of the pack, the files of this package import ``api/__init__.py`` only."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .outpaint import RemoteOutpaintPasteBack, RemoteOutpaintPlacement
from .paid import paid_nodes
from .report import RemoteSetReport
from .tasks import RemoteTaskResult


class RemoteImageExtension(ComfyExtension):
    """The extension that ``comfy_entrypoint`` returns to ComfyUI; it names the node classes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*paid_nodes(), RemoteOutpaintPlacement, RemoteOutpaintPasteBack, RemoteTaskResult, RemoteSetReport]
