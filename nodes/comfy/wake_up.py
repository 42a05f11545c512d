"""One look for all coroutines that wait for worker threads; it knows no ComfyUI.

ComfyUI runs the items of a list side by side. A thousand coroutines that each look up twenty times a second would keep
its loop, and this process, busy with nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary


@dataclass(eq=False)
class _Waiter:
    overdue: Callable[[], bool]
    display: object | None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Round:
    waiters: set[_Waiter] = field(default_factory=set)
    armed: bool = False


class WakeUpTimer:
    """Wakes whom it concerns, every ``pause`` seconds as long as somebody waits on a loop.

    That is whoever is overdue, one for each display, to draw it, and all of them on an interrupt.

    Args:
        interrupted: whether everybody is to leave.
    """

    def __init__(self, pause: float, interrupted: Callable[[], bool]) -> None:
        self._pause = pause
        self._interrupted = interrupted
        # Each prompt of ComfyUI has a loop of its own.
        self._rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, _Round] = WeakKeyDictionary()

    @contextmanager
    def waiting(self, overdue: Callable[[], bool], display: object | None = None) -> Iterator[asyncio.Event]:
        """The event by which a coroutine of the running loop is woken while the block runs; it finds out why itself."""
        loop = asyncio.get_running_loop()
        now = self._rounds.setdefault(loop, _Round())
        waiter = _Waiter(overdue, display)
        now.waiters.add(waiter)
        if not now.armed:
            now.armed = True
            loop.call_later(self._pause, self._look, loop, now)
        try:
            yield waiter.wake
        finally:
            now.waiters.discard(waiter)

    def _look(self, loop: asyncio.AbstractEventLoop, now: _Round) -> None:
        now.armed = bool(now.waiters)
        if not now.armed:
            return
        loop.call_later(self._pause, self._look, loop, now)
        leave = self._interrupted()
        drawn: set[object] = {None}
        for waiter in now.waiters:
            if leave or waiter.display not in drawn or waiter.overdue():
                waiter.wake.set()
            drawn.add(waiter.display)
