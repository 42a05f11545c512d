"""The report: what is in each cell, what a spreadsheet must not make of it, and the sentence."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hidream_volcengine.api.core import ModerationError, Price, Text
from hidream_volcengine.api.journal import ErrorRecord, ItemEnd, ItemRow, Outcome, RunItem
from hidream_volcengine.api.journal.runs.report import account, csv_of, money

HEADINGS = [
    "label", "node", "item", "outcome", "take", "pictures", "billed", "price", "currency", "file", "task id",
    "request id", "submitted", "finished", "profile", "the service's words",
]  # fmt: skip
YUAN = Price(Decimal("0.22"), "CNY")
REFUSED = ErrorRecord.of(
    ModerationError(Text("It was refused.", "被拒绝了。"), provider="HiDream", code=2003, vendor_message='bad, "very"')
)


def row(outcome: Outcome = Outcome.CAME, source: Any = "", pictures: int = 0, **known: Any) -> ItemRow:
    about = {"run": "r", "node": "5", "item": 0, "part": 0, "label": "", "endpoint": "hidream upscale"}
    about |= {"profile": "studio", "take": 0, "pictures": 1, "price": None}
    item = RunItem(**{name: known.pop(name, value) for name, value in about.items()})
    end = {name: known.pop(name) for name in ("billed", "error", "attempt") if name in known}
    read = {"task_id": "", "request_id": "", "submitted_at": None, "finished_at": None, "time": 0.0}
    return ItemRow(ItemEnd(item, outcome, source, pictures=pictures, **end), **{**read, **known})


def cells(rows: list[ItemRow], language: Any = "en") -> list[dict[str, str]]:
    """The lines by English heading, as a program reads them."""
    lines = list(csv.reader(io.StringIO(csv_of(rows, language).decode("utf-8-sig"), newline="")))
    assert all(len(line) == len(HEADINGS) for line in lines)
    return [dict(zip(HEADINGS, line, strict=True)) for line in lines]


def cell(one: ItemRow, name: str, language: Any = "en") -> str:
    return cells([one], language)[1][name]


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of the process cannot be set here")
    monkeypatch.setenv("TZ", "Asia/Shanghai" if os.path.exists("/usr/share/zoneinfo/Asia/Shanghai") else "CST-8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_file_is_what_excel_reads_on_a_chinese_windows() -> None:
    data = csv_of([row(label="茶壶")], "zh")
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == data.count(b"\n") == 2
    assert "茶壶".encode() in data
    assert cells([], "en")[0] == dict(zip(HEADINGS, HEADINGS, strict=True))
    assert cells([], "zh")[0]["label"] == "标签"


def test_a_whole_row(in_shanghai: None) -> None:
    whole = row(
        Outcome.CAME, "bought", 4, label="SKU-1", node="7", item=2, take=3, billed="yes", price=YUAN, file="a/b.png",
        task_id="t-1", request_id="q-1", submitted_at=1_800_000_000.4, finished_at=1_800_000_060.0,
    )  # fmt: skip
    assert list(cells([whole])[1].values()) == [
        "SKU-1", "7", "3", "bought", "3", "4", "yes", "0.88", "CNY", "a/b.png", "t-1", "q-1",
        "2027-01-15T16:00:00+08:00", "2027-01-15T16:01:00+08:00", "studio", "",
    ]  # fmt: skip


def test_nothing_is_invented_for_what_did_not_happen() -> None:
    told = cells([row(Outcome.NOT_SUBMITTED, price=YUAN)])[1]
    empty = {name for name, value in told.items() if not value}
    assert {"price", "currency", "file", "task id", "request id", "submitted", "finished"} <= empty
    assert (told["outcome"], told["billed"], told["pictures"]) == ("not submitted", "no", "0")


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])
@pytest.mark.parametrize("where", ["label", "file", "task_id", "request_id", "profile", "node", "words"])
def test_no_cell_becomes_a_formula(first: str, where: str) -> None:
    evil = f'{first}HYPERLINK("http://evil.example","x")'
    if where == "words":
        error = replace_words(evil)
        assert cell(row(Outcome.REFUSED, error=error), "the service's words") == f"'{evil}"
        return
    heading = where.replace("_", " ")
    assert cell(row(**{where: evil}), heading) == f"'{evil}"


def replace_words(words: str) -> ErrorRecord:
    return REFUSED.model_copy(update={"what_en": words, "code": None, "vendor_message": ""})


@pytest.mark.parametrize("text", ["7392616336519610409", "0012", "1.10"])
def test_no_cell_becomes_another_number(text: str) -> None:
    assert cell(row(task_id=text), "task id") == f"'{text}"


@pytest.mark.parametrize("text", ["a=1", "12", "120034", "01-front.jpg", "a,b", 'a "b"', "a\nb", "'x", "3.2"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert cell(row(label=text), "label") == text


def test_half_a_character_spoils_no_report() -> None:
    assert cell(row(label="half \ud83d"), "label") == "half ?"


def test_items_and_their_parts_are_numbered_from_1() -> None:
    rows = [row(item=0), row(item=2, part=0), row(item=2, part=1), row(item=2, node="6"), row(item=2, run="other")]
    assert [line["item"] for line in cells(rows)[1:]] == ["1", "3.1", "3.2", "3", "3"]
    many = [row(part=part) for part in range(10)]
    assert [line["item"] for line in cells(many)[1:]][-2:] == ["1.9", "'1.10"], "a spreadsheet would show 1.1"


@pytest.mark.parametrize(
    ("one", "price"),
    [
        (row(Outcome.CAME, "bought", 2, price=YUAN), "0.44"),
        (row(Outcome.CAME, "resumed", 1, price=YUAN), "0.22"),
        (row(Outcome.CAME, "reused", 2, price=YUAN), ""),
        (row(Outcome.UNCLEAR, price=YUAN, billed="unknown"), ""),
        (row(Outcome.FAILED, price=YUAN, billed="unknown"), ""),
        (row(Outcome.CAME, "bought", 2), ""),
        (row(Outcome.CAME, "bought", 2, price=YUAN, profile="sandbox"), ""),
        (row(Outcome.CAME, "bought", 1, price=Price(Decimal("1E+2"), "CNY")), "100"),
    ],
)
def test_only_what_came_by_buying_has_a_price(one: ItemRow, price: str) -> None:
    assert cell(one, "price") == price
    assert cell(one, "currency") == ("CNY" if price else "")


def test_every_outcome_has_its_word_in_both_languages() -> None:
    rows = [row(outcome) for outcome in Outcome] + [row(source=source) for source in ("bought", "resumed", "reused")]
    for language in ("en", "zh"):
        words = [line["outcome"] for line in cells(rows, language)[1:]]
        assert all(words)
        assert len(set(words)) == len(words)
    assert {cell(row(billed=billed), "billed") for billed in ("yes", "no", "unknown")} == {"yes", "no", "unknown"}
    assert cell(row(billed="nothing"), "billed") == "no"


def test_the_words_of_an_error_are_in_one_language() -> None:
    refused = row(Outcome.REFUSED, error=REFUSED)
    assert cell(refused, "the service's words") == 'It was refused. 2003 "bad, "very""'
    assert cell(refused, "the service's words", "zh") == '被拒绝了。 2003 "bad, "very""'


def test_the_account_counts_pictures_first_and_says_nothing_of_what_is_not() -> None:
    dollars = Price(Decimal("0.05"), "USD")
    rows = [
        *(row(Outcome.CAME, "bought", 4, price=YUAN) for _ in range(124)),
        row(Outcome.CAME, "reused", 2, price=YUAN),
        row(Outcome.CAME, "bought", 2, price=dollars),
        *(row(Outcome.REFUSED, price=YUAN) for _ in range(3)),
        row(Outcome.UNCLEAR, price=YUAN, billed="unknown"),
        *(row(Outcome.NOT_SUBMITTED) for _ in range(20)),
    ]
    assert account(rows) == Text(
        "500 pictures, 3 refused, 1 unclear, 20 not submitted, ≈ ¥109.12, ≈ $0.10",
        "500 张图片，3 项被拒绝，1 项结果不明，20 项未提交，≈ ¥109.12，≈ $0.10",
    )
    assert account([]) == Text("0 pictures", "0 张图片")
    assert account([row(Outcome.CAME, "bought", 1)]).en == "1 picture"
    assert account([row(Outcome.CAME, "bought", 1, price=YUAN, profile="sandbox")]).en == "1 picture"


def test_the_account_tells_a_set_that_came_in_part() -> None:
    part = row(Outcome.CAME, "bought", 2, price=YUAN)
    part = replace(part, end=replace(part.end, item=replace(part.end.item, pictures=4)))
    assert account([part]) == Text("2 pictures, 1 incomplete, ≈ ¥0.44", "2 张图片，1 项不完整，≈ ¥0.44")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("109", "¥109"), ("4.4", "¥4.40"), ("109.004", "¥109"), ("0.005", "¥0.005"), ("0.1", "¥0.10"), ("0", "¥0"),
     ("1200", "¥1200"), ("0.22", "¥0.22"), ("1E+2", "¥100")],
)  # fmt: skip
def test_an_amount_as_it_is_shown(amount: str, shown: str) -> None:
    assert money(Decimal(amount), "CNY") == shown
    assert money(Decimal(amount), "GBP") == shown.replace("¥", "GBP ")
