"""What a saved workflow holds on to: node ids, the order and types of widgets, and outputs. New ones go last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devtools.host import ComfyUI

GOLDEN = Path(__file__).with_name("saved_workflows.json")


def contract(node: dict[str, Any]) -> dict[str, Any]:
    inputs = {**node["input"]["required"], **node["input"].get("optional", {})}
    order = [name for group in ("required", "optional") for name in node["input_order"].get(group, [])]
    return {
        "inputs": [[name, inputs[name][0], inputs[name][1].get("options")] for name in order],
        "outputs": list(zip(node["output"], node["output_is_list"], strict=True)),
    }


def test_saved_workflows_stay_valid(comfyui: ComfyUI) -> None:
    """A widget moved, renamed or retyped breaks users' files: only additions at the end belong into the golden file."""
    nodes = comfyui.object_info()
    ours = {node_id: contract(node) for node_id, node in nodes.items() if node["category"] == "HiDream & Volcengine"}
    assert json.loads(json.dumps(ours)) == json.loads(GOLDEN.read_text(encoding="utf-8"))
