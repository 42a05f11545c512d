"""Padded pictures and their masks: the original bit for bit, every fill, and ComfyUI's own feathering."""

from __future__ import annotations

import numpy as np
import pytest
from hidream_volcengine.api.core.choices import FILLS, Fill
from hidream_volcengine.api.pixels.geometry import Placement, pad
from hidream_volcengine.api.pixels.padding import feathered_mask, largest_feathering, pad_into
from hidream_volcengine.api.pixels.tensors import Values, cut_out
from hypothesis import given, settings
from hypothesis import strategies as st

margins = st.integers(0, 40)
lengths = st.integers(1, 40)


def random_values(height: int, width: int, seed: int = 0) -> Values:
    """Float values that are not n/255, some of them beyond 0–1."""
    return np.random.default_rng(seed).uniform(-0.5, 1.5, (height, width, 3)).astype(np.float32)


def padded(original: Values, placement: Placement, fill: Fill) -> Values:
    canvas = np.full((placement.canvas_height, placement.canvas_width, 3), np.nan, np.float32)
    pad_into(canvas, original, placement, fill)
    return canvas


@given(lengths, lengths, margins, margins, margins, margins, st.sampled_from(FILLS))
@settings(max_examples=60)
def test_every_pixel_is_written_and_the_originals_are_untouched(
    width: int, height: int, left: int, top: int, right: int, bottom: int, fill: Fill
) -> None:
    original = random_values(height, width)
    placement = pad(width, height, left, top, right, bottom)
    canvas = padded(original, placement, fill)
    assert np.array_equal(cut_out(canvas, placement), original)
    assert not np.isnan(canvas).any()


@pytest.mark.parametrize(("fill", "value"), [("grey", 0.5), ("white", 1.0)])
def test_flat_fills(fill: Fill, value: float) -> None:
    placement = pad(5, 4, 3, 2, 1, 6)
    canvas = padded(random_values(4, 5), placement, fill)
    outside = feathered_mask(placement, 0) == 1
    assert (canvas[outside] == np.float32(value)).all()


def test_edges_are_repeated_outward() -> None:
    original = random_values(4, 5)
    placement = pad(5, 4, 3, 2, 1, 6)
    expected = np.pad(original, ((2, 6), (3, 1), (0, 0)), mode="edge")
    assert np.array_equal(padded(original, placement, "edge"), expected)


def test_a_blur_of_one_colour_is_that_colour() -> None:
    original = np.full((60, 90, 3), (0.25, 0.5, 0.75), np.float32)
    canvas = padded(original, pad(90, 60, 300, 20, 0, 500), "blur")
    assert np.abs(canvas - original[0, 0]).max() < 1e-5


def test_a_blur_is_smooth_stays_within_0_to_1_and_follows_the_original() -> None:
    original = np.zeros((400, 400, 3), np.float32)
    original[:, 200:] = 1.0
    original[0, 0], original[0, 1] = np.inf, -5.0
    placement = pad(400, 400, 200, 0, 200, 0)
    canvas = padded(original, placement, "blur")
    left, right = canvas[:, :200], canvas[:, 600:]
    for side in (left, right):
        assert side.min() >= 0.0
        assert side.max() <= 1.0
        assert np.abs(np.diff(side, axis=0)).max() < 0.02
        assert np.abs(np.diff(side, axis=1)).max() < 0.02
    assert left[:, 0].max() < 0.1
    assert right[:, -1].min() > 0.9


def test_a_blur_of_detail_has_no_detail() -> None:
    original = np.random.default_rng(1).random((300, 300, 3)).astype(np.float32)
    canvas = padded(original, pad(300, 300, 0, 0, 0, 150), "blur")
    assert np.abs(canvas[300:] - 0.5).max() < 0.1


@pytest.mark.parametrize("placement", [pad(1, 1, 16384, 0, 0, 0), pad(16384, 1, 0, 0, 0, 3), pad(1, 1, 0, 0, 0, 0)])
def test_a_blur_of_extreme_shapes(placement: Placement) -> None:
    original = np.full((placement.height, placement.width, 3), 0.5, np.float32)
    assert np.abs(padded(original, placement, "blur") - 0.5).max() < 1e-5


# ---- masks


def comfyui_mask(placement: Placement, feathering: int) -> np.ndarray:
    """ImagePadForOutpaint.expand_image, pixel by pixel."""
    height, width = placement.height, placement.width
    mask = np.ones((placement.canvas_height, placement.canvas_width), np.float32)
    inside = np.zeros((height, width), np.float32)
    if feathering > 0 and feathering * 2 < height and feathering * 2 < width:
        for i in range(height):
            for j in range(width):
                d = min(
                    i if placement.top != 0 else height,
                    height - i if placement.bottom != 0 else height,
                    j if placement.left != 0 else width,
                    width - j if placement.right != 0 else width,
                )
                if d < feathering:
                    v = (feathering - d) / feathering
                    inside[i, j] = v * v
    cut_out(mask, placement)[...] = inside
    return mask


some = st.sampled_from([0, 0, 1, 7])


@given(lengths, lengths, some, some, some, some, st.integers(0, 20))
@settings(max_examples=80)
def test_feathering_is_comfyuis_own_to_the_bit(
    width: int, height: int, left: int, top: int, right: int, bottom: int, feathering: int
) -> None:
    placement = pad(width, height, left, top, right, bottom)
    feathering = min(feathering, largest_feathering(placement))
    assert np.array_equal(feathered_mask(placement, feathering), comfyui_mask(placement, feathering))


def test_the_largest_feathering_is_the_last_that_comfyui_takes() -> None:
    for width, height in ((1, 1), (2, 9), (3, 3), (40, 31), (100, 30)):
        placement = pad(width, height, 8, 8, 8, 8)
        largest = largest_feathering(placement)
        plain = comfyui_mask(placement, 0)
        assert np.array_equal(comfyui_mask(placement, largest + 1), plain)
        assert largest == 0 or not np.array_equal(comfyui_mask(placement, largest), plain)
