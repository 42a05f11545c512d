"""Transactions of the journal: the database is opened by the first of them, and again after it was found damaged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Update, event

from ..core import JournalSettings, in_container, pack_logger
from . import salvage
from .model import DamagedError, Mark
from .store import Store
from .tables import Database, attempts, older_copy, request_rows, results

# Seconds in which the mark is written once at most.
_MARK_EVERY = 2.0
# Tables whose changes a task list shows. Not run_items: a copy that lacks a label only is no older copy of the journal.
_SHOWN = {attempts, request_rows, results}


class JournalTransactions:
    """Transactions of a journal, each with the database's time; thread-safe.

    Args:
        clock: database time of SQLite, epoch seconds.
        changed: called after the commit of each transaction that changed a row which a task list shows, in its thread;
            it must not block.
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
        self._mark_lock = threading.Lock()
        self._mark = Mark()
        self._written = Mark()
        self._written_at = -_MARK_EVERY
        self._has_warned = False

    @property
    def is_open(self) -> bool:
        return self._database is not None

    def open(self) -> Database:
        """Open the database unless it is open: make, migrate, repair or replace it as needed; returns it.

        Raises:
            JournalError: it cannot be used.
            ConfigurationError: servers share the journal, but no folder for the pictures is named.
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
        """Log once that the folder of the journal or the store is lost with its container, if so."""
        if self._has_warned:
            return
        self._has_warned = True
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
        """The latest mark of the journal that this process has seen."""
        return self._mark

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, float]]:
        """A writing transaction beside which no other writer runs: the connection and the database's time.

        It is committed and synced when the block ends. The mark's count goes up by one in the same transaction if rows
        that a task list shows were changed; after the commit the mark's files are written, if that was not done within
        ``_MARK_EVERY`` seconds, and ``changed`` is called.

        Raises:
            DamagedError: the database is damaged, replaced or older than this process has seen it; the next
                transaction opens it again.
            JournalError: nothing was committed, or the database did not confirm that it was.
        """
        database = self.open()
        try:
            with database.writing() as connection:
                found = Database.mark(connection)
                if found.is_behind(self._mark):
                    # A PostgreSQL replica that became the primary may lack the last changes; or a backup was restored.
                    raise older_copy()
                changes = _changes_of(connection)
                yield connection, database.now(connection)
                mark = database.count_up(connection) if changes else found
        except DamagedError:
            self._drop(database)
            raise
        with self._mark_lock:
            # The mark also counts the changes of other processes. Ignore it if another thread has dropped this database
            # meanwhile: a replaced one counts anew.
            if self._database is database:
                self._mark = self._mark.or_later(mark)
        if changes:
            if time.monotonic() - self._written_at >= _MARK_EVERY:
                self.write_mark()
            self._changed()

    def write_mark(self) -> None:
        """Write the latest mark beside the journal and into the store, if it has changed since it was last written.

        A failure is ignored; the next call tries again.
        """
        with self._mark_lock:
            if self._mark != self._written:
                self._written_at = time.monotonic()
                with suppress(OSError, ValueError):
                    # The files may hold a later mark, of another process. Each was written after its commit: a database
                    # that is behind it is an older copy.
                    self._mark = self._written = salvage.write_marks(self._settings, self._store, self._mark)

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, float]]:
        """A reading transaction: the connection and the database's time.

        Raises:
            JournalError: the database cannot be read; after DamagedError the next transaction opens it again.
        """
        database = self.open()
        try:
            with database.reading() as connection:
                yield connection, database.now(connection)
        except DamagedError:
            self._drop(database)
            raise

    def _drop(self, database: Database) -> None:
        """Close a damaged database, unless another thread did; :meth:`open` then repairs or replaces it."""
        with self._opening:
            if self._database is database:
                self._database = None
                database.close()

    def close(self) -> None:
        """Write the mark and close the database; a later transaction would open it again."""
        self.write_mark()
        with self._opening:
            database, self._database = self._database, None
        if database is not None:
            database.close()


def _changes_of(connection: Connection) -> list[str]:
    """A list that stays empty until the transaction changes a row that a task list shows; then names of its tables."""
    tables: list[str] = []

    def executed(_: Connection, statement: object, *rest: object) -> None:
        result: Any = rest[-1]
        if isinstance(statement, (Insert, Update, Delete)) and statement.table in _SHOWN and result.rowcount != 0:
            tables.append(str(statement.table))

    # The listener ends with the Connection object, which each transaction makes anew.
    event.listen(connection, "after_execute", executed)
    return tables
