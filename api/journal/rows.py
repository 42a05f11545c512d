"""What the journal knows of a purchase, as plain values, and how they are read from its tables."""

from __future__ import annotations

import json
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, func, insert, select

from ..core.errors import Provider, RemoteImageError
from ..core.task import TaskRef
from .model import Attempt, ErrorRecord, StoredResult
from .tables import attempts, requests, results, storable

_LAST_TASKS = 10

# ---- rows


def put_request(connection: Connection, attempt: Attempt, created_at: float) -> None:
    """The row of an attempt's request, unless it is there."""
    if connection.execute(select(requests.c.key).where(requests.c.key == attempt.key)).first() is None:
        connection.execute(
            insert(requests).values(
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
    """A new row for an attempt, the last one of its request."""
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


def task_values(attempt: Attempt) -> dict[str, str]:
    """The ids and the result address that the service gave the task, as columns of the table ``attempts``."""
    return {
        "request_id": attempt.task.request_id,
        "task_id": attempt.task.task_id,
        "sub_task_ids": json.dumps([storable(sub_task_id) for sub_task_id in attempt.task.sub_task_ids]),
        "result_url": attempt.result_url,
    }


def read_attempts(connection: Connection, which: Any, *, order: Any = None, limit: int | None = None) -> list[Attempt]:
    rows = connection.execute(
        select(attempts, requests.c.sandbox, requests.c.take, requests.c.expected_pixels, requests.c.summary)
        .join(requests, requests.c.key == attempts.c.key)
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
    task = TaskRef(
        cast(Provider, row.provider), row.endpoint, row.task_id, row.request_id, tuple(json.loads(row.sub_task_ids))
    )
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


def put_result(
    connection: Connection,
    journal_id: str,
    position: int,
    sub_task_id: str,
    sha256: str,
    error: RemoteImageError | None = None,
) -> None:
    connection.execute(delete(results).where(results.c.attempt == journal_id, results.c.position == position))
    connection.execute(
        insert(results).values(
            attempt=journal_id,
            position=position,
            sub_task_id=sub_task_id,
            sha256=sha256,
            error=json_of(error) if error else None,
        )
    )


def json_of(error: RemoteImageError) -> str:
    # ASCII, so that PostgreSQL's refusal of NUL characters never meets a service's words.
    return json.dumps(ErrorRecord.of(error).model_dump())


def record_of(stored: str | None) -> ErrorRecord | None:
    return ErrorRecord.model_validate_json(stored) if stored else None


def read_durations(connection: Connection, endpoint: str, sandbox: bool) -> list[float]:
    """Seconds from submit to end of an endpoint's last tasks."""
    rows = connection.execute(
        select(attempts.c.done_at - attempts.c.submitting_at)
        .join(requests, requests.c.key == attempts.c.key)
        .where(
            attempts.c.endpoint == endpoint,
            attempts.c.done_at.is_not(None),
            attempts.c.submitting_at.is_not(None),
            # One that was taken over lay about for a while.
            attempts.c.fence == 1,
            requests.c.sandbox.is_(sandbox),
        )
        .order_by(attempts.c.done_at.desc())
        .limit(_LAST_TASKS)
    ).scalars()
    return [float(seconds) for seconds in rows if seconds is not None and seconds >= 0]
