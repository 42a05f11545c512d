"""Rows of runs in a journal that was damaged: carried over by name, as the other tables are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hidream_volcengine.api import Journal
from hidream_volcengine.api.journal import Outcome
from hidream_volcengine.api.journal.model import State

from tests.contract.journal.runs.written import attempt_of, item_of, opened


def test_rows_of_a_damaged_journal_are_carried_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = opened(tmp_path / "user", "", monkeypatch)
    written.put(attempt_of(1, State.PARKED))
    written.end(item_of(1), Outcome.WAITING, attempt="rv-0000000000000001", billed="unknown")
    written.end(item_of(2), Outcome.NOT_SUBMITTED)
    written.end(item_of(3), Outcome.CAME, source="reused", pictures=1)
    before = written.rows()
    written.journal.close()
    path = tmp_path / "user" / "journal.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        # An outcome that is damaged: its row is left out, and the run can still be read.
        connection.execute("UPDATE run_items SET outcome = 'wa?ting' WHERE item = 3")
    damage(path)
    written.journal = Journal(written.settings, clock=written.clock)
    assert written.rows() == before[:2]
    assert written.journal.task_list.overview(9).unacknowledged
    assert [task.label for task in written.journal.task_list.tasks()] == ["SKU-1"]
    # What was forgotten since does not come back from the file that was kept.
    written.journal.run_items.forget("run-1")
    written.journal.close()
    damage(path)
    written.journal = Journal(written.settings, clock=written.clock)
    assert written.rows() == []
    assert [task.label for task in written.journal.task_list.tasks()] == [""]
    written.journal.close()


def damage(path: Path) -> None:
    """Overwrite the first page of the table of owners."""
    with closing(sqlite3.connect(path)) as connection:
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'owners'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)
