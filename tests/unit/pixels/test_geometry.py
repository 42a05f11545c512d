"""Placement arithmetic: sides always add up, and nothing leaves its canvas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hidream_volcengine.api.core.choices import POSITIONS
from hidream_volcengine.api.core.errors import InvalidInputError
from hidream_volcengine.api.pixels.geometry import (
    Placement,
    Position,
    Sides,
    extend,
    fit_within,
    is_three_by_four,
    pad,
    place,
    place_in_aspect,
    round_half_up,
    shrink_for_canvas,
    three_by_four_around,
    three_by_four_inside,
)
from hypothesis import assume, example, given
from hypothesis import strategies as st

from devtools import vectors

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "placement.json"

Size = tuple[int, int]

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


@given(sides, sides, st.integers(64, 1024), st.integers(64, 1024), st.floats(0.05, 1.0))
@example(12000, 300, 1024, 1024, 0.5)
@example(12000, 300, 1024, 1024, 1.0)
@example(300, 12000, 1024, 64, 0.05)
@example(1000, 10, 1024, 1024, 0.05)
def test_placing_keeps_inside_and_in_shape(width: int, height: int, cw: int, ch: int, ratio: float) -> None:
    """As near to its shape as whole pixels come: what a node's widgets say is taken as the same placement is."""
    placement = place(width, height, cw, ch, ratio=ratio, position="bottom right")
    assert placement.right == placement.bottom == 0
    assert placement.left + placement.width + placement.right == cw
    assert placement.top + placement.height + placement.bottom == ch
    assert placement.fits_shape_of(width, height)
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


# ---- a canvas of an aspect ratio, and pixels per side

ASPECTS = [(1, 1), (5, 4), (4, 5), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16), (2, 1), (1, 2), (21, 9), (1.91, 1)]
aspects = st.sampled_from(ASPECTS)


@pytest.mark.parametrize(
    ("original", "aspect", "ratio", "canvas"),
    [
        ((6000, 4000), (16, 9), 1.0, (7111, 4000)),
        ((4000, 6000), (16, 9), 1.0, (10667, 6000)),
        ((6000, 4000), (1, 1), 0.5, (12000, 12000)),
        ((6000, 4000), (3, 2), 1.0, (6000, 4000)),
        ((3, 3), (3, 2), 1.0, (5, 3)),
        ((1, 1), (21, 9), 1.0, (2, 1)),
        ((1000, 500), (1.91, 1), 1.0, (1000, 524)),
    ],
)
def test_the_canvas_of_an_aspect_ratio(
    original: tuple[int, int], aspect: tuple[float, float], ratio: float, canvas: tuple[int, int]
) -> None:
    placement = place_in_aspect(*original, *aspect, ratio=ratio, position="center")
    assert (placement.canvas_width, placement.canvas_height) == canvas
    assert (placement.width, placement.height) == original


@given(sides, sides, aspects, st.floats(0.05, 1.0), st.sampled_from(POSITIONS[:-1]))
def test_an_aspect_ratio_keeps_the_original_and_adds_up(
    width: int, height: int, aspect: tuple[float, float], ratio: float, position: Position
) -> None:
    placement = place_in_aspect(width, height, *aspect, ratio=ratio, position=position)
    assert (placement.width, placement.height) == (width, height)
    assert placement.canvas_width >= width
    assert placement.canvas_height >= height
    assert placement.left + width + placement.right == placement.canvas_width
    assert placement.top + height + placement.bottom == placement.canvas_height
    # Of the wanted shape, give or take what whole pixels do, and no larger than it must be.
    exact = max(width, height * aspect[0] / aspect[1]) / ratio
    assert abs(placement.canvas_width - exact) <= 0.5 + 1e-6
    assert abs(placement.canvas_height - exact * aspect[1] / aspect[0]) <= 0.5 + 1e-6
    if position == "center":
        assert placement.right - placement.left in (0, 1)
        assert placement.bottom - placement.top in (0, 1)


def test_an_offset_in_an_aspect_ratio() -> None:
    at = place_in_aspect(200, 200, 2, 1, ratio=1.0, position="offset", x_offset=200)
    assert (at.left, at.right) == (200, 0)
    with pytest.raises(InvalidInputError, match=r"200×200 at 201, 0.*400×200"):
        place_in_aspect(200, 200, 2, 1, ratio=1.0, position="offset", x_offset=201)


@given(sides, sides, *[st.integers(0, 16384)] * 4)
def test_padding(width: int, height: int, left: int, top: int, right: int, bottom: int) -> None:
    placement = pad(width, height, left, top, right, bottom)
    assert (placement.width, placement.height) == (width, height)
    assert (placement.left, placement.top, placement.right, placement.bottom) == (left, top, right, bottom)
    assert placement.canvas_width == left + width + right
    assert placement.canvas_height == top + height + bottom


@pytest.mark.parametrize("side", range(4))
def test_a_negative_side_is_refused(side: int) -> None:
    with pytest.raises(InvalidInputError):
        pad(100, 80, *(-1 if index == side else 8 for index in range(4)))


# ---- the same placement at another size


@given(placements(), sides, sides)
def test_within_its_limits(placement: Placement, max_width: int, max_height: int) -> None:
    inside = placement.within(max_width, max_height)
    assert inside.canvas_width <= max_width
    assert inside.canvas_height <= max_height
    assert inside.left + inside.width + inside.right == inside.canvas_width
    if placement.canvas_width <= max_width and placement.canvas_height <= max_height:
        assert inside is placement
    else:
        assert inside.canvas_width == max_width or inside.canvas_height == max_height
        assert inside == placement.scaled_to(inside.canvas_width, inside.canvas_height)


def test_a_large_placement_within_a_small_canvas() -> None:
    assert Placement(9000, 4000, 1500, 0, 6000, 4000).within(1024, 1024) == Placement(1024, 455, 171, 0, 682, 455)


@given(placements(), sides, sides)
def test_native_gives_an_original_its_own_pixels(placement: Placement, width: int, height: int) -> None:
    native = placement.native(width, height)
    assert (native.width, native.height) == (width, height)
    assert native.canvas_width == round_half_up(placement.canvas_width * width / placement.width)
    assert native.canvas_height == round_half_up(placement.canvas_height * height / placement.height)
    assert native.x == round_half_up(placement.x * width / placement.width)
    assert native.y == round_half_up(placement.y * height / placement.height)
    assert native.left + native.width + native.right == native.canvas_width
    assert placement.native(placement.width, placement.height) == placement


def test_a_side_without_new_pixels_stays_one_at_native_size() -> None:
    native = Placement(1024, 455, 171, 0, 682, 455).native(6000, 4000)
    assert native == Placement(9009, 4000, 1504, 0, 6000, 4000)
    assert (native.top, native.bottom) == (0, 0)


@given(sides, sides, aspects, st.floats(0.05, 1.0), st.integers(64, 4096), st.integers(64, 4096))
def test_a_placement_fits_the_shape_of_its_own_image_at_every_scale(
    width: int, height: int, aspect: tuple[float, float], ratio: float, max_width: int, max_height: int
) -> None:
    placement = place_in_aspect(width, height, *aspect, ratio=ratio, position="center")
    assert placement.fits_shape_of(width, height)
    inside = placement.within(max_width, max_height)
    assert inside.fits_shape_of(width, height)
    assert inside.native(width, height).fits_shape_of(width, height)


@pytest.mark.parametrize(
    ("image", "sides_of_it"), [((8610, 1274), (398, 214, 702, 176)), ((14882, 1152), (0, 300, 600, 0))]
)
def test_a_panorama_fits_its_scaled_down_placement(image: Size, sides_of_it: tuple[int, int, int, int]) -> None:
    """What an outpaint node with a limit returns must not be refused afterwards, when it has been paid for."""
    assert pad(*image, *sides_of_it).within(1024, 1024).fits_shape_of(*image)


@given(sides, sides, *[st.integers(0, 4000)] * 4, st.integers(64, 4096), st.integers(64, 4096))
def test_padding_fits_the_shape_of_its_own_image_at_every_scale(
    width: int, height: int, left: int, top: int, right: int, bottom: int, max_width: int, max_height: int
) -> None:
    inside = pad(width, height, left, top, right, bottom).within(max_width, max_height)
    assert inside.fits_shape_of(width, height)


@pytest.mark.parametrize(
    ("rectangle", "image", "fits"),
    [
        ((512, 341), (600, 400), True),
        ((682, 455), (6000, 4000), True),
        ((13, 2), (300, 41), True),  # 300×41 is 13.7×1.9 there
        ((600, 400), (400, 600), False),
        ((1000, 1000), (1000, 1009), True),
        ((1000, 1000), (1000, 1011), False),
        ((512, 512), (600, 400), False),
        ((2, 2), (600, 400), True),
    ],
)
def test_fitting_the_shape_of_an_image(rectangle: tuple[int, int], image: tuple[int, int], fits: bool) -> None:
    placement = pad(*rectangle, 8, 8, 8, 8)
    assert placement.fits_shape_of(*image) is fits
    if fits:
        placement.check_shape_of(*image)
    else:
        with pytest.raises(InvalidInputError, match=f"{rectangle[0]}×{rectangle[1]}.*{image[0]}×{image[1]}"):
            placement.check_shape_of(*image)


# ---- test vectors for the JavaScript side


def test_the_vectors_are_what_this_geometry_gives() -> None:
    """After a change on purpose: python dev.py generate"""
    assert json.loads(VECTORS.read_text(encoding="utf-8")) == json.loads(json.dumps(vectors.vectors()))


def test_the_vectors_hold_every_function_with_errors_and_without() -> None:
    told = json.loads(VECTORS.read_text(encoding="utf-8"))
    assert {vector["function"] for vector in told} == {"place", "place_in_aspect", "pad", "within", "scaled_to"}
    assert {vector["function"] for vector in told if vector.get("error")} == {"place", "place_in_aspect", "pad"}
    assert all(vector.get("error") is True or vector["placement"]["width"] >= 1 for vector in told)


# ---- shares of sides, limits, 3:4


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
