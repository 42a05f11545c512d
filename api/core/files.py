"""Files that are whole or not there, and one process at a time."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

TEMPORARY = ".part"
# A virus scanner, or whoever reads the file, holds it for moments only.
_REPLACE_WAITS_S = (0.02, 0.05, 0.1, 0.2, 0.4)
# What file systems say that know no fsync (of a directory): there is nothing more to do then.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}


def write_whole(path: Path, data: bytes, suffix: str = TEMPORARY) -> None:
    """Write a whole file or none, for this user only (0600), so that it survives a power cut from now on."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)  # 0600
    try:
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)  # whatever the umask takes away
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            _sync(descriptor)
        finally:
            os.close(descriptor)
        _replace(name, path, data)
    finally:
        with suppress(OSError):
            os.unlink(name)
    sync_folder(path.parent)


def _replace(temporary: str, path: Path, data: bytes) -> None:
    for wait in (*_REPLACE_WAITS_S, None):
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            # Windows: somebody has one of the two open. If that one is as it should be, nothing is to be done.
            with suppress(OSError):
                if path.read_bytes() == data:
                    return
            if wait is None:
                raise
            time.sleep(wait)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as cause:
        if cause.errno not in _NO_FSYNC:
            raise


def sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows opens no directories, and keeps renames in order by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(lock: Path, seconds: float = 60) -> Iterator[None]:
    """One process and thread at a time, whatever becomes of the others: SQLite's own lock on a file of its own.

    Raises:
        sqlite3.Error: the lock was not to be had in time, or its file cannot be used.
    """
    with closing(sqlite3.connect(lock, timeout=seconds, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
