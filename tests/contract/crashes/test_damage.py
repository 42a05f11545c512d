"""A disk that is full, read-only or damaged, and a clock that jumps: nothing is bought unseen, nothing bought is lost.

What is real here: a small tmpfs that is filled or mounted read-only (where this machine lets the tests mount), an
immutable folder, and files overwritten behind the journal's back. RLIMIT_FSIZE stands in for a full disk everywhere.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from emulator import Emulator
from tests.contract import buyer
from tests.contract.buyer import Errand, Outcome, Visit, accepted, children, polls, slow, submits, until, visit
from tests.thinned import every_case, thinned

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks and POSIX signals")

HOURS = 5 * 3600.0


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def errand(emulator: Emulator, folder: Path, **more: Any) -> Errand:
    return Errand(emulator.url, str(folder / "journal"), **more)


def journal_file(wanted: Errand) -> Path:
    return Path(wanted.directory) / "journal.sqlite3"


def refused(outcome: Outcome) -> str:
    """The error of a journal that cannot be used; nothing was sent, and it says so in both languages."""
    problem = outcome.problem
    assert problem is not None, outcome
    assert problem.is_a("ConfigurationError"), problem
    assert problem.billed == "no" and problem.provider is None
    assert not problem.request_id and not problem.task_id
    assert "日志" in problem.zh and "journal" in problem.en
    assert "Traceback" not in problem.en
    return problem.en


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own; the test is skipped where it may not be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system here; the tests with RLIMIT_FSIZE cover this")
    try:
        yield folder
    finally:
        # Lazily: a child that hangs must not keep it.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


# ---- no place to write


def test_a_file_where_the_folder_should_be(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    refused(visit(errand(emulator, tmp_path)).outcome)
    assert submits(emulator) == []


@contextmanager
def immutable(folder: Path) -> Iterator[None]:
    """Nothing can be made in a folder; for root, who may do everything, by the file system's own flag."""
    if os.geteuid():
        folder.chmod(0o500)
        try:
            yield
        finally:
            folder.chmod(0o700)
        return
    change = ["chattr", "+i", str(folder)]
    if shutil.which("chattr") is None or subprocess.run(change, capture_output=True, check=False).returncode:
        pytest.skip("root may write anywhere here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


@pytest.mark.parametrize("provider", ["hidream", "volcengine"])
@pytest.mark.parametrize("there", [True, False], ids=["the folder", "its parent"])
def test_a_folder_that_cannot_be_written(there: bool, provider: str, emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path / "disk", provider=provider)
    (tmp_path / "disk" / "children").mkdir(parents=True)
    locked = Path(wanted.directory) if there else Path(wanted.directory).parent
    locked.mkdir(exist_ok=True)
    with immutable(locked):
        refused(visit(wanted).outcome)
    assert submits(emulator) == []
    assert visit(wanted).outcome.delivered, "it works again as soon as it can"


@contextmanager
def on_a_small_disk(emulator: Emulator, folder: Path, **more: Any) -> Iterator[tuple[Errand, Path]]:
    """An errand whose journal lies on a disk of its own, and whose report does not."""
    with small_disk(folder / "disk", 8192) as disk:
        (disk / "journal").mkdir()
        (folder / "journal").symlink_to(disk / "journal")
        yield errand(emulator, folder, **more), disk


def test_a_disk_that_became_read_only(emulator: Emulator, tmp_path: Path) -> None:
    with on_a_small_disk(emulator, tmp_path) as (wanted, disk):
        assert visit(wanted).outcome.delivered
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused(visit(wanted, pictures=(2,)).outcome)
        # It may buy or refuse here: both are right.
        again = visit(wanted)
        assert again.outcome.delivered or refused(again.outcome)
        assert len(submits(emulator)) == 1


# ---- a full disk


@pytest.mark.parametrize("provider", ["hidream", "volcengine"])
def test_a_full_disk_before_the_submit(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    with on_a_small_disk(emulator, tmp_path, provider=provider) as (wanted, disk):
        assert visit(wanted).outcome.delivered
        ballast = fill(disk)
        refused(visit(wanted, pictures=(2,)).outcome)
        assert len(submits(emulator)) == 1
        ballast.unlink()
        assert visit(wanted, pictures=(2,)).outcome.delivered
        assert visit(wanted).outcome.delivered
        assert len(submits(emulator)) == 2


@thinned("room_again", [False, True], ids=["for good", "for a while"], kept=(1,))
@thinned("provider", ["hidream", "volcengine", "resumable"], kept=(0, 1))
def test_a_disk_that_fills_up_after_acceptance(provider: str, room_again: bool, tmp_path: Path) -> None:
    """The picture is delivered all the same, what is needed to find it is in the log, and nothing is bought twice."""
    with Emulator(latency=2.0) as emulator, on_a_small_disk(emulator, tmp_path, provider=provider) as (wanted, disk):
        # The schema is there, so that the next purchase does little but grow the log of the database.
        assert visit(wanted, pictures=(9,)).outcome.delivered
        emulator.clear()
        hang = 2.0 if provider != "volcengine" else 0.0
        emulator.add_fault({"phase": "submit", "do": {"hang": hang}})
        with children(wanted) as [child]:
            until(lambda: accepted(emulator))
            ballast = fill(disk)
            if room_again:
                until(lambda: polls(emulator) or submits(emulator)[0].status)
                ballast.unlink()
            first = child.wait()
        assert first.outcome.delivered, (first, first.log)
        [submit] = submits(emulator)
        if provider != "volcengine":
            assert submit.task_id in first.log
        ballast.unlink(missing_ok=True)
        again = visit(wanted)
        assert len(submits(emulator)) == 1
        if room_again and provider != "volcengine":
            assert again.outcome.delivered, "writing was not tried again"
        elif room_again and not again.outcome.delivered:
            # It was handed on, and the bytes that could not be stored are gone.
            assert again.outcome.problem and "`take`" in again.outcome.problem.en, again
        elif not again.outcome.delivered:
            assert again.outcome.problem and again.outcome.problem.is_a("AmbiguousSubmitError"), again


@thinned("provider", ["hidream", "volcengine"])
@pytest.mark.parametrize("fresh", [True, False], ids=["a new journal", "a journal that was used"])
def test_every_file_stops_growing_at_any_size(fresh: bool, provider: str, emulator: Emulator, tmp_path: Path) -> None:
    """As on a disk with that much room: refused with nothing sent, or delivered; never sent and lost."""
    seen = {"refused": 0, "delivered": 0}
    used = errand(emulator, tmp_path / "used", provider=provider)
    if not fresh:
        assert visit(used, pictures=(9,)).outcome.delivered
    step = (8 if fresh else 4) if every_case() else 24
    for kilobytes in range(4, 600, step):
        emulator.clear()
        folder = tmp_path / str(kilobytes)
        wanted = errand(emulator, folder, provider=provider)
        if not fresh:
            shutil.copytree(used.directory, wanted.directory)
        limited = visit(wanted, file_limit=kilobytes * 1024)
        bought = sum(accepted(emulator).values())
        if limited.outcome.delivered:
            seen["delivered"] += 1
            assert bought == 1
        else:
            seen["refused"] += 1
            refused(limited.outcome)
            assert submits(emulator) == [], f"{kilobytes} kB: sent, and not delivered"
        again = visit(wanted)
        assert sum(accepted(emulator).values()) <= 1, f"{kilobytes} kB: bought twice"
        if not bought:
            assert again.outcome.delivered, (kilobytes, again)
        if seen["delivered"] > (8 if every_case() else 1):
            break
    assert seen["refused"] and seen["delivered"]


# ---- a damaged journal


def past(emulator: Emulator, folder: Path) -> Errand:
    """A journal with pictures in the store (1, and 1 of Volcengine), a parked task (2) and a lost answer (3)."""
    wanted = errand(emulator, folder)
    assert visit(wanted).outcome.delivered
    assert visit(wanted, provider="volcengine").outcome.delivered
    park(wanted, emulator, pictures=(2,))
    emulator.add_fault({"phase": "submit", "do": {"reset": "after"}})
    assert visit(wanted, pictures=(3,)).outcome.problem
    assert buyer.states(wanted) == ["ambiguous", "delivered", "delivered", "parked"]
    assert len(submits(emulator)) == PAST
    return wanted


# Submits of it.
PAST = 4


def park(wanted: Errand, emulator: Emulator, **changes: Any) -> None:
    """Buy a task and leave while it runs."""
    emulator.add_fault({"phase": "result", "times": None, "do": {"task_status": [2]}})
    assert visit(wanted, interrupt_at="running", **changes).outcome.interrupted
    emulator._faults.clear()


def roots(file: Path) -> dict[str, int]:
    """The root page of each table and index."""
    with closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT name, rootpage FROM sqlite_master").fetchall())


def page_size(file: Path) -> int:
    size = int.from_bytes(file.read_bytes()[16:18], "big")
    return 65536 if size == 1 else size


def overwrite(file: Path, begin: int, length: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(begin)
        opened.write(bytes((7 * index + 165) % 256 for index in range(length)))


def overwrite_page_of(name: str) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        size = page_size(file)
        overwrite(file, (roots(file)[name] - 1) * size, size)

    return damage


def header(file: Path) -> None:
    overwrite(file, 0, 100)


def first_page(file: Path) -> None:
    overwrite(file, 0, page_size(file))


def last_page_cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - page_size(file))


def half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 100)


def text(file: Path) -> None:
    file.write_text("This is no database.\n" * 500, encoding="utf-8")


def emptied(file: Path) -> None:
    os.truncate(file, 0)


DAMAGES: dict[str, tuple[Callable[[Path], None], bool]] = {
    # With whether the rows of the attempts can still be read.
    "an index": (overwrite_page_of("attempts_by_task"), True),
    "the results": (overwrite_page_of("results"), True),
    "the requests": (overwrite_page_of("requests"), True),
    "the attempts": (overwrite_page_of("attempts"), False),
    "the header": (header, False),
    "the first page": (first_page, False),
    # SQLite reads what is left once `PRAGMA writable_schema` tells it to take the size as it is.
    "the last page is missing": (last_page_cut, True),
    "half is missing": (half, True),
    "replaced by text": (text, False),
    "emptied": (emptied, False),
}


@thinned("by_hand", [False, True], ids=["acknowledged", "the notice is deleted"])
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_journal(damage: str, by_hand: bool, emulator: Emulator, tmp_path: Path) -> None:
    wanted = past(emulator, tmp_path)
    file = journal_file(wanted)
    destroy, attempts_are_readable = DAMAGES[damage]
    destroy(file)
    ruin = file.read_bytes()

    # Paid requests may be forgotten: nothing is bought before the damage is acknowledged.
    for _ in range(2):
        for seed in (1, 2, 4):
            told = refused(visit(wanted, pictures=(seed,)).outcome)
            assert "acknowledge" in told
    assert len(submits(emulator)) == PAST
    directory = Path(wanted.directory)
    notices = [path for path in directory.iterdir() if path.is_file() and path.name in told]
    assert len(notices) == 1, "the message names the file to delete"
    notice = notices[0].read_text(encoding="utf-8")
    assert "日志" in notice and "journal" in notice
    if ruin:
        kept = [path for path in directory.iterdir() if path.is_file() and path.read_bytes() == ruin]
        assert kept and kept[0] != file, "the damaged file is kept aside"
        assert kept[0].name in notice

    if by_hand:
        notices[0].unlink()
    known = visit(wanted, acknowledge=not by_hand)
    assert known.outcome.delivered
    assert len(submits(emulator)) == PAST, "its picture is in the store"
    assert known.plan == (0, 1, 0)
    assert visit(wanted, provider="volcengine").outcome.delivered
    assert len(submits(emulator)) == PAST, "and so is Volcengine's, which nobody could fetch again"
    if attempts_are_readable:
        assert visit(wanted, pictures=(2,)).outcome.delivered
        assert len(submits(emulator)) == PAST, "its task id was readable"
        lost = visit(wanted, pictures=(3,)).outcome.problem
        assert lost and lost.is_a("AmbiguousSubmitError")
        assert len(submits(emulator)) == PAST
    assert visit(wanted, pictures=(4,)).outcome.delivered, "and life goes on"
    assert not notices[0].exists()


def test_any_damaged_page(emulator: Emulator, tmp_path: Path) -> None:
    """Noticed or not: before the damage is acknowledged nothing is bought, and a stored picture never again."""
    original = past(emulator, tmp_path / "past")
    size = page_size(journal_file(original))
    noticed, step = 0, 1 if every_case() else 3
    for page in range(0, journal_file(original).stat().st_size // size, step):
        folder = tmp_path / str(page)
        shutil.copytree(original.directory, folder / "journal")
        wanted = errand(emulator, folder)
        overwrite(journal_file(wanted), page * size, size)
        sent = len(submits(emulator))
        before = visit(wanted, pictures=(1, 2, 3), together=False)
        assert len(submits(emulator)) == sent, f"page {page}"
        if any(outcome.problem and outcome.problem.is_a("ConfigurationError") for outcome in before.outcomes):
            noticed += 1
        else:
            assert before.outcomes[0].delivered and before.outcomes[1].delivered, (page, before)
        for provider in ("hidream", "volcengine"):
            after = visit(wanted, acknowledge=True, provider=provider)
            assert after.outcome.delivered, (page, after)
        assert len(submits(emulator)) == sent, f"page {page}"
    assert noticed > 5 // step


def test_a_journal_damaged_between_acceptance_and_answer(emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path)
    assert visit(wanted, pictures=(9,)).outcome.delivered
    emulator.clear()
    emulator.add_fault({"phase": "submit", "do": {"hang": 2.0}})
    with children(wanted) as [child]:
        until(lambda: accepted(emulator))
        for file in Path(wanted.directory).glob("journal.sqlite3*"):
            if not file.name.endswith("-shm"):
                overwrite(file, 0, file.stat().st_size)
        first = child.wait()
    assert first.outcome.delivered, (first, first.log)
    assert submits(emulator)[0].task_id in first.log
    # Found by the first process or by this one.
    refused(visit(wanted).outcome)
    again = visit(wanted, acknowledge=True)
    assert again.outcome.delivered, "the side-car of the picture was stored"
    assert len(submits(emulator)) == 1


def test_a_damaged_journal_with_the_store_gone(emulator: Emulator, tmp_path: Path) -> None:
    """Even with nothing left, buying again needs an acknowledgement."""
    wanted = past(emulator, tmp_path)
    text(journal_file(wanted))
    shutil.rmtree(Path(wanted.directory) / "store")
    refused(visit(wanted).outcome)
    assert len(submits(emulator)) == PAST
    assert visit(wanted, acknowledge=True).outcome.delivered
    assert len(submits(emulator)) == PAST + 1


def test_a_journal_that_was_deleted(emulator: Emulator, tmp_path: Path) -> None:
    wanted = past(emulator, tmp_path)
    journal_file(wanted).unlink()
    refused(visit(wanted).outcome)
    for provider in ("hidream", "volcengine"):
        assert visit(wanted, provider=provider, acknowledge=True).outcome.delivered
    assert len(submits(emulator)) == PAST


def test_several_processes_find_the_damage_at_once(emulator: Emulator, tmp_path: Path) -> None:
    """One of them replaces the journal; the others must not take the new one for another damaged one."""
    original = past(emulator, tmp_path / "past")
    overwrite_page_of("attempts_by_task")(journal_file(original))
    for number in range(8 if every_case() else 2):
        folder = tmp_path / str(number)
        shutil.copytree(original.directory, folder / "journal")
        wanted = errand(emulator, folder)
        sent = len(submits(emulator))
        begin_at = time.monotonic() + 0.3
        with children(*[buyer.replace(wanted, pictures=(4,), begin_at=begin_at) for _ in range(4)]) as born:
            for visited in [child.wait() for child in born]:
                refused(visited.outcome)
        for seed in (1, 2):
            assert visit(wanted, pictures=(seed,), acknowledge=True).outcome.delivered
        assert len(submits(emulator)) == sent, number
        assert len(list(Path(wanted.directory).glob("journal.damaged*.sqlite3"))) == 1


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_while_a_damaged_journal_is_replaced(side: str, emulator: Emulator, tmp_path: Path) -> None:
    """Half of a new journal must not pass for a whole one."""
    original = past(emulator, tmp_path / "past")
    overwrite_page_of("attempts_by_task")(journal_file(original))
    for number in range(1, 20):
        folder = tmp_path / str(number)
        shutil.copytree(original.directory, folder / "journal")
        wanted = errand(emulator, folder)
        sent = len(submits(emulator))
        killed = visit(wanted, pictures=(4,), at=number, side=side)
        if not killed.died:
            refused(killed.outcome)
            break
        refused(visit(wanted, pictures=(4,)).outcome)
        assert visit(wanted, acknowledge=True).outcome.delivered
        assert visit(wanted, pictures=(2,)).outcome.delivered
        assert len(submits(emulator)) == sent, f"commit {number}: forgotten"
    assert 1 < number < 19


def test_a_journal_of_a_later_version(emulator: Emulator, tmp_path: Path) -> None:
    wanted = past(emulator, tmp_path)
    file = journal_file(wanted)
    with closing(sqlite3.connect(file)) as connection, connection:
        changed = connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'").rowcount
        assert changed == 1
    before = {path.name: path.read_bytes() for path in Path(wanted.directory).glob("journal*") if path.is_file()}
    for seed in (1, 2, 4):
        told = refused(visit(wanted, pictures=(seed,)).outcome)
        assert "99" in told
    assert len(submits(emulator)) == PAST
    assert file.read_bytes() == before["journal.sqlite3"], "untouched"
    assert not [path for path in Path(wanted.directory).iterdir() if path.is_file() and path.name not in before
                and not path.name.endswith(("-wal", "-shm"))]  # fmt: skip


# ---- the clock


def clock_of(folder: Path, seconds: float = 0.0) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clock").write_text(str(seconds), encoding="utf-8")
    return str(folder / "clock")


jumps = pytest.mark.parametrize("jump", [HOURS, -HOURS], ids=["forwards", "backwards"])


@jumps
def test_the_clock_jumps_while_a_task_runs(jump: float, emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path, clock=clock_of(tmp_path))
    with children(wanted, wanted) as [one, other]:
        with slow(emulator):
            until(lambda: polls(emulator) and (one.waits or other.waits))
            clock_of(tmp_path, jump)
            asked = len(polls(emulator))
            until(lambda: len(polls(emulator)) > asked + 20)
        visits: list[Visit] = [one.wait(), other.wait(), visit(wanted)]
    assert [(v.outcome, v.log) for v in visits if not v.outcome.delivered] == []
    assert len(submits(emulator)) == 1


@jumps
def test_the_clock_jumps_while_an_answer_is_awaited(jump: float, emulator: Emulator, tmp_path: Path) -> None:
    emulator.add_fault({"phase": "submit", "do": {"hang": 1.5}})
    wanted = errand(emulator, tmp_path, clock=clock_of(tmp_path))
    with children(wanted) as [owner]:
        until(lambda: accepted(emulator))
        clock_of(tmp_path, jump)
        meanwhile = visit(wanted)
        first = owner.wait()
    assert first.outcome.delivered, first
    # The owner lives and renews its lease, which a take-over sees if it watches long enough.
    assert meanwhile.outcome.delivered, meanwhile
    assert len(submits(emulator)) == 1


@jumps
def test_the_clock_jumps_between_two_runs(jump: float, emulator: Emulator, tmp_path: Path) -> None:
    clock = clock_of(tmp_path)
    limited = {"REMOTE_IMAGE_HIDREAM_AT_ONCE": "1", "REMOTE_IMAGE_PICTURES_PER_DAY": "3"}
    wanted = errand(emulator, tmp_path, clock=clock, environment=limited)
    park(wanted, emulator)
    clock_of(tmp_path, jump)
    resumed = visit(wanted)
    # The jump is of hours: a wait that went by the clock would last for as long.
    assert resumed.outcome.delivered and resumed.outcome.seconds < 50
    bought = visit(wanted, pictures=(2,))
    assert bought.outcome.delivered and bought.outcome.seconds < 50
    clock_of(tmp_path, 0)
    reused = visit(wanted, pictures=(1, 2))
    assert reused.all_delivered and len(submits(emulator)) == 2


@jumps
def test_the_clock_jumps_after_the_owner_stopped(jump: float, emulator: Emulator, tmp_path: Path) -> None:
    """The last renewal of a stopped owner's lease lies hours ahead or back: a take-over must not wait for hours."""
    wanted = errand(emulator, tmp_path, clock=clock_of(tmp_path))
    with slow(emulator) as finish, children(wanted) as [owner]:
        until(lambda: polls(emulator))
        owner.send(signal.SIGSTOP)
        until(lambda: owner.stopped)
        finish()
        clock_of(tmp_path, jump)
        relief = visit(wanted)
        assert relief.outcome.delivered, relief
        assert relief.outcome.seconds < 20
        owner.send(signal.SIGCONT)
        assert owner.wait().outcome.delivered
    assert len(submits(emulator)) == 1


@jumps
def test_a_rate_of_pictures_does_not_wait_for_hours(jump: float, emulator: Emulator, tmp_path: Path) -> None:
    rate = {"REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE": "2"}
    wanted = errand(emulator, tmp_path, clock=clock_of(tmp_path), environment=rate, count=2)
    assert visit(wanted).outcome.delivered
    clock_of(tmp_path, jump)
    bought = visit(wanted, pictures=(2,))
    # A wait for the rate would last for a minute at least.
    assert bought.outcome.delivered and bought.outcome.seconds < 50


# ---- many rows


def multiply(file: Path, number: int) -> None:
    """That many copies of every row of requests, attempts and results; whatever was bought was bought a month ago."""
    renamed = {"requests": {"key"}, "attempts": {"id", "key", "task_id", "request_id"}, "results": {"attempt"}}
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, own in renamed.items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = [
                f"{name} || '-' || n" if name in own else f"{name} - 2592000" if name.endswith("_at") else name
                for name in columns
            ]
            copies = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table}, counter"  # noqa: S608
            counter = "WITH RECURSIVE counter(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < ?) "
            connection.execute(counter + copies, (number,))
        connection.execute("UPDATE attempts SET admitted_at = admitted_at - 2592000")


@thinned(("rows", "calls"), [(1000, 40), (1000, 200)])
def test_many_rows_and_many_calls_at_once(rows: int, calls: int, emulator: Emulator, tmp_path: Path) -> None:
    budget = calls // 4
    day = {"REMOTE_IMAGE_PICTURES_PER_DAY": str(budget)}
    wanted = errand(emulator, tmp_path, environment=day)
    assert visit(wanted, pictures=(999,), environment={}).outcome.delivered
    multiply(journal_file(wanted), rows)
    emulator.clear()
    began = time.monotonic()
    visited = buyer.start(wanted, pictures=tuple(range(calls)), together=False).wait()
    took = time.monotonic() - began
    assert sum(outcome.delivered for outcome in visited.outcomes) == emulator.billed == budget
    assert max(accepted(emulator).values()) == 1
    for outcome in visited.outcomes:
        if not outcome.delivered:
            assert outcome.problem and outcome.problem.is_a("QuotaError"), outcome
            assert outcome.problem.provider is None
    assert took < 60
    began = time.process_time()
    assert len(buyer.tasks(wanted)) == 200
    assert time.process_time() - began < 1
    again = visit(wanted, pictures=tuple(range(calls)), together=False)
    assert sum(outcome.delivered for outcome in again.outcomes) == budget
    assert emulator.billed == budget


# ---- who may read it


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_what_was_left_open_is_made_private(emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path)
    assert visit(wanted).outcome.delivered
    folder, file = Path(wanted.directory), journal_file(wanted)
    folder.chmod(0o755)
    file.chmod(0o644)
    assert visit(wanted).outcome.delivered
    assert [path.stat().st_mode & 0o777 for path in (folder, file)] == [0o700, 0o600]
