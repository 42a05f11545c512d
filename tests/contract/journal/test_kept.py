"""What was bought stays bought: whatever the store, the journal, a result's address or a lost claim does meanwhile."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    Batch,
    BatchOutcome,
    CallCancelled,
    CancelToken,
    ConfigurationError,
    PaidCall,
    Plan,
    RemoteImageError,
    Run,
    ServiceError,
    TaskFailedError,
    tensors,
)
from hidream_volcengine.api.core.text import Text
from hidream_volcengine.api.journal import store
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import Busy, ClaimLost, JournalError
from hidream_volcengine.api.journal.salvage import NOTICE
from hidream_volcengine.api.journal.store import Store
from hidream_volcengine.api.pixels.tensors import Encoded
from hidream_volcengine.api.transport.submit import Phases
from pytest import LogCaptureFixture, MonkeyPatch

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
    errors_of,
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


def call_of(shop: Shop, kind: str, take: int = 0) -> PaidCall:
    if kind == "cvsync2async":
        shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    if kind == "four":
        return img2img(shop.hidream, A, take, count=4)
    call = ANY_CALL["cvprocess" if kind in ("cvsync2async", "by url") else kind](shop, A, take)
    if kind == "by url":
        # The answer names the picture's address instead of bringing its bytes.
        return replace(call, request=call.request.model_copy(update={"return_url": True}))
    return call


def bought(shop: Shop, kind: str) -> list[tensors.Pixels]:
    with shop.buys(1):
        if kind == "four":
            # Small ones are drawn and stored sooner.
            shop.fault("submit", size=[96, 128])
        return pictures(shop.buy(call_of(shop, kind)))


def phases_since(shop: Shop, before: int) -> list[str]:
    return [record.phase for record in shop.emulator.requests[before:]]


def names_take(error: RemoteImageError) -> bool:
    return "take" in error.text().en and "take" in error.text().zh


# ---- a stored picture that is away, and comes back


@contextmanager
def away(shop: Shop, what: str) -> Iterator[None]:
    """One picture, or the whole store, is somewhere else in the block."""
    gone = shop.folder / "store" if what == "the store" else shop.stored_pictures()[0]
    kept = shop.folder / "kept elsewhere"
    gone.rename(kept)
    yield
    assert not gone.exists()
    kept.rename(gone)


@thinned("what", ["a picture", "the store"])
@pytest.mark.parametrize("kind", ["upscale", "four", "cvsync2async", "by url", "cvprocess"])
def test_what_comes_back_to_the_store_is_delivered_from_there(shop: Shop, kind: str, what: str) -> None:
    first = bought(shop, kind)
    assert len(first) == (4 if kind == "four" else 1)
    shop.emulator.clear()
    shop.fault("image", None, status=404)
    shop.deadlines = replace(PATIENT, queue=0.2, run=0.2, download=0.2)
    with away(shop, what):
        error = shop.trouble(call_of(shop, kind))
        assert names_take(error) and error.billed != "no"
        assert type(shop.trouble(call_of(shop, kind))) is type(error), "and nothing is bought by asking again"
        assert shop.submits == []
        if what == "the store":
            shop.restart()
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(call_of(shop, kind))), first)
    with shop.sends_nothing():
        buying = shop.buying(call_of(shop, kind))
        assert buying.batch.plan == Plan(buy=0, reuse=1, resume=0)
        assert equal(pictures(buying.wait()), first)
    assert shop.states == ["delivered"]


LAST_WORDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "failed": ("upscale", "result", {"task_status": [3]}),
    "not_found": ("cvsync2async", "result", {"async_status": "not_found"}),
    "expired": ("cvsync2async", "result", {"async_status": "expired"}),
    "dead link": ("by url", "image", {"status": 404}),
}


@pytest.mark.parametrize("word", list(LAST_WORDS))
def test_a_last_word_of_the_service_does_not_bury_a_picture_that_comes_back(tmp_path: Path, word: str) -> None:
    """The service answers for the task that it failed, but its picture was stored before, and comes back."""
    kind, phase, fault = LAST_WORDS[word]
    clock = Clock(time.time() - 40 * 3600)
    with Shop(tmp_path, clock=clock) as shop:
        first = bought(shop, kind)
        clock.now = time.time()
        shop.restart()
        shop.fault(phase, None, **fault)
        shop.deadlines = replace(SHORT, download=0.2)
        with shop.buys(0), away(shop, "a picture"):
            assert names_take(shop.trouble(call_of(shop, kind)))
        with shop.sends_nothing():
            assert equal(pictures(shop.buy(call_of(shop, kind))), first)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(tensors.encode(B))


@pytest.mark.parametrize("how", ["gone", "cut", "another picture"])
def test_of_several_pictures_only_the_damaged_one_is_fetched(shop: Shop, how: str) -> None:
    first = bought(shop, "four")
    damaged = shop.stored_pictures()[2]
    whole = damaged.read_bytes()
    damage(damaged, how)
    before = len(shop.emulator.requests)
    assert equal(pictures(shop.buy(call_of(shop, "four"))), first)
    assert sorted(phases_since(shop, before)) == ["image", "result"]
    assert damaged.read_bytes() == whole
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(call_of(shop, "four"))), first)


def test_of_several_pictures_two_come_back_one_after_the_other(shop: Shop) -> None:
    """Whatever is fetched while another one is missing stays fetched."""
    first = bought(shop, "four")
    for path in shop.stored_pictures()[:2]:
        path.unlink()
    shop.emulator.add_fault({"phase": "image", "skip": 1, "times": None, "do": {"status": 404}})
    shop.deadlines = replace(PATIENT, download=0.2)
    with shop.buys(0):
        [result] = shop.buy(call_of(shop, "four"))
    assert len(pictures([result])) == 3
    [error] = errors_of(result)
    assert names_take(error) and error.billed == "yes"
    shop.mend()
    before = len(shop.emulator.requests)
    assert equal(pictures(shop.buy(call_of(shop, "four"))), first)
    assert sorted(phases_since(shop, before)) == ["image", "result"]


def test_a_set_with_a_failed_picture_comes_back_with_its_error(shop: Shop) -> None:
    shop.fault("submit", task_status=[1, 3, 1, 1], size=[96, 128])
    first = pictures(shop.buy(call_of(shop, "four")))
    assert len(first) == 3
    shop.emulator.clear()
    shop.deadlines = SHORT
    with away(shop, "a picture"):
        assert names_take(shop.trouble(call_of(shop, "four")))
    with shop.sends_nothing():
        [result] = shop.buy(call_of(shop, "four"))
    assert equal(pictures([result]), first)
    assert [type(error) for error in errors_of(result)] == [TaskFailedError]


# ---- what only reads the store


def standing_still(shop: Shop) -> list[tuple[str, str]]:
    return [(task.journal_id, task.state) for task in shop.journal.task_list.tasks()]


@pytest.mark.parametrize("kind", ["four", "cvprocess"])
def test_what_the_store_has_is_read_without_a_claim(shop: Shop, kind: str) -> None:
    """A node whose pictures are all there needs no place among the calls that wait for a service."""
    first = bought(shop, kind)
    call, before = call_of(shop, kind), standing_still(shop)
    batch = Batch(shop.journal, [call_of(shop, kind, 1), call], Run().node().item())
    assert list(batch.reused) == [1]
    with shop.sends_nothing():
        result = batch.stored(1, idle_watch())
    assert result is not None and equal(pictures([result]), first)
    assert BatchOutcome([result]).counts().reused == len(first)
    assert standing_still(shop) == before and not shop.journal._claims.ids()


@pytest.mark.parametrize("kind", ["four", "cvprocess"])
@pytest.mark.parametrize("meanwhile", ["away", "damaged", "asked for again", "unreadable"])
def test_what_the_store_turns_out_not_to_have_waits_for_a_place(
    shop: Shop, kind: str, meanwhile: str, monkeypatch: MonkeyPatch
) -> None:
    """Nothing is sent or written down before: the task is asked for, or the loss is told, by `run` alone."""
    first = bought(shop, kind)
    batch = Batch(shop.journal, [call_of(shop, kind)], Run().node().item())
    assert list(batch.reused) == [0]
    [file, *_] = shop.stored_pictures()
    if meanwhile == "away":
        file.unlink()
    elif meanwhile == "damaged":
        file.write_bytes(b"no picture")
    elif meanwhile == "asked for again":
        attempt = shop.journal.finished(batch._orders[0].key)
        assert attempt is not None
        shop.open().reopen(attempt)
    before = standing_still(shop)
    with shop.sends_nothing(), monkeypatch.context() as patch:
        if meanwhile == "unreadable":

            def no_answer(*_: object) -> Any:
                raise OSError(errno.EIO, "Input/output error")

            patch.setattr(Store, "read", no_answer)
        assert batch.stored(0, idle_watch()) is None
    assert standing_still(shop) == before and not shop.journal._claims.ids()
    with shop.buys(0):
        result = batch.run(0, idle_watch())
    if kind == "cvprocess" and meanwhile in ("away", "damaged"):
        assert names_take(errors_of(result)[0])
    else:
        assert equal(pictures([result]), first)


def test_what_is_not_in_the_store_is_not_looked_for_there(shop: Shop) -> None:
    park(shop, "upscale")
    before = standing_still(shop)
    batch = Batch(shop.journal, [call_of(shop, "upscale"), call_of(shop, "upscale", 1)], Run().node().item())
    assert list(batch.reused) == []
    with shop.sends_nothing():
        assert [batch.stored(index, idle_watch()) for index in (0, 1)] == [None, None]
    assert standing_still(shop) == before


# ---- nothing is bought that could not be kept


def free_space(monkeypatch: MonkeyPatch, number: int) -> None:
    seen = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(total=number, used=0, free=number))
    monkeypatch.setattr(store, "shutil", seen)


@contextmanager
def no_store(shop: Shop, obstacle: str, monkeypatch: MonkeyPatch) -> Iterator[None]:
    folder, aside = shop.folder / "store", shop.folder / "aside"
    if obstacle == "no room":
        free_space(monkeypatch, 100_000)
        yield
        monkeypatch.setattr(store, "shutil", shutil)
        return
    if folder.exists():
        folder.rename(aside)
    folder.write_text("in the way", encoding="utf-8")
    yield
    folder.unlink()
    if aside.exists():
        aside.rename(folder)


obstacles = pytest.mark.parametrize("obstacle", ["a file in its place", "no room"])


@pytest.mark.parametrize("used", [False, True], ids=["a new journal", "one that was used"])
@obstacles
@both_providers
def test_without_a_place_for_the_picture_nothing_is_bought(
    tmp_path: Path, monkeypatch: MonkeyPatch, service: str, obstacle: str, used: bool
) -> None:
    # The budget has room for exactly what is bought in the end: what was refused here gives its place back.
    with Shop(tmp_path, REMOTE_IMAGE_PICTURES_PER_DAY="2" if used else "1") as shop:
        if used:
            shop.buy(ANY_CALL[service](shop, B))

        def not_needed() -> Any:
            raise AssertionError("an image was encoded although nothing is bought")

        with no_store(shop, obstacle, monkeypatch), shop.sends_nothing():
            for _ in range(2):
                error = shop.trouble(replace(ANY_CALL[service](shop, A), encode=not_needed))
                assert isinstance(error, ConfigurationError)
                assert (error.billed, error.provider, error.task_id) == ("no", None, "")
                assert "store" in error.text().en and "Nothing was submitted" in error.text().en
                assert "图片库" in error.text().zh and "未提交" in error.text().zh
        with shop.buys(1):
            assert len(pictures(shop.buy(ANY_CALL[service](shop, A)))) == 1
        with shop.sends_nothing():
            assert len(pictures(shop.buy(ANY_CALL[service](shop, A)))) == 1


def test_the_room_is_that_of_all_pictures_of_a_call(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    free_space(monkeypatch, 8 * 2**20)
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A))
    with shop.sends_nothing():
        assert isinstance(shop.trouble(img2img(shop.hidream, A, count=4)), ConfigurationError)


def test_a_full_disk_keeps_nobody_from_what_is_paid(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    first = pictures(shop.buy(cvprocess(shop.volcengine, B)))
    park(shop, "upscale")
    shop.mend()
    with no_store(shop, "no room", monkeypatch):
        with shop.sends_nothing():
            assert equal(pictures(shop.buy(cvprocess(shop.volcengine, B))), first)
        with shop.buys(0):
            assert pictures(shop.buy(upscale(shop.hidream, A)))


# ---- a store that fails after acceptance


@contextmanager
def full_store(monkeypatch: MonkeyPatch, after: int = 0) -> Iterator[None]:
    """Each put after the first so many finds the disk full."""
    put = Store.put
    puts = iter(range(10**6))

    def full(self: Store, *rest: Any) -> Any:
        if next(puts) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(self, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", full)
        yield


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize("kind", ["upscale", "cvsync2async", "by url"])
def test_what_could_not_be_stored_is_delivered_and_fetched_again(
    shop: Shop, monkeypatch: MonkeyPatch, caplog: LogCaptureFixture, kind: str, restarted: bool
) -> None:
    with full_store(monkeypatch):
        with shop.buys(1):
            first = pictures(shop.buy(call_of(shop, kind)))
        assert len(first) == 1
        [task] = shop.journal.task_list.tasks()
        assert task.state == "parked"
        lines = [record.getMessage() for record in caplog.records if "could not be stored" in record.getMessage()]
        assert lines and all(task.task_id in line and task.journal_id in line for line in lines)
        assert task.task_id == shop.submits[0].task_id
        if restarted:
            shop.restart()
        with shop.buys(0):
            assert equal(pictures(shop.buy(call_of(shop, kind))), first), "still full"
    before = len(shop.emulator.requests)
    with shop.buys(0):
        assert equal(pictures(shop.buy(call_of(shop, kind))), first)
    assert phases_since(shop, before)
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(call_of(shop, kind))), first)
    assert shop.states == ["delivered"]


def test_only_what_could_not_be_stored_is_fetched_again(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    with full_store(monkeypatch, after=3):
        first = bought(shop, "four")
    assert len(first) == 4 and len(shop.stored_pictures()) == 3
    before = len(shop.emulator.requests)
    assert equal(pictures(shop.buy(call_of(shop, "four"))), first)
    assert sorted(phases_since(shop, before)) == ["image", "result"]


def test_a_synchronous_picture_that_could_not_be_stored_is_lost_and_not_bought_by_itself(
    shop: Shop, monkeypatch: MonkeyPatch, caplog: LogCaptureFixture
) -> None:
    with full_store(monkeypatch), shop.buys(1):
        assert len(pictures(shop.buy(cvprocess(shop.volcengine, A)))) == 1
    [task] = shop.journal.task_list.tasks()
    assert any(
        task.journal_id in record.getMessage() and "could not be stored" in record.getMessage()
        for record in caplog.records
    )
    for _ in range(3):
        with shop.sends_nothing():
            error = shop.trouble(cvprocess(shop.volcengine, A))
        assert type(error) is ServiceError and error.billed == "yes" and names_take(error)
        assert error.request_id == task.request_id or error.request_id in caplog.text
        shop.restart()
    with shop.buys(1):
        shop.buy(cvprocess(shop.volcengine, A, 1))


# ---- a journal that is gone


def delete_journal(folder: Path) -> None:
    found = [*folder.glob("journal.sqlite3*"), folder / "journal.made"]
    assert (folder / "journal.sqlite3") in found
    for path in found:
        path.unlink()


def close_and_delete(shop: Shop) -> None:
    shop.journal.close()
    delete_journal(shop.folder)
    shop.journal = shop.open()


def assert_refused(shop: Shop, *calls: PaidCall) -> RemoteImageError:
    with shop.sends_nothing():
        error = shop.trouble(*calls)
    assert isinstance(error, ConfigurationError)
    assert (error.billed, error.provider) == ("no", None)
    assert "journal" in error.text().en and "日志" in error.text().zh
    return error


@pytest.mark.parametrize("moment", ["while it runs", "while it is off"])
def test_a_deleted_journal_is_noticed_by_the_pictures_of_the_store(shop: Shop, moment: str) -> None:
    kinds = ["upscale", "four", "cvprocess"]
    first = {kind: bought(shop, kind) for kind in kinds}
    if moment == "while it runs":
        delete_journal(shop.folder)
        # Its connections still read the file that has no name any more.
        assert_refused(shop, upscale(shop.hidream, B))
    else:
        close_and_delete(shop)
    notice = shop.folder / NOTICE
    for call in (upscale(shop.hidream, B), *[call_of(shop, kind) for kind in kinds]):
        error = assert_refused(shop, call)
        assert notice.exists() and str(notice) in error.text().en and str(notice) in error.text().zh
    shop.restart()
    assert_refused(shop, upscale(shop.hidream, B))
    if moment == "while it is off":
        notice.unlink()
    else:
        shop.journal.acknowledge()
    assert not notice.exists()
    with shop.sends_nothing():
        for kind in kinds:
            assert equal(pictures(shop.buy(call_of(shop, kind))), first[kind])
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, B))
    shop.restart()
    assert not notice.exists()


def test_a_set_of_which_half_was_stored_is_completed_after_its_journal_is_gone(shop: Shop) -> None:
    shop.emulator.add_fault({"phase": "image", "skip": 2, "times": None, "do": {"status": 404}})
    shop.deadlines = replace(PATIENT, download=0.2)
    assert len(pictures(shop.buy(photo_set(shop.hidream, A)))) == 2
    shop.mend()
    close_and_delete(shop)
    assert_refused(shop, photo_set(shop.hidream, A))
    shop.journal.acknowledge()
    before = len(shop.emulator.requests)
    with shop.buys(0):
        assert len(pictures(shop.buy(photo_set(shop.hidream, A)))) == 4
    assert phases_since(shop, before).count("image") == 2


@pytest.mark.parametrize("store_left", ["nothing", "an empty folder"])
def test_a_journal_that_was_deleted_with_its_store_is_a_new_beginning(shop: Shop, store_left: str) -> None:
    shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B))
    shop.journal.close()
    delete_journal(shop.folder)
    shutil.rmtree(shop.folder / "store")
    if store_left == "an empty folder":
        (shop.folder / "store" / "ab").mkdir(parents=True)
    shop.journal = shop.open()
    with shop.buys(1):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1
    assert not (shop.folder / NOTICE).exists()
    assert len(shop.states) == 1


# ---- an address that is not fetched


REFUSED = ["https://10.1.2.3/p.png", "https://169.254.169.254/p.png", "http://host.example.com/p.png"]


def leads_astray(shop: Shop, kind: str, url: str) -> None:
    """A finished task names this address, until :meth:`Shop.mend`."""
    if kind == "cvsync2async":
        data = {"status": "done", "binary_data_base64": None, "image_urls": [url]}
        shop.fault("result", None, json={"code": 10000, "data": data})
    else:
        shop.fault("result", None, url=url)


@pytest.mark.parametrize("url", REFUSED)
@pytest.mark.parametrize("kind", ["upscale", "cvsync2async"])
def test_a_refused_address_leaves_the_task_resumable(shop: Shop, kind: str, url: str) -> None:
    leads_astray(shop, kind, url)
    with shop.buys(1):
        for restarted in (False, True):
            error = shop.trouble(call_of(shop, kind))
            assert error.billed == "yes" and error.task_id == shop.submits[0].task_id
            assert url in error.text().en and url in error.text().zh
            assert shop.states == ["parked"]
            if restarted:
                shop.restart()
        shop.mend()
        buying = shop.buying(call_of(shop, kind))
        assert buying.batch.plan == Plan(buy=0, reuse=0, resume=1)
        assert len(pictures(buying.wait())) == 1
    with shop.sends_nothing():
        assert len(pictures(shop.buy(call_of(shop, kind)))) == 1
    assert shop.states == ["delivered"]


def test_a_refused_address_of_a_synchronous_answer_is_told_again_and_buys_nothing(shop: Shop) -> None:
    shop.fault("submit", url=REFUSED[0])
    with shop.buys(1):
        for _ in range(3):
            error = shop.trouble(call_of(shop, "by url"))
            assert error.billed == "yes" and REFUSED[0] in error.text().en
            shop.restart()
    assert len(shop.submits) == 1


def test_a_failed_sub_task_stays_final_beside_a_refused_address(shop: Shop) -> None:
    shop.fault("submit", task_status=[1, 3], size=[96, 128])
    leads_astray(shop, "img2img", REFUSED[0])
    call = img2img(shop.hidream, A, count=2)
    with shop.buys(1):
        [refused] = shop.buy(call)
        assert pictures([refused]) == [] and len(errors_of(refused)) == 2
        assert errors_of(refused)[0].billed == "yes"
        assert shop.states == ["parked"]
        shop.mend()
        [second] = shop.buy(call)
    assert len(pictures([second])) == 1
    assert [type(error) for error in errors_of(second)] == [TaskFailedError]
    for _ in range(2):
        with shop.sends_nothing():
            [again] = shop.buy(call)
        assert equal(pictures([again]), pictures([second]))
        assert [type(error) for error in errors_of(again)] == [TaskFailedError]
        shop.restart()


def test_a_task_that_the_service_reports_as_failed_is_not_asked_for_again(shop: Shop) -> None:
    shop.fault("submit", task_status=[3])
    with shop.buys(1):
        assert type(shop.trouble(upscale(shop.hidream, A))) is TaskFailedError
    assert shop.states == ["failed"]
    shop.restart()
    with shop.sends_nothing():
        assert type(shop.trouble(upscale(shop.hidream, A))) is TaskFailedError


# ---- released, and what its thread still does


def claimed(shop: Shop, call: PaidCall) -> Claim:
    claim = shop.journal.claim(call.order("", 0))
    assert isinstance(claim, Claim)
    return claim


def claimed_task(shop: Shop, journal_id: str) -> Claim:
    claim = shop.journal.claim_task(journal_id)
    assert isinstance(claim, Claim)
    return claim


def close(shop: Shop, _: Claim) -> None:
    shop.journal.close()


def heartbeat(shop: Shop, claim: Claim) -> None:
    """It finds an attempt of this process that nobody in it works on."""
    shop.journal._claims.let_go(claim)
    shop.journal._heartbeat.beat()


releases = pytest.mark.parametrize("release", [close, heartbeat])


@releases
@both_providers
def test_a_released_attempt_is_not_sent(shop: Shop, release: Callable[..., None], service: str) -> None:
    claim = claimed(shop, ANY_CALL[service](shop, A))
    release(shop, claim)
    other = shop.open()
    assert other.task_list.tasks()[0].state == "cancelled"
    with pytest.raises(ClaimLost):
        claim.submitting()
    claim.__exit__(None, None, None)
    assert other.task_list.tasks()[0].state == "cancelled"


@releases
def test_a_released_attempt_is_not_admitted_either(shop: Shop, release: Callable[..., None]) -> None:
    call = upscale(shop.hidream, A)
    claim = claimed(shop, call)
    release(shop, claim)
    with pytest.raises((ClaimLost, CallCancelled)):
        shop.journal.limiter.admit(claim, call.order("", 0).purchase, CancelToken())
    assert shop.open().task_list.tasks()[0].pictures == 0


@releases
@both_providers
def test_whoever_lost_an_attempt_before_sending_gets_what_the_next_one_bought(
    shop: Shop, release: Callable[..., None], service: str
) -> None:
    encoding, may_go_on = threading.Event(), threading.Event()
    call = ANY_CALL[service](shop, A)

    def encode() -> Any:
        encoding.set()
        may_go_on.wait(PATIENCE)
        return call.encode()

    with shop.buys(1):
        slow = shop.buying(replace(call, encode=encode))
        assert encoding.wait(PATIENCE)
        [held] = shop.journal._claims._held.values()
        release(shop, held)
        shop.journal = shop.open()
        brought = pictures(shop.buy(call))
        may_go_on.set()
        if release is close:
            # Its process is about to end.
            with pytest.raises(CallCancelled):
                slow.wait()
        else:
            assert equal(pictures(slow.wait()), brought)
    assert shop.states == ["delivered", "cancelled"]


seen_by_others = pytest.mark.parametrize("seen", [False, True], ids=["submitting", "ambiguous"])


@seen_by_others
@pytest.mark.parametrize("kind", ["upscale", "cvsync2async", "by url"])
def test_a_late_answer_settles_a_released_attempt(shop: Shop, kind: str, seen: bool) -> None:
    call = call_of(shop, kind)
    claim = claimed(shop, call)
    claim.submitting()
    shop.journal.close()
    shop.journal = shop.open()
    with shop.buys(1):
        request = call.request.model_copy(update=dict(call.encode()))
        accepted = call.service.submit(request, claim.attempt.request_id, Phases(CancelToken()))
        if seen:
            assert isinstance(shop.trouble(call), AmbiguousSubmitError)
        assert shop.states == ["ambiguous" if seen else "submitting"]
        with suppress(ClaimLost):
            claim.accepted(accepted.task, accepted.picture.image if accepted.picture else "")
        [task] = shop.journal.task_list.tasks()
        assert (task.state, task.task_id, task.error) == ("parked", accepted.task.task_id, None)
        buying = shop.buying(call)
        assert buying.batch.plan == Plan(buy=0, reuse=0, resume=1)
        assert len(pictures(buying.wait())) == 1
    assert shop.states == ["delivered"]


@seen_by_others
@both_providers
def test_an_answer_that_came_after_the_journal_was_closed_is_not_lost(shop: Shop, service: str, seen: bool) -> None:
    """The process ends only after its thread has received the answer and journalled what it paid for."""
    with shop.answers_held() as may_answer, shop.buys(1):
        first = shop.buying(ANY_CALL[service](shop, A))
        until(lambda: shop.accepted, PATIENCE)
        shop.journal.close()
        shop.journal = shop.open()
        if seen:
            assert isinstance(shop.trouble(ANY_CALL[service](shop, A)), AmbiguousSubmitError)
        may_answer.set()
        until(lambda: not first.alive, PATIENCE)
    before = len(shop.emulator.requests)
    with shop.buys(0):
        assert len(pictures(shop.buy(ANY_CALL[service](shop, A)))) == 1
    if service == "cvprocess":
        assert phases_since(shop, before) == [], "it was in the store"


def take_over(shop: Shop, how: str, journal_id: str) -> Claim:
    """Another process goes on with it: the first one closed its journal, or its lease is over."""
    if how == "closed":
        shop.journal.close()
    else:
        with closing(sqlite3.connect(shop.folder / "journal.sqlite3")) as connection, connection:
            connection.execute("DELETE FROM owners")
    shop.journal = shop.open()
    return claimed_task(shop, journal_id)


def keep(claim: Claim, pixels: tensors.Pixels) -> None:
    claim.keep(0, "sub task", Encoded.of(tensors.encode(pixels)))
    claim.stored()


def fail(claim: Claim, _: tensors.Pixels) -> None:
    error = TaskFailedError(Text("It failed.", "失败。"))
    claim.missing(0, "sub task", error)
    claim.failed(error)


@pytest.mark.parametrize("end", [keep, fail])
@pytest.mark.parametrize("how", ["closed", "expired"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_a_stale_owner_changes_no_result_of_the_new_one(
    shop: Shop, order: str, how: str, end: Callable[..., None]
) -> None:
    park(shop, "upscale")
    [task] = shop.journal.task_list.tasks()
    stale = claimed_task(shop, task.journal_id)
    stale.done(1)
    owner = take_over(shop, how, task.journal_id)
    before = shop.journal.task_list.tasks()
    if order == "first":
        end(stale, B)
        assert shop.journal.task_list.tasks() == before
    keep(owner, A)
    if order == "last":
        end(stale, B)
    [after] = shop.journal.task_list.tasks()
    assert (after.state, after.stored, after.error) == ("stored", 1, None)
    found = shop.journal.task_list.picture(task.journal_id, 0)
    assert found is not None and found[0] == tensors.encode(A)


def test_a_stale_word_that_could_not_be_written_in_time_is_dropped(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    park(shop, "upscale")
    [task] = shop.journal.task_list.tasks()
    journal = shop.journal
    stale = claimed_task(shop, task.journal_id)

    def unwritable() -> Any:
        raise JournalError(Text("disk full", "磁盘已满"))

    with monkeypatch.context() as patched:
        patched.setattr(journal._claims, "writing", unwritable)
        stale.done(1)
        keep(stale, B)
        assert journal._claims.unwritten() == [stale]
    owner = take_over(shop, "expired", task.journal_id)
    keep(owner, A)
    # This or the heartbeat writes it, whichever comes first.
    stale.write_again()
    assert journal._claims.unwritten() == []
    found = shop.journal.task_list.picture(task.journal_id, 0)
    assert found is not None and found[0] == tensors.encode(A)
    assert shop.states == ["stored"]


def test_the_end_of_a_lost_claim_does_not_end_the_next_one_of_this_process(shop: Shop) -> None:
    """Lost to another process, given up there and claimed here again, while the first thread was still on its way."""
    park(shop, "upscale")
    [task] = shop.journal.task_list.tasks()
    here = shop.journal
    stale = claimed_task(shop, task.journal_id)
    with take_over(shop, "expired", task.journal_id):
        pass
    assert shop.states == ["parked"]
    shop.journal = here
    claimed_task(shop, task.journal_id)
    stale.__exit__(None, None, None)
    here._heartbeat.beat()
    assert isinstance(here.claim_task(task.journal_id), Busy)


def test_a_task_whose_journal_was_closed_is_gone_on_with_by_whoever_is_next(shop: Shop) -> None:
    shop.hold()
    with shop.buys(1):
        first = shop.buying(upscale(shop.hidream, A))
        first.reaches("running")
        shop.journal.close()
        shop.journal = shop.open()
        second = shop.buying(upscale(shop.hidream, A))
        second.reaches("running", "queued")
        shop.mend()
        with pytest.raises(CallCancelled):
            first.wait()
        assert len(pictures(second.wait())) == 1
    assert shop.states == ["delivered"]
    assert delivery_of(shop.buy(upscale(shop.hidream, A))).source == "reused"
