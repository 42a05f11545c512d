"""The colour correction of the new area: what is off at the seam goes, inside nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from hidream_volcengine.api.pixels.geometry import Placement
from hidream_volcengine.api.pixels.paste import colour as color_match
from hidream_volcengine.api.pixels.paste.colour import Field, corrected, mean_offset

from tests.thinned import thinned
from tests.unit.pixels.paste.scenes import Floats, Pixels, Texture, View, as_bytes

PLACEMENT = Placement(400, 320, 80, 70, 240, 180)
CANVAS = (320, 400)
PLACEMENTS = [
    PLACEMENT,
    Placement(400, 180, 80, 0, 240, 180),
    Placement(400, 180, 0, 0, 240, 180),
    Placement(240, 320, 0, 140, 240, 180),
    Placement(401, 321, 0, 0, 241, 181),
    Placement(400, 320, 399, 0, 1, 320),
    Placement(64, 33, 20, 10, 3, 5),
    Placement(3, 3, 1, 1, 1, 1),
]


def whole_scene(placement: Placement = PLACEMENT, seed: int = 0) -> Pixels:
    """What the canvas should show; quiet enough that no cast is clipped."""
    view = View(placement.canvas_width, placement.canvas_height)
    return as_bytes(128 + (Texture(seed).floats(view) - 128) * 0.4)


def cut(pixels: Pixels, placement: Placement = PLACEMENT) -> Pixels:
    rows = slice(placement.y, placement.y + placement.height)
    return pixels[rows, placement.x : placement.x + placement.width].copy()


def new_area(placement: Placement = PLACEMENT) -> np.ndarray:
    new = np.ones((placement.canvas_height, placement.canvas_width), bool)
    new[placement.y : placement.y + placement.height, placement.x : placement.x + placement.width] = False
    return new


def whole_field(field: Field, placement: Placement = PLACEMENT) -> Floats:
    values = field.at(slice(0, placement.canvas_height), slice(0, placement.canvas_width))
    assert values.shape == (placement.canvas_height, placement.canvas_width, 3)
    assert values.dtype == np.float32
    return values.astype(float)


def matched(generated: Pixels, original: Pixels, placement: Placement = PLACEMENT) -> Pixels:
    """Also checks what holds whatever the pictures are."""
    result = matched_clipped(generated, original, placement)
    field = color_match.measure(generated, original, placement)
    values = whole_field(field, placement)
    new = new_area(placement)
    expected = np.clip(generated + values, 0, 255)[new]
    assert np.abs(result[new] - expected).max(initial=0) <= 0.5 + 1e-2
    return result


def matched_clipped(generated: Pixels, original: Pixels, placement: Placement = PLACEMENT) -> Pixels:
    """The same for pictures with whites and blacks, where the correction fades out."""
    copies = generated.copy(), original.copy()
    field = color_match.measure(generated, original, placement)
    result = corrected(generated, field, placement)
    assert np.array_equal(generated, copies[0])
    assert np.array_equal(original, copies[1])
    assert result.dtype == np.uint8
    assert np.array_equal(cut(result, placement), cut(generated, placement)), "inside nothing changes"
    assert field.strongest <= 48
    values = whole_field(field, placement)
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 48 + 1e-3
    new = new_area(placement)
    if new.any():
        assert mean_offset(field, placement) == pytest.approx(values[new].mean(axis=0), abs=0.75)
    return result


def mean_error(result: Pixels, truth: Pixels, where: np.ndarray) -> float:
    return float(np.abs(result[where].astype(float) - truth[where]).mean())


# ---- nothing


@thinned("placement", PLACEMENTS, ids=str, kept=(0, 2))
def test_the_same_picture_is_not_changed(placement: Placement) -> None:
    truth = whole_scene(placement)
    field = color_match.measure(truth, cut(truth, placement), placement)
    assert field.is_zero
    assert field.strongest == 0
    assert mean_offset(field, placement) == (0, 0, 0)
    assert np.array_equal(corrected(truth, field, placement), truth)


def test_nothing_new_is_nothing_to_correct() -> None:
    placement = Placement(60, 40, 0, 0, 60, 40)
    truth = whole_scene(placement)
    field = color_match.measure(as_bytes(truth + 20.0), truth, placement)
    assert mean_offset(field, placement) == (0, 0, 0)
    assert np.array_equal(corrected(truth, field, placement), truth)


def test_noise_of_a_service_is_no_cast() -> None:
    """Grain that goes up and down is not what colours are off by."""
    truth = whole_scene()
    generated = as_bytes(truth + np.random.default_rng(1).normal(0, 5, truth.shape))
    values = whole_field(color_match.measure(generated, cut(truth), PLACEMENT))
    assert np.abs(values).max() < 3
    assert np.abs(values).mean() < 0.7


# ---- casts


@thinned("placement", PLACEMENTS, ids=str, kept=(0, 2))
@thinned("cast", [(12, -7, 4), (-30, -30, -30), (0, 0, 2)], ids=str)
def test_a_cast_is_removed(placement: Placement, cast: tuple[int, int, int]) -> None:
    truth = whole_scene(placement)
    generated = as_bytes(truth + np.array(cast, float))
    result = matched(generated, cut(truth, placement), placement)
    new = new_area(placement)
    assert mean_error(result, truth, new) < 0.5
    assert np.abs(result[new].astype(int) - truth[new]).max() <= 1
    field = color_match.measure(generated, cut(truth, placement), placement)
    assert not field.is_zero
    assert mean_offset(field, placement) == pytest.approx([-value for value in cast], abs=0.5)


@pytest.mark.parametrize(
    "slope",
    [(24.0, 0.0), (0.0, -20.0), (15.0, 15.0)],
    ids=["across", "down", "both"],
)
def test_a_cast_that_varies_is_followed_at_the_seam(slope: tuple[float, float]) -> None:
    """One colour for all would leave a step on one side or the other."""
    truth = whole_scene()
    down, across = np.meshgrid(np.linspace(-1, 1, CANVAS[0]), np.linspace(-1, 1, CANVAS[1]), indexing="ij")
    cast = (across * slope[0] + down * slope[1])[..., None] * np.array([1.0, 0.5, -1.0])
    result = matched(as_bytes(truth + cast), cut(truth))
    for side, seam in (
        ("left", (slice(70, 250), slice(77, 80))),
        ("right", (slice(70, 250), slice(320, 323))),
        ("top", (slice(67, 70), slice(80, 320))),
        ("bottom", (slice(250, 253), slice(80, 320))),
    ):
        left_over = result[seam].astype(float) - truth[seam]
        assert np.abs(left_over).max() <= 3, side
        assert np.abs(left_over).mean() <= 1.2, side


def test_the_seam_of_a_soft_picture_is_not_seen() -> None:
    """As a retoucher looks at it: the step from the last pixel of the original to the first new one."""
    level = 90 + np.linspace(0, 60, CANVAS[1])[None, :, None] + np.linspace(0, 30, CANVAS[0])[:, None, None]
    truth = as_bytes(np.broadcast_to(level, (*CANVAS, 3)).copy())
    bump = 18 * np.sin(np.arange(CANVAS[0]) / 45)[:, None, None] + 10 * np.cos(np.arange(CANVAS[1]) / 60)[None, :, None]
    result = matched(as_bytes(truth + bump), cut(truth))
    whole = result.copy()
    whole[70:250, 80:320] = cut(truth)
    for one, other in (
        (whole[70:250, 79], whole[70:250, 80]),
        (whole[70:250, 319], whole[70:250, 320]),
        (whole[69, 80:320], whole[70, 80:320]),
        (whole[249, 80:320], whole[250, 80:320]),
    ):
        assert np.abs(one.astype(int) - other).max() <= 3
        assert np.abs(one.astype(int) - other).mean() <= 1.5


def test_the_correction_goes_on_outwards_and_does_not_fade() -> None:
    truth = np.full((*CANVAS, 3), 100, np.uint8)
    field = color_match.measure(truth + np.uint8(20), cut(truth), PLACEMENT)
    values = whole_field(field)
    assert np.abs(values + 20).max() <= 0.5


def test_the_correction_is_smooth_and_between_what_the_seam_has() -> None:
    """A membrane: no ripples, nothing stronger than at the seam; left and right each have their own colour."""
    truth = whole_scene()
    ramp = np.linspace(-16, 16, CANVAS[1])[None, :, None] * np.ones((*CANVAS, 3))
    field = color_match.measure(as_bytes(truth + ramp), cut(truth), PLACEMENT)
    values = whole_field(field)
    ring = values[70:250, 80:320]
    new = new_area()
    assert values[new].max() <= ring.max() + 0.5
    assert values[new].min() >= ring.min() - 0.5
    # Neighbouring pixels, also from inside to outside.
    assert np.abs(np.diff(values, axis=1)).max() < 0.6
    assert np.abs(np.diff(values, axis=0)).max() < 0.6
    # 80 px of 400 from the left it is 9.6.
    assert values[160, 10].mean() == pytest.approx(9.6, abs=1.5)
    assert values[160, 390].mean() == pytest.approx(-9.6, abs=1.5)


def test_only_sides_with_new_pixels_are_measured() -> None:
    """Above and below nothing is new: what is off there says nothing about the sides."""
    placement = Placement(400, 180, 80, 0, 240, 180)
    truth = whole_scene(placement)
    generated = truth.copy()
    generated[:, :140] = as_bytes(truth[:, :140] + 10.0)
    generated[:, 260:] = as_bytes(truth[:, 260:] + 10.0)
    generated[:40, 160:240] = 255
    result = matched(generated, cut(truth, placement), placement)
    new = new_area(placement)
    assert np.abs(result[new].astype(int) - truth[new]).max() <= 2


# ---- limits


@pytest.mark.parametrize("cast", [-100, 100])
def test_it_is_clamped(cast: int) -> None:
    truth = np.full((*CANVAS, 3), 120, np.uint8)
    generated = np.full((*CANVAS, 3), 120 + cast, np.uint8)
    field = color_match.measure(generated, cut(truth), PLACEMENT)
    assert field.strongest == pytest.approx(48)
    assert field.at_limit
    assert not color_match.measure(as_bytes(truth + 40.0), cut(truth), PLACEMENT).at_limit
    result = matched(generated, cut(truth))
    assert np.abs(result[new_area()].astype(int) - (120 + cast - 48 * np.sign(cast))).max() <= 1


@pytest.mark.parametrize("level", [0, 255])
def test_nothing_runs_over(level: int) -> None:
    """White that gets lighter stays white."""
    truth = np.full((*CANVAS, 3), 255 - level, np.uint8)
    truth[:] = 128
    generated = truth + np.uint8(20) if level == 0 else truth - np.uint8(20)
    generated[new_area()] = level
    result = matched(generated, cut(truth))
    assert (result[new_area()] == level).all()


@pytest.mark.parametrize(("level", "cast"), [(255, 20), (0, -20)], ids=["white", "black"])
def test_what_is_clipped_and_right_stays_and_says_nothing_about_the_rest(level: int, cast: int) -> None:
    """A blown sky above ground that has a cast, or a night: the sky is right, and the ground gets right up to it."""
    truth = as_bytes(np.random.default_rng(3).normal(120, 3, (*CANVAS, 3)))
    truth[:160] = level
    generated = as_bytes(truth + float(cast))
    assert (generated[:160] == level).all()
    result = matched_clipped(generated, cut(truth))
    new = new_area()
    assert (result[:160][new[:160]] == level).all()
    beside = result[160:250, 70:80].astype(int) - truth[160:250, 70:80]
    assert np.abs(beside).max() <= 4
    assert abs(beside[:10].mean()) <= 2, "next to the horizon, too"


def test_white_that_came_back_grey_is_made_white() -> None:
    truth = np.full((*CANVAS, 3), 255, np.uint8)
    result = matched(np.full_like(truth, 243), cut(truth))
    assert (result == 255)[new_area()].all()


@pytest.mark.parametrize("cast", [-20, -8, 8, 20])
def test_the_correction_fades_out_towards_white_and_black_without_a_step(cast: int) -> None:
    """Every level once in the new area: they keep their order, and no two drift far apart."""
    truth = np.full((20, 296, 3), 128, np.uint8)
    placement = Placement(296, 20, 256, 0, 40, 20)
    generated = truth.copy()
    generated[:, 256:] = 128 - cast
    generated[:, :256] = np.arange(256, dtype=np.uint8)[None, :, None]
    levels = matched_clipped(generated, cut(truth, placement), placement)[10, :256, 0].astype(int)
    steps = np.diff(levels)
    assert steps.min() >= 0
    assert steps.max() <= 4
    assert levels[0] == 0
    assert levels[255] == 255
    middle = np.arange(40, 215)
    assert np.abs(levels[middle] - middle - cast).max() <= 1


@pytest.mark.parametrize(("size", "each"), [(3, 6), (5, 3), (9, 1)])
def test_a_few_outliers_do_not_count(size: int, each: int) -> None:
    """Something small that was painted over at the seam: a hair, a speck, a watermark's dot. No streak goes out."""
    truth = whole_scene()
    generated = as_bytes(truth + 6.0)
    for index in range(each):
        start = 100 + index * 120 // each
        generated[start : start + size, 80 : 80 + size] = 255
        generated[70 : 70 + size, start + 60 : start + 60 + size] = 0
    result = matched(generated, cut(truth))
    new = new_area()
    assert np.abs(result[new].astype(int) - truth[new]).max() <= 4
    assert mean_error(result, truth, new) < 1


def test_a_shifted_picture_gets_no_false_colours() -> None:
    """A pixel of shift makes strong differences of both signs along every edge; on the whole they are no cast."""
    scene = Texture(9)
    truth = as_bytes(128 + (scene.floats(View(400, 320)) - 128) * 0.6)
    moved = as_bytes(128 + (scene.floats(View(400, 320, -1.0, 0.5)) - 128) * 0.6)
    values = whole_field(color_match.measure(moved, cut(truth), PLACEMENT))
    assert np.abs(values).max() <= 6
    assert np.abs(values).mean() <= 2


def test_a_part_of_the_field_is_that_part() -> None:
    """Bands of rows, as a large picture is worked on."""
    truth = whole_scene()
    ramp = np.linspace(-16, 16, CANVAS[1])[None, :, None] * np.ones((*CANVAS, 3))
    field = color_match.measure(as_bytes(truth + ramp), cut(truth), PLACEMENT)
    values = whole_field(field)
    for rows, columns in ((slice(0, 1), slice(0, 400)), (slice(69, 72), slice(79, 81)), (slice(300, 320), slice(5, 6))):
        assert field.at(rows, columns) == pytest.approx(values[rows, columns], abs=1e-4)
