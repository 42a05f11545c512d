"""Everything that goes over the wire while a report is made. Only that process is listened to, and only then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from api import transport
from devtools.report_scrub import parsed_json

Kind = Literal["token", "submit", "poll", "picture"]


@dataclass
class Exchange:
    """One request, and what came of it: an answer, or ``trouble``."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    at: float
    """Seconds since the recording began."""
    seconds: float = 0.0
    status: int | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: bytes | None = None
    trouble: str = ""
    response: requests.Response | None = field(default=None, repr=False)

    @property
    def kind(self) -> Kind:
        path = urlsplit(self.url).path
        if path.endswith("/apikey2token"):
            return "token"
        if path.endswith("/results") or "Action=CVSync2AsyncGetResult" in self.url:
            return "poll"
        return "submit" if self.method == "POST" else "picture"


@contextmanager
def recording() -> Iterator[list[Exchange]]:
    """What requests sends in the block, in order, with the answers that the pack read."""
    exchanges: list[Exchange] = []
    began = time.monotonic()
    send, read = HTTPAdapter.send, transport._read

    def recorded_send(
        adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        exchange = Exchange(
            request.method or "", request.url or "", dict(request.headers), _body(request), time.monotonic() - began
        )
        exchanges.append(exchange)
        try:
            exchange.response = send(adapter, request, *args, **kwargs)
        except BaseException as problem:
            exchange.trouble = f"{type(problem).__name__}: {problem}"
            raise
        finally:
            exchange.seconds = time.monotonic() - began - exchange.at
        exchange.status = exchange.response.status_code
        exchange.answer_headers = dict(exchange.response.headers)
        return exchange.response

    def recorded_read(response: requests.Response, *args: Any, **kwargs: Any) -> transport.Answer:
        exchange = next(each for each in reversed(exchanges) if each.response is response)
        try:
            answer = read(response, *args, **kwargs)
        except BaseException as problem:
            exchange.trouble = f"its body: {type(problem).__name__}: {problem}"
            raise
        finally:
            exchange.seconds = time.monotonic() - began - exchange.at
        exchange.answer = answer.body
        return answer

    HTTPAdapter.send = recorded_send  # type: ignore[method-assign, assignment]
    transport._read = recorded_read
    try:
        yield exchanges
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
        transport._read = read


def _body(request: requests.PreparedRequest) -> bytes:
    body: Any = getattr(request.body, "data", request.body)  # a submit's body counts what is read of it
    return body if isinstance(body, bytes) else b""


def poll_states(poll: Exchange) -> tuple[list[Any], list[Any]]:
    """Of each sub task: its state, and how far it is in the service's own figures."""
    body = parsed_json(poll.answer or b"")
    result = (body.get("result") or body.get("data")) if isinstance(body, dict) else None
    if not isinstance(result, dict):
        return [], []
    tasks = result.get("sub_task_results")
    if not isinstance(tasks, list):
        return [result.get("status")], []
    known = [task for task in tasks if isinstance(task, dict)]
    return [task.get("task_status") for task in known], [task.get("task_completion") for task in known]
