"""What all other host tests rely on: ComfyUI runs prompts, returns pictures, sends events, and has loaded the pack."""

from __future__ import annotations

import pytest
from PIL import Image

from devtools.comfyui.host import PACK_FOLDER, ComfyUI, HostError, Prompt, PromptRejectedError
from devtools.comfyui.workflow import to_prompt
from devtools.environment import ROOT
from tests.endpoints import PAID


def padding(image: str, left: int = 16) -> Prompt:
    sides = {"left": left, "top": 0, "right": 0, "bottom": 0, "feathering": 0}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImagePadForOutpaint", "inputs": {"image": ["1", 0], **sides}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "padded"}},
    }


def test_each_later_module_of_the_page_is_a_fresh_script(comfy: ComfyUI) -> None:
    """Whatever this ComfyUI sends for *.mjs by itself: a browser must run the modules of this version of the pack."""
    modules = [path.relative_to(ROOT / "web").as_posix() for path in (ROOT / "web").rglob("*.mjs")]
    assert len(modules) > 20
    for module in modules:
        served = comfy.request("GET", f"/extensions/{PACK_FOLDER}/{module}").headers
        assert served["Content-Type"].partition(";")[0] == "text/javascript", module
        assert served["Cache-Control"] == "no-cache", module


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
    assert set(comfy.object_info()) >= set(PAID)


def test_a_workflow_of_the_ui_runs(comfy: ComfyUI) -> None:
    """Links, values by position, a bypassed node (handed through), a muted one and a note (both left out)."""
    image = comfy.upload(Image.new("RGB", (40, 30), (10, 200, 30)))
    pads = {"id": 2, "type": "ImagePadForOutpaint", "widgets_values": [0, 10, 0, 0, 0], "inputs": [slot("image", 1)]}
    workflow = {
        "nodes": [
            {"id": 1, "type": "LoadImage", "widgets_values": [image, "image"]},
            pads | {"outputs": [{"type": "IMAGE"}, {"type": "MASK"}]},
            {"id": 3, "type": "ImageInvert", "mode": 4, "inputs": [slot("image", 2)], "outputs": [{"type": "IMAGE"}]},
            {"id": 4, "type": "SaveImage", "widgets_values": ["from_ui"], "inputs": [slot("images", 3)]},
            {"id": 5, "type": "PreviewImage", "mode": 2, "inputs": [slot("images", 4)]},
            {"id": 6, "type": "MarkdownNote", "widgets_values": ["Read me"]},
        ],
        "links": [
            [1, 1, 0, 2, 0, "IMAGE"],
            [2, 2, 0, 3, 0, "IMAGE"],
            [3, 3, 0, 4, 0, "IMAGE"],
            [4, 2, 0, 5, 0, "IMAGE"],
        ],
    }
    result = comfy.run(to_prompt(workflow, comfy.object_info()))
    (padded,) = comfy.images(result)
    assert padded.size == (40, 40)
    assert padded.getpixel((20, 20)) == (10, 200, 30)
    assert [file.node for file in result.files()] == ["4"]


def slot(name: str, link: int) -> dict[str, object]:
    return {"name": name, "type": "IMAGE", "link": link}


def test_a_seed_carries_its_control_only_where_the_frontend_adds_one() -> None:
    seeded = {"seed": ["INT", {}], "steps": ["INT", {}]}
    still = {"seed": ["INT", {"control_after_generate": False}], "steps": ["INT", {}]}
    assert sampled(seeded, [7, "randomize", 30]) == {"seed": 7, "steps": 30}
    assert sampled(still, [7, 30]) == {"seed": 7, "steps": 30}


def sampled(widgets: dict[str, list[object]], values: list[object]) -> dict[str, object]:
    workflow = {"nodes": [{"id": 1, "type": "Sampler", "widgets_values": values}], "links": []}
    return to_prompt(workflow, {"Sampler": {"input": {"required": widgets}}})["1"]["inputs"]
