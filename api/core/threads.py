"""The pack's own bounded pools of daemon threads, what several threads share that is made late, and whether
another process is alive."""

from __future__ import annotations

import contextvars
import os
import socket
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
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


def made_once(make: Callable[[], _T]) -> Callable[[], _T]:
    """What ``make`` makes, at the first call and never again, whichever threads come first."""
    lock, made = threading.Lock(), cache(make)

    def shared() -> _T:
        with lock:
            return made()

    return shared


def on_codec_pool(function: Callable[..., _T], *args: Any, cancel: CancelToken | None = None) -> _T:
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


_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
_NAMESPACES = ("pid", "time")
# /proc/<pid>/stat, counted from the field behind the command name (proc(5) counts that one as 3).
_STATE, _THREADS, _STARTED = 0, 17, 19
_GONE = {"Z", "X", "x"}
_MAX_PID = 2**31 - 1
# Start times by the wall clock are the same for every reader, but for the rounding of their arithmetic.
_SAME_START_S = 2.0


@dataclass(frozen=True)
class Process:
    """A process, told apart from every other one, also of other machines, containers and times."""

    machine: str
    """The running system with its own process ids; after a restart it is another one."""
    pid: int
    started: str
    """When the process started, in the system's own measure."""


_this: Process | None = None


def this_process() -> Process:
    """The process that asks; after a fork that is another one."""
    global _this
    if _this is None or _this.pid != os.getpid():
        _this = _linux_process() if sys.platform == "linux" else _other_process()
    return _this


def is_dead(process: Process) -> bool:
    """Whether that process certainly runs no more. ``False`` may also mean that nobody here can know."""
    here = this_process()
    if process.machine != here.machine or process == here or not 0 < process.pid <= _MAX_PID:
        return False
    return _linux_is_dead(process) if sys.platform == "linux" else _other_is_dead(process)


def _linux_process() -> Process:
    pid = os.getpid()
    try:
        if os.readlink(_PROC / "self") != str(pid):
            raise OSError("/proc shows another container")
        # The time namespace, too: start times are told relative to it.
        namespaces = [os.readlink(_PROC / "self/ns" / name) for name in _NAMESPACES if _has_namespace(name)]
        machine = " ".join([_BOOT_ID.read_text(encoding="ascii").strip(), *namespaces])
        return Process(machine, pid, _stat(pid)[_STARTED])
    except (OSError, ValueError, IndexError):
        # A name that no other process has: none of them will ever be sure about this one.
        return Process(f"unknown {uuid.uuid4()}", pid, "")


def _has_namespace(name: str) -> bool:
    return name == "pid" or os.path.lexists(_PROC / "self/ns" / name)


def _linux_is_dead(process: Process) -> bool:
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's
    try:
        fields = _stat(process.pid)
        state, threads, started = fields[_STATE], int(fields[_THREADS]), fields[_STARTED]
    except (OSError, ValueError, IndexError):
        # It exists, but /proc may hide other users' processes (hidepid).
        return False
    if process.started and started != process.started:
        return True
    # A process whose first thread has ended looks like a zombie while others still work.
    return state in _GONE and threads <= 1


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` behind the command name, which may itself contain spaces and brackets."""
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _other_process() -> Process:
    try:
        import psutil

        # Rounded coarsely: some systems calculate it from the uptime, and it wavers.
        machine = f"{socket.gethostname()} {round(psutil.boot_time() / 60)}"
        return Process(machine, os.getpid(), f"{psutil.Process().create_time():.2f}")
    except Exception:
        return Process(f"unknown {uuid.uuid4()}", os.getpid(), "")


def _other_is_dead(process: Process) -> bool:
    try:
        import psutil
    except ImportError:
        return False
    try:
        found = psutil.Process(process.pid)
        if process.started and abs(found.create_time() - float(process.started)) > _SAME_START_S:
            return True
        return found.status() == psutil.STATUS_ZOMBIE
    except psutil.ZombieProcess:
        return True
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError, ValueError):
        return False
