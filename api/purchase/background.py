"""The background poller: collects accepted tasks that no call waits for, before their links end (within a day)."""

from __future__ import annotations

import threading
from dataclasses import replace

from ..catalog import endpoint_named
from ..core import THREAD_PREFIX, CallHandle, CancelToken, pack_logger
from ..journal import Attempt, Claim, Journal
from ..profiles import Profiles
from ..services import Service
from .fetch import check_account, resume

# Seconds between two rounds; tasks that one round takes at most.
_EVERY = 15.0
_AT_ONCE = 20
# Seconds between two looks at one task at most, in its first week.
_SLOWEST = 600.0
# Looks that may run at a time; seconds for which a round waits for the end of one, and for a free place.
_LOOKS_AT_ONCE = 4
_LONGEST_LOOK = 300.0
_LOOK_NAME = f"{THREAD_PREFIX}-look"
# Deadlines of one look in seconds: for one poll (_ONE_LOOK); for the second poll that a set of pictures needs whose
# number was not announced (_ONE_RUN); for a download with its tries.
_ONE_LOOK = 0.1
_ONE_RUN = 3.0
_ONE_DOWNLOAD = 60.0
# A task older than a week is looked at once a day.
_DAY = 86400.0
_WEEK = 7 * _DAY


class BackgroundPoller:
    """Looks at accepted tasks that no call waits for, slowly, and stores their pictures; sandbox tasks are left out.

    One daemon thread makes a round every 15 s; each look runs in a daemon thread of its own.
    """

    def __init__(self, journal: Journal, profiles: Profiles) -> None:
        self._journal = journal
        self._profiles = profiles
        self._starting = threading.Lock()
        self._started = False
        self._stop = threading.Event()
        self._places = threading.BoundedSemaphore(_LOOKS_AT_ONCE)
        self._places_of_ask_now = threading.BoundedSemaphore(_LOOKS_AT_ONCE)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        with self._starting:
            if not self._started:
                self._started = True
                threading.Thread(target=self._work, name=f"{THREAD_PREFIX}-collector", daemon=True).start()

    def stop(self) -> None:
        """Make no further round; a look under way goes on."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self.poll_once()
            except Exception as problem:  # if this thread ended, no later task would be collected
                pack_logger().warning("the collector will try again: %s", problem)

    def poll_once(self) -> int:
        """Look once at each task that is due, one after the other; returns how many were due.

        A look that has not ended after 300 s (a disk or a name server that does not answer) goes on beside the next
        ones. If four are under way and none ends for 300 s, the round ends. :meth:`ask_now` does not wait for these.
        """
        due = self._journal.task_list.orphans(_AT_ONCE)
        for attempt in due:
            if not self._places.acquire(timeout=_LONGEST_LOOK):
                pack_logger().warning("the collector waits: %d looks at tasks do not end", _LOOKS_AT_ONCE)
                break
            look = threading.Thread(target=self._look_and_release, args=(attempt,), name=_LOOK_NAME, daemon=True)
            try:
                look.start()
            except BaseException:
                self._places.release()
                raise
            look.join(_LONGEST_LOOK)
        return len(due)

    def _look_and_release(self, attempt: Attempt) -> None:
        try:
            self._look(attempt)
        finally:
            self._places.release()

    def _look(self, attempt: Attempt) -> None:
        """Write when the next look is due, then claim and collect the task; errors are logged."""
        # Before anything that may fail, so that a task that always fails is not looked at in each round.
        pause = min(_SLOWEST, _EVERY * 2.0 ** min(attempt.polls, 6))
        self._journal.task_list.poll_later(attempt, pause if self._journal.age(attempt) < _WEEK else _DAY)
        try:
            service = self._service_of(attempt)
            check_account(attempt, service)
            found = self._journal.claim_task(attempt.journal_id)
            if isinstance(found, Claim):
                self._resume(found, service)
        except Exception as problem:  # the other tasks must still be looked at
            pack_logger().debug("collector: %s: %s", attempt.journal_id, problem)

    def _resume(self, claim: Claim, service: Service) -> None:
        with claim:
            resume(claim, service, self._journal, CallHandle(CancelToken(), lambda progress: None))

    def ask_now(self, journal_id: str) -> bool:
        """Claim one task and collect it in a thread of its own; returns whether it was claimed.

        ``False``: it is not accepted, or another call works on it.

        Raises:
            ConfigurationError: its profile or endpoint is gone, or has no key any more.
            InvalidInputError: its profile now stands for another account or endpoint.
            JournalError: the journal cannot be used.
        """
        attempt = self._journal.task_list.collectable(journal_id)
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
            with self._places_of_ask_now:
                self._resume(claim, service)
        except Exception as problem:  # the task list shows the attempt's state
            pack_logger().info("%s was asked for: %s", claim.journal_id, problem)

    def _service_of(self, attempt: Attempt) -> Service:
        """The endpoint and account of an attempt, with the deadlines of one look.

        Raises:
            ConfigurationError: the profile or the endpoint is gone, or has no key any more.
        """
        profile = self._profiles.name_of(attempt.profile, attempt.account)
        service = self._profiles.service(profile, endpoint_named(attempt.task.endpoint))
        deadlines = service.account.deadlines
        return service.within(replace(deadlines, queue=_ONE_LOOK, run=_ONE_RUN, download=_ONE_DOWNLOAD))
