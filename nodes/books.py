"""This server's journal: made when the first paid call or look at the task list needs it, closed with the process."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from pathlib import Path

from ..api import Collector, Journal, Task, wait_for_submits
from .widgets import PROFILES

_GRACE_AT_EXIT = 5.0


class Books:
    """The journal, its collector, and what the task list's routes ask of them.

    Args:
        directory: where the journal is kept, unless the server's owner chose another place.
    """

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._journal: Journal | None = None

    def open(self) -> Journal:
        """The journal; from now on no paid task rots.

        Raises:
            ConfigurationError: a setting of the server is wrong.
        """
        with self._lock:
            if self._journal is None:
                journal = Journal(PROFILES.journal_settings(self._directory()))
                # Daemon threads would die in the middle of a submit.
                atexit.register(_leave, journal)
                Collector(journal, PROFILES).start()
                self._journal = journal
            return self._journal

    def tasks(self, limit: int) -> list[Task]:
        return self.open().tasks(limit)

    def task(self, journal_id: str) -> Task | None:
        return self.open().task(journal_id)

    def submit_again(self, journal_id: str) -> bool:
        return self.open().submit_again(journal_id)

    def acknowledge(self) -> None:
        self.open().acknowledge()

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        return self.open().picture(journal_id, position)


def _leave(journal: Journal) -> None:
    wait_for_submits(_GRACE_AT_EXIT)
    journal.close()
