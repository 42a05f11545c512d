"""The routes of the task list on a real server on loopback: what they answer, and every forged request they refuse."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import logging
import socket
import sys
import threading
import time
import types
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hidream_volcengine.api import ConfigurationError, RemoteImageError, TaskFailedError, Text
from hidream_volcengine.api.journal import ItemEnd, ItemRow, Outcome, RunItem

# nodes/__init__.py imports ComfyUI; these modules do not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.routes import guard as guard_module  # noqa: E402
from hidream_volcengine.nodes.routes import register  # noqa: E402
from hidream_volcengine.nodes.routes.guard import BODY_LIMIT, Guard, answer  # noqa: E402

TOKEN = "the-token-of-this-start"
BASE = "/hidream_volcengine"
FIRST, SECOND = "rv-00000000000000aa", "rv-00000000000000bb"
PNG = b"\x89PNG\r\n\x1a\nnot really"
JPEG = b"\xff\xd8\xff not really either"
DEADLINE = 10.0
UNSET: Any = object()


@dataclass(frozen=True)
class FakeTask:
    """What `api.Task` has; made here so that these tests need no journal."""

    journal_id: str
    state: str = "stored"
    provider: str = "HiDream"
    endpoint: str = "outpaint"
    profile: str = "default"
    sandbox: bool = False
    task_id: str = "task-1"
    request_id: str = "request-1"
    take: int = 0
    pictures: int = 1
    summary: str = "风景 half \ud83d"
    created_at: float = 1000.5
    changed_at: float = 1001.5
    error: RemoteImageError | None = None
    stored: int = 1
    waiting: bool = False
    can: tuple[str, ...] = ()
    label: str = "茶壶-17"


@dataclass(frozen=True)
class FakeSpent:
    """What `api.Spent` has."""

    profile: str = "default"
    currency: str = "CNY"
    certain_today: str = "12.30"
    unclear_today: str = "0"
    certain_this_month: str = "109"
    unclear_this_month: str = "0.22"


@dataclass(frozen=True)
class FakeRun:
    """What `api.RunSummary` has."""

    run: str = "fa12c9f5-6f60-4a40-8a0b-1a6f7f0a5b11"
    began_at: float = 1000.5
    items: int = 4
    pictures: int = 3
    missing: int = 1


FAKE_ITEM = RunItem(FakeRun.run, "5", 0, 0, "=茶壶", "hidream upscale", "default", 0, 1)
FAKE_ROW = ItemRow(ItemEnd(FAKE_ITEM, Outcome.REFUSED), "task-1", "request-1", None, None, 1000.5)


@dataclass(frozen=True)
class FakeOverview:
    """What `api.Overview` has."""

    tasks: tuple[FakeTask, ...]
    now: float = 2000.5
    unacknowledged: bool = False


@dataclass(frozen=True)
class FakeBudget:
    """What `BudgetLine` of nodes/comfy/server_journal.py has."""

    profile: str = "default"
    pictures_today: int = 3
    per_day: int | None = None
    per_run: int | None = 100


@dataclass
class FakeDesk:
    """The actions that the routes call. It records each call and its thread, and raises `trouble` if that is set."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    trouble: BaseException | None = None
    free: threading.Event = field(default_factory=threading.Event)
    media_type: str = "image/png"
    rows: list[ItemRow] = field(default_factory=lambda: [FAKE_ROW])

    def __post_init__(self) -> None:
        self.free.set()
        self.known = {
            FIRST: FakeTask(FIRST),
            SECOND: FakeTask(
                SECOND,
                state="failed",
                can=("submit-again",),
                error=TaskFailedError(Text("It failed.", "失败了。"), provider="HiDream", task_id="task-2"),
            ),
        }

    def overview(self, limit: int) -> tuple[FakeOverview, list[FakeBudget], list[FakeSpent]]:
        self._note("overview", limit)
        return FakeOverview(tuple(self.known.values())[:limit]), [FakeBudget()], [FakeSpent()]

    def runs(self, limit: int) -> list[FakeRun]:
        self._note("runs", limit)
        return [FakeRun()]

    def rows_of_run(self, run: str) -> list[ItemRow]:
        self._note("rows_of_run", run)
        return self.rows if run == FakeRun.run else []

    def rows_of_day(self, day: date) -> list[ItemRow]:
        self._note("rows_of_day", day)
        return self.rows

    def forget_run(self, run: str) -> int:
        self._note("forget_run", run)
        return len(self.rows) if run == FakeRun.run else 0

    def task(self, journal_id: str) -> FakeTask | None:
        self._note("task", journal_id)
        return self.known.get(journal_id)

    def submit_again(self, journal_id: str) -> bool:
        self._note("submit_again", journal_id)
        return journal_id == SECOND

    def collect(self, journal_id: str) -> bool:
        self._note("collect", journal_id)
        return journal_id == SECOND

    def stop_waiting(self, journal_id: str) -> bool:
        self._note("stop_waiting", journal_id)
        return journal_id == SECOND

    def acknowledge(self) -> None:
        self._note("acknowledge")

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        self._note("picture", journal_id, position)
        return (PNG, self.media_type) if (journal_id, position) == (FIRST, 0) else None

    def thumbnail(self, journal_id: str, position: int) -> bytes | None:
        self._note("thumbnail", journal_id, position)
        return JPEG if (journal_id, position) == (FIRST, 0) else None

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        self.threads.add(threading.current_thread().name)
        assert self.free.wait(DEADLINE)
        if self.trouble is not None:
            raise self.trouble


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A server on loopback in a thread of its own, and requests to it with exactly the headers that a test wants."""

    def __init__(self, app: web.Application, listener: socket.socket, address: str) -> None:
        self.address, self.port = address, listener.getsockname()[1]
        self.host = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0)
        self.wait_for(self._start(listener))

    def wait_for(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    async def _start(self, listener: socket.socket) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    def stop(self) -> None:
        self.wait_for(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def get(self, path: str, *headers: tuple[str, str], host: str | None = UNSET) -> Reply:
        return self.ask("GET", path, *headers, host=host)

    def post(self, path: str, *headers: tuple[str, str], body: bytes = b"{}", host: str | None = UNSET,
             token: str | None = TOKEN, content_type: str | None = "application/json",
             origin: str | None = UNSET) -> Reply:  # fmt: skip
        """As the page does it, unless something is changed."""
        origin = f"http://{self.host}" if origin is UNSET else origin
        known = {"X-Remote-Image-Token": token, "Content-Type": content_type, "Origin": origin}
        own = [(name, value) for name, value in known.items() if value is not None]
        return self.ask("POST", path, *own, *headers, body=body, host=host)

    def ask(self, method: str, path: str, *headers: tuple[str, str], body: bytes | None = None,
            host: str | None = UNSET) -> Reply:  # fmt: skip
        host = self.host if host is UNSET else host
        connection = http.client.HTTPConnection(self.address, self.port, timeout=DEADLINE)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            named = {name.lower() for name, _ in headers}
            if body is not None and not named & {"content-length", "transfer-encoding"}:
                headers = (*headers, ("Content-Length", str(len(body))))
            for name, value in (*([("Host", host)] if host is not None else []), *headers):
                connection.putheader(name, value.encode("utf-8"))
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """What comes back for bytes that no client library would send."""
        with socket.create_connection((self.address, self.port), timeout=DEADLINE) as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
                head, _, rest = received.partition(b"\r\n\r\n")
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:") and len(rest) >= int(line.split(b":")[1]):
                        return received
            return received


def listener(address: str) -> socket.socket:
    """On a free port of a loopback address; `::ffff:127.0.0.1` makes IPv4 clients IPv4-mapped peers."""
    if ":" not in address:
        return socket.create_server((address, 0))
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, 0))
    except OSError as missing:
        pytest.skip(f"no IPv6 here: {missing}")
    made.listen()
    return made


@contextmanager
def serving(routes: web.RouteTableDef, *, bind: str = "127.0.0.1", address: str = "",
            middlewares: list[Any] | None = None) -> Iterator[Served]:  # fmt: skip
    # As ComfyUI has it: its own limit is no help.
    app = web.Application(client_max_size=100 * 2**20, middlewares=middlewares or [])
    app.add_routes(routes)
    served = Served(app, listener(bind), address or bind)
    try:
        yield served
    finally:
        served.stop()


def routes_of(desk: FakeDesk) -> web.RouteTableDef:
    routes = web.RouteTableDef()
    register(routes, desk, TOKEN)
    return routes


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_IMAGE_OPEN_ROUTES", raising=False)


@pytest.fixture
def desk() -> Iterator[FakeDesk]:
    made = FakeDesk()
    yield made
    made.free.set()


@pytest.fixture
def served(desk: FakeDesk) -> Iterator[Served]:
    with serving(routes_of(desk)) as running:
        yield running


@pytest.fixture
def opened(desk: FakeDesk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("REMOTE_IMAGE_OPEN_ROUTES", "1")
    with serving(routes_of(desk)) as running:
        yield running


def assert_refused(reply: Reply, status: int) -> None:
    assert reply.status == status, reply.body
    assert_headers(reply)
    assert reply.headers.get_content_type() == "application/json"
    assert reply.json.keys() == {"error"}
    assert reply.json["error"].keys() == {"en", "zh"}
    assert all(reply.json["error"].values())


def assert_headers(reply: Reply) -> None:
    assert reply.headers.get_all("Cache-Control") == ["no-store"]
    assert reply.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert reply.headers.get_all("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert reply.headers.get_all("Content-Security-Policy") == ["default-src 'none'; sandbox"]
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


# ---- what they answer


def test_the_session_gives_the_token(served: Served) -> None:
    reply = served.get(f"{BASE}/session")
    assert (reply.status, reply.json) == (200, {"token": TOKEN})
    assert_headers(reply)


def test_each_start_has_a_token_of_its_own(desk: FakeDesk) -> None:
    tokens = set()
    for _ in range(2):
        routes = web.RouteTableDef()
        register(routes, desk)
        with serving(routes) as running:
            tokens.add(running.get(f"{BASE}/session").json["token"])
    assert len(tokens) == 2
    assert all(len(token) >= 32 for token in tokens)


def test_the_task_list(served: Served, desk: FakeDesk) -> None:
    reply = served.get(f"{BASE}/tasks?limit=7")
    assert reply.status == 200
    assert_headers(reply)
    first, second = reply.json["tasks"]
    assert first == {
        "journal_id": FIRST, "state": "stored", "provider": "HiDream", "endpoint": "outpaint", "name": None,
        "profile": "default",
        "task_id": "task-1", "request_id": "request-1", "take": 0, "pictures": 1, "summary": "风景 half \ud83d",
        "label": "茶壶-17", "created_at": 1000.5, "changed_at": 1001.5, "error": None, "stored": 1,
        "sandbox": False, "waiting": False, "can": [],
    }  # fmt: skip
    assert second["can"] == ["submit-again"]
    beside = {name: value for name, value in reply.json.items() if name != "tasks"}
    budget = {"profile": "default", "pictures_today": 3, "per_day": None, "per_run": 100}
    assert beside == {"now": 2000.5, "budgets": [budget], "spent": [asdict(FakeSpent())], "unacknowledged": False}
    assert second["error"].keys() == {"en", "zh"}
    assert second["error"]["en"].startswith("It failed. [task_id=task-2] Billed: unknown.")
    assert second["error"]["zh"].startswith("失败了。")
    served.get(f"{BASE}/tasks")
    assert desk.asked == [("overview", 7), ("overview", 200)]


@pytest.mark.parametrize("limit", ["", "0", "-1", "1001", "99999999999", "1e3", "1.5", "x", "%D9%A3", "1%00", "+1"])
def test_a_limit_that_is_none(served: Served, desk: FakeDesk, limit: str) -> None:
    assert_refused(served.get(f"{BASE}/tasks?limit={limit}"), 400)
    assert desk.asked == []


def test_one_task(served: Served) -> None:
    reply = served.get(f"{BASE}/tasks/{FIRST}")
    assert (reply.status, reply.json["task"]["journal_id"]) == (200, FIRST)
    assert_headers(reply)


def test_a_picture(served: Served) -> None:
    reply = served.get(f"{BASE}/tasks/{FIRST}/pictures/0")
    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, PNG, "image/png")
    assert_headers(reply)


def test_a_thumbnail(served: Served) -> None:
    reply = served.get(f"{BASE}/tasks/{FIRST}/thumbnails/0")
    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, JPEG, "image/jpeg")
    assert_headers(reply)


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "text/javascript", "", "image/png\r\nX: y"])
def test_a_picture_never_runs_in_the_browser(served: Served, desk: FakeDesk, media_type: str) -> None:
    """It came from outside; opened in a tab, it would have the origin of ComfyUI."""
    desk.media_type = media_type
    reply = served.get(f"{BASE}/tasks/{FIRST}/pictures/0")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/octet-stream")
    assert reply.headers["Content-Disposition"] == "attachment"
    assert "X" not in reply.headers


@pytest.mark.parametrize(
    "path",
    ["rv-00000000000000cc", "rv-00000000000000cc/pictures/0", f"{FIRST}/pictures/1", f"{FIRST}/pictures/-1",
     f"{FIRST}/pictures/x.png", f"{FIRST}/pictures/99999", f"{FIRST}/thumbnails/1", f"{FIRST}/thumbnails/-1",
     f"{FIRST}/thumbnails/x.png", f"{FIRST}/thumbnails/99999", "..%2f..%2fetc", "%2e%2e", "a.png", "%00", "a%0d%0ab",
     "x" * 65, "%F0%9F%98%80", "rv-%EF%BC%91"],
)
def test_what_is_not_there(served: Served, path: str) -> None:
    assert_refused(served.get(f"{BASE}/tasks/{path}"), 404)


def test_names_that_are_none_never_reach_the_desk(served: Served, desk: FakeDesk) -> None:
    for path in ("..%2f..%2fetc", "%00", "x" * 65, f"{FIRST}/pictures/-1", f"{FIRST}/pictures/99999",
                 f"{FIRST}/thumbnails/-1", f"{FIRST}/thumbnails/99999"):  # fmt: skip
        served.get(f"{BASE}/tasks/{path}")
    assert desk.asked == []


OF_A_TASK = {
    "submit-again": "ambiguous or failed",
    "collect": "accepted task that nobody works on",
    "stop-waiting": "Nobody on this server waits",
}


@pytest.mark.parametrize("change", OF_A_TASK)
def test_a_change_of_a_task(served: Served, desk: FakeDesk, change: str) -> None:
    reply = served.post(f"{BASE}/tasks/{SECOND}/{change}")
    assert (reply.status, reply.json) == (200, {"ok": True})
    assert_headers(reply)
    assert desk.asked == [(change.replace("-", "_"), SECOND)]


@pytest.mark.parametrize(("change", "why"), OF_A_TASK.items())
def test_a_change_of_a_task_that_is_none_of_its_state(served: Served, change: str, why: str) -> None:
    reply = served.post(f"{BASE}/tasks/{FIRST}/{change}")
    assert_refused(reply, 409)
    assert why in reply.json["error"]["en"]


@pytest.mark.parametrize("change", OF_A_TASK)
def test_a_change_of_no_task(served: Served, change: str) -> None:
    assert_refused(served.post(f"{BASE}/tasks/rv-00000000000000cc/{change}"), 404)
    assert_refused(served.post(f"{BASE}/tasks/..%2fx/{change}"), 404)


def test_acknowledge(served: Served, desk: FakeDesk) -> None:
    reply = served.post(f"{BASE}/journal/acknowledge", body=b' {"seen": [true, 1.5]} ')
    assert (reply.status, reply.json) == (200, {"ok": True})
    assert desk.asked == [("acknowledge",)]


# ---- when an action fails


ROUTES = [
    ("GET", "/session"), ("GET", "/tasks"), ("GET", f"/tasks/{FIRST}"), ("GET", f"/tasks/{FIRST}/pictures/0"),
    ("GET", f"/tasks/{FIRST}/thumbnails/0"),
    ("POST", f"/tasks/{SECOND}/submit-again"), ("POST", f"/tasks/{SECOND}/collect"),
    ("POST", f"/tasks/{SECOND}/stop-waiting"), ("POST", "/journal/acknowledge"),
    ("GET", "/runs"), ("GET", f"/report?run={FakeRun.run}"), ("POST", f"/runs/{FakeRun.run}/forget"),
]  # fmt: skip
OF_THE_DESK = ROUTES[1:]


def as_the_page(served: Served, method: str, path: str, *headers: tuple[str, str], **changes: Any) -> Reply:
    ask = served.get if method == "GET" else served.post
    return ask(BASE + path, *headers, **changes)


@pytest.mark.parametrize(("method", "path"), OF_THE_DESK)
def test_an_error_of_the_pack(served: Served, desk: FakeDesk, method: str, path: str) -> None:
    desk.trouble = ConfigurationError(Text("The journal is damaged.", "日志已损坏。"))
    reply = as_the_page(served, method, path)
    assert_refused(reply, 409)
    assert reply.json["error"]["en"].startswith("The journal is damaged. Billed: no.")
    assert reply.json["error"]["zh"].startswith("日志已损坏。")


@pytest.mark.parametrize(("method", "path"), OF_THE_DESK)
def test_any_other_error(
    served: Served, desk: FakeDesk, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it, the answer has no details; and what the pack knows as secret is in neither."""
    from hidream_volcengine.api.core.redaction import Secret

    Secret("sk-canary-123456")
    desk.trouble = RuntimeError("database at /home/someone with sk-canary-123456")
    with caplog.at_level(logging.ERROR, logger="hidream_volcengine"):
        reply = as_the_page(served, method, path)
    assert_refused(reply, 500)
    assert b"someone" not in reply.body and b"RuntimeError" not in reply.body
    assert "/home/someone with ***" in caplog.text
    assert "canary" not in caplog.text


def test_a_blocking_desk_blocks_nothing_else(served: Served, desk: FakeDesk) -> None:
    desk.free.clear()
    replies: list[Reply] = []
    waiting = threading.Thread(target=lambda: replies.append(served.get(f"{BASE}/tasks")), daemon=True)
    waiting.start()
    until(lambda: desk.asked)
    assert served.get(f"{BASE}/session").status == 200
    assert not replies
    desk.free.set()
    waiting.join(DEADLINE)
    assert [reply.status for reply in replies] == [200]
    assert all(name.startswith("hidream-volcengine") for name in desk.threads)


def test_another_way_off_the_loop(desk: FakeDesk) -> None:
    used: list[str] = []

    async def inline(function: Callable[..., Any], *args: Any) -> Any:
        used.append(function.__name__)
        return function(*args)

    routes = web.RouteTableDef()
    register(routes, desk, TOKEN, off_loop=inline)
    with serving(routes) as running:
        for method, path in OF_THE_DESK:
            assert as_the_page(running, method, path).status == 200
    assert len(used) == len(OF_THE_DESK)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---- attacks


def test_every_registered_route_is_in_these_tables(desk: FakeDesk) -> None:
    registered = [(route.method, route.path) for route in routes_of(desk) if isinstance(route, web.RouteDef)]
    assert len(registered) == len(ROUTES)
    assert all(path.startswith(f"{BASE}/") for _, path in registered)
    assert {method for method, _ in registered} == {"GET", "POST"}


# name → (headers, the Host instead of the real one)
FORGED: dict[str, tuple[list[tuple[str, str]], Any]] = {
    "DNS rebinding": ([("Origin", "http://evil.example")], "evil.example"),
    "DNS rebinding with the port": ([("Origin", "http://evil.example:{port}")], "evil.example:{port}"),
    "DNS rebinding without an Origin": ([("Sec-Fetch-Site", "same-origin")], "evil.example:{port}"),
    "a name that begins like loopback": ([], "127.0.0.1.evil.example:{port}"),
    "all interfaces": ([], "0.0.0.0:{port}"),
    "an empty Host": ([], ""),
    "a foreign page": ([("Origin", "https://evil.example")], UNSET),
    "another port of this machine": ([("Origin", "http://127.0.0.1:1")], UNSET),
    "the same machine by another name": ([("Origin", "http://localhost:{port}")], UNSET),
    "a sandboxed page": ([("Origin", "null")], UNSET),
    "a page of another site without Origin": ([("Sec-Fetch-Site", "cross-site")], UNSET),
    "a page of another port without Origin": ([("Sec-Fetch-Site", "same-site")], UNSET),
    "Forwarded": ([("Forwarded", "for=127.0.0.1;host=127.0.0.1")], UNSET),
    "X-Forwarded-For": ([("X-Forwarded-For", "127.0.0.1")], UNSET),
    "X-Forwarded-Host": ([("X-Forwarded-Host", "127.0.0.1")], UNSET),
    "X-Forwarded-Proto": ([("X-Forwarded-Proto", "http")], UNSET),
    "X-Real-IP": ([("x-real-ip", "::1")], UNSET),
    "Via": ([("Via", "1.1 proxy")], UNSET),
    "Cloudflare": ([("CF-Connecting-IP", "127.0.0.1")], UNSET),
    "True-Client-IP": ([("True-Client-IP", "127.0.0.1")], UNSET),
    "a proxy with a Host of its own": ([("Referer", "https://comfy.example/")], UNSET),
    "a proxy set up for WebSockets": ([("Connection", "upgrade")], UNSET),
}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("attack", FORGED)
def test_a_forged_request(served: Served, desk: FakeDesk, method: str, path: str, attack: str) -> None:
    """With the right token each: the guard does not lean on it."""
    headers, host = FORGED[attack]
    headers = [(name, value.format(port=served.port)) for name, value in headers]
    host = host.format(port=served.port) if isinstance(host, str) else host
    origin = {"origin": None} if method == "POST" else {}
    reply = as_the_page(served, method, path, *headers, host=host, **origin)
    assert_refused(reply, 403)
    assert TOKEN.encode() not in reply.body
    assert desk.asked == []


@pytest.mark.parametrize("attack", [name for name in FORGED if FORGED[name][0] and FORGED[name][1] is UNSET])
def test_the_good_half_of_a_header_given_twice_helps_nobody(served: Served, attack: str) -> None:
    for name, value in FORGED[attack][0]:
        good = {"Origin": f"http://{served.host}", "Sec-Fetch-Site": "same-origin"}.get(name, "")
        for pair in ([(name, value), (name, good)], [(name, good), (name, value)]):
            assert_refused(served.get(f"{BASE}/session", *pair), 403)


def test_head_is_guarded_too(served: Served) -> None:
    assert served.ask("HEAD", f"{BASE}/session").status == 200
    assert served.ask("HEAD", f"{BASE}/session", host="evil.example").status == 403


def test_a_target_with_a_host_of_its_own(served: Served) -> None:
    """A server must take the absolute form; then it, and not Host, would name the site."""
    for target in (f"http://evil.example{BASE}/session", f"http://{served.host}{BASE}/session"):
        reply = served.raw(f"GET {target} HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
        assert reply.startswith(b"HTTP/1.1 403 "), reply


def test_no_host_or_two(served: Served, desk: FakeDesk) -> None:
    """Newer aiohttp refuses (400) before the guard; HTTP/1.0 and older aiohttp leave it to the guard (403)."""
    assert status_of(served.raw(f"GET {BASE}/tasks HTTP/1.0\r\n\r\n".encode())) == 403
    assert served.get(f"{BASE}/tasks", host=None).status in (400, 403)
    assert served.get(f"{BASE}/tasks", ("Host", "evil.example")).status in (400, 403)
    assert served.get(f"{BASE}/tasks", ("Host", served.host), host="evil.example").status in (400, 403)
    assert desk.asked == []


def test_a_proxy_that_says_nothing(served: Served, opened: Served, desk: FakeDesk) -> None:
    """nginx before 1.29.7 as it is without settings; over a real socket, for every route."""
    for method, path in ROUTES:
        head = f"{method} {BASE}{path} HTTP/1.0\r\nHost: {{}}\r\nConnection: close\r\n"
        body = f"X-Remote-Image-Token: {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        end = body if method == "POST" else "\r\n"
        refused = served.raw((head.format(served.host) + end).encode())
        assert status_of(refused) == 403 and b"HTTP/1.0" in refused.partition(b"\r\n\r\n")[2], path
        assert desk.asked == []
    assert status_of(opened.raw(f"GET {BASE}/tasks HTTP/1.0\r\nHost: {opened.host}\r\n\r\n".encode())) == 200


@pytest.mark.parametrize(("bind", "address"), [("127.0.0.1", ""), ("::1", ""), ("::ffff:127.0.0.1", "127.0.0.1")])
def test_every_loopback(desk: FakeDesk, bind: str, address: str) -> None:
    with serving(routes_of(desk), bind=bind, address=address) as running:
        assert running.get(f"{BASE}/session").status == 200
        assert running.get(f"{BASE}/session", host=f"localhost:{running.port}").status == 200
        assert running.post(f"{BASE}/journal/acknowledge").status == 200
        assert_refused(running.get(f"{BASE}/session", host="evil.example"), 403)
        assert_refused(running.get(f"{BASE}/session", ("Origin", "http://evil.example")), 403)


def test_a_script_without_origin_or_fetch_metadata(served: Served) -> None:
    assert served.post(f"{BASE}/journal/acknowledge", origin=None).status == 200


# ---- state changes: token, JSON, body

CHANGES = [path for method, path in ROUTES if method == "POST"]


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "t\u00f6ken"])
def test_another_token(served: Served, desk: FakeDesk, path: str, token: str | None) -> None:
    assert_refused(served.post(BASE + path, token=token), 403)
    assert_refused(served.post(f"{BASE}{path}?X-Remote-Image-Token={TOKEN}", token=token), 403)
    assert_refused(served.post(BASE + path, ("Cookie", f"X-Remote-Image-Token={TOKEN}"), token=token), 403)
    assert desk.asked == []


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_method(served: Served, desk: FakeDesk, path: str, method: str) -> None:
    token, override = ("X-Remote-Image-Token", TOKEN), ("X-HTTP-Method-Override", "POST")
    reply = served.ask(method, f"{BASE}{path}?_method=POST", token, override, ("Content-Type", "application/json"))
    assert reply.status == 405
    assert desk.asked == []


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/plain; application/json", "text/plain;charset=application/json",
     "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json", "application/jsonp",
     "application/json-patch+json", "application/json, text/plain", "text/plain, application/json", "json", "*/*"],
)  # fmt: skip
def test_another_content_type(served: Served, desk: FakeDesk, path: str, content_type: str | None) -> None:
    """What a form or a page can send across origins without asking first."""
    assert_refused(served.post(BASE + path, content_type=content_type), 415)
    assert desk.asked == []


def test_two_content_types(served: Served, desk: FakeDesk) -> None:
    # Newer aiohttp refuses it before the guard.
    assert served.post(f"{BASE}/journal/acknowledge", ("Content-Type", "text/plain")).status in (400, 415)
    assert desk.asked == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
def test_json_by_other_spellings(served: Served, content_type: str) -> None:
    assert served.post(f"{BASE}/journal/acknowledge", content_type=content_type).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body(served: Served, desk: FakeDesk, encoding: str) -> None:
    body = gzip.compress(b" " * 2**20 + b"{}") if encoding == "gzip" else b"{}"
    reply = served.post(f"{BASE}/journal/acknowledge", ("Content-Encoding", encoding), body=body)
    # aiohttp's own parser refuses some of them first.
    assert reply.status in (400, 415)
    assert desk.asked == []


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"{}{}", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
     b'{"a": NaN}', b'{"a": Infinity}', b"[" * 4000, b'{"a":' * 800, b"a=b"],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_a_body_that_is_no_json_object(served: Served, desk: FakeDesk, body: bytes) -> None:
    assert_refused(served.post(f"{BASE}/journal/acknowledge", body=body), 400)
    assert desk.asked == []


def padded(size: int) -> bytes:
    return b"{" + b" " * (size - 2) + b"}"


@pytest.mark.parametrize("path", CHANGES)
def test_a_body_over_the_limit(served: Served, desk: FakeDesk, path: str) -> None:
    assert served.post(BASE + path, body=padded(BODY_LIMIT)).status == 200
    asked = list(desk.asked)
    for size in (BODY_LIMIT + 1, 2**20, 10 * 2**20):
        assert_refused(served.post(BASE + path, body=padded(size)), 413)
    assert desk.asked == asked


def request_lines(served: Served, *headers: str) -> bytes:
    fixed = [f"POST {BASE}/journal/acknowledge HTTP/1.1", f"Host: {served.host}", f"Origin: http://{served.host}",
             "Content-Type: application/json", f"X-Remote-Image-Token: {TOKEN}"]  # fmt: skip
    return "\r\n".join([*fixed, *headers, "", ""]).encode()


def status_of(received: bytes) -> int:
    assert received.startswith(b"HTTP/1."), received
    return int(received.split(b" ")[1])


def test_a_body_without_a_length(served: Served, desk: FakeDesk) -> None:
    """Chunked: one chunk too many, long before the end that never comes."""
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    head = request_lines(served, "Transfer-Encoding: chunked")
    assert status_of(served.raw(head + chunk * (BODY_LIMIT // 0x400 + 1))) == 413
    assert desk.asked == []
    assert status_of(served.raw(head + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")) == 200


def test_a_length_that_is_announced_only(served: Served, desk: FakeDesk) -> None:
    """Refused before a byte of the body, also for who waits for a `100 Continue`."""
    assert status_of(served.raw(request_lines(served, "Content-Length: 999999999"))) == 413
    assert desk.asked == []


def test_more_than_was_announced(served: Served, desk: FakeDesk) -> None:
    """The rest is no part of this body: aiohttp takes it for a next, broken, request."""
    received = served.raw(request_lines(served, "Content-Length: 2") + b"{}" + b"x" * 9000)
    assert status_of(received) in (200, 400)
    assert len(desk.asked) <= 1


def test_a_body_that_never_comes() -> None:
    """Fewer bytes than announced, and the connection stays open: given up after a while."""
    reached: list[str] = []
    routes = web.RouteTableDef()

    @routes.post(f"{BASE}/journal/acknowledge")
    @Guard(TOKEN, body_seconds=0.2)
    async def change(_: web.Request) -> web.Response:
        reached.append("handler")
        return answer({})

    with serving(routes) as running:
        for sent in (b"", b"{"):
            assert status_of(running.raw(request_lines(running, "Content-Length: 2") + sent)) == 400
        running.raw(request_lines(running, "Content-Length: 2") + b"{", half_close=True)
        running.raw(request_lines(running, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n")
        assert status_of(running.raw(request_lines(running, "Content-Length: 2") + b"{}")) == 200
    assert reached == ["handler"]


def test_a_refused_body_ends_the_connection(served: Served) -> None:
    """What follows on it is not read as another request of the same, trusted, client."""
    for reply in (
        served.post(f"{BASE}/journal/acknowledge", body=padded(2**20)),
        served.post(f"{BASE}/journal/acknowledge", body=padded(2**20), token="wrong"),
    ):
        assert reply.headers["Connection"] == "close"


# ---- opened by the server's owner


def test_an_opened_server_answers_a_proxy(opened: Served) -> None:
    name = "comfy.example"
    proxied = [("X-Forwarded-For", "10.0.0.7"), ("X-Forwarded-Proto", "https"), ("Via", "1.1 nginx")]
    assert opened.get(f"{BASE}/tasks", *proxied, host=name).status == 200
    change = f"{BASE}/journal/acknowledge"
    assert opened.post(change, *proxied, host=name, origin=f"https://{name}").status == 200
    assert opened.post(change, *proxied, host=f"{name}:8443", origin=f"https://{name}:8443").status == 200


def test_an_opened_server_still_wants_origin_token_and_json(opened: Served, desk: FakeDesk) -> None:
    change = f"{BASE}/journal/acknowledge"
    for host, origin in (("comfy.example", "https://evil.example"), ("comfy.example", "null"), ("", UNSET)):
        assert_refused(opened.post(change, host=host, origin=origin), 403)
    assert_refused(opened.get(f"{BASE}/tasks", ("Origin", "https://evil.example"), host="comfy.example"), 403)
    assert_refused(opened.get(f"{BASE}/tasks", ("Sec-Fetch-Site", "cross-site"), host="comfy.example"), 403)
    assert_refused(opened.post(change, token=None), 403)
    assert_refused(opened.post(change, content_type="text/plain"), 415)
    assert_refused(opened.post(change, body=padded(BODY_LIMIT + 1)), 413)
    assert desk.asked == []


@pytest.mark.parametrize("value", ["", "0", "no", "false", "2", "true"])
def test_only_1_opens(desk: FakeDesk, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("REMOTE_IMAGE_OPEN_ROUTES", value)
    with serving(routes_of(desk)) as running:
        assert_refused(running.get(f"{BASE}/session", host="comfy.example"), 403)


def test_opening_is_said_in_the_log(
    desk: FakeDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hidream_volcengine"):
        routes_of(desk)
        assert not caplog.records
        monkeypatch.setenv("REMOTE_IMAGE_OPEN_ROUTES", "1")
        routes_of(desk)
    assert "REMOTE_IMAGE_OPEN_ROUTES" in caplog.text
    assert TOKEN not in caplog.text


# ---- around them


@web.middleware
async def like_comfyui(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What ComfyUI writes on every answer with `--enable-cors-header`, its block of outside calls and compression."""
    response = await handler(request)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Content-Security-Policy"] = "default-src 'self' 'unsafe-eval'"
    response.headers["Cache-Control"] = "public, max-age=86400"
    response.headers.add("X-Content-Type-Options", "other")
    if isinstance(response, web.Response) and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression()
    return response


def test_no_middleware_opens_an_answer(desk: FakeDesk) -> None:
    with serving(routes_of(desk), middlewares=[like_comfyui]) as running:
        for method, path in ROUTES:
            reply = as_the_page(running, method, path)
            assert reply.status == 200
            assert_headers(reply)
        assert_refused(running.get(f"{BASE}/session", ("Origin", "http://evil.example")), 403)
        assert_refused(running.get(f"{BASE}/tasks/a.png"), 404)
        packed = running.get(f"{BASE}/tasks", ("Accept-Encoding", "gzip"))
        assert_headers(packed)
        assert len(json.loads(gzip.decompress(packed.body))["tasks"]) == 2


def test_registering_asks_and_starts_nothing(desk: FakeDesk) -> None:
    before = threading.active_count()
    routes_of(desk)
    assert desk.asked == []
    assert threading.active_count() == before


def test_the_guard_compares_in_constant_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = guard_module.hmac.compare_digest

    def watched(given: bytes, known: bytes) -> bool:
        compared.append(given)
        return real(given, known)

    monkeypatch.setattr(guard_module.hmac, "compare_digest", watched)
    assert_refused(served.post(f"{BASE}/journal/acknowledge", token="wrong"), 403)
    assert compared == [b"wrong"]
