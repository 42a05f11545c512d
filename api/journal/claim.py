"""Claims: the right of this process to work on an attempt, and all that it writes about the attempt on the way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import Connection, and_, delete, select, update

from ..core import AmbiguousSubmitError, CallCancelled, RemoteImageError, TaskRef, Text, pack_logger
from ..pixels import Encoded
from .model import (
    ENDED,
    NOW,
    Attempt,
    ClaimLost,
    DamagedError,
    ErrorRecord,
    Event,
    JournalError,
    Mark,
    State,
    StoredResult,
    moment_of,
    transition,
)
from .rows import (
    at_time,
    change_state,
    drop_unknown,
    insert_results,
    json_of,
    note_known,
    put_attempt,
    put_request,
    put_result,
    task_values,
)
from .store import SideCar, Store
from .tables import attempts, request_rows, storable

Kept = Literal["stored", "again", "lost"]
# States in which the service may have accepted the attempt.
_SENT = frozenset(State) - {State.PREPARED, State.REFUSED, State.CANCELLED}
# States after which nothing is to be fetched any more: the task's side-car is deleted.
_SETTLED = (State.STORED, State.FAILED, State.REFUSED)


class Claims:
    """The claims of this process: those under way, and those with changes that could not be written yet; thread-safe.

    Args:
        writing: a writing transaction of the journal.
        mark: the latest mark of the journal, for side-cars.
    """

    def __init__(
        self,
        writing: Callable[[], AbstractContextManager[tuple[Connection, float]]],
        store: Store,
        mark: Callable[[], Mark],
    ) -> None:
        self.writing = writing
        self.store = store
        self.mark = mark
        self.changed = threading.Condition()
        self.closed = False
        self._held: dict[str, Claim] = {}
        self._unwritten: set[Claim] = set()

    def close(self) -> None:
        """From now on nothing may be claimed: wake the threads that wait for a change."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def wait_for_change(self, seconds: float) -> None:
        """Wait until a claim of this process writes or ends, or the journal is closed; ``seconds`` at most."""
        with self.changed:
            self.changed.wait(seconds)

    def own(self, attempt: Attempt) -> Claim:
        """Make the claim on an attempt whose row names this process as its owner."""
        claim = Claim(self, attempt)
        with self.changed:
            self._held[attempt.journal_id] = claim
        return claim

    def ids(self) -> list[str]:
        """The journal ids of all claims; the heartbeat releases what this process owns beyond them."""
        with self.changed:
            return [*self._held, *(claim.journal_id for claim in self._unwritten)]

    def of(self, key: str) -> list[Claim]:
        """The claims on the request ``key``, also ended ones with changes that could not be written yet."""
        with self.changed:
            known = {*self._held.values(), *self._unwritten}
        return [claim for claim in known if claim.attempt.key == key]

    def unwritten(self) -> list[Claim]:
        """The claims with changes that could not be written yet; the heartbeat tries them again."""
        with self.changed:
            return list(self._unwritten)

    def let_go(self, claim: Claim) -> None:
        """The call has ended: remove the claim, and wake the threads that wait for a change."""
        with self.changed:
            # Another call of this process may have claimed the attempt again meanwhile.
            if self._held.get(claim.journal_id) is claim:
                del self._held[claim.journal_id]
            self.changed.notify_all()

    def note(self, claim: Claim, *, written: bool) -> None:
        """Record whether all changes of a claim are in the journal, and wake the threads that wait for a change."""
        with self.changed:
            if written:
                self._unwritten.discard(claim)
            else:
                self._unwritten.add(claim)
            self.changed.notify_all()


class Claim:
    """This process's right to work on one attempt, from :meth:`Journal.claim` to the end of the ``with`` block.

    A change is written only while the row still has this claim's fence. Before acceptance a change that cannot be
    written raises, so that nothing is sent. After it the picture counts more than the record: such a change is logged
    and kept, and tried again with the next one and by each heartbeat.

    ``attempt`` is the attempt as it was claimed, except that its ``state``, ``task``, ``result_url``, ``tried_at`` and
    ``submitted_at`` are kept current; ``fence`` is the number that each take-over raises.

    Leaving the ``with`` block in a state that is not an end writes one and removes the owner: ``prepared`` becomes
    ``cancelled``; ``submitting`` becomes ``stored`` if :meth:`keep` has had the answer's picture, else ``ambiguous``;
    ``submitted`` and ``done`` become ``parked``.

    How a change is written: :meth:`submitting` and :meth:`write_unsent` raise if they cannot, and require that this
    process still owns the row (``_write_or_raise``); every other event keeps what it cannot write (``_apply``,
    ``_write_or_keep``).
    """

    def __init__(self, claims: Claims, attempt: Attempt) -> None:
        self._claims = claims
        self.attempt = attempt
        self.fence = attempt.fence
        self._lock = threading.Lock()
        self._pending: dict[str, Any] = {}
        self._pending_results: list[tuple[StoredResult, bool]] = []
        self._kept = False
        self._known = False
        self._deleted = False

    @property
    def journal_id(self) -> str:
        return self.attempt.journal_id

    @property
    def state(self) -> State:
        """The attempt's state as this claim knows it; the journal may not have it yet."""
        return self.attempt.state

    @property
    def was_sent(self) -> bool:
        """Whether the service may have accepted the attempt, in this claim or before."""
        return self.state in _SENT

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if self.state not in ENDED and not self._deleted:
                self._leave(error)
        finally:
            self._claims.let_go(self)

    def _leave(self, error: BaseException | None) -> None:
        if self.state is State.PREPARED:
            self._apply(Event.LEAVE, error=json_of(error) if isinstance(error, RemoteImageError) else None)
        elif self.state is State.SUBMITTING and self._kept:
            # A synchronous answer brought the picture, and it is in the store or known to be lost.
            self.stored()
        elif self.state is State.SUBMITTING:
            self._apply(Event.UNCLEAR, error=json_of(_interrupted_error(self.attempt, error)))
        else:
            if isinstance(error, CallCancelled):
                self._log_that_it_is_parked()
            self._apply(Event.LEAVE)

    def _log_that_it_is_parked(self) -> None:
        task = self.attempt.task
        pack_logger().warning(
            "%s: stopped waiting; the task goes on and is not lost: queue again and it is resumed, or fetch it with "
            "the node Remote Task Result: %s task_id=%s",
            task.endpoint,
            self.journal_id,
            task.task_id,
        )

    # ---- before acceptance

    def submitting(self, options: str = "") -> None:
        """Write ``submitting`` and the time, synced to disk when this returns: only then may the first byte go out.

        Args:
            options: what will be asked of each result (see :class:`TaskRef`); written with the attempt, so that
                a call that resumes the task asks for the same options.

        Raises:
            JournalError, ClaimLost: it is not certain that this was written; nothing may be sent.
        """
        change = transition(self.state, Event.SEND, options=options)
        now = self._write_or_raise(change.columns)
        task = replace(self.attempt.task, options=options)
        self.attempt = replace(self.attempt, state=change.state, tried_at=now, task=task)

    def unsent(self) -> None:
        """This try was certainly not accepted: go back to ``prepared``. Writes nothing; :meth:`write_unsent` does."""
        self._change(Event.RETRY)

    def write_unsent(self, *, holds_slot: bool = True) -> None:
        """Write the ``prepared`` of :meth:`unsent`, before the pause to the next try.

        So a process that dies in the pause leaves nothing ambiguous.

        Args:
            holds_slot: whether the attempt keeps its place of the limiter.

        Raises:
            JournalError, ClaimLost: it was not written.
        """
        self._write_or_raise({"holds_slot": holds_slot})

    def refused(self, error: RemoteImageError) -> None:
        """End the attempt as ``refused``: certainly not accepted, for good. It no longer counts against the budget."""
        self._apply(Event.REFUSE, error=json_of(error))

    def ambiguous(self, error: RemoteImageError) -> None:
        """End the attempt as ``ambiguous``: it may have been accepted, and is never sent again without the user's word.

        It still counts against the budget. Sets ``error.journal_id`` and ``error.sent_at``, so that the user can look
        at the bill and submit again.
        """
        self._apply(Event.UNCLEAR, error=json_of(error))
        error.journal_id, error.sent_at = self.journal_id, moment_of(self.attempt.tried_at)

    def failed(self, error: RemoteImageError) -> None:
        """End the attempt as ``failed``: accepted, and no picture will come. It still counts against the budget.

        Sets ``error.journal_id``, so that the user can submit again, unless the task was submitted elsewhere.
        """
        self._apply(Event.FAIL, error=json_of(error))
        if not self.attempt.adopted:
            error.journal_id = self.journal_id

    # ---- after acceptance

    def accepted(self, task: TaskRef, result_url: str = "") -> None:
        """The service accepted the task: from here on it is resumed, never submitted again.

        First the log gets the task id, then the journal ``submitted`` with the task, then the store the task's
        side-car. A failure to write one of the last two does not keep the other from being written.

        Raises:
            ClaimLost: another claim has the attempt; the side-car is written all the same.
        """
        self._take(task, result_url)
        pack_logger().info(
            "%s accepted: %s task_id=%s request_id=%s", task.endpoint, self.journal_id, task.task_id, task.request_id
        )
        try:
            self._apply(Event.ACCEPT, error=None)
        finally:
            self._put_task()

    def _take(self, task: TaskRef, result_url: str = "") -> None:
        """Take what the answer to the submit says of the task; its options stay what :meth:`submitting` wrote."""
        kept = replace(task, options=self.attempt.task.options)
        self.attempt = replace(self.attempt, task=kept, result_url=result_url)

    def _put_task(self) -> None:
        """Write the task's side-car into the store, so that the task survives the journal; a failure is logged."""
        try:
            self._claims.store.put_task(self._side_car(count=self.attempt.pictures))
        except (OSError, ValueError) as problem:
            pack_logger().warning("%s could not be written into the store: %s", self.journal_id, problem)

    def confirmed(self) -> None:
        """The service answered with a state of the task, so it knows it; a task that was adopted is confirmed by that.

        Raises:
            ClaimLost: another claim has the attempt.
        """
        self._known = True
        if self.attempt.unconfirmed:
            self.attempt = replace(self.attempt, submitted_at=self.attempt.tried_at)
            self._write_or_keep({"submitted_at": NOW})

    def forget(self) -> None:
        """Delete the row of an adopted task that the service does not know: nothing was bought, and nothing is billed.

        Its request is deleted, too, if it has no other attempt.

        Raises:
            ClaimLost: another claim has the attempt.
        """
        # If the row cannot be deleted, __exit__ parks the attempt.
        with suppress(JournalError):
            with self._lock, self._claims.writing() as (connection, _):
                mine = and_(attempts.c.id == self.journal_id, attempts.c.fence == self.fence)
                if not connection.execute(delete(attempts).where(mine)).rowcount:
                    raise ClaimLost
                connection.execute(
                    delete(request_rows).where(
                        request_rows.c.key == self.attempt.key, request_rows.c.key.not_in(select(attempts.c.key))
                    )
                )
            self._deleted = True

    def answered(self, task: TaskRef) -> None:
        """A synchronous answer brought the picture itself. Writes nothing: the state stays ``submitting``.

        The request id is written with the next change; :meth:`keep` stores the picture, then :meth:`stored` ends it.
        """
        self._take(task)
        with self._lock:
            self._pending["request_id"] = task.request_id
        pack_logger().info("%s answered: %s request_id=%s", task.endpoint, self.journal_id, task.request_id)

    def done(self, total: int) -> None:
        """The service has finished the task: write ``done`` and free the place of the limiter.

        Args:
            total: how many results the task has; that many count against the budget from now on.

        Raises:
            ClaimLost: another claim has the attempt.
        """
        # An adopted task was not submitted here, so it counts against no budget of this server.
        counted = {} if self.attempt.adopted else {"counted": total}
        self._apply(Event.FINISH, total=total, holds_slot=False, **counted)

    def keep(self, position: int, sub_task_id: str, encoded: Encoded) -> Kept:
        """Put one picture into the store, synced to disk; its result is written into the journal with the next change.

        A failure is logged and not raised: the caller delivers the picture all the same.

        Args:
            position: of the picture in its task, from 0.

        Returns:
            ``"stored"``; ``"again"``: not stored, but the service can be asked for it again; ``"lost"``: not stored,
            and there is nothing to fetch it from.
        """
        stored = self._put(position, sub_task_id, encoded)
        if stored is None and self.attempt.resumable:
            return "again"
        # A lost picture gets a result, too: queueing again then finds it missing and says so, and buys none.
        sha256 = stored.sha256 if stored is not None else hashlib.sha256(encoded.data).hexdigest()
        self._add_result(StoredResult(position, sub_task_id, sha256))
        self._kept = True
        return "stored" if stored is not None else "lost"

    def keep_beside_an_error(self, encoded: Encoded) -> bool:
        """Put a picture into the store that came with an error; returns whether it is there.

        The attempt's state does not change by it: the caller ends it as ``ambiguous``.
        """
        stored = self._put(0, "", encoded)
        if stored is not None:
            self._add_result(StoredResult(0, "", stored.sha256))
        return stored is not None

    def _put(self, position: int, sub_task_id: str, encoded: Encoded) -> SideCar | None:
        """Put a picture with its side-car into the store; a failure is logged and returns ``None``."""
        attempt = self.attempt
        side_car = self._side_car(
            media_type=encoded.media_type,
            width=encoded.width,
            height=encoded.height,
            position=position,
            count=len(attempt.task.sub_task_ids),
            sub_task_id=storable(sub_task_id),
        )
        try:
            return self._claims.store.put(encoded.data, side_car)
        except (OSError, ValueError) as problem:
            pack_logger().error(
                "a paid picture could not be stored (%s): %s task_id=%s request_id=%s",
                problem,
                self.journal_id,
                attempt.task.task_id,
                attempt.request_id,
            )
            return None

    def _side_car(self, **more: Any) -> SideCar:
        attempt, mark = self.attempt, self._claims.mark()
        return SideCar(
            journal_id=attempt.journal_id,
            key=attempt.key,
            provider=attempt.task.provider,
            endpoint=attempt.task.endpoint,
            profile=attempt.profile,
            account=attempt.account,
            sandbox=attempt.sandbox,
            take=attempt.take,
            task_id=storable(attempt.task.task_id),
            request_id=storable(attempt.task.request_id),
            sub_task_ids=[storable(single) for single in attempt.task.sub_task_ids],
            options=attempt.task.options,
            bought_at=attempt.tried_at,
            pixels=attempt.expected_pixels,
            pictures=attempt.pictures,
            summary=attempt.summary,
            result_url=storable(attempt.result_url),
            journal=mark.journal,
            journal_count=mark.count,
            **more,
        )

    def moved(self, position: int, result: StoredResult) -> None:
        """The service lists the stored picture ``result`` at another position now; written with the next change."""
        self._add_result(replace(result, position=position), has_moved=True)

    def missing(self, position: int, sub_task_id: str, error: RemoteImageError) -> None:
        """The picture at ``position`` will never come; its error is written with the next change."""
        self._add_result(StoredResult(position, sub_task_id, "", ErrorRecord.of(error)))

    def stored(self) -> None:
        """End the attempt as ``stored``: every picture that will come was kept or is known to be missing.

        Without a ``done`` before it (a synchronous answer) this also writes the end's time, and a total of 1.
        """
        is_done = self.state is State.DONE or self.attempt.complete
        self._apply(Event.STORE, **({} if is_done else {"done_at": NOW, "total": 1}))

    # ---- writing

    def _add_result(self, result: StoredResult, *, has_moved: bool = False) -> None:
        """Have a result written with the next change.

        Under the lock: :meth:`write_again` in another thread drops all pending results once its transaction has ended,
        and would drop this one without having written it.
        """
        with self._lock:
            self._pending_results.append((result, has_moved))

    def _change(self, event: Event, **values: Any) -> None:
        """Change the state, and have it written with the next change."""
        change = transition(self.state, event, **values)
        self.attempt = replace(self.attempt, state=change.state)
        with self._lock:
            self._pending.update(change.columns)

    def _apply(self, event: Event, **values: Any) -> None:
        """Change the state and write it: see :meth:`_write_or_keep`.

        Raises:
            ClaimLost: another claim has the attempt, and this event does not end the own one.
        """
        change = transition(self.state, event, **values)
        self.attempt = replace(self.attempt, state=change.state)
        with suppress(ClaimLost) if change.state in ENDED else nullcontext():
            self._write_or_keep(change.columns)

    def _write_or_raise(self, columns: Mapping[str, Any]) -> float:
        """Write these columns and the pending ones, if this process still owns the row; returns the database's time.

        Raises:
            JournalError, ClaimLost: it is not certain that they were written.
        """
        with self._lock:
            now = self._write({**self._pending, **columns}, must_own=True)
            self._pending = {}
            return now

    def _write_or_keep(self, columns: Mapping[str, Any]) -> None:
        """Write these columns together with the pending ones; a failure is logged, and they stay pending.

        Raises:
            ClaimLost: another claim has the attempt.
        """
        with self._lock:
            self._pending.update(columns)
            self._flush()

    def _flush(self) -> None:
        """Write the pending columns and results; then delete the task's side-car if the attempt has ended.

        Raises:
            ClaimLost: another claim has the attempt; the pending changes are dropped.
        """
        try:
            try:
                self._write(self._pending)
            except DamagedError:
                # The next transaction opens the journal again, and repairs or replaces it.
                self._write(self._pending)
        except JournalError as error:
            pack_logger().error(
                "%s could not be written down and will be tried again (%s): task_id=%s request_id=%s",
                self.journal_id,
                error.what.en,
                self.attempt.task.task_id,
                self.attempt.request_id,
            )
            self._claims.note(self, written=False)
            return
        except ClaimLost:
            self._pending, self._pending_results = {}, []
            self._claims.note(self, written=True)
            raise
        self._pending, self._pending_results = {}, []
        self._claims.note(self, written=True)
        if self.state in _SETTLED and self.attempt.resumable:
            with suppress(OSError):
                self._claims.store.forget_task(self.journal_id)

    def write_again(self) -> None:
        """Write the pending changes, and the attempt's row if the journal has lost it; a failure is logged only."""
        with self._lock, suppress(ClaimLost):
            self._flush()

    def _write(self, columns: Mapping[str, Any], *, must_own: bool = False) -> float:
        """Write columns and pending results in one transaction; returns the database's time.

        The row is updated if it has this claim's fence, or inserted if the journal has lost it. Else another claim has
        the attempt: then only a task or a stored picture is still written, and only into a row without a task,
        where LATE_TASK or LATE_PICTURE may happen.

        Args:
            must_own: also require that the row has this process as its owner.

        Raises:
            ClaimLost: the row has another fence or owner, unless a late picture made it ``stored``.
            JournalError: it is not certain that the transaction was committed.
        """
        mine = attempts.c.id == self.journal_id
        with self._claims.writing() as (connection, now):
            filled = at_time(columns, now)
            if self.attempt.resumable:
                # Write the task's ids in every update: the row may come from a restored older copy, without them.
                filled |= task_values(self.attempt)
            guarded = and_(mine, attempts.c.fence == self.fence)
            if must_own:
                # Another process may have released the attempt, and the user may have asked to submit it again.
                guarded = and_(guarded, attempts.c.owner == self.attempt.owner)
            if connection.execute(update(attempts).where(guarded).values(changed_at=now, **filled)).rowcount or (
                self.state in _SENT and self._insert_lost_row(connection, now, filled)
            ):
                self._put_results(connection)
                self._update_unknown_series(connection, now)
                return now
            # The attempt was given up, and its answer came late: a paid picture or task goes into the row even so.
            late = and_(mine, attempts.c.task_id == "")
            filled["error"] = None
            if filled.get("state") is State.STORED:
                if change_state(connection, now, Event.LATE_PICTURE, late, **filled):
                    self._put_results(connection)
                    return now
            elif self.attempt.resumable:
                change_state(connection, now, Event.LATE_TASK, late, **filled)
        raise ClaimLost

    def _update_unknown_series(self, connection: Connection, now: float) -> None:
        """Update the series of "unknown task" answers: deleted at the end, ended if the service knew the task."""
        if self.state in _SETTLED and self.fence > 1:
            drop_unknown(connection, self.journal_id)
        elif self._known and self.state is State.PARKED:
            note_known(connection, now, self.journal_id)

    def _insert_lost_row(self, connection: Connection, now: float, filled: Mapping[str, Any]) -> bool:
        """Insert the attempt's row again if the journal has lost it; returns whether it did.

        Without its row, an equal request would be submitted again.
        """
        # The row of an adopted, unconfirmed task may be missing because forget() has deleted it.
        if self.attempt.unconfirmed:
            return False
        if connection.execute(select(attempts.c.id).where(attempts.c.id == self.journal_id)).first() is not None:
            return False
        put_request(connection, self.attempt, now)
        this_request = request_rows.c.key == self.attempt.key
        connection.execute(update(request_rows).where(this_request).values(submit_again=False))
        known = {
            "state": self.state,
            "holds_slot": self.state in (State.SUBMITTING, State.SUBMITTED),
            "counted": self.attempt.pictures,
            "admitted_at": self.attempt.tried_at,
            "submitting_at": self.attempt.tried_at,
        }
        put_attempt(connection, self.attempt, now, **{**known, **filled})
        insert_results(connection, self._claims.store.side_cars_of(self.journal_id))
        pack_logger().warning("the journal had lost the attempt %s; its row was inserted again", self.journal_id)
        return True

    def _put_results(self, connection: Connection) -> None:
        for result, has_moved in self._pending_results:
            put_result(connection, self.journal_id, result, has_moved=has_moved)


def _interrupted_error(attempt: Attempt, cause: BaseException | None) -> AmbiguousSubmitError:
    kind = type(cause).__name__
    return AmbiguousSubmitError(
        Text(
            f"The request was broken off by an error ({kind}): it may have been accepted.",
            f"请求因错误（{kind}）中断，服务端可能已经受理。",
        ),
        provider=attempt.task.provider,
        request_id=attempt.request_id,
    )
