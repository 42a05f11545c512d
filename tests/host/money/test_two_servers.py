"""Two ComfyUI servers of a studio: one journal in PostgreSQL, one folder of pictures, one budget, one limiter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import (
    RESUMED,
    REUSED,
    Bought,
    buys,
    hold,
    journal_folder,
    mend,
    most_at_once,
    same,
    sends_nothing,
    tasks,
)
from tests.host.leaks import check_no_key
from tests.host.prompts import Running, failed, pixels, submits, until

if TYPE_CHECKING:
    from devtools.programs.postgres import PostgreSQL

A_DAY = 6


@dataclass(frozen=True)
class Studio:
    one: ComfyUI
    two: ComfyUI
    store: Path
    postgres: PostgreSQL
    url: str

    def start_over(self) -> None:
        """Nothing is cached or bought."""
        import psycopg

        for comfy in (self.one, self.two):
            if not comfy.is_running():
                comfy.start()
            comfy.forget_results()
        with psycopg.connect(self.url) as connection:
            for table in ("results", "attempts", "requests", "limits", "run_items"):
                if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,):
                    connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]  # noqa: S608


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str], postgres: PostgreSQL
) -> Iterator[Studio]:
    base = tmp_path_factory.mktemp("studio")
    url = postgres.new_database()
    environment = service_environment | {
        "REMOTE_IMAGE_JOURNAL_URL": url,
        "REMOTE_IMAGE_STORE_DIR": str(base / "store"),
        "REMOTE_IMAGE_PICTURES_PER_DAY": str(A_DAY),
        "REMOTE_IMAGE_HIDREAM_AT_ONCE": "",
    }
    # Everything that there is to log is searched for the password.
    loud = ("--verbose", "DEBUG")
    one, two = (
        ComfyUI(base / name, environment=environment, arguments=loud, preloaded=True) for name in ("one", "two")
    )
    try:
        with ThreadPoolExecutor(2) as side_by_side:
            list(side_by_side.map(ComfyUI.start, (one, two)))
        yield Studio(one, two, base / "store", postgres, url)
    finally:
        one.stop()
        two.stop()
        if not postgres.is_running():
            postgres.start()
        postgres.drop_database(url)


@pytest.fixture
def studio(servers: Studio, emulator: Emulator) -> Iterator[Studio]:
    if not servers.postgres.is_running():
        servers.postgres.start()
    servers.start_over()
    emulator.clear()
    yield servers
    # Whatever happened: the password is told by no server that still runs (logs, events, history), and by no file.
    check_no_key(servers.two, None, servers.postgres.password, servers.store, servers.one.base)


def waits(comfy: ComfyUI, workflow: Bought, running: Running) -> None:
    """The node knows that its picture is being made."""
    comfy.events.wait_for(
        lambda event: (
            event.type == "progress_text" and event.node == workflow.node.id and "生成中" in event.data["text"]
        ),
        15,
        running.start,
    )


def test_what_one_server_bought_is_the_others_too(studio: Studio, emulator: Emulator) -> None:
    with buys(emulator, 1):
        pictures = Bought(studio.one, "HiDreamAPIModelPhotoSet").run()
    again = Bought(studio.two, "HiDreamAPIModelPhotoSet")
    with sends_nothing(emulator):
        assert same(again.run(), pictures)
    assert again.says(REUSED)
    assert tasks(studio.one) == tasks(studio.two)
    [task] = tasks(studio.two)
    assert studio.two.request("GET", f"/hidream_volcengine/tasks/{task['journal_id']}/pictures/3").content
    for comfy in (studio.one, studio.two):
        assert not (journal_folder(comfy) / "journal.sqlite3").exists()
        assert not (journal_folder(comfy) / "store").exists()


@pytest.mark.parametrize("class_type", ["HiDreamAPIUpscale", "VolcengineAPIOutpaint"])
def test_the_same_workflow_on_both_at_once_is_bought_once(studio: Studio, emulator: Emulator, class_type: str) -> None:
    hold(emulator)
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "do": {"hang": 2}})
    workflows = [Bought(comfy, class_type) for comfy in (studio.one, studio.two)]
    runs = [workflow.start() for workflow in workflows]
    for comfy, workflow, running in zip((studio.one, studio.two), workflows, runs, strict=True):
        waits(comfy, workflow, running)
    mend(emulator)
    results = [running.end() for running in runs]
    assert [result.status for result in results] == ["success", "success"]
    assert len(submits(emulator)) == len(emulator.accepted) == 1
    [one], [two] = ([pixels(picture) for picture in comfy.images(result)]
                    for comfy, result in zip((studio.one, studio.two), results, strict=True))  # fmt: skip
    assert (one == two).all()


def test_there_is_one_limiter(studio: Studio, emulator: Emulator) -> None:
    """Six pictures on two servers are four tasks at once, not six."""
    hold(emulator)
    workflows = [Bought(studio.one, "HiDreamAPIUpscale", 1, 2, 3), Bought(studio.two, "HiDreamAPIUpscale", 4, 5, 6)]
    runs = [workflow.start() for workflow in workflows]
    polled = lambda: [record.task_id for record in emulator.requests if record.phase == "result"]  # noqa: E731
    until(lambda: sorted(map(polled().count, set(polled())))[-4:] >= [3] * 4, "three polls of each of four tasks")
    assert len(submits(emulator)) == 4
    mend(emulator)
    assert [running.end().status for running in runs] == ["success", "success"]
    assert len(emulator.accepted) == 6
    assert most_at_once(emulator) == 4


def test_there_is_one_budget(studio: Studio, emulator: Emulator) -> None:
    Bought(studio.one, "HiDreamAPIUpscale", 1, 2, 3, 4).run()
    with sends_nothing(emulator):
        told = failed(studio.two, Bought(studio.two, "HiDreamAPIUpscale", 5, 6, 7).graph.prompt, "QuotaError")
    assert "REMOTE_IMAGE_PICTURES_PER_DAY" in told["exception_message"]
    with buys(emulator, 2):
        Bought(studio.two, "HiDreamAPIUpscale", 5, 6).run()
    assert emulator.billed == A_DAY


def test_without_the_database_nothing_is_submitted(studio: Studio, emulator: Emulator) -> None:
    studio.postgres.kill()
    workflow = Bought(studio.two)
    told = failed(studio.two, workflow.graph.prompt, "JournalError")["exception_message"]
    assert "Billed: no" in told
    assert studio.two.request("GET", "/hidream_volcengine/tasks", check=False).status_code == 409
    assert emulator.requests == []
    studio.postgres.start()
    with buys(emulator, 1):
        workflow.run()


def test_a_server_is_killed_and_the_other_one_delivers(studio: Studio, emulator: Emulator) -> None:
    hold(emulator)
    running = Bought(studio.one, "HiDreamAPIModelPhotoSet").start()
    until(lambda: any(record.phase == "result" for record in emulator.requests), "a poll")
    studio.one.kill()
    del running
    [task] = tasks(studio.two)
    assert (task["state"], task["task_id"]) == ("submitted", emulator.accepted[0].task_id)
    mend(emulator)
    workflow = Bought(studio.two, "HiDreamAPIModelPhotoSet")
    assert len(workflow.run()) == 4
    assert workflow.says(RESUMED)
    assert len(submits(emulator)) == 1
    assert {record.task_id for record in emulator.requests if record.phase == "result"} == {task["task_id"]}
