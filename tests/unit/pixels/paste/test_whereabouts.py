"""api.pixels.paste.locate: of the places where the original can lie in a generated picture, it finds the true one."""

from __future__ import annotations

import numpy as np
import pytest
from hidream_volcengine.api.pixels.geometry import Placement, pad, place_in_aspect
from hidream_volcengine.api.pixels.paste.locate import likely_regions, painted_region
from hidream_volcengine.api.pixels.paste.paste import Settings, paste_back
from hidream_volcengine.api.pixels.paste.resample import Region
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.thinned import thinned
from tests.unit.pixels.paste.scenes import Pixels, Texture, View, as_bytes

SCENE = Texture(seed=3)
LAYOUTS = {
    "two sides": place_in_aspect(1000, 872, 16, 9, ratio=1.0, position="center"),
    "uneven sides": pad(1201, 803, 277, 0, 278, 131),
    "all sides": place_in_aspect(1400, 933, 3, 2, ratio=0.7, position="center"),
}


def shown(size: tuple[int, int], region: Region, original: tuple[int, int], enlarged: int = 1) -> Pixels:
    """A picture that shows the original in `region`, enlarged afterwards."""
    step_x, step_y = original[0] / region.width, original[1] / region.height
    picture = SCENE.draw(View(*size, -region.x * step_x, -region.y * step_y, step_x, step_y))
    target = (size[0] * enlarged, size[1] * enlarged)
    return np.asarray(Image.fromarray(picture).resize(target, Image.Resampling.BICUBIC))


def on_whole_pixels(placement: Placement, factor: int = 1) -> Region:
    return Region(placement.x * factor, placement.y * factor, placement.width * factor, placement.height * factor)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@thinned("enlarged", [1, 2, 4], kept=(0, 2))
@thinned("cast", [0, 25], kept=(1,))
def test_whole_pixels_of_a_smaller_canvas(layout: Placement, enlarged: int, cast: int) -> None:
    """What an outpaint node with a limit paints, and an upscaler enlarges: the asked placement is enough to find it."""
    used = layout.within(640, 640)
    original = (layout.width, layout.height)
    canvas = (used.canvas_width, used.canvas_height)
    picture = as_bytes(shown(canvas, on_whole_pixels(used), original, enlarged) * 0.9 + cast)
    found, there = painted_region(picture, SCENE.draw(View(*original)), layout), on_whole_pixels(used, enlarged)
    # To a tenth of a painted pixel: what is nearer than that looks the same.
    off = 0.1 * enlarged
    assert (found.x, found.y) == pytest.approx((there.x, there.y), abs=off)
    assert (found.x + found.width, found.y + found.height) == pytest.approx(
        (there.x + there.width, there.y + there.height), abs=off
    )
    # And so is the placement that the node returned.
    assert painted_region(picture, SCENE.draw(View(*original)), used) == on_whole_pixels(used, enlarged)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("limit", [640, 1900])
def test_a_padded_picture_that_was_scaled_as_it_is(layout: Placement, limit: int) -> None:
    """… as Volcengine Outpaint (Canvas) and Upscale Image do: the original then lies on fractions of pixels."""
    scale = limit / max(layout.canvas_width, layout.canvas_height)
    canvas = (round(layout.canvas_width * scale), round(layout.canvas_height * scale))
    across, down = canvas[0] / layout.canvas_width, canvas[1] / layout.canvas_height
    region = Region(layout.x * across, layout.y * down, layout.width * across, layout.height * down)
    original = (layout.width, layout.height)
    found = painted_region(shown(canvas, region, original), SCENE.draw(View(*original)), layout)
    assert (found.x, found.y) == pytest.approx((region.x, region.y), abs=0.05)
    assert (found.width, found.height) == pytest.approx((region.width, region.height), abs=0.1)


@thinned("enlarged", [1, 4])
def test_the_canvas_that_was_asked_for_comes_out(enlarged: int) -> None:
    """Pasted back by the placement that was asked for: its very canvas, and nothing out of place."""
    layout = LAYOUTS["two sides"]
    used = layout.within(640, 640)
    original = SCENE.draw(View(layout.width, layout.height))
    picture = shown((used.canvas_width, used.canvas_height), on_whole_pixels(used), (1000, 872), enlarged)
    pasted = paste_back(picture, original, layout, Settings())
    assert pasted.placement == layout
    assert pasted.report.registration is not None
    assert pasted.report.registration.is_aligned
    assert paste_back(picture, original, used, Settings()).placement != layout


def test_a_flat_picture_lies_where_it_most_likely_does() -> None:
    layout = LAYOUTS["uneven sides"]
    flat = np.full((320, 600, 3), 90, np.uint8)
    original = np.full((803, 1201, 3), 90, np.uint8)
    assert painted_region(flat, original, layout) == likely_regions(layout, 600, 320)[0]


@given(*[st.integers(1, 3000)] * 2, *[st.integers(0, 900)] * 4, st.integers(1, 4000), st.integers(1, 4000))

def test_every_likely_place_is_inside(
    width: int, height: int, left: int, top: int, right: int, bottom: int, came_width: int, came_height: int
) -> None:
    regions = likely_regions(pad(width, height, left, top, right, bottom), came_width, came_height)
    assert regions
    for region in regions:
        assert region.x >= 0
        assert region.y >= 0
        assert region.width > 0
        assert region.height > 0
        assert region.x + region.width <= came_width + 1e-6
        assert region.y + region.height <= came_height + 1e-6
