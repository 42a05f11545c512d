"""For the tests about money: buying, counting what was bought, and reading and changing ComfyUI's journal."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from devtools.comfyui.host import ComfyUI, Prompt, Result
from emulator import Emulator
from tests.endpoints import PAID
from tests.host.prompts import Graph, Node, Pixels, Running, failed, photo, pixels, until

# ---- money


@contextmanager
def buys(emulator: Emulator, number: int) -> Iterator[None]:
    """Check that exactly so many submits are accepted within the block."""
    before = len(emulator.accepted)
    yield
    accepted = [record.endpoint for record in emulator.accepted[before:]]
    assert len(accepted) == number, accepted


@contextmanager
def sends_nothing(emulator: Emulator) -> Iterator[None]:
    """Check that no request reaches a service within the block, not even a poll."""
    before = len(emulator.requests)
    yield
    assert [(record.endpoint, record.phase) for record in emulator.requests[before:]] == []


def hold(emulator: Emulator, endpoint: str = "*") -> None:
    """Let every poll answer that the task is running, until :func:`mend`."""
    action = {"json": {"code": 10000, "data": {"status": "generating"}}} if endpoint == "cvsync2async" else None
    emulator.add_fault({"endpoint": endpoint, "phase": "result", "times": None, "do": action or {"task_status": [2]}})


def mend(emulator: Emulator) -> None:
    """Remove all faults; tasks and records stay."""
    emulator._faults.clear()


def most_at_once(emulator: Emulator) -> int:
    """Return the highest number of tasks at a time; a task counts from its submit to the download of its picture."""
    fetched_at = {record.task_id: record.started for record in emulator.requests if record.phase == "image"}
    tasks_of = emulator.accepted
    return max(
        sum(other.started <= task.started < fetched_at[other.task_id] for other in tasks_of) for task in tasks_of
    )


# To search for in the account of a run, as JSON.
REUSED = re.compile('"reused": [1-9]')
RESUMED = re.compile('"resumed": [1-9]')


# ---- the task list


def tasks(comfy: ComfyUI) -> list[dict[str, Any]]:
    """The journal as the task list shows it, newest first."""
    return comfy.request("GET", "/hidream_volcengine/tasks").json()["tasks"]


def states(comfy: ComfyUI) -> list[str]:
    return [task["state"] for task in tasks(comfy)]


def until_states(comfy: ComfyUI, *expected: str) -> list[dict[str, Any]]:
    """Wait until the journal has attempts in exactly these states, in any order."""
    try:
        until(lambda: sorted(states(comfy)) == sorted(expected), f"attempts that are {expected}")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {states(comfy)}") from None
    return tasks(comfy)


def start_over(comfy: ComfyUI, emulator: Emulator) -> None:
    """Empty ComfyUI's cache, the journal and the emulator's records."""
    comfy.forget_results()
    forget_purchases(comfy)
    emulator.clear()


def journal_folder(comfy: ComfyUI) -> Path:
    return comfy.base / "user" / "__hidream_volcengine"


_HELD = "SELECT 1 FROM attempts WHERE owner IS NOT NULL LIMIT 1"


def forget_purchases(comfy: ComfyUI) -> None:
    """Delete all purchases from the journal, so that no test reuses what an earlier one has bought."""
    journal = journal_folder(comfy) / "journal.sqlite3"
    if journal.exists():
        # Wait for attempts with an owner: a claim inserts a row again that it finds deleted.
        with suppress(AssertionError), closing(sqlite3.connect(journal, timeout=30)) as connection:
            until(lambda: not connection.execute(_HELD).fetchone(), "nobody works on a task", 5)
        tables = ("results", "attempts", "requests", "limits", "run_items")
        change_journal(comfy, *(f"DELETE FROM {table}" for table in tables))  # noqa: S608


@contextmanager
def collector_kept_away(comfy: ComfyUI) -> Iterator[None]:
    """Keep the background poller from parked tasks within the block: a trigger delays each new attempt's next poll."""
    tasks(comfy)  # the first request of the task list creates the journal
    late = "UPDATE attempts SET next_poll_at = 1e12 WHERE id = NEW.id"
    change_journal(comfy, f"CREATE TRIGGER kept_away AFTER INSERT ON attempts BEGIN {late}; END")
    try:
        yield
    finally:
        change_journal(comfy, "DROP TRIGGER IF EXISTS kept_away")


def let_the_collector_come(comfy: ComfyUI) -> None:
    """Make every parked task due for the background poller."""
    change_journal(comfy, "UPDATE attempts SET next_poll_at = 0")


def change_journal(comfy: ComfyUI, *statements: str) -> None:
    journal = journal_folder(comfy) / "journal.sqlite3"
    with closing(sqlite3.connect(journal, timeout=30)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


# ---- workflows of one remote node


class Bought:
    """A workflow of one remote node that saves its pictures, to be queued as often as a test likes."""

    def __init__(self, comfy: ComfyUI, class_type: str = "HiDreamAPIUpscale", *seeds: int, **widgets: Any) -> None:
        self._comfy = comfy
        self.graph = Graph(comfy)
        image = self.graph.image(*(photo(*PAID[class_type].photo, seed) for seed in seeds or (0,)))
        self.node: Node = self.graph.paid(class_type, image, **widgets)
        self.saved = self.graph.save(self.node[0])

    def run(self) -> list[Pixels]:
        """Queue it with ComfyUI's cache emptied; return its pictures."""
        self._comfy.forget_results()
        self.result: Result = self._comfy.run(self.graph.prompt)
        return [pixels(picture) for picture in self._comfy.images(self.result, self.saved)]

    def start(self) -> Running:
        self._comfy.forget_results()
        return Running(self._comfy, self.graph)

    def says(self, words: re.Pattern[str]) -> bool:
        """Whether an account of its last run matches."""
        return any(words.search(account) for account in self.result.accounts(self.node.id))


def same(first: list[Pixels], second: list[Pixels]) -> bool:
    return len(first) == len(second) and all((one == other).all() for one, other in zip(first, second, strict=True))


def together(*workflows: Bought) -> Prompt:
    """Return one prompt of several workflows; node ``2`` of the first one is ``0-2`` in it."""
    prompt: Prompt = {}
    for index, workflow in enumerate(workflows):
        for number, node in workflow.graph.prompt.items():
            inputs = {
                name: [f"{index}-{value[0]}", value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
            prompt[f"{index}-{number}"] = {**node, "inputs": inputs}
    return prompt


def explained(comfy: ComfyUI, workflow: Bought) -> list[str]:
    """Run a workflow whose request must be explained, not sent; return the error's text, [English, Chinese]."""
    told = failed(comfy, workflow.graph.prompt, "AmbiguousSubmitError")["exception_message"]
    english, chinese = told.strip().split("\n")
    assert english.startswith("Nothing was sent now (0 calls)"), english
    assert chinese.startswith("本次未发送任何请求（0 次调用）"), chinese
    return [english, chinese]


def fetched(comfy: ComfyUI, task_id: str, **widgets: str) -> list[Pixels]:
    graph = Graph(comfy)
    saved = graph.save(graph.add("RemoteTaskResult", task_id=task_id, **widgets)[0])
    comfy.forget_results()
    return [pixels(picture) for picture in comfy.images(comfy.run(graph.prompt), saved)]
