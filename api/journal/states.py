"""How far an attempt came, and what is raised where the journal cannot tell or keep it."""

from __future__ import annotations

from enum import Enum

from ..core.errors import ConfigurationError
from ..core.text import Text


class State(Enum):
    """How far an attempt came."""

    PREPARED = "prepared"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    PARKED = "parked"
    DONE = "done"
    STORED = "stored"
    DELIVERED = "delivered"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JournalError(ConfigurationError):
    """The journal cannot be read or written. Raised before a submit, nothing was sent."""

    default_advice = Text(
        "Nothing is bought without the journal: free or repair its disk or database, then queue again.",
        "没有付费日志就不会产生任何购买：请先修复或释放其磁盘或数据库，然后重新运行。",
    )


class DamagedError(JournalError):
    """The journal's file is no sound database any more."""
