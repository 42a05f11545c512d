"""A journal that is an older copy of itself, or lost: it is noticed, taken over from the store, and buys none twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hidream_volcengine.api import Journal, JournalError, JournalSettings, RemoteImageError, Text
from hidream_volcengine.api.journal.model import Mark
from hidream_volcengine.api.journal.opening import JournalTransactions
from hidream_volcengine.api.journal.salvage import NOTICE, write_marks
from hidream_volcengine.api.journal.store import read_mark

from emulator import Emulator
from tests.contract import buyer, paying
from tests.contract.paying import ANY_CALL, PATIENCE, A, B, Buying, Shop, cvprocess, park, pictures, upscale
from tests.contract.raw_servers import until

MADE = "journal.made"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal") as running:
        yield running


def main_file(shop: Shop) -> Path:
    return shop.folder / "journal.sqlite3"


def without_its_wal(shop: Shop) -> None:
    """The main file alone, as a careless backup copies it: the last commits are in the -wal file."""
    copy = shop.folder.parent / "main.sqlite3"
    shutil.copyfile(main_file(shop), copy)
    shop.journal.close()
    put_back(shop, copy)


def put_back(shop: Shop, copy: Path) -> None:
    for path in shop.folder.glob("journal.sqlite3*"):
        path.unlink()
    shutil.copyfile(copy, main_file(shop))


def copied(shop: Shop) -> Path:
    copy = shop.folder.parent / "older.sqlite3"
    with closing(sqlite3.connect(main_file(shop))) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def assert_noticed(shop: Shop) -> None:
    """Nothing is bought until the owner has acknowledged it; then what was bought is known."""
    with shop.sends_nothing():
        error = shop.trouble(upscale(shop.hidream, B))
    assert isinstance(error, JournalError) and error.billed == "no"
    assert "older copy" in error.text().en and "旧副本" in error.text().zh
    assert any(notice.exists() for notice in shop.journal._notices)
    shop.journal.acknowledge()
    assert not any(notice.exists() for notice in shop.journal._notices)


def sql(shop: Shop, *statements: str) -> None:
    with closing(sqlite3.connect(main_file(shop), timeout=PATIENCE)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


DELETE_ROWS = ("DELETE FROM results", "DELETE FROM attempts", "DELETE FROM requests")


# ---- loss and rollback


@pytest.mark.parametrize("service", ["upscale", "cvprocess"])
@pytest.mark.parametrize("before", [0, 1], ids=["nothing before", "a purchase before"])
def test_a_stored_picture_survives_the_loss_of_the_wal(before: int, service: str, shop: Shop) -> None:
    if before:
        shop.buy(upscale(shop.hidream, B))
        shop.restart()  # brings the -wal file into the main one
    came = pictures(shop.buy(ANY_CALL[service](shop, A)))
    without_its_wal(shop)
    shop.journal = shop.open()
    with shop.buys(0):
        error = shop.trouble(ANY_CALL[service](shop, A))
    assert isinstance(error, JournalError)
    shop.journal.acknowledge()
    with shop.sends_nothing():
        assert len(pictures(shop.buy(ANY_CALL[service](shop, A)))) == len(came)


@pytest.mark.parametrize("service", ["upscale", "variation", "cvsync2async"])
def test_a_task_under_way_survives_the_loss_of_the_wal(service: str, shop: Shop) -> None:
    park(shop, service)
    without_its_wal(shop)
    shop.journal = shop.open()
    assert shop.states == ["parked"]
    shop.journal.acknowledge()
    shop.mend()
    call = cvprocess(shop.volcengine, A) if service == "cvsync2async" else ANY_CALL[service](shop, A)
    with shop.buys(0):
        assert pictures(shop.buy(call))


@pytest.mark.parametrize("moment", ["while it is off", "while it is open", "into the open file"])
def test_an_older_copy_is_noticed(moment: str, shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A, 7))
    copy = copied(shop)
    shop.buy(upscale(shop.hidream, A), cvprocess(shop.volcengine, A))
    park(shop, "variation")
    if moment == "while it is off":
        shop.journal.close()
        put_back(shop, copy)
        shop.journal = shop.open()
    elif moment == "while it is open":
        put_back(shop, copy)
    else:
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(main_file(shop))) as target:
            source.backup(target)
    with shop.sends_nothing():
        if moment != "while it is off":
            shop.trouble(upscale(shop.hidream, A))  # notices it
    assert_noticed(shop)
    shop.mend()
    with shop.buys(0):
        calls = [upscale(shop.hidream, A), cvprocess(shop.volcengine, A), upscale(shop.hidream, A, 7)]
        assert len(pictures(shop.buy(*calls))) == 3
        assert pictures(shop.buy(ANY_CALL["variation"](shop, A)))
    shop.restart()
    assert not (shop.folder / NOTICE).exists(), "once acknowledged, it is not told again"
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, B))


@pytest.mark.parametrize("settled", [False, True], ids=["under way", "stored"])
def test_an_older_copy_of_the_whole_folder_is_noticed_by_its_store(settled: bool, shop: Shop, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def opened() -> Journal:
        shop._journals.append(Journal(JournalSettings(shop.folder, store=store)))
        return shop._journals[-1]

    shop.journal = opened()
    shop.buy(upscale(shop.hidream, A, 7))
    shop.journal.close()
    backup = shutil.copytree(shop.folder, tmp_path / "backup")
    shop.journal = opened()
    if settled:
        shop.buy(upscale(shop.hidream, A))
    else:
        park(shop, "upscale")
    shop.journal.close()
    shutil.rmtree(shop.folder)
    shutil.copytree(backup, shop.folder)
    shop.journal = opened()
    assert_noticed(shop)
    shop.mend()
    with shop.buys(0):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


@pytest.mark.parametrize("service", ["upscale", "cvsync2async"])
def test_a_task_under_way_survives_its_journal(service: str, shop: Shop) -> None:
    park(shop, service)
    task = shop.journal.task_list.tasks()[0]
    shop.journal.close()
    for path in shop.folder.glob("journal.*"):
        path.unlink()
    shop.journal = shop.open()
    (found,) = shop.journal.task_list.tasks()
    assert (found.state, found.task_id, found.journal_id) == ("parked", task.task_id, task.journal_id)
    shop.mend()
    shop.journal.acknowledge()
    call = cvprocess(shop.volcengine, A) if service == "cvsync2async" else upscale(shop.hidream, A)
    with shop.buys(0):
        assert len(pictures(shop.buy(call))) == 1


def test_another_journal_in_its_place_is_noticed(shop: Shop, tmp_path: Path) -> None:
    with Shop(tmp_path / "other") as other:
        other.buy(upscale(other.hidream, B))
        other.journal.close()
        shop.buy(upscale(shop.hidream, A))
        shop.journal.close()
        put_back(shop, main_file(other))
        shop.journal = shop.open()
        assert_noticed(shop)
        with shop.buys(0):
            assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


def test_an_accepted_task_that_the_journal_could_not_take_is_in_the_store(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away with the answer, and the process ends before it comes back."""
    real = JournalTransactions.writing
    away: list[bool] = []

    @contextmanager
    def writing(access: JournalTransactions) -> Iterator[Any]:
        if away:
            raise JournalError(Text("It is gone.", "已不在。"))
        with real(access) as found:
            yield found

    monkeypatch.setattr(JournalTransactions, "writing", writing)
    shop.hold()
    with shop.answers_held() as may_answer:
        buying = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.accepted == 1, PATIENCE)
        away.append(True)
        may_answer.set()
        until(lambda: list((shop.folder / "store" / "tasks").glob("rv-*.json")), PATIENCE)
        buying.interrupt()
        until(lambda: not buying.alive, PATIENCE)
    shop.journal._claims._held.clear()
    shop.journal._claims._unwritten.clear()
    shop.journal.close()
    away.clear()
    shop.mend()
    sql(shop, "UPDATE owners SET pid = 999999, started = 'long ago'")
    shop.journal = shop.open()
    with shop.buys(0):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1
    assert not (shop.folder / NOTICE).exists()


# ---- what is no loss


def tasks_of_the_store(shop: Shop) -> list[str]:
    return sorted(path.name for path in (shop.folder / "store" / "tasks").glob("rv-*.json"))


def test_a_side_car_goes_when_its_task_has_ended(shop: Shop) -> None:
    park(shop, "upscale")
    assert tasks_of_the_store(shop) == [f"{shop.journal.task_list.tasks()[0].journal_id}.json"]
    shop.mend()
    shop.buy(upscale(shop.hidream, A))
    assert tasks_of_the_store(shop) == []
    shop.fault("result", task_status=[3])
    shop.trouble(upscale(shop.hidream, B))
    assert shop.states[0] == "failed" and tasks_of_the_store(shop) == []


def test_a_side_car_has_what_the_task_is_asked_for_with_and_no_key(shop: Shop) -> None:
    park(shop, "upscale")
    [path] = (shop.folder / "store" / "tasks").glob("rv-*.json")
    told = json.loads(path.read_text(encoding="utf-8"))
    task = shop.journal.task_list.tasks()[0]
    assert (told["task_id"], told["journal_id"], told["count"]) == (task.task_id, task.journal_id, 1)
    assert told["key"] and told["account"] and told["endpoint"] == "hidream upscale" and told["sub_task_ids"]
    for secret in vars(paying.KEYS).values():
        assert secret not in path.read_text(encoding="utf-8")
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_unknown_side_cars_alone_are_taken_over_without_a_word(shop: Shop, tmp_path: Path) -> None:
    """Two servers with journals of their own may share a store."""
    store = shop.folder / "store"
    with Shop(tmp_path / "second") as second:
        second.emulator, shop_emulator = shop.emulator, second.emulator
        journal = Journal(JournalSettings(second.folder, store=store))
        second._journals.append(journal)
        second.journal = journal
        journal.open()
        park(shop, "upscale")
        second.journal.close()
        second.journal = Journal(JournalSettings(second.folder, store=store))
        second._journals.append(second.journal)
        assert second.states == ["parked"]
        shop.mend()
        with shop.buys(0):
            assert len(pictures(second.buy(upscale(shop.hidream, A)))) == 1
        assert not (second.folder / NOTICE).exists()
        second.emulator = shop_emulator


def test_rows_deleted_on_purpose_stay_deleted(shop: Shop, tmp_path: Path) -> None:
    park(shop, "upscale")
    shop.journal.close()
    sql(shop, *DELETE_ROWS)
    shop.journal = shop.open()
    assert shop.states == []
    shop.journal.open()
    assert not (shop.folder / NOTICE).exists()
    shop.mend()
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A))


def test_rows_that_were_taken_over_and_deleted_stay_deleted(shop: Shop) -> None:
    park(shop, "upscale")
    shop.journal.close()
    for path in shop.folder.glob("journal.*"):
        path.unlink()
    shop.journal = shop.open()
    assert shop.states == ["parked"]
    shop.journal.close()
    sql(shop, *DELETE_ROWS)
    shop.journal = shop.open()
    assert shop.states == []


def test_many_journals_at_once_never_take_each_other_for_an_older_copy(shop: Shop) -> None:
    journals = [shop.open() for _ in range(3)]
    for take in range(4):
        buyings = [Buying(journal, [upscale(shop.hidream, A, 10 * take + n)]) for n, journal in enumerate(journals)]
        for buying in buyings:
            assert len(pictures(buying.wait())) == 1
        journals[take % 3].close()
        journals[take % 3] = shop.open()
        journals[take % 3].open()
    assert not (shop.folder / NOTICE).exists()


def test_a_new_server_on_a_shared_store_is_no_lost_journal(shop: Shop, tmp_path: Path) -> None:
    shop.buy(upscale(shop.hidream, A))
    park(shop, "cvsync2async")
    second = Journal(JournalSettings(tmp_path / "second", store=shop.folder / "store"))
    shop._journals.append(second)
    shop.mend()
    with shop.buys(0):
        assert len(pictures(paying.buy(second, [upscale(shop.hidream, A), cvprocess(shop.volcengine, A)]))) == 2
    assert not (tmp_path / "second" / NOTICE).exists()


# ---- the mark


def test_an_older_copy_is_noticed_by_a_process_that_has_not_seen_the_last_changes(shop: Shop) -> None:
    """Each process writes a mark beside the journal after a change, which others compare."""
    idle = shop.open()
    idle.task_list.tasks()
    copy = copied(shop)
    for take in range(3):
        shop.buy(upscale(shop.hidream, A, take))
    shop.journal.close()
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(main_file(shop))) as target:
        source.backup(target)
    shop.journal = idle
    with shop.sends_nothing():
        shop.trouble(upscale(shop.hidream, A))
    assert_noticed(shop)
    with shop.buys(0):
        assert len(pictures(shop.buy(*(upscale(shop.hidream, A, take) for take in range(3))))) == 3


def test_a_mark_is_never_lowered_by_a_process_that_saw_less(shop: Shop) -> None:
    settings = JournalSettings(shop.folder)
    shop.buy(upscale(shop.hidream, A))
    mark = mark_of(shop)
    write_marks(settings, shop.journal.store, replace(mark, count=mark.count + 20))
    for lower in (mark, Mark("0" * 32, mark.count + 99)):
        write_marks(settings, shop.journal.store, lower)
        assert read_mark(shop.folder / MADE) == replace(mark, count=mark.count + 20)
        assert shop.journal.store.mark_of(mark.journal).count == mark.count + 20


def mark_of(shop: Shop) -> Mark:
    with closing(sqlite3.connect(main_file(shop))) as connection:
        told = dict(connection.execute("SELECT name, value FROM meta"))
    return Mark(told["journal"], int(told["count"]))


def test_the_mark_follows_the_journal_and_is_never_ahead_of_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Mark] = []
    real = JournalTransactions.write_mark

    def write_mark(access: JournalTransactions) -> None:
        real(access)
        written.append(read_mark(shop.folder / MADE))
        assert written[-1].count <= mark_of(shop).count

    monkeypatch.setattr(JournalTransactions, "write_mark", write_mark)
    for take in range(12):
        shop.buy(upscale(shop.hidream, A, take))
    changes = mark_of(shop).count
    assert changes >= 12 * 4
    assert len(written) < changes / 4, "at most once per heartbeat"
    shop.journal.close()
    assert read_mark(shop.folder / MADE) == mark_of(shop)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"journal": 1}', b"\xff", b'{"journal": "x", "count": "y"}'])
def test_a_mark_that_cannot_be_read_is_none(content: bytes, shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    shop.journal.close()
    (shop.folder / MADE).write_bytes(content)
    shop.journal = shop.open()
    with shop.sends_nothing():
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1
    assert read_mark(shop.folder / MADE) == mark_of(shop)


# ---- a real process


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
@pytest.mark.parametrize("provider", ["hidream", "volcengine"])
def test_a_killed_process_whose_wal_is_lost(provider: str, tmp_path: Path) -> None:
    with Emulator() as emulator:
        wanted = buyer.Errand(emulator.url, str(tmp_path / "journal"), provider=provider)
        first = buyer.visit(wanted, at=7, side="after")
        assert first.died
        for path in (tmp_path / "journal").glob("journal.sqlite3-*"):
            path.unlink()
        accepted = buyer.accepted(emulator)
        again = buyer.visit(wanted)
        assert again.outcome.problem is not None and "acknowledge" in again.outcome.problem.en
        assert buyer.accepted(emulator) == accepted


# ---- PostgreSQL


def test_a_server_that_takes_over_without_the_last_changes(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "server") as shop:
        settings = JournalSettings(shop.folder, url=postgres_url, store=tmp_path / "store")

        def opened() -> Journal:
            shop._journals.append(Journal(settings))
            return shop._journals[-1]

        shop.journal = opened()
        shop.buy(upscale(shop.hidream, A, 7))
        plain = postgres_url.replace("postgresql+psycopg", "postgresql")
        tables = ("results", "attempts", "requests", "meta")
        with psycopg.connect(plain) as replica:
            for table in tables:
                replica.execute(f"CREATE TABLE lagging_{table} AS SELECT * FROM {table}")  # noqa: S608
        park(shop, "upscale")
        with psycopg.connect(plain) as replica:
            for table in tables:
                replica.execute(f"DELETE FROM {table}")  # noqa: S608
                replica.execute(f"INSERT INTO {table} SELECT * FROM lagging_{table}")  # noqa: S608
        with shop.buys(0), pytest.raises(RemoteImageError):
            shop.buy(upscale(shop.hidream, A))
        # Another server of the studio, which had not seen as much, buys nothing either.
        other = Journal(JournalSettings(tmp_path / "other", url=postgres_url, store=tmp_path / "store"))
        shop._journals.append(other)
        with shop.sends_nothing(), pytest.raises(JournalError, match="older copy"):
            paying.buy(other, [upscale(shop.hidream, B)])
        assert_noticed(shop)
        shop.mend()
        with shop.buys(0):
            assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1
            assert len(pictures(shop.buy(upscale(shop.hidream, A, 7)))) == 1
        with shop.buys(1):
            assert len(pictures(paying.buy(other, [upscale(shop.hidream, B)]))) == 1
