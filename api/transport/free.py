"""Requests that cost nothing, such as polls. They may be repeated at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from ..core import Deadlines, json_object
from . import received
from .connection import Hooks, LiveConnection, Session, is_loopback, log_exchange, new_session, trusted
from .received import Answer
from .time_limit import TimeLimit

# Of one thread, for its proxies; the oldest is closed.
_MOST_SESSIONS = 8

_thread = threading.local()


def _thread_session(url: str, proxy: str) -> tuple[Session, LiveConnection]:
    """This thread's session for ``proxy``, with its connection: neither is shared with other threads or proxies."""
    sessions: dict[tuple[bool, str], tuple[Session, LiveConnection]] = _thread.__dict__.setdefault("sessions", {})
    slot = (is_loopback(urlsplit(url).hostname or ""), proxy)
    if slot not in sessions:
        if len(sessions) >= _MOST_SESSIONS:
            sessions.pop(next(iter(sessions)))[0].close()
        sessions[slot] = _session_and_connection(url, proxy)
    return sessions[slot]


def _session_and_connection(url: str, proxy: str) -> tuple[Session, LiveConnection]:
    connection = LiveConnection()
    return new_session(url, proxy, Hooks(connected=lambda sock, direct: connection.connected(sock))), connection


def get(
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    auth: AuthBase,
    deadlines: Deadlines,
    proxy: str = "",
    afresh: bool = False,
) -> Answer:
    """Send one free GET and return its answer, of any status; no redirect is followed.

    Args:
        deadlines: ``connect`` and ``poll`` apply.
        proxy: as in :func:`new_session`.
        afresh: over a new connection, which shows that host, proxy and certificate work now.

    Raises:
        requests.RequestException: no answer, or one that broke off and has no whole JSON object.
    """
    return _exchange(
        "GET", url, params=params, headers=headers, auth=auth, deadlines=deadlines, proxy=proxy, afresh=afresh
    )


def ask(
    url: str,
    body: bytes,
    *,
    params: Mapping[str, str],
    auth: AuthBase,
    deadlines: Deadlines,
    proxy: str = "",
    afresh: bool = False,
) -> Answer:
    """One free POST of JSON, for services whose polls are POSTs; otherwise as :func:`get`."""
    return _exchange(
        "POST",
        url,
        params=params,
        headers={"Content-Type": "application/json"},
        auth=auth,
        deadlines=deadlines,
        proxy=proxy,
        afresh=afresh,
        data=body,
    )


def _exchange(
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
    auth: AuthBase,
    deadlines: Deadlines,
    proxy: str,
    afresh: bool,
    data: bytes | None = None,
) -> Answer:
    started = time.monotonic()
    session, connection = _session_and_connection(url, proxy) if afresh else _thread_session(url, proxy)
    try:
        with connection, TimeLimit(connection, deadlines.connect + 2 * deadlines.poll) as limit:
            response = session.request(
                method,
                url,
                params=params,
                data=data,
                headers=headers,
                auth=auth,
                timeout=(deadlines.connect, deadlines.poll),
                verify=trusted(),
            )
            answer = received.read_answer(response, limit, is_paid=False)
        if answer.broken is not None and json_object(answer.body) is None:
            raise answer.broken
    except (ValueError, OSError, urllib3.exceptions.HTTPError) as cause:
        log_exchange(method, url, f"failed ({type(cause).__name__})", started)
        if isinstance(cause, requests.RequestException):
            raise
        raise requests.RequestException(str(cause)) from cause
    finally:
        if afresh:
            session.close()
    log_exchange(method, url, answer.status, started, received=len(answer.body))
    return answer
