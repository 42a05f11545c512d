"""Two copies of the pack in one ComfyUI: the second one buys nothing, and says which two they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.comfyui.host import PACK_FOLDER, ComfyUI, copy_pack
from devtools.environment import ROOT
from emulator import Emulator
from tests.host.prompts import Graph, failed, photo, submits

SECOND = "another-copy"


@pytest.fixture(scope="module")
def comfy(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str], emulator: Emulator
) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("two-copies")
    copy_pack(ROOT, base / "custom_nodes" / SECOND)
    emulator.clear()
    with ComfyUI(base, environment=service_environment, preloaded=True) as comfyui:
        yield comfyui


def folders(comfy: ComfyUI) -> set[Path]:
    return {(comfy.base / "custom_nodes" / name).resolve() for name in (PACK_FOLDER, SECOND)}


@pytest.mark.parametrize(
    ("class_type", "profile"), [("HiDreamAPIUpscale", "default"), ("VolcengineAPIOutpaint", "sandbox")]
)
def test_a_paid_node_refuses_with_both_folders(
    class_type: str, profile: str, comfy: ComfyUI, emulator: Emulator
) -> None:
    graph = Graph(comfy)
    graph.save(graph.add(class_type, image=graph.image(photo(48, 64)), profile=profile)[0])
    told = failed(comfy, graph.prompt, "ConfigurationError")["exception_message"]
    assert all(str(folder) in told for folder in folders(comfy)), told
    assert "Remove one of the two folders" in told and "移除其中一个文件夹" in told and "Billed: no" in told
    assert submits(emulator) == []


def test_local_nodes_and_remote_task_result_go_on(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    placement = graph.add("RemoteOutpaintPlacement", image=graph.image(photo(48, 64)))
    shown = graph.show(placement[0])
    assert comfy.run(graph.prompt).texts(shown)
    graph = Graph(comfy)
    graph.save(graph.add("RemoteTaskResult", endpoint="hidream upscale", task_id="no-such-task")[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert "does not know this task" in told
    assert {record.phase for record in emulator.requests} == {"result"}


def test_the_routes_are_there_once_and_the_log_tells_of_both(comfy: ComfyUI) -> None:
    assert comfy.request("GET", "/hidream_volcengine/tasks").status_code == 200
    assert "two copies of this pack" in comfy.log()
