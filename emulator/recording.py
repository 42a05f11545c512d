"""Records the requests that arrived, for tests to count. Keys and image data are never kept."""

import base64
import binascii
import hashlib
import io
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from .pace import Span

SECRET_HEADERS = frozenset({"authorization", "api-key", "refresh-token", "x-security-token", "cookie"})
# The sandbox in a ComfyUI process may run for weeks: beyond this number the oldest records are dropped.
KEPT_RECORDS = 10_000
# Characters of a string that is recorded as it is although it is no image. URLs and prompts are shorter, and the base64
# of a real picture is longer.
LONG_TEXT = 2_000


@dataclass(frozen=True)
class Recorded:
    """One request, and what became of it."""

    endpoint: str
    """The name of a HiDream endpoint (emulator/endpoints/), cvprocess, cvsync2async, templates, token; "unknown" for
    other paths."""
    phase: str
    """submit, result, image, list, token; "unknown" for any other path."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """As received; the values of keys are "***"."""
    body: Any
    """The parsed JSON with a description in the place of each image; None if there is no body, or none of JSON."""
    status: int | None
    """None until the status line is sent; it stays None if the connection broke before that."""
    started: float
    ended: float | None
    """None while the request is in flight. Both times are time.monotonic()."""
    task_id: str
    request_id: str
    accepted: bool
    """Whether it made a task or, without a task, a billed picture."""
    pictures: int
    """How many pictures it billed; 0 if it was not accepted."""
    span: Span | None
    """When the service works on it; None if it was not accepted."""
    sent: int
    """Bytes of the answer's body; 0 before an answer is sent, and when it drips."""


class Recording:
    """A thread-safe list of requests in order of arrival, and another of the accepted ones in order of acceptance."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[int, Recorded] = {}
        # A dict of its own, so that the polls of a long run do not push out the accepted submits.
        self._accepted: dict[int, Recorded] = {}
        self._next = 0
        self._billed = 0

    def open(self, endpoint: str, phase: str, method: str, path: str, query: Iterable[tuple[str, str]],
             headers: Mapping[str, str]) -> int:
        """Record a request whose headers have arrived; return its number for update and accept."""
        asked = dict(query)
        shown = {name: "***" if name.lower() in SECRET_HEADERS else value for name, value in headers.items()}
        record = Recorded(endpoint, phase, method, path, asked, shown, None, None, time.monotonic(), None,
                          asked.get("task_id", ""), asked.get("request_id", ""), accepted=False, pictures=0,
                          span=None, sent=0)
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._records[number] = record
            _drop_oldest(self._records)
        return number

    def update(self, number: int, **changes: Any) -> None:
        """Change fields of a record. It is ignored if clear() removed the record while the request was in flight."""
        with self._lock:
            for records in (self._records, self._accepted):
                if number in records:
                    records[number] = replace(records[number], **changes)

    def accept(self, number: int, pictures: int, task_id: str, span: Span) -> None:
        """Mark a request as accepted and bill its pictures; it is ignored after clear()."""
        with self._lock:
            if number in self._records:
                record = replace(self._records[number], accepted=True, task_id=task_id, pictures=pictures, span=span)
                self._records[number] = self._accepted[number] = record
                self._billed += pictures
                _drop_oldest(self._accepted)

    def is_accepted(self, number: int) -> bool:
        with self._lock:
            return number in self._accepted

    @property
    def billed(self) -> int:
        with self._lock:
            return self._billed

    def snapshot(self) -> list[Recorded]:
        with self._lock:
            return list(self._records.values())

    def accepted(self) -> list[Recorded]:
        with self._lock:
            return list(self._accepted.values())

    def clear(self) -> None:
        with self._lock:
            self._records.clear()
            self._accepted.clear()
            self._billed = 0


def _drop_oldest(records: dict[int, Recorded]) -> None:
    while len(records) > KEPT_RECORDS:
        del records[next(iter(records))]


def without_images(value: Any) -> Any:
    """Return the same JSON with a short description in the place of each base64 image and each long string."""
    if isinstance(value, dict):
        return {key: without_images(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_images(item) for item in value]
    if isinstance(value, str):
        return _describe(value)
    return value


def _describe(text: str) -> str:
    prefix, comma, rest = text.partition(",")
    encoded = rest if comma and prefix.startswith("data:") else text
    try:
        data = base64.b64decode(encoded, validate=True)
        # Image.open reads the header only; the service decodes the pixels.
        with Image.open(io.BytesIO(data)) as image:
            description = f"image {image.width}x{image.height} {image.mode}"
    except (ValueError, binascii.Error, OSError, Image.DecompressionBombError):
        if len(text) <= LONG_TEXT:
            return text
        data, description = text.encode(errors="replace"), f"text of {len(text)} characters"
    return f"<{'data: ' if encoded is not text else ''}{description} sha256:{hashlib.sha256(data).hexdigest()[:8]}>"
