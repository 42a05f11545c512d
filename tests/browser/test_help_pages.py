"""The help of every node in the real frontends: it opens from the node, in the user's language, with its picture."""

from __future__ import annotations

import re
import time

import pytest
from hidream_volcengine.api.catalog import NODES as DESCRIBED
from hidream_volcengine.api.catalog import ComboWidget
from playwright.sync_api import Locator, expect

from devtools.environment import ROOT
from tests.browser.frontend import Frontend, Json
from tests.browser.looks import looks

NODES = sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))
# French is none of ours: it has the English pages.
pytestmark = looks("own-canvas-zh", "newer-canvas-en", "newer-canvas-zh", "newer-canvas-fr")

# Combos whose page tells the default only: each endpoint that is added is one more option.
UNLISTED = {
    (node.node_id, widget.id)
    for node in DESCRIBED
    for widget in node.widgets
    if isinstance(widget, ComboWidget) and not widget.listed
}

# Far below the tabs and the menu, which would lie above the buttons over the node.
_SHOW_ONLY = """(type) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    node.pos = [0, 0];
    app.graph.add(node);
    app.canvas.ds.scale = 0.6;
    app.canvas.ds.offset = [1000, 700];
    app.canvas.selectNode(node);
    app.canvas.setDirty(true, true);
}"""
_LOADED = "(picture) => picture.complete && picture.naturalWidth > 0"


@pytest.fixture(scope="module")
def object_info(shared_frontend: Frontend) -> Json:
    return shared_frontend.comfy.object_info()


def page_of(node: str, locale: str) -> str:
    folder = ROOT / "web" / "docs"
    path = folder / node / "zh.md" if locale == "zh" else folder / f"{node}.md"
    return path.read_text(encoding="utf-8")


def has_the_headings_of(help_page: Locator, written: str) -> None:
    expect(help_page.locator("h1")).to_have_text(title_of(written))
    expect(help_page.locator("h2")).to_have_text(re.findall("^## (.+)$", written, re.MULTILINE))


def open_help(frontend: Frontend, node: str, written: str) -> Locator:
    """The page as ``written``, by the button above the selected node."""
    frontend.page.evaluate(_SHOW_ONLY, node)
    help_page = frontend.page.locator(".node-help-content")
    deadline = time.monotonic() + 90
    while True:
        # A button that the frontend still shows of the node before opens nothing.
        frontend.page.locator('[data-testid="info-button"]').click()
        try:
            expect(help_page.locator("h1")).to_have_text(title_of(written), timeout=10_000)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            return help_page


def title_of(written: str) -> str:
    return written.partition("\n")[0].removeprefix("# ")


@pytest.mark.parametrize("node", [pytest.param(NODES[0], marks=pytest.mark.smoke), *NODES[1:]])
def test_opens_with_its_picture_in_the_users_language(
    node: str, shared_frontend: Frontend, language: str, object_info: Json
) -> None:
    frontend = shared_frontend
    written = page_of(node, language)
    help_page = open_help(frontend, node, written)
    has_the_headings_of(help_page, written)

    picture = help_page.locator("img")
    expect(picture).to_have_count(1)
    expect(picture).to_have_attribute("src", re.compile(f"/docs/pictures/{node}[.]webp$"))
    frontend.page.wait_for_function(_LOADED, arg=picture.element_handle())
    shown, panel = picture.bounding_box(), help_page.bounding_box()
    assert shown
    assert panel
    assert panel["width"] * 0.7 < shown["width"] <= panel["width"]

    # Markup that the frontend reads another way would be seen as it is.
    expect(help_page).not_to_contain_text(re.compile(r"\*\*|`|<br>|\]\("))
    told = inputs_of(object_info[node])
    # As on the node: sockets first, also those that ComfyUI tells last because they are optional.
    inputs = {one.id: told.pop(one.id) for known in DESCRIBED if known.node_id == node for one in known.inputs}
    assert told == {}
    rows = help_page.locator("table").first.locator("tbody tr")
    expect(rows.locator("td:first-child code")).to_have_text(list(inputs))
    for row, (name, spec) in zip(rows.all_text_contents(), inputs.items(), strict=True):
        expected = [spec[1]["default"]] if (node, name) in UNLISTED else limits(spec)
        assert [told for told in expected if told not in row] == [], row
    frontend.screenshot(f"help-{node}-{language}")
    assert frontend.problems == []


def test_other_languages_have_the_english_pages(shared_frontend: Frontend, language: str) -> None:
    shared_frontend.speak("fr")
    try:
        for node in NODES:
            written = page_of(node, "en")
            has_the_headings_of(open_help(shared_frontend, node, written), written)
    finally:
        shared_frontend.speak(language)
    assert shared_frontend.problems == []


def inputs_of(node: Json) -> Json:
    return {**node["input"]["required"], **node["input"].get("optional", {})}


def limits(spec: list[Json]) -> list[str]:
    """What the page must tell of a widget's default and limits."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options", [])
    if "sandbox" in choices:
        return ["default"]  # others are the server's own
    if choices:
        return [str(choice) for choice in choices]
    numbers = [options[name] for name in ("default", "min", "max") if kind in ("INT", "FLOAT")]
    return [f"{number:g}" if isinstance(number, float) else str(number).replace("-", "−") for number in numbers]
