"""What can go wrong with a paid call: one exception tree, one table of vendor codes.

Every error says what happened, whether it was billed and what to do next, in English and Chinese.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import ClassVar, Literal

from .redaction import redact
from .text import Text

Provider = Literal["HiDream", "Volcengine"]
Billed = Literal["no", "yes", "unknown", "nothing"]

_BILLED: dict[Billed, Text] = {
    "no": Text("Billed: no.", "是否计费：否。"),
    "yes": Text("Billed: yes.", "是否计费：是。"),
    "unknown": Text("Billed: unknown.", "是否计费：未知。"),
    "nothing": Text("", ""),
}

# ComfyUI's error dialog shows the module of an exception; the real one is a path on the user's disk.
_SHOWN_MODULE = "hidream_volcengine"


class RemoteImageError(Exception):
    """Base of every error of this pack.

    Attributes:
        what: what happened.
        advice: what to do next.
        provider: the service that spoke, or ``None`` when it was never asked.
        code: the service's own code (or HTTP status), verbatim.
        vendor_message: the service's own words, with known secrets removed.
        request_id, task_id: what the service's support will ask for; empty when there is none.
        journal_id: of the attempt that "submit again" in the task list would free; empty if that is no way out.
        sent_at: when the request was sent, for people; empty where the words say it, or it does not matter.
        billed: ``"no"``, ``"yes"`` or ``"unknown"``; ``"nothing"`` where there is nothing to bill.
    """

    default_billed: ClassVar[Billed] = "no"
    default_advice: ClassVar[Text] = Text("Correct it and queue again.", "请修正后重新运行。")

    def __init_subclass__(cls) -> None:
        cls.__module__ = _SHOWN_MODULE

    def __init__(
        self,
        what: Text,
        *,
        advice: Text | None = None,
        provider: Provider | None = None,
        code: int | str | None = None,
        vendor_message: str = "",
        request_id: str = "",
        task_id: str = "",
        billed: Billed | None = None,
    ) -> None:
        self.what = Text(redact(what.en), redact(what.zh))
        self.advice = Text(redact(advice.en), redact(advice.zh)) if advice else self.default_advice
        self.provider = provider
        self.code = redact(code) if isinstance(code, str) else code
        self.vendor_message = redact(vendor_message)
        self.request_id = redact(request_id)
        self.task_id = redact(task_id)
        self.billed: Billed = billed or self.default_billed
        self.journal_id = ""
        self.sent_at = ""
        self._context = Text("", "")
        super().__init__(self.what)

    def again(self) -> RemoteImageError:
        """The same error, for another call that it also ends."""
        return type(self)(
            self.what,
            advice=self.advice,
            provider=self.provider,
            code=self.code,
            vendor_message=self.vendor_message,
            request_id=self.request_id,
            task_id=self.task_id,
            billed=self.billed,
        )

    def add_context(self, context: Text) -> None:
        """Say what became of the rest of the batch."""
        en, zh = f"{self._context.en} {context.en}".strip(), f"{self._context.zh}{context.zh}"
        self._context = Text(redact(en), redact(zh))

    def text(self) -> Text:
        """The whole message: what happened, the service's own words and ids, whether it was billed, what to do."""
        details, billed, advice, context = self._details(), _BILLED[self.billed], self._whole_advice(), self._context
        return Text(
            " ".join(filter(None, [self.what.en, details, billed.en, advice.en, context.en])),
            " ".join(filter(None, [self.what.zh, details, billed.zh, advice.zh, context.zh])),
        )

    def _whole_advice(self) -> Text:
        if not self.journal_id:
            return self.advice
        return Text(
            f'{self.advice.en} For this one alone: "Submit again" in Remote tasks in the sidebar ({self.journal_id}).',
            f"{self.advice.zh}只重买这一项：侧边栏「远程任务」中的「重新提交」（{self.journal_id}）。",
        )

    def _details(self) -> str:
        code = f"code {self.code}" if isinstance(self.code, int) else self.code
        facts = [
            f"{self.provider or ''} {code}".strip() if code is not None else "",
            f'"{self.vendor_message}"' if self.vendor_message else "",
            f"task_id={self.task_id}" if self.task_id else "",
            f"request_id={self.request_id}" if self.request_id else "",
            f"time={self.sent_at}" if self.sent_at else "",
        ]
        shown = ", ".join(filter(None, facts))
        return f"[{shown}]" if shown else ""

    def __str__(self) -> str:
        return _shown(self.text())


RemoteImageError.__module__ = _SHOWN_MODULE
_shown: Callable[[Text], str] = str


def show_as(shown: Callable[[Text], str]) -> None:
    """Have ``str()`` of an error made by ``shown`` from its text in both languages."""
    global _shown
    _shown = shown


class ConfigurationError(RemoteImageError):
    """A profile, key or setting of this server is missing or wrong. Nothing was sent."""

    default_advice = Text("Correct the setting and queue again.", "请修正设置后重新运行。")


class InvalidInputError(RemoteImageError):
    """A value that the service or this pack does not accept, found before or by a refused submit."""


class AuthenticationError(RemoteImageError):
    """The service did not accept the key, token or signature."""

    default_advice = Text(
        "Check the key of this profile and the server's clock, then queue again.",
        "请检查该配置的密钥以及服务器时间，然后重新运行。",
    )


class QuotaError(RemoteImageError):
    """The account has no balance, or lacks the right to this service."""

    default_advice = Text("Check the balance and the plan of the account.", "请检查账户余额与套餐权限。")


class RateLimitError(RemoteImageError):
    """The service kept asking to slow down until the queue deadline passed."""

    default_advice = Text("Wait a little and queue again.", "请稍候再重新运行。")


class ModerationError(RemoteImageError):
    """The service's content check rejected the input or the result."""

    default_advice = Text("Change the image or the prompt.", "请更换图片或提示词。")


class TaskFailedError(RemoteImageError):
    """The service accepted the task and then reported that it failed."""

    default_billed = "unknown"
    default_advice = Text(
        "Change the input, or change `take` to try again (a new purchase).",
        "请修改输入，或修改 `take` 再试一次（会重新付费）。",
    )


class AmbiguousSubmitError(RemoteImageError):
    """The submit may or may not have been accepted. It is never sent again by itself."""

    default_billed = "unknown"
    default_advice = Text(
        "It is not sent again by itself, so that you do not pay twice. Look at the account's task list or bill; "
        "to buy it anyway, change `take`.",
        "为避免重复付费，不会自动再次提交。请先查看账户的任务列表或账单；仍需购买时请修改 `take`。",
    )


class TaskTimeoutError(RemoteImageError):
    """The deadline passed before the task ended, or its picture could not be fetched. The task is not lost."""

    default_billed = "unknown"
    default_advice = Text(
        "The task is not lost: queue again and it goes on where it was, free of charge; or fetch it with the node "
        "Remote Task Result.",
        "任务没有丢失：重新运行即可免费继续，也可用「取回远程任务」节点取回。",
    )


class ServiceError(RemoteImageError):
    """The service answered in a way that ends the call, with its own words shown."""

    default_advice = Text("If it stays, ask the service with the ids above.", "若持续出现，请凭以上 ID 联系服务方。")


class ConnectionFailedError(RemoteImageError):
    """The service could not be reached; nothing was sent."""

    default_advice = Text(
        "Check the network, the proxy and the host name of this profile, then queue again.",
        "请检查网络、代理以及该配置的主机地址，然后重新运行。",
    )


class Outcome(Enum):
    """Row of the submit table: what an answer to a submit means for the money."""

    BUSY = "not accepted, may be sent again later"
    REFUSED = "not accepted, not billed"
    AMBIGUOUS = "may have been accepted"
    FAILED = "accepted, then failed"

    @property
    def billed(self) -> Billed:
        return "no" if self in (Outcome.BUSY, Outcome.REFUSED) else "unknown"


@dataclass(frozen=True)
class Meaning:
    """What a vendor code or an HTTP status stands for."""

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


def _input(what: Text, advice: Text | None = None) -> Meaning:
    return Meaning(InvalidInputError, Outcome.REFUSED, what, advice)


# Codes: Volcengine's tables (volcengine.com/docs/6444/69728); HiDream's few known ones
# (hidreamai.com/doc/commercial/request, and the client HiDream-ai/hidream-api-gen).
VENDOR_CODES: dict[tuple[Provider, int], Meaning] = {
    ("Volcengine", 50411): Meaning(ModerationError, Outcome.REFUSED, _INPUT_MODERATED),
    ("Volcengine", 50412): Meaning(ModerationError, Outcome.REFUSED, _TEXT_MODERATED),
    ("Volcengine", 50413): Meaning(
        ModerationError,
        Outcome.REFUSED,
        Text("The prompt contains sensitive or copyrighted words.", "提示词含有敏感词或版权词。"),
    ),
    ("Volcengine", 50512): Meaning(ModerationError, Outcome.REFUSED, _TEXT_MODERATED),
    ("Volcengine", 50518): Meaning(
        ModerationError,
        Outcome.REFUSED,
        Text("The input image was rejected by the copyright check.", "输入图片未通过版权审核。"),
    ),
    ("Volcengine", 50511): Meaning(ModerationError, Outcome.FAILED, _OUTPUT_MODERATED),
    ("Volcengine", 50516): Meaning(ModerationError, Outcome.FAILED, _OUTPUT_MODERATED),
    ("Volcengine", 50517): Meaning(ModerationError, Outcome.FAILED, _OUTPUT_MODERATED),
    ("Volcengine", 50519): Meaning(
        ModerationError,
        Outcome.FAILED,
        Text("The result was rejected by the copyright check.", "生成结果未通过版权审核。"),
    ),
    ("Volcengine", 50429): Meaning(RateLimitError, Outcome.BUSY, _TOO_FAST),
    ("Volcengine", 50430): Meaning(RateLimitError, Outcome.BUSY, _TOO_MANY),
    ("Volcengine", 50500): Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, _INTERNAL),
    ("Volcengine", 50501): Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, _INTERNAL),
    ("Volcengine", 50520): Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, _INTERNAL),
    ("Volcengine", 50521): Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, _INTERNAL),
    ("Volcengine", 50522): Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, _INTERNAL),
    # The common table of all its visual services, as three public clients mirror it.
    ("Volcengine", 50200): _input(_ARGUMENT),
    ("Volcengine", 50201): _input(_ARGUMENT),
    ("Volcengine", 50204): _input(_ARGUMENT),
    ("Volcengine", 50205): _input(_TOO_LARGE, _MAKE_SMALLER),
    ("Volcengine", 50206): _input(Text("The service found no image in the request.", "服务端未在请求中找到图片。")),
    ("Volcengine", 50207): _input(
        Text(
            "The service cannot decode the image: it is too small, or damaged.",
            "服务端无法解码图片：尺寸过小或已损坏。",
        ),
        Text("Use a larger image, or save it anew, and queue again.", "请换用更大的图片或重新保存后再运行。"),
    ),
    ("Volcengine", 50209): _input(_VIDEO),
    ("Volcengine", 50210): _input(_VIDEO),
    ("Volcengine", 50211): _input(_VIDEO),
    ("Volcengine", 50213): _input(
        Text("The body of the request is too large for the service.", "请求体超过服务端上限。"), _MAKE_SMALLER
    ),
    ("Volcengine", 50214): _input(_VIDEO),
    ("Volcengine", 50215): _input(
        Text(
            "The service could not process this: the image or the parameters are unsuitable.",
            "服务端处理失败：图片或参数不适用。",
        ),
        Text("Change the image or the parameters and queue again.", "请更换图片或参数后重新运行。"),
    ),
    ("Volcengine", 60102): _input(
        Text("The service found no face in the image.", "服务端未在图片中检测到人脸。"),
        Text("Use an image with a face.", "请使用包含人脸的图片。"),
    ),
    ("Volcengine", 60208): Meaning(ModerationError, Outcome.REFUSED, _INPUT_MODERATED),
    ("Volcengine", 50400): Meaning(
        AuthenticationError,
        Outcome.REFUSED,
        Text("This account has no access to this service.", "该账户无权使用此服务。"),
        Text(
            "Open the service for this account in the console, then queue again.",
            "请在控制台为该账户开通此服务，然后重新运行。",
        ),
    ),
    ("Volcengine", 50402): Meaning(
        ConfigurationError,
        Outcome.REFUSED,
        Text("This host does not offer the interface that was called.", "该服务地址不提供所调用的接口。"),
        Text(
            "This gateway does not offer it: use another one, or Volcengine itself.",
            "该网关不提供此接口：请改用其他网关，或直接使用火山引擎。",
        ),
    ),
    ("HiDream", 1051): Meaning(
        InvalidInputError,
        Outcome.REFUSED,
        Text("The service found the image field abnormal.", "服务端认为图片字段异常。"),
    ),
    ("HiDream", 2031): Meaning(
        ServiceError,
        Outcome.REFUSED,
        Text("The model is not available for this account or host.", "该账户或主机无法使用此模型。"),
    ),
}

# `task_status` of a HiDream sub task that has ended without a picture (hidreamai.com/doc/txt2video/result).
TASK_STATUS: dict[int, Meaning] = {
    3: Meaning(
        TaskFailedError, Outcome.FAILED, Text("The service reports the task as failed.", "服务端报告任务失败。")
    ),
    4: Meaning(
        ModerationError,
        Outcome.FAILED,
        Text("The task was rejected by the service's content check.", "任务未通过服务端内容审核。"),
    ),
    1004: Meaning(TaskFailedError, Outcome.FAILED, _NO_RESULT),
    1005: Meaning(TaskFailedError, Outcome.FAILED, _NO_RESULT),
    1006: Meaning(TaskFailedError, Outcome.FAILED, _NO_RESULT),
}

NO_BALANCE = Meaning(QuotaError, Outcome.REFUSED, Text("The account's balance is not enough.", "账户余额不足。"))
GATEWAY_FAILED = Meaning(
    AmbiguousSubmitError,
    Outcome.AMBIGUOUS,
    Text(
        "The gateway says that its call of the service failed: the service may have accepted it.",
        "网关报告调用上游服务失败，服务端可能已经受理。",
    ),
)
ALGORITHM_FAILED = Meaning(
    TaskFailedError, Outcome.FAILED, Text("The service's algorithm reported an error.", "服务端算法报告错误。")
)

UNDECIDED = Meaning(
    AmbiguousSubmitError,
    Outcome.AMBIGUOUS,
    Text("The service did not say what became of the request.", "服务端未说明该请求的处理结果。"),
)

_KEY_REFUSED = Text("The service did not accept the key.", "服务端未接受该密钥。")
_HTTP_STATUS: dict[int, Meaning] = {
    HTTPStatus.UNAUTHORIZED: Meaning(AuthenticationError, Outcome.REFUSED, _KEY_REFUSED),
    HTTPStatus.FORBIDDEN: Meaning(
        AuthenticationError,
        Outcome.REFUSED,
        Text("The service denied access with this key.", "服务端拒绝了该密钥的访问。"),
    ),
    HTTPStatus.PAYMENT_REQUIRED: NO_BALANCE,
    HTTPStatus.REQUEST_TIMEOUT: Meaning(
        AmbiguousSubmitError,
        Outcome.AMBIGUOUS,
        Text("The service gave up waiting for the request.", "服务端等待请求超时。"),
    ),
    # 499 is what proxies say when the connection ended before the answer of the service behind them.
    **dict.fromkeys((HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, 499), UNDECIDED),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Meaning(
        InvalidInputError,
        Outcome.REFUSED,
        Text("The request is too large for the service.", "请求体超过服务端上限。"),
    ),
    HTTPStatus.TOO_MANY_REQUESTS: Meaning(RateLimitError, Outcome.BUSY, _TOO_FAST),
}

# Gateway errors of Volcengine carry a word instead of a number (docs.byteplus.com/byteplus-vision); only this one has
# been seen.
_AUTHENTICATION_WORDS = frozenset({"SignatureDoesNotMatch"})


_SUCCESS_CODES = frozenset({0, 1, 1000, 10000, 20000, *range(200, 300)})
_SUCCESS_WORDS = {"ok", "success", "successful", "successfully", "succeed", "succeeded", "done", "completed", "true"}
_SUCCESS_WORDS |= {"accepted", "submitted", "processing", "pending", "queued", "created", "200ok", "requestsuccess"}
_SUCCESS_WORDS |= {"submitsuccess", "成功", "提交成功", "请求成功"}
# Of a gateway, in a body: its call of the service timed out, or failed on the way.
_UNDECIDED_CODES = frozenset({408, 409, 425, 499, *range(500, 600)})


def is_success(code: int | str | None) -> bool:
    """Whether a code says success: by the services' own numbers, by a gateway's, or because there is none."""
    return code in (None, "") or code in _SUCCESS_CODES or (isinstance(code, str) and is_success_word(code))


def is_success_word(words: str) -> bool:
    return "".join(filter(str.isalnum, words.lower())) in _SUCCESS_WORDS


def is_undecided(code: int | str | None) -> bool:
    """Whether a code in a body is an HTTP status after which a request may have been accepted."""
    return code in _UNDECIDED_CODES


def known_code(provider: Provider, code: int | str | None) -> Meaning | None:
    """What a code of the service's own table means."""
    return VENDOR_CODES.get((provider, code)) if isinstance(code, int) else None


def meaning_of(provider: Provider, status: int, code: int | str | None) -> Meaning:
    """Row of the submit table for an answer that brought neither a task id nor a picture.

    Args:
        provider: who answered.
        status: HTTP status.
        code: the ``code`` of a JSON body (``None`` when there was no JSON object, or no code in it).
    """
    known = known_code(provider, code)
    if known is not None and not (status >= 500 and known.outcome in (Outcome.REFUSED, Outcome.BUSY)):
        return known
    if isinstance(code, str) and code in _AUTHENTICATION_WORDS:
        return _HTTP_STATUS[HTTPStatus.UNAUTHORIZED]
    if status in _HTTP_STATUS:
        return _HTTP_STATUS[status]
    if status >= 500:
        what = Text(f"The service answered with HTTP {status}.", f"服务端返回 HTTP {status}。")
        return Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, what)
    if 300 <= status < 400:
        what = Text(
            f"The service redirected the request (HTTP {status}); paid requests follow no redirect.",
            f"服务端返回重定向（HTTP {status}）；付费请求不跟随重定向。",
        )
        return Meaning(ConfigurationError, Outcome.REFUSED, what)
    if status >= 400:
        what = Text(f"The service refused the request (HTTP {status}).", f"服务端拒绝了请求（HTTP {status}）。")
        return Meaning(ServiceError, Outcome.REFUSED, what)
    if not is_success(code):
        what = Text("The service refused the request.", "服务端拒绝了请求。")
        return Meaning(ServiceError, Outcome.REFUSED, what)
    what = Text(
        "The service's answer could not be understood: it has neither a task id nor a picture.",
        "无法理解服务端的应答：既没有任务 ID 也没有图片。",
    )
    return Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, what)


def refusal(
    provider: Provider,
    meaning: Meaning,
    *,
    code: int | str | None,
    vendor_message: str,
    request_id: str,
    task_id: str = "",
) -> RemoteImageError:
    """The exception for a ``meaning``, with the service's own words."""
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
