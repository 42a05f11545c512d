"""What the outpaint nodes share: the type OUTPAINT_PLACEMENT, its inputs and outputs, and checks and notes about it."""

from __future__ import annotations

from comfy_api.latest import io

from .. import api
from ..api import InvalidInputError, Text
from .common import Notes

OutpaintPlacement = io.Custom("OUTPAINT_PLACEMENT")


def outpaint_outputs() -> list[io.Output]:
    """The outputs of every paid outpaint node."""
    return [
        io.Image.Output(display_name="image", tooltip="The extended pictures."),
        io.Mask.Output(display_name="mask", tooltip="1 where pixels are new."),
        OutpaintPlacement.Output(display_name="placement", tooltip="Where the original lies in the canvas."),
    ]


def placement_input(replaced: str) -> io.Input:
    """The optional input ``placement``, which is used instead of a node's own widgets.

    Args:
        replaced: names of these widgets, for the tooltip.
    """
    return OutpaintPlacement.Input(
        "placement",
        optional=True,
        tooltip=f"Where the original lies in the canvas, from Outpaint Placement or another node; replaces {replaced}.",
    )


def checked_placement(value: object) -> api.Placement:
    """The value of an input ``placement``.

    Raises:
        InvalidInputError: it is no placement.
    """
    if not isinstance(value, api.Placement):
        raise InvalidInputError(
            Text(
                f"`placement` must be an OUTPAINT_PLACEMENT, but is {type(value).__name__}.",
                f"`placement` 应为 OUTPAINT_PLACEMENT，实际为 {type(value).__name__}。",
            ),
            advice=Text("Connect an outpaint node's placement.", "请连接扩图节点的 placement 输出。"),
        )
    return value


def given_placement(value: object, original: tuple[int, int], limits: tuple[int, int], notes: Notes) -> api.Placement:
    """The connected placement, scaled down as far as the node's limits demand; notes say so.

    Args:
        original: width and height of the image.
        limits: largest width and height of the canvas.

    Raises:
        InvalidInputError: it is no placement, belongs to an image of another shape, or leaves nothing to paint.
    """
    placement = checked_placement(value)
    placement.check_shape_of(*original)
    used = placement.within(*limits)
    check_something_new(used)
    notes.add(
        Text(
            f"The connected placement was used, not this node's widgets: canvas {used.canvas_width}×"
            f"{used.canvas_height}, original at {used.x}, {used.y}.",
            f"使用了所连接的 placement，而非本节点的控件：画布 {used.canvas_width}×"
            f"{used.canvas_height}，原图位于 {used.x}, {used.y}。",
        )
    )
    if used != placement:
        notes.add(
            Text(
                f"It was scaled down from {placement.canvas_width}×{placement.canvas_height} to this node's limits.",
                f"已从 {placement.canvas_width}×{placement.canvas_height} 等比缩小到本节点的上限以内。",
            )
        )
    _note_lost_sides(placement, used, notes)
    return used


_SIDES = {
    "left": Text("left", "左"),
    "top": Text("top", "上"),
    "right": Text("right", "右"),
    "bottom": Text("bottom", "下"),
}


def _note_lost_sides(placement: api.Placement, used: api.Placement, notes: Notes) -> None:
    """Add a note of the sides that had new pixels and have none after scaling down."""
    lost = [name for side, name in _SIDES.items() if getattr(placement, side) and not getattr(used, side)]
    if lost:
        notes.add(
            Text(
                f"Too narrow to be painted at that size, and left out: {', '.join(name.en for name in lost)}.",
                f"以下边在该尺寸下不足一个像素，未作绘制：{'、'.join(name.zh for name in lost)}。",
            )
        )


def fills_canvas(placement: api.Placement) -> bool:
    """Whether the original covers the whole canvas, so that there is nothing to paint."""
    return (placement.width, placement.height) == (placement.canvas_width, placement.canvas_height)


def check_something_new(placement: api.Placement) -> None:
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


def note_resized(notes: Notes, original: tuple[int, int], placement: api.Placement) -> None:
    """Add a note if the original is scaled in the canvas. ``original``: its own width and height."""
    placed = (placement.width, placement.height)
    if placed == original:
        return
    enlarged = placed[0] > original[0]
    verb_en, verb_zh = ("enlarged", "放大") if enlarged else ("reduced", "缩小")
    notes.add(
        Text(
            f"The original was {verb_en} from {original[0]}×{original[1]} to {placed[0]}×{placed[1]} for the canvas.",
            f"原图已从 {original[0]}×{original[1]} {verb_zh}为 {placed[0]}×{placed[1]} 放入画布。",
        )
    )
