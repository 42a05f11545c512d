"""Volcengine 即梦智能扩图 ``jimeng_img2img_seed3_painting_edit``: by shares of sides, or by canvas and mask.

The interface page (www.volcengine.com/docs/85621/2375477) could not be read; fields and ranges come from notes on it in
public clients. They do not say the default and the range of ``seed``, the limits of the images and of the prompt, or
what the service makes of one image without a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...core import Text
from ..endpoint import VolcengineEndpoint
from ..node import LAST_INPUTS, Given, NodePlan, PaidNode, Socket, image_input
from ..outpainting import ALIASES, OUTPUTS, SIDES, placement_input
from ..volcengine import VARIANTS, Images, Prompt, Seed, check_images, plan_by_mask, plan_by_sides
from ..widgets import PROFILE, TAKE, UPLOAD, widgets_of
from ..wire import WireRequest

_Share = Annotated[float, Field(ge=0, le=1)]


class Request(WireRequest):
    """``binary_data_base64`` (or ``image_urls``) is [image] with sides to extend, or [canvas, mask] without sides."""

    req_key: Literal["jimeng_img2img_seed3_painting_edit"] = "jimeng_img2img_seed3_painting_edit"
    binary_data_base64: Images | None = None
    image_urls: Images | None = None
    top: _Share | None = None
    bottom: _Share | None = None
    left: _Share | None = None
    right: _Share | None = None
    prompt: Prompt = None
    seed: Seed = -1

    @model_validator(mode="after")
    def _one_mode(self) -> Request:
        sides = (self.top, self.bottom, self.left, self.right)
        check_images(self.binary_data_base64 or self.image_urls, sides)
        return self


def _request(given: Given, images: list[str], seed: int, sides: Mapping[str, float]) -> Request:
    prompt = given.values["prompt"] or None
    return given.request(Request, binary_data_base64=images, prompt=prompt, seed=seed, **sides)


def _plan(given: Given) -> NodePlan:
    make = partial(_request, given)
    if given.mask is None:
        return plan_by_sides(given, None, make, takes_zero=True)
    plan = plan_by_mask(given, None, make)
    if given.placement is not None:
        given.note(
            Text(
                "The mask was used, and the connected placement was not.",
                "使用了所连接的遮罩，未使用所连接的 placement。",
            )
        )
    return plan


_SHOWN = widgets_of(Request)

ENDPOINT = VolcengineEndpoint(
    name="volcengine jimeng outpaint",
    # Its page says that a task lives 12 hours. It counts as forgotten after a day, as everywhere: a `not_found` may be
    # wrong, and asking costs nothing.
    req_key="jimeng_img2img_seed3_painting_edit",
    nodes=(
        PaidNode(
            node_id="VolcengineAPIJimengOutpaint",
            title=Text("Jimeng Outpaint", "即梦智能扩图"),
            says=Text(
                "Paid: extends the image at its sides, or paints the masked part of a padded image, with Volcengine's "
                "Jimeng. Every call is billed.",
                "付费：用火山引擎的即梦向各边扩展图片，或绘制已补边图片中被遮罩的部分。每次调用都会计费。",
            ),
            inputs=(
                image_input(
                    Text(
                        "Every image of a batch is one paid call per variant. With a mask: the padded image.",
                        "批次中的每张图片、每个变体都是一次付费调用。连接遮罩时应为已补边的图片。",
                    )
                ),
                Socket(
                    "mask",
                    "MASK",
                    Text("mask", "遮罩"),
                    Text(
                        "1 where pixels are new; a feathered rim is painted too. Replaces placement, top, bottom, left "
                        "and right.",
                        "新像素处为 1；羽化的边缘也会重新生成。连接后取代位置信息和上、下、左、右。",
                    ),
                    optional=True,
                ),
                placement_input(Text("top, bottom, left and right", "上、下、左、右")),
                PROFILE,
                _SHOWN["prompt"],
                *SIDES,
                _SHOWN["seed"],
                VARIANTS,
                UPLOAD,
                TAKE,
                *LAST_INPUTS,
            ),
            outputs=OUTPUTS,
            plan=_plan,
            aliases=(*ALIASES, "jimeng", "即梦", "jimeng_img2img_seed3_painting_edit", "mask"),
            example="jimeng_outpaint",
            resizes=True,
            may_lack_placement=True,
        ),
    ),
)
