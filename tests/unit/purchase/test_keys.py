"""The key of a request: what makes it another purchase, what does not, and its value for ever."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hidream_volcengine.api import PaidCall, Profiles, Run, Sandbox, tensors
from hidream_volcengine.api.catalog import HiDreamEndpoint, WireRequest, checked
from hidream_volcengine.api.catalog.endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_upscale,
    volcengine_outpaint,
)
from hidream_volcengine.api.purchase.order import orders_of, request_key
from hidream_volcengine.api.services import HiDreamService, VolcengineService
from hypothesis import given
from hypothesis import strategies as st

from tests.endpoints import ENDPOINTS

Service = HiDreamService | VolcengineService
ENVIRONMENT = {
    "HIDREAM_TOKEN": "one-day-token",
    "VOLCENGINE_ACCESS_KEY_ID": "AKLTone",
    "VOLCENGINE_SECRET_ACCESS_KEY": "secret",
}


def photo(seed: int = 1, width: int = 4, height: int = 3) -> tensors.Pixels:
    """Pixels that no library decides about: their key is to stay for ever."""
    return (np.arange(width * height * 3) * 7 + seed).astype(np.uint8).reshape(height, width, 3)


PRINT, OTHER = tensors.fingerprint(photo(1)), tensors.fingerprint(photo(2))
MASK = tensors.fingerprint(np.array([[255, 255, 0, 0]] * 3, np.uint8))


def no_sandbox() -> Sandbox:
    raise AssertionError("the sandbox was not asked for")


def hidream_service(endpoint: HiDreamEndpoint = hidream_upscale.ENDPOINT, /, **environment: str) -> HiDreamService:
    return HiDreamService(Profiles({**ENVIRONMENT, **environment}, no_sandbox).hidream("default"), endpoint)


def volcengine_service(**environment: str) -> VolcengineService:
    account = Profiles({**ENVIRONMENT, **environment}, no_sandbox).volcengine("default")
    return VolcengineService(account, volcengine_outpaint.ENDPOINT)


def call(service: Service, model: type[Any], take: int = 0, **body: Any) -> PaidCall:
    def encode() -> dict[str, Any]:
        raise AssertionError("a key needs no encoded image")

    return PaidCall(service, checked(model, **body), encode, 1000, take)


def keys_of(calls: Sequence[PaidCall]) -> list[str]:
    """Of the calls of one node."""
    return [order.key for order in orders_of(calls, Run("prompt-1").node().item())]


def key(only: PaidCall) -> str:
    [found] = keys_of([only])
    return found


UPSCALE: tuple[Service, type[Any], dict[str, Any]] = (
    hidream_service(),
    hidream_upscale.Request,
    {"image": PRINT, "upsale_ratio": 2},
)
OUTPAINT: tuple[Service, type[Any], dict[str, Any]] = (
    hidream_service(hidream_outpaint.ENDPOINT),
    hidream_outpaint.Request,
    {"image": PRINT, "x_offset": 1, "y_offset": 2, "resolution": "64*48"},
)
IMG2IMG: tuple[Service, type[Any], dict[str, Any]] = (
    hidream_service(hidream_image_to_image.ENDPOINT),
    hidream_image_to_image.Request,
    {"image": PRINT, "prompt": "海边 ☀", "negative_prompt": "", "aspect_ratio": "1:1", "img_count": 2},
)
PHOTO_SET: tuple[Service, type[Any], dict[str, Any]] = (
    hidream_service(hidream_model_photo_set.ENDPOINT),
    hidream_model_photo_set.Request,
    {"image": PRINT, "template_id": 20},
)
SIDES: tuple[Service, type[Any], dict[str, Any]] = (
    volcengine_service(),
    volcengine_outpaint.Request,
    {"binary_data_base64": [PRINT], "top": 0.5, "left": 0.25, "seed": 7},
)
CANVAS: tuple[Service, type[Any], dict[str, Any]] = (
    volcengine_service(),
    volcengine_outpaint.Request,
    {"binary_data_base64": [PRINT, MASK], "custom_prompt": "a sea", "prompt": "a sea", "scale": 5.5},
)
ORDERS = {
    "outpaint": OUTPAINT,
    "img2img": IMG2IMG,
    "upscale": UPSCALE,
    "photo set": PHOTO_SET,
    "sides": SIDES,
    "canvas": CANVAS,
}
every_order = pytest.mark.parametrize("order", list(ORDERS.values()), ids=list(ORDERS))


def key_of(order: tuple[Service, type[Any], dict[str, Any]], take: int = 0, **changes: Any) -> str:
    service, model, body = order
    return key(call(service, model, take, **{**body, **changes}))


# ---- for ever


GOLDEN = {
    "outpaint": "17b89428b5f07b7a4714708ec1fd9b7f9c7f26eddf4fd0b55ea3138f7b4ca792",
    "img2img": "9ca47d73c2d7be7cfc25e5ca2fd49da778da14dd91b86490a0b9eec7ac815f1c",
    "upscale": "7e59fe63aa58a6d9fde96c01fbd3f17f610a136efaa3f59859f0189671c9b19e",
    "photo set": "f781a9ed48e56adf29929f5c8ed836517f3ef8f8946bbb84230eccf19f9ca511",
    "sides": "035b62f6594336546c8baa3e14357f01a2e7ad92b21e74f4dd2082b7f42e7c7b",
    "canvas": "b271f0b0ec229d5dc281e7672c52c8fe29d31d0f53b204f739c949b7109e678b",
}


@pytest.mark.parametrize("name", list(ORDERS))
def test_a_key_never_changes(name: str) -> None:
    """A changed key forgets every purchase that was made under it: users would pay for them once more."""
    assert key_of(ORDERS[name]) == GOLDEN[name]


# The fields that had a default of their own when their model was released; the key holds it.
RELEASED_DEFAULTS: dict[str, dict[str, Any]] = {
    "wire.HiDreamRequest": {"request_id": ""},
    **{
        f"{name}.Request": {
            field: value for field, value in vectors.told.get("sends", {}).items() if field not in vectors.smallest
        }
        for name, vectors in ENDPOINTS.items()
    },
}


def wire_models(model: type[WireRequest] = WireRequest) -> Iterator[type[WireRequest]]:
    for derived in model.__subclasses__():
        if derived.__module__.startswith("hidream_volcengine."):
            yield derived
            yield from wire_models(derived)


def test_a_wire_field_that_is_added_defaults_to_none() -> None:
    """It is then left out of body and key; any other default would make every request another purchase."""
    defaults = {
        f"{model.__module__.rpartition('.')[2]}.{model.__name__}": {
            name: field.default
            for name, field in model.model_fields.items()
            if not field.is_required() and field.default is not None
        }
        for model in wire_models()
    }
    assert defaults == RELEASED_DEFAULTS


def test_a_fingerprint_never_changes() -> None:
    assert PRINT == "sha256:06de15a0a2ec0f1e389f1a84db5d3c709911e9ff12834cafa2e4a3d1ec94c7fd:4x3"


def test_what_the_key_of_a_call_is_made_of() -> None:
    """Word for word, so that nothing else is in it: no key of a service, no address, no id of a request."""
    whole = (
        '{"account":"HIDREAM_TOKEN","body":{"aspect_ratio":"1:1","image":"' + PRINT + '","img_count":2,'
        '"negative_prompt":"","prompt":"\\u6d77\\u8fb9 \\u2600"},"endpoint":"hidream image to image",'
        '"occurrence":0,"service":"hidream","take":0,"version":1}'
    )
    assert key_of(IMG2IMG) == hashlib.sha256(whole.encode("ascii")).hexdigest()


# ---- what is another purchase


CHANGES: list[tuple[str, dict[str, Any]]] = [
    *[("outpaint", change) for change in ({"x_offset": 2}, {"y_offset": 1}, {"resolution": "48*64"}, {"image": OTHER})],
    ("outpaint", {"x_offset": 2, "y_offset": 1}),
    *[("img2img", change) for change in ({"prompt": "海边☀"}, {"negative_prompt": "x"}, {"aspect_ratio": "3:4"})],
    *[("img2img", change) for change in ({"img_count": 1}, {"image": OTHER}, {"image": [PRINT, OTHER]})],
    ("img2img", {"image": [OTHER, PRINT]}),
    ("img2img", {"prompt": "", "negative_prompt": "海边 ☀"}),
    *[("upscale", change) for change in ({"upsale_ratio": 4}, {"image": OTHER})],
    *[("photo set", change) for change in ({"template_id": 21}, {"image": OTHER})],
    *[("sides", {side: 0.125}) for side in ("top", "bottom", "left", "right")],
    *[("sides", change) for change in ({"seed": 8}, {"seed": -1}, {"steps": 31}, {"strength": 0.5}, {"scale": 8.0})],
    *[("sides", change) for change in ({"max_width": 512}, {"max_height": 512}, {"custom_prompt": "x"})],
    ("sides", {"prompt": "x"}),
    ("sides", {"binary_data_base64": [OTHER]}),
    *[("canvas", {"binary_data_base64": pair}) for pair in ([OTHER, MASK], [PRINT, PRINT], [MASK, PRINT])],
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=str)
def test_every_field_of_the_body_counts(name: str, change: dict[str, Any]) -> None:
    assert key_of(ORDERS[name], **change) != key_of(ORDERS[name])


@every_order
def test_all_fields_that_a_wire_model_has_were_changed_above(order: Any) -> None:
    """A field that comes later is looked at here."""
    _, model, _ = order
    no_part = {"request_id", "notify_url", "return_url", "version", "req_key", "image_urls"}
    changed = {field for name, change in CHANGES for field in change if ORDERS[name][1] is model}
    assert set(model.model_fields) - no_part <= changed


@every_order
def test_take_counts(order: Any) -> None:
    keys = {key_of(order, take) for take in (0, 1, 2, 2**31 - 1)}
    assert len(keys) == 4


def test_all_changes_and_takes_together_are_all_other_purchases() -> None:
    keys = [key_of(ORDERS[name], take, **change) for name, change in CHANGES for take in (0, 1)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (photo(1), photo(2)),
        (photo(1, 4, 3), photo(1, 3, 4)),
        (photo(1, 12, 1), photo(1, 1, 12)),
        (photo(), photo()[:, ::-1]),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)),
    ],
)
def test_every_pixel_and_the_size_count(first: Any, second: Any) -> None:
    assert tensors.fingerprint(first) != tensors.fingerprint(second)
    one_more = first.copy()
    one_more[-1, -1] ^= 1
    assert tensors.fingerprint(one_more) != tensors.fingerprint(first)


def test_a_fingerprint_is_of_pixels_wherever_they_lie_in_memory() -> None:
    large = photo(3, 40, 30)
    assert tensors.fingerprint(large[5:20, 3:17]) == tensors.fingerprint(large[5:20, 3:17].copy())
    assert tensors.fingerprint(np.asfortranarray(large)) == tensors.fingerprint(large)


def test_account_endpoint_and_service_count() -> None:
    _, model, body = UPSCALE
    services = [
        hidream_service(),
        hidream_service(HIDREAM_TOKEN="", HIDREAM_API_KEY="key"),
        hidream_service(REMOTE_IMAGE_ACCOUNT="studio"),
        hidream_service(hidream_model_photo_set.ENDPOINT),
        HiDreamService(sandbox(1).hidream("sandbox"), hidream_upscale.ENDPOINT),
    ]
    keys = {key(call(service, model, **body)) for service in services}
    assert len(keys) == len(services)
    # The same account id at another service, or in the sandbox's place, is still another account.
    named = "sandbox"
    keys |= {key(call(hidream_service(REMOTE_IMAGE_ACCOUNT=named), model, **body))}
    assert len(keys) == len(services) + 1


# ---- what is the same purchase


@every_order
def test_neither_ids_nor_addresses_count(order: Any) -> None:
    _, model, _ = order
    neither: dict[str, Any] = {
        "request_id": "another-one",
        "notify_url": "https://example.com/done",
        "return_url": True,
    }
    for name in set(neither) & set(model.model_fields):
        assert key_of(order, **{name: neither[name]}) == key_of(order)


@every_order
def test_a_value_that_is_the_default_may_be_left_out(order: Any) -> None:
    service, model, body = order
    whole = {name: value for name, value in checked(model, **body).model_dump().items() if value is not None}
    assert key(call(service, model, **whole)) == key(call(service, model, **body))


def test_an_integer_in_the_place_of_a_real_number_is_the_same_number() -> None:
    assert key_of(SIDES, scale=7, strength=1) == key_of(SIDES, scale=7.0, strength=1.0)


@pytest.mark.parametrize(
    "environment",
    [
        {"HIDREAM_TOKEN": "the token of the next day"},
        {"HIDREAM_API_KEY": "which does not win"},
        {"HIDREAM_LANGUAGE": "en"},
        {"HIDREAM_BASE_URL": "https://other.example.com"},
        {"REMOTE_IMAGE_PICTURES_PER_DAY": "5"},
        {"REMOTE_IMAGE_QUEUE_SECONDS": "5"},
        {"REMOTE_IMAGE_NOTIFY_URL": "https://owner.example.com/done"},
    ],
    ids=str,
)
def test_neither_the_token_nor_other_settings_count(environment: dict[str, str]) -> None:
    environment = {name: value.replace(" ", "-") for name, value in environment.items()}
    _, model, body = UPSCALE
    assert key(call(hidream_service(**environment), model, **body)) == key_of(UPSCALE)


def test_a_rotated_api_key_and_a_rotated_access_key_are_the_same_account() -> None:
    _, model, body = UPSCALE
    both = [hidream_service(HIDREAM_TOKEN="", HIDREAM_API_KEY=value) for value in ("old", "new")]
    assert len({key(call(service, model, **body)) for service in both}) == 1
    _, model, body = SIDES
    assert key(call(volcengine_service(VOLCENGINE_ACCESS_KEY_ID="AKLTtwo"), model, **body)) == key_of(SIDES)
    assert key(call(volcengine_service(VOLCENGINE_RESUMABLE="1"), model, **body)) == key_of(SIDES)


def test_a_renamed_profile_is_the_same_account() -> None:
    service = hidream_service()
    renamed = replace(service, account=replace(service.account, profile="studio"))
    _, model, body = UPSCALE
    assert key(call(renamed, model, **body)) == key_of(UPSCALE)


def sandbox(port: int) -> Profiles:
    return Profiles(ENVIRONMENT, lambda: Sandbox(f"http://127.0.0.1:{port}", f"token-{port}", f"key-{port}"))


def test_the_sandbox_is_one_whatever_its_port() -> None:
    _, model, body = UPSCALE
    services = [HiDreamService(sandbox(port).hidream("sandbox"), hidream_upscale.ENDPOINT) for port in (1, 2)]
    assert len({key(call(service, model, **body)) for service in services}) == 1
    _, model, body = SIDES
    gateways = [VolcengineService(sandbox(port).volcengine("sandbox"), volcengine_outpaint.ENDPOINT) for port in (1, 2)]
    assert len({key(call(service, model, **body)) for service in gateways}) == 1


# ---- equal requests of one call


A, B, C = (call(*UPSCALE[:2], **{**UPSCALE[2], "image": tensors.fingerprint(photo(seed))}) for seed in (1, 2, 3))


@pytest.mark.parametrize("calls", list(itertools.permutations([A, B, C])), ids=lambda calls: None)
def test_the_position_in_a_batch_does_not_count(calls: Sequence[PaidCall]) -> None:
    assert keys_of(calls) == [key(one) for one in calls]


def test_equal_requests_are_told_apart_by_their_number_among_themselves() -> None:
    first, second, third = keys_of([A, A, A])
    assert len({first, second, third}) == 3 and first == key(A)
    assert keys_of([B, A, C, A, B]) == [key(B), first, key(C), second, keys_of([B, B])[1]]


def test_what_is_sent_in_another_encoding_is_an_equal_request() -> None:
    jpeg = replace(A, encode=lambda: {"image": "jpeg"}, expected_pixels=7)
    assert keys_of([A, jpeg]) == keys_of([A, A])


# ---- the function itself


VALUES = st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.lists(st.text(), max_size=3)
BODIES = st.dictionaries(st.text(max_size=8), VALUES, max_size=5)
PARTS = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["hidream", "sandbox", ""]),
        "endpoint": st.text(max_size=3),
        "account": st.text(max_size=3),
        "body": BODIES,
        "take": st.integers(0, 2**31 - 1),
        "occurrence": st.integers(0, 300),
    }
)


def canonical(parts: dict[str, Any]) -> str:
    """As a text that tells 1 from 1.0 and from True, as JSON does."""
    body = sorted(parts["body"].items(), key=lambda item: str(item[0]))
    return repr(sorted({**parts, "body": body}.items()))


@given(PARTS, PARTS)
def test_two_orders_have_one_key_only_if_they_are_equal(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert (request_key(**first) == request_key(**second)) == (canonical(first) == canonical(second))


@given(PARTS, st.randoms())
def test_the_order_of_fields_does_not_count(parts: dict[str, Any], random: Any) -> None:
    shuffled = list(parts["body"].items())
    random.shuffle(shuffled)
    assert request_key(**{**parts, "body": dict(shuffled)}) == request_key(**parts)
