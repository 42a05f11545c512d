"""Tells that something changed: soon, not too often, and the last change always."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...api import pack_logger

_PAUSE = 1.0


class ChangeNotifier:
    """No thread before the first change; whoever announces one is neither held up nor ended by it.

    Args:
        tell: called in a thread of its own, at most once in ``pause`` seconds; what it raises is swallowed.
    """

    def __init__(self, tell: Callable[[], None], pause: float = _PAUSE) -> None:
        self._tell = tell
        self._pause = pause
        self._changed = threading.Event()
        self._starting = threading.Lock()
        self._started = False

    def announce(self) -> None:
        self._changed.set()
        if self._started:
            return
        with self._starting:
            if not self._started:
                self._started = self._start()

    def _start(self) -> bool:
        try:
            threading.Thread(target=self._work, name="hidream-volcengine-announcer", daemon=True).start()
        except RuntimeError as problem:
            pack_logger().debug("no announcements for now: %s", problem)
            return False
        return True

    def _work(self) -> None:
        while self._changed.wait():
            # Before it is told: what changes meanwhile is told again.
            self._changed.clear()
            try:
                self._tell()
            except Exception as problem:
                pack_logger().debug("a change was not announced: %s", problem)
            time.sleep(self._pause)
