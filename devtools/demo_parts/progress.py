"""Shows on the terminal, line by line, what a running ComfyUI tells of its nodes and its log of accepted tasks."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from devtools.comfyui.events import Event
from devtools.comfyui.host import ComfyUI

_TASK_ID = re.compile(r"task_id=([\w.:-]+)")


@contextlib.contextmanager
def shown(comfy: ComfyUI) -> Iterator[None]:
    stop = threading.Event()
    tasks = threading.Thread(target=_show_tasks, args=(comfy.log_file, stop), daemon=True)
    lines = _Lines()
    comfy.events.listeners.append(lines.show)
    tasks.start()
    try:
        yield
    finally:
        comfy.events.listeners.remove(lines.show)
        stop.set()
        tasks.join()


class _Lines:
    """A node's words as they come, with how far its progress bar was."""

    def __init__(self) -> None:
        self._percent = 0.0

    def show(self, event: Event) -> None:
        if event.type == "progress_state":
            running = [node for node in event.data["nodes"].values() if node["state"] == "running"]
            self._percent = max((100 * node["value"] / node["max"] for node in running if node["max"]), default=0.0)
        if event.type == "progress_text":
            print(f"  {self._percent:3.0f} %  {event.data['text']}", flush=True)


def _show_tasks(log: Path, stop: threading.Event) -> None:
    """Task ids as soon as they are known: with one, a paid picture can be fetched whatever happens here."""
    seen: set[str] = set()
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(0, 2)
        unread = ""
        while not stop.wait(0.1):
            whole, newline, unread = (unread + lines.read()).rpartition("\n")
            for task in _TASK_ID.findall(whole + newline):
                if task not in seen:
                    seen.add(task)
                    print(f"  task_id={task}", flush=True)
