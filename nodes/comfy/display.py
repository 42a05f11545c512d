"""Progress of a waiting node: worker threads report, and the node's coroutine draws the bar, the text and an event.

ComfyUI maps a list input to several ``execute`` calls of one node, which run at the same time: they share one display.

The event ``hidream_volcengine.progress`` goes to the page that queued the prompt: on each change of the stage, else at
most four times a second, and at least once a second while ComfyUI's loop is not busy with a local node. Its fields:

    prompt_id, node, display_node   as in ComfyUI's own events
    workflow        id of the workflow that was queued, "" if it is not known
    stage           {"en", "zh"}
    end             "" while it goes on, "done", or "stopped" by an interrupt, by a sibling's error or in the task list
    elapsed         seconds
    expected        seconds that one such call usually takes, null if not known
    done, total     pictures that came, and that are expected; total is null if not known
    failed          pictures that will not come
    buys            pictures that this run buys
    resumes         tasks of an earlier run that it goes on with
    reused          pictures that were there already
    parked          calls that ended here while their tasks go on at the service
    share           how much of the work is done, 0-1; null if not known
    estimate        whether ``share`` is calculated from the seconds that such calls usually take
    previews, more  parameters for /view of the first pictures; how many further pictures came

After an interrupt, when the journal knows what became of the calls, one more event has ``end`` "left" and

    left            {"accepted", "sending", "unclear", "failed", "unsent"}, a number of calls each
                    (``api.AbandonedCalls``)
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ... import api
from ...api import TaskTimeoutError, Text

PreviewFile = dict[str, Any]

# Seconds.
_LOOK_EVERY = 0.04
_DRAW_EVERY = 0.25
_REPEAT_EVERY = 1.0
_MOST_PREVIEWS = 16
# The largest fraction of a call whose picture has not come yet.
_NEARLY = 0.95

_STAGES = {
    "preparing": Text("preparing", "准备中"),
    "waiting": Text("waiting for a free place", "等待空闲名额"),
    "submitting": Text("submitting", "提交中"),
    "queued": Text("queued", "排队中"),
    "running": Text("running", "生成中"),
    "downloading": Text("downloading", "下载中"),
}
_DONE, _FAILED, _STOPPED = Text("done", "完成"), Text("failed", "失败"), Text("stopped", "已停止")
_AT_THE_SERVICE = {"running", "downloading"}


class UiSink(Protocol):
    """Where a node's progress is shown. No method raises or blocks."""

    def bar(self, value: float, total: float) -> None:
        """Set ComfyUI's progress bar of the node."""
        ...

    def text(self, words: str) -> None:
        """Set ComfyUI's progress text of the node."""
        ...

    def watched(self) -> bool:
        """Whether the page that queued the prompt is connected."""
        ...

    def tell(self, state: dict[str, Any]) -> None:
        """Send the event ``hidream_volcengine.progress`` with these fields to that page."""
        ...

    def preview(self, picture: api.tensors.Pixels, there: Callable[[PreviewFile], None]) -> None:
        """Have a small JPEG of a picture written in another thread, which then calls ``there`` with its name."""
        ...


@dataclass(frozen=True)
class ExpectedWork:
    """What one ``execute`` call of a node is about to do.

    Args:
        pictures: for each of its calls, how many pictures it expects; 0 if that is not known.
        plan: how many pictures are bought and how many calls resumed; ``None`` for a fetch, which buys nothing.
    """

    pictures: Sequence[int]
    plan: api.Plan | None = None


class NodeDisplay:
    """The display of one node in one run of a workflow.

    ComfyUI's event loop calls its methods, except :meth:`leave`. Its lock protects the calls from their worker threads.
    """

    def __init__(self, ui: UiSink, clock: Callable[[], float] = time.monotonic) -> None:
        self._ui = ui
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._begun_at = clock()
        self._buys = self._resumes = 0
        self._changed = True
        self._last_look = self._last_drawn = float("-inf")
        self._last_drawn_stage: Text | None = None
        self._previews: list[PreviewFile] = []
        self._previews_asked = 0
        self._abandoned: Counter[str] = Counter()

    def begin(self, expected_work: ExpectedWork) -> list[Call]:
        """Add an ``execute`` call of the node; returns a :class:`Call` for each of its jobs, in order."""
        calls = [Call(self._lock, self._mark_changed, pictures, self._clock) for pictures in expected_work.pictures]
        with self._lock:
            self._calls += calls
            if expected_work.plan is not None:
                self._buys += expected_work.plan.buy
                self._resumes += expected_work.plan.resume
            self._changed = True
        return calls

    def refresh(self, *, at_once: bool = False, run_is_over: bool = False) -> None:
        """Draw the bar and the text and send the event, if anything changed and it is time for it.

        Args:
            at_once: draw a change now, whenever the last one was drawn.
            run_is_over: send the event only. ComfyUI would show a node as running if it got a bar or text after the
                end of the run.
        """
        now = self._clock()
        # Every coroutine of a mapped list calls this, up to a thousand of them; most calls return here.
        if not at_once and now - self._last_look < _LOOK_EVERY:
            return
        self._last_look = now
        with self._lock:
            stage, ended = self._stage(), all(call.ended for call in self._calls)
            is_due = self._changed and (
                at_once or now - self._last_drawn >= _DRAW_EVERY or stage != self._last_drawn_stage
            )
            if not is_due and (ended or now - self._last_drawn < _REPEAT_EVERY):
                return
            self._changed, self._last_drawn, self._last_drawn_stage = False, now, stage
            fresh = [picture for call in self._calls for picture in call.take_fresh()]
            value = sum(call.fraction(now) or 0.0 for call in self._calls)
            progress_text = self._progress_text(stage, now)
            state = self._state(stage, ended, now)
        if not run_is_over:
            self._ui.bar(value, float(len(self._calls)))
            self._ui.text(progress_text)
        if self._ui.watched():
            self._ui.tell(state)
            if not ended:
                self._ask_for_previews(fresh)

    def stop(self, calls: Sequence[Call]) -> None:
        """End these calls as stopped; reports of their workers are ignored from now on."""
        if not calls:
            return
        with self._lock:
            for call in calls:
                call.stop()
            self._changed = True
            all_ended = all(call.ended for call in self._calls)
        if all_ended:
            self.refresh(at_once=True, run_is_over=True)

    def leave(self, abandoned: api.AbandonedCalls) -> None:
        """Send the event with ``end`` "left". From any thread, after an interrupt ended the run.

        The counts of several ``execute`` calls of the node are added up.
        """
        with self._lock:
            for name, count in asdict(abandoned).items():
                self._abandoned[name] += count
            state = {"end": "left", "left": dict(self._abandoned)}
        if self._ui.watched():
            self._ui.tell(state)

    def _mark_changed(self) -> None:
        self._changed = True

    def _ask_for_previews(self, pictures: Sequence[api.tensors.Pixels]) -> None:
        wanted = pictures[: _MOST_PREVIEWS - self._previews_asked]
        self._previews_asked += len(wanted)
        for picture in wanted:
            self._ui.preview(picture, self._add_preview)

    def _add_preview(self, file: PreviewFile) -> None:
        with self._lock:
            self._previews.append(file)
            self._changed = True

    def _stage(self) -> Text:
        """The most advanced stage of the calls that go on; once all have ended: stopped, failed or done."""
        under_way = {call.stage for call in self._calls if not call.ended}
        for name in reversed(_STAGES):
            if name in under_way:
                return _STAGES[name]
        if any(call.stopped for call in self._calls):
            return _STOPPED
        return _FAILED if any(not call.good for call in self._calls) else _DONE

    def _progress_text(self, stage: Text, now: float) -> str:
        done = sum(call.good for call in self._calls)
        buying = f" · buys {self._buys} 购买 {self._buys} 张" if self._buys else ""
        return f"{done}/{len(self._calls)} · {stage.en} {stage.zh} · {now - self._begun_at:.0f} s{buying}"

    def _state(self, stage: Text, ended: bool, now: float) -> dict[str, Any]:
        calls = self._calls
        open_calls = [call for call in calls if not call.ended]
        stopped = any(call.stopped for call in calls)
        shares = [call.fraction(now) for call in calls]
        known = [share for share in shares if share is not None]
        done = sum(call.came for call in calls)
        return {
            "stage": {"en": stage.en, "zh": stage.zh},
            "end": ("stopped" if stopped else "done") if ended else "",
            "elapsed": round(now - self._begun_at, 1),
            "expected": max((call.expected for call in open_calls if call.expected), default=None),
            "done": done,
            "total": sum(call.pictures for call in calls) if all(call.pictures for call in calls) else None,
            "failed": sum(call.failed for call in calls),
            "buys": self._buys,
            "resumes": self._resumes,
            "reused": sum(call.reused for call in calls),
            "parked": sum(call.parked for call in calls),
            "share": round(sum(known) / len(calls), 4) if known else None,
            "estimate": any(call.estimated(now) for call in open_calls),
            "previews": list(self._previews),
            "more": max(0, done - _MOST_PREVIEWS),
        }


class Call:
    """What is shown of one call.

    The worker thread calls :meth:`report` and :meth:`end`, which take the display's lock. The display calls all other
    methods with that lock held.

    Args:
        lock, mark_changed, clock: of the display. ``mark_changed`` is called with the lock held.
        pictures: how many the call expects; 0 if that is not known.
    """

    def __init__(
        self, lock: threading.Lock, mark_changed: Callable[[], None], pictures: int, clock: Callable[[], float]
    ) -> None:
        self._lock = lock
        self._mark_changed = mark_changed
        self._clock = clock
        self.stage = "queued"
        self.pictures = pictures
        self.came = self.failed = self.reused = 0
        self.expected: float | None = None
        self.ended = self.stopped = self.good = self.parked = False
        self._sent = False
        self._reported_fraction = 0.0
        self._running_since: float | None = None
        self._fresh: list[api.tensors.Pixels] = []

    def report(self, progress: api.Progress) -> None:
        """Take over what the call is doing; called by the worker. Ignored once the call has ended."""
        with self._lock:
            if self.ended:
                return
            self._mark_changed()
            # Not "done" yet: end() gets the result, which also says how many pictures failed.
            self.stage = progress.stage if progress.stage != "done" else "downloading"
            self._reported_fraction = progress.fraction or self._reported_fraction
            self._sent = self._sent or bool(progress.task_id)
            self.pictures = max(self.pictures, progress.pictures)
            if progress.expected is not None:
                self.expected = progress.expected
                if self._running_since is None:
                    self._running_since = self._clock()
            if progress.picture is not None:
                self._add_pictures([progress.picture])

    def end(self, result: object) -> None:
        """Take over the result of the job; called by the worker.

        Args:
            result: ``api.Result`` of a paid call, ``api.Delivery`` of a fetch, or ``None`` if the job raised.
        """
        delivery = result.delivery if isinstance(result, api.Result) else result
        error = result.error if isinstance(result, api.Result) else None
        with self._lock:
            if self.ended:
                return
            self._mark_changed()
            self.ended = True
            if isinstance(error, TaskTimeoutError):
                # Stopped in the task list, or over its deadline. Unless nothing was billed, the task goes on.
                self.stopped, self.parked = True, error.billed != "no"
            elif isinstance(delivery, api.Delivery):
                # Pictures from the store were not reported one by one.
                self._add_pictures(delivery.pictures[self.came :])
                self.failed = len(delivery.errors)
                self.pictures = self.came + self.failed
                self.good = not delivery.errors
                self.reused = self.came if delivery.source == "reused" else 0
            elif error is not None or result is None:
                self.failed = max(1, self.pictures - self.came)

    def stop(self) -> None:
        """End the call because nobody waits for it any more; it counts as parked if its task may go on."""
        if not self.ended:
            self.ended = self.stopped = True
            self.parked = self._sent or self.stage in _AT_THE_SERVICE
            self._fresh.clear()

    def take_fresh(self) -> list[api.tensors.Pixels]:
        """The pictures that came since the last call of this method, and forget them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def fraction(self, now: float) -> float | None:
        """How much of the call is done, 0-1: the service's figure, else elapsed by usual seconds; ``None``: not known.

        At most ``_NEARLY`` until the call has succeeded.
        """
        if self.good:
            return 1.0
        if not self._reported_fraction and self._share_of_usual(now) is None:
            return None
        return min(self._reported_fraction or self._share_of_usual(now) or 0.0, _NEARLY)

    def estimated(self, now: float) -> bool:
        """Whether :meth:`fraction` is calculated from the usual seconds."""
        return not self._reported_fraction and self._share_of_usual(now) is not None

    def _share_of_usual(self, now: float) -> float | None:
        """Elapsed seconds divided by the usual ones, may be over 1; ``None`` if these are not known."""
        if self._running_since is None or not self.expected:
            return None
        return (now - self._running_since) / self.expected

    def _add_pictures(self, pictures: Sequence[api.tensors.Pixels]) -> None:
        self.came += len(pictures)
        self.pictures = max(self.pictures, self.came)
        self._fresh += pictures
