"""Reads the answer to a request: its bytes, decompressed and of limited size, and the types of its JSON fields."""

from __future__ import annotations

import io
import re
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Annotated

import requests
from pydantic import BaseModel, BeforeValidator, ConfigDict

from ..core import code_of
from .connection import BROKEN, blocks
from .time_limit import TimeLimit


class Received:
    """Collects the body of one answer, in memory and from some size on in a temporary file; a context manager.

    If the disk cannot be written, the rest stays in memory: nothing of a paid answer is lost.

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
        """All bytes that were written.

        Raises:
            OSError: the temporary file cannot be read any more.
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


# Bytes of any answer, also when it is decompressed.
_MOST_BYTES = 256 * 2**20
# Bytes of an answer to a free request, unless it brings a picture. Any answer is on disk beyond this size.
_MOST_WORDS = 4 * 2**20
# How many times its size an answer to a free request may have when it is decompressed. Base64 of a picture, which is
# compressed itself, shrinks by a quarter only: what shrinks more than this is a decompression bomb.
_MOST_PACKED = 50
# Base64, also with slashes escaped by JSON; a picture has at least so many characters of it.
_RUN = re.compile(rb"[\w+/=\\-]+")
_SHORTEST_PICTURE = 4096
# Compressed members, one behind the other in one answer.
_MOST_MEMBERS = 1000
# How gzip and zlib ("deflate") begin; JSON never does.
_COMPRESSED = (b"\x1f\x8b", b"\x78")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its body decompressed. ``broken``: why the transfer broke off; ``body`` is what came by then."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: Exception | None = None


def read_answer(response: requests.Response, limit: TimeLimit, *, is_paid: bool) -> Answer:
    """Read the answer, as far as it comes: the JSON object in it may be complete although the transfer was not.

    Args:
        limit: of the request; extended by the bytes that come.
        is_paid: anything up to 256 MiB is kept. Of other answers, those without a picture are given up after 4 MiB.

    Raises:
        OSError: what was written to disk cannot be read any more.
    """
    broken: Exception | None = None
    with response, Received(_MOST_WORDS) as received:
        try:
            for chunk in blocks(response, decode=False):
                is_first_beyond = received.size <= _MOST_WORDS < received.size + len(chunk)
                received.write(chunk)
                limit.came(len(chunk))
                if received.size > _MOST_BYTES:
                    raise ValueError(f"the answer is larger than {_MOST_BYTES} bytes")
                if is_first_beyond and not is_paid and not _may_bring_a_picture(received.read()):
                    raise _too_large_without_picture()
        except BROKEN as cause:
            broken = cause
        data = received.read()
    if limit.passed:
        broken = ValueError("the answer did not end in time")
    most = _MOST_BYTES if is_paid else min(_MOST_BYTES, max(_MOST_WORDS, _MOST_PACKED * len(data)))
    body = _unpacked(data, most)
    if not is_paid and len(body) > _MOST_WORDS and not _has_long_run(body):
        body, broken = b"", _too_large_without_picture()
    return Answer(response.status_code, response.headers, body, broken)


def _may_bring_a_picture(begin: bytes) -> bool:
    return begin.startswith(_COMPRESSED) or _has_long_run(begin)


def _has_long_run(body: bytes) -> bool:
    """Whether the first 4 MiB have a run of characters that may be a picture in base64."""
    return any(run.end() - run.start() >= _SHORTEST_PICTURE for run in _RUN.finditer(body, 0, _MOST_WORDS))


def _too_large_without_picture() -> ValueError:
    return ValueError(f"the answer is larger than {_MOST_WORDS} bytes and brings no picture")


def _unpacked(data: bytes, most: int) -> bytes:
    """``data`` decompressed, at most ``most`` bytes; an uncompressed part after compressed ones stays as it is.

    The first bytes of a part decide whether it is compressed, not a header: gateways label plain JSON as gzip, and
    gzip as plain JSON.
    """
    unpacked: list[bytes] = []
    for _ in range(_MOST_MEMBERS):
        if not data.startswith(_COMPRESSED) or most <= 0:
            break
        member = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as its header says
        try:
            unpacked.append(member.decompress(data, most))
        except zlib.error:
            break
        most -= len(unpacked[-1])
        data = member.unused_data
    return b"".join([*unpacked, data[:most]])


class WireAnswer(BaseModel):
    """Base of the models of answers and their parts: unknown fields are ignored, missing ones get their default."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _word(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _whole_number(value: object) -> int | None:
    code = code_of(value)
    return code if isinstance(code, int) else None


# Types of fields of answers: a value of another type than the service documents counts as missing, and the other fields
# are read all the same.
Word = Annotated[str, BeforeValidator(_word)]
WholeNumber = Annotated[int | None, BeforeValidator(_whole_number)]
