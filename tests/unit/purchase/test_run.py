"""Who may still submit in a run: accounts, outages, nodes that keep going, and the order of admission."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    AuthenticationError,
    Batch,
    Budget,
    CallCancelled,
    CallHandle,
    CancelToken,
    InvalidInputError,
    Journal,
    JournalSettings,
    ModerationError,
    NodeRun,
    PaidCall,
    QuotaError,
    RemoteImageError,
    Result,
    Run,
    TaskTimeoutError,
    Text,
)
from hidream_volcengine.api.core.cancel import NotSubmitted
from hidream_volcengine.api.core.task import Accepted
from hidream_volcengine.api.journal import Outcome

from tests.unit.purchase.test_batch import Service, account, brings_a_picture, call, picture, task

WATCH = CallHandle(CancelToken(), lambda progress: None)
NO = Text("No.", "不行。")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(JournalSettings(tmp_path))
    yield opened
    opened.close()


@dataclass(frozen=True)
class Account:
    account_id: str


class At:
    """A service at an address, with an account."""

    provider: ClassVar[str] = "HiDream"

    def __init__(self, base_url: str = "https://one", account_id: str = "a") -> None:
        self.base_url, self.account = base_url, Account(account_id)


def may(run: Run, service: At) -> bool:
    try:
        run.check(service)  # type: ignore[arg-type]
    except NotSubmitted as held_back:
        assert held_back.error is not None and held_back.error.what.en.startswith("Not submitted: ")
        assert held_back.error.billed == "no"
        return False
    return True


def fail(run: Run, service: At, kind: type[RemoteImageError], times: int = 1) -> None:
    for _ in range(times):
        run.note_failure(service, kind(NO, provider="HiDream"))  # type: ignore[arg-type]


def test_three_unclear_answers_in_a_row_end_submits_to_this_service_only() -> None:
    run, one, other = Run(), At(), At("https://other")
    fail(run, one, AmbiguousSubmitError, 2)
    assert may(run, one)
    fail(run, other, AmbiguousSubmitError)
    assert may(run, one)
    fail(run, one, AmbiguousSubmitError)
    assert not may(run, one) and may(run, other)
    assert may(Run(), one), "another run asks again"


@pytest.mark.parametrize("clear", ["accepted", "refused", "picture"])
def test_a_clear_answer_between_them_is_no_outage(clear: str) -> None:
    run, one = Run(), At()
    fail(run, one, AmbiguousSubmitError, 2)
    if clear == "refused":
        fail(run, one, ModerationError)
    elif clear == "accepted":
        run.note_accepted(one)  # type: ignore[arg-type]
    else:
        run.note_picture(one)  # type: ignore[arg-type]
    fail(run, one, AmbiguousSubmitError, 2)
    assert may(run, one)


def test_ten_definite_failures_in_a_row_without_a_picture_are_an_outage() -> None:
    run, one = Run(), At()
    fail(run, one, ModerationError, 9)
    run.note_accepted(one)  # type: ignore[arg-type]
    assert may(run, one)
    fail(run, one, InvalidInputError)
    assert not may(run, one)


def test_a_picture_between_them_is_no_outage() -> None:
    run, one = Run(), At()
    fail(run, one, ModerationError, 9)
    run.note_picture(one)  # type: ignore[arg-type]
    fail(run, one, ModerationError, 9)
    assert may(run, one)


def test_what_is_not_the_services_answer_is_no_failure_of_it() -> None:
    run, one = Run(), At()
    for error in [QuotaError(NO), InvalidInputError(NO), TaskTimeoutError(NO, provider="HiDream")] * 10:
        run.note_failure(one, error)  # type: ignore[arg-type]
    assert may(run, one)


@pytest.mark.parametrize("kind", [AuthenticationError, QuotaError])
def test_a_refused_key_or_an_empty_account_ends_submits_to_that_account_only(kind: type[RemoteImageError]) -> None:
    run = Run()
    fail(run, At(account_id="a"), kind)
    assert not may(run, At(account_id="a")) and not may(run, At("https://other", "a"))
    assert may(run, At(account_id="b"))


# ---- order


def test_tickets_pass_in_their_order() -> None:
    order = Run().node().order
    first, second, third = order.ticket(), order.ticket(), order.ticket()
    passed: list[int] = []
    ready = threading.Barrier(3, timeout=10)

    def wait(number: int, ticket: Any) -> None:
        ready.wait()
        ticket.wait(CancelToken())
        passed.append(number)
        ticket.release()

    threads = [threading.Thread(target=wait, args=pair, daemon=True) for pair in ((3, third), (2, second))]
    for thread in threads:
        thread.start()
    ready.wait()
    assert passed == []
    first.release()
    first.release()
    for thread in threads:
        thread.join(10)
    assert passed == [2, 3]


def test_a_wait_for_a_ticket_can_be_cancelled() -> None:
    order, token = Run().node().order, CancelToken()
    order.ticket()
    token.cancel()
    with pytest.raises(CallCancelled):
        order.ticket().wait(token)


def test_a_released_ticket_lets_no_cancelled_call_pass() -> None:
    order, token = Run().node().order, CancelToken()
    ticket = order.ticket()
    ticket.release()
    token.cancel()
    with pytest.raises(CallCancelled):
        ticket.wait(token)


def test_the_first_failure_that_is_known_ends_the_node() -> None:
    node = Run().node()
    node.note_failure()
    first, second = ModerationError(NO), QuotaError(NO)
    node.note_failure(first)
    node.note_failure(second)
    assert node.failure is first and keeps_going().failure is None


# ---- a node that keeps going


def keeps_going(prompt_id: str = "prompt-1") -> NodeRun:
    return Run(prompt_id).node("7", keeps_going=True)


def results(batch: Batch, count: int) -> list[Result]:
    try:
        return [batch.run(index, WATCH) for index in range(count)]
    finally:
        batch.close()


def refused() -> Service:
    return Service(ModerationError(NO, provider="HiDream"))


def test_a_failure_keeps_nothing_else_from_being_submitted(journal: Journal) -> None:
    services = [refused(), brings_a_picture(1), Service(AmbiguousSubmitError(NO, provider="HiDream"))]
    services += [brings_a_picture(2)]
    calls = [call(service, name) for service, name in zip(services, "abcd", strict=True)]
    batch = Batch(journal, calls, keeps_going().item())
    first, second, third, fourth = results(batch, 4)
    assert [service.submits for service in services] == [1, 1, 1, 1]
    assert isinstance(first.error, ModerationError) and isinstance(third.error, AmbiguousSubmitError)
    assert second.delivery is not None and fourth.delivery is not None


def test_an_explained_call_keeps_nothing_else_from_being_submitted(journal: Journal) -> None:
    unclear = call(Service(AmbiguousSubmitError(NO, provider="HiDream")), "a")
    results(Batch(journal, [unclear], keeps_going().item()), 1)
    service, never = brings_a_picture(1), brings_a_picture(2)
    batch = Batch(journal, [call(never, "a"), call(service, "b")], keeps_going("prompt-2").item())
    explained, bought = results(batch, 2)
    assert isinstance(explained.error, AmbiguousSubmitError) and bought.delivery is not None
    assert (never.submits, service.submits) == (0, 1)


def with_budget(service: Service, per_run: int) -> Service:
    service.account = replace(account(), budget=Budget(per_run=per_run))
    return service


def test_the_budget_is_used_up_in_the_order_of_the_items(journal: Journal) -> None:
    """Threads run them in the opposite order, and a later one that would fit is not taken after one that does not."""
    node = keeps_going()
    services = [with_budget(brings_a_picture(number), 3) for number in range(5)]
    sizes = [1, 1, 2, 1, 1]
    calls = [
        [replace(call(service, str(number)), pictures=sizes[number])] for number, service in enumerate(services)
    ]
    batches = [Batch(journal, one, node.item(index)) for index, one in enumerate(calls)]
    found: dict[int, Result] = {}
    threads = [
        threading.Thread(target=lambda index=index: found.update({index: batches[index].run(0, WATCH)}), daemon=True)
        for index in reversed(range(5))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [service.submits for service in services] == [1, 1, 0, 0, 0]
    assert [found[index].held_back for index in range(5)] == [False, False, True, True, True]
    assert all(isinstance(found[index].error, QuotaError) for index in (2, 3, 4))
    assert journal.limiter.budget_left(calls[0][0].order("prompt-1", 0).purchase) == 1


def test_a_budget_that_is_used_up_speaks_for_its_account_only(journal: Journal) -> None:
    """A list of profiles at one node."""
    node, poor, rich = keeps_going(), with_budget(brings_a_picture(1), 0), with_budget(brings_a_picture(2), 5)
    rich.account = replace(rich.account, account_id="another", profile="another")
    [held_back] = results(Batch(journal, [call(poor, "a")], node.item(0)), 1)
    [bought] = results(Batch(journal, [call(rich, "b")], node.item(1)), 1)
    assert held_back.held_back and bought.delivery is not None


def test_what_is_not_submitted_leaves_no_attempt(journal: Journal) -> None:
    node = keeps_going()
    budget = [with_budget(brings_a_picture(number), 1) for number in range(6)]
    for index, service in enumerate(budget):
        results(Batch(journal, [call(service, str(index))], node.item(index)), 1)
    states = sorted(one.state for one in journal.task_list.tasks())
    assert states == ["cancelled", "stored"], "the first that the budget did not hold was asked for"


def test_a_call_that_is_never_run_does_not_hold_up_the_next_items(journal: Journal) -> None:
    node, service = keeps_going(), brings_a_picture(1)
    Batch(journal, [call(brings_a_picture(0), "a")], node.item(0)).close()
    [result] = results(Batch(journal, [call(service, "b")], node.item(1)), 1)
    assert result.delivery is not None


def test_the_same_request_in_two_items_is_one_purchase_and_holds_up_nobody(journal: Journal) -> None:
    node = keeps_going()
    services = [brings_a_picture(1), brings_a_picture(1), brings_a_picture(2)]
    batches = [
        Batch(journal, [call(service, name)], node.item(index, f"label {index}"))
        for index, (service, name) in enumerate(zip(services, "aab", strict=True))
    ]
    found = [results(batch, 1)[0] for batch in batches]
    assert all(one.delivery is not None for one in found)
    assert sum(service.submits for service in services[:2]) == 1 and services[2].submits == 1


def test_a_problem_of_a_call_is_told_and_the_others_are_bought(journal: Journal) -> None:
    service, never = brings_a_picture(1), brings_a_picture(2)
    wrong = replace(call(never, "a"), problem=InvalidInputError(NO))
    told, bought = results(Batch(journal, [wrong, call(service, "b")], keeps_going().item()), 2)
    assert isinstance(told.error, InvalidInputError) and bought.delivery is not None
    assert (never.submits, service.submits) == (0, 1)


# ---- what became of each item


def test_every_item_of_a_run_has_a_row(journal: Journal) -> None:
    node = keeps_going()
    half = Service(Accepted(task(1)), [picture()])
    unclear = Service(AmbiguousSubmitError(NO, provider="HiDream"))
    kinds: list[PaidCall] = [call(half, "a"), call(refused(), "b"), call(unclear, "c")]
    for index, one in enumerate(kinds):
        batch = Batch(journal, [one], node.item(index, f"SKU-{index}"))
        batch.end(results(batch, 1), delivered=True)
    rows = [row.end for row in journal.run_items.rows("prompt-1")]
    assert [(row.item.label, row.outcome, row.source, row.billed) for row in rows] == [
        ("SKU-0", Outcome.CAME, "bought", "yes"),
        ("SKU-1", Outcome.REFUSED, "", "no"),
        ("SKU-2", Outcome.UNCLEAR, "", "unknown"),
    ]
    assert all(row.attempt for row in rows)
    again = Batch(journal, [call(half, "a")], Run("prompt-2").node("7").item(0, "other name"))
    again.end([again.stored(0, WATCH) or Result()], delivered=True)
    [row] = [row.end for row in journal.run_items.rows("prompt-2")]
    assert (row.item.label, row.outcome, row.source) == ("other name", Outcome.CAME, "reused")
    assert half.submits == 1
