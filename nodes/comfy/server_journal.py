"""This server's journal and background poller: opened when they are first needed, closed when the process exits."""

from __future__ import annotations

import atexit
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from functools import partial
from pathlib import Path

from ... import api
from ...api import RemoteImageError, choices, made_once
from .change_notifier import ChangeNotifier

# Seconds that submits which are under way may take to end when ComfyUI closes.
_GRACE_AT_EXIT = 5.0


@dataclass(frozen=True)
class BudgetLine:
    """A profile's budget for the task list: pictures bought today, and its limits.

    ``None`` means no limit, or that the profile cannot be resolved (it has no key, or is gone).
    """

    profile: str
    pictures_today: int
    per_day: int | None
    per_run: int | None


class ServerJournal:
    """The journal, its background poller, and the actions of the task list's routes.

    Every method blocks. Every method raises what :meth:`open` raises, and JournalError if the journal cannot be used.

    Args:
        directory: returns the folder of the journal, unless the server's owner chose another place.
        profiles: returns the profiles that pay for the tasks of the journal.
        tell: called when the task list has changed, at most once a second, in a thread of its own.
        collects: whether this copy of the pack runs the background poller.
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
        self._change_notifier = ChangeNotifier(tell)
        self._thumbnails = made_once(lambda: api.Thumbnails())

    def open(self) -> api.Journal:
        """The journal; the first call opens it and starts the background poller, which collects parked tasks.

        Raises:
            ConfigurationError: a setting of the server is not valid.
        """
        with self._lock:
            if self._journal is None:
                directory, profiles = self._directory(), self._profiles()
                journal = api.Journal(profiles.journal_settings(directory), on_change=self._change_notifier.announce)
                # At exit Python kills daemon threads, even during a submit: _leave() waits for submits first.
                atexit.register(_leave, journal, os.getpid())
                self._collector = api.BackgroundPoller(journal, profiles)
                if self._collects():
                    self._collector.start()
                self._journal = journal
            return self._journal

    def overview(self, limit: int) -> tuple[api.Overview, list[BudgetLine], Sequence[api.Spent]]:
        """The newest ``limit`` tasks, a line for each profile that bought today or has a limit, and what was spent."""
        journal = self.open()
        overview = journal.task_list.overview(limit)
        return overview, self._budgets(overview.today), journal.run_items.spent()

    def _budgets(self, bought: dict[tuple[str, str], int]) -> list[BudgetLine]:
        """``bought``: pictures of today by (name of the profile when it bought, account id)."""
        today: Counter[str] = Counter()
        profiles = self._profiles()
        buyers = {profiles.name_of(*buyer) for buyer in bought}
        for (profile, account), pictures in bought.items():
            # As the budget counts them: under the former name of a renamed profile, too.
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

    def runs(self, limit: int) -> Sequence[api.RunSummary]:
        """The newest ``limit`` runs of the last 90 days, newest first."""
        return self.open().run_items.runs(limit)

    def rows_of_run(self, run: str) -> Sequence[api.ItemRow]:
        """The items of a run, so far as they are known; none if it has bought nothing, or was forgotten."""
        return self.open().run_items.rows(run)

    def rows_of_day(self, day: date) -> Sequence[api.ItemRow]:
        """The items that were begun on a day in the server's time zone."""
        return self.open().run_items.rows_between(_midnight(day), _midnight(day + timedelta(days=1)))

    def forget_run(self, run: str) -> int:
        """Delete the items of a run, with their labels; pictures and purchases stay. Returns how many there were."""
        return self.open().run_items.forget(run)

    def task(self, journal_id: str) -> api.Task | None:
        """A task of the list; ``None`` if the journal does not have it."""
        return self.open().task_list.task(journal_id)

    def submit_again(self, journal_id: str) -> bool:
        """Let the next equal request be bought anew; ``False`` if the attempt's state does not allow it."""
        return self.open().submit_again(journal_id)

    def collect(self, journal_id: str) -> bool:
        """Poll and collect a task now, in another thread.

        Returns:
            ``False`` if the task is not accepted, or another call works on it.
        """
        self.open()
        return self._collector is not None and self._collector.ask_now(journal_id)

    def stop_waiting(self, journal_id: str) -> bool:
        """End the calls of this process that wait for a task; ``False`` if there is none."""
        return self.open().stop_registry.stop(journal_id)

    def acknowledge(self) -> None:
        """Note that the user knows of a damaged journal that was replaced; paid nodes work again."""
        self.open().acknowledge()

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        """The bytes of a stored picture and its media type; ``None`` if they are missing or damaged."""
        return self.open().task_list.picture(journal_id, position)

    def thumbnail(self, journal_id: str, position: int) -> bytes | None:
        """A small JPEG of a stored picture; ``None`` if the store does not have it."""
        journal = self.open()
        sha256 = journal.task_list.hash_of(journal_id, position)
        return self._thumbnails().of(sha256, partial(journal.task_list.stored, sha256)) if sha256 else None


def _midnight(day: date) -> float:
    """The beginning of a day in the server's time zone, epoch seconds."""
    return datetime.combine(day, time_of_day()).timestamp()


def _leave(journal: api.Journal, pid: int) -> None:
    """Close the journal at the exit of the process ``pid``, after the submits that are under way."""
    if os.getpid() != pid:
        return  # in a forked child: its parent closes the journal
    api.wait_for_submits(_GRACE_AT_EXIT)
    journal.close()


def _budget(profiles: api.Profiles, profile: str) -> api.Budget:
    """The budget of a profile, which is the same for both services; no limits if the profile cannot be resolved."""
    for account in (profiles.hidream, profiles.volcengine):
        try:
            return account(profile).budget
        except RemoteImageError:
            continue  # it has no key for this service, or is gone
    return api.Budget(None, None)
