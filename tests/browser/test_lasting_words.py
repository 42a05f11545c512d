"""What a node says below itself after a run: in the user's language, and never saved."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.frontend import Frontend, example_workflow
from tests.browser.looks import looks

WORDS = {
    "en": "The original was reduced from 768×768 to 576×576 for the canvas.",
    "zh": "原图已从 768×768 缩小为 576×576 放入画布。",
}
NODE = 2

_WIDGETS = "() => app.graph.nodes.filter((n) => n.widgets?.some((w) => w.name === 'node_status')).map((n) => +n.id)"
_HIDDEN = "(id) => app.graph.getNodeById(id).widgets.find((widget) => widget.name === 'node_status').hidden"
_SAY = "([id, text]) => app.graph.getNodeById(id).onExecuted({text})"
# Ours listens since the start of the page, so that it has been told before this one is.
_HIDDEN_WHEN_STARTED = """(id) => { window.hiddenWhenStarted = new Promise((resolve) => {
    const hear = ({detail}) => {
        if (String(detail) !== String(id)) return;
        app.api.removeEventListener("executing", hear);
        resolve(app.graph.getNodeById(id).widgets.find((widget) => widget.name === "node_status").hidden);
    };
    app.api.addEventListener("executing", hear);
}) }"""
_INTO_SUBGRAPH = """(id) => {
    const {subgraph, node} = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
    window.inner = subgraph.nodes[0];
    return [node.id, window.inner.id];
}"""
_TELL = "([type, detail]) => app.api.dispatchCustomEvent(type, detail)"


# Chinese from the start: the frontend then translates titles and categories, too, which must not hide our nodes.
pytestmark = looks("own-canvas-zh", "newer-canvas-en")


@pytest.fixture
def frontend(shared_frontend: Frontend) -> Frontend:
    shared_frontend.load(example_workflow("hidream_outpaint"))
    return shared_frontend


def words(frontend: Frontend) -> Locator:
    """Ours on the page; other packs and the frontend have a `role=status`, too."""
    return frontend.page.locator("[role=status][data-lasting-words]")


def element(frontend: Frontend) -> Locator:
    """All that is shown below the node."""
    return frontend.page.locator("[data-node-status]")


@pytest.mark.smoke
def test_shown_while_they_hold_and_never_saved(frontend: Frontend, look: str) -> None:
    page = frontend.page
    language = look[-2:]
    values, prompt = frontend.widget_values(), frontend.prompt()
    assert page.evaluate(_WIDGETS) == [NODE]
    expect(words(frontend)).to_be_hidden()
    page.evaluate(_SAY, [NODE, ["words of the last run"]])
    expect(words(frontend)).to_have_text("words of the last run")

    page.evaluate(_HIDDEN_WHEN_STARTED, NODE)
    frontend.run()
    assert page.evaluate("window.hiddenWhenStarted") is True
    expect(words(frontend)).to_have_text(WORDS[language])
    expect(words(frontend)).to_be_in_viewport(ratio=0.99)
    expect(element(frontend)).to_have_attribute("lang", language)
    frontend.screenshot(f"lasting_words-{look}")
    element(frontend).focus()
    expect(element(frontend)).to_be_focused()

    assert frontend.widget_values() == values
    assert frontend.prompt() == prompt
    saved = frontend.graph()
    assert WORDS[language] not in str(saved)
    assert "node_status" not in str(saved)
    frontend.load(saved)
    expect(words(frontend)).to_be_hidden()
    assert page.evaluate(_WIDGETS) == [NODE]
    assert frontend.problems == []


def test_words_are_text_and_take_the_room_they_need(frontend: Frontend, look: str) -> None:
    page = frontend.page
    page.evaluate(_SAY, [NODE, ["<b>one</b>\n<b>一</b>", "only English"]])
    expect(words(frontend).locator("p")).to_have_text(
        [f"<b>{'one' if look.endswith('en') else '一'}</b>", "only English"]
    )
    expect(words(frontend).locator("b")).to_have_count(0)
    page.evaluate(_SAY, [NODE, ["long " * 60]])
    expect(words(frontend)).to_have_text(re.compile("^(long ?)+$"))
    page.wait_for_function(
        "(element) => element.clientHeight >= element.scrollHeight && element.clientHeight > 80",
        arg=element(frontend).element_handle(),
    )
    page.evaluate(_SAY, [NODE, []])
    expect(words(frontend)).to_be_hidden()
    assert page.evaluate(_HIDDEN, NODE) is True


def test_the_wheel_still_zooms(frontend: Frontend) -> None:
    frontend.page.evaluate(_SAY, [NODE, ["words"]])
    words(frontend).hover()
    scale = frontend.page.evaluate("app.canvas.ds.scale")
    frontend.page.mouse.wheel(0, -100)
    frontend.page.wait_for_function("(before) => app.canvas.ds.scale > before", arg=scale)


def test_inside_a_subgraph(frontend: Frontend) -> None:
    outer, inner = frontend.page.evaluate(_INTO_SUBGRAPH, NODE)
    execution = f"{outer}:{inner}"
    hidden = "window.inner.widgets.find((widget) => widget.name === 'node_status').hidden"
    executed = {"node": execution, "display_node": execution, "prompt_id": "any", "output": {"text": ["words"]}}
    frontend.page.evaluate(_TELL, ["executed", executed])
    assert frontend.page.evaluate(hidden) is False
    frontend.page.evaluate(_TELL, ["executing", execution])
    assert frontend.page.evaluate(hidden) is True
