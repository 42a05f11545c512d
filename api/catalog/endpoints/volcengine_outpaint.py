"""Volcengine 智能扩图 ``i2i_outpainting``, by shares of sides, and by canvas and mask.

The interface page (www.volcengine.com/docs/6791/1223722) could not be read; fields and ranges come from the official
SDKs (volcengine/volc-sdk-java ``VisualImg2ImgOutpaintingRequest.java``, volcengine/volc-sdk-python
``example_img2img_outpainting.py``) and from docs.yutoai.net/api/api-289473244.html.
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
from ..widgets import PROFILE, TAKE, UPLOAD, Shown, widgets_of
from ..wire import PromptField, WireRequest

_Share = Annotated[float, Field(gt=0, le=1)]
_MaxSide = Annotated[int, Field(ge=64, le=4096)]
# Characters. Not official: an annotated client says so of this endpoint.
_INFERRED_MAX_PROMPT = 100


class Request(WireRequest):
    """``binary_data_base64`` (or ``image_urls``) is [image] with sides to extend, or [canvas, mask] without sides."""

    req_key: Literal["i2i_outpainting"] = "i2i_outpainting"
    binary_data_base64: Images | None = None
    image_urls: Images | None = None
    custom_prompt: PromptField | None = None
    prompt: Prompt = None
    steps: Annotated[
        int,
        Field(ge=1, le=100),
        Shown(Text("steps", "步数 steps"), Text("More steps take longer.", "步数越多耗时越长。")),
    ] = 30
    strength: Annotated[
        float,
        Field(ge=0.1, le=1),
        Shown(
            Text("strength", "重绘强度 strength"),
            Text("How freely the new area is painted.", "新区域生成的自由程度。"),
        ),
    ] = 0.8
    scale: Annotated[
        float,
        Field(ge=1, le=20),
        Shown(
            Text("scale", "提示词强度 scale"),
            Text("How closely the picture follows the prompt.", "画面遵循提示词的程度。"),
            step=0.5,
        ),
    ] = 7.0
    seed: Seed = -1
    top: _Share | None = None
    bottom: _Share | None = None
    left: _Share | None = None
    right: _Share | None = None
    max_height: Annotated[
        _MaxSide,
        Shown(
            Text("max_height", "最大高度"),
            Text(
                "Highest result, px; a larger one is scaled down to fit.",
                "结果的最大高度（像素），超出时等比缩小。",
            ),
        ),
    ] = 1920
    max_width: Annotated[
        _MaxSide,
        Shown(
            Text("max_width", "最大宽度"),
            Text("Widest result, px; a larger one is scaled down to fit.", "结果的最大宽度（像素），超出时等比缩小。"),
        ),
    ] = 1920
    return_url: bool | None = None

    @model_validator(mode="after")
    def _one_mode(self) -> Request:
        sides = (self.top, self.bottom, self.left, self.right)
        check_images(self.binary_data_base64 or self.image_urls, sides)
        return self


def _request(given: Given, images: list[str], seed: int, sides: Mapping[str, float]) -> Request:
    # The prompt goes up under both keys, because the official samples disagree; an empty one is left out.
    prompt = given.values["prompt"] or None
    return given.request(
        Request, binary_data_base64=images, custom_prompt=prompt, prompt=prompt, seed=seed, **sides
    )


def _limits(given: Given) -> tuple[int, int]:
    return given.values["max_width"], given.values["max_height"]


def _by_sides(given: Given) -> NodePlan:
    # What the service makes of 0 is not known (api-facts 2.2), so that it gets canvas and mask then.
    plan = plan_by_sides(given, _limits(given), partial(_request, given), takes_zero=False)
    _note_long_prompt(given)
    return plan


def _by_mask(given: Given) -> NodePlan:
    plan = plan_by_mask(given, _limits(given), partial(_request, given))
    _note_long_prompt(given)
    return plan


def _note_long_prompt(given: Given) -> None:
    length = len(given.values["prompt"])
    if length > _INFERRED_MAX_PROMPT:
        given.note(
            Text(
                f"The prompt has {length} characters; the service is said to take {_INFERRED_MAX_PROMPT} "
                "(not documented).",
                f"提示词有 {length} 个字符；据称服务端上限为 {_INFERRED_MAX_PROMPT}（官方未说明）。",
            )
        )


_SHOWN = widgets_of(Request)
_SAMPLING = (
    *(_SHOWN[name] for name in ("scale", "steps", "strength", "seed")),
    VARIANTS,
    *(_SHOWN[name] for name in ("max_width", "max_height")),
    UPLOAD,
)

ENDPOINT = VolcengineEndpoint(
    name="volcengine outpaint",
    title=Text("Volcengine Outpaint", "火山引擎扩图"),
    req_key="i2i_outpainting",
    is_synchronous=True,
    nodes=(
        PaidNode(
            node_id="VolcengineAPIOutpaint",
            title=Text("Volcengine Outpaint (Sides)", "火山引擎扩图（四边）"),
            says=Text(
                "Paid: extends the image on each side by a share of its size with Volcengine. Every call is billed.",
                "付费：用火山引擎按比例向四边扩展图片。每次调用都会计费。",
            ),
            inputs=(
                image_input(
                    Text(
                        "Every image of a batch is one paid call per variant.",
                        "批次中的每张图片、每个变体都是一次付费调用。",
                    )
                ),
                PROFILE,
                _SHOWN["prompt"],
                *SIDES,
                *_SAMPLING,
                TAKE,
                placement_input(Text("top, bottom, left and right", "上、下、左、右")),
                *LAST_INPUTS,
            ),
            outputs=OUTPUTS,
            plan=_by_sides,
            aliases=(*ALIASES, "i2i_outpainting"),
            example="volcengine_outpaint_sides",
            resizes=True,
        ),
        PaidNode(
            node_id="VolcengineAPIOutpaintCanvas",
            title=Text("Volcengine Outpaint (Canvas)", "火山引擎扩图（画布）"),
            says=Text(
                "Paid: paints the masked part of a padded image with Volcengine. Every call is billed.",
                "付费：用火山引擎绘制已补边图片中被遮罩的部分。每次调用都会计费。",
            ),
            inputs=(
                image_input(
                    Text(
                        "The padded image, for example from Pad Image for Outpainting.",
                        "已补边的图片，例如来自「外补画板」节点。",
                    )
                ),
                Socket(
                    "mask",
                    "MASK",
                    Text("mask", "遮罩"),
                    Text(
                        "1 where pixels are new; a feathered rim is painted too.",
                        "新像素处为 1；羽化的边缘也会重新生成。",
                    ),
                ),
                PROFILE,
                _SHOWN["prompt"],
                *_SAMPLING,
                TAKE,
                *LAST_INPUTS,
            ),
            outputs=OUTPUTS,
            plan=_by_mask,
            aliases=(*ALIASES, "i2i_outpainting", "mask"),
            example="volcengine_outpaint_canvas",
            resizes=True,
            may_lack_placement=True,
        ),
    ),
)
