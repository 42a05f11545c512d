"""How long the service takes for a task, and how many it works on at a time."""

import heapq
import random
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    begins: float
    """time.monotonic()"""
    seconds: float

    @property
    def ends(self) -> float:
        return self.begins + self.seconds


class Pace:
    """``latency`` seconds ± ``spread`` (0.15 = 15 %) for each task; at most ``at_once`` of them at a time, if given.

    The same order of tasks gives the same spans, so that a run can be repeated.
    """

    def __init__(self, latency: float, spread: float = 0.0, at_once: int | None = None) -> None:
        self._latency, self._spread, self._at_once = latency, spread, at_once
        self._chance = random.Random(0)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        # When each of the places is free again.
        self._busy_until: list[float] = []

    def take(self) -> Span:
        """The span of a task that comes now."""
        with self._lock:
            seconds = self._latency * self._chance.uniform(1 - self._spread, 1 + self._spread)
            begins = time.monotonic()
            if self._at_once is not None:
                if len(self._busy_until) >= self._at_once:
                    begins = max(begins, heapq.heappop(self._busy_until))
                heapq.heappush(self._busy_until, begins + seconds)
            return Span(begins, seconds)

    def clear(self) -> None:
        """All places are free."""
        with self._lock:
            self._busy_until.clear()
