"""The settings dialog's view of the profiles, and its changes of the file; each change is made whole or not at all."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..catalog import AnyEndpoint, DeclaredLimit, declared_limits
from ..core import DEFAULT_PROFILE, SANDBOX_PROFILE, ConfigurationError, Provider, Secret, Text
from ..transport import Diagnosis, origin
from .check import check_profile
from .fields import (
    KEY_CHECKS,
    PRICES,
    PRICES_CURRENCY,
    PROVIDERS,
    SETTING_CHECKS,
    SETTINGS,
    WITH_THE_KEY,
    BadValueError,
    Value,
    bases_of,
    in_digits,
    is_bound_to,
    left_out,
    profile_name,
    same_name,
)
from .file import SECRETS, ProfileFile, StaleRevisionError, StoredProfile
from .resolve import Profiles
from .retired import Retired, retired_in

_MOST_PROFILES = 100

_STALE = Text(
    "The profiles were changed elsewhere meanwhile, so nothing was changed here. Look at them again.",
    "配置已在别处被修改，此处未做任何更改，请重新查看。",
)


class RefusedEditError(Exception):
    """A change that was not made. ``why`` is for the user.

    ``kind`` is ``invalid``, or ``changed elsewhere``: the file is not the one any more that the dialog showed.
    """

    def __init__(self, why: Text, kind: Literal["invalid", "changed elsewhere"] = "invalid") -> None:
        super().__init__(why.en)
        self.why = why
        self.kind = kind


@dataclass(frozen=True)
class ShownProfile:
    """What the settings dialog shows of a profile. Values of keys are not in it.

    Args:
        built_in: it is ``sandbox``, which cannot be changed.
        in_file: the file of profiles has it.
        environment: the providers whose key, hosts and account come from the environment.
        ready: the providers for which it has a complete key.
        keys: for each name of a key, whether the file has a value.
        settings: its own values; "" or ``None`` where it sets nothing.
        retired: entries of earlier versions; a profile that has any cannot be used until they are removed.
    """

    name: str
    built_in: bool
    in_file: bool
    environment: tuple[Provider, ...]
    ready: tuple[Provider, ...]
    keys: Mapping[str, bool]
    settings: Mapping[str, Value]
    retired: tuple[Retired, ...]


@dataclass(frozen=True)
class ShownProfiles:
    """All that the settings dialog shows.

    Args:
        revision: of the file; a change has to name it.
        protection: where the keys are kept, and who can read them.
        profiles: ``default`` first, ``sandbox`` last.
        defaults: for each setting, the value that applies where a profile sets none.
        limits: those that endpoints declare, and whose account they are of.
        prices: the settings of the prices, and the endpoint that each is of.
        told: what the user has to know about the change that was just made.
    """

    revision: str
    protection: Text
    profiles: tuple[ShownProfile, ...]
    defaults: Mapping[str, Value]
    limits: Mapping[DeclaredLimit, Provider]
    prices: Mapping[str, AnyEndpoint]
    told: tuple[Text, ...] = ()


class ProfileEditor:
    """Adds, changes, renames and removes profiles of a server's file."""

    def __init__(self, profiles: Profiles, file: ProfileFile) -> None:
        self._profiles = profiles
        self._file = file

    def shown(self, told: Sequence[Text] = ()) -> ShownProfiles:
        """The profiles as they are now, with the texts ``told`` about a change.

        Raises:
            ConfigurationError: the file cannot be used.
        """
        contents = self._file.read()
        default = contents.find(DEFAULT_PROFILE)
        others = [profile for profile in contents.profiles if profile is not default]
        shown = [self._shown(DEFAULT_PROFILE, default), *(self._shown(other.name, other) for other in others)]
        return ShownProfiles(
            contents.revision,
            self._file.protection(),
            (*shown, self._shown(SANDBOX_PROFILE, None)),
            {name: self._default(name) for name in SETTINGS},
            declared_limits(),
            PRICES,
            tuple(told),
        )

    def add(
        self, revision: str, name: object, settings: Mapping[str, object], keys: Mapping[str, object]
    ) -> ShownProfiles:
        """Add a profile and return all profiles as they are then.

        Args:
            revision: of the file that the user saw.
            name: as it was entered, not checked yet; so are the values of ``settings`` and ``keys``.
            settings: values by the names of ``SETTINGS``.
            keys: values by the names of ``SECRETS``.

        Raises:
            RefusedEditError: a name or a value is not valid, or the file has another revision. Nothing was changed.
            ConfigurationError: the file, or a setting of the environment, cannot be used.
        """
        told: list[Text] = []
        with self._change(revision) as entries:
            entry = _new_entry(_free_name(entries, name))
            if len(entries) >= _MOST_PROFILES:
                raise RefusedEditError(Text(f"There are {_MOST_PROFILES} profiles already.", "配置数量已达上限。"))
            self._edit(entry, settings, keys, told)
            entries.append(entry)
        return self.shown(told)

    def change(
        self, revision: str, name: object, settings: Mapping[str, object], keys: Mapping[str, object]
    ) -> ShownProfiles:
        """Change the values that are given, keep the others; "" removes a value, also a retired one.

        ``default`` is added if the file does not have it. Arguments, result and errors are those of :meth:`add`.
        """
        told: list[Text] = []
        with self._change(revision) as entries:
            if name == DEFAULT_PROFILE and all(entry["name"] != name for entry in entries):
                entries.insert(0, _new_entry(DEFAULT_PROFILE))
            self._edit(_find(entries, name), settings, keys, told)
        return self.shown(told)

    def rename(self, revision: str, name: object, new_name: object) -> ShownProfiles:
        """Rename a profile. Its account id stays, so that what it bought is found again. Otherwise as :meth:`add`."""
        with self._change(revision) as entries:
            entry = _find(entries, name)
            entry["name"] = _free_name([other for other in entries if other is not entry], new_name)
        told = Text(
            "Workflows that name the old profile have to be changed to the new name.",
            "引用旧名称的工作流需要改用新名称。",
        )
        return self.shown([told])

    def remove(self, revision: str, name: object) -> ShownProfiles:
        """Remove a profile with its keys. Otherwise as :meth:`add`."""
        with self._change(revision) as entries:
            entries.remove(_find(entries, name))
        return self.shown()

    def check(self, name: object, provider: object) -> Diagnosis:
        """Send a service one free request with a profile's key; see :func:`check_profile`. The file stays as it is.

        Raises:
            RefusedEditError: there is no such profile or provider.
            ConfigurationError: the file was changed meanwhile and lacks the profile, or cannot be used.
        """
        if not isinstance(name, str) or provider not in PROVIDERS:
            raise _unknown(name)
        if problem := self._profiles.check_name(name):
            raise RefusedEditError(problem)
        return check_profile(self._profiles, name, provider)

    @contextmanager
    def _change(self, revision: str) -> Iterator[list[dict[str, Any]]]:
        """The profiles of the file as JSON, to be edited in the block; written at its end, unless the block raises."""
        try:
            with self._file.change(revision) as document:
                yield document["profiles"]
        except StaleRevisionError:
            raise RefusedEditError(_STALE, "changed elsewhere") from None

    # ---- showing

    def _shown(self, name: str, stored: StoredProfile | None) -> ShownProfile:
        built_in = name == SANDBOX_PROFILE
        return ShownProfile(
            name=name,
            built_in=built_in,
            in_file=stored is not None,
            environment=tuple(owner for owner in PROVIDERS if self._profiles.by_environment(name, owner)),
            ready=tuple(owner for owner in PROVIDERS if built_in or self._profiles.has_key(name, owner)),
            keys={key: stored is not None and key in stored.keys for key in SECRETS},
            settings={setting: _own_value(stored, setting) for setting in SETTINGS},
            retired=tuple(retired_in(stored)) if stored is not None else (),
        )

    def _default(self, name: str) -> Value:
        """The value of a setting where a profile sets none, as far as it may be shown."""
        if name == "proxy":
            return _proxy_of_the_environment()
        try:
            value = self._profiles.environment.setting(name)
            # The path and the query of notify_url may be secret.
            return f"{origin(value)}/…" if name == "notify_url" and isinstance(value, str) and value else value
        except ConfigurationError:
            # The variable's value is not valid. The call that uses the setting raises that error; the list is shown.
            return SETTINGS[name].unset

    # ---- editing

    def _edit(
        self, entry: dict[str, Any], settings: Mapping[str, object], keys: Mapping[str, object], told: list[Text]
    ) -> None:
        """Put settings, then keys into the JSON of a profile: a key is bound to the hosts that the settings name."""
        self._bind_old_keys(entry)
        for name, value in settings.items():
            checked = _checked(name, SETTING_CHECKS.get(name), value)
            entry["settings"].pop(name, None)
            if checked not in (None, ""):
                entry["settings"][name] = checked
        if not settings.keys().isdisjoint({*PRICES, PRICES_CURRENCY}):
            _check_prices(entry["settings"])
        self._forget_keys_of_other_addresses(entry, keys, told)
        for name, value in keys.items():
            key = _checked(name, KEY_CHECKS.get(name), value)
            if what := left_out(value):
                told.append(Text(f"{name}: {what.en}.", f"{name}：{what.zh}。"))
            entry["keys"].pop(name, None)
            if key:
                entry["keys"][name] = {"value": Secret(str(key)).reveal(), "for": self._new_bases(entry, name)}
        self._tell_unused_values(entry["name"], {*settings, *keys}, told)

    def _bind_old_keys(self, entry: dict[str, Any]) -> None:
        """Bind keys that version 0.1 bound to a host alone to the whole address, before a setting changes it.

        What stands in a key's ``for`` behind the addresses (version 0.1 wrote a CA file there) is kept.
        """
        for name, key in entry["keys"].items():
            if name in SECRETS and is_bound_to(key["for"], bases := self._bases(entry, name)):
                key["for"] = [*bases, *key["for"][len(bases) :]]

    def _forget_keys_of_other_addresses(
        self, entry: dict[str, Any], entered: Mapping[str, object], told: list[Text]
    ) -> None:
        """Delete the keys that were entered for another address than the profile has now; no other one gets them.

        Keys that another version of the pack stored stay.

        Args:
            entered: the keys of this change; they are replaced or removed anyway.
        """
        for name in [name for name in entry["keys"] if name in SECRETS and name not in entered]:
            if not is_bound_to(entry["keys"][name]["for"], self._bases(entry, name)):
                del entry["keys"][name]
                told.append(_forgotten(name))

    def _bases(self, entry: dict[str, Any], name: str) -> tuple[str, ...]:
        """The addresses that a key can be bound to now; "" for each that is not set, or not valid."""
        return bases_of(name, partial(self._host, entry))

    def _host(self, entry: dict[str, Any], name: str) -> str:
        """The address that the setting ``name`` comes to: the profile's, else the environment's; "" for none."""
        own = entry["settings"].get(name)
        if not own:
            return str(self._profiles.environment.setting(name) or "")
        try:
            return str(SETTINGS[name].check(own))
        except BadValueError:
            # The file was edited by hand; no key can be bound to an address that is not valid.
            return ""

    def _new_bases(self, entry: dict[str, Any], name: str) -> list[str]:
        """The addresses that a key is entered for; raises RefusedEditError if the profile lacks one."""
        bases = self._bases(entry, name)
        missing = ", ".join(host for host, base in zip(SECRETS[name].hosts, bases, strict=True) if not base)
        if missing:
            raise RefusedEditError(Text(f"{name} needs {missing}, too.", f"填写 {name} 时还需填写 {missing}。"))
        return list(bases)

    def _tell_unused_values(self, profile: str, changed: set[str], told: list[Text]) -> None:
        """Say which of the changed values have no effect because the environment has the provider's key."""
        for owner in PROVIDERS:
            names = ", ".join(sorted(name for name in changed & WITH_THE_KEY if name.startswith(owner.lower())))
            if names and self._profiles.by_environment(profile, owner):
                told.append(
                    Text(
                        f"The environment of the server has a key for {owner}, and that one is used with its own host: "
                        f"what is entered here ({names}) applies only without it.",
                        f"服务器环境变量中已有 {owner} 的密钥，将使用该密钥及其主机；"
                        f"此处填写的内容（{names}）仅在未设置环境变量时生效。",
                    )
                )


def _check_prices(settings: Mapping[str, Any]) -> None:
    """Raise RefusedEditError if an amount is not valid (edited by hand), or has no currency."""
    for name in PRICES:
        if _checked(name, SETTINGS[name].check, settings.get(name)) and not settings.get(PRICES_CURRENCY):
            raise RefusedEditError(
                Text(f"{name} needs {PRICES_CURRENCY}, too.", f"填写 {name} 时还需填写 {PRICES_CURRENCY}。")
            )


def _forgotten(name: str) -> Text:
    return Text(
        f"Its address changed, so the key {name} was forgotten: enter it again.",
        f"服务地址已更改，密钥 {name} 已被清除，请重新填写。",
    )


def _new_entry(name: str) -> dict[str, Any]:
    return {"name": name, "account": f"profile-{uuid.uuid4().hex}", "settings": {}, "keys": {}}


def _find(entries: list[dict[str, Any]], name: object) -> dict[str, Any]:
    """The entry of a profile, to which empty ``settings`` and ``keys`` are added if it lacks them.

    Raises:
        RefusedEditError: there is none.
    """
    found = next((entry for entry in entries if entry["name"] == name), None)
    if found is None:
        raise _unknown(name)
    found.setdefault("settings", {})
    found.setdefault("keys", {})
    return found


def _unknown(name: object) -> RefusedEditError:
    if name == SANDBOX_PROFILE:
        return RefusedEditError(Text("`sandbox` is built in and stays as it is.", "`sandbox` 为内置配置，不可更改。"))
    return RefusedEditError(Text("There is no such profile.", "没有该配置。"))


def _free_name(others: list[dict[str, Any]], name: object) -> str:
    wanted = str(_checked("name", profile_name, name))
    # `default` exists even if the file does not have it.
    taken = [*(other["name"] for other in others), *([DEFAULT_PROFILE] if wanted != DEFAULT_PROFILE else [])]
    if any(same_name(wanted, other) for other in taken):
        raise RefusedEditError(
            Text("There is a profile of that name already (capitals do not count).", "已有同名配置（不区分大小写）。")
        )
    return wanted


def _checked(name: str, check: Callable[[object], Value] | None, value: object) -> Value:
    """The value as it is stored; raises RefusedEditError, whose text never repeats a key.

    Args:
        check: of this setting or key; ``None`` if there is none of that name.
    """
    if check is None:
        # The unknown name may be a key that was put in the wrong field: it is repeated only if it looks like a name.
        known = name if re.fullmatch(r"[a-z_]{1,40}", name) else "?"
        raise RefusedEditError(Text(f"There is no setting or key {known}.", f"没有名为 {known} 的设置或密钥。"))
    try:
        return check(value)
    except BadValueError as problem:
        raise RefusedEditError(
            Text(f"{name} must be {problem.allowed.en}.", f"{name} 应为{problem.allowed.zh}。")
        ) from None


def _own_value(stored: StoredProfile | None, name: str) -> Value:
    """The profile's own value of a setting, as far as it may be shown; "" or ``None`` where it has none."""
    unset = SETTINGS[name].unset
    value = stored.settings.get(name, unset) if stored is not None else unset
    if name in PRICES:
        value = in_digits(value)
    if isinstance(value, str) and (name == "proxy" or name.endswith("_base_url")):
        # A user may have written an address with a login into the file.
        value = re.sub(r".*@", "***@", value)
    # Only the type is checked: a value that is not valid any more is shown, so that the user can correct it.
    return value if isinstance(value, str) == (unset == "") and isinstance(value, str | int | None) else unset


def _proxy_of_the_environment() -> str:
    """The proxy that requests would use, without its login; "" if there is none or its address cannot be parsed."""
    proxies = getproxies()
    given = proxies.get("https") or proxies.get("all") or ""
    try:
        parts = urlsplit(given)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""
