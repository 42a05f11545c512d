"""Leases: one row of the table ``owners`` for each open journal, renewed by a heartbeat, and whether an owner lives."""

from __future__ import annotations

import time
import uuid
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from ..core import Process, is_dead, this_process
from .tables import attempts, owners

# Seconds between two renewals of a lease, and seconds after which one that was not renewed is void.
HEARTBEAT = 2.0
LEASE = 15.0
# A lease whose time is over counts as void only after this process has seen it unchanged for so many seconds: the
# clock may have jumped.
_SEEN_STILL = 3.0
# Seconds after which the row of an ended owner that owns no attempt is deleted.
_FORGOTTEN_AFTER = 86400.0

# The owners of this process. After os.exec the process has the same id and start time, and this set is empty: so the
# owners from before are known to have ended.
_open_in_this_process: set[str] = set()


class Leases:
    """The lease of one open journal, under the id ``owner``, and what it has seen of other owners.

    An attempt has no lease of its own: it is held as long as its owner lives.
    """

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self._beats_seen: dict[str, tuple[int, float]] = {}
        _open_in_this_process.add(self.owner)

    def renew(self, connection: Connection, now: float) -> None:
        """Renew the own lease: raise its beat and set its time to ``now``; the first call inserts the row."""
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
        """Whether an owner's lease holds at ``now`` (database time).

        ``False`` if its process has certainly ended, on this machine. Else the lease is void only if its time is more
        than ``LEASE`` seconds off and its beat has not changed while this process watched for ``_SEEN_STILL`` seconds.
        """
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
        """The ids of all owners whose lease holds."""
        return [row.id for row in connection.execute(select(owners)).all() if self.is_living(row, now)]

    def forget_old(self, connection: Connection, now: float) -> None:
        """Delete the rows of owners that were not renewed for a day and own no attempt."""
        used = select(attempts.c.owner).where(attempts.c.owner.is_not(None))
        connection.execute(delete(owners).where(owners.c.beat_at < now - _FORGOTTEN_AFTER, owners.c.id.not_in(used)))

    def end(self, connection: Connection) -> None:
        """Delete the own lease's row."""
        _open_in_this_process.discard(self.owner)
        connection.execute(delete(owners).where(owners.c.id == self.owner))
