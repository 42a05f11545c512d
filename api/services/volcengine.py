"""Volcengine 智能扩图 ``i2i_outpainting``: its request model, the synchronous call, and its asynchronous variant.

The interface page (www.volcengine.com/docs/6791/1223722) could not be read; fields and ranges come from the official
SDKs (volcengine/volc-sdk-java ``VisualImg2ImgOutpaintingRequest.java``, volcengine/volc-sdk-python
``example_img2img_outpainting.py``) and from docs.yutoai.net/api/api-289473244.html.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..core import (
    VOLCENGINE_OUTPAINT,
    Accepted,
    Ceiling,
    Deadlines,
    ModerationError,
    PollError,
    Provider,
    RemoteImageError,
    ServiceError,
    SubTask,
    TaskFailedError,
    TaskRef,
    Text,
    UnknownTaskError,
    on_codec_pool,
    pack_logger,
)
from ..transport import Answer, Phases, Request, VolcengineAccount, ask, post_once
from .answers import NotAccepted, Reply, no_answer_is_a_poll_error, sent_texts
from .model import ImageField, PromptField, WireRequest
from .outcome import Outcome, known_code, refusal

SUCCESS = 10000
# Limits of an image (bytes, pixels of a side) and of a prompt (characters). Not official: the nearest pages (jimeng
# inpaint, PicWish's look-alike) and annotated clients name these.
INFERRED_MAX_BYTES = 4_700_000
INFERRED_MAX_SIDE = 4096
INFERRED_MAX_PROMPT = 100

_Side = Annotated[float, Field(gt=0, le=1)]


class OutpaintRequest(WireRequest):
    """``binary_data_base64`` (or ``image_urls``) is [image] with sides to extend, or [canvas, mask] without sides."""

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
    """The fields for a prompt: under both keys, because the official samples disagree; an empty one is left out."""
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
    # One name for both ways of asking: they buy the same picture, so their requests must have the same key.
    name: ClassVar[str] = VOLCENGINE_OUTPAINT
    # Seconds that the service keeps a task, by its product page (volcengine.com/docs/6791/1399616).
    kept_for: ClassVar[float] = 24 * 3600.0

    @property
    def works_while_asked(self) -> bool:
        """Whether the service works while the call waits for its answer: the synchronous way."""
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
            request: an :class:`OutpaintRequest`.
            request_id: not sent, because the service makes its own; it is the task's if the answer has none.
            phases: callbacks of :func:`transport.post_once`, and the call's cancel token.

        Returns:
            The task, with its picture if the answer had one.

        Raises:
            NotSentError, NoAnswerError, CallCancelled: see :func:`transport.post_once`.
            NotAccepted: the answer has neither a picture nor a task id.
        """
        deadlines = self.account.deadlines
        action, answer_timeout = (
            ("CVSync2AsyncSubmitTask", deadlines.hidream_answer)
            if self.account.resumable
            else ("CVProcess", deadlines.cvprocess_answer)
        )
        body = on_codec_pool(request.json_bytes, cancel=phases.cancel)
        answer = post_once(_request(self.account, action, body), answer_timeout, phases)
        reply = _read(answer, sent_texts(request))
        # The service's own request id comes first: its support knows only that one. A task id or a picture is taken
        # whichever action was asked for: a gateway may know only one of them, and what it returns is paid.
        task = TaskRef("Volcengine", VOLCENGINE_OUTPAINT, reply.task_id, reply.request_id or request_id)
        return reply.accepted(task, reply.result)

    def query(self, task: TaskRef) -> Sequence[SubTask]:
        """Ask once for the state of a resumable task; free.

        Raises:
            UnknownTaskError: the service has no such task, or none any more (see ``kept_for``).
            PollError: the answer, if any, has no state of the task; the task may be fine.
        """
        with no_answer_is_a_poll_error():
            reply = _read(ask_for_result(self.account, task.task_id, self.account.deadlines))
        pack_logger().debug("volcengine task %s: code=%s status=%s", task.task_id, reply.code, reply.state)
        if reply.result is not None:
            return [reply.result]
        # The words beside an error are not those of a task.
        state = reply.state if reply.succeeded else ""
        if state == "not_found":
            raise UnknownTaskError("not_found")
        if state == "expired":
            return [SubTask("", started=True, error=_expired(task))]
        if state == "done":
            return [SubTask("", started=True, empty=reply.shown)]
        if _ends_a_task(reply):
            return [SubTask("", started=True, error=_failed(reply, task))]
        if not (reply.succeeded and (reply.codes or state)):
            raise PollError(f"HTTP {reply.status} code {reply.code} {reply.message}".strip())
        return [SubTask("", started=state == "generating", said="" if state in _UNDER_WAY else reply.shown)]

    def renew_credentials(self) -> bool:
        """Always ``False``: neither a gateway key nor a signature can be exchanged for another one."""
        return False


def _request(account: VolcengineAccount, action: str, body: bytes) -> Request:
    return account.request(account.base_url + account.path, {"Action": action, "Version": "2022-08-31"}, body=body)


_REQ_KEY = "i2i_outpainting"
_UNDER_WAY = ("", "in_queue", "generating")


def ask_for_result(account: VolcengineAccount, task_id: str, deadlines: Deadlines, *, afresh: bool = False) -> Answer:
    """Ask once, free, for the result of a task; returns the HTTP answer.

    Args:
        afresh: over a new connection.

    Raises:
        As :func:`transport.ask`.
    """
    body = {"req_key": _REQ_KEY, "task_id": task_id, "req_json": json.dumps({"return_url": False})}
    payer = replace(account, deadlines=deadlines)
    return ask(_request(payer, "CVSync2AsyncGetResult", json.dumps(body).encode("utf-8")), afresh=afresh)


def _failed(reply: Reply, task: TaskRef) -> RemoteImageError:
    """The error of a task that failed. It was accepted before, so whether it is billed is not known."""
    answer = NotAccepted(reply)
    return refusal(
        "Volcengine",
        replace(answer.meaning, outcome=Outcome.FAILED),
        code=answer.code,
        vendor_message=answer.vendor_message,
        request_id=task.request_id,
        task_id=task.task_id,
    )


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


def _read(answer: Answer, sent: Sequence[str] = ()) -> Reply:
    reply = Reply("Volcengine", answer, sent)
    pack_logger().debug(
        "volcengine: code=%s algorithm=%s request_id=%s time_elapsed=%s",
        reply.code,
        reply.algorithm[0],
        reply.request_id,
        reply.body.get("time_elapsed"),
    )
    return reply


# HTTP statuses that speak of this poll, its key or its address, and not of the task.
_ABOUT_THE_POLL = (401, 403, 404, *range(500, 600))
# Codes of input checks whose first answer may be that to a query: the pages of sibling services show 50413 there.
_CHECKS = (50205, 50207, 50215, 60102)


def _ends_a_task(reply: Reply) -> bool:
    """Whether the answer to a query says that the task will bring no picture."""
    if reply.algorithm_failed:
        return True
    known = known_code("Volcengine", reply.code)
    if known is None or reply.status in _ABOUT_THE_POLL:
        return False
    return known.outcome is Outcome.FAILED or known.error is ModerationError or reply.code in _CHECKS
