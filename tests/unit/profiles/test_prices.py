"""The owner's prices: what may be entered, how they are kept, and that a bad one never keeps a node from buying."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api.catalog import ENDPOINTS
from hidream_volcengine.api.core import ConfigurationError, Price
from hidream_volcengine.api.profiles import ProfileEditor, ProfileFile, Profiles, RefusedEditError, resolve
from hidream_volcengine.api.profiles.fields import PRICES, SETTINGS, BadValueError, amount, currency, day

from devtools.environment import ROOT
from tests.unit.purchase.test_keys import GOLDEN, SIDES, UPSCALE, call, hidream_service, key, volcengine_service

KEYS = {"hidream_token": "token-of-studio", "volcengine_access_key_id": "i", "volcengine_secret_access_key": "s"}
OWN = {"prices_currency": "CNY", "price_hidream_upscale": "0.22", "price_volcengine_outpaint": "0.2"}


def no_sandbox() -> Any:
    pytest.fail("the sandbox was started")


@pytest.fixture
def file(tmp_path: Path) -> ProfileFile:
    return ProfileFile(lambda: tmp_path)


@pytest.fixture
def editor(file: ProfileFile) -> ProfileEditor:
    return ProfileEditor(Profiles({}, no_sandbox, file), file)


def written(file: ProfileFile, **settings: object) -> Profiles:
    """The profile ``studio``, as somebody has written it into the file by hand."""
    entry = {
        "name": "studio",
        "account": "account-of-studio",
        "settings": settings,
        "keys": {
            "hidream_token": {
                "value": "token-of-studio",
                "for": ["https://www.hidreamai.com:443/", "https://hidreamai.com:443/"],
            },
        },
    }
    file.path.write_text(json.dumps({"version": 1, "profiles": [entry]}), encoding="ascii")
    return Profiles({}, no_sandbox, file)


# ---- checks


@pytest.mark.parametrize(
    ("entered", "kept"),
    [
        ("0.22", "0.22"),
        (" 0.20\n", "0.20"),
        (0.22, "0.22"),
        (0.1, "0.1"),
        (0.000001, "0.000001"),
        (1, "1"),
        (0, "0"),
        ("0", "0"),
        ("999999.999999", "999999.999999"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_amount_is_kept_to_the_digit(entered: object, kept: str) -> None:
    assert amount(entered) == kept
    assert amount(kept) == kept
    if kept:
        assert Decimal(kept) == Decimal(str(entered).strip())


@pytest.mark.parametrize(
    "entered",
    [
        *("-1", "+1", "1000000", "0.0000001", "1e3", "0,22", "0.2 CNY", "¥0.2", "٠.٢", "０.２", "1_0", ".5", "5.", "x"),
        *("NaN", "Infinity", "0x1", True, False, -1, -0.5, 10**6, 1e6, 1e-7, float("nan"), float("inf"), [], {}),
        *("9" * 5000, 10**4000),
    ],
    ids=lambda entered: str(entered)[:20],
)
def test_no_amount(entered: object) -> None:
    with pytest.raises(BadValueError) as refused:
        amount(entered)
    assert refused.value.shown == ""


def test_a_currency_is_three_letters() -> None:
    assert [currency(each) for each in ("CNY", " usd ", "", "Eur")] == ["CNY", "USD", "", "EUR"]
    for bad in ("¥", "CN", "YUAN", "C1Y", "ßs", "ＣＮＹ", "CNY USD", 156, None):
        with pytest.raises(BadValueError):
            currency(bad)


def test_a_day_is_written_in_one_way() -> None:
    assert [day(each) for each in ("2026-12-01", " 2024-02-29", "")] == ["2026-12-01", "2024-02-29", ""]
    for bad in ("2026-13-01", "2025-02-29", "1.12.2026", "20261201", "2026-W49-2", "2026-12-1", "today", 20261201):
        with pytest.raises(BadValueError):
            day(bad)


# ---- settings


def test_every_endpoint_has_a_setting_of_its_own_without_a_number() -> None:
    assert sorted(endpoint.name for endpoint in PRICES.values()) == sorted(endpoint.name for endpoint in ENDPOINTS)
    assert PRICES["price_hidream_upscale"].name == "hidream upscale"
    for name in [*PRICES, "prices_currency", "prices_date"]:
        assert (SETTINGS[name].variable, SETTINGS[name].default, SETTINGS[name].unset) == ("", "", "")


def test_they_are_saved_shown_and_unset(file: ProfileFile, editor: ProfileEditor) -> None:
    entered = {"price_hidream_upscale": 0.22, "prices_currency": "cny", "prices_date": "2026-12-01"}
    shown = editor.add("none", "studio", entered, KEYS)
    kept = {"price_hidream_upscale": "0.22", "prices_currency": "CNY", "prices_date": "2026-12-01"}
    assert {name: value for name, value in shown.profiles[1].settings.items() if name in kept} == kept
    assert list(shown.prices) == list(PRICES)
    found = file.read().find("studio")
    assert found is not None and dict(found.settings) == kept
    shown = editor.change(shown.revision, "studio", dict.fromkeys(kept, ""), {})
    found = file.read().find("studio")
    assert found is not None and dict(found.settings) == {}
    assert {shown.profiles[1].settings[name] for name in kept} == {""}


def test_an_amount_needs_a_currency(file: ProfileFile, editor: ProfileEditor) -> None:
    with pytest.raises(RefusedEditError, match="price_hidream_upscale needs prices_currency"):
        editor.add("none", "studio", {"price_hidream_upscale": "0.22"}, KEYS)
    shown = editor.add("none", "studio", {"price_hidream_upscale": "0", "prices_currency": "CNY"}, KEYS)
    before = file.path.read_bytes()
    with pytest.raises(RefusedEditError, match="price_hidream_upscale needs prices_currency"):
        editor.change(shown.revision, "studio", {"prices_currency": ""}, {})
    assert file.path.read_bytes() == before
    editor.change(shown.revision, "studio", {"prices_currency": "", "price_hidream_upscale": ""}, {})


def test_a_bad_value_is_refused_in_words(file: ProfileFile, editor: ProfileEditor) -> None:
    for name, bad, words in (
        ("price_hidream_upscale", "0,22", "price_hidream_upscale must be an amount"),
        ("prices_currency", "yuan", "prices_currency must be three letters"),
        ("prices_date", "1.12.", "prices_date must be a date"),
    ):
        with pytest.raises(RefusedEditError, match=words):
            editor.add("none", "studio", {"prices_currency": "CNY", name: bad}, KEYS)
    assert not file.path.exists()


def test_what_is_written_by_hand_is_shown_and_may_be_corrected(file: ProfileFile) -> None:
    own = {"price_hidream_upscale": 0.22, "price_hidream_text_to_image": 1e-06, "prices_currency": "cny", "colour": [1]}
    profiles = written(file, price_hidream_outpaint="0,3", **own)
    editor = ProfileEditor(profiles, file)
    shown = editor.shown()
    found = shown.profiles[1].settings
    assert (found["price_hidream_upscale"], found["price_hidream_outpaint"]) == ("0.22", "0,3")
    assert found["price_hidream_text_to_image"] == "0.000001"
    # Another setting can be saved; a change of the prices tells of the bad one.
    shown = editor.change(shown.revision, "studio", {"language": "en"}, {})
    with pytest.raises(RefusedEditError, match="price_hidream_outpaint must be an amount"):
        editor.change(shown.revision, "studio", {"price_hidream_upscale": "0.3"}, {})
    editor.change(shown.revision, "studio", {"price_hidream_outpaint": "0.3"}, {})
    settings = json.loads(file.path.read_bytes())["profiles"][0]["settings"]
    assert settings == {**own, "price_hidream_outpaint": "0.3", "language": "en"}


# ---- accounts


def test_an_account_has_the_prices_of_its_service(file: ProfileFile, editor: ProfileEditor) -> None:
    editor.add("none", "studio", OWN, KEYS)
    profiles = Profiles({}, no_sandbox, file)
    assert profiles.hidream("studio").prices == {"hidream upscale": Price(Decimal("0.22"), "CNY")}
    assert profiles.volcengine("studio").prices == {"volcengine outpaint": Price(Decimal("0.2"), "CNY")}


def test_the_environment_s_key_is_paid_by_the_prices_of_default(file: ProfileFile, editor: ProfileEditor) -> None:
    profiles = Profiles({"HIDREAM_TOKEN": "t"}, no_sandbox, file)
    assert profiles.hidream("default").prices == {}
    editor.change("none", "default", OWN, {})
    assert profiles.hidream("default").prices == {"hidream upscale": Price(Decimal("0.22"), "CNY")}


def test_a_number_of_the_file_is_exact(file: ProfileFile) -> None:
    profiles = written(file, price_hidream_upscale=0.22, price_hidream_outpaint=0, prices_currency="cny")
    assert profiles.hidream("studio").prices == {
        "hidream upscale": Price(Decimal("0.22"), "CNY"),
        "hidream outpaint": Price(Decimal(0), "CNY"),
    }


@pytest.mark.parametrize(
    ("settings", "left", "told"),
    [
        ({"price_hidream_upscale": "canary 0,22"}, {"hidream outpaint"}, ["price_hidream_upscale"]),
        ({"price_hidream_upscale": [22]}, {"hidream outpaint"}, ["price_hidream_upscale"]),
        ({"prices_currency": "canary"}, set(), ["prices_currency"]),
        ({"prices_currency": 7}, set(), ["prices_currency"]),
        ({"prices_currency": None}, set(), ["prices_currency"]),
        ({"prices_date": "canary"}, {"hidream outpaint"}, []),
    ],
    ids=str,
)
def test_a_bad_price_is_logged_once_and_buying_goes_on(
    file: ProfileFile,
    settings: dict[str, object],
    left: set[str],
    told: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolve, "_warned", set())
    profiles = written(file, **{"price_hidream_outpaint": "0.731", "prices_currency": "CNY", **settings})
    for _ in range(3):
        assert set(profiles.hidream("studio").prices) == left
    messages = [record.getMessage() for record in caplog.records if "price" in record.getMessage()]
    assert len(messages) == len(set(messages))
    for name in told:
        assert any(name in message and "studio" in message for message in messages)
    assert bool(messages) is bool(told)
    assert "canary" not in caplog.text and "0.731" not in caplog.text


def test_other_bad_values_stop_a_call_as_before(file: ProfileFile) -> None:
    with pytest.raises(ConfigurationError, match="language"):
        written(file, language="xx", **OWN).hidream("studio")


def test_a_price_is_not_in_a_request_s_key() -> None:
    prices = {endpoint.name: Price(Decimal("0.22"), "CNY") for endpoint in ENDPOINTS}
    for name, (_, model, body), service in (
        ("upscale", UPSCALE, hidream_service()),
        ("sides", SIDES, volcengine_service()),
    ):
        priced = replace(service, account=replace(service.account, prices=prices))
        assert key(call(priced, model, **body)) == GOLDEN[name]


def test_a_profile_of_0_1_takes_prices_and_keeps_all_else(file: ProfileFile, editor: ProfileEditor) -> None:
    """Where 0.1 reads the file, it finds the number that it wrote, and entries whose names it does not know."""
    before = (ROOT / "tests" / "fixtures" / "0.1" / "user" / "profiles.json").read_text(encoding="utf-8")
    file.path.write_text(before, encoding="utf-8")
    prices = {"price_hidream_upscale": "0.22", "prices_currency": "CNY", "prices_date": "2026-12-01"}
    editor.change(file.read().revision, "studio", prices, {})
    expected = json.loads(before)
    [studio] = [profile for profile in expected["profiles"] if profile["name"] == "studio"]
    studio["settings"].update(prices)
    written_now = json.loads(file.path.read_bytes())
    # The keys are bound to the whole address by any change; that has tests of its own.
    for profile in (*expected["profiles"], *written_now["profiles"]):
        del profile["keys"]
    assert written_now == expected
