"""Rows of the table ``run_items`` as plain values, and back; what an attempt tells of an item that is not settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, func, insert, select, update

from ...core import Billed, Price, redact
from ..model import FINISHED, Known, State
from ..rows import json_of_record, record_of
from ..tables import attempts, results, run_items
from .items import ItemEnd, ItemRow, Outcome, RunItem, RunSummary

# What a row says is not settled while it says one of these: its attempt may have gone on since.
_OPEN = (Outcome.UNDER_WAY, Outcome.WAITING, Outcome.UNCLEAR)
# What the state of an attempt tells of an item: the outcome, and whether it is billed.
_TOLD: Mapping[State, tuple[Outcome, Billed]] = {
    State.PREPARED: (Outcome.UNDER_WAY, "no"),
    State.SUBMITTING: (Outcome.UNDER_WAY, "unknown"),
    State.SUBMITTED: (Outcome.WAITING, "unknown"),
    State.PARKED: (Outcome.WAITING, "unknown"),
    State.DONE: (Outcome.WAITING, "unknown"),
    State.STORED: (Outcome.CAME, "yes"),
    State.DELIVERED: (Outcome.CAME, "yes"),
    State.REFUSED: (Outcome.REFUSED, "no"),
    State.AMBIGUOUS: (Outcome.UNCLEAR, "unknown"),
    State.FAILED: (Outcome.FAILED, "unknown"),
    State.CANCELLED: (Outcome.NOT_SUBMITTED, "no"),
}
# The same where no call works on the attempt and its state says that one does.
_TOLD_OF_DEAD: Mapping[State, tuple[Outcome, Billed]] = {
    State.PREPARED: (Outcome.NOT_SUBMITTED, "no"),
    State.SUBMITTING: (Outcome.UNCLEAR, "unknown"),
}
# Columns that keep what they have where a call does not know it.
_KEPT = ("key", "attempt")

# Of the attempt of a row: the number of its stored pictures, and why the first missing one is missing.
_of_attempt = results.c.attempt == run_items.c.attempt
_stored = select(func.count()).where(_of_attempt, results.c.sha256 != "").scalar_subquery()
_missing = (
    select(results.c.error)
    .where(_of_attempt, results.c.error.is_not(None))
    .order_by(results.c.position)
    .limit(1)
    .scalar_subquery()
)


class _Owned:
    """The part of an attempt that a free test reads, of a row of :func:`with_attempts`."""

    def __init__(self, row: Row[Any]) -> None:
        self.journal_id: str = row.attempt
        self.state: State = row.state
        self.owner: str | None = row.owner


def put(connection: Connection, now: float, end: ItemEnd) -> None:
    """Write the row of an item in the place of an earlier one.

    What the earlier one has and ``end`` does not know stays: the attempt, the key, the file, the time of creation.
    """
    item, price = end.item, end.item.price
    place = {"run": item.run, "node": item.node, "item": item.item, "part": item.part}
    values = {
        "label": item.label,
        "key": item.key,
        "attempt": end.attempt,
        "endpoint": item.endpoint,
        "profile": item.profile,
        "take": item.take,
        "wanted": item.pictures,
        "outcome": end.outcome,
        "source": end.source,
        "pictures": end.pictures,
        "billed": end.billed,
        "price": str(price.amount) if price else None,
        "currency": price.currency if price else "",
        "error": json_of_record(end.error) if end.error else None,
        "changed_at": now,
    }
    known = {name: value for name, value in values.items() if value or name not in _KEPT}
    this = and_(*(run_items.c[name] == value for name, value in place.items()))
    if not connection.execute(update(run_items).where(this).values(**known)).rowcount:
        connection.execute(insert(run_items).values(**place, **values, file="", created_at=now))


def put_under_way(connection: Connection, now: float, item: RunItem, key: str, attempt: str) -> None:
    """Write the row of an item whose attempt was admitted just now; to be called in the transaction that admits it."""
    put(connection, now, ItemEnd(replace(item, key=key), Outcome.UNDER_WAY, attempt=attempt, billed="unknown"))


def with_attempts(*columns: Any) -> Select[Any]:
    """A query of ``columns`` and of what :func:`settled` reads, over the rows and their attempts, if they have one."""
    # Counted only where it is read: SQLite takes longer for the counts of a month than for all the rest.
    stored = case((run_items.c.outcome.in_(_OPEN), _stored)).label("stored")
    about = (attempts.c.state, attempts.c.owner, stored)
    chosen: Select[Any] = select(*columns, *about)
    return chosen.select_from(run_items).outerjoin(attempts, attempts.c.id == run_items.c.attempt)


def settled(row: Row[Any], is_free: Callable[[Known], bool]) -> tuple[Outcome, Billed] | None:
    """What the attempt of a row of :func:`with_attempts` tells now of its item; ``None`` if the row itself does.

    Derived on reading, and never written: the process may have died before it wrote the item's end, and a task may
    have ended since then. It is CAME only if a picture is stored.
    """
    if row.outcome not in _OPEN or row.state is None:
        return None
    told = _TOLD[row.state]
    if row.state in _TOLD_OF_DEAD and is_free(_Owned(row)):
        told = _TOLD_OF_DEAD[row.state]
    if told[0] is Outcome.CAME and not row.stored:
        told = _TOLD[State.FAILED]
    return told if told[0] is not row.outcome else None


def read(connection: Connection, which: Any, is_free: Callable[[Known], bool], *order: Any) -> list[ItemRow]:
    """The rows for which the SQL condition ``which`` holds, sorted by ``order``; one query, and one of ``is_free``.

    A row that is not settled is told by its attempt (see :func:`settled`); a picture that came since counts as bought.
    """
    columns = (
        run_items,
        attempts.c.task_id,
        attempts.c.request_id,
        func.coalesce(attempts.c.submitted_at, attempts.c.submitting_at).label("submitted_at"),
        attempts.c.done_at,
        func.coalesce(attempts.c.error, _missing).label("attempt_error"),
    )
    rows = connection.execute(with_attempts(*columns).where(which).order_by(*order))
    return [_row(row, is_free) for row in rows]


def _row(row: Row[Any], is_free: Callable[[Known], bool]) -> ItemRow:
    return ItemRow(
        _end(row, settled(row, is_free)),
        task_id=redact(row.task_id or ""),
        request_id=redact(row.request_id or ""),
        submitted_at=row.submitted_at,
        finished_at=row.done_at,
        time=row.created_at,
        file=row.file,
    )


def _end(row: Row[Any], told: tuple[Outcome, Billed] | None) -> ItemEnd:
    item = RunItem(
        run=row.run,
        node=row.node,
        item=row.item,
        part=row.part,
        label=row.label,
        endpoint=row.endpoint,
        profile=row.profile,
        take=row.take,
        pictures=row.wanted,
        key=row.key,
        price=Price(Decimal(row.price), row.currency) if row.price is not None else None,
    )
    if told is None:
        error = record_of(row.error)
        return ItemEnd(item, row.outcome, row.source, row.attempt, row.pictures, row.billed, error)
    outcome, billed = told
    error = record_of(row.attempt_error)
    came = outcome is Outcome.CAME
    return ItemEnd(item, outcome, "bought" if came else "", row.attempt, row.stored if came else 0, billed, error)


def read_runs(connection: Connection, limit: int) -> list[RunSummary]:
    """The ``limit`` newest runs, newest first; one query. Pictures that came since the run's end are counted."""
    began_at = func.min(run_items.c.created_at).label("began_at")
    newest = select(run_items.c.run, began_at).group_by(run_items.c.run)
    newest_runs = newest.order_by(began_at.desc(), run_items.c.run).limit(limit).subquery()
    came_since = and_(run_items.c.outcome.in_(_OPEN), attempts.c.state.in_(FINISHED))
    came = case((came_since, _stored), else_=run_items.c.pictures).label("came")
    each = (
        select(newest_runs.c.run, newest_runs.c.began_at, came)
        .join(run_items, run_items.c.run == newest_runs.c.run)
        .outerjoin(attempts, attempts.c.id == run_items.c.attempt)
        .subquery()
    )
    missing = func.sum(case((each.c.came == 0, 1), else_=0))
    sums = select(each.c.run, each.c.began_at, func.count().label("items"), func.sum(each.c.came), missing)
    whole = sums.group_by(each.c.run, each.c.began_at).order_by(each.c.began_at.desc(), each.c.run)
    rows = connection.execute(whole)
    return [RunSummary(run, at, items, int(pictures), int(none)) for run, at, items, pictures, none in rows]
