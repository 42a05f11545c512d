"""The check of every request to the pack's HTTP routes. It uses aiohttp only and knows no ComfyUI.

ComfyUI has no login: everybody who can connect to its port may do anything, and so may every web page that a user
opens on the same machine. The pack's routes show prompts and pictures and can spend money. So they answer requests from
this machine only, and of web pages only those that this ComfyUI served.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import HttpVersion11, web

from ...api import RemoteImageError, Text, pack_logger

TOKEN_HEADER = "X-Remote-Image-Token"  # noqa: S105 - a header's name
OPEN_VARIABLE = "REMOTE_IMAGE_OPEN_ROUTES"
BODY_LIMIT = 16 * 1024

# Key of the parsed body in a request. Newer aiohttp has typed keys and warns of a string.
_BODY: Any = (
    web.RequestKey("hidream_volcengine_body", dict) if hasattr(web, "RequestKey") else "hidream_volcengine_body"
)

_T = TypeVar("_T")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PRIVATE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Another site cannot load an answer as <img> or <script>, and an answer opened in a tab cannot run scripts.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

# Headers that proxies, tunnels and content networks add. Behind a local one every client has a loopback address.
_FORWARDING = re.compile(
    r"forwarded|via|cdn-loop|x-rewrite-url|x-originating-ip|x-remote-(ip|addr)|x-proxyuser-ip|x-nginx-proxy|x(-url)?-scheme"
    r"|front-end-https|max-forwards|x-varnish|surrogate-capability|x-bluecoat-via|proxy-.*|x-cloud-trace-context"
    r"|(.*-)?(client|real)-ip"
    r"|(x-forwarded|x-original|x-envoy|x-azure|x-arr-|x-appengine|x-amz|cf-|fastly-|fly-|ngrok-|tailscale-).*"
)
_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[(?P<ipv6>[0-9a-f.]*:[0-9a-f:.]+)\])(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>.*)")
_REFERER = re.compile(r"https?://[^/?#]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_TELL_OWNER = Text(
    f"Whoever runs the server can allow it with {OPEN_VARIABLE}=1.", f"服务器管理员可设置 {OPEN_VARIABLE}=1 来放行。"
)
_OTHER_MACHINE = Text(
    "Tasks, profiles and templates are shown on the server's own machine only. With Docker or WSL, a browser on the "
    "same computer comes through a gateway and counts as another machine (docs/docker.md). "
    f"{_TELL_OWNER.en}",
    "任务、配置和模板只在服务器本机显示。使用 Docker 或 WSL 时，同一台电脑上的浏览器经由网关访问，也视为其他机器"
    f"（见 docs/docker.zh-CN.md）。{_TELL_OWNER.zh}",
)
_OTHER_NAME = Text(
    "Open ComfyUI as http://127.0.0.1 or http://localhost: under other names tasks, profiles and templates are not "
    f"shown. {_TELL_OWNER.en}",
    "请用 http://127.0.0.1 或 http://localhost 打开 ComfyUI：通过其他名称访问时不显示任务、配置和模板。"
    f"{_TELL_OWNER.zh}",
)
_FORWARDED = Text(
    f"The request came through a proxy, so nobody knows from where. {_TELL_OWNER.en}",
    f"请求经过了代理，无法确认来源。{_TELL_OWNER.zh}",
)
_OLD_HTTP = Text(
    "The request came as HTTP/1.0. No browser sends that, but proxies do (nginx before 1.29.7, unless "
    f"proxy_http_version is set), so nobody knows from where it came. {_TELL_OWNER.en}",
    "请求使用 HTTP/1.0。浏览器不会这样发送，而代理会（例如 1.29.7 之前、未设置 proxy_http_version 的 nginx），"
    f"因此无法确认来源。{_TELL_OWNER.zh}",
)
_OTHER_PAGE = Text(
    "The request comes from a page that this ComfyUI did not serve, or through a proxy that changes the Host header.",
    "请求来自其他网页（不是此 ComfyUI 提供的页面），或经过了会更改 Host 标头的代理。",
)
_TOKEN = Text(
    "The page was opened before ComfyUI was started anew: reload it. A script asks /hidream_volcengine/session for "
    f"{TOKEN_HEADER}.",
    f"页面是在 ComfyUI 重启之前打开的：请刷新页面。脚本请向 /hidream_volcengine/session 获取 {TOKEN_HEADER}。",
)
_NO_JSON = Text(
    "The request must be JSON (Content-Type: application/json).", "请求必须为 JSON（Content-Type: application/json）。"
)
_BAD_JSON = Text("The body of the request is no JSON object.", "请求正文不是 JSON 对象。")
_TOO_LARGE = Text(f"The body of the request is over {BODY_LIMIT} bytes.", f"请求正文超过 {BODY_LIMIT} 字节。")
_INCOMPLETE = Text("The body of the request did not arrive.", "未收到完整的请求正文。")
_FAILED = Text("The pack failed at this; the server's log says why.", "插件内部出错；原因见服务器日志。")


class Refusal(Exception):
    """Raised by a handler: the request is answered with the HTTP ``status`` and the text ``why``."""

    def __init__(self, status: int, why: Text) -> None:
        self.status = status
        self.why = why
        super().__init__(status, why.en)


class Answer(web.Response):
    """A response whose headers keep it from other sites; headers of a middleware (ComfyUI's CORS) are removed."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        for name in [name for name in self.headers if name.lower().startswith("access-control-")]:
            self.headers.popall(name, None)
        self.headers.update(_PRIVATE_HEADERS)
        return await super().prepare(request)


def answer(content: Any, status: int = 200) -> Answer:
    """A response with ``content`` as JSON."""
    return Answer(body=json.dumps(content).encode("ascii"), status=status, content_type="application/json")


class Guard:
    """Decorator for handlers: checks each request, and turns what a handler raises into a response.

    Every method but GET and HEAD changes state: it needs the token, and a JSON object of at most ``BODY_LIMIT`` bytes.
    A :class:`Refusal` is answered with its status, an error of the pack with 409, any other error with 500.

    Args:
        token: which requests that change state must send in ``TOKEN_HEADER``.
        opened: allow other machines, host names and proxies; page and token are still checked.
        body_seconds: how long a body may take to arrive.

    Raises:
        ValueError: the token is empty, so that it would let everyone in.
    """

    def __init__(self, token: str, *, opened: bool = False, body_seconds: float = 10.0) -> None:
        if not token:
            raise ValueError("an empty token would let everyone in")
        self._token = token.encode("utf-8")
        self._opened = opened
        self._body_seconds = body_seconds

    def __call__(self, handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                await self.check(request)
                return await handler(request)
            except Refusal as refusal:
                return _refuse(request, refusal.status, refusal.why)
            except RemoteImageError as error:
                return _refuse(request, 409, error.text())
            except Exception as error:
                # raw_path is still encoded: a decoded path may contain a line break.
                pack_logger().error("%s %s failed", request.method, request.raw_path, exc_info=error)
                return _refuse(request, 500, _FAILED)

        return guarded

    async def check(self, request: web.Request) -> None:
        """Check a request; its parsed body is then in :func:`body_of`.

        Raises:
            Refusal: the request comes from elsewhere, lacks the token, or has no valid body.
        """
        self._check_connection(request)
        _check_page(request, any_scheme=self._opened)
        if request.method not in ("GET", "HEAD"):
            self._check_token(request)
            await self._check_body(request)

    def _check_connection(self, request: web.Request) -> None:
        """Check that the request came from this machine without a proxy: the rules of ``_FROM_ELSEWHERE``, and Referer.

        If the routes are ``opened``, only the form of the target and of Host is checked.
        """
        # `request.remote`, `.host` and `.scheme` are not used: a middleware or an absolute target can set them.
        if not request.raw_path.startswith("/"):
            raise Refusal(403, _OTHER_NAME)
        _host(request)
        if self._opened:
            return
        for applies, why in _FROM_ELSEWHERE:
            if applies(request):
                raise Refusal(403, why)
        # GETs of a page have no Origin. A proxy that replaces Host (nginx does by default) leaves Referer as it is.
        if referer := _single_header(request, "Referer", _OTHER_PAGE):
            site = _REFERER.match(referer.lower())
            _check_origin(request, site[0] if site else "", any_scheme=False)

    def _check_token(self, request: web.Request) -> None:
        given = _single_header(request, TOKEN_HEADER, _TOKEN) or ""
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token):
            raise Refusal(403, _TOKEN)

    async def _check_body(self, request: web.Request) -> None:
        # A browser lets a page of another site send forms and plain text, but JSON only after a CORS preflight.
        content_type = (_single_header(request, "Content-Type", _NO_JSON, 415) or "").partition(";")[0]
        if content_type.strip().lower() != "application/json" or "Content-Encoding" in request.headers:
            raise Refusal(415, _NO_JSON)
        try:
            body = await asyncio.wait_for(_read(request), self._body_seconds)
        except Refusal:
            raise
        except Exception as error:  # timeout, closed connection, bad chunks: several classes of aiohttp
            raise Refusal(400, _INCOMPLETE) from error
        try:
            content = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, _BAD_JSON) from error
        if not isinstance(content, dict):
            raise Refusal(400, _BAD_JSON)
        request[_BODY] = content


def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object of a guarded POST; its fields are not checked yet."""
    content: dict[str, Any] = request[_BODY]
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's, not JSON's")


async def _read(request: web.Request) -> bytes:
    """The body; raises Refusal (413) as soon as it is over ``BODY_LIMIT`` bytes.

    aiohttp's own limit is not enough, because ComfyUI sets it for uploads of pictures; and Content-Length may be wrong.
    """
    if (request.content_length or 0) > BODY_LIMIT:
        raise Refusal(413, _TOO_LARGE)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Refusal(413, _TOO_LARGE)
    return bytes(body)


def or_404(value: _T | None, why: Text) -> _T:
    """``value``; raises Refusal (404) with ``why`` if it is ``None``."""
    if value is None:
        raise Refusal(404, why)
    return value


def text_json(text: Text) -> dict[str, str]:
    """A text in both languages; the page shows the one of its user."""
    return {"en": text.en, "zh": text.zh}


def _refuse(request: web.Request, status: int, why: Text) -> Answer:
    refused = answer({"error": text_json(why)}, status)
    if request.can_read_body:
        # Close the connection: the rest of the unread body would be parsed as the next request.
        refused.force_close()
    return refused


def is_loopback(address: str) -> bool:
    """Whether ``address`` is a loopback IP address, also as IPv4-mapped IPv6; ``False`` for a host name."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        # A dual-stack socket shows IPv4 peers as mapped addresses, whose is_loopback is False before Python 3.13.
        parsed = parsed.ipv4_mapped or parsed
    return parsed.is_loopback


def _peer(request: web.Request) -> str:
    """The IP address of the client; "" for a unix socket, which only a proxy would use."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return peer[0] if isinstance(peer, tuple) and peer and isinstance(peer[0], str) else ""


def _single_header(request: web.Request, name: str, why: Text, status: int = 403) -> str | None:
    """The value of a header, ``None`` if it is not there.

    Raises Refusal with ``status`` and ``why`` if it is there twice: other programs may read the other value.
    """
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise Refusal(status, why)
    return values[0] if values else None


def _host(request: web.Request) -> re.Match[str]:
    """The parts of the Host header: ``name``, ``ipv6``, ``port``; raises Refusal if it is missing or malformed."""
    host = _HOST.fullmatch((_single_header(request, "Host", _OTHER_NAME) or "").lower())
    if host is None or int(host["port"] or 0) > 65535:
        raise Refusal(403, _OTHER_NAME)
    return host


def _has_forwarding_header(request: web.Request) -> bool:
    return any(_FORWARDING.fullmatch(name.lower().replace("_", "-")) for name in request.headers)


def _upgrades_to_nothing(request: web.Request) -> bool:
    """Whether "Connection: upgrade" stands without Upgrade.

    A browser sends it for a WebSocket only, with Upgrade; a proxy that is configured for these sends it with every
    request.
    """
    connection = ",".join(request.headers.getall("Connection", [])).lower()
    return "upgrade" in connection and not request.headers.get("Upgrade")


def _names_another_machine(request: web.Request) -> bool:
    """Whether Host does not mean this machine; that is DNS rebinding, whatever the peer's address."""
    host = _host(request)
    return host["name"] != "localhost" and not is_loopback(host["ipv6"] or host["name"])


# What shows that a request did not come straight from this machine. The first one that applies is the answer.
_FROM_ELSEWHERE: tuple[tuple[Callable[[web.Request], bool], Text], ...] = (
    (lambda request: not is_loopback(_peer(request)), _OTHER_MACHINE),
    (lambda request: request.version < HttpVersion11, _OLD_HTTP),
    (_has_forwarding_header, _FORWARDED),
    (_upgrades_to_nothing, _FORWARDED),
    (_names_another_machine, _OTHER_NAME),
)


def _check_page(request: web.Request, *, any_scheme: bool) -> None:
    """Check that the headers of a browser name a page of this server. Scripts send none of them and pass.

    Args:
        any_scheme: the page's scheme may differ from that of the connection.
    """
    # GETs of pictures and links have no Origin, but newer browsers send this ("none": the user typed the address).
    site = _single_header(request, "Sec-Fetch-Site", _OTHER_PAGE)
    if site is not None and site.lower() not in ("same-origin", "none"):
        raise Refusal(403, _OTHER_PAGE)
    origin = _single_header(request, "Origin", _OTHER_PAGE)
    if origin is not None:
        _check_origin(request, origin, any_scheme=any_scheme)


def _check_origin(request: web.Request, origin: str, *, any_scheme: bool) -> None:
    """Check that ``origin`` has scheme, host and port of this request; raises Refusal."""
    page = _ORIGIN.fullmatch(origin.lower())
    asked = _HOST.fullmatch(page["host"]) if page is not None else None
    if page is None or asked is None:
        raise Refusal(403, _OTHER_PAGE)
    # Behind a proxy the page may have been served by https although this connection is http.
    if not any_scheme and page["scheme"] != _scheme(request):
        raise Refusal(403, _OTHER_PAGE)
    default = _DEFAULT_PORTS[page["scheme"]]
    here, there = ((host["name"], int(host["port"] or default)) for host in (_host(request), asked))
    if here != there:
        raise Refusal(403, _OTHER_PAGE)


def _scheme(request: web.Request) -> str:
    encrypted = request.transport is not None and request.transport.get_extra_info("sslcontext") is not None
    return "https" if encrypted else "http"
