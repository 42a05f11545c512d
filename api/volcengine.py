"""Volcengine 智能扩图 ``i2i_outpainting``: wire models, the one call, and its asynchronous variant.

The interface page (www.volcengine.com/docs/6791/1223722) was not to be had; fields and ranges come from the official
SDKs (volcengine/volc-sdk-java ``VisualImg2ImgOutpaintingRequest.java``, volcengine/volc-sdk-python
``example_img2img_outpainting.py``) and from docs.yutoai.net/api/api-289473244.html.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import requests
from pydantic import Field, model_validator

from .accounts import VolcengineAccount
from .choices import VOLCENGINE_OUTPAINT
from .errors import (
    VENDOR_CODES,
    Meaning,
    Outcome,
    Provider,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    meaning_of,
    refusal,
)
from .polling import Accepted, PollError, SubTask, TaskRef, UnknownTaskError
from .redaction import pack_logger, words_of
from .settings import Ceiling
from .text import Text
from .transport import Answer, Deadlines, NoAnswerError, Phases, ask, submit
from .wire import ImageField, NotAccepted, PromptField, WireRequest, as_object, code_of, excerpt, json_object
from .workers import apart

SUCCESS = 10000
# Not official: the nearest pages (jimeng inpaint, PicWish's look-alike) and annotated clients name these.
INFERRED_MAX_BYTES = 4_700_000
INFERRED_MAX_SIDE = 4096
INFERRED_MAX_PROMPT = 100

_Side = Annotated[float, Field(gt=0, le=1)]


class OutpaintRequest(WireRequest):
    """``binary_data_base64`` (or ``image_urls``) is [image] with sides, or [canvas, mask] without."""

    req_key: Literal["i2i_outpainting"] = "i2i_outpainting"
    binary_data_base64: Annotated[list[ImageField], Field(min_length=1, max_length=2)] | None = None
    image_urls: Annotated[list[ImageField], Field(min_length=1, max_length=2)] | None = None
    custom_prompt: PromptField | None = None
    prompt: PromptField | None = None
    steps: Annotated[int, Field(ge=1, le=100)] = 30
    strength: Annotated[float, Field(ge=0.1, le=1)] = 0.8
    scale: Annotated[float, Field(ge=1, le=20)] = 7.0
    seed: Annotated[int, Field(ge=-1, le=2**31 - 1)] = -1
    top: _Side | None = None
    bottom: _Side | None = None
    left: _Side | None = None
    right: _Side | None = None
    max_height: Annotated[int, Field(ge=64, le=4096)] = 1920
    max_width: Annotated[int, Field(ge=64, le=4096)] = 1920
    return_url: bool | None = None

    @model_validator(mode="after")
    def _one_mode(self) -> OutpaintRequest:
        images = self.binary_data_base64 or self.image_urls or []
        sides = [self.top, self.bottom, self.left, self.right]
        if not images:
            raise ValueError("one image, or a canvas and its mask, is needed")
        if len(images) == 1 and not any(sides):
            raise ValueError("one image needs at least one side to extend")
        if len(images) == 2 and any(side is not None for side in sides):
            raise ValueError("a canvas with its mask goes without sides")
        return self


def prompt_fields(prompt: str) -> dict[str, str]:
    """The official samples disagree on the key, so a prompt goes up under both; an empty one under neither."""
    return {"custom_prompt": prompt, "prompt": prompt} if prompt else {}


@dataclass(frozen=True)
class VolcengineService:
    """``i2i_outpainting``, paid by one account.

    ``CVProcess`` is synchronous: its answer is the picture. A resumable account goes through ``CVSync2AsyncSubmitTask``
    and ``CVSync2AsyncGetResult`` instead, as the product code of CloudEngineHub/magic does
    (VolcengineVisualAsyncClient.php).
    """

    account: VolcengineAccount
    provider: ClassVar[Provider] = "Volcengine"
    # The same picture, whichever way it is bought.
    name: ClassVar[str] = VOLCENGINE_OUTPAINT

    @property
    def works_while_asked(self) -> bool:
        """Whether the service is at work as soon as it has the whole request, before its answer."""
        return not self.account.resumable

    @property
    def base_url(self) -> str:
        return self.account.base_url

    @property
    def ceiling(self) -> Ceiling:
        return Ceiling(self.account.limits.at_once)

    def submit(self, request: WireRequest, request_id: str, phases: Phases) -> Accepted:
        """Send one call, and wait for its picture unless the account is resumable.

        Args:
            request_id: not sent, the service makes its own; it names the attempt in the log.

        Raises:
            NotSentError, NoAnswerError, CallCancelled: see :func:`transport.submit`.
            NotAccepted: the answer brought neither a picture nor a task id.
        """
        resumable = self.account.resumable
        deadlines = self.account.deadlines
        came = submit(
            self.account.base_url + self.account.path,
            apart(request.json_bytes),
            params=_action("CVSync2AsyncSubmitTask" if resumable else "CVProcess"),
            headers={},
            auth=self.account.auth,
            answer_timeout=deadlines.hidream_answer if resumable else deadlines.cvprocess_answer,
            deadlines=deadlines,
            cancel=phases.cancel,
            before_sending=phases.before_sending,
            on_sent=phases.on_sent,
            proxy=self.account.proxy,
        )
        answer = _Answer.of(came)
        # The service's own id is what its support knows.
        service_id = answer.request_id or request_id
        picture = answer.picture()
        # Whatever was asked for: a gateway may know one action only, and what it brings is paid.
        if answer.succeeded and (picture is not None or answer.task_id):
            return Accepted(TaskRef("Volcengine", VOLCENGINE_OUTPAINT, answer.task_id, service_id), picture)
        if came.broken is not None:
            raise NoAnswerError(str(came.broken)) from came.broken
        raise answer.refusal()

    def query(self, task: TaskRef) -> Sequence[SubTask]:
        """Ask once for the state of a resumable task; free.

        Raises:
            UnknownTaskError: the service has no such task, or none any more (it keeps them for 12 h).
            PollError: no state came back; the task may be fine.
        """
        try:
            answer = _Answer.of(ask_for_result(self.account, task.task_id, self.account.deadlines))
        except requests.RequestException as problem:
            raise PollError(type(problem).__name__) from problem
        pack_logger().debug("volcengine task %s: code=%s status=%s", task.task_id, answer.code, answer.task_status)
        # What is wrong with this poll, its key or its address says nothing of the task.
        about_the_task = answer.status < 500 and answer.status not in (401, 403, 404)
        told = answer.code == SUCCESS and answer.succeeded
        if told and answer.task_status == "not_found":
            raise UnknownTaskError("not_found")
        if told and answer.task_status == "expired":
            return [SubTask("", started=True, error=_expired(task))]
        if told and answer.task_status == "done":
            picture = answer.picture()
            if picture is None:
                raise PollError("done, but without a picture")
            return [picture]
        if answer.algorithm_failed or (about_the_task and answer.ends_a_task):
            return [SubTask("", started=True, error=_failed(answer.refusal(), task))]
        if not told:
            raise PollError(f"HTTP {answer.status} code {answer.code} {answer.message}".strip())
        return [SubTask("", started=answer.task_status == "generating")]

    def renew_credentials(self) -> bool:
        """Neither a gateway key nor a signature is ever exchanged for another one."""
        return False


_REQ_KEY = "i2i_outpainting"


def ask_for_result(account: VolcengineAccount, task_id: str, deadlines: Deadlines, *, afresh: bool = False) -> Answer:
    """One free request for the result of a task; raises as :func:`transport.ask`."""
    body = {"req_key": _REQ_KEY, "task_id": task_id, "req_json": json.dumps({"return_url": False})}
    return ask(
        account.base_url + account.path,
        json.dumps(body).encode("utf-8"),
        params=_action("CVSync2AsyncGetResult"),
        auth=account.auth,
        deadlines=deadlines,
        proxy=account.proxy,
        afresh=afresh,
    )


def _failed(answer: NotAccepted, task: TaskRef) -> RemoteImageError:
    """The task was accepted once, so whether it was billed is not known."""
    return refusal(
        "Volcengine",
        replace(answer.meaning, outcome=Outcome.FAILED),
        code=answer.code,
        vendor_message=answer.vendor_message,
        request_id=task.request_id,
        task_id=task.task_id,
    )


def _action(name: str) -> dict[str, str]:
    return {"Action": name, "Version": "2022-08-31"}


def _expired(task: TaskRef) -> ServiceError:
    return ServiceError(
        Text(
            "The service no longer keeps this task's result (expired): it was not fetched in time.",
            "服务端已不再保留该任务的结果（expired）：未能及时取回。",
        ),
        advice=TaskFailedError.default_advice,
        provider="Volcengine",
        code="expired",
        request_id=task.request_id,
        task_id=task.task_id,
        billed="unknown",
    )


@dataclass(frozen=True)
class _Answer:
    """An answer of the service or its gateway, whatever shape it has."""

    status: int
    code: int | str | None
    message: str
    request_id: str
    retry_after: str
    algorithm_code: int | str | None
    algorithm_message: str
    task_id: str
    task_status: str
    base64: str = field(repr=False)
    url: str = field(repr=False)

    @classmethod
    def of(cls, answer: Answer) -> _Answer:
        body = json_object(answer.body) or {}
        data = as_object(body.get("data"))
        metadata = as_object(body.get("ResponseMetadata"))
        error = as_object(metadata.get("Error") or body.get("error"))
        algorithm = as_object(data.get("algorithm_base_resp"))
        code = code_of(body.get("code"))
        if code is None:
            code = code_of(error.get("Code") or error.get("code"))
        message = str(body.get("message") or error.get("Message") or error.get("message") or "")
        read = cls(
            status=answer.status,
            code=code,
            message=words_of(message, 500) or _rest(body) or excerpt(answer.body),
            request_id=str(body.get("request_id") or metadata.get("RequestId") or data.get("request_id") or ""),
            retry_after=answer.headers.get("Retry-After", ""),
            algorithm_code=None if algorithm.get("status_code") == "" else code_of(algorithm.get("status_code")),
            algorithm_message=str(algorithm.get("status_message") or ""),
            task_id=_text(data.get("task_id")),
            task_status=_text(data.get("status")),
            base64=_first(data.get("binary_data_base64")),
            url=_first(data.get("image_urls")),
        )
        pack_logger().debug(
            "volcengine: code=%s algorithm=%s request_id=%s time_elapsed=%s",
            read.code,
            read.algorithm_code,
            read.request_id,
            body.get("time_elapsed"),
        )
        return read

    @property
    def algorithm_failed(self) -> bool:
        return self.code == SUCCESS and self.algorithm_code not in (None, 0)

    @property
    def ends_a_task(self) -> bool:
        """A check of the input may also speak first here: the sibling pages show 50413 as an answer to a query."""
        known = VENDOR_CODES.get(("Volcengine", self.code)) if isinstance(self.code, int) else None
        return known is not None and known.outcome in (Outcome.FAILED, Outcome.REFUSED)

    @property
    def succeeded(self) -> bool:
        # A gateway may leave the code out; what it brings is paid.
        told = self.code == SUCCESS or (self.code is None and self.status == 200 and self.picture() is not None)
        return told and not self.algorithm_failed

    def picture(self) -> SubTask | None:
        if not self.base64 and not self.url:
            return None
        return SubTask("", started=True, image=self.url, base64=self.base64)

    def refusal(self) -> NotAccepted:
        meaning, code, message = meaning_of("Volcengine", self.status, self.code), self.code, self.message
        if self.algorithm_failed:
            meaning, code = _ALGORITHM_FAILED, self.algorithm_code
            message = words_of(self.algorithm_message, 500) or message
        return NotAccepted(
            meaning,
            status=self.status,
            code=code,
            vendor_message=message,
            request_id=self.request_id,
            retry_after=self.retry_after,
        )


_ALGORITHM_FAILED = Meaning(
    TaskFailedError, Outcome.FAILED, Text("The service's algorithm reported an error.", "服务端算法报告错误。")
)


def _first(value: Any) -> str:
    """The first text that is not empty, of a list or alone; empty if there is none."""
    texts = value if isinstance(value, list) else [value]
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def _rest(body: dict[str, Any]) -> str:
    """An answer without words of its own, and without its pictures."""
    told = {name: value for name, value in body.items() if name != "data"}
    return words_of(json.dumps(told, ensure_ascii=False), 300) if body else ""


def _text(value: Any) -> str:
    """An id or a word; whole numbers count as text."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
