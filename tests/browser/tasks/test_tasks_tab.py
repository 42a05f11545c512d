"""The Tasks tab with a real server: what is bought appears, and comes into the graph again without being bought.

The profile `default` is the emulator of `service`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import Route, expect

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.browser.frontend import Frontend, example_workflow
from tests.browser.looks import looks
from tests.browser.tasks.tasks_tab import TasksTab
from tests.host.buying import Bought, hold, mend, sends_nothing, start_over, tasks
from tests.host.prompts import until

# The graph that things are dragged into: one node, far from where they are dropped.
PREVIEW = 1
_PREVIEW_NODE = {
    "id": PREVIEW,
    "type": "PreviewImage",
    "pos": [900, 500],
    "size": [200, 200],
    "flags": {},
    "order": 0,
    "mode": 0,
    "properties": {},
}
EMPTY = {"last_node_id": 1, "last_link_id": 0, "nodes": [_PREVIEW_NODE], "links": [], "version": 0.4}
_CONNECT = "([from, to]) => app.graph.getNodeById(from).connect(0, app.graph.getNodeById(to), 0)"
_UNDO_STEPS = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
_NO_CLIPBOARD = "() => Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})"
_QUEUE = "() => { app.queuePrompt(0, 1); }"

pytestmark = looks("newer-canvas-zh", "newer-vue-en")


@pytest.fixture
def comfy(shared_frontend: Frontend, service: Emulator) -> Iterator[ComfyUI]:
    comfy = shared_frontend.comfy
    start_over(comfy, service)
    yield comfy
    # What a failed test has left running.
    mend(service)
    comfy.interrupt()
    until(lambda: not comfy.request("GET", "/queue").json()["queue_running"], "nothing runs")


@pytest.fixture
def tab(shared_frontend: Frontend, comfy: ComfyUI) -> Iterator[TasksTab]:
    shared_frontend.load(EMPTY)
    shared_frontend.page.evaluate("app.canvas.ds.reset()")
    tab = TasksTab(shared_frontend)
    expect(tab.rows).to_have_count(0)
    yield tab
    tab.toggle()
    assert shared_frontend.problems == []


def bought(comfy: ComfyUI, *seeds: int, **widgets: Any) -> str:
    """The journal id of a task of two pictures that was delivered."""
    Bought(comfy, "HiDreamAPIImageToImage", *seeds, **({"img_count": 2} | widgets)).run()
    return str(tasks(comfy)[0]["journal_id"])


def picture_of(comfy: ComfyUI, journal_id: str, position: int = 0) -> bytes:
    return comfy.request("GET", f"/hidream_volcengine/tasks/{journal_id}/pictures/{position}").content


def pixels(picture: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def shown(frontend: Frontend, node: int) -> Any:
    """Run the graph with this node's picture in the preview; what the preview has."""
    frontend.page.evaluate(_CONNECT, [node, PREVIEW])
    [file] = frontend.run()["outputs"][str(PREVIEW)]["images"]
    return pixels(frontend.comfy.request("GET", "/view", params=file).content)


# ---- what appears


@pytest.mark.smoke
def test_a_task_is_seen_while_it_runs(
    tab: TasksTab, comfy: ComfyUI, service: Emulator, shared_frontend: Frontend, language: str
) -> None:
    workflow = example_workflow("hidream_image_to_image")
    next(node for node in workflow["nodes"] if node["id"] == 2)["widgets_values"][0] = "default"
    comfy.upload(Image.radial_gradient("L"), "example.png")
    shared_frontend.load(workflow)
    hold(service)
    shared_frontend.page.evaluate(_QUEUE)
    row = tab.rows
    expect(row.locator(".word")).to_have_text("In progress" if language == "en" else "进行中")
    expect(row.locator(".name")).to_have_text("HiDream Image to Image" if language == "en" else "HiDream 图生图")
    expect(row.locator(".summary")).to_contain_text("a watercolour painting")
    expect(row.locator(".thumbnail img")).to_have_count(0)
    shared_frontend.screenshot(f"tasks-running-{language}")
    mend(service)
    expect(row).to_have_attribute("data-state", "delivered")
    expect(row.locator(".thumbnail img")).to_be_visible()
    expect(row.locator(".badge")).to_have_text("2")
    expect(tab.root.locator(".budget")).to_have_text(
        "default: 2 of 50 pictures today" if language == "en" else "default：今日 2 / 50 张"
    )
    tab.unfold(row)
    expect(row.locator(".pictures img")).to_have_count(2)
    expect(row.locator(".pictures .thumbnail").nth(1)).to_have_attribute("draggable", "true")
    shared_frontend.screenshot(f"tasks-delivered-{language}")


def test_a_failed_picture_of_a_set_is_left_out(tab: TasksTab, comfy: ComfyUI, service: Emulator) -> None:
    service.add_fault({"endpoint": "img2img", "phase": "submit", "do": {"task_status": [3, 1, 1]}})
    workflow = Bought(comfy, "HiDreamAPIImageToImage", img_count=3, on_partial="return the rest")
    assert len(workflow.run()) == 2
    [task] = tasks(comfy)
    row = tab.row(task["journal_id"])
    expect(row.locator(".badge")).to_have_text("2")
    expect(row.locator(".thumbnail img")).to_be_visible()
    tab.unfold(row)
    expect(row.locator(".pictures li")).to_have_count(2)


# ---- into the graph


def test_a_picture_becomes_load_image(
    tab: TasksTab, comfy: ComfyUI, service: Emulator, shared_frontend: Frontend, look: str
) -> None:
    journal_id = bought(comfy)
    thumbnail = tab.row(journal_id).locator(".head .thumbnail")
    expect(thumbnail).to_have_attribute("draggable", "true")
    steps = shared_frontend.page.evaluate(_UNDO_STEPS)
    tab.drag(thumbnail, 150, 200)
    node = tab.node("LoadImage")
    assert node["values"]["image"] == f"{journal_id}_0.png"
    panel = tab.root.bounding_box()
    assert panel is not None
    assert node["at"] == pytest.approx([panel["x"] + panel["width"] + 150, panel["y"] + 200], abs=1)
    assert len(tab.nodes()) == 2
    shared_frontend.page.wait_for_function(f"(before) => ({_UNDO_STEPS})() === before + 1", arg=steps)
    with sends_nothing(service):
        assert (shown(shared_frontend, node["id"]) == pixels(picture_of(comfy, journal_id))).all()
    shared_frontend.screenshot(f"tasks-load-image-{look}")


def test_the_second_picture_of_a_set(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend) -> None:
    journal_id = bought(comfy)
    row = tab.row(journal_id)
    tab.unfold(row)
    thumbnail = row.locator(".pictures .thumbnail").nth(1)
    expect(thumbnail).to_have_attribute("draggable", "true")
    tab.drag(thumbnail, 100, 100)
    node = tab.node("LoadImage")
    assert (shown(shared_frontend, node["id"]) == pixels(picture_of(comfy, journal_id, 1))).all()


def test_a_task_becomes_a_result_node(
    tab: TasksTab, comfy: ComfyUI, service: Emulator, shared_frontend: Frontend, look: str
) -> None:
    journal_id = bought(comfy, img_count=1)
    tab.drag(tab.row(journal_id).locator(".name"), 150, 200)
    node = tab.node("RemoteTaskResult")
    wanted = {"task_id": journal_id, "profile": "default", "endpoint": "hidream image to image"}
    assert {name: node["values"][name] for name in wanted} == wanted
    with sends_nothing(service):
        assert (shown(shared_frontend, node["id"]) == pixels(picture_of(comfy, journal_id))).all()
    shared_frontend.screenshot(f"tasks-result-node-{look}")


def test_by_keyboard(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend) -> None:
    page = shared_frontend.page
    journal_id = bought(comfy)
    row = tab.row(journal_id)
    row.locator(".toggle").focus()
    page.keyboard.press("Enter")
    for which, kind in (("picture", "LoadImage"), ("task", "RemoteTaskResult")):
        row.locator(f'[data-add="{which}"]').first.focus()
        page.keyboard.press("Space")
        x, y = tab.node(kind)["at"]
        panel = tab.root.bounding_box()
        assert panel is not None
        assert panel["x"] + panel["width"] < x < page.viewport_size["width"]  # type: ignore[index]
        assert 0 < y < page.viewport_size["height"]  # type: ignore[index]
    expect(row.locator(".said")).not_to_be_empty()
    first, second = (tab.node(kind)["at"] for kind in ("LoadImage", "RemoteTaskResult"))
    assert first != second, "one would hide the other"


def test_a_workflow_inside_a_picture_is_not_loaded(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend) -> None:
    journal_id = bought(comfy)
    inside = PngImagePlugin.PngInfo()
    inside.add_text("workflow", json.dumps({**EMPTY, "nodes": []}))
    picture = io.BytesIO()
    Image.radial_gradient("L").save(picture, "PNG", pnginfo=inside)

    def with_workflow(route: Route) -> None:
        route.fulfill(body=picture.getvalue(), content_type="image/png")

    thumbnail = tab.row(journal_id).locator(".head .thumbnail")
    expect(thumbnail).to_have_attribute("draggable", "true")
    pages = "**/hidream_volcengine/tasks/*/pictures/*"
    shared_frontend.page.route(pages, with_workflow)
    try:
        # Onto the node that is there, too: in one renderer that is an element of its own.
        tab.drag(thumbnail, 620, 520)
        tab.node("LoadImage")
        assert sorted(node["type"] for node in tab.nodes()) == ["LoadImage", "PreviewImage"]
    finally:
        shared_frontend.page.unroute(pages)


def test_a_drop_elsewhere_does_nothing(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend) -> None:
    journal_id = bought(comfy)
    row = tab.row(journal_id)
    expect(row.locator(".head .thumbnail")).to_have_attribute("draggable", "true")
    tab.drag(row.locator(".name"), -50, 300)
    tab.drag(row.locator(".head .thumbnail"), -50, 300)
    # One that does come is the only one.
    tab.drag(row.locator(".name"), 150, 200)
    tab.node("RemoteTaskResult")
    assert len(tab.nodes()) == 2


def test_another_file_of_that_name_stays(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend) -> None:
    journal_id = bought(comfy)
    other = Image.new("RGB", (8, 8), "red")
    comfy.upload(other, f"{journal_id}_0.png")
    thumbnail = tab.row(journal_id).locator(".head .thumbnail")
    expect(thumbnail).to_have_attribute("draggable", "true")
    tab.drag(thumbnail, 150, 200)
    node = tab.node("LoadImage")
    assert node["values"]["image"] != f"{journal_id}_0.png"
    assert (shown(shared_frontend, node["id"]) == pixels(picture_of(comfy, journal_id))).all()
    kept = comfy.request("GET", "/view", params={"filename": f"{journal_id}_0.png", "type": "input"}).content
    assert (pixels(kept) == np.asarray(other)).all()


# ---- what can be done


def test_submit_again(tab: TasksTab, comfy: ComfyUI, service: Emulator, shared_frontend: Frontend, look: str) -> None:
    service.add_fault({"phase": "submit", "do": {"status": 500, "accept": True}})
    workflow = Bought(comfy)
    comfy.run(workflow.graph.prompt, expect="error")
    row = tab.rows
    expect(row).to_have_attribute("data-state", "ambiguous")
    tab.unfold(row)
    expect(row.locator(".error")).not_to_be_empty()
    row.locator('[data-action="submit-again"]').click()
    shared_frontend.screenshot(f"tasks-submit-again-{look}")
    with sends_nothing(service):
        row.locator('[data-confirm="submit-again"]').click()
        expect(row.locator('[data-action="submit-again"]')).to_be_hidden()
    workflow.run()
    expect(tab.rows).to_have_count(2)
    assert len(service.accepted) == 2
    tab.filter(group="attention")
    expect(tab.rows).to_have_count(0)
    tab.filter(group="all")


def test_stop_waiting_and_collect(
    tab: TasksTab, comfy: ComfyUI, service: Emulator, shared_frontend: Frontend, look: str
) -> None:
    hold(service)
    running = Bought(comfy).start()
    row = tab.rows
    expect(row).to_have_attribute("data-state", "submitted")
    row.locator('[data-action="stop-waiting"]').click()
    shared_frontend.screenshot(f"tasks-stop-waiting-{look}")
    row.locator('[data-confirm="stop-waiting"]').click()
    assert running.end().error["exception_type"] == "hidream_volcengine.TaskTimeoutError"
    expect(row).to_have_attribute("data-state", "parked")
    mend(service)
    row.locator('[data-action="collect"]').click()
    expect(row).to_have_attribute("data-state", "stored")
    expect(row.locator(".thumbnail img")).to_be_visible()
    assert len(service.accepted) == 1


def test_ids_are_copied(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend, language: str) -> None:
    page = shared_frontend.page
    journal_id = bought(comfy)
    [task] = tasks(comfy)
    wanted = f"journal_id: {journal_id}\ntask_id: {task['task_id']}\nrequest_id: {task['request_id']}"
    row = tab.row(journal_id)
    tab.unfold(row)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    row.locator("[data-copy]").click()
    expect(row.locator(".said")).to_have_text("The ids were copied." if language == "en" else "编号已复制。")
    assert page.evaluate("navigator.clipboard.readText()") == wanted
    page.evaluate(_NO_CLIPBOARD)
    try:
        row.locator("[data-copy]").click()
        field = row.locator("textarea")
        expect(field).to_have_value(wanted)
        expect(field).to_be_focused()
        assert page.evaluate("getSelection().toString()") == wanted
    finally:
        page.evaluate("() => delete navigator.clipboard")


def test_open_and_save(tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend) -> None:
    journal_id = bought(comfy)
    row = tab.row(journal_id)
    tab.unfold(row)
    with shared_frontend.page.context.expect_page() as opened:
        row.locator(".pictures a[target]").first.click()
    opened.value.wait_for_load_state()
    size = opened.value.evaluate("() => [document.images[0].naturalWidth, document.images[0].naturalHeight]")
    opened.value.close()
    assert tuple(size) == Image.open(io.BytesIO(picture_of(comfy, journal_id))).size
    with shared_frontend.page.expect_download() as saved:
        row.locator(".pictures a[download]").first.click()
    assert saved.value.suggested_filename == f"{journal_id}_0.png"
    assert saved.value.path().read_bytes() == picture_of(comfy, journal_id)
