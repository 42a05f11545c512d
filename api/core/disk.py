"""Files on disk: atomic writes that survive a power cut, a lock between processes, and the kind of a file system."""

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

# File systems of local disks. Every other type counts as a network: NFS, SMB, FUSE, the folders that a virtual machine
# shares with its host (9p, drvfs, virtiofs), and unknown ones. A wrong "network" makes the journal slower; a wrong
# "local" may corrupt it.
_LOCAL_TYPES = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"),
    *("ntfs", "ntfs3", "fuseblk", "refs", "vfat", "fat32", "exfat", "apfs", "hfs", "ufs"),
}
_CONTAINER_TYPES = {"overlay", "aufs", "fuse.fuse-overlayfs"}


def on_network(path: Path) -> bool:
    """Whether ``path``, which need not exist yet, may be on a network file system; ``False`` if that check fails."""
    try:
        resolved = _nearest_existing(path).resolve()
        return _is_unc(resolved) or _is_remote(resolved)
    except Exception:
        return False


def in_container(path: Path) -> bool:
    """Whether ``path``, which need not exist yet, is in a container's own layer, which is deleted with the container.

    ``False`` if that check fails.
    """
    try:
        mount = _mount_of(_nearest_existing(path).resolve())
        return mount is not None and mount.fstype.lower() in _CONTAINER_TYPES
    except Exception:
        return False


def _nearest_existing(path: Path) -> Path:
    path = Path(os.path.abspath(path))
    # os.path.exists() calls stat(), which makes an automounter mount the folder; comparing names would not.
    while path.parent != path and not os.path.exists(path):
        path = path.parent
    return path


def _is_unc(path: PurePath) -> bool:
    r"""Whether it is a network path: ``\\server\share`` or ``\\?\UNC\server\share``, but not ``\\?\C:\``."""
    drive = path.drive.replace("/", "\\").upper()
    return drive.startswith("\\\\?\\UNC\\") or (drive.startswith("\\\\") and drive[2:4] not in ("?\\", ".\\"))


def _is_remote(path: PurePath) -> bool:
    mount = _mount_of(path)
    return mount is None or mount.fstype.lower() not in _LOCAL_TYPES or "remote" in mount.opts.split(",")


def _mount_of(path: PurePath) -> Any:
    """The partition that ``path`` is on, as psutil describes it; ``None`` if psutil lists none."""
    import psutil

    longest, found = -1, None
    for partition in psutil.disk_partitions(all=True):
        mount = type(path)(partition.mountpoint)
        # A later mount at the same place covers the earlier one.
        if path.is_relative_to(mount) and len(mount.parts) >= longest:
            longest, found = len(mount.parts), partition
    return found


# How the names of unfinished files end.
TEMPORARY = ".part"
# Pauses between tries to replace a file, in seconds: a virus scanner or a reader has it open for moments only.
_REPLACE_WAITS_S = (0.02, 0.05, 0.1, 0.2, 0.4)
# Errors of file systems that have no fsync, or none of a directory. They are ignored: nothing else can be done there.
_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}


def write_whole(path: Path, data: bytes, suffix: str = TEMPORARY) -> None:
    """Write the file ``path`` as a whole or not at all, for this user only (0600); it survives a power cut afterwards.

    ``data`` goes to a file beside it, named ``.*`` with ``suffix``, which then takes the place of ``path``.

    Raises:
        OSError: it could not be written; an earlier file is unchanged, unless only the folder could not be synced.
    """
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)  # 0600
    try:
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)  # the umask may have taken bits from mkstemp's 0600
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
            # Windows: another process has one of the two files open. If `path` has this content, nothing is left to do.
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
    """Write a folder's entries to disk, so that files made, renamed or removed in it stay so after a power cut."""
    if os.name == "nt":
        return  # Windows opens no directories, and keeps renames in order by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(lock: Path, seconds: float = 60) -> Iterator[None]:
    """Hold the lock file ``lock`` while the block runs: one thread of one process at a time.

    It is SQLite's lock on an otherwise empty database: the system releases it when a process dies, a forked child does
    not inherit it, it works wherever the journal works, and earlier versions take the same one.

    Raises:
        sqlite3.Error: the lock was not free within ``seconds``, or its file cannot be used.
    """
    with closing(sqlite3.connect(lock, timeout=seconds, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
