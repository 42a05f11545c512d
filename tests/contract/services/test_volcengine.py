"""Volcengine's wire model and its one call: what is refused before anything is sent, and what goes up."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    CancelToken,
    Deadlines,
    InvalidInputError,
    ModerationError,
    RemoteImageError,
    TaskFailedError,
    TaskRef,
    tensors,
)
from hidream_volcengine.api.catalog import checked
from hidream_volcengine.api.catalog.endpoints import volcengine_outpaint
from hidream_volcengine.api.core.task import Accepted, PollError, SubTask, UnknownTaskError
from hidream_volcengine.api.pixels.geometry import Placement
from hidream_volcengine.api.services import VolcengineService
from hidream_volcengine.api.transport.submit import Phases
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import SMALL, Connection, RawServer, answering

NAME = volcengine_outpaint.ENDPOINT.name
SIDES: dict[str, Any] = {"binary_data_base64": [SMALL], "top": 0.5, "left": 0.1}
CANVAS: dict[str, Any] = {"binary_data_base64": [SMALL, SMALL]}


def prompt_fields(prompt: str) -> dict[str, str | None]:
    """Under both keys, because the official samples disagree; an empty one is left out."""
    return dict.fromkeys(("custom_prompt", "prompt"), prompt or None)


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def refused(base: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        checked(volcengine_outpaint.Request, **{**base, **changes})
    assert caught.value.billed == "no"
    assert SMALL[:100] not in str(caught.value)
    assert len(str(caught.value).split("\n")) == 2
    return str(caught.value)


def body(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    parsed = json.loads(checked(volcengine_outpaint.Request, **{**base, **changes}).json_bytes())
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
    sent = body(SIDES, **prompt_fields(prompt))
    expected = {"custom_prompt": prompt, "prompt": prompt} if prompt else {}
    assert {key: value for key, value in sent.items() if "prompt" in key} == expected


def test_a_prompt_that_is_no_unicode_is_refused() -> None:
    assert "prompt" in refused(SIDES, **prompt_fields("half a \ud83d pair"))


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
    request = raw.sides_request(return_url=return_url, **prompt_fields("海边"))
    delivery = raw.run(raw.volcengine_call("", account=emulated(emulator, signed), request=request))
    assert [picture.shape for picture in delivery.pictures] == [(72, 80, 3)]
    assert emulator.billed == 1
    assert delivery.task is not None and delivery.task.task_id == "" and delivery.task.request_id


def test_the_strict_emulator_takes_a_canvas_with_its_mask(emulator: Emulator) -> None:
    placement = Placement(120, 100, 20, 30, 64, 48)
    pixels = raw.photo()
    canvas = tensors.encode(tensors.paste_on_white(pixels, placement))
    mask = tensors.encode(tensors.frame_mask(placement))
    request = volcengine_outpaint.Request(
        binary_data_base64=[base64.b64encode(data).decode() for data in (canvas, mask)]
    )
    (picture,) = raw.run(raw.volcengine_call("", account=emulated(emulator, True), request=request)).pictures
    assert picture.shape == (100, 120, 3)
    kept = tensors.cut_out(picture, placement).astype(int)
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


@pytest.mark.parametrize("status", [201, 202])
def test_a_picture_is_a_picture_at_any_status_of_success(status: int) -> None:
    with RawServer(answering(status, raw.finished_picture())) as server:
        assert len(raw.run(raw.volcengine_call(server.url)).pictures) == 1
        assert server.accepted == 1


# ---- resumable: submitted as a task

WORDS = "vendor words 甲乙"
HTML = "<html><body>some gateway page</body></html>"


def told(data: Any, code: int | str | None = 10000, **more: Any) -> dict[str, Any]:
    return {"code": code, "data": data, "message": WORDS, "request_id": "vendor-request-9", **more}


def submitted(body: Any, status: int = 200) -> Accepted:
    with RawServer(answering(status, body)) as server:
        service = VolcengineService(raw.resumable_account(server.url), volcengine_outpaint.ENDPOINT)
        accepted = service.submit(raw.sides_request(), "our-request", Phases(CancelToken()))
        (connection,) = server.connections
        assert connection.request_line == "POST /volcv/v1?Action=CVSync2AsyncSubmitTask&Version=2022-08-31 HTTP/1.1"
        assert connection.json == json.loads(raw.sides_request().json_bytes())
        assert server.whole == 1
        return accepted


@pytest.mark.parametrize("task_id", ["task-1", "7392616336519610409", 7392616336519610409])
@pytest.mark.parametrize("status", [200, 202, 400, 500])
def test_a_task_id_is_an_acceptance_whatever_stands_around_it(task_id: Any, status: int) -> None:
    body = told({"task_id": task_id, "binary_data_base64": None, "image_urls": None, "status": "", "new": {}})
    accepted = submitted(body, status)
    assert accepted.picture is None
    assert accepted.task == TaskRef("Volcengine", NAME, str(task_id), "vendor-request-9")


@pytest.mark.parametrize(
    "data",
    [None, {}, [], "task-1", {"task_id": ""}, {"task_id": None}, {"task_id": True}, {"task_id": ["task-1"]}],
    ids=str,
)
def test_a_submit_that_brings_no_task_id_is_ambiguous(data: Any) -> None:
    with RawServer(answering(200, told(data))) as server, raw.fresh_journal() as journal:
        call = raw.volcengine_call("", account=raw.resumable_account(server.url))
        for _ in range(2):
            with pytest.raises(AmbiguousSubmitError):
                raw.run(call, journal)
        assert (server.accepted, server.whole) == (1, 1)


# ---- resumable: asked for

TASK = TaskRef("Volcengine", NAME, "task-1", "vendor-request-1")


def asked(step: raw.Step, deadlines: Deadlines = raw.QUICK) -> SubTask:
    """What one query says of the only picture; it is asked once, for this task, with the key."""
    with RawServer(step) as server:
        try:
            account = raw.resumable_account(server.url, deadlines)
            (sub_task,) = VolcengineService(account, volcengine_outpaint.ENDPOINT).query(TASK)
            return sub_task
        finally:
            (connection,) = server.connections
            line = "POST /volcv/v1?Action=CVSync2AsyncGetResult&Version=2022-08-31 HTTP/1.1"
            assert connection.request_line == line
            assert connection.headers["authorization"] == f"Bearer {raw.TOKEN}"
            assert connection.json["req_key"] == "i2i_outpainting" and connection.json["task_id"] == "task-1"
            # Without it the product code gets an address that lives for an hour.
            assert json.loads(connection.json["req_json"]) == {"return_url": False}


def at(status: str, **data: Any) -> dict[str, Any]:
    return told({"status": status, "binary_data_base64": None, "image_urls": None, **data})


@pytest.mark.parametrize(("status", "started"), [("in_queue", False), ("generating", True), ("paused", False)])
@pytest.mark.parametrize("data", [{}, {"binary_data_base64": []}, {"algorithm_base_resp": {"status_code": 0}}], ids=str)
def test_a_task_under_way(status: str, started: bool, data: dict[str, Any]) -> None:
    sub_task = asked(answering(200, at(status, **data)))
    assert (sub_task.started, sub_task.ended, sub_task.error) == (started, False, None)


def test_a_picture_of_a_task() -> None:
    sub_task = asked(answering(200, at("done", binary_data_base64=[SMALL], task_id="task-1")))
    assert (sub_task.ended, sub_task.base64, sub_task.image, sub_task.error) == (True, SMALL, "", None)
    sub_task = asked(answering(200, at("done", image_urls=["https://host.example.com/p.png?sign=s"])))
    assert (sub_task.ended, sub_task.base64) == (True, "")
    assert sub_task.image == "https://host.example.com/p.png?sign=s" and "sign=s" not in repr(sub_task)


NO_STATE: dict[str, raw.Step] = {
    "50429": answering(429, told(None, 50429)),
    "50430": answering(429, told(None, 50430)),
    "50429 at 200": answering(200, told(None, "50429")),
    "429": answering(429, b""),
    "50500": answering(500, told(None, 50500)),
    "50501": answering(500, told(None, 50501)),
    "50520": answering(400, told(None, 50520)),
    "500": answering(500, b""),
    "a refusal at 502": answering(502, told(None, 50413)),
    "page at 502": answering(502, HTML, content_type="text/html"),
    "page at 200": answering(200, HTML, content_type="text/html"),
    "nothing": answering(200, b""),
    "not json": answering(200, b'{"code": 10000'),
    "a list": answering(200, b"[]"),
    "unknown code": answering(200, told(None, 64001)),
    "a parameter of the poll": answering(400, told(None, 50200)),
    "401": answering(401, {"error": {"message": WORDS, "code": "invalid_api_key"}}),
    "403": answering(403, {"ResponseMetadata": {"Error": {"Code": "SignatureDoesNotMatch", "Message": WORDS}}}),
    "404": answering(404, HTML, content_type="text/html"),
    "redirect": answering(302, b"", {"Location": "/elsewhere"}),
    "reset": raw.resetting("whole"),
    "cut": raw.resetting("answer"),
}


@pytest.mark.parametrize("trouble", list(NO_STATE))
def test_a_query_that_brings_no_state_says_nothing_about_the_task(trouble: str) -> None:
    with pytest.raises(PollError) as caught:
        asked(NO_STATE[trouble])
    assert type(caught.value) is PollError
    assert str(caught.value)


@pytest.mark.parametrize("lists", [{}, {"binary_data_base64": [], "image_urls": []}, {"image_urls": [None]}])
@pytest.mark.parametrize("word", ["done", "Done"])
def test_done_without_a_picture_is_no_end_and_is_shown(lists: dict[str, Any], word: str) -> None:
    sub_task = asked(answering(200, at(word, **lists)))
    assert not sub_task.ended and sub_task.error is None
    assert word in sub_task.empty


def test_a_query_that_hangs_or_drips_is_given_up() -> None:
    def drip(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not connection.stopping.wait(0.02):
            connection.send(b" ")

    for step in (raw.hanging, drip):
        with pytest.raises(PollError):
            asked(step, Deadlines(connect=0.2, poll=0.2))


@pytest.mark.parametrize("data", [{}, {"binary_data_base64": []}], ids=str)
def test_a_task_that_the_service_does_not_know(data: dict[str, Any]) -> None:
    with pytest.raises(UnknownTaskError):
        asked(answering(200, at("not_found", **data)))


def ended(step: raw.Step) -> RemoteImageError:
    sub_task = asked(step)
    assert sub_task.ended and sub_task.started and not sub_task.image and not sub_task.base64
    error = sub_task.error
    assert error is not None
    assert (error.provider, error.task_id, error.request_id) == ("Volcengine", "task-1", "vendor-request-1")
    # What was accepted may have been billed, whatever the table says of such a word before acceptance.
    assert error.billed == "unknown"
    return error


def test_an_expired_result_is_told_apart_from_a_failure() -> None:
    error = ended(answering(200, at("expired")))
    assert error.code == "expired" and "expired" in error.what.en and "expired" in error.what.zh
    assert not isinstance(error, TaskFailedError)


@pytest.mark.parametrize("code", [50411, 50412, 50413, 50512, 50518, 50511, 50516, 50517, 50519])
@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize("code_as", [int, str])
def test_a_check_of_contents_ends_the_task_also_where_it_speaks_first(code: int, status: int, code_as: type) -> None:
    error = ended(answering(status, told(None, code_as(code))))
    assert type(error) is ModerationError
    assert (error.code, error.vendor_message) == (code, WORDS)
    assert "`take`" in error.advice.en and "`take`" in error.advice.zh, "the same request again brings this error again"


@pytest.mark.parametrize("status", ["generating", "done"])
def test_an_algorithm_that_failed_ends_the_task(status: str) -> None:
    failed = {"status_code": 201304, "status_message": WORDS}
    error = ended(answering(200, at(status, algorithm_base_resp=failed)))
    assert (type(error), error.code, error.vendor_message) == (TaskFailedError, 201304, WORDS)


@pytest.mark.parametrize(
    "told",
    [
        {"data": {"status": "done", "binary_data_base64": [SMALL]}},
        {"code": "success", "data": {"status": "done", "binary_data_base64": [SMALL]}},
        {"code": 7, "data": {"binary_data_base64": [SMALL]}},
        {"code": 200, "data": {"code": 10000, "data": {"status": "done", "image": SMALL}}},
        {"code": 10000, "data": {"algorithm_base_resp": {"status_code": 1}, "binary_data_base64": [SMALL]}},
    ],
    ids=str,
)
def test_a_picture_of_a_task_counts_whatever_stands_beside_it(told: dict[str, Any]) -> None:
    assert asked(answering(200, told)).base64 == SMALL


def test_a_whole_purchase_as_a_task() -> None:
    answers = iter(
        [
            told({"task_id": "task-1"}),
            at("not_found"),
            at("in_queue"),
            at("generating"),
            told(None, 50429),
            at("done", binary_data_base64=[SMALL]),
        ]
    )

    def service(connection: Connection) -> None:
        connection.read()
        connection.answer(200, next(answers))

    with RawServer(service) as server, raw.fresh_journal() as journal:
        call = raw.volcengine_call("", account=raw.resumable_account(server.url))
        delivery = raw.run(call, journal)
        assert [picture.shape for picture in delivery.pictures] == [(48, 64, 3)]
        assert delivery.task == TaskRef("Volcengine", NAME, "task-1", "vendor-request-9")
        actions = [connection.request_line.split("Action=")[1].split("&")[0] for connection in server.connections]
        assert actions == ["CVSync2AsyncSubmitTask"] + ["CVSync2AsyncGetResult"] * 5
        # The same picture, whichever way it is bought.
        again = raw.run(raw.volcengine_call(server.url), journal)
        assert again.source == "reused" and server.accepted == 6
