"""The list of the nodes for ComfyUI-Manager, whose scanner cannot see classes that a program makes: node_list.json.

Its README names the file; from it the Manager knows which pack a workflow with missing nodes needs.
"""

from __future__ import annotations

import json
from pathlib import Path

from api.catalog import NODES
from devtools.environment import ROOT

_FILE = ROOT / "node_list.json"


def files() -> dict[Path, str]:
    """The text of the file: from the id of each node to its description."""
    listed = {node.node_id: node.says.en for node in NODES}
    return {_FILE: json.dumps(listed, ensure_ascii=False, indent=2) + "\n"}
