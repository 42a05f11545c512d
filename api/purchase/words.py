"""What became of the calls of one node, as the node returns it: deliveries and notes, or one error for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..core import (
    AmbiguousSubmitError,
    AuthenticationError,
    Billed,
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    TaskTimeoutError,
    Text,
)
from ..journal import ErrorRecord, ItemEnd, JournalError, Order, Outcome, RunItem
from .collect import Delivery


@dataclass(frozen=True)
class Result:
    """What became of one call of a batch: its delivery or its error.

    Neither: it was not submitted, because another call of the node has failed. ``held_back``: it was not submitted, for
    the reason that ``error`` gives. ``attempt``: the journal id of the attempt that ``error`` is about; "" for none.
    """

    delivery: Delivery | None = None
    error: RemoteImageError | None = None
    held_back: bool = False
    attempt: str = ""


def _outcome_of(error: RemoteImageError) -> Outcome:
    """What an error of a call says about it."""
    is_open = error.billed != "no"
    if isinstance(error, AmbiguousSubmitError):
        return Outcome.UNCLEAR
    if isinstance(error, TaskTimeoutError):
        return Outcome.WAITING if is_open else Outcome.NOT_SUBMITTED
    if isinstance(error, ConfigurationError):
        # The journal or the store: with a task or a picture behind it, queueing again goes on there.
        return Outcome.WAITING if is_open else Outcome.NOT_SUBMITTED
    if is_open:
        return Outcome.FAILED
    was_asked = error.provider is not None and not isinstance(error, (ConnectionFailedError, RateLimitError))
    return Outcome.REFUSED if was_asked else Outcome.NOT_SUBMITTED


def ends_of(orders: Sequence[Order], results: Sequence[Result]) -> list[ItemEnd]:
    """How the items of these orders have ended, for the journal; those without a run are left out."""
    return [
        _end_of(order.purchase.item, result)
        for order, result in zip(orders, results, strict=True)
        if order.purchase.item is not None and order.purchase.item.run
    ]


def _end_of(item: RunItem, result: Result) -> ItemEnd:
    delivery, error = result.delivery, result.error
    if delivery is not None:
        error = next(iter(delivery.errors), None)
    record = ErrorRecord.of(error) if error is not None else None
    if delivery is not None and delivery.pictures:
        outcome, source = Outcome.CAME, delivery.source
        return ItemEnd(item, outcome, source, delivery.journal_id, len(delivery.pictures), "yes", record)
    if error is None or result.held_back:
        return ItemEnd(item, Outcome.NOT_SUBMITTED, error=record)
    attempt = delivery.journal_id if delivery is not None else result.attempt or error.journal_id
    billed: Billed = "no" if error.billed == "nothing" else error.billed
    return ItemEnd(item, _outcome_of(error), attempt=attempt, billed=billed, error=record)


def end_of_error(item: RunItem, error: RemoteImageError | None) -> ItemEnd:
    """The end of an item for which nothing was submitted, because of ``error`` or of another item's failure."""
    return _end_of(item, Result(error=error, held_back=True))


@dataclass(frozen=True)
class Counts:
    """Numbers of pictures: bought now, resumed from earlier tasks, reused from the store; then the missing ones."""

    bought: int = 0
    resumed: int = 0
    reused: int = 0
    refused: int = 0
    failed: int = 0
    unclear: int = 0
    waiting: int = 0
    not_submitted: int = 0


_COUNTED_AS = {
    Outcome.REFUSED: "refused",
    Outcome.FAILED: "failed",
    Outcome.UNCLEAR: "unclear",
    Outcome.WAITING: "waiting",
    Outcome.NOT_SUBMITTED: "not_submitted",
}


class Retry(Enum):
    """When queueing again would do something else for an item without a picture than the last run did."""

    NOW = "now"
    WHEN_JOURNAL_DECIDES_OTHERWISE = "a late answer came, or the user chose to submit again"
    WHEN_BUDGET_ALLOWS = "the budget has room"
    WHEN_PROFILE_CHANGES = "a key was mended"
    NEVER = "never: the same request is refused again"


@dataclass(frozen=True)
class Missing:
    """A picture of an item is missing. ``order``: its request; ``None`` if there was none yet."""

    retry: Retry
    order: Order | None = None


def retry_of(error: RemoteImageError | None, *, held_back: bool = False) -> Retry:
    """When queueing again would do something else, after this error; ``None``: another call of the node has failed."""
    if error is None:
        return Retry.NOW
    if isinstance(error, AuthenticationError):
        return Retry.WHEN_PROFILE_CHANGES
    if isinstance(error, QuotaError):
        return Retry.NOW if error.provider is not None else Retry.WHEN_BUDGET_ALLOWS
    if isinstance(error, ConfigurationError) and not isinstance(error, JournalError):
        return Retry.WHEN_PROFILE_CHANGES
    outcome = _outcome_of(error)
    if outcome in (Outcome.UNCLEAR, Outcome.FAILED):
        return Retry.WHEN_JOURNAL_DECIDES_OTHERWISE
    is_final = outcome is Outcome.REFUSED or isinstance(error, InvalidInputError)
    return Retry.NEVER if is_final and not held_back else Retry.NOW


def missing_of(orders: Sequence[Order], results: Sequence[Result]) -> list[Missing]:
    """What is missing after a run, for the question when to run the node again."""
    missing = []
    for order, result in zip(orders, results, strict=True):
        delivery = result.delivery
        if delivery is None:
            missing.append(Missing(retry_of(result.error, held_back=result.held_back), order))
        elif delivery.errors:
            missing.append(Missing(_retry_of_delivery(delivery), order))
    return missing


def _retry_of_delivery(delivery: Delivery) -> Retry:
    """When queueing again would do something else, after a delivery in which pictures are missing."""
    if any(_outcome_of(error) is Outcome.WAITING for error in delivery.errors):
        return Retry.NOW  # a picture that may still come is asked for again
    # Beside pictures that came the others never come; a task without any may be submitted again by the user.
    return Retry.NEVER if delivery.pictures else Retry.WHEN_JOURNAL_DECIDES_OTHERWISE


@dataclass(frozen=True)
class BatchOutcome:
    """The results of a batch in the order of its calls.

    A node first asks :meth:`error`; if it brings none, the node returns ``deliveries`` with :meth:`notes`.
    """

    results: Sequence[Result]

    @property
    def deliveries(self) -> list[Delivery]:
        return [result.delivery for result in self.results if result.delivery is not None]

    @property
    def _skipped(self) -> int:
        """How many calls were not submitted because another one failed."""
        return sum(result.delivery is None and result.error is None for result in self.results)

    @property
    def _errors(self) -> list[RemoteImageError]:
        """An error for each call that failed and each picture that is missing; empty if nothing is."""
        errors: list[RemoteImageError] = []
        for result in self.results:
            errors += [result.error] if result.error else result.delivery.errors if result.delivery else ()
        if not errors and self._skipped:
            # No call failed, so the explained attempt that kept these back is settled by now: by a late answer, or by
            # "submit again".
            return [ServiceError(_WAS_SETTLED, advice=Text("Queue again.", "请重新运行。"))]
        return errors

    def counts(self, wanted: Sequence[int] = ()) -> Counts:
        """How many pictures came from where, and what became of the others.

        Args:
            wanted: how many pictures each call asked for; by default one.
        """
        count: Counter[str] = Counter()
        for result, asked in zip(self.results, wanted or [1] * len(self.results), strict=True):
            delivery = result.delivery
            if delivery is not None:
                count[delivery.source] += len(delivery.pictures)
                count.update(_COUNTED_AS[_outcome_of(error)] for error in delivery.errors)
            elif result.error is None or result.held_back:
                count["not_submitted"] += asked
            else:
                count[_COUNTED_AS[_outcome_of(result.error)]] += asked
        return Counts(**count)

    @property
    def stopped_by(self) -> list[Text]:
        """Why calls were held back, each reason once."""
        return list(dict.fromkeys(each.error.what for each in self.results if each.held_back and each.error))

    def notes(self) -> list[Text]:
        """What the services said that does not fit the pictures, and what is missing; each once."""
        notes = list(dict.fromkeys(delivery.note for delivery in self.deliveries if delivery.note is not None))
        errors, skipped = self._errors, self._skipped
        for what, count in Counter(error.text() for error in errors).items():
            notes.append(Text(f"Missing ({count}×): {what.en}", f"缺失（{count} 项）：{what.zh}"))
        if skipped:
            notes.append(Text(f"{skipped} calls were not submitted after that.", f"之后有 {skipped} 次调用未提交。"))
        return notes

    def error(self, *, accept_partial: bool) -> RemoteImageError | None:
        """The error to raise, if something is missing and ``accept_partial`` does not allow it.

        It is the first one. What became of the rest of the batch is added to it, with the accepted tasks, so that their
        pictures can be fetched.

        Args:
            accept_partial: return the pictures that came, if there is at least one, although others are missing.
        """
        errors, skipped = self._errors, self._skipped
        pictures = sum(len(delivery.pictures) for delivery in self.deliveries)
        if not errors or (accept_partial and pictures):
            return None
        if pictures or skipped or len(errors) > 1:
            errors[0].add_context(_rest_of_batch(pictures, len(errors), skipped, self._task_ids(errors)))
        return errors[0]

    def _task_ids(self, errors: Sequence[RemoteImageError]) -> list[str]:
        """The ids of the accepted tasks, each once.

        A synchronous call has no task id; Remote Task Result takes its journal id instead.
        """
        bought = [(each.task.task_id if each.task else "") or each.journal_id for each in self.deliveries]
        return [task_id for task_id in dict.fromkeys([*bought, *(error.task_id for error in errors)]) if task_id]


_WAS_SETTLED = Text(
    "An earlier try was being settled, so that nothing was bought.", "先前的请求刚刚有了结果，因此本次未购买。"
)


def _rest_of_batch(pictures: int, failed: int, skipped: int, tasks: Sequence[str]) -> Text:
    en = f"In this node: {pictures} pictures came, {failed} failed, {skipped} calls were not submitted."
    zh = f"本节点共：已生成 {pictures} 张，失败 {failed} 项，未提交 {skipped} 次调用。"
    if tasks:
        listed = ", ".join(tasks)
        en += f" The node Remote Task Result fetches what these tasks made, free of charge: {listed}."
        zh += f"可用「取回远程任务」节点免费取回这些任务的图片：{listed}。"
    return Text(en, zh)
