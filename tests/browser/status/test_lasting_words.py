"""What a node says below itself after a run: in the user's language, and never saved."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.frontend import Frontend, example_workflow
from tests.browser.looks import looks
from tests.host.buying import forget_purchases

WORDS = {
    "en": "The original was reduced from 768×768 to 576×576 for the canvas.",
    "zh": "原图已从 768×768 缩小为 576×576 放入画布。",
}
NODE = 2

_WIDGETS = "() => app.graph.nodes.filter((n) => n.widgets?.some((w) => w.name === 'node_status')).map((n) => +n.id)"
_HIDDEN = "(id) => app.graph.getNodeById(id).widgets.find((widget) => widget.name === 'node_status').hidden"
_SAY = "([id, text]) => app.graph.getNodeById(id).onExecuted({text})"
# The pack's own listener was added when the page was loaded, so it is called before this one.
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
_UP = "() => { app.canvas.ds.offset[1] -= 100; app.canvas.setDirty(true, true); }"
_END = "([id, account]) => app.graph.getNodeById(id).onExecuted({text: [], account})"
_TELL = "([type, detail]) => app.api.dispatchCustomEvent(type, detail)"


# Chinese from the start: the frontend then translates titles and categories, too, which must not hide our nodes.
pytestmark = looks("own-canvas-zh", "newer-canvas-en")


@pytest.fixture
def frontend(shared_frontend: Frontend) -> Frontend:
    shared_frontend.load(example_workflow("hidream_outpaint"))
    return shared_frontend


def words(frontend: Frontend) -> Locator:
    """Ours on the page; other packs and the frontend have a `role=status`, too."""
    return frontend.page.locator("[data-lasting-words]")


def element(frontend: Frontend) -> Locator:
    """All that is shown below the node."""
    return frontend.page.locator("[data-node-status]")


@pytest.mark.smoke
def test_shown_while_they_hold_and_never_saved(frontend: Frontend, look: str) -> None:
    page = frontend.page
    language = look[-2:]
    forget_purchases(frontend.comfy)
    values, prompt = frontend.widget_values(), frontend.prompt()
    assert page.evaluate(_WIDGETS) == [NODE]
    expect(words(frontend)).to_be_hidden()
    page.evaluate(_SAY, [NODE, ["words of the last run"]])
    expect(words(frontend)).to_have_text("words of the last run")

    page.evaluate(_UP)  # so that what is below the node is inside of the window
    page.evaluate(_HIDDEN_WHEN_STARTED, NODE)
    frontend.run()
    assert page.evaluate("window.hiddenWhenStarted") is True
    account = "^1 bought · \\d+ s · free$" if language == "en" else "^购买 1 张 · \\d+ 秒 · 免费$"
    expect(words(frontend).locator("p")).to_have_text([WORDS[language], re.compile(account)])
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


ACCOUNTS = {
    "en": ["17 bought, 1 resumed, 12 reused · 48 s", "3 reused, 0 calls · 1 s", "2 bought · 5 s · free"],
    "zh": ["购买 17 张，恢复 1 张，复用 12 张 · 48 秒", "复用 3 张，0 次调用 · 1 秒", "购买 2 张 · 5 秒 · 免费"],
}
BOUGHT = {"bought": 16, "resumed": 1, "reused": 12, "seconds": 48.4, "free": False}
NOTHING = {"bought": 0, "resumed": 0, "reused": 0, "seconds": 0.5, "free": False}


def test_the_account_of_a_run_is_one_line(frontend: Frontend, look: str) -> None:
    runs = [
        [BOUGHT, {**NOTHING, "bought": 1, "seconds": 3}],  # two items of a list, side by side
        [{**NOTHING, "reused": 3, "seconds": 1.2}],
        [{**NOTHING, "bought": 2, "seconds": 5, "free": True}],
    ]
    for accounts, told in zip(runs, ACCOUNTS[look[-2:]], strict=True):
        frontend.page.evaluate(_END, [NODE, accounts])
        expect(words(frontend)).to_have_text(told)


NIGHT = {
    "en": [
        "480 bought, 3 refused, 1 unclear, 16 not submitted · ≈ ¥105.60 · 96 s",
        "The budget of today is used up.",
        "without a picture: 13, 18, 34, 101, 485, 486, 487, 488, 489, 490 and 10 more",
    ],
    "zh": [
        "购买 480 张，被拒绝 3 张，结果不明 1 张，未提交 16 张 · ≈ ¥105.60 · 96 秒",
        "今日预算已用完。",
        "没有图片的项：13、18、34、101、485、486、487、488、489、490 等，另有 10 项",
    ],
}
MIXED = {
    "en": [
        "3 bought, 1 resumed, 1 reused, 1 failed, 2 awaited · ≈ ¥0.66 + $1.50 + SGD 0.0125 · 4 s",
        "without a picture: 2",
        "with some pictures missing: 1",
    ],
    "zh": [
        "购买 3 张，恢复 1 张，复用 1 张，失败 1 张，待取回 2 张 · ≈ ¥0.66 + $1.50 + SGD 0.0125 · 4 秒",
        "没有图片的项：2",
        "缺少部分图片的项：1",
    ],
}
ONE = {"en": ["2 reused, 0 calls, 1 not submitted · 1 s"], "zh": ["复用 2 张，0 次调用，未提交 1 张 · 1 秒"]}
REFUSED = {"en": ["1 reused, 1 refused · 1 s"], "zh": ["复用 1 张，被拒绝 1 张 · 1 秒"]}
STOPPED = "The budget of today is used up.\n今日预算已用完。"


def account(index: int, **counts: Any) -> dict[str, Any]:
    """The account of one item of a list, as the node sends it."""
    names = ("bought", "resumed", "reused", "refused", "failed", "unclear", "waiting", "not_submitted")
    none = dict.fromkeys(names, 0)
    others = {"seconds": 1.0, "free": False, "price": None, "currency": None, "stopped": []}
    return {"index": index, **none, **others, **counts}


def a_night() -> list[dict[str, Any]]:
    """500 items: three were refused, one answer was lost, the budget ended at 480."""
    missing = {12: "refused", 17: "refused", 33: "refused", 100: "unclear"}
    items = []
    for index in range(500):
        if index in missing:
            items.append(account(index, **{missing[index]: 1}))
        elif index < 484:
            items.append(account(index, bought=1, seconds=float(index % 97), price="0.22", currency="CNY"))
        else:
            items.append(account(index, not_submitted=1, stopped=[STOPPED]))
    return items


def test_an_account_says_what_is_missing_and_why(frontend: Frontend, look: str) -> None:
    mixed = [
        account(0, bought=2, failed=1, price="0.44", currency="CNY", seconds=4.0),
        account(1, waiting=2),
        account(2, bought=1, price="0.22", currency="CNY"),
        account(3, resumed=1, price="1.5", currency="USD"),
        account(4, reused=1, price="0.0125", currency="SGD"),
    ]
    runs = [
        (a_night(), NIGHT),
        (mixed, MIXED),
        ([account(0, reused=2, not_submitted=1)], ONE),
        ([account(0, reused=1, refused=1)], REFUSED),
    ]
    for accounts, told in runs:
        frontend.page.evaluate(_END, [NODE, accounts])
        expect(words(frontend).locator("p")).to_have_text(told[look[-2:]])


@pytest.mark.smoke
def test_an_account_fits_a_narrow_node(frontend: Frontend, look: str) -> None:
    page = frontend.page
    page.evaluate("(id) => { const node = app.graph.getNodeById(id); node.setSize([230, node.size[1]]) }", NODE)
    page.evaluate(_END, [NODE, a_night()])
    expect(words(frontend).locator("p")).to_have_text(NIGHT[look[-2:]])
    page.wait_for_function(
        "(element) => element.clientHeight >= element.scrollHeight && element.scrollWidth <= element.clientWidth",
        arg=element(frontend).element_handle(),
    )
    frontend.screenshot(f"account_of_a_night-{look}")
    page.evaluate(_SAY, [NODE, []])


ERROR = "The input image was rejected. Billed: no.\n输入图片未通过内容审核。是否计费：否。"


def test_an_error_stands_on_the_node_until_its_next_run(frontend: Frontend, look: str) -> None:
    error = {"prompt_id": "any", "node_id": str(NODE), "node_type": "HiDreamAPIOutpaint", "exception_message": ERROR}
    frontend.page.evaluate(_TELL, ["execution_error", error])
    told = frontend.page.locator("[data-lasting-words=error][role=alert]")
    expect(told).to_have_text(ERROR.split("\n")[look.endswith("zh")])
    frontend.screenshot(f"error_on_the_node-{look}")
    assert "rejected" not in str(frontend.graph()) and "审核" not in str(frontend.graph())
    frontend.page.evaluate(_TELL, ["executing", str(NODE)])
    expect(words(frontend)).to_be_hidden()
    # A message in one language only.
    frontend.page.evaluate(_TELL, ["execution_error", {**error, "exception_message": "Nur ein Satz."}])
    expect(told).to_have_text("Nur ein Satz.")
    frontend.page.evaluate(_TELL, ["executing", str(NODE)])
    frontend.page.evaluate(_TELL, ["execution_error", {**error, "node_type": "KSampler"}])
    expect(words(frontend)).to_be_hidden()


LEFT = {
    "en": "Stopped: 6 accepted: queue again, free · 2 unclear: will be explained · 40 not sent",
    "zh": "已停止：6 项已受理：重新运行即可免费取回 · 2 项结果不明：重新运行时给出说明 · 40 项未提交",
}


def test_an_interrupt_tells_what_became_of_it(frontend: Frontend, look: str) -> None:
    left = {"accepted": 6, "sending": 0, "unclear": 2, "failed": 0, "unsent": 40}
    about = {"prompt_id": "any", "node": str(NODE), "display_node": str(NODE), "workflow": ""}
    frontend.page.evaluate(_TELL, ["hidream_volcengine.progress", {**about, "end": "left", "left": left}])
    expect(words(frontend)).to_have_text(LEFT[look[-2:]])
    frontend.screenshot(f"left_by_an_interrupt-{look}")
    frontend.page.evaluate(_TELL, ["hidream_volcengine.progress", {**about, "end": "left", "workflow": "another"}])
    expect(words(frontend)).to_have_text(LEFT[look[-2:]])
