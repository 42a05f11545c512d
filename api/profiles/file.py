"""The file ``profiles.json``: read at each use, replaced as a whole, and changed under a lock of all processes.

Its keys are protected by the file system alone, as a ``.netrc`` is: only its owner may read it (0600).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import (
    DEFAULT_PROFILE,
    SANDBOX_PROFILE,
    TEMPORARY,
    ConfigurationError,
    Provider,
    Secret,
    Text,
    alone,
    write_whole,
)


@dataclass(frozen=True)
class Key:
    """A secret of a profile.

    Args:
        owner: the provider that it is for.
        hosts: names of the settings with the addresses that it may be sent to.
        variable: of the environment, from which ``default`` takes it.
    """

    owner: Provider
    hosts: tuple[str, ...]
    variable: str


_HIDREAM_HOSTS = ("hidream_base_url", "hidream_ec_base_url")
# The keys that this version uses. They are here because ComfyUI's start needs them and does not load fields.py, which
# loads `transport`.
SECRETS: Mapping[str, Key] = {
    "hidream_token": Key("HiDream", _HIDREAM_HOSTS, "HIDREAM_TOKEN"),
    "hidream_api_key": Key("HiDream", _HIDREAM_HOSTS, "HIDREAM_API_KEY"),
    "volcengine_gateway_api_key": Key("Volcengine", ("volcengine_gateway_base_url",), "VOLCENGINE_GATEWAY_API_KEY"),
    "volcengine_access_key_id": Key("Volcengine", ("volcengine_base_url",), "VOLCENGINE_ACCESS_KEY_ID"),
    "volcengine_secret_access_key": Key("Volcengine", ("volcengine_base_url",), "VOLCENGINE_SECRET_ACCESS_KEY"),
}
_NAME = "profiles.json"
_LOCK = "profiles.lock"
# The number in a new file. A file of a newer version keeps its number and the entries that are unknown here.
_VERSION = 1
_MAX_BYTES = 4 * 2**20
_LOCK_WAITS_S = 10.0
_OTHER_USERS = stat.S_IRWXG | stat.S_IRWXO


class StaleRevisionError(Exception):
    """The file was changed after the revision that a change was made for."""


@dataclass(frozen=True)
class StoredSecret:
    """A key, and the addresses that it was entered for, as :func:`fields.is_bound_to` reads them."""

    value: Secret
    bound_to: tuple[str, ...]


@dataclass(frozen=True)
class StoredProfile:
    """A profile of the file. Its settings are not checked yet.

    Args:
        account_id: part of each request's key; it is kept when the profile is renamed or its keys are replaced.
        keys: those of ``SECRETS``.
        other_keys: the names of keys that another version stored; their form is not known.
    """

    name: str
    account_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, StoredSecret] = field(default_factory=dict)
    other_keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Contents:
    """What was read from the file.

    Args:
        revision: the first 32 hex digits of the SHA-256 of its bytes; ``none`` if there is no file.
        document: its JSON.
    """

    revision: str = "none"
    profiles: tuple[StoredProfile, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def find(self, name: str) -> StoredProfile | None:
        return next((profile for profile in self.profiles if profile.name == name), None)


class ProfileFile:
    """Reads and changes ``profiles.json`` in a folder.

    Args:
        directory: returns the folder; the first change makes it.
    """

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._cached: tuple[object, tuple[str, ...], bool] = (None, (), False)

    @property
    def path(self) -> Path:
        return self._directory() / _NAME

    def read(self) -> Contents:
        """What the file holds now; no profiles if there is no file.

        Raises:
            ConfigurationError: the file cannot be read or understood.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return Contents()
        except OSError as problem:
            raise self._unusable(problem.strerror or type(problem).__name__) from None
        try:
            return _contents(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # "from None", because the text of the cause may contain a part of the file.
            raise self._unusable("it is damaged, or of a version that stores profiles in another way") from None

    def names(self) -> tuple[str, ...]:
        """The names of the profiles in the file, in its order.

        Raises:
            ConfigurationError: the file cannot be read or understood.
        """
        return self._overview()[0]

    def has_keys(self) -> bool:
        """Whether any profile in the file has a key of any service or version; raises as :meth:`names`."""
        return self._overview()[1]

    def _overview(self) -> tuple[tuple[str, ...], bool]:
        """Names and :meth:`has_keys`. Cached until the file changes, because the widget of each node asks for them."""
        state = self.state()
        if state is None:
            return (), False
        cached_state, names, has_keys = self._cached
        if cached_state != state:
            profiles = self.read().profiles
            names = tuple(profile.name for profile in profiles)
            has_keys = any(profile.keys or profile.other_keys for profile in profiles)
            self._cached = (state, names, has_keys)
        return names, has_keys

    def state(self) -> tuple[int, ...] | None:
        """Values that differ after each change of the file; ``None`` if there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise self._unusable(problem.strerror or type(problem).__name__) from None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @contextmanager
    def change(self, revision: str) -> Iterator[dict[str, Any]]:
        """The file's JSON, to be edited in the block and written at its end; nothing is written if the block raises.

        Raises:
            StaleRevisionError: the file has another revision than ``revision``.
            ConfigurationError: the file cannot be locked, read, understood or written; it is left as it is.
        """
        try:
            self._make_folder()
            with alone(self._directory() / _LOCK, _LOCK_WAITS_S):
                found = self.read()
                if found.revision != revision:
                    raise StaleRevisionError
                document = copy.deepcopy(dict(found.document)) or {"version": _VERSION, "profiles": []}
                yield document
                self._write(document)
        except (OSError, sqlite3.Error) as problem:
            raise self._unusable(str(problem)) from None

    def _write(self, document: dict[str, Any]) -> None:
        data = json.dumps(document, indent=1).encode("ascii")
        _contents(data)  # raises for what could not be read again, so that it is not written
        for left_behind in self._directory().glob(f".*{_NAME}{TEMPORARY}"):
            # Left by a process that died while writing. It holds keys, and under the lock nobody else writes it now.
            with suppress(OSError):
                left_behind.unlink()
        write_whole(self.path, data, suffix=f"{_NAME}{TEMPORARY}")

    def _make_folder(self) -> None:
        folder = self._directory()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and folder.stat().st_mode & _OTHER_USERS:
            with suppress(OSError):
                folder.chmod(0o700)

    def protection(self) -> Text:
        """A text for the settings dialog: the path of the file, and who can read it."""
        path = self.path
        if os.name == "nt":
            return _on_windows(path)
        try:
            open_to_others = bool(path.stat().st_mode & _OTHER_USERS)
        except OSError:
            open_to_others = False
        if open_to_others:
            return Text(
                f"{path}. OTHER USERS OF THIS SERVER MAY READ IT: it was not made by this pack. "
                "The next change here makes it private (0600).",
                f"{path}。注意：此服务器的其他用户可能读取该文件（并非由本插件创建）。在此处做任意更改后将变为私有（0600）。",
            )
        return Text(
            f"{path}. Only the user that runs ComfyUI can read it (0600), and the administrators of this server; "
            "it is not encrypted.",
            f"{path}。仅运行 ComfyUI 的用户（权限 0600）与此服务器的管理员可读取；文件未加密。",
        )

    def _unusable(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            Text(
                f"The file of the profiles, {self.path}, cannot be used: {why}. It was left as it is.",
                f"无法使用配置文件 {self.path}：{why}。文件未被改动。",
            ),
            advice=Text(
                "Mend it or move it away. Profiles of the environment and `sandbox` go on working.",
                "请修复或移走该文件。环境变量中的配置和 `sandbox` 不受影响。",
            ),
        )


def profile_names(file: ProfileFile | None) -> list[str]:
    """The names of all profiles, for the widget: ``default``, those of the file, ``sandbox``.

    If the file cannot be read, only the built-in ones; a call with a profile of the file raises the error.
    """
    try:
        stored = file.names() if file is not None else ()
    except ConfigurationError:
        stored = ()
    return list(dict.fromkeys([DEFAULT_PROFILE, *stored, SANDBOX_PROFILE]))


# Blanks, invisible characters, and the quotes of shells, JSON, chats and web pages. No key begins or ends with one.
_AROUND_A_KEY = "[\\s\"'`“”„‟‘’‚‛«»‹›「」『』＂＇\u00ad\u200b-\u200f\u2060\ufeff]+"
_EDGES = re.compile(f"^{_AROUND_A_KEY}|{_AROUND_A_KEY}$")
# A key has no blanks, so a word before a blank is not part of it.
_BEARER = re.compile(r"(authorization\s*:\s*)?bearer:?\s+", re.IGNORECASE)


def bare_key(value: str) -> str:
    """A key without what was copied with it: quotes and invisible characters around it, the word Bearer before it."""
    bare = _EDGES.sub("", value)
    before = _BEARER.match(bare)
    return bare_key(bare[before.end() :]) if before else bare


def first_profile(file: ProfileFile, environment: Mapping[str, str]) -> str:
    """The default of the widget ``profile`` on a new node: ``sandbox`` if no key is set anywhere, else ``default``.

    Args:
        environment: the variables of the process.
    """
    if any(bare_key(environment.get(key.variable, "")) for key in SECRETS.values()):
        return DEFAULT_PROFILE
    try:
        return DEFAULT_PROFILE if file.has_keys() else SANDBOX_PROFILE
    except ConfigurationError:
        # Whether the file has a key is not known. A call with `default` raises the error of the file.
        return DEFAULT_PROFILE


def _on_windows(path: Path) -> Text:
    """:meth:`ProfileFile.protection` on Windows, where a file has the permissions of its folder.

    Only a folder in the user's Windows profile keeps other users out.
    """
    if path.is_relative_to(Path.home()):
        return Text(
            f"{path}. It lies in your Windows user profile: you, the system and administrators can read it, other "
            "users cannot, unless its permissions were changed. It is not encrypted.",
            f"{path}。位于您的 Windows 用户目录：您本人、系统与管理员可读取，其他用户不可读取（除非权限被修改过）。"
            "文件未加密。",
        )
    return Text(
        f"{path}. IT LIES OUTSIDE OF YOUR WINDOWS USER PROFILE: it has the permissions of its folder, and other users "
        "of this computer may be able to read it. It is not encrypted.",
        f"{path}。注意：该文件不在您的 Windows 用户目录中，权限与所在文件夹相同，此电脑的其他用户可能可以读取。"
        "文件未加密。",
    )


def _contents(data: bytes) -> Contents:
    """The parsed file.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is no file of profiles.
    """
    document = json.loads(data.decode("utf-8"))
    if len(data) > _MAX_BYTES or not isinstance(document, dict):
        raise ValueError
    version = document["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError
    profiles = tuple(_profile(entry) for entry in document["profiles"])
    if len({profile.name for profile in profiles}) != len(profiles):
        raise ValueError
    return Contents(hashlib.sha256(data).hexdigest()[:32], profiles, document)


def _profile(entry: dict[str, Any]) -> StoredProfile:
    settings, keys = entry.get("settings", {}), entry.get("keys", {})
    if not isinstance(settings, dict):
        raise TypeError
    stored = {
        name: StoredSecret(Secret(_word(key["value"])), tuple(map(_word, key["for"])))
        for name, key in keys.items()
        if name in SECRETS
    }
    unknown = frozenset(keys) - SECRETS.keys()
    return StoredProfile(_word(entry["name"]), _word(entry["account"]), settings, stored, unknown)


def _word(value: object) -> str:
    """The value, if it is a text that is not empty; else raises TypeError or ValueError."""
    if not isinstance(value, str) or not value:
        raise TypeError
    value.encode("utf-8")  # raises ValueError for a surrogate, which JSON can contain
    return value
