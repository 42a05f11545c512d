"""What `dev.py generate` writes into a help page: the two tables, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.catalog import (
    BooleanWidget,
    ComboWidget,
    FloatWidget,
    IntWidget,
    Node,
    Output,
    ProfileWidget,
    Socket,
    StringWidget,
    Widget,
)
from api.core import Text
from devtools.generators import help_pages

NAME, HELP = Text("it", "它"), Text("What it is.", "说明。")
NODE = Node(
    node_id="ANode",
    title=Text("A Node", "节点"),
    says=HELP,
    inputs=(Socket("it", "IMAGE", NAME, HELP), StringWidget("words", Text("words", "文字"), HELP)),
    outputs=(Output("IMAGE", NAME, HELP),),
)
ENGLISH = "# A Node\n\n## Example\n\n| a | table |\n\n{inputs}{outputs}## What it costs\n\nNothing.\n"
CHINESE = "# 节点\n\n## 示例\n\n示例。\n\n{inputs}{outputs}## 费用\n\n免费。\n"
TABLES = {
    "en": (
        "## Inputs\n\n| name | meaning |\n| --- | --- |\n"
        "| `it` | What it is. |\n| `words` | What it is.<br>Default empty. |\n\n",
        "## Outputs\n\n| name | meaning |\n| --- | --- |\n| `it` | What it is. |\n\n",
    ),
    "zh": (
        "## 输入\n\n| 名称 | 含义 |\n| --- | --- |\n"
        "| 它<br>`it` | 说明。 |\n| 文字<br>`words` | 说明。<br>默认为空。 |\n\n",
        "## 输出\n\n| 名称 | 含义 |\n| --- | --- |\n| 它<br>`it` | 说明。 |\n\n",
    ),
}


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(help_pages, "_DOCS", tmp_path)
    monkeypatch.setattr(help_pages, "NODES", (NODE,))
    return tmp_path


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("old", ["", "\n", "\n| name | meaning |\n| --- | --- |\n| `gone` | Old. |\n\n"])
def test_both_tables_are_written_and_the_rest_stays(docs: Path, language: str, old: str) -> None:
    path, page = (docs / "ANode.md", ENGLISH) if language == "en" else (docs / "ANode" / "zh.md", CHINESE)
    headings = ["## Inputs\n", "## Outputs\n"] if language == "en" else ["## 输入\n", "## 输出\n"]
    path.parent.mkdir(exist_ok=True)
    path.write_text(page.format(inputs=headings[0] + old, outputs=headings[1] + old), encoding="utf-8")
    inputs, outputs = TABLES[language]
    assert help_pages.files() == {path: page.format(inputs=inputs, outputs=outputs)}


def test_a_page_that_is_not_written_yet_is_left_out(docs: Path) -> None:
    assert help_pages.files() == {}


@pytest.mark.parametrize(
    ("one", "en", "zh"),
    [
        (Socket("it", "MASK", NAME, HELP, optional=True), "Optional.", "可不连接。"),
        (IntWidget("it", NAME, HELP, 0, 0, 9), "Default 0, 0–9.", "默认 0，范围 0–9。"),
        (IntWidget("it", NAME, HELP, -1, -1, 9), "Default −1, −1 to 9.", "默认 −1，范围 −1 至 9。"),
        (FloatWidget("it", NAME, HELP, 1.0, 0.05, 8.0), "Default 1, 0.05–8.", "默认 1，范围 0.05–8。"),
        (BooleanWidget("it", NAME, HELP, False), "Default off.", "默认关闭。"),
        (BooleanWidget("it", NAME, HELP, True), "Default on.", "默认开启。"),
        (ComboWidget("it", NAME, HELP, 4, (2, 4)), "`2`, `4` (default).", "`2`、`4`（默认）。"),
        (
            ComboWidget("it", NAME, HELP, "a", ("a", "b"), listed=False),
            "Default `a`; the list has them all.",
            "默认 `a`，全部选项见下拉列表。",
        ),
    ],
)
def test_default_limits_and_options(one: Socket | ProfileWidget | Widget, en: str, zh: str) -> None:
    assert help_pages._settings(one) == Text(en, zh)
