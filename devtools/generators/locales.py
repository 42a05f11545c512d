"""The words of every node for ComfyUI's frontend: locales/en/nodeDefs.json and locales/zh/nodeDefs.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from api.catalog import NODES, Node
from devtools.environment import ROOT

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def files() -> dict[Path, str]:
    """The text of each file."""
    return {ROOT / "locales" / language / "nodeDefs.json": _definitions(language) for language in LANGUAGES}


def _definitions(language: Language) -> str:
    nodes = {node.node_id: _words(node, language) for node in NODES}
    return json.dumps(nodes, ensure_ascii=False, indent=2) + "\n"


def _words(node: Node, language: Language) -> dict[str, Any]:
    def named(one: Any) -> dict[str, str]:
        return {"name": getattr(one.label, language), "tooltip": getattr(one.help, language)}

    return {
        "display_name": getattr(node.title, language),
        "description": getattr(node.says, language),
        "inputs": {one.id: named(one) for one in node.inputs},
        "outputs": {str(slot): named(output) for slot, output in enumerate(node.outputs)},
    }
