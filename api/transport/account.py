"""Who pays a service, and how: what a profile comes down to for one call."""

from __future__ import annotations

from dataclasses import dataclass, field

from requests.auth import AuthBase

from ..core import Budget, Deadlines, Limits


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
    proxy: str = ""


@dataclass(frozen=True, kw_only=True)
class HiDreamAccount(Account):
    """Where HiDream is and how to pay there.

    ``language`` is what the service's messages are written in; ``notify_url`` goes into each submit unchanged, for a
    system of the server's owner.
    """

    base_url: str
    ec_base_url: str
    auth: AuthBase = field(repr=False)
    user_id: str = ""
    language: str = "zh"
    notify_url: str = field(default="", repr=False)


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
