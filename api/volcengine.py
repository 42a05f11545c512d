"""Volcengine 智能扩图 ``i2i_outpainting`` through ``CVProcess``: wire models and the one call.

The interface page (www.volcengine.com/docs/6791/1223722) was not to be had; fields and ranges come from the official
SDKs (volcengine/volc-sdk-java ``VisualImg2ImgOutpaintingRequest.java``, volcengine/volc-sdk-python
``example_img2img_outpainting.py``) and from docs.yutoai.net/api/api-289473244.html.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .cancel import CancelToken
from .credentials import VolcengineAccount
from .errors import Meaning, Outcome, TaskFailedError, meaning_of
from .redaction import pack_logger, shortened
from .text import Text
from .transport import Answer, submit
from .wire import ImageField, NotAccepted, PromptField, WireRequest, code_of, excerpt, json_object

ENDPOINT_NAME = "volcengine outpaint"
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
class FinishedPicture:
    """What one call brought: a base64 picture, a URL to fetch, or both."""

    request_id: str
    base64: str = ""
    url: str = ""


@dataclass(frozen=True)
class VolcengineService:
    """``CVProcess``, paid by one account. The call is synchronous: its answer is the picture."""

    account: VolcengineAccount

    def submit(
        self, request: OutpaintRequest, cancel: CancelToken, on_sent: Callable[[], None] = lambda: None
    ) -> FinishedPicture:
        """Send one call and wait for its picture; ``on_sent`` is called when the service has all of it.

        Raises:
            NotSentError, NoAnswerError, CallCancelled: see :func:`transport.submit`.
            NotAccepted: the answer brought no picture.
        """
        answer = submit(
            self.account.base_url + self.account.path,
            request.json_bytes(),
            params={"Action": "CVProcess", "Version": "2022-08-31"},
            headers={},
            auth=self.account.auth,
            answer_timeout=self.account.deadlines.cvprocess_answer,
            deadlines=self.account.deadlines,
            cancel=cancel,
            on_sent=on_sent,
        )
        return _finished(answer)


def _finished(answer: Answer) -> FinishedPicture:
    body = json_object(answer.body) or {}
    data = body.get("data")
    data = data if isinstance(data, dict) else {}
    metadata = body.get("ResponseMetadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    error = metadata.get("Error") or body.get("error")
    error = error if isinstance(error, dict) else {}
    request_id = str(body.get("request_id") or metadata.get("RequestId") or data.get("request_id") or "")
    code = code_of(body.get("code"))
    if code is None:
        code = code_of(error.get("Code") or error.get("code"))
    algorithm = data.get("algorithm_base_resp")
    algorithm = algorithm if isinstance(algorithm, dict) else {}
    algorithm_code = code_of(algorithm.get("status_code"))
    pack_logger().debug(
        "cvprocess: code=%s algorithm=%s request_id=%s time_elapsed=%s",
        code,
        algorithm_code,
        request_id,
        body.get("time_elapsed"),
    )
    picture = FinishedPicture(request_id, _first(data.get("binary_data_base64")), _first(data.get("image_urls")))
    if code == SUCCESS and algorithm_code in (None, 0) and (picture.base64 or picture.url):
        return picture
    message = str(body.get("message") or error.get("Message") or error.get("message") or "")
    if code == SUCCESS and algorithm_code not in (None, 0):
        meaning, code = _ALGORITHM_FAILED, algorithm_code
        message = str(algorithm.get("status_message") or message)
    else:
        meaning = meaning_of("Volcengine", answer.status, code)
    raise NotAccepted(
        meaning,
        status=answer.status,
        code=code,
        vendor_message=shortened(message, 500) or excerpt(answer.body),
        request_id=request_id,
        retry_after=answer.headers.get("Retry-After", ""),
    )


_ALGORITHM_FAILED = Meaning(
    TaskFailedError, Outcome.FAILED, Text("The service's algorithm reported an error.", "服务端算法报告错误。")
)


def _first(value: Any) -> str:
    """The first text of a list; empty for an empty list, ``null`` or another type."""
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else ""
