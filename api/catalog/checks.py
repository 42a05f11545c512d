"""Checks of single values, each raising one clear error before anything is sent."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TypeVar

from ..core import InvalidInputError, Text, shortened

_T = TypeVar("_T", bound=str | int)


def integer(name: str, value: object, minimum: int, maximum: int) -> int:
    """``value`` as an int within ``minimum``…``maximum``; whole floats are fine, booleans are not.

    Raises:
        InvalidInputError: naming the limits and the value.
    """
    as_int: int | None = None
    if isinstance(value, float) and value.is_integer():
        as_int = int(value)
    elif not isinstance(value, bool):
        try:
            as_int = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            as_int = None
    if as_int is None or not minimum <= as_int <= maximum:
        raise _out_of_range(name, value, f"{minimum}…{maximum}", "an integer", "整数")
    return as_int


def number(name: str, value: object, minimum: float, maximum: float) -> float:
    """``value`` as a float within ``minimum``…``maximum``; NaN is refused.

    Raises:
        InvalidInputError: naming the limits and the value.
    """
    as_float = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not minimum <= as_float <= maximum:
        raise _out_of_range(name, value, f"{minimum:g}…{maximum:g}", "a number", "数值")
    return as_float


def choice(name: str, value: object, choices: Sequence[_T]) -> _T:
    """The element of ``choices`` that equals ``value`` in value and type; for an integer also 2.0 or "2".

    Raises:
        InvalidInputError: naming the choices and the value.
    """
    for known in choices:
        if type(value) is type(known) and value == known:
            return known
        # Linked nodes bring 2.0, older frontends "2".
        if type(known) is int and isinstance(value, (float, str)) and value in (float(known), str(known)):
            return known
    listed = ", ".join(str(known) for known in choices)
    raise _out_of_range(name, value, listed, "one of", "以下之一")


def string(name: str, value: object, max_length: int) -> str:
    """``value`` if it is a string of at most ``max_length`` characters.

    Raises:
        InvalidInputError: it is no string, has half of a surrogate pair, or is too long (naming limit and length).
    """
    if not isinstance(value, str):
        raise _out_of_range(name, type(value).__name__, f"≤ {max_length}", "a string", "字符串")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidInputError(
            Text(
                f"`{name}` contains half of a character (a cut emoji?).",
                f"`{name}` 含有不完整的字符（被截断的表情？）。",
            )
        )
    if len(value) > max_length:
        raise InvalidInputError(
            Text(
                f"`{name}` has {len(value)} characters; at most {max_length} are allowed.",
                f"`{name}` 共 {len(value)} 个字符，上限为 {max_length}。",
            )
        )
    return value


def _out_of_range(name: str, value: object, limits: str, kind_en: str, kind_zh: str) -> InvalidInputError:
    shown = shortened(repr(value), 80)
    return InvalidInputError(
        Text(
            f"`{name}` must be {kind_en} ({limits}), but is {shown}.",
            f"`{name}` 应为{kind_zh}（{limits}），实际为 {shown}。",
        )
    )
