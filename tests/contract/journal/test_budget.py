"""The budget: counted in pictures, reserved before a submit, kept whatever happens to processes, never overshot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hidream_volcengine.api import (
    AuthenticationError,
    BatchOutcome,
    CallCancelled,
    PaidCall,
    QuotaError,
    RemoteImageError,
    Result,
    Run,
)
from pytest import MonkeyPatch

from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    UNLIMITED,
    A,
    B,
    C,
    Clock,
    D,
    Shop,
    both_providers,
    buy,
    cvprocess,
    img2img,
    park,
    photo_set,
    pictures,
    upscale,
)
from tests.contract.raw_servers import photo, until
from tests.thinned import thinned

PER_DAY, PER_RUN = "REMOTE_IMAGE_PICTURES_PER_DAY", "REMOTE_IMAGE_PICTURES_PER_RUN"
both_limits = pytest.mark.parametrize("variable", [PER_DAY, PER_RUN])


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


def assert_used_up(error: RemoteImageError, variable: str, limit: int, counted: int) -> None:
    assert (type(error), error.provider, error.billed) == (QuotaError, None, "no")
    for words in (error.text().en, error.text().zh):
        assert variable in words and f" {limit} " in f" {words} " and f" {counted} " in words


# ---- what is counted


@both_limits
def test_a_batch_over_budget_is_refused_as_a_whole_before_its_first_submit(shop: Shop, variable: str) -> None:
    shop.settings[variable] = "5"
    run = Run("prompt-1")
    shop.buy(img2img(shop.hidream, A, count=3), run=run)
    with shop.sends_nothing():
        error = shop.trouble(*(upscale(shop.hidream, pixels) for pixels in (A, B, C)), run=run)
    assert_used_up(error, variable, 5, 3)
    assert "3" in error.text().en.replace("-", "") and len(shop.journal.task_list.tasks()) == 1
    with shop.buys(2):
        shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B), run=run)
    with shop.sends_nothing():
        assert_used_up(shop.trouble(upscale(shop.hidream, C), run=run), variable, 5, 5)


def test_a_run_has_a_hundred_pictures_unless_it_is_said_otherwise(shop: Shop) -> None:
    calls = [img2img(shop.hidream, A, take, count=4) for take in range(26)]
    with shop.sends_nothing():
        assert_used_up(shop.trouble(*calls, run=Run("prompt-1")), PER_RUN, 100, 0)
    shop.settings[PER_RUN] = "0"
    unlimited = [img2img(shop.hidream, A, take, count=4) for take in range(26)]
    batch = paying.Batch(shop.journal, unlimited, Run("prompt-1").node().item())
    assert batch.plan.buy == 104


def test_every_run_has_its_own_budget_and_all_nodes_of_a_run_share_one(shop: Shop) -> None:
    shop.settings[PER_RUN] = "1"
    first = Run("prompt-1")
    shop.buy(upscale(shop.hidream, A), run=first)
    with shop.sends_nothing():
        # Another node of the same prompt; also when its Run object is another one.
        assert_used_up(shop.trouble(upscale(shop.hidream, B), run=first), PER_RUN, 1, 1)
        assert_used_up(shop.trouble(upscale(shop.hidream, B), run=Run("prompt-1")), PER_RUN, 1, 1)
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, B), run=Run("prompt-2"))


def test_a_day_ends_at_midnight_where_the_server_is(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        # 23:59 in Shanghai; the day of UTC goes on for hours.
        clock = Clock(1_780_070_340.0)
        assert time.strftime("%H:%M", time.localtime(clock.now)) == "23:59"
        with Shop(tmp_path, clock=clock) as shop:
            shop.settings[PER_DAY] = "1"
            shop.buy(upscale(shop.hidream, A))
            assert_used_up(shop.trouble(upscale(shop.hidream, B)), PER_DAY, 1, 1)
            clock.now += 61
            with shop.buys(1):
                shop.buy(upscale(shop.hidream, B))
            assert_used_up(shop.trouble(upscale(shop.hidream, C)), PER_DAY, 1, 1)
    finally:
        monkeypatch.undo()
        time.tzset()


@both_limits
def test_what_comes_from_the_store_costs_nothing(shop: Shop, variable: str) -> None:
    shop.settings[variable] = "2"
    run = Run("prompt-1")
    shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B), run=run)
    for _ in range(2):
        with shop.sends_nothing():
            shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B), run=run)
    shop.settings[variable] = "3"
    with shop.buys(1):
        # Two are reused: only the third one counts.
        shop.buy(*(upscale(shop.hidream, pixels) for pixels in (A, B, C)), run=run)


def test_the_services_share_the_budget_of_their_profile_and_the_sandbox_has_none(shop: Shop) -> None:
    shop.settings.update({PER_DAY: "2", PER_RUN: "2"})
    run = Run("prompt-1")
    shop.buy(upscale(shop.hidream, A), run=run)
    shop.buy(cvprocess(shop.volcengine, A), run=run)
    for service in ("upscale", "cvprocess"):
        assert type(shop.trouble(ANY_CALL[service](shop, B), run=Run("prompt-2"))) is QuotaError
    shop.profile = "sandbox"
    with shop.buys(3):
        shop.buy(*(upscale(shop.hidream, pixels) for pixels in (A, B, C)), run=run)
    shop.profile, shop.settings[PER_DAY] = "default", "3"
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, B), run=Run("prompt-3"))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_photo_set_reserves_one_and_settles_with_its_sub_tasks(shop: Shop, restarted: bool) -> None:
    shop.settings[PER_DAY] = "6"
    shop.buy(photo_set(shop.hidream, A))
    assert shop.journal.task_list.tasks()[0].pictures == 4
    if restarted:
        shop.restart()
    shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B))
    assert_used_up(shop.trouble(upscale(shop.hidream, C)), PER_DAY, 6, 6)


def test_a_photo_set_is_bought_with_the_last_picture_of_the_budget(shop: Shop) -> None:
    shop.settings[PER_DAY] = "1"
    with shop.buys(1):
        assert len(pictures(shop.buy(photo_set(shop.hidream, A)))) == 4
    assert_used_up(shop.trouble(upscale(shop.hidream, A)), PER_DAY, 1, 4)


# ---- released or kept


@both_providers
@pytest.mark.parametrize(("variable", "status"), [(PER_RUN, 400), (PER_DAY, 400), (PER_DAY, 401), (PER_DAY, 402)])
def test_a_refused_submit_gives_its_share_back(shop: Shop, service: str, variable: str, status: int) -> None:
    shop.settings[variable] = "1"
    shop.fault("submit", status=status)
    run = Run("prompt-1") if variable == PER_RUN else None
    assert shop.trouble(ANY_CALL[service](shop, A), run=run).provider
    assert shop.journal.task_list.tasks()[0].pictures == 0
    with shop.buys(1):
        shop.buy(ANY_CALL[service](shop, B), run=run)


def test_an_interrupt_before_sending_gives_its_share_back(shop: Shop) -> None:
    shop.settings[PER_DAY] = "1"
    shop.fault("submit", status=429, headers={"Retry-After": "50"})
    buying = shop.buying(upscale(shop.hidream, A))
    buying.reaches("queued")
    buying.interrupt()
    with pytest.raises(CallCancelled):
        buying.wait()
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, B))


def test_calls_of_a_batch_that_were_never_submitted_give_their_share_back(shop: Shop) -> None:
    shop.settings.update({PER_DAY: "3", "REMOTE_IMAGE_HIDREAM_AT_ONCE": "1"})
    shop.fault("submit", status=400)
    shop.trouble(*(upscale(shop.hidream, pixels) for pixels in (A, B, C)))
    with shop.buys(3):
        shop.buy(*(upscale(shop.hidream, pixels) for pixels in (A, B, C)))


@both_providers
@pytest.mark.parametrize("end", ["ambiguous", "failed"])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_may_have_been_billed_stays_counted(shop: Shop, service: str, end: str, restarted: bool) -> None:
    shop.settings[PER_DAY] = "1"
    failing = {"task_status": [3]} if service == "upscale" else {"vendor_code": 50511}
    shop.fault("submit", **({"reset": "after"} if end == "ambiguous" else failing))
    shop.trouble(ANY_CALL[service](shop, A))
    if restarted:
        shop.restart()
    with shop.sends_nothing():
        assert_used_up(shop.trouble(ANY_CALL[service](shop, B)), PER_DAY, 1, 1)
        # What is over is explained, not refused for its price.
        assert type(shop.trouble(ANY_CALL[service](shop, A))) is not QuotaError


def test_a_parked_task_stays_counted_and_is_resumed_with_an_empty_budget(shop: Shop) -> None:
    shop.settings[PER_DAY] = "1"
    park(shop, "upscale")
    assert_used_up(shop.trouble(upscale(shop.hidream, B)), PER_DAY, 1, 1)
    shop.restart()
    shop.mend()
    with shop.buys(0):
        assert pictures(shop.buy(upscale(shop.hidream, A)))


def test_submitting_again_is_a_purchase_of_its_own(shop: Shop) -> None:
    shop.settings[PER_DAY] = "1"
    shop.fault("submit", reset="after")
    shop.trouble(upscale(shop.hidream, A))
    assert shop.journal.submit_again(shop.journal.task_list.tasks()[0].journal_id)
    with shop.sends_nothing():
        assert_used_up(shop.trouble(upscale(shop.hidream, A)), PER_DAY, 1, 1)
    shop.settings[PER_DAY] = "2"
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A))


def test_the_count_survives_a_restart_and_is_one_for_all_processes(shop: Shop) -> None:
    shop.settings[PER_DAY] = "3"
    shop.buy(upscale(shop.hidream, A), run=Run("prompt-1"))
    shop.restart()
    shop.buy(upscale(shop.hidream, B), run=Run("prompt-2"))
    other = shop.open()
    buy(other, [upscale(shop.hidream, C)])
    for journal in (shop.journal, other):
        assert_used_up(paying.trouble(journal, [upscale(shop.hidream, D)]), PER_DAY, 3, 3)


# ---- many at once


@thinned(("number", "budget"), [(60, 15), (200, 50)])
def test_of_parallel_requests_exactly_those_within_the_budget_are_bought(shop: Shop, number: int, budget: int) -> None:
    shop.settings.update({PER_DAY: str(budget), **UNLIMITED})
    account = shop.hidream
    outcomes: list[Result | BaseException] = []
    begin = threading.Barrier(number)

    def one(call: PaidCall) -> None:
        begin.wait(PATIENCE)
        try:
            outcomes.extend(buy(shop.journal, [call]))
        except BaseException as problem:
            outcomes.append(problem)

    for seed in range(number):
        threading.Thread(target=one, args=(upscale(account, photo(16, 16, seed)),), daemon=True).start()
    until(lambda: len(outcomes) == number, 3 * PATIENCE)
    errors = [outcome.error if isinstance(outcome, Result) else outcome for outcome in outcomes]
    assert {type(error) for error in errors if error is not None} == {QuotaError}
    assert (shop.accepted, shop.emulator.billed, errors.count(None)) == (budget, budget, budget)


def test_parallel_batches_of_several_calls_never_overshoot(shop: Shop) -> None:
    shop.settings.update({PER_DAY: "10", **UNLIMITED})
    begin = threading.Barrier(8)
    ended: list[int] = []

    def one(number: int) -> None:
        calls = [upscale(shop.hidream, photo(16, 16, 10 * number + index)) for index in range(3)]
        begin.wait(PATIENCE)
        try:
            buy(shop.journal, calls)
        except QuotaError:
            pass
        finally:
            ended.append(number)

    for number in range(8):
        threading.Thread(target=one, args=(number,), daemon=True).start()
    until(lambda: len(ended) == 8, PATIENCE)
    assert shop.emulator.billed <= 10


# ---- no more in this prompt


@both_providers
@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, AuthenticationError), (402, QuotaError)], ids=str
)
def test_after_a_refused_key_or_an_empty_account_a_prompt_buys_nothing_more(
    shop: Shop, service: str, status: int, kind: type[RemoteImageError]
) -> None:
    run = Run("prompt-1")
    shop.fault("submit", status=status)
    assert type(shop.trouble(ANY_CALL[service](shop, A), run=run)) is kind
    # The next node of the same prompt: it has no picture either, and says why.
    with shop.sends_nothing():
        assert type(shop.trouble(ANY_CALL[service](shop, B), run=run)) is kind
    # The other account is not concerned: its pictures are wanted, and ComfyUI ends the graph if a node has failed.
    other = "cvprocess" if service == "upscale" else "upscale"
    with shop.buys(1):
        shop.buy(ANY_CALL[other](shop, A), run=run)
    with shop.buys(2):
        shop.buy(ANY_CALL[service](shop, A), ANY_CALL[service](shop, B), run=Run("prompt-2"))


def test_what_was_bought_before_is_still_delivered_after_a_refused_key(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    run = Run("prompt-1")
    shop.fault("submit", status=401)
    shop.trouble(upscale(shop.hidream, B), run=run)
    with shop.sends_nothing():
        assert pictures(shop.buy(upscale(shop.hidream, A), run=run))


def test_calls_under_way_are_not_abandoned_when_the_key_is_refused_meanwhile(shop: Shop) -> None:
    run = Run("prompt-1")
    shop.hold()
    first = shop.buying(upscale(shop.hidream, A), run=run)
    first.reaches("running")
    shop.fault("submit", status=401)
    shop.trouble(upscale(shop.hidream, B), run=run)
    shop.mend()
    assert pictures(first.wait())


def test_a_partial_batch_says_what_it_did_not_buy(shop: Shop) -> None:
    shop.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "1"
    shop.emulator.add_fault({"phase": "submit", "skip": 1, "do": {"status": 402}})
    results = shop.buy(*(upscale(shop.hidream, pixels) for pixels in (A, B, C)))
    assert len(pictures(results)) == 1 and len(shop.submits) == 2
    error = BatchOutcome(results).error(accept_partial=False)
    assert isinstance(error, QuotaError)
    assert error.provider == "HiDream" and "1 calls were not submitted" in str(error)
