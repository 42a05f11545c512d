"""One picture of all the demo's pictures: a card per node, before -> after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

_BACKGROUND, _CARD, _TEXT, _QUIET, _ACCENT = "#15171c", "#21252d", "#f2f4f8", "#9aa3b2", "#6ea8fe"
_COLUMNS = 2
_MARGIN, _PADDING = 28, 22
_BEFORE, _AFTER, _ARROW = 260, 400, 60
_TITLE = 74
_CARD_SIZE = (2 * _PADDING + _BEFORE + _ARROW + _AFTER, 2 * _PADDING + _TITLE + _AFTER)


@dataclass(frozen=True)
class Card:
    title: str
    subtitle: str
    before: Image.Image
    after: Sequence[Image.Image]


def contact_sheet(heading: str, cards: Sequence[Card]) -> Image.Image:
    rows = math.ceil(len(cards) / _COLUMNS)
    top = _MARGIN + 56
    width = _COLUMNS * (_CARD_SIZE[0] + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, top + rows * (_CARD_SIZE[1] + _MARGIN)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), heading, _TEXT, ImageFont.load_default(32))
    for number, card in enumerate(cards):
        row, column = divmod(number, _COLUMNS)
        _draw_card(sheet, (_MARGIN + column * (_CARD_SIZE[0] + _MARGIN), top + row * (_CARD_SIZE[1] + _MARGIN)), card)
    return sheet


def _draw_card(sheet: Image.Image, corner: tuple[int, int], card: Card) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = corner
    draw.rounded_rectangle((x, y, x + _CARD_SIZE[0], y + _CARD_SIZE[1]), 14, _CARD)
    x, y = x + _PADDING, y + _PADDING
    draw.text((x, y - 4), card.title, _TEXT, ImageFont.load_default(25))
    draw.text((x, y + 32), card.subtitle, _QUIET, ImageFont.load_default(18))
    y += _TITLE
    _paste(sheet, (x, y, _BEFORE, _AFTER), card.before)
    _draw_arrow(draw, x + _BEFORE + 14, y + _AFTER // 2)
    x += _BEFORE + _ARROW
    per_side = math.ceil(math.sqrt(len(card.after)))
    cell = (_AFTER - 8 * (per_side - 1)) // per_side
    y += (_AFTER - math.ceil(len(card.after) / per_side) * (cell + 8)) // 2
    for number, picture in enumerate(card.after):
        row, column = divmod(number, per_side)
        _paste(sheet, (x + column * (cell + 8), y + row * (cell + 8), cell, cell), picture)


def _paste(sheet: Image.Image, box: tuple[int, int, int, int], picture: Image.Image) -> None:
    x, y, width, height = box
    fitted = ImageOps.contain(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    sheet.paste(fitted, (x + (width - fitted.width) // 2, y + (height - fitted.height) // 2))


def _draw_arrow(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    draw.line((x, y, x + 26, y), _ACCENT, 4)
    draw.polygon(((x + 22, y - 9), (x + 34, y), (x + 22, y + 9)), _ACCENT)
