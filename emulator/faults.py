"""Faults by script: rules that say which request goes wrong, and how. The README lists them."""

import threading
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .message import Answer
from .vendor_codes import VENDOR_CODES

Size = Annotated[list[Annotated[int, Field(ge=1, le=16384)]], Field(min_length=2, max_length=2)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

HIDREAM_ONLY = frozenset({"task_status", "never", "sizes"})
VOLCENGINE_ONLY = frozenset({"algorithm", "vendor_code"})
_ANSWERED = frozenset({"status", "headers", "json_body", "html", "accept", "hang", "reset", "cut", "delay"})
_ALLOWED = {
    "submit": None,
    "result": _ANSWERED | {"task_status", "url", "no_image", "empty"},
    "image": _ANSWERED | {"corrupt"},
    "token": _ANSWERED,
}


class Action(BaseModel):
    """What happens to one request. Without any field set: nothing unusual."""

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
    corrupt: bool = False
    delay: Seconds = 0.0
    task_status: list[int] = Field(default_factory=list)
    never: bool = False
    size: Size | None = None
    sizes: list[Size] = Field(default_factory=list)
    url: str | None = None
    no_image: bool = False
    empty: bool = False
    algorithm: int = 0

    @model_validator(mode="after")
    def _check(self) -> "Action":
        if self.vendor_code is not None and self.vendor_code not in VENDOR_CODES:
            raise ValueError(f"vendor_code must be one of {sorted(VENDOR_CODES)}")
        if not self.model_fields_set:
            raise ValueError("do is empty")
        return self

    def answer(self) -> Answer | None:
        """The answer that replaces the service's own, if this action has one."""
        if self.html:
            return Answer.html(self.status or 200, self.headers)
        if self.status is not None or "json_body" in self.model_fields_set:
            status = self.status or 200
            body = self.json_body if "json_body" in self.model_fields_set else {"code": status, "message": "emulated"}
            return Answer.json(body, status, self.headers)
        return None

    def sub_task_size(self, index: int) -> tuple[int, int] | None:
        size = self.sizes[index % len(self.sizes)] if self.sizes else self.size
        return (size[0], size[1]) if size else None


NO_FAULT = Action.model_construct()


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    endpoint: Literal["outpaint", "img2img", "upscale", "variation", "cvprocess", "token", "*"] = "*"
    phase: Literal["submit", "result", "image", "token"]
    skip: int = Field(0, ge=0)
    times: int | None = Field(1, ge=1)
    do: Action

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        # A rule that can never act would make a test pass for nothing.
        allowed = _ALLOWED[self.phase]
        useless = set() if allowed is None else self.do.model_fields_set - allowed
        if useless:
            raise ValueError(f"{sorted(useless)} mean nothing in the phase {self.phase!r}")
        if self.endpoint != "*":
            token_alone = (self.endpoint == "token") != (self.phase == "token")
            if token_alone or (self.endpoint, self.phase) == ("cvprocess", "result"):
                raise ValueError(f"the endpoint {self.endpoint!r} has no phase {self.phase!r}")
            if not self.concerns(self.endpoint, self.phase):
                raise ValueError(f"this fault means nothing for the endpoint {self.endpoint!r}")
        return self

    def concerns(self, endpoint: str, phase: str) -> bool:
        other = HIDREAM_ONLY if endpoint == "cvprocess" else VOLCENGINE_ONLY
        if phase == "submit" and endpoint != "cvprocess":
            # Only CVProcess answers a submit with a picture.
            other = other | {"corrupt"}
        return self.endpoint in ("*", endpoint) and self.phase == phase and not self.do.model_fields_set & other


class Script:
    """Rules in order. The first rule that wants a request takes it; later rules do not see (or count) that one."""

    def __init__(self, rules: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self.add(rules)

    def add(self, rules: Iterable[Mapping[str, Any]]) -> None:
        checked = [Rule.model_validate(dict(rule)) for rule in rules]
        with self._lock:
            self._rules.extend(checked)

    def take(self, endpoint: str, phase: str) -> Action:
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
