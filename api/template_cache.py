"""Lists and thumbnails of templates on disk: for tomorrow, and for when the service cannot be reached.

Nothing here is worth an error: what cannot be read is not there, and what cannot be written is fetched again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .choices import Gender
from .files import write_whole
from .redaction import pack_logger
from .templates import Template

_MOST_THUMBNAILS = 2000
_MOST_BYTES = 60 * 10**6
_MAX_LIST_BYTES = 16 * 2**20
_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


@dataclass(frozen=True)
class KeptList:
    """A list as it was at a time (seconds since the epoch)."""

    at: float
    templates: Sequence[Template]


class _StoredTemplate(BaseModel):
    model_config = ConfigDict(strict=True)

    id: int = Field(ge=1, lt=2**31)
    gender: Gender
    show_image: str


class _StoredList(BaseModel):
    model_config = ConfigDict(strict=True)

    at: float = Field(ge=0, lt=2**32, allow_inf_nan=False)
    templates: list[_StoredTemplate]


class TemplateCache:
    """A folder of its own, made when something is kept. Several threads and processes may share it."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._room: tuple[int, int] | None = None
        """Thumbnails and bytes that may still come before it is looked at what there is."""

    def read_list(self, identity: str, gender: Gender) -> KeptList | None:
        path = self._directory() / "lists" / f"{identity}-{gender}.json"
        try:
            if path.stat().st_size > _MAX_LIST_BYTES:
                return None
            stored = _StoredList.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as cause:
            pack_logger().warning("The kept list of templates %s is unreadable (%s).", path, type(cause).__name__)
            return None
        return KeptList(stored.at, [Template(**dict(template)) for template in stored.templates])

    def write_list(self, identity: str, gender: Gender, kept: KeptList) -> None:
        templates = [_StoredTemplate(**vars(template)) for template in kept.templates]
        content = _StoredList(at=kept.at, templates=templates).model_dump_json().encode("utf-8")
        self._write(self._directory() / "lists" / f"{identity}-{gender}.json", content)

    def read_thumbnail(self, template: Template) -> bytes | None:
        path = self._thumbnail(template)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if not (data.startswith(_JPEG_BEGIN) and data.endswith(_JPEG_END)):
            return None
        with suppress(OSError):
            os.utime(path)  # used: others go first
        return data

    def write_thumbnail(self, template: Template, jpeg: bytes) -> None:
        path = self._thumbnail(template)
        self._write(path, jpeg)
        with self._lock:
            count, size = self._room or (0, 0)
            count, size = count - 1, size - len(jpeg)
            if count < 0 or size < 0:
                count, size = _make_room(path.parent)
            self._room = count, size

    def _thumbnail(self, template: Template) -> Path:
        digest = hashlib.sha256(template.show_image.encode("utf-8", "replace")).hexdigest()
        return self._directory() / "pictures" / f"{digest}.jpg"

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as cause:
            pack_logger().warning("Templates are not kept in %s (%s).", path.parent, type(cause).__name__)


def _make_room(folder: Path) -> tuple[int, int]:
    """Remove what was used longest ago, beyond the limits; returns what may come, in number and bytes."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
    found.sort(key=lambda entry: entry[0], reverse=True)
    count = size = 0
    for _, length, path in found:
        # A tenth stays free: this is not done for each picture.
        if (count + 1) * 10 > _MOST_THUMBNAILS * 9 or (size + length) * 10 > _MOST_BYTES * 9:
            with suppress(OSError):
                path.unlink()
            continue
        count, size = count + 1, size + length
    return _MOST_THUMBNAILS - count, _MOST_BYTES - size
