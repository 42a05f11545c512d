"""Rows from side-cars: what a journal has lost of its purchases, as far as the store knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from sqlalchemy import Connection, and_, insert, select, update

from ..core.errors import Provider
from ..core.task import TaskRef
from .model import ANY_PICTURE, Attempt, State
from .rows import put_attempt, put_request, task_values
from .store import Mark, SideCar
from .tables import Database, attempts, read_meta, results, write_meta


def insert_tasks(connection: Connection, now: float, side_cars: Iterable[SideCar]) -> None:
    """Tasks under way that the journal does not have, as parked ones."""
    mark = Database.mark(connection)
    known = set(connection.execute(select(attempts.c.id)).scalars())
    taken: dict[str, int] = {}
    for side_car in side_cars:
        if side_car.journal_id in known:
            _complete(connection, now, side_car)
        elif not _deleted_on_purpose(connection, mark, side_car):
            _insert_purchase(connection, now, [side_car])
            taken[side_car.journal] = max(taken.get(side_car.journal, 0), side_car.journal_count)
    for journal, count in taken.items():
        if journal and journal != mark.journal:
            write_meta(connection, _taken(journal), str(count))


def _deleted_on_purpose(connection: Connection, mark: Mark, side_car: SideCar) -> bool:
    """Whether the row was in this journal once: written down by it, or taken over, and deleted since then."""
    if not side_car.journal:
        return False
    is_own = side_car.journal == mark.journal
    seen = mark.count if is_own else int(read_meta(connection, _taken(side_car.journal)) or 0)
    return side_car.journal_count <= seen


def _taken(journal: str) -> str:
    return f"taken:{journal}"


def _complete(connection: Connection, now: float, side_car: SideCar) -> None:
    """Add the task to an attempt that was given up before the task could be written down."""
    given_up = and_(
        attempts.c.id == side_car.journal_id,
        attempts.c.task_id == "",
        attempts.c.result_url == "",
        attempts.c.owner.is_(None),
        attempts.c.state.in_((State.AMBIGUOUS, State.CANCELLED, State.PREPARED)),
    )
    values = {"state": State.PARKED, "error": None, "changed_at": now, **task_values(attempt_of(side_car, now))}
    connection.execute(update(attempts).where(given_up).values(**values))


def insert_pictures(connection: Connection, now: float, found: Iterable[SideCar]) -> None:
    """The attempts and results of pictures in the store that the journal does not have."""
    mark = Database.mark(connection)
    known = set(connection.execute(select(attempts.c.id)).scalars())
    for side_cars in _by_attempt(found):
        if side_cars[0].journal_id not in known:
            if _deleted_on_purpose(connection, mark, side_cars[0]):
                continue
            _insert_purchase(connection, now, side_cars)
        _insert_results(connection, side_cars)


def _by_attempt(side_cars: Iterable[SideCar]) -> list[list[SideCar]]:
    groups: dict[str, list[SideCar]] = {}
    for side_car in side_cars:
        groups.setdefault(side_car.journal_id, []).append(side_car)
    return list(groups.values())


def _insert_purchase(connection: Connection, now: float, side_cars: list[SideCar]) -> None:
    first = side_cars[0]
    known = len({side_car.position for side_car in side_cars if side_car.sha256})
    incomplete = not known or (known < first.count and first.task_id != "")
    attempt = replace(
        attempt_of(first, now),
        state=State.PARKED if incomplete else State.STORED,
        total=None if incomplete else known,
    )
    put_request(connection, attempt, first.bought_at)
    put_attempt(
        connection,
        attempt,
        now,
        counted=first.pictures,
        admitted_at=first.bought_at,
        submitting_at=first.bought_at,
    )


def attempt_of(first: SideCar, now: float) -> Attempt:
    """The attempt that a side-car is about, as a parked one."""
    provider = cast(Provider, first.provider)
    return Attempt(
        journal_id=first.journal_id,
        key=first.key,
        state=State.PARKED,
        fence=1,
        owner=None,
        request_id=first.request_id,
        task=TaskRef(provider, first.endpoint, first.task_id, first.request_id, tuple(first.sub_task_ids)),
        result_url=first.result_url,
        account=first.account,
        profile=first.profile,
        sandbox=first.sandbox,
        take=first.take,
        pictures=first.pictures,
        expected_pixels=first.pixels or ANY_PICTURE,
        summary=first.summary,
        tried_at=first.bought_at,
        changed_at=now,
    )


def _insert_results(connection: Connection, side_cars: list[SideCar]) -> None:
    """The pictures of an attempt that the journal does not name (any more)."""
    named = select(results.c.position).where(results.c.attempt == side_cars[0].journal_id)
    known = set(connection.execute(named).scalars())
    for side_car in {side_car.position: side_car for side_car in side_cars}.values():
        if side_car.position not in known:
            connection.execute(
                insert(results).values(
                    attempt=side_car.journal_id,
                    position=side_car.position,
                    sub_task_id=side_car.sub_task_id,
                    sha256=side_car.sha256,
                )
            )
