"""How soon an interrupt or a failing sibling ends the waiting of remote nodes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import (
    RESUMED,
    Bought,
    collector_kept_away,
    forget_purchases,
    journal_folder,
    start_over,
    tasks,
    until_states,
)
from tests.host.prompts import Graph, Running, failed, photo, remote, submits, until

FELT = 0.3
"""Seconds from the call of /interrupt to ComfyUI's event."""


def check_still_works(comfy: ComfyUI, emulator: Emulator) -> None:
    """The same ComfyUI runs the next prompt, without waiting for what the interrupted one left behind."""
    emulator.clear()
    graph = Graph(comfy)
    for seed, class_type in enumerate(("HiDreamAPIUpscale", "VolcengineAPIOutpaint")):
        remote(graph, class_type, 100 + seed)
    result = comfy.run(graph.prompt, timeout=20)
    assert len(result.files()) == 2
    assert emulator.billed == 2


def test_a_local_node_does_not_wait_for_a_remote_one(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"never": True}})
    graph = Graph(comfy)
    remote(graph)
    image = graph.image(photo(64, 64, 9))
    local = graph.save(graph.add("ImageInvert", image=image)[0])
    queued = time.monotonic()
    running = Running(comfy, graph)
    assert running.event("executed", local) - queued < 1
    assert running.interrupt() < FELT


# ---- interrupt


def _arrived(emulator: Emulator) -> bool:
    return bool(submits(emulator))


def _hung(emulator: Emulator) -> bool:
    return any(request.body is not None for request in submits(emulator))


def _polled(emulator: Emulator) -> bool:
    return any(request.phase == "result" for request in emulator.requests)


def _refused(emulator: Emulator) -> bool:
    return any(request.status == 429 for request in submits(emulator))


def _fetching(emulator: Emulator) -> bool:
    return any(request.phase == "image" for request in emulator.requests)


BUSY = {"status": 429, "headers": {"Retry-After": "30"}}
STAGES: list[Any] = [
    pytest.param("HiDreamAPIUpscale", "submit", {"delay": 3}, _arrived, id="hidream-submit"),
    pytest.param("HiDreamAPIUpscale", "submit", {"hang": 3}, _hung, id="hidream-accepted-submit"),
    pytest.param("HiDreamAPIUpscale", "submit", BUSY, _refused, id="hidream-back-off"),
    pytest.param("HiDreamAPIUpscale", "submit", {"never": True}, _polled, id="hidream-wait"),
    pytest.param("HiDreamAPIUpscale", "result", {"hang": 3}, _polled, id="hidream-hanging-poll"),
    pytest.param("HiDreamAPIUpscale", "result", {"status": 500}, _polled, id="hidream-failing-polls"),
    pytest.param("HiDreamAPIUpscale", "image", {"hang": 3}, _fetching, id="hidream-download"),
    pytest.param("HiDreamAPIUpscale", "image", {"status": 404}, _fetching, id="hidream-failing-downloads"),
    pytest.param("VolcengineAPIOutpaint", "submit", {"hang": 3}, _hung, id="volcengine-submit"),
    pytest.param("VolcengineAPIOutpaint", "submit", BUSY, _refused, id="volcengine-back-off"),
]


@pytest.mark.parametrize(("class_type", "phase", "fault", "reached"), STAGES)
def test_an_interrupt_is_felt_at_once(
    comfy: ComfyUI,
    emulator: Emulator,
    class_type: str,
    phase: str,
    fault: dict[str, Any],
    reached: Callable[[Emulator], bool],
) -> None:
    emulator.add_fault({"phase": phase, "times": None, "do": fault})
    graph = Graph(comfy)
    remote(graph, class_type)
    running = Running(comfy, graph)
    until(lambda: reached(emulator), "the stage to interrupt")
    assert running.interrupt() < FELT
    check_still_works(comfy, emulator)


@pytest.mark.parametrize("fault", [{"hang": 1.5}, {"never": True}], ids=["in the submit", "in the wait"])
def test_an_accepted_task_is_written_down(comfy: ComfyUI, emulator: Emulator, fault: dict[str, Any]) -> None:
    """In the journal and in the log; also if the answer to the submit comes only after the interrupt."""
    emulator.add_fault({"phase": "submit", "times": None, "do": fault})
    graph = Graph(comfy)
    remote(graph)
    running = Running(comfy, graph)
    until(lambda: any(submit.accepted for submit in submits(emulator)), "the task")
    task_id = submits(emulator)[0].task_id
    running.interrupt()
    [task] = until_states(comfy, "parked")
    assert task["task_id"] == task_id
    assert re.search(rf"accepted: {task['journal_id']} task_id={task_id}", running.log())
    assert len(submits(emulator)) == 1


def test_a_picture_that_nobody_waits_for_is_stored(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "do": {"hang": 1.5}})
    graph = Graph(comfy)
    remote(graph, "VolcengineAPIOutpaint")
    running = Running(comfy, graph)
    until(lambda: _hung(emulator), "the submit")
    running.interrupt()
    [task] = until_states(comfy, "stored")
    assert task["stored"] == 1
    assert re.search(rf"answered: {task['journal_id']} request_id=\w{{10}}", running.log())


def test_an_interrupt_during_back_off_sends_nothing_more(comfy: ComfyUI, emulator: Emulator) -> None:
    busy = {"status": 429, "headers": {"Retry-After": "1"}}
    emulator.add_fault({"phase": "submit", "times": 1, "do": busy})
    graph = Graph(comfy)
    remote(graph)
    running = Running(comfy, graph)
    until(lambda: _refused(emulator), "the refusal")
    refused = submits(emulator)[0].ended
    assert running.interrupt() < FELT
    # Another prompt keeps both busy until well after the second submit would have come.
    other = Graph(comfy)
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"delay": 2}})
    remote(other, "VolcengineAPIOutpaint")
    comfy.run(other.prompt)
    assert time.monotonic() > refused + 1.5
    assert len(submits(emulator, "upscale")) == 1
    assert emulator.billed == 1


def test_two_waiting_nodes_are_interrupted(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"never": True}})
    graph = Graph(comfy)
    remote(graph, "HiDreamAPIUpscale")
    remote(graph, "HiDreamAPIOutpaint", 1)
    running = Running(comfy, graph)
    until(lambda: {"upscale", "outpaint"} == {r.endpoint for r in emulator.requests if r.phase == "result"}, "polls")
    assert running.interrupt() < FELT
    until_states(comfy, "parked", "parked")
    check_still_works(comfy, emulator)


def test_a_mapped_list_is_interrupted(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"never": True}})
    graph = Graph(comfy)
    batch = graph.image(*(photo(32, 32, seed) for seed in range(4)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    graph.save(graph.add("HiDreamAPIUpscale", image=listed[0])[0])
    running = Running(comfy, graph)
    until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == 4, "four tasks polled")
    assert running.interrupt() < FELT
    check_still_works(comfy, emulator)


def test_calls_of_a_list_that_wait_for_a_place_never_begin(comfy: ComfyUI, emulator: Emulator) -> None:
    """A place that an interrupted item gives back is not taken by the next item of the same list."""
    emulator.add_fault({"phase": "submit", "times": None, "do": {"never": True}})
    graph = Graph(comfy)
    batch = graph.image(*(photo(16, 16, seed) for seed in range(36)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    graph.save(graph.add("HiDreamAPIUpscale", image=listed[0])[0])
    running = Running(comfy, graph)
    until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == 32, "32 tasks polled", 30)
    assert running.interrupt() < FELT
    until_states(comfy, *["parked"] * 32)
    check_still_works(comfy, emulator)
    assert sorted(task["state"] for task in tasks(comfy)) == ["delivered"] * 2 + ["parked"] * 32


def test_sixteen_waiting_nodes_are_interrupted(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"never": True}})
    graph = Graph(comfy)
    for seed in range(16):
        remote(graph, "HiDreamAPIUpscale", seed)
    running = Running(comfy, graph)
    until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == 16, "sixteen tasks polled", 30)
    assert running.interrupt() < FELT
    until_states(comfy, *["parked"] * 16)
    check_still_works(comfy, emulator)


def hang_and_interrupt(comfy: ComfyUI, emulator: Emulator) -> float:
    """As many submits as there are threads stay unanswered; returns when the first answer is due."""
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "times": 32, "do": {"hang": 8}})
    graph = Graph(comfy)
    batch = graph.image(*(photo(16, 16, seed) for seed in range(8)))
    graph.save(graph.add("VolcengineAPIOutpaint", image=batch, variants=4, take=2)[0])
    running = Running(comfy, graph)
    until(lambda: sum(request.body is not None for request in submits(emulator)) == 32, "32 submits", 20)
    assert running.interrupt() < FELT
    return min(request.started for request in submits(emulator)) + 8


def test_calls_that_hang_after_an_interrupt_do_not_hold_up_the_next_prompt(comfy: ComfyUI, emulator: Emulator) -> None:
    """The service may take minutes; the user has moved on."""
    due = hang_and_interrupt(comfy, emulator)
    check_still_works(comfy, emulator)
    assert time.monotonic() < due, "the next prompt waited for the interrupted one's answers"


def test_nor_do_they_after_more_calls_than_threads(make_comfyui: Callable[..., ComfyUI], emulator: Emulator) -> None:
    """Calls that had to queue for a thread must not be taken for idle threads later on."""
    comfy = make_comfyui()  # a pool that no other test has left threads in
    emulator.clear()
    graph = Graph(comfy)
    batch = graph.image(*(photo(16, 16, seed) for seed in range(10)))
    graph.save(graph.add("VolcengineAPIOutpaint", image=batch, variants=4)[0])
    comfy.run(graph.prompt)
    assert len(submits(emulator)) == 40
    emulator.clear()
    due = hang_and_interrupt(comfy, emulator)
    check_still_works(comfy, emulator)
    assert time.monotonic() < due, "the next prompt waited for the interrupted one's answers"
    comfy.kill()  # it would wait a while for its submits


# ---- what must not wait for the calls and jobs of others

PROBE = '''
import asyncio, sys, time, uuid
from pathlib import Path

def work(folder):
    (folder / f"{uuid.uuid4().hex}.begun").touch()
    deadline = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    (folder / f"{uuid.uuid4().hex}.ended").touch()

class LocalWork:
    """Works on the pack's threads for local work until the file `go` is in a folder."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "work"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {}), "folder": ("STRING", {})}}

    async def work(self, image, folder):
        host = next(module for name, module in sys.modules.items() if name.endswith(".nodes.comfy.host"))
        (Path(folder) / f"{uuid.uuid4().hex}.queued").touch()
        await host.off_loop(work, Path(folder))
        return {"ui": {"text": ["done"]}}

class Gate:
    """Hands an image and a text on as soon as the file `go` is in a folder."""

    RETURN_TYPES = ("IMAGE", "STRING")
    FUNCTION = "wait"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {}), "text": ("STRING", {}), "folder": ("STRING", {})}}

    async def wait(self, image, text, folder):
        deadline = time.monotonic() + 60
        while not (Path(folder) / "go").exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return (image, text)

NODE_CLASS_MAPPINGS = {"TestLocalWork": LocalWork, "TestGate": Gate}
'''


@pytest.fixture(scope="module")
def probed_comfyui(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("probed")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(PROBE, encoding="utf-8")
    with ComfyUI(base, environment=service_environment, preloaded=True) as comfyui:
        yield comfyui


@pytest.fixture
def probed(probed_comfyui: ComfyUI, emulator: Emulator) -> Iterator[ComfyUI]:
    start_over(probed_comfyui, emulator)
    with collector_kept_away(probed_comfyui):
        yield probed_comfyui
    emulator.release()
    forget_purchases(probed_comfyui)


def test_local_work_that_waits_is_dropped_by_an_interrupt(probed: ComfyUI, tmp_path: Path) -> None:
    """The next prompt waits neither for what waited, nor for what is under way and cannot be stopped."""
    held, free = tmp_path / "held", tmp_path / "free"
    for folder in (held, free):
        folder.mkdir()
    (free / "go").touch()

    def graph(folder: Path, *seeds: int) -> Graph:
        graph = Graph(probed)
        listed = graph.add("RebatchImages", images=graph.image(*(photo(16, 16, seed) for seed in seeds)), batch_size=1)
        graph.add("TestLocalWork", image=listed[0], folder=str(folder))
        return graph

    def come_to(end: str) -> int:
        return len(list(held.glob(f"*.{end}")))

    running = Running(probed, graph(held, *range(6)))
    until(lambda: (come_to("queued"), come_to("begun")) == (6, 2), "as many jobs as there are threads, and more")
    assert running.interrupt() < FELT
    probed.run(graph(free, 0, 1).prompt, timeout=20)
    (held / "go").touch()
    until(lambda: come_to("ended") == 2, "the end of what was under way")
    # Whatever still waits would have its turn before these.
    probed.run(graph(free, 2, 3).prompt, timeout=20)
    assert come_to("begun") == 2


def forget_picture(comfy: ComfyUI, journal_id: str) -> None:
    """Remove the pictures of an attempt from the store."""
    for side_car in (journal_folder(comfy) / "store").rglob(f"*.{journal_id}.*.json"):
        for file in side_car.parent.glob(f"{side_car.name.split('.')[0]}.*"):
            file.unlink()


def test_what_was_paid_before_needs_no_place_among_the_calls_that_wait(
    probed: ComfyUI, emulator: Emulator, tmp_path: Path
) -> None:
    """But what turns out to be gone from the store waits for one before its task is asked for again."""
    ids: list[str] = []
    stored, fetched, gone = (Bought(probed, "HiDreamAPIUpscale", seed) for seed in (1, 2, 3))
    for workflow in (stored, fetched, gone):
        workflow.run()
        ids.append(next(task["journal_id"] for task in tasks(probed) if task["journal_id"] not in ids))
    for journal_id in ids[1:]:
        forget_picture(probed, journal_id)
    task_id = {task["journal_id"]: task["task_id"] for task in tasks(probed)}
    probed.forget_results()

    graph = Graph(probed)
    held = graph.image(*(photo(16, 16, seed) for seed in range(8)))
    graph.save(graph.add("HiDreamAPIOutpaint", image=held, variants=4, canvas_width=64, canvas_height=64)[0])
    images = [graph.image(photo(75, 100, seed)) for seed in (1, 3)]
    gates = [graph.add("TestGate", image=image, text=task_id[ids[1]], folder=str(tmp_path)) for image in images]
    from_store, waits = (graph.save(graph.add("HiDreamAPIUpscale", image=gate[0])[0]) for gate in gates)
    again = graph.add("RemoteTaskResult", endpoint="hidream upscale", task_id=gates[0][1])
    from_service = graph.save(again[0])

    emulator.add_fault({"endpoint": "outpaint", "phase": "submit", "times": None, "do": {"never": True}})
    running = Running(probed, graph)
    until(lambda: sum(request.phase == "submit" for request in emulator.accepted) == 3 + 32, "32 tasks", 40)
    (tmp_path / "go").touch()
    for node in (from_store, from_service):
        running.event("executed", node, 20)
    asked = [request.task_id for request in emulator.requests if request.phase == "result"]
    assert task_id[ids[1]] in asked
    assert running.interrupt() < FELT
    fetches = [request for request in emulator.requests if request.phase == "image"]
    assert len(fetches) == 3 + 1, "what is gone from the store waited for a place"
    gone.run()
    assert len(emulator.accepted) == 3 + 32
    assert gone.says(RESUMED)
    assert waits not in probed.history(running.prompt_id).get("outputs", {})
    until_states(probed, *["parked"] * 32, *["delivered"] * 3)


# ---- a sibling fails


def test_an_error_cancels_the_other_node_at_once(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "outpaint", "phase": "submit", "do": {"never": True}})
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"delay": 1.5, "status": 402}})
    graph = Graph(comfy)
    remote(graph, "HiDreamAPIOutpaint")
    failing = remote(graph, "HiDreamAPIUpscale", 1)
    running = Running(comfy, graph)
    result = running.end()
    assert result.status == "error"
    assert result.error["node_id"] == failing.id
    assert result.error["exception_type"] == "hidream_volcengine.QuotaError"
    (refused,) = submits(emulator, "upscale")
    assert result.events[-1].at - refused.ended < FELT
    (task,) = submits(emulator, "outpaint")
    assert {told["task_id"] for told in until_states(comfy, "parked", "refused")} == {task.task_id, ""}
    assert "never retrieved" not in running.log()
    check_still_works(comfy, emulator)


def test_an_error_cancels_a_sibling_that_has_not_been_sent(comfy: ComfyUI, emulator: Emulator) -> None:
    """The other node is backing off when its sibling fails: it must buy nothing any more."""
    emulator.add_fault({"endpoint": "outpaint", "phase": "submit", "times": None, "do": BUSY})
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"delay": 0.7, "status": 402}})
    graph = Graph(comfy)
    remote(graph, "HiDreamAPIOutpaint")
    failing = remote(graph, "HiDreamAPIUpscale", 1)
    told = failed(comfy, graph.prompt, "QuotaError")
    assert told["node_id"] == failing.id
    assert len(submits(emulator, "outpaint")) == 1
    assert emulator.billed == 0


def test_a_failing_local_node_cancels_a_remote_one(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"never": True}})
    graph = Graph(comfy)
    remote(graph)
    # The local node fails once a quick remote one has delivered: its picture has no alpha channel.
    quick = graph.add("HiDreamAPIOutpaint", image=graph.image(photo(64, 64, 1)), canvas_width=128, canvas_height=128)
    broken = graph.add("ImageToMask", image=quick[0], channel="alpha")
    graph.save_mask(broken[0])
    running = Running(comfy, graph)
    result = running.end()
    assert result.status == "error"
    assert result.error["node_id"] == broken.id
    until_states(comfy, "parked", "delivered")
    check_still_works(comfy, emulator)
