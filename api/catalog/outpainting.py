"""What outpaint nodes share: widgets, the inputs and outputs of a placement, and checks and notes about it.

``pixels`` is imported as a whole, because it loads its modules only when a name of it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .. import pixels
from ..core import POSITIONS, InvalidInputError, Position, Text
from .node import Given, NodePlan, Output, PlannedCall, Socket
from .widgets import ComboWidget, FloatWidget

if TYPE_CHECKING:
    import torch

    from ..pixels import Placement

Size = tuple[int, int]
"""Width and height."""

RATIO = FloatWidget(
    "ratio",
    Text("ratio", "占比 ratio"),
    Text(
        "Linear share of the canvas that the original spans on its tighter side; 0.5 is a quarter of a square by area.",
        "原图先碰到画布的那一边占画布边长的比例；0.5 相当于正方形画布面积的四分之一。",
    ),
    0.5,
    0.05,
    1.0,
)
POSITION: ComboWidget[Position] = ComboWidget(
    "position",
    Text("position", "位置"),
    Text(
        "Where the original lies in the canvas; `offset` uses x_offset and y_offset.",
        "原图在画布中的位置；选 offset 时使用 x_offset 与 y_offset。",
    ),
    "center",
    POSITIONS,
)
PLACEMENT = Output(
    "OUTPAINT_PLACEMENT",
    Text("placement", "位置信息"),
    Text("Where the original lies in the canvas.", "原图在画布中的位置。"),
)
ALIASES = ("outpaint", "outpainting", "uncrop", "extend", "expand image", "扩图", "外扩", "智能扩图")
"""Words by which the node search finds an outpaint node."""

ORIGINALS = Output(
    "IMAGE",
    Text("originals", "原图"),
    Text(
        "The originals whose pictures came, one for each picture, without padding: for Outpaint Paste Back.",
        "已返回图片所对应的原图（不含补边），每张图片一张：供「原图贴回」使用。",
    ),
)
OUTPUTS = (
    Output("IMAGE", Text("image", "图片"), Text("The extended pictures.", "扩展后的图片。")),
    Output("MASK", Text("mask", "遮罩"), Text("1 where pixels are new.", "新生成的像素处为 1。")),
    PLACEMENT,
    ORIGINALS,
)


def placement_input(replaced: Text) -> Socket:
    """The optional input ``placement``, which is used instead of the node's own widgets; ``replaced`` names them."""
    return Socket(
        "placement",
        "OUTPAINT_PLACEMENT",
        Text("placement", "位置信息"),
        Text(
            "Where the original lies in the canvas, from Outpaint Placement or another node; "
            f"replaces {replaced.en}.",
            f"原图在画布中的位置，来自「扩图布局」或其他节点；连接后取代{replaced.zh}。",
        ),
        optional=True,
    )


def _side(name: str, zh: str, help_en: str, help_zh: str) -> FloatWidget:
    return FloatWidget(name, Text(name, zh), Text(help_en, help_zh), 0.1, 0.0, 1.0)


SIDES = (
    _side("top", "上", "New height above, as a share of the original's height.", "上方新增高度，相对原图高度的比例。"),
    _side(
        "bottom", "下", "New height below, as a share of the original's height.", "下方新增高度，相对原图高度的比例。"
    ),
    _side(
        "left",
        "左",
        "New width on the left, as a share of the original's width.",
        "左侧新增宽度，相对原图宽度的比例。",
    ),
    _side(
        "right",
        "右",
        "New width on the right, as a share of the original's width.",
        "右侧新增宽度，相对原图宽度的比例。",
    ),
)


def checked_placement(value: object) -> Placement:
    """The value of an input ``placement``.

    Raises:
        InvalidInputError: it is no placement.
    """
    if not isinstance(value, pixels.Placement):
        raise InvalidInputError(
            Text(
                f"`placement` must be an OUTPAINT_PLACEMENT, but is {type(value).__name__}.",
                f"`placement` 应为 OUTPAINT_PLACEMENT，实际为 {type(value).__name__}。",
            ),
            advice=Text("Connect an outpaint node's placement.", "请连接扩图节点的 placement 输出。"),
        )
    return value


def given_placement(given: Given, limits: Size | None) -> Placement:
    """The connected placement, scaled down as far as the node's limits demand; notes say so.

    Args:
        limits: largest width and height of the canvas; ``None``: any.

    Raises:
        InvalidInputError: it is no placement, belongs to an image of another shape, or leaves nothing to paint.
    """
    placement = checked_placement(given.placement)
    placement.check_shape_of(*given.images.size)
    used = placement if limits is None else placement.within(*limits)
    check_something_new(used)
    given.note(
        Text(
            f"The connected placement was used, not this node's widgets: canvas {used.canvas_width}×"
            f"{used.canvas_height}, original at {used.x}, {used.y}.",
            f"使用了所连接的 placement，而非本节点的控件：画布 {used.canvas_width}×"
            f"{used.canvas_height}，原图位于 {used.x}, {used.y}。",
        )
    )
    if used != placement:
        given.note(
            Text(
                f"It was scaled down from {placement.canvas_width}×{placement.canvas_height} to this node's limits.",
                f"已从 {placement.canvas_width}×{placement.canvas_height} 等比缩小到本节点的上限以内。",
            )
        )
    _note_lost_sides(placement, used, given.note)
    note_resized(given.note, given.images.size, used)
    return used


_SIDE_NAMES = {
    "left": Text("left", "左"),
    "top": Text("top", "上"),
    "right": Text("right", "右"),
    "bottom": Text("bottom", "下"),
}


def _note_lost_sides(placement: Placement, used: Placement, note: Callable[[Text], None]) -> None:
    """Add a note of the sides that had new pixels and have none after scaling down."""
    lost = [name for side, name in _SIDE_NAMES.items() if getattr(placement, side) and not getattr(used, side)]
    if lost:
        note(
            Text(
                f"Too narrow to be painted at that size, and left out: {', '.join(name.en for name in lost)}.",
                f"以下边在该尺寸下不足一个像素，未作绘制：{'、'.join(name.zh for name in lost)}。",
            )
        )


def fills_canvas(placement: Placement) -> bool:
    """Whether the original covers the whole canvas, so that there is nothing to paint."""
    return (placement.width, placement.height) == (placement.canvas_width, placement.canvas_height)


def check_something_new(placement: Placement) -> None:
    """Check that there is something to paint.

    Raises:
        InvalidInputError: the original fills the canvas.
    """
    if fills_canvas(placement):
        raise InvalidInputError(
            Text(
                "The original fills the whole canvas: there is nothing to paint. Lower `ratio` or change the canvas.",
                "原图已占满整个画布，没有可扩展的区域。请减小 `ratio` 或修改画布尺寸。",
            )
        )


def check_sides_add_pixels(placement: Placement) -> None:
    """Check that the sides of a node add at least one pixel.

    Raises:
        InvalidInputError: they do not.
    """
    if fills_canvas(placement):
        raise InvalidInputError(
            Text(
                "Nothing to extend: top, bottom, left and right add no pixel. Raise at least one of them.",
                "没有可扩展的区域：top、bottom、left、right 均不增加像素。请至少增大其中一项。",
            )
        )


def note_resized(note: Callable[[Text], None], original: Size, placement: Placement) -> None:
    """Add a note if the original is scaled in the canvas. ``original``: its own width and height."""
    placed = (placement.width, placement.height)
    if placed == original:
        return
    enlarged = placed[0] > original[0]
    verb_en, verb_zh = ("enlarged", "放大") if enlarged else ("reduced", "缩小")
    note(
        Text(
            f"The original was {verb_en} from {original[0]}×{original[1]} to {placed[0]}×{placed[1]} for the canvas.",
            f"原图已从 {original[0]}×{original[1]} {verb_zh}为 {placed[0]}×{placed[1]} 放入画布。",
        )
    )


def placed_plan(
    given: Given, placement: Placement, calls: Callable[[int], list[PlannedCall]], pictures: int
) -> NodePlan:
    """The plan for originals that all lie in the canvas as ``placement`` says.

    Args:
        calls: returns the calls for the image of an index.
        pictures: for each image.
    """

    def frame(width: int, height: int, of_images: Sequence[int]) -> tuple[torch.Tensor, Placement]:
        came = placement.followed_to(width, height)
        return pixels.placement_mask(came), came

    count = len(given.images)
    return NodePlan(
        [partial(calls, index) for index in range(count)],
        count * pictures,
        (placement.canvas_width, placement.canvas_height),
        frame,
    )
