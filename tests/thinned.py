"""Which cases of a test run every time: all of them with --thorough, a few without.

What is left out repeats a *kind* of fault that another case shows: CONTRIBUTING.md has the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

VARIABLE = "PACK_TESTS_THOROUGH"
"""Set by tests/conftest.py for --thorough, also for the workers of xdist."""
THOROUGH = bool(os.environ.get(VARIABLE))

thorough = pytest.mark.thorough


def thinned(cases: Iterable[Any], *kept: int) -> list[Any]:
    """The cases for a parametrize; without --thorough only the first one, or those of these numbers."""
    return [
        case if index in (kept or (0,)) else _marked(case)
        for index, case in enumerate(cases)
    ]


def every(cases: Sequence[Any], step: int) -> list[Any]:
    """The cases for a parametrize; without --thorough every ``step``-th of them."""
    return thinned(cases, *range(0, len(cases), step))


def examples(number: int) -> int:
    """Of a hypothesis test: a fifth of them without --thorough, which is at least five."""
    return number if THOROUGH else max(5, number // 5)


def _marked(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=thorough)
