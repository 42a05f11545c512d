"""A paid call, its order for the journal, and the request key: calls with equal keys are one purchase."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..catalog import WireRequest
from ..core import RemoteImageError, as_object, json_value, shortened
from ..journal import Order, Purchase
from ..services import Service
from .run import NodeItem

KEY_VERSION = 1


def request_key(
    *, service: str, endpoint: str, account: str, body: Mapping[str, Any], take: int, occurrence: int
) -> str:
    """SHA-256 (hex) of all that distinguishes one purchase from another, as JSON with sorted keys.

    Another value for the same request would buy it again: the JSON must not change.

    Args:
        service: the provider in lower case, or ``"sandbox"`` whatever its port.
        endpoint: the service's name in the journal.
        account: the account's id.
        body: the wire body without ``request_id``, ``notify_url`` and ``return_url``, every image replaced by its
            fingerprint, and the account's ``logo_info``, wherever that goes up.
        take: the node's ``take``.
        occurrence: how many equal requests come before this one in the same batch; never its position in the batch.
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


# Fields that do not change the picture.
_NOT_IN_KEY = {"request_id", "notify_url", "return_url", "aigc_meta"}


@dataclass(frozen=True)
class PaidCall:
    """One request to buy.

    Args:
        request: the wire model with the fingerprint of its pixels in the place of each image; the key is made of it.
        encode: returns the real values of those fields. It runs on the codec pool after the attempt was admitted, and
            again if the call loses its claim and submits another attempt. It should hold no pixels of its own: a call
            may wait for long.
        expected_pixels: of one picture; results of up to four times as many are accepted.
        take: the node's ``take``: another one is another purchase.
        pictures: how many it buys; the budget counts them.
        problem: the error to raise instead of submitting it. Pictures of an earlier purchase are delivered all the
            same.
    """

    service: Service
    request: WireRequest
    encode: Callable[[], Mapping[str, Any]]
    expected_pixels: int
    take: int = 0
    pictures: int = 1
    problem: RemoteImageError | None = None

    def order(self, prompt_id: str, occurrence: int) -> Order:
        """The order for the journal, with its key; ``occurrence`` as for :func:`request_key`."""
        asked = {**self.request.model_dump(exclude_none=True), **as_object(json_value(self.service.account.options))}
        body = {name: value for name, value in asked.items() if name not in _NOT_IN_KEY}
        prompt = str(body.get("prompt") or body.get("custom_prompt") or "")
        key = key_of(self.service, body, self.take, occurrence)
        return order_of(
            self.service, key, prompt_id, self.take, self.pictures, self.expected_pixels, shortened(prompt, 200)
        )


def orders_of(calls: Sequence[PaidCall], item: NodeItem) -> list[Order]:
    """The orders of the calls of one item of a node, in their order.

    Equal calls are several purchases: their keys differ by how many equal ones come before, wherever in the batch.
    """
    seen: Counter[str] = Counter()
    orders = []
    prompt_id = item.node.run.prompt_id
    for part, call in enumerate(calls):
        first = call.order(prompt_id, 0)
        occurrence = seen[first.key]
        seen[first.key] += 1
        order = call.order(prompt_id, occurrence) if occurrence else first
        purchase = order.purchase
        run_item = item.run_item(
            part,
            endpoint=purchase.endpoint,
            profile=purchase.profile,
            take=call.take,
            pictures=call.pictures,
            key=order.key,
            price=call.service.account.prices.get(purchase.endpoint),
        )
        orders.append(replace(order, purchase=replace(purchase, item=run_item)))
    return orders


def key_of(service: Service, body: Mapping[str, Any], take: int, occurrence: int) -> str:
    """The :func:`request_key` of a body at this service and account."""
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
    """The order of a request with the budget and the limits of its account; ``summary`` is for the task list."""
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
    """One purchase with the pictures of all, for the budget check of a node; they must share account and run."""
    return replace(purchases[0], pictures=sum(purchase.pictures for purchase in purchases))
