"""Tasks that the service may have forgotten: what it has answered about each, in the journal's table ``meta``.

No page documents HiDream's words for a task that it does not know, and the paths of its results are inferred: a wrong
path must not turn every paid task into one that may be bought again. So it takes many answers over a long time.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, delete, select

from .schema import meta, read_meta, write_meta

_PREFIX = "unknown:"
_ANSWERS = 4
_OVER = 3600.0


@dataclass(frozen=True)
class Unknown:
    """Answers in a row that said so; database times.

    ``since`` is when it was submitted, or when the service last had a state of it.
    """

    since: float
    first: float = 0.0
    last: float = 0.0
    answers: int = 0
    forgotten: bool = False


def note_unknown(connection: Connection, now: float, journal_id: str, submitted: float, kept_for: float) -> Unknown:
    """One more answer that the service does not know the task; it has forgotten it after ``kept_for`` seconds."""
    before = _read(connection, journal_id) or Unknown(submitted)
    first = before.first if before.answers else now
    told = replace(before, first=first, last=now, answers=before.answers + 1)
    enough = told.answers >= _ANSWERS and now - first >= _OVER and now - told.since >= kept_for
    told = replace(told, forgotten=told.forgotten or enough)
    write_meta(connection, _PREFIX + journal_id, json.dumps(asdict(told)))
    return told


def note_known(connection: Connection, now: float, journal_id: str) -> None:
    """The service has had a state of the task a moment ago."""
    write_meta(connection, _PREFIX + journal_id, json.dumps(asdict(Unknown(now))))


def drop(connection: Connection, journal_id: str) -> None:
    """The task has ended."""
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
