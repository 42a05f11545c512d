"""What a saved workflow holds on to: node ids, the order and types of widgets, and outputs. New ones go last.

And what ComfyUI tells of every node is what api/catalog/ says of it, defaults and limits included.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api.catalog import (
    ENDPOINTS,
    NODES,
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    IntWidget,
    PaidNode,
    ProfileWidget,
    Socket,
    StringWidget,
    Widget,
)

from devtools.comfyui.host import ComfyUI

GOLDEN = Path(__file__).resolve().parents[1] / "saved_workflows.json"
# Inputs without a widget: nothing is saved for them.
SOCKETS = {"IMAGE", "MASK", "OUTPAINT_PLACEMENT"}


def inputs_of(node: dict[str, Any]) -> dict[str, list[Any]]:
    """By name, in the order in which a workflow keeps their values."""
    inputs = {**node["input"]["required"], **node["input"].get("optional", {})}
    order = [name for group in ("required", "optional") for name in node["input_order"].get(group, [])]
    return {name: inputs[name] for name in order}


def contract(node: dict[str, Any]) -> dict[str, Any]:
    return {
        "inputs": [[name, spec[0], spec[1].get("options")] for name, spec in inputs_of(node).items()],
        "outputs": list(zip(node["output"], node["output_is_list"], strict=True)),
    }


def faults_of_added(node: dict[str, Any], released: list[str]) -> list[str]:
    """What is wrong with the inputs that a node has got since it was released with the inputs ``released``."""
    names = list(inputs_of(node))
    faults = [] if names[: len(released)] == released else ["the released inputs are not the first"]
    for name, spec in inputs_of(node).items():
        if name in released:
            continue
        if name not in node["input"].get("optional", {}):
            faults.append(f"{name} is required")
        is_socket = spec[0] in SOCKETS or spec[1].get("forceInput")
        if not is_socket and "default" not in spec[1]:
            faults.append(f"{name} has no default")
    return faults


def test_saved_workflows_stay_valid(comfyui: ComfyUI) -> None:
    """A widget moved, renamed or retyped breaks users' files.

    The golden file has for each released node its inputs and outputs as they were released; what is added later stands
    there under `added` and `added_outputs`, and comes last.
    """
    ours = nodes_of_the_pack(comfyui)
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    added = {node_id: known.pop("added", []) for node_id, known in golden.items()}
    added_outputs = {node_id: known.pop("added_outputs", []) for node_id, known in golden.items()}
    faults = {node_id: faults_of_added(node, [name for name, *_ in golden[node_id]["inputs"]])
              for node_id, node in ours.items() if node_id in golden}  # fmt: skip
    assert {node_id: told for node_id, told in faults.items() if told} == {}
    whole = {
        node_id: {
            "inputs": known["inputs"] + added[node_id],
            "outputs": known["outputs"] + added_outputs[node_id],
        }
        for node_id, known in golden.items()
    }
    told = json.loads(json.dumps({node_id: contract(node) for node_id, node in ours.items() if node_id in golden}))
    leave_out_later_endpoints(told, whole)
    assert told == whole


def leave_out_later_endpoints(told: dict[str, Any], released: dict[str, Any]) -> None:
    """Leave out, of the options of Remote Task Result, the endpoints that are newer than the golden file."""
    (now,), (then,) = (
        [each for each in contracts["RemoteTaskResult"]["inputs"] if each[0] == "endpoint"]
        for contracts in (told, released)
    )
    later = set(now[2]) - set(then[2])
    assert later <= {endpoint.name for endpoint in ENDPOINTS}
    now[2] = [option for option in now[2] if option not in later]


def test_nodes_are_as_the_catalog_says(comfyui: ComfyUI) -> None:
    ours = nodes_of_the_pack(comfyui)
    assert list(ours) == [node.node_id for node in NODES]
    for node in NODES:
        told = ours[node.node_id]
        optional = told["input"].get("optional", {})
        inputs = {name: [name in optional, *spec] for name, spec in inputs_of(told).items()}
        # ComfyUI tells the required ones first.
        assert list(inputs) == [one.id for one in sorted(node.inputs, key=lambda one: getattr(one, "optional", False))]
        for one in node.inputs:
            is_optional, kind, options = inputs[one.id]
            expected = described(one)
            assert (is_optional, kind) == (getattr(one, "optional", False), expected.pop("kind")), one.id
            assert {name: options.get(name) for name in expected} == expected, one.id
        outputs = list(zip(told["output"], told["output_is_list"], strict=True))
        assert outputs == [(output.type, output.is_list) for output in node.outputs]


def described(one: Socket | ProfileWidget | Widget) -> dict[str, Any]:
    """Type, default, limits and options of an input, with the names of /object_info."""
    match one:
        case Socket():
            return {"kind": one.type}
        case ProfileWidget():
            return {"kind": "COMBO", "default": "default", "options": ["default", "sandbox"]}
        case IntWidget():
            limits = {"min": one.minimum, "max": one.maximum, "step": 1}
            return {"kind": "INT", "default": one.default, **limits, "control_after_generate": False}
        case FloatWidget():
            limits = {"min": one.minimum, "max": one.maximum, "step": one.step, "round": 0.001}
            return {"kind": "FLOAT", "default": one.default, **limits}
        case BooleanWidget():
            return {"kind": "BOOLEAN", "default": one.default}
        case StringWidget():
            return {"kind": "STRING", "default": "", "multiline": one.multiline, "dynamicPrompts": False}
        case ComboWidget():
            return {"kind": "COMBO", "default": one.default, "options": list(one.options)}


def nodes_of_the_pack(comfyui: ComfyUI) -> dict[str, Any]:
    nodes = comfyui.object_info()
    return {node_id: node for node_id, node in nodes.items() if node["category"] == "HiDream & Volcengine"}


@pytest.mark.parametrize(
    ("group", "spec", "fault"),
    [
        ("optional", ["INT", {"default": 0}], []),
        ("optional", ["IMAGE", {}], []),
        ("optional", ["COMBO", {"options": ["a"]}], ["new has no default"]),
        ("required", ["INT", {"default": 0}], ["new is required"]),
        ("first", ["INT", {"default": 0}], ["the released inputs are not the first"]),
    ],
)
def test_an_added_input_is_optional_has_a_default_and_comes_last(group: str, spec: list[Any], fault: list[str]) -> None:
    """Or prompts of an older version are refused, and its workflows get their values in the wrong places."""
    node = {"input": {"required": {"image": ["IMAGE", {}]}, "optional": {"take": ["INT", {"default": 0}]}}}
    node["input_order"] = {name: list(inputs) for name, inputs in node["input"].items()}
    where = "optional" if group == "first" else group
    node["input"][where]["new"] = spec
    node["input_order"][where].insert(0 if group == "first" else len(node["input_order"][where]), "new")
    if group == "required":
        # Also when it stands where nothing is moved by it.
        node["input"]["required"] |= node["input"].pop("optional")
        node["input_order"] = {"required": ["image", "take", "new"]}
    assert faults_of_added(node, ["image", "take"]) == fault


def test_tools_see_which_nodes_cost_money_and_find_them(comfyui: ComfyUI) -> None:
    """The badge and the aliases where the host's schema knows them; the descriptions everywhere."""
    known = comfyui.object_info()
    for node in NODES:
        told = known[node.node_id]
        is_paid = isinstance(node, PaidNode)
        assert told["description"].startswith("Paid: ") is node.says.zh.startswith("付费：") is is_paid
        assert len(node.aliases) > 2
        if "search_aliases" in told:
            assert told["search_aliases"] == list(node.aliases)
        if "price_badge" in told:
            assert (told["price_badge"] is not None) is is_paid
        if is_paid and told.get("price_badge"):
            assert "sandbox" in told["price_badge"]["expr"]
            assert [widget["name"] for widget in told["price_badge"]["depends_on"]["widgets"]] == ["profile"]
