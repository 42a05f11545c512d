"""Outpainting at any size: the example workflows themselves, on a photograph far beyond what the models take.

HiDream's canvas ends at 1024², Volcengine's pictures at 1920 pixels, and the local model works at 768×512; the result
is at the photograph's own size, with every pixel of it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devtools.comfyui.host import PACK_FOLDER, ComfyUI, Prompt
from devtools.comfyui.workflow import to_prompt
from devtools.environment import ROOT
from tests.host import tiny_checkpoint
from tests.host.prompts import Pixels, fields_of, photo, pixels

WIDTH, HEIGHT = 6000, 4000
SIZES = {
    "outpaint_any_size_hidream": (7111, 4000),
    "outpaint_any_size_volcengine": (7111, 4000),
    "outpaint_any_size_local": (8000, 5333),
}
SECONDS = 600
SHOWN = "shown"


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    """Soft shapes under fine detail, so that a pixel that moved or was resampled is another one."""
    coarse = photo(60, 40).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    detail = np.random.default_rng(1).integers(-20, 21, (500, 600, 3), dtype=np.int16)
    detailed = np.asarray(coarse, np.int16) + np.tile(detail, (HEIGHT // 500, WIDTH // 600, 1))
    return np.clip(detailed, 0, 255).astype(np.uint8)


@pytest.mark.thorough
@pytest.mark.parametrize("name", SIZES)
def test_every_pixel_of_a_large_photograph_is_kept(name: str, comfy: ComfyUI, photograph: Pixels) -> None:
    tiny_checkpoint.write(comfy.base / "models" / "checkpoints", "512-inpainting-ema.safetensors")
    prompt = _prompt(name, comfy)
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = comfy.upload(Image.fromarray(photograph), "6000x4000.png")
    paste_back = next(node for node in prompt.values() if node["class_type"] == "RemoteOutpaintPasteBack")
    prompt[SHOWN] = {"class_type": "PreviewAny", "inputs": {"source": paste_back["inputs"]["placement"]}}

    result = comfy.run(prompt, timeout=SECONDS)
    placed = fields_of(result.texts(SHOWN)[0])
    (file,) = result.files()
    with Image.open(comfy.base / "output" / file.filename) as saved:
        pasted = pixels(saved)
    comfy.forget_results()

    width, x = _native(placed["canvas_width"], placed["x"], placed["width"], WIDTH)
    height, y = _native(placed["canvas_height"], placed["y"], placed["height"], HEIGHT)
    assert (width, height) == SIZES[name]
    assert pasted.shape == (height, width, 3)
    assert np.array_equal(pasted[y : y + HEIGHT, x : x + WIDTH], photograph)
    around = [pasted[:y], pasted[y + HEIGHT :], pasted[:, :x], pasted[:, x + WIDTH :]]
    assert all(new.std() > 1 for new in around if new.size)  # something was painted


@pytest.mark.parametrize("name", SIZES)
def test_only_core_nodes_beside_ours(name: str, comfy: ComfyUI) -> None:
    known = comfy.object_info()
    modules = {known[node["class_type"]]["python_module"] for node in _prompt(name, comfy).values()}
    others = {module for module in modules if module != "nodes" and not module.startswith("comfy_extras.")}
    assert others == {f"custom_nodes.{PACK_FOLDER}"}


def test_the_checkpoint_is_the_same_every_time(tmp_path: Path) -> None:
    one, other = (tiny_checkpoint.write(tmp_path / name, "tiny.safetensors") for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def _prompt(name: str, comfy: ComfyUI) -> Prompt:
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return to_prompt(workflow, comfy.object_info())


def _native(canvas: int, start: int, placed: int, own: int) -> tuple[int, int]:
    """The formula: length of the canvas at which the original has its own pixels, and where it begins there."""
    return math.floor(canvas * own / placed + 0.5), math.floor(start * own / placed + 0.5)
