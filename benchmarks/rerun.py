"""How long a finished graph takes when it is run again after a restart of ComfyUI, and that it sends no request.

Not counted as this pack's: ComfyUI's own nodes, and the decoding of the pictures by as many threads as there are cores.
The first run follows the restart; before each of the others ComfyUI's cache is emptied.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

from api import tensors
from benchmarks import MIN_ROUNDS, Ratio, Table, timed, told
from devtools.comfyui.host import Prompt
from devtools.comfyui.studio import Studio, loaded, preview, upscale
from emulator import Emulator

PICTURES, SIDE = 20, 512
_LIMIT = 0.3
TITLE = f"A finished graph of {PICTURES} pictures, {SIDE}² → {2 * SIDE}², run again after a restart"


def table() -> Table:
    laps: dict[str, list[float]] = {"run": [], "node": [], "decoding": []}
    requests = 0
    with Studio(Emulator(), polls_per_second=0) as studio:
        graph = _graph(studio.photos(SIDE, PICTURES))
        studio.comfy.run(graph, timeout=120)
        stored = [path.read_bytes() for path in studio.base.glob("user/*/*/*/*.png")]
        studio.service.clear()
        studio.comfy.stop()
        studio.comfy.start()
        for _ in range(MIN_ROUNDS):
            laps["decoding"].append(timed(partial(_decode, stored)))
            result = studio.comfy.run(graph)
            began, ended = (
                next(event.at for event in result.of_type(kind) if event.node == "remote")
                for kind in ("executing", "executed")
            )
            laps["run"].append(result.seconds)
            laps["node"].append(ended - began)
            studio.comfy.forget_results()
        requests = len(studio.service.requests)
    columns = ("what", "median", "the first", "target")
    name = f"a finished graph of {PICTURES} pictures again after a restart: this pack's share"
    ratio = Ratio(name, told(_LIMIT), median(_rest(laps)) / _LIMIT)
    return Table(TITLE, columns, _rows(laps, requests), laps, _wrong(stored, requests), [ratio])


def _rows(laps: dict[str, list[float]], requests: int) -> list[tuple[str, ...]]:
    own = [run - node for run, node in zip(laps["run"], laps["node"], strict=True)]
    return [
        ("requests at the service", str(requests), "", "0"),
        _row("the whole run", laps["run"]),
        _row("of it ComfyUI's own nodes: load, batch, preview", own),
        _row("of it decoding the pictures", laps["decoding"]),
        _row("the rest: this pack", _rest(laps), f"≤ {told(_LIMIT)}"),
    ]


def _rest(laps: dict[str, list[float]]) -> list[float]:
    return [node - decoding for node, decoding in zip(laps["node"], laps["decoding"], strict=True)]


def _row(name: str, laps: Sequence[float], target: str = "") -> tuple[str, ...]:
    return (name, told(median(laps)), told(laps[0]), target)


def _wrong(stored: Sequence[bytes], requests: int) -> list[str]:
    wrong = [f"{requests} requests at the service"] if requests else []
    return wrong if len(stored) == PICTURES else [*wrong, f"{len(stored)} stored pictures"]


def _graph(photos: Sequence[str]) -> Prompt:
    graph: Prompt = {}
    images = loaded(graph, photos)
    return {**graph, "remote": upscale(images, take=0), "out": preview(["remote", 0])}


def _decode(pictures: Sequence[bytes]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(lambda data: tensors.decode(io.BytesIO(data), 2**40), pictures):
            pass
