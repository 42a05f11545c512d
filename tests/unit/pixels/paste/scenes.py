"""Pictures that are known at every point, so that any size, shift and crop of them can be drawn exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """What a picture of ``width`` × ``height`` pixels shows: its first pixel begins at ``left``, ``top`` of the scene,
    and each pixel is ``step_x`` × ``step_y`` of the scene's units wide."""

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    step_x: float = 1.0
    step_y: float = 1.0

    def columns(self) -> Floats:
        """The centres of the pixels, in units of the scene."""
        return self.left + (np.arange(self.width) + 0.5) * self.step_x

    def rows(self) -> Floats:
        return self.top + (np.arange(self.height) + 0.5) * self.step_y


class Texture:
    """Soft and fine structures in every direction, without end: a sum of waves.

    Args:
        finest: the shortest wave, in units of the scene.
    """

    def __init__(self, seed: int = 0, finest: float = 6.0, coarsest: float = 150.0, waves: int = 160) -> None:
        random = np.random.default_rng(seed)
        length = np.exp(random.uniform(np.log(finest), np.log(coarsest), waves))
        angle = random.uniform(0, np.pi, waves)
        self._across, self._down = 2 * np.pi * np.cos(angle) / length, 2 * np.pi * np.sin(angle) / length
        self._phases = random.uniform(0, 2 * np.pi, waves)
        amplitudes = np.sqrt(length)
        amplitudes *= 45 / np.sqrt((amplitudes**2).sum() / 2)
        # Coloured, but the same structures in every channel.
        self._amplitudes = amplitudes * random.uniform(0.5, 1.5, (3, waves))

    def floats(self, view: View) -> Floats:
        """(H, W, 3), nominally 0–255; each value is the mean over its pixel's area."""
        inside = np.sinc(self._across * view.step_x / (2 * np.pi)) * np.sinc(self._down * view.step_y / (2 * np.pi))
        across = np.outer(self._across, view.columns())
        down = np.outer(view.rows(), self._down) + self._phases
        along, beside = (np.cos(across), np.cos(down)), (np.sin(across), np.sin(down))
        channels = [
            (along[1] * strength) @ along[0] - (beside[1] * strength) @ beside[0]
            for strength in self._amplitudes * inside
        ]
        return 128 + np.stack(channels, axis=-1)

    def draw(self, view: View) -> Pixels:
        return as_bytes(self.floats(view))


@dataclass(frozen=True)
class Edges:
    """An edge in each channel: dark on the left, light on the right of the line x = ``at`` + ``slope`` · y.

    ``soft`` is half the width over which they go from dark to light.
    """

    at: tuple[float, float, float]
    slope: tuple[float, float, float]
    soft: float
    dark: int = 40
    light: int = 220

    def draw(self, view: View) -> Pixels:
        distance = view.columns()[None, :, None] - self._places(view.rows())[:, None, :]
        return as_bytes(self.dark + (self.light - self.dark) * 0.5 * (1 + np.tanh(distance / self.soft)))

    def errors(self, pixels: Pixels, view: View, rows: slice) -> Floats:
        """(rows, 3): how far each edge is from its place, in units of the scene; + is to the right."""
        # The dark pixels of a row, whole and in part, end where the edge is.
        dark = ((self.light - pixels[rows].astype(float)) / (self.light - self.dark)).sum(axis=1)
        return view.left + dark * view.step_x - self._places(view.rows()[rows])

    def _places(self, rows: Floats) -> Floats:
        return np.array(self.at) + np.array(self.slope) * rows[:, None]


def as_bytes(values: Floats) -> Pixels:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def noisy(pixels: Pixels, sigma: float, seed: int = 0) -> Pixels:
    """With noise of this standard deviation, of 255."""
    return as_bytes(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape))
