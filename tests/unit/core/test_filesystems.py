"""Where SQLite's shared memory would be unsafe."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path, PureWindowsPath

import psutil
import pytest
from hidream_volcengine.api.core import disk as filesystems
from hidream_volcengine.api.core.disk import in_container, on_network
from hidream_volcengine.api.core.limits import JournalSettings
from hidream_volcengine.api.journal.journal import Journal

Partition = namedtuple("Partition", "device mountpoint fstype opts")


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[Partition]:
    known: list[Partition] = []
    monkeypatch.setattr(psutil, "disk_partitions", lambda all=False: known if all else [])
    return known


def mount(point: object, fstype: str, opts: str = "rw") -> Partition:
    return Partition("device", str(point), fstype, opts)


@pytest.mark.parametrize(
    "fstype",
    [
        *("nfs4", "cifs", "smbfs", "9p", "drvfs", "virtiofs", "vboxsf", "ceph", "ocfs2", "autofs"),
        *("fuse.sshfs", "fuse.gocryptfs", "fuse", "something-new", ""),
    ],
)
def test_remote_types(tmp_path: Path, mounts: list[Partition], fstype: str) -> None:
    mounts += [mount("/", "ext4"), mount(tmp_path, fstype)]
    assert on_network(tmp_path / "journal")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "NTFS", "fuseblk"])
def test_local_types(tmp_path: Path, mounts: list[Partition], fstype: str) -> None:
    mounts += [mount("/", "nfs"), mount(tmp_path, fstype)]
    assert not on_network(tmp_path / "journal")


def test_the_longest_mount_point_decides_by_whole_names(tmp_path: Path, mounts: list[Partition]) -> None:
    for name in ("net", "network", "net/local"):
        (tmp_path / name).mkdir()
    mounts += [mount(tmp_path / "net/local", "ext4"), mount(tmp_path / "net", "nfs4"), mount("/", "ext4")]
    assert on_network(tmp_path / "net")
    assert on_network(tmp_path / "net/not yet/there/at all")
    assert not on_network(tmp_path / "net/local/x")
    assert not on_network(tmp_path / "network")


def test_a_later_mount_covers_an_earlier_one(tmp_path: Path, mounts: list[Partition]) -> None:
    mounts += [mount(tmp_path, "autofs"), mount(tmp_path, "nfs4")]
    assert on_network(tmp_path)
    mounts.append(mount(tmp_path, "ext4"))
    assert not on_network(tmp_path)


def test_links_are_followed(tmp_path: Path, mounts: list[Partition], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    mounts += [mount("/", "ext4"), mount(tmp_path / "share", "cifs")]
    assert on_network(tmp_path / "link" / "journal")
    monkeypatch.chdir(tmp_path / "link")
    assert on_network(Path("journal"))


def test_a_folder_on_no_listed_partition_may_be_on_a_network(tmp_path: Path, mounts: list[Partition]) -> None:
    assert on_network(tmp_path)


def test_a_look_that_fails_finds_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(all: bool = False) -> list[Partition]:
        raise PermissionError("/proc/mounts")

    monkeypatch.setattr(psutil, "disk_partitions", fails)
    assert not on_network(tmp_path)
    assert not on_network(Path("a\0b"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not on_network(tmp_path / "loop" / "x")


# ---- what a container loses


@pytest.mark.parametrize("fstype", ["overlay", "aufs", "fuse.fuse-overlayfs"])
def test_a_containers_own_layer(tmp_path: Path, mounts: list[Partition], fstype: str) -> None:
    mounts += [mount("/", fstype), mount(tmp_path / "volume", "ext4"), mount(tmp_path / "share", "nfs4")]
    for folder in ("volume", "share"):
        (tmp_path / folder).mkdir()
        assert not in_container(tmp_path / folder / "user")
    assert in_container(tmp_path / "user")


def test_no_container(tmp_path: Path, mounts: list[Partition], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_container(tmp_path)  # on no listed partition
    mounts += [mount("/", "ext4"), mount("/var/lib/docker/overlay2/x/merged", "overlay")]
    assert not in_container(tmp_path)
    monkeypatch.delattr(psutil, "disk_partitions")
    assert not in_container(tmp_path)


@pytest.mark.parametrize(
    ("volume", "store", "told"),
    [("", None, ["user"]), ("user", None, []), ("user", "pictures", ["pictures"]), ("", "user/store", ["user"])],
)
def test_a_journal_that_a_container_loses_is_told_once(
    tmp_path: Path,
    mounts: list[Partition],
    caplog: pytest.LogCaptureFixture,
    volume: str,
    store: str | None,
    told: list[str],
) -> None:
    """When it is opened first, and not before: ComfyUI starts in silence."""
    mounts.append(mount("/", "overlay"))
    if volume:
        (tmp_path / volume).mkdir()
        mounts.append(mount(tmp_path / volume, "ext4"))
    journal = Journal(JournalSettings(tmp_path / "user", store=tmp_path / store if store else None))
    assert caplog.messages == []
    for _ in range(2):
        journal.open()
        journal.close()
    assert [f"{tmp_path / folder} " in message for folder, message in zip(told, caplog.messages, strict=True)] == [
        True for _ in told
    ]
    assert all(record.levelname == "WARNING" and "docs/docker.md" in record.getMessage() for record in caplog.records)


def test_this_machine_answers(tmp_path: Path) -> None:
    assert on_network(tmp_path) in (True, False)
    assert on_network(Path("/proc/self"))


@pytest.mark.parametrize(
    ("path", "unc"),
    [
        (r"\\server\share\ComfyUI", True),
        ("//server/share/ComfyUI", True),
        (r"\\?\UNC\server\share\ComfyUI", True),
        (r"\\wsl.localhost\Debian\home", True),
        (r"C:\ComfyUI", False),
        (r"\\?\C:\ComfyUI", False),
        (r"\\.\C:\ComfyUI", False),
    ],
)
def test_unc_paths(path: str, unc: bool) -> None:
    assert filesystems._is_unc(PureWindowsPath(path)) is unc


def test_windows_drives(mounts: list[Partition]) -> None:
    mounts += [mount("C:\\", "NTFS", "rw,fixed"), mount("Z:\\", "NTFS", "rw,remote")]
    assert not filesystems._is_remote(PureWindowsPath(r"c:\ComfyUI"))
    assert filesystems._is_remote(PureWindowsPath(r"z:\ComfyUI"))
