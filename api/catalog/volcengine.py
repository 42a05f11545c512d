"""What the outpaint endpoints of Volcengine share: fields, widgets, uploads, and plans by sides or by mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from .. import pixels
from ..core import InvalidInputError, Text
from . import checks, outpainting
from .node import Given, NodePlan, PlannedCall, encoded
from .outpainting import Size
from .widgets import MAX_INT, UPLOAD, IntWidget, Shown
from .wire import ImageField, PromptField, WireRequest

if TYPE_CHECKING:
    import torch

    from ..pixels import Grey, Pixels, Placement, Upload

# Limits of an image (bytes, pixels of a side). Not official: the nearest pages (jimeng inpaint, PicWish's look-alike)
# and annotated clients name these.
_INFERRED_MAX_BYTES = 4_700_000
_INFERRED_MAX_SIDE = 4096

Images = Annotated[list[ImageField], Field(min_length=1, max_length=2)]
"""[image], or [canvas, mask]."""
Prompt = Annotated[
    PromptField | None,
    Shown(
        Text("prompt", "提示词"),
        Text("What the new area should show; empty lets the service decide.", "新区域应呈现的内容；留空由服务端决定。"),
    ),
]
Seed = Annotated[
    int,
    Field(ge=-1, le=MAX_INT),
    Shown(
        Text("seed", "种子 seed"),
        Text(
            "−1 lets the service choose. Another seed buys another picture; it never changes by itself.",
            "-1 由服务端决定。换一个种子会再买一张；它不会自行变化。",
        ),
    ),
]
VARIANTS = IntWidget(
    "variants",
    Text("variants", "变体数"),
    Text(
        "Pictures per image, each a paid call; a chosen seed counts up.",
        "每张图片生成几张，每张都是一次付费调用；指定种子时依次加一。",
    ),
    1,
    1,
    4,
)


class MakeRequest(Protocol):
    """Returns the request for images (fingerprints of [image], or of [canvas, mask]), a seed, and shares of sides."""

    def __call__(self, images: list[str], seed: int, sides: Mapping[str, float]) -> WireRequest: ...


def check_images(images: Sequence[str] | None, sides: Sequence[float | None]) -> None:
    """Check that a request has one image with a side to extend, or a canvas and its mask without sides.

    Raises:
        ValueError: it has something else.
    """
    if not images:
        raise ValueError("one image, or a canvas and its mask, is needed")
    if len(images) == 1 and not any(sides):
        raise ValueError("one image needs at least one side to extend")
    if len(images) == 2 and any(side is not None for side in sides):
        raise ValueError("a canvas with its mask goes without sides")


def seeds_of(given: Given) -> list[int]:
    """The seed of each variant: a chosen one counts up; −1 lets the service choose each.

    Raises:
        InvalidInputError: the last one would be over the limit.
    """
    seed, variants = given.values["seed"], given.values["variants"]
    if seed < 0:
        return [seed] * variants
    checks.integer("seed", seed + variants - 1, -1, MAX_INT)
    return [seed + index for index in range(variants)]


def plan_by_sides(given: Given, limits: Size | None, make: MakeRequest, *, takes_zero: bool) -> NodePlan:
    """The plan for new pixels at the sides: as the connected placement says, else as the four widgets say.

    Args:
        limits: largest width and height of the canvas; ``None``: any.
        takes_zero: whether the service takes 0 for a side that is not extended.
    """
    seeds = seeds_of(given)
    if given.placement is None:
        placement = _placement_by_widgets(given, limits)
    else:
        placement = outpainting.given_placement(given, limits)

    def calls(index: int) -> list[PlannedCall]:
        uploads, sides = _uploads(given, index, placement, takes_zero)
        return _calls(uploads, sides, seeds, placement.canvas_width * placement.canvas_height, make)

    return outpainting.placed_plan(given, placement, calls, len(seeds))


def _placement_by_widgets(given: Given, limits: Size | None) -> Placement:
    """The placement by the widgets ``top``, ``bottom``, ``left`` and ``right``.

    The original is scaled down so that the canvas stays within the limits; a note says so.

    Raises:
        InvalidInputError: no side gets a new pixel.
    """
    size = given.images.size
    sides = pixels.Sides(**{widget.id: given.values[widget.id] for widget in outpainting.SIDES})
    sent = size if limits is None else pixels.shrink_for_canvas(*size, *limits, sides)
    placement = pixels.extend(*sent, sides)
    outpainting.check_sides_add_pixels(placement)
    _note_shrunk(given, Text("original", "原图"), size, sent)
    return placement


def _uploads(
    given: Given, index: int, placement: Placement, takes_zero: bool
) -> tuple[list[Upload], Mapping[str, float]]:
    """The image ``index`` with its shares of sides if the service takes these, else its canvas and mask without.

    The shares are calculated from whole pixels, because it is not known how the service rounds. It is not certain what
    a share of 0 means to a service whose page does not allow it, and none takes one over 1.
    """
    resized = partial(pixels.resize, width=placement.width, height=placement.height)
    sides = {
        "top": placement.top / placement.height,
        "bottom": placement.bottom / placement.height,
        "left": placement.left / placement.width,
        "right": placement.right / placement.width,
    }
    if all(share <= 1 and (share or takes_zero) for share in sides.values()):
        return [_image(given, index, resized)], sides
    canvas = _image(given, index, lambda original: pixels.paste_on_white(resized(original), placement))
    return [canvas, pixels.Upload.of(partial(pixels.frame_mask, placement))], {}


def plan_by_mask(given: Given, limits: Size | None, make: MakeRequest) -> NodePlan:
    """The plan for padded images and a mask, which is 1 where pixels are new.

    Args:
        limits: largest width and height of the canvas; ``None``: any.
    """
    mask, size, seeds = given.mask, given.images.size, seeds_of(given)
    masks = pixels.masks_from_tensor(mask, len(given.images), size)
    sent = size if limits is None else pixels.fit_within(*size, *limits)
    sent_masks = [pixels.binary_mask(pixels.resize_mask(one, *sent)) for one in masks]
    _check_masks(sent_masks)
    placement = _common_placement(sent_masks)
    if any(pixels.is_soft(one) for one in masks):
        given.note(_SOFT_RIM)
    _note_shrunk(given, Text("canvas", "画布"), size, sent)

    def calls(index: int) -> list[PlannedCall]:
        canvas = _image(given, index, partial(pixels.resize, width=sent[0], height=sent[1]))
        uploads = [canvas, pixels.Upload.of(lambda: sent_masks[index])]
        return _calls(uploads, {}, seeds, sent[0] * sent[1], make)

    def frame(width: int, height: int, of_images: Sequence[int]) -> tuple[torch.Tensor, Placement | None]:
        at_size = pixels.mask_at_size(mask, width, height, of_images)
        return at_size, None if placement is None else placement.followed_to(width, height)

    return NodePlan(
        [partial(calls, index) for index in range(len(masks))],
        len(masks) * len(seeds),
        sent,
        frame,
        _NO_FRAME if placement is None else None,
        # In the padded images as they came in, for Outpaint Paste Back.
        _common_placement([pixels.binary_mask(one) for one in masks]),
    )


def _calls(
    uploads: list[Upload], sides: Mapping[str, float], seeds: Sequence[int], canvas: int, make: MakeRequest
) -> list[PlannedCall]:
    prints = [upload.fingerprint for upload in uploads]
    encode = encoded(binary_data_base64=uploads)
    return [PlannedCall(make(prints, seed, sides), encode, canvas) for seed in seeds]


def _image(given: Given, index: int, change: Callable[[Pixels], Pixels]) -> Upload:
    """An image to upload in the form that the widget ``upload`` says.

    A note says if its bytes exceed limits of the service. They are inferred and not documented, so that the upload is
    not refused here.
    """

    def encode(changed: Pixels) -> bytes:
        data = pixels.encode(changed, given.values[UPLOAD.id])
        height, width = changed.shape[:2]
        if len(data) > _INFERRED_MAX_BYTES or max(width, height) > _INFERRED_MAX_SIDE:
            given.note(
                Text(
                    f"The upload is {width}×{height} and {len(data) / 1e6:.1f} MB; the service may refuse images over "
                    f"{_INFERRED_MAX_BYTES / 1e6:.1f} MB or {_INFERRED_MAX_SIDE} px (not documented).",
                    f"上传图片为 {width}×{height}、{len(data) / 1e6:.1f} MB；官方未说明上限，服务端可能拒绝超过 "
                    f"{_INFERRED_MAX_BYTES / 1e6:.1f} MB 或 {_INFERRED_MAX_SIDE} px 的图片。",
                )
            )
        return data

    return given.images.upload(index, change, encode)


def _note_shrunk(given: Given, what: Text, before: Size, after: Size) -> None:
    if before != after:
        given.note(
            Text(
                f"The {what.en} was reduced from {before[0]}×{before[1]} to {after[0]}×{after[1]} before upload, "
                "so that the canvas stays within max_width × max_height.",
                f"上传前已将{what.zh}从 {before[0]}×{before[1]} 缩小为 {after[0]}×{after[1]}，"
                "使画布不超过 max_width × max_height。",
            )
        )


_SOFT_RIM = Text(
    "The mask's soft rim is painted, too, so this node's placement leaves it out. Connect Outpaint Paste Back to the "
    "placement of Outpaint Placement.",
    "遮罩的羽化边缘也会重新绘制，因此本节点输出的 placement 不含这一边缘。"
    "「原图贴回」请连接「扩图布局」输出的 placement。",
)
_NO_FRAME = Text(
    "The mask is no frame around one rectangle, so there is no placement; leave that output unconnected.",
    "遮罩不是围绕单个矩形的边框，无法给出 placement；请不要连接该输出。",
)


def _check_masks(masks: Sequence[Grey]) -> None:
    if not all(mask.any() for mask in masks):
        raise InvalidInputError(
            Text(
                "The mask is empty: there is nothing to paint. It must be 1 where pixels are new.",
                "遮罩为空，没有可生成的区域。新像素处的遮罩值应为 1。",
            )
        )


def _common_placement(masks: Sequence[Grey]) -> Placement | None:
    """The placement that every mask stands for; ``None`` if they differ, or keep no rectangle."""
    placements = {pixels.kept_rectangle(mask) for mask in masks}
    return placements.pop() if len(placements) == 1 else None
