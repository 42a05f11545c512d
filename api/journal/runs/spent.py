"""What each profile has spent today and this month, by the prices in its rows of ``run_items``: an estimate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, and_, func

from ..budget import midnight
from ..model import Known
from ..tables import attempts, run_items
from .items import Outcome, Spent
from .table import settled, with_attempts

_UNCLEAR = (Outcome.WAITING, Outcome.UNCLEAR, Outcome.FAILED)


@dataclass(frozen=True)
class _Cost:
    """What one attempt costs: ``certain`` for pictures that came, or else ``unclear``; at ``time`` it was admitted."""

    profile: str
    currency: str
    time: float
    certain: Decimal = Decimal(0)
    unclear: Decimal = Decimal(0)


@dataclass(frozen=True)
class _Told:
    """A row with a price, as its attempt tells it now."""

    outcome: Outcome
    billed: str
    paid_pictures: int


def read_spent(connection: Connection, now: float, is_free: Callable[[Known], bool]) -> list[Spent]:
    """What was spent in the month of ``now`` (database time), by profile and currency; one query.

    It counts on the day on which the attempt was admitted, by the price of the first row of this month that has one;
    each attempt counts once, however many runs have used it. Pictures that were reused cost nothing.
    """
    month = _first_of_month(now)
    columns = (
        *(run_items.c[name] for name in ("run", "node", "item", "part", "attempt", "endpoint", "profile", "wanted")),
        *(run_items.c[name] for name in ("outcome", "source", "pictures", "billed", "price", "currency")),
        func.coalesce(attempts.c.admitted_at, run_items.c.created_at).label("time"),
    )
    priced = and_(run_items.c.created_at >= month, run_items.c.price.is_not(None))
    by_attempt: defaultdict[object, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(with_attempts(*columns).where(priced).order_by(run_items.c.created_at)):
        by_attempt[row.attempt or (row.run, row.node, row.item, row.part)].append(row)
    by_buyer: defaultdict[tuple[str, str], list[_Cost]] = defaultdict(list)
    for rows in by_attempt.values():
        cost = _cost(rows, is_free)
        if cost.time >= month and (cost.certain or cost.unclear):
            by_buyer[cost.profile, cost.currency].append(cost)
    return [_spent(*buyer, costs, midnight(now)) for buyer, costs in sorted(by_buyer.items())]


def _first_of_month(now: float) -> float:
    """The beginning of this month in the server's time zone."""
    return datetime.fromtimestamp(midnight(now)).replace(day=1).timestamp()


def _cost(rows: Sequence[Row[Any]], is_free: Callable[[Known], bool]) -> _Cost:
    """What the attempt of these rows costs."""
    first = rows[0]
    price = Decimal(first.price)
    told = [_told(row, is_free) for row in rows]
    paid = max(row.paid_pictures for row in told)
    cost = _Cost(first.profile, first.currency, first.time, certain=price * paid)
    came = any(row.outcome is Outcome.CAME for row in told)
    if not came and any(row.outcome in _UNCLEAR or row.billed == "unknown" for row in told):
        return replace(cost, unclear=price * first.wanted)
    return cost


def _told(row: Row[Any], is_free: Callable[[Known], bool]) -> _Told:
    since = settled(row, is_free)
    if since is not None:
        outcome, billed = since
        return _Told(outcome, billed, row.stored if outcome is Outcome.CAME else 0)
    return _Told(row.outcome, row.billed, row.pictures if row.source in ("bought", "resumed") else 0)


def _spent(profile: str, currency: str, costs: Sequence[_Cost], today: float) -> Spent:
    of_today = [cost for cost in costs if cost.time >= today]
    return Spent(
        profile,
        currency,
        certain_today=_sum(cost.certain for cost in of_today),
        unclear_today=_sum(cost.unclear for cost in of_today),
        certain_this_month=_sum(cost.certain for cost in costs),
        unclear_this_month=_sum(cost.unclear for cost in costs),
    )


def _sum(amounts: Iterable[Decimal]) -> str:
    total = sum(amounts, Decimal(0))
    return format(total, "f") if total else "0"
