"""Both Volcengine nodes in a real ComfyUI: sides, canvas and mask, what goes up, and results of other sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import sends_nothing, until_states
from tests.host.prompts import Graph, Pixels, bodies, failed, lanczos, mean_error, photo, pixels, run_outpaint

MOST_ERROR = 2.0
SIDES = ("top", "bottom", "left", "right")


def sides(top: float, bottom: float, left: float, right: float) -> dict[str, float]:
    return dict(zip(SIDES, (top, bottom, left, right), strict=True))


# ---- by sides


@pytest.mark.parametrize(
    ("size", "shares", "rectangle", "canvas"),
    [
        ((200, 100), sides(0.1, 0.1, 0.1, 0.1), (20, 10), (240, 120)),
        ((200, 100), sides(1.0, 0.5, 0.25, 0.75), (50, 100), (400, 250)),
        ((64, 640), sides(0.05, 0.05, 1.0, 1.0), (64, 32), (192, 704)),
    ],
)
def test_four_sides_go_up_as_shares(
    comfy: ComfyUI,
    emulator: Emulator,
    size: tuple[int, int],
    shares: dict[str, float],
    rectangle: tuple[int, int],
    canvas: tuple[int, int],
) -> None:
    original = photo(*size)
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add("VolcengineAPIOutpaint", image=graph.image(original), **shares))
    assert got.placement == {
        "canvas_width": canvas[0],
        "canvas_height": canvas[1],
        "x": rectangle[0],
        "y": rectangle[1],
        "width": size[0],
        "height": size[1],
    }
    assert (got.pictures[0].shape[1], got.pictures[0].shape[0]) == canvas
    assert (got.kept() == pixels(original)).all()
    assert (got.masks[0] == got.frame()).all()
    (body,) = bodies(emulator, "cvprocess")
    assert [body[side] for side in SIDES] == pytest.approx(list(shares.values()))
    assert [image.split(" sha256")[0] for image in body["binary_data_base64"]] == [f"<image {size[0]}x{size[1]} RGB"]
    assert "prompt" not in body
    assert "custom_prompt" not in body
    assert emulator.billed == 1


@pytest.mark.parametrize(
    "case",
    [
        ((105, 77), sides(0.1, 0.1, 0.1, 0.1)),
        ((105, 75), sides(0.1, 0.3, 0.1, 0.3)),
        ((333, 127), sides(0.35, 0.15, 0.05, 0.45)),
        ((51, 51), sides(0.03, 0.01, 0.01, 0.03)),
    ],
)
def test_the_original_is_found_at_odd_sizes_too(comfy: ComfyUI, case: tuple[tuple[int, int], dict[str, float]]) -> None:
    """Half pixels are rounded by the service as it likes; placement and picture must still agree."""
    size, shares = case
    original = photo(*size)
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add("VolcengineAPIOutpaint", image=graph.image(original), **shares))
    assert mean_error(got.kept(), pixels(original)) <= MOST_ERROR
    assert (got.masks[0] == got.frame()).all()
    assert got.pictures[0].shape[:2] == got.masks[0].shape


@pytest.mark.parametrize("zero", [("top",), ("left", "bottom"), ("top", "bottom", "right")])
def test_a_side_of_zero_makes_it_canvas_mode(comfy: ComfyUI, emulator: Emulator, zero: tuple[str, ...]) -> None:
    original = photo(120, 80)
    shares = {side: 0.0 if side in zero else 0.25 for side in SIDES}
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add("VolcengineAPIOutpaint", image=graph.image(original), **shares))
    left, right = round(120 * shares["left"]), round(120 * shares["right"])
    top, bottom = round(80 * shares["top"]), round(80 * shares["bottom"])
    width, height = left + 120 + right, top + 80 + bottom
    names = ("canvas_width", "canvas_height", "x", "y", "width", "height")
    assert got.placement == dict(zip(names, (width, height, left, top, 120, 80), strict=True))
    assert (got.kept() == pixels(original)).all()
    assert (got.masks[0] == got.frame()).all()
    (body,) = bodies(emulator, "cvprocess")
    assert not set(SIDES) & set(body)
    assert [image.split(" sha256")[0] for image in body["binary_data_base64"]] == [
        f"<image {width}x{height} RGB",
        f"<image {width}x{height} L",
    ]


@pytest.mark.parametrize("shares", [sides(0, 0, 0, 0), sides(0.001, 0.001, 0.001, 0.001)])
def test_nothing_to_extend_is_an_error(comfy: ComfyUI, emulator: Emulator, shares: dict[str, float]) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("VolcengineAPIOutpaint", image=graph.image(photo(100, 100)), **shares)[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert all(side in told for side in SIDES)
    assert emulator.requests == []


def test_a_side_that_rounds_to_no_pixel_is_a_side_of_zero(comfy: ComfyUI, emulator: Emulator) -> None:
    """0.004 of 100 px is nothing: what the service makes of such a share is as uncertain as with 0."""
    original = photo(100, 100)
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaint", image=graph.image(original), **sides(0.004, 0.3, 0.004, 0.3))
    got = run_outpaint(comfy, graph, node)
    assert (got.kept() == pixels(original)).all()
    assert got.placement["canvas_width"] == 130


@pytest.mark.parametrize(
    ("size", "limits", "shares"),
    [
        ((400, 200), (240, 1920), sides(0.1, 0.1, 0.1, 0.1)),
        ((400, 200), (1920, 90), sides(0.25, 0.25, 0.25, 0.25)),
        ((401, 333), (256, 256), sides(0.35, 0.1, 0.15, 0.2)),
        ((400, 200), (256, 256), sides(0.0, 0.1, 0.5, 0.1)),
    ],
)
def test_a_canvas_over_the_limit_is_shrunk_before_upload(
    comfy: ComfyUI,
    emulator: Emulator,
    size: tuple[int, int],
    limits: tuple[int, int],
    shares: dict[str, float],
) -> None:
    original = photo(*size)
    graph = Graph(comfy)
    node = graph.add(
        "VolcengineAPIOutpaint", image=graph.image(original), max_width=limits[0], max_height=limits[1], **shares
    )
    got = run_outpaint(comfy, graph, node)
    height, width = got.pictures[0].shape[:2]
    assert width <= limits[0]
    assert height <= limits[1]
    # As large as it can be: one of the limits is reached, give or take what whole pixels do.
    assert max(width / limits[0], height / limits[1]) > 0.97
    place = got.placement
    assert place["width"] / place["height"] == pytest.approx(size[0] / size[1], rel=0.02)
    assert mean_error(got.kept(), lanczos(original, place["width"], place["height"])) <= MOST_ERROR
    assert (got.masks[0] == got.frame()).all()
    (told,) = got.texts
    assert f"from {size[0]}×{size[1]} to {place['width']}×{place['height']}" in told
    assert "max_width" in told
    (body,) = bodies(emulator, "cvprocess")
    assert (body["max_width"], body["max_height"]) == limits


@pytest.mark.parametrize("change", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1)])
@pytest.mark.parametrize("shares", [sides(0.1, 0.1, 0.1, 0.1), sides(0.0, 0.1, 0.0, 0.1)])
def test_a_result_a_pixel_off_is_followed(
    comfy: ComfyUI, emulator: Emulator, change: tuple[int, int], shares: dict[str, float]
) -> None:
    graph = Graph(comfy)
    width = 200 + round(200 * (shares["left"] + shares["right"]))
    height = 100 + round(100 * (shares["top"] + shares["bottom"]))
    came = [width + change[0], height + change[1]]
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"size": came}})
    node = graph.add("VolcengineAPIOutpaint", image=graph.image(photo(200, 100)), **shares)
    got = run_outpaint(comfy, graph, node)
    assert [got.pictures[0].shape[1], got.pictures[0].shape[0]] == came
    assert [got.placement["canvas_width"], got.placement["canvas_height"]] == came
    assert (got.placement["width"], got.placement["height"]) == (200, 100)
    assert (got.masks[0] == got.frame()).all()
    assert any(f"{came[0]}×{came[1]}" in text for text in got.texts)


def test_a_result_of_half_the_size_is_followed(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"size": [120, 60]}})
    original = photo(200, 100)
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add("VolcengineAPIOutpaint", image=graph.image(original)))
    names = ("canvas_width", "canvas_height", "x", "y", "width", "height")
    assert got.placement == dict(zip(names, (120, 60, 10, 5, 100, 50), strict=True))
    # Resampled together with its surroundings, so that only its inside is the same.
    assert mean_error(got.kept()[4:-4, 4:-4], lanczos(original, 100, 50)[4:-4, 4:-4]) <= MOST_ERROR
    assert (got.masks[0] == got.frame()).all()


def test_results_of_several_sizes_form_one_batch_and_that_is_said(comfy: ComfyUI, emulator: Emulator) -> None:
    """This service keeps no task: what was paid is delivered, resized if it must be."""
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"size": [241, 121]}})
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaint", image=graph.image(photo(200, 100)), variants=3)
    got = run_outpaint(comfy, graph, node)
    assert len(got.pictures) == 3
    assert len({picture.shape for picture in got.pictures}) == 1
    assert any("resized" in text for text in got.texts)
    assert got.masks[0].shape == got.pictures[0].shape[:2]


# ---- sampling, batches, prompt: both nodes


def volcengine(graph: Graph, class_type: str, *originals: Image.Image, **widgets: Any) -> Any:
    """One of the two nodes on a batch; the canvas node gets it padded as ImagePadForOutpaint does."""
    image = graph.image(*originals)
    if class_type == "VolcengineAPIOutpaint":
        return graph.add(class_type, image=image, **widgets)
    padded = graph.add("ImagePadForOutpaint", image=image, left=24, top=16, right=40, bottom=8)
    return graph.add(class_type, image=padded[0], mask=padded[1], **widgets)


BOTH = pytest.mark.parametrize("class_type", ["VolcengineAPIOutpaint", "VolcengineAPIOutpaintCanvas"])


@BOTH
def test_a_batch_keeps_its_order_and_seeds_count_up(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    originals = [photo(120, 80, seed) for seed in (1, 2, 3)]
    graph = Graph(comfy)
    node = volcengine(graph, class_type, *originals, seed=41, variants=2)
    got = run_outpaint(comfy, graph, node)
    assert len(got.pictures) == 6
    for index, original in enumerate(original for original in originals for _ in range(2)):
        assert (got.kept(index) == pixels(original)).all(), index
    for first in (0, 2, 4):
        assert (got.pictures[first] != got.pictures[first + 1]).any()
    seeds: dict[str, set[int]] = {}
    for body in bodies(emulator, "cvprocess"):
        seeds.setdefault(body["binary_data_base64"][0], set()).add(body["seed"])
    assert list(seeds.values()) == [{41, 42}] * 3
    assert emulator.billed == 6


@BOTH
def test_all_widgets_go_up(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    graph = Graph(comfy)
    node = volcengine(
        graph,
        class_type,
        photo(120, 80),
        prompt="一片森林 {a|b}",
        scale=1,
        steps=100,
        strength=0.1,
        seed=2**31 - 1,
        max_width=4096,
        max_height=300,
        upload="jpeg 95",
    )
    got = run_outpaint(comfy, graph, node)
    (body,) = bodies(emulator, "cvprocess")
    assert body["prompt"] == body["custom_prompt"] == "一片森林 {a|b}"
    assert body["req_key"] == "i2i_outpainting"
    assert {name: body[name] for name in ("scale", "steps", "strength", "seed", "max_width", "max_height")} == {
        "scale": 1.0,
        "steps": 100,
        "strength": 0.1,
        "seed": 2**31 - 1,
        "max_width": 4096,
        "max_height": 300,
    }
    # JPEG comes near, and only near.
    assert 0 < mean_error(got.kept(), pixels(photo(120, 80))) < 6


@BOTH
def test_the_default_seed_goes_up_as_minus_one(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    graph = Graph(comfy)
    graph.save(volcengine(graph, class_type, photo(120, 80), variants=2)[0])
    comfy.run(graph.prompt)
    assert [body["seed"] for body in bodies(emulator, "cvprocess")] == [-1, -1]


@BOTH
def test_seeds_that_would_count_beyond_the_limit_are_refused(
    comfy: ComfyUI, emulator: Emulator, class_type: str
) -> None:
    graph = Graph(comfy)
    graph.save(volcengine(graph, class_type, photo(120, 80), seed=2**31 - 2, variants=3)[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "seed" in told
    assert str(2**31 - 1) in told
    assert emulator.requests == []


@BOTH
def test_a_waiting_node_shows_progress(comfy: ComfyUI, class_type: str) -> None:
    graph = Graph(comfy)
    node = volcengine(graph, class_type, photo(120, 80))
    graph.save(node[0])
    result = comfy.run(graph.prompt)
    words = [event.data["text"] for event in result.of_type("progress_text") if event.node == node.id]
    assert any("提交中" in text or "生成中" in text for text in words)
    (executed,) = [event for event in result.of_type("executed") if event.node == node.id]
    assert set(executed.data["output"]) == {"text", "account"}


@BOTH
def test_a_large_upload_is_told_of(comfy: ComfyUI, class_type: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), np.uint8)
    graph = Graph(comfy)
    node = volcengine(graph, class_type, Image.fromarray(noise))
    graph.save(node[0])
    result = comfy.run(graph.prompt)
    assert any("4.7 MB" in text for text in result.texts(node.id))


# ---- canvas and mask


def test_a_padded_image_keeps_its_pixels(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(120, 80)
    graph = Graph(comfy)
    padded = graph.add("ImagePadForOutpaint", image=graph.image(original), left=24, top=16, right=40, bottom=8)
    theirs = graph.save_mask(padded[1])
    node = graph.add("VolcengineAPIOutpaintCanvas", image=padded[0], mask=padded[1])
    got = run_outpaint(comfy, graph, node)
    names = ("canvas_width", "canvas_height", "x", "y", "width", "height")
    assert got.placement == dict(zip(names, (184, 104, 24, 16, 120, 80), strict=True))
    assert (got.kept() == pixels(original)).all()
    (expected,) = comfy.images(got.result, theirs)
    assert (got.masks[0] == pixels(expected)[..., 0]).all()
    (body,) = bodies(emulator, "cvprocess")
    assert [image.split(" sha256")[0] for image in body["binary_data_base64"]] == [
        "<image 184x104 RGB",
        "<image 184x104 L",
    ]
    assert not set(SIDES) & set(body)
    # Grey padding is not what is left of it: the new part was painted.
    assert got.pictures[0][got.masks[0] == 255].std() > 5


def test_a_feathered_rim_is_painted_and_its_mask_is_returned(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(160, 120)
    graph = Graph(comfy)
    padded = graph.add(
        "ImagePadForOutpaint", image=graph.image(original), left=40, top=40, right=40, bottom=40, feathering=24
    )
    theirs = graph.save_mask(padded[1])
    node = graph.add("VolcengineAPIOutpaintCanvas", image=padded[0], mask=padded[1])
    got = run_outpaint(comfy, graph, node)
    (expected,) = comfy.images(got.result, theirs)
    assert (got.masks[0] == pixels(expected)[..., 0]).all()
    assert len(np.unique(got.masks[0])) > 10

    # ImagePadForOutpaint's own arithmetic: 1 where round(255·mask) ≥ 1 is painted, the rest is kept.
    place = got.placement
    share = np.zeros((120, 160))
    for y in range(120):
        for x in range(160):
            distance = min(y, 120 - y, x, 160 - x)
            share[y, x] = ((24 - distance) / 24) ** 2 if distance < 24 else 0
    kept = np.rint(255 * share) < 1
    inside = pixels(original), got.pictures[0][40:160, 40:200]
    assert (inside[0][kept] == inside[1][kept]).all()
    changed = (inside[0][~kept] != inside[1][~kept]).any(axis=-1)
    assert changed.mean() > 0.8
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    assert (place["x"], place["y"]) == (40 + columns[0], 40 + rows[0])
    assert (place["width"], place["height"]) == (len(columns), len(rows))
    assert emulator.billed == 1


def test_originals_of_padded_images_are_without_the_padding(comfy: ComfyUI, emulator: Emulator) -> None:
    """Two of three come: each with its own original, which Outpaint Paste Back puts back exactly."""
    originals = [photo(120, 80, seed) for seed in range(3)]
    fault = {"endpoint": "cvprocess", "phase": "submit", "skip": 1, "times": 1, "do": {"vendor_code": 50412}}
    emulator.add_fault(fault)
    graph = Graph(comfy)
    padded = graph.add("ImagePadForOutpaint", image=graph.image(*originals), left=40, top=20)
    node = graph.add(
        "VolcengineAPIOutpaintCanvas", image=padded[0], mask=padded[1], on_partial="return the rest"
    )
    saved = graph.save(node[3])
    pasted = graph.add("RemoteOutpaintPasteBack", generated=node[0], original=node[3], placement=node[2])
    final = graph.save(pasted[0])
    result = comfy.run(graph.prompt)
    came = [pixels(picture) for picture in comfy.images(result, saved)]
    which = [next(index for index, one in enumerate(originals) if (pixels(one) == each).all()) for each in came]
    assert len(which) == 2 and which == sorted(which)
    for index, picture in zip(which, comfy.images(result, final), strict=True):
        assert (pixels(picture)[20:100, 40:160] == pixels(originals[index])).all()


def test_a_canvas_over_the_limit_is_shrunk_with_its_mask(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(400, 300)
    graph = Graph(comfy)
    padded = graph.add("ImagePadForOutpaint", image=graph.image(original), left=100, right=100, top=52, bottom=48)
    node = graph.add("VolcengineAPIOutpaintCanvas", image=padded[0], mask=padded[1], max_width=150)
    got = run_outpaint(comfy, graph, node)
    assert got.pictures[0].shape[:2] == got.masks[0].shape == (100, 150)
    # Half a pixel of the rim belongs to the new part.
    place = got.placement
    inner = got.pictures[0][16:86, 28:122]
    canvas = Image.new("RGB", (600, 400), (127, 127, 127))
    canvas.paste(original, (100, 52))
    assert mean_error(inner, lanczos(canvas, 150, 100)[16:86, 28:122]) <= MOST_ERROR
    assert 24 <= place["x"] <= 26
    assert 99 <= place["width"] <= 101
    (told,) = got.texts
    assert "600×400 to 150×100" in told
    (body,) = bodies(emulator, "cvprocess")
    assert [image.split(" sha256")[0] for image in body["binary_data_base64"]] == [
        "<image 150x100 RGB",
        "<image 150x100 L",
    ]


def test_a_result_a_pixel_off_takes_mask_and_placement_along(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"size": [183, 105]}})
    graph = Graph(comfy)
    node = volcengine(graph, "VolcengineAPIOutpaintCanvas", photo(120, 80))
    got = run_outpaint(comfy, graph, node)
    assert got.pictures[0].shape[:2] == got.masks[0].shape == (105, 183)
    assert (got.placement["canvas_width"], got.placement["canvas_height"]) == (183, 105)


def test_transparency_of_a_canvas_goes_up_on_white(comfy: ComfyUI) -> None:
    picture = photo(96, 96)
    picture.putalpha(Image.new("L", picture.size, 0))
    frame = np.full((96, 96), 255, np.uint8)
    frame[16:80, 16:80] = 0
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaintCanvas", image=graph.rgba(picture), mask=graph.mask(frame))
    got = run_outpaint(comfy, graph, node)
    assert (got.kept() == 255).all()
    assert any("Transparent" in text for text in got.texts)


def hole() -> Pixels:
    """A mask that is no frame: something inside is to be painted."""
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 40:70] = 255
    return mask


def test_a_hole_is_painted_and_has_no_placement(comfy: ComfyUI) -> None:
    original = photo(96, 96)
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaintCanvas", image=graph.image(original), mask=graph.mask(hole()))
    picture, mask = graph.save(node[0]), graph.save_mask(node[1])
    result = comfy.run(graph.prompt)
    (made,) = comfy.images(result, picture)
    assert (pixels(made)[hole() == 0] == pixels(original)[hole() == 0]).all()
    assert (pixels(comfy.images(result, mask)[0])[..., 0] == hole()).all()


def test_the_placement_of_a_hole_is_refused_before_paying(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaintCanvas", image=graph.image(photo(96, 96)), mask=graph.mask(hole()))
    graph.save(node[0])
    graph.show(node[2])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "placement" in told
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("masks", "named"),
    [
        ([np.zeros((96, 96), np.uint8)], ["empty"]),
        ([np.full((95, 96), 255, np.uint8)], ["96×95", "96×96"]),
        ([np.full((96, 96), 255, np.uint8)] * 3, ["2 images", "3 masks"]),
        ([np.full((96, 96), 255, np.uint8), np.zeros((96, 96), np.uint8)], ["empty"]),
    ],
    ids=["empty", "size", "count", "one of two empty"],
)
def test_a_wrong_mask_is_refused_before_paying(
    comfy: ComfyUI, emulator: Emulator, masks: list[Pixels], named: list[str]
) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(96, 96, 1), photo(96, 96, 2))
    graph.save(graph.add("VolcengineAPIOutpaintCanvas", image=image, mask=graph.mask(*masks))[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert all(words in told for words in named), told
    assert emulator.requests == []


def test_an_image_without_anything_to_keep(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    everything = np.full((96, 96), 255, np.uint8)
    node = graph.add("VolcengineAPIOutpaintCanvas", image=graph.image(photo(96, 96)), mask=graph.mask(everything))
    saved = graph.save(node[0])
    assert [picture.size for picture in comfy.images(comfy.run(graph.prompt), saved)] == [(96, 96)]


def test_every_image_has_its_own_mask(comfy: ComfyUI) -> None:
    originals = [photo(96, 96, seed) for seed in (1, 2)]
    masks = [np.full((96, 96), 255, np.uint8) for _ in originals]
    masks[0][:, :48] = 0
    masks[1][:, 48:] = 0
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaintCanvas", image=graph.image(*originals), mask=graph.mask(*masks))
    picture, mask = graph.save(node[0]), graph.save_mask(node[1])
    result = comfy.run(graph.prompt)
    made = [pixels(image) for image in comfy.images(result, picture)]
    returned = [pixels(image)[..., 0] for image in comfy.images(result, mask)]
    assert all((one == other).all() for one, other in zip(returned, masks, strict=True))
    for index in range(2):
        kept = masks[index] == 0
        assert (made[index][kept] == pixels(originals[index])[kept]).all()


def test_every_variant_comes_with_the_mask_of_its_image(comfy: ComfyUI) -> None:
    """Two images with two masks and two variants each: picture 1 belongs to mask 0, not to mask 1."""
    masks = [np.full((96, 96), 255, np.uint8) for _ in range(2)]
    masks[0][:, :48] = 0
    masks[1][:, 48:] = 0
    graph = Graph(comfy)
    image = graph.image(photo(96, 96, 1), photo(96, 96, 2))
    node = graph.add("VolcengineAPIOutpaintCanvas", image=image, mask=graph.mask(*masks), variants=2)
    picture, mask = graph.save(node[0]), graph.save_mask(node[1])
    result = comfy.run(graph.prompt)
    assert len(comfy.images(result, picture)) == 4
    returned = [pixels(made)[..., 0] for made in comfy.images(result, mask)]
    assert len(returned) == 4
    assert all((returned[index] == masks[index // 2]).all() for index in range(4))


def test_finished_pictures_of_a_failed_node_are_kept(comfy: ComfyUI, emulator: Emulator) -> None:
    """The service keeps nothing to fetch again: what was bought is in the store, and the error says how to get it."""
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "skip": 2, "do": {"vendor_code": 50511}})
    graph = Graph(comfy)
    graph.save(graph.add("VolcengineAPIOutpaint", image=graph.image(photo(64, 48)), variants=3)[0])
    told = failed(comfy, graph.prompt, "ModerationError")["exception_message"]
    kept = [task for task in until_states(comfy, "stored", "stored", "failed") if task["stored"]]
    assert len(kept) == emulator.billed - 1 == 2
    with sends_nothing(emulator):
        for task in kept:
            fetched = Graph(comfy)
            saved = fetched.save(fetched.add("RemoteTaskResult", task_id=task["journal_id"])[0])
            [picture] = comfy.images(comfy.run(fetched.prompt), saved)
            assert picture.size == (76, 58)
    assert [task["journal_id"] for task in kept if task["journal_id"] not in told] == []


# ---- Jimeng: one node for sides, a placement, or canvas and mask

JIMENG = "VolcengineAPIJimengOutpaint"


@pytest.mark.parametrize("zero", [("top", "bottom", "left"), ("right",), ()])
def test_jimeng_takes_a_side_of_zero_as_it_is(comfy: ComfyUI, emulator: Emulator, zero: tuple[str, ...]) -> None:
    original = photo(120, 80)
    shares = {side: 0.0 if side in zero else 0.25 for side in SIDES}
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add(JIMENG, image=graph.image(original), **shares))
    assert (got.kept() == pixels(original)).all()
    assert (got.masks[0] == got.frame()).all()
    (body,) = bodies(emulator, "cvsync2async")
    assert {side: body[side] for side in SIDES} == pytest.approx(shares)
    assert [image.split(" sha256")[0] for image in body["binary_data_base64"]] == ["<image 120x80 RGB"]
    assert body.keys() == {"req_key", "binary_data_base64", "seed", *SIDES}
    assert emulator.billed == 1


def test_jimeng_needs_a_new_pixel(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    graph.save(graph.add(JIMENG, image=graph.image(photo(100, 100)), **sides(0, 0, 0, 0))[0])
    assert "Nothing to extend" in failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert emulator.requests == []


def test_paste_back_takes_what_jimeng_made_of_a_placement(comfy: ComfyUI, emulator: Emulator) -> None:
    """More new pixels above than the original has go up as canvas and mask. Its sides do not count then."""
    original = photo(60, 40)
    graph = Graph(comfy)
    image = graph.image(original)
    layout = {"target": "pixels per side", "left": 10, "top": 50, "right": 0, "bottom": 4}
    placed = graph.add("RemoteOutpaintPlacement", image=image, **layout)
    node = graph.add(JIMENG, image=image, placement=placed[0], **sides(0, 0, 0, 0))
    back = graph.save(graph.add("RemoteOutpaintPasteBack", generated=node[0], original=image, placement=node[2])[0])
    got = run_outpaint(comfy, graph, node)
    assert got.placement == {"canvas_width": 70, "canvas_height": 94, "x": 10, "y": 50, "width": 60, "height": 40}
    (pasted,) = comfy.images(got.result, back)
    assert (pixels(pasted)[50:90, 10:70] == pixels(original)).all()
    (body,) = bodies(emulator, "cvsync2async")
    assert [image.split(" sha256")[0] for image in body["binary_data_base64"]] == ["<image 70x94 RGB", "<image 70x94 L"]
    assert not set(SIDES) & set(body)


def test_a_mask_at_jimeng_counts_more_than_a_placement(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(120, 80)
    graph = Graph(comfy)
    image = graph.image(original)
    padded = graph.add("ImagePadForOutpaint", image=image, left=24, top=16, right=40, bottom=8)
    placed = graph.add("RemoteOutpaintPlacement", image=image, aspect_ratio="1:1")
    node = graph.add(JIMENG, image=padded[0], mask=padded[1], placement=placed[0])
    got = run_outpaint(comfy, graph, node)
    assert (got.placement["x"], got.placement["y"]) == (24, 16)
    assert (got.kept() == pixels(original)).all()
    assert any("The mask was used" in words for words in got.texts)
    (body,) = bodies(emulator, "cvsync2async")
    assert not set(SIDES) & set(body)
    assert emulator.billed == 1


def test_a_hole_at_jimeng_has_no_placement(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    node = graph.add(JIMENG, image=graph.image(photo(96, 96)), mask=graph.mask(hole()))
    graph.show(node[2])
    assert "no frame around one rectangle" in failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert emulator.requests == []
