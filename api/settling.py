"""What becomes of an ambiguous attempt when its service calls back."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, select, update

from .attempts import clean, json_of, read_attempts
from .polling import TaskRef
from .schema import attempts
from .states import State
from .text import Text


def is_known(connection: Connection, task: TaskRef) -> bool:
    same = and_(attempts.c.task_id == clean(task.task_id), attempts.c.provider == task.provider)
    return connection.execute(select(attempts.c.id).where(same)).first() is not None


def settle(connection: Connection, now: float, journal_id: str, task: TaskRef) -> bool:
    if is_known(connection, task):
        return False
    values = {"state": State.PARKED, "task_id": clean(task.task_id), "error": None, "owner": None, "holds_slot": False}
    changed = connection.execute(
        update(attempts)
        .where(_ambiguous(journal_id), attempts.c.task_id == "", attempts.c.result_url == "")
        .values(**values, submitted_at=now, changed_at=now, next_poll_at=now)
    )
    return bool(changed.rowcount)


def say_beside(connection: Connection, now: float, journal_id: str, words: Text) -> None:
    for attempt in read_attempts(connection, _ambiguous(journal_id)):
        if attempt.error is None or words.en in attempt.error.what_en:
            continue
        error = attempt.error.error()
        error.what = Text(f"{error.what.en} {words.en}", f"{error.what.zh}{words.zh}")
        told = {"error": json_of(error), "changed_at": now}
        connection.execute(update(attempts).where(_ambiguous(journal_id)).values(**told))


def _ambiguous(journal_id: str) -> ColumnElement[bool]:
    return and_(attempts.c.id == journal_id, attempts.c.state == State.AMBIGUOUS)
