"""Who may call the pack's HTTP routes. Only aiohttp; it knows no ComfyUI and starts nothing.

ComfyUI has no login: whoever reaches its port may do anything, and every web page that a user opens reaches the port
on his machine. The pack's routes show prompts and pictures and can spend money, so they answer the page that ComfyUI
itself served on this machine, and nobody else.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, web

from ...api import RemoteImageError, Text, pack_logger

TOKEN_HEADER = "X-Remote-Image-Token"  # noqa: S105 - a header's name
OPEN_VARIABLE = "REMOTE_IMAGE_OPEN_ROUTES"
BODY_LIMIT = 16 * 1024

# Older aiohttp takes a plain string there, newer ones warn of it.
_BODY: Any = (
    web.RequestKey("hidream_volcengine_body", dict) if hasattr(web, "RequestKey") else "hidream_volcengine_body"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # No <img> or <script> of another site either, and a picture opened in a tab stays a picture.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

# What proxies, tunnels and content networks add. Behind one of them the whole world has a loopback address.
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
    """A request that is answered with ``status`` and an explanation."""

    def __init__(self, status: int, why: Text) -> None:
        self.status = status
        self.why = why
        super().__init__(status, why.en)


class Answer(web.Response):
    """An answer that stays private, whatever a middleware around the handler (ComfyUI's CORS, say) wrote on it."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        for name in [name for name in self.headers if name.lower().startswith("access-control-")]:
            self.headers.popall(name, None)
        self.headers.update(_ALWAYS)
        return await super().prepare(request)


def answer(content: Any, status: int = 200) -> Answer:
    """``content`` as JSON."""
    return Answer(body=json.dumps(content).encode("ascii"), status=status, content_type="application/json")


class Guard:
    """Decorator for handlers: nothing reaches them that the server's owner would not want to.

    Every method but GET and HEAD is a state change and needs the token and a small JSON object as body.
    The answers to a :class:`Refusal`, to an error of the pack (409) and to any other error (500) are made here.
    """

    def __init__(self, token: str, *, opened: bool = False, body_seconds: float = 10.0) -> None:
        """``opened``: the server's owner lets other machines, names and proxies in; pages and token stay checked."""
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
                # As it came, still encoded: a decoded path may hold a line break.
                pack_logger().error("%s %s failed", request.method, request.raw_path, exc_info=error)
                return _refuse(request, 500, _FAILED)

        return guarded

    async def check(self, request: web.Request) -> None:
        """Raises:
        Refusal: this request may not, or is none that a page of ours would send.
        """
        self._check_way(request)
        _check_page(request, any_scheme=self._opened)
        if request.method not in ("GET", "HEAD"):
            self._check_token(request)
            await self._check_body(request)

    def _check_way(self, request: web.Request) -> None:
        """Peer, Host and proxies. A name in Host that is not this machine is DNS rebinding, whoever the peer is."""
        # `request.remote`, `.host` and `.scheme` can be set by a middleware or by an absolute target; these can not.
        if not request.raw_path.startswith("/"):
            raise Refusal(403, _OTHER_NAME)
        host = _host(request)
        if self._opened:
            return
        if not is_loopback(_peer(request)):
            raise Refusal(403, _OTHER_MACHINE)
        if request.version < HttpVersion11:
            raise Refusal(403, _OLD_HTTP)
        if any(_FORWARDING.fullmatch(name.lower().replace("_", "-")) for name in request.headers):
            raise Refusal(403, _FORWARDED)
        # A browser sends that for a WebSocket only; proxies that are set up for these send it with every request.
        connection = ",".join(request.headers.getall("Connection", [])).lower()
        if "upgrade" in connection and not request.headers.get("Upgrade"):
            raise Refusal(403, _FORWARDED)
        if host["name"] != "localhost" and not is_loopback(host["ipv6"] or host["name"]):
            raise Refusal(403, _OTHER_NAME)
        # GETs of a page carry no Origin. A proxy that writes a Host of its own (nginx as it is) does not touch this.
        if referer := _only(request, "Referer", _OTHER_PAGE):
            site = _REFERER.match(referer.lower())
            _check_origin(request, site[0] if site else "", any_scheme=False)

    def _check_token(self, request: web.Request) -> None:
        given = _only(request, TOKEN_HEADER, _TOKEN) or ""
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token):
            raise Refusal(403, _TOKEN)

    async def _check_body(self, request: web.Request) -> None:
        # A page of another site may send a form or plain text without asking the browser first, but no JSON.
        content_type = (_only(request, "Content-Type", _NO_JSON, 415) or "").partition(";")[0]
        if content_type.strip().lower() != "application/json" or "Content-Encoding" in request.headers:
            raise Refusal(415, _NO_JSON)
        try:
            body = await asyncio.wait_for(_read(request), self._body_seconds)
        except Refusal:
            raise
        except Exception as error:  # too late, cut off, or broken chunks: aiohttp has a class for each
            raise Refusal(400, _INCOMPLETE) from error
        try:
            content = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, _BAD_JSON) from error
        if not isinstance(content, dict):
            raise Refusal(400, _BAD_JSON)
        request[_BODY] = content


def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object of a guarded POST; what is in it is not checked yet."""
    content: dict[str, Any] = request[_BODY]
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's, not JSON's")


async def _read(request: web.Request) -> bytes:
    """The body, counted while it comes: ComfyUI's own limit is for uploads, and the announced length may be wrong."""
    if (request.content_length or 0) > BODY_LIMIT:
        raise Refusal(413, _TOO_LARGE)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Refusal(413, _TOO_LARGE)
    return bytes(body)


def _refuse(request: web.Request, status: int, why: Text) -> Answer:
    refused = answer({"error": {"en": why.en, "zh": why.zh}}, status)
    if request.can_read_body:
        # The rest of a body that nobody wants must not be taken for the next request.
        refused.force_close()
    return refused


def is_loopback(address: str) -> bool:
    """Whether ``address`` is an IP address of this machine alone, IPv4-mapped or not; names are none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        # A socket for both protocols shows IPv4 peers this way; before Python 3.13 they are not "loopback".
        parsed = parsed.ipv4_mapped or parsed
    return parsed.is_loopback


def _peer(request: web.Request) -> str:
    """The address at the other end of the connection; "" for a unix socket, which only a proxy would use."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return peer[0] if isinstance(peer, tuple) and peer and isinstance(peer[0], str) else ""


def _only(request: web.Request, name: str, why: Text, status: int = 403) -> str | None:
    """The value of a header. Given twice, others may have read the other one."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise Refusal(status, why)
    return values[0] if values else None


def _host(request: web.Request) -> re.Match[str]:
    host = _HOST.fullmatch((_only(request, "Host", _OTHER_NAME) or "").lower())
    if host is None or int(host["port"] or 0) > 65535:
        raise Refusal(403, _OTHER_NAME)
    return host


def _check_page(request: web.Request, *, any_scheme: bool) -> None:
    """The page that asks is one of this server's, as far as the browser says. Scripts say nothing."""
    # GETs of pictures and links carry no Origin, but newer browsers say this ("none": typed by the user).
    site = _only(request, "Sec-Fetch-Site", _OTHER_PAGE)
    if site is not None and site.lower() not in ("same-origin", "none"):
        raise Refusal(403, _OTHER_PAGE)
    origin = _only(request, "Origin", _OTHER_PAGE)
    if origin is not None:
        _check_origin(request, origin, any_scheme=any_scheme)


def _check_origin(request: web.Request, origin: str, *, any_scheme: bool) -> None:
    page = _ORIGIN.fullmatch(origin.lower())
    asked = _HOST.fullmatch(page["host"]) if page is not None else None
    if page is None or asked is None:
        raise Refusal(403, _OTHER_PAGE)
    # With a proxy in front, only that one knows the scheme.
    if not any_scheme and page["scheme"] != _scheme(request):
        raise Refusal(403, _OTHER_PAGE)
    default = _DEFAULT_PORTS[page["scheme"]]
    here, there = ((host["name"], int(host["port"] or default)) for host in (_host(request), asked))
    if here != there:
        raise Refusal(403, _OTHER_PAGE)


def _scheme(request: web.Request) -> str:
    encrypted = request.transport is not None and request.transport.get_extra_info("sslcontext") is not None
    return "https" if encrypted else "http"
