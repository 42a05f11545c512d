"""Sets of pictures whose number is not known before, and writes of a claim into a journal that was replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hidream_volcengine.api import (
    CallHandle,
    CancelToken,
    Deadlines,
    Journal,
    JournalSettings,
    TaskRef,
    TaskTimeoutError,
    tensors,
)
from hidream_volcengine.api.core.limits import Budget, Ceiling
from hidream_volcengine.api.core.task import PollError, SubTask
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import Finished, Order, Purchase
from hidream_volcengine.api.journal.tables import attempts, request_rows
from hidream_volcengine.api.purchase import poll as polling
from hidream_volcengine.api.purchase.poll import poll_until_done
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
