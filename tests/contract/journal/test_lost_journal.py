"""The journal goes away, or an older one takes its place, while a task is under way: it is never submitted again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hidream_volcengine.api import AmbiguousSubmitError, Journal, JournalSettings, RemoteImageError, tensors
from hidream_volcengine.api.core.task import TaskRef
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import Busy
from hidream_volcengine.api.pixels.tensors import Encoded

from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    PATIENT,
    A,
    Buying,
    Shop,
    cvprocess,
    equal,
    errors_of,
    img2img,
    pictures,
    upscale,
)
from tests.contract.raw_servers import until


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paying.brisk(monkeypatch)
    with Shop(tmp_path / "journal") as running:
        yield running


def journal_files(shop: Shop) -> list[Path]:
    return [path for path in shop.folder.iterdir() if path.is_file()]


def delete_rows(shop: Shop, *tables: str) -> None:
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3", timeout=PATIENCE)) as connection, connection:
        for table in tables or ("results", "attempts", "requests"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608


def delete_the_file(shop: Shop) -> None:
    for path in shop.folder.glob("journal.sqlite3*"):
        path.unlink()


def delete_every_file(shop: Shop) -> None:
    for path in journal_files(shop):
        path.unlink()


def delete_the_folder(shop: Shop) -> None:
    shutil.rmtree(shop.folder)


def rename_the_folder(shop: Shop) -> None:
    shop.folder.rename(shop.folder.with_name("elsewhere"))


LOSSES: dict[str, Callable[[Shop], None]] = {
    "rows": delete_rows,
    "rows of attempts": lambda shop: delete_rows(shop, "attempts"),
    "the file": delete_the_file,
    "every file": delete_every_file,
    "the folder": delete_the_folder,
    "the folder's name": rename_the_folder,
}
every_loss = pytest.mark.parametrize("loss", LOSSES)


def copied(shop: Shop, name: str) -> Path:
    """A copy of the journal as it is now, as a backup makes it."""
    path = shop.folder.parent / name
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3")) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
    return path


def restored(shop: Shop, copy: Path) -> None:
    """The copy over the journal, while that is open."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(shop.folder / "journal.sqlite3")) as target:
        source.backup(target)


def put_over(shop: Shop, copy: Path) -> None:
    """The copy over the journal's file."""
    for suffix in ("-wal", "-shm"):
        (shop.folder / f"journal.sqlite3{suffix}").unlink(missing_ok=True)
    shutil.copyfile(copy, shop.folder / "journal.sqlite3")


every_way_back = pytest.mark.parametrize("bring_back", [restored, put_over])


def ends_well(shop: Shop, buying: Buying) -> None:
    """The picture comes, or an error that names the task; neither then nor later is it submitted again."""
    [task_id] = task_ids(shop)
    try:
        [result] = buying.wait()
        errors = list(errors_of(result))
    except RemoteImageError as error:
        result, errors = None, [error]
    assert (result is not None and len(pictures([result])) == 1) or any(task_id in str(error) for error in errors)
    assert shop.accepted == 1


def task_ids(shop: Shop) -> list[str]:
    return list(shop.emulator._hidream._tasks)


def waited_for(shop: Shop) -> Buying:
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    until(lambda: [record for record in shop.emulator.requests if record.phase == "result"], PATIENCE)
    return buying


def asked_and_lost(shop: Shop, loss: str, service: str) -> Buying:
    """The journal is lost between the request and its answer; the call has ended."""
    with shop.answers_held() as may_answer:
        buying = shop.buying(ANY_CALL[service](shop, A))
        until(lambda: shop.accepted == 1, PATIENCE)
        LOSSES[loss](shop)
        may_answer.set()
        until(lambda: not buying.alive, PATIENCE)
    return buying


@every_loss
def test_while_a_task_is_waited_for(loss: str, shop: Shop) -> None:
    buying = waited_for(shop)
    LOSSES[loss](shop)
    shop.mend()
    ends_well(shop, buying)
    if loss != "the folder's name":
        # It is in the (new) journal, and what queues it again finds it.
        shop.journal.acknowledge()
        with shop.buys(0):
            assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


@every_loss
def test_while_the_answer_to_a_submit_is_on_its_way(loss: str, shop: Shop) -> None:
    ends_well(shop, asked_and_lost(shop, loss, "upscale"))


@every_loss
def test_another_node_that_wants_the_same_waits_for_it(loss: str, shop: Shop) -> None:
    first = waited_for(shop)
    second = shop.buying(upscale(shop.hidream, A))
    second.reaches("running")
    LOSSES[loss](shop)
    others = [second]
    with suppress(RemoteImageError):
        others.append(shop.buying(upscale(shop.hidream, A)))
    shop.mend()
    ends_well(shop, first)
    for other in others:
        with suppress(RemoteImageError):
            other.wait()
    assert shop.accepted == 1


@every_way_back
def test_a_copy_from_before_the_purchase(bring_back: Callable[[Shop, Path], None], shop: Shop) -> None:
    shop.buy(img2img(shop.hidream, A))
    shop.emulator.clear()
    copy = copied(shop, "before.sqlite3")
    buying = waited_for(shop)
    bring_back(shop, copy)
    shop.mend()
    ends_well(shop, buying)
    shop.journal.acknowledge()
    with shop.buys(0):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


@every_way_back
def test_a_copy_from_the_middle_of_the_submit(bring_back: Callable[[Shop, Path], None], shop: Shop) -> None:
    with shop.answers_held() as may_answer:
        shop.hold()
        buying = shop.buying(upscale(shop.hidream, A))
        until(lambda: shop.accepted == 1, PATIENCE)
        copy = copied(shop, "middle.sqlite3")
        may_answer.set()
        until(lambda: [record for record in shop.emulator.requests if record.phase == "result"], PATIENCE)
        bring_back(shop, copy)
        shop.mend()
        ends_well(shop, buying)
    shop.journal.acknowledge()
    with shop.buys(0):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


def test_a_copy_in_which_it_was_to_be_submitted_again(shop: Shop) -> None:
    shop.fault("submit", status=502, accept=True)
    shop.trouble(upscale(shop.hidream, A))
    assert shop.journal.submit_again(shop.journal.task_list.tasks()[0].journal_id)
    copy = copied(shop, "again.sqlite3")
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    until(lambda: [record for record in shop.emulator.requests if record.phase == "result"], PATIENCE)
    restored(shop, copy)
    shop.mend()
    assert len(pictures(buying.wait())) == 1
    shop.journal.acknowledge()
    with shop.buys(0):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


@pytest.mark.parametrize("loss", ["rows", "every file"])
def test_an_unclear_answer_stays_explained(loss: str, shop: Shop) -> None:
    shop.fault("submit", status=502, accept=True)
    [result] = asked_and_lost(shop, loss, "upscale").wait()
    assert isinstance(result.error, AmbiguousSubmitError)
    shop.journal.acknowledge()
    with shop.buys(0):
        assert isinstance(shop.trouble(upscale(shop.hidream, A)), AmbiguousSubmitError)


@pytest.mark.parametrize("loss", ["rows", "every file"])
def test_a_picture_in_the_answer_is_reused(loss: str, shop: Shop) -> None:
    came = pictures(asked_and_lost(shop, loss, "cvprocess").wait())
    shop.journal.acknowledge()
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(cvprocess(shop.volcengine, A))), came)


def test_pictures_that_were_stored_before_are_not_asked_for_again(shop: Shop) -> None:
    """Of a task that is gone on with: one of its pictures came in an earlier run."""
    shop.deadlines = replace(PATIENT, download=0.4)
    shop.emulator.add_fault({"phase": "image", "skip": 1, "times": None, "do": {"status": 404}})
    shop.buying(img2img(shop.hidream, A, count=2)).wait()
    assert (shop.states, len(shop.stored_pictures())) == (["parked"], 1)
    shop.deadlines = PATIENT
    shop.mend()
    shop.hold()
    buying = shop.buying(img2img(shop.hidream, A, count=2))
    polls = len(shop.emulator.requests)
    until(lambda: len(shop.emulator.requests) > polls, PATIENCE)
    delete_rows(shop)
    shop.mend()
    assert len(pictures(buying.wait())) == 2
    with shop.sends_nothing():
        assert len(pictures(shop.buy(img2img(shop.hidream, A, count=2)))) == 2


def test_rows_that_a_replica_of_postgresql_never_got(shop: Shop, postgres_url: str) -> None:
    settings = JournalSettings(shop.folder, url=postgres_url, store=shop.folder / "store")
    with closing(Journal(settings)) as journal:
        shop.journal = journal
        buying = waited_for(shop)
        with psycopg.connect(postgres_url) as connection:
            for table in ("results", "attempts", "requests"):
                connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]  # noqa: S608
        shop.mend()
        ends_well(shop, buying)
        with shop.buys(0):
            assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


def test_a_picture_in_an_answer_is_kept_while_another_node_asks_for_it(shop: Shop) -> None:
    """The other node writes the attempt down; when the first call breaks off, the attempt is stored, not ambiguous."""
    call = cvprocess(shop.volcengine, A)
    order = call.order("", 0)
    claim = shop.journal.claim(order)
    assert isinstance(claim, Claim)
    picture = Encoded.of(tensors.encode(A))
    with suppress(RuntimeError), claim:
        claim.submitting()
        claim.answered(TaskRef("Volcengine", call.service.name, ""))
        assert claim.keep(0, "", picture)
        assert isinstance(shop.journal.claim(order), Busy)
        raise RuntimeError
    assert shop.states == ["stored"]
