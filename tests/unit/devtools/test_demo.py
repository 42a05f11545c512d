"""`dev.py demo --live`: what it counts, that it asks, and that a task's id is shown as soon as it is known."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from pytest import CaptureFixture, MonkeyPatch

from devtools import demo
from devtools.comfyui.workflow import Json
from devtools.demo_parts import progress
from devtools.environment import ROOT
from tests.endpoints import PAID

KEYS = ("HIDREAM_TOKEN", "HIDREAM_API_KEY", "VOLCENGINE_GATEWAY_API_KEY", "VOLCENGINE_ACCESS_KEY_ID")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def prompts(**changed: Any) -> dict[demo.Example, Json]:
    """The remote nodes of the first six paid nodes' examples with the values of its file."""
    defaults = {"variants": 1, "img_count": 1}
    return {
        example: {"1": {"class_type": example.node, "inputs": {**defaults, **changed}}}
        for example in demo.EXAMPLES
        if example.node in demo._CHECKED
    }


def test_counts_every_picture_that_the_services_would_charge_for(capsys: CaptureFixture[str]) -> None:
    assert demo._may_pay(prompts(), yes=True)
    # Six nodes once each, the set with four pictures; outpainted and upscaled; Volcengine's pasted back.
    assert "8 workflows on the real services: about 12 paid pictures" in capsys.readouterr().out
    demo._may_pay(prompts(variants=2, img_count=3), yes=True)
    assert "about 20 paid pictures" in capsys.readouterr().out


def test_every_paid_node_is_in_it() -> None:
    """With what its own plan says, where the demo has no other check."""
    assert {example.node for example in demo.EXAMPLES} == set(PAID)
    for example in demo.EXAMPLES:
        assert (ROOT / "example_workflows" / f"{example.workflow}.json").is_file()
    unchecked = [replace(example, check=None, bought=None) for example in demo.EXAMPLES if not example.placed]
    for example in unchecked:
        # How many pictures a photo set has is not known before.
        widgets = PAID[example.node].widgets
        assert example.paid(widgets) == widgets.get("img_count", 1)


def test_without_yes_nothing_is_sent(monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]) -> None:
    assert not demo._may_pay(prompts(), yes=False)
    assert "nothing was sent; add --yes" in capsys.readouterr().out


def test_a_live_demo_without_a_key_starts_nothing(monkeypatch: MonkeyPatch, capsys: CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["dev.py demo", "--live", "--yes"])
    monkeypatch.setattr(demo, "ComfyUI", _never)
    assert demo.main() == 2
    shown = capsys.readouterr().out
    assert "HiDream: no key in the environment (HIDREAM_TOKEN or HIDREAM_API_KEY), left out" in shown
    assert "Volcengine: no key" in shown


def test_the_pictures_of_every_template_are_there(tmp_path: Path) -> None:
    """Whoever opens one in the served ComfyUI queues it at once."""
    demo._lay_out_photos(tmp_path)
    for path in (ROOT / "example_workflows").glob("*.json"):
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] == "LoadImage":
                with Image.open(tmp_path / node["widgets_values"][0]) as picture:
                    assert min(picture.size) >= 64, path.name


def _never(*_: object, **__: object) -> None:
    raise AssertionError("ComfyUI was started")


@pytest.mark.parametrize("yes", [True, False])
def test_a_live_demo_runs_only_with_yes(
    yes: bool, monkeypatch: MonkeyPatch, capsys: CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HIDREAM_TOKEN", "canary")
    monkeypatch.setattr("sys.argv", ["dev.py demo", "--live", *(["--yes"] if yes else [])])
    monkeypatch.setattr(demo, "HOST", tmp_path)
    monkeypatch.setattr(demo, "OUT", tmp_path / "out")
    monkeypatch.setattr(demo, "ComfyUI", _Stub)
    ran: list[list[str]] = []
    monkeypatch.setattr(demo, "_run_all", lambda comfy, chosen, *_: ran.append([one.node for one in chosen]) or True)
    assert demo.main() == (0 if yes else 2)
    assert len(ran) == yes
    for nodes in ran:
        hidream = {node for node, paid in PAID.items() if paid.vectors.endpoint.provider == "HiDream"}
        assert set(nodes) == hidream - {"HiDreamAPIModelPhotoSet"}
    shown = capsys.readouterr().out
    assert "HiDreamAPIModelPhotoSet: left out; --template-id N" in shown
    assert "paid pictures" in shown


class _Stub:
    """A ComfyUI that is only asked what nodes it has."""

    url = "http://127.0.0.1:0"

    def __init__(self, base: Path, *, environment: dict[str, str], keep_keys: bool, port: int) -> None:
        assert environment == {}, "the real services, not the emulator"
        assert keep_keys

    def __enter__(self) -> _Stub:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def object_info(self) -> Json:
        """As many widgets of each node as the examples have values for."""
        infos: Json = {}
        for path in (ROOT / "example_workflows").glob("*.json"):
            for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
                names = [slot["name"] for slot in node.get("inputs", []) if "widget" in slot]
                infos[node["type"]] = {
                    "display_name": node["type"],
                    "input": {"required": {name: ["STRING", {}] for name in names}},
                }
        return infos


def test_task_ids_are_shown_once_and_at_once(tmp_path: Path, capsys: CaptureFixture[str]) -> None:
    log = tmp_path / "comfyui.log"
    log.write_text("accepted: task_id=before\n", encoding="utf-8")
    comfy: Any = SimpleNamespace(log_file=log, events=SimpleNamespace(listeners=[]))
    shown = ""
    with progress.shown(comfy):
        until = iter(_patience())
        while "task_id=t-1.a:b" not in shown:
            with log.open("a", encoding="utf-8") as file:
                file.write("hidream upscale accepted: rv-1 task_id=t-1.a:b request_id=r\n")
            next(until)
            shown += capsys.readouterr().out
    assert shown.count("task_id=t-1.a:b") == 1
    assert "before" not in shown


def _patience() -> Iterator[None]:
    """A condition is waited for, at most twenty seconds."""
    for _ in range(200):
        threading.Event().wait(0.1)
        yield
    raise AssertionError("the task's id was not shown")
