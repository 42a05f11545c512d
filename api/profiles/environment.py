"""What the server's owner sets in the environment. Empty is unset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from ..core import ConfigurationError, Deadlines, JournalSettings, Text, pack_logger
from .fields import SECRETS, SETTINGS, BadValueError, Value, key_word, left_out, limit, switch
from .file import bare_key

_SWITCH = {**dict.fromkeys(("0", "false", "no", "off"), False), **dict.fromkeys(("1", "true", "yes", "on"), True)}
_CALLBACKS = ("REMOTE_IMAGE_CALLBACK_URL", "REMOTE_IMAGE_CALLBACK_LISTEN")


class Environment:
    """The variables of a process, looked up at each use."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def value(self, variable: str) -> str:
        return self._variables.get(variable, "").strip()

    def has_key(self, name: str) -> bool:
        return bool(bare_key(self.value(SECRETS[name].variable)))

    def key(self, name: str) -> str:
        """
        Raises:
            ConfigurationError: the variable holds what cannot be a key.
        """
        variable = SECRETS[name].variable
        if not self.has_key(name):
            return ""
        say_what_is_left_out(variable, self.value(variable))
        try:
            return key_word(self.value(variable))
        except BadValueError as problem:
            raise _bad_variable(variable, problem) from None

    def setting(self, name: str) -> Value:
        """What applies where a profile sets nothing itself: the environment's value, else the built-in one.

        Raises:
            ConfigurationError: the variable's value is not taken.
        """
        setting = SETTINGS[name]
        value = self.value(setting.variable) if setting.variable else ""
        if not value:
            return setting.default
        if setting.check is limit:
            return self._number(setting.variable, value)
        if setting.check is switch:
            if value.lower() not in _SWITCH:
                raise _bad_variable(setting.variable, BadValueError(Text("1 or 0", "1 或 0"), value))
            return _SWITCH[value.lower()]
        try:
            return setting.check(value)
        except BadValueError as problem:
            raise _bad_variable(setting.variable, problem) from None

    def _number(self, variable: str, value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise _bad_variable(
                variable, BadValueError(Text("a whole number, 0 = no limit", "整数，0 表示不限"), value)
            )
        return int(value)

    def warn_of_unused(self) -> None:
        """Log one warning if variables of version 0.1 are set that do nothing any more."""
        unused = [variable for variable in _CALLBACKS if self.value(variable)]
        if unused:
            pack_logger().warning(
                "%s: this version no longer listens for callbacks of HiDream; tasks are polled as before. To pass an "
                "address of a system of your own to HiDream, set REMOTE_IMAGE_NOTIFY_URL.",
                ", ".join(unused),
            )

    def account(self) -> str:
        """
        Raises:
            ConfigurationError: half of a character is in it.
        """
        return self._text("REMOTE_IMAGE_ACCOUNT")

    def _text(self, variable: str) -> str:
        """A value that UTF-8 can say: bytes of another encoding come as halves of characters."""
        value = self.value(variable)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _bad_variable(variable, BadValueError(Text("valid UTF-8", "有效的 UTF-8 文本")))
        return value

    def journal_settings(self, directory: Path) -> JournalSettings:
        """Where this server keeps its journal: in ``directory``, unless its owner chose another place.

        Raises:
            ConfigurationError: a size that is no number, or half of a character in the URL.
        """
        size = self.value("REMOTE_IMAGE_STORE_MAX_GB")
        gigabytes = self._number("REMOTE_IMAGE_STORE_MAX_GB", size) if size else 0
        store = self.value("REMOTE_IMAGE_STORE_DIR")
        return JournalSettings(
            directory=directory,
            url=self._text("REMOTE_IMAGE_JOURNAL_URL"),
            store=Path(store) if store else None,
            store_max_bytes=gigabytes * 10**9 if gigabytes else None,
        )

    def deadlines(self) -> Deadlines:
        """``REMOTE_IMAGE_<NAME>_SECONDS`` for each deadline; the answer to a paid call is never cut shorter.

        Raises:
            ConfigurationError: one that is not possible.
        """
        chosen: dict[str, float] = {}
        for deadline in fields(Deadlines):
            variable = f"REMOTE_IMAGE_{deadline.name.upper()}_SECONDS"
            value = self.value(variable)
            if not value:
                continue
            try:
                seconds = float(value)
            except ValueError:
                seconds = math.nan
            least = getattr(Deadlines, deadline.name) if deadline.name.endswith("_answer") else 0.1
            if not least <= seconds <= 86400:
                allowed = Text(f"{least:g}…86400", f"{least:g}…86400")
                raise _bad_variable(variable, BadValueError(allowed, value))
            chosen[deadline.name] = seconds
        return Deadlines(**chosen)


_said: set[tuple[str, int]] = set()


def say_what_is_left_out(where: str, key: str) -> None:
    """Log once what :func:`key_word` leaves out of the key that stands at ``where``."""
    what = left_out(key)
    if what is not None and (where, hash(key)) not in _said:
        _said.add((where, hash(key)))
        pack_logger().warning("%s: %s.", where, what.en)


def _bad_variable(variable: str, problem: BadValueError) -> ConfigurationError:
    return bad_setting(
        variable,
        problem,
        Text(
            "Correct it in the environment of the ComfyUI server, restart it, and queue again.",
            "请在 ComfyUI 服务器的环境变量中修正，重启后重新运行。",
        ),
    )


def bad_setting(name: str, problem: BadValueError, advice: Text | None = None) -> ConfigurationError:
    """The error for a value that is not taken."""
    allowed, value = problem.allowed, problem.shown
    shown = (
        Text(f": it is {value}", f"（当前为 {value}）") if value else Text(" (its value is not shown)", "（值不显示）")
    )
    return ConfigurationError(
        Text(
            f"The setting {name} is not valid{shown.en}; it must be {allowed.en}.",
            f"设置 {name} 无效{shown.zh}，应为{allowed.zh}。",
        ),
        advice=advice,
    )
