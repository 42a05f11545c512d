"""What the Tasks tab shows of a list that the test makes up: words, filter, budgets, refusals, and that it is calm."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hidream_volcengine.api.catalog import ENDPOINTS
from PIL import Image
from playwright.sync_api import Route, expect

from tests.browser.frontend import Frontend
from tests.browser.looks import looks
from tests.browser.tasks.tasks_tab import TasksTab

STATES = {
    "prepared": ("Not sent yet", "not billed", "尚未发送", "未计费"),
    "submitting": ("Being sent", "may be billed", "发送中", "可能计费"),
    "submitted": ("In progress", "accepted, may be billed", "进行中", "已受理，可能计费"),
    "parked": ("Waiting to be collected", "accepted, may be billed", "等待取回", "已受理，可能计费"),
    "done": ("Being downloaded", "billed", "下载中", "已计费"),
    "stored": ("Ready", "billed", "可取用", "已计费"),
    "delivered": ("Delivered", "billed", "已交付", "已计费"),
    "refused": ("Refused", "not billed", "被拒绝", "未计费"),
    "ambiguous": ("Unclear", "may be billed", "结果不明", "可能计费"),
    "failed": ("Failed", "may be billed", "失败", "可能计费"),
    "cancelled": ("Cancelled", "not billed", "已取消", "未计费"),
}
UNDER_WAY = ("prepared", "submitting", "submitted", "done")
AGAIN = ("ambiguous", "failed")
_ASKS_ON = """(event) => {
    const { api } = app;
    const { fetchApi } = api;
    let asked = 0;
    api.fetchApi = (path, ...more) => {
        asked += path.includes("hidream_volcengine/tasks?");
        return fetchApi.call(api, path, ...more);
    };
    api.dispatchCustomEvent(event);
    api.fetchApi = fetchApi;
    return asked;
}"""
LONG_NAME = "工作室的一个名字很长的配置"

pytestmark = looks("own-canvas-zh", "newer-canvas-zh", "newer-vue-en")


class Server:
    """Answers for the pack's routes, but for the token."""

    def __init__(self) -> None:
        self.list: dict[str, Any] = {"now": time.time(), "tasks": [], "budgets": [], "unacknowledged": False}
        self.refusal: tuple[int, str, str] | None = None
        self.asked: list[str] = []
        self.ordered: list[str] = []

    def __call__(self, route: Route) -> None:
        path = route.request.url.partition("/hidream_volcengine")[2]
        if self.refusal is not None:
            status, en, zh = self.refusal
            route.fulfill(status=status, json={"error": {"en": en, "zh": zh}})
        elif "/thumbnails/" in path:
            route.fulfill(body=_jpeg(), content_type="image/jpeg")
        elif route.request.method == "POST":
            self.ordered.append(path)
            route.fulfill(json={"ok": True})
        else:
            self.asked.append(path)
            limit = int(path.rpartition("=")[2])
            route.fulfill(json={**self.list, "tasks": self.list["tasks"][:limit]})


@pytest.fixture
def server(shared_frontend: Frontend) -> Iterator[Server]:
    server = Server()
    pages = "**/hidream_volcengine/tasks**", "**/hidream_volcengine/journal/acknowledge"
    for page in pages:
        shared_frontend.page.route(page, server)
    yield server
    for page in pages:
        shared_frontend.page.unroute(page)
    assert shared_frontend.problems == []


@pytest.fixture
def open_tab(shared_frontend: Frontend, server: Server) -> Iterator[Callable[[], TasksTab]]:
    opened: list[TasksTab] = []

    def open_tab() -> TasksTab:
        opened.append(TasksTab(shared_frontend))
        opened[0].filter(group="all", profile="", search="")
        return opened[0]

    yield open_tab
    if opened and opened[0].root.is_visible():
        opened[0].toggle()


def task(number: int, state: str = "delivered", **given: Any) -> dict[str, Any]:
    undecided, endpoint = state in AGAIN, ENDPOINTS[number % len(ENDPOINTS)]
    error = {"en": "The service said no.", "zh": "服务拒绝。"} if undecided or state == "refused" else None
    return {
        "journal_id": f"rv-{number:016x}",
        "state": state,
        "provider": "HiDream",
        "endpoint": endpoint.name,
        "name": {"en": endpoint.shown.en, "zh": endpoint.shown.zh},
        "profile": "default",
        "sandbox": False,
        "task_id": f"task-{number}",
        "request_id": f"request-{number}",
        "take": 0,
        "pictures": 1,
        "summary": f"a lighthouse {number}",
        "created_at": time.time() - 60 * number - 30,
        "changed_at": time.time(),
        "error": error,
        "stored": int(state in ("stored", "delivered")),
        "waiting": state in UNDER_WAY,
        "can": ["submit-again"] if undecided else [],
    } | given


def _jpeg() -> bytes:
    picture = io.BytesIO()
    Image.radial_gradient("L").save(picture, "JPEG")
    return picture.getvalue()


def changed(frontend: Frontend) -> None:
    """What the server sends to every page after a change of the journal."""
    frontend.page.evaluate("app.api.dispatchCustomEvent('hidream_volcengine.tasks', {})")


@pytest.mark.smoke
def test_each_state_says_what_it_means_for_money(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, language: str
) -> None:
    server.list["tasks"] = [task(number, state) for number, state in enumerate(STATES)]
    tab = open_tab()
    expect(tab.rows).to_have_count(len(STATES))
    words = {state: (said[:2] if language == "en" else said[2:]) for state, said in STATES.items()}
    for state, (word, money) in words.items():
        row = tab.root.locator(f'.task[data-state="{state}"]')
        expect(row.locator(".state")).to_have_text(f"{word} – {money}")
        tab.unfold(row)
        expect(row.locator(".details > p").first).not_to_be_empty()
        error = row.locator(".error")
        if state in (*AGAIN, "refused"):
            expect(error).to_have_text("The service said no." if language == "en" else "服务拒绝。")
        else:
            expect(error).to_be_hidden()
        row.locator(".toggle").click()
    shared_frontend.screenshot(f"tasks-states-{language}")


def test_a_sandbox_task_costs_nothing(server: Server, open_tab: Callable[[], TasksTab], language: str) -> None:
    server.list["tasks"] = [task(0, "failed", sandbox=True, profile="sandbox"), task(1)]
    tab = open_tab()
    expect(tab.rows).to_have_count(2)
    expect(tab.rows.nth(0).locator(".free")).to_have_text("sandbox, free" if language == "en" else "沙盒，免费")
    expect(tab.rows.nth(0).locator(".state")).to_have_text("Failed" if language == "en" else "失败")
    expect(tab.rows.nth(1).locator(".free")).to_be_hidden()


def test_nothing_is_promised_of_a_parked_sandbox_task(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, language: str
) -> None:
    """Nothing collects it in the background: it is lost with the ComfyUI process, and costs nothing."""
    of_sandbox = {"sandbox": True, "profile": "sandbox"}
    server.list["tasks"] = [
        task(0, "parked", can=["collect"], **of_sandbox),
        task(1, "submitted", can=["stop-waiting"], **of_sandbox),
        task(2, "parked"),
    ]
    tab = open_tab()
    expect(tab.rows).to_have_count(3)
    background, collect = ("in the background", "Collect") if language == "en" else ("后台", "取回")
    for number, promised in ((0, False), (2, True)):
        row = tab.rows.nth(number)
        tab.unfold(row)
        means = row.locator(".details > p").first
        (expect(means).to_contain_text if promised else expect(means).not_to_contain_text)(background)
        expect(means).to_contain_text(collect if not promised else background)
    row = tab.rows.nth(1)
    row.locator('[data-action="stop-waiting"]').click()
    question = row.locator(".question")
    expect(question).to_contain_text("costs nothing" if language == "en" else "不产生费用")
    expect(question).not_to_contain_text("collected later" if language == "en" else "稍后取回")
    shared_frontend.screenshot(f"tasks-sandbox-{language}")


def test_one_that_ended_while_sending_is_unclear(
    server: Server, open_tab: Callable[[], TasksTab], language: str
) -> None:
    server.list["tasks"] = [task(0, "submitting", waiting=False, can=["submit-again"])]
    tab = open_tab()
    expect(tab.rows.locator(".word")).to_have_text("Unclear" if language == "en" else "结果不明")
    tab.filter(group="attention")
    expect(tab.rows).to_have_count(1)


def test_a_set_with_failed_pictures_is_ready_in_part(
    server: Server, open_tab: Callable[[], TasksTab], language: str
) -> None:
    server.list["tasks"] = [task(0, "stored", pictures=4, stored=3)]
    tab = open_tab()
    row = tab.rows.nth(0)
    english = language == "en"
    expect(row.locator(".word")).to_have_text("Ready in part" if english else "部分可取用")
    expect(row.locator(".facts")).to_contain_text("3 of 4 pictures" if english else "3 / 4 张")
    tab.unfold(row)
    expect(row.locator(".details > p").first).to_contain_text("return the rest")


def test_what_was_decided_needs_no_attention(server: Server, open_tab: Callable[[], TasksTab]) -> None:
    server.list["tasks"] = [task(0, "ambiguous"), task(1, "ambiguous", can=[])]
    tab = open_tab()
    expect(tab.rows).to_have_count(2)
    tab.filter(group="attention")
    expect(tab.rows).to_have_count(1)
    expect(tab.rows).to_have_attribute("data-task", "rv-0000000000000000")


def test_filter(server: Server, open_tab: Callable[[], TasksTab], language: str) -> None:
    server.list["tasks"] = [
        task(0, "submitted", summary="a red house"),
        task(1, "failed", profile=LONG_NAME),
        task(2, "delivered", summary="A blue HOUSE", take=5),
        task(3, "cancelled"),
    ]
    tab = open_tab()
    expect(tab.rows).to_have_count(4)
    shown = {"open": 1, "attention": 1, "finished": 2, "all": 4}
    for group, count in shown.items():
        tab.filter(group=group)
        expect(tab.rows).to_have_count(count)
    tab.filter(profile=LONG_NAME)
    expect(tab.rows).to_have_count(1)
    tab.filter(profile="", search="house blue")
    expect(tab.rows).to_have_attribute("data-task", "rv-0000000000000002")
    for words in ("TASK-3", "request-3", "rv-0000000000000003"):
        tab.filter(search=words)
        expect(tab.rows).to_have_attribute("data-task", "rv-0000000000000003")
    expect(tab.root.locator(".end")).to_contain_text("1 of 4 tasks" if language == "en" else "1 / 4 个任务")
    tab.filter(search="nothing like that")
    expect(tab.rows).to_have_count(0)
    expect(tab.root).to_contain_text("No task matches" if language == "en" else "没有符合筛选条件")


def test_no_task_yet(server: Server, open_tab: Callable[[], TasksTab], language: str) -> None:
    expect(open_tab().root).to_contain_text("No remote task yet" if language == "en" else "暂无远程任务")


def test_today_against_the_budget(server: Server, open_tab: Callable[[], TasksTab], language: str) -> None:
    server.list["budgets"] = [
        {"profile": "default", "pictures_today": 12, "per_day": 50, "per_run": 10},
        {"profile": LONG_NAME, "pictures_today": 50, "per_day": 50, "per_run": None},
        {"profile": "other", "pictures_today": 1, "per_day": None, "per_run": None},
    ]
    tab = open_tab()
    words = (
        ["default: 12 of 50 pictures today", f"{LONG_NAME}: 50 of 50 pictures today", "other: 1 picture today"]
        if language == "en"
        else ["default：今日 12 / 50 张", f"{LONG_NAME}：今日 50 / 50 张", "other：今日 1 张"]
    )
    expect(tab.root.locator(".budget")).to_have_text(words)
    bars = tab.root.get_by_role("progressbar")
    expect(bars).to_have_count(2)
    expect(bars.nth(0)).to_have_attribute("aria-valuenow", "12")
    expect(bars.nth(0)).to_have_attribute("aria-valuemax", "50")
    expect(bars.nth(1)).to_have_attribute("data-full", "")


def test_a_replaced_journal_is_confirmed(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, language: str
) -> None:
    server.list["unacknowledged"] = True
    server.list["tasks"] = [task(0)]
    tab = open_tab()
    banner = tab.root.get_by_role("alert")
    expect(banner).to_contain_text("compare with the bill" if language == "en" else "请先核对账单")
    shared_frontend.screenshot(f"tasks-banner-{language}")
    server.list["unacknowledged"] = False
    banner.get_by_role("button").click()
    expect(banner).to_be_hidden()
    assert server.ordered == ["/journal/acknowledge"]


def test_two_hundred_and_more(server: Server, open_tab: Callable[[], TasksTab], language: str) -> None:
    server.list["tasks"] = [task(number) for number in range(450)]
    tab = open_tab()
    more = tab.root.locator("[data-more]")
    expect(tab.root.locator(".task")).to_have_count(200)
    expect(tab.root).to_contain_text("there may be older ones" if language == "en" else "可能还有更早的任务")
    for count in (400, 450):
        more.click()
        expect(tab.root.locator(".task")).to_have_count(count)
    expect(more).to_be_hidden()
    assert server.asked[-1] == "/tasks?limit=600"


def test_other_machines_see_why_they_see_nothing(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, language: str
) -> None:
    server.list["tasks"] = [task(0)]
    tab = open_tab()
    expect(tab.rows).to_have_count(1)
    server.refusal = (403, "Only this machine may see that.", "仅限本机查看。")
    changed(shared_frontend)
    expect(tab.rows).to_have_count(0)
    words = "Only this machine may see that." if language == "en" else "仅限本机查看。"
    expect(tab.root).to_have_text(words, use_inner_text=True)
    server.refusal = None
    changed(shared_frontend)
    expect(tab.rows).to_have_count(1)


def test_a_silent_server_takes_nothing_away(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, language: str
) -> None:
    server.list["tasks"] = [task(0)]
    tab = open_tab()
    expect(tab.rows).to_have_count(1)
    server.refusal = (500, "The pack failed at this.", "插件内部出错。")
    changed(shared_frontend)
    expect(tab.root).to_contain_text("The pack failed at this." if language == "en" else "插件内部出错。")
    expect(tab.rows).to_have_count(1)
    server.refusal = None
    changed(shared_frontend)
    expect(tab.root).not_to_contain_text("The pack failed at this." if language == "en" else "插件内部出错。")


def test_a_lost_connection_is_told_at_once(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend
) -> None:
    server.list["tasks"] = [task(0)]
    expect(open_tab().rows).to_have_count(1)
    assert shared_frontend.page.evaluate(_ASKS_ON, "reconnecting") == 1
    # Takes away what the frontend says about it.
    shared_frontend.page.evaluate(_ASKS_ON, "reconnected")


def test_another_language(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, language: str
) -> None:
    server.list["tasks"] = [task(0)]
    tab = open_tab()
    expect(tab.rows).to_have_count(1)
    shared_frontend.speak("zh" if language == "en" else "en")
    try:
        expect(tab.root.locator("h2")).to_have_text("远程任务" if language == "en" else "Remote tasks")
        expect(tab.rows).to_have_count(1)
    finally:
        shared_frontend.speak(language)
    expect(tab.root.locator("h2")).to_have_text("Remote tasks" if language == "en" else "远程任务")


def test_a_change_moves_nothing_that_somebody_uses(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend
) -> None:
    page = shared_frontend.page
    server.list["tasks"] = [task(number, "submitted") for number in range(1, 30)]
    tab = open_tab()
    expect(tab.rows).to_have_count(29)
    kept = tab.row("rv-0000000000000014")
    toggle = kept.locator(".toggle")
    toggle.focus()
    page.keyboard.press("Enter")
    expect(kept.locator(".details")).to_be_visible()
    place = kept.bounding_box()
    page.evaluate("() => { window.focused = document.activeElement; }")
    server.list["tasks"][19] |= {"state": "delivered", "stored": 1}
    server.list["tasks"].append(task(40))
    changed(shared_frontend)
    expect(kept).to_have_attribute("data-state", "delivered")
    expect(tab.rows).to_have_count(30)
    assert page.evaluate("document.activeElement === window.focused")
    expect(kept.locator(".details")).to_be_visible()
    expect(kept.locator(".pictures li")).to_have_count(1)
    assert kept.bounding_box()["y"] == place["y"]  # type: ignore[index]
    server.list["tasks"].insert(0, task(0))
    changed(shared_frontend)
    expect(tab.rows.first).to_have_attribute("data-task", "rv-0000000000000000")
    assert page.evaluate("document.activeElement === window.focused")


def test_nothing_goes_on_in_a_closed_tab(
    server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend
) -> None:
    server.list["tasks"] = [task(0)]
    tab = open_tab()
    expect(tab.rows).to_have_count(1)
    tab.toggle()
    expect(tab.root).to_have_count(0)
    asked = len(server.asked)
    changed(shared_frontend)
    # A question of the page that would come after it.
    ask = "async () => await (await app.api.fetchApi('/hidream_volcengine/tasks?limit=1')).json()"
    shared_frontend.page.evaluate(ask)
    assert server.asked[asked:] == ["/tasks?limit=1"]
    tab.toggle()
    expect(tab.rows).to_have_count(1)


def test_what_may_cost_is_asked_about(server: Server, open_tab: Callable[[], TasksTab], language: str) -> None:
    server.list["tasks"] = [task(0, "ambiguous", pictures=4), task(1, "submitted", can=["stop-waiting"])]
    tab = open_tab()
    again, waited = tab.rows.nth(0), tab.rows.nth(1)
    expect(again.locator("[data-action]:visible")).to_have_count(1)
    again.locator('[data-action="submit-again"]').click()
    expect(again.locator(".question")).to_contain_text(
        "This may pay a second time, for 4 pictures." if language == "en" else "可能会再次付费，共 4 张图片。"
    )
    tab.frontend.page.keyboard.press("Enter")  # on what has the focus: leave it
    expect(again.locator(".question")).to_be_hidden()
    expect(again.locator('[data-action="submit-again"]')).to_be_focused()
    waited.locator('[data-action="stop-waiting"]').click()
    expect(waited.locator(".question")).to_contain_text("parked, not unpaid" if language == "en" else "并不免除费用")
    tab.frontend.page.keyboard.press("Escape")
    expect(waited.locator(".question")).to_be_hidden()
    assert server.ordered == []
    again.locator('[data-action="submit-again"]').click()
    tab.frontend.page.keyboard.press("Shift+Tab")
    tab.frontend.page.keyboard.press("Enter")
    expect(again.locator(".said")).to_contain_text("Decided." if language == "en" else "已决定。")
    expect(again.locator('[data-action="submit-again"]')).to_be_focused()
    assert server.ordered == ["/tasks/rv-0000000000000000/submit-again"]


def test_each_row_bears_the_name_that_the_server_gives_its_endpoint(
    server: Server, open_tab: Callable[[], TasksTab], language: str
) -> None:
    """A task of a later version of the pack has no name here."""
    later = task(len(ENDPOINTS), endpoint="of a later version", name=None)
    server.list["tasks"] = [*(task(number) for number in range(len(ENDPOINTS))), later]
    tab = open_tab()
    names = [getattr(endpoint.shown, language) for endpoint in ENDPOINTS]
    expect(tab.rows.locator(".name")).to_have_text([*names, "of a later version"])


def test_light_palette(server: Server, open_tab: Callable[[], TasksTab], shared_frontend: Frontend, look: str) -> None:
    server.list["tasks"] = [task(number, state) for number, state in enumerate(STATES)]
    server.list["budgets"] = [{"profile": LONG_NAME, "pictures_today": 12, "per_day": 50, "per_run": 10}]
    page = shared_frontend.page
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
    try:
        tab = open_tab()
        expect(tab.rows).to_have_count(len(STATES))
        row = tab.root.locator('.task[data-state="delivered"]')
        tab.unfold(row)
        row.scroll_into_view_if_needed()
        expect(row.locator(".pictures .thumbnail")).to_have_attribute("draggable", "true")
        shared_frontend.screenshot(f"tasks-light-{look}")
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
