"""The shared module of all remote nodes: everything ``nodes/`` may import, and nothing else. It knows no ComfyUI."""

from __future__ import annotations

from . import checks, geometry, hidream, images, padding, pasting, volcengine, whereabouts
from .attempts import Task
from .calls import Batch, PaidCall, Plan, Result, Run, deliver, fetch, notes_of
from .cancel import CallCancelled, CancelToken
from .collecting import Delivery
from .collector import Collector
from .credentials import DEFAULT_PROFILE, SANDBOX_PROFILE, Profiles, Sandbox
from .errors import (
    AmbiguousSubmitError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    ModerationError,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    TaskTimeoutError,
)
from .geometry import Placement
from .hidream import HiDreamService
from .journal import Journal
from .polling import Progress, TaskRef, Watch
from .redaction import pack_logger
from .schema import JournalError
from .settings import Budget, JournalSettings, Limits
from .text import Text
from .transport import Deadlines, wait_for_submits
from .volcengine import VolcengineService
from .wire import checked

__all__ = [  # noqa: RUF022 - grouped by what they are for
    # calls
    "Batch",
    "CallCancelled",
    "CancelToken",
    "Delivery",
    "HiDreamService",
    "PaidCall",
    "Plan",
    "Progress",
    "Result",
    "Run",
    "TaskRef",
    "VolcengineService",
    "Watch",
    "checked",
    "deliver",
    "fetch",
    "notes_of",
    "wait_for_submits",
    # journal
    "Budget",
    "Collector",
    "Journal",
    "JournalSettings",
    "Limits",
    "Task",
    # profiles
    "DEFAULT_PROFILE",
    "SANDBOX_PROFILE",
    "Deadlines",
    "Profiles",
    "Sandbox",
    # errors
    "AmbiguousSubmitError",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionFailedError",
    "InvalidInputError",
    "JournalError",
    "ModerationError",
    "QuotaError",
    "RateLimitError",
    "RemoteImageError",
    "ServiceError",
    "TaskFailedError",
    "TaskTimeoutError",
    # images and words
    "Placement",
    "Text",
    "checks",
    "geometry",
    "hidream",
    "images",
    "pack_logger",
    "padding",
    "pasting",
    "volcengine",
    "whereabouts",
]
