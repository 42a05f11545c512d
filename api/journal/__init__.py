"""The durable record of purchases: the database, and the files beside it."""

from .claim import Claim, Kept
from .journal import Journal
from .model import (
    ANY_PICTURE,
    Attempt,
    Busy,
    ClaimLost,
    Decision,
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
from .store import UNKNOWN_MEDIA, DamagedPictureError, MissingPictureError, Store, file_name
from .task_list import Overview, StopRegistry, Task
