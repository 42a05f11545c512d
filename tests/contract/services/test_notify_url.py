"""``notify_url``: an address of the owner's own system, passed through to HiDream and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hidream_volcengine.api import AmbiguousSubmitError, ConfigurationError, ProfileEditor, ProfileFile, Profiles
from hidream_volcengine.api.core.redaction import hide_address, redact
from pytest import LogCaptureFixture, MonkeyPatch

from tests.contract import paying
from tests.contract import raw_servers as raw
from tests.contract.paying import ANY_CALL, A, Shop, cvprocess, every_service, park, pictures, upscale

VARIABLE = "REMOTE_IMAGE_NOTIFY_URL"
URL = "https://owner.example.com:8443/hooks/?for=comfy&key=a%2Fb"
HIDREAM = ["outpaint", "img2img", "upscale", "variation"]


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


def resolved(url: str) -> str:
    return Profiles({"HIDREAM_TOKEN": "token-1", VARIABLE: url}, raw.no_sandbox).hidream("default").notify_url


# ---- the setting


@pytest.mark.parametrize("unset", ["", "  "])
def test_empty_is_unset(unset: str) -> None:
    assert resolved(unset) == ""


@pytest.mark.parametrize(
    "url",
    [URL, "https://owner.example.com", "https://owner.example.com/", "https://owner.example.com?x=1", "https://10.0.0.1/x",
     "https://owner.example.com/@a:b/%E5%9B%BE", "http://127.0.0.1:8900/done?x=1", "http://localhost/x", "http://[::1]:1/"],
)  # fmt: skip
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert resolved(url) == resolved(f" {url}\t") == url


@pytest.mark.parametrize(
    "url",
    ["http://owner.example.com/canary-word", "http://10.0.0.1/canary-word", "ftp://127.0.0.1/canary-word",
     "owner.example.com/canary-word", "//owner.example.com/canary-word", "https://", "https:///canary-word",
     "https://user:canary-word@owner.example.com/", "https://canary-word@owner.example.com/",
     "https://owner.example.com/canary-word#", "https://owner.example.com/canary-word#part",
     "https://owner.example.com/canary-word two", "https://owner.example.com/canary-word\nX: y",
     "https://owner.example.com/canary-word/图", "https://owner.example.com:0/canary-word",
     "https://owner.example.com:99999/canary-word", "https://[canary-word", "https://owner.example.com\\canary-word/",
     "https://owner.example.com/" + "x" * 3000],
)  # fmt: skip
def test_what_is_no_https_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=VARIABLE) as caught:
        resolved(url)
    assert "canary-word" not in str(caught.value) and "canary-word" not in repr(caught.value)


def test_an_address_that_is_not_valid_is_an_error_before_buying(shop: Shop) -> None:
    shop.settings[VARIABLE] = "http://owner.example.com"
    with shop.sends_nothing(), pytest.raises(ConfigurationError, match=VARIABLE):
        shop.buy(upscale(shop.hidream, A))
    assert pictures(shop.buy(cvprocess(shop.volcengine, A)))


def test_a_profile_s_own_one_wins_over_the_environment(tmp_path: Path) -> None:
    file = ProfileFile(lambda: tmp_path)
    profiles = Profiles({VARIABLE: URL}, raw.no_sandbox, file)
    editor = ProfileEditor(profiles, file)
    editor.add(file.read().revision, "mine", {}, {"hidream_token": "token-1"})
    assert profiles.hidream("mine").notify_url == URL
    editor.change(file.read().revision, "mine", {"notify_url": "https://mine.example.com/done/"}, {})
    assert profiles.hidream("mine").notify_url == "https://mine.example.com/done/"
    document = json.loads(file.path.read_bytes())
    document["profiles"][0]["settings"]["notify_url"] = "https://u:canary-word@mine.example.com"
    file.path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="notify_url") as caught:
        profiles.hidream("mine")
    assert "canary-word" not in str(caught.value)


# ---- the body


@every_service
def test_hidream_alone_gets_it(shop: Shop, service: str) -> None:
    shop.buy(ANY_CALL[service](shop, A))
    shop.settings[VARIABLE] = URL
    shop.buy(ANY_CALL[service](shop, A, 1))
    sent = [record.body.get("notify_url") for record in shop.emulator.accepted]
    assert sent == [None, URL if service in HIDREAM else None]
    assert "notify_url" not in shop.emulator.accepted[0].body


def test_tasks_of_volcengine_do_not_get_it(shop: Shop) -> None:
    shop.settings |= {VARIABLE: URL, "VOLCENGINE_RESUMABLE": "1"}
    shop.buy(cvprocess(shop.volcengine, A))
    assert "notify_url" not in str(shop.emulator.accepted[0].body)


@pytest.mark.parametrize("service", HIDREAM)
def test_the_sandbox_does_not_get_it(shop: Shop, service: str) -> None:
    shop.settings[VARIABLE] = URL
    shop.profile = "sandbox"
    shop.buy(ANY_CALL[service](shop, A))
    assert "notify_url" not in shop.submits[0].body


def test_a_retry_of_the_same_attempt_sends_it_again(shop: Shop) -> None:
    shop.settings[VARIABLE] = URL
    shop.fault("submit", status=429, headers={"Retry-After": "0"})
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A))
    assert [record.body["notify_url"] for record in shop.submits] == [URL, URL]


# ---- money


@pytest.mark.parametrize("service", HIDREAM)
def test_setting_changing_and_removing_it_buys_nothing_anew(shop: Shop, service: str) -> None:
    with shop.buys(1):
        first = pictures(shop.buy(ANY_CALL[service](shop, A)))
    for url in (URL, "https://other.example.com/", ""):
        shop.settings[VARIABLE] = url
        with shop.sends_nothing():
            assert paying.equal(pictures(shop.buy(ANY_CALL[service](shop, A))), first)
    assert len(shop.emulator.accepted) == 1


def test_a_parked_task_is_resumed_and_an_unclear_one_explained_with_another_address(shop: Shop) -> None:
    park(shop, "upscale")
    shop.mend()
    shop.fault("submit", reset="after")
    with shop.buys(1):
        shop.trouble(upscale(shop.hidream, A, 1))
    shop.settings[VARIABLE] = URL
    with shop.buys(0):
        assert pictures(shop.buy(upscale(shop.hidream, A)))
        assert isinstance(shop.trouble(upscale(shop.hidream, A, 1)), AmbiguousSubmitError)


# ---- it may be a secret


SECRET_URL = "https://owner.example.com/hook/0123456789abcdef?key=a%2Bsecret%2Fof%3Dodd%26signs"


@pytest.mark.parametrize(
    "repeated",
    [SECRET_URL, quote(SECRET_URL, safe=""), SECRET_URL.replace("/", "\\/"), SECRET_URL.partition(".com")[2],
     SECRET_URL.partition("?")[2], "0123456789abcdef", "a+secret/of=odd&signs"],
)  # fmt: skip
def test_a_service_that_repeats_it_does_not_publish_it(repeated: str) -> None:
    hide_address(SECRET_URL)
    said = redact(f"invalid notify_url {repeated} !")
    assert "0123456789abcdef" not in said and "odd" not in said and said.startswith("invalid notify_url ")


def test_a_short_one_is_hidden_as_a_whole() -> None:
    hide_address("https://owner.example.com/cb/x7f9")
    assert "x7f9" not in redact("cannot reach https://owner.example.com/cb/x7f9.")


@pytest.mark.parametrize("url", ["", "https://storage.example.com", "https://storage.example.com/", "https://h/image/upscale"])
def test_ordinary_words_of_it_stay_as_they_are_in_ids_and_addresses(url: str) -> None:
    """These are redacted where they are shown."""
    hide_address(url)
    for kept in ("https://storage.example.com/image/upscale/1.png", "hidream upscale", "7491596536074305586"):
        assert redact(kept) == kept


def test_the_account_does_not_show_it() -> None:
    account = Profiles({"HIDREAM_TOKEN": "token-1", VARIABLE: URL}, raw.no_sandbox).hidream("default")
    assert "owner.example.com" not in f"{account} {account!r}"


# ---- the variables of callbacks


@pytest.mark.parametrize(
    "names",
    [["REMOTE_IMAGE_CALLBACK_URL"], ["REMOTE_IMAGE_CALLBACK_LISTEN"],
     ["REMOTE_IMAGE_CALLBACK_URL", "REMOTE_IMAGE_CALLBACK_LISTEN"], []],
    ids=str,
)  # fmt: skip
def test_variables_that_do_nothing_any_more_are_told_once(
    tmp_path: Path, names: list[str], monkeypatch: MonkeyPatch, caplog: LogCaptureFixture
) -> None:
    for name in ("REMOTE_IMAGE_CALLBACK_URL", "REMOTE_IMAGE_CALLBACK_LISTEN"):
        monkeypatch.setenv(name, "https://canary-word.example.com" if name in names else " ")
    monkeypatch.setenv("HIDREAM_TOKEN", "token-1")
    profiles = Profiles.of_this_server(raw.no_sandbox, ProfileFile(lambda: tmp_path))
    for _ in range(2):
        assert profiles.hidream("default").notify_url == ""
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == bool(names)
    for message in told:
        assert all(name in message for name in [*names, VARIABLE]) and "polled as before" in message
        assert "canary-word" not in message


def test_the_key_file_of_callbacks_is_left_alone_and_none_is_made(shop: Shop) -> None:
    shop.settings |= {"REMOTE_IMAGE_CALLBACK_URL": "https://owner.example.com", VARIABLE: URL}
    shop.buy(upscale(shop.hidream, A))
    key = shop.folder / "callback.key"
    assert not key.exists()
    key.write_bytes(b"old")
    shop.restart()
    with shop.sends_nothing():
        shop.buy(upscale(shop.hidream, A))
    assert key.read_bytes() == b"old"
    assert shop.submits[0].body["notify_url"] == URL
