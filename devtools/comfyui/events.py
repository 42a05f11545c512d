"""Records the events that ComfyUI sends over the websocket, with the time at which each arrived."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

_PREVIEW_TYPES = {1, 2, 4}
_TEXT_TYPE = 3


@dataclass(frozen=True)
class Event:
    at: float
    """`time.monotonic()` when it arrived."""
    type: str
    """As ComfyUI names it (`executing`, `progress_state`, ...); `progress_text` and `preview` for binary ones."""
    data: dict[str, Any]

    @property
    def node(self) -> str | None:
        """The number of the node that it is about, if any."""
        return self.data.get("node")


class EventStream:
    """The events of one client id, numbered from 0; a thread of its own listens from `open` to `close`."""

    def __init__(self, url: str) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        """Called with each event as it arrives, in the stream's thread."""
        self._url = url
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._connected = False
        self._ended = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="comfyui-events", daemon=True)

    def open(self, timeout: float = 10) -> None:
        """Connect. Raises: ConnectionError, if that fails or takes longer than ``timeout`` seconds."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._ended, timeout)
        if not self._connected or self._ended:
            raise ConnectionError(f"no websocket at {self._url}")

    def close(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just closed by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(5)

    def count(self) -> int:
        """Return the number that the next event will have."""
        return len(self._events)

    def since(self, start: int) -> list[Event]:
        """Return the events from number ``start`` on."""
        return self._events[start:]

    def wait_for(self, matches: Callable[[Event], bool], timeout: float, start: int = 0) -> Event:
        """Return the first event from number `start` on that matches; wait for it if need be.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
            ConnectionError: the websocket was closed before one came.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                # Read before the events: if the connection has ended, `new` has its last ones.
                ended = self._ended
                self._changed.wait_for(partial(self._has_more, start), 1)
                new = self.since(start)
            found = next((event for event in new if matches(event)), None)
            if found:
                return found
            start += len(new)
            if ended:
                raise ConnectionError("ComfyUI closed the websocket")
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no such event from ComfyUI within {timeout} s")

    def _has_more(self, start: int) -> bool:
        return self._ended or self.count() > start

    def _run(self) -> None:
        self._task = self._loop.create_task(self._listen())
        try:
            self._loop.run_until_complete(self._task)
        except (asyncio.CancelledError, aiohttp.ClientError):
            pass
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._loop.close()

    async def _listen(self) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url, max_msg_size=0) as socket:
            with self._changed:
                self._connected = True
                self._changed.notify_all()
            async for message in socket:
                event = _event(message.type, message.data)
                if event:
                    with self._changed:
                        self._events.append(event)
                        self._changed.notify_all()
                    for listener in self.listeners:
                        listener(event)


def _event(frame: aiohttp.WSMsgType, content: Any) -> Event | None:
    """Return the event of a websocket message; None for kinds that ComfyUI does not define as events."""
    at = time.monotonic()
    if frame is aiohttp.WSMsgType.TEXT:
        decoded = json.loads(content)
        return Event(at, decoded["type"], decoded.get("data") or {})
    if frame is aiohttp.WSMsgType.BINARY:
        (kind,) = struct.unpack_from(">I", content)
        if kind == _TEXT_TYPE:
            (length,) = struct.unpack_from(">I", content, 4)
            node, text = content[8 : 8 + length], content[8 + length :]
            return Event(at, "progress_text", {"node": node.decode(), "text": text.decode()})
        if kind in _PREVIEW_TYPES:
            return Event(at, "preview", {"bytes": len(content)})
    return None
