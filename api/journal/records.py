"""Errors as the journal keeps them."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel

from ..core.errors import Billed, Provider, RemoteImageError
from ..core.text import Text


class ErrorRecord(BaseModel):
    """A :class:`RemoteImageError` as JSON; secrets were taken out of it when it was made."""

    kind: str
    what_en: str
    what_zh: str
    advice_en: str
    advice_zh: str
    provider: str | None = None
    code: int | str | None = None
    vendor_message: str = ""
    request_id: str = ""
    task_id: str = ""
    billed: str = "unknown"

    @classmethod
    def of(cls, error: RemoteImageError) -> ErrorRecord:
        return cls(
            kind=type(error).__name__,
            what_en=error.what.en,
            what_zh=error.what.zh,
            advice_en=error.advice.en,
            advice_zh=error.advice.zh,
            provider=error.provider,
            code=error.code,
            vendor_message=error.vendor_message,
            request_id=error.request_id,
            task_id=error.task_id,
            billed=error.billed,
        )

    def error(self, before: Text | None = None) -> RemoteImageError:
        """The error again, its words preceded by ``before``."""
        kind = _KINDS.get(self.kind, RemoteImageError)
        en, zh = (f"{before.en} ", before.zh) if before else ("", "")
        return kind(
            Text(en + self.what_en, zh + self.what_zh),
            advice=Text(self.advice_en, self.advice_zh),
            provider=cast("Provider | None", self.provider),
            code=self.code,
            vendor_message=self.vendor_message,
            request_id=self.request_id,
            task_id=self.task_id,
            billed=cast(Billed, self.billed),
        )


def _all_kinds(kind: type[RemoteImageError]) -> dict[str, type[RemoteImageError]]:
    kinds = {kind.__name__: kind}
    for sub in kind.__subclasses__():
        kinds.update(_all_kinds(sub))
    return kinds


_KINDS = _all_kinds(RemoteImageError)
