"""`dev.py bench`: what this pack takes, beside others' ways and what is possible, for the figures in docs/speed.md.

It prints a table per subject, one of ratios for docs/speed.md, and writes out/bench.json. No test needs it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import benchmarks
from benchmarks import Ratio, Table
from devtools.environment import ROOT

NAMES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.ispkg)
# These take minutes each, and are measured only if named.
LONG = {"scale"}
JSON = ROOT / "out" / "bench.json"
_RATIOS = ("what", "1 is", "this pack", "ComfyUI's partner nodes", "a plain pack")


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    choice = f"one or more of: {', '.join(NAMES)} (default: all but {', '.join(LONG)})"
    parser.add_argument("names", nargs="*", metavar="name", help=choice)
    names = parser.parse_args().names or [name for name in NAMES if name not in LONG]
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"there is no {', '.join(unknown)}; choose from: {', '.join(NAMES)}")
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(machine, flush=True)
    begun = time.monotonic()
    tables = {name: _shown(importlib.import_module(f"benchmarks.{name}").table()) for name in names}
    _print("In ratios", _RATIOS, [_cells(ratio) for table in tables.values() for ratio in table.ratios])
    print(f"\n{time.monotonic() - begun:.0f} s")
    _write(machine, tables)
    return 1 if any(table.wrong for table in tables.values()) else 0


def _shown(table: Table) -> Table:
    _print(table.title, table.columns, table.rows)
    for problem in table.wrong:
        print(f"WRONG: {problem}", flush=True)
    return table


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [columns, ["---"] * len(columns), *rows]
    print(f"\n{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)


def _cells(ratio: Ratio) -> tuple[str, ...]:
    values = (ratio.ours, ratio.partner, ratio.plain)
    return (ratio.what, ratio.one, *("" if value is None else f"{value:.2f}" for value in values))


def _write(machine: str, tables: dict[str, Table]) -> None:
    JSON.parent.mkdir(exist_ok=True)
    content = {"machine": machine, "tables": {name: asdict(table) for name, table in tables.items()}}
    JSON.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
