"""Widgets of nodes as data: id, words in both languages, default and limits, and the check of a value.

``check`` returns the value or raises InvalidInputError. A node calls it for every widget when it runs, although ComfyUI
checks inputs: older versions do not check V3 combos, NaN passes the range check, and values that come over a wire are
not checked at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..core import FORMATS, Format, Text
from . import checks

MAX_INT = 2**31 - 1

_Choice = TypeVar("_Choice", bound=str | int)


@dataclass(frozen=True)
class IntWidget:
    id: str
    label: Text
    help: Text
    default: int
    minimum: int
    maximum: int

    def check(self, value: object) -> int:
        return checks.integer(self.id, value, self.minimum, self.maximum)


@dataclass(frozen=True)
class FloatWidget:
    id: str
    label: Text
    help: Text
    default: float
    minimum: float
    maximum: float
    step: float = 0.05

    def check(self, value: object) -> float:
        return checks.number(self.id, value, self.minimum, self.maximum)


@dataclass(frozen=True)
class BooleanWidget:
    id: str
    label: Text
    help: Text
    default: bool

    def check(self, value: object) -> bool:
        return checks.choice(self.id, value, (False, True))


@dataclass(frozen=True)
class ComboWidget(Generic[_Choice]):
    """``listed``: whether the help page lists the options. ``optional``: a workflow may lack it."""

    id: str
    label: Text
    help: Text
    default: _Choice
    options: Sequence[_Choice]
    listed: bool = True
    optional: bool = False

    def check(self, value: object) -> _Choice:
        return checks.choice(self.id, value, self.options)


@dataclass(frozen=True)
class StringWidget:
    id: str
    label: Text
    help: Text
    multiline: bool = True
    max_length: int = 10_000
    default: Literal[""] = ""

    def check(self, value: object) -> str:
        return checks.string(self.id, value, self.max_length)


@dataclass(frozen=True)
class ProfileWidget:
    """A combo of the server's profiles; its options and its default are known at run time only."""

    id: str
    label: Text
    help: Text


Widget = IntWidget | FloatWidget | BooleanWidget | ComboWidget[Any] | StringWidget


@dataclass(frozen=True)
class Shown:
    """Mark of a field of a request model that a node shows as a widget; type, limits and default are the field's.

    ``id``: the widget's, if it is not the field's name. ``default``: the widget's, if the field has none or another.
    ``minimum``: the widget's, if it is not the field's.
    """

    label: Text
    help: Text
    id: str = ""
    default: Any = None
    minimum: int | None = None
    step: float = 0.05


@cache
def widgets_of(model: type[BaseModel]) -> Mapping[str, Widget]:
    """The widgets of the fields of ``model`` with the mark :class:`Shown`, by the fields' names, in their order."""
    return {
        name: _widget(name, field, mark)
        for name, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Shown)
    }


def _limit(field: FieldInfo, name: Literal["ge", "le"]) -> Any:
    return next(getattr(mark, name) for mark in field.metadata if hasattr(mark, name))


def _widget(name: str, field: FieldInfo, shown: Shown) -> Widget:
    default = field.default if shown.default is None else shown.default
    words = (shown.id or name, shown.label, shown.help)
    kind = field.annotation
    while get_origin(kind) not in (None, Literal):
        # The first of `str | None`, or of `Annotated[str, …]`.
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return ComboWidget(*words, default, get_args(kind))
    if kind is bool:
        return BooleanWidget(*words, default)
    if kind is int:
        minimum = _limit(field, "ge") if shown.minimum is None else shown.minimum
        return IntWidget(*words, default, minimum, _limit(field, "le"))
    if kind is float:
        return FloatWidget(*words, default, _limit(field, "ge"), _limit(field, "le"), shown.step)
    if kind is str:
        return StringWidget(*words)
    raise TypeError(f"{name}: no widget shows {field.annotation}")


def checked_values(widgets: Sequence[Widget], values: Mapping[str, object]) -> dict[str, Any]:
    """The checked values of these widgets, by id; one that is not among ``values`` has its default.

    Raises:
        InvalidInputError: a value is not allowed.
    """
    return {widget.id: widget.check(values.get(widget.id, widget.default)) for widget in widgets}


# ---- widgets of several nodes

PROFILE = ProfileWidget(
    "profile",
    Text("profile", "配置"),
    Text(
        "Whose key pays. Keys are kept on the server and never saved in a workflow. "
        "`sandbox` needs no key and costs nothing: local, watermarked stand-ins for trying out.",
        "由哪个配置的密钥付费。密钥保存在服务器上，绝不写入工作流。"
        "选择 sandbox 无需密钥、不产生费用：由本地模拟服务生成带水印的图片，供试用。",
    ),
)
TAKE = IntWidget(
    "take",
    Text("take", "版次 take"),
    Text(
        "Number of the take. Change it to buy another picture for the same inputs.",
        "版次编号。输入相同但想再买一张时，请修改它。",
    ),
    0,
    0,
    MAX_INT,
)
RETURN_THE_REST = "return the rest"
ON_PARTIAL = ComboWidget(
    "on_partial",
    Text("on_partial", "部分失败时"),
    Text(
        "`error`: after the first failure nothing more is submitted, and the node fails. `return the rest`: all else "
        "is bought, what came is returned in order, and in a list the nodes behind skip an item without a picture.",
        "error：首次失败后不再提交，节点报错。return the rest：其余照常购买，已返回的图片按顺序输出；"
        "列表中没有图片的项会被后续节点跳过。",
    ),
    "error",
    ("error", RETURN_THE_REST),
)
UPLOAD: ComboWidget[Format] = ComboWidget(
    "upload",
    Text("upload", "上传格式"),
    Text(
        "How the image goes up: lossless, or smaller. Above 4.7 MB the service may refuse it (not documented).",
        "图片的上传方式：无损的 png，或体积更小的 jpeg 95。超过 4.7 MB 时服务端可能拒绝（官方未说明）。",
    ),
    "png",
    FORMATS,
)
