"""The calls of one node: for each one claim, admission, submit and collection, or its pictures from the store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..core import (
    Accepted,
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
    State,
)
from .collect import Delivery, PicturesGoneError, check_room, collect, keep_beside_an_error
from .fetch import ClaimResult, claim_until_delivered, delivered_again, resume
from .order import PaidCall, orders_of, together
from .run import NodeItem
from .stop import StoppableCall, stoppable_call
from .submit import Submission, submit_until_decided
from .words import Missing, Result, ends_of, missing_of


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


class Batch:
    """The calls of one item of a node. Unless the node keeps going, none is submitted once a call of it has failed.

    The constructor looks up all calls in the journal; it writes no attempt. For a node that does not keep going it also
    checks the budget for the new calls together, and if one call is to be explained, no new one of the node is
    submitted.

    The new calls take their places of the limiter in the order in which the batches of a node are made. Therefore
    :meth:`close` must be called at the end.

    Args:
        item: of which node's list.

    Raises:
        RemoteImageError: the ``problem`` of a call that would be submitted.
        QuotaError: the budget does not hold the new calls together.
        JournalError: the journal cannot be used, so nothing may be submitted.
    """

    def __init__(self, journal: Journal, calls: Sequence[PaidCall], item: NodeItem) -> None:
        self._journal = journal
        self._calls = calls
        self._node = node = item.node
        self._orders = orders_of(calls, item)
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
            # The explained call makes a node that does not keep going fail, so the new ones are not submitted.
            node.note_failure()
        elif new and not node.keeps_going:
            self._check_new(new)
        self._tickets = {index: node.order.ticket() for index in new}
        if new:
            pack_logger().info(
                "%s: this node buys %d picture(s), reuses %d call(s) and resumes %d",
                calls[0].service.name,
                self.plan.buy,
                self.plan.reuse,
                self.plan.resume,
            )

    def close(self) -> None:
        """Release the tickets of all calls of this batch, so that the later batches of the node are not held up."""
        for ticket in self._tickets.values():
            ticket.release()

    def _check_new(self, new: Sequence[int]) -> None:
        """Check that the calls with these indices may be bought together; raises as the constructor."""
        for index in new:
            if (problem := self._calls[index].problem) is not None:
                raise problem
        self._journal.limiter.check_budget(together([self._orders[index].purchase for index in new]))

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
        """Run one call to its pictures or its error.

        Unless the node keeps going, no other call of it is submitted after a failure. While the call waits for an
        attempt, ``journal.stop_registry`` can stop it, which counts as a failure.

        Args:
            index: of the call, in the order of the constructor's ``calls``.

        Returns:
            Its delivery, its error, or that it was not submitted.

        Raises:
            CallCancelled: cancelled; what was accepted is parked.
        """
        with self._idle:
            self._running += 1
        try:
            return self._run(index, handle)
        finally:
            self._pass(index)
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run(self, index: int, handle: CallHandle) -> Result:
        registry, node = self._journal.stop_registry, self._node
        stoppable = None
        try:
            with stoppable_call(registry, handle.cancel, node.note_failure) as stoppable:
                return Result(self._get(index, handle, stoppable))
        except NotSubmitted as held_back:
            return Result(error=held_back.error, held_back=held_back.error is not None)
        except RemoteImageError as error:
            node.note_failure(error)
            return Result(error=error, attempt=stoppable.journal_id if stoppable else "")
        except BaseException:
            node.note_failure()
            raise

    def _pass(self, index: int) -> None:
        """Release the ticket of a call, if it has one, so that the next call of the node may be admitted."""
        if index in self._tickets:
            self._tickets[index].release()

    def _get(self, index: int, handle: CallHandle, stoppable: StoppableCall) -> Delivery:
        """Claim the request until this call has its pictures: work on it, wait for the call that does, or reuse it.

        Raises:
            NotSubmitted: it may not be submitted: another call of the node has failed, the budget is used up, or the
                account or the service takes nothing more in this run.
            RemoteImageError: this call failed, or an earlier attempt is explained.
            CallCancelled: cancelled.
        """
        order = self._orders[index]
        last: Claim | None = None

        def claim(waited_for: str) -> ClaimResult:
            nonlocal last
            # An attempt that was sent is resumed by its journal id; claim() might find no row and buy it again.
            sent = last.attempt if last is not None and last.was_sent else None
            if sent is None and self._node.keeps_going and index in self._tickets:
                # Check before an attempt is made: hundreds of calls may follow the first one that the budget did not
                # hold, and the task list would show a cancelled attempt for each.
                self._check(index)
            try:
                found = self._journal.claim_task(sent.journal_id) if sent else self._journal.claim(order, waited_for)
            except JournalError as error:
                raise _after_acceptance(error, sent) from None
            if found is None:
                raise _after_acceptance(_row_lost_error(), sent)
            last = found if isinstance(found, Claim) else last
            if not isinstance(found, Claim):
                self._pass(index)
            return found

        def work(claimed: Claim) -> Delivery:
            delivery = self._work(index, claimed, handle)
            # After an interrupt the pictures are in the store for the next run; nobody waits for this delivery.
            handle.cancel.check()
            if delivery.errors:
                self._node.note_failure(delivery.errors[0])
            return delivery

        return claim_until_delivered(self._journal, handle, stoppable, claim, work)

    def _work(self, index: int, claim: Claim, handle: CallHandle) -> Delivery:
        """Work on a claimed attempt: resume it if it was accepted before; else buy it.

        Raises:
            TaskForgottenError: the sandbox has no such task any more; the attempt is ``refused``.
            ClaimLost: another claim has the attempt.
            NotSubmitted, RemoteImageError, CallCancelled: as :meth:`_get`.
        """
        service, run = self._calls[index].service, self._node.run
        if claim.attempt.state is not State.PREPARED:
            self._pass(index)
            return resume(claim, service, self._journal, handle)
        admit = self._admitted(index, claim, handle)
        try:
            delivery = self._buy(self._calls[index], claim, handle, admit)
        except RemoteImageError as error:
            run.note_failure(service, error)
            raise
        if delivery.pictures:
            run.note_picture(service)
        elif delivery.errors:
            run.note_failure(service, delivery.errors[0])
        return delivery

    def _admitted(self, index: int, claim: Claim, handle: CallHandle) -> Callable[[], None]:
        """Admit an attempt in its turn; returns the function that admits it again after a busy answer.

        Raises:
            NotSubmitted, RemoteImageError, CallCancelled: as :meth:`_get`.
        """
        call, node = self._calls[index], self._node
        admit = partial(self._journal.limiter.admit, claim, self._orders[index].purchase, handle.cancel)
        handle.report(Progress("waiting"))
        if index in self._tickets:
            self._tickets[index].wait(handle.cancel)
        self._check(index)
        try:
            admit()
        except QuotaError as error:
            if not node.keeps_going:
                raise
            node.note_used_up(call.service, error)
            raise NotSubmitted(error) from None
        self._pass(index)
        node.check(call.service)
        check_room(self._journal.store, call.expected_pixels * call.pictures)
        return admit

    def _check(self, index: int) -> None:
        """Check that a call may be submitted now.

        Raises:
            NotSubmitted: as :meth:`_get`.
            RemoteImageError: the ``problem`` of the call.
        """
        call, node = self._calls[index], self._node
        if call.problem is not None:
            raise call.problem
        node.check(call.service)
        node.check_budget(call.service)

    def _buy(self, call: PaidCall, claim: Claim, handle: CallHandle, admit: Callable[[], None]) -> Delivery:
        """Submit an admitted attempt and collect its pictures; raises as :meth:`_get`."""
        service, journal = call.service, self._journal
        handle.report(Progress("preparing"))
        accepted = self._submit(call, claim, handle, admit)
        self._node.run.note_accepted(service)
        picture = accepted.picture
        if accepted.task.task_id or (picture is not None and picture.image):
            claim.accepted(accepted.task, picture.image if picture is not None else "")
        else:
            # A synchronous answer with the picture's bytes: they are put into the store before the journal is written.
            claim.answered(accepted.task)
        delivery = collect(
            claim, service, journal, handle, source="bought", answered=picture, on_failure=self._node.note_failure
        )
        return replace(delivery, note=accepted.note or delivery.note)

    def _submit(self, call: PaidCall, claim: Claim, handle: CallHandle, admit: Callable[[], None]) -> Accepted:
        # A method of its own, so that the encoded images are freed when it returns, before the wait for the task.
        service, journal = call.service, self._journal
        request = call.request.model_copy(update=dict(on_codec_pool(call.encode, cancel=handle.cancel)))
        usual = journal.usual_seconds(service.name, sandbox=service.account.sandbox)
        expected = usual.median if usual else None
        keep = partial(keep_beside_an_error, claim, service, handle)
        check = partial(self._node.check, service)
        submission = Submission(
            service, request, claim, journal, handle, check=check, admit=admit, keep=keep, expected=expected
        )
        return submit_until_decided(submission)

    def abandoned(self, seconds: float) -> AbandonedCalls:
        """What the journal knows of the calls, once no thread runs one of them any more or ``seconds`` have passed.

        It also writes down which of them were not submitted.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._idle:
            self._idle.wait_for(lambda: not self._running, seconds)
        found = self._journal.decisions([order.key for order in self._orders])
        unsent = [order for order, one in zip(self._orders, found, strict=True) if one.decision is Decision.NEW]
        self._journal.run_items.end(ends_of(unsent, [Result()] * len(unsent)))
        return AbandonedCalls(**Counter(map(_field_of, found)))

    def end(self, results: Sequence[Result], *, delivered: bool) -> None:
        """Write what became of the item; ``delivered``: the node returns the pictures of ``results``."""
        ids = [result.delivery.journal_id for result in results if delivered and result.delivery is not None]
        self._journal.run_items.end(ends_of(self._orders, results), ids)

    def missing(self, results: Sequence[Result]) -> list[Missing]:
        """What is missing of the item, for the question when to run the node again."""
        return missing_of(self._orders, results)


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
