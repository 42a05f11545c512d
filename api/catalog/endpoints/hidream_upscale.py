"""HiDream v3 image_upscaler (hidreamai.com/doc/image_upscaler/request)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from ...core import Text
from ..endpoint import HiDreamEndpoint
from ..node import LAST_INPUTS, Given, NodePlan, Output, PaidNode, PlannedCall, encoded, image_input
from ..widgets import PROFILE, TAKE, Shown, widgets_of
from ..wire import HiDreamRequest, ImageField


class Request(HiDreamRequest):
    """The service spells the field ``upsale_ratio``."""

    image: ImageField
    upsale_ratio: Annotated[
        Literal[2, 4],
        Shown(
            Text("upscale_ratio", "放大倍数"),
            Text("How many times wider and higher.", "宽和高各放大多少倍。"),
            id="upscale_ratio",
            default=2,
        ),
    ]
    version: Literal["v1"] = "v1"


def _plan(given: Given) -> NodePlan:
    width, height = (side * given.values["upscale_ratio"] for side in given.images.size)
    count = len(given.images)
    return NodePlan([partial(_call, given, index, width * height) for index in range(count)], count, (width, height))


def _call(given: Given, index: int, pixels: int) -> list[PlannedCall]:
    original = given.images.upload(index)
    return [PlannedCall(given.request(Request, image=original.fingerprint), encoded(image=original), pixels)]


ENDPOINT = HiDreamEndpoint(
    name="hidream upscale",
    path="/api-pub/gw/v3/image/image_upscaler/async",
    takes_language=True,
    nodes=(
        PaidNode(
            node_id="HiDreamAPIUpscale",
            title=Text("HiDream Upscale", "HiDream 图片增强"),
            says=Text(
                "Paid: enlarges the image two or four times with HiDream. Every image is a billed task.",
                "付费：用 HiDream（智象未来）把图片放大 2 倍或 4 倍。每张图片都会计费。",
            ),
            inputs=(
                image_input(Text("Every image of a batch is one paid task.", "批次中的每张图片都是一次付费任务。")),
                PROFILE,
                *widgets_of(Request).values(),
                TAKE,
                *LAST_INPUTS,
            ),
            outputs=(Output("IMAGE", Text("image", "图片"), Text("The enlarged pictures.", "放大后的图片。")),),
            plan=_plan,
            aliases=("upscale", "enlarge", "super resolution", "图片增强", "放大", "超分"),
            example="hidream_upscale",
        ),
    ),
)
