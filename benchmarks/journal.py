"""How long it takes to journal one purchase, with every state on the disk before the next step.

With SQLite and with PostgreSQL, in a new journal and in one of 10,000 older rows. The floor is one small write with
fsync for each transaction.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from sqlalchemy import insert

from api import CancelToken, Journal, JournalSettings, tensors
from api.core.limits import Budget, Ceiling
from api.core.task import TaskRef
from api.journal.claim import Claim
from api.journal.model import Order, Purchase, State
from api.journal.tables import attempts, request_rows, results
from benchmarks import Ratio, Table, timed, told
from devtools.programs import postgres

ROUNDS, OLDER = 60, 10_000
_LIMIT = 0.010
TITLE = f"The journal: one purchase, written down step by step (median of {ROUNDS})"
_ENDPOINT, _ACCOUNT = "hidream/upscale", "bench-account"
_DAY = 86400.0


def table() -> Table:
    with ExitStack() as running:
        base = Path(running.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        journals = {
            "SQLite": running.enter_context(_journal(base / "fresh")),
            f"SQLite, {OLDER:,} rows": running.enter_context(_journal(base / "old")),
        }
        cluster = running.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        server = running.enter_context(postgres.PostgreSQL(Path(cluster)))
        for name in ("PostgreSQL", f"PostgreSQL, {OLDER:,} rows"):
            journals[name] = running.enter_context(_journal(base / name.replace(",", ""), server.new_database()))
        for name, journal in journals.items():
            _fill(journal, OLDER if "rows" in name else 0)
        return _table(journals, base)


def _table(journals: dict[str, Journal], base: Path) -> Table:
    laps: dict[str, dict[str, list[float]]] = {name: {} for name in [*journals, "floor"]}
    for number in range(ROUNDS):
        for name, journal in journals.items():
            for step, seconds in _bought(journal, f"{number:064d}").items():
                laps[name].setdefault(step, []).append(seconds)
        laps["floor"].setdefault("writes", []).append(timed(partial(_floor, base / "floor")))
    floor = median(laps["floor"]["writes"])
    rows, totals = [], []
    for name in journals:
        typical = {step: median(seconds[1:]) for step, seconds in laps[name].items()}
        looks = typical.pop("looks")
        picture = typical.pop("picture")
        total = sum(typical.values())
        totals.append(Ratio(f"writing one purchase down: {name}", told(_LIMIT), total / _LIMIT))
        rows.append((name, told(total), told(looks), told(picture), told(floor), *map(told, typical.values())))
    columns = ("journal", "state changes", "looks", "picture stored", "floor", *_STEPS)
    return Table(TITLE, columns, rows, laps, ratios=totals)


_STEPS = ("claim", "admit", "submitting", "accepted", "done", "stored", "delivered")


def _bought(journal: Journal, key: str) -> dict[str, float]:
    """Journal one purchase as a call does; return the seconds of each step."""
    order = _order(key)
    picture = tensors.Encoded.of(tensors.encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    claims: list[Claim] = []

    def looks() -> None:
        journal.look_up([key])
        journal.limiter.check_budget(order.purchase)
        for _ in range(2):
            journal.usual_seconds(_ENDPOINT, sandbox=False)

    def claim() -> None:
        found = journal.claim(order)
        if isinstance(found, Claim):
            claims.append(found)

    taken = {"looks": timed(looks), "claim": timed(claim)}
    with claims[0] as mine:
        task = TaskRef("HiDream", _ENDPOINT, f"task-{key}", str(uuid.uuid4()), ("sub-1",))
        steps: dict[str, Callable[[], object]] = {
            "admit": lambda: journal.limiter.admit(mine, order.purchase, CancelToken()),
            "submitting": mine.submitting,
            "accepted": lambda: mine.accepted(task),
            "done": lambda: mine.done(1),
            "picture": lambda: mine.keep(0, "sub-1", picture),
            "stored": mine.stored,
        }
        taken |= {name: timed(step) for name, step in steps.items()}
    taken["delivered"] = timed(lambda: journal.mark_delivered([mine.journal_id]))
    return taken


def _order(key: str) -> Order:
    purchase = Purchase(
        provider="HiDream",
        endpoint=_ENDPOINT,
        profile="default",
        account=_ACCOUNT,
        prompt_id=key,
        pictures=1,
        budget=Budget(per_day=1_000_000, per_run=100),
        ceiling=Ceiling(4, 1_000_000),
    )
    return Order(key, purchase, sandbox=False, take=0, expected_pixels=64 * 64, summary="")


def _floor(path: Path) -> None:
    """Write a page of 4 KiB for each step, with an fsync after each."""
    with path.open("ab", buffering=0) as file:
        for _ in _STEPS:
            file.write(bytes(4096))
            os.fsync(file.fileno())


@contextmanager
def _journal(directory: Path, url: str = "") -> Iterator[Journal]:
    directory.mkdir(parents=True)
    journal = Journal(JournalSettings(directory, url, directory / "store"))
    try:
        yield journal
    finally:
        journal.close()


def _fill(journal: Journal, rows: int) -> None:
    """Insert ``rows`` delivered attempts of one picture each, spread over the last thirty days."""
    journal.open()
    now = time.time()
    numbers = range(rows)
    moments = [now - 30 * _DAY * (rows - number) / rows for number in numbers]
    if not rows:
        return
    with journal._transactions.writing() as (connection, _):
        connection.execute(insert(request_rows), [_request(number, moments[number]) for number in numbers])
        connection.execute(insert(attempts), [_attempt(number, moments[number]) for number in numbers])
        stored = {"position": 0, "sub_task_id": "sub-1", "error": None}
        pictures = [{"attempt": f"rv-{number:016d}", "sha256": f"{number:064d}", **stored} for number in numbers]
        connection.execute(insert(results), pictures)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")  # PostgreSQL's autovacuum does it by itself within a minute


def _request(number: int, moment: float) -> dict[str, object]:
    return {
        "key": f"old-{number:060d}",
        "provider": "HiDream",
        "endpoint": _ENDPOINT,
        "profile": "default",
        "account": _ACCOUNT,
        "sandbox": False,
        "take": 0,
        "expected_pixels": 64 * 64,
        "summary": "a prompt of ordinary length that says what the picture should show",
        "created_at": moment,
        "submit_again": False,
    }


def _attempt(number: int, moment: float) -> dict[str, object]:
    stages = ("created_at", "changed_at", "admitted_at", "submitting_at", "submitted_at")
    return {
        "id": f"rv-{number:016d}",
        "key": f"old-{number:060d}",
        "number": 0,
        "state": State.DELIVERED,
        "owner": None,
        "fence": 1,
        "request_id": str(uuid.uuid4()),
        "task_id": f"old-task-{number}",
        "sub_task_ids": '["sub-1"]',
        "result_url": "",
        "account": _ACCOUNT,
        "profile": "default",
        "endpoint": _ENDPOINT,
        "provider": "HiDream",
        "prompt_id": f"old-run-{number // 20}",
        "pictures": 1,
        "counted": 1,
        "holds_slot": False,
        "polls": 0,
        "next_poll_at": 0.0,
        "total": 1,
        **dict.fromkeys(stages, moment),
        "done_at": moment + 5.0,
    }
