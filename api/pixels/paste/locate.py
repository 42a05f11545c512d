"""Where the original lies in a generated picture of any size.

A placement is free of scale, but pixels are not: a node that painted a smaller canvas put the original on whole pixels
of that one, an upscaler multiplied them, and a plain resize leaves fractions. The picture itself tells which it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import ROUNDING_SLACK, Placement
from ..tensors import Pixels
from .resample import TINY, Region, resample

# What services and local models enlarge a painted canvas by.
_UPSCALES = (1, 2, 4)
# Longest side of the copies that are compared: half a pixel of a painted canvas still shows.
_COMPARED_SIDE = 1536
# Smaller pictures do not tell: there any region may look best.
_TELLING_SIDE = 24
# A less likely region must explain the picture this much better.
_CLEARLY = 0.99


def likely_regions(placement: Placement, width: int, height: int) -> list[Region]:
    """Where the original can lie in a generated picture of ``width`` × ``height``, the most likely first.

    A picture a pixel or two off the placement's canvas has been rounded differently. A smaller one was asked for by an
    outpaint node with a smaller limit, whose whole pixels are followed; a larger one has been upscaled.
    """
    slack = max(abs(width - placement.canvas_width), abs(height - placement.canvas_height))
    if slack <= ROUNDING_SLACK:
        return [_enlarged(placement.followed_to(width, height), 1)]
    across, down = width / placement.canvas_width, height / placement.canvas_height
    scaled = Region(placement.x * across, placement.y * down, placement.width * across, placement.height * down)
    painted = [
        _enlarged(placement.scaled_to(width // factor, height // factor), factor)
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
    """The likely region in which a generated picture shows the original best."""
    height, width = generated.shape[:2]
    best, *others = likely_regions(placement, width, height)
    if not others or min(best.width, best.height) < _TELLING_SIDE:
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


def _enlarged(placement: Placement, factor: int) -> Region:
    return Region(placement.x * factor, placement.y * factor, placement.width * factor, placement.height * factor)


def _same(one: Region, other: Region) -> bool:
    pairs = zip((one.x, one.y, one.width, one.height), (other.x, other.y, other.width, other.height), strict=True)
    return all(abs(this - that) < TINY for this, that in pairs)


def _difference(shown: Pixels, wanted: NDArray[np.float32]) -> float:
    """Mean absolute difference, whatever cast the picture has."""
    off = shown - wanted
    off -= off.mean(axis=(0, 1))
    return float(np.abs(off).mean())
