"""This server's journal: made when the first paid call or look at the task list needs it, closed with the process."""

from __future__ import annotations

import atexit
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ... import api
from ...api import RemoteImageError, choices, made_once
from .change_notifier import ChangeNotifier

_GRACE_AT_EXIT = 5.0


@dataclass(frozen=True)
class BudgetLine:
    """How many pictures a profile bought today, and how many it may; ``None`` = no limit, or nobody can say."""

    profile: str
    pictures_today: int
    per_day: int | None
    per_run: int | None


class ServerJournal:
    """The journal, its collector, and what the task list's routes ask of them.

    Args:
        directory: where the journal is kept, unless the server's owner chose another place.
        profiles: who pays for what the journal has.
        tell: called when the task list has changed, at most once a second, in a thread of its own.
        collects: whether tasks that nobody waits for are fetched here.
    """

    def __init__(
        self,
        directory: Callable[[], Path],
        profiles: Callable[[], api.Profiles],
        tell: Callable[[], None] = lambda: None,
        collects: Callable[[], bool] = lambda: True,
    ) -> None:
        self._collects = collects
        self._directory = directory
        self._profiles = profiles
        self._lock = threading.Lock()
        self._journal: api.Journal | None = None
        self._collector: api.BackgroundPoller | None = None
        self._announcer = ChangeNotifier(tell)
        self._thumbnails = made_once(lambda: api.Thumbnails())

    def open(self) -> api.Journal:
        """The journal; from now on no paid task rots.

        Raises:
            ConfigurationError: a setting of the server is wrong.
        """
        with self._lock:
            if self._journal is None:
                directory, profiles = self._directory(), self._profiles()
                journal = api.Journal(profiles.journal_settings(directory), on_change=self._announcer.announce)
                # Daemon threads would die in the middle of a submit.
                atexit.register(_leave, journal, os.getpid())
                self._collector = api.BackgroundPoller(journal, profiles)
                if self._collects():
                    self._collector.start()
                self._journal = journal
            return self._journal

    def overview(self, limit: int) -> tuple[api.Overview, list[BudgetLine]]:
        overview = self.open().overview(limit)
        return overview, self._budgets(overview.today)

    def _budgets(self, bought: dict[tuple[str, str], int]) -> list[BudgetLine]:
        today: Counter[str] = Counter()
        profiles = self._profiles()
        buyers = {profiles.name_of(*buyer) for buyer in bought}
        for (profile, account), pictures in bought.items():
            # As the budget counts them: under the name of that time, too.
            for name in {profile, profiles.name_of(profile, account)}:
                today[name] += pictures
        names = dict.fromkeys([*profiles.names(), *sorted(buyers)])
        names.pop(choices.SANDBOX_PROFILE, None)
        lines = []
        for name in names:
            budget = _budget(profiles, name)
            if name in today or budget.per_day or budget.per_run:
                lines.append(BudgetLine(name, today.get(name, 0), budget.per_day, budget.per_run))
        return lines

    def task(self, journal_id: str) -> api.Task | None:
        return self.open().task(journal_id)

    def submit_again(self, journal_id: str) -> bool:
        return self.open().submit_again(journal_id)

    def collect(self, journal_id: str) -> bool:
        """Ask for a task now, in the background; ``False`` if there is nothing to ask for."""
        self.open()
        return self._collector is not None and self._collector.ask_now(journal_id)

    def stop_waiting(self, journal_id: str) -> bool:
        """End the calls of this server that wait for a task; ``False`` if there is none."""
        return self.open().waits.stop(journal_id)

    def acknowledge(self) -> None:
        self.open().acknowledge()

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        return self.open().picture(journal_id, position)

    def thumbnail(self, journal_id: str, position: int) -> bytes | None:
        journal = self.open()
        sha256 = journal.hash_of(journal_id, position)
        return self._thumbnails().of(sha256, partial(journal.stored, sha256)) if sha256 else None


def _leave(journal: api.Journal, pid: int) -> None:
    if os.getpid() != pid:
        return  # this is a forked child: its parent closes the journal
    api.wait_for_submits(_GRACE_AT_EXIT)
    journal.close()


def _budget(profiles: api.Profiles, profile: str) -> api.Budget:
    for account in (profiles.hidream, profiles.volcengine):
        try:
            return account(profile).budget
        except RemoteImageError:
            continue  # it has no key for this service, or is gone
    return api.Budget(None, None)
