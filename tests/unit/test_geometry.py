"""Placement arithmetic: sides always add up, and nothing leaves its canvas."""

from __future__ import annotations

import pytest
from hidream_volcengine.api.errors import InvalidInputError
from hidream_volcengine.api.geometry import (
    Placement,
    Sides,
    extend,
    fit_within,
    is_three_by_four,
    place,
    round_half_up,
    shrink_for_canvas,
    three_by_four_around,
    three_by_four_inside,
)
from hypothesis import assume, given
from hypothesis import strategies as st

sides = st.integers(1, 8192)
shares = st.floats(0, 1, allow_nan=False)


def placements() -> st.SearchStrategy[Placement]:
    def around(width: int, height: int, left: int, top: int, right: int, bottom: int) -> Placement:
        return Placement(width + left + right, height + top + bottom, left, top, width, height)

    margins = st.integers(0, 2000)
    return st.builds(around, sides, sides, margins, margins, margins, margins)


@pytest.mark.parametrize(
    ("value", "rounded"), [(0.5, 1), (1.5, 2), (2.5, 3), (2.4999, 2), (-0.5, 0), (0.0, 0)], ids=str
)
def test_half_is_rounded_up(value: float, rounded: int) -> None:
    assert round_half_up(value) == rounded


def test_the_pages_own_example() -> None:
    """A quarter of 1024² by area is half its side: 512 at (256, 256)."""
    assert place(2000, 2000, 1024, 1024, ratio=0.5, position="center") == Placement(1024, 1024, 256, 256, 512, 512)


@pytest.mark.parametrize(
    ("position", "corner"),
    [
        ("center", (255, 319)),
        ("top", (255, 0)),
        ("bottom", (255, 639)),
        ("left", (0, 319)),
        ("right", (511, 319)),
        ("top left", (0, 0)),
        ("top right", (511, 0)),
        ("bottom left", (0, 639)),
        ("bottom right", (511, 639)),
    ],
)
def test_positions(position: str, corner: tuple[int, int]) -> None:
    placement = place(400, 300, 1023, 1023, ratio=0.5, position=position)  # type: ignore[arg-type]
    assert (placement.width, placement.height) == (512, 384)
    assert (placement.x, placement.y) == corner


def test_offset_is_taken_as_it_is() -> None:
    placement = place(512, 512, 1024, 1024, ratio=0.5, position="offset", x_offset=512, y_offset=7)
    assert (placement.x, placement.y) == (512, 7)


def test_an_original_that_leaves_the_canvas_names_the_numbers() -> None:
    with pytest.raises(InvalidInputError, match=r"512×512 at 513, 0.*1024×1024"):
        place(512, 512, 1024, 1024, ratio=0.5, position="offset", x_offset=513)


def test_a_drifting_aspect_ratio_names_the_numbers() -> None:
    with pytest.raises(InvalidInputError, match=r"1000×10.*51×1 pixels"):
        place(1000, 10, 1024, 1024, ratio=0.05, position="center")


@given(sides, sides, st.integers(64, 1024), st.integers(64, 1024), st.floats(0.05, 1.0))
def test_placing_keeps_inside_and_in_shape(width: int, height: int, cw: int, ch: int, ratio: float) -> None:
    try:
        placement = place(width, height, cw, ch, ratio=ratio, position="bottom right")
    except InvalidInputError:
        assume(False)
    assert placement.right == placement.bottom == 0
    assert placement.left + placement.width + placement.right == cw
    assert placement.top + placement.height + placement.bottom == ch
    assert abs(placement.width / placement.height / (width / height) - 1) <= 0.01
    tighter = max(placement.width / cw, placement.height / ch)
    assert tighter == pytest.approx(ratio, abs=1 / min(cw, ch))


@given(placements(), sides, sides)
def test_scaling_adds_up(placement: Placement, width: int, height: int) -> None:
    scaled = placement.scaled_to(width, height)
    assert scaled.left + scaled.width + scaled.right == width
    assert scaled.top + scaled.height + scaled.bottom == height
    assert abs(scaled.x - placement.x * width / placement.canvas_width) <= 1
    assert placement.scaled_to(placement.canvas_width, placement.canvas_height) == placement


@given(placements(), st.integers(-2, 2), st.integers(-2, 2))
def test_a_result_a_pixel_off_keeps_the_originals_size(placement: Placement, dx: int, dy: int) -> None:
    width, height = placement.canvas_width + dx, placement.canvas_height + dy
    assume(placement.x + placement.width <= width and placement.y + placement.height <= height)
    followed = placement.followed_to(width, height)
    assert (followed.x, followed.y, followed.width, followed.height) == (
        placement.x,
        placement.y,
        placement.width,
        placement.height,
    )


def test_a_scaled_result_scales_the_placement() -> None:
    assert Placement(1024, 1024, 256, 256, 512, 512).followed_to(2048, 2048) == Placement(
        2048, 2048, 512, 512, 1024, 1024
    )


@given(sides, sides, shares, shares, shares, shares)
def test_extending(width: int, height: int, top: float, bottom: float, left: float, right: float) -> None:
    placement = extend(width, height, Sides(top, bottom, left, right))
    assert (placement.width, placement.height) == (width, height)
    assert placement.left == round_half_up(width * left)
    assert placement.bottom == round_half_up(height * bottom)


@given(sides, sides, st.integers(64, 4096), st.integers(64, 4096))
def test_fitting(width: int, height: int, max_width: int, max_height: int) -> None:
    fitted = fit_within(width, height, max_width, max_height)
    assert 1 <= fitted[0] <= min(width, max_width)
    assert 1 <= fitted[1] <= min(height, max_height)
    if width <= max_width and height <= max_height:
        assert fitted == (width, height)


@given(
    st.integers(1, 8192),
    st.integers(1, 8192),
    st.integers(64, 4096),
    st.integers(64, 4096),
    shares,
    shares,
    shares,
    shares,
)
def test_shrinking_for_a_canvas(
    width: int, height: int, max_width: int, max_height: int, top: float, bottom: float, left: float, right: float
) -> None:
    assume(1 / 16 <= width / height <= 16)
    share = Sides(top, bottom, left, right)
    sent = shrink_for_canvas(width, height, max_width, max_height, share)
    canvas = extend(*sent, share)
    assert canvas.canvas_width <= max_width
    assert canvas.canvas_height <= max_height
    whole = extend(width, height, share)
    if whole.canvas_width < max_width and whole.canvas_height < max_height:
        assert sent == (width, height)


@given(sides, sides)
def test_three_by_four(width: int, height: int) -> None:
    inside, around = three_by_four_inside(width, height), three_by_four_around(width, height)
    assert (inside.canvas_width, inside.canvas_height) == (width, height)
    assert (around.width, around.height) == (width, height)
    if min(width, height) >= 200:
        assert is_three_by_four(inside.width, inside.height, 0.005)
        assert is_three_by_four(around.canvas_width, around.canvas_height, 0.005)


def test_three_by_four_tolerance() -> None:
    assert is_three_by_four(768, 1024, 0.005)
    assert is_three_by_four(771, 1024, 0.005)
    assert not is_three_by_four(773, 1024, 0.005)
    assert not is_three_by_four(1024, 768, 0.005)
