"""The ground under all other host tests: ComfyUI runs, draws, tells, and has loaded the pack."""

from __future__ import annotations

import pytest
from PIL import Image

from devtools.host import PACK_FOLDER, ComfyUI, HostError, Prompt, PromptRejectedError

REMOTE_NODES = {
    "HiDreamAPIOutpaint",
    "HiDreamAPIImageToImage",
    "HiDreamAPIUpscale",
    "HiDreamAPIModelPhotoSet",
    "VolcengineAPIOutpaint",
    "VolcengineAPIOutpaintCanvas",
}


def padding(image: str, left: int = 16) -> Prompt:
    sides = {"left": left, "top": 0, "right": 0, "bottom": 0, "feathering": 0}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImagePadForOutpaint", "inputs": {"image": ["1", 0], **sides}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "padded"}},
    }


def test_a_prompt_of_core_nodes_runs(comfy: ComfyUI) -> None:
    image = comfy.upload(Image.new("RGB", (40, 30), (10, 200, 30)))
    result = comfy.run(padding(image))
    (padded,) = comfy.images(result)
    assert padded.size == (56, 30)
    assert padded.getpixel((20, 10)) == (10, 200, 30)
    assert [event.node for event in result.of_type("executing")] == ["1", "2", "3"]
    assert result.events[-1].type == "execution_success"


def test_nothing_is_cached_from_the_test_before(comfy: ComfyUI) -> None:
    image = comfy.upload(Image.new("RGB", (40, 30), (10, 200, 30)))
    assert comfy.run(padding(image)).of_type("executed")


def test_a_refused_prompt_names_the_node(comfy: ComfyUI) -> None:
    image = comfy.upload(Image.new("RGB", (40, 30)))
    with pytest.raises(PromptRejectedError) as refused:
        comfy.queue(padding(image, left=-8))
    assert list(refused.value.node_errors) == ["2"]


def test_a_failed_prompt_is_an_error_unless_expected(comfy: ComfyUI) -> None:
    image = comfy.upload(Image.new("RGB", (40, 30)))
    (comfy.base / "input" / image).write_bytes(b"no picture")
    with pytest.raises(HostError, match="UnidentifiedImageError"):
        comfy.run(padding(image))
    failed = comfy.run(padding(image), expect="error")
    assert failed.error["node_id"] == "1"


def test_the_pack_is_loaded(comfy: ComfyUI) -> None:
    loaded = [line for line in comfy.log().splitlines() if line.endswith(PACK_FOLDER) and "seconds" in line]
    assert len(loaded) == 1
    assert "IMPORT FAILED" not in loaded[0]
    assert set(comfy.object_info()) >= REMOTE_NODES
