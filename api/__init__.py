"""The shared module of all remote nodes: everything ``nodes/`` may import, and nothing else. It knows no ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import checks, geometry, hidream, images, padding, pasting, volcengine, whereabouts
from .accounts import Sandbox
from .calls import Batch, PaidCall, Plan, Result, Run, deliver, fetch, may_still_come, notes_of
from .cancel import CallCancelled, CancelToken
from .collecting import Delivery
from .credentials import Profiles
from .diagnosis import Diagnosis
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
from .profile_edits import ProfileEditor, RefusedEditError, ShownProfile, ShownProfiles
from .profile_file import ProfileFile
from .profile_values import DEFAULT_PROFILE, SANDBOX_PROFILE
from .redaction import pack_logger
from .settings import Budget, JournalSettings, Limits
from .states import JournalError
from .template_shelf import TemplatePage, TemplateShelf
from .templates import GENDERS
from .text import Text
from .thumbnails import Thumbnails
from .transport import Deadlines, wait_for_submits
from .uploads import Pictures, Upload
from .volcengine import VolcengineService
from .wire import checked
from .workers import DaemonPool

if TYPE_CHECKING:
    from .callbacks import Callbacks
    from .collector import Collector
    from .journal import Journal
    from .task_list import Overview, Task

_WITH_THE_DATABASE = {"Callbacks", "Collector", "Journal", "Overview", "Task"}


def __getattr__(name: str) -> Any:
    """A start of ComfyUI that buys nothing is not held up by the database."""
    if name not in _WITH_THE_DATABASE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import callbacks, collector, journal, task_list

    home = {"Callbacks": callbacks, "Collector": collector, "Journal": journal}.get(name, task_list)
    return getattr(home, name)


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
    "may_still_come",
    "notes_of",
    "wait_for_submits",
    # threads
    "DaemonPool",
    # journal
    "Budget",
    "Callbacks",
    "Collector",
    "Journal",
    "JournalSettings",
    "Limits",
    "Overview",
    "Task",
    "Thumbnails",
    # profiles
    "DEFAULT_PROFILE",
    "SANDBOX_PROFILE",
    "Deadlines",
    "Diagnosis",
    "ProfileEditor",
    "ProfileFile",
    "Profiles",
    "RefusedEditError",
    "Sandbox",
    "ShownProfile",
    "ShownProfiles",
    # templates
    "GENDERS",
    "TemplatePage",
    "TemplateShelf",
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
    "Pictures",
    "Placement",
    "Text",
    "Upload",
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
