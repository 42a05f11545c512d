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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import SQLAlchemyError

from .attempts import json_of, put_attempt, put_request
from .errors import AmbiguousSubmitError, ConfigurationError, Provider
from .files import alone
from .orders import ANY_PICTURE, Attempt
from .polling import TaskRef
from .redaction import Secret, pack_logger
from .schema import Database, attempts, limits, requests, results
from .states import DamagedError, JournalError, State
from .store import SideCar, Store
from .text import Text

_JOURNAL = "journal.sqlite3"
# Says that there was a journal here once: without it, a missing one is a new one.
_MADE = "journal.made"
_LOCK = "journal.lock"
_NEW = "journal.new.sqlite3"
_ASIDE = "journal.damaged-"
_LARGEST_RUIN = 2**34
NOTICE = "JOURNAL-WAS-DAMAGED.txt"


def open_sqlite(directory: Path, store: Store, clock: Callable[[], float]) -> Database:
    """The journal in ``directory``, made, migrated or salvaged.

    Raises:
        JournalError: it cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        database = _sound(directory, store, clock)
        if database is None:
            with _alone(directory):
                # Another process may have been quicker.
                database = _sound(directory, store, clock) or _replace(directory, store, clock)
    except OSError as problem:
        raise JournalError(
            Text(
                f"The folder of the journal cannot be used: {problem}.",
                f"无法使用付费日志所在的文件夹：{problem}。",
            )
        ) from None
    with suppress(OSError):
        (directory / _MADE).touch()
    return database


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
    if not (path.exists() and path.stat().st_size) and _was_there(directory, store):
        return None
    database = Database(path, clock)
    try:
        database.check()
        database.migrate()
    except DamagedError as problem:
        database.close()
        pack_logger().error("%s", problem.what.en)
        return None
    except BaseException:
        database.close()
        raise
    return database


def _was_there(directory: Path, store: Store) -> bool:
    return (directory / _MADE).exists() or next(store.side_cars(), None) is not None


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


def open_postgresql(url: str, store: Store | None) -> Database:
    """The journal of several servers.

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
    database = Database(url)
    try:
        # A folder of pictures that served another journal: they are paid.
        side_cars = list(store.side_cars()) if database.is_new() else []
        database.migrate(lambda connection: _insert_side_cars(connection, database.now(connection), side_cars))
    except BaseException:
        database.close()
        raise
    return database


def is_unacknowledged(directory: Path) -> bool:
    """Whether the journal replaces a lost one, and nobody has acknowledged that."""
    return (directory / NOTICE).exists()


def check_acknowledged(directory: Path) -> None:
    """
    Raises:
        JournalError: the journal replaces a lost one, and nobody has acknowledged that.
    """
    if is_unacknowledged(directory):
        notice = directory / NOTICE
        raise JournalError(
            Text(
                f"The journal of paid tasks was damaged or lost and has been replaced. What could be read was carried "
                f"over, but a task may be missing, and buying it again would be paid again. Read {notice}.",
                f"付费日志已损坏或丢失，并已重建。可读取的内容均已保留，但仍可能缺少某些任务，再次购买会重复付费。"
                f"请阅读 {notice}。",
            ),
            advice=Text(
                f"To acknowledge it and go on, delete that file ({NOTICE}). Local nodes go on as ever.",
                f"确认后请删除该文件（{NOTICE}）即可继续。本地节点不受影响。",
            ),
        )


def acknowledge(directory: Path) -> None:
    """
    Raises:
        JournalError: the notice cannot be deleted.
    """
    try:
        (directory / NOTICE).unlink(missing_ok=True)
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
    (directory / NOTICE).write_text(_notice(aside if path.exists() else None), encoding="utf-8")
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
            _insert_side_cars(connection, database.now(connection), store.side_cars())
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


def _notice(aside: Path | None) -> str:
    kept_en = f"The damaged file was kept: {aside}\n" if aside else "The file was missing or empty.\n"
    kept_zh = f"已损坏的文件保留在：{aside}\n" if aside else "付费日志文件缺失或为空。\n"
    return (
        "The journal of paid tasks was damaged or lost and has been replaced by a new one.\n"
        "Whatever could be read, and every picture in the store, was carried over. A task may still be missing:\n"
        "queueing its workflow again would buy it again. Compare with the task list or the bill of your accounts.\n"
        f"{kept_en}"
        "Delete this file to let the paid nodes work again.\n\n"
        "付费日志已损坏或丢失，并已重建。\n"
        "所有可读取的记录以及图片库中的图片均已保留，但仍可能缺少某些任务：重新运行其工作流会再次购买。\n"
        "请与账户的任务列表或账单核对。\n"
        f"{kept_zh}"
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
        return {table: list(_rows(copy, table)) for table in (requests, attempts, results, limits)}


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
    orphaned = select(attempts).where(attempts.c.key.not_in(select(requests.c.key)))
    for row in connection.execute(orphaned).all():
        connection.execute(
            insert(requests).values(
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


def _insert_side_cars(connection: Connection, now: float, found: Iterable[SideCar]) -> None:
    known = set(connection.execute(select(attempts.c.id)).scalars())
    for side_cars in _by_attempt(found):
        if side_cars[0].journal_id not in known:
            _insert_purchase(connection, now, side_cars)
        _insert_results(connection, side_cars)


def _by_attempt(side_cars: Iterable[SideCar]) -> list[list[SideCar]]:
    groups: dict[str, list[SideCar]] = {}
    for side_car in side_cars:
        groups.setdefault(side_car.journal_id, []).append(side_car)
    return list(groups.values())


def _insert_purchase(connection: Connection, now: float, side_cars: list[SideCar]) -> None:
    first = side_cars[0]
    known = len({side_car.position for side_car in side_cars})
    incomplete = known < first.count and first.task_id != ""
    provider = cast(Provider, first.provider)
    attempt = Attempt(
        journal_id=first.journal_id,
        key=first.key,
        state=State.PARKED if incomplete else State.STORED,
        fence=1,
        owner=None,
        request_id=first.request_id,
        task=TaskRef(provider, first.endpoint, first.task_id, first.request_id, tuple(first.sub_task_ids)),
        result_url="",
        account=first.account,
        profile=first.profile,
        sandbox=first.sandbox,
        take=first.take,
        pictures=first.pictures,
        expected_pixels=first.pixels or ANY_PICTURE,
        summary=first.summary,
        tried_at=first.bought_at,
        changed_at=now,
        total=None if incomplete else known,
    )
    put_request(connection, attempt, first.bought_at)
    put_attempt(
        connection,
        attempt,
        now,
        counted=first.pictures,
        admitted_at=first.bought_at,
        submitting_at=first.bought_at,
    )


def _insert_results(connection: Connection, side_cars: list[SideCar]) -> None:
    """The pictures of an attempt that the journal does not name (any more)."""
    named = select(results.c.position).where(results.c.attempt == side_cars[0].journal_id)
    known = set(connection.execute(named).scalars())
    for side_car in {side_car.position: side_car for side_car in side_cars}.values():
        if side_car.position not in known:
            connection.execute(
                insert(results).values(
                    attempt=side_car.journal_id,
                    position=side_car.position,
                    sub_task_id=side_car.sub_task_id,
                    sha256=side_car.sha256,
                )
            )
