"""Rows of the journal's tables as plain values, and back: attempts, requests, results, and what side-cars add."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from ..core import Provider, RemoteImageError, TaskRef
from .model import (
    ANY_PICTURE,
    NOW,
    TRANSITIONS,
    Attempt,
    ErrorRecord,
    Event,
    Mark,
    State,
    StoredResult,
    transition,
)
from .store import SideCar
from .tables import Database, attempts, meta, read_meta, request_rows, results, storable, write_meta

_LAST_TASKS = 10


def put_request(connection: Connection, attempt: Attempt, created_at: float) -> None:
    """Insert the row of an attempt's request, unless it exists."""
    if connection.execute(select(request_rows.c.key).where(request_rows.c.key == attempt.key)).first() is None:
        connection.execute(
            insert(request_rows).values(
                key=attempt.key,
                provider=attempt.task.provider,
                endpoint=attempt.task.endpoint,
                profile=attempt.profile,
                account=attempt.account,
                sandbox=attempt.sandbox,
                take=attempt.take,
                expected_pixels=attempt.expected_pixels,
                summary=attempt.summary,
                created_at=created_at,
                submit_again=False,
            )
        )


def put_attempt(connection: Connection, attempt: Attempt, now: float, **values: Any) -> None:
    """Insert a row for an attempt, with the next number of its request; ``values`` go before the defaults here."""
    highest = connection.execute(select(func.max(attempts.c.number)).where(attempts.c.key == attempt.key)).scalar()
    row: dict[str, Any] = {
        "id": attempt.journal_id,
        "key": attempt.key,
        "number": 0 if highest is None else highest + 1,
        "state": attempt.state,
        "owner": attempt.owner,
        "fence": attempt.fence,
        **task_values(attempt),
        "account": attempt.account,
        "profile": attempt.profile,
        "endpoint": attempt.task.endpoint,
        "provider": attempt.task.provider,
        "prompt_id": "",
        "pictures": attempt.pictures,
        "counted": 0,
        "holds_slot": False,
        "polls": 0,
        "next_poll_at": 0.0,
        "created_at": attempt.tried_at,
        "changed_at": now,
        "total": attempt.total,
    }
    connection.execute(insert(attempts).values(**{**row, **values}))


def at_time(columns: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The columns of a transition with ``now`` in the place of ``NOW``."""
    return {name: now if value is NOW else value for name, value in columns.items()}


def change_state(connection: Connection, now: float, event: Event, which: Any, /, **values: Any) -> int:
    """Let an event happen to those of the attempts ``which`` (an SQL condition) whose state allows it.

    ``values`` are further columns. Returns the number of attempts that it happened to.
    """
    changed = 0
    allowed = [before for before, happens in TRANSITIONS if happens is event]
    for after in dict.fromkeys(TRANSITIONS[before, event] for before in allowed):
        befores = [before for before in allowed if TRANSITIONS[before, event] is after]
        columns = at_time(transition(befores[0], event, **values).columns, now)
        chosen = update(attempts).where(which, attempts.c.state.in_(befores))
        changed += connection.execute(chosen.values({"changed_at": now, **columns})).rowcount
    return changed


def task_values(attempt: Attempt) -> dict[str, str]:
    """What is needed to ask the service for the task, as columns of the table ``attempts``."""
    return {
        "request_id": attempt.task.request_id,
        "task_id": attempt.task.task_id,
        "sub_task_ids": json.dumps([storable(sub_task_id) for sub_task_id in attempt.task.sub_task_ids]),
        "options": attempt.task.options,
        "result_url": attempt.result_url,
    }


def read_attempts(connection: Connection, which: Any, *, order: Any = None, limit: int | None = None) -> list[Attempt]:
    """The attempts for which the SQL condition ``which`` holds, with their results in order of position.

    Args:
        order: what to sort by; by default the number of the attempt within its request, oldest first.
    """
    rows = connection.execute(
        select(
            attempts,
            request_rows.c.sandbox,
            request_rows.c.take,
            request_rows.c.expected_pixels,
            request_rows.c.summary,
        )
        .join(request_rows, request_rows.c.key == attempts.c.key)
        .where(which)
        .order_by(attempts.c.number if order is None else order)
        .limit(limit)
    ).all()
    by_attempt: dict[str, list[StoredResult]] = {row.id: [] for row in rows}
    for row in connection.execute(
        select(results).where(results.c.attempt.in_(list(by_attempt))).order_by(results.c.position)
    ):
        stored = StoredResult(row.position, row.sub_task_id, row.sha256, record_of(row.error))
        by_attempt[row.attempt].append(stored)
    return [_attempt(row, tuple(by_attempt[row.id])) for row in rows]


def _attempt(row: Row[Any], stored: tuple[StoredResult, ...]) -> Attempt:
    sub_task_ids = tuple(json.loads(row.sub_task_ids))
    provider = cast(Provider, row.provider)
    task = TaskRef(provider, row.endpoint, row.task_id, row.request_id, sub_task_ids, row.options)
    return Attempt(
        journal_id=row.id,
        key=row.key,
        state=row.state,
        fence=row.fence,
        owner=row.owner,
        request_id=row.request_id,
        task=task,
        result_url=row.result_url,
        account=row.account,
        profile=row.profile,
        sandbox=bool(row.sandbox),
        take=row.take,
        pictures=row.pictures,
        expected_pixels=row.expected_pixels,
        summary=row.summary,
        tried_at=row.submitting_at or row.created_at,
        changed_at=row.changed_at,
        submitted_at=row.submitted_at,
        total=row.total,
        polls=row.polls,
        error=record_of(row.error),
        results=stored,
    )


def put_result(connection: Connection, journal_id: str, result: StoredResult, *, has_moved: bool = False) -> None:
    """Write one result of an attempt, in the place of an earlier one at its position.

    Args:
        has_moved: the sub task had another position before. The row at that position is deleted: it would count as a
            second picture, and the attempt as complete without the picture that is missing.
    """
    replaced = results.c.position == result.position
    if has_moved:
        replaced = or_(replaced, results.c.sub_task_id == result.sub_task_id)
    connection.execute(delete(results).where(results.c.attempt == journal_id, replaced))
    connection.execute(
        insert(results).values(
            attempt=journal_id,
            position=result.position,
            sub_task_id=result.sub_task_id,
            sha256=result.sha256,
            error=json_of_record(result.error) if result.error else None,
        )
    )


def json_of(error: RemoteImageError) -> str:
    return json_of_record(ErrorRecord.of(error))


def json_of_record(record: ErrorRecord) -> str:
    # json.dumps escapes all but ASCII: a NUL in a service's message becomes \u0000, which PostgreSQL accepts.
    return json.dumps(record.model_dump())


def record_of(stored: str | None) -> ErrorRecord | None:
    return ErrorRecord.model_validate_json(stored) if stored else None


def read_durations(connection: Connection, endpoint: str, sandbox: bool) -> list[float]:
    """Seconds from submit to end of the last 10 finished tasks of an endpoint, newest first."""
    rows = connection.execute(
        select(attempts.c.done_at - attempts.c.submitting_at)
        .join(request_rows, request_rows.c.key == attempts.c.key)
        .where(
            attempts.c.endpoint == endpoint,
            attempts.c.done_at.is_not(None),
            attempts.c.submitting_at.is_not(None),
            # Fence 1: never taken over. The end of one that had been parked was noticed late.
            attempts.c.fence == 1,
            request_rows.c.sandbox.is_(sandbox),
        )
        .order_by(attempts.c.done_at.desc())
        .limit(_LAST_TASKS)
    ).scalars()
    return [float(seconds) for seconds in rows if seconds is not None and seconds >= 0]


# Names in the table ``meta``: this prefix and a journal id.
_UNKNOWN_PREFIX = "unknown:"
# A task counts as forgotten after at least so many answers that it is unknown, over at least so many seconds. No page
# documents HiDream's words for an unknown task, and the result paths are inferred: a wrong path must not make every
# paid task look forgotten, for a forgotten task may be bought again.
_FORGOTTEN_AFTER_ANSWERS = 4
_FORGOTTEN_AFTER_SECONDS = 3600.0


@dataclass(frozen=True)
class Unknown:
    """A series of answers that the service does not know a task, in database times.

    ``since``: when the task was submitted, or when the service last answered with a state of it, which ends a series.
    ``first``, ``last``: times of the first and the last answer of the series; ``answers``: their number.
    ``forgotten``: the service has probably forgotten the task.
    """

    since: float
    first: float = 0.0
    last: float = 0.0
    answers: int = 0
    forgotten: bool = False


def note_unknown(connection: Connection, now: float, journal_id: str, submitted: float, kept_for: float) -> Unknown:
    """Add one answer that the service does not know the task; writes and returns the series.

    The task becomes ``forgotten`` after at least 4 such answers over at least an hour, if the service has not answered
    with a state of the task for ``kept_for`` seconds, or never since ``submitted``, which is as long ago.
    """
    before = _read_unknown(connection, journal_id) or Unknown(submitted)
    first = before.first if before.answers else now
    series = replace(before, first=first, last=now, answers=before.answers + 1)
    often = series.answers >= _FORGOTTEN_AFTER_ANSWERS
    enough = often and now - first >= _FORGOTTEN_AFTER_SECONDS and now - series.since >= kept_for
    series = replace(series, forgotten=series.forgotten or enough)
    write_meta(connection, _UNKNOWN_PREFIX + journal_id, json.dumps(asdict(series)))
    return series


def note_known(connection: Connection, now: float, journal_id: str) -> None:
    """End the series of answers that the task is unknown: the service answered with a state of it at ``now``."""
    write_meta(connection, _UNKNOWN_PREFIX + journal_id, json.dumps(asdict(Unknown(now))))


def drop_unknown(connection: Connection, journal_id: str) -> None:
    """Delete the series of a task that has ended."""
    connection.execute(delete(meta).where(meta.c.name == _UNKNOWN_PREFIX + journal_id))


def forgotten_ids(connection: Connection) -> frozenset[str]:
    """The journal ids of all tasks that the service has probably forgotten."""
    rows = connection.execute(select(meta.c.name, meta.c.value).where(meta.c.name.startswith(_UNKNOWN_PREFIX)))
    series = {row.name.removeprefix(_UNKNOWN_PREFIX): _parsed_unknown(row.value) for row in rows}
    return frozenset(journal_id for journal_id, unknown in series.items() if unknown is not None and unknown.forgotten)


def _read_unknown(connection: Connection, journal_id: str) -> Unknown | None:
    return _parsed_unknown(read_meta(connection, _UNKNOWN_PREFIX + journal_id))


def _parsed_unknown(value: str | None) -> Unknown | None:
    with suppress(ValueError, TypeError):
        return Unknown(**json.loads(value or ""))
    return None


def insert_tasks(connection: Connection, now: float, side_cars: Iterable[SideCar]) -> None:
    """Insert the tasks of these side-cars as parked attempts, unless the journal has or has deleted them.

    An attempt that was given up without a task id gets its task. If side-cars of another journal were inserted, note
    how far that one had come: a later call does not insert again what was deleted here since.
    """
    mark = Database.mark(connection)
    known = set(connection.execute(select(attempts.c.id)).scalars())
    inserted: dict[str, int] = {}
    for side_car in side_cars:
        if side_car.journal_id in known:
            _add_task(connection, now, side_car)
        elif not _deleted_on_purpose(connection, mark, side_car):
            _insert_purchase(connection, now, [side_car])
            inserted[side_car.journal] = max(inserted.get(side_car.journal, 0), side_car.journal_count)
    for journal, count in inserted.items():
        if journal and journal != mark.journal:
            write_meta(connection, _inserted_up_to(journal), str(count))


def _deleted_on_purpose(connection: Connection, mark: Mark, side_car: SideCar) -> bool:
    """Whether the attempt has no row because its row was deleted.

    It had one if this journal wrote the side-car, or if the side-cars of the journal that wrote it were inserted here,
    each at a count not lower than the side-car's.
    """
    if not side_car.journal:
        return False
    is_own = side_car.journal == mark.journal
    seen = mark.count if is_own else int(read_meta(connection, _inserted_up_to(side_car.journal)) or 0)
    return side_car.journal_count <= seen


def _inserted_up_to(journal: str) -> str:
    """Name in ``meta`` of the count up to which the tasks of another journal were inserted."""
    return f"taken:{journal}"


def _add_task(connection: Connection, now: float, side_car: SideCar) -> None:
    """Park an attempt that was given up before its task id was written: the side-car has the task.

    Changes nothing if the attempt has a task, an owner, or another state.
    """
    given_up = and_(
        attempts.c.id == side_car.journal_id,
        attempts.c.task_id == "",
        attempts.c.result_url == "",
        attempts.c.owner.is_(None),
        # One that is still submitting is settled by the next claim.
        attempts.c.state != State.SUBMITTING,
    )
    change_state(connection, now, Event.LATE_TASK, given_up, error=None, **task_values(attempt_of(side_car, now)))


def insert_pictures(connection: Connection, now: float, found: Iterable[SideCar]) -> None:
    """Insert the attempts and results of these pictures' side-cars that the journal lacks and has not deleted."""
    mark = Database.mark(connection)
    known = set(connection.execute(select(attempts.c.id)).scalars())
    for side_cars in _by_attempt(found):
        if side_cars[0].journal_id not in known:
            if _deleted_on_purpose(connection, mark, side_cars[0]):
                continue
            _insert_purchase(connection, now, side_cars)
        insert_results(connection, side_cars)


def _by_attempt(side_cars: Iterable[SideCar]) -> list[list[SideCar]]:
    groups: dict[str, list[SideCar]] = {}
    for side_car in side_cars:
        groups.setdefault(side_car.journal_id, []).append(side_car)
    return list(groups.values())


def _insert_purchase(connection: Connection, now: float, side_cars: list[SideCar]) -> None:
    """Insert request and attempt of these side-cars of one attempt, counted against the budget on its day.

    The attempt is ``stored``; it is ``parked`` if no picture is there, or fewer than the side-car says while there is
    a task to fetch the others from.
    """
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
    """The attempt that a side-car describes, ``parked`` and without an owner; nothing is written."""
    provider, sub_task_ids = cast(Provider, first.provider), tuple(first.sub_task_ids)
    return Attempt(
        journal_id=first.journal_id,
        key=first.key,
        state=State.PARKED,
        fence=1,
        owner=None,
        request_id=first.request_id,
        task=TaskRef(provider, first.endpoint, first.task_id, first.request_id, sub_task_ids, first.options),
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


def insert_results(connection: Connection, side_cars: list[SideCar]) -> None:
    """Insert the results of these side-cars of one attempt at positions where the journal has none."""
    if not side_cars:
        return
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
