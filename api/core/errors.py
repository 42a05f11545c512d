"""The exceptions that a node may end with: one tree below :class:`RemoteImageError`.

Every error says what happened, whether it was billed and what to do next, in English and Chinese.
"""

from __future__ import annotations

from collections.abc import Callable
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
        provider: the service that this is about, or ``None`` if it is about none.
        code: the service's own code (or HTTP status), verbatim.
        vendor_message: the service's own words, with known secrets removed.
        request_id, task_id: what the service's support will ask for; empty when there is none.
        journal_id: the attempt to choose "Submit again" for in the task list; empty if that would not help.
        sent_at: when the request was sent, as shown to the user; empty where ``what`` says it or it does not matter.
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
        """A new error with the same content, for another call that ends for the same reason.

        ``journal_id``, ``sent_at`` and the context belong to one call and are not copied.
        """
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
        """Append to the message what became of the rest of the batch."""
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
    """Let ``shown`` make ``str()`` of every error from its text in both languages; until then it is both."""
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
