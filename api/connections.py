"""Connections that can be cut and watched, sessions that carry nothing along, and the wire log."""

from __future__ import annotations

import http.cookiejar
import ipaddress
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .redaction import pack_logger

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


def _untouched(name: str) -> ModuleType:
    """A module of requests, executed once more from its file, for this pack alone.

    Other packs replace ``requests.Session`` and methods of it for the whole process, before or after this import. With
    a cache a poll would bring the state of yesterday, and with retries a submit would go out twice.
    """
    spec = PathFinder.find_spec(f"requests.{name}", requests.__path__)
    if spec is None or spec.loader is None:
        raise ImportError(f"requests.{name}")
    module = module_from_spec(spec)
    with warnings.catch_warnings():
        # requests silences one that urllib3 gives where PySocks is missing.
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from requests import adapters as _adapters
    from requests import sessions as _sessions
else:
    _adapters, _sessions = _untouched("adapters"), _untouched("sessions")
    _sessions.HTTPAdapter = _adapters.HTTPAdapter


class _Session(_sessions.Session):
    """Knows no redirects: to work out where one leads, requests reads its whole body, however long that is."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def new_session(url: str, proxy: str, hooks: Hooks) -> requests.Session:
    """A session for ``url`` that keeps no cookies, and never takes a loopback address through a proxy.

    Args:
        proxy: a profile's: an address, ``NO_PROXY``, or "" for those of the environment.
    """
    session = _Session()
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers["Accept-Encoding"] = "gzip"
    loopback = is_loopback(urlsplit(url).hostname or "")
    if loopback or proxy:
        # Or requests would prefer the environment's proxies to the session's.
        session.trust_env = False
    if proxy not in ("", NO_PROXY) and not loopback:
        session.proxies = {"http": proxy, "https": proxy}
    adapter = _Adapter(hooks)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def trusted() -> bool | str:
    """The certificates for ``verify``: the environment's bundle, which a session of its own proxy does not look for."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


class Line:
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

    def __enter__(self) -> Line:
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


class _Adapter(_adapters.HTTPAdapter):
    """Calls hooks, retries nothing, and says of a proxy that cannot be used no more than that."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _hooked_pools(self._hooks, HTTPConnection, direct=True)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            return super().send(*args, **kwargs)
        except requests.exceptions.InvalidURL:
            # The host's address was read before this; the error repeats a part of the other one, and its login with it.
            raise requests.exceptions.ProxyError("the address of the proxy cannot be read") from None

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        try:
            manager = super().proxy_manager_for(proxy, **kwargs)
        except requests.exceptions.InvalidSchema:
            raise requests.exceptions.InvalidSchema("SOCKS proxies need the Python package PySocks") from None
        except ValueError:
            # It repeats the address, and a login with it.
            raise requests.exceptions.ProxyError("the address of the proxy cannot be read") from None
        base: type[HTTPConnection] = HTTPConnection
        if proxy.lower().startswith("socks"):
            # It needs PySocks, which the call above has found.
            from urllib3.contrib.socks import SOCKSConnection

            base = SOCKSConnection
        manager.pool_classes_by_scheme = _hooked_pools(self._hooks, base, direct=False)
        return manager


def _hooked_pools(hooks: Hooks, base: type[HTTPConnection], *, direct: bool) -> dict[str, type[HTTPConnectionPool]]:
    class Hooked(base):  # type: ignore[misc, valid-type]
        response_class = _Response

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
