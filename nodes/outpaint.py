"""The local outpaint nodes: they send nothing and cost nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from comfy_api.latest import io
from numpy.typing import NDArray

from .. import api
from ..api import InvalidInputError, RemoteImageError, Text, choices
from .comfy import host
from .common import Notes, check_result_fits_memory, size_of
from .schema import CATEGORY, OutpaintPlacement
from .widgets import BooleanWidget, ComboWidget, FloatWidget, IntWidget, checked, inputs


def _without_billing(execute: Callable[..., Awaitable[io.NodeOutput]]) -> Callable[..., Awaitable[io.NodeOutput]]:
    """Decorator for the ``execute`` of a local node: its errors do not mention billing."""

    @wraps(execute)
    async def run(*args: Any, **values: Any) -> io.NodeOutput:
        try:
            return await execute(*args, **values)
        except RemoteImageError as error:
            error.billed = "nothing"
            raise

    return run


# ---- placement

_MAX_SIDE = 16384
_IN_ASPECT, _IN_CANVAS, _PER_SIDE = "aspect ratio", "canvas size", "pixels per side"
_TARGET = ComboWidget(
    "target",
    (_IN_ASPECT, _IN_CANVAS, _PER_SIDE),
    _IN_ASPECT,
    "What the new canvas is made from. `aspect ratio`: the smallest canvas of that shape around the original, which "
    "keeps its pixels; `canvas size`: the original is scaled into it; `pixels per side`: left, top, right and bottom.",
)
_SHAPES = ("1:1", "5:4", "4:5", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "2:1", "1:2", "21:9", "9:21", "1.91:1")
_ASPECT_RATIO = ComboWidget(
    "aspect_ratio", _SHAPES, "16:9", "Width : height of the canvas; only with the target `aspect ratio`."
)


def _canvas_side(name: str, what: str) -> IntWidget:
    return IntWidget(name, 1024, 16, _MAX_SIDE, f"{what} of the canvas, px; only with the target `canvas size`.")


_CANVAS_WIDTH = _canvas_side("canvas_width", "Width")
_CANVAS_HEIGHT = _canvas_side("canvas_height", "Height")
_RATIO = FloatWidget(
    "ratio",
    1.0,
    0.05,
    1.0,
    "Linear share of the canvas that the original spans on its tighter side; 0.5 is a quarter of a square by area. "
    "Not with `pixels per side`.",
)
_POSITION: ComboWidget[choices.Position] = ComboWidget(
    "position",
    choices.POSITIONS,
    "center",
    "Where the original lies in the canvas; `offset` uses x_offset and y_offset. Not with `pixels per side`.",
)
_X_OFFSET = IntWidget("x_offset", 0, 0, _MAX_SIDE, "Left edge of the original, px of the canvas; only with `offset`.")
_Y_OFFSET = IntWidget("y_offset", 0, 0, _MAX_SIDE, "Top edge of the original, px of the canvas; only with `offset`.")


_CANVAS = (_CANVAS_WIDTH, _CANVAS_HEIGHT)
_WHERE = (_RATIO, _POSITION, _X_OFFSET, _Y_OFFSET)


def _side(name: str, where: str) -> IntWidget:
    return IntWidget(name, 0, 0, _MAX_SIDE, f"New pixels {where}; only with the target `pixels per side`.")


_LEFT = _side("left", "on the left")
_TOP = _side("top", "above")
_RIGHT = _side("right", "on the right")
_BOTTOM = _side("bottom", "below")
_SIDES = (_LEFT, _TOP, _RIGHT, _BOTTOM)
_FILL: ComboWidget[choices.Fill] = ComboWidget(
    "fill",
    choices.FILLS,
    "grey",
    "What the padded image shows in the new area: flat grey (as Pad Image for Outpainting) or white, the edge pixels "
    "repeated, or those strongly blurred.",
)
_FEATHERING = IntWidget(
    "feathering",
    0,
    0,
    4096,
    "How far the mask fades into the original, px, as in Pad Image for Outpainting; only at sides with new pixels.",
)


class RemoteOutpaintPlacement(io.ComfyNode):
    """Where an original lies in a larger canvas, for every outpaint node, remote or local."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RemoteOutpaintPlacement",
            display_name="Outpaint Placement",
            category=CATEGORY,
            description="Lays the image out in a larger canvas, for outpaint nodes of any kind. Local and free.",
            inputs=[
                io.Image.Input("image", tooltip="Every image of a batch gets the same placement."),
                *inputs(_TARGET, _ASPECT_RATIO, *_CANVAS, *_WHERE, *_SIDES, _FILL, _FEATHERING),
            ],
            outputs=[
                OutpaintPlacement.Output(display_name="placement", tooltip="Where the original lies in the canvas."),
                io.Int.Output(display_name="left", tooltip="New pixels on the left."),
                io.Int.Output(display_name="top", tooltip="New pixels above."),
                io.Int.Output(display_name="right", tooltip="New pixels on the right."),
                io.Int.Output(display_name="bottom", tooltip="New pixels below."),
                io.Int.Output(display_name="canvas_width", tooltip="Width of the canvas, px."),
                io.Int.Output(display_name="canvas_height", tooltip="Height of the canvas, px."),
                io.Image.Output(display_name="image", tooltip="The padded pictures."),
                io.Mask.Output(display_name="mask", tooltip="1 where pixels are new."),
            ],
        )

    @classmethod
    @_without_billing
    async def execute(cls, image: Any, target: str, fill: str, feathering: int, **layout: Any) -> io.NodeOutput:
        target, chosen_fill = _TARGET.check(target), _FILL.check(fill)
        feathering = _FEATHERING.check(feathering)
        originals, image_notes = await host.off_loop(api.tensors.images_from_tensor, image)
        notes = Notes(image_notes)
        size = size_of(originals[0])
        placement = _placement(size, target, layout)
        canvas = (placement.canvas_width, placement.canvas_height)
        check_result_fits_memory(*canvas, len(originals))
        _note_layout(notes, size, placement)
        return io.NodeOutput(
            placement,
            placement.left,
            placement.top,
            placement.right,
            placement.bottom,
            *canvas,
            await host.off_loop(_padded, image, originals, placement, chosen_fill),
            await host.off_loop(_mask, placement, _possible_feathering(feathering, placement, notes)),
            ui={**notes.ui(), "outpaint_preview": await host.off_loop(host.preview, originals[0])},
        )


def _placement(size: tuple[int, int], target: str, layout: dict[str, Any]) -> api.Placement:
    """The placement of an original of ``size`` (width, height), by the widgets that ``target`` uses.

    Raises:
        InvalidInputError: a value is outside its limits, or the original would leave the canvas.
    """
    if target == _PER_SIDE:
        return api.geometry.pad(*size, **checked(_SIDES, layout))
    where = checked(_WHERE, layout)
    if target == _IN_ASPECT:
        width, height = map(float, _ASPECT_RATIO.check(layout["aspect_ratio"]).split(":"))
        return api.geometry.place_in_aspect(*size, width, height, **where)
    return api.geometry.place(*size, **(where | checked(_CANVAS, layout)))


def _note_layout(notes: Notes, size: tuple[int, int], placement: api.Placement) -> None:
    """Add notes if the original is scaled, or fills the canvas."""
    api.outpainting.note_resized(notes.add, size, placement)
    if (placement.width, placement.height) != size:
        notes.add(
            Text(
                f"Pad Image for Outpainting needs the image scaled to {placement.width}×{placement.height} first.",
                f"若使用「外补画板」节点，请先将图片缩放到 {placement.width}×{placement.height}。",
            )
        )
    if api.outpainting.fills_canvas(placement):
        notes.add(
            Text(
                "The original fills the whole canvas: there is nothing to paint.",
                "原图已占满整个画布，没有可扩展的区域。",
            )
        )


def _possible_feathering(feathering: int, placement: api.Placement, notes: Notes) -> int:
    """The feathering in px, reduced to the largest that is possible; then a note says so.

    ComfyUI's own node applies no feathering at all if it is larger, and does not say so.
    """
    largest = api.padding.largest_feathering(placement)
    if feathering > largest:
        notes.add(
            Text(
                f"The feathering was reduced from {feathering} to {largest} px: it must stay below half of the "
                f"original ({placement.width}×{placement.height}).",
                f"羽化已从 {feathering} 减小为 {largest} px："
                f"必须小于原图（{placement.width}×{placement.height}）的一半。",
            )
        )
    return min(feathering, largest)


def _padded(image: Any, originals: list[api.tensors.Pixels], placement: api.Placement, fill: choices.Fill) -> Any:
    """The IMAGE batch of padded originals; an original that is not scaled keeps its float values unrounded.

    Args:
        image: the input IMAGE.
        originals: the same as 8-bit pixels.
    """
    scaled = size_of(originals[0]) != (placement.width, placement.height)

    def paint(index: int, canvas: api.tensors.Values) -> None:
        if scaled:
            values = api.tensors.values_of(api.tensors.resize(originals[index], placement.width, placement.height))
        else:
            values = api.tensors.rgb_values(image, index)
        api.padding.pad_into(canvas, values, placement, fill)

    return api.tensors.painted_tensor(len(originals), placement.canvas_width, placement.canvas_height, paint)


def _mask(placement: api.Placement, feathering: int) -> Any:
    return api.tensors.mask_tensor(api.padding.feathered_mask(placement, feathering))


# ---- paste back

_MODE: ComboWidget[choices.PasteMode] = ComboWidget(
    "mode",
    choices.PASTE_MODES,
    "exact",
    "`exact`: every pixel of the original is kept; `blend`: it fades into the new picture from the seam inwards.",
)
_BLEND_PIXELS = IntWidget("blend_pixels", 16, 1, 1024, "How far it fades, px of the result; only with `blend`.")
_OUTPUT_SIZE: ComboWidget[choices.OutputSize] = ComboWidget(
    "output_size",
    choices.OUTPUT_SIZES,
    "native",
    "`native`: the original has its own size, the generated picture is scaled to it; `generated`: the generated "
    "picture keeps its size; `factor`: a multiple of the native size.",
)
_FACTOR = FloatWidget("factor", 1.0, 0.05, 8.0, "Multiple of the native size; only with the output size `factor`.")
_MATCH_COLOR = BooleanWidget(
    "match_color", False, "Correct the colours of the new area only, smoothly, so that they meet the original's."
)
_SETTINGS = (_MODE, _BLEND_PIXELS, _OUTPUT_SIZE, _FACTOR, _MATCH_COLOR)
_REGISTRATION = ComboWidget(
    "registration",
    ("report", "correct"),
    "report",
    "Shift and scale of the generated picture are measured: tell them, or also move it where they are small. "
    "The original never moves.",
)

_GENERATED, _ORIGINAL = Text("input `generated`", "输入 `generated` "), Text("input `original`", "输入 `original` ")


class RemoteOutpaintPasteBack(io.ComfyNode):
    """The original's own pixels on a generated picture of any scale."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RemoteOutpaintPasteBack",
            display_name="Outpaint Paste Back",
            category=CATEGORY,
            description="Puts the original's own pixels back on an outpainted picture of any size. Local and free.",
            inputs=[
                io.Image.Input("generated", tooltip="The outpainted pictures, enlarged or not, but not cropped."),
                io.Image.Input("original", tooltip="One for all, or each for as many pictures in a row."),
                OutpaintPlacement.Input(
                    "placement",
                    tooltip="Where the original lies in the canvas; best from Outpaint Placement: the canvas is then "
                    "exactly the one asked for.",
                ),
                *inputs(*_SETTINGS, _REGISTRATION),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The pictures with the original's pixels."),
                io.Mask.Output(display_name="mask", tooltip="1 where pixels are new, fractions where they are mixed."),
                io.String.Output(display_name="report", tooltip="What was measured and done, in English and Chinese."),
            ],
        )

    @classmethod
    @_without_billing
    async def execute(
        cls, generated: Any, original: Any, placement: Any, registration: str, **values: Any
    ) -> io.NodeOutput:
        settings = api.paste.Settings(
            **checked(_SETTINGS, values), correct=_REGISTRATION.check(registration) == "correct"
        )
        placed = api.outpainting.checked_placement(placement)
        pictures, generated_notes = await host.off_loop(api.tensors.images_from_tensor, generated, _GENERATED)
        originals, original_notes = await host.off_loop(api.tensors.images_from_tensor, original, _ORIGINAL)
        notes = Notes([*generated_notes, *original_notes])
        _check_counts(len(pictures), len(originals))
        output = api.paste.output_placement(placed, size_of(originals[0]), size_of(pictures[0]), settings)
        canvas = output.canvas_width, output.canvas_height
        # One picture more than the result has, for the memory that pasting a single picture needs.
        check_result_fits_memory(*canvas, len(pictures) + 1)
        work = _PasteBack(generated, original, pictures, originals, placed, canvas, settings, api.CancelToken())
        try:
            image, mask, reports = await host.off_loop(work.run)
        except BaseException:
            work.token.cancel()
            raise
        for index, report in enumerate(reports):
            notes.extend(_numbered(report.summary(), index, len(reports)))
        return io.NodeOutput(image, mask, _report_text(reports), ui=notes.ui())


@dataclass(frozen=True)
class _PasteBack:
    """The work of Outpaint Paste Back on one batch.

    Args:
        generated, original: the input IMAGEs.
        pictures, originals: the same as 8-bit pixels. Each original belongs to equally many pictures in a row.
        canvas: width and height of the result.
        token: cancelled when nobody waits for the result any more.
    """

    generated: Any
    original: Any
    pictures: Sequence[api.tensors.Pixels]
    originals: Sequence[api.tensors.Pixels]
    placement: api.Placement
    canvas: tuple[int, int]
    settings: api.paste.Settings
    token: api.CancelToken

    def run(self) -> tuple[Any, Any, list[api.paste.Report]]:
        """The resulting IMAGE and MASK, and a report for each picture.

        Raises:
            CallCancelled: the token was cancelled; it is checked before each picture.
        """
        reports: list[api.paste.Report] = []
        masks: list[NDArray[np.float32]] = []
        variants = len(self.pictures) // len(self.originals)
        # Found for the first picture and used for all, because the batch has one mask.
        region = api.locate.painted_region(self.pictures[0], self.originals[0], self.placement)

        def paint(index: int, values: api.tensors.Values) -> None:
            self.token.check()
            of_original = index // variants
            picture, original = self.pictures[index], self.originals[of_original]
            pasted = api.paste.paste_back(picture, original, self.placement, self.settings, region)
            np.divide(pasted.pixels, np.float32(255.0), out=values)
            if pasted.identity:
                self._restore_surroundings(index, pasted.placement, values)
            if pasted.exact is not None:
                self._restore_original(of_original, pasted.placement, pasted.exact, values)
            reports.append(pasted.report)
            if not masks:  # all pictures have the same mask
                masks.append(pasted.mask)

        image = api.tensors.painted_tensor(len(self.pictures), *self.canvas, paint)
        return image, api.tensors.mask_tensor(masks[0]), reports

    def _restore_surroundings(self, index: int, placement: api.Placement, values: api.tensors.Values) -> None:
        """Write the generated picture's own float values into ``values``, except inside the placement."""
        inside = api.tensors.cut_out(values, placement).copy()
        values[...] = api.tensors.rgb_values(self.generated, index)
        api.tensors.cut_out(values, placement)[...] = inside

    def _restore_original(
        self, index: int, placement: api.Placement, exact: api.Placement, values: api.tensors.Values
    ) -> None:
        """Write the original's own float values, neither rounded nor clipped, into ``values`` inside ``exact``."""
        left, top = exact.x - placement.x, exact.y - placement.y
        own = api.tensors.rgb_values(self.original, index)[top : top + exact.height, left : left + exact.width]
        api.tensors.cut_out(values, exact)[...] = own


def _check_counts(generated: int, originals: int) -> None:
    if generated % originals:
        raise InvalidInputError(
            Text(
                f"There are {generated} generated pictures but {originals} originals: each original must belong to "
                "equally many of them.",
                f"生成图有 {generated} 张，原图却有 {originals} 张：每张原图须对应相同数量的生成图。",
            )
        )


def _numbered(texts: Sequence[Text], index: int, count: int) -> list[Text]:
    """The texts, with the number of the picture before each if the batch has several."""
    if count == 1:
        return list(texts)
    return [Text(f"Picture {index + 1}: {text.en}", f"第 {index + 1} 张：{text.zh}") for text in texts]


def _report_text(reports: Sequence[api.paste.Report]) -> str:
    """For each picture its lines in English, then in Chinese."""
    blocks = []
    for index, report in enumerate(reports):
        lines = _numbered(report.lines(), index, len(reports))
        blocks.append("\n".join([*(line.en for line in lines), *(line.zh for line in lines)]))
    return "\n\n".join(blocks)
