"""`dev.py generate`: write what is derived from the code into the files of this repository.

Each is written by one function here; `tests/unit/test_generated.py` fails if a file is stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from api.catalog import declared_limits
from api.journal.model import TRANSITIONS, Event, State
from devtools import vectors
from devtools.environment import ROOT
from devtools.generators import help_pages, locales, node_list

_ARCHITECTURE = ROOT / "ARCHITECTURE.md"
_BEGIN, _END = "<!-- dev.py generate: states -->\n", "<!-- end -->\n"
_LIMITS = "<!-- dev.py generate: limits -->\n"


def generated() -> dict[Path, str]:
    """The text of each file as it should be."""
    return {
        _ARCHITECTURE: _architecture(),
        vectors.FILE: vectors.text(),
        **locales.files(),
        **help_pages.files(),
        **node_list.files(),
        **_settings(),
    }


def _architecture() -> str:
    """ARCHITECTURE.md with the table of transitions of this version between its two marks."""
    before = _ARCHITECTURE.read_text(encoding="utf-8")
    return re.sub(f"(?s){_BEGIN}.*?{_END}", lambda _: _BEGIN + _states() + _END, before, count=1)


def _states() -> str:
    rows = ["| event | what happens | states |", "| --- | --- | --- |"]
    for event in Event:
        moves: dict[State, list[str]] = {}
        for (before, happens), after in TRANSITIONS.items():
            if happens is event:
                moves.setdefault(after, []).append(f"`{before.value}`")
        states = "; ".join(f"{', '.join(befores)} → `{after.value}`" for after, befores in moves.items())
        rows.append(f"| {event.name.lower().replace('_', ' ')} | {event.value} | {states} |")
    return "\n".join(rows) + "\n"


def _settings() -> dict[Path, str]:
    """The pages of the settings with the table of the limits that endpoints declare between its marks."""
    pages: dict[Path, str] = {}
    for name, head, none, language in (
        ("settings.md", "| variable | meaning | default |", "none", "en"),
        ("settings.zh-CN.md", "| 变量 | 含义 | 默认值 |", "无", "zh"),
    ):
        rows = [
            f"| `REMOTE_IMAGE_{limit.setting.upper()}` | {getattr(limit.label, language)} | {limit.default or none} |"
            for limit in declared_limits()
        ]
        table = "\n".join([head, "| --- | --- | --- |", *rows, ""])
        page = ROOT / "docs" / name
        before, begin, rest = page.read_text(encoding="utf-8").partition(_LIMITS)
        pages[page] = "".join([before, begin, table, *rest.partition(_END)[1:]])
    return pages


def is_up_to_date(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> int:
    for path, text in generated().items():
        if not is_up_to_date(path, text):
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
