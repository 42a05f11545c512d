"""Who works: one row for each open journal, kept alive by a heartbeat, and what is believed of the others' rows."""

from __future__ import annotations

import os
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from .tables import attempts, owners

HEARTBEAT = 2.0
LEASE = 15.0
# A lease that looks expired must also not have been renewed for this long before our eyes: the clock may have jumped.
_SEEN_STILL = 3.0
_FORGOTTEN_AFTER = 86400.0

# A process that replaced itself (os.exec) keeps its id and its start time, but none of these.
_open_in_this_process: set[str] = set()


class Leases:
    """The lease of every attempt is the heartbeat of its owner."""

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self._beats_seen: dict[str, tuple[int, float]] = {}
        _open_in_this_process.add(self.owner)

    def renew(self, connection: Connection, now: float) -> None:
        """A beat of our own; the first one makes the row."""
        renewed = connection.execute(
            update(owners).where(owners.c.id == self.owner).values(beat=owners.c.beat + 1, beat_at=now)
        )
        if renewed.rowcount == 0:
            process = this_process()
            connection.execute(
                insert(owners).values(
                    id=self.owner,
                    machine=process.machine,
                    pid=process.pid,
                    started=process.started,
                    beat=0,
                    beat_at=now,
                )
            )

    def is_living(self, owner: Row[Any], now: float) -> bool:
        """Whether an owner holds its leases: a clock that jumped ends none, a process that certainly ended has none."""
        if owner.id == self.owner:
            return True
        process = Process(owner.machine, owner.pid, owner.started)
        if is_dead(process) or (process == this_process() and owner.id not in _open_in_this_process):
            return False
        beat, seen_at = self._beats_seen.get(owner.id, (None, 0.0))
        moment = time.monotonic()
        if beat != owner.beat:
            self._beats_seen[owner.id] = (owner.beat, moment)
            seen_at = moment
        return abs(now - owner.beat_at) <= LEASE or moment - seen_at < _SEEN_STILL

    def living(self, connection: Connection, now: float) -> list[str]:
        """The ids of all owners that hold their leases."""
        return [row.id for row in connection.execute(select(owners)).all() if self.is_living(row, now)]

    def forget_old(self, connection: Connection, now: float) -> None:
        """Drop the rows of owners that ended long ago and own nothing."""
        used = select(attempts.c.owner).where(attempts.c.owner.is_not(None))
        connection.execute(delete(owners).where(owners.c.beat_at < now - _FORGOTTEN_AFTER, owners.c.id.not_in(used)))

    def end(self, connection: Connection) -> None:
        _open_in_this_process.discard(self.owner)
        connection.execute(delete(owners).where(owners.c.id == self.owner))


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
