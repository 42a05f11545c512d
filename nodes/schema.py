"""ComfyUI's schema of a node, made of its description in ``api/catalog/``. Its English words are the schema's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from .. import api
from ..api import (
    PROFILE,
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    IntWidget,
    Output,
    ProfileWidget,
    Socket,
    StringWidget,
    first_profile,
    profile_names,
)
from .comfy.host import PROFILE_FILE

CATEGORY = "HiDream & Volcengine"

_TYPES: dict[str, Any] = {
    "IMAGE": io.Image,
    "MASK": io.Mask,
    "INT": io.Int,
    "STRING": io.String,
    "OUTPAINT_PLACEMENT": io.Custom("OUTPAINT_PLACEMENT"),
    "*": io.Custom("*"),
}


def schema_of(node: api.Node, hidden: Sequence[io.Hidden] = ()) -> io.Schema:
    """A new schema, with new inputs and outputs: ComfyUI may change them."""
    return io.Schema(
        node_id=node.node_id,
        display_name=node.title.en,
        category=CATEGORY,
        description=node.says.en,
        inputs=[_input(one) for one in node.inputs],
        outputs=[_output(one) for one in node.outputs],
        hidden=list(hidden),
        is_output_node=node.is_output,
        **_newer_fields(node),
    )


# No price: what a picture costs is between the account's owner and the service.
_BADGE = (
    '(widgets.profile = "sandbox") ? {"type": "text", "text": "Free (sandbox)"} : {"type": "text", "text": "Paid"}'
)


def _newer_fields(node: api.Node) -> dict[str, Any]:
    """Fields of the schema that older hosts do not know; none of them changes what a node does."""
    known = {field.name for field in fields(io.Schema)}
    newer: dict[str, Any] = {}
    if "search_aliases" in known:
        newer["search_aliases"] = list(node.aliases)
    if "price_badge" in known and isinstance(node, api.PaidNode):
        newer["price_badge"] = io.PriceBadge(expr=_BADGE, depends_on=io.PriceBadgeDepends(widgets=[PROFILE.id]))
    return newer


def _output(output: Output) -> io.Output:
    # No id: ComfyUI before 0.8 refuses one that an input has, too.
    listed = {"is_output_list": True} if output.is_list else {}
    made: io.Output = _TYPES[output.type].Output(display_name=output.label.en, tooltip=output.help.en, **listed)
    return made


def _input(one: Socket | ProfileWidget | api.Widget) -> io.Input:
    """The input of a socket or widget. A profile's options and default are read for each /object_info request."""
    tooltip = one.help.en
    made: io.Input
    match one:
        case Socket(type="STRING"):
            # `force_input`: a socket without a widget.
            made = io.String.Input(one.id, optional=one.optional, force_input=True, tooltip=tooltip)
        case Socket():
            # With the link in the place of its value the node runs once, behind all items of a list, and also behind
            # items that were blocked.
            raw: dict[str, Any] = {"extra_dict": {"rawLink": True}} if one.type == "*" else {}
            made = _TYPES[one.type].Input(one.id, optional=one.optional, tooltip=tooltip, **raw)
        case ProfileWidget():
            # The default applies to a newly placed node only; a saved, copied or restored node has its own value.
            default = first_profile(PROFILE_FILE, os.environ)
            made = io.Combo.Input(one.id, options=profile_names(PROFILE_FILE), default=default, tooltip=tooltip)
        case IntWidget():
            # Without `control_after_generate=False` the frontend randomizes a seed after each run, and each run would
            # buy.
            made = io.Int.Input(
                one.id,
                default=one.default,
                min=one.minimum,
                max=one.maximum,
                step=1,
                tooltip=tooltip,
                control_after_generate=False,
            )
        case FloatWidget():
            made = io.Float.Input(
                one.id,
                default=one.default,
                min=one.minimum,
                max=one.maximum,
                step=one.step,
                round=0.001,
                tooltip=tooltip,
            )
        case BooleanWidget():
            made = io.Boolean.Input(one.id, default=one.default, tooltip=tooltip)
        case ComboWidget():
            made = io.Combo.Input(
                one.id, options=list(one.options), default=one.default, optional=one.optional, tooltip=tooltip
            )
        case StringWidget():
            # No dynamic prompts: the frontend would choose from `{a|b}` at random for each run, and each run would buy.
            made = io.String.Input(
                one.id, default="", multiline=one.multiline, dynamic_prompts=False, tooltip=tooltip
            )
    return made
