"""What a node shows of its calls, with a clock that stands still."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hidream_volcengine.api import AbandonedCalls, Delivery, Plan, Progress, Result, TaskTimeoutError, Text, tensors
from hidream_volcengine.api.core.errors import Billed

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.comfy.display import Call, ExpectedWork, NodeDisplay, PreviewFile  # noqa: E402

PICTURE: tensors.Pixels = np.zeros((4, 4, 3), np.uint8)


class Recorder:
    """A UiSink that records what it is given."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.bars: list[tuple[float, float]] = []
        self.words: list[str] = []
        self.connected = True
        self.asked = 0

    def bar(self, value: float, total: float) -> None:
        self.bars.append((value, total))

    def text(self, words: str) -> None:
        self.words.append(words)

    def watched(self) -> bool:
        return self.connected

    def tell(self, state: dict[str, Any]) -> None:
        self.states.append(state)

    def preview(self, picture: tensors.Pixels, there: Callable[[PreviewFile], None]) -> None:
        self.asked += 1
        there({"filename": f"{self.asked}.jpg"})

    def stages(self) -> list[str]:
        return [state["stage"]["en"] for state in self.states]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def screen() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def display(screen: Recorder, clock: Clock) -> NodeDisplay:
    return NodeDisplay(screen, clock)


def tick(display: NodeDisplay, clock: Clock, seconds: float) -> None:
    """ComfyUI's loop comes by twenty times a second."""
    for _ in range(round(seconds * 20)):
        clock.now += 0.05
        display.refresh()


def begin(display: NodeDisplay, *pictures: int, buy: int = 0, resume: int = 0) -> list[Call]:
    return display.begin(ExpectedWork(pictures, Plan(buy, 0, resume)))


def bought(count: int = 1, source: Any = "bought") -> Result:
    return Result(Delivery(None, (PICTURE,) * count, source=source))


def test_it_is_told_once_a_second_while_nothing_happens(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    begin(display, 1)
    tick(display, clock, 10)
    assert 10 <= len(screen.states) <= 11
    assert screen.states[-1]["elapsed"] == pytest.approx(10, abs=1)


def test_four_times_a_second_at_most_while_much_does(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    [call] = begin(display, 1)
    for step in range(200):
        call.report(Progress("running", step / 200))
        tick(display, clock, 0.05)
    assert 30 <= len(screen.states) <= 41


def test_the_end_is_told_in_words_whoever_stops_nothing_before(
    display: NodeDisplay, screen: Recorder, clock: Clock
) -> None:
    """One of two coroutines is cancelled when the other one's call has just ended, and has not been woken yet."""
    first, second = begin(display, 1, 1)
    first.end(bought())
    display.refresh(at_once=True)
    second.end(bought())
    display.stop([])
    display.refresh(at_once=True)
    assert screen.words[-1].startswith("2/2 · done")


def test_each_stage_at_once(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    [call] = begin(display, 1)
    for stage in ("waiting", "preparing", "submitting", "queued", "running", "downloading"):
        call.report(Progress(stage))  # type: ignore[arg-type]
        tick(display, clock, 0.05)
    assert screen.stages() == [
        "waiting for a free place", "preparing", "submitting", "queued", "running", "downloading",
    ]  # fmt: skip


def test_the_last_state_is_told_whatever_was_told_just_before(
    display: NodeDisplay, screen: Recorder, clock: Clock
) -> None:
    [call] = begin(display, 1, buy=1)
    display.refresh()
    call.end(bought())
    display.refresh(at_once=True)
    last = screen.states[-1]
    assert (last["end"], last["done"], last["total"], last["share"], last["buys"]) == ("done", 1, 1, 1.0, 1)
    told = len(screen.states)
    tick(display, clock, 5)
    assert len(screen.states) == told, "it has ended"


def test_the_items_of_a_list_add_up(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    items = [begin(display, 1, buy=1) for _ in range(3)] + [begin(display, 1)]
    display.refresh()
    assert (screen.states[-1]["done"], screen.states[-1]["total"], screen.states[-1]["buys"]) == (0, 4, 3)
    items[3][0].end(bought(source="reused"))
    items[0][0].end(bought())
    clock.now += 1
    display.refresh()
    told = screen.states[-1]
    assert (told["done"], told["total"], told["reused"], told["share"], told["end"]) == (2, 4, 1, 0.5, "")
    assert screen.bars[-1] == (2.0, 4.0)
    assert screen.words[-1].startswith("2/4 · ")


def test_a_set_counts_its_pictures(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    [call] = begin(display, 1)
    call.report(Progress("running", pictures=4))
    call.report(Progress("downloading", 1.0, "task", pictures=4, picture=PICTURE))
    display.refresh()
    told = screen.states[-1]
    assert (told["done"], told["total"]) == (1, 4)
    error = TaskTimeoutError(Text("late", "迟"))
    call.end(Result(Delivery(None, (PICTURE,) * 3, (error,))))
    display.refresh(at_once=True)
    told = screen.states[-1]
    assert (told["done"], told["total"], told["failed"], told["stage"]["en"]) == (3, 4, 1, "failed")
    assert screen.asked == 1, "the others come through the output in a moment"


def test_each_picture_is_previewed_once(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    fetched, _ = begin(display, 1, 1)
    fetched.report(Progress("downloading", 1.0, "task", pictures=4, picture=PICTURE))
    tick(display, clock, 1)
    assert screen.asked == 1
    fetched.end(bought(4))
    tick(display, clock, 1)
    assert screen.asked == len(screen.states[-1]["previews"]) == 4


def test_how_many_is_not_made_up(display: NodeDisplay, screen: Recorder) -> None:
    begin(display, 0)
    display.refresh()
    assert screen.states[-1]["total"] is None
    assert screen.states[-1]["share"] is None


def test_an_estimate_is_called_one_and_is_never_whole(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    [call] = begin(display, 1)
    call.report(Progress("running", expected=10.0))
    tick(display, clock, 5)
    halfway = screen.states[-1]
    assert (halfway["estimate"], halfway["expected"]) == (True, 10.0)
    assert halfway["share"] == pytest.approx(0.5, abs=0.1)
    tick(display, clock, 60)
    assert screen.states[-1]["share"] == 0.95
    call.report(Progress("running", 0.97, expected=10.0))
    tick(display, clock, 1)
    assert (screen.states[-1]["estimate"], screen.states[-1]["share"]) == (False, 0.95)


def test_at_most_sixteen_previews(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    calls = begin(display, *[1] * 20)
    for call in calls[:19]:
        call.end(bought())
        tick(display, clock, 0.5)
    assert screen.asked == 16
    tick(display, clock, 1)
    assert (len(screen.states[-1]["previews"]), screen.states[-1]["more"]) == (16, 3)


def test_without_a_page_nothing_is_told_or_drawn(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    screen.connected = False
    calls = begin(display, 1, 1)
    calls[0].end(bought())
    tick(display, clock, 2)
    assert (screen.states, screen.asked) == ([], 0)
    assert screen.words, "others hear of it as before"
    screen.connected = True
    tick(display, clock, 2)
    assert screen.states[-1]["done"] == 1, "a page that comes back finds its place"


def test_after_the_stop_nothing_is_heard(display: NodeDisplay, screen: Recorder, clock: Clock) -> None:
    sent, unsent = begin(display, 1, 1)
    sent.report(Progress("running", task_id="task"))
    unsent.report(Progress("waiting"))
    display.refresh()
    bars = len(screen.bars)
    display.stop([sent, unsent])
    told = screen.states[-1]
    assert (told["end"], told["parked"], told["stage"]["zh"]) == ("stopped", 1, "已停止")
    assert len(screen.bars) == bars, "ComfyUI would show it as running again"
    count = len(screen.states)
    sent.report(Progress("downloading", 1.0, "task", picture=PICTURE))
    sent.end(bought())
    tick(display, clock, 5)
    assert (len(screen.states), screen.asked) == (count, 0)


def test_a_list_has_stopped_when_all_of_it_has(display: NodeDisplay, screen: Recorder) -> None:
    one, other = begin(display, 1), begin(display, 1)
    display.stop(one)
    assert all(state["end"] == "" for state in screen.states)
    display.stop(other)
    assert [state["end"] for state in screen.states][-1] == "stopped"


def test_a_job_that_raised_has_failed(display: NodeDisplay, screen: Recorder) -> None:
    [call] = begin(display, 1)
    call.end(None)
    display.refresh(at_once=True)
    assert (screen.states[-1]["failed"], screen.states[-1]["stage"]["en"]) == (1, "failed")


@pytest.mark.parametrize(("billed", "parked"), [("unknown", 1), ("yes", 1), ("no", 0)])
def test_one_that_nobody_waits_for_any_more_has_not_failed(
    display: NodeDisplay, screen: Recorder, billed: Billed, parked: int
) -> None:
    """It was stopped in the task list, or took too long: what was sent goes on at the service."""
    [call] = begin(display, 1)
    call.end(Result(error=TaskTimeoutError(Text("You stopped waiting.", "已停止等待。"), billed=billed)))
    display.refresh(at_once=True)
    told = screen.states[-1]
    assert (told["end"], told["parked"], told["failed"], told["stage"]["en"]) == ("stopped", parked, 0, "stopped")


# ---- after an interrupt


def test_what_became_of_the_calls_comes_after_the_end(display: NodeDisplay, screen: Recorder) -> None:
    """Of a list that ComfyUI maps: the journal may know of the first item before the last one has stopped."""
    [first] = display.begin(ExpectedWork([1], None))
    [second] = display.begin(ExpectedWork([1], None))
    for call in (first, second):
        call.report(Progress("running", task_id="t"))
    display.refresh(at_once=True)
    display.stop([first])
    display.add_abandoned(AbandonedCalls(accepted=1))
    display.stop([second])
    display.add_abandoned(AbandonedCalls(unsent=1))
    assert [state["end"] for state in screen.states] == ["", "stopped", "left", "left"]
    assert [state["left"]["accepted"] for state in screen.states[2:]] == [1, 1]
    assert [state["left"].get("unsent", 0) for state in screen.states[2:]] == [0, 1]
