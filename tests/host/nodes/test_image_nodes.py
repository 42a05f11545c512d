"""Image to image, upscale, model photo set and fetching a task again, in a real ComfyUI."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from emulator.pictures import odd_pictures
from tests.endpoints import PAID
from tests.host.buying import change_journal, tasks, until_states
from tests.host.prompts import (
    HIDREAM_SUBMITS,
    Graph,
    bodies,
    failed,
    lanczos,
    mean_error,
    photo,
    pixels,
    submits,
    until,
)
from tests.thinned import thinned

# ---- image to image


@thinned(
    ("aspect_ratio", "size"),
    [
        ("9:16", (576, 1024)),
        ("2:3", (672, 1008)),
        ("4:3", (1024, 768)),
        ("1:1", (1024, 1024)),
        ("3:4", (768, 1024)),
        ("3:2", (1008, 672)),
        ("16:9", (1024, 576)),
    ],
    kept=(0, 3),
)
def test_image_to_image_has_the_chosen_shape(
    comfy: ComfyUI, emulator: Emulator, aspect_ratio: str, size: tuple[int, int]
) -> None:
    graph = Graph(comfy)
    node = graph.add(
        "HiDreamAPIImageToImage",
        images=graph.image(photo(120, 90)),
        prompt="海边的灯塔, at dusk",
        negative_prompt="people",
        aspect_ratio=aspect_ratio,
    )
    graph.save(node[0])
    (picture,) = comfy.images(comfy.run(graph.prompt))
    assert picture.size == size
    (body,) = bodies(emulator)
    assert body["prompt"] == "海边的灯塔, at dusk"
    assert body["negative_prompt"] == "people"
    assert body["aspect_ratio"] == aspect_ratio
    assert body["img_count"] == 1
    assert body["image"].startswith("<image 120x90 RGB ")


def test_every_image_is_a_call_of_its_own_in_order(comfy: ComfyUI, emulator: Emulator) -> None:
    # Flat colours stay recognisable whatever the style is: black, mid grey and white keep their order of brightness.
    flats = [Image.new("RGB", (100, 100), (level, level, level)) for level in (0, 128, 255)]
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIImageToImage", images=graph.image(*flats), img_count=2)
    saved = graph.save(node[0])
    pictures = comfy.images(comfy.run(graph.prompt), saved)
    assert len(pictures) == 6
    brightness = [float(pixels(picture).mean()) for picture in pictures]
    assert max(brightness[:2]) < min(brightness[4:]), brightness
    assert emulator.billed == 6
    assert [body["img_count"] for body in bodies(emulator)] == [2, 2, 2]
    assert len({body["image"] for body in bodies(emulator)}) == 3


@pytest.mark.parametrize("count", [1, 3])
def test_all_as_references_is_one_call_with_a_list(comfy: ComfyUI, emulator: Emulator, count: int) -> None:
    graph = Graph(comfy)
    node = graph.add(
        "HiDreamAPIImageToImage",
        images=graph.image(*(photo(80, 60, seed) for seed in range(count))),
        use_images="all as references",
        img_count=2,
    )
    saved = graph.save(node[0])
    assert len(comfy.images(comfy.run(graph.prompt), saved)) == 2
    (body,) = bodies(emulator)
    assert isinstance(body["image"], list)
    assert len(set(body["image"])) == count
    assert all(image.startswith("<image 80x60 RGB ") for image in body["image"])
    assert emulator.billed == 2


def image_to_image(comfy: ComfyUI, images: int = 1, **widgets: Any) -> tuple[Graph, str, str]:
    """A graph, its node's number and the number of what saves its pictures."""
    graph = Graph(comfy)
    pictures = (photo(64, 64, seed) for seed in range(images))
    node = graph.add("HiDreamAPIImageToImage", images=graph.image(*pictures), **widgets)
    return graph, node.id, graph.save(node[0])


def test_half_a_task_is_an_error_that_names_it(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "do": {"task_status": [1, 3]}})
    graph, _, _ = image_to_image(comfy, img_count=2)
    told = failed(comfy, graph.prompt, "TaskFailedError")["exception_message"]
    (submit,) = submits(emulator)
    assert submit.task_id in told
    assert re.search(r"\b1 pictures (did come|came)\b", told)
    assert "Remote Task Result" in told
    assert "取回远程任务" in told


def test_half_a_task_can_be_taken(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "do": {"task_status": [3, 1, 4, 1]}})
    graph, node, saved = image_to_image(comfy, img_count=4, on_partial="return the rest")
    result = comfy.run(graph.prompt)
    assert len(comfy.images(result, saved)) == 2
    missing = [text for text in result.texts(node) if text.startswith("Missing")]
    assert len(missing) == 2
    assert "emulated failure" in missing[0]
    assert "emulated content review" in missing[1]
    assert "缺失" in missing[0]


def test_nothing_of_a_task_skips_what_is_behind(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "do": {"task_status": [4]}})
    graph, node, saved = image_to_image(comfy, img_count=2, on_partial="return the rest")
    result = comfy.run(graph.prompt)
    assert saved not in result.outputs
    assert any("emulated content review" in text for text in result.texts(node))


def test_after_a_refusal_nothing_more_is_submitted(comfy: ComfyUI, emulator: Emulator) -> None:
    """Three calls are told to come back in a second; in the meantime the fourth is refused."""
    refusal = {"status": 400, "json": {"code": 1051, "message": "emulated refusal"}}
    busy = {"status": 429, "headers": {"Retry-After": "1"}}
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "times": 3, "do": busy})
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "times": 1, "do": {"delay": 0.3, **refusal}})
    graph, _, _ = image_to_image(comfy, images=4)
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "emulated refusal" in told
    assert "3 calls were not submitted" in told
    assert len(submits(emulator)) == 4
    assert emulator.billed == 0


def test_a_refusal_does_not_throw_away_what_was_submitted(comfy: ComfyUI, emulator: Emulator) -> None:
    refusal = {"status": 400, "json": {"code": 1051, "message": "emulated refusal"}}
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "skip": 2, "do": refusal})
    graph, node, saved = image_to_image(comfy, images=3, on_partial="return the rest")
    result = comfy.run(graph.prompt)
    assert len(comfy.images(result, saved)) == 2
    assert [("emulated refusal" in text) for text in result.texts(node)] == [True]
    assert emulator.billed == 2


def test_a_refusal_names_the_tasks_that_were_paid(comfy: ComfyUI, emulator: Emulator) -> None:
    refusal = {"status": 400, "json": {"code": 1051, "message": "emulated refusal"}}
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "skip": 2, "do": refusal})
    graph, _, _ = image_to_image(comfy, images=3)
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    paid = [submit.task_id for submit in submits(emulator) if submit.accepted]
    assert len(paid) == 2
    assert all(told.count(task) == 2 for task in paid), "each once per language"


def test_pictures_of_different_sizes_are_fetched_as_a_list(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "do": {"sizes": [[300, 200], [200, 300]]}})
    graph, _, _ = image_to_image(comfy, img_count=3)
    told = failed(comfy, graph.prompt, "ServiceError")["exception_message"]
    (submit,) = submits(emulator)
    assert "200×300, 300×200" in told
    assert submit.task_id in told
    assert "Remote Task Result" in told
    assert "Billed: yes" in told

    again = Graph(comfy)
    node = again.add("RemoteTaskResult", endpoint="hidream image to image", task_id=f" {submit.task_id} ")
    saved = again.save(node[0])
    result = comfy.run(again.prompt)
    assert [picture.size for picture in comfy.images(result, saved)] == [(300, 200), (200, 300), (300, 200)]
    assert emulator.billed == 3
    assert len(submits(emulator)) == 1


# ---- upscale


@pytest.mark.parametrize(("ratio", "given"), [(2, 2), (4, 4.0)])
def test_upscale(comfy: ComfyUI, emulator: Emulator, ratio: int, given: float) -> None:
    """4.0, as other nodes and older frontends have it, counts as 4: in the body, and in the key."""
    originals = [photo(90, 61, seed).resize((90, 61)) for seed in (1, 2, 3)]

    def upscaled(ratio: float) -> list[Image.Image]:
        graph = Graph(comfy)
        node = graph.add("HiDreamAPIUpscale", image=graph.image(*originals), upscale_ratio=ratio)
        saved = graph.save(node[0])
        return comfy.images(comfy.run(graph.prompt), saved)

    pictures = upscaled(given)
    assert [picture.size for picture in pictures] == [(90 * ratio, 61 * ratio)] * 3
    for index, picture in enumerate(pictures):
        # The emulator sharpens and stamps a corner: near to its own original, far from the others.
        errors = [mean_error(pixels(picture), lanczos(one, *picture.size)) for one in originals]
        assert errors.index(min(errors)) == index, errors
    for body in bodies(emulator):
        assert body["upsale_ratio"] == ratio
        assert type(body["upsale_ratio"]) is int
        assert "upscale_ratio" not in body
        assert body["version"] == "v1"
    assert emulator.billed == 3
    if type(given) is float:
        comfy.forget_results()
        upscaled(ratio)
        assert emulator.billed == 3, "another key"


def test_an_odd_file_is_the_picture_all_the_same(comfy: ComfyUI, emulator: Emulator) -> None:
    """As object stores deliver them; the emulator's plain PNG is what each of them shows."""
    original = photo(90, 61)
    kinds = [kind for kind in odd_pictures.KINDS if kind not in ("heic", "grey16")]
    encodings = ["", "aws-chunked", "gzip", "base64"]
    faults = [*({"encoding": each} for each in encodings), *({"odd_pictures": kind} for kind in kinds), {}]
    plain = None
    for take, fault in reversed(list(enumerate(faults))):
        if fault:
            emulator.add_fault({"phase": "image", "do": fault})
        graph = Graph(comfy)
        saved = graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(original), upscale_ratio=2, take=take)[0])
        (picture,) = comfy.images(comfy.run(graph.prompt), saved)
        plain = pixels(picture) if plain is None else plain
        # JPEG, AVIF and the 256 colours of GIF are not exact.
        assert (picture.size, mean_error(pixels(picture), plain) < 20) == ((180, 122), True), fault
    assert emulator.billed == len(faults)


@pytest.mark.thorough
def test_upscale_beyond_pillows_pixel_limit(comfy: ComfyUI) -> None:
    """Pillow calls 89 megapixels a decompression bomb; the expected size is the limit here."""
    graph = Graph(comfy)
    image = graph.add("EmptyImage", width=2400, height=2400, batch_size=1, color=0x336699)
    upscaled = graph.add("HiDreamAPIUpscale", image=image[0], upscale_ratio=4)
    # A small window of the result, because saving 92 megapixels takes longer than making them.
    crop = graph.add("ImageCrop", image=upscaled[0], width=8, height=8, x=9592, y=100)
    saved = graph.save(crop[0])
    (picture,) = comfy.images(comfy.run(graph.prompt, timeout=120), saved)
    assert picture.getpixel((7, 7)) == (0x33, 0x66, 0x99)


@pytest.mark.parametrize(
    ("width", "height", "ratio", "said"),
    [(4200, 4200, 4, "16800×16800"), (8000, 9000, 2, "16000×18000")],
)
def test_an_upscale_beyond_the_largest_result_is_refused_before_paying(
    comfy: ComfyUI, emulator: Emulator, width: int, height: int, ratio: int, said: str
) -> None:
    graph = Graph(comfy)
    image = graph.add("EmptyImage", width=width, height=height, batch_size=1, color=0)
    graph.save(graph.add("HiDreamAPIUpscale", image=image[0], upscale_ratio=ratio)[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert said in told
    assert "268" in told
    assert emulator.requests == []


def test_the_largest_result_is_not_refused_in_contradiction(comfy: ComfyUI, emulator: Emulator) -> None:
    """16384² is the limit: a refusal must not say that 268 megapixels are more than 268."""
    graph = Graph(comfy)
    image = graph.add("EmptyImage", width=4096, height=4096, batch_size=1, color=0)
    graph.save(graph.add("HiDreamAPIUpscale", image=image[0], upscale_ratio=4)[0])
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"status": 402}})
    told = comfy.run(graph.prompt, expect="error").error["exception_message"]
    stated = re.search(r"\((\d+) megapixels\); at most (\d+)", told)
    assert stated is None or int(stated[1]) > int(stated[2]), told


# ---- model photo set

# What the emulator makes of every template.
SET = [(768, 1024), (900, 1200), (768, 1024), (900, 1200)]


@thinned(
    ("original", "fit", "sent"),
    [
        ((768, 1024), "error", (768, 1024)),
        ((300, 400), "error", (300, 400)),
        ((753, 1000), "error", (753, 1000)),
        ((1000, 1000), "crop", (750, 1000)),
        ((1000, 1000), "pad", (1000, 1333)),
        ((900, 300), "pad", (900, 1200)),
        ((300, 900), "crop", (300, 400)),
        ((2400, 3200), "crop", (1536, 2048)),
        ((3000, 2000), "pad", (1536, 2048)),
        ((768, 1024), "pad", (768, 1024)),
    ],
    kept=(4,),
)
def test_a_photo_is_fitted(
    comfy: ComfyUI, emulator: Emulator, original: tuple[int, int], fit: str, sent: tuple[int, int]
) -> None:
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(*original)), fit=fit)
    saved = graph.save(node[0])
    result = comfy.run(graph.prompt)
    assert [picture.size for picture in comfy.images(result, saved)] == SET
    (body,) = bodies(emulator)
    assert body["image"].startswith(f"<image {sent[0]}x{sent[1]} RGB ")
    assert body["template_id"] == 7
    assert "version" not in body
    told = f"from {original[0]}×{original[1]} to {sent[0]}×{sent[1]}"
    assert [told in text for text in result.texts(node.id)] == ([True] if sent != original else [])
    assert emulator.billed == 4


@pytest.mark.parametrize("original", [(100, 100), (745, 1000), (2400, 3200), (1000, 750)])
def test_a_photo_that_does_not_fit_is_an_error(comfy: ComfyUI, emulator: Emulator, original: tuple[int, int]) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(*original)))[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    for named in ("3:4", "0.5%", "2048", f"{original[0]}×{original[1]}", "crop", "pad"):
        assert named in told, told
    assert emulator.requests == []


def test_a_set_of_every_photo_in_the_order_of_the_batch(comfy: ComfyUI, emulator: Emulator) -> None:
    flats = [Image.new("RGB", (300, 400), colour) for colour in ((0, 0, 0), (255, 255, 255))]
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIModelPhotoSet", image=graph.image(*flats))
    saved = graph.save(node[0])
    pictures = comfy.images(comfy.run(graph.prompt), saved)
    assert [picture.size for picture in pictures] == SET * 2
    middles = [picture.getpixel((picture.width // 2, picture.height // 2)) for picture in pictures]
    assert middles == [(0, 0, 0)] * 4 + [(255, 255, 255)] * 4
    assert emulator.billed == 8


def test_every_missing_picture_of_a_set_is_told(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "variation", "phase": "submit", "do": {"task_status": [1, 3, 3, 1]}})
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(300, 400)), on_partial="return the rest")
    graph.save(node[0])
    words = "\n".join(comfy.run(graph.prompt).texts(node.id))
    assert "Missing (2×)" in words
    assert "缺失（2 项）" in words


def test_half_a_set(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "variation", "phase": "submit", "times": 2, "do": {"task_status": [1, 3, 3, 1]}})
    graph = Graph(comfy)
    image = graph.image(photo(300, 400))
    node = graph.add("HiDreamAPIModelPhotoSet", image=image, on_partial="return the rest")
    saved = graph.save(node[0])
    result = comfy.run(graph.prompt)
    assert [picture.size for picture in comfy.images(result, saved)] == [SET[0], SET[3]]
    assert "emulated failure" in result.texts(node.id)[0]
    strict = Graph(comfy)
    strict.save(strict.add("HiDreamAPIModelPhotoSet", image=strict.image(photo(300, 400)))[0])
    failed(comfy, strict.prompt, "TaskFailedError")


def test_a_template_that_the_service_does_not_have(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(300, 400)), template_id=4711)[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "node's button" in told
    assert "there is no template 4711" in told
    assert "HiDream code 1001" in told
    assert "Billed: no" in told
    assert emulator.billed == 0


@pytest.mark.thorough
def test_a_list_goes_on_through_other_remote_nodes(comfy: ComfyUI, emulator: Emulator) -> None:
    """Each picture of a set, in its own size, upscaled: ComfyUI maps the node over the list, all calls at once."""
    graph = Graph(comfy)
    photos = graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(300, 400)))
    upscaled = graph.add("HiDreamAPIUpscale", image=photos[0])
    saved = graph.save(upscaled[0])
    result = comfy.run(graph.prompt)
    assert [picture.size for picture in comfy.images(result, saved)] == [(2 * w, 2 * h) for w, h in SET]
    assert result.texts(upscaled.id) == []
    assert emulator.billed == 8


# ---- RGBA and progress, for all of them


@pytest.mark.parametrize("class_type", ["HiDreamAPIImageToImage", "HiDreamAPIUpscale", "HiDreamAPIModelPhotoSet"])
def test_transparency_goes_up_on_white(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    picture = photo(300, 400)
    picture.putalpha(Image.new("L", picture.size, 0))
    graph = Graph(comfy)
    node = graph.paid(class_type, graph.rgba(picture))
    saved = graph.save(node[0])
    result = comfy.run(graph.prompt)
    assert any("Transparent" in text and "透明" in text for text in result.texts(node.id))
    assert bodies(emulator)[0]["image"].startswith("<image 300x400 RGB ")
    for made in comfy.images(result, saved):
        assert made.mode == "RGB"
    if class_type == "HiDreamAPIUpscale":
        # Away from the stamped corner.
        assert (pixels(comfy.images(result, saved)[0])[:400] == 255).all()


@pytest.mark.parametrize("class_type", sorted(HIDREAM_SUBMITS))
def test_a_waiting_node_shows_progress(comfy: ComfyUI, class_type: str) -> None:
    graph = Graph(comfy)
    node = graph.paid(class_type, graph.image(photo(300, 400)))
    graph.save(node[0])
    result = comfy.run(graph.prompt)
    words = [event.data["text"] for event in result.of_type("progress_text") if event.node == node.id]
    assert any("submitting 提交中" in text or "running 生成中" in text or "queued 排队中" in text for text in words)
    states = [event.data["nodes"].get(node.id, {}) for event in result.of_type("progress_state")]
    values = [state["value"] for state in states if state]
    assert values == sorted(values)
    assert values[-1] == states[-1]["max"]
    (executed,) = [event for event in result.of_type("executed") if event.node == node.id]
    previews = {"outpaint_preview"} if PAID[class_type].node.shows_original else set()
    assert set(executed.data["output"]) == {"text", "account"} | previews
    assert isinstance(executed.data["output"]["text"], list)


def test_progress_of_a_batch_moves_while_it_waits(comfy: ComfyUI, emulator: Emulator) -> None:
    for index in range(3):
        emulator.add_fault({"endpoint": "upscale", "phase": "image", "do": {"delay": 0.3 * index}})
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIUpscale", image=graph.image(photo(32, 32), photo(32, 32, 1), photo(32, 32, 2)))
    graph.save(node[0])
    result = comfy.run(graph.prompt)
    states = [event.data["nodes"].get(node.id, {}) for event in result.of_type("progress_state")]
    shares = {state["value"] for state in states if state and state["max"] == 3}
    assert len(shares) >= 3, shares


# ---- fetching again


@pytest.mark.thorough
def test_a_task_of_each_service_is_fetched_again_for_nothing(comfy: ComfyUI, emulator: Emulator) -> None:
    endpoints = {class_type: PAID[class_type].vectors.endpoint.name for class_type in HIDREAM_SUBMITS}
    graph = Graph(comfy)
    bought = {}
    for class_type in endpoints:
        bought[class_type] = graph.save(graph.paid(class_type, graph.image(photo(300, 400)))[0])
    first = comfy.run(graph.prompt)
    paid = emulator.billed
    tasks = {submit.endpoint: submit.task_id for submit in submits(emulator)}
    again = Graph(comfy)
    fetched = {
        class_type: again.save(
            again.add("RemoteTaskResult", endpoint=endpoint, task_id=tasks[HIDREAM_SUBMITS[class_type]])[0]
        )
        for class_type, endpoint in endpoints.items()
    }
    second = comfy.run(again.prompt)
    for class_type, saved in bought.items():
        old, new = comfy.images(first, saved), comfy.images(second, fetched[class_type])
        assert len(old) == len(new) >= 1
        assert all((pixels(one) == pixels(other)).all() for one, other in zip(old, new, strict=True)), class_type
    assert emulator.billed == paid == sum(len(PAID[class_type].pictures) for class_type in endpoints)


def test_fetching_half_a_task_says_what_is_missing(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "do": {"task_status": [1, 3]}})
    graph, _, _ = image_to_image(comfy, img_count=2)
    failed(comfy, graph.prompt, "TaskFailedError")
    again = Graph(comfy)
    node = again.add("RemoteTaskResult", endpoint="hidream image to image", task_id=submits(emulator)[0].task_id)
    saved = again.save(node[0])
    result = comfy.run(again.prompt)
    assert len(comfy.images(result, saved)) == 1
    assert [text.startswith("Missing") for text in result.texts(node.id)] == [True]


def test_fetching_more_pictures_than_one_task_may_have_says_so(comfy: ComfyUI, emulator: Emulator) -> None:
    """docs/failures.md: the first 64 are fetched, and the node says so."""
    file = io.BytesIO()
    photo(8, 8).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    listed = [{"sub_task_id": f"sub-{number}", "task_status": 1, "image": image} for number in range(65)]
    answer = {"code": 0, "message": "Success", "result": {"task_id": "elsewhere", "sub_task_results": listed}}
    emulator.add_fault({"endpoint": "upscale", "phase": "result", "times": None, "do": {"json": answer}})
    graph = Graph(comfy)
    node = graph.add("RemoteTaskResult", endpoint="hidream upscale", task_id="elsewhere")
    graph.save(node[0])
    assert ["lists 65 pictures" in text for text in comfy.run(graph.prompt).texts(node.id)] == [True]


def test_a_whole_task_is_not_asked_for_again(comfy: ComfyUI, emulator: Emulator) -> None:
    """Else the paid nodes behind it would run, and buy, again."""
    graph, _, _ = image_to_image(comfy, img_count=2)
    comfy.run(graph.prompt)
    again = Graph(comfy)
    task_id = again.add("PrimitiveString", value=submits(emulator)[0].task_id)
    fetched = again.add("RemoteTaskResult", endpoint="hidream image to image", task_id=task_id[0])
    again.save(again.add("HiDreamAPIUpscale", image=fetched[0])[0])
    comfy.run(again.prompt)
    asked, billed = len(emulator.requests), emulator.billed
    comfy.run(again.prompt)
    assert (len(emulator.requests), emulator.billed) == (asked, billed)


def test_an_interrupted_task_is_fetched_again(comfy: ComfyUI, emulator: Emulator) -> None:
    """The task ends a while after the user lost patience; its id is in ComfyUI's log and in the task list."""
    emulator.add_fault({"endpoint": "upscale", "phase": "result", "times": 2, "do": {"task_status": [2]}})
    read = len(comfy.log())
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(50, 40)))[0])
    start = comfy.events.count()
    prompt_id = comfy.queue(graph.prompt)
    until(lambda: any(request.phase == "result" for request in emulator.requests), "the first poll")
    comfy.interrupt()
    assert comfy.wait(prompt_id, start=start).status == "interrupted"
    told = re.search(r"accepted: .*task_id=(\S+)", comfy.log()[read:])
    assert told is not None
    assert told[1] == submits(emulator)[0].task_id == until_states(comfy, "parked")[0]["task_id"]

    again = Graph(comfy)
    saved = again.save(again.add("RemoteTaskResult", endpoint="hidream upscale", task_id=told[1])[0])
    (picture,) = comfy.images(comfy.run(again.prompt), saved)
    assert picture.size == (100, 80)
    assert emulator.billed == 1


def test_a_known_task_needs_no_endpoint(comfy: ComfyUI, emulator: Emulator) -> None:
    """The widget stands at another one by default, which would be asked in vain."""
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(50, 40)))[0])
    comfy.run(graph.prompt)
    (submit,) = submits(emulator)
    asked = len(emulator.requests)
    again = Graph(comfy)
    saved = again.save(again.add("RemoteTaskResult", endpoint="hidream outpaint", task_id=submit.task_id)[0])
    (picture,) = comfy.images(comfy.run(again.prompt), saved)
    assert picture.size == (100, 80)
    assert len(emulator.requests) == asked, "it is in the store"


def test_the_chosen_endpoint_decides_between_two_tasks_of_one_id(comfy: ComfyUI, emulator: Emulator) -> None:
    graph, _, _ = image_to_image(comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(50, 40)))[0])
    comfy.run(graph.prompt)
    change_journal(comfy, "UPDATE attempts SET task_id = 'of-both'")
    asked = len(emulator.requests)
    for endpoint, is_upscaled in (("hidream upscale", True), ("hidream image to image", False)):
        again = Graph(comfy)
        saved = again.save(again.add("RemoteTaskResult", endpoint=endpoint, task_id="of-both")[0])
        (picture,) = comfy.images(comfy.run(again.prompt), saved)
        assert (picture.size == (100, 80)) == is_upscaled
    assert len(emulator.requests) == asked
    # What another account bought is nobody's business here: the chosen endpoint is asked, and does not know it.
    change_journal(comfy, "UPDATE attempts SET account = 'another'")
    again = Graph(comfy)
    again.save(again.add("RemoteTaskResult", endpoint="hidream outpaint", task_id="of-both")[0])
    told = failed(comfy, again.prompt, "InvalidInputError", timeout=40)["exception_message"]
    assert "does not know this task at hidream outpaint" in told


def test_a_mistyped_task_id_is_told_soon(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("RemoteTaskResult", endpoint="hidream upscale", task_id="no-such-task")[0])
    told = failed(comfy, graph.prompt, "InvalidInputError", timeout=40)["exception_message"]
    assert "HiDream does not know this task at hidream upscale" in told
    assert "no-such-task" in told and "Billed: no." in told
    assert tasks(comfy) == [], "nothing is left that says it may be billed"
    assert emulator.billed == 0


def test_an_empty_task_id_is_refused(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("RemoteTaskResult", task_id="  ")[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "task_id is empty" in told
    assert emulator.requests == []


def test_grey_and_extreme_values_survive(comfy: ComfyUI) -> None:
    """Black and white are 0 and 255 on the way up and on the way back."""
    steps = np.zeros((64, 64, 3), np.uint8)
    steps[:, 32:] = 255
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIOutpaint", image=graph.image(steps), canvas_width=128, canvas_height=128)
    saved = graph.save(node[0])
    (picture,) = comfy.images(comfy.run(graph.prompt), saved)
    assert (pixels(picture)[32:96, 32:96] == steps).all()
