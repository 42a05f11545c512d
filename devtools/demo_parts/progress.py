"""Prints the progress of a running ComfyUI: the texts of its nodes, and the task ids from its log."""

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
    """Print the progress of everything that runs inside of the `with` block."""
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
    """Prints each text of a node with the percentage of its progress bar."""

    def __init__(self) -> None:
        self._percent = 0.0

    def show(self, event: Event) -> None:
        if event.type == "progress_state":
            running = [node for node in event.data["nodes"].values() if node["state"] == "running"]
            self._percent = max((100 * node["value"] / node["max"] for node in running if node["max"]), default=0.0)
        if event.type == "progress_text":
            print(f"  {self._percent:3.0f} %  {event.data['text']}", flush=True)


def _show_tasks(log: Path, stop: threading.Event) -> None:
    """Print each task id once, as soon as the log has it: with it a paid picture can be fetched if this run dies."""
    seen: set[str] = set()
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(0, 2)
        unread = ""
        while not stop.wait(0.1):
            complete, newline, unread = (unread + lines.read()).rpartition("\n")
            for task in _TASK_ID.findall(complete + newline):
                if task not in seen:
                    seen.add(task)
                    print(f"  task_id={task}", flush=True)
