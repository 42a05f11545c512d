"""A journal on SQLite or PostgreSQL whose time the test sets, and items, attempts and ends to write into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import CancelToken, Journal, JournalSettings, TaskRef
from hidream_volcengine.api.core import Budget, Ceiling, Price
from hidream_volcengine.api.journal import ItemEnd, ItemRow, Order, Outcome, Purchase, RunItem, tables
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import Attempt, State, StoredResult
from hidream_volcengine.api.journal.rows import put_attempt, put_request, put_result
from sqlalchemy import event

from tests.contract.paying import Clock

DAY = 86400.0
PRICE = Price(Decimal("0.22"), "CNY")


def item_of(number: int = 0, run: str = "run-1", **more: Any) -> RunItem:
    values: dict[str, Any] = {
        "node": "7",
        "item": number,
        "part": 0,
        "label": f"SKU-{number}",
        "endpoint": "hidream upscale",
        "profile": "studio",
        "take": 3,
        "pictures": 1,
        "key": f"{number:064x}",
        "price": PRICE,
    }
    return RunItem(run=run, **{**values, **more})


def order_of(item: RunItem, budget: Budget | None = None) -> Order:
    """The order of an item, as a node makes it; it is of no run for the budget unless ``budget`` is given."""
    purchase = Purchase(
        provider="HiDream",
        endpoint=item.endpoint,
        profile=item.profile,
        account="HIDREAM_TOKEN",
        prompt_id=item.run,
        pictures=item.pictures,
        budget=budget or Budget(per_run=None),
        ceiling=Ceiling(),
        item=item,
    )
    return Order(item.key, purchase, sandbox=False, take=item.take, expected_pixels=1, summary="")


def attempt_of(number: int, state: State, owner: str | None = None, pictures: int = 1) -> Attempt:
    return Attempt(
        journal_id=f"rv-{number:016x}",
        key=f"{number:064x}",
        state=state,
        fence=1,
        owner=owner,
        request_id=f"request-{number}",
        task=TaskRef("HiDream", "hidream upscale", f"task-{number}", f"request-{number}"),
        result_url="",
        account="HIDREAM_TOKEN",
        profile="studio",
        sandbox=False,
        take=3,
        pictures=pictures,
        expected_pixels=1,
        summary="",
        tried_at=1_780_000_000.0,
        changed_at=1_780_000_000.0,
    )


@dataclass
class Written:
    """A journal, its clock, and what this test writes into it."""

    settings: JournalSettings
    clock: Clock
    journal: Journal = field(init=False)
    announced: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.settings, clock=self.clock, on_change=lambda: self.announced.append(self.clock.now))

    def claim(self, item: RunItem, budget: Budget | None = None) -> Claim:
        claim = self.journal.claim(order_of(item, budget))
        assert isinstance(claim, Claim)
        return claim

    def admit(self, claim: Claim, item: RunItem, budget: Budget | None = None) -> None:
        self.journal.limiter.admit(claim, order_of(item, budget).purchase, CancelToken())

    def put(self, *attempts: Attempt, **columns: Any) -> None:
        with self.journal._transactions.writing() as (connection, now):
            for attempt in attempts:
                put_request(connection, attempt, now)
                put_attempt(connection, attempt, now, **columns)

    def store(self, number: int, *pictures: StoredResult) -> None:
        """Results of an attempt; by default one stored picture."""
        with self.journal._transactions.writing() as (connection, _):
            for result in pictures or (StoredResult(0, "", f"{number:064x}"),):
                put_result(connection, f"rv-{number:016x}", result)

    def end(self, item: RunItem, outcome: Outcome, **more: Any) -> None:
        self.journal.run_items.end([ItemEnd(item, outcome, **more)])

    def rows(self, run: str = "run-1") -> list[ItemRow]:
        return self.journal.run_items.rows(run)

    def outcomes(self, run: str = "run-1") -> list[Outcome]:
        return [row.end.outcome for row in self.rows(run)]

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The statements of this journal within the block, and ``COMMIT`` for each commit."""
        engine = self.journal._transactions.open()._engine
        seen: list[str] = []

        def executed(_: Any, __: Any, statement: str, *rest: Any) -> None:
            seen.append(statement)

        def committed(_: Any) -> None:
            seen.append("COMMIT")

        event.listen(engine, "before_cursor_execute", executed)
        event.listen(engine, "commit", committed)
        try:
            yield seen
        finally:
            event.remove(engine, "before_cursor_execute", executed)
            event.remove(engine, "commit", committed)


def commits(statements: Sequence[str]) -> int:
    return statements.count("COMMIT")


def opened(folder: Path, url: str, patch: pytest.MonkeyPatch) -> Written:
    """A journal whose database time is the test's, on PostgreSQL, too."""
    clock = Clock()
    now: Callable[..., float] = lambda *_: clock.now  # noqa: E731
    patch.setattr(tables.Database, "now", now)
    return Written(JournalSettings(folder, url=url, store=folder / "store"), clock)
