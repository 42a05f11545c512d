"""What a service's answer means: one table of vendor codes, HTTP statuses and words."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from http import HTTPStatus
from types import MappingProxyType

from ..core import (
    AmbiguousSubmitError,
    AuthenticationError,
    Billed,
    ConfigurationError,
    InvalidInputError,
    ModerationError,
    Provider,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    Text,
)


class Outcome(Enum):
    """Whether a submit was accepted, and so whether it may be billed: the rows of the submit table."""

    BUSY = "not accepted, may be sent again later"
    REFUSED = "not accepted, not billed"
    AMBIGUOUS = "may have been accepted"
    FAILED = "accepted, then failed"

    @property
    def billed(self) -> Billed:
        return "no" if self in (Outcome.BUSY, Outcome.REFUSED) else "unknown"


@dataclass(frozen=True)
class Meaning:
    """What a vendor code or an HTTP status stands for: the exception to raise, the outcome, and words for the user."""

    error: type[RemoteImageError]
    outcome: Outcome
    what: Text
    advice: Text | None = None


_INPUT_MODERATED = Text("The input image was rejected by the content check.", "输入图片未通过内容审核。")
_TEXT_MODERATED = Text("The prompt was rejected by the content check.", "提示词未通过内容审核。")
_OUTPUT_MODERATED = Text("The result was rejected by the content check.", "生成结果未通过内容审核。")
_INTERNAL = Text("The service reported an internal error.", "服务端内部错误。")
_TOO_FAST = Text("The service is limiting the rate of requests.", "服务端限流：请求过于频繁。")
_TOO_MANY = Text("Too many requests at once for this account.", "并发请求数超过账户上限。")
_NO_RESULT = Text("The algorithm produced no picture; change the prompt.", "算法无生成结果，请更换提示词。")
_ARGUMENT = Text("The service found a parameter of the request wrong or missing.", "服务端认为请求参数有误或缺失。")
_TOO_LARGE = Text("The image is too large for the service.", "图片超过服务端上限。")
_MAKE_SMALLER = Text("Make the image smaller and queue again.", "请缩小图片后重新运行。")
_VIDEO = Text("The service expected a video it can read.", "服务端要求可读取的视频。")

_refused = partial(Meaning, ServiceError, Outcome.REFUSED)
_no_access = partial(Meaning, AuthenticationError, Outcome.REFUSED)
_input = partial(Meaning, InvalidInputError, Outcome.REFUSED)
_rejected = partial(Meaning, ModerationError, Outcome.REFUSED)
_result_rejected = partial(Meaning, ModerationError, Outcome.FAILED)
_busy = partial(Meaning, RateLimitError, Outcome.BUSY)
_ambiguous = partial(Meaning, AmbiguousSubmitError, Outcome.AMBIGUOUS)
_failed = partial(Meaning, TaskFailedError, Outcome.FAILED)

# Volcengine's codes (volcengine.com/docs/6444/69728).
_VOLCENGINE: dict[int, Meaning] = {
    50411: _rejected(_INPUT_MODERATED),
    **dict.fromkeys((50412, 50512), _rejected(_TEXT_MODERATED)),
    50413: _rejected(Text("The prompt contains sensitive or copyrighted words.", "提示词含有敏感词或版权词。")),
    50518: _rejected(Text("The input image was rejected by the copyright check.", "输入图片未通过版权审核。")),
    **dict.fromkeys((50511, 50516, 50517), _result_rejected(_OUTPUT_MODERATED)),
    50519: _result_rejected(Text("The result was rejected by the copyright check.", "生成结果未通过版权审核。")),
    50429: _busy(_TOO_FAST),
    50430: _busy(_TOO_MANY),
    **dict.fromkeys((50500, 50501, 50520, 50521, 50522), _ambiguous(_INTERNAL)),
    # The common table of all its visual services, as three public clients mirror it.
    **dict.fromkeys((50200, 50201, 50204), _input(_ARGUMENT)),
    50205: _input(_TOO_LARGE, _MAKE_SMALLER),
    50206: _input(Text("The service found no image in the request.", "服务端未在请求中找到图片。")),
    50207: _input(
        Text(
            "The service cannot decode the image: it is too small, or damaged.",
            "服务端无法解码图片：尺寸过小或已损坏。",
        ),
        Text("Use a larger image, or save it anew, and queue again.", "请换用更大的图片或重新保存后再运行。"),
    ),
    **dict.fromkeys((50209, 50210, 50211, 50214), _input(_VIDEO)),
    50213: _input(
        Text("The body of the request is too large for the service.", "请求体超过服务端上限。"), _MAKE_SMALLER
    ),
    50215: _input(
        Text(
            "The service could not process this: the image or the parameters are unsuitable.",
            "服务端处理失败：图片或参数不适用。",
        ),
        Text("Change the image or the parameters and queue again.", "请更换图片或参数后重新运行。"),
    ),
    60102: _input(
        Text("The service found no face in the image.", "服务端未在图片中检测到人脸。"),
        Text("Use an image with a face.", "请使用包含人脸的图片。"),
    ),
    60208: _rejected(_INPUT_MODERATED),
    50400: _no_access(
        Text("This account has no access to this service.", "该账户无权使用此服务。"),
        Text(
            "Open the service for this account in the console, then queue again.",
            "请在控制台为该账户开通此服务，然后重新运行。",
        ),
    ),
    50402: Meaning(
        ConfigurationError,
        Outcome.REFUSED,
        Text("This host does not offer the interface that was called.", "该服务地址不提供所调用的接口。"),
        Text(
            "This gateway does not offer it: use another one, or Volcengine itself.",
            "该网关不提供此接口：请改用其他网关，或直接使用火山引擎。",
        ),
    ),
}
# HiDream's few known codes (hidreamai.com/doc/commercial/request, and the client HiDream-ai/hidream-api-gen).
_HIDREAM: dict[int, Meaning] = {
    1051: _input(Text("The service found the image field abnormal.", "服务端认为图片字段异常。")),
    2031: _refused(Text("The model is not available for this account or host.", "该账户或主机无法使用此模型。")),
}
VENDOR_CODES: dict[tuple[Provider, int], Meaning] = {
    **{("Volcengine", code): meaning for code, meaning in _VOLCENGINE.items()},
    **{("HiDream", code): meaning for code, meaning in _HIDREAM.items()},
}
# `task_status` of a HiDream sub task that has ended without a picture (hidreamai.com/doc/txt2video/result).
TASK_STATUS: dict[int, Meaning] = {
    3: _failed(Text("The service reports the task as failed.", "服务端报告任务失败。")),
    4: _result_rejected(Text("The task was rejected by the service's content check.", "任务未通过服务端内容审核。")),
    **dict.fromkeys((1004, 1005, 1006), _failed(_NO_RESULT)),
}
_NO_BALANCE = Meaning(QuotaError, Outcome.REFUSED, Text("The account's balance is not enough.", "账户余额不足。"))
_GATEWAY_FAILED = _ambiguous(
    Text(
        "The gateway says that its call of the service failed: the service may have accepted it.",
        "网关报告调用上游服务失败，服务端可能已经受理。",
    )
)
_ALGORITHM_FAILED = _failed(Text("The service's algorithm reported an error.", "服务端算法报告错误。"))
_UNDECIDED = _ambiguous(Text("The service did not say what became of the request.", "服务端未说明该请求的处理结果。"))
_KEY_REFUSED = _no_access(Text("The service did not accept the key.", "服务端未接受该密钥。"))
_REFUSED = _refused(Text("The service refused the request.", "服务端拒绝了请求。"))
_NOT_UNDERSTOOD = _ambiguous(
    Text(
        "The service's answer could not be understood: it has neither a task id nor a picture.",
        "无法理解服务端的应答：既没有任务 ID 也没有图片。",
    )
)
_HTTP_STATUS: dict[int, Meaning] = {
    HTTPStatus.UNAUTHORIZED: _KEY_REFUSED,
    HTTPStatus.FORBIDDEN: _no_access(Text("The service denied access with this key.", "服务端拒绝了该密钥的访问。")),
    HTTPStatus.PAYMENT_REQUIRED: _NO_BALANCE,
    HTTPStatus.REQUEST_TIMEOUT: _ambiguous(
        Text("The service gave up waiting for the request.", "服务端等待请求超时。")
    ),
    # 499: said by a proxy when the connection ended before the service behind it had answered.
    **dict.fromkeys((HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, 499), _UNDECIDED),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _input(
        Text("The request is too large for the service.", "请求体超过服务端上限。")
    ),
    HTTPStatus.TOO_MANY_REQUESTS: _busy(_TOO_FAST),
}
# Gateway errors of Volcengine carry a word instead of a number (docs.byteplus.com/byteplus-vision); only this one has
# been seen.
_AUTHENTICATION_WORDS = frozenset({"SignatureDoesNotMatch"})
# By the services and by gateways.
_SUCCESS_CODES = frozenset({0, 1, 1000, 10000, 20000, *range(200, 300)})
_SUCCESS_WORDS = {"ok", "success", "successful", "successfully", "succeed", "succeeded", "done", "completed", "true"}
_SUCCESS_WORDS |= {"accepted", "submitted", "processing", "pending", "queued", "created", "200ok", "requestsuccess"}
_SUCCESS_WORDS |= {"submitsuccess", "成功", "提交成功", "请求成功"}
# HTTP statuses as the code in a gateway's body: its call of the service timed out, or failed on the way.
_UNDECIDED_CODES = frozenset({408, 409, 425, 499, *range(500, 600)})


def is_success(code: int | str | None) -> bool:
    """Whether a code says success: a number or word of the services or of gateways, or no code at all."""
    return code in (None, "") or code in _SUCCESS_CODES or (isinstance(code, str) and is_success_word(code))


def is_success_word(words: str) -> bool:
    """Whether a whole text says no more than success; case, spaces and punctuation do not count."""
    return "".join(filter(str.isalnum, words.lower())) in _SUCCESS_WORDS


def is_undecided(code: int | str | None) -> bool:
    """Whether a code in a body is an HTTP status after which a request may have been accepted."""
    return code in _UNDECIDED_CODES


def known_code(provider: Provider, code: int | str | None) -> Meaning | None:
    """What a code of the service's own table means; ``None`` if it is not in there."""
    return VENDOR_CODES.get((provider, code)) if isinstance(code, int) else None


# ---- from an answer to its meaning


class Sign(Enum):
    """What an answer says beside its HTTP status and the code that decides."""

    GATEWAY = "a gateway says that its call of the service failed"
    NO_BALANCE = "its words are those of an empty account"
    ALGORITHM = "Volcengine's algorithm reports an error"
    UNDECIDED = "one of its codes is an HTTP status after which the request may have been accepted"
    SUCCESS = "one of its codes or messages says success"
    FAILURE = "not all of it says success"
    # These follow from the code that decides.
    KNOWN = "it is in the service's table"
    NOT_ACCEPTED = "it is in the service's table, for a request that was not accepted"
    KEY = "it is a word for a refused key"
    FAILING = "it is no success"


def meaning_of(
    provider: Provider, status: int, code: int | str | None, signs: Mapping[Sign, bool] = MappingProxyType({})
) -> Meaning:
    """Row of the submit table for an answer that brought neither a task id nor a picture.

    Args:
        provider: who answered.
        status: HTTP status.
        code: the code that decides (``None`` when there was no JSON object, or no code in it).
        signs: what else it says, and what not.
    """
    known = known_code(provider, code)
    of_the_code = {
        Sign.KNOWN: known is not None,
        Sign.NOT_ACCEPTED: known is not None and known.outcome in (Outcome.REFUSED, Outcome.BUSY),
        Sign.KEY: code in _AUTHENTICATION_WORDS,
        Sign.FAILING: not is_success(code),
    }
    said = {sign for sign, is_said in {**signs, **of_the_code}.items() if is_said}
    by_code, by_status = known or _NOT_UNDERSTOOD, _meaning_of_status(status)
    # The first row decides that needs no sign that the answer lacks, and that lists the answer's HTTP status.
    rows: tuple[tuple[set[Sign], Container[int], Meaning], ...] = (
        ({Sign.GATEWAY, Sign.KNOWN}, _ANY, by_code),
        ({Sign.GATEWAY, Sign.NO_BALANCE}, _ANY, _NO_BALANCE),
        ({Sign.GATEWAY}, _ANY, _GATEWAY_FAILED),
        # With HTTP 5xx a code for "not accepted" is not relied on.
        ({Sign.NOT_ACCEPTED}, _SERVER_FAILED, by_status),
        ({Sign.KNOWN}, _ANY, by_code),
        ({Sign.ALGORITHM}, _ANY, _ALGORITHM_FAILED),
        ({Sign.NO_BALANCE, Sign.FAILURE}, range(_SERVER_FAILED.start), _NO_BALANCE),
        ({Sign.UNDECIDED}, _ANY - {401, 402, 403, 429}, _UNDECIDED),
        # If one code or message says success and another one failure, whether it was accepted is not known.
        ({Sign.SUCCESS}, range(300), _NOT_UNDERSTOOD),
        ({Sign.KEY}, _ANY, _KEY_REFUSED),
        (set(), range(300, 1000), by_status),
        ({Sign.FAILING}, _ANY, _REFUSED),
        (set(), _ANY, _NOT_UNDERSTOOD),
    )
    return next(meaning for needed, statuses, meaning in rows if needed <= said and status in statuses)


_ANY = frozenset(range(1000))
_SERVER_FAILED = range(500, 1000)


def _meaning_of_status(status: int) -> Meaning:
    """What an HTTP status from 300 on means without a code that is known."""
    if status in _HTTP_STATUS:
        return _HTTP_STATUS[status]
    if status in _SERVER_FAILED:
        return _ambiguous(Text(f"The service answered with HTTP {status}.", f"服务端返回 HTTP {status}。"))
    if status < 400:
        what = Text(
            f"The service redirected the request (HTTP {status}); paid requests follow no redirect.",
            f"服务端返回重定向（HTTP {status}）；付费请求不跟随重定向。",
        )
        return Meaning(ConfigurationError, Outcome.REFUSED, what)
    return _refused(Text(f"The service refused the request (HTTP {status}).", f"服务端拒绝了请求（HTTP {status}）。"))


def refusal(
    provider: Provider,
    meaning: Meaning,
    *,
    code: int | str | None,
    vendor_message: str,
    request_id: str,
    task_id: str = "",
) -> RemoteImageError:
    """The exception for ``meaning``, with ``vendor_message``, the service's own words; the caller raises it."""
    advice = meaning.advice
    if meaning.outcome is Outcome.FAILED and meaning.error is ModerationError:
        advice = TaskFailedError.default_advice
    return meaning.error(
        meaning.what,
        advice=advice,
        provider=provider,
        code=code,
        vendor_message=vendor_message,
        request_id=request_id,
        task_id=task_id,
        billed=meaning.outcome.billed,
    )
