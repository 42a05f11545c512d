"""Cancellation of one call: set from ComfyUI's event loop, felt in the worker thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CallCancelled(Exception):
    """The user interrupted, or a sibling node failed. Never shown: ComfyUI reports the interrupt itself."""


class CancelToken:
    """A flag with waiting, and with callbacks that undo what a thread is blocked in."""

    def __init__(self) -> None:
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
