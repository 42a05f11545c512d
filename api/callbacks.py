"""Callbacks of a service: a hint to ask now, and the proof that it has a request whose answer was lost.

Nothing in a callback's body is fetched or believed. Its task id is a candidate: the service itself, asked with our own
key, decides. Polling goes on as if there were no callbacks.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .calls import check_account
from .cancel import CancelToken
from .collector import Collector
from .files import alone, write_whole
from .journal import Journal
from .orders import ACCEPTED, Attempt
from .polling import PollError
from .redaction import pack_logger
from .settings import CallbackSettings
from .states import State
from .text import Text
from .wire import json_object

if TYPE_CHECKING:
    from .callback_server import CallbackServer

KEY_FILE = "callback.key"
_KEY_BYTES = 32
_KNOWN_CALLS = 10_000
_MOST_WAITING = 256
_LONGEST_ANSWER = 900.0
_SOON = 0.5
_TRIES = 8

_SECRET_PATH = re.compile(r"/(rv-[0-9a-f]{16})/([0-9a-f]{64})")
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

# v2 and v3 of the pages; the v3 body is the answer to a result query.
_TASK_NAMES = ("main_task_id", "task_id")

_CALLED_BACK = Text("The service called back: it has accepted this request.", "服务端已发来回调，说明它已受理该请求。")


@dataclass(frozen=True)
class _Call:
    """A callback whose attempt is to be looked at; ``candidate`` is what its body calls the task."""

    journal_id: str
    candidate: str
    came_at: float
    due: float
    tries: int = 0

    def later(self) -> _Call | None:
        """The same with a longer pause than before; ``None`` if it was tried often enough."""
        if self.tries == _TRIES:
            return None
        return replace(self, due=time.monotonic() + 2.0**self.tries, tries=self.tries + 1)

    def soon(self) -> _Call | None:
        now = time.monotonic()
        return replace(self, due=now + _SOON) if now - self.came_at < _LONGEST_ANSWER else None


class Callbacks:
    """Listens for callbacks and does what they are good for, in a thread of its own.

    Args:
        directory: where this server's secret is kept; servers behind one address share a copy of it.
        collector: asks for the tasks that nobody waits for.
    """

    def __init__(self, settings: CallbackSettings, directory: Path, journal: Journal, collector: Collector) -> None:
        self._settings = settings
        self._key_file = directory / KEY_FILE
        self._journal = journal
        self._collector = collector
        self._prefix = urlsplit(settings.base_url).path
        self._key = b""
        self._server: CallbackServer | None = None
        self._changed = threading.Condition()
        self._waiting: list[_Call] = []
        self._taken: OrderedDict[str, None] = OrderedDict()
        self._stopped = False

    def start(self) -> None:
        """Listen. Where that cannot be, it is said once, and everything goes on by polling."""
        from .callback_server import CallbackServer  # brings aiohttp along, which only a server that listens needs

        settings = self._settings
        server = CallbackServer(settings.host, settings.port, self._whose, self._take)
        try:
            self._key = _secret_in(self._key_file)
            server.start()
        except (OSError, sqlite3.Error, ValueError) as problem:
            pack_logger().warning(
                "callbacks are not heard at %s:%d, polling goes on without them: %s",
                settings.host,
                settings.port,
                problem,
            )
            return
        self._server = server
        threading.Thread(target=self._work, name="hidream-volcengine-callbacks", daemon=True).start()
        self._journal.callback_url = self._url

    def stop(self) -> None:
        self._journal.callback_url = lambda journal_id: ""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.stop()

    # ---- the secret path

    def _url(self, journal_id: str) -> str:
        return f"{self._settings.base_url}/{journal_id}/{self._mac(journal_id)}"

    def _mac(self, journal_id: str) -> str:
        return hmac.new(self._key, f"callback {journal_id}".encode(), hashlib.sha256).hexdigest()

    def _whose(self, path: str) -> str | None:
        # A proxy in front may or may not take off the path under which it is reached.
        found = _SECRET_PATH.fullmatch(path.removeprefix(self._prefix)) or _SECRET_PATH.fullmatch(path)
        if found is None or not hmac.compare_digest(found[2], self._mac(found[1])):
            return None
        return found[1]

    # ---- taking a callback; nothing here blocks

    def _take(self, journal_id: str, body: bytes) -> int:
        now = time.monotonic()
        with self._changed:
            if journal_id in self._taken:
                return 410
            if len(self._waiting) >= _MOST_WAITING:
                return 503
            self._taken[journal_id] = None
            if len(self._taken) > _KNOWN_CALLS:
                self._taken.popitem(last=False)
            self._waiting.append(_Call(journal_id, candidate_in(body), now, now))
            self._changed.notify_all()
        self._journal.ring(journal_id)
        return 200

    # ---- what comes of it

    def _work(self) -> None:
        while (call := self._next()) is not None:
            try:
                again = self._look(call)
            except Exception as problem:  # a thread that ends would leave every later callback unheard
                pack_logger().debug("callback: %s: %s", call.journal_id, problem)
                again = call.later()
            with self._changed:
                self._waiting.remove(call)
                if again is not None:
                    self._waiting.append(again)

    def _next(self) -> _Call | None:
        """The call that is due next, when it is; ``None`` at the end."""
        with self._changed:
            while not self._stopped:
                first = min(self._waiting, key=lambda call: call.due, default=None)
                if first is not None and first.due <= time.monotonic():
                    return first
                self._changed.wait(first.due - time.monotonic() if first is not None else None)
            return None

    def _look(self, call: _Call) -> _Call | None:
        """Do what a call is good for; what is returned is to be looked at again."""
        found = self._journal.called_back(call.journal_id)
        if found is None:
            return None
        attempt, busy = found
        if busy:
            # Whoever works on it was woken. Only an answer that is still under way may turn out to be lost.
            return call.soon() if attempt.state is State.SUBMITTING else None
        if attempt.state in ACCEPTED:
            self._collector.look_at(attempt)
        elif attempt.state is State.AMBIGUOUS and attempt.task.provider == "HiDream":
            return self._settle(attempt, call)
        elif attempt.state in (State.PREPARED, State.REFUSED, State.CANCELLED):
            pack_logger().warning(
                "the service called back about %s, which counts as %s: look at the account's bill",
                attempt.journal_id,
                attempt.state.value,
            )
        return None

    def _settle(self, attempt: Attempt, call: _Call) -> _Call | None:
        self._journal.say_beside(attempt.journal_id, _CALLED_BACK)
        task = replace(attempt.task, task_id=call.candidate)
        if not call.candidate or self._journal.is_known(task):
            return None
        service = self._collector.service_of(attempt)
        check_account(attempt, service)
        account = service.account
        self._journal.poll_turn(account.account_id, account.limits.polls_per_second, CancelToken())
        try:
            states = service.query(task)
        except PollError as problem:
            pack_logger().debug("callback: %s: no state of its task: %s", attempt.journal_id, problem)
            return call.later()
        if not any(state.started for state in states):
            return call.later()
        if self._journal.settle(attempt.journal_id, task):
            pack_logger().info("%s is settled by a callback: task_id=%s", attempt.journal_id, task.task_id)
            return call.soon()
        return None


def candidate_in(body: bytes) -> str:
    """What a callback's body calls its task, if that could be a task id; empty if it does not say, or says two."""
    told = json_object(body) or {}
    result = told.get("result")
    places = [told, result] if isinstance(result, dict) else [told]
    values = [place.get(name) for place in places for name in _TASK_NAMES]
    named = {str(value) for value in values if isinstance(value, (str, int)) and not isinstance(value, bool)}
    [candidate] = named if len(named) == 1 else [""]
    return candidate if _TASK_ID.fullmatch(candidate) else ""


def _secret_in(path: Path) -> bytes:
    """This server's secret, made if there is none yet.

    Raises:
        OSError, sqlite3.Error, ValueError: it cannot be read or made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(path.with_suffix(".lock")):
        if not path.exists():
            write_whole(path, secrets.token_bytes(_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{path} is damaged: delete it, and a new one is made")
    return key
