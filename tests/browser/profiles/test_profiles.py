"""Profiles in the settings dialog, from typing a key to the picture that it pays for, in both frontends and languages.

The services are an emulator of this process, which a profile names as its host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route, expect

from emulator import Credentials, Emulator
from tests.browser.frontend import Frontend, Json, example_workflow
from tests.browser.looks import looks
from tests.browser.settings_dialog import Form, Panel, forget_profiles, nodes_offer, order
from tests.host.buying import journal_folder
from tests.thinned import every_case

CANARY = "canary-typed-in-the-dialog"
NODE = 2
NAMES = ["default", "sandbox"]

_CHOOSE = """([id, value]) => {
    app.graph.getNodeById(id).widgets.find(({ name }) => name === "profile").value = value;
}"""
_TOO_WIDE = "(root) => [...root.querySelectorAll('*')].filter((one) => one.scrollWidth > root.clientWidth + 1).length"
_CHOSEN = "(id) => app.graph.getNodeById(id).widgets.find(({ name }) => name === 'profile').value"
_EVERYTHING_IN_THE_PAGE = """() => JSON.stringify([
    document.documentElement.outerHTML,
    [...document.querySelectorAll("input, textarea, select")].map((one) => one.value),
    {...localStorage}, {...sessionStorage}, document.cookie, location.href, app.graph.serialize(), history.state,
])"""

every_look = looks("own-canvas-zh", "newer-canvas-en")
two_looks = looks()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(port=0, credentials=Credentials(hidream_token=CANARY, gateway_api_key=CANARY)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def said(shared_frontend: Frontend) -> Iterator[list[str]]:
    """All that the page wrote to its console."""
    said: list[str] = []
    hear = lambda message: said.append(message.text)  # noqa: E731
    shared_frontend.page.on("console", hear)
    yield said
    shared_frontend.page.remove_listener("console", hear)


@pytest.fixture
def frontend(shared_frontend: Frontend, language: str) -> Iterator[Frontend]:
    frontend = shared_frontend
    frontend.load(example_workflow("hidream_upscale"))
    yield frontend
    frontend.page.unroute_all()
    if Panel(frontend, language).root.count():
        Panel(frontend, language).close()
    frontend.page.keyboard.press("Escape")
    expect(frontend.page.get_by_role("dialog")).to_have_count(0)
    forget_profiles(frontend.comfy)
    # The nodes' lists are refreshed when the list of the server changes, not when its file is deleted.
    frontend.refresh_choices()
    assert frontend.problems == []


@pytest.fixture
def panel(frontend: Frontend, language: str) -> Panel:
    panel = Panel(frontend, language)
    panel.open()
    panel.has(*NAMES)
    return panel


def choose(frontend: Frontend, profile: str) -> None:
    frontend.page.evaluate(_CHOOSE, [NODE, profile])


def chosen(frontend: Frontend) -> str:
    return str(frontend.page.evaluate(_CHOSEN, NODE))


def hosts(emulator: Emulator) -> dict[str, str]:
    return {"hidream_base_url": emulator.url, "hidream_ec_base_url": emulator.url}


_STARTS_WITH = "(type) => LiteGraph.createNode(type).widgets.find(({ name }) => name === 'profile').value"
_COPY = """(id) => {
    app.canvas.selectNode(app.graph.getNodeById(id));
    app.canvas.copyToClipboard();
    const before = new Set(app.graph.nodes.map((node) => node.id));
    app.canvas.pasteFromClipboard();
    return app.graph.nodes.find((node) => !before.has(node.id)).id;
}"""
_UNDO = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undo()"
_CHECK_STATE = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()"
_FILE = """() => JSON.stringify(app.graph.serialize(), (key, value) =>
    ["ds", "frontendVersion"].includes(key) ? undefined : value)"""
NO_KEY = {
    "en": "The profile “default” has no key for HiDream. Enter one in Settings → HiDream & Volcengine, or choose",
    "zh": "配置“default”没有 HiDream 的密钥。请在“设置 → HiDream 与火山引擎”中填写，或选择",
}


def explains(frontend: Frontend, panel: Panel) -> None:
    """Queueing says what to do, in the dialog or the panel of this frontend."""
    queue = frontend.page.locator('[data-testid="queue-button"] button, button[data-testid="queue-button"]').first
    # A message of the frontend may cover the button, and stays while the mouse is over it: click by script.
    queue.evaluate("(button) => button.click()")
    words = frontend.page.get_by_text(re.compile(panel.words["unknown"])).first
    # Newer frontends show a summary first, and may fold what a node said.
    overlay = frontend.page.locator('[data-testid="error-overlay-see-errors"]')
    expect(overlay.or_(words).first).to_be_visible()
    if overlay.is_visible():
        overlay.click()
        folded = frontend.page.locator('[data-testid="error-group-execution"] [aria-controls^="execution-item-detail"]')
        expect(folded.or_(words).first).to_be_visible()
        if not words.is_visible():
            folded.click()
    expect(words).to_be_visible()


@pytest.mark.smoke
@every_look
def test_from_the_key_to_the_picture(
    frontend: Frontend, panel: Panel, emulator: Emulator, said: list[str], look: str
) -> None:
    added = panel.add("studio", hidream_token=CANARY, **hosts(emulator))
    panel.has("default", "studio", "sandbox")
    expect(added.state("hidream_token")).to_have_text(panel.words["stored"])
    expect(added.field("hidream_token")).to_have_value("")
    frontend.screenshot(f"profiles-added-{look}")
    panel.close()

    nodes_offer(frontend, NODE, "default", "studio", "sandbox")
    assert chosen(frontend) == "sandbox"
    choose(frontend, "studio")
    before = len(emulator.accepted)
    assert frontend.run()["outputs"]["3"]["images"]
    assert len(emulator.accepted) == before + 1

    panel.open()
    form = panel.opened("studio")
    form.button("rename").click()
    form.field("new_name").fill("the studio's new name")
    form.button("rename").last.click()
    panel.has("default", "the studio's new name", "sandbox")
    renamed = panel.root.locator('[data-profile^="the studio"] .body > .told')
    expect(renamed).to_contain_text(panel.words["renamed"])
    panel.close()
    nodes_offer(frontend, NODE, "default", "the studio's new name", "sandbox")
    assert chosen(frontend) == "studio"
    choose(frontend, "the studio's new name")
    assert frontend.run()["outputs"]["3"]["images"]
    assert len(emulator.accepted) == before + 1  # the same account, so the same picture

    panel.open()
    form = panel.opened("the studio's new name")
    form.button("remove").click()
    frontend.screenshot(f"profiles-removing-{look}")
    form.button("remove").last.click()
    panel.has(*NAMES)
    expect(panel.told).to_contain_text(panel.words["removed"])
    panel.close()
    nodes_offer(frontend, NODE, *NAMES)
    assert chosen(frontend) == "the studio's new name"
    explains(frontend, panel)
    frontend.screenshot(f"profiles-unknown-{look}")
    keeps_the_key(frontend, said)


def keeps_the_key(frontend: Frontend, said: list[str]) -> None:
    page, comfy = frontend.page, frontend.comfy
    assert CANARY not in page.evaluate(_EVERYTHING_IN_THE_PAGE)
    assert CANARY not in "\n".join(said)
    assert CANARY not in json.dumps(comfy.request("GET", "/history").json())
    for path in (comfy.base / "user" / "default").rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
    settings = json.loads((comfy.base / "user" / "default" / "comfy.settings.json").read_text(encoding="utf-8"))
    assert [name for name in settings if "HiDream" in name or "Volcengine" in name] == []


@two_looks
def test_works_without_a_mouse(frontend: Frontend, panel: Panel, look: str) -> None:
    page = frontend.page
    queued: list[str] = []
    hear = lambda request: queued.append(request.url) if request.url.endswith("/prompt") else None  # noqa: E731
    page.on("request", hear)
    nodes = len(frontend.graph()["nodes"])
    panel.root.get_by_role("button", name=panel.words["add"]).focus()
    page.keyboard.press("Enter")
    expect(panel.form("").field("name")).to_be_focused()
    page.keyboard.type("typed")
    page.keyboard.press("Tab")
    expect(panel.form("").field("hidream_token")).to_be_focused()
    page.keyboard.type("r.s")  # keys of the canvas
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.type(CANARY)
    page.keyboard.press("Control+Enter")
    form = panel.form("typed")
    expect(form.told).to_contain_text(panel.words["added"])
    expect(form.button("save")).to_be_focused()

    page.keyboard.press("Tab")  # discard
    page.keyboard.press("Tab")
    expect(form.button("rename").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(form.field("new_name")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("again")
    page.keyboard.press("Enter")
    form = panel.form("again")
    expect(form.told).to_contain_text(panel.words["renamed"])

    form.button("remove").first.focus()
    page.keyboard.press("Enter")
    expect(form.button("cancel").last).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    panel.has(*NAMES)
    expect(panel.root.get_by_role("button", name=panel.words["add"])).to_be_focused()
    panel.close()
    assert queued == []
    assert len(frontend.graph()["nodes"]) == nodes
    page.remove_listener("request", hear)


@two_looks
def test_only_what_was_changed_is_sent(frontend: Frontend, panel: Panel, emulator: Emulator) -> None:
    form = panel.add("studio", hidream_token=CANARY, **hosts(emulator))
    sent: list[Json] = []
    hear = lambda request: sent.append(request.post_data_json) if "/profiles/" in request.url else None  # noqa: E731
    frontend.page.on("request", hear)
    form.type(pictures_per_day="50")
    form.field("volcengine_resumable").select_option("true")
    form.field("language").select_option("en")
    form.save()
    expect(form.told).to_contain_text(panel.words["saved"])
    assert [(change["settings"], change["keys"]) for change in sent] == [
        ({"pictures_per_day": 50, "volcengine_resumable": True, "language": "en"}, {})
    ]
    expect(form.field("pictures_per_day")).to_have_value("50")
    expect(form.button("save")).to_be_disabled()

    form.type(pictures_per_day="", hidream_user_id="someone")
    form.button("discard").click()
    expect(form.field("pictures_per_day")).to_have_value("50")
    expect(form.field("hidream_user_id")).to_have_value("")
    form.type(pictures_per_day="")
    form.save()
    expect(form.field("pictures_per_day")).to_have_value("")
    expect(form.button("save")).to_be_disabled()
    assert sent[-1]["settings"] == {"pictures_per_day": None}

    # The server refuses a value that is no address; what was typed stays, and the field has the focus.
    form.type(hidream_base_url="ftp://example.com", hidream_api_key=CANARY)
    form.save()
    expect(form.told).to_have_attribute("data-problem", "")
    expect(form.field("hidream_base_url")).to_be_focused()
    expect(form.field("hidream_api_key")).to_have_value(CANARY)
    expect(form.state("hidream_api_key")).to_have_text(panel.words["not set"])
    form.button("discard").click()
    expect(form.field("hidream_api_key")).to_have_value("")
    frontend.page.remove_listener("request", hear)


@two_looks
def test_a_logo_and_a_label_are_checked_and_come_back_in_one_form(
    frontend: Frontend, panel: Panel, emulator: Emulator
) -> None:
    form = panel.add("studio", hidream_token=CANARY, **hosts(emulator))
    form.type(volcengine_logo_info='{"add_logo": true, "position": 4}', volcengine_aigc_meta='{"producer_id": "a"}')
    form.save()
    expect(form.told).to_have_attribute("data-problem", "")
    expect(form.told).to_contain_text("position: ")
    expect(form.told).not_to_contain_text("volcengine_logo_info")
    expect(form.field("volcengine_logo_info")).to_be_focused()
    form.type(volcengine_logo_info='{"opacity":0.50,"add_logo":true}')
    form.save()
    expect(form.told).to_contain_text(panel.words["saved"])
    one_form = '{"add_logo": true, "position": 0, "language": 0, "opacity": 0.5}'
    expect(form.field("volcengine_logo_info")).to_have_value(one_form)
    expect(form.field("volcengine_aigc_meta")).to_have_value('{"producer_id": "a"}')
    form.type(volcengine_logo_info="", volcengine_aigc_meta="")
    form.save()
    expect(form.field("volcengine_logo_info")).to_have_value("")
    expect(form.button("save")).to_be_disabled()


@two_looks
def test_a_key_is_forgotten_on_request_and_with_its_host(
    frontend: Frontend, panel: Panel, emulator: Emulator, language: str
) -> None:
    form = panel.add("studio", hidream_token=CANARY, hidream_api_key=CANARY, **hosts(emulator))
    forget = form.root.locator('.field:has([data-field="hidream_api_key"]) button')
    forget.click()
    expect(form.state("hidream_api_key")).to_have_text(panel.words["forgotten"])
    expect(form.check("HiDream")).to_be_disabled()
    forget.click()
    expect(form.state("hidream_api_key")).to_have_text(panel.words["stored"])
    expect(form.check("HiDream")).to_be_enabled()
    forget.click()
    form.save()
    expect(form.state("hidream_api_key")).to_have_text(panel.words["not set"])
    expect(form.state("hidream_token")).to_have_text(panel.words["stored"])

    form.check("HiDream").click()
    expect(form.checked("HiDream")).to_contain_text(panel.words["all right"])
    form.type(hidream_base_url="http://127.0.0.1:9")
    # The result was about another host, so it is removed.
    expect(form.checked("HiDream")).to_be_empty()
    form.save()
    expect(form.told).to_contain_text({"en": "the key “Token” was", "zh": "密钥 “令牌（token）”"}[language])
    expect(form.told).not_to_contain_text("hidream_token")
    expect(form.state("hidream_token")).to_have_text(panel.words["not set"])


@two_looks
def test_changed_elsewhere_meanwhile(frontend: Frontend, panel: Panel, emulator: Emulator, look: str) -> None:
    comfy = frontend.comfy
    form = panel.add("studio", **hosts(emulator))
    form.type(hidream_token=CANARY, pictures_per_day="7")
    order(comfy, "add", name="elsewhere", settings={}, keys={})
    form.save()
    expect(form.told).to_contain_text(panel.words["kept"])
    panel.has("default", "studio", "elsewhere", "sandbox")
    expect(form.field("hidream_token")).to_have_value(CANARY)
    expect(form.field("pictures_per_day")).to_have_value("7")
    frontend.screenshot(f"profiles-conflict-{look}")
    form.save()
    expect(form.told).to_contain_text(panel.words["saved"])
    expect(form.field("hidream_token")).to_have_value("")

    form.type(pictures_per_run="8")
    order(comfy, "remove", name="studio")
    form.save()
    new = panel.form("")
    expect(new.told).to_contain_text(panel.words["gone"])
    panel.has("default", "elsewhere", "sandbox", re.compile("."))
    new.type(name="studio")
    new.save()
    panel.has("default", "elsewhere", "studio", "sandbox")
    expect(panel.form("studio").field("pictures_per_run")).to_have_value("8")
    panel.close()
    nodes_offer(frontend, NODE, "default", "elsewhere", "studio", "sandbox")


@two_looks
def test_another_machine_is_told_why(frontend: Frontend, language: str, look: str) -> None:
    told = {"en": "The profiles answer this computer only.", "zh": "配置只对本机开放。"}

    def refuse(route: Route) -> None:
        route.fulfill(status=403, json={"error": told})

    frontend.page.route("**/hidream_volcengine/profiles", refuse)
    panel = Panel(frontend, language)
    panel.open()
    expect(panel.told).to_have_text(told[language])
    expect(panel.root.locator("input, .head")).to_have_count(0)
    frontend.screenshot(f"profiles-refused-{look}")
    frontend.page.unroute("**/hidream_volcengine/profiles")
    panel.root.get_by_role("button").locator("visible=true").click()
    panel.has(*NAMES)


@two_looks
def test_what_the_environment_decides_is_shown_only(frontend: Frontend, language: str, look: str) -> None:
    def with_environment(route: Route) -> None:
        answer = route.fetch().json()
        answer["profiles"][0]["environment"] = ["HiDream"]
        route.fulfill(json=answer)

    frontend.page.route("**/hidream_volcengine/profiles", with_environment)
    panel = Panel(frontend, language)
    panel.open()
    form: Form = panel.opened("default")
    expect(form.root).to_contain_text(panel.words["environment"])
    expect(form.field("hidream_token")).to_have_count(0)
    expect(form.field("hidream_base_url")).to_be_disabled()
    expect(form.field("hidream_base_url")).to_have_attribute("placeholder", "https://www.hidreamai.com")
    for name in ("language", "hidream_at_once", "volcengine_access_key_id", "proxy"):
        expect(form.field(name)).to_be_enabled()
    expect(form.check("HiDream")).to_be_enabled()
    frontend.screenshot(f"profiles-environment-{look}")


@every_look
def test_prices_are_entered_in_a_folded_group(frontend: Frontend, panel: Panel, language: str, look: str) -> None:
    title = {"en": "Prices (estimate)", "zh": "价格（估算）"}[language]
    form = panel.add("studio", hidream_token=CANARY)
    upscale, currency = form.field("price_hidream_upscale"), form.field("prices_currency")
    fold = form.root.get_by_text(title, exact=True)
    expect(fold).to_be_visible()
    expect(upscale).to_be_hidden()
    fold.click()
    group = form.root.locator("details")
    amounts = group.locator('[data-field^="price_"]')
    offered = frontend.comfy.request("GET", "/hidream_volcengine/profiles").json()["prices"]
    expect(amounts).to_have_count(len(offered))
    for place in range(len(offered)):
        # No number of ours, and no provider's either.
        expect(amounts.nth(place)).to_have_attribute("placeholder", {"en": "none", "zh": "无"}[language])
    assert not group.evaluate(_TOO_WIDE)
    label = {"en": "Price: HiDream Upscale", "zh": "价格：HiDream 图片增强"}[language]
    expect(group.get_by_label(label, exact=True)).to_have_attribute("id", str(upscale.get_attribute("id")))

    upscale.fill("0.22")
    fold.click()
    form.save()
    # What has to be corrected is unfolded.
    expect(form.told).to_have_attribute("data-problem", "")
    expect(form.told).to_contain_text(label)
    expect(upscale).to_be_focused()
    expect(upscale).to_be_visible()
    frontend.screenshot(f"profiles-prices-refused-{look}")
    form.type(price_hidream_upscale="0,22", prices_currency="cny", prices_date="2026-12-01")
    form.save()
    expect(form.told).to_contain_text({"en": "must be an amount", "zh": "应为金额"}[language])
    form.type(price_hidream_upscale="0.22", price_volcengine_outpaint="0.20")
    form.save()
    expect(form.told).to_contain_text(panel.words["saved"])
    expect(upscale).to_have_value("0.22")
    expect(currency).to_have_value("CNY")
    expect(form.button("save")).to_be_disabled()
    upscale.scroll_into_view_if_needed()
    frontend.screenshot(f"profiles-prices-{look}")
    panel.close()

    panel.open()
    form = panel.opened("studio")
    form.root.get_by_text(title, exact=True).click()
    expect(form.field("price_volcengine_outpaint")).to_have_value("0.20")
    expect(form.field("prices_date")).to_have_value("2026-12-01")
    form.type(price_hidream_upscale="", price_volcengine_outpaint="", prices_currency="", prices_date="")
    form.save()
    expect(form.told).to_contain_text(panel.words["saved"])
    [studio] = frontend.comfy.request("GET", "/hidream_volcengine/profiles").json()["profiles"][1:2]
    assert {value for name, value in studio["settings"].items() if name.startswith("price")} == {""}


@two_looks
def test_a_limit_that_an_endpoint_declares_has_a_field(frontend: Frontend, language: str, look: str) -> None:
    """The server's answer alone says so: its name, its label, whose it is, and its default."""
    label = {"en": "Volcengine: films at a time", "zh": "火山引擎：同时生成的影片数"}

    def with_a_limit(route: Route) -> None:
        answer = route.fetch().json()
        answer["limits"].append({"name": "volcengine_film_at_once", "provider": "Volcengine", "label": label})
        answer["defaults"]["volcengine_film_at_once"] = 3
        answer["profiles"][0]["settings"]["volcengine_film_at_once"] = 1
        route.fulfill(json=answer)

    frontend.page.route("**/hidream_volcengine/profiles", with_a_limit)
    panel = Panel(frontend, language)
    panel.open()
    form = panel.opened("default")
    field = form.field("volcengine_film_at_once")
    expect(field).to_have_attribute("type", "number")
    expect(field).to_have_attribute("placeholder", "3")
    expect(field).to_have_value("1")
    expect(form.root.get_by_label(label[language], exact=True)).to_have_attribute("id", str(field.get_attribute("id")))
    fields = form.root.locator("fieldset").last.locator("[data-field]")
    names = fields.evaluate_all("(all) => all.map((one) => one.dataset.field)")
    assert names == [
        *("pictures_per_day", "pictures_per_run"),
        *("hidream_at_once", "hidream_outpaint_per_minute", "hidream_img2img_per_minute"),
        *("volcengine_at_once", "volcengine_film_at_once", "polls_per_second"),
    ]
    sent: list[Json] = []
    hear = lambda request: sent.append(request.post_data_json) if "/profiles/" in request.url else None  # noqa: E731
    frontend.page.on("request", hear)
    form.type(volcengine_film_at_once="2")
    form.save()
    # This server does not know it; its refusal has the label in place of the name.
    expect(form.told).to_contain_text(label[language])
    assert [change["settings"] for change in sent] == [{"volcengine_film_at_once": 2}]
    field.scroll_into_view_if_needed()
    frontend.screenshot(f"profiles-declared-{look}")
    form.button("discard").click()
    frontend.page.remove_listener("request", hear)


@two_looks
def test_what_an_earlier_version_stored_is_told_and_removed(frontend: Frontend, language: str, look: str) -> None:
    order(frontend.comfy, "add", name="studio", settings={"pictures_per_run": 7}, keys={"hidream_token": CANARY})
    file = journal_folder(frontend.comfy) / "profiles.json"
    document = json.loads(file.read_bytes())
    document["profiles"][0]["settings"].update(ca_file="/etc/ssl/company-ca.pem", proxy="socks5://127.0.0.1:1080")
    document["profiles"][0]["keys"]["proxy_login"] = {"value": f"me:{CANARY}", "for": ["socks5://127.0.0.1:1080"]}
    file.write_text(json.dumps(document), encoding="ascii")
    panel = Panel(frontend, language)
    panel.open()
    form = panel.opened("studio")
    expect(form.head).to_contain_text(panel.words["old entry"])
    for part in ("ca_file", "/etc/ssl/company-ca.pem", "REQUESTS_CA_BUNDLE", "SOCKS", "proxy_login", "HTTPS_PROXY"):
        expect(form.retired).to_contain_text(part)
    frontend.screenshot(f"profiles-retired-{look}")
    form.check("HiDream").click()
    expect(form.checked("HiDream")).to_contain_text("REQUESTS_CA_BUNDLE")
    form.type(pictures_per_day="3")
    form.button("remove the old entry").click()
    expect(form.told).to_contain_text(panel.words["saved"])
    expect(form.retired).to_be_hidden()
    expect(form.head).not_to_contain_text(panel.words["old entry"])
    expect(form.field("proxy")).to_have_value("")
    expect(form.field("pictures_per_day")).to_have_value("3")
    expect(form.state("hidream_token")).to_have_text(panel.words["stored"])
    [left] = json.loads(file.read_bytes())["profiles"]
    assert left["settings"] == {"pictures_per_run": 7, "pictures_per_day": 3}
    assert left["keys"].keys() == {"hidream_token"}
    frontend.screenshot(f"profiles-retired-removed-{look}")


@two_looks
def test_a_workflow_with_an_unknown_profile_loads_as_it_is(frontend: Frontend, language: str, look: str) -> None:
    workflow = example_workflow("hidream_upscale")
    next(node for node in workflow["nodes"] if node["id"] == NODE)["widgets_values"][0] = "a colleague's"
    frontend.load(workflow)
    assert chosen(frontend) == "a colleague's"
    panel = Panel(frontend, language)
    explains(frontend, panel)
    frontend.screenshot(f"profiles-a_colleagues-{look}")
    frontend.page.keyboard.press("Escape")
    panel.open()
    panel.has(*NAMES)
    panel.add("a colleague's")
    panel.close()
    assert frontend.widget_values()[NODE] == ["a colleague's", *workflow_values(workflow)[1:]]


def workflow_values(workflow: Json) -> list[object]:
    values: list[object] = next(node for node in workflow["nodes"] if node["id"] == NODE)["widgets_values"]
    return values


@two_looks
def test_closing_forgets_what_was_typed(frontend: Frontend, panel: Panel) -> None:
    new = panel.new()
    new.type(name="half", hidream_token=CANARY)
    expect(new.root).to_contain_text(panel.words["not saved"])
    panel.close()
    panel.open()
    panel.has(*NAMES)
    assert CANARY not in frontend.page.evaluate(_EVERYTHING_IN_THE_PAGE)


@every_look
def test_readable(frontend: Frontend, panel: Panel, look: str) -> None:
    """Takes the screenshots that people look at, and checks that nothing overflows."""
    comfy, page = frontend.comfy, frontend.page
    long_name = "很长的名称" * 12
    order(comfy, "add", name=long_name, settings={}, keys={"hidream_token": CANARY})
    panel.close()
    for palette in ("light", "dark") if every_case() else ("light",):
        page.evaluate("(name) => app.extensionManager.setting.set('Comfy.ColorPalette', name)", palette)
        panel.open()
        panel.opened(long_name)
        for width in (1600, 700):
            page.set_viewport_size({"width": width, "height": 900})
            frontend.screenshot(f"profiles-{palette}-{width}-{look}")
            assert panel.root.evaluate(_TOO_WIDE) == 0, (palette, width)
        panel.close()
        page.set_viewport_size({"width": 1600, "height": 1000})


@pytest.mark.smoke
@every_look
def test_a_profile_without_a_key_is_told_before_anything_is_queued(
    frontend: Frontend, emulator: Emulator, language: str, look: str
) -> None:
    page = frontend.page
    warning = page.locator("[data-warning]")
    expect(warning).to_be_hidden()
    choose(frontend, "default")
    file = page.evaluate(_FILE)
    page.evaluate("app.canvas.setDirty(true, true)")
    expect(warning).to_contain_text(NO_KEY[language])
    expect(warning).to_be_in_viewport(ratio=0.99)
    frontend.screenshot(f"no_key-{look}")
    assert page.evaluate(_FILE) == file, "not even higher"
    choose(frontend, "sandbox")
    page.evaluate("app.canvas.setDirty(true, true)")
    expect(warning).to_be_hidden()
    # Another page, or another machine, changes the profiles.
    choose(frontend, "default")
    page.evaluate("app.canvas.setDirty(true, true)")
    expect(warning).to_be_visible()
    order(frontend.comfy, "change", name="default", settings=hosts(emulator), keys={"hidream_token": CANARY})
    expect(warning).to_be_hidden()
    order(frontend.comfy, "change", name="default", settings={}, keys={"hidream_token": ""})
    expect(warning).to_contain_text(NO_KEY[language])


@pytest.mark.smoke
@every_look
def test_only_a_new_node_starts_with_the_sandbox(
    frontend: Frontend, panel: Panel, emulator: Emulator
) -> None:
    """While no key is set. A node that is loaded, pasted or restored by an undo keeps its value."""
    page = frontend.page
    panel.close()
    assert page.evaluate(_STARTS_WITH, "HiDreamAPIUpscale") == "sandbox"
    workflow = example_workflow("hidream_upscale")
    next(node for node in workflow["nodes"] if node["id"] == NODE)["widgets_values"][0] = "default"
    frontend.load(workflow)
    assert chosen(frontend) == "default"
    copied = page.evaluate(_COPY, NODE)
    assert page.evaluate(_CHOSEN, copied) == "default"
    page.evaluate(_CHECK_STATE)
    choose(frontend, "sandbox")
    page.evaluate(_CHECK_STATE)
    page.evaluate(_UNDO)
    page.wait_for_function(f"(id) => ({_CHOSEN})(id) === 'default'", arg=NODE)
    panel.open()
    form = panel.opened("default")
    form.type(hidream_token=CANARY, **hosts(emulator))
    form.save()
    expect(form.told).to_contain_text(panel.words["saved"])
    panel.close()
    page.wait_for_function(f"(type) => ({_STARTS_WITH})(type) === 'default'", arg="HiDreamAPIUpscale")
    assert chosen(frontend) == "default"
