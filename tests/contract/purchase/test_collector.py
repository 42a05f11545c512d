"""The background poller: it polls parked tasks, slowly and one by one, stores their pictures, and never buys."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    BackgroundPoller,
    CallCancelled,
    Journal,
    PaidCall,
    Plan,
    Profiles,
)
from hidream_volcengine.api.core.task import TaskRef, UnknownTaskError
from hidream_volcengine.api.core.text import Text
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.store import Store
from hidream_volcengine.api.journal.task_list import TaskList
from hidream_volcengine.api.purchase import background as collector
from hidream_volcengine.api.purchase import pictures as pictures_module
from hidream_volcengine.api.services import HiDreamService
from pytest import LogCaptureFixture, MonkeyPatch

from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    PATIENT,
    RUNNING,
    A,
    B,
    C,
    Clock,
    Shop,
    cvprocess,
    park,
    photo_set,
    pictures,
    upscale,
)
from tests.contract.raw_servers import until
from tests.thinned import every_case


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Iterator[Shop]:
    with Shop(tmp_path, clock=clock) as running:
        yield running


def collect(shop: Shop, **changes: str) -> int:
    """Run one round of a background poller with changed settings; check that it submits nothing."""
    # The deadlines of a node: long enough to be told from those of the poller, short enough for a test that fails.
    of_a_node = {"REMOTE_IMAGE_QUEUE_SECONDS": "8", "REMOTE_IMAGE_RUN_SECONDS": "8"}
    profiles = Profiles({**shop.environment, **of_a_node, **changes}, lambda: pytest.fail("the sandbox was started"))
    submits = len(shop.submits)
    try:
        return BackgroundPoller(shop.journal, profiles).poll_once()
    finally:
        assert len(shop.submits) == submits, "the collector bought something"


def by_url(shop: Shop) -> PaidCall:
    """CVProcess, whose answer names the picture's address instead of bringing its bytes."""
    call = cvprocess(shop.volcengine, A)
    return replace(call, request=call.request.model_copy(update={"return_url": True}))


def leave_a_picture_behind(shop: Shop, kind: str) -> PaidCall:
    """Leave an accepted, parked task whose picture the service has ready."""
    assert isinstance(shop.clock, Clock)
    shop.clock.now += 1
    if kind == "by url":
        shop.fault("image", None, status=503)
        shop.deadlines = replace(PATIENT, download=0.2)
        with shop.buys(1):
            error = shop.trouble(by_url(shop))
        assert error.billed == "yes"
        shop.deadlines = PATIENT
        shop.mend()
        return by_url(shop)
    if kind == "cvsync2async":
        shop.settings["VOLCENGINE_RESUMABLE"] = "1"
        shop.fault("result", None, **RUNNING)
    else:
        shop.hold()
    call = ANY_CALL["cvprocess" if kind == "cvsync2async" else kind](shop, A)
    before = len(shop.emulator.requests)
    with shop.buys(1):
        buying = shop.buying(call)
        until(lambda: any(record.phase == "result" for record in shop.emulator.requests[before:]), PATIENCE)
        buying.interrupt()
        with pytest.raises(CallCancelled):
            buying.wait()
    shop.mend()
    until(lambda: is_ready(shop, call), PATIENCE)
    return call


def is_ready(shop: Shop, call: PaidCall) -> bool:
    """Whether a look that takes but a moment would find everything of the newest task."""
    task_id = shop.journal.task_list.tasks()[0].task_id
    [task] = [attempt.task for attempt in shop.journal.task_list.orphans(99) if attempt.task.task_id == task_id]
    return all(sub_task.ended for sub_task in call.service.query(task))


def assert_in_the_store(shop: Shop, call: PaidCall, number: int = 1) -> None:
    """The next request has it without a call, and says so."""
    with shop.sends_nothing():
        buying = shop.buying(call)
        assert buying.batch.plan == Plan(buy=0, reuse=1, resume=0)
        assert len(pictures(buying.wait())) == number
    assert (buying.sources.bought, buying.sources.reused) == (0, number)


def sql(shop: Shop, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3")) as connection, connection:
        assert connection.execute(statement, values).rowcount


# ---- what it does


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("kind", ["upscale", "outpaint", "variation", "cvsync2async", "by url"])
def test_what_nobody_waits_for_is_fetched_and_stored(shop: Shop, kind: str, restarted: bool) -> None:
    call = leave_a_picture_behind(shop, kind)
    if restarted:
        shop.restart()
    assert shop.states == ["parked"]
    number = 4 if kind == "variation" else 1
    assert collect(shop) == 1
    assert shop.states == ["stored"], "and nobody has it yet"
    assert shop.journal.task_list.tasks()[0].stored == number
    with shop.sends_nothing():
        assert collect(shop) == 0
    assert_in_the_store(shop, call, number)


def test_everything_that_is_due_is_looked_at_in_one_round(shop: Shop) -> None:
    tasks = [leave_a_picture_behind(shop, kind) for kind in ("by url", "upscale", "outpaint")]
    assert collect(shop) == 3
    assert shop.states == ["stored"] * 3
    for call in tasks:
        assert_in_the_store(shop, call)


def test_a_look_that_hangs_holds_up_no_other(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    """Such as by a name server or a disk that does not answer; a poll that drips is cut (see test_deadlines)."""
    monkeypatch.setattr(collector, "_LONGEST_LOOK", 0.2)
    hanging = leave_a_picture_behind(shop, "outpaint")
    other = leave_a_picture_behind(shop, "upscale")
    first, may_end = shop.journal.task_list.orphans(9)[0].task.task_id, threading.Event()
    query = HiDreamService.query

    def hang(service: HiDreamService, task: TaskRef) -> Any:
        if task.task_id == first:
            may_end.wait(PATIENCE)
        return query(service, task)

    monkeypatch.setattr(HiDreamService, "query", hang)
    try:
        assert collect(shop) == 2
        until(lambda: sorted(shop.states) == ["parked", "stored"] or sorted(shop.states) == ["stored", "submitted"])
    finally:
        may_end.set()
    until(lambda: shop.states == ["stored"] * 2)
    for call in (hanging, other):
        assert_in_the_store(shop, call)


def test_looks_that_hang_are_a_few_at_most(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_LONGEST_LOOK", 0.05)
    call = upscale(shop.hidream, A)
    for take in range(8):
        shop.journal.adopt(
            upscale(shop.hidream, A, take).order("", 0), TaskRef("HiDream", call.service.name, f"t{take}")
        )
    may_end = threading.Event()
    asked: list[str] = []

    def hang(service: HiDreamService, task: TaskRef) -> Any:
        asked.append(task.task_id)
        may_end.wait(PATIENCE)
        raise UnknownTaskError("not there")

    monkeypatch.setattr(HiDreamService, "query", hang)
    try:
        collect(shop)
        until(lambda: len(asked) >= 4, PATIENCE)
        assert len(asked) == 4
    finally:
        may_end.set()


def test_a_round_has_an_end_and_the_next_one_goes_on_from_there(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_AT_ONCE", 2)
    call = upscale(shop.hidream, A)
    ids = [
        shop.journal.adopt(
            upscale(shop.hidream, A, take).order("", 0), TaskRef("HiDream", call.service.name, f"t{take}")
        )
        for take in range(3)
    ]
    assert len(set(ids)) == 3
    assert [collect(shop) for _ in range(3)] == [2, 1, 0]
    asked = {record.task_id for record in shop.emulator.requests}
    assert asked == {"t0", "t1", "t2"}, "each of them was asked for"


def test_a_picture_of_a_set_that_is_not_ready_is_fetched_in_a_later_look(shop: Shop, clock: Clock) -> None:
    leave_a_picture_behind(shop, "variation")
    shop.fault("result", None, task_status=[1, 2, 1, 2])
    assert collect(shop) == 1
    assert (shop.states, shop.journal.task_list.tasks()[0].stored) == (["parked"], 2)
    shop.mend()
    clock.now += 20
    before = len(shop.emulator.requests)
    assert collect(shop) == 1
    fetched = [record for record in shop.emulator.requests[before:] if record.phase == "image"]
    assert (shop.states, len(fetched)) == (["stored"], 2)
    assert_in_the_store(shop, photo_set(shop.hidream, A), 4)


def test_a_task_that_failed_meanwhile_is_written_down_as_failed(shop: Shop) -> None:
    park(shop, "upscale")
    shop.mend()
    shop.fault("result", None, task_status=[3])
    assert collect(shop) == 1
    assert shop.states == ["failed"]
    with shop.sends_nothing():
        assert collect(shop) == 0
        assert "0 calls" in shop.trouble(upscale(shop.hidream, A)).text().en


def test_a_full_store_leaves_the_task_for_the_next_look(shop: Shop, clock: Clock, monkeypatch: MonkeyPatch) -> None:
    call = leave_a_picture_behind(shop, "upscale")

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", full)
        assert collect(shop) == 1
    assert shop.states == ["parked"]
    clock.now += 20
    assert collect(shop) == 1
    assert_in_the_store(shop, call)


# ---- what it leaves alone


def test_it_looks_at_nothing_that_was_not_accepted_or_is_finished(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    shop.fault("submit", status=400)
    shop.trouble(upscale(shop.hidream, B))
    shop.fault("submit", reset="after")
    assert isinstance(shop.trouble(upscale(shop.hidream, C)), AmbiguousSubmitError)
    # Prepared, and its owner gone.
    shop.journal.claim(upscale(shop.hidream, A, 1).order("", 0))
    # Sent, and its owner gone.
    claim = shop.journal.claim(upscale(shop.hidream, A, 2).order("", 0))
    assert isinstance(claim, Claim)
    claim.submitting()
    sql(shop, "DELETE FROM owners")
    shop.journal = shop.open()
    before = shop.states
    assert sorted(before) == ["ambiguous", "delivered", "prepared", "refused", "submitting"]
    with shop.sends_nothing():
        assert collect(shop) == 0
    assert shop.states == before


def test_it_leaves_alone_what_somebody_waits_for(shop: Shop) -> None:
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    buying.reaches("running")
    other, shop.journal = shop.journal, shop.open()
    assert collect(shop) == 0
    shop.journal = other
    assert collect(shop) == 0
    shop.mend()
    assert pictures(buying.wait())


def test_it_takes_over_what_a_dead_owner_left(shop: Shop) -> None:
    """The attempt is not parked: its process was killed."""
    call = leave_a_picture_behind(shop, "upscale")
    [task] = shop.journal.task_list.tasks()
    shop.journal.claim_task(task.journal_id)
    other = shop.open()
    assert other.task_list.tasks()[0].state == "submitted" and other.task_list.orphans(9) == []
    sql(shop, "UPDATE owners SET started = 'in another life'")
    shop.journal = other
    assert collect(shop) == 1
    assert_in_the_store(shop, call)


# ---- slowly


def test_each_look_makes_the_next_one_later(shop: Shop, clock: Clock) -> None:
    park(shop, "upscale")
    assert collect(shop) == 1
    waited = []
    for pause in (15, 30, 60, 120, 240, 480, 600, 600) if every_case() else (15, 30):
        clock.now += pause - 0.5
        assert collect(shop) == 0, f"before {pause} s"
        clock.now += 1.0
        assert collect(shop) == 1, f"after {pause} s"
        waited.append(pause)
    clock.now += 7 * 86400
    assert collect(shop) == 1
    clock.now += 86400 - 0.5
    assert collect(shop) == 0, "after a week once a day"
    clock.now += 1.0
    shop.mend()
    assert collect(shop) == 1
    assert shop.states == ["stored"]
    assert_in_the_store(shop, upscale(shop.hidream, A))


def test_a_look_takes_no_longer_than_a_moment(shop: Shop) -> None:
    """The other tasks wait for it to end."""
    shop.deadlines = PATIENT
    park(shop, "upscale")
    began = time.monotonic()
    assert collect(shop) == 1
    assert time.monotonic() - began < 5, "the deadlines of a node hold for a node"
    assert shop.states == ["parked"]


def test_a_look_that_fails_does_not_come_sooner(shop: Shop, clock: Clock) -> None:
    park(shop, "upscale")
    for _ in range(2):
        assert collect(shop, HIDREAM_TOKEN="") == 1
        clock.now += 14
        assert collect(shop) == 0
        clock.now += 60


# ---- one that fails does not stop the others


def first_in_turn(shop: Shop, provider: str) -> None:
    sql(shop, "UPDATE attempts SET next_poll_at = -1 WHERE provider = ?", provider)


def adopted(shop: Shop, task_id: str = "elsewhere") -> str:
    """One more parked task, ahead of the others."""
    call = upscale(shop.hidream, C)
    journal_id = shop.journal.adopt(call.order("", 0), TaskRef("HiDream", call.service.name, task_id))
    sql(shop, "UPDATE attempts SET next_poll_at = -1 WHERE id = ?", journal_id)
    return journal_id


def test_a_profile_without_a_key_stops_nobody(shop: Shop) -> None:
    call = leave_a_picture_behind(shop, "by url")
    leave_a_picture_behind(shop, "upscale")
    first_in_turn(shop, "HiDream")
    assert collect(shop, HIDREAM_TOKEN="") == 2
    assert_in_the_store(shop, call)
    assert sorted(shop.states) == ["delivered", "parked"]


def test_a_profile_that_is_gone_stops_nobody(shop: Shop) -> None:
    call = leave_a_picture_behind(shop, "upscale")
    gone = adopted(shop)
    sql(shop, "UPDATE attempts SET profile = 'of last year' WHERE id = ?", gone)
    assert collect(shop) == 2
    assert_in_the_store(shop, call)


@pytest.mark.parametrize("kind", ["upscale", "cvsync2async"])
def test_another_account_is_not_asked_for_this_one_s_task(shop: Shop, clock: Clock, kind: str) -> None:
    """It does not know the task; after a day of such answers the task would count as forgotten."""
    call = leave_a_picture_behind(shop, kind)
    clock.now += 25 * 3600
    shop.fault("result", None, **({"async_status": "not_found"} if kind == "cvsync2async" else {"task_status": [3]}))
    with shop.sends_nothing():
        assert collect(shop, REMOTE_IMAGE_ACCOUNT="another") == 1
    assert shop.states == ["parked"]
    shop.mend()
    clock.now += 20
    assert collect(shop) == 1
    assert_in_the_store(shop, call)


@pytest.mark.parametrize("provider", ["HiDream", "Volcengine", "Another"])
def test_an_endpoint_that_this_version_does_not_know_stops_nobody(shop: Shop, provider: str) -> None:
    """A later version wrote it, and the user has gone back to this one."""
    call = leave_a_picture_behind(shop, "upscale")
    unknown = adopted(shop)
    sql(shop, "UPDATE attempts SET provider = ?, endpoint = 'a video' WHERE id = ?", provider, unknown)
    assert collect(shop) == 2
    assert_in_the_store(shop, call)
    assert sorted(shop.states) == ["delivered", "parked"]


def test_a_service_that_does_not_answer_stops_nobody(shop: Shop) -> None:
    call = leave_a_picture_behind(shop, "by url")
    leave_a_picture_behind(shop, "upscale")
    first_in_turn(shop, "HiDream")
    shop.emulator.add_fault({"endpoint": "upscale", "phase": "result", "times": None, "do": {"reset": "before"}})
    assert collect(shop) == 2
    assert_in_the_store(shop, call)


def test_a_look_that_fails_for_no_known_reason_stops_nobody(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    call = leave_a_picture_behind(shop, "upscale")
    adopted(shop, "broken")
    query = HiDreamService.query

    def fails(service: HiDreamService, task: TaskRef) -> Any:
        if task.task_id == "broken":
            raise RuntimeError("nobody thought of this")
        return query(service, task)

    monkeypatch.setattr(HiDreamService, "query", fails)
    assert collect(shop) == 2
    assert_in_the_store(shop, call)


# ---- several


def test_two_collectors_do_not_fetch_the_same_task_twice_at_once(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    """Both see that it is due; the second one comes to it when the first is in the middle of its look."""
    call = leave_a_picture_behind(shop, "upscale")
    first, second = shop.journal, shop.open()
    together = threading.Barrier(2, timeout=PATIENCE)
    downloading, waiting = threading.Event(), threading.Event()
    downloads: list[str] = []
    orphans, claim_task, waits = TaskList.orphans, Journal.claim_task, Journal.wait_for_change
    download = pictures_module.downloaded

    def both_at_once(task_list: TaskList, limit: int) -> Any:
        found = orphans(task_list, limit)
        together.wait()
        return found

    def one_after_the_other(journal: Journal, journal_id: str) -> Any:
        assert journal is first or downloading.wait(PATIENCE)
        return claim_task(journal, journal_id)

    def wait_for_change(journal: Journal, seconds: float) -> None:
        waiting.set()
        waits(journal, seconds)

    def slow_download(url: str, **rest: Any) -> Any:
        downloads.append(url)
        downloading.set()
        # Until the second one has skipped the task, waits for it, or downloads it, too.
        until(lambda: len(downloads) > 1 or waiting.is_set() or not threads[1].is_alive(), PATIENCE)
        return download(url, **rest)

    monkeypatch.setattr(TaskList, "orphans", both_at_once)
    monkeypatch.setattr(Journal, "claim_task", one_after_the_other)
    monkeypatch.setattr(Journal, "wait_for_change", wait_for_change)
    monkeypatch.setattr(pictures_module, "downloaded", slow_download)
    looked: list[int] = []
    collectors = [BackgroundPoller(journal, shop.profiles) for journal in (first, second)]
    threads = [
        threading.Thread(target=lambda one=one: looked.append(one.poll_once()), daemon=True) for one in collectors
    ]
    with shop.buys(0):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert looked == [1, 1]
    assert len(downloads) == 1
    assert_in_the_store(shop, call)


def test_a_request_that_comes_during_a_look_gets_what_it_brings(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    call = leave_a_picture_behind(shop, "upscale")
    looking, may_go_on = threading.Event(), threading.Event()
    download = pictures_module.downloaded
    downloads: list[str] = []

    def slow_download(url: str, **rest: Any) -> Any:
        downloads.append(url)
        looking.set()
        may_go_on.wait(PATIENCE)
        return download(url, **rest)

    monkeypatch.setattr(pictures_module, "downloaded", slow_download)
    looks = threading.Thread(target=lambda: collect(shop), daemon=True)
    looks.start()
    assert looking.wait(PATIENCE)
    with shop.buys(0):
        buying = shop.buying(call)
        assert buying.batch.plan == Plan(buy=0, reuse=0, resume=1)
        buying.reaches("running")
        may_go_on.set()
        assert len(pictures(buying.wait())) == 1
    looks.join(PATIENCE)
    assert len(downloads) == 1
    assert shop.states == ["delivered"]


# ---- its thread


def threads_of_it() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hidream-volcengine-collector"]


@pytest.fixture
def brisk_collector(shop: Shop, monkeypatch: MonkeyPatch) -> Iterator[BackgroundPoller]:
    monkeypatch.setattr(collector, "_EVERY", 0.01)
    before = set(threads_of_it())
    made = BackgroundPoller(shop.journal, shop.profiles)
    try:
        yield made
    finally:
        made.stop()
        until(lambda: not set(threads_of_it()) - before, PATIENCE)


def test_it_is_started_once_and_keeps_nobody_from_leaving(shop: Shop, brisk_collector: BackgroundPoller) -> None:
    call = leave_a_picture_behind(shop, "upscale")
    before = set(threads_of_it())
    starts = [threading.Thread(target=brisk_collector.start) for _ in range(8)]
    for thread in starts:
        thread.start()
    for thread in starts:
        thread.join(PATIENCE)
    brisk_collector.start()
    [thread] = set(threads_of_it()) - before
    assert thread.daemon
    with shop.buys(0):
        until(lambda: shop.states == ["stored"], PATIENCE)
    brisk_collector.start()
    assert set(threads_of_it()) - before == {thread}
    assert_in_the_store(shop, call)


def test_its_thread_outlives_a_round_that_fails(
    shop: Shop, brisk_collector: BackgroundPoller, monkeypatch: MonkeyPatch, caplog: LogCaptureFixture
) -> None:
    call = leave_a_picture_behind(shop, "upscale")
    orphans = TaskList.orphans
    failures = iter([paying.RemoteImageError(Text("disk full", "磁盘已满")), RuntimeError("nobody thought of this")])

    def fails_twice(task_list: TaskList, limit: int) -> Any:
        for failure in failures:
            raise failure
        return orphans(task_list, limit)

    monkeypatch.setattr(TaskList, "orphans", fails_twice)
    with shop.buys(0):
        brisk_collector.start()
        until(lambda: shop.states == ["stored"], PATIENCE)
    assert "disk full" in caplog.text and "nobody thought of this" in caplog.text
    assert_in_the_store(shop, call)
