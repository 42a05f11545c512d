"""Bought pictures on disk, named by the SHA-256 of their bytes, each with a side-car (JSON) about its purchase.

A picture is paid once and its link dies within a day. So files are written whole or not at all, and bytes are checked
by their hash each time they are read. The folder ``tasks`` has a side-car for each accepted task that has not ended,
and the marks of the journals that use the store.
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
from .model import Known, Mark

# The media type of bytes that were paid and that Pillow cannot read here.
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
# Age in seconds at which a temporary file is deleted: far longer than a put takes, so nobody writes it any more.
_OLD_TEMPORARY_S = 3600.0
# Seconds after which the folder is measured again, so that pictures of other processes count.
WALKED_AGAIN_AFTER = 300.0


def file_name(data: bytes, media_type: str) -> str:
    """The name of these bytes' file in the store; raises KeyError for a media type that the store does not know."""
    return f"{hashlib.sha256(data).hexdigest()}{_SUFFIXES[media_type]}"


class MissingPictureError(Exception):
    """The store has no such picture."""


class DamagedPictureError(Exception):
    """The stored bytes do not have the hash that names their file."""


class SideCar(BaseModel):
    """What a stored picture is, or (without ``sha256``) an accepted task whose pictures are still to come.

    With it the journal's rows can be made again. Each field has a default, so that side-cars of older versions stay
    readable.
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
    """The attempt's ``expected_pixels`` (of one picture); 0 = unknown."""
    sub_task_ids: list[str] = []
    options: str = ""
    """What was asked of each result; see :class:`TaskRef`."""
    pictures: int = 0
    """How many pictures the request asked for; what it counts against the budget."""
    summary: str = ""
    result_url: str = ""
    journal: str = ""
    """The id of the journal whose attempt this is."""
    journal_count: int = 0
    """The journal's count of changes when this was written; see :class:`Mark`."""

    @field_validator("*", mode="before")
    @classmethod
    def _whole_characters(cls, value: Any) -> Any:
        # A lone surrogate (from a prompt or an id) cannot be encoded: replace it, or the paid picture could not be put.
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, list):
            return [cls._whole_characters(item) for item in value]
        return value


@dataclass
class _Stored:
    """A picture as :meth:`Store.evict` found it.

    ``size``: bytes with its side-cars. ``used``: the time of its last use, its file's ``st_mtime_ns``. ``side_cars``:
    path and ``st_mtime_ns`` of each.
    """

    path: Path
    size: int
    used: int
    side_cars: list[tuple[Path, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Measured:
    """The last walk through the store.

    ``total``: bytes that were left after it; ``put_bytes``: ``Store._put_bytes`` when it began; ``at``: when it began,
    ``time.monotonic()``.
    """

    total: int
    put_bytes: int
    at: float


class Store:
    """A folder of pictures that several processes and machines may share; thread-safe. The constructor reads no disk.

    Args:
        directory: the folder; made by the first write or :meth:`check_room`.
        max_bytes: the size below which :meth:`evict` keeps it; ``None`` or 0 = no limit.
    """

    def __init__(self, directory: Path, max_bytes: int | None = None) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._put_bytes = 0
        """Bytes that were put through this object, also those whose file existed already."""
        self._evicting = threading.Lock()
        self._measured: _Measured | None = None

    # ---- pictures

    def put(self, data: bytes, side_car: SideCar) -> SideCar:
        """Store a picture and, after it, its side-car; both are synced to disk when this returns.

        A file that has these bytes already is kept; a damaged one of this hash is replaced.

        Returns:
            The side-car, with ``sha256`` and ``bytes`` filled in.

        Raises:
            OSError: it could not be written; no half file is left.
            ValueError: journal id, position or media type are not of the form that a file name needs.
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
        """The picture's bytes, checked by their hash; marks its file as used now, which :meth:`evict` goes by.

        Raises:
            MissingPictureError: the store has no file of this hash.
            DamagedPictureError: it has one, but the bytes have another hash.
            OSError: the disk or network share failed; the picture may still be there.
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
        # Mark the file as used before reading it: if evict() removes it at this moment, it sees the new time and puts
        # the file back (see _remove()), or utime() fails here and the file is written.
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

    def has_any(self, attempt: Known) -> bool:
        """Whether there is a picture or the task of an attempt."""
        return bool(self.side_cars_of(attempt.journal_id)) or self.task(attempt.journal_id) is not None

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
        """Write the side-car of an accepted task, so that it survives the journal; synced to disk when this returns.

        Raises:
            OSError: it could not be written; no half file is left.
            ValueError: the journal id is not of the form that a file name needs.
        """
        path = self._task(side_car.journal_id)
        self._make(path.parent)
        write_whole(path, side_car.model_dump_json(indent=1).encode("utf-8"))

    def forget_task(self, journal_id: str) -> None:
        """Delete the side-car of a task that has ended; no error if there is none. Raises OSError."""
        self._task(journal_id).unlink(missing_ok=True)

    def task(self, journal_id: str) -> SideCar | None:
        """The side-car of a task that has not ended; ``None`` if there is none that can be read."""
        return _read_task(self._task(journal_id))

    def tasks(self) -> list[SideCar]:
        """The readable side-cars of all tasks that have not ended."""
        folder = self._directory / _TASKS
        found = [_read_task(folder / name) for name in _names(folder) if _TASK_NAME.fullmatch(name)]
        return [side_car for side_car in found if side_car is not None]

    def mark_of(self, journal: str) -> Mark:
        """The mark of a journal that was last written into this store; empty if there is none."""
        return read_mark(self._mark(journal))

    def put_mark(self, mark: Mark) -> None:
        """Write the mark of a journal into the store, unless its folder does not exist (yet, or is not mounted).

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
        """Check, before something is bought, that ``size`` bytes can be written; nothing is reserved.

        Raises:
            OSError: the folder cannot be made or written, or its disk has fewer free bytes.
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
            may_go: whether the picture with this SHA-256 may be removed. It must return ``False`` for one that was not
                delivered yet, and for one that it does not know: that may have been stored a moment ago.

        Returns:
            The SHA-256 of each picture that was removed.
        """
        if not self._max_bytes:
            return []
        # One walk at a time; a thread that waited here goes by the result of the walk before.
        with self._evicting:
            return self._evict(may_go, self._max_bytes) if self._is_walk_due(self._max_bytes) else []

    def _is_walk_due(self, limit: int) -> bool:
        measured = self._measured
        if measured is None or time.monotonic() - measured.at >= WALKED_AGAIN_AFTER:
            return True
        return measured.total + self._put_bytes - measured.put_bytes > limit

    def _evict(self, may_go: Callable[[str], bool], limit: int) -> list[str]:
        # Read before the walk: bytes that are stored during it may count twice, but are not missed.
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
        """Every picture with its side-cars; deletes old temporary files, which a crash has left."""
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
        """Make a folder with its parents (mode 0700), each synced into its parent."""
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
    """Remove a picture and its side-cars, unless it was used since the walk; returns whether it did.

    The file is first renamed and its time read again. A thread or process that stores the same bytes at this moment
    sets the file's time before it reads the file: either the new time is seen here and the file is put back, or that
    thread does not find the file any more and writes it.
    """
    aside = picture.path.with_name(f".{picture.path.name}.{os.getpid()}{TEMPORARY}")
    try:
        if picture.path.stat().st_mtime_ns != picture.used:
            return False
        os.replace(picture.path, aside)
    except OSError:
        return False  # open in, or removed by, another process
    try:
        if aside.stat().st_mtime_ns != picture.used:
            os.replace(aside, picture.path)
            return False
        os.unlink(aside)
    except FileNotFoundError:
        pass  # another process has deleted it as an old temporary file
    except OSError:
        return False  # open in another process; a later walk deletes it as an old temporary file
    for path, changed in picture.side_cars:
        with suppress(OSError):
            if path.stat().st_mtime_ns == changed:
                os.unlink(path)
    return True


def read_mark(path: Path) -> Mark:
    """The mark in a file; an empty mark if the file is missing or cannot be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Mark(str(fields["journal"]), int(fields["count"]))
    return Mark()


def write_mark(path: Path, mark: Mark) -> None:
    """Write a mark into a file, whole or not at all; raises OSError."""
    write_whole(path, json.dumps({"journal": mark.journal, "count": mark.count}).encode("ascii"))
