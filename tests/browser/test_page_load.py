"""Few modules of the pack come with the page; each part of the interface brings its own when it is first used.

A page of its own: the shared one has everything by now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, expect

from devtools.comfyui.host import PACK_FOLDER
from devtools.environment import ROOT
from tests.browser.frontend import READY, Frontend
from tests.browser.looks import looks
from tests.browser.settings_dialog import Panel
from tests.browser.tasks.tasks_tab import TasksTab
from tests.browser.window import MILLISECONDS

MOST_WITH_THE_PAGE = 4
NOT_LOADED = {"en": "could not be loaded", "zh": "无法加载"}
AGAIN = {"en": "Try again", "zh": "重试"}
FOLDER = f"/extensions/{PACK_FOLDER}/"

_NOTHING_OF_EARLIER_PAGES = "localStorage.clear();"
_ADD = """(type) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [500 - node.pos[0], 100 - node.pos[1]];
    app.canvas.draw(true, true);
    return node.id;
}"""
_WIDGETS = "(id) => app.graph.getNodeById(id).widgets.slice(-3).map(({name, serialize}) => [name, serialize])"
_PRESS = "(id) => app.graph.getNodeById(id).widgets.find(({type}) => type === 'button').callback()"
_STATUS = "(id) => app.graph.getNodeById(id).widgets.find(({name}) => name === 'node_status').element.dataset"
_EXECUTED = """([id, text]) => app.graph.getNodeById(id).onExecuted({text: [text], account: []})"""

pytestmark = looks()


@dataclass
class NewPage:
    frontend: Frontend
    language: str
    fetched: list[str] = field(default_factory=list)
    """The modules of the pack in the order of their requests."""

    @property
    def page(self) -> Page:
        return self.frontend.page

    def note(self, request: Request) -> None:
        path = unquote(urlsplit(request.url).path)
        if path.startswith(FOLDER) and path.endswith((".js", ".mjs")):
            self.fetched.append(path.removeprefix(FOLDER))

    def of(self, folder: str) -> set[str]:
        """What was fetched of one folder of web/."""
        return {name for name in self.fetched if PurePosixPath(name).parent.name == folder}

    def add(self, kind: str) -> int:
        number: int = self.page.evaluate(_ADD, kind)
        return number

    def editor(self, number: int) -> Locator:
        return self.page.locator(f'[data-placement-editor="{number}"]')

    def says_so(self, place: Locator) -> Locator:
        """Wait for the words in the place of what could not be loaded; returns the button below them."""
        expect(place.get_by_role("alert")).to_contain_text(NOT_LOADED[self.language])
        return place.get_by_role("button", name=AGAIN[self.language])


@pytest.fixture
def new_page(browser: BrowserContext, shared_frontend: Frontend, language: str) -> Iterator[NewPage]:
    page = browser.new_page()
    page.set_default_timeout(MILLISECONDS)
    page.add_init_script(_NOTHING_OF_EARLIER_PAGES)
    new = NewPage(Frontend(page, shared_frontend.comfy, shared_frontend.version), language)
    new.frontend.watch()
    page.on("request", new.note)
    page.goto(shared_frontend.comfy.url)
    page.wait_for_function(READY)
    page.locator('[data-testid="queue-button"]').first.wait_for()
    yield new
    page.close()


def modules(folder: str) -> set[str]:
    return {f"{folder}/{path.name}" for path in (ROOT / "web" / folder).iterdir()}


@pytest.mark.smoke
def test_each_part_is_fetched_when_it_is_first_used(new_page: NewPage) -> None:
    page, frontend = new_page.page, new_page.frontend
    with_the_page = list(new_page.fetched)
    photo_sets: list[int] = []
    assert 0 < len(with_the_page) <= MOST_WITH_THE_PAGE, with_the_page

    def use_tab() -> None:
        tab = TasksTab(frontend)
        frontend.screenshot(f"first-use-tab-{new_page.language}")
        tab.toggle()
        expect(tab.root).to_have_count(0)

    def use_dialog() -> None:
        panel = Panel(frontend, new_page.language)
        panel.open()
        expect(panel.root.locator(".head").first).to_be_visible()
        frontend.screenshot(f"first-use-dialog-{new_page.language}")
        panel.close()

    def use_node() -> None:
        # Its button alone needs nothing of the picker.
        photo_sets.append(new_page.add("HiDreamAPIModelPhotoSet"))
        page.wait_for_function(f"(id) => 'nodeStatus' in ({_STATUS})(id)", arg=photo_sets[-1])

    def use_editor() -> None:
        number = new_page.add("RemoteOutpaintPlacement")
        expect(new_page.editor(number)).to_be_visible()
        frontend.screenshot(f"first-use-editor-{new_page.language}")

    def use_picker() -> None:
        page.evaluate(_PRESS, photo_sets[-1])
        dialog = page.locator("[data-template-picker]")
        expect(dialog).to_be_visible()
        frontend.screenshot(f"first-use-picker-{new_page.language}")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)

    uses: dict[str, Callable[[], None]] = {
        "tasks": use_tab, "profiles": use_dialog, "status": use_node, "placement": use_editor, "templates": use_picker,
    }  # fmt: skip
    for folder, use in uses.items():
        # Nodes use profiles/known.mjs to learn which profiles have a key, so it may be there before the dialog.
        before = new_page.of(folder) - {"profiles/known.mjs"}
        assert not before, f"fetched too early: {before}"
        use()
        assert new_page.of(folder) >= modules(folder) - {"profiles/known.mjs"}
        fetched = len(new_page.fetched)
        use()
        assert len(new_page.fetched) == fetched, "fetched twice"
    assert set(new_page.fetched) == {
        path.relative_to(ROOT / "web").as_posix() for path in (ROOT / "web").rglob("*.*js")
    }
    assert frontend.problems == []


def test_what_could_not_be_loaded_says_so_and_is_tried_again(new_page: NewPage) -> None:
    """The tab at once, by its button; the dialog when it is opened again."""
    page, frontend, language = new_page.page, new_page.frontend, new_page.language
    page.route(f"**{FOLDER}**/*.mjs", lambda route: route.abort())

    tab = page.locator(".side-bar-panel, .sidebar-content-container").first
    page.evaluate("app.extensionManager.command.execute('Workspace.ToggleSidebarTab.hidream-volcengine-tasks')")
    again = new_page.says_so(tab)
    frontend.screenshot(f"not-loaded-tab-{language}")
    again.click()
    again = new_page.says_so(tab)
    page.unroute_all()
    again.click()
    expect(page.locator("[data-remote-tasks]")).to_be_visible()
    expect(tab.get_by_role("button", name=AGAIN[language])).to_have_count(0)

    page.route(f"**{FOLDER}profiles/panel.mjs", lambda route: route.abort())
    panel = Panel(frontend, language)
    panel.open()
    new_page.says_so(panel.root)
    frontend.screenshot(f"not-loaded-dialog-{language}")
    panel.close()
    page.unroute_all()
    panel.open()
    expect(panel.root.locator(".head").first).to_be_visible()
    expect(panel.root.get_by_role("alert")).to_have_count(0)


@pytest.mark.smoke
def test_nodes_whose_modules_come_late_lose_nothing(new_page: NewPage) -> None:
    """Widgets stand in their order at once; values, events and clicks meanwhile count."""
    page, frontend, language = new_page.page, new_page.frontend, new_page.language
    page.route(f"**{FOLDER}**/*.mjs", lambda route: route.abort())
    placement, photo_set = new_page.add("HiDreamAPIOutpaint"), new_page.add("HiDreamAPIModelPhotoSet")
    assert page.evaluate(_WIDGETS, placement)[1:] == [["placement_editor", False], ["node_status", False]]
    [[_, saved], [status, _]] = page.evaluate(_WIDGETS, photo_set)[1:]
    assert (saved, status) == (False, "node_status")
    size = page.evaluate("(id) => [...app.graph.getNodeById(id).size]", placement)
    page.evaluate(_EXECUTED, [photo_set, "kept\n留着"])
    page.evaluate(_PRESS, photo_set)
    toast = page.get_by_role("alert").filter(has_text="HiDream & Volcengine").filter(has_text=NOT_LOADED[language])
    expect(toast.last).to_be_visible()
    assert page.locator("[data-template-picker]").count() == 0
    page.evaluate(
        "(id) => app.graph.getNodeById(id).widgets.find(({name}) => name === 'x_offset').value = 7", placement
    )
    again = page.get_by_role("button", name=AGAIN[language])
    again.wait_for()
    frontend.screenshot(f"not-loaded-editor-{language}")

    page.unroute_all()
    again.click()
    expect(new_page.editor(placement)).to_be_visible()
    assert page.evaluate("(id) => [...app.graph.getNodeById(id).size]", placement) == size
    page.evaluate(_PRESS, photo_set)
    expect(page.locator("[data-template-picker]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-template-picker]")).to_have_count(0)
    # Another node makes the page try the import again.
    new_page.add("HiDreamAPIUpscale")
    words = "kept" if language == "en" else "留着"
    page.wait_for_function(
        "([id, words]) => app.graph.getNodeById(id).widgets.at(-1).element.textContent.includes(words)",
        arg=[photo_set, words],
    )
    saved = {str(number): values for number, values in frontend.widget_values().items()}
    assert 7 in saved[str(placement)], saved
