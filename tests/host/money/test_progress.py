"""The progress events of a waiting node (nodes/comfy/display.py), which go to the client that queued the prompt."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from devtools.comfyui.events import Event, EventStream
from devtools.comfyui.host import ComfyUI, Result
from emulator import Emulator
from tests.host.buying import Bought, hold, mend, until_states
from tests.host.prompts import Graph, Node, Running, failed, photo, remote, submits, until

PROGRESS = "hidream_volcengine.progress"


def told(result: Result, node: Node) -> list[dict[str, Any]]:
    """The events of one node, in order."""
    return [event.data for event in result.of_type(PROGRESS) if event.node == node.id]


def mapped(comfy: ComfyUI, class_type: str = "HiDreamAPIUpscale", count: int = 4) -> tuple[Graph, Node]:
    """A node that ComfyUI executes once for each item of a list."""
    graph = Graph(comfy)
    batch = graph.image(*(photo(32, 32, seed) for seed in range(count)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    node = graph.add(class_type, image=listed[0])
    graph.save(node[0])
    return graph, node


def previews_on_disk(comfy: ComfyUI) -> set[Path]:
    return set((comfy.base / "temp").glob("progress_*"))


def test_a_batch_from_its_begin_to_its_end(comfy: ComfyUI, emulator: Emulator) -> None:
    workflow = Bought(comfy, "HiDreamAPIUpscale", 1, 2)
    workflow.run()
    events = told(workflow.result, workflow.node)
    assert {event["prompt_id"] for event in events} == {workflow.result.prompt_id}
    assert {event["display_node"] for event in events} == {workflow.node.id}
    assert {event["total"] for event in events} == {2}
    assert {event["buys"] for event in events} == {2}
    done = [event["done"] for event in events]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 2)
    ends = [event["end"] for event in events]
    assert ends == sorted(ends) and set(ends) == {"", "done"}
    assert events[-1]["stage"] == {"en": "done", "zh": "完成"}
    assert events[-1]["share"] == 1.0


def test_a_list_is_one_node(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"delay": 0.5}})
    graph, node = mapped(comfy)
    result = comfy.run(graph.prompt)
    events = told(result, node)
    assert (events[-1]["done"], events[-1]["total"], events[-1]["buys"]) == (4, 4, 4)
    # All of them are known before the first one is there; nothing starts anew with each.
    assert {event["total"] for event in events if event["done"]} == {4}
    elapsed = [event["elapsed"] for event in events]
    assert elapsed == sorted(elapsed)
    words = [event.data["text"] for event in result.of_type("progress_text") if event.node == node.id]
    assert words[-1].startswith("4/4 · done")
    states = [event.data["nodes"].get(node.id, {}) for event in result.of_type("progress_state")]
    assert [(state["value"], state["max"]) for state in states if state][-1] == (4.0, 4.0)


def test_what_is_reused_is_told(comfy: ComfyUI, emulator: Emulator) -> None:
    Bought(comfy, "HiDreamAPIUpscale", 1).run()
    both = Bought(comfy, "HiDreamAPIUpscale", 1, 2)
    both.run()
    last = told(both.result, both.node)[-1]
    assert (last["reused"], last["buys"], last["done"], last["total"]) == (1, 1, 2, 2)


def test_finished_pictures_are_shown_while_the_rest_is_made(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "image", "do": {"delay": 2}})
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIUpscale", image=graph.image(photo(300, 200), photo(300, 200, 1)))
    graph.save(node[0])
    events = told(comfy.run(graph.prompt), node)
    (shown,) = next(event["previews"] for event in events if event["previews"] and event["done"] < event["total"])
    served = comfy.request("GET", "/view", params=shown).content
    with Image.open(io.BytesIO(served)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (256, 171))


def test_so_is_a_set(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "variation", "phase": "image", "do": {"delay": 1}})
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(300, 400)))
    graph.save(node[0])
    events = told(comfy.run(graph.prompt), node)
    assert (events[-1]["done"], events[-1]["total"]) == (4, 4)
    assert {event["total"] for event in events if event["stage"]["en"] == "downloading"} == {4}


def test_an_interrupt_is_the_end_of_it(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    graph, _ = mapped(comfy)
    running = Running(comfy, graph)
    until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == 4, "four tasks polled")
    running.interrupt()
    until_states(comfy, *["parked"] * 4)
    # What the workers still say is heard by nobody: another prompt's events would come after it.
    emulator.clear()
    comfy.run(remote_graph(comfy, 9).prompt)
    events = [event.data for event in comfy.events.since(running.start) if event.type == PROGRESS]
    mine = [event for event in events if event["prompt_id"] == running.prompt_id and event["end"] != "left"]
    assert [event["end"] for event in mine] == [""] * (len(mine) - 1) + ["stopped"]
    assert (mine[-1]["parked"], mine[-1]["done"]) == (4, 0)
    assert events.index(mine[-1]) == len(mine) - 1


def remote_graph(comfy: ComfyUI, seed: int) -> Graph:
    graph = Graph(comfy)
    remote(graph, seed=seed)
    return graph


def test_a_siblings_error_is_the_end_of_it_and_starts_nothing_anew(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "outpaint", "phase": "submit", "do": {"never": True}})
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"delay": 1.5, "status": 402}})
    graph = Graph(comfy)
    cancelled = remote(graph, "HiDreamAPIOutpaint")
    remote(graph, "HiDreamAPIUpscale", 1)
    running = Running(comfy, graph)
    result = running.end()
    assert result.status == "error"
    final = comfy.events.wait_for(
        lambda event: event.type == PROGRESS and event.node == cancelled.id and event.data["end"] != "",
        10,
        running.start,
    )
    assert final.data["end"] == "stopped"
    # The frontend has cleared the node by then.
    since = [event for event in comfy.events.since(running.start) if event.at > result.events[-1].at]
    assert {event.type for event in since} & {"progress_state", "progress_text"} == set()


def test_two_prompts_do_not_mix(comfy: ComfyUI, emulator: Emulator) -> None:
    workflow = Bought(comfy, "HiDreamAPIUpscale", 1, 2)
    workflow.run()
    first = told(workflow.result, workflow.node)
    other = Bought(comfy, "HiDreamAPIUpscale", 3)
    assert other.node.id != workflow.node.id
    other.graph.prompt[workflow.node.id], other.node = other.graph.prompt.pop(other.node.id), workflow.node
    other.graph.prompt[other.saved]["inputs"]["images"] = other.node[0]
    comfy.forget_results()
    second = told(comfy.run(other.graph.prompt), other.node)
    assert {event["prompt_id"] for event in first}.isdisjoint({event["prompt_id"] for event in second})
    assert {event["total"] for event in second} == {1}
    assert (second[0]["done"], second[-1]["done"]) == (0, 1)


def test_nobody_else_is_told(comfy: ComfyUI, emulator: Emulator) -> None:
    stranger = EventStream(f"{comfy.url}/ws?clientId={uuid.uuid4().hex}")
    stranger.open()
    try:
        before = previews_on_disk(comfy)
        start = comfy.events.count()
        Bought(comfy, "HiDreamAPIUpscale", 1, 2).run()
        # One that is queued without a client, as scripts do, tells nobody at all and draws nothing.
        drawn = previews_on_disk(comfy)
        graph = remote_graph(comfy, 7)
        queued = stranger.count()
        prompt_id = comfy.request("POST", "/prompt", json={"prompt": graph.prompt}).json()["prompt_id"]
        until(lambda: comfy.request("GET", f"/history/{prompt_id}").json().get(prompt_id), "the end", 60)
        stranger.wait_for(is_idle, 10, queued)
        mine = [event for event in comfy.events.since(start) if event.type == PROGRESS]
        assert mine
        assert prompt_id not in {event.data["prompt_id"] for event in mine}
        assert [event.type for event in stranger.since(0) if event.type == PROGRESS] == []
        assert previews_on_disk(comfy) == drawn >= before
    finally:
        stranger.close()


def is_idle(event: Event) -> bool:
    return event.type == "status" and event.data.get("status", {}).get("exec_info", {}).get("queue_remaining") == 0


def test_a_slow_local_node_beside_it_does_not_end_it(comfy: ComfyUI, emulator: Emulator) -> None:
    """Local nodes keep ComfyUI's loop to themselves; the state comes again when it is free."""
    emulator.add_fault({"phase": "submit", "times": None, "do": {"delay": 1.0}})
    graph = Graph(comfy)
    node = remote(graph)
    large = graph.add("ImageScale", image=graph.image(photo(64, 64, 5)), upscale_method="lanczos",
                      width=3000, height=3000, crop="disabled")  # fmt: skip
    graph.save(large[0])
    result = comfy.run(graph.prompt)
    assert told(result, node)[-1]["end"] == "done"
    assert len(submits(emulator)) == 1


# ---- the account, and what an interrupt leaves


@pytest.mark.parametrize("profile", ["default", "sandbox"])
def test_a_run_ends_with_its_account(profile: str, comfy: ComfyUI, emulator: Emulator) -> None:
    graph, node = mapped(comfy, count=2)
    graph.prompt[node.id]["inputs"]["profile"] = profile
    accounts = [json.loads(account) for account in comfy.run(graph.prompt).accounts(node.id)]
    assert [account["bought"] for account in accounts] == [1, 1]
    assert [account["free"] for account in accounts] == [profile == "sandbox"] * 2
    assert all(account["seconds"] > 0 for account in accounts)
    comfy.forget_results()
    accounts = [json.loads(account) for account in comfy.run(graph.prompt).accounts(node.id)]
    assert [(account["bought"], account["reused"]) for account in accounts] == [(0, 1), (0, 1)]


def left_of(comfy: ComfyUI, prompt_id: str, node: Node, start: int) -> dict[str, int]:
    """The last word about an interrupted node: the sum of its calls is known."""

    def is_it(event: Event) -> bool:
        about = event.type == PROGRESS and event.node == node.id and event.data["prompt_id"] == prompt_id
        return about and event.data["end"] == "left" and sum(event.data["left"].values()) == 4

    left: dict[str, int] = comfy.events.wait_for(is_it, 10, start).data["left"]
    return left


@pytest.mark.parametrize("service", ["HiDreamAPIUpscale", "VolcengineAPIOutpaint"])
def test_an_interrupt_before_any_answer_tells_the_truth(service: str, comfy: ComfyUI, emulator: Emulator) -> None:
    """Before the first task id nothing is known by then; the journal knows it once the threads have their answers."""
    emulator.add_fault({"phase": "submit", "times": None, "do": {"hang": 1.0}})
    graph, node = mapped(comfy, service)
    start = comfy.events.count()
    prompt_id = comfy.queue(graph.prompt)
    until(lambda: len(submits(emulator)) == 4, "four submits")
    comfy.interrupt()
    assert comfy.wait(prompt_id, start=start).status == "interrupted"
    left = left_of(comfy, prompt_id, node, start)
    assert left == {"accepted": 4, "sending": 0, "unclear": 0, "failed": 0, "unsent": 0}
    assert emulator.billed == 4
    mend(emulator)
    comfy.run(graph.prompt)
    assert emulator.billed == 4, "queueing again is free, as it says"


def test_an_interrupt_of_unclear_and_unsent_calls_tells_the_truth(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": 1, "do": {"hang": 0.5, "status": 502, "accept": True}})
    emulator.add_fault({"phase": "submit", "times": None, "do": {"status": 429, "headers": {"Retry-After": "60"}}})
    graph, node = mapped(comfy)
    start = comfy.events.count()
    prompt_id = comfy.queue(graph.prompt)
    until(lambda: len(submits(emulator)) == 4, "four submits")
    comfy.interrupt()
    comfy.wait(prompt_id, start=start)
    left = left_of(comfy, prompt_id, node, start)
    assert (left["unclear"], left["unsent"], left["accepted"]) == (1, 3, 0)


def test_an_exception_is_in_the_language_of_the_only_user(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"status": 500}})
    told = {}
    try:
        for take, locale in enumerate(("en", "zh", "zh-TW")):
            comfy.request("POST", "/settings", json={"Comfy.Locale": locale})
            graph = Graph(comfy)
            graph.save(graph.add("HiDreamAPIUpscale", image=graph.image(photo(48, 64)), take=take)[0])
            told[locale] = comfy.run(graph.prompt, expect="error").error["exception_message"]
    finally:
        (comfy.base / "user" / "default" / "comfy.settings.json").unlink()
    assert "Billed: unknown" in told["en"] and "是否计费" not in told["en"]
    for locale in ("zh", "zh-TW"):
        assert "是否计费：未知" in told[locale] and "Billed" not in told[locale]
    assert not any("`" in text for text in told.values())
    graph.prompt["2"]["inputs"]["take"] = 9
    both = failed(comfy, graph.prompt, "AmbiguousSubmitError")["exception_message"]
    assert "Billed: unknown" in both and "是否计费：未知" in both and "`" not in both
