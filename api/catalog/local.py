"""The nodes that buy nothing: Outpaint Placement, Outpaint Paste Back, Remote Task Result and Set Report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ..core import FILLS, OUTPUT_SIZES, PASTE_MODES, Fill, OutputSize, PasteMode, Position, Text
from .node import LABELS, Node, Output, Socket, image_input
from .outpainting import ALIASES, PLACEMENT, POSITION, RATIO
from .widgets import PROFILE, BooleanWidget, ComboWidget, FloatWidget, IntWidget, StringWidget

# ---- Outpaint Placement

_MAX_SIDE = 16384
IN_ASPECT, IN_CANVAS, PER_SIDE = "aspect ratio", "canvas size", "pixels per side"
TARGET = ComboWidget(
    "target",
    Text("target", "目标"),
    Text(
        "What the new canvas is made from. `aspect ratio`: the smallest canvas of that shape around the original, "
        "which keeps its pixels; `canvas size`: the original is scaled into it; `pixels per side`: left, top, right "
        "and bottom.",
        "新画布如何确定。aspect ratio：能容纳原图的、该宽高比的最小画布，原图像素不变；"
        "canvas size：原图缩放后放入画布；pixels per side：使用左、上、右、下。",
    ),
    IN_ASPECT,
    (IN_ASPECT, IN_CANVAS, PER_SIDE),
)
ASPECT_RATIO = ComboWidget(
    "aspect_ratio",
    Text("aspect_ratio", "宽高比"),
    Text(
        "Width : height of the canvas; only with the target `aspect ratio`.",
        "画布的宽 : 高，仅在目标为 aspect ratio 时使用。",
    ),
    "16:9",
    ("1:1", "5:4", "4:5", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "2:1", "1:2", "21:9", "9:21", "1.91:1"),
)

# From an id to its label and to the words that the widget and the output of this id have in common.
_CANVAS_WORDS = {
    "canvas_width": (Text("canvas_width", "画布宽度"), Text("Width of the canvas, px", "画布的宽度（像素）")),
    "canvas_height": (Text("canvas_height", "画布高度"), Text("Height of the canvas, px", "画布的高度（像素）")),
}
_SIDE_WORDS = {
    "left": (Text("left", "左"), Text("New pixels on the left", "左侧新增的像素")),
    "top": (Text("top", "上"), Text("New pixels above", "上方新增的像素")),
    "right": (Text("right", "右"), Text("New pixels on the right", "右侧新增的像素")),
    "bottom": (Text("bottom", "下"), Text("New pixels below", "下方新增的像素")),
}
CANVAS = tuple(
    IntWidget(
        name,
        label,
        Text(f"{what.en}; only with the target `canvas size`.", f"{what.zh}，仅在目标为 canvas size 时使用。"),
        1024,
        16,
        _MAX_SIDE,
    )
    for name, (label, what) in _CANVAS_WORDS.items()
)
SIDES = tuple(
    IntWidget(
        name,
        label,
        Text(f"{what.en}; only with the target `pixels per side`.", f"{what.zh}，仅在目标为 pixels per side 时使用。"),
        0,
        0,
        _MAX_SIDE,
    )
    for name, (label, what) in _SIDE_WORDS.items()
)

_Shared = TypeVar("_Shared", FloatWidget, ComboWidget[Position])


def _not_per_side(widget: _Shared) -> _Shared:
    en, zh = widget.help.en, widget.help.zh
    return replace(widget, help=Text(f"{en} Not with `pixels per side`.", f"{zh}目标为 pixels per side 时不使用。"))


WHERE = (
    replace(_not_per_side(RATIO), default=1.0),
    _not_per_side(POSITION),
    IntWidget(
        "x_offset",
        Text("x_offset", "横向偏移"),
        Text(
            "Left edge of the original, px of the canvas; only with `offset`.",
            "原图左边缘在画布中的位置（像素），仅在 offset 时使用。",
        ),
        0,
        0,
        _MAX_SIDE,
    ),
    IntWidget(
        "y_offset",
        Text("y_offset", "纵向偏移"),
        Text(
            "Top edge of the original, px of the canvas; only with `offset`.",
            "原图上边缘在画布中的位置（像素），仅在 offset 时使用。",
        ),
        0,
        0,
        _MAX_SIDE,
    ),
)
FILL: ComboWidget[Fill] = ComboWidget(
    "fill",
    Text("fill", "填充"),
    Text(
        "What the padded image shows in the new area: flat grey (as Pad Image for Outpainting) or white, the edge "
        "pixels repeated, or those strongly blurred.",
        "补边图片的新区域：grey 灰色（与「外补画板」相同）、white 白色、edge 延伸边缘像素、blur 将其强烈模糊。",
    ),
    "grey",
    FILLS,
)
FEATHERING = IntWidget(
    "feathering",
    Text("feathering", "羽化"),
    Text(
        "How far the mask fades into the original, px, as in Pad Image for Outpainting; only at sides with new pixels.",
        "遮罩向原图内部淡出的距离（像素），与「外补画板」相同；仅在有新像素的边上。",
    ),
    0,
    0,
    4096,
)
OUTPAINT_PLACEMENT = Node(
    node_id="RemoteOutpaintPlacement",
    title=Text("Outpaint Placement", "扩图布局"),
    says=Text(
        "Lays the image out in a larger canvas, for outpaint nodes of any kind. Local and free.",
        "确定图片在更大画布中的位置，供各种扩图节点使用。本地运行，免费。",
    ),
    inputs=(
        image_input(Text("Every image of a batch gets the same placement.", "批次中的每张图片使用相同的布局。")),
        TARGET,
        ASPECT_RATIO,
        *CANVAS,
        *WHERE,
        *SIDES,
        FILL,
        FEATHERING,
    ),
    aliases=(*ALIASES, "placement", "canvas", "pad", "布局"),
    outputs=(
        PLACEMENT,
        *(
            Output("INT", label, Text(f"{what.en}.", f"{what.zh}。"))
            for label, what in (*_SIDE_WORDS.values(), *_CANVAS_WORDS.values())
        ),
        Output("IMAGE", Text("image", "图片"), Text("The padded pictures.", "补边后的图片。")),
        Output("MASK", Text("mask", "遮罩"), Text("1 where pixels are new.", "新像素处为 1。")),
    ),
)

# ---- Outpaint Paste Back

_MODE: ComboWidget[PasteMode] = ComboWidget(
    "mode",
    Text("mode", "模式"),
    Text(
        "`exact`: every pixel of the original is kept; `blend`: it fades into the new picture from the seam inwards.",
        "exact：保留原图的每个像素；blend：从接缝处向内逐渐过渡到生成图。",
    ),
    "exact",
    PASTE_MODES,
)
_BLEND_PIXELS = IntWidget(
    "blend_pixels",
    Text("blend_pixels", "过渡宽度"),
    Text("How far it fades, px of the result; only with `blend`.", "过渡的宽度（输出像素），仅在 blend 时使用。"),
    16,
    1,
    1024,
)
_OUTPUT_SIZE: ComboWidget[OutputSize] = ComboWidget(
    "output_size",
    Text("output_size", "输出尺寸"),
    Text(
        "`native`: the original has its own size, the generated picture is scaled to it; `generated`: the generated "
        "picture keeps its size; `factor`: a multiple of the native size.",
        "native：原图保持自身尺寸，生成图缩放到与之匹配；generated：生成图保持自身尺寸；factor：native 尺寸的倍数。",
    ),
    "native",
    OUTPUT_SIZES,
)
_FACTOR = FloatWidget(
    "factor",
    Text("factor", "倍数"),
    Text(
        "Multiple of the native size; only with the output size `factor`.",
        "native 尺寸的倍数，仅在输出尺寸为 factor 时使用。",
    ),
    1.0,
    0.05,
    8.0,
)
_MATCH_COLOR = BooleanWidget(
    "match_color",
    Text("match_color", "颜色匹配"),
    Text(
        "Correct the colours of the new area only, smoothly, so that they meet the original's.",
        "仅校正新区域的颜色，平滑变化，使其与原图衔接。",
    ),
    False,
)
SETTINGS = (_MODE, _BLEND_PIXELS, _OUTPUT_SIZE, _FACTOR, _MATCH_COLOR)
CORRECT = "correct"
REGISTRATION = ComboWidget(
    "registration",
    Text("registration", "配准"),
    Text(
        "Shift and scale of the generated picture are measured: tell them, or also move it where they are small. "
        "The original never moves.",
        "测量生成图的偏移与缩放：report 仅报告；correct 在偏差较小时还会移动生成图。原图始终不动。",
    ),
    "report",
    ("report", CORRECT),
)
OUTPAINT_PASTE_BACK = Node(
    node_id="RemoteOutpaintPasteBack",
    title=Text("Outpaint Paste Back", "原图贴回"),
    says=Text(
        "Puts the original's own pixels back on an outpainted picture of any size. Local and free.",
        "把原图自身的像素贴回任意尺寸的扩图结果。本地运行，免费。",
    ),
    inputs=(
        Socket(
            "generated",
            "IMAGE",
            Text("generated", "生成图"),
            Text(
                "The outpainted pictures, enlarged or not, but not cropped.",
                "扩图得到的图片，可以已放大，但不能裁剪过。",
            ),
        ),
        Socket(
            "original",
            "IMAGE",
            Text("original", "原图"),
            Text(
                "One for all, or each for as many pictures in a row.",
                "一张原图用于全部图片，或每张原图依次对应相同数量的图片。",
            ),
        ),
        Socket(
            "placement",
            "OUTPAINT_PLACEMENT",
            Text("placement", "位置信息"),
            Text(
                "Where the original lies in the canvas; best from Outpaint Placement: the canvas is then exactly the "
                "one asked for.",
                "原图在画布中的位置；最好来自「扩图布局」：画布便与要求完全一致。",
            ),
        ),
        *SETTINGS,
        REGISTRATION,
    ),
    aliases=(*ALIASES, "paste back", "restore original", "composite", "贴回"),
    outputs=(
        Output(
            "IMAGE",
            Text("image", "图片"),
            Text("The pictures with the original's pixels.", "带有原图像素的图片。"),
        ),
        Output(
            "MASK",
            Text("mask", "遮罩"),
            Text("1 where pixels are new, fractions where they are mixed.", "新像素处为 1，过渡处为小数。"),
        ),
        Output(
            "STRING",
            Text("report", "报告"),
            Text("What was measured and done, in English and Chinese.", "测量与处理的结果，含英文与中文。"),
        ),
    ),
)

# ---- Remote Task Result


def task_result(endpoints: Sequence[str]) -> Node:
    """The node Remote Task Result, which offers these names of endpoints."""
    return Node(
        node_id="RemoteTaskResult",
        title=Text("Remote Task Result", "取回远程任务"),
        says=Text(
            "Fetches the pictures of a task that was paid before. Free of charge.",
            "取回此前已付费任务的图片，免费。",
        ),
        inputs=(
            replace(PROFILE, help=Text("The profile that bought the task.", "购买该任务时使用的配置。")),
            ComboWidget(
                "endpoint",
                Text("endpoint", "服务"),
                Text(
                    "The service that the task was given to; not needed for what this server's task list knows.",
                    "任务当时提交给哪个服务；本服务器任务列表中已有的任务可忽略。",
                ),
                endpoints[0],
                endpoints,
                listed=False,
            ),
            StringWidget(
                "task_id",
                Text("task_id", "任务编号"),
                Text(
                    "The task_id that an error names, or a journal id (rv-…) of this server's task list.",
                    "错误信息中给出的 task_id，或本服务器任务列表中的付费日志编号（rv-…）。",
                ),
                multiline=False,
                max_length=200,
            ),
        ),
        aliases=("task", "resume", "fetch", "task_id", "取回", "任务"),
    outputs=(
            Output(
                "IMAGE",
                Text("images", "图片"),
                Text("The pictures, each in its own size.", "取回的图片，保持各自尺寸。"),
                is_list=True,
            ),
            replace(
                LABELS,
                help=Text("For each picture the label of its task.", "每张图片所属任务的标签。"),
            ),
        ),
    )


# ---- Set Report

SET_REPORT = Node(
    node_id="RemoteSetReport",
    title=Text("Set Report", "批次报告"),
    says=Text(
        "Writes report.csv: what became of each item of this run, and what it cost. Local and free.",
        "写出 report.csv：本次运行中每一项的结果与费用。本地运行，免费。",
    ),
    inputs=(
        Socket(
            "after",
            "*",
            Text("after", "之后"),
            Text(
                "Any output of the node that is to end first, such as a paid node's; the report waits for all its "
                "items, also those that brought nothing.",
                "须先完成的节点（例如付费节点）的任一输出；报告会等待其全部项目，包括没有图片的项目。",
            ),
        ),
    ),
    aliases=("report", "csv", "list", "log", "cost", "报告", "清单", "费用"),
    outputs=(),
    is_output=True,
)
