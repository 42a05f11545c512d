"""Placement arithmetic: where an original lies in a larger canvas. All rounding of the pack lives here.

Integers and floats only, no images: ``web/placement/`` has the same rules in JavaScript, and ``tests/vectors/`` the
numbers for both. The offset of a centred original is rounded down; a share of a side is rounded half up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..core import InvalidInputError, Position, Text

# Relative drift of the aspect ratio within which a rectangle has the shape of an original, whatever its size.
MAX_ASPECT_DRIFT = 0.01
# A result that differs from the expected size by so few pixels has been rounded differently, not scaled.
ROUNDING_SLACK = 2
# Pixels that a side of a scaled rectangle may be off the common scale: both its edges and the canvas were rounded.
_SIDE_SLACK = 1.5

Area = tuple[slice, slice]
"""(rows, columns) of an array, each with its start and stop."""


@dataclass(frozen=True)
class Placement:
    """A canvas and the rectangle of the original in it, in canvas pixels. It holds at any scale: see :meth:`scaled_to`.

    ``x`` and ``y`` are the rectangle's top-left corner; ``left``, ``top``, ``right`` and ``bottom`` are how many pixels
    of the canvas are new on each side of it.

    Raises:
        InvalidInputError: the rectangle is empty, or does not lie inside the canvas.
    """

    canvas_width: int
    canvas_height: int
    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        fits = (
            self.width >= 1
            and self.height >= 1
            and self.x >= 0
            and self.y >= 0
            and self.x + self.width <= self.canvas_width
            and self.y + self.height <= self.canvas_height
        )
        if not fits:
            raise InvalidInputError(
                Text(
                    f"The original ({self.width}×{self.height} at {self.x}, {self.y}) does not lie inside the canvas "
                    f"({self.canvas_width}×{self.canvas_height}).",
                    f"原图（{self.width}×{self.height}，位于 {self.x}, {self.y}）"
                    f"超出了画布（{self.canvas_width}×{self.canvas_height}）。",
                )
            )

    @property
    def area(self) -> Area:
        """The rectangle, in an array of the canvas."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def canvas(self) -> Area:
        return slice(0, self.canvas_height), slice(0, self.canvas_width)

    @property
    def left(self) -> int:
        return self.x

    @property
    def top(self) -> int:
        return self.y

    @property
    def right(self) -> int:
        return self.canvas_width - self.x - self.width

    @property
    def bottom(self) -> int:
        return self.canvas_height - self.y - self.height

    def scaled_to(self, canvas_width: int, canvas_height: int) -> Placement:
        """The same placement on a canvas of another size; edges are rounded, not sizes, so that the sides add up."""
        if (canvas_width, canvas_height) == (self.canvas_width, self.canvas_height):
            return self
        x, width = _scaled_span(self.x, self.width, self.canvas_width, canvas_width)
        y, height = _scaled_span(self.y, self.height, self.canvas_height, canvas_height)
        return Placement(canvas_width, canvas_height, x, y, width, height)

    def followed_to(self, width: int, height: int) -> Placement:
        """The placement in a result of ``width`` × ``height`` pixels that was made from this canvas.

        If the size is off by ``ROUNDING_SLACK`` at most, the result has been rounded differently, and the rectangle
        stays as it is; else the canvas has been scaled.
        """
        off_by = max(abs(width - self.canvas_width), abs(height - self.canvas_height))
        keeps_original = self.x + self.width <= width and self.y + self.height <= height
        if off_by <= ROUNDING_SLACK and keeps_original:
            return Placement(width, height, self.x, self.y, self.width, self.height)
        return self.scaled_to(width, height)

    def within(self, max_width: int, max_height: int) -> Placement:
        """The same placement, scaled down until its canvas fits into the maximum; itself if it fits already."""
        return self.scaled_to(*fit_within(self.canvas_width, self.canvas_height, max_width, max_height))

    def native(self, width: int, height: int) -> Placement:
        """The placement scaled so that its rectangle is exactly ``width`` × ``height``; each axis has its own scale."""
        return Placement(
            round_half_up(self.canvas_width * width / self.width),
            round_half_up(self.canvas_height * height / self.height),
            round_half_up(self.x * width / self.width),
            round_half_up(self.y * height / self.height),
            width,
            height,
        )

    def fits_shape_of(self, width: int, height: int) -> bool:
        """Whether the rectangle has the shape of ``width`` × ``height``, to 1 % or as near as whole pixels come."""
        if aspect_drift(width, height, self.width, self.height) <= MAX_ASPECT_DRIFT:
            return True
        not_too_wide = (self.width - _SIDE_SLACK) * height <= (self.height + _SIDE_SLACK) * width
        not_too_high = (self.height - _SIDE_SLACK) * width <= (self.width + _SIDE_SLACK) * height
        return not_too_wide and not_too_high

    def check_shape_of(self, width: int, height: int) -> None:
        """Check that the rectangle has the shape of an image: see :meth:`fits_shape_of`.

        Raises:
            InvalidInputError: it has another shape than an image of ``width`` × ``height``.
        """
        if not self.fits_shape_of(width, height):
            raise InvalidInputError(
                Text(
                    f"The placement is for an image of another shape: its rectangle is {self.width}×{self.height}, "
                    f"the image is {width}×{height}.",
                    f"该 placement 属于另一种宽高比的图片：其矩形为 {self.width}×{self.height}，"
                    f"而图片为 {width}×{height}。",
                ),
                advice=Text("Make it from this image.", "请用这张图片重新生成 placement。"),
            )


@dataclass(frozen=True)
class Sides:
    """How far each side of an original is extended: a share of its height (top, bottom) or width (left, right)."""

    top: float
    bottom: float
    left: float
    right: float


def around(inner: Area, outer: Area) -> list[Area]:
    """The up to four areas of ``outer`` around ``inner``; above and below it they take the whole width."""
    (rows, columns), (inner_rows, inner_columns) = outer, inner
    areas = (
        (slice(rows.start, inner_rows.start), columns),
        (slice(inner_rows.stop, rows.stop), columns),
        (inner_rows, slice(columns.start, inner_columns.start)),
        (inner_rows, slice(inner_columns.stop, columns.stop)),
    )
    return [area for area in areas if all(side.start < side.stop for side in area)]


def strips(rows: slice, most: int) -> Iterator[slice]:
    """``rows`` in consecutive slices of at most ``most`` rows, so that the memory for one step stays bounded."""
    for start in range(rows.start, rows.stop, most):
        yield slice(start, min(start + most, rows.stop))


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def _scaled_span(start: int, length: int, old: int, new: int) -> tuple[int, int]:
    """Start and length of a span on an axis scaled from ``old`` to ``new`` pixels; one pixel at least."""
    begin = min(round_half_up(start * new / old), new - 1)
    end = max(round_half_up((start + length) * new / old), begin + 1)
    return begin, min(end, new) - begin


def place(
    width: int,
    height: int,
    canvas_width: int,
    canvas_height: int,
    *,
    ratio: float,
    position: Position,
    x_offset: int = 0,
    y_offset: int = 0,
) -> Placement:
    """Scale an original so that it spans ``ratio`` of the canvas on its tighter side, and put it at ``position``.

    Its shape is as near to the original's as whole pixels come: see :meth:`Placement.fits_shape_of`.

    Args:
        width, height: size of the original in pixels.
        canvas_width, canvas_height: size of the canvas in pixels.
        ratio: linear share of the canvas (0 < ratio ≤ 1); "a quarter" of a square canvas by area is 0.5.
        position: where it goes; ``"offset"`` uses ``x_offset`` and ``y_offset`` (top-left corner, canvas pixels).

    Raises:
        InvalidInputError: the original would leave the canvas.
    """
    scale = ratio * min(canvas_width / width, canvas_height / height)
    placed_width = max(1, round_half_up(width * scale))
    placed_height = max(1, round_half_up(height * scale))
    x, y = _corner(canvas_width - placed_width, canvas_height - placed_height, position, x_offset, y_offset)
    return Placement(canvas_width, canvas_height, x, y, placed_width, placed_height)


def place_in_aspect(
    width: int,
    height: int,
    aspect_width: float,
    aspect_height: float,
    *,
    ratio: float,
    position: Position,
    x_offset: int = 0,
    y_offset: int = 0,
) -> Placement:
    """Put an original, at its own size, into the canvas of an aspect ratio.

    The canvas is the smallest of that shape that holds the original, divided by ``ratio``; each side is rounded half
    up and never smaller than the original.

    Args:
        width, height: size of the original in pixels.
        aspect_width, aspect_height: the shape of the canvas, for example 16, 9 or 1.91, 1.
        ratio: linear share of the canvas that the original spans on its tighter side (0 < ratio ≤ 1).
        position: where it goes; ``"offset"`` uses ``x_offset`` and ``y_offset`` (top-left corner, pixels).

    Raises:
        InvalidInputError: the original would leave the canvas.
    """
    canvas_width = max(width, round_half_up(max(width, height * aspect_width / aspect_height) / ratio))
    canvas_height = max(height, round_half_up(max(height, width * aspect_height / aspect_width) / ratio))
    x, y = _corner(canvas_width - width, canvas_height - height, position, x_offset, y_offset)
    return Placement(canvas_width, canvas_height, x, y, width, height)


def pad(width: int, height: int, left: int, top: int, right: int, bottom: int) -> Placement:
    """The canvas that adds pixels to each side of an original.

    Raises:
        InvalidInputError: a side is negative.
    """
    return Placement(left + width + right, top + height + bottom, left, top, width, height)


def aspect_drift(width: int, height: int, placed_width: int, placed_height: int) -> float:
    """How far the aspect ratio of a placed original is off its own: 0.01 is one per cent."""
    return abs((placed_width / placed_height) / (width / height) - 1)


def _corner(free_x: int, free_y: int, position: Position, x_offset: int, y_offset: int) -> tuple[int, int]:
    """The original's top-left corner, given the pixels of the canvas that it leaves free."""
    if position == "offset":
        return x_offset, y_offset
    x = 0 if "left" in position else free_x if "right" in position else free_x // 2
    y = 0 if "top" in position else free_y if "bottom" in position else free_y // 2
    return x, y


def extend(width: int, height: int, sides: Sides) -> Placement:
    """The canvas that extends each side of an original by its share, rounded to whole pixels."""
    left, right = round_half_up(width * sides.left), round_half_up(width * sides.right)
    top, bottom = round_half_up(height * sides.top), round_half_up(height * sides.bottom)
    return pad(width, height, left, top, right, bottom)


def fit_within(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """The largest size of the same aspect ratio inside ``max_width`` × ``max_height``; never larger than given."""
    scale = min(1.0, max_width / width, max_height / height)
    return (
        min(max_width, max(1, round_half_up(width * scale))),
        min(max_height, max(1, round_half_up(height * scale))),
    )


def shrink_for_canvas(width: int, height: int, max_width: int, max_height: int, sides: Sides) -> tuple[int, int]:
    """The largest size of an original whose extended canvas stays within ``max_width`` × ``max_height``."""
    across, down = 1 + sides.left + sides.right, 1 + sides.top + sides.bottom
    scale = min(1.0, max_width / (width * across), max_height / (height * down))
    new_width, new_height = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    # The rounded sides may push the canvas a pixel over the limit.
    while new_width > 1 and new_height > 1:
        canvas = extend(new_width, new_height, sides)
        if canvas.canvas_width <= max_width and canvas.canvas_height <= max_height:
            break
        new_width, new_height = new_width - 1, max(1, round_half_up((new_width - 1) * height / width))
    return new_width, new_height


def is_three_by_four(width: int, height: int, tolerance: float) -> bool:
    """Whether ``width`` : ``height`` is 3:4 within a relative ``tolerance``."""
    return aspect_drift(3, 4, width, height) <= tolerance


def three_by_four_inside(width: int, height: int) -> Placement:
    """The centred 3:4 rectangle to keep when cropping: the image is the canvas."""
    kept_width = min(width, max(1, round_half_up(height * 3 / 4)))
    kept_height = min(height, max(1, round_half_up(width * 4 / 3)))
    return Placement(width, height, (width - kept_width) // 2, (height - kept_height) // 2, kept_width, kept_height)


def three_by_four_around(width: int, height: int) -> Placement:
    """The smallest 3:4 canvas with the image centred in it, for padding."""
    canvas_width = max(width, round_half_up(height * 3 / 4))
    canvas_height = max(height, round_half_up(width * 4 / 3))
    x, y = (canvas_width - width) // 2, (canvas_height - height) // 2
    return Placement(canvas_width, canvas_height, x, y, width, height)
