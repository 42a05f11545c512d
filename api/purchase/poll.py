"""Polls a task until it has ended: when to ask, deadlines, cancellation, progress. A failed poll never ends a task."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core import CallHandle, Deadlines, PollError, Progress, Stage, SubTask, TaskRef, TaskTimeoutError, Text, Usual

# The first poll comes after so many seconds at most, however long such tasks usually take: this one may be quicker, and
# a display without news looks dead.
_LONGEST_FIRST_PAUSE = 15.0
# Between these shares of its usual time a task is likely to end: there it is polled every _CLOSELY seconds.
_SOONEST, _LATEST = 0.85, 1.3
_CLOSELY = 0.5
_SECOND = 1.0
# Mean seconds between the end of a task and the poll that finds it, when it is polled closely.
_NOTICED_AFTER = _CLOSELY / 2
# Seconds to go on asking for a task that is "done" without a picture: its URL may come a little later.
_EMPTY_FOR = 30.0


def next_pause(waited: float, failures: int, closely: tuple[float, float] = (math.inf, math.inf)) -> float:
    """Seconds from one poll to the next, before jitter: 0.5 at first, up to 5 for long tasks, up to 8 after errors.

    Args:
        waited: seconds since the wait began.
        failures: polls in a row that have failed.
        closely: from when and until when, in seconds of waiting, such a task is likely to end.
    """
    if failures:
        return min(8.0, 0.5 * 2.0 ** min(failures, 6))
    begins, ends = closely
    if begins <= waited <= ends:
        return _CLOSELY
    pause = 0.5 if waited < 0.5 else 1.0 if waited < 30 else 2.0 if waited < 120 else 5.0
    return min(pause, max(_CLOSELY, begins - waited)) if waited < begins else pause


def jittered(seconds: float, spread: Callable[[], float] = random.random) -> float:
    """``seconds`` ± 10 %, so that many waiting calls do not ask in step."""
    return seconds * (0.9 + 0.2 * spread())


def poll_until_done(
    task: TaskRef,
    query: Callable[[], Sequence[SubTask]],
    deadlines: Deadlines,
    handle: CallHandle,
    usual: Usual | None = None,
    age: float = 0.0,
) -> tuple[SubTask, ...]:
    """Ask until every sub task has ended; returns them in the order of ``task.sub_task_ids``.

    When the :class:`Schedule` is over, the finished ones are returned and each missing one carries a TaskTimeoutError.

    Args:
        query: one poll: the states of all sub tasks. A PollError is counted, and the task is asked for again; any other
            exception ends the wait.
        usual: the seconds that such tasks take, if known: the first poll comes a little before that.
        age: seconds since the task was submitted.

    Raises:
        TaskTimeoutError: a deadline passed and no sub task had ended, or their number is not certain.
        CallCancelled: cancelled.
    """
    schedule, found = Schedule(deadlines, usual, age), _Found(task)
    problem: Text | None = None
    while True:
        handle.cancel.sleep(schedule.pause())
        asked = time.monotonic()
        try:
            found.take(query())
            problem = None
        except PollError as failure:
            problem = failure.said
        schedule.note(asked, found, failed=problem is not None)
        if found.is_complete:
            return found.sub_tasks
        if schedule.is_over:
            return found.at_deadline(schedule.waited, problem)
        expected = usual.median if usual else None
        fraction = _fraction(found.sub_tasks)
        handle.report(Progress(schedule.stage, fraction, task.task_id, expected, len(task.sub_task_ids)))


class Schedule:
    """When a task is polled next, and until when.

    The queue deadline counts until the service starts, the run deadline from then on. A task whose sub tasks are done
    without a picture is polled for 30 s more. There are never three polls within a second.

    Args:
        usual, age: as for :func:`poll_until_done`.
    """

    def __init__(self, deadlines: Deadlines, usual: Usual | None, age: float) -> None:
        self._begun = self._counts_from = self._not_before = time.monotonic()
        self._closely = (math.inf, math.inf)
        if usual:
            # The recorded seconds include the time until a poll found the end.
            shortest, median = (max(0.0, seconds - _NOTICED_AFTER) for seconds in (usual.shortest, usual.median))
            self._not_before += min(_SOONEST * shortest - age, _LONGEST_FIRST_PAUSE)
            self._closely = (_SOONEST * median - age, _LATEST * median - age)
        self._run_deadline = deadlines.run
        self._deadline = self._begun + deadlines.queue
        self._empty_since = math.inf
        self._failures = 0
        self._last_two_ends: deque[float] = deque(maxlen=2)
        self.stage: Stage = "queued"

    @property
    def waited(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._begun

    def pause(self) -> float:
        """Seconds from now to the next poll."""
        now = time.monotonic()
        due = self._counts_from + jittered(next_pause(now - self._begun, self._failures, self._closely))
        # Never three polls within a second: the next one waits until a second after the end of the last but one.
        two_ago = self._last_two_ends[0] if len(self._last_two_ends) == 2 else -math.inf
        return min(max(now, due, self._not_before, two_ago + _SECOND), self._deadline) - now

    def note(self, asked: float, found: _Found, *, failed: bool) -> None:
        """Note a poll that began at ``asked`` and has just ended, and what is found by now."""
        now = time.monotonic()
        self._last_two_ends.append(now)
        self._failures = self._failures + 1 if failed else 0
        self._counts_from = now if failed else asked
        if self.stage == "queued" and any(sub_task.started for sub_task in found.sub_tasks):
            self.stage, self._deadline = "running", now + self._run_deadline
        self._empty_since = min(self._empty_since, now) if found.is_empty else math.inf

    @property
    def is_over(self) -> bool:
        """Whether a deadline has passed."""
        return time.monotonic() >= min(self._deadline, self._empty_since + _EMPTY_FOR)


class _Found:
    """What the polls of a task have found so far: ``sub_tasks`` in the order of ``task.sub_task_ids``."""

    def __init__(self, task: TaskRef) -> None:
        self._task = task
        self.sub_tasks: tuple[SubTask, ...] = ()
        self.is_complete = False
        """Whether all sub tasks are listed and have ended."""
        self._ended_before = 0

    def take(self, answer: Sequence[SubTask]) -> None:
        """Take what one poll has brought."""
        states = _in_order(answer, self._task.sub_task_ids)
        ended = _ended(states)
        if ended < _ended(self.sub_tasks):
            # A sub task that has ended stays ended: an answer that says otherwise is ignored, and confirms no number.
            return
        self.sub_tasks = states
        all_ended = self._is_listed and ended == len(self.sub_tasks)
        # If the submit's answer did not list the sub tasks, their number is not known: it is taken as final when two
        # polls find the same number, all ended. A poll between them that finds fewer ended ones is ignored.
        announced = bool(self._task.sub_task_ids) or not any(sub_task.sub_task_id for sub_task in self.sub_tasks)
        self.is_complete = all_ended and (announced or ended == self._ended_before)
        self._ended_before = ended if all_ended else 0

    @property
    def _is_listed(self) -> bool:
        """Whether the service lists sub tasks, and no fewer than were announced."""
        listed = sum(not sub_task.is_further for sub_task in self.sub_tasks)
        return bool(self.sub_tasks) and listed >= len(self._task.sub_task_ids)

    @property
    def is_empty(self) -> bool:
        """Whether what is missing is said to be done, without a picture."""
        missing = [sub_task for sub_task in self.sub_tasks if not sub_task.ended]
        return self._is_listed and bool(missing) and all(sub_task.empty for sub_task in missing)

    def at_deadline(self, waited: float, problem: Text | None) -> tuple[SubTask, ...]:
        """The ended sub tasks, and a TaskTimeoutError in each of the others.

        Args:
            waited: seconds, for the message.
            problem: why the last poll failed, if it did.

        Raises:
            TaskTimeoutError: none has ended; or all known ones have, but their number was not announced nor confirmed.
        """
        task, ended = self._task, _ended(self.sub_tasks)
        error = _not_ended_error(task, self.sub_tasks, waited, problem)
        if not ended or (not task.sub_task_ids and ended == len(self.sub_tasks)):
            raise error
        listed = {sub_task.sub_task_id: sub_task for sub_task in self.sub_tasks}
        # Announced sub tasks keep their position, also if the service did not list them: the journal stores pictures by
        # it.
        awaited = [listed.pop(sub_task_id, SubTask(sub_task_id)) for sub_task_id in task.sub_task_ids]
        others = [sub_task for sub_task in self.sub_tasks if sub_task.sub_task_id in listed]
        ordered = _in_order([*awaited, *others], task.sub_task_ids)
        return tuple(sub_task if sub_task.ended else replace(sub_task, error=error) for sub_task in ordered)


def _ended(sub_tasks: Sequence[SubTask]) -> int:
    """How many sub tasks have ended."""
    return sum(sub_task.ended for sub_task in sub_tasks)


def _in_order(sub_tasks: Sequence[SubTask], ids: Sequence[str]) -> tuple[SubTask, ...]:
    """The sub tasks in the order of ``ids``, others last; a further picture (``ID#n``) comes with its sub task."""
    rank = {sub_task_id: index for index, sub_task_id in enumerate(ids)}

    def place(sub_task: SubTask) -> int:
        own = sub_task.sub_task_id
        return rank.get(own.rpartition("#")[0] if sub_task.is_further else own, len(rank))

    return tuple(sorted(sub_tasks, key=place))


def _fraction(sub_tasks: Sequence[SubTask]) -> float | None:
    """The mean completion (0-1) of the sub tasks; ``None`` if none has any, else those without count as 0."""
    shares = [1.0 if sub_task.ended else sub_task.completion for sub_task in sub_tasks]
    given = [share for share in shares if share is not None]
    return sum(given) / len(shares) if given else None


def _not_ended_error(task: TaskRef, known: Sequence[SubTask], waited: float, problem: Text | None) -> TaskTimeoutError:
    """The error for a task that has not ended in time; the arguments are as for :meth:`_Found.at_deadline`."""
    missing = [sub_task for sub_task in known if not sub_task.ended]
    if missing and all(sub_task.empty for sub_task in missing):
        what = Text(
            "The service says that the task is done, and gives no picture.", "服务端表示任务已完成，但没有给出图片。"
        )
    else:
        last_en = f" Last problem: {problem.en.rstrip('.')}." if problem is not None else ""
        last_zh = f"最近一次问题：{problem.zh.rstrip('。')}。" if problem is not None else ""
        what = Text(
            f"The task did not end within {waited:.0f} s.{last_en}", f"任务在 {waited:.0f} 秒内未结束。{last_zh}"
        )
    return TaskTimeoutError(
        what,
        vendor_message=next(filter(None, (sub_task.empty or sub_task.said for sub_task in missing)), ""),
        provider=task.provider,
        task_id=task.task_id,
        request_id=task.request_id,
    )
