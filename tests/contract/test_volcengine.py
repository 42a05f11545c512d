"""Volcengine's wire model and its one call: what is refused before anything is sent, and what goes up."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hidream_volcengine.api import InvalidInputError, checked, images, volcengine
from hidream_volcengine.api.geometry import Placement
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import SMALL, RawServer, answering

SIDES: dict[str, Any] = {"binary_data_base64": [SMALL], "top": 0.5, "left": 0.1}
CANVAS: dict[str, Any] = {"binary_data_base64": [SMALL, SMALL]}


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def refused(base: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        checked(volcengine.OutpaintRequest, **{**base, **changes})
    assert caught.value.billed == "no"
    assert SMALL[:100] not in str(caught.value)
    assert len(str(caught.value).split("\n")) == 2
    return str(caught.value)


def body(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    parsed = json.loads(checked(volcengine.OutpaintRequest, **{**base, **changes}).json_bytes())
    assert isinstance(parsed, dict)
    return parsed


# ---- fields

NAN, INFINITE = float("nan"), float("inf")
LIMITS: dict[str, tuple[list[Any], list[Any]]] = {
    "steps": ([1, 30, 100], [0, 101, 30.0, "30", True, None]),
    "strength": ([0.1, 0.8, 1.0, 1], [0.09, 1.01, 0, NAN, INFINITE, "0.8", True, None]),
    "scale": ([1, 1.0, 7.5, 20], [0.99, 20.1, -1, NAN, INFINITE, "7", True, None]),
    "seed": ([-1, 0, 2**31 - 1], [-2, 2**31, 1.0, "1", True, None]),
    "top": ([0.01, 0.5, 1, 1.0], [0, 0.0, -0.1, 1.01, NAN, INFINITE, "0.5", True]),
    "bottom": ([0.01, 1.0], [0, 1.01, NAN, "0.5", True]),
    "left": ([0.01, 1.0], [0, 1.01, NAN, "0.5", True]),
    "right": ([0.01, 1.0], [0, 1.01, NAN, "0.5", True]),
    "max_width": ([64, 1920, 4096], [63, 4097, 1920.0, "1920", True, None]),
    "max_height": ([64, 1920, 4096], [63, 4097, 1920.0, "1920", True, None]),
    "return_url": ([True, False], [1, "true"]),
    "req_key": (["i2i_outpainting"], ["i2i_inpainting", "", None, 1]),
    "prompt": (["", "words"], [1, ["words"]]),
    "custom_prompt": (["", "words"], [1, ["words"]]),
}
TAKEN = [(name, value) for name, (good, _) in LIMITS.items() for value in good]
REFUSED = [(name, value) for name, (_, bad) in LIMITS.items() for value in bad]


@pytest.mark.parametrize(("name", "value"), TAKEN, ids=str)
def test_a_value_within_the_limits_goes_up(name: str, value: Any) -> None:
    assert body(SIDES, **{name: value})[name] == value


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=str)
def test_a_value_beyond_the_limits_is_refused(name: str, value: Any) -> None:
    assert name in refused(SIDES, **{name: value})


@pytest.mark.parametrize("name", ["image", "logo", "Top", "negative_prompt", "take", "request_id"])
def test_an_unknown_field_is_refused(name: str) -> None:
    assert name in refused(SIDES, **{name: 1})


@pytest.mark.parametrize("name", ["binary_data_base64", "image_urls"])
@pytest.mark.parametrize(
    "value", [[], [""], [None], ["data:image/png;base64,AAAA"], "AAAA", [SMALL] * 3, [b"bytes"]], ids=repr
)
def test_images_are_one_or_two_texts(name: str, value: Any) -> None:
    assert name in refused({"top": 0.5, "left": 0.1}, **{name: value})


def test_images_go_up_as_base64_or_addresses() -> None:
    assert body(SIDES)["binary_data_base64"] == [SMALL]
    sent = body({"top": 0.5}, image_urls=["https://host.example.com/p.png"])
    assert sent["image_urls"] == ["https://host.example.com/p.png"] and "binary_data_base64" not in sent


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"top": 0.5},
        {"binary_data_base64": [SMALL]},
        {"binary_data_base64": [SMALL, SMALL], "top": 0.5},
        {"image_urls": ["https://host.example.com/p.png"]},
        {"image_urls": ["https://host.example.com/p.png"] * 2, "right": 1.0},
    ],
    ids=["nothing", "no image", "one image without sides", "canvas with sides", "address without sides",
         "canvas of addresses with sides"],
)  # fmt: skip
def test_the_two_modes_are_not_mixed(values: dict[str, Any]) -> None:
    refused(values)


def test_a_side_that_is_not_extended_does_not_go_up() -> None:
    assert {"top", "bottom", "left", "right"} & set(body(SIDES)) == {"top", "left"}
    assert not {"top", "bottom", "left", "right", "return_url", "image_urls"} & set(body(CANVAS))


@given(st.text(max_size=40))
def test_a_prompt_goes_up_under_both_names_or_neither(prompt: str) -> None:
    sent = body(SIDES, **volcengine.prompt_fields(prompt))
    expected = {"custom_prompt": prompt, "prompt": prompt} if prompt else {}
    assert {key: value for key, value in sent.items() if "prompt" in key} == expected


def test_a_prompt_that_is_no_unicode_is_refused() -> None:
    assert "prompt" in refused(SIDES, **volcengine.prompt_fields("half a \ud83d pair"))


# ---- the call


def test_the_query_and_the_path() -> None:
    with RawServer(answering(200, raw.finished_picture())) as server:
        raw.run(raw.volcengine_call(server.url))
        assert server.connections[0].request_line == ("POST /volcv/v1?Action=CVProcess&Version=2022-08-31 HTTP/1.1")
        environment = {
            "VOLCENGINE_ACCESS_KEY_ID": "AKLTsome", "VOLCENGINE_SECRET_ACCESS_KEY": "secret-some",
            "VOLCENGINE_BASE_URL": server.url,
        }  # fmt: skip
        raw.run(raw.volcengine_call("", account=raw.volcengine_account("", environment=environment)))
        assert server.connections[1].request_line == "POST /?Action=CVProcess&Version=2022-08-31 HTTP/1.1"


def emulated(emulator: Emulator, signed: bool) -> Any:
    gateway = {
        "VOLCENGINE_GATEWAY_API_KEY": "sandbox-gateway-api-key", "VOLCENGINE_GATEWAY_BASE_URL": emulator.url,
    }  # fmt: skip
    keys = {
        "VOLCENGINE_ACCESS_KEY_ID": "AKLTsandbox", "VOLCENGINE_SECRET_ACCESS_KEY": "sandbox-secret-access-key",
        "VOLCENGINE_BASE_URL": emulator.url,
    }  # fmt: skip
    return raw.volcengine_account("", environment=keys if signed else gateway)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "gateway"])
@pytest.mark.parametrize("return_url", [True, False, None], ids=["address", "base64", "default"])
def test_the_strict_emulator_takes_the_request(emulator: Emulator, signed: bool, return_url: bool | None) -> None:
    request = raw.sides_request(return_url=return_url, **volcengine.prompt_fields("海边"))
    delivery = raw.run(raw.volcengine_call("", account=emulated(emulator, signed), request=request))
    assert [picture.shape for picture in delivery.pictures] == [(72, 80, 3)]
    assert emulator.billed == 1
    assert delivery.task is not None and delivery.task.task_id == "" and delivery.task.request_id


def test_the_strict_emulator_takes_a_canvas_with_its_mask(emulator: Emulator) -> None:
    placement = Placement(120, 100, 20, 30, 64, 48)
    pixels = raw.photo()
    canvas = images.encode(images.paste_on_white(pixels, placement))
    mask = images.encode(images.frame_mask(placement))
    request = volcengine.OutpaintRequest(
        binary_data_base64=[base64.b64encode(data).decode() for data in (canvas, mask)]
    )
    (picture,) = raw.run(raw.volcengine_call("", account=emulated(emulator, True), request=request)).pictures
    assert picture.shape == (100, 120, 3)
    kept = images.cut_out(picture, placement).astype(int)
    assert abs(kept - pixels.astype(int)).mean() <= 2


@pytest.mark.parametrize(
    "data",
    [
        {"algorithm_base_resp": None},
        {"algorithm_base_resp": {}},
        {"algorithm_base_resp": {"status_code": "0"}},
        {"image_urls": []},
        {"image_urls": ["https://192.168.0.1/never-asked.png"]},
        {"binary_data_base64": [f"data:image/png;base64,{SMALL}"]},
        {"binary_data_base64": [SMALL, "AAAA"]},
        {"unknown": {"a": 1}},
    ],
    ids=str,
)
def test_an_answer_with_a_picture_is_delivered(data: dict[str, Any]) -> None:
    with RawServer(answering(200, raw.finished_picture(**data))) as server:
        (picture,) = raw.run(raw.volcengine_call(server.url)).pictures
        assert (picture == raw.photo()).all()
        assert server.accepted == 1


@pytest.mark.parametrize("status", [201, 202, 400, 500])
def test_a_picture_is_a_picture_at_any_http_status(status: int) -> None:
    with RawServer(answering(status, raw.finished_picture())) as server:
        assert len(raw.run(raw.volcengine_call(server.url)).pictures) == 1
        assert server.accepted == 1
