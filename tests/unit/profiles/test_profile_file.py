"""The file of the profiles: private, whole or old, never two changes at once, never overwritten when it is damaged."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import ConfigurationError, ProfileEditor, Profiles, first_profile
from hidream_volcengine.api.core.redaction import redact
from hidream_volcengine.api.profiles import file as profile_file
from hidream_volcengine.api.profiles.fields import HIDREAM_BASE_URL, HIDREAM_EC_BASE_URL, SECRETS
from hidream_volcengine.api.profiles.file import Contents, ProfileFile, StaleRevisionError
from hidream_volcengine.api.transport.auth import BearerAuth

ROOT = Path(__file__).resolve().parents[3]
ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture
def file(tmp_path: Path) -> ProfileFile:
    return ProfileFile(lambda: tmp_path / "private")


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "account": f"account-of-{name}", "settings": {}, "keys": {}, **more}


def add(file: ProfileFile, name: str, **more: Any) -> Contents:
    with file.change(file.read().revision) as document:
        document["profiles"].append(entry(name, **more))
    return file.read()


def names(file: ProfileFile) -> list[str]:
    return [profile.name for profile in file.read().profiles]


def test_nothing_is_made_by_reading(file: ProfileFile) -> None:
    assert file.read() == Contents()
    assert file.read().revision == "none"
    assert not file.path.parent.exists()


def test_a_new_node_starts_with_the_sandbox_where_no_key_is_set(file: ProfileFile) -> None:
    assert first_profile(file, {}) == "sandbox"
    for name, key in SECRETS.items():
        assert first_profile(file, {key.variable: f"some-{name}"}) == "default"
        for nothing in (" ", "''", "\"\""):
            assert first_profile(file, {key.variable: nothing}) == "sandbox", "empty is unset"
    add(file, "a")
    assert first_profile(file, {}) == "sandbox", "a profile without a key"
    add(file, "b", keys={"hidream_token": {"value": "canary-key-of-b", "for": ["https://b.example.com:443"]}})
    assert first_profile(file, {}) == "default"
    file.path.write_bytes(b"{")
    assert first_profile(file, {}) == "default", "whose error says what is wrong with the file"


def test_what_is_written_is_read(file: ProfileFile) -> None:
    key = {"hidream_token": {"value": "canary-key-of-a", "for": ["https://a.example.com:443"]}}
    found = add(file, "海边 ☀", settings={"language": "en"}, keys=key).find("海边 ☀")
    assert found is not None
    assert (found.account_id, dict(found.settings)) == ("account-of-海边 ☀", {"language": "en"})
    assert found.keys["hidream_token"].value.reveal() == "canary-key-of-a"
    assert "canary" not in f"{file.read()!r}"
    assert redact("canary-key-of-a") == "***"


def test_names_are_read_once_and_again_with_each_change(file: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.names() == ()
    add(file, "first")
    assert file.names() == ("first",)
    add(file, "other")
    assert file.names() == ("first", "other")
    with file.change(file.read().revision) as document:
        document["profiles"][0]["name"] = "third"  # as many bytes
    read: list[None] = []
    really = ProfileFile.read
    monkeypatch.setattr(ProfileFile, "read", lambda self: read.append(None) or really(self))  # type: ignore[func-returns-value]
    assert [file.names() for _ in range(7)] == [("third", "other")] * 7
    assert len(read) == 1
    file.path.write_text("{", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            file.names()
    file.path.unlink()
    assert file.names() == ()


@ON_POSIX
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_it_is_private_whatever_the_umask(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    write = os.write

    def watched(descriptor: int, data: Any) -> int:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watched)
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = ProfileFile(lambda: folder)
    before = os.umask(umask)
    try:
        add(file, "a")
        add(file, "b")
    finally:
        os.umask(before)
    assert modes and set(modes) == {0o600}, "private before anything is in it"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert names(file) == ["a", "b"]


@ON_POSIX
def test_folder_and_file_of_somebody_careless_become_private(file: ProfileFile) -> None:
    file.path.parent.mkdir(mode=0o755)
    file.path.write_text(json.dumps({"version": 1, "profiles": [entry("a")]}), encoding="utf-8")
    file.path.chmod(0o644)
    assert "OTHER USERS" in file.protection().en and "其他用户" in file.protection().zh
    add(file, "b")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert str(file.path) in file.protection().en and "0600" in file.protection().zh


def test_on_windows_it_is_said_what_protects_them(
    file: ProfileFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = file.path
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path))
    inside = profile_file._on_windows(path)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path / "elsewhere"))
    outside = profile_file._on_windows(path)
    assert "0600" not in inside.en + outside.en
    assert "user profile" in inside.en and "OUTSIDE" in outside.en
    assert "用户目录" in inside.zh and "不在" in outside.zh


def test_a_change_for_another_revision_changes_nothing(file: ProfileFile) -> None:
    first = add(file, "a")
    add(file, "b")
    before = file.path.read_bytes()
    for stale in (first.revision, "none", ""):
        with pytest.raises(StaleRevisionError), file.change(stale) as document:
            document["profiles"].clear()
    assert file.path.read_bytes() == before


def test_a_change_that_fails_changes_nothing(file: ProfileFile) -> None:
    revision = add(file, "a").revision
    before = file.path.read_bytes()
    with pytest.raises(KeyError), file.change(revision) as document:
        document["profiles"].clear()
        raise KeyError
    with pytest.raises(KeyError), file.change(revision) as document:
        del document["profiles"]  # what could not be read again
    assert file.path.read_bytes() == before
    assert not list(file.path.parent.glob("*.part"))


DAMAGE = {
    "empty": b"",
    "cut": b'{"version": 1, "profiles": [{"name": "a", "acc',
    "no JSON": b"canary-secret-in-a-damaged-file",
    "no UTF-8": b'{"version": 1, "profiles": [], "x": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "no version": b'{"profiles": []}',
    "version 0": b'{"version": 0, "profiles": []}',
    "a version that is no number": b'{"version": "2", "profiles": []}',
    "a version that is true": b'{"version": true, "profiles": []}',
    "profiles are a number": b'{"version": 1, "profiles": 1}',
    "a profile is a word": b'{"version": 1, "profiles": ["a"]}',
    "no name": b'{"version": 1, "profiles": [{"account": "x"}]}',
    "no account": b'{"version": 1, "profiles": [{"name": "x"}]}',
    "settings are a list": b'{"version": 1, "profiles": [{"name": "x", "account": "y", "settings": []}]}',
    "keys are a word": b'{"version": 1, "profiles": [{"name": "x", "account": "y", "keys": "canary-key"}]}',
    "a key is a word":
        b'{"version": 1, "profiles": [{"name": "x", "account": "y", "keys": {"hidream_token": "canary-key"}}]}',
    "a newer version, a key is a word":
        b'{"version": 2, "profiles": [{"name": "x", "account": "y", "keys": {"hidream_token": "canary-key"}}]}',
    "twice": b'{"version": 1, "profiles": [{"name": "x", "account": "y"}, {"name": "x", "account": "z"}]}',
    "deep": b"[" * 100_000,
    "endless": b'{"version": 1, "profiles": []}' + b" " * (5 * 2**20),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_left_as_it_is(file: ProfileFile, damage: str) -> None:
    add(file, "a")
    revision = file.read().revision
    file.path.write_bytes(DAMAGE[damage])
    with pytest.raises(ConfigurationError) as reading:
        file.read()
    with pytest.raises(ConfigurationError) as changing, file.change(revision):
        raise AssertionError("not reached")
    assert file.path.read_bytes() == DAMAGE[damage]
    for caught in (reading, changing):
        told = str(caught.value)
        assert str(file.path) in told and "canary" not in told and told.count("\n") == 1
        assert caught.value.__cause__ is None


@ON_POSIX
def test_a_file_that_cannot_be_read(file: ProfileFile) -> None:
    file.path.mkdir(parents=True)
    with pytest.raises(ConfigurationError):
        file.read()
    with pytest.raises(ConfigurationError), file.change("none"):
        raise AssertionError("not reached")


NEWER_KEYS = {
    "as today": {"value": "something", "for": ["x"], "until": 5},
    "word": "canary",
    "list": [{"a": 1}, None],
    "number": 1234567890123456789012345,
    "nothing": None,
    "object": {"for": 7, "\u6d77": "\u8fb9 \u2600"},
}
NEWER = {
    "version": 7,
    "colour": {"a": [1, 2.5, 1e-07], "": {}},
    "profiles": [
        {
            "newer_part": {"x": None},
            "name": "a",
            "account": "account-of-a",
            "keys": {
                **NEWER_KEYS,
                "hidream_token": {
                    "value": "key-of-a",
                    "for": [f"{HIDREAM_BASE_URL}:443/", f"{HIDREAM_EC_BASE_URL}:443/"],
                    "newer": [True],
                },
            },
            "settings": {"newer_setting": [1], "newer_switch": False, "newer_word": "\ud800", "language": "en"},
        },
        {"name": "b", "newer_part": "words", "account": "account-of-b"},
    ],
    "more": "words",
}  # fmt: skip


@pytest.fixture
def newer(file: ProfileFile) -> ProfileEditor:
    """Profiles that a newer version wrote."""
    file.path.parent.mkdir()
    file.path.write_text(json.dumps(NEWER, indent=1), encoding="ascii")
    return ProfileEditor(Profiles({}, lambda: pytest.fail("no sandbox"), file), file)


def test_what_a_newer_version_wrote_is_used(file: ProfileFile, newer: ProfileEditor) -> None:
    assert file.names() == ("a", "b")
    account = Profiles({}, lambda: pytest.fail("no sandbox"), file).hidream("a")
    assert isinstance(account.auth, BearerAuth) and account.auth.token.reveal() == "key-of-a"
    assert (account.language, account.account_id) == ("en", "account-of-a")
    _, shown, *_ = newer.shown().profiles
    assert {name for name, there in shown.keys.items() if there} == {"hidream_token"}
    assert shown.settings["language"] == "en"


def test_what_a_newer_version_wrote_survives_each_change(file: ProfileFile, newer: ProfileEditor) -> None:
    before = file.path.read_text(encoding="ascii")

    def is_now(expected: str) -> str:
        assert file.path.read_text(encoding="ascii") == expected
        return file.read().revision

    revision = newer.change(file.read().revision, "a", {"language": "zh"}, {}).revision
    is_now(changed := before.replace('"en"', '"zh"'))
    revision = newer.rename(revision, "a", "c").revision
    is_now(changed := changed.replace('"name": "a"', '"name": "c"'))
    revision = newer.add(revision, "d", {"language": "en"}, {"hidream_token": "another-key"}).revision
    newer.remove(revision, "d")
    revision = is_now(changed)
    # A key takes its own place only.
    newer.change(revision, "c", {}, {"hidream_api_key": "key-to-exchange", "hidream_token": ""})
    written = json.loads(file.path.read_bytes())
    del written["profiles"][0]["keys"]["hidream_api_key"]
    expected = json.loads(changed)
    del expected["profiles"][0]["keys"]["hidream_token"]
    assert json.dumps(written, indent=1) == json.dumps(expected, indent=1)


def test_a_key_of_a_newer_version_stays_when_the_host_changes(file: ProfileFile, newer: ProfileEditor) -> None:
    newer.change(file.read().revision, "a", {"hidream_base_url": "https://other.example.com"}, {})
    keys = json.loads(file.path.read_bytes())["profiles"][0]["keys"]
    assert json.dumps(keys) == json.dumps(NEWER_KEYS)


CHILD = """
import sys
from pathlib import Path
from tests import pack  # hidream_volcengine under its name
from hidream_volcengine.api.profiles.file import ProfileFile, StaleRevisionError

folder, prefix, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
file = ProfileFile(lambda: folder)
print("ready", flush=True)
sys.stdin.readline()
for index in range(number):
    while True:
        try:
            with file.change(file.read().revision) as document:
                document["profiles"].append({"name": f"{prefix}{index}", "account": "x" * 20_000})
            break
        except StaleRevisionError:
            pass
    print(index, flush=True)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def start(prefix: str, number: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "private"), prefix, str(number)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate(timeout=20)


def go(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_two_processes_lose_nothing(file: ProfileFile, child: Any) -> None:
    one, other = child("one-", 20), child("other-", 20)
    go(one, other)
    for process in (one, other):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(names(file)) == sorted(f"{prefix}-{index}" for prefix in ("one", "other") for index in range(20))


def test_threads_lose_nothing(file: ProfileFile) -> None:
    def add_some(prefix: str) -> None:
        for index in range(10):
            while True:
                try:
                    add(file, f"{prefix}{index}")
                    break
                except StaleRevisionError:
                    pass

    threads = [threading.Thread(target=add_some, args=(prefix,)) for prefix in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names(file)) == 30


@ON_POSIX
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_process_that_is_killed_leaves_the_old_file_or_the_new_one(file: ProfileFile, child: Any, after: int) -> None:
    """And no lock; what it leaves of a half-written one has gone after the next change."""
    process = child("killed-", 1000)
    go(process)
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    left = names(file)
    assert left == [f"killed-{index}" for index in range(len(left))] and len(left) >= after
    (file.path.parent / ".x.profiles.json.part").write_text("half a key", encoding="utf-8")
    add(file, "next")
    assert names(file) == [*left, "next"]
    assert not list(file.path.parent.glob(".*"))


@ON_POSIX
def test_killed_in_the_middle_of_writing(file: ProfileFile, tmp_path: Path) -> None:
    """At each step of the write: the old file stays until the new one is whole."""
    add(file, "a")
    old = file.path.read_bytes()
    for step in ("write", "fsync", "replace"):
        program = CHILD.replace(
            'print("ready"',
            f'import os, signal\nos.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nprint("ready"',
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "private"), "b", "1"],
            cwd=ROOT, input="go\n", text=True, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert file.path.read_bytes() == old
    add(file, "c")
    assert names(file) == ["a", "c"]
    assert not list(file.path.parent.glob(".*"))
