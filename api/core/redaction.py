"""Secrets that hide themselves, removal of known secrets from text and bytes, and the pack's logger."""

from __future__ import annotations

import base64
import html
import json
import logging
import os.path
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

LOGGER_NAME = "hidream_volcengine"
# How the names of the pack's threads begin.
THREAD_PREFIX = "hidream-volcengine"
MASK = "***"
# Characters of a key's beginning that are enough to be hidden without its rest: services cut what they repeat, and
# connections end in the middle of it.
_BEGINNING = 12

# From each spelling of a secret to the number of its first characters that are hidden without the rest.
_known: dict[str, int] = {}
_lock = threading.Lock()


class Secret:
    """A key or token. ``repr`` and ``str`` hide it; as soon as it is made, :func:`redact` hides it in any text, too."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        _hide(value, _BEGINNING)

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


# Characters that a part of a path or query has at least if it may be a secret: ordinary words are shorter.
_SECRET_WORD = 16


def hide_address(address: str) -> None:
    """Let :func:`redact` hide an address that has a path or query, and each long part of these also by itself."""
    parts = urlsplit(address)
    beyond_host = address[len(f"{parts.scheme}://{parts.netloc}") :]
    # Only as a whole: the beginning of an address is its host, which is no secret.
    if beyond_host not in ("", "/"):
        _hide(address, len(address))
    words = [beyond_host, *re.split("[/?&=]", beyond_host)]
    for word in (*words, *map(unquote, words)):
        if len(word) >= _SECRET_WORD:
            _hide(word, len(word))


def _hide(value: str, beginning: int) -> None:
    """Let :func:`redact` hide every spelling of ``value``, also if only ``beginning`` characters or more are there."""
    data = value.encode("utf-8")
    encoded = [base64.b64encode(data).decode("ascii"), base64.urlsafe_b64encode(data).decode("ascii")]
    unpadded = [form.rstrip("=") for form in (value, *encoded)]
    # redact() undoes escapes of printable ASCII in the text. A secret may itself contain some, so that it must be known
    # without them, too.
    forms = {*_layers(value), *encoded, *unpadded, quote(value, safe=""), json.dumps(value)[1:-1]}
    with _lock:
        for form in forms:
            # Shorter strings would mask ordinary words; no service issues keys that short.
            if len(form) >= 6:
                _known[form] = min(beginning, len(form), _known.get(form, len(form)))


# The escape of one printable ASCII character in URLs, HTML, JSON, JavaScript or Python.
_ESCAPE = re.compile(
    r"%(?P<percent>[2-7][0-9a-f])|\\+(?:u00|x)(?P<code>[2-7][0-9a-f])|(?P<backslashes>\\+)(?=[!-/:-@\[-`{-~])"
    r"|&(?:#[0-9]{2,7}|#x[0-9a-f]{2,7}|[a-z]{2,8});",
    re.IGNORECASE,
)
# Levels of escapes that are undone at most, as for JSON in HTML in JSON in a URL.
_MOST_LAYERS = 6


def _layers(text: str) -> list[str]:
    """``text``, then the same with one more level of its escapes undone each time, as long as there are any."""
    layers = [text]
    while len(layers) <= _MOST_LAYERS and (unescaped := _ESCAPE.sub(_unescaped, layers[-1])) != layers[-1]:
        layers.append(unescaped)
    return layers


def _unescaped(escape: re.Match[str]) -> str:
    """The character that an escape stands for."""
    if escape["backslashes"]:
        return ""
    code = escape["percent"] or escape["code"]
    unescaped = chr(int(code, 16)) if code else html.unescape(escape[0])
    # An escape of any other character stays as it is: a line break could forge a line of the log.
    return unescaped if len(unescaped) == 1 and "!" <= unescaped <= "~" else escape[0]


def redact(text: str) -> str:
    """``text`` with every known secret replaced by ``***``: also in base64, with escapes in it, or cut off.

    A text that has a secret with escapes is returned without its escapes. Halves of surrogate pairs become ``?``: a
    service may cut its message in the middle of an emoji, and ComfyUI cannot send such text to the browser.
    """
    known = _by_length()
    shown = _without(text.encode("utf-8", "replace").decode("utf-8"), known)
    for layer in reversed(_layers(shown)):
        masked = _without_beginnings(_without(layer, known), known)
        if masked != layer:
            return masked
    return shown


def _by_length() -> list[tuple[str, int]]:
    with _lock:
        # Longest first, because one secret may contain another.
        return sorted(_known.items(), key=lambda item: len(item[0]), reverse=True)


def _without(text: str, known: list[tuple[str, int]]) -> str:
    for secret, _ in known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def _without_beginnings(text: str, known: list[tuple[str, int]]) -> str:
    """``text`` with ``***`` for each secret that is cut off, if enough of its beginning is there."""
    if not known:
        return text
    beginnings = sorted({secret[:beginning] for secret, beginning in known}, key=len, reverse=True)
    any_beginning = re.compile("|".join(map(re.escape, beginnings)))
    shown: list[str] = []
    position = 0
    while (found := any_beginning.search(text, position)) is not None:
        start = found.start()
        # Tokens of one service begin alike: hide as many characters as agree with any of the known secrets.
        matches = [os.path.commonprefix((secret, text[start : start + len(secret)])) for secret, _ in known]  # noqa: RUF071
        shown += [text[position:start], MASK]
        position = start + max(map(len, matches))
    return "".join([*shown, text[position:]])


def redact_data(data: bytes) -> bytes:
    """``data`` with every known secret replaced by ``***``, as by :func:`redact`, except those written with escapes."""
    known = _by_length()
    return _without_beginnings(_without(data.decode("latin-1"), known), known).encode("latin-1", "replace")


def shortened(text: str, limit: int) -> str:
    """``text`` on one line, without secrets, and then cut to ``limit`` characters.

    Secrets go first: a cut could leave the beginning of a key that is too short to be recognised.
    """
    return _cut(redact(text), limit)


# A picture in base64, or other data of at least 100 characters; ids and hashes are shorter.
_DATA = re.compile(r"(?:data:[\w/+.-]+;base64,)?[A-Za-z0-9+/_\\-]{100,}={0,2}")


def words_of(text: str, limit: int) -> str:
    """A service's message on one line, without secrets and picture data, and then cut to ``limit`` characters."""
    # Secrets first: a long token looks like data, too, and must not be left in part.
    return _cut(_DATA.sub(lambda data: f"({len(data[0])} characters of data)", redact(text)), limit)


def _cut(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


class _RedactingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
        # Another copy of the pack may have formatted these already; it knows other secrets.
        record.exc_text = record.exc_text and redact(record.exc_text)
        record.stack_info = record.stack_info and redact(record.stack_info)
        return True


class _SilentLibrary(logging.Filter):
    """Drops what a library logs on a thread of the pack, where a handler that raises would end a paid call.

    urllib3 logs between a submit and its answer, and Pillow while it decodes; the pack's own lines say the same.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not threading.current_thread().name.startswith(THREAD_PREFIX)


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
    """A logger whose calls never raise: if a line cannot be written, the line is lost and not the paid picture.

    The standard library's loggers do raise: errors of filters and of replaced methods, and those of a handler whose
    report cannot be written to ``sys.stderr`` either, because that is closed or cannot encode a path.
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
