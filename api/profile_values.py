"""What a profile may hold: its settings and keys by name, the values they take, and what applies without one."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from requests import adapters

from .choices import SANDBOX_PROFILE
from .connections import is_loopback, origin
from .errors import ConfigurationError, Provider
from .networks import certificates_of
from .text import Text

SETTINGS_DIALOG = Text("Settings → HiDream & Volcengine", "设置 → HiDream 与火山引擎")

HIDREAM_BASE_URL = "https://www.hidreamai.com"
HIDREAM_EC_BASE_URL = "https://hidreamai.com"
VOLCENGINE_BASE_URL = "https://visual.volcengineapi.com"

Value = str | int | bool | None

_LONGEST = 2048
_LONGEST_KEY = 4096
_LONGEST_NAME = 64
_MOST = 10**9 - 1
# Whatever else could stand there, the libraries on the way to a host read each in a way of its own.
_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]*)?", re.IGNORECASE | re.ASCII)
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")


class BadValueError(Exception):
    """A value that is not taken; ``shown`` is what may be repeated of it."""

    def __init__(self, allowed: Text, shown: str = "") -> None:
        super().__init__(allowed.en)
        self.allowed = allowed
        self.shown = shown


# ---- what values look like


def text_of(value: object) -> str:
    """A text of one line, without the blanks that come along when something is pasted."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise BadValueError(Text(f"a text of at most {_LONGEST} characters", f"不超过 {_LONGEST} 个字符的文本"))
    stripped = value.strip()
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in stripped):
        raise BadValueError(Text("a text of one line", "单行文本"))
    return stripped


def header_word(value: object) -> str:
    """What may stand in a header: a key, or a user id."""
    word = value.strip() if isinstance(value, str) and len(value) <= _LONGEST_KEY else " "
    if not all("!" <= character <= "~" for character in word):
        raise BadValueError(
            Text(
                "printable ASCII without spaces, and without the word Bearer",
                "不含空格的可打印 ASCII 字符，且不带 Bearer 一词",
            )
        )
    return word


def user_id(value: object) -> str:
    return header_word(text_of(value))


def url(value: object) -> str:
    """The address of a service."""
    address = text_of(value).rstrip("/")
    allowed = Text("https://host[:port]", "https://host[:port]")
    if address:
        parts = _parts_of(address, allowed)
        if parts.query or parts.fragment:
            raise BadValueError(allowed)
    return address


def notify_url(value: object) -> str:
    """An address of the owner's own system, taken as it is. Its path and query may be secret and are never repeated."""
    address = text_of(value)
    allowed = Text("https://host[:port]/path[?query]", "https://host[:port]/path[?query]")
    if address:
        _parts_of(address, allowed)
        if "#" in address or not all("!" <= character <= "~" for character in address):
            raise BadValueError(allowed)
    return address


def _parts_of(address: str, allowed: Text) -> SplitResult:
    """The parts of an https address without a login; http only for this machine."""
    try:
        parts = urlsplit(address)
        plain = _HOST.fullmatch(parts.netloc) and parts.port != 0
    except ValueError:
        plain = False
    if not plain:
        raise BadValueError(allowed)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        secure = Text("https://… (http:// only for 127.0.0.1)", "https://…（仅 127.0.0.1 可用 http://）")
        raise BadValueError(secure, f"{parts.scheme}://{parts.hostname}")
    return parts


def language(value: object) -> str:
    chosen = text_of(value)
    if chosen not in ("", "en", "zh"):
        raise BadValueError(Text("en or zh", "en 或 zh"), chosen)
    return chosen


def switch(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise BadValueError(Text("true, false or null", "true、false 或 null"))
    return value


def limit(value: object) -> int | None:
    """A whole number; 0 lifts the limit, and ``None`` leaves it to the server."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and 0 <= value <= _MOST):  # type: ignore[operator]
        raise BadValueError(Text("a whole number, 0 = no limit", "整数，0 表示不限"))
    return value  # type: ignore[return-value]


def proxy(value: object) -> str:
    """The address of a proxy, without a login."""
    address, login = proxy_and_login(value)
    if login:
        raise BadValueError(Text("a proxy without user and password", "不含用户名和密码的代理地址"))
    return address


def proxy_and_login(value: object) -> tuple[str, str]:
    """A proxy's address, and the ``user:password`` that people write into it; ``host:port`` alone means http."""
    given = text_of(value)
    if not given:
        return "", ""
    whole = given if "://" in given else f"http://{given}"
    bad = BadValueError(Text("http://host:port", "http://host:port"))
    try:
        parts = urlsplit(whole)
        host, port = parts.hostname or "", parts.port
        plain = _HOST.fullmatch(parts.netloc.rpartition("@")[2]) and port != 0
    except ValueError:
        raise bad from None
    if not plain or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise bad
    if parts.scheme in _SOCKS and not isinstance(adapters.SOCKSProxyManager, type):
        raise BadValueError(
            Text("http://host:port (SOCKS needs the Python package PySocks)", "http://host:port（SOCKS 需要 PySocks）")
        )
    if parts.scheme not in ("http", "https", *_SOCKS):
        raise bad
    shown = f"[{host}]" if ":" in host else host
    login = unquote(f"{parts.username or ''}:{parts.password or ''}") if "@" in parts.netloc else ""
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), login


def proxy_login(value: object) -> str:
    login = header_word(value)
    if login and not login.partition(":")[0]:
        raise BadValueError(Text("user:password", "用户名:密码"))
    return login


def ca_file(value: object) -> str:
    """The absolute path of a PEM file on this server. Not on another one: Windows would show itself to that."""
    path = text_of(value)
    if not path:
        return ""
    if not os.path.isabs(path) or path.replace("\\", "/").startswith("//"):
        raise BadValueError(
            Text("the absolute path of a PEM file on the server", "服务器上 PEM 文件的绝对路径"), path[:200]
        )
    try:
        certificates_of(path)
    except ConfigurationError:
        allowed = Text("a readable PEM file with certificates", "可读取且包含证书的 PEM 文件")
        raise BadValueError(allowed, path[:200]) from None
    return path


def profile_name(value: object) -> str:
    """A name for a profile, trimmed."""
    allowed = Text(
        f"1 to {_LONGEST_NAME} characters, none of them invisible, and not `{SANDBOX_PROFILE}`",
        f"1 至 {_LONGEST_NAME} 个字符，不含不可见字符，且不为 `{SANDBOX_PROFILE}`",
    )
    name = value.strip() if isinstance(value, str) and len(value) <= _LONGEST else ""
    invisible = any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name)
    if not 1 <= len(name) <= _LONGEST_NAME or invisible or same_name(name, SANDBOX_PROFILE):
        raise BadValueError(allowed)
    return name


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same to a reader."""
    return unicodedata.normalize("NFKC", one).casefold() == unicodedata.normalize("NFKC", other).casefold()


# ---- settings and keys by name


@dataclass(frozen=True)
class Setting:
    """``check`` is for JSON; ``variable`` of the environment applies where a profile has none, then ``default``."""

    check: Callable[[object], Value]
    variable: str = ""
    default: Value = ""

    @property
    def unset(self) -> Value:
        """How an unset value is written."""
        return "" if self.check not in (switch, limit) else None


SETTINGS: Mapping[str, Setting] = {
    "hidream_base_url": Setting(url, "HIDREAM_BASE_URL", HIDREAM_BASE_URL),
    "hidream_ec_base_url": Setting(url, "HIDREAM_EC_BASE_URL", HIDREAM_EC_BASE_URL),
    "hidream_user_id": Setting(user_id, "HIDREAM_USER_ID"),
    "volcengine_base_url": Setting(url, "VOLCENGINE_BASE_URL", VOLCENGINE_BASE_URL),
    "volcengine_gateway_base_url": Setting(url, "VOLCENGINE_GATEWAY_BASE_URL"),
    "volcengine_resumable": Setting(switch, "VOLCENGINE_RESUMABLE", False),
    "language": Setting(language, "HIDREAM_LANGUAGE", "zh"),
    "notify_url": Setting(notify_url, "REMOTE_IMAGE_NOTIFY_URL"),
    "proxy": Setting(proxy),
    "ca_file": Setting(ca_file),
    "pictures_per_day": Setting(limit, "REMOTE_IMAGE_PICTURES_PER_DAY", 0),
    "pictures_per_run": Setting(limit, "REMOTE_IMAGE_PICTURES_PER_RUN", 100),
    "hidream_at_once": Setting(limit, "REMOTE_IMAGE_HIDREAM_AT_ONCE", 4),
    "hidream_outpaint_per_minute": Setting(limit, "REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE", 20),
    "hidream_img2img_per_minute": Setting(limit, "REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE", 100),
    "volcengine_at_once": Setting(limit, "REMOTE_IMAGE_VOLCENGINE_AT_ONCE", 2),
    "polls_per_second": Setting(limit, "REMOTE_IMAGE_POLLS_PER_SECOND", 10),
}


@dataclass(frozen=True)
class Key:
    """A secret, for the hosts that ``hosts`` (settings) name and for no others."""

    owner: Provider | None
    hosts: tuple[str, ...]
    variable: str = ""
    check: Callable[[object], str] = header_word


_HIDREAM_HOSTS = ("hidream_base_url", "hidream_ec_base_url")
KEYS: Mapping[str, Key] = {
    "hidream_token": Key("HiDream", _HIDREAM_HOSTS, "HIDREAM_TOKEN"),
    "hidream_api_key": Key("HiDream", _HIDREAM_HOSTS, "HIDREAM_API_KEY"),
    "volcengine_gateway_api_key": Key("Volcengine", ("volcengine_gateway_base_url",), "VOLCENGINE_GATEWAY_API_KEY"),
    "volcengine_access_key_id": Key("Volcengine", ("volcengine_base_url",), "VOLCENGINE_ACCESS_KEY_ID"),
    "volcengine_secret_access_key": Key("Volcengine", ("volcengine_base_url",), "VOLCENGINE_SECRET_ACCESS_KEY"),
    "proxy_login": Key(None, ("proxy",), check=proxy_login),
}
PROVIDERS: tuple[Provider, ...] = ("HiDream", "Volcengine")
# Where the environment has the key, these come from there, too.
WITH_THE_KEY = frozenset({"hidream_user_id", "ca_file"}.union(*(key.hosts for key in KEYS.values() if key.owner)))


def bound_to(name: str, host: Callable[[str], str], ca_file: object) -> tuple[str, ...]:
    """What a key is entered for, and without which it is not sent: its hosts, and whoever may vouch for them.

    A server of whoever brings a CA file of his own would be believed to be any host.
    """
    return (*(origin(host(setting)) for setting in KEYS[name].hosts), *([str(ca_file)] if ca_file else []))
