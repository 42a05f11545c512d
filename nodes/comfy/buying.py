"""One ``execute`` of a paid node: its turn among the items of its list, its calls, and what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

from ... import api
from ...api import DaemonPool, RemoteImageError, ServiceError, Text, made_once
from . import host
from .display import ExpectedWork, NodeDisplay, PlanOfNode
from .items import MOST_AT_ONCE, ItemsOfNode
from .missing import MissingPictures

_REMEMBERED_RUNS = 100
# Seconds to wait, after an interrupt, until the threads of the calls have written into the journal how far they came.
_REPORT_WITHIN_S = 4.5

# Threads of the paid calls, for each service, so that calls that wait for one service do not delay the other's.
_paid_call_pools: defaultdict[str, DaemonPool] = defaultdict(lambda: DaemonPool(MOST_AT_ONCE))
_store_read_pool = DaemonPool(4)
# No node waits for its jobs. One thread for all: the items of a mapped list are interrupted at the same time.
_interrupt_report_pool = DaemonPool(1)
MISSING = MissingPictures(host.SERVER_JOURNAL.open, lambda: _state_of_profiles())

_runs: OrderedDict[str, api.Run] = OrderedDict()
# Of the running prompt, by prompt id and node id.
_items_of_nodes: dict[tuple[str, str], ItemsOfNode] = {}


@dataclass(frozen=True)
class ItemAccount:
    """What one item of a node's list got: the page adds the entries of all items up.

    Args:
        index: of the item, from 0.
        free: whether it was the sandbox.
        price: the owner's price of the pictures that were bought or resumed, as a decimal number; ``None``: not set.
        stopped: why calls were held back, each with a line in English and one in Chinese.
    """

    index: int
    seconds: float
    free: bool
    counts: api.Counts
    price: str | None = None
    currency: str | None = None
    stopped: tuple[str, ...] = ()

    def ui(self) -> dict[str, Any]:
        """The entry as JSON."""
        entry = asdict(self)
        counts = entry.pop("counts")
        return {**entry, **counts, "stopped": list(self.stopped)}


class PaidItem:
    """One ``execute`` of a paid node, for one item of its list; :meth:`leave` ends it in any case.

    Args:
        endpoint: where it buys.
        asked: the values of its widgets, as ComfyUI knows them: they decide what is bought.
        keeps_going: whether other calls are submitted after one has failed; the first item of the list decides.
        label: what the user calls the item; ``None``: the input is not connected.
        images: the IMAGE of its batch.
    """

    def __init__(
        self,
        endpoint: api.AnyEndpoint,
        asked: Mapping[str, Any],
        *,
        keeps_going: bool,
        label: str | None,
        images: Any,
    ) -> None:
        context = get_executing_context()
        self._run = run = _current_run()
        node_id = str(context.node_id) if context is not None and context.node_id is not None else ""
        index = (context.list_index if context is not None else None) or 0
        self._endpoint = endpoint
        self._asked = asked
        self._items = _items_of(run, node_id, keeps_going)
        is_batch = label is not None and getattr(images, "ndim", 0) == 4 and len(images) > 1
        self._item = self._items.enter(images if is_batch else None)
        self._of_node = self._items.node.item(index, label or "")
        self._began_at = time.monotonic()
        self._batch: api.Batch | None = None
        # Whether the calls were started: their rows are written at admission, by end(), or after an interrupt.
        self._has_rows = False
        self._calls: Sequence[api.PaidCall] = ()
        self.account = ItemAccount(index, 0.0, False, api.Counts())

    @property
    def keeps_going(self) -> bool:
        return self._items.node.keeps_going

    @property
    def label(self) -> str:
        return self._of_node.label

    def wants(self, pictures: int) -> None:
        """Say how many pictures the item wants at most, before its turn."""
        self._item.wanted = pictures

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The item's turn to be prepared; see :meth:`ItemsOfNode.turn`."""
        async with self._items.turn(self._item):
            self._began_at = time.monotonic()
            yield

    async def prepare(self, calls: Sequence[api.PaidCall]) -> None:
        """Look the calls up in the journal; the first item that is going to buy tells what all of them want.

        Raises:
            ConfigurationError: ComfyUI has loaded the pack twice.
            RemoteImageError: as :class:`api.Batch`.
        """
        host.check_loaded_once()
        journal = await host.off_loop(host.SERVER_JOURNAL.open)
        self._calls = calls
        self._batch = batch = await host.off_loop(api.Batch, journal, calls, self._of_node)
        display = host.current_display()
        if batch.plan.buy and not display.has_plan:
            wanted = batch.plan.buy + self._items.wanted_later
            plan = await host.off_loop(_plan_of_node, journal, calls[0], self._run.prompt_id, wanted)
            display.show_plan(plan)
            if plan.allowed is not None and plan.allowed < wanted:
                api.pack_logger().warning("%d pictures wanted, %d allowed by the budget", wanted, plan.allowed)

    async def buy(self) -> api.BatchOutcome:
        """Run the calls side by side; returns what became of each, and counts it. :meth:`end` must follow.

        Raises:
            InterruptProcessingException: the user interrupted.
        """
        calls, batch, display = self._calls, self._prepared(), host.current_display()
        pool = _paid_call_pools[calls[0].service.provider]
        jobs: list[list[host.PoolFunction[api.Result]]] = [
            [(pool, partial(batch.run, index))] for index in range(len(calls))
        ]
        for index in batch.reused:
            jobs[index].insert(0, (_store_read_pool, partial(batch.stored, index)))
        expected_work = ExpectedWork([call.pictures for call in calls], batch.plan)
        self._has_rows = True
        try:
            results = await host.run_jobs(jobs, expected_work, lambda error: api.Result(error=error))
        except (host.Interrupted, asyncio.CancelledError):
            _report_abandoned_calls(batch, display)
            raise
        outcome = api.BatchOutcome(results)
        self._count(outcome)
        return outcome

    def _prepared(self) -> api.Batch:
        if self._batch is None:
            raise RuntimeError("prepare() must come first")
        return self._batch

    def _count(self, outcome: api.BatchOutcome) -> None:
        service = self._calls[0].service
        counts = outcome.counts([call.pictures for call in self._calls])
        price, currency = _estimate(service, counts.bought + counts.resumed)
        self.account = ItemAccount(
            self.account.index,
            round(time.monotonic() - self._began_at, 1),
            service.account.sandbox,
            counts,
            price,
            currency,
            tuple(str(why) for why in outcome.stopped_by),
        )
        api.pack_logger().info("%s: %s", service.name, self.account.ui())

    async def end(self, outcome: api.BatchOutcome, *, delivered: bool) -> None:
        """Write what became of the item. ``delivered``: the node returns the pictures."""
        batch = self._prepared()
        self._note_missing(batch.missing(outcome.results))
        await host.off_loop(partial(batch.end, outcome.results, delivered=delivered))

    def error(self, outcome: api.BatchOutcome) -> RemoteImageError | None:
        """The error that ends the node, if something is missing and the node does not keep going."""
        if self.keeps_going or (error := outcome.error(accept_partial=False)) is None:
            return None
        failure = self._items.node.failure
        if failure is not None and all(result == api.Result() for result in outcome.results):
            # The calls of this item were held back, because another item has failed.
            error = failure.again()
        return error

    def named(self, error: RemoteImageError) -> RemoteImageError:
        """The error, with the item's place in the list and its label, unless it is another item's failure."""
        name, failure = self.name(), self._items.node.failure
        is_another_items = failure is not None and error is not failure and error.what == failure.what
        if name is not None and not is_another_items:
            error.add_context(Text(f"It is about {name.en}.", f"对应{name.zh}。"))
        return error

    def name(self) -> Text | None:
        """The item for the user: its number in the list and its label; ``None`` if it has neither."""
        number, label = self._of_node.index + 1, self._of_node.label
        if number == 1 and not label:
            return None
        shown = f" ({label})" if label else ""
        return Text(f"item {number}{shown}", f"第 {number} 项{shown}")

    async def fail(self, error: Exception) -> RemoteImageError:
        """The item has ended without outputs; returns the error to show or raise.

        If none of its calls was started, its row is written. An error that is not one of this pack's is a fault of the
        program: it is logged, and what was bought is handed on by the next run.
        """
        if not isinstance(error, RemoteImageError):
            api.pack_logger().error("the node failed", exc_info=error)
        shown = error if isinstance(error, RemoteImageError) else _fault(error)
        self._items.node.note_failure(shown)
        self._note_missing([api.Missing(api.Retry.NOW if self._has_rows else api.retry_of(shown))])
        if not self._has_rows:
            counts = api.Counts(not_submitted=self._wanted)
            self.account = ItemAccount(self.account.index, 0.0, False, counts)
            await host.off_loop(self._write_not_submitted, shown)
        return shown

    def _note_missing(self, missing: Sequence[api.Missing]) -> None:
        MISSING.note(self._run.prompt_id, self._of_node.node.node_id, self._asked, missing)

    @property
    def _wanted(self) -> int:
        """How many pictures count as not submitted, if none of the calls was started."""
        return max(1, self._item.wanted)

    def _write_not_submitted(self, error: RemoteImageError | None) -> None:
        """Write one row for the whole item; a journal that cannot be opened keeps nothing else from going on.

        Args:
            error: why nothing was submitted; ``None``: the user interrupted.
        """
        take = self._asked.get("take", 0)
        item = self._of_node.run_item(
            endpoint=self._endpoint.name,
            profile=str(self._asked.get("profile", "")),
            take=take if isinstance(take, int) else 0,
            pictures=self._wanted,
        )
        with contextlib.suppress(RemoteImageError):
            host.SERVER_JOURNAL.open().run_items.end([api.end_of_error(item, error)])

    def interrupt(self, why: BaseException) -> None:
        """The user has interrupted, or a sibling node has failed: the items that wait for their turn end, too."""
        self._items.interrupt(why)
        if not self._has_rows:
            _interrupt_report_pool.start(partial(self._write_not_submitted, None))

    def leave(self) -> None:
        """The item has ended, with outputs or an exception: release its tickets and its place."""
        if self._batch is not None:
            self._batch.close()
        self._items.leave(self._item)


def _fault(error: Exception) -> ServiceError:
    what = f"{type(error).__name__}: {error}"
    return ServiceError(
        Text(f"The node failed: {what}.", f"节点出错：{what}。"),
        advice=Text("ComfyUI's log has the details.", "详情见 ComfyUI 日志。"),
        billed="unknown",
    )


def _plan_of_node(journal: api.Journal, call: api.PaidCall, prompt_id: str, wanted: int) -> PlanOfNode:
    allowed = journal.limiter.budget_left(call.order(prompt_id, 0).purchase)
    return PlanOfNode(wanted, allowed, *_estimate(call.service, wanted))


def _estimate(service: api.Service, pictures: int) -> tuple[str, str] | tuple[None, None]:
    """What so many pictures cost by the owner's price, as a decimal number, and its currency; ``None`` without one."""
    price = service.account.prices.get(service.name)
    return (None, None) if price is None else (f"{price.amount * pictures:f}", price.currency)


def _report_abandoned_calls(batch: api.Batch, display: NodeDisplay) -> None:
    """Tell the page, from another thread, what became of the calls of an interrupted batch."""
    deadline = time.monotonic() + _REPORT_WITHIN_S

    def look() -> None:
        with contextlib.suppress(RemoteImageError):
            display.add_abandoned(batch.abandoned(max(0.0, deadline - time.monotonic())))

    with contextlib.suppress(Exception):
        _interrupt_report_pool.start(look)


def _state_of_profiles() -> Hashable:
    with contextlib.suppress(RemoteImageError):
        return host.PROFILE_FILE.state()
    return None


def _items_of(run: api.Run, node_id: str, keeps_going: bool) -> ItemsOfNode:
    """The items of a node in this run; drops those of former runs."""
    key = (run.prompt_id, node_id)
    for other in [other for other in _items_of_nodes if other[0] != run.prompt_id]:
        del _items_of_nodes[other]
    if key not in _items_of_nodes:
        _items_of_nodes[key] = ItemsOfNode(run.node(node_id, keeps_going=keeps_going), host.interrupt)
    return _items_of_nodes[key]


def current_run_id() -> str:
    """The prompt id of the run that is executing now, or its substitute."""
    context = get_executing_context()
    return (context.prompt_id if context is not None else "") or _substitute_prompt_id()


def _current_run() -> api.Run:
    """The run that this node belongs to; all nodes of one queued prompt share it."""
    prompt_id = current_run_id()
    run = _runs.setdefault(prompt_id, api.Run(prompt_id))
    while len(_runs) > _REMEMBERED_RUNS:
        _runs.popitem(last=False)
    return run


_start_id = made_once(lambda: uuid.uuid4().hex)


def _substitute_prompt_id() -> str:
    """An id for a run that was queued with an empty `prompt_id`, so that the budget per run applies to it, too.

    It is made of ComfyUI's number of the queue item. If there is no such item, each call returns a new id.
    """
    with contextlib.suppress(Exception):
        running: dict[int, Any] = PromptServer.instance.prompt_queue.currently_running
        return next(f"{_start_id()}-{number}" for number, item in running.items() if not item[1])
    return uuid.uuid4().hex
