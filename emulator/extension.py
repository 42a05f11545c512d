"""Makes new pixels around a picture or in its holes: its own content mirrored, the more blurred the further out.

Pictures are uint8 arrays of the shape (height, width, 3), RGB.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Blur radii of the zones from the border outwards, as shares of the canvas' longer side.
_BLURS = (0.0, 0.008, 0.025, 0.07)
# The outermost zone begins this far out, as a share of the canvas' longer side.
_REACH = 0.22
# Rows that are blended at a time: keeps the float copies of a 4096² canvas small.
_STRIP = 256
# Holes are filled at this size at most; a fill has no detail that would be lost.
_FILL_SIDE = 1024


def extend(original: Bytes, width: int, height: int, x: int, y: int, seed: int) -> Bytes:
    """Return a canvas of width × height: the original unchanged with its corner at (x, y), new pixels around it."""
    rows, columns = original.shape[:2]
    mirrored = original[_mirror(height, y, rows)][:, _mirror(width, x, columns)]
    side = max(width, height)
    levels = [mirrored] + [_blurred(mirrored, share * side) for share in _BLURS[1:]]
    away_x, away_y = _outside(width, x, columns), _outside(height, y, rows)
    random = np.random.default_rng(seed)
    tone = random.uniform(0.72, 0.86, 3).astype(np.float32)
    canvas = np.empty_like(mirrored)
    for top in range(0, height, _STRIP):
        strip = slice(top, top + _STRIP)
        distance = np.hypot(away_y[strip, None], away_x[None, :]) / np.float32(_REACH * side)
        softness = np.minimum(distance, 1) ** np.float32(0.75)
        canvas[strip] = _blend([level[strip] for level in levels], softness, tone, random)
    canvas[y : y + rows, x : x + columns] = original
    return canvas


def fill(picture: Bytes, new: Bools, seed: int) -> Bytes:
    """Return a copy of the picture with new pixels where `new` (height, width) is True; all others are unchanged."""
    kept = np.argwhere(~new)
    if len(kept):
        (top, left), (bottom, right) = kept.min(axis=0), kept.max(axis=0) + 1
        if not new[top:bottom, left:right].any():
            height, width = new.shape
            return extend(picture[top:bottom, left:right], width, height, int(left), int(top), seed)
    filled = _fill_holes(picture, new, seed)
    filled[~new] = picture[~new]
    return filled


def _mirror(length: int, start: int, size: int) -> npt.NDArray[np.int64]:
    """Return, for each row (or column) of the canvas, the row of the original that it shows.

    The original begins at `start`, has `size` rows, and is repeated, every second time mirrored.
    """
    place = (np.arange(length) - start) % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def _outside(length: int, start: int, size: int) -> Floats:
    """Return, for each row (or column) of the canvas, its distance from the original in pixels; 0 within it."""
    place = np.arange(length)
    return np.maximum(np.maximum(start - place, place - (start + size - 1)), 0).astype(np.float32)


def _blurred(picture: Bytes, radius: float) -> Bytes:
    image = Image.fromarray(picture)
    # A wide blur looks the same from a smaller copy, and is much faster.
    factor = max(1, int(radius / 3))
    small = image.reduce(factor).filter(ImageFilter.GaussianBlur(radius / factor))
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def _blend(levels: list[Bytes], softness: Floats, tone: Floats, random: np.random.Generator) -> Bytes:
    """Mix the levels (sharp to blurred) by `softness`: 0 shows the first one, 1 the last one."""
    position = softness * np.float32(len(levels) - 1)
    mixed = np.zeros(levels[0].shape, np.float32)
    for index, level in enumerate(levels):
        mixed += np.maximum(0, 1 - np.abs(position - np.float32(index)))[..., None] * level
    # The seed's tone, as a vignette, and grain, without which the blurred parts look like plastic. Both are 0 at the
    # border of the original and grow outwards, so that no seam shows.
    mixed *= 1 + (tone - 1) * (softness**2)[..., None]
    grain = random.standard_normal(softness.shape, np.float32)
    mixed += (grain * np.float32(4) * np.sqrt(softness))[..., None]
    return _bytes(mixed)


def _bytes(picture: Floats) -> Bytes:
    rounded: Bytes = np.clip(picture + np.float32(0.5), 0, 255).astype(np.uint8)
    return rounded


def _fill_holes(picture: Bytes, new: Bools, seed: int) -> Bytes:
    """Return a smooth fill of the whole picture, made of its pixels outside of `new`, with grain."""
    height, width = new.shape
    factor = -(-max(height, width) // _FILL_SIDE)
    known = (~new).astype(np.float32)
    colour, weight = _halve(picture.astype(np.float32) * known[..., None], known, factor)
    smooth = _push_pull(colour, weight)
    if factor > 1:
        smooth = _resized(smooth, width, height)
    random = np.random.default_rng(seed)
    grain = random.standard_normal((height, width), np.float32) * np.float32(3)
    return _bytes(smooth + grain[..., None])


def _push_pull(colour: Floats, weight: Floats) -> Floats:
    """Return `colour` with the pixels of weight 0 filled from ever coarser copies.

    `colour` (height, width, 3) is multiplied by `weight` (height, width; 0 or 1) already.
    """
    if max(weight.shape) == 1:
        # Without any known pixel the result is mid grey.
        return colour if weight.all() else np.full_like(colour, 128)
    mean, share = _halve(colour, weight, 2)
    height, width = weight.shape
    coarse = _resized(_push_pull(mean, share), width, height)
    return colour + (1 - weight)[..., None] * coarse


def _halve(colour: Floats, weight: Floats, factor: int) -> tuple[Floats, Floats]:
    """Return both reduced by `factor`: a cell is the mean of its known pixels, and its weight is 1 if there is one."""
    height, width = weight.shape
    padding = ((0, -height % factor), (0, -width % factor))
    rows, columns = (height + padding[0][1]) // factor, (width + padding[1][1]) // factor
    total = np.pad(colour, (*padding, (0, 0))).reshape(rows, factor, columns, factor, 3).sum(axis=(1, 3))
    sure = np.pad(weight, padding).reshape(rows, factor, columns, factor).sum(axis=(1, 3))
    known = (sure > 0).astype(np.float32)
    return total / np.maximum(sure, 1e-6)[..., None] * known[..., None], known


def _resized(picture: Floats, width: int, height: int) -> Floats:
    bands = [Image.fromarray(np.ascontiguousarray(picture[..., band])) for band in range(3)]
    size = (width, height)
    return np.stack([np.asarray(band.resize(size, Image.Resampling.BILINEAR)) for band in bands], axis=-1)
