"""From the schema of 0.1 to today's: once, whole or not at all, and what an earlier version makes of the result."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from hidream_volcengine.api import Journal, JournalError, JournalSettings
from hidream_volcengine.api.journal import tables
from hidream_volcengine.api.journal.tables import SCHEMA_VERSION

from emulator import Emulator
from tests.contract.buyer import Errand, accepted, children, visit
from tests.contract.journal.test_fixtures import FIXTURES
from tests.contract.paying import A, B, Shop, cvprocess, delivery_of, trouble
from tests.thinned import thinned

OLD = FIXTURES / "0.1"
ON_POSIX = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks and POSIX signals")
# More commits than opening a journal and one purchase make.
MANY = 60


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> JournalSettings:
    """A journal that 0.1 has left, and its store."""
    folder, url = tmp_path / "user", ""
    shutil.copytree(OLD / ("user" if request.param == "sqlite" else "postgres"), folder)
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
            connection.execute((OLD / "postgres" / "journal.sql").read_text(encoding="utf-8"))  # type: ignore[call-overload]
    return JournalSettings(folder, url=url, store=folder / "store")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def engine_of(settings: JournalSettings) -> sqlalchemy.Engine:
    url = settings.url or f"sqlite:///{settings.directory / 'journal.sqlite3'}"
    return sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def found(settings: JournalSettings, statement: str) -> list[Any]:
    with Writing(settings) as connection:
        return list(connection.execute(sqlalchemy.text(statement)).all())


class Writing:
    """A connection in a transaction of its own, committed at the end of the block."""

    def __init__(self, settings: JournalSettings) -> None:
        self._engine = engine_of(settings)

    def __enter__(self) -> sqlalchemy.Connection:
        self._begun = self._engine.begin()
        return self._begun.__enter__()

    def __exit__(self, *failed: Any) -> None:
        self._begun.__exit__(*failed)
        self._engine.dispose()


def schema(settings: JournalSettings) -> int:
    [(version,)] = found(settings, "SELECT value FROM meta WHERE name = 'schema'")
    return int(version)


def columns(settings: JournalSettings) -> dict[str, dict[str, tuple[str, bool]]]:
    """Type and NOT NULL of each column of each table."""
    engine = engine_of(settings)
    look = sqlalchemy.inspect(engine)
    shape = {
        table: {one["name"]: (str(one["type"]), one["nullable"]) for one in look.get_columns(table)}
        for table in look.get_table_names()
    }
    engine.dispose()
    return shape


def keys(settings: JournalSettings) -> dict[str, tuple[list[str], list[tuple[str, list[str], bool]]]]:
    """Primary key and indexes of each table."""
    engine = engine_of(settings)
    look = sqlalchemy.inspect(engine)
    shape = {
        table: (
            look.get_pk_constraint(table)["constrained_columns"],
            sorted((str(one["name"]), one["column_names"], bool(one["unique"])) for one in look.get_indexes(table)),
        )
        for table in look.get_table_names()
    }
    engine.dispose()
    return shape


def as_of(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack knows no later schema than this one."""
    monkeypatch.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[: version - 1])
    monkeypatch.setattr(tables, "SCHEMA_VERSION", version)


def opened(settings: JournalSettings) -> None:
    journal = Journal(settings)
    journal.open()
    journal.close()


def test_a_migrated_journal_has_the_tables_of_a_new_one(place: JournalSettings, tmp_path: Path) -> None:
    assert schema(place) == 1
    before = len(found(place, "SELECT id FROM attempts"))
    opened(place)
    assert schema(place) == SCHEMA_VERSION
    assert found(place, "SELECT DISTINCT options FROM attempts") == [("",)]
    assert len(found(place, "SELECT id FROM attempts")) == before
    migrated = columns(place), keys(place)
    with Writing(place) as connection:
        for table in ("attempts", "requests", "results", "owners", "limits", "run_items", "meta"):
            connection.execute(sqlalchemy.text(f"DROP TABLE {table}"))
    for path in (*place.directory.glob("journal*"), *place.directory.glob("store/tasks/*")):
        path.unlink()
    shutil.rmtree(place.directory / "store")
    opened(place)
    assert (columns(place), keys(place)) == migrated


@ON_POSIX
@pytest.mark.parametrize("repeat", range(3))
def test_several_processes_migrate_it_once(repeat: int, place: JournalSettings, emulator: Emulator) -> None:
    begin = time.monotonic() + 0.5
    errands = [
        Errand(emulator.url, str(place.directory), provider="resumable", journal_url=place.url, pictures=(100 + one,),
               store=str(place.store), begin_at=begin)
        for one in range(4)
    ]  # fmt: skip
    with children(*errands) as born:
        visits = [child.wait() for child in born]
    assert all(one.all_delivered for one in visits), visits
    assert sum(accepted(emulator).values()) == len(errands)
    assert schema(place) == SCHEMA_VERSION


@ON_POSIX
@thinned("side", ["before", "after"], kept=(0, 1))
def test_killed_at_any_commit_of_the_migration(side: str, emulator: Emulator, tmp_path: Path) -> None:
    for number in range(1, MANY):
        folder = tmp_path / str(number)
        shutil.copytree(OLD / "user", folder)
        settings = JournalSettings(folder)
        before = found(settings, "SELECT id FROM attempts")
        errand = Errand(emulator.url, str(folder), provider="resumable", pictures=(number,))
        first = visit(errand, at=number, side=side)
        assert schema(settings) in (1, SCHEMA_VERSION)
        assert ("options" in columns(settings)["attempts"]) == (schema(settings) == SCHEMA_VERSION)
        assert ("run_items" in columns(settings)) == (schema(settings) == SCHEMA_VERSION)
        assert set(before) <= set(found(settings, "SELECT id FROM attempts"))
        bought = sum(accepted(emulator).values())
        second = visit(errand)
        assert schema(settings) == SCHEMA_VERSION
        assert second.all_delivered or bought, second
        if not first.died or bought:
            break
    else:
        raise AssertionError("it never got to the purchase")
    assert number > 1


@pytest.mark.parametrize("known", range(1, SCHEMA_VERSION))
def test_an_earlier_version_refuses_it_before_buying(
    known: int, place: JournalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(place)
    as_of(known, monkeypatch)
    with Shop(tmp_path / "shop") as shop:
        shop.journal = Journal(place)
        with shop.sends_nothing():
            error = trouble(shop.journal, [cvprocess(shop.volcengine, A)])
        shop.journal.close()
    assert isinstance(error, JournalError)
    assert "later version" in error.what.en and f"schema {SCHEMA_VERSION}" in error.what.en
    assert f"{SCHEMA_VERSION}" in error.what.zh
    assert schema(place) == SCHEMA_VERSION


def test_a_journal_of_schema_2_keeps_its_rows(place: JournalSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        as_of(2, earlier)
        opened(place)
    assert schema(place) == 2 and "run_items" not in columns(place) and "options" in columns(place)["attempts"]
    before = found(place, "SELECT * FROM attempts ORDER BY id")
    opened(place)
    assert schema(place) == SCHEMA_VERSION
    assert found(place, "SELECT * FROM attempts ORDER BY id") == before
    assert found(place, "SELECT * FROM run_items") == []


# ---- a server of 0.1 that still runs


WRITES: dict[str, Callable[[str], str]] = {
    "insert": lambda names: (
        f"INSERT INTO attempts ({names}, id, number) "  # noqa: S608
        f"SELECT {names}, 'rv-00000000000000aa', 99 FROM attempts WHERE state = 'delivered' LIMIT 1"
    ),
    "update": lambda names: "UPDATE attempts SET polls = polls + 1",
    "read": lambda names: f"SELECT {names}, id, number FROM attempts",  # noqa: S608
}


def test_a_server_of_0_1_goes_on_with_its_open_journal(place: JournalSettings) -> None:
    """It has read the schema when it started, names each column that it knows, and knows no options."""
    known = [name for name in columns(place)["attempts"] if name not in ("id", "number")]
    names = ", ".join(known)
    old = engine_of(place)
    try:
        with old.connect() as running:
            for _ in range(7):  # so often that psycopg prepares the statements
                for statement in ("update", "read"):
                    running.execute(sqlalchemy.text(WRITES[statement](names)))
                running.commit()
            opened(place)
            for statement in WRITES.values():
                running.execute(sqlalchemy.text(statement(names)))
            running.commit()
    finally:
        old.dispose()
    assert found(place, "SELECT options FROM attempts WHERE id = 'rv-00000000000000aa'") == [("",)]
    opened(place)


def test_the_rows_of_a_damaged_journal_of_0_1(tmp_path: Path) -> None:
    """Its rows have no options; they are carried over into a new journal of today's schema."""
    settings = JournalSettings(tmp_path / "user")
    shutil.copytree(OLD / "user", settings.directory)
    path = settings.directory / "journal.sqlite3"
    before = sorted(found(settings, "SELECT id FROM attempts"))
    with closing(sqlite3.connect(path)) as connection:
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'owners'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)
    shutil.rmtree(settings.directory / "store")
    journal = Journal(settings)
    assert len(journal.task_list.tasks()) == len(before)
    journal.close()
    assert schema(settings) == SCHEMA_VERSION
    assert found(settings, "SELECT DISTINCT options FROM attempts") == [("",)]
    assert sorted(found(settings, "SELECT id FROM attempts")) == before


def test_an_older_copy_under_a_running_server_is_noticed_and_migrated(
    place: JournalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup from before the update is brought back: nothing is bought, and nothing that was paid is sent again."""
    with Shop(tmp_path / "shop") as shop:
        shop.journal = Journal(place)
        delivery_of(shop.buy(cvprocess(shop.volcengine, B)))
        with Writing(place) as connection:
            connection.execute(sqlalchemy.text("ALTER TABLE attempts DROP COLUMN options"))
            connection.execute(sqlalchemy.text("DROP TABLE run_items"))
            connection.execute(sqlalchemy.text("UPDATE meta SET value = '1' WHERE name IN ('schema', 'count')"))
            connection.execute(sqlalchemy.text("DELETE FROM attempts"))
        with shop.sends_nothing():
            for _ in range(2):
                assert isinstance(shop.trouble(cvprocess(shop.volcengine, A)), JournalError)
            (place.directory / "store" if place.url else place.directory).joinpath("JOURNAL-WAS-DAMAGED.txt").unlink()
            assert delivery_of(shop.buy(cvprocess(shop.volcengine, B))).source == "reused"
        shop.journal.close()
    assert schema(place) == SCHEMA_VERSION


def test_an_older_copy_without_run_items_is_migrated_by_a_look_at_the_task_list(place: JournalSettings) -> None:
    journal = Journal(place)
    assert journal.task_list.tasks()
    with Writing(place) as connection:
        connection.execute(sqlalchemy.text("DROP TABLE run_items"))
        connection.execute(sqlalchemy.text("UPDATE meta SET value = '2' WHERE name = 'schema'"))
    with pytest.raises(JournalError, match="damaged"):
        journal.task_list.tasks()
    assert journal.task_list.tasks() and journal.run_items.runs(9) == []
    journal.close()
    assert schema(place) == SCHEMA_VERSION


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_new", [False, True], ids=["migrated", "new"])
def test_the_list_of_tables_is_in_the_first_page(is_new: bool, place: JournalSettings, tmp_path: Path) -> None:
    """In a second page it would be lost with that one, and every table with it (see salvage.py)."""
    settings = JournalSettings(tmp_path / "new") if is_new else place
    opened(settings)
    leaf_of_a_table = 13
    assert (settings.directory / "journal.sqlite3").read_bytes()[100] == leaf_of_a_table
