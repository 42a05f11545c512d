"""The cancel token of one call: ComfyUI's event loop sets it, and the call's worker thread stops because of it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import RemoteImageError


class CallCancelled(Exception):
    """The call's token is set: the user interrupted, a sibling node failed, or this call alone was stopped.

    Never shown. ComfyUI reports an interrupt itself, and a stopped call ends with :meth:`CancelToken.explanation`.
    """


class NotSubmitted(Exception):
    """A call is not submitted, for a reason outside of it.

    Args:
        error: says why; ``None``: another call of the node has failed.
    """

    def __init__(self, error: RemoteImageError | None = None) -> None:
        super().__init__()
        self.error = error


class CancelToken:
    """A flag that a thread can wait for, with callbacks that end whatever the thread is blocked in, e.g. a socket."""

    def __init__(self) -> None:
        self._explain: Callable[[], RemoteImageError] | None = None
        self._stopped_at = math.inf
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Set the flag, then run the callbacks that are registered now, in this thread; they must not block."""
        with self._lock:
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def stop(self, explain: Callable[[], RemoteImageError]) -> None:
        """Cancel this call alone; its node goes on with the others. ``explain`` makes the error that it ends with."""
        self._explain = explain
        self._stopped_at = time.monotonic()
        self.cancel()

    def left_behind(self, patience: float) -> bool:
        """Whether :meth:`stop` was called more than ``patience`` seconds ago: its thread is no longer waited for."""
        return time.monotonic() - self._stopped_at > patience

    def explanation(self) -> RemoteImageError:
        """The error of a call that was stopped, also while its thread still runs.

        Raises:
            CallCancelled: :meth:`stop` was not called.
        """
        if self._explain is None:
            raise CallCancelled
        return self._explain()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Return if the flag is not set, else raise CallCancelled."""
        if self._event.is_set():
            raise CallCancelled

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``; raises CallCancelled as soon as the flag is set."""
        if self._event.wait(max(0.0, seconds)):
            raise CallCancelled

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` when :meth:`cancel` is called while the block runs; at once if the flag is set already."""
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
