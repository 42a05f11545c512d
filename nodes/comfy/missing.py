"""What the last runs of the nodes have left without a picture, and whether queueing again would do something else."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from ... import api
from ...api import RemoteImageError

# Node id, and the names of its widgets with their values as Python writes them: a value may be anything.
_Place: TypeAlias = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class _Left:
    """What one run has left: its prompt id, the missing pictures, and the mark of the profiles at that time."""

    run: str
    profiles: Hashable
    missing: list[api.Missing]


class MissingPictures:
    """By node id and widgets, what is missing since their last run; thread-safe.

    Args:
        journal: returns the journal; may raise RemoteImageError.
        profiles_mark: a value that changes with the profiles.
    """

    def __init__(self, journal: Callable[[], api.Journal], profiles_mark: Callable[[], Hashable]) -> None:
        self._journal = journal
        self._profiles_mark = profiles_mark
        self._lock = threading.Lock()
        self._left: dict[_Place, _Left] = {}
        self._times: Counter[_Place] = Counter()

    def note(self, run: str, node_id: str, widgets: Mapping[str, object], missing: Sequence[api.Missing]) -> None:
        """Note how an item has ended; ``missing`` is empty if all of its pictures came.

        The items of a list with the same widgets add up; what an earlier run left is forgotten.
        """
        place = node_id, frozenset((name, repr(value)) for name, value in widgets.items())
        with self._lock:
            if place in self._left and self._left[place].run != run:
                del self._left[place]
            if missing:
                self._left.setdefault(place, _Left(run, self._profiles_mark(), [])).missing += missing

    def fingerprint(self, node_id: str, known: Mapping[str, object]) -> int:
        """How often queueing again would have done something else for a missing picture than the run before.

        ComfyUI runs a node, and everything behind it, again if its fingerprint has changed. So it changes only then.

        Args:
            known: the widgets' values; ``None`` for one that comes over a wire: ComfyUI does not know it yet, and it
                counts as equal to any value.
        """
        with self._lock:
            places = {*self._left, *self._times}
        values = {name: repr(value) for name, value in known.items() if value is not None}
        mine = [
            (id_, widgets)
            for id_, widgets in places
            if id_ == node_id and all(values.get(name, was) == was for name, was in widgets)
        ]
        for place in mine:
            left = self._left.get(place)
            if left is not None and self._would_change(left):
                with self._lock:
                    self._times[place] += 1
                    self._left.pop(place, None)
        return sum(self._times[place] for place in mine)

    def _would_change(self, left: _Left) -> bool:
        orders: defaultdict[api.Retry, list[api.Order | None]] = defaultdict(list)
        for one in left.missing:
            orders[one.retry].append(one.order)
        has_other_profiles = left.profiles != self._profiles_mark()
        return (
            bool(orders[api.Retry.NOW])
            or (has_other_profiles and bool(orders[api.Retry.WHEN_PROFILE_CHANGES]))
            or self._decides_otherwise([order for order in orders[api.Retry.WHEN_JOURNAL_DECIDES_OTHERWISE] if order])
            or self._has_budget([order for order in orders[api.Retry.WHEN_BUDGET_ALLOWS] if order])
        )

    def _decides_otherwise(self, explained: Sequence[api.Order]) -> bool:
        """Whether one of these requests is no longer only explained. A journal that cannot be read changes nothing."""
        if not explained:
            return False
        with suppress(RemoteImageError):
            found = self._journal().decisions([order.key for order in explained])
            return any(one.decision is not api.Decision.EXPLAIN for one in found)
        return False

    def _has_budget(self, unaffordable: Sequence[api.Order]) -> bool:
        """Whether the budget has room for at least one picture in another run, which has a budget of its own."""
        if not unaffordable:
            return False
        with suppress(RemoteImageError):
            purchase = replace(unaffordable[0].purchase, prompt_id="")
            return self._journal().limiter.budget_left(purchase) != 0
        return False
