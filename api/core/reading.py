"""Tolerant readers of what services answer: JSON as gateways send it, base64, and the fields of objects."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .redaction import words_of

# Bytes of an answer that an excerpt is made from.
_EXCERPT_OF = 16 * 1024
_DECODER = json.JSONDecoder(strict=False)
# JSON values in one answer. Each takes some hundred bytes of memory, however few it has on the wire.
_MOST_VALUES = 1_000_000


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that ``body`` begins with; ``None`` if there is none, or more than a million values.

    Read as gateways send it: with a byte order mark, with raw control characters in its texts, with something behind
    it, in GBK, or in UTF-8 with characters that were cut in two.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        return None
    for text in _readings(body):
        parsed = json_value(text)
        if parsed is not None:
            return parsed if isinstance(parsed, dict) else None
    return None


def decoded(body: bytes) -> str:
    """``body`` as text, in the encoding that it most likely has."""
    return next(_readings(body))


def json_value(text: str) -> Any:
    """The JSON value that ``text`` begins with; ``None`` if it begins with none."""
    try:
        return _DECODER.raw_decode(text.lstrip("\ufeff\0 \t\r\n"))[0]
    except (ValueError, RecursionError):
        return None


def _readings(body: bytes) -> Iterator[str]:
    """The texts that the bytes may stand for, the most likely first; at least one."""
    try:
        yield body.decode(json.detect_encoding(body))
        return
    except UnicodeDecodeError:
        mended = body.decode("utf-8", "replace")
    # One bad character: UTF-8 that was cut in the middle of it. More than one: another encoding.
    if mended.count("\ufffd") <= 1:
        yield mended
    with suppress(UnicodeDecodeError):
        yield body.decode("gb18030")
    yield mended


def base64_bytes(text: str) -> bytes:
    """The bytes of a base64 text: also with a ``data:`` prefix, blanks, the URL's alphabet, or without its padding.

    Raises:
        ValueError: it is no base64.
    """
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    if "-" in text or "_" in text:
        text = text.translate(_URL_ALPHABET)
    missing = -len(text.strip()) % 4
    if missing or any(blank in text for blank in " \t\r\n"):
        text = "".join(text.split()).rstrip("=")
        text += "=" * (-len(text) % 4)
    return binascii.a2b_base64(text)


_URL_ALPHABET = str.maketrans("-_", "+/")


def as_object(value: object) -> dict[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def code_of(value: object) -> int | str | None:
    """A vendor code: an int, also for a string of digits, or the stripped string; ``None`` for other types."""
    if isinstance(value, str):
        stripped = value.strip()
        return int(stripped) if re.fullmatch(r"-?[0-9]{1,18}", stripped) else stripped
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def excerpt(body: bytes, limit: int = 300) -> str:
    """The beginning of an answer, for messages: on one line of ``limit`` characters, as :func:`words_of` makes it."""
    return words_of(body[:_EXCERPT_OF].decode("utf-8", "replace"), limit)
