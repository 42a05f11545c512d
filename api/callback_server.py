"""The listener that services call back at. Whoever does not know the secret path learns nothing from it.

aiohttp serves; what it leaves open is bounded here: connections, bytes, and the time that one may last. A stranger who
fills the connections loses the oldest of his own.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from .redaction import pack_logger

MAX_BODY = 64 * 1024
MAX_CONNECTIONS = 32
# The services do not wait longer either.
_DEADLINE = 5.0
# Closed with bytes unread, a connection would be reset, and the answer be lost on the way.
_LINGER = 1.0
_TELL_EVERY = 60.0


class CallbackServer:
    """An HTTP server of a thread of its own.

    Args:
        whose: the attempt that a path belongs to; ``None`` for every path that is not one of ours.
        take: is given that attempt and the body, and returns the status to answer with. It must not block.
    """

    def __init__(
        self, host: str, port: int, whose: Callable[[str], str | None], take: Callable[[str, bytes], int]
    ) -> None:
        self._host, self._port = host, port
        self._whose, self._take = whose, take
        self._ready = threading.Event()
        self._problem: OSError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._http: _BriefServer | None = None
        self._refused = 0
        self._told_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="hidream-volcengine-callback-server", daemon=True)

    def start(self) -> None:
        """Return once it listens.

        Raises:
            OSError: it cannot.
        """
        # With SO_REUSEADDR some systems would let us take over the loopback address of somebody who listens on all.
        if _answers(self._host, self._port):
            raise OSError(errno.EADDRINUSE, "the port is in use")
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            raise self._problem

    def stop(self) -> None:
        if self._loop is not None and self._stopped is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(2.0)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._http.connections) if self._http is not None else 0

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as problem:
            self._problem = problem
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._http = http = _BriefServer(self._answer)
        server = await self._loop.create_server(http, self._host, self._port)
        self._ready.set()
        try:
            await self._stopped.wait()
        finally:
            server.close()
            http.pre_shutdown()
            await http.shutdown(_LINGER)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        status = await self._status(request)
        if status != 200:
            self._note_refusal()
        response = web.Response(status=status, headers={"Server": ""})
        # One request per connection: nothing is taken that somebody may have put behind it.
        response.force_close()
        return response

    async def _status(self, request: web.BaseRequest) -> int:
        journal_id = self._whose(request.raw_path) if request.method == "POST" else None
        if journal_id is None:
            return 404
        if (request.content_length or 0) > MAX_BODY:
            return 413
        try:
            await request.content.readexactly(MAX_BODY + 1)
        except asyncio.IncompleteReadError as whole:
            return self._take(journal_id, whole.partial)
        return 413

    def _note_refusal(self) -> None:
        """One line a minute at most: a stranger shall not fill the log."""
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            pack_logger().debug("callbacks: %d requests were refused", self._refused)
            self._refused = 0


class _BriefServer(web.Server):
    """Few connections at a time, and none for long."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        # What strangers send is no news for the log.
        silent = logging.Logger(__name__, logging.CRITICAL + 1)
        super().__init__(handler, access_log=None, logger=silent, auto_decompress=False, lingering_time=_LINGER)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        for crowded_out in self.connections[:-MAX_CONNECTIONS]:
            if crowded_out.transport is not None:
                crowded_out.transport.abort()
        asyncio.get_running_loop().call_later(_DEADLINE, transport.abort)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1):
            return True
    except OSError:
        return False
