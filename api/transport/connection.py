"""HTTP sessions without retries, redirects and cookies; connections that another thread can cut; addresses; the log."""

from __future__ import annotations

import http.client
import ipaddress
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests import PreparedRequest
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..core import Deadlines, pack_logger

# The value of a profile's proxy that means: none, whatever the environment says.
NO_PROXY = "none"
# Bytes that are read at a time; few where urllib3 has no read1(), because read() waits for all of them.
_CHUNK = 64 * 1024
_SMALL_CHUNK = 1024
# What ends a request without a whole answer; the exceptions of requests are OSErrors.
BROKEN = (OSError, ValueError, urllib3.exceptions.HTTPError)


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address literal, is this machine; names are not resolved."""
    if host.lower() == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def origin(url: str) -> str:
    """Scheme, host in lower case, and port of a URL, as in ``https://host:443``; equal for the same server."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


class NoAuth(AuthBase):
    """No credentials: with ``auth=None``, requests would take a login that the URL contains."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@dataclass(frozen=True)
class Request:
    """One HTTP request: where it goes, who pays, how long it may take, and what it says.

    Args:
        proxy: the profile's setting: an address, ``NO_PROXY``, or "" for the proxies of the environment.
        body: JSON, which is POSTed; without one, the request is a GET.
    """

    # Not in the repr: the query of a URL may be a signature.
    url: str = field(repr=False)
    auth: AuthBase = field(repr=False)
    deadlines: Deadlines
    proxy: str = ""
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"


# The exceptions of urllib3, and those of requests that they become. NewConnectionError comes before
# ConnectTimeoutError, which it is a kind of in urllib3 1.
_AS_REQUESTS: tuple[tuple[type[Exception], type[requests.RequestException]], ...] = (
    (urllib3.exceptions.NewConnectionError, requests.ConnectionError),
    (urllib3.exceptions.ProxyError, requests.exceptions.ProxyError),
    (urllib3.exceptions.SSLError, requests.exceptions.SSLError),
    (urllib3.exceptions.ConnectTimeoutError, requests.ConnectTimeout),
    (urllib3.exceptions.ReadTimeoutError, requests.ReadTimeout),
)


class Session:
    """Sends requests, over connections that it keeps, as ``requests.Session`` does, but with none of its code.

    Other packs replace that class, its adapters and their methods for the whole process, before or after this import:
    with a cache a poll would bring the state of yesterday, and with retries a submit would go out twice. Nothing is
    retried here, no redirect followed, no cookie kept.

    Args:
        proxies: by scheme, as in requests; ``None`` for those of the environment.
        hooks: called for each connection and request.
    """

    def __init__(self, proxies: Mapping[str, str] | None, hooks: Hooks) -> None:
        self._proxies = proxies
        self._hooks = hooks
        self._managers: dict[tuple[str | None, bool | str], urllib3.PoolManager] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for manager in self._managers.values():
            manager.clear()

    def send(self, request: Request, answer_timeout: float, upload: Any = None) -> requests.Response:
        """Send one request and return its response, whose body is not read yet.

        Args:
            answer_timeout: seconds without a byte of the answer after which it is given up.
            upload: a file-like object that is sent in the place of the request's body.

        Raises:
            requests.RequestException: no answer came.
        """
        prepared = requests.PreparedRequest()
        json_type = {"Content-Type": "application/json"} if request.body else {}
        prepared.prepare(
            method=request.method,
            url=request.url,
            headers={**requests.utils.default_headers(), "Accept-Encoding": "gzip", **json_type, **request.headers},
            params=request.params,
            data=upload or request.body or None,
            auth=request.auth,
        )
        target = prepared.url or ""
        try:
            raw = self._manager(target, _trusted()).urlopen(
                request.method,
                target,
                body=prepared.body,
                headers=prepared.headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                retries=urllib3.Retry(0, read=False),
                timeout=urllib3.Timeout(connect=request.deadlines.connect, read=answer_timeout),
            )
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            if isinstance(problem, requests.RequestException):
                raise
            reason = getattr(problem, "reason", None) or problem
            kind = next((known for kind, known in _AS_REQUESTS if isinstance(reason, kind)), requests.ConnectionError)
            raise kind(problem, request=prepared) from problem
        return _response(prepared, raw)

    def _manager(self, url: str, verify: bool | str) -> urllib3.PoolManager:
        proxies = requests.utils.get_environ_proxies(url) if self._proxies is None else self._proxies
        proxy = requests.utils.select_proxy(url, proxies)
        if (proxy, verify) not in self._managers:
            self._managers[proxy, verify] = self._new_manager(proxy, _certificates(verify))
        return self._managers[proxy, verify]

    def _new_manager(self, proxy: str | None, certificates: Mapping[str, Any]) -> urllib3.PoolManager:
        base: type[HTTPConnection] = HTTPConnection
        if proxy is None:
            manager = urllib3.PoolManager(**certificates)
        elif proxy.lower().startswith("socks"):
            manager, base = _socks_proxy(proxy, certificates)
        else:
            manager = _http_proxy(proxy if "://" in proxy else f"http://{proxy}", certificates)
        manager.pool_classes_by_scheme = _hooked_pools(self._hooks, base, direct=proxy is None)
        return manager


def _certificates(verify: bool | str) -> dict[str, Any]:
    """urllib3's arguments for requests' ``verify``; raises OSError if there are no certificates where it says."""
    bundle = requests.utils.DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
    if not os.path.exists(bundle):
        raise OSError(f"there is no bundle of certificates at {bundle}")
    return {"cert_reqs": "CERT_REQUIRED", "ca_cert_dir" if os.path.isdir(bundle) else "ca_certs": bundle}


def _http_proxy(proxy: str, certificates: Mapping[str, Any]) -> urllib3.ProxyManager:
    """Connections through an HTTP proxy, with the login that is in its address."""
    with _address_hidden():
        user, password = requests.utils.get_auth_from_url(proxy)
        login = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else {}
        return urllib3.ProxyManager(proxy, proxy_headers=login, **certificates)


def _socks_proxy(proxy: str, certificates: Mapping[str, Any]) -> tuple[urllib3.PoolManager, type[HTTPConnection]]:
    """Connections through a SOCKS proxy, and their class."""
    try:
        from urllib3.contrib.socks import SOCKSConnection, SOCKSProxyManager
    except (ImportError, urllib3.exceptions.DependencyWarning):
        raise requests.exceptions.InvalidSchema(
            "SOCKS proxies need the Python package PySocks: `pip install PySocks`, or set an http:// proxy"
        ) from None
    with _address_hidden():
        user, password = requests.utils.get_auth_from_url(proxy)
        manager = SOCKSProxyManager(proxy, username=user or None, password=password or None, **certificates)
        return manager, SOCKSConnection


@contextmanager
def _address_hidden() -> Iterator[None]:
    """Replace errors about a proxy's address: urllib3's repeat the address, and a login in it."""
    try:
        yield
    except (ValueError, urllib3.exceptions.HTTPError):
        raise requests.exceptions.ProxyError("the address of the proxy cannot be read") from None


def _response(request: requests.PreparedRequest, raw: urllib3.BaseHTTPResponse) -> requests.Response:
    response = requests.Response()
    response.status_code, response.reason, response.raw = raw.status, raw.reason or "", raw
    response.headers = requests.structures.CaseInsensitiveDict(raw.headers)
    response.request, response.url = request, request.url or ""
    return response


def new_session(request: Request, hooks: Hooks) -> Session:
    """A session for ``request`` and others by the same proxy; it never takes a loopback address through a proxy."""
    proxies: Mapping[str, str] | None = None
    if is_loopback(urlsplit(request.url).hostname or "") or request.proxy == NO_PROXY:
        proxies = {}
    elif request.proxy:
        proxies = {"http": request.proxy, "https": request.proxy}
    return Session(proxies, hooks)


def _trusted() -> bool | str:
    """The certificates that the environment names, as requests has them in ``verify``."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


class LiveConnection:
    """The connection of one request, which another thread may cut, also in a TLS handshake or a stalled transfer.

    A context manager around the request. One beside a session that keeps its connection is entered for each request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def connected(self, sock: socket.socket) -> None:
        """Take the socket of a new or reused connection, and cut it if :meth:`cut` was called already.

        A duplicate of its descriptor is kept, because TLS takes the socket itself over.
        """
        with self._lock:
            self._close()
            # Not sock.dup(): TLS sockets have none.
            self._socket = socket.socket(fileno=socket.dup(sock.fileno()))
            if self._cut:
                self._shut_down()

    def cut(self) -> None:
        """Shut the connection down, or, if there is none yet, as soon as there is: its thread gets an error."""
        with self._lock:
            self._cut = True
            self._shut_down()

    def __enter__(self) -> LiveConnection:
        self._cut = False
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
class Hooks:
    """Functions that a request calls on its way; if one raises, the request is not sent.

    ``resolving`` gets host and port before a direct connection is opened. ``connected`` gets the TCP socket, also that
    of a kept connection that is used again, and whether it is direct, i.e. not to a proxy. ``ready`` gets the socket of
    a new connection, after the TLS handshake and before the first byte of the request.
    """

    resolving: Callable[[str, int], None] = lambda host, port: None
    connected: Callable[[socket.socket, bool], None] = lambda sock, direct: None
    ready: Callable[[socket.socket], None] = lambda sock: None


class _Response(http.client.HTTPResponse):
    """A response that skips interim ones before it (102 Processing, 103 Early Hints), as http.client skips 100."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


def _hooked_pools(hooks: Hooks, base: type[HTTPConnection], *, direct: bool) -> dict[str, type[HTTPConnectionPool]]:
    """The pools by scheme of a urllib3 manager, whose connections, a kind of ``base``, call ``hooks``."""

    class Hooked(base):  # type: ignore[misc, valid-type]
        response_class = _Response
        # If other code sets it for the whole process, http.client prints keys, and raises if the console is closed.
        debuglevel = 0

        def request(self, *args: Any, **kwargs: Any) -> None:
            if self.sock is not None:
                hooks.connected(self.sock, direct)
            super().request(*args, **kwargs)

        def _new_conn(self) -> socket.socket:
            if direct:
                hooks.resolving(self.host, self.port)
            sock: socket.socket = super()._new_conn()
            hooks.connected(sock, direct)
            return sock

        def connect(self) -> None:
            super().connect()
            hooks.ready(self.sock)

    class Tls(Hooked, HTTPSConnection):  # type: ignore[misc]
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Hooked

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": Pool, "https": TlsPool}


def blocks(response: requests.Response, *, decode: bool) -> Iterator[bytes]:
    """Yield the body as it arrives, without waiting for full blocks: after each one the caller may give up.

    Args:
        decode: undo the Content-Encoding.
    """
    read = getattr(response.raw, "read1", None)
    size = _CHUNK if read is not None else _SMALL_CHUNK
    while block := (read or response.raw.read)(size, decode_content=decode):
        yield block


def without_query(url: str) -> str:
    """A URL as it may be shown: without query, which may be a signature, and at most 300 characters."""
    return url.split("?")[0].split("#")[0][:300]


def log_exchange(
    request: Request, result: int | str, started: float, *, sent: int | None = None, received: int | None = None
) -> None:
    """Log one exchange in one line at DEBUG: never a key (the logger redacts), and of bodies their lengths only.

    Args:
        result: the status, or what happened instead.
        started: ``time.monotonic()`` at its start.
        sent, received: bytes of the bodies.
    """
    log = pack_logger()
    if not log.isEnabledFor(logging.DEBUG):
        return
    counts = [f"sent={sent}" if sent is not None else "", f"received={received}" if received is not None else ""]
    took = time.monotonic() - started
    shown = without_query(request.url)
    log.debug("%s %s -> %s %.3fs %s", request.method, shown, result, took, " ".join(filter(None, counts)))


def climbs(path: str) -> bool:
    """Whether some server may find ``.`` or ``..`` in a path: some decode it twice, or take ``\\`` for ``/``."""
    return any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", unquote(unquote(path))))


def base_of(address: str) -> str:
    """A service's address as requests sends it, with its port and with a slash at the end; "" for none.

    Keys are bound to this and not to the host alone: a gateway has many customers on one host, and an address beside
    this one may be another customer's.

    Raises:
        requests.RequestException: no request can be sent to that address.
    """
    if not address:
        return ""
    prepared = PreparedRequest()
    prepared.prepare_url(address, None)
    return f"{origin(prepared.url or '')}{urlsplit(prepared.url or '').path.rstrip('/')}/"


def is_under(url: str, base: str) -> bool:
    """Whether ``url``, of a prepared request, is under the address ``base``, however a server may read its path."""
    path = urlsplit(url).path
    return f"{origin(url)}{path}".startswith(base_of(base)) and not climbs(path)
