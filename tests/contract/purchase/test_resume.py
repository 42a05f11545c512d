"""A parked task, one that two calls wait for, or one whose picture is lost is resumed by its task id, never bought."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    CallCancelled,
    ModerationError,
    Plan,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    TaskTimeoutError,
    Text,
    fetch_task,
    tensors,
)
from hidream_volcengine.api.journal import Claim, StoredResult
from pytest import MonkeyPatch

from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    PATIENT,
    SHORT,
    A,
    B,
    Clock,
    Shop,
    both_providers,
    cvprocess,
    delivery_of,
    equal,
    idle_watch,
    img2img,
    park,
    photo_set,
    pictures,
    upscale,
)
from tests.contract.raw_servers import until
from tests.thinned import thinned


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


# ---- parked: resumed


def assert_resumed(shop: Shop, service: str) -> None:
    """A comes without another submit, asked for by its task id."""
    task = shop.journal.task_list.tasks()[0]
    assert task.task_id == shop.submits[-1].task_id
    before = len(shop.emulator.requests)
    with shop.buys(0):
        buying = shop.buying(ANY_CALL["cvprocess" if service == "cvsync2async" else service](shop, A))
        assert buying.batch.plan == Plan(buy=0, reuse=0, resume=1)
        assert pictures(buying.wait())
    polls = [record for record in shop.emulator.requests[before:] if record.phase == "result"]
    assert {record.task_id for record in polls} == {task.task_id}
    assert service == "cvsync2async" or {record.request_id for record in polls} == {task.request_id}
    assert shop.states[0] == "delivered"


@pytest.mark.parametrize("service", ["outpaint", "img2img", "upscale", "variation", "cvsync2async"])
@thinned("restarted", [False, True], kept=(1,))
def test_an_interrupted_task_is_resumed(shop: Shop, service: str, restarted: bool) -> None:
    park(shop, service)
    if restarted:
        shop.restart()
    shop.mend()
    assert_resumed(shop, service)


@pytest.mark.parametrize("status", [0, 2], ids=["queue", "run"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_task_that_took_too_long_is_resumed(shop: Shop, status: int, restarted: bool) -> None:
    shop.hold(status)
    shop.deadlines = SHORT
    error = shop.trouble(upscale(shop.hidream, A))
    assert (type(error), error.task_id) == (TaskTimeoutError, shop.submits[0].task_id)
    assert shop.states == ["parked"]
    with shop.buys(0):
        assert type(shop.trouble(upscale(shop.hidream, A))) is TaskTimeoutError
    shop.deadlines = PATIENT
    if restarted:
        shop.restart()
    shop.mend()
    assert_resumed(shop, "upscale")


def test_a_picture_that_could_not_be_downloaded_is_fetched_later(shop: Shop) -> None:
    shop.fault("image", None, status=503)
    shop.deadlines = replace(PATIENT, download=0.4)
    assert type(shop.trouble(upscale(shop.hidream, A))) is TaskTimeoutError
    shop.restart()
    shop.mend()
    with shop.buys(0):
        assert pictures(shop.buy(upscale(shop.hidream, A)))


def test_of_a_set_only_the_missing_pictures_are_downloaded_later(shop: Shop) -> None:
    shop.emulator.add_fault({"phase": "image", "skip": 2, "times": None, "do": {"status": 404}})
    shop.deadlines = replace(PATIENT, download=0.4)
    shop.buy(photo_set(shop.hidream, A))
    shop.mend()
    before = len(shop.emulator.requests)
    with shop.buys(0):
        assert len(pictures(shop.buy(photo_set(shop.hidream, A)))) == 4
    assert sum(record.phase == "image" for record in shop.emulator.requests[before:]) == 2
    assert len(shop.stored_pictures()) == 4


def test_a_real_service_that_knows_a_task_no_more_gets_no_second_submit(shop: Shop) -> None:
    park(shop, "upscale")
    shop.emulator.clear()
    shop.deadlines = SHORT
    assert shop.trouble(upscale(shop.hidream, A)).task_id
    assert shop.submits == []


def test_a_task_that_lay_parked_overnight_says_nothing_about_how_long_tasks_take(tmp_path: Path) -> None:
    """Else the next ones would be left alone long after they are ready."""
    clock = Clock()
    with Shop(tmp_path, clock=clock) as shop:
        park(shop, "upscale")
        clock.now += 10 * 3600
        shop.restart()
        shop.mend()
        assert_resumed(shop, "upscale")
        began = time.monotonic()
        shop.buy(upscale(shop.hidream, B))
        assert time.monotonic() - began < 5


def test_a_resumed_task_is_asked_for_at_once_however_long_such_tasks_take(tmp_path: Path) -> None:
    """The pause before the first poll counts from the submit, and that was long ago."""
    clock = Clock()
    with Shop(tmp_path, clock=clock) as shop:
        shop.hold()
        slow = shop.buying(upscale(shop.hidream, B))
        slow.reaches("running")
        clock.now += 100
        shop.mend()
        slow.wait()
        shop.hold()
        parked = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.accepted == 2, PATIENCE)
        parked.interrupt()
        until(lambda: not parked.alive, PATIENCE)
        clock.now += 100
        shop.mend()
        began = time.monotonic()
        assert_resumed(shop, "upscale")
        assert time.monotonic() - began < 5


# ---- interrupted


@both_providers
@pytest.mark.parametrize("moment", ["encoding", "waiting after 429"])
def test_an_interrupt_before_sending_is_free_and_leaves_nothing_behind(shop: Shop, service: str, moment: str) -> None:
    call = ANY_CALL[service](shop, A)
    if moment == "encoding":
        # After admission: the last step before the connection is made.
        encoding, may_go_on = threading.Event(), threading.Event()

        def encode() -> Any:
            encoding.set()
            may_go_on.wait(PATIENCE)
            return call.encode()

        buying = shop.buying(replace(call, encode=encode))
        assert encoding.wait(PATIENCE)
        buying.interrupt()
        may_go_on.set()
    else:
        shop.fault("submit", status=429, headers={"Retry-After": "50"})
        buying = shop.buying(call)
        buying.reaches("queued")
    with shop.buys(0):
        buying.interrupt()
        with pytest.raises(CallCancelled):
            buying.wait()
    assert shop.states == ["cancelled"]
    with shop.buys(1):
        shop.buy(ANY_CALL[service](shop, A))


@pytest.mark.parametrize("waiting", ["later", "meanwhile"])
def test_an_interrupted_cvprocess_finishes_and_the_same_request_gets_its_picture(shop: Shop, waiting: str) -> None:
    with shop.answers_held() as may_answer, shop.buys(1):
        first = shop.buying(cvprocess(shop.volcengine, A))
        until(lambda: shop.accepted, PATIENCE)
        first.interrupt()
        if waiting == "later":
            may_answer.set()
            until(lambda: not first.alive, PATIENCE)
            assert shop.states == ["stored"], "nobody has it yet"
        second = shop.buying(cvprocess(shop.volcengine, A))
        if waiting == "meanwhile":
            second.reaches("queued", "running")
            may_answer.set()
        assert pictures(second.wait())
        until(lambda: not first.alive, PATIENCE)
    with shop.sends_nothing():
        assert pictures(shop.buy(cvprocess(shop.volcengine, A)))


# ---- the same request twice at a time


@both_providers
def test_the_same_request_at_once_is_bought_once(shop: Shop, service: str) -> None:
    with shop.buys(1):
        together = [shop.buying(ANY_CALL[service](shop, A)) for _ in range(6)]
        brought = [pictures(buying.wait()) for buying in together]
    assert all(equal(some, brought[0]) and len(some) == 1 for some in brought)
    assert len(shop.journal.task_list.tasks()) == 1


class _WatchedLock:
    """A lock that tells that a thread waits for it."""

    def __init__(self) -> None:
        self._lock, self.awaited = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.awaited.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("change", ["kept", "kept beside an error", "answered", "moved", "missing"])
def test_what_changes_while_another_thread_writes_the_claim_is_written_too(
    change: str, shop: Shop, monkeypatch: MonkeyPatch
) -> None:
    """A call that wants the same writes the claim again: what the claim gets meanwhile must not be dropped with it."""
    encoded = tensors.Encoded.of(tensors.encode(B))
    stored = StoredResult(0, "", hashlib.sha256(encoded.data).hexdigest(), None)
    changes: dict[str, Callable[[Claim], object]] = {
        "kept": lambda claim: claim.keep(0, "", encoded),
        "kept beside an error": lambda claim: claim.keep_beside_an_error(encoded),
        "answered": lambda claim: claim.answered(replace(claim.attempt.task, request_id="request-1")),
        "moved": lambda claim: claim.moved(0, stored),
        "missing": lambda claim: claim.missing(0, "", ServiceError(Text("Gone.", "已丢失。"))),
    }
    write, inside, may_end = Claim._write, threading.Event(), threading.Event()

    def held(claim: Claim, values: Any, **more: Any) -> float:
        now = write(claim, values, **more)
        inside.set()
        assert may_end.wait(PATIENCE)
        return now

    found = shop.journal.claim(cvprocess(shop.volcengine, A).order("", 0))
    assert isinstance(found, Claim)
    with found as claim:
        claim.submitting()
        claim._lock = lock = _WatchedLock()  # type: ignore[assignment]
        with monkeypatch.context() as patch:
            patch.setattr(Claim, "_write", held)
            others = [threading.Thread(target=claim.write_again, daemon=True)]
            others[0].start()
            assert inside.wait(PATIENCE)
            others.append(threading.Thread(target=lambda: changes[change](claim), daemon=True))
            others[1].start()
            until(lambda: lock.awaited.is_set() or not others[1].is_alive(), PATIENCE)
            may_end.set()
            for thread in others:
                thread.join(PATIENCE)
        claim.stored()
    [attempt] = [shop.journal.finished(claim.attempt.key)]
    assert attempt is not None
    assert (attempt.task.request_id == "request-1") if change == "answered" else (len(attempt.results) == 1)


@pytest.mark.parametrize("by", ["queueing again", "journal id"])
def test_a_picture_whose_result_the_journal_has_lost_comes_from_the_store(by: str, shop: Shop) -> None:
    """Earlier versions could drop the row of a result; the side-car beside the picture names its attempt."""
    call = cvprocess(shop.volcengine, A)
    bought = pictures(shop.buy(call))
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3")) as connection, connection:
        assert connection.execute("DELETE FROM results").rowcount == 1
    [task] = shop.journal.task_list.tasks()
    with shop.sends_nothing():
        if by == "journal id":
            found = fetch_task(shop.journal, call.service, task.journal_id, idle_watch()).pictures
        else:
            found = pictures(shop.buy(call))
    assert equal(found, bought)


@pytest.mark.parametrize("journals", ["one process", "two processes"])
def test_whoever_waits_takes_over_the_polling_of_an_interrupted_one(shop: Shop, journals: str) -> None:
    shop.hold()
    with shop.buys(1):
        first = shop.buying(upscale(shop.hidream, A))
        first.reaches("running")
        if journals == "two processes":
            shop.journal = shop.open()
        second = shop.buying(upscale(shop.hidream, A))
        assert second.batch.plan == Plan(buy=0, reuse=0, resume=1)
        second.reaches("queued", "running")
        first.interrupt()
        with pytest.raises(CallCancelled):
            first.wait()
        shop.mend()
        assert pictures(second.wait())
    assert shop.states == ["delivered"]


@both_providers
def test_whoever_waits_gets_the_refusal_of_the_first(shop: Shop, service: str) -> None:
    shop.fault("submit", status=400)
    with shop.answers_held() as may_answer:
        both = [shop.buying(ANY_CALL[service](shop, A))]
        until(lambda: shop.submits, PATIENCE)
        both.append(shop.buying(ANY_CALL[service](shop, A)))
        both[1].reaches("queued", "running")
        may_answer.set()
        errors = [result.error for buying in both for result in buying.wait()]
    assert [type(error) for error in errors] == [ServiceError, ServiceError]
    assert len(shop.submits) == 1


# ---- resumable Volcengine


def test_resumable_is_bought_as_a_task_and_is_the_same_request_as_the_other_way(shop: Shop) -> None:
    shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    with shop.buys(1):
        first = pictures(shop.buy(cvprocess(shop.volcengine, A)))
    assert shop.submits[0].endpoint == "cvsync2async" and shop.journal.task_list.tasks()[0].task_id
    shop.settings["VOLCENGINE_RESUMABLE"] = ""
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(cvprocess(shop.volcengine, A))), first)
    with shop.buys(1):
        other = pictures(shop.buy(cvprocess(shop.volcengine, B)))
    assert shop.submits[1].endpoint == "cvprocess"
    shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(cvprocess(shop.volcengine, A), cvprocess(shop.volcengine, B))), first + other)


def test_a_parked_task_is_resumed_and_a_lost_answer_stays_lost_when_the_way_is_changed(shop: Shop) -> None:
    shop.fault("submit", reset="after")
    lost = shop.trouble(cvprocess(shop.volcengine, B))
    park(shop, "cvsync2async")
    for resumable in ("", "1"):
        shop.settings["VOLCENGINE_RESUMABLE"] = resumable
        with shop.sends_nothing():
            assert type(shop.trouble(cvprocess(shop.volcengine, B))) is type(lost) is AmbiguousSubmitError
    shop.settings["VOLCENGINE_RESUMABLE"] = ""
    shop.mend()
    assert_resumed(shop, "cvsync2async")


def test_a_resumable_task_that_is_not_found_at_first_is_asked_for_again(shop: Shop) -> None:
    shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    shop.fault("result", None, async_status="not_found")
    shop.deadlines = SHORT
    with shop.buys(1):
        assert type(shop.trouble(cvprocess(shop.volcengine, A))) is TaskTimeoutError
    shop.deadlines = PATIENT
    shop.mend()
    assert_resumed(shop, "cvsync2async")


@pytest.mark.parametrize("status", ["not_found", "expired"])
def test_a_resumable_task_that_is_gone_is_not_said_to_have_failed(tmp_path: Path, status: str) -> None:
    clock = Clock(time.time() - 25 * 3600)
    with Shop(tmp_path, clock=clock) as shop:
        park(shop, "cvsync2async")
        clock.now = time.time()
        shop.restart()
        shop.mend()
        shop.fault("result", None, async_status=status)
        with shop.buys(0):
            error = shop.trouble(cvprocess(shop.volcengine, A))
        assert error.billed != "no" and error.task_id == shop.submits[0].task_id
        for words, failed in ((error.text().en, "failed"), (error.text().zh, "失败")):
            assert status in words and "take" in words and failed not in words
        for _ in range(2):
            with shop.sends_nothing():
                assert type(shop.trouble(cvprocess(shop.volcengine, A))) is type(error)
            shop.restart()
        with shop.buys(1):
            shop.mend()
            shop.buy(cvprocess(shop.volcengine, A, 1))


@pytest.mark.parametrize(
    ("fault", "kind", "state"),
    [
        ({"reset": "after"}, AmbiguousSubmitError, "ambiguous"),
        ({"vendor_code": 50411}, ModerationError, "refused"),
        ({"vendor_code": 50511}, ModerationError, "failed"),
        ({"algorithm": 1}, TaskFailedError, "failed"),
    ],
    ids=str,
)
def test_a_resumable_submit_has_the_same_rows_in_the_submit_table(
    shop: Shop, fault: dict[str, Any], kind: type[RemoteImageError], state: str
) -> None:
    shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    shop.fault("submit", **fault)
    assert type(shop.trouble(cvprocess(shop.volcengine, A))) is kind
    assert shop.states == [state]
    with shop.buys(1 if state == "refused" else 0):
        if state == "refused":
            shop.buy(cvprocess(shop.volcengine, A))
        else:
            assert type(shop.trouble(cvprocess(shop.volcengine, A))) is kind


# ---- a store that lost something


def damage(shop: Shop, how: str) -> None:
    [path] = shop.stored_pictures()
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "one bit":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    else:
        # A whole picture, but not the one that was bought.
        path.write_bytes(paying.tensors.encode(B))


DAMAGES = ("gone", "cut", "one bit", "another picture")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_picture_is_fetched_again_by_its_task(shop: Shop, how: str) -> None:
    first = pictures(shop.buy(upscale(shop.hidream, A)))
    damage(shop, how)
    shop.restart()
    with shop.buys(0):
        assert equal(pictures(shop.buy(upscale(shop.hidream, A))), first)
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(upscale(shop.hidream, A))), first)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_picture_of_a_synchronous_call_is_never_served_nor_bought_again(shop: Shop, how: str) -> None:
    shop.buy(cvprocess(shop.volcengine, A))
    damage(shop, how)
    for _ in range(2):
        with shop.sends_nothing():
            error = shop.trouble(cvprocess(shop.volcengine, A))
        assert "take" in error.text().en and "take" in error.text().zh
        shop.restart()
    with shop.buys(1):
        shop.buy(cvprocess(shop.volcengine, A, 1))


def test_a_damaged_picture_of_a_task_that_the_service_forgot_is_not_bought_again(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    damage(shop, "one bit")
    shop.emulator.clear()
    shop.deadlines = SHORT
    error = shop.trouble(upscale(shop.hidream, A))
    assert "take" in error.text().en and "take" in error.text().zh
    assert shop.submits == []


# ---- fetched by id


@pytest.mark.parametrize("by", ["journal_id", "task_id"])
def test_a_finished_task_is_fetched_from_the_store(shop: Shop, by: str) -> None:
    call = img2img(shop.hidream, A, count=2)
    first = delivery_of(shop.buy(call))
    [task] = shop.journal.task_list.tasks()
    shop.restart()
    with shop.sends_nothing():
        fetched = fetch_task(shop.journal, call.service, getattr(task, by), idle_watch())
    assert equal(fetched.pictures, first.pictures)


@pytest.mark.parametrize("by", ["journal_id", "task_id"])
@pytest.mark.parametrize("service", ["upscale", "cvsync2async"])
def test_a_parked_task_is_fetched_when_it_is_ready(shop: Shop, service: str, by: str) -> None:
    park(shop, service)
    shop.mend()
    call = ANY_CALL["cvprocess" if service == "cvsync2async" else service](shop, A)
    [task] = shop.journal.task_list.tasks()
    with shop.buys(0):
        fetched = fetch_task(shop.journal, call.service, getattr(task, by), idle_watch())
    assert len(fetched.pictures) == 1
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(call)), fetched.pictures)


@pytest.mark.parametrize("service", ["variation", "cvsync2async"])
def test_a_task_of_another_server_is_adopted(shop: Shop, service: str, tmp_path_factory: Any) -> None:
    if service == "cvsync2async":
        shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    call = ANY_CALL["cvprocess" if service == "cvsync2async" else service](shop, A)
    shop.buy(call)
    [task] = shop.journal.task_list.tasks()
    shop.folder = tmp_path_factory.mktemp("other")
    shop.restart()
    with shop.buys(0):
        fetched = fetch_task(shop.journal, call.service, task.task_id, idle_watch())
    assert len(fetched.pictures) == (4 if service == "variation" else 1)
    shop.restart()
    with shop.sends_nothing():
        again = fetch_task(shop.journal, call.service, task.task_id, idle_watch())
        [adopted] = shop.journal.task_list.tasks()
        by_id = fetch_task(shop.journal, call.service, adopted.journal_id, idle_watch())
    assert equal(again.pictures, fetched.pictures) and equal(by_id.pictures, fetched.pictures)
    assert shop.stored_pictures()


def test_what_cannot_be_fetched_is_explained(shop: Shop) -> None:
    shop.fault("submit", reset="after")
    shop.trouble(upscale(shop.hidream, A))
    [task] = shop.journal.task_list.tasks()
    service = upscale(shop.hidream, A).service
    with shop.sends_nothing():
        with pytest.raises(AmbiguousSubmitError):
            fetch_task(shop.journal, service, task.journal_id, idle_watch())
        with pytest.raises(RemoteImageError, match="rv-0123456789abcdef"):
            fetch_task(shop.journal, service, "rv-0123456789abcdef", idle_watch())
    shop.deadlines = SHORT
    with shop.buys(0), pytest.raises(RemoteImageError, match="no-such-task"):
        fetch_task(shop.journal, upscale(shop.hidream, A).service, "no-such-task", idle_watch())
