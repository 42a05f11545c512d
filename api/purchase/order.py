"""What is bought: a call, its order for the journal, and the key by which it is the same purchase as before."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core import RemoteImageError, shortened
from ..journal import Order, Purchase
from ..services import WireRequest
from .submit import Service

KEY_VERSION = 1


def request_key(
    *, service: str, endpoint: str, account: str, body: Mapping[str, Any], take: int, occurrence: int
) -> str:
    """SHA-256 (hex) over everything that makes one purchase another one than the next.

    Args:
        service: who is asked, ``"sandbox"`` whatever its port.
        body: the wire body without ``request_id``, ``notify_url`` and ``return_url``, every image replaced by its
            fingerprint.
        occurrence: 0 for the first of several equal requests of one call; never the position in a batch.
    """
    parts = {
        "version": KEY_VERSION,
        "service": service,
        "endpoint": endpoint,
        "account": account,
        "body": body,
        "take": take,
        "occurrence": occurrence,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


# Of no meaning for what the picture will be.
_NOT_IN_KEY = {"request_id", "notify_url", "return_url"}


@dataclass(frozen=True)
class PaidCall:
    """One thing to buy.

    Args:
        request: the wire model, with ``images.fingerprint`` in the place of each image: what the key is made of.
        encode: the real values of those fields; runs in the worker, once it is certain that something is bought, and
            again if that came to nothing. It should hold no picture of its own: calls wait for long (``uploads.py``).
        expected_pixels: of one picture; results up to four times this are taken.
        pictures: how many it buys, for the budget.
        problem: why it may not be submitted; what was bought with it before is still handed on.
    """

    service: Service
    request: WireRequest
    encode: Callable[[], Mapping[str, Any]]
    expected_pixels: int
    take: int = 0
    pictures: int = 1
    problem: RemoteImageError | None = None

    def order(self, prompt_id: str, occurrence: int) -> Order:
        body = self.request.model_dump(exclude_none=True, exclude=_NOT_IN_KEY)
        prompt = str(body.get("prompt") or body.get("custom_prompt") or "")
        key = key_of(self.service, body, self.take, occurrence)
        return order_of(
            self.service, key, prompt_id, self.take, self.pictures, self.expected_pixels, shortened(prompt, 200)
        )


def orders_of(calls: Sequence[PaidCall], prompt_id: str) -> list[Order]:
    """Equal requests of one node are several purchases: they are told apart by their number, wherever they stand."""
    seen: Counter[str] = Counter()
    orders = []
    for call in calls:
        first = call.order(prompt_id, 0)
        occurrence = seen[first.key]
        seen[first.key] += 1
        orders.append(call.order(prompt_id, occurrence) if occurrence else first)
    return orders


def key_of(service: Service, body: Mapping[str, Any], take: int, occurrence: int) -> str:
    account = service.account
    return request_key(
        service="sandbox" if account.sandbox else service.provider.lower(),
        endpoint=service.name,
        account=account.account_id,
        body=body,
        take=take,
        occurrence=occurrence,
    )


def order_of(
    service: Service, key: str, prompt_id: str, take: int, pictures: int, expected_pixels: int, summary: str
) -> Order:
    account = service.account
    purchase = Purchase(
        provider=service.provider,
        endpoint=service.name,
        profile=account.profile,
        account=account.account_id,
        prompt_id=prompt_id,
        pictures=pictures,
        budget=account.budget,
        ceiling=service.ceiling,
    )
    return Order(key, purchase, account.sandbox, take, expected_pixels, summary)


def together(purchases: Sequence[Purchase]) -> Purchase:
    """All of a node's purchases as one, for the budget: they share one account."""
    return replace(purchases[0], pictures=sum(purchase.pictures for purchase in purchases))
