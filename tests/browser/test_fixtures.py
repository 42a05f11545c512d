"""Workflows that older versions of the pack and both frontends saved (tests/fixtures), loaded today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import ON_PARTIAL

from tests.browser.frontend import Frontend, Json
from tests.browser.looks import looks
from tests.endpoints import PAID

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
    """Each queues the prompt that it queued in its own version, and is saved with the same values.

    A widget that was added since has its default, after all others.
    """
    assert WORKFLOWS
    for path in WORKFLOWS:
        workflow = read(path)
        frontend.load(workflow)
        then = read(path.parents[2] / "prompts" / path.name)
        added = {int(id_) for id_, node in then.items() if lacks_on_partial(node)}
        for id_ in added:
            then[str(id_)]["inputs"][ON_PARTIAL.id] = ON_PARTIAL.default
        assert frontend.prompt() == then, path
        saved = {node["id"]: compact(node.get("widgets_values")) for node in workflow["nodes"]}
        saved.update({id_: [*saved[id_], ON_PARTIAL.default] for id_ in added})
        assert {node: compact(values) for node, values in frontend.widget_values().items()} == saved, path


def lacks_on_partial(node: Json) -> bool:
    return node["class_type"] in PAID and ON_PARTIAL.id not in node["inputs"]


def compact(values: Any) -> Any:
    """Without the holes that frontend 1.32.9 writes for widgets that are not saved."""
    return [value for value in values if value is not None] if isinstance(values, list) else values


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
