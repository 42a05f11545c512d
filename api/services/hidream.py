"""HiDream (智象未来): wire models, endpoints, submit and result query.

Pages: hidreamai.com/doc/outpainting/request, www.hidreamai.com/docs/pixeling/img2img,
hidreamai.com/doc/image_upscaler/request, hidreamai.com/doc/variation/request. The result pages of these four were not
found; the rule "GET <submit URL>/results" is the documented one of their siblings (hidreamai.com/doc/txt2video/result).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from ..core import (
    HIDREAM_IMAGE_TO_IMAGE,
    HIDREAM_MODEL_PHOTO_SET,
    HIDREAM_OUTPAINT,
    HIDREAM_UPSCALE,
    MAX_CANVAS,
    Accepted,
    AspectRatio,
    Ceiling,
    ConfigurationError,
    InvalidInputError,
    Provider,
    SubTask,
    TaskRef,
    Text,
    UpscaleRatio,
    on_codec_pool,
    pack_logger,
)
from ..transport import ExchangedTokenAuth, HiDreamAccount, Phases, ask, post_once
from .answers import NotAccepted, Reply, no_answer_is_a_poll_error, sent_texts
from .model import ImageField, PromptField, WireRequest
from .outcome import Outcome
from .sub_tasks import sub_tasks_in

MAX_MODEL_PHOTO = 2048


# ---- requests


def _within_canvas(resolution: str) -> str:
    if max(int(side) for side in resolution.split("*")) > MAX_CANVAS:
        raise ValueError(f"at most {MAX_CANVAS}*{MAX_CANVAS}")
    return resolution


class HiDreamRequest(WireRequest):
    """Fields that every submit may have."""

    request_id: str = ""
    notify_url: str | None = Field(None, repr=False)


class OutpaintRequest(HiDreamRequest):
    """v3 outpainting: ``image`` has the size that it gets in the canvas of ``resolution`` ("W*H", each ≤ 1024)."""

    image: ImageField
    x_offset: Annotated[int, Field(ge=0, le=MAX_CANVAS)]
    y_offset: Annotated[int, Field(ge=0, le=MAX_CANVAS)]
    version: Literal["v1"] = "v1"
    resolution: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}\*[1-9][0-9]{0,3}$"), AfterValidator(_within_canvas)]


class ImageToImageRequest(HiDreamRequest):
    """v2 img2img: one image, or a list of references."""

    image: ImageField | Annotated[list[ImageField], Field(min_length=1)]
    prompt: PromptField = ""
    negative_prompt: PromptField = ""
    aspect_ratio: AspectRatio = "1:1"
    img_count: Annotated[int, Field(ge=1, le=4)] = 1


class UpscaleRequest(HiDreamRequest):
    """v3 image_upscaler; the service spells the field ``upsale_ratio``."""

    image: ImageField
    upsale_ratio: UpscaleRatio
    version: Literal["v1"] = "v1"


class ModelPhotoSetRequest(HiDreamRequest):
    """ec v3 variation (模特套图): a 3:4 photo of at most 2K, and a template."""

    image: ImageField
    template_id: Annotated[int, Field(ge=1)]


# ---- endpoints


@dataclass(frozen=True)
class Rate:
    """How many pictures of an endpoint HiDream's pages allow in any 60 seconds.

    ``setting`` is the name of the profile's setting with the limit, ``default`` its value where nothing sets it.
    """

    setting: str
    default: int


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: its paths for submits and results, its rate, and the optional headers that its page lists."""

    name: str
    submit_path: str
    results_path: str
    rate: Rate | None = None
    on_ec_host: bool = False
    takes_user_id: bool = True
    takes_language: bool = False
    # Seconds after which a task that the service does not know counts as forgotten; no page says how long it is kept.
    kept_for: float = 24 * 3600.0


OUTPAINT = Endpoint(
    HIDREAM_OUTPAINT,
    "/api-pub/gw/v3/image/outpainting/async",
    "/api-pub/gw/v3/image/outpainting/async/results",
    Rate("hidream_outpaint_per_minute", 20),
    takes_language=True,
)
IMAGE_TO_IMAGE = Endpoint(
    HIDREAM_IMAGE_TO_IMAGE,
    "/api-pub/gw/v2/image/img2img/async",
    "/api-pub/gw/v2/image/img2img/async/results",
    Rate("hidream_img2img_per_minute", 100),
)
UPSCALE = Endpoint(
    HIDREAM_UPSCALE,
    "/api-pub/gw/v3/image/image_upscaler/async",
    "/api-pub/gw/v3/image/image_upscaler/async/results",
    takes_language=True,
)
MODEL_PHOTO_SET = Endpoint(
    HIDREAM_MODEL_PHOTO_SET,
    "/api-pub/ec/v3/image/variation/async",
    "/api-pub/ec/v3/image/variation/async/results",
    on_ec_host=True,
    takes_user_id=False,
)
ENDPOINTS = {endpoint.name: endpoint for endpoint in (OUTPAINT, IMAGE_TO_IMAGE, UPSCALE, MODEL_PHOTO_SET)}
HIDREAM_RATES = tuple(endpoint.rate for endpoint in ENDPOINTS.values() if endpoint.rate is not None)


def endpoint_named(name: str) -> Endpoint:
    """The endpoint of a task in the journal.

    Raises:
        ConfigurationError: it is not known: a later version of this pack submitted the task.
    """
    if name not in ENDPOINTS:
        raise ConfigurationError(Text(f"This version knows no endpoint {name!r}.", f"此版本不支持端点 {name!r}。"))
    return ENDPOINTS[name]


# ---- the service


@dataclass(frozen=True)
class HiDreamService:
    """One endpoint, paid by one account."""

    account: HiDreamAccount
    endpoint: Endpoint
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
        limits, rate = self.account.limits, self.endpoint.rate
        return Ceiling(limits.at_once, limits.per_minute.get(rate.setting) if rate is not None else None)

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
        sent = self.account.request(self.base_url + self.endpoint.submit_path, headers=headers, body=body)
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
