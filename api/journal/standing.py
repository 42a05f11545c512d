"""What queueing a request now would do, by its attempts: asked by the paid call and by the task list."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from .orders import ACCEPTED, EXPLAINED, FINISHED
from .states import State


class Standing(Enum):
    """What queueing a request now would do."""

    NEW = "submit"
    REUSE = "from the store"
    RESUME = "go on with what is under way"
    EXPLAIN = "say what became of it"


@dataclass(frozen=True)
class Found:
    """What queueing a request would do, the state of the attempt that it is about, and whether somebody works on it."""

    standing: Standing
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


def standing_of(
    known: Sequence[_Known],
    *,
    again: bool,
    is_free: Callable[[_Known], bool],
    has_pictures: Callable[[_Known], bool],
    forgotten: Set[str] = frozenset(),
) -> tuple[Standing, _Known | None, bool]:
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
        return Standing.NEW, None, False
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
            return Standing.REUSE, last, False
        busy = not is_free(last)
        if again and not busy and states is ACCEPTED and last.journal_id in forgotten:
            return Standing.NEW, last, False
        if busy or states is ACCEPTED:
            return Standing.RESUME, last, busy
        if last.state is State.SUBMITTING and has_pictures(last):
            # The answer was the picture, and the process ended before it said so.
            return Standing.REUSE, last, False
        explain = last.state is State.SUBMITTING and not again
        return (Standing.EXPLAIN if explain else Standing.NEW), last, False
    last = known[-1]
    return (Standing.EXPLAIN if last.state in EXPLAINED and not again else Standing.NEW), last, False


def may_submit_again(standing: Standing, about: Known, *, busy: bool, forgotten: Set[str]) -> bool:
    """Whether the user may ask for what an attempt was about to be submitted again."""
    return standing is Standing.EXPLAIN or (
        standing is Standing.RESUME and not busy and about.journal_id in forgotten and about.state in ACCEPTED
    )
