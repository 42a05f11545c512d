"""How a request proves who pays: a Bearer token, an exchanged one-day token, or a V4 signature.

Each is an ``AuthBase`` that is pinned to the addresses of its services: outside of them it adds nothing and raises.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

import requests
from pydantic import BeforeValidator
from requests.auth import AuthBase

from ..core import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    Deadlines,
    RemoteImageError,
    Secret,
    Text,
    as_object,
    json_object,
)
from .connection import NoAuth, Request, is_under
from .diagnosis import obstacle_of
from .free import ask
from .received import Answer, WholeNumber, WireAnswer, Word


def _check_pinned(request: requests.PreparedRequest, bases: frozenset[str]) -> None:
    """Raise ConfigurationError unless the request goes to an address under one of ``bases``."""
    url = request.url or ""
    if not any(is_under(url, base) for base in bases):
        shown = url.partition("?")[0]
        raise ConfigurationError(
            Text(
                f"A key was about to be sent to {shown}, an address it does not belong to.",
                f"密钥险些被发送到不属于它的地址 {shown}。",
            )
        )


@dataclass(frozen=True)
class BearerAuth(AuthBase):
    """``Authorization: Bearer <token>`` for what lies under the given addresses only."""

    token: Secret
    bases: frozenset[str]

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        _check_pinned(request, self.bases)
        request.headers["Authorization"] = f"Bearer {self.token.reveal()}"
        return request


# ---- HiDream's api-key exchange


class _TokenResult(WireAnswer):
    token: Word = ""


class _TokenAnswer(WireAnswer):
    code: WholeNumber = None
    message: Word = ""
    request_id: Word = ""
    result: Annotated[_TokenResult, BeforeValidator(as_object)] = _TokenResult()


# Seconds. Tokens live one day (www.hidreamai.com/docs/pixeling/user/token.html); the unit of `expire_time` is not
# documented.
_TOKEN_LIFETIME = 23 * 3600.0
_EXCHANGE_PATH = "/prod-api/user/apikey2token"


@dataclass
class _Exchanged:
    token: Secret
    # time.monotonic()
    since: float


# Base URL and API key.
_Slot = tuple[str, Secret]
_tokens: dict[_Slot, _Exchanged] = {}
# A lock for each key: an exchange that hangs holds up no call with another key, and none that has a token.
_exchanging: dict[_Slot, threading.Lock] = {}
# When the last exchange of a key failed (time.monotonic()), and its error.
_failures: dict[_Slot, tuple[float, RemoteImageError]] = {}


def _current_token(slot: _Slot) -> Secret | None:
    """The token of a key; ``None`` if there is none that is younger than 23 hours."""
    known = _tokens.get(slot)
    return known.token if known is not None and time.monotonic() - known.since <= _TOKEN_LIFETIME else None


# The token that each thread has sent last: a 401 that the thread gets is about this one.
_last_sent = threading.local()


@dataclass(frozen=True)
class ExchangedTokenAuth(AuthBase):
    """``Authorization: Bearer <token>`` with a one-day token for an API key; it is kept in memory and renewed here.

    ``GET {base_url}/prod-api/user/apikey2token`` with the header ``Api-Key``
    (www.hidreamai.com/docs/pixeling/user/token.html).
    """

    api_key: Secret
    base_url: str
    bases: frozenset[str]
    deadlines: Deadlines = field(default_factory=Deadlines)
    proxy: str = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        _check_pinned(request, self.bases)
        _last_sent.token = self.token()
        request.headers["Authorization"] = f"Bearer {_last_sent.token.reveal()}"
        return request

    def token(self) -> Secret:
        """The current token. The key is exchanged for one if there is none, or only one that is 23 hours old.

        Raises:
            AuthenticationError: the service did not accept the key.
            ConnectionFailedError: no usable answer.
        """
        slot = (self.base_url, self.api_key)
        if (known := _current_token(slot)) is not None:
            return known
        asked_at = time.monotonic()
        # Held during the exchange on purpose: sixteen waiting calls need one token, not sixteen.
        with _exchanging.setdefault(slot, threading.Lock()):
            if (known := _current_token(slot)) is not None:
                return known
            failed_at, failure = _failures.get(slot, (0.0, None))
            if failure is not None and failed_at > asked_at:
                # That exchange failed while this call waited for the lock: another one would take as long.
                raise failure.again()
            try:
                exchanged = _Exchanged(self._exchange(), time.monotonic())
            except RemoteImageError as error:
                _failures[slot] = time.monotonic(), error
                raise
            _tokens[slot] = exchanged
            return exchanged.token

    def forget_refused(self) -> None:
        """Drop the token that this thread has sent last, and that got 401; a token exchanged since then is kept."""
        slot = (self.base_url, self.api_key)
        with _exchanging.setdefault(slot, threading.Lock()):
            known = _tokens.get(slot)
            if known is not None and known.token == getattr(_last_sent, "token", None):
                del _tokens[slot]

    def ask_for_token(self, deadlines: Deadlines) -> Answer:
        """Ask for a token once and return the answer, whatever it says; raises as :func:`ask`.

        On a new connection: this thread's connection and its time limit belong to the request that needs the token.
        """
        headers = {"Api-Key": self.api_key.reveal()}
        url = self.base_url + _EXCHANGE_PATH
        return ask(Request(url, NoAuth(), deadlines, self.proxy, headers=headers), afresh=True)

    def _exchange(self) -> Secret:
        try:
            answer = self.ask_for_token(self.deadlines)
        except requests.RequestException as cause:
            why = obstacle_of(cause) or Text("", "")
            raise ConnectionFailedError(
                Text(
                    f"The token exchange could not be reached. {why.en}".strip(),
                    f"无法连接令牌兑换接口。{why.zh}",
                ),
                provider="HiDream",
                vendor_message=str(cause),
            ) from None
        parsed = _TokenAnswer.model_validate(json_object(answer.body) or {})
        # A token is taken whatever code the answer has beside it.
        if parsed.result.token and answer.status < 300:
            return Secret(parsed.result.token)
        if answer.status >= 500 or answer.status in (408, 429):
            raise ConnectionFailedError(
                Text("The token exchange did not work just now.", "令牌兑换接口暂时不可用。"),
                provider="HiDream",
                code=f"HTTP {answer.status}",
            )
        raise AuthenticationError(
            Text("The API key could not be exchanged for a token.", "API key 无法兑换令牌。"),
            provider="HiDream",
            code=parsed.code if parsed.code is not None else f"HTTP {answer.status}",
            vendor_message=parsed.message,
            request_id=parsed.request_id,
        )


# ---- Volcengine's V4 signature


@dataclass(frozen=True)
class SignatureAuth(AuthBase):
    """Volcengine V4: ``HMAC-SHA256`` over method, path, query, four headers and the body's hash.

    Sources: volcengine/volc-openapi-demos ``signature/python/sign.py``, volcengine/volc-sdk-python
    ``volcengine/auth/SignerV4.py``; ``tests/contract/profiles/test_credentials.py`` compares it with the latter.
    """

    access_key_id: Secret
    secret_access_key: Secret
    bases: frozenset[str]
    region: str = "cn-north-1"
    service: str = "cv"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        _check_pinned(request, self.bases)
        # The body of a paid submit is an object that counts what was sent; its bytes are in `data`.
        body = getattr(request.body, "data", request.body)
        signed = self.sign(request.url or "", body if isinstance(body, bytes) else b"", datetime.now(timezone.utc))
        request.headers.update(signed)
        return request

    def sign(self, url: str, body: bytes, now: datetime) -> Mapping[str, str]:
        """The headers of a JSON POST of ``body`` to ``url``, with its signature at ``now`` (UTC)."""
        parts = urlsplit(url)
        date = now.strftime("%Y%m%dT%H%M%SZ")
        body_hash = hashlib.sha256(body).hexdigest()
        signed = {
            "content-type": "application/json",
            "host": parts.netloc,
            "x-content-sha256": body_hash,
            "x-date": date,
        }
        names = ";".join(signed)
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
        )
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = f"POST\n{quote(parts.path or '/', safe='/-_.~')}\n{query}\n{lines}\n{names}\n{body_hash}"
        scope = f"{date[:8]}/{self.region}/{self.service}/request"
        to_sign = f"HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode('utf-8')).hexdigest()}"
        key = self.secret_access_key.reveal().encode("utf-8")
        for part in (*scope.split("/"), to_sign):
            key = hmac.new(key, part.encode("utf-8"), hashlib.sha256).digest()
        return {
            "Content-Type": "application/json",
            "Host": parts.netloc,
            "X-Content-Sha256": body_hash,
            "X-Date": date,
            "Authorization": f"HMAC-SHA256 Credential={self.access_key_id.reveal()}/{scope}, "
            f"SignedHeaders={names}, Signature={key.hex()}",
        }
