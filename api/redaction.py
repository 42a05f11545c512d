"""Secrets that never show, and text with known secrets taken out."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

LOGGER_NAME = "hidream_volcengine"
# How the names of the pack's threads begin.
THREADS = "hidream-volcengine"
MASK = "***"

_known: set[str] = set()
_lock = threading.Lock()


class Secret:
    """A key or token. ``repr`` and ``str`` hide it; making one teaches :func:`redact` to hide it everywhere else."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        with _lock:
            _known.update(_spellings(value))

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


# Ordinary words of a path are shorter.
_SECRET_WORD = 16


def hide_address(address: str) -> None:
    """Let :func:`redact` hide an address with its path and query, and each long word of these also without the rest."""
    parts = urlsplit(address)
    beyond_host = address[len(f"{parts.scheme}://{parts.netloc}") :]
    if beyond_host not in ("", "/"):
        Secret(address)
    words = [beyond_host, *re.split("[/?&=]", beyond_host)]
    for word in (*words, *map(unquote, words)):
        if len(word) >= _SECRET_WORD:
            Secret(word)


def _spellings(value: str) -> set[str]:
    data = value.encode("utf-8")
    encoded = [base64.b64encode(data).decode("ascii"), base64.urlsafe_b64encode(data).decode("ascii")]
    quoted = [quote(value, safe=""), quote_plus(value)]
    lower = [re.sub("%[0-9A-F]{2}", lambda found: found.group().lower(), form) for form in quoted]
    in_json = json.dumps(value)[1:-1]
    unpadded = [form.rstrip("=") for form in (value, *encoded)]
    forms = {value, *quoted, *lower, *encoded, *unpadded, in_json, in_json.replace("/", "\\/")}
    # Shorter strings would mask ordinary words; no service issues keys that short.
    return {form for form in forms if len(form) >= 6}


def redact(text: str) -> str:
    """``text`` with every known secret, also percent- or base64-encoded, replaced by ``***``.

    Halves of characters become ``?`` on the way: a service may cut its message in the middle of an emoji, and ComfyUI
    cannot send such text to the browser.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    with _lock:
        # The longest first: one secret may contain another.
        known = sorted(_known, key=len, reverse=True)
    for secret in known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def shortened(text: str, limit: int) -> str:
    """``text`` on one line and without secrets, cut to ``limit`` characters after that: half a key is a key, too."""
    line = " ".join(redact(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


# A picture in base64, or another long run of data; ids and hashes are shorter.
_DATA = re.compile(r"(?:data:[\w/+.-]+;base64,)?[A-Za-z0-9+/_\\-]{100,}={0,2}")


def words_of(text: str, limit: int) -> str:
    """The words of a service, on one line and cut to ``limit`` characters, without secrets and without picture data."""
    return shortened(_DATA.sub(lambda data: f"({len(data[0])} characters of data)", text), limit)


class _RedactingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
        # Also what the filter of another copy of the pack has formatted: it knows other secrets.
        record.exc_text = record.exc_text and redact(record.exc_text)
        record.stack_info = record.stack_info and redact(record.stack_info)
        return True


class _SilentLibrary(logging.Filter):
    """Drops what a library logs on a thread of the pack, where a handler that raises would end a paid call.

    urllib3 logs between a submit and its answer, and Pillow while it decodes; the pack's own lines say the same.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not threading.current_thread().name.startswith(THREADS)


for _library in ("urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.response",
                 "urllib3.util.retry", "PIL.Image", "PIL.ImageFile", "PIL.PngImagePlugin",
                 "PIL.TiffImagePlugin"):  # fmt: skip
    logging.getLogger(_library).addFilter(_SilentLibrary())


if TYPE_CHECKING:
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:
    # Python 3.10 has no type parameter there.
    _LoggerAdapter = logging.LoggerAdapter


class PackLogger(_LoggerAdapter):
    """A logger whose calls never raise: a line that cannot be written is lost, and not the picture it is about.

    logging itself lets much through: errors of filters and of replaced methods, and those of a handler whose report
    cannot be written to ``sys.stderr`` either, because that is closed or cannot encode a path.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 -- the name in logging
        with suppress(Exception):
            return super().isEnabledFor(level)
        return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        with suppress(Exception):
            super().log(level, msg, *args, stacklevel=2, **kwargs)


def pack_logger() -> PackLogger:
    """The pack's logger: one fixed name, whatever the folder is called, with redaction attached."""
    logger = logging.getLogger(LOGGER_NAME)
    if not any(isinstance(known, _RedactingFilter) for known in logger.filters):
        logger.addFilter(_RedactingFilter())
    return PackLogger(logger, None)
