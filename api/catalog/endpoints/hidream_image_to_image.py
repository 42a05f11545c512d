"""HiDream v2 img2img (www.hidreamai.com/docs/pixeling/img2img)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...core import Text
from ..endpoint import HiDreamEndpoint
from ..hidream import FROM_PROMPTS, ImageCount, NegativePrompt, Prompt, problem_of_prompt
from ..node import LABEL, Given, NodePlan, Output, PaidNode, PlannedCall, Socket, encoded
from ..widgets import ON_PARTIAL, PROFILE, TAKE, ComboWidget, Shown, widgets_of
from ..wire import HiDreamRequest, ImageField

if TYPE_CHECKING:
    from ...pixels import Upload


class Request(HiDreamRequest):
    """One image, or a list of references."""

    image: ImageField | Annotated[list[ImageField], Field(min_length=1)]
    prompt: Prompt = ""
    negative_prompt: NegativePrompt = ""
    aspect_ratio: Annotated[
        Literal["9:16", "2:3", "4:3", "1:1", "3:4", "3:2", "16:9"],
        Shown(Text("aspect_ratio", "宽高比"), Text("Width : height of the result.", "结果的宽 : 高。")),
    ] = "1:1"
    img_count: ImageCount = 1


_ONE_EACH, _ALL_AS_REFERENCES = "one call per image", "all as references"
_USE_IMAGES = ComboWidget(
    "use_images",
    Text("use_images", "图片用法"),
    Text(
        "Each image of the batch on its own, or all of them together as references of a single call.",
        "one call per image：批次中每张图片单独调用；all as references：所有图片作为同一次调用的参考图。",
    ),
    _ONE_EACH,
    (_ONE_EACH, _ALL_AS_REFERENCES),
)
# Expected pixels of a result. The service chooses the size: about a megapixel, and it may be larger.
_EXPECTED_PIXELS = 4_000_000


def _plan(given: Given) -> NodePlan:
    images, count = given.images, given.values["img_count"]
    if given.values["use_images"] == _ONE_EACH:
        return NodePlan([partial(_each, given, index) for index in range(len(images))], len(images) * count)
    return NodePlan([partial(_together, given)], count)


def _each(given: Given, index: int) -> list[PlannedCall]:
    reference = given.images.upload(index)
    return [_call(given, reference.fingerprint, reference)]


def _together(given: Given) -> list[PlannedCall]:
    references = [given.images.upload(index) for index in range(len(given.images))]
    return [_call(given, [reference.fingerprint for reference in references], references)]


def _call(given: Given, image: str | list[str], uploads: Upload | Sequence[Upload]) -> PlannedCall:
    request = given.request(Request, image=image)
    problem = problem_of_prompt(request.prompt)
    return PlannedCall(request, encoded(image=uploads), _EXPECTED_PIXELS, request.img_count, problem)


ENDPOINT = HiDreamEndpoint(
    name="hidream image to image",
    path="/api-pub/gw/v2/image/img2img/async",
    rate=FROM_PROMPTS,
    nodes=(
        PaidNode(
            node_id="HiDreamAPIImageToImage",
            title=Text("HiDream Image to Image", "HiDream 图生图"),
            says=Text(
                "Paid: makes new pictures from reference images and a prompt with HiDream. Every picture is billed.",
                "付费：用参考图和提示词让 HiDream（智象未来）生成新图片。每张图片都会计费。",
            ),
            inputs=(
                Socket("images", "IMAGE", Text("images", "图片"), Text("The reference images.", "参考图。")),
                PROFILE,
                *widgets_of(Request).values(),
                _USE_IMAGES,
                ON_PARTIAL,
                TAKE,
                LABEL,
            ),
            outputs=(
                Output(
                    "IMAGE",
                    Text("images", "图片"),
                    Text("The pictures, in the order of the inputs.", "生成的图片，顺序与输入一致。"),
                ),
            ),
            plan=_plan,
            aliases=("img2img", "i2i", "image to image", "reference", "variation", "图生图", "参考图"),
            example="hidream_image_to_image",
        ),
    ),
)
