"""Files that are whole or not there, one process at a time, and what kind of file system it is."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

# Every other type counts as a network: NFS, SMB, FUSE, the folders that a virtual machine shares with its host (9p,
# drvfs, virtiofs), and unknown ones. A wrong "network" makes the journal slower; a wrong "local" may corrupt it.
_LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"),
    *("ntfs", "ntfs3", "fuseblk", "refs", "vfat", "fat32", "exfat", "apfs", "hfs", "ufs"),
}
_OF_CONTAINERS = {"overlay", "aufs", "fuse.fuse-overlayfs"}


def on_network(path: Path) -> bool:
    """Whether ``path``, which need not exist yet, may lie on a network file system; ``False`` if looking fails."""
    try:
        resolved = _nearest_existing(path).resolve()
        return _is_unc(resolved) or _is_remote(resolved)
    except Exception:
        return False


def in_container(path: Path) -> bool:
    """Whether ``path``, which need not exist yet, lies in a container's own layer; ``False`` if looking fails."""
    try:
        mount = _mount_of(_nearest_existing(path).resolve())
        return mount is not None and mount.fstype.lower() in _OF_CONTAINERS
    except Exception:
        return False


def _nearest_existing(path: Path) -> Path:
    path = Path(os.path.abspath(path))
    # stat() and not only a look at the name: it makes an automounter mount what lies there.
    while path.parent != path and not os.path.exists(path):
        path = path.parent
    return path


def _is_unc(path: PurePath) -> bool:
    r"""``\\server\share`` and ``\\?\UNC\server\share``, but not ``\\?\C:\``."""
    drive = path.drive.replace("/", "\\").upper()
    return drive.startswith("\\\\?\\UNC\\") or (drive.startswith("\\\\") and drive[2:4] not in ("?\\", ".\\"))


def _is_remote(path: PurePath) -> bool:
    mount = _mount_of(path)
    return mount is None or mount.fstype.lower() not in _LOCAL or "remote" in mount.opts.split(",")


def _mount_of(path: PurePath) -> Any:
    """psutil's partition that ``path`` lies on; ``None`` if it lists none."""
    import psutil

    longest, found = -1, None
    for partition in psutil.disk_partitions(all=True):
        mount = type(path)(partition.mountpoint)
        # A later mount at the same place covers the earlier one.
        if path.is_relative_to(mount) and len(mount.parts) >= longest:
            longest, found = len(mount.parts), partition
    return found


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
