"""The only file that talks to ComfyUI: worker threads, interrupt, progress."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections import OrderedDict, defaultdict
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

from ..api import (
    Batch,
    CancelToken,
    Delivery,
    PaidCall,
    Progress,
    Run,
    Text,
    Watch,
    deliver,
    geometry,
    images,
    notes_of,
)
from .books import Books
from .routes import register
from .workers import DaemonPool

_T = TypeVar("_T")

_SLICE = 0.05
_TEXT_EVERY = 1.0
_REMEMBERED_RUNS = 100

# One for each service: the calls that wait for a place at one of them do not stand in the other's way.
_calls: defaultdict[str, DaemonPool] = defaultdict(lambda: DaemonPool(32))
# Apart from the calls: conversions of one node do not wait for another's pictures.
_local_work = DaemonPool(2)


async def off_loop(function: Callable[..., _T], *args: Any) -> _T:
    """Run a local function on a worker thread, so that the other nodes of the graph go on meanwhile."""
    future = _local_work.submit(partial(function, *args))
    await _until_done([future])
    return future.result()


async def buy(
    calls: Sequence[PaidCall],
    *,
    accept_partial: bool = False,
    check: Callable[[Sequence[Delivery]], None] = lambda deliveries: None,
) -> tuple[list[Delivery], list[Text]]:
    """Run the paid calls of one node side by side.

    Args:
        check: what the node asks of the deliveries before they count as handed on.

    Returns:
        What they brought, in their order, and what is to be told about it.

    Raises:
        RemoteImageError: something is missing, and that is not accepted, or nothing came at all.
        InterruptProcessingException: the user interrupted.
    """
    batch = await off_loop(Batch, await off_loop(BOOKS.open), calls, _current_run())
    jobs = [partial(batch.run, index) for index in range(len(calls))]
    results = await run_jobs(jobs, calls[0].service.provider, batch.plan.buy)
    deliveries, missing = deliver(results, accept_partial=accept_partial)
    check(deliveries)
    await off_loop(batch.delivered, results)
    return deliveries, [*notes_of(results), *missing]


def private_directory() -> Path:
    """A folder of ComfyUI's user directory that its web server does not serve."""
    get_system_user_directory = getattr(folder_paths, "get_system_user_directory", None)
    if get_system_user_directory is not None:
        return Path(get_system_user_directory("hidream_volcengine"))
    return Path(folder_paths.get_user_directory()) / "__hidream_volcengine"


BOOKS = Books(private_directory)


def register_routes() -> None:
    """Add the task list's routes to ComfyUI's server, if there is one."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        register(server.routes, BOOKS)


_runs: OrderedDict[str, Run] = OrderedDict()


def _current_run() -> Run:
    """The run of a workflow that this node belongs to; its nodes share one."""
    context = get_executing_context()
    prompt_id = context.prompt_id if context is not None else ""
    run = _runs.setdefault(prompt_id, Run(prompt_id))
    while len(_runs) > _REMEMBERED_RUNS:
        _runs.popitem(last=False)
    return run


async def run_jobs(jobs: Sequence[Callable[[Watch], _T]], service: str, buys: int = 0) -> list[_T]:
    """Run blocking jobs side by side on worker threads and return their results in order.

    On an interrupt, or when ComfyUI cancels this node because a sibling failed, every job's token is set and this
    returns at once; what is under way in a thread ends by itself and touches no ComfyUI state.

    Args:
        service: whose worker threads to use.
        buys: how many pictures this is going to buy, to be shown.

    Raises:
        InterruptProcessingException: the user interrupted.
    """
    display = _Display(len(jobs), buys)
    pool = _calls[service]
    tokens = [CancelToken() for _ in jobs]
    futures = [
        pool.submit(partial(job, Watch(token, partial(display.report, index))))
        for index, (job, token) in enumerate(zip(jobs, tokens, strict=True))
    ]
    try:
        await _until_done(futures, display)
    except BaseException:
        for token in tokens:
            token.cancel()
        pool.abandon(futures)
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
    "waiting": Text("waiting for a free place", "等待空闲名额"),
    "submitting": Text("submitting", "提交中"),
    "queued": Text("queued", "排队中"),
    "running": Text("running", "生成中"),
    "downloading": Text("downloading", "下载中"),
    "done": Text("done", "完成"),
}


class _Display:
    """Progress of one node: workers report, the node's own coroutine draws."""

    def __init__(self, calls: int, buys: int) -> None:
        self._lock = threading.Lock()
        self._buys = buys
        self._calls = [_Shown() for _ in range(calls)]
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
            self._calls[index].hear(progress)
            self._changed = True

    def refresh(self) -> None:
        """Draw, if anything changed or the shown time is a second old. What ComfyUI raises here never ends a call."""
        now = time.monotonic()
        if self._node_id is None or not (self._changed or now - self._drawn >= _TEXT_EVERY):
            return
        with self._lock:
            self._changed = False
            value, stages = sum(call.fraction(now) for call in self._calls), [call.stage for call in self._calls]
        self._drawn = now
        with contextlib.suppress(Exception):
            state = get_progress_state()
            if state.prompt_id == self._prompt_id:
                state.update_progress(self._node_id, value, float(len(stages)), None)
        with contextlib.suppress(Exception):
            text = _words(stages, now - self._begun, self._buys)
            PromptServer.instance.send_progress_text(text, self._node_id, self._client_id)


class _Shown:
    """What is shown of one call."""

    def __init__(self) -> None:
        self.stage = "queued"
        self._told = 0.0
        self._expected: float | None = None
        self._running_since: float | None = None

    def hear(self, progress: Progress) -> None:
        self.stage = progress.stage
        self._told = progress.fraction or self._told
        if progress.expected is not None:
            self._expected = progress.expected
            self._running_since = self._running_since or time.monotonic()

    def fraction(self, now: float) -> float:
        """The service's own figure, or the share of the time that such calls usually take."""
        if self.stage == "done":
            return 1.0
        usual = (now - self._running_since) / self._expected if self._running_since and self._expected else 0.0
        # A call counts as whole only once its picture is here.
        return min(self._told or usual, 0.95)


def _words(stages: Sequence[str], elapsed: float, buys: int) -> str:
    done = sum(stage == "done" for stage in stages)
    current = next((stage for stage in reversed(_STAGES) if stage != "done" and stage in stages), "done")
    stage = _STAGES[current]
    buying = f" · buys {buys} 购买 {buys} 张" if buys else ""
    return f"{done}/{len(stages)} · {stage.en} {stage.zh} · {elapsed:.0f} s{buying}"


def blocked_output(why: Text) -> ExecutionBlocker:
    """An output that nobody may use: ComfyUI ends a node that takes it with these words."""
    return ExecutionBlocker(str(why))


_PREVIEW_SIDE = 512


def preview(pixels: images.Pixels) -> list[dict[str, str | int]]:
    """A small JPEG of a picture for the browser, in the folder of ComfyUI's that ends with the server.

    Returns:
        What /view asks for, and the picture's real size; empty where it cannot be written: that ends no run.
    """
    height, width = pixels.shape[:2]
    name = f"outpaint_preview_{images.fingerprint(pixels).split(':')[1][:32]}.jpg"
    path = Path(folder_paths.get_temp_directory()) / name
    try:
        if not path.exists():
            small = images.resize(pixels, *geometry.fit_within(width, height, _PREVIEW_SIDE, _PREVIEW_SIDE))
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never half a picture under that name.
            part = path.with_suffix(f".{uuid.uuid4().hex}.part")
            part.write_bytes(images.encode(small, "jpeg 95"))
            part.replace(path)
    except OSError:
        return []
    return [{"filename": name, "subfolder": "", "type": "temp", "width": width, "height": height}]


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)
