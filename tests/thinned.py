"""Which cases of a test run every time: all of them with --thorough, a few without.

What is left out repeats a *kind* of fault that another case shows: tests/README.md has the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

_VARIABLE = "PACK_TESTS_THOROUGH"


def run_every_case() -> None:
    """Run every case, in this process and in those that it starts, such as the workers of xdist."""
    os.environ[_VARIABLE] = "1"


def every_case() -> bool:
    """Whether --thorough was given."""
    return bool(os.environ.get(_VARIABLE))


def thinned(
    names: str | Sequence[str], cases: Iterable[Any], *, kept: Iterable[int] = (0,), **more: Any
) -> pytest.MarkDecorator:
    """As pytest.mark.parametrize; without --thorough only the cases of the numbers ``kept`` run."""
    single = isinstance(names, str) and "," not in names
    numbers = set(kept)
    marked = [case if number in numbers else _thorough(case, single) for number, case in enumerate(cases)]
    return pytest.mark.parametrize(names, marked, **more)


def in_one_test(
    names: str | Sequence[str], cases: Iterable[Any], **_: Any
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """As pytest.mark.parametrize, but in one test, for cases that take less than a test of their own and no fixture.

    An error names its case.
    """
    single = isinstance(names, str) and "," not in names
    listed = list(cases)
    assert listed

    def decorated(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            for case in listed:
                try:
                    check(*([case] if single else case))
                except Exception as problem:
                    raise AssertionError(f"{names} = {case}: {problem}") from problem

        test.__name__, test.__qualname__ = check.__name__, check.__qualname__
        test.__doc__, test.__module__ = check.__doc__, check.__module__
        return test

    return decorated


def examples(number: int) -> int:
    """Return how many examples a hypothesis test draws: without --thorough a fifth of ``number``, at least five."""
    return number if every_case() else max(5, number // 5)


def _thorough(case: Any, single: bool) -> Any:
    return pytest.param(*([case] if single else case), marks=pytest.mark.thorough)
