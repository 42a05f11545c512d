"""The one way of a paid call, from the request to the pictures."""

from .background import BackgroundPoller
from .batch import AbandonedCalls, Batch, Plan
from .collect import Delivery
from .fetch import fetch_task
from .order import PaidCall
from .run import NodeItem, NodeRun, Run
from .words import BatchOutcome, Counts, Missing, Result, Retry, end_of_error, retry_of
