"""Whole runs in a real ComfyUI over a line of limited bandwidth: this pack, ComfyUI's own client for its partner nodes,
and the plain way of many packs (``rivals/``).

A run ends when its last picture is handed on to the next node. The ideal is the time of the service with its places,
plus that of the bytes on the line, in the order of the requests: a picture is sent when a place is free, and its result
when it is done. Round trips and local work are not in it. Several ComfyUIs, each with a service of its own, run at the
same time, since they mostly wait; in each the ways run by turns.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from statistics import median
from threading import Barrier
from typing import Any

from benchmarks import MIN_ROUNDS, Ratio, Table
from devtools.comfyui.host import Prompt, Result
from devtools.comfyui.studio import TOKEN, Studio, loaded, preview, upscale
from emulator import Emulator, Recorded

SECONDS, LONG_SECONDS, SPREAD, AT_ONCE = 3.0, 12.0, 0.15, 4
MBITS, ROUND_TRIP = 20.0, 0.04
SIDE, SMALL_SIDE = 512, 64
OURS, PARTNER, PLAIN = "this pack", "partner nodes", "plain"
RIVALS = {PARTNER: "BenchPartner", PLAIN: "BenchPlain"}
WAYS = (OURS, *RIVALS)
ONE, FOUR, EIGHT = "one picture", f"{AT_ONCE} nodes side by side", f"a batch of {2 * AT_ONCE}"
PICTURES = {ONE: 1, FOUR: AT_ONCE, EIGHT: 2 * AT_ONCE}
LONG = f"one picture, {LONG_SECONDS:g} s"
# What each ComfyUI measures; the three take about the same time.
LANES = (
    ((OURS, ONE), (OURS, FOUR), (OURS, EIGHT), (PLAIN, ONE)),
    ((PARTNER, ONE), (PARTNER, FOUR), (PARTNER, EIGHT)),
    ((PLAIN, FOUR), (PLAIN, EIGHT)),
)
TITLE = (
    f"Runs in ComfyUI: a service of {SECONDS:g} s ± {SPREAD:.0%}, {AT_ONCE} at once, {MBITS:g} Mbit/s, "
    f"{ROUND_TRIP * 1000:g} ms round trip; {SIDE}² → {2 * SIDE}²"
)


@dataclass(frozen=True)
class Lap:
    """One run: seconds that it took, seconds of the ideal, and how many pictures came."""

    seconds: float
    ideal: float
    pictures: int


Laps = list[Lap]
_PATIENCE = 180.0


def table() -> Table:
    all_up = Barrier(1 + len(LANES), timeout=_PATIENCE)
    ways: dict[str, dict[str, Laps]] = {way: {name: [] for name in PICTURES} for way in WAYS}
    with ThreadPoolExecutor(1 + len(LANES)) as threads:
        long = threads.submit(_long, all_up)
        for _ in threads.map(lambda jobs: _lane(jobs, ways, all_up), LANES):
            pass
    laps, polls, local = long.result()
    rows = [_row(name, {way: ways[way][name] for way in WAYS}) for name in PICTURES]
    rows += [_row(LONG, {OURS: laps}), _local(local), _polled(polls)]
    measured: dict[str, Any] = {
        way: {name: [asdict(lap) for lap in those] for name, those in scenes.items()} for way, scenes in ways.items()
    }
    measured[OURS] |= {LONG: [asdict(lap) for lap in laps], "polls": polls, "local": local}
    columns = ("run", "ideal", *WAYS, "this pack beyond the ideal", "target")
    ratios = [_in_ratios(name, {way: ways[way][name] for way in WAYS}) for name in PICTURES]
    ratios += [_in_ratios(LONG, {OURS: laps})]
    return Table(TITLE, columns, rows, measured, _wrong(ways | {LONG: {ONE: laps}}), ratios)


def _in_ratios(name: str, laps: dict[str, Laps]) -> Ratio:
    ideal = median(lap.ideal for lap in laps[OURS])
    # Leave out a way that brings fewer pictures: its time cannot be compared.
    comparable = {way: those for way, those in laps.items() if those[0].pictures == PICTURES.get(name, 1)}
    times = {way: median(lap.seconds for lap in those) / ideal for way, those in comparable.items()}
    return Ratio(name, f"{ideal:.1f} s", times[OURS], times.get(PARTNER), times.get(PLAIN))


def _row(name: str, laps: dict[str, Laps]) -> tuple[str, ...]:
    ideal = median(lap.ideal for lap in laps[OURS])
    target = 0.1 * ideal + 0.5 if name == EIGHT else 0.5
    cells = [_ratio(laps[way], ideal, PICTURES.get(name, 1)) if way in laps else "" for way in WAYS]
    beyond = median(lap.seconds - lap.ideal for lap in laps[OURS])
    return (name, f"1 ({ideal:.1f} s)", *cells, f"{beyond:+.2f} s", f"{target:+.2f} s")


def _ratio(laps: Laps, ideal: float, pictures: int) -> str:
    missing = "" if laps[0].pictures == pictures else f" ({laps[0].pictures} of {pictures} pictures)"
    return f"{median(lap.seconds for lap in laps) / ideal:.2f}{missing}"


def _local(seconds: dict[str, list[float]]) -> tuple[str, ...]:
    alone, beside = median(seconds["alone"]), median(seconds["beside"])
    ratio, more = f"{beside / alone:.2f}", f"{beside - alone:+.2f} s"
    return ("a local node beside a waiting one", f"1 ({alone:.2f} s)", ratio, "", "", more, "not delayed")


def _polled(most: dict[str, int]) -> tuple[str, ...]:
    most_polls = f"{most['near']} near its usual end, {most['else']} else"
    return (f"polls of a task in any second ({LONG})", "", most_polls, "", "", "", "2, 1")


def _wrong(ways: dict[str, dict[str, Laps]]) -> list[str]:
    return [
        f"{way}, {name}: faster than the ideal"
        for way, scenes in ways.items()
        for name, laps in scenes.items()
        if any(lap.seconds < lap.ideal for lap in laps)
    ]


# ---- a way


def _lane(jobs: Sequence[tuple[str, str]], ways: dict[str, dict[str, Laps]], all_up: Barrier) -> None:
    service = Emulator(latency=SECONDS, spread=SPREAD, at_once=AT_ONCE)
    with Studio(service, mbits=MBITS, round_trip=ROUND_TRIP, rivals=True, hidream_at_once=AT_ONCE) as studio:
        photos = studio.photos(SIDE, 2 * AT_ONCE)
        all_up.wait()
        runs = count()
        for _ in range(MIN_ROUNDS if jobs[0][0] == OURS else 1):  # this pack learns how long such calls take
            studio.comfy.run(_nodes(studio, OURS, photos[:1], next(runs)))
        for _ in range(MIN_ROUNDS):
            for way, name in jobs:
                ways[way][name].append(_measured(studio, way, name, photos, next(runs)))


def _measured(studio: Studio, way: str, name: str, photos: Sequence[str], run: int) -> Lap:
    count = PICTURES[name]
    return _lap(studio, (_batch if name == EIGHT else _nodes)(studio, way, photos[:count], run))


def _lap(studio: Studio, graph: Prompt) -> Lap:
    studio.service.clear()
    result = studio.comfy.run(graph, timeout=120)
    pictures = sum(len(result.files(node)) for node in graph if node.startswith("out"))
    if pictures != sum(record.pictures for record in studio.service.accepted):
        raise AssertionError(f"{pictures} pictures came, another number was paid")
    handed_on = max(_moment(result, "executing", node) for node in graph if node.startswith("out"))
    return Lap(handed_on, _ideal(studio.service.requests), pictures)


def _moment(result: Result, kind: str, node: str) -> float:
    """Return when ComfyUI sent an event of this kind about the node, in seconds since the run began."""
    started = next(event.at for event in result.events if event.type == "execution_start")
    return next(event.at for event in result.of_type(kind) if event.node == node) - started


def _nodes(studio: Studio, way: str, photos: Sequence[str], run: int) -> Prompt:
    graph: Prompt = {}
    for number, photo in enumerate(photos):
        graph[f"in{number}"] = {"class_type": "LoadImage", "inputs": {"image": photo}}
        graph[f"remote{number}"] = _remote(studio, way, [f"in{number}", 0], run)
        graph[f"out{number}"] = preview([f"remote{number}", 0])
    return graph


def _batch(studio: Studio, way: str, photos: Sequence[str], run: int) -> Prompt:
    graph: Prompt = {}
    images = loaded(graph, photos)
    if way == PARTNER:
        # Partner nodes take one picture each; ComfyUI runs an asynchronous node for all items of a list at once.
        graph["list"] = {"class_type": "RebatchImages", "inputs": {"images": images, "batch_size": 1}}
        images = ["list", 0]
    return {**graph, "remote": _remote(studio, way, images, run), "out": preview(["remote", 0])}


def _remote(studio: Studio, way: str, image: Sequence[object], run: int) -> dict[str, object]:
    """Return the node of a way; another ``run`` makes it another purchase."""
    if way == OURS:
        return upscale(image, take=run)
    inputs = {"image": image, "url": studio.url, "token": TOKEN, "run_number": run}
    return {"class_type": RIVALS[way], "inputs": inputs}


# ---- one picture of a slow service, and a local node beside it


def _long(all_up: Barrier) -> tuple[Laps, dict[str, int], dict[str, list[float]]]:
    """Run some calls side by side, each a lap, and a local node beside a waiting one.

    Return the laps, the most polls in a second, and the seconds of the local node alone and beside a waiting node. The
    pictures are small, so that the calls hardly wait for the line.
    """
    service = Emulator(latency=LONG_SECONDS, spread=SPREAD)
    with Studio(service, mbits=MBITS, round_trip=ROUND_TRIP, hidream_at_once=0) as studio:
        photos = studio.photos(SMALL_SIDE, MIN_ROUNDS)
        all_up.wait()
        studio.comfy.run(_nodes(studio, OURS, photos, 0))
        service.clear()
        result = studio.comfy.run(_nodes(studio, OURS, photos, 1))
        laps, polls = _long_laps(result, service.requests), _most_polls(service.requests)
        local: dict[str, list[float]] = {"alone": [], "beside": []}
        for number in range(MIN_ROUNDS):
            local["alone"].append(_local_done(studio, _local_chain(photos[0], 2 * number)))
            remote = _nodes(studio, OURS, photos[:1], 2 + number)
            local["beside"].append(_local_done(studio, remote | _local_chain(photos[0], 2 * number + 1)))
        return laps, polls, local


def _local_done(studio: Studio, graph: Prompt) -> float:
    """Return when the local node was done, in seconds since the run began; then interrupt the rest."""
    start = studio.comfy.events.count()
    prompt_id = studio.comfy.queue(graph)
    studio.comfy.events.wait_for(lambda event: event.type == "executed" and event.node == "local", _PATIENCE, start)
    studio.comfy.interrupt()
    return _moment(studio.comfy.wait(prompt_id, start=start), "executed", "local")


def _local_chain(photo: str, run: int) -> Prompt:
    side = 768 + run  # another size each time, or ComfyUI would have the result in its cache
    scale = {"upscale_method": "lanczos", "width": side, "height": side, "crop": "disabled"}
    return {
        "photo": {"class_type": "LoadImage", "inputs": {"image": photo}},
        "scale": {"class_type": "ImageScale", "inputs": {"image": ["photo", 0], **scale}},
        "local": preview(["scale", 0]),
    }


def _long_laps(result: Result, requests: Sequence[Recorded]) -> Laps:
    """Pair ends and ideals by their order: all were submitted at once."""
    ends = sorted(_moment(result, "executing", node) for node in result.outputs if node.startswith("out"))
    images = {record.task_id: record.sent for record in requests if record.phase == "image"}
    ideals = sorted(
        record.span.seconds + _on_line(_size(record) + images[record.task_id]) for record in requests if record.span
    )
    return [Lap(end, ideal, 1) for end, ideal in zip(ends, ideals, strict=True)]


def _most_polls(requests: Sequence[Recorded]) -> dict[str, int]:
    """Return the most polls of one task in any second, near its usual end (0.8 to 1.4 of it) and else."""
    most = {"near": 0, "else": 0}
    for bought in requests:
        if bought.span is None:
            continue
        polls = [r.started for r in requests if r.phase == "result" and r.task_id == bought.task_id]
        for at in polls:
            near = 0.8 <= (at - bought.span.begins) / LONG_SECONDS <= 1.4
            kind = "near" if near else "else"
            most[kind] = max(most[kind], sum(at <= other < at + 1 for other in polls))
    return most


# ---- the ideal


def _ideal(requests: Sequence[Recorded]) -> float:
    """Return the ideal seconds of a run: requests are sent one after another as places get free, then the results."""
    images = {record.task_id: record.sent for record in requests if record.phase == "image"}
    up, free = 0.0, [0.0] * AT_ONCE
    done: list[tuple[float, int]] = []
    for record in requests:
        if record.span is not None:
            up = max(up, free[0]) + _on_line(_size(record))
            end = up + record.span.seconds
            heapq.heapreplace(free, end)
            done.append((end, images[record.task_id]))
    down = 0.0
    for end, size in sorted(done):
        down = max(down, end) + _on_line(size)
    return down


def _size(record: Recorded) -> int:
    return int(record.headers.get("Content-Length", 0))


def _on_line(size: int) -> float:
    """Return the seconds that so many bytes take on the line."""
    return size * 8 / (MBITS * 1e6)
