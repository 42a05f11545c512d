"""The environment variables that the server's owner sets: keys, settings, the journal's place, and deadlines.

An empty variable counts as not set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..core import ConfigurationError, Deadlines, JournalSettings, Text, pack_logger
from .fields import SETTINGS, BadValueError, Value, key_word, left_out, limit_in_digits
from .file import SECRETS, bare_key

_CALLBACKS = ("REMOTE_IMAGE_CALLBACK_URL", "REMOTE_IMAGE_CALLBACK_LISTEN")
_LONGEST_S = 86400.0
_T = TypeVar("_T")
_V = TypeVar("_V")


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
        return self._checked(variable, partial(sent_key, variable), "") if self.has_key(name) else ""

    def setting(self, name: str) -> Value:
        """The value that applies where a profile sets none: the variable's, else the built-in default.

        Raises:
            ConfigurationError: the variable's value is not valid.
        """
        setting = SETTINGS[name]
        return self._checked(setting.variable, setting.check_variable, setting.default)

    def _checked(self, variable: str, check: Callable[[str], _T], default: _T) -> _T:
        """What ``check`` makes of a variable; ``default`` if it is not set, or "". Raises as :func:`checked`."""
        value = self.value(variable) if variable else ""
        return checked(variable, check, value, _VARIABLE_ADVICE) if value else default

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
        return self._checked("REMOTE_IMAGE_ACCOUNT", _utf_8, "")

    def journal_settings(self, directory: Path) -> JournalSettings:
        """Where this server keeps its journal and store: in ``directory``, unless variables name other places.

        Raises:
            ConfigurationError: the store's size is no whole number, or the bytes of the URL are no UTF-8.
        """
        gigabytes = self._checked("REMOTE_IMAGE_STORE_MAX_GB", limit_in_digits, 0)
        store = self.value("REMOTE_IMAGE_STORE_DIR")
        return JournalSettings(
            directory=directory,
            url=self._checked("REMOTE_IMAGE_JOURNAL_URL", _utf_8, ""),
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
        for name, default in asdict(Deadlines()).items():
            check = partial(_seconds, default if name.endswith("_answer") else 0.1)
            chosen[name] = self._checked(f"REMOTE_IMAGE_{name.upper()}_SECONDS", check, default)
        return Deadlines(**chosen)


def _seconds(least: float, value: str) -> float:
    """A deadline in the text of a variable."""
    with suppress(ValueError):
        if least <= float(value) <= _LONGEST_S:
            return float(value)
    allowed = f"{least:g}…{_LONGEST_S:g}"
    raise BadValueError(Text(allowed, allowed), value)


def _utf_8(value: str) -> str:
    """The value of a variable, unless its bytes are no UTF-8: Python makes surrogates of them."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadValueError(Text("valid UTF-8", "有效的 UTF-8 文本"))
    return value


_logged_left_out: set[tuple[str, int]] = set()


def sent_key(where: str, key: str) -> str:
    """The key as it is sent, see :func:`key_word`; logs a part that is left out once for each key and place.

    Args:
        where: a variable, or a setting with its profile.
    """
    what = left_out(key)
    if what is not None and (where, hash(key)) not in _logged_left_out:
        _logged_left_out.add((where, hash(key)))
        pack_logger().warning("%s: %s.", where, what.en)
    return key_word(key)


_VARIABLE_ADVICE = Text(
    "Correct it in the environment of the ComfyUI server, restart it, and queue again.",
    "请在 ComfyUI 服务器的环境变量中修正，重启后重新运行。",
)


def checked(name: str, check: Callable[[_V], _T], value: _V, advice: Text | None = None) -> _T:
    """What ``check`` makes of the value of the setting ``name``.

    Raises:
        ConfigurationError: the value is not valid. It is repeated only as far as ``BadValueError.shown`` does.
    """
    try:
        return check(value)
    except BadValueError as problem:
        allowed, shown = problem.allowed, Text(" (its value is not shown)", "（值不显示）")
        if problem.shown:
            shown = Text(f": it is {problem.shown}", f"（当前为 {problem.shown}）")
    raise ConfigurationError(
        Text(
            f"The setting {name} is not valid{shown.en}; it must be {allowed.en}.",
            f"设置 {name} 无效{shown.zh}，应为{allowed.zh}。",
        ),
        advice=advice,
    )
