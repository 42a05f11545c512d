"""A task that the service does not know: after a day of such answers it may be bought anew, and not before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import RemoteImageError, TaskTimeoutError, fetch_task
from hidream_volcengine.api.core.task import PollError, TaskRef, UnknownTaskError
from hidream_volcengine.api.purchase.background import BackgroundPoller
from hidream_volcengine.api.services import hidream
from hidream_volcengine.api.transport.received import Answer

from tests.contract import paying
from tests.contract import raw_servers as raw
from tests.contract.paying import ANY_CALL, PATIENT, A, Clock, Shop, idle_watch, park, pictures, upscale

HOUR = 3600.0
HTML = "<html><body>task not found</body></html>"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal", clock=Clock()) as running:
        # One poll or two in each call, as the background poller makes.
        running.deadlines = replace(PATIENT, queue=0.1, run=0.1)
        yield running


def later(shop: Shop, hours: float) -> None:
    assert isinstance(shop.clock, Clock)
    shop.clock.now += hours * HOUR


def parked(shop: Shop, service: str = "upscale") -> str:
    shop.deadlines = PATIENT
    park(shop, service)
    shop.mend()
    shop.deadlines = replace(PATIENT, queue=0.1, run=0.1)
    return shop.journal.task_list.tasks()[0].journal_id


def asked(shop: Shop, service: str = "upscale") -> TaskTimeoutError:
    """What queueing it once more says; nothing is bought by that, and it stays a task that goes on."""
    with shop.buys(0):
        error = shop.trouble(ANY_CALL[service](shop, A))
    assert isinstance(error, TaskTimeoutError) and error.billed == "unknown", error
    assert shop.states == ["parked"]
    return error


def is_forgotten(error: RemoteImageError) -> bool:
    told = "forgotten" in error.text().en
    assert told == ("不再保留" in error.text().zh) == ("Submit again" in error.text().en)
    return told


def forgotten_for_a_day(shop: Shop, service: str = "upscale") -> str:
    journal_id = parked(shop, service)
    shop.fault("result", None, forgotten=True)
    later(shop, 23)
    for _ in range(3):  # on a slow machine only one poll fits into each
        asked(shop, service)
    later(shop, 2)
    assert is_forgotten(asked(shop, service))
    return journal_id


@pytest.mark.parametrize("service", ["upscale", "variation"])
def test_after_a_day_of_such_answers_it_may_be_submitted_again(service: str, shop: Shop) -> None:
    journal_id = forgotten_for_a_day(shop, service)
    error = asked(shop, service)
    assert is_forgotten(error) and journal_id in error.text().en and error.task_id in error.text().zh
    (task,) = shop.journal.task_list.tasks()
    assert task.can == ("collect", "submit-again")
    assert shop.journal.submit_again(journal_id)
    shop.mend()
    shop.deadlines = PATIENT
    with shop.buys(1):
        came = pictures(shop.buy(ANY_CALL[service](shop, A)))
    assert came and shop.states == ["delivered", "parked"]
    with shop.sends_nothing():
        assert paying.equal(pictures(shop.buy(ANY_CALL[service](shop, A))), came)


def test_only_the_user_submits_it_again(shop: Shop) -> None:
    forgotten_for_a_day(shop)
    for _ in range(3):
        shop.restart()
        assert is_forgotten(asked(shop))


def test_a_late_picture_still_settles_it(shop: Shop) -> None:
    journal_id = forgotten_for_a_day(shop)
    shop.mend()
    shop.deadlines = PATIENT
    with shop.buys(0):
        assert len(fetch_task(shop.journal, upscale(shop.hidream, A).service, journal_id, idle_watch()).pictures) == 1
    assert shop.states == ["stored"]
    assert not shop.journal.submit_again(journal_id)
    with shop.sends_nothing():
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


def test_the_collectors_looks_count_and_its_picture_settles_it(shop: Shop) -> None:
    journal_id = parked(shop)
    shop.fault("result", None, forgotten=True)
    collector = BackgroundPoller(shop.journal, shop.profiles)
    for hours in (22, 1, 1, 1):
        later(shop, hours)
        assert collector.poll_once() == 1
    assert "submit-again" in shop.journal.task_list.tasks()[0].can
    shop.mend()
    later(shop, 1)
    assert collector.poll_once() == 1
    assert shop.states == ["stored"]
    assert not shop.journal.submit_again(journal_id)


def test_what_became_of_the_later_attempt_is_told(shop: Shop) -> None:
    journal_id = forgotten_for_a_day(shop)
    assert shop.journal.submit_again(journal_id)
    shop.mend()
    shop.fault("submit", status=502, accept=True)
    with shop.buys(1):
        assert "502" in str(shop.trouble(upscale(shop.hidream, A)))
    with shop.buys(0):
        assert "502" in str(shop.trouble(upscale(shop.hidream, A))), "the later attempt is explained"


# ---- what does not count


def is_forgotten_a_day_later(shop: Shop) -> None:
    """From now on every answer is that the task is not known: that takes a day."""
    shop.fault("result", None, forgotten=True)
    for _ in range(3):
        later(shop, 7)
        assert not is_forgotten(asked(shop))
    later(shop, 7)
    assert is_forgotten(asked(shop))


def test_not_before_a_day_has_passed(shop: Shop) -> None:
    journal_id = parked(shop)
    shop.fault("result", None, forgotten=True)
    for _ in range(11):
        later(shop, 2)
        assert not is_forgotten(asked(shop))
    assert not shop.journal.submit_again(journal_id)
    later(shop, 2.5)
    assert is_forgotten(asked(shop))


def test_not_by_answers_of_a_few_minutes(shop: Shop) -> None:
    parked(shop)
    shop.fault("result", None, forgotten=True)
    later(shop, 48)
    for _ in range(6):
        assert not is_forgotten(asked(shop))
    later(shop, 1.1)
    assert is_forgotten(asked(shop))


def test_not_by_few_answers(shop: Shop) -> None:
    parked(shop)
    shop.deadlines = replace(PATIENT, queue=0.001, run=0.001)  # a single poll each
    shop.fault("result", None, forgotten=True)
    told = []
    for _ in range(5):
        later(shop, 30)
        told.append(is_forgotten(asked(shop)))
    assert told[-1] and not any(told[:3])


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404, "json": {"code": 1001, "message": "task not found"}},
        {"status": 404, "html": True},
        {"status": 500, "json": {"code": 1001, "message": "task not found"}},
        {"status": 403, "json": {"code": 1001, "message": "task not found"}},
        {"json": {"code": 500, "message": "busy"}},
        {"reset": "before"},
    ],
    ids=str,
)
def test_no_other_answer_counts(answer: dict[str, Any], shop: Shop) -> None:
    parked(shop)
    shop.fault("result", None, **answer)
    for _ in range(6):
        later(shop, 20)
        assert not is_forgotten(asked(shop))


def test_a_state_in_between_begins_the_day_anew(shop: Shop) -> None:
    parked(shop)
    shop.fault("result", None, forgotten=True)
    for _ in range(3):
        later(shop, 7)
        asked(shop)
    shop.mend()
    shop.hold()
    asked(shop)
    shop.mend()
    is_forgotten_a_day_later(shop)


def test_a_state_on_the_day_before_the_first_such_answer(shop: Shop) -> None:
    parked(shop)
    later(shop, 48)
    shop.hold()
    asked(shop)
    shop.mend()
    shop.restart()
    is_forgotten_a_day_later(shop)


# ---- how a service says it


def query(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(hidream, "ask", lambda *_, **__: answer)
    service = raw.hidream_call("http://127.0.0.1:1").service
    return service.query(TaskRef("HiDream", service.name, "task-1", "our-request"))


@pytest.mark.parametrize(
    "words",
    [
        "task not found",
        "Task does not exist",
        "the task doesn't exist",
        "no such task: task-1",
        "Unknown task",
        "The task was not found",
        "task has expired",
        "cannot find this task",
        "record not found",
        "task_id not found",
        "任务不存在",
        "未找到该任务",
        "任务ID不存在",
        "任务已过期",
    ],
)
@pytest.mark.parametrize("code", [1001, 0, 404, "TaskNotFound"])
def test_words_for_a_task_that_is_not_known(code: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = raw.encoded_body({"code": code, "message": words, "result": None})
    for status, certain in ((200, True), (404, False)):
        with pytest.raises(UnknownTaskError) as told:
            query(Answer(status, {}, body), monkeypatch)
        assert told.value.certain is certain


@pytest.mark.parametrize(
    "words",
    [
        "token expired",
        "page not found",
        "the task is queued",
        "task failed: unknown error",
        "busy",
        "查询任务失败，令牌已失效",
        "任务查询失败：token已过期",
        "Query task failed: token has expired",
        "get task result failed: API key not found",
        "Task query failed: signature is invalid",
        "invalid parameter: task_id",
        "Invalid request: task_id and request_id required",
        "unknown parameter task_id",
        "user record not found",
        "task service: user not found",
        "任务参数不存在",
    ],
)
def test_words_for_something_else(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PollError) as told:
        query(Answer(200, {}, raw.encoded_body({"code": 1001, "message": words})), monkeypatch)
    assert type(told.value) is PollError


def test_a_page_that_says_it_is_none_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        query(Answer(200, {}, HTML.encode()), monkeypatch)
    except UnknownTaskError as told:
        assert not told.certain
    except PollError:
        pass


def test_a_task_that_is_listed_is_known_whatever_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    told = raw.results(raw.sub_task(status=2), message="task not found yet")
    (sub_task,) = query(Answer(200, {}, raw.encoded_body(told)), monkeypatch)
    assert not sub_task.ended


def test_volcengines_not_found_ends_a_task_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal", clock=Clock(time.time())) as shop:
        park(shop, "cvsync2async")
        shop.mend()
        shop.fault("result", None, forgotten=True)
        shop.deadlines = replace(PATIENT, queue=0.1, run=0.1)
        call = paying.cvprocess(shop.volcengine, A)
        later(shop, 23.5)
        assert isinstance(shop.trouble(call), TaskTimeoutError) and shop.states == ["parked"]
        later(shop, 1)
        error = shop.trouble(call)
        assert "not_found" in error.text().en and "24" in error.text().en and error.billed == "unknown"
        assert shop.states == ["failed"] and shop.accepted == 1
