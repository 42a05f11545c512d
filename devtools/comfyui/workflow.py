"""Turns a workflow (the UI format of example_workflows/) into the prompt that ComfyUI's server takes.

The frontend does this in the browser; with this file demo and tests can run the example workflows without one.
Subgraphs, reroutes and primitive nodes are not supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]

_WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
_SEED_NAMES = {"seed", "noise_seed"}
_ONLY_IN_THE_FRONTEND = {"Note", "MarkdownNote"}
_MUTED, _BYPASSED = 2, 4


class Link(NamedTuple):
    node: int
    slot: int


def to_prompt(workflow: Json, object_info: Json) -> Json:
    """Return the prompt of a workflow; muted and bypassed nodes are left out of it.

    `object_info` is the answer of /object_info of the ComfyUI that will run it: it has each node's inputs in order.

    Raises:
        ValueError: ComfyUI has no such node, or a node has more values than widgets.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: Link(link[1], link[2]) for link in workflow["links"]}
    prompt: Json = {}
    for node in workflow["nodes"]:
        if node["type"] in _ONLY_IN_THE_FRONTEND or node.get("mode") in (_MUTED, _BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ValueError(f"this ComfyUI has no node {node['type']!r}")
        inputs = _widget_values(node, object_info[node["type"]])
        for slot in node.get("inputs", []):
            source = _source(links.get(slot.get("link")), nodes, links)
            if source:
                inputs[slot["name"]] = [str(source.node), source.slot]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _widget_values(node: Json, info: Json) -> Json:
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        return dict(values)
    while values and values[-1] is None:  # a widget that a pack adds without saving it leaves None at the end
        values = values[:-1]
    names = list(_widgets(info))
    if len(values) > len(names):
        raise ValueError(f"node {node['id']} ({node['type']}) has {len(values)} values for the widgets {names}")
    return {name: value for name, value in zip(names, values, strict=False) if name is not None}


def _widgets(info: Json) -> Iterator[str | None]:
    """Yield the names of a node's widgets in the order of their values; None for a widget that the frontend adds."""
    for group in ("required", "optional"):
        inputs: Json = info["input"].get(group, {})
        for name in info.get("input_order", {}).get(group, inputs):
            kind, options = inputs[name][0], (inputs[name][1:] or [{}])[0]
            if options.get("forceInput") or not (isinstance(kind, list) or kind in _WIDGET_TYPES):
                continue
            yield name
            if options.get("control_after_generate", kind == "INT" and name in _SEED_NAMES):
                yield None
        if any(_has_upload(*spec) for spec in inputs.values()):
            yield None


def _has_upload(_kind: object, options: Json | None = None) -> bool:
    return any((options or {}).get(f"{what}_upload") for what in ("image", "video", "audio"))


def _source(link: Link | None, nodes: dict[int, Json], links: dict[int, Link]) -> Link | None:
    """Return the output that feeds a link in the end, or None.

    A bypassed node passes on its first input of the type, a muted node nothing.
    """
    while link:
        node = nodes[link.node]
        if node.get("mode") == _MUTED:
            return None
        if node.get("mode") != _BYPASSED:
            return link
        wanted = node["outputs"][link.slot]["type"]
        link = next((links[slot["link"]] for slot in node.get("inputs", [])
                     if slot["type"] == wanted and slot.get("link") in links), None)  # fmt: skip
    return None
