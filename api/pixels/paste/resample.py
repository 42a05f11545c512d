"""Resampling a rectangle of a picture, at fractions of pixels, to another size in one pass and without any shift."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image

from ..geometry import Placement, strips
from ..tensors import Pixels

# Lanczos looks this many source (or, when reducing, target) pixels to each side.
_LOBES = 3
# Rows of a result made at once: Pillow's own copies stay small beside a large picture.
_ROWS = 1024
# Pixels. A coordinate so near a whole number is that number: the rest comes of float arithmetic.
TINY = 1e-6


@dataclass(frozen=True)
class Region:
    """A rectangle in a picture, in fractions of its pixels; pixel k covers k to k + 1."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, placement: Placement) -> Region:
        """The rectangle of a placement."""
        return cls(placement.x, placement.y, placement.width, placement.height)

    def scaled(self, across: float, down: float) -> Region:
        return Region(self.x * across, self.y * down, self.width * across, self.height * down)

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def resample(pixels: Pixels, box: Region, width: int, height: int) -> Pixels:
    """What ``box`` shows of a picture, as ``width`` × ``height`` pixels (Lanczos, antialiased, sub-pixel exact).

    Outside of the picture, its edge pixels are repeated. Returns ``pixels`` itself if nothing changes.
    """
    box = _on_whole_pixels(box)
    if box == Region(0, 0, width, height) and pixels.shape[:2] == (height, width):
        return pixels
    result = np.empty((height, width, 3), dtype=np.uint8)
    step = box.height / height
    for rows in strips(slice(0, height), _ROWS):
        count = rows.stop - rows.start
        result[rows] = _resampled(
            pixels, Region(box.x, box.y + rows.start * step, box.width, count * step), width, count
        )
    return result


def _on_whole_pixels(box: Region) -> Region:
    """The box with each number rounded that is within ``TINY`` of a whole one."""
    return Region(*(round(side) if abs(side - round(side)) < TINY else side for side in astuple(box)))


def _resampled(pixels: Pixels, box: Region, width: int, height: int) -> Pixels:
    columns = _span(box.x, box.width, width, pixels.shape[1])
    rows = _span(box.y, box.height, height, pixels.shape[0])
    part = pixels[rows.begin : rows.end, columns.begin : columns.end]
    if any((rows.before, rows.after, columns.before, columns.after)):
        part = np.pad(part, ((rows.before, rows.after), (columns.before, columns.after), (0, 0)), mode="edge")
    inside = (columns.start, rows.start, columns.stop(part.shape[1]), rows.stop(part.shape[0]))
    picture = Image.fromarray(np.ascontiguousarray(part))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, box=inside))


@dataclass(frozen=True)
class _Span:
    """One axis of a box.

    Attributes:
        begin, end: the pixels to cut out of the picture.
        before, after: how often its first and last pixel are repeated around them.
        start, length: the box in what results.
    """

    begin: int
    end: int
    before: int
    after: int
    start: float
    length: float

    def stop(self, size: int) -> float:
        """Where the box ends; not beyond ``size``, as a rounding error might put it and Pillow would refuse."""
        return min(self.start + self.length, size)


def _span(start: float, length: float, target: int, size: int) -> _Span:
    support = math.ceil(_LOBES * max(1.0, length / target)) + 1
    first, last = math.floor(start) - support, math.ceil(start + length) + support
    # Pixels are repeated only if the box leaves the picture; near an edge inside, the filter uses the pixels it has.
    before = max(0, -first) if start < 0 else 0
    after = max(0, last - size) if start + length > size + TINY else 0
    begin, end = min(max(first, 0), size - 1), max(min(last, size), 1)
    return _Span(begin, end, before, after, max(0.0, start - begin + before), length)
