"""The bytes of an answer while they come: a few MiB in memory, the rest on disk unless that is full."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from typing import IO


class Received:
    """Collects the body of one answer; a context manager. A disk that cannot be written loses nothing of a paid answer.

    Args:
        in_memory: bytes that are kept in memory before the disk is used.
    """

    def __init__(self, in_memory: int) -> None:
        self._in_memory = in_memory
        self._file: IO[bytes] | None = None
        self._on_disk = 0
        self._memory = io.BytesIO()
        self._disk_is_full = False

    @property
    def size(self) -> int:
        return self._on_disk + self._memory.tell()

    def write(self, chunk: bytes) -> None:
        self._memory.write(chunk)
        if self._memory.tell() > self._in_memory and not self._disk_is_full:
            self._move_to_disk()

    def read(self) -> bytes:
        """All that came.

        Raises:
            OSError: the disk no longer gives what was written.
        """
        if self._file is None:
            return self._memory.getvalue()
        self._file.seek(0)
        return self._file.read(self._on_disk) + self._memory.getvalue()

    def __enter__(self) -> Received:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _move_to_disk(self) -> None:
        data = self._memory.getvalue()
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in __exit__
            self._file.write(data)
            self._file.flush()
        except OSError:
            self._disk_is_full = True
            return
        self._on_disk += len(data)
        self._memory = io.BytesIO()
