"""The task list: a line for each attempt with the actions it allows now, and the calls that a user can stop."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Row, and_, func, or_, select, true, update

from ..core import CancelToken, RemoteImageError, redact
from ..pixels import Encoded, UndecodableImageError
from . import salvage
from .budget import counted_today
from .lease import Leases
from .model import ACCEPTED, UNDER_WAY, Attempt, Known, State, decide, may_submit_again
from .opening import JournalTransactions
from .rows import forgotten_ids, read_attempts, record_of
from .store import UNKNOWN_MEDIA, DamagedPictureError, MissingPictureError, Store
from .tables import attempts, request_rows, results, run_items

COLLECT, SUBMIT_AGAIN, STOP_WAITING = "collect", "submit-again", "stop-waiting"


@dataclass(frozen=True)
class Task:
    """A line of the task list: one attempt. Times are database times, epoch seconds.

    ``task_id`` and ``request_id`` are redacted. ``pictures``: what counts against the budget. ``stored``: pictures
    that were stored. ``waiting``: a call of this or another process works on it. ``can``: the actions that would be
    accepted now, of ``COLLECT``, ``SUBMIT_AGAIN`` and ``STOP_WAITING``. ``label``: the newest of the runs that asked
    for it, "" for none; it may be private.
    """

    journal_id: str
    state: str
    provider: str
    endpoint: str
    profile: str
    sandbox: bool
    task_id: str
    request_id: str
    take: int
    pictures: int
    summary: str
    created_at: float
    changed_at: float
    error: RemoteImageError | None
    stored: int
    waiting: bool
    can: tuple[str, ...]
    label: str = ""


@dataclass(frozen=True)
class Overview:
    """The task list, newest first, at the database's time ``now`` (epoch seconds).

    ``today``: pictures that count against a budget today, by (profile name at that time, account). ``unacknowledged``:
    the journal has lost something, and paid nodes wait for the owner's acknowledgement.
    """

    now: float
    tasks: tuple[Task, ...]
    today: dict[tuple[str, str], int]
    unacknowledged: bool


@dataclass(frozen=True)
class Look:
    """What the task list needs beside the rows of the attempts.

    Args:
        is_free: whether no call of a living process works on an attempt.
        has_pictures: whether the store has a picture or the task of an attempt.
        stoppable: the journal ids that calls of this process wait for, and that can be stopped.
        forgotten: the journal ids of tasks that the service has probably forgotten.
    """

    is_free: Callable[[Known], bool]
    has_pictures: Callable[[Known], bool]
    stoppable: Set[str]
    forgotten: Set[str]


@dataclass(frozen=True)
class _Known:
    journal_id: str
    state: State
    owner: str | None


def read_tasks(connection: Connection, look: Look, limit: int, which: Any = None) -> list[Task]:
    """Lines of the task list, newest first, at most ``limit``; always two queries.

    Args:
        which: an SQL condition on ``attempts``; ``None`` = all.
    """
    stored = select(func.count()).where(results.c.attempt == attempts.c.id, results.c.sha256 != "").scalar_subquery()
    label = (
        select(run_items.c.label)
        .where(run_items.c.attempt == attempts.c.id, run_items.c.label != "")
        .order_by(run_items.c.changed_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    joined = request_rows.c.key == attempts.c.key
    chosen = select(
        attempts,
        request_rows.c.sandbox,
        request_rows.c.take,
        request_rows.c.summary,
        request_rows.c.submit_again,
        stored.label("stored"),
        label.label("label"),
    ).join(request_rows, joined)
    newest = attempts.c.created_at.desc(), attempts.c.id
    which = true() if which is None else which
    rows = connection.execute(chosen.where(which).order_by(*newest).limit(limit)).all()
    known = _attempts_by_key(connection, select(attempts.c.key).where(which).order_by(*newest).limit(limit))
    return [_task(row, known[row.key], look) for row in rows]


def _attempts_by_key(connection: Connection, keys: Any) -> dict[str, list[_Known]]:
    """All attempts of the requests in the subquery ``keys``, by key, oldest first."""
    found: defaultdict[str, list[_Known]] = defaultdict(list)
    columns = select(attempts.c.key, attempts.c.id, attempts.c.state, attempts.c.owner)
    for row in connection.execute(columns.where(attempts.c.key.in_(keys)).order_by(attempts.c.number)):
        found[row.key].append(_Known(row.id, row.state, row.owner))
    return found


def _task(row: Row[Any], known: list[_Known], look: Look) -> Task:
    record = record_of(row.error)
    this = _Known(row.id, row.state, row.owner)
    return Task(
        journal_id=row.id,
        state=row.state.value,
        provider=row.provider,
        endpoint=row.endpoint,
        profile=row.profile,
        sandbox=bool(row.sandbox),
        task_id=redact(row.task_id),
        request_id=redact(row.request_id),
        take=row.take,
        pictures=row.counted,
        summary=row.summary,
        created_at=row.created_at,
        changed_at=row.changed_at,
        error=record.error() if record else None,
        stored=row.stored,
        waiting=row.state in UNDER_WAY and not look.is_free(this),
        can=_possible_actions(this, known, look, again=bool(row.submit_again)),
        label=row.label or "",
    )


def _possible_actions(this: _Known, known: list[_Known], look: Look, *, again: bool) -> tuple[str, ...]:
    """The actions for the attempt ``this`` of a request with the attempts ``known``; ``again`` as for decide()."""
    decision, about, busy = decide(
        known, again=again, is_free=look.is_free, has_pictures=look.has_pictures, forgotten=look.forgotten
    )
    possible = {
        COLLECT: this.state in ACCEPTED and look.is_free(this),
        SUBMIT_AGAIN: about == this and may_submit_again(decision, this, busy=busy, forgotten=look.forgotten),
        STOP_WAITING: this.journal_id in look.stoppable,
    }
    return tuple(name for name, is_possible in possible.items() if is_possible)


class TaskList:
    """Queries over all attempts and their pictures, and the time of the next background poll of each attempt.

    Args:
        notices: the files that say that the journal has lost something: see ``salvage``.
    """

    def __init__(
        self,
        transactions: JournalTransactions,
        leases: Leases,
        store: Store,
        stop_registry: StopRegistry,
        notices: Sequence[Path],
    ) -> None:
        self._transactions = transactions
        self._leases = leases
        self._store = store
        self._stop_registry = stop_registry
        self._notices = notices

    def tasks(self, limit: int = 200) -> list[Task]:
        """The lines, newest first, at most ``limit``."""
        with self._transactions.reading() as (connection, now):
            return read_tasks(connection, self._look(connection, now), limit)

    def task(self, journal_id: str) -> Task | None:
        """The line of one attempt in the task list; ``None`` if there is no such attempt."""
        with self._transactions.reading() as (connection, now):
            found = read_tasks(connection, self._look(connection, now), 1, attempts.c.id == journal_id)
            return next(iter(found), None)

    def overview(self, limit: int) -> Overview:
        """The newest ``limit`` lines of the task list, and what is shown beside it, of one moment."""
        with self._transactions.reading() as (connection, now):
            return Overview(
                now,
                tuple(read_tasks(connection, self._look(connection, now), limit)),
                counted_today(connection, now),
                salvage.is_unacknowledged(self._notices),
            )

    def _look(self, connection: Connection, now: float) -> Look:
        """What the lines need beside the rows, read once for all of them."""
        is_free = self._leases.free_test(connection, now)
        return Look(is_free, self._store.has_any, self._stop_registry.ids(), forgotten_ids(connection))

    def collectable(self, journal_id: str) -> Attempt | None:
        """The attempt, if it is accepted and no call works on it; else ``None``."""
        with self._transactions.reading() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            if not found or found[0].state not in ACCEPTED or not self._leases.free_test(connection, now)(found[0]):
                return None
            return found[0]

    def hash_of(self, journal_id: str, position: int) -> str:
        """SHA-256 (hex) of an attempt's picture; empty if the journal has none at this position."""
        with self._transactions.reading() as (connection, _):
            found = and_(results.c.attempt == journal_id, results.c.position == position)
            return connection.execute(select(results.c.sha256).where(found)).scalar() or ""

    def stored(self, sha256: str) -> bytes | None:
        """The bytes of a stored picture; ``None`` if they are missing or damaged. Raises OSError as Store.read()."""
        try:
            return self._store.read(sha256)
        except (MissingPictureError, DamagedPictureError):
            return None

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        """The bytes and the media type of an attempt's picture; ``None`` if it is missing or damaged.

        Bytes that Pillow cannot read have ``UNKNOWN_MEDIA``.

        Raises:
            OSError: the disk or network share of the store failed.
        """
        sha256 = self.hash_of(journal_id, position)
        data = self.stored(sha256) if sha256 else None
        if data is None:
            return None
        try:
            return data, Encoded.of(data).media_type
        except UndecodableImageError:
            return data, UNKNOWN_MEDIA

    def places_of(self, task_id: str) -> list[tuple[str, str]]:
        """(Endpoint, account id) of each attempt with this task id, the newest first."""
        with self._transactions.reading() as (connection, _):
            same = and_(attempts.c.task_id == task_id, attempts.c.task_id != "")
            found = read_attempts(connection, same, order=attempts.c.created_at.desc())
            return [(attempt.task.endpoint, attempt.account) for attempt in found]

    def orphans(self, limit: int) -> list[Attempt]:
        """At most ``limit`` accepted attempts that no living owner has and whose next background poll is due.

        The one that has been due for longest is first. Sandbox tasks are left out.
        """
        with self._transactions.reading() as (connection, now):
            free = or_(attempts.c.owner.is_(None), attempts.c.owner.not_in(self._leases.living(connection, now)))
            is_accepted = attempts.c.state.in_(ACCEPTED)
            due = and_(is_accepted, attempts.c.next_poll_at <= now, request_rows.c.sandbox.is_(False))
            return read_attempts(connection, and_(free, due), order=attempts.c.next_poll_at, limit=limit)

    def poll_later(self, attempt: Attempt, seconds: float) -> None:
        """Count one look of the background poller at this attempt; the next one is due in ``seconds``."""
        with self._transactions.writing() as (connection, now):
            connection.execute(
                update(attempts)
                .where(attempts.c.id == attempt.journal_id)
                .values(polls=attempt.polls + 1, next_poll_at=now + seconds)
            )


class Stoppable(Protocol):
    """A call that waits for the attempt ``journal_id``.

    ``works``: it holds the claim on the attempt; else it waits for the call that does. ``stopped``: a user stopped it.
    """

    cancel: CancelToken
    journal_id: str
    works: bool
    stopped: bool

    def stop(self) -> None: ...


class StopRegistry:
    """The calls of this process that wait for an attempt, so that a user can stop them.

    Args:
        changed: called when a call begins to wait, ends or is stopped; it must not block.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._calls: set[Stoppable] = set()

    def move(self, call: Stoppable, journal_id: str) -> None:
        """Enter a call, or note that it waits for another attempt from now on."""
        with self._lock:
            call.journal_id = journal_id
            self._calls.add(call)
        self._changed()

    def end(self, call: Stoppable) -> bool:
        """Remove a call: from now on it cannot be stopped; returns whether a user stopped it before."""
        with self._lock:
            self._calls.discard(call)
        self._changed()
        return call.stopped

    def ids(self) -> set[str]:
        """The journal ids for which :meth:`stop` would find a call."""
        with self._lock:
            return {call.journal_id for call in self._calls if not call.stopped and not call.cancel.cancelled}

    def stop(self, journal_id: str) -> bool:
        """Stop every call of this process that waits for an attempt; ``False`` if there is none."""
        with self._lock:
            found = [call for call in self._calls if call.journal_id == journal_id]
            found = [call for call in found if not call.stopped and not call.cancel.cancelled]
            for call in found:
                call.stopped = True
        # First the calls that wait for the one with the claim: they would take the attempt over when it ends.
        for call in sorted(found, key=lambda call: call.works):
            call.stop()
        self._changed()
        return bool(found)
