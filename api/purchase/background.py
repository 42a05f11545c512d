"""Fetches accepted tasks that nobody waits for any more: their links live a day at best."""

from __future__ import annotations

import threading
from dataclasses import replace

from ..core import CallHandle, CancelToken, pack_logger
from ..journal import Attempt, Claim, Journal
from ..profiles import Profiles
from ..services import HiDreamService, VolcengineService, endpoint_named
from .fetch import check_account, resume
from .submit import Service

_EVERY = 15.0
_AT_ONCE = 20
_SLOWEST = 600.0
_LOOKS_AT_ONCE = 4
_LONGEST_LOOK = 300.0
_LOOK_NAME = "hidream-volcengine-look"
# Deadlines of one look: a single poll, but time for the second one that an unannounced set needs, and a download that
# is tried again only briefly.
_ONE_LOOK = 0.1
_ONE_RUN = 3.0
_ONE_DOWNLOAD = 60.0
# After a week a task is looked at once a day.
_DAY = 86400.0
_WEEK = 7 * _DAY


class BackgroundPoller:
    """Polls ownerless tasks slowly, in one daemon thread, and stores what they brought."""

    def __init__(self, journal: Journal, profiles: Profiles) -> None:
        self._journal = journal
        self._profiles = profiles
        self._starting = threading.Lock()
        self._started = False
        self._stop = threading.Event()
        self._few = threading.BoundedSemaphore(_LOOKS_AT_ONCE)
        self._few_asked_for = threading.BoundedSemaphore(_LOOKS_AT_ONCE)

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
                self.poll_once()
            except Exception as problem:  # a thread that ends would let every later task rot
                pack_logger().warning("the collector will try again: %s", problem)

    def poll_once(self) -> int:
        """Look at every task whose turn it is, once; returns how many that were.

        A look that hangs (a disk or a name server that does not answer) goes on beside the next ones. Four of them stop
        the collector until one ends; what users ask for goes on.
        """
        due = self._journal.orphans(_AT_ONCE)
        for attempt in due:
            if not self._few.acquire(timeout=_LONGEST_LOOK):
                pack_logger().warning("the collector waits: %d looks at tasks do not end", _LOOKS_AT_ONCE)
                break
            look = threading.Thread(target=self._look_and_release, args=(attempt,), name=_LOOK_NAME, daemon=True)
            try:
                look.start()
            except BaseException:
                self._few.release()
                raise
            look.join(_LONGEST_LOOK)
        return len(due)

    def _look_and_release(self, attempt: Attempt) -> None:
        try:
            self._look(attempt)
        finally:
            self._few.release()

    def _look(self, attempt: Attempt) -> None:
        # The next look is put off first: what goes wrong in this one must not make it come sooner.
        waits = min(_SLOWEST, _EVERY * 2.0 ** min(attempt.polls, 6))
        self._journal.poll_later(attempt, waits if self._journal.age(attempt) < _WEEK else _DAY)
        try:
            service = self._service_of(attempt)
            check_account(attempt, service)
            found = self._journal.claim_task(attempt.journal_id)
            if isinstance(found, Claim):
                self._resume(found, service)
        except Exception as problem:  # this one may be at fault, the others are not
            pack_logger().debug("collector: %s: %s", attempt.journal_id, problem)

    def _resume(self, claim: Claim, service: Service) -> None:
        with claim:
            resume(claim, service, self._journal, CallHandle(CancelToken(), lambda progress: None))

    def ask_now(self, journal_id: str) -> bool:
        """Ask for one task at once, in a thread of its own; ``False`` if it is not accepted, or somebody works on it.

        Raises:
            ConfigurationError, InvalidInputError: nobody is left to ask for it, and why.
        """
        attempt = self._journal.collectable(journal_id)
        if attempt is None:
            return False
        service = self._service_of(attempt)
        check_account(attempt, service)
        found = self._journal.claim_task(journal_id)
        if not isinstance(found, Claim):
            return False
        look = threading.Thread(target=self._look_now, args=(found, service), name=_LOOK_NAME, daemon=True)
        try:
            look.start()
        except BaseException:
            with found:
                raise
        return True

    def _look_now(self, claim: Claim, service: Service) -> None:
        try:
            with self._few_asked_for:
                self._resume(claim, service)
        except Exception as problem:  # the task list shows where it stands
            pack_logger().info("%s was asked for: %s", claim.journal_id, problem)

    def _service_of(self, attempt: Attempt) -> Service:
        """The endpoint, with deadlines for one look.

        Raises:
            ConfigurationError: the profile or the endpoint is gone, or has no key any more.
        """
        profile = self._profiles.name_of(attempt.profile, attempt.account)
        if attempt.task.provider == "Volcengine":
            volcengine = self._profiles.volcengine(profile)
            deadlines = replace(volcengine.deadlines, queue=_ONE_LOOK, run=_ONE_RUN, download=_ONE_DOWNLOAD)
            return VolcengineService(replace(volcengine, deadlines=deadlines))
        hidream = self._profiles.hidream(profile)
        deadlines = replace(hidream.deadlines, queue=_ONE_LOOK, run=_ONE_RUN, download=_ONE_DOWNLOAD)
        return HiDreamService(replace(hidream, deadlines=deadlines), endpoint_named(attempt.task.endpoint))
