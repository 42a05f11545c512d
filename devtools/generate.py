"""`dev.py generate`: write what is derived from the code into the files of this repository.

Each is written by one function here; `tests/unit/test_generated.py` fails if a file is stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from api.catalog import declared_limits
from api.journal.model import TRANSITIONS, Event, State
from api.profiles.fields import PRICES
from devtools import vectors
from devtools.environment import ROOT
from devtools.generators import help_pages, locales, node_list

_ARCHITECTURE = ROOT / "ARCHITECTURE.md"
_BEGIN, _END = "<!-- dev.py generate: states -->\n", "<!-- end -->\n"
_LIMITS, _PRICES = "<!-- dev.py generate: limits -->\n", "<!-- dev.py generate: prices -->\n"


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
    """The pages of the settings with their two tables: the limits that endpoints declare, and the prices."""
    pages: dict[Path, str] = {}
    for name, limits_head, prices_head, none, language in (
        ("settings.md", "| variable | meaning | default |", "| setting | a picture of |", "none", "en"),
        ("settings.zh-CN.md", "| 变量 | 含义 | 默认值 |", "| 设置 | 每张图片的价格 |", "无", "zh"),
    ):
        limits = [
            f"| `REMOTE_IMAGE_{limit.setting.upper()}` | {getattr(limit.label, language)} | {limit.default or none} |"
            for limit in declared_limits()
        ]
        prices = [f"| `{setting}` | {getattr(endpoint.shown, language)} |" for setting, endpoint in PRICES.items()]
        page = ROOT / "docs" / name
        text = _with_table(page.read_text(encoding="utf-8"), _LIMITS, [limits_head, "| --- | --- | --- |", *limits])
        pages[page] = _with_table(text, _PRICES, [prices_head, "| --- | --- |", *prices])
    return pages


def _with_table(page: str, mark: str, lines: list[str]) -> str:
    """The page with these lines between ``mark`` and the next end mark."""
    before, begin, rest = page.partition(mark)
    return "".join([before, begin, "\n".join([*lines, ""]), *rest.partition(_END)[1:]])


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
