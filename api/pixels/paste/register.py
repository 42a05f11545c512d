"""Where the kept content really lies in a generated picture: shift and scale, measured by phase correlation.

First small copies are compared, with a search over scales, then blocks of ever larger copies, whose shifts are fitted
to a linear model. Each step cuts the blocks out anew where the model so far says they are, so that the last shifts are
near zero, where they are not biased. The result is only accepted if it explains the generated picture better than the
expected place does: soft and enlarged pictures agree about equally well at many shifts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ..tensors import Pixels
from .resample import Region, resample

_Floats = NDArray[np.float64]

# Aligned: neither the shift nor the scale moves an edge of the original by so many pixels of the generated picture.
_ALIGNED = 0.15
# The largest misplacement that is corrected: a shift in pixels or as a share of the side, and |scale − 1|.
_SMALL_PIXELS, _SMALL_SHARE, _SMALL_SCALE = 2.0, 0.02, 0.02

# Shorter sides, in pixels, are not measured.
_MIN_SIDE = 24
# Longer side of the first, smallest copies, and how much larger the copies of the next step are.
_COARSE = 256
_FINER = 4
# Scales that are tried on the smallest copies: 0.80–1.24.
_SCALES = 1.01 ** np.arange(-22, 23)
# Sides of a block in pixels of its copies, and the number of blocks along an axis.
_MIN_BLOCK, _MAX_BLOCK = 32, 256
_MAX_BLOCKS = 5
# A model is accepted if with it the pictures differ by less than this share of their difference in the expected place.
_CLEARLY_LESS = 0.99
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Registration:
    """How the kept content lies in a generated picture, about the centre of where it was expected.

    What was expected at p is found at p + shift + (scale − 1)·(p − centre).

    Attributes:
        shift_x, shift_y: pixels of the generated picture; positive is further right and further down.
        scale_x, scale_y: measured / expected; 1 is the same.
        region: where the original was expected.
    """

    shift_x: float
    shift_y: float
    scale_x: float
    scale_y: float
    region: Region

    @property
    def is_aligned(self) -> bool:
        """Whether the misplacement is too small to matter."""
        return all(
            abs(shift) < _ALIGNED and abs(scale - 1) * side / 2 < _ALIGNED for shift, scale, side in self._axes()
        )

    @property
    def is_small(self) -> bool:
        """Whether the misplacement is small enough to be corrected; a larger one is only reported."""
        return all(
            abs(shift) <= max(_SMALL_PIXELS, _SMALL_SHARE * side) and abs(scale - 1) <= _SMALL_SCALE
            for shift, scale, side in self._axes()
        )

    @property
    def is_correctable(self) -> bool:
        return self.is_small and not self.is_aligned

    @property
    def found(self) -> Region:
        """Where the original really lies in the generated picture."""
        return self.found_at(self.region)

    def found_at(self, part: Region) -> Region:
        """Where what was expected at ``part`` really lies."""
        center_x, center_y = self.region.center
        return Region(
            part.x + self.shift_x + (self.scale_x - 1) * (part.x - center_x),
            part.y + self.shift_y + (self.scale_y - 1) * (part.y - center_y),
            part.width * self.scale_x,
            part.height * self.scale_y,
        )

    def _axes(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return (self.shift_x, self.scale_x, self.region.width), (self.shift_y, self.scale_y, self.region.height)


def measure(generated: Pixels, original: Pixels, region: Region) -> Registration | None:
    """Measure where the original really lies in ``generated``.

    Args:
        generated: the whole generated picture.
        original: the original, at any size.
        region: where the original should lie in ``generated``.

    Returns:
        Shift and scale against ``region``; ``None`` if they cannot be measured: flat or tiny pictures, stripes, or
        pictures of different things.
    """
    if min(region.width, region.height, *original.shape[:2]) < _MIN_SIDE:
        return None
    # No step is finer than the pixels of either picture.
    finest = max(1.0, region.width / original.shape[1], region.height / original.shape[0])
    step = max(finest, max(region.width, region.height) / _COARSE)
    level = _Level.of(generated, original, region, step)
    model = _at_best_scale(level)
    while True:
        for _ in range(2):
            model = model and _refined(level, model)
        if model is None:
            return None
        if step == finest:
            return _accepted(level, _jointly_fitted(level, model))
        step = max(finest, step / _FINER)
        level = _Level.of(generated, original, region, step)


@dataclass(frozen=True)
class _Level:
    """Both pictures, reduced, to cut out blocks of a common scale.

    Attributes:
        generated, original: copies of the pictures, not larger than needed.
        generated_step, original_step: pixels of the full generated picture per pixel of these copies, across and down.
        step: pixels of the full generated picture per pixel of a block.
        region: where the original was expected, in pixels of the full generated picture.
    """

    generated: Pixels
    original: Pixels
    generated_step: tuple[float, float]
    original_step: tuple[float, float]
    step: float
    region: Region

    @classmethod
    def of(cls, generated: Pixels, original: Pixels, region: Region, step: float) -> _Level:
        small_generated = _reduced(generated, (step, step))
        own = region.width / original.shape[1], region.height / original.shape[0]
        small_original = _reduced(original, (step / own[0], step / own[1]))
        return cls(
            small_generated,
            small_original,
            (generated.shape[1] / small_generated.shape[1], generated.shape[0] / small_generated.shape[0]),
            (region.width / small_original.shape[1], region.height / small_original.shape[0]),
            step,
            region,
        )

    def expected(self, part: Region, width: int, height: int) -> _Floats:
        """(height, width): luma that the original has at ``part``, which is in pixels of the full generated picture."""
        own = Region(part.x - self.region.x, part.y - self.region.y, part.width, part.height)
        return _luma(self.original, own, self.original_step, width, height)

    def found(self, part: Region, model: Registration, width: int, height: int) -> _Floats:
        """(height, width): luma of the generated picture where ``model`` says that ``part`` of the original lies."""
        return _luma(self.generated, model.found_at(part), self.generated_step, width, height)


def _reduced(pixels: Pixels, factors: tuple[float, float]) -> Pixels:
    """A copy reduced by ``factors`` (across, down), because many blocks are cut out of it.

    ``pixels`` itself if one factor is below 2.
    """
    if min(factors) < 2:
        return pixels
    height, width = pixels.shape[:2]
    target = max(1, math.ceil(width / factors[0])), max(1, math.ceil(height / factors[1]))
    return resample(pixels, Region(0, 0, width, height), *target)


def _luma(pixels: Pixels, box: Region, step: tuple[float, float], width: int, height: int) -> _Floats:
    own = Region(box.x / step[0], box.y / step[1], box.width / step[0], box.height / step[1])
    luma: _Floats = resample(pixels, own, width, height) @ _LUMA
    return luma


def _at_best_scale(level: _Level) -> Registration | None:
    """The scale at which the pictures as a whole agree best, and the shift there; ``None`` if they agree at none."""
    region = level.region
    width, height = round(region.width / level.step), round(region.height / level.step)
    best: Registration | None = None
    coherence = 0.0
    expected = level.expected(region, width, height)
    for scale in _SCALES:
        tried = Registration(0.0, 0.0, float(scale), float(scale), region)
        shift = _shift_between(expected, level.found(region, tried, width, height))
        if shift is not None and shift.coherence > coherence:
            coherence = shift.coherence
            best = _changed(tried, shift.x * level.step, shift.y * level.step, 0.0, 0.0)
    return best


def _changed(model: Registration, x: float, y: float, stretch_x: float, stretch_y: float) -> Registration:
    """``model`` with a remaining shift, in pixels of the full generated picture, and stretch (scale − 1) added."""
    return Registration(
        model.shift_x + x * model.scale_x,
        model.shift_y + y * model.scale_y,
        model.scale_x * (1 + stretch_x),
        model.scale_y * (1 + stretch_y),
        model.region,
    )


@dataclass(frozen=True)
class _Block:
    """Luma of one part of both pictures. ``x`` and ``y``: its middle from the region's centre, in pixels of a block."""

    x: float
    y: float
    expected: _Floats
    found: _Floats

    @cached_property
    def shift(self) -> _Shift | None:
        """How far the found part is moved against the expected one."""
        return _shift_between(self.expected, self.found)

    @property
    def agrees(self) -> bool:
        """Whether the pictures agree here. They do not where a watermark or newly generated content lies."""
        return self.shift is not None and math.hypot(self.shift.x, self.shift.y) < 1.0


def _blocks(level: _Level, model: Registration) -> list[_Block]:
    """Blocks all over the region, all of one size; those of the generated picture are cut out where ``model`` says."""
    region, step = level.region, level.step
    across, down = region.width / step, region.height / step
    side = min(max(min(across, down) / 3, _MIN_BLOCK), _MAX_BLOCK)
    width, height = (2 * round(min(side, length) / 2) for length in (across, down))
    blocks = []
    for y in _starts(down, height):
        for x in _starts(across, width):
            part = Region(region.x + x * step, region.y + y * step, width * step, height * step)
            blocks.append(
                _Block(
                    x + width / 2 - across / 2,
                    y + height / 2 - down / 2,
                    level.expected(part, width, height),
                    level.found(part, model, width, height),
                )
            )
    return blocks


def _starts(length: float, block: int) -> Iterator[float]:
    """Where blocks of an axis begin: evenly spread, overlapping by half at most."""
    free = length - block
    count = min(_MAX_BLOCKS, 1 + math.floor(max(0.0, free) / (block / 2)))
    for index in range(count):
        yield free * (index / (count - 1) if count > 1 else 0.5)


def _refined(level: _Level, model: Registration) -> Registration | None:
    """``model`` corrected by the shifts that remain in the blocks; ``None`` if there are none, or they contradict."""
    found = [(block, shift) for block in _blocks(level, model) if (shift := block.shift) is not None]
    fitted_x = _fit([(block.x, shift.x, shift.coherence) for block, shift in found], level.region.width / level.step)
    fitted_y = _fit([(block.y, shift.y, shift.coherence) for block, shift in found], level.region.height / level.step)
    if fitted_x is None or fitted_y is None:
        return None
    return _changed(model, fitted_x[0] * level.step, fitted_y[0] * level.step, fitted_x[1], fitted_y[1])


def _fit(samples: list[tuple[float, float, float]], length: float) -> tuple[float, float] | None:
    """Shift and stretch of one axis, fitted to the shifts of blocks without outliers (by Tukey's biweight).

    Args:
        samples: position (from the region's centre), shift and weight of each block, in pixels of a block.
        length: of the region, in the same pixels.

    Returns:
        (shift, stretch); the stretch is 0 if the blocks are too few or too near each other. ``None`` if there is no
        sample, or if most of them contradict each other.
    """
    if not samples:
        return None
    position, shift, weight = np.array(samples).T
    has_stretch = len(samples) >= 3 and float(np.ptp(position)) >= 0.3 * length
    terms = np.vander(position, 2 if has_stretch else 1, increasing=True)
    residual = shift - _weighted_median(shift, weight)
    for _ in range(10):
        width = max(0.1, 3 * 1.4826 * float(np.median(np.abs(residual))))
        trust = weight * np.maximum(0.0, 1 - (residual / width) ** 2) ** 2
        if np.count_nonzero(trust) < terms.shape[1]:
            return None
        root = np.sqrt(trust)
        fitted = np.linalg.lstsq(terms * root[:, None], shift * root, rcond=None)[0]
        residual = shift - terms @ fitted
    if float(np.median(np.abs(residual))) > 1.0:
        return None
    return float(fitted[0]), float(fitted[1]) if has_stretch else 0.0


def _weighted_median(values: _Floats, weights: _Floats) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


# ---- phase correlation of two blocks

# Noise of a picture that went through a model or a JPEG, in levels of 255: weaker frequencies are not trusted.
_NOISE = 1.0
# Frequencies that count. Above (cycles per pixel), resampling and models leave little; below (waves per block), the
# window's own spectrum is in the way.
_HIGHEST, _SOFTNESS = 0.3, 0.05
_LOWEST_WAVES = 1.5
# The least coherence of a shift that is accepted, also as a multiple of 1 / √(number of frequencies), which is chance.
_MIN_COHERENCE, _SIGNIFICANCE = 0.2, 5.0
# The least detail in any direction, in waves per block.
_MIN_WAVES = 1.5
# Rings of about equal frequency; all frequencies of a ring get the same weight.
_RINGS = 24


@dataclass(frozen=True)
class _Shift:
    """Pixels by which a block's content lies further right and down; how well the frequencies agree on that, 0–1."""

    x: float
    y: float
    coherence: float


@dataclass(frozen=True)
class _Spectrum:
    """What all blocks of one size share.

    Attributes:
        window: (height, width) weights that fade out the edges of a block.
        across, down: frequencies in cycles per pixel.
        counts: (1, columns): 2 for columns of the half spectrum that stand for their conjugates, too; else 1.
        passed: how much each frequency of the half spectrum counts.
        noise: expected power of the noise at each frequency.
    """

    window: _Floats
    across: _Floats
    down: _Floats
    counts: _Floats
    passed: _Floats
    noise: float


@lru_cache(maxsize=8)
def _spectrum(height: int, width: int) -> _Spectrum:
    window = np.outer(_hann(height), _hann(width))
    across: _Floats = np.fft.rfftfreq(width)[None, :].astype(np.float64)
    down: _Floats = np.fft.fftfreq(height)[:, None].astype(np.float64)
    frequency = np.hypot(across, down)
    passed = 1 / (1 + np.exp((frequency - _HIGHEST) / _SOFTNESS))
    passed[np.hypot(across * width, down * height) < _LOWEST_WAVES] = 0.0
    counts = np.ones((1, width // 2 + 1))
    counts[:, 1 : (width + 1) // 2] = 2
    return _Spectrum(window, across, down, counts, passed * counts, _NOISE**2 * float((window**2).sum()))


def _hann(length: int) -> _Floats:
    curve: _Floats = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)
    return curve


def _shift_between(expected: _Floats, found: _Floats) -> _Shift | None:
    """How far ``found`` is moved against ``expected``; ``None`` if there is too little detail, or none in common."""
    height, width = expected.shape
    common = _spectrum(height, width)
    cross = _transformed(found, common) * np.conj(_transformed(expected, common))
    # Phase only: magnitudes are divided out, except where they are not above the noise.
    share = common.passed / (np.abs(cross) + common.noise)
    weighted = cross * share
    weights = np.abs(weighted)
    total = float(weights.sum())
    if total < 1e-9:
        return None
    surface = np.fft.irfft2(weighted / common.counts, s=(height, width))
    peak_y, peak_x = divmod(int(surface.argmax()), width)
    start = (peak_x + width // 2) % width - width // 2, (peak_y + height // 2) % height - height // 2
    peak = _subpixel_peak(weighted, common, start)
    if peak is None:
        return None
    x, y, value = peak
    coherence = value / total
    independent = total**2 / float((weights**2).sum())
    if coherence < max(_MIN_COHERENCE, _SIGNIFICANCE / math.sqrt(independent)):
        return None
    return _Shift(x, y, coherence) if _has_detail_both_ways(weights, common, width, height) else None


def _transformed(luma: _Floats, common: _Spectrum) -> NDArray[np.complex128]:
    mean = (luma * common.window).sum() / common.window.sum()
    return np.fft.rfft2((luma - mean) * common.window)


def _subpixel_peak(
    weighted: NDArray[np.complex128], common: _Spectrum, start: tuple[int, int]
) -> tuple[float, float, float] | None:
    """The peak of a correlation at sub-pixel precision, as (x, y, height), by Newton's method from whole pixels.

    ``None`` if there is no peak within 1.5 pixels of ``start``.
    """
    x, y = float(start[0]), float(start[1])
    for _ in range(12):
        gradient, hessian = _derivatives(weighted, common, x, y)
        if hessian[0, 0] >= 0 or np.linalg.det(hessian) <= 0:
            return None
        move = -np.linalg.solve(hessian, gradient)
        x, y = x + float(np.clip(move[0], -0.5, 0.5)), y + float(np.clip(move[1], -0.5, 0.5))
        if np.abs(move).max() < 1e-4:
            break
    if math.hypot(x - start[0], y - start[1]) > 1.5:
        return None
    return x, y, float((weighted * _phase_factors(common, x, y)).real.sum())


def _phase_factors(common: _Spectrum, x: float, y: float) -> NDArray[np.complex128]:
    """The phase factors that move a picture left by ``x`` and up by ``y`` pixels."""
    factors: NDArray[np.complex128] = np.exp(2j * np.pi * (common.across * x + common.down * y))
    return factors


def _derivatives(weighted: NDArray[np.complex128], common: _Spectrum, x: float, y: float) -> tuple[_Floats, _Floats]:
    """Gradient (2,) and Hessian (2, 2) of a correlation at x, y."""
    turned = weighted * _phase_factors(common, x, y)
    omega_x, omega_y = 2 * np.pi * common.across, 2 * np.pi * common.down
    gradient = np.array([-(turned.imag * omega_x).sum(), -(turned.imag * omega_y).sum()])
    mixed = -(turned.real * omega_x * omega_y).sum()
    return gradient, np.array([[-(turned.real * omega_x**2).sum(), mixed], [mixed, -(turned.real * omega_y**2).sum()]])


def _has_detail_both_ways(weights: _Floats, common: _Spectrum, width: int, height: int) -> bool:
    """Whether there is detail in every direction: along a straight edge or stripe a shift does not show."""
    across, down = common.across * width, common.down * height
    cross_term = (weights * across * down).sum()
    moments = np.array([[(weights * across**2).sum(), cross_term], [cross_term, (weights * down**2).sum()]])
    return bool(np.sqrt(np.linalg.eigvalsh(moments / weights.sum())[0]) >= _MIN_WAVES)


# ---- the model against the expected place


def _accepted(level: _Level, model: Registration) -> Registration | None:
    """``model`` if the pictures agree clearly better with it than in the expected place.

    Else a small misplacement counts as none (the expected place is returned), and a large one as a wrong measurement
    (``None``).
    """
    if model.is_aligned:
        return model
    in_place = Registration(0.0, 0.0, 1.0, 1.0, level.region)
    pairs = [
        (expected, moved)
        for expected, moved in zip(_blocks(level, in_place), _blocks(level, model), strict=True)
        if moved.agrees
    ]
    if sum(_difference(moved) for _, moved in pairs) < _CLEARLY_LESS * sum(_difference(block) for block, _ in pairs):
        return model
    return in_place if model.is_small else None


def _difference(block: _Block) -> float:
    """How much the pictures differ in a block, as a power; their means and the finest grain do not count."""
    common = _spectrum(*block.expected.shape)
    return float((np.abs(_transformed(block.found - block.expected, common)) ** 2 * common.passed).sum())


# ---- all blocks at once


def _jointly_fitted(level: _Level, model: Registration) -> Registration:
    """``model`` moved to where the correlations of all blocks together are highest.

    Frequencies are weighed by their signal-to-noise ratio, which can be estimated once the blocks lie upon each other.
    On noisy pictures this is far more exact than one peak for each block.
    """
    for _ in range(2):
        blocks = [block for block in _blocks(level, model) if block.agrees]
        remaining = _remaining(blocks) if blocks else None
        if remaining is None:
            break
        model = _changed(model, remaining[0] * level.step, remaining[1] * level.step, remaining[2], remaining[3])
    return model


def _remaining(blocks: list[_Block]) -> tuple[float, float, float, float] | None:
    """What remains to be corrected: shift in x and y, in pixels of a block, and stretch in x and y.

    ``None`` if that is uncertain, or moves a block by a pixel or more.
    """
    common = _spectrum(*blocks[0].expected.shape)
    expected = np.stack([_transformed(block.expected, common) for block in blocks])
    found = np.stack([_transformed(block.found, common) for block in blocks])
    cross = found * np.conj(expected)
    weighted = cross * _signal_to_noise(cross.real, np.abs(expected) ** 2, np.abs(found) ** 2, common)
    # Shift x, shift y, stretch x, stretch y. A stretch is only known along an axis with blocks at different positions.
    differs = [bool(np.ptp([block.x for block in blocks])), bool(np.ptp([block.y for block in blocks]))]
    known = np.array([True, True, *differs])
    remaining = np.zeros(4)
    for _ in range(4):
        gradient, hessian = np.zeros(4), np.zeros((4, 4))
        for block, spectrum in zip(blocks, weighted, strict=True):
            moves = np.array([[1, 0, block.x, 0], [0, 1, 0, block.y]])
            x, y = moves @ remaining
            derivatives = _derivatives(spectrum, common, x, y)
            gradient += moves.T @ derivatives[0]
            hessian += moves.T @ derivatives[1] @ moves
        # Only near a peak, where the Hessian is negative definite, does Newton's method lead to it.
        curvature = -hessian[np.ix_(known, known)]
        if np.linalg.eigvalsh(curvature)[0] <= 0:
            return None
        remaining[known] += np.linalg.solve(curvature, gradient[known])
    farthest = max(
        math.hypot(remaining[0] + remaining[2] * block.x, remaining[1] + remaining[3] * block.y) for block in blocks
    )
    if farthest >= 1.0:
        return None
    x, y, stretch_x, stretch_y = remaining.tolist()
    return x, y, stretch_x, stretch_y


def _signal_to_noise(common_power: _Floats, expected: _Floats, found: _Floats, common: _Spectrum) -> _Floats:
    """Weight of each frequency: what the pictures have in common in its ring, against what they have not."""
    ring = np.minimum((np.hypot(common.across, common.down) * 2 * _RINGS).astype(int), _RINGS - 1)

    def by_ring(power: _Floats) -> _Floats:
        return np.bincount(ring.ravel(), (power.sum(axis=0) * common.passed).ravel(), minlength=_RINGS).astype(float)

    shared = np.maximum(by_ring(common_power), 0.0)
    coherence = np.minimum(shared**2 / np.maximum(by_ring(expected) * by_ring(found), 1e-30), 0.999)
    weights = coherence / (1 - coherence) / np.maximum(shared, 1e-30)
    weighed: _Floats = weights[ring] * common.passed
    return weighed
