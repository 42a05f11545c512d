"""Padding an original into a larger canvas: what fills the new area, and the mask with its feathered rim."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core import Fill
from .geometry import Area, Placement, around
from .tensors import Values, cut_out

# Grey as ComfyUI's ImagePadForOutpaint has it.
_FLAT = {"grey": 0.5, "white": 1.0}
# The blur is computed on a copy this small, and its standard deviation is this share of the copy's longer side.
_BLUR_SIDE = 256
_BLUR_SHARE = 1 / 20


def pad_into(canvas: Values, original: Values, placement: Placement, fill: Fill) -> None:
    """Write a padded picture into ``canvas``: the original, bit for bit, and ``fill`` around it.

    Args:
        canvas: (canvas_height, canvas_width, 3) float32, every pixel of which is written.
        original: of the placement's width and height; any float values.
        fill: ``grey`` (0.5) and ``white`` are flat, ``edge`` repeats the original's outermost pixels outward, ``blur``
            is the same strongly blurred, within 0–1.
    """
    cut_out(canvas, placement)[...] = original
    if fill == "edge":
        _repeat_edges(canvas, placement)
    elif fill == "blur":
        soft = _soft_copy(original, placement)
        for area in around(placement.area, placement.canvas):
            _enlarge_into(canvas, area, soft)
    else:
        for area in around(placement.area, placement.canvas):
            canvas[area] = _FLAT[fill]


def largest_feathering(placement: Placement) -> int:
    """The largest feathering of an original, in pixels.

    ComfyUI's ImagePadForOutpaint silently leaves out a feathering of half the original's shorter side or more.
    """
    return (min(placement.width, placement.height) - 1) // 2


def feathered_mask(placement: Placement, feathering: int) -> NDArray[np.float32]:
    """(H, W) float32: 1 where pixels are new, and inside the original ((f − d) / f)² at d pixels from new ones.

    The same numbers as ComfyUI's ImagePadForOutpaint; sides without new pixels stay 0.

    Args:
        feathering: f in pixels, 0…:func:`largest_feathering`.
    """
    mask = np.ones((placement.canvas_height, placement.canvas_width), np.float32)
    across = _rim(placement.width, feathering, placement.left > 0, placement.right > 0)
    down = _rim(placement.height, feathering, placement.top > 0, placement.bottom > 0)
    np.maximum(down[:, None], across[None, :], out=cut_out(mask, placement))
    return mask


def _rim(length: int, feathering: int, at_start: bool, at_end: bool) -> NDArray[np.float32]:
    """(length,) float32: the mask along one axis of the original.

    Computed in double precision and then stored, as ComfyUI's ImagePadForOutpaint does.
    """
    distance = np.full(length, float(length))
    if at_start:
        distance = np.minimum(distance, np.arange(length))
    if at_end:
        distance = np.minimum(distance, length - np.arange(length))
    share = np.maximum(feathering - distance, 0.0) / max(feathering, 1)
    rim: NDArray[np.float32] = (share * share).astype(np.float32)
    return rim


def _repeat_edges(canvas: Values, placement: Placement) -> None:
    rows, columns = placement.area
    canvas[rows, : columns.start] = canvas[rows, columns.start, None]
    canvas[rows, columns.stop :] = canvas[rows, columns.stop - 1, None]
    canvas[: rows.start] = canvas[rows.start]
    canvas[rows.stop :] = canvas[rows.stop - 1]


def _soft_copy(original: Values, placement: Placement) -> Values:
    """A small copy of the canvas with the original's edges repeated outward, all of it blurred."""
    small = placement.within(_BLUR_SIDE, _BLUR_SIDE)
    reduced = np.stack(
        [_resized(np.clip(original[..., channel], 0.0, 1.0), small.width, small.height) for channel in range(3)],
        axis=-1,
    )
    spread = np.pad(reduced, ((small.top, small.bottom), (small.left, small.right), (0, 0)), mode="edge")
    return _blurred(spread, max(spread.shape) * _BLUR_SHARE)


def _resized(channel: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BOX))


def _blurred(values: Values, deviation: float) -> Values:
    """A Gaussian blur; beyond its edges the picture goes on as its outermost pixels."""
    radius = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2).astype(np.float32)
    weights /= weights.sum()
    for axis in (0, 1):
        margins = [(radius, radius) if dimension == axis else (0, 0) for dimension in range(3)]
        spread = np.moveaxis(np.pad(values, margins, mode="edge"), axis, 0)
        length = values.shape[axis]
        blurred = sum(weight * spread[start : start + length] for start, weight in enumerate(weights))
        values = np.moveaxis(np.asarray(blurred, np.float32), 0, axis)
    return values


def _enlarge_into(canvas: Values, area: Area, small: Values) -> None:
    """Fill ``area`` of ``canvas`` with its part of ``small``, a reduced copy of all of it, enlarged smoothly."""
    rows, columns = area
    width, height = columns.stop - columns.start, rows.stop - rows.start
    scale_x, scale_y = small.shape[1] / canvas.shape[1], small.shape[0] / canvas.shape[0]
    box = (columns.start * scale_x, rows.start * scale_y, columns.stop * scale_x, rows.stop * scale_y)
    for channel in range(3):
        part = Image.fromarray(np.ascontiguousarray(small[..., channel]))
        large = np.asarray(part.resize((width, height), Image.Resampling.BICUBIC, box=box))
        np.clip(large, 0.0, 1.0, out=canvas[rows, columns, channel])
