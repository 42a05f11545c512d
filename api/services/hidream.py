"""HiDream (智象未来): submit and result query. The endpoints are described in ``api/catalog/endpoints/``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..catalog import HiDreamEndpoint, WireRequest
from ..core import (
    Accepted,
    Ceiling,
    Deadlines,
    InvalidInputError,
    Provider,
    SubTask,
    TaskRef,
    Text,
    on_codec_pool,
    pack_logger,
)
from ..transport import ExchangedTokenAuth, HiDreamAccount, Phases, ask, post_once
from .answers import NotAccepted, Reply, no_answer_is_a_poll_error, sent_texts
from .outcome import Outcome
from .sub_tasks import sub_tasks_in


@dataclass(frozen=True)
class HiDreamService:
    """One endpoint, paid by one account."""

    account: HiDreamAccount
    endpoint: HiDreamEndpoint
    provider: ClassVar[Provider] = "HiDream"
    works_while_asked: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def base_url(self) -> str:
        return self.account.ec_base_url if self.endpoint.on_ec_host else self.account.base_url

    @property
    def kept_for(self) -> float:
        return self.endpoint.kept_for

    @property
    def ceiling(self) -> Ceiling:
        return self.endpoint.ceiling(self.account.limits)

    def within(self, deadlines: Deadlines) -> HiDreamService:
        """The same service with other deadlines."""
        return replace(self, account=replace(self.account, deadlines=deadlines))

    def submit(self, request: WireRequest, request_id: str, phases: Phases) -> Accepted:
        """Send one submit, and return the accepted task.

        Args:
            request: the endpoint's request model.
            request_id: sent as ``request_id``.
            phases: callbacks of :func:`transport.post_once`, and the call's cancel token.

        Raises:
            NotSentError, NoAnswerError, CallCancelled: see :func:`transport.post_once`.
            NotAccepted: the answer has neither a task id nor a picture.
        """
        headers: dict[str, str] = {}
        if self.endpoint.takes_language:
            headers["X-accept-language"] = self.account.language
        if self.endpoint.takes_user_id and self.account.user_id:
            headers["API-User-ID"] = self.account.user_id
        added = {"request_id": request_id, "notify_url": self.account.notify_url or None}
        body = on_codec_pool(request.model_copy(update=added).json_bytes, cancel=phases.cancel)
        sent = self.account.request(self.base_url + self.endpoint.path, headers=headers, body=body)
        answer = post_once(sent, self.account.deadlines.hidream_answer, phases)
        reply = Reply("HiDream", answer, sent_texts(request))
        task = TaskRef("HiDream", self.endpoint.name, reply.task_id, request_id, reply.sub_task_ids)
        try:
            # No page documents a picture here. A gateway may answer with one, and then it is paid.
            return reply.accepted(task, None if reply.task_id else reply.result, request_id)
        except NotAccepted as refused:
            pack_logger().debug("%s: no task, code=%s request_id=%s", self.endpoint.name, reply.code, request_id)
            if refused.outcome is Outcome.REFUSED and not refused.is_known and _TEMPLATE.search(refused.vendor_message):
                refused.meaning = replace(refused.meaning, error=InvalidInputError, advice=_CHOOSE_A_TEMPLATE)
            raise

    def query(self, task: TaskRef) -> Sequence[SubTask]:
        """Ask once for the state of a task; free.

        Raises:
            UnknownTaskError: the service says that it has no such task, which may be wrong.
            PollError: the answer, if any, has no state of the task; the task may be fine.
        """
        params = {"task_id": task.task_id}
        if task.request_id:
            params["request_id"] = task.request_id
        with no_answer_is_a_poll_error():
            answer = ask(self.account.request(self.base_url + self.endpoint.results_path, params))
        if answer.status == 401:
            self.renew_credentials()
        return sub_tasks_in(Reply("HiDream", answer), task)

    def renew_credentials(self) -> bool:
        """After a 401 of this thread's request: drop the refused token; returns whether another one can be fetched."""
        auth = self.account.auth
        if not isinstance(auth, ExchangedTokenAuth):
            return False
        auth.forget_refused()
        return True


# A refusal that speaks of a template means that it does not exist: no page documents a code for that.
_TEMPLATE = re.compile(r"template|模[板版]", re.IGNORECASE)
_CHOOSE_A_TEMPLATE = Text(
    "Choose one with the node's button, or enter a number of the service's list.",
    "请点击节点上的按钮选择，或填写服务端模板列表中的编号。",
)
