"""The only file that talks to ComfyUI: worker threads, interrupt, progress."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import folder_paths
import psutil
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..api import Batch, CancelToken, PaidCall, Progress, Result, Text, Watch, images, run_in_batch, wait_for_submits
from .workers import DaemonPool

_T = TypeVar("_T")

_SLICE = 0.05
_TEXT_EVERY = 1.0
_GRACE_AT_EXIT = 5.0

_calls = DaemonPool(32)
# Apart from the calls: conversions of one node do not wait for another's pictures.
_local_work = DaemonPool(2)


async def off_loop(function: Callable[..., _T], *args: Any) -> _T:
    """Run a local function on a worker thread, so that the other nodes of the graph go on meanwhile."""
    future = _local_work.submit(partial(function, *args))
    await _until_done([future])
    return future.result()


async def run_calls(calls: Sequence[PaidCall]) -> list[Result]:
    """Run the paid calls of one node side by side; what became of each, in their order."""
    _wait_for_submits_at_exit()
    batch = Batch()
    return await run_jobs([partial(run_in_batch, call, batch=batch) for call in calls])


@functools.cache
def _wait_for_submits_at_exit() -> None:
    """Registered once, with the first paid call: daemon threads would die in the middle of a submit."""
    atexit.register(wait_for_submits, _GRACE_AT_EXIT)


async def run_jobs(jobs: Sequence[Callable[[Watch], _T]]) -> list[_T]:
    """Run blocking jobs side by side on worker threads and return their results in order.

    On an interrupt, or when ComfyUI cancels this node because a sibling failed, every job's token is set and this
    returns at once; what is under way in a thread ends by itself and touches no ComfyUI state.

    Raises:
        InterruptProcessingException: the user interrupted.
    """
    display = _Display(len(jobs))
    tokens = [CancelToken() for _ in jobs]
    futures = [
        _calls.submit(partial(job, Watch(token, partial(display.report, index))))
        for index, (job, token) in enumerate(zip(jobs, tokens, strict=True))
    ]
    try:
        await _until_done(futures, display)
    except BaseException:
        for token in tokens:
            token.cancel()
        _calls.abandon(futures)
        raise
    return [future.result() for future in futures]


async def _until_done(futures: Sequence[Future[Any]], display: _Display | None = None) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: Future[Any]) -> None:
        # The loop of an ended prompt is closed; nobody waits there any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    for future in futures:
        future.add_done_callback(wake)
    while not all(future.done() for future in futures):
        # Only a look: the throwing variant clears the one global flag, and other waiting nodes would miss it.
        if comfy.model_management.processing_interrupted():
            raise comfy.model_management.InterruptProcessingException
        if display is not None:
            display.refresh()
        done.clear()
        if not all(future.done() for future in futures):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(done.wait(), _SLICE)
    if display is not None:
        display.refresh()


_STAGES = {
    "preparing": Text("preparing", "准备中"),
    "submitting": Text("submitting", "提交中"),
    "queued": Text("queued", "排队中"),
    "running": Text("running", "生成中"),
    "downloading": Text("downloading", "下载中"),
    "done": Text("done", "完成"),
}


class _Display:
    """Progress of one node: workers report, the node's own coroutine draws."""

    def __init__(self, calls: int) -> None:
        self._lock = threading.Lock()
        self._stages = ["queued"] * calls
        self._fractions = [0.0] * calls
        self._changed = True
        self._begun = time.monotonic()
        self._drawn = 0.0
        context = get_executing_context()
        self._node_id = context.node_id if context is not None else None
        self._prompt_id = context.prompt_id if context is not None else None
        self._client_id = getattr(getattr(PromptServer, "instance", None), "client_id", None)

    def report(self, index: int, progress: Progress) -> None:
        """Called by the worker of call ``index``."""
        with self._lock:
            self._stages[index] = progress.stage
            if progress.stage == "done":
                self._fractions[index] = 1.0
            elif progress.fraction is not None:
                # A call counts as whole only once its picture is here.
                self._fractions[index] = min(progress.fraction, 0.95)
            self._changed = True

    def refresh(self) -> None:
        """Draw, if anything changed or the shown time is a second old. What ComfyUI raises here never ends a call."""
        now = time.monotonic()
        if self._node_id is None or not (self._changed or now - self._drawn >= _TEXT_EVERY):
            return
        with self._lock:
            self._changed = False
            value, stages = sum(self._fractions), list(self._stages)
        self._drawn = now
        with contextlib.suppress(Exception):
            state = get_progress_state()
            if state.prompt_id == self._prompt_id:
                state.update_progress(self._node_id, value, float(len(stages)), None)
        with contextlib.suppress(Exception):
            text = _words(stages, now - self._begun)
            PromptServer.instance.send_progress_text(text, self._node_id, self._client_id)


def _words(stages: Sequence[str], elapsed: float) -> str:
    done = sum(stage == "done" for stage in stages)
    current = next((stage for stage in reversed(_STAGES) if stage != "done" and stage in stages), "done")
    stage = _STAGES[current]
    return f"{done}/{len(stages)} · {stage.en} {stage.zh} · {elapsed:.0f} s"


def blocked_output(why: Text) -> ExecutionBlocker:
    """An output that nobody may use: ComfyUI ends a node that takes it with these words."""
    return ExecutionBlocker(str(why))


def keep_pictures(pictures: Sequence[images.Pixels]) -> Path:
    """Save paid pictures that a failed node cannot hand on, as PNGs in a new folder of ComfyUI's output directory."""
    folder = Path(folder_paths.get_output_directory()) / "hidream_volcengine_kept" / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    first = len(list(folder.iterdir()))
    for number, pixels in enumerate(pictures, first + 1):
        (folder / f"{number:05}.png").write_bytes(images.encode(pixels))
    return folder


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)
