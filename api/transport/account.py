"""The account that pays for a call: where its service is, how it is asked, and the limits that it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from requests.auth import AuthBase

from ..core import Budget, Deadlines, Limits, Price
from .connection import Request


@dataclass(frozen=True)
class Account:
    """Who pays: what the profile ``profile`` resolves to for one call.

    ``account_id`` is part of the request key, so that another account never gets this one's pictures. It stays the same
    when the account's API key is replaced, and never contains a one-day token. ``auth`` proves who pays; ``proxy`` as
    in :class:`Request`. ``options``: what is asked of each result beside the request, a
    JSON object by the service's names; "" = nothing. ``prices``: what the server's owner says that a picture costs, by
    the name of the endpoint.
    """

    profile: str
    account_id: str
    sandbox: bool = False
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    proxy: str = ""
    options: str = field(default="", repr=False)
    prices: Mapping[str, Price] = field(default_factory=dict)
    auth: AuthBase = field(repr=False, kw_only=True)

    def request(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Request:
        """A request with the key, the deadlines and the proxy of this account."""
        return Request(url, self.auth, self.deadlines, self.proxy, params or {}, headers or {}, body)


@dataclass(frozen=True, kw_only=True)
class HiDreamAccount(Account):
    """Where HiDream is and how to pay there.

    ``ec_base_url`` is the host of the model photo sets and their templates, ``base_url`` that of everything else.
    ``language`` is what the service's messages are written in; ``notify_url`` goes into each submit unchanged, for a
    system of the server's owner.
    """

    base_url: str
    ec_base_url: str
    user_id: str = ""
    language: str = "zh"
    notify_url: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class VolcengineAccount(Account):
    """Where Volcengine is and how to pay there: ``path`` is ``/`` when signed, ``/volcv/v1`` through a gateway.

    ``resumable``: submit an asynchronous task, which can be asked for again after a crash, instead of the synchronous
    call.
    """

    base_url: str
    path: str
    resumable: bool = False


@dataclass(frozen=True)
class Sandbox:
    """The address of a running emulator, and the keys that it accepts."""

    url: str
    hidream_token: str = field(repr=False)
    gateway_api_key: str = field(repr=False)
