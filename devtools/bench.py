"""`dev.py bench`: this pack's way and another one's side by side, for the figures in the README. No test needs it."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import benchmarks
from benchmarks import Case

NAMES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
MIN_ROUNDS, MAX_ROUNDS, SECONDS = 3, 31, 3.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one or more of: {', '.join(NAMES)} (default: all)")
    names = parser.parse_args().names or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"there is no {', '.join(unknown)}; choose from: {', '.join(NAMES)}")
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores", flush=True)
    passed = [_compare(name) for name in names]
    return 0 if all(passed) else 1


def _compare(name: str) -> bool:
    """Print a table of one comparison; whether both sides gave the same everywhere."""
    module = importlib.import_module(f"benchmarks.{name}")
    print(f"\n{module.TITLE}\n\n| case | ours | the other | ratio | same result |\n| --- | --- | --- | --- | --- |")
    passed = True
    for case in module.cases():
        ours, other, same = _measure(case)
        passed = passed and same
        verdict = "yes" if same else "NO"
        print(f"| {case.name} | {_told(ours)} | {_told(other)} | 1 : {other / ours:.3g} | {verdict} |", flush=True)
    return passed


def _measure(case: Case) -> tuple[float, float, bool]:
    """Medians in seconds, by turns, so that both meet the same disturbances; and whether both gave the same."""
    same = case.same(case.ours(), case.other())  # also warms both up
    ours: list[float] = []
    other: list[float] = []
    while len(ours) < MIN_ROUNDS or (len(ours) < MAX_ROUNDS and sum(ours) + sum(other) < SECONDS):
        ours.append(_seconds(case.ours))
        other.append(_seconds(case.other))
    return median(ours), median(other), same


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _told(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


if __name__ == "__main__":
    sys.exit(main())
