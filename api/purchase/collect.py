"""From an accepted task to its pictures: poll, download, decode, store. Free of charge, and may be repeated."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Literal

from ..core import (
    CallCancelled,
    CallHandle,
    CancelToken,
    ConfigurationError,
    InvalidInputError,
    PollError,
    Progress,
    RemoteImageError,
    ServiceError,
    SubTask,
    TaskFailedError,
    TaskRef,
    TaskTimeoutError,
    Text,
    UnknownTaskError,
    on_codec_pool,
    pack_logger,
)
from ..journal import (
    Attempt,
    Claim,
    DamagedPictureError,
    Journal,
    JournalError,
    MissingPictureError,
    Store,
    StoredResult,
    retold,
)
from ..pixels import Pixels, UndecodableImageError, decode
from ..services import Service
from .pictures import MOST_BYTES, Downloads
from .poll import poll_until_done
from .submit import BesideError

# Pixels: no limit for a stored picture, whose bytes are known by their hash.
_ANY_SIZE = 2**40
# Seconds after which the link of a synchronous answer is given up.
_LINK_LIVES = 24 * 3600.0
# After so many answers in a row (some 8 s) that the service does not know an adopted task, it never had that task. Each
# earlier look of the background poller counts as one.
_UNKNOWN_FOR_GOOD = 4
# Pictures of one task that are fetched: far more than any service makes, and still what a machine can hold.
_MOST_PICTURES = 64
# Bytes that a lossless picture takes at most, nearly.
_BYTES_PER_PIXEL = 4

Source = Literal["bought", "resumed", "reused"]


@dataclass(frozen=True)
class Delivery:
    """What a call brought: pictures in the service's order, and an error for each that did not come.

    ``pictures`` are uint8 pixels. ``source``: ``"bought"`` in this call, ``"resumed"`` from a task that was accepted
    before, or ``"reused"`` from the store. ``note``: what the service said that does not fit its pictures.
    """

    task: TaskRef | None
    pictures: tuple[Pixels, ...] = ()
    errors: tuple[RemoteImageError, ...] = ()
    journal_id: str = ""
    source: Source = "bought"
    note: Text | None = None


class TaskForgottenError(Exception):
    """The sandbox does not know the task: its emulator was started anew. Nothing was paid; submit again."""


class PicturesGoneError(Exception):
    """Pictures that the journal has as stored are missing in the store, or damaged."""


def check_room(store: Store, pixels: int) -> None:
    """Check, before a submit, that the store has room for ``pixels`` pixels (4 bytes each).

    Raises:
        JournalError: the store cannot be written, or its disk is nearly full.
    """
    try:
        store.check_room(_BYTES_PER_PIXEL * pixels)
    except OSError as problem:
        raise JournalError(
            Text(
                f"The store of bought pictures cannot be written: {problem}. Nothing was submitted.",
                f"无法写入图片库：{problem}。未提交任何内容。",
            )
        ) from None


def from_store(store: Store, attempt: Attempt, cancel: CancelToken) -> Delivery:
    """The pictures of a finished attempt from the store, with the recorded error for each that never came.

    Nothing is sent or written.

    Raises:
        CallCancelled: cancelled.
        ConfigurationError: the store cannot be read.
        PicturesGoneError: some pictures are missing or damaged, or the journal has no result of the attempt.
    """
    pictures: list[Pixels] = []
    errors: list[RemoteImageError] = []
    is_incomplete = False
    for result in attempt.results:
        if result.error is not None:
            errors.append(retold(result.error, attempt.tried_at))
            continue
        picture = _stored_picture(store, result, attempt.task, cancel)
        if picture is None:
            is_incomplete = True
        else:
            pictures.append(picture)
    if is_incomplete or not attempt.results:
        raise PicturesGoneError
    return Delivery(attempt.task, tuple(pictures), tuple(errors), attempt.journal_id, "reused")


def _opened(store: Store, sha256: str) -> Pixels:
    return decode(io.BytesIO(store.read(sha256)), _ANY_SIZE)


def _stored_picture(
    store: Store, result: StoredResult, task: TaskRef, cancel: CancelToken | None = None
) -> Pixels | None:
    """The pixels of a stored picture; ``None``, and a warning, if it is missing or damaged.

    Raises:
        ConfigurationError: the disk or network share of the store failed.
    """
    try:
        return on_codec_pool(_opened, store, result.sha256, cancel=cancel)
    except (MissingPictureError, DamagedPictureError, UndecodableImageError) as problem:
        pack_logger().warning("a stored picture is not used: %s (%s)", result.sha256, problem)
        return None
    except OSError as problem:
        raise ConfigurationError(
            Text(f"The store of bought pictures cannot be read: {problem}.", f"无法读取图片库：{problem}。"),
            request_id=task.request_id,
            task_id=task.task_id,
            billed="yes",
        ) from None


def picture_lost(attempt: Attempt) -> ServiceError:
    """The error for a bought picture that is missing in the store and that no service has a task for."""
    return ServiceError(
        Text(
            "This picture was bought before, but its file in the store is missing or damaged, and the service keeps no "
            "task to fetch it from again.",
            "这张图片此前已购买，但图片库中的文件已丢失或损坏，且服务端没有可再次取回的任务。",
        ),
        advice=Text(
            "Bring the file back from a backup, or change `take` to buy it again.",
            "请从备份恢复该文件，或修改 `take` 重新购买。",
        ),
        provider=attempt.task.provider,
        request_id=attempt.task.request_id,
        task_id=attempt.task.task_id,
        billed="yes",
    )


def collect(
    claim: Claim,
    service: Service,
    journal: Journal,
    handle: CallHandle,
    *,
    source: Source,
    answered: SubTask | None = None,
    on_failure: Callable[[RemoteImageError], None] = lambda error: None,
) -> Delivery:
    """Poll an accepted task until it ends, then fetch its pictures, store each one, and write the attempt's end.

    In this order: poll; write ``done`` if all have ended (not for a synchronous answer with the bytes); for each
    picture take it from the store if it is there, else download and decode it and put it into the store (bytes of
    the answer itself: first into the store); at last write
    ``stored`` if every picture is stored or will never come, or ``failed`` if none will. If a picture may still come (a
    deadline, a failed download, a full store), no end is written: the end of the claim parks the attempt.

    Args:
        source: what the delivery says of its pictures.
        answered: the picture, if the answer to the submit brought it.
        on_failure: called with the error of a sub task before the place of the limiter is free for the next call.

    Returns:
        All pictures that came, and an error for each other one; pictures that could not be stored are included.

    Raises:
        TaskTimeoutError: a deadline passed and nothing had ended; or the service has probably forgotten the task.
        InvalidInputError: the service does not know the adopted task; its row is deleted.
        ConfigurationError: the store cannot be read.
        TaskForgottenError: the sandbox does not know the task.
        CallCancelled: cancelled.
        ClaimLost: another claim has the attempt.
    """
    attempt = claim.attempt
    if attempt.complete:
        # The attempt was reopened because files were missing: use them if they have come back.
        with suppress(PicturesGoneError):
            delivery = from_store(journal.store, attempt, handle.cancel)
            claim.stored()
            return delivery
    sub_tasks = [answered] if answered is not None else _ended_sub_tasks(claim, service, journal, handle)
    timed_out = any(isinstance(sub_task.error, TaskTimeoutError) for sub_task in sub_tasks)
    if (failure := next((sub_task.error for sub_task in sub_tasks if sub_task.error is not None), None)) is not None:
        on_failure(failure)
    if attempt.resumable and not timed_out:
        # A synchronous answer with the picture's bytes skips "done": it has no task, so the bytes are stored first.
        claim.done(len(sub_tasks))
    pictures = _Pictures(claim, service, journal, handle, len(sub_tasks))
    positions = _positions(attempt, sub_tasks)
    results = [pictures.result(next(positions), sub_task) for sub_task in sub_tasks[:_MOST_PICTURES]]
    _settle(claim, results, timed_out=timed_out)
    handle.report(Progress("done", 1.0, attempt.task.task_id))
    return Delivery(
        attempt.task,
        tuple(result.pixels for result in results if result.pixels is not None),
        tuple(result.error for result in results if result.error is not None),
        attempt.journal_id,
        source,
        note=_more_than_fetched(len(sub_tasks)) if len(sub_tasks) > len(results) else None,
    )


def _positions(attempt: Attempt, sub_tasks: Sequence[SubTask]) -> Iterator[int]:
    """The positions of the sub tasks, in their order, without those of stored pictures that are not listed (any more).

    So no picture takes the row of another one, which is paid, and whose link may be dead by now.
    """
    listed = {sub_task.sub_task_id for sub_task in sub_tasks}
    stored = [result for result in attempt.results if result.sha256 and result.sub_task_id]
    taken = {result.position for result in stored if result.sub_task_id not in listed}
    return (position for position in count() if position not in taken)


@dataclass(frozen=True)
class PictureResult:
    """What became of one picture of a task: its ``pixels`` or an ``error``.

    ``may_come``: it is not in the store, and the service can be asked for it (again).
    """

    pixels: Pixels | None = None
    error: RemoteImageError | None = None
    may_come: bool = False


def _settle(claim: Claim, results: Sequence[PictureResult], *, timed_out: bool) -> None:
    """Write the end of an attempt by what became of its pictures; no end leaves it to be parked.

    - All results were known when the attempt was claimed (``claim.attempt.complete``): ``stored``, whichever pictures
      came now, because the missing files may come back.
    - A picture may still come, or a deadline has passed: no end.
    - At least one picture came: ``stored``. None did, and none will: ``failed``.
    """
    if claim.attempt.complete:
        claim.stored()
    elif timed_out or any(result.may_come for result in results):
        return
    elif any(result.pixels is not None for result in results):
        claim.stored()
    else:
        claim.failed(next(result.error for result in results if result.error is not None))


class _Pictures:
    """The pictures of one claimed task: from the store if they are there, else from the service."""

    def __init__(self, claim: Claim, service: Service, journal: Journal, handle: CallHandle, number: int) -> None:
        attempt = claim.attempt
        self._claim = claim
        self._store = journal.store
        self._downloads = Downloads(service, attempt.task, attempt.expected_pixels, handle.cancel)
        self._by_position = {result.position: result for result in attempt.results}
        self._by_id = {result.sub_task_id: result for result in attempt.results if result.sub_task_id}
        # A synchronous answer's link that is older than a day: there is no task to ask for a new link.
        self._dead_link = not attempt.task.task_id and journal.age(attempt) > _LINK_LIVES
        self._bytes = 0
        self._handle = handle
        self._downloading = Progress("downloading", 1.0, attempt.task.task_id, pictures=number)
        handle.report(self._downloading)

    def result(self, position: int, sub_task: SubTask) -> PictureResult:
        """Get the picture of a sub task; what is known of it then is written with the attempt's next change."""
        result = self._from_store(position, sub_task) or self._fetched(position, sub_task)
        if result.pixels is not None:
            self._bytes += result.pixels.nbytes
            self._handle.report(replace(self._downloading, picture=result.pixels))
        return result

    def _from_store(self, position: int, sub_task: SubTask) -> PictureResult | None:
        earlier = self._by_position.get(position)
        if earlier is None or earlier.sub_task_id != sub_task.sub_task_id:
            earlier = self._by_id.get(sub_task.sub_task_id)
        if earlier is None or not earlier.sha256:
            return None
        pixels = _stored_picture(self._store, earlier, self._claim.attempt.task)
        if pixels is not None and earlier.position != position:
            self._claim.moved(position, earlier)
        return None if pixels is None else PictureResult(pixels)

    def _fetched(self, position: int, sub_task: SubTask) -> PictureResult:
        try:
            if self._bytes > MOST_BYTES:
                raise self._downloads.too_much()
            keep = partial(self._claim.keep, position, sub_task.sub_task_id)
            brought = self._downloads.bring(sub_task, keep)
        except RemoteImageError as error:
            is_final = error is sub_task.error and sub_task.final and not isinstance(error, TaskTimeoutError)
            return self._missing(position, sub_task, error, is_final=is_final)
        may_come = brought.kept == "again"
        if brought.pixels is None:
            is_final = brought.is_foreign and not may_come
            missing = self._missing(position, sub_task, self._downloads.undecodable(brought), is_final=is_final)
            return replace(missing, may_come=missing.may_come or may_come)
        return PictureResult(brought.pixels, may_come=may_come)

    def _missing(self, position: int, sub_task: SubTask, error: RemoteImageError, *, is_final: bool) -> PictureResult:
        """The result for a picture that did not come.

        Unless the error is final it may pass (name server, proxy), and the picture is paid: it may still come, if there
        is a task or a link to ask again.
        """
        attempt = self._claim.attempt
        if attempt.complete:
            return PictureResult(error=_about_missing_file(attempt, error))
        if attempt.resumable and not self._dead_link and not is_final:
            return PictureResult(error=error, may_come=True)
        if self._dead_link:
            error.advice = TaskFailedError.default_advice
        self._claim.missing(position, sub_task.sub_task_id, error)
        return PictureResult(error=error)


def _more_than_fetched(listed: int) -> Text:
    return Text(
        f"The service lists {listed} pictures for this one task; the first {_MOST_PICTURES} are fetched.",
        f"服务端为这一个任务列出了 {listed} 张图片，只取回前 {_MOST_PICTURES} 张。",
    )


def keep_beside_an_error(claim: Claim, service: Service, handle: CallHandle, picture: SubTask) -> BesideError:
    """Fetch and store a picture that came with an error; returns what became of it, and raises nothing for a failure.

    The attempt's state is left to the caller.
    """
    # tries_for=0: one download only, for a link beside an error may lead anywhere.
    fetcher = Downloads(service, claim.attempt.task, claim.attempt.expected_pixels, handle.cancel, tries_for=0.0)
    try:
        encoded = fetcher.in_answer(picture)
        if encoded is None:
            pixels, encoded, _ = fetcher.fetch(picture)
            if pixels is None:
                return "no picture"
    except (RemoteImageError, CallCancelled) as problem:
        pack_logger().warning("%s: a picture that came with an error was not kept: %s", claim.journal_id, problem)
        return "no picture" if isinstance(problem.__cause__, UndecodableImageError) else "lost"
    return "stored" if claim.keep_beside_an_error(encoded) else "lost"


def _ended_sub_tasks(claim: Claim, service: Service, journal: Journal, handle: CallHandle) -> Sequence[SubTask]:
    """The sub tasks of an accepted task: the result's link, or what polling finds: see :func:`_wait`.

    If that times out and some pictures are stored already, each sub task with the timeout error, so that the stored
    pictures are delivered. For a complete attempt the error is raised.
    """
    attempt = claim.attempt
    if attempt.result_url:
        return [SubTask("", image=attempt.result_url)]
    try:
        return _wait(claim, service, journal, handle)
    except TaskTimeoutError as error:
        if attempt.complete or not attempt.was_stored:
            raise
        return _awaited(attempt, error)


def _awaited(attempt: Attempt, error: TaskTimeoutError) -> list[SubTask]:
    """The sub tasks of an attempt with stored pictures, each at its position and with the timeout error."""
    known = {result.position: result.sub_task_id for result in attempt.results}
    missing = [sub_task_id for sub_task_id in attempt.task.sub_task_ids if sub_task_id not in known.values()]
    if attempt.total is None and not attempt.task.sub_task_ids:
        # The number of sub tasks is not known: one is missing at least.
        missing = [""]
    number = max(attempt.total or 0, max(known) + 1, len(known) + len(missing))
    gaps = iter(missing)
    ids = [known[position] if position in known else next(gaps, "") for position in range(number)]
    return [SubTask(sub_task_id, error=error) for sub_task_id in ids]


def _wait(claim: Claim, service: Service, journal: Journal, handle: CallHandle) -> Sequence[SubTask]:
    """Poll the task until it ends; returns its sub tasks, and treats answers that the task is unknown.

    Such an answer ends the wait for: the sandbox (TaskForgottenError); an adopted task, after 4 of them
    (InvalidInputError, its row is deleted); Volcengine, for a task older than ``kept_for`` (a failed sub task);
    HiDream, for a task that was unknown for as long (TaskTimeoutError). Any other one counts as a failed poll.
    """
    account, task = service.account, claim.attempt.task
    age = journal.age(claim.attempt)
    unknown = 0

    def query() -> Sequence[SubTask]:
        nonlocal unknown
        journal.limiter.poll_turn(account.account_id, account.limits.polls_per_second, handle.cancel)
        try:
            states = service.query(task)
        except UnknownTaskError as problem:
            if account.sandbox:
                raise TaskForgottenError from problem
            unknown += 1
            if claim.attempt.unconfirmed and claim.attempt.polls + unknown >= _UNKNOWN_FOR_GOOD:
                claim.forget()
                raise _never_known_error(task, problem) from problem
            if service.provider == "Volcengine":
                # "not_found" is a documented state: once the service keeps the task no longer, it is final.
                if age > service.kept_for:
                    return [SubTask("", started=True, error=_not_found_error(task))]
            elif problem.certain and journal.note_unknown(claim.attempt, service.kept_for):
                raise _forgotten(claim) from problem
            raise
        except PollError:
            unknown = 0
            raise
        claim.confirmed()
        return states

    # No usual time for an adopted task: when it was submitted is not known.
    usual = None if claim.attempt.adopted else journal.usual_seconds(service.name, sandbox=account.sandbox)
    try:
        return poll_until_done(task, query, account.deadlines, handle, usual, age)
    except TaskTimeoutError as error:
        raise _about_missing_file(claim.attempt, error) from None


def _about_missing_file(attempt: Attempt, error: RemoteImageError) -> RemoteImageError:
    """``error``; for a complete attempt it says that the picture was bought before and its file is missing."""
    if attempt.complete:
        error.what = Text(
            f"This picture was bought before, but its file in the store is missing or damaged. {error.what.en}",
            f"这张图片此前已购买，但图片库中的文件已丢失或损坏。{error.what.zh}",
        )
        error.advice = _RESTORE_OR_BUY
    return error


_RESTORE_OR_BUY = Text(
    "Queue again later, bring the file back from a backup, or change `take` to buy it again.",
    "请稍后重新运行、从备份恢复该文件，或修改 `take` 重新购买。",
)


def _never_known_error(task: TaskRef, problem: UnknownTaskError) -> InvalidInputError:
    provider = "火山引擎" if task.provider == "Volcengine" else task.provider
    return InvalidInputError(
        Text(
            f"{task.provider} does not know this task at {task.endpoint}. Nothing was bought by this.",
            f"{provider} 的 {task.endpoint} 中没有该任务。本次操作未购买任何内容。",
        ),
        advice=Text(
            "Check the id, the endpoint and the profile, then queue again.",
            "请检查任务编号、服务（endpoint）和配置，然后重新运行。",
        ),
        provider=task.provider,
        vendor_message=str(problem),
        task_id=task.task_id,
    )


def _forgotten(claim: Claim) -> TaskTimeoutError:
    task = claim.attempt.task
    error = TaskTimeoutError(
        Text(
            "The service has answered for a long time that it does not know this task: it has probably forgotten it.",
            "服务端长时间答复查不到该任务，很可能已不再保留。",
        ),
        advice=Text(
            "Queue again to ask once more, free of charge. To buy it anew, change `take`.",
            "重新运行可再次查询（免费）；如需重新购买，请修改 `take`。",
        ),
        provider=task.provider,
        request_id=task.request_id,
        task_id=task.task_id,
    )
    if not claim.attempt.adopted:
        error.journal_id = claim.journal_id
    return error


def _not_found_error(task: TaskRef) -> ServiceError:
    return ServiceError(
        Text(
            "The service no longer knows this task (not_found): it keeps results for 24 hours, and this one was not "
            "fetched in time.",
            "服务端已查不到该任务（not_found）：结果只保留 24 小时，未能及时取回。",
        ),
        advice=TaskFailedError.default_advice,
        provider=task.provider,
        code="not_found",
        request_id=task.request_id,
        task_id=task.task_id,
        billed="unknown",
    )
