"""Profiles: from the name in a graph to hosts and keys, resolved at call time and kept on this server."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from requests.auth import AuthBase

from .auth import BearerAuth, ExchangedTokenAuth, SignatureAuth, origin
from .connections import is_loopback
from .errors import ConfigurationError, Provider
from .redaction import Secret
from .settings import Budget, JournalSettings, Limits
from .text import Text
from .transport import Deadlines

DEFAULT_PROFILE = "default"
SANDBOX_PROFILE = "sandbox"

HIDREAM_BASE_URL = "https://www.hidreamai.com"
HIDREAM_EC_BASE_URL = "https://hidreamai.com"
VOLCENGINE_BASE_URL = "https://visual.volcengineapi.com"


class _FreeOfCharge(TypedDict):
    profile: str
    account_id: str
    sandbox: bool
    budget: Budget


_KEY_FORM = Text(
    "printable ASCII without spaces, and without the word Bearer", "不含空格的可打印 ASCII 字符，且不带 Bearer 一词"
)
_URL_FORM = Text("https://… (http:// only for 127.0.0.1)", "https://…（仅 127.0.0.1 可用 http://）")


@dataclass(frozen=True)
class Account:
    """Who pays, and how much and how fast.

    ``account_id`` is part of a request's key: another account never gets this one's pictures. It outlives the key
    itself, and a one-day token never enters it.
    """

    profile: str
    account_id: str
    sandbox: bool = False
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, kw_only=True)
class HiDreamAccount(Account):
    """Where HiDream is and how to pay there. ``language`` is what the service's messages are written in."""

    base_url: str
    ec_base_url: str
    auth: AuthBase = field(repr=False)
    user_id: str = ""
    language: str = "zh"


@dataclass(frozen=True, kw_only=True)
class VolcengineAccount(Account):
    """Where Volcengine is and how to pay there: ``path`` is ``/`` when signed, ``/volcv/v1`` through a gateway.

    ``resumable`` sends the call as an asynchronous task, which a crash does not lose.
    """

    base_url: str
    path: str
    auth: AuthBase = field(repr=False)
    resumable: bool = False


@dataclass(frozen=True)
class Sandbox:
    """A running emulator and the keys it accepts."""

    url: str
    hidream_token: str = field(repr=False)
    gateway_api_key: str = field(repr=False)


class Profiles:
    """The profiles of this server.

    Args:
        environment: the process environment; empty values count as unset.
        start_sandbox: starts the built-in emulator when the ``sandbox`` profile is used for the first time.
    """

    def __init__(self, environment: Mapping[str, str], start_sandbox: Callable[[], Sandbox]) -> None:
        self._environment = environment
        self._start_sandbox = start_sandbox

    @classmethod
    def of_this_server(cls, start_sandbox: Callable[[], Sandbox]) -> Profiles:
        return cls(os.environ, start_sandbox)

    def names(self) -> list[str]:
        return [DEFAULT_PROFILE, SANDBOX_PROFILE]

    def hidream(self, profile: str) -> HiDreamAccount:
        """The HiDream account of a profile.

        ``HIDREAM_TOKEN`` is sent as it is and wins; ``HIDREAM_API_KEY`` is exchanged for a one-day token.

        Raises:
            ConfigurationError: unknown profile, no key, or a host that is not https.
        """
        self._check_name(profile)
        deadlines = self._deadlines()
        if profile == SANDBOX_PROFILE:
            sandbox = self._start_sandbox()
            token = BearerAuth(Secret(sandbox.hidream_token), frozenset({origin(sandbox.url)}))
            return HiDreamAccount(
                **self._free_of_charge(), base_url=sandbox.url, ec_base_url=sandbox.url, auth=token, deadlines=deadlines
            )
        base_url = self._url("HIDREAM_BASE_URL", HIDREAM_BASE_URL)
        ec_base_url = self._url("HIDREAM_EC_BASE_URL", HIDREAM_EC_BASE_URL)
        origins = frozenset({origin(base_url), origin(ec_base_url)})
        auth: AuthBase
        if token_value := self._key("HIDREAM_TOKEN"):
            auth, variable = BearerAuth(Secret(token_value), origins), "HIDREAM_TOKEN"
        elif api_key := self._key("HIDREAM_API_KEY"):
            auth, variable = ExchangedTokenAuth(Secret(api_key), base_url, origins, deadlines), "HIDREAM_API_KEY"
        else:
            raise _no_key("HiDream", "HIDREAM_TOKEN", "HIDREAM_API_KEY")
        language = self._value("HIDREAM_LANGUAGE") or "zh"
        if language not in ("en", "zh"):
            raise _bad_setting("HIDREAM_LANGUAGE", Text("en or zh", "en 或 zh"), language)
        return HiDreamAccount(
            profile=profile,
            account_id=self._account_id(variable),
            budget=self._budget(),
            limits=Limits(
                at_once=self._limit("REMOTE_IMAGE_HIDREAM_AT_ONCE", 4),
                outpaint_per_minute=self._limit("REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE", 20),
                img2img_per_minute=self._limit("REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE", 100),
                polls_per_second=self._limit("REMOTE_IMAGE_POLLS_PER_SECOND", 10),
            ),
            deadlines=deadlines,
            base_url=base_url,
            ec_base_url=ec_base_url,
            auth=auth,
            user_id=self._key("HIDREAM_USER_ID"),
            language=language,
        )

    def volcengine(self, profile: str) -> VolcengineAccount:
        """The Volcengine account of a profile.

        ``VOLCENGINE_GATEWAY_API_KEY`` with ``VOLCENGINE_GATEWAY_BASE_URL`` wins;
        ``VOLCENGINE_ACCESS_KEY_ID`` with ``VOLCENGINE_SECRET_ACCESS_KEY`` signs.

        Raises:
            ConfigurationError: unknown profile, half a pair or no key, or a host that is not https.
        """
        self._check_name(profile)
        deadlines = self._deadlines()
        if profile == SANDBOX_PROFILE:
            sandbox = self._start_sandbox()
            key = BearerAuth(Secret(sandbox.gateway_api_key), frozenset({origin(sandbox.url)}))
            return VolcengineAccount(
                **self._free_of_charge(), base_url=sandbox.url, path="/volcv/v1", auth=key, deadlines=deadlines
            )
        how_to_pay = partial(
            VolcengineAccount,
            profile=profile,
            budget=self._budget(),
            limits=Limits(
                at_once=self._limit("REMOTE_IMAGE_VOLCENGINE_AT_ONCE", 2),
                polls_per_second=self._limit("REMOTE_IMAGE_POLLS_PER_SECOND", 10),
            ),
            deadlines=deadlines,
            resumable=self._switch("VOLCENGINE_RESUMABLE"),
        )
        if gateway_key := self._key("VOLCENGINE_GATEWAY_API_KEY"):
            if not self._value("VOLCENGINE_GATEWAY_BASE_URL"):
                raise _no_key("Volcengine", "VOLCENGINE_GATEWAY_BASE_URL")
            base_url = self._url("VOLCENGINE_GATEWAY_BASE_URL", "")
            auth = BearerAuth(Secret(gateway_key), frozenset({origin(base_url)}))
            account_id = self._account_id("VOLCENGINE_GATEWAY_API_KEY")
            return how_to_pay(account_id=account_id, base_url=base_url, path="/volcv/v1", auth=auth)
        access_key_id = self._key("VOLCENGINE_ACCESS_KEY_ID")
        secret_access_key = self._key("VOLCENGINE_SECRET_ACCESS_KEY")
        if not access_key_id and not secret_access_key:
            raise _no_key(
                "Volcengine",
                "VOLCENGINE_GATEWAY_API_KEY + VOLCENGINE_GATEWAY_BASE_URL",
                "VOLCENGINE_ACCESS_KEY_ID + VOLCENGINE_SECRET_ACCESS_KEY",
            )
        if not access_key_id:
            raise _no_key("Volcengine", "VOLCENGINE_ACCESS_KEY_ID")
        if not secret_access_key:
            raise _no_key("Volcengine", "VOLCENGINE_SECRET_ACCESS_KEY")
        base_url = self._url("VOLCENGINE_BASE_URL", VOLCENGINE_BASE_URL)
        signature = SignatureAuth(Secret(access_key_id), Secret(secret_access_key), frozenset({origin(base_url)}))
        account_id = self._account_id("VOLCENGINE_ACCESS_KEY_ID")
        return how_to_pay(account_id=account_id, base_url=base_url, path="/", auth=signature)

    def check_name(self, profile: str) -> Text | None:
        """What is wrong with a profile name, or ``None``."""
        if profile in self.names():
            return None
        known = ", ".join(self.names())
        return Text(
            f"This server has no profile named {profile!r}; it has: {known}. Choose one of them in the node.",
            f"此服务器没有名为 {profile!r} 的配置，现有：{known}。请在节点中另选一个。",
        )

    def _check_name(self, profile: str) -> None:
        if problem := self.check_name(profile):
            raise ConfigurationError(problem)

    def _value(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def _key(self, name: str) -> str:
        value = self._value(name)
        if not all("!" <= character <= "~" for character in value):
            raise _bad_setting(name, _KEY_FORM)
        return value

    def _url(self, name: str, default: str) -> str:
        url = (self._value(name) or default).rstrip("/")
        try:
            parts = urlsplit(url)
            plain = parts.hostname and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            plain = False
        if not plain or parts.query or parts.fragment:
            raise _bad_setting(name, Text("https://host[:port]", "https://host[:port]"))
        loopback = is_loopback(parts.hostname or "")
        if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
            raise _bad_setting(name, _URL_FORM, f"{parts.scheme}://{parts.hostname}")
        return url

    def _account_id(self, variable: str) -> str:
        """The variable's name stands for whatever key it holds, so that rotating the key keeps the pictures."""
        return self._value("REMOTE_IMAGE_ACCOUNT") or variable

    def _free_of_charge(self) -> _FreeOfCharge:
        return {
            "profile": SANDBOX_PROFILE,
            "account_id": SANDBOX_PROFILE,
            "sandbox": True,
            "budget": Budget(per_day=None, per_run=None),
        }

    def _budget(self) -> Budget:
        return Budget(
            per_day=self._limit("REMOTE_IMAGE_PICTURES_PER_DAY", None),
            per_run=self._limit("REMOTE_IMAGE_PICTURES_PER_RUN", Budget.per_run),
        )

    def _limit(self, name: str, default: int | None) -> int | None:
        """A whole number; 0 lifts the limit."""
        value = self._value(name)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise _bad_setting(name, Text("a whole number, 0 = no limit", "整数，0 表示不限"), value)
        return int(value) or None

    def _switch(self, name: str) -> bool:
        value = self._value(name).lower()
        if value not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
            raise _bad_setting(name, Text("1 or 0", "1 或 0"), value)
        return value in ("1", "true", "yes", "on")

    def journal_settings(self, directory: Path) -> JournalSettings:
        """Where this server keeps its journal: in ``directory``, unless its owner chose another place.

        Raises:
            ConfigurationError: a size that is no number.
        """
        gigabytes = self._limit("REMOTE_IMAGE_STORE_MAX_GB", None)
        store = self._value("REMOTE_IMAGE_STORE_DIR")
        return JournalSettings(
            directory=directory,
            url=self._value("REMOTE_IMAGE_JOURNAL_URL"),
            store=Path(store) if store else None,
            store_max_bytes=gigabytes * 10**9 if gigabytes else None,
        )

    def _deadlines(self) -> Deadlines:
        """``REMOTE_IMAGE_<NAME>_SECONDS`` for each deadline; the answer to a paid call is never cut shorter."""
        chosen: dict[str, float] = {}
        for deadline in fields(Deadlines):
            name = f"REMOTE_IMAGE_{deadline.name.upper()}_SECONDS"
            value = self._value(name)
            if not value:
                continue
            try:
                seconds = float(value)
            except ValueError:
                seconds = math.nan
            least = getattr(Deadlines, deadline.name) if deadline.name.endswith("_answer") else 0.1
            if not least <= seconds <= 86400:
                raise _bad_setting(name, Text(f"{least:g}…86400", f"{least:g}…86400"), value)
            chosen[deadline.name] = seconds
        return Deadlines(**chosen)


def _no_key(provider: Provider, *variables: str) -> ConfigurationError:
    listed_en, listed_zh = " or ".join(variables), " 或 ".join(variables)
    return ConfigurationError(
        Text(f"The profile has no key for {provider}.", f"该配置没有 {provider} 的密钥。"),
        advice=Text(
            f"Set {listed_en} in the environment of the ComfyUI server and restart it, "
            "or choose the profile `sandbox` to try the node without a key.",
            f"请在 ComfyUI 服务器的环境变量中设置 {listed_zh} 并重启，或选择 `sandbox` 配置免密钥试用。",
        ),
    )


def _bad_setting(name: str, allowed: Text, value: str = "") -> ConfigurationError:
    shown = (
        Text(f": it is {value}", f"（当前为 {value}）") if value else Text(" (its value is not shown)", "（值不显示）")
    )
    return ConfigurationError(
        Text(
            f"The setting {name} is not valid{shown.en}; it must be {allowed.en}.",
            f"设置 {name} 无效{shown.zh}，应为 {allowed.zh}。",
        )
    )
