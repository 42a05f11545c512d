"""What a waiting node shows: workers report, the node's own coroutine draws.

ComfyUI maps a list input to several ``execute`` calls of one node, all under way at once: they share one display.

The page of whoever queued the prompt is told by the event ``hidream_volcengine.progress``: on each change of the stage,
else at most four times a second, and once a second at least while ComfyUI's loop is not busy with a local node.

    prompt_id, node, display_node   as in ComfyUI's own events
    workflow        id of the workflow that was queued, "" if it is not known
    stage           {"en", "zh"}
    end             "" while it goes on, "done", or "stopped" by an interrupt, by a sibling's error or in the task list
    elapsed         seconds
    expected        seconds that one such call usually takes, null if not known
    done, total     pictures; total is null if not known
    failed          pictures that will not come
    buys            pictures that this run buys
    resumes         tasks of an earlier run that it goes on with
    reused          pictures that were there already
    parked          tasks that go on at the service although nobody waits any more
    share           0-1, null if nothing is known of it; estimate: whether time that usually passes is part of it
    previews, more  what /view asks for, of the first pictures; how many further ones there are

After an interrupt, as soon as the journal has it, another one with ``end`` "left" and of calls:

    left            {"accepted", "sending", "unclear", "failed", "unsent"}
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

_LOOK_EVERY = 0.04
_DRAW_EVERY = 0.25
_REPEAT_EVERY = 1.0
_MOST_PREVIEWS = 16
# A call counts as whole only once its picture is here.
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
    """Where a node is shown. Nothing of it raises or blocks."""

    def bar(self, value: float, total: float) -> None: ...

    def text(self, words: str) -> None: ...

    def watched(self) -> bool:
        """Whether the page of whoever queued the prompt is connected."""
        ...

    def tell(self, state: dict[str, Any]) -> None: ...

    def preview(self, picture: api.tensors.Pixels, there: Callable[[PreviewFile], None]) -> None:
        """Have a small file made, and tell of it as soon as it is there."""
        ...


@dataclass(frozen=True)
class ExpectedWork:
    """What one ``execute`` call of a node is about to do: pictures of each call (0: nobody knows); what it buys."""

    pictures: Sequence[int]
    plan: api.Plan | None = None


class NodeDisplay:
    """The display of one node in one run of a workflow. Only ComfyUI's loop calls its methods."""

    def __init__(self, screen: UiSink, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._begun = clock()
        self._buys = self._resumes = 0
        self._changed = True
        self._looked = self._drawn = float("-inf")
        self._drawn_stage: Text | None = None
        self._previews: list[PreviewFile] = []
        self._previews_asked = 0
        self._left: Counter[str] = Counter()

    def begin(self, expected_work: ExpectedWork) -> list[Call]:
        """Another ``execute`` call of the node; its calls, for the workers."""
        calls = [Call(self._lock, self._touch, pictures, self._clock) for pictures in expected_work.pictures]
        with self._lock:
            self._calls += calls
            if expected_work.plan is not None:
                self._buys += expected_work.plan.buy
                self._resumes += expected_work.plan.resume
            self._changed = True
        return calls

    def refresh(self, *, at_once: bool = False, run_is_over: bool = False) -> None:
        """Draw what is due. Of a run that is over only the page is told: ComfyUI would show it as running again."""
        now = self._clock()
        # The coroutines of a mapped list all come by here.
        if not at_once and now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        with self._lock:
            stage, ended = self._stage(), all(call.ended for call in self._calls)
            news = self._changed and (at_once or now - self._drawn >= _DRAW_EVERY or stage != self._drawn_stage)
            if not news and (ended or now - self._drawn < _REPEAT_EVERY):
                return
            self._changed, self._drawn, self._drawn_stage = False, now, stage
            fresh = [picture for call in self._calls for picture in call.take_fresh()]
            value = sum(call.fraction(now) or 0.0 for call in self._calls)
            words = self._words(stage, now)
            state = self._state(stage, ended, now)
        if not run_is_over:
            self._screen.bar(value, float(len(self._calls)))
            self._screen.text(words)
        if self._screen.watched():
            self._screen.tell(state)
            if not ended:
                self._ask_for_previews(fresh)

    def stop(self, calls: Sequence[Call]) -> None:
        """Nobody waits for these any more; what their workers still say is not heard."""
        if not calls:
            return
        with self._lock:
            for call in calls:
                call.stop()
            self._changed = True
            over = all(call.ended for call in self._calls)
        if over:
            self.refresh(at_once=True, run_is_over=True)

    def leave(self, left: api.AbandonedCalls) -> None:
        """What an interrupt left of a batch; from any thread, when the run is over."""
        with self._lock:
            for name, count in asdict(left).items():
                self._left[name] += count
            state = {"end": "left", "left": dict(self._left)}
        if self._screen.watched():
            self._screen.tell(state)

    def _touch(self) -> None:
        self._changed = True

    def _ask_for_previews(self, pictures: Sequence[api.tensors.Pixels]) -> None:
        wanted = pictures[: _MOST_PREVIEWS - self._previews_asked]
        self._previews_asked += len(wanted)
        for picture in wanted:
            self._screen.preview(picture, self._preview_is_there)

    def _preview_is_there(self, file: PreviewFile) -> None:
        with self._lock:
            self._previews.append(file)
            self._changed = True

    def _stage(self) -> Text:
        """The furthest that any of them has come."""
        under_way = {call.stage for call in self._calls if not call.ended}
        for name in reversed(_STAGES):
            if name in under_way:
                return _STAGES[name]
        if any(call.stopped for call in self._calls):
            return _STOPPED
        return _FAILED if any(not call.good for call in self._calls) else _DONE

    def _words(self, stage: Text, now: float) -> str:
        done = sum(call.good for call in self._calls)
        buying = f" · buys {self._buys} 购买 {self._buys} 张" if self._buys else ""
        return f"{done}/{len(self._calls)} · {stage.en} {stage.zh} · {now - self._begun:.0f} s{buying}"

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
            "elapsed": round(now - self._begun, 1),
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
    """What is shown of one call. Its worker reports; everything else is read under the display's lock."""

    def __init__(
        self, lock: threading.Lock, touch: Callable[[], None], pictures: int, clock: Callable[[], float]
    ) -> None:
        self._lock = lock
        self._touch = touch
        self._clock = clock
        self.stage = "queued"
        self.pictures = pictures
        self.came = self.failed = self.reused = 0
        self.expected: float | None = None
        self.ended = self.stopped = self.good = self.parked = False
        self._sent = False
        self._told = 0.0
        self._running_since: float | None = None
        self._fresh: list[api.tensors.Pixels] = []

    def report(self, progress: api.Progress) -> None:
        """Called by the worker."""
        with self._lock:
            if self.ended:
                return
            self._touch()
            # Its end comes with the result itself, which says more.
            self.stage = progress.stage if progress.stage != "done" else "downloading"
            self._told = progress.fraction or self._told
            self._sent = self._sent or bool(progress.task_id)
            self.pictures = max(self.pictures, progress.pictures)
            if progress.expected is not None:
                self.expected = progress.expected
                if self._running_since is None:
                    self._running_since = self._clock()
            if progress.picture is not None:
                self._has_come([progress.picture])

    def end(self, result: object) -> None:
        """Called by the worker with what its job returned, ``None`` if it raised."""
        delivery = result.delivery if isinstance(result, api.Result) else result
        error = result.error if isinstance(result, api.Result) else None
        with self._lock:
            if self.ended:
                return
            self._touch()
            self.ended = True
            if isinstance(error, TaskTimeoutError):
                # Stopped in the task list, or it took too long: what was sent goes on at the service.
                self.stopped, self.parked = True, error.billed != "no"
            elif isinstance(delivery, api.Delivery):
                # Those of the store were not reported one by one.
                self._has_come(delivery.pictures[self.came :])
                self.failed = len(delivery.errors)
                self.pictures = self.came + self.failed
                self.good = not delivery.errors
                self.reused = self.came if delivery.source == "reused" else 0
            elif error is not None or result is None:
                self.failed = max(1, self.pictures - self.came)

    def stop(self) -> None:
        if not self.ended:
            self.ended = self.stopped = True
            self.parked = self._sent or self.stage in _AT_THE_SERVICE
            self._fresh.clear()

    def take_fresh(self) -> list[api.tensors.Pixels]:
        """Pictures that have come since the last time."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def fraction(self, now: float) -> float | None:
        """The service's own figure, or the share of the time that such calls usually take."""
        if self.good:
            return 1.0
        if not self._told and self._usual(now) is None:
            return None
        return min(self._told or self._usual(now) or 0.0, _NEARLY)

    def estimated(self, now: float) -> bool:
        return not self._told and self._usual(now) is not None

    def _usual(self, now: float) -> float | None:
        if self._running_since is None or not self.expected:
            return None
        return (now - self._running_since) / self.expected

    def _has_come(self, pictures: Sequence[api.tensors.Pixels]) -> None:
        self.came += len(pictures)
        self.pictures = max(self.pictures, self.came)
        self._fresh += pictures
