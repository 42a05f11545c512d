"""The task list's routes in ComfyUI's own server: what they tell, what they change, and whom they refuse."""

from __future__ import annotations

import re
from typing import Any

import requests

from devtools.host import ComfyUI
from emulator import Emulator
from tests.host.buying import Bought, buys, explained, same, sends_nothing, tasks
from tests.host.prompts import failed

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
        assert submit_again(comfy, task["journal_id"], **headers).status_code == 403, headers
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
