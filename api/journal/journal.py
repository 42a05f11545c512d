"""The journal: the durable record of every paid request, with who works on it, its state, and its pictures.

Nothing is submitted before it is written and synced here, and nothing that was accepted is ever submitted again unless
the user asks for it. A *request* is one key; an *attempt* is one try to buy it (its id is the journal id); a *result*
is one picture of an attempt, or the reason why it is missing.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from statistics import median
from typing import Any, cast

from sqlalchemy import Connection, and_, or_, select, update

from ..core import (
    THREAD_PREFIX,
    AmbiguousSubmitError,
    CallCancelled,
    CancelToken,
    JournalSettings,
    Provider,
    TaskRef,
    Text,
    Usual,
    pack_logger,
)
from ..pixels import Encoded, UndecodableImageError
from . import salvage
from .budget import PollPacer, check_budget, counted_today, pause_until_room, slow_down
from .claim import Claim, Claims
from .lease import HEARTBEAT, Leases
from .model import (
    ACCEPTED,
    FINISHED,
    UNDER_WAY,
    Attempt,
    Busy,
    ClaimLost,
    Decision,
    Event,
    Explained,
    Finished,
    Found,
    JournalError,
    Known,
    Order,
    Purchase,
    State,
    decide,
    may_submit_again,
    told_again,
    transition,
)
from .opening import JournalTransactions
from .rows import (
    attempt_of,
    change_state,
    forgotten_ids,
    json_of,
    note_unknown,
    put_attempt,
    put_request,
    put_result,
    read_attempts,
    read_durations,
    task_values,
)
from .store import UNKNOWN_MEDIA, DamagedPictureError, MissingPictureError, Store
from .tables import attempts, owners, request_rows, results
from .task_list import Look, Overview, StopRegistry, Task, read_tasks

_LOOK_AGAIN = 0.25


class Journal:
    """The journal of a ComfyUI server, or of several that share one PostgreSQL database; thread-safe.

    The first transaction opens the database. Each method raises JournalError if the database cannot be used, unless it
    says otherwise; times are database times, epoch seconds.

    Args:
        clock: database time of SQLite, epoch seconds.
        on_change: called after each change that a task list would show, from any thread; it must not block.
    """

    def __init__(
        self,
        settings: JournalSettings,
        *,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._notices = salvage.notices_of(settings)
        self.store = Store(settings.store or settings.directory / "store", settings.store_max_bytes)
        self._on_change = on_change
        self._transactions = JournalTransactions(settings, self.store, clock, self._say_changed)
        self.stop_registry = StopRegistry(self._say_changed)
        self._leases = Leases()
        self._claims = Claims(lambda: self._transactions.writing(), self.store, lambda: self._transactions.mark)
        self._changed = self._claims.changed
        self._beating = False
        self._closed = False
        self._living_processes = 1
        self._admission_locks: dict[tuple[str, str], threading.Lock] = {}
        self._poll_queues: dict[str, PollPacer] = {}

    # ---- opening and closing

    def open(self) -> None:
        """Open the database, unless it is open, and check that the journal may be used to buy.

        Raises:
            JournalError: it cannot be used; or it was damaged, lost or replaced by an older copy, and nobody has
                acknowledged that.
        """
        self._transactions.open()
        salvage.check_acknowledged(self._notices)

    def acknowledge(self) -> None:
        """The server's owner has acknowledged that the journal lost something: paid nodes may buy again."""
        salvage.acknowledge(self._notices)
        self._say_changed()

    def _say_changed(self) -> None:
        try:
            self._on_change()
        except Exception as problem:  # what was written down stays written down, and the call goes on
            pack_logger().debug("a change was not announced: %s", problem)

    def close(self) -> None:
        """Stop the heartbeat, release the attempts of this process, and close the database; a failure is ignored.

        Accepted attempts become ``parked``, unsent ones ``cancelled``; one that is ``submitting`` keeps its state, and
        its answer is written if it still comes. From now on nothing can be claimed.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._transactions.is_open:
            with suppress(JournalError), self._transactions.writing() as (connection, now):
                self._release(connection, now, attempts.c.owner == self._leases.owner)
                self._leases.end(connection)
            self._transactions.close()

    # ---- what is known of a request

    def look_up(self, keys: Sequence[str]) -> dict[str, Decision]:
        """What queueing each of these requests would do, by key.

        Raises:
            JournalError: as :meth:`open`.
        """
        self.open()
        return {key: found.decision for key, found in zip(keys, self.decisions(keys), strict=True)}

    def decisions(self, keys: Sequence[str]) -> list[Found]:
        """As :meth:`look_up`, with the state of the attempt behind each decision, in the order of ``keys``.

        It reads also while nobody has acknowledged a loss.
        """
        with self._transactions.reading() as (connection, now):
            known = {key: self._decide(connection, now, key) for key in dict.fromkeys(keys)}
        found = (known[key] for key in keys)
        return [Found(decision, attempt.state if attempt else None, busy) for decision, attempt, busy in found]

    def _decide(self, connection: Connection, now: float, key: str) -> tuple[Decision, Attempt | None, bool]:
        """The decision about a request, the attempt it is about, and whether a call works on that: see decide()."""
        known = read_attempts(connection, attempts.c.key == key)
        again = connection.execute(select(request_rows.c.submit_again).where(request_rows.c.key == key)).scalar()
        return decide(
            known,
            again=bool(again),
            is_free=lambda attempt: self._is_free(connection, now, attempt),
            has_pictures=self._has_pictures,
            forgotten=forgotten_ids(connection) if known else frozenset(),
        )

    def _has_pictures(self, attempt: Known) -> bool:
        """Whether the store has a picture or the task of an attempt."""
        return bool(self.store.side_cars_of(attempt.journal_id)) or self.store.task(attempt.journal_id) is not None

    def _is_free(self, connection: Connection, now: float, attempt: Known) -> bool:
        """Whether no call works on an attempt: it has no owner, a dead one, or this process without a claim on it."""
        if attempt.owner is None:
            return True
        if attempt.owner == self._leases.owner:
            return attempt.journal_id not in self._claims.ids()
        row = connection.execute(select(owners).where(owners.c.id == attempt.owner)).first()
        return row is None or not self._leases.is_living(row, now)

    def is_busy(self, journal_id: str) -> bool:
        """Whether a call of any process works on this attempt, or this process could not write its end yet."""
        if journal_id in self._claims.ids():
            return True
        with self._transactions.reading() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            return bool(found) and found[0].state in UNDER_WAY and not self._is_free(connection, now, found[0])

    def finished(self, key: str) -> Attempt | None:
        """The finished attempt whose pictures queueing this request would take from the store; ``None`` if it has none.

        Writes nothing.

        Raises:
            CallCancelled, JournalError: as :meth:`claim`.
        """
        self._begin()
        with self._transactions.reading() as (connection, now):
            _, attempt, _ = self._decide(connection, now, key)
        return attempt if attempt is not None and attempt.state in FINISHED else None

    # ---- claims

    def claim(self, order: Order, waited_for: str = "") -> Claim | Busy | Finished | Explained:
        """Claim a request: decide, and make or take over the attempt that the caller is to work on, in one transaction.

        Args:
            waited_for: the journal id that the caller has waited for after ``Busy``; if that attempt was refused, this
                call ends with the same error instead of submitting the same request again.

        Returns:
            - ``Claim``: the attempt is this process's. If its state is ``prepared``, the caller submits it; else it is
              accepted, and the caller asks for the task.
            - ``Busy``: another call works on it.
            - ``Finished``: its pictures are in the store. An attempt in ``submitting`` whose process has ended is
              settled first, from what the store has of it.
            - ``Explained``: nothing may be submitted.

        Raises:
            CallCancelled: the journal is closed.
            JournalError: nothing can be written, so nothing may be submitted; or as :meth:`open`.
        """
        self._begin()
        # First restore the rows of attempts that this process has sent, in case the journal has lost them.
        sent = [claim for claim in self._claims.of(order.key) if claim.was_sent]
        for claim in sent:
            claim.write_again()
        with self._owning() as own, self._transactions.writing() as (connection, now):
            decision, attempt, busy = self._decide(connection, now, order.key)
            if attempt is not None and attempt.journal_id == waited_for and attempt.state is State.REFUSED:
                return Explained(told_again(attempt))
            if attempt is not None and busy:
                return Busy(attempt.journal_id)
            if decision is Decision.NEW and sent:
                return Busy(sent[0].journal_id)
            if attempt is not None:
                attempt = self._settled(connection, now, attempt)
                if attempt.state in FINISHED:
                    return Finished(attempt)
                if decision is Decision.EXPLAIN:
                    return Explained(told_again(attempt))
                if attempt.state is State.PREPARED or (attempt.state in ACCEPTED and decision is not Decision.NEW):
                    return own(connection, now, self._take_over(connection, now, attempt))
            return own(connection, now, self._new_attempt(connection, now, order))

    def claim_task(self, journal_id: str) -> Claim | Busy | Finished | Explained | None:
        """Claim one attempt by its journal id, to fetch its task; never makes an attempt that could be submitted.

        Returns:
            As :meth:`claim`, but a ``Claim`` is always on an accepted attempt; one that was not accepted is
            ``Explained``. ``None``: there is no such attempt.

        Raises:
            CallCancelled: the journal is closed.
            JournalError: nothing can be written.
        """
        # No check for the acknowledgement: fetching is free, and the links of pictures end within a day.
        if self._closed:
            raise CallCancelled
        with self._owning() as own, self._transactions.writing() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            if not found:
                return None
            attempt = found[0]
            if attempt.state in UNDER_WAY and not self._is_free(connection, now, attempt):
                return Busy(attempt.journal_id)
            attempt = self._settled(connection, now, attempt)
            if attempt.state in FINISHED:
                return Finished(attempt)
            if attempt.state not in ACCEPTED:
                return Explained(told_again(attempt))
            return own(connection, now, self._take_over(connection, now, attempt))

    def _begin(self) -> None:
        """Check that something paid may be begun.

        Raises:
            CallCancelled: the journal is closed: the process is about to end, before the call could finish.
            JournalError: as :meth:`open`.
        """
        if self._closed:
            raise CallCancelled
        self.open()

    @contextmanager
    def _owning(self) -> Iterator[Callable[[Connection, float, Attempt], Claim]]:
        """A function that makes the claim inside a transaction; the claim is withdrawn if the block raises.

        Without it the heartbeat could see the committed row before its claim exists, and release it.
        """
        made: list[Claim] = []

        def own(connection: Connection, now: float, attempt: Attempt) -> Claim:
            # Renew the lease last, so that a claim that only reads does not sync to disk.
            self._register(connection, now)
            made.append(self._claims.own(attempt))
            return made[0]

        try:
            yield own
        except BaseException:
            # The commit failed, or was not confirmed: no call will work on the attempt, so none may wait for it. If the
            # row was committed after all, a later heartbeat releases it.
            for claim in made:
                self._claims.let_go(claim)
            raise

    def adopt(self, order: Order, task: TaskRef) -> str:
        """Insert a parked attempt for a task that was submitted elsewhere; returns its journal id.

        If the journal has an attempt of this endpoint and account with this task id already, returns that one's id.
        An adopted task counts against no budget.
        """
        with self._transactions.writing() as (connection, now):
            known = read_attempts(
                connection,
                and_(
                    attempts.c.task_id == task.task_id,
                    attempts.c.endpoint == task.endpoint,
                    attempts.c.account == order.purchase.account,
                ),
            )
            if known:
                return known[-1].journal_id
            attempt = self._new_attempt(connection, now, order)
            # The service's own request_id is not known, and an invented one would be asked for.
            this = attempts.c.id == attempt.journal_id
            change_state(connection, now, Event.LATE_TASK, this, task_id=task.task_id, request_id="")
            return attempt.journal_id

    def places_of(self, task_id: str) -> list[tuple[str, str]]:
        """(Endpoint, account id) of each attempt with this task id, the newest first."""
        with self._transactions.reading() as (connection, _):
            same = and_(attempts.c.task_id == task_id, attempts.c.task_id != "")
            found = read_attempts(connection, same, order=attempts.c.created_at.desc())
            return [(attempt.task.endpoint, attempt.account) for attempt in found]

    def _new_attempt(self, connection: Connection, now: float, order: Order) -> Attempt:
        """Insert a ``prepared`` attempt of this process, and clear the request's mark "submit again"."""
        purchase = order.purchase
        provider = cast(Provider, purchase.provider)
        # Only HiDream takes an id from us; Volcengine makes its own, and ours would be of no use to its support.
        request_id = str(uuid.uuid4()) if provider == "HiDream" else ""
        attempt = Attempt(
            journal_id=f"rv-{uuid.uuid4().hex[:16]}",
            key=order.key,
            state=State.PREPARED,
            fence=1,
            owner=self._leases.owner,
            request_id=request_id,
            task=TaskRef(provider, purchase.endpoint, "", request_id),
            result_url="",
            account=purchase.account,
            profile=purchase.profile,
            sandbox=order.sandbox,
            take=order.take,
            pictures=purchase.pictures,
            expected_pixels=order.expected_pixels,
            summary=order.summary,
            tried_at=now,
            changed_at=now,
        )
        put_request(connection, attempt, now)
        connection.execute(update(request_rows).where(request_rows.c.key == order.key).values(submit_again=False))
        put_attempt(connection, attempt, now, prompt_id=purchase.prompt_id)
        return attempt

    def _take_over(self, connection: Connection, now: float, attempt: Attempt) -> Attempt:
        """Make this process the owner of an attempt and raise its fence.

        An accepted one takes a place of the limiter, without waiting for it.
        """
        owned = {"owner": self._leases.owner, "fence": attempt.fence + 1}
        this, holds_slot = attempts.c.id == attempt.journal_id, attempt.state in ACCEPTED
        change_state(connection, now, Event.CLAIM, this, holds_slot=holds_slot, **owned)
        return replace(attempt, state=transition(attempt.state, Event.CLAIM).state, **owned)

    def _settled(self, connection: Connection, now: float, attempt: Attempt) -> Attempt:
        """An attempt on which no call works, after what the store has of it is in the journal.

        One in ``submitting`` gets the state that follows from it. A finished one gets results that it lacks: earlier
        versions could drop one while another call of the same request wrote the claim.
        """
        if attempt.state is State.SUBMITTING:
            attempt = self._settle_orphan(connection, now, attempt)
        if attempt.state not in FINISHED or attempt.complete:
            return attempt
        known = {result.position for result in attempt.results}
        for side_car in self.store.side_cars_of(attempt.journal_id):
            if side_car.position not in known:
                put_result(connection, attempt.journal_id, side_car.position, side_car.sub_task_id, side_car.sha256)
        return read_attempts(connection, attempts.c.id == attempt.journal_id)[0]

    def _settle_orphan(self, connection: Connection, now: float, attempt: Attempt) -> Attempt:
        """Settle an attempt in ``submitting`` whose process has ended: what the store has of it decides.

        With a task's side-car it becomes ``parked``, with pictures ``stored``, else ``ambiguous``. Returns the attempt
        as it is now.
        """
        kept = self.store.side_cars_of(attempt.journal_id)
        task = self.store.task(attempt.journal_id)
        mine = attempts.c.id == attempt.journal_id
        if task is not None:
            change_state(connection, now, Event.LATE_TASK, mine, **task_values(attempt_of(task, now)))
        elif kept:
            total = len({side_car.position for side_car in kept})
            change_state(connection, now, Event.LATE_PICTURE, mine, done_at=now, total=total)
        else:
            error = AmbiguousSubmitError(
                Text(
                    "ComfyUI ended, or lost the journal, while this request was being sent: it may have been accepted.",
                    "请求发送期间 ComfyUI 已退出或无法写入付费日志，服务端可能已经受理。",
                ),
                provider=attempt.task.provider,
                request_id=attempt.request_id,
            )
            change_state(connection, now, Event.UNCLEAR, mine, error=json_of(error))
        return read_attempts(connection, mine)[0]

    def reopen(self, attempt: Attempt) -> None:
        """Park a finished attempt whose pictures are missing in the store, so that its task is asked for them again.

        Changes nothing if another call has reopened it. If the files come back before it is claimed, they are used.
        """
        with self._transactions.writing() as (connection, now):
            change_state(connection, now, Event.REOPEN, attempts.c.id == attempt.journal_id)

    # ---- budget and limiter

    def check_budget(self, purchase: Purchase) -> None:
        """Check the budget for a purchase, after releasing what dead processes have reserved; reserves nothing.

        Raises:
            QuotaError: the budget does not hold these pictures.
        """
        with self._transactions.writing() as (connection, now):
            self._release_unsent(connection, now, self._leases.living(connection, now))
            check_budget(connection, now, purchase)

    def admit(self, claim: Claim, purchase: Purchase, cancel: CancelToken) -> None:
        """Wait until the limiter has room; then take a place and reserve the pictures, in the transaction that checks.

        May be called again for a claim that has given its place up; its pictures count once.

        Raises:
            QuotaError: the budget does not hold these pictures.
            CallCancelled: cancelled, or the journal is closed.
            ClaimLost: another claim has the attempt.
            JournalError: it could not be written; or as :meth:`open`.
        """
        lock = self._admission_locks.setdefault((purchase.account, purchase.endpoint), threading.Lock())
        # One call of this process at a time asks the database for this account and endpoint; the others wait here.
        while not lock.acquire(timeout=_LOOK_AGAIN):
            cancel.check()
        try:
            while pause := self._try_to_admit(claim, purchase):
                self.wait_for_change(min(pause, _LOOK_AGAIN))
                cancel.check()
        finally:
            lock.release()

    def _try_to_admit(self, claim: Claim, purchase: Purchase) -> float:
        """Seconds until the limiter should be asked again; 0.0 if the attempt was admitted and that is written."""
        self._begin()
        with self._transactions.writing() as (connection, now):
            mine = and_(attempts.c.id == claim.journal_id, attempts.c.fence == claim.fence)
            if connection.execute(select(attempts.c.id).where(mine)).first() is None:
                raise ClaimLost
            check_budget(connection, now, purchase, claim.journal_id)
            pause = pause_until_room(
                connection, now, claim.journal_id, purchase, lambda owner: self._leases.is_living(owner, now)
            )
            if not pause:
                connection.execute(
                    update(attempts)
                    .where(mine)
                    .values(
                        counted=purchase.pictures,
                        holds_slot=True,
                        admitted_at=now,
                        prompt_id=purchase.prompt_id,
                        pictures=purchase.pictures,
                        profile=purchase.profile,
                    )
                )
            return pause

    def slow_down(self, account: str, provider: str) -> None:
        """Halve the limits of an account after the service answered 429; a failure to write that is ignored."""
        with suppress(JournalError), self._transactions.writing() as (connection, now):
            slow_down(connection, now, account, provider)

    def poll_turn(self, account: str, per_second: int | None, cancel: CancelToken) -> None:
        """Wait for the turn of one poll; ``per_second`` holds for all processes together; raises CallCancelled.

        Each process takes an equal share; it counts the others at each heartbeat.
        """
        queue = self._poll_queues.setdefault(account, PollPacer())
        queue.pass_through(per_second / self._living_processes if per_second else None, cancel)

    # ---- reading

    def tasks(self, limit: int = 200) -> list[Task]:
        """The task list, newest first."""
        with self._transactions.reading() as (connection, now):
            return read_tasks(connection, self._look(connection, now), limit)

    def task(self, journal_id: str) -> Task | None:
        """The line of one attempt in the task list; ``None`` if there is no such attempt."""
        with self._transactions.reading() as (connection, now):
            found = read_tasks(connection, self._look(connection, now), 1, attempts.c.id == journal_id)
            return next(iter(found), None)

    def overview(self, limit: int) -> Overview:
        """The newest ``limit`` lines of the task list, and what is shown beside it, of one moment."""
        with self._transactions.reading() as (connection, now):
            return Overview(
                now,
                tuple(read_tasks(connection, self._look(connection, now), limit)),
                counted_today(connection, now),
                salvage.is_unacknowledged(self._notices),
            )

    def _look(self, connection: Connection, now: float) -> Look:
        """What the task list needs beside the rows; owners and claims are read once, for all of its lines."""
        living = set(self._leases.living(connection, now))
        mine = set(self._claims.ids())

        def is_free(attempt: Known) -> bool:
            if attempt.owner == self._leases.owner:
                return attempt.journal_id not in mine
            return attempt.owner not in living

        return Look(is_free, self._has_pictures, self.stop_registry.ids(), forgotten_ids(connection))

    def collectable(self, journal_id: str) -> Attempt | None:
        """The attempt, if it is accepted and no call works on it; else ``None``."""
        with self._transactions.reading() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            if not found or found[0].state not in ACCEPTED or not self._is_free(connection, now, found[0]):
                return None
            return found[0]

    def hash_of(self, journal_id: str, position: int) -> str:
        """SHA-256 (hex) of an attempt's picture; empty if the journal has none at this position."""
        with self._transactions.reading() as (connection, _):
            found = and_(results.c.attempt == journal_id, results.c.position == position)
            return connection.execute(select(results.c.sha256).where(found)).scalar() or ""

    def stored(self, sha256: str) -> bytes | None:
        """The bytes of a stored picture; ``None`` if they are missing or damaged. Raises OSError as Store.read()."""
        try:
            return self.store.read(sha256)
        except (MissingPictureError, DamagedPictureError):
            return None

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        """The bytes and the media type of an attempt's picture; ``None`` if it is missing or damaged.

        Bytes that Pillow cannot read have ``UNKNOWN_MEDIA``.

        Raises:
            OSError: the disk or network share of the store failed.
        """
        sha256 = self.hash_of(journal_id, position)
        data = self.stored(sha256) if sha256 else None
        if data is None:
            return None
        try:
            return data, Encoded.of(data).media_type
        except UndecodableImageError:
            return data, UNKNOWN_MEDIA

    def submit_again(self, journal_id: str) -> bool:
        """Mark the request of an attempt, so that its next claim makes a new attempt; returns whether it did.

        ``False`` unless queueing the request is explained by this attempt, or would resume it while the service has
        probably forgotten its task and no call works on it.
        """
        with self._transactions.writing() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            if not found:
                return False
            decision, attempt, busy = self._decide(connection, now, found[0].key)
            if attempt is None or attempt.journal_id != journal_id:
                return False
            if not may_submit_again(decision, attempt, busy=busy, forgotten=forgotten_ids(connection)):
                return False
            self._settled(connection, now, attempt)
            connection.execute(update(request_rows).where(request_rows.c.key == attempt.key).values(submit_again=True))
            return True

    def mark_delivered(self, journal_ids: Iterable[str]) -> None:
        """Write ``delivered`` for those that are ``stored``, then let the store remove pictures above its size limit.

        A failure is logged and not raised.
        """
        chosen = list(journal_ids)
        if not chosen:
            return
        try:
            with self._transactions.writing() as (connection, now):
                change_state(connection, now, Event.DELIVER, attempts.c.id.in_(chosen))
            self.store.evict(self._may_go)
        except (JournalError, OSError) as problem:
            # The node has its pictures: a failure here must not keep it from returning them.
            pack_logger().warning("the delivery could not be written down: %s", problem)

    def _may_go(self, sha256: str) -> bool:
        """Whether every attempt with this picture is ``delivered``, so that the store may remove the file."""
        with self._transactions.reading() as (connection, _):
            states = connection.execute(
                select(attempts.c.state)
                .join(results, results.c.attempt == attempts.c.id)
                .where(results.c.sha256 == sha256)
            ).scalars()
            known = list(states)
        # A picture without a row may have been stored a moment ago: its row follows.
        return bool(known) and all(state is State.DELIVERED for state in known)

    def usual_seconds(self, endpoint: str, *, sandbox: bool) -> Usual | None:
        """The seconds that the last tasks of an endpoint took; ``None`` if there are none, or they cannot be read."""
        try:
            with self._transactions.reading() as (connection, _):
                seconds = read_durations(connection, endpoint, sandbox)
        except JournalError:
            return None
        return Usual(min(seconds), median(seconds)) if seconds else None

    def orphans(self, limit: int) -> list[Attempt]:
        """At most ``limit`` accepted attempts that no living owner has and whose next background poll is due.

        The one that has been due for longest is first. Sandbox tasks are left out.
        """
        with self._transactions.reading() as (connection, now):
            free = or_(attempts.c.owner.is_(None), attempts.c.owner.not_in(self._leases.living(connection, now)))
            is_accepted = attempts.c.state.in_(ACCEPTED)
            due = and_(is_accepted, attempts.c.next_poll_at <= now, request_rows.c.sandbox.is_(False))
            return read_attempts(connection, and_(free, due), order=attempts.c.next_poll_at, limit=limit)

    def age(self, attempt: Attempt) -> float:
        """Seconds since an attempt was submitted, by the database's clock; 0.0 if the database cannot be read."""
        with suppress(JournalError), self._transactions.reading() as (_, now):
            return max(0.0, now - attempt.tried_at)
        return 0.0

    def note_unknown(self, attempt: Attempt, kept_for: float) -> bool:
        """Count one answer that the service does not know this task; returns whether it has probably forgotten it.

        Args:
            kept_for: seconds for which the service keeps a task.

        ``False`` also if the answer could not be written.
        """
        with suppress(JournalError), self._transactions.writing() as (connection, now):
            return note_unknown(connection, now, attempt.journal_id, attempt.tried_at, kept_for).forgotten
        return False

    def poll_later(self, attempt: Attempt, seconds: float) -> None:
        """Count one look of the background poller at this attempt; the next one is due in ``seconds``."""
        with self._transactions.writing() as (connection, now):
            connection.execute(
                update(attempts)
                .where(attempts.c.id == attempt.journal_id)
                .values(polls=attempt.polls + 1, next_poll_at=now + seconds)
            )

    # ---- heartbeat

    def wait_for_change(self, seconds: float) -> None:
        """Wait until a claim of this process writes or ends, or the journal is closed; ``seconds`` at most."""
        with self._changed:
            self._changed.wait(seconds)

    def _register(self, connection: Connection, now: float) -> None:
        """Renew the lease of this process, and start the heartbeat with the first claim."""
        self._leases.renew(connection, now)
        with self._changed:
            if not self._beating and not self._closed:
                self._beating = True
                threading.Thread(target=self._beat, name=f"{THREAD_PREFIX}-heartbeat", daemon=True).start()

    def _beat(self) -> None:
        """The heartbeat's thread, until the journal is closed; it acts every ``HEARTBEAT`` seconds.

        It renews the lease while there are claims, tries again what could not be written, and writes the mark.
        """
        next_beat = time.monotonic() + HEARTBEAT
        while True:
            with self._changed:
                while not self._closed and (pause := next_beat - time.monotonic()) > 0:
                    self._changed.wait(pause)
                if self._closed:
                    return
            next_beat = time.monotonic() + HEARTBEAT
            try:
                if self._claims.ids():
                    self._beat_once()
                for claim in self._claims.unwritten():
                    claim.write_again()
                self._transactions.write_mark()
            except Exception as problem:  # if this thread ended, the lease would become void
                pack_logger().debug("heartbeat: %s", problem)

    def _beat_once(self) -> None:
        """Renew the lease, release attempts without a claim or a living owner, and count the living processes."""
        with self._transactions.writing() as (connection, now):
            self._leases.renew(connection, now)
            # Attempts that this process owns without a claim: the commit of the claim was not confirmed, or its end
            # could not be written.
            forgotten = and_(attempts.c.owner == self._leases.owner, attempts.c.id.not_in(self._claims.ids()))
            self._release(connection, now, forgotten)
            living = self._leases.living(connection, now)
            self._living_processes = max(1, len(living))
            self._release_unsent(connection, now, living)
            self._leases.forget_old(connection, now)

    def _release_unsent(self, connection: Connection, now: float, living: Sequence[str]) -> None:
        """Cancel the ``prepared`` attempts of dead processes: what they have reserved of the budget is free again."""
        unsent = and_(attempts.c.state == State.PREPARED, attempts.c.owner.not_in(living))
        self._release(connection, now, unsent)

    def _release(self, connection: Connection, now: float, which: Any) -> None:
        """Let the owner of the attempts ``which`` (an SQL condition) leave them, and raise their fence.

        One that is ``submitting`` keeps its state: its answer may still come.
        """
        # The fence first, so that a thread that still works on the attempt cannot write ``submitting`` and send it.
        connection.execute(update(attempts).where(which).values(fence=attempts.c.fence + 1))
        change_state(connection, now, Event.LEAVE, which)
        connection.execute(update(attempts).where(which).values(owner=None, holds_slot=False))
