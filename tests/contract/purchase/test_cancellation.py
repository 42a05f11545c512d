"""Cancelling a call at every phase: it ends at once, nothing is half sent and paid, and nothing paid is lost."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    Batch,
    BatchOutcome,
    CallCancelled,
    CallHandle,
    CancelToken,
    Deadlines,
    Run,
    pack_logger,
    wait_for_submits,
)
from hidream_volcengine.api.services import hidream, volcengine
from hidream_volcengine.api.transport import connection as connections
from hidream_volcengine.api.transport import submit as transport
from pytest import LogCaptureFixture, MonkeyPatch

from tests.contract import raw_servers as raw
from tests.contract.raw_servers import (
    LARGE,
    Connection,
    RawServer,
    Running,
    answering,
    closed_port,
    results,
    sub_task,
    until,
)

FELT = 0.3
# Deadlines that no test reaches: a call that ends before them ends because of the cancel.
LONG = Deadlines(connect=5, upload_stall=5, hidream_answer=5, cvprocess_answer=5, poll=5, queue=60, run=60, download=60)

CALLS: dict[str, Callable[..., Any]] = {"HiDream": raw.hidream_call, "Volcengine": raw.volcengine_call}
both_services = pytest.mark.parametrize("provider", list(CALLS))


def felt(running: Running) -> float:
    """Cancel, and check that this and nothing else ended the call; return the seconds that it took."""
    assert running.alive, running.problem
    seconds = running.felt()
    assert type(running.problem) is CallCancelled, running.problem
    assert running.delivery is None
    return seconds


# ---- nothing was sent yet


@both_services
def test_before_it_began(provider: str) -> None:
    with RawServer(raw.serving) as server:
        cancel = CancelToken()
        cancel.cancel()
        running = Running(CALLS[provider](server.url), cancel)
        running.join()
        assert type(running.problem) is CallCancelled
        assert server.accepted == 0


@both_services
def test_while_waiting_to_connect_again(provider: str) -> None:
    running = Running(CALLS[provider](f"http://127.0.0.1:{closed_port()}", deadlines=LONG))
    until(lambda: "submitting" in running.stages)
    time.sleep(0.05)
    assert felt(running) < FELT


def silent(connection: Connection) -> None:
    """Accept, take what comes, and never do a handshake."""
    connection.head = connection.sock.recv(5)
    connection.wait_for_close()


@both_services
def test_in_a_stalled_tls_handshake_nothing_is_sent(provider: str) -> None:
    deadlines = raw.replace(LONG, connect=1.0)
    with RawServer(silent) as server:
        running = Running(CALLS[provider](f"https://127.0.0.1:{server.port}", deadlines=deadlines))
        until(lambda: server.connections and server.connections[0].head)
        assert felt(running) < 2
        assert server.accepted == 1


def test_a_stalled_tls_handshake_is_cut() -> None:
    with RawServer(silent) as server:
        running = Running(raw.hidream_call(f"https://127.0.0.1:{server.port}", deadlines=raw.replace(LONG, connect=2)))
        until(lambda: server.connections and server.connections[0].head)
        assert felt(running) < FELT


def test_between_the_handshake_and_the_first_byte(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    certificate, with_key = raw.make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    cancel = CancelToken()
    context = raw.server_context(with_key)
    shaken = threading.Event()

    def shake(connection: Connection) -> None:
        # The cancel comes while the client is still in its handshake.
        cancel.cancel()
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        shaken.set()
        connection.read_head()

    with RawServer(shake) as server:
        running = Running(raw.hidream_call(f"https://127.0.0.1:{server.port}"), cancel)
        running.join()
        assert type(running.problem) is CallCancelled
        assert server.connections[0].head == b"" and server.accepted == 1


@both_services
def test_in_a_stalled_upload(provider: str) -> None:
    with RawServer(raw.stalled) as server:
        running = Running(CALLS[provider](server.url, image=LARGE, deadlines=LONG))
        until(lambda: server.connections and server.connections[0].head)
        assert felt(running) < FELT
        assert (server.accepted, server.whole) == (1, 0)


def test_in_an_upload_over_tls(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    certificate, with_key = raw.make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with RawServer(raw.stalled, tls=raw.server_context(with_key)) as server:
        running = Running(raw.hidream_call(server.url, image=LARGE, deadlines=LONG))
        until(lambda: server.connections and server.connections[0].head)
        assert felt(running) < FELT
        assert (server.accepted, server.whole) == (1, 0)


def test_in_a_slow_upload_the_service_never_has_it_whole() -> None:
    got = threading.Event()

    def slow(connection: Connection) -> None:
        connection.read_head()
        connection.read_body(200_000)
        got.set()
        connection.wait_for_close()

    with RawServer(slow) as server:
        running = Running(raw.hidream_call(server.url, image=LARGE * 2, deadlines=LONG))
        got.wait(5)
        running.cancel.cancel()
        running.join()
        # The server reads as fast as it can: the last byte may have been on its way already, and then it counts.
        if type(running.problem) is CallCancelled:
            until(lambda: server.connections[0].closed_by_client)
            assert not server.connections[0].whole
        assert server.accepted == 1


# ---- waiting


@both_services
@pytest.mark.parametrize("retry_after", [{"Retry-After": "20"}, {}], ids=["told", "own pause"])
def test_in_the_back_off_of_429(provider: str, retry_after: dict[str, str]) -> None:
    with RawServer(answering(429, {}, retry_after)) as server:
        running = Running(CALLS[provider](server.url, deadlines=LONG))
        until(lambda: "queued" in running.stages)
        assert felt(running) < FELT
        assert server.accepted == 1


def test_between_polls(caplog: LogCaptureFixture) -> None:
    def service(connection: Connection) -> None:
        connection.read()
        post = connection.request_line.startswith("POST")
        connection.answer(200, raw.accepted() if post else results(sub_task(status=2)))

    with RawServer(service) as server, caplog.at_level(logging.INFO, pack_logger().name):
        running = Running(raw.hidream_call(server.url, deadlines=LONG))
        until(lambda: "running" in running.stages)
        assert felt(running) < FELT
        assert len(server.submits) == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("task_id=task-1" in line for line in warnings), "a task that goes on is named"


def test_in_the_back_off_of_polls() -> None:
    def service(connection: Connection) -> None:
        connection.read()
        post = connection.request_line.startswith("POST")
        connection.answer(200 if post else 502, raw.accepted() if post else b"")

    with RawServer(service) as server:
        running = Running(raw.hidream_call(server.url, deadlines=LONG))
        until(lambda: len(server.connections) >= 3)
        assert felt(running) < FELT


def test_in_a_hanging_poll_it_ends_with_the_poll() -> None:
    """The worker ends by itself; the node that waits for it has left long before (nodes/comfy/host.py)."""

    def service(connection: Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            return connection.answer(200, raw.accepted())
        return raw.hanging(connection)

    with RawServer(service) as server:
        running = Running(raw.hidream_call(server.url, deadlines=raw.replace(LONG, poll=0.5)))
        until(lambda: any("/results?" in entry.request_line for entry in server.connections))
        assert felt(running) < 2
        assert len(server.submits) == 1


# ---- downloading


def downloading(file: raw.Step, deadlines: Deadlines = LONG) -> Iterator[tuple[RawServer, Running]]:
    with RawServer(file) as files:

        def service(connection: Connection) -> None:
            connection.read()
            post = connection.request_line.startswith("POST")
            connection.answer(200, raw.accepted() if post else results(sub_task(image=f"{files.url}/p.png")))

        with RawServer(service) as server:
            running = Running(raw.hidream_call(server.url, deadlines=deadlines))
            until(lambda: files.connections and files.connections[0].head)
            yield files, running


def test_in_a_download_that_flows() -> None:
    def flow(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not connection.stopping.is_set():
            connection.send(bytes(64 * 1024))
            time.sleep(0.005)

    for files, running in downloading(flow):
        assert felt(running) < FELT
        assert files.accepted == 1


def drip(connection: Connection) -> None:
    connection.read()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(150):
        connection.send(b"x")
        time.sleep(0.02)


def test_in_a_download_that_drips() -> None:
    for _, running in downloading(drip):
        time.sleep(0.05)
        assert felt(running) < FELT


def test_in_a_download_that_stalls() -> None:
    for _, running in downloading(raw.hanging, raw.replace(LONG, poll=2)):
        time.sleep(0.05)
        assert felt(running) < FELT


def test_in_the_back_off_of_a_download() -> None:
    for _, running in downloading(answering(404)):
        time.sleep(0.1)
        assert felt(running) < FELT


# ---- after the last byte


@both_services
def test_a_cancel_at_the_last_byte_still_waits_for_the_answer(
    provider: str, monkeypatch: MonkeyPatch, caplog: LogCaptureFixture
) -> None:
    """From here on the service may accept and bill: closing the connection now would lose the task id for good."""
    cancel = CancelToken()
    module = hidream if provider == "HiDream" else volcengine

    def submit(request: Any, answer_timeout: float, phases: transport.Phases) -> transport.Answer:
        return transport.post_once(request, answer_timeout, raw.replace(phases, on_sent=cancel.cancel))

    monkeypatch.setattr(module, "post_once", submit)
    answer = raw.accepted() if provider == "HiDream" else raw.finished_picture(request_id="task-1")
    with RawServer(answering(200, answer)) as server, caplog.at_level(logging.INFO, pack_logger().name):
        running = Running(CALLS[provider](server.url, deadlines=LONG), cancel)
        running.join()
        until(lambda: server.connections and (server.whole or server.connections[0].closed_by_client))
        if server.whole:
            named = "task_id=task-1" if provider == "HiDream" else "request_id=vendor-request-1"
            assert any(named in record.getMessage() for record in caplog.records), "bought, and nobody knows of it"
        assert server.accepted == 1


def held(answer: Any, may_answer: threading.Event, has_it: threading.Event) -> raw.Step:
    def step(connection: Connection) -> None:
        connection.read()
        has_it.set()
        may_answer.wait(5)
        connection.answer(*answer)

    return step


def test_after_the_last_byte_the_submit_ends_by_itself_and_the_task_is_logged(caplog: LogCaptureFixture) -> None:
    may_answer, has_it = threading.Event(), threading.Event()
    step = held((200, raw.accepted()), may_answer, has_it)
    with RawServer(step, raw.serving) as server, caplog.at_level(logging.INFO, pack_logger().name):
        running = Running(raw.hidream_call(server.url, deadlines=LONG))
        assert has_it.wait(5)
        running.cancel.cancel()
        time.sleep(0.1)
        assert running.alive, "the answer is waited for: the task is bought"
        assert not server.connections[0].closed_by_client
        may_answer.set()
        running.join()
        assert type(running.problem) is CallCancelled
        assert server.accepted == 1, "no poll, no second submit"
        request_id = server.connections[0].json["request_id"]
    lines = [record.getMessage() for record in caplog.records]
    assert any("accepted" in line and "task_id=task-1" in line and request_id in line for line in lines)
    assert any("task_id=task-1" in line and "Remote Task Result" in line for line in lines)


def test_after_the_last_byte_volcengines_request_is_logged(caplog: LogCaptureFixture) -> None:
    may_answer, has_it = threading.Event(), threading.Event()
    step = held((200, raw.finished_picture()), may_answer, has_it)
    with RawServer(step) as server, caplog.at_level(logging.INFO, pack_logger().name):
        running = Running(raw.volcengine_call(server.url, deadlines=LONG))
        assert has_it.wait(5)
        running.cancel.cancel()
        may_answer.set()
        running.join()
        assert server.accepted == 1
    assert any("vendor-request-1" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("answer", [(429, {}, {"Retry-After": "0"}), (401, {})], ids=str)
def test_a_cancelled_submit_is_not_sent_again(answer: Any) -> None:
    may_answer, has_it = threading.Event(), threading.Event()
    with RawServer(held(answer, may_answer, has_it)) as server:
        account = raw.hidream_account(server.url)
        running = Running(raw.hidream_call(server.url, account=raw.replace(account, deadlines=LONG)))
        assert has_it.wait(5)
        running.cancel.cancel()
        may_answer.set()
        running.join()
        assert server.accepted == 1


@both_services
def test_an_ambiguous_submit_after_a_cancel_is_logged(provider: str, caplog: LogCaptureFixture) -> None:
    may_answer, has_it = threading.Event(), threading.Event()
    with RawServer(held((502, b""), may_answer, has_it)) as server, caplog.at_level(logging.INFO, pack_logger().name):
        running = Running(CALLS[provider](server.url, deadlines=LONG))
        assert has_it.wait(5)
        running.cancel.cancel()
        may_answer.set()
        running.join()
        assert server.accepted == 1
    assert any(record.levelno >= logging.WARNING for record in caplog.records)


# ---- the end of the process


def test_wait_for_submits_waits_for_those_in_flight_and_no_longer() -> None:
    began = time.monotonic()
    wait_for_submits(5)
    assert time.monotonic() - began < 0.2
    may_answer, has_it = threading.Event(), threading.Event()
    with RawServer(held((200, raw.accepted()), may_answer, has_it), raw.serving) as server:
        running = Running(raw.hidream_call(server.url, deadlines=LONG))
        assert has_it.wait(5)
        running.cancel.cancel()
        began = time.monotonic()
        wait_for_submits(0.2)
        assert 0.2 <= time.monotonic() - began < 0.5
        threading.Timer(0.1, may_answer.set).start()
        wait_for_submits(5)
        assert time.monotonic() - began < 2
        running.join()
        assert server.accepted == 1


def test_a_failed_submit_is_no_longer_waited_for(monkeypatch: MonkeyPatch) -> None:
    raw.brisk(monkeypatch)
    for url in (f"http://127.0.0.1:{closed_port()}", "https://no-such-host.invalid"):
        running = Running(raw.volcengine_call(url))
        running.join()
        assert running.problem is not None
    began = time.monotonic()
    wait_for_submits(5)
    assert time.monotonic() - began < 0.2


# ---- the token itself


def test_callbacks_run_on_a_cancel_and_only_while_their_block_runs() -> None:
    ran: list[str] = []
    cancel = CancelToken()
    with cancel.calling(lambda: ran.append("one")), cancel.calling(lambda: ran.append("two")):
        cancel.cancel()
    assert ran == ["one", "two"]
    cancel.cancel()
    assert ran == ["one", "two"], "left blocks are not called any more"
    with cancel.calling(lambda: ran.append("at once")):
        assert ran[-1] == "at once"
    with pytest.raises(CallCancelled):
        cancel.check()
    began = time.monotonic()
    with pytest.raises(CallCancelled):
        cancel.sleep(5)
    assert time.monotonic() - began < FELT


def relaying(port: int) -> raw.Step:
    """A proxy that grants every CONNECT and leads to a server of this test."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def step(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as inner:
            back = threading.Thread(target=pump, args=(inner, connection.sock), daemon=True)
            back.start()
            pump(connection.sock, inner)

    return step


def test_a_cancel_cuts_a_connection_inside_an_https_proxy(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    """TLS inside TLS is no SSLSocket to urllib3; what cancel() raised would leave a node's other calls running."""
    certificate, with_key = raw.make_certificate(tmp_path)
    context = raw.server_context(with_key)
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with RawServer(raw.stalled, tls=context) as server, RawServer(relaying(server.port), tls=context) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        running = Running(raw.hidream_call(server.url, image=LARGE, deadlines=LONG))
        until(lambda: server.connections and server.connections[0].head)
        assert felt(running) < FELT
        assert (proxy.accepted, server.accepted, server.whole) == (1, 1, 0)


def test_a_failed_sibling_keeps_the_rest_of_a_batch_from_being_bought() -> None:
    with RawServer(answering(400, {"code": 1001, "message": "no"})) as server:
        watch = CallHandle(CancelToken(), lambda progress: None)
        with raw.fresh_journal() as journal:
            batch = Batch(journal, [raw.hidream_call(server.url) for _ in range(3)], Run().node().item())
            found = [batch.run(index, watch) for index in range(3)]
        assert [result.error is not None for result in found] == [True, False, False]
        assert server.accepted == 1
        assert "1001" in str(BatchOutcome(found).error(accept_partial=True))
