"""Limits that endpoints declare: a rate or a number of tasks of their own, alone or together with other endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import CallCancelled, CancelToken, Journal, JournalSettings
from hidream_volcengine.api.catalog import AtOnce, Endpoint, Rate, endpoint_named
from hidream_volcengine.api.core import Text
from hidream_volcengine.api.core.limits import Budget, Ceiling
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import Order, Purchase
from hidream_volcengine.api.profiles.fields import SETTINGS, Setting, limit
from pytest import FixtureRequest, MonkeyPatch

from tests.contract import paying
from tests.contract.journal.test_limiter import alone, ended, rises_to, small
from tests.contract.paying import UNLIMITED, A, Clock, Shop, cvprocess, img2img, outpaint, pictures, upscale

OUTPAINT, IMG2IMG, UPSCALE = map(endpoint_named, ("hidream outpaint", "hidream image to image", "hidream upscale"))
TWO = AtOnce("hidream_upscale_at_once", 2, Text("upscales at a time", "同时放大数"))


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose database time stands still."""
    with Shop(tmp_path, clock=Clock()) as running:
        yield running


@pytest.fixture
def declare(monkeypatch: MonkeyPatch) -> Callable[..., None]:
    """Declares a limit at endpoints, as their files would."""

    def declared(field: str, declaration: Rate | AtOnce, *endpoints: Endpoint) -> None:
        setting = Setting(limit, f"REMOTE_IMAGE_{declaration.setting.upper()}", declaration.default)
        monkeypatch.setitem(SETTINGS, declaration.setting, setting)  # type: ignore[call-overload]
        for endpoint in endpoints:
            monkeypatch.setitem(vars(endpoint), field, declaration)

    return declared


# ---- with paid calls


def test_endpoints_with_one_rate_share_its_pictures(still: Shop, declare: Callable[..., None]) -> None:
    assert OUTPAINT.rate is not None
    declare("rate", OUTPAINT.rate, OUTPAINT, IMG2IMG)
    clock = still.clock
    assert isinstance(clock, Clock)
    still.settings.update(UNLIMITED, REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE="5")
    first = still.buying(img2img(still.hidream, A, count=4))
    ended(still, 1)
    buyings = alone(still.open(), [outpaint(still.hidream, A), outpaint(still.hidream, A, 1)])
    rises_to(lambda: still.accepted, 2)
    ended(still, 2)
    # An endpoint without this rate does not wait for it.
    still.buy(upscale(still.hidream, A))
    clock.now += 61
    assert sum(len(pictures(buying.wait())) for buying in [first, *buyings]) == 6


def test_a_small_task_of_a_rate_does_not_overtake_a_large_one(still: Shop, declare: Callable[..., None]) -> None:
    assert OUTPAINT.rate is not None
    declare("rate", OUTPAINT.rate, OUTPAINT, IMG2IMG)
    clock = still.clock
    assert isinstance(clock, Clock)
    still.settings.update(UNLIMITED, REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE="4")
    still.buy(outpaint(still.hidream, A))
    large = still.buying(img2img(still.hidream, A, count=4))
    large.reaches("queued", "waiting")
    rises_to(lambda: still.accepted, 1)
    small_one = still.buying(outpaint(still.hidream, A, 1))
    rises_to(lambda: still.accepted, 1)
    clock.now += 61
    rises_to(lambda: still.accepted, 2)
    assert len(pictures(large.wait())) == 4
    clock.now += 61
    assert len(pictures(small_one.wait())) == 1


def test_tasks_of_an_endpoint_with_a_limit_of_its_own(still: Shop, declare: Callable[..., None]) -> None:
    declare("at_once", TWO, UPSCALE)
    still.settings.update(UNLIMITED, REMOTE_IMAGE_HIDREAM_AT_ONCE="1")
    still.hold()
    own = alone(still.journal, [upscale(still.hidream, pixels) for pixels in small(3)])
    rises_to(lambda: still.accepted, 2)
    # The provider's own limit has room: those two do not count there, and these count together.
    others = alone(still.open(), [outpaint(still.hidream, A), img2img(still.hidream, A)])
    rises_to(lambda: still.accepted, 3)
    still.buy(cvprocess(still.volcengine, A))
    still.mend()
    assert sum(len(pictures(buying.wait())) for buying in [*own, *others]) == 5


@pytest.mark.parametrize(("text", "together"), [("1", 1), ("0", 6)])
def test_the_environment_sets_it(still: Shop, declare: Callable[..., None], text: str, together: int) -> None:
    declare("at_once", TWO, UPSCALE)
    still.settings["REMOTE_IMAGE_HIDREAM_UPSCALE_AT_ONCE"] = text
    still.hold()
    buyings = alone(still.journal, [upscale(still.hidream, pixels) for pixels in small(6)])
    rises_to(lambda: still.accepted, together)
    still.mend()
    for buying in buyings:
        buying.wait()


# ---- at the journal, in both databases


class Desk:
    """Asks a journal for places. What is admitted keeps its place."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._claims: list[Claim] = []

    def admits(self, endpoint: str, ceiling: Ceiling, pictures: int = 1, **other: Any) -> bool:
        """Whether there is room for a purchase now."""
        wanted = Purchase("HiDream", endpoint, "default", "me", "", pictures, Budget(), ceiling)
        purchase = replace(wanted, **other)
        claim = self.journal.claim(Order(f"{len(self._claims)}" * 64, purchase, False, 0, 9, ""))
        assert isinstance(claim, Claim)
        self._claims.append(claim)
        impatient = CancelToken()
        impatient.cancel()
        with suppress(CallCancelled):
            self.journal.limiter.admit(claim, purchase, impatient)
            return True
        return False


@pytest.fixture(params=["sqlite", "postgres"])
def desk(request: FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    journal = Journal(JournalSettings(tmp_path, url, tmp_path / "store"))
    yield Desk(journal)
    journal.close()


def test_pictures_of_one_rate_count_together(desk: Desk) -> None:
    ceiling = Ceiling(per_minute=5, rates={"text": "images", "image": "images", "outpaint": "outpainted"})
    assert desk.admits("text", ceiling, 4)
    assert desk.admits("image", ceiling)
    assert not desk.admits("text", ceiling) and not desk.admits("image", ceiling)
    assert desk.admits("outpaint", ceiling, 5)
    assert not desk.admits("outpaint", ceiling)
    assert desk.admits("image", ceiling, account="another")
    # Without a name for its rate, an endpoint counts alone.
    assert desk.admits("upscale", ceiling, 5) and not desk.admits("upscale", ceiling)


def test_tasks_with_a_limit_of_their_own_count_apart(desk: Desk) -> None:
    own = {"video": "videos", "film": "videos"}
    videos, others = Ceiling(2, own_at_once=own), Ceiling(3, own_at_once=own)
    assert desk.admits("video", videos)
    assert desk.admits("outpaint", others) and desk.admits("upscale", others)
    assert desk.admits("film", videos)
    assert not desk.admits("video", videos) and not desk.admits("film", videos)
    assert desk.admits("outpaint", others) and not desk.admits("upscale", others)
    assert desk.admits("video", videos, account="another") and desk.admits("outpaint", others, provider="Volcengine")


def test_tasks_of_an_earlier_version_count_at_the_provider(desk: Desk) -> None:
    """Also those of an endpoint that this version does not know."""
    assert desk.admits("outpaint", Ceiling(4)) and desk.admits("forgotten", Ceiling(4))
    assert not desk.admits("upscale", Ceiling(2, own_at_once={"video": "videos"}))
    assert desk.admits("upscale", Ceiling(3, own_at_once={"video": "videos"}))
    # A task of before the endpoint had a limit of its own counts there, and no longer at the provider.
    own = {"outpaint": "outpainted"}
    assert not desk.admits("outpaint", Ceiling(1, own_at_once=own))
    assert desk.admits("upscale", Ceiling(3, own_at_once=own))


def test_what_has_no_limit_of_its_own_has_the_provider_s(declare: Callable[..., None], still: Shop) -> None:
    declare("at_once", TWO, UPSCALE)
    limits = still.hidream.limits
    assert (UPSCALE.at_once, OUTPAINT.at_once) == (TWO, None)
    assert limits.at_once == 4 and limits.declared[TWO.setting] == 2
