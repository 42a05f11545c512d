"""Scripted faults: rules that say which request goes wrong, and how. README.md lists them."""

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .endpoints import HIDREAM
from .message import Answer
from .pictures.odd_pictures import OddPicture
from .services.vendor_codes import VENDOR_CODES

Size = Annotated[list[Annotated[int, Field(ge=1, le=16384)]], Field(min_length=2, max_length=2)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_HIDREAM = frozenset(HIDREAM)
_ASYNC = frozenset({"cvsync2async"})
_VOLCENGINE = _ASYNC | {"cvprocess"}
_PHASES = {
    **dict.fromkeys(_HIDREAM | _ASYNC, frozenset({"submit", "result", "image"})),
    "cvprocess": frozenset({"submit", "image"}),
    "templates": frozenset({"list", "image"}),
    "token": frozenset({"token"}),
}
# The endpoints that know a field of Action; fields that are not here are known to all.
_MEANT_FOR = {
    "task_status": _HIDREAM,
    "sizes": _HIDREAM,
    "never": _HIDREAM | _ASYNC,
    "async_status": _ASYNC,
    "algorithm": _VOLCENGINE,
    "vendor_code": _VOLCENGINE,
    "gateway": _VOLCENGINE,
}
# Fields for any phase that answers: they act on the connection or replace the whole answer.
_ANSWERED = frozenset({"status", "headers", "json_body", "html", "hang", "reset", "cut", "cut_end", "early_hints",
                       "odd_words", "drip", "delay"})
# Fields that change a result file; they mean nothing in a submit.
_ON_FILES = frozenset({"encoding", "odd_pictures"})
# The fields that act in each phase; None: all but _ON_FILES.
_ALLOWED = {
    "submit": None,
    "result": _ANSWERED | {"task_status", "async_status", "vendor_code", "url", "no_image", "empty", "forgotten",
                           "gateway"},
    "image": (_ANSWERED | {"corrupt", "encoding", "odd_pictures"}) - {"odd_words"},
    "list": _ANSWERED | {"url", "empty"},
    "token": _ANSWERED,
}


class Action(BaseModel):
    """What happens to one request. Times are in seconds; `cut` is the share of the body that is sent, 0 to 1.

    An action of a rule has at least one field; NO_FAULT has none and changes nothing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    status: int | None = Field(None, ge=100, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(None, alias="json")
    html: bool = False
    vendor_code: int | None = None
    accept: bool = False
    hang: Seconds = 0.0
    reset: Literal["headers", "before", "after"] | None = None
    cut: float | None = Field(None, ge=0, lt=1)
    cut_end: bool = False
    early_hints: bool = False
    odd_words: bool = False
    gateway: int | str | None = None
    forgotten: bool = False
    corrupt: bool = False
    drip: Literal["header", "body"] | None = None
    encoding: str | None = None
    odd_pictures: OddPicture | None = None
    delay: Seconds = 0.0
    task_status: list[int] = Field(default_factory=list)
    never: bool = False
    size: Size | None = None
    sizes: list[Size] = Field(default_factory=list)
    url: str | None = None
    no_image: bool = False
    empty: bool = False
    algorithm: int = 0
    async_status: Literal["not_found", "expired", "canceled", "over_max_retries"] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Action":
        for code in (self.vendor_code, self.gateway):
            if isinstance(code, int) and code not in VENDOR_CODES:
                raise ValueError(f"vendor_code and gateway must be one of {sorted(VENDOR_CODES)}")
        if not self.model_fields_set:
            raise ValueError("do is empty")
        if self.answer() is None and self.model_fields_set & {"accept", "headers"}:
            raise ValueError("accept and headers belong to an answer: status, json, html or gateway")
        return self

    def answer(self) -> Answer | None:
        """Return the answer that replaces the service's own, or None if the service is to answer."""
        if self.html:
            return Answer.html(self.status or 200, self.headers)
        if self.gateway is not None:
            return Answer.json(_gateway_error(self.gateway), self.status or 406, self.headers)
        if self.status is not None or "json_body" in self.model_fields_set:
            status = self.status or 200
            body = self.json_body if "json_body" in self.model_fields_set else {"code": status, "message": "emulated"}
            return Answer.json(body, status, self.headers)
        return None

    def sub_task_size(self, index: int) -> tuple[int, int] | None:
        """Return the (width, height) of picture number `index`, or None for the service's own size."""
        size = self.sizes[index % len(self.sizes)] if self.sizes else self.size
        return (size[0], size[1]) if size else None


def _gateway_error(upstream: int | str) -> dict[str, Any]:
    """Return the body of a gateway whose upstream, Volcengine, failed: JSON in a string in JSON in a string.

    `upstream` is a code of VENDOR_CODES, or the gateway's own text.
    """
    if isinstance(upstream, int):
        failure = json.dumps({"code": upstream, "message": VENDOR_CODES[upstream].message, "data": None})
        upstream = f"not ok match: {failure}"
    inner = json.dumps({"code": -1, "message": upstream})
    return {"code": "upstream_error", "message": "", "upsream_message": inner, "data": None}


NO_FAULT = Action.model_construct()


class Rule(BaseModel):
    """Which requests a fault is for: after `skip` matching ones it acts on the next `times` (None: on all)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    endpoint: str = "*"
    """A key of _PHASES, or "*": all."""
    phase: Literal["submit", "result", "image", "list", "token"]
    skip: int = Field(0, ge=0)
    times: int | None = Field(1, ge=1)
    do: Action

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        # A rule that can never act would let a test pass that tests nothing.
        if self.endpoint != "*" and self.phase not in _PHASES.get(self.endpoint, frozenset()):
            raise ValueError(f"the endpoint {self.endpoint!r} is not known, or has no phase {self.phase!r}")
        allowed = _ALLOWED[self.phase]
        useless = self.do.model_fields_set & _ON_FILES if allowed is None else self.do.model_fields_set - allowed
        if useless:
            raise ValueError(f"{sorted(useless)} mean nothing in the phase {self.phase!r}")
        if not any(self.phase in phases and self.concerns(endpoint, self.phase)
                   for endpoint, phases in _PHASES.items()):
            raise ValueError(f"this fault means nothing for the endpoint {self.endpoint!r}")
        return self

    def concerns(self, endpoint: str, phase: str) -> bool:
        """Whether the rule is for this endpoint and phase, and the endpoint knows every field that is set."""
        # "corrupt" in a submit is for Volcengine, whose answer may hold the picture. HiDream's pictures are files, for
        # which "corrupt" belongs to the phase "image".
        meant_for = {**_MEANT_FOR, "corrupt": _VOLCENGINE} if phase == "submit" else _MEANT_FOR
        understood = all(endpoint in meant_for.get(name, (endpoint,)) for name in self.do.model_fields_set)
        return self.endpoint in ("*", endpoint) and self.phase == phase and understood


class Script:
    """The rules in order. The first rule that matches a request takes it; later rules neither see nor count it."""

    def __init__(self, rules: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self.add(rules)

    def add(self, rules: Iterable[Mapping[str, Any]]) -> None:
        checked = [Rule.model_validate(dict(rule)) for rule in rules]
        with self._lock:
            self._rules.extend(checked)

    def take(self, endpoint: str, phase: str) -> Action:
        """Return the action for the request that has just arrived, and count it; NO_FAULT if no rule matches."""
        with self._lock:
            for rule in self._rules:
                if rule.times == 0 or not rule.concerns(endpoint, phase):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                return rule.do
        return NO_FAULT

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
