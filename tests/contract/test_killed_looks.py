"""ComfyUI dies at each commit of a look at a task, or of what a callback does: nothing is lost or bought anew."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import AmbiguousSubmitError, Callbacks, Collector, Journal, TaskRef
from hidream_volcengine.api.callbacks import _Call
from hidream_volcengine.api.settings import CallbackSettings
from hidream_volcengine.api.states import JournalError
from hidream_volcengine.api.text import Text
from pytest import MonkeyPatch

from tests.contract import paying
from tests.contract.paying import PATIENCE, A, Shop, park, pictures, upscale
from tests.contract.raw_servers import until


class Killed(BaseException):
    """The process is gone: it writes nothing more."""


def mortal(journal: Journal, at: int, side: str) -> list[int]:
    """Let it die before or after its so-many-th commit; how many there were."""
    commits: list[int] = []
    original = journal._access.writing
    here = threading.get_ident()

    def die() -> None:
        raise Killed if threading.get_ident() == here else JournalError(Text("dead", "dead"))

    @contextmanager
    def writing() -> Iterator[Any]:
        if len(commits) >= at:
            die()
        commits.append(1)
        dies = len(commits) == at
        with original() as opened:
            yield opened
            if dies and side == "before":
                die()
        if dies:
            die()

    journal._access.writing = writing  # type: ignore[method-assign]
    return commits


def buried(shop: Shop) -> None:
    """Another process finds what the dead one left."""
    shop._journals.remove(shop.journal)
    shop.journal._closed = True
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3", timeout=30)) as connection, connection:
        connection.execute("UPDATE owners SET started = 'in another life'")
    shop.journal = shop.open()


def at_every_commit(tmp_path: Path, side: str, live: Callable[[Shop, int], bool]) -> None:
    for at in range(1, 30):
        with Shop(tmp_path / str(at)) as shop:
            if not live(shop, at):
                assert at > 3, "hardly anything was written"
                return
    pytest.fail("it never survived")


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("service", ["upscale", "cvsync2async"])
def test_killed_in_a_look(tmp_path: Path, monkeypatch: MonkeyPatch, service: str, side: str) -> None:
    paying.brisk(monkeypatch)

    def live(shop: Shop, at: int) -> bool:
        park(shop, service)
        shop.mend()
        call = upscale(shop.hidream, A) if service == "upscale" else paying.cvprocess(shop.volcengine, A)
        [task] = shop.journal.tasks()
        attempt = shop.journal.collectable(task.journal_id)
        assert attempt is not None
        mortal(shop.journal, at, side)
        died = False
        try:
            Collector(shop.journal, shop.profiles).look_at(attempt)
        except Killed:
            died = True
        buried(shop)
        with shop.buys(0):
            assert pictures(shop.buy(call))
        assert shop.states == ["delivered"]
        return died

    at_every_commit(tmp_path, side, live)


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_while_a_callback_settles(tmp_path: Path, monkeypatch: MonkeyPatch, side: str) -> None:
    """The service calls again, and until then the request is explained."""
    paying.brisk(monkeypatch)

    def look(shop: Shop, call: _Call) -> None:
        settings = CallbackSettings("http://127.0.0.1:1", "127.0.0.1", 1)
        collector = Collector(shop.journal, shop.profiles)
        callbacks = Callbacks(settings, shop.folder, shop.journal, collector)
        again: _Call | None = call
        while again is not None:
            again = callbacks._look(again)

    def live(shop: Shop, at: int) -> bool:
        shop.fault("submit", reset="after")
        with shop.buys(1):
            assert isinstance(shop.trouble(upscale(shop.hidream, A)), AmbiguousSubmitError)
        [task] = shop.journal.tasks()
        call = _Call(task.journal_id, shop.emulator.accepted[0].task_id, 0.0, 0.0)
        until(lambda: is_ready(shop), PATIENCE)
        mortal(shop.journal, at, side)
        died = False
        try:
            look(shop, call)
        except Killed:
            died = True
        buried(shop)
        with shop.buys(0):
            if shop.states == ["ambiguous"]:
                assert isinstance(shop.trouble(upscale(shop.hidream, A)), AmbiguousSubmitError)
                look(shop, call)
            assert pictures(shop.buy(upscale(shop.hidream, A)))
        assert shop.states == ["delivered"]
        return died

    def is_ready(shop: Shop) -> bool:
        service = upscale(shop.hidream, A).service
        record = shop.emulator.accepted[0]
        task = TaskRef(service.provider, service.name, record.task_id, record.request_id)
        return all(sub_task.ended for sub_task in service.query(task))

    at_every_commit(tmp_path, side, live)
