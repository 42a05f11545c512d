"""One paid POST, after which it is known for certain whether the whole request was sent.

A submit is judged by this *phase*, not by exception class: it goes over a new connection, with a body that counts the
bytes handed to the socket. With fewer bytes than its Content-Length, a service cannot have accepted the request.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import requests

from ..core import CancelToken, json_object
from . import received
from .connection import BROKEN, Hooks, LiveConnection, Request, log_exchange, new_session
from .received import Answer
from .time_limit import SLOWEST, TimeLimit


class NotSentError(Exception):
    """The request did not reach the service whole; sending it again cannot buy twice."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause

    @property
    def permanent(self) -> bool:
        """Whether trying again is pointless: an invalid certificate, or a SOCKS proxy without the package PySocks."""
        reasons = (ssl.SSLCertVerificationError, requests.exceptions.InvalidSchema)
        return any(find_cause(self.cause, reason) is not None for reason in reasons)


class NoAnswerError(Exception):
    """The whole request was handed over, and no usable answer came: it may or may not have been accepted.

    ``body`` is as much of an answer as came.
    """

    def __init__(self, reason: str, body: bytes = b"") -> None:
        super().__init__(reason)
        self.body = body


def find_cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first exception of ``kind`` among ``error``, its causes, contexts and the reasons urllib3 wraps."""
    seen: set[int] = set()
    to_visit = [error]
    while to_visit:
        current = to_visit.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        to_visit += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return None


# ---- the submit


@dataclass(frozen=True)
class Phases:
    """How a submit can be cancelled, and what it calls on its way.

    ``before_sending`` is called after the TLS handshake and before the first byte of the request; if it raises, nothing
    is sent. ``on_sent`` is called when the last byte is handed over: from then on ``cancel`` has no effect on the
    request, which is waited for until it is answered.
    """

    cancel: CancelToken
    before_sending: Callable[[], None] = lambda: None
    on_sent: Callable[[], None] = lambda: None


class _CountingBody:
    """A request body that counts its bytes handed to the socket; after the last one, a cancel has no effect.

    ``before_sending`` of ``phases`` is called before each read, ``on_sent`` when the last byte is handed over.
    """

    def __init__(self, data: bytes, phases: Phases, connection: LiveConnection) -> None:
        self.data = data
        self._view = memoryview(data)
        self._phases = phases
        self._connection = connection
        self._lock = threading.Lock()
        self.handed_over = 0

    def __len__(self) -> int:
        return len(self.data)

    def read(self, size: int = -1) -> bytes:
        self._phases.before_sending()
        with self._lock:
            if self.is_complete:
                # The read that finds the end: the request is on its way, so that a cancel must not raise here.
                return b""
            self._phases.cancel.check()
            end = len(self.data) if size < 0 else min(len(self.data), self.handed_over + size)
            chunk = bytes(self._view[self.handed_over : end])
            # Counted before the socket writes it: a chunk that may have been sent counts as sent.
            self.handed_over = end
        if self.is_complete:
            self._phases.on_sent()
        return chunk

    @property
    def is_complete(self) -> bool:
        return self.handed_over == len(self.data)

    def abort(self) -> None:
        """Cut the connection, unless the last byte has been handed over already; the callback of a cancel."""
        with self._lock:
            if not self.is_complete:
                self._connection.cut()


def _once(function: Callable[[], None]) -> Callable[[], None]:
    """A function that calls ``function``, and does nothing once that has returned."""
    done = False

    def call() -> None:
        nonlocal done
        if not done:
            function()
            done = True

    return call


_submits_in_flight = 0
_submit_ended = threading.Condition()


@contextmanager
def _counted_submit() -> Iterator[None]:
    global _submits_in_flight
    with _submit_ended:
        _submits_in_flight += 1
    try:
        yield
    finally:
        with _submit_ended:
            _submits_in_flight -= 1
            _submit_ended.notify_all()


def wait_for_submits(seconds: float) -> None:
    """Wait until no submit is in flight, or for ``seconds``; for the exit of the process, so that no answer is lost."""
    with _submit_ended:
        _submit_ended.wait_for(lambda: _submits_in_flight == 0, seconds)


def post_once(request: Request, answer_timeout: float, phases: Phases) -> Answer:
    """POST once over a new connection, and return the answer; no redirect is followed.

    Args:
        request: ``connect`` and ``upload_stall`` of its deadlines apply.
        answer_timeout: seconds without a byte of the answer after which it is given up.

    Raises:
        NotSentError: the request did not reach the service as a whole.
        NoAnswerError: it did, and no answer could be read: it may have been accepted.
        CallCancelled: cancelled before the last byte was handed over.
        Exception: what ``phases.before_sending`` raised; nothing was sent. (Its OSError or ValueError becomes
            NotSentError.)
    """
    request = replace(request, headers={"Connection": "close", **request.headers})
    deadlines, size = request.deadlines, len(request.body)
    connection = LiveConnection()
    announce = _once(phases.before_sending)
    # Limits the upload at first, and the answer as soon as the upload has ended.
    limit = TimeLimit(connection, 2 * (deadlines.connect + deadlines.upload_stall) + size / SLOWEST)

    def upload_ended() -> None:
        limit.restart(2 * answer_timeout)
        phases.on_sent()

    # Announced before the first byte of the body, too: nothing is sent that the caller has not written down.
    upload = _CountingBody(request.body, Phases(phases.cancel, announce, upload_ended), connection)

    def ready(sock: socket.socket) -> None:
        sock.settimeout(deadlines.upload_stall)
        phases.cancel.check()
        announce()

    session = new_session(request, Hooks(connected=lambda sock, direct: connection.connected(sock), ready=ready))
    started = time.monotonic()
    with _counted_submit(), connection, limit, session, phases.cancel.calling(upload.abort):
        try:
            response = session.send(request, answer_timeout, upload)
            answer = received.read_answer(response, limit, is_paid=True)
        except BROKEN as cause:
            if upload.is_complete:
                log_exchange(request, f"no answer ({type(cause).__name__})", started, sent=size)
                raise NoAnswerError(str(cause)) from cause
            phases.cancel.check()
            log_exchange(request, f"not sent ({type(cause).__name__})", started, sent=upload.handed_over)
            raise NotSentError(cause) from cause
    log_exchange(request, answer.status, started, sent=size, received=len(answer.body))
    if answer.broken is not None and json_object(answer.body) is None:
        raise NoAnswerError(str(answer.broken), answer.body) from answer.broken
    return answer
