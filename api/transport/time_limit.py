"""A limit for the total time of a request, so that one whose answer comes byte by byte ends, too.

The socket's own timeout begins anew with each byte.
"""

from __future__ import annotations

import threading
import time

from ..core import THREAD_PREFIX
from .connection import LiveConnection

# Bytes per second. A transfer that is slower than this over its whole length is cut.
SLOWEST = 16 * 1024


class TimeLimit:
    """Cuts the connection of a request when its time has passed; a context manager around that request.

    ``passed`` says whether it was cut.

    Args:
        connection: of that request.
        seconds: from now until it is cut; :meth:`came` and :meth:`restart` change that.
    """

    def __init__(self, connection: LiveConnection, seconds: float) -> None:
        self.connection = connection
        self.end = time.monotonic() + seconds
        self.passed = False

    def restart(self, seconds: float) -> None:
        """Cut it ``seconds`` from now instead."""
        self.end = time.monotonic() + seconds
        _cutter.wake()

    def came(self, size: int) -> None:
        """Add the time that a transfer of ``size`` bytes may take; called when they have come."""
        self.end += size / SLOWEST

    def __enter__(self) -> TimeLimit:
        _cutter.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _cutter.discard(self)


class _Cutter:
    """A daemon thread, started by the first request, that cuts the connections of the limits whose time has passed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: set[TimeLimit] = set()
        self._thread: threading.Thread | None = None

    def add(self, limit: TimeLimit) -> None:
        with self._changed:
            self._limits.add(limit)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name=f"{THREAD_PREFIX}-limits", daemon=True)
                self._thread.start()
            self._changed.notify()

    def discard(self, limit: TimeLimit) -> None:
        with self._changed:
            self._limits.discard(limit)

    def wake(self) -> None:
        """Wake the thread, because the end of a limit has changed."""
        with self._changed:
            self._changed.notify()

    def _work(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for limit in [limit for limit in self._limits if limit.end <= now]:
                    self._limits.discard(limit)
                    limit.passed = True
                    limit.connection.cut()
                soonest = min((limit.end for limit in self._limits), default=None)
                self._changed.wait(None if soonest is None else max(0.0, soonest - now))


_cutter = _Cutter()
