"""Bought pictures on disk: bytes named by their hash, each with a side-car that says what was bought and by whom.

A picture is paid for once and its link dies within a day, so nothing here is ever half written, and nothing is
believed: bytes are checked by their hash each time they are read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ..core import TEMPORARY, pack_logger, sync_folder, write_whole

# Bytes that were paid for and are no picture that can be read here.
UNKNOWN_MEDIA = "application/octet-stream"
_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/avif": ".avif",
    UNKNOWN_MEDIA: ".bin",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOURNAL_ID = re.compile(r"rv-[0-9a-f]{16}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_PICTURE_NAME = re.compile(r"([0-9a-f]{64})\.(?:png|jpg|webp|gif|bmp|tif|avif|bin)")
_SIDE_CAR_NAME = re.compile(r"([0-9a-f]{64})\.(rv-[0-9a-f]{16})\.([0-9]{1,9})\.json")
_TASKS = "tasks"
_JOURNAL = re.compile(r"[0-9a-f]{32}")
_TASK_NAME = re.compile(r"(rv-[0-9a-f]{16})\.json")
# Far longer than any put takes: a younger one may be somebody's who is still writing.
_OLD_TEMPORARY_S = 3600.0
# Pictures that other processes have stored count after so many seconds.
WALKED_AGAIN_AFTER = 300.0


def file_name(data: bytes, media_type: str) -> str:
    """What the file of these bytes is called in the store."""
    return f"{hashlib.sha256(data).hexdigest()}{_SUFFIXES[media_type]}"


class MissingPictureError(Exception):
    """The store has no such picture."""


class DamagedPictureError(Exception):
    """The stored bytes are not the ones that were put there."""


class SideCar(BaseModel):
    """What a stored picture is, or (without ``sha256``) an accepted task whose pictures are still to come.

    Everything has a default, so that side-cars of older versions stay readable.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str = ""
    media_type: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    journal_id: str = ""
    key: str = ""
    provider: str = ""
    endpoint: str = ""
    profile: str = ""
    account: str = ""
    sandbox: bool = False
    take: int = 0
    task_id: str = ""
    request_id: str = ""
    position: int = 0
    count: int = 0
    """How many pictures the attempt is known to have; 0 = unknown."""
    sub_task_id: str = ""
    bought_at: float = 0.0
    """Seconds since the epoch."""
    pixels: int = 0
    """The expected pixels, by which decoding is limited."""
    sub_task_ids: list[str] = []
    pictures: int = 0
    """As counted against the budget."""
    summary: str = ""
    result_url: str = ""
    journal: str = ""
    """Which journal wrote this down, and after how many of its changes."""
    journal_count: int = 0

    @field_validator("*", mode="before")
    @classmethod
    def _whole_characters(cls, value: Any) -> Any:
        # Half a character (a lone surrogate, from a prompt or an id) is no reason to lose a paid picture.
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, list):
            return [cls._whole_characters(item) for item in value]
        return value


@dataclass
class _Stored:
    """A picture as :meth:`Store.evict` found it."""

    path: Path
    size: int
    used: int
    side_cars: list[tuple[Path, int]] = field(default_factory=list)
    """With the time of their last change."""


@dataclass(frozen=True)
class _Measured:
    """What a walk through the store found: its bytes, what this process had stored before, and when it began."""

    total: int
    put_bytes: int
    at: float


class Store:
    """A folder of pictures that several processes and machines may share. Making one touches no disk.

    Args:
        directory: the folder; made when the first picture comes.
        max_bytes: what :meth:`evict` keeps it below; ``None`` or 0 = no limit.
    """

    def __init__(self, directory: Path, max_bytes: int | None = None) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._put_bytes = 0
        """Bytes that this object has stored since it was made; what was there already counts again."""
        self._evicting = threading.Lock()
        self._measured: _Measured | None = None

    # ---- pictures

    def put(self, data: bytes, side_car: SideCar) -> SideCar:
        """Store a picture and, after it, its side-car; both are on the disk when this returns.

        Doing it again changes nothing; a damaged picture of that hash is mended.

        Returns:
            The side-car, with ``sha256`` and ``bytes`` filled in.

        Raises:
            OSError: it could not be written; no half file is left.
            ValueError: no journal id, position or media type that could become a file name.
        """
        if side_car.media_type not in _SUFFIXES:
            raise ValueError(f"no media type of a picture: {side_car.media_type!r}")
        sha256 = hashlib.sha256(data).hexdigest()
        side_car = side_car.model_copy(update={"sha256": sha256, "bytes": len(data)})
        folder = self._folder(sha256)
        name = _checked(_SIDE_CAR_NAME, f"{sha256}.{side_car.journal_id}.{side_car.position}.json")
        self._make(folder)
        about = side_car.model_dump_json(indent=1).encode("utf-8")
        self._put_picture(folder / f"{sha256}{_SUFFIXES[side_car.media_type]}", data, sha256)
        write_whole(folder / name, about)
        with self._lock:
            self._put_bytes += len(data) + len(about)
        return side_car

    def read(self, sha256: str) -> bytes:
        """The picture's bytes. Counts as use.

        Raises:
            MissingPictureError: there is none.
            DamagedPictureError: there is one, but its hash is another.
            OSError: the disk (or share) does not answer properly: says nothing about the picture.
        """
        damaged = False
        for path in self._candidates(sha256):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            if hashlib.sha256(data).hexdigest() != sha256:
                damaged = True
                continue
            with suppress(OSError):
                os.utime(path)
            return data
        if damaged:
            raise DamagedPictureError(f"the stored picture {sha256} is damaged")
        raise MissingPictureError(f"there is no picture {sha256} in {self._directory}")

    def _put_picture(self, path: Path, data: bytes, sha256: str) -> None:
        # Marked as used before it is looked at: evict() puts back what was used since it looked. See there.
        with suppress(OSError):
            os.utime(path)
            if _is_whole(path, sha256):
                sync_folder(path.parent)
                return
        write_whole(path, data)

    # ---- side-cars

    def side_cars(self) -> Iterator[SideCar]:
        """Every readable side-car, also those whose picture is gone. Unreadable ones are logged and skipped."""
        for folder in self._folders():
            for name in _names(folder):
                if _SIDE_CAR_NAME.fullmatch(name) and (side_car := _read_side_car(folder / name)):
                    yield side_car

    def side_cars_of(self, journal_id: str) -> list[SideCar]:
        """The readable side-cars of one attempt, in the order of its pictures."""
        _checked(_JOURNAL_ID, journal_id)
        found = []
        for folder in self._folders():
            for name in _names(folder):
                match = _SIDE_CAR_NAME.fullmatch(name)
                if match and match[2] == journal_id and (side_car := _read_side_car(folder / name)):
                    found.append(side_car)
        return sorted(found, key=lambda side_car: (side_car.position, side_car.bought_at))

    @property
    def directory(self) -> Path:
        return self._directory

    def is_within(self, folder: Path) -> bool:
        return folder in self._directory.parents

    # ---- tasks

    def put_task(self, side_car: SideCar) -> None:
        """Write down an accepted task, so that it survives the journal; on the disk when this returns.

        Raises:
            OSError: it could not be written; no half file is left.
            ValueError: no journal id that could become a file name.
        """
        path = self._task(side_car.journal_id)
        self._make(path.parent)
        write_whole(path, side_car.model_dump_json(indent=1).encode("utf-8"))

    def forget_task(self, journal_id: str) -> None:
        """The task has ended; raises OSError if that cannot be written."""
        self._task(journal_id).unlink(missing_ok=True)

    def task(self, journal_id: str) -> SideCar | None:
        """What was written down of a task that has not ended."""
        return _read_task(self._task(journal_id))

    def tasks(self) -> list[SideCar]:
        """Every task that was written down and has not ended."""
        folder = self._directory / _TASKS
        found = [_read_task(folder / name) for name in _names(folder) if _TASK_NAME.fullmatch(name)]
        return [side_car for side_car in found if side_car is not None]

    def mark_of(self, journal: str) -> Mark:
        """How far a journal had come when it last used this store."""
        return read_mark(self._mark(journal))

    def put_mark(self, mark: Mark) -> None:
        """Note how far a journal has come, unless there is no store (yet, or because its disk is not mounted).

        Raises:
            OSError, ValueError: it could not be written.
        """
        path = self._mark(mark.journal)
        if self._directory.is_dir():
            self._make(path.parent)
            write_mark(path, mark)

    def _mark(self, journal: str) -> Path:
        return self._directory / _TASKS / f"{_checked(_JOURNAL, journal)}.made"

    def _task(self, journal_id: str) -> Path:
        return self._directory / _TASKS / f"{_checked(_JOURNAL_ID, journal_id)}.json"

    # ---- room

    def check_room(self, size: int) -> None:
        """Before something is bought: can ``size`` bytes be written here?

        Raises:
            OSError: the folder cannot be made or written, or its disk has less room than that.
        """
        self._make(self._directory)
        with tempfile.TemporaryFile(dir=self._directory) as probe:
            probe.write(b"\0")
        free = shutil.disk_usage(self._directory).free
        if free < size:
            raise OSError(errno.ENOSPC, f"{free / 1e6:.1f} MB are free, up to {size / 1e6:.1f} MB are needed")

    # ---- eviction

    def evict(self, may_go: Callable[[str], bool]) -> list[str]:
        """Keep the store below its limit: remove the least recently used pictures, with their side-cars.

        Its size is the one of the last walk through the folder, plus what this object has stored since. The folder is
        walked through only when that is above the limit, or after ``WALKED_AGAIN_AFTER`` seconds. So the store is above
        its limit by what other processes have stored since then at most, and by what may not go. A hundredth of the
        limit is made free beyond what is needed, so that a full store is not walked through for each new picture.

        Args:
            may_go: whether the picture of a hash may be removed. It must say no to what was not delivered yet, and
                to what it does not know: that may have been stored a moment ago.

        Returns:
            The hashes of the pictures that went.
        """
        if not self._max_bytes:
            return []
        # One walk at a time: whoever comes second finds its result.
        with self._evicting:
            return self._evict(may_go, self._max_bytes) if self._is_walk_due(self._max_bytes) else []

    def _is_walk_due(self, limit: int) -> bool:
        measured = self._measured
        if measured is None or time.monotonic() - measured.at >= WALKED_AGAIN_AFTER:
            return True
        return measured.total + self._put_bytes - measured.put_bytes > limit

    def _evict(self, may_go: Callable[[str], bool], limit: int) -> list[str]:
        # Before the walk: what is stored meanwhile may count twice, but is not missed.
        at, put_bytes = time.monotonic(), self._put_bytes
        stored = self._look_around()
        total = sum(picture.size for picture in stored)
        gone = []
        if total > limit:
            for picture in sorted(stored, key=lambda picture: picture.used):
                if total <= limit - limit // 100:
                    break
                sha256 = picture.path.stem
                if may_go(sha256) and _remove(picture):
                    total -= picture.size
                    gone.append(sha256)
        self._measured = _Measured(total, put_bytes, at)
        return gone

    def _look_around(self) -> list[_Stored]:
        """Every picture; on the way, what a crash left half written goes."""
        stored: dict[tuple[str, str], _Stored] = {}
        side_cars: list[tuple[str, Path, os.stat_result]] = []
        for folder in self._folders():
            for name in _names(folder):
                path = folder / name
                try:
                    status = path.stat()
                except OSError:
                    continue
                if name.endswith(TEMPORARY):
                    if time.time() - status.st_mtime > _OLD_TEMPORARY_S:
                        with suppress(OSError):
                            os.unlink(path)
                elif match := _PICTURE_NAME.fullmatch(name):
                    stored[match[1], path.suffix] = _Stored(path, status.st_size, status.st_mtime_ns)
                elif match := _SIDE_CAR_NAME.fullmatch(name):
                    side_cars.append((match[1], path, status))
        for sha256, path, status in side_cars:
            for suffix in _SUFFIXES.values():
                if picture := stored.get((sha256, suffix)):
                    picture.side_cars.append((path, status.st_mtime_ns))
                    picture.size += status.st_size
                    break
        return list(stored.values())

    # ---- folders

    def _folder(self, sha256: str) -> Path:
        return self._directory / _checked(_SHA256, sha256)[:2]

    def _candidates(self, sha256: str) -> list[Path]:
        return [self._folder(sha256) / f"{sha256}{suffix}" for suffix in _SUFFIXES.values()]

    def _folders(self) -> Iterator[Path]:
        for name in _names(self._directory):
            if _FOLDER.fullmatch(name):
                yield self._directory / name

    def _make(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            sync_folder(folder.parent)


def _checked(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"not of the form {pattern.pattern}: {value!r}")
    return value


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_whole(path: Path, sha256: str) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _read_side_car(path: Path) -> SideCar | None:
    side_car = _read(path)
    match = _SIDE_CAR_NAME.fullmatch(path.name)
    if side_car is None:
        return None
    if match is None or (side_car.sha256, side_car.journal_id, str(side_car.position)) != match.groups():
        pack_logger().warning("The side-car %s is about something else than its name.", path)
        return None
    return side_car


def _read_task(path: Path) -> SideCar | None:
    side_car = _read(path)
    if side_car is not None and (f"{side_car.journal_id}.json" != path.name or not side_car.key):
        pack_logger().warning("The side-car %s is about something else than its name.", path)
        return None
    return side_car


def _read(path: Path) -> SideCar | None:
    try:
        return SideCar.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None  # evicted since it was listed
    except (OSError, ValidationError) as cause:
        pack_logger().warning("Unreadable side-car %s (%s).", path, type(cause).__name__)
        return None


def _remove(picture: _Stored) -> bool:
    """Remove a picture that nobody has used since it was looked at.

    It is moved aside first and looked at again there. Whoever stores the same bytes at this moment marks the file
    as used before: either that is seen here and it is put back, or they no longer find it and write it anew.
    """
    aside = picture.path.with_name(f".{picture.path.name}.{os.getpid()}{TEMPORARY}")
    try:
        if picture.path.stat().st_mtime_ns != picture.used:
            return False
        os.replace(picture.path, aside)
    except OSError:
        return False  # held or removed by another process
    try:
        if aside.stat().st_mtime_ns != picture.used:
            os.replace(aside, picture.path)
            return False
        os.unlink(aside)
    except FileNotFoundError:
        pass  # another process has swept it up
    except OSError:
        return False  # held; it is swept up some day
    for path, changed in picture.side_cars:
        with suppress(OSError):
            if path.stat().st_mtime_ns == changed:
                os.unlink(path)
    return True


@dataclass(frozen=True)
class Mark:
    """Which journal it is (empty: not known), and how many of its transactions have changed it."""

    journal: str = ""
    count: int = 0

    def is_behind(self, other: Mark) -> bool:
        """Whether a journal that stands here is not the one that has come to ``other``."""
        return bool(other.journal) and (self.journal != other.journal or self.count < other.count)

    def or_later(self, other: Mark) -> Mark:
        """The later one of two; of two journals ``other``, for that has replaced this one."""
        if not other.journal or (self.journal == other.journal and self.count > other.count):
            return self
        return other


def read_mark(path: Path) -> Mark:
    """The mark in a file; an empty one if there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        told = json.loads(path.read_text(encoding="utf-8"))
        return Mark(str(told["journal"]), int(told["count"]))
    return Mark()


def write_mark(path: Path, mark: Mark) -> None:
    """
    Raises:
        OSError: it could not be written.
    """
    write_whole(path, json.dumps({"journal": mark.journal, "count": mark.count}).encode("ascii"))
