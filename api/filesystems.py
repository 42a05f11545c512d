"""Whether a folder lies on a network file system, where SQLite's shared memory (WAL) is unsafe."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

_REMOTE = {
    *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "webdav", "davfs", "davfs2", "ftp"),
    *("sshfs", "afs", "openafs", "coda", "ncpfs", "ncp", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "wekafs"),
    *("panfs", "pvfs2", "orangefs", "ocfs2", "gfs", "gfs2", "quobyte", "juicefs", "moosefs", "lizardfs"),
    # Folders that a virtual machine or container shares with its host: one file, two kernels.
    *("9p", "v9fs", "virtiofs", "vboxsf", "vmhgfs", "hgfs", "prl_fs", "prlfs", "drvfs", "osxfs", "grpcfuse"),
    "fakeowner",
    # Without saying what is behind it.
    *("fuse", "macfuse", "osxfuse"),
}
# Of the programs behind "fuse.", these keep their files on this machine. An unknown one is taken as remote: without
# WAL the journal is only slower.
_LOCAL_FUSE = {
    *("ntfs", "ntfs-3g", "exfat", "fuse-exfat", "ext2", "ext4", "fuse-ext2", "apfs", "zfs", "zfs-fuse"),
    *("bindfs", "gocryptfs", "encfs", "cryfs", "veracrypt", "fuse-overlayfs", "lxcfs", "portal"),
}


def on_network(path: Path) -> bool:
    """Whether ``path``, which need not exist yet, lies on a network file system; ``False`` where nobody can tell."""
    try:
        resolved = _nearest_existing(path).resolve()
        return _is_unc(resolved) or _is_remote(resolved)
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
    import psutil

    longest, remote = -1, False
    for partition in psutil.disk_partitions(all=True):
        mount = type(path)(partition.mountpoint)
        # A later mount at the same place covers the earlier one.
        if path.is_relative_to(mount) and len(mount.parts) >= longest:
            longest = len(mount.parts)
            remote = _is_remote_type(partition.fstype) or "remote" in partition.opts.split(",")
    return remote


def _is_remote_type(fstype: str) -> bool:
    name = fstype.lower()
    if name.startswith("fuse."):
        return name[len("fuse.") :] not in _LOCAL_FUSE
    return name in _REMOTE
