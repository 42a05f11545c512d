"""Reading an answer: its task id, picture, codes and message, whatever a service or a gateway has put around them.

A gateway may wrap an answer once more, call success by another word, or put the JSON of its upstream (the service that
it calls) into a text, as public clients of gateways in front of Volcengine show. So a task id or a picture decides
whether a submit was accepted, and never a code beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import requests

from ..catalog import WireRequest
from ..core import (
    Accepted,
    PollError,
    Provider,
    RemoteImageError,
    SubTask,
    TaskRef,
    Text,
    as_object,
    base64_bytes,
    code_of,
    decoded,
    excerpt,
    json_object,
    json_value,
    shortened,
    words_of,
)
from ..transport import Answer, NoAnswerError, obstacle_of
from .outcome import Meaning, Outcome, Sign, is_success, is_success_word, is_undecided, known_code, meaning_of

# Fields whose value may be a result.
_RESULTS = ("data", "result", "Result")
# Fields that may hold an error, or the whole answer of an upstream. Codes in other fields say nothing of success.
_WRAPPERS = frozenset({"error", "errors", "responsemetadata", "message", "messasge", "msg", "detail", "response"})
# Field names and words that speak of an upstream. `upsream_message` is spelt so in real answers.
_UPSTREAM = re.compile(r"upst?ream(?!_?(?:request_?id|id\b|time|latency|duration))", re.IGNORECASE)
# Codes with which gateways like new-api and one-api say that their call of the upstream failed.
_CALL_FAILED = re.compile("^(?:do_request_failed|bad_response\\w*|read_response_body_failed)$", re.IGNORECASE)
# Fields in which a gateway says so.
_OF_A_GATEWAY = ("code", "type", "error", "error_code", "status", "message", "msg")
_PICTURES = ("binary_data_base64", "image_urls", "image", "url")
_CODES = ("code", "Code", "error_code", "errcode")
_MESSAGES = ("message", "Message", "messasge", "msg", "error_msg", "error")
_REQUEST_IDS = ("request_id", "RequestId", "requestId")
# The code of success that each service documents.
_DOCUMENTED: dict[Provider, int] = {"HiDream": 0, "Volcengine": 10000}
# Nesting of objects that is read, their number, and how many "{" in a text are tried as the beginning of JSON.
_DEEPEST = 8
_MOST_PARTS = 200
_MOST_OPENINGS = 5
# Bytes that are read of an answer that is no JSON object: words around one, or JSON in a text.
_LARGEST_TEXT = 2**20
# Characters. A longer text is no id: a request could not carry it.
_LONGEST_ID = 512
_NOT_OK = re.compile(r"^\s*not ok match:?\s*", re.IGNORECASE)
_OUT_OF_BALANCE = re.compile(
    r"insufficient[\s_]+(?:\w+[\s_]+)?(?:balance|quota|funds|credits?)|余额不足|额度不足|欠费", re.IGNORECASE
)
# Texts that stand for "no id".
_NO_ID = re.compile(r"(?:0+|-\d*|null|none|nil|undefined|false|n/?a)", re.IGNORECASE)
# Of the kinds of pictures that are recognized in base64.
_FIRST_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")


class NotAccepted(Exception):
    """The service answered a submit with neither a task id nor a result.

    Attributes:
        meaning: row of the submit table, and the words for the user.
        status: HTTP status.
        code: the code that decides; without one, "HTTP" and the status.
        vendor_message: the service's own words.
        request_id: the service's, else ours.
        retry_after: the header ``Retry-After``, "" without one.
        picture: a picture in the answer that is no result: because of its HTTP status, or because only its address
            stands beside a code of the service's table.
        is_known: whether there is a code of the service's table.
        body: the answer's bytes.
    """

    def __init__(self, reply: Reply, request_id: str = "") -> None:
        super().__init__(reply.meaning.what.en)
        self.meaning: Meaning = reply.meaning
        self.status = reply.status
        self.code: int | str = reply.code if reply.code is not None else f"HTTP {reply.status}"
        self.vendor_message = reply.message
        self.request_id = reply.request_id or request_id
        self.retry_after: str = reply.answer.headers.get("Retry-After", "")
        self.picture = reply.picture
        self.is_known = reply.has_known_code
        self.body = reply.answer.body

    @property
    def outcome(self) -> Outcome:
        return self.meaning.outcome


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Part:
    """One JSON object of an answer."""

    fields: dict[str, Any]
    depth: int
    is_result: bool
    """Whether it is the value of a result field, one of ``_RESULTS``."""
    is_envelope: bool
    """Whether it is the answer itself, or what a service or a gateway has wrapped into it."""

    def values(self, names: Iterable[str], read: Callable[[Any], _Value | None]) -> Iterator[_Value]:
        """What ``read`` finds in the fields ``names``.

        A field that is missing or empty, or of another type than ``read`` takes, hides none of those behind it:
        pydantic's ``AliasChoices`` would stop at the first one that is present.
        """
        for name in names:
            value = read(self.fields.get(name))
            if value is not None and value not in ("", ()):
                yield value

    @property
    def codes(self) -> list[int | str]:
        """Its codes, by any of the field names of ``_CODES``."""
        return list(self.values(_CODES, code_of))

    @property
    def code(self) -> int | str | None:
        return next(iter(self.codes), None)

    def known_code(self, provider: Provider) -> int | str | None:
        """The first of its codes, or its ``status``, that is in the service's table; ``None`` if none is."""
        codes: Iterator[int | str] = self.values((*_CODES, "status"), code_of)
        return next((code for code in codes if known_code(provider, code) is not None), None)

    @property
    def words(self) -> str:
        """Its message, "" without one. A gateway's words about its upstream come before its own."""
        upstream = filter(_UPSTREAM.search, self.fields)
        return next(self.values((*upstream, *_MESSAGES), _words), "")

    @property
    def is_of_a_gateway(self) -> bool:
        """Whether it speaks of an upstream: then a gateway says that its call of the service failed."""
        said = [value for name in _OF_A_GATEWAY if isinstance(value := self.fields.get(name), str)]
        return any(map(_UPSTREAM.search, [*self.fields, *said])) or any(map(_CALL_FAILED.match, said))


@dataclass(frozen=True)
class Reply:
    """What an HTTP answer of one of the services says.

    Args:
        sent: the texts that were sent, images too: an answer may repeat them, and they are no result.
    """

    provider: Provider
    answer: Answer
    sent: Sequence[str] = ()

    @property
    def status(self) -> int:
        return self.answer.status

    @cached_property
    def parts(self) -> list[Part]:
        """The JSON objects of the answer, each before those inside it; at most ``_MOST_PARTS``."""
        found: list[Part] = []
        body = self.answer.body
        for part in _parts(json_object(body) or decoded(body[:_LARGEST_TEXT])):
            found.append(part)
            if len(found) == _MOST_PARTS:
                break
        return found

    @property
    def body(self) -> dict[str, Any]:
        """The first, outermost object; empty if there is none."""
        return self.parts[0].fields if self.parts else {}

    @property
    def is_json(self) -> bool:
        return bool(self.parts)

    def values(self, names: Iterable[str], read: Callable[[Any], _Value | None]) -> Iterator[_Value]:
        """:meth:`Part.values` of all parts, one after the other."""
        return (value for part in self.parts for value in part.values(names, read))

    # ---- what decides

    @cached_property
    def task_id(self) -> str:
        """The first task id of any part; "" if there is none."""
        return next(self.values(("task_id",), id_of), "")

    @cached_property
    def sub_task_ids(self) -> tuple[str, ...]:
        return next(self.values(("sub_task_ids",), _ids), ())

    @property
    def state(self) -> str:
        """The first ``status`` of a result, in lower case; "" without one."""
        parts = (part for part in self.parts if part.is_result)
        return next((state.lower() for part in parts for state in part.values(("status",), _first_text)), "")

    @cached_property
    def picture(self) -> SubTask | None:
        """The first picture in result fields that was not sent up, as base64, address or both; ``None`` without one."""
        # In a successful answer, base64 in these two fields counts even if it is of an unknown kind.
        taken_unseen = _PICTURES[:2] if self.succeeded else ()
        new = (
            (name, text)
            for part in self.parts
            if part.is_result
            for name in _PICTURES
            for text in _texts(part.fields.get(name))
            if not _was_sent(text, self.sent)
        )
        found: dict[bool, str] = {}
        for name, text in new:
            if is_address(text) or name in taken_unseen or begins_as_a_picture(text):
                found.setdefault(is_address(text), text)
        if not found:
            return None
        return SubTask("", started=True, image=found.get(True, "").strip(), base64=found.get(False, ""))

    @property
    def result(self) -> SubTask | None:
        """The picture, if it makes this a successful answer; else ``None``.

        It does not with another HTTP status than 2xx, nor as a mere address beside a code of the service's table.
        """
        picture = self.picture
        if picture is None or not 200 <= self.status < 300:
            return None
        return picture if picture.base64 or not self.has_known_code else None

    def accepted(self, task: TaskRef, result: SubTask | None, request_id: str = "") -> Accepted:
        """What a submit with this answer has bought: the task, if it has an id, or a picture.

        Args:
            request_id: for the error, if the service gave none.

        Raises:
            NoAnswerError: neither of them, and the answer is not whole.
            NotAccepted: neither of them.
        """
        if task.task_id or result is not None:
            return Accepted(task, result, self.note)
        if self.answer.broken is not None:
            raise NoAnswerError(str(self.answer.broken), self.answer.body) from self.answer.broken
        raise NotAccepted(self, request_id)

    # ---- what is said beside that

    @cached_property
    def codes(self) -> list[int | str]:
        """The codes of the answer itself and of what is wrapped into it."""
        return [code for part in self.parts if part.is_envelope for code in part.codes]

    @cached_property
    def _deepest_known(self) -> Part | None:
        """The innermost part with a code of the service's table."""
        known = [part for part in self.parts if part.known_code(self.provider) is not None]
        return max(known, key=lambda part: part.depth, default=None)

    @property
    def has_known_code(self) -> bool:
        return self._deepest_known is not None

    @cached_property
    def _part_with_words(self) -> Part | None:
        """The part whose words are shown: the one whose code decides, or the innermost that has any."""
        if self._deepest_known is not None and self._deepest_known.words:
            return self._deepest_known
        return max((part for part in self.parts if part.words), key=lambda part: part.depth, default=None)

    @property
    def code(self) -> int | str | None:
        """The code that decides: one of the service's table, else the algorithm's error, else the innermost failure.

        Else the innermost code; ``None`` without any.
        """
        if self._deepest_known is not None:
            return self._deepest_known.known_code(self.provider)
        if self.algorithm_failed:
            return self.algorithm[0]
        telling = [part for part in self.parts if part.code is not None]
        failing = [part for part in telling if not is_success(part.code)]
        return max(failing or telling, key=lambda part: part.depth).code if telling else None

    @property
    def message(self) -> str:
        """The service's own words, without pictures and secrets."""
        if self.algorithm_failed and self._deepest_known is None and self.algorithm[1]:
            return words_of(self.algorithm[1], 500)
        if self._part_with_words is not None:
            return words_of(self._part_with_words.words, 500)
        shown = {name: value for name, value in self.body.items() if name not in _RESULTS}
        return words_of(json.dumps(shown, ensure_ascii=False), 300) if self.body else excerpt(self.answer.body)

    @property
    def shown(self) -> str:
        """The answer as it came, without pictures and secrets."""
        return excerpt(self.answer.body, 500)

    @property
    def request_id(self) -> str:
        """The service's id of this request; "" if it gave none."""
        return next(self.values(_REQUEST_IDS, id_of), "")

    @cached_property
    def algorithm(self) -> tuple[int | str | None, str]:
        """Code and words of Volcengine's algorithm; ``(None, "")`` without a code."""
        for part in self.parts:
            inner = as_object(part.fields.get("algorithm_base_resp"))
            for code in map(code_of, (inner.get("status_code"), part.fields.get("algo_status_code"))):
                if code not in (None, ""):
                    return code, str(inner.get("status_message") or part.fields.get("algo_status_message") or "")
        return None, ""

    @property
    def algorithm_failed(self) -> bool:
        return self.algorithm[0] not in (None, 0)

    @cached_property
    def succeeded(self) -> bool:
        """Whether HTTP status, algorithm and every code in ``codes`` say success."""
        return 200 <= self.status < 300 and all(map(is_success, self.codes)) and not self.algorithm_failed

    @cached_property
    def meaning(self) -> Meaning:
        """What the answer means if it has neither a task id nor a picture: row of the submit table, and words."""
        words = (part.words for part in self.parts if part.is_envelope)
        signs = {
            Sign.GATEWAY: any(part.is_of_a_gateway for part in self.parts),
            Sign.NO_BALANCE: any(_OUT_OF_BALANCE.search(f"{part.words} {part.code}") for part in self.parts),
            Sign.ALGORITHM: self.algorithm_failed,
            Sign.UNDECIDED: any(map(is_undecided, self.codes)),
            Sign.SUCCESS: any(map(is_success, self.codes)) or any(map(is_success_word, words)),
            Sign.FAILURE: not self.succeeded,
        }
        return meaning_of(self.provider, self.status, self.code, signs)

    @property
    def note(self) -> Text | None:
        """For the user, if an accepted submit was answered with an undocumented status or code; else ``None``."""
        if self.succeeded and all(code == _DOCUMENTED[self.provider] for code in self.codes):
            return None
        code = f", code {shortened(str(self.code), 100)}" if self.code is not None else ""
        words = f" “{self.message}”" if self._part_with_words is not None or self.algorithm_failed else ""
        said = f"HTTP {self.status}{code}{words}"
        return Text(f"The service accepted this, and answered with {said}.", f"服务端已受理，但应答为 {said}。")


@contextmanager
def no_answer_is_a_poll_error() -> Iterator[None]:
    """Raise PollError in the place of what says that a poll got no answer: the task may be fine."""
    try:
        yield
    except requests.RequestException as problem:
        raise PollError(obstacle_of(problem) or type(problem).__name__) from problem
    except RemoteImageError as problem:
        # The exchange of the key for a token failed, perhaps for a while.
        raise PollError(problem.what) from problem


def sent_texts(request: WireRequest) -> list[str]:
    """Every text of a request that is not empty, images too, for :class:`Reply`."""
    values = (value if isinstance(value, list) else [value] for _, value in request)
    return [text for listed in values for text in listed if isinstance(text, str) and text]


def _parts(value: Any, depth: int = 0, *, is_result: bool = False, is_envelope: bool = True) -> Iterator[Part]:
    """The objects in ``value``, each before those inside it; the arguments describe ``value``."""
    for fields in _objects_in(value):
        yield Part(fields, depth, is_result, is_envelope)
        if depth == _DEEPEST:
            continue
        for name, inner in fields.items():
            if isinstance(inner, (dict, list, str)):
                wraps = name in _RESULTS or name.lower() in _WRAPPERS or bool(_UPSTREAM.search(name))
                envelope = is_envelope and wraps
                yield from _parts(inner, depth + 1, is_result=name in _RESULTS, is_envelope=envelope)


def _objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects that ``value`` is: itself, the items of a list, or JSON in a text, also behind other words."""
    if isinstance(value, str):
        value = _json_in(value)
    if isinstance(value, list):
        return [fields for item in value[:_MOST_PARTS] if isinstance(item, (dict, str)) for fields in _objects_in(item)]
    return [value] if isinstance(value, dict) else []


def _json_in(text: str) -> Any:
    """The first JSON object, or the list, in a text, which may be a JSON string; ``None`` if there is none."""
    document = json_value(text) if text.lstrip()[:1] in ('"', "[") else None
    if isinstance(document, (str, list)):
        return document if isinstance(document, list) else _json_in(document)
    begins = -1
    for _ in range(_MOST_OPENINGS):
        begins = text.find("{", begins + 1)
        if begins < 0:
            break
        if (found := json_value(text[begins:])) is not None:
            return found
    return None


def id_of(value: Any) -> str:
    """An id as the service put it; a whole number counts as text. "" if it stands for no id, or is too long for one.

    Lone surrogates become ``?``, because an address cannot hold them.
    """
    text = _text(value).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _LONGEST_ID and not _NO_ID.fullmatch(text) else ""


def _text(value: Any) -> str:
    """A text without spaces around it, or a whole number as text; "" for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _first_text(value: Any) -> str:
    """The first text that is not empty, alone or in a list; a whole number counts as text."""
    return next(filter(None, map(_text, value if isinstance(value, list) else [value])), "")


def _ids(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(id_of, value))) if isinstance(value, list) else ()


def _words(value: Any) -> str:
    """A message, without a gateway's "not ok match"; "" for JSON in a text, and for all that is no text."""
    is_message = isinstance(value, str) and not _objects_in(value)
    return _NOT_OK.sub("", value).strip() if is_message else ""


def _texts(value: Any) -> Iterator[str]:
    """The texts of a picture field: a text, a list of texts, or objects with such fields."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and item.strip():
            yield item
        elif isinstance(item, dict):
            for name in _PICTURES:
                inner = item.get(name)
                if isinstance(inner, str) and inner.strip():
                    yield inner


def is_address(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text.strip()[:8].lower().startswith(("http://", "https://"))


def begins_as_a_picture(text: str) -> bool:
    """Whether a text is base64 whose first bytes are those of a picture; a ``data:`` prefix is skipped."""
    start = "".join(text[:200].rpartition("base64,")[2].split())[:64]
    with suppress(ValueError):
        data = base64_bytes(start[: len(start) // 4 * 4])
        return data.startswith(_FIRST_BYTES) or data[4:8] == b"ftyp"
    return False


def _was_sent(text: str, sent: Sequence[str]) -> bool:
    """Whether ``text`` repeats one of the texts that were sent, or the beginning of one (8 characters at least)."""
    bare = "".join(text.rpartition("base64,")[2].split()).translate(_STANDARD_ALPHABET).rstrip("=.…")
    return any(one == text or (len(bare) >= 8 and one.startswith(bare)) for one in sent)


# From the alphabet of base64 for addresses to the standard one.
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
