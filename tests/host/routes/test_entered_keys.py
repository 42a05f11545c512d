"""Keys that were entered in the settings dialog turn up nowhere but in their own file, whatever is done with them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from devtools.comfyui.events import EventStream
from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.endpoints import PAID
from tests.host.buying import journal_folder
from tests.host.conftest import CANARY
from tests.host.leaks import everything_told, spellings
from tests.host.prompts import Graph, photo, submits, until
from tests.host.routes.test_secrets_in_host import all_nodes
from tests.host.routes.test_task_list import ask, token

# "studio" sends its keys as they are, "signed" exchanges one and signs with the others.
STUDIO = {"hidream_token": "token", "volcengine_gateway_api_key": "gateway"}
SIGNED = {"hidream_api_key": "hidream", "volcengine_access_key_id": "access", "volcengine_secret_access_key": "secret"}
WRONG: list[dict[str, Any]] = [
    {"keys": {"hidream_token": f"two words {CANARY}"}},
    {"keys": {CANARY: CANARY}},
    {"settings": {CANARY: CANARY}},
    {"settings": {"proxy": f"http://u:{CANARY}@h:99999"}},
    {"settings": {"hidream_base_url": f"https://u:{CANARY}@h"}},
    {"settings": {"hidream_base_url": f"https://h?key={CANARY}"}},
    {"keys": {"volcengine_gateway_api_key": f"wrong-{CANARY}"}, "settings": {"volcengine_gateway_base_url": "x"}},
    {"keys": f"wrong-{CANARY}"},
    {f"wrong-{CANARY}": 1},
]


class Dialog:
    """The settings dialog of a browser, and all that it was answered."""

    def __init__(self, comfy: ComfyUI) -> None:
        self.comfy = comfy
        self.answers: list[str] = []

    def look(self, path: str) -> requests.Response:
        answer = ask(self.comfy, path)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    def order(self, what: str, **body: Any) -> requests.Response:
        body = body if what == "check" else {"revision": self.look("/profiles").json()["revision"], **body}
        shown = {"X-Remote-Image-Token": token(self.comfy)}
        answer = ask(self.comfy, f"/profiles/{what}", "POST", json=body, headers=shown, timeout=30)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    def does(self, what: str, **body: Any) -> Any:
        answer = self.order(what, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def dialog(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str], emulator: Emulator
) -> Iterator[Dialog]:
    """A ComfyUI that logs all there is to log, without a key of its own; two profiles are entered."""
    no_keys = {name: "" for name in service_environment if name.endswith(("_TOKEN", "_KEY", "_URL"))}
    environment = service_environment | no_keys
    with ComfyUI(
        tmp_path_factory.mktemp("entered"), environment=environment, arguments=("--verbose", "DEBUG"), preloaded=True
    ) as comfy:
        dialog = Dialog(comfy)
        hosts = ("hidream_base_url", "hidream_ec_base_url", "volcengine_base_url", "volcengine_gateway_base_url")
        settings = {**dict.fromkeys(hosts, emulator.url), "proxy": "http://proxy.example.com:3128"}
        for name, keys in (("studio", STUDIO), ("signed", SIGNED)):
            entered = {key: f"{word}-{CANARY}" for key, word in keys.items()}
            shown = dialog.does("add", name=name, settings=settings, keys=entered)
            [profile] = [profile for profile in shown["profiles"] if profile["name"] == name]
            assert {key for key, there in profile["keys"].items() if there} == set(keys)
        yield dialog


@pytest.fixture(autouse=True)
def _nothing_sent_yet(emulator: Emulator) -> None:
    emulator.clear()


def keys_file(comfy: ComfyUI) -> Path:
    return journal_folder(comfy) / "profiles.json"


def check_told(dialog: Dialog, *more: str) -> None:
    """Of everything that ComfyUI wrote and said, only their own file has the keys."""
    told = {**everything_told(dialog.comfy, None), "answers": "\n".join(dialog.answers), "more": "\n".join(more)}
    for path in ("/settings", "/userdata?dir=&recurse=true", "/internal/logs/raw", "/hidream_volcengine/profiles"):
        told[path] = dialog.comfy.request("GET", path, check=False).text
    found = {where for where, text in told.items() for form in spellings(CANARY) if form in text}
    assert found == {str(keys_file(dialog.comfy))}


@pytest.mark.parametrize("profile", ["studio", "signed"])
def test_a_day_with_entered_keys(dialog: Dialog, emulator: Emulator, profile: str) -> None:
    comfy = dialog.comfy
    stranger = EventStream(f"{comfy.url}/ws?clientId=somebody-else")
    stranger.open()
    try:
        for provider in ("HiDream", "Volcengine"):
            assert dialog.does("check", name=profile, provider=provider)["ok"]
        number = dialog.look(f"/templates?profile={profile}&gender=woman").json()["templates"][0]["id"]
        assert dialog.look(f"/templates/{number}/picture?profile={profile}").status_code == 200
        prompt, _ = all_nodes(comfy, profile=profile)
        workflow = {"nodes": [{"id": 1, "type": "HiDreamAPIUpscale", "widgets_values": [profile, 2, 0]}]}
        result = comfy.run(prompt, workflow=workflow)
        assert len(submits(emulator)) == len(PAID), "with the keys that were entered"
        tasks = dialog.look("/tasks").json()["tasks"]
        mine = [task for task in tasks if task["profile"] == profile]
        assert len(mine) == len(PAID)
        for task in mine:
            dialog.look(f"/tasks/{task['journal_id']}")
        announced = "hidream_volcengine.tasks"
        until(lambda: any(event.type == announced for event in stranger.since(0)), "an event for everybody")
        seen = [event for event in stranger.since(0) if "hidream" in event.type]
        assert {(event.type, json.dumps(event.data)) for event in seen} == {(announced, "{}")}
        pictures = [comfy.view(file).decode("latin-1") for file in result.files()]
        events = json.dumps([event.data for event in stranger.since(0)], default=str)
        check_told(dialog, json.dumps(result.history, default=str), events, *pictures)
    finally:
        stranger.close()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: json.dumps(wrong)[:40])
def test_what_was_entered_wrong_is_not_repeated(dialog: Dialog, wrong: dict[str, Any]) -> None:
    before = keys_file(dialog.comfy).read_bytes()
    for what, name in (("add", "new"), ("change", "studio")):
        assert dialog.order(what, name=name, **wrong).status_code == 400
    assert keys_file(dialog.comfy).read_bytes() == before
    check_told(dialog)


ECHO = {"code": 4711, "message": "header Authorization: Bearer KEY", "request_id": "KEY", "error": {"message": "KEY"}}


@pytest.mark.parametrize("status", [200, 302, 401, 500])
def test_a_service_that_repeats_the_key(dialog: Dialog, emulator: Emulator, status: int) -> None:
    """To the check, to the list of templates, and to a paid call."""
    body = json.loads(json.dumps(ECHO).replace("KEY", f"token-{CANARY}"))
    action = {"status": status, "json": body, "headers": {"Location": f"https://example.com/?token-{CANARY}"}}
    emulator.add_fault({"phase": "list", "times": None, "do": action})
    emulator.add_fault({"phase": "submit", "times": None, "do": action})
    assert not dialog.does("check", name="studio", provider="HiDream")["ok"]
    assert dialog.look("/templates?profile=studio&gender=man&fresh=1").status_code in (200, 409)
    graph = Graph(dialog.comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(48, 64, status)), profile="studio")[0])
    result = dialog.comfy.run(graph.prompt, expect="error")
    check_told(dialog, json.dumps(result.error, default=str))


def test_the_file_is_this_users_alone_and_no_route_serves_it(dialog: Dialog) -> None:
    file = keys_file(dialog.comfy)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    way = f"{file.parent.name}/{file.name}"
    as_the_folder = {"comfy-user": file.parent.name}
    for path in (f"/userdata/..%2F{way.replace('/', '%2F')}", f"/userdata/../{way}", "/userdata/profiles.json",
                 f"/v2/userdata?path=../{file.parent.name}", f"/userdata?dir=../{file.parent.name}&recurse=true",
                 f"/view?filename=../user/{way}", f"/view?filename={file.name}&subfolder=../user/{file.parent.name}",
                 f"/view?filename={file.name}&subfolder=/{file.parent}&type=output",
                 f"/extensions/../../../user/{way}"):  # fmt: skip
        for headers in ({}, as_the_folder):
            answer = dialog.comfy.request("GET", path, check=False, headers=headers)
            assert CANARY not in answer.text and "account" not in answer.text, path


def test_another_host_gets_no_key(dialog: Dialog, emulator: Emulator) -> None:
    """Also after a change by hand, and a restart with another environment; last, since the keys are gone then."""
    comfy, other = dialog.comfy, emulator.url.replace("127.0.0.1", "localhost")
    document = json.loads(keys_file(comfy).read_text())
    document["profiles"][0]["settings"]["hidream_ec_base_url"] = other
    keys_file(comfy).write_text(json.dumps(document))
    assert dialog.does("check", name="studio", provider="HiDream")["ok"] is False
    told = dialog.does("change", name="signed", settings={"hidream_base_url": other})["told"]
    assert any("hidream_api_key" in text["en"] for text in told)
    assert dialog.does("check", name="signed", provider="HiDream")["cause"] == "no_key"
    assert emulator.requests == []
