"""What every other package uses: texts, errors, redaction, cancellation, limits, threads, files.

It imports neither requests, SQLAlchemy, numpy nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .choices import (
    DEFAULT_PROFILE,
    FILLS,
    FORMATS,
    GENDERS,
    OUTPUT_SIZES,
    PASTE_MODES,
    POSITIONS,
    SANDBOX_PROFILE,
    Fill,
    Format,
    Gender,
    OutputSize,
    PasteMode,
    Position,
)
from .disk import TEMPORARY, alone, in_container, on_network, sync_folder, write_whole
from .errors import (
    AmbiguousSubmitError,
    AuthenticationError,
    Billed,
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    ModerationError,
    Provider,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    TaskTimeoutError,
    show_as,
)
from .redaction import THREAD_PREFIX, Secret, hide_address, pack_logger, redact, redact_data, shortened, words_of
from .text import SETTINGS_DIALOG, Text
from .threads import DaemonPool, Process, is_dead, made_once, on_codec_pool, this_process

if TYPE_CHECKING:
    from .cancel import CallCancelled, CancelToken, NotSubmitted
    from .limits import Budget, Ceiling, Deadlines, JournalSettings, Limits, Price
    from .reading import as_object, base64_bytes, code_of, decoded, excerpt, json_object, json_value
    from .task import Accepted, CallHandle, PollError, Progress, Stage, SubTask, TaskRef, UnknownTaskError, Usual

# The imports above, once more for the time when the pack runs: ComfyUI's start does not need them.
_LATER = {
    "Accepted", "Budget", "CallCancelled", "CallHandle", "CancelToken", "Ceiling", "Deadlines", "JournalSettings",
    "Limits", "NotSubmitted", "PollError", "Price", "Progress", "Stage", "SubTask", "TaskRef", "UnknownTaskError",
    "Usual", "as_object", "base64_bytes", "code_of", "decoded", "excerpt", "json_object", "json_value",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import cancel, limits, reading, task

    return next(getattr(module, name) for module in (cancel, limits, reading, task) if hasattr(module, name))
