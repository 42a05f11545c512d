"""Every example workflow in the real frontends: loads, is what the file says, runs, and is saved as it was."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from devtools.environment import ROOT
from devtools.workflow import to_prompt
from tests.browser.frontend import Frontend, Json, example_workflow

EXAMPLES = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
# How many pictures of which size come out of the 768×768 of `example.png`.
RESULTS = {
    "hidream_image_to_image": [(1024, 1024)] * 2,
    "hidream_model_photo_set": [(768, 1024), (900, 1200)] * 2,
    "hidream_outpaint": [(1024, 768)],
    "hidream_upscale": [(1536, 1536)],
    "volcengine_outpaint_canvas": [(1280, 768)],
    "volcengine_outpaint_sides": [(1382, 922)],
}
_TYPES = "() => app.graph.nodes.map((node) => [node.type, node.type in LiteGraph.registered_node_types])"
_SAVED_WIDGETS = """() => app.graph.nodes.map((node) =>
    [Number(node.id), (node.widgets ?? []).filter(({serialize}) => serialize !== false).map(({value}) => value)])"""


@pytest.fixture(scope="module")
def frontend(open_frontend: Callable[..., Frontend]) -> Iterator[Frontend]:
    frontend = open_frontend()
    yield frontend
    frontend.page.context.close()


@pytest.fixture(scope="module")
def object_info(frontend: Frontend) -> Json:
    return frontend.comfy.object_info()


def test_there_is_an_example_of_every_remote_node() -> None:
    used = {node["type"] for name in EXAMPLES for node in example_workflow(name)["nodes"]}
    assert {node for node in used if "API" in node} == {
        "HiDreamAPIOutpaint",
        "HiDreamAPIImageToImage",
        "HiDreamAPIUpscale",
        "HiDreamAPIModelPhotoSet",
        "VolcengineAPIOutpaint",
        "VolcengineAPIOutpaintCanvas",
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
    assert [node["widgets_values"][0] for node in remote] == ["sandbox"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_runs_and_is_saved_as_it_was(name: str, frontend: Frontend, object_info: Json) -> None:
    workflow = example_workflow(name)
    values = {node["id"]: node.get("widgets_values") for node in workflow["nodes"]}
    frontend.load(workflow)
    assert all(known for _, known in frontend.page.evaluate(_TYPES))
    assert dict(frontend.page.evaluate(_SAVED_WIDGETS)) == values
    assert frontend.prompt() == to_prompt(workflow, object_info)

    entry = frontend.run()
    assert _sizes(frontend, entry) == RESULTS[name]

    frontend.screenshot(name)
    assert frontend.widget_values() == values
    assert frontend.prompt() == to_prompt(workflow, object_info)
    assert frontend.problems == []


def _sizes(frontend: Frontend, entry: Json) -> list[tuple[int, int]]:
    files = [file for output in entry["outputs"].values() for file in output.get("images", [])]
    answers = [frontend.comfy.request("GET", "/view", params=file).content for file in files]
    return [Image.open(io.BytesIO(answer)).size for answer in answers]
