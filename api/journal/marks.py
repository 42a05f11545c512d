"""`journal.made`: how far a journal has come, in a file beside it, so that an older copy of it is noticed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.disk import write_whole


@dataclass(frozen=True)
class Mark:
    """Which journal it is (empty: not known), and how many of its transactions have changed it."""

    journal: str = ""
    count: int = 0

    def is_behind(self, other: Mark) -> bool:
        """Whether a journal that stands here is not the one that has come to ``other``."""
        return bool(other.journal) and (self.journal != other.journal or self.count < other.count)

    def or_later(self, other: Mark) -> Mark:
        """The later one of two; of two journals ``other``, for that has replaced this one."""
        if not other.journal or (self.journal == other.journal and self.count > other.count):
            return self
        return other


def read_mark(path: Path) -> Mark:
    """The mark in a file; an empty one if there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        told = json.loads(path.read_text(encoding="utf-8"))
        return Mark(str(told["journal"]), int(told["count"]))
    return Mark()


def write_mark(path: Path, mark: Mark) -> None:
    """
    Raises:
        OSError: it could not be written.
    """
    write_whole(path, json.dumps({"journal": mark.journal, "count": mark.count}).encode("ascii"))
