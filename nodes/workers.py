"""The pack's own bounded pool of daemon threads; it knows no ComfyUI."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
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

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Queue a job; it runs with a copy of the caller's context variables."""
        future: Future[_T] = Future()
        context = contextvars.copy_context()
        self._jobs.put((future, lambda: context.run(job)))
        if not self._idle.acquire(blocking=False):
            self._add_thread()
        return future

    def _add_thread(self) -> None:
        with self._lock:
            if self._threads == self._size:
                return
            self._threads += 1
            name = f"hidream-volcengine-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            future, job = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:  # it belongs to whoever waits for the future
                future.set_exception(error)
            # Nothing of a finished job is kept alive by a waiting thread.
            del future, job
            self._idle.release()
