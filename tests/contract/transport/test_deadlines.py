"""An answer that comes byte by byte, head or body, is cut off at its deadline, and what came by then is read."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from hidream_volcengine.api import AmbiguousSubmitError, CancelToken, ConnectionFailedError, Deadlines, TaskTimeoutError
from hidream_volcengine.api.core.redaction import Secret
from hidream_volcengine.api.transport import auth as auth_module
from hidream_volcengine.api.transport import connection as connections
from hidream_volcengine.api.transport import free
from hidream_volcengine.api.transport import submit as transport
from hidream_volcengine.api.transport.auth import ExchangedTokenAuth
from hidream_volcengine.api.transport.connection import NoAuth, Request, origin
from hidream_volcengine.api.transport.download import DownloadError, downloaded
from pytest import MonkeyPatch
from urllib3.connection import HTTPConnection

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import Connection, RawServer, answering

# Each read may take a second, the whole may not.
SOON = Deadlines(connect=0.1, hidream_answer=0.2, cvprocess_answer=0.2, poll=0.2, queue=8, run=8, download=0.5)
DRIPS: dict[str, bytes] = {
    "the header": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "headers before the answer": b"HTTP/1.1 102 Processing\r\nX-Long: ",
    "the size of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
}


def dripping(begin: bytes) -> raw.Step:
    """A byte each 20 ms until the client hangs up; far longer than any test has patience."""

    def drip(connection: Connection) -> None:
        if not connection.head:
            connection.read()
        connection.send(begin)
        while not connection.stopping.wait(0.02):
            connection.send(b"0")

    return drip


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.mark.parametrize("drip", list(DRIPS))
def test_a_poll_that_drips_is_asked_again(drip: str) -> None:
    polls: list[Connection] = []

    def service(connection: Connection) -> None:
        connection.read()
        if "/results?" in connection.request_line:
            polls.append(connection)
            if len(polls) == 1:
                return dripping(DRIPS[drip])(connection)
        return raw.serving_what_was_read(connection)

    with RawServer(service) as server:
        assert len(raw.run(raw.hidream_call(server.url, deadlines=SOON)).pictures) == 1
        assert (len(polls), len(server.submits)) == (2, 1)


@pytest.mark.parametrize("drip", list(DRIPS))
def test_a_download_that_drips_is_made_again(drip: str) -> None:
    options = {"max_bytes": 2**20, "allow_loopback": True, "deadlines": SOON, "cancel": CancelToken()}
    with RawServer(dripping(DRIPS[drip]), answering(200, raw.png(), content_type="image/png")) as server:
        with pytest.raises(DownloadError):
            downloaded(f"{server.url}/p.png", **options)
        with downloaded(f"{server.url}/p.png", **options) as stream:
            assert stream.tell() == len(raw.png())


@pytest.mark.parametrize("make", [raw.hidream_call, raw.volcengine_call])
@pytest.mark.parametrize("drip", list(DRIPS))
def test_a_submit_whose_answer_drips_is_ambiguous(drip: str, make: Callable[..., raw.PaidCall]) -> None:
    with raw.fresh_journal() as journal, RawServer(dripping(DRIPS[drip])) as server:
        for _ in range(2):
            with pytest.raises(AmbiguousSubmitError):
                raw.run(make(server.url, deadlines=SOON), journal)
        assert server.whole == 1, "sent once, and explained the next time"


def test_what_came_before_a_submit_was_cut_is_read() -> None:
    body = json.dumps(raw.accepted()).encode()
    begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)
    with RawServer(raw.serving, raw.serving) as server:
        server._steps = (dripping(begin), raw.serving)
        assert len(raw.run(raw.hidream_call(server.url, deadlines=SOON)).pictures) == 1
        assert len(server.submits) == 1


def test_a_submit_has_twice_its_time_for_an_answer_that_goes_on(monkeypatch: MonkeyPatch) -> None:
    """The answer's own deadline is for each read; a large picture may take longer."""
    limits: list[float] = []
    monkeypatch.setattr(transport.TimeLimit, "restart", lambda limit, seconds: limits.append(seconds))
    with RawServer(raw.serving) as server:
        raw.run(raw.hidream_call(server.url))
    with RawServer(answering(200, raw.finished_picture())) as server:
        raw.run(raw.volcengine_call(server.url, deadlines=Deadlines()))
    assert limits == [2 * raw.QUICK.hidream_answer, 600.0]


def test_an_upload_that_is_taken_a_byte_at_a_time_is_not_sent(monkeypatch: MonkeyPatch) -> None:
    def sipping(connection: Connection) -> None:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        while not connection.stopping.wait(0.02) and connection.sock.recv(1):
            pass

    monkeypatch.setattr(transport, "SLOWEST", 2**30)
    deadlines = Deadlines(connect=0.1, upload_stall=0.4)
    with RawServer(sipping) as server, pytest.raises(ConnectionFailedError) as caught:
        raw.run(raw.hidream_call(server.url, image=raw.LARGE, deadlines=deadlines))
    assert caught.value.billed == "no" and server.whole == 0


def get(url: str, **more: str) -> transport.Answer:
    return free.ask(Request(url, NoAuth(), SOON, **more))


def test_a_connection_that_was_kept_is_cut_too(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    """Plain, and in TLS, whose sockets have no dup()."""

    def keeping(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.head, connection.body = b"", bytearray()
        connection.read()
        dripping(DRIPS["the header"])(connection)

    certificate, with_key = raw.make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    for tls in (None, raw.server_context(with_key)):
        with RawServer(keeping, tls=tls) as server:
            assert get(server.url).body == b"{}"
            with pytest.raises(requests.RequestException):
                get(server.url)
            assert server.accepted == 1


def test_the_line_of_a_thread_serves_again_after_a_cut() -> None:
    with RawServer(dripping(DRIPS["the header"]), answering(200, {"code": 0})) as server:
        with pytest.raises(requests.RequestException):
            get(server.url)
        assert get(server.url).status == 200


def test_connections_of_another_class_are_watched_too() -> None:
    """urllib3 has classes of its own for SOCKS proxies, which need a package that is not installed here."""

    class Socks(HTTPConnection):
        pass

    seen: list[str] = []
    hooks = connections.Hooks(connected=lambda sock, direct: seen.append(f"direct: {direct}"))
    with RawServer(answering(200, {})) as server:
        pool = connections._hooked_pools(hooks, Socks, direct=False)["http"]("127.0.0.1", server.port)
        assert isinstance(pool.ConnectionCls("127.0.0.1"), Socks)
        assert pool.request("GET", "/").status == 200
    assert seen == ["direct: False"]


def test_what_the_emulator_drips_is_cut() -> None:
    with Emulator() as emulator:
        emulator.add_fault({"phase": "result", "do": {"drip": "header"}})
        emulator.add_fault({"phase": "image", "do": {"drip": "body"}})
        account = raw.hidream_account(emulator.url, SOON, {"HIDREAM_TOKEN": "sandbox-hidream-token"})
        deadlines = raw.replace(SOON, download=8)
        call = raw.hidream_call(emulator.url, account=raw.replace(account, deadlines=deadlines))
        assert len(raw.run(call).pictures) == 1
        assert (len(emulator.accepted), emulator.billed) == (1, 1)


# ---- tokens


def exchanging(server: RawServer, key: str, deadlines: Deadlines = raw.QUICK) -> ExchangedTokenAuth:
    return ExchangedTokenAuth(Secret(key), server.url, frozenset({origin(server.url)}), deadlines)


@pytest.mark.parametrize("drip", list(DRIPS))
def test_an_exchange_that_drips_ends(drip: str) -> None:
    with RawServer(dripping(DRIPS[drip])) as server, pytest.raises(ConnectionFailedError):
        exchanging(server, f"key of a drip in {drip}", SOON).token()


def test_an_exchange_that_hangs_holds_up_nobody_else() -> None:
    """Neither another key's exchange, nor a call that has a token."""
    asked, may_end = threading.Event(), threading.Event()

    def service(connection: Connection) -> None:
        connection.read()
        if connection.headers["api-key"] == "key-that-hangs":
            asked.set()
            may_end.wait(raw.PATIENCE)
        connection.answer(200, {"code": 0, "result": {"token": f"token of {connection.headers['api-key']}"}})

    with RawServer(service) as server:
        known = exchanging(server, "key-that-is-known")
        known.token()
        found: list[str] = []
        held = threading.Thread(target=lambda: found.append(exchanging(server, "key-that-hangs").token().reveal()))
        held.start()
        try:
            assert asked.wait(raw.PATIENCE)
            assert known.token().reveal() == "token of key-that-is-known"
            assert exchanging(server, "key-of-another").token().reveal() == "token of key-of-another"
        finally:
            may_end.set()
            held.join(raw.PATIENCE)
        assert found == ["token of key-that-hangs"]


def test_calls_that_wait_for_an_exchange_share_its_failure() -> None:
    """Each would wait for its own otherwise, one after another."""
    may_end = threading.Event()

    def service(connection: Connection) -> None:
        connection.read()
        may_end.wait(raw.PATIENCE)
        connection.answer(500)

    with RawServer(service) as server:
        auth = exchanging(server, "key-of-a-service-that-is-down")
        ended: list[BaseException] = []

        def ask() -> None:
            try:
                auth.token()
            except ConnectionFailedError as error:
                ended.append(error)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        raw.until(lambda: server.accepted == 1 and sum(thread.is_alive() for thread in threads) == 6)
        may_end.set()
        for thread in threads:
            thread.join(raw.PATIENCE)
        assert len({id(error) for error in ended}) == 6
        # A thread may have asked a moment after the first exchange had ended.
        assert server.accepted <= 2


def test_a_poll_is_cut_whatever_its_exchange_did(monkeypatch: MonkeyPatch) -> None:
    """A token exchange within a poll runs on the same thread, and may begin when the poll's time is over."""
    limits: list[transport.TimeLimit] = []

    class Watched(transport.TimeLimit):
        def __enter__(self) -> transport.TimeLimit:
            limits.append(self)
            return super().__enter__()

    def service(connection: Connection) -> None:
        connection.read()
        if "apikey2token" in connection.request_line:
            return connection.answer(200, {"code": 0, "result": {"token": "a token"}})
        return dripping(DRIPS["the header"])(connection)

    monkeypatch.setattr(free, "TimeLimit", Watched)
    with RawServer(service) as server:
        auth = exchanging(server, "key-of-a-poll", raw.QUICK)
        ended: list[str] = []

        def poll() -> None:
            with pytest.raises(requests.RequestException):
                free.ask(Request(server.url, auth, SOON))
            ended.append("cut")

        polling = threading.Thread(target=poll, daemon=True)
        with auth_module._exchanging.setdefault((auth.base_url, auth.api_key), threading.Lock()):
            polling.start()
            raw.until(lambda: limits and limits[0].passed)
        polling.join(raw.PATIENCE)
        assert ended == ["cut"]


def test_a_token_is_read_while_the_same_key_is_exchanged_anew() -> None:
    """A 401 of one call makes it exchange again; the others use what they have until the new one is there."""
    with RawServer(answering(200, {"code": 0, "result": {"token": "the first"}})) as server:
        auth = exchanging(server, "key-of-many-calls")
        assert auth.token().reveal() == "the first"
        with auth_module._exchanging[auth.base_url, auth.api_key]:
            assert auth.token().reveal() == "the first"


# ---- a task that never gets its picture


def test_a_task_whose_every_poll_drips_is_parked() -> None:
    def service(connection: Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            return connection.answer(200, raw.accepted())
        return dripping(DRIPS["the header"])(connection)

    began = time.monotonic()
    with RawServer(service) as server, pytest.raises(TaskTimeoutError):
        raw.run(raw.hidream_call(server.url, deadlines=raw.replace(SOON, queue=0.5, run=0.5)))
    assert time.monotonic() - began < raw.PATIENCE
