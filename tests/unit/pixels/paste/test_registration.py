"""How far the kept content lies from its place, and how large it is: found to a tenth of a pixel, or not at all."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from hidream_volcengine.api.pixels.paste.register import Region, Registration, measure
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.thinned import every_case, thinned
from tests.unit.pixels.paste.scenes import Pixels, Texture, View, as_bytes, noisy

SHIFT, SCALE = 0.1, 0.001
"""The accuracy that is promised: pixels of the generated picture, and parts of one."""
CANVAS, REGION = (360, 290), Region(60, 50, 240, 180)
ORIGINAL = (240, 180)


def pictures(
    shift: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
    *,
    region: Region = REGION,
    canvas: tuple[int, int] = CANVAS,
    original: tuple[int, int] = ORIGINAL,
    scene: Texture | None = None,
) -> tuple[Pixels, Pixels]:
    """A generated picture whose content lies ``shift`` pixels further right and down than ``region`` says and is
    ``scale`` times as large about its middle; and the original."""
    scene = scene or Texture(1)
    step_x, step_y = original[0] / region.width, original[1] / region.height
    middle_x, middle_y = region.x + region.width / 2, region.y + region.height / 2
    # Where the generated picture's corner 0, 0 lies in the original: shown there is what belongs to (0 − shift), …
    left = (middle_x - region.x + (-shift[0] - middle_x) / scale[0]) * step_x
    top = (middle_y - region.y + (-shift[1] - middle_y) / scale[1]) * step_y
    generated = scene.draw(View(*canvas, left, top, step_x / scale[0], step_y / scale[1]))
    return generated, scene.draw(View(*original))


def measured(generated: Pixels, original: Pixels, region: Region = REGION) -> Registration:
    found = measure(generated, original, region)
    assert found is not None
    assert found.region == region
    return found


def check(found: Registration, shift: tuple[float, float], scale: tuple[float, float] = (1.0, 1.0)) -> None:
    assert (found.shift_x, found.shift_y) == pytest.approx(shift, abs=SHIFT)
    assert (found.scale_x, found.scale_y) == pytest.approx(scale, abs=SCALE)


# ---- shifts


SHIFTS = [
    (0.0, 0.0),
    (0.5, 0.0),
    (-0.15, -0.5),
    (1.0, -1.0),
    (-7.0, 4.5),
    (11.3, -8.7),
]


@thinned("shift", SHIFTS, ids=str, kept=(0, 2, 5))
def test_a_known_shift(shift: tuple[float, float]) -> None:
    check(measured(*pictures(shift)), shift)


@pytest.mark.thorough
def test_random_shifts() -> None:
    """Also of scenes of other grain: none is further off than promised, and the mean is far nearer."""
    random = np.random.default_rng(7)
    errors = []
    for index in range(12):
        shift = tuple(random.uniform(-3, 3, 2))
        scene = Texture(index, finest=float(random.uniform(3, 10)), coarsest=80)
        found = measured(*pictures(shift, scene=scene))
        errors += [found.shift_x - shift[0], found.shift_y - shift[1]]
    assert np.abs(errors).max() <= SHIFT
    assert np.abs(errors).mean() <= SHIFT / 4
    assert abs(np.mean(errors)) <= SHIFT / 10, "no direction that all are pulled to"


def test_the_sign_is_that_of_the_content() -> None:
    """By whole pixels, without any of this file's arithmetic: content moved right and up is + and −."""
    scene = Texture(4).draw(View(*CANVAS))
    original = scene[50:230, 60:300].copy()
    found = measured(np.roll(scene, (-3, 4), axis=(0, 1)), original)
    check(found, (4.0, -3.0))


# ---- scales


@thinned("scale", [0.98, 0.99, 0.995, 1.003, 1.01, 1.02], kept=(0, 3))
def test_a_known_scale(scale: float) -> None:
    check(measured(*pictures(scale=(scale, scale))), (0.0, 0.0), (scale, scale))


@thinned("scale", [(1.01, 1.0), (1.0, 0.985), (0.99, 1.012)], ids=str, kept=(2,))
def test_each_axis_has_a_scale_of_its_own(scale: tuple[float, float]) -> None:
    check(measured(*pictures(scale=scale)), (0.0, 0.0), scale)


def test_random_shifts_and_scales_together() -> None:
    random = np.random.default_rng(8)
    for index in range(8 if every_case() else 2):
        shift, scale = tuple(random.uniform(-3, 3, 2)), tuple(random.uniform(0.985, 1.015, 2))
        scene = Texture(100 + index, finest=5, coarsest=80)
        check(measured(*pictures(shift, scale, scene=scene)), shift, scale)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_large_scale_is_found_as_such(scale: float) -> None:
    """It is not corrected, so that a coarse figure will do; but it must not be taken for nothing or for a shift."""
    found = measured(*pictures((3.0, -2.0), (scale, scale)))
    assert (found.scale_x, found.scale_y) == pytest.approx((scale, scale), abs=0.01)
    assert not found.is_small
    assert not found.is_aligned


@thinned("shift", [(24.0, 0.0), (0.0, -18.0), (-26.0, 17.0)], ids=str, kept=(2,))
def test_a_large_shift_is_found_as_such(shift: tuple[float, float]) -> None:
    found = measured(*pictures(shift))
    assert (found.shift_x, found.shift_y) == pytest.approx(shift, abs=0.5)
    assert not found.is_small


# ---- sizes


@thinned(
    ("region", "canvas", "original"),
    [
        # Reduced a lot, enlarged, fractions of pixels, each axis its own scale, at the canvas' edge.
        (Region(40, 30, 180, 140), (260, 200), (1440, 1120)),
        (Region(100, 80, 480, 360), (700, 540), (240, 180)),
        (Region(59.4, 50.7, 240.5, 179.6), (360, 290), (240, 180)),
        (Region(33.3, 41.8, 261.7, 200.2), (350, 300), (391, 292)),
        (Region(50, 50, 200, 160), (300, 260), (410, 318)),
        (Region(0, 0, 240, 180), (360, 180), (240, 180)),
        (Region(101, 0, 199, 281), (300, 281), (597, 843)),
    ],
    kept=(0, 1, 2, 5),
)
@thinned("shift", [(0.0, 0.0), (0.6, -1.3)], ids=str, kept=(1,))
def test_any_scale_between_the_two_pictures(
    region: Region, canvas: tuple[int, int], original: tuple[int, int], shift: tuple[float, float]
) -> None:
    scene = Texture(2, finest=4 * max(original[0] / region.width, 1), coarsest=90 * max(1, original[0] / region.width))
    generated, whole = pictures(shift, region=region, canvas=canvas, original=original, scene=scene)
    check(measured(generated, whole, region), shift)


def test_a_small_picture_is_measured_or_said_to_be_too_small() -> None:
    for side in (1, 2, 5, 12, 23):
        region = Region(10, 10, side, side)
        generated, original = pictures(region=region, canvas=(60, 60), original=(side, side))
        assert measure(generated, original, region) is None
    region = Region(20, 20, 96, 72)
    scene = Texture(3, coarsest=60)
    generated, original = pictures((0.7, -0.4), region=region, canvas=(140, 120), original=(96, 72), scene=scene)
    check(measured(generated, original, region), (0.7, -0.4))


# ---- what services do to a picture


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def cast(pixels: Pixels) -> Pixels:
    return as_bytes(pixels * np.array([0.85, 1.0, 1.1]) + np.array([14.0, -9.0, 5.0]))


def uneven(pixels: Pixels) -> Pixels:
    """Lit from the right."""
    return as_bytes(pixels + np.linspace(-35, 35, pixels.shape[1])[None, :, None])


def grey(pixels: Pixels) -> Pixels:
    return as_bytes(np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1))


def marked(pixels: Pixels) -> Pixels:
    """With a watermark of light stripes over a part."""
    changed = pixels.copy()
    changed[80:130:8, 90:210] = 255
    return changed


CHANGES = {
    "noise": lambda pixels: noisy(pixels, 12, 5),
    "jpeg 90": lambda pixels: jpeg(pixels, 90),
    "jpeg 60": lambda pixels: jpeg(pixels, 60),
    "cast": cast,
    "uneven light": uneven,
    "grey": grey,
    "watermark": marked,
    "all": lambda pixels: jpeg(noisy(uneven(cast(pixels)), 6, 6), 75),
}


@pytest.mark.parametrize("change", CHANGES)
@thinned("shift", [(0.0, 0.0), (0.3, 0.0), (-3.2, 2.3)], ids=str, kept=(2,))
def test_what_a_service_does_to_colours_does_not_move_it(change: str, shift: tuple[float, float]) -> None:
    generated, original = pictures(shift)
    check(measured(CHANGES[change](generated), original), shift)


@thinned("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("shift", [(0.35, -0.6), (-2.2, 1.7)], ids=str)
def test_photographs(name: str, shift: tuple[float, float]) -> None:
    """Drawn from a photograph of twice the size by Pillow, whose box is exact."""
    photograph = Image.fromarray(getattr(skimage.data, name)())
    width, height = photograph.width // 2, photograph.height // 2
    left, top, right, bottom = 20, 16, 20, 16
    size = (width - left - right, height - top - bottom)
    whole = (left * 2, top * 2, (left + size[0]) * 2, (top + size[1]) * 2)
    original = photograph.resize(size, Image.Resampling.LANCZOS, whole)
    # The rectangle of the canvas and 8 px around it, moved: what lies further out is never looked at.
    inner = [whole[0] - 16 - shift[0] * 2, whole[1] - 16 - shift[1] * 2]
    inner += [inner[0] + (size[0] + 16) * 2, inner[1] + (size[1] + 16) * 2]
    canvas = Image.new("RGB", (size[0] + 60, size[1] + 50), "grey")
    canvas.paste(photograph.resize((size[0] + 16, size[1] + 16), Image.Resampling.LANCZOS, tuple(inner)), (22, 17))
    found = measured(np.asarray(canvas), np.asarray(original), Region(30, 25, *size))
    check(found, shift)


# ---- soft pictures


def photograph(name: str) -> Pixels:
    pixels = getattr(skimage.data, name)()
    return np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels)


def enlarged(pixels: Pixels, factor: int, kernel: Image.Resampling) -> Pixels:
    """Painted at a fraction of the size, then enlarged again."""
    small = pixels.shape[1] // factor, pixels.shape[0] // factor
    painted = Image.fromarray(pixels).resize(small, Image.Resampling.LANCZOS)
    return np.asarray(painted.resize((small[0] * factor, small[1] * factor), kernel))


def blurred(pixels: Pixels) -> Pixels:
    size = round(pixels.shape[1] * 0.6), round(pixels.shape[0] * 0.6)
    picture = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return as_bytes(gaussian_filter(picture.astype(float), (4, 4, 0)))


BICUBIC, LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS
SOFT = {
    "moon 8× bicubic": lambda: ("moon", enlarged(photograph("moon"), 8, BICUBIC)),
    "retina 8× bicubic": lambda: ("retina", enlarged(photograph("retina"), 8, BICUBIC)),
    "camera 8× Lanczos": lambda: ("camera", enlarged(photograph("camera"), 8, LANCZOS)),
    "rocket 8× bicubic": lambda: ("rocket", enlarged(photograph("rocket"), 8, BICUBIC)),
    "clock 4× Lanczos": lambda: ("clock", enlarged(photograph("clock"), 4, LANCZOS)),
    "clock 4× bicubic": lambda: ("clock", enlarged(photograph("clock"), 4, BICUBIC)),
    "rocket blurred": lambda: ("rocket", blurred(photograph("rocket"))),
    "camera blurred": lambda: ("camera", blurred(photograph("camera"))),
    "clock blurred": lambda: ("clock", blurred(photograph("clock"))),
    "brick blurred": lambda: ("brick", blurred(photograph("brick"))),
}


@thinned("soft", SOFT, kept=(0, 5, 6))
def test_a_soft_photograph_in_its_place_is_never_called_out_of_place(soft: str) -> None:
    """It agrees about as well with many a shift; none of them may be taken for one."""
    name, generated = SOFT[soft]()
    found = measure(generated, photograph(name), Region(0, 0, generated.shape[1], generated.shape[0]))
    assert found is None or found.is_aligned


@thinned("name", ["moon", "camera", "rocket", "brick"], kept=(1,))
def test_an_enlarged_photograph_out_of_place_is_measured(name: str) -> None:
    """Four times enlarged, then moved by two pixels right and one up: half and a quarter of what was painted."""
    generated = np.roll(enlarged(photograph(name), 4, LANCZOS), (-1, 2), axis=(0, 1))
    found = measured(generated, photograph(name), Region(0, 0, generated.shape[1], generated.shape[0]))
    check(found, (2.0, -1.0))


# ---- what cannot be measured


def test_a_flat_picture_is_not_measured() -> None:
    generated, original = pictures()
    for one, other in (
        (np.full_like(generated, 128), np.full_like(original, 120)),
        (generated, np.full_like(original, 120)),
        (np.full_like(generated, 128), original),
    ):
        assert measure(one, other, REGION) is None


def test_stripes_do_not_say_where_they_are_along_themselves() -> None:
    stripes = as_bytes(128 + 60 * np.sin(np.arange(CANVAS[0]) / 9)[None, :, None] + np.zeros((CANVAS[1], 1, 3)))
    assert measure(stripes, stripes[50:230, 60:300].copy(), REGION) is None


@thinned("seed", range(5))
def test_another_picture_is_not_measured(seed: int) -> None:
    _, original = pictures(scene=Texture(200 + seed))
    generated, _ = pictures(scene=Texture(300 + seed))
    assert measure(generated, original, REGION) is None


def test_a_soft_picture_is_measured_or_not_but_never_wrongly() -> None:
    """A sky: no detail at all, little contrast, noise of a sensor."""
    for seed in range(3 if every_case() else 1):
        scene = Texture(seed, finest=150, coarsest=400)
        generated, original = pictures((1.0, -0.5), scene=scene)
        found = measure(noisy(generated // 6 + 100, 2, seed), noisy(original // 6 + 100, 2, seed + 50), REGION)
        if found is not None:
            assert (found.shift_x, found.shift_y) == pytest.approx((1.0, -0.5), abs=0.5)


# ---- what it means


def test_small_and_aligned() -> None:
    same = Registration(0.0, 0.0, 1.0, 1.0, Region(10, 20, 400, 50))
    assert same.is_aligned
    assert same.is_small
    # 2 % of 400 px across; down it is the 2 px.
    for change, aligned, small in (
        ({"shift_x": 0.14}, True, True),
        ({"shift_x": 0.16}, False, True),
        ({"shift_y": -0.16}, False, True),
        ({"shift_x": 7.9}, False, True),
        ({"shift_x": -8.1}, False, False),
        ({"shift_y": 1.9}, False, True),
        ({"shift_y": 2.1}, False, False),
        # At the edges: 200 px · 0.0007 = 0.14, 25 px · 0.005 = 0.125.
        ({"scale_x": 1.0007}, True, True),
        ({"scale_x": 0.9992}, False, True),
        ({"scale_y": 1.005}, True, True),
        ({"scale_y": 0.993}, False, True),
        ({"scale_x": 1.019}, False, True),
        ({"scale_x": 1.021}, False, False),
        ({"scale_y": 0.979}, False, False),
    ):
        found = replace(same, **change)
        assert (found.is_aligned, found.is_small) == (aligned, small), change


def test_where_it_was_found() -> None:
    found = Registration(2.0, -1.0, 1.1, 0.5, Region(10, 20, 400, 50)).found
    # About the middle, 210, 45: 220 and 12.5 to each side, moved.
    assert (found.x, found.y, found.width, found.height) == pytest.approx((-8.0, 31.5, 440.0, 25.0))


def test_the_inputs_are_left_alone() -> None:
    generated, original = pictures((0.5, 0.5))
    copies = generated.copy(), original.copy()
    generated.flags.writeable = original.flags.writeable = False
    measured(generated, original)
    assert np.array_equal(generated, copies[0])
    assert np.array_equal(original, copies[1])
