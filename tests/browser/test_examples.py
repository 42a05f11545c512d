"""Every example workflow in the real frontends: is found, loads, is what the file says, runs, and is saved as it was.

What comes out is looked at in tests/host/nodes/test_examples.py.
"""

from __future__ import annotations

import io

import pytest
from PIL import Image

from devtools.comfyui.host import PACK_FOLDER
from devtools.comfyui.workflow import to_prompt
from tests.browser.frontend import Frontend, Json
from tests.browser.looks import looks
from tests.host import examples
from tests.host.buying import tasks
from tests.thinned import every_case

_TYPES = "() => app.graph.nodes.map((node) => [node.type, node.type in LiteGraph.registered_node_types])"
_SAVED_WIDGETS = """() => app.graph.nodes.map((node) =>
    [Number(node.id), (node.widgets ?? []).filter(({serialize}) => serialize !== false).map(({value}) => value)])"""
_ENTER_ID = """(id) => {
    const node = app.graph.nodes.find(({type}) => type === "RemoteTaskResult");
    node.widgets.find(({name}) => name === "task_id").value = id;
}"""
_BROWSE = "() => app.extensionManager.command.execute('Comfy.BrowseTemplates')"
_SHOWN = """(name) => {
    const shown = [...document.querySelectorAll("[role=dialog] img")].filter(({alt}) => alt === name);
    return shown.some((image) => image.complete && image.naturalWidth === 512);
}"""
# What people type into the browser's search -> what they find.
SEARCHES = {
    "product photo": "product_photo_to_model_set",
    "model set": "product_photo_to_model_set",
    "old photo": "old_photo_upscale_and_refine",
    "refine": "old_photo_upscale_and_refine",
    "banner": "banner_from_a_square",
    "paid task": "fetch_a_paid_task_again",
    "outpaint any size": "outpaint_any_size_local",
}
# What the nodes of the others show is seen in the tests of progress, tasks and placements.
RUN = ("fetch_a_paid_task_again", "hidream_outpaint")
# Of the same nodes and links as another one, or of one remote node between two core nodes.
ALIKE = (
    "hidream_image_to_image",
    "hidream_upscale",
    "outpaint_any_size_hidream",
    "outpaint_any_size_volcengine",
    "product_photo_to_model_set",
    "volcengine_outpaint_sides",
)

pytestmark = looks("newer-canvas-en")


@pytest.fixture(scope="module")
def frontend(shared_frontend: Frontend) -> Frontend:
    examples.write_checkpoints(shared_frontend.comfy)
    shared_frontend.refresh_choices()
    return shared_frontend


@pytest.fixture(scope="module")
def object_info(frontend: Frontend) -> Json:
    return frontend.comfy.object_info()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(examples.NAMES[0], marks=pytest.mark.smoke),
        *(pytest.param(name, marks=pytest.mark.thorough) if name in ALIKE else name for name in examples.NAMES[1:]),
    ],
)
def test_runs_and_is_saved_as_it_was(
    name: str, frontend: Frontend, object_info: Json, first_look: bool
) -> None:
    workflow = examples.load(name)
    values = {node["id"]: node.get("widgets_values") or [] for node in workflow["nodes"]}
    frontend.comfy.upload(examples.picture(name), "example.png")
    runs = _is_run(name, workflow, first_look)
    bought = _buy_for_it(frontend) if name == examples.FETCH and runs else None
    frontend.load(workflow)
    assert all(known for _, known in frontend.page.evaluate(_TYPES))
    assert dict(frontend.page.evaluate(_SAVED_WIDGETS)) == values
    assert frontend.prompt() == to_prompt(workflow, object_info)
    if bought:
        frontend.page.evaluate(_ENTER_ID, bought)

    if runs:
        entry = frontend.run()
        sizes = _sizes(frontend, entry)
        assert sizes == examples.RESULTS.get(name, sizes) != []

    frontend.screenshot(name)
    if bought:
        frontend.page.evaluate(_ENTER_ID, "")
    assert {number: saved or [] for number, saved in frontend.widget_values().items()} == values
    assert frontend.prompt() == to_prompt(workflow, object_info)
    assert frontend.problems == []


def test_what_needs_something_comes_last_in_the_template_list(frontend: Frontend) -> None:
    listed = frontend.page.evaluate(f"app.api.getWorkflowTemplates().then((all) => all['{PACK_FOLDER}'])")
    last = [name for name in examples.NAMES if examples.needs_something(examples.load(name))]
    assert listed == [*(name for name in examples.NAMES if name not in last), *last]


def test_found_in_the_template_browser_with_thumbnails(frontend: Frontend, language: str) -> None:
    page = frontend.page
    page.evaluate("() => app.graph.clear()")
    page.evaluate(_BROWSE)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(PACK_FOLDER).first.wait_for()
    page.wait_for_function(_SHOWN, arg=examples.NAMES[0])
    frontend.screenshot(f"template-browser-{language}")
    search = dialog.get_by_role("textbox").first
    for words, name in {**{name.replace("_", " "): name for name in examples.NAMES}, **SEARCHES}.items():
        search.fill(words)
        page.wait_for_function(_SHOWN, arg=name)
    frontend.screenshot(f"template-search-{language}")
    dialog.get_by_text(name, exact=True).first.click()
    page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(examples.load(name)["nodes"]))
    assert all(known for _, known in page.evaluate(_TYPES))
    assert frontend.problems == []


def _buy_for_it(frontend: Frontend) -> str:
    frontend.load(examples.load(examples.BOUGHT_FOR_IT))
    frontend.run()
    wanted = (task for task in tasks(frontend.comfy) if task["endpoint"] == "hidream upscale")
    return str(next(task["journal_id"] for task in wanted if task["stored"] == 1))


def _is_run(name: str, workflow: Json, first_look: bool) -> bool:
    """In every look it is the same prompt, and tests/host/nodes/test_examples.py runs it, too."""
    if _samples(workflow):  # half a minute
        return every_case() and first_look
    return every_case() or (first_look and name in RUN)


def _samples(workflow: Json) -> bool:
    return any(node["type"] == "KSampler" for node in workflow["nodes"])


def _sizes(frontend: Frontend, entry: Json) -> list[tuple[int, int]]:
    files = [file for output in entry["outputs"].values() for file in output.get("images", [])]
    answers = [frontend.comfy.request("GET", "/view", params=file).content for file in files]
    return [Image.open(io.BytesIO(answer)).size for answer in answers]
