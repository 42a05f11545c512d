"""What `python dev.py bench` measures: one module per subject, each with one function.

    def table() -> Table: ...

The sides that a table compares are measured by turns in one run, so that the same disturbances meet all of them. Quote
ratios only: the times depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# Rounds of side_by_side: at least, at most, and the seconds of both sides after which no more than MIN_ROUNDS are run.
MIN_ROUNDS, MAX_ROUNDS, SECONDS = 5, 31, 3.0


@dataclass(frozen=True)
class Ratio:
    """A line of the table in docs/speed.md: each way's figure divided by ``one``, the best possible or what is allowed.

    ``ours``: this pack; ``partner``: ComfyUI's partner nodes; ``plain``: a plain pack.
    """

    what: str
    one: str
    ours: float
    partner: float | None = None
    plain: float | None = None


@dataclass(frozen=True)
class Table:
    """What one benchmark found.

    ``rows``: one cell for each column. ``measured``: raw figures for the JSON. ``wrong``: problems that make the
    figures worthless, and `dev.py bench` fail. ``ratios``: its lines of the table of ratios at the end.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    measured: Mapping[str, Any] = field(default_factory=dict)
    wrong: Sequence[str] = ()
    ratios: Sequence[Ratio] = ()


@dataclass(frozen=True)
class Case:
    """Two functions to compare; ``same`` says whether their results are equal, without which the times mean nothing."""

    name: str
    ours: Callable[[], Any]
    other: Callable[[], Any]
    same: Callable[[Any, Any], bool]


def side_by_side(title: str, cases: Iterable[Case]) -> Table:
    """Run both functions of each case by turns in this process; return the medians, and a ratio of the last case."""
    rows, measured, wrong, ratios = [], {}, [], []
    for case in cases:
        if not case.same(case.ours(), case.other()):  # also warms both up
            wrong.append(f"{case.name}: both sides differ")
        seconds: dict[str, list[float]] = {"ours": [], "other": []}
        while not _enough(seconds["ours"], seconds["other"]):
            seconds["ours"].append(timed(case.ours))
            seconds["other"].append(timed(case.other))
        ours, other = median(seconds["ours"]), median(seconds["other"])
        rows.append((case.name, told(ours), told(other), f"1 : {other / ours:.3g}"))
        measured[case.name] = seconds
        ratios.append(Ratio(f"{title}: {case.name}", told(other), ours / other))
    return Table(title, ("case", "ours", "the other", "ratio"), rows, measured, wrong, ratios[-1:])


def _enough(ours: Sequence[float], other: Sequence[float]) -> bool:
    return len(ours) >= MIN_ROUNDS and (len(ours) >= MAX_ROUNDS or sum(ours) + sum(other) >= SECONDS)


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds that a call of ``run`` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def told(seconds: float) -> str:
    """Return a time as text, in seconds or milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
