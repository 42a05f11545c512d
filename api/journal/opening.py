"""The journal's database as it is used: opened at the first need, opened again when it turned out to be damaged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Update, event

from ..core import JournalSettings, in_container, pack_logger
from . import salvage
from .lease import HEARTBEAT
from .model import DamagedError
from .store import Mark, Store
from .tables import Database, attempts, older_copy, request_rows, results

_SHOWN = {attempts, request_rows, results}


class JournalTransactions:
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
        self._noting = threading.Lock()
        self._mark = Mark()
        self._written = Mark()
        self._written_at = -HEARTBEAT
        self._is_told = False

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
            self._warn_of_container_layer()
            if self._database is None:
                self._database = (
                    salvage.open_postgresql(
                        settings.url, self._store if settings.store else None, settings.directory, self._mark
                    )
                    if settings.url
                    else salvage.open_sqlite(settings.directory, self._store, self._clock, self._mark)
                )
                with self._database.reading() as connection:
                    self._mark = Database.mark(connection)
            return self._database

    def _warn_of_container_layer(self) -> None:
        """Tell once of a folder that is lost with its container: what was bought would be bought again."""
        if self._is_told:
            return
        self._is_told = True
        for folder in (self._settings.directory, self._store.directory):
            if in_container(folder):
                pack_logger().warning(
                    "%s lies in a container's own layer (overlayfs). What this pack keeps there is lost when the "
                    "container is made anew, and what was paid is bought again: make it a volume (docs/docker.md).",
                    folder,
                )
                return

    @property
    def mark(self) -> Mark:
        """How far the journal has come, as far as this process knows."""
        return self._mark

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, float]]:
        """A transaction that no other writer runs beside, and the time; raises JournalError if it did not happen."""
        database = self.open()
        try:
            with database.writing() as connection:
                found = Database.mark(connection)
                if found.is_behind(self._mark):
                    # A server that took over may not have had the last changes yet.
                    raise older_copy()
                changes = _changes_of(connection)
                yield connection, database.now(connection)
                mark = database.count_up(connection) if changes else found
        except DamagedError:
            self._drop(database)
            raise
        with self._noting:
            # Also what other processes have changed; but nothing of a database that was replaced meanwhile.
            if self._database is database:
                self._mark = self._mark.or_later(mark)
        if changes:
            if time.monotonic() - self._written_at >= HEARTBEAT:
                self.write_mark()
            self._changed()

    def write_mark(self) -> None:
        """Note beside the journal how far it has come; after a commit, and at most once per heartbeat."""
        with self._noting:
            if self._mark != self._written:
                self._written_at = time.monotonic()
                with suppress(OSError, ValueError):
                    # Marks are written after commits: a database that has come less far is an older copy.
                    self._mark = self._written = salvage.write_marks(self._settings, self._store, self._mark)

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
        self.write_mark()
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
