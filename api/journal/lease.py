"""Leases: one row of the table ``owners`` for each open journal, renewed by a heartbeat, and whether an owner lives."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from ..core import THREAD_PREFIX, Process, is_dead, made_once, pack_logger, this_process
from .claim import Claims
from .model import Event, Known, State
from .opening import JournalTransactions
from .rows import change_state
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

    Args:
        claimed: the journal ids of the attempts on which calls of this journal work.
    """

    def __init__(self, claimed: Callable[[], list[str]]) -> None:
        self._claimed = claimed
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

    def free_test(self, connection: Connection, now: float) -> Callable[[Known], bool]:
        """A function that returns whether no call works on an attempt; it reads the owners once, when first needed.

        No call works on an attempt that has no owner, whose owner is dead, or that this journal owns without a claim.
        """
        claimed = set(self._claimed())
        living = made_once(lambda: set(self.living(connection, now)))

        def is_free(attempt: Known) -> bool:
            if attempt.owner == self.owner:
                return attempt.journal_id not in claimed
            return attempt.owner is None or attempt.owner not in living()

        return is_free

    def forget_old(self, connection: Connection, now: float) -> None:
        """Delete the rows of owners that were not renewed for a day and own no attempt."""
        used = select(attempts.c.owner).where(attempts.c.owner.is_not(None))
        connection.execute(delete(owners).where(owners.c.beat_at < now - _FORGOTTEN_AFTER, owners.c.id.not_in(used)))

    def end(self, connection: Connection) -> None:
        """Delete the own lease's row."""
        _open_in_this_process.discard(self.owner)
        connection.execute(delete(owners).where(owners.c.id == self.owner))


class Heartbeat:
    """The thread that keeps the lease of an open journal and releases attempts on which nobody works.

    ``living_processes`` share the journal, as counted at the last beat.
    """

    def __init__(self, transactions: JournalTransactions, leases: Leases, claims: Claims) -> None:
        self._transactions = transactions
        self._leases = leases
        self._claims = claims
        self._is_beating = False
        self.living_processes = 1

    def renew(self, connection: Connection, now: float) -> None:
        """Renew the lease, before a claim; the first one starts the thread."""
        self._leases.renew(connection, now)
        with self._claims.changed:
            if not self._is_beating and not self._claims.closed:
                self._is_beating = True
                threading.Thread(target=self._run, name=f"{THREAD_PREFIX}-heartbeat", daemon=True).start()

    def _run(self) -> None:
        """The heartbeat's thread, until the journal is closed; it acts every ``HEARTBEAT`` seconds.

        It renews the lease while there are claims, tries again what could not be written, and writes the mark.
        """
        next_beat = time.monotonic() + HEARTBEAT
        while True:
            with self._claims.changed:
                while not self._claims.closed and (pause := next_beat - time.monotonic()) > 0:
                    self._claims.changed.wait(pause)
                if self._claims.closed:
                    return
            next_beat = time.monotonic() + HEARTBEAT
            try:
                if self._claims.ids():
                    self.beat()
                for claim in self._claims.unwritten():
                    claim.write_again()
                self._transactions.write_mark()
            except Exception as problem:  # if this thread ended, the lease would become void
                pack_logger().debug("heartbeat: %s", problem)

    def beat(self) -> None:
        """Renew the lease, release attempts without a claim or a living owner, and count the living processes."""
        with self._transactions.writing() as (connection, now):
            self._leases.renew(connection, now)
            # Attempts that this process owns without a claim: the commit of the claim was not confirmed, or its end
            # could not be written.
            forgotten = and_(attempts.c.owner == self._leases.owner, attempts.c.id.not_in(self._claims.ids()))
            release(connection, now, forgotten)
            living = self._leases.living(connection, now)
            self.living_processes = max(1, len(living))
            release_unsent(connection, now, living)
            self._leases.forget_old(connection, now)


def release_unsent(connection: Connection, now: float, living: Sequence[str]) -> None:
    """Cancel the ``prepared`` attempts of dead processes: what they have reserved of the budget is free again."""
    unsent = and_(attempts.c.state == State.PREPARED, attempts.c.owner.not_in(living))
    release(connection, now, unsent)


def release(connection: Connection, now: float, which: Any) -> None:
    """Let the owner of the attempts ``which`` (an SQL condition) leave them, and raise their fence.

    One that is ``submitting`` keeps its state: its answer may still come.
    """
    # The fence first, so that a thread that still works on the attempt cannot write ``submitting`` and send it.
    connection.execute(update(attempts).where(which).values(fence=attempts.c.fence + 1))
    change_state(connection, now, Event.LEAVE, which)
    connection.execute(update(attempts).where(which).values(owner=None, holds_slot=False))
