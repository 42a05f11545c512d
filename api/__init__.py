"""The names of ``api/`` that ``nodes/`` may use, and no others. Nothing in ``api/`` imports ComfyUI.

What is imported here is loaded when ComfyUI starts. A name of ``_LAZY`` or ``_WHOLE`` loads its module when it is first
used. ``nodes/`` therefore writes ``api.PaidCall``: ``from ..api import PaidCall`` would load the package at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Only calls use requests, but if it is missing, ComfyUI is to say so when it starts. Mostly it is loaded already.
import requests

from .catalog import (
    ENDPOINTS,
    LABEL,
    LABELS,
    ON_PARTIAL,
    ORIGINALS,
    PROFILE,
    RETURN_THE_REST,
    TAKE,
    TASK_RESULT,
    AnyEndpoint,
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    Given,
    IntWidget,
    Node,
    NodePlan,
    Output,
    PaidNode,
    PlannedCall,
    ProfileWidget,
    Socket,
    StringWidget,
    Widget,
    checked_values,
    endpoint_named,
    local,
)
from .core import (
    THREAD_PREFIX,
    AmbiguousSubmitError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    DaemonPool,
    InvalidInputError,
    ModerationError,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    TaskTimeoutError,
    Text,
    choices,
    made_once,
    pack_logger,
    show_as,
)
from .profiles import ProfileFile, first_profile, profile_names

if TYPE_CHECKING:
    from .catalog import outpainting
    from .core import (
        Budget,
        CallCancelled,
        CallHandle,
        CancelToken,
        Deadlines,
        JournalSettings,
        Progress,
        TaskRef,
    )
    from .journal import (
        Decision,
        ItemRow,
        Journal,
        JournalError,
        Order,
        Overview,
        RunSummary,
        Spent,
        Task,
    )
    from .journal.runs import report
    from .pixels import Pictures, Placement, Thumbnails, Upload, geometry, padding, tensors
    from .pixels.paste import locate, paste
    from .profiles import ProfileEditor, Profiles, RefusedEditError, ShownProfile, ShownProfiles
    from .purchase import (
        AbandonedCalls,
        BackgroundPoller,
        Batch,
        BatchOutcome,
        Counts,
        Delivery,
        Missing,
        NodeRun,
        PaidCall,
        Plan,
        Result,
        Retry,
        Run,
        end_of_error,
        fetch_task,
        retry_of,
    )
    from .services import Service
    from .templates import TemplatePage, TemplateShelf
    from .transport import Diagnosis, Sandbox, wait_for_submits

# The imports under TYPE_CHECKING again, for run time: from a package to its names, separated by blanks.
_LAZY = {
    "core": "Budget CallCancelled CallHandle CancelToken Deadlines JournalSettings Progress TaskRef",
    "journal": (
        "Decision ItemRow Journal JournalError Order Overview RunSummary Spent Task"
    ),
    "pixels": "Pictures Placement Thumbnails Upload",
    "profiles": "ProfileEditor Profiles RefusedEditError ShownProfile ShownProfiles",
    "purchase": (
        "AbandonedCalls BackgroundPoller Batch BatchOutcome Counts Delivery Missing NodeRun PaidCall Plan "
        "Result Retry Run end_of_error fetch_task retry_of"
    ),
    "services": "Service",
    "templates": "TemplatePage TemplateShelf",
    "transport": "Diagnosis Sandbox wait_for_submits",
}
# From a name to the module that it stands for: `api.tensors.encode`.
_WHOLE = {
    "outpainting": "catalog.outpainting",
    "report": "journal.runs.report",
    "geometry": "pixels.geometry",
    "tensors": "pixels.tensors",
    "padding": "pixels.padding",
    "paste": "pixels.paste.paste",
    "locate": "pixels.paste.locate",
}
_MODULES = {name: package for package, names in _LAZY.items() for name in names.split()} | _WHOLE


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = __name__
    for part in _MODULES[name].split("."):
        # Packages before their modules: two threads that import one package in different orders would wait for each
        # other, and Python ends that with an ImportError.
        path = f"{path}.{part}"
        module = import_module(path)
    return module if name in _WHOLE else getattr(module, name)
