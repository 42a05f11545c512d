"""Pictures that were paid before: from the store, or from the service. Nothing here submits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from ..core import CallHandle, InvalidInputError, Progress, ServiceError, TaskRef, Text
from ..journal import ANY_PICTURE, Attempt, Busy, Claim, ClaimLost, Explained, Finished, Journal, JournalError
from ..services import Service
from .collect import Delivery, PicturesGoneError, TaskForgottenError, collect, from_store, picture_lost
from .order import key_of, order_of
from .stop import StoppableCall, stoppable_call

ClaimResult: TypeAlias = Claim | Busy | Finished | Explained
# Seconds after which a call that waits for another one looks again.
_LOOK_AGAIN = 0.2


def fetch_task(journal: Journal, service: Service, wanted: str, handle: CallHandle) -> Delivery:
    """The pictures of a task that was paid before: from the store, or from the service. Never submits.

    If another call works on the task, this one waits for it.

    Args:
        service: the endpoint and the account to which the task was submitted.
        wanted: a journal id (``rv-...``), or the service's ``task_id``; one that the journal does not have is adopted.

    Raises:
        InvalidInputError: there is no such journal id, or it belongs to another account or endpoint; or the service
            does not know the ``task_id``.
        TaskTimeoutError: the task did not end in time, or ``journal.stop_registry`` stopped this call.
        RemoteImageError: the task failed, or was never accepted.
        JournalError: the journal cannot be used.
        CallCancelled: cancelled.
    """
    with stoppable_call(journal.stop_registry, handle.cancel) as stoppable:
        return _fetch(journal, service, wanted, handle, stoppable)


def _fetch(journal: Journal, service: Service, wanted: str, handle: CallHandle, stoppable: StoppableCall) -> Delivery:
    is_journal_id = journal.task_list.task(wanted) is not None
    if wanted.startswith("rv-") and not is_journal_id:
        raise _unknown(wanted)

    def claim(_: str) -> ClaimResult:
        while (found := journal.claim_task(wanted if is_journal_id else _adopt(journal, service, wanted))) is None:
            if is_journal_id:
                raise _unknown(wanted)
            # Another call has just found that the service does not know this adopted task, and deleted its row. Adopt
            # it again and ask.
            handle.cancel.check()
        if isinstance(found, Finished):
            check_account(found.attempt, service)
        return found

    def work(claimed: Claim) -> Delivery:
        check_account(claimed.attempt, service)
        try:
            return resume(claimed, service, journal, handle)
        except TaskForgottenError:
            raise ServiceError(
                Text("The sandbox has no such task any more.", "沙盒中已没有该任务。"), task_id=wanted
            ) from None

    return claim_until_delivered(journal, handle, stoppable, claim, work)


def claim_until_delivered(
    journal: Journal,
    handle: CallHandle,
    stoppable: StoppableCall,
    claim: Callable[[str], ClaimResult],
    work: Callable[[Claim], Delivery],
) -> Delivery:
    """Claim until this call has its pictures: work on them, wait for the call that does, or take them from the store.

    Args:
        claim: claims the attempt; its argument is the journal id that was waited for last, or empty.
        work: gets the pictures of a claimed attempt. After ClaimLost or TaskForgottenError the call claims again.

    Raises:
        RemoteImageError: ``claim`` or ``work`` raised it, or the attempt is explained.
        CallCancelled: cancelled.
    """
    waited_for = ""
    while True:
        handle.cancel.check()
        found = claim(waited_for)
        if isinstance(found, Explained):
            raise found.error
        if isinstance(found, Busy):
            waited_for = found.journal_id
            stoppable.on(waited_for)
            wait_while_busy(journal, waited_for, handle)
        elif isinstance(found, Finished):
            if (delivery := reuse(journal, found.attempt, handle)) is not None:
                return delivery
        else:
            stoppable.on(found.journal_id, found)
            with suppress(ClaimLost, TaskForgottenError), found:
                return work(found)


def _adopt(journal: Journal, service: Service, task_id: str) -> str:
    """The journal id of a task id at this endpoint and account; a new parked attempt unless the journal has one."""
    order = order_of(service, key_of(service, {"adopted task_id": task_id}, 0, 0), "", 0, 0, ANY_PICTURE, "")
    return journal.adopt(order, TaskRef(service.provider, service.name, task_id, options=service.account.options))


def _unknown(journal_id: str) -> InvalidInputError:
    return InvalidInputError(
        Text(f"This server's journal has no {journal_id}.", f"此服务器的日志中没有 {journal_id}。")
    )


def check_account(attempt: Attempt, service: Service) -> None:
    """Check that an attempt was bought by the account and from the endpoint of ``service``.

    Raises:
        InvalidInputError: it was another account or endpoint.
    """
    another_account = attempt.account != service.account.account_id
    if another_account or attempt.task.endpoint != service.name:
        raise InvalidInputError(
            Text(
                f"{attempt.journal_id} was bought by the profile {attempt.profile!r} from {attempt.task.endpoint}.",
                f"{attempt.journal_id} 由配置 {attempt.profile!r} 向 {attempt.task.endpoint} 购买。",
            ),
            advice=_fetched_by_task_id(attempt.task.task_id) if another_account and attempt.task.task_id else None,
        )


def _fetched_by_task_id(task_id: str) -> Text:
    return Text(
        "That is another account, also if a profile of that name was removed and entered again. If the key is the "
        f"same, the node Remote Task Result fetches it, free of charge, by the task_id {task_id}.",
        "该配置属于另一个账户；删除后重新添加的同名配置也视为另一个账户。"
        f"如密钥相同，可用「取回远程任务」节点凭 task_id {task_id} 免费取回。",
    )


def resume(claim: Claim, service: Service, journal: Journal, handle: CallHandle) -> Delivery:
    """Collect a task that was accepted before; raises as :func:`collect`.

    A task that the sandbox does not know is ``refused`` first, so that it may be submitted again.
    """
    try:
        return collect(claim, service, journal, handle, source="resumed")
    except TaskForgottenError:
        error = ServiceError(Text("The sandbox was restarted.", "沙盒已重启。"), task_id=claim.attempt.task.task_id)
        claim.refused(error)
        raise


def reuse(journal: Journal, attempt: Attempt, handle: CallHandle) -> Delivery | None:
    """The pictures of a finished attempt from the store.

    Returns:
        ``None`` if some are missing and there is a task or a link to fetch them again: the attempt is parked for that,
        and the caller claims it again.

    Raises:
        ServiceError: some are missing, and there is nothing to fetch them from.
        ConfigurationError, CallCancelled: as :func:`from_store`.
    """
    try:
        return delivered_again(journal, attempt, handle)
    except PicturesGoneError:
        if not attempt.resumable:
            raise picture_lost(attempt) from None
        journal.reopen(attempt)
        return None


def delivered_again(journal: Journal, attempt: Attempt, handle: CallHandle) -> Delivery:
    """The pictures of a finished attempt from the store; nothing is written; raises as :func:`from_store`."""
    delivery = from_store(journal.store, attempt, handle.cancel)
    handle.report(Progress("done", 1.0, attempt.task.task_id))
    return delivery


def wait_while_busy(journal: Journal, journal_id: str, handle: CallHandle) -> None:
    """Wait until no other call works on an attempt any more.

    Raises:
        JournalError: the journal cannot be read. The other call may be buying the request at this moment.
        CallCancelled: cancelled.
    """
    handle.report(Progress("running"))
    try:
        while journal.is_busy(journal_id):
            handle.cancel.check()
            journal.wait_for_change(_LOOK_AGAIN)
    except JournalError as error:
        error.billed = "unknown"
        raise
