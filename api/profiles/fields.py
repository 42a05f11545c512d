"""The settings and keys of a profile: their names, the check of each value, their variables and defaults.

A check returns the value as it is stored and used, or raises :class:`BadValueError`. "" or ``None`` unset a setting.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError
from requests import RequestException

from ..catalog import ENDPOINTS, AigcMeta, AnyEndpoint, LogoInfo, ResultOption, declared_limits
from ..core import SANDBOX_PROFILE, Provider, Text
from ..transport import NO_PROXY, base_of, climbs, is_loopback
from .file import SECRETS, bare_key

HIDREAM_BASE_URL = "https://www.hidreamai.com"
HIDREAM_EC_BASE_URL = "https://hidreamai.com"
VOLCENGINE_BASE_URL = "https://visual.volcengineapi.com"

Value = str | int | bool | None

_MAX_CHARACTERS = 2048
_MAX_KEY_CHARACTERS = 4096
_MAX_NAME_CHARACTERS = 64
_MAX_LIMIT = 10**9 - 1
_WHOLE_NUMBER = Text("a whole number, 0 = no limit", "整数，0 表示不限")
_SWITCH = {**dict.fromkeys(("0", "false", "no", "off"), False), **dict.fromkeys(("1", "true", "yes", "on"), True)}
# Nothing else is allowed between // and /: urllib, requests and urllib3 do not agree on what other characters mean.
_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]*)?", re.IGNORECASE | re.ASCII)


class BadValueError(Exception):
    """A value that is not valid.

    Args:
        allowed: which values are, as the end of the sentence "it must be …".
        shown: the part of the value that an error message may repeat; "" for a secret.
    """

    def __init__(self, allowed: Text, shown: str = "") -> None:
        super().__init__(allowed.en)
        self.allowed = allowed
        self.shown = shown


# ---- what values look like


def text_of(value: object) -> str:
    """The value without blanks around it; it must be one line of at most 2048 characters."""
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
        raise BadValueError(
            Text(f"a text of at most {_MAX_CHARACTERS} characters", f"不超过 {_MAX_CHARACTERS} 个字符的文本")
        )
    stripped = value.strip()
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in stripped):
        raise BadValueError(Text("a text of one line", "单行文本"))
    return stripped


def header_word(value: object) -> str:
    """The value without blanks around it; it must be printable ASCII without spaces, as an HTTP header takes it."""
    word = value.strip() if isinstance(value, str) and len(value) <= _MAX_KEY_CHARACTERS else " "
    if not all("!" <= character <= "~" for character in word):
        raise BadValueError(_HEADER_WORD)
    return word


_HEADER_WORD = Text(
    "printable ASCII without spaces, and without the word Bearer", "不含空格的可打印 ASCII 字符，且不带 Bearer 一词"
)


def key_word(value: object) -> str:
    """A key as it is sent: what was entered without what :func:`bare_key` takes away; "" for ""."""
    if not isinstance(value, str) or len(value) > _MAX_KEY_CHARACTERS:
        return header_word(value)
    bare = bare_key(value)
    if value.strip() and not bare:
        # For example two quotes. Only an empty value removes a key.
        raise BadValueError(_HEADER_WORD)
    return header_word(bare)


def left_out(value: object) -> Text | None:
    """A note that :func:`key_word` leaves out more than blanks around a key; ``None`` if it does not."""
    if not isinstance(value, str) or bare_key(value) == value.strip():
        return None
    return Text(
        "quotes, invisible characters or the word Bearer around the key are left out",
        "密钥两端的引号、不可见字符或 Bearer 一词已略去",
    )


def user_id(value: object) -> str:
    return header_word(text_of(value))


def url(value: object) -> str:
    """The address of a service without slashes at its end; "" is valid, too.

    It is https, or http on this machine, and has no login, query, fragment or "..".
    """
    address = text_of(value).rstrip("/")
    allowed = Text("https://host[:port]", "https://host[:port]")
    if address:
        parts = _parts_of(address, allowed)
        if "?" in address or "#" in address or climbs(parts.path):
            raise BadValueError(allowed)
        try:
            base_of(address)
        except RequestException:
            raise BadValueError(allowed) from None
    return address


def _base_url(own_path: str) -> Callable[[object], str]:
    """The check of an address to which the pack adds a path. A path that was entered with it is removed.

    Args:
        own_path: regular expression of that path, as users copy it from documentation.
    """
    entered = re.compile(f"(?<![:/]){own_path}$", re.IGNORECASE | re.ASCII)
    return lambda value: url(entered.sub("", text_of(value)))


_hidream_url = _base_url("/+(api-pub|prod-api)(/.*)?")
# Users enter /v1 because other clients of the same gateways need it.
_gateway_url = _base_url(r"(/+v1)?(/+volcv/+v1)?/*(\?Action=[^#]*)?")
_volcengine_url = _base_url(r"/*(\?Action=[^#]*)?")


def notify_url(value: object) -> str:
    """An address of the server owner's own system, which HiDream calls; it is not changed but for blanks around it.

    Its path and query may be secret: no error repeats them.
    """
    address = text_of(value)
    allowed = Text("https://host[:port]/path[?query]", "https://host[:port]/path[?query]")
    if address:
        _parts_of(address, allowed)
        if "#" in address or not all("!" <= character <= "~" for character in address):
            raise BadValueError(allowed)
    return address


def _parts_of(address: str, allowed: Text) -> SplitResult:
    """The parts of an https address without a login; http only for this machine.

    Args:
        allowed: the text of the error for any other address.
    """
    parts = _split(address, allowed)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        secure = Text("https://… (http:// only for 127.0.0.1)", "https://…（仅 127.0.0.1 可用 http://）")
        raise BadValueError(secure, f"{parts.scheme}://{parts.hostname}")
    return parts


def _split(address: str, allowed: Text) -> SplitResult:
    """The parts of an address that has a valid host and port and no login; else raises BadValueError(allowed)."""
    with suppress(ValueError):
        parts = urlsplit(address)
        if _HOST.fullmatch(parts.netloc) and parts.port != 0:
            return parts
    raise BadValueError(allowed)


def language(value: object) -> str:
    chosen = text_of(value)
    if chosen not in ("", "en", "zh"):
        raise BadValueError(Text("en or zh", "en 或 zh"), chosen)
    return chosen


def switch(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise BadValueError(Text("true, false or null", "true、false 或 null"))
    return value


def _switch_in_words(text: str) -> bool:
    """The value of a switch in a variable: ``True`` for 1, true, yes, on; ``False`` for 0, false, no, off; any case."""
    if text.lower() not in _SWITCH:
        raise BadValueError(Text("1 or 0", "1 或 0"), text)
    return _SWITCH[text.lower()]


def limit(value: object) -> int | None:
    """A whole number up to 10⁹ − 1; 0 means no limit, and ``None`` that the server's value applies."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_LIMIT):
        return value
    raise BadValueError(_WHOLE_NUMBER)


def limit_in_digits(text: str) -> int:
    """The value of a limit in a variable: a whole number of at most nine digits; 0 means no limit."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadValueError(_WHOLE_NUMBER, text)
    return int(text)


def proxy(value: object) -> str:
    """The address of a proxy, ``none``, or "" for the environment's proxy; ``host:port`` alone means http."""
    given = text_of(value)
    if given.lower() in ("", NO_PROXY):
        return given.lower()
    allowed = Text(
        "http://host:port without a login, or none (a SOCKS proxy, or one with a login, goes into HTTPS_PROXY in the "
        "environment of the server)",
        "http://host:port（不含登录信息）或 none（SOCKS 代理或需要登录的代理请写入服务器环境变量 HTTPS_PROXY）",
    )
    parts = _split(given if "://" in given else f"http://{given}", allowed)
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadValueError(allowed)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def in_digits(value: object) -> object:
    """A number of JSON as the text that it was written as, without an exponent; any other value as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return format(Decimal(repr(value)), "f")


def amount(value: object) -> str:
    """What a picture costs, as a decimal number in digits: 0 or more, below a million, at most six decimals; "" unsets.

    A number of JSON is taken as it is written: 0.22 is exactly 0.22.
    """
    value = in_digits(value)
    digits = value.strip() if isinstance(value, str) else "" if value is None else " "
    if digits and not _AMOUNT.fullmatch(digits):
        raise BadValueError(
            Text(
                "an amount of at most six digits, and at most six decimals behind a point",
                "金额：整数部分最多六位，小数点后最多六位",
            )
        )
    return digits


_AMOUNT = re.compile("[0-9]{1,6}([.][0-9]{1,6})?")


def currency(value: object) -> str:
    """The three letters of a currency in the form of ISO 4217, as capitals; "" for none."""
    letters = text_of(value)
    if letters and not re.fullmatch("[A-Za-z]{3}", letters):
        raise BadValueError(Text("three letters, such as CNY", "三个字母，例如 CNY"))
    return letters.upper()


def day(value: object) -> str:
    """A date as YYYY-MM-DD; "" for none."""
    written = text_of(value)
    with suppress(ValueError):
        if not written or date.fromisoformat(written).isoformat() == written:
            return written
    raise BadValueError(Text("a date as YYYY-MM-DD", "YYYY-MM-DD 形式的日期"))


def _option(model: type[ResultOption], example: str) -> Callable[[object], str]:
    """The check of an option of Volcengine's results: one line of JSON, "" for none; its canonical form is stored.

    Args:
        example: JSON with every field, for the error. That one never repeats a value or an unknown name.
    """

    def check(value: object) -> str:
        line = text_of(value)
        if not line:
            return ""
        try:
            return text_of(model.model_validate_json(line).canonical())
        except ValidationError as problem:
            found = problem.errors(include_input=False, include_url=False)
        faults = "; ".join(
            "".join(f"{name if name in model.model_fields else '?'}: " for name in fault["loc"]) + fault["msg"]
            for fault in found
        )
        raise BadValueError(Text(f"JSON as in {example} ({faults})", f"如下形式的 JSON：{example}（{faults}）"))

    return check


_LOGO_INFO = '{"add_logo": true, "position": 0, "language": 1, "opacity": 0.5, "logo_text_content": "…"}'
_AIGC_META = '{"content_producer": "…", "producer_id": "…", "content_propagator": "…", "propagate_id": "…"}'


def profile_name(value: object) -> str:
    """The name of a profile without blanks around it: 1 to 64 visible characters, and not ``sandbox``."""
    allowed = Text(
        f"1 to {_MAX_NAME_CHARACTERS} characters, none of them invisible, and not `{SANDBOX_PROFILE}`",
        f"1 至 {_MAX_NAME_CHARACTERS} 个字符，不含不可见字符，且不为 `{SANDBOX_PROFILE}`",
    )
    name = value.strip() if isinstance(value, str) and len(value) <= _MAX_CHARACTERS else ""
    invisible = any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name)
    if not 1 <= len(name) <= _MAX_NAME_CHARACTERS or invisible or same_name(name, SANDBOX_PROFILE):
        raise BadValueError(allowed)
    return name


def same_name(one: str, other: str) -> bool:
    """Whether two names look the same to a user: capitals and Unicode's compatibility forms do not count."""
    return unicodedata.normalize("NFKC", one).casefold() == unicodedata.normalize("NFKC", other).casefold()


# ---- settings and keys by name


@dataclass(frozen=True)
class Setting:
    """A setting of a profile.

    Args:
        check: checks a value of the file's JSON or of the dialog.
        variable: of the environment, for profiles that set no value; "" for none.
        default: the value if the variable is not set either.
    """

    check: Callable[[object], Value]
    variable: str = ""
    default: Value = ""

    @property
    def check_variable(self) -> Callable[[str], Value]:
        """Checks the text of the variable."""
        return _CHECKS_OF_TEXT.get(self.check, self.check)

    @property
    def unset(self) -> Value:
        """The value that stands for "not set": "" of a text, ``None`` of a number or switch."""
        return "" if self.check not in _CHECKS_OF_TEXT else None


# From the check of a value that is no text in the file and the dialog to the check of its text in a variable.
_CHECKS_OF_TEXT: Mapping[Callable[[object], Value], Callable[[str], Value]] = {
    switch: _switch_in_words,
    limit: limit_in_digits,
}


def _declared(provider: Provider) -> dict[str, int]:
    return {each.setting: each.default for each, owner in declared_limits().items() if owner == provider}


# From the name of a limit to its default. Its variable is REMOTE_IMAGE_ and the name in capitals.
_LIMITS: Mapping[str, int] = {
    "pictures_per_day": 0,
    "pictures_per_run": 100,
    "hidream_at_once": 4,
    **_declared("HiDream"),
    "volcengine_at_once": 2,
    **_declared("Volcengine"),
    "polls_per_second": 10,
}
# What the owner says that a picture costs, by the name of the setting. No price is shipped, and no variable sets one:
# the amounts of a profile and their currency are set in one place.
PRICES: Mapping[str, AnyEndpoint] = {f"price_{each.name.replace(' ', '_')}": each for each in ENDPOINTS}
PRICES_CURRENCY = "prices_currency"
SETTINGS: Mapping[str, Setting] = {
    "hidream_base_url": Setting(_hidream_url, "HIDREAM_BASE_URL", HIDREAM_BASE_URL),
    "hidream_ec_base_url": Setting(_hidream_url, "HIDREAM_EC_BASE_URL", HIDREAM_EC_BASE_URL),
    "hidream_user_id": Setting(user_id, "HIDREAM_USER_ID"),
    "volcengine_base_url": Setting(_volcengine_url, "VOLCENGINE_BASE_URL", VOLCENGINE_BASE_URL),
    "volcengine_gateway_base_url": Setting(_gateway_url, "VOLCENGINE_GATEWAY_BASE_URL"),
    "volcengine_resumable": Setting(switch, "VOLCENGINE_RESUMABLE", False),
    "volcengine_logo_info": Setting(_option(LogoInfo, _LOGO_INFO), "VOLCENGINE_LOGO_INFO"),
    "volcengine_aigc_meta": Setting(_option(AigcMeta, _AIGC_META), "VOLCENGINE_AIGC_META"),
    "language": Setting(language, "HIDREAM_LANGUAGE", "zh"),
    "notify_url": Setting(notify_url, "REMOTE_IMAGE_NOTIFY_URL"),
    "proxy": Setting(proxy),
    **{name: Setting(limit, f"REMOTE_IMAGE_{name.upper()}", default) for name, default in _LIMITS.items()},
    **dict.fromkeys(PRICES, Setting(amount)),
    PRICES_CURRENCY: Setting(currency),
    "prices_date": Setting(day),
}
PROVIDERS: tuple[Provider, ...] = ("HiDream", "Volcengine")
# If the environment has a provider's key, these keys and settings of the provider come from the environment, too.
WITH_THE_KEY = frozenset({"hidream_user_id"}).union(SECRETS, *(key.hosts for key in SECRETS.values()))


def bases_of(name: str, host: Callable[[str], str]) -> tuple[str, ...]:
    """The addresses that a key is bound to, each in the form of :func:`transport.base_of`.

    Args:
        name: of the key.
        host: returns the address that a setting holds; "" for none.
    """
    return tuple(base_of(host(setting)) for setting in SECRETS[name].hosts)


def is_bound_to(bound: Sequence[str], bases: Sequence[str]) -> bool:
    """Whether a key may be sent to ``bases``.

    Args:
        bound: what the file says that the key was entered for. Version 0.1 wrote scheme, host and port alone (without
            a slash at the end), and the path of a CA file behind them.
        bases: the addresses of the profile now; "" for one that it lacks, where no key may go.
    """
    # Not `origin(base)`: a base has no brackets around an IPv6 address, so that it cannot be parsed again.
    return len(bound) >= len(bases) and all(
        base and known in (base, "/".join(base.split("/")[:3])) for known, base in zip(bound, bases, strict=False)
    )


# ---- what can be entered, by name


def nothing(value: object) -> str:
    """The check of a retired setting or key: it can only be removed, by ""."""
    if value != "":
        raise BadValueError(Text("empty: it is not used any more", "空：该项已不再使用"))
    return ""


RETIRED_SECRETS = frozenset({"proxy_login"})
# What can be entered in the dialog.
SETTING_CHECKS = {**{name: setting.check for name, setting in SETTINGS.items()}, "ca_file": nothing}
KEY_CHECKS = {**dict.fromkeys(SECRETS, key_word), **dict.fromkeys(RETIRED_SECRETS, nothing)}
