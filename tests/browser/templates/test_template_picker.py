"""The template picker: a click fills `template_id` as if it had been typed, and nothing else is ever saved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.frontend import Frontend, Json, example_workflow
from tests.browser.looks import looks

LOADER, NODE = 1, 2
TEMPLATE_ID = 2
"""Its place among the widgets' values."""
WORDS = {
    "en": {"button": "Choose a template…", "men": "Men", "women": "Women", "page": "Page 1 of 2 · 45 templates",
           "not listed": "The service's list has no template 4711.", "by hand": "without the list",
           "linked": "A link decides template_id", "no number": "Enter a whole number", "missing": "no picture"},
    "zh": {"button": "选择模板…", "men": "男", "women": "女", "page": "第 1 / 2 页 · 共 45 个模板",
           "not listed": "服务端的列表中没有模板 4711。", "by hand": "没有列表也可以",
           "linked": "template_id 由连线决定", "no number": "请输入不小于 1 的整数", "missing": "无图片"},
}  # fmt: skip
OFFLINE = {"en": "This is the list as of yesterday.", "zh": "此为昨天的列表。"}
REFUSED = {"en": "The host name could not be resolved (DNS).", "zh": "无法解析主机名（DNS）。"}

_WHERE_IS_THE_BUTTON = """(id) => {
    const node = app.graph.getNodeById(id);
    const widget = node.widgets.find(({type}) => type === "button");
    const {scale, offset} = app.canvas.ds;
    const {left, top} = app.canvas.canvas.getBoundingClientRect();
    return [left + (node.pos[0] + offset[0] + node.size[0] / 2) * scale,
            top + (node.pos[1] + offset[1] + (widget.last_y ?? widget.y) + 10) * scale];
}"""
_LOOK_AT = """(id) => {
    const node = app.graph.getNodeById(id);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [500 - node.pos[0], 200 - node.pos[1]];
    app.canvas.deselectAll?.();
    app.canvas.selectNode(node);
    app.canvas.draw(true, true);
}"""
_LINK = """([from, to, input]) => {
    const target = app.graph.getNodeById(to);
    let slot = target.inputs.findIndex(({name}) => name === input);
    const source = LiteGraph.createNode("PrimitiveInt");
    app.graph.add(source);
    source.connect(0, target, slot);
}"""
_STEP_IS_OVER = "async () => { await app.extensionManager.workflow.activeWorkflow.changeTracker.squashState?.(); }"
_UNDO = "async () => { await app.extensionManager.workflow.activeWorkflow.changeTracker.undo(); }"
_STEPS = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
_VALUE = "(id) => app.graph.getNodeById(id).widgets.find(({name}) => name === 'template_id').value"

pytestmark = looks("own-canvas-zh", "own-vue-en", "newer-canvas-en")


@pytest.fixture
def frontend(shared_frontend: Frontend) -> Iterator[Frontend]:
    shared_frontend.load(workflow())
    shared_frontend.page.evaluate(_LOOK_AT, NODE)
    shared_frontend.page.evaluate(_STEP_IS_OVER)
    yield shared_frontend
    shared_frontend.page.unroute_all()
    assert shared_frontend.problems == []


@pytest.fixture
def picker(frontend: Frontend, look: str) -> Picker:
    return Picker(frontend.page, look)


def workflow(template: int = 7) -> Json:
    loaded = example_workflow("hidream_model_photo_set")
    node = next(node for node in loaded["nodes"] if node["type"] == "HiDreamAPIModelPhotoSet")
    assert node["id"] == NODE
    node["widgets_values"][TEMPLATE_ID] = template
    return loaded


@dataclass
class Picker:
    page: Page
    look: str

    @property
    def words(self) -> dict[str, str]:
        return WORDS[self.look[-2:]]

    @property
    def dialog(self) -> Locator:
        return self.page.locator("[data-template-picker]")

    @property
    def note(self) -> Locator:
        return self.dialog.get_by_role("status")

    def open(self) -> None:
        if self.look.startswith("vue"):
            self.page.get_by_role("button", name=self.words["button"]).click()
        else:
            self.page.wait_for_function(f"(id) => ({_WHERE_IS_THE_BUTTON})(id).every(Number.isFinite)", arg=NODE)
            self.page.mouse.click(*self.page.evaluate(_WHERE_IS_THE_BUTTON, NODE))
        expect(self.dialog).to_be_visible()

    def option(self, number: int) -> Locator:
        return self.dialog.locator(f'[role="option"][data-id="{number}"]')

    def tab(self, name: str) -> Locator:
        return self.dialog.get_by_role("tab", name=self.words[name], exact=True)

    def value(self) -> int:
        return int(self.page.evaluate(_VALUE, NODE))

    def has_pictures(self) -> None:
        """Those on the screen have come."""
        for index in range(12):
            image = self.dialog.locator("[role=option] img").nth(index).element_handle()
            self.page.wait_for_function("(image) => image.complete && image.naturalWidth > 0", arg=image)

    def answers(self, path: str, answer: Callable[[Route], None]) -> None:
        self.page.route(re.compile(rf"/hidream_volcengine/templates{path}"), answer)


@pytest.mark.smoke
def test_a_click_fills_the_number_and_nothing_else_is_saved(frontend: Frontend, picker: Picker, look: str) -> None:
    page, before = frontend.page, frontend.widget_values()
    assert before == {node["id"]: node.get("widgets_values") for node in workflow()["nodes"]}
    frontend.screenshot(f"template_button-{look}")
    picker.open()
    expect(picker.option(7)).to_have_attribute("aria-selected", "true")
    expect(picker.option(7)).to_be_focused()
    expect(picker.tab("women")).to_have_attribute("aria-selected", "true")
    expect(picker.dialog.locator("footer")).to_contain_text(picker.words["page"])
    picker.has_pictures()
    frontend.screenshot(f"template_picker-{look}")
    picker.tab("men").click()
    expect(picker.option(8)).to_be_visible()
    expect(picker.dialog.locator("[role=option]")).to_have_count(30)
    # By now: one renderer changes the sizes of nodes by itself, and notes that with the first click anywhere.
    steps = page.evaluate(_STEPS)
    picker.option(8).click()
    expect(picker.dialog).to_have_count(0)

    assert picker.value() == 8
    page.wait_for_function(f"(steps) => ({_STEPS})() === steps + 1", arg=steps)
    after = {node["id"]: node.get("widgets_values") for node in workflow(8)["nodes"]}
    assert frontend.widget_values() == after
    for saved in (frontend.graph(), frontend.prompt()):
        assert picker.words["button"] not in json.dumps(saved, ensure_ascii=False)
    assert frontend.prompt()[str(NODE)]["inputs"]["template_id"] == 8
    page.evaluate(_STEP_IS_OVER)
    page.evaluate(_UNDO)
    page.wait_for_function(f"(id) => ({_VALUE})(id) === 7", arg=NODE)
    assert frontend.widget_values() == before


def test_what_was_chosen_is_run_and_stays_when_loaded_again(frontend: Frontend, picker: Picker) -> None:
    picker.open()
    picker.tab("men").click()
    picker.option(4).click()
    saved = frontend.graph()
    entry = frontend.run()
    assert entry["prompt"][2][str(NODE)]["inputs"]["template_id"] == 4
    assert sum(len(output.get("images", [])) for output in entry["outputs"].values()) == 4
    frontend.load(saved)
    assert picker.value() == 4
    assert frontend.widget_values() == {node["id"]: node.get("widgets_values") for node in workflow(4)["nodes"]}


def test_with_the_keyboard_alone(frontend: Frontend, picker: Picker) -> None:
    page = frontend.page
    count = len(workflow()["nodes"])
    picker.open()
    expect(picker.option(7)).to_be_focused()
    for key, number in (("ArrowRight", 10), ("ArrowLeft", 7), ("Home", 1), ("ArrowLeft", 1), ("End", 47)):
        page.keyboard.press(key)
        if (key, number) != ("End", 47):
            expect(picker.option(number)).to_be_focused()
    page.keyboard.press("PageDown")
    expect(picker.option(75)).to_be_visible()
    expect(picker.dialog.locator("[role=option]:focus")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    # Keys of the frontend, for the canvas below: delete, paste, queue.
    for key in ("Delete", "Backspace", "Control+v", "Control+Enter", "r", "Control+g"):
        page.keyboard.press(key)
    expect(picker.dialog).to_be_visible()
    assert page.evaluate("app.graph.nodes.length") == count
    page.keyboard.press("Escape")
    expect(picker.dialog).to_have_count(0)
    assert picker.value() == 7
    assert page.evaluate("app.graph.nodes.length") == count

    picker.open()
    expect(picker.option(7)).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(picker.dialog).to_have_count(0)
    assert picker.value() == 10


def test_a_number_is_looked_up(frontend: Frontend, picker: Picker) -> None:
    picker.open()
    field = picker.dialog.locator("input")
    field.fill("74")
    field.press("Enter")
    expect(picker.option(74)).to_be_focused()
    expect(picker.tab("men")).to_have_attribute("aria-selected", "true")
    field.fill("4711")
    field.press("Enter")
    expect(picker.note).to_have_text(picker.words["not listed"])
    expect(picker.option(74)).to_be_visible()
    field.fill("seven")
    field.press("Enter")
    expect(picker.note).to_contain_text(picker.words["no number"])
    frontend.page.keyboard.press("Escape")


def test_a_number_that_is_not_listed_stays(frontend: Frontend, picker: Picker) -> None:
    frontend.load(workflow(4711))
    frontend.page.evaluate(_LOOK_AT, NODE)
    picker.open()
    expect(picker.note).to_have_text(picker.words["not listed"])
    expect(picker.option(1)).to_be_visible()
    frontend.page.keyboard.press("Escape")
    assert picker.value() == 4711


def test_a_linked_number_is_explained(frontend: Frontend, picker: Picker) -> None:
    frontend.page.evaluate(_LINK, [LOADER, NODE, "template_id"])
    picker.answers("", lambda route: pytest.fail("it was asked"))
    picker.open()
    expect(picker.note).to_contain_text(picker.words["linked"])
    expect(picker.dialog.locator("[role=option]")).to_have_count(0)
    frontend.page.keyboard.press("Escape")


def test_offline_and_refused(frontend: Frontend, picker: Picker, look: str) -> None:
    language = look[-2:]
    old = {"gender": "woman", "templates": [{"id": number, "gender": "woman"} for number in (1, 2)], "page": 1,
           "pages": 1, "total": 2, "offline": OFFLINE}  # fmt: skip
    picker.answers(r"(/7)?\?", lambda route: route.fulfill(json=old))
    picker.answers("/2/picture", lambda route: route.fulfill(status=409, json={"error": REFUSED}))
    picker.open()
    expect(picker.note).to_have_text(OFFLINE[language])
    expect(picker.option(1)).to_be_visible()
    expect(picker.option(2)).to_contain_text(picker.words["missing"])
    frontend.screenshot(f"template_picker_offline-{look}")
    picker.answers(r"(/7)?\?", lambda route: route.fulfill(status=409, json={"error": REFUSED}))
    picker.tab("men").click()
    expect(picker.note).to_contain_text(REFUSED[language])
    expect(picker.note).to_contain_text(picker.words["by hand"])
    expect(picker.dialog.locator("[role=option]")).to_have_count(0)
    frontend.screenshot(f"template_picker_refused-{look}")
    frontend.page.unroute_all()
    picker.dialog.locator("button", has_text=re.compile("Reload|重新加载")).click()
    expect(picker.option(3)).to_be_visible()
    frontend.page.mouse.click(5, 500)
    expect(picker.dialog).to_have_count(0)
    frontend.problems.clear()  # Chromium notes each refusal of a picture
