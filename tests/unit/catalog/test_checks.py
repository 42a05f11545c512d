"""Checks of single values: what passes, and that an error names the limits and the value in both languages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hidream_volcengine.api.catalog import checks
from hidream_volcengine.api.core.errors import InvalidInputError


@pytest.mark.parametrize(("value", "meant"), [(3, 3), (3.0, 3), (np.int64(3), 3), (1, 1), (9, 9)])
def test_integers(value: object, meant: int) -> None:
    checked = checks.integer("steps", value, 1, 9)
    assert checked == meant
    assert type(checked) is int


@pytest.mark.parametrize("value", [0, 10, 3.5, math.nan, math.inf, True, "3", None, [3], 10**30])
def test_no_integers(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"`steps`.*1…9"):
        checks.integer("steps", value, 1, 9)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float64(0.25)])
def test_numbers(value: float) -> None:
    assert checks.number("ratio", value, 0, 1) == value


@pytest.mark.parametrize("value", [-0.001, 1.001, math.nan, math.inf, True, "0.5", None])
def test_no_numbers(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"`ratio`.*0…1"):
        checks.number("ratio", value, 0, 1)


def test_a_choice_of_numbers_takes_the_number_however_it_comes() -> None:
    """A float from a linked node, a text from an older frontend; what goes into body and key is the integer."""
    for value in (2, 2.0, "2", np.float64(2)):
        chosen = checks.choice("upscale_ratio", value, (2, 4))
        assert (chosen, type(chosen)) == (2, int)


def test_a_choice_has_the_right_type() -> None:
    for value in (3, 2.5, "2.0", "", None, True, [2], np.array([2, 4]), math.nan):
        with pytest.raises(InvalidInputError, match=r"`upscale_ratio`.*2, 4"):
            checks.choice("upscale_ratio", value, (2, 4))
    for value in (1, 1.0, "True"):
        with pytest.raises(InvalidInputError, match="`match_color`"):
            checks.choice("match_color", value, (False, True))
    with pytest.raises(InvalidInputError, match="`fit`"):
        checks.choice("fit", 2.0, ("2", "crop"))


def test_strings() -> None:
    assert checks.string("prompt", "海", 1) == "海"
    for value in ("ab", 1, None):
        with pytest.raises(InvalidInputError, match="`prompt`"):
            checks.string("prompt", value, 1)


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidInputError) as problem:
        checks.choice("fit", "x" * 10_000, ("crop",))
    assert len(str(problem.value)) < 1000


def test_both_languages_and_that_nothing_was_billed() -> None:
    with pytest.raises(InvalidInputError) as problem:
        checks.integer("steps", 0, 1, 9)
    english, chinese = str(problem.value).splitlines()
    assert "Billed: no." in english
    assert "是否计费：否。" in chinese
