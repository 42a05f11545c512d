"""The registry's icon and banner, drawn: `python -m devtools.artwork` writes docs/icon.png and docs/banner.png.

A picture in its frame, and the land that goes on around it, less and less certain: what outpainting does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from devtools.environment import ROOT

Canvas = NDArray[np.float64]

ICON, ICON_SIZE = ROOT / "docs" / "icon.png", (400, 400)
BANNER, BANNER_SIZE = ROOT / "docs" / "banner.png", (1260, 540)

_FINER = 3  # drawn so many times as large: smooth edges
_NIGHT = np.array((21, 23, 28.0))
_SKY = ((0.0, (46, 58, 104)), (0.45, (134, 110, 158)), (0.72, (240, 166, 140)), (1.0, (252, 214, 168)))
_HILLS = (
    # where the ridge is, how high and long its waves are, and its colour
    (0.60, 0.050, 1.9, 0.4, (122, 104, 150)),
    (0.71, 0.060, 1.3, 2.1, (82, 84, 132)),
    (0.84, 0.055, 0.9, 4.0, (44, 56, 96)),
)


@dataclass(frozen=True)
class Layout:
    """All in shares of the height; x counts from the middle."""

    frame: tuple[float, float, float, float]
    sun: tuple[float, float, float]
    block: float
    reach: float


_ICON_LAYOUT = Layout((-0.27, 0.23, 0.27, 0.77), (0.08, 0.50, 0.085), 1 / 20, 0.30)
_BANNER_LAYOUT = Layout((-0.42, 0.19, 0.42, 0.81), (0.13, 0.47, 0.085), 1 / 18, 0.85)


def icon() -> Image.Image:
    return _draw(ICON_SIZE, _ICON_LAYOUT)


def banner() -> Image.Image:
    return _draw(BANNER_SIZE, _BANNER_LAYOUT)


def _draw(size: tuple[int, int], layout: Layout) -> Image.Image:
    width, height = size[0] * _FINER, size[1] * _FINER
    x = np.broadcast_to((np.arange(width) - width / 2 + 0.5) / height, (height, width))
    y = np.broadcast_to((np.arange(height)[:, None] + 0.5) / height, (height, width))
    scene = _scene(x, y, layout.sun)
    pixels = np.where(_inside(x, y, layout.frame), scene, _dreamt(scene, x, y, layout))
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = layout.frame
    box = (left * height + width / 2, top * height, right * height + width / 2, bottom * height)
    draw.rectangle(box, outline=(250, 246, 240), width=round(height / 110))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _scene(x: Canvas, y: Canvas, sun: tuple[float, float, float]) -> Canvas:
    stops = [stop for stop, _ in _SKY]
    ground = np.stack([np.interp(y, stops, [colour[part] for _, colour in _SKY]) for part in range(3)], axis=-1)
    distance = np.hypot(x - sun[0], y - sun[1])
    glow = np.exp(-((distance / (3 * sun[2])) ** 2))[..., None] * 0.5
    ground = ground * (1 - glow) + np.array((255, 196, 150)) * glow
    ground = np.where((distance < sun[2])[..., None], np.array((255, 240, 212.0)), ground)
    for ridge, wave, often, shift, colour in _HILLS:
        line = ridge - wave * (np.sin(often * 3 * x + shift) + 0.4 * np.sin(often * 7 * x + 2 * shift))
        depth = np.clip((y - line) * 1.5, 0, 0.25)[..., None]
        ground = np.where((y > line)[..., None], np.array(colour) * (1 - depth), ground)
    return ground


def _dreamt(scene: Canvas, x: Canvas, y: Canvas, layout: Layout) -> Canvas:
    """Blocks of the scene, fainter and fewer with the distance from the frame."""
    left, top, right, bottom = layout.frame
    column, row = np.floor((x - left) / layout.block), np.floor((y - top) / layout.block)
    centre_x, centre_y = left + (column + 0.5) * layout.block, top + (row + 0.5) * layout.block
    away = np.hypot(
        np.maximum(np.maximum(left - centre_x, centre_x - right), 0),
        np.maximum(np.maximum(top - centre_y, centre_y - bottom), 0) * 1.3,
    )
    chance = np.modf(np.abs(np.sin(column * 12.9898 + row * 78.233) * 43758.5453))[0]
    faint = np.clip(1 - away / layout.reach - 0.35 * chance, 0.03, 1)[..., None] * 0.8
    height, width = x.shape
    rows = np.clip(np.round(centre_y * height), 0, height - 1).astype(int)
    columns = np.clip(np.round(centre_x * height + width / 2), 0, width - 1).astype(int)
    return scene[rows, columns] * faint + _NIGHT * (1 - faint)


def _inside(x: Canvas, y: Canvas, frame: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    left, top, right, bottom = frame
    return ((x > left) & (x < right) & (y > top) & (y < bottom))[..., None]


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {picture.width}x{picture.height}, {path.stat().st_size} bytes")


def main() -> int:
    _save(icon(), ICON)
    _save(banner(), BANNER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
