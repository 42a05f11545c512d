"""Connections that can be cut and watched, sessions that carry nothing along, and the wire log."""

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
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests import PreparedRequest
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..core import pack_logger

# A profile's proxy where it goes directly, whatever the environment says.
NO_PROXY = "none"
_CHUNK = 64 * 1024
_SMALL_CHUNK = 1024


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal is this machine."""
    if host.lower() == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def origin(url: str) -> str:
    """Scheme, host and port of a URL, in one spelling."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


class NoAuth(AuthBase):
    """No credentials at all: without this, requests would look for some in ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


# What urllib3 raises, with what requests makes of it. A refused connection is a "timeout" to urllib3 1.
_IN_REQUESTS: tuple[tuple[type[Exception], type[requests.RequestException]], ...] = (
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
        hooks: called on the way of each request.
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

    def get(self, url: str, **how: Any) -> requests.Response:
        return self.request("GET", url, **how)

    def post(self, url: str, **how: Any) -> requests.Response:
        return self.request("POST", url, **how)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: Any = None,
        auth: AuthBase,
        timeout: tuple[float, float],
        verify: bool | str,
    ) -> requests.Response:
        """Send one request; returns its answer, its body still to be read. Arguments as in requests.

        Raises:
            requests.RequestException: no answer.
        """
        request = requests.PreparedRequest()
        all_headers = {**requests.utils.default_headers(), "Accept-Encoding": "gzip", **(headers or {})}
        request.prepare(method=method, url=url, headers=all_headers, params=params, data=data, auth=auth)
        target = request.url or ""
        try:
            raw = self._manager(target, verify).urlopen(
                method,
                target,
                body=request.body,
                headers=request.headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                retries=urllib3.Retry(0, read=False),
                timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            )
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            if isinstance(problem, requests.RequestException):
                raise
            reason = getattr(problem, "reason", None) or problem
            kind = next((known for kind, known in _IN_REQUESTS if isinstance(reason, kind)), requests.ConnectionError)
            raise kind(problem, request=request) from problem
        return _response(request, raw)

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
            manager, base = _through_socks(proxy, certificates)
        else:
            manager = _through(proxy if "://" in proxy else f"http://{proxy}", certificates)
        manager.pool_classes_by_scheme = _hooked_pools(self._hooks, base, direct=proxy is None)
        return manager


def _certificates(verify: bool | str) -> dict[str, Any]:
    """What urllib3 is told of the certificates to trust; raises OSError where there are none."""
    bundle = requests.utils.DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
    if not os.path.exists(bundle):
        raise OSError(f"there is no bundle of certificates at {bundle}")
    return {"cert_reqs": "CERT_REQUIRED", "ca_cert_dir" if os.path.isdir(bundle) else "ca_certs": bundle}


def _through(proxy: str, certificates: Mapping[str, Any]) -> urllib3.ProxyManager:
    with _without_the_address():
        user, password = requests.utils.get_auth_from_url(proxy)
        login = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else {}
        return urllib3.ProxyManager(proxy, proxy_headers=login, **certificates)


def _through_socks(proxy: str, certificates: Mapping[str, Any]) -> tuple[urllib3.PoolManager, type[HTTPConnection]]:
    """Connections through a SOCKS proxy, and their class."""
    try:
        from urllib3.contrib.socks import SOCKSConnection, SOCKSProxyManager
    except (ImportError, urllib3.exceptions.DependencyWarning):
        raise requests.exceptions.InvalidSchema(
            "SOCKS proxies need the Python package PySocks: `pip install PySocks`, or set an http:// proxy"
        ) from None
    with _without_the_address():
        user, password = requests.utils.get_auth_from_url(proxy)
        manager = SOCKSProxyManager(proxy, username=user or None, password=password or None, **certificates)
        return manager, SOCKSConnection


@contextmanager
def _without_the_address() -> Iterator[None]:
    """For errors of a proxy's address: urllib3 repeats that, and a login with it."""
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


def new_session(url: str, proxy: str, hooks: Hooks) -> Session:
    """A session for ``url`` that never takes a loopback address through a proxy.

    Args:
        proxy: a profile's: an address, ``NO_PROXY``, or "" for those of the environment.
    """
    proxies: Mapping[str, str] | None = None
    if is_loopback(urlsplit(url).hostname or "") or proxy == NO_PROXY:
        proxies = {}
    elif proxy:
        proxies = {"http": proxy, "https": proxy}
    return Session(proxies, hooks)


def trusted() -> bool | str:
    """The certificates for ``verify``: the environment's bundle, which a session of its own proxy does not look for."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


class LiveConnection:
    """The connection of one request, for another thread to cut: in a TLS handshake, a stalled upload or download.

    A context manager; the line of a session that keeps its connection alive is entered for each request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def connected(self, sock: socket.socket) -> None:
        """A connection stands. A duplicate of its descriptor stays valid when TLS takes the socket over."""
        with self._lock:
            self._close()
            # Not sock.dup(): TLS sockets have none.
            self._socket = socket.socket(fileno=socket.dup(sock.fileno()))
            if self._cut:
                self._shut_down()

    def cut(self) -> None:
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
    """What is done on the way to a connection; it may raise.

    ``resolving`` sees host and port before a direct connection, ``connected`` the TCP socket (of a direct connection,
    or to the proxy; the kept one where a connection is used again), ``ready`` the socket after the TLS handshake and
    before the first byte of the request.
    """

    resolving: Callable[[str, int], None] = lambda host, port: None
    connected: Callable[[socket.socket, bool], None] = lambda sock, direct: None
    ready: Callable[[socket.socket], None] = lambda sock: None


class _Response(http.client.HTTPResponse):
    """An answer that skips what comes ahead of it (102 Processing, 103 Early Hints), as http.client skips 100."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


def _hooked_pools(hooks: Hooks, base: type[HTTPConnection], *, direct: bool) -> dict[str, type[HTTPConnectionPool]]:
    class Hooked(base):  # type: ignore[misc, valid-type]
        response_class = _Response
        # Whoever switches it on for the whole process has keys printed, on a console that may be closed.
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
    """The body as it arrives: a full block is not waited for, so that whoever drips can be given up."""
    read = getattr(response.raw, "read1", None)
    size = _CHUNK if read is not None else _SMALL_CHUNK
    while block := (read or response.raw.read)(size, decode_content=decode):
        yield block


def log_exchange(
    method: str, url: str, result: int | str, started: float, *, sent: int | None = None, received: int | None = None
) -> None:
    """One line per exchange at DEBUG: never a key (the logger redacts), never image data, only counts."""
    log = pack_logger()
    if not log.isEnabledFor(logging.DEBUG):
        return
    counts = [f"sent={sent}" if sent is not None else "", f"received={received}" if received is not None else ""]
    took = time.monotonic() - started
    log.debug("%s %s -> %s %.3fs %s", method, url, result, took, " ".join(filter(None, counts)))


def climbs(path: str) -> bool:
    """Whether a path has ``.`` or ``..`` in it for any reader: some decode twice, or take ``\\`` for ``/``."""
    return any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", unquote(unquote(path))))


def base_of(address: str) -> str:
    """A service's address as requests sends it, with its port and with a slash at the end; "" for none.

    What a key is bound to: a gateway is one host for many, and what lies beside this address may be somebody else's.

    Raises:
        requests.RequestException: no address that could be asked.
    """
    if not address:
        return ""
    prepared = PreparedRequest()
    prepared.prepare_url(address, None)
    return f"{origin(prepared.url or '')}{urlsplit(prepared.url or '').path.rstrip('/')}/"


def is_under(url: str, base: str) -> bool:
    """Whether the address of a prepared request lies under :func:`base_of` an address, for any reader."""
    path = urlsplit(url).path
    return f"{origin(url)}{path}".startswith(base_of(base)) and not climbs(path)
