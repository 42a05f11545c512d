"""RemoteOutpaintPlacement in a real ComfyUI: its numbers, pictures and masks, and what the other nodes make of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui.host import ComfyUI, OutputFile, Result
from emulator import Emulator
from tests.host.buying import sends_nothing
from tests.host.prompts import (
    Graph,
    Node,
    Pixels,
    bodies,
    failed,
    fields_of,
    lanczos,
    mean_error,
    photo,
    pixels,
    run_outpaint,
)
from tests.thinned import thinned

NAMES = ("canvas_width", "canvas_height", "x", "y", "width", "height")
PLACEMENT, LEFT, TOP, RIGHT, BOTTOM, CANVAS_WIDTH, CANVAS_HEIGHT, IMAGE, MASK = range(9)
CANVAS, SIDES = "canvas size", "pixels per side"
MOST_ERROR = 2.0


def placed(*values: int) -> dict[str, int]:
    return dict(zip(NAMES, values, strict=True))


@dataclass(frozen=True)
class Shown:
    """The savers and viewers behind one placement node."""

    node: Node
    picture: str
    mask: str
    numbers: list[str]

    @classmethod
    def behind(cls, graph: Graph, node: Node) -> Shown:
        numbers = [graph.show(node[slot]) for slot in range(IMAGE)]
        return cls(node, graph.save(node[IMAGE]), graph.save_mask(node[MASK]), numbers)

    def seen(self, comfy: ComfyUI, result: Result) -> Laid:
        shown = [result.texts(number)[0] for number in self.numbers]
        (mask,) = comfy.images(result, self.mask)
        return Laid(
            fields_of(shown[PLACEMENT]),
            [int(number) for number in shown[LEFT:]],
            [pixels(image) for image in comfy.images(result, self.picture)],
            pixels(mask)[..., 0],
            result.texts(self.node.id),
        )


@dataclass(frozen=True)
class Laid:
    """What a placement node gave."""

    placement: dict[str, int]
    numbers: list[int]
    pictures: list[Pixels]
    mask: Pixels
    texts: list[str]

    @property
    def inside(self) -> tuple[slice, slice]:
        place = self.placement
        return slice(place["y"], place["y"] + place["height"]), slice(place["x"], place["x"] + place["width"])

    def check_sums(self) -> None:
        """The numbers are those of the placement, and add up to the sizes of picture and mask."""
        left, top, right, bottom, width, height = self.numbers
        place = self.placement
        assert (left, top, width, height) == (place["x"], place["y"], place["canvas_width"], place["canvas_height"])
        assert left + place["width"] + right == width
        assert top + place["height"] + bottom == height
        assert {picture.shape[:2] for picture in self.pictures} == {self.mask.shape} == {(height, width)}

    def frame(self) -> Pixels:
        mask = np.full(self.mask.shape, 255, np.uint8)
        mask[self.inside] = 0
        return mask


def lay_out(comfy: ComfyUI, *originals: Image.Image, **widgets: Any) -> Laid:
    graph = Graph(comfy)
    shown = Shown.behind(graph, graph.add("RemoteOutpaintPlacement", image=graph.image(*originals), **widgets))
    return shown.seen(comfy, comfy.run(graph.prompt))


def sides(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    return {"target": SIDES, "left": left, "top": top, "right": right, "bottom": bottom}


# ---- numbers


@thinned(
    ("original", "widgets", "expected"),
    [
        ((300, 200), {}, (356, 200, 28, 0, 300, 200)),
        ((300, 200), {"ratio": 0.5, "position": "bottom right"}, (711, 400, 411, 200, 300, 200)),
        ((105, 77), {"aspect_ratio": "1.91:1", "position": "left"}, (147, 77, 0, 0, 105, 77)),
        ((77, 105), {"aspect_ratio": "1:1", "ratio": 0.35}, (300, 300, 111, 97, 77, 105)),
        ((300, 200), {"position": "offset", "x_offset": 56}, (356, 200, 56, 0, 300, 200)),
        ((600, 400), {"target": CANVAS, "canvas_width": 300, "canvas_height": 301}, (300, 301, 0, 50, 300, 200)),
        ((60, 40), {"target": CANVAS, "ratio": 0.5, "position": "top"}, (1024, 1024, 256, 0, 512, 341)),
        ((105, 77), sides(24, 16, 41, 8), (170, 101, 24, 16, 105, 77)),
        ((105, 77), sides(1, 0, 0, 0), (106, 77, 1, 0, 105, 77)),
        ((1, 1), sides(3, 0, 1, 2), (5, 3, 3, 0, 1, 1)),
        ((1, 1), {"aspect_ratio": "21:9"}, (2, 1, 0, 0, 1, 1)),
        ((1, 1), {"target": CANVAS, "canvas_width": 17, "canvas_height": 16}, (17, 16, 0, 0, 16, 16)),
        # What does not belong to the target is left alone, whatever it is.
        ((60, 40), {**sides(2, 2, 2, 2), "ratio": 0.1, "position": "offset", "x_offset": 999}, (64, 44, 2, 2, 60, 40)),
        ((300, 200), {"left": 7, "canvas_width": 16}, (356, 200, 28, 0, 300, 200)),
    ],
    kept=(0, 3, 5, 7, 10, 12),
)
def test_where_the_original_goes(
    comfy: ComfyUI,
    emulator: Emulator,
    original: tuple[int, int],
    widgets: dict[str, Any],
    expected: tuple[int, ...],
) -> None:
    picture = photo(*original, seed=1)
    got = lay_out(comfy, picture, **widgets)
    assert got.placement == placed(*expected)
    got.check_sums()
    assert (got.mask == got.frame()).all()
    kept = got.pictures[0][got.inside]
    if expected[4:] == original:
        assert (kept == pixels(picture)).all()
        assert got.texts == []
    else:
        assert (kept == lanczos(picture, *expected[4:])).all()
        told = "\n".join(got.texts)
        assert f"from {original[0]}×{original[1]} to {expected[4]}×{expected[5]}" in told
        assert f"scaled to {expected[4]}×{expected[5]} first" in told
        assert "外补画板" in told
    assert emulator.requests == []


def test_all_positions(comfy: ComfyUI) -> None:
    corners = {
        "center": (35, 30),
        "top": (35, 0),
        "bottom": (35, 61),
        "left": (0, 30),
        "right": (71, 30),
        "top left": (0, 0),
        "top right": (71, 0),
        "bottom left": (0, 61),
        "bottom right": (71, 61),
        "offset": (13, 59),
    }
    graph = Graph(comfy)
    image = graph.image(photo(90, 80))
    common = {"target": CANVAS, "canvas_width": 161, "canvas_height": 141, "ratio": 0.567, "x_offset": 13}
    shown = [
        Shown.behind(graph, graph.add("RemoteOutpaintPlacement", image=image, **common, y_offset=59, position=position))
        for position in corners
    ]
    result = comfy.run(graph.prompt)
    for each, corner in zip(shown, corners.values(), strict=True):
        got = each.seen(comfy, result)
        got.check_sums()
        assert got.placement == placed(161, 141, *corner, 90, 80)


@pytest.mark.parametrize(
    ("widgets", "named"),
    [
        ({"position": "offset", "x_offset": 57}, ["300×200 at 57, 0", "356×200"]),
        ({"target": CANVAS, "position": "offset", "y_offset": 400}, ["1024×683 at 0, 400", "1024×1024"]),
        (sides(16384, 16384, 16384, 16384), ["33068×32968", "268.4"]),
    ],
)
def test_what_cannot_be_is_named(comfy: ComfyUI, widgets: dict[str, Any], named: list[str]) -> None:
    graph = Graph(comfy)
    node = graph.add("RemoteOutpaintPlacement", image=graph.image(photo(300, 200)), **widgets)
    graph.show(node[PLACEMENT])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert all(words in told for words in named), told


@pytest.mark.parametrize("value", [-5, 16385])
def test_linked_values_are_checked_too(comfy: ComfyUI, value: int) -> None:
    """ComfyUI checks the range of no value that comes over a wire."""
    graph = Graph(comfy)
    widgets = {**sides(0, 0, 8, 0), "top": graph.add("PrimitiveInt", value=value)[0]}
    node = graph.add("RemoteOutpaintPlacement", image=graph.image(photo(30, 20)), **widgets)
    graph.show(node[PLACEMENT])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "top" in told
    assert str(value) in told


# ---- pictures


def test_every_fill_leaves_the_original_alone(comfy: ComfyUI) -> None:
    original = photo(91, 63)
    graph = Graph(comfy)
    image = graph.image(original)
    widgets = sides(40, 0, 25, 33)
    nodes = {
        fill: graph.add("RemoteOutpaintPlacement", image=image, **widgets, fill=fill)
        for fill in ("grey", "white", "edge", "blur")
    }
    theirs = graph.add("ImagePadForOutpaint", image=image, left=40, top=0, right=25, bottom=33)
    shown = {fill: Shown.behind(graph, node) for fill, node in nodes.items()}
    saved = graph.save(theirs[0])
    result = comfy.run(graph.prompt)
    got = {fill: each.seen(comfy, result) for fill, each in shown.items()}
    for each in got.values():
        assert (each.pictures[0][each.inside] == pixels(original)).all()
    around = got["grey"].frame() == 255
    made = {fill: each.pictures[0] for fill, each in got.items()}
    assert (made["grey"] == pixels(comfy.images(result, saved)[0])).all()
    assert (made["white"][around] == 255).all()
    assert (made["edge"] == np.pad(pixels(original), ((0, 33), (40, 25), (0, 0)), mode="edge")).all()
    # Near the edges' colours, and without their detail.
    assert mean_error(made["blur"][:, :40], made["edge"][:, :40]) < 60
    assert np.abs(np.diff(made["blur"][:, :40].astype(int), axis=0)).max() <= 12
    assert made["blur"][around].std() > 2


def test_a_batch_keeps_its_order_and_has_one_mask(comfy: ComfyUI) -> None:
    originals = [photo(57, 33, seed) for seed in (1, 2, 3)]
    for widgets in (sides(3, 5, 7, 9), {"target": CANVAS, "canvas_width": 57, "canvas_height": 64}):
        got = lay_out(comfy, *originals, **widgets)
        got.check_sums()
        assert len(got.pictures) == 3
        for picture, original in zip(got.pictures, originals, strict=True):
            assert (picture[got.inside] == pixels(original)).all()


def test_transparent_and_grey_pictures(comfy: ComfyUI) -> None:
    picture = photo(40, 30)
    picture.putalpha(Image.new("L", picture.size, 0))
    graph = Graph(comfy)
    clear = Shown.behind(graph, graph.add("RemoteOutpaintPlacement", image=graph.rgba(picture), **sides(8, 8, 8, 8)))
    levels = np.tile(np.arange(40, dtype=np.uint8), (30, 1))
    grey = graph.add("MaskToImage", mask=graph.mask(levels))[0]
    flat = Shown.behind(graph, graph.add("RemoteOutpaintPlacement", image=grey, **sides(8, 8, 8, 8)))
    result = comfy.run(graph.prompt)
    got = clear.seen(comfy, result)
    assert (got.pictures[0][got.inside] == 255).all()
    assert any("white" in text for text in got.texts)
    got = flat.seen(comfy, result)
    assert (got.pictures[0][got.inside] == levels[..., None]).all()


def test_nothing_new_is_told_and_is_no_error(comfy: ComfyUI) -> None:
    original = photo(60, 40)
    got = lay_out(comfy, original, aspect_ratio="3:2", feathering=10)
    assert got.placement == placed(60, 40, 0, 0, 60, 40)
    assert (got.mask == 0).all()
    assert (got.pictures[0] == pixels(original)).all()
    assert any("nothing to paint" in text for text in got.texts)


# ---- ComfyUI's own padding


@pytest.mark.parametrize("size", [(105, 77), (64, 64)])
def test_feathering_is_that_of_pad_image_for_outpainting(comfy: ComfyUI, size: tuple[int, int]) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(*size))
    cases = [
        ((24, 16, 40, 8), 24),
        ((24, 0, 0, 0), 31),
        ((0, 16, 40, 0), 13),
        ((0, 0, 0, 8), 1),
        ((8, 8, 8, 8), 0),
        ((1, 1, 1, 1), 31),
    ]
    ours = [
        Shown.behind(graph, graph.add("RemoteOutpaintPlacement", image=image, **sides(*around), feathering=feathering))
        for around, feathering in cases
    ]
    theirs = []
    for around, feathering in cases:
        padded = graph.add(
            "ImagePadForOutpaint",
            image=image,
            **dict(zip(("left", "top", "right", "bottom"), around, strict=True)),
            feathering=feathering,
        )
        theirs.append((graph.save(padded[0]), graph.save_mask(padded[1])))
    result = comfy.run(graph.prompt)
    for each, (picture, mask) in zip(ours, theirs, strict=True):
        got = each.seen(comfy, result)
        assert (got.pictures[0] == pixels(comfy.images(result, picture)[0])).all()
        assert (got.mask == pixels(comfy.images(result, mask)[0])[..., 0]).all()
        assert got.texts == []


def test_a_feathering_that_comfyui_would_leave_out_is_reduced_and_told(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(105, 77))
    node = graph.add("RemoteOutpaintPlacement", image=image, **sides(8, 8, 8, 8), feathering=39)
    ours = Shown.behind(graph, node)
    theirs = graph.add("ImagePadForOutpaint", image=image, left=8, top=8, right=8, bottom=8, feathering=38)
    mask = graph.save_mask(theirs[1])
    result = comfy.run(graph.prompt)
    got = ours.seen(comfy, result)
    assert (got.mask == pixels(comfy.images(result, mask)[0])[..., 0]).all()
    assert len(np.unique(got.mask)) > 20
    (told,) = got.texts
    assert "from 39 to 38 px" in told
    assert "105×77" in told


@pytest.mark.parametrize("widgets", [{"ratio": 0.7, "position": "right"}, {"target": CANVAS, "ratio": 0.31}])
def test_its_numbers_drive_pad_image_for_outpainting(comfy: ComfyUI, widgets: dict[str, Any]) -> None:
    """Also where the original is scaled: then the image is scaled to the placement's size first, as the words say."""
    graph = Graph(comfy)
    image = graph.image(photo(133, 95))
    node = graph.add("RemoteOutpaintPlacement", image=image, **widgets, feathering=9)
    ours = Shown.behind(graph, node)
    if widgets.get("target") == CANVAS:
        scale = {"upscale_method": "lanczos", "width": 317, "height": 227, "crop": "disabled"}
        image = graph.add("ImageScale", image=image, **scale)[0]
    padded = graph.add(
        "ImagePadForOutpaint",
        image=image,
        left=node[LEFT],
        top=node[TOP],
        right=node[RIGHT],
        bottom=node[BOTTOM],
        feathering=9,
    )
    picture, mask = graph.save(padded[0]), graph.save_mask(padded[1])
    result = comfy.run(graph.prompt)
    got = ours.seen(comfy, result)
    got.check_sums()
    theirs = pixels(comfy.images(result, picture)[0])
    assert theirs.shape == got.pictures[0].shape
    assert mean_error(theirs, got.pictures[0]) <= 0.01
    assert (got.mask == pixels(comfy.images(result, mask)[0])[..., 0]).all()


# ---- the preview


def previews(result: Result, node: Node) -> list[dict[str, Any]]:
    (executed,) = [event for event in result.of_type("executed") if event.node == node.id]
    assert set(executed.data["output"]) - {"account"} == {"text", "outpaint_preview"}
    return executed.data["output"]["outpaint_preview"]


@pytest.mark.parametrize("class_type", ["RemoteOutpaintPlacement", "HiDreamAPIOutpaint"])
def test_a_preview_of_the_first_image_is_served(comfy: ComfyUI, class_type: str) -> None:
    first = photo(700, 350)
    graph = Graph(comfy)
    node = graph.add(class_type, image=graph.image(first, photo(700, 350, 1)))
    graph.save(node[IMAGE if class_type == "RemoteOutpaintPlacement" else 0])
    (told,) = previews(comfy.run(graph.prompt), node)
    assert set(told) == {"filename", "subfolder", "type", "width", "height"}
    assert (told["subfolder"], told["type"], told["width"], told["height"]) == ("", "temp", 700, 350)
    served = comfy.view(OutputFile(node.id, told["filename"], told["subfolder"], told["type"]))
    with Image.open(io.BytesIO(served)) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (512, 256)
        assert mean_error(pixels(picture), lanczos(first, 512, 256)) <= 5


def test_a_preview_that_cannot_be_written_ends_no_run(comfy: ComfyUI) -> None:
    folder = comfy.base / "temp"
    aside = folder.rename(comfy.base / "temp.aside") if folder.exists() else None
    folder.write_bytes(b"no folder")
    try:
        graph = Graph(comfy)
        node = graph.add("RemoteOutpaintPlacement", image=graph.image(photo(61, 43, 9)))
        graph.save(node[IMAGE])
        assert previews(comfy.run(graph.prompt), node) == []
    finally:
        folder.unlink()
        if aside is not None:
            aside.rename(folder)


# ---- other nodes take the placement


def laid_out(graph: Graph, *originals: Image.Image, **widgets: Any) -> tuple[Any, Node]:
    """The image and a placement node for it."""
    image = graph.image(*originals)
    return image, graph.add("RemoteOutpaintPlacement", image=image, **widgets)


def test_a_large_placement_is_scaled_for_hidream_which_returns_its_own(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(3000, 2000)
    graph = Graph(comfy)
    image, layout = laid_out(graph, original, aspect_ratio="3:2", ratio=0.5, position="offset", x_offset=2001)
    # The widgets alone would be refused: they count for nothing here.
    node = graph.add("HiDreamAPIOutpaint", image=image, placement=layout[PLACEMENT], ratio=1.0, canvas_width=64)
    shown = graph.show(layout[PLACEMENT])
    got = run_outpaint(comfy, graph, node)
    assert fields_of(got.result.texts(shown)[0]) == placed(6000, 4000, 2001, 0, 3000, 2000)
    assert got.placement == placed(1024, 683, 342, 0, 512, 342)
    assert (got.masks[0] == got.frame()).all()
    assert mean_error(got.kept(), lanczos(original, 512, 342)) <= MOST_ERROR
    (body,) = bodies(emulator)
    assert body["image"].startswith("<image 512x342 RGB ")
    assert (body["x_offset"], body["y_offset"], body["resolution"]) == (342, 0, "1024*683")
    told = "\n".join(got.texts)
    assert "connected placement was used" in told
    assert "1024×683" in told
    assert "scaled down from 6000×4000" in told
    assert "placement" in told.split("使用了")[1]


def test_a_small_placement_goes_to_hidream_as_it_is(comfy: ComfyUI, emulator: Emulator) -> None:
    originals = [photo(105, 77, seed) for seed in (1, 2)]
    graph = Graph(comfy)
    image, layout = laid_out(graph, *originals, **sides(24, 16, 41, 8))
    node = graph.add("HiDreamAPIOutpaint", image=image, placement=layout[PLACEMENT], variants=2)
    got = run_outpaint(comfy, graph, node)
    assert got.placement == placed(170, 101, 24, 16, 105, 77)
    for index, original in enumerate(original for original in originals for _ in range(2)):
        assert (got.kept(index) == pixels(original)).all(), index
    assert emulator.billed == 4
    assert len(got.texts) == 1


def test_one_outpaint_nodes_placement_serves_another(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    image = graph.image(photo(100, 80))
    first = graph.add("VolcengineAPIOutpaint", image=image, top=0.5, bottom=0.25, left=0.1, right=0.3)
    graph.save(first[0])
    got = run_outpaint(comfy, graph, graph.add("HiDreamAPIOutpaint", image=image, placement=first[2]))
    assert got.placement == placed(140, 140, 10, 40, 100, 80)


@pytest.mark.parametrize(
    ("around", "limits", "expected", "mode"),
    [
        ((24, 16, 41, 8), (1920, 1920), (170, 101, 24, 16, 105, 77), "sides"),
        ((24, 0, 41, 8), (1920, 1920), (170, 85, 24, 0, 105, 77), "canvas"),
        ((210, 16, 41, 8), (1920, 1920), (356, 101, 210, 16, 105, 77), "canvas"),
        ((24, 16, 41, 8), (85, 1920), (85, 51, 12, 8, 53, 39), "sides"),
    ],
)
def test_volcengine_takes_a_placement(
    comfy: ComfyUI,
    emulator: Emulator,
    around: tuple[int, int, int, int],
    limits: tuple[int, int],
    expected: tuple[int, ...],
    mode: str,
) -> None:
    original = photo(105, 77)
    graph = Graph(comfy)
    image, layout = laid_out(graph, original, **sides(*around))
    node = graph.add(
        "VolcengineAPIOutpaint",
        image=image,
        placement=layout[PLACEMENT],
        **dict.fromkeys(("top", "bottom", "left", "right"), 0.0),
        max_width=limits[0],
        max_height=limits[1],
    )
    got = run_outpaint(comfy, graph, node)
    assert got.placement == placed(*expected)
    assert (got.masks[0] == got.frame()).all()
    assert mean_error(got.kept(), lanczos(original, *expected[4:])) <= MOST_ERROR
    (body,) = bodies(emulator, "cvprocess")
    assert ("top" in body) is (mode == "sides")
    assert len(body["binary_data_base64"]) == (1 if mode == "sides" else 2)
    assert "connected placement was used" in got.texts[0]


def test_its_picture_and_mask_feed_the_canvas_node(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(105, 77)
    graph = Graph(comfy)
    _, layout = laid_out(graph, original, aspect_ratio="1:1", ratio=0.6, fill="blur")
    node = graph.add("VolcengineAPIOutpaintCanvas", image=layout[IMAGE], mask=layout[MASK])
    shown = graph.show(layout[PLACEMENT])
    got = run_outpaint(comfy, graph, node)
    assert got.placement == fields_of(got.result.texts(shown)[0]) == placed(175, 175, 35, 49, 105, 77)
    assert (got.kept() == pixels(original)).all()
    assert (got.masks[0] == got.frame()).all()
    assert emulator.billed == 1


def test_a_soft_rim_is_told_with_the_placement_to_connect(comfy: ComfyUI) -> None:
    """The rim is painted too, so that the node's own placement is smaller than the original."""
    graph = Graph(comfy)
    _, layout = laid_out(graph, photo(105, 77), aspect_ratio="1:1", ratio=0.6, feathering=8)
    soft = graph.add("VolcengineAPIOutpaintCanvas", image=layout[IMAGE], mask=layout[MASK])
    got = run_outpaint(comfy, graph, soft)
    assert got.placement["width"] < 105
    told = "\n".join(got.texts)
    assert "soft rim is painted" in told
    assert "羽化边缘" in told


def test_sides_too_narrow_to_be_painted_are_named(comfy: ComfyUI) -> None:
    graph = Graph(comfy)
    image, layout = laid_out(graph, photo(3000, 2000), **sides(1, 500, 1, 0))
    got = run_outpaint(comfy, graph, graph.add("HiDreamAPIOutpaint", image=image, placement=layout[PLACEMENT]))
    told = "\n".join(got.texts)
    assert "left out: left, right." in told
    assert "左、右" in told


BOTH = pytest.mark.parametrize("class_type", ["HiDreamAPIOutpaint", "VolcengineAPIOutpaint"])


@BOTH
def test_the_placement_of_another_image_is_refused_before_paying(
    comfy: ComfyUI, emulator: Emulator, class_type: str
) -> None:
    graph = Graph(comfy)
    _, layout = laid_out(graph, photo(300, 200))
    graph.save(graph.add(class_type, image=graph.image(photo(200, 300)), placement=layout[PLACEMENT])[0])
    with sends_nothing(emulator):
        told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "300×200" in told
    assert "200×300" in told


@BOTH
def test_what_is_no_placement_is_refused(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    graph = Graph(comfy)
    graph.save(graph.add(class_type, image=graph.image(photo(200, 300)), placement="in the middle")[0])
    with sends_nothing(emulator):
        told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "OUTPAINT_PLACEMENT" in told
    assert "str" in told


@BOTH
def test_a_placement_that_leaves_nothing_to_paint_is_refused(
    comfy: ComfyUI, emulator: Emulator, class_type: str
) -> None:
    graph = Graph(comfy)
    image, layout = laid_out(graph, photo(300, 200), aspect_ratio="3:2")
    graph.save(graph.add(class_type, image=image, placement=layout[PLACEMENT])[0])
    with sends_nothing(emulator):
        assert "nothing to paint" in failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]


@pytest.mark.parametrize(("size", "canvas"), [((1900, 100), "1024×55"), ((30, 40), "80×45")])
def test_a_canvas_too_narrow_for_hidream_is_refused_before_paying(
    comfy: ComfyUI, emulator: Emulator, size: tuple[int, int], canvas: str
) -> None:
    graph = Graph(comfy)
    image, layout = laid_out(graph, photo(*size), **sides(50, 5, 0, 0))
    graph.save(graph.add("HiDreamAPIOutpaint", image=image, placement=layout[PLACEMENT])[0])
    with sends_nothing(emulator):
        told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert canvas in told
    assert "64 px" in told


# ---- LoadImage's mask


def test_load_images_empty_mask_is_explained_before_paying(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    picture = photo(120, 80)
    graph.image(picture)
    loaded = Node("1")
    graph.save(graph.add("VolcengineAPIOutpaintCanvas", image=loaded[0], mask=loaded[1])[0])
    with sends_nothing(emulator):
        told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "64×64" in told
    assert "120×80" in told
    assert "LoadImage gives an empty 64×64 mask for pictures without transparency" in told
    assert "空遮罩" in told
