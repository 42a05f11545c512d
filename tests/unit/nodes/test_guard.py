"""Who may call the pack's routes, decided from requests that no loopback socket could make."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tests.thinned import in_one_test

# nodes/__init__.py imports ComfyUI; these modules do not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.routes.guard import TOKEN_HEADER, Guard, Refusal, is_loopback  # noqa: E402

TOKEN = "the-token-of-this-start"
HERE = "127.0.0.1:8188"
ELSEWHERE = "192.168.1.5"

Headers = list[tuple[str, str]]


def verdict(headers: Headers, **more: Any) -> int:
    """The status that the guard refuses with, or 200; arguments as for :func:`refusal`."""
    return refusal(headers, **more)[0]


def refusal(
    headers: Headers,
    *,
    peer: Any = ("127.0.0.1", 50000),
    path: str = "/hidream_volcengine/tasks",
    method: str = "GET",
    opened: bool = False,
    tls: bool = False,
    version: HttpVersion = HttpVersion11,
) -> tuple[int, str, str]:
    """The status that the guard refuses with, or 200, and why, in both languages."""
    known = {"peername": peer, "sslcontext": object() if tls else None}
    transport = mock.Mock()
    transport.get_extra_info.side_effect = lambda name, default=None: known.get(name, default)
    request = make_mocked_request(method, path, CIMultiDict(headers), version=version, transport=transport)
    try:
        asyncio.run(Guard(TOKEN, opened=opened).check(request))
    except Refusal as refusal:
        assert refusal.why.en and refusal.why.zh
        return refusal.status, refusal.why.en, refusal.why.zh
    return 200, "", ""


@in_one_test(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:7f00:1", True),
        ("", False),
        ("0.0.0.0", False),  # noqa: S104 - a browser reaches this machine with it
        ("::", False),
        ("::ffff:192.168.1.5", False),
        ("::127.0.0.1", False),
        ("::1%lo", False),
        ("fe80::1%lo", False),
        ("10.0.0.1", False),
        ("localhost", False),
        ("127.1", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("0177.0.0.1", False),
        ("127.0.0.1.evil.example", False),
        ("１２７.0.0.1", False),
        ("/run/comfyui.sock", False),
        ("255.255.255.255", False),
    ],
)
def test_which_addresses_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@in_one_test(
    "peer",
    [("127.0.0.1", 1), ("127.0.0.53", 1), ("::1", 1, 0, 0), ("::ffff:127.0.0.1", 1, 0, 0)],
    ids=str,
)
def test_peers_of_this_machine(peer: Any) -> None:
    assert verdict([("Host", HERE)], peer=peer) == 200


@in_one_test(
    "peer",
    [(ELSEWHERE, 1), ("::ffff:192.168.1.5", 1, 0, 0), ("fd00::2", 1, 0, 0), ("fe80::1%eth0", 1, 0, 2), ("", 0), (), "",
     "/run/comfyui.sock", b"\0abstract", None],
    ids=repr,
)
def test_other_peers(peer: Any) -> None:
    """A unix socket counts as another machine: what listens there is a proxy's back door."""
    assert verdict([("Host", HERE)], peer=peer) == 403
    assert verdict([("Host", HERE)], peer=peer, opened=True) == 200


@in_one_test(
    "host",
    ["127.0.0.1", "127.0.0.1:8188", "127.0.0.1:1", "localhost", "LocalHost:8188", "[::1]", "[::1]:8188",
     "[::ffff:127.0.0.1]:8188", "[::FFFF:7F00:1]"],
)
def test_hosts_of_this_machine(host: str) -> None:
    assert verdict([("Host", host)]) == 200


@in_one_test(
    "host",
    ["evil.example", "evil.example:8188", "localhost.evil.example", "evil-localhost", "a.localhost", "localhost.",
     "127.0.0.1.evil.example:8188", "127.1", "2130706433", "0.0.0.0:8188", "192.168.1.5:8188", "[::]:8188",
     "[fd00::2]:8188", "::1", "[::1", "[::1]8188", "[localhost]", "[127.0.0.1]", "127.0.0.1:", "127.0.0.1:a",
     "127.0.0.1:81880", "127.0.0.1:99999", "127.0.0.1:8188:8188", "user@127.0.0.1", "127.0.0.1@evil.example",
     "127.0.0.1/evil.example", "127.0.0.1, evil.example", "127.0.0.1 evil.example", "127.0.0.1\\evil.example", "",
     " ", "127.0.0.1#evil", "127.0.0.1%00.evil.example", "localhost\u3002", "ｌocalhost"],
)
def test_other_hosts(host: str) -> None:
    """DNS rebinding: the peer is this machine, only the name in Host is not."""
    assert verdict([("Host", host)]) == 403


def test_a_missing_or_second_host() -> None:
    for opened in (False, True):
        assert verdict([], opened=opened) == 403
        assert verdict([("Host", HERE), ("Host", "evil.example")], opened=opened) == 403
        assert verdict([("Host", HERE), ("host", HERE)], opened=opened) == 403


@in_one_test("path", ["http://evil.example/hidream_volcengine/tasks", "evil.example:80", "*"])
def test_a_target_that_names_another_host(path: str) -> None:
    assert verdict([("Host", HERE)], path=path) == 403
    assert verdict([("Host", HERE)], path=path, opened=True) == 403


@in_one_test(
    ("host", "origin"),
    [
        (HERE, f"http://{HERE}"),
        ("localhost:8188", "http://localhost:8188"),
        ("LOCALHOST:8188", "http://localhost:8188"),
        ("[::1]:8188", "http://[::1]:8188"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("127.0.0.1", "http://127.0.0.1:80"),
    ],
)
def test_the_same_origin(host: str, origin: str) -> None:
    assert verdict([("Host", host), ("Origin", origin)]) == 200
    assert verdict([("Host", host), ("Origin", origin)], opened=True) == 200
    assert verdict([("Host", host), ("Origin", origin)], tls=True) == 403


FOREIGN_ORIGINS = [
    "null", "", "http://evil.example", "http://evil.example:8188", "https://evil.example", "http://127.0.0.1",
    "http://127.0.0.1:8189", "http://localhost:8188", "http://[::1]:8188", "ftp://127.0.0.1:8188", "127.0.0.1:8188",
    "//127.0.0.1:8188", "file://", "chrome-extension://abcdefgh", "http://127.0.0.1:8188.evil.example",
    "http://127.0.0.1:8188@evil.example", "http://evil.example#127.0.0.1:8188", "http://127.0.0.1:8188/",
    "http://127.0.0.1:8188 http://evil.example", f"http://{HERE}, http://evil.example",
]  # fmt: skip


@in_one_test("origin", FOREIGN_ORIGINS)
def test_foreign_origins(origin: str) -> None:
    assert verdict([("Host", HERE), ("Origin", origin)]) == 403
    assert verdict([("Host", HERE), ("Origin", origin)], opened=True) == 403


def test_two_origins() -> None:
    assert verdict([("Host", HERE), ("Origin", f"http://{HERE}"), ("Origin", f"http://{HERE}")]) == 403


def test_an_origin_has_the_scheme_of_this_server() -> None:
    https = [("Host", HERE), ("Origin", f"https://{HERE}")]
    assert verdict(https) == 403
    assert verdict(https, tls=True) == 200
    assert verdict([("Host", "localhost:443"), ("Origin", "https://localhost")], tls=True) == 200


def test_an_opened_server_stands_behind_any_name() -> None:
    """What ends TLS in front of it is not seen here: Origin says https, the port is the proxy's."""
    name = "comfy.example"
    assert verdict([("Host", name)], peer=("10.0.0.7", 1), opened=True) == 200
    assert verdict([("Host", name), ("Origin", f"https://{name}")], opened=True) == 200
    assert verdict([("Host", f"{name}:443"), ("Origin", f"https://{name}")], opened=True) == 200
    assert verdict([("Host", f"{name}:80"), ("Origin", f"https://{name}")], opened=True) == 403
    assert verdict([("Host", f"{name}:8443"), ("Origin", f"https://{name}:8443")], opened=True) == 200
    assert verdict([("Host", name), ("Origin", "https://evil.example")], opened=True) == 403
    assert verdict([("Host", "nas_1.lan:8188"), ("Origin", "http://nas_1.lan:8188")], opened=True) == 200
    assert verdict([("Host", f"{name}/x"), ("Origin", f"https://{name}/x")], opened=True) == 403


@in_one_test(("site", "status"), [
    ("same-origin", 200), ("none", 200), ("Same-Origin", 200),
    ("same-site", 403), ("cross-site", 403), ("", 403), ("same-origin, cross-site", 403), ("anything", 403),
])  # fmt: skip
def test_what_the_browser_says_about_the_page(site: str, status: int) -> None:
    """Pictures and navigations carry no Origin; another port of this machine is `same-site`."""
    assert verdict([("Host", HERE), ("Sec-Fetch-Site", site)]) == status
    assert verdict([("Host", HERE), ("Sec-Fetch-Site", site)], opened=True) == status


FORWARDING = [
    "Forwarded", "forwarded", "X-Forwarded", "X-Forwarded-For", "x-forwarded-host", "X-FORWARDED-PROTO",
    "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Client-Cert", "X_Forwarded_For",
    "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Original-Forwarded-For", "X-Original-Host",
    "X-Original-URL", "X-Rewrite-URL", "X-Envoy-External-Address", "X-ProxyUser-Ip", "X-Remote-IP", "X-Remote-Addr",
    "X-Originating-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-Appengine-User-Ip", "Via", "CF-Connecting-IP",
    "CF-Connecting-IPv6", "CF-Ray", "CF-Visitor", "CF-IPCountry", "CDN-Loop", "True-Client-IP", "Fastly-Client-IP",
    "Fly-Client-IP", "Client-IP", "Proxy-Client-IP", "WL-Proxy-Client-IP", "Tailscale-User-Login", "Ngrok-Trace-Id",
    "X-Amzn-Trace-Id", "X-Amz-Cf-Id", "X-Nginx-Proxy", "X-Scheme", "X-URL-Scheme", "Front-End-Https", "X-ARR-SSL",
    "X-ARR-LOG-ID", "Max-Forwards", "X-Varnish", "Surrogate-Capability", "X-BlueCoat-Via", "Proxy-Connection",
    "Proxy-Authorization", "X-Cloud-Trace-Context",
]  # fmt: skip


@in_one_test(("name", "value"), [(name, value) for name in FORWARDING for value in ("127.0.0.1", "")])
def test_forwarding_headers(name: str, value: str) -> None:
    """A proxy on this machine makes the whole world a loopback peer; whatever it says, only the owner can allow it."""
    assert verdict([("Host", HERE), (name, value)]) == 403
    assert verdict([("Host", HERE), (name, value)], opened=True) == 200


def test_http_1_0_is_a_proxys() -> None:
    """nginx's before 1.29.7, unless it is told otherwise: with a Host of its own, and nothing else."""
    for headers in ([("Host", HERE)], [("Host", HERE), ("Connection", "close")]):
        status, english, chinese = refusal(headers, version=HttpVersion10)
        assert status == 403
        for words in (english, chinese):
            assert "HTTP/1.0" in words and "nginx" in words and "REMOTE_IMAGE_OPEN_ROUTES=1" in words
        assert verdict(headers, version=HttpVersion(0, 9)) == 403
        assert verdict(headers, version=HttpVersion10, opened=True) == 200


@in_one_test("connection", ["upgrade", "Upgrade", "keep-alive, Upgrade"])
def test_an_upgrade_to_nothing_is_a_proxys(connection: str) -> None:
    """As recipes for WebSockets have it: `proxy_set_header Connection "upgrade"`, for every request."""
    headers = [("Host", HERE), ("Connection", connection)]
    assert verdict(headers) == 403
    assert verdict(headers, opened=True) == 200
    assert verdict([*headers, ("Upgrade", "h2c")]) == 200  # curl --http2


@in_one_test(
    ("referer", "status"),
    [
        (f"http://{HERE}", 200), (f"http://{HERE}/", 200), (f"http://{HERE}/?a=http://x#y", 200), ("", 200),
        ("https://comfy.example/", 403), (f"https://{HERE}/", 403), ("http://127.0.0.1:8189/", 403),
        ("http://localhost:8188/", 403), (f"http://{HERE}@evil.example/", 403), (f"http://evil.example/{HERE}", 403),
        (f"http://{HERE}.evil.example/", 403), ("file:///x", 403), ("nonsense", 403),
    ],
)  # fmt: skip
def test_the_page_that_asks_has_the_host_that_is_asked(referer: str, status: int) -> None:
    """Newer nginx speaks HTTP/1.1, with a Host of its own; what the browser says of the page stays, also in a GET."""
    assert verdict([("Host", HERE), ("Referer", referer)]) == status
    assert verdict([("Host", HERE), ("Referer", referer)], opened=True) == 200
    assert verdict([("Host", HERE), ("Referer", f"http://{HERE}/"), ("Referer", referer)]) == 403


def test_another_machine_is_told_of_containers() -> None:
    """The browser on the same computer is another machine there, and nobody would think of it."""
    for peer in ("172.17.0.1", "172.28.96.1", "10.88.0.1", "192.168.65.1"):
        status, english, chinese = refusal([("Host", "127.0.0.1:8188")], peer=(peer, 1))
        assert status == 403
        for words in (english, chinese):
            assert "REMOTE_IMAGE_OPEN_ROUTES=1" in words and "Docker" in words and "WSL" in words


def test_headers_of_an_ordinary_browser() -> None:
    ordinary = [
        ("Host", HERE), ("Connection", "keep-alive"), ("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "zh-CN,zh;q=0.9"), ("Comfy-User", ""), ("Cookie", "a=b"), ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache"), ("Referer", f"http://{HERE}/"), ("Sec-Fetch-Dest", "empty"), ("DNT", "1"),
        ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin"), ("User-Agent", "Mozilla/5.0"),
        ("sec-ch-ua-platform", '"Linux"'), ("X-Requested-With", "XMLHttpRequest"),
    ]  # fmt: skip
    assert verdict(ordinary) == 200
    assert verdict(ordinary, method="HEAD") == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ANYTHING"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_state_change_needs_the_token(method: str, opened: bool) -> None:
    """Every method but GET and HEAD is one, so that nobody has to remember it for a new route."""
    for tokens in ([], [""], ["wrong"], [TOKEN[:-1]], [TOKEN + "x"], ["tökén"], [TOKEN, TOKEN], ["wrong", TOKEN]):
        headers = [("Host", HERE), ("Content-Type", "application/json"), *((TOKEN_HEADER, token) for token in tokens)]
        assert verdict(headers, method=method, opened=opened) == 403, tokens


def test_no_guard_with_an_empty_token() -> None:
    with pytest.raises(ValueError, match="token"):
        Guard("")
