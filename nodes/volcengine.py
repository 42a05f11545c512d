"""The two Volcengine outpainting nodes: by a share for each side, and by canvas and mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from comfy_api.latest import io

from .. import api
from ..api import InvalidInputError, Text, choices
from .comfy import host
from .common import CATEGORY, Notes, RemoteNode, buy_pictures, note_other_size, size_of
from .placements import given_placement, note_resized, outpaint_outputs, placement_input
from .widgets import MAX_INT, PROFILE, TAKE, ComboWidget, FloatWidget, IntWidget, StringWidget, checked, inputs

_PROMPT = StringWidget("prompt", "What the new area should show; empty lets the service decide.")
_SCALE = FloatWidget("scale", 7.0, 1.0, 20.0, "How closely the picture follows the prompt.", step=0.5)
_STEPS = IntWidget("steps", 30, 1, 100, "More steps take longer.")
_STRENGTH = FloatWidget("strength", 0.8, 0.1, 1.0, "How freely the new area is painted.")
_SEED = IntWidget(
    "seed",
    -1,
    -1,
    MAX_INT,
    "−1 lets the service choose. Another seed buys another picture; it never changes by itself.",
)
_VARIANTS = IntWidget("variants", 1, 1, 4, "Pictures per image, each a paid call; a chosen seed counts up.")
_MAX_WIDTH = IntWidget("max_width", 1920, 64, 4096, "Widest result, px; a larger one is scaled down to fit.")
_MAX_HEIGHT = IntWidget("max_height", 1920, 64, 4096, "Highest result, px; a larger one is scaled down to fit.")
_UPLOAD: ComboWidget[choices.Format] = ComboWidget(
    "upload",
    choices.FORMATS,
    "png",
    "How the image goes up: lossless, or smaller. Above 4.7 MB the service may refuse it (not documented).",
)
_SAMPLING = (_PROMPT, _SCALE, _STEPS, _STRENGTH, _SEED, _VARIANTS, _MAX_WIDTH, _MAX_HEIGHT, _UPLOAD)


@dataclass(frozen=True)
class _Sampling:
    """The checked values of the widgets that both nodes have."""

    prompt: str
    scale: float
    steps: int
    strength: float
    seed: int
    variants: int
    max_width: int
    max_height: int
    upload: choices.Format

    @classmethod
    def checked(cls, values: dict[str, Any]) -> _Sampling:
        """The checked values; others in ``values`` are ignored.

        Raises:
            InvalidInputError: a value is outside its widget's limits, or the seed of the last variant would be.
        """
        sampling = cls(**checked(_SAMPLING, values))
        if sampling.seed >= 0:
            _SEED.check(sampling.seed + sampling.variants - 1)
        return sampling

    def calls(
        self, service: api.VolcengineService, sent: Sequence[_Sent], pixels: int, take: int, **sides: float
    ) -> list[api.PaidCall]:
        """A call for each variant, which uploads ``sent``. A chosen seed counts up; −1 lets the service choose each.

        Args:
            pixels: expected in the result.
            sides: new pixels at each side as a share of the original; none if a mask is sent.
        """
        request = partial(
            api.checked,
            api.volcengine.OutpaintRequest,
            binary_data_base64=[single.upload.fingerprint for single in sent],
            **api.volcengine.prompt_fields(self.prompt),
            scale=self.scale,
            steps=self.steps,
            strength=self.strength,
            max_width=self.max_width,
            max_height=self.max_height,
            **sides,
        )
        seeds = [self.seed if self.seed < 0 else self.seed + index for index in range(self.variants)]
        return [api.PaidCall(service, request(seed=seed), partial(_all_encoded, sent), pixels, take) for seed in seeds]


@dataclass(frozen=True)
class _Sent:
    """A picture or mask to upload, and the function that encodes its pixels."""

    upload: api.Upload
    encode: Callable[[api.tensors.Pixels | api.tensors.Grey], bytes]


def _all_encoded(sent: Sequence[_Sent]) -> dict[str, list[str]]:
    return {"binary_data_base64": [api.tensors.to_base64(single.encode(single.upload.pixels())) for single in sent]}


def _encode(pixels: api.tensors.Pixels, upload: choices.Format, notes: Notes) -> bytes:
    """The bytes of the image to upload, and a note if they exceed limits of the service.

    The limits are inferred and not documented, so that the upload is not refused here.
    """
    data = api.tensors.encode(pixels, upload)
    width, height = size_of(pixels)
    most_bytes, longest = api.volcengine.INFERRED_MAX_BYTES, api.volcengine.INFERRED_MAX_SIDE
    if len(data) > most_bytes or max(width, height) > longest:
        notes.add(
            Text(
                f"The upload is {width}×{height} and {len(data) / 1e6:.1f} MB; the service may refuse images over "
                f"{most_bytes / 1e6:.1f} MB or {longest} px (not documented).",
                f"上传图片为 {width}×{height}、{len(data) / 1e6:.1f} MB；官方未说明上限，服务端可能拒绝超过 "
                f"{most_bytes / 1e6:.1f} MB 或 {longest} px 的图片。",
            )
        )
    return data


def _note_long_prompt(notes: Notes, prompt: str) -> None:
    if len(prompt) > api.volcengine.INFERRED_MAX_PROMPT:
        notes.add(
            Text(
                f"The prompt has {len(prompt)} characters; the service is said to take "
                f"{api.volcengine.INFERRED_MAX_PROMPT} (not documented).",
                f"提示词有 {len(prompt)} 个字符；据称服务端上限为 {api.volcengine.INFERRED_MAX_PROMPT}（官方未说明）。",
            )
        )


def _note_shrunk(notes: Notes, what: Text, before: tuple[int, int], after: tuple[int, int]) -> None:
    if before != after:
        notes.add(
            Text(
                f"The {what.en} was reduced from {before[0]}×{before[1]} to {after[0]}×{after[1]} before upload, "
                "so that the canvas stays within max_width × max_height.",
                f"上传前已将{what.zh}从 {before[0]}×{before[1]} 缩小为 {after[0]}×{after[1]}，"
                "使画布不超过 max_width × max_height。",
            )
        )


async def _buy(calls: list[api.PaidCall], expected: tuple[int, int], notes: Notes) -> list[api.tensors.Pixels]:
    """Buy all calls and return their pictures in one size, with notes of size.

    Pictures of another size than the first one are resized to it. An error would lose them: the service keeps nothing
    that could be fetched again.

    Args:
        expected: width and height of the pictures.
    """
    pictures = await buy_pictures(calls, notes)
    first = size_of(pictures[0])
    note_other_size(notes, first, expected)
    for other in {size_of(picture) for picture in pictures} - {first}:
        notes.add(
            Text(
                f"Some pictures came as {other[0]}×{other[1]} and were resized to {first[0]}×{first[1]} for the batch.",
                f"部分图片返回尺寸为 {other[0]}×{other[1]}，已缩放为 {first[0]}×{first[1]} 以组成批次。",
            )
        )
    return await host.off_loop(_all_resized, pictures, first)


def _all_resized(pictures: Sequence[api.tensors.Pixels], size: tuple[int, int]) -> list[api.tensors.Pixels]:
    return [api.tensors.resize(picture, *size) for picture in pictures]


async def _service(profile: str) -> api.VolcengineService:
    # Off the loop, because resolving the profile may start the sandbox.
    return api.VolcengineService(await host.off_loop(host.profiles().volcengine, profile))


# ---- sides


def _side(name: str, tooltip: str) -> FloatWidget:
    return FloatWidget(name, 0.1, 0.0, 1.0, tooltip)


_TOP = _side("top", "New height above, as a share of the original's height.")
_BOTTOM = _side("bottom", "New height below, as a share of the original's height.")
_LEFT = _side("left", "New width on the left, as a share of the original's width.")
_RIGHT = _side("right", "New width on the right, as a share of the original's width.")
_SIDES = (_TOP, _BOTTOM, _LEFT, _RIGHT)


class VolcengineAPIOutpaint(RemoteNode):
    """Volcengine i2i_outpainting by side ratios."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VolcengineAPIOutpaint",
            display_name="Volcengine Outpaint (Sides)",
            category=CATEGORY,
            description="Extends the image on each side by a share of its size with Volcengine. Every call is paid.",
            inputs=[
                io.Image.Input("image", tooltip="Every image of a batch is one paid call per variant."),
                *inputs(PROFILE, _PROMPT, *_SIDES, *_SAMPLING[1:], TAKE),
                placement_input("top, bottom, left and right"),
            ],
            outputs=outpaint_outputs(),
        )

    @classmethod
    async def execute(cls, image: Any, profile: str, take: int, placement: Any = None, **values: Any) -> io.NodeOutput:
        take = TAKE.check(take)
        sampling = _Sampling.checked(values)
        originals = api.Pictures(image)
        notes = Notes(originals.notes)
        size = originals.size
        if placement is None:
            used = _placement_from_widgets(size, values, sampling, notes)
        else:
            used = given_placement(placement, size, (sampling.max_width, sampling.max_height), notes)
            note_resized(notes, size, used)
        _note_long_prompt(notes, sampling.prompt)
        service = await _service(profile)
        calls: list[api.PaidCall] = []
        for index in range(len(originals)):
            calls += await host.off_loop(_sides_calls, service, originals, index, used, sampling, notes, take)
        pictures = await _buy(calls, (used.canvas_width, used.canvas_height), notes)
        used = used.followed_to(*size_of(pictures[0]))
        return io.NodeOutput(
            await host.off_loop(api.tensors.image_tensor, pictures),
            api.tensors.placement_mask(used),
            used,
            ui=notes.ui(),
        )


def _placement_from_widgets(
    size: tuple[int, int], values: dict[str, Any], sampling: _Sampling, notes: Notes
) -> api.Placement:
    """The placement by the node's own widgets ``top``, ``bottom``, ``left`` and ``right``.

    The original is scaled down so that the canvas stays within max_width × max_height; a note says so.

    Raises:
        InvalidInputError: a value is outside its limits, or no side gets a new pixel.
    """
    sides = api.geometry.Sides(**checked(_SIDES, values))
    sent = api.geometry.shrink_for_canvas(*size, sampling.max_width, sampling.max_height, sides)
    placement = api.geometry.extend(*sent, sides)
    if (placement.canvas_width, placement.canvas_height) == sent:
        raise InvalidInputError(
            Text(
                "Nothing to extend: top, bottom, left and right add no pixel. Raise at least one of them.",
                "没有可扩展的区域：top、bottom、left、right 均不增加像素。请至少增大其中一项。",
            )
        )
    _note_shrunk(notes, Text("original", "原图"), size, sent)
    return placement


def _shares_of_sides(placement: api.Placement) -> dict[str, float]:
    """The new pixels of each side as a share of the original's width or height.

    They are calculated from whole pixels, because it is not known how the service rounds.
    """
    return {
        "top": placement.top / placement.height,
        "bottom": placement.bottom / placement.height,
        "left": placement.left / placement.width,
        "right": placement.right / placement.width,
    }


def _sides_calls(
    service: api.VolcengineService,
    originals: api.Pictures,
    index: int,
    placement: api.Placement,
    sampling: _Sampling,
    notes: Notes,
    take: int,
) -> list[api.PaidCall]:
    """The calls for the image ``index``: by shares of sides if possible, else by canvas and mask."""
    picture = partial(_encode, upload=sampling.upload, notes=notes)
    sides = _shares_of_sides(placement)
    if all(0 < share <= 1 for share in sides.values()):
        resized = partial(api.tensors.resize, width=placement.width, height=placement.height)
        sent = [_Sent(originals.upload(index, resized), picture)]
    else:
        # It is not certain what a share of 0 means to the service, and it takes no share over 1. Canvas and mask have
        # neither problem.
        sides = {}
        canvas = originals.upload(index, partial(_on_canvas, placement=placement))
        sent = [
            _Sent(canvas, picture),
            _Sent(api.Upload.of(partial(api.tensors.frame_mask, placement)), api.tensors.encode),
        ]
    pixels = placement.canvas_width * placement.canvas_height
    return sampling.calls(service, sent, pixels, take, **sides)


def _on_canvas(original: api.tensors.Pixels, placement: api.Placement) -> api.tensors.Pixels:
    return api.tensors.paste_on_white(api.tensors.resize(original, placement.width, placement.height), placement)


# ---- canvas and mask

# Index of the output `placement`.
_PLACEMENT_SLOT = 2


class VolcengineAPIOutpaintCanvas(RemoteNode):
    """Volcengine i2i_outpainting by canvas and mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VolcengineAPIOutpaintCanvas",
            display_name="Volcengine Outpaint (Canvas)",
            category=CATEGORY,
            description="Paints the masked part of a padded image with Volcengine. Every call is paid.",
            inputs=[
                io.Image.Input("image", tooltip="The padded image, for example from Pad Image for Outpainting."),
                io.Mask.Input("mask", tooltip="1 where pixels are new; a feathered rim is painted too."),
                *inputs(PROFILE, *_SAMPLING, TAKE),
            ],
            outputs=outpaint_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    async def execute(cls, image: Any, mask: Any, profile: str, take: int, **sampling_values: Any) -> io.NodeOutput:
        take = TAKE.check(take)
        sampling = _Sampling.checked(sampling_values)
        canvases = api.Pictures(image)
        size = canvases.size
        masks = await host.off_loop(api.tensors.masks_from_tensor, mask, len(canvases), size)
        notes = Notes(canvases.notes)
        sent = api.geometry.fit_within(*size, sampling.max_width, sampling.max_height)
        sent_masks = await host.off_loop(_masks_at, masks, sent)
        _check_masks(sent_masks)
        placement = _common_placement(sent_masks)
        if placement is None and _is_linked(cls.hidden.prompt, cls.hidden.unique_id, _PLACEMENT_SLOT):
            raise InvalidInputError(_NO_FRAME)
        if any(api.tensors.is_soft(single) for single in masks):
            notes.add(_SOFT_RIM)
        _note_shrunk(notes, Text("canvas", "画布"), size, sent)
        _note_long_prompt(notes, sampling.prompt)
        service = await _service(profile)
        calls: list[api.PaidCall] = []
        for index, sent_mask in enumerate(sent_masks):
            canvas = await host.off_loop(
                canvases.upload, index, partial(api.tensors.resize, width=sent[0], height=sent[1])
            )
            calls += await host.off_loop(_canvas_calls, service, canvas, sent_mask, sent, sampling, notes, take)
        pictures = await _buy(calls, sent, notes)
        came = size_of(pictures[0])
        return io.NodeOutput(
            await host.off_loop(api.tensors.image_tensor, pictures),
            # One mask for each picture, or a single one for all.
            await host.off_loop(api.tensors.mask_at_size, mask, *came, sampling.variants),
            placement.followed_to(*came) if placement is not None else host.blocked_output(_NO_FRAME),
            ui=notes.ui(),
        )


def _masks_at(masks: Sequence[api.tensors.Grey], size: tuple[int, int]) -> list[api.tensors.Grey]:
    """The masks at ``size`` (width, height), each pixel 0 or 255, as the service gets them."""
    return [api.tensors.binary_mask(api.tensors.resize_mask(single, *size)) for single in masks]


def _canvas_calls(
    service: api.VolcengineService,
    canvas: api.Upload,
    mask: api.tensors.Grey,
    size: tuple[int, int],
    sampling: _Sampling,
    notes: Notes,
    take: int,
) -> list[api.PaidCall]:
    """The calls with one canvas and its mask; ``size``: their width and height."""
    picture = partial(_encode, upload=sampling.upload, notes=notes)
    sent = [_Sent(canvas, picture), _Sent(api.Upload.of(lambda: mask), api.tensors.encode)]
    return sampling.calls(service, sent, size[0] * size[1], take)


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


def _check_masks(masks: list[api.tensors.Grey]) -> None:
    if not all(mask.any() for mask in masks):
        raise InvalidInputError(
            Text(
                "The mask is empty: there is nothing to paint. It must be 1 where pixels are new.",
                "遮罩为空，没有可生成的区域。新像素处的遮罩值应为 1。",
            )
        )


def _common_placement(masks: list[api.tensors.Grey]) -> api.Placement | None:
    """The placement that every mask stands for; ``None`` if they differ, or keep no rectangle."""
    placements = {api.tensors.kept_rectangle(mask) for mask in masks}
    return placements.pop() if len(placements) == 1 else None


def _is_linked(prompt: dict[str, Any] | None, node_id: str | None, slot: int) -> bool:
    """Whether any node of the queued prompt has an input connected to output ``slot`` of node ``node_id``."""
    return any(
        value == [node_id, slot] for node in (prompt or {}).values() for value in node.get("inputs", {}).values()
    )
