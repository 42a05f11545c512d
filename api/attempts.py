"""What the journal knows of a purchase, as plain values, and how they are read from its tables."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, func, insert, select

from .admission import Purchase
from .errors import InvalidInputError, Provider, RemoteImageError
from .polling import TaskRef
from .records import ErrorRecord
from .redaction import redact
from .schema import State, attempts, requests, results
from .text import Text

# What a task of another run was is not known any more: a quarter of the largest result, as four times this is taken.
ANY_PICTURE = 16384 * 16384 // 4

_LAST_TASKS = 30

FINISHED = (State.STORED, State.DELIVERED)
ACCEPTED = (State.SUBMITTED, State.PARKED, State.DONE)
UNDER_WAY = (State.PREPARED, State.SUBMITTING, *ACCEPTED)
EXPLAINED = (State.AMBIGUOUS, State.FAILED)


@dataclass(frozen=True)
class Order:
    """What a call wants to buy."""

    key: str
    purchase: Purchase
    sandbox: bool
    take: int
    expected_pixels: int
    summary: str


@dataclass(frozen=True)
class StoredResult:
    """One picture of an attempt (``sha256`` of its bytes in the store), or why it is missing for good."""

    position: int
    sub_task_id: str
    sha256: str
    error: ErrorRecord | None


@dataclass(frozen=True)
class Attempt:
    """One try to buy a request, as it stood when it was read."""

    journal_id: str
    key: str
    state: State
    fence: int
    owner: str | None
    request_id: str
    task: TaskRef
    result_url: str
    account: str
    profile: str
    sandbox: bool
    take: int
    pictures: int
    expected_pixels: int
    summary: str
    tried_at: float
    changed_at: float
    total: int | None = None
    polls: int = 0
    error: ErrorRecord | None = None
    results: tuple[StoredResult, ...] = ()

    @property
    def resumable(self) -> bool:
        return bool(self.task.task_id or self.result_url)

    @property
    def was_stored(self) -> bool:
        return any(result.sha256 for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether every result is known; its file may still be missing."""
        return self.total is not None and len(self.results) >= self.total


@dataclass(frozen=True)
class Task:
    """A line of the task list. Times are epoch seconds; ``pictures`` is what counts against the budget."""

    journal_id: str
    state: str
    provider: str
    endpoint: str
    profile: str
    task_id: str
    request_id: str
    take: int
    pictures: int
    summary: str
    created_at: float
    changed_at: float
    error: RemoteImageError | None
    stored: int


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
        "request_id": attempt.request_id,
        "task_id": clean(attempt.task.task_id),
        "sub_task_ids": json.dumps([clean(sub_task_id) for sub_task_id in attempt.task.sub_task_ids]),
        "result_url": clean(attempt.result_url),
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


def clean(text: str) -> str:
    """A service's word as it may be kept: no NUL, which a database refuses, whole characters, and no secret."""
    return redact(text).replace("\0", "")


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
        stored = StoredResult(row.position, row.sub_task_id, row.sha256, _record_of(row.error))
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
        total=row.total,
        polls=row.polls,
        error=_record_of(row.error),
        results=stored,
    )


def read_tasks(connection: Connection, which: Any, limit: int) -> list[Task]:
    """Lines of the task list, newest first."""
    stored = select(func.count()).where(results.c.attempt == attempts.c.id, results.c.sha256 != "").scalar_subquery()
    chosen = select(attempts, requests.c.take, requests.c.summary, stored.label("stored")).join(
        requests, requests.c.key == attempts.c.key
    )
    if which is not None:
        chosen = chosen.where(which)
    rows = connection.execute(chosen.order_by(attempts.c.created_at.desc()).limit(limit)).all()
    return [_task(row) for row in rows]


def _task(row: Row[Any]) -> Task:
    record = _record_of(row.error)
    return Task(
        journal_id=row.id,
        state=row.state.value,
        provider=row.provider,
        endpoint=row.endpoint,
        profile=row.profile,
        task_id=row.task_id,
        request_id=row.request_id,
        take=row.take,
        pictures=row.counted,
        summary=row.summary,
        created_at=row.created_at,
        changed_at=row.changed_at,
        error=record.error() if record else None,
        stored=row.stored,
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
            sub_task_id=clean(sub_task_id),
            sha256=sha256,
            error=json_of(error) if error else None,
        )
    )


def json_of(error: RemoteImageError) -> str:
    # ASCII, so that PostgreSQL's refusal of NUL characters never meets a service's words.
    return json.dumps(ErrorRecord.of(error).model_dump())


def _record_of(stored: str | None) -> ErrorRecord | None:
    return ErrorRecord.model_validate_json(stored) if stored else None


def retold(record: ErrorRecord, tried_at: float) -> RemoteImageError:
    """An error of an earlier run, with its time."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(tried_at))
    return record.error(
        Text(
            f"Nothing was sent now (0 calls): this same request was tried on {moment}.",
            f"本次未发送任何请求（0 次调用）：相同的请求已于 {moment} 提交过。",
        )
    )


def told_again(attempt: Attempt) -> RemoteImageError:
    if attempt.error is None:
        return InvalidInputError(
            Text(f"The attempt {attempt.journal_id} was never sent.", f"{attempt.journal_id} 从未发送。")
        )
    return retold(attempt.error, attempt.tried_at)


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
