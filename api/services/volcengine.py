"""Volcengine's visual service: the synchronous call, and the asynchronous submit and result query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..catalog import VolcengineEndpoint, WireRequest, ceiling
from ..core import (
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
    as_object,
    json_value,
    on_codec_pool,
    pack_logger,
)
from ..transport import Answer, Phases, Request, VolcengineAccount, ask, post_once
from .answers import NotAccepted, Reply, no_answer_is_a_poll_error, sent_texts
from .outcome import Outcome, known_code, refusal

SUCCESS = 10000


@dataclass(frozen=True)
class VolcengineService:
    """One endpoint, paid by one account.

    ``CVProcess`` is synchronous: its answer is the picture. An asynchronous endpoint, or any of a resumable account,
    goes through ``CVSync2AsyncSubmitTask`` and ``CVSync2AsyncGetResult`` instead (volcengine.com/docs/6791/1399616; so
    does the product code of CloudEngineHub/magic, VolcengineVisualAsyncClient.php). Both ways have one name in the
    journal: they buy the same picture, so their requests must have the same key.
    """

    account: VolcengineAccount
    endpoint: VolcengineEndpoint
    provider: ClassVar[Provider] = "Volcengine"

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def kept_for(self) -> float:
        return self.endpoint.kept_for

    @property
    def works_while_asked(self) -> bool:
        """Whether the service works while the call waits for its answer: the synchronous way."""
        return self.endpoint.is_synchronous and not self.account.resumable

    @property
    def base_url(self) -> str:
        return self.account.base_url

    @property
    def ceiling(self) -> Ceiling:
        return ceiling(self.endpoint, self.account.limits)

    def within(self, deadlines: Deadlines) -> VolcengineService:
        """The same service with other deadlines."""
        return replace(self, account=replace(self.account, deadlines=deadlines))

    def submit(self, request: WireRequest, request_id: str, phases: Phases) -> Accepted:
        """Send one call, and wait for its picture if it is synchronous.

        The account's ``logo_info`` goes into the body of the synchronous call; a submit takes no options, the query
        does. ``aigc_meta`` is documented for the query alone, so the synchronous call goes without it.

        Args:
            request: the endpoint's request model.
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
            ("CVProcess", deadlines.cvprocess_answer)
            if self.works_while_asked
            else ("CVSync2AsyncSubmitTask", deadlines.hidream_answer)
        )
        body = on_codec_pool(self._body, request, cancel=phases.cancel)
        answer = post_once(_request(self.account, action, body), answer_timeout, phases)
        reply = _read(answer, sent_texts(request))
        # The service's own request id comes first: its support knows only that one. A task id or a picture is taken
        # whichever action was asked for: a gateway may know only one of them, and what it returns is paid.
        task = TaskRef("Volcengine", self.name, reply.task_id, reply.request_id or request_id)
        return reply.accepted(task, reply.result)

    def _body(self, request: WireRequest) -> bytes:
        body = request.json_bytes()
        logo = _options(self.account.options).get("logo_info") if self.works_while_asked else None
        if logo is None:
            return body
        # Into the JSON as it is: to parse it again would copy the picture several times.
        return b"%b,%b" % (body[:-1], json.dumps({"logo_info": logo}).encode("ascii")[1:])

    def query(self, task: TaskRef) -> Sequence[SubTask]:
        """Ask once for the state of an asynchronous task, with the options of the task; free.

        Raises:
            UnknownTaskError: the service has no such task, or none any more (see ``kept_for``).
            PollError: the answer, if any, has no state of the task; the task may be fine.
        """
        with no_answer_is_a_poll_error():
            answer = ask_for_result(
                self.account, self.endpoint, task.task_id, self.account.deadlines, options=task.options
            )
            reply = _read(answer)
        pack_logger().debug("volcengine task %s: code=%s status=%s", task.task_id, reply.code, reply.state)
        if reply.result is not None:
            return [reply.result]
        # The words beside an error are not those of a task.
        state = reply.state if reply.succeeded else ""
        if state == "not_found":
            raise UnknownTaskError("not_found")
        if state in _ENDED:
            return [SubTask("", started=True, error=_ended(state, task))]
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


def _options(stored: str) -> dict[str, Any]:
    """The options of a result by name. Unreadable ones, of a damaged journal, count as none: the picture is paid."""
    return as_object(json_value(stored))


_UNDER_WAY = ("", "in_queue", "generating")


def ask_for_result(
    account: VolcengineAccount,
    endpoint: VolcengineEndpoint,
    task_id: str,
    deadlines: Deadlines,
    *,
    options: str = "",
    afresh: bool = False,
) -> Answer:
    """Ask once, free, for the result of a task; returns the HTTP answer.

    Args:
        options: of the task; see :class:`TaskRef`.
        afresh: over a new connection.

    Raises:
        As :func:`transport.ask`.
    """
    wanted = json.dumps({"return_url": False, **_options(options)})
    body = {"req_key": endpoint.req_key, "task_id": task_id, "req_json": wanted}
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


# The words of a task that ended without a picture (statuses: api-facts-siblings 3.0).
_ENDED: dict[str, tuple[type[RemoteImageError], Text]] = {
    "expired": (
        ServiceError,
        Text(
            "The service no longer keeps this task's result (expired): it was not fetched in time.",
            "服务端已不再保留该任务的结果（expired）：未能及时取回。",
        ),
    ),
    "canceled": (
        TaskFailedError,
        Text("The task was cancelled at the service (canceled).", "该任务已在服务端取消（canceled）。"),
    ),
    "over_max_retries": (
        TaskFailedError,
        Text(
            "The service gave up on the task after several tries (over_max_retries).",
            "服务端多次重试后放弃了该任务（over_max_retries）。",
        ),
    ),
}


def _ended(state: str, task: TaskRef) -> RemoteImageError:
    error, what = _ENDED[state]
    return error(
        what,
        advice=TaskFailedError.default_advice,
        provider="Volcengine",
        code=state,
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
