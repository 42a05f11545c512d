"""The only file that talks to ComfyUI: worker threads, interrupt, progress."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

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

_SLICE = 0.05
# A call that was stopped mostly ends by itself in that time, and then knows best how far it came.
_PATIENCE = 1.0
_REMEMBERED_RUNS = 100

# One for each service: the calls that wait for a place at one of them do not stand in the other's way.
_calls: defaultdict[str, DaemonPool] = defaultdict(lambda: DaemonPool(32))
# Apart from the paid calls: what was paid before does not wait until one of them has ended.
_fetches: defaultdict[str, DaemonPool] = defaultdict(lambda: DaemonPool(32))
_store_reads = DaemonPool(4)
# Apart from the calls: conversions of one node do not wait for another's pictures.
_local_work = DaemonPool(2)
# Nobody waits for these.
_thumbnails = DaemonPool(1)
_aftermath = DaemonPool(1)
_LOOKOUT = WakeUpTimer(_SLICE, lambda: bool(comfy.model_management.processing_interrupted()))


@dataclass(frozen=True)
class Account:
    """Pictures of one run by where they came from, its seconds, and whether all of it was free (the sandbox)."""

    bought: int
    resumed: int
    reused: int
    seconds: float
    free: bool


@dataclass(frozen=True)
class Bought:
    """What the calls of a node brought, in their order, the notes about that, and the account of the run."""

    deliveries: list[api.Delivery]
    notes: list[Text]
    account: Account


async def off_loop(function: Callable[..., _T], *args: Any) -> _T:
    """Run a local function on a worker thread, so that the other nodes of the graph go on meanwhile.

    On an interrupt, or when ComfyUI cancels this node because a sibling failed, it is dropped if it has not begun, and
    else ends without anybody waiting for it.
    """
    future = _local_work.submit(partial(function, *args))
    try:
        await _until_done([future])
    except BaseException:
        _abandon(_local_work, [future])
        raise
    return future.result()


async def buy(
    calls: Sequence[api.PaidCall],
    *,
    accept_partial: bool = False,
    check: Callable[[Sequence[api.Delivery]], None] = lambda deliveries: None,
    later: Callable[[], None] = lambda: None,
) -> Bought:
    """Run the paid calls of one node side by side.

    Args:
        check: what the node asks of the deliveries before they count as handed on.
        later: called if all that is missing was bought and may still come.

    Raises:
        ConfigurationError: ComfyUI has loaded the pack twice.
        RemoteImageError: something is missing, and that is not accepted, or nothing came at all.
        InterruptProcessingException: the user interrupted.
    """
    if _other_copy is not None:
        raise _loaded_twice(_other_copy)
    began = time.monotonic()
    batch = await off_loop(api.Batch, await off_loop(SERVER_JOURNAL.open), calls, _current_run())
    jobs = [partial(batch.run, index) for index in range(len(calls))]
    expected_work = ExpectedWork([call.pictures for call in calls], batch.plan)
    stored = {index: partial(batch.stored, index) for index in batch.reused}
    pool = _calls[calls[0].service.provider]
    display = _current_display()
    try:
        results = await _run_jobs(jobs, pool, expected_work, stored, left=lambda error: api.Result(error=error))
    except (comfy.model_management.InterruptProcessingException, asyncio.CancelledError):
        _tell_what_is_left(batch, display)
        raise
    deliveries, missing = api.deliver(results, accept_partial=accept_partial)
    check(deliveries)
    if api.may_still_come(results):
        later()
    await off_loop(batch.delivered, results)
    seconds, service = round(time.monotonic() - began, 1), calls[0].service
    account = Account(**asdict(api.sources_of(results)), seconds=seconds, free=service.account.sandbox)
    api.pack_logger().info("%s: %s", service.name, account)
    return Bought(deliveries, [*api.notes_of(results), *missing], account)


async def fetch(journal: api.Journal, service: api.HiDreamService | api.VolcengineService, wanted: str) -> api.Delivery:
    """The pictures of a task that was paid before; see :func:`api.fetch_task`. Takes no place of the paid calls."""
    job = partial(api.fetch_task, journal, service, wanted)
    [delivery] = await _run_jobs([job], _fetches[service.provider], ExpectedWork([0]))
    return delivery


# An interrupt is felt at once; what became of it is told when the threads have written it down.
_TOLD_WITHIN = 4.5


def _tell_what_is_left(batch: api.Batch, display: NodeDisplay) -> None:
    deadline = time.monotonic() + _TOLD_WITHIN

    def look() -> None:
        with contextlib.suppress(RemoteImageError):
            display.leave(batch.left(max(0.0, deadline - time.monotonic())))

    # One after another: the items of a list end in the same moments.
    with contextlib.suppress(Exception):
        _aftermath.submit(look)


def _as_shown(text: Text) -> str:
    """In the language that ComfyUI's only user has chosen, or else in both; dialogs show no Markdown."""
    shown = str(text)
    with contextlib.suppress(Exception):
        if not args.multi_user:
            file = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
            locale = str(json.loads(file.read_text(encoding="utf-8"))["Comfy.Locale"])
            shown = text.zh if locale.startswith("zh") else text.en
    return shown.replace("`", "")


api.show_as(_as_shown)


def private_directory() -> Path:
    """A folder of ComfyUI's user directory that its web server does not serve."""
    get_system_user_directory = getattr(folder_paths, "get_system_user_directory", None)
    if get_system_user_directory is not None:
        return Path(get_system_user_directory("hidream_volcengine"))
    return Path(folder_paths.get_user_directory()) / "__hidream_volcengine"


PROFILE_FILE = ProfileFile(private_directory)
# These are loaded with the first paid call, or with the page that asks for them.
profiles = made_once(lambda: api.Profiles.of_this_server(start_sandbox, PROFILE_FILE))
_editor = made_once(lambda: api.ProfileEditor(profiles(), PROFILE_FILE))
_templates = made_once(lambda: api.TemplateShelf(profiles(), private_directory))


def _tell_pages(changed: str) -> None:
    # Nothing of it is in the event, which goes to every client.
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(f"hidream_volcengine.{changed}", {})


# The folder of another copy of this pack, if ComfyUI has loaded that before this one: routes and collector are its.
_other_copy: Path | None = None
SERVER_JOURNAL = ServerJournal(private_directory, profiles, partial(_tell_pages, "tasks"), lambda: _other_copy is None)


def register_routes() -> None:
    """Add the pack's routes to ComfyUI's server, if there is one, and no other copy of the pack has done so."""
    global _other_copy
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    server.app.on_response_prepare.append(serve_as_script)
    _other_copy = other_copy(server.routes)
    if _other_copy is None:
        tell_profiles = partial(_tell_pages, "profiles")
        register(server.routes, SERVER_JOURNAL, profiles=_editor, tell_profiles=tell_profiles, shelf=_templates)
    else:
        api.pack_logger().error("%s", _loaded_twice(_other_copy).what.en)


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


_runs: OrderedDict[str, api.Run] = OrderedDict()


def _current_run() -> api.Run:
    """The run of a workflow that this node belongs to; its nodes share one."""
    context = get_executing_context()
    prompt_id = (context.prompt_id if context is not None else "") or _substitute_prompt_id()
    run = _runs.setdefault(prompt_id, api.Run(prompt_id))
    while len(_runs) > _REMEMBERED_RUNS:
        _runs.popitem(last=False)
    return run


_start_id = made_once(lambda: uuid.uuid4().hex)


def _substitute_prompt_id() -> str:
    """An id for a run that was queued with an empty `prompt_id`, so that the budget per run applies to it, too.

    It is made of ComfyUI's number of the queue item; without a queue, each node is a run.
    """
    with contextlib.suppress(Exception):
        running: dict[int, Any] = PromptServer.instance.prompt_queue.currently_running
        return next(f"{_start_id()}-{number}" for number, item in running.items() if not item[1])
    return uuid.uuid4().hex


def _raised(error: RemoteImageError) -> NoReturn:
    raise error


async def _run_jobs(
    jobs: Sequence[Callable[[api.CallHandle], _T]],
    pool: DaemonPool,
    expected_work: ExpectedWork,
    stored: Mapping[int, Callable[[api.CallHandle], _T | None]] = MappingProxyType({}),
    left: Callable[[RemoteImageError], _T] = _raised,
) -> list[_T]:
    """Run blocking jobs side by side on worker threads and return their results in order.

    On an interrupt, or when ComfyUI cancels this node because a sibling failed, every job's token is set and this
    returns at once; what is under way in a thread ends by itself and touches no ComfyUI state.

    Args:
        pool: their worker threads.
        outlook: what they are going to do, to be shown.
        stored: by a job's number, what takes its result from the store and needs no thread of ``pool``; the job itself
            runs only if that brings none.
        left: makes the result of a job that was stopped and whose thread is still held up in something.

    Raises:
        InterruptProcessingException: the user interrupted.
    """
    display = _current_display()
    shown = display.begin(expected_work)
    tokens = [api.CancelToken() for _ in jobs]
    watches = [api.CallHandle(token, call.report) for token, call in zip(tokens, shown, strict=True)]

    def start(index: int) -> Future[_T]:
        return pool.submit(partial(_run_shown, jobs[index], watches[index], shown[index]))

    reads: dict[int, Future[Any]] = {
        index: _store_reads.submit(partial(_read_shown, read, watches[index], shown[index]))
        for index, read in stored.items()
    }
    started = {index: start(index) for index in range(len(jobs)) if index not in reads}
    try:
        if reads:
            await _until_done(list(reads.values()), display)
            unread = [index for index, read in reads.items() if read.exception() or read.result() is None]
            started |= {index: start(index) for index in unread}
        futures = [started.get(index) or reads[index] for index in range(len(jobs))]
        await _until_done(futures, display, tokens)
    except BaseException:
        for token in tokens:
            token.cancel()
        _abandon(_store_reads, reads.values())
        _abandon(pool, started.values())
        display.stop(shown)
        raise
    late = [not future.done() for future in futures]
    pool.abandon(compress(futures, late))
    display.stop(list(compress(shown, late)))
    return [
        left(token.explanation()) if is_late else future.result()
        for future, token, is_late in zip(futures, tokens, late, strict=True)
    ]


def _run_shown(job: Callable[[api.CallHandle], _T], watch: api.CallHandle, call: Call) -> _T:
    result: _T | None = None
    try:
        result = job(watch)
        return result
    finally:
        call.end(result)


def _read_shown(read: Callable[[api.CallHandle], _T | None], watch: api.CallHandle, call: Call) -> _T | None:
    result = read(watch)
    if result is not None:
        call.end(result)
    return result


def _abandon(pool: DaemonPool, futures: Iterable[Future[Any]]) -> None:
    """Drop what waits, now; give back the threads of what runs, once all coroutines of this prompt have left.

    They leave one after the other in the same round of the loop: a thread that is given back before that would begin
    with a job of a coroutine that has not left yet.
    """
    under_way = [future for future in futures if not future.cancel()]
    asyncio.get_running_loop().call_soon(pool.abandon, under_way)


async def _until_done(
    futures: Sequence[Future[Any]], display: NodeDisplay | None = None, tokens: Sequence[api.CancelToken] = ()
) -> None:
    loop = asyncio.get_running_loop()
    token_of = dict(zip(futures, tokens, strict=False))

    def ended() -> bool:
        return all(
            future.done() or (future in token_of and token_of[future].left_behind(_PATIENCE)) for future in futures
        )

    def overdue() -> bool:
        return any(token.left_behind(_PATIENCE) for token in tokens)

    with _LOOKOUT.waiting(overdue, display) as woken:

        def wake(_: Future[Any]) -> None:
            # The loop of an ended prompt is closed; nobody waits there any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        for future in futures:
            future.add_done_callback(wake)
        while not ended():
            # Only a look: the throwing variant clears the one global flag, and other waiting nodes would miss it.
            if comfy.model_management.processing_interrupted():
                raise comfy.model_management.InterruptProcessingException
            if display is not None:
                display.refresh()
            woken.clear()
            if not ended():
                await woken.wait()
    if display is not None:
        display.refresh(at_once=True)


class _Screen:
    """What ComfyUI shows of the node that is executing now, and its page. What ComfyUI raises there ends no call."""

    def __init__(self) -> None:
        context = get_executing_context()
        self._server: Any = getattr(PromptServer, "instance", None)
        self._node_id = context.node_id if context is not None else None
        self._prompt_id = context.prompt_id if context is not None else ""
        # Another prompt may have another.
        self._client_id = getattr(self._server, "client_id", None)
        self._about = {"prompt_id": self._prompt_id, "node": self._node_id, "display_node": self._display_node()}
        self._about["workflow"] = self._workflow()

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
        # Without a client the event would go to everybody.
        return self._client_id is not None and self._client_id in getattr(self._server, "sockets", ())

    def tell(self, state: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):
            self._server.send_sync(_PROGRESS_EVENT, {**self._about, **state}, self._client_id)

    def preview(self, picture: api.tensors.Pixels, there: Callable[[PreviewFile], None]) -> None:
        def make() -> None:
            file = _small_file(picture, _THUMBNAIL_SIDE, "progress")
            if file is not None:
                there(file)

        with contextlib.suppress(Exception):
            _thumbnails.submit(make)

    def _display_node(self) -> str | None:
        with contextlib.suppress(Exception):
            return str(get_progress_state().dynprompt.get_display_node_id(self._node_id))
        return self._node_id

    def _workflow(self) -> str:
        """The page may show another workflow meanwhile, whose nodes have the same numbers."""
        with contextlib.suppress(Exception):
            for item in list(self._server.prompt_queue.currently_running.values()):
                if item[1] == self._prompt_id:
                    return str(item[3]["extra_pnginfo"]["workflow"]["id"])
        return ""


_PROGRESS_EVENT = "hidream_volcengine.progress"
# Of the prompt that runs, by node.
_displays: dict[tuple[str, str], NodeDisplay] = {}


def _current_display() -> NodeDisplay:
    context = get_executing_context()
    if context is None:
        return NodeDisplay(_Screen())
    key = (context.prompt_id, context.node_id)
    for other in [other for other in _displays if other[0] != context.prompt_id]:
        del _displays[other]
    if key not in _displays:
        _displays[key] = NodeDisplay(_Screen())
    return _displays[key]


def blocked_output(why: Text) -> ExecutionBlocker:
    """An output that nobody may use: ComfyUI ends a node that takes it with these words."""
    return ExecutionBlocker(str(why))


_PREVIEW_SIDE = 512
_THUMBNAIL_SIDE = 256


def preview(pixels: api.tensors.Pixels) -> list[PreviewFile]:
    """A small JPEG of a picture for the browser, in the folder of ComfyUI's that ends with the server.

    Returns:
        What /view asks for, and the picture's real size; empty where it cannot be written: that ends no run.
    """
    height, width = pixels.shape[:2]
    file = _small_file(pixels, _PREVIEW_SIDE, "outpaint_preview")
    return [] if file is None else [{**file, "width": width, "height": height}]


def _small_file(pixels: api.tensors.Pixels, side: int, kind: str) -> PreviewFile | None:
    height, width = pixels.shape[:2]
    name = f"{kind}_{api.tensors.fingerprint(pixels).split(':')[1][:32]}.jpg"
    path = Path(folder_paths.get_temp_directory()) / name
    try:
        if not path.exists():
            small = api.tensors.reduced(pixels, *api.geometry.fit_within(width, height, side, side))
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never half a picture under that name.
            part = path.with_suffix(f".{uuid.uuid4().hex}.part")
            part.write_bytes(api.tensors.encode(small, "jpeg 95"))
            part.replace(path)
    except OSError:
        return None
    return {"filename": name, "subfolder": "", "type": "temp"}


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)
