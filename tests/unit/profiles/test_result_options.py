"""The options of Volcengine's results: checked, one form for every spelling, the owner's alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import ConfigurationError, ProfileEditor, ProfileFile, Profiles, RefusedEditError, Sandbox
from hidream_volcengine.api.catalog import ENDPOINTS
from hidream_volcengine.api.profiles.fields import SETTINGS, BadValueError
from hidream_volcengine.api.transport.account import VolcengineAccount

from tests.unit.purchase.test_keys import wire_models

KEYS = {"volcengine_access_key_id": "AKLTone", "volcengine_secret_access_key": "secret"}
OF_THE_ENVIRONMENT = {"VOLCENGINE_ACCESS_KEY_ID": "AKLTone", "VOLCENGINE_SECRET_ACCESS_KEY": "secret"}
LOGO = {"add_logo": True, "position": 3, "language": 1, "opacity": 0.5, "logo_text_content": "画室 canary"}
META = {"content_producer": "a", "producer_id": "canary-producer", "content_propagator": "c", "propagate_id": "d"}


def sandbox() -> Sandbox:
    return Sandbox("http://127.0.0.1:1", "token", "key")


def account(**variables: str) -> VolcengineAccount:
    return Profiles({**OF_THE_ENVIRONMENT, **variables}, sandbox).volcengine("default")


def options(**variables: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(account(**variables).options or "{}")
    return found


def test_off_unless_set() -> None:
    assert account().options == ""
    assert account(VOLCENGINE_LOGO_INFO=" ", VOLCENGINE_AIGC_META="").options == ""


def test_every_field_comes_as_it_was_given() -> None:
    found = options(VOLCENGINE_LOGO_INFO=json.dumps(LOGO), VOLCENGINE_AIGC_META=json.dumps(META))
    assert found == {"logo_info": LOGO, "aigc_meta": META}


@pytest.mark.parametrize(
    "spellings",
    [
        [
            '{"add_logo":true,"opacity":0.5,"logo_text_content":"é"}',
            ' { "logo_text_content": " \\u00e9 ", "opacity": 0.50, "add_logo": true } ',
            '{"add_logo": true, "position": 0, "language": 0, "opacity": 5e-1, "logo_text_content": "é"}',
        ],
        ['{"add_logo": true, "opacity": 1}', '{"opacity": 1.0, "add_logo": true, "logo_text_content": ""}'],
        ['{"add_logo": true, "opacity": 0}', '{"add_logo": true, "opacity": -0.0}'],
    ],
)
def test_equal_settings_are_one_whatever_their_spelling(spellings: Sequence[str]) -> None:
    assert len({account(VOLCENGINE_LOGO_INFO=spelled).options for spelled in spellings}) == 1


def test_an_opacity_that_is_not_given_is_left_to_the_service() -> None:
    """The pages disagree about its default: 1, or 0.3."""
    assert options(VOLCENGINE_LOGO_INFO='{"add_logo": true}')["logo_info"] == {
        "add_logo": True, "position": 0, "language": 0,
    }  # fmt: skip


@pytest.mark.parametrize("off", ['{"add_logo": false}', '{"add_logo": false, "logo_text_content": "canary"}'])
def test_a_logo_that_is_not_added_is_no_logo(off: str) -> None:
    """It changes no pixel: the requests are those without the setting."""
    assert account(VOLCENGINE_LOGO_INFO=off).options == ""
    assert set(options(VOLCENGINE_LOGO_INFO=off, VOLCENGINE_AIGC_META='{"producer_id": "a"}')) == {"aigc_meta"}


BAD_LOGOS = [
    "yes", "true", "[]", "null", "{", "{}", '{"position": 1}', '{"add_logo": 1}', '{"add_logo": "true"}',
    '{"add_logo": null}', '{"add_logo": true, "position": 4}', '{"add_logo": true, "position": -1}',
    '{"add_logo": true, "position": 1.5}', '{"add_logo": true, "position": true}',
    '{"add_logo": true, "position": "1"}', '{"add_logo": true, "language": 2}', '{"add_logo": true, "opacity": 1.1}',
    '{"add_logo": true, "opacity": NaN}', '{"add_logo": true, "opacity": -0.1}', '{"add_logo": true, "opacity": "1"}',
    '{"add_logo": true, "logo_text_content": 1}', '{"add_logo": true, "logo_text_content": "a\\nb"}',
    '{"add_logo": true, "logo_text_content": "\\u0000"}', '{"add_logo": true, "logo_text_content": "\\ud800"}',
    '{"add_logo": true, "canary-key": 1}', '{"add_logo": true} {}', "x" * 3000, '{"add_logo":\ntrue}',
]  # fmt: skip
BAD_METAS = [
    "{}", '{"producer_id": ""}', '{"producer_id": "  "}', '{"producer_id": 1}', '{"producer_id": null}',
    '{"content_producer": "a"}', '{"producer_id": "a", "producer": "b"}', '{"producer_id": "a\\u0007"}', "canary",
    '{"producer_id": "a", "propagate_id": null}',
]  # fmt: skip
BAD = [
    *[("volcengine_logo_info", value) for value in BAD_LOGOS],
    *[("volcengine_aigc_meta", value) for value in BAD_METAS],
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: ascii(value)[:50])
def test_a_bad_value_is_told_in_both_languages_and_not_repeated(name: str, value: str, tmp_path: Path) -> None:
    variable = name.upper()
    with pytest.raises(ConfigurationError) as caught:
        account(**{variable: value})
    assert caught.value.billed == "no"
    file = ProfileFile(lambda: tmp_path)
    editor = ProfileEditor(Profiles({}, sandbox, file), file)
    with pytest.raises(RefusedEditError) as refused:
        editor.add("none", "studio", {name: value}, KEYS)
    assert not file.path.exists()
    for text, named in ((caught.value.what, variable), (refused.value.why, name)):
        assert named in text.en and named in text.zh and text.zh != text.en
        assert "canary" not in text.en + text.zh


@pytest.mark.parametrize(
    ("value", "words"), [('{"add_logo": true, "position": 4}', "position:"), ('{"opacity": 0.5}', "add_logo:")]
)
def test_the_error_says_which_field_is_wrong(value: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        account(VOLCENGINE_LOGO_INFO=value)


def test_what_is_stored_can_be_read_again() -> None:
    """Also where the one form is longer than what was entered, at the limit of a setting's length."""
    logo = SETTINGS["volcengine_logo_info"].check
    forms = []
    for length in range(1900, 2048):
        with suppress(BadValueError):
            forms.append(logo(json.dumps({"add_logo": True, "logo_text_content": "x" * length})))
    assert 0 < len(forms) < 148
    assert [logo(form) for form in forms] == forms


@pytest.fixture
def file(tmp_path: Path) -> ProfileFile:
    return ProfileFile(lambda: tmp_path)


def stored(file: ProfileFile, **settings: object) -> dict[str, Any]:
    editor = ProfileEditor(Profiles({}, sandbox, file), file)
    editor.add(file.read().revision, "studio", settings, KEYS)
    profile = file.read().find("studio")
    assert profile is not None
    return dict(profile.settings)


def test_a_profile_stores_the_one_form(file: ProfileFile) -> None:
    settings = stored(file, volcengine_logo_info='{"opacity": 1, "add_logo": true}', volcengine_aigc_meta="")
    assert settings == {
        "volcengine_logo_info": '{"add_logo": true, "position": 0, "language": 0, "opacity": 1.0}',
    }  # fmt: skip


def test_a_profile_goes_before_the_environment_and_can_be_without_its_logo(file: ProfileFile) -> None:
    stored(file, volcengine_logo_info='{"add_logo": false}', volcengine_aigc_meta='{"producer_id": "own"}')
    everywhere = {"VOLCENGINE_LOGO_INFO": '{"add_logo": true}', "VOLCENGINE_AIGC_META": '{"producer_id": "server"}'}
    profiles = Profiles({**OF_THE_ENVIRONMENT, **everywhere}, sandbox, file)
    assert json.loads(profiles.volcengine("studio").options) == {"aigc_meta": {"producer_id": "own"}}
    assert json.loads(profiles.volcengine("default").options) == {
        "logo_info": {"add_logo": True, "position": 0, "language": 0},
        "aigc_meta": {"producer_id": "server"},
    }


def test_the_sandbox_and_hidream_have_none() -> None:
    variables = {"VOLCENGINE_LOGO_INFO": json.dumps(LOGO), "VOLCENGINE_AIGC_META": json.dumps(META)}
    profiles = Profiles({**OF_THE_ENVIRONMENT, "HIDREAM_TOKEN": "token", **variables}, sandbox)
    assert profiles.volcengine("sandbox").options == ""
    assert profiles.hidream("default").options == ""


def test_no_graph_can_name_them() -> None:
    """Not as a widget, nor as a field of a request."""
    for endpoint in ENDPOINTS:
        for node in endpoint.nodes:
            assert not {"logo_info", "aigc_meta"} & {given.id for given in node.inputs}
    for model in wire_models():
        assert not {"logo_info", "aigc_meta"} & set(model.model_fields)


def test_no_representation_shows_them() -> None:
    whole = account(VOLCENGINE_LOGO_INFO=json.dumps(LOGO), VOLCENGINE_AIGC_META=json.dumps(META))
    assert "canary" in whole.options and "canary" not in repr(whole)
