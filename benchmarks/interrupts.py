"""How soon a run with many waiting tasks in a real ComfyUI ends after an interrupt, and after one task has failed.

The other tasks never end by themselves. Time runs from the call of /interrupt, or from the answer *failed*.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks import MIN_ROUNDS, Ratio, Table, told
from devtools.comfyui.host import Prompt, Result
from devtools.comfyui.studio import TOKEN, Studio, preview, upscale
from emulator import Emulator

TASKS = 32
CANCELS_A_ROUND = 8
_LIMIT = 0.3
CANCEL, FAILURE = f"cancel under {TASKS} waiting tasks", f"a failure beside {TASKS - 1} waiting tasks"
OURS, PARTNER = "this pack", "partner nodes"
_PATIENCE = 60.0


def table() -> Table:
    # No limit of polls, so that as many as possible are under way, and none of rates, which would stop the benchmark.
    settings = {"hidream_at_once": 0, "polls_per_second": 0, "hidream_outpaint_per_minute": 0}
    seconds: dict[str, list[float]] = {f"{CANCEL}: {OURS}": [], f"{FAILURE}: {OURS}": [], f"{CANCEL}: {PARTNER}": []}
    with Studio(Emulator(), rivals=True, **settings) as studio:
        photo = studio.photos(64, 1)[0]
        for number in range(MIN_ROUNDS):
            cancels, failures, rival = seconds.values()
            cancels += [_cancelled(studio, _waiting(photo, TASKS)) for _ in range(CANCELS_A_ROUND)]
            failures.append(_failed(studio, _waiting(photo, TASKS - 1) | _failing(photo, number)))
            rival.append(_cancelled(studio, _rivals(studio, photo, number)))
    rows = [
        (name, str(len(laps)), told(median(laps)), told(max(laps)), f"≤ {told(_LIMIT)}" if OURS in name else "")
        for name, laps in seconds.items()
    ]
    cancel, failure, rival = seconds.values()
    ratios = [
        Ratio(f"{CANCEL}, the longest of {len(cancel)}", told(_LIMIT), max(cancel) / _LIMIT, max(rival) / _LIMIT),
        Ratio(FAILURE, told(_LIMIT), median(failure) / _LIMIT),
    ]
    columns = ("what", "runs", "median", "longest", "target")
    return Table("How soon a run of waiting tasks ends", columns, rows, seconds, ratios=ratios)


def _waiting(photo: str, tasks: int) -> Prompt:
    """Return a graph of ``tasks`` upscales. It is the same in each run, so each resumes the tasks of the last one."""
    graph: Prompt = {"photo": {"class_type": "LoadImage", "inputs": {"image": photo}}}
    for number in range(tasks):
        graph[f"remote{number}"] = upscale(["photo", 0], take=number)
        graph[f"out{number}"] = preview([f"remote{number}", 0])
    return graph


def _failing(photo: str, take: int) -> Prompt:
    canvas = {"canvas_width": 512, "canvas_height": 512, "ratio": 0.5, "position": "center"}
    rest = {"profile": "default", "x_offset": 0, "y_offset": 0, "variants": 1, "take": take}
    inputs = {"image": ["photo", 0], **canvas, **rest}
    return {
        "failing": {"class_type": "HiDreamAPIOutpaint", "inputs": inputs},
        "failed": preview(["failing", 0]),
    }


def _rivals(studio: Studio, photo: str, run: int) -> Prompt:
    graph: Prompt = {"photo": {"class_type": "LoadImage", "inputs": {"image": photo}}}
    for number in range(TASKS):
        inputs = {"image": ["photo", 0], "url": studio.url, "token": TOKEN, "run_number": TASKS * run + number}
        graph[f"remote{number}"] = {"class_type": "BenchPartner", "inputs": inputs}
        graph[f"out{number}"] = preview([f"remote{number}", 0])
    return graph


def _cancelled(studio: Studio, graph: Prompt) -> float:
    prompt_id, start = _all_wait(studio, graph)
    asked = time.monotonic()
    studio.comfy.interrupt()
    # The client of the partner nodes reports an interrupt as an error.
    return _end(studio, prompt_id, start, "interrupted", "error").events[-1].at - asked


def _failed(studio: Studio, graph: Prompt) -> float:
    prompt_id, start = _all_wait(studio, graph)
    studio.service.add_fault({"endpoint": "outpaint", "phase": "result", "do": {"task_status": [3]}})
    result = _end(studio, prompt_id, start, "error")
    answered = [record.ended for record in studio.service.requests if record.endpoint == "outpaint" and record.ended]
    return result.events[-1].at - max(answered)


def _all_wait(studio: Studio, graph: Prompt) -> tuple[str, int]:
    """Queue the graph, and return its id and first event's number when every task has been polled."""
    before, start = len(studio.service.requests), studio.comfy.events.count()
    studio.service.add_fault({"phase": "submit", "times": None, "do": {"never": True}})
    prompt_id = studio.comfy.queue(graph)
    # There may be more: the background poller may poll a task of an earlier run.
    _until(lambda: len({r.task_id for r in studio.service.requests[before:] if r.phase == "result"}) >= TASKS)
    return prompt_id, start


def _end(studio: Studio, prompt_id: str, start: int, *expected: str) -> Result:
    result = studio.comfy.wait(prompt_id, start=start)
    if result.status not in expected:
        raise AssertionError(f"the run ended with {result.status}: {result.error}")
    return result


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("not all tasks came to wait")
        time.sleep(0.02)
