"""A task id or a result picture decides, whatever a service or a gateway has put around it, and is bought once."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    AuthenticationError,
    Batch,
    BatchOutcome,
    CancelToken,
    InvalidInputError,
    ModerationError,
    PaidCall,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    Run,
    TaskFailedError,
)
from hidream_volcengine.api.core.errors import Provider
from hidream_volcengine.api.core.reading import base64_bytes
from hidream_volcengine.api.core.task import Accepted, CallHandle
from hidream_volcengine.api.services import hidream, volcengine
from hidream_volcengine.api.services.answers import NotAccepted, Reply
from hidream_volcengine.api.transport.received import Answer
from hidream_volcengine.api.transport.submit import Phases
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import paying
from tests.contract import raw_servers as raw
from tests.contract.paying import ANY_CALL, A, Shop, cvprocess, equal, pictures
from tests.contract.purchase.test_submit_table import CALLS, COMMON_TABLE, both_services, failing
from tests.contract.raw_servers import SENT, SMALL, RawServer, answering

WORDS = "vendor words 甲乙"
PROVIDERS: tuple[Provider, ...] = ("HiDream", "Volcengine")


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


def resumable_call(url: str) -> PaidCall:
    return raw.volcengine_call("", account=raw.resumable_account(url))


def bought_once(call: PaidCall, server: RawServer) -> list[str]:
    """The notes of a call that delivers its picture; queued again it costs nothing."""
    with raw.fresh_journal() as journal:
        batch = Batch(journal, [call], Run().node().item())
        result = batch.run(0, CallHandle(CancelToken(), lambda progress: None))
        assert result.error is None, str(result.error)
        assert result.delivery is not None and len(result.delivery.pictures) == 1
        assert len(raw.run(call, journal).pictures) == 1
        assert len(server.submits) == 1, "an accepted submit"
        return [note.en for note in BatchOutcome([result]).notes()]


def read(body: Any, status: int = 200, provider: Provider = "Volcengine") -> Accepted | NotAccepted:
    """What the service makes of an answer to a submit."""
    answer = Answer(status, {}, json.dumps(body).encode())
    call = CALLS[provider]("http://127.0.0.1:1")
    request = call.request.model_copy(update=dict(call.encode()))
    with pytest.MonkeyPatch.context() as patch:
        for module in (hidream, volcengine):
            patch.setattr(module, "post_once", lambda *_, **__: answer)
        try:
            return call.service.submit(request, "our-request", Phases(CancelToken()))
        except NotAccepted as refusal:
            return refusal


def outcome_of(body: Any, status: int = 200, provider: Provider = "Volcengine") -> tuple[type[RemoteImageError], str]:
    """(error, billed) of an answer that brought nothing."""
    told = read(body, status, provider)
    assert isinstance(told, NotAccepted), told
    return told.meaning.error, told.outcome.billed


def refused(body: Any, status: int = 200, provider: str = "Volcengine") -> RemoteImageError:
    """The error of a submit that brought nothing; queued again it is explained, if it may have been billed."""
    deadlines = raw.Deadlines(queue=0.01)
    with RawServer(answering(status, body)) as server:
        error = failing(CALLS[provider](server.url, deadlines=deadlines))
        assert server.whole == 1
        return error


# ---- success in other words

SUCCESS = [0, 1, 200, 10000, "0", "200", "success", "SUCCESS", "Success", "ok", "OK", None, ""]
MISSING = "no code at all"


@pytest.mark.parametrize("code", [*SUCCESS, MISSING, 7, -1, "upstream_ok", 50411], ids=str)
def test_a_picture_counts_whatever_the_code(code: Any) -> None:
    body = {"code": code, "message": WORDS, "data": {"binary_data_base64": [SMALL], "request_id": "r1"}}
    if code is MISSING:
        del body["code"]
    for status in (200, 201, 203):
        told = read(body, status)
        assert isinstance(told, Accepted) and told.picture is not None and told.picture.base64 == SMALL
        said = told.note.en if told.note is not None else ""
        assert (f"code {code}" in said) == (code not in (None, "", 10000, MISSING)), said


@pytest.mark.parametrize("code", ["success", 0, 7])
def test_what_counts_is_delivered_with_a_note_and_bought_once(code: Any) -> None:
    body = {"code": code, "message": "", "data": {"binary_data_base64": [SMALL], "request_id": "r1"}}
    with RawServer(answering(200, body)) as server:
        assert f"code {code}" in " ".join(bought_once(raw.volcengine_call(server.url), server))


@pytest.mark.parametrize("code", [*SUCCESS, 7, "E1"], ids=str)
def test_a_task_id_counts_whatever_the_code(code: Any) -> None:
    for status in (200, 201, 400, 406, 429, 502):
        told = read({"code": code, "result": {"task_id": "task-1"}}, status, "HiDream")
        assert isinstance(told, Accepted) and told.task.task_id == "task-1"


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "data": lambda inner: {"data": inner},
    "result": lambda inner: {"result": inner},
    "Result": lambda inner: {"Result": inner},
    "once more": lambda inner: {"code": 200, "message": "ok", "data": {"code": 0, "data": inner}},
    "a text": lambda inner: {"code": "success", "data": json.dumps(inner)},
    "a text in a text": lambda inner: {"data": json.dumps({"result": json.dumps(inner)})},
    "a list": lambda inner: {"code": 0, "data": [inner]},
    "upstream": lambda inner: {"upstream_response": {"code": 10000, "data": inner}, "data": None},
    "not ok match": lambda inner: {
        "code": "upstream_error",
        "upsream_message": json.dumps({"code": -1, "message": "not ok match: " + json.dumps({"data": inner})}),
    },
}
every_wrapping = pytest.mark.parametrize("wrapping", list(WRAPPED))


@every_wrapping
def test_a_task_id_counts_wherever_it_stands(wrapping: str) -> None:
    for status in (200, 203, 406, 502):
        told = read(WRAPPED[wrapping]({"task_id": "task-1", "sub_task_ids": ["sub-1"]}), status, "HiDream")
        assert isinstance(told, Accepted)
        assert (told.task.task_id, told.task.sub_task_ids) == ("task-1", ("sub-1",))


@pytest.mark.parametrize("wrapping", ["once more", "a text", "not ok match"])
def test_a_wrapped_task_is_bought_once(wrapping: str) -> None:
    with RawServer(answering(406, WRAPPED[wrapping]({"task_id": "task-1"})), raw.serving) as server:
        bought_once(raw.hidream_call(server.url), server)


def test_a_task_id_on_top_counts() -> None:
    with RawServer(answering(200, {"task_id": "task-1", "status": "queued"}), raw.serving) as server:
        bought_once(raw.hidream_call(server.url), server)


@pytest.mark.parametrize(
    "picture",
    [
        {"binary_data_base64": [SMALL]},
        {"binary_data_base64": ["", SMALL]},
        {"image": SMALL},
        {"image": f"data:image/png;base64,{SMALL}"},
        {"url": SMALL},
        {"image": [{"url": SMALL}]},
        {"image": SMALL.rstrip("=")},
    ],
    ids=lambda picture: str(picture)[:40],
)
@every_wrapping
def test_a_picture_counts_at_every_result_position(wrapping: str, picture: dict[str, Any]) -> None:
    for provider in PROVIDERS:
        told = read(WRAPPED[wrapping](picture), provider=provider)
        assert isinstance(told, Accepted) and told.picture is not None
        assert base64_bytes(told.picture.base64) == base64.b64decode(SMALL)


@both_services
def test_a_wrapped_picture_is_bought_once(provider: str) -> None:
    with RawServer(answering(200, WRAPPED["a text in a text"]({"image": SMALL}))) as server:
        bought_once(CALLS[provider](server.url), server)


@pytest.mark.parametrize("wrapping", ["data", "a list"])
@pytest.mark.parametrize("name", ["image_urls", "image", "url"])
def test_an_address_counts_at_every_result_position(wrapping: str, name: str) -> None:
    def serve(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            address = f"http://{connection.headers['host']}/picture.png"
            value = [address] if name.endswith("s") else address
            return connection.answer(201, WRAPPED[wrapping]({name: value}))
        return connection.answer(200, raw.png(128, 96), content_type="image/png")

    with RawServer(serve) as server:
        bought_once(raw.volcengine_call(server.url), server)


@both_services
@pytest.mark.parametrize("code", [*SUCCESS, MISSING], ids=str)
def test_success_without_either_is_ambiguous(code: Any, provider: Provider) -> None:
    for data in (None, {}, "", "done", {"image": ""}, {"status": "ok"}, [], {"url": None}):
        body = {"code": code, "message": WORDS, "data": data}
        if code is MISSING:
            del body["code"]
        assert outcome_of(body, provider=provider) == (AmbiguousSubmitError, "unknown"), data


@both_services
@pytest.mark.parametrize("inner", [0, 200, "ok"])
@pytest.mark.parametrize("outer", [7, -1, "failed"])
def test_codes_that_contradict_each_other_are_ambiguous(outer: Any, inner: Any, provider: Provider) -> None:
    for body in ({"code": outer, "data": {"code": inner}}, {"code": inner, "data": {"code": outer}}):
        assert outcome_of(body, provider=provider) == (AmbiguousSubmitError, "unknown")


@both_services
def test_success_that_brings_nothing_is_not_sent_again(provider: str) -> None:
    error = refused({"code": 200, "message": WORDS, "data": {"code": "ok"}}, provider=provider)
    assert (type(error), error.billed) == (AmbiguousSubmitError, "unknown")


# ---- what is no result


@pytest.mark.parametrize("status", [200, 400, 422, 500])
@pytest.mark.parametrize(
    "repeated",
    [SENT, f"data:image/png;base64,{SENT}", SENT.rstrip("="), SENT[:200], SENT[:200] + "...", f" {SENT}\n"],
    ids=["whole", "data", "unpadded", "beginning", "dots", "blanks"],
)
@both_services
def test_an_input_that_is_repeated_is_no_result(provider: Provider, repeated: str, status: int) -> None:
    body = {"code": 40001, "message": WORDS, "data": {"image": repeated, "binary_data_base64": [repeated]}}
    told = read(body, status, provider)
    assert isinstance(told, NotAccepted) and told.picture is None
    assert told.outcome.billed == ("unknown" if status >= 500 else "no")


def test_a_validation_error_with_the_request_in_it_is_a_refusal() -> None:
    detail = [{"type": "missing", "loc": ["body", "top"], "msg": "Field required", "input": {"image": SMALL}}]
    error = refused({"detail": detail}, 422)
    assert error.billed == "no"


@pytest.mark.parametrize("name", ["image", "url", "binary_data_base64"])
def test_a_picture_that_stands_at_no_result_position_is_no_result(name: str) -> None:
    _, billed = outcome_of({"code": 40001, "message": WORDS, "request": {name: SMALL}, name: SMALL})
    assert billed == "no"


@pytest.mark.parametrize("words", ["see the manual", "AAAA", "none", "iVBO"])
def test_words_beside_an_error_are_no_picture(words: str) -> None:
    _, billed = outcome_of({"code": 40001, "message": WORDS, "data": {"image": words, "binary_data_base64": [words]}})
    assert billed == "no"


@pytest.mark.parametrize("length", [513, 100_000])
def test_what_is_too_long_for_an_id_is_none(length: int) -> None:
    told = outcome_of({"code": 0, "message": WORDS, "result": {"task_id": "7" * length}}, provider="HiDream")
    assert told == (AmbiguousSubmitError, "unknown")


# ---- a picture with an error


@pytest.mark.parametrize("status", [302, 406, 429, 502])
@both_services
def test_a_picture_with_an_error_is_kept_and_never_bought_again(provider: str, status: int) -> None:
    body = {"code": 7, "message": WORDS, "data": {"binary_data_base64": [SMALL]}}
    with RawServer(answering(status, body)) as server, raw.fresh_journal() as journal:
        call = CALLS[provider](server.url)
        for _ in range(2):
            with pytest.raises(AmbiguousSubmitError, match=f"HTTP {status}") as told:
                raw.run(call, journal)
            assert told.value.billed == "unknown" and "kept in the store" in str(told.value)
        assert len(server.submits) == 1
        (task,) = journal.task_list.tasks()
        assert (task.state, task.stored) == ("ambiguous", 1)
        assert journal.task_list.picture(task.journal_id, 0) == (base64.b64decode(SMALL), "image/png")


def test_a_picture_behind_a_link_with_an_error_is_kept() -> None:
    def serve(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            host = connection.headers["host"]
            return connection.answer(502, {"data": {"image_urls": [f"http://{host}/picture.png"]}})
        return connection.answer(200, raw.png(128, 96), content_type="image/png")

    with RawServer(serve) as server, raw.fresh_journal() as journal:
        with pytest.raises(AmbiguousSubmitError, match="kept in the store"):
            raw.run(raw.volcengine_call(server.url), journal)
        assert journal.task_list.tasks()[0].stored == 1


def test_a_link_with_an_error_that_is_dead_is_ambiguous_without_a_promise() -> None:
    body = {"data": {"image_urls": ["https://192.168.0.1/never-asked.png"]}}
    error = refused(body, 502)
    assert type(error) is AmbiguousSubmitError and "kept" not in str(error)


@pytest.mark.parametrize("told", [{"code": 50411}, {"code": 50429}, {"code": 7}], ids=str)
@pytest.mark.parametrize("by_link", [False, True], ids=["in the answer", "by link"])
def test_a_picture_with_an_error_that_cannot_be_stored(told: dict[str, Any], by_link: bool) -> None:
    """Whatever the code: a picture came, so that the request may be billed. Nothing says that the picture was kept."""

    def serve(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            link = f"http://{connection.headers['host']}/picture.png"
            picture = {"image_urls": [link]} if by_link else {"binary_data_base64": [SMALL]}
            return connection.answer(400, {**told, "message": WORDS, "data": picture})
        return connection.answer(200, raw.png(128, 96), content_type="image/png")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    with RawServer(serve) as server, raw.fresh_journal() as journal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.store, "put", full)
        call = raw.volcengine_call(server.url)
        for _ in range(2):
            with pytest.raises(AmbiguousSubmitError) as error:
                raw.run(call, journal)
            assert "kept" not in str(error.value)
        assert len(server.submits) == 1
        (task,) = journal.task_list.tasks()
        assert (task.state, task.stored) == ("ambiguous", 0)


def test_a_code_that_repeats_the_key_is_not_shown_in_the_note() -> None:
    body = {"code": f"bad key {raw.TOKEN}", "message": raw.TOKEN, "result": {"task_id": "task-1"}}
    with RawServer(answering(200, body), raw.serving) as server:
        notes = " ".join(bought_once(raw.hidream_call(server.url), server))
        assert "bad key ***" in notes and raw.TOKEN not in notes


# ---- the algorithm

ALGORITHM = {"status_code": 201304, "status_message": WORDS}


@pytest.mark.parametrize("told", [{"algorithm_base_resp": ALGORITHM}, {"algo_status_code": 201304}], ids=str)
def test_an_algorithm_error_with_a_picture_is_delivered_with_a_warning(told: dict[str, Any]) -> None:
    with RawServer(answering(200, raw.finished_picture(**{"algorithm_base_resp": None, **told}))) as server:
        assert "code 201304" in " ".join(bought_once(raw.volcengine_call(server.url), server))


@pytest.mark.parametrize("code", [10000, "success", None, 64001])
def test_an_algorithm_error_without_a_picture_is_a_failure(code: Any) -> None:
    told = read({"code": code, "data": {"algorithm_base_resp": ALGORITHM, "binary_data_base64": []}})
    assert isinstance(told, NotAccepted)
    assert (told.meaning.error, told.outcome.billed) == (TaskFailedError, "unknown")
    assert (told.code, told.vendor_message) == (201304, WORDS)


# ---- gateways

INNERMOST: dict[str, tuple[Any, type[RemoteImageError], str]] = {
    "moderated": ({"code": 50411, "message": WORDS}, ModerationError, "no"),
    "moderated after": ({"code": 50511, "message": WORDS}, ModerationError, "unknown"),
    "busy": ({"code": 50429, "message": WORDS}, RateLimitError, "no"),
    "too large": ({"code": "50205", "message": WORDS}, InvalidInputError, "no"),
    "not open": ({"code": 50400, "message": WORDS}, AuthenticationError, "no"),
    "broken": ({"code": 50500, "message": WORDS}, AmbiguousSubmitError, "unknown"),
    "timeout": ({"code": -1, "message": "request timeout 20002639us"}, AmbiguousSubmitError, "unknown"),
    "unknown": ({"code": 40001, "message": WORDS}, AmbiguousSubmitError, "unknown"),
    "balance": ({"code": -1, "message": "insufficient balance"}, QuotaError, "no"),
    "quota": ({"message": "Insufficient user quota"}, QuotaError, "no"),
    "words": ("upstream connect error", AmbiguousSubmitError, "unknown"),
    "nothing": (None, AmbiguousSubmitError, "unknown"),
}
GATEWAYS: dict[str, Callable[[Any], Any]] = {
    "an object": lambda inner: {"code": "upstream_error", "message": "", "upsream_message": inner, "data": None},
    "a text": lambda inner: {"code": "upstream_error", "message": "", "upsream_message": json.dumps(inner)},
    "not ok match": lambda inner: {
        "code": "upstream_error",
        "upsream_message": json.dumps({"code": -1, "message": "not ok match: " + json.dumps(inner)}),
    },
    "without its code": lambda inner: {"upsream_message": json.dumps(inner)},
    "spelt right": lambda inner: {"code": 500, "upstream_message": {"message": "not ok match:" + json.dumps(inner)}},
    "its message": lambda inner: {"code": "upstream_error", "message": json.dumps(inner), "data": None},
    "OpenAI's type": lambda inner: {"error": {"type": "upstream_error", "message": json.dumps(inner), "code": "x"}},
}


@pytest.mark.parametrize("inner", list(INNERMOST))
@pytest.mark.parametrize("gateway", list(GATEWAYS))
def test_the_innermost_words_of_a_gateway_decide(gateway: str, inner: str) -> None:
    told, expected, billed = INNERMOST[inner]
    for status in (200, 400, 406, 429, 500, 502):
        refusal = read(GATEWAYS[gateway](told), status)
        assert isinstance(refusal, NotAccepted)
        assert (refusal.meaning.error, refusal.outcome.billed) == (expected, billed), status
        if isinstance(told, dict):
            assert refusal.vendor_message == told["message"]


@pytest.mark.parametrize("inner", ["moderated", "busy", "timeout", "unknown", "balance"])
def test_a_gateways_words_reach_the_user_and_nothing_is_bought_twice(inner: str) -> None:
    told, expected, billed = INNERMOST[inner]
    error = refused(GATEWAYS["not ok match"](told), 406)
    assert (type(error), error.billed, error.vendor_message) == (expected, billed, told["message"])


def test_a_resumable_submit_without_a_code() -> None:
    def serve(connection: raw.Connection) -> None:
        connection.read()
        if "CVSync2AsyncSubmitTask" in connection.request_line:
            return connection.answer(200, {"data": {"task_id": "7400000000000000001"}, "message": "Success"})
        return connection.answer(200, {"data": {"status": "done", "binary_data_base64": [SMALL]}})

    with RawServer(serve) as server:
        assert len(raw.run(resumable_call(server.url)).pictures) == 1


@pytest.mark.parametrize("status", [401, 403, 429])
@pytest.mark.parametrize("error", [{"code": "insufficient_quota"}, {"message": "Insufficient balance: 0.00"}], ids=str)
def test_openais_words_for_no_balance(error: dict[str, str], status: int) -> None:
    assert outcome_of({"error": {"message": "", "type": "x", **error}}, status) == (QuotaError, "no")


@both_services
@pytest.mark.parametrize("status", [409, 425, 499])
def test_statuses_that_decide_nothing_are_ambiguous(provider: Provider, status: int) -> None:
    for body in ("", {"code": 7, "message": WORDS}, {"error": {"message": WORDS}}):
        assert outcome_of(body, status, provider) == (AmbiguousSubmitError, "unknown")
    error = refused({"code": 7, "message": WORDS}, status, provider)
    assert (type(error), error.billed) == (AmbiguousSubmitError, "unknown")


UNDECIDED: list[tuple[int, Any]] = [
    (200, {"code": 500, "message": WORDS}),
    (200, {"code": 504, "message": "gateway timeout"}),
    (400, {"code": "502", "message": WORDS}),
    (200, {"error": {"code": 502, "message": "Provider returned error"}}),
    *((200, {"code": code, "message": WORDS}) for code in (202, 204, 1000, 20000, "accepted", "成功", "200 OK")),
    *((200, {"code": 77, "message": words}) for words in ("success", "Success.", "请求成功")),
    (400, {"error": "upstream_error"}),
    (400, {"error_code": "upstream_error"}),
    (400, {"status": "upstream_error"}),
    (400, {"message": "upstream_error: connection reset"}),
    (400, {"error": {"code": "do_request_failed", "message": WORDS}}),
    (400, {"error": {"code": "bad_response_status_code", "message": "504"}}),
    (400, {"code": "bad_response", "upstream_status": 504}),
    (400, {"code": 400, "error_code": 50500}),
    (400, {"code": 400, "status": 50500}),
    (400, {"detail": {"code": 50500}}),
    (422, {"detail": {"error": {"code": "upstream_error"}}}),
    (406, "not ok match: " + json.dumps({"code": 50500, "message": WORDS})),
    (406, json.dumps({"code": 50500, "message": WORDS})),
    (400, [{"code": 50500}]),
    (400, {"message": 'time {out}: {"code": 50500}'}),
]


@pytest.mark.parametrize(("status", "body"), UNDECIDED, ids=str)
def test_what_may_have_been_accepted_is_never_called_refused(status: int, body: Any) -> None:
    assert outcome_of(body, status) == (AmbiguousSubmitError, "unknown")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"code": 5, "detail": {"task_id": "task-1"}}),
        (400, {"code": 7, "response": {"data": {"task_id": "task-1"}}}),
        (200, json.dumps({"code": 10000, "data": {"task_id": "task-1"}})),
        (200, {"Data": {"task_id": "task-1"}}),
    ],
    ids=str,
)
def test_a_task_id_is_found_at_any_place(status: int, body: Any) -> None:
    for provider in PROVIDERS:
        told = read(body, status, provider)
        assert isinstance(told, Accepted) and told.task.task_id == "task-1"


@pytest.mark.parametrize("before", ["<br />\nWarning: x\n", "data: ", ")]}'\n"])
def test_a_task_id_behind_other_words(before: str) -> None:
    body = before + json.dumps({"code": 0, "result": {"task_id": "task-1"}})
    with RawServer(answering(200, body), raw.serving) as server:
        bought_once(raw.hidream_call(server.url), server)


@pytest.mark.parametrize("placeholder", [0, "0", "null", "None", "undefined", -1, "-1", "-", "N/A"], ids=str)
def test_a_placeholder_is_no_task_id(placeholder: Any) -> None:
    for provider in PROVIDERS:
        told = read({"code": 7001, "message": WORDS, "data": {"task_id": placeholder}}, 200, provider)
        assert isinstance(told, NotAccepted) and told.outcome.billed == "no"


def test_a_help_page_beside_a_refusal_is_no_picture() -> None:
    def serve(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            link = f"http://{connection.headers['host']}/docs/6444/69728"
            return connection.answer(200, {"code": 50411, "message": WORDS, "data": {"url": link}})
        return connection.answer(200, "<html>the manual</html>", content_type="text/html")

    with RawServer(serve) as server:
        error = failing(raw.volcengine_call(server.url))
        assert (type(error), error.billed) == (ModerationError, "no")


@pytest.mark.parametrize("body", [{"code": "upstream_error", "message": "timed out"}, {"data": {"image": SMALL}}])
def test_an_unclear_401_is_not_sent_again_with_a_new_token(body: Any, shop: Shop) -> None:
    """Only a key that the service certainly did not take is exchanged."""
    shop.settings.update(HIDREAM_TOKEN="", HIDREAM_API_KEY=paying.KEYS.hidream_api_key)
    shop.fault("submit", None, status=401, json=body, accept=True)
    for _ in range(2):
        assert isinstance(shop.trouble(ANY_CALL["upscale"](shop, A)), AmbiguousSubmitError)
    assert len(shop.submits) == 1


# ---- the common table

ADVICE = {50400: "console", 50402: "gateway", 50205: "smaller", 50213: "smaller", 50207: "larger", 50215: "parameters"}


@pytest.mark.parametrize("code", COMMON_TABLE)
def test_the_common_table(code: int) -> None:
    for status in (200, 400):
        told = read({"code": code, "data": None, "message": WORDS}, status)
        assert isinstance(told, NotAccepted) and told.meaning.error is COMMON_TABLE[code]
        assert (told.outcome.billed, told.code) == ("no", code)
        advice = told.meaning.advice
        assert ADVICE.get(code, "") in (advice.en if advice is not None else "")


@pytest.mark.parametrize("code", ADVICE)
def test_the_common_table_reaches_the_user(code: int) -> None:
    error = refused({"code": code, "data": None, "message": WORDS}, 400)
    assert (type(error), error.code) == (COMMON_TABLE[code], code)
    assert ADVICE[code] in error.advice.en


@pytest.mark.parametrize("code", [50200, 50206, 50400, 50402])
def test_an_error_about_a_poll_does_not_end_its_task(code: int) -> None:
    """Its key, its address or its parameters are at fault: the task was paid."""

    def serve(connection: raw.Connection) -> None:
        connection.read()
        if "CVSync2AsyncSubmitTask" in connection.request_line:
            return connection.answer(200, {"code": 10000, "data": {"task_id": "task-1"}})
        if len(server.connections) == 2:
            return connection.answer(400, {"code": code, "data": None, "message": WORDS})
        return connection.answer(200, {"code": 10000, "data": {"status": "done", "binary_data_base64": [SMALL]}})

    with RawServer(serve) as server:
        assert len(raw.run(resumable_call(server.url)).pictures) == 1


# ---- any wrapping

_layers = st.lists(st.sampled_from(["data", "result", "Result", "text", "list", "message"]), min_size=1, max_size=6)


@given(layers=_layers, code=st.sampled_from([*SUCCESS, 7, "E1"]), status=st.sampled_from([200, 400, 406, 500]))
def test_a_task_id_is_found_in_any_wrapping(layers: list[str], code: Any, status: int) -> None:
    told: Any = {"task_id": "task-1"}
    for layer in layers:
        if layer == "text":
            told = {"data": json.dumps(told)}
        elif layer == "list":
            told = {"result": [told]}
        else:
            told = {"code": code, layer: json.dumps(told) if layer == "message" else told}
    for provider in ("HiDream", "Volcengine"):
        assert Reply(provider, Answer(status, {}, json.dumps(told).encode())).task_id == "task-1"


def test_an_answer_that_is_nested_without_end_is_read_in_bounded_time() -> None:
    told: Any = {"data": {}}
    for _ in range(200):
        told = {"data": told, "message": "x", "error": [{"code": 1}] * 3}
    reply = Reply("Volcengine", Answer(200, {}, json.dumps(told).encode()))
    assert len(reply.parts) <= 200 and not reply.task_id


# ---- through the emulator, from the submit to the picture

FAULTS: dict[str, dict[str, Any]] = {
    "odd words": {"odd_words": True},
    "a cut end": {"cut_end": True},
    "early hints": {"early_hints": True},
    "all of it": {"odd_words": True, "cut_end": True, "early_hints": True},
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal") as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("service", ["upscale", "variation", "cvprocess", "cvsync2async"])
def test_every_answer_of_a_purchase_may_come_so(service: str, fault: str, shop: Shop) -> None:
    if service == "cvsync2async":
        shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    call = cvprocess(shop.volcengine, A) if service.startswith("cv") else ANY_CALL[service](shop, A)
    shop.fault("submit", None, **FAULTS[fault])
    shop.fault("result", None, **FAULTS[fault])
    with shop.buys(1):
        came = pictures(shop.buy(call))
    assert came
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(call)), came)


@pytest.mark.parametrize(("upstream", "state"), [("request timeout", "ambiguous"), (50500, "ambiguous")])
def test_a_gateway_that_lost_an_accepted_call(upstream: Any, state: str, shop: Shop) -> None:
    shop.fault("submit", gateway=upstream, accept=True)
    with shop.buys(1):
        for _ in range(3):
            assert isinstance(shop.trouble(cvprocess(shop.volcengine, A)), AmbiguousSubmitError)
    assert shop.states == [state]


def test_a_gateway_whose_upstream_refused(shop: Shop) -> None:
    shop.fault("submit", gateway=50411)
    error = shop.trouble(cvprocess(shop.volcengine, A))
    assert isinstance(error, ModerationError) and error.vendor_message == "Pre Img Risk Not Pass"
    with shop.buys(1):
        shop.buy(cvprocess(shop.volcengine, A))


def test_a_gateway_that_fails_a_poll_ends_no_task(shop: Shop) -> None:
    shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    shop.fault("result", 3, gateway="request timeout")
    with shop.buys(1):
        assert pictures(shop.buy(cvprocess(shop.volcengine, A)))
