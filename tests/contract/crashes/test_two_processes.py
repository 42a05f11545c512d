"""Several processes, one journal: one purchase for each request, one limiter, one budget."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import Batch, Run

from emulator import Emulator, Recorded
from tests.contract import buyer, paying
from tests.contract.buyer import Errand, Visit, accepted, children, polls, slow, submits, until
from tests.thinned import every_case, thinned

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks")

PROVIDERS = ("hidream", "volcengine", "resumable")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(latency=0.05) as running:
        yield running


def errand(emulator: Emulator, folder: Path, **more: Any) -> Errand:
    return Errand(emulator.url, str(folder / "journal"), **more)


def at_once(*errands: Errand) -> list[Visit]:
    """What children brought that began at the same moment."""
    begin_at = time.monotonic() + 0.1 + 0.02 * len(errands)
    with children(*(buyer.replace(wanted, begin_at=begin_at) for wanted in errands)) as born:
        return [child.wait() for child in born]


# ---- the same request


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_same_request_twice_at_once(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    """Many rounds, each on a journal of its own: the schema too is made by two at once."""
    for number in range(12 if every_case() else 4):
        emulator.clear()
        wanted = errand(emulator, tmp_path / str(number), provider=provider)
        visits = at_once(wanted, wanted)
        assert all(visited.all_delivered for visited in visits), (number, visits)
        assert len({visited.outcome.pictures for visited in visits}) == 1
        assert len(submits(emulator)) == 1, number


@thinned("provider", PROVIDERS)
def test_the_same_requests_in_four_processes(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    for number in range(4 if every_case() else 2):
        emulator.clear()
        wanted = errand(emulator, tmp_path, provider=provider, pictures=(1, 2, 3), take=number)
        visits = at_once(wanted, wanted, wanted, wanted)
        assert all(visited.all_delivered for visited in visits), (number, visits)
        found = {tuple(outcome.pictures for outcome in visited.outcomes) for visited in visits}
        assert len(found) == 1
        assert list(accepted(emulator).values()) == [1, 1, 1], number


def test_equal_requests_in_another_order_and_number(emulator: Emulator, tmp_path: Path) -> None:
    """The first of two equal requests is the same purchase everywhere; the second is one of its own."""
    errands = [errand(emulator, tmp_path, pictures=pictures) for pictures in ((1, 2, 1), (2, 1))]
    first, second = at_once(*errands)
    assert first.all_delivered and second.all_delivered
    assert sorted(accepted(emulator).values()) == [1, 2]
    assert second.outcomes[0].pictures == first.outcomes[1].pictures


def test_who_waits_is_told_of_a_failure_too(emulator: Emulator, tmp_path: Path) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"task_status": [3]}})
    wanted = errand(emulator, tmp_path)
    visits = at_once(wanted, wanted, wanted)
    for visited in visits:
        assert visited.outcome.problem and visited.outcome.problem.is_a("TaskFailedError")
        assert visited.outcome.problem.task_id
    assert len(submits(emulator)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_who_waits_is_told_of_a_lost_answer_too(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    emulator.add_fault({"phase": "submit", "do": {"reset": "after", "delay": 0.3}})
    wanted = errand(emulator, tmp_path, provider=provider)
    visits = at_once(wanted, wanted)
    for visited in visits:
        assert visited.outcome.problem and visited.outcome.problem.is_a("AmbiguousSubmitError")
    assert len(submits(emulator)) == 1


def test_a_refusal_is_not_the_other_processes_last_word(emulator: Emulator, tmp_path: Path) -> None:
    """Refused is not billed: who waited may try with what it has, and gets its picture."""
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"status": 400, "delay": 0.3}})
    wanted = errand(emulator, tmp_path)
    visits = at_once(wanted, wanted)
    assert all(visited.outcome.delivered or visited.outcome.problem for visited in visits)
    assert buyer.visit(wanted).outcome.delivered
    assert sum(accepted(emulator).values()) == 1


# ---- the owner goes away


@pytest.mark.parametrize("provider", ["hidream", "resumable"])
def test_another_process_finishes_what_a_killed_one_bought(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path, provider=provider)
    with slow(emulator) as finish, children(wanted) as [owner]:
        until(lambda: polls(emulator))
        with children(wanted) as [joined]:
            until(lambda: joined.waits)
            owner.send(signal.SIGKILL)
            owner.wait()
            finish()
            visited = joined.wait()
    assert visited.outcome.delivered
    [submit] = submits(emulator)
    # The kill may cut a poll in two: the emulator then records it without a task id.
    assert {poll.task_id for poll in polls(emulator)} - {""} == {submit.task_id}


def test_another_process_finishes_what_an_interrupted_one_bought(emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path)
    now = tmp_path / "now"
    with slow(emulator) as finish, children(buyer.replace(wanted, interrupt_when=str(now))) as [owner]:
        until(lambda: polls(emulator))
        with children(wanted) as [joined]:
            until(lambda: joined.waits)
            now.touch()
            assert owner.wait().outcome.interrupted
            finish()
            assert joined.wait().outcome.delivered
    assert len(submits(emulator)) == 1


def test_a_killed_owner_does_not_take_the_others_slots_with_it(tmp_path: Path) -> None:
    """A dead process holds no place of the limiter, whatever it had admitted."""
    with Emulator(latency=1.0) as emulator:
        one_at_once = {"REMOTE_IMAGE_HIDREAM_AT_ONCE": "1"}
        emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"hang": 5.0}})
        with children(errand(emulator, tmp_path, environment=one_at_once)) as [owner]:
            until(lambda: accepted(emulator))
            owner.send(signal.SIGKILL)
            owner.wait()
        other = buyer.visit(errand(emulator, tmp_path, pictures=(2,), environment=one_at_once))
        assert other.outcome.delivered, other
        assert other.outcome.seconds < 8


# ---- one limiter, one budget


def most_at_once(spans: list[tuple[float, float]]) -> int:
    events = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    count = most = 0
    for _, step in events:
        count += step
        most = max(most, count)
    return most


def lives_of_tasks(emulator: Emulator) -> list[tuple[float, float]]:
    """From the arrival of a submit to the answer that told the task's end (the last poll)."""
    lives = []
    for submit in submits(emulator):
        ends = [poll.ended for poll in polls(emulator) if poll.task_id == submit.task_id and poll.ended]
        assert submit.accepted and ends
        lives.append((submit.started, max(ends)))
    return lives


def test_the_limit_of_tasks_holds_across_processes(tmp_path: Path) -> None:
    with Emulator(latency=0.3) as emulator:
        limited = {"REMOTE_IMAGE_HIDREAM_AT_ONCE": "3"}
        errands = [
            errand(emulator, tmp_path, pictures=tuple(range(first, first + 4)), environment=limited)
            for first in (0, 100, 200)
        ]
        assert all(visited.all_delivered for visited in at_once(*errands))
        lives = lives_of_tasks(emulator)
        assert len(lives) == 12
        # All three places are used, and never one more.
        assert most_at_once(lives) == 3


def test_the_limit_of_volcengine_holds_across_processes(tmp_path: Path) -> None:
    with Emulator(latency=0.3) as emulator:
        limited = {"REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "2"}
        errands = [
            errand(emulator, tmp_path, provider="volcengine", pictures=pictures, environment=limited)
            for pictures in ((1, 2, 3), (4, 5, 6))
        ]
        assert all(visited.all_delivered for visited in at_once(*errands))

        def ended(record: Recorded) -> float:
            assert record.ended is not None
            return record.ended

        spans = [(record.started, ended(record)) for record in submits(emulator)]
        assert len(spans) == 6
        assert most_at_once(spans) == 2


def test_the_budget_is_shared_by_all_processes(emulator: Emulator, tmp_path: Path) -> None:
    day = {"REMOTE_IMAGE_PICTURES_PER_DAY": "10"}
    errands = [
        errand(emulator, tmp_path, pictures=tuple(range(first, first + 8)), together=False, environment=day)
        for first in (0, 100, 200)
    ]
    visits = at_once(*errands)
    outcomes = [outcome for visited in visits for outcome in visited.outcomes]
    assert sum(outcome.delivered for outcome in outcomes) == 10
    assert emulator.billed == 10
    for outcome in outcomes:
        if not outcome.delivered:
            assert outcome.problem and outcome.problem.is_a("QuotaError"), outcome
            assert outcome.problem.provider is None and outcome.problem.billed == "no"
            assert "REMOTE_IMAGE_PICTURES_PER_DAY" in outcome.problem.en


def test_another_process_s_submit_again_is_bought_once(emulator: Emulator, tmp_path: Path) -> None:
    """The user presses the button once, and two processes take it up."""
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"reset": "after"}})
    wanted = errand(emulator, tmp_path)
    assert buyer.visit(wanted).outcome.problem
    [task] = buyer.tasks(wanted)
    again = buyer.replace(wanted, again=(task.journal_id,))
    visits = at_once(again, wanted, wanted)
    assert visits[0].outcome.delivered
    for visited in visits[1:]:
        # Before the button was pressed it is still explained.
        assert visited.outcome.delivered or visited.outcome.problem
    assert sum(accepted(emulator).values()) == 2


def test_submit_again_is_pressed_while_a_node_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the node found when it looked is not what it finds when it acts: it brings a picture, or says why not."""
    paying.brisk(monkeypatch)
    with paying.Shop(tmp_path / "journal") as shop:
        shop.fault("submit", reset="after")
        call = paying.upscale(shop.hidream, paying.A)
        shop.trouble(call)
        batch = Batch(shop.journal, [call], Run("prompt-2").node().item())
        elsewhere = shop.open()
        [task] = elsewhere.task_list.tasks()
        assert elsewhere.submit_again(task.journal_id)
        result = batch.run(0, paying.idle_watch())
        assert result.error is not None or (result.delivery is not None and result.delivery.pictures)
        shop.buy(call)
        assert shop.accepted == 2
