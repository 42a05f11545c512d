"""HiDream ec v3 variation, 模特套图 (hidreamai.com/doc/variation/request)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ... import pixels
from ...core import InvalidInputError, Text
from ..endpoint import HiDreamEndpoint
from ..node import LABEL, LABELS, Given, NodePlan, Output, PaidNode, PlannedCall, encoded, image_input
from ..widgets import MAX_INT, ON_PARTIAL, PROFILE, TAKE, ComboWidget, Shown, widgets_of
from ..wire import HiDreamRequest, ImageField

if TYPE_CHECKING:
    from ...pixels import Pixels

_MAX_PHOTO = 2048
_RATIO_TOLERANCE = 0.005


class Request(HiDreamRequest):
    """A 3:4 photo of at most 2K, and a template; 0 in the widget stands for none."""

    image: ImageField
    template_id: Annotated[
        int,
        Field(ge=1, le=MAX_INT),
        Shown(
            Text("template_id", "模板编号"),
            Text(
                "Number of the service's template, 0 = none. The button below shows them; the list is also at "
                "hidreamai.com/doc/variation/templates.",
                "服务端的模板编号，0 表示未选择。"
                "点击下方按钮可看图选择，列表另见 hidreamai.com/doc/variation/templates。",
            ),
            default=0,
            minimum=0,
        ),
    ]


_ERROR, _CROP, _PAD = "error", "crop", "pad"
_FIT = ComboWidget(
    "fit",
    Text("fit", "适配方式"),
    Text(
        "The service takes 3:4 photos of at most 2048 px: refuse others, crop them centred, or pad them with white. "
        "`crop` and `pad` also scale down to 2048 px.",
        "服务端只接受 3:4、最大 2048 像素的照片：error 拒绝其他尺寸，crop 居中裁剪，pad 用白色补边。"
        "crop 与 pad 还会缩小到 2048 像素。",
    ),
    _ERROR,
    (_ERROR, _CROP, _PAD),
)


def _plan(given: Given) -> NodePlan:
    if given.values["template_id"] == 0:
        raise InvalidInputError(
            Text(
                "No template is chosen: `template_id` is 0. Choose one with the node's button, or enter a number "
                "of the service's list (hidreamai.com/doc/variation/templates).",
                "尚未选择模板：`template_id` 为 0。请点击节点上的按钮选择，或填写模板列表的编号"
                "（hidreamai.com/doc/variation/templates）。",
            )
        )
    count = len(given.images)
    return NodePlan([partial(_call, given, index) for index in range(count)], count)


def _call(given: Given, index: int) -> list[PlannedCall]:
    photo = given.images.upload(index, partial(_fitted, fit=given.values["fit"], note=given.note))
    return [PlannedCall(given.request(Request, image=photo.fingerprint), encoded(image=photo), _MAX_PHOTO**2)]


def _fitted(original: Pixels, fit: str, note: Callable[[Text], None]) -> Pixels:
    """The photo as the service takes it: 3:4 within 0.5 %, no side over 2048 px; a note says what was changed.

    Args:
        fit: ``error``: change nothing; ``crop``, ``pad``: cut or pad to 3:4, and scale down.

    Raises:
        InvalidInputError: the service would not take the photo.
    """
    width, height = size = original.shape[1], original.shape[0]
    photo = original
    if not pixels.is_three_by_four(width, height, _RATIO_TOLERANCE):
        if fit == _CROP:
            photo = pixels.cut_out(original, pixels.three_by_four_inside(width, height))
        elif fit == _PAD:
            photo = pixels.paste_on_white(original, pixels.three_by_four_around(width, height))
    if fit != _ERROR and max(photo.shape) > _MAX_PHOTO:
        photo = pixels.resize(photo, *pixels.fit_within(photo.shape[1], photo.shape[0], _MAX_PHOTO, _MAX_PHOTO))
    fitted = photo.shape[1], photo.shape[0]
    if not pixels.is_three_by_four(*fitted, _RATIO_TOLERANCE) or max(fitted) > _MAX_PHOTO:
        raise InvalidInputError(
            Text(
                f"The service takes photos of 3:4 (within {_RATIO_TOLERANCE:.1%}) and at most {_MAX_PHOTO} px; this "
                f"one is {fitted[0]}×{fitted[1]} (width : height = {fitted[0] / fitted[1]:.4f}). "
                "Choose `crop` or `pad` in `fit`, or another photo.",
                f"服务端只接受 3:4（误差 {_RATIO_TOLERANCE:.1%} 以内）且不超过 {_MAX_PHOTO} px 的照片，实际为 "
                f"{fitted[0]}×{fitted[1]}（宽高比 {fitted[0] / fitted[1]:.4f}）。"
                "请将 `fit` 设为 `crop` 或 `pad`，或更换照片。",
            )
        )
    if fitted != size:
        note(
            Text(
                f"The photo was fitted ({fit}) from {width}×{height} to {fitted[0]}×{fitted[1]}.",
                f"照片已从 {width}×{height} 调整（{fit}）为 {fitted[0]}×{fitted[1]}。",
            )
        )
    return photo


ENDPOINT = HiDreamEndpoint(
    name="hidream model photo set",
    path="/api-pub/ec/v3/image/variation/async",
    on_ec_host=True,
    takes_user_id=False,
    nodes=(
        PaidNode(
            node_id="HiDreamAPIModelPhotoSet",
            title=Text("HiDream Model Photo Set", "HiDream 模特套图"),
            says=Text(
                "Paid: makes a set of model photos (模特套图) from a 3:4 photo and a template. Every image is billed.",
                "付费：用一张 3:4 照片和一个模板生成一组模特照片（模特套图）。每张图片都会计费。",
            ),
            inputs=(
                image_input(
                    Text(
                        "Model photo, 3:4. Every image of a batch is one paid task.",
                        "模特照片，3:4。批次中的每张图片都是一次付费任务。",
                    )
                ),
                PROFILE,
                _FIT,
                *widgets_of(Request).values(),
                ON_PARTIAL,
                TAKE,
                LABEL,
            ),
            outputs=(
                Output(
                    "IMAGE",
                    Text("images", "图片"),
                    Text("All pictures of the sets, each in its own size.", "套图中的所有图片，保持各自尺寸。"),
                    is_list=True,
                ),
                LABELS,
            ),
            plan=_plan,
            aliases=("model photo set", "variation", "fashion", "模特套图", "模特图", "电商"),
            example="hidream_model_photo_set",
        ),
    ),
)
