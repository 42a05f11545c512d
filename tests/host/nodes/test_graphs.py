"""Remote nodes together with local ones: blending back, a local upscale model, both services in one graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.prompts import Graph, mean_error, photo, pixels


@pytest.mark.parametrize("feathering", [0, 20])
def test_padded_painted_and_composited(comfy: ComfyUI, emulator: Emulator, feathering: int) -> None:
    """LoadImage → ImagePadForOutpaint → VolcengineAPIOutpaintCanvas → ImageCompositeMasked → SaveImage."""
    original = photo(200, 160)
    graph = Graph(comfy)
    padded = graph.add(
        "ImagePadForOutpaint", image=graph.image(original), left=40, top=24, right=56, bottom=32, feathering=feathering
    )
    painted = graph.add("VolcengineAPIOutpaintCanvas", image=padded[0], mask=padded[1], prompt="a meadow")
    blended = graph.add(
        "ImageCompositeMasked",
        destination=padded[0],
        source=painted[0],
        mask=painted[1],
        x=0,
        y=0,
        resize_source=False,
    )
    saved, before, raw = graph.save(blended[0]), graph.save(padded[0]), graph.save(painted[0])
    result = comfy.run(graph.prompt)
    picture = pixels(comfy.images(result, saved)[0])
    canvas = pixels(comfy.images(result, before)[0])
    made = pixels(comfy.images(result, raw)[0])
    assert picture.shape == (216, 296, 3)
    inner = slice(24 + feathering, 184 - feathering), slice(40 + feathering, 240 - feathering)
    assert (picture[inner] == pixels(original)[feathering : 160 - feathering, feathering : 200 - feathering]).all()
    outside = np.ones((216, 296), bool)
    outside[24:184, 40:240] = False
    assert (picture[outside] == made[outside]).all()
    assert (picture[outside] != canvas[outside]).any(axis=-1).mean() > 0.9, "no grey padding is left"
    assert emulator.billed == 1


def test_hidream_and_pad_image_are_interchangeable(comfy: ComfyUI) -> None:
    """The mask of a remote outpaint drives ImageCompositeMasked as the local one does."""
    original = photo(100, 80)
    graph = Graph(comfy)
    image = graph.image(original)
    painted = graph.add("HiDreamAPIOutpaint", image=image, canvas_width=200, canvas_height=160)
    padded = graph.add("ImagePadForOutpaint", image=image, left=50, top=40, right=50, bottom=40)
    blended = graph.add(
        "ImageCompositeMasked",
        destination=padded[0],
        source=painted[0],
        mask=painted[1],
        x=0,
        y=0,
        resize_source=False,
    )
    saved = graph.save(blended[0])
    picture = pixels(comfy.images(comfy.run(graph.prompt), saved)[0])
    assert (picture[40:120, 50:150] == pixels(original)).all()


def test_one_service_paints_on_where_the_other_stopped(comfy: ComfyUI, emulator: Emulator) -> None:
    original = photo(96, 96)
    graph = Graph(comfy)
    first = graph.add("HiDreamAPIOutpaint", image=graph.image(original), canvas_width=192, canvas_height=192)
    second = graph.add("VolcengineAPIOutpaint", image=first[0], top=0.25, bottom=0.25, left=0.25, right=0.25)
    third = graph.add("HiDreamAPIUpscale", image=second[0])
    between, saved = graph.save(second[0]), graph.save(third[0])
    result = comfy.run(graph.prompt)
    (picture,) = comfy.images(result, between)
    assert picture.size == (288, 288)
    assert (pixels(picture)[96:192, 96:192] == pixels(original)).all()
    assert [image.size for image in comfy.images(result, saved)] == [(576, 576)]
    assert emulator.billed == 3


def doubling_model(path: Path) -> None:
    """An ESRGAN-style network (SRVGGNetCompact) of zeros with a nearest-neighbour base: it doubles pixels exactly."""
    features, scale = 4, 2
    weights = {
        "body.0.weight": torch.zeros(features, 3, 3, 3),
        "body.0.bias": torch.zeros(features),
        "body.1.weight": torch.full((features,), 0.25),
        "body.2.weight": torch.zeros(3 * scale * scale, features, 3, 3),
        "body.2.bias": torch.zeros(3 * scale * scale),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)


def test_a_local_upscale_model_behind_a_remote_outpaint(comfy: ComfyUI, emulator: Emulator) -> None:
    doubling_model(comfy.base / "models" / "upscale_models" / "doubling.pth")
    original = photo(80, 64)
    graph = Graph(comfy)
    painted = graph.add("HiDreamAPIOutpaint", image=graph.image(original), canvas_width=160, canvas_height=128)
    model = graph.add("UpscaleModelLoader", model_name="doubling.pth")
    upscaled = graph.add("ImageUpscaleWithModel", upscale_model=model[0], image=painted[0])
    small, large = graph.save(painted[0]), graph.save(upscaled[0])
    result = comfy.run(graph.prompt)
    (before,), (after,) = comfy.images(result, small), comfy.images(result, large)
    assert before.size == (160, 128)
    assert after.size == (320, 256)
    expected = before.resize((320, 256), Image.Resampling.NEAREST)
    assert mean_error(pixels(after), pixels(expected)) <= 1
    doubled = original.resize((160, 128), Image.Resampling.NEAREST)
    assert mean_error(pixels(after)[64:192, 80:240], pixels(doubled)) <= 1
    assert emulator.billed == 1


def test_a_batch_goes_through_a_whole_graph(comfy: ComfyUI, emulator: Emulator) -> None:
    """Three pictures: padded, painted with variants, blended and upscaled, in order."""
    originals = [photo(80, 80, seed) for seed in range(3)]
    graph = Graph(comfy)
    padded = graph.add("ImagePadForOutpaint", image=graph.image(*originals), left=24, top=24, right=24, bottom=24)
    painted = graph.add("VolcengineAPIOutpaintCanvas", image=padded[0], mask=padded[1])
    blended = graph.add(
        "ImageCompositeMasked",
        destination=padded[0],
        source=painted[0],
        mask=painted[1],
        x=0,
        y=0,
        resize_source=False,
    )
    upscaled = graph.add("HiDreamAPIUpscale", image=blended[0])
    middle, saved = graph.save(blended[0]), graph.save(upscaled[0])
    result = comfy.run(graph.prompt)
    for picture, original in zip(comfy.images(result, middle), originals, strict=True):
        assert (pixels(picture)[24:104, 24:104] == pixels(original)).all()
    assert [picture.size for picture in comfy.images(result, saved)] == [(256, 256)] * 3
    assert emulator.billed == 6


def test_the_same_graph_again_buys_nothing(comfy: ComfyUI, emulator: Emulator) -> None:
    """Nothing moves by itself: ComfyUI's cache answers until a widget, such as `take`, is changed."""
    graph = Graph(comfy)
    image = graph.image(photo(64, 64))
    bought = [
        graph.add("HiDreamAPIUpscale", image=image),
        graph.add("HiDreamAPIOutpaint", image=image),
        graph.add("VolcengineAPIOutpaint", image=image),
    ]
    for node in bought:
        graph.save(node[0])
    comfy.run(graph.prompt)
    assert emulator.billed == 3
    comfy.run(graph.prompt)
    assert emulator.billed == 3
    for node in bought:
        graph.prompt[node.id]["inputs"]["take"] = 1
    comfy.run(graph.prompt)
    assert emulator.billed == 6


def test_pictures_are_handed_on_as_comfyui_has_them(comfy: ComfyUI) -> None:
    """RGB float 0–1 on the CPU, as other nodes expect: core nodes take every one of the outputs."""
    graph = Graph(comfy)
    image = graph.image(photo(75, 100))
    outputs = [
        graph.add("HiDreamAPIOutpaint", image=image, canvas_width=256, canvas_height=256)[0],
        graph.add("HiDreamAPIImageToImage", images=image)[0],
        graph.add("HiDreamAPIUpscale", image=image)[0],
        graph.add("HiDreamAPIModelPhotoSet", image=image)[0],
        graph.add("VolcengineAPIOutpaint", image=image)[0],
    ]
    saved = []
    for output in outputs:
        scaled = graph.add("ImageScale", image=output, upscale_method="lanczos", width=64, height=64, crop="center")
        twice = graph.add("ImageInvert", image=graph.add("ImageInvert", image=scaled[0])[0])
        blurred = graph.add("ImageBlur", image=twice[0], blur_radius=1, sigma=0.3)
        saved.append(graph.save(blurred[0]))
    result = comfy.run(graph.prompt)
    assert [len(comfy.images(result, node)) for node in saved] == [1, 1, 1, 4, 1]
    for node in saved:
        assert all(picture.mode == "RGB" and pixels(picture).std() > 3 for picture in comfy.images(result, node))
