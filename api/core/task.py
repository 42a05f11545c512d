"""A task at a service, and what is told of it while it is waited for: plain values that every package uses."""

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

    ``fraction`` (0–1) is the service's own figure, ``None`` when it gives none; ``expected`` is what such a call
    usually takes from its submit on, in seconds, ``None`` when that is not known yet; ``pictures`` is how many its task
    makes, 0 when nobody said; ``picture`` is one that has just come.
    """

    stage: Stage
    fraction: float | None = None
    task_id: str = ""
    expected: float | None = None
    pictures: int = 0
    picture: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class CallHandle:
    """How the outside follows and stops one call."""

    cancel: CancelToken
    report: Callable[[Progress], None]


@dataclass(frozen=True)
class TaskRef:
    """An accepted task: what is needed to ask for it again, at any time."""

    provider: Provider
    endpoint: str
    task_id: str
    request_id: str = ""
    sub_task_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubTask:
    """One picture of a task: waiting, finished (a URL in ``image``, or ``base64``) or failed (``error``).

    ``empty`` is what the service said if that was "done", without a picture; ``said`` what it said of a state that this
    pack does not know. ``is_further``: another picture of a sub task that is listed already.
    """

    sub_task_id: str
    started: bool = False
    completion: float | None = None
    image: str = field(default="", repr=False)
    base64: str = field(default="", repr=False)
    error: RemoteImageError | None = None
    # False for an error that a later poll may take back.
    final: bool = True
    empty: str = ""
    said: str = ""
    is_further: bool = False

    @property
    def ended(self) -> bool:
        return bool(self.image or self.base64) or self.error is not None


@dataclass(frozen=True)
class Usual:
    """What the last such tasks took from submit to end, in seconds."""

    shortest: float
    median: float


@dataclass(frozen=True)
class Accepted:
    """A submit that was taken: a task to ask for, or (a synchronous service) its picture already.

    ``note``: what the answer said that does not fit to that.
    """

    task: TaskRef
    picture: SubTask | None = None
    note: Text | None = None


class PollError(Exception):
    """One poll brought no state of the task; it says nothing about the task itself.

    Args:
        said: what came instead; the service's own words are the same in both languages.
    """

    def __init__(self, said: Text | str) -> None:
        self.said = said if isinstance(said, Text) else Text(said, said)
        super().__init__(self.said.en)


class UnknownTaskError(PollError):
    """The service answered that it has no such task.

    ``certain``: in an answer about it, HTTP 200 with JSON; a 404 or a page may come from a wrong address.
    """

    def __init__(self, said: str, *, certain: bool = True) -> None:
        super().__init__(said)
        self.certain = certain
