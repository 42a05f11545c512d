"""The pack's own bounded pool of daemon threads; it knows no ComfyUI."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class DaemonPool:
    """Runs jobs on at most ``size`` threads, made when they are needed.

    Not ``asyncio.to_thread`` or an executor: ComfyUI joins those threads at the end of each prompt, so that an
    interrupt would be felt only when the longest call has ended.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = 0
        self._abandoned: set[Future[Any]] = set()

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Queue a job; it runs with a copy of the caller's context variables."""
        future: Future[_T] = Future()
        context = contextvars.copy_context()
        self._jobs.put((future, lambda: context.run(job)))
        if not self._idle.acquire(blocking=False):
            self._add_thread()
        return future

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Nobody waits for these any more: queued ones are dropped, running ones end beside the pool's size.

        A submit that is under way must end by itself, which may take minutes; the next prompt must not wait for it.
        """
        with self._lock:
            self._abandoned.update(future for future in futures if not future.cancel() and not future.done())
        for _ in range(self._jobs.qsize()):
            self._add_thread()

    def _add_thread(self) -> None:
        with self._lock:
            if self._surplus() >= 0:
                return
            self._threads += 1
            name = f"hidream-volcengine-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _surplus(self) -> int:
        return self._threads - len(self._abandoned) - self._size

    def _work(self) -> None:
        while True:
            future, job = self._jobs.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:  # it belongs to whoever waits for the future
                    future.set_exception(error)
            with self._lock:
                self._abandoned.discard(future)
                if self._surplus() > 0:
                    self._threads -= 1
                    return
            # Nothing of a finished job is kept alive by a waiting thread.
            del future, job
            self._idle.release()
