"""What `python dev.py bench` measures: one file per comparison, each with these two names.

    TITLE = "What is compared: ours / the other's"
    def cases() -> Iterator[Case]: ...

Both sides of a case are run by turns in one process, and only their ratio is worth quoting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    ours: Callable[[], Any]
    other: Callable[[], Any]
    same: Callable[[Any, Any], bool]
    """Whether what both gave is equal: a faster way to something else is no benchmark."""
