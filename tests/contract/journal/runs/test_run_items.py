"""Rows of runs: written with the admission and at the end, told by the attempt, forgotten with their labels."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hidream_volcengine.api import CancelToken, Journal, QuotaError, TaskRef
from hidream_volcengine.api.core import Budget, Price, Secret
from hidream_volcengine.api.journal import ErrorRecord, ItemEnd, JournalError, Outcome, budget
from hidream_volcengine.api.journal.model import ACCEPTED, FINISHED, State, StoredResult
from hidream_volcengine.api.journal.tables import run_items
from sqlalchemy import text

from tests.contract.journal.runs.written import DAY, Written, attempt_of, commits, item_of, order_of

ROOT = Path(__file__).resolve().parents[4]
ERROR = ErrorRecord(kind="ModerationError", what_en="refused", what_zh="拒绝", advice_en="", advice_zh="", billed="no")


# ---- admission


def test_the_row_is_written_by_the_commit_that_admits(written: Written) -> None:
    item = item_of(1, label="SKU 1/红\0\ud800", price=Price(Decimal("0.2200"), "CNY"))
    with written.claim(item) as claim:
        assert written.rows() == []
        with written.statements() as seen:
            written.admit(claim, replace(item, key=""))
        assert commits(seen) == 1
        [row] = written.rows()
        assert row.end.item == replace(item, label="SKU 1/红?")
        assert (row.end.outcome, row.end.attempt, row.end.pictures) == (Outcome.UNDER_WAY, claim.journal_id, 0)
        assert str(row.end.item.price.amount) == "0.2200" if row.end.item.price else False
        assert (row.time, row.submitted_at, row.finished_at, row.file) == (written.clock.now, None, None, "")


def test_no_row_without_admission(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    item = item_of(1)
    with written.claim(item) as claim:
        with pytest.raises(QuotaError):
            written.admit(claim, item, Budget(per_run=0))
        assert written.rows() == []


def test_no_admission_without_its_row(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(budget, "put_under_way", fails)
    item = item_of(1)
    with written.claim(item) as claim:
        with pytest.raises(ZeroDivisionError):
            written.admit(claim, item)
        assert written.journal.task_list.tasks()[0].pictures == 0


def test_admitted_twice_is_one_row(written: Written) -> None:
    item, began_at = item_of(1), written.clock.now
    with written.claim(item) as claim:
        written.admit(claim, item)
        claim.submitting()
        claim.unsent()
        claim.write_unsent(holds_slot=False)
        written.clock.now += 30
        written.admit(claim, item)
        [row] = written.rows()
        assert (row.time, row.end.attempt) == (began_at, claim.journal_id)


def test_a_purchase_without_an_item_has_no_row(written: Written) -> None:
    item = item_of(1)
    with written.claim(item) as claim:
        written.journal.limiter.admit(claim, replace(order_of(item).purchase, item=None), CancelToken())
        assert written.journal.run_items.runs(9) == []


# ---- the end


def test_an_end_takes_the_place_of_what_was_under_way(written: Written) -> None:
    item, began_at = item_of(1, pictures=4), written.clock.now
    with written.claim(item) as claim:
        written.admit(claim, item)
        claim.submitting()
        claim.accepted(TaskRef("HiDream", item.endpoint, "task-1", "request-1"))
        claim.done(1)
    written.clock.now += 60
    written.end(item, Outcome.FAILED, billed="unknown", error=ERROR)
    [row] = written.rows()
    # What the end did not know stays.
    assert row.end == ItemEnd(item, Outcome.FAILED, "", claim.journal_id, 0, "unknown", ERROR)
    assert (row.time, row.task_id, row.request_id) == (began_at, "task-1", "request-1")
    assert (row.submitted_at, row.finished_at) == (began_at, began_at)
    written.end(item, Outcome.CAME, source="bought", attempt=claim.journal_id, pictures=3, billed="yes")
    [row] = written.rows()
    assert row.end == ItemEnd(item, Outcome.CAME, "bought", claim.journal_id, 3, "yes", None)


def test_what_was_never_submitted_has_a_row(written: Written) -> None:
    item = item_of(1, key="", price=None)
    written.end(item, Outcome.NOT_SUBMITTED, error=ERROR)
    [row] = written.rows()
    assert row.end == ItemEnd(item, Outcome.NOT_SUBMITTED, error=ERROR)
    assert (row.task_id, row.request_id, row.submitted_at, row.finished_at) == ("", "", None, None)


def test_ends_and_deliveries_are_one_commit(written: Written) -> None:
    written.put(attempt_of(1, State.STORED), attempt_of(2, State.STORED), attempt_of(3, State.PARKED))
    ends = [ItemEnd(item_of(number), Outcome.CAME, "bought", f"rv-{number:016x}", 1) for number in (1, 2)]
    with written.statements() as seen:
        written.journal.run_items.end(ends, [f"rv-{number:016x}" for number in (1, 2, 3)])
    assert commits(seen) == 1
    assert {task.journal_id[-1]: task.state for task in written.journal.task_list.tasks()} == {
        "1": "delivered", "2": "delivered", "3": "parked",
    }  # fmt: skip
    assert written.outcomes() == [Outcome.CAME] * 2


def test_mark_delivered_is_the_same(written: Written) -> None:
    written.put(attempt_of(1, State.STORED))
    written.journal.mark_delivered(journal_id for journal_id in ["rv-0000000000000001"])
    assert written.journal.task_list.tasks()[0].state == "delivered"


def test_nothing_to_write_is_no_transaction(written: Written) -> None:
    written.journal.open()
    with written.statements() as seen:
        written.journal.run_items.end([], [])
        written.journal.mark_delivered([])
    assert seen == []


def test_a_failure_is_logged_without_the_label(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    written.journal.open()
    with written.journal._transactions.writing() as (connection, _):
        connection.execute(text("DROP TABLE run_items"))
    with caplog.at_level(logging.DEBUG):
        written.end(item_of(1, label="private"), Outcome.NOT_SUBMITTED)
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "could not be written down" in warning.getMessage()
    assert "private" not in caplog.text


def test_rows_are_kept_for_ninety_days(written: Written) -> None:
    began_at = written.clock.now
    for day in (0, 1, 2):
        written.clock.now = began_at + day * DAY
        written.end(item_of(day, f"run-{day}"), Outcome.NOT_SUBMITTED)

    def runs() -> list[str]:
        return [run.run for run in written.journal.run_items.runs(9)]

    written.clock.now = began_at + 91.5 * DAY
    written.put(attempt_of(1, State.STORED))
    written.journal.mark_delivered(["rv-0000000000000001"])
    assert runs() == ["run-2"]
    # Once a day: the next deletion is due a day after the last one.
    written.clock.now += 0.9 * DAY
    with written.statements() as seen:
        written.journal.mark_delivered(["rv-0000000000000001"])
    assert runs() == ["run-2"] and not [one for one in seen if one.startswith("DELETE")]
    written.clock.now += 0.2 * DAY
    written.journal.mark_delivered(["rv-0000000000000001"])
    assert runs() == []
    assert written.journal.task_list.tasks()


# ---- told by the attempt


LIVING, DEAD, NOBODY = "this process", "a dead process", "nobody"
CASES = list(product(Outcome, State, (LIVING, DEAD, NOBODY)))


def expected(outcome: Outcome, state: State, owner: str) -> Outcome:
    """What a row with this outcome is, with an attempt that is in this state and has this owner."""
    if outcome.value not in ("under way", "waiting", "unclear"):
        return outcome
    if owner != LIVING and state is State.PREPARED:
        return Outcome.NOT_SUBMITTED
    if owner != LIVING and state is State.SUBMITTING:
        return Outcome.UNCLEAR
    if state in FINISHED:
        return Outcome.CAME
    if state in ACCEPTED:
        return Outcome.WAITING
    named = {
        "prepared": "under way", "submitting": "under way", "refused": "refused", "ambiguous": "unclear",
        "failed": "failed", "cancelled": "not submitted",
    }  # fmt: skip
    return Outcome(named[state.value])


def test_every_outcome_with_every_state_of_its_attempt(written: Written) -> None:
    with written.claim(item_of(0)):  # the journal lives
        owners = {LIVING: written.journal._leases.owner, DEAD: "dead", NOBODY: None}
        ends = []
        for number, (outcome, state, owner) in enumerate(CASES, start=1):
            attempt = attempt_of(number, state, owners[owner], pictures=2)
            if owner == LIVING:
                written.journal._claims.own(attempt)
            written.put(attempt, error=ERROR.model_dump_json() if state is State.FAILED else None)
            if state in FINISHED:
                pictures = [StoredResult(place, "", f"{number:063x}{place}") for place in (0, 1)]
                written.store(number, *pictures, StoredResult(2, "", "", ERROR))
            ends.append(ItemEnd(item_of(number), outcome, "", attempt.journal_id, 0, "yes", None))
        written.journal.run_items.end(ends)
        rows = written.rows()
        assert [row.end.outcome for row in rows] == [expected(*case) for case in CASES]
        for (outcome, state, _), row, end in zip(CASES, rows, ends, strict=True):
            if row.end.outcome is outcome:
                assert row.end == end
            elif row.end.outcome is Outcome.CAME:
                assert (row.end.source, row.end.pictures, row.end.billed, row.end.error) == ("bought", 2, "yes", ERROR)
            else:
                assert (row.end.source, row.end.pictures) == ("", 0)
                assert row.end.error == (ERROR if state is State.FAILED else None)
                certain = row.end.outcome in (Outcome.REFUSED, Outcome.NOT_SUBMITTED) or state is State.PREPARED
                assert row.end.billed == ("no" if certain else "unknown")
        # Nothing of it is written.
        with written.journal._transactions.reading() as (connection, _):
            assert connection.execute(run_items.select().order_by(run_items.c.item)).all()[0].outcome is CASES[0][0]
        [run] = written.journal.run_items.runs(9)
        assert (run.items, run.pictures) == (len(CASES), sum(row.end.pictures for row in rows))
        assert run.missing == sum(not row.end.pictures for row in rows)


def test_finished_without_a_stored_picture_has_failed(written: Written) -> None:
    written.put(attempt_of(1, State.STORED))
    written.store(1, StoredResult(0, "", "", ERROR))
    written.end(item_of(1), Outcome.WAITING, attempt="rv-0000000000000001")
    [row] = written.rows()
    assert (row.end.outcome, row.end.pictures, row.end.error) == (Outcome.FAILED, 0, ERROR)


def test_an_attempt_without_a_row_tells_nothing(written: Written) -> None:
    written.end(item_of(1), Outcome.UNCLEAR, attempt="rv-0000000000000001", billed="unknown")
    assert written.outcomes() == [Outcome.UNCLEAR]


def test_ids_are_redacted(written: Written) -> None:
    Secret("canary-of-a-key")
    task = TaskRef("HiDream", "x", "task-canary-of-a-key", "request-canary-of-a-key")
    odd = replace(attempt_of(1, State.PARKED), task=task)
    written.put(odd)
    written.end(item_of(1), Outcome.WAITING, attempt=odd.journal_id)
    [row], [listed] = written.rows(), written.journal.task_list.tasks()
    assert (row.task_id, row.request_id) == (listed.task_id, listed.request_id)
    assert "canary" not in row.task_id + row.request_id and row.task_id.startswith("task-")


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.pack
from hidream_volcengine.api import CancelToken, Journal, JournalSettings, TaskRef
from tests.contract.journal.runs.written import item_of, order_of
folder, url = Path(sys.argv[2]), sys.argv[3]
journal = Journal(JournalSettings(folder, url=url, store=folder / "store"))
ids = []
for number in range(4):
    order = order_of(item_of(number))
    claim = journal.claim(order)
    journal.limiter.admit(claim, order.purchase, CancelToken())
    if number:
        claim.submitting()
    if number > 1:
        claim.accepted(TaskRef("HiDream", order.purchase.endpoint, f"task-{number}", ""))
    ids.append(claim.journal_id)
print(json.dumps(ids), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_rows_of_a_killed_process(written: Written) -> None:
    command = [sys.executable, "-c", KILLED, str(ROOT), str(written.settings.directory), written.settings.url]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ids = json.loads(killed.stdout)
    told = [Outcome.NOT_SUBMITTED, Outcome.UNCLEAR, Outcome.WAITING, Outcome.WAITING]
    assert written.outcomes() == told
    assert [row.end.attempt for row in written.rows()] == ids
    # Another run resumes one of them, and the rows of the killed one tell it.
    with written.claim(item_of(3, "run-2")) as claim:
        claim.done(1)
        with written.journal._transactions.writing() as (connection, _):
            connection.execute(text(f"INSERT INTO results VALUES ('{ids[3]}', 0, '', 'ab', NULL)"))  # noqa: S608
        claim.stored()
    assert written.outcomes() == [*told[:3], Outcome.CAME]
    assert (written.rows()[3].end.source, written.rows()[3].end.pictures) == ("bought", 1)


# ---- reading


def test_rows_can_be_read_while_a_writer_works(written: Written) -> None:
    written.end(item_of(1), Outcome.NOT_SUBMITTED)
    with written.journal._transactions.writing() as (connection, _):
        connection.execute(run_items.update().values(label="later"))
        assert [row.end.item.label for row in written.rows()] == ["SKU-1"]


def test_a_thousand_items_are_two_queries(written: Written) -> None:
    numbers = range(1000)
    written.put(*(attempt_of(number, State.SUBMITTING, "dead") for number in numbers))
    written.journal.run_items.end(
        [ItemEnd(item_of(number), Outcome.UNDER_WAY, attempt=f"rv-{number:016x}") for number in numbers]
    )
    with written.statements() as seen:
        assert written.outcomes() == [Outcome.UNCLEAR] * 1000
    # PostgreSQL is asked for nothing else: its time is the test's.
    assert len([one for one in seen if one.startswith("SELECT")]) == 2


def test_rows_are_sorted_by_their_place(written: Written) -> None:
    places = [(node, item, part) for node in ("3", "7:1") for item in range(11) for part in range(2)]
    ends = [
        ItemEnd(item_of(item, node=node, part=part), Outcome.NOT_SUBMITTED) for node, item, part in reversed(places)
    ]
    written.journal.run_items.end(ends)
    found = [row.end.item for row in written.rows()]
    assert [(item.node, item.item, item.part) for item in found] == places


def test_rows_between_two_moments(written: Written) -> None:
    began_at = written.clock.now
    for number in range(4):
        written.clock.now = began_at + number
        written.end(item_of(number, f"run-{number}"), Outcome.NOT_SUBMITTED)
    found = written.journal.run_items.rows_between(began_at + 1, began_at + 3)
    assert [row.end.item.item for row in found] == [1, 2]


def test_runs_are_listed_newest_first(written: Written) -> None:
    began_at = written.clock.now
    for number in range(3):
        written.clock.now = began_at + number
        run = f"run-{number}"
        written.end(item_of(0, run), Outcome.CAME, source="reused", pictures=4)
        written.clock.now += 100
        written.end(item_of(1, run), Outcome.NOT_SUBMITTED)
    runs = written.journal.run_items.runs(2)
    assert [(run.run, run.began_at) for run in runs] == [("run-2", began_at + 2), ("run-1", began_at + 1)]
    assert {(run.items, run.pictures, run.missing) for run in runs} == {(2, 4, 1)}


# ---- labels


def label_of(journal: Journal, number: int = 1) -> str:
    task = journal.task_list.task(f"rv-{number:016x}")
    [listed] = [task for task in journal.task_list.tasks() if task.journal_id == f"rv-{number:016x}"]
    assert task is not None and task.label == listed.label
    return listed.label


def test_the_task_list_has_the_newest_label(written: Written) -> None:
    written.put(attempt_of(1, State.STORED), attempt_of(2, State.STORED))
    assert label_of(written.journal) == ""
    for run, label in (("run-1", "old"), ("run-2", "new"), ("run-3", "")):
        written.clock.now += 1
        written.end(item_of(1, run, label=label), Outcome.CAME, source="reused", attempt="rv-0000000000000001")
    assert label_of(written.journal) == "new" and label_of(written.journal, 2) == ""


def test_a_new_label_of_what_is_bought_already_is_announced(written: Written) -> None:
    written.put(attempt_of(1, State.DELIVERED))
    written.announced.clear()
    written.end(item_of(1), Outcome.CAME, source="reused", attempt="rv-0000000000000001")
    assert len(written.announced) == 1
    written.end(item_of(2, label=""), Outcome.CAME, source="reused", attempt="rv-0000000000000001")
    assert len(written.announced) == 1


def test_a_forgotten_run_leaves_its_purchases(written: Written) -> None:
    written.put(attempt_of(1, State.STORED), attempt_of(2, State.STORED))
    written.store(1)
    for number, run in ((1, "run-1"), (2, "run-1"), (1, "run-2")):
        written.clock.now += 1
        attempt = f"rv-{number:016x}"
        written.end(item_of(number, run, label=run), Outcome.CAME, source="bought", attempt=attempt)
    assert label_of(written.journal) == "run-2"
    written.announced.clear()
    assert written.journal.run_items.forget("run-2") == 1
    assert len(written.announced) == 1
    assert label_of(written.journal) == "run-1"
    assert written.journal.run_items.forget("run-1") == 2
    assert label_of(written.journal) == "" and written.journal.run_items.runs(9) == []
    assert [task.stored for task in written.journal.task_list.tasks()].count(1) == 1
    written.announced.clear()
    assert written.journal.run_items.forget("run-1") == 0
    assert written.announced == []


def test_a_run_cannot_be_forgotten_unnoticed(written: Written) -> None:
    written.end(item_of(1), Outcome.NOT_SUBMITTED)
    with written.journal._transactions.writing() as (connection, _):
        connection.execute(text("DROP TABLE run_items"))
    with pytest.raises(JournalError):
        written.journal.run_items.forget("run-1")
