"""The pixel contract in docs/: every test it names exists, and both languages promise the same."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.unit.pixels.paste import test_pasting

ROOT = Path(__file__).resolve().parents[3]
ENGLISH, CHINESE = ROOT / "docs" / "pixels.md", ROOT / "docs" / "pixels.zh-CN.md"
NAMED = re.compile(r"`((?:unit|host)/[\w/]+\.py)::(\w+)`")
FIGURE = re.compile(r"\d+(?:\.\d+)?(?: ?(?:px|%))?")
WORDS_OF_NUMBERS = {"a ninth of": "1/9", "four times enlarged": "4", "九分之一": "1/9", "四倍": "4"}


@dataclass(frozen=True)
class Row:
    """A row of one of the tables: a promise, its figure, and what shows it."""

    promise: str
    figure: str
    tests: tuple[tuple[str, str], ...]

    @property
    def figures(self) -> list[str]:
        """Sorted: a sentence has them in another order in another language."""
        said = f"{self.promise} {self.figure}"
        for words, number in WORDS_OF_NUMBERS.items():
            said = said.replace(words, number)
        return sorted(figure.replace(" ", "") for figure in FIGURE.findall(said))


@cache
def rows(document: Path) -> tuple[Row, ...]:
    found = []
    for line in document.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and not line.startswith("| ---") and NAMED.search(line):
            promise, figure, shown = cells
            found.append(Row(promise, figure, tuple(NAMED.findall(shown))))
    return tuple(found)


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("document", [ENGLISH, CHINESE], ids=lambda document: document.name)
def test_every_named_test_exists(document: Path) -> None:
    missing = [f"{file}::{name}" for row in rows(document) for file, name in row.tests if name not in names_in(file)]
    assert missing == []


@pytest.mark.parametrize("document", [ENGLISH, CHINESE], ids=lambda document: document.name)
def test_every_row_of_every_table_is_a_promise_with_tests(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    tables = sum(line.startswith("| ---") for line in lines)
    # A title and a ruler for each table; all others are promises.
    assert len(rows(document)) == sum(line.startswith("|") for line in lines) - 2 * tables
    assert tables >= 6
    assert all(row.promise and row.figure and row.tests for row in rows(document))
    # Nothing is named but in the way that is checked here.
    text = "\n".join(lines)
    assert text.count("::") == sum(len(row.tests) for row in rows(document))


def test_both_languages_promise_the_same() -> None:
    for english, chinese in zip_longest(rows(ENGLISH), rows(CHINESE)):
        assert english.tests == chinese.tests
        assert english.figures == chinese.figures, (english.promise, chinese.promise)


def test_the_figures_are_those_of_the_tests() -> None:
    """The sub-pixel figure is the tests' own limit."""
    (edges,) = (row for row in rows(ENGLISH) if row.promise.startswith("No shift"))
    assert f"limit {test_pasting.MOST_OFF} px" in edges.figure
    assert f"on average {test_pasting.MOST_OFF / 2}" in edges.figure
