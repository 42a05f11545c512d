"""The original's own pixels back on a generated picture of any size.

The generated picture is resampled once, so that what it shows of the original lies exactly where the original's pixels
go; if it lies there already, it is not resampled. The original never moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...core import InvalidInputError, OutputSize, PasteMode, Text
from ..geometry import MAX_ASPECT_DRIFT, ROUNDING_SLACK, Area, Placement, around, round_half_up, strips
from ..tensors import Pixels, cut_out, mask_around
from . import colour, register
from .colour import Field
from .locate import likely_regions, painted_region
from .register import Registration
from .resample import TINY, Region, resample

# Rows worked on in floats at once.
_ROWS = 256


@dataclass(frozen=True)
class Settings:
    """How the original is put back.

    Attributes:
        mode: ``exact`` keeps every pixel of the original; ``blend`` fades it into the generated picture at the seam.
        blend_pixels: how far the fade reaches from the seam inwards, in pixels of the output.
        output_size: ``native`` gives the original its own size, ``generated`` keeps the generated picture's size,
            ``factor`` is a multiple of the native size.
        factor: that multiple.
        match_color: correct the colours of the new area, so that they meet the original's.
        correct: move and scale the generated picture if a small misplacement of it was measured.
    """

    mode: PasteMode = "exact"
    blend_pixels: int = 16
    output_size: OutputSize = "native"
    factor: float = 1.0
    match_color: bool = False
    correct: bool = False

    @property
    def fade(self) -> int:
        """How far the original fades, in pixels of the output."""
        return self.blend_pixels if self.mode == "blend" else 0


@dataclass(frozen=True)
class Difference:
    """Absolute difference of two pictures over all channels, of 255."""

    max: int
    mean: float


@dataclass(frozen=True)
class Report:
    """What :func:`paste_back` measured and did.

    Attributes:
        placement: where the original lies in the output.
        before: the generated picture, brought to the output's size (and moved, if corrected), against the original in
            the kept area.
        after: the output against the original there.
        registration: shift and scale of the generated picture; ``None`` if they could not be measured.
        corrected: whether the generated picture was moved and scaled to undo them.
        color_offset: mean correction of the new area (red, green, blue, of 255); ``None`` if none was asked for.
        color_at_limit: whether the colours are off by more than is corrected.
        original_resized, generated_resized: whether that picture had to be resampled.
        faded_all_over: whether `blend` left no pixel of the original as it was.
    """

    placement: Placement
    before: Difference
    after: Difference
    registration: Registration | None
    corrected: bool
    color_offset: tuple[float, float, float] | None
    color_at_limit: bool
    original_resized: bool
    generated_resized: bool
    faded_all_over: bool

    def lines(self) -> list[Text]:
        """The whole report for the user, a sentence each."""
        place = self.placement
        lines = [
            Text(
                f"Output: {place.canvas_width}×{place.canvas_height}; the original is at {place.x}, {place.y} with "
                f"{place.width}×{place.height}.",
                f"输出：{place.canvas_width}×{place.canvas_height}；原图位于 {place.x}, {place.y}，"
                f"尺寸 {place.width}×{place.height}。",
            ),
            _resampling(self.original_resized, self.generated_resized),
            self._differences(),
            *([_FADED_ALL_OVER] if self.faded_all_over else []),
        ]
        if self.registration is not None:
            lines.append(_measured(self.registration))
        lines.append(self._alignment())
        if self.color_offset is not None:
            lines.append(_color(self.color_offset))
        if self.color_at_limit:
            lines.append(_COLOR_AT_LIMIT)
        return lines

    def summary(self) -> list[Text]:
        """The sentences that a user must see: the differences, and what is wrong."""
        notes = [self._differences()]
        if self.faded_all_over:
            notes.append(_FADED_ALL_OVER)
        if self.color_at_limit:
            notes.append(_COLOR_AT_LIMIT)
        if self.registration is None or not self.registration.is_aligned:
            notes.append(self._alignment())
        return notes

    def _differences(self) -> Text:
        before, after = self.before, self.after
        after_en, after_zh = "0", "为 0"
        if after.max > 0:
            after_en = f"at most {after.max}, on average {_decimal(after.mean)}"
            after_zh = f"最大 {after.max}，平均 {_decimal(after.mean)}"
        return Text(
            f"The kept area differed by at most {before.max}, on average {_decimal(before.mean)} of 255 before; "
            f"{after_en} after.",
            f"保留区域与原图相差：贴回前最大 {before.max}，平均 {_decimal(before.mean)}（以 255 为满值）；"
            f"贴回后{after_zh}。",
        )

    def _alignment(self) -> Text:
        found = self.registration
        if found is None:
            return Text(
                "Shift and scale could not be measured: the kept area has too little detail, or shows something else "
                "than the original.",
                "无法测量偏移与缩放：保留区域细节过少，或其内容与原图不同。",
            )
        if found.is_aligned:
            return Text("The kept content lies where the placement says.", "保留内容与 placement 所示位置一致。")
        off = f"{_signed(found.shift_x)}, {_signed(found.shift_y)} px, ×{found.scale_x:.4f}, ×{found.scale_y:.4f}"
        if self.corrected:
            return Text(
                f"The generated picture was out of place ({off}) and has been moved.",
                f"生成图存在错位（{off}），已校正。",
            )
        if found.is_small:
            return Text(
                f"The generated picture is out of place ({off}); set `registration` to `correct` to move it.",
                f"生成图存在错位（{off}）；将 `registration` 设为 `correct` 即可校正。",
            )
        return Text(
            f"The generated picture is far out of place ({off}): too far to be corrected. "
            "Check that generated, original and placement belong together.",
            f"生成图错位过大（{off}），不予校正。请确认生成图、原图与 placement 相互对应。",
        )


@dataclass(frozen=True)
class Pasted:
    """The result of :func:`paste_back`.

    Attributes:
        pixels: the output.
        mask: (H, W) float32: 1 where pixels are new, 0 where they are the original's, in between where they are mixed.
        placement: where the original lies in the output.
        exact: the rectangle of the output whose pixels are the original's own; its offset in ``placement``'s rectangle
            is its offset in the original. ``None`` if there is none: the original was resized, or faded all over.
        identity: whether all pixels around ``placement``'s rectangle are the generated picture's own, unchanged.
        report: what was found and done.
    """

    pixels: Pixels = field(repr=False)
    mask: NDArray[np.float32] = field(repr=False)
    placement: Placement
    exact: Placement | None
    identity: bool
    report: Report


def output_placement(
    placement: Placement,
    original: tuple[int, int],
    generated: tuple[int, int],
    settings: Settings,
    painted: Region | None = None,
) -> Placement:
    """The output's size, and where the original lies in it.

    Args:
        original, generated: (width, height).
        painted: where the original lies in the generated picture, if that has been measured; else the most likely
            region for that size is taken.

    Raises:
        InvalidInputError: the placement has another shape than the original or the generated picture.
    """
    _check_shapes(placement, original, generated)
    if settings.output_size == "generated":
        return _whole_pixels(painted or likely_regions(placement, *generated)[0], *generated)
    native = placement.native(*original)
    if settings.output_size == "native":
        return native
    return native.scaled_to(
        max(1, round_half_up(native.canvas_width * settings.factor)),
        max(1, round_half_up(native.canvas_height * settings.factor)),
    )


def paste_back(
    generated: Pixels,
    original: Pixels,
    placement: Placement,
    settings: Settings,
    painted: Region | None = None,
) -> Pasted:
    """Put the original's own pixels on the generated picture; neither array is modified.

    Args:
        generated: the outpainted picture, at any scale.
        original: what it was made from, at its own size.
        placement: where the original lies in the canvas that was generated.
        painted: where it lies in ``generated``, if that has been measured already.

    Raises:
        InvalidInputError: the placement has another shape than one of the pictures.
    """
    generated_size, original_size = _size_of(generated), _size_of(original)
    _check_shapes(placement, original_size, generated_size)
    expected = painted or painted_region(generated, original, placement)
    output = output_placement(placement, original_size, generated_size, settings, expected)
    found = register.measure(generated, original, expected)

    # What the output shows at `target` is what the generated picture shows at `source`.
    target = expected if settings.output_size == "generated" else Region.of(output)
    source = found.found if settings.correct and found is not None and found.is_correctable else expected
    whole = Region(0, 0, output.canvas_width, output.canvas_height)
    canvas = resample(generated, _mapped(target, source, whole), output.canvas_width, output.canvas_height)
    kept_box = _mapped(target, Region(0, 0, *original_size), Region.of(output))
    kept = resample(original, kept_box, output.width, output.height)
    before = _difference(cut_out(canvas, output), kept)

    correction = colour.measure(canvas, kept, output) if settings.match_color else colour.NO_CORRECTION
    fade = _Fade(output, settings.fade)
    # A fade still reads the uncorrected canvas; a canvas that is not resampled is the caller's own array.
    pixels = colour.corrected(canvas, correction, output, in_place=fade.pixels == 0 and canvas is not generated)
    cut_out(pixels, output)[...] = kept
    fade.mix(pixels, canvas, correction)
    report = Report(
        placement=output,
        before=before,
        after=_difference(cut_out(pixels, output), kept),
        registration=found,
        corrected=source is not expected,
        color_offset=colour.mean_offset(correction, output) if settings.match_color else None,
        color_at_limit=correction.at_limit,
        original_resized=kept is not original,
        generated_resized=canvas is not generated,
        faded_all_over=fade.untouched() is None,
    )
    return Pasted(
        pixels=pixels,
        mask=fade.mask(),
        placement=output,
        exact=None if report.original_resized else fade.untouched(),
        identity=canvas is generated and correction.is_zero,
        report=report,
    )


def _size_of(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _check_shapes(placement: Placement, original: tuple[int, int], generated: tuple[int, int]) -> None:
    """Check that both pictures, given as (width, height), can belong to the placement.

    Raises:
        InvalidInputError: the placement has another shape than one of the pictures.
    """
    if not placement.fits_shape_of(*original):
        raise InvalidInputError(
            Text(
                f"The placement is for an original of another shape: its rectangle is "
                f"{placement.width}×{placement.height}, the original is {original[0]}×{original[1]}.",
                f"该 placement 属于另一种宽高比的原图：其矩形为 {placement.width}×{placement.height}，"
                f"而原图为 {original[0]}×{original[1]}。",
            ),
            advice=Text(
                "Connect Outpaint Placement's placement: the one of a node that was given a feathered mask leaves the "
                "feathered rim out.",
                "请连接「扩图布局」输出的 placement：若节点使用了羽化遮罩，其输出的 placement 不含羽化边缘。",
            ),
        )
    width, height = generated
    across, down = width / placement.canvas_width, height / placement.canvas_height
    drift = abs(across / down - 1)
    # Pixels that the size is off: of the canvas as it is, or scaled by the factor of its height or of its width.
    off_by = min(
        max(abs(width - placement.canvas_width), abs(height - placement.canvas_height)),
        abs(width - placement.canvas_width * down),
        abs(height - placement.canvas_height * across),
    )
    if drift > MAX_ASPECT_DRIFT and off_by > ROUNDING_SLACK:
        raise InvalidInputError(
            Text(
                f"The placement is for a picture of another shape: its canvas is "
                f"{placement.canvas_width}×{placement.canvas_height}, the generated picture is {width}×{height}.",
                f"该 placement 属于另一种宽高比的图片：其画布为 {placement.canvas_width}×{placement.canvas_height}，"
                f"而生成图为 {width}×{height}。",
            ),
            advice=Text(
                "Connect the placement that the picture was made with, and do not crop it.",
                "请连接生成该图片所用的 placement，且不要裁剪图片。",
            ),
        )


def _whole_pixels(region: Region, width: int, height: int) -> Placement:
    """The pixels that lie wholly inside a region; one at least."""
    x, across = _whole_span(region.x, region.width, width)
    y, down = _whole_span(region.y, region.height, height)
    return Placement(width, height, x, y, across, down)


def _whole_span(start: float, length: float, size: int) -> tuple[int, int]:
    begin = min(math.ceil(start - TINY), size - 1)
    end = min(max(math.floor(start + length + TINY), begin + 1), size)
    return begin, end - begin


def _mapped(target: Region, source: Region, part: Region) -> Region:
    """``part``, a region of the output, in the picture whose region ``source`` is shown at ``target`` in the output."""
    across, down = source.width / target.width, source.height / target.height
    return Region(
        source.x + (part.x - target.x) * across,
        source.y + (part.y - target.y) * down,
        part.width * across,
        part.height * down,
    )


def _difference(one: Pixels, other: Pixels) -> Difference:
    largest, total = 0, 0
    for rows in strips(slice(0, len(one)), _ROWS):
        off = np.abs(one[rows].astype(np.int16) - other[rows])
        largest = max(largest, int(off.max()))
        total += int(off.sum(dtype=np.int64))
    return Difference(largest, total / one.size)


@dataclass(frozen=True)
class _Fade:
    """How the original fades into the generated picture: over ``pixels`` from each side that has new pixels."""

    placement: Placement
    pixels: int

    def untouched(self) -> Placement | None:
        """The rectangle in which the original has not begun to fade; ``None`` if it fades all over."""
        place = self.placement
        left, right = (self.pixels if new else 0 for new in (place.left, place.right))
        top, bottom = (self.pixels if new else 0 for new in (place.top, place.bottom))
        width, height = place.width - left - right, place.height - top - bottom
        if width <= 0 or height <= 0:
            return None
        return Placement(place.canvas_width, place.canvas_height, place.x + left, place.y + top, width, height)

    def mask(self) -> NDArray[np.float32]:
        """(H, W) of the canvas: 1 where pixels are new, 0 where they are the original's, in between where mixed."""
        mask = mask_around(self.placement, np.float32(1))
        for rows, columns in self._bands():
            mask[rows, columns] = 1.0 - self._share(rows, columns)
        return mask

    def mix(self, pixels: Pixels, generated: Pixels, correction: Field) -> None:
        """Mix the generated picture, corrected, into ``pixels``, which hold the original."""
        for area in self._bands():
            share = self._share(*area)[..., None]
            mixed = pixels[area] * share + correction.applied(generated, area) * (1 - share)
            pixels[area] = np.rint(mixed).astype(np.uint8)

    def _bands(self) -> Iterator[Area]:
        """The pixels that are mixed, in bands of a bounded height."""
        inner, outer = self.untouched(), self.placement.area
        for rows, columns in [outer] if inner is None else around(inner.area, outer):
            for band in strips(rows, _ROWS):
                yield band, columns

    def _share(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """(rows, columns): the original's share, 0–1, at these canvas pixels, all inside its rectangle."""
        place = self.placement
        row = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5)
        column = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + np.float32(0.5)
        depth = np.full((row.shape[0], column.shape[1]), self.pixels, dtype=np.float32)
        for new, inwards in (
            (place.top, row - place.y),
            (place.bottom, place.y + place.height - row),
            (place.left, column - place.x),
            (place.right, place.x + place.width - column),
        ):
            if new:
                np.minimum(depth, inwards, out=depth)
        depth /= np.float32(self.pixels)
        return depth


# ---- words

_FADED_ALL_OVER = Text(
    "No pixel of the original is as it was: the fade reaches across it. Lower `blend_pixels`.",
    "渐变覆盖了整张原图，没有像素保持原样。请减小 `blend_pixels`。",
)
_COLOR_AT_LIMIT = Text(
    "The colours are off by more than is corrected (48 of 255): a seam may show.",
    "颜色偏差超过可校正的上限（48，以 255 为满值）：可能看得出接缝。",
)


def _decimal(value: float) -> str:
    """With one decimal; a difference above 0 is never shown as 0."""
    if value == 0:
        return "0"
    return f"{value:.1f}" if value >= 0.05 else "< 0.1"


def _signed(value: float, decimals: int = 2) -> str:
    # Never "-0.00".
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def _resampling(original: bool, generated: bool) -> Text:
    of_original = Text("was resampled once", "重采样一次") if original else Text("has its own pixels", "保持原有像素")
    of_generated = Text("was resampled once", "重采样一次") if generated else Text("was not resampled", "未重采样")
    return Text(
        f"The original {of_original.en}; the generated picture {of_generated.en}.",
        f"原图{of_original.zh}；生成图{of_generated.zh}。",
    )


def _measured(found: Registration) -> Text:
    shift = f"{_signed(found.shift_x)}, {_signed(found.shift_y)} px"
    scale = f"{found.scale_x:.4f} × {found.scale_y:.4f}"
    return Text(
        f"Measured in the generated picture: shift {shift} (right, down), scale {scale}.",
        f"生成图实测：偏移 {shift}（右、下为正），缩放 {scale}。",
    )


def _color(offset: tuple[float, float, float]) -> Text:
    values = ", ".join(_signed(value, 1) for value in offset)
    return Text(
        f"Colours of the new area corrected by {values} of 255 on average (red, green, blue).",
        f"新区域颜色平均校正 {values}（以 255 为满值；依次为红、绿、蓝）。",
    )
