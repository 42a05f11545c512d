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

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
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


class CallPhase(Enum):
    """What a call is doing, or how it ended. The order decides which of its calls a node shows.

    ``text`` is shown. ``end`` is the field of the event; "" while the call goes on.
    """

    PREPARING = Text("preparing", "准备中"), ""
    WAITING = Text("waiting for a free place", "等待空闲名额"), ""
    SUBMITTING = Text("submitting", "提交中"), ""
    QUEUED = Text("queued", "排队中"), ""
    RUNNING = Text("running", "生成中"), ""
    DOWNLOADING = Text("downloading", "下载中"), ""
    DONE = Text("done", "完成"), "done"
    FAILED = Text("failed", "失败"), "done"
    STOPPED = Text("stopped", "已停止"), "stopped"

    def __init__(self, text: Text, end: str) -> None:
        self.text = text
        self.end = end


_AT_THE_SERVICE = {CallPhase.RUNNING, CallPhase.DOWNLOADING}


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


@dataclass(frozen=True)
class PlanOfNode:
    """What a node is going to buy in this run, before its first submit.

    Args:
        wanted: pictures that it wants at most; those in the store cost none.
        allowed: how many the budget still holds; ``None``: no limit.
        price: the owner's price of ``wanted`` pictures, as a decimal number; ``None``: not set.
    """

    wanted: int
    allowed: int | None
    price: str | None
    currency: str | None


@dataclass
class _Counts:
    """Pictures that came, that failed and that were reused; calls that are parked."""

    came: int = 0
    failed: int = 0
    reused: int = 0
    parked: int = 0


@dataclass
class _Shared:
    """What a display and its calls share. ``lock`` protects it and the calls."""

    clock: Callable[[], float]
    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: bool = True
    counts: _Counts = field(default_factory=_Counts)


class NodeDisplay:
    """The display of one node in one run of a workflow.

    ComfyUI's event loop calls its methods, except :meth:`add_abandoned`. Its lock protects the calls from their worker
    threads.
    """

    def __init__(self, ui: UiSink, clock: Callable[[], float] = time.monotonic) -> None:
        self._ui = ui
        self._shared = _Shared(clock)
        self._calls: list[Call] = []
        self._begun_at = clock()
        self._buys = self._resumes = 0
        self._last_look = self._last_drawn = float("-inf")
        self._last_drawn_phase: CallPhase | None = None
        self._previews: list[PreviewFile] = []
        self._previews_asked = 0
        self._abandoned: Counter[str] = Counter()
        self._has_told_end = False
        self._plan: PlanOfNode | None = None

    @property
    def has_plan(self) -> bool:
        """Whether :meth:`show_plan` was called."""
        return self._plan is not None

    def show_plan(self, plan: PlanOfNode) -> None:
        """Show what the node is going to buy, until its run ends."""
        with self._shared.lock:
            self._plan = plan
            self._shared.changed = True

    def begin(self, expected_work: ExpectedWork) -> list[Call]:
        """Add an ``execute`` call of the node; returns a :class:`Call` for each of its jobs, in order."""
        calls = [Call(self._shared, pictures) for pictures in expected_work.pictures]
        with self._shared.lock:
            self._calls += calls
            self._has_told_end = False
            if expected_work.plan is not None:
                self._buys += expected_work.plan.buy
                self._resumes += expected_work.plan.resume
            self._shared.changed = True
        return calls

    def refresh(self, *, at_once: bool = False, run_is_over: bool = False) -> None:
        """Draw the bar and the text and send the event, if anything changed and it is time for it.

        Args:
            at_once: draw a change now, whenever the last one was drawn.
            run_is_over: send the event only. ComfyUI would show a node as running if it got a bar or text after the
                end of the run.
        """
        now = self._shared.clock()
        # Every coroutine of a mapped list calls this, up to a thousand of them; most calls return here.
        if not at_once and now - self._last_look < _LOOK_EVERY:
            return
        self._last_look = now
        with self._shared.lock:
            phase = self._phase()
            if now - self._last_drawn < self._pause_before(phase, at_once):
                return
            self._shared.changed, self._last_drawn, self._last_drawn_phase = False, now, phase
            fresh = [picture for call in self._calls for picture in call.take_fresh()]
            shares = [share for call in self._calls if (share := call.fraction(now)) is not None]
            progress_text = self._progress_text(phase, now)
            state = self._state(phase, shares, now)
        if not run_is_over:
            self._ui.bar(sum(shares, 0.0), float(len(self._calls)))
            self._ui.text(progress_text)
        if self._ui.watched():
            self._ui.tell(state)
            if not phase.end:
                self._ask_for_previews(fresh)
        if phase.end:
            with self._shared.lock:
                self._has_told_end = True
            self._tell_abandoned()

    def stop(self, calls: Sequence[Call]) -> None:
        """End these calls as stopped; reports of their workers are ignored from now on."""
        if not calls:
            return
        with self._shared.lock:
            for call in calls:
                call.stop()
            self._shared.changed = True
            phase = self._phase()
        if phase.end:
            self.refresh(at_once=True, run_is_over=True)

    def add_abandoned(self, abandoned: api.AbandonedCalls) -> None:
        """Add what became of the calls of one interrupted ``execute``; send the event "left" if it is due.

        From any thread. The event is due after the end of all calls was sent: the journal may know of one call before
        the others have stopped. The counts of several ``execute`` calls of the node are added up.
        """
        with self._shared.lock:
            self._abandoned.update(asdict(abandoned))
        self._tell_abandoned()

    def _tell_abandoned(self) -> None:
        with self._shared.lock:
            state = {"end": "left", "left": dict(self._abandoned)}
            is_due = self._has_told_end and bool(self._abandoned)
        if is_due and self._ui.watched():
            self._ui.tell(state)

    def _ask_for_previews(self, pictures: Sequence[api.tensors.Pixels]) -> None:
        wanted = pictures[: _MOST_PREVIEWS - self._previews_asked]
        self._previews_asked += len(wanted)
        for picture in wanted:
            self._ui.preview(picture, self._add_preview)

    def _add_preview(self, file: PreviewFile) -> None:
        with self._shared.lock:
            self._previews.append(file)
            self._shared.changed = True

    def _phase(self) -> CallPhase:
        """The node's phase: the last member of ``CallPhase`` among calls that go on, or among all if none goes on."""
        phases = {call.phase for call in self._calls} or {CallPhase.DONE}
        candidates = {phase for phase in phases if not phase.end} or phases
        return next(phase for phase in reversed(CallPhase) if phase in candidates)

    def _pause_before(self, phase: CallPhase, at_once: bool) -> float:
        """How many seconds ago the display must have been drawn, to be drawn again now."""
        if not self._shared.changed:
            return math.inf if phase.end else _REPEAT_EVERY
        return 0.0 if at_once or phase is not self._last_drawn_phase else _DRAW_EVERY

    def _progress_text(self, phase: CallPhase, now: float) -> str:
        done = sum(call.phase is CallPhase.DONE for call in self._calls)
        buying = f" · buys {self._buys} 购买 {self._buys} 张" if self._buys else ""
        return f"{done}/{len(self._calls)} · {phase.text.en} {phase.text.zh} · {now - self._begun_at:.0f} s{buying}"

    def _state(self, phase: CallPhase, shares: Sequence[float], now: float) -> dict[str, Any]:
        """The fields of the event; ``shares``: how much of each call is done, as far as it is known."""
        open_calls = [call for call in self._calls if not call.phase.end]
        pictures = [call.pictures for call in self._calls]
        counts = self._shared.counts
        return {
            "stage": {"en": phase.text.en, "zh": phase.text.zh},
            "end": phase.end,
            "elapsed": round(now - self._begun_at, 1),
            "expected": max((call.expected for call in open_calls if call.expected), default=None),
            "done": counts.came,
            "total": sum(pictures) if all(pictures) else None,
            "failed": counts.failed,
            "buys": self._buys,
            "resumes": self._resumes,
            "reused": counts.reused,
            "parked": counts.parked,
            "plan": None if self._plan is None else asdict(self._plan),
            "share": round(sum(shares) / len(self._calls), 4) if shares else None,
            "estimate": any(call.estimated(now) for call in open_calls),
            "previews": list(self._previews),
            "more": max(0, counts.came - _MOST_PREVIEWS),
        }


class Call:
    """What is shown of one call.

    The worker thread calls :meth:`report` and :meth:`end`, which take the display's lock. The display calls all other
    methods with that lock held.

    Args:
        shared: of the display.
        pictures: how many the call expects; 0 if that is not known.
    """

    def __init__(self, shared: _Shared, pictures: int) -> None:
        self._shared = shared
        self.phase = CallPhase.QUEUED
        self.pictures = pictures
        self._came = 0
        self.expected: float | None = None
        self._sent = False
        self._reported_fraction = 0.0
        self._running_since: float | None = None
        self._fresh: list[api.tensors.Pixels] = []

    def report(self, progress: api.Progress) -> None:
        """Take over what the call is doing; called by the worker. Ignored once the call has ended."""
        with self._shared.lock:
            if self.phase.end:
                return
            self._shared.changed = True
            # Not DONE yet: end() gets the result, which also says how many pictures failed.
            self.phase = CallPhase[progress.stage.upper()] if progress.stage != "done" else CallPhase.DOWNLOADING
            self._reported_fraction = progress.fraction or self._reported_fraction
            self._sent = self._sent or bool(progress.task_id)
            self.pictures = max(self.pictures, progress.pictures)
            if progress.expected is not None:
                self.expected = progress.expected
                if self._running_since is None:
                    self._running_since = self._shared.clock()
            if progress.picture is not None:
                self._add_pictures([progress.picture])

    def end(self, result: object) -> None:
        """Take over the result of the job; called by the worker.

        Args:
            result: ``api.Result`` of a paid call, ``api.Delivery`` of a fetch, or ``None`` if the job raised.
        """
        delivery = result.delivery if isinstance(result, api.Result) else result
        error = result.error if isinstance(result, api.Result) else None
        with self._shared.lock:
            if self.phase.end:
                return
            self._shared.changed = True
            counts = self._shared.counts
            if isinstance(error, TaskTimeoutError):
                # Stopped in the task list, or over its deadline. Unless nothing was billed, the task goes on.
                self.phase = CallPhase.STOPPED
                counts.parked += error.billed != "no"
            elif isinstance(delivery, api.Delivery):
                # Pictures from the store were not reported one by one.
                self._add_pictures(delivery.pictures[self._came :])
                self.phase = CallPhase.FAILED if delivery.errors else CallPhase.DONE
                self.pictures = self._came + len(delivery.errors)
                counts.failed += len(delivery.errors)
                counts.reused += self._came if delivery.source == "reused" else 0
            else:
                self.phase = CallPhase.FAILED
                # An empty api.Result: the call was not submitted, because another one failed.
                counts.failed += max(1, self.pictures - self._came) if error is not None or result is None else 0

    def stop(self) -> None:
        """End the call because nobody waits for it any more; it counts as parked if its task may go on."""
        if not self.phase.end:
            self._shared.counts.parked += self._sent or self.phase in _AT_THE_SERVICE
            self.phase = CallPhase.STOPPED
            self._fresh.clear()

    def take_fresh(self) -> list[api.tensors.Pixels]:
        """The pictures that came since the last call of this method, and forget them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def fraction(self, now: float) -> float | None:
        """How much of the call is done, 0-1: the service's figure, else elapsed by usual seconds; ``None``: not known.

        At most ``_NEARLY`` until the call has succeeded.
        """
        if self.phase is CallPhase.DONE:
            return 1.0
        share = self._reported_fraction or self._share_of_usual(now)
        return None if share is None else min(share, _NEARLY)

    def estimated(self, now: float) -> bool:
        """Whether :meth:`fraction` is calculated from the usual seconds."""
        return not self._reported_fraction and self._share_of_usual(now) is not None

    def _share_of_usual(self, now: float) -> float | None:
        """Elapsed seconds divided by the usual ones, may be over 1; ``None`` if these are not known."""
        if self._running_since is None or not self.expected:
            return None
        return (now - self._running_since) / self.expected

    def _add_pictures(self, pictures: Sequence[api.tensors.Pixels]) -> None:
        self._came += len(pictures)
        self._shared.counts.came += len(pictures)
        self.pictures = max(self.pictures, self._came)
        self._fresh += pictures
