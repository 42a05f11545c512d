"""Searches everything that ComfyUI answers, sends or writes for a key."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

from devtools.comfyui.host import ComfyUI, Result


def spellings(canary: str) -> list[str]:
    """Return the forms in which a key can be found: plain, in a URL, in hex, and in base64 at its three alignments."""
    encoded = [base64.b64encode(b" " * shift + canary.encode()).decode()[4:-4] for shift in range(3)]
    return [canary, quote(canary, safe=""), canary.encode().hex(), *encoded]


def everything_told(comfy: ComfyUI, result: Result | None, *elsewhere: Path) -> dict[str, str]:
    """Return, by place, all that leaves ComfyUI except for requests to the services; and the files of ``elsewhere``."""
    told = {
        "entry": json.dumps(result.history, ensure_ascii=False) if result else "",
        "log": comfy.log(),
        "events": json.dumps([event.data for event in comfy.events.since(0)], default=str, ensure_ascii=False),
        "history": comfy.request("GET", "/history").text,
        "queue": comfy.request("GET", "/queue").text,
        "object_info": comfy.request("GET", "/object_info", timeout=30).text,
        "system_stats": comfy.request("GET", "/system_stats").text,
        "tasks": comfy.request("GET", "/hidream_volcengine/tasks").text,
    }
    for file in result.files() if result else ():
        # The text chunks of a PNG are not compressed, so a key in them is found. The pixels are not searched.
        told[file.filename] = comfy.view(file).decode("latin-1")
    for folder in (*(comfy.base / name for name in ("user", "output", "temp", "input")), *elsewhere):
        for path in folder.rglob("*"):
            if path.is_file():
                told[str(path)] = path.read_bytes().decode("latin-1")
    return told


def check_no_key(
    comfy: ComfyUI, result: Result | None, canary: str, *elsewhere: Path, but_for: tuple[Path, ...] = ()
) -> None:
    """Check that a key is nowhere in everything_told; ``but_for``: files and folders of files that may have it."""
    told = everything_told(comfy, result, *elsewhere)
    allowed = tuple(map(str, but_for))
    searched = {where: text for where, text in told.items() if not (allowed and where.startswith(allowed))}
    found = [(where, form) for where, text in searched.items() for form in spellings(canary) if form in text]
    assert not found, found
    assert len(canary) > 15
