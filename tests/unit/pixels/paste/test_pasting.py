"""Original pixels back on a generated picture: sizes by the formula, bytes that stay, edges that go on at the seam."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import skimage.data
from hidream_volcengine.api import choices
from hidream_volcengine.api.core.errors import InvalidInputError
from hidream_volcengine.api.pixels.geometry import Placement, place
from hidream_volcengine.api.pixels.paste.locate import likely_regions
from hidream_volcengine.api.pixels.paste.paste import Pasted, Settings, output_placement, paste_back
from hidream_volcengine.api.pixels.paste.register import Region
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from emulator.pictures import pictures
from tests.thinned import examples, thinned
from tests.unit.pixels.paste.scenes import Edges, Floats, Pixels, Texture, View, as_bytes

Size = tuple[int, int]
"""(width, height)"""

MOST_OFF = 0.05
"""How far an edge may be from its place in the new area, in pixels of the generated picture."""
EXACT, BLEND = Settings(), Settings(mode="blend")
FIGURE = re.compile(r"\d+(?:\.\d+)?")


def noise(size: Size, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def flat(size: Size, level: int) -> Pixels:
    return np.full((size[1], size[0], 3), level, np.uint8)


def half_up(numerator: int, denominator: int = 1) -> int:
    return floor(Fraction(numerator, denominator) + Fraction(1, 2))


def rows_and_columns(placement: Placement) -> tuple[slice, slice]:
    rows = slice(placement.y, placement.y + placement.height)
    return rows, slice(placement.x, placement.x + placement.width)


def inside(pixels: Pixels, placement: Placement) -> Pixels:
    return pixels[rows_and_columns(placement)]


def new_area(placement: Placement) -> np.ndarray:
    """(H, W) bool: where pixels are new."""
    new = np.ones((placement.canvas_height, placement.canvas_width), bool)
    new[rows_and_columns(placement)] = False
    return new


@dataclass(frozen=True)
class Case:
    """An original, where it lies, and the size of what came back."""

    original: Size
    placement: Placement
    generated: Size

    def __str__(self) -> str:
        place = self.placement
        canvas = f"{place.canvas_width}x{place.canvas_height}"
        return f"{self.original[0]}x{self.original[1]} in {canvas} as {self.generated[0]}x{self.generated[1]}"

    def region(self) -> Region:
        """The original's rectangle in what came back, by the three rules of the contract."""
        place, (width, height) = self.placement, self.generated
        canvas = (place.canvas_width, place.canvas_height)
        if max(abs(width - canvas[0]), abs(height - canvas[1])) <= 2:
            return Region(place.x, place.y, place.width, place.height)
        if width <= canvas[0] and height <= canvas[1]:
            scaled = place.scaled_to(width, height)
            return Region(scaled.x, scaled.y, scaled.width, scaled.height)
        across, down = width / canvas[0], height / canvas[1]
        return Region(place.x * across, place.y * down, place.width * across, place.height * down)

    def generated_view(self) -> View:
        """What the generated picture shows, in pixels of the original, whose corner is 0, 0."""
        region = self.region()
        step_x, step_y = self.original[0] / region.width, self.original[1] / region.height
        return View(*self.generated, -region.x * step_x, -region.y * step_y, step_x, step_y)

    def original_view(self) -> View:
        return View(*self.original)

    def output_view(self, output: Placement) -> View:
        step_x, step_y = self.original[0] / output.width, self.original[1] / output.height
        return View(output.canvas_width, output.canvas_height, -output.x * step_x, -output.y * step_y, step_x, step_y)


# ---- sizes


@pytest.mark.parametrize(
    ("original", "placement", "native"),
    [
        ((6000, 4000), Placement(1024, 576, 80, 0, 864, 576), (7111, 4000, 556, 0)),
        ((6000, 4000), Placement(9000, 6000, 1500, 1000, 6000, 4000), (9000, 6000, 1500, 1000)),
        # 50 is 33⅓ wide and 100 high: two scales that whole pixels keep apart.
        ((100, 301), Placement(60, 120, 10, 5, 33, 100), (182, 361, 30, 15)),
        ((101, 67), Placement(203, 135, 1, 67, 51, 34), (402, 266, 2, 132)),
        ((1, 1), Placement(3, 5, 1, 2, 1, 1), (3, 5, 1, 2)),
        ((1, 97), Placement(2, 97, 0, 0, 1, 97), (2, 97, 0, 0)),
        # Halves are rounded up: 5 · 3 / 2 = 7.5 and 1 · 3 / 2 = 1.5.
        ((3, 3), Placement(5, 5, 1, 1, 2, 2), (8, 8, 2, 2)),
    ],
)
def test_the_native_canvas(original: Size, placement: Placement, native: tuple[int, int, int, int]) -> None:
    canvas = (placement.canvas_width, placement.canvas_height)
    output = output_placement(placement, original, canvas, EXACT)
    assert (output.canvas_width, output.canvas_height, output.x, output.y) == native
    assert (output.width, output.height) == original


@st.composite
def cases(draw: st.DrawFn, longest: int = 60) -> Case:
    """Any original, placed at any of several scales, and come back at any of several more."""
    original = (draw(st.integers(1, longest)), draw(st.integers(1, longest)))
    zoom = draw(st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(1, 3), Fraction(37, 100), Fraction(2)]))
    width, height = (max(1, half_up(side * zoom.numerator, zoom.denominator)) for side in original)
    left, top, right, bottom = (draw(st.integers(0, 30)) for _ in range(4))
    placement = Placement(left + width + right, top + height + bottom, left, top, width, height)
    grown = draw(st.sampled_from([Fraction(1), Fraction(2), Fraction(4), Fraction(1, 2), Fraction(77, 100)]))
    off = (draw(st.integers(-2, 2)), draw(st.integers(-2, 2))) if grown == 1 else (0, 0)
    canvas = (placement.canvas_width, placement.canvas_height)
    generated = [
        max(1, half_up(side * grown.numerator, grown.denominator) + change)
        for side, change in zip(canvas, off, strict=True)
    ]
    return Case(original, placement, (generated[0], generated[1]))


@given(cases(), st.sampled_from([EXACT, BLEND, replace(BLEND, blend_pixels=3), replace(EXACT, correct=True)]))
@settings(max_examples=examples(150))
def test_exact_keeps_every_byte(case: Case, chosen: Settings) -> None:
    """… and the canvas is that of the formula; blending changes its band only."""
    original, place = noise(case.original), case.placement
    pasted = paste_back(noise(case.generated, 1), original, place, chosen)
    output, (width, height) = pasted.placement, case.original
    assert (output.canvas_width, output.canvas_height) == (
        half_up(place.canvas_width * width, place.width),
        half_up(place.canvas_height * height, place.height),
    )
    assert (output.x, output.y) == (half_up(place.x * width, place.width), half_up(place.y * height, place.height))
    assert (output.width, output.height) == case.original
    assert output == place.native(*case.original)
    assert pasted.pixels.shape == (output.canvas_height, output.canvas_width, 3)
    assert pasted.pixels.dtype == np.uint8
    assert pasted.mask.shape == pasted.pixels.shape[:2]
    assert pasted.mask.dtype == np.float32
    if chosen.mode == "exact":
        assert np.array_equal(inside(pasted.pixels, output), original)
        assert np.array_equal(pasted.mask, new_area(output).astype(np.float32))
        assert pasted.exact == output
        assert (pasted.report.after.max, pasted.report.after.mean) == (0, 0)
    elif pasted.exact is not None:
        whole = np.zeros((output.canvas_height, output.canvas_width, 3), np.uint8)
        whole[rows_and_columns(output)] = original
        assert np.array_equal(inside(pasted.pixels, pasted.exact), inside(whole, pasted.exact))
        assert (inside(pasted.mask, pasted.exact) == 0).all()


@given(cases(), st.fractions(Fraction(1, 20), 8), st.booleans())
@settings(max_examples=examples(100))
def test_other_output_sizes(case: Case, factor: Fraction, blended: bool) -> None:
    place, mode = case.placement, BLEND if blended else EXACT
    native = place.native(*case.original)
    chosen = replace(mode, output_size="factor", factor=float(factor))
    output = output_placement(place, case.original, case.generated, chosen)
    sides = (max(1, floor(side * float(factor) + 0.5)) for side in (native.canvas_width, native.canvas_height))
    assert output == native.scaled_to(*sides)

    chosen = replace(mode, output_size="generated")
    region = case.region()
    # Noise shows the original nowhere, or by chance somewhere else: where it lies is told.
    pasted = paste_back(noise(case.generated, 1), noise(case.original), place, chosen, painted=region)
    output = pasted.placement
    assert pasted.pixels.shape == (case.generated[1], case.generated[0], 3)
    assert (output.canvas_width, output.canvas_height) == case.generated
    # Whole pixels inside of G; where G holds none, the pixel that it is on.
    for start, length, real_start, real_length, side in (
        (output.x, output.width, region.x, region.width, case.generated[0]),
        (output.y, output.height, region.y, region.height, case.generated[1]),
    ):
        assert length >= 1
        if real_start + real_length <= side:  # or what came back was rounded into the original
            assert start - real_start < 1 + 1e-6
            assert real_start + real_length - start - length < 1 + 1e-6
    new = new_area(output)
    assert pasted.identity
    assert np.array_equal(pasted.pixels[new], noise(case.generated, 1)[new])


@pytest.mark.parametrize(
    ("generated", "region"),
    [
        # The canvas itself, or rounded another way: nothing moved.
        ((900, 600), (150, 100, 600, 400)),
        ((901, 599), (150, 100, 600, 400)),
        ((898, 602), (150, 100, 600, 400)),
        # Smaller: an outpaint node with a limit placed it in whole pixels. 150/7 = 21.4, 750/7 = 107.1.
        ((450, 300), (75, 50, 300, 200)),
        ((129, 86), (22, 14, 86, 58)),
        # Enlarged afterwards: wherever that puts it.
        ((1800, 1200), (300, 200, 1200, 800)),
        ((1000, 667), (150 / 0.9, 100 * 667 / 600, 600 / 0.9, 400 * 667 / 600)),
    ],
)
def test_where_the_original_lies_in_what_came_back(generated: Size, region: tuple[float, ...]) -> None:
    placement = Placement(900, 600, 150, 100, 600, 400)
    found = likely_regions(placement, *generated)[0]
    assert (found.x, found.y, found.width, found.height) == pytest.approx(region)


# ---- exact


@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("chosen", [EXACT, BLEND, replace(EXACT, output_size="generated")])
def test_one_pixel_is_enough(side: str, chosen: Settings) -> None:
    """Rectangles and pictures one pixel wide, at every scale; also with everything asked for at once."""
    chosen = replace(chosen, match_color=True, correct=True)
    for size in ((1, 1), (1, 40) if side == "width" else (40, 1)):
        placement = Placement(size[0] + 7, size[1] + 4, 3, 4, *size)
        for times in (1, 2, 4):
            generated = (placement.canvas_width * times, placement.canvas_height * times)
            pasted = paste_back(noise(generated), noise(size, 1), placement, chosen)
            if chosen == replace(EXACT, match_color=True, correct=True):
                assert np.array_equal(inside(pasted.pixels, pasted.placement), noise(size, 1))
    nothing_new = Placement(9, 5, 0, 0, 9, 5)
    pasted = paste_back(noise((9, 5)), noise((9, 5), 1), nothing_new, chosen)
    assert np.array_equal(pasted.pixels, noise((9, 5), 1))
    assert not pasted.mask.any()


def test_the_inputs_are_left_alone() -> None:
    generated, original = noise((90, 80)), noise((60, 40), 1)
    copies = generated.copy(), original.copy()
    generated.flags.writeable = original.flags.writeable = False
    everything = Settings("blend", 8, "factor", 0.7, match_color=True, correct=True)
    for chosen in (EXACT, everything, replace(everything, output_size="native")):
        pasted = paste_back(generated, original, Placement(90, 80, 20, 30, 60, 40), chosen)
        assert not np.shares_memory(pasted.pixels, generated)
        assert not np.shares_memory(pasted.pixels, original)
    assert np.array_equal(generated, copies[0])
    assert np.array_equal(original, copies[1])


def test_an_original_resized_for_the_output_is_nobodys_own_pixels() -> None:
    case = Case((60, 40), Placement(90, 80, 20, 30, 60, 40), (90, 80))
    pasted = paste_back(
        noise(case.generated), noise(case.original), case.placement, replace(EXACT, output_size="factor", factor=0.5)
    )
    assert pasted.placement == Placement(45, 40, 10, 15, 30, 20)
    assert pasted.exact is None
    assert pasted.report.original_resized
    assert np.array_equal(pasted.mask, new_area(pasted.placement).astype(np.float32))


def test_an_original_at_the_size_that_came_back_stays_untouched_too() -> None:
    """`generated` of a canvas at the original's scale is the native size."""
    case = Case((60, 40), Placement(90, 80, 20, 30, 60, 40), (90, 80))
    pasted = paste_back(
        noise(case.generated, 1), noise(case.original), case.placement, replace(EXACT, output_size="generated")
    )
    assert np.array_equal(inside(pasted.pixels, case.placement), noise(case.original))
    assert pasted.exact == case.placement
    assert not pasted.report.original_resized


# ---- identity


@pytest.mark.parametrize("chosen", [EXACT, BLEND, replace(EXACT, correct=True, match_color=True)])
def test_nothing_asked_is_nothing_done(chosen: Settings) -> None:
    """What comes back in the native size, with the original unharmed in it, comes out as it was, bit by bit."""
    case = Case((211, 163), Placement(302, 251, 41, 17, 211, 163), (302, 251))
    scene = Texture(3)
    generated = scene.draw(case.generated_view())
    original = inside(generated, case.placement).copy()
    pasted = paste_back(generated, original, case.placement, chosen)
    assert pasted.identity
    assert np.array_equal(pasted.pixels, generated)
    assert not pasted.report.generated_resized
    assert not pasted.report.original_resized
    assert not pasted.report.corrected
    assert (pasted.report.before.max, pasted.report.after.max) == (0, 0)


@pytest.mark.parametrize("mode", [EXACT, BLEND])
def test_new_pixels_of_the_native_size_are_not_resampled(mode: Settings) -> None:
    """Noise shows any resampling: every new pixel is the generated one's, whatever lies inside."""
    placement = Placement(151, 99, 13, 20, 100, 60)
    generated = noise((151, 99))
    pasted = paste_back(generated, noise((100, 60), 1), placement, mode)
    new = new_area(placement)
    assert np.array_equal(pasted.pixels[new], generated[new])
    assert pasted.identity


@pytest.mark.parametrize("off", [(1, 0), (0, -1), (2, -2), (-2, 2), (-1, -1), (2, 2)])
def test_a_canvas_rounded_another_way_is_cut_or_filled_and_not_scaled(off: tuple[int, int]) -> None:
    placement = Placement(151, 99, 13, 20, 100, 60)
    generated = noise((151 + off[0], 99 + off[1]))
    original = noise((100, 60), 1)
    pasted = paste_back(generated, original, placement, EXACT)
    assert pasted.pixels.shape == (99, 151, 3)
    assert np.array_equal(inside(pasted.pixels, placement), original)
    both = (slice(0, min(99, 99 + off[1])), slice(0, min(151, 151 + off[0])))
    new = new_area(placement)[both]
    assert np.array_equal(pasted.pixels[both][new], generated[both][new])
    # Where it ends too early its last pixels go on.
    for axis, (have, want) in enumerate(((generated.shape[0], 99), (generated.shape[1], 151))):
        if have < want:
            last, beyond = pasted.pixels.take(have - 1, axis), pasted.pixels.take(want - 1, axis)
            assert np.array_equal(last, beyond)


# ---- no shift


def edges_of(case: Case, view: View, output: View) -> Edges:
    """Three lines through the original, soft enough to be drawn exactly with the pixels of either view."""
    places = (case.original[0] * 0.3, case.original[0] * 0.5, case.original[0] * 0.7)
    return Edges(places, (0.11, -0.23, 0.0), 1.5 * max(view.step_x, output.step_x, 1))


def turned(view: View) -> View:
    """The view with x and y exchanged: what is drawn there and turned back has horizontal edges."""
    return View(view.height, view.width, view.top, view.left, view.step_y, view.step_x)


def edge_errors(
    case: Case, chosen: Settings = EXACT, *, horizontal: bool = False, moved: float = 0.0
) -> tuple[Pasted, Floats]:
    """How far edges that cross both seams are from their places in the new area, up to the seam itself.

    In pixels: of what came back or, where those are coarser, of the result (8 bits tell no place more exactly).
    ``moved``: how much too far right (or down) what came back shows its content, in its own pixels.
    """
    output = output_placement(case.placement, case.original, case.generated, chosen)
    views = case.generated_view(), case.original_view(), case.output_view(output)
    turn = turned if horizontal else (lambda view: view)
    view, original_view, expected = (turn(each) for each in views)
    edges = edges_of(case if not horizontal else Case(case.original[::-1], output, (0, 0)), view, expected)
    generated = edges.draw(replace(view, left=view.left - moved * view.step_x))
    original = edges.draw(original_view)
    if horizontal:
        generated, original = generated.swapaxes(0, 1), original.swapaxes(0, 1)
    pasted = paste_back(generated, original, case.placement, chosen)
    assert pasted.placement == output
    pixels = pasted.pixels.swapaxes(0, 1) if horizontal else pasted.pixels
    begin, length = (output.x, output.width) if horizontal else (output.y, output.height)
    # The last pixels before the canvas ends have nothing beyond them to be made of.
    border = 4 * int(np.ceil(view.step_y / expected.step_y))
    parts = slice(border, begin), slice(begin + length, expected.height - border)
    errors = np.concatenate([edges.errors(pixels, expected, rows) for rows in parts])
    assert len(errors) > 20
    return pasted, errors / max(view.step_x, expected.step_x)


EDGE_CASES = [
    # As it is, halved, and rounded by one and two pixels.
    Case((240, 180), Placement(360, 300, 60, 60, 240, 180), (360, 300)),
    Case((240, 180), Placement(360, 300, 60, 60, 240, 180), (180, 150)),
    Case((240, 180), Placement(360, 300, 60, 60, 240, 180), (361, 299)),
    Case((240, 180), Placement(360, 300, 60, 60, 240, 180), (358, 302)),
    # A service's canvas, whose whole pixels give the two axes scales of their own; and odd everywhere.
    Case((401, 303), place(401, 303, 200, 170, ratio=0.7, position="center"), (200, 170)),
    Case((401, 303), place(401, 303, 200, 170, ratio=0.7, position="offset", x_offset=31, y_offset=33), (200, 170)),
    Case((299, 199), Placement(251, 233, 33, 41, 149, 99), (251, 233)),
    # A service that enlarges after that.
    Case((401, 303), place(401, 303, 200, 170, ratio=0.7, position="center"), (400, 340)),
    Case((401, 303), place(401, 303, 100, 85, ratio=0.7, position="center"), (400, 340)),
    Case((299, 199), Placement(251, 233, 33, 41, 149, 99), (377, 350)),
    # A placement at full scale and a service with a smaller canvas: whole pixels again.
    Case((600, 400), Placement(900, 600, 150, 100, 600, 400), (103, 69)),
    Case((600, 400), Placement(901, 603, 167, 101, 600, 400), (171, 114)),
    # An original smaller than its place.
    Case((150, 100), Placement(450, 400, 75, 100, 300, 200), (450, 400)),
    Case((151, 101), Placement(450, 400, 75, 100, 300, 201), (900, 800)),
]
"""Where and how an outpainted picture may come back."""


@thinned("case", EDGE_CASES, ids=str, kept=(0, 4, 8))
def test_edges_go_on_where_the_seam_is(case: Case) -> None:
    _, errors = edge_errors(case)
    assert np.abs(errors).max() <= MOST_OFF
    assert abs(errors.mean()) <= MOST_OFF / 2, "no side that all edges are moved to"


@thinned("case", EDGE_CASES[3::2], ids=str, kept=(1,))
def test_horizontal_edges_go_on_too(case: Case) -> None:
    _, errors = edge_errors(case, horizontal=True)
    assert np.abs(errors).max() <= MOST_OFF
    assert abs(errors.mean()) <= MOST_OFF / 2


@pytest.mark.parametrize("factor", [0.5, 1.37])
@thinned("case", [EDGE_CASES[index] for index in (4, 8, 11)], ids=str, kept=(1,))
def test_edges_go_on_at_other_sizes_too(case: Case, factor: float) -> None:
    """Here the original is resampled as well, and still meets what is new."""
    chosen = replace(EXACT, output_size="factor", factor=factor)
    pasted, errors = edge_errors(case, chosen)
    assert np.abs(errors).max() <= MOST_OFF
    view, expected = case.generated_view(), case.output_view(pasted.placement)
    rows = slice(pasted.placement.y, pasted.placement.y + pasted.placement.height)
    inner = edges_of(case, view, expected).errors(pasted.pixels, expected, rows) / max(view.step_x, expected.step_x)
    assert np.abs(inner).max() <= MOST_OFF


@thinned("case", EDGE_CASES[4::2], ids=str, kept=(1,))
def test_the_original_is_put_where_it_belongs_in_what_came_back(case: Case) -> None:
    """`output_size` generated: the generated picture stays, and the original's edges meet its own, inside."""
    view = case.generated_view()
    edges = edges_of(case, view, view)
    generated, original = edges.draw(view), edges.draw(case.original_view())
    pasted = paste_back(generated, original, case.placement, replace(EXACT, output_size="generated"))
    rows = slice(pasted.placement.y + 1, pasted.placement.y + pasted.placement.height - 1)
    errors = edges.errors(pasted.pixels, view, rows) / max(view.step_x, 1)
    assert np.abs(errors).max() <= MOST_OFF
    assert pasted.identity


def test_a_moved_picture_is_seen_by_this_measure() -> None:
    """The measure itself: 0.1 px of shift is found as that."""
    _, errors = edge_errors(EDGE_CASES[4], moved=0.1)
    assert errors.mean() == pytest.approx(0.1, abs=0.02)


def test_a_photograph_of_24_megapixels_from_a_picture_of_one() -> None:
    """6000×4000 in 9000×6000, come back as 1024×683: one line of what came back is nine of the result."""
    case = Case((6000, 4000), Placement(9000, 6000, 1500, 1000, 6000, 4000), (1024, 683))
    assert case.region() == Region(171, 114, 682, 455)
    view, expected = case.generated_view(), case.output_view(case.placement)
    edges = edges_of(case, view, expected)
    original = np.tile(noise((600, 400)), (10, 10, 1))
    pasted = paste_back(edges.draw(view), original, case.placement, EXACT)
    assert pasted.placement == case.placement
    assert np.array_equal(inside(pasted.pixels, case.placement), original)
    for rows in (slice(500, 1000), slice(5000, 5500)):
        assert np.abs(edges.errors(pasted.pixels, expected, rows)).max() / view.step_x <= MOST_OFF


@pytest.mark.parametrize("times", [2, 4])
def test_after_an_upscale_new_pixels_are_finer(times: int) -> None:
    """What an upscaler adds is kept: the new area of the result is as near to the scene as its size allows."""
    placement = place(480, 360, 256, 200, ratio=0.6, position="center")
    case = Case((480, 360), placement, (256 * times, 200 * times))
    scene = Texture(5, finest=9)
    generated, original = scene.draw(case.generated_view()), scene.draw(case.original_view())
    pasted = paste_back(generated, original, placement, EXACT)
    truth = scene.draw(case.output_view(pasted.placement))
    new = new_area(pasted.placement)
    new[:8] = new[-8:] = new[:, :8] = new[:, -8:] = False
    error = np.abs(pasted.pixels[new].astype(float) - truth[new])
    assert error.mean() < (1.5 if times == 4 else 3.0)
    assert np.array_equal(inside(pasted.pixels, pasted.placement), original)


# ---- blend


def share_of_the_original(placement: Placement, band: int) -> np.ndarray:
    """(H, W): min(1, (d + 0.5) / band) inside, d whole pixels from the nearest side that has new pixels; else 0."""
    share = np.zeros((placement.canvas_height, placement.canvas_width))
    for row in range(placement.height):
        for column in range(placement.width):
            away = [
                distance
                for distance, new in (
                    (column, placement.left),
                    (row, placement.top),
                    (placement.width - 1 - column, placement.right),
                    (placement.height - 1 - row, placement.bottom),
                )
                if new
            ]
            depth = min(away, default=band)
            share[placement.y + row, placement.x + column] = min(1.0, (depth + 0.5) / band)
    return share


BLENDS = [
    (Placement(70, 60, 10, 8, 50, 44), 6),
    (Placement(70, 60, 0, 8, 50, 44), 6),
    (Placement(60, 44, 10, 0, 50, 44), 9),
    (Placement(50, 52, 0, 8, 50, 44), 1),
    (Placement(50, 44, 0, 0, 50, 44), 16),
    (Placement(71, 61, 11, 9, 7, 5), 16),
    (Placement(71, 61, 11, 9, 60, 52), 1024),
    (Placement(3, 3, 1, 1, 1, 1), 4),
]


@thinned(("placement", "band"), BLENDS, ids=str, kept=(0, 3))
def test_the_blend_band(placement: Placement, band: int) -> None:
    """Its width, where it is, and that nothing else is touched."""
    size, canvas = (placement.width, placement.height), (placement.canvas_width, placement.canvas_height)
    share = share_of_the_original(placement, band)
    chosen = Settings("blend", band)
    pasted = paste_back(noise(canvas), noise(size, 1), placement, chosen)
    assert pasted.mask == pytest.approx(1 - share, abs=1e-6)
    whole = np.zeros_like(pasted.pixels)
    whole[rows_and_columns(placement)] = noise(size, 1)
    expected = share[..., None] * whole + (1 - share[..., None]) * noise(canvas)
    assert np.abs(pasted.pixels - expected).max() <= 0.5 + 1e-3
    untouched = share == 1
    assert np.array_equal(pasted.pixels[untouched], whole[untouched])
    if pasted.exact is None:
        assert not untouched.any()
    else:
        covered = np.zeros_like(untouched)
        covered[rows_and_columns(pasted.exact)] = True
        assert np.array_equal(covered, untouched)
    outside = share == 0
    plain = paste_back(noise(canvas), noise(size, 1), placement, EXACT)
    assert np.array_equal(pasted.pixels[outside], plain.pixels[outside])


def test_the_band_rises_from_the_seam_inwards() -> None:
    placement = Placement(100, 90, 20, 0, 60, 90)
    pasted = paste_back(flat((100, 90), 200), flat((60, 90), 0), placement, Settings("blend", 20))
    line = pasted.pixels[45, :, 0].astype(int)
    assert (line[:20] == 200).all()
    assert (np.diff(line[19:41]) <= 0).all()
    assert (line[40:60] == 0).all()
    assert np.array_equal(line, line[::-1])
    # No new pixels above and below: no band there.
    assert (pasted.pixels == pasted.pixels[45]).all()


def test_both_halves_of_a_blend_lie_on_each_other() -> None:
    """In the band the generated picture is as exactly in place as outside: two edges would be seen as one wide one."""
    case = Case((240, 180), Placement(150, 130, 31, 37, 80, 60), (150, 130))
    view = case.generated_view()
    edges = edges_of(case, view, case.original_view())
    generated, original = edges.draw(view), edges.draw(case.original_view())
    pasted = paste_back(generated, original, case.placement, Settings("blend", 40))
    output = pasted.placement
    errors = edges.errors(pasted.pixels, case.output_view(output), slice(output.y, output.y + output.height))
    assert np.abs(errors).max() / view.step_x <= MOST_OFF


# ---- registration


def moved_texture(shift: tuple[float, float], scale: float = 1.0) -> tuple[Case, Pixels, Pixels, Texture]:
    """A picture whose content lies ``shift`` further than the placement says, and is ``scale`` times as large."""
    case = Case((400, 300), Placement(600, 480, 90, 80, 400, 300), (600, 480))
    scene = Texture(11, finest=14)
    view = case.generated_view()
    # About the middle of the original, 200, 150.
    left, top = 200 + (view.left - shift[0] - 200) / scale, 150 + (view.top - shift[1] - 150) / scale
    moved = View(600, 480, left, top, 1 / scale, 1 / scale)
    return case, scene.draw(moved), scene.draw(case.original_view()), scene


def error_of_new_pixels(pasted: Pasted, case: Case, scene: Texture) -> float:
    truth = scene.draw(case.output_view(pasted.placement))
    new = new_area(pasted.placement)
    new[:24] = new[-24:] = new[:, :24] = new[:, -24:] = False  # what was moved in from beyond the canvas is not known
    return float(np.abs(pasted.pixels[new].astype(float) - truth[new]).mean())


@thinned(
    ("shift", "scale"), [((1.3, -0.8), 1.0), ((-6.5, 4.25), 1.0), ((0.0, 0.4), 1.012), ((2.5, -1.5), 0.985)]
)
def test_a_small_shift_is_reported_and_on_request_corrected(shift: tuple[float, float], scale: float) -> None:
    case, generated, original, scene = moved_texture(shift, scale)
    reported = paste_back(generated, original, case.placement, EXACT)
    measured = reported.report.registration
    assert measured is not None
    assert (measured.shift_x, measured.shift_y) == pytest.approx(shift, abs=0.1)
    assert (measured.scale_x, measured.scale_y) == pytest.approx((scale, scale), abs=0.001)
    assert not reported.report.corrected
    new = new_area(case.placement)
    assert np.array_equal(reported.pixels[new], generated[new])

    corrected = paste_back(generated, original, case.placement, replace(EXACT, correct=True))
    assert corrected.report.corrected
    assert corrected.report.generated_resized
    assert not corrected.identity
    assert np.array_equal(inside(corrected.pixels, case.placement), original), "the original never moves"
    assert error_of_new_pixels(corrected, case, scene) < 1.0
    assert error_of_new_pixels(reported, case, scene) > 3 * error_of_new_pixels(corrected, case, scene)
    assert corrected.report.before.mean < reported.report.before.mean / 3


@thinned(("shift", "scale"), [((14.0, 0.0), 1.0), ((0.0, -11.0), 1.0), ((0.0, 0.0), 1.04)], kept=(0, 2))
def test_a_large_shift_is_reported_and_never_corrected(shift: tuple[float, float], scale: float) -> None:
    case, generated, original, _ = moved_texture(shift, scale)
    corrected = paste_back(generated, original, case.placement, replace(EXACT, correct=True))
    measured = corrected.report.registration
    assert measured is not None
    assert not measured.is_small
    assert not corrected.report.corrected
    new = new_area(case.placement)
    assert np.array_equal(corrected.pixels[new], generated[new])
    words = "\n".join(str(text) for text in corrected.report.summary())
    assert re.search(r"14|11|1\.04|4", words), words


def test_what_is_aligned_is_left_alone() -> None:
    case, generated, original, _ = moved_texture((0.05, 0.0))
    pasted = paste_back(generated, original, case.placement, replace(EXACT, correct=True))
    assert pasted.report.registration is not None
    assert pasted.report.registration.is_aligned
    assert not pasted.report.corrected
    assert pasted.identity


def cartoon(width: int, height: int) -> Pixels:
    """Smooth shapes of one colour each: no detail but their outlines."""
    random = np.random.default_rng(5)
    canvas = Image.new("RGB", (width * 4, height * 4), (210, 180, 120))
    draw = ImageDraw.Draw(canvas)
    for _ in range(14):
        x, y = random.uniform(0, 1, 2) * (width * 4, height * 4)
        across, down = random.uniform(0.05, 0.3, 2) * width * 4
        colour = tuple(int(level) for level in random.integers(0, 256, 3))
        draw.ellipse((x - across, y - down, x + across, y + down), fill=colour)
    return np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("times", [1, 2, 4])
@thinned("name", ["cartoon", "astronaut", "chelsea"], kept=(1,))
def test_what_a_service_puts_in_place_is_never_called_out_of_place(name: str, times: int) -> None:
    """Reduced for a service, painted around, enlarged and sharpened: with the placement that it was painted with."""
    original = cartoon(384, 384) if name == "cartoon" else getattr(skimage.data, name)()
    size = (original.shape[1], original.shape[0])
    placement = place(*size, 512, 288, ratio=1, position="center")
    sent = Image.fromarray(original).resize((placement.width, placement.height), Image.Resampling.LANCZOS)
    painted = pictures.outpaint(sent, (512, 288), (placement.x, placement.y), seed=1)
    generated = np.asarray(painted if times == 1 else pictures.upscale(painted, times))
    report = paste_back(generated, original, placement, replace(EXACT, correct=True)).report
    assert report.registration is not None
    assert report.registration.is_aligned
    assert not report.corrected
    assert len(report.summary()) == 1, "the difference, and no warning"


def test_nothing_to_measure_is_said() -> None:
    placement = Placement(300, 200, 60, 40, 180, 120)
    pasted = paste_back(flat((300, 200), 90), flat((180, 120), 80), placement, replace(EXACT, correct=True))
    assert pasted.report.registration is None
    assert not pasted.report.corrected
    assert pasted.identity
    assert len(pasted.report.lines()) > 2


# ---- colour


def test_a_cast_is_taken_from_the_new_area_only() -> None:
    case = Case((300, 240), Placement(480, 400, 90, 80, 300, 240), (480, 400))
    scene = Texture(2, finest=10)
    truth, original = scene.draw(case.generated_view()), scene.draw(case.original_view())
    cast = np.array([9, -6, 3])
    generated = as_bytes(truth + cast.astype(float))
    plain = paste_back(generated, original, case.placement, EXACT)
    matched = paste_back(generated, original, case.placement, replace(EXACT, match_color=True))
    new = new_area(case.placement)
    assert np.abs(plain.pixels[new].astype(float) - truth[new]).mean() > 5
    assert np.abs(matched.pixels[new].astype(float) - truth[new]).mean() < 1
    assert np.array_equal(inside(matched.pixels, case.placement), original)
    assert plain.report.color_offset is None
    assert matched.report.color_offset == pytest.approx(-cast, abs=0.5)
    assert not matched.identity


def test_no_cast_is_no_change() -> None:
    case = Case((300, 240), Placement(480, 400, 90, 80, 300, 240), (480, 400))
    scene = Texture(2)
    generated, original = scene.draw(case.generated_view()), scene.draw(case.original_view())
    matched = paste_back(generated, original, case.placement, replace(EXACT, match_color=True))
    assert np.array_equal(matched.pixels, generated)
    assert matched.identity
    assert matched.report.color_offset == (0, 0, 0)


def test_the_blend_band_takes_the_corrected_colours() -> None:
    """The generated share of the band is corrected as the new area is: no step where the band begins."""
    placement = Placement(300, 200, 60, 0, 180, 200)
    original, generated = flat((180, 200), 120), flat((300, 200), 140)
    pasted = paste_back(generated, original, placement, Settings("blend", 30, match_color=True))
    assert np.abs(pasted.pixels.astype(int) - 120).max() <= 1


# ---- what is refused, and what is told


PLACEMENT = Placement(200, 120, 50, 30, 100, 60)


@pytest.mark.parametrize(
    ("original", "generated", "named"),
    [
        ((100, 100), (200, 120), ("100×100", "100×60")),
        ((60, 100), (200, 120), ("60×100", "100×60")),
        ((1000, 640), (200, 120), ("1000×640", "100×60")),
        ((100, 60), (200, 200), ("200×200", "200×120")),
        ((100, 60), (400, 251), ("400×251", "200×120")),
        ((100, 60), (120, 200), ("120×200", "200×120")),
    ],
)
def test_other_shapes_are_refused_and_both_sizes_named(original: Size, generated: Size, named: tuple[str, str]) -> None:
    for chosen in (EXACT, replace(BLEND, output_size="generated")):
        with pytest.raises(InvalidInputError) as arithmetic:
            output_placement(PLACEMENT, original, generated, chosen)
        with pytest.raises(InvalidInputError) as problem:
            paste_back(noise(generated), noise(original), PLACEMENT, chosen)
        for error in (arithmetic.value, problem.value):
            english, chinese = str(error).strip().split("\n")
            assert all(size in english and size in chinese for size in named), str(error)


@pytest.mark.parametrize(
    ("original", "generated"),
    [
        # Whole pixels of the placed size, two of what came back, and one part in a hundred.
        ((100, 60), (202, 118)),
        ((302, 180), (200, 120)),
        ((299, 180), (200, 120)),
        ((100, 60), (400, 241)),
        ((100, 60), (1000, 605)),
        ((100, 60), (50, 30)),
    ],
)
def test_rounded_shapes_are_taken(original: Size, generated: Size) -> None:
    pasted = paste_back(noise(generated), noise(original, 1), PLACEMENT, EXACT)
    assert np.array_equal(inside(pasted.pixels, pasted.placement), noise(original, 1))


def test_the_numbers_of_the_report() -> None:
    placement = Placement(300, 200, 60, 40, 180, 120)
    generated, original = flat((300, 200), 100), flat((180, 120), 100)
    generated[50, 70] = 160
    generated[100:110, 100:110, 0] = 90
    report = paste_back(generated, original, placement, EXACT).report
    assert report.before.max == 60
    assert report.before.mean == pytest.approx((3 * 60 + 100 * 10) / (180 * 120 * 3))
    assert (report.after.max, report.after.mean) == (0, 0)
    assert report.placement == placement
    blended = paste_back(generated, original, placement, Settings("blend", 40)).report
    assert 0 < blended.after.max < 60
    assert blended.before == report.before


def test_every_line_is_in_both_languages() -> None:
    for chosen in (EXACT, Settings("blend", 8, "factor", 0.5, match_color=True, correct=True)):
        for shift in ((0.0, 0.0), (1.5, 1.0), (20.0, 0.0)):
            case, generated, original, _ = moved_texture(shift)
            report = paste_back(generated, original, case.placement, chosen).report
            for text in (*report.lines(), *report.summary()):
                assert text.en
                assert not re.search("[\u4e00-\u9fff]", text.en)
                assert re.search("[\u4e00-\u9fff]", text.zh)
                # The same figures in both, whatever their order.
                assert sorted(FIGURE.findall(text.en)) == sorted(FIGURE.findall(text.zh)), str(text)
            assert len(report.summary()) >= 1
            assert str(report.before.max) in report.summary()[0].en


def test_the_choices() -> None:
    assert choices.PASTE_MODES == ("exact", "blend")
    assert choices.OUTPUT_SIZES == ("native", "generated", "factor")
    assert Settings() == Settings("exact", 16, "native", 1.0, False, False)


@pytest.mark.parametrize(("pixels", "told"), [(16, False), (30, True)])
def test_a_fade_that_leaves_no_pixel_as_it_was_is_told(pixels: int, told: bool) -> None:
    placement = Placement(100, 90, 20, 20, 60, 50)
    pasted = paste_back(noise((100, 90), 1), noise((60, 50)), placement, replace(BLEND, blend_pixels=pixels))
    for texts in (pasted.report.summary(), pasted.report.lines()):
        assert any("No pixel of the original is as it was" in text.en for text in texts) is told
        assert any("没有像素保持原样" in text.zh for text in texts) is told


@pytest.mark.parametrize(("cast", "told"), [(-20, False), (-60, True)])
def test_a_cast_beyond_the_limit_is_told(cast: int, told: bool) -> None:
    placement = Placement(300, 200, 60, 40, 180, 120)
    original = np.full((120, 180, 3), 150, np.uint8)
    generated = np.full((200, 300, 3), 150 + cast, np.uint8)
    report = paste_back(generated, original, placement, replace(EXACT, match_color=True)).report
    for texts in (report.summary(), report.lines()):
        assert any("off by more than is corrected" in text.en for text in texts) is told


def test_white_in_the_band_of_a_blend_is_not_greyed() -> None:
    """The generated picture has the cast of a darker one everywhere but in its white part, which was right."""
    placement = Placement(300, 200, 60, 40, 180, 120)
    original = np.full((120, 180, 3), 120, np.uint8)
    original[:60] = 255
    generated = np.full((200, 300, 3), 150, np.uint8)
    generated[:100] = 255
    pasted = paste_back(generated, original, placement, replace(BLEND, match_color=True))
    assert (pasted.pixels[:90] == 255).all()
    assert abs(float(pasted.pixels[150:].mean()) - 120) < 3
