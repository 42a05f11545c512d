"""The journal's plain values (attempt, order, errors), the states, and the decision about a request; no database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pydantic import BaseModel

from ..core import (
    Billed,
    Budget,
    Ceiling,
    ConfigurationError,
    InvalidInputError,
    Provider,
    RemoteImageError,
    TaskRef,
    Text,
)

if TYPE_CHECKING:
    from .runs.items import RunItem


class State(Enum):
    """How far an attempt came.

    - ``PREPARED``: the row exists; nothing was sent, or the last try was certainly not accepted.
    - ``SUBMITTING``: written and synced before the first byte of the request; it may have been accepted since.
    - ``SUBMITTED``: accepted: the task id or the result's URL is known, and a call waits for the pictures.
    - ``PARKED``: accepted, and no call waits for it; a claim makes it ``SUBMITTED`` again.
    - ``DONE``: the service has finished the task; its pictures are being downloaded, and its place of the limiter is
      free.
    - ``STORED``: every picture that will come is in the store.
    - ``DELIVERED``: a node has handed the pictures on; the store's size limit may remove their files.
    - ``REFUSED``: certainly not accepted, for good; the next claim makes a new attempt.
    - ``AMBIGUOUS``: it may have been accepted; explained, never submitted again without "submit again".
    - ``FAILED``: accepted, and no picture will come; explained like ``AMBIGUOUS``.
    - ``CANCELLED``: given up before it was sent; the next claim makes a new attempt.
    """

    PREPARED = "prepared"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    PARKED = "parked"
    DONE = "done"
    STORED = "stored"
    DELIVERED = "delivered"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(Enum):
    """What happens to an attempt; :data:`TRANSITIONS` says in which states it may, and what state follows."""

    CLAIM = "a call begins to work on an attempt on which nobody works"
    SEND = "the first byte of the request is about to go out"
    RETRY = "the request was certainly not accepted; it may be sent again"
    REFUSE = "the request was certainly not accepted, for good; or the sandbox, started anew, does not know the task"
    UNCLEAR = "the request may have been accepted, and nothing says whether it was"
    ACCEPT = "a task id or a link to the result came"
    FINISH = "the service has finished the task"
    FAIL = "the request was accepted, and no picture will come"
    STORE = "every picture that will come is in the store"
    LEAVE = "the call ends early, ComfyUI closes, or the process that was to send the request is dead"
    LATE_TASK = "a late answer, a side-car in the store or the user gives the task id of an attempt without one"
    LATE_PICTURE = "a late answer or a side-car in the store has the picture of an attempt without a task"
    DELIVER = "a node has handed the pictures on"
    REOPEN = "pictures are missing in the store, and there is a task or a link to fetch them from"


# A state and an event without an entry: the event must not happen to an attempt in this state.
TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.PREPARED, Event.CLAIM): State.PREPARED,
    (State.SUBMITTED, Event.CLAIM): State.SUBMITTED,
    (State.PARKED, Event.CLAIM): State.SUBMITTED,
    (State.DONE, Event.CLAIM): State.DONE,
    (State.PREPARED, Event.SEND): State.SUBMITTING,
    (State.PREPARED, Event.RETRY): State.PREPARED,
    (State.SUBMITTING, Event.RETRY): State.PREPARED,
    (State.PREPARED, Event.REFUSE): State.REFUSED,
    (State.SUBMITTING, Event.REFUSE): State.REFUSED,
    (State.SUBMITTED, Event.REFUSE): State.REFUSED,
    (State.DONE, Event.REFUSE): State.REFUSED,
    (State.SUBMITTING, Event.UNCLEAR): State.AMBIGUOUS,
    (State.SUBMITTING, Event.ACCEPT): State.SUBMITTED,
    (State.SUBMITTED, Event.FINISH): State.DONE,
    (State.DONE, Event.FINISH): State.DONE,
    (State.SUBMITTING, Event.FAIL): State.FAILED,
    (State.DONE, Event.FAIL): State.FAILED,
    (State.SUBMITTING, Event.STORE): State.STORED,
    (State.SUBMITTED, Event.STORE): State.STORED,
    (State.DONE, Event.STORE): State.STORED,
    (State.PREPARED, Event.LEAVE): State.CANCELLED,
    (State.SUBMITTED, Event.LEAVE): State.PARKED,
    (State.PARKED, Event.LEAVE): State.PARKED,
    (State.DONE, Event.LEAVE): State.PARKED,
    (State.PREPARED, Event.LATE_TASK): State.PARKED,
    (State.SUBMITTING, Event.LATE_TASK): State.PARKED,
    (State.AMBIGUOUS, Event.LATE_TASK): State.PARKED,
    (State.CANCELLED, Event.LATE_TASK): State.PARKED,
    (State.PREPARED, Event.LATE_PICTURE): State.STORED,
    (State.SUBMITTING, Event.LATE_PICTURE): State.STORED,
    (State.AMBIGUOUS, Event.LATE_PICTURE): State.STORED,
    (State.CANCELLED, Event.LATE_PICTURE): State.STORED,
    (State.STORED, Event.DELIVER): State.DELIVERED,
    (State.STORED, Event.REOPEN): State.PARKED,
    (State.DELIVERED, Event.REOPEN): State.PARKED,
}

# In the columns of a transition: stands for the database's time.
NOW = object()
# States in which no call works on the attempt: it has no owner, and no place of the limiter.
ENDED = frozenset(State) - {State.PREPARED, State.SUBMITTING, State.SUBMITTED, State.DONE}
# States whose pictures do not count against the budget.
_UNCOUNTED = (State.REFUSED, State.CANCELLED)
_TIMES = {
    Event.SEND: "submitting_at",
    Event.ACCEPT: "submitted_at",
    Event.FINISH: "done_at",
    Event.FAIL: "done_at",
}


class IllegalTransitionError(Exception):
    """An event must not happen to an attempt in this state: a fault of this program."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.name} must not happen to an attempt that is {state.name}")


@dataclass(frozen=True)
class Transition:
    """The ``state`` after an event, and the ``columns`` of the table ``attempts`` that change, with their values."""

    state: State
    columns: Mapping[str, Any]


def transition(state: State, event: Event, /, **values: Any) -> Transition:
    """What an event changes in an attempt in ``state``; ``values`` are further columns, and give way to the event's.

    Raises:
        IllegalTransitionError: it must not happen in this state.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise IllegalTransitionError(state, event)
    columns = {**values, "state": after}
    if event in _TIMES:
        columns[_TIMES[event]] = NOW
    if after in ENDED:
        columns |= {"owner": None, "holds_slot": False}
    if after in _UNCOUNTED:
        columns["counted"] = 0
    return Transition(after, columns)


class JournalError(ConfigurationError):
    """The journal cannot be read or written. If it is raised before a submit, nothing was sent."""

    default_advice = Text(
        "Nothing is bought without the journal: free or repair its disk or database, then queue again.",
        "没有付费日志就不会产生任何购买：请先修复或释放其磁盘或数据库，然后重新运行。",
    )


class DamagedError(JournalError):
    """The journal's database is damaged, was replaced or deleted, or is an older copy of itself.

    The next transaction opens it again; ``salvage.py`` repairs or replaces it then.
    """


class ErrorRecord(BaseModel):
    """A :class:`RemoteImageError` as JSON; secrets were taken out of it when it was made."""

    kind: str
    what_en: str
    what_zh: str
    advice_en: str
    advice_zh: str
    provider: str | None = None
    code: int | str | None = None
    vendor_message: str = ""
    request_id: str = ""
    task_id: str = ""
    billed: str = "unknown"

    @classmethod
    def of(cls, error: RemoteImageError) -> ErrorRecord:
        return cls(
            kind=type(error).__name__,
            what_en=error.what.en,
            what_zh=error.what.zh,
            advice_en=error.advice.en,
            advice_zh=error.advice.zh,
            provider=error.provider,
            code=error.code,
            vendor_message=error.vendor_message,
            request_id=error.request_id,
            task_id=error.task_id,
            billed=error.billed,
        )

    def error(self, before: Text | None = None) -> RemoteImageError:
        """Make the error again, with ``before`` in front of ``what``; an unknown kind becomes RemoteImageError."""
        kind = _KINDS.get(self.kind, RemoteImageError)
        en, zh = (f"{before.en} ", before.zh) if before else ("", "")
        return kind(
            Text(en + self.what_en, zh + self.what_zh),
            advice=Text(self.advice_en, self.advice_zh),
            provider=cast("Provider | None", self.provider),
            code=self.code,
            vendor_message=self.vendor_message,
            request_id=self.request_id,
            task_id=self.task_id,
            billed=cast(Billed, self.billed),
        )


def _all_kinds(kind: type[RemoteImageError]) -> dict[str, type[RemoteImageError]]:
    kinds = {kind.__name__: kind}
    for sub in kind.__subclasses__():
        kinds.update(_all_kinds(sub))
    return kinds


_KINDS = _all_kinds(RemoteImageError)


# ``expected_pixels`` where the picture's size is not known, as for an adopted task. Results up to four times the
# expected pixels are taken, so this takes up to 16384 x 16384.
ANY_PICTURE = 16384 * 16384 // 4
FINISHED = (State.STORED, State.DELIVERED)
ACCEPTED = (State.SUBMITTED, State.PARKED, State.DONE)
UNDER_WAY = (State.PREPARED, State.SUBMITTING, *ACCEPTED)
EXPLAINED = (State.AMBIGUOUS, State.FAILED)


@dataclass(frozen=True)
class Purchase:
    """What budget and limiter need to know of a request.

    ``profile`` and ``account`` pay for ``pictures`` pictures in the run ``prompt_id`` (empty = no run). ``budget`` is
    the profile's, ``ceiling`` the limits of the account at this endpoint. ``item``: the item of the run that asks; its
    row is written at admission.
    """

    provider: str
    endpoint: str
    profile: str
    account: str
    prompt_id: str
    pictures: int
    budget: Budget
    ceiling: Ceiling
    item: RunItem | None = None


@dataclass(frozen=True)
class Order:
    """One request for the journal: its ``key``, its purchase, and what its row in the table ``requests`` keeps.

    ``expected_pixels``: of one picture. ``summary``: the start of the prompt, for the task list.
    """

    key: str
    purchase: Purchase
    sandbox: bool
    take: int
    expected_pixels: int
    summary: str


@dataclass(frozen=True)
class StoredResult:
    """One picture of an attempt, or why it is missing for good.

    ``position`` counts from 0 in the service's order. ``sha256`` is of the picture's bytes in the store; it is empty if
    ``error`` says why the picture never came.
    """

    position: int
    sub_task_id: str
    sha256: str
    error: ErrorRecord | None = None


@dataclass(frozen=True)
class Attempt:
    """One try to buy a request: a row of the table ``attempts`` as it was when it was read.

    ``request_id`` and ``task.request_id`` are equal in an attempt that was just read; later ``task`` carries the
    service's. ``tried_at``: when the row became ``submitting``, else when it was made. ``submitted_at``: when the
    acceptance was written, or when the service first confirmed an adopted task. ``total``: the number of results,
    ``None`` until the service has finished. ``polls``: looks of the background poller. Times are database times, epoch
    seconds.
    """

    journal_id: str
    key: str
    state: State
    fence: int
    owner: str | None
    request_id: str
    task: TaskRef
    result_url: str
    account: str
    profile: str
    sandbox: bool
    take: int
    pictures: int
    expected_pixels: int
    summary: str
    tried_at: float
    changed_at: float
    submitted_at: float | None = None
    total: int | None = None
    polls: int = 0
    error: ErrorRecord | None = None
    results: tuple[StoredResult, ...] = ()

    @property
    def resumable(self) -> bool:
        """Whether there is a task id or a result's URL by which the service can be asked again."""
        return bool(self.task.task_id or self.result_url)

    @property
    def adopted(self) -> bool:
        """Whether it was submitted elsewhere: this journal knows its task_id only, and counts no pictures for it."""
        return not self.pictures

    @property
    def unconfirmed(self) -> bool:
        """Adopted, and the service has never said that it knows the task."""
        return self.adopted and self.submitted_at is None and not self.results

    @property
    def was_stored(self) -> bool:
        """Whether at least one picture was stored; its file may be missing by now."""
        return any(result.sha256 for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether the journal has every result of the task; files of these pictures may be missing by now."""
        return self.total is not None and len(self.results) >= self.total


@dataclass(frozen=True)
class Busy:
    """Not claimed: another call, of this or another process, works on this attempt. Wait, then claim again."""

    journal_id: str


@dataclass(frozen=True)
class Finished:
    """Not claimed: the attempt is ``stored`` or ``delivered``. Take its pictures from the store."""

    attempt: Attempt


@dataclass(frozen=True)
class Explained:
    """Not claimed: nothing may be submitted or fetched. Raise ``error``, which says what became of the attempt."""

    error: RemoteImageError


class ClaimLost(Exception):
    """The claim may not write into its attempt any more: another claim took the attempt over, or it was released."""


def retold(record: ErrorRecord, tried_at: float) -> RemoteImageError:
    """The recorded error again, preceded by "nothing was sent now" and the time ``tried_at`` (epoch seconds)."""
    moment = moment_of(tried_at)
    return record.error(
        Text(
            f"Nothing was sent now (0 calls): this same request was tried on {moment}.",
            f"本次未发送任何请求（0 次调用）：相同的请求已于 {moment} 提交过。",
        )
    )


def moment_of(seconds: float) -> str:
    """Epoch seconds as date and time in the server's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def told_again(attempt: Attempt) -> RemoteImageError:
    """The error of an attempt that is not submitted again: what its row recorded, with the time of the try.

    ``error.journal_id`` is set where "submit again" is a way out: the attempt is ``ambiguous`` or ``failed``, and was
    submitted here.
    """
    if attempt.error is None:
        return InvalidInputError(
            Text(f"The attempt {attempt.journal_id} was never sent.", f"{attempt.journal_id} 从未发送。")
        )
    error = retold(attempt.error, attempt.tried_at)
    if attempt.state in EXPLAINED and not attempt.adopted:
        error.journal_id = attempt.journal_id
    return error


class Decision(Enum):
    """What queueing a request now would do; only ``NEW`` can lead to a submit.

    ``NEW``: submit, by a new attempt or one that is still ``prepared``. ``REUSE``: take the pictures from the store.
    ``RESUME``: wait for an attempt that another call works on, or ask for its accepted task. ``EXPLAIN``: raise the
    recorded error.
    """

    NEW = "submit"
    REUSE = "from the store"
    RESUME = "go on with what is under way"
    EXPLAIN = "say what became of it"


@dataclass(frozen=True)
class Found:
    """A decision, the state of the attempt that it is about (``None``: none yet), and whether a call works on that."""

    decision: Decision
    state: State | None
    busy: bool


class Known(Protocol):
    """The part of an attempt that :func:`decide` reads; ``owner`` is the id of a lease, ``None`` if nobody owns it."""

    @property
    def journal_id(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def owner(self) -> str | None: ...


_Known = TypeVar("_Known", bound=Known)


def decide(
    known: Sequence[_Known],
    *,
    again: bool,
    is_free: Callable[[_Known], bool],
    has_pictures: Callable[[_Known], bool],
    forgotten: Set[str] = frozenset(),
) -> tuple[Decision, _Known | None, bool]:
    """Decide what queueing a request does, from all of its attempts; writes nothing.

    The newest attempt of the first kind that exists decides: finished, accepted, prepared or submitting, any other.

    Args:
        known: all attempts of one request, oldest first.
        again: the user asked for "submit again", and no attempt was made since.
        is_free: whether no call of a living process works on an attempt.
        has_pictures: whether the store has a picture or the task of an attempt.
        forgotten: journal ids of the tasks that the service has probably forgotten.

    Returns:
        The decision, the attempt it is about (``None`` if there is none), and whether a call works on that attempt.
    """
    about = _deciding(known, forgotten)
    if about is None:
        return Decision.NEW, None, False
    state, busy = about.state, about.state in UNDER_WAY and not is_free(about)
    if state in FINISHED:
        decision = Decision.REUSE
    elif busy or (state in ACCEPTED and not (again and about.journal_id in forgotten)):
        decision = Decision.RESUME
    elif state is State.SUBMITTING and has_pictures(about):
        # A synchronous answer brought the picture, or the accepted task is in its side-car, and the process ended
        # before it wrote that into the journal. claim() settles the attempt from the store.
        decision = Decision.REUSE
    elif state in (State.SUBMITTING, *EXPLAINED) and not again:
        decision = Decision.EXPLAIN
    else:
        decision = Decision.NEW
    return decision, about, busy


def _deciding(known: Sequence[_Known], forgotten: Set[str]) -> _Known | None:
    """The attempt that decides about its request: a paid one goes before an unpaid one, even if it is older.

    (Its answer may have come after the user submitted again.)
    """
    for states in (FINISHED, ACCEPTED, (State.PREPARED, State.SUBMITTING)):
        for attempt in reversed(known):
            # Skip a forgotten task that is not the newest attempt: the request was submitted again since.
            is_skipped = states is ACCEPTED and attempt is not known[-1] and attempt.journal_id in forgotten
            if attempt.state in states and not is_skipped:
                return attempt
    return known[-1] if known else None


def may_submit_again(decision: Decision, about: Known, *, busy: bool, forgotten: Set[str]) -> bool:
    """Whether "submit again" is offered for the attempt ``about`` on which ``decision`` was made.

    Yes if the request is only explained, or if the service has probably forgotten its accepted task and no call works
    on it.
    """
    return decision is Decision.EXPLAIN or (
        decision is Decision.RESUME and not busy and about.journal_id in forgotten and about.state in ACCEPTED
    )


@dataclass(frozen=True)
class Mark:
    """How far a journal has come: its id (empty = not known), and how many transactions have changed it.

    Marks are kept beside the journal and in the store. A journal behind its mark is an older copy, or another journal.
    """

    journal: str = ""
    count: int = 0

    def is_behind(self, other: Mark) -> bool:
        """Whether a journal with this mark lacks what one with the mark ``other`` has: another id, or a lower count."""
        return bool(other.journal) and (self.journal != other.journal or self.count < other.count)

    def or_later(self, other: Mark) -> Mark:
        """The mark with the higher count; ``other`` if it is of another journal, which has replaced this one."""
        if not other.journal or (self.journal == other.journal and self.count > other.count):
            return self
        return other
