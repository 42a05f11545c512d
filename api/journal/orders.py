"""What is to be bought, and what the journal knows of it, as plain values: no database is needed for these."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..core.errors import InvalidInputError, RemoteImageError
from ..core.limits import Budget, Ceiling
from ..core.task import TaskRef
from ..core.text import Text
from .records import ErrorRecord
from .states import State

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


# ---- what stands in the way of a claim


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


# ---- errors of earlier runs


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
