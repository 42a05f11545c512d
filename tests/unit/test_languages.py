"""Every text is there in English and Chinese: in the Python sources, the page's scripts and the locale files."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HAN = "[\u4e00-\u9fff]"
# Beside a Chinese character; what stands between figures or in code is no punctuation of the sentence.
HALF_WIDTH = re.compile(rf"{HAN}[,;!?]|[,;!?]{HAN}|{HAN}[:.](?:\s|$)")
LOCALES = sorted({path.name for path in (ROOT / "locales").glob("*/*.json")})
TABLES = [
    path
    for path in sorted((ROOT / "web").rglob("*.*js"))
    if re.search("^const (EN|ZH) =", path.read_text(encoding="utf-8"), re.MULTILINE)
]
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"(?!\s*:)|`[^`]*`')
EITHER = re.compile(r"chinese\(\)\s*\?\s*(\"[^\"]*\"|`[^`]*`)\s*:\s*(\"[^\"]*\"|`[^`]*`)")


def texts() -> Iterator[tuple[str, str, str]]:
    """Where it is, its English and its Chinese, with `{}` for what is filled in, of every `Text(…)` of the pack."""
    for path in sorted(path for folder in ("api", "nodes") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Text":
                told = [_said(argument) for argument in node.args]
                if len(told) == 2 and None not in told:
                    yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", str(told[0]), str(told[1])


def _said(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None  # put together elsewhere, from texts that are found there


def is_chinese(text: str) -> bool:
    return re.search(HAN, text) is not None


def test_texts_are_found() -> None:
    assert len(list(texts())) > 100


def test_every_text_is_in_both_languages() -> None:
    wrong = []
    for where, english, chinese in texts():
        without_code = re.sub(r"`[^`]*`|\{\}", "", english)
        is_sentence = re.search(r"[a-z]{3,} [a-z]", without_code) is not None
        is_wrong = is_chinese(english.replace("模特套图", "")) or (is_sentence and not is_chinese(chinese))
        if is_wrong or bool(english) != bool(chinese):
            wrong.append((where, english, chinese))
    assert wrong == []


def test_chinese_sentences_have_full_width_punctuation() -> None:
    assert [(where, chinese) for where, _, chinese in texts() if HALF_WIDTH.search(chinese)] == []


def test_both_name_the_same_settings_and_widgets() -> None:
    """Someone who reads one language must be able to search the other's words."""
    wrong = []
    for where, english, chinese in texts():
        told, also_told = (sorted(re.findall(r"[A-Z]{2,}_[A-Z_]+", text)) for text in (english, chinese))
        if told != also_told:
            wrong.append((where, told, also_told))
    assert wrong == []


# ---- the page's scripts


def table(script: str, name: str) -> list[tuple[int, str]]:
    """The keys of `const EN = {…};`, with how far each is indented."""
    (body,) = re.findall(rf"^const {name} = \{{$(.*?)^\}};", script, re.MULTILINE | re.DOTALL)
    body = STRING.sub('""', body)
    return [(len(indent), key) for indent, key in re.findall(r'^(  +)"?([\w ]+)"?(?::|\()', body, re.MULTILINE)]


def test_tables_are_found() -> None:
    assert {path.parent.name for path in TABLES} == {"placement", "profiles", "status", "tasks", "templates"}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_a_script_has_each_text_in_both_languages(path: Path) -> None:
    script = path.read_text(encoding="utf-8")
    english, chinese = (dict.fromkeys(table(script, name)) for name in ("EN", "ZH"))
    assert list(english) == list(chinese)
    assert len(english) > 5


def test_a_text_that_is_missing_in_one_language_is_noticed() -> None:
    script = 'const EN = {\n  one: "One",\n  two: () => "Two",\n};\nconst ZH = {\n  one: "一",\n};\n'
    assert table(script, "EN") == [(2, "one"), (2, "two")]
    assert table(script, "ZH") == [(2, "one")]


def test_what_a_script_chooses_by_itself_is_in_both_languages() -> None:
    chosen = [
        (path.name, *found)
        for path in (ROOT / "web").rglob("*.*js")
        for found in EITHER.findall(path.read_text(encoding="utf-8"))
        if found != ('"zh"', '"en"')
    ]
    assert chosen
    assert [one for one in chosen if not is_chinese(one[1]) or is_chinese(one[2]) or len(one[2]) < 3] == []


# ---- the locale files


def test_each_language_has_the_same_files() -> None:
    for file in LOCALES:
        for language in ("en", "zh"):
            assert (ROOT / "locales" / language / file).is_file(), (language, file)


@pytest.mark.parametrize("file", LOCALES)
def test_locale_files_have_the_same_keys_and_no_empty_text(file: str) -> None:
    english, chinese = (
        dict(_leaves(json.loads((ROOT / "locales" / language / file).read_text(encoding="utf-8"))))
        for language in ("en", "zh")
    )
    assert list(english) == list(chinese)
    assert all(english.values())
    assert all(chinese.values())
    assert [key for key, text in english.items() if is_chinese(text.replace("模特套图", ""))] == []


def _leaves(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, branch in tree.items():
            yield from _leaves(branch, f"{path}/{key}")
    else:
        yield path, str(tree)


def test_the_category_of_the_nodes_is_named_in_both() -> None:
    """Both frontends look it up by its English name."""
    category = re.search('^CATEGORY = "(.+)"', (ROOT / "nodes" / "schema.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert category is not None
    for language in ("en", "zh"):
        main = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))
        assert is_chinese(main["nodeCategories"][category[1]]) is (language == "zh")


PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if not path.name.endswith(".zh-CN.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_of_docs_is_there_in_both_languages(page: Path) -> None:
    """Linked from the README of its language, and with the same commands and settings in it."""
    chinese = page.with_name(f"{page.stem}.zh-CN.md")
    for one, other, readme in ((page, chinese, "README.md"), (chinese, page, "README.zh-CN.md")):
        assert f"]({other.name})" in one.read_text(encoding="utf-8")
        assert f"](docs/{one.name})" in (ROOT / readme).read_text(encoding="utf-8")
    texts = (re.sub("<[^>\n]*>", "<…>", each.read_text(encoding="utf-8")) for each in (page, chinese))
    code, in_chinese = (set(re.findall(r"`[^`\n]+`", text)) for text in texts)
    assert sorted(code) == sorted(in_chinese)
