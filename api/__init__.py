"""The shared module of all remote nodes: everything ``nodes/`` may import, and nothing else. It knows no ComfyUI.

A start of ComfyUI loads what is imported here. A name of ``_LAZY`` loads its module when it is used first, so that
``nodes/`` writes ``api.PaidCall`` and never imports that name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Only calls need it, but if it is missing ComfyUI is to say so at its start, where it has mostly loaded it itself.
import requests

from .core import choices
from .core.errors import (
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
from .core.redaction import pack_logger
from .core.text import Text
from .core.threads import DaemonPool, once
from .profiles.file import ProfileFile, first_profile, profile_names

if TYPE_CHECKING:
    from .core import checks
    from .core.cancel import CallCancelled, CancelToken
    from .core.limits import Budget, Deadlines, JournalSettings, Limits
    from .core.task import Progress, TaskRef, Watch
    from .journal.journal import Journal
    from .journal.model import JournalError
    from .journal.task_list import Overview, Task
    from .pixels import geometry, padding
    from .pixels import tensors as images
    from .pixels.geometry import Placement
    from .pixels.paste import locate as whereabouts
    from .pixels.paste import paste as pasting
    from .pixels.thumbnail import Thumbnails
    from .pixels.upload import Pictures, Upload
    from .profiles.editor import ProfileEditor, RefusedEditError, ShownProfile, ShownProfiles
    from .profiles.resolve import Profiles
    from .purchase.background import Collector
    from .purchase.batch import Batch, Left, Plan, Result, Run
    from .purchase.collect import Delivery
    from .purchase.fetch import fetch
    from .purchase.order import PaidCall
    from .purchase.words import deliver, may_still_come, notes_of, sources_of
    from .services import hidream, volcengine
    from .services.hidream import HiDreamService
    from .services.model import checked
    from .services.volcengine import VolcengineService
    from .templates.shelf import TemplatePage, TemplateShelf
    from .transport.account import Sandbox
    from .transport.diagnosis import Diagnosis
    from .transport.submit import wait_for_submits

# The imports above, once more for the time when the pack runs: from a module to its names.
_LAZY = {
    "core.cancel": "CallCancelled CancelToken",
    "core.limits": "Budget JournalSettings Limits",
    "journal.journal": "Journal",
    "journal.states": "JournalError",
    "journal.task_list": "Overview Task",
    "pixels.geometry": "Placement",
    "pixels.thumbnail": "Thumbnails",
    "pixels.upload": "Pictures Upload",
    "profiles.editor": "ProfileEditor RefusedEditError ShownProfile ShownProfiles",
    "profiles.resolve": "Profiles",
    "purchase.background": "Collector",
    "purchase.calls": "Batch Left PaidCall Plan Result Run deliver fetch may_still_come notes_of sources_of",
    "purchase.collect": "Delivery",
    "purchase.poll": "Progress TaskRef Watch",
    "services.hidream": "HiDreamService",
    "services.model": "checked",
    "services.volcengine": "VolcengineService",
    "templates.shelf": "TemplatePage TemplateShelf",
    "transport.account": "Sandbox",
    "transport.diagnosis": "Diagnosis",
    "transport.submit": "Deadlines wait_for_submits",
}
# Modules that are used under a name here: `api.images.encode`.
_WHOLE = {
    "checks": "core.checks",
    "geometry": "pixels.geometry",
    "hidream": "services.hidream",
    "images": "pixels.tensors",
    "padding": "pixels.padding",
    "pasting": "pixels.paste.paste",
    "volcengine": "services.volcengine",
    "whereabouts": "pixels.paste.locate",
}
_MODULES = {name: module for module, names in _LAZY.items() for name in names.split()} | _WHOLE


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES[name]}", __name__)
    return module if name in _WHOLE else getattr(module, name)
