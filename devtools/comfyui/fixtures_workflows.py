"""The workflows of devtools.fixtures: one for every node, as both frontends save it, and run with each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from devtools.comfyui import checkout
from devtools.comfyui.host import ComfyUI
from devtools.programs import browser
from emulator import Emulator


@dataclass(frozen=True)
class Part:
    """One node of a workflow; ``links``: input -> number of another part and the slot of its output."""

    type: str
    widgets: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def pixels_sha256(picture: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of a uint8 picture (height, width, channels), of its RGB only."""
    return hashlib.sha256(np.ascontiguousarray(picture[..., :3]).tobytes()).hexdigest()


_READY = "!!window.app?.graph && !!window.LiteGraph?.registered_node_types.VolcengineAPIOutpaintCanvas"
_BUILD = """async (parts) => {
    app.graph.clear();
    const nodes = parts.map(({type, widgets}, index) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        node.pos = [60 + 420 * index, 80];
        for (const [name, value] of Object.entries(widgets)) {
            const widget = node.widgets.find((one) => one.name === name);
            if (!widget) throw new Error(`${type} has no widget ${name}`);
            widget.value = value;
        }
        return node;
    });
    parts.forEach(({links}, index) => Object.entries(links).forEach(([input, [from, slot]]) =>
        nodes[from].connect(slot, nodes[index], nodes[index].inputs.findIndex((one) => one.name === input))));
    const {output} = await app.graphToPrompt();
    return JSON.parse(JSON.stringify({workflow: app.graph.serialize(), prompt: output}));
}"""

_LOAD = Part("LoadImage", {"image": "photo.png"})
_CANVAS = {"canvas_width": 192, "canvas_height": 160, "ratio": 0.75, "position": "offset", "x_offset": 8, "y_offset": 4}
_SAMPLING = {"prompt": "雪山 mountains", "scale": 5.5, "steps": 20, "strength": 0.7, "seed": 42, "variants": 1}
_LIMITS = {"max_width": 1024, "max_height": 768, "upload": "png", "take": 3}
_PLACED = {
    "target": "canvas size", "aspect_ratio": "4:3", "canvas_width": 200, "canvas_height": 180, "ratio": 0.9,
    "position": "top left", "fill": "edge", "feathering": 4,
}  # fmt: skip


def workflows(task_id: str) -> dict[str, list[Part]]:
    """Return a workflow for every node, with other values than the defaults.

    ``task_id`` is the journal id that the node RemoteTaskResult gets.
    """
    return {
        "HiDreamAPIOutpaint": [_LOAD, Part("HiDreamAPIOutpaint", {**_CANVAS, "take": 1}, {"image": (0, 0)}), _saved(1)],
        "HiDreamAPIImageToImage": [
            _LOAD,
            Part(
                "HiDreamAPIImageToImage",
                {
                    "prompt": "一只猫, a cat", "negative_prompt": "blurry", "aspect_ratio": "3:4", "img_count": 2,
                    "use_images": "all as references", "on_partial": "return the rest", "take": 2,
                },
                {"images": (0, 0)},
            ),
            _saved(1),
        ],
        "HiDreamAPIUpscale": [
            _LOAD, Part("HiDreamAPIUpscale", {"upscale_ratio": 4, "take": 5}, {"image": (0, 0)}), _saved(1),
        ],
        "HiDreamAPIModelPhotoSet": [
            _LOAD,
            Part(
                "HiDreamAPIModelPhotoSet",
                {"fit": "crop", "template_id": 21, "on_partial": "return the rest", "take": 1},
                {"image": (0, 0)},
            ),
            _saved(1),
        ],
        "VolcengineAPIOutpaint": [
            _LOAD,
            Part(
                "VolcengineAPIOutpaint",
                {**_SAMPLING, **_LIMITS, "top": 0.25, "bottom": 0.0, "left": 0.5, "right": 0.125},
                {"image": (0, 0)},
            ),
            _saved(1),
        ],
        "VolcengineAPIOutpaintCanvas": [
            _LOAD,
            Part("ImagePadForOutpaint", {"left": 16, "right": 8, "bottom": 24, "feathering": 0}, {"image": (0, 0)}),
            Part("VolcengineAPIOutpaintCanvas", {**_SAMPLING, **_LIMITS}, {"image": (1, 0), "mask": (1, 1)}),
            _saved(2),
        ],
        "RemoteOutpaintPlacement": [_LOAD, Part("RemoteOutpaintPlacement", _PLACED, {"image": (0, 0)}), _saved(1, 7)],
        "RemoteOutpaintPasteBack": [
            _LOAD,
            Part("RemoteOutpaintPlacement", _PLACED, {"image": (0, 0)}),
            Part("HiDreamAPIOutpaint", {"take": 9}, {"image": (0, 0), "placement": (1, 0)}),
            Part(
                "RemoteOutpaintPasteBack",
                {
                    "mode": "blend", "blend_pixels": 6, "output_size": "native", "factor": 1.0, "match_color": True,
                    "registration": "correct",
                },
                {"generated": (2, 0), "original": (0, 0), "placement": (1, 0)},
            ),
            _saved(3),
        ],
        "RemoteTaskResult": [Part("RemoteTaskResult", {"task_id": task_id}), _saved(0)],
    }  # fmt: skip


def _saved(part: int, slot: int = 0) -> Part:
    return Part("SaveImage", {"filename_prefix": "fixture"}, {"images": (part, slot)})


def save_workflows(
    made: Path, base: Path, environment: Mapping[str, str], emulator: Emulator
) -> dict[str, list[str]]:
    """Save every workflow as each frontend does, and run it; return the SHA-256 of the pictures of each, by node.

    Raises:
        AssertionError: the frontends queue different prompts, or the second run bought again.
    """
    known: dict[str, list[str]] = {}
    for version, arguments in _frontends().items():
        with ComfyUI(base, environment=environment, arguments=arguments) as comfy, _page(comfy) as page:
            comfy.upload(made / "photo.png", "photo.png")
            page.evaluate("app.refreshComboInNodes()")
            task_id = ""
            for name, parts in workflows("").items():
                if name == "RemoteTaskResult":
                    tasks = comfy.request("GET", "/hidream_volcengine/tasks").json()["tasks"]
                    task_id = next(task["journal_id"] for task in tasks if task["endpoint"] == "hidream upscale")
                    parts = workflows(task_id)[name]
                built = page.evaluate(_BUILD, [asdict(part) for part in parts])
                prompt = {
                    number: {key: node[key] for key in ("class_type", "inputs")}
                    for number, node in built["prompt"].items()
                }
                _write(made / "workflows" / version / f"{name}.json", built["workflow"])
                prompt_file = made / "prompts" / f"{name}.json"
                if prompt_file.exists() and json.loads(prompt_file.read_text(encoding="utf-8")) != prompt:
                    raise AssertionError(f"{name}: the frontends queue different prompts")
                _write(prompt_file, prompt)
                accepted = len(emulator.accepted)
                result = comfy.run(prompt, workflow=built["workflow"])
                pictures = [pixels_sha256(np.asarray(picture)) for picture in comfy.images(result)]
                if name in known and (known[name] != pictures or len(emulator.accepted) != accepted):
                    raise AssertionError(f"{name}: bought twice")
                known[name] = pictures
    return known


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _frontends() -> dict[str, list[str]]:
    """Return ComfyUI's arguments for each frontend, by version."""
    return {"1.32.9": [], checkout.NEWER_FRONTEND: [f"--front-end-root={checkout.newer_frontend()}"]}


@contextmanager
def _page(comfy: ComfyUI) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.ensure(), args=list(browser.ARGUMENTS))
        page = chromium.new_page()
        page.goto(comfy.url)
        page.wait_for_function(_READY, timeout=90_000)
        yield page
        chromium.close()
