"""One exchange over the wire: what is done before its first byte, and free POSTs."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hidream_volcengine.api import (
    CallCancelled,
    CancelToken,
    ConfigurationError,
    Deadlines,
    PaidCall,
    Text,
    wait_for_submits,
)
from hidream_volcengine.api.catalog.endpoints import hidream_upscale, volcengine_outpaint
from hidream_volcengine.api.core.redaction import Secret
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.services import HiDreamService, VolcengineService
from hidream_volcengine.api.transport import submit as transport
from hidream_volcengine.api.transport.auth import BearerAuth
from hidream_volcengine.api.transport.connection import Hooks, Request, origin
from hidream_volcengine.api.transport.free import ask
from hidream_volcengine.api.transport.received import Answer
from hidream_volcengine.api.transport.submit import NoAnswerError, NotSentError, Phases, post_once
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import MonkeyPatch

from tests.contract import raw_servers as raw
from tests.contract.raw_servers import LARGE, QUICK, Connection, RawServer, answering

BODY = b'{"image": "' + LARGE.encode("ascii") + b'"}'


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return raw.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def without_hooks(monkeypatch: MonkeyPatch) -> None:
    """As if urllib3 had made a connection of a class of its own: nobody sees that connect."""
    hooked = transport.new_session
    monkeypatch.setattr(transport, "new_session", lambda request, hooks: hooked(request, Hooks()))


def key_for(url: str) -> BearerAuth:
    return BearerAuth(Secret(raw.TOKEN), frozenset({origin(url)}))


def sent(url: str, body: bytes = b"{}", **phases: Any) -> Answer:
    return post_once(Request(url, key_for(url), QUICK, body=body), 2, Phases(**{"cancel": CancelToken(), **phases}))


class Unwritten(Exception):
    """The journal could not be written."""


def unwritten() -> None:
    raise Unwritten


# ---- before the first byte


def received(connection: Connection) -> None:
    """Keep every byte that comes, as it comes."""
    connection.wait_for_close()


def what_came(server: RawServer) -> bytes:
    """Every byte of the one connection to a server of ``received``."""
    raw.until(lambda: server.connections and server.connections[0].closed_by_client)
    assert server.accepted == 1
    return bytes(server.connections[0].body)


@pytest.mark.parametrize("body", [b"{}", BODY], ids=["small", "large"])
def test_what_must_be_done_first_and_fails_leaves_the_request_unsent(body: bytes) -> None:
    with RawServer(received) as server:
        with pytest.raises(Unwritten):
            sent(server.url, body, before_sending=unwritten)
        assert what_came(server) == b""


def test_it_is_done_after_the_handshake(tls_files: tuple[Path, Path], monkeypatch: MonkeyPatch) -> None:
    """A handshake may fail and be made again any number of times; it sends nothing that could be accepted."""
    certificate, with_key = tls_files
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    calls: list[str] = []
    with RawServer(raw.cut_handshake) as server:
        with pytest.raises(NotSentError):
            sent(f"https://127.0.0.1:{server.port}", before_sending=lambda: calls.append("too early"))
        assert calls == []
    with RawServer(received, tls=raw.server_context(with_key)) as server:
        with pytest.raises(Unwritten):
            sent(server.url, before_sending=unwritten)
        assert what_came(server) == b""
        assert isinstance(server.connections[0].sock, ssl.SSLSocket), "the handshake was not finished"


def test_it_is_not_done_where_nobody_answers() -> None:
    calls: list[str] = []
    with pytest.raises(NotSentError):
        sent(f"http://127.0.0.1:{raw.closed_port()}", before_sending=lambda: calls.append("too early"))
    assert calls == []


def test_without_hooks_not_one_byte_of_the_body_is_sent(without_hooks: None) -> None:
    """There the head has gone ahead; a service cannot accept a body that it has not got."""
    with RawServer(received) as server:
        with pytest.raises(Unwritten):
            sent(server.url, BODY, before_sending=unwritten)
        head, _, body = what_came(server).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(BODY)}".encode() in head and body == b""


class Watched:
    """A server that looks, while ``before_sending`` runs, whether anything has come, and reads everything then."""

    def __init__(self) -> None:
        self.called = 0
        self.early: list[bool] = []
        self._inside, self._looked = threading.Event(), threading.Event()

    def before_sending(self) -> None:
        self.called += 1
        self._inside.set()
        assert self._looked.wait(raw.PATIENCE)

    def step(self, connection: Connection) -> None:
        assert self._inside.wait(raw.PATIENCE)
        # A request that had been sent before would be here at once: both ends are this machine.
        self.early.append(bool(select.select([connection.sock], [], [], 0.1)[0]))
        self._looked.set()
        connection.read()
        connection.answer(200, b"{}")


@pytest.mark.parametrize("body", [b"{}", BODY], ids=["small", "large"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_it_is_done_once_and_before_the_first_byte(
    body: bytes, tls: bool, tls_files: tuple[Path, Path], monkeypatch: MonkeyPatch
) -> None:
    certificate, with_key = tls_files
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    watched = Watched()
    context = raw.server_context(with_key) if tls else None
    if context is not None:
        # Tickets of TLS 1.3 go the other way; what is looked for here is what the client sends.
        context.num_tickets = 0
    with RawServer(watched.step, tls=context) as server:
        answer = sent(server.url, body, before_sending=watched.before_sending)
        assert (answer.status, server.whole) == (200, 1)
        assert (watched.called, watched.early) == (1, [False])
        assert bytes(server.connections[0].body) == body


def test_without_hooks_it_is_done_once_and_before_the_first_byte_of_the_body(without_hooks: None) -> None:
    calls: list[int] = []

    def count() -> None:
        raw.until(lambda: server.connections and server.connections[0].head)
        calls.append(len(server.connections[0].body))

    with RawServer(answering(200, b"{}")) as server:
        sent(server.url, BODY, before_sending=count)
        assert calls == [0]
        assert bytes(server.connections[0].body) == BODY


def test_each_try_is_written_down_and_no_other(monkeypatch: MonkeyPatch) -> None:
    """NOT_SENT and 429 go again: the journal knows of each try while the service has it."""
    raw.brisk(monkeypatch)
    seen: list[str] = []

    def looking(step: raw.Step) -> raw.Step:
        def wrapped(connection: Connection) -> None:
            connection.sock.recv(1, socket.MSG_PEEK)
            seen.append(journal.task_list.tasks()[0].state)
            step(connection)

        return wrapped

    busy = answering(429, {}, {"Retry-After": "0"})
    steps = [looking(raw.resetting("body")), looking(busy), looking(raw.serving), raw.serving]
    with RawServer(*steps) as server, raw.fresh_journal() as journal:
        raw.run(raw.hidream_call(server.url, image=LARGE), journal)
        assert seen == ["submitting"] * 3


@pytest.mark.parametrize("kind", ["HiDream", "CVProcess", "CVSync2Async"])
def test_every_service_does_it_before_it_sends(kind: str) -> None:
    with RawServer(received) as server:
        account = raw.hidream_account(server.url)
        service: HiDreamService | VolcengineService = HiDreamService(account, hidream_upscale.ENDPOINT)
        request: Any = raw.upscale_request()
        if kind != "HiDream":
            make = raw.volcengine_account if kind == "CVProcess" else raw.resumable_account
            service, request = VolcengineService(make(server.url), volcengine_outpaint.ENDPOINT), raw.sides_request()
        with pytest.raises(Unwritten):
            service.submit(request, "our-request", Phases(CancelToken(), unwritten))
        assert what_came(server) == b""


@pytest.mark.parametrize("make", [raw.hidream_call, raw.volcengine_call])
def test_a_journal_that_cannot_be_written_sends_nothing(
    make: Callable[..., PaidCall], monkeypatch: MonkeyPatch
) -> None:
    full = ConfigurationError(Text("The disk is full.", "磁盘已满。"))

    def cannot(_: Claim, options: str) -> None:
        raise full

    with RawServer(received) as server, raw.fresh_journal() as journal:
        call = make(server.url, image=LARGE)
        with monkeypatch.context() as patch:
            patch.setattr(Claim, "submitting", cannot)
            with pytest.raises(ConfigurationError) as caught:
                raw.run(call, journal)
        assert caught.value is full
        assert what_came(server) == b""
        assert [task.state for task in journal.task_list.tasks()] == ["cancelled"], "it may be bought later"


def test_a_cancel_while_it_is_done_sends_nothing() -> None:
    cancel = CancelToken()
    with RawServer(received) as server:
        with pytest.raises(CallCancelled):
            sent(server.url, BODY, before_sending=cancel.cancel, cancel=cancel)
        assert what_came(server) == b""


def test_without_hooks_a_cancel_while_it_is_done_sends_no_byte_of_the_body(without_hooks: None) -> None:
    cancel = CancelToken()
    with RawServer(received) as server:
        with pytest.raises(CallCancelled):
            sent(server.url, BODY, before_sending=cancel.cancel, cancel=cancel)
        assert what_came(server).partition(b"\r\n\r\n")[2] == b""


# ---- the last byte


def test_the_last_byte_is_told_once_and_only_when_it_is_handed_over() -> None:
    told: list[str] = []
    with RawServer(answering(200, b"{}")) as server:
        sent(server.url, BODY, on_sent=lambda: told.append("sent"))
        assert told == ["sent"]
    with RawServer(raw.resetting("body")) as server:
        with pytest.raises(NotSentError):
            sent(server.url, BODY, on_sent=lambda: told.append("too early"))
        assert told == ["sent"]


@pytest.mark.parametrize("body", [b"{}", BODY], ids=["small", "large"])
def test_a_cancel_between_the_last_byte_and_the_end_of_the_body_waits_for_the_answer(body: bytes) -> None:
    """http.client reads a body until it ends: by that read the request is on its way."""
    cancel = CancelToken()
    with RawServer(answering(200, b'{"told": 1}')) as server:
        assert sent(server.url, body, cancel=cancel, on_sent=cancel.cancel).body == b'{"told": 1}'
        assert server.whole == 1


def test_no_answer_after_the_last_byte_is_no_unsent_request() -> None:
    with RawServer(raw.resetting("whole")) as server:
        with pytest.raises(NoAnswerError):
            sent(server.url, BODY)
        assert server.whole == 1


# ---- free POSTs


def asked(url: str, body: bytes = b'{"task_id": "task-1"}', deadlines: Deadlines = QUICK, **params: str) -> Answer:
    return ask(Request(url, key_for(url), deadlines, params=params or {"Action": "Query"}, body=body))


def test_ask_is_one_post_of_json_with_the_key() -> None:
    with RawServer(answering(200, {"code": 10000})) as server:
        answer = asked(server.url, Action="CVSync2AsyncGetResult", Version="2022-08-31")
        assert (answer.status, answer.body) == (200, b'{"code": 10000}')
        (connection,) = server.connections
        assert connection.request_line == "POST /?Action=CVSync2AsyncGetResult&Version=2022-08-31 HTTP/1.1"
        assert connection.headers["content-type"] == "application/json"
        assert connection.headers["authorization"] == f"Bearer {raw.TOKEN}"
        assert bytes(connection.body) == b'{"task_id": "task-1"}'
        assert "cookie" not in connection.headers


@pytest.mark.parametrize("status", [201, 204, 400, 401, 404, 429, 500, 502])
def test_ask_returns_any_status(status: int) -> None:
    with RawServer(answering(status, b"" if status == 204 else b"words", {"Retry-After": "7"})) as server:
        answer = asked(server.url)
        assert (answer.status, answer.headers["retry-after"]) == (status, "7")
        assert server.accepted == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_ask_follows_no_redirect(status: int) -> None:
    elsewhere = answering(status, b"", {"Location": "/elsewhere"})
    with RawServer(elsewhere, answering(200)) as server:
        assert asked(server.url).status == status
        assert server.accepted == 1


def nonsense(connection: Connection) -> None:
    connection.read()
    connection.send(b"\x00\x01\x02\r\n\r\n")


TROUBLES: Mapping[str, raw.Step] = {
    "accept": raw.resetting("accept"),
    "head": raw.resetting("headers"),
    "whole": raw.resetting("whole"),
    "answer": raw.resetting("answer"),
    "nothing": lambda connection: connection.read(),
    "nonsense": nonsense,
}


@pytest.mark.parametrize("trouble", list(TROUBLES))
def test_ask_that_brings_no_answer_raises_one_kind(trouble: str) -> None:
    with RawServer(TROUBLES[trouble]) as server, pytest.raises(requests.RequestException):
        asked(server.url)


def test_ask_where_nobody_listens() -> None:
    with pytest.raises(requests.RequestException):
        asked(f"http://127.0.0.1:{raw.closed_port()}")


def test_ask_ends_in_bounded_time() -> None:
    def drip(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not connection.stopping.wait(0.02):
            connection.send(b" ")

    def drip_redirect(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
        while not connection.stopping.wait(0.02):
            connection.send(b" ")

    for step in (raw.hanging, drip, drip_redirect):
        with RawServer(step) as server:
            began = time.monotonic()
            with pytest.raises(requests.RequestException):
                asked(server.url, deadlines=Deadlines(connect=0.2, poll=0.3))
            assert time.monotonic() - began < 2.5


def test_ask_gives_the_key_to_no_other_host() -> None:
    with RawServer(answering(200)) as server, pytest.raises(ConfigurationError):
        ask(Request(server.url, key_for("https://host.example.com"), QUICK, body=b"{}"))
    assert server.accepted == 0


def test_ask_takes_neither_netrc_nor_a_proxy_for_loopback(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canary-user password canary-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(answering(200)) as server, RawServer(answering(403)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert asked(server.url).status == 200
        assert server.connections[0].headers["authorization"] == f"Bearer {raw.TOKEN}"
        assert proxy.accepted == 0


def test_ask_trusts_no_certificate_that_it_does_not_know(tls_files: tuple[Path, Path]) -> None:
    with RawServer(answering(200), tls=raw.server_context(tls_files[1])) as server:
        with pytest.raises(requests.exceptions.SSLError):
            asked(server.url)
        assert server.whole == 0


def test_the_end_of_the_process_does_not_wait_for_a_free_question() -> None:
    def ask_in_vain() -> None:
        with pytest.raises(requests.RequestException):
            asked(server.url)

    with RawServer(raw.hanging) as server:
        thread = threading.Thread(target=ask_in_vain)
        thread.start()
        raw.until(lambda: server.whole)
        began = time.monotonic()
        wait_for_submits(5)
        assert time.monotonic() - began < 0.5
        server.connections[0].reset()
        thread.join(raw.PATIENCE)
        assert not thread.is_alive()


@settings(max_examples=25)
@given(st.dictionaries(st.text("abc&=?#/ 字", min_size=1, max_size=6), st.text(max_size=6), min_size=1, max_size=3))
def test_ask_loses_nothing_of_what_is_asked(params: dict[str, str]) -> None:
    with RawServer(answering(200)) as server:
        ask(Request(server.url, key_for(server.url), QUICK, params=params, body=b"{}"))
        query = urlsplit(server.connections[0].request_line.split(" ")[1]).query
        assert parse_qs(query, keep_blank_values=True) == {name: [value] for name, value in params.items()}
