"""Each endpoint with the bodies and answers of its vectors: what the emulator takes, and what an answer becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from hidream_volcengine.api import CancelToken, PaidCall, Profiles, TaskRef, tensors
from hidream_volcengine.api.catalog import HiDreamEndpoint, VolcengineEndpoint, checked
from hidream_volcengine.api.core.task import Accepted, PollError, SubTask, UnknownTaskError
from hidream_volcengine.api.services import Service, hidream, volcengine
from hidream_volcengine.api.services.answers import NotAccepted
from hidream_volcengine.api.transport.received import Answer
from hidream_volcengine.api.transport.submit import Phases

from emulator.services.endpoint import ASYNC_SUBMIT, CVPROCESS
from emulator.services.routes import GATEWAY_PATH
from emulator.services.volcengine import VERSION
from tests.contract import paying
from tests.contract.paying import KEYS, A, B, Shop, encoded, pictures
from tests.contract.raw_servers import SENT, SMALL, no_sandbox
from tests.endpoints import ENDPOINTS, Vectors, changed, every_endpoint, filled

_MASK = np.full(A.shape[:2], 255, np.uint8)
_MASK[16:112, 16:80] = 0
# What stands for the names of the vectors: in a key, and on the wire.
PRINTS = {name: tensors.fingerprint(pixels) for name, pixels in (("IMAGE", A), ("CANVAS", B), ("MASK", _MASK))}
IMAGES = {"IMAGE": encoded(A), "CANVAS": encoded(B), "MASK": encoded(_MASK)}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal") as running:
        yield running


def ways(vectors: Vectors) -> list[bool]:
    """The values of VOLCENGINE_RESUMABLE that make a difference: whether the account asks for tasks."""
    endpoint = vectors.endpoint
    return [False, True] if isinstance(endpoint, VolcengineEndpoint) and endpoint.is_synchronous else [False]


every_way = pytest.mark.parametrize(
    ("vectors", "resumable"),
    [(vectors, resumable) for vectors in ENDPOINTS.values() for resumable in ways(vectors)],
    ids=lambda value: value.name if isinstance(value, Vectors) else "resumable" if value else "",
)


def call_of(vectors: Vectors, service: Service, body: dict[str, Any]) -> PaidCall:
    values = {name: filled(value, IMAGES) for name, value in body.items() if filled(value, IMAGES) != value}
    return PaidCall(service, checked(vectors.model, **filled(body, PRINTS)), lambda: values, 4_000_000)


# ---- what the emulator takes


@every_way
def test_the_emulator_takes_what_the_model_takes(vectors: Vectors, resumable: bool, shop: Shop) -> None:
    """Bought the whole way, once."""
    shop.settings["VOLCENGINE_RESUMABLE"] = str(int(resumable))
    service = shop.profiles.service("default", vectors.endpoint)
    for body in vectors.told["accepts"]:
        with shop.buys(1):
            came = pictures(shop.buy(call_of(vectors, service, body)))
        assert len(came) == shop.emulator.accepted[-1].pictures >= 1
        with shop.sends_nothing():
            assert paying.equal(pictures(shop.buy(call_of(vectors, service, body))), came)
    endpoints = {record.endpoint for record in shop.submits}
    assert endpoints == {"cvsync2async" if resumable else vectors.recorded}


@every_endpoint
def test_the_emulator_refuses_what_the_model_refuses(vectors: Vectors, shop: Shop) -> None:
    assert post(vectors, shop, vectors.smallest) == (200, True)
    for changes, _ in vectors.told["refuses"]:
        status, accepted = post(vectors, shop, changed(vectors.smallest, changes))
        assert not accepted, f"the emulator takes {changes}"
        assert status in (200, 400)
    assert not post(vectors, shop, {**vectors.smallest, "no_such_field": 1})[1]


def post(vectors: Vectors, shop: Shop, body: dict[str, Any]) -> tuple[int, bool]:
    """Send a body without the pack; return the HTTP status, and whether it was accepted."""
    before = len(shop.emulator.accepted)
    endpoint, url, query = vectors.endpoint, shop.emulator.url, {}
    sent = filled(body, IMAGES)
    if isinstance(endpoint, HiDreamEndpoint):
        url, key = url + endpoint.path, KEYS.hidream_token
    else:
        query = {"Action": CVPROCESS if endpoint.is_synchronous else ASYNC_SUBMIT, "Version": VERSION}
        url, key = url + GATEWAY_PATH, KEYS.gateway_api_key
        sent.setdefault("req_key", endpoint.req_key)
    answer = requests.post(url, params=query, json=sent, headers={"Authorization": f"Bearer {key}"}, timeout=20)
    return answer.status_code, len(shop.emulator.accepted) > before


# ---- what answers become


def answer_cases(kind: str) -> pytest.MarkDecorator:
    found = [
        pytest.param(vectors, resumable, told, id=f"{vectors.name}{' resumable' * resumable}-{json.dumps(told)[:70]}")
        for vectors in ENDPOINTS.values()
        for resumable in ways(vectors)
        for told in vectors.answers(kind)
        # An answer can repeat what was sent only of an endpoint that is sent an image.
        if "SENT" not in json.dumps(told) or filled(vectors.smallest, IMAGES) != vectors.smallest
    ]
    return pytest.mark.parametrize(("vectors", "resumable", "told"), found)


def answer_of(told: dict[str, Any]) -> Answer:
    text = json.dumps(told["body"]).replace("RESULT", SMALL).replace("SENT", SENT)
    return Answer(told.get("status", 200), {}, b"" if told["body"] == "" else text.encode())


def service_of(vectors: Vectors, resumable: bool) -> Service:
    settings = {
        "HIDREAM_TOKEN": KEYS.hidream_token,
        "VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key,
        "VOLCENGINE_GATEWAY_BASE_URL": "https://gateway.example.com",
        "VOLCENGINE_RESUMABLE": str(int(resumable)),
    }
    return Profiles(settings, no_sandbox).service("default", vectors.endpoint)


@answer_cases("answers")
def test_what_an_answer_to_a_submit_becomes(
    vectors: Vectors, resumable: bool, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hidream, volcengine):
        monkeypatch.setattr(module, "post_once", lambda *_, **__: answer_of(told))
    request = checked(vectors.model, **filled(vectors.smallest, dict.fromkeys(IMAGES, SENT)))
    try:
        came = service_of(vectors, resumable).submit(request, "our-request", Phases(CancelToken()))
    except NotAccepted as refused:
        assert (refused.meaning.error.__name__, refused.outcome.billed) == (told["becomes"], told.get("billed"))
    else:
        assert submitted(came) == told["becomes"]
        assert came.task.endpoint == vectors.endpoint.name


def submitted(came: Accepted) -> str:
    if came.picture is None:
        assert came.task.task_id
        return "task"
    assert came.picture.base64 or came.picture.image
    return "picture"


@answer_cases("queries")
def test_what_an_answer_to_a_query_becomes(
    vectors: Vectors, resumable: bool, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a synchronous endpoint whose task a gateway gave, or which another account submitted."""
    for module in (hidream, volcengine):
        monkeypatch.setattr(module, "ask", lambda *_, **__: answer_of(told))
    task = TaskRef(vectors.endpoint.provider, vectors.endpoint.name, "task-1", "request-1", ("sub-1",))
    try:
        [state] = service_of(vectors, resumable).query(task)
    except UnknownTaskError:
        assert told["becomes"] == "unknown task"
    except PollError:
        assert told["becomes"] == "no state"
    else:
        assert asked(state) == told["becomes"]
        assert (state.error.billed if state.error else None) == told.get("billed")


def asked(state: SubTask) -> str:
    if state.error is not None:
        return type(state.error).__name__
    if state.base64 or state.image:
        return "picture"
    if state.empty:
        return "done without a picture"
    return "running" if state.started else "waiting"
