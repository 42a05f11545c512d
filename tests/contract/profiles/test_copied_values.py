"""Keys and addresses as people copy them: with quotes, with Bearer in front, with a path that the pack adds itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import ConfigurationError, ProfileEditor, ProfileFile, Profiles, pack_logger
from hidream_volcengine.api.core import redaction
from hidream_volcengine.api.profiles.editor import RefusedEditError
from hidream_volcengine.api.transport.auth import BearerAuth, ExchangedTokenAuth, SignatureAuth
from pytest import LogCaptureFixture, MonkeyPatch

from tests.contract.paying import KEYS, PATIENT, A, Shop, brisk, cvprocess, upscale

KEY = "canary-0123456789/+=abc"
# How a key is written in shells, .env files, JSON, chats and web pages; each is the key.
SPELLINGS = [
    f'"{KEY}"', f"'{KEY}'", f"`{KEY}`", f"“{KEY}”", f"‘{KEY}’", f"「{KEY}」", f"«{KEY}»", f"＂{KEY}＂", f'“{KEY}"',
    f'"{KEY}', f"{KEY}'", f" ' {KEY}\t'\r\n", f"\u3000{KEY}\u3000", f"\ufeff{KEY}\u200b", f"\xa0{KEY}\u2060",
    f"Bearer {KEY}", f"bearer   {KEY}", f'"Bearer {KEY}"', f"Bearer “{KEY}”", f"Authorization: Bearer {KEY}",
]  # fmt: skip
# Whether this is a key that was copied badly nobody knows.
UNKNOWN = [f"Bearer{KEY} x", f"{KEY} {KEY}", f"“{KEY}”，“{KEY}”", f"密{KEY}", f"{KEY}\x00x", f'{KEY}"\n"x']
ALL = {
    "HIDREAM_TOKEN": "hidream_token",
    "HIDREAM_API_KEY": "hidream_api_key",
    "VOLCENGINE_GATEWAY_API_KEY": "volcengine_gateway_api_key",
    "VOLCENGINE_ACCESS_KEY_ID": "volcengine_access_key_id",
    "VOLCENGINE_SECRET_ACCESS_KEY": "volcengine_secret_access_key",
}
GATEWAY = "https://gateway.example.com"


@pytest.fixture(autouse=True)
def no_secrets_of_others(monkeypatch: MonkeyPatch) -> None:
    """A ComfyUI of another module has a key that is the word "secret", which the names of the settings have in them."""
    monkeypatch.setattr(redaction, "_known", {})


@pytest.fixture(autouse=True)
def at_debug(caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def no_sandbox() -> Any:
    pytest.fail("no sandbox")


def sent(profiles: Profiles, variable: str, profile: str = "default") -> str:
    """The key as it goes out."""
    provider = profiles.hidream if variable.startswith("HIDREAM") else profiles.volcengine
    auth = provider(profile).auth
    if isinstance(auth, SignatureAuth):
        return (auth.access_key_id if variable.endswith("ID") else auth.secret_access_key).reveal()
    assert isinstance(auth, BearerAuth | ExchangedTokenAuth)
    return (auth.token if isinstance(auth, BearerAuth) else auth.api_key).reveal()


def variables(variable: str, value: str) -> dict[str, str]:
    pair = {"VOLCENGINE_ACCESS_KEY_ID": "AKLTother", "VOLCENGINE_SECRET_ACCESS_KEY": "other"}
    beside = pair if variable in pair else {"VOLCENGINE_GATEWAY_BASE_URL": GATEWAY}
    return {**beside, variable: value}


@pytest.mark.parametrize("variable", ALL)
def test_a_key_of_the_environment(variable: str, caplog: LogCaptureFixture) -> None:
    for spelling in SPELLINGS:
        profiles = Profiles(variables(variable, spelling), no_sandbox)
        assert [sent(profiles, variable) for _ in range(3)] == [KEY] * 3, ascii(spelling)
        said = [record.getMessage() for record in caplog.records if record.name == pack_logger().name]
        # Blanks are nothing to be told of, and once is enough.
        assert len(said) == (spelling.strip() != KEY), ascii(spelling)
        assert all(variable in line and "canary" not in line for line in said)
        caplog.clear()
    for spelling in UNKNOWN:
        with pytest.raises(ConfigurationError, match=variable) as caught:
            sent(Profiles(variables(variable, spelling), no_sandbox), variable)
        assert "canary" not in str(caught.value)


def test_quotes_around_nothing_are_no_key() -> None:
    profiles = Profiles({"HIDREAM_TOKEN": '""', "HIDREAM_API_KEY": f"'{KEY}'"}, no_sandbox)
    assert sent(profiles, "HIDREAM_API_KEY") == KEY
    with pytest.raises(ConfigurationError, match="no key"):
        Profiles({"HIDREAM_TOKEN": '""'}, no_sandbox).hidream("default")


@pytest.mark.parametrize("variable", ALL)
def test_a_key_of_a_file_that_was_written_by_hand(tmp_path: Path, variable: str, caplog: LogCaptureFixture) -> None:
    file = ProfileFile(lambda: tmp_path)
    settings = {"volcengine_gateway_base_url": GATEWAY}
    editor = ProfileEditor(Profiles({}, no_sandbox, file), file)
    pair = {"volcengine_access_key_id": "AKLTother", "volcengine_secret_access_key": "other"}
    editor.add(file.read().revision, "mine", settings, {**(pair if ALL[variable] in pair else {}), ALL[variable]: KEY})
    written = file.path.read_text("ascii")
    for spelling in SPELLINGS:
        caplog.clear()
        file.path.write_text(written.replace(f'"{KEY}"', json.dumps(spelling)), "ascii")
        profiles = Profiles({}, no_sandbox, file)
        assert [sent(profiles, variable, "mine") for _ in range(3)] == [KEY] * 3, ascii(spelling)
        said = [record.getMessage() for record in caplog.records if record.name == pack_logger().name]
        assert len(said) == (spelling.strip() != KEY), ascii(spelling)
        assert all(ALL[variable] in line and "mine" in line and "canary" not in line for line in said)
    for spelling in UNKNOWN:
        file.path.write_text(written.replace(f'"{KEY}"', json.dumps(spelling)), "ascii")
        with pytest.raises(ConfigurationError, match=ALL[variable]) as caught:
            sent(Profiles({}, no_sandbox, file), variable, "mine")
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ALL.values())
def test_a_key_of_the_dialog(tmp_path: Path, name: str) -> None:
    """What is stored is the key, and what was left out is said."""
    file = ProfileFile(lambda: tmp_path)
    editor = ProfileEditor(Profiles({}, no_sandbox, file), file)
    editor.add(file.read().revision, "mine", {"volcengine_gateway_base_url": GATEWAY}, {})
    for spelling in SPELLINGS:
        shown = editor.change(file.read().revision, "mine", {}, {name: spelling})
        stored = file.read().find("mine")
        assert stored is not None and stored.keys[name].value.reveal() == KEY, ascii(spelling)
        assert len(shown.told) == (spelling.strip() != KEY), ascii(spelling)
        assert all(name in text.en and name in text.zh and "canary" not in f"{text}" for text in shown.told)
    for spelling in (*UNKNOWN, '""', "“”"):
        with pytest.raises(RefusedEditError) as caught:
            editor.change(file.read().revision, "mine", {}, {name: spelling})
        assert "canary" not in f"{caught.value.why}"
        stored = file.read().find("mine")
        assert stored is not None and stored.keys[name].value.reveal() == KEY


# ---- addresses

GATEWAY_PATHS = [
    "", "/", "/v1", "/v1/", "/volcv/v1", "/volcv/v1/", "//volcv//v1", "/VolcV/V1", "/v1/volcv/v1",
    "/volcv/v1?Action=CVProcess&Version=2022-08-31", "/volcv/v1/?Action=CVSync2AsyncGetResult",
]  # fmt: skip
HIDREAM_PATHS = ["", "/", "/api-pub", "/api-pub/gw/v3/image/image_upscaler/async", "/prod-api/user/apikey2token",
                 "/api-pub/gw/v3/image/image_upscaler/async/results?task_id=1"]  # fmt: skip
SIGNED_PATHS = ["", "/", "/?Action=CVProcess&Version=2022-08-31", "?Action=CVProcess&Version=2022-08-31"]
BASES = [
    *(("VOLCENGINE_GATEWAY_BASE_URL", path) for path in GATEWAY_PATHS),
    *((name, path) for name in ("HIDREAM_BASE_URL", "HIDREAM_EC_BASE_URL") for path in HIDREAM_PATHS),
    *(("VOLCENGINE_BASE_URL", path) for path in SIGNED_PATHS),
]
HOSTS = ["https://v1", "https://v1.example.com:8443", "http://127.0.0.1:8189", "https://volcv", "https://h/prefix"]


@pytest.mark.parametrize(("variable", "path"), BASES)
def test_an_address_with_a_path_of_the_service(tmp_path: Path, variable: str, path: str) -> None:
    """In the environment, in a file and in the dialog; whatever comes before that path stays."""
    name = variable.lower()
    for host in HOSTS:
        profiles = Profiles({variable: host + path}, no_sandbox)
        assert profiles.environment.setting(name) == host, path
        folder = tmp_path / host.partition("//")[2].replace(":", "_")
        file = ProfileFile(partial(Path, folder))
        editor = ProfileEditor(Profiles({}, no_sandbox, file), file)
        shown = editor.add(file.read().revision, "mine", {name: host + path}, {})
        assert next(profile for profile in shown.profiles if profile.name == "mine").settings[name] == host


def test_other_paths_and_queries_stay_what_they_were() -> None:
    for path in ("/volcv", "/v2", "/v1beta", "/v1/x", "/xvolcv", "/prefix/v1x"):
        environment = Profiles({"VOLCENGINE_GATEWAY_BASE_URL": GATEWAY + path}, no_sandbox).environment
        assert environment.setting("volcengine_gateway_base_url") == GATEWAY + path
    for path in ("/?x=1", "?Token=x", "/volcv/v1#x", "/volcv/v1?key=x"):
        with pytest.raises(ConfigurationError, match="VOLCENGINE_GATEWAY_BASE_URL"):
            Profiles({"VOLCENGINE_GATEWAY_BASE_URL": GATEWAY + path}, no_sandbox).environment.setting(
                "volcengine_gateway_base_url"
            )


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: MonkeyPatch) -> Iterator[Shop]:
    brisk(monkeypatch)
    with Shop(tmp_path) as running:
        yield running


def test_a_picture_is_bought_once_whatever_the_spelling(shop: Shop) -> None:
    """Key and account are the same, so the second spelling brings the picture that the first one bought."""
    for key, path in ((f'"{KEYS.gateway_api_key}"', "/v1/"), (f"Bearer {KEYS.gateway_api_key}", "/volcv/v1"), ("", "")):
        shop.settings = {"VOLCENGINE_GATEWAY_BASE_URL": shop.emulator.url + path}
        shop.settings |= {"VOLCENGINE_GATEWAY_API_KEY": key} if key else {}
        with shop.buys(int(path == "/v1/")):
            shop.buy(cvprocess(shop.volcengine, A))
    for path in ("/api-pub/gw/v3/", ""):
        shop.settings = {"HIDREAM_BASE_URL": shop.emulator.url + path, "HIDREAM_TOKEN": f"'{KEYS.hidream_token}'"}
        with shop.buys(int(path != "")):
            shop.buy(upscale(shop.hidream, A))


def test_a_gateway_of_a_file_by_hand_keeps_its_key(shop: Shop, tmp_path: Path) -> None:
    """Also if the address has the path twice over there: a key is bound to the host that it is sent to."""
    file = ProfileFile(lambda: tmp_path / "private")
    editor = ProfileEditor(Profiles({}, no_sandbox, file), file)
    settings = {"volcengine_gateway_base_url": shop.emulator.url}
    editor.add(file.read().revision, "mine", settings, {"volcengine_gateway_api_key": KEYS.gateway_api_key})
    document = json.loads(file.path.read_text("ascii"))
    document["profiles"][0]["settings"]["volcengine_gateway_base_url"] += "/v1/"
    file.path.write_text(json.dumps(document), "ascii")
    account = replace(Profiles({}, no_sandbox, file).volcengine("mine"), deadlines=PATIENT)
    with shop.buys(1):
        shop.buy(cvprocess(account, A))
    editor.change(file.read().revision, "mine", {"language": "en"}, {})
    stored = file.read().find("mine")
    assert stored is not None and "volcengine_gateway_api_key" in stored.keys
