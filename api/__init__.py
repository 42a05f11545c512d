"""The shared module of all remote nodes: everything ``nodes/`` may import, and nothing else. It knows no ComfyUI."""

from __future__ import annotations

from . import checks, geometry, hidream, images, volcengine
from .calls import Batch, Delivery, HiDreamCall, PaidCall, Result, VolcengineCall, collect, deliver, run_in_batch
from .cancel import CallCancelled, CancelToken
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
from .polling import Progress, TaskRef, Watch
from .redaction import pack_logger
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
    "HiDreamCall",
    "HiDreamService",
    "PaidCall",
    "Progress",
    "Result",
    "TaskRef",
    "VolcengineCall",
    "VolcengineService",
    "Watch",
    "checked",
    "collect",
    "deliver",
    "run_in_batch",
    "wait_for_submits",
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
    "volcengine",
]
