"""Requests that cost nothing, such as polls. They may be repeated at any time."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

import requests

from ..core import json_object
from . import received
from .connection import BROKEN, Hooks, LiveConnection, Request, Session, is_loopback, log_exchange, new_session
from .received import Answer
from .time_limit import TimeLimit

# Of one thread, for its proxies; the oldest is closed.
_MOST_SESSIONS = 8

_thread = threading.local()


def _thread_session(request: Request) -> tuple[Session, LiveConnection]:
    """This thread's session for a proxy, with its connection: neither is shared with other threads or proxies."""
    sessions: dict[tuple[bool, str], tuple[Session, LiveConnection]] = _thread.__dict__.setdefault("sessions", {})
    slot = (is_loopback(urlsplit(request.url).hostname or ""), request.proxy)
    if slot not in sessions:
        if len(sessions) >= _MOST_SESSIONS:
            sessions.pop(next(iter(sessions)))[0].close()
        sessions[slot] = _session_and_connection(request)
    return sessions[slot]


def _session_and_connection(request: Request) -> tuple[Session, LiveConnection]:
    connection = LiveConnection()
    return new_session(request, Hooks(connected=lambda sock, direct: connection.connected(sock))), connection


def ask(request: Request, *, afresh: bool = False) -> Answer:
    """Send one free request and return its answer, of any status; no redirect is followed.

    Args:
        request: ``connect`` and ``poll`` of its deadlines apply.
        afresh: over a new connection, which shows that host, proxy and certificate work now.

    Raises:
        requests.RequestException: no answer, or one that broke off and has no whole JSON object.
    """
    started = time.monotonic()
    deadlines = request.deadlines
    session, connection = (_session_and_connection if afresh else _thread_session)(request)
    try:
        with connection, TimeLimit(connection, deadlines.connect + 2 * deadlines.poll) as limit:
            answer = received.read_answer(session.send(request, deadlines.poll), limit, is_paid=False)
        if answer.broken is not None and json_object(answer.body) is None:
            raise answer.broken
    except BROKEN as cause:
        log_exchange(request, f"failed ({type(cause).__name__})", started)
        if isinstance(cause, requests.RequestException):
            raise
        raise requests.RequestException(str(cause)) from cause
    finally:
        if afresh:
            session.close()
    log_exchange(request, answer.status, started, received=len(answer.body))
    return answer
