"""The one way of a paid call, from the request to the pictures."""

from .background import Collector
from .batch import Batch, Left, Plan, Result, Run
from .collect import Delivery
from .fetch import fetch_task
from .order import PaidCall
from .words import deliver, may_still_come, notes_of, sources_of

__all__ = [
    "Batch",
    "Collector",
    "Delivery",
    "Left",
    "PaidCall",
    "Plan",
    "Result",
    "Run",
    "deliver",
    "fetch_task",
    "may_still_come",
    "notes_of",
    "sources_of",
]
