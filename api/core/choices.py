"""The names and values that widgets offer: profiles, endpoints, the services' own choices, and those of local steps.

Separate from the code that uses them, so that ComfyUI can make the nodes' schemas without loading that code. The pages
that the services' values come from are named in ``hidream.py``, ``hidream_templates.py`` and ``volcengine.py`` of
``api/services/``.
"""

from __future__ import annotations

from typing import Literal, get_args

DEFAULT_PROFILE = "default"
SANDBOX_PROFILE = "sandbox"

HIDREAM_OUTPAINT = "hidream outpaint"
HIDREAM_IMAGE_TO_IMAGE = "hidream image to image"
HIDREAM_UPSCALE = "hidream upscale"
HIDREAM_MODEL_PHOTO_SET = "hidream model photo set"
VOLCENGINE_OUTPAINT = "volcengine outpaint"
# The endpoints as the journal and the node Remote Task Result name them.
ENDPOINTS = (
    HIDREAM_OUTPAINT,
    HIDREAM_IMAGE_TO_IMAGE,
    HIDREAM_UPSCALE,
    HIDREAM_MODEL_PHOTO_SET,
    VOLCENGINE_OUTPAINT,
)

# HiDream's outpainting: the largest width and the largest height of its canvas, in pixels.
MAX_CANVAS = 1024

AspectRatio = Literal["9:16", "2:3", "4:3", "1:1", "3:4", "3:2", "16:9"]
ASPECT_RATIOS: tuple[AspectRatio, ...] = get_args(AspectRatio)
UpscaleRatio = Literal[2, 4]
UPSCALE_RATIOS: tuple[UpscaleRatio, ...] = get_args(UpscaleRatio)
Gender = Literal["woman", "man"]
GENDERS: tuple[Gender, ...] = get_args(Gender)

Position = Literal[
    "center", "top", "bottom", "left", "right", "top left", "top right", "bottom left", "bottom right", "offset"
]
POSITIONS: tuple[Position, ...] = get_args(Position)
Format = Literal["png", "jpeg 95"]
FORMATS: tuple[Format, ...] = get_args(Format)
Fill = Literal["grey", "white", "edge", "blur"]
FILLS: tuple[Fill, ...] = get_args(Fill)
PasteMode = Literal["exact", "blend"]
PASTE_MODES: tuple[PasteMode, ...] = get_args(PasteMode)
OutputSize = Literal["native", "generated", "factor"]
OUTPUT_SIZES: tuple[OutputSize, ...] = get_args(OutputSize)
