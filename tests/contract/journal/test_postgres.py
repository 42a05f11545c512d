"""One PostgreSQL for several servers: the same promises as with SQLite, and its password stays where it is."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from emulator import Emulator
from tests.contract import buyer
from tests.contract.buyer import Errand, Outcome, Visit, accepted, children, polls, slow, submits, until, visit
from tests.thinned import thinned

if TYPE_CHECKING:
    from devtools.programs.postgres import PostgreSQL

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks and POSIX signals")

# The password of the fixture's server.
CANARY = "canary-of-the-database"
PROVIDERS = ("hidream", "volcengine", "resumable")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def errand(emulator: Emulator, postgres_url: str, tmp_path: Path) -> Iterator[Callable[..., Errand]]:
    """Errands of the servers of a studio: each has a folder of its own, all share a database and a store."""

    def of_server(name: str = "one", **more: Any) -> Errand:
        directory = str(tmp_path / name / "journal")
        return Errand(emulator.url, directory, journal_url=postgres_url, store=str(tmp_path / "store"), **more)

    yield of_server
    for path in tmp_path.rglob("*"):
        # Whatever a test made happen: logs, reports, store and the servers' own folders.
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def sql(url: str, statement: str) -> int:
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(statement).rowcount  # type: ignore[arg-type]


def refused(outcome: Outcome, *words: str) -> None:
    problem = outcome.problem
    assert problem is not None, outcome
    assert problem.is_a("ConfigurationError"), problem
    assert problem.billed == "no" and problem.provider is None
    assert problem.zh and problem.zh != problem.en
    for word in words:
        assert word in problem.en and word in problem.zh, problem


# ---- the same promises


@pytest.mark.parametrize("provider", PROVIDERS)
def test_bought_by_one_server_and_reused_by_another(
    provider: str, errand: Callable[..., Errand], emulator: Emulator
) -> None:
    bought = visit(errand("one", provider=provider, pictures=(1, 2)))
    assert bought.all_delivered
    requests = len(emulator.requests)
    reused = visit(errand("two", provider=provider, pictures=(2, 1)))
    assert reused.plan == (0, 2, 0)
    assert [outcome.pictures for outcome in reused.outcomes] == [outcome.pictures for outcome in bought.outcomes][::-1]
    assert len(emulator.requests) == requests, "not even a poll"
    assert buyer.states(errand("three")) == ["delivered", "delivered"]


@thinned("provider", PROVIDERS)
def test_two_servers_with_the_same_request_at_once(
    provider: str, errand: Callable[..., Errand], emulator: Emulator
) -> None:
    for take in range(8):
        emulator.clear()
        begin_at = time.monotonic() + 0.2
        both = [errand(name, provider=provider, take=take, begin_at=begin_at) for name in ("one", "two")]
        with children(*both) as born:
            visits = [child.wait() for child in born]
        assert all(visited.all_delivered for visited in visits), (take, visits)
        assert len(submits(emulator)) == 1, take


def explained(visited: Visit) -> bool:
    problem = visited.outcome.problem
    if problem is None:
        return False
    assert problem.is_a("AmbiguousSubmitError") and "nothing was sent now" in problem.en.lower(), problem
    return True


@thinned("provider", PROVIDERS)
def test_killed_after_any_commit(provider: str, errand: Callable[..., Errand], emulator: Emulator) -> None:
    ambiguous = 0
    for number in range(1, 100):
        emulator.clear()
        wanted = errand("one", provider=provider, pictures=(number,))
        first = visit(wanted, at=number, side="after")
        if not first.died:
            assert first.all_delivered
            break
        second = visit(wanted)
        assert second.outcome.delivered or explained(second), (number, second)
        assert second.outcome.seconds < 5
        assert sum(accepted(emulator).values()) <= 1, number
        ambiguous += not second.outcome.delivered
        assert visit(wanted, take=1).outcome.delivered
    else:
        raise AssertionError("the child dies at every commit")
    assert number > 4 and 1 <= ambiguous <= 3


def test_another_server_finishes_what_a_killed_one_bought(errand: Callable[..., Errand], emulator: Emulator) -> None:
    with slow(emulator), children(errand("one")) as [owner]:
        until(lambda: polls(emulator))
        owner.send(signal.SIGKILL)
        owner.wait()
    relief = visit(errand("two"))
    assert relief.outcome.delivered and relief.plan == (0, 0, 1)
    [submit] = submits(emulator)
    # The kill may cut a poll in two: the emulator then records it without a task id.
    assert {poll.task_id for poll in polls(emulator)} - {""} == {submit.task_id}


def test_a_server_on_another_machine_died(errand: Callable[..., Errand], emulator: Emulator, postgres_url: str) -> None:
    """Nobody here can see its processes: its lease ends by the database's time."""
    with slow(emulator), children(errand("one")) as [owner]:
        until(lambda: polls(emulator))
        owner.send(signal.SIGKILL)
        owner.wait()
    assert sql(postgres_url, "UPDATE owners SET machine = 'elsewhere', beat_at = beat_at - 60") == 1
    relief = visit(errand("two"))
    assert relief.outcome.delivered and len(submits(emulator)) == 1


@thinned("calls", [30, 100])
def test_many_calls_at_once_within_a_budget(
    calls: int, errand: Callable[..., Errand], emulator: Emulator
) -> None:
    budget = calls // 2
    day = {"REMOTE_IMAGE_PICTURES_PER_DAY": str(budget)}
    servers = [
        errand(name, pictures=tuple(range(first, first + calls)), together=False, environment=day)
        for name, first in (("one", 0), ("two", 1000))
    ]
    with children(*servers) as born:
        outcomes = [outcome for child in born for outcome in child.wait().outcomes]
    assert sum(outcome.delivered for outcome in outcomes) == emulator.billed == budget
    for outcome in outcomes:
        if not outcome.delivered:
            assert outcome.problem and outcome.problem.is_a("QuotaError"), outcome


def test_one_limiter_for_all_servers(errand: Callable[..., Errand], tmp_path: Path) -> None:
    two = {"REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "2"}
    with Emulator(latency=0.3) as emulator:
        servers = [
            buyer.replace(errand(name, provider="volcengine", pictures=pictures, environment=two), url=emulator.url)
            for name, pictures in (("one", (1, 2, 3)), ("two", (4, 5, 6)))
        ]
        with children(*servers) as born:
            assert all(child.wait().all_delivered for child in born)
        spans = [(record.started, record.ended or 0.0) for record in submits(emulator)]
    assert len(spans) == 6
    most = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert most == 2


# ---- what is missing


def test_without_a_shared_store(errand: Callable[..., Errand], emulator: Emulator) -> None:
    refused(visit(errand(), store="").outcome, "REMOTE_IMAGE_STORE_DIR")
    assert emulator.requests == []


def test_without_the_driver(errand: Callable[..., Errand], emulator: Emulator) -> None:
    refused(visit(errand(), missing=("psycopg", "psycopg2", "psycopg_binary")).outcome, "psycopg")
    assert emulator.requests == []


def test_a_wrong_password(
    errand: Callable[..., Errand], emulator: Emulator, postgres: PostgreSQL, tmp_path: Path
) -> None:
    wrong = "wrong/canary @3%d"
    url = f"postgresql://tests:{quote(wrong, safe='')}@127.0.0.1:{postgres.port}/postgres"
    visited = visit(errand(), journal_url=url)
    refused(visited.outcome)
    assert emulator.requests == []
    for path in tmp_path.rglob("*"):
        if path.is_file():
            told = path.read_bytes().decode("utf-8", "replace")
            assert wrong not in told and quote(wrong, safe="") not in told, path


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///",
        "mysql://u:canary-pw@h/d",
        "canary-pw",
        "http://x",
        "postgresql://u:canary-pw@[::1/d",
        "postgresql://u:canary-pw@127.0.0.1:x/d",
    ],
)
def test_an_address_that_is_none(url: str, errand: Callable[..., Errand], emulator: Emulator, tmp_path: Path) -> None:
    visited = visit(errand(), journal_url=url)
    refused(visited.outcome)
    assert visited.outcome.seconds < 15
    assert emulator.requests == []
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary-pw" not in path.read_bytes(), path


def test_no_representation_shows_the_password(tmp_path: Path, postgres_url: str) -> None:
    from hidream_volcengine.api import Journal, JournalSettings

    settings = JournalSettings(tmp_path, url=postgres_url, store=tmp_path / "store")
    journal = Journal(settings)
    assert CANARY in postgres_url
    try:
        assert journal.task_list.tasks() == []
        for shown in (settings, journal, vars(journal), *vars(journal).values()):
            assert CANARY not in repr(shown) and CANARY not in str(shown), type(shown)
    finally:
        journal.close()


# ---- the server goes away


def test_the_database_is_gone_before_a_submit(
    errand: Callable[..., Errand], emulator: Emulator, postgres: PostgreSQL
) -> None:
    assert visit(errand()).outcome.delivered
    postgres.kill()
    gone = visit(errand(), pictures=(2,))
    refused(gone.outcome)
    assert gone.outcome.seconds < 15
    assert len(submits(emulator)) == 1
    postgres.start()
    assert visit(errand(), pictures=(2,)).outcome.delivered
    assert visit(errand("two")).outcome.delivered
    assert len(submits(emulator)) == 2


@thinned("back", [False, True], ids=["for good", "for a while"], kept=(1,))
@thinned("provider", PROVIDERS)
def test_the_database_is_killed_after_acceptance(
    provider: str, back: bool, errand: Callable[..., Errand], emulator: Emulator, postgres: PostgreSQL
) -> None:
    assert visit(errand(provider=provider, pictures=(9,))).outcome.delivered
    emulator.clear()
    emulator.add_fault({"phase": "submit", "do": {"hang": 3.0}})
    # Long enough for a database to come back.
    for _ in range(1 if back else 0):
        emulator.add_fault({"phase": "result", "times": 60, "do": {"task_status": [2]}})
    with children(errand(provider=provider)) as [child]:
        until(lambda: accepted(emulator))
        postgres.kill()
        if back:
            until(lambda: submits(emulator)[0].status)
            postgres.start()
        first = child.wait()
    assert first.outcome.delivered, (first, first.log)
    [submit] = submits(emulator)
    if provider != "volcengine":
        assert submit.task_id in first.log
    if not back:
        postgres.start()
    again = visit(errand("two", provider=provider))
    assert len(submits(emulator)) == 1
    if back:
        assert again.outcome.delivered, "writing was not tried again"
    else:
        assert again.outcome.delivered or explained(again)


def test_the_database_restarts_while_a_task_runs(
    errand: Callable[..., Errand], emulator: Emulator, postgres: PostgreSQL
) -> None:
    with children(errand(), errand("two")) as [one, two]:
        with slow(emulator):
            # One has bought it, and the other one has found that.
            until(lambda: polls(emulator) and (one.waits or two.waits))
            postgres.stop()
            postgres.start()
        visits = [one.wait(), two.wait()]
    assert len(submits(emulator)) == 1
    assert any(visited.outcome.delivered for visited in visits), visits
    for visited in visits:
        if not visited.outcome.delivered:
            # Who only waited cannot know whether the other one's purchase is billed.
            problem = visited.outcome.problem
            assert problem is not None and problem.is_a("JournalError") and problem.billed == "unknown"
    assert visit(errand("three")).outcome.delivered
    assert len(submits(emulator)) == 1
