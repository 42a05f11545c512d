"""Plain values about one task at a service: how it is named, how far it is, and what a poll found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .cancel import CancelToken
from .errors import Provider, RemoteImageError
from .text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Stage = Literal["preparing", "waiting", "submitting", "queued", "running", "downloading", "done"]


@dataclass(frozen=True)
class Progress:
    """What a call is doing.

    ``fraction`` (0–1) is the service's own figure, ``None`` when it gives none; ``expected`` is how many seconds such a
    call usually takes from its submit to its end, ``None`` when that is not known yet; ``pictures`` is how many its
    task makes, 0 when that is not known; ``picture`` is one of them that has just arrived.
    """

    stage: Stage
    fraction: float | None = None
    task_id: str = ""
    expected: float | None = None
    pictures: int = 0
    picture: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class CallHandle:
    """How the caller of one call follows it (``report`` gets its progress) and ends it (``cancel``)."""

    cancel: CancelToken
    report: Callable[[Progress], None]


@dataclass(frozen=True)
class TaskRef:
    """An accepted task: everything that is needed to ask the service for it again, at any time.

    ``options``: what is asked of each result, a JSON object as in :class:`Account`, from the time of the submit.
    """

    provider: Provider
    endpoint: str
    task_id: str
    request_id: str = ""
    sub_task_ids: tuple[str, ...] = ()
    options: str = field(default="", repr=False)


@dataclass(frozen=True)
class SubTask:
    """One picture of a task: waiting, finished (a URL in ``image``, or ``base64``) or failed (``error``).

    ``completion`` (0–1) is the service's own figure. ``empty``: its words where it said "done" without a picture.
    ``said``: its words where it gave neither a picture nor a state that means "not ended yet". ``is_further``: a second
    or later picture of one sub task, whose id ends in ``#2`` and so on.
    """

    sub_task_id: str
    started: bool = False
    completion: float | None = None
    image: str = field(default="", repr=False)
    base64: str = field(default="", repr=False)
    error: RemoteImageError | None = None
    # False for an `error` that a later poll may replace by a picture.
    final: bool = True
    empty: str = ""
    said: str = ""
    is_further: bool = False

    @property
    def ended(self) -> bool:
        return bool(self.image or self.base64) or self.error is not None


@dataclass(frozen=True)
class Usual:
    """How long the last tasks of the same endpoint took from submit to end, in seconds."""

    shortest: float
    median: float


@dataclass(frozen=True)
class Accepted:
    """A submit that the service accepted: a task to ask for, or (a synchronous service) its picture already.

    ``note``: what the same answer said that contradicts this, e.g. an error code; it is shown with the picture.
    """

    task: TaskRef
    picture: SubTask | None = None
    note: Text | None = None


class PollError(Exception):
    """One poll brought no state of the task. That says nothing about the task itself: it is asked for again.

    Args:
        said: what came instead. A ``str``, the service's own words, is used for both languages.
    """

    def __init__(self, said: Text | str) -> None:
        self.said = said if isinstance(said, Text) else Text(said, said)
        super().__init__(self.said.en)


class UnknownTaskError(PollError):
    """The service answered that it has no such task.

    ``certain``: it said so in an HTTP 200 with JSON; a 404 or a page may come from a wrong address instead.
    """

    def __init__(self, said: str, *, certain: bool = True) -> None:
        super().__init__(said)
        self.certain = certain
