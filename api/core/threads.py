"""The pack's own bounded pools of daemon threads, and what several threads share that is made late."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    # ComfyUI's start does not load it.
    from .cancel import CancelToken

_T = TypeVar("_T")


class DaemonPool:
    """Runs jobs on at most ``size`` threads, made when they are needed.

    Not ``asyncio.to_thread`` or an executor: ComfyUI joins those threads at the end of each prompt, so that an
    interrupt would be felt only when the longest call has ended.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._waiting = 0
        self._abandoned: set[Future[Any]] = set()

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Queue a job; it runs with a copy of the caller's context variables."""
        future: Future[_T] = Future()
        context = contextvars.copy_context()
        with self._changed:
            self._jobs.append((future, lambda: context.run(job)))
            self._serve_queue()
        return future

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Nobody waits for these any more: queued ones are dropped, running ones end beside the pool's size.

        A submit that is under way must end by itself, which may take minutes; the next prompt must not wait for it.
        """
        with self._changed:
            self._abandoned.update(future for future in futures if not future.cancel() and not future.done())
            self._serve_queue()

    def _serve_queue(self) -> None:
        """Wake the waiting threads, and add the missing ones. Called with the lock held."""
        self._changed.notify(len(self._jobs))
        missing = len(self._jobs) - self._waiting
        for _ in range(min(missing, -self._surplus())):
            self._threads += 1
            self._waiting += 1
            name = f"hidream-volcengine-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _surplus(self) -> int:
        return self._threads - len(self._abandoned) - self._size

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    self._changed.wait()
                self._waiting -= 1
                future, job = self._jobs.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:  # it belongs to whoever waits for the future
                    future.set_exception(error)
            with self._changed:
                self._abandoned.discard(future)
                if self._surplus() > 0:
                    self._threads -= 1
                    return
                self._waiting += 1
            # Nothing of a finished job is kept alive by a waiting thread.
            del future, job


_large_work = DaemonPool(min(4, os.cpu_count() or 1))


def once(make: Callable[[], _T]) -> Callable[[], _T]:
    """What ``make`` makes, at the first call and never again, whichever threads come first."""
    lock, made = threading.Lock(), cache(make)

    def shared() -> _T:
        with lock:
            return made()

    return shared


def apart(function: Callable[..., _T], *args: Any, cancel: CancelToken | None = None) -> _T:
    """Run what needs much memory for a moment on one of a few threads, and wait for it.

    So only a few pictures are encoded or decoded at a time, whatever number of calls is under way. And the C library
    keeps for each thread what that has freed, tens of MB with large pictures: 32 waiting calls would hold it all.

    Args:
        cancel: of the call that this is for; without one it is run even if nobody waits for it any more.

    Raises:
        CallCancelled: the call was stopped before this began. The work of stopped calls does not hold up the next run.
    """

    def work() -> _T:
        if cancel is not None:
            cancel.check()
        return function(*args)

    return _large_work.submit(work).result()
