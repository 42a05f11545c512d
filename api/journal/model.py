"""What the journal knows of purchases, as plain values: no database is needed for these."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar, cast

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


class State(Enum):
    """How far an attempt came."""

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


class JournalError(ConfigurationError):
    """The journal cannot be read or written. Raised before a submit, nothing was sent."""

    default_advice = Text(
        "Nothing is bought without the journal: free or repair its disk or database, then queue again.",
        "没有付费日志就不会产生任何购买：请先修复或释放其磁盘或数据库，然后重新运行。",
    )


class DamagedError(JournalError):
    """The journal's file is no sound database any more."""


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
        """The error again, its words preceded by ``before``."""
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


# What a task of another run was is not known any more: a quarter of the largest result, as four times this is taken.
ANY_PICTURE = 16384 * 16384 // 4
FINISHED = (State.STORED, State.DELIVERED)
ACCEPTED = (State.SUBMITTED, State.PARKED, State.DONE)
UNDER_WAY = (State.PREPARED, State.SUBMITTING, *ACCEPTED)
EXPLAINED = (State.AMBIGUOUS, State.FAILED)


@dataclass(frozen=True)
class Purchase:
    """What is to be admitted."""

    provider: str
    endpoint: str
    profile: str
    account: str
    prompt_id: str
    pictures: int
    budget: Budget
    ceiling: Ceiling


@dataclass(frozen=True)
class Order:
    """What a call wants to buy."""

    key: str
    purchase: Purchase
    sandbox: bool
    take: int
    expected_pixels: int
    summary: str


@dataclass(frozen=True)
class StoredResult:
    """One picture of an attempt (``sha256`` of its bytes in the store), or why it is missing for good."""

    position: int
    sub_task_id: str
    sha256: str
    error: ErrorRecord | None


@dataclass(frozen=True)
class Attempt:
    """One try to buy a request, as it stood when it was read."""

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
        return bool(self.task.task_id or self.result_url)

    @property
    def adopted(self) -> bool:
        """Whether it was submitted elsewhere: this journal knows no more than its task_id."""
        return not self.pictures

    @property
    def unconfirmed(self) -> bool:
        """Adopted, and the service has never said that it knows the task."""
        return self.adopted and self.submitted_at is None and not self.results

    @property
    def was_stored(self) -> bool:
        return any(result.sha256 for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether every result is known; its file may still be missing."""
        return self.total is not None and len(self.results) >= self.total


@dataclass(frozen=True)
class Busy:
    """Somebody works on this attempt."""

    journal_id: str


@dataclass(frozen=True)
class Finished:
    """Everything of this attempt is in the store."""

    attempt: Attempt


@dataclass(frozen=True)
class Explained:
    """Submitted before, and not to be submitted again by itself."""

    error: RemoteImageError


class ClaimLost(Exception):
    """Another process took this attempt over."""


def retold(record: ErrorRecord, tried_at: float) -> RemoteImageError:
    """An error of an earlier run, with its time."""
    moment = moment_of(tried_at)
    return record.error(
        Text(
            f"Nothing was sent now (0 calls): this same request was tried on {moment}.",
            f"本次未发送任何请求（0 次调用）：相同的请求已于 {moment} 提交过。",
        )
    )


def moment_of(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def told_again(attempt: Attempt) -> RemoteImageError:
    if attempt.error is None:
        return InvalidInputError(
            Text(f"The attempt {attempt.journal_id} was never sent.", f"{attempt.journal_id} 从未发送。")
        )
    error = retold(attempt.error, attempt.tried_at)
    if attempt.state in EXPLAINED and not attempt.adopted:
        error.journal_id = attempt.journal_id
    return error


class Decision(Enum):
    """What queueing a request now would do."""

    NEW = "submit"
    REUSE = "from the store"
    RESUME = "go on with what is under way"
    EXPLAIN = "say what became of it"


@dataclass(frozen=True)
class Found:
    """What queueing a request would do, the state of the attempt that it is about, and whether somebody works on it."""

    decision: Decision
    state: State | None
    busy: bool


class Known(Protocol):
    """One attempt of a request."""

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
    """
    Args:
        known: all attempts of one request, in their order.
        again: the user asked for it to be submitted again.
        is_free: nobody works on an attempt.
        has_pictures: the store has something of it, or of its task.
        forgotten: the ids of tasks that the service has probably forgotten.

    Returns:
        What to do, the attempt it is about, whether somebody works on it.
    """
    if not known:
        return Decision.NEW, None, False
    # What is bought already goes first, whichever attempt it belongs to: an answer may come very late.
    for states in (FINISHED, ACCEPTED, (State.PREPARED, State.SUBMITTING)):
        found = [attempt for attempt in known if attempt.state in states]
        if states is ACCEPTED:
            # A forgotten task does not decide if the request was submitted again later.
            found = [attempt for attempt in found if attempt is known[-1] or attempt.journal_id not in forgotten]
        if not found:
            continue
        last = found[-1]
        if states is FINISHED:
            return Decision.REUSE, last, False
        busy = not is_free(last)
        if again and not busy and states is ACCEPTED and last.journal_id in forgotten:
            return Decision.NEW, last, False
        if busy or states is ACCEPTED:
            return Decision.RESUME, last, busy
        if last.state is State.SUBMITTING and has_pictures(last):
            # The answer was the picture, and the process ended before it said so.
            return Decision.REUSE, last, False
        explain = last.state is State.SUBMITTING and not again
        return (Decision.EXPLAIN if explain else Decision.NEW), last, False
    last = known[-1]
    return (Decision.EXPLAIN if last.state in EXPLAINED and not again else Decision.NEW), last, False


def may_submit_again(decision: Decision, about: Known, *, busy: bool, forgotten: Set[str]) -> bool:
    """Whether the user may ask for what an attempt was about to be submitted again."""
    return decision is Decision.EXPLAIN or (
        decision is Decision.RESUME and not busy and about.journal_id in forgotten and about.state in ACCEPTED
    )
