"""Widgets: id, default, limits and tooltip of each in one place, for the schema (``input``) and a check (``check``).

``check`` returns the value or raises InvalidInputError. ``execute`` calls it for every widget, although ComfyUI checks
inputs: older versions do not check V3 combos, NaN passes the range check, and values that come over a wire are not
checked at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from comfy_api.latest import io

from .. import api
from ..api import first_profile, profile_names
from .comfy.host import PROFILE_FILE

MAX_INT = 2**31 - 1

_Choice = TypeVar("_Choice", bound=str | int)


@dataclass(frozen=True)
class IntWidget:
    id: str
    default: int
    minimum: int
    maximum: int
    tooltip: str

    def input(self) -> io.Input:
        # Without `control_after_generate=False` the frontend randomizes a seed after each run, and each run would buy.
        return io.Int.Input(
            self.id,
            default=self.default,
            min=self.minimum,
            max=self.maximum,
            step=1,
            tooltip=self.tooltip,
            control_after_generate=False,
        )

    def check(self, value: object) -> int:
        return api.checks.integer(self.id, value, self.minimum, self.maximum)


@dataclass(frozen=True)
class FloatWidget:
    id: str
    default: float
    minimum: float
    maximum: float
    tooltip: str
    step: float = 0.05

    def input(self) -> io.Input:
        return io.Float.Input(
            self.id,
            default=self.default,
            min=self.minimum,
            max=self.maximum,
            step=self.step,
            round=0.001,
            tooltip=self.tooltip,
        )

    def check(self, value: object) -> float:
        return api.checks.number(self.id, value, self.minimum, self.maximum)


@dataclass(frozen=True)
class BooleanWidget:
    id: str
    default: bool
    tooltip: str

    def input(self) -> io.Input:
        return io.Boolean.Input(self.id, default=self.default, tooltip=self.tooltip)

    def check(self, value: object) -> bool:
        return api.checks.choice(self.id, value, (False, True))


@dataclass(frozen=True)
class ComboWidget(Generic[_Choice]):
    id: str
    options: Sequence[_Choice]
    default: _Choice
    tooltip: str

    def input(self) -> io.Input:
        return io.Combo.Input(self.id, options=list(self.options), default=self.default, tooltip=self.tooltip)

    def check(self, value: object) -> _Choice:
        return api.checks.choice(self.id, value, self.options)


@dataclass(frozen=True)
class StringWidget:
    id: str
    tooltip: str
    multiline: bool = True
    max_length: int = 10_000

    def input(self) -> io.Input:
        # No dynamic prompts: the frontend would choose from `{a|b}` at random for each run, and each run would buy.
        return io.String.Input(
            self.id, default="", multiline=self.multiline, dynamic_prompts=False, tooltip=self.tooltip
        )

    def check(self, value: object) -> str:
        return api.checks.string(self.id, value, self.max_length)


@dataclass(frozen=True)
class ProfileWidget:
    """A combo of the server's profiles. Both options and default are read for each /object_info request.

    The default applies to a newly placed node only; a saved, copied or restored node has its own value.
    """

    tooltip: str
    id: str = "profile"

    def input(self) -> io.Input:
        first = first_profile(PROFILE_FILE, os.environ)
        return io.Combo.Input(self.id, options=profile_names(PROFILE_FILE), default=first, tooltip=self.tooltip)


Widget = IntWidget | FloatWidget | BooleanWidget | ComboWidget[Any] | StringWidget


def inputs(*widgets: Widget | ProfileWidget) -> list[io.Input]:
    """The inputs of these widgets for a schema."""
    return [widget.input() for widget in widgets]


def checked(widgets: Sequence[Widget], values: Mapping[str, object]) -> dict[str, Any]:
    """The checked values of these widgets by their ids; others in ``values`` are ignored.

    Raises:
        InvalidInputError: a value is not allowed.
    """
    return {widget.id: widget.check(values[widget.id]) for widget in widgets}


PROFILE = ProfileWidget(
    "Whose key pays. Keys are kept on the server and never saved in a workflow. "
    "`sandbox` needs no key and costs nothing: local, watermarked stand-ins for trying out.",
)
TAKE = IntWidget(
    "take",
    0,
    0,
    MAX_INT,
    "Number of the take. Change it to buy another picture for the same inputs.",
)
