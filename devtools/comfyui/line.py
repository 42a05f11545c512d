"""A forwarding proxy on loopback with the bandwidth and the round trip time of a user's line."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

_CHUNK = 16 * 1024
# Seconds by which asyncio may wake up late without the line counting as idle meanwhile.
_LATE = 0.01


class Line:
    """Forwards TCP connections to ``port`` on loopback. All share the bandwidth, which each direction has for itself.

    Args:
        mbits: Mbit/s; ``None`` = as fast as it goes.
        round_trip: seconds, half of it each way.
    """

    def __init__(self, port: int, *, mbits: float | None = None, round_trip: float = 0.0) -> None:
        self._target = port
        self._seconds_per_byte = 8 / (mbits * 1e6) if mbits else 0.0
        self._one_way = round_trip / 2
        # When the line is free again (time.monotonic()), by direction.
        self._free = {"up": 0.0, "down": 0.0}
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Line:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # TCP's handshake takes a round trip before any data can be sent.
        await asyncio.sleep(2 * self._one_way)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink, direction in ((reader, there_writer, "up"), (there_reader, writer, "down")):
            task = asyncio.create_task(self._forward(source, sink, direction))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str) -> None:
        # Bounded, so that a sender must wait for the line as for a real one.
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        arriving = asyncio.create_task(self._arrive(under_way, sink))
        try:
            with suppress(ConnectionError):
                while chunk := await source.read(_CHUNK):
                    leaves = self._begin(direction) + len(chunk) * self._seconds_per_byte
                    self._free[direction] = leaves
                    await _until(leaves)
                    await under_way.put((leaves + self._one_way, chunk))
            await under_way.put((time.monotonic() + self._one_way, b""))
            await arriving
        finally:
            arriving.cancel()
            sink.close()

    def _begin(self, direction: str) -> float:
        """Return when the line takes the next chunk: right after the last one, even if we woke up a little later."""
        free, now = self._free[direction], time.monotonic()
        return free if now - free < _LATE else now

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                when, chunk = await under_way.get()
                await _until(when)
                if not chunk:
                    return
                sink.write(chunk)
                await sink.drain()


async def _until(moment: float) -> None:
    pause = moment - time.monotonic()
    if pause > 0:
        await asyncio.sleep(pause)
