"""Opening the journal, also when it is damaged, missing or an older copy: what can be read is inserted into a new one.

A task that the journal has lost would be bought again. So after a loss nothing is bought until the server's owner has
acknowledged it, by deleting the file ``NOTICE`` or in the task list.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import SQLAlchemyError

from ..core import AmbiguousSubmitError, ConfigurationError, JournalSettings, Secret, Text, alone, pack_logger
from .model import ANY_PICTURE, DamagedError, JournalError, Mark, State
from .rows import insert_pictures, insert_tasks, json_of
from .store import Store, read_mark, write_mark
from .tables import Database, attempts, limits, request_rows, results, run_items, write_meta

_JOURNAL = "journal.sqlite3"
# The mark of the journal, as a file beside it: it tells a missing journal from one that never was, and an older copy
# from the latest one. One file for each kind of database, for a directory may have served both.
_MADE = "journal.made"
_MADE_SHARED = "journal.shared.made"
_LOCK = "journal.lock"
_NEW = "journal.new.sqlite3"
_ASIDE = "journal.damaged-"
# Bytes; a header that claims a longer file is damaged itself.
_LARGEST_RUIN = 2**34
NOTICE = "JOURNAL-WAS-DAMAGED.txt"


def open_sqlite(directory: Path, store: Store, clock: Callable[[], float], last: Mark) -> Database:
    """Open the journal in ``directory``: make, migrate or replace it, and insert the store's open tasks into it.

    Args:
        last: the latest mark of the journal that this process has seen; empty before the first opening.

    Raises:
        JournalError: it cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        # Read the mark's file before the database's count: other processes raise both, and a mark that was read later
        # would make a sound database look like an older copy.
        expected = last.or_later(read_mark(directory / _MADE))
        database = _open_sound(directory, store, clock)
        if database is None:
            with _replacement_lock(directory):
                # Look again: another process may have replaced it before this one got the lock.
                database = _open_sound(directory, store, clock) or _replace(directory, store, clock)
            expected = Mark()
        _catch_up(database, directory / _MADE, expected, store, directory)
    except OSError as problem:
        raise _unusable_folder(problem) from None
    return database


def _unusable_folder(problem: OSError) -> JournalError:
    return JournalError(
        Text(f"The folder of the journal cannot be used: {problem}.", f"无法使用付费日志所在的文件夹：{problem}。")
    )


def write_marks(settings: JournalSettings, store: Store, mark: Mark) -> Mark:
    """Write the journal's mark into a file beside the journal and one in its store; returns the latest mark known.

    Two files, for a backup may bring back one of the two folders without the other. A file with a later mark of this
    journal (another process has written it) is left as it is, and returned; so is one with another journal's mark, but
    that is not returned.

    Raises:
        OSError, ValueError: a file could not be written.
    """
    path = settings.directory / (_MADE_SHARED if settings.url else _MADE)
    latest = mark
    for before, write in ((read_mark(path), partial(write_mark, path)), (store.mark_of(mark.journal), store.put_mark)):
        if before.journal not in ("", mark.journal):
            continue  # the mark of a journal that has replaced this one
        if before.count < mark.count:
            write(mark)
        latest = latest.or_later(before)
    return latest


def _catch_up(database: Database, made: Path, expected: Mark, store: Store, noticed_in: Path) -> None:
    """Insert the store's open tasks into the journal, and find out whether it is an older copy.

    If it is, first write the notice; then also insert all pictures of the store, and raise the count to the expected
    one, in the same transaction as the tasks.

    Args:
        made: the mark's file; it is written at the end.
        expected: the latest mark known; the marks in the store and in its tasks are added to it here.
        noticed_in: the folder for the notice, one that all servers of this journal read.
    """
    made.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tasks = store.tasks()
    with database.reading() as connection:
        journal = Database.mark(connection).journal
    if expected.journal in ("", journal):
        counts = [task.journal_count for task in tasks if task.journal == journal]
        expected = expected.or_later(store.mark_of(journal)).or_later(Mark(journal, max(counts, default=0)))
    # Read the database's count after all the marks, as in open_sqlite().
    with database.reading() as connection:
        mark = Database.mark(connection)
    behind = mark.is_behind(expected)
    if behind:
        pack_logger().error("The journal is an older copy: %s changes instead of %s.", mark.count, expected.count)
        noticed_in.mkdir(mode=0o700, parents=True, exist_ok=True)
        (noticed_in / NOTICE).write_text(_notice(_OLDER_COPY), encoding="utf-8")
    if behind or tasks:
        side_cars = list(store.side_cars()) if behind else []
        with database.writing() as connection:
            insert_pictures(connection, database.now(connection), side_cars)
            insert_tasks(connection, database.now(connection), tasks)
            mark = Database.mark(connection)
            if mark.is_behind(expected) and mark.journal == expected.journal:
                mark = expected
                write_meta(connection, "count", str(mark.count))
    with suppress(OSError):
        write_mark(made, mark)


def _make_private(directory: Path) -> None:
    """Remove the permissions of group and others from the journal's folder and files (POSIX only).

    They hold prompts and links to pictures; an older version, a copy or another umask may have left them readable.
    """
    if os.name != "posix":
        return
    for path in (directory, *_parts(directory / _JOURNAL)):
        with suppress(OSError):
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                path.chmod(mode & 0o700)


def _open_sound(directory: Path, store: Store, clock: Callable[[], float]) -> Database | None:
    """Open the SQLite journal, and make it if there never was one; ``None`` if it is damaged, missing or empty.

    A new one gets the attempts of the store's pictures.

    Raises:
        JournalError: it cannot be used for another reason than damage.
    """
    path = directory / _JOURNAL
    was_there = _was_there(directory, store)
    if not (path.exists() and path.stat().st_size) and was_there:
        return None
    database = Database(path, clock)
    try:
        database.check()
        is_new = database.is_new()
        if was_there and is_new:
            # A file without tables: they were in its -wal file, which is missing.
            database.close()
            return None
        side_cars = list(store.side_cars()) if is_new else []
        database.migrate(lambda connection: insert_pictures(connection, database.now(connection), side_cars))
    except DamagedError as problem:
        database.close()
        pack_logger().error("%s", problem.what.en)
        return None
    except BaseException:
        database.close()
        raise
    return database


def _was_there(directory: Path, store: Store) -> bool:
    """Whether ``directory`` has had a journal: its mark exists, or its own store has pictures or tasks."""
    if (directory / _MADE).exists():
        return True
    # A store outside of ``directory`` may be shared: its side-cars may belong to the journals of other servers.
    return store.is_within(directory) and (bool(store.tasks()) or next(store.side_cars(), None) is not None)


@contextmanager
def _replacement_lock(directory: Path) -> Iterator[None]:
    """A lock between processes, which a process that dies gives up.

    Raises:
        JournalError: another process held the lock for 60 s, or its file cannot be used.
    """
    try:
        with alone(directory / _LOCK):
            yield
    except sqlite3.Error as problem:
        raise JournalError(
            Text(f"The damaged journal cannot be replaced: {problem}.", f"无法替换已损坏的付费日志：{problem}。")
        ) from None


def open_postgresql(url: str, store: Store | None, directory: Path, last: Mark) -> Database:
    """Open the PostgreSQL journal of several servers: make or migrate it, and insert the store's open tasks.

    The password in ``url`` becomes a :class:`Secret`, so that logs and errors never show it. A damaged database is not
    replaced. One that is empty or lacks changes although a mark says that it had them (a replica that became the
    primary) counts as an older copy: the notice is written.

    Args:
        store: the shared folder of pictures; ``None`` if none is named.
        directory: this server's own folder, for the mark's file.
        last: as for :func:`open_sqlite`.

    Raises:
        ConfigurationError: ``store`` is ``None``.
        JournalError: the driver is missing, or the database cannot be used.
    """
    if store is None:
        raise ConfigurationError(
            Text(
                "REMOTE_IMAGE_JOURNAL_URL is set, but REMOTE_IMAGE_STORE_DIR is not: servers that share a journal also "
                "share a folder of pictures.",
                "已设置 REMOTE_IMAGE_JOURNAL_URL，但未设置 REMOTE_IMAGE_STORE_DIR："
                "共用付费日志的服务器还需共用图片文件夹。",
            )
        )
    password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    for spelling in (password, unquote(password)):
        if spelling:
            Secret(spelling)
    expected = last.or_later(read_mark(directory / _MADE_SHARED))
    database = Database(url)
    try:
        # The folder may have served another journal before: its pictures are paid, so a new journal gets them.
        side_cars = list(store.side_cars()) if database.is_new() else []
        database.migrate(lambda connection: insert_pictures(connection, database.now(connection), side_cars))
        _catch_up(database, directory / _MADE_SHARED, expected, store, store.directory)
    except OSError as problem:
        database.close()
        raise _unusable_folder(problem) from None
    except BaseException:
        database.close()
        raise
    return database


def notices_of(settings: JournalSettings) -> list[Path]:
    """The paths where a notice may be: beside the journal, and with PostgreSQL also in the shared store."""
    shared = [settings.store] if settings.url and settings.store else []
    return [folder / NOTICE for folder in (settings.directory, *shared)]


def is_unacknowledged(notices: Sequence[Path]) -> bool:
    """Whether a notice exists: the journal has lost something, and nobody has acknowledged it."""
    return any(notice.exists() for notice in notices)


def check_acknowledged(notices: Sequence[Path]) -> None:
    """Refuse to go on while a notice exists.

    Raises:
        JournalError: the journal was damaged, lost or replaced by an older copy, and nobody has acknowledged it.
    """
    for notice in filter(Path.exists, notices):
        raise JournalError(
            Text(
                f"The journal of paid tasks was damaged, lost or replaced by an older copy. What could be read was "
                f"carried over, but a task may be missing, and buying it again would be paid again. Read {notice}.",
                f"付费日志已损坏、丢失或被旧副本替换。可读取的内容均已保留，但仍可能缺少某些任务，再次购买会重复付费。"
                f"请阅读 {notice}。",
            ),
            advice=Text(
                f"To acknowledge it and go on, delete that file ({NOTICE}). Local nodes go on as ever.",
                f"确认后请删除该文件（{NOTICE}）即可继续。本地节点不受影响。",
            ),
        )


def acknowledge(notices: Sequence[Path]) -> None:
    """Delete the notices: the server's owner knows of the loss, and paid nodes may buy again.

    Raises:
        JournalError: a notice cannot be deleted.
    """
    try:
        for notice in notices:
            notice.unlink(missing_ok=True)
    except OSError as problem:
        raise JournalError(
            Text(f"The notice cannot be deleted: {problem}.", f"无法删除提示文件：{problem}。")
        ) from None


def _replace(directory: Path, store: Store, clock: Callable[[], float]) -> Database:
    """Make a new journal in the place of a damaged or missing one, from what can still be read; returns it opened.

    In this order: write the notice; make the new file under another name, with all readable rows of the damaged file
    and of those kept earlier, and the store's pictures and tasks; rename the damaged file, which is kept; rename the
    new one. After a crash between two of these steps the journal is still damaged or missing, and the next opening
    begins again.
    """
    path, new = directory / _JOURNAL, directory / _NEW
    aside = directory / f"{_ASIDE}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.sqlite3"
    # The notice first: after a crash in any later step nothing may be bought before the owner has acknowledged it.
    (directory / NOTICE).write_text(_notice(_kept_aside(aside) if path.exists() else _MISSING), encoding="utf-8")
    ruins = [path, *sorted(directory.glob(f"{_ASIDE}*.sqlite3"), reverse=True)]
    for part in _parts(new):
        part.unlink(missing_ok=True)
    database = Database(new, clock)
    try:
        database.migrate()
        with database.writing() as connection:
            for ruin in ruins:
                for table, rows in _readable_rows(ruin, directory).items():
                    # A run that was forgotten since an earlier damage stays forgotten.
                    if table is not run_items or ruin == path:
                        _insert_missing(connection, table, rows)
            _complete_requests(connection)
            insert_pictures(connection, database.now(connection), store.side_cars())
            insert_tasks(connection, database.now(connection), store.tasks())
    finally:
        # Closing the last connection moves the -wal file's content into the main file, which alone is renamed below.
        database.close()
    for part, kept in zip(_parts(path), _parts(aside), strict=True):
        if part.exists():
            part.rename(kept)
    new.rename(path)
    replaced = Database(path, clock)
    replaced.migrate()
    return replaced


def _parts(path: Path) -> list[Path]:
    """The path of a SQLite file, and those of its -wal and -shm files."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


_MISSING = Text("The file was missing or empty.", "付费日志文件缺失或为空。")
_OLDER_COPY = Text("The file is an older copy of it, and stays in use.", "付费日志文件是旧副本，将继续使用。")


def _kept_aside(aside: Path) -> Text:
    return Text(f"The damaged file was kept: {aside}", f"已损坏的文件保留在：{aside}")


def _notice(found: Text) -> str:
    return (
        "The journal of paid tasks was damaged, lost or replaced by an older copy.\n"
        "Whatever could be read, every picture and every open task in the store was carried over. A task may still be\n"
        "missing: queueing its workflow again would buy it again. Compare with the task list or the bill of your\n"
        "accounts.\n"
        f"{found.en}\n"
        "Delete this file to let the paid nodes work again.\n\n"
        "付费日志已损坏、丢失或被旧副本替换。\n"
        "所有可读取的记录以及图片库中的图片和未完成任务均已保留，但仍可能缺少某些任务：重新运行其工作流会再次购买。\n"
        "请与账户的任务列表或账单核对。\n"
        f"{found.zh}\n"
        "删除本文件后，付费节点即可继续使用。\n"
    )


def _readable_rows(ruin: Path, directory: Path) -> dict[Table, list[dict[str, Any]]]:
    """The rows of a damaged file that SQLite can still read, by table; it reads a copy in a temporary folder."""
    if not ruin.exists():
        return {}
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "ruin.sqlite3"
        for part, copied in zip(_parts(ruin)[:2], _parts(copy), strict=False):
            if part.exists():
                shutil.copyfile(part, copied)
        _pad(copy)
        return {table: list(_rows(copy, table)) for table in (request_rows, attempts, results, limits, run_items)}


def _pad(copy: Path) -> None:
    """Extend a truncated file with zeros to the length in its header: SQLite reads nothing of one that is too short."""
    with copy.open("r+b") as file:
        header = file.read(100)
        page_size = int.from_bytes(header[16:18], "big")
        full_size = (65536 if page_size == 1 else page_size) * int.from_bytes(header[28:32], "big")
        if header.startswith(b"SQLite format 3") and copy.stat().st_size < full_size < _LARGEST_RUIN:
            file.truncate(full_size)


def _rows(copy: Path, table: Table) -> Iterator[dict[str, Any]]:
    """The readable rows of a table, each once: from the first one until SQLite fails, then from the last one."""
    seen: set[int] = set()
    for direction in ("ASC", "DESC"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as old:
            old.row_factory = sqlite3.Row
            old.execute("PRAGMA writable_schema=ON")
            rows = old.execute(f"SELECT rowid AS row_number, * FROM {table.name} ORDER BY rowid {direction}")  # noqa: S608
            for row in rows:
                values = dict(row)
                number = values.pop("row_number")
                if number not in seen:
                    seen.add(number)
                    yield {name: value for name, value in values.items() if name in table.c}


def _insert_missing(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert salvaged rows; those that exist already or do not fit are skipped. Attempts lose their owner."""
    for values in rows:
        if table is attempts:
            values = _without_owner(values)
        # A savepoint for each row, so that one that fails does not roll back the others.
        with suppress(SQLAlchemyError), connection.begin_nested():
            connection.execute(insert(table).values(**values))


def _without_owner(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a salvaged attempt without owner and place of the limiter.

    Its owner wrote into the damaged file, which may lack the last changes. So a ``prepared`` attempt that was admitted
    may have been sent since, and becomes ``ambiguous``; so does one with an unreadable state.
    """
    state = next((state for state in State if state.value == values.get("state")), State.AMBIGUOUS)
    if state is State.PREPARED and values.get("admitted_at") is not None:
        state = State.AMBIGUOUS
    if state is State.AMBIGUOUS and not values.get("error"):
        lost = AmbiguousSubmitError(
            Text(
                "The journal was damaged while this request was under way: it may have been accepted.",
                "该请求进行期间付费日志损坏，服务端可能已经受理。",
            ),
            request_id=str(values.get("request_id") or ""),
        )
        values = {**values, "error": json_of(lost)}
    return {**values, "state": state, "owner": None, "holds_slot": False}


def _complete_requests(connection: Connection) -> None:
    """Insert a row into ``requests`` for each attempt whose request could not be read, with what the attempt tells."""
    orphaned = select(attempts).where(attempts.c.key.not_in(select(request_rows.c.key)))
    for row in connection.execute(orphaned).all():
        connection.execute(
            insert(request_rows).values(
                key=row.key,
                provider=row.provider,
                endpoint=row.endpoint,
                profile=row.profile,
                account=row.account,
                sandbox=row.account == "sandbox",
                take=0,
                expected_pixels=ANY_PICTURE,
                summary="",
                created_at=row.created_at,
                submit_again=False,
            )
        )
