"""Pictures that were paid for: never half there, never another one than asked for, never gone before their time."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api.core.redaction import LOGGER_NAME
from hidream_volcengine.api.journal.store import (
    WALKED_AGAIN_AFTER,
    DamagedPictureError,
    MissingPictureError,
    SideCar,
    Store,
)

ROOT = Path(__file__).resolve().parents[3]
POSIX = pytest.mark.skipif(os.name != "posix", reason="kill -9 and file modes")
ATTEMPT, OTHER_ATTEMPT = "rv-0123456789abcdef", "rv-fedcba9876543210"
NOBODY = 65534
DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1000


def side_car(journal_id: str = ATTEMPT, position: int = 0, **more: Any) -> SideCar:
    return SideCar(media_type="image/png", journal_id=journal_id, position=position, **more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_of(folder: Path, data: bytes, suffix: str = ".png") -> Path:
    return folder / sha256_of(data)[:2] / f"{sha256_of(data)}{suffix}"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# ---- put and read


def test_making_a_store_touches_no_disk(tmp_path: Path, store: Store) -> None:
    assert list(store.side_cars()) == store.side_cars_of(ATTEMPT) == store.evict(lambda sha256: True) == []
    with pytest.raises(MissingPictureError):
        store.read("0" * 64)
    assert not list(tmp_path.iterdir())


def test_what_is_put_can_be_read_with_what_it_is(tmp_path: Path, store: Store) -> None:
    given = side_car(
        *(ATTEMPT, 3),
        **{"width": 8, "height": 9, "key": "k", "provider": "HiDream", "endpoint": "e", "profile": "p", "account": "a"},
        **{"sandbox": True, "take": 7, "task_id": "t", "request_id": "r", "count": 4, "sub_task_id": "s"},
        **{"bought_at": 1234.5, "pixels": 72, "sub_task_ids": ["s", "u"], "pictures": 4, "summary": "外绘 “cat”\n"},
    )
    put = store.put(DATA, given)
    assert put == given.model_copy(update={"sha256": sha256_of(DATA), "bytes": len(DATA)})
    again = Store(tmp_path / "store")
    assert again.read(put.sha256) == DATA
    assert list(again.side_cars()) == again.side_cars_of(ATTEMPT) == [put]


@pytest.mark.parametrize(
    ("media_type", "suffix"), [("image/png", "png"), ("image/jpeg", "jpg"), ("image/webp", "webp")]
)
def test_file_names(tmp_path: Path, store: Store, media_type: str, suffix: str) -> None:
    sha256 = store.put(b"x", side_car().model_copy(update={"media_type": media_type})).sha256
    assert [path.name for path in (tmp_path / "store").iterdir()] == [sha256[:2]]
    assert set(files(tmp_path)) == {f"{sha256}.{suffix}", f"{sha256}.{ATTEMPT}.0.json"}
    assert store.read(sha256) == b"x"


@POSIX
def test_nobody_else_may_look(tmp_path: Path, store: Store) -> None:
    before = os.umask(0)
    try:
        store.put(DATA, side_car())
    finally:
        os.umask(before)
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_putting_again_changes_nothing(tmp_path: Path, store: Store) -> None:
    first = store.put(DATA, side_car())
    before = file_of(tmp_path / "store", DATA).stat().st_ino
    assert store.put(DATA, side_car()) == first
    assert len(files(tmp_path)) == 2
    assert file_of(tmp_path / "store", DATA).stat().st_ino == before


def test_equal_bytes_of_two_attempts_keep_both_side_cars(tmp_path: Path, store: Store) -> None:
    one, two = store.put(DATA, side_car()), store.put(DATA, side_car(OTHER_ATTEMPT))
    three = store.put(DATA, side_car(OTHER_ATTEMPT, 1))
    assert len(files(tmp_path)) == 4
    assert store.side_cars_of(ATTEMPT) == [one]
    assert store.side_cars_of(OTHER_ATTEMPT) == [two, three]


def test_side_cars_of_an_attempt_are_in_its_order(store: Store) -> None:
    put = [store.put(b"picture %d" % position, side_car(position=position)) for position in (10, 2, 0, 1)]
    store.put(b"other", side_car(OTHER_ATTEMPT))
    assert store.side_cars_of(ATTEMPT) == sorted(put, key=lambda each: each.position)


def test_side_cars_of_an_attempt_reads_no_others(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        store.put(b"%d" % index, side_car(OTHER_ATTEMPT, index))
    mine = store.put(DATA, side_car())
    read, original = [], Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert store.side_cars_of(ATTEMPT) == [mine]
    assert len(read) == 1


@pytest.mark.parametrize("value", ["", "..", "../" * 21 + "x", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "*" * 64])
def test_only_a_hash_becomes_a_path(store: Store, value: str) -> None:
    for action in (store.read,):
        with pytest.raises(ValueError, match="not of the form"):
            action(value)


@pytest.mark.parametrize(
    "value", ["", "rv-", "rv-../../../../x", "rv-0123456789ABCDEF", ATTEMPT + "\n", "rv-" + "*" * 16]
)
def test_only_a_journal_id_becomes_a_path(tmp_path: Path, store: Store, value: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        store.put(DATA, side_car(value))
    with pytest.raises(ValueError, match="not of the form"):
        store.side_cars_of(value)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "wrong", [{"position": -1}, {"position": 10**9}, {"media_type": "image/heic"}, {"media_type": ""}]
)
def test_what_could_not_be_found_again_is_not_put(tmp_path: Path, store: Store, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        store.put(DATA, side_car().model_copy(update=wrong))
    assert files(tmp_path) == []


def test_half_a_character_costs_no_picture(store: Store) -> None:
    put = store.put(DATA, side_car(summary="a cat \ud83d", task_id="\udfff", sub_task_ids=["x\ud800"]))
    assert (put.summary, put.task_id, put.sub_task_ids) == ("a cat ?", "?", ["x?"])
    assert list(store.side_cars()) == [put]


# ---- what is found out


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, flipped, emptied])
def test_a_damaged_picture_is_never_served_and_can_be_fetched_again(
    tmp_path: Path, store: Store, damage: Callable[[Path], None]
) -> None:
    put = store.put(DATA, side_car())
    damage(file_of(tmp_path / "store", DATA))
    with pytest.raises(DamagedPictureError):
        store.read(put.sha256)
    assert store.side_cars_of(ATTEMPT) == [put]
    store.put(DATA, side_car())
    assert store.read(put.sha256) == DATA


def test_a_missing_picture(tmp_path: Path, store: Store) -> None:
    put = store.put(DATA, side_car())
    file_of(tmp_path / "store", DATA).unlink()
    with pytest.raises(MissingPictureError):
        store.read(put.sha256)
    assert list(store.side_cars()) == store.side_cars_of(ATTEMPT) == [put]
    store.put(DATA, side_car())
    assert store.read(put.sha256) == DATA


def test_a_disk_that_does_not_answer_is_no_missing_picture(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put = store.put(DATA, side_car())

    def stale(path: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_bytes", stale)
    with pytest.raises(OSError, match="Stale"):
        store.read(put.sha256)


def test_unreadable_side_cars_are_skipped_and_logged(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    good = store.put(DATA, side_car())
    folder = tmp_path / "store" / "aa"
    folder.mkdir()
    wrong = {
        f"{'aa' * 32}.{OTHER_ATTEMPT}.0.json": b'{"sha256": "aa',
        f"{'aa' * 32}.{OTHER_ATTEMPT}.1.json": b"\x00" * 100,
        f"{'aa' * 32}.{OTHER_ATTEMPT}.2.json": b"[]",
        f"{'aa' * 32}.{OTHER_ATTEMPT}.3.json": b'{"take": "?"}',
        # Whole, but of another picture or attempt: a renamed file must not bring the wrong one.
        f"{'aa' * 32}.{OTHER_ATTEMPT}.4.json": good.model_dump_json().encode(),
    }
    for name, content in wrong.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("somebody's", encoding="utf-8")
    (tmp_path / "store" / "README").write_text("somebody's", encoding="utf-8")
    (tmp_path / "store" / "bb").write_text("a file, no folder", encoding="utf-8")
    with caplog.at_level(logging.WARNING, LOGGER_NAME):
        assert list(store.side_cars()) == [good]
    assert all(any(name in message for message in caplog.messages) for name in wrong)
    assert store.side_cars_of(OTHER_ATTEMPT) == []


def test_side_cars_of_other_versions_are_readable(tmp_path: Path, store: Store) -> None:
    sha256 = sha256_of(DATA)
    path = tmp_path / "store" / sha256[:2] / f"{sha256}.{ATTEMPT}.2.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps({"sha256": sha256, "journal_id": ATTEMPT, "position": 2, "of_a_later_version": [1]}),
        encoding="utf-8",
    )
    assert store.side_cars_of(ATTEMPT) == [SideCar(sha256=sha256, journal_id=ATTEMPT, position=2)]


# ---- crashes

# Runs put (or evict) again and again in children of its own, each killed at another of the calls that reach the disk:
# right before it, and right after it (of a write: half of it).
KILLED_EVERYWHERE = f"""
import os, signal, sys, types
from pathlib import Path
pack = types.ModuleType("pack"); pack.__path__ = [{str(ROOT / "api")!r}]; sys.modules["pack"] = pack
from pack.journal.store import SideCar, Store

WATCHED = ("mkdir", "open", "write", "fsync", "close", "replace", "unlink", "utime")

def watch(number, when):
    calls = iter(range(1, 1000))
    def wrap(name, original):
        def call(*args, **kwargs):
            this = next(calls) == number
            if this and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            if this and name == "write":
                args = (args[0], args[1][: len(args[1]) // 2])
            result = original(*args, **kwargs)
            if this:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    for name in WATCHED:
        setattr(os, name, wrap(name, getattr(os, name)))

data = sys.stdin.buffer.read()
for when in ("before", "after"):
    for number in range(1, 1000):
        directory = Path(sys.argv[2], f"{{when}} {{number}}")
        store = Store(directory, max_bytes=1)
        side_car = SideCar(media_type="image/png", journal_id={ATTEMPT!r}, summary="whole")
        if sys.argv[1] != "new":
            sha256 = store.put(data, side_car).sha256
        if sys.argv[1] == "damaged":
            (directory / sha256[:2] / (sha256 + ".png")).write_bytes(b"damaged")
        pid = os.fork()
        if pid == 0:
            watch(number, when)
            store.evict(lambda sha256: True) if sys.argv[1] == "evict" else store.put(data, side_car)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        print(when, number, flush=True)
"""


def killed_everywhere(what: str, tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """The store after each death, and whether its picture is there."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, what, str(tmp_path)], input=DATA, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    deaths = done.stdout.decode().splitlines()
    assert len(deaths) >= 6
    states = set()
    for death in deaths:
        picture = file_of(tmp_path / death, DATA)
        states.add(picture.exists())
        yield tmp_path / death, picture.exists()
    assert states == {True} if what == "damaged" else {True, False}


@POSIX
def test_kill_9_anywhere_in_put_leaves_nothing_or_a_whole_file(tmp_path: Path) -> None:
    for folder, there in killed_everywhere("new", tmp_path):
        store = Store(folder)
        side_cars = list(store.side_cars())
        if there:
            assert store.read(sha256_of(DATA)) == DATA
        else:
            assert side_cars == []  # the bytes come first
        assert all(side_car.summary == "whole" for side_car in side_cars)
        # And nothing is in the way afterwards.
        put = store.put(DATA, side_car())
        assert store.read(put.sha256) == DATA
        assert store.side_cars_of(ATTEMPT) == [put]


@POSIX
def test_kill_9_while_mending_leaves_the_damaged_or_a_whole_file(tmp_path: Path) -> None:
    mended = set()
    for folder, _ in killed_everywhere("damaged", tmp_path):
        store = Store(folder)
        content = file_of(folder, DATA).read_bytes()
        assert content in (b"damaged", DATA)
        mended.add(content == DATA)
        assert len(store.side_cars_of(ATTEMPT)) == 1
    assert mended == {True, False}


@POSIX
def test_kill_9_anywhere_in_evict_leaves_nothing_or_a_whole_file(tmp_path: Path) -> None:
    for folder, there in killed_everywhere("evict", tmp_path):
        store = Store(folder, max_bytes=1)
        if there:
            assert store.read(sha256_of(DATA)) == DATA
            assert len(store.side_cars_of(ATTEMPT)) == 1
        store.evict(lambda sha256: True)
        assert not file_of(folder, DATA).exists()
        store.put(DATA, side_car())
        assert store.read(sha256_of(DATA)) == DATA


@POSIX
def test_a_power_cut_finds_each_file_synced_before_and_after_it_gets_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        told.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(source: str, target: Path) -> None:
        told.append(f"as {target.suffix}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    store.put(DATA, side_car())
    # First the new folders themselves (the store's and the one in it), in those they are in.
    assert told == ["folder", "folder", "file", "as .png", "folder", "file", "as .json", "folder"]
    told.clear()
    # Again: whoever wrote the picture may not have come to syncing its name.
    store.put(DATA, side_car())
    assert told == ["folder", "file", "as .json", "folder"]


def test_what_a_crash_left_is_not_counted_and_goes_when_it_is_old(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", max_bytes=len(DATA) + 10_000)
    put = store.put(DATA, side_car())
    folder = file_of(tmp_path / "store", DATA).parent
    young, old = folder / ".abc.part", folder / ".def.part"
    for path in (young, old):
        path.write_bytes(b"x" * 1_000_000)
    os.utime(old, (time.time() - 7200,) * 2)
    assert store.evict(lambda sha256: True) == []
    assert (young.exists(), old.exists()) == (True, False)
    assert store.read(put.sha256) == DATA
    # Without a limit nobody walks through a large store for that.
    os.utime(young, (time.time() - 7200,) * 2)
    Store(tmp_path / "store").evict(lambda sha256: True)
    assert young.exists()


# ---- full and failing disks


@pytest.mark.parametrize("call", ["open", "mkdir", "write", "fsync", "replace"])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    original = getattr(os, call)

    def is_put_after(allowed: int) -> bool:
        """Whether a put succeeds on a disk that is full after so many calls."""
        calls = 0

        def full(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > allowed:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args, **kwargs)

        store = Store(tmp_path / str(allowed))
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            try:
                store.put(DATA, side_car())
                succeeded = True
            except OSError as problem:
                assert problem.errno == errno.ENOSPC
                succeeded = False
        left = files(tmp_path / str(allowed))
        assert not [name for name in left if name.endswith(".part")]
        for name in left:
            assert store.read(name[:64]) == DATA
        assert len(left) == 2 or not succeeded
        return succeeded

    needed = next(allowed for allowed in range(100) if is_put_after(allowed))
    assert needed >= 2


def test_a_write_may_take_several(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, data[:100_000]))
    assert store.read(store.put(DATA, side_car()).sha256) == DATA


def test_file_systems_that_know_no_fsync(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unknown)
    assert store.read(store.put(DATA, side_car()).sha256) == DATA


@contextmanager
def not_root() -> Iterator[None]:
    """Root may write everywhere, so it becomes somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@POSIX
def test_a_read_only_folder() -> None:
    # Not below tmp_path: only its owner may even enter that.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, -1)
        folder.chmod(0o500)
        try:
            with not_root(), pytest.raises(PermissionError):
                Store(folder / "store").put(DATA, side_car())
            assert list(folder.iterdir()) == []
        finally:
            folder.chmod(0o700)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, store: Store) -> None:
    (tmp_path / "store").write_text("a file", encoding="utf-8")
    with pytest.raises(OSError):
        store.put(DATA, side_car())
    assert list(store.side_cars()) == []


def test_use_is_marked_but_a_failure_to_do_so_is_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put = store.put(DATA, side_car())

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError("another user's")

    monkeypatch.setattr(os, "utime", denied)
    assert store.read(put.sha256) == DATA
    assert store.put(DATA, side_car()) == put


# ---- several at once


def test_on_windows_an_equal_file_that_is_open_is_good_enough(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes found none and wrote; the second may not replace what the first has open."""
    original = os.replace

    def held(source: str, target: Path) -> None:
        original(source, target)
        Path(source).write_bytes(b"")
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(os, "replace", held)
    put = store.put(DATA, side_car())
    monkeypatch.undo()
    assert store.read(put.sha256) == DATA
    assert store.side_cars_of(ATTEMPT) == [put]
    assert len(files(tmp_path)) == 2


def test_on_windows_a_file_held_for_a_moment_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original, tries = os.replace, 0

    def held(source: str, target: Path) -> None:
        nonlocal tries
        tries += 1
        if tries % 3:
            raise PermissionError(13, "The process cannot access the file")
        original(source, target)

    monkeypatch.setattr(os, "replace", held)
    assert store.read(store.put(DATA, side_car()).sha256) == DATA


def test_a_file_held_for_good_is_an_error(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(source: str, target: Path) -> None:
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(PermissionError):
        store.put(DATA, side_car())
    assert files(tmp_path) == []


MANY_PUTS = f"""
import sys, types
from pathlib import Path
pack = types.ModuleType("pack"); pack.__path__ = [{str(ROOT / "api")!r}]; sys.modules["pack"] = pack
from pack.journal.store import SideCar, Store
store, data = Store(Path(sys.argv[1])), sys.stdin.buffer.read()
for position in range(20):
    picture = data + b"%d" % (position // 2)
    side_car = SideCar(media_type="image/png", journal_id=sys.argv[2], position=position)
    assert store.read(store.put(picture, side_car).sha256) == picture
"""


def test_equal_bytes_from_several_processes_at_once(tmp_path: Path, store: Store) -> None:
    attempts = [f"rv-{index:016x}" for index in range(4)]

    def run(attempt: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", MANY_PUTS, str(tmp_path / "store"), attempt]
        return subprocess.run(command, input=DATA, capture_output=True, check=False)

    with ThreadPoolExecutor(len(attempts)) as pool:
        for done in pool.map(run, attempts):
            assert done.returncode == 0, done.stderr.decode()
    for attempt in attempts:
        assert [each.position for each in store.side_cars_of(attempt)] == list(range(20))
    assert len(files(tmp_path)) == 10 + 4 * 20


# ---- eviction


def filled(directory: Path, count: int = 5, max_bytes: int | None = None) -> tuple[Store, list[str]]:
    """A store with pictures of 10,000 bytes, the oldest first."""
    store = Store(directory, max_bytes)
    put = [store.put(bytes([index]) * 10_000, side_car(position=index)).sha256 for index in range(count)]
    for index, sha256 in enumerate(put):
        os.utime(directory / sha256[:2] / f"{sha256}.png", (1_000_000 + index,) * 2)
    return store, put


def test_the_least_recently_used_go_first_with_their_side_cars(tmp_path: Path) -> None:
    store, put = filled(tmp_path, max_bytes=35_000)
    store.read(put[0])
    assert store.evict(lambda sha256: True) == [put[1], put[2]]
    assert sorted(each.position for each in store.side_cars()) == [0, 3, 4]
    assert len(files(tmp_path)) == 6
    assert store.evict(lambda sha256: True) == []
    for sha256 in (put[0], put[3], put[4]):
        store.read(sha256)


def test_putting_again_counts_as_use(tmp_path: Path) -> None:
    store, put = filled(tmp_path, max_bytes=45_000)
    store.put(bytes([0]) * 10_000, side_car(OTHER_ATTEMPT))
    assert store.evict(lambda sha256: True) == [put[1]]


def test_what_may_not_go_stays(tmp_path: Path) -> None:
    store, put = filled(tmp_path, max_bytes=15_000)
    assert store.evict(lambda sha256: sha256 in (put[1], put[3])) == [put[1], put[3]]
    assert store.evict(lambda sha256: False) == []
    for sha256 in (put[0], put[2], put[4]):
        store.read(sha256)


def test_nobody_is_asked_below_the_limit(tmp_path: Path) -> None:
    def asked(sha256: str) -> bool:
        raise AssertionError

    for max_bytes in (None, 0, 1_000_000):
        assert filled(tmp_path, max_bytes=max_bytes)[0].evict(asked) == []


def test_side_cars_count_too(tmp_path: Path) -> None:
    store, put = filled(tmp_path, max_bytes=50_000)
    assert store.evict(lambda sha256: True) == [put[0]]


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One entry for each time that a store is walked through."""
    walked: list[Path] = []
    original = Store._look_around

    def look_around(store: Store) -> Any:
        walked.append(store.directory)
        return original(store)

    monkeypatch.setattr(Store, "_look_around", look_around)
    return walked


def test_a_store_below_its_limit_is_walked_through_once(tmp_path: Path, walks: list[Path]) -> None:
    store = Store(tmp_path, max_bytes=10_000_000)
    for index in range(20):
        store.put(bytes([index]) * 10_000, side_car(position=index))
        assert store.evict(lambda sha256: True) == []
    assert len(walks) == 1


def test_what_is_put_counts_at_once(tmp_path: Path, walks: list[Path]) -> None:
    store, put = filled(tmp_path, max_bytes=65_000)
    assert store.evict(lambda sha256: True) == []
    more = [store.put(bytes([index]) * 10_000, side_car(position=index)).sha256 for index in (5, 6)]
    assert store.evict(lambda sha256: True) == put[:1]
    assert len(walks) == 2
    for sha256 in (*put[1:], *more):
        store.read(sha256)


def test_a_full_store_is_not_walked_through_for_each_picture(tmp_path: Path, walks: list[Path]) -> None:
    for index in range(1000):
        data = index.to_bytes(2, "big") * 500
        file_of(tmp_path, data).parent.mkdir(exist_ok=True)
        file_of(tmp_path, data).write_bytes(data)
    store = Store(tmp_path, max_bytes=1_000_000)
    for index in range(30):
        store.put(bytes([index]) * 1000, side_car(position=index))
        store.evict(lambda sha256: True)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) <= 1_000_000
    assert len(walks) <= 10


def test_what_other_processes_put_counts_after_a_while(
    tmp_path: Path, walks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("hidream_volcengine.api.journal.store.time.monotonic", lambda: now)
    store, put = filled(tmp_path, max_bytes=65_000)
    assert store.evict(lambda sha256: True) == []
    for index in (5, 6):
        Store(tmp_path).put(bytes([index]) * 10_000, side_car(OTHER_ATTEMPT, index))
    now += WALKED_AGAIN_AFTER
    assert store.evict(lambda sha256: True) == put[:1]
    assert len(walks) == 2


def test_a_limit_that_could_not_be_kept_is_tried_again_each_time(tmp_path: Path) -> None:
    """What was not delivered yet may be, a moment later."""
    store, put = filled(tmp_path, max_bytes=35_000)
    assert store.evict(lambda sha256: False) == []
    assert store.evict(lambda sha256: True) == put[:2]


@pytest.mark.parametrize("call", ["replace", "stat", "unlink"])
def test_files_that_others_hold_or_removed_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store, put = filled(tmp_path, max_bytes=15_000)
    gone = tmp_path / put[0][:2] / f"{put[0]}.png"

    def may_go(sha256: str) -> bool:
        gone.unlink(missing_ok=True)  # by another process, after evict has looked around
        return True

    owner: Any = Path if call == "stat" else os
    original = getattr(owner, call)

    def held(path: Path, *args: Any, **kwargs: Any) -> Any:
        if put[1] in str(path) and (call != "stat" or looked):
            raise PermissionError(13, "The process cannot access the file")
        return original(path, *args, **kwargs)

    looked = False

    def then_held(sha256: str) -> bool:
        nonlocal looked
        looked = True
        return may_go(sha256)

    monkeypatch.setattr(owner, call, held)
    assert set(store.evict(then_held)) == set(put[2:])
    monkeypatch.undo()
    if call != "unlink":
        store.read(put[1])


@pytest.mark.parametrize("attempt", [ATTEMPT, OTHER_ATTEMPT])
@pytest.mark.parametrize("moment", ["while asked", "before it is moved aside", "after it was moved aside"])
def test_what_is_bought_again_while_it_is_evicted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, attempt: str
) -> None:
    store, put = filled(tmp_path, 1, max_bytes=1)
    bought: list[SideCar] = []
    original = os.replace

    def buy() -> None:
        monkeypatch.undo()
        bought.append(store.put(bytes([0]) * 10_000, side_car(attempt)))

    def may_go(sha256: str) -> bool:
        if moment == "while asked":
            buy()
        return True

    def replace(source: Path, target: Path) -> None:
        if moment == "before it is moved aside":
            buy()
        original(source, target)
        if moment == "after it was moved aside":
            buy()

    if moment != "while asked":
        monkeypatch.setattr(os, "replace", replace)
    store.evict(may_go)
    assert store.read(put[0]) == bytes([0]) * 10_000
    assert store.side_cars_of(attempt) == bought
