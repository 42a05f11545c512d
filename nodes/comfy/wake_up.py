"""A timer that wakes the coroutines that wait for worker threads; it knows no ComfyUI.

ComfyUI runs the items of a list side by side. If each of a thousand coroutines woke up twenty times a second to look
for an interrupt, ComfyUI's loop would have no time for anything else. So one timer looks for all of them.
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
class _LoopWaiters:
    """The waiters of one loop; ``armed``: the timer of that loop is set."""

    waiters: set[_Waiter] = field(default_factory=set)
    armed: bool = False


class WakeUpTimer:
    """Looks every ``pause`` seconds, on each loop with a waiting coroutine, which coroutines have to be woken.

    Woken are: all of them on an interrupt; those whose ``overdue`` is true; and one for each display, to draw it.

    Args:
        interrupted: whether the user has interrupted.
    """

    def __init__(self, pause: float, interrupted: Callable[[], bool]) -> None:
        self._pause = pause
        self._interrupted = interrupted
        # ComfyUI runs each prompt on a loop of its own; the entry ends with the loop.
        self._waiters_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopWaiters] = WeakKeyDictionary()

    @contextmanager
    def waiting(self, overdue: Callable[[], bool], display: object | None = None) -> Iterator[asyncio.Event]:
        """Register the running coroutine for the length of the block; yields the event that wakes it.

        The event does not say why: the coroutine checks its futures, the interrupt and its display.

        Args:
            overdue: whether the coroutine has to be woken although none of its futures has ended.
            display: what it draws; of all coroutines with the same display one is woken. ``None``: it draws nothing.
        """
        loop = asyncio.get_running_loop()
        on_loop = self._waiters_by_loop.setdefault(loop, _LoopWaiters())
        waiter = _Waiter(overdue, display)
        on_loop.waiters.add(waiter)
        if not on_loop.armed:
            on_loop.armed = True
            loop.call_later(self._pause, self._look, loop, on_loop)
        try:
            yield waiter.wake
        finally:
            on_loop.waiters.discard(waiter)

    def _look(self, loop: asyncio.AbstractEventLoop, on_loop: _LoopWaiters) -> None:
        on_loop.armed = bool(on_loop.waiters)
        if not on_loop.armed:
            return
        loop.call_later(self._pause, self._look, loop, on_loop)
        interrupted = self._interrupted()
        drawn: set[object] = {None}
        for waiter in on_loop.waiters:
            if interrupted or waiter.display not in drawn or waiter.overdue():
                waiter.wake.set()
            drawn.add(waiter.display)
