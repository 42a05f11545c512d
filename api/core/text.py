"""User-facing text, always in English and Chinese together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """One message in both languages. ``str()`` gives two lines, English first: the browser picks one of them."""

    en: str
    zh: str

    def __str__(self) -> str:
        return f"{self.en}\n{self.zh}"


SETTINGS_DIALOG = Text("Settings → HiDream & Volcengine", "设置 → HiDream 与火山引擎")
