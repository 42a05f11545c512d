"""A node runs again exactly when queueing again would do something else for a picture that is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import Budget, ConfigurationError, Decision, Missing, Order, Retry, Text
from hidream_volcengine.api.core.limits import Ceiling
from hidream_volcengine.api.journal import Purchase
from hidream_volcengine.api.journal.model import Found

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.comfy.missing import MissingPictures  # noqa: E402

WIDGETS = {"profile": "default", "take": 0}


class World:
    """A journal and profiles that a test changes."""

    def __init__(self) -> None:
        self.decision = Decision.EXPLAIN
        self.left: int | None = 0
        self.profiles = 1
        self.is_broken = False
        self.limiter = self
        self.asked_runs: list[str] = []
        self.missing = MissingPictures(self.journal, lambda: self.profiles)  # type: ignore[arg-type, return-value]

    def journal(self) -> World:
        if self.is_broken:
            raise ConfigurationError(Text("No.", "不行。"))
        return self

    def decisions(self, keys: list[str]) -> list[Found]:
        return [Found(self.decision, None, False) for _ in keys]

    def budget_left(self, purchase: Purchase) -> int | None:
        self.asked_runs.append(purchase.prompt_id)
        return self.left

    def ended(self, *missing: Missing, run: str = "run-1", **widgets: Any) -> None:
        self.missing.note(run, "7", WIDGETS | widgets, missing)

    def fingerprint(self, node: str = "7", **known: Any) -> int:
        return self.missing.fingerprint(node, WIDGETS | known)


@pytest.fixture
def world() -> World:
    return World()


def order() -> Order:
    purchase = Purchase("HiDream", "hidream upscale", "default", "a", "run-1", 1, Budget(), Ceiling())
    return Order("key", purchase, False, 0, 1, "")


def test_a_complete_run_changes_nothing(world: World) -> None:
    world.ended()
    assert world.fingerprint() == world.fingerprint() == 0


@pytest.mark.parametrize("retry", [Retry.NEVER, Retry.WHEN_JOURNAL_DECIDES_OTHERWISE, Retry.WHEN_BUDGET_ALLOWS])
def test_the_same_again_changes_nothing(world: World, retry: Retry) -> None:
    world.ended(Missing(retry, order()))
    world.profiles = 2
    assert world.fingerprint() == 0


def test_what_would_be_submitted_or_resumed_changes_it_once(world: World) -> None:
    world.ended(Missing(Retry.NOW, order()))
    assert world.fingerprint() == world.fingerprint() == 1
    world.ended(Missing(Retry.NEVER, order()), run="run-2")
    assert world.fingerprint() == 1, "it ran again, and the same would happen again"
    world.ended(Missing(Retry.NOW, order()), run="run-3")
    assert world.fingerprint() == 2


@pytest.mark.parametrize("decision", [Decision.REUSE, Decision.RESUME, Decision.NEW])
def test_a_late_answer_or_submit_again_changes_it(world: World, decision: Decision) -> None:
    world.ended(Missing(Retry.WHEN_JOURNAL_DECIDES_OTHERWISE, order()))
    assert world.fingerprint() == 0
    world.decision = decision
    assert world.fingerprint() == 1


@pytest.mark.parametrize("left", [1, None])
def test_room_in_the_budget_of_another_run_changes_it(world: World, left: int | None) -> None:
    world.ended(Missing(Retry.WHEN_BUDGET_ALLOWS, order()))
    assert world.fingerprint() == 0
    world.left = left
    assert world.fingerprint() == 1
    assert set(world.asked_runs) == {""}


def test_a_mended_key_changes_it(world: World) -> None:
    world.ended(Missing(Retry.WHEN_PROFILE_CHANGES))
    assert world.fingerprint() == 0
    world.profiles = 2
    assert world.fingerprint() == 1


def test_a_journal_that_cannot_be_read_changes_nothing(world: World) -> None:
    world.ended(Missing(Retry.WHEN_JOURNAL_DECIDES_OTHERWISE, order()), Missing(Retry.WHEN_BUDGET_ALLOWS, order()))
    world.is_broken = True
    assert world.fingerprint() == 0


def test_the_items_of_a_list_add_up(world: World) -> None:
    world.ended()
    world.ended(Missing(Retry.WHEN_PROFILE_CHANGES))
    world.ended()
    world.profiles = 2
    assert world.fingerprint() == 1


def test_a_later_run_replaces_what_an_earlier_one_has_left(world: World) -> None:
    world.ended(Missing(Retry.WHEN_PROFILE_CHANGES))
    world.ended(run="run-2")
    world.profiles = 2
    assert world.fingerprint() == 0


def test_other_nodes_and_other_widgets_are_not_concerned(world: World) -> None:
    world.ended(Missing(Retry.NOW, order()))
    assert world.fingerprint("8") == world.fingerprint(take=1) == 0
    assert world.fingerprint(take=None) == 1, "it comes over a wire: its value is not known yet"


def test_a_value_that_no_widget_has_is_no_trouble(world: World) -> None:
    world.ended(Missing(Retry.NOW, order()), take=[1])
    assert world.fingerprint(take=[1]) == 1


def test_complete_runs_leave_nothing_in_memory(world: World) -> None:
    for take in range(100):
        world.ended(take=take)
    world.ended(Missing(Retry.NEVER, order()), run="run-1")
    world.ended(run="run-2")
    assert world.missing._left == {}
