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

    The queue deadline counts until the service starts, the run deadline from then on. When one passes, or sub tasks are
    done without a picture for 30 s, the finished ones are returned and each missing one carries a TaskTimeoutError.

    Args:
        query: one poll: the states of all sub tasks. A PollError is counted, and the task is asked for again; any other
            exception ends the wait.
        usual: the seconds that such tasks take, if known: the first poll comes a little before that.
        age: seconds since the task was submitted.

    Raises:
        TaskTimeoutError: a deadline passed and no sub task had ended, or their number is not certain.
        CallCancelled: cancelled.
    """
    begun = time.monotonic()
    first_pause, closely = _timetable(usual, age) if usual else (0.0, (math.inf, math.inf))
    deadline = begun + deadlines.queue
    running = False
    failures = 0
    answered_in = 0.0
    last_two: deque[float] = deque(maxlen=2)
    last_problem: Text | None = None
    known: tuple[SubTask, ...] = ()
    ended_before = 0
    empty_since = math.inf
    while True:
        waited = time.monotonic() - begun
        pause = max(first_pause, jittered(next_pause(waited, failures, closely)) - answered_in)
        if len(last_two) == 2:
            # No three polls within a second, however little time each takes: count from the end of the one before the
            # last.
            pause = max(pause, last_two[0] + _SECOND - time.monotonic())
        first_pause = answered_in = 0.0
        handle.cancel.sleep(min(pause, deadline - time.monotonic()))
        asked = time.monotonic()
        try:
            states = _in_order(query(), task.sub_task_ids)
            # Ignore a poll in which fewer sub tasks have ended than before: a finished picture stays finished.
            known = states if _ended(states) >= _ended(known) else known
            failures, last_problem = 0, None
            answered_in = time.monotonic() - asked
        except PollError as problem:
            failures, last_problem = failures + 1, problem.said
        last_two.append(time.monotonic())
        listed = bool(known) and sum(not sub_task.is_further for sub_task in known) >= len(task.sub_task_ids)
        all_ended = listed and all(sub_task.ended for sub_task in known)
        # If the submit's answer did not list the sub tasks, their number is not known: it is taken as final when two
        # polls in a row find the same number, all ended. A poll that failed has found nothing.
        announced = bool(task.sub_task_ids) or not any(sub_task.sub_task_id for sub_task in known)
        if all_ended and (announced or (not failures and len(known) == ended_before)):
            return known
        ended_before = len(known) if all_ended else 0
        if not running and any(sub_task.started for sub_task in known):
            running = True
            deadline = time.monotonic() + deadlines.run
        only_empty = listed and not all_ended and all(sub_task.ended or sub_task.empty for sub_task in known)
        empty_since = min(empty_since, time.monotonic()) if only_empty else math.inf
        if time.monotonic() >= min(deadline, empty_since + _EMPTY_FOR):
            return _at_deadline(task, known, time.monotonic() - begun, last_problem)
        stage: Stage = "running" if running else "queued"
        expected = usual.median if usual else None
        handle.report(Progress(stage, _fraction(known), task.task_id, expected, len(task.sub_task_ids)))


def _timetable(usual: Usual, age: float) -> tuple[float, tuple[float, float]]:
    """Seconds from now to the first poll, and (begin, end) of the close polls in seconds from now.

    ``age``: seconds since the task was submitted, by which all of them come sooner.
    """
    # The recorded seconds include the time until a poll found the end.
    shortest, median = (max(0.0, seconds - _NOTICED_AFTER) for seconds in (usual.shortest, usual.median))
    first = min(_SOONEST * shortest - age, _LONGEST_FIRST_PAUSE)
    return first, (_SOONEST * median - age, _LATEST * median - age)


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


def _at_deadline(task: TaskRef, known: tuple[SubTask, ...], waited: float, problem: Text | None) -> tuple[SubTask, ...]:
    """What is returned when the time is over: the ended sub tasks, and a TaskTimeoutError in each of the others.

    Args:
        waited: seconds, for the message.
        problem: why the last poll failed, if it did.

    Raises:
        TaskTimeoutError: none has ended; or all known ones have, but their number was not announced nor confirmed.
    """
    missing = [sub_task for sub_task in known if not sub_task.ended]
    said = next((sub_task.empty or sub_task.said for sub_task in missing if sub_task.empty or sub_task.said), "")
    last_en = f" Last problem: {problem.en.rstrip('.')}." if problem is not None else ""
    last_zh = f"最近一次问题：{problem.zh.rstrip('。')}。" if problem is not None else ""
    what = Text(
        f"The task did not end within {waited:.0f} s.{last_en}", f"任务在 {waited:.0f} 秒内未结束。{last_zh}"
    )
    if missing and all(sub_task.empty for sub_task in missing):
        what = Text(
            "The service says that the task is done, and gives no picture.", "服务端表示任务已完成，但没有给出图片。"
        )
    error = TaskTimeoutError(
        what,
        vendor_message=said,
        provider=task.provider,
        task_id=task.task_id,
        request_id=task.request_id,
    )
    unconfirmed = not task.sub_task_ids and all(sub_task.ended for sub_task in known)
    if unconfirmed or not any(sub_task.ended for sub_task in known):
        raise error
    listed = {sub_task.sub_task_id: sub_task for sub_task in known}
    # Announced sub tasks keep their position, also if the service did not list them: the journal stores pictures by it.
    awaited = [listed.pop(sub_task_id, SubTask(sub_task_id)) for sub_task_id in task.sub_task_ids]
    others = [sub_task for sub_task in known if sub_task.sub_task_id in listed]
    ordered = _in_order([*awaited, *others], task.sub_task_ids)
    return tuple(sub_task if sub_task.ended else replace(sub_task, error=error) for sub_task in ordered)
