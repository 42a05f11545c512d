"""ComfyUI dies at each commit of a poll by the background poller: nothing is lost or bought again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import BackgroundPoller, Journal
from hidream_volcengine.api.core.text import Text
from hidream_volcengine.api.journal.model import JournalError
from pytest import MonkeyPatch

from tests.contract import paying
from tests.contract.paying import A, Shop, park, pictures, upscale


class Killed(BaseException):
    """Stands for the death of the process: after it, nothing more is written."""


def mortal(journal: Journal, at: int, side: str) -> list[int]:
    """Let the process "die" before or after commit number ``at``; return a list with an entry for each commit."""
    commits: list[int] = []
    original = journal._transactions.writing
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

    journal._transactions.writing = writing  # type: ignore[method-assign]
    return commits


def buried(shop: Shop) -> None:
    """Void the dead process's lease, and open the journal anew, as another process does."""
    shop._journals.remove(shop.journal)
    shop.journal._claims.close()
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
        [task] = shop.journal.task_list.tasks()
        attempt = shop.journal.task_list.collectable(task.journal_id)
        assert attempt is not None
        mortal(shop.journal, at, side)
        died = False
        try:
            BackgroundPoller(shop.journal, shop.profiles)._look(attempt)
        except Killed:
            died = True
        buried(shop)
        with shop.buys(0):
            assert pictures(shop.buy(call))
        assert shop.states == ["delivered"]
        return died

    at_every_commit(tmp_path, side, live)
