"""Download of a result picture from a URL that a service named: public addresses only, of limited size, complete."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import tempfile
import threading
import time
import unicodedata
from contextlib import ExitStack, suppress
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from ..core import CancelToken, Deadlines, Text
from .connection import (
    BROKEN,
    Hooks,
    LiveConnection,
    NoAuth,
    Request,
    blocks,
    is_loopback,
    log_exchange,
    new_session,
)
from .time_limit import TimeLimit

_MAX_REDIRECTS = 3
# Bytes. A larger picture goes to disk, because many may have been downloaded and wait to be decoded.
_SPOOL_IN_MEMORY = 2**20
# Proxies of the "fake-ip" kind answer DNS from this range and forward by name.
_FAKE_IP_RANGE = ipaddress.ip_network("198.18.0.0/15")
# What resolvers read as an IPv4 address, though it is no usual spelling of one: 0x7f.1, 2130706433, 0177.0.0.1.
_NUMERIC_HOST = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.IGNORECASE)
_FOUR_NUMBERS = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
# Statuses of a whole picture. 203: a proxy on the way has changed something, at least its headers.
_COMPLETE = (200, 203)
_QUERY = re.compile(r"\?[^\s()'\"]*")


class DownloadError(Exception):
    """One try of a download failed; another may succeed."""


class TooLargeError(DownloadError):
    """The picture is larger than ``max_bytes``; another try would bring the same."""


class RefusedUrlError(Exception):
    """A result URL that this pack does not fetch; ``reason`` is the end of a sentence that says why."""

    def __init__(self, reason: Text) -> None:
        super().__init__(reason.en)
        self.reason = reason


def _guard(allow_loopback: bool, connection: LiveConnection) -> Hooks:
    """Hooks that refuse direct connections to addresses that are not public, before and after they are opened.

    After, too, because the name may resolve to another address by then. Only direct connections: a proxy may have a
    private address, and resolves names by itself.
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
        connection.connected(sock)

    return Hooks(resolving=resolving, connected=connected)


def _check_address(address: str, allow_loopback: bool) -> None:
    if not _is_public(address, allow_loopback):
        raise RefusedUrlError(_private(address))


def _private(address: str) -> Text:
    return Text(
        f"its host resolves to {address}, an address inside a private network", f"主机地址 {address} 位于内部网络"
    )


def _is_public(address: str, allow_loopback: bool) -> bool:
    """Whether a picture may be fetched from an IP address; raises ValueError if it is none."""
    ip = _embedded_ipv4(ipaddress.ip_address(address.split("%")[0]))
    if ip.is_loopback:
        return allow_loopback
    if ip in _NAT64_LOCAL or getattr(ip, "is_site_local", False):
        # Not every Python counts these as private.
        return False
    return _is_fake(str(ip)) or (ip.is_global and not ip.is_multicast)


def _is_fake(address: str) -> bool:
    ip = _embedded_ipv4(ipaddress.ip_address(address.split("%")[0]))
    return ip.version == 4 and ip in _FAKE_IP_RANGE


def _embedded_ipv4(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that a mapped, 6to4 or NAT64 IPv6 address leads to; any other address as it is."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


def _checked_url(url: str, allow_loopback: bool) -> str:
    """``url``, if it is one that this pack fetches, as far as it can be known without resolving its host.

    Raises:
        RefusedUrlError: it is not.
    """
    try:
        parts = urlsplit(url)
        given, _ = parts.hostname or "", parts.port
    except ValueError:
        raise RefusedUrlError(Text("it is no URL", "不是有效的 URL")) from None
    host = unicodedata.normalize("NFKC", given)
    is_of_this_machine = is_loopback(given)
    schemes = ("https", "http") if is_of_this_machine and allow_loopback else ("https",)
    is_number = _NUMERIC_HOST.fullmatch(host) is not None and _FOUR_NUMBERS.fullmatch(host) is None
    faults = (
        ("@" in parts.netloc, Text("it carries credentials", "其中含有用户名或密码")),
        (
            parts.scheme not in schemes,
            Text(f"its scheme is {parts.scheme or 'missing'}, not https", "协议不是 https"),
        ),
        (is_number, Text(f"its host is the number {host}", f"主机是数字形式 {host}")),
        (_is_private_address(host.strip("[]"), allow_loopback), _private(host)),
        (not host, Text("its host is missing", "缺少主机")),
        (is_of_this_machine and not allow_loopback, Text(f"its host is {host}", f"主机为 {host}")),
    )
    for is_wrong, reason in faults:
        if is_wrong:
            raise RefusedUrlError(reason)
    return url


def _is_private_address(host: str, allow_loopback: bool) -> bool:
    """Whether the host of a URL is an IP address from which no picture is fetched; ``False`` for a name."""
    with suppress(ValueError):
        # A name may resolve to the fake-ip range, by a proxy; in a URL an address of that range is a private one.
        return not _is_public(host, allow_loopback) or _is_fake(host)
    return False


class _SilentInDownloads(logging.Filter):
    """Drops urllib3's lines about downloads: they have whole URLs, whose query may be a signature. We log the rest."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_this_thread, "downloading", False)


_this_thread = threading.local()
_silent_in_downloads = _SilentInDownloads()


def downloaded(
    url: str,
    *,
    max_bytes: int,
    allow_loopback: bool,
    deadlines: Deadlines,
    cancel: CancelToken,
    proxy: str = "",
) -> IO[bytes]:
    """Fetch a result picture once, without credentials, and return it as a temporary file, positioned at its end.

    Redirects are followed three times at most, and each target is checked like the first URL.

    Args:
        max_bytes: of the picture's file.
        allow_loopback: this machine is allowed, also over http; for the emulator.

    Raises:
        RefusedUrlError: the URL, or a redirect, is not one this pack fetches.
        DownloadError: this try failed (status, cut off, too slow); the caller may try again.
        TooLargeError: it is larger than ``max_bytes``.
        CallCancelled: ``cancel`` was set.
    """
    logging.getLogger("urllib3.connectionpool").addFilter(_silent_in_downloads)
    for _ in range(_MAX_REDIRECTS + 1):
        cancel.check()
        started = time.monotonic()
        checked = _checked_url(url, allow_loopback)
        request = Request(checked, NoAuth(), deadlines, proxy, headers={"Accept-Encoding": "identity"})
        connection = LiveConnection()
        limit = TimeLimit(connection, min(deadlines.download, deadlines.connect + 2 * deadlines.poll))
        session = new_session(request, _guard(allow_loopback, connection))
        with connection, limit, session, cancel.calling(connection.cut):
            _this_thread.downloading = True
            try:
                with session.send(request, deadlines.poll) as response:
                    if response.is_redirect:
                        log_exchange(request, response.status_code, started)
                        url = _redirect_target(url, response.headers["Location"])
                        continue
                    spool = _spool(response, max_bytes, limit, cancel)
            except BROKEN as cause:
                cancel.check()
                log_exchange(request, f"failed ({type(cause).__name__})", started)
                # `from None`: the cause repeats the URL with its query, which may be a signature.
                raise DownloadError(_QUERY.sub("", str(cause))) from None
            finally:
                _this_thread.downloading = False
        log_exchange(request, response.status_code, started, received=spool.tell())
        return spool
    raise DownloadError(f"more than {_MAX_REDIRECTS} redirects")


def _redirect_target(url: str, location: str) -> str:
    """The URL that a redirect from ``url`` leads to."""
    # http.client reads headers as Latin-1; a URL may be in UTF-8, not percent-encoded.
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode("utf-8")
    try:
        return urljoin(url, location)
    except ValueError:
        raise RefusedUrlError(Text("it redirects to something that is no URL", "重定向目标不是有效的 URL")) from None


def _spool(response: requests.Response, max_bytes: int, limit: TimeLimit, cancel: CancelToken) -> IO[bytes]:
    """The body in a temporary file; raises DownloadError if it does not come as a whole."""
    if response.status_code not in _COMPLETE:
        raise DownloadError(f"HTTP {response.status_code}")
    announced = response.headers.get("Content-Length", "")
    with ExitStack() as unless_complete:
        spool = unless_complete.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY))
        ended = False
        with suppress(urllib3.exceptions.ProtocolError):
            for chunk in blocks(response, decode=False):
                cancel.check()
                spool.write(chunk)
                limit.came(len(chunk))
                if spool.tell() > max_bytes:
                    raise TooLargeError(f"more than {max_bytes} bytes")
            ended = True
        if limit.passed:
            raise DownloadError(f"too slow: {spool.tell()} bytes so far")
        if not ended or (announced.isdigit() and spool.tell() != int(announced)):
            raise DownloadError(f"cut off after {spool.tell()} of {announced or 'so many'} bytes")
        unless_complete.pop_all()
        return spool
