"""HTTP: a submit whose phase is always known, polls, and guarded downloads.

A paid submit is judged by *phase*, not by exception class: it goes over a fresh connection, with a body that counts
what was handed to the socket. Fewer bytes than the Content-Length cannot be a request that the service accepted.
"""

from __future__ import annotations

import http.cookiejar
import ipaddress
import logging
import re
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .cancel import CancelToken
from .redaction import pack_logger

_MAX_REDIRECTS = 3
_MAX_JSON_BYTES = 256 * 2**20
_CHUNK = 64 * 1024
_SMALL_CHUNK = 1024
# Bytes per second. A transfer that is slower than this over its whole length has no end to wait for.
_SLOWEST_DOWNLOAD = 16 * 1024
_SPOOL_IN_MEMORY = 8 * 2**20
# Proxies of the "fake-ip" kind answer DNS from this range and forward by name.
_FAKE_IP_RANGE = ipaddress.ip_network("198.18.0.0/15")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Deadlines:
    """Seconds.

    ``connect``, ``upload_stall``, ``poll`` and the answers are per try; ``queue`` bounds the time until a service
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
        """Whether trying again is pointless (a certificate does not become valid by itself)."""
        return isinstance(find_cause(self.cause, ssl.SSLCertVerificationError), ssl.SSLCertVerificationError)


class NoAnswerError(Exception):
    """The whole request was handed over, and no usable answer came: it may or may not have been accepted."""


class DownloadError(Exception):
    """One try of a download failed; another may succeed."""


class RefusedUrlError(Exception):
    """A result URL that this pack does not fetch, with the reason."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal is this machine."""
    if host.lower() == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


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


# ---- connections


class _Line:
    """The connection of one request, for another thread to cut: in a TLS handshake, a stalled upload or download."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def connected(self, sock: socket.socket) -> None:
        """A TCP connection stands. A duplicate of its descriptor stays valid when TLS takes the socket over."""
        with self._lock:
            self._close()
            self._socket = sock.dup()
            if self._cut:
                self._shut_down()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            self._shut_down()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._close()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass(frozen=True)
class _Hooks:
    """What is done on the way to a connection; it may raise.

    ``resolving`` sees host and port before a direct connection, ``connected`` the TCP socket (of a direct connection,
    or to the proxy), ``ready`` the socket after the TLS handshake and before the first byte of the request.
    """

    resolving: Callable[[str, int], None] = lambda host, port: None
    connected: Callable[[socket.socket, bool], None] = lambda sock, direct: None
    ready: Callable[[socket.socket], None] = lambda sock: None


class _HookedAdapter(HTTPAdapter):
    """An adapter whose connections call hooks; nothing is retried below it."""

    def __init__(self, hooks: _Hooks) -> None:
        self._hooks = hooks
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _hooked_pools(self._hooks, direct=True)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            # urllib3 has connection classes of its own for those; there a cancel waits for the socket's timeout.
            manager.pool_classes_by_scheme = _hooked_pools(self._hooks, direct=False)
        return manager


def _hooked_pools(hooks: _Hooks, *, direct: bool) -> dict[str, type[HTTPConnectionPool]]:
    class Hooked(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            if direct:
                hooks.resolving(self.host, self.port)
            sock = super()._new_conn()
            hooks.connected(sock, direct)
            return sock

        def connect(self) -> None:
            super().connect()
            hooks.ready(self.sock)

    class HookedTls(Hooked, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Hooked

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = HookedTls

    return {"http": Pool, "https": TlsPool}


def _mounted(session: requests.Session, hooks: _Hooks) -> requests.Session:
    adapter = _HookedAdapter(hooks)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _blocks(response: requests.Response, *, decode: bool) -> Iterator[bytes]:
    """The body as it arrives: a full block is not waited for, so that whoever drips can be given up."""
    if response.is_redirect:
        # requests has read this one whole already, to work out where it leads.
        yield response.content
        return
    read = getattr(response.raw, "read1", None)
    size = _CHUNK if read is not None else _SMALL_CHUNK
    while block := (read or response.raw.read)(size, decode_content=decode):
        yield block


# ---- the submit


class _CountingBody:
    """A request body that knows how much of it was handed to the socket, and closes the door to a cancel at its end."""

    def __init__(self, data: bytes, cancel: CancelToken, line: _Line, on_whole: Callable[[], None]) -> None:
        self.data = data
        self._on_whole = on_whole
        self._view = memoryview(data)
        self._cancel = cancel
        self._line = line
        self._lock = threading.Lock()
        self.handed_over = 0

    def __len__(self) -> int:
        return len(self.data)

    def read(self, size: int = -1) -> bytes:
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
    on_sent: Callable[[], None] = lambda: None,
    verify: bool | str = True,
) -> Answer:
    """POST ``body`` once, over a connection of its own; no redirect is followed.

    ``on_sent`` is called when the last byte is handed over: from then on a cancel lets the request finish.

    Raises:
        NotSentError: it did not reach the service whole.
        NoAnswerError: it did, and no answer could be read.
        CallCancelled: cancelled before the last byte was handed over.
    """
    line = _Line()
    counting = _CountingBody(body, cancel, line, on_sent)

    def ready(sock: socket.socket) -> None:
        sock.settimeout(deadlines.upload_stall)
        cancel.check()

    hooks = _Hooks(connected=lambda sock, direct: line.connected(sock), ready=ready)
    started = time.monotonic()
    with _counted_submit(), line, _mounted(new_session(url), hooks) as session, cancel.calling(counting.abort):
        try:
            response = session.post(
                url,
                params=params,
                data=counting,
                headers={"Content-Type": "application/json", "Connection": "close", **headers},
                auth=auth,
                allow_redirects=False,
                stream=True,
                timeout=(deadlines.connect, answer_timeout),
                verify=verify,
            )
            answer = _read(response, started + deadlines.connect + deadlines.upload_stall + answer_timeout * 2)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as cause:
            if counting.whole:
                _log("POST", url, f"no answer ({type(cause).__name__})", started, sent=len(body))
                raise NoAnswerError(str(cause)) from cause
            cancel.check()
            _log("POST", url, f"not sent ({type(cause).__name__})", started, sent=counting.handed_over)
            raise NotSentError(cause) from cause
    _log("POST", url, answer.status, started, sent=len(body), received=len(answer.body))
    return answer


def _read(response: requests.Response, deadline: float) -> Answer:
    """The whole answer; ValueError if it grows or drips beyond all measure."""
    chunks: list[bytes] = []
    size = 0
    with response:
        for chunk in _blocks(response, decode=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > _MAX_JSON_BYTES:
                raise ValueError(f"the answer is larger than {_MAX_JSON_BYTES} bytes")
            if time.monotonic() > deadline:
                raise ValueError("the answer did not end in time")
    return Answer(response.status_code, response.headers, b"".join(chunks))


# ---- free requests


class NoAuth(AuthBase):
    """No credentials at all: without this, requests would look for some in ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def new_session(url: str) -> requests.Session:
    """A session for ``url`` that keeps no cookies, and never takes a loopback address through a proxy."""
    session = requests.Session()
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    if is_loopback(urlsplit(url).hostname or ""):
        session.trust_env = False
    return session


_thread = threading.local()


def _thread_session(url: str) -> requests.Session:
    """This thread's session for polls (requests' sessions are not to be shared between threads)."""
    name = "loopback" if is_loopback(urlsplit(url).hostname or "") else "remote"
    session: requests.Session | None = getattr(_thread, name, None)
    if session is None:
        session = new_session(url)
        setattr(_thread, name, session)
    return session


def get(
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    auth: AuthBase,
    deadlines: Deadlines,
    verify: bool | str = True,
) -> Answer:
    """One free GET; no redirect is followed.

    Raises:
        requests.RequestException: no answer.
    """
    started = time.monotonic()
    try:
        response = _thread_session(url).get(
            url,
            params=params,
            headers=headers,
            auth=auth,
            allow_redirects=False,
            stream=True,
            timeout=(deadlines.connect, deadlines.poll),
            verify=verify,
        )
        answer = _read(response, started + deadlines.connect + deadlines.poll * 2)
    except (ValueError, OSError, urllib3.exceptions.HTTPError) as cause:
        _log("GET", url, f"failed ({type(cause).__name__})", started)
        if isinstance(cause, requests.RequestException):
            raise
        raise requests.RequestException(str(cause)) from cause
    _log("GET", url, answer.status, started, received=len(answer.body))
    return answer


# ---- downloads


def _guard(allow_loopback: bool, line: _Line) -> _Hooks:
    """Refuses direct connections to addresses inside somebody's network, before and after they stand.

    Only direct ones: a proxy may well be a private address, and resolves names for itself.
    """

    def resolving(host: str, port: int) -> None:
        with suppress(OSError):
            for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                _check_address(str(address[0]), allow_loopback)

    def connected(sock: socket.socket, direct: bool) -> None:
        if direct:
            try:
                _check_address(sock.getpeername()[0], allow_loopback)
            except RefusedUrlError:
                sock.close()
                raise
        line.connected(sock)

    return _Hooks(resolving=resolving, connected=connected)


def _check_address(address: str, allow_loopback: bool) -> None:
    if not _is_public(address, allow_loopback):
        raise RefusedUrlError(f"its host resolves to {address}, an address inside a private network")


def _is_public(address: str, allow_loopback: bool) -> bool:
    ip = _innermost(ipaddress.ip_address(address.split("%")[0]))
    if ip.is_loopback:
        return allow_loopback
    return (ip.version == 4 and ip in _FAKE_IP_RANGE) or (ip.is_global and not ip.is_multicast)


def _innermost(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, in the forms that lead there (mapped, 6to4, NAT64)."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


def _checked_url(url: str, allow_loopback: bool) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise RefusedUrlError("it is no URL") from None
    loopback = is_loopback(host)
    if parts.username is not None or parts.password is not None:
        raise RefusedUrlError("it carries credentials")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback and allow_loopback):
        raise RefusedUrlError(f"its scheme is {parts.scheme or 'missing'}, not https")
    with suppress(ValueError):
        if not _is_public(host.strip("[]"), allow_loopback):
            raise RefusedUrlError(f"its host {host} is an address inside a private network")
    if not host or (loopback and not allow_loopback):
        raise RefusedUrlError(f"its host is {host or 'missing'}")
    return url


def download(
    url: str,
    *,
    max_bytes: int,
    allow_loopback: bool,
    deadlines: Deadlines,
    cancel: CancelToken,
    verify: bool | str = True,
) -> IO[bytes]:
    """Fetch a result picture once, without credentials, into a temporary file (in memory while small).

    Redirects are followed three times at most, and each target is checked like the first.

    Raises:
        RefusedUrlError: the URL, or a redirect, is not one this pack fetches.
        DownloadError: this try failed (status, cut, too large); the caller may try again.
        CallCancelled: cancelled.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        cancel.check()
        started = time.monotonic()
        shown = urlsplit(_checked_url(url, allow_loopback))._replace(query="", fragment="").geturl()
        line = _Line()
        with line, _mounted(new_session(url), _guard(allow_loopback, line)) as session, cancel.calling(line.cut):
            try:
                response = session.get(
                    url,
                    headers={"Accept-Encoding": "identity"},
                    auth=NoAuth(),
                    allow_redirects=False,
                    stream=True,
                    timeout=(deadlines.connect, deadlines.poll),
                    verify=verify,
                )
                with response:
                    if response.is_redirect:
                        _log("GET", shown, response.status_code, started)
                        url = _joined(url, response.headers["Location"])
                        continue
                    spool = _spool(response, max_bytes, started + deadlines.download, cancel)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as cause:
                cancel.check()
                _log("GET", shown, f"failed ({type(cause).__name__})", started)
                # Without its cause: that repeats the address with its query, which may be a signature.
                raise DownloadError(_QUERY.sub("", str(cause))) from None
        _log("GET", shown, response.status_code, started, received=spool.tell())
        return spool
    raise DownloadError(f"more than {_MAX_REDIRECTS} redirects")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise RefusedUrlError("it redirects to something that is no URL") from None


_QUERY = re.compile(r"\?[^\s()'\"]*")


def _spool(response: requests.Response, max_bytes: int, deadline: float, cancel: CancelToken) -> IO[bytes]:
    if response.status_code != 200:
        raise DownloadError(f"HTTP {response.status_code}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"unasked Content-Encoding {response.headers['Content-Encoding']}")
    announced = response.headers.get("Content-Length", "")
    with ExitStack() as unless_whole:
        spool = unless_whole.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY))
        ended = False
        with suppress(urllib3.exceptions.ProtocolError):
            for chunk in _blocks(response, decode=False):
                cancel.check()
                spool.write(chunk)
                if time.monotonic() > deadline + spool.tell() / _SLOWEST_DOWNLOAD:
                    raise DownloadError(f"too slow: {spool.tell()} bytes so far")
                if spool.tell() > max_bytes:
                    raise DownloadError(f"more than {max_bytes} bytes")
            ended = True
        if not ended or (announced.isdigit() and spool.tell() != int(announced)):
            raise DownloadError(f"cut off after {spool.tell()} of {announced or 'so many'} bytes")
        unless_whole.pop_all()
        return spool


# ---- the wire log


def _log(
    method: str, url: str, result: int | str, started: float, *, sent: int | None = None, received: int | None = None
) -> None:
    """One line per exchange at DEBUG: never a key (the logger redacts), never image data, only counts."""
    log = pack_logger()
    if not log.isEnabledFor(logging.DEBUG):
        return
    counts = [f"sent={sent}" if sent is not None else "", f"received={received}" if received is not None else ""]
    took = time.monotonic() - started
    log.debug("%s %s -> %s %.3fs %s", method, url, result, took, " ".join(filter(None, counts)))
