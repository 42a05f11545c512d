"""Tasks that the service may have forgotten: its answers about each of them, in the journal's table ``meta``.

No page documents HiDream's words for a task that HiDream does not know, and the result paths are inferred: a wrong
path must not turn every paid task into one that may be bought again. So many answers over a long time are needed.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, delete, select

from .tables import meta, read_meta, write_meta

_PREFIX = "unknown:"
_ANSWERS = 4
_OVER = 3600.0


@dataclass(frozen=True)
class Unknown:
    """Answers in a row that the service does not know a task; database times.

    ``since`` is when the task was submitted, or when the service last answered with a state of the task.
    """

    since: float
    first: float = 0.0
    last: float = 0.0
    answers: int = 0
    forgotten: bool = False


def note_unknown(connection: Connection, now: float, journal_id: str, submitted: float, kept_for: float) -> Unknown:
    """Count one more answer that the service does not know the task.

    Returns:
        All such answers in a row. The task is ``forgotten`` after at least 4 of them, over at least an hour, if the
        service has answered nothing else about the task for ``kept_for`` seconds.
    """
    before = _read(connection, journal_id) or Unknown(submitted)
    first = before.first if before.answers else now
    told = replace(before, first=first, last=now, answers=before.answers + 1)
    enough = told.answers >= _ANSWERS and now - first >= _OVER and now - told.since >= kept_for
    told = replace(told, forgotten=told.forgotten or enough)
    write_meta(connection, _PREFIX + journal_id, json.dumps(asdict(told)))
    return told


def note_known(connection: Connection, now: float, journal_id: str) -> None:
    """The service has just answered with a state of the task."""
    write_meta(connection, _PREFIX + journal_id, json.dumps(asdict(Unknown(now))))


def drop(connection: Connection, journal_id: str) -> None:
    """The task has ended: its answers are no longer needed."""
    connection.execute(delete(meta).where(meta.c.name == _PREFIX + journal_id))


def forgotten_ids(connection: Connection) -> frozenset[str]:
    """The journal ids of all tasks that the service has probably forgotten."""
    rows = connection.execute(select(meta.c.name, meta.c.value).where(meta.c.name.startswith(_PREFIX)))
    told = {row.name.removeprefix(_PREFIX): _parsed(row.value) for row in rows}
    return frozenset(journal_id for journal_id, unknown in told.items() if unknown is not None and unknown.forgotten)


def _read(connection: Connection, journal_id: str) -> Unknown | None:
    return _parsed(read_meta(connection, _PREFIX + journal_id))


def _parsed(value: str | None) -> Unknown | None:
    with suppress(ValueError, TypeError):
        return Unknown(**json.loads(value or ""))
    return None
