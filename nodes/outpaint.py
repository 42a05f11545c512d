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
from ..api import InvalidInputError, RemoteImageError, Text, checked_values, choices, local
from .comfy import host
from .common import Notes, check_result_fits_memory, size_of
from .schema import schema_of


def without_billing(execute: Callable[..., Awaitable[io.NodeOutput]]) -> Callable[..., Awaitable[io.NodeOutput]]:
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


class RemoteOutpaintPlacement(io.ComfyNode):
    """Where an original lies in a larger canvas, for every outpaint node, remote or local."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(local.OUTPAINT_PLACEMENT)

    @classmethod
    @without_billing
    async def execute(cls, image: Any, target: str, fill: str, feathering: int, **layout: Any) -> io.NodeOutput:
        target, chosen_fill = local.TARGET.check(target), local.FILL.check(fill)
        feathering = local.FEATHERING.check(feathering)
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
    if target == local.PER_SIDE:
        return api.geometry.pad(*size, **checked_values(local.SIDES, layout))
    where = checked_values(local.WHERE, layout)
    if target == local.IN_ASPECT:
        width, height = map(float, local.ASPECT_RATIO.check(layout["aspect_ratio"]).split(":"))
        return api.geometry.place_in_aspect(*size, width, height, **where)
    return api.geometry.place(*size, **(where | checked_values(local.CANVAS, layout)))


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

_GENERATED, _ORIGINAL = Text("input `generated`", "输入 `generated` "), Text("input `original`", "输入 `original` ")


class RemoteOutpaintPasteBack(io.ComfyNode):
    """The original's own pixels on a generated picture of any scale."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(local.OUTPAINT_PASTE_BACK)

    @classmethod
    @without_billing
    async def execute(
        cls, generated: Any, original: Any, placement: Any, registration: str, **values: Any
    ) -> io.NodeOutput:
        settings = api.paste.Settings(
            **checked_values(local.SETTINGS, values),
            correct=local.REGISTRATION.check(registration) == local.CORRECT,
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
