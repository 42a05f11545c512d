"""Cancellation of one call: set from ComfyUI's event loop, felt in the worker thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import RemoteImageError


class CallCancelled(Exception):
    """The user interrupted, or a sibling node failed. Never shown: ComfyUI reports the interrupt itself."""


class NotSubmitted(Exception):
    """A sibling call failed before this one was submitted."""


class CancelToken:
    """A flag with waiting, and with callbacks that undo what a thread is blocked in."""

    def __init__(self) -> None:
        self._explain: Callable[[], RemoteImageError] | None = None
        self._stopped_at = math.inf
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Set the flag and run the callbacks of this moment, in the caller's thread; they must not block."""
        with self._lock:
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def stop(self, explain: Callable[[], RemoteImageError]) -> None:
        """Cancel this call alone: its node goes on, and ends with what ``explain`` makes."""
        self._explain = explain
        self._stopped_at = time.monotonic()
        self.cancel()

    def left_behind(self, patience: float) -> bool:
        """Whether it was stopped so long ago that nobody should wait for its thread any more."""
        return time.monotonic() - self._stopped_at > patience

    def explanation(self) -> RemoteImageError:
        """Of a call that was stopped."""
        if self._explain is None:
            raise CallCancelled
        return self._explain()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises CallCancelled if the flag is set."""
        if self._event.is_set():
            raise CallCancelled

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``; raises CallCancelled as soon as the flag is set."""
        if self._event.wait(max(0.0, seconds)):
            raise CallCancelled

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Run ``callback`` on :meth:`cancel` while the block runs; at once if the flag is set already."""
        with self._lock:
            self._callbacks.append(callback)
            already = self._event.is_set()
        try:
            if already:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
