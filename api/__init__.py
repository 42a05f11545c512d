"""The shared module of all remote nodes: everything ``nodes/`` may import, and nothing else. It knows no ComfyUI.

A start of ComfyUI loads what is imported here. A name of ``_LAZY`` loads its module when it is used first, so that
``nodes/`` writes ``api.PaidCall`` and never imports that name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Only calls need it, but if it is missing ComfyUI is to say so at its start, where it has mostly loaded it itself.
import requests

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
    show_as,
)
from .profile_file import ProfileFile, first_profile, profile_names
from .redaction import pack_logger
from .text import Text
from .workers import DaemonPool, once

if TYPE_CHECKING:
    from . import checks, geometry, hidream, images, padding, pasting, volcengine, whereabouts
    from .accounts import Sandbox
    from .calls import Batch, Left, PaidCall, Plan, Result, Run, deliver, fetch, may_still_come, notes_of, sources_of
    from .cancel import CallCancelled, CancelToken
    from .collecting import Delivery
    from .collector import Collector
    from .credentials import Profiles
    from .diagnosis import Diagnosis
    from .geometry import Placement
    from .hidream import HiDreamService
    from .journal import Journal
    from .polling import Progress, TaskRef, Watch
    from .profile_edits import ProfileEditor, RefusedEditError, ShownProfile, ShownProfiles
    from .settings import Budget, JournalSettings, Limits
    from .states import JournalError
    from .task_list import Overview, Task
    from .template_shelf import TemplatePage, TemplateShelf
    from .thumbnails import Thumbnails
    from .transport import Deadlines, wait_for_submits
    from .uploads import Pictures, Upload
    from .volcengine import VolcengineService
    from .wire import checked

# The imports above, once more for the time when the pack runs: from a module to its names.
_LAZY = {
    "": "checks geometry hidream images padding pasting volcengine whereabouts",
    "accounts": "Sandbox",
    "calls": "Batch Left PaidCall Plan Result Run deliver fetch may_still_come notes_of sources_of",
    "cancel": "CallCancelled CancelToken",
    "collecting": "Delivery",
    "collector": "Collector",
    "credentials": "Profiles",
    "diagnosis": "Diagnosis",
    "geometry": "Placement",
    "hidream": "HiDreamService",
    "journal": "Journal",
    "polling": "Progress TaskRef Watch",
    "profile_edits": "ProfileEditor RefusedEditError ShownProfile ShownProfiles",
    "settings": "Budget JournalSettings Limits",
    "states": "JournalError",
    "task_list": "Overview Task",
    "template_shelf": "TemplatePage TemplateShelf",
    "thumbnails": "Thumbnails",
    "transport": "Deadlines wait_for_submits",
    "uploads": "Pictures Upload",
    "volcengine": "VolcengineService",
    "wire": "checked",
}
_MODULES = {name: module or name for module, names in _LAZY.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES[name]}", __name__)
    return module if name == _MODULES[name] else getattr(module, name)
