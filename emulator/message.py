"""A request and an answer, free of aiohttp, so that the services are plain functions of one to the other."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .pace import Span


class RefusedError(Exception):
    """The request breaks a rule of the page. Each service puts the message into its own error shape."""


class ImageRefusedError(RefusedError):
    """The same, about an image."""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def single_query(self, allowed: frozenset[str]) -> dict[str, str]:
        names = [name for name, _ in self.query]
        for name in names:
            if name not in allowed:
                raise RefusedError(f"unknown query parameter {name!r}")
            if names.count(name) > 1:
                raise RefusedError(f"query parameter {name!r} is given twice")
        return dict(self.query)

    def json_body(self) -> Any:
        if self.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise RefusedError("Content-Type must be application/json")
        try:
            # Python's parser takes NaN and Infinity, which are not JSON.
            body = json.loads(self.body, parse_constant=_no_constant)
        except ValueError as error:
            raise RefusedError(f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise RefusedError("the body must be a JSON object")
        return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Answer":
        return cls(status, json.dumps(body, ensure_ascii=False).encode(), headers=headers or {})

    @classmethod
    def html(cls, status: int, headers: Mapping[str, str] | None = None) -> "Answer":
        page = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>\n"
        return cls(status, page.encode(), "text/html", headers or {})

    def in_other_words(self) -> "Answer":
        """As a gateway may tell it: wrapped once more, success by another name, another status of success."""
        told = json.loads(self.body)
        if self.status != 200 or told.get("code") not in (0, 10000):
            return self
        return Answer.json({"code": 200, "message": "ok", "data": {**told, "code": "success"}}, 201, self.headers)


Accept = Callable[[int, str, Span], None]
"""Called at the moment from which the request is to be paid, with the number of pictures, the task id, and when the
service works on it."""
