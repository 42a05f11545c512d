"""Tasks that this journal never submitted, asked for by their id: right ones, wrong ones, and right ones elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    BackgroundPoller,
    CallCancelled,
    Delivery,
    Profiles,
    RemoteImageError,
    TaskTimeoutError,
    fetch_task,
)
from hidream_volcengine.api.core.task import TaskRef
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import ClaimLost
from hidream_volcengine.api.purchase import background as collector
from pytest import MonkeyPatch

from tests.contract import paying
from tests.contract.paying import ANY_CALL, PATIENCE, SHORT, A, Shop, equal, idle_watch, park, pictures, upscale
from tests.contract.purchase.test_collector import sql
from tests.contract.raw_servers import until

services = pytest.mark.parametrize("service", ["upscale", "cvsync2async"])


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


def fetched(shop: Shop, task_id: str, service: str = "upscale") -> Delivery:
    call = ANY_CALL["cvprocess" if service == "cvsync2async" else service](shop, A)
    with shop.buys(0):
        return fetch_task(shop.journal, call.service, task_id, idle_watch())


def refused(shop: Shop, task_id: str, service: str = "upscale") -> RemoteImageError:
    with pytest.raises(RemoteImageError) as caught:
        fetched(shop, task_id, service)
    return caught.value


def adopt(shop: Shop, task_id: str) -> str:
    """Adopt a task, and do nothing more: the state after a fetch that was broken off."""
    call = upscale(shop.hidream, A)
    order = call.order("", 0)
    nothing = replace(order, purchase=replace(order.purchase, pictures=0))
    return shop.journal.adopt(nothing, TaskRef("HiDream", call.service.name, task_id))


def polls(shop: Shop) -> int:
    return sum(record.phase == "result" for record in shop.emulator.requests)


def collect(shop: Shop) -> int:
    sql(shop, "UPDATE attempts SET next_poll_at = -1")
    return BackgroundPoller(shop.journal, Profiles(shop.environment, lambda: pytest.fail("sandbox"))).poll_once()


def bought_elsewhere(shop: Shop, folder: Path, service: str = "upscale") -> str:
    """The id of a task that runs on, and that another journal bought."""
    park(shop, service)
    task_id = shop.journal.task_list.tasks()[0].task_id
    shop.folder = folder
    shop.restart()
    return task_id


# ---- unknown to the service


@services
def test_a_mistyped_id_is_told_soon_and_leaves_nothing(shop: Shop, service: str) -> None:
    error = refused(shop, "no-such-task", service)
    assert not isinstance(error, TaskTimeoutError)
    assert error.billed == "no"
    told = str(error)
    assert "no-such-task" in told and "Nothing was bought" in told
    assert ("HiDream" if service == "upscale" else "Volcengine") in told.split("\n")[0]
    assert polls(shop) == 4
    assert shop.journal.task_list.tasks() == []
    # Nothing of it is remembered either: the service is asked again.
    refused(shop, "no-such-task", service)
    assert polls(shop) == 8


def test_an_emptied_journal_is_no_lost_one(shop: Shop) -> None:
    refused(shop, "no-such-task")
    shop.restart()
    assert len(shop.buy(upscale(shop.hidream, A))) == 1


def test_a_service_that_knows_the_task_later_is_asked_again(shop: Shop, tmp_path_factory: Any) -> None:
    task_id = bought_elsewhere(shop, tmp_path_factory.mktemp("other"))
    shop.mend()
    unknown = {"json": {"code": 1001, "message": "task not found", "request_id": ""}}
    shop.fault("result", 4, **unknown)
    refused(shop, task_id)
    assert len(fetched(shop, task_id).pictures) == 1
    assert shop.states == ["stored"]


def test_what_a_service_says_of_itself_is_no_word_about_the_task(shop: Shop) -> None:
    """Only the service's own "task not found" counts: a 404 may come from a proxy, a lost connection from anything."""
    shop.deadlines = SHORT
    for fault in ({"status": 404}, {"status": 500}, {"reset": "before"}, {"status": 401}):
        shop.fault("result", None, **fault)
        assert isinstance(refused(shop, "no-such-task"), TaskTimeoutError)
        assert shop.states == ["parked"]
        shop.mend()


def test_a_broken_poll_in_between_is_no_answer(shop: Shop) -> None:
    shop.emulator.add_fault({"phase": "result", "skip": 3, "times": 1, "do": {"status": 503}})
    refused(shop, "no-such-task")
    assert polls(shop) == 3 + 1 + 4


def test_a_task_that_was_known_once_is_never_given_up(shop: Shop, tmp_path_factory: Any) -> None:
    task_id = bought_elsewhere(shop, tmp_path_factory.mktemp("other"))
    shop.deadlines = SHORT
    assert isinstance(refused(shop, task_id), TaskTimeoutError), "it goes on and on"
    shop.mend()
    shop.fault("result", None, json={"code": 1001, "message": "task not found", "request_id": ""})
    shop.restart()
    assert isinstance(refused(shop, task_id), TaskTimeoutError)
    for _ in range(6):
        assert collect(shop) == 1
    assert shop.states == ["parked"]
    shop.mend()
    assert collect(shop) == 1
    assert shop.states == ["stored"]


@services
def test_a_task_that_was_submitted_here_is_never_given_up(shop: Shop, service: str) -> None:
    park(shop, service)
    shop.mend()
    gone = (
        {"async_status": "not_found"}
        if service == "cvsync2async"
        else {"json": {"code": 1001, "message": "task not found", "request_id": ""}}
    )
    shop.fault("result", None, **gone)
    shop.deadlines = replace(SHORT, queue=1.0)
    before = polls(shop)
    assert isinstance(refused(shop, shop.journal.task_list.tasks()[0].task_id, service), TaskTimeoutError)
    assert polls(shop) - before > 4
    for _ in range(6):
        assert collect(shop) == 1
    assert shop.states == ["parked"]


def test_what_was_interrupted_is_forgotten_by_the_collector(shop: Shop, monkeypatch: MonkeyPatch) -> None:
    """Or a dead process left it: it stays listed for a few looks only."""
    monkeypatch.setattr(collector, "_ONE_LOOK", 0.0)  # a single poll, as without brisk pauses
    adopt(shop, "no-such-task")
    assert [(collect(shop), shop.states) for _ in range(3)] == [(1, ["parked"]), (1, ["parked"]), (1, [])]


def test_two_ask_for_the_same_unknown_task(shop: Shop) -> None:
    other = shop.open()
    call = upscale(shop.hidream, A)
    errors: list[BaseException] = []

    def ask(journal: Any) -> None:
        try:
            fetch_task(journal, call.service, "no-such-task", idle_watch())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(journal,), daemon=True) for journal in (shop.journal, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert ["does not know" in str(error) for error in errors] == [True, True], errors
    assert shop.journal.task_list.tasks() == []


def test_one_that_was_overtaken_takes_nothing_away(shop: Shop) -> None:
    """A process that was stopped still takes itself for the owner, after another one has found the task."""
    journal_id = adopt(shop, "some-task")
    claim = shop.journal.claim_task(journal_id)
    assert isinstance(claim, Claim)
    sql(shop, "UPDATE attempts SET fence = fence + 1 WHERE id = ?", journal_id)
    with pytest.raises(ClaimLost), claim:
        claim.forget()
    assert len(shop.journal.task_list.tasks()) == 1


# ---- known to the journal


def test_the_journal_knows_where_a_task_was_bought(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    task_id = shop.journal.task_list.tasks()[0].task_id
    account = shop.hidream.account_id
    assert shop.journal.task_list.places_of(task_id) == [("hidream upscale", account)]
    assert shop.journal.task_list.places_of("no-such-task") == []
    assert shop.journal.task_list.places_of("") == []
    with shop.sends_nothing():
        assert equal(fetched(shop, task_id).pictures, pictures(shop.buy(upscale(shop.hidream, A))))


def test_an_interrupted_fetch_is_parked(shop: Shop, tmp_path_factory: Any) -> None:
    task_id = bought_elsewhere(shop, tmp_path_factory.mktemp("other"))
    watch, before = idle_watch(), polls(shop)
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            fetch_task(shop.journal, upscale(shop.hidream, A).service, task_id, watch)
        except CallCancelled as error:
            ended.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    until(lambda: polls(shop) > before, PATIENCE)
    watch.cancel.cancel()
    thread.join(PATIENCE)
    assert ended and shop.states == ["parked"]
    shop.mend()
    assert collect(shop) == 1
    assert shop.states == ["stored"]
