"""The routes of the profiles on a real server on loopback: what a page can do, and what nobody gets out of them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hidream_volcengine.api import ConfigurationError, ProfileEditor, ProfileFile, Profiles
from hidream_volcengine.api.catalog import declared_limits
from hidream_volcengine.api.profiles.fields import PRICES, RETIRED_SECRETS, SECRETS, SETTINGS
from hidream_volcengine.api.transport.auth import BearerAuth, ExchangedTokenAuth, SignatureAuth

from tests.contract import raw_servers as raw
from tests.contract.nodes.test_routes import (
    BASE,
    FORGED,
    TOKEN,
    UNSET,
    FakeDesk,
    Reply,
    Served,
    as_the_page,
    assert_headers,
    assert_refused,
    padded,
    serving,
)

# After test_routes, which makes these importable.
from hidream_volcengine.nodes.routes import register  # isort: skip
from hidream_volcengine.nodes.routes.guard import BODY_LIMIT  # isort: skip

CANARY = "canary+key/of=a&profile%41"
ALL_KEYS = {
    "hidream_token": f"{CANARY}-token",
    "hidream_api_key": f"{CANARY}-api-key",
    "volcengine_gateway_api_key": f"{CANARY}-gateway",
    "volcengine_access_key_id": f"{CANARY}-access",
    "volcengine_secret_access_key": f"{CANARY}-secret",
}
GATEWAY = "https://gateway.example.com"
GATEWAY_KEY = {"volcengine_gateway_api_key": f"{CANARY}-gateway"}
ALL_HOSTS = {"volcengine_gateway_base_url": GATEWAY}


class Page:
    """What the settings page does, on a server with some environment."""

    def __init__(self, served: Served, file: ProfileFile, profiles: Profiles) -> None:
        self.served, self.file, self.profiles = served, file, profiles
        self.told = 0
        """How many changes the server has told all pages of."""

    def hear(self) -> None:
        self.told += 1

    def get(self) -> dict[str, Any]:
        reply = self.served.get(f"{BASE}/profiles")
        assert reply.status == 200, reply.body
        assert_headers(reply)
        return dict(reply.json)

    def post(self, what: str, revision: Any = UNSET, **body: Any) -> Reply:
        body = {"revision": self.get()["revision"] if revision is UNSET else revision, **body}
        return self.served.post(f"{BASE}/profiles/{what}", body=json.dumps(body).encode())

    def does(self, what: str, **body: Any) -> dict[str, Any]:
        reply = self.post(what, **body)
        assert reply.status == 200, reply.body
        assert_headers(reply)
        assert {name: value for name, value in reply.json.items() if name != "told"}.items() <= self.get().items()
        return dict(reply.json)

    def refused(self, what: str, status: int = 400, **body: Any) -> str:
        before = self.bytes
        reply = self.post(what, **body)
        assert_refused(reply, status)
        assert self.bytes == before, "nothing was changed"
        return str(reply.json["error"]["en"])

    @property
    def bytes(self) -> bytes | None:
        return self.file.path.read_bytes() if self.file.path.exists() else None

    def one(self, name: str) -> dict[str, Any]:
        [found] = [profile for profile in self.get()["profiles"] if profile["name"] == name]
        return dict(found)


@pytest.fixture
def environment() -> dict[str, str]:
    return {}


@pytest.fixture
def page(tmp_path: Path, environment: dict[str, str]) -> Iterator[Page]:
    file = ProfileFile(lambda: tmp_path / "private")
    profiles = Profiles(environment, raw.no_sandbox, file)
    routes = web.RouteTableDef()
    editor = ProfileEditor(profiles, file)
    pages: list[Page] = []
    register(
        routes, FakeDesk(), TOKEN, profiles=lambda: editor, tell_profiles=lambda: [page.hear() for page in pages]
    )
    with serving(routes) as served:
        pages.append(Page(served, file, profiles))
        yield pages[0]


# ---- what a page can do


def test_what_is_there_at_first(page: Page) -> None:
    shown = page.get()
    assert shown.keys() == {"revision", "protection", "profiles", "defaults", "limits", "prices", "told"}
    assert [profile["name"] for profile in shown["profiles"]] == ["default", "sandbox"]
    for profile in shown["profiles"]:
        assert profile.keys() == {"name", "built_in", "in_file", "environment", "ready", "keys", "settings", "retired"}
        assert profile["retired"] == []
        assert profile["built_in"] is (profile["name"] == "sandbox")
        assert profile["in_file"] is False and profile["environment"] == []
        assert profile["keys"] == dict.fromkeys(SECRETS, False)
        assert profile["settings"] == {name: setting.unset for name, setting in SETTINGS.items()}
    assert shown["defaults"]["hidream_base_url"] == "https://www.hidreamai.com"
    assert (shown["defaults"]["pictures_per_day"], shown["defaults"]["pictures_per_run"]) == (0, 100)
    assert str(page.file.path) in shown["protection"]["en"]
    assert not page.file.path.exists()


def test_the_limits_that_endpoints_declare(page: Page) -> None:
    shown = page.get()["limits"]
    assert [limit["name"] for limit in shown] == [limit.setting for limit in declared_limits()]
    assert shown[:2] == [
        {
            "name": "hidream_outpaint_per_minute",
            "provider": "HiDream",
            "label": {"en": "HiDream: outpainted pictures a minute", "zh": "HiDream：每分钟扩图数"},
        },
        {
            "name": "hidream_img2img_per_minute",
            "provider": "HiDream",
            "label": {
                "en": "HiDream: text- and image-to-image pictures a minute",
                "zh": "HiDream：每分钟文生图与图生图数",
            },
        },
    ]


def test_the_prices_that_can_be_entered(page: Page) -> None:
    shown = page.get()
    assert [price["name"] for price in shown["prices"]] == list(PRICES)
    upscale = {"en": "Price: HiDream Upscale", "zh": "价格：HiDream 图片增强"}
    assert {"name": "price_hidream_upscale", "provider": "HiDream", "label": upscale} in shown["prices"]
    assert {shown["defaults"][price["name"]] for price in shown["prices"]} == {""}, "no number of ours"
    page.does("add", name="a", settings={"price_hidream_upscale": 0.22, "prices_currency": "cny"})
    assert page.one("a")["settings"]["price_hidream_upscale"] == "0.22"
    assert "needs prices_currency" in page.refused("change", name="a", settings={"prices_currency": ""})


def test_the_defaults_are_the_environment_s(page: Page, environment: dict[str, str]) -> None:
    environment.update(HIDREAM_BASE_URL="https://other.example.com", REMOTE_IMAGE_PICTURES_PER_DAY="7")
    environment.update(HIDREAM_EC_BASE_URL=f"https://user:{CANARY}@example.com", REMOTE_IMAGE_POLLS_PER_SECOND="x")
    defaults = page.get()["defaults"]
    assert (defaults["hidream_base_url"], defaults["pictures_per_day"]) == ("https://other.example.com", 7)
    assert (defaults["hidream_ec_base_url"], defaults["polls_per_second"]) == ("", None)


def test_of_the_environment_s_notify_url_only_the_host_is_shown(page: Page, environment: dict[str, str]) -> None:
    assert page.get()["defaults"]["notify_url"] == ""
    environment["REMOTE_IMAGE_NOTIFY_URL"] = f"https://owner.example.com/{CANARY}?key={CANARY}"
    assert page.get()["defaults"]["notify_url"] == "https://owner.example.com:443/…"
    own = "https://mine.example.com/done/?to=me"
    page.does("add", name="a", settings={"notify_url": f" {own}\n"}, keys={"hidream_token": CANARY})
    assert page.one("a")["settings"]["notify_url"] == own
    assert page.profiles.hidream("a").notify_url == own
    page.does("change", name="a", settings={"notify_url": ""})
    assert CANARY in page.profiles.hidream("a").notify_url


def test_the_proxy_of_the_environment_is_shown_without_its_login(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary-password@proxy.example.com:8080")
    monkeypatch.delenv("https_proxy", raising=False)
    assert page.get()["defaults"]["proxy"] == "http://proxy.example.com:8080"


def test_a_profile_is_added_and_used(page: Page) -> None:
    settings = {"language": "en", "hidream_user_id": "user-1", "pictures_per_day": 3, "hidream_at_once": 0}
    shown = page.does("add", name=" 公司 ", settings=settings, keys={"hidream_token": f" {CANARY}\n"})
    assert shown["told"] == []
    assert page.one("公司")["keys"] == {**dict.fromkeys(SECRETS, False), "hidream_token": True}
    assert page.profiles.names() == ["default", "公司", "sandbox"]
    account = page.profiles.hidream("公司")
    assert isinstance(account.auth, BearerAuth) and account.auth.token.reveal() == CANARY
    assert (account.language, account.user_id, account.budget.per_day) == ("en", "user-1", 3)
    assert account.limits.at_once is None
    assert account.account_id.startswith("profile-") and len(account.account_id) > 20
    with pytest.raises(ConfigurationError, match="no key for Volcengine"):
        page.profiles.volcengine("公司")


def test_for_which_services_a_profile_has_a_whole_key(page: Page, environment: dict[str, str]) -> None:
    """The page says it at the node before anything is queued; each change is told to the other pages."""
    assert (page.one("default")["ready"], page.one("sandbox")["ready"]) == ([], ["HiDream", "Volcengine"])
    page.does("add", name="a", keys={"volcengine_access_key_id": "AKLTmine"})
    assert page.one("a")["ready"] == [], "half a pair"
    page.does("change", name="a", keys={"volcengine_secret_access_key": CANARY})
    assert page.one("a")["ready"] == ["Volcengine"]
    environment["HIDREAM_API_KEY"] = "key-of-the-environment"
    assert (page.one("default")["ready"], page.one("a")["ready"]) == (["HiDream"], ["Volcengine"])
    assert page.told == 2
    page.refused("add", name="a")
    assert page.told == 2


def test_every_kind_of_key(page: Page) -> None:
    page.does("add", name="a", settings=ALL_HOSTS, keys=ALL_KEYS)
    assert page.one("a")["keys"] == dict.fromkeys(SECRETS, True)
    gateway = page.profiles.volcengine("a")
    assert isinstance(gateway.auth, BearerAuth) and gateway.base_url == GATEWAY
    page.does("change", name="a", keys={"hidream_token": "", "volcengine_gateway_api_key": ""})
    assert isinstance(page.profiles.hidream("a").auth, ExchangedTokenAuth)
    signed = page.profiles.volcengine("a")
    assert isinstance(signed.auth, SignatureAuth) and signed.path == "/"


def test_a_change_leaves_the_rest(page: Page) -> None:
    page.does("add", name="a", settings={"language": "en"}, keys={"hidream_token": CANARY})
    before = page.profiles.hidream("a").account_id
    page.does("change", name="a", settings={"pictures_per_run": 5}, keys={"hidream_api_key": f"{CANARY}-2"})
    page.does("change", name="a", settings={"volcengine_resumable": False})
    assert page.one("a")["settings"]["language"] == "en"
    assert page.one("a")["settings"]["volcengine_resumable"] is False
    assert (page.one("a")["keys"]["hidream_token"], page.one("a")["keys"]["hidream_api_key"]) == (True, True)
    page.does("change", name="a", settings={"language": "", "pictures_per_run": None, "volcengine_resumable": None})
    assert page.one("a")["settings"] == {name: setting.unset for name, setting in SETTINGS.items()}
    page.does("change", name="a", keys={"hidream_token": f"{CANARY}-new"})
    account = page.profiles.hidream("a")
    assert account.auth.token.reveal() == f"{CANARY}-new"  # type: ignore[attr-defined]
    assert account.account_id == before, "rotation keeps the account"


def test_renaming_keeps_the_account_and_a_new_one_of_that_name_is_another(page: Page) -> None:
    page.does("add", name="a", keys={"hidream_token": CANARY})
    account = page.profiles.hidream("a").account_id
    page.does("rename", name="a", new_name="b")
    assert page.profiles.hidream("b").account_id == account
    assert page.profiles.name_of("a", account) == "b"
    page.does("add", name="a", keys={"hidream_token": CANARY})
    assert page.profiles.hidream("a").account_id != account
    assert page.profiles.name_of("a", account) == "b"
    page.does("rename", name="b", new_name="B")
    page.does("remove", name="B")
    assert [profile["name"] for profile in page.get()["profiles"]] == ["default", "a", "sandbox"]
    assert page.profiles.name_of("gone", account) == "gone"
    with pytest.raises(ConfigurationError, match="Add one of that name in Settings"):
        page.profiles.hidream("b")


def test_default_is_made_when_it_is_changed(page: Page) -> None:
    page.does("change", name="default", keys={"hidream_token": CANARY})
    assert page.one("default")["in_file"] is True
    assert page.profiles.hidream("default").account_id.startswith("profile-")
    page.does("remove", name="default")
    assert page.one("default")["in_file"] is False
    page.does("add", name="a", keys={"hidream_token": CANARY})
    page.does("rename", name="a", new_name="default")
    assert page.profiles.hidream("default").auth.token.reveal() == CANARY  # type: ignore[attr-defined]


# ---- the environment's profile


def test_the_environment_wins_for_each_provider(page: Page, environment: dict[str, str]) -> None:
    page.does(
        "change",
        name="default",
        settings={"hidream_base_url": "https://mine.example.com", "pictures_per_day": 4, "language": "en"},
        keys={"hidream_token": CANARY, "volcengine_access_key_id": "AKLTmine", "volcengine_secret_access_key": CANARY},
    )
    assert page.one("default")["environment"] == []
    environment["HIDREAM_API_KEY"] = "key-of-the-environment"
    assert page.one("default")["environment"] == ["HiDream"]
    account = page.profiles.hidream("default")
    assert isinstance(account.auth, ExchangedTokenAuth) and account.account_id == "HIDREAM_API_KEY"
    assert account.base_url == "https://www.hidreamai.com", "its key goes to its own host"
    assert (account.budget.per_day, account.language) == (4, "en")
    assert page.profiles.volcengine("default").account_id.startswith("profile-")
    told = page.does("change", name="default", keys={"hidream_token": f"{CANARY}-2"})["told"]
    assert len(told) == 1 and "HiDream" in told[0]["en"] and "环境变量" in told[0]["zh"]


@pytest.mark.parametrize("name", SECRETS)
def test_the_environment_never_decides_another_profile(page: Page, environment: dict[str, str], name: str) -> None:
    page.does("add", name="a", settings=ALL_HOSTS, keys=ALL_KEYS)
    environment[SECRETS[name].variable] = "key-of-the-environment"
    assert page.one("a")["environment"] == [] and page.one("default")["environment"] == [SECRETS[name].owner]
    assert page.profiles.hidream("a").auth.token.reveal() == ALL_KEYS["hidream_token"]  # type: ignore[attr-defined]
    assert page.profiles.volcengine("a").account_id.startswith("profile-")


def test_the_environment_s_settings_are_the_defaults(page: Page, environment: dict[str, str]) -> None:
    environment.update(HIDREAM_LANGUAGE="en", REMOTE_IMAGE_PICTURES_PER_DAY="9", HIDREAM_USER_ID="u-1")
    page.does("add", name="a", keys={"hidream_token": CANARY})
    account = page.profiles.hidream("a")
    assert (account.language, account.budget.per_day, account.user_id) == ("en", 9, "u-1")
    page.does("change", name="a", settings={"pictures_per_day": 0, "language": "zh"})
    account = page.profiles.hidream("a")
    assert (account.language, account.budget.per_day) == ("zh", None)


# ---- a key belongs to its host


@pytest.mark.parametrize(
    ("setting", "value", "forgotten"),
    [
        ("hidream_base_url", "https://evil.example.com", {"hidream_token", "hidream_api_key"}),
        ("hidream_ec_base_url", "https://evil.example.com", {"hidream_token", "hidream_api_key"}),
        ("hidream_base_url", "https://www.hidreamai.com:8443", {"hidream_token", "hidream_api_key"}),
        ("hidream_base_url", "https://www.hidreamai.com/prefix", {"hidream_token", "hidream_api_key"}),
        ("hidream_base_url", "https://WWW.hidreamai.com:443/", set()),
        ("volcengine_base_url", "https://evil.example.com",
         {"volcengine_access_key_id", "volcengine_secret_access_key"}),
        ("volcengine_gateway_base_url", "https://evil.example.com", {"volcengine_gateway_api_key"}),
        ("volcengine_gateway_base_url", "", {"volcengine_gateway_api_key"}),
        ("volcengine_gateway_base_url", f"{GATEWAY}/of-another", {"volcengine_gateway_api_key"}),
        ("volcengine_gateway_base_url", f"{GATEWAY}:443/", set()),
        ("proxy", "http://evil.example.com:3128", set()),
        ("language", "en", set()),
    ],
)  # fmt: skip
def test_another_host_never_gets_a_key(page: Page, setting: str, value: str, forgotten: set[str]) -> None:
    page.does("add", name="a", settings=ALL_HOSTS, keys=ALL_KEYS)
    told = page.does("change", name="a", settings={setting: value})["told"]
    assert {name for name, has in page.one("a")["keys"].items() if not has} == forgotten
    assert len(told) == len(forgotten)
    for name in forgotten:
        assert any(name in text["en"] and name in text["zh"] for text in told)
        assert ALL_KEYS[name].encode() not in (page.bytes or b"")


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("/ours", True), ("/ours/", True), ("/our%73", True), ("/ours/volcv", False), ("/our", False),
        ("/ours2", False), ("/OURS", False), ("", False), ("/of-another", False), ("//ours", False),
    ],
)  # fmt: skip
def test_a_key_belongs_to_the_whole_address(page: Page, path: str, stays: bool) -> None:
    """A gateway is one host for many."""
    page.does("add", name="a", settings={"volcengine_gateway_base_url": f"{GATEWAY}/ours"}, keys=GATEWAY_KEY)
    page.does("change", name="a", settings={"volcengine_gateway_base_url": GATEWAY + path})
    assert page.one("a")["keys"]["volcengine_gateway_api_key"] is stays


def test_a_key_for_an_address_of_ipv6(page: Page) -> None:
    ours = {"volcengine_gateway_base_url": "http://[::1]:8189/ours"}
    page.does("add", name="a", settings=ours, keys=GATEWAY_KEY)
    assert page.does("change", name="a", settings={"language": "en"})["told"] == []
    assert page.profiles.volcengine("a").base_url == "http://[::1]:8189/ours"
    edit(page, "keys", "volcengine_gateway_api_key", {"value": f"{CANARY}-gateway", "for": ["http://::1:8189"]})
    assert page.profiles.volcengine("a").base_url == "http://[::1]:8189/ours", "as version 0.1 wrote it"
    for other in ("http://[::1]:8189", "http://[::1]:8190/ours", "http://127.0.0.1:8189/ours"):
        page.does("change", name="a", settings=ours, keys=GATEWAY_KEY)
        edit(page, "settings", "volcengine_gateway_base_url", other)
        with pytest.raises(ConfigurationError, match="was entered for"):
            page.profiles.volcengine("a")


def test_a_key_of_a_whole_host_goes_to_no_part_of_it(page: Page) -> None:
    """Nor is it taken for one of version 0.1, which was bound to a host alone."""
    page.does("add", name="a", settings={"volcengine_gateway_base_url": GATEWAY}, keys=GATEWAY_KEY)
    edit(page, "settings", "volcengine_gateway_base_url", f"{GATEWAY}/of-another")
    with pytest.raises(ConfigurationError, match="was entered for"):
        page.profiles.volcengine("a")


OF_0_1 = {"value": f"{CANARY}-gateway", "for": ["https://gateway.example.com:443"]}


def test_a_key_of_version_0_1_belongs_to_the_address_that_its_profile_has(page: Page) -> None:
    """From the next change on; whatever that changes."""
    page.does("add", name="a", settings={"volcengine_gateway_base_url": f"{GATEWAY}/ours"}, keys=GATEWAY_KEY)
    edit(page, "keys", "volcengine_gateway_api_key", OF_0_1)
    assert page.profiles.volcengine("a").base_url == f"{GATEWAY}/ours"
    assert page.does("change", name="a", settings={"language": "en"})["told"] == []
    assert page.profiles.volcengine("a").base_url == f"{GATEWAY}/ours"
    edit(page, "settings", "volcengine_gateway_base_url", f"{GATEWAY}/of-another")
    with pytest.raises(ConfigurationError, match="was entered for"):
        page.profiles.volcengine("a")


@pytest.mark.parametrize("path", ["/of-another", ""])
def test_a_key_of_version_0_1_is_not_moved_by_a_change_of_the_path(page: Page, path: str) -> None:
    page.does("add", name="a", settings={"volcengine_gateway_base_url": f"{GATEWAY}/ours"}, keys=GATEWAY_KEY)
    edit(page, "keys", "volcengine_gateway_api_key", OF_0_1)
    [told] = page.does("change", name="a", settings={"volcengine_gateway_base_url": GATEWAY + path})["told"]
    assert "volcengine_gateway_api_key" in told["en"] and "volcengine_gateway_api_key" in told["zh"]
    assert page.one("a")["keys"]["volcengine_gateway_api_key"] is False


def test_an_address_that_was_written_by_hand_gets_no_key(page: Page) -> None:
    ours = {"volcengine_gateway_base_url": f"{GATEWAY}/ours"}
    for path in ("/ours/../of-another", "?", "/%2e%2e"):
        page.does("change", name="default", settings=ours, keys=GATEWAY_KEY)
        edit(page, "settings", "volcengine_gateway_base_url", GATEWAY + path)
        with pytest.raises(ConfigurationError, match="is not valid"):
            page.profiles.volcengine("default")
        [told] = page.does("change", name="default", settings={"language": "en"})["told"]
        assert "volcengine_gateway_api_key" in told["en"]


def edit(page: Page, part: str, name: str, value: object) -> None:
    """As a text editor does."""
    document = json.loads(page.bytes or b"")
    document["profiles"][0][part][name] = value
    page.file.path.write_text(json.dumps(document), encoding="utf-8")


def test_a_key_that_comes_with_its_new_host_stays(page: Page) -> None:
    page.does("add", name="a", settings=ALL_HOSTS, keys=ALL_KEYS)
    moved = {"hidream_base_url": "https://new.example.com"}
    told = page.does("change", name="a", settings=moved, keys={"hidream_token": f"{CANARY}-new"})["told"]
    assert [text["en"].count("hidream_api_key") for text in told] == [1]
    account = page.profiles.hidream("a")
    assert (account.base_url, account.auth.token.reveal()) == ("https://new.example.com", f"{CANARY}-new")  # type: ignore[attr-defined]


def test_a_host_that_the_environment_changes_gets_no_stored_key(page: Page, environment: dict[str, str]) -> None:
    page.does("add", name="a", keys={"hidream_token": CANARY})
    environment["HIDREAM_BASE_URL"] = "https://evil.example.com"
    with pytest.raises(ConfigurationError) as caught:
        page.profiles.hidream("a")
    assert "https://www.hidreamai.com:443" in str(caught.value) and CANARY not in str(caught.value)
    told = page.does("change", name="a", settings={"language": "en"})["told"]
    assert len(told) == 1 and page.one("a")["keys"]["hidream_token"] is False


def test_a_file_edited_by_hand_gives_no_key_to_another_host(page: Page) -> None:
    page.does("add", name="a", keys={"hidream_token": CANARY})
    document = json.loads(page.bytes or b"")
    document["profiles"][0]["settings"]["hidream_base_url"] = "https://evil.example.com"
    page.file.path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="was entered for"):
        page.profiles.hidream("a")


def test_a_login_that_somebody_wrote_into_the_file_is_not_shown(page: Page) -> None:
    page.does("add", name="a")
    document = json.loads(page.bytes or b"")
    urls = {"proxy": "http://u:canary@pw@h:1", "hidream_base_url": "https://u:canary@h", "hidream_user_id": "me@home"}
    document["profiles"][0]["settings"] = urls
    page.file.path.write_text(json.dumps(document), encoding="utf-8")
    assert page.one("a")["settings"].items() >= {**urls, "proxy": "***@h:1", "hidream_base_url": "***@h"}.items()
    assert "canary" not in json.dumps(page.post("check", name="a", provider="HiDream").json)


def test_a_key_for_no_host(page: Page) -> None:
    refused = page.refused("add", name="a", keys={"volcengine_gateway_api_key": CANARY})
    assert "volcengine_gateway_base_url" in refused


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("", ""), ("none", "none"), (" None ", "none"), ("127.0.0.1:7890", "http://127.0.0.1:7890"),
        ("none:3128", "http://none:3128"), ("http://proxy.example.com:3128/", "http://proxy.example.com:3128"),
        ("https://[::1]:3128", "https://[::1]:3128"),
    ],
)  # fmt: skip
def test_proxies(page: Page, typed: str, kept: str) -> None:
    page.does("add", name="a", settings={"proxy": typed}, keys={"hidream_token": CANARY})
    assert page.one("a")["settings"]["proxy"] == kept
    assert page.profiles.hidream("a").proxy == kept


# ---- what an earlier version stored

LOGIN = {"value": f"somebody:{CANARY}-password", "for": ["http://proxy.example.com:3128"]}
RETIRED: dict[str, tuple[dict[str, Any], dict[str, Any], set[tuple[str, str]], str]] = {
    "login": ({"proxy": "http://proxy.example.com:3128"}, {"proxy_login": LOGIN}, {("keys", "proxy_login")},
              "HTTPS_PROXY"),
    "login of no known form": ({}, {"proxy_login": [7]}, {("keys", "proxy_login")}, "HTTPS_PROXY"),
    "socks": ({"proxy": "socks5://127.0.0.1:1080"}, {}, {("settings", "proxy")}, "HTTPS_PROXY"),
    "socks and login": ({"proxy": "SOCKS5h://127.0.0.1:1080"}, {"proxy_login": LOGIN},
                        {("settings", "proxy"), ("keys", "proxy_login")}, "HTTPS_PROXY"),
    "login in the address": ({"proxy": f"http://u:{CANARY}@proxy.example.com"}, {}, {("settings", "proxy")},
                             "HTTPS_PROXY"),
    "ca file": ({"ca_file": "/etc/ssl/ours.pem"}, {}, {("settings", "ca_file")}, "REQUESTS_CA_BUNDLE"),
    "ca file of no known form": ({"ca_file": ["/etc/ssl/ours.pem"]}, {}, {("settings", "ca_file")},
                                 "REQUESTS_CA_BUNDLE"),
    "ca file and socks": ({"ca_file": "C:\\ours.pem", "proxy": "socks5://127.0.0.1:1080"}, {},
                          {("settings", "ca_file"), ("settings", "proxy")}, "HTTPS_PROXY"),
    "login in an address without a scheme": ({"proxy": f"u:{CANARY}@proxy.example.com"}, {}, {("settings", "proxy")},
                                             "HTTPS_PROXY"),
}  # fmt: skip


def stored_before(page: Page, settings: dict[str, Any], keys: dict[str, Any], name: str = "a") -> None:
    """A profile with keys for both services, as an earlier version may have left it."""
    what = "change" if name == "default" else "add"
    page.does(what, name=name, settings=ALL_HOSTS, keys=ALL_KEYS)
    document = json.loads(page.bytes or b"")
    [entry] = [entry for entry in document["profiles"] if entry["name"] == name]
    entry["settings"].update(settings)
    entry["keys"].update(keys)
    page.file.path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("case", RETIRED)
def test_a_retired_entry_is_told_and_removed(page: Page, case: str) -> None:
    settings, keys, entries, instead = RETIRED[case]
    stored_before(page, settings, keys)
    for use in (page.profiles.hidream, page.profiles.volcengine):
        with pytest.raises(ConfigurationError) as caught:
            use("a")
        told = caught.value.text()
        for text in (told.en, told.zh):
            assert instead in text and "HiDream" in text and "'a'" in text and CANARY not in text
        assert "Settings" in told.en and "设置" in told.zh
    for provider in ("HiDream", "Volcengine"):
        body = json.dumps({"name": "a", "provider": provider}).encode()
        reply = page.served.post(f"{BASE}/profiles/check", body=body)
        assert reply.json["cause"] == "setting" and instead in reply.json["advice"]["en"]
    shown = page.one("a")["retired"]
    assert {(entry["part"], entry["name"]) for entry in shown} == entries
    for entry in shown:
        assert entry["what"].keys() == entry["advice"].keys() == {"en", "zh"} and CANARY not in json.dumps(entry)
    # What is changed beside it does not remove it.
    page.does("change", name="a", settings={"language": "en"})
    assert page.one("a")["retired"] == shown
    removed: dict[str, dict[str, str]] = {"settings": {}, "keys": {}}
    for part, name in entries:
        removed[part][name] = ""
    assert page.does("change", name="a", **removed)["told"] == []
    assert page.one("a")["retired"] == []
    assert page.profiles.hidream("a").auth.token.reveal() == ALL_KEYS["hidream_token"]  # type: ignore[attr-defined]
    assert page.profiles.volcengine("a").base_url == GATEWAY
    assert page.one("a")["keys"] == dict.fromkeys(SECRETS, True)
    for name in ("ca_file", "proxy_login", "socks"):
        assert name.encode() not in (page.bytes or b"")


def bound_with_a_ca_file(page: Page, ca_file: str) -> None:
    """A profile whose keys were entered together with a CA file."""
    stored_before(page, {"ca_file": ca_file}, {})
    document = json.loads(page.bytes or b"")
    for key in document["profiles"][0]["keys"].values():
        key["for"].append(ca_file)
    page.file.path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("ca_file", ["/etc/ssl/ours.pem", "C:\\certificates\\ours.pem"])
def test_a_key_that_was_entered_with_a_ca_file_works_without_it(page: Page, ca_file: str) -> None:
    """For its own hosts, and for no other."""
    bound_with_a_ca_file(page, ca_file)
    assert page.does("change", name="a", settings={"ca_file": ""})["told"] == []
    assert page.one("a")["keys"] == dict.fromkeys(SECRETS, True)
    assert page.profiles.hidream("a").auth.token.reveal() == ALL_KEYS["hidream_token"]  # type: ignore[attr-defined]
    assert page.profiles.volcengine("a").base_url == GATEWAY
    told = page.does("change", name="a", settings={"hidream_base_url": "https://evil.example.com"})["told"]
    assert len(told) == 2
    assert {name for name, has in page.one("a")["keys"].items() if not has} == {"hidream_token", "hidream_api_key"}


def test_a_key_that_was_entered_with_a_ca_file_goes_to_no_host_of_the_environment(
    page: Page, environment: dict[str, str]
) -> None:
    bound_with_a_ca_file(page, "/etc/ssl/ours.pem")
    page.does("change", name="a", settings={"ca_file": ""})
    environment["HIDREAM_EC_BASE_URL"] = "https://evil.example.com"
    with pytest.raises(ConfigurationError, match="was entered for") as caught:
        page.profiles.hidream("a")
    assert "ours.pem" not in str(caught.value)


def test_a_retired_entry_counts_beside_a_key_of_the_environment(page: Page, environment: dict[str, str]) -> None:
    environment["HIDREAM_TOKEN"] = "token-of-the-environment"
    stored_before(page, {"proxy": "socks5://127.0.0.1:1080"}, {}, "default")
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        page.profiles.hidream("default")
    page.does("change", name="default", settings={"proxy": "http://127.0.0.1:7890"})
    assert page.profiles.hidream("default").proxy == "http://127.0.0.1:7890"


# ---- what is refused

BAD_NAMES = ["", " ", "sandbox", "Sandbox", "ＳＡＮＤＢＯＸ", "Default", "DEFAULT", "x" * 65, "a\nb", "a\x00b",
             "a\u202eb", "a\u200bb", "a\ud800", "\u2028", None, 1, True, [], {}, ["a"]]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_name_that_is_none(page: Page, name: Any) -> None:
    page.does("add", name="a")
    page.refused("add", name=name)
    page.refused("rename", name="a", new_name=name)
    if name not in ("Default", "DEFAULT"):
        page.refused("change", name=name, settings={"language": "en"})


@pytest.mark.parametrize("name", ["a", "A", "ａ", " a "])
def test_a_name_that_is_taken(page: Page, name: str) -> None:
    page.does("add", name="a")
    page.does("add", name="b")
    page.refused("add", name=name)
    page.refused("rename", name="b", new_name=name)


@pytest.mark.parametrize("name", ["sandbox", "unknown", "default"])
def test_a_profile_that_is_not_there(page: Page, name: str) -> None:
    page.refused("remove", name=name)
    page.refused("rename", name=name, new_name="x")
    if name != "default":
        page.refused("change", name=name, settings={"language": "en"})


# Where one library connects to what another one does not see.
TWO_FACED = ["https://evil.example\\.www.hidreamai.com", "https://www.hidreamai.com%2eevil.example", "https://a b",
             "https://www.hidreamai.com;evil.example", "https://evil.example[::1]x", "https://www.hidreamai\u3002com",
             "https://\uff57ww.hidreamai.com", "https://www.hidreamai.com\u200b", "https://evil.example\\"]  # fmt: skip
BAD_SETTINGS: list[tuple[str, Any]] = [
    *((name, value) for name in SETTINGS for value in ([], {}, 1.5, "\x00", "x" * 3000)),
    *((name, value) for name in SETTINGS if name.endswith("_url")
      for value in ("http://example.com", "https://u:p@example.com", "ftp://127.0.0.1", "https://", "x", 7, True)),
    *((name, value) for name, setting in SETTINGS.items() if setting.unset is None for value in ("1", "", -1, 10**9)),
    *((name, True) for name, setting in SETTINGS.items() if setting.unset is None and name != "volcengine_resumable"),
    ("volcengine_resumable", 1), ("volcengine_resumable", 0), ("language", "de"), ("language", None),
    *(("proxy", f"{scheme}://proxy.example.com") for scheme in ("ftp", "socks", "socks4", "socks5", "SOCKS5h")),
    *(("proxy", f"{scheme}u:{CANARY}@proxy.example.com:3128") for scheme in ("", "http://", "https://", "socks5://")),
    ("proxy", "http://u@h"), ("proxy", "http://@h"), ("proxy", "none:x"),
    ("proxy", "http://"), ("proxy", "http://h/path"), ("proxy", "http://h:0"),
    ("proxy", "http://h:99999"), ("proxy", "a b"), ("proxy", "http://u:\u5bc6\u7801@h:1"), ("proxy", "javascript:x"),
    ("proxy", "http://h\r\nX: y"), ("hidream_user_id", "two words"), ("hidream_user_id", "caf\u00e9"),
    *((name, value) for name in ("hidream_base_url", "proxy") for value in TWO_FACED),
    *(("notify_url", url) for url in ("https://h/#x", "https://h/#", "https://h/a b", "https://h/\u5bc6", "https://h:0/")),
    ("ca_file", "/etc/ssl/cert.pem"),
    ("unknown", "x"), ("__proto__", "x"), ("name", "x"), ("account", "x"), ("", "x"), ("hidream_token", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS, ids=lambda value: ascii(value)[:40])
def test_a_setting_that_is_none(page: Page, name: str, value: Any) -> None:
    for what, profile in (("add", "a"), ("change", "default")):
        assert CANARY not in page.refused(what, name=profile, settings={name: value})


@pytest.mark.parametrize("name", [*SECRETS, *RETIRED_SECRETS, "unknown", CANARY])
@pytest.mark.parametrize("spoiled", ["{} x", "{}\n{}", "密{}", "{}\x00", "{}\ud800", "Bearer {} x", 7, None, [], {}])
def test_an_invalid_key_is_refused_and_never_repeated(
    page: Page, name: str, spoiled: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    value = spoiled.replace("{}", CANARY) if isinstance(spoiled, str) else spoiled
    for what, profile in (("add", "a"), ("change", "default")):
        told = page.refused(what, name=profile, settings=ALL_HOSTS, keys={name: value})
        assert CANARY[:10] not in told
    assert CANARY[:10] not in caplog.text


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("add", {}), ("add", {"name": "a", "more": 1}), ("add", {"name": "a", "settings": []}),
        ("add", {"name": "a", "settings": None}), ("add", {"name": "a", "keys": "x"}),
        ("change", {"name": "default", "keys": [1]}), ("change", {"settings": {}}), ("rename", {"name": "a"}),
        ("rename", {"name": "a", "new_name": "b", "settings": {}}), ("remove", {}), ("remove", {"name": "a", "x": 1}),
        *(("remove", {"name": "a", "revision": revision}) for revision in (1, None, [], "x" * 65)),
    ],
    ids=ascii,
)  # fmt: skip
def test_other_fields(page: Page, what: str, body: dict[str, Any]) -> None:
    page.does("add", name="a")
    page.refused(what, **body)


@pytest.mark.parametrize("what", ["add", "change", "rename", "remove"])
def test_profiles_that_were_changed_elsewhere_meanwhile(page: Page, what: str) -> None:
    old = page.get()["revision"]
    page.does("add", name="a")
    name = "b" if what == "add" else "a"
    more = {"new_name": "c"} if what == "rename" else {}
    for revision in (old, "", "x"):
        assert "changed elsewhere" in page.refused(what, 409, revision=revision, name=name, **more)
    assert page.post(what, name=name, **more).status == 200


def test_a_damaged_file_is_told_and_left(page: Page, environment: dict[str, str]) -> None:
    environment["HIDREAM_TOKEN"] = "token-of-the-environment"
    page.does("add", name="a", keys={"hidream_token": CANARY})
    revision = page.get()["revision"]
    page.file.path.write_text(f"{{ {CANARY}", encoding="utf-8")
    assert_refused(page.served.get(f"{BASE}/profiles"), 409)
    for what in ("add", "change", "remove"):
        told = page.refused(what, 409, revision=revision, name="a")
        assert str(page.file.path) in told and CANARY not in told
    assert page.profiles.names() == ["default", "sandbox"]
    assert page.profiles.hidream("default").account_id == "HIDREAM_TOKEN"
    assert page.profiles.check_name("default") is None
    assert "cannot be used" in str(page.profiles.check_name("a"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        page.profiles.hidream("a")


def test_there_is_an_end_of_profiles(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    from hidream_volcengine.api.profiles import editor as profile_edits

    monkeypatch.setattr(profile_edits, "_MOST_PROFILES", 2)
    page.does("add", name="a")
    page.does("add", name="b")
    page.refused("add", name="c")


# ---- attacks

CHANGED_BY = ("add", "change", "rename", "remove", "check")
ROUTES = [("GET", "/profiles"), *(("POST", f"/profiles/{what}") for what in CHANGED_BY)]
CHANGES = [path for method, path in ROUTES if method == "POST"]


def test_every_route_is_in_these_tables(page: Page) -> None:
    routes = web.RouteTableDef()
    register(routes, FakeDesk(), TOKEN, profiles=lambda: ProfileEditor(page.profiles, page.file))
    registered = [(route.method, route.path) for route in routes if isinstance(route, web.RouteDef)]
    ours = [(method, path.removeprefix(BASE)) for method, path in registered if "/profiles" in path]
    assert sorted(ours) == sorted(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("attack", FORGED)
def test_a_forged_request(page: Page, method: str, path: str, attack: str) -> None:
    page.does("add", name="a", keys={"hidream_token": CANARY})
    before = page.bytes
    headers, host = FORGED[attack]
    headers = [(name, value.format(port=page.served.port)) for name, value in headers]
    host = host.format(port=page.served.port) if isinstance(host, str) else host
    body = json.dumps({"revision": page.get()["revision"], "name": "a", "keys": {"hidream_token": ""}}).encode()
    more: dict[str, Any] = {"origin": None, "body": body} if method == "POST" else {}
    reply = as_the_page(page.served, method, path, *headers, host=host, **more)
    assert_refused(reply, 403)
    assert page.bytes == before and str(page.file.path).encode() not in reply.body


@pytest.mark.parametrize("path", CHANGES)
def test_without_the_token_or_as_a_form(page: Page, path: str) -> None:
    body = json.dumps({"revision": "none", "name": "a"}).encode()
    for token in (None, "", "wrong", TOKEN[:-1]):
        assert_refused(page.served.post(BASE + path, body=body, token=token), 403)
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded"):
        assert_refused(page.served.post(BASE + path, body=body, content_type=content_type), 415)
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert page.served.ask(method, BASE + path, ("X-Remote-Image-Token", TOKEN)).status == 405
    assert page.bytes is None


@pytest.mark.parametrize("path", CHANGES)
def test_bodies_that_are_too_large_or_too_deep(page: Page, path: str) -> None:
    for size in (BODY_LIMIT + 1, 10 * 2**20):
        assert_refused(page.served.post(BASE + path, body=padded(size)), 413)
    deep = b'{"revision": "none", "name": ' + b"[" * 4000 + b"]" * 4000 + b"}"
    assert_refused(page.served.post(BASE + path, body=deep), 400)
    assert page.bytes is None


def test_no_answer_and_no_log_has_a_key(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = [
        page.post("add", name="a", settings=ALL_HOSTS, keys=ALL_KEYS),
        page.post("change", name="a", keys={"hidream_token": f"{CANARY}-other"}),
        page.post("change", name="a", settings={"hidream_base_url": "https://other.example.com"}),
        page.post("rename", name="a", new_name="b"),
        page.served.get(f"{BASE}/profiles"),
        page.post("remove", name="b"),
    ]
    assert [reply.status for reply in replies] == [200] * 6
    for reply in replies:
        assert b"canary" not in reply.body
    assert "canary" not in caplog.text
    assert b"canary" not in (page.bytes or b"")


def test_a_failure_of_the_disk_tells_no_key(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    page.does("add", name="a")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    told = page.refused("change", 409, name="a", keys={"hidream_token": CANARY})
    assert "No space left" in told and "canary" not in told + caplog.text
