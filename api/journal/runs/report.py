"""The report of a run or a day: its rows as a CSV file for a spreadsheet, and what they come to in one sentence."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from ...core import SANDBOX_PROFILE, Text
from .items import ItemRow, Outcome

Language = Literal["en", "zh"]

_OUTCOMES = {
    Outcome.UNDER_WAY: Text("under way", "进行中"),
    Outcome.CAME: Text("came", "已得到"),
    Outcome.WAITING: Text("waiting", "等待取回"),
    Outcome.REFUSED: Text("refused", "被拒绝"),
    Outcome.FAILED: Text("failed", "失败"),
    Outcome.UNCLEAR: Text("unclear", "结果不明"),
    Outcome.NOT_SUBMITTED: Text("not submitted", "未提交"),
}
_SOURCES = {
    "bought": Text("bought", "已购买"),
    "resumed": Text("resumed", "续取"),
    "reused": Text("reused", "复用"),
}
_BILLED = {
    "yes": Text("yes", "是"),
    "no": Text("no", "否"),
    "nothing": Text("no", "否"),
    "unknown": Text("unknown", "未知"),
}
_PAID_SOURCES = ("bought", "resumed")
# A spreadsheet takes the first as a formula; of the others it would drop zeros, or all digits behind the fifteenth.
_NOT_AS_IT_STANDS = re.compile(r"[=+\-@＝＋－＠\t\r\n].*|0[0-9]+|[0-9]{16,}|[0-9]+\.[0-9]*0", re.DOTALL)
_SIGNS = {"CNY": "¥", "USD": "$", "EUR": "€"}


@dataclass(frozen=True)
class _Cell:
    """What the cells of a row are made from."""

    row: ItemRow
    number: str
    language: Language

    def said(self, text: Text) -> str:
        return text.zh if self.language == "zh" else text.en


def csv_of(rows: Sequence[ItemRow], language: Language) -> bytes:
    """The rows in their order, a line each below the headings, as UTF-8 with a byte order mark and CRLF.

    Excel needs the mark on a Chinese Windows. A text that a spreadsheet would compute or shorten begins with ``'``.
    ``price`` is an estimate, for pictures that this run has bought or resumed. Times are in the server's time zone.
    """
    numbers = _numbers(rows)
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\r\n")
    lines.writerow([heading.zh if language == "zh" else heading.en for heading, _ in _COLUMNS])
    for row, number in zip(rows, numbers, strict=True):
        cell = _Cell(row, number, language)
        lines.writerow([made(cell) for _, made in _COLUMNS])
    return written.getvalue().encode("utf-8-sig", "replace")


def account(rows: Iterable[ItemRow]) -> Text:
    """What became of all items: "496 pictures, 3 refused, 20 not submitted, ≈ ¥109".

    The pictures that came, then the number of items for each other outcome, and the estimate in each currency.
    """
    rows = list(rows)
    outcomes = Counter(row.end.outcome for row in rows)
    pictures = sum(row.end.pictures for row in rows)
    incomplete = sum(0 < row.end.pictures < row.end.item.pictures for row in rows)
    en = [f"{pictures} picture{'' if pictures == 1 else 's'}"]
    zh = [f"{pictures} 张图片"]
    if incomplete:
        en.append(f"{incomplete} incomplete")
        zh.append(f"{incomplete} 项不完整")
    for outcome in _COUNTED:
        if number := outcomes[outcome]:
            en.append(f"{number} {_OUTCOMES[outcome].en}")
            zh.append(f"{number} 项{_OUTCOMES[outcome].zh}")
    spent = [f"≈ {money(amount, currency)}" for currency, amount in _spent(rows).items()]
    return Text(", ".join(en + spent), "，".join(zh + spent))


_COUNTED = (
    Outcome.REFUSED,
    Outcome.FAILED,
    Outcome.UNCLEAR,
    Outcome.WAITING,
    Outcome.UNDER_WAY,
    Outcome.NOT_SUBMITTED,
)


def money(amount: Decimal, currency: str) -> str:
    """An amount for the user: "¥109", "¥4.40", "$0.005", "GBP 3". Two decimals or none; below 1 up to four."""
    rounded = round(amount, 2 if amount >= 1 else 4)
    digits = f"{rounded.normalize():f}"
    if "." in digits:
        digits = digits.ljust(digits.index(".") + 3, "0")
    return f"{_SIGNS.get(currency, f'{currency} ')}{digits}"


def _spent(rows: Iterable[ItemRow]) -> dict[str, Decimal]:
    """The estimate by currency, in the order of the rows; nothing without a price."""
    sums: dict[str, Decimal] = {}
    for row in rows:
        price, cost = row.end.item.price, _cost(row)
        if price is not None and cost is not None:
            sums[price.currency] = sums.get(price.currency, Decimal(0)) + cost
    return sums


def _cost(row: ItemRow) -> Decimal | None:
    """What the pictures of a row have cost in its run; ``None``: nothing, or nobody has set a price."""
    end, price = row.end, row.end.item.price
    if price is None or end.source not in _PAID_SOURCES or end.item.profile == SANDBOX_PROFILE:
        return None
    return price.amount * end.pictures


def _numbers(rows: Sequence[ItemRow]) -> list[str]:
    """The number of each row, from 1: "3", or "3.2" where its item has several parts."""
    items = [row.end.item for row in rows]
    in_parts = {(item.run, item.node, item.item) for item in items if item.part}
    return [
        f"{item.item + 1}.{item.part + 1}" if (item.run, item.node, item.item) in in_parts else f"{item.item + 1}"
        for item in items
    ]


def _outcome(cell: _Cell) -> str:
    end = cell.row.end
    came = end.outcome is Outcome.CAME
    return cell.said(_SOURCES[end.source] if came and end.source else _OUTCOMES[end.outcome])


def _price(cell: _Cell) -> str:
    cost = _cost(cell.row)
    return "" if cost is None else f"{cost:f}"


def _currency(cell: _Cell) -> str:
    price = cell.row.end.item.price
    return price.currency if price is not None and _cost(cell.row) is not None else ""


def _words(cell: _Cell) -> str:
    """What the error says, and the service's code and own words, without what is in the other columns."""
    record = cell.row.end.error
    if record is None:
        return ""
    code = "" if record.code is None else str(record.code)
    vendor = f'"{record.vendor_message}"' if record.vendor_message else ""
    return " ".join(filter(None, [cell.said(Text(record.what_en, record.what_zh)), code, vendor]))


def _time(moment: float | None) -> str:
    """ISO 8601 in the server's time zone, with its offset."""
    return "" if moment is None else datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")


def _text(text: str) -> str:
    return f"'{text}" if _NOT_AS_IT_STANDS.fullmatch(text) else text


_COLUMNS: tuple[tuple[Text, Callable[[_Cell], object]], ...] = (
    (Text("label", "标签"), lambda cell: _text(cell.row.end.item.label)),
    (Text("node", "节点"), lambda cell: _text(cell.row.end.item.node)),
    (Text("item", "序号"), lambda cell: _text(cell.number)),
    (Text("outcome", "结果"), _outcome),
    (Text("take", "take"), lambda cell: cell.row.end.item.take),
    (Text("pictures", "图片数"), lambda cell: cell.row.end.pictures),
    (Text("billed", "计费"), lambda cell: cell.said(_BILLED[cell.row.end.billed])),
    (Text("price", "价格"), _price),
    (Text("currency", "货币"), _currency),
    (Text("file", "文件"), lambda cell: _text(cell.row.file)),
    (Text("task id", "任务编号"), lambda cell: _text(cell.row.task_id)),
    (Text("request id", "请求编号"), lambda cell: _text(cell.row.request_id)),
    (Text("submitted", "提交时间"), lambda cell: _time(cell.row.submitted_at)),
    (Text("finished", "完成时间"), lambda cell: _time(cell.row.finished_at)),
    (Text("profile", "配置"), lambda cell: _text(cell.row.end.item.profile)),
    (Text("the service's words", "服务端说明"), lambda cell: _text(_words(cell))),
)
