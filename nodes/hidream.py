"""The four HiDream nodes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from comfy_api.latest import io

from .. import api
from ..api import InvalidInputError, Text, choices
from .comfy import host
from .common import (
    CATEGORY,
    Notes,
    PartialNode,
    RemoteNode,
    buy_pictures,
    check_one_size,
    check_result_fits_memory,
    leave_for_later,
    note_other_size,
    size_of,
)
from .placements import (
    check_something_new,
    checked_placement,
    given_placement,
    note_resized,
    outpaint_outputs,
    placement_input,
)
from .widgets import MAX_INT, PROFILE, TAKE, ComboWidget, FloatWidget, IntWidget, StringWidget, checked, inputs

_RETURN_THE_REST = "return the rest"
_ON_PARTIAL = ComboWidget(
    "on_partial",
    ("error", _RETURN_THE_REST),
    "error",
    "When some pictures fail: stop with an error that names the task, "
    "or return the finished ones and say what is missing.",
)


async def _service(profile: str, endpoint: api.hidream.Endpoint) -> api.HiDreamService:
    # Off the loop, because resolving the profile may start the sandbox.
    return api.HiDreamService(await host.off_loop(host.profiles().hidream, profile), endpoint)


# ---- outpaint

_MIN_CANVAS = 64
_CANVAS_WIDTH = IntWidget("canvas_width", 1024, _MIN_CANVAS, choices.MAX_CANVAS, "Width of the new canvas, px.")
_CANVAS_HEIGHT = IntWidget("canvas_height", 1024, _MIN_CANVAS, choices.MAX_CANVAS, "Height of the new canvas, px.")
_RATIO = FloatWidget(
    "ratio",
    0.5,
    0.05,
    1.0,
    "Linear share of the canvas that the original spans on its tighter side; 0.5 is a quarter of a square by area.",
)
_POSITION: ComboWidget[choices.Position] = ComboWidget(
    "position",
    choices.POSITIONS,
    "center",
    "Where the original lies in the canvas; `offset` uses x_offset and y_offset.",
)
_X_OFFSET = IntWidget("x_offset", 0, 0, choices.MAX_CANVAS, "Left edge of the original, px; only with `offset`.")
_Y_OFFSET = IntWidget("y_offset", 0, 0, choices.MAX_CANVAS, "Top edge of the original, px; only with `offset`.")
_LAYOUT = (_CANVAS_WIDTH, _CANVAS_HEIGHT, _RATIO, _POSITION, _X_OFFSET, _Y_OFFSET)
_OUTPAINT_VARIANTS = IntWidget("variants", 1, 1, 4, "Pictures per image; each one is a paid task.")


class HiDreamAPIOutpaint(RemoteNode):
    """HiDream v3 outpainting."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HiDreamAPIOutpaint",
            display_name="HiDream Outpaint",
            category=CATEGORY,
            description="Puts the image into a larger canvas and lets HiDream paint around it. Every call is paid.",
            inputs=[
                io.Image.Input("image", tooltip="Every image of a batch is one paid task per variant."),
                *inputs(PROFILE, *_LAYOUT, _OUTPAINT_VARIANTS, TAKE),
                placement_input("canvas, ratio, position and offset"),
            ],
            outputs=outpaint_outputs(),
        )

    @classmethod
    async def execute(
        cls, image: Any, profile: str, variants: int, take: int, placement: Any = None, **layout: Any
    ) -> io.NodeOutput:
        take = TAKE.check(take)
        variants = _OUTPAINT_VARIANTS.check(variants)
        originals = api.Pictures(image)
        notes = Notes(originals.notes)
        size = originals.size
        used = (
            _placement_from_widgets(size, layout) if placement is None else _connected_placement(placement, size, notes)
        )
        note_resized(notes, size, used)
        service = await _service(profile, api.hidream.OUTPAINT)
        per_image = [
            await host.off_loop(_outpaint_call, service, originals, index, used, take)
            for index in range(len(originals))
        ]
        calls = [call for call in per_image for _ in range(variants)]
        pictures = await buy_pictures(calls, notes, check=check_one_size)
        came = size_of(pictures[0])
        note_other_size(notes, came, (used.canvas_width, used.canvas_height))
        used = used.scaled_to(*came)
        return io.NodeOutput(
            await host.off_loop(api.tensors.image_tensor, pictures),
            api.tensors.placement_mask(used),
            used,
            ui={**notes.ui(), "outpaint_preview": await host.off_loop(lambda: host.preview(originals[0]))},
        )


def _placement_from_widgets(size: tuple[int, int], layout: dict[str, Any]) -> api.Placement:
    """The placement of an original of ``size`` (width, height) by the node's own widgets.

    Raises:
        InvalidInputError: a value is outside its limits, or the original would leave or fill the canvas.
    """
    placement = api.geometry.place(*size, **checked(_LAYOUT, layout))
    check_something_new(placement)
    return placement


_WIDE, _HIGH = Text("wide", "宽"), Text("high", "高")


def _connected_placement(placement: object, size: tuple[int, int], notes: Notes) -> api.Placement:
    """The connected placement, scaled down as far as the service's canvas demands.

    Raises:
        InvalidInputError: it is not usable, or a side of the canvas is too short for the service after scaling.
    """
    used = given_placement(placement, size, (choices.MAX_CANVAS, choices.MAX_CANVAS), notes)
    if min(used.canvas_width, used.canvas_height) < _MIN_CANVAS:
        raise InvalidInputError(
            Text(
                f"Within {choices.MAX_CANVAS}×{choices.MAX_CANVAS} the placement's canvas is {used.canvas_width}×"
                f"{used.canvas_height}, but HiDream takes sides of at least {_MIN_CANVAS} px.",
                f"placement 的画布在 {choices.MAX_CANVAS}×{choices.MAX_CANVAS} 以内为 {used.canvas_width}×"
                f"{used.canvas_height}，而 HiDream 要求每边至少 {_MIN_CANVAS} px。",
            ),
            advice=_canvas_advice(checked_placement(placement)),
        )
    return used


def _canvas_advice(placement: api.Placement) -> Text:
    """The advice which canvas to choose, so that every side is long enough after scaling down."""
    sides = placement.canvas_width, placement.canvas_height
    least = max(_MIN_CANVAS, math.ceil(max(sides) * _MIN_CANVAS / choices.MAX_CANVAS))
    short = [which for side, which in zip(sides, (_WIDE, _HIGH), strict=True) if side < least]
    en = " and ".join(f"{least} px {which.en}" for which in short)
    zh = "、".join(f"{which.zh}至少 {least} px" for which in short)
    return Text(f"Make the placement with a canvas that is at least {en}.", f"请让 placement 的画布{zh}。")


def _outpaint_call(
    service: api.HiDreamService, originals: api.Pictures, index: int, placement: api.Placement, take: int
) -> api.PaidCall:
    placed = originals.upload(index, lambda pixels: api.tensors.resize(pixels, placement.width, placement.height))
    request = api.checked(
        api.hidream.OutpaintRequest,
        image=placed.fingerprint,
        x_offset=placement.x,
        y_offset=placement.y,
        resolution=f"{placement.canvas_width}*{placement.canvas_height}",
    )
    canvas = placement.canvas_width * placement.canvas_height
    return api.PaidCall(service, request, partial(_one_image, placed), canvas, take)


def _one_image(upload: api.Upload) -> dict[str, str]:
    return {"image": upload.base64()}


# ---- image to image

_PROMPT = StringWidget("prompt", "What the picture should show.")
_NEGATIVE_PROMPT = StringWidget("negative_prompt", "What it should not show.")
_ASPECT_RATIO = ComboWidget("aspect_ratio", choices.ASPECT_RATIOS, "1:1", "Width : height of the result.")
_IMG_COUNT = IntWidget("img_count", 1, 1, 4, "Pictures per call; each one is paid.")
_WISHES = (_PROMPT, _NEGATIVE_PROMPT, _ASPECT_RATIO, _IMG_COUNT)
_ONE_EACH, _ALL_AS_REFERENCES = "one call per image", "all as references"
_USE_IMAGES = ComboWidget(
    "use_images",
    (_ONE_EACH, _ALL_AS_REFERENCES),
    _ONE_EACH,
    "Each image of the batch on its own, or all of them together as references of a single call.",
)
# Expected pixels of a result. The service chooses the size: about a megapixel, and it may be larger.
_IMAGE_TO_IMAGE_PIXELS = 4_000_000


class HiDreamAPIImageToImage(PartialNode):
    """HiDream v2 img2img."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HiDreamAPIImageToImage",
            display_name="HiDream Image to Image",
            category=CATEGORY,
            description="Makes new pictures from reference images and a prompt with HiDream. Every picture is paid.",
            inputs=[
                io.Image.Input("images", tooltip="The reference images."),
                *inputs(PROFILE, *_WISHES, _USE_IMAGES, _ON_PARTIAL, TAKE),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The pictures, in the order of the inputs.")],
        )

    @classmethod
    async def execute(
        cls, images: Any, profile: str, use_images: str, on_partial: str, take: int, **wishes: Any
    ) -> io.NodeOutput:
        take = TAKE.check(take)
        on_partial = _ON_PARTIAL.check(on_partial)
        fields = checked(_WISHES, wishes)
        together = _USE_IMAGES.check(use_images) == _ALL_AS_REFERENCES
        originals = api.Pictures(images)
        notes = Notes(originals.notes)
        service = await _service(profile, api.hidream.IMAGE_TO_IMAGE)
        references = [await host.off_loop(originals.upload, index) for index in range(len(originals))]
        groups = [references] if together else [[reference] for reference in references]
        calls = [await host.off_loop(_image_to_image_call, service, group, together, fields, take) for group in groups]
        if not fields["prompt"].strip():
            calls = [replace(call, problem=_no_prompt()) for call in calls]
        later = partial(leave_for_later, **fields, profile=profile, use_images=use_images, take=take)
        accept_partial = on_partial == _RETURN_THE_REST
        pictures = await buy_pictures(calls, notes, accept_partial=accept_partial, check=check_one_size, later=later)
        return io.NodeOutput(await host.off_loop(api.tensors.image_tensor, pictures), ui=notes.ui())


def _no_prompt() -> InvalidInputError:
    return InvalidInputError(
        Text(
            "`prompt` is empty: it says what the picture should show.",
            "`prompt` 为空：请描述图片内容。",
        ),
        advice=Text("Enter a prompt and queue again.", "请填写提示词后重新运行。"),
    )


def _image_to_image_call(
    service: api.HiDreamService, references: list[api.Upload], together: bool, fields: dict[str, Any], take: int
) -> api.PaidCall:
    prints = [reference.fingerprint for reference in references]
    request = api.checked(api.hidream.ImageToImageRequest, image=prints if together else prints[0], **fields)
    encode = partial(_all_images, references) if together else partial(_one_image, references[0])
    return api.PaidCall(service, request, encode, _IMAGE_TO_IMAGE_PIXELS, take, request.img_count)


def _all_images(references: list[api.Upload]) -> dict[str, list[str]]:
    return {"image": [reference.base64() for reference in references]}


# ---- upscale

_UPSCALE_RATIO = ComboWidget("upscale_ratio", choices.UPSCALE_RATIOS, 2, "How many times wider and higher.")


class HiDreamAPIUpscale(RemoteNode):
    """HiDream v3 image_upscaler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HiDreamAPIUpscale",
            display_name="HiDream Upscale",
            category=CATEGORY,
            description="Enlarges the image two or four times with HiDream. Every image is a paid task.",
            inputs=[
                io.Image.Input("image", tooltip="Every image of a batch is one paid task."),
                *inputs(PROFILE, _UPSCALE_RATIO, TAKE),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The enlarged pictures.")],
        )

    @classmethod
    async def execute(cls, image: Any, profile: str, upscale_ratio: int, take: int) -> io.NodeOutput:
        take = TAKE.check(take)
        upscale_ratio = _UPSCALE_RATIO.check(upscale_ratio)
        originals = api.Pictures(image)
        notes = Notes(originals.notes)
        width, height = (side * upscale_ratio for side in originals.size)
        check_result_fits_memory(width, height, len(originals))
        service = await _service(profile, api.hidream.UPSCALE)
        calls = [
            await host.off_loop(_upscale_call, service, originals, index, upscale_ratio, take)
            for index in range(len(originals))
        ]
        pictures = await buy_pictures(calls, notes, check=check_one_size)
        note_other_size(notes, size_of(pictures[0]), (width, height))
        return io.NodeOutput(await host.off_loop(api.tensors.image_tensor, pictures), ui=notes.ui())


def _upscale_call(
    service: api.HiDreamService, originals: api.Pictures, index: int, ratio: int, take: int
) -> api.PaidCall:
    original = originals.upload(index)
    request = api.checked(api.hidream.UpscaleRequest, image=original.fingerprint, upsale_ratio=ratio)
    width, height = originals.size
    return api.PaidCall(service, request, partial(_one_image, original), width * height * ratio**2, take)


# ---- model photo set

_FIT_ERROR, _FIT_CROP, _FIT_PAD = "error", "crop", "pad"
_FIT = ComboWidget(
    "fit",
    (_FIT_ERROR, _FIT_CROP, _FIT_PAD),
    _FIT_ERROR,
    "The service takes 3:4 photos of at most 2048 px: refuse others, crop them centred, or pad them with white. "
    "`crop` and `pad` also scale down to 2048 px.",
)
_TEMPLATE_ID = IntWidget(
    "template_id",
    0,
    0,
    MAX_INT,
    "Number of the service's template, 0 = none. The button below shows them; the list is also at "
    "hidreamai.com/doc/variation/templates.",
)
_RATIO_TOLERANCE = 0.005


class HiDreamAPIModelPhotoSet(PartialNode):
    """HiDream ec v3 variation (模特套图)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HiDreamAPIModelPhotoSet",
            display_name="HiDream Model Photo Set",
            category=CATEGORY,
            description="Makes a set of model photos (模特套图) from a 3:4 photo and a template. Every image is paid.",
            inputs=[
                io.Image.Input("image", tooltip="Model photo, 3:4. Every image of a batch is one paid task."),
                *inputs(PROFILE, _FIT, _TEMPLATE_ID, _ON_PARTIAL, TAKE),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    is_output_list=True,
                    tooltip="All pictures of the sets, each in its own size.",
                )
            ],
        )

    @classmethod
    async def execute(
        cls, image: Any, profile: str, fit: str, template_id: int, on_partial: str, take: int
    ) -> io.NodeOutput:
        take = TAKE.check(take)
        on_partial = _ON_PARTIAL.check(on_partial)
        template_id = _TEMPLATE_ID.check(template_id)
        if template_id == 0:
            raise InvalidInputError(
                Text(
                    "No template is chosen: `template_id` is 0. Choose one with the node's button, or enter a number "
                    "of the service's list (hidreamai.com/doc/variation/templates).",
                    "尚未选择模板：`template_id` 为 0。请点击节点上的按钮选择，或填写模板列表的编号"
                    "（hidreamai.com/doc/variation/templates）。",
                )
            )
        originals = api.Pictures(image)
        notes = Notes(originals.notes)
        fitted = partial(_fit_photo, fit=_FIT.check(fit), notes=notes)
        photos = [await host.off_loop(originals.upload, index, fitted) for index in range(len(originals))]
        service = await _service(profile, api.hidream.MODEL_PHOTO_SET)
        calls = [await host.off_loop(_photo_set_call, service, photo, template_id, take) for photo in photos]
        later = partial(leave_for_later, profile=profile, fit=fit, template_id=template_id, take=take)
        pictures = await buy_pictures(calls, notes, accept_partial=on_partial == _RETURN_THE_REST, later=later)
        return io.NodeOutput(await host.off_loop(api.tensors.image_tensors, pictures), ui=notes.ui())


def _photo_set_call(service: api.HiDreamService, photo: api.Upload, template_id: int, take: int) -> api.PaidCall:
    request = api.checked(api.hidream.ModelPhotoSetRequest, image=photo.fingerprint, template_id=template_id)
    return api.PaidCall(service, request, partial(_one_image, photo), api.hidream.MAX_MODEL_PHOTO**2, take)


def _fit_photo(original: api.tensors.Pixels, fit: str, notes: Notes) -> api.tensors.Pixels:
    """The photo as the service takes it: 3:4 within 0.5 %, no side over 2048 px; a note says what was changed.

    Args:
        fit: ``error``: change nothing; ``crop``, ``pad``: cut or pad to 3:4, and scale down.

    Raises:
        InvalidInputError: the service would not take the photo.
    """
    width, height = size_of(original)
    limit = api.hidream.MAX_MODEL_PHOTO
    photo = original
    if not api.geometry.is_three_by_four(width, height, _RATIO_TOLERANCE):
        if fit == _FIT_CROP:
            photo = api.tensors.cut_out(original, api.geometry.three_by_four_inside(width, height))
        elif fit == _FIT_PAD:
            photo = api.tensors.paste_on_white(original, api.geometry.three_by_four_around(width, height))
    if fit != _FIT_ERROR and max(size_of(photo)) > limit:
        photo = api.tensors.resize(photo, *api.geometry.fit_within(*size_of(photo), limit, limit))
    fitted_size = size_of(photo)
    if not api.geometry.is_three_by_four(*fitted_size, _RATIO_TOLERANCE) or max(fitted_size) > limit:
        raise InvalidInputError(
            Text(
                f"The service takes photos of 3:4 (within {_RATIO_TOLERANCE:.1%}) and at most {limit} px; this one is "
                f"{fitted_size[0]}×{fitted_size[1]} (width : height = {fitted_size[0] / fitted_size[1]:.4f}). "
                "Choose `crop` or `pad` in `fit`, or another photo.",
                f"服务端只接受 3:4（误差 {_RATIO_TOLERANCE:.1%} 以内）且不超过 {limit} px 的照片，实际为 "
                f"{fitted_size[0]}×{fitted_size[1]}（宽高比 {fitted_size[0] / fitted_size[1]:.4f}）。"
                "请将 `fit` 设为 `crop` 或 `pad`，或更换照片。",
            )
        )
    if fitted_size != (width, height):
        notes.add(
            Text(
                f"The photo was fitted ({fit}) from {width}×{height} to {fitted_size[0]}×{fitted_size[1]}.",
                f"照片已从 {width}×{height} 调整（{fit}）为 {fitted_size[0]}×{fitted_size[1]}。",
            )
        )
    return photo
