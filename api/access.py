"""The journal's database as it is used: opened at the first need, opened again when it turned out to be damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from . import salvage
from .schema import DamagedError, Database
from .settings import JournalSettings
from .store import Store


class Access:
    """Transactions of a journal, each with the database's time."""

    def __init__(self, settings: JournalSettings, store: Store, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._opening = threading.Lock()
        self._database: Database | None = None
        self.opened = 0
        """How often it was opened; another number may mean another journal."""

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
                self.opened += 1
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
                yield connection, database.now(connection)
        except DamagedError:
            self._drop(database)
            raise

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
