"""The reports in the Tasks tab, with a real server: the menu, the files that it saves, labels, and what was spent.

Items are written into the journal by the test. The profile `default` is the emulator of `service`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.browser.frontend import Frontend
from tests.browser.looks import looks
from tests.browser.tasks.tasks_tab import TasksTab
from tests.browser.tasks.test_tasks_tab import EMPTY
from tests.host.buying import Bought, sends_nothing, start_over, tasks
from tests.host.routes.test_reports import write_four, write_row

RUN, OTHER = "fa12c9f5-6f60-4a40-8a0b-1a6f7f0a5b11", "fa12c9f5-6f60-4a40-8a0b-1a6f7f0a5b22"

pytestmark = looks("newer-canvas-zh", "newer-vue-en")


@pytest.fixture
def comfy(shared_frontend: Frontend, service: Emulator) -> Iterator[ComfyUI]:
    start_over(shared_frontend.comfy, service)
    yield shared_frontend.comfy
    start_over(shared_frontend.comfy, service)


@pytest.fixture
def tab(shared_frontend: Frontend, comfy: ComfyUI) -> Iterator[TasksTab]:
    shared_frontend.load(EMPTY)
    tasks(comfy)  # makes the journal
    write_four(comfy, RUN)
    write_row(comfy, OTHER, 0, label="pot-0", created_at=1_790_000_000.0)
    tab = TasksTab(shared_frontend)
    tab.filter(group="all", profile="", search="")
    yield tab
    tab.toggle()
    assert shared_frontend.problems == []


def unfolded(tab: TasksTab) -> Locator:
    tab.root.locator("[data-reports]").click()
    menu = tab.root.locator(".reports")
    expect(menu.locator("[data-day]")).to_have_count(2)
    return menu


def saved(frontend: Frontend, link: Locator) -> list[list[str]]:
    """The lines of the file that a link saves."""
    with frontend.page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "report.csv"
    text = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.smoke
def test_a_run_and_a_day_are_saved(tab: TasksTab, shared_frontend: Frontend, language: str, look: str) -> None:
    menu = unfolded(tab)
    run = menu.locator(f'[data-run="{RUN}"] a')
    expect(run).to_have_text(re.compile("3 pictures · 1 missing$" if language == "en" else "3 张 · 缺 1 项$"))
    assert [each.get_attribute("data-run") for each in menu.locator("[data-run]").all()] == [RUN, OTHER]
    shared_frontend.screenshot(f"reports-menu-{look}")
    headings, *rows = saved(shared_frontend, run)
    assert headings[0] == ("label" if language == "en" else "标签")
    assert [row[0] for row in rows] == ["pot-0", "pot-1", "pot-2", "pot-3"]
    today, yesterday = menu.locator("[data-day] a").all()
    assert len(saved(shared_frontend, today)) == 5
    assert len(saved(shared_frontend, yesterday)) == 1
    expect(today).to_have_text(re.compile("^Today" if language == "en" else "^今日"))


def test_the_rows_of_a_run_are_forgotten_after_a_question(
    tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend, look: str
) -> None:
    menu = unfolded(tab)
    run = menu.locator(f'[data-run="{RUN}"]')
    run.locator("[data-forget]").click()
    question = run.locator(".question")
    expect(question).to_contain_text(re.compile("pictures and purchases stay|图片和购买记录保留"))
    shared_frontend.screenshot(f"reports-forget-{look}")
    shared_frontend.page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    expect(menu).to_be_visible()
    expect(run.locator("[data-forget]")).to_be_focused()
    assert {one["run"] for one in runs(comfy)} == {RUN, OTHER}
    run.locator("[data-forget]").click()
    run.locator('[data-confirm="forget"]').click()
    expect(run).to_have_count(0)
    assert [one["run"] for one in runs(comfy)] == [OTHER]


def runs(comfy: ComfyUI) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = comfy.request("GET", "/hidream_volcengine/runs").json()["runs"]
    return listed


def test_a_refusal_is_shown_in_the_menu(tab: TasksTab, shared_frontend: Frontend, language: str) -> None:
    refusal = {"error": {"en": "Nobody knows from where.", "zh": "无法确认来源。"}}
    shared_frontend.page.route("**/hidream_volcengine/runs", lambda route: route.fulfill(status=403, json=refusal))
    try:
        tab.root.locator("[data-reports]").click()
        said = tab.root.locator(".reports [data-problem]")
        expect(said).to_have_text(refusal["error"][language])
    finally:
        shared_frontend.page.unroute("**/hidream_volcengine/runs")
    shared_frontend.page.keyboard.press("Escape")
    expect(tab.root.locator(".reports")).to_be_hidden()


@pytest.mark.smoke
def test_a_label_is_shown_and_found(
    tab: TasksTab, comfy: ComfyUI, service: Emulator, shared_frontend: Frontend, language: str, look: str
) -> None:
    Bought(comfy, "HiDreamAPIUpscale", 0).run()
    Bought(comfy, "HiDreamAPIUpscale", 1).run()
    labelled, other = (task["journal_id"] for task in tasks(comfy))
    with sends_nothing(service):
        write_row(comfy, OTHER, 1, label="SKU-4711 茶壶", attempt=labelled)
        shared_frontend.page.evaluate("app.api.dispatchCustomEvent('hidream_volcengine.tasks', {})")
        row = tab.row(labelled)
        expect(row.locator(".label")).to_have_text("SKU-4711 茶壶")
        expect(tab.row(other).locator(".label")).to_be_hidden()
        tab.unfold(row)
        expect(row.locator('[data-known="label"]')).to_have_text("SKU-4711 茶壶")
        shared_frontend.screenshot(f"reports-label-{look}")
        tab.filter(search="sku-4711 茶")
        expect(tab.rows).to_have_count(1)
        expect(row).to_be_visible()
        tab.filter(search="SKU-4712")
        expect(tab.rows).to_have_count(0)
        tab.filter(search="")


def test_what_was_spent_is_told_where_a_price_is_set(
    tab: TasksTab, comfy: ComfyUI, shared_frontend: Frontend, language: str, look: str
) -> None:
    spent = tab.root.locator("[data-spent]")
    told = "default: ≈ ¥0.44 today, ≈ ¥0.44 this month" if language == "en" else "default：今日 ≈ ¥0.44，本月 ≈ ¥0.44"
    expect(spent).to_have_text([told])
    write_row(comfy, OTHER, 2, outcome="unclear", billed="unknown", price="12.30", currency="CNY")
    bought = {"outcome": "came", "source": "bought", "pictures": 2, "billed": "yes"}
    write_row(comfy, OTHER, 3, profile="studio", price="54.5", currency="GBP", **bought)
    shared_frontend.page.evaluate("app.api.dispatchCustomEvent('hidream_volcengine.tasks', {})")
    also = ["; unclear ≈ ¥12.30", "studio: ≈ GBP 109 today, ≈ GBP 109 this month"]
    if language == "zh":
        also = ["；结果不明 ≈ ¥12.30", "studio：今日 ≈ GBP 109，本月 ≈ GBP 109"]
    expect(spent).to_have_text([told + also[0], also[1]])
    shared_frontend.screenshot(f"reports-spent-{look}")


def test_it_can_be_read_on_a_light_page(tab: TasksTab, shared_frontend: Frontend, look: str) -> None:
    page = shared_frontend.page
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
    try:
        menu = unfolded(tab)
        menu.locator(f'[data-run="{RUN}"] [data-forget]').click()
        colours = menu.locator("a").first.evaluate("(link) => [getComputedStyle(link).color, "
            "getComputedStyle(link.closest('[data-remote-tasks]')).backgroundColor]")  # fmt: skip
        dark, light = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
        assert dark + 300 < light, colours
        shared_frontend.screenshot(f"reports-light-{look}")
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
