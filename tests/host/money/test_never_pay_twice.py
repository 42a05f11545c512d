"""The same workflow queued again: reused, resumed, joined or explained, and never bought a second time by itself."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.endpoints import PAID
from tests.host.buying import (
    RESUMED,
    REUSED,
    Bought,
    buys,
    change_journal,
    explained,
    fetched,
    forget_purchases,
    hold,
    journal_folder,
    let_the_collector_come,
    mend,
    same,
    sends_nothing,
    tasks,
    together,
    until_states,
)
from tests.host.prompts import Graph, Pixels, failed, pixels, submits, until

# ---- finished before


def test_finished_workflows_are_reused(comfy: ComfyUI, emulator: Emulator) -> None:
    """Of every remote node, all in one prompt."""
    workflows = [Bought(comfy, class_type) for class_type in PAID]

    def run() -> tuple[list[Pixels], list[bool]]:
        comfy.forget_results()
        result = comfy.run(together(*workflows))
        pictures, reused = [], []
        for index, workflow in enumerate(workflows):
            pictures += [pixels(picture) for picture in comfy.images(result, f"{index}-{workflow.saved}")]
            reused.append(any(REUSED.search(text) for text in result.accounts(f"{index}-{workflow.node.id}")))
        return pictures, reused

    with buys(emulator, len(PAID)):
        first, reused = run()
    assert len(first) == emulator.billed == sum(len(paid.pictures) for paid in PAID.values())
    assert reused == [False] * len(PAID)
    with sends_nothing(emulator):
        again, reused = run()
    assert same(first, again)
    assert reused == [True] * len(PAID)
    assert {task["state"] for task in tasks(comfy)} == {"delivered"}


def delete_rows(comfy: ComfyUI, older: Path) -> None:
    change_journal(comfy, *(f"DELETE FROM {table}" for table in ("results", "attempts", "requests")))  # noqa: S608


def restore_an_older_copy(comfy: ComfyUI, older: Path) -> None:
    copy_journal(older, journal_folder(comfy) / "journal.sqlite3")


def put_an_older_file_there(comfy: ComfyUI, older: Path) -> None:
    delete_its_files(comfy, older)
    shutil.copyfile(older, journal_folder(comfy) / "journal.sqlite3")


def delete_its_files(comfy: ComfyUI, older: Path) -> None:
    for path in journal_folder(comfy).glob("journal.sqlite3*"):
        path.unlink()


def copy_journal(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target, timeout=30)) as other:
        one.backup(other)


@pytest.mark.parametrize("lose", [delete_rows, restore_an_older_copy, put_an_older_file_there, delete_its_files])
def test_a_journal_that_is_lost_while_a_task_is_waited_for(
    lose: Callable[[ComfyUI, Path], None], comfy: ComfyUI, emulator: Emulator, tmp_path: Path
) -> None:
    Bought(comfy, "HiDreamAPIUpscale", 7).run()
    emulator.clear()
    older = tmp_path / "older.sqlite3"
    copy_journal(journal_folder(comfy) / "journal.sqlite3", older)
    hold(emulator)
    workflow = Bought(comfy)
    running = workflow.start()
    until(lambda: [record for record in emulator.requests if record.phase == "result"], "a poll")
    lose(comfy, older)
    mend(emulator)
    assert running.end().status == "success"
    assert len(emulator.accepted) == 1
    # Whoever notices that something may be missing buys nothing before the owner knows.
    notice = journal_folder(comfy) / "JOURNAL-WAS-DAMAGED.txt"
    assert notice.exists() == (lose is not delete_rows)
    notice.unlink(missing_ok=True)
    with sends_nothing(emulator):
        assert len(workflow.run()) == 1


def test_another_take_is_another_picture(comfy: ComfyUI, emulator: Emulator) -> None:
    with buys(emulator, 2):
        one, two = (Bought(comfy, "HiDreamAPIOutpaint", canvas_width=128, take=take) for take in (0, 1))
        first = one.run()
        assert not same(first, two.run())
    with sends_nothing(emulator):
        assert same(first, one.run())


def test_a_batch_in_another_order_buys_nothing(comfy: ComfyUI, emulator: Emulator) -> None:
    with buys(emulator, 3):
        a, b, c = Bought(comfy, "HiDreamAPIUpscale", 1, 2, 3).run()
    with sends_nothing(emulator):
        assert same(Bought(comfy, "HiDreamAPIUpscale", 3, 1).run(), [c, a])
    with buys(emulator, 1):
        more = Bought(comfy, "HiDreamAPIUpscale", 2, 4, 1)
        came = more.run()
    assert same([came[0], came[2]], [b, a])
    [account] = map(json.loads, more.result.accounts(more.node.id))
    assert (account["bought"], account["resumed"], account["reused"]) == (1, 0, 2)


# ---- interrupted


def test_an_interrupted_task_is_resumed(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    workflow = Bought(comfy, "HiDreamAPIModelPhotoSet")
    running = workflow.start()
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    running.interrupt()
    until_states(comfy, "parked")
    mend(emulator)
    pictures = workflow.run()
    assert len(pictures) == 4 == emulator.billed
    assert workflow.says(RESUMED)
    assert len(emulator.accepted) == len(submits(emulator)) == 1
    with sends_nothing(emulator):
        assert same(workflow.run(), pictures)


def test_a_call_that_goes_on_after_the_interrupt_is_joined(comfy: ComfyUI, emulator: Emulator) -> None:
    """CVProcess answers in the same call: the thread waits for it, and the workflow queued again for the thread."""
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"hang": 2.5}})
    workflow = Bought(comfy, "VolcengineAPIOutpaint")
    running = workflow.start()
    until(lambda: emulator.accepted, "the acceptance")
    running.interrupt()
    assert [task["state"] for task in tasks(comfy)] == ["submitting"]
    assert len(workflow.run()) == 1
    assert len(submits(emulator)) == 1
    assert workflow.says(REUSED)


def test_a_call_that_ended_after_the_interrupt_is_reused(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"hang": 1}})
    workflow = Bought(comfy, "VolcengineAPIOutpaint")
    running = workflow.start()
    until(lambda: emulator.accepted, "the acceptance")
    running.interrupt()
    until_states(comfy, "stored")
    with sends_nothing(emulator):
        assert len(workflow.run()) == 1
    assert workflow.says(REUSED)


def test_what_is_left_of_an_interrupted_batch(comfy: ComfyUI, emulator: Emulator) -> None:
    """One picture is here, one is on its way, one was not accepted: only the last one is bought."""
    busy = {"status": 429, "headers": {"Retry-After": "60"}}
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": 2, "times": None, "do": busy})
    emulator.add_fault({"endpoint": "upscale", "phase": "image", "skip": 1, "times": None, "do": {"hang": 60}})
    workflow = Bought(comfy, "HiDreamAPIUpscale", 1, 2, 3)
    running = workflow.start()
    until(lambda: sorted(task["stored"] for task in tasks(comfy)) == [0, 0, 1], "the first picture")
    until(lambda: any(submit.status == 429 for submit in submits(emulator)), "the refusal")
    running.interrupt()
    until_states(comfy, "stored", "parked", "cancelled")
    mend(emulator)
    with buys(emulator, 1):
        pictures = workflow.run()
    assert len(pictures) == 3 == emulator.billed
    assert workflow.says(REUSED)
    assert workflow.says(RESUMED)
    with sends_nothing(emulator):
        assert same(workflow.run(), pictures)


def test_nobody_asks_again_and_the_collector_fetches_it(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    workflow = Bought(comfy, "HiDreamAPIOutpaint", canvas_width=128, canvas_height=128)
    running = workflow.start()
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    running.interrupt()
    mend(emulator)
    let_the_collector_come(comfy)
    until(lambda: [task["state"] for task in tasks(comfy)] == ["stored"], "the collector", timeout=45)
    with sends_nothing(emulator):
        assert len(workflow.run()) == 1
    assert workflow.says(REUSED)
    assert len(submits(emulator)) == 1


# ---- explained


@pytest.mark.parametrize("class_type", ["HiDreamAPIUpscale", "VolcengineAPIOutpaint"])
def test_an_ambiguous_submit_is_explained_and_not_repeated(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    emulator.add_fault({"phase": "submit", "do": {"reset": "after"}})
    workflow = Bought(comfy, class_type)
    failed(comfy, workflow.graph.prompt, "AmbiguousSubmitError")
    [task] = tasks(comfy)
    with sends_nothing(emulator):
        english, chinese = explained(comfy, workflow)
    for told in (english, chinese):
        assert task["request_id"] in told
        assert "take" in told
    workflow.graph.prompt[workflow.node.id]["inputs"]["take"] = 1
    with buys(emulator, 1):
        assert len(workflow.run()) == 1


def test_a_failed_task_is_explained_and_not_bought_again(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"task_status": [3]}})
    workflow = Bought(comfy)
    failed(comfy, workflow.graph.prompt, "TaskFailedError")
    with sends_nothing(emulator):
        told = failed(comfy, workflow.graph.prompt, "TaskFailedError")["exception_message"]
    assert told.count(emulator.accepted[0].task_id) == 2, told
    assert "(0 calls)" in told


def test_a_refused_request_is_sent_again(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "do": {"status": 401}})
    workflow = Bought(comfy)
    failed(comfy, workflow.graph.prompt, "AuthenticationError")
    with buys(emulator, 1):
        assert len(workflow.run()) == 1


# ---- fetched by an id


@pytest.mark.parametrize("class_type", ["HiDreamAPIModelPhotoSet", "VolcengineAPIOutpaint"])
def test_a_journal_id_brings_the_pictures_from_the_store(comfy: ComfyUI, emulator: Emulator, class_type: str) -> None:
    """Whatever the endpoint widget says."""
    Bought(comfy, class_type).run()
    [task] = tasks(comfy)
    with sends_nothing(emulator):
        came = fetched(comfy, task["journal_id"])
    assert len(came) == task["stored"] == emulator.billed


def test_the_services_own_id_brings_the_stored_pictures(comfy: ComfyUI, emulator: Emulator) -> None:
    bought = Bought(comfy).run()
    [task] = tasks(comfy)
    with sends_nothing(emulator):
        assert same(fetched(comfy, task["task_id"], endpoint="hidream upscale"), bought)
    assert len(tasks(comfy)) == 1


def test_a_task_that_the_journal_does_not_know(comfy: ComfyUI, emulator: Emulator) -> None:
    """Bought on another server, say: fetched once, and from the store from then on."""
    bought = Bought(comfy).run()
    task_id = emulator.accepted[0].task_id
    forget_purchases(comfy)
    with buys(emulator, 0):
        assert same(fetched(comfy, task_id, endpoint="hidream upscale"), bought)
    [task] = tasks(comfy)
    assert (task["task_id"], task["pictures"], task["stored"]) == (task_id, 0, 1)
    with sends_nothing(emulator):
        assert same(fetched(comfy, task_id, endpoint="hidream upscale"), bought)
        assert same(fetched(comfy, task["journal_id"]), bought)


def test_an_interrupted_task_is_fetched_by_its_journal_id(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    workflow = Bought(comfy, "HiDreamAPIImageToImage", img_count=2)
    running = workflow.start()
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    running.interrupt()
    [task] = until_states(comfy, "parked")
    mend(emulator)
    with buys(emulator, 0):
        came = fetched(comfy, task["journal_id"])
    assert len(came) == 2
    with sends_nothing(emulator):
        assert same(workflow.run(), came)


def test_a_journal_id_that_nobody_knows(comfy: ComfyUI, emulator: Emulator) -> None:
    graph = Graph(comfy)
    graph.save(graph.add("RemoteTaskResult", task_id="rv-0123456789abcdef")[0])
    told = failed(comfy, graph.prompt, "InvalidInputError")["exception_message"]
    assert told.count("rv-0123456789abcdef") >= 2
    assert emulator.requests == []


def test_a_task_of_an_endpoint_that_a_later_version_brought(comfy: ComfyUI, emulator: Emulator) -> None:
    hold(emulator)
    running = Bought(comfy, "HiDreamAPIUpscale").start()
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    running.interrupt()
    [task] = until_states(comfy, "parked")
    change_journal(comfy, "UPDATE attempts SET endpoint = 'hidream video'")
    graph = Graph(comfy)
    graph.save(graph.add("RemoteTaskResult", task_id=task["journal_id"])[0])
    told = failed(comfy, graph.prompt, "ConfigurationError")["exception_message"]
    assert "no endpoint 'hidream video'" in told and "不支持端点" in told
