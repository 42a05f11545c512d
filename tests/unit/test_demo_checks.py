"""The demo's own checks must be able to fail."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from devtools import demo_checks as checks

PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
SIDES = {"left": 0.5, "right": 0.5, "top": 0.0, "bottom": 0.0, "max_width": 1920, "max_height": 1920, "variants": 1}


def extended(shift: int = 0, size: tuple[int, int] = (120, 40)) -> Image.Image:
    canvas = Image.new("RGB", size, "grey")
    canvas.paste(PHOTO, (30 + shift, 0))
    return canvas


def test_a_right_picture_passes() -> None:
    assert "120 x 40" in checks.outpainted_by_sides(PHOTO, SIDES, [extended()])


@pytest.mark.parametrize("wrong", [extended(shift=1), extended(size=(121, 40)), Image.new("RGB", (120, 40))])
def test_a_shifted_original_another_size_or_a_placeholder_fails(wrong: Image.Image) -> None:
    with pytest.raises(checks.CheckError):
        checks.outpainted_by_sides(PHOTO, SIDES, [wrong])


def test_a_missing_picture_fails() -> None:
    with pytest.raises(checks.CheckError):
        checks.outpainted_by_sides(PHOTO, SIDES, [])
