"""The shared module of all remote nodes: everything ``nodes/`` may import, and nothing else. It knows no ComfyUI.

A start of ComfyUI loads what is imported here. Every other name of ``__all__`` is loaded when it is used first, so that
``nodes/`` writes ``api.PaidCall`` and never imports that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Only calls need it, but if it is missing ComfyUI is to say so at its start, where it has mostly loaded it itself.
import requests  # noqa: F401

from . import choices
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
from .profile_file import ProfileFile, profile_names
from .redaction import pack_logger
from .text import Text
from .workers import DaemonPool, once

if TYPE_CHECKING:
    from .collector import Collector
    from .journal import Journal
    from .later import *  # noqa: F403
    from .task_list import Overview, Task

# Apart from later.py: local nodes and the settings dialog do not need the database either.
_WITH_THE_DATABASE = {"Collector", "Journal", "Overview", "Task"}

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
    "once",
    # journal
    "Budget",
    "Collector",
    "Journal",
    "JournalSettings",
    "Limits",
    "Overview",
    "Task",
    "Thumbnails",
    # profiles
    "Deadlines",
    "Diagnosis",
    "ProfileEditor",
    "ProfileFile",
    "Profiles",
    "RefusedEditError",
    "Sandbox",
    "ShownProfile",
    "ShownProfiles",
    "profile_names",
    # templates
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
    "choices",
    "geometry",
    "hidream",
    "images",
    "pack_logger",
    "padding",
    "pasting",
    "volcengine",
    "whereabouts",
]


def __getattr__(name: str) -> Any:
    if name in _WITH_THE_DATABASE:
        from . import collector, journal, task_list

        home = {"Collector": collector, "Journal": journal}.get(name, task_list)
        return getattr(home, name)
    if name in __all__:
        from . import later

        return getattr(later, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
