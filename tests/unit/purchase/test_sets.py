"""Sets of pictures whose number is not known before, and writes of a claim into a journal that was replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hidream_volcengine.api import (
    CallHandle,
    CancelToken,
    Deadlines,
    Journal,
    JournalSettings,
    ServiceError,
    TaskRef,
    TaskTimeoutError,
    Text,
    tensors,
)
from hidream_volcengine.api.core.limits import Budget, Ceiling
from hidream_volcengine.api.core.task import PollError, SubTask
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import Finished, Order, Purchase
from hidream_volcengine.api.journal.tables import attempts, request_rows
from hidream_volcengine.api.purchase import collect as collecting
from hidream_volcengine.api.purchase import poll as polling
from hidream_volcengine.api.purchase.collect import collect
from hidream_volcengine.api.purchase.poll import poll_until_done
from pytest import MonkeyPatch
from sqlalchemy import delete

WATCH = CallHandle(CancelToken(), lambda progress: None)
A, B, C = (SubTask(name, started=True, image=f"https://example.com/{name}") for name in "abc")
UNANNOUNCED = TaskRef("HiDream", "hidream model photo set", "task-1")
ANNOUNCED = TaskRef("HiDream", "hidream model photo set", "task-1", sub_task_ids=("a", "b", "c"))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "jittered", lambda seconds, *_: 0.0)


def looks(*told: Sequence[SubTask]) -> Callable[[], Sequence[SubTask]]:
    """One list after the other; the last one for ever."""
    left = list(told)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_a_set_that_grows_is_waited_for_until_it_stands_still() -> None:
    assert poll_until_done(UNANNOUNCED, looks([A], [A, B], [A, B, C], [A, B, C]), Deadlines(), WATCH) == (A, B, C)


def test_a_poll_that_failed_does_not_confirm_a_set() -> None:
    told: list[Sequence[SubTask] | PollError] = [[A], PollError("HTTP 502"), [A, B, C], [A, B, C]]

    def query() -> Sequence[SubTask]:
        answer = told.pop(0)
        if isinstance(answer, PollError):
            raise answer
        return answer

    assert poll_until_done(UNANNOUNCED, query, Deadlines(), WATCH) == (A, B, C)


def test_an_announced_set_needs_no_second_look() -> None:
    asked: list[int] = []

    def once() -> Sequence[SubTask]:
        asked.append(1)
        return [C, A, B]

    assert poll_until_done(ANNOUNCED, once, Deadlines(), WATCH) == (A, B, C)
    assert len(asked) == 1


@pytest.mark.parametrize("fewer", [[], [SubTask(name, started=True) for name in "abc"]])
def test_a_poll_that_finds_fewer_confirms_no_number(fewer: list[SubTask]) -> None:
    found = poll_until_done(UNANNOUNCED, looks([A], fewer, [A, B, C], [A, B, C]), Deadlines(), WATCH)
    assert found == (A, B, C)


def test_a_set_that_nobody_confirmed_is_not_whole_at_the_deadline() -> None:
    with pytest.raises(TaskTimeoutError):
        poll_until_done(UNANNOUNCED, looks([A]), Deadlines(queue=0.0, run=0.0), WATCH)


def test_what_is_missing_at_the_deadline_keeps_its_place() -> None:
    found = poll_until_done(ANNOUNCED, looks([A, C]), Deadlines(queue=0.0, run=0.0), WATCH)
    assert [sub_task.sub_task_id for sub_task in found] == ["a", "b", "c"]
    assert isinstance(found[1].error, TaskTimeoutError) and found[0] == A and found[2] == C


# ---- last words


PURCHASE = Purchase("Volcengine", "volcengine outpaint", "default", "account", "", 1, Budget(), Ceiling())
ORDER = Order("f" * 64, PURCHASE, False, 0, 100, "")
PICTURE = tensors.Encoded.of(tensors.encode(np.zeros((4, 4, 3), np.uint8)))


def test_a_picture_whose_row_was_lost_meanwhile_is_not_bought_again(tmp_path: Path) -> None:
    """The journal was replaced while the service worked, and the new one knew nothing of it."""
    journal = Journal(JournalSettings(tmp_path))
    claim = journal.claim(ORDER)
    assert isinstance(claim, Claim)
    with claim:
        claim.submitting()
        with journal._transactions.writing() as (connection, _):
            connection.execute(delete(attempts))
            connection.execute(delete(request_rows))
        journal._transactions.close()
        claim.answered(TaskRef("Volcengine", "volcengine outpaint", "", "vendor-1"))
        assert claim.keep(0, "", PICTURE)
        claim.stored()
    found = journal.claim(ORDER)
    assert isinstance(found, Finished)
    assert [result.sha256 != "" for result in found.attempt.results] == [True]
    journal.close()


# ---- a set that comes in parts


SET = Order("e" * 64, replace(PURCHASE, provider="HiDream", endpoint="hidream model photo set"), False, 0, 100, "")
NOT_YET = SubTask("B", started=True, error=ServiceError(Text("a name server", "域名服务器")), final=False)


def picture(sub_task_id: str, *, is_further: bool = False) -> SubTask:
    png = tensors.encode(np.full((4, 4, 3), ord(sub_task_id[0]) + len(sub_task_id), np.uint8))
    return SubTask(sub_task_id, started=True, base64=tensors.to_base64(png), is_further=is_further)


def service(*answers: Sequence[SubTask]) -> Any:
    """A service whose polls bring these answers, and after them none."""
    left = list(answers)

    def query(task: TaskRef) -> Sequence[SubTask]:
        if not left:
            raise PollError(Text("no answer", "没有应答"))
        return left.pop(0)

    limits = SimpleNamespace(polls_per_second=None)
    deadlines = replace(Deadlines(), queue=0.0, run=5.0 if len(left) > 1 else 0.0, download=0.0)
    account = SimpleNamespace(account_id="account", limits=limits, deadlines=deadlines, sandbox=False)
    endpoint = {"name": "hidream model photo set", "provider": "HiDream", "base_url": "https://example.com"}
    return SimpleNamespace(**endpoint, account=account, query=query, kept_for=1e9)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(JournalSettings(tmp_path))
    yield opened
    opened.close()


def look(journal: Journal, task: TaskRef, *answers: Sequence[SubTask]) -> list[int]:
    """Claim the task, make one look at it, and return the values of the pictures that came."""
    claim = journal.claim(SET)
    assert isinstance(claim, Claim)
    with claim:
        if claim.attempt.task.task_id == "":
            claim.submitting()
            claim.accepted(task)
        try:
            delivery = collect(claim, service(*answers), journal, WATCH, source="resumed")
        except TaskTimeoutError:
            return []
    return [int(pixels[0, 0, 0]) for pixels in delivery.pictures]


@pytest.mark.parametrize("between", [1, 2])
def test_the_picture_that_is_missing_comes_after_a_look_without_an_answer(journal: Journal, between: int) -> None:
    """An unannounced set: while nothing is heard, the stored pictures are listed one after the other."""
    task = replace(UNANNOUNCED, task_id="task-2")
    first, third, fourth = picture("A"), picture("C"), picture("D")
    assert len(look(journal, task, *[[first, NOT_YET, third, fourth]] * 2)) == 3
    for _ in range(between):
        assert len(look(journal, task)) == 3
    came = look(journal, task, *[[first, picture("B"), third, fourth]] * 2)
    assert came == [ord(name) + 1 for name in "ABCD"]
    found = journal.claim(SET)
    assert isinstance(found, Finished)
    assert [(result.position, result.sub_task_id) for result in found.attempt.results] == list(enumerate("ABCD"))


def test_a_further_picture_that_is_missing_comes_after_its_neighbours_have_moved(journal: Journal) -> None:
    task = replace(ANNOUNCED, task_id="task-3", sub_task_ids=("a", "b"))
    further = replace(NOT_YET, sub_task_id="a#2", is_further=True)
    waiting = SubTask("a", started=True)
    assert len(look(journal, task, [waiting, picture("b")])) == 1
    assert len(look(journal, task, [picture("a"), further, picture("b")])) == 2
    assert len(look(journal, task)) == 2
    came = look(journal, task, [picture("a"), picture("a#2", is_further=True), picture("b")])
    assert came == [ord("a") + 1, ord("a") + 3, ord("b") + 1]
    found = journal.claim(SET)
    assert isinstance(found, Finished)
    assert [result.sub_task_id for result in found.attempt.results] == ["a", "a#2", "b"]


def test_pictures_with_the_same_id_stay_two_pictures(journal: Journal) -> None:
    """A service may name both sub tasks like the task."""
    task = replace(UNANNOUNCED, task_id="task-4")
    first, second = picture("A"), replace(picture("B"), sub_task_id="A")
    missing = replace(NOT_YET, sub_task_id="C")
    assert len(look(journal, task, *[[first, second, missing]] * 2)) == 2
    came = look(journal, task, *[[first, second, picture("C")]] * 2)
    assert came == [ord(name) + 1 for name in "ABC"]


def test_a_task_with_more_pictures_than_are_fetched_stays_open_until_all_have_ended(
    journal: Journal, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_MOST_PICTURES", 2)
    task = replace(ANNOUNCED, task_id="task-5")
    first, second = picture("a"), picture("b")
    assert len(look(journal, task, [first, second, SubTask("c", started=True)])) == 2
    assert [task.state for task in journal.task_list.tasks()] == ["parked"]
    assert len(look(journal, task, [first, second, picture("c")])) == 2
    assert isinstance(journal.claim(SET), Finished)


def test_a_further_picture_that_is_stored_stays_while_nothing_is_heard(journal: Journal) -> None:
    task = replace(ANNOUNCED, task_id="task-6")
    further = picture("a#2", is_further=True)
    missing = replace(NOT_YET, sub_task_id="c")
    assert len(look(journal, task, [picture("a"), further, picture("b"), missing])) == 3
    assert len(look(journal, task)) == 3
    gone = replace(NOT_YET, sub_task_id="a#2", is_further=True)
    came = look(journal, task, [picture("a"), gone, picture("b"), picture("c")])
    assert came == [ord("a") + 1, ord("a") + 3, ord("b") + 1, ord("c") + 1]


@pytest.mark.parametrize("state", [SubTask("a", started=True), None])
def test_a_stored_picture_that_is_not_listed_gives_its_place_to_no_other(
    journal: Journal, state: SubTask | None
) -> None:
    """The service takes a finished picture back, or lists fewer than before: what is stored stays stored."""
    task = replace(ANNOUNCED, task_id="task-7")
    further = picture("a#2", is_further=True)
    assert len(look(journal, task, [picture("a"), further, picture("b"), replace(NOT_YET, sub_task_id="c")])) == 3
    look(journal, task, [state or picture("a"), picture("b"), picture("c")])
    [attempt] = [found for found in (journal.finished(SET.key),) if found] or [journal.claim(SET).attempt]  # type: ignore[union-attr]
    assert {result.sub_task_id for result in attempt.results if result.sha256} == {"a", "a#2", "b", "c"}
