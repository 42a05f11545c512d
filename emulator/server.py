"""The emulator: one aiohttp server on 127.0.0.1 for both services, in a daemon thread of its own."""

import asyncio
import json
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

from aiohttp import web

from .credentials import Credentials
from .faults import Action, Script
from .message import Answer, Call
from .pace import Pace
from .pictures.files import PREFIX, ResultFiles, damaged
from .pictures.odd_pictures import encoded, odd
from .recording import Recorded, Recording, without_images
from .services.hidream import HiDream
from .services.routes import Target, target_of
from .services.templates import is_picture, picture
from .services.volcengine import Volcengine

LOGGER = logging.getLogger("hidream_volcengine.emulator")
HOST = "127.0.0.1"
ADMIN = "/__emulator__/"
MAX_BODY = 256 * 1024 * 1024
WORKERS = 4

_EARLY_HINTS = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
# An answer that drips: its bytes, and the seconds between two of them. Together ten minutes.
_DRIPPED, _DROP = 12_000, 0.05
# With cut_end: how many bytes Content-Length promises beyond the end of the body.
_MISSING = 64


class Emulator:
    """Both services behind one URL, from `start` to `stop`, or within a `with` block.

    Args:
        port: 0 = any free one.
        latency: seconds that a task takes.
        faults: rules as in README.md.
        first_template_page: the number of the first page of templates, 0 or 1 (the vendor does not publish it).
        spread: how far the latency of a task varies: 0.15 = ± 15 %.
        at_once: how many tasks each service works on at a time; None = any number.
    """

    def __init__(self, port: int = 0, latency: float = 0.0, credentials: Credentials | None = None,
                 faults: Iterable[Mapping[str, Any]] = (), first_template_page: int = 1, spread: float = 0.0,
                 at_once: int | None = None) -> None:
        self._port = port
        self._first_template_page = first_template_page
        self._faults = Script(faults)
        self._recording = Recording()
        self._files = ResultFiles()
        # Pictures are drawn in these threads, so that the event loop stays free. They start with the first picture.
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="emulator-picture")
        credentials = credentials or Credentials()
        self._paces = [Pace(latency, spread, at_once) for _ in range(2)]
        self._hidream = HiDream(credentials, self._paces[0], self._files, self._executor)
        self._volcengine = Volcengine(credentials, self._paces[1], self._files, self._executor)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._released: asyncio.Future[None] | None = None
        self._ready = threading.Event()
        self._failure: OSError | None = None

    def start(self) -> "Emulator":
        """Return once the server listens.

        Raises:
            RuntimeError: it was started before; an Emulator can be started once.
            OSError: the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator was started already")
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Close the server and wait for its thread; pictures that are not begun are not made."""
        if self._loop is not None and self._stopped is not None and not self._loop.is_closed():
            # The loop may close between is_closed() and this call.
            try:
                self._loop.call_soon_threadsafe(self._stopped.set)
            except RuntimeError:
                LOGGER.debug("emulator: stopped already")
        if self._thread is not None:
            self._thread.join()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "Emulator":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    @property
    def requests(self) -> list[Recorded]:
        """All requests, in order of arrival. A snapshot."""
        return self._recording.snapshot()

    @property
    def billed(self) -> int:
        """Pictures accepted for payment so far."""
        return self._recording.billed

    @property
    def accepted(self) -> list[Recorded]:
        """The accepted submits, in order of acceptance, also where the answer was lost. A snapshot."""
        return self._recording.accepted()

    def add_fault(self, rule: Mapping[str, Any]) -> None:
        """Add a rule (README.md) behind those that are there. Raises: ValueError, if the rule could never act."""
        self._faults.add([rule])

    def expire_tokens(self) -> None:
        """Refuse all tokens that were issued for an API key; the fixed token of the credentials stays valid."""
        self._hidream.expire_tokens()

    def release(self) -> None:
        """End the `delay` or `hang` of each request that waits in one; later requests wait as the rules say."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if self._released is not None:
            self._released.set_result(None)
        self._released = asyncio.get_running_loop().create_future()

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until release()."""
        if seconds and self._released is not None:
            await asyncio.wait([self._released], timeout=seconds)

    def clear(self) -> None:
        """Forget requests, faults, tasks and result files. Tokens stay valid."""
        self._recording.clear()
        self._faults.clear()
        self._hidream.clear()
        self._volcengine.clear()
        self._files.clear()
        for pace in self._paces:
            pace.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._release()
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", ADMIN + "{action:.*}", self._administer)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # handle_signals: signals belong to the process (ComfyUI), not to this thread.
        runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._port).start()
            self._port = runner.addresses[0][1]
            LOGGER.debug("emulator: listening on %s", self.url)
            self._ready.set()
            await self._stopped.wait()
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        target = self._target(request)
        number = self._recording.open(target.endpoint, target.phase, request.method, request.path,
                                      request.query.items(), request.headers)
        if target.file is not None:
            self._recording.update(number, task_id=target.file.task_id)
        try:
            return await self._respond(request, target, number)
        except (ConnectionError, web.RequestPayloadError) as error:
            LOGGER.debug("emulator: connection lost: %r", error)
            self._recording.update(number, status=None, ended=time.monotonic())
            return web.Response()
        except Exception as error:
            # A body over MAX_BODY (413), or a bug of the emulator (500): aiohttp answers with this status.
            self._recording.update(number, status=getattr(error, "status", 500), ended=time.monotonic())
            raise

    def _target(self, request: web.Request) -> Target:
        if request.method == "GET" and request.path.startswith(PREFIX):
            file = self._files.get(request.path_qs)
            return Target(file.endpoint if file else "unknown", "image", file=file)
        if request.method == "GET" and is_picture(request.path):
            return Target("templates", "image")
        return target_of(request.method, request.path, request.query.get("Action", ""))

    async def _respond(self, request: web.Request, target: Target, number: int) -> web.StreamResponse:
        """Answer a request as its service does, with the fault that the script has for it."""
        action = self._faults.take(target.endpoint, target.phase)
        await self._pause(action.delay)
        if action.reset == "headers":
            return self._reset(request, number)
        call = Call(request.method, request.path, tuple(request.query.items()),
                    {name.lower(): value for name, value in request.headers.items()}, await request.read())
        await self._record_body(number, call, target)
        if action.reset == "before":
            return self._reset(request, number)
        instead = action.answer()
        if instead is None or action.accept:
            # Addresses of results use the Host that the client used: a Line or a proxy may stand in between.
            answer = await self._answer(target, call, action, number, f"http://{request.host}")
            # With "accept" the task was made and billed, and then something in front of the service failed.
            if instead is not None and self._recording.is_accepted(number):
                answer = instead
        else:
            answer = instead
        if action.odd_words:
            answer = answer.in_other_words()
        await self._pause(action.hang)
        if action.reset == "after":
            return self._reset(request, number)
        return await self._send(request, answer, action, number)

    async def _record_body(self, number: int, call: Call, target: Target) -> None:
        if not call.body:
            return

        def parse() -> Any:
            try:
                return without_images(json.loads(call.body))
            except ValueError:
                return None

        body = await asyncio.get_running_loop().run_in_executor(self._executor, parse)
        self._recording.update(number, body=body)
        if isinstance(body, dict) and isinstance(body.get("request_id"), str):
            self._recording.update(number, request_id=body["request_id"])
        if target.phase == "result" and isinstance(body, dict) and isinstance(body.get("task_id"), str):
            self._recording.update(number, task_id=body["task_id"])

    async def _answer(self, target: Target, call: Call, action: Action, number: int, base_url: str) -> Answer:
        accept = partial(self._recording.accept, number)
        if target.phase == "image":
            return await self._download(target, call, action)
        if target.endpoint == "token":
            return self._hidream.token(call)
        if target.endpoint == "templates":
            return self._hidream.templates(call, action, self._first_template_page, base_url)
        if target.operation:
            return await self._volcengine.answer(target.operation, call, action, accept, base_url)
        if target.hidream is None:
            return Answer.html(404)
        if target.phase == "submit":
            return await self._hidream.submit(target.hidream, call, action, accept, base_url)
        return self._hidream.result(target.hidream, call, action, base_url)

    async def _download(self, target: Target, call: Call, action: Action) -> Answer:
        if "authorization" in call.headers:
            # Real results lie on another host: a client that sends its key there gives it away.
            return Answer.json({"code": 400, "message": "a result file takes no Authorization"}, 400)
        if target.endpoint == "templates":
            data = await asyncio.get_running_loop().run_in_executor(self._executor, picture, call.path)
            return Answer(200, damaged(data) if action.corrupt else data, "image/jpeg")
        if target.file is None:
            return Answer.html(404)
        data = target.file.data
        data, media_type = damaged(data) if action.corrupt else data, "image/png"
        if action.odd_pictures is not None:
            data, media_type = odd(data, action.odd_pictures)
        if action.encoding is None:
            return Answer(200, data, media_type)
        return Answer(200, encoded(data, action.encoding), media_type, {"Content-Encoding": action.encoding})

    async def _send(self, request: web.Request, answer: Answer, action: Action, number: int) -> web.StreamResponse:
        if action.early_hints and request.transport is not None:
            request.transport.write(_EARLY_HINTS)
        if action.drip is not None and request.transport is not None:
            return await self._drip(request.transport, answer, action.drip, number)
        response = web.StreamResponse(
            status=answer.status, headers={"Content-Type": answer.content_type, **answer.headers})
        response.content_length = len(answer.body) + (_MISSING if action.cut_end else 0)
        # Before the first byte: a client that has the answer must find its record complete.
        self._recording.update(number, status=answer.status, ended=time.monotonic(), sent=len(answer.body))
        await response.prepare(request)
        if action.cut is None and not action.cut_end:
            await response.write(answer.body)
            await response.write_eof()
        else:
            share = 1.0 if action.cut is None else action.cut
            await response.write(answer.body[: int(len(answer.body) * share)])
            if request.transport is not None:
                request.transport.close()
        return response

    async def _drip(self, transport: asyncio.Transport, answer: Answer, what: str, number: int) -> web.StreamResponse:
        """Send the head at once, and then blanks, one byte at a time, until the client hangs up or all are sent.

        `what`: "header", the blanks belong to a header that never ends; "body", to the body.
        """
        self._recording.update(number, status=answer.status, ended=time.monotonic(), sent=0)
        head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: {answer.content_type}\r\n"
        transport.write(head.encode())
        if what == "body":
            transport.write(f"Content-Length: {_DRIPPED}\r\n\r\n".encode())
        else:
            transport.write(b"X-Drip: ")
        for _ in range(_DRIPPED):
            if transport.is_closing():
                break
            transport.write(b" ")
            await asyncio.sleep(_DROP)
        transport.abort()
        return web.Response()

    def _reset(self, request: web.Request, number: int) -> web.StreamResponse:
        """Drop the connection with RST: a close with SO_LINGER 0 sends it instead of FIN."""
        self._recording.update(number, ended=time.monotonic())
        if request.transport is not None:
            connection = request.transport.get_extra_info("socket")
            if connection is not None:
                linger = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.transport.abort()
        # aiohttp needs a response from the handler, although it can no longer send it.
        return web.Response()

    async def _administer(self, request: web.Request) -> web.Response:
        # The prompts are readable here, and faults can be set: refuse web pages in the user's browser. They send an
        # Origin, and after DNS rebinding a foreign Host.
        if "Origin" in request.headers or request.host not in (f"{HOST}:{self._port}", f"localhost:{self._port}"):
            raise web.HTTPForbidden()
        shown: dict[str, Callable[[], Any]] = {
            "health": lambda: {"status": "ok", "billed": self.billed},
            "requests": lambda: [asdict(record) for record in self.requests],
            "accepted": lambda: [asdict(record) for record in self.accepted],
        }
        done = {"clear": self.clear, "expire-tokens": self.expire_tokens}
        method, what = request.method, request.match_info["action"]
        if method == "GET" and what in shown:
            return web.json_response(shown[what]())
        if (method, what) == ("POST", "faults"):
            return await self._add_faults(request)
        if method == "POST" and what in done:
            done[what]()
            return web.json_response({"status": "ok"})
        raise web.HTTPNotFound()

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            rules = await request.json()
            if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
                raise ValueError("a JSON list of rules is needed")
            self._faults.add(rules)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"status": "ok"})
