"""Profiles of the file and what they bought: it stays theirs under another name and with another key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hidream_volcengine.api import (
    BackgroundPoller,
    ConfigurationError,
    InvalidInputError,
    ProfileEditor,
    ProfileFile,
    Profiles,
    Run,
    fetch_task,
)
from hidream_volcengine.api.catalog.endpoints import hidream_upscale
from hidream_volcengine.api.services import HiDreamService
from hidream_volcengine.api.transport.account import HiDreamAccount, VolcengineAccount
from pytest import MonkeyPatch

from tests.contract import paying
from tests.contract.paying import KEYS, PATIENT, A, B, Clock, Shop, both_providers, cvprocess, idle_watch, park, upscale
from tests.contract.raw_servers import RawServer, hanging, until

GOOD = {"hidream_token": KEYS.hidream_token, "volcengine_gateway_api_key": KEYS.gateway_api_key}


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


class FileShop(Shop):
    """A shop whose profiles are those of the file, and none of the environment."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, clock=clock, profile="mine")
        self.file = ProfileFile(lambda: folder / "private")

    @property
    def profiles(self) -> Profiles:
        return Profiles({"REMOTE_IMAGE_POLLS_PER_SECOND": "0"}, lambda: pytest.fail("no sandbox"), self.file)

    @property
    def editor(self) -> ProfileEditor:
        return ProfileEditor(self.profiles, self.file)

    @property
    def revision(self) -> str:
        return self.file.read().revision

    def add(self, name: str, **settings: object) -> None:
        hosts = ("hidream_base_url", "hidream_ec_base_url", "volcengine_gateway_base_url")
        self.editor.add(self.revision, name, {**dict.fromkeys(hosts, self.emulator.url), **settings}, GOOD)

    def rename(self, name: str, new_name: str) -> None:
        self.editor.rename(self.revision, name, new_name)
        self.profile = new_name

    def of(self, name: str) -> HiDreamAccount:
        return replace(self.profiles.hidream(name), deadlines=PATIENT)

    def volcengine_of(self, name: str) -> VolcengineAccount:
        return replace(self.profiles.volcengine(name), deadlines=PATIENT)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[FileShop]:
    with FileShop(tmp_path, Clock()) as running:
        running.add("mine")
        yield running


def test_a_renamed_profile_keeps_its_pictures(shop: FileShop) -> None:
    with shop.buys(2):
        shop.buy(upscale(shop.of("mine"), A))
        shop.buy(cvprocess(shop.volcengine_of("mine"), A))
    shop.rename("mine", "renamed")
    with shop.sends_nothing():
        shop.buy(upscale(shop.of("renamed"), A))
        shop.buy(cvprocess(shop.volcengine_of("renamed"), A))


def test_a_new_key_keeps_the_pictures(shop: FileShop) -> None:
    with shop.buys(1):
        shop.buy(upscale(shop.of("mine"), A))
    shop.editor.change(
        shop.revision, "mine", {}, {"hidream_token": "", "hidream_api_key": KEYS.hidream_api_key}
    )
    with shop.sends_nothing():
        shop.buy(upscale(shop.of("mine"), A))


def test_another_profile_never_gets_them(shop: FileShop) -> None:
    """Also not one of the same key, or of the old name."""
    shop.buy(upscale(shop.of("mine"), A))
    shop.add("other")
    with shop.buys(1):
        shop.buy(upscale(shop.of("other"), A))
    shop.rename("mine", "renamed")
    shop.add("mine")
    with shop.buys(1):
        shop.buy(upscale(shop.of("mine"), A))
    shop.editor.remove(shop.revision, "mine")
    shop.add("mine")
    with shop.buys(1):
        shop.buy(upscale(shop.of("mine"), A))


def test_a_task_is_fetched_by_the_renamed_profile_and_by_no_other(shop: FileShop) -> None:
    shop.buy(upscale(shop.of("mine"), A))
    [task] = shop.journal.task_list.tasks()
    shop.rename("mine", "renamed")
    shop.add("mine")
    with shop.sends_nothing():
        renamed = HiDreamService(shop.of("renamed"), hidream_upscale.ENDPOINT)
        found = fetch_task(shop.journal, renamed, task.task_id, idle_watch())
        assert len(found.pictures) == 1
        with pytest.raises(InvalidInputError):
            other = HiDreamService(shop.of("mine"), hidream_upscale.ENDPOINT)
            fetch_task(shop.journal, other, task.journal_id, idle_watch())


@pytest.mark.parametrize("service", ["upscale", "variation"])
def test_the_collector_finds_the_renamed_profile(shop: FileShop, service: str) -> None:
    park(shop, service)
    shop.mend()
    shop.rename("mine", "renamed")
    shop.add("mine")  # of the old name, and of another account
    assert isinstance(shop.clock, Clock)

    def collected() -> bool:
        shop.clock.now += 700
        BackgroundPoller(shop.journal, shop.profiles).poll_once()
        return shop.states == ["stored"]

    with shop.buys(0):
        until(collected, paying.PATIENCE)


# ---- entries of an earlier version

RETIRED = {
    "login": ("keys", "proxy_login", {"value": "somebody:canary-password", "for": ["http://127.0.0.1:9"]}),
    "socks": ("settings", "proxy", "socks5://127.0.0.1:PORT"),
    "ca file": ("settings", "ca_file", "/etc/ssl/ours.pem"),
    "login in the address": ("settings", "proxy", "http://somebody:canary-password@127.0.0.1:PORT"),
}


@pytest.mark.parametrize("case", RETIRED)
def test_a_profile_with_a_retired_entry_sends_nothing_until_it_is_removed(shop: FileShop, case: str) -> None:
    """What was bought stays, what is under way stays parked, and both are there again afterwards, unpaid."""
    part, name, value = RETIRED[case]
    park(shop, "variation")
    shop.mend()
    shop.buy(upscale(shop.of("mine"), A))
    with RawServer(hanging) as proxy, shop.sends_nothing():
        document = json.loads(shop.file.path.read_bytes())
        stored = value.replace("PORT", str(proxy.port)) if isinstance(value, str) else value
        document["profiles"][0][part][name] = stored
        shop.file.path.write_text(json.dumps(document), encoding="ascii")
        for use in (shop.profiles.hidream, shop.profiles.volcengine):
            with pytest.raises(ConfigurationError, match="Then remove the old entry in Settings") as caught:
                use("mine")
            assert "canary" not in str(caught.value)
        assert isinstance(shop.clock, Clock)
        shop.clock.now += 700
        BackgroundPoller(shop.journal, shop.profiles).poll_once()
        for provider in ("HiDream", "Volcengine"):
            assert shop.editor.check("mine", provider).cause == "setting"
        assert proxy.accepted == 0
    assert sorted(shop.states) == ["delivered", "parked"]
    shop.editor.change(shop.revision, "mine", **{"settings": {}, "keys": {}, part: {name: ""}})
    with shop.sends_nothing():
        shop.buy(upscale(shop.of("mine"), A))
    with shop.buys(0):
        shop.buy(paying.photo_set(shop.of("mine"), A))
    with shop.buys(1):
        shop.buy(cvprocess(shop.volcengine_of("mine"), A))


@both_providers
def test_a_budget_goes_on_after_a_rename(shop: FileShop, service: str) -> None:
    shop.editor.change(shop.revision, "mine", {"pictures_per_day": 1, "pictures_per_run": 5}, {})

    def call(name: str, pixels: object) -> paying.PaidCall:
        make = upscale(shop.of(name), pixels) if service == "upscale" else cvprocess(shop.volcengine_of(name), pixels)
        return make

    with shop.buys(1):
        shop.buy(call("mine", A))
    shop.rename("mine", "renamed")
    with shop.sends_nothing():
        error = shop.trouble(call("renamed", B))
    for words in (error.text().en, error.text().zh):
        assert "pictures_per_day" in words and "HiDream" in words and "REMOTE_IMAGE" not in words
    shop.editor.change(shop.revision, "renamed", {"pictures_per_day": 2}, {})
    with shop.buys(1):
        shop.buy(call("renamed", B))


def test_the_budget_of_a_run_is_the_profile_s(shop: FileShop) -> None:
    shop.editor.change(shop.revision, "mine", {"pictures_per_run": 1}, {})
    run = Run("prompt-1")
    with shop.buys(1):
        shop.buy(upscale(shop.of("mine"), A), run=run)
    with shop.sends_nothing():
        assert "pictures_per_run" in shop.trouble(upscale(shop.of("mine"), B), run=run).text().en


def test_todays_pictures_are_told_by_account(shop: FileShop) -> None:
    account = shop.of("mine").account_id
    shop.buy(upscale(shop.of("mine"), A))
    shop.rename("mine", "renamed")
    shop.buy(upscale(shop.of("renamed"), B))
    today = shop.journal.task_list.overview(10).today
    assert today == {("mine", account): 1, ("renamed", account): 1}
    assert {shop.profiles.name_of(name, bought_by) for name, bought_by in today} == {"renamed"}


def test_a_task_of_a_removed_profile_is_fetched_by_its_task_id(shop: FileShop) -> None:
    """Entered again, it is another account, even with the same key: what was under way is not lost by that."""
    park(shop, "upscale")
    shop.mend()
    [task] = shop.journal.task_list.tasks()
    shop.editor.remove(shop.revision, "mine")
    shop.add("mine")
    service = HiDreamService(shop.of("mine"), hidream_upscale.ENDPOINT)
    with shop.buys(0):
        for ask in (
            lambda: fetch_task(shop.journal, service, task.journal_id, idle_watch()),
            lambda: BackgroundPoller(shop.journal, shop.profiles).ask_now(task.journal_id),
        ):
            with pytest.raises(InvalidInputError) as refused:
                ask()
            told = refused.value.text()
            assert task.task_id in told.en and "another account" in told.en and "另一个账户" in told.zh
        assert len(fetch_task(shop.journal, service, task.task_id, idle_watch()).pictures) == 1
