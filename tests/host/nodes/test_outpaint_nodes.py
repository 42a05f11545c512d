"""HiDreamAPIOutpaint in a real ComfyUI: sizes, the original's place, mask, batches, and what goes up."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.prompts import Graph, bodies, failed, lanczos, mean_error, photo, pixels, run_outpaint, submits
from tests.thinned import thinned

MOST_ERROR = 2.0
"""Of 255: how far the original's pixels may be off where the placement says they are."""


@thinned(
    ("original", "widgets", "rectangle"),
    [
        ((600, 400), {}, (256, 341, 512, 341)),
        ((400, 600), {"canvas_width": 768, "canvas_height": 512, "ratio": 0.75}, (256, 64, 256, 384)),
        ((64, 64), {"canvas_width": 300, "canvas_height": 301, "position": "bottom right"}, (150, 151, 150, 150)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "top left"}, (0, 0, 100, 80)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "top"}, (50, 0, 100, 80)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "bottom"}, (50, 80, 100, 80)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "left"}, (0, 40, 100, 80)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "right"}, (100, 40, 100, 80)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "top right"}, (100, 0, 100, 80)),
        ((100, 80), {"canvas_width": 200, "canvas_height": 160, "position": "bottom left"}, (0, 80, 100, 80)),
        (
            (100, 80),
            {"canvas_width": 200, "canvas_height": 160, "position": "offset", "x_offset": 13, "y_offset": 79},
            (13, 79, 100, 80),
        ),
        ((333, 127), {"canvas_width": 1023, "canvas_height": 65, "ratio": 1.0}, (426, 0, 170, 65)),
    ],
    kept=(0, 2, 10),
)
def test_the_original_lies_where_the_placement_says(
    comfy: ComfyUI,
    emulator: Emulator,
    original: tuple[int, int],
    widgets: dict[str, object],
    rectangle: tuple[int, int, int, int],
) -> None:
    picture = photo(*original, seed=1)
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add("HiDreamAPIOutpaint", image=graph.image(picture), **widgets))

    canvas = (widgets.get("canvas_width", 1024), widgets.get("canvas_height", 1024))
    x, y, width, height = rectangle
    names = ("canvas_width", "canvas_height", "x", "y", "width", "height")
    assert got.placement == dict(zip(names, (*canvas, *rectangle), strict=True))
    assert [(image.shape[1], image.shape[0]) for image in got.pictures] == [canvas]
    assert mean_error(got.kept(), lanczos(picture, width, height)) <= MOST_ERROR
    (mask,) = got.masks
    assert (mask == got.frame()).all()

    (body,) = bodies(emulator)
    assert body["image"].startswith(f"<image {width}x{height} RGB ")
    assert (body["x_offset"], body["y_offset"]) == (x, y)
    assert body["resolution"] == f"{canvas[0]}*{canvas[1]}"
    assert body["version"] == "v1"
    assert emulator.billed == 1


def test_new_pixels_are_not_the_canvas_that_went_up(comfy: ComfyUI) -> None:
    """Nothing is a placeholder: around the original there is a picture, not one colour."""
    graph = Graph(comfy)
    got = run_outpaint(
        comfy, graph, graph.add("HiDreamAPIOutpaint", image=graph.image(photo(90, 90)), canvas_width=180)
    )
    new = got.pictures[0][got.masks[0] == 255]
    assert new.std() > 5


def test_the_mask_is_that_of_pad_image_for_outpainting(comfy: ComfyUI) -> None:
    """Same frame, same polarity: 1 where pixels are new."""
    graph = Graph(comfy)
    image = graph.image(photo(104, 80))
    ours = graph.add(
        "HiDreamAPIOutpaint",
        image=image,
        canvas_width=208,
        canvas_height=160,
        position="offset",
        x_offset=24,
        y_offset=56,
    )
    theirs = graph.add("ImagePadForOutpaint", image=image, left=24, top=56, right=80, bottom=24)
    padded = graph.save_mask(theirs[1])
    got = run_outpaint(comfy, graph, ours)
    (expected,) = comfy.images(got.result, padded)
    assert (got.masks[0] == pixels(expected)[..., 0]).all()
    assert got.masks[0][0, 0] == 255
    assert got.masks[0][60, 30] == 0


def test_a_batch_keeps_its_order_and_its_variants(comfy: ComfyUI, emulator: Emulator) -> None:
    originals = [photo(100, 80, seed) for seed in (1, 2, 3)]
    graph = Graph(comfy)
    node = graph.add(
        "HiDreamAPIOutpaint", image=graph.image(*originals), canvas_width=200, canvas_height=160, variants=2
    )
    got = run_outpaint(comfy, graph, node)
    assert len(got.pictures) == 6
    for index, original in enumerate(original for original in originals for _ in range(2)):
        assert (got.kept(index) == pixels(original)).all(), index
    for first in (0, 2, 4):
        assert (got.pictures[first] != got.pictures[first + 1]).any()
    assert len(got.masks) == 1
    assert emulator.billed == 6
    ids = [request.request_id for request in submits(emulator)]
    assert all(ids)
    assert len(set(ids)) == 6


def test_every_poll_carries_the_request_id_of_its_submit(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIOutpaint", image=graph.image(photo(64, 64), photo(64, 64, 1)))[0])
    comfy.run(graph.prompt)
    of_task = {request.task_id: request.request_id for request in submits(emulator)}
    polls = [request for request in emulator.requests if request.phase == "result"]
    assert {request.task_id for request in polls} == set(of_task)
    assert all(request.request_id == of_task[request.task_id] for request in polls)


def test_transparent_pixels_go_up_on_white_and_the_node_says_so(comfy: ComfyUI, emulator: Emulator) -> None:
    rgb = photo(100, 80)
    alpha = np.tile(np.linspace(0, 255, 100).round().astype(np.uint8), (80, 1))
    picture = rgb.copy()
    picture.putalpha(Image.fromarray(alpha))
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIOutpaint", image=graph.rgba(picture), canvas_width=200, canvas_height=160)
    got = run_outpaint(comfy, graph, node)
    share = alpha[..., None] / 255
    expected = np.rint(np.asarray(rgb) * share + 255 * (1 - share)).astype(np.uint8)
    assert np.abs(got.kept().astype(int) - expected.astype(int)).max() <= 1
    assert bodies(emulator)[0]["image"].startswith("<image 100x80 RGB ")
    assert any("white" in text for text in got.texts)


def test_a_grown_or_shrunk_original_is_told(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    grown = graph.add("HiDreamAPIOutpaint", image=graph.image(photo(40, 40)))
    shrunk = graph.add("HiDreamAPIOutpaint", image=graph.image(photo(700, 700)), canvas_width=128, canvas_height=128)
    same = graph.add("HiDreamAPIOutpaint", image=graph.image(photo(64, 64)), canvas_width=128, canvas_height=128)
    for node in (grown, shrunk, same):
        graph.save(node[0])
    result = comfy.run(graph.prompt)
    (words,) = result.texts(grown.id)
    assert "enlarged from 40×40 to 512×512" in words
    assert "放大" in words
    (words,) = result.texts(shrunk.id)
    assert "reduced from 700×700 to 64×64" in words
    assert result.texts(same.id) == []


def test_a_result_of_another_size_is_followed_and_told(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "outpaint", "phase": "submit", "do": {"size": [512, 256]}})
    picture = photo(512, 256)
    graph = Graph(comfy)
    got = run_outpaint(comfy, graph, graph.add("HiDreamAPIOutpaint", image=graph.image(picture), canvas_height=512))
    assert got.pictures[0].shape[:2] == (256, 512)
    expected = {"canvas_width": 512, "canvas_height": 256, "x": 128, "y": 64, "width": 256, "height": 128}
    assert got.placement == expected
    assert (got.masks[0] == got.frame()).all()
    assert any("512×256" in text and "1024×512" in text for text in got.texts)


@pytest.mark.parametrize(
    ("widgets", "named"),
    [
        ({"position": "offset", "x_offset": 513}, ["512×512 at 513, 0", "1024×1024"]),
        ({"position": "offset", "y_offset": 1024}, ["512×512 at 0, 1024", "1024×1024"]),
        ({"ratio": 1.0}, ["fills the whole canvas", "ratio"]),
    ],
)
def test_what_does_not_fit_is_refused_before_paying(
    comfy: ComfyUI, emulator: Emulator, widgets: dict[str, object], named: list[str]
) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIOutpaint", image=graph.image(photo(64, 64)), **widgets)[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")
    assert all(words in told["exception_message"] for words in named), told["exception_message"]
    assert emulator.requests == []


def test_a_panorama_is_taken_from_widgets_and_from_a_placement(comfy: ComfyUI, emulator: Emulator) -> None:
    """Its shape is as near as whole pixels come. Where it is refused, doing what the advice says is enough."""
    graph = Graph(comfy)
    image = graph.image(photo(12000, 300))
    got = run_outpaint(comfy, graph, graph.add("HiDreamAPIOutpaint", image=image))
    assert (got.placement["width"], got.placement["height"]) == (512, 13)

    def within_a_canvas_of(height: int) -> Graph:
        graph = Graph(comfy)
        more = height - 300
        placed = graph.add(
            "RemoteOutpaintPlacement",
            image=graph.image(photo(12000, 300)),
            target="pixels per side",
            top=more // 2,
            bottom=more - more // 2,
        )
        image = graph.image(photo(12000, 300))
        graph.save(graph.add("HiDreamAPIOutpaint", image=image, placement=placed[0])[0])
        return graph

    told = failed(comfy, within_a_canvas_of(500).prompt, "InvalidInputError")["exception_message"]
    assert "1024×43" in told and "at least 64 px" in told
    (advised,) = re.findall(r"at least (\d+) px high", told)
    failed(comfy, within_a_canvas_of(int(advised) - 20).prompt, "InvalidInputError")
    comfy.run(within_a_canvas_of(int(advised)).prompt)
    assert emulator.billed == 2


def test_one_pixel_of_an_image_is_enough(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    node = graph.add(
        "HiDreamAPIOutpaint", image=graph.image(photo(1, 1)), canvas_width=64, canvas_height=64, ratio=0.05
    )
    got = run_outpaint(comfy, graph, node)
    assert (got.placement["width"], got.placement["height"]) == (3, 3)
