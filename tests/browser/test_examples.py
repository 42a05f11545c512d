"""Every example workflow in the real frontends: loads, is what the file says, runs, and is saved as it was."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from PIL import Image

from devtools.environment import ROOT
from devtools.host import ComfyUI
from devtools.workflow import to_prompt
from tests.browser.frontend import Frontend, Json, example_workflow
from tests.host import tiny_checkpoint

EXAMPLES = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
CHECKPOINT = "512-inpainting-ema.safetensors"
# How many pictures of which size come out of the 768×768 of `example.png`.
RESULTS = {
    "hidream_image_to_image": [(1024, 1024)] * 2,
    "hidream_model_photo_set": [(768, 1024), (900, 1200)] * 2,
    "hidream_outpaint": [(1024, 768)],
    "hidream_upscale": [(1536, 1536)],
    "outpaint_any_size_hidream": [(1365, 768)],
    "outpaint_any_size_local": [(1536, 1024)],
    "outpaint_any_size_volcengine": [(1365, 768)],
    "volcengine_outpaint_canvas": [(1280, 768)],
    "volcengine_outpaint_sides": [(1382, 922)],
}
TITLE_BAR = 30
_TYPES = "() => app.graph.nodes.map((node) => [node.type, node.type in LiteGraph.registered_node_types])"
_SAVED_WIDGETS = """() => app.graph.nodes.map((node) =>
    [Number(node.id), (node.widgets ?? []).filter(({serialize}) => serialize !== false).map(({value}) => value)])"""


@pytest.fixture(scope="module")
def frontend(
    open_frontend: Callable[..., Frontend], serve: Callable[[str], ComfyUI], version: str
) -> Iterator[Frontend]:
    tiny_checkpoint.write(serve(version).base / "models" / "checkpoints", CHECKPOINT)
    frontend = open_frontend()
    yield frontend
    frontend.page.context.close()


@pytest.fixture(scope="module")
def object_info(frontend: Frontend) -> Json:
    return frontend.comfy.object_info()


def test_there_is_an_example_of_every_node_of_ours() -> None:
    used = {node["type"] for name in EXAMPLES for node in example_workflow(name)["nodes"]}
    assert {node for node in used if "API" in node or node.startswith("Remote")} == {
        "HiDreamAPIOutpaint",
        "HiDreamAPIImageToImage",
        "HiDreamAPIUpscale",
        "HiDreamAPIModelPhotoSet",
        "VolcengineAPIOutpaint",
        "VolcengineAPIOutpaintCanvas",
        "RemoteOutpaintPlacement",
        "RemoteOutpaintPasteBack",
    }
    assert set(RESULTS) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_thumbnail(name: str) -> None:
    path = ROOT / "example_workflows" / f"{name}.jpg"
    assert path.stat().st_size <= 60_000
    with Image.open(path) as thumbnail:
        assert thumbnail.width == 512


@pytest.mark.parametrize("name", EXAMPLES)
def test_can_be_tried_without_a_key(name: str) -> None:
    remote = [node for node in example_workflow(name)["nodes"] if "API" in node["type"]]
    assert {node["widgets_values"][0] for node in remote} == (set() if name.endswith("_local") else {"sandbox"})


@pytest.mark.parametrize("name", EXAMPLES)
def test_nodes_lie_apart(name: str) -> None:
    """Each with its title bar above it."""
    places = [(*node["pos"], *node["size"]) for node in example_workflow(name)["nodes"]]
    for (x, y, width, height), (other_x, other_y, other_width, other_height) in combinations(places, 2):
        beside = x + width <= other_x or other_x + other_width <= x
        assert beside or y + height <= other_y - TITLE_BAR or other_y + other_height <= y - TITLE_BAR


@pytest.mark.parametrize("name", EXAMPLES)
def test_runs_and_is_saved_as_it_was(name: str, frontend: Frontend, object_info: Json) -> None:
    workflow = example_workflow(name)
    values = {node["id"]: node.get("widgets_values") or [] for node in workflow["nodes"]}
    frontend.load(workflow)
    assert all(known for _, known in frontend.page.evaluate(_TYPES))
    assert dict(frontend.page.evaluate(_SAVED_WIDGETS)) == values
    assert frontend.prompt() == to_prompt(workflow, object_info)

    entry = frontend.run()
    assert _sizes(frontend, entry) == RESULTS[name]

    frontend.screenshot(name)
    assert {number: saved or [] for number, saved in frontend.widget_values().items()} == values
    assert frontend.prompt() == to_prompt(workflow, object_info)
    assert frontend.problems == []


def _sizes(frontend: Frontend, entry: Json) -> list[tuple[int, int]]:
    files = [file for output in entry["outputs"].values() for file in output.get("images", [])]
    answers = [frontend.comfy.request("GET", "/view", params=file).content for file in files]
    return [Image.open(io.BytesIO(answer)).size for answer in answers]
