"""The limiter of an account: so many tasks at once, so many pictures a minute, less after a 429; for all processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import CallCancelled, Journal, PaidCall
from pytest import MonkeyPatch

from emulator import Recorded
from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    UNLIMITED,
    A,
    Buying,
    Clock,
    Shop,
    cvprocess,
    img2img,
    outpaint,
    pictures,
    upscale,
)
from tests.contract.raw_servers import photo, until

# Seconds for which a test watches that something does not happen.
WATCHED = 0.6


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose database time stands still."""
    with Shop(tmp_path, clock=Clock()) as running:
        yield running


def small(number: int) -> Sequence[paying.tensors.Pixels]:
    return [photo(24, 32, 100 + seed) for seed in range(number)]


def alone(journal: Journal, calls: Sequence[PaidCall]) -> list[Buying]:
    """Each call a node of its own."""
    return [Buying(journal, [call]) for call in calls]


def rises_to(count: Callable[[], int], number: int) -> None:
    """``count`` comes to ``number``, and no further."""
    until(lambda: count() >= number, PATIENCE)
    end = time.monotonic() + WATCHED
    while time.monotonic() < end:
        assert count() == number
        time.sleep(0.01)


def ended(shop: Shop, number: int) -> None:
    """So many pictures are here; only then may the clock move, or these tasks seem to have taken that long."""
    until(lambda: sum(state in ("stored", "delivered") for state in shop.states) == number, PATIENCE)


def most_at_once(records: Sequence[Recorded], lasting: float) -> int:
    """The most accepted tasks that were under way at one moment, each ``lasting`` seconds from its acceptance."""
    begins = [record.ended for record in records if record.accepted and record.ended is not None]
    return max(sum(other <= begin < other + lasting for other in begins) for begin in begins)


# ---- at once


@pytest.mark.parametrize("setting", [None, "1", "3", "0"])
def test_hidream_has_four_tasks_at_once_unless_it_is_said_otherwise(shop: Shop, setting: str | None) -> None:
    if setting is not None:
        shop.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = setting
    shop.hold()
    buyings = alone(shop.journal, [upscale(shop.hidream, pixels) for pixels in small(7)])
    rises_to(lambda: shop.accepted, {None: 4, "1": 1, "3": 3, "0": 7}[setting])
    shop.mend()
    assert sum(len(pictures(buying.wait())) for buying in buyings) == 7


def test_the_limit_is_one_for_all_endpoints_batches_and_processes(shop: Shop) -> None:
    shop.hold()
    here = [outpaint(shop.hidream, A), *(upscale(shop.hidream, pixels) for pixels in small(3))]
    there = [img2img(shop.hidream, A), *(upscale(shop.hidream, pixels, 1) for pixels in small(3))]
    buyings = [Buying(shop.journal, here), *alone(shop.open(), there)]
    rises_to(lambda: shop.accepted, 4)
    # Another service has its own.
    shop.buy(cvprocess(shop.volcengine, A))
    shop.mend()
    assert sum(len(pictures(buying.wait())) for buying in buyings) == 8


def test_over_a_whole_batch_never_more_than_four_overlap(tmp_path: Path) -> None:
    with Shop(tmp_path, latency=0.3) as shop:
        calls = [upscale(shop.hidream, pixels) for pixels in small(12)]
        buyings = [Buying(shop.journal, calls[:6]), *alone(shop.open(), calls[6:])]
        for buying in buyings:
            buying.wait()
        assert len(shop.submits) == 12 and most_at_once(shop.submits, 0.3) == 4


@pytest.mark.parametrize("setting", [None, "1", "0"])
def test_volcengine_has_two_calls_at_once_unless_it_is_said_otherwise(shop: Shop, setting: str | None) -> None:
    if setting is not None:
        shop.settings["REMOTE_IMAGE_VOLCENGINE_AT_ONCE"] = setting
    with shop.answers_held() as may_answer:
        calls = [cvprocess(shop.volcengine, pixels) for pixels in small(5)]
        buyings = [Buying(shop.journal, calls[:3]), *alone(shop.open(), calls[3:])]
        rises_to(lambda: len(shop.submits), {None: 2, "1": 1, "0": 5}[setting])
        # HiDream is not kept waiting by it.
        may_answer.set()
        assert sum(len(pictures(buying.wait())) for buying in buyings) == 5


def test_the_sandbox_is_not_limited(tmp_path: Path) -> None:
    with Shop(tmp_path, profile="sandbox") as shop:
        shop.hold()
        buyings = alone(shop.journal, [outpaint(shop.hidream, A, take) for take in range(25)])
        until(lambda: shop.accepted == 25, PATIENCE)
        shop.mend()
        assert sum(len(pictures(buying.wait())) for buying in buyings) == 25


def test_what_comes_from_the_store_waits_for_nobody(shop: Shop) -> None:
    shop.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "1"
    shop.buy(upscale(shop.hidream, A))
    shop.hold()
    first = shop.buying(upscale(shop.hidream, A, 1))
    until(lambda: shop.accepted == 2, PATIENCE)
    with shop.buys(0):
        shop.buy(upscale(shop.hidream, A))
    shop.mend()
    first.wait()


def test_a_call_that_waits_its_turn_can_be_interrupted(shop: Shop) -> None:
    shop.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "1"
    shop.hold()
    first = shop.buying(upscale(shop.hidream, A))
    until(lambda: shop.accepted == 1, PATIENCE)
    second = shop.buying(upscale(shop.hidream, A, 1))
    second.reaches("queued", "waiting")
    began = time.monotonic()
    second.interrupt()
    with pytest.raises(CallCancelled):
        second.wait()
    assert time.monotonic() - began < 1
    shop.mend()
    first.wait()
    assert shop.accepted == 1


@pytest.mark.parametrize("end", ["refused", "ambiguous", "failed", "closed"])
def test_whatever_ends_a_call_frees_its_place(shop: Shop, end: str) -> None:
    shop.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "1"
    if end == "closed":
        paying.park(shop, "upscale")
        shop.restart()
        shop.mend()
    else:
        faults: dict[str, dict[str, Any]] = {
            "refused": {"status": 400},
            "ambiguous": {"reset": "after"},
            "failed": {"task_status": [3]},
        }
        shop.fault("submit", **faults[end])
        shop.trouble(upscale(shop.hidream, A))
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A, 1))


def test_a_task_whose_pictures_are_on_their_way_holds_no_place(shop: Shop) -> None:
    shop.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "1"
    shop.fault("image", 1, hang=PATIENCE)
    first = shop.buying(upscale(shop.hidream, A))
    first.reaches("downloading")
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A, 1))
    assert sorted(shop.states) == ["delivered", "done"]
    first.interrupt()
    with pytest.raises(CallCancelled):
        first.wait()


# ---- a minute


def test_outpainting_has_twenty_pictures_in_any_minute(still: Shop) -> None:
    still.settings.update(UNLIMITED)
    del still.settings["REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE"]
    clock = still.clock
    assert isinstance(clock, Clock)
    clock.now += 59 - clock.now % 60
    buyings = alone(still.journal, [outpaint(still.hidream, A, take) for take in range(25)])
    rises_to(lambda: still.accepted, 20)
    ended(still, 20)
    # The other endpoints of the account go on.
    still.buy(upscale(still.hidream, A), img2img(still.hidream, A, count=4))
    assert still.accepted == 22
    # The next minute of the wall clock is not the next minute.
    clock.now += 2
    rises_to(lambda: still.accepted, 22)
    clock.now += 57
    rises_to(lambda: still.accepted, 22)
    clock.now += 2
    assert sum(len(pictures(buying.wait())) for buying in buyings) == 25


def test_img2img_counts_every_picture_of_a_task(still: Shop) -> None:
    still.settings.update(UNLIMITED, REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE="10")
    clock = still.clock
    assert isinstance(clock, Clock)
    calls = [img2img(still.hidream, A, take, count=4) for take in range(3)]
    buyings = [Buying(still.journal, calls[:2]), *alone(still.open(), calls[2:])]
    rises_to(lambda: still.accepted, 2)
    ended(still, 2)
    clock.now += 61
    assert sum(len(pictures(buying.wait())) for buying in buyings) == 12


def test_a_task_of_more_pictures_than_a_minute_allows_goes_alone(still: Shop) -> None:
    still.settings.update(UNLIMITED, REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE="2")
    clock = still.clock
    assert isinstance(clock, Clock)
    first = still.buying(img2img(still.hidream, A, count=4))
    rises_to(lambda: still.accepted, 1)
    second = still.buying(img2img(still.hidream, A, 1, count=1))
    rises_to(lambda: still.accepted, 1)
    ended(still, 1)
    clock.now += 61
    assert len(pictures(first.wait() + second.wait())) == 5


def test_a_429_does_not_use_up_the_minute(still: Shop) -> None:
    still.settings.update(UNLIMITED, REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE="1")
    still.fault("submit", status=429, headers={"Retry-After": "0"})
    with still.buys(1):
        still.buy(outpaint(still.hidream, A))


# ---- 429


@pytest.mark.parametrize("service", ["upscale", "cvprocess"])
def test_a_429_halves_what_runs_at_once_and_time_brings_it_back(still: Shop, service: str) -> None:
    clock = still.clock
    assert isinstance(clock, Clock)
    still.settings.update(REMOTE_IMAGE_HIDREAM_AT_ONCE="8", REMOTE_IMAGE_VOLCENGINE_AT_ONCE="8")
    still.fault("submit", status=429, headers={"Retry-After": "0"})
    still.buy(ANY_CALL[service](still, A))

    def running_together(take: int) -> int:
        """How many of ten tasks the limiter lets through while none of them ends."""
        before = len(still.submits)
        with still.answers_held() as may_answer:
            buyings = alone(still.journal, [ANY_CALL[service](still, pixels, take) for pixels in small(10)])
            until(lambda: len(still.submits) > before, PATIENCE)
            count = settled(lambda: len(still.submits) - before)
            may_answer.set()
            for buying in buyings:
                buying.wait()
        return count

    assert running_together(1) == 4
    # The limit grows again slowly: not at once, but within the hour.
    clock.now += 3600
    assert running_together(2) == 8


def settled(count: Callable[[], int]) -> int:
    """The value that ``count`` keeps for a while."""
    value, since = count(), time.monotonic()
    while time.monotonic() < since + WATCHED:
        if count() != value:
            value, since = count(), time.monotonic()
        time.sleep(0.01)
    return value


def test_a_second_429_halves_again_and_never_below_one(still: Shop) -> None:
    clock = still.clock
    assert isinstance(clock, Clock)
    still.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "4"
    for take in range(6):
        still.fault("submit", status=429, headers={"Retry-After": "0"})
        with still.buys(1):
            still.buy(upscale(still.hidream, A, take))
        clock.now += 10
    still.hold()
    buyings = alone(still.journal, [upscale(still.hidream, pixels) for pixels in small(3)])
    rises_to(lambda: still.accepted, 7)
    still.mend()
    for buying in buyings:
        buying.wait()


def test_429s_that_came_together_count_as_one_and_wait_their_turn_anew(still: Shop) -> None:
    still.settings["REMOTE_IMAGE_HIDREAM_AT_ONCE"] = "8"
    still.fault("submit", 8, status=429, headers={"Retry-After": "0"})
    still.hold()
    with still.answers_held() as may_answer:
        buyings = alone(still.journal, [upscale(still.hidream, pixels) for pixels in small(8)])
        until(lambda: len(still.submits) == 8, PATIENCE)
        may_answer.set()
        # Half of eight: an eighth would be one, and all eight would be what the service could not take.
        rises_to(lambda: still.accepted, 4)
        still.mend()
        for buying in buyings:
            buying.wait()


# ---- polls


def test_polls_share_a_ceiling_of_their_own(shop: Shop) -> None:
    shop.settings.update(UNLIMITED, REMOTE_IMAGE_POLLS_PER_SECOND="5")
    shop.hold()
    buyings = alone(shop.journal, [upscale(shop.hidream, pixels) for pixels in small(6)])

    def polls() -> list[Recorded]:
        return [record for record in shop.emulator.requests if record.phase == "result"]

    until(lambda: len(polls()) >= 13, PATIENCE)
    starts = [record.started for record in polls()]
    # Six came within a second: five pauses between them, less what a busy machine shifts.
    assert all(later - earlier > 0.8 for earlier, later in zip(starts, starts[5:], strict=False))
    shop.mend()
    for buying in buyings:
        buying.wait()
