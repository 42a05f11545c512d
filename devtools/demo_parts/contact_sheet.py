"""Draws the demo's overview: a card for each workflow, before -> after, and below them details side by side."""

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
_WIDTH = _COLUMNS * (_CARD_SIZE[0] + _MARGIN) + _MARGIN
_ZOOM = 2
_DETAIL = ((_WIDTH - 2 * _MARGIN - 3 * _PADDING) // 2, 360)
_PAIR_SIZE = (_WIDTH - 2 * _MARGIN, 2 * _PADDING + _TITLE + _DETAIL[1])


@dataclass(frozen=True)
class Card:
    """``before``: the picture that went up, if any."""

    title: str
    subtitle: str
    before: Image.Image | None
    after: Sequence[Image.Image]


@dataclass(frozen=True)
class Pair:
    """The same part of two pictures of one size, twice enlarged; ``centre`` is where it lies in both."""

    title: str
    says_before: str
    says_after: str
    before: Image.Image
    after: Image.Image
    centre: tuple[int, int]


def contact_sheet(heading: str, cards: Sequence[Card], pairs: Sequence[Pair] = ()) -> Image.Image:
    rows = math.ceil(len(cards) / _COLUMNS)
    top = _MARGIN + 56
    height = rows * (_CARD_SIZE[1] + _MARGIN) + len(pairs) * (_PAIR_SIZE[1] + _MARGIN)
    sheet = Image.new("RGB", (_WIDTH, top + height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), heading, _TEXT, ImageFont.load_default(32))
    for number, card in enumerate(cards):
        row, column = divmod(number, _COLUMNS)
        _draw_card(sheet, (_MARGIN + column * (_CARD_SIZE[0] + _MARGIN), top + row * (_CARD_SIZE[1] + _MARGIN)), card)
    top += rows * (_CARD_SIZE[1] + _MARGIN)
    for number, pair in enumerate(pairs):
        _draw_pair(sheet, (_MARGIN, top + number * (_PAIR_SIZE[1] + _MARGIN)), pair)
    return sheet


def _draw_card(sheet: Image.Image, corner: tuple[int, int], card: Card) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = corner
    draw.rounded_rectangle((x, y, x + _CARD_SIZE[0], y + _CARD_SIZE[1]), 14, _CARD)
    x, y = x + _PADDING, y + _PADDING
    draw.text((x, y - 4), card.title, _TEXT, ImageFont.load_default(25))
    draw.text((x, y + 32), card.subtitle, _QUIET, ImageFont.load_default(18))
    y += _TITLE
    if card.before is not None:
        _paste(sheet, (x, y, _BEFORE, _AFTER), card.before)
        _draw_arrow(draw, x + _BEFORE + 14, y + _AFTER // 2)
    x += _BEFORE + _ARROW
    per_side = math.ceil(math.sqrt(len(card.after)))
    cell = (_AFTER - 8 * (per_side - 1)) // per_side
    y += (_AFTER - math.ceil(len(card.after) / per_side) * (cell + 8)) // 2
    for number, picture in enumerate(card.after):
        row, column = divmod(number, per_side)
        _paste(sheet, (x + column * (cell + 8), y + row * (cell + 8), cell, cell), picture)


def _draw_pair(sheet: Image.Image, corner: tuple[int, int], pair: Pair) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = corner
    draw.rounded_rectangle((x, y, x + _PAIR_SIZE[0], y + _PAIR_SIZE[1]), 14, _CARD)
    x, y = x + _PADDING, y + _PADDING
    draw.text((x, y - 4), pair.title, _TEXT, ImageFont.load_default(25))
    for words, picture in ((pair.says_before, pair.before), (pair.says_after, pair.after)):
        draw.text((x, y + 32), words, _QUIET, ImageFont.load_default(18))
        width, height = min(_DETAIL[0] // _ZOOM, picture.width), min(_DETAIL[1] // _ZOOM, picture.height)
        left = min(max(0, pair.centre[0] - width // 2), picture.width - width)
        top = min(max(0, pair.centre[1] - height // 2), picture.height - height)
        detail = picture.convert("RGB").crop((left, top, left + width, top + height))
        enlarged = detail.resize((width * _ZOOM, height * _ZOOM), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (x, y + _TITLE))
        x += _DETAIL[0] + _PADDING


def _paste(sheet: Image.Image, box: tuple[int, int, int, int], picture: Image.Image) -> None:
    x, y, width, height = box
    fitted = ImageOps.contain(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    sheet.paste(fitted, (x + (width - fitted.width) // 2, y + (height - fitted.height) // 2))


def _draw_arrow(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    draw.line((x, y, x + 26, y), _ACCENT, 4)
    draw.polygon(((x + 22, y - 9), (x + 34, y), (x + 22, y + 9)), _ACCENT)
