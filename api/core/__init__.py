"""What every other package uses: texts, errors, redaction, cancellation, checks, limits, threads, files.

It imports nothing for the network, the journal's database or tensors.
"""

from .cancel import CallCancelled, CancelToken, NotSubmitted
from .choices import (
    DEFAULT_PROFILE,
    GENDERS,
    HIDREAM_IMAGE_TO_IMAGE,
    HIDREAM_MODEL_PHOTO_SET,
    HIDREAM_OUTPAINT,
    HIDREAM_UPSCALE,
    MAX_CANVAS,
    SANDBOX_PROFILE,
    VOLCENGINE_OUTPAINT,
    AspectRatio,
    Fill,
    Format,
    Gender,
    OutputSize,
    PasteMode,
    Position,
    UpscaleRatio,
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
from .limits import Budget, Ceiling, Deadlines, JournalSettings, Limits
from .reading import as_object, base64_bytes, code_of, decoded, excerpt, json_object, json_value
from .redaction import Secret, hide_address, pack_logger, redact, redact_data, shortened, words_of
from .task import Accepted, CallHandle, PollError, Progress, Stage, SubTask, TaskRef, UnknownTaskError, Usual
from .text import SETTINGS_DIALOG, Text
from .threads import DaemonPool, Process, is_dead, made_once, on_codec_pool, this_process
