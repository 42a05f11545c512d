"""Workflows and journals of older versions (tests/fixtures) in today's ComfyUI: every node, and nothing is bought."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devtools.comfyui.fixtures_workflows import pixels_sha256
from devtools.comfyui.host import ComfyUI
from devtools.comfyui.workflow import to_prompt
from emulator import Emulator
from tests.host.buying import buys, journal_folder

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.mark.parametrize("version", sorted(path.name for path in FIXTURES.iterdir()))
def test_every_workflow_brings_its_pictures_and_buys_nothing(
    version: str, make_comfyui: Callable[..., ComfyUI], emulator: Emulator
) -> None:
    fixture = FIXTURES / version
    comfy = make_comfyui()
    shutil.copytree(fixture / "user", journal_folder(comfy), dirs_exist_ok=True)
    comfy.upload(fixture / "photo.png", "photo.png")
    nodes = comfy.object_info()
    expected = read(fixture / "expected.json")["prompts"]
    assert {node for node in nodes if nodes[node]["category"] == "HiDream & Volcengine"} >= set(expected)
    with buys(emulator, 0):
        for name, hashes in expected.items():
            prompt = read(fixture / "prompts" / f"{name}.json")
            for workflow in (fixture / "workflows").glob(f"*/{name}.json"):
                assert to_prompt(read(workflow), nodes) == prompt, workflow
            came = [pixels_sha256(np.asarray(picture)) for picture in comfy.images(comfy.run(prompt))]
            assert came == hashes, name


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
