"""The calls of one node: for each one claim, admission, submit and collection, or its pictures from the store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..core import (
    Accepted,
    AuthenticationError,
    CallHandle,
    NotSubmitted,
    Progress,
    QuotaError,
    RemoteImageError,
    Text,
    on_codec_pool,
    pack_logger,
    redact,
)
from ..journal import (
    Attempt,
    Claim,
    Decision,
    Found,
    Journal,
    JournalError,
    Order,
    State,
)
from .collect import Delivery, PicturesGoneError, check_room, collect, keep_beside_an_error
from .fetch import ClaimResult, claim_until_delivered, delivered_again, resume
from .order import PaidCall, orders_of, together
from .stop import StoppableCall, stoppable_call
from .submit import Submission, submit_until_decided


class Run:
    """One run of a workflow (``prompt_id``): once its key or balance was refused, nothing more is submitted in it."""

    def __init__(self, prompt_id: str = "") -> None:
        self.prompt_id = prompt_id
        self._stopped_by: RemoteImageError | None = None

    def note_failure(self, error: RemoteImageError) -> None:
        """Note the error of a call; a service's refusal of the key or the balance ends the submits of this run."""
        if isinstance(error, (AuthenticationError, QuotaError)) and error.provider is not None:
            self._stopped_by = error

    def check(self) -> None:
        """Check that this run may still submit.

        Raises:
            AuthenticationError, QuotaError: a service has refused the key or the balance in this run.
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
class AbandonedCalls:
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

    The constructor looks up all calls in the journal and checks the budget for the new ones together; it writes no
    attempt. If one call is to be explained, no new one of this batch is submitted.

    Args:
        run: shared by all batches of one run of the workflow.

    Raises:
        RemoteImageError: the ``problem`` of a call that would be submitted.
        QuotaError: the budget does not hold the new calls together.
        JournalError: the journal cannot be used, so nothing may be submitted.
    """

    def __init__(self, journal: Journal, calls: Sequence[PaidCall], run: Run) -> None:
        self._journal = journal
        self._calls = calls
        self._run_of_workflow = run
        self._failed = threading.Event()
        self._orders = orders_of(calls, run.prompt_id)
        self._running = 0
        self._idle = threading.Condition()
        decisions = journal.look_up([order.key for order in self._orders])
        kinds = [decisions[order.key] for order in self._orders]
        new = [index for index, kind in enumerate(kinds) if kind is Decision.NEW]
        buy = sum(self._orders[index].purchase.pictures for index in new)
        self.plan = Plan(buy, kinds.count(Decision.REUSE), kinds.count(Decision.RESUME))
        self.reused = [index for index, kind in enumerate(kinds) if kind is Decision.REUSE]
        """Indices of the calls for which :meth:`stored` should be tried first."""
        if new and Decision.EXPLAIN in kinds:
            # The explained call makes this node fail, so the new ones are not submitted.
            self._failed.set()
        elif new:
            self._check_new(new)

    def _check_new(self, new: Sequence[int]) -> None:
        """Check that the calls with these indices may be bought together; raises as the constructor."""
        for index in new:
            if (problem := self._calls[index].problem) is not None:
                raise problem
        purchases = [self._orders[index].purchase for index in new]
        self._journal.limiter.check_budget(together(purchases))
        pack_logger().info(
            "%s: this node buys %d picture(s), reuses %d call(s) and resumes %d",
            purchases[0].endpoint,
            self.plan.buy,
            self.plan.reuse,
            self.plan.resume,
        )

    def stored(self, index: int, handle: CallHandle) -> Result | None:
        """One call's pictures from the store; nothing is sent, claimed or written.

        Returns:
            ``None`` if the request is not finished or a file is missing or cannot be read: :meth:`run` handles these.

        Raises:
            CallCancelled: cancelled.
        """
        try:
            attempt = self._journal.finished(self._orders[index].key)
            return None if attempt is None else Result(delivered_again(self._journal, attempt, handle))
        except (PicturesGoneError, RemoteImageError):
            return None

    def run(self, index: int, handle: CallHandle) -> Result:
        """Run one call to its pictures or its error; after a failure no other call of this batch is submitted.

        While it waits for an attempt, ``journal.stop_registry`` can stop it, which counts as a failure.

        Args:
            index: of the call, in the order of the constructor's ``calls``.

        Returns:
            Its delivery, or its error; neither if another call's failure kept it from being submitted.

        Raises:
            CallCancelled: cancelled; what was accepted is parked.
        """
        call, order = self._calls[index], self._orders[index]
        with self._idle:
            self._running += 1
        try:
            return self._run(call, order, handle)
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run(self, call: PaidCall, order: Order, handle: CallHandle) -> Result:
        try:
            with stoppable_call(self._journal.stop_registry, handle.cancel, self._failed.set) as stoppable:
                return Result(self._get(call, order, handle, stoppable))
        except NotSubmitted:
            return Result()
        except RemoteImageError as error:
            self._failed.set()
            self._run_of_workflow.note_failure(error)
            return Result(error=error)
        except BaseException:
            self._failed.set()
            raise

    def _get(self, call: PaidCall, order: Order, handle: CallHandle, stoppable: StoppableCall) -> Delivery:
        """Claim the request until this call has its pictures: work on it, wait for the call that does, or reuse it.

        Raises:
            NotSubmitted: another call of the batch has failed.
            RemoteImageError: this call failed, or an earlier attempt is explained.
            CallCancelled: cancelled.
        """
        last: Claim | None = None

        def claim(waited_for: str) -> ClaimResult:
            nonlocal last
            # An attempt that was sent is resumed by its journal id; claim() might find no row and buy it again.
            sent = last.attempt if last is not None and last.was_sent else None
            try:
                found = self._journal.claim_task(sent.journal_id) if sent else self._journal.claim(order, waited_for)
            except JournalError as error:
                raise _after_acceptance(error, sent) from None
            if found is None:
                raise _after_acceptance(_row_lost_error(), sent)
            last = found if isinstance(found, Claim) else last
            return found

        def work(claimed: Claim) -> Delivery:
            delivery = self._work(call, order, claimed, handle)
            # After an interrupt the pictures are in the store for the next run; nobody waits for this delivery.
            handle.cancel.check()
            if delivery.errors:
                self._failed.set()
            return delivery

        return claim_until_delivered(self._journal, handle, stoppable, claim, work)

    def _work(self, call: PaidCall, order: Order, claim: Claim, handle: CallHandle) -> Delivery:
        """Work on a claimed attempt: resume it if it was accepted before; else admission, room, submit, collection.

        Raises:
            TaskForgottenError: the sandbox has no such task any more; the attempt is ``refused``.
            ClaimLost: another claim has the attempt.
            NotSubmitted, RemoteImageError, CallCancelled: as :meth:`_get`.
        """
        service, journal = call.service, self._journal
        if claim.attempt.state is not State.PREPARED:
            return resume(claim, service, journal, handle)
        handle.report(Progress("waiting"))
        self._check()
        admit = partial(journal.limiter.admit, claim, order.purchase, handle.cancel)
        admit()
        self._check()
        check_room(journal.store, call.expected_pixels * call.pictures)
        handle.report(Progress("preparing"))
        accepted = self._submit(call, claim, handle, admit)
        picture = accepted.picture
        if accepted.task.task_id or (picture is not None and picture.image):
            claim.accepted(accepted.task, picture.image if picture is not None else "")
        else:
            # A synchronous answer with the picture's bytes: they are put into the store before the journal is written.
            claim.answered(accepted.task)
        delivery = collect(claim, service, journal, handle, source="bought", answered=picture)
        return replace(delivery, note=accepted.note or delivery.note)

    def _submit(self, call: PaidCall, claim: Claim, handle: CallHandle, admit: Callable[[], None]) -> Accepted:
        # A method of its own, so that the encoded images are freed when it returns, before the wait for the task.
        service, journal = call.service, self._journal
        request = call.request.model_copy(update=dict(on_codec_pool(call.encode, cancel=handle.cancel)))
        usual = journal.usual_seconds(service.name, sandbox=service.account.sandbox)
        expected = usual.median if usual else None
        keep = partial(keep_beside_an_error, claim, service, handle)
        submission = Submission(
            service, request, claim, journal, handle, check=self._check, admit=admit, keep=keep, expected=expected
        )
        return submit_until_decided(submission)

    def _check(self) -> None:
        """Check that this call may still be submitted; raises NotSubmitted, or as Run.check()."""
        if self._failed.is_set():
            raise NotSubmitted
        self._run_of_workflow.check()

    def abandoned(self, seconds: float) -> AbandonedCalls:
        """What the journal knows of the calls, once no thread runs one of them any more or ``seconds`` have passed.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._idle:
            self._idle.wait_for(lambda: not self._running, seconds)
        return AbandonedCalls(**Counter(map(_field_of, self._journal.decisions([order.key for order in self._orders]))))

    def delivered(self, results: Sequence[Result]) -> None:
        """The node returns these pictures: their attempts become ``delivered``."""
        self._journal.mark_delivered(result.delivery.journal_id for result in results if result.delivery is not None)


def _field_of(found: Found) -> str:
    """The field of :class:`AbandonedCalls` that counts a call."""
    if found.decision is Decision.NEW or found.state is State.PREPARED:
        return "unsent"
    if found.decision is Decision.EXPLAIN:
        return "failed" if found.state is State.FAILED else "unclear"
    return "sending" if found.busy and found.state is State.SUBMITTING else "accepted"


def _row_lost_error() -> JournalError:
    """The error for a sent attempt whose row the journal has lost."""
    return JournalError(
        Text("The journal lost this request while it was under way.", "该请求进行期间，付费日志丢失了它的记录。")
    )


def _after_acceptance(error: JournalError, lost: Attempt | None) -> JournalError:
    """``error``; if the attempt ``lost`` was sent before, with its task id and ``billed`` unknown."""
    if lost is not None:
        error.billed, error.task_id = "unknown", redact(lost.task.task_id)
    return error
