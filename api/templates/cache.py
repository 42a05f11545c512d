"""Lists and thumbnails of templates on disk, for later and for when the service cannot be reached.

Errors of the disk are not raised: what cannot be read counts as missing, and what cannot be written is fetched again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core import Gender, pack_logger, write_whole
from ..services import Template

# Seconds that a picture is kept. Its file is named after its URL, and the service may change the URLs each day: without
# a limit the folder would grow for ever.
_PICTURES_LIVE = 30 * 24 * 3600.0
_MAX_LIST_BYTES = 16 * 2**20
_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


@dataclass(frozen=True)
class KeptList:
    """A list of templates, and when the service gave it (``at``, seconds since the epoch)."""

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
    """The folder that ``directory`` returns, made when something is kept. Several threads and processes may share it.

    ``identity`` names the account that a list belongs to; it becomes a part of a file name.
    """

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory

    def read_list(self, identity: str, gender: Gender) -> KeptList | None:
        """The list that was kept last, however old; ``None`` if there is none or it cannot be read."""
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
        """Keep a list, and remove the pictures that were written more than 30 days before it."""
        templates = [_StoredTemplate(**vars(template)) for template in kept.templates]
        content = _StoredList(at=kept.at, templates=templates).model_dump_json().encode("utf-8")
        self._write(self._directory() / "lists" / f"{identity}-{gender}.json", content)
        with suppress(OSError):
            for path in (self._directory() / "pictures").iterdir():
                with suppress(OSError):
                    if path.stat().st_mtime < kept.at - _PICTURES_LIVE:
                        path.unlink()

    def read_thumbnail(self, template: Template) -> bytes | None:
        """The kept JPEG of a template's picture; ``None`` if there is none or its file is not whole."""
        try:
            data = self._thumbnail(template).read_bytes()
        except OSError:
            return None
        return data if data.startswith(_JPEG_BEGIN) and data.endswith(_JPEG_END) else None

    def write_thumbnail(self, template: Template, jpeg: bytes) -> None:
        self._write(self._thumbnail(template), jpeg)

    def _thumbnail(self, template: Template) -> Path:
        digest = hashlib.sha256(template.show_image.encode("utf-8", "replace")).hexdigest()
        return self._directory() / "pictures" / f"{digest}.jpg"

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as cause:
            pack_logger().warning("Templates are not kept in %s (%s).", path.parent, type(cause).__name__)
