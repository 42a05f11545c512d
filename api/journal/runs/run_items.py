"""The rows of the last 90 days: written when an item ends, read for reports, and forgotten with their labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import and_, delete

from ...core import pack_logger
from ..lease import Leases
from ..model import Event, JournalError
from ..opening import JournalTransactions
from ..rows import change_state
from ..tables import attempts, run_items
from .items import ItemEnd, ItemRow, RunSummary, Spent
from .spent import read_spent
from .table import put, read, read_runs

_DAY = 86400.0
_KEPT_FOR = 90 * _DAY


class RunItems:
    """The rows of the last 90 days; thread-safe.

    The row of an item that buys is written at its admission (``Limiter.admit``). Reading raises JournalError if the
    database cannot be read.

    Args:
        evict: lets the store remove delivered pictures above its size limit.
        changed: announces that the task list has changed; it must not block.
    """

    def __init__(
        self,
        transactions: JournalTransactions,
        leases: Leases,
        evict: Callable[[], object],
        changed: Callable[[], None],
    ) -> None:
        self._transactions = transactions
        self._leases = leases
        self._evict = evict
        self._changed = changed
        self._cleared_at = -math.inf

    def end(self, ends: Sequence[ItemEnd], delivered: Sequence[str] = ()) -> None:
        """Write how items have ended, and ``delivered`` into the ``stored`` attempts of the journal ids ``delivered``.

        One transaction, none if there is nothing to write. Then the store may remove pictures above its size limit.
        A failure is logged and not raised: the node has its pictures. Once a day this also deletes old rows.
        """
        if not ends and not delivered:
            return
        try:
            self._write(ends, delivered)
            if delivered:
                self._evict()
        except (JournalError, OSError) as problem:
            pack_logger().warning("what a node has handed on could not be written down: %s", problem)
        # The task list shows the label; a reused attempt has no other change.
        if any(end.item.label and end.attempt for end in ends):
            self._changed()

    def _write(self, ends: Sequence[ItemEnd], delivered: Sequence[str]) -> None:
        with self._transactions.writing() as (connection, now):
            for end in ends:
                put(connection, now, end)
            if delivered:
                change_state(connection, now, Event.DELIVER, attempts.c.id.in_(delivered))
            is_due = abs(now - self._cleared_at) >= _DAY
            if is_due:
                connection.execute(delete(run_items).where(run_items.c.created_at < now - _KEPT_FOR))
        if is_due:
            self._cleared_at = now

    def rows(self, run: str) -> list[ItemRow]:
        """The items of a run, by node, item and part; also while it runs."""
        return self._read(run_items.c.run == run, run_items.c.node, run_items.c.item, run_items.c.part)

    def rows_between(self, since: float, until: float) -> list[ItemRow]:
        """The items whose rows were made from ``since`` on and before ``until`` (epoch seconds), oldest first."""
        moment = run_items.c.created_at
        place = (run_items.c.run, run_items.c.node, run_items.c.item, run_items.c.part)
        return self._read(and_(moment >= since, moment < until), moment, *place)

    def _read(self, which: Any, *order: Any) -> list[ItemRow]:
        with self._transactions.reading() as (connection, now):
            return read(connection, which, self._leases.free_test(connection, now), *order)

    def runs(self, limit: int) -> list[RunSummary]:
        """The newest ``limit`` runs that have rows, newest first."""
        with self._transactions.reading() as (connection, _):
            return read_runs(connection, limit)

    def forget(self, run: str) -> int:
        """Delete the rows of a run, with their labels; its pictures and purchases stay. Returns how many there were.

        Raises:
            JournalError: they could not be deleted.
        """
        with self._transactions.writing() as (connection, _):
            forgotten = connection.execute(delete(run_items).where(run_items.c.run == run)).rowcount
        if forgotten:
            self._changed()
        return forgotten

    def spent(self) -> list[Spent]:
        """What each profile has spent today and this month, by the server's time zone; none without a price."""
        with self._transactions.reading() as (connection, now):
            return read_spent(connection, now, self._leases.free_test(connection, now))
