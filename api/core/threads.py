"""Bounded pools of daemon threads, values that threads share and that are made at first use, and whether another
process is alive."""

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

from .redaction import THREAD_PREFIX

if TYPE_CHECKING:
    # ComfyUI's start does not load it.
    from .cancel import CancelToken

_T = TypeVar("_T")


class DaemonPool:
    """Runs jobs on at most ``size`` daemon threads, which are started when they are needed.

    Not ``asyncio.to_thread`` or an executor: ComfyUI joins those threads at the end of each prompt, so that an
    interrupted prompt would end only when its longest call has ended.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._waiting = 0
        self._abandoned: set[Future[Any]] = set()

    def start(self, job: Callable[[], _T]) -> Future[_T]:
        """Queue ``job`` and return the future of its result; it runs with a copy of the caller's context variables."""
        future: Future[_T] = Future()
        context = contextvars.copy_context()
        with self._changed:
            self._jobs.append((future, lambda: context.run(job)))
            self._serve_queue()
        return future

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Drop those of ``futures`` that are queued; let the running ones end, and count their threads no longer.

        A submit that is under way must end by itself, which may take minutes; the jobs of the next prompt must not wait
        for its thread.
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
            name = f"{THREAD_PREFIX}-{self._threads}"
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
                except BaseException as error:  # raised where the future's result is asked for
                    future.set_exception(error)
            with self._changed:
                self._abandoned.discard(future)
                if self._surplus() > 0:
                    self._threads -= 1
                    return
                self._waiting += 1
            # A waiting thread must not keep the arguments and the result of its last job in memory.
            del future, job


_large_work = DaemonPool(min(4, os.cpu_count() or 1))


def made_once(make: Callable[[], _T]) -> Callable[[], _T]:
    """A function that calls ``make`` once, at its first call in any thread, and always returns that result.

    If ``make`` raises, the next call tries again.
    """
    lock, made = threading.Lock(), cache(make)

    def shared() -> _T:
        with lock:
            return made()

    return shared


def on_codec_pool(function: Callable[..., _T], *args: Any, cancel: CancelToken | None = None) -> _T:
    """Run ``function(*args)`` on one of at most four threads, wait for it, and return its result.

    For work that needs much memory for a short time. So only a few pictures are encoded or decoded at a time, however
    many calls are under way. And the C library keeps for each thread the memory that this thread has freed, tens of MB
    with large pictures: the threads of 32 calls would hold it all.

    Args:
        cancel: the token of the call that this is for; without one it is run even if nobody waits for it any more.

    Raises:
        CallCancelled: the token was set before the work began, so that cancelled calls do not hold up the next run.
    """

    def work() -> _T:
        if cancel is not None:
            cancel.check()
        return function(*args)

    return _large_work.start(work).result()


_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
_NAMESPACES = ("pid", "time")
# /proc/<pid>/stat, counted from the field behind the command name (proc(5) counts that one as 3).
_STATE, _THREADS, _STARTED = 0, 17, 19
_GONE = {"Z", "X", "x"}
_MAX_PID = 2**31 - 1
# psutil's start times of one process differ by less than this: every reader rounds in its own way.
_SAME_START_S = 2.0


@dataclass(frozen=True)
class Process:
    """The identity of a process: no other one has it, also on other machines, in other containers or after a reboot."""

    machine: str
    """What its process id belongs to: a machine since its last boot, or a container (PID namespace) on it."""
    pid: int
    started: str
    """When it started: clock ticks since boot on Linux, elsewhere seconds since the epoch; empty if not known."""


_this: Process | None = None


def this_process() -> Process:
    """The identity of the process that calls this; also right after a fork."""
    global _this
    if _this is None or _this.pid != os.getpid():
        _this = _linux_process() if sys.platform == "linux" else _other_process()
    return _this


def is_dead(process: Process) -> bool:
    """``True`` if ``process`` has certainly ended; ``False`` if it runs, or if that cannot be known here.

    A wrong ``True`` lets two processes buy one request; a wrong ``False`` only waits until the lease is void.
    """
    here = this_process()
    if process.machine != here.machine or process == here or not 0 < process.pid <= _MAX_PID:
        return False
    return _linux_is_dead(process) if sys.platform == "linux" else _other_is_dead(process)


def _linux_process() -> Process:
    pid = os.getpid()
    try:
        if os.readlink(_PROC / "self") != str(pid):
            raise OSError("/proc shows another container")
        # The time namespace, too: start times are relative to it.
        namespaces = [os.readlink(_PROC / "self/ns" / name) for name in _NAMESPACES if _has_namespace(name)]
        machine = " ".join([_BOOT_ID.read_text(encoding="ascii").strip(), *namespaces])
        return Process(machine, pid, _stat(pid)[_STARTED])
    except (OSError, ValueError, IndexError):
        # A machine of its own, so that no other process ever takes this one for dead.
        return Process(f"unknown {uuid.uuid4()}", pid, "")


def _has_namespace(name: str) -> bool:
    return name == "pid" or os.path.lexists(_PROC / "self/ns" / name)


def _linux_is_dead(process: Process) -> bool:
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it exists, and another user owns it
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

        # Rounded to minutes: some systems calculate it from the uptime, so that it varies a little.
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
