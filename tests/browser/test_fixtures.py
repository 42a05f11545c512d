"""Workflows that older versions of the pack and both frontends saved (tests/fixtures), loaded today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.browser.frontend import Frontend
from tests.browser.looks import looks

FIXTURES = Path(__file__).parents[1] / "fixtures"
WORKFLOWS = sorted(FIXTURES.glob("*/workflows/*/*.json"))

pytestmark = looks("newer-canvas-en")


@pytest.fixture(scope="module")
def frontend(shared_frontend: Frontend) -> Frontend:
    for photo in FIXTURES.glob("*/photo.png"):
        shutil.copyfile(photo, shared_frontend.comfy.base / "input" / "photo.png")
    shared_frontend.refresh_choices()
    return shared_frontend


@pytest.mark.smoke
def test_graphs_load_with_their_values(frontend: Frontend) -> None:
    """Each queues the prompt that it queued in its own version, and is saved with the same values."""
    assert WORKFLOWS
    for path in WORKFLOWS:
        workflow = read(path)
        frontend.load(workflow)
        assert frontend.prompt() == read(path.parents[2] / "prompts" / path.name), path
        saved = {node["id"]: compact(node.get("widgets_values")) for node in workflow["nodes"]}
        assert {node: compact(values) for node, values in frontend.widget_values().items()} == saved, path


def compact(values: Any) -> Any:
    """Without the holes that frontend 1.32.9 writes for widgets that are not saved."""
    return [value for value in values if value is not None] if isinstance(values, list) else values


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
