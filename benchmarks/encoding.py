"""PNG encoders for the pictures of a request: time to encode, plus the time that the base64 takes on a line.

All are lossless, so that the services get the original's pixels.
"""

from __future__ import annotations

import io
from functools import partial
from statistics import median

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from api import tensors
from benchmarks import MIN_ROUNDS, Ratio, Table, timed

SIDE = 2048
LINES_MBITS = (5, 20, 100)
TITLE = f"Encoding a picture of {SIDE}²: seconds until its base64 is through a line"
# zlib's Z_HUFFMAN_ONLY.
_HUFFMAN = 2
_OURS, _COMFYUIS = "this pack (runs only)", "level 4, as ComfyUI"
_PHOTO = "photograph"
_WAYS: dict[str, dict[str, int]] = {
    "Huffman only": {"compress_level": 1, "compress_type": _HUFFMAN},
    "level 1": {"compress_level": 1},
    _COMFYUIS: {"compress_level": 4},
}

Picture = NDArray[np.uint8]


def table() -> Table:
    rows, measured, wrong = [], {}, []
    photo: dict[str, list[float]] = {}
    for subject, picture in _pictures().items():
        encoded, laps = _measured(picture)
        for name, data in encoded.items():
            seconds = median(laps[name])
            totals = [seconds + len(data) * 4 / 3 * 8 / (mbits * 1e6) for mbits in LINES_MBITS]
            if subject == _PHOTO:
                photo[name] = totals
            speed = f"{picture.nbytes / 1e6 / seconds:.0f} MB/s"
            size = f"{len(data) / 1e6:.3g} MB"
            rows.append((subject, name, speed, size, *(f"{total:.2f} s" for total in totals)))
            measured[f"{subject}, {name}"] = {"seconds": laps[name], "bytes": len(data)}
            if not np.array_equal(np.asarray(Image.open(io.BytesIO(data))), picture):
                wrong.append(f"{subject}, {name}: other pixels")
    columns = ("picture", "encoder", "speed", "size", *(f"at {mbits} Mbit/s" for mbits in LINES_MBITS))
    ratios = [
        Ratio(f"a {_PHOTO} of {SIDE}² sent at {mbits} Mbit/s", f"{other:.2f} s (PNG {_COMFYUIS})", own / other)
        for mbits, own, other in zip(LINES_MBITS, photo[_OURS], photo[_COMFYUIS], strict=True)
    ]
    return Table(TITLE, columns, rows, measured, wrong, ratios)


def _measured(picture: Picture) -> tuple[dict[str, bytes], dict[str, list[float]]]:
    others = {name: partial(_png, picture, way) for name, way in _WAYS.items()}
    ways = {_OURS: partial(tensors.encode, picture), **others}
    laps: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(MIN_ROUNDS):
        for name, encode in ways.items():
            laps[name].append(timed(encode))
    return {name: encode() for name, encode in ways.items()}, laps


def _png(picture: Picture, way: dict[str, int]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", **way)
    return buffer.getvalue()


def _pictures() -> dict[str, Picture]:
    photo = photograph()
    canvas, mask = np.full_like(photo, 255), np.full((SIDE, SIDE), 255, np.uint8)
    inside = slice(SIDE // 4, SIDE * 3 // 4)
    canvas[inside, inside], mask[inside, inside] = photo[: SIDE // 2, : SIDE // 2], 0
    return {_PHOTO: photo, "the same on a white canvas": canvas, "flat graphic": _banner(), "mask": mask}


def photograph(side: int = SIDE) -> tensors.Pixels:
    """Return a square photograph with a sensor's noise, which makes up most of the size of a file."""
    enlarged = Image.fromarray(skimage.data.astronaut()).resize((side, side), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 2, (side, side, 3))
    return np.clip(np.asarray(enlarged) + noise, 0, 255).astype(np.uint8)


def _banner() -> tensors.Pixels:
    """Return boxes, rings and letters in flat colours."""
    picture = Image.new("RGB", (SIDE, SIDE), (250, 250, 245))
    draw = ImageDraw.Draw(picture)
    step = SIDE // 40
    for number in range(40):
        colour = (number * 6, 255 - number * 5, number * 3)
        across, down = number * step, number * step * 3 // 5
        draw.rectangle((across, down, across + 6 * step, down + 4 * step), fill=colour)
        draw.ellipse((SIDE - across - 6 * step, down, SIDE - across, down + 6 * step), outline=colour, width=8)
        draw.text((step, number * step), "The quick brown fox 智能扩图"[: number // 2], fill=colour)
    return np.asarray(picture)
