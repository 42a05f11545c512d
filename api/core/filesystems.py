"""What kind of file system a folder lies on.

On a network SQLite's shared memory (WAL) is unsafe; what lies in a container's own layer is lost with the container.
"""

from __future__ import annotations

import os
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
