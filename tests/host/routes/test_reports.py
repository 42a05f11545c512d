"""Set Report in a real ComfyUI, and the reports of its routes, of rows that are in the journal before a run begins."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from devtools.comfyui.host import ComfyUI, Prompt, Result
from emulator import Emulator
from tests.host.buying import buys, change_journal, sends_nothing, start_over, tasks
from tests.host.prompts import Graph, photo

BASE = "/hidream_volcengine"
# A list of four items, of which some are blocked, and a node that ComfyUI therefore runs for the others only.
LIST_PROBE = """
from comfy_execution.graph_utils import ExecutionBlocker

class Listed:
    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "tell"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"blocked": ("STRING", {"default": ""})}}

    def tell(self, blocked):
        return ([ExecutionBlocker(None) if str(item) in blocked else str(item) for item in range(4)],)

class Passed:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "tell"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"forceInput": True})}}

    def tell(self, text):
        return (text,)

NODE_CLASS_MAPPINGS = {"TestListed": Listed, "TestPassed": Passed}
"""
_COLUMNS = ("run", "node", "item", "part", "label", "key", "attempt", "endpoint", "profile", "take", "wanted",
            "outcome", "source", "pictures", "billed", "price", "currency", "error", "file", "created_at",
            "changed_at")  # fmt: skip


@pytest.fixture(scope="module")
def reporting(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]
) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("reporting")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(LIST_PROBE, encoding="utf-8")
    with ComfyUI(base, environment=service_environment, preloaded=True) as comfy:
        tasks(comfy)  # the first request of the task list makes the journal
        yield comfy


@pytest.fixture
def buying(reporting: ComfyUI, emulator: Emulator) -> ComfyUI:
    start_over(reporting, emulator)
    for file in reports(reporting):
        file.unlink()
    return reporting


@pytest.fixture
def comfy(buying: ComfyUI, emulator: Emulator) -> Iterator[ComfyUI]:
    """Nothing is asked for in the test."""
    with sends_nothing(emulator):
        yield buying


def reports(comfy: ComfyUI) -> list[Path]:
    return sorted((comfy.base / "output").glob("*report*"))


def write_row(comfy: ComfyUI, run: str, item: int, **known: Any) -> None:
    """An item of a run of some paid node, refused unless ``known`` says otherwise."""
    now = datetime.now().timestamp()
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "") | {
        "run": run, "node": "1", "item": item, "part": 0, "label": f"pot-{item}", "endpoint": "hidream upscale",
        "profile": "default", "take": 0, "wanted": 1, "outcome": "refused", "pictures": 0, "billed": "no",
        "price": None, "error": None, "created_at": now, "changed_at": now,
    } | known  # fmt: skip
    values = ", ".join("NULL" if value is None else repr(value) for value in row.values())
    change_journal(comfy, f"INSERT INTO run_items ({', '.join(row)}) VALUES ({values})")  # noqa: S608


def write_four(comfy: ComfyUI, run: str) -> None:
    """The first was refused, two were bought, and one was there already."""
    bought = {"outcome": "came", "source": "bought", "pictures": 1, "billed": "yes", "price": "0.22", "currency": "CNY"}
    write_row(comfy, run, 0)
    for item in (1, 2):
        write_row(comfy, run, item, **bought)
    write_row(comfy, run, 3, **{**bought, "source": "reused", "billed": "no"})


def prompt(blocked: str = "") -> Prompt:
    """Set Report, "3", behind a node that runs for each item of a list that is not blocked."""
    return {
        "1": {"class_type": "TestListed", "inputs": {"blocked": blocked}},
        "2": {"class_type": "TestPassed", "inputs": {"text": ["1", 0]}},
        "3": {"class_type": "RemoteSetReport", "inputs": {"after": ["2", 0]}},
    }


def run(comfy: ComfyUI, graph: Prompt, run_id: str) -> Result:
    start = comfy.events.count()
    body = {"prompt": graph, "client_id": comfy.client_id, "prompt_id": run_id}
    comfy.request("POST", "/prompt", json=body)
    return comfy.wait(run_id, start=start)


def lines(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("blocked", ["", "0", "0123"])
def test_it_runs_once_behind_all_items(comfy: ComfyUI, blocked: str) -> None:
    """Also where nothing came of any of them."""
    this = str(uuid.uuid4())
    write_four(comfy, this)
    write_row(comfy, str(uuid.uuid4()), 0, label="another run's")
    result = run(comfy, prompt(blocked), this)
    assert result.status == "success"
    assert result.texts("3") == [
        "3 pictures, 1 refused, ≈ ¥0.44: report.csv\n3 张图片，1 项被拒绝，≈ ¥0.44：report.csv"
    ]
    file = {"filename": "report.csv", "subfolder": "", "type": "output"}
    assert result.outputs["3"]["report"] == [file]
    [written] = reports(comfy)
    data = written.read_bytes()
    assert [row["outcome"] for row in lines(data)] == ["refused", "bought", "bought", "reused"]
    assert [row["label"] for row in lines(data)] == ["pot-0", "pot-1", "pot-2", "pot-3"]
    assert comfy.request("GET", "/view", params=file).content == data
    assert comfy.request("GET", f"{BASE}/report", params={"run": this}).content == data
    today = comfy.request("GET", f"{BASE}/report", params={"day": str(datetime.now().date())}).content
    assert len(lines(today)) == 5, "the items of both runs"


def test_no_report_replaces_another(comfy: ComfyUI) -> None:
    names = []
    (comfy.base / "output" / "report_2.csv").write_text("somebody's own")
    for blocked in ("0", "1"):
        this = str(uuid.uuid4())
        write_four(comfy, this)
        names += [file["filename"] for file in run(comfy, prompt(blocked), this).outputs["3"]["report"]]
    assert names == ["report.csv", "report_3.csv"]
    assert (comfy.base / "output" / "report_2.csv").read_text() == "somebody's own"
    assert [file.name for file in reports(comfy)] == ["report.csv", "report_2.csv", "report_3.csv"], "and no other file"


def test_where_everything_is_cached_there_is_no_second_report(comfy: ComfyUI) -> None:
    this = str(uuid.uuid4())
    write_four(comfy, this)
    run(comfy, prompt(), this)
    assert run(comfy, prompt(), str(uuid.uuid4())).status == "success"
    assert len(reports(comfy)) == 1


def test_a_run_without_items_says_so(comfy: ComfyUI) -> None:
    """What it is behind came from ComfyUI's cache."""
    result = run(comfy, prompt(), str(uuid.uuid4()))
    [told] = result.texts("3")
    assert told.startswith("No paid node ran: ") and "缓存" in told
    assert result.outputs["3"].get("report", []) == []
    assert reports(comfy) == []


def test_a_file_that_cannot_be_written(comfy: ComfyUI) -> None:
    """Its error says what to do, and nothing of billing."""
    this, output = str(uuid.uuid4()), comfy.base / "output"
    write_four(comfy, this)
    elsewhere = output.rename(comfy.base / "output elsewhere")
    output.touch()
    try:
        result = run(comfy, prompt(), this)
    finally:
        output.unlink()
        elsewhere.rename(output)
    assert result.status == "error"
    assert result.error["exception_type"] == "hidream_volcengine.ConfigurationError"
    told = result.error["exception_message"]
    assert told.startswith("The report could not be written: ")
    assert "illed" not in told and "计费" not in told
    assert reports(comfy) == []


@contextmanager
def chinese(comfy: ComfyUI) -> Iterator[None]:
    settings = comfy.base / "user" / "default" / "comfy.settings.json"
    before = settings.read_bytes() if settings.exists() else b"{}"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({**json.loads(before), "Comfy.Locale": "zh"}), encoding="utf-8")
    try:
        yield
    finally:
        settings.write_bytes(before)


def test_it_is_in_the_language_of_the_settings(comfy: ComfyUI) -> None:
    this = str(uuid.uuid4())
    write_four(comfy, this)
    with chinese(comfy):
        run(comfy, prompt(), this)
    [written] = reports(comfy)
    assert [row["结果"] for row in lines(written.read_bytes())] == ["被拒绝", "已购买", "已购买", "复用"]


def test_a_run_is_listed_and_forgotten(comfy: ComfyUI) -> None:
    this, other = str(uuid.uuid4()), str(uuid.uuid4())
    write_four(comfy, this)
    write_row(comfy, other, 0)
    known = {one["run"]: one for one in comfy.request("GET", f"{BASE}/runs").json()["runs"]}
    assert set(known) == {this, other}
    assert (known[this]["items"], known[this]["pictures"], known[this]["missing"]) == (4, 3, 1)
    token = comfy.request("GET", f"{BASE}/session").json()["token"]
    path = f"{BASE}/runs/{this}/forget"
    assert comfy.request("POST", path, json={}, check=False).status_code == 403
    assert comfy.request("POST", path, json={}, headers={"X-Remote-Image-Token": token}).json() == {"ok": True}
    assert [one["run"] for one in comfy.request("GET", f"{BASE}/runs").json()["runs"]] == [other]
    assert comfy.request("GET", f"{BASE}/report", params={"run": this}, check=False).status_code == 404


def test_what_was_spent_is_beside_the_tasks(comfy: ComfyUI) -> None:
    assert comfy.request("GET", f"{BASE}/tasks").json()["spent"] == []
    write_four(comfy, str(uuid.uuid4()))
    [spent] = comfy.request("GET", f"{BASE}/tasks").json()["spent"]
    assert (spent["profile"], spent["currency"], spent["certain_today"]) == ("default", "CNY", "0.44")


def test_what_was_bought_refused_and_then_cached(buying: ComfyUI, emulator: Emulator) -> None:
    """A list of four pictures, of which the service refuses one; and once more, without another request."""
    graph = Graph(buying)
    batch = graph.image(*(photo(48, 64, seed) for seed in range(4)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    bought = graph.add("HiDreamAPIUpscale", image=listed[0], on_partial="return the rest")
    graph.save(bought[0])
    reported = graph.add("RemoteSetReport", after=bought[0]).id
    emulator.add_fault({"phase": "submit", "times": 1, "do": {"status": 400, "json": {"code": 2003, "msg": "no"}}})
    with buys(emulator, 3):
        result = buying.run(graph.prompt)
    [told] = result.texts(reported)
    assert told.startswith("3 pictures, 1 refused: report.csv\n"), told
    [written] = reports(buying)
    rows = lines(written.read_bytes())
    assert [row["item"] for row in rows] == ["1", "2", "3", "4"]
    assert sorted(row["outcome"] for row in rows) == ["bought", "bought", "bought", "refused"]
    assert {row["node"] for row in rows} == {bought.id}
    came = {row["task id"] for row in rows if row["outcome"] == "bought"}
    assert came == {record.task_id for record in emulator.accepted}
    [refused] = [row for row in rows if row["outcome"] == "refused"]
    assert (refused["billed"], refused["pictures"], refused["task id"]) == ("no", "0", "")
    assert refused["the service's words"]
    assert all(row["submitted"] and row["finished"] for row in rows if row is not refused)
    buying.forget_results()
    with buys(emulator, 1):
        again = buying.run(graph.prompt)
    assert again.texts(reported)[0].startswith("4 pictures: report_2.csv\n")
    second = lines((buying.base / "output" / "report_2.csv").read_bytes())
    assert sorted(row["outcome"] for row in second) == ["bought", "reused", "reused", "reused"]
    with sends_nothing(emulator):
        buying.run(graph.prompt)
        assert len(reports(buying)) == 2, "all of it is in ComfyUI's cache"
