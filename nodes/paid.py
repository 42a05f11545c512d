"""The paid nodes: ComfyUI's node classes, made of the descriptions in ``api/catalog/``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from .. import api
from ..api import (
    ENDPOINTS,
    LABEL,
    LABELS,
    ON_PARTIAL,
    ORIGINALS,
    PROFILE,
    RETURN_THE_REST,
    TAKE,
    InvalidInputError,
    ServiceError,
    Text,
    checked_values,
)
from .comfy import host
from .comfy.buying import MISSING, PaidItem
from .common import Notes, RemoteNode, check_result_fits_memory, note_other_size, size_of, sizes_differ
from .schema import schema_of

# Index of the output `placement`.
_PLACEMENT_SLOT = 2


class PaidNode(RemoteNode):
    """What all paid nodes have in common; ``ENDPOINT`` and ``NODE`` of a subclass say what it buys.

    Nothing may depend on the class's name: ComfyUI runs a clone of the class.
    """

    ENDPOINT: ClassVar[api.AnyEndpoint]
    NODE: ClassVar[api.PaidNode]

    @classmethod
    def define_schema(cls) -> io.Schema:
        hidden = [io.Hidden.unique_id, io.Hidden.prompt] if cls.NODE.may_lack_placement else []
        return schema_of(cls.NODE, hidden)

    @classmethod
    def fingerprint_inputs(cls, **known: object) -> int:
        """A number that changes when queueing again would do something else for a picture that is missing.

        ComfyUI runs the node, and everything behind it, again if it has changed.
        """
        context = get_executing_context()
        return MISSING.fingerprint(str(context.node_id) if context is not None else "", known)

    @classmethod
    async def execute(cls, **inputs: Any) -> io.NodeOutput:
        node, notes = cls.NODE, Notes()
        ui: dict[str, list[Any]] = {"outpaint_preview": []} if node.shows_original else {}
        keeps_going = inputs.get(ON_PARTIAL.id) == RETURN_THE_REST
        images = _images(node, inputs)
        item = PaidItem(
            cls.ENDPOINT,
            _decisive(node, inputs),
            keeps_going=keeps_going,
            label=_label(inputs.get(LABEL.id)),
            images=images,
        )
        try:
            outputs = await cls._outputs(item, inputs, images, notes, ui)
        except (host.Interrupted, asyncio.CancelledError) as why:
            item.interrupt(why)
            raise
        except Exception as problem:
            error = await item.fail(problem)
            if not item.keeps_going:
                raise item.named(error) from None if error is problem else problem
            notes.extend([error.text()], item.name())
            outputs = [host.blocked_output()] * len(node.outputs)
        finally:
            item.leave()
        return io.NodeOutput(*outputs, ui={**notes.ui(), "account": [item.account.ui()], **ui})

    @classmethod
    async def _outputs(
        cls, item: PaidItem, inputs: Mapping[str, Any], images: Any, notes: Notes, ui: dict[str, list[Any]]
    ) -> list[Any]:
        """The values of the outputs: of what came, or blockers if nothing came and the node keeps going.

        Args:
            images: the IMAGE of its first input of that type.
            ui: gets the preview of the original.
        """
        node = cls.NODE
        given = _given(images, inputs, checked_values(node.widgets, inputs), notes)
        plan, of_calls = await cls._prepare(item, inputs[PROFILE.id], given)
        outcome = await item.buy()
        came = _Came.of(node, of_calls, outcome.results)
        error = item.error(outcome) or came.sizes_differ
        await item.end(outcome, delivered=error is None)
        if error is not None and not item.keeps_going:
            raise error
        notes.extend([*outcome.notes(), *([error.text()] if error is not None else [])], item.name())
        if node.shows_original:
            ui["outpaint_preview"] = await host.off_loop(lambda: host.preview(given.images[0]))
        if not came.pictures:
            return [host.blocked_output()] * len(node.outputs)
        outputs = await _values(node, plan, came, images, notes)
        if node.outputs[-1] is LABELS:
            outputs.append(_labels(item.label, came, len(plan.calls)))
        return outputs

    @classmethod
    async def _prepare(cls, item: PaidItem, profile: str, given: api.Given) -> tuple[api.NodePlan, list[int]]:
        """Look up, in its turn, what the item will buy; returns the plan, and for each call the index of its image."""
        item.wants(_wanted(given))
        async with item.turn():
            plan = await host.off_loop(cls.NODE.plan, given)
            item.wants(plan.pictures)
            if plan.size is not None:
                check_result_fits_memory(*plan.size, plan.pictures)
            if plan.no_placement is not None and _is_linked(cls.hidden.prompt, cls.hidden.unique_id, _PLACEMENT_SLOT):
                raise InvalidInputError(plan.no_placement)
            # Off the loop, because resolving the profile may start the sandbox.
            service = await host.off_loop(host.profiles().service, profile, cls.ENDPOINT)
            planned = [await host.off_loop(make) for make in plan.calls]
            take = given.values[TAKE.id]
            await item.prepare([_paid_call(service, call, take) for calls in planned for call in calls])
        return plan, [image for image, calls in enumerate(planned) for _ in calls]


def paid_nodes() -> list[type[io.ComfyNode]]:
    """A class for each paid node, in the order of the endpoints."""
    return [_node_class(endpoint, node) for endpoint in ENDPOINTS for node in endpoint.nodes]


def _node_class(endpoint: api.AnyEndpoint, node: api.PaidNode) -> type[io.ComfyNode]:
    # Of the abstract class: a subclass of a node that ComfyUI has used inherits its cached return types.
    return type(node.node_id, (PaidNode,), {"ENDPOINT": endpoint, "NODE": node, "__module__": __name__})


def _given(images: Any, inputs: Mapping[str, Any], values: Mapping[str, Any], notes: Notes) -> api.Given:
    """What the node was given; notes say what the conversion of its ``images`` (IMAGE or ``None``) changes."""
    sent = None if images is None else api.Pictures(images)
    if sent is not None:
        notes.extend(sent.notes)
    return api.Given(values, sent, inputs.get("mask"), inputs.get("placement"), notes.add)


def _images(node: api.PaidNode, inputs: Mapping[str, Any]) -> Any:
    """The IMAGE of the first input of that type; ``None`` for a node without one."""
    sockets = (one.id for one in node.inputs if isinstance(one, api.Socket) and one.type == "IMAGE")
    return next((inputs[id_] for id_ in sockets), None)


def _wanted(given: api.Given) -> int:
    """How many pictures the item wants at most."""
    images = 1 if given.sent is None else len(given.images)
    return images * int(given.values.get("variants", 1)) * int(given.values.get("img_count", 1))


# Characters of a label that are kept.
_LABEL_LENGTH = 200


def _label(value: object) -> str | None:
    """The value of the input ``label`` as one line without control characters; ``None`` if it is not connected."""
    if value is None:
        return None
    line = " ".join(str(value).split())
    return "".join(character for character in line if character.isprintable())[:_LABEL_LENGTH]


def _paid_call(service: api.Service, call: api.PlannedCall, take: int) -> api.PaidCall:
    return api.PaidCall(
        service, call.request, call.encode, call.expected_pixels, take, call.pictures, call.problem
    )


def _decisive(node: api.PaidNode, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The values, as ComfyUI knows them, that decide what is bought."""
    ids = [PROFILE.id, *(widget.id for widget in node.widgets if widget.id != ON_PARTIAL.id)]
    return {name: inputs[name] for name in ids if name in inputs}


@dataclass(frozen=True)
class _Came:
    """The pictures that the node returns, in order, and for each the index of its input image.

    ``sizes_differ``: the error that others came in another size, and are left out; they are not lost.
    """

    pictures: list[api.tensors.Pixels]
    of_images: list[int]
    sizes_differ: ServiceError | None = None

    @classmethod
    def of(cls, node: api.PaidNode, of_calls: Sequence[int], results: Sequence[api.Result]) -> _Came:
        """``of_calls``: the index of the input image of each call."""
        deliveries = [(image, each.delivery) for image, each in zip(of_calls, results, strict=True) if each.delivery]
        found = [(image, picture) for image, delivery in deliveries for picture in delivery.pictures]
        problem = sizes_differ([delivery for _, delivery in deliveries]) if node.needs_one_size else None
        if problem is not None:
            found = [(image, picture) for image, picture in found if size_of(picture) == size_of(found[0][1])]
        return cls([picture for _, picture in found], [image for image, _ in found], problem)


async def _values(node: api.PaidNode, plan: api.NodePlan, came: _Came, images: Any, notes: Notes) -> list[Any]:
    """The values of the node's outputs but ``label``, with notes about sizes. ``images``: its input."""
    pictures = came.pictures
    size = size_of(pictures[0])
    if plan.size is not None:
        note_other_size(notes, size, plan.size)
    if node.outputs[0].is_list:
        return [await host.off_loop(api.tensors.image_tensors, pictures)]
    if node.resizes:
        pictures = await host.off_loop(_in_one_size, pictures, size, notes)
    outputs: list[Any] = [await host.off_loop(api.tensors.image_tensor, pictures)]
    if plan.frame is not None:
        mask, placement = await host.off_loop(plan.frame, *size, came.of_images)
        missing = plan.no_placement
        outputs += [mask, placement if missing is None else host.blocked_output(missing)]
    if node.outputs[-1] is ORIGINALS:
        originals = api.tensors.as_batch(images)
        if plan.original is not None:
            rows, columns = plan.original.area
            originals = originals[:, rows, columns]
        outputs.append(originals if came.of_images == list(range(len(originals))) else originals[came.of_images])
    return outputs


def _labels(label: str, came: _Came, images: int) -> list[str]:
    """The label of each picture: the item's; in a batch with the number of the image."""
    if not label or images == 1:
        return [label] * len(came.pictures)
    return [f"{label}_{index + 1}" for index in came.of_images]


def _in_one_size(
    pictures: Sequence[api.tensors.Pixels], size: tuple[int, int], notes: Notes
) -> list[api.tensors.Pixels]:
    """The pictures at ``size`` (width, height); notes name the other sizes."""
    for other in {size_of(picture) for picture in pictures} - {size}:
        notes.add(
            Text(
                f"Some pictures came as {other[0]}×{other[1]} and were resized to {size[0]}×{size[1]} for the batch.",
                f"部分图片返回尺寸为 {other[0]}×{other[1]}，已缩放为 {size[0]}×{size[1]} 以组成批次。",
            )
        )
    return [api.tensors.resize(picture, *size) for picture in pictures]


def _is_linked(prompt: dict[str, Any] | None, node_id: str | None, slot: int) -> bool:
    """Whether any node of the queued prompt has an input connected to output ``slot`` of node ``node_id``."""
    return any(
        value == [node_id, slot] for node in (prompt or {}).values() for value in node.get("inputs", {}).values()
    )
