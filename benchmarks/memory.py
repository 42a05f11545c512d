"""Memory of the pack in a real ComfyUI: with many waiting tasks, a batch, and a very large picture. Linux only.

Figures are the growth of the whole process since just before the node runs, when its inputs are loaded.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks import Ratio, Table
from benchmarks.encoding import photograph
from devtools.comfyui.host import ComfyUI, Prompt
from emulator import Credentials, Emulator

TITLE = "Memory of ComfyUI's process, beyond what it has before the node runs"
_COLUMNS = ("run", "added", "target", "of it")
_MB = 1e6
# The allowed peak, as a multiple of the float output and the decoded bytes together.
_MOST = 1.3
_TASKS, _MOST_OF_TASKS_MB = 200, 50
# The threads of this pack's pools that are allowed: calls, and all others (conversions, thumbnails). The warm-up has
# started one of each.
_CALLS, _OTHERS = 32, 3


def table() -> Table:
    if sys.platform != "linux":
        return Table(f"{TITLE} (not measured: Linux only)", _COLUMNS, ())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as base, Emulator() as service:
        environment = {
            "HIDREAM_TOKEN": Credentials().hidream_token,
            "HIDREAM_BASE_URL": service.url,
            "REMOTE_IMAGE_PICTURES_PER_RUN": "0",
            "REMOTE_IMAGE_HIDREAM_AT_ONCE": "0",
        }
        with ComfyUI(Path(base), environment=environment) as comfy:
            comfy.upload(Image.fromarray(photograph(64)), "64.png")
            comfy.run(_upscaled("64.png", 1, 2))
            rows = [*_waiting(comfy, service), _peak(comfy, 512, 8, 4), _peak(comfy, 2048, 1, 4)]
            bought = service.billed
    wrong = [] if bought == 9 else [f"{bought} pictures bought instead of 9"]
    measured = {one.name: one.amount for one in rows}
    return Table(TITLE, _COLUMNS, [one.cells for one in rows], measured, wrong, [one.ratio for one in rows])


@dataclass(frozen=True)
class _Added:
    name: str
    amount: float
    limit: float
    unit: str = " MB"

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.name, f"{self.amount:.0f}{self.unit}", f"≤ {self.limit:.0f}{self.unit}", f"{self.ratio.ours:.2f}")

    @property
    def ratio(self) -> Ratio:
        return Ratio(f"memory: {self.name}", f"{self.limit:.0f}{self.unit}", self.amount / self.limit)


def _waiting(comfy: ComfyUI, service: Emulator) -> list[_Added]:
    process = _ready(comfy, 512, _TASKS)
    before, threads = process.resident(), process.threads()
    service.clear()
    service.add_fault({"endpoint": "upscale", "phase": "submit", "times": None, "do": {"never": True}})
    prompt = comfy.queue(_upscaled("512.png", _TASKS, 2))
    # As many tasks as there are threads for calls, each polled a few times.
    _until(lambda: len(service.accepted) == _CALLS and len(service.requests) > 5 * _CALLS)
    added, more = process.resident() - before, process.threads() - threads
    comfy.interrupt()
    comfy.wait(prompt)
    service.clear()
    return [
        _Added(f"{_TASKS} tasks of 512² that wait", added / _MB, _MOST_OF_TASKS_MB),
        _Added(f"{_TASKS} tasks that wait", more, _CALLS + _OTHERS, " threads"),
    ]


def _peak(comfy: ComfyUI, side: int, count: int, ratio: int) -> _Added:
    process = _ready(comfy, side, count)
    before = process.resident()
    process.forget_peak()
    comfy.run(_upscaled(f"{side}.png", count, ratio), timeout=300)
    output = count * (ratio * side) ** 2 * 3 * (4 + 1)
    name = f"{count} × {side}² → {ratio * side}²: peak"
    return _Added(name, (process.peak() - before) / _MB, _MOST * output / _MB)


def _ready(comfy: ComfyUI, side: int, count: int) -> _Process:
    """Fill ComfyUI's cache with the inputs, and with nothing of earlier runs; return its process."""
    comfy.forget_results()
    name = f"{side}.png"
    comfy.upload(Image.fromarray(photograph(side)), name)
    comfy.run({**_loaded(name, count), **_corner_of("2")}, timeout=120)
    return _Process(comfy.pid)


def _until(reached: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


class _Process:
    """Figures of /proc. Memory in bytes."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    def resident(self) -> int:
        return self._status("VmRSS") * 1024

    def peak(self) -> int:
        """Return the highest resident memory since forget_peak()."""
        return self._status("VmHWM") * 1024

    def forget_peak(self) -> None:
        (self._folder / "clear_refs").write_text("5", encoding="ascii")

    def threads(self) -> int:
        return self._status("Threads")

    def _status(self, name: str) -> int:
        lines = (self._folder / "status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


# ---- graphs: their inputs stay in ComfyUI's cache, so that a second prompt begins with them


def _upscaled(name: str, count: int, ratio: int) -> Prompt:
    inputs = {"image": ["2", 0], "profile": "default", "upscale_ratio": ratio, "take": 0}
    return {**_loaded(name, count), "3": {"class_type": "HiDreamAPIUpscale", "inputs": inputs}, **_corner_of("3")}


def _loaded(name: str, count: int) -> Prompt:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": count}},
    }


def _corner_of(node: str) -> Prompt:
    """Return nodes that show a corner of the picture only: ComfyUI's copies of the whole one would hide the pack's."""
    corner = {"image": [node, 0], "x": 0, "y": 0, "width": 16, "height": 16}
    first = {"image": ["4", 0], "batch_index": 0, "length": 1}
    return {
        "4": {"class_type": "ImageCrop", "inputs": corner},
        "5": {"class_type": "ImageFromBatch", "inputs": first},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
    }
