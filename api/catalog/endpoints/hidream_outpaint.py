"""HiDream v3 outpainting (hidreamai.com/doc/outpainting/request)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from ... import pixels
from ...core import InvalidInputError, Text
from .. import outpainting
from ..endpoint import HiDreamEndpoint, Rate
from ..node import LAST_INPUTS, Given, NodePlan, PaidNode, PlannedCall, encoded, image_input
from ..outpainting import POSITION, RATIO, Size
from ..widgets import PROFILE, TAKE, IntWidget
from ..wire import HiDreamRequest, ImageField

if TYPE_CHECKING:
    from ...pixels import Placement

MAX_CANVAS = 1024
"""The largest width and the largest height of the canvas, in pixels."""
_MIN_CANVAS = 64


def _within_canvas(resolution: str) -> str:
    if max(int(side) for side in resolution.split("*")) > MAX_CANVAS:
        raise ValueError(f"at most {MAX_CANVAS}*{MAX_CANVAS}")
    return resolution


class Request(HiDreamRequest):
    """``image`` has the size that it gets in the canvas of ``resolution`` ("W*H", each ≤ 1024)."""

    image: ImageField
    x_offset: Annotated[int, Field(ge=0, le=MAX_CANVAS)]
    y_offset: Annotated[int, Field(ge=0, le=MAX_CANVAS)]
    version: Literal["v1"] = "v1"
    resolution: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}\*[1-9][0-9]{0,3}$"), AfterValidator(_within_canvas)]


def _pixels(id_: str, zh: str, help_: Text, default: int, minimum: int) -> IntWidget:
    return IntWidget(id_, Text(id_, zh), help_, default, minimum, MAX_CANVAS)


_LAYOUT = (
    _pixels(
        "canvas_width", "画布宽度", Text("Width of the new canvas, px.", "新画布的宽度（像素）。"), 1024, _MIN_CANVAS
    ),
    _pixels(
        "canvas_height", "画布高度", Text("Height of the new canvas, px.", "新画布的高度（像素）。"), 1024, _MIN_CANVAS
    ),
    RATIO,
    POSITION,
    _pixels(
        "x_offset",
        "横向偏移",
        Text("Left edge of the original, px; only with `offset`.", "原图左边缘的位置（像素），仅在 offset 时使用。"),
        0,
        0,
    ),
    _pixels(
        "y_offset",
        "纵向偏移",
        Text("Top edge of the original, px; only with `offset`.", "原图上边缘的位置（像素），仅在 offset 时使用。"),
        0,
        0,
    ),
)
_VARIANTS = IntWidget(
    "variants",
    Text("variants", "变体数"),
    Text("Pictures per image; each one is a paid task.", "每张图片生成几张，每张都是一次付费任务。"),
    1,
    1,
    4,
)


def _plan(given: Given) -> NodePlan:
    if given.placement is None:
        placement = pixels.place(
            *given.images.size, **{widget.id: given.values[widget.id] for widget in _LAYOUT}
        )
        outpainting.check_something_new(placement)
        outpainting.note_resized(given.note, given.images.size, placement)
    else:
        placement = _connected(given)
    variants = given.values["variants"]
    return outpainting.placed_plan(given, placement, partial(_calls, given, placement, variants), variants)


def _calls(given: Given, placement: Placement, variants: int, index: int) -> list[PlannedCall]:
    size: Size = placement.width, placement.height
    placed = given.images.upload(index, lambda original: pixels.resize(original, *size))
    request = given.request(
        Request,
        image=placed.fingerprint,
        x_offset=placement.x,
        y_offset=placement.y,
        resolution=f"{placement.canvas_width}*{placement.canvas_height}",
    )
    canvas = placement.canvas_width * placement.canvas_height
    return [PlannedCall(request, encoded(image=placed), canvas)] * variants


def _connected(given: Given) -> Placement:
    """The connected placement, scaled down as far as the service's canvas demands.

    Raises:
        InvalidInputError: it is not usable, or a side of the canvas is too short for the service after scaling.
    """
    used = outpainting.given_placement(given, (MAX_CANVAS, MAX_CANVAS))
    if min(used.canvas_width, used.canvas_height) < _MIN_CANVAS:
        raise InvalidInputError(
            Text(
                f"Within {MAX_CANVAS}×{MAX_CANVAS} the placement's canvas is {used.canvas_width}×"
                f"{used.canvas_height}, but HiDream takes sides of at least {_MIN_CANVAS} px.",
                f"placement 的画布在 {MAX_CANVAS}×{MAX_CANVAS} 以内为 {used.canvas_width}×"
                f"{used.canvas_height}，而 HiDream 要求每边至少 {_MIN_CANVAS} px。",
            ),
            advice=_canvas_advice(outpainting.checked_placement(given.placement)),
        )
    return used


_WIDE, _HIGH = Text("wide", "宽"), Text("high", "高")


def _canvas_advice(placement: Placement) -> Text:
    """The advice which canvas to choose, so that every side is long enough after scaling down."""
    sides = placement.canvas_width, placement.canvas_height
    least = max(_MIN_CANVAS, math.ceil(max(sides) * _MIN_CANVAS / MAX_CANVAS))
    short = [which for side, which in zip(sides, (_WIDE, _HIGH), strict=True) if side < least]
    en = " and ".join(f"{least} px {which.en}" for which in short)
    zh = "、".join(f"{which.zh}至少 {least} px" for which in short)
    return Text(f"Make the placement with a canvas that is at least {en}.", f"请让 placement 的画布{zh}。")


ENDPOINT = HiDreamEndpoint(
    name="hidream outpaint",
    path="/api-pub/gw/v3/image/outpainting/async",
    takes_language=True,
    rate=Rate(
        "hidream_outpaint_per_minute", 20, Text("HiDream: outpainted pictures a minute", "HiDream：每分钟扩图数")
    ),
    nodes=(
        PaidNode(
            node_id="HiDreamAPIOutpaint",
            title=Text("HiDream Outpaint", "HiDream 扩图"),
            says=Text(
                "Paid: puts the image into a larger canvas and lets HiDream paint around it. Every call is billed.",
                "付费：把图片放进更大的画布，由 HiDream（智象未来）绘制周围内容。每次调用都会计费。",
            ),
            inputs=(
                image_input(
                    Text(
                        "Every image of a batch is one paid task per variant.",
                        "批次中的每张图片、每个变体都是一次付费任务。",
                    )
                ),
                PROFILE,
                *_LAYOUT,
                _VARIANTS,
                TAKE,
                outpainting.placement_input(Text("canvas, ratio, position and offset", "画布、ratio、位置与偏移")),
                *LAST_INPUTS,
            ),
            outputs=outpainting.OUTPUTS,
            plan=_plan,
            aliases=(*outpainting.ALIASES, "canvas"),
            example="hidream_outpaint",
            shows_original=True,
        ),
    ),
)
