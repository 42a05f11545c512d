"""The submit table, row by row: what the service saw, what the user is told, and whether it is sent again.

Everything runs over real sockets on 127.0.0.1, and every test counts what the server really received.
"""

from __future__ import annotations

import email.utils
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    AuthenticationError,
    CancelToken,
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    JournalError,
    ModerationError,
    PaidCall,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    TaskRef,
    Text,
)
from hidream_volcengine.api.core.task import PollError
from hidream_volcengine.api.journal.opening import JournalTransactions
from hidream_volcengine.api.purchase import submit as submits
from hidream_volcengine.api.purchase.submit import seconds_of
from hidream_volcengine.api.services import hidream, volcengine
from hidream_volcengine.api.services.answers import NotAccepted
from hidream_volcengine.api.services.outcome import VENDOR_CODES, Outcome
from hidream_volcengine.api.transport.received import Answer
from hidream_volcengine.api.transport.submit import Phases
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import MonkeyPatch

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import API_KEY, LARGE, RawServer, Step, answering, resetting
from tests.thinned import thinned

WORDS = "vendor words 甲乙"
HTML = "<html><body><h1>some gateway page</h1></body></html>"


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return raw.make_certificate(tmp_path_factory.mktemp("tls"))


def failing(call: PaidCall) -> RemoteImageError:
    """The error of a call, after checking what every error has to have, and what the journal makes of it."""
    with raw.fresh_journal() as journal:
        with pytest.raises(RemoteImageError) as caught:
            raw.run(call, journal)
        error = caught.value
        (task,) = journal.task_list.tasks()
        if error.billed == "no":
            assert task.state in ("refused", "cancelled") and task.pictures == 0
        else:
            assert task.state == ("ambiguous" if type(error) is AmbiguousSubmitError else "failed")
            assert task.pictures == 1, "what may have been billed stays counted"
            # The table: the same request again is explained, with 0 calls; every caller counts them.
            with pytest.raises(type(error)):
                raw.run(call, journal)
            assert [entry.journal_id for entry in journal.task_list.tasks()] == [task.journal_id]
    english, chinese = str(error).split("\n")
    assert english.isascii() or error.vendor_message, english
    assert any("一" <= character <= "鿿" for character in error.what.zh)
    assert error.what.en and error.advice.en and error.advice.zh
    assert f"Billed: {error.billed}" in english
    assert {"no": "是否计费：否", "yes": "是否计费：是", "unknown": "是否计费：未知"}[error.billed] in chinese
    for line in (english, chinese):
        for fact in (error.vendor_message, error.request_id, error.task_id):
            assert fact in line
        assert error.code is None or str(error.code) in line
    assert raw.TOKEN not in f"{error}{error!r}{error.vendor_message}"
    return error


CALLS: dict[str, Callable[..., Any]] = {"HiDream": raw.hidream_call, "Volcengine": raw.volcengine_call}
both_services = pytest.mark.parametrize("provider", list(CALLS))


# ---- nothing was sent


@both_services
def test_refused_connection_is_not_sent_and_tried_four_times(provider: str, back_offs: list[float]) -> None:
    error = failing(CALLS[provider](f"http://127.0.0.1:{raw.closed_port()}"))
    assert type(error) is ConnectionFailedError
    assert error.billed == "no" and error.provider == provider
    assert "refused the connection" in str(error)
    assert len(back_offs) == 3, "NOT_SENT is sent again three times at most"
    assert back_offs == sorted(back_offs)


@both_services
def test_unknown_host_is_not_sent(provider: str, back_offs: list[float]) -> None:
    error = failing(CALLS[provider]("https://no-such-host.invalid"))
    assert type(error) is ConnectionFailedError and error.billed == "no"
    assert "DNS" in error.what.en and "DNS" in error.what.zh
    assert len(back_offs) == 3


@both_services
def test_cut_tls_handshake_is_not_sent(provider: str) -> None:
    with RawServer(raw.cut_handshake) as server:
        error = failing(CALLS[provider](f"https://127.0.0.1:{server.port}"))
        assert type(error) is ConnectionFailedError and error.billed == "no"
        assert server.accepted == 4
        assert server.whole == 0


def test_a_cut_tls_handshake_is_made_again_and_the_call_then_bought_once(
    monkeypatch: MonkeyPatch, tls_files: tuple[Path, Path]
) -> None:
    certificate, with_key = tls_files
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    good = raw.over_tls(raw.server_context(with_key), answering(200, raw.finished_picture()))
    with RawServer(raw.cut_handshake, raw.cut_handshake, good) as server:
        delivery = raw.run(raw.volcengine_call(f"https://127.0.0.1:{server.port}"))
        assert len(delivery.pictures) == 1
        assert (server.accepted, server.whole) == (3, 1)


@both_services
def test_an_untrusted_certificate_is_not_tried_again(
    provider: str, back_offs: list[float], tls_files: tuple[Path, Path]
) -> None:
    with RawServer(answering(200), tls=raw.server_context(tls_files[1])) as server:
        error = failing(CALLS[provider](server.url))
        assert type(error) is ConnectionFailedError and error.billed == "no"
        assert "certificate" in error.what.en and "证书" in error.what.zh
        assert (server.accepted, server.whole, back_offs) == (1, 0, [])


@both_services
@pytest.mark.parametrize("phase", ["accept", "head", "headers", "body"])
def test_a_reset_before_the_last_byte_is_not_sent(provider: str, phase: str) -> None:
    with RawServer(resetting(phase)) as server:
        error = failing(CALLS[provider](server.url, image=LARGE))
        assert type(error) is ConnectionFailedError and error.billed == "no"
        assert server.accepted == 4
        assert server.whole == 0


@pytest.mark.parametrize("phase", ["accept", "body"])
def test_what_was_not_sent_is_bought_once_when_it_gets_through(phase: str) -> None:
    steps = [resetting(phase)] * 3
    with RawServer(*steps, raw.serving) as server:
        delivery = raw.run(raw.hidream_call(server.url, image=LARGE))
        assert delivery.task is not None and delivery.task.task_id == "task-1"
        assert len(delivery.pictures) == 1
        assert sum(connection.whole for connection in server.submits) == 1


@both_services
def test_a_stalled_upload_is_not_sent(provider: str) -> None:
    deadlines = raw.Deadlines(connect=3, upload_stall=0.2, hidream_answer=5, cvprocess_answer=5, queue=8)
    with RawServer(raw.stalled) as server:
        error = failing(CALLS[provider](server.url, image=LARGE, deadlines=deadlines))
        assert type(error) is ConnectionFailedError and error.billed == "no"
        assert (server.accepted, server.whole) == (4, 0)


# ---- all was sent, and no answer came: never again


def ambiguous(call: Any, server: RawServer) -> AmbiguousSubmitError:
    error = failing(call)
    assert type(error) is AmbiguousSubmitError
    assert error.billed == "unknown"
    assert "`take`" in error.advice.en and "`take`" in error.advice.zh
    assert (server.accepted, server.whole) == (1, 1), "an ambiguous submit is never sent again"
    if error.provider == "HiDream":
        assert error.request_id in (server.connections[0].json["request_id"], "vendor-request-1")
    return error


@both_services
@pytest.mark.parametrize("image", [raw.SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("phase", ["whole", "answer"])
def test_a_reset_after_the_last_byte_is_ambiguous(provider: str, phase: str, image: str) -> None:
    with RawServer(resetting(phase)) as server:
        ambiguous(CALLS[provider](server.url, image=image), server)


@both_services
def test_a_tls_connection_broken_after_the_last_byte_is_ambiguous(
    provider: str, monkeypatch: MonkeyPatch, tls_files: tuple[Path, Path]
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[0]))
    with RawServer(resetting("whole"), tls=raw.server_context(tls_files[1])) as server:
        ambiguous(CALLS[provider](server.url, image=LARGE), server)


@both_services
def test_a_tls_connection_broken_in_the_body_is_not_sent(
    provider: str, monkeypatch: MonkeyPatch, tls_files: tuple[Path, Path]
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[0]))
    with RawServer(resetting("body"), tls=raw.server_context(tls_files[1])) as server:
        error = failing(CALLS[provider](server.url, image=LARGE))
        assert type(error) is ConnectionFailedError and error.billed == "no"
        assert (server.accepted, server.whole) == (4, 0)


@both_services
def test_no_answer_in_time_is_ambiguous(provider: str) -> None:
    deadlines = raw.Deadlines(hidream_answer=0.3, cvprocess_answer=0.3)
    with RawServer(raw.hanging) as server:
        ambiguous(CALLS[provider](server.url, deadlines=deadlines), server)


def dripping(connection: raw.Connection) -> None:
    connection.read()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(150):
        connection.send(b" ")
        time.sleep(0.02)


@both_services
def test_an_answer_that_drips_without_end_is_ambiguous_in_bounded_time(provider: str) -> None:
    deadlines = raw.Deadlines(connect=0.2, upload_stall=0.2, hidream_answer=0.3, cvprocess_answer=0.3)
    with RawServer(dripping) as server:
        began = time.monotonic()
        ambiguous(CALLS[provider](server.url, deadlines=deadlines), server)
        assert time.monotonic() - began < 2.5


def test_an_upload_longer_than_all_deadlines_is_still_accepted() -> None:
    """A slow line is no stall: the time for the answer counts from the end of the upload."""
    deadlines = raw.Deadlines(connect=0.5, upload_stall=1.5, hidream_answer=2.5)

    def slowly(connection: raw.Connection) -> None:
        connection.read_head()
        length = int(connection.headers["content-length"])
        began = time.monotonic()
        while len(connection.body) < length:
            # Evenly over five seconds: more than all deadlines of a submit together, whatever the buffers swallow.
            due = began + 5 * len(connection.body) / length
            time.sleep(max(0.0, due - time.monotonic()))
            connection.body += connection.sock.recv(65536)
        connection.answer(200, raw.accepted())

    with RawServer(slowly, raw.serving, receive_buffer=65536) as server:
        delivery = raw.run(raw.hidream_call(server.url, image=LARGE * 3, deadlines=deadlines))
        assert delivery.task is not None and delivery.task.task_id == "task-1"


def test_a_connection_closed_without_an_answer_is_ambiguous() -> None:
    with RawServer(lambda connection: connection.read()) as server:
        ambiguous(raw.volcengine_call(server.url), server)


# ---- HTTP statuses

NO, UNKNOWN = "no", "unknown"
STATUSES: dict[int, tuple[type[RemoteImageError], str]] = {
    301: (ConfigurationError, NO),
    307: (ConfigurationError, NO),
    400: (ServiceError, NO),
    401: (AuthenticationError, NO),
    402: (QuotaError, NO),
    403: (AuthenticationError, NO),
    404: (ServiceError, NO),
    408: (AmbiguousSubmitError, UNKNOWN),
    413: (InvalidInputError, NO),
    500: (AmbiguousSubmitError, UNKNOWN),
    502: (AmbiguousSubmitError, UNKNOWN),
    503: (AmbiguousSubmitError, UNKNOWN),
    504: (AmbiguousSubmitError, UNKNOWN),
}
BODIES: dict[str, tuple[Any, str]] = {
    "json": ({"code": 7001, "message": WORDS, "request_id": "vendor-request-9"}, "application/json"),
    "html": (HTML, "text/html"),
    "empty": (b"", "text/plain"),
}


@both_services
@thinned("kind", list(BODIES))
@pytest.mark.parametrize("status", list(STATUSES))
def test_http_status(provider: str, status: int, kind: str, back_offs: list[float]) -> None:
    body, content_type = BODIES[kind]
    # A redirect that is followed would come back here and be counted.
    headers = {"Location": "/elsewhere", "Retry-After": "0"}
    with RawServer(answering(status, body, headers, content_type)) as server:
        error = failing(CALLS[provider](server.url))
        expected, billed = STATUSES[status]
        assert (type(error), error.billed) == (expected, billed)
        assert (server.accepted, server.whole, back_offs) == (1, 1, [])
        if kind == "json":
            assert error.code == 7001 and error.vendor_message == WORDS
            assert error.request_id == "vendor-request-9"
        else:
            assert error.code == f"HTTP {status}"
            assert error.vendor_message == (HTML if kind == "html" else "")
            if provider == "HiDream":
                assert error.request_id == server.connections[0].json["request_id"]


@both_services
@thinned("status", [200, 204, 201, 202], kept=(0, 1))
@pytest.mark.parametrize("body", ["", HTML, "{", "[]", "null", '"text"', "{}", '{"code": 0}', '{"code": null}'])
def test_success_that_says_nothing_is_ambiguous(provider: str, status: int, body: str) -> None:
    with RawServer(answering(status, "" if status == 204 else body)) as server:
        ambiguous(CALLS[provider](server.url), server)


@both_services
@pytest.mark.parametrize("kind", list(BODIES))
def test_429_is_sent_again_until_it_is_accepted(provider: str, kind: str, back_offs: list[float]) -> None:
    body, content_type = BODIES[kind]
    busy = answering(429, body, content_type=content_type)
    good: Step = raw.serving if provider == "HiDream" else answering(200, raw.finished_picture())
    with RawServer(busy, busy, busy, good) as server:
        delivery = raw.run(CALLS[provider](server.url))
        assert len(delivery.pictures) == 1
        assert len(server.submits) == 4
        assert back_offs[:3] == [1, 2, 4], "without Retry-After the pause doubles"


@both_services
def test_429_beyond_the_queue_deadline(provider: str, monkeypatch: MonkeyPatch) -> None:
    """By a clock that only pauses move: what a loaded machine takes for its tries is not counted."""
    now = 1000.0

    def pause(_: CancelToken, seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(submits, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    monkeypatch.setattr(CancelToken, "sleep", pause)
    deadlines = raw.Deadlines(queue=0.5)
    body = {"code": 7029, "message": WORDS, "request_id": "vendor-request-9"}
    with RawServer(answering(429, body, {"Retry-After": "0"})) as server:
        error = failing(CALLS[provider](server.url, deadlines=deadlines))
        assert type(error) is RateLimitError and error.billed == "no"
        assert (error.code, error.vendor_message) == (7029, WORDS)
        assert now - 1000 == pytest.approx(0.4), "a pause that would end beyond the deadline is not begun"
        assert server.whole == 3


@both_services
def test_retry_after_beyond_the_queue_deadline_is_not_waited_for(provider: str) -> None:
    with RawServer(answering(429, {}, {"Retry-After": "30"})) as server:
        began = time.monotonic()
        error = failing(CALLS[provider](server.url))
        assert type(error) is RateLimitError and error.billed == "no"
        assert time.monotonic() - began < 2
        assert server.whole == 1


def gap(server: RawServer) -> float:
    first, second = server.submits[:2]
    return second.began - first.answered


def test_retry_after_in_seconds_is_kept() -> None:
    with RawServer(answering(429, {}, {"Retry-After": "1"}), raw.serving) as server:
        raw.run(raw.hidream_call(server.url))
        assert gap(server) >= 0.98


def test_retry_after_as_a_date_is_kept() -> None:
    due = float(int(time.time()) + 2)
    date = email.utils.formatdate(due, usegmt=True)
    with RawServer(answering(429, {}, {"Retry-After": date}), answering(200, raw.finished_picture())) as server:
        raw.run(raw.volcengine_call(server.url))
        began = time.time() - time.monotonic() + server.submits[1].began
        assert began >= due - 0.05


@pytest.mark.parametrize("told", ["soon", "-5", "1e3", ""])
def test_an_unreadable_retry_after_leaves_the_own_pause(told: str, back_offs: list[float]) -> None:
    with RawServer(answering(429, {}, {"Retry-After": told}), raw.serving) as server:
        raw.run(raw.hidream_call(server.url))
        assert back_offs[0] == 1
        assert len(server.submits) == 2


NOW = 784111777.0 - 60


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:47:37 GMT", 0.0),
        ("", None),
        ("never", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_seconds_of_retry_after(told: str, seconds: float | None) -> None:
    assert seconds_of(told, NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be changed here")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_a_date_without_a_zone_is_gmt(zone: str, monkeypatch: MonkeyPatch) -> None:
    """RFC 9110 5.6.7: the asctime form is a valid HTTP date, and is in GMT."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert seconds_of("Sun Nov  6 08:49:37 1994", NOW) == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()


# ---- HiDream's answers


def hidream_answer(body: Mapping[str, Any], status: int = 200) -> tuple[RemoteImageError, RawServer]:
    with RawServer(answering(status, body)) as server:
        error = failing(raw.hidream_call(server.url))
        assert (server.accepted, server.whole) == (1, 1)
        return error, server


@pytest.mark.parametrize(
    ("code", "expected"), [(7, ServiceError), (-1, ServiceError), (1001, ServiceError), (1051, InvalidInputError),
                           (2031, ServiceError), ("1051", InvalidInputError), ("E42", ServiceError)]
)  # fmt: skip
@pytest.mark.parametrize("result", [None, {}, {"task_id": ""}, {"task_id": None}], ids=str)
def test_hidream_code_without_a_task_is_a_refusal(code: Any, expected: type[RemoteImageError], result: Any) -> None:
    error, _ = hidream_answer({"code": code, "message": WORDS, "request_id": "vendor-request-9", "result": result})
    assert (type(error), error.billed) == (expected, "no")
    assert str(error.code) == str(code)
    assert (error.vendor_message, error.request_id) == (WORDS, "vendor-request-9")


@pytest.mark.parametrize("result", [None, {}, [], "text", {"task_id": ""}, {"task_id": None}], ids=str)
def test_hidream_code_0_without_a_task_is_ambiguous(result: Any) -> None:
    error, _ = hidream_answer({"code": 0, "message": WORDS, "request_id": "vendor-request-9", "result": result})
    assert (type(error), error.billed) == (AmbiguousSubmitError, "unknown")
    assert (error.vendor_message, error.request_id) == (WORDS, "vendor-request-9")


@pytest.mark.parametrize("code", [0, 7])
@pytest.mark.parametrize("status", [200, 201, 202, 400, 401, 404, 408, 429, 500, 502, 504])
def test_hidream_task_id_is_an_acceptance_whatever_stands_around_it(status: int, code: int) -> None:
    with RawServer(answering(status, raw.accepted(code=code)), raw.serving) as server:
        delivery = raw.run(raw.hidream_call(server.url))
        assert delivery.task is not None and delivery.task.task_id == "task-1"
        assert len(delivery.pictures) == 1
        assert len(server.submits) == 1


@pytest.mark.parametrize(
    "result",
    [
        {"task_id": "task-1"},
        {"task_id": "task-1", "sub_task_ids": None},
        {"task_id": "task-1", "sub_task_ids": []},
        {"task_id": "task-1", "sub_task_ids": ["sub-1"], "new_field": {"a": 1}},
        {"task_id": "task-1", "sub_task_ids": "sub-1"},
        {"task_id": "task-1", "sub_task_ids": [1]},
        {"task_id": "task-1", "sub_task_ids": [None]},
        {"task_id": "task-1", "sub_task_ids": {"0": "sub-1"}},
    ],
    ids=str,
)
def test_hidream_a_task_id_is_never_lost_to_what_stands_beside_it(result: Any) -> None:
    with RawServer(answering(200, {"code": 0, "message": "Success", "result": result}), raw.serving) as server:
        delivery = raw.run(raw.hidream_call(server.url))
        assert delivery.task is not None and delivery.task.task_id == "task-1"
        assert len(delivery.pictures) == 1


def test_hidream_a_number_as_task_id_is_a_task_id() -> None:
    body = {"code": 0, "message": "Success", "result": {"task_id": 184467, "sub_task_ids": ["sub-1"]}}
    with RawServer(answering(200, body), raw.serving) as server:
        delivery = raw.run(raw.hidream_call(server.url))
        assert delivery.task is not None and delivery.task.task_id == "184467"
        assert "task_id=184467" in server.connections[1].request_line


def test_hidream_5xx_stays_ambiguous_with_a_known_code() -> None:
    """The table has "5xx" without an exception for HiDream's codes."""
    error, _ = hidream_answer({"code": 1051, "message": WORDS}, status=502)
    assert (type(error), error.billed) == (AmbiguousSubmitError, "unknown")


# ---- accepted, and the journal is gone


@pytest.mark.parametrize("gone", [("writing",), ("reading",), ("reading", "writing")], ids=" and ".join)
@both_services
def test_what_was_accepted_is_delivered_whatever_became_of_the_journal(
    provider: str, gone: tuple[str, ...], monkeypatch: MonkeyPatch
) -> None:
    """A disk that fails or a database that goes away meanwhile: the picture counts more than the record."""
    away = threading.Event()

    def breaks(real: Callable[[JournalTransactions], Any]) -> Callable[[JournalTransactions], Any]:
        @contextmanager
        def opened(access: JournalTransactions) -> Iterator[Any]:
            if away.is_set():
                raise JournalError(Text("It is gone.", "已不在。"))
            with real(access) as found:
                yield found

        return opened

    def accepting(connection: raw.Connection) -> None:
        connection.read()
        away.set()
        connection.answer(200, raw.accepted() if provider == "HiDream" else raw.finished_picture())

    for name in gone:
        monkeypatch.setattr(JournalTransactions, name, breaks(getattr(JournalTransactions, name)))
    with RawServer(accepting, raw.serving) as server, raw.fresh_journal() as journal:
        assert len(raw.run(CALLS[provider](server.url), journal).pictures) == 1
        assert len(server.submits) == 1
        away.clear()


# ---- the key exchange


def counts(emulator: Emulator) -> dict[str, int]:
    phases = [record.phase for record in emulator.requests]
    return {"token": phases.count("token"), "submit": phases.count("submit"), "billed": emulator.billed}


def api_key_call(emulator: Emulator) -> Any:
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_API_KEY": "sandbox-hidream-api-key"})
    return raw.hidream_call(emulator.url, account=account)


def test_401_exchanges_an_aged_token_again_and_then_submits(emulator: Emulator) -> None:
    call = api_key_call(emulator)
    raw.run(call)
    emulator.expire_tokens()
    raw.run(call)
    assert counts(emulator) == {"token": 2, "submit": 3, "billed": 2}
    (first, refused, again) = [record for record in emulator.requests if record.phase == "submit"]
    assert refused.status == 401
    assert refused.request_id == again.request_id != first.request_id


def test_401_for_a_token_of_this_very_call_exchanges_again(emulator: Emulator) -> None:
    """The table: "once, after a new exchange"; the same refused token sent twice is none."""
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"status": 401}})
    raw.run(api_key_call(emulator))
    assert counts(emulator) == {"token": 2, "submit": 2, "billed": 1}


def test_401_that_stays_ends_after_one_new_exchange(emulator: Emulator) -> None:
    call = api_key_call(emulator)
    raw.run(call)
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "times": None, "do": {"status": 401}})
    error = failing(call)
    assert type(error) is AuthenticationError and error.billed == "no"
    assert counts(emulator) == {"token": 2, "submit": 3, "billed": 1}


def test_401_with_a_fixed_token_is_a_refusal(emulator: Emulator) -> None:
    environment = {"HIDREAM_TOKEN": "not-the-token", "HIDREAM_API_KEY": "sandbox-hidream-api-key"}
    account = raw.hidream_account(emulator.url, environment=environment)
    error = failing(raw.hidream_call(emulator.url, account=account))
    assert type(error) is AuthenticationError and error.billed == "no"
    assert counts(emulator) == {"token": 0, "submit": 1, "billed": 0}


def test_a_refused_api_key_submits_nothing(emulator: Emulator) -> None:
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_API_KEY": API_KEY})
    error = failing(raw.hidream_call(emulator.url, account=account))
    assert type(error) is AuthenticationError and error.billed == "no"
    assert counts(emulator) == {"token": 1, "submit": 0, "billed": 0}
    assert API_KEY not in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_exchange_that_does_not_work_just_now_submits_nothing(emulator: Emulator, status: int) -> None:
    emulator.add_fault({"endpoint": "token", "phase": "token", "times": None, "do": {"status": status, "html": True}})
    error = failing(api_key_call(emulator))
    assert type(error) is ConnectionFailedError and error.billed == "no"
    assert counts(emulator)["submit"] == 0


# ---- Volcengine's answers


def volcengine_answer(body: Mapping[str, Any], status: int = 200) -> RemoteImageError:
    deadlines = raw.Deadlines(queue=0.01)
    with RawServer(answering(status, body)) as server:
        error = failing(raw.volcengine_call(server.url, deadlines=deadlines))
        assert (server.accepted, server.whole) == (1, 1)
        return error


COMMON_TABLE = {
    **dict.fromkeys((50200, 50201, 50204, 50205, 50206, 50207), InvalidInputError),
    **dict.fromkeys((50209, 50210, 50211, 50213, 50214, 50215, 60102), InvalidInputError),
    50400: AuthenticationError,
    50402: ConfigurationError,
    60208: ModerationError,
}
VOLCENGINE: dict[int, tuple[int, type[RemoteImageError], str]] = {
    50411: (400, ModerationError, "no"),
    50412: (400, ModerationError, "no"),
    50413: (400, ModerationError, "no"),
    50512: (400, ModerationError, "no"),
    50518: (400, ModerationError, "no"),
    50511: (400, ModerationError, "unknown"),
    50516: (400, ModerationError, "unknown"),
    50517: (400, ModerationError, "unknown"),
    50519: (400, ModerationError, "unknown"),
    50520: (400, AmbiguousSubmitError, "unknown"),
    50521: (400, AmbiguousSubmitError, "unknown"),
    50522: (400, AmbiguousSubmitError, "unknown"),
    50429: (429, RateLimitError, "no"),
    50430: (429, RateLimitError, "no"),
    50500: (500, AmbiguousSubmitError, "unknown"),
    50501: (500, AmbiguousSubmitError, "unknown"),
}


def test_every_code_of_the_official_table_is_known() -> None:
    known = {code for provider, code in VENDOR_CODES if provider == "Volcengine"}
    assert known == set(VOLCENGINE) | set(COMMON_TABLE)


@thinned("code_as", [int, str])
@pytest.mark.parametrize("same_status", [True, False], ids=["official status", "HTTP 200"])
@pytest.mark.parametrize("code", list(VOLCENGINE))
def test_volcengine_code(code: int, same_status: bool, code_as: type) -> None:
    status, expected, billed = VOLCENGINE[code]
    body = {"code": code_as(code), "data": None, "message": WORDS, "request_id": "vendor-request-9", "status": code}
    error = volcengine_answer(body, status if same_status else 200)
    assert (type(error), error.billed) == (expected, billed)
    assert (error.code, error.vendor_message, error.request_id) == (code, WORDS, "vendor-request-9")
    assert error.provider == "Volcengine"


@pytest.mark.parametrize("code", [50429, 50430])
@pytest.mark.parametrize("status", [429, 200])
def test_volcengine_limits_are_waited_out(code: int, status: int) -> None:
    busy = answering(status, {"code": code, "message": WORDS, "data": None})
    with RawServer(busy, busy, answering(200, raw.finished_picture())) as server:
        assert len(raw.run(raw.volcengine_call(server.url)).pictures) == 1
        assert server.whole == 3


@pytest.mark.parametrize("code", [7, -1, 999999])
def test_volcengine_unknown_code_is_a_refusal(code: int) -> None:
    error = volcengine_answer({"code": code, "data": None, "message": WORDS, "request_id": "vendor-request-9"})
    assert (type(error), error.billed, error.code) == (ServiceError, "no", code)
    assert error.vendor_message == WORDS


def test_volcengine_algorithm_error() -> None:
    failed = {"algorithm_base_resp": {"status_code": 201304, "status_message": WORDS}, "binary_data_base64": []}
    error = volcengine_answer(raw.finished_picture(**failed))
    assert (type(error), error.billed, error.code) == (TaskFailedError, "unknown", 201304)
    assert error.vendor_message == WORDS and error.request_id == "vendor-request-1"


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        "text",
        {"binary_data_base64": [], "image_urls": None},
        {"binary_data_base64": None, "image_urls": []},
        {"binary_data_base64": [None]},
        {"binary_data_base64": [""]},
        {"binary_data_base64": 7},
        {"image_urls": [{}]},
    ],
    ids=str,
)
def test_volcengine_success_without_a_picture_is_ambiguous(data: Any) -> None:
    error = volcengine_answer({"code": 10000, "data": data, "message": "Success", "request_id": "vendor-request-9"})
    assert (type(error), error.billed) == (AmbiguousSubmitError, "unknown")
    assert error.request_id == "vendor-request-9"


@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_volcengine_response_metadata_error(status: int) -> None:
    told = {"Code": "SignatureDoesNotMatch", "CodeN": 100010, "Message": WORDS}
    metadata = {"RequestId": "vendor-request-9", "Action": "CVProcess", "Error": told}
    error = volcengine_answer({"ResponseMetadata": metadata}, status)
    assert (type(error), error.billed) == (AuthenticationError, "no")
    assert (error.code, error.vendor_message) == ("SignatureDoesNotMatch", WORDS)
    assert error.request_id == "vendor-request-9"


def test_volcengine_other_response_metadata_error() -> None:
    told = {"Code": "InvalidActionOrVersion", "Message": WORDS}
    error = volcengine_answer({"ResponseMetadata": {"RequestId": "vendor-request-9", "Error": told}}, 404)
    assert (type(error), error.billed, error.code) == (ServiceError, "no", "InvalidActionOrVersion")
    assert (error.vendor_message, error.request_id) == (WORDS, "vendor-request-9")


@pytest.mark.parametrize(
    ("status", "expected", "billed"),
    [(401, AuthenticationError, "no"), (402, QuotaError, "no"), (403, AuthenticationError, "no"),
     (400, ServiceError, "no"), (429, RateLimitError, "no"), (500, AmbiguousSubmitError, "unknown")],
)  # fmt: skip
def test_gateway_error_shape(status: int, expected: type[RemoteImageError], billed: str) -> None:
    error = volcengine_answer({"error": {"message": WORDS, "type": "x", "code": "invalid_api_key"}}, status)
    assert (type(error), error.billed) == (expected, billed)
    assert (error.vendor_message, error.code) == (WORDS, "invalid_api_key")


def test_gateway_error_as_a_text_is_shown() -> None:
    error = volcengine_answer({"error": WORDS}, 403)
    assert type(error) is AuthenticationError
    assert "vendor words" in error.vendor_message


# ---- any JSON at all

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["--5", "-", "0", "10000", "٣", "9" * 30]
)  # fmt: skip
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_result = st.fixed_dictionaries({}, optional={"task_id": _values, "sub_task_ids": _values})
_data = st.fixed_dictionaries(
    {},
    optional={
        "binary_data_base64": _values,
        "image_urls": _values,
        "request_id": _values,
        "algorithm_base_resp": st.fixed_dictionaries({}, optional={"status_code": _values, "status_message": _values})
        | _values,
    },
)
_body = st.fixed_dictionaries(
    {},
    optional={
        "code": _values,
        "message": _values,
        "request_id": _values,
        "result": _result | _values,
        "data": _data | _values,
        "error": _values,
        "ResponseMetadata": st.fixed_dictionaries({}, optional={"RequestId": _values, "Error": _values}) | _values,
    },
)


@settings(max_examples=300)
@given(body=_body, status=st.sampled_from([200, 202, 400, 401, 429, 500]))
def test_no_json_answer_raises_anything_but_a_row_of_the_table(body: Any, status: int) -> None:
    answer = Answer(status, {}, json.dumps(body).encode())
    with MonkeyPatch.context() as patch:
        for module in (hidream, volcengine):
            patch.setattr(module, "post_once", lambda *_, **__: answer)
        for call in every_call():
            try:
                accepted = call.service.submit(call.request, "our-request", Phases(CancelToken()))
                assert accepted.task.task_id or accepted.picture
                assert isinstance(accepted.task.task_id, str) and isinstance(accepted.task.request_id, str)
            except NotAccepted as refused:
                assert isinstance(refused.outcome, Outcome)
                assert isinstance(refused.vendor_message, str) and isinstance(refused.request_id, str)


def every_call() -> list[PaidCall]:
    """One of each way to buy."""
    resumable = raw.resumable_account("http://127.0.0.1:1")
    return [
        raw.hidream_call("http://127.0.0.1:1"),
        raw.volcengine_call("http://127.0.0.1:1"),
        raw.volcengine_call("", account=resumable),
    ]


@settings(max_examples=300)
@given(body=_body, status=st.sampled_from([200, 202, 400, 401, 429, 500]))
def test_no_answer_to_a_query_ends_a_task_by_accident(body: Any, status: int) -> None:
    answer = Answer(status, {}, json.dumps(body).encode())
    with MonkeyPatch.context() as patch:
        patch.setattr(hidream, "ask", lambda *_, **__: answer)
        patch.setattr(volcengine, "ask", lambda *_, **__: answer)
        for service in (every_call()[0].service, every_call()[2].service):
            try:
                told = service.query(TaskRef(service.provider, service.name, "task-1", "our-request"))
            except PollError as problem:
                assert str(problem)
                continue
            for sub_task in told:
                assert isinstance(sub_task.image, str) and isinstance(sub_task.base64, str)
                assert sub_task.error is None or str(sub_task.error)


def test_a_code_that_is_almost_a_number_is_shown() -> None:
    error, _ = hidream_answer({"code": "--5", "message": WORDS})
    assert (type(error), error.code) == (ServiceError, "--5")


# ---- request_id


def test_request_id_is_one_per_call_and_reused_by_retries_and_polls() -> None:
    steps = [resetting("body"), answering(429, {}, {"Retry-After": "0"})]
    with RawServer(*steps, raw.serving) as server:
        delivery = raw.run(raw.hidream_call(server.url, image=LARGE))
        whole = [connection for connection in server.submits if connection.whole]
        (request_id,) = {connection.json["request_id"] for connection in whole}
        assert len(whole) == 2 and len(request_id) >= 32
        assert delivery.task is not None and delivery.task.request_id == request_id
        polls = [connection for connection in server.connections if "/results?" in connection.request_line]
        assert polls and all(f"request_id={request_id}" in poll.request_line for poll in polls)
        raw.run(raw.hidream_call(server.url))
        assert server.submits[-1].json["request_id"] != request_id


def test_volcengine_carries_no_request_id() -> None:
    with RawServer(answering(200, raw.finished_picture())) as server:
        raw.run(raw.volcengine_call(server.url))
        assert "request_id" not in server.connections[0].json


# ---- the emulator's own money


@pytest.mark.parametrize(
    ("fault", "billed"),
    [({"reset": "after"}, 1), ({"status": 502, "html": True, "accept": True}, 1), ({"status": 500}, 0)],
    ids=str,
)
def test_an_accepted_submit_whose_answer_got_lost_is_bought_once(
    emulator: Emulator, fault: dict[str, Any], billed: int
) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": fault})
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_TOKEN": "sandbox-hidream-token"})
    error = failing(raw.hidream_call(emulator.url, account=account))
    assert type(error) is AmbiguousSubmitError
    assert counts(emulator) == {"token": 0, "submit": 1, "billed": billed}
