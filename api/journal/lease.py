"""Who works: one row for each open journal, kept alive by a heartbeat, and what is believed of the others' rows."""

from __future__ import annotations

import time
import uuid
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from ..core import Process, is_dead, this_process
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






















