"""Each paid node there is, as its vectors describe it: one run, the same run again, an interrupt, and an error.

Its keys: ``test_secrets_in_host``, in which all of them run.
"""

from __future__ import annotations

from typing import Any

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.endpoints import Paid, every_paid_node
from tests.host.buying import RESUMED, REUSED, Bought, buys, mend, same, sends_nothing, tasks, until_states
from tests.host.prompts import failed, submits, until


@every_paid_node
def test_runs_once_and_is_reused(comfy: ComfyUI, emulator: Emulator, paid: Paid) -> None:
    workflow = Bought(comfy, paid.node.node_id)
    with buys(emulator, 1):
        pictures = workflow.run()
    assert [(picture.shape[1], picture.shape[0]) for picture in pictures] == paid.pictures
    assert emulator.billed == len(paid.pictures)
    [task] = tasks(comfy)
    endpoint = paid.vectors.endpoint
    assert (task["endpoint"], task["provider"], task["state"]) == (endpoint.name, endpoint.provider, "delivered")
    with sends_nothing(emulator):
        assert same(workflow.run(), pictures)
    assert workflow.says(REUSED)


@every_paid_node
def test_an_interrupted_run_goes_on_without_a_submit(comfy: ComfyUI, emulator: Emulator, paid: Paid) -> None:
    """The task is parked and resumed; CVProcess, which has no task, ends in the background and is reused."""
    is_task = paid.vectors.recorded != "cvprocess"
    emulator.add_fault({"phase": "result", "times": None, "do": _running(paid)} if is_task else _HANGING)
    workflow = Bought(comfy, paid.node.node_id)
    running = workflow.start()
    until(lambda: _reached(emulator, "result" if is_task else "submit"), "the stage to interrupt")
    running.interrupt()
    until_states(comfy, "parked" if is_task else "stored")
    mend(emulator)
    assert len(workflow.run()) == len(paid.pictures) == emulator.billed
    assert workflow.says(RESUMED if is_task else REUSED)
    assert len(emulator.accepted) == len(submits(emulator)) == 1


_HANGING = {"phase": "submit", "do": {"hang": 1}}


def _running(paid: Paid) -> dict[str, Any]:
    if paid.vectors.recorded == "cvsync2async":
        return {"json": {"code": 10000, "data": {"status": "generating"}}}
    return {"task_status": [2]}


def _reached(emulator: Emulator, phase: str) -> bool:
    return any(record.phase == phase and (record.accepted or phase == "result") for record in emulator.requests)


@every_paid_node
def test_a_refusal_is_told_and_may_be_queued_again(comfy: ComfyUI, emulator: Emulator, paid: Paid) -> None:
    """In both languages, with the service's words, and that it is not billed."""
    answer = {"code": 40001, "message": "words of the service", "request_id": "vendor-request-4711"}
    emulator.add_fault({"phase": "submit", "do": {"status": 401, "json": answer}})
    workflow = Bought(comfy, paid.node.node_id)
    told = failed(comfy, workflow.graph.prompt, "AuthenticationError")
    english, chinese = told["exception_message"].strip().split("\n")
    assert "words of the service" in english and "words of the service" in chinese
    assert "Billed: no." in english and "是否计费：否" in chinese
    assert told["node_type"] == paid.node.node_id
    with buys(emulator, 1):
        assert len(workflow.run()) == len(paid.pictures)
