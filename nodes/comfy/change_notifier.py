"""A thread that reports changes: many changes become at most one call per second, and the last one is never missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...api import THREAD_PREFIX, pack_logger

_PAUSE = 1.0


class ChangeNotifier:
    """Calls ``tell`` after changes. :meth:`announce` neither blocks nor raises.

    Args:
        tell: called in a thread of its own, which the first change starts. What it raises is only logged (debug).
        pause: seconds between two calls of it at least.
    """

    def __init__(self, tell: Callable[[], None], pause: float = _PAUSE) -> None:
        self._tell = tell
        self._pause = pause
        self._changed = threading.Event()
        self._starting = threading.Lock()
        self._started = False

    def announce(self) -> None:
        """Note a change, from any thread. If no thread can be started now, the next change tries again."""
        self._changed.set()
        if self._started:
            return
        with self._starting:
            if not self._started:
                self._started = self._start()

    def _start(self) -> bool:
        try:
            threading.Thread(target=self._work, name=f"{THREAD_PREFIX}-announcer", daemon=True).start()
        except RuntimeError as problem:
            pack_logger().debug("no announcements for now: %s", problem)
            return False
        return True

    def _work(self) -> None:
        while self._changed.wait():
            # Cleared before the call, so that a change during the call leads to another one.
            self._changed.clear()
            try:
                self._tell()
            except Exception as problem:
                pack_logger().debug("a change was not announced: %s", problem)
            time.sleep(self._pause)
