"""The paid nodes: ComfyUI's node classes, made of the descriptions in ``api/catalog/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from comfy_api.latest import io

from .. import api
from ..api import ENDPOINTS, ON_PARTIAL, PROFILE, RETURN_THE_REST, TAKE, InvalidInputError, Text, checked_values
from .comfy import host
from .common import (
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
    async def execute(cls, **inputs: Any) -> io.NodeOutput:
        node, notes = cls.NODE, Notes()
        values = checked_values(node.widgets, inputs)
        given = _given(node, inputs, values, notes)
        plan = await host.off_loop(node.plan, given)
        if plan.size is not None:
            check_result_fits_memory(*plan.size, plan.pictures)
        if plan.no_placement is not None and _is_linked(cls.hidden.prompt, cls.hidden.unique_id, _PLACEMENT_SLOT):
            raise InvalidInputError(plan.no_placement)
        # Off the loop, because resolving the profile may start the sandbox.
        service = await host.off_loop(host.profiles().service, inputs[PROFILE.id], cls.ENDPOINT)
        planned = [call for make in plan.calls for call in await host.off_loop(make)]
        pictures = await buy_pictures(
            [_paid_call(service, call, values[TAKE.id]) for call in planned],
            notes,
            accept_partial=values.get(ON_PARTIAL.id) == RETURN_THE_REST,
            **({"check": check_one_size} if node.needs_one_size else {}),
            later=partial(leave_for_later, **_decisive(node, inputs)),
        )
        outputs = await _outputs(node, plan, pictures, notes)
        ui = notes.ui()
        if node.shows_original:
            ui["outpaint_preview"] = await host.off_loop(lambda: host.preview(given.images[0]))
        return io.NodeOutput(*outputs, ui=ui)


class _PartialPaidNode(PaidNode, PartialNode):
    """A paid node with the widget ``on_partial``."""


def paid_nodes() -> list[type[io.ComfyNode]]:
    """A class for each paid node, in the order of the endpoints."""
    return [_node_class(endpoint, node) for endpoint in ENDPOINTS for node in endpoint.nodes]


def _node_class(endpoint: api.AnyEndpoint, node: api.PaidNode) -> type[io.ComfyNode]:
    # Of the abstract classes alone: a subclass of a node that ComfyUI has used inherits its cached return types.
    base = _PartialPaidNode if ON_PARTIAL.id in [widget.id for widget in node.widgets] else PaidNode
    return type(node.node_id, (base,), {"ENDPOINT": endpoint, "NODE": node, "__module__": __name__})


def _given(node: api.PaidNode, inputs: Mapping[str, Any], values: Mapping[str, Any], notes: Notes) -> api.Given:
    """What the node was given; notes say what the conversion of its images changes."""
    image = next((inputs[one.id] for one in node.inputs if isinstance(one, api.Socket) and one.type == "IMAGE"), None)
    images = None if image is None else api.Pictures(image)
    if images is not None:
        notes.extend(images.notes)
    return api.Given(values, images, inputs.get("mask"), inputs.get("placement"), notes.add)


def _paid_call(service: api.Service, call: api.PlannedCall, take: int) -> api.PaidCall:
    return api.PaidCall(
        service, call.request, call.encode, call.expected_pixels, take, call.pictures, call.problem
    )


def _decisive(node: api.PaidNode, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The values, as ComfyUI knows them, that decide what is bought."""
    ids = [PROFILE.id, *(widget.id for widget in node.widgets if widget.id != ON_PARTIAL.id)]
    return {name: inputs[name] for name in ids if name in inputs}


async def _outputs(
    node: api.PaidNode, plan: api.NodePlan, pictures: list[api.tensors.Pixels], notes: Notes
) -> list[Any]:
    """The values of the node's outputs, with notes about sizes."""
    came = size_of(pictures[0])
    if plan.size is not None:
        note_other_size(notes, came, plan.size)
    if node.outputs[0].is_list:
        return [await host.off_loop(api.tensors.image_tensors, pictures)]
    if node.resizes:
        pictures = await host.off_loop(_in_one_size, pictures, came, notes)
    outputs: list[Any] = [await host.off_loop(api.tensors.image_tensor, pictures)]
    if plan.frame is not None:
        mask, placement = await host.off_loop(plan.frame, *came)
        missing = plan.no_placement
        outputs += [mask, placement if missing is None else host.blocked_output(missing)]
    return outputs


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
