"""One run of a workflow, its nodes and their items: which calls may still be submitted, and in which order."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from ..core import (
    AmbiguousSubmitError,
    AuthenticationError,
    CancelToken,
    NotSubmitted,
    Price,
    QuotaError,
    RemoteImageError,
    ServiceError,
    TaskTimeoutError,
    Text,
)
from ..journal import RunItem
from ..services import Service

# So many unclear answers in a row, or definite failures in a row, are an outage of the service.
_UNCLEAR_IN_A_ROW = 3
_FAILED_IN_A_ROW = 10
# Seconds between two looks of a waiting thread at its cancel token.
_LOOK_AGAIN = 0.25


class Run:
    """One run of a workflow (``prompt_id``), for all of its nodes; thread-safe.

    Nothing more is submitted to an account whose key or balance was refused, nor to a service with an outage: three
    unclear answers in a row, or ten definite failures in a row without a picture.
    """

    def __init__(self, prompt_id: str = "") -> None:
        self.prompt_id = prompt_id
        self._lock = threading.Lock()
        self._refused_accounts: dict[str, RemoteImageError] = {}
        self._unclear: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._last_error: dict[str, RemoteImageError] = {}

    def node(self, node_id: str = "", *, keeps_going: bool = False) -> NodeRun:
        """One node of this run; see :class:`NodeRun`."""
        return NodeRun(self, node_id, keeps_going=keeps_going)

    def note_accepted(self, service: Service) -> None:
        """The service has accepted a submit: its answers are clear."""
        with self._lock:
            self._unclear[service.base_url] = 0

    def note_picture(self, service: Service) -> None:
        """A submit of this run has brought a picture: the service works."""
        with self._lock:
            self._unclear[service.base_url] = self._failed[service.base_url] = 0

    def note_failure(self, service: Service, error: RemoteImageError) -> None:
        """A submit of this run has brought no picture.

        Ignored: an error that is not the service's, and a task that goes on there.
        """
        if error.provider is None or isinstance(error, TaskTimeoutError):
            return
        where = service.base_url
        with self._lock:
            if isinstance(error, (AuthenticationError, QuotaError)):
                self._refused_accounts.setdefault(service.account.account_id, error)
            if isinstance(error, AmbiguousSubmitError):
                self._unclear[where] += 1
            else:
                self._unclear[where] = 0
                self._failed[where] += 1
            self._last_error[where] = error

    def check(self, service: Service) -> None:
        """Check that this run may still submit to a service and its account.

        Raises:
            NotSubmitted: with the error that says why it may not.
        """
        where = service.base_url
        with self._lock:
            refused = self._refused_accounts.get(service.account.account_id)
            unclear, failed = self._unclear[where], self._failed[where]
            last = self._last_error.get(where)
        if refused is not None:
            raise NotSubmitted(_after_refusal(refused))
        if last is not None and (unclear >= _UNCLEAR_IN_A_ROW or failed >= _FAILED_IN_A_ROW):
            raise NotSubmitted(_outage(service, last, is_unclear=unclear >= _UNCLEAR_IN_A_ROW))


def _after_refusal(cause: RemoteImageError) -> RemoteImageError:
    return type(cause)(
        Text(
            f"Not submitted: earlier in this run {cause.provider} answered: {cause.what.en}",
            f"未提交：本次运行中 {cause.provider} 此前已返回：{cause.what.zh}",
        ),
        advice=cause.advice,
        provider=cause.provider,
    )


def _outage(service: Service, last: RemoteImageError, *, is_unclear: bool) -> ServiceError:
    times_en, times_zh = (
        (f"{_UNCLEAR_IN_A_ROW} answers in a row were unclear", f"连续 {_UNCLEAR_IN_A_ROW} 次应答结果不明")
        if is_unclear
        else (f"{_FAILED_IN_A_ROW} calls in a row brought no picture", f"连续 {_FAILED_IN_A_ROW} 次调用未返回图片")
    )
    return ServiceError(
        Text(
            f"Not submitted: {service.provider} seems to be down: in this run {times_en}, the last one: {last.what.en}",
            f"未提交：{service.provider} 疑似故障：本次运行中{times_zh}，最近一次：{last.what.zh}",
        ),
        advice=Text(
            "Queue again later: what came is not bought twice.", "请稍后重新运行：已返回的图片不会重复购买。"
        ),
    )


class NodeRun:
    """One node in a run, for all items of its list; thread-safe.

    Args:
        keeps_going: whether the other calls are submitted after one has failed (``on_partial``: return the rest).
    """

    def __init__(self, run: Run, node_id: str, *, keeps_going: bool) -> None:
        self.run = run
        self.node_id = node_id
        self.keeps_going = keeps_going
        self.order = SubmitOrder()
        self.failure: RemoteImageError | None = None
        """The first failure that is known as an error, unless the node keeps going."""
        self._has_failed = False
        self._budget_errors: dict[str, QuotaError] = {}

    def item(self, index: int = 0, label: str = "") -> NodeItem:
        """One item of the node's list; ``index`` counts from 0."""
        return NodeItem(self, index, label)

    def note_failure(self, error: RemoteImageError | None = None) -> None:
        """A call of the node has failed: unless the node keeps going, no other one is submitted any more."""
        if not self.keeps_going:
            self._has_failed = True
            self.failure = self.failure or error

    def note_used_up(self, service: Service, error: QuotaError) -> None:
        """An account's budget does not hold a call: no later call of this node goes to it, even a smaller one."""
        self._budget_errors.setdefault(service.account.account_id, error)

    def check(self, service: Service) -> None:
        """Check that a call of this node may still be submitted.

        Raises:
            NotSubmitted: another call has failed, or as :meth:`Run.check`.
        """
        if self._has_failed:
            raise NotSubmitted
        self.run.check(service)

    def check_budget(self, service: Service) -> None:
        """Check that the account's budget has held all calls of this node so far.

        Raises:
            NotSubmitted: it has not.
        """
        error = self._budget_errors.get(service.account.account_id)
        if error is not None:
            raise NotSubmitted(error.again())


@dataclass(frozen=True)
class NodeItem:
    """One item of a node's list in a run: its index from 0, and what the user calls it."""

    node: NodeRun
    index: int = 0
    label: str = field(default="", repr=False)

    def run_item(
        self,
        part: int = 0,
        *,
        endpoint: str,
        profile: str,
        take: int,
        pictures: int,
        key: str = "",
        price: Price | None = None,
    ) -> RunItem:
        """A call of this item, for its row in the journal; the arguments as for :class:`RunItem`."""
        node = self.node
        return RunItem(
            node.run.prompt_id,
            node.node_id,
            self.index,
            part,
            self.label,
            endpoint,
            profile,
            take,
            pictures,
            key,
            price,
        )


class SubmitOrder:
    """Lets the calls of a node take their places of the limiter in the order of their tickets; thread-safe.

    Without an order the budget would go to any of the calls, and the first items of a list might get no picture.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.open: list[Ticket] = []

    def ticket(self) -> Ticket:
        """A new ticket behind all open ones; its call must release the ticket, also if it ends without a submit."""
        ticket = Ticket(self)
        with self.changed:
            self.open.append(ticket)
        return ticket


class Ticket:
    """The place of one call in a :class:`SubmitOrder`."""

    def __init__(self, order: SubmitOrder) -> None:
        self._order = order

    def wait(self, cancel: CancelToken) -> None:
        """Wait until every earlier ticket is released, or this one is.

        Raises:
            CallCancelled: cancelled.
        """
        order = self._order
        with order.changed:
            while self in order.open and order.open[0] is not self:
                cancel.check()
                order.changed.wait(_LOOK_AGAIN)
        cancel.check()

    def release(self) -> None:
        """Let the next ticket pass; may be called again."""
        with self._order.changed:
            if self in self._order.open:
                self._order.open.remove(self)
                self._order.changed.notify_all()
