"""The task list's routes in ComfyUI's own server: what they tell, what they change, and whom they refuse."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import requests

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import RESUMED, Bought, buys, explained, hold, mend, same, sends_nothing, tasks, until_states
from tests.host.prompts import Graph, Running, failed, photo, until

BASE = "/hidream_volcengine"


def ask(comfy: ComfyUI, path: str, method: str = "GET", **arguments: Any) -> requests.Response:
    return comfy.request(method, BASE + path, check=False, **arguments)


def token(comfy: ComfyUI) -> str:
    return ask(comfy, "/session").json()["token"]


def submit_again(comfy: ComfyUI, journal_id: str, **headers: str) -> requests.Response:
    shown = {"X-Remote-Image-Token": token(comfy), **headers}
    return ask(comfy, f"/tasks/{journal_id}/submit-again", "POST", json={}, headers=shown)


def test_a_task_is_listed_with_its_pictures(comfy: ComfyUI, emulator: Emulator) -> None:
    workflow = Bought(comfy, "HiDreamAPIImageToImage", img_count=2, prompt="a lighthouse at dusk", take=3)
    workflow.run()
    [task] = tasks(comfy)
    assert re.fullmatch("rv-[0-9a-f]{16}", task["journal_id"])
    [submit] = emulator.accepted
    told = {"state": "delivered", "provider": "HiDream", "endpoint": "hidream image to image", "profile": "default"}
    told |= {"task_id": submit.task_id, "request_id": submit.request_id, "take": 3, "pictures": 2, "stored": 2}
    told |= {"summary": "a lighthouse at dusk", "error": None}
    assert {name: task[name] for name in told} == told
    assert ask(comfy, f"/tasks/{task['journal_id']}").json() == {"task": task}
    for position in range(2):
        picture = ask(comfy, f"/tasks/{task['journal_id']}/pictures/{position}")
        assert picture.headers["Content-Type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
    assert ask(comfy, f"/tasks/{task['journal_id']}/pictures/2").status_code == 404
    assert ask(comfy, "/tasks/rv-0000000000000000").status_code == 404


def test_submit_again_buys_exactly_once(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "do": {"status": 500, "accept": True}})
    workflow = Bought(comfy)
    failed(comfy, workflow.graph.prompt, "AmbiguousSubmitError")
    explained(comfy, workflow)
    [task] = tasks(comfy)
    assert (task["state"], task["pictures"]) == ("ambiguous", 1)
    for words in task["error"].values():
        assert task["request_id"] in words
    with sends_nothing(emulator):
        assert submit_again(comfy, task["journal_id"]).json() == {"ok": True}
    with buys(emulator, 1):
        pictures = workflow.run()
    with sends_nothing(emulator):
        assert same(workflow.run(), pictures)
    assert sorted(entry["state"] for entry in tasks(comfy)) == ["ambiguous", "delivered"]
    refused = submit_again(comfy, task["journal_id"])
    assert refused.status_code == 409, "it was done already"
    assert set(refused.json()["error"]) == {"en", "zh"}


def test_a_delivered_task_is_not_submitted_again(comfy: ComfyUI, emulator: Emulator) -> None:
    workflow = Bought(comfy)
    workflow.run()
    [task] = tasks(comfy)
    assert submit_again(comfy, task["journal_id"]).status_code == 409
    with sends_nothing(emulator):
        workflow.run()


# ---- collect, stop waiting


def change(comfy: ComfyUI, journal_id: str, what: str, **headers: str) -> requests.Response:
    shown = {"X-Remote-Image-Token": token(comfy), **headers}
    return ask(comfy, f"/tasks/{journal_id}/{what}", "POST", json={}, headers=shown)


def until_can(comfy: ComfyUI, what: str) -> dict[str, Any]:
    """The task that it can be done to."""
    return until(lambda: next((task for task in tasks(comfy) if what in task["can"]), None), what)


def stopped_error(running: Running) -> dict[str, Any]:
    result = running.end()
    assert result.status == "error", result.status
    assert "never retrieved" not in running.log()
    return result.error


@pytest.mark.parametrize("class_type", ["HiDreamAPIUpscale", "HiDreamAPIModelPhotoSet"])
def test_stop_waiting_for_a_submitted_task(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    hold(emulator)
    workflow = Bought(comfy, class_type)
    with buys(emulator, 1):
        running = workflow.start()
        until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
        task = until_can(comfy, "stop-waiting")
        assert (task["state"], task["waiting"]) == ("submitted", True)
        asked = time.monotonic()
        assert change(comfy, task["journal_id"], "stop-waiting").json() == {"ok": True}
        error = stopped_error(running)
        assert time.monotonic() - asked < 3
    assert error["exception_type"] == "hidream_volcengine.TaskTimeoutError"
    english, chinese = error["exception_message"].strip().split("\n")
    assert english.startswith("You stopped waiting. The task was submitted and may be billed"), english
    assert "Billed: unknown." in english and task["task_id"] in english
    assert chinese.startswith("已停止等待。任务已提交，可能会计费"), chinese
    [parked] = until_states(comfy, "parked")
    assert (parked["waiting"], parked["can"]) == (False, ["collect"])
    refused = change(comfy, task["journal_id"], "stop-waiting")
    assert refused.status_code == 409 and set(refused.json()["error"]) == {"en", "zh"}
    billed = emulator.billed
    mend(emulator)
    with buys(emulator, 0):
        assert workflow.run()
        assert workflow.says(RESUMED)
    assert emulator.billed == billed


def test_stop_waiting_while_the_answer_is_made(comfy: ComfyUI, emulator: Emulator) -> None:
    """The node ends although its thread has to hear the answer: the answer is the picture."""
    emulator.add_fault({"phase": "submit", "do": {"hang": 6}})
    workflow = Bought(comfy, "VolcengineAPIOutpaint")
    with buys(emulator, 1):
        running = workflow.start()
        until(lambda: emulator.requests, "the submit")
        task = until_can(comfy, "stop-waiting")
        assert change(comfy, task["journal_id"], "stop-waiting").ok
        error = stopped_error(running)
        assert "its answer is still listened for" in error["exception_message"]
        assert tasks(comfy)[0]["state"] == "submitting"
        until_states(comfy, "stored")
    with sends_nothing(emulator):
        assert workflow.run()


def test_stop_waiting_for_one_of_a_mapped_list(comfy: ComfyUI, emulator: Emulator) -> None:
    """ComfyUI waits for the other items, as after any error of one."""
    hold(emulator)
    graph = Graph(comfy)
    batch = graph.image(*(photo(32, 32, seed) for seed in range(3)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    saved = graph.save(graph.add("HiDreamAPIUpscale", image=listed[0])[0])
    comfy.forget_results()
    with buys(emulator, 3):
        running = Running(comfy, graph)
        until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == 3, "three tasks polled")
        assert change(comfy, tasks(comfy)[1]["journal_id"], "stop-waiting").ok
        until_states(comfy, "parked", "submitted", "submitted")
        mend(emulator)
        assert stopped_error(running)["exception_type"].endswith("TaskTimeoutError")
        until_states(comfy, "parked", "delivered", "delivered")
    with buys(emulator, 0):
        assert len(comfy.images(comfy.run(graph.prompt), saved)) == 3


@pytest.mark.parametrize("linked", [False, True], ids=["", "linked"])
def test_what_was_stopped_comes_when_a_node_that_returned_the_rest_is_queued_again(
    comfy: ComfyUI, emulator: Emulator, linked: bool
) -> None:
    """ComfyUI would take the node's incomplete result out of its cache, and the user would change `take`: and pay."""
    hold(emulator)
    graph = Graph(comfy)
    prompt: Any = graph.add("PrimitiveString", value="a boat")[0] if linked else "a boat"
    batch = graph.image(*(photo(64, 64, seed) for seed in range(2)))
    node = graph.add("HiDreamAPIImageToImage", images=batch, prompt=prompt, on_partial="return the rest")
    saved = graph.save(node[0])
    comfy.forget_results()
    with buys(emulator, 2):
        running = Running(comfy, graph)
        until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == 2, "two tasks polled")
        assert change(comfy, tasks(comfy)[0]["journal_id"], "stop-waiting").ok
        until_states(comfy, "parked", "submitted")
        mend(emulator)
        result = running.end()
    assert len(comfy.images(result, saved)) == 1
    assert any("You stopped waiting" in text for text in result.texts(node.id))
    with buys(emulator, 0):
        assert len(comfy.images(comfy.run(graph.prompt), saved)) == 2
    until_states(comfy, "delivered", "delivered")
    with sends_nothing(emulator):
        assert comfy.run(graph.prompt).texts(node.id) == [], "from ComfyUI's cache, as ever"


def test_stop_waiting_for_a_fetch(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    workflow = Bought(comfy)
    running = workflow.start()
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    running.interrupt()
    [task] = until_states(comfy, "parked")
    graph = Graph(comfy)
    graph.save(graph.add("RemoteTaskResult", task_id=task["journal_id"])[0])
    running = Running(comfy, graph)
    until_can(comfy, "stop-waiting")
    assert change(comfy, task["journal_id"], "stop-waiting").ok
    assert "You stopped waiting" in stopped_error(running)["exception_message"]
    until_states(comfy, "parked")


def test_collect_a_parked_task(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    workflow = Bought(comfy)
    with buys(emulator, 1):
        running = workflow.start()
        until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
        running.interrupt()
        task = until_can(comfy, "collect")
        mend(emulator)
        assert change(comfy, task["journal_id"], "collect").json() == {"ok": True}
        [stored] = until_states(comfy, "stored")
    assert (stored["stored"], stored["can"]) == (1, [])
    assert change(comfy, task["journal_id"], "collect").status_code == 409
    small = ask(comfy, f"/tasks/{task['journal_id']}/thumbnails/0")
    assert small.headers["Content-Type"] == "image/jpeg" and small.content.startswith(b"\xff\xd8\xff")
    with sends_nothing(emulator):
        assert workflow.run()


def test_a_task_of_the_sandbox_is_stopped_and_collected(comfy: ComfyUI, emulator: Emulator) -> None:
    """Its emulator is in ComfyUI's own process, and takes 1.5 s."""
    workflow = Bought(comfy, profile="sandbox")
    with sends_nothing(emulator):
        running = workflow.start()
        task = until(
            lambda: next((t for t in tasks(comfy) if t["state"] == "submitted" and "stop-waiting" in t["can"]), None),
            "the sandbox's task",
        )
        assert task["sandbox"]
        assert change(comfy, task["journal_id"], "stop-waiting").ok
        assert "You stopped waiting" in stopped_error(running)["exception_message"]
        until_states(comfy, "parked")

        def collected() -> bool:
            if "collect" in tasks(comfy)[0]["can"]:
                change(comfy, task["journal_id"], "collect")
            return tasks(comfy)[0]["state"] == "stored"

        until(collected, "its picture")


def test_changes_are_told_over_the_websocket(comfy: ComfyUI, emulator: Emulator) -> None:
    begun = comfy.events.count()
    Bought(comfy).run()
    [last] = until_states(comfy, "delivered")
    changed = last["changed_at"] - time.time() + time.monotonic()
    comfy.events.wait_for(lambda event: event.type == "hidream_volcengine.tasks" and event.at >= changed, 15, begun)
    told = [event.data for event in comfy.events.since(begun) if event.type == "hidream_volcengine.tasks"]
    assert all(data == {} for data in told), "events go to every client"


FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Host": "evil.example"},
    {"Host": "evil.example:8188"},
    {"X-Forwarded-For": "203.0.113.7"},
    {"Sec-Fetch-Site": "cross-site"},
]


def test_other_pages_and_names_are_refused(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "do": {"status": 500, "accept": True}})
    failed(comfy, Bought(comfy).graph.prompt, "AmbiguousSubmitError")
    [task] = tasks(comfy)
    for headers in FOREIGN:
        for path in ("/session", "/tasks", f"/tasks/{task['journal_id']}"):
            answer = ask(comfy, path, headers=headers)
            assert answer.status_code == 403, (headers, answer.text)
            assert task["request_id"] not in answer.text
            assert token(comfy) not in answer.text
        for what in ("submit-again", "collect", "stop-waiting"):
            assert change(comfy, task["journal_id"], what, **headers).status_code == 403, headers
    with sends_nothing(emulator):
        explained(comfy, Bought(comfy))


def test_a_change_needs_the_token_of_this_start(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "do": {"status": 500, "accept": True}})
    failed(comfy, Bought(comfy).graph.prompt, "AmbiguousSubmitError")
    [task] = tasks(comfy)
    path = f"/tasks/{task['journal_id']}/submit-again"
    assert ask(comfy, path, "POST", json={}).status_code == 403
    assert submit_again(comfy, task["journal_id"], **{"X-Remote-Image-Token": "guessed"}).status_code == 403
    right = {"X-Remote-Image-Token": token(comfy)}
    assert ask(comfy, path, "POST", data="{}", headers={**right, "Content-Type": "text/plain"}).status_code == 415
    assert ask(comfy, path, "GET", headers=right).status_code in (404, 405)
    with sends_nothing(emulator):
        explained(comfy, Bought(comfy))
