"""The example workflows, and what comes out of each on ComfyUI's own `example.png`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from PIL import Image

from devtools.comfyui import checkout
from devtools.comfyui.host import ComfyUI
from devtools.environment import ROOT
from tests.host import tiny_checkpoint
from tests.host.prompts import WIDGETS

Json = dict[str, Any]

FOLDER = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# The side of the square picture that each runs on. Without a GPU the local model would take minutes for twice 768.
_SIDES = {"old_photo_upscale_and_refine": 192}
_SIDE = 768
# The sizes of the pictures that each gives; of an endpoint that came later, tests/host/nodes/test_examples.py asks the
# node's plan.
RESULTS = {
    "banner_from_a_square": [(1792, 768)],
    "fetch_a_paid_task_again": [(1536, 1536)],
    "hidream_image_to_image": [(1024, 1024)] * 2,
    "hidream_model_photo_set": [(768, 1024), (900, 1200)] * 2,
    "hidream_outpaint": [(1024, 768)],
    "hidream_upscale": [(1536, 1536)],
    "old_photo_upscale_and_refine": [(384, 384)],
    "outpaint_any_size_hidream": [(1365, 768)],
    "outpaint_any_size_local": [(1536, 1024)],
    "outpaint_any_size_volcengine": [(1365, 768)],
    "product_photo_to_model_set": [(768, 1024), (900, 1200)] * 2,
    "volcengine_outpaint_canvas": [(1280, 768)],
    "volcengine_outpaint_sides": [(1382, 922)],
}
FETCH = "fetch_a_paid_task_again"
BOUGHT_FOR_IT = "hidream_upscale"
"""The example whose task is fetched again; all others run as they are."""


def load(name: str) -> Json:
    loaded: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def ours(workflow: Json) -> Iterator[Json]:
    """The nodes of this pack in it."""
    return (node for node in workflow["nodes"] if node["type"].startswith(("HiDreamAPI", "VolcengineAPI", "Remote")))


def charged(workflow: Json) -> list[Json]:
    """Return those of them that buy something."""
    return [node for node in ours(workflow) if "take" in WIDGETS.get(node["type"], {})]


def needs_something(workflow: Json) -> bool:
    """Whether it cannot run as it is: it needs a checkpoint, or the id of a task."""
    types = {node["type"] for node in workflow["nodes"]}
    return bool(types & {"CheckpointLoaderSimple", "RemoteTaskResult"})


def write_checkpoints(comfy: ComfyUI) -> None:
    """Write a tiny checkpoint under each name that a local node of the examples has."""
    for name in {
        node["widgets_values"][0]
        for workflow in map(load, NAMES)
        for node in workflow["nodes"]
        if node["type"] == "CheckpointLoaderSimple"
    }:
        tiny_checkpoint.write(comfy.base / "models" / "checkpoints", name)


def picture(name: str) -> Image.Image:
    """Return ComfyUI's own `example.png` at the size that this example is tested with."""
    side = _SIDES.get(name, _SIDE)
    with Image.open(checkout.ensure() / "input" / "example.png") as whole:
        return whole.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
