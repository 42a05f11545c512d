"""Opening the journal, also when it is damaged or gone: what can be read is carried over, and the owner is told.

A forgotten debt would be paid again. So a journal that replaces a lost one buys nothing until the server's owner has
acknowledged that, by deleting the notice next to it or in the task list.
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
from .model import ANY_PICTURE, DamagedError, JournalError, State
from .rows import insert_pictures, insert_tasks, json_of
from .store import Mark, Store, read_mark, write_mark
from .tables import Database, attempts, limits, request_rows, results, write_meta

_JOURNAL = "journal.sqlite3"
# Says that there was a journal here once, and how far it came: without it, a missing one is a new one, and an older
# copy the latest one. A directory may have served both kinds of database.
_MADE = "journal.made"
_MADE_SHARED = "journal.shared.made"
_LOCK = "journal.lock"
_NEW = "journal.new.sqlite3"
_ASIDE = "journal.damaged-"
_LARGEST_RUIN = 2**34
NOTICE = "JOURNAL-WAS-DAMAGED.txt"


def open_sqlite(directory: Path, store: Store, clock: Callable[[], float], last: Mark) -> Database:
    """The journal in ``directory``, made, migrated or salvaged.

    Args:
        last: how far this process has seen the journal come.

    Raises:
        JournalError: it cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        # Read before the database's own count, which other processes raise meanwhile.
        expected = last.or_later(read_mark(directory / _MADE))
        database = _sound(directory, store, clock)
        if database is None:
            with _alone(directory):
                # Another process may have been quicker.
                database = _sound(directory, store, clock) or _replace(directory, store, clock)
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
    """Write how far the journal has come beside it and into its store: either may be put back without the other.

    Returns:
        The latest mark of this journal that is known by now: another process may have come further.

    Raises:
        OSError, ValueError: it could not be written.
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
    """Take over what the store knows of tasks under way; of everything, if the journal is an older copy of itself.

    ``noticed_in``: a folder of all servers that use the journal, so that each waits for the acknowledgement.
    """
    made.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tasks = store.tasks()
    with database.reading() as connection:
        journal = Database.mark(connection).journal
    if expected.journal in ("", journal):
        counts = [task.journal_count for task in tasks if task.journal == journal]
        expected = expected.or_later(store.mark_of(journal)).or_later(Mark(journal, max(counts, default=0)))
    # Read after all the marks, for the same reason.
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
    """Take the folder and the journal's files away from other users: they hold prompts and links to pictures.

    An older version, a copy or another umask may have left them readable.
    """
    if os.name != "posix":
        return
    for path in (directory, *_parts(directory / _JOURNAL)):
        with suppress(OSError):
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                path.chmod(mode & 0o700)


def _sound(directory: Path, store: Store, clock: Callable[[], float]) -> Database | None:
    """The journal, made if there never was one; ``None`` if it is damaged or gone."""
    path = directory / _JOURNAL
    was_there = _was_there(directory, store)
    if not (path.exists() and path.stat().st_size) and was_there:
        return None
    database = Database(path, clock)
    try:
        database.check()
        is_new = database.is_new()
        if was_there and is_new:
            # Without its -wal file nothing may be left in it.
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
    if (directory / _MADE).exists():
        return True
    # The side-cars of a store elsewhere may be about the journals of other servers.
    return store.is_within(directory) and (bool(store.tasks()) or next(store.side_cars(), None) is not None)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process at a time, whatever becomes of the others."""
    try:
        with alone(directory / _LOCK):
            yield
    except sqlite3.Error as problem:
        raise JournalError(
            Text(f"The damaged journal cannot be replaced: {problem}.", f"无法替换已损坏的付费日志：{problem}。")
        ) from None


def open_postgresql(url: str, store: Store | None, directory: Path, last: Mark) -> Database:
    """The journal of several servers.

    Args:
        directory, last: as for :func:`open_sqlite`; an older copy is what a server that takes over may have.

    Raises:
        ConfigurationError: no shared folder for the pictures is named.
        JournalError: no driver, or the database cannot be used.
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
        # A folder of pictures that served another journal: they are paid.
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
    """Where a notice may stand: beside the journal, and in the store of servers that share one."""
    shared = [settings.store] if settings.url and settings.store else []
    return [folder / NOTICE for folder in (settings.directory, *shared)]


def is_unacknowledged(notices: Sequence[Path]) -> bool:
    """Whether the journal replaces a lost one, and nobody has acknowledged that."""
    return any(notice.exists() for notice in notices)


def check_acknowledged(notices: Sequence[Path]) -> None:
    """
    Raises:
        JournalError: the journal replaces a lost one, and nobody has acknowledged that.
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
    """
    Raises:
        JournalError: the notice cannot be deleted.
    """
    try:
        for notice in notices:
            notice.unlink(missing_ok=True)
    except OSError as problem:
        raise JournalError(
            Text(f"The notice cannot be deleted: {problem}.", f"无法删除提示文件：{problem}。")
        ) from None


def _replace(directory: Path, store: Store, clock: Callable[[], float]) -> Database:
    """A new journal in the place of a damaged or missing one, with whatever of it can still be read.

    It is made beside and put in its place whole: a crash on the way leaves one that is found to be missing.
    """
    path, new = directory / _JOURNAL, directory / _NEW
    aside = directory / f"{_ASIDE}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.sqlite3"
    # Ahead of everything else: from here on nothing is bought until the owner knows.
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
                    _insert_missing(connection, table, rows)
            _complete_requests(connection)
            insert_pictures(connection, database.now(connection), store.side_cars())
            insert_tasks(connection, database.now(connection), store.tasks())
    finally:
        # Closing the last connection brings everything into the one file.
        database.close()
    for part, kept in zip(_parts(path), _parts(aside), strict=True):
        if part.exists():
            part.rename(kept)
    new.rename(path)
    replaced = Database(path, clock)
    replaced.migrate()
    return replaced


def _parts(path: Path) -> list[Path]:
    """A SQLite file and those beside it."""
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
    """Every row that SQLite can still read of a damaged file; it works on a copy."""
    if not ruin.exists():
        return {}
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "ruin.sqlite3"
        for part, copied in zip(_parts(ruin)[:2], _parts(copy), strict=False):
            if part.exists():
                shutil.copyfile(part, copied)
        _pad(copy)
        return {table: list(_rows(copy, table)) for table in (request_rows, attempts, results, limits)}


def _pad(copy: Path) -> None:
    """SQLite reads nothing of a file that was cut off; with its length back, it reads what is there."""
    with copy.open("r+b") as file:
        header = file.read(100)
        page_size = int.from_bytes(header[16:18], "big")
        whole = (65536 if page_size == 1 else page_size) * int.from_bytes(header[28:32], "big")
        if header.startswith(b"SQLite format 3") and copy.stat().st_size < whole < _LARGEST_RUIN:
            file.truncate(whole)


def _rows(copy: Path, table: Table) -> Iterator[dict[str, Any]]:
    """From the front until SQLite fails, then from the back."""
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
    for values in rows:
        if table is attempts:
            values = _without_owner(values)
        # A row that does not fit any more is no reason to lose the others.
        with suppress(SQLAlchemyError), connection.begin_nested():
            connection.execute(insert(table).values(**values))


def _without_owner(values: dict[str, Any]) -> dict[str, Any]:
    """An attempt as it stands now: its owner wrote into the old journal, which may have lost his last words."""
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
    """A request for each attempt whose own row could not be read."""
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
