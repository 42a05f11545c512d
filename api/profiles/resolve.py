"""From the name of a profile in a graph to an account: hosts, key, limits and budget, looked up at each call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from requests.auth import AuthBase

from ..catalog import AnyEndpoint, HiDreamEndpoint, declared_limits
from ..core import (
    DEFAULT_PROFILE,
    SANDBOX_PROFILE,
    SETTINGS_DIALOG,
    Budget,
    ConfigurationError,
    JournalSettings,
    Limits,
    Price,
    Provider,
    Secret,
    Text,
    as_object,
    hide_address,
    json_value,
    pack_logger,
)
from ..services import HiDreamService, Service, VolcengineService
from ..transport import BearerAuth, ExchangedTokenAuth, HiDreamAccount, Sandbox, SignatureAuth, VolcengineAccount
from .environment import Environment, checked, sent_key
from .fields import PRICES, PRICES_CURRENCY, SETTINGS, WITH_THE_KEY, Value, bases_of, is_bound_to
from .file import SECRETS, Contents, ProfileFile, StoredProfile, profile_names
from .retired import retired_in

# Name, account id, `sandbox` and budget of the accounts that pay nothing.
_SANDBOX = (SANDBOX_PROFILE, SANDBOX_PROFILE, True, Budget(per_day=None, per_run=None))
_GATEWAY_PATH = "/volcv/v1"
# Latin letters have spaces around them in a Chinese sentence.
_IN_CHINESE: Mapping[Provider, str] = {"HiDream": " HiDream ", "Volcengine": "火山引擎"}
# For each provider, the sets of keys of which one is enough to pay.
_COMPLETE_KEYS: Mapping[Provider, tuple[tuple[str, ...], ...]] = {
    "HiDream": (("hidream_token",), ("hidream_api_key",)),
    "Volcengine": (
        ("volcengine_gateway_api_key",),
        ("volcengine_access_key_id", "volcengine_secret_access_key"),
    ),
}


def _joined(texts: Iterable[Text]) -> Text:
    """One text of all texts in a row, without repetitions."""
    distinct = list(dict.fromkeys(texts))
    return Text(" ".join(text.en for text in distinct), "".join(text.zh for text in distinct))


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    """Log a warning, but not again at each call."""
    if message not in _warned:
        _warned.add(message)
        pack_logger().warning("%s", message)


@dataclass(frozen=True)
class _Source:
    """Where the values of one profile come from, for one provider.

    Args:
        stored: the profile in the file; ``None`` if it is not there.
        by_environment: the environment has the provider's key, so key, hosts and account id come from there.
    """

    profile: str
    provider: Provider
    stored: StoredProfile | None
    environment: Environment
    by_environment: bool

    def setting(self, name: str) -> Value:
        """The profile's own value of a setting, else the environment's, else the default.

        Raises:
            ConfigurationError: the value is not valid.
        """
        own = self.stored.settings.get(name) if self.stored is not None else None
        if own in (None, "") or (self.by_environment and name in WITH_THE_KEY):
            return self.environment.setting(name)
        return checked(f"{name} ({self.profile})", SETTINGS[name].check, own)

    def text(self, name: str) -> str:
        return str(self.setting(name) or "")

    def limit(self, name: str) -> int | None:
        """The setting ``name`` as a limit; ``None`` means no limit (0 in the setting)."""
        value = self.setting(name)
        return value or None if isinstance(value, int) else None

    def key(self, name: str) -> str:
        """The key ``name`` as it is sent; "" if there is none.

        Raises:
            ConfigurationError: the key cannot be sent in a header, or was entered for another address than the
                profile has now. It must not be sent there.
        """
        if self.by_environment:
            return self.environment.key(name)
        stored = self.stored.keys.get(name) if self.stored is not None else None
        if stored is None:
            return ""
        if not is_bound_to(stored.bound_to, bases_of(name, self.text)):
            raise self._bound_elsewhere(name, stored.bound_to)
        where = f"{name} ({self.profile})"
        return checked(where, partial(sent_key, where), stored.value.reveal())

    def has_key(self, name: str) -> bool:
        """Whether there is a key ``name`` that may be sent to the addresses of the profile."""
        if self.by_environment:
            return self.environment.has_key(name)
        try:
            return bool(self.key(name))
        except ConfigurationError:
            return False

    def _bound_elsewhere(self, name: str, bound: tuple[str, ...]) -> ConfigurationError:
        entered_for = ", ".join(bound[: len(SECRETS[name].hosts)])
        return ConfigurationError(
            Text(
                f"The key {name} of the profile {self.profile!r} was entered for {entered_for}, and is not sent to "
                "another address.",
                f"配置 {self.profile!r} 的密钥 {name} 是为 {entered_for} 填写的，不会发送到其他地址。",
            ),
            advice=Text(
                f"Enter it again for the addresses of today in {SETTINGS_DIALOG.en}.",
                f"请在「{SETTINGS_DIALOG.zh}」中重新填写该密钥以用于当前地址。",
            ),
        )

    def account_id(self, name: str) -> str:
        """The account id that enters a request's key. ``name`` is the key that pays.

        For a key of the environment it is REMOTE_IMAGE_ACCOUNT, or the name of the key's variable and not its value: a
        renewed key of the same account finds the pictures that the old one bought.
        """
        if self.by_environment or self.stored is None:
            return self.environment.account() or SECRETS[name].variable
        return self.stored.account_id

    def result_options(self) -> str:
        """What is asked of each result at Volcengine, as JSON; "" = nothing.

        A logo that is not to be added changes no picture, so it is left out here, and of the request's key. It is a
        setting all the same: with it a profile is without the logo of the environment.
        """
        found = {name: json_value(self.text(f"volcengine_{name}")) for name in ("logo_info", "aigc_meta")}
        if not as_object(found["logo_info"]).get("add_logo"):
            del found["logo_info"]
        options = {name: value for name, value in found.items() if value is not None}
        return json.dumps(options) if options else ""

    def budget(self) -> Budget:
        return Budget(
            per_day=self.limit("pictures_per_day"),
            per_run=self.limit("pictures_per_run"),
            by_environment=self.profile == DEFAULT_PROFILE,
        )

    def limits(self, at_once: str) -> Limits:
        """The limits of the account; ``at_once`` is the setting with the number of tasks."""
        return Limits(
            at_once=self.limit(at_once),
            declared={limit.setting: self.limit(limit.setting) for limit in declared_limits()},
            polls_per_second=self.limit("polls_per_second"),
        )

    def prices(self) -> dict[str, Price]:
        """What the owner says that a picture costs, by the name of the endpoint; only those of this provider.

        A price is only an estimate: one that is not valid, or has no currency, is logged and left out, and raises
        nothing, so that it keeps no node from buying.
        """
        amounts = {
            endpoint.name: amount
            for name, endpoint in PRICES.items()
            if endpoint.provider == self.provider and (amount := self._of_a_price(name))
        }
        currency = self._of_a_price(PRICES_CURRENCY)
        if amounts and not currency:
            _warn_once(f"The prices of the profile {self.profile!r} are not used: {PRICES_CURRENCY} is missing.")
            return {}
        return {name: Price(Decimal(amount), currency) for name, amount in amounts.items()}

    def _of_a_price(self, name: str) -> str:
        try:
            return self.text(name)
        except ConfigurationError as problem:
            _warn_once(f"{problem.what.en} It is only an estimate, and is left out.")
            return ""

    def incomplete(self, missing: str) -> ConfigurationError:
        """The error for a key of several parts of which one is missing.

        Args:
            missing: the variable of that part.
        """
        name = missing if self.profile == DEFAULT_PROFILE else missing.lower()
        what = Text(
            f"The key for {self.provider} is not complete: {name} is missing.",
            f"{_IN_CHINESE[self.provider]}的密钥不完整：缺少 {name}。".strip(),
        )
        return self._cannot_pay(what, missing)

    def no_key(self, *variables: str) -> ConfigurationError:
        """The error for a profile without a key. ``variables`` could hold one; each is a complete key."""
        what = Text(f"The profile has no key for {self.provider}.", f"该配置没有{_IN_CHINESE[self.provider]}的密钥。")
        return self._cannot_pay(what, *variables)

    def _cannot_pay(self, what: Text, *variables: str) -> ConfigurationError:
        who, or_set = Text(f"{self.profile!r}", f" {self.profile!r} "), Text("", "")
        if self.profile == DEFAULT_PROFILE:
            who = Text("this profile", "该配置")
            or_set = Text(
                f" or set {' or '.join(variables)} in the environment of the ComfyUI server and restart it,",
                f"或在 ComfyUI 服务器的环境变量中设置 {' 或 '.join(variables)} 并重启，",
            )
        return ConfigurationError(
            what,
            advice=Text(
                f"Enter one for {who.en} in {SETTINGS_DIALOG.en},{or_set.en} or choose the profile `sandbox` to try "
                "the node without a key.",
                f"请在「{SETTINGS_DIALOG.zh}」中为{who.zh}填写密钥，{or_set.zh}或选择 `sandbox` 配置免密钥试用。",
            ),
        )


class Profiles:
    """Looks up the profiles of this server, in the environment and in the file.

    Args:
        environment: the variables of the process; an empty one counts as not set.
        start_sandbox: returns the running emulator of the profile ``sandbox``; starts it at the first call.
        file: the profiles that were entered in the settings dialog; ``None``: there are only the built-in ones.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        start_sandbox: Callable[[], Sandbox],
        file: ProfileFile | None = None,
    ) -> None:
        self.environment = Environment(environment)
        self.file = file
        self._start_sandbox = start_sandbox

    @classmethod
    def of_this_server(cls, start_sandbox: Callable[[], Sandbox], file: ProfileFile) -> Profiles:
        """The profiles with the environment of this process; logs a warning of variables that do nothing any more."""
        profiles = cls(os.environ, start_sandbox, file)
        profiles.environment.warn_of_unused()
        return profiles

    def names(self) -> list[str]:
        return profile_names(self.file)

    def name_of(self, profile: str, account_id: str) -> str:
        """The present name of the profile with ``account_id``; ``profile``, its former name, if it is not found."""
        try:
            stored = self._read().profiles
        except ConfigurationError:
            return profile
        return next((known.name for known in stored if known.account_id == account_id), profile)

    def service(self, profile: str, endpoint: AnyEndpoint) -> Service:
        """An endpoint, paid by the account of a profile.

        Raises:
            ConfigurationError: as :meth:`hidream` and :meth:`volcengine`.
        """
        if isinstance(endpoint, HiDreamEndpoint):
            return HiDreamService(self.hidream(profile), endpoint)
        return VolcengineService(self.volcengine(profile), endpoint)

    def hidream(self, profile: str) -> HiDreamAccount:
        """The HiDream account of a profile.

        A token is sent as it is. Without one, the API key is exchanged for a one-day token when a request needs it.

        Raises:
            ConfigurationError: there is no such profile, it has no key or a retired entry, or a value is not valid.
        """
        deadlines = self.environment.deadlines()
        if profile == SANDBOX_PROFILE:
            sandbox = self._start_sandbox()
            return HiDreamAccount(
                *_SANDBOX,
                deadlines=deadlines,
                base_url=sandbox.url,
                ec_base_url=sandbox.url,
                auth=BearerAuth(Secret(sandbox.hidream_token), frozenset({sandbox.url})),
            )
        source = self._source_for_call(profile, "HiDream")
        proxy = source.text("proxy")
        base_url, ec_base_url = source.text("hidream_base_url"), source.text("hidream_ec_base_url")
        bases = frozenset({base_url, ec_base_url})
        notify_url = source.text("notify_url")
        hide_address(notify_url)
        auth: AuthBase
        if token_value := source.key("hidream_token"):
            auth, name = BearerAuth(Secret(token_value), bases), "hidream_token"
        elif api_key := source.key("hidream_api_key"):
            auth = ExchangedTokenAuth(Secret(api_key), base_url, bases, deadlines, proxy)
            name = "hidream_api_key"
        else:
            raise source.no_key("HIDREAM_TOKEN", "HIDREAM_API_KEY")
        return HiDreamAccount(
            profile=profile,
            account_id=source.account_id(name),
            budget=source.budget(),
            limits=source.limits("hidream_at_once"),
            deadlines=deadlines,
            proxy=proxy,
            prices=source.prices(),
            base_url=base_url,
            ec_base_url=ec_base_url,
            auth=auth,
            user_id=source.text("hidream_user_id"),
            language=source.text("language"),
            notify_url=notify_url,
        )

    def volcengine(self, profile: str) -> VolcengineAccount:
        """The Volcengine account of a profile.

        A gateway's key is sent to the gateway's address. Without one, requests are signed with access key id and
        secret.

        Raises:
            ConfigurationError: there is no such profile, it has no key, a part of one or a retired entry, or a value
                is not valid.
        """
        deadlines = self.environment.deadlines()
        if profile == SANDBOX_PROFILE:
            sandbox = self._start_sandbox()
            return VolcengineAccount(
                *_SANDBOX,
                deadlines=deadlines,
                base_url=sandbox.url,
                path=_GATEWAY_PATH,
                auth=BearerAuth(Secret(sandbox.gateway_api_key), frozenset({sandbox.url})),
            )
        source = self._source_for_call(profile, "Volcengine")
        make_account = partial(
            VolcengineAccount,
            profile=profile,
            budget=source.budget(),
            limits=source.limits("volcengine_at_once"),
            deadlines=deadlines,
            proxy=source.text("proxy"),
            resumable=bool(source.setting("volcengine_resumable")),
            options=source.result_options(),
            prices=source.prices(),
        )
        if gateway_key := source.key("volcengine_gateway_api_key"):
            base_url = source.text("volcengine_gateway_base_url")
            if not base_url:
                raise source.incomplete("VOLCENGINE_GATEWAY_BASE_URL")
            gateway = BearerAuth(Secret(gateway_key), frozenset({base_url}))
            account_id = source.account_id("volcengine_gateway_api_key")
            return make_account(account_id=account_id, base_url=base_url, path=_GATEWAY_PATH, auth=gateway)
        pair = {name: source.key(name) for name in ("volcengine_access_key_id", "volcengine_secret_access_key")}
        missing = [SECRETS[name].variable for name, key in pair.items() if not key]
        if len(missing) == len(pair):
            raise source.no_key("VOLCENGINE_GATEWAY_API_KEY + VOLCENGINE_GATEWAY_BASE_URL", " + ".join(missing))
        if missing:
            raise source.incomplete(*missing)
        base_url = source.text("volcengine_base_url")
        access_key_id, secret_access_key = map(Secret, pair.values())
        signature = SignatureAuth(access_key_id, secret_access_key, frozenset({base_url}))
        account_id = source.account_id("volcengine_access_key_id")
        return make_account(account_id=account_id, base_url=base_url, path="/", auth=signature)

    def check_name(self, profile: str) -> Text | None:
        """An explanation if no profile has this name, or if the file cannot be read; else ``None``."""
        if profile in (DEFAULT_PROFILE, SANDBOX_PROFILE):
            return None
        try:
            if self._read().find(profile) is not None:
                return None
        except ConfigurationError as problem:
            return problem.text()
        known = ", ".join(self.names())
        return Text(
            f"This server has no profile named {profile!r}; it has: {known}. Add one of that name in "
            f"{SETTINGS_DIALOG.en}, or choose another one in the node.",
            f"此服务器没有名为 {profile!r} 的配置，现有：{known}。请在「{SETTINGS_DIALOG.zh}」中添加同名配置，"
            "或在节点中另选一个。",
        )

    def journal_settings(self, directory: Path) -> JournalSettings:
        """Where the journal is; see :meth:`Environment.journal_settings`."""
        return self.environment.journal_settings(directory)

    def by_environment(self, profile: str, provider: Provider) -> bool:
        """Whether the environment has any key of the provider for this profile, which only ``default`` can take."""
        return profile == DEFAULT_PROFILE and any(
            self.environment.has_key(name) for name, key in SECRETS.items() if key.owner == provider
        )

    def has_key(self, profile: str, provider: Provider) -> bool:
        """Whether the profile has all parts of one key of the provider.

        Raises:
            ConfigurationError: there is no such profile, or the file cannot be used.
        """
        source = self._source(profile, provider)
        return any(all(source.has_key(name) for name in names) for names in _COMPLETE_KEYS[provider])

    def _source_for_call(self, profile: str, provider: Provider) -> _Source:
        """As :meth:`_source`, for a call. Raises ConfigurationError, too, if the profile has retired entries."""
        source = self._source(profile, provider)
        retired = retired_in(source.stored) if source.stored is not None else []
        if retired:
            raise ConfigurationError(
                _joined(entry.what for entry in retired), advice=_joined(entry.advice for entry in retired)
            )
        return source

    def _source(self, profile: str, provider: Provider) -> _Source:
        """The source of a profile's values. If the environment has the key, a file that cannot be read is ignored."""
        by_environment = self.by_environment(profile, provider)
        try:
            stored = self._read().find(profile)
        except ConfigurationError:
            if not by_environment:
                raise
            stored = None
        if stored is None and profile != DEFAULT_PROFILE and (problem := self.check_name(profile)):
            raise ConfigurationError(problem)
        return _Source(profile, provider, stored, self.environment, by_environment)

    def _read(self) -> Contents:
        return self.file.read() if self.file is not None else Contents()
