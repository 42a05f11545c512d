"""The one way of a paid call: check → claim → submit → wait → download → store → deliver."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.cancel import NotSubmitted
from ..core.errors import (
    AuthenticationError,
    InvalidInputError,
    QuotaError,
    RemoteImageError,
    ServiceError,
    TaskTimeoutError,
)
from ..core.redaction import pack_logger, redact, shortened
from ..core.task import Accepted, Progress, TaskRef, Watch
from ..core.text import Text
from ..core.threads import apart
from ..journal.model import (
    ANY_PICTURE,
    Attempt,
    Busy,
    ClaimLost,
    Explained,
    Finished,
    Found,
    JournalError,
    Order,
    Purchase,
    Standing,
    State,
)
from ..services.model import WireRequest
from .collect import (
    Delivery,
    PicturesGoneError,
    TaskForgottenError,
    check_room,
    collect,
    from_store,
    keep_beside_an_error,
    picture_lost,
)
from .request_key import request_key
from .stop import Waiting
from .submit import Service, submit_until_decided

if TYPE_CHECKING:
    # The database that they bring is loaded with the first purchase.
    from ..journal.claim import Claim
    from ..journal.journal import Journal

# Of no meaning for what the picture will be.
_NOT_IN_KEY = {"request_id", "notify_url", "return_url"}
_LOOK_AGAIN = 0.2


@dataclass(frozen=True)
class PaidCall:
    """One thing to buy.

    Args:
        request: the wire model, with ``images.fingerprint`` in the place of each image: what the key is made of.
        encode: the real values of those fields; runs in the worker, once it is certain that something is bought, and
            again if that came to nothing. It should hold no picture of its own: calls wait for long (``uploads.py``).
        expected_pixels: of one picture; results up to four times this are taken.
        pictures: how many it buys, for the budget.
        problem: why it may not be submitted; what was bought with it before is still handed on.
    """

    service: Service
    request: WireRequest
    encode: Callable[[], Mapping[str, Any]]
    expected_pixels: int
    take: int = 0
    pictures: int = 1
    problem: RemoteImageError | None = None

    def order(self, prompt_id: str, occurrence: int) -> Order:
        body = self.request.model_dump(exclude_none=True, exclude=_NOT_IN_KEY)
        prompt = str(body.get("prompt") or body.get("custom_prompt") or "")
        key = _key(self.service, body, self.take, occurrence)
        return _order(
            self.service, key, prompt_id, self.take, self.pictures, self.expected_pixels, shortened(prompt, 200)
        )


class Run:
    """One run of a workflow (``prompt_id``): once its key or balance was refused, nothing more is submitted in it."""

    def __init__(self, prompt_id: str = "") -> None:
        self.prompt_id = prompt_id
        self._stopped_by: RemoteImageError | None = None

    def heard(self, error: RemoteImageError) -> None:
        if isinstance(error, (AuthenticationError, QuotaError)) and error.provider is not None:
            self._stopped_by = error

    def check(self) -> None:
        """
        Raises:
            AuthenticationError, QuotaError: what an earlier call of this run was told.
        """
        cause = self._stopped_by
        if cause is not None:
            raise type(cause)(
                Text(
                    f"Not submitted: earlier in this run {cause.provider} answered: {cause.what.en}",
                    f"未提交：本次运行中 {cause.provider} 此前已返回：{cause.what.zh}",
                ),
                advice=cause.advice,
            )


@dataclass(frozen=True)
class Plan:
    """What a batch is going to do: pictures to ``buy``, calls to ``reuse`` and to ``resume``."""

    buy: int
    reuse: int
    resume: int


@dataclass(frozen=True)
class Sources:
    """Pictures that were bought now, that a task of an earlier run brought, and that were in the store."""

    bought: int
    resumed: int
    reused: int


@dataclass(frozen=True)
class Left:
    """The calls of an interrupted batch, counted by what the journal knows of each.

    ``accepted``: the pictures are in the store, or the task goes on at the service; queueing again is free.
    ``sending``: the answer to the submit is still awaited. ``unclear``: the service may have accepted the call.
    ``unsent``: certainly not accepted.
    """

    accepted: int = 0
    sending: int = 0
    unclear: int = 0
    failed: int = 0
    unsent: int = 0


@dataclass(frozen=True)
class Result:
    """What became of one call of a batch; ``delivery`` and ``error`` are both ``None`` if it was not submitted."""

    delivery: Delivery | None = None
    error: RemoteImageError | None = None


class Batch:
    """The calls of one node: once one of them has failed, no further one is submitted.

    Making one looks them all up in the journal, before anything is bought.

    Raises:
        RemoteImageError: the ``problem`` of a call that would be submitted.
        QuotaError: the budget does not hold what this would buy.
        JournalError: nothing can be written down, so nothing may be submitted.
    """

    def __init__(self, journal: Journal, calls: Sequence[PaidCall], run: Run) -> None:
        self._journal = journal
        self._calls = calls
        self._run_of_workflow = run
        self._failed = threading.Event()
        self._orders = _orders(calls, run.prompt_id)
        self._running = 0
        self._rests = threading.Condition()
        standings = journal.look_up([order.key for order in self._orders])
        kinds = [standings[order.key] for order in self._orders]
        new = [order.purchase for order, kind in zip(self._orders, kinds, strict=True) if kind is Standing.NEW]
        of_new = [call.problem for call, kind in zip(calls, kinds, strict=True) if kind is Standing.NEW]
        buy = sum(purchase.pictures for purchase in new)
        self.plan = Plan(buy, kinds.count(Standing.REUSE), kinds.count(Standing.RESUME))
        self.reused = [index for index, kind in enumerate(kinds) if kind is Standing.REUSE]
        """The calls that :meth:`stored` is to be asked for first."""
        if Standing.EXPLAIN in kinds and new:
            # This node is going to fail: nothing is bought beside that.
            self._failed.set()
        elif problem := next(filter(None, of_new), None):
            raise problem
        elif new:
            journal.check_budget(_together(new))
            pack_logger().info(
                "%s: this node buys %d picture(s), reuses %d call(s) and resumes %d",
                new[0].endpoint,
                buy,
                self.plan.reuse,
                self.plan.resume,
            )

    def stored(self, index: int, watch: Watch) -> Result | None:
        """One call's pictures from the store; nothing is sent, claimed or written down.

        Returns:
            ``None`` if that is not enough, because a file is gone or cannot be read: :meth:`run` finds that, too, and
            goes on from there.

        Raises:
            CallCancelled: cancelled.
        """
        try:
            attempt = self._journal.finished(self._orders[index].key)
            return None if attempt is None else Result(_delivered_again(self._journal, attempt, watch))
        except (PicturesGoneError, RemoteImageError):
            return None

    def run(self, index: int, watch: Watch) -> Result:
        """Run one call; its failure keeps its siblings from being submitted, and theirs this one.

        While it waits for an attempt, ``journal.waits`` can stop it: that is a failure like any other.

        Raises:
            CallCancelled: cancelled.
        """
        call, order = self._calls[index], self._orders[index]
        with self._rests:
            self._running += 1
        try:
            return self._run(call, order, watch)
        finally:
            with self._rests:
                self._running -= 1
                self._rests.notify_all()

    def _run(self, call: PaidCall, order: Order, watch: Watch) -> Result:
        try:
            with self._journal.waits.call(watch.cancel, self._failed.set) as waiting:
                return Result(self._get(call, order, watch, waiting))
        except NotSubmitted:
            return Result()
        except RemoteImageError as error:
            self._failed.set()
            self._run_of_workflow.heard(error)
            return Result(error=error)
        except BaseException:
            self._failed.set()
            raise

    def _get(self, call: PaidCall, order: Order, watch: Watch, waiting: Waiting) -> Delivery:
        journal = self._journal
        waited_for = ""
        lost: Attempt | None = None
        while True:
            watch.cancel.check()
            try:
                # An attempt that was sent is resumed by its journal id; claim() might find no row and buy it again.
                found = journal.claim_task(lost.journal_id) if lost else journal.claim(order, waited_for)
            except JournalError as error:
                raise _after_acceptance(error, lost) from None
            if found is None:
                raise _after_acceptance(_gone(), lost)
            if isinstance(found, Explained):
                raise found.error
            if isinstance(found, Busy):
                waited_for = found.journal_id
                waiting.on(waited_for)
                try:
                    _wait_while_busy(self._journal, waited_for, watch)
                except JournalError as error:
                    # Whoever works on it may be buying it in this moment.
                    error.billed = "unknown"
                    raise
            elif isinstance(found, Finished):
                if (delivery := _reuse(self._journal, found.attempt, watch)) is not None:
                    return delivery
            else:
                waiting.on(found.journal_id, found)
                try:
                    with found as claim:
                        delivery = self._work(call, order, claim, watch)
                except ClaimLost:
                    lost = found.attempt if found.was_sent else None
                    continue
                except TaskForgottenError:
                    lost = None
                    continue
                # What came after an interrupt is in the store for the next run; here nobody waits for it.
                watch.cancel.check()
                if delivery.errors:
                    self._failed.set()
                return delivery

    def _work(self, call: PaidCall, order: Order, claim: Claim, watch: Watch) -> Delivery:
        service, journal = call.service, self._journal
        if claim.attempt.state is not State.PREPARED:
            return resume(claim, service, journal, watch)
        watch.report(Progress("waiting"))
        self._check()
        admit = partial(journal.admit, claim, order.purchase, watch.cancel)
        admit()
        self._check()
        check_room(journal.store, call.expected_pixels * call.pictures)
        watch.report(Progress("preparing"))
        accepted = self._submit(call, claim, watch, admit)
        picture = accepted.picture
        if accepted.task.task_id or (picture is not None and picture.image):
            claim.accepted(accepted.task, picture.image if picture is not None else "")
        else:
            # The answer is the picture itself: it is stored before anything is written down about it.
            claim.answered(accepted.task)
        delivery = collect(claim, service, journal, watch, source="bought", answered=picture)
        return replace(delivery, note=accepted.note or delivery.note)

    def _submit(self, call: PaidCall, claim: Claim, watch: Watch, admit: Callable[[], None]) -> Accepted:
        # Its own frame: the encoded picture ends with it, and not with the wait for the task.
        service, journal = call.service, self._journal
        request = call.request.model_copy(update=dict(apart(call.encode, cancel=watch.cancel)))
        usual = journal.usual_seconds(service.name, sandbox=service.account.sandbox)
        expected = usual.median if usual else None
        keep = partial(keep_beside_an_error, claim, service, watch)
        return submit_until_decided(service, request, claim, journal, watch, self._check, admit, keep, expected)

    def _check(self) -> None:
        if self._failed.is_set():
            raise NotSubmitted
        self._run_of_workflow.check()

    def left(self, seconds: float) -> Left:
        """What the journal knows of the calls once no thread works on one of them any more.

        Args:
            seconds: how long to wait for these threads at most.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._rests:
            self._rests.wait_for(lambda: not self._running, seconds)
        return Left(**Counter(map(_left, self._journal.standings([order.key for order in self._orders]))))

    def delivered(self, results: Sequence[Result]) -> None:
        """The node has handed these on."""
        self._journal.mark_delivered(result.delivery.journal_id for result in results if result.delivery is not None)


def _left(found: Found) -> str:
    """The field of :class:`Left` that counts a call."""
    if found.standing is Standing.NEW or found.state is State.PREPARED:
        return "unsent"
    if found.standing is Standing.EXPLAIN:
        return "failed" if found.state is State.FAILED else "unclear"
    return "sending" if found.busy and found.state is State.SUBMITTING else "accepted"


def notes_of(results: Sequence[Result]) -> list[Text]:
    """What the services said that does not fit to the pictures of a batch."""
    deliveries = [result.delivery for result in results if result.delivery is not None]
    return list(dict.fromkeys(delivery.note for delivery in deliveries if delivery.note is not None))


def sources_of(results: Sequence[Result]) -> Sources:
    """Where the pictures of a batch came from."""
    deliveries = [result.delivery for result in results if result.delivery is not None]
    count = Counter({"bought": 0, "resumed": 0, "reused": 0})
    for delivery in deliveries:
        count[delivery.source] += len(delivery.pictures)
    return Sources(**count)


def fetch(journal: Journal, service: Service, wanted: str, watch: Watch) -> Delivery:
    """The pictures of a task that was paid before: from the store, or from the service. Never submits.

    Args:
        service: the endpoint and the account that it was given to.
        wanted: a journal id, or the service's own task_id, also one that this journal does not know.

    Raises:
        InvalidInputError: there is no such journal id, or it belongs to another account.
        RemoteImageError: it failed, or did not end in time.
        CallCancelled: cancelled.
        TaskTimeoutError: also if ``journal.waits`` stopped it.
    """
    with journal.waits.call(watch.cancel) as waiting:
        return _fetch(journal, service, wanted, watch, waiting)


def _fetch(journal: Journal, service: Service, wanted: str, watch: Watch, waiting: Waiting) -> Delivery:
    is_journal_id = journal.task(wanted) is not None
    if wanted.startswith("rv-") and not is_journal_id:
        raise _unknown(wanted)
    while True:
        watch.cancel.check()
        journal_id = wanted if is_journal_id else _adopt(journal, service, wanted)
        found = journal.claim_task(journal_id)
        if found is None:
            if is_journal_id:
                raise _unknown(wanted)
            # Whoever else asked for it has just found that the service does not know it.
            continue
        if isinstance(found, Explained):
            raise found.error
        if isinstance(found, Busy):
            waiting.on(journal_id)
            _wait_while_busy(journal, journal_id, watch)
        elif isinstance(found, Finished):
            check_account(found.attempt, service)
            if (delivery := _reuse(journal, found.attempt, watch)) is not None:
                return delivery
        else:
            waiting.on(journal_id, found)
            try:
                with found as claim:
                    check_account(claim.attempt, service)
                    return resume(claim, service, journal, watch)
            except ClaimLost:
                continue
            except TaskForgottenError:
                raise ServiceError(
                    Text("The sandbox has no such task any more.", "沙盒中已没有该任务。"), task_id=wanted
                ) from None


def _adopt(journal: Journal, service: Service, task_id: str) -> str:
    order = _order(service, _key(service, {"adopted task_id": task_id}, 0, 0), "", 0, 0, ANY_PICTURE, "")
    return journal.adopt(order, TaskRef(service.provider, service.name, task_id))


def _unknown(journal_id: str) -> InvalidInputError:
    return InvalidInputError(
        Text(f"This server's journal has no {journal_id}.", f"此服务器的日志中没有 {journal_id}。")
    )


def check_account(attempt: Attempt, service: Service) -> None:
    """
    Raises:
        InvalidInputError: another account, or another endpoint, was asked for this.
    """
    another_account = attempt.account != service.account.account_id
    if another_account or attempt.task.endpoint != service.name:
        raise InvalidInputError(
            Text(
                f"{attempt.journal_id} was bought by the profile {attempt.profile!r} from {attempt.task.endpoint}.",
                f"{attempt.journal_id} 由配置 {attempt.profile!r} 向 {attempt.task.endpoint} 购买。",
            ),
            advice=_by_task_id(attempt.task.task_id) if another_account and attempt.task.task_id else None,
        )


def _by_task_id(task_id: str) -> Text:
    return Text(
        "That is another account, also if a profile of that name was removed and entered again. If the key is the "
        f"same, the node Remote Task Result fetches it, free of charge, by the task_id {task_id}.",
        "该配置属于另一个账户；删除后重新添加的同名配置也视为另一个账户。"
        f"如密钥相同，可用「取回远程任务」节点凭 task_id {task_id} 免费取回。",
    )


def _gone() -> JournalError:
    return JournalError(
        Text("The journal lost this request while it was under way.", "该请求进行期间，付费日志丢失了它的记录。")
    )


def _after_acceptance(error: JournalError, lost: Attempt | None) -> JournalError:
    """The journal was lost under a request that was sent."""
    if lost is not None:
        error.billed, error.task_id = "unknown", redact(lost.task.task_id)
    return error


def resume(claim: Claim, service: Service, journal: Journal, watch: Watch) -> Delivery:
    """Go on with a task that was accepted before; raises as :func:`collect`."""
    try:
        return collect(claim, service, journal, watch, source="resumed")
    except TaskForgottenError:
        error = ServiceError(Text("The sandbox was restarted.", "沙盒已重启。"), task_id=claim.attempt.task.task_id)
        claim.refused(error)
        raise


def _reuse(journal: Journal, attempt: Attempt, watch: Watch) -> Delivery | None:
    """The pictures from the store; ``None`` if some are gone and the task is to be asked for them again."""
    try:
        return _delivered_again(journal, attempt, watch)
    except PicturesGoneError:
        if not attempt.resumable:
            raise picture_lost(attempt) from None
        journal.reopen(attempt)
        return None


def _delivered_again(journal: Journal, attempt: Attempt, watch: Watch) -> Delivery:
    delivery = from_store(journal.store, attempt, watch.cancel)
    watch.report(Progress("done", 1.0, attempt.task.task_id))
    return delivery


def _wait_while_busy(journal: Journal, journal_id: str, watch: Watch) -> None:
    watch.report(Progress("running"))
    while journal.is_busy(journal_id):
        watch.cancel.check()
        journal.wait_for_change(_LOOK_AGAIN)


# ---- orders


def _orders(calls: Sequence[PaidCall], prompt_id: str) -> list[Order]:
    """Equal requests of one node are several purchases: they are told apart by their number, wherever they stand."""
    seen: Counter[str] = Counter()
    orders = []
    for call in calls:
        first = call.order(prompt_id, 0)
        occurrence = seen[first.key]
        seen[first.key] += 1
        orders.append(call.order(prompt_id, occurrence) if occurrence else first)
    return orders


def _key(service: Service, body: Mapping[str, Any], take: int, occurrence: int) -> str:
    account = service.account
    return request_key(
        service="sandbox" if account.sandbox else service.provider.lower(),
        endpoint=service.name,
        account=account.account_id,
        body=body,
        take=take,
        occurrence=occurrence,
    )


def _order(
    service: Service, key: str, prompt_id: str, take: int, pictures: int, expected_pixels: int, summary: str
) -> Order:
    account = service.account
    purchase = Purchase(
        provider=service.provider,
        endpoint=service.name,
        profile=account.profile,
        account=account.account_id,
        prompt_id=prompt_id,
        pictures=pictures,
        budget=account.budget,
        ceiling=service.ceiling,
    )
    return Order(key, purchase, account.sandbox, take, expected_pixels, summary)


def _together(purchases: Sequence[Purchase]) -> Purchase:
    """All of a node's purchases as one, for the budget: they share one account."""
    return replace(purchases[0], pictures=sum(purchase.pictures for purchase in purchases))


# ---- several calls of one node


def deliver(results: Sequence[Result], *, accept_partial: bool) -> tuple[list[Delivery], list[Text]]:
    """The deliveries of a batch in order, and what is to be told about it.

    Args:
        accept_partial: return what came although something is missing.

    Raises:
        RemoteImageError: the first error, if something is missing and that is not accepted, or nothing came at all; it
            names the accepted tasks, so that their pictures can be fetched.
    """
    deliveries = [result.delivery for result in results if result.delivery is not None]
    errors = [error for result in results for error in _errors_of(result)]
    pictures = sum(len(delivery.pictures) for delivery in deliveries)
    skipped = sum(1 for result in results if result.delivery is None and result.error is None)
    if not errors and skipped:
        # What kept them back was settled in the same moment: by a late answer, or by "submit again".
        errors = [
            ServiceError(
                Text(
                    "An earlier try was being settled, so that nothing was bought.",
                    "先前的请求刚刚有了结果，因此本次未购买。",
                ),
                advice=Text("Queue again.", "请重新运行。"),
            )
        ]
    if not errors:
        return deliveries, []
    if accept_partial and pictures:
        notes = [
            Text(f"Missing ({count}×): {what.en}", f"缺失（{count} 项）：{what.zh}")
            for what, count in Counter(error.text() for error in errors).items()
        ]
        if skipped:
            notes.append(Text(f"{skipped} calls were not submitted after that.", f"之后有 {skipped} 次调用未提交。"))
        return deliveries, notes
    first = errors[0]
    # A synchronous call has no task; its pictures are in the store under the journal id.
    bought = [
        delivery.task.task_id if delivery.task and delivery.task.task_id else delivery.journal_id
        for delivery in deliveries
    ]
    accepted = bought + [error.task_id for error in errors]
    tasks = [task_id for task_id in dict.fromkeys(accepted) if task_id]
    if pictures or skipped or len(errors) > 1:
        first.add_context(_rest_of_batch(pictures, len(errors), skipped, tasks))
    raise first


def may_still_come(results: Sequence[Result]) -> bool:
    """Whether something is missing, and all of that is in tasks that go on."""
    missing = [error for result in results for error in _errors_of(result)]
    whole = all(result.delivery is not None or result.error is not None for result in results)
    return bool(missing) and whole and all(isinstance(e, TaskTimeoutError) and e.billed != "no" for e in missing)


def _errors_of(result: Result) -> Sequence[RemoteImageError]:
    if result.error is not None:
        return [result.error]
    return result.delivery.errors if result.delivery is not None else ()


def _rest_of_batch(pictures: int, failed: int, skipped: int, tasks: Sequence[str]) -> Text:
    en = f"In this node: {pictures} pictures came, {failed} failed, {skipped} calls were not submitted."
    zh = f"本节点共：已生成 {pictures} 张，失败 {failed} 项，未提交 {skipped} 次调用。"
    if tasks:
        listed = ", ".join(tasks)
        en += f" The node Remote Task Result fetches what these tasks made, free of charge: {listed}."
        zh += f"可用「取回远程任务」节点免费取回这些任务的图片：{listed}。"
    return Text(en, zh)
