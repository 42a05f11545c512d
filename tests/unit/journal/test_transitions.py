"""All states and all events: what the table allows happens, all else is an error or changes no row; and the docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
from hidream_volcengine.api import AmbiguousSubmitError, Journal, TaskFailedError, Text
from hidream_volcengine.api.core.limits import Budget, Ceiling, JournalSettings
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import (
    ENDED,
    TRANSITIONS,
    Event,
    Explained,
    IllegalTransitionError,
    Order,
    Purchase,
    State,
    decide,
    transition,
)
from hidream_volcengine.api.journal.rows import change_state
from hidream_volcengine.api.journal.tables import attempts
from sqlalchemy import Row, select, update

FAILURES = (Path(__file__).resolve().parents[3] / "docs" / "failures.md").read_text(encoding="utf-8")
ORDER = Order(
    "f" * 64, Purchase("HiDream", "hidream upscale", "default", "me", "", 1, Budget(), Ceiling()), False, 0, 9, ""
)
ALL = list(product(State, Event))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(JournalSettings(tmp_path))
    yield opened
    opened.close()


@contextmanager
def claimed(journal: Journal) -> Iterator[Claim]:
    claim = journal.claim(ORDER)
    assert isinstance(claim, Claim)
    yield claim
    claim.attempt = replace(claim.attempt, state=State.CANCELLED)


def row(journal: Journal) -> Row[tuple[object, ...]]:
    with journal._transactions.reading() as (connection, _):
        return connection.execute(select(attempts)).one()


def test_every_state_and_event_is_a_transition_or_an_error_that_names_both() -> None:
    for state, event in ALL:
        if (state, event) in TRANSITIONS:
            assert transition(state, event, total=3).columns["total"] == 3
        else:
            with pytest.raises(IllegalTransitionError, match=f"{event.name} .* {state.name}"):
                transition(state, event)


def test_values_never_replace_what_an_event_writes() -> None:
    """An ended attempt has no owner and no place of the limiter, and one that was not accepted counts nothing."""
    for (state, event), after in TRANSITIONS.items():
        columns = transition(state, event, state=State.PREPARED, owner="me", holds_slot=True, counted=1).columns
        assert columns["state"] is after
        if after in ENDED:
            assert (columns["owner"], columns["holds_slot"]) == (None, False)
        assert columns["counted"] == (0 if after in (State.REFUSED, State.CANCELLED) else 1)


def test_an_event_changes_the_rows_whose_state_allows_it_and_no_others(journal: Journal) -> None:
    with claimed(journal) as claim:
        for state, event in ALL:
            with journal._transactions.writing() as (connection, now):
                connection.execute(update(attempts).values(state=state, total=None, changed_at=0.0))
                mine = attempts.c.id == claim.journal_id
                changed = change_state(connection, now, event, mine, total=7)
            found = row(journal)
            expected = TRANSITIONS.get((state, event))
            assert changed == (expected is not None), (state, event)
            assert (found.state, found.total) == ((expected, 7) if expected else (state, None)), (state, event)
            assert (found.changed_at > 0) == (expected is not None)


@pytest.mark.parametrize(
    ("done", "not_after"),
    [
        (lambda claim: claim.submitting(), State.SUBMITTED),
        (lambda claim: claim.accepted(claim.attempt.task), State.PREPARED),
        (lambda claim: claim.done(1), State.PREPARED),
        (lambda claim: claim.stored(), State.PREPARED),
        (lambda claim: claim.unsent(), State.SUBMITTED),
        (lambda claim: claim.stored(), State.REFUSED),
    ],
)
def test_a_claim_refuses_what_must_not_happen_and_writes_nothing(
    done: Callable[[Claim], None], not_after: State, journal: Journal
) -> None:
    with claimed(journal) as claim:
        claim.attempt = replace(claim.attempt, state=not_after)
        before = row(journal)
        with pytest.raises(IllegalTransitionError, match=not_after.name):
            done(claim)
        assert claim.state is not_after and row(journal) == before


def test_submit_again_is_used_up_by_the_next_queueing_also_if_a_late_task_is_resumed(journal: Journal) -> None:
    with claimed(journal) as claim:
        claim.submitting()
        claim.ambiguous(AmbiguousSubmitError(Text("no answer", "没有应答")))
    journal_id = claim.journal_id
    claim._claims.let_go(claim)
    assert journal.submit_again(journal_id)
    with journal._transactions.writing() as (connection, now):
        assert change_state(connection, now, Event.LATE_TASK, attempts.c.id == journal_id, task_id="t-1")
    with claimed(journal) as resumed:
        assert resumed.attempt.task.task_id == "t-1"
        resumed.done(1)
        resumed.failed(TaskFailedError(Text("it failed", "失败")))
    resumed._claims.let_go(resumed)
    assert isinstance(journal.claim(ORDER), Explained)


# ---- docs/failures.md says the same


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the first table behind a heading, by the states that their first cells name."""
    rows = re.findall(r"^\| (`.*) \|$", FAILURES.partition(heading)[2].partition("\n#")[0], re.MULTILINE)
    cells = [re.split(r" \| ", line) for line in rows]
    return {name: rest for first, *rest in cells for name in re.findall(r"`(\w+)`", first)}


def test_the_states_of_the_docs_are_these_and_count_as_these() -> None:
    told = table("\n## States\n")
    told = {name: rest for name, rest in told.items() if len(rest) == 2}
    assert list(told) == ["prepared", "submitting", "submitted", "parked", "done", "stored", "delivered",
                          "refused", "ambiguous", "failed", "cancelled"]  # fmt: skip
    assert set(told) == {state.value for state in State}
    free = {after for after in TRANSITIONS.values() if transition_counts_nothing(after)}
    assert {State(name) for name, (_, counts) in told.items() if counts == "no"} == free


def transition_counts_nothing(after: State) -> bool:
    leads = next(pair for pair, found in TRANSITIONS.items() if found is after)
    return transition(*leads).columns.get("counted") == 0


@dataclass(frozen=True)
class One:
    state: State
    journal_id: str = "rv-1"
    owner: str | None = None


def test_the_docs_say_what_queueing_again_does_after_a_kill() -> None:
    told = table("\n### ComfyUI is killed, or the power fails\n")
    words = {"NEW": "submits", "EXPLAIN": "explains", "RESUME": "resumes", "REUSE": "from the store"}
    assert len(told) == 7
    for name, (again, _, queueing, _) in told.items():
        found, _, _ = decide([One(State(name))], again=False, is_free=lambda _: True, has_pictures=lambda _: False)
        assert queueing.partition(";")[0] == words[found.name]
        assert again == ("no" if name == "prepared" else "never")
