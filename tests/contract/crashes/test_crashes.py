"""kill -9 at every commit of a purchase, owners that stop and come back: nothing is bought twice, nothing is lost."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator import Emulator
from tests.contract import buyer
from tests.contract.buyer import Errand, Visit, accepted, children, polls, slow, submits, until, visit
from tests.thinned import every_case, thinned

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks and POSIX signals")

# A lease is 15 s of database time.
EXPIRED = 16.0
UNDECIDED = ("submitting", "ambiguous")
PROVIDERS = ("hidream", "volcengine", "resumable")
# One place of the limiter: the next call shows whether a dead process still holds it.
ONE_AT_ONCE = {"REMOTE_IMAGE_HIDREAM_AT_ONCE": "1", "REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "1"}
# More commits than any purchase makes; a loop over them ends with the first child that survives.
MANY = 200


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def errand(emulator: Emulator, folder: Path, **more: Any) -> Errand:
    return Errand(emulator.url, str(folder / "journal"), **more)


def undecided(dead: Errand, folder: Path) -> int:
    """How many attempts a dead child left between `submitting` and an answer; looked up in a copy."""
    copy = folder / "copy"
    if Path(dead.directory).exists():
        shutil.copytree(dead.directory, copy)
    found = buyer.states(replace(dead, directory=str(copy)))
    return sum(state in UNDECIDED for state in found)


def explained(visited: Visit) -> bool:
    """Whether the one call was not sent again, and says so with everything the service's support will ask for."""
    problem = visited.outcome.problem
    if problem is None:
        return False
    assert problem.is_a("AmbiguousSubmitError"), problem
    assert problem.billed == "unknown"
    assert "nothing was sent now" in problem.en.lower()
    if problem.provider == "HiDream":
        assert problem.request_id and problem.request_id in problem.en and problem.request_id in problem.zh
    return True


# ---- kill -9


@pytest.mark.parametrize("side", ["before", "after"])
@thinned("provider", PROVIDERS, kept=(0, 1))
def test_a_purchase_killed_at_any_commit(provider: str, side: str, emulator: Emulator, tmp_path: Path) -> None:
    ambiguous = 0
    for number in range(1, MANY):
        emulator.clear()
        folder = tmp_path / str(number)
        wanted = errand(emulator, folder, provider=provider, environment=ONE_AT_ONCE)
        first = visit(wanted, at=number, side=side)
        if not first.died:
            assert first.all_delivered
            break
        lost = undecided(wanted, folder)
        sent = submits(emulator)
        assert lost or len(sent) == sum(accepted(emulator).values()), "in flight, and not written down"

        second = visit(wanted)
        assert second.outcome.seconds < 5, "a dead owner is not waited for"
        assert sum(accepted(emulator).values()) <= 1, f"commit {number}: bought twice"
        if explained(second):
            assert lost, f"commit {number}: known, and yet not delivered"
            assert submits(emulator) == sent, "sent again"
            if sent and second.outcome.problem and provider == "hidream":
                assert second.outcome.problem.request_id == sent[0].request_id
            ambiguous += 1
        else:
            assert second.outcome.delivered, (number, second)

        bought = sum(accepted(emulator).values())
        third = visit(wanted, take=1)
        assert third.outcome.delivered, (number, third)
        assert sum(accepted(emulator).values()) == bought + 1
    else:
        raise AssertionError("the child dies at every commit")
    assert number > 4
    # No wide window in which everything is lost. CVProcess' answer is the picture: it is stored before the next commit.
    assert (0 if (provider, side) == ("volcengine", "before") else 1) <= ambiguous <= 3


BATCHES = {
    "HiDream": {"pictures": (1, 2)},
    "HiDream, equal ones": {"pictures": (1, 1)},
    "two pictures in a task": {"count": 2},
    "Volcengine": {"provider": "volcengine", "pictures": (1, 2)},
    "Volcengine, one after the other": {
        "provider": "volcengine",
        "pictures": (1, 2),
        "environment": ONE_AT_ONCE,
    },
}


@thinned("batch", list(BATCHES), kept=(1,))
def test_a_batch_killed_at_any_commit(batch: str, emulator: Emulator, tmp_path: Path) -> None:
    sides = ["before", "after"] if every_case() else ["after"]
    for number, side in itertools.product(range(1, MANY), sides):
        emulator.clear()
        folder = tmp_path / f"{number}{side}"
        wanted = errand(emulator, folder, **BATCHES[batch])  # type: ignore[arg-type]
        first = visit(wanted, at=number, side=side)
        if not first.died:
            assert first.all_delivered
            break
        lost = undecided(wanted, folder)

        second = visit(wanted)
        unclear = [outcome for outcome in second.outcomes if outcome.problem is not None]
        assert all(outcome.problem and outcome.problem.is_a("AmbiguousSubmitError") for outcome in unclear), second
        assert len(unclear) <= lost, f"commit {number}: known, and yet not delivered"
        assert unclear or second.all_delivered
        assert sum(accepted(emulator).values()) <= len(wanted.pictures)
        assert len(set(wanted.pictures)) == 1 or max(accepted(emulator).values(), default=0) <= 1

        last, allowed = second, len(wanted.pictures)
        for _ in wanted.pictures:
            # A failure keeps the node's other calls from being bought, so that this may take two rounds.
            again = tuple(task.journal_id for task in buyer.tasks(wanted) if task.state == "ambiguous")
            allowed += len(again)
            last = visit(wanted, again=again)
            if last.all_delivered:
                break
        assert last.all_delivered, (number, last)
        assert len(wanted.pictures) <= sum(accepted(emulator).values()) <= allowed
    else:
        raise AssertionError("the child dies at every commit")
    assert number > 4


@pytest.mark.parametrize("provider", ["hidream", "resumable"])
def test_killed_while_the_service_works(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    wanted = errand(emulator, tmp_path, provider=provider)
    with slow(emulator), children(wanted) as [child]:
        until(lambda: polls(emulator) or len(submits(emulator)) > 1)
        child.send(signal.SIGKILL)
        child.wait()
    second = visit(wanted)
    assert second.outcome.delivered
    assert sum(accepted(emulator).values()) == 1
    assert second.plan == (0, 0, 1)


def test_a_killed_process_that_nobody_collected_is_dead(emulator: Emulator, tmp_path: Path) -> None:
    """A zombie keeps its process id and its start time, but renews its lease no more."""
    wanted = errand(emulator, tmp_path)
    with ExitStack() as running:
        with slow(emulator):
            process = running.enter_context(buyer.program(wanted))
            until(lambda: polls(emulator))
            process.kill()
        second = visit(wanted)
    assert second.outcome.delivered and second.outcome.seconds < 5
    assert sum(accepted(emulator).values()) == 1


# ---- the answer is lost


@thinned("lost", [{"reset": "after"}, {"cut": 0.3}, {"status": 502, "accept": True}], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_lost_after_acceptance(
    provider: str, lost: dict[str, Any], emulator: Emulator, tmp_path: Path
) -> None:
    emulator.add_fault({"phase": "submit", "do": lost})
    wanted = errand(emulator, tmp_path, provider=provider)
    first = visit(wanted)
    assert first.outcome.problem and first.outcome.problem.is_a("AmbiguousSubmitError")
    for _ in range(2):
        assert explained(visit(wanted))
    assert len(submits(emulator)) == 1, "asking again costs nothing"
    told = visit(wanted).outcome.problem
    assert told and "`take`" in told.en and "`take`" in told.zh, "it says how to buy it all the same"
    [task] = buyer.tasks(wanted)
    assert task.state == "ambiguous"
    assert visit(wanted, again=(task.journal_id,)).outcome.delivered
    assert visit(wanted).outcome.delivered
    assert sum(accepted(emulator).values()) == 2, "the lost one, and the one that the user asked for"
    assert visit(wanted, take=1).outcome.delivered
    assert sum(accepted(emulator).values()) == 3


def test_killed_while_volcengine_makes_the_picture(tmp_path: Path) -> None:
    with Emulator(latency=3.0) as emulator:
        wanted = errand(emulator, tmp_path, provider="volcengine")
        with children(wanted) as [child]:
            until(lambda: accepted(emulator))
            child.send(signal.SIGKILL)
            child.wait()
        assert explained(visit(wanted))
        assert len(submits(emulator)) == 1
        assert visit(wanted, take=1).outcome.delivered


# ---- stopped, and back again


def stopped_clock(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / "clock"
    clock.write_text("0", encoding="utf-8")
    return clock


@thinned("provider", PROVIDERS, kept=(0, 1))
def test_an_owner_stopped_after_any_commit_does_no_harm(provider: str, emulator: Emulator, tmp_path: Path) -> None:
    """Each point has a journal of its own, and all run side by side: a take-over watches a lease for seconds."""
    commits = visit(errand(emulator, tmp_path / "alive", provider=provider, pictures=(999,))).commits
    assert commits > 4
    wanted, stopping = [], []
    for number in range(1, commits + 1):
        folder = tmp_path / str(number)
        of_this = errand(emulator, folder, provider=provider, clock=str(stopped_clock(folder)), pictures=(number,))
        wanted.append(of_this)
        stopping.append(replace(of_this, at=number, side="after", deadly="SIGSTOP"))
    emulator.clear()
    with children(*stopping) as owners:
        for owner in owners:
            until(lambda owner=owner: owner.stopped or not owner.alive)  # type: ignore[misc]
        for of_this in wanted:
            Path(of_this.clock).write_text(str(EXPIRED), encoding="utf-8")
        with children(*wanted) as others:
            for number, other in enumerate(others, 1):
                second = other.wait()
                assert second.outcome.delivered or explained(second), (number, second)
        for number, owner in enumerate(owners, 1):
            owner.send(signal.SIGCONT)
            first = owner.wait()
            assert first.outcome.delivered or explained(first), (number, first)
    assert max(accepted(emulator).values()) == 1, "bought twice"
    for number, of_this in enumerate(wanted, 1):
        third = visit(of_this)
        assert third.outcome.delivered, (number, third)
    assert list(accepted(emulator).values()) == [1] * commits


def test_a_late_task_id_settles_what_was_ambiguous(emulator: Emulator, tmp_path: Path) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"hang": 3.0}})
    clock = stopped_clock(tmp_path)
    wanted = errand(emulator, tmp_path, clock=str(clock))
    with children(wanted) as [owner]:
        until(lambda: accepted(emulator))
        owner.send(signal.SIGSTOP)
        until(lambda: owner.stopped)
        clock.write_text(str(EXPIRED), encoding="utf-8")
        assert explained(visit(wanted)), "nobody but the stopped owner can know the task id"
        until(lambda: submits(emulator)[0].status)
        owner.send(signal.SIGCONT)
        assert owner.wait().outcome.delivered
    again = visit(wanted)
    assert again.outcome.delivered and again.plan == (0, 1, 0)
    assert len(submits(emulator)) == 1


def test_an_owner_stopped_while_polling_is_relieved(emulator: Emulator, tmp_path: Path) -> None:
    clock = stopped_clock(tmp_path)
    wanted = errand(emulator, tmp_path, clock=str(clock))
    with slow(emulator) as finish, children(wanted) as [owner]:
        until(lambda: polls(emulator))
        owner.send(signal.SIGSTOP)
        until(lambda: owner.stopped)
        finish()
        clock.write_text(str(EXPIRED), encoding="utf-8")
        relief = visit(wanted)
        assert relief.outcome.delivered
        owner.send(signal.SIGCONT)
        assert owner.wait().outcome.pictures == relief.outcome.pictures
    assert len(submits(emulator)) == 1
    assert len({poll.task_id for poll in polls(emulator)}) == 1
    assert buyer.states(wanted) == ["delivered"]


def test_a_living_owner_keeps_its_task_however_long_it_takes(tmp_path: Path) -> None:
    """It renews its lease while it waits: later calls wait for it, and only one process polls the service."""
    with Emulator(latency=4) as emulator:
        wanted = errand(emulator, tmp_path)
        with children(wanted) as [owner]:
            until(lambda: polls(emulator))
            joined = visit(wanted)
            assert joined.outcome.delivered and owner.wait().outcome.delivered
        assert len(submits(emulator)) == 1
