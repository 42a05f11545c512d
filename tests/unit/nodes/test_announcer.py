"""ChangeNotifier: it announces changes soon, not too often, misses none, and never holds up its caller."""

from __future__ import annotations

import sys
import threading
import time
import types
from pathlib import Path

import pytest

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.comfy import change_notifier as module  # noqa: E402
from hidream_volcengine.nodes.comfy.change_notifier import ChangeNotifier  # noqa: E402

DEADLINE = 10.0


class Told:
    def __init__(self) -> None:
        self.times = threading.Semaphore(0)
        self.moments: list[float] = []

    def __call__(self) -> None:
        self.moments.append(time.monotonic())
        self.times.release()

    def once_more(self) -> bool:
        return self.times.acquire(timeout=DEADLINE)


def test_no_thread_before_the_first_change() -> None:
    def threads() -> int:
        return sum(thread.name == "hidream-volcengine-announcer" for thread in threading.enumerate())

    before = threads()
    told = Told()
    announcer = ChangeNotifier(told, pause=0.01)
    assert threads() == before
    for _ in range(2):
        announcer.announce()
        assert told.once_more()
        assert threads() == before + 1


def test_many_changes_are_few_announcements_and_the_last_is_one_of_them() -> None:
    pause, told = 0.2, Told()
    announcer = ChangeNotifier(told, pause)
    begun = time.monotonic()
    for _ in range(1000):
        announcer.announce()
    changed = time.monotonic()
    assert told.once_more()
    while told.moments[-1] < changed:
        assert told.once_more()
    assert len(told.moments) <= 2 + (told.moments[-1] - begun) / pause
    assert all(later - earlier >= pause for earlier, later in zip(told.moments, told.moments[1:], strict=False))


def test_what_changes_while_it_is_told_is_told_again() -> None:
    told = Told()

    def tell() -> None:
        told()
        if len(told.moments) < 3:
            announcer.announce()

    announcer = ChangeNotifier(tell, pause=0.01)
    announcer.announce()
    assert all(told.once_more() for _ in range(3))


def test_one_that_fails_is_not_the_last() -> None:
    told = Told()

    def tell() -> None:
        told()
        raise RuntimeError("the loop is closed")

    announcer = ChangeNotifier(tell, pause=0.01)
    for _ in range(3):
        announcer.announce()
        assert told.once_more()


def test_whoever_announces_is_not_held_up() -> None:
    may_go, told = threading.Event(), Told()

    def tell() -> None:
        told()
        may_go.wait(DEADLINE)

    announcer = ChangeNotifier(tell, pause=0.01)
    announcer.announce()
    assert told.once_more()
    for _ in range(100):
        announcer.announce()
    assert len(told.moments) == 1
    may_go.set()
    assert told.once_more()


def test_without_a_free_thread_the_next_change_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    announcer = ChangeNotifier(told, pause=0.01)
    with monkeypatch.context() as patched:

        def full(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(module.threading.Thread, "start", full)
        announcer.announce()
    announcer.announce()
    assert told.once_more()
