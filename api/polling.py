"""Blocking wait for a remote task: deadlines, cancellation, progress. Its own errors never end a task."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .cancel import CancelToken
from .errors import Provider, RemoteImageError, TaskTimeoutError
from .text import Text
from .transport import Deadlines

Stage = Literal["preparing", "waiting", "submitting", "queued", "running", "downloading", "done"]


@dataclass(frozen=True)
class Progress:
    """What a call is doing.

    ``fraction`` (0–1) is the service's own figure, ``None`` when it gives none; ``expected`` is what such a call
    usually takes from its submit on, in seconds, ``None`` when that is not known yet.
    """

    stage: Stage
    fraction: float | None = None
    task_id: str = ""
    expected: float | None = None


@dataclass(frozen=True)
class Watch:
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
    """One picture of a task: waiting, finished (a URL in ``image``, or ``base64``) or failed (``error``)."""

    sub_task_id: str
    started: bool = False
    completion: float | None = None
    image: str = field(default="", repr=False)
    base64: str = field(default="", repr=False)
    error: RemoteImageError | None = None
    # False for an error that a later poll may take back.
    final: bool = True

    @property
    def ended(self) -> bool:
        return bool(self.image or self.base64) or self.error is not None


# However long such tasks usually take: this one may be quicker, and a display that stands still looks dead.
_LONGEST_FIRST_PAUSE = 15.0


@dataclass(frozen=True)
class Accepted:
    """A submit that was taken: a task to ask for, or (a synchronous service) its picture already."""

    task: TaskRef
    picture: SubTask | None = None


class PollError(Exception):
    """One poll brought no state of the task; it says nothing about the task itself."""


class UnknownTaskError(PollError):
    """The service answered that it has no such task."""


def next_pause(waited: float, failures: int) -> float:
    """Seconds until the next poll, before jitter: brisk at first, calmer for long tasks, backing off on errors."""
    if failures:
        return min(8.0, 0.5 * 2.0 ** min(failures, 6))
    if waited < 0.5:
        return 0.5
    if waited < 30:
        return 1.0
    return 2.0 if waited < 120 else 5.0


def jittered(seconds: float, spread: Callable[[], float] = random.random) -> float:
    """``seconds`` ± 10 %, so that many waiting calls do not ask in step."""
    return seconds * (0.9 + 0.2 * spread())


def wait(
    task: TaskRef,
    query: Callable[[], Sequence[SubTask]],
    deadlines: Deadlines,
    watch: Watch,
    expected: float | None = None,
    age: float = 0.0,
) -> tuple[SubTask, ...]:
    """Ask until every sub task has ended, and return them in the service's order.

    The queue deadline counts until the service starts, the run deadline from then on. When one passes, the finished sub
    tasks are returned and each missing one carries a TaskTimeoutError.

    Args:
        expected: seconds that such a task usually takes, if known: nobody asks long before that.
        age: seconds since its submit.

    Raises:
        TaskTimeoutError: a deadline passed and nothing at all had ended.
        CallCancelled: cancelled.
    """
    begun = time.monotonic()
    first_pause = min(0.7 * expected - age, _LONGEST_FIRST_PAUSE) if expected else 0.0
    deadline = begun + deadlines.queue
    running = False
    failures = 0
    last_problem = ""
    known: tuple[SubTask, ...] = ()
    ended_before = 0
    while True:
        pause = max(first_pause, jittered(next_pause(time.monotonic() - begun, failures)))
        first_pause = 0.0
        watch.cancel.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        try:
            told = _in_order(query(), task.sub_task_ids)
            # A poll that tells less than an earlier one does not make a finished picture unfinished.
            known = told if _ended(told) >= _ended(known) else known
            failures, last_problem = 0, ""
        except PollError as problem:
            failures, last_problem = failures + 1, str(problem)
        all_ended = bool(known) and len(known) >= len(task.sub_task_ids) and all(sub_task.ended for sub_task in known)
        # Sub tasks that were not announced: nobody knows how many there will be, so a second look must find as many.
        announced = bool(task.sub_task_ids) or not any(sub_task.sub_task_id for sub_task in known)
        if all_ended and (announced or len(known) == ended_before):
            return known
        ended_before = len(known) if all_ended else 0
        if not running and any(sub_task.started for sub_task in known):
            running = True
            deadline = time.monotonic() + deadlines.run
        if time.monotonic() >= deadline:
            return _at_deadline(task, known, time.monotonic() - begun, last_problem)
        watch.report(Progress("running" if running else "queued", _fraction(known), task.task_id, expected))


def _ended(sub_tasks: Sequence[SubTask]) -> int:
    return sum(sub_task.ended for sub_task in sub_tasks)


def _in_order(sub_tasks: Sequence[SubTask], ids: Sequence[str]) -> tuple[SubTask, ...]:
    rank = {sub_task_id: index for index, sub_task_id in enumerate(ids)}
    return tuple(sorted(sub_tasks, key=lambda sub_task: rank.get(sub_task.sub_task_id, len(rank))))


def _fraction(sub_tasks: Sequence[SubTask]) -> float | None:
    shares = [1.0 if sub_task.ended else sub_task.completion for sub_task in sub_tasks]
    told = [share for share in shares if share is not None]
    return sum(told) / len(shares) if told else None


def _at_deadline(task: TaskRef, known: tuple[SubTask, ...], waited: float, problem: str) -> tuple[SubTask, ...]:
    error = TaskTimeoutError(
        Text(
            f"The task did not end within {waited:.0f} s." + (f" Last problem: {problem}." if problem else ""),
            f"任务在 {waited:.0f} 秒内未结束。" + (f"最近一次问题：{problem}。" if problem else ""),
        ),
        provider=task.provider,
        task_id=task.task_id,
        request_id=task.request_id,
    )
    unconfirmed = not task.sub_task_ids and all(sub_task.ended for sub_task in known)
    if unconfirmed or not any(sub_task.ended for sub_task in known):
        raise error
    listed = {sub_task.sub_task_id: sub_task for sub_task in known}
    # Each at its own place: the next look continues from there.
    awaited = [listed.pop(sub_task_id, SubTask(sub_task_id)) for sub_task_id in task.sub_task_ids]
    others = [sub_task for sub_task in known if sub_task.sub_task_id in listed]
    return tuple(sub_task if sub_task.ended else replace(sub_task, error=error) for sub_task in [*awaited, *others])
