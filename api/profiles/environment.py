"""The environment variables that the server's owner sets: keys, settings, the journal's place, and deadlines.

An empty variable counts as not set.
"""

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
    """Checked values of environment variables. They are read at each use."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def value(self, variable: str) -> str:
        return self._variables.get(variable, "").strip()

    def has_key(self, name: str) -> bool:
        """Whether the variable of the key ``name`` (one of ``SECRETS``) holds more than blanks, quotes and "Bearer"."""
        return bool(bare_key(self.value(SECRETS[name].variable)))

    def key(self, name: str) -> str:
        """The key ``name`` (one of ``SECRETS``) as it is sent; "" if its variable is not set.

        Raises:
            ConfigurationError: the variable's value cannot be a key.
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
        """The value that applies where a profile sets none: the variable's, else the built-in default.

        Raises:
            ConfigurationError: the variable's value is not valid.
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
        """The account id that REMOTE_IMAGE_ACCOUNT gives to the keys of the environment; "" if it is not set.

        Raises:
            ConfigurationError: its bytes are no UTF-8.
        """
        return self._text("REMOTE_IMAGE_ACCOUNT")

    def _text(self, variable: str) -> str:
        """The value of a variable; raises ConfigurationError if its bytes are no UTF-8: they become surrogates."""
        value = self.value(variable)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _bad_variable(variable, BadValueError(Text("valid UTF-8", "有效的 UTF-8 文本")))
        return value

    def journal_settings(self, directory: Path) -> JournalSettings:
        """Where this server keeps its journal and store: in ``directory``, unless variables name other places.

        Raises:
            ConfigurationError: the store's size is no whole number, or the bytes of the URL are no UTF-8.
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
        """The deadlines in seconds, each from ``REMOTE_IMAGE_<NAME>_SECONDS`` if that is set.

        The deadlines for the answer to a paid call can only be made longer: a call whose answer is cut off may have
        been paid.

        Raises:
            ConfigurationError: a value is no number, or outside of the range that it names.
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


_logged_left_out: set[tuple[str, int]] = set()


def say_what_is_left_out(where: str, key: str) -> None:
    """Log, once for each key and place, that :func:`key_word` leaves out a part of the key.

    Args:
        where: a variable, or a setting with its profile.
    """
    what = left_out(key)
    if what is not None and (where, hash(key)) not in _logged_left_out:
        _logged_left_out.add((where, hash(key)))
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
    """The error for a setting whose value is not valid. It repeats the value only as far as ``problem.shown`` does."""
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
