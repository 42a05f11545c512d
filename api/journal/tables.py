"""The journal's database: tables, migrations, transactions and database time, on SQLite or PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    create_engine,
    delete,
    event,
    exc,
    insert,
    select,
    text,
    update,
)
from sqlalchemy import (
    Enum as EnumColumn,
)
from sqlalchemy import (
    Text as TextColumn,
)

from ..core import Text, on_network, shortened
from .model import DamagedError, JournalError, Mark, State
from .runs.items import Outcome


def storable(text: str) -> str:
    """A text as a database takes it: NUL characters removed, lone surrogates replaced.

    It is not redacted: with a part of its id taken out, a task could not be fetched. Code that shows an id redacts it.
    """
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


class _Storable(TypeDecorator[str]):
    """A text column whose values go through :func:`storable`: services, clients and users choose the ids and names."""

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        return value if value is None else storable(value)


class LongText(_Storable):
    impl = TextColumn
    cache_ok = True


class ShortText(_Storable):
    impl = String
    cache_ok = True


_state = EnumColumn(
    State, native_enum=False, create_constraint=False, length=12, values_callable=lambda kind: [s.value for s in kind]
)
_outcome = EnumColumn(
    Outcome,
    native_enum=False,
    create_constraint=False,
    length=20,
    values_callable=lambda kind: [outcome.value for outcome in kind],
    # A damaged one of a salvaged row fails when it is inserted, and not when its run is read.
    validate_strings=True,
)

# Seconds that SQLite waits for another process's lock before it fails.
_BUSY = 30.0

_metadata = MetaData()

meta = Table("meta", _metadata, Column("name", ShortText(40), primary_key=True), Column("value", LongText))

owners = Table(
    "owners",
    _metadata,
    Column("id", ShortText(40), primary_key=True),
    Column("machine", LongText, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", LongText, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("beat_at", Float, nullable=False),
)

request_rows = Table(
    "requests",
    _metadata,
    Column("key", ShortText(64), primary_key=True),
    Column("provider", LongText, nullable=False),
    Column("endpoint", LongText, nullable=False),
    Column("profile", LongText, nullable=False),
    Column("account", LongText, nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("take", Integer, nullable=False),
    Column("expected_pixels", Integer, nullable=False),
    Column("summary", LongText, nullable=False),
    Column("created_at", Float, nullable=False),
    # Set by "submit again"; the next claim makes a new attempt and clears it.
    Column("submit_again", Boolean, nullable=False),
)

attempts = Table(
    "attempts",
    _metadata,
    Column("id", ShortText(40), primary_key=True),
    Column("key", ShortText(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", _state, nullable=False),
    Column("owner", ShortText(40)),
    Column("fence", Integer, nullable=False),
    Column("request_id", LongText, nullable=False),
    Column("task_id", LongText, nullable=False),
    Column("sub_task_ids", LongText, nullable=False),
    # What was asked of each result (see TaskRef). With a default, for a server of schema 1 may write beside this one.
    Column("options", LongText, nullable=False, server_default=""),
    # The URL of a synchronous answer: the only way to its picture until that is stored.
    Column("result_url", LongText, nullable=False),
    Column("account", LongText, nullable=False),
    Column("profile", LongText, nullable=False),
    Column("endpoint", LongText, nullable=False),
    Column("provider", LongText, nullable=False),
    Column("prompt_id", LongText, nullable=False),
    # Pictures that were asked for, and pictures that count against the budget: 0 before admission, for a refused or
    # cancelled attempt, and for an adopted task.
    Column("pictures", Integer, nullable=False),
    Column("counted", Integer, nullable=False),
    # Whether it takes a place of the limiter.
    Column("holds_slot", Boolean, nullable=False),
    Column("error", LongText),
    Column("polls", Integer, nullable=False),
    Column("next_poll_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("admitted_at", Float),
    Column("submitting_at", Float),
    Column("submitted_at", Float),
    Column("done_at", Float),
    # Number of results; NULL until the service has finished the task.
    Column("total", Integer),
    Index("attempts_by_key", "key", "number", unique=True),
    Index("attempts_by_state", "state"),
    Index("attempts_by_task", "task_id"),
    Index("attempts_by_run", "prompt_id"),
    Index("attempts_by_admission", "admitted_at"),
    Index("attempts_by_owner", "owner"),
    Index("attempts_by_slot", "holds_slot", "account", "provider"),
    Index("attempts_by_duration", "endpoint", "done_at"),
    Index("attempts_by_age", "created_at"),
)

results = Table(
    "results",
    _metadata,
    Column("attempt", ShortText(40), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sub_task_id", LongText, nullable=False),
    # Of the picture's bytes in the store; empty if the picture never came, then ``error`` says why.
    Column("sha256", ShortText(64), nullable=False),
    Column("error", LongText),
    Index("results_by_sha256", "sha256"),
)

limits = Table(
    "limits",
    _metadata,
    Column("account", LongText, primary_key=True),
    Column("provider", LongText, primary_key=True),
    # Share of the limits (0-1) that was allowed at ``changed_at``, after a 429; it recovers with time.
    Column("factor", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)

# What became of each item of a run; see RunItem and ItemEnd. A row outlives its attempt, and may have none. Its columns
# have neither NOT NULL nor a length: so SQLite's list of tables still fits into the first page of the file, and none is
# lost with another page.
run_items = Table(
    "run_items",
    _metadata,
    Column("run", LongText, primary_key=True),
    Column("node", LongText, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("label", LongText),
    Column("key", LongText),
    # The journal id; empty for none.
    Column("attempt", LongText),
    Column("endpoint", LongText),
    Column("profile", LongText),
    Column("take", Integer),
    # Pictures that were asked for, and pictures that came.
    Column("wanted", Integer),
    Column("outcome", _outcome),
    Column("source", LongText),
    Column("pictures", Integer),
    Column("billed", LongText),
    # Of one picture, as decimal text: no database rounds it.
    Column("price", LongText),
    Column("currency", LongText),
    Column("error", LongText),
    Column("file", LongText),
    Column("created_at", Float),
    Column("changed_at", Float),
    Index("items_by_attempt", "attempt"),
    Index("items_by_age", "created_at"),
)


def _add_options(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE attempts ADD COLUMN options TEXT DEFAULT '' NOT NULL"))


def _add_run_items(connection: Connection) -> None:
    # As text and not as run_items.create(): a later step adds its columns to the table as it was with schema 3.
    connection.execute(
        text(
            "CREATE TABLE run_items (run TEXT NOT NULL, node TEXT NOT NULL, item INTEGER NOT NULL,"
            " part INTEGER NOT NULL, label TEXT, key TEXT, attempt TEXT, endpoint TEXT, profile TEXT, take INTEGER,"
            " wanted INTEGER, outcome VARCHAR(20), source TEXT, pictures INTEGER, billed TEXT, price TEXT,"
            " currency TEXT, error TEXT, file TEXT, created_at FLOAT, changed_at FLOAT,"
            " PRIMARY KEY (run, node, item, part))"
        )
    )
    connection.execute(text("CREATE INDEX items_by_attempt ON run_items (attempt)"))
    connection.execute(text("CREATE INDEX items_by_age ON run_items (created_at)"))


# MIGRATIONS[n] changes schema version n + 1 to n + 2. An empty database gets the newest tables and none of these steps.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_add_options, _add_run_items)
SCHEMA_VERSION = 1 + len(MIGRATIONS)

# The key of PostgreSQL's advisory lock: all writing transactions of all servers take it, so they run one at a time.
_ADVISORY_LOCK = 0x48445643


def read_meta(connection: Connection, name: str) -> str | None:
    """The value of ``name`` in the table ``meta``; ``None`` if it was never written."""
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()


def write_meta(connection: Connection, name: str, value: str) -> None:
    """Set the value of ``name`` in the table ``meta``, by UPDATE or else INSERT."""
    written = connection.execute(update(meta).where(meta.c.name == name).values(value=value))
    if not written.rowcount:
        connection.execute(insert(meta).values(name=name, value=value))


def _number(value: str | None) -> int:
    return int(value) if value is not None and value.isdigit() else 0


class Database:
    """The journal's connections: writing and reading transactions, schema, and database time.

    Args:
        place: the path of the SQLite file, or the URL of a PostgreSQL database.
        clock: the database time of SQLite, epoch seconds; PostgreSQL is asked for its own.

    Raises:
        JournalError: the URL is not one of a database, or its driver is not installed.
    """

    def __init__(self, place: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # The threads of this process wait here for their turn to write: SQLite's busy loop is not fair.
        self._one_writer = threading.Lock()
        self._path = place if isinstance(place, Path) else None
        self._opened: tuple[int, int] | None = None
        with _translated():
            self._engine = _sqlite_engine(place) if isinstance(place, Path) else _postgresql_engine(place)

    @property
    def is_sqlite(self) -> bool:
        return self._path is not None

    def is_new(self) -> bool:
        """Whether the database has no journal's schema yet."""
        with self.reading() as connection:
            return self._version(connection) == 0

    def migrate(self, fill: Callable[[Connection], None] = lambda connection: None) -> None:
        """Make the tables, or bring the schema to this version; and give the journal its id. One transaction.

        Args:
            fill: inserts what is known already (pictures of the store) into new tables; it is part of the transaction,
                so that no other process sees a new journal without them. It is not called for an existing journal.

        Raises:
            JournalError: the database cannot be used, or was written by a later version of this pack.
        """
        with self.writing() as connection:
            version = self._version(connection)
            if version > SCHEMA_VERSION:
                raise JournalError(
                    Text(
                        f"The journal was written by a later version of this pack (schema {version}; "
                        f"this one knows {SCHEMA_VERSION}).",
                        f"付费日志由更新版本的插件写入（结构版本 {version}，当前仅支持 {SCHEMA_VERSION}）。",
                    ),
                    advice=Text("Update this pack.", "请更新本插件。"),
                )
            if version == 0:
                _metadata.create_all(connection)
                connection.execute(delete(meta).where(meta.c.name == "schema"))
                connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
                fill(connection)
            elif version < SCHEMA_VERSION:
                for migration in MIGRATIONS[version - 1 :]:
                    migration(connection)
                connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))
            if read_meta(connection, "journal") is None:
                write_meta(connection, "journal", uuid.uuid4().hex)

    def _version(self, connection: Connection) -> int:
        if not self._engine.dialect.has_table(connection, "meta"):
            return 0
        return _number(read_meta(connection, "schema"))

    @staticmethod
    def mark(connection: Connection) -> Mark:
        """The journal's id and the number of transactions that have changed it, as the database has them."""
        rows = select(meta.c.name, meta.c.value).where(meta.c.name.in_(("journal", "count")))
        found = {row.name: row.value for row in connection.execute(rows)}
        return Mark(found.get("journal") or "", _number(found.get("count")))

    def count_up(self, connection: Connection) -> Mark:
        """Add one to the number of transactions that have changed the journal; returns the mark with it.

        To be called inside the transaction that changes the journal.
        """
        mark = self.mark(connection)
        counted = replace(mark, count=mark.count + 1)
        write_meta(connection, "count", str(counted.count))
        return counted

    def check(self) -> None:
        """Let SQLite check its file (``quick_check``); does nothing for PostgreSQL.

        Raises:
            DamagedError: SQLite finds the file damaged.
            JournalError: the file cannot be read.
        """
        if not self.is_sqlite:
            return
        with self.reading() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise _damaged(str(found))

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction beside which no other writer of any process runs; committed and synced when the block ends.

        An exception in the block rolls it back.

        Raises:
            DamagedError: the file was replaced or deleted since this object opened it, or is damaged.
            JournalError: it was not committed, or the database did not confirm that it was.
        """
        self._check_in_place()
        with self._one_writer, _translated(), self._engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A reading transaction: it blocks no writer, except SQLite's on a network file system (no WAL there).

        Raises:
            JournalError: the database cannot be read.
        """
        with _translated(), self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    def _check_in_place(self) -> None:
        """Raise DamagedError if the SQLite file is not the one that this object opened.

        SQLite goes on writing into a deleted or renamed file without an error; those rows would be lost.
        """
        if self._path is None:
            return
        identity = _identity(self._path)
        if self._opened is None:
            # Remember the file at the first transaction that finds one: the very first makes it.
            self._opened = identity
        elif identity != self._opened:
            raise _damaged("its file was replaced or deleted")

    def now(self, connection: Connection) -> float:
        """Database time in epoch seconds: the same clock for all servers that share a PostgreSQL database."""
        if self.is_sqlite:
            return self._clock()
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def close(self) -> None:
        self._engine.dispose()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; ``None`` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sqlite_engine(path: Path) -> Engine:
    # WAL needs shared memory, which a network file system does not have.
    mode = "DELETE" if on_network(path) else "WAL"
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY, "check_same_thread": False},
        pool_timeout=60,
        hide_parameters=True,
    )

    def connected(connection: Any, _record: object) -> None:
        # No BEGIN by the driver: its deferred one would fail as soon as two transactions that have read both write.
        # ``begun`` below begins each transaction.
        connection.isolation_level = None
        cursor = connection.cursor()
        _set_journal_mode(cursor, mode)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA fullfsync=ON")
        cursor.close()

    def begun(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


# Limits in seconds, so that one server that hangs inside a transaction does not block the others for ever.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "options": "-c lock_timeout=30s -c statement_timeout=30s -c idle_in_transaction_session_timeout=30s",
}


def _postgresql_engine(url: str) -> Engine:
    # SQLAlchemy takes a bare "postgresql:" for psycopg2; this pack uses psycopg 3.
    scheme, _, rest = url.partition("://")
    driver = "postgresql+psycopg" if scheme in ("postgres", "postgresql") else scheme
    try:
        return create_engine(
            f"{driver}://{rest}",
            pool_size=5,
            max_overflow=5,
            pool_timeout=60,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=_PATIENCE if "psycopg" in driver else {},
        )
    except (exc.ArgumentError, ValueError):
        # "from None": the cause's text may repeat the URL's password.
        raise JournalError(
            Text(
                "REMOTE_IMAGE_JOURNAL_URL is not the URL of a database (its value is not shown); it must be "
                "postgresql://user:password@host:port/name.",
                "REMOTE_IMAGE_JOURNAL_URL 不是有效的数据库地址（值不显示），应为 "
                "postgresql://user:password@host:port/name。",
            )
        ) from None
    except ImportError as cause:
        raise JournalError(
            Text(
                "REMOTE_IMAGE_JOURNAL_URL names a PostgreSQL database, but its driver is not installed.",
                "REMOTE_IMAGE_JOURNAL_URL 指定了 PostgreSQL 数据库，但未安装其驱动。",
            ),
            advice=Text(
                'Install it into the Python of ComfyUI: pip install "psycopg[binary]"',
                '请在 ComfyUI 的 Python 中安装：pip install "psycopg[binary]"',
            ),
        ) from cause


def _set_journal_mode(cursor: sqlite3.Cursor, mode: str) -> None:
    """Run ``PRAGMA journal_mode``, again until the file is not locked.

    SQLite does not wait for a lock in this pragma, so one of two processes that make the file at once fails at first.

    Raises:
        sqlite3.OperationalError: the file is still locked after ``_BUSY`` seconds, or another error.
    """
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            cursor.execute(f"PRAGMA journal_mode={mode}")
            return
        except sqlite3.OperationalError as problem:
            if "locked" not in str(problem) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# What SQLite says of a damaged file, and both databases of an older copy that lacks a column or a table by now.
_DAMAGED = re.compile(r"malformed|not a database|no such (column|table)|(column|relation) \S+ does not exist")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of SQLAlchemy and of the disk into JournalError, or DamagedError if the file is damaged."""
    try:
        yield
    except exc.SQLAlchemyError as cause:
        said = str(getattr(cause, "orig", None) or cause)
        if _DAMAGED.search(said):
            raise _damaged(said) from None
        raise _unusable(said) from None
    except OSError as cause:
        raise _unusable(str(cause)) from None


def _unusable(said: str) -> JournalError:
    reason = shortened(said, 300)
    return JournalError(Text(f"The journal cannot be used: {reason}.", f"无法使用付费日志：{reason}。"))


def _damaged(said: str) -> DamagedError:
    reason = shortened(said, 300)
    return DamagedError(Text(f"The journal is damaged: {reason}.", f"付费日志已损坏：{reason}。"))


def older_copy() -> DamagedError:
    """The error for a journal with fewer changes than this process has seen in it: an older copy was restored."""
    return _damaged("it is an older copy")
