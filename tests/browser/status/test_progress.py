"""What a node shows of itself while it runs: told by the server, in the user's language, for nobody but this page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from emulator import Emulator
from tests.browser.frontend import Frontend, example_workflow
from tests.browser.looks import looks
from tests.host.buying import forget_purchases, hold, mend

NODE = 2
STATE = {
    "prompt_id": "p", "node": str(NODE), "display_node": str(NODE), "workflow": "",
    "stage": {"en": "running", "zh": "生成中"}, "end": "", "elapsed": 3.2, "expected": 12.0, "done": 1, "total": 4,
    "failed": 0, "buys": 3, "resumes": 0, "reused": 1, "parked": 0, "share": 0.4, "estimate": True, "previews": [],
    "more": 0,
}  # fmt: skip
PROGRESS = "hidream_volcengine.progress"

_TELL = "([type, detail]) => app.api.dispatchCustomEvent(type, detail)"
_FILE = """() => { const saved = JSON.parse(JSON.stringify(app.graph.serialize()));
    return JSON.stringify(saved, (key, value) => ["ds", "frontendVersion"].includes(key) ? undefined : value) }"""
_HEIGHT = "(id) => Math.round(app.graph.getNodeById(id).size[1])"
_NO_HIGHER = """(id) => { const node = app.graph.getNodeById(id);
    return node.size[1] <= node.computeSize()[1] }"""
_ALL_SHOWN = "(element) => element.clientHeight > 0 && element.clientHeight >= element.scrollHeight"
_NAMES = "(id) => app.graph.getNodeById(id).widgets.map((widget) => widget.name)"
_QUEUE = "() => void app.queuePrompt(0, 1)"
_HEAR = """(type) => { window.heard = [];
    app.api.addEventListener(type, ({detail}) => window.heard.push(detail)) }"""
_OVER = """() => { window.over = [];
    for (const type of ["execution_success", "execution_error", "execution_interrupted"])
        app.api.addEventListener(type, () => window.over.push(type)) }"""
_INTO_SUBGRAPH = """(id) => {
    const {subgraph, node} = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
    window.inner = subgraph.nodes[0];
    const other = LiteGraph.createNode(subgraph.id);
    if (other) app.graph.add(other);
    return [node.id, window.inner.id, other?.id ?? null];
}"""
_OPEN_SUBGRAPH = "() => app.canvas.setGraph(window.inner.graph)"

pytestmark = looks("own-canvas-zh", "newer-canvas-en")


@pytest.fixture
def frontend(shared_frontend: Frontend, service: Emulator) -> Iterator[Frontend]:
    workflow = example_workflow("hidream_outpaint")
    [node] = [each for each in workflow["nodes"] if each["id"] == NODE]
    node["widgets_values"][0] = "default"
    shared_frontend.load(workflow)
    shared_frontend.comfy.forget_results()
    forget_purchases(shared_frontend.comfy)
    service.clear()
    yield shared_frontend
    assert shared_frontend.problems == []


@pytest.fixture
def tell(frontend: Frontend) -> Callable[..., None]:
    """Have the page hear of the node what the server would say."""

    def tell(**changes: Any) -> None:
        frontend.page.evaluate(_TELL, [PROGRESS, {**STATE, **changes}])

    return tell


def status(page: Page) -> Locator:
    return page.locator("[data-node-status]")


def block(page: Page) -> Locator:
    return page.locator("[data-node-status] [data-progress]")


def test_what_is_shown_and_how_it_ends(frontend: Frontend, look: str, tell: Callable[..., None]) -> None:
    page = frontend.page
    file, height = page.evaluate(_FILE), page.evaluate(_HEIGHT, NODE)
    tell()
    chinese = look.endswith("zh")
    expect(block(page)).to_contain_text("生成中 · 3 秒 · 通常约 12 秒" if chinese else "running · 3 s · usually ~12 s")
    counts = "1 / 4 张 · 购买 3 张 · 复用 1 张" if chinese else "1 of 4 pictures · buys 3 · 1 reused"
    expect(block(page)).to_contain_text(counts)
    # It goes on by itself.
    expect(block(page)).to_contain_text("5 秒" if chinese else "5 s")
    bar = block(page).get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "40")
    expect(bar).to_have_attribute(
        "title", "约 40%，按以往调用估计" if chinese else "about 40 %, estimated from earlier calls"
    )
    tell(share=None, estimate=False, expected=None)
    expect(bar).not_to_have_attribute("aria-valuenow", "40")
    page.wait_for_function(_ALL_SHOWN, arg=status(page).element_handle())
    assert page.evaluate(_FILE) == file, "not even higher"
    page.evaluate(_TELL, ["execution_success", {"prompt_id": "another"}])
    expect(block(page)).to_have_count(1)
    page.evaluate(_TELL, ["execution_success", {"prompt_id": "p"}])
    expect(status(page)).to_be_hidden()
    page.wait_for_function(f"(height) => ({_HEIGHT})({NODE}) === height", arg=height)


@pytest.mark.smoke
def test_an_estimate_goes_away_when_it_is_exceeded(frontend: Frontend, look: str, tell: Callable[..., None]) -> None:
    """While the seconds go on, "usually ~12 s" and "about 95 %" would say that it is done in a moment."""
    chinese = look.endswith("zh")
    usual = "通常约 12 秒" if chinese else "usually ~12 s"
    bar = block(frontend.page).get_by_role("progressbar")
    tell(elapsed=8.0, share=0.7)
    expect(block(frontend.page)).to_contain_text(usual)
    expect(bar).to_have_attribute("aria-valuenow", "70")
    frontend.screenshot(f"estimate-{look}")
    tell(elapsed=11.2, share=0.95)
    # The page counts the seconds itself.
    expect(block(frontend.page)).to_contain_text("13 秒" if chinese else "13 s")
    expect(block(frontend.page)).not_to_contain_text(usual)
    expect(bar).not_to_have_attribute("aria-valuenow", "95")
    expect(bar).to_have_attribute("title", "")
    frontend.screenshot(f"estimate_exceeded-{look}")
    # What the service itself says is no estimate.
    tell(elapsed=20.0, share=0.5, estimate=False)
    expect(bar).to_have_attribute("aria-valuenow", "50")
    tell(end="stopped")


@pytest.mark.smoke
def test_what_it_may_cost_is_said_before_it_is_bought(frontend: Frontend, look: str, tell: Callable[..., None]) -> None:
    page = frontend.page
    chinese = look.endswith("zh")
    page.evaluate("(id) => { const node = app.graph.getNodeById(id); node.setSize([230, node.size[1]]) }", NODE)
    plan = block(page).locator("[data-plan]")
    price = "20 张 ≈ ¥4.40" if chinese else "≈ ¥4.40 for 20"
    budget = (
        "需要 500 张，预算允许 100 张：按列表顺序购买；图片库中已有的不占用"
        if chinese
        else "500 wanted, 100 allowed by the budget: taken in list order; what is in the store costs none"
    )
    tell(plan={"wanted": 20, "allowed": None, "price": "4.40", "currency": "CNY"})
    expect(plan).to_have_text(price)
    tell(plan={"wanted": 20, "allowed": 20, "price": None, "currency": None})
    expect(plan).to_be_hidden()
    tell(plan={"wanted": 500, "allowed": 0, "price": None, "currency": None})
    expect(plan).to_have_text(budget.replace("100", "0"))
    tell(plan={"wanted": 500, "allowed": 100, "price": "110.00", "currency": "CHF"})
    both = ["500 张 ≈ CHF 110" if chinese else "≈ CHF 110 for 500", budget]
    expect(plan).to_have_js_property("innerText", "\n".join(both))
    page.wait_for_function(_ALL_SHOWN, arg=status(page).element_handle())
    frontend.screenshot(f"plan-{look}")
    tell(plan=None)
    expect(plan).to_be_hidden()
    tell(end="stopped")


@pytest.mark.parametrize("end", ["executed", "execution_error", "execution_interrupted", "status", "execution_start"])
def test_every_end_ends_it(frontend: Frontend, tell: Callable[..., None], end: str) -> None:
    page = frontend.page
    tell()
    expect(block(page)).to_be_visible()
    details = {
        "executed": {"node": str(NODE), "display_node": str(NODE), "prompt_id": "p", "output": {"text": []}},
        "execution_error": {"prompt_id": "p", "node_id": "0", "exception_message": "", "traceback": []},
        "status": {"exec_info": {"queue_remaining": 0}},
        "execution_start": {"prompt_id": "next"},
    }
    page.evaluate(_TELL, [end, details.get(end, {"prompt_id": "p"})])
    expect(block(page)).to_have_count(0)
    page.keyboard.press("Escape")  # the frontend tells of the error


def test_after_a_stop_it_says_what_goes_on(frontend: Frontend, look: str, tell: Callable[..., None]) -> None:
    page = frontend.page
    tell()
    tell(end="stopped", parked=2)
    words = "有 2 个请求此前已发出" if look.endswith("zh") else "2 requests were sent before"
    expect(status(page)).to_contain_text(words)
    expect(block(page)).to_have_count(0)
    page.evaluate(_TELL, ["executing", str(NODE)])
    expect(status(page)).to_be_hidden()


def test_another_workflows_run_is_not_shown(frontend: Frontend, tell: Callable[..., None]) -> None:
    page = frontend.page
    tell(workflow="00000000-0000-4000-8000-000000000001")
    expect(block(page)).to_have_count(0)
    tell(workflow=page.evaluate("String((app.rootGraph ?? app.graph).id)"))
    expect(block(page)).to_have_count(1)


@pytest.mark.smoke
def test_a_run_from_its_begin_to_its_end(frontend: Frontend, service: Emulator, look: str) -> None:
    """Three pictures, of which one stays away until the others are shown; nothing of it is in the file."""
    page = frontend.page
    page.evaluate("(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'variants').value = 3", NODE)
    service.add_fault({"phase": "image", "skip": 2, "times": None, "do": {"status": 500}})
    file, names = page.evaluate(_FILE), page.evaluate(_NAMES, NODE)
    page.evaluate(_HEAR, PROGRESS)
    page.evaluate(_OVER)
    page.evaluate(_QUEUE)
    expect(block(page).locator("img")).to_have_count(2)
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-progress] img')].every((image) => image.naturalWidth > 0)"
    )
    expect(block(page)).to_contain_text("2 / 3 张" if look.endswith("zh") else "2 of 3 pictures")
    frontend.screenshot(f"progress-{look}")
    assert page.evaluate(_FILE) == file
    assert page.evaluate(_NAMES, NODE) == names, "the frontend's own words are not shown beside ours"
    mend(service)
    page.wait_for_function("() => window.over.length > 0")
    assert page.evaluate("window.over") == ["execution_success"]
    expect(block(page)).to_have_count(0)
    expect(status(page)).to_contain_text("576×576")
    frontend.screenshot(f"progress_after-{look}")
    assert page.evaluate(_FILE) == file
    for _ in range(3):
        frontend.run()
        expect(status(page)).to_contain_text("576×576")
        # The placement editor may give some of its room, so that the height depends on what was drawn in between.
        page.wait_for_function(_ALL_SHOWN, arg=status(page).element_handle())
        page.wait_for_function(_NO_HIGHER, arg=NODE)
    assert page.evaluate(_FILE) == file


def test_an_undo_a_reload_and_an_interrupt_midway(frontend: Frontend, service: Emulator, look: str) -> None:
    page = frontend.page
    hold(service)
    size = "(id) => app.graph.getNodeById(id).serialize().size.map(Math.round)"
    before = page.evaluate(size, NODE)
    page.evaluate(_QUEUE)
    expect(block(page)).to_be_visible()
    # Every node is made anew.
    page.evaluate("() => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())))")
    expect(block(page)).to_be_visible()
    expect(block(page)).to_have_count(1)
    undo(frontend)
    expect(block(page)).to_be_visible()

    page.reload()
    page.wait_for_function("() => !!window.app?.graph?.getNodeById?.(2)?.widgets?.length")
    expect(block(page)).to_be_visible()
    frontend.screenshot(f"progress_reloaded-{look}")
    assert page.evaluate(size, NODE) == before
    page.evaluate("() => app.api.interrupt?.()")
    expect(block(page)).to_have_count(0)
    words = "1 项已受理：重新运行即可免费取回" if look.endswith("zh") else "1 accepted: queue again, free"
    expect(status(page)).to_contain_text(words)
    frontend.screenshot(f"progress_stopped-{look}")
    mend(service)


def undo(frontend: Frontend) -> None:
    """Change a widget as a user does, and take it back."""
    page = frontend.page
    page.evaluate(
        """(id) => { const node = app.graph.getNodeById(id);
            node.widgets.find((w) => w.name === "take").value = 77;
            app.extensionManager.workflow.activeWorkflow.changeTracker.checkState(); }""",
        NODE,
    )
    page.evaluate("() => app.extensionManager.workflow.activeWorkflow.changeTracker.undo()")
    take = "(id) => app.graph.getNodeById(id)?.widgets?.find((w) => w.name === 'take')?.value"
    page.wait_for_function(f"(id) => ({take})(id) !== 77", arg=NODE)


def test_each_instance_of_a_subgraph_is_told_apart(frontend: Frontend, look: str, tell: Callable[..., None]) -> None:
    page = frontend.page
    outer, inner, other = page.evaluate(_INTO_SUBGRAPH, NODE)
    page.evaluate(_OPEN_SUBGRAPH)
    for instance in filter(None, (outer, other)):
        execution = f"{instance}:{inner}"
        tell(node=execution, display_node=execution)
    expect(block(page)).to_have_count(2 if other else 1)
    frontend.screenshot(f"progress_subgraph-{look}")
    if other:
        expect(block(page).first).to_contain_text(f"#{outer}")
        expect(block(page).last).to_contain_text(f"#{other}")
    execution = f"{outer}:{inner}"
    executed = {"node": execution, "display_node": execution, "prompt_id": "p", "output": {"text": ["words"]}}
    page.evaluate(_TELL, ["executed", executed])
    expect(block(page)).to_have_count(1 if other else 0)
    expect(status(page)).to_contain_text("words")
    page.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
