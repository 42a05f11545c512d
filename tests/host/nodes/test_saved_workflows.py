"""What a saved workflow holds on to: node ids, the order and types of widgets, and outputs. New ones go last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api.catalog import ENDPOINTS

from devtools.comfyui.host import ComfyUI
from tests.endpoints import PAID

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
        if spec[0] not in SOCKETS and "default" not in spec[1]:
            faults.append(f"{name} has no default")
    return faults


def test_saved_workflows_stay_valid(comfyui: ComfyUI) -> None:
    """A widget moved, renamed or retyped breaks users' files.

    The golden file has for each node its inputs as they were released; what is added later stands there under `added`.
    Of a paid node that came after it, its vectors have the inputs (tests/unit/catalog/test_every_endpoint.py).
    """
    nodes = comfyui.object_info()
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    later = {node_id: paid.told["inputs"] for node_id, paid in PAID.items() if node_id not in golden}
    for node_id, inputs in later.items():
        released = sorted(inputs, key=lambda name: name in nodes[node_id]["input"].get("optional", {}))
        assert faults_of_added(nodes[node_id], released) == [], node_id
    # Remote Task Result offers the endpoints that came later, too.
    [offered] = [options for name, _, options in golden["RemoteTaskResult"]["inputs"] if name == "endpoint"]
    offered += [endpoint.name for endpoint in ENDPOINTS if endpoint.name not in offered]
    ours = {node_id: node for node_id, node in nodes.items()
            if node["category"] == "HiDream & Volcengine" and node_id not in later}  # fmt: skip
    added = {node_id: known.pop("added", []) for node_id, known in golden.items()}
    faults = {node_id: faults_of_added(node, [name for name, *_ in golden[node_id]["inputs"]])
              for node_id, node in ours.items() if node_id in golden}  # fmt: skip
    assert {node_id: told for node_id, told in faults.items() if told} == {}
    whole = {
        node_id: {**known, "inputs": known["inputs"] + added[node_id]} for node_id, known in golden.items()
    }
    assert json.loads(json.dumps({node_id: contract(node) for node_id, node in ours.items()})) == whole


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
