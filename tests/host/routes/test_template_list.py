"""The template picker's routes in ComfyUI's own server: with the sandbox, with a profile, and without the service."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.conftest import CANARY
from tests.host.prompts import Graph, photo
from tests.host.routes.test_task_list import FOREIGN, ask


def listed(comfy: ComfyUI, query: str) -> dict[str, Any]:
    answer = ask(comfy, f"/templates?{query}")
    assert answer.status_code == 200, answer.text
    assert CANARY not in answer.text
    return answer.json()


def picture(comfy: ComfyUI, number: int, profile: str = "default") -> bytes:
    answer = ask(comfy, f"/templates/{number}/picture?profile={profile}")
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as opened:
        assert (opened.format, opened.size) == ("JPEG", (192, 256))
    return answer.content


def test_the_sandbox_has_templates_of_both_genders(comfy: ComfyUI, emulator: Emulator) -> None:
    women, men = (listed(comfy, f"profile=sandbox&gender={gender}") for gender in ("woman", "man"))
    assert [(page["total"], page["pages"], page["offline"]) for page in (women, men)] == [(45, 2, None), (30, 1, None)]
    assert ask(comfy, "/templates/75?profile=sandbox").json()["page"] == 2
    number = men["templates"][-1]["id"]
    picture(comfy, number, "sandbox")
    assert emulator.requests == [], "the sandbox is an emulator of its own"
    graph = Graph(comfy)
    taken = {"image": graph.image(photo(300, 400)), "profile": "sandbox", "template_id": number}
    graph.save(graph.add("HiDreamAPIModelPhotoSet", **taken)[0])
    assert len(comfy.images(comfy.run(graph.prompt))) == 4


def test_other_pages_learn_nothing(comfy: ComfyUI, emulator: Emulator) -> None:
    for headers in FOREIGN:
        for path in ("/templates?profile=default&gender=man", "/templates/8?profile=default",
                     "/templates/8/picture?profile=default"):  # fmt: skip
            assert ask(comfy, path, headers=headers).status_code == 403, (path, headers)
    assert emulator.requests == []


def test_a_profile_that_is_unknown_is_explained(comfy: ComfyUI) -> None:
    answer = ask(comfy, "/templates?profile=nobody&gender=man")
    assert answer.status_code == 409
    assert "nobody" in answer.json()["error"]["zh"]


def test_a_list_outlives_the_server_and_the_service(make_comfyui: Callable[..., ComfyUI], emulator: Emulator) -> None:
    emulator.clear()
    comfy = make_comfyui()
    women, seven = listed(comfy, "profile=default&gender=woman"), picture(comfy, 7)
    assert {record.headers["Authorization"] for record in emulator.requests if record.phase == "list"} == {"***"}
    comfy.stop()
    emulator.clear()
    for phase in ("list", "image"):
        emulator.add_fault({"endpoint": "templates", "phase": phase, "times": None, "do": {"reset": "headers"}})
    comfy.start()
    assert (listed(comfy, "profile=default&gender=woman"), picture(comfy, 7)) == (women, seven)
    assert emulator.requests == []
    old = listed(comfy, "profile=default&gender=woman&fresh=1")
    assert old["templates"] == women["templates"]
    assert "could not be renewed" in old["offline"]["en"]
    refused = ask(comfy, "/templates?profile=default&gender=man")
    assert refused.status_code == 409
    assert set(refused.json()["error"]) == {"en", "zh"}
    emulator.clear()
    assert CANARY not in comfy.log()
