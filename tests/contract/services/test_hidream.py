"""HiDream's wire models and endpoints: what is refused before anything is sent, and what goes up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hidream_volcengine.api import InvalidInputError, RemoteImageError, catalog
from hidream_volcengine.api.catalog import HiDreamEndpoint, HiDreamRequest, checked
from hidream_volcengine.api.catalog.endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_upscale,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pytest import MonkeyPatch

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import SMALL, RawServer

OUTPAINT = {"image": SMALL, "x_offset": 0, "y_offset": 0, "resolution": "1024*1024"}
IMG2IMG = {"image": SMALL}
UPSCALE = {"image": SMALL, "upsale_ratio": 2}
VARIATION = {"image": SMALL, "template_id": 1}
MODELS: dict[type[HiDreamRequest], dict[str, Any]] = {
    hidream_outpaint.Request: OUTPAINT,
    hidream_image_to_image.Request: IMG2IMG,
    hidream_upscale.Request: UPSCALE,
    hidream_model_photo_set.Request: VARIATION,
}
every_model = pytest.mark.parametrize("model", list(MODELS), ids=lambda model: model.__name__)


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def refused(model: type[HiDreamRequest], **changes: Any) -> str:
    """The message; it names every changed field, in both languages, and repeats no image."""
    with pytest.raises(InvalidInputError) as caught:
        checked(model, **{**MODELS[model], **changes})
    assert caught.value.billed == "no"
    assert SMALL[:100] not in str(caught.value)
    for line in str(caught.value).split("\n"):
        for name in changes:
            assert name in line
    return str(caught.value)


def body(model: type[HiDreamRequest], **changes: Any) -> dict[str, Any]:
    parsed = json.loads(checked(model, **{**MODELS[model], **changes}).json_bytes())
    assert isinstance(parsed, dict)
    return parsed


# ---- fields


@every_model
@pytest.mark.parametrize("image", [None, "", 1, b"bytes", "data:image/png;base64,AAAA", {"url": "x"}], ids=str)
def test_image_is_base64_or_an_address(model: type[HiDreamRequest], image: Any) -> None:
    refused(model, image=image)


@every_model
@pytest.mark.parametrize("image", ["DATA:image/png;base64,AAAA", " data:image/png;base64,AAAA", "Data:,x"])
def test_a_data_prefix_is_seen_in_any_spelling(model: type[HiDreamRequest], image: str) -> None:
    refused(model, image=image)


@every_model
@pytest.mark.parametrize("image", [SMALL, "https://host.example.com/photo.png?x=1"], ids=["base64", "address"])
def test_image_goes_up_as_it_is(model: type[HiDreamRequest], image: str) -> None:
    assert body(model, image=image)["image"] == image


@every_model
@pytest.mark.parametrize("name", ["seed", "Image", "upscale_ratio", "person", "img-count", "take"])
def test_an_unknown_field_is_refused(model: type[HiDreamRequest], name: str) -> None:
    refused(model, **{name: 1})


@every_model
@pytest.mark.parametrize("name", ["request_id", "notify_url"])
@pytest.mark.parametrize("value", [1, True, [], {}], ids=str)
def test_common_fields_are_texts(model: type[HiDreamRequest], name: str, value: Any) -> None:
    refused(model, **{name: value})


@every_model
def test_what_is_not_set_does_not_go_up(model: type[HiDreamRequest]) -> None:
    assert "notify_url" not in body(model)
    assert body(model, notify_url="https://host.example.com/done")["notify_url"] == "https://host.example.com/done"


@every_model
def test_a_request_cannot_be_changed_afterwards(model: type[HiDreamRequest]) -> None:
    request = checked(model, **MODELS[model])
    with pytest.raises(ValidationError):
        request.image = "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["x_offset", "y_offset"])
@pytest.mark.parametrize("value", [-1, 1025, 0.5, 1.0, "1", True, None], ids=repr)
def test_outpaint_offsets(name: str, value: Any) -> None:
    refused(hidream_outpaint.Request, **{name: value})


@pytest.mark.parametrize("value", ["", "1024", "1024x1024", "0*5", "5*0", "-5*5", "01*5", " 64*64", "64*64 ", "64*64\n",
                                   "64.0*64", "10000*64", "１*１", 1024, None, [1024, 1024]], ids=repr)  # fmt: skip
def test_outpaint_resolution(value: Any) -> None:
    refused(hidream_outpaint.Request, resolution=value)


@pytest.mark.parametrize("value", ["1025*64", "64*1025", "2048*2048", "9999*9999", "1٣*64"])
def test_outpaint_resolution_is_1024_at_most(value: str) -> None:
    refused(hidream_outpaint.Request, resolution=value)


def test_outpaint_takes_its_limits() -> None:
    for value in ("1*1", "1024*1024", "64*1024"):
        assert body(hidream_outpaint.Request, resolution=value)["resolution"] == value
    assert body(hidream_outpaint.Request, x_offset=1024)["x_offset"] == 1024
    assert body(hidream_outpaint.Request)["version"] == body(hidream_upscale.Request)["version"] == "v1"
    refused(hidream_outpaint.Request, version="v2")


@pytest.mark.parametrize("value", [0, 5, -1, 1.5, "1", True, None], ids=repr)
def test_img2img_count(value: Any) -> None:
    refused(hidream_image_to_image.Request, img_count=value)


@pytest.mark.parametrize("value", ["1:2", "16/9", "", "1:1 ", 1.0, None], ids=repr)
def test_img2img_aspect_ratio(value: Any) -> None:
    refused(hidream_image_to_image.Request, aspect_ratio=value)


def test_img2img_takes_its_choices() -> None:
    for ratio in ("9:16", "2:3", "4:3", "1:1", "3:4", "3:2", "16:9"):
        assert body(hidream_image_to_image.Request, aspect_ratio=ratio)["aspect_ratio"] == ratio
    for count in (1, 2, 3, 4):
        assert body(hidream_image_to_image.Request, img_count=count)["img_count"] == count
    assert body(hidream_image_to_image.Request, image=[SMALL, SMALL])["image"] == [SMALL, SMALL]
    assert body(hidream_image_to_image.Request, prompt="海边 ☀")["prompt"] == "海边 ☀"


@pytest.mark.parametrize("image", [[], [""], ["data:image/png;base64,AAAA"], [SMALL, None], [[SMALL]]], ids=len)
def test_img2img_references(image: Any) -> None:
    refused(hidream_image_to_image.Request, image=image)


@pytest.mark.parametrize("value", [1, 3, 8, 0, "2", True, None], ids=repr)
def test_upscale_ratio(value: Any) -> None:
    refused(hidream_upscale.Request, upsale_ratio=value)


def test_upscale_key_is_spelt_as_the_service_spells_it() -> None:
    for ratio in (2, 4):
        sent = body(hidream_upscale.Request, upsale_ratio=ratio)["upsale_ratio"]
        assert sent == ratio and type(sent) is int


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True, None], ids=repr)
def test_template_id(value: Any) -> None:
    refused(hidream_model_photo_set.Request, template_id=value)


@every_model
def test_a_missing_field_is_named(model: type[HiDreamRequest]) -> None:
    for name in MODELS[model]:
        rest = {key: value for key, value in MODELS[model].items() if key != name}
        with pytest.raises(InvalidInputError, match=name):
            checked(model, **rest)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_prompt_goes_up_as_it_is(prompt: str, negative: str) -> None:
    sent = body(hidream_image_to_image.Request, prompt=prompt, negative_prompt=negative)
    assert (sent["prompt"], sent["negative_prompt"]) == (prompt, negative)


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_prompt_that_is_no_unicode_is_refused(name: str) -> None:
    refused(hidream_image_to_image.Request, **{name: "half a \ud83d pair"})


def test_a_long_list_of_faults_repeats_no_image() -> None:
    big = "data:image/png;base64," + SMALL
    message = refused(hidream_image_to_image.Request, image=[big] * 20, img_count=9)
    assert "img_count" in message


# ---- endpoints


def test_paths_are_those_of_the_pages() -> None:
    endpoints = [endpoint for endpoint in catalog.ENDPOINTS if isinstance(endpoint, HiDreamEndpoint)]
    assert {endpoint.path for endpoint in endpoints} >= {
        "/api-pub/gw/v3/image/outpainting/async",
        "/api-pub/gw/v2/image/img2img/async",
        "/api-pub/gw/v3/image/image_upscaler/async",
        "/api-pub/ec/v3/image/variation/async",
    }
    for endpoint in endpoints:
        assert endpoint.results_path == f"{endpoint.path}/results"
        assert catalog.endpoint_named(endpoint.name) is endpoint
        assert endpoint.on_ec_host == ("/ec/" in endpoint.path)


def test_each_endpoint_has_its_own_host() -> None:
    with RawServer(raw.serving) as gateway, RawServer(raw.serving) as commerce:
        account = raw.hidream_account(
            gateway.url, environment={"HIDREAM_TOKEN": raw.TOKEN, "HIDREAM_EC_BASE_URL": commerce.url}
        )
        account = raw.replace(account, ec_base_url=commerce.url, auth=both_hosts(gateway.url, commerce.url))
        variation = raw.hidream_call(
            "", account=account, endpoint=hidream_model_photo_set.ENDPOINT, request=raw.photo_set_request()
        )
        raw.run(variation)
        assert (gateway.accepted, commerce.accepted) == (0, 3)
        raw.run(raw.hidream_call("", account=account))
        assert (gateway.accepted, commerce.accepted) == (3, 3)


def both_hosts(*urls: str) -> Any:
    from hidream_volcengine.api.core.redaction import Secret
    from hidream_volcengine.api.transport.auth import BearerAuth
    from hidream_volcengine.api.transport.connection import origin

    return BearerAuth(Secret(raw.TOKEN), frozenset(origin(url) for url in urls))


ENDPOINTS = [
    (hidream_outpaint.ENDPOINT, raw.outpaint_request, [(128, 160)]),
    (hidream_image_to_image.ENDPOINT, raw.img2img_request, [(1024, 1024), (1024, 1024)]),
    (hidream_upscale.ENDPOINT, raw.upscale_request, [(96, 128)]),
    (hidream_model_photo_set.ENDPOINT, raw.photo_set_request, [(1024, 768), (1200, 900), (1024, 768), (1200, 900)]),
]


@pytest.mark.service_sizes
@pytest.mark.parametrize(("endpoint", "request_of", "sizes"), ENDPOINTS, ids=lambda value: getattr(value, "name", ""))
def test_the_strict_emulator_takes_every_request(
    emulator: Emulator, endpoint: HiDreamEndpoint, request_of: Any, sizes: list[tuple[int, int]]
) -> None:
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_TOKEN": "sandbox-hidream-token"})
    delivery = raw.run(raw.hidream_call("", account=account, endpoint=endpoint, request=request_of()))
    assert [picture.shape[:2] for picture in delivery.pictures] == sizes
    assert emulator.billed == len(sizes)


def test_the_services_own_refusal_is_shown(emulator: Emulator) -> None:
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_TOKEN": "sandbox-hidream-token"})
    off = hidream_outpaint.Request(image=SMALL, x_offset=1000, y_offset=0, resolution="160*128")
    call = raw.hidream_call("", account=account, endpoint=hidream_outpaint.ENDPOINT, request=off)
    with pytest.raises(RemoteImageError, match=r"1001.*leaves the canvas"):
        raw.run(call)
    assert emulator.billed == 0
    broken = raw.hidream_call("", account=account, request=raw.upscale_request("AAAA"))
    with pytest.raises(InvalidInputError, match="1051"):
        raw.run(broken)
    assert emulator.billed == 0


def test_a_template_that_the_service_does_not_have_is_chosen_with_the_button(emulator: Emulator) -> None:
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_TOKEN": "sandbox-hidream-token"})
    request = raw.photo_set_request().model_copy(update={"template_id": 9999})
    with pytest.raises(InvalidInputError, match="there is no template 9999") as problem:
        raw.run(raw.hidream_call("", account=account, endpoint=hidream_model_photo_set.ENDPOINT, request=request))
    assert "with the node's button" in problem.value.advice.en
    assert "按钮" in problem.value.advice.zh
    assert problem.value.billed == "no"
    # What is wrong with something else says nothing of templates.
    too_wide = raw.photo_set_request().model_copy(update={"image": SMALL})
    with pytest.raises(RemoteImageError) as problem:
        raw.run(raw.hidream_call("", account=account, endpoint=hidream_model_photo_set.ENDPOINT, request=too_wide))
    assert "button" not in problem.value.advice.en
    assert emulator.accepted == []
