"""Outpaint Paste Back in a real ComfyUI: the original's pixels at full resolution, whoever painted around them.

The ComfyUI of this file has nodes that make floats which are no n/255 or NaN, and that compare two images bit by bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui.host import ComfyUI, Result
from emulator import Emulator
from tests.host.buying import forget_purchases, start_over
from tests.host.prompts import CHINESE, Graph, Link, Node, Pixels, Running, failed, fields_of, mean_error, photo, pixels
from tests.thinned import thinned

PROBE = '''
import json
import torch

class Floats:
    """An IMAGE of any shape with values from -0.5 to 1.5, no two alike, or all of one value."""
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "give"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"shape": ("STRING", {}), "value": ("STRING", {})}}

    def give(self, shape, value):
        shape = json.loads(shape)
        if value == "random":
            return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 0.5,)
        return (torch.full(shape, float(value)),)

class AnyType(str):
    def __ne__(self, other):
        return False

class Anything:
    RETURN_TYPES = (AnyType("*"),)
    FUNCTION = "give"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {})}}

    def give(self, value):
        return (json.loads(value),)

class Same:
    """Whether the pixels of `part` are, bit by bit, those of `whole` from x, y on, for each image of the batch."""
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "compare"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {
            "whole": ("IMAGE",), "part": ("IMAGE",), "x": ("INT", {"max": 99999}), "y": ("INT", {"max": 99999}),
        }}

    def compare(self, whole, part, x, y):
        height, width = part.shape[1:3]
        cut = whole[:, y : y + height, x : x + width]
        same = [torch.equal(one, other[..., :3]) for one, other in zip(cut, part, strict=True)]
        return {"ui": {"text": [json.dumps(same)]}}

NODE_CLASS_MAPPINGS = {"TestAnything": Anything, "TestFloats": Floats, "TestSame": Same}
'''

SIDES = ("left", "top", "right", "bottom")
PADDED, MASK = 7, 8
"""Outputs of the placement node, after the placement, four sides and the canvas' size."""


@pytest.fixture(scope="module")
def probing_comfyui(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("probing")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(PROBE, encoding="utf-8")
    with ComfyUI(base, environment=service_environment, preloaded=True) as comfyui:
        yield comfyui


@pytest.fixture
def comfy(probing_comfyui: ComfyUI, emulator: Emulator) -> Iterator[ComfyUI]:
    start_over(probing_comfyui, emulator)
    yield probing_comfyui
    forget_purchases(probing_comfyui)  # else its background poller asks for parked tasks while other tests count


def placed(graph: Graph, image: Link, **widgets: Any) -> Node:
    return graph.add("RemoteOutpaintPlacement", image=image, **widgets)


def pasted(graph: Graph, generated: Link, original: Link, placement: Link, **widgets: Any) -> Node:
    return graph.add(
        "RemoteOutpaintPasteBack",
        generated=generated,
        original=original,
        placement=placement,
        **widgets,
    )


def padded(graph: Graph, image: Link, **sides: int) -> tuple[Node, Node]:
    """The local way: a placement by pixels per side, and core's own padding by the numbers it gives."""
    placement = placed(graph, image, target="pixels per side", **sides)
    wires = {side: placement[slot] for slot, side in enumerate(SIDES, start=1)}
    return placement, graph.add("ImagePadForOutpaint", image=image, feathering=0, **wires)


def kept(picture: Pixels, x: int, y: int, original: Pixels) -> Pixels:
    return picture[y : y + original.shape[0], x : x + original.shape[1]]


def only_picture(comfy: ComfyUI, result: Result, node: str) -> Pixels:
    (picture,) = comfy.images(result, node)
    return pixels(picture)


# ---- photographs far beyond what the services take


def painted_by_hidream(graph: Graph, image: Link, placement: Node) -> Node:
    node = graph.add("HiDreamAPIOutpaint", image=image, placement=placement[0])
    return graph.add("HiDreamAPIUpscale", image=node[0])


def painted_by_volcengine(graph: Graph, image: Link, placement: Node) -> Node:
    return graph.add("VolcengineAPIOutpaint", image=image, placement=placement[0])


def painted_on_the_canvas(graph: Graph, image: Link, placement: Node) -> Node:
    return graph.add("VolcengineAPIOutpaintCanvas", image=placement[PADDED], mask=placement[MASK])


@thinned(
    ("paint", "size", "canvas", "generated", "bought"),
    [
        # 4000 · 16 / 9 = 7111.1: 24 megapixels become 28.
        (painted_by_hidream, (6000, 4000), (7111, 4000), (2048, 1152), 2),
        (painted_by_hidream, (2500, 1701), (3024, 1701), (2048, 1152), 2),
        (painted_by_volcengine, (2500, 1701), (3024, 1701), (1920, 1080), 1),
        (painted_on_the_canvas, (2500, 1701), (3024, 1701), (1920, 1080), 1),
    ],
    kept=(3,),
)
def test_every_pixel_of_a_large_photograph_comes_back(
    comfy: ComfyUI,
    emulator: Emulator,
    paint: Callable[[Graph, Link, Node], Node],
    size: tuple[int, int],
    canvas: tuple[int, int],
    generated: tuple[int, int],
    bought: int,
) -> None:
    """Placement → outpaint, far below the photograph's resolution → (upscale) → paste back → SaveImage."""
    photograph = photo(*size)
    graph = Graph(comfy)
    image = graph.image(photograph)
    placement = placed(graph, image)
    made = paint(graph, image, placement)
    node = pasted(graph, made[0], image, placement[0])
    saved, raw, shown = graph.save(node[0]), graph.save(made[0]), graph.show(placement[0])
    result = comfy.run(graph.prompt, timeout=180)

    place = fields_of(result.texts(shown)[0])
    x = (canvas[0] - size[0]) // 2
    names = ("canvas_width", "canvas_height", "x", "y", "width", "height")
    assert place == dict(zip(names, (*canvas, x, 0, *size), strict=True))
    picture = only_picture(comfy, result, saved)
    assert picture.shape == (canvas[1], canvas[0], 3)
    assert np.array_equal(kept(picture, x, 0, pixels(photograph)), pixels(photograph)), "every pixel of the original"

    came = comfy.images(result, raw)[0].convert("RGB")
    assert (came.width, came.height) == pytest.approx(generated, abs=2)
    # What is new is what was made, and no padding.
    larger = pixels(came.resize(canvas, Image.Resampling.LANCZOS))
    for new in (slice(0, x - 15), slice(x + size[0] + 15, canvas[0])):
        assert mean_error(picture[:, new], larger[:, new]) < 4
    assert emulator.billed == bought


@thinned("position", ["bottom right", "center"])
def test_the_placement_that_an_outpaint_node_returns_leads_back_too(comfy: ComfyUI, position: str) -> None:
    """1024 px for 3024: the canvas is what that placement says at the photograph's scale."""
    photograph = photo(2500, 1701)
    graph = Graph(comfy)
    image = graph.image(photograph)
    painted = graph.add("HiDreamAPIOutpaint", image=image, placement=placed(graph, image, position=position)[0])
    saved = graph.save(pasted(graph, painted[0], image, painted[2])[0])
    shown = graph.show(painted[2])
    result = comfy.run(graph.prompt, timeout=180)
    place = fields_of(result.texts(shown)[0])
    assert place["canvas_width"] == 1024
    across, down = 2500 / place["width"], 1701 / place["height"]
    picture = only_picture(comfy, result, saved)
    width, height = int(1024 * across + 0.5), int(place["canvas_height"] * down + 0.5)
    assert picture.shape == (height, width, 3)
    x, y = int(place["x"] * across + 0.5), int(place["y"] * down + 0.5)
    assert np.array_equal(kept(picture, x, y, pixels(photograph)), pixels(photograph))


# ---- the local way


def test_a_local_canvas_comes_back_bit_by_bit(comfy: ComfyUI, emulator: Emulator) -> None:
    """Identity where nothing is asked: nothing is resampled, inside and outside."""
    original = photo(203, 151)
    graph = Graph(comfy)
    image = graph.image(original)
    placement, canvas = padded(graph, image, left=31, top=7, right=50, bottom=18)
    node = pasted(graph, canvas[0], image, placement[0])
    whole = graph.add("TestSame", whole=node[0], part=canvas[0], x=0, y=0)
    inside = graph.add("TestSame", whole=node[0], part=image, x=31, y=7)
    saved, mask, padding = graph.save(node[0]), graph.save_mask(node[1]), graph.save_mask(canvas[1])
    result = comfy.run(graph.prompt)
    assert result.texts(whole.id) == result.texts(inside.id) == ["[true]"]
    picture = only_picture(comfy, result, saved)
    assert picture.shape == (176, 284, 3)
    assert np.array_equal(kept(picture, 31, 7, pixels(original)), pixels(original))
    assert np.array_equal(only_picture(comfy, result, mask), only_picture(comfy, result, padding))
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("size", "sides"),
    [((1, 1), (1, 1, 1, 1)), ((1, 97), (0, 0, 40, 0)), ((64, 1), (0, 31, 0, 2)), ((33, 35), (0, 0, 0, 1))],
)
@pytest.mark.parametrize("mode", ["exact", "blend"])
def test_the_smallest_sides(
    comfy: ComfyUI, size: tuple[int, int], sides: tuple[int, int, int, int], mode: str
) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(*size))
    placement, canvas = padded(graph, image, **dict(zip(SIDES, sides, strict=True)))
    node = pasted(graph, canvas[0], image, placement[0], mode=mode)
    saved, made = graph.save(node[0]), graph.save(canvas[0])
    result = comfy.run(graph.prompt)
    # The original and what was kept of it are the same: a blend of both is, too.
    assert np.array_equal(only_picture(comfy, result, saved), only_picture(comfy, result, made))


def test_an_enlarged_canvas_gets_the_original_at_its_own_size(comfy: ComfyUI) -> None:
    original = photo(203, 151)
    graph = Graph(comfy)
    image = graph.image(original)
    placement, canvas = padded(graph, image, left=31, top=7, right=50, bottom=18)
    larger = graph.add("ImageScaleBy", image=canvas[0], upscale_method="lanczos", scale_by=2.0)
    native = graph.save(pasted(graph, larger[0], image, placement[0])[0])
    as_made = graph.save(pasted(graph, larger[0], image, placement[0], output_size="generated")[0])
    half = graph.save(pasted(graph, larger[0], image, placement[0], output_size="factor", factor=0.5)[0])
    result = comfy.run(graph.prompt)
    picture = only_picture(comfy, result, native)
    assert picture.shape == (176, 284, 3)
    assert np.array_equal(kept(picture, 31, 7, pixels(original)), pixels(original))
    assert only_picture(comfy, result, as_made).shape == (352, 568, 3)
    assert only_picture(comfy, result, half).shape == (88, 142, 3)


def test_floats_come_back_bit_by_bit(comfy: ComfyUI) -> None:
    """Also where they are no n/255, or darker than black and lighter than white."""
    graph = Graph(comfy)
    image = graph.add("TestFloats", shape="[2, 90, 120, 3]", value="random")[0]
    placement, canvas = padded(graph, image, left=20, top=10, right=0, bottom=30)
    smaller = graph.add("ImageScale", image=canvas[0], upscale_method="area", width=70, height=65, crop="disabled")
    checks = []
    for generated, x, y in ((canvas, 20, 10), (smaller, 20, 10)):
        node = pasted(graph, generated[0], image, placement[0])
        checks.append(graph.add("TestSame", whole=node[0], part=image, x=x, y=y))
    untouched = pasted(graph, canvas[0], image, placement[0], match_color=True, registration="correct")
    checks.append(graph.add("TestSame", whole=untouched[0], part=canvas[0], x=0, y=0))
    blended = pasted(graph, smaller[0], image, placement[0], mode="blend", blend_pixels=12)
    inner = graph.add("ImageCrop", image=image, x=12, y=12, width=108, height=66)
    checks.append(graph.add("TestSame", whole=blended[0], part=inner[0], x=32, y=22))
    result = comfy.run(graph.prompt)
    assert [result.texts(check.id) for check in checks] == [["[true, true]"]] * 4


def test_transparent_originals_are_put_on_white_and_that_is_said(comfy: ComfyUI) -> None:
    rgb = photo(80, 60)
    alpha = np.tile(np.linspace(0, 255, 80).round().astype(np.uint8), (60, 1))
    picture = rgb.copy()
    picture.putalpha(Image.fromarray(alpha))
    graph = Graph(comfy)
    original = graph.rgba(picture)
    placement, canvas = padded(graph, graph.image(rgb), left=20, right=20)
    node = pasted(graph, canvas[0], original, placement[0])
    saved = graph.save(node[0])
    result = comfy.run(graph.prompt)
    share = alpha[..., None] / 255
    expected = np.rint(pixels(rgb) * share + 255 * (1 - share)).astype(np.uint8)
    got = only_picture(comfy, result, saved)[:, 20:100]
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1
    assert comfy.images(result, saved)[0].mode == "RGB"
    assert any("white" in text and "白色" in text for text in result.texts(node.id))


# ---- batches


def fronts(results: list[Pixels], originals: list[Image.Image], x: int, y: int) -> list[bool]:
    return [
        np.array_equal(kept(result, x, y, pixels(original)), pixels(original))
        for result, original in zip(results, originals, strict=True)
    ]


@pytest.mark.parametrize(
    ("originals", "variants"), [(2, 1), (2, 2), (1, 3)], ids=["2 of 2", "2 originals, 2 variants each", "1 for 3"]
)
def test_each_picture_of_a_batch_gets_its_original(
    comfy: ComfyUI, emulator: Emulator, originals: int, variants: int
) -> None:
    pictures = [photo(100, 80, seed) for seed in range(originals)]
    graph = Graph(comfy)
    image = graph.image(*pictures)
    painted = graph.add(
        "HiDreamAPIOutpaint", image=image, canvas_width=200, canvas_height=160, variants=variants
    )
    node = pasted(graph, graph.add("HiDreamAPIUpscale", image=painted[0])[0], image, painted[2])
    saved, mask, report = graph.save(node[0]), graph.save_mask(node[1]), graph.show(node[2])
    result = comfy.run(graph.prompt)
    results = [pixels(picture) for picture in comfy.images(result, saved)]
    expected = [picture for picture in pictures for _ in range(variants)]
    assert fronts(results, expected, 50, 40) == [True] * originals * variants
    if variants > 1:
        assert (results[0] != results[1]).any(), "each variant's own surroundings"
    (new,) = comfy.images(result, mask)
    frame = np.full((160, 200), 255, np.uint8)
    frame[40:120, 50:150] = 0
    assert np.array_equal(pixels(new)[..., 0], frame)
    (words,) = result.texts(report)
    check_report(words, originals * variants)


@pytest.mark.parametrize(("generated", "originals"), [(2, 3), (3, 2), (1, 2)])
def test_counts_that_do_not_match_are_named(comfy: ComfyUI, generated: int, originals: int) -> None:
    graph = Graph(comfy)
    image = graph.image(*(photo(60, 40, seed) for seed in range(originals)))
    placement = placed(graph, image, target="pixels per side", left=10, right=10)
    canvas = graph.image(*(photo(80, 40, seed) for seed in range(generated)))
    graph.save(pasted(graph, canvas, image, placement[0])[0])
    message = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    english, chinese = message.strip().split("\n")
    for words in (english, chinese):
        assert str(generated) in words
        assert str(originals) in words


# ---- what it says


def check_report(words: str, pictures: int) -> None:
    """Blocks of English lines, each followed by its block of Chinese lines: a pair for each picture."""
    languages = ["zh" if CHINESE.search(line) else "en" for line in words.splitlines() if line.strip()]
    changes = [language for index, language in enumerate(languages) if index == 0 or languages[index - 1] != language]
    assert changes == ["en", "zh"] * pictures, words
    assert languages.count("en") == languages.count("zh"), words


def test_the_report_is_readable_in_both_languages(comfy: ComfyUI) -> None:
    original = photo(160, 120)
    graph = Graph(comfy)
    image = graph.image(original)
    placement, canvas = padded(graph, image, left=40, top=30, right=40, bottom=30)
    dark = graph.add("ImageScaleBy", image=canvas[0], upscale_method="bicubic", scale_by=0.5)
    nodes = [
        pasted(graph, dark[0], image, placement[0], **widgets)
        for widgets in ({}, {"mode": "blend", "match_color": True, "registration": "correct"})
    ]
    shown = [graph.show(node[2]) for node in nodes]
    result = comfy.run(graph.prompt)
    for node, report in zip(nodes, shown, strict=True):
        (words,) = result.texts(report)
        check_report(words, 1)
        assert result.texts(node.id), "in short, below the node"
        assert all(len(text.split("\n")) == 2 and CHINESE.search(text.split("\n")[1]) for text in result.texts(node.id))


# ---- what is refused


@pytest.mark.parametrize("broken", ["generated", "original"])
def test_nan_is_refused(comfy: ComfyUI, broken: str) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(60, 40))
    placement = placed(graph, image, target="pixels per side", left=10, right=10)
    wires = {"generated": graph.image(photo(80, 40)), "original": image}
    shape = json.dumps([1, 40, 80 if broken == "generated" else 60, 3])
    wires[broken] = graph.add("TestFloats", shape=shape, value="nan")[0]
    graph.save(pasted(graph, placement=placement[0], **wires)[0])
    english, chinese = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"].strip().split("\n")
    assert f"{broken} contains" in english and "NaN" in english and f"{broken}" in chinese
    assert "Billed" not in english and "计费" not in chinese, "nothing could be"


@pytest.mark.parametrize(
    ("original", "generated", "named"),
    [((40, 60), (80, 40), ("40×60", "60×40")), ((60, 40), (80, 80), ("80×80", "80×40"))],
    ids=["another original", "another canvas"],
)
def test_shapes_that_do_not_belong_together_are_named(
    comfy: ComfyUI, original: tuple[int, int], generated: tuple[int, int], named: tuple[str, str]
) -> None:
    graph = Graph(comfy)
    placement = placed(graph, graph.image(photo(60, 40)), target="pixels per side", left=10, right=10)
    graph.save(pasted(graph, graph.image(photo(*generated)), graph.image(photo(*original)), placement[0])[0])
    english, chinese = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"].strip().split("\n")
    for words in (english, chinese):
        assert all(size in words for size in named), words


def test_something_else_on_the_placement_wire_is_refused(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(60, 40))
    node = graph.add("TestAnything", value='{"canvas_width": 60, "canvas_height": 40}')
    graph.save(pasted(graph, image, image, node[0])[0])
    failed(comfy, graph.prompt, "InvalidInputError")


@pytest.mark.parametrize(
    ("widget", "value"),
    [
        ("mode", "soft"),
        ("output_size", "huge"),
        ("registration", "fix"),
        ("blend_pixels", 0),
        ("blend_pixels", 1025),
        ("factor", 0.01),
        ("factor", 9.0),
        ("match_color", "maybe"),
        ("factor", None),
    ],
)
def test_values_out_of_range_never_reach_a_picture(comfy: ComfyUI, widget: str, value: Any) -> None:
    """By a wire, which ComfyUI does not check."""
    graph = Graph(comfy)
    image = graph.image(photo(60, 40))
    placement, canvas = padded(graph, image, left=10)
    wired = graph.add("TestAnything", value=json.dumps(value))[0]
    graph.save(pasted(graph, canvas[0], image, placement[0], **{widget: wired})[0])
    assert f"{widget}" in failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]


# ---- interrupt


def test_an_interrupt_ends_the_node_that_works(comfy: ComfyUI) -> None:
    """The node itself ends, in the middle of its work: neither is it heard to finish, nor is the next one begun."""
    graph = Graph(comfy)
    image = graph.image(photo(3000, 2000))
    placement, canvas = padded(graph, image, left=500, top=500, right=500, bottom=500)
    node = pasted(
        graph, canvas[0], image, placement[0], mode="blend", output_size="factor", factor=2.0, match_color=True,
        registration="correct",
    )  # fmt: skip
    after = graph.save(node[0])
    running = Running(comfy, graph)
    running.event("executing", node.id, timeout=60)
    running.interrupt()
    events = comfy.events.since(running.start)
    assert [event.data["node_id"] for event in events if event.type == "execution_interrupted"] == [node.id]
    assert not [event for event in events if event.type == "executed" and event.node == node.id]
    assert not [event for event in events if event.type == "executing" and event.node == after]

    small = Graph(comfy)
    picture = small.image(photo(60, 40))
    placement, canvas = padded(small, picture, left=10)
    saved = small.save(pasted(small, canvas[0], picture, placement[0])[0])
    assert only_picture(comfy, comfy.run(small.prompt), saved).shape == (40, 70, 3)
