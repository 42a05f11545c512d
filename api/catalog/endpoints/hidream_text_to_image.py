"""HiDream v3 txt2img (hidreamai.com/doc/txt2img/request).

The version ``v2.1-standard`` and its resolutions are those of a public client: the page does not name them. How long a
prompt may be is not known.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, get_args

from pydantic import model_validator

from ...core import InvalidInputError, Text
from ..endpoint import HiDreamEndpoint
from ..hidream import FROM_PROMPTS, ImageCount, NegativePrompt, Prompt, problem_of_prompt
from ..node import LAST_INPUTS, Given, NodePlan, Output, PaidNode, PlannedCall, nothing_to_encode
from ..widgets import PROFILE, TAKE, Shown, widgets_of
from ..wire import HiDreamRequest

_Small = Literal["1024*1024", "832*1248", "880*1168", "768*1360", "1248*832", "1168*880", "1360*768"]
_Large = Literal["2048*2048", "1664*2496", "1728*2304", "1536*2688", "2496*1664", "2304*1728", "2688*1536"]
_RESOLUTIONS = {"v2L": get_args(_Small), "v2.1-standard": get_args(_Large)}


class Request(HiDreamRequest):
    """A prompt, and a resolution that its version has."""

    prompt: Prompt
    negative_prompt: NegativePrompt = ""
    img_count: ImageCount = 1
    version: Annotated[
        Literal["v2L", "v2.1-standard"],
        Shown(
            Text("version", "模型版本"),
            Text("Version of the model. Each has resolutions of its own.", "模型的版本。各版本可选的分辨率不同。"),
        ),
    ] = "v2L"
    resolution: Annotated[
        Literal[_Small, _Large],
        Shown(
            Text("resolution", "分辨率"),
            Text(
                "Width*height of each picture. `v2L` has the first seven, `v2.1-standard` those from `2048*2048` on.",
                "每张图片的宽*高。v2L 可选前七项，v2.1-standard 可选 2048*2048 及其后各项。",
            ),
        ),
    ] = "1024*1024"

    @model_validator(mode="after")
    def _has_resolution(self) -> Request:
        if self.resolution not in _RESOLUTIONS[self.version]:
            raise ValueError(f"version {self.version} has no resolution {self.resolution}")
        return self


def _plan(given: Given) -> NodePlan:
    version, resolution = given.values["version"], given.values["resolution"]
    if resolution not in _RESOLUTIONS[version]:
        known = _RESOLUTIONS[version]
        raise InvalidInputError(
            Text(
                f"`version` {version} has no `resolution` {resolution}. Choose one of {', '.join(known)}, "
                "or the other version.",
                f"`version` 为 {version} 时，`resolution` 不能选 {resolution}。请改选 {'、'.join(known)} 之一，"
                "或换用另一版本。",
            )
        )
    width, height = (int(side) for side in resolution.split("*"))
    return NodePlan([partial(_call, given, width * height)], given.values["img_count"], (width, height))


def _call(given: Given, pixels: int) -> list[PlannedCall]:
    request = given.request(Request)
    return [PlannedCall(request, nothing_to_encode, pixels, request.img_count, problem_of_prompt(request.prompt))]


ENDPOINT = HiDreamEndpoint(
    name="hidream text to image",
    path="/api-pub/gw/v3/image/txt2img/async",
    rate=FROM_PROMPTS,
    nodes=(
        PaidNode(
            node_id="HiDreamAPITextToImage",
            title=Text("HiDream Text to Image", "HiDream 文生图"),
            says=Text(
                "Paid: makes new pictures from a prompt with HiDream. Every picture is billed.",
                "付费：用提示词让 HiDream（智象未来）生成新图片。每张图片都会计费。",
            ),
            inputs=(
                PROFILE,
                *widgets_of(Request).values(),
                TAKE,
                *LAST_INPUTS,
            ),
            outputs=(Output("IMAGE", Text("images", "图片"), Text("The pictures.", "生成的图片。")),),
            plan=_plan,
            aliases=("txt2img", "t2i", "text to image", "prompt", "文生图", "文字生成图片"),
            example="hidream_text_to_image",
        ),
    ),
)
