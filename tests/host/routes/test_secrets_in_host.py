"""Keys turn up nowhere, the sandbox needs none, and the pack is silent until it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.comfyui.host import PACK_FOLDER, ComfyUI, Prompt, Result
from emulator import Emulator
from tests.endpoints import PAID
from tests.host.buying import journal_folder, start_over, tasks, until_states
from tests.host.leaks import check_no_key, everything_told
from tests.host.prompts import Graph, failed, photo, submits, until

THREADS_PROBE = """
import threading

class Threads:
    RETURN_TYPES = ()
    FUNCTION = "tell"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"take": ("INT", {})}}

    def tell(self, take):
        return {"ui": {"text": [thread.name for thread in threading.enumerate()]}}

NODE_CLASS_MAPPINGS = {"TestThreads": Threads}
"""


def all_nodes(comfy: ComfyUI, **widgets: Any) -> tuple[Prompt, list[str]]:
    """Every remote node, each saving its picture; and their numbers."""
    graph, numbers = Graph(comfy), []
    for seed, (class_type, paid) in enumerate(PAID.items()):
        node = graph.paid(class_type, graph.image(photo(*paid.photo, seed)), **widgets)
        graph.save(node[0])
        numbers.append(node.id)
    return graph.prompt, numbers


# ---- keys


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[ComfyUI]:
    """A ComfyUI that logs everything there is to log, with every kind of key in its environment."""
    canary = service_environment["HIDREAM_TOKEN"].removeprefix("token-")
    keys = {
        "HIDREAM_TOKEN": "",
        "HIDREAM_API_KEY": f"hidream-{canary}",
        "HIDREAM_USER_ID": "user-17",
        "VOLCENGINE_ACCESS_KEY_ID": f"access-{canary}",
        "VOLCENGINE_SECRET_ACCESS_KEY": f"secret-{canary}",
        "REMOTE_IMAGE_NOTIFY_URL": f"https://owner.example.com/{canary}/done?key={canary}",
    }
    with ComfyUI(
        tmp_path_factory.mktemp("talkative"),
        environment=service_environment | keys,
        arguments=("--verbose", "DEBUG"),
        preloaded=True,
    ) as comfyui:
        yield comfyui


@pytest.fixture
def loud(talkative: ComfyUI, emulator: Emulator) -> ComfyUI:
    start_over(talkative, emulator)
    return talkative


@pytest.fixture
def canary(service_environment: dict[str, str]) -> str:
    return service_environment["HIDREAM_TOKEN"].removeprefix("token-")


def test_keys_are_told_nowhere(comfy: ComfyUI, emulator: Emulator, canary: str) -> None:
    prompt, _ = all_nodes(comfy)
    workflow = {"nodes": [{"id": 1, "type": "HiDreamAPIUpscale", "widgets_values": ["default", 2, 0]}]}
    result = comfy.run(prompt, workflow=workflow)
    chunks = [picture.info for picture in comfy.images(result)]
    assert len(chunks) == sum(len(paid.pictures) for paid in PAID.values())
    for chunk in chunks:
        assert json.loads(chunk["workflow"]) == workflow
        assert json.loads(chunk["prompt"])
    assert len(submits(emulator)) == len(PAID)
    check_no_key(comfy, result, canary)


def test_journal_and_side_cars_are_searched_for_keys(comfy: ComfyUI, canary: str) -> None:
    """They know the task and the prompt, and no key."""
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIImageToImage", images=graph.image(photo(48, 64)), prompt="a marked prompt")
    graph.save(node[0])
    result = comfy.run(graph.prompt)
    told = everything_told(comfy, result)
    [task] = tasks(comfy)
    folder = str(journal_folder(comfy))
    journal = "".join(told.get(f"{folder}/journal.sqlite3{suffix}", "") for suffix in ("", "-wal"))
    [side_car] = [text for path, text in told.items() if path.startswith(folder) and task["journal_id"] in path]
    for text in (journal, side_car, told["tasks"]):
        assert task["task_id"] in text
        assert "a marked prompt" in text
    check_no_key(comfy, result, canary)


def test_keys_are_told_nowhere_at_debug_level(loud: ComfyUI, emulator: Emulator, canary: str) -> None:
    """With an exchanged token, and a signature instead of a gateway."""
    prompt, _ = all_nodes(loud)
    result = loud.run(prompt)
    assert [request.endpoint for request in emulator.requests].count("token") == 1
    assert all(submit.headers.get("API-User-ID") == "user-17" for submit in submits(emulator, "upscale"))
    told = [submit.body["notify_url"] for submit in submits(emulator) if "notify_url" in submit.body]
    hidream = [paid for paid in PAID.values() if paid.vectors.endpoint.provider == "HiDream"]
    assert len(told) == len(hidream) and all(canary in url for url in told), "HiDream alone is told the owner's address"
    log = loud.log()
    assert "POST" in log, "the wire log is on"
    assert "sandbox-hidream-token-" not in log, "nor is the token that was exchanged for the key"
    check_no_key(loud, result, canary)


def test_the_wire_log_says_what_support_needs(loud: ComfyUI, emulator: Emulator) -> None:
    read = len(loud.log())
    prompt, _ = all_nodes(loud)
    loud.run(prompt)
    log = loud.log()[read:]
    for submit in submits(emulator):
        assert re.search(rf"POST http://127\.0\.0\.1:\d+{re.escape(submit.path)}\S* -> 200 \d+\.\d+s sent=\d+", log)
        if submit.task_id:
            assert submit.task_id in log
    assert re.search(r"GET \S+/results\S* -> 200 \d+\.\d+s .*received=\d+", log)
    assert not re.search(r"[A-Za-z0-9+/]{400}", log), "no image data"


ECHOES: list[Any] = [
    ("HiDreamAPIUpscale", {"status": 401, "json": {"code": 401, "message": "no such token: KEY"}}),
    ("HiDreamAPIUpscale", {"status": 400, "json": {"code": "KEY", "message": "?", "request_id": "r-KEY"}}),
    ("HiDreamAPIUpscale", {"status": 500, "json": {"code": 1, "message": "header Authorization: Bearer KEY"}}),
    ("HiDreamAPIUpscale", {"status": 400, "json": ["Bearer KEY"]}),
    ("VolcengineAPIOutpaint", {"status": 401, "json": {"error": {"message": "Bad key KEY"}}}),
    (
        "VolcengineAPIOutpaint",
        {"status": 403, "json": {"ResponseMetadata": {"RequestId": "KEY", "Error": {"Code": "KEY", "Message": "KEY"}}}},
    ),
]


@pytest.mark.parametrize(("class_type", "fault"), ECHOES)
@pytest.mark.parametrize("host", ["ordinary", "talkative"])
def test_a_key_that_the_service_echoes_is_masked(
    request: pytest.FixtureRequest,
    emulator: Emulator,
    canary: str,
    class_type: str,
    fault: dict[str, Any],
    host: str,
) -> None:
    comfy: ComfyUI = request.getfixturevalue({"ordinary": "comfy", "talkative": "loud"}[host])
    names = {
        ("HiDreamAPIUpscale", "ordinary"): "token",
        ("HiDreamAPIUpscale", "talkative"): "hidream",
        ("VolcengineAPIOutpaint", "ordinary"): "gateway",
        ("VolcengineAPIOutpaint", "talkative"): "gateway",
    }
    key = f"{names[class_type, host]}-{canary}"
    action = json.loads(json.dumps(fault).replace("KEY", key))
    emulator.add_fault({"phase": "submit", "times": None, "do": action})
    graph = Graph(comfy)
    graph.save(graph.add(class_type, image=graph.image(photo(48, 64)))[0])
    result = comfy.run(graph.prompt, expect="error")
    check_no_key(comfy, result, canary)


def test_no_log_has_the_query_of_a_result_url(loud: ComfyUI, emulator: Emulator) -> None:
    """It carries the signature by which anyone can fetch the picture; a log is sent around."""
    graph = Graph(loud)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(48, 64)))[0])
    loud.run(graph.prompt)
    (path,) = [record.path for record in emulator.requests if record.phase == "image"]
    signed = f"{emulator.url}{path}?X-Tos-Signature=s1gn4ture"
    emulator.add_fault({"phase": "result", "times": None, "do": {"url": signed}})
    graph.prompt["2"]["inputs"]["take"] = 1
    read = len(loud.log())
    loud.run(graph.prompt)
    assert "s1gn4ture" not in loud.log()[read:]


def test_a_key_echoed_by_a_failed_task_is_masked(comfy: ComfyUI, emulator: Emulator, canary: str) -> None:
    words = f"billing of token-{canary} failed"
    failure = {"task_id": "t", "sub_task_results": [{"sub_task_id": "s", "task_status": 3, "description": words}]}
    emulator.add_fault({"phase": "result", "do": {"json": {"code": 0, "message": "Success", "result": failure}}})
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(48, 64)))[0])
    result = comfy.run(graph.prompt, expect="error")
    assert "billing of *** failed" in result.error["exception_message"]
    check_no_key(comfy, result, canary)


def wait_in_vain(comfy: ComfyUI, emulator: Emulator, task_id: str) -> Result:
    """The service gives this id to a task; it is polled, and interrupted."""
    accepted = {"code": 0, "result": {"task_id": task_id, "sub_task_ids": [task_id]}}
    emulator.add_fault({"phase": "submit", "do": {"json": accepted}})
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(48, 64)))[0])
    start = comfy.events.count()
    prompt_id = comfy.queue(graph.prompt)
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    comfy.interrupt()
    result = comfy.wait(prompt_id, start=start)
    until_states(comfy, "parked")
    return result


@pytest.mark.thorough
def test_a_key_echoed_as_a_task_id_is_masked_but_where_the_task_is_kept(
    make_comfyui: Callable[..., ComfyUI], emulator: Emulator, canary: str
) -> None:
    """The journal and the task's side-car have the id as it came: it could not be asked for otherwise."""
    emulator.clear()
    comfy = make_comfyui()
    result = wait_in_vain(comfy, emulator, f"token-{canary}")
    assert result.status == "interrupted"
    folder = journal_folder(comfy)
    check_no_key(comfy, result, canary, but_for=(folder / "journal.sqlite3", folder / "store" / "tasks"))
    (polled,) = {record.task_id for record in emulator.requests if record.phase == "result"}
    assert polled == f"token-{canary}"


# ---- without a key


@pytest.fixture(scope="module")
def keyless_comfyui(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str], emulator: Emulator
) -> Iterator[ComfyUI]:
    """No key at all; the paid services' addresses lead to the emulator, which records who comes."""
    base = tmp_path_factory.mktemp("keyless")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(THREADS_PROBE, encoding="utf-8")
    emulator.clear()
    paid = dict.fromkeys(("HIDREAM_BASE_URL", "HIDREAM_EC_BASE_URL", "VOLCENGINE_BASE_URL"), emulator.url)
    keys = dict.fromkeys((name for name in service_environment if not name.endswith("BASE_URL")), "")
    environment = {**service_environment, **keys, **paid, "VOLCENGINE_GATEWAY_BASE_URL": ""}
    with ComfyUI(base, environment=environment) as comfyui:
        yield comfyui


def threads(comfy: ComfyUI, take: int) -> list[str]:
    graph = Graph(comfy)
    node = graph.add("TestThreads", take=take)
    return comfy.run(graph.prompt).texts(node.id)


def listening(pid: int) -> set[str]:
    """The local TCP ports that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            inodes.add(match[1])
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}


def files_of_the_pack(comfy: ComfyUI) -> list[str]:
    """In ComfyUI's user directory; the folder of the journal has what belongs there."""
    files = [path for path in (comfy.base / "user").rglob("*") if path.is_file() and "hidream" in str(path).lower()]
    folder = journal_folder(comfy)
    names = [str(path.relative_to(folder)) if folder in path.parents else str(path) for path in files]
    return [name for name in names if not re.match(r"journal\.(sqlite3|made)|store/([0-9a-f]{2}|tasks)/", name)]


def test_loading_the_pack_does_nothing(keyless_comfyui: ComfyUI, emulator: Emulator) -> None:
    comfy = keyless_comfyui
    comfy.object_info()
    assert emulator.requests == []
    assert [name for name in threads(comfy, 0) if "hidream" in name.lower() or "emulator" in name.lower()] == []
    assert len(listening(comfy.pid)) == 1, "its own port"
    assert not journal_folder(comfy).exists()
    assert files_of_the_pack(comfy) == []
    pack = comfy.base / "custom_nodes" / PACK_FOLDER
    shipped = {path.suffix for path in pack.rglob("*") if path.is_file()}
    assert not shipped & {".db", ".log", ".sqlite", ".json.tmp"}
    (loading,) = [line for line in comfy.log().splitlines() if line.endswith(PACK_FOLDER) and "seconds" in line]
    seconds = re.match(r"\s*([\d.]+) seconds", loading)
    assert seconds is not None
    assert float(seconds[1]) < 2
    assert "hidream_volcengine" not in comfy.log()


@pytest.mark.parametrize(
    ("class_type", "variables"),
    [
        ("HiDreamAPIUpscale", ["HIDREAM_TOKEN", "HIDREAM_API_KEY"]),
        ("VolcengineAPIOutpaint", ["VOLCENGINE_GATEWAY_API_KEY", "VOLCENGINE_ACCESS_KEY_ID"]),
    ],
)
def test_without_a_key_the_node_says_how_to_set_one(
    keyless_comfyui: ComfyUI, emulator: Emulator, class_type: str, variables: list[str]
) -> None:
    emulator.clear()
    graph = Graph(keyless_comfyui)
    graph.save(graph.add(class_type, image=graph.image(photo(48, 64)))[0])
    told = failed(keyless_comfyui, graph.prompt, "ConfigurationError")["exception_message"]
    for named in (*variables, "sandbox"):
        assert told.count(named) >= 2, "in both languages"
    assert emulator.requests == []


def test_the_sandbox_needs_no_key(keyless_comfyui: ComfyUI, emulator: Emulator) -> None:
    """All services from inside ComfyUI, one emulator for all, and nobody else is asked."""
    comfy = keyless_comfyui
    emulator.clear()
    prompt, numbers = all_nodes(comfy, profile="sandbox")
    result = comfy.run(prompt)
    assert len(comfy.images(result)) == sum(len(paid.pictures) for paid in PAID.values())
    assert set(numbers) <= set(result.outputs)
    assert emulator.requests == [], "the paid services' addresses"
    assert len(listening(comfy.pid)) == 2
    assert threads(comfy, 1).count("emulator") == 1
    assert {task["profile"] for task in tasks(comfy)} == {"sandbox"}
    assert files_of_the_pack(comfy) == []


def test_a_sandbox_task_is_fetched_again(keyless_comfyui: ComfyUI) -> None:
    comfy = keyless_comfyui
    read = len(comfy.log())
    graph = Graph(comfy)
    graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(48, 64, 5)), profile="sandbox")[0])
    comfy.run(graph.prompt)
    task = re.search(r"task_id=([\w-]+)", comfy.log()[read:])
    assert task is not None
    again = Graph(comfy)
    node = again.add("RemoteTaskResult", profile="sandbox", endpoint="hidream upscale", task_id=task[1])
    saved = again.save(node[0])
    assert [picture.size for picture in comfy.images(comfy.run(again.prompt), saved)] == [(96, 128)]


def test_the_sandbox_is_interrupted_too(keyless_comfyui: ComfyUI) -> None:
    comfy = keyless_comfyui
    graph = Graph(comfy)
    node = graph.add("VolcengineAPIOutpaint", image=graph.image(photo(48, 64, 6)), profile="sandbox")
    graph.save(node[0])
    start = comfy.events.count()
    prompt_id = comfy.queue(graph.prompt)
    comfy.events.wait_for(lambda event: event.type == "progress_text" and event.node == node.id, 10, start)
    comfy.interrupt()
    assert comfy.wait(prompt_id, start=start).status == "interrupted"
