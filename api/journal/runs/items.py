"""What became of each item of a run: its row in the table ``run_items``, written at admission and at the item's end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ...core import Billed, Price
from ..model import ErrorRecord


class Outcome(Enum):
    """What became of one item of a run.

    - ``UNDER_WAY``: it was admitted, and the call has not ended; its attempt says how far it came.
    - ``CAME``: at least one of its pictures came.
    - ``WAITING``: the service has accepted it, and its pictures may still come.
    - ``REFUSED``: the service certainly did not accept it.
    - ``FAILED``: accepted, and no picture will come.
    - ``UNCLEAR``: it may have been accepted.
    - ``NOT_SUBMITTED``: nothing was sent: a local check, the budget, an outage, or another item's failure.
    """

    UNDER_WAY = "under way"
    CAME = "came"
    WAITING = "waiting"
    REFUSED = "refused"
    FAILED = "failed"
    UNCLEAR = "unclear"
    NOT_SUBMITTED = "not submitted"


Source = Literal["", "bought", "resumed", "reused"]


@dataclass(frozen=True)
class RunItem:
    """One call of a node in one run of a workflow.

    Args:
        run: the prompt id.
        node: the node's id in the prompt.
        item: the index in ComfyUI's list, from 0; 0 without a list.
        part: the index of the call among those of the item, from 0: a batch has one for each image and variant.
        label: what the input ``label`` named it; "" for nothing. It may be private.
        pictures: how many the call asks for.
        key: the request's key; "" if a local check failed before there was one.
        price: of one picture, as the owner has set it; ``None`` if it is not set.
    """

    run: str
    node: str
    item: int
    part: int
    label: str
    endpoint: str
    profile: str
    take: int
    pictures: int
    key: str = ""
    price: Price | None = None


@dataclass(frozen=True)
class ItemEnd:
    """What became of an item when its node ended.

    ``attempt``: the journal id, "" for none. ``pictures``: how many came. ``source``: where they came from, "" without
    a picture. ``error``: why a picture is missing.
    """

    item: RunItem
    outcome: Outcome
    source: Source = ""
    attempt: str = ""
    pictures: int = 0
    billed: Billed = "no"
    error: ErrorRecord | None = None


@dataclass(frozen=True)
class ItemRow:
    """A row as it is read: how the item ended, and what its attempt knows of it.

    Times are database times, epoch seconds; ``None`` for what did not happen. ``file``: where this pack has saved the
    picture.
    """

    end: ItemEnd
    task_id: str
    request_id: str
    submitted_at: float | None
    finished_at: float | None
    time: float
    file: str = ""


@dataclass(frozen=True)
class RunSummary:
    """A run in the list of runs: when it began, its items, its pictures, and how many items have none."""

    run: str
    began_at: float
    items: int
    pictures: int
    missing: int


@dataclass(frozen=True)
class Spent:
    """What a profile has spent, in one currency: an estimate by the owner's prices.

    ``certain``: pictures that came. ``unclear``: items that may have been billed, and have brought no picture.
    Amounts are decimal text; "0" for none.
    """

    profile: str
    currency: str
    certain_today: str
    unclear_today: str
    certain_this_month: str
    unclear_this_month: str
