"""Random lives of requests: faults, crashes, interrupts and second thoughts, and never a purchase too many.

Every step is a process of its own on the same journal, so that what it knows it knows from the disk.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from emulator import Emulator
from tests.contract import buyer
from tests.contract.buyer import Errand, Outcome, submits
from tests.thinned import every_case

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks and POSIX signals")

# What the service does to the submit itself. After these the client cannot know whether it was accepted.
LOSING: list[dict[str, Any]] = [
    {"phase": "submit", "do": {"reset": "after"}},
    {"phase": "submit", "do": {"reset": "before"}},
    {"phase": "submit", "do": {"cut": 0.4}},
    {"phase": "submit", "do": {"status": 502, "html": True, "accept": True}},
    {"phase": "submit", "do": {"status": 500}},
]
# Certainly not accepted, or harmless.
PASSING: list[dict[str, Any]] = [
    {"phase": "submit", "do": {"status": 400}},
    {"phase": "submit", "times": 2, "do": {"status": 429, "headers": {"Retry-After": "0"}}},
    {"phase": "submit", "do": {"delay": 0.05}},
]
# Accepted, and then it failed.
FAILING: list[dict[str, Any]] = [{"phase": "submit", "do": {"task_status": [3]}}]
# Of what follows, and never a reason to lose a picture.
LATER: list[dict[str, Any]] = [
    {"phase": "result", "times": 2, "do": {"status": 503}},
    {"phase": "result", "do": {"html": True}},
    {"phase": "result", "do": {"reset": "before"}},
    {"phase": "result", "times": 3, "do": {"task_status": [2]}},
    {"phase": "image", "do": {"status": 404}},
    {"phase": "image", "do": {"corrupt": True}},
    {"phase": "image", "do": {"cut": 0.5}},
]
VOLCENGINE_FAILING: list[dict[str, Any]] = [{"phase": "submit", "do": {"vendor_code": 50511}}]
SEEDS = st.sampled_from([1, 2])
FRESH = st.sampled_from([True, True, False])
# Of a purchase in a journal that is there: claimed, admitted, submitting, submitted, stored, delivered.
COMMITS = st.integers(1, 6)
SIDES = st.sampled_from(["before", "after"])


class Lives(RuleBasedStateMachine):
    """A key is (image, take); takes are never used twice, so that a task's take names its key."""

    provider: ClassVar = "hidream"
    faults: ClassVar = LOSING + PASSING + FAILING + LATER

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="states-"))
        self.emulator = Emulator().start()
        self.errand = Errand(self.emulator.url, str(self.folder / "journal"), provider=self.provider)
        self.takes = {1: 1, 2: 2}
        self.next_take = 3
        self.seed_of: dict[int, int] = {}
        self.bought: Counter[int] = Counter()
        self.allowed: Counter[int] = Counter()
        # Takes of which something may be unknown, or known to have failed.
        self.unclear: set[int] = set()
        self.failed: set[int] = set()

    @initialize()
    def begin(self) -> None:
        self.queue(1, None)

    # ---- what happens

    def queue(self, seed: int, fault: dict[str, Any] | None, take: int = 0, **changes: Any) -> Outcome | None:
        """One process asks for one picture; ``None`` if it died."""
        take = take or self.takes[seed]
        self.seed_of[take] = seed
        self.allowed[take] = max(1, self.allowed[take])
        known, sent = self.bought[take], len(submits(self.emulator))
        if fault is not None:
            self.emulator.add_fault(fault)
        visited = buyer.visit(self.errand, pictures=(seed,), take=take, **changes)
        # Rules that found nothing to act on are not for the next process.
        self.emulator._faults.clear()
        self.bought[take] += sum(record.accepted for record in submits(self.emulator)[sent:])
        assert self.bought[take] <= self.allowed[take], f"take {take} was bought {self.bought[take]} times"
        asked = len(submits(self.emulator)) > sent
        if visited.died or (fault in LOSING and asked):
            self.unclear.add(take)
        if fault in FAILING + VOLCENGINE_FAILING and self.bought[take] > known:
            self.failed.add(take)
        if visited.died:
            return None
        outcome = visited.outcome
        assert outcome.delivered or outcome.problem or outcome.interrupted, "neither a picture nor a word"
        if outcome.problem is not None and known and not asked:
            self.check_explained(take, outcome)
        return outcome

    def check_explained(self, take: int, outcome: Outcome) -> None:
        """Something was bought and does not come: only for a reason, and with the words to find it again."""
        problem = outcome.problem
        assert problem is not None
        expected = {"AmbiguousSubmitError"} if take in self.unclear else set()
        expected |= {"TaskFailedError", "ModerationError"} if take in self.failed else set()
        assert expected & set(problem.kinds), problem
        assert "nothing was sent now" in problem.en.lower(), problem
        if problem.provider == "HiDream":
            assert problem.request_id or problem.task_id

    def renew(self, seed: int, fresh: bool) -> None:
        """Another take, if ``fresh``: what happens next happens to something that is not bought yet."""
        if fresh:
            self.takes[seed], self.next_take = self.next_take, self.next_take + 1

    @rule(seed=SEEDS)
    def asks(self, seed: int) -> None:
        self.queue(seed, None)

    @rule(seed=SEEDS, fresh=FRESH, chosen=st.integers(0, 99))
    def asks_on_a_bad_day(self, seed: int, fresh: bool, chosen: int) -> None:
        self.renew(seed, fresh)
        self.queue(seed, self.faults[chosen % len(self.faults)])

    @rule(seed=SEEDS, fresh=FRESH, at=COMMITS, side=SIDES)
    def crashes(self, seed: int, fresh: bool, at: int, side: str) -> None:
        self.renew(seed, fresh)
        self.queue(seed, None, at=at, side=side)

    @rule(seed=SEEDS, fresh=FRESH, at=COMMITS, chosen=st.integers(0, 99))
    def crashes_on_a_bad_day(self, seed: int, fresh: bool, at: int, chosen: int) -> None:
        self.renew(seed, fresh)
        self.queue(seed, self.faults[chosen % len(self.faults)], at=at)

    @rule(seed=SEEDS, fresh=FRESH, stage=st.sampled_from(["preparing", "submitting", "queued", "running"]))
    def interrupts(self, seed: int, fresh: bool, stage: str) -> None:
        self.renew(seed, fresh)
        slow = {"phase": "result", "times": 2, "do": {"task_status": [2]}}
        fault = slow if stage == "running" and slow in self.faults else None
        self.queue(seed, fault, interrupt_at=stage)

    @rule(seed=SEEDS)
    def moves_take(self, seed: int) -> None:
        self.renew(seed, fresh=True)
        self.queue(seed, None)

    @rule(seed=SEEDS)
    def submits_again(self, seed: int) -> None:
        take = self.takes[seed]
        # Only the last try of a request can be the reason why it is not sent.
        last = [task for task in buyer.tasks(self.errand) if task.take == take][:1]
        again = tuple(task.journal_id for task in last if task.state in ("ambiguous", "failed"))
        if again:
            self.allowed[take] += 1
            outcome = self.queue(seed, None, again=again)
            assert outcome and outcome.delivered, outcome
            self.unclear.discard(take)
            self.failed.discard(take)

    # ---- in the end

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.emulator.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def settle(self) -> None:
        """On a good day every request ends: with its picture, or with words; and a new take always brings one."""
        for take, seed in list(self.seed_of.items()):
            sent = len(submits(self.emulator))
            outcome = self.queue(seed, None, take)
            assert outcome is not None
            if not outcome.delivered:
                assert take in self.unclear | self.failed, outcome
                assert len(submits(self.emulator)) == sent
        for seed in self.takes:
            self.moves_take(seed)
            assert self.bought[self.takes[seed]] == 1
        ended = {"delivered", "ambiguous", "failed", "refused", "cancelled"}
        assert [task for task in buyer.tasks(self.errand) if task.state not in ended] == []


class VolcengineLives(Lives):
    provider: ClassVar = "volcengine"
    faults: ClassVar = LOSING + PASSING + VOLCENGINE_FAILING


class ResumableLives(Lives):
    provider: ClassVar = "resumable"
    faults: ClassVar = [*LOSING, *PASSING, *[fault for fault in LATER if "task_status" not in fault["do"]]]


def bounded(machine: type[Lives], number: int) -> Any:
    case = machine.TestCase
    case.settings = settings(
        max_examples=number if every_case() else 2,
        stateful_step_count=12,
        # Each example starts an emulator and a dozen processes.
        suppress_health_check=list(HealthCheck),
        # A failure is shown as it was found: to shrink it would take minutes.
        phases=(Phase.explicit, Phase.generate),
        print_blob=True,
        database=None,
    )
    return case


TestHiDreamLives = bounded(Lives, 14)
TestVolcengineLives = bounded(VolcengineLives, 6)
TestResumableLives = bounded(ResumableLives, 5)
