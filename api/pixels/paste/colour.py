"""A colour correction for the new area of an outpainted picture, so that it meets the original without a seam.

The difference in colour is measured in a ring just inside the seam, where both pictures show the same, and continued
outwards as a membrane that is fixed at the seam: a solution of Laplace's equation with the seam's values.

Clipped values (near 0 or 255) tell nothing about a colour cast: they are left out of the ring, and corrections neither
darken white nor lighten black.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..geometry import Area, Placement, around, strips
from ..tensors import Pixels, cut_out

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

_Floats = NDArray[np.float32]

# The largest correction of a value, of 255.
_STRONGEST = 48.0
# The membrane's grid: cells along the longer side of a canvas, and the smallest cell in pixels.
_CELLS, _MIN_CELL = 192, 8
# Depth of the ring: a share of the rectangle's shorter side, in pixels at least and at most.
_RING_SHARE, _RING_MIN, _RING_MAX = 1 / 32, 8, 48
# Values so near 0 or 255 are clipped: what would grey them is not applied, and only in part over so many values more.
_CLIPPED, _FADE = 1, 12
# If a smaller share of a part of the ring is not clipped, all its values are used, and its spread counts as so many
# times larger: it hardly counts beside its neighbours.
_ENOUGH, _DISTRUST = 1 / 16, 100.0
# Rows of a canvas worked on at once.
_ROWS = 256


@dataclass(frozen=True)
class Field:
    """An additive correction for a canvas: bilinear on a grid that has lines along the rectangle's edges.

    Attributes:
        across, down: where the grid's lines are, in pixels from the canvas' left and top.
        values: (len(down), len(across), 3), of 255.
    """

    across: _Floats
    down: _Floats
    values: _Floats

    @cached_property
    def is_zero(self) -> bool:
        return not self.values.any()

    @property
    def strongest(self) -> float:
        """The largest absolute correction, of 255."""
        return float(np.abs(self.values).max())

    @property
    def at_limit(self) -> bool:
        """Whether the correction is limited somewhere, because the colours are off by more."""
        return self.strongest >= _STRONGEST

    def applied(self, pixels: Pixels, area: Area) -> _Floats:
        """(rows, columns, 3) float32: these pixels of a canvas, corrected, 0–255, not rounded.

        White does not get darker, nor black lighter.
        """
        values: _Floats = pixels[area].astype(np.float32)
        if self.is_zero:
            return values
        correction = self.at(*area)
        headroom = np.where(correction < 0, 255 - values, values)
        correction *= np.clip((headroom - _CLIPPED) / _FADE, 0, 1)
        values += correction
        return np.clip(values, 0, 255, out=values)

    def at(self, rows: slice, columns: slice) -> _Floats:
        """(rows, columns, 3): the correction at the centres of these pixels. Both slices have a start and a stop."""
        by_row = _weights(self.down, rows)
        by_column = _weights(self.across, columns)
        lines = np.tensordot(by_row, self.values, axes=1)
        corrections = np.empty((len(by_row), len(by_column), 3), dtype=np.float32)
        for channel in range(3):
            corrections[..., channel] = lines[..., channel] @ by_column.T
        return corrections


NO_CORRECTION = Field(np.arange(2, dtype=np.float32), np.arange(2, dtype=np.float32), np.zeros((2, 2, 3), np.float32))


def _weights(lines: _Floats, pixels: slice) -> _Floats:
    """(pixels, lines): the weight of each grid line at each pixel's centre, for linear interpolation."""
    centers = np.arange(pixels.start, pixels.stop, dtype=np.float32) + 0.5
    after = np.clip(np.searchsorted(lines, centers), 1, len(lines) - 1)
    share = (centers - lines[after - 1]) / (lines[after] - lines[after - 1])
    weights = np.zeros((len(centers), len(lines)), dtype=np.float32)
    index = np.arange(len(centers))
    weights[index, after - 1] = 1 - share
    weights[index, after] = share
    return weights


def measure(generated: Pixels, original: Pixels, placement: Placement) -> Field:
    """Measure how far the colours of ``generated`` are off at the seam.

    Args:
        generated: the whole canvas of ``placement``.
        original: what belongs into its rectangle, of the rectangle's size.

    Returns:
        The correction of ``generated``; zero all over if none of it would reach half a level.
    """
    cell = max(_MIN_CELL, max(placement.canvas_width, placement.canvas_height) / _CELLS)
    across, first_column, last_column = _lines(placement.left, placement.width, placement.right, cell)
    down, first_row, last_row = _lines(placement.top, placement.height, placement.bottom, cell)
    columns, rows = slice(first_column, last_column + 1), slice(first_row, last_row + 1)
    total = np.zeros((len(down), len(across), 3), dtype=np.float32)
    count = np.zeros((len(down), len(across), 1), dtype=np.float32)
    upright = original, cut_out(generated, placement)
    turned = original.swapaxes(0, 1), upright[1].swapaxes(0, 1)
    depth = _depth(placement)
    for new, seam_line, pictures, strip, at in (
        (placement.left, (rows, first_column), upright, slice(depth), down[rows] - placement.y),
        (placement.right, (rows, last_column), upright, slice(-depth, None), down[rows] - placement.y),
        (placement.top, (first_row, columns), turned, slice(depth), across[columns] - placement.x),
        (placement.bottom, (last_row, columns), turned, slice(-depth, None), across[columns] - placement.x),
    ):
        if new:
            wanted, given = (picture[:, strip] for picture in pictures)
            total[seam_line] += _profile(wanted, given, at, cell)
            count[seam_line] += 1
    # A corner of two seams has the mean of both.
    seam = np.clip(total / np.maximum(count, np.float32(1)), -_STRONGEST, _STRONGEST)
    if np.abs(seam).max() < 0.5:
        return Field(across, down, np.zeros_like(seam))
    return Field(across, down, _membrane(across, down, seam, count[..., 0] > 0))


def corrected(pixels: Pixels, field: Field, placement: Placement, in_place: bool = False) -> Pixels:
    """The pixels around the rectangle corrected, rounded and clipped; those inside stay. A copy, or ``pixels`` itself.

    Args:
        in_place: whether ``pixels`` may be modified.
    """
    result = pixels if in_place else pixels.copy()
    if not field.is_zero:
        for rows, columns in around(placement.area, placement.canvas):
            for strip in strips(rows, _ROWS):
                result[strip, columns] = np.rint(field.applied(pixels, (strip, columns)))
    return result


def mean_offset(field: Field, placement: Placement) -> tuple[float, float, float]:
    """The mean correction of the new area: red, green, blue, of 255."""
    corners = field.values[:-1, :-1] + field.values[:-1, 1:] + field.values[1:, :-1] + field.values[1:, 1:]
    area = np.outer(np.diff(field.down), np.diff(field.across)).astype(np.float64)
    in_columns = (field.across[:-1] >= placement.x) & (field.across[1:] <= placement.x + placement.width)
    in_rows = (field.down[:-1] >= placement.y) & (field.down[1:] <= placement.y + placement.height)
    area[np.outer(in_rows, in_columns)] = 0
    total = float(area.sum())
    if total == 0:
        return 0.0, 0.0, 0.0
    red, green, blue = (corners * area[..., None]).sum(axis=(0, 1)) / 4 / total
    return float(red), float(green), float(blue)


def _lines(before: int, length: int, after: int, cell: float) -> tuple[_Floats, int, int]:
    """Positions of the grid lines of an axis, and the indices of the two that are edges of the rectangle."""
    lines = [0.0]
    ends = []
    for begin, size in ((0, before), (before, length), (before + length, after)):
        cells = int(np.ceil(size / cell))
        lines += [begin + size * (index + 1) / cells for index in range(cells)]
        ends.append(len(lines) - 1)
    return np.array(lines, dtype=np.float32), ends[0], ends[1]


# ---- the ring


def _depth(placement: Placement) -> int:
    """How many pixels the ring reaches into the rectangle."""
    shorter = min(placement.width, placement.height)
    return min(shorter, round(min(max(shorter * _RING_SHARE, _RING_MIN), _RING_MAX)))


def _profile(wanted: Pixels, given: Pixels, at: _Floats, cell: float) -> _Floats:
    """What the generated picture lacks of the original along one side of the ring, of 255, low-pass filtered.

    Args:
        wanted, given: (length, depth, 3): that side of the ring in the original and in the generated picture.
        at: where along the side it is measured, in pixels from its begin.
        cell: measured over so many pixels before and after.

    Returns:
        (len(at), 3)
    """
    missing = wanted.astype(np.float32) - given
    # NaN stands for values that are clipped in either picture.
    known = np.where(_is_clipped(wanted) | _is_clipped(given), np.float32(np.nan), missing)
    means, spreads = zip(*(_mean_and_spread(missing, known, position, cell) for position in at), strict=True)
    return _smoothed(np.array(means, dtype=np.float32), np.array(spreads, dtype=np.float32))


def _mean_and_spread(missing: _Floats, known: _Floats, position: float, cell: float) -> tuple[_Floats, _Floats]:
    """Mean without outliers and spread of each channel, in the part of a side around a position."""
    begin = max(0, min(round(position - cell), len(missing) - 1))
    part = slice(begin, max(round(position + cell), begin + 1))
    mean, spread = np.empty(3, dtype=np.float32), np.empty(3, dtype=np.float32)
    for channel in range(3):
        every_value = missing[part, :, channel].ravel()
        values = known[part, :, channel].ravel()
        values = values[~np.isnan(values)]
        if len(values) >= _ENOUGH * len(every_value):
            mean[channel], spread[channel] = _robust(values)
        else:
            # Nearly all white or black: its difference holds here, and says little about the parts beside it.
            mean[channel], spread[channel] = _robust(every_value)
            spread[channel] *= _DISTRUST
    return mean, spread


def _is_clipped(pixels: Pixels) -> NDArray[np.bool_]:
    clipped: NDArray[np.bool_] = (pixels <= _CLIPPED) | (pixels >= 255 - _CLIPPED)
    return clipped


def _robust(values: _Floats) -> tuple[float, float]:
    """Mean without outliers, and spread (from the median absolute deviation, 1 at least)."""
    off = np.abs(values - np.median(values))
    spread = max(1.0, 1.4826 * float(np.median(off)))
    return float(values[off <= 3 * spread].mean()), spread


def _smoothed(profile: _Floats, spread: _Floats) -> _Floats:
    """A profile without single outliers, low-pass filtered; where contents differ (a large spread), it counts less."""
    from scipy import ndimage

    if len(profile) > 4:
        profile = ndimage.median_filter(profile, size=(5, 1), mode="nearest")
    trust = 1 / spread**2
    weighted, weights = (
        ndimage.correlate1d(values, (1, 4, 6, 4, 1), axis=0, mode="nearest") for values in (profile * trust, trust)
    )
    smoothed: _Floats = weighted / weights
    return smoothed


# ---- the membrane


def _membrane(across: _Floats, down: _Floats, values: _Floats, fixed: NDArray[np.bool_]) -> _Floats:
    """Solve Laplace's equation on a grid of uneven cells; returns the grid's values, shaped as ``values``.

    ``values`` are held where ``fixed``; nothing flows through the outer edges.
    """
    # Imported here: loading takes 0.3 s, and most pastes match no colours.
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    laplacian = sparse.kron(sparse.diags(_halves(down)), _stiffness(across))
    laplacian += sparse.kron(_stiffness(down), sparse.diags(_halves(across)))
    held, solution = fixed.ravel(), values.reshape(-1, values.shape[-1]).astype(np.float64)
    equations = laplacian.tocsr()[~held]
    # Solved directly, whatever the picture's size: 200 × 200 grid lines at most take 0.2 s and 50 MB.
    solution[~held] = spsolve(
        equations[:, ~held].tocsc(), -equations[:, held] @ solution[held], permc_spec="MMD_AT_PLUS_A"
    )
    return solution.reshape(values.shape).astype(np.float32)


def _stiffness(lines: _Floats) -> spmatrix:
    """(lines, lines): what flows out of each grid line of an axis, per unit of its value and its neighbours'."""
    from scipy import sparse

    steps = sparse.diags([-1.0, 1.0], [0, 1], shape=(len(lines) - 1, len(lines)))
    return steps.T @ sparse.diags(1 / np.diff(lines.astype(np.float64))) @ steps


def _halves(lines: _Floats) -> NDArray[np.float64]:
    """How many pixels of an axis each grid line stands for: half of the cells beside it."""
    steps = np.diff(lines.astype(np.float64))
    halves: NDArray[np.float64] = (np.concatenate([[0.0], steps]) + np.concatenate([steps, [0.0]])) / 2
    return halves
