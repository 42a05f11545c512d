"""The right of this process to work on an attempt, and what it writes down on the way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import Connection, and_, delete, select, update

from ..core import AmbiguousSubmitError, CallCancelled, RemoteImageError, TaskRef, Text, pack_logger
from ..pixels import Encoded
from .model import Attempt, ClaimLost, DamagedError, JournalError, State, StoredResult, moment_of
from .rows import drop_unknown, json_of, note_known, put_attempt, put_request, put_result, task_values
from .store import Mark, SideCar, Store
from .tables import attempts, request_rows, storable

Kept = Literal["stored", "again", "lost"]
# The service may have accepted an attempt in one of these states.
_SENT = frozenset(State) - {State.PREPARED, State.REFUSED, State.CANCELLED}
# Nothing is to be fetched any more.
_SETTLED = (State.STORED, State.FAILED, State.REFUSED)
# A late answer still settles an attempt in one of these states.
_GIVEN_UP = (State.PREPARED, State.SUBMITTING, State.AMBIGUOUS, State.CANCELLED)


class Claims:
    """The attempts that this process works on, and those whose last word could not be written down yet."""

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
        self._held: dict[str, Claim] = {}
        self._unwritten: set[Claim] = set()

    def own(self, attempt: Attempt) -> Claim:
        claim = Claim(self, attempt)
        with self.changed:
            self._held[attempt.journal_id] = claim
        return claim

    def ids(self) -> list[str]:
        with self.changed:
            return [*self._held, *(claim.journal_id for claim in self._unwritten)]

    def of(self, key: str) -> list[Claim]:
        """The claims on one request, also those whose end could not be written down yet."""
        with self.changed:
            known = {*self._held.values(), *self._unwritten}
        return [claim for claim in known if claim.attempt.key == key]

    def unwritten(self) -> list[Claim]:
        with self.changed:
            return list(self._unwritten)

    def let_go(self, claim: Claim) -> None:
        with self.changed:
            # It may have been claimed again meanwhile.
            if self._held.get(claim.journal_id) is claim:
                del self._held[claim.journal_id]
            self.changed.notify_all()

    def note(self, claim: Claim, *, written: bool) -> None:
        with self.changed:
            if written:
                self._unwritten.discard(claim)
            else:
                self._unwritten.add(claim)
            self.changed.notify_all()


class Claim:
    """This process's right to work on one attempt, from :meth:`Journal.claim` to the end of the ``with`` block.

    Before acceptance what cannot be written down raises. After it, the picture counts more than the record: what cannot
    be written is logged and tried again, here and by the heartbeat.
    """

    def __init__(self, claims: Claims, attempt: Attempt) -> None:
        self._claims = claims
        self.attempt = attempt
        self.fence = attempt.fence
        self._state = attempt.state
        self._lock = threading.Lock()
        self._pending: dict[str, Any] = {}
        self._pending_results: list[tuple[int, str, str, RemoteImageError | None]] = []
        self._kept = False
        self._known = False
        self._ended = False

    @property
    def journal_id(self) -> str:
        return self.attempt.journal_id

    @property
    def state(self) -> State:
        """How far it came, whether that is written down or not."""
        return self._state

    @property
    def was_sent(self) -> bool:
        """Whether the service may have accepted it."""
        return self._state in _SENT

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if not self._ended:
                self._leave(error)
        finally:
            self._claims.let_go(self)

    def _leave(self, error: BaseException | None) -> None:
        if self._state is State.PREPARED:
            self._end(State.CANCELLED, counted=0, error=json_of(error) if isinstance(error, RemoteImageError) else None)
        elif self._state is State.SUBMITTING and self._kept:
            # The answer was the picture, and that is in the store.
            self.stored()
        elif self._state is State.SUBMITTING:
            self._end(State.AMBIGUOUS, error=json_of(_broken_off(self.attempt, error)))
        else:
            if isinstance(error, CallCancelled):
                self._say_that_it_goes_on()
            self._end(State.PARKED)

    def _say_that_it_goes_on(self) -> None:
        task = self.attempt.task
        pack_logger().warning(
            "%s: stopped waiting; the task goes on and is not lost: queue again and it is resumed, or fetch it with "
            "the node Remote Task Result: %s task_id=%s",
            task.endpoint,
            self.journal_id,
            task.task_id,
        )

    # ---- before acceptance

    def submitting(self) -> None:
        """Written and synced before the first byte of the request goes out."""
        now = self._must(state=State.SUBMITTING, submitting_at=...)
        self.attempt = replace(self.attempt, tried_at=now)
        self._state = State.SUBMITTING

    def unsent(self) -> None:
        """This try was certainly not accepted: the attempt is where it was before."""
        self._state = State.PREPARED

    def write_unsent(self, *, holds_slot: bool = True) -> None:
        """It will be tried again, and whatever ends this process until then leaves nothing unexplained."""
        self._must(state=State.PREPARED, holds_slot=holds_slot)

    def refused(self, error: RemoteImageError) -> None:
        """Certainly not accepted, for good."""
        self._end(State.REFUSED, counted=0, error=json_of(error))

    def ambiguous(self, error: RemoteImageError) -> None:
        self._end(State.AMBIGUOUS, error=json_of(error))
        error.journal_id, error.sent_at = self.journal_id, moment_of(self.attempt.tried_at)

    def failed(self, error: RemoteImageError) -> None:
        """Accepted, and no picture will come."""
        self._end(State.FAILED, error=json_of(error), done_at=...)
        if not self.attempt.adopted:
            error.journal_id = self.journal_id

    # ---- after acceptance

    def accepted(self, task: TaskRef, result_url: str = "") -> None:
        """The service took it: from here on it is resumed, never submitted again."""
        self.attempt = replace(self.attempt, task=task, result_url=result_url)
        self._state = State.SUBMITTED
        pack_logger().info(
            "%s accepted: %s task_id=%s request_id=%s", task.endpoint, self.journal_id, task.task_id, task.request_id
        )
        try:
            self._try(state=State.SUBMITTED, error=None, submitted_at=...)
        finally:
            self._put_task()

    def _put_task(self) -> None:
        """Write the task into the store, so that the task survives the journal."""
        try:
            self._claims.store.put_task(self._side_car(count=self.attempt.pictures))
        except (OSError, ValueError) as problem:
            pack_logger().warning("%s could not be written into the store: %s", self.journal_id, problem)

    def confirmed(self) -> None:
        """The service answered with a state of the task."""
        self._known = True
        if self.attempt.unconfirmed:
            self.attempt = replace(self.attempt, submitted_at=self.attempt.tried_at)
            self._try(submitted_at=...)

    def forget(self) -> None:
        """The service does not know a task that was only adopted: no row is left that would say it may be billed.

        Raises:
            ClaimLost: somebody else works on it.
        """
        # Where that cannot be written, it stays as a parked one.
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
            self._ended = True

    def answered(self, task: TaskRef) -> None:
        """The answer brought the picture itself: :meth:`keep` and :meth:`stored` write it down."""
        self.attempt = replace(self.attempt, task=task)
        self._pending["request_id"] = task.request_id
        pack_logger().info("%s answered: %s request_id=%s", task.endpoint, self.journal_id, task.request_id)

    def done(self, total: int) -> None:
        """The service has finished, and has room for another task.

        Args:
            total: how many pictures it turned out to be, also for the budget.
        """
        self._state = State.DONE
        # A task that was adopted was paid elsewhere.
        counted = {} if self.attempt.adopted else {"counted": total}
        self._try(state=State.DONE, done_at=..., total=total, holds_slot=False, **counted)

    def keep(self, position: int, sub_task_id: str, encoded: Encoded) -> Kept:
        """Store one picture. What cannot be stored is delivered all the same.

        Returns:
            Whether it is "stored", is fetched "again" next time, or is "lost" for that.
        """
        stored = self._put(position, sub_task_id, encoded)
        if stored is None and self.attempt.resumable:
            return "again"
        # Nothing to fetch it from again: the next time says that it is lost, and does not buy another one.
        sha256 = stored.sha256 if stored is not None else hashlib.sha256(encoded.data).hexdigest()
        self._pending_results.append((position, sub_task_id, sha256, None))
        self._kept = True
        return "stored" if stored is not None else "lost"

    def keep_beside_an_error(self, encoded: Encoded) -> bool:
        """Store a picture that came with an error: it does not make the attempt a stored one. Whether it could."""
        stored = self._put(0, "", encoded)
        if stored is not None:
            self._pending_results.append((0, "", stored.sha256, None))
        return stored is not None

    def _put(self, position: int, sub_task_id: str, encoded: Encoded) -> SideCar | None:
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
        """The service lists this stored picture at another place now."""
        self._pending_results.append((position, result.sub_task_id, result.sha256, None))

    def missing(self, position: int, sub_task_id: str, error: RemoteImageError) -> None:
        """One picture of the task will never come."""
        self._pending_results.append((position, sub_task_id, "", error))

    def stored(self) -> None:
        """Everything that the task brought is in the store."""
        ended = {} if self._state is State.DONE or self.attempt.complete else {"done_at": ..., "total": 1}
        self._end(State.STORED, **ended)

    # ---- writing

    def _must(self, **values: Any) -> float:
        """
        Returns:
            The database's time.

        Raises:
            JournalError, ClaimLost: it is not written down.
        """
        with self._lock:
            now = self._write({**self._pending, **values}, must_own=True)
            self._pending = {}
            return now

    def _try(self, **values: Any) -> None:
        """
        Raises:
            ClaimLost: somebody else works on it.
        """
        with self._lock:
            self._pending.update(values)
            self._flush()

    def _flush(self) -> None:
        try:
            try:
                self._write(self._pending)
            except DamagedError:
                # The second try opens the journal again, or makes a new one.
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
        if self._ended and self._state in _SETTLED and self.attempt.resumable:
            with suppress(OSError):
                self._claims.store.forget_task(self.journal_id)

    def write_again(self) -> None:
        """Write the changes that could not be written, and the attempt's row if the journal has lost it."""
        with self._lock, suppress(ClaimLost):
            self._flush()

    def _end(self, state: State, **values: Any) -> None:
        self._ended = True
        self._state = state
        with suppress(ClaimLost):
            self._try(state=state, owner=None, holds_slot=False, **values)

    def _write(self, values: Mapping[str, Any], *, must_own: bool = False) -> float:
        mine = attempts.c.id == self.journal_id
        with self._claims.writing() as (connection, now):
            filled = {name: now if value is ... else value for name, value in values.items()}
            if self.attempt.resumable:
                # In every update: an older copy of the journal, with a row without the task id, may have been restored.
                filled |= task_values(self.attempt)
            guarded = and_(mine, attempts.c.fence == self.fence)
            if must_own:
                # Somebody may have given it up for lost, and even asked for it to be submitted again.
                guarded = and_(guarded, attempts.c.owner == self.attempt.owner)
            if connection.execute(update(attempts).where(guarded).values(changed_at=now, **filled)).rowcount or (
                self._state in _SENT and self._put_back(connection, now, filled)
            ):
                self._put_results(connection)
                self._note_what_is_known(connection, now)
                return now
            # What was given up for lost, and came late, always settles the attempt.
            late = and_(mine, attempts.c.task_id == "", attempts.c.state.in_(_GIVEN_UP))
            settled = {**filled, "owner": None, "holds_slot": False, "error": None, "changed_at": now}
            if filled.get("state") is State.STORED:
                if connection.execute(update(attempts).where(late).values(settled)).rowcount:
                    self._put_results(connection)
                    return now
            elif self.attempt.resumable:
                connection.execute(update(attempts).where(late).values({**settled, "state": State.PARKED}))
        raise ClaimLost

    def _note_what_is_known(self, connection: Connection, now: float) -> None:
        if self._state in _SETTLED and self.fence > 1:
            drop_unknown(connection, self.journal_id)
        elif self._ended and self._known and self._state is State.PARKED:
            note_known(connection, now, self.journal_id)

    def _put_back(self, connection: Connection, now: float, filled: Mapping[str, Any]) -> bool:
        """Insert the attempt's row again if the journal has lost it; returns whether it did.

        Without its row, an equal request would be submitted again.
        """
        # forget() deletes the row of an adopted task on purpose.
        if self.attempt.unconfirmed:
            return False
        if connection.execute(select(attempts.c.id).where(attempts.c.id == self.journal_id)).first() is not None:
            return False
        put_request(connection, self.attempt, now)
        this_request = request_rows.c.key == self.attempt.key
        connection.execute(update(request_rows).where(this_request).values(submit_again=False))
        known = {
            "state": self._state,
            "holds_slot": self._state in (State.SUBMITTING, State.SUBMITTED),
            "counted": self.attempt.pictures,
            "admitted_at": self.attempt.tried_at,
            "submitting_at": self.attempt.tried_at,
        }
        put_attempt(connection, self.attempt, now, **{**known, **filled})
        for side_car in self._claims.store.side_cars_of(self.journal_id):
            put_result(connection, self.journal_id, side_car.position, side_car.sub_task_id, side_car.sha256)
        pack_logger().warning("the journal had lost the attempt %s; its row was inserted again", self.journal_id)
        return True

    def _put_results(self, connection: Connection) -> None:
        for position, sub_task_id, sha256, error in self._pending_results:
            put_result(connection, self.journal_id, position, sub_task_id, sha256, error)


def _broken_off(attempt: Attempt, cause: BaseException | None) -> AmbiguousSubmitError:
    kind = type(cause).__name__
    return AmbiguousSubmitError(
        Text(
            f"The request was broken off by an error ({kind}): it may have been accepted.",
            f"请求因错误（{kind}）中断，服务端可能已经受理。",
        ),
        provider=attempt.task.provider,
        request_id=attempt.request_id,
    )
