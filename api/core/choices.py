"""The names and values that widgets of several nodes offer, and those of local steps.

Separate from the code that uses them, so that ComfyUI can make the nodes' schemas without loading that code.
"""

from __future__ import annotations

from typing import Literal, get_args

DEFAULT_PROFILE = "default"
SANDBOX_PROFILE = "sandbox"

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
