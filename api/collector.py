"""Fetches accepted tasks that nobody waits for any more: their links live a day at best."""

from __future__ import annotations

import threading
from dataclasses import replace

from .attempts import Attempt
from .calls import check_account, resume
from .cancel import CancelToken
from .claims import Claim
from .credentials import Profiles
from .errors import ConfigurationError
from .hidream import ENDPOINTS, HiDreamService
from .journal import Journal
from .polling import Watch
from .redaction import pack_logger
from .submits import Service
from .text import Text
from .volcengine import VolcengineService

_EVERY = 15.0
_AT_ONCE = 20
_SLOWEST = 600.0
# Deadlines of one look: a single poll, but time for the second one that an unannounced set needs, and a download that
# is tried again only briefly.
_ONE_LOOK = 0.1
_ONE_RUN = 3.0
_ONE_DOWNLOAD = 60.0
# After a week a task is looked at once a day.
_DAY = 86400.0
_WEEK = 7 * _DAY


class Collector:
    """Polls ownerless tasks slowly, in one daemon thread, and stores what they brought."""

    def __init__(self, journal: Journal, profiles: Profiles) -> None:
        self._journal = journal
        self._profiles = profiles
        self._starting = threading.Lock()
        self._started = False
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin, unless it has begun already."""
        with self._starting:
            if not self._started:
                self._started = True
                threading.Thread(target=self._work, name="hidream-volcengine-collector", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self.collect_once()
            except Exception as problem:  # a thread that ends would let every later task rot
                pack_logger().warning("the collector will try again: %s", problem)

    def collect_once(self) -> int:
        """Look at every task whose turn it is, once; returns how many that were."""
        due = self._journal.orphans(_AT_ONCE)
        for attempt in due:
            self._look(attempt)
        return len(due)

    def _look(self, attempt: Attempt) -> None:
        # The next look is put off first: what goes wrong in this one must not make it come sooner.
        waits = min(_SLOWEST, _EVERY * 2.0 ** min(attempt.polls, 6))
        self._journal.poll_later(attempt, waits if self._journal.age(attempt) < _WEEK else _DAY)
        watch = Watch(CancelToken(), lambda progress: None)
        try:
            service = self._service(attempt)
            check_account(attempt, service)
            found = self._journal.claim_task(attempt.journal_id)
            if isinstance(found, Claim):
                with found as claim:
                    resume(claim, service, self._journal, watch)
        except Exception as problem:  # this one may be at fault, the others are not
            pack_logger().debug("collector: %s: %s", attempt.journal_id, problem)

    def _service(self, attempt: Attempt) -> Service:
        """The endpoint, with deadlines for one look.

        Raises:
            ConfigurationError: the profile or the endpoint is gone, or has no key any more.
        """
        if attempt.task.provider == "Volcengine":
            volcengine = self._profiles.volcengine(attempt.profile)
            deadlines = replace(volcengine.deadlines, queue=_ONE_LOOK, run=_ONE_RUN, download=_ONE_DOWNLOAD)
            return VolcengineService(replace(volcengine, deadlines=deadlines))
        hidream = self._profiles.hidream(attempt.profile)
        deadlines = replace(hidream.deadlines, queue=_ONE_LOOK, run=_ONE_RUN, download=_ONE_DOWNLOAD)
        endpoint = ENDPOINTS.get(attempt.task.endpoint)
        if endpoint is None:
            name = attempt.task.endpoint
            raise ConfigurationError(Text(f"This version knows no endpoint {name!r}.", f"此版本不支持端点 {name!r}。"))
        return HiDreamService(replace(hidream, deadlines=deadlines), endpoint)
