"""The options of a result are kept with the attempt: whoever asks for its task, and when, asks for the same."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import BackgroundPoller, Journal, JournalSettings, fetch_task
from hidream_volcengine.api.catalog.endpoints import volcengine_outpaint
from hidream_volcengine.api.journal.store import SideCar
from hidream_volcengine.api.services import VolcengineService

from emulator import Emulator
from tests.contract import buyer, paying
from tests.contract.buyer import Errand, accepted, polls, visit
from tests.contract.paying import PATIENCE, A, Shop, cvprocess, delivery_of, idle_watch, park, upscale
from tests.contract.raw_servers import until
from tests.thinned import thinned

LOGO = '{"add_logo": true, "position": 2, "language": 1, "opacity": 0.5, "logo_text_content": "画室"}'
META = '{"producer_id": "producer-1"}'
OTHER_META = '{"producer_id": "producer-2"}'
BOTH = {"VOLCENGINE_LOGO_INFO": LOGO, "VOLCENGINE_AIGC_META": META}
LATER = {
    "none": {"VOLCENGINE_LOGO_INFO": "", "VOLCENGINE_AIGC_META": ""},
    "others": {"VOLCENGINE_LOGO_INFO": '{"add_logo": true}', "VOLCENGINE_AIGC_META": OTHER_META},
}
every_change = pytest.mark.parametrize("changed", list(LATER.values()), ids=list(LATER))
WANTED = {"return_url": False, "logo_info": json.loads(LOGO), "aigc_meta": json.loads(META)}
ON_POSIX = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="forks and POSIX signals")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal", **BOTH) as running:
        yield running


def asked(shop: Shop, since: int = 0) -> list[Any]:
    """What each query wanted that has arrived whole, from the request number ``since`` on."""
    records = shop.emulator.requests[since:]
    return [json.loads(record.body["req_json"]) for record in records if record.phase == "result" and record.body]


@pytest.fixture
def journal_id(shop: Shop) -> str:
    """A task that was submitted with both options, was asked for, and is parked."""
    park(shop, "cvsync2async")
    assert asked(shop) and all(wanted == WANTED for wanted in asked(shop))
    shop.mend()
    [task] = shop.journal.task_list.tasks()
    return task.journal_id


def service(shop: Shop) -> VolcengineService:
    return VolcengineService(shop.volcengine, volcengine_outpaint.ENDPOINT)


def fetched(shop: Shop, wanted: str) -> None:
    assert fetch_task(shop.journal, service(shop), wanted, idle_watch()).pictures


def rows(shop: Shop) -> list[tuple[str, str]]:
    """State and options of each attempt, as another process reads them."""
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3", timeout=PATIENCE)) as connection:
        return connection.execute("SELECT state, options FROM attempts ORDER BY created_at").fetchall()


# ---- when they are written


@pytest.mark.parametrize("resumable", ["0", "1"])
def test_they_are_in_the_journal_before_the_first_byte_of_the_submit(resumable: str, shop: Shop) -> None:
    """Of the synchronous call, too: a gateway may answer it with a task."""
    shop.settings["VOLCENGINE_RESUMABLE"] = resumable
    with shop.answers_held() as may_answer:
        buying = shop.buying(cvprocess(shop.volcengine, A))
        until(lambda: shop.emulator.requests, PATIENCE)
        [(state, options)] = rows(shop)
        assert state == "submitting"
        assert json.loads(options) == {name: WANTED[name] for name in ("logo_info", "aigc_meta")}
        may_answer.set()
        delivery_of(buying.wait())


def test_a_purchase_without_options_has_none(shop: Shop) -> None:
    shop.settings.update(LATER["none"])
    delivery_of(shop.buy(cvprocess(shop.volcengine, A)))
    delivery_of(shop.buy(upscale(shop.hidream, A)))
    assert [options for _, options in rows(shop)] == ["", ""]


def test_hidream_has_none(shop: Shop) -> None:
    delivery_of(shop.buy(upscale(shop.hidream, A)))
    assert [options for _, options in rows(shop)] == [""]


# ---- who asks, after the settings have changed


@every_change
def test_the_background_poller(changed: dict[str, str], shop: Shop, journal_id: str) -> None:
    before = len(shop.emulator.requests)
    shop.settings.update(changed)
    assert BackgroundPoller(shop.journal, shop.profiles).poll_once() == 1
    assert shop.states == ["stored"]
    assert asked(shop, before) == [WANTED]


@every_change
def test_ask_now(changed: dict[str, str], shop: Shop, journal_id: str) -> None:
    before = len(shop.emulator.requests)
    shop.settings.update(changed)
    assert BackgroundPoller(shop.journal, shop.profiles).ask_now(journal_id)
    until(lambda: shop.states == ["stored"], PATIENCE)
    assert asked(shop, before) == [WANTED]


@every_change
def test_remote_task_result_by_journal_id_and_by_task_id(changed: dict[str, str], shop: Shop, journal_id: str) -> None:
    """The journal has the task id, so it is no adopted task."""
    before = len(shop.emulator.requests)
    [task_id] = shop.emulator._volcengine._tasks
    shop.settings.update(changed)
    for wanted in (journal_id, task_id):
        shutil.rmtree(shop.folder / "store", ignore_errors=True)
        fetched(shop, wanted)
    assert len(asked(shop, before)) == 2 and all(one == WANTED for one in asked(shop, before))


def test_the_same_request_with_another_label(shop: Shop, journal_id: str) -> None:
    """The label is not in the key: the request resumes the task, and asks for the label that it was bought with."""
    before = len(shop.emulator.requests)
    shop.settings["VOLCENGINE_AIGC_META"] = OTHER_META
    with shop.buys(0):
        assert delivery_of(shop.buy(cvprocess(shop.volcengine, A))).source == "resumed"
    assert asked(shop, before) and all(wanted == WANTED for wanted in asked(shop, before))


@every_change
def test_another_server(changed: dict[str, str], shop: Shop, journal_id: str) -> None:
    before = len(shop.emulator.requests)
    shop.settings.update(changed)
    shop.journal = shop.open()
    fetched(shop, journal_id)
    assert asked(shop, before) == [WANTED]


def test_a_stored_picture_that_was_lost(shop: Shop, journal_id: str) -> None:
    before = len(shop.emulator.requests)
    fetched(shop, journal_id)
    for path in (shop.folder / "store").rglob("*.*"):
        path.unlink()
    shop.settings.update(LATER["others"])
    fetched(shop, journal_id)
    assert asked(shop, before) == [WANTED] * 2


def test_a_task_without_options_stays_without(shop: Shop) -> None:
    shop.settings.update(LATER["none"])
    park(shop, "cvsync2async")
    shop.mend()
    shop.settings.update(BOTH)
    fetched(shop, shop.journal.task_list.tasks()[0].journal_id)
    assert asked(shop) and all(wanted == {"return_url": False} for wanted in asked(shop))


# ---- adopted


def test_an_adopted_task_is_asked_for_as_the_profile_says_when_it_is_adopted(
    shop: Shop, journal_id: str, tmp_path: Path
) -> None:
    before = len(shop.emulator.requests)
    [task_id] = shop.emulator._volcengine._tasks
    shop.settings["VOLCENGINE_AIGC_META"] = OTHER_META
    shop.journal = Journal(JournalSettings(tmp_path / "elsewhere"))
    fetched(shop, task_id)
    shop.journal.close()
    assert asked(shop, before) == [{**WANTED, "aigc_meta": json.loads(OTHER_META)}]


# ---- when the journal is lost


def damage_the_file(shop: Shop) -> None:
    """The header is gone; most rows can be read."""
    shop.journal.close()
    path = shop.folder / "journal.sqlite3"
    data = bytearray(path.read_bytes())
    # From here the tree of `meta` is not sound, so that the whole file counts as damaged.
    with closing(sqlite3.connect(path)) as connection:
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'owners'").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)


def delete_the_file(shop: Shop) -> None:
    shop.journal.close()
    for path in shop.folder.glob("journal.sqlite3*"):
        path.unlink()


def without_side_cars(damage: Callable[[Shop], None]) -> Callable[[Shop], None]:
    def both(shop: Shop) -> None:
        damage(shop)
        shutil.rmtree(shop.folder / "store")

    return both


LOSSES: dict[str, Callable[[Shop], None]] = {
    "deleted: from the side-car": delete_the_file,
    "damaged": damage_the_file,
    "damaged, without the side-car: from the rows": without_side_cars(damage_the_file),
}


@pytest.mark.parametrize("loss", list(LOSSES))
def test_after_the_journal_was_lost(loss: str, shop: Shop, journal_id: str) -> None:
    before = len(shop.emulator.requests)
    LOSSES[loss](shop)
    shop.settings.update(LATER["others"])
    shop.journal = shop.open()
    assert [task.state for task in shop.journal.task_list.tasks()] == ["parked"]
    assert list(shop.folder.glob("JOURNAL-WAS-DAMAGED.txt")), "the loss was noticed"
    fetched(shop, journal_id)
    assert asked(shop, before) == [WANTED]


def test_from_the_side_car_of_a_stored_picture(shop: Shop, journal_id: str) -> None:
    before = len(shop.emulator.requests)
    fetched(shop, journal_id)
    delete_the_file(shop)
    shop.settings.update(LATER["others"])
    shop.journal = shop.open()
    for path in (shop.folder / "store").rglob("*.png"):
        path.unlink()
    fetched(shop, journal_id)
    assert asked(shop, before) == [WANTED] * 2


def test_rows_that_the_open_journal_lost_come_back_with_them(shop: Shop) -> None:
    shop.settings["VOLCENGINE_RESUMABLE"] = "1"
    shop.fault("result", None, json={"code": 10000, "data": {"status": "generating"}})
    buying = shop.buying(cvprocess(shop.volcengine, A))
    until(lambda: asked(shop), PATIENCE)
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3", timeout=PATIENCE)) as connection, connection:
        connection.execute("DELETE FROM attempts")
    buying.interrupt()
    until(lambda: not buying.alive, PATIENCE)
    [(state, options)] = rows(shop)
    assert state == "parked" and json.loads(options)["aigc_meta"] == json.loads(META)


def test_a_side_car_of_an_earlier_version_has_none() -> None:
    assert SideCar.model_validate_json('{"journal_id": "rv-0123456789abcdef", "task_id": "t"}').options == ""


# ---- kill -9


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def wanted_by(emulator: Emulator) -> list[str]:
    whole = [record.body for record in polls(emulator) if record.body]
    return [json.loads(body["req_json"])["aigc_meta"]["producer_id"] for body in whole]


def killed_at_any_commit(emulator: Emulator, side: str, make: Callable[[int], Errand]) -> None:
    """The second process has another label: it sends that one only with what it submits itself."""
    resumed = 0
    for number in range(1, 200):
        emulator.clear()
        errand = make(number)
        first = visit(errand, at=number, side=side, environment=BOTH)
        assert set(wanted_by(emulator)) <= {"producer-1"}
        if not first.died:
            assert first.all_delivered
            break
        bought, before = sum(accepted(emulator).values()), len(wanted_by(emulator))
        second = visit(errand, environment={**BOTH, "VOLCENGINE_AIGC_META": OTHER_META})
        assert sum(accepted(emulator).values()) <= 1, f"commit {number}: bought twice"
        later = set(wanted_by(emulator)[before:])
        assert later <= ({"producer-1"} if bought else {"producer-2"}), (number, bought, later)
        assert later or not second.all_delivered or bought
        resumed += bool(later) and bool(bought)
    else:
        raise AssertionError("no purchase makes so many commits")
    assert resumed


@ON_POSIX
@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_any_commit(side: str, emulator: Emulator, tmp_path: Path) -> None:
    killed_at_any_commit(
        emulator, side, lambda n: Errand(emulator.url, str(tmp_path / str(n) / "journal"), provider="resumable")
    )


@ON_POSIX
@thinned("side", ["before", "after"], kept=(1,))
def test_killed_at_any_commit_with_postgresql(side: str, emulator: Emulator, tmp_path: Path, postgres_url: str) -> None:
    """Another server goes on."""

    def errand(number: int) -> Errand:
        # One database for all of them: another take is another request.
        return Errand(
            emulator.url, str(tmp_path / "journal"), provider="resumable", journal_url=postgres_url,
            store=str(tmp_path / "store"), take=number,
        )  # fmt: skip

    killed_at_any_commit(emulator, side, errand)


def test_what_a_child_leaves_is_read_by_this_process(emulator: Emulator, tmp_path: Path) -> None:
    """The task list of a journal with options is what it was: they are not shown."""
    wanted = Errand(emulator.url, str(tmp_path / "journal"), provider="resumable", environment=BOTH)
    assert visit(wanted).all_delivered
    [task] = buyer.tasks(wanted)
    assert task.state == "delivered" and "producer-1" not in repr(task)
