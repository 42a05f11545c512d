"""What was spent: each attempt once, on the day of its admission, by the price of its purchase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import pytest
from hidream_volcengine.api.core import Price
from hidream_volcengine.api.journal import ItemEnd, Outcome, Spent
from hidream_volcengine.api.journal.model import State
from sqlalchemy import text

from tests.contract.journal.runs.written import DAY, PRICE, Written, attempt_of, item_of

BOUGHT = {"source": "bought", "billed": "yes"}


@pytest.fixture(autouse=True)
def _in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(written: Written, *moment: int) -> None:
    written.clock.now = datetime(*moment).timestamp()  # type: ignore[arg-type]


def journal_id(number: int) -> str:
    return f"rv-{number:016x}"


def put(written: Written, number: int, state: State, pictures: int = 1) -> str:
    written.put(attempt_of(number, state, pictures=pictures), admitted_at=written.clock.now)
    return journal_id(number)


def spent(written: Written) -> list[Spent]:
    return written.journal.run_items.spent()


def sums(certain: str, unclear: str = "0", *month: str) -> list[Spent]:
    return [Spent("studio", "CNY", certain, unclear, *(month or (certain, unclear)))]


def test_nothing_without_a_price(written: Written) -> None:
    attempt = put(written, 1, State.DELIVERED)
    written.end(item_of(1, price=None), Outcome.CAME, attempt=attempt, pictures=4, **BOUGHT)
    assert spent(written) == []


def test_pictures_that_came_times_their_price(written: Written) -> None:
    for number in range(20):
        attempt = put(written, number, State.DELIVERED)
        written.end(item_of(number), Outcome.CAME, attempt=attempt, pictures=1, **BOUGHT)
    assert spent(written) == sums("4.40")


def test_a_partial_result_costs_what_came(written: Written) -> None:
    attempt = put(written, 1, State.DELIVERED)
    item = item_of(1, pictures=4)
    written.end(item, Outcome.CAME, attempt=attempt, pictures=3, source="bought", billed="unknown")
    assert spent(written) == sums("0.66")


def test_an_attempt_counts_once_over_three_runs(written: Written) -> None:
    """Interrupted, then resumed, then reused twice."""
    attempt = put(written, 1, State.PARKED, pictures=4)
    item = {"pictures": 4}
    written.end(item_of(1, "run-1", **item), Outcome.WAITING, attempt=attempt, billed="unknown")
    assert spent(written) == sums("0", "0.88")
    written.end(item_of(1, "run-2", **item), Outcome.CAME, attempt=attempt, source="resumed", pictures=4)
    with written.journal._transactions.writing() as (connection, _):
        connection.execute(text("UPDATE attempts SET state = 'delivered'"))
    written.store(1)
    assert spent(written) == sums("0.88")
    for part in (0, 1):
        reused = item_of(1, "run-3", part=part, **item)
        written.end(reused, Outcome.CAME, attempt=attempt, source="reused", pictures=4)
    assert spent(written) == sums("0.88")


def test_one_that_came_since_is_certain(written: Written) -> None:
    attempt = put(written, 1, State.PARKED, pictures=2)
    written.end(item_of(1, pictures=2), Outcome.UNCLEAR, attempt=attempt, billed="unknown")
    with written.journal._transactions.writing() as (connection, _):
        connection.execute(text("UPDATE attempts SET state = 'stored'"))
    written.store(1)
    assert spent(written) == sums("0.22")


def test_reused_alone_costs_nothing(written: Written) -> None:
    attempt = put(written, 1, State.DELIVERED)
    written.end(item_of(1), Outcome.CAME, attempt=attempt, source="reused", pictures=4, billed="unknown")
    assert spent(written) == []


@pytest.mark.parametrize(
    ("outcome", "billed", "state", "is_unclear"),
    [
        (Outcome.WAITING, "unknown", State.PARKED, True),
        (Outcome.WAITING, "no", State.PARKED, True),
        (Outcome.UNCLEAR, "unknown", State.AMBIGUOUS, True),
        (Outcome.FAILED, "unknown", State.FAILED, True),
        (Outcome.UNDER_WAY, "unknown", State.SUBMITTING, True),
        (Outcome.UNDER_WAY, "unknown", State.PREPARED, False),
        (Outcome.REFUSED, "no", State.REFUSED, False),
        (Outcome.REFUSED, "unknown", State.REFUSED, True),
        (Outcome.NOT_SUBMITTED, "no", State.CANCELLED, False),
    ],
)
def test_what_is_unclear(outcome: Outcome, billed: str, state: State, is_unclear: bool, written: Written) -> None:
    attempt = put(written, 1, state)
    item = item_of(1, pictures=3, price=Price(Decimal("1E+1"), "USD"))
    written.journal.run_items.end([ItemEnd(item, outcome, attempt=attempt, billed=billed)])  # type: ignore[arg-type]
    assert spent(written) == ([Spent("studio", "USD", "0", "30", "0", "30")] if is_unclear else [])


def test_unclear_without_an_attempt_counts_for_each_item(written: Written) -> None:
    for number in (1, 2):
        written.end(item_of(number), Outcome.UNCLEAR, billed="unknown")
    assert spent(written) == sums("0", "0.44")


def test_days_and_months_end_where_the_server_is(written: Written) -> None:
    for number, moment in enumerate(((2026, 6, 30, 23, 59), (2026, 7, 1, 0, 0), (2026, 7, 2, 23, 59), (2026, 7, 3, 0))):
        at(written, *moment)
        written.end(item_of(number), Outcome.CAME, attempt=put(written, number, State.DELIVERED), pictures=1, **BOUGHT)
    at(written, 2026, 7, 3, 12)
    assert spent(written) == sums("0.22", "0", "0.66", "0")
    at(written, 2026, 7, 4)
    assert spent(written) == sums("0", "0", "0.66", "0")
    at(written, 2026, 8, 1)
    assert spent(written) == []


def test_it_counts_on_the_day_of_its_admission(written: Written) -> None:
    """What was bought yesterday or last month and came today, in another run."""
    at(written, 2026, 6, 30, 12)
    last_month = put(written, 1, State.DELIVERED)
    at(written, 2026, 7, 2, 12)
    yesterday = put(written, 2, State.DELIVERED)
    at(written, 2026, 7, 3, 12)
    for number, attempt in ((1, last_month), (2, yesterday)):
        written.end(item_of(number), Outcome.CAME, attempt=attempt, source="resumed", pictures=1)
    assert spent(written) == sums("0", "0", "0.22", "0")


def test_profiles_and_currencies_are_told_apart(written: Written) -> None:
    for number, (profile, currency) in enumerate((("b", "CNY"), ("a", "USD"), ("a", "CNY"), ("a", "CNY"))):
        item = item_of(number, profile=profile, price=Price(Decimal("0.1"), currency))
        written.end(item, Outcome.CAME, attempt=put(written, number, State.DELIVERED), pictures=1, **BOUGHT)
    assert [(one.profile, one.currency, one.certain_today) for one in spent(written)] == [
        ("a", "CNY", "0.2"), ("a", "USD", "0.1"), ("b", "CNY", "0.1"),
    ]  # fmt: skip


def test_the_price_is_that_of_the_purchase(written: Written) -> None:
    attempt = put(written, 1, State.PARKED)
    written.end(item_of(1, "run-1"), Outcome.WAITING, attempt=attempt, billed="unknown")
    written.clock.now += 1
    dearer = Price(PRICE.amount * 2, "CNY")
    written.end(item_of(1, "run-2", price=dearer), Outcome.CAME, attempt=attempt, source="resumed", pictures=1)
    assert spent(written) == sums("0.22")


def test_rows_of_this_month_are_read_by_their_age(written: Written) -> None:
    written.journal.open()
    if written.settings.url:
        return
    with written.statements() as seen:
        assert spent(written) == []
    [query] = [one for one in seen if "price" in one]
    with written.journal._transactions.reading() as (connection, _):
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (0.0,) * query.count("?")).all()
    assert any("items_by_age" in row[3] for row in plan), plan
    assert not [row for row in plan if row[3].startswith("SCAN")], plan


def test_a_forgotten_run_is_not_counted(written: Written) -> None:
    attempt = put(written, 1, State.DELIVERED)
    written.end(item_of(1), Outcome.CAME, attempt=attempt, pictures=1, **BOUGHT)
    written.clock.now += DAY / 1000
    written.journal.run_items.forget("run-1")
    assert spent(written) == []
