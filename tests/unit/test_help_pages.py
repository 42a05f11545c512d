"""The nodes' help pages: both languages are there and say the same, and name what the locales name.

That the English locale is the schema is shown by host/nodes/test_locales.py, and the defaults and limits that the
pages tell by browser/test_help_pages.py.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hidream_volcengine.api.catalog import NODES
from PIL import Image

from tests.thinned import in_one_test

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
MAX_BYTES = 60_000
# The help panel is 300 px wide, twice that on a sharp screen.
MAX_WIDTH = 640
LANGUAGES = ("en", "zh")
HEADINGS = {
    "en": ("Example", "Inputs", "Outputs", "What it costs", "Limits", "When something goes wrong", "Neighbours"),
    "zh": ("示例", "输入", "输出", "费用", "限制", "出错时", "相关节点"),
}
# The sections below the headings; 0 is what is above them.
EXAMPLE, INPUTS, OUTPUTS, COST, LIMITS, ERRORS, NEIGHBOURS = range(1, 8)
PAID_TWICE = {"en": "Never paid twice", "zh": "不会重复付费"}
HAN = r"[\u4e00-\u9fff]"
# Beside a Chinese character; what is between two figures or in code is no punctuation of the sentence.
HALF_WIDTH = re.compile(rf"{HAN}[,.;:!?()\"']|[,;:!?()\"']{HAN}")
FIGURE = re.compile(r"\d+(?:\.\d+)?")
CODE = re.compile(r"`([^`\n]+)`")
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)]+)\)")


def nodes() -> tuple[str, ...]:
    return tuple(node.node_id for node in NODES)


@cache
def locale(language: str) -> dict[str, Any]:
    texts: dict[str, Any] = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    return texts


def path_of(node: str, language: str) -> Path:
    return DOCS / f"{node}.md" if language == "en" else DOCS / node / f"{language}.md"


@dataclass(frozen=True)
class Page:
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(re.findall("^## (.+)$", self.text, re.MULTILINE))

    @property
    def sections(self) -> list[str]:
        """What is above the first heading, and below each."""
        return re.split("^## .+$", self.text, flags=re.MULTILINE)

    def rows(self, section: int) -> list[list[str]]:
        """Of the only table in it, without its head."""
        lines = [line for line in self.sections[section].splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    @property
    def prose(self) -> str:
        """Without code, addresses and markup."""
        text = re.sub(r"```.*?```", "", self.text, flags=re.DOTALL)
        text = re.sub(r"\]\([^)]*\)", "", CODE.sub("", text))
        return re.sub(r"[*\[\]!]|<br>", "", text)


@cache
def page(node: str, language: str) -> Page:
    return Page(path_of(node, language).read_text(encoding="utf-8"))


every_node = in_one_test("node", nodes())
every_page = in_one_test(("node", "language"), [(node, each) for node in nodes() for each in LANGUAGES])


def test_every_node_has_its_pages_and_no_page_is_left_over() -> None:
    assert len(nodes()) >= 9
    assert set(nodes()) == set(locale("en"))
    pages = {path_of(node, language) for node in nodes() for language in LANGUAGES}
    assert set(DOCS.rglob("*.md")) == pages
    pictures = {DOCS / PICTURE.findall(page(node, "en").text)[0][1] for node in nodes()}
    assert {path for path in DOCS.rglob("*") if path.is_file()} == pages | pictures


@every_page
def test_title_and_headings(node: str, language: str) -> None:
    assert page(node, language).title == locale(language)[node]["display_name"]
    assert page(node, language).headings == HEADINGS[language]
    assert all(section.strip() for section in page(node, language).sections)


@every_page
def test_all_inputs_are_told_in_their_order(node: str, language: str) -> None:
    names = {name: texts["name"] for name, texts in locale(language)[node]["inputs"].items()}
    told = [f"`{name}`" if language == "en" else f"{shown}<br>`{name}`" for name, shown in names.items()]
    assert [row[0] for row in page(node, language).rows(INPUTS)] == told
    assert all(row[1] for row in page(node, language).rows(INPUTS))


@every_page
def test_all_outputs_are_told_in_their_order(node: str, language: str) -> None:
    ids, names = ([texts["name"] for texts in locale(each)[node]["outputs"].values()] for each in ("en", language))
    told = [f"`{id_}`" if language == "en" else f"{name}<br>`{id_}`" for id_, name in zip(ids, names, strict=True)]
    assert [row[0] for row in page(node, language).rows(OUTPUTS)] == told
    assert all(row[1] for row in page(node, language).rows(OUTPUTS))


@every_node
def test_both_languages_have_the_same_parts(node: str) -> None:
    english, chinese = page(node, "en"), page(node, "zh")
    for number, (told, also_told) in enumerate(zip(english.sections, chinese.sections, strict=True)):
        for part in ("\n- ", "\n| ", "\n\n", "```", "▼"):
            assert told.count(part) == also_told.count(part), (number, part)


@every_node
def test_both_languages_tell_the_same_figures_and_settings(node: str) -> None:
    english, chinese = page(node, "en"), page(node, "zh")
    # Chinese pages may call an input or output by the name that it has on the screen.
    ids = {texts["name"] for group in ("inputs", "outputs") for texts in locale("en")[node][group].values()}
    for section in (COST, LIMITS, ERRORS):
        told, also_told = english.sections[section], chinese.sections[section]
        assert set(CODE.findall(told)) - ids == set(CODE.findall(also_told)) - ids
        assert settings(told) == settings(also_told)
    for section in (INPUTS, COST, LIMITS, ERRORS):
        assert figures(english.sections[section]) == figures(chinese.sections[section]), section


def settings(text: str) -> list[str]:
    """The server's variables that it names."""
    return sorted(re.findall(r"[A-Z]+_[A-Z_]+", text))


def figures(text: str) -> set[str]:
    words = {"two or four": "2 4", "two": "2", "four": "4"}
    for word, figure in words.items():
        text = re.sub(rf"\b{word}\b", figure, text)
    return set(FIGURE.findall(text))


@every_node
def test_both_languages_show_the_same_small_picture(node: str) -> None:
    found = {language: PICTURE.findall(page(node, language).text) for language in LANGUAGES}
    ((english, name),), ((chinese, same_name),) = found["en"], found["zh"]
    # Both pages are looked for in different folders, but their pictures in `web/docs/` alone.
    assert name == same_name == f"pictures/{node}.webp"
    assert english
    assert re.search(HAN, chinese)
    path = DOCS / name
    assert path.stat().st_size <= MAX_BYTES
    with Image.open(path) as picture:
        picture.load()
        assert 300 <= picture.width <= MAX_WIDTH


@cache
def sentences() -> str:
    """All texts of the sources, folded, with `…` for what is filled in."""
    texts = []
    for path in (path for folder in ("api", "nodes") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts))
    return "\n".join(texts).casefold()


@every_page
def test_errors_are_quoted_as_they_are_said(node: str, language: str) -> None:
    """Somebody searches the page for the words on the screen."""
    quoted = re.findall("“([^”]+)”", page(node, language).sections[ERRORS])
    assert quoted
    parts = [part.strip() for quote in quoted for part in quote.split("…") if part.strip()]
    assert [part for part in parts if part.casefold() not in sentences()] == []


@every_page
def test_links_lead_somewhere_from_the_help_panel(node: str, language: str) -> None:
    """It opens them as they are: a relative one would lead out of the page into nothing."""
    assert all(address.startswith("https://") for address in LINK.findall(page(node, language).text))


@every_page
def test_examples_that_are_named_exist(node: str, language: str) -> None:
    example = page(node, language).sections[EXAMPLE]
    examples = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    inputs = set(locale("en")[node]["inputs"])
    named = set(re.findall("`([a-z0-9]+(?:_[a-z0-9]+)+)`", example)) - inputs
    assert named <= examples
    assert named or node == "RemoteTaskResult"
    assert f"\n{page(node, language).title}\n" in example


@every_page
def test_neighbours_are_named_as_they_are_on_the_screen(node: str, language: str) -> None:
    titles = {texts["display_name"] for texts in locale(language).values()}
    named = set(re.findall(r"\*\*([^*]+)\*\*", page(node, language).sections[NEIGHBOURS]))
    assert named
    assert named <= titles - {page(node, language).title}


@every_node
def test_chinese_pages_name_neighbours_in_english_too(node: str) -> None:
    """ComfyUI's frontend 1.32.9 shows nodes of packs in English under Chinese."""
    titles = {locale("zh")[each]["display_name"]: locale("en")[each]["display_name"] for each in nodes()}
    neighbours = page(node, "zh").sections[NEIGHBOURS]
    named = re.findall(r"\*\*([^*]+)\*\*", neighbours)
    assert [name for name in named if f"**{name}**（{titles[name]}）" not in neighbours] == []


@every_page
def test_what_is_paid_says_what_is_never_paid_twice(node: str, language: str) -> None:
    paid = "take" in locale("en")[node]["inputs"]
    assert (PAID_TWICE[language] in page(node, language).text) is paid
    assert ("REMOTE_IMAGE_PICTURES_PER_RUN" in page(node, language).text) is paid


@every_node
def test_chinese_pages_are_chinese_with_full_width_punctuation(node: str) -> None:
    chinese, english = page(node, "zh"), page(node, "en")
    for line in chinese.prose.splitlines():
        assert HALF_WIDTH.search(line) is None, line
    assert len(re.findall(HAN, chinese.prose)) > 4 * len(re.findall("[A-Za-z]{2,}", chinese.prose))
    # English ones name the services and their words in Chinese, too, and have no full-width punctuation.
    assert re.search("[，。；：！？（）、]", re.sub(f"（?{HAN}+）?", "", english.prose)) is None


@every_page
def test_bold_words_end_where_markdown_ends_them(node: str, language: str) -> None:
    """`**…：**字` stays as it is: behind a mark of punctuation, bold ends before another one or a space only."""
    bold = re.findall(r"\*\*([^*\n]+)\*\*(.?)", page(node, language).text)
    assert bold
    assert [words for words, follows in bold if not words[-1].isalnum() and follows.isalnum()] == []
    assert page(node, language).text.count("**") == 2 * len(bold)


def test_no_script_is_among_the_pages() -> None:
    """ComfyUI loads every *.js below web/ by itself."""
    assert list(DOCS.rglob("*.js")) == []
