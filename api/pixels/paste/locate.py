"""Where the original lies in a generated picture of any size.

A placement holds at any scale, but the original was put on whole pixels at one scale: a node that generated a smaller
canvas used whole pixels of that, an upscaler multiplied them, and a plain resize leaves fractions. Comparing the
picture with the original tells which it was.
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import ROUNDING_SLACK, Placement
from ..tensors import Pixels
from .resample import TINY, Region, resample

# Factors by which services and local models enlarge a generated ("painted") canvas.
_UPSCALES = (1, 2, 4)
# Longest side of the copies that are compared: so large that half a pixel of a painted canvas still shows.
_COMPARED_SIDE = 1536
# Below this side, in pixels, the most likely region is taken: any of them may look best by chance.
_MIN_COMPARED_SIDE = 24
# A less likely region must bring the difference below this share of the best one's so far.
_CLEARLY = 0.99


def likely_regions(placement: Placement, width: int, height: int) -> list[Region]:
    """Where the original can lie in a generated picture of ``width`` × ``height`` pixels, the most likely region first.

    A picture ``ROUNDING_SLACK`` off the placement's canvas at most has been rounded differently. A smaller one most
    likely comes from an outpaint node with a smaller limit, so the original has whole pixels of it; a larger one has
    most likely been upscaled as a whole.
    """
    slack = max(abs(width - placement.canvas_width), abs(height - placement.canvas_height))
    if slack <= ROUNDING_SLACK:
        return [Region.of(placement.followed_to(width, height))]
    scaled = Region.of(placement).scaled(width / placement.canvas_width, height / placement.canvas_height)
    painted = [
        Region.of(placement.scaled_to(width // factor, height // factor)).scaled(factor, factor)
        for factor in _UPSCALES
        if width % factor == 0 and height % factor == 0
    ]
    is_upscaled = width * height > placement.canvas_width * placement.canvas_height
    regions = [scaled, *reversed(painted)] if is_upscaled else [*painted, scaled]
    distinct: list[Region] = []
    for region in regions:
        if not any(_same(region, other) for other in distinct):
            distinct.append(region)
    return distinct


def painted_region(generated: Pixels, original: Pixels, placement: Placement) -> Region:
    """The one of :func:`likely_regions` in which ``generated`` looks most like ``original``."""
    height, width = generated.shape[:2]
    best, *others = likely_regions(placement, width, height)
    if not others or min(best.width, best.height) < _MIN_COMPARED_SIDE:
        return best
    shrink = min(1.0, _COMPARED_SIDE / max(best.width, best.height))
    size = max(1, round(best.width * shrink)), max(1, round(best.height * shrink))
    wanted = resample(original, Region(0, 0, original.shape[1], original.shape[0]), *size).astype(np.float32)
    least = _difference(resample(generated, best, *size), wanted)
    for region in others:
        difference = _difference(resample(generated, region, *size), wanted)
        if difference < least * _CLEARLY:
            best, least = region, difference
    return best


def _same(one: Region, other: Region) -> bool:
    return all(abs(this - that) < TINY for this, that in zip(astuple(one), astuple(other), strict=True))


def _difference(shown: Pixels, wanted: NDArray[np.float32]) -> float:
    """Mean absolute difference, of 255; a constant colour cast does not count."""
    off = shown - wanted
    off -= off.mean(axis=(0, 1))
    return float(np.abs(off).mean())
