"""HTTP: a submit whose phase is always known, and free requests.

A paid submit is judged by *phase*, not by exception class: it goes over a fresh connection, with a body that counts
what was handed to the socket. Fewer bytes than the Content-Length cannot be a request that the service accepted.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from ..core.cancel import CancelToken
from ..core.reading import json_object
from .connection import Hooks, Line, Session, blocks, is_loopback, log_exchange, new_session, trusted
from .received import Received
from .time_limit import SLOWEST, TimeLimit

# Of any answer, unpacked too.
_MOST_BYTES = 256 * 2**20
# Of one to a free request, unless it brings a picture; more is written to disk until it is read.
_MOST_WORDS = 4 * 2**20
# Base64 of a picture, which is compressed already, shrinks by a quarter: no answer to a free request is packed tighter.
_MOST_PACKED = 50
_RUN = re.compile(rb"[\w+/=\\-]+")
_SHORTEST_PICTURE = 4096
_MOST_MEMBERS = 1000
# How gzip and zlib ("deflate") begin; JSON never does.
_COMPRESSED = (b"\x1f\x8b", b"\x78")
_MOST_SESSIONS = 8


@dataclass(frozen=True)
class Deadlines:
    """Seconds.

    ``connect``, ``upload_stall``, ``poll`` and the answers are per try and begin anew with each byte (what arrives byte
    by byte is cut after twice that, and a second for each 16 KiB that came); ``queue`` bounds the time until a service
    starts on a task (retries after 429 included), ``run`` the time it works, ``download`` the retries for a picture.
    """

    connect: float = 10.0
    upload_stall: float = 60.0
    hidream_answer: float = 120.0
    cvprocess_answer: float = 300.0
    poll: float = 30.0
    queue: float = 600.0
    run: float = 600.0
    download: float = 300.0


class NotSentError(Exception):
    """The request did not reach the service whole; sending it again cannot buy twice."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause

    @property
    def permanent(self) -> bool:
        """Whether trying again is pointless: no certificate becomes valid by itself, and no package installs itself."""
        reasons = (ssl.SSLCertVerificationError, requests.exceptions.InvalidSchema)
        return any(find_cause(self.cause, reason) is not None for reason in reasons)


class NoAnswerError(Exception):
    """The whole request was handed over, and no usable answer came: it may or may not have been accepted.

    ``body`` is what came of one.
    """

    def __init__(self, reason: str, body: bytes = b"") -> None:
        super().__init__(reason)
        self.body = body


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. ``broken`` is why its transfer did not end as it should; ``body`` is what came by then."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: Exception | None = None


def find_cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first exception of ``kind`` among ``error``, its causes, contexts and the reasons urllib3 wraps."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return None


# ---- the submit


class _CountingBody:
    """A request body that knows how much of it was handed to the socket, and closes the door to a cancel at its end."""

    def __init__(
        self,
        data: bytes,
        cancel: CancelToken,
        line: Line,
        before_first: Callable[[], None],
        on_whole: Callable[[], None],
    ) -> None:
        self.data = data
        self._before_first = before_first
        self._on_whole = on_whole
        self._view = memoryview(data)
        self._cancel = cancel
        self._line = line
        self._lock = threading.Lock()
        self.handed_over = 0

    def __len__(self) -> int:
        return len(self.data)

    def read(self, size: int = -1) -> bytes:
        self._before_first()
        with self._lock:
            if self.whole:
                # The read that finds the end: by now the request is on its way, whatever was cancelled meanwhile.
                return b""
            self._cancel.check()
            end = len(self.data) if size < 0 else min(len(self.data), self.handed_over + size)
            chunk = bytes(self._view[self.handed_over : end])
            # Counted before the socket writes it: a chunk that may have left counts as gone.
            self.handed_over = end
        if self.whole:
            self._on_whole()
        return chunk

    @property
    def whole(self) -> bool:
        return self.handed_over == len(self.data)

    def abort(self) -> None:
        """On cancel: cut the connection, unless the last byte has been handed over already."""
        with self._lock:
            if not self.whole:
                self._line.cut()


@dataclass(frozen=True)
class Phases:
    """What happens on the way of a submit.

    ``before_sending`` is called when the connection stands, TLS and all, before its first byte: what it raises leaves
    the request unsent. ``on_sent`` is called when the last byte is handed over: from then on a cancel lets the request
    finish.
    """

    cancel: CancelToken
    before_sending: Callable[[], None] = lambda: None
    on_sent: Callable[[], None] = lambda: None


def _once(function: Callable[[], None]) -> Callable[[], None]:
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
    """Give submits in flight that long to get their answer; for the exit of the process."""
    with _submit_ended:
        _submit_ended.wait_for(lambda: _submits_in_flight == 0, seconds)


def submit(
    url: str,
    body: bytes,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str],
    auth: AuthBase,
    answer_timeout: float,
    deadlines: Deadlines,
    cancel: CancelToken,
    before_sending: Callable[[], None] = lambda: None,
    on_sent: Callable[[], None] = lambda: None,
    proxy: str = "",
) -> Answer:
    """POST ``body`` once, over a connection of its own; no redirect is followed.

    Args:
        before_sending, on_sent: see :class:`Phases`.

    Raises:
        NotSentError: it did not reach the service whole.
        NoAnswerError: it did, and no answer could be read.
        CallCancelled: cancelled before the last byte was handed over.
    """
    line = Line()
    announce = _once(before_sending)
    # Of the upload at first, of the answer as soon as that has ended.
    limit = TimeLimit(line, 2 * (deadlines.connect + deadlines.upload_stall) + len(body) / SLOWEST)

    def whole() -> None:
        limit.restart(2 * answer_timeout)
        on_sent()

    # Announced with the first byte of the body, too: nothing goes out that is not written down.
    counting = _CountingBody(body, cancel, line, announce, whole)

    def ready(sock: socket.socket) -> None:
        sock.settimeout(deadlines.upload_stall)
        cancel.check()
        announce()

    hooks = Hooks(connected=lambda sock, direct: line.connected(sock), ready=ready)
    started = time.monotonic()
    with _counted_submit(), line, limit, new_session(url, proxy, hooks) as session, cancel.calling(counting.abort):
        try:
            response = session.post(
                url,
                params=params,
                data=counting,
                headers={"Content-Type": "application/json", "Connection": "close", **headers},
                auth=auth,
                timeout=(deadlines.connect, answer_timeout),
                verify=trusted(),
            )
            answer = _read(response, limit, is_paid=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as cause:
            if counting.whole:
                log_exchange("POST", url, f"no answer ({type(cause).__name__})", started, sent=len(body))
                raise NoAnswerError(str(cause)) from cause
            cancel.check()
            log_exchange("POST", url, f"not sent ({type(cause).__name__})", started, sent=counting.handed_over)
            raise NotSentError(cause) from cause
    log_exchange("POST", url, answer.status, started, sent=len(body), received=len(answer.body))
    if answer.broken is not None and json_object(answer.body) is None:
        raise NoAnswerError(str(answer.broken), answer.body) from answer.broken
    return answer


def _read(response: requests.Response, limit: TimeLimit, *, is_paid: bool) -> Answer:
    """The answer as far as it came: an object in it may be whole although the transfer was not."""
    broken: Exception | None = None
    with response, Received(_MOST_WORDS) as received:
        try:
            for chunk in blocks(response, decode=False):
                is_first_beyond = received.size <= _MOST_WORDS < received.size + len(chunk)
                received.write(chunk)
                limit.came(len(chunk))
                if received.size > _MOST_BYTES:
                    raise ValueError(f"the answer is larger than {_MOST_BYTES} bytes")
                if is_first_beyond and not is_paid and not _may_bring_a_picture(received.read()):
                    raise _words_only()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as cause:
            broken = cause
        data = received.read()
    if limit.passed:
        broken = ValueError("the answer did not end in time")
    most = _MOST_BYTES if is_paid else min(_MOST_BYTES, max(_MOST_WORDS, _MOST_PACKED * len(data)))
    body = _unpacked(data, most)
    if not is_paid and len(body) > _MOST_WORDS and not _has_long_run(body):
        body, broken = b"", _words_only()
    return Answer(response.status_code, response.headers, body, broken)


def _may_bring_a_picture(begin: bytes) -> bool:
    return begin.startswith(_COMPRESSED) or _has_long_run(begin)


def _has_long_run(body: bytes) -> bool:
    """Whether its beginning has a run of letters that may be base64."""
    return any(run.end() - run.start() >= _SHORTEST_PICTURE for run in _RUN.finditer(body, 0, _MOST_WORDS))


def _words_only() -> ValueError:
    return ValueError(f"the answer is larger than {_MOST_WORDS} bytes and brings no picture")


def _unpacked(data: bytes, most: int) -> bytes:
    """The bytes themselves say whether they are compressed: gateways label plain JSON as gzip, and the reverse."""
    unpacked: list[bytes] = []
    for _ in range(_MOST_MEMBERS):
        if not data.startswith(_COMPRESSED) or most <= 0:
            break
        member = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as its header says
        try:
            unpacked.append(member.decompress(data, most))
        except zlib.error:
            break
        most -= len(unpacked[-1])
        data = member.unused_data
    return b"".join(unpacked) or data


# ---- free requests

_thread = threading.local()


def _thread_session(url: str, proxy: str) -> tuple[Session, Line]:
    """This thread's session for polls (requests' sessions are not to be shared between threads, nor proxies)."""
    sessions: dict[tuple[bool, str], tuple[Session, Line]] = _thread.__dict__.setdefault("sessions", {})
    slot = (is_loopback(urlsplit(url).hostname or ""), proxy)
    if slot not in sessions:
        if len(sessions) >= _MOST_SESSIONS:
            sessions.pop(next(iter(sessions)))[0].close()
        sessions[slot] = _watched_session(url, proxy)
    return sessions[slot]


def _watched_session(url: str, proxy: str) -> tuple[Session, Line]:
    line = Line()
    return new_session(url, proxy, Hooks(connected=lambda sock, direct: line.connected(sock))), line


def get(
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    auth: AuthBase,
    deadlines: Deadlines,
    proxy: str = "",
    afresh: bool = False,
) -> Answer:
    """One free GET; no redirect is followed.

    Args:
        afresh: over a new connection, so that the way is known to work now.

    Raises:
        requests.RequestException: no answer.
    """
    return _exchange(
        "GET", url, params=params, headers=headers, auth=auth, deadlines=deadlines, proxy=proxy, afresh=afresh
    )


def ask(
    url: str,
    body: bytes,
    *,
    params: Mapping[str, str],
    auth: AuthBase,
    deadlines: Deadlines,
    proxy: str = "",
    afresh: bool = False,
) -> Answer:
    """One free POST of JSON, for services whose polls are POSTs; otherwise as :func:`get`."""
    return _exchange(
        "POST",
        url,
        params=params,
        headers={"Content-Type": "application/json"},
        auth=auth,
        deadlines=deadlines,
        proxy=proxy,
        afresh=afresh,
        data=body,
    )


def _exchange(
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
    auth: AuthBase,
    deadlines: Deadlines,
    proxy: str,
    afresh: bool,
    data: bytes | None = None,
) -> Answer:
    started = time.monotonic()
    session, line = _watched_session(url, proxy) if afresh else _thread_session(url, proxy)
    try:
        with line, TimeLimit(line, deadlines.connect + 2 * deadlines.poll) as limit:
            response = session.request(
                method,
                url,
                params=params,
                data=data,
                headers=headers,
                auth=auth,
                timeout=(deadlines.connect, deadlines.poll),
                verify=trusted(),
            )
            answer = _read(response, limit, is_paid=False)
        if answer.broken is not None and json_object(answer.body) is None:
            raise answer.broken
    except (ValueError, OSError, urllib3.exceptions.HTTPError) as cause:
        log_exchange(method, url, f"failed ({type(cause).__name__})", started)
        if isinstance(cause, requests.RequestException):
            raise
        raise requests.RequestException(str(cause)) from cause
    finally:
        if afresh:
            session.close()
    log_exchange(method, url, answer.status, started, received=len(answer.body))
    return answer
