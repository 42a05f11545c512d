"""The journal: the durable record of every paid request, with who works on it, its state, and its pictures.

Nothing is submitted before it is written and synced here, and nothing that was accepted is ever submitted again unless
the user asks for it. A *request* is one key; an *attempt* is one try to buy it (its id is the journal id); a *result*
is one picture of an attempt, or the reason why it is missing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from statistics import median
from typing import cast

from sqlalchemy import Connection, and_, select, update

from ..core import (
    AmbiguousSubmitError,
    CallCancelled,
    JournalSettings,
    Provider,
    TaskRef,
    Text,
    Usual,
    pack_logger,
)
from . import salvage
from .budget import Limiter
from .claim import Claim, Claims
from .lease import Heartbeat, Leases, release
from .model import (
    ACCEPTED,
    FINISHED,
    UNDER_WAY,
    Attempt,
    Busy,
    Decision,
    Event,
    Explained,
    Finished,
    Found,
    JournalError,
    Order,
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
    insert_results,
    json_of,
    note_unknown,
    put_attempt,
    put_request,
    read_attempts,
    read_durations,
    task_values,
)
from .runs.run_items import RunItems
from .store import Store
from .tables import attempts, request_rows, results
from .task_list import StopRegistry, TaskList

_Own = Callable[[Connection, float, Attempt], Claim]


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
        self._claims = Claims(lambda: self._transactions.writing(), self.store, lambda: self._transactions.mark)
        self._leases = Leases(self._claims.ids)
        self._heartbeat = Heartbeat(self._transactions, self._leases, self._claims)
        self.limiter = Limiter(self._transactions, self._leases, self._claims, self._heartbeat, self._check_usable)
        self.task_list = TaskList(self._transactions, self._leases, self.store, self.stop_registry, self._notices)
        self.run_items = RunItems(
            self._transactions, self._leases, lambda: self.store.evict(self._may_go), self._say_changed
        )

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
        self._claims.close()
        if self._transactions.is_open:
            with suppress(JournalError), self._transactions.writing() as (connection, now):
                release(connection, now, attempts.c.owner == self._leases.owner)
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
            is_free=self._leases.free_test(connection, now),
            has_pictures=self.store.has_any,
            forgotten=forgotten_ids(connection) if known else frozenset(),
        )

    def is_busy(self, journal_id: str) -> bool:
        """Whether a call of any process works on this attempt, or this process could not write its end yet."""
        if journal_id in self._claims.ids():
            return True
        with self._transactions.reading() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            return bool(found) and found[0].state in UNDER_WAY and not self._leases.free_test(connection, now)(found[0])

    def finished(self, key: str) -> Attempt | None:
        """The finished attempt whose pictures queueing this request would take from the store; ``None`` if it has none.

        Writes nothing.

        Raises:
            CallCancelled, JournalError: as :meth:`claim`.
        """
        self._check_usable()
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
        self._check_usable()
        sent = self._written_again(order.key)
        with self._owning() as own, self._transactions.writing() as (connection, now):
            decision, attempt, busy = self._decide(connection, now, order.key)
            if attempt is not None and attempt.journal_id == waited_for and attempt.state is State.REFUSED:
                return Explained(told_again(attempt))
            if decision is Decision.NEW and sent:
                return Busy(sent[0].journal_id)
            if attempt is None:
                return own(connection, now, self._new_attempt(connection, now, order))
            if busy:
                return Busy(attempt.journal_id)
            attempt = self._with_store(connection, now, attempt)
            if decision is Decision.NEW and attempt.state not in (State.PREPARED, *FINISHED):
                return own(connection, now, self._new_attempt(connection, now, order))
            # "Submit again" holds for one queueing, also if that finds a late answer and submits nothing.
            this = and_(request_rows.c.key == order.key, request_rows.c.submit_again.is_(True))
            connection.execute(update(request_rows).where(this).values(submit_again=False))
            return self._go_on(connection, now, own, attempt, {State.PREPARED, *ACCEPTED})

    def _written_again(self, key: str) -> list[Claim]:
        """The claims of this process on a request that may have been accepted, after their changes were written again.

        So the journal has their rows, even if it had lost them: without its row an attempt would be submitted again.
        """
        sent = [claim for claim in self._claims.of(key) if claim.was_sent]
        for claim in sent:
            claim.write_again()
        return sent

    def _go_on(
        self, connection: Connection, now: float, own: _Own, attempt: Attempt, may_own: Set[State]
    ) -> Claim | Finished | Explained:
        """The claim on a free, settled attempt if its state is in ``may_own``; else its pictures or its explanation."""
        if attempt.state in FINISHED:
            return Finished(attempt)
        if attempt.state in may_own:
            return own(connection, now, self._take_over(connection, now, attempt))
        return Explained(told_again(attempt))

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
        if self._claims.closed:
            raise CallCancelled
        with self._owning() as own, self._transactions.writing() as (connection, now):
            found = read_attempts(connection, attempts.c.id == journal_id)
            if not found:
                return None
            attempt = found[0]
            if attempt.state in UNDER_WAY and not self._leases.free_test(connection, now)(attempt):
                return Busy(attempt.journal_id)
            return self._go_on(connection, now, own, self._with_store(connection, now, attempt), set(ACCEPTED))

    def _check_usable(self) -> None:
        """Check that something paid may be begun.

        Raises:
            CallCancelled: the journal is closed: the process is about to end, before the call could finish.
            JournalError: as :meth:`open`.
        """
        if self._claims.closed:
            raise CallCancelled
        self.open()

    @contextmanager
    def _owning(self) -> Iterator[_Own]:
        """A function that makes the claim inside a transaction; the claim is withdrawn if the block raises.

        Without it the heartbeat could see the committed row before its claim exists, and release it.
        """
        made: list[Claim] = []

        def own(connection: Connection, now: float, attempt: Attempt) -> Claim:
            # Renew the lease last, so that a claim that only reads does not sync to disk.
            self._heartbeat.renew(connection, now)
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
            about = {"task_id": task.task_id, "request_id": "", "options": task.options}
            change_state(connection, now, Event.LATE_TASK, this, **about)
            return attempt.journal_id

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
        state = transition(attempt.state, Event.CLAIM).state
        claimed = replace(attempt, owner=self._leases.owner, fence=attempt.fence + 1, state=state)
        columns = {"owner": claimed.owner, "fence": claimed.fence, "holds_slot": state in ACCEPTED}
        change_state(connection, now, Event.CLAIM, attempts.c.id == attempt.journal_id, **columns)
        return claimed

    def _with_store(self, connection: Connection, now: float, attempt: Attempt) -> Attempt:
        """An attempt on which no call works, after what the store has of it is in the journal.

        One in ``submitting`` gets the state that follows from it. A finished one gets results that it lacks: earlier
        versions could drop one while another call of the same request wrote the claim.
        """
        if attempt.state is State.SUBMITTING:
            attempt = self._settle_orphan(connection, now, attempt)
        if attempt.state not in FINISHED or attempt.complete:
            return attempt
        insert_results(connection, self.store.side_cars_of(attempt.journal_id))
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
            self._with_store(connection, now, attempt)
            connection.execute(update(request_rows).where(request_rows.c.key == attempt.key).values(submit_again=True))
            return True

    def mark_delivered(self, journal_ids: Iterable[str]) -> None:
        """Write ``delivered`` for those that are ``stored``: see :meth:`RunItems.end`."""
        self.run_items.end((), tuple(journal_ids))

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

    def wait_for_change(self, seconds: float) -> None:
        """Wait until a claim of this process writes or ends, or the journal is closed; ``seconds`` at most."""
        self._claims.wait_for_change(seconds)
