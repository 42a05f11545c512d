"""When a service works on each task: for how long, and on how many at a time."""

import heapq
import random
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """When the service works on one task."""

    begins: float
    """In the seconds of time.monotonic()."""
    seconds: float

    @property
    def ends(self) -> float:
        return self.begins + self.seconds


class Pace:
    """Gives each task its span: ``latency`` seconds ± ``spread`` (0.15 = 15 %), at most ``at_once`` tasks at a time.

    The spans have a fixed seed: the same order of tasks gives the same durations, so that a run can be repeated.
    """

    def __init__(self, latency: float, spread: float = 0.0, at_once: int | None = None) -> None:
        self._latency, self._spread, self._at_once = latency, spread, at_once
        self._chance = random.Random(0)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        # A heap: when each of the ``at_once`` places is free again (time.monotonic()). A place never used is not in it.
        self._busy_until: list[float] = []

    def take(self) -> Span:
        """Return the span of a task that is submitted now; it begins later if all places are taken."""
        with self._lock:
            seconds = self._latency * self._chance.uniform(1 - self._spread, 1 + self._spread)
            begins = time.monotonic()
            if self._at_once is not None:
                if len(self._busy_until) >= self._at_once:
                    begins = max(begins, heapq.heappop(self._busy_until))
                heapq.heappush(self._busy_until, begins + seconds)
            return Span(begins, seconds)

    def clear(self) -> None:
        """Free all places."""
        with self._lock:
            self._busy_until.clear()
