"""All calls of ComfyUI but ``comfy_api``: jobs of nodes on worker threads, interrupts, progress, routes, previews.

It also holds what exists once in the process: the profiles, the journal and the templates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

import comfy.model_management
import folder_paths
import psutil
from comfy.cli_args import args
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ... import api
from ...api import ConfigurationError, DaemonPool, ProfileFile, RemoteImageError, Text, made_once
from ..routes import other_copy, register, serve_as_script
from .display import Call, ExpectedWork, NodeDisplay, PreviewFile
from .sandbox import start_sandbox
from .server_journal import ServerJournal
from .wake_up import WakeUpTimer

_T = TypeVar("_T")

# Seconds between two looks at ComfyUI's interrupt flag.
_LOOK_EVERY_S = 0.05
# Seconds for a call that was stopped in the task list to end by itself: its own result says best how far it came.
_PATIENCE_S = 1.0

# Threads of Remote Task Result, so that fetching a paid task does not wait for paid calls.
_fetch_pools: defaultdict[str, DaemonPool] = defaultdict(lambda: DaemonPool(32))
# Threads of off_loop(), so that the conversions of one node do not wait for another node's calls.
_local_pool = DaemonPool(2)
# No node waits for its jobs.
_thumbnail_pool = DaemonPool(1)
_WAKE_UPS = WakeUpTimer(_LOOK_EVERY_S, lambda: bool(comfy.model_management.processing_interrupted()))


async def off_loop(function: Callable[..., _T], *args: Any) -> _T:
    """Run a blocking local function on a worker thread and return its result, so that other nodes run meanwhile.

    On an interrupt, or when ComfyUI cancels this node because a sibling failed, the function is not started any more;
    if it runs already, it ends in its thread and the result is dropped.

    Raises:
        InterruptProcessingException: the user interrupted.
        Exception: whatever the function raises.
    """
    future = _local_pool.start(partial(function, *args))
    try:
        await _until_done({future: None})
    except BaseException:
        _abandon(_local_pool, future)
        raise
    return future.result()


async def fetch(journal: api.Journal, service: api.Service, wanted: str) -> api.Delivery:
    """The pictures of a task that was paid before; see :func:`api.fetch_task`. It uses no thread of the paid calls.

    Args:
        wanted: a journal id, or the service's task id.
    """
    job = _fetch_pools[service.provider], partial(api.fetch_task, journal, service, wanted)
    [delivery] = await run_jobs([[job]], ExpectedWork([0]))
    return delivery


def _as_shown(text: Text) -> str:
    """The text of an error for ComfyUI's dialog: in the user's language if it is known, else in both.

    Without backquotes, because the dialog shows no Markdown.
    """
    language = user_language()
    shown = str(text) if language is None else text.zh if language == "zh" else text.en
    return shown.replace("`", "")


def user_language() -> Literal["en", "zh"] | None:
    """The user's language, from the settings of ComfyUI; ``None`` if they do not tell, or there are several users."""
    with contextlib.suppress(Exception):
        if not args.multi_user:
            file = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
            locale = str(json.loads(file.read_text(encoding="utf-8"))["Comfy.Locale"])
            return "zh" if locale.startswith("zh") else "en"
    return None


api.show_as(_as_shown)


def private_directory() -> Path:
    """The pack's folder in ComfyUI's user directory; ComfyUI's web server does not serve it."""
    get_system_user_directory = getattr(folder_paths, "get_system_user_directory", None)
    if get_system_user_directory is not None:
        return Path(get_system_user_directory("hidream_volcengine"))
    return Path(folder_paths.get_user_directory()) / "__hidream_volcengine"


PROFILE_FILE = ProfileFile(private_directory)
# Made by the first paid call or the first request of a page, because they load packages that ComfyUI's start does not.
profiles = made_once(lambda: api.Profiles.of_this_server(start_sandbox, PROFILE_FILE))
_editor = made_once(lambda: api.ProfileEditor(profiles(), PROFILE_FILE))
_templates = made_once(lambda: api.TemplateShelf(profiles(), private_directory))


def _tell_pages(changed: str) -> None:
    # The event goes to every client, so it carries no content: a page asks the routes for it.
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(f"hidream_volcengine.{changed}", {})


# The folder of another copy of this pack that ComfyUI has loaded before this one. Then only that copy has routes and a
# background poller, and this one buys nothing.
_other_copy: Path | None = None
SERVER_JOURNAL = ServerJournal(private_directory, profiles, partial(_tell_pages, "tasks"), lambda: _other_copy is None)


def register_routes() -> None:
    """Add the pack's routes to ComfyUI's server, if there is one, and no other copy of the pack has done so."""
    global _other_copy
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    try:
        server.app.on_response_prepare.append(serve_as_script)
    except (AttributeError, RuntimeError) as problem:
        # A changed or stand-in server: it has no app, or its app is frozen. Then *.mjs come as that server sends them.
        api.pack_logger().debug("type and Cache-Control of *.mjs are not set: %s", problem)
    _other_copy = other_copy(server.routes)
    if _other_copy is None:
        tell_profiles = partial(_tell_pages, "profiles")
        register(server.routes, SERVER_JOURNAL, profiles=_editor, tell_profiles=tell_profiles, shelf=_templates)
    else:
        api.pack_logger().error("%s", _loaded_twice(_other_copy).what.en)


def check_loaded_once() -> None:
    """Check that ComfyUI has loaded this pack once.

    Raises:
        ConfigurationError: it has loaded two copies, and this is the second one.
    """
    if _other_copy is not None:
        raise _loaded_twice(_other_copy)


def _loaded_twice(first: Path) -> ConfigurationError:
    this = Path(__file__).resolve().parents[2]
    return ConfigurationError(
        Text(
            f"ComfyUI has loaded two copies of this pack: {first} and {this}. Nothing was sent.",
            f"ComfyUI 加载了本插件的两个副本：{first} 和 {this}。未发送任何内容。",
        ),
        advice=Text(
            "Remove one of the two folders from custom_nodes and restart ComfyUI. Local nodes and Remote Task Result "
            "go on meanwhile.",
            "请从 custom_nodes 中移除其中一个文件夹并重启 ComfyUI。在此期间，本地节点和「取回远程任务」仍可使用。",
        ),
    )


def _raise(error: RemoteImageError) -> NoReturn:
    raise error


# A pool, and the function that its threads run: it returns the result of a job, or ``None`` if it has none.
PoolFunction: TypeAlias = "tuple[DaemonPool, Callable[[api.CallHandle], _T | None]]"


class _Job(Generic[_T]):
    """One job of a node on worker threads, with its token and what the display shows of it. It starts at once.

    Args:
        functions: one or two. The first starts at once; the second starts with :meth:`go_on`, if the first has raised
            or returned ``None``.
    """

    def __init__(self, shown: Call, functions: Sequence[PoolFunction[_T]]) -> None:
        self.shown = shown
        self.token = api.CancelToken()
        self._functions = list(functions)
        self._start()

    @property
    def has_second(self) -> bool:
        return bool(self._functions)

    def go_on(self) -> None:
        """Start the second function, if there is one and the first has ended without a result."""
        if self.has_second and (self.future.exception() is not None or self.future.result() is None):
            self._start()

    def _start(self) -> None:
        self.pool, function = self._functions.pop(0)
        self.future: Future[Any] = self.pool.start(partial(self._run, function, is_last=not self._functions))

    def _run(self, function: Callable[[api.CallHandle], _T | None], *, is_last: bool) -> _T | None:
        result = None
        try:
            result = function(api.CallHandle(self.token, self.shown.report))
            return result
        finally:
            if is_last or result is not None:
                self.shown.end(result)


async def run_jobs(
    jobs: Sequence[Sequence[PoolFunction[_T]]],
    expected_work: ExpectedWork,
    result_of_stopped: Callable[[RemoteImageError], _T] = _raise,
) -> list[_T]:
    """Run blocking jobs side by side on worker threads and return their results in order.

    On an interrupt, or when ComfyUI cancels this node because a sibling failed, every job's token is cancelled and this
    raises at once. Jobs that run end by themselves in their threads and touch no ComfyUI state.

    Args:
        jobs: the functions of each :class:`_Job`. The second ones start when the first ones of all jobs have ended.
        expected_work: what the jobs are going to do, for the display.
        result_of_stopped: makes the result of a job that was stopped in the task list and whose thread has not ended
            within ``_PATIENCE_S`` seconds; it gets the error that explains the stop.

    Raises:
        InterruptProcessingException: the user interrupted.
        Exception: whatever the first job in order raised that raised.
    """
    display = current_display()
    running = [_Job(shown, functions) for shown, functions in zip(display.begin(expected_work), jobs, strict=True)]
    try:
        await _until_done({job.future: None for job in running if job.has_second}, display)
        for job in running:
            job.go_on()
        await _until_done({job.future: job.token for job in running}, display)
    except BaseException:
        for job in running:
            job.token.cancel()
        _leave(running, display)
        raise
    late = [job for job in running if not job.future.done()]
    _leave(late, display)
    return [result_of_stopped(job.token.explanation()) if job in late else job.future.result() for job in running]


def _leave(jobs: Sequence[_Job[_T]], display: NodeDisplay) -> None:
    for job in jobs:
        _abandon(job.pool, job.future)
    display.stop([job.shown for job in jobs])


def _abandon(pool: DaemonPool, future: Future[Any]) -> None:
    """Drop the future's job if it is queued, else take its thread out of the pool's size in the loop's next round.

    On an interrupt all coroutines of a prompt end in the same round. If a place in the pool became free before all of
    them have dropped their queued jobs, the pool would start one of these jobs.
    """
    if not future.cancel():
        asyncio.get_running_loop().call_soon(pool.abandon, [future])


async def _until_done(tokens: Mapping[Future[Any], api.CancelToken | None], display: NodeDisplay | None = None) -> None:
    """Wait until each future is done, or was stopped by its token ``_PATIENCE_S`` seconds ago; draw the display.

    Args:
        tokens: the futures, each with its token; ``None``: it cannot be stopped alone.

    Raises:
        InterruptProcessingException: the user interrupted. The futures go on.
    """
    if not tokens:
        return
    loop = asyncio.get_running_loop()

    def ended() -> bool:
        return all(
            future.done() or (token is not None and token.left_behind(_PATIENCE_S)) for future, token in tokens.items()
        )

    with _WAKE_UPS.waiting(ended, display) as woken:

        def wake(_: Future[Any]) -> None:
            # RuntimeError: the prompt has ended and its loop is closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        for future in tokens:
            future.add_done_callback(wake)
        while not ended():
            if (why := interrupt()) is not None:
                raise why
            if display is not None:
                display.refresh()
            woken.clear()
            if not ended():
                await woken.wait()
    if display is not None:
        display.refresh(at_once=True)


class _NodeUi:
    """The :class:`UiSink` of the node that is executing now. Errors of ComfyUI are ignored: they must end no call."""

    def __init__(self) -> None:
        context = get_executing_context()
        self._server: Any = getattr(PromptServer, "instance", None)
        self._node_id = context.node_id if context is not None else None
        self._prompt_id = context.prompt_id if context is not None else ""
        # Read now: the server's client_id changes with the prompt that it executes.
        self._client_id = getattr(self._server, "client_id", None)
        self._identity = {"prompt_id": self._prompt_id, "node": self._node_id, "display_node": self._display_node()}
        self._identity["workflow"] = self._workflow()

    def bar(self, value: float, total: float) -> None:
        with contextlib.suppress(Exception):
            state = get_progress_state()
            if state.prompt_id == self._prompt_id and self._node_id is not None:
                state.update_progress(self._node_id, value, total, None)

    def text(self, words: str) -> None:
        with contextlib.suppress(Exception):
            if self._node_id is not None:
                self._server.send_progress_text(words, self._node_id, self._client_id)

    def watched(self) -> bool:
        # send_sync() without a client id would send the event to every client.
        return self._client_id is not None and self._client_id in getattr(self._server, "sockets", ())

    def tell(self, state: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):
            self._server.send_sync(_PROGRESS_EVENT, {**self._identity, **state}, self._client_id)

    def preview(self, picture: api.tensors.Pixels, there: Callable[[PreviewFile], None]) -> None:
        def make() -> None:
            file = _small_file(picture, _THUMBNAIL_SIDE, "progress")
            if file is not None:
                there(file)

        with contextlib.suppress(Exception):
            _thumbnail_pool.start(make)

    def _display_node(self) -> str | None:
        with contextlib.suppress(Exception):
            return str(get_progress_state().dynprompt.get_display_node_id(self._node_id))
        return self._node_id

    def _workflow(self) -> str:
        """The id of the queued workflow, "" if not known. The page compares it: node ids repeat in other workflows."""
        with contextlib.suppress(Exception):
            for item in list(self._server.prompt_queue.currently_running.values()):
                if item[1] == self._prompt_id:
                    return str(item[3]["extra_pnginfo"]["workflow"]["id"])
        return ""


_PROGRESS_EVENT = "hidream_volcengine.progress"
# The displays of the running prompt, by prompt id and node id.
_displays: dict[tuple[str, str], NodeDisplay] = {}


def current_display() -> NodeDisplay:
    """The display of the node that is executing now; drops those of former prompts."""
    context = get_executing_context()
    if context is None:
        return NodeDisplay(_NodeUi())
    key = (context.prompt_id, context.node_id)
    for other in [other for other in _displays if other[0] != context.prompt_id]:
        del _displays[other]
    if key not in _displays:
        _displays[key] = NodeDisplay(_NodeUi())
    return _displays[key]


Interrupted: TypeAlias = comfy.model_management.InterruptProcessingException


def interrupt() -> Interrupted | None:
    """The exception to raise if the user has interrupted the run; ``None`` if not.

    Not throw_exception_if_processing_interrupted(): it clears the global flag, so that other nodes of this prompt that
    wait would not see it.
    """
    return Interrupted() if comfy.model_management.processing_interrupted() else None


def blocked_output(why: Text | None = None) -> ExecutionBlocker:
    """A value for an output that has none: a node that takes it is not run, and ComfyUI shows ``why`` as its error.

    Without ``why`` it is not run, and nothing is shown.
    """
    return ExecutionBlocker(None if why is None else str(why))


# Pixels of the longer side.
_PREVIEW_SIDE = 512
_THUMBNAIL_SIDE = 256


def preview(pixels: api.tensors.Pixels) -> list[PreviewFile]:
    """Write a JPEG of at most 512 px of a picture into ComfyUI's temp folder, for the browser.

    Returns:
        One entry: the parameters for /view, and width and height of the picture itself. Empty if the file cannot be
        written, because a missing preview must not end the run.
    """
    height, width = pixels.shape[:2]
    file = _small_file(pixels, _PREVIEW_SIDE, "outpaint_preview")
    return [] if file is None else [{**file, "width": width, "height": height}]


def _small_file(pixels: api.tensors.Pixels, side: int, kind: str) -> PreviewFile | None:
    """Write a JPEG within ``side`` × ``side`` px and return its parameters for /view; ``None`` if that fails.

    ``kind`` begins its name; the rest is the hash of the pixels, so an equal picture is written once.
    """
    height, width = pixels.shape[:2]
    name = f"{kind}_{api.tensors.fingerprint(pixels).split(':')[1][:32]}.jpg"
    path = Path(folder_paths.get_temp_directory()) / name
    try:
        if not path.exists():
            small = api.tensors.reduced(pixels, *api.geometry.fit_within(width, height, side, side))
            path.parent.mkdir(parents=True, exist_ok=True)
            # Renamed when complete: another thread takes an existing file for a complete one.
            part = path.with_suffix(f".{uuid.uuid4().hex}.part")
            part.write_bytes(api.tensors.encode(small, "jpeg 95"))
            part.replace(path)
    except OSError:
        return None
    return {"filename": name, "subfolder": "", "type": "temp"}


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)
