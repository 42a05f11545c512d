"""Many small pictures through a list in a real ComfyUI: each item is a call of its own, and faults come in between.

    python dev.py bench scale     takes eight minutes, so that `bench` without names leaves it out

The faults are those that a call must recover from by itself and without another purchase: polls and downloads that fail
or break off, and a token that is refused before it has expired. Left out are faults after which it is not known whether
a request was accepted (a lost answer, a 5xx to a submit), since such an attempt becomes ambiguous by design; and 429,
after which the pack halves its own limits for ten minutes.
"""

from __future__ import annotations

import heapq
import json
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from benchmarks import Ratio, Table
from devtools.comfyui.host import ComfyUI, Prompt
from devtools.environment import ROOT
from emulator import Credentials, Emulator, Recorded

COUNTS = (1, 10, 100, 1000)
SECONDS, SPREAD, AT_ONCE = 4.0, 0.15, 10
SIDE = 64
TITLE = (
    f"A list of N pictures of {SIDE}² in ComfyUI: a service of {SECONDS:g} s ± {SPREAD:.0%}, {AT_ONCE} at once; "
    "for each hundred of them two polls, two downloads and two submits go wrong"
)
COLUMNS = (
    "N", "faults", "wall", "what the service takes", "share of its throughput", "CPU per picture",
    "memory beyond tensors",
)  # fmt: skip
# Phase, in how many requests of it the fault comes once, and the fault.
_FAULTS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("result", 200, {"status": 503}),
    ("result", 200, {"reset": "before"}),
    ("result", 200, {"html": True, "status": 502}),
    ("result", 200, {"cut": 0.5}),
    ("image", 200, {"status": 500}),
    ("image", 200, {"cut": 0.5}),
    ("image", 200, {"reset": "after"}),
    ("image", 200, {"corrupt": True}),
    ("submit", 50, {"status": 401, "json": {"code": 401, "message": "token expired"}}),
)


@dataclass(frozen=True)
class Measured:
    """One run of a list of ``count`` pictures. Times are in seconds."""

    count: int
    wall: float
    ideal: float
    """What the service alone takes."""
    cpu: float
    """Processor time of ComfyUI's process."""
    memory: int
    """Peak of the process in bytes, without what it had before and the tensors that go in and out."""
    before_first: float
    """Time until the first submit."""
    faults: int
    """How many faults it met."""


def table(counts: Sequence[int] = COUNTS, seconds: float = SECONDS) -> Table:
    """Run each count once, after one run to warm up."""
    measured, wrong = [], []
    with _studio(seconds) as (comfy, service):
        comfy.run(_graph(AT_ONCE, 0), timeout=120)
        for number, count in enumerate(counts, start=1):
            one, problems = _run(comfy, service, count, number)
            measured.append(one)
            wrong += problems
    rows = [
        (
            str(one.count),
            str(one.faults),
            f"{one.wall:.1f} s",
            f"{one.ideal:.1f} s",
            f"{one.ideal / one.wall:.2f}",
            f"{one.cpu / one.count * 1000:.0f} ms",
            f"{one.memory / 1e6:+.0f} MB",
        )
        for one in measured
    ]
    most = measured[-1]
    what = f"A list of {most.count:,} pictures, {most.faults} faults"
    ratio = Ratio(what, f"{most.ideal:.0f} s", most.wall / most.ideal)
    return Table(TITLE, COLUMNS, rows, {str(one.count): asdict(one) for one in measured}, wrong, [ratio])


# ---- one run


def _run(comfy: ComfyUI, service: _Service, count: int, number: int) -> tuple[Measured, list[str]]:
    service.ask("clear")
    injected: int = service.ask("faults", count)
    comfy.forget_results()
    process = psutil.Process(comfy.pid)
    _reset_peak(comfy.pid)
    before, cpu_before = process.memory_info().rss, _cpu(process)
    begun = time.monotonic()
    result = comfy.run(_graph(count, number), timeout=120 + count)
    cpu, peak = _cpu(process) - cpu_before, _peak(comfy.pid)
    accepted: list[Recorded] = service.ask("accepted")
    tensors = count * SIDE * SIDE * 3 * 4 * (1 + 2 * 2)
    first = min((record.started for record in accepted), default=begun) - begun
    met: int = service.ask("met")
    measured = Measured(count, result.seconds, _ideal(accepted), cpu, peak - before - tensors, first, met)
    missed = [f"{count}: {injected - met} faults were not met"] if met < injected else []
    return measured, [*missed, *_problems(count, result.outputs["3"], accepted)]


def _graph(count: int, number: int) -> Prompt:
    return {
        "1": {"class_type": "BenchCrowd", "inputs": {"count": count, "side": SIDE, "run_number": number}},
        "2": {
            "class_type": "HiDreamAPIUpscale",
            "inputs": {"image": ["1", 0], "profile": "default", "upscale_ratio": 2, "take": 0},
        },
        "3": {"class_type": "BenchRollCall", "inputs": {"images": ["2", 0]}},
    }


def _problems(count: int, output: dict[str, Any], accepted: Sequence[Recorded]) -> list[str]:
    """Return what is wrong with the pictures that came and with what was bought; empty if nothing is."""
    problems = []
    if output["numbers"] != list(range(count)):
        problems.append(f"{count}: not every picture came, or not in order")
    if any(size != [1, 2 * SIDE, 2 * SIDE, 3] for size in output["sizes"]):
        problems.append(f"{count}: a picture of another size")
    bought = Counter(_what(record) for record in accepted)
    if len(bought) != count or max(bought.values(), default=0) > 1:
        problems.append(f"{count}: {len(accepted)} purchases of {len(bought)} different pictures")
    return problems


def _what(record: Recorded) -> str:
    body = {name: value for name, value in record.body.items() if name != "request_id"}
    return json.dumps(body, sort_keys=True)


def _ideal(accepted: Sequence[Recorded]) -> float:
    """Return the seconds that the service takes if it gets all requests at once."""
    free = [0.0] * AT_ONCE
    for record in accepted:
        if record.span is not None:
            heapq.heapreplace(free, free[0] + record.span.seconds)
    return max(free)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# ---- ComfyUI and a service of its own


@contextmanager
def _studio(seconds: float) -> Iterator[tuple[ComfyUI, _Service]]:
    with ExitStack() as running:
        base = Path(running.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        shutil.copytree(ROOT / "benchmarks" / "crowd", base / "custom_nodes" / "crowd")
        service = running.enter_context(_Service(seconds))
        environment = {
            # An API key: the pack can exchange it for a new token when the token is refused.
            "HIDREAM_API_KEY": Credentials().hidream_api_key,
            "HIDREAM_BASE_URL": service.url,
            "REMOTE_IMAGE_HIDREAM_AT_ONCE": str(AT_ONCE),
            "REMOTE_IMAGE_PICTURES_PER_RUN": "0",
        }
        yield running.enter_context(ComfyUI(base, environment=environment)), service


class _Service:
    """The emulator in a process of its own, so that it takes no time from this one; it ends with this process."""

    def __init__(self, seconds: float) -> None:
        self._pipe, self._end = multiprocessing.Pipe()
        # Spawned: a fork would inherit both ends, and never see the pipe closed.
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_serve, args=(self._end, seconds), daemon=True)

    def __enter__(self) -> _Service:
        self._process.start()
        self._end.close()
        self.url: str = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()

    def ask(self, *what: object) -> Any:
        """Send a command of _answer with its argument, and return the answer."""
        self._pipe.send(what)
        return self._pipe.recv()


def _serve(pipe: Connection, seconds: float) -> None:
    with Emulator(latency=seconds, spread=SPREAD, at_once=AT_ONCE) as emulator:
        pipe.send(emulator.url)
        while True:
            try:
                what, *arguments = pipe.recv()
            except EOFError:
                return
            pipe.send(_answer(emulator, what, *arguments))


def _answer(emulator: Emulator, what: str, count: int = 0) -> object:
    if what == "clear":
        emulator.clear()
    elif what == "faults":
        rules = [
            {"endpoint": "upscale", "phase": phase, "skip": skip, "do": action}
            for kind, (phase, every, action) in enumerate(_FAULTS)
            for skip in range(every * (kind + 1) // 10, count, every)
        ]
        for rule in rules:
            emulator.add_fault(rule)
        return len(rules)
    elif what == "met":
        return sum(rule.times == 0 for rule in emulator._faults._rules)
    return emulator.accepted if what == "accepted" else None
