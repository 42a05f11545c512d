"""The tables of inputs and outputs in the help pages, web/docs/NODE.md and web/docs/NODE/zh.md.

The sections of these tables are generated whole; the other sections of a page are written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.catalog import (
    NODES,
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    IntWidget,
    Node,
    ProfileWidget,
    Socket,
    StringWidget,
    Widget,
)
from api.core import Text
from devtools.environment import ROOT

_DOCS = ROOT / "web" / "docs"
_HEAD = Text("| name | meaning |", "| 名称 | 含义 |")
_NONE = Text("None.", "无。")
_INPUTS, _OUTPUTS = Text("Inputs", "输入"), Text("Outputs", "输出")
# After the words of an input: its default, and what it can be set to.
_OPTIONAL = Text("Optional.", "可不连接。")
_PROFILE = Text(
    "Default `default`; `sandbox` where the server has no key.", "默认 `default`；服务器没有任何密钥时为 `sandbox`。"
)
_EMPTY = Text("Default empty.", "默认为空。")
_ON, _OFF = Text("Default on.", "默认开启。"), Text("Default off.", "默认关闭。")


def files() -> dict[Path, str]:
    """The text of each page that exists."""
    pages = {}
    for node in NODES:
        for path, language in ((_DOCS / f"{node.node_id}.md", "en"), (_DOCS / node.node_id / "zh.md", "zh")):
            if path.is_file():
                pages[path] = _page(path.read_text(encoding="utf-8"), node, language)
    return pages


def _page(before: str, node: Node, language: str) -> str:
    inputs = [(one.id, one.label, one.help, _settings(one)) for one in node.inputs]
    outputs = [(output.label.en, output.label, output.help, None) for output in node.outputs]
    return _with_table(_with_table(before, _INPUTS, inputs, language), _OUTPUTS, outputs, language)


def _with_table(page: str, heading: Text, named: Sequence[tuple[str, Text, Text, Text | None]], language: str) -> str:
    """The page with a table of ids, labels, words and settings as its section of this heading."""

    def said(text: Text) -> str:
        words: str = getattr(text, language)
        return words

    rows = [said(_HEAD), "| --- | --- |"] if named else [said(_NONE)]
    for id_, label, words, settings in named:
        name = f"`{id_}`" if language == "en" else f"{said(label)}<br>`{id_}`"
        meaning = said(words) if settings is None else f"{said(words)}<br>{said(settings)}"
        rows.append(f"| {name} | {meaning} |")
    title = f"## {said(heading)}\n"
    section = re.compile(f"^{title}.*?(?=^## )", re.MULTILINE | re.DOTALL)
    return section.sub(lambda _: f"{title}\n" + "\n".join(rows) + "\n\n", page, count=1)


def _settings(one: Socket | ProfileWidget | Widget) -> Text | None:
    """Its default, and its limits or options."""
    match one:
        case Socket():
            return _OPTIONAL if one.optional else None
        case ProfileWidget():
            return _PROFILE
        case StringWidget():
            return _EMPTY
        case BooleanWidget():
            return _ON if one.default else _OFF
        case IntWidget() | FloatWidget():
            return _range(one)
        case ComboWidget():
            return _options(one)


def _range(widget: IntWidget | FloatWidget) -> Text:
    default, low, high = (_figure(number) for number in (widget.default, widget.minimum, widget.maximum))
    # A dash before a minus sign would be hard to read.
    between = Text("–", "–") if widget.minimum >= 0 else Text(" to ", " 至 ")
    return Text(f"Default {default}, {low}{between.en}{high}.", f"默认 {default}，范围 {low}{between.zh}{high}。")


def _figure(number: float) -> str:
    figure = f"{number:g}" if isinstance(number, float) else str(number)
    return figure.replace("-", "−")


def _options(widget: ComboWidget[Any]) -> Text:
    if not widget.listed:
        return Text(
            f"Default `{widget.default}`; the list has them all.", f"默认 `{widget.default}`，全部选项见下拉列表。"
        )

    def listed(mark: str, comma: str) -> str:
        return comma.join(f"`{option}`{mark if option == widget.default else ''}" for option in widget.options)

    return Text(f"{listed(' (default)', ', ')}.", f"{listed('（默认）', '、')}。")
