"""A real ComfyUI killed with -9 in every state of a purchase, a journal that cannot be used, and one that is damaged.

One ComfyUI with several lives, always on the same base directory. Each start takes its time, so that states are struck
together where they can be.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import (
    RESUMED,
    REUSED,
    Bought,
    buys,
    explained,
    fetched,
    forget_purchases,
    hold,
    journal_folder,
    mend,
    most_at_once,
    same,
    sends_nothing,
    start_over,
    tasks,
    together,
    until_states,
)
from tests.host.prompts import Graph, failed, photo, submits, until

VOLCENGINE = ("VolcengineAPIOutpaint", "VolcengineAPIOutpaintCanvas")
NOTICE = "JOURNAL-WAS-DAMAGED.txt"


class Mortal:
    """A ComfyUI that is started again and again, each time with the variables that the test asks for."""

    def __init__(self, comfy: ComfyUI) -> None:
        self.comfy = comfy
        self._environment: dict[str, str] = {}

    def alive(self, **environment: str) -> ComfyUI:
        """Running, with these variables: started again if it is not."""
        if not self.comfy.is_running() or self._environment != environment:
            self.comfy.stop()
            self.comfy.set_environment(**environment)
            self._environment = environment
            self.comfy.start()
        return self.comfy


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[Mortal]:
    # The limiter as it is by default.
    environment = service_environment | {"REMOTE_IMAGE_HIDREAM_AT_ONCE": ""}
    comfy = ComfyUI(tmp_path_factory.mktemp("mortal"), environment=environment, preloaded=True)
    yield Mortal(comfy)
    comfy.stop()


def local_nodes_run(comfy: ComfyUI) -> bool:
    graph = Graph(comfy)
    saved = graph.save(graph.add("ImageInvert", image=graph.image(photo(16, 16)))[0])
    return len(comfy.images(comfy.run(graph.prompt), saved)) == 1


# ---- a folder that cannot be used


@pytest.fixture
def unusable_folder(mortal: Mortal) -> Iterator[Path]:
    """A file stands where the journal's folder should be; root could write into a read-only folder."""
    mortal.comfy.stop()  # the journal is opened by the first purchase of a life
    folder = journal_folder(mortal.comfy)
    aside = folder.with_name("aside")
    if folder.exists():
        folder.rename(aside)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("not a folder", encoding="utf-8")
    yield folder
    if folder.is_file():
        folder.unlink()
    if aside.exists():
        mortal.comfy.stop()
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


def test_without_a_journal_nothing_is_submitted(mortal: Mortal, emulator: Emulator, unusable_folder: Path) -> None:
    comfy = mortal.alive()
    emulator.clear()
    for class_type in ("HiDreamAPIUpscale", "VolcengineAPIOutpaint"):
        told = failed(comfy, Bought(comfy, class_type).graph.prompt, "JournalError")["exception_message"]
        assert told.count(str(unusable_folder)) >= 2, told
        assert "Billed: no" in told
    assert local_nodes_run(comfy)
    refused = comfy.request("GET", "/hidream_volcengine/tasks", check=False)
    assert refused.status_code == 409
    assert str(unusable_folder) in refused.json()["error"]["en"]
    assert emulator.requests == []
    unusable_folder.unlink()
    with buys(emulator, 1):
        Bought(comfy, "HiDreamAPIUpscale", 99).run()


# ---- the limiter


def test_eight_images_are_four_tasks_at_a_time(mortal: Mortal, emulator: Emulator) -> None:
    comfy = mortal.alive()
    start_over(comfy, emulator)
    hold(emulator)
    workflow = Bought(comfy, "HiDreamAPIUpscale", *range(8))
    running = workflow.start()
    polls = lambda: [record.task_id for record in emulator.requests if record.phase == "result"]  # noqa: E731
    until(lambda: sorted(map(polls().count, set(polls())))[-4:] >= [3] * 4, "three polls of each of four tasks")
    assert len(submits(emulator)) == 4
    mend(emulator)
    assert running.end().status == "success"
    assert len(emulator.accepted) == 8
    assert most_at_once(emulator) == 4


# ---- an ordinary restart


def test_after_a_restart_everything_is_where_it_was(mortal: Mortal, emulator: Emulator) -> None:
    """Also a task that runs when ComfyUI is told to end, which takes no longer than the grace of a submit."""
    comfy = mortal.alive()
    start_over(comfy, emulator)
    bought = {class_type: Bought(comfy, class_type).run() for class_type in ("HiDreamAPIOutpaint", *VOLCENGINE)}
    hold(emulator)
    Bought(comfy, "HiDreamAPIUpscale").start()
    until(lambda: has(emulator, "upscale", "result"), "a running task")
    begun = time.monotonic()
    comfy.stop(timeout=30)
    assert time.monotonic() - begun < 5
    mend(emulator)
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="0")
    assert sorted(task["state"] for task in tasks(comfy)) == ["delivered", "delivered", "delivered", "parked"]
    with buys(emulator, 0):
        resumed = Bought(comfy, "HiDreamAPIUpscale")
        assert len(resumed.run()) == 1
        assert resumed.says(RESUMED)
    with sends_nothing(emulator):
        for class_type, pictures in bought.items():
            again = Bought(comfy, class_type)
            assert same(again.run(), pictures)
            assert again.says(REUSED)


# ---- kill -9


BUSY = {"status": 429, "headers": {"Retry-After": "60"}}


def has(emulator: Emulator, endpoint: str, phase: str, **fields: Any) -> bool:
    return any(
        (record.endpoint, record.phase) == (endpoint, phase)
        and all(getattr(record, name) == value for name, value in fields.items())
        for record in emulator.requests
    )


@pytest.fixture(scope="module")
def killed(mortal: Mortal, emulator: Emulator) -> ComfyUI:
    """One prompt, whose nodes had come differently far when ComfyUI was killed."""
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="0")
    start_over(comfy, emulator)
    emulator.add_fault({"endpoint": "outpaint", "phase": "submit", "do": {"hang": 120}})
    hold(emulator, "upscale")
    emulator.add_fault({"endpoint": "variation", "phase": "image", "times": None, "do": {"hang": 120}})
    emulator.add_fault({"endpoint": "img2img", "phase": "submit", "times": None, "do": BUSY})
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"hang": 120}})
    nodes = ("HiDreamAPIOutpaint", "HiDreamAPIUpscale", "HiDreamAPIModelPhotoSet", "HiDreamAPIImageToImage")
    comfy.queue(together(*(Bought(comfy, class_type) for class_type in (*nodes, "VolcengineAPIOutpaint"))))
    until(lambda: has(emulator, "outpaint", "submit", accepted=True), "a submit without an answer")
    until(lambda: has(emulator, "upscale", "result"), "a running task")
    until(lambda: has(emulator, "variation", "image"), "a download")
    until(lambda: has(emulator, "img2img", "submit", status=429), "a refusal")
    until(lambda: has(emulator, "cvprocess", "submit", accepted=True), "a call without an answer")
    comfy.kill()
    mend(emulator)
    # The key of a request is the same, whichever way Volcengine is asked.
    return mortal.alive(VOLCENGINE_RESUMABLE="1")


class TestKilledInEveryState:
    @pytest.mark.parametrize(
        ("class_type", "endpoint", "named"),
        [
            ("HiDreamAPIOutpaint", "outpaint", "hidream outpaint"),
            ("VolcengineAPIOutpaint", "cvprocess", "volcengine outpaint"),
        ],
    )
    def test_while_an_answer_is_waited_for(
        self, killed: ComfyUI, emulator: Emulator, class_type: str, endpoint: str, named: str
    ) -> None:
        [submit] = submits(emulator, endpoint)
        with sends_nothing(emulator):
            told = explained(killed, Bought(killed, class_type))
        [task] = [task for task in tasks(killed) if (task["endpoint"], task["state"]) == (named, "ambiguous")]
        assert task["request_id"] == submit.request_id, "CVProcess is sent none"
        assert [words for words in told if submit.request_id not in words] == []
        with buys(emulator, 1):
            assert len(Bought(killed, class_type, take=1).run()) == 1

    @pytest.mark.parametrize(
        ("class_type", "endpoint", "pictures"),
        [("HiDreamAPIUpscale", "upscale", 1), ("HiDreamAPIModelPhotoSet", "variation", 4)],
        ids=["while a task runs", "while pictures are downloaded"],
    )
    def test_after_acceptance(
        self, killed: ComfyUI, emulator: Emulator, class_type: str, endpoint: str, pictures: int
    ) -> None:
        workflow = Bought(killed, class_type)
        assert len(workflow.run()) == pictures
        assert workflow.says(RESUMED)
        assert len(submits(emulator, endpoint)) == 1

    def test_before_anything_was_accepted(self, killed: ComfyUI, emulator: Emulator) -> None:
        refused = len(submits(emulator, "img2img"))
        with buys(emulator, 1):
            assert len(Bought(killed, "HiDreamAPIImageToImage").run()) == 1
        assert len(submits(emulator, "img2img")) == refused + 1


@pytest.fixture(scope="module")
def killed_at_once(mortal: Mortal, emulator: Emulator) -> ComfyUI:
    """The picture of one node was just saved when ComfyUI was killed; a resumable task ran, and one of the sandbox."""
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="1")
    start_over(comfy, emulator)
    hold(emulator, "cvsync2async")
    workflows = (resumable(comfy), Bought(comfy), Bought(comfy, profile="sandbox"))
    start = comfy.events.count()
    comfy.queue(together(*workflows))
    until(lambda: has(emulator, "cvsync2async", "result"), "a running task")
    comfy.events.wait_for(lambda event: event.type == "executed" and event.node == "1-3", 15, start)
    comfy.kill()
    mend(emulator)
    return mortal.alive(VOLCENGINE_RESUMABLE="1")


def resumable(comfy: ComfyUI) -> Bought:
    return Bought(comfy, "VolcengineAPIOutpaintCanvas", 5)


class TestKilledAsSoonAsAPictureIsThere:
    def test_the_picture_is_reused(self, killed_at_once: ComfyUI, emulator: Emulator) -> None:
        workflow = Bought(killed_at_once)
        before = len(submits(emulator, "upscale"))
        assert len(workflow.run()) == 1
        assert workflow.says(REUSED)
        assert len(submits(emulator, "upscale")) == before == 1

    def test_the_resumable_task_is_resumed(self, killed_at_once: ComfyUI, emulator: Emulator) -> None:
        workflow = resumable(killed_at_once)
        pictures = workflow.run()
        assert len(pictures) == 1
        assert workflow.says(RESUMED)
        assert len(submits(emulator, "cvsync2async")) == 1
        assert submits(emulator, "cvprocess") == []
        with sends_nothing(emulator):
            assert same(workflow.run(), pictures)

    def test_a_sandbox_task_is_made_again(self, killed_at_once: ComfyUI) -> None:
        """Its emulator is gone with its tasks, and nothing was paid."""
        assert len(Bought(killed_at_once, profile="sandbox").run()) == 1


def test_an_interrupted_resumable_task_is_resumed(mortal: Mortal, emulator: Emulator) -> None:
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="1")
    start_over(comfy, emulator)
    hold(emulator, "cvsync2async")
    workflow = Bought(comfy, "VolcengineAPIOutpaint", 1, 2)
    running = workflow.start()
    until(lambda: len({record.task_id for record in emulator.requests if record.phase == "result"}) == 2, "two tasks")
    running.interrupt()
    until_states(comfy, "parked", "parked")
    mend(emulator)
    assert len(workflow.run()) == 2
    assert workflow.says(RESUMED)
    assert len(submits(emulator)) == 2


def test_a_resumable_task_is_fetched_by_either_id(mortal: Mortal, emulator: Emulator) -> None:
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="1")
    start_over(comfy, emulator)
    bought = Bought(comfy, "VolcengineAPIOutpaint").run()
    [task] = tasks(comfy)
    with sends_nothing(emulator):
        assert same(fetched(comfy, task["journal_id"]), bought)
        assert same(fetched(comfy, task["task_id"], endpoint="volcengine outpaint"), bought)
    forget_purchases(comfy)
    with buys(emulator, 0):
        assert same(fetched(comfy, task["task_id"], endpoint="volcengine outpaint"), bought)


# ---- a damaged journal


def test_a_damaged_journal_stops_purchases_until_it_is_acknowledged(mortal: Mortal, emulator: Emulator) -> None:
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="1")
    start_over(comfy, emulator)
    # Side-cars of every earlier test come back, so these are purchases of its own.
    nodes = ("HiDreamAPIUpscale", "HiDreamAPIOutpaint", "VolcengineAPIOutpaint")
    bought = {class_type: Bought(comfy, class_type, take=70).run() for class_type in nodes}
    comfy.stop()
    folder = journal_folder(comfy)
    (folder / "journal.sqlite3").write_bytes(b"What somebody else's program wrote here. " * 1000)
    comfy = mortal.alive(VOLCENGINE_RESUMABLE="1")
    notice = folder / NOTICE
    new = Bought(comfy, "HiDreamAPIUpscale", take=71)
    with sends_nothing(emulator):
        for workflow in (new, *(Bought(comfy, class_type, take=70) for class_type in nodes)):
            told = failed(comfy, workflow.graph.prompt, "JournalError")["exception_message"]
            assert told.count(str(notice)) >= 2, told
            assert "Billed: no" in told
        assert local_nodes_run(comfy)
    assert str(next(folder.glob("journal.damaged-*.sqlite3"))) in notice.read_text(encoding="utf-8")
    assert {task["state"] for task in tasks(comfy)} == {"stored"}, "what the side-cars know"
    notice.unlink()
    with sends_nothing(emulator):
        for class_type, pictures in bought.items():
            again = Bought(comfy, class_type, take=70)
            assert same(again.run(), pictures)
            assert again.says(REUSED)
    with buys(emulator, 1):
        assert len(new.run()) == 1
    notice.write_text("again", encoding="utf-8")
    failed(comfy, Bought(comfy, "HiDreamAPIUpscale", take=72).graph.prompt, "JournalError")
    token = comfy.request("GET", "/hidream_volcengine/session").json()["token"]
    comfy.request("POST", "/hidream_volcengine/journal/acknowledge", json={}, headers={"X-Remote-Image-Token": token})
    assert not notice.exists()
    with buys(emulator, 1):
        Bought(comfy, "HiDreamAPIUpscale", take=72).run()
