"""The durable record of purchases: the database, and the files beside it."""

from .claim import Claim, Kept
from .journal import Journal
from .model import (
    ANY_PICTURE,
    Attempt,
    Busy,
    ClaimLost,
    Decision,
    ErrorRecord,
    Explained,
    Finished,
    Found,
    JournalError,
    Order,
    Purchase,
    State,
    StoredResult,
    retold,
)
from .runs.items import ItemEnd, ItemRow, Outcome, RunItem, RunSummary, Source, Spent
from .runs.run_items import RunItems
from .store import UNKNOWN_MEDIA, DamagedPictureError, MissingPictureError, Store, file_name
from .task_list import Overview, StopRegistry, Task
