"""The journal's database as it is used: opened at the first need, opened again when it turned out to be damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Update, event

from . import salvage
from .schema import Database, attempts, requests, results
from .settings import JournalSettings
from .states import DamagedError
from .store import Store

_SHOWN = {attempts, requests, results}


class Access:
    """Transactions of a journal, each with the database's time.

    Args:
        changed: called after each transaction that changed an attempt, outside of it; it must not block.
    """

    def __init__(
        self, settings: JournalSettings, store: Store, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._changed = changed
        self._opening = threading.Lock()
        self._database: Database | None = None

    @property
    def is_open(self) -> bool:
        return self._database is not None

    def open(self) -> Database:
        """
        Raises:
            JournalError: it cannot be used.
        """
        settings = self._settings
        with self._opening:
            if self._database is None:
                self._database = (
                    salvage.open_postgresql(settings.url, self._store if settings.store else None)
                    if settings.url
                    else salvage.open_sqlite(settings.directory, self._store, self._clock)
                )
            return self._database

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, float]]:
        """A transaction that no other writer runs beside, and the time; raises JournalError if it did not happen."""
        database = self.open()
        try:
            with database.writing() as connection:
                changes = _changes_of(connection)
                yield connection, database.now(connection)
        except DamagedError:
            self._drop(database)
            raise
        if changes:
            self._changed()

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, float]]:
        """A look that blocks no writer, and the time; raises JournalError."""
        database = self.open()
        try:
            with database.reading() as connection:
                yield connection, database.now(connection)
        except DamagedError:
            self._drop(database)
            raise

    def _drop(self, database: Database) -> None:
        """The next use opens the journal again, and finds out what is left of it."""
        with self._opening:
            if self._database is database:
                self._database = None
                database.close()

    def close(self) -> None:
        with self._opening:
            database, self._database = self._database, None
        if database is not None:
            database.close()


def _changes_of(connection: Connection) -> list[str]:
    """Grows while the transaction changes what a task list shows."""
    tables: list[str] = []

    def executed(_: Connection, statement: object, *rest: object) -> None:
        result: Any = rest[-1]
        if isinstance(statement, (Insert, Update, Delete)) and statement.table in _SHOWN and result.rowcount != 0:
            tables.append(str(statement.table))

    # Gone with this connection, which is another one each time.
    event.listen(connection, "after_execute", executed)
    return tables
