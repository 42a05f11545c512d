"""The one way of a paid call, from the request to the pictures."""

from .background import BackgroundPoller
from .batch import AbandonedCalls, Batch, Plan, Result, Run
from .collect import Delivery
from .fetch import fetch_task
from .order import PaidCall
from .words import BatchOutcome
