"""Checks of the demo's pictures: they compute from the workflow's values what must come out, without the pack.

`as_planned` alone takes what the node itself says: it is for a node without a check of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import api

Inputs = Mapping[str, Any]
Pictures = Sequence[Image.Image]
Box = tuple[int, int, int, int]
Check = Callable[[Image.Image, Inputs, Pictures], str]
"""A check of the photograph, the values of the workflow and the pictures that came: returns what it found in words, or
raises CheckError."""

MAX_MEAN_ERROR = 2.0  # in levels of 255


class CheckError(Exception):
    """A picture is not what the workflow asked for."""


def outpainted_on_canvas(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """HiDreamAPIOutpaint: the canvas has its size, and the original its place in it, at `ratio` of the canvas."""
    canvas = (inputs["canvas_width"], inputs["canvas_height"])
    scale = inputs["ratio"] * min(canvas[0] / photo.width, canvas[1] / photo.height)
    width, height = round(photo.width * scale), round(photo.height * scale)
    room = (canvas[0] - width, canvas[1] - height)
    position = inputs["position"]
    x = 0 if "left" in position else room[0] if "right" in position else room[0] // 2
    y = 0 if "top" in position else room[1] if "bottom" in position else room[1] // 2
    if position == "offset":
        x, y = inputs["x_offset"], inputs["y_offset"]
    return _outpainted(photo, pictures, inputs["variants"], canvas, (x, y, x + width, y + height))


def outpainted_by_sides(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """VolcengineAPIOutpaint: each side extended by its share of the original, and all scaled down into the limits."""
    width, height = photo.size
    left, right = round(inputs["left"] * width), round(inputs["right"] * width)
    top, bottom = round(inputs["top"] * height), round(inputs["bottom"] * height)
    full = (left + width + right, top + height + bottom)
    scale = min(1.0, inputs["max_width"] / full[0], inputs["max_height"] / full[1])
    box = tuple(round(scale * edge) for edge in (left, top, left + width, top + height))
    canvas = (round(scale * full[0]), round(scale * full[1]))
    return _outpainted(photo, pictures, inputs["variants"], canvas, (box[0], box[1], box[2], box[3]))


def outpainted_by_mask(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """VolcengineAPIOutpaintCanvas behind ImagePadForOutpaint; `inputs` has the values of both."""
    width, height = photo.size
    left, top, right, bottom = (inputs[side] for side in ("left", "top", "right", "bottom"))
    canvas = (left + width + right, top + height + bottom)
    box = (left, top, left + width, top + height)
    rim = inputs["feathering"]  # the feathered rim is repainted at the extended sides
    inner = (rim if left else 0, rim if top else 0, width - (rim if right else 0), height - (rim if bottom else 0))
    return _outpainted(photo, pictures, inputs["variants"], canvas, box, inner)


def pasted_back(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """RemoteOutpaintPasteBack after an outpainting: the canvas has its aspect ratio, and the original lies in it at its
    own size with every pixel unchanged.
    """
    canvas, corner = _laid_out(photo.size, inputs)
    _require_count(pictures, inputs["variants"])
    original = np.asarray(photo.convert("RGB"))
    for picture in pictures:
        _require_size(picture, canvas)
        x, y = corner
        kept = np.asarray(picture.convert("RGB"))[y : y + photo.height, x : x + photo.width]
        changed = int((kept != original).any(axis=-1).sum())
        _require(changed == 0, f"{changed} pixels of the original at {corner} are not its own")
    return f"{_size(photo)} -> {_size(pictures[0])}, every original pixel byte-equal"


def where(photo: Image.Image, inputs: Inputs) -> tuple[int, int]:
    """Return x and y of an original that was pasted back."""
    return _laid_out(photo.size, inputs)[1]


def _laid_out(size: tuple[int, int], inputs: Inputs) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of the canvas (of the aspect ratio, the original keeps its size), and the original's x and y."""
    _require(inputs["target"] == "aspect ratio", f"no check of the target {inputs['target']}")
    columns, rows = (float(part) for part in inputs["aspect_ratio"].split(":"))
    width, height = size
    canvas = (
        _half_up(max(width, height * columns / rows) / inputs["ratio"]),
        _half_up(max(height, width * rows / columns) / inputs["ratio"]),
    )
    position = inputs["position"]
    room = (canvas[0] - width, canvas[1] - height)
    x = 0 if "left" in position else room[0] if "right" in position else room[0] // 2
    y = 0 if "top" in position else room[1] if "bottom" in position else room[1] // 2
    return canvas, (x, y)


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)


def restyled(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """HiDreamAPIImageToImage: as many pictures as asked for, each in the aspect ratio and not the photograph again."""
    _require_count(pictures, inputs["img_count"])
    columns, rows = (int(part) for part in inputs["aspect_ratio"].split(":"))
    for picture in pictures:
        drift = abs(picture.width * rows / (picture.height * columns) - 1)
        _require(drift <= 0.02, f"{_size(picture)} is not {inputs['aspect_ratio']}")
        _require_change(photo, picture)
    return f"{len(pictures)} x {_size(pictures[0])}, {inputs['aspect_ratio']}"


def upscaled(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """HiDreamAPIUpscale: one picture, `upscale_ratio` times as wide and high."""
    _require_count(pictures, 1)
    ratio = int(inputs["upscale_ratio"])
    _require_size(pictures[0], (photo.width * ratio, photo.height * ratio))
    return f"{_size(photo)} x {ratio} = {_size(pictures[0])}"


def photo_set(photo: Image.Image, inputs: Inputs, pictures: Pictures) -> str:
    """HiDreamAPIModelPhotoSet: at least one picture, each 256 pixels a side or more; the service chooses how many."""
    _require(len(pictures) >= 1, "no picture came back")
    for picture in pictures:
        _require(min(picture.size) >= 256, f"{_size(picture)} is too small for a photo")
        _require_change(photo, picture)
    return f"{len(pictures)} pictures of template {inputs['template_id']}"


def as_planned(photo: Image.Image, plan: api.NodePlan, pictures: Pictures) -> str:
    """Any paid node: as many pictures as planned, in the planned size, the original where its placement says.

    Without a placement, no picture is the photograph again.
    """
    _require(len(pictures) >= plan.pictures, f"{len(pictures)} pictures instead of {plan.pictures}")
    if plan.size is not None:
        for picture in pictures:
            _require_size(picture, plan.size)
    placement = plan.frame(*pictures[0].size, [0] * len(pictures))[1] if plan.frame is not None else None
    if placement is not None:
        box = (placement.x, placement.y, placement.x + placement.width, placement.y + placement.height)
        return _outpainted(photo, pictures, len(pictures), pictures[0].size, box)
    for picture in pictures:
        _require_change(photo, picture)
    return f"{len(pictures)} x {_size(pictures[0])}"


def _outpainted(
    photo: Image.Image, pictures: Pictures, count: int, canvas: tuple[int, int], box: Box, inner: Box | None = None
) -> str:
    """Check that the original lies in `box` of each canvas; with `inner` (in its own pixels), only that part."""
    _require_count(pictures, count)
    worst = 0.0
    for picture in pictures:
        _require_size(picture, canvas)
        expected = photo.convert("RGB").resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS)
        kept = picture.convert("RGB").crop(box)
        if inner:
            expected, kept = expected.crop(inner), kept.crop(inner)
        worst = max(worst, _mean_error(expected, kept))
        _require(worst <= MAX_MEAN_ERROR, f"the original at {box} is off by {worst:.1f}/255 on average")
    return f"{_size(photo)} -> {_size(pictures[0])}, original kept (mean error {worst:.2f}/255)"


def _mean_error(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


def _require(met: bool, problem: str) -> None:
    if not met:
        raise CheckError(problem)


def _require_count(pictures: Pictures, count: int) -> None:
    _require(len(pictures) == count, f"{len(pictures)} pictures instead of {count}")


def _require_size(picture: Image.Image, size: tuple[int, int]) -> None:
    _require(picture.size == size, f"{_size(picture)} instead of {size[0]} x {size[1]}")


def _require_change(photo: Image.Image, picture: Image.Image) -> None:
    same_size = photo.convert("RGB").resize(picture.size)
    _require(_mean_error(same_size, picture.convert("RGB")) > 1, "the picture is the original again")


def _size(picture: Image.Image) -> str:
    return f"{picture.width} x {picture.height}"
