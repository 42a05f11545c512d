"""A request (Call) and an answer (Answer) without aiohttp: the services turn one into the other."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .pace import Span


class RefusedError(Exception):
    """The request breaks a rule of the vendor's page. Each service puts the message into its own error shape."""


class ImageRefusedError(RefusedError):
    """An image breaks a rule of the vendor's page: HiDream has a code of its own for that."""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def single_query(self, allowed: frozenset[str]) -> dict[str, str]:
        """Return the query as a dict.

        Raises:
            RefusedError: a name is not in `allowed`, or comes twice.
        """
        names = [name for name, _ in self.query]
        for name in names:
            if name not in allowed:
                raise RefusedError(f"unknown query parameter {name!r}")
            if names.count(name) > 1:
                raise RefusedError(f"query parameter {name!r} is given twice")
        return dict(self.query)

    def json_body(self) -> Any:
        """Return the JSON object in the body.

        Raises:
            RefusedError: another Content-Type, no JSON, or no object.
        """
        if self.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise RefusedError("Content-Type must be application/json")
        try:
            # json.loads accepts NaN and Infinity, which are not JSON.
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
        """Return a success as a gateway may wrap it: within another object, `code` "success", HTTP 201.

        Any other answer is returned as it is.
        """
        body = json.loads(self.body)
        if self.status != 200 or body.get("code") not in (0, 10000):
            return self
        return Answer.json({"code": 200, "message": "ok", "data": {**body, "code": "success"}}, 201, self.headers)


Accept = Callable[[int, str, Span], None]
"""Called at the moment from which the request must be paid. Arguments: the number of pictures, the task id ("" without
a task), and the span in which the service works on it."""
