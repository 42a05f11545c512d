"""What the pack adds to the start of a real ComfyUI: time, files read, connections.

ComfyUI's own loader loads the pack after everything else, in forks of that process (so not on Windows): modules that
ComfyUI has loaded already take no time, as for users.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import Ratio, Table, told
from devtools.comfyui.host import PACK_FOLDER, ComfyUI, copy_pack
from devtools.environment import ROOT

ROUNDS, _LIMIT = 11, 0.060
TITLE = "The pack's import in ComfyUI, beyond what ComfyUI has loaded already"


def table() -> Table:
    rounds = _measure()[1:]  # the first round compiles the modules
    wall, cpu = (median(one[name] for one in rounds) for name in ("wall", "cpu"))
    last = rounds[-1]
    # ComfyUI itself reads the pyproject.toml of each pack.
    read = [Path(name).name for name in last["read"] if not name.endswith("pyproject.toml")]
    rows = [
        ("time", told(wall), told(_LIMIT), f"{wall / _LIMIT:.2f}"),
        ("of it processor time", told(cpu), "", ""),
        ("other files than modules", ", ".join(f"{name} × {read.count(name)}" for name in sorted(set(read))), "1", ""),
        ("connections", str(len(last["connected"])), "0", ""),
        ("modules of others loaded", str(len(last["new"])), "", ""),
    ]
    wrong = [f"the pack was not loaded in round {number}" for number, one in enumerate(rounds) if not one["loaded"]]
    wrong += [f"a connection: {address}" for address in last["connected"]]
    columns = ("what", "measured", "target", "ratio")
    ratio = Ratio("import, beyond what ComfyUI has loaded", told(_LIMIT), wall / _LIMIT)
    return Table(TITLE, columns, rows, {"rounds": rounds}, wrong, [ratio])


def _measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        shutil.copytree(ROOT / "benchmarks" / "stopwatch", base / "custom_nodes" / "stopwatch")
        pack, report = base / "elsewhere" / PACK_FOLDER, base / "report"
        copy_pack(ROOT, pack)
        profiles = base / "user" / "__hidream_volcengine" / "profiles.json"
        profiles.parent.mkdir(parents=True)
        profiles.write_text('{"version": 1, "profiles": []}', encoding="utf-8")
        environment = {"BENCH_PACK": str(pack), "BENCH_ROUNDS": str(ROUNDS + 1), "BENCH_REPORT": str(report)}
        with ComfyUI(base, environment=environment, pack=None):
            return [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
