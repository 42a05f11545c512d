"""A user stops waiting for one task: its call ends, and what that means for the money is said and written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hidream_volcengine.api import (
    Batch,
    BatchOutcome,
    CallCancelled,
    CallHandle,
    CancelToken,
    Journal,
    JournalSettings,
    PaidCall,
    Plan,
    Progress,
    RemoteImageError,
    Result,
    Retry,
    Run,
    TaskTimeoutError,
    fetch_task,
    retry_of,
)
from hidream_volcengine.api.journal.rows import read_attempts
from hidream_volcengine.api.journal.tables import attempts
from pytest import MonkeyPatch

from tests.contract import paying, raw_servers
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    A,
    B,
    C,
    Shop,
    both_providers,
    cvprocess,
    equal,
    park,
    pictures,
    upscale,
)
from tests.contract.raw_servers import RawServer, until


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running
        until(lambda: not running.journal.stop_registry._calls, PATIENCE)


def newest(shop: Shop) -> str:
    return shop.journal.task_list.tasks()[0].journal_id


def stop(shop: Shop, journal_id: str = "") -> None:
    assert shop.journal.stop_registry.stop(journal_id or newest(shop))


def error_of(results: list[Result]) -> TaskTimeoutError:
    [result] = results
    assert type(result.error) is TaskTimeoutError and result.delivery is None
    return result.error


def assert_unsent(error: RemoteImageError) -> None:
    assert error.billed == "no"
    assert "nothing was submitted" in error.text().en and "未提交" in error.text().zh


def assert_parked(error: RemoteImageError, shop: Shop) -> None:
    assert error.billed == "unknown"
    assert error.task_id == shop.submits[-1].task_id != ""
    for words in ("You stopped waiting", "may be billed", "queue again", "free of charge"):
        assert words in error.text().en
    for words in ("已停止等待", "可能会计费", "重新运行"):
        assert words in error.text().zh


def polled(shop: Shop) -> bool:
    return any(record.phase == "result" for record in shop.emulator.requests)


# ---- nothing was sent yet


@both_providers
def test_while_it_waits_for_a_place_nothing_is_sent(tmp_path: Path, service: str) -> None:
    with Shop(tmp_path, REMOTE_IMAGE_HIDREAM_AT_ONCE="1", REMOTE_IMAGE_VOLCENGINE_AT_ONCE="1") as shop:
        with shop.answers_held() as may_answer, shop.buys(1):
            first = shop.buying(ANY_CALL[service](shop, A))
            until(lambda: shop.states == ["submitting"], PATIENCE)
            second = shop.buying(ANY_CALL[service](shop, B))
            second.reaches("waiting")
            stop(shop)
            error = error_of(second.wait())
            assert_unsent(error)
            assert shop.states == ["cancelled", "submitting"]
            assert not first.cancels[0].cancelled, "its own token only"
            may_answer.set()
            first.wait()
        with shop.buys(1):
            assert pictures(shop.buy(ANY_CALL[service](shop, B)))


@both_providers
def test_in_the_middle_of_the_upload_it_is_cut(shop: Shop, service: str) -> None:
    with RawServer(raw_servers.stalled) as server:
        shop.host = server.url
        large = paying.photo(1600, 1600)
        buying = shop.buying(ANY_CALL[service](shop, large))
        until(lambda: shop.states == ["submitting"] and server.connections and server.connections[0].head, PATIENCE)
        stop(shop)
        assert_unsent(error_of(buying.wait()))
        assert (shop.states, server.whole) == (["cancelled"], 0)
    shop.host = ""
    batch = Batch(shop.journal, [ANY_CALL[service](shop, large)], Run().node().item())
    assert batch.plan == Plan(buy=1, reuse=0, resume=0)


def test_between_two_tries(shop: Shop) -> None:
    shop.fault("submit", None, status=429, headers={"Retry-After": "30"})
    buying = shop.buying(upscale(shop.hidream, A))
    buying.reaches("queued")
    stop(shop)
    assert_unsent(error_of(buying.wait()))
    assert shop.states == ["cancelled"]
    shop.mend()
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A))


# ---- after the last byte


@pytest.mark.parametrize("service", ["upscale", "variation", "cvsync2async"])
def test_a_task_whose_answer_is_awaited_is_parked_with_it(shop: Shop, service: str) -> None:
    """The answer is still heard: without it, its task would be lost."""
    if service == "cvsync2async":
        shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    call = ANY_CALL["cvprocess" if service == "cvsync2async" else service]
    with shop.answers_held() as may_answer, shop.buys(1):
        buying = shop.buying(call(shop, A))
        until(lambda: shop.accepted, PATIENCE)
        stop(shop)
        token = buying.cancels[0]
        until(lambda: token.left_behind(0.05), PATIENCE)
        told = token.explanation()
        assert (type(told), told.billed) == (TaskTimeoutError, "unknown")
        assert "was sent and may be billed" in told.text().en and "请求已发出" in told.text().zh
        assert buying.alive and shop.states == ["submitting"]
        may_answer.set()
        assert_parked(error_of(buying.wait()), shop)
    assert shop.states == ["parked"]
    with shop.buys(0):
        assert pictures(shop.buy(call(shop, A)))
    assert shop.states == ["delivered"]


def test_a_picture_that_is_the_answer_is_stored_all_the_same(shop: Shop) -> None:
    with shop.answers_held() as may_answer, shop.buys(1):
        buying = shop.buying(cvprocess(shop.volcengine, A))
        until(lambda: shop.accepted, PATIENCE)
        stop(shop)
        assert buying.cancels[0].explanation().billed == "unknown"
        may_answer.set()
        error = error_of(buying.wait())
    assert (error.billed, shop.states) == ("yes", ["stored"])
    assert "is in the store" in error.text().en and "图片库" in error.text().zh
    with shop.sends_nothing():
        assert pictures(shop.buy(cvprocess(shop.volcengine, A)))


@pytest.mark.parametrize("service", ["upscale", "variation"])
def test_a_submitted_task_is_parked(shop: Shop, service: str) -> None:
    shop.hold()
    with shop.buys(1):
        buying = shop.buying(ANY_CALL[service](shop, A))
        until(lambda: polled(shop), PATIENCE)
        stop(shop)
        assert_parked(error_of(buying.wait()), shop)
    assert shop.states == ["parked"]
    shop.mend()
    with shop.buys(0):
        assert pictures(shop.buy(ANY_CALL[service](shop, A)))


def test_a_task_that_is_being_downloaded_is_parked(shop: Shop) -> None:
    shop.fault("image", None, status=503)
    with shop.buys(1):
        buying = shop.buying(upscale(shop.hidream, A))
        buying.reaches("downloading")
        stop(shop)
        assert_parked(error_of(buying.wait()), shop)
    assert shop.states == ["parked"]
    shop.mend()
    with shop.buys(0):
        assert pictures(shop.buy(upscale(shop.hidream, A)))


def test_what_the_service_said_meanwhile_is_told_instead(shop: Shop) -> None:
    shop.fault("submit", status=400)
    with shop.answers_held() as may_answer:
        buying = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.submits, PATIENCE)
        stop(shop)
        may_answer.set()
        [result] = buying.wait()
    assert result.error is not None and result.error.code == 400
    assert shop.states == ["refused"]


def test_a_task_that_failed_meanwhile_is_not_said_to_go_on(shop: Shop) -> None:
    shop.fault("submit", task_status=[3])
    journal = Journal(JournalSettings(shop.folder), on_change=lambda: stop_all() if failed() else None)
    shop._journals.append(journal)

    def stop_all() -> None:
        journal.stop_registry.stop(*journal.stop_registry.ids())

    def failed() -> bool:
        return bool(journal.stop_registry.ids()) and shop.states == ["failed"]

    error = error_of(paying.buy(journal, [upscale(shop.hidream, A)]))
    assert error.billed == "unknown" and "You stopped waiting" in error.text().en
    assert "nothing is bought twice" in error.text().en and "free of charge" not in error.text().en
    assert "不会因此重复购买" in error.text().zh and "免费" not in error.text().zh


def test_one_whose_answer_is_not_here_is_promised_nothing(shop: Shop) -> None:
    with shop.answers_held() as may_answer:
        buying = shop.buying(cvprocess(shop.volcengine, A))
        until(lambda: shop.accepted, PATIENCE)
        stop(shop)
        told = buying.cancels[0].explanation().text()
        assert "nothing is bought twice" in told.en and "not lost" not in told.en
        assert "不会因此重复购买" in told.zh and "没有丢失" not in told.zh
        may_answer.set()
        buying.wait()


# ---- several calls


def test_its_siblings_that_were_not_sent_stay_unsent(tmp_path: Path) -> None:
    with Shop(tmp_path, REMOTE_IMAGE_HIDREAM_AT_ONCE="1") as shop:
        shop.hold()
        with shop.buys(1):
            buying = shop.buying(*(upscale(shop.hidream, image) for image in (A, B, C)))
            until(lambda: polled(shop), PATIENCE)
            [under_way] = [task.journal_id for task in shop.journal.task_list.tasks() if task.state == "submitted"]
            stop(shop, under_way)
            results = buying.wait()
        outcome = BatchOutcome(results)
        error = outcome.error(accept_partial=False)
        assert isinstance(error, TaskTimeoutError) and "2 calls were not submitted" in str(error)
        assert [result.error is None for result in results].count(True) == 2, "the rest would have to be bought"
        assert (outcome.counts().waiting, outcome.counts().not_submitted) == (1, 2)
        assert sorted(shop.states) == ["cancelled", "cancelled", "parked"]


def test_its_siblings_that_are_under_way_go_on(shop: Shop) -> None:
    shop.hold()
    with shop.buys(2):
        buying = shop.buying(upscale(shop.hidream, A), upscale(shop.hidream, B))
        until(lambda: shop.states == ["submitted"] * 2 and polled(shop), PATIENCE)
        stopped = newest(shop)
        stop(shop, stopped)
        until(lambda: sorted(shop.states) == ["parked", "submitted"], PATIENCE)
        shop.mend()
        results = buying.wait()
    assert sorted(shop.states) == ["delivered", "parked"]
    outcome = BatchOutcome(results)
    assert outcome.error(accept_partial=True) is None
    assert len(outcome.deliveries) == 1 and any("You stopped waiting" in note.en for note in outcome.notes())
    assert [retry_of(result.error) for result in results if result.error] == [Retry.NOW]


# ---- somebody else's work


def test_waiting_for_another_server_ends_and_that_one_goes_on(shop: Shop) -> None:
    shop.hold()
    elsewhere = shop.open()
    with shop.buys(1):
        working = paying.Buying(elsewhere, [upscale(shop.hidream, A)])
        until(lambda: polled(shop), PATIENCE)
        waiting = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.journal.stop_registry.ids(), PATIENCE)
        stop(shop)
        error = error_of(waiting.wait())
        assert error.billed == "unknown" and "submitted nothing" in error.text().en
        assert shop.states == ["submitted"]
        shop.mend()
        assert pictures(working.wait())


def test_what_it_submitted_itself_and_lost_to_another_server_was_submitted(shop: Shop) -> None:
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    until(lambda: polled(shop), PATIENCE)
    elsewhere = shop.open()
    with elsewhere._transactions.writing() as (connection, now):
        elsewhere._heartbeat.renew(connection, now)
        [attempt] = read_attempts(connection, attempts.c.state == "submitted")
        taken = elsewhere._claims.own(elsewhere._take_over(connection, now, attempt))
    # Its next write is refused, since the claim is lost; then it waits for the other process.
    shop.mend()
    until(lambda: [call.works for call in shop.journal.stop_registry._calls] == [False], PATIENCE)
    stop(shop)
    assert_parked(error_of(buying.wait()), shop)
    with taken:
        pass


def test_all_who_wait_for_it_here_stop(tmp_path: Path) -> None:
    """If only one stopped, the next one would go on with the request."""
    with Shop(tmp_path, REMOTE_IMAGE_HIDREAM_AT_ONCE="1") as shop:
        shop.hold()
        first = shop.buying(upscale(shop.hidream, A))
        until(lambda: polled(shop), PATIENCE)
        with shop.buys(0):
            buyings = [shop.buying(upscale(shop.hidream, B)) for _ in range(3)]
            until(lambda: len(shop.journal.stop_registry._calls) == 4, PATIENCE)
            stop(shop)
            for buying in buyings:
                error_of(buying.wait())
            assert shop.states == ["cancelled", "submitted"]
        shop.mend()
        first.wait()


def test_fetching_a_task_by_its_id_stops(shop: Shop) -> None:
    park(shop, "upscale")
    service = upscale(shop.hidream, A).service
    ended: list[BaseException] = []

    def work() -> None:
        try:
            fetch_task(shop.journal, service, newest(shop), CallHandle(CancelToken(), lambda progress: None))
        except BaseException as problem:
            ended.append(problem)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until(lambda: shop.journal.stop_registry.ids(), PATIENCE)
    with shop.buys(0):
        stop(shop)
        thread.join(PATIENCE)
    [error] = ended
    assert isinstance(error, TaskTimeoutError)
    assert_parked(error, shop)
    assert shop.states == ["parked"]


# ---- nobody to stop


def test_nobody_waits(shop: Shop) -> None:
    assert not shop.journal.stop_registry.stop("rv-0000000000000000")
    assert not shop.journal.stop_registry.stop("")
    shop.buy(upscale(shop.hidream, B))
    assert not shop.journal.stop_registry.stop(newest(shop))
    shop.emulator.clear()
    park(shop, "upscale")
    assert not shop.journal.stop_registry.stop(newest(shop))


def test_an_interrupted_call_is_not_stopped_once_more(shop: Shop) -> None:
    with shop.answers_held() as may_answer:
        buying = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.accepted, PATIENCE)
        buying.interrupt()
        assert not shop.journal.stop_registry.stop(newest(shop))
        may_answer.set()
        with pytest.raises(CallCancelled):
            buying.wait()


def test_only_the_first_stop_counts(shop: Shop) -> None:
    with shop.answers_held() as may_answer:
        buying = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.accepted, PATIENCE)
        stop(shop)
        assert not shop.journal.stop_registry.stop(newest(shop))
        may_answer.set()
        error_of(buying.wait())


@pytest.mark.parametrize("fault", [None, {"status": 400}, {"status": 500}, {"task_status": [3]}])
def test_no_call_is_remembered_after_its_end(shop: Shop, fault: dict[str, object] | None) -> None:
    if fault:
        shop.fault("submit", **fault)
    shop.buy(upscale(shop.hidream, A))
    assert not shop.journal.stop_registry._calls


# ---- at any moment: never lost, never bought twice


def stop_at(shop: Shop, call: Callable[[], PaidCall], moment: int, kind: str) -> bool:
    """Buy, and stop at change number N of the journal or progress; return whether the call made so many changes."""
    met: list[str] = []
    stopped: list[bool] = []

    def meet(what: str) -> None:
        met.append(what)
        if len(met) == moment and not stopped:
            ids = journal.stop_registry.ids()
            stopped.append(bool(ids) and journal.stop_registry.stop(*ids))

    journal = Journal(JournalSettings(shop.folder), on_change=lambda: meet("change") if kind == "journal" else None)
    shop._journals.append(journal)
    shop.journal = journal
    batch = Batch(journal, [call()], Run().node().item())

    def heard(progress: Progress) -> None:
        if kind == "progress":
            meet(progress.stage)

    try:
        result = batch.run(0, CallHandle(CancelToken(), heard))
    finally:
        assert not journal.stop_registry._calls
    assert (result.error is not None) == (stopped == [True]), (result, stopped)
    if result.error is not None:
        assert type(result.error) is TaskTimeoutError
        sent = bool(shop.accepted)
        assert (result.error.billed == "no") == (not sent), result.error
    return len(met) >= moment


@pytest.mark.parametrize("kind", ["journal", "progress"])
@pytest.mark.parametrize("service", ["upscale", "cvprocess", "cvsync2async"])
def test_stopped_at_any_moment_it_is_bought_once(tmp_path: Path, service: str, kind: str) -> None:
    def call() -> PaidCall:
        return ANY_CALL["cvprocess" if service == "cvsync2async" else service](shop, A)

    errors = 0
    for moment in range(1, 60):
        settings = {"VOLCENGINE_RESUMABLE": "1"} if service == "cvsync2async" else {}
        with Shop(tmp_path / str(moment), **settings) as shop:
            there = stop_at(shop, call, moment, kind)
            errors += shop.states != ["stored"]
            first = pictures(shop.buy(call()))
            assert first and shop.accepted == 1, f"stopped at {moment}"
            with shop.sends_nothing():
                assert equal(pictures(shop.buy(call())), first)
        if not there:
            break
    else:
        pytest.fail("it never ended")
    assert errors > 1
