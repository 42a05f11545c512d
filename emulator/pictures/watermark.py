"""Draws the word SANDBOX, so that nobody takes a picture of the emulator for one of a service."""

from PIL import Image, ImageChops, ImageDraw, ImageFont

_TEXT = "SANDBOX"


def tiled(picture: Image.Image, where: Image.Image) -> Image.Image:
    """Return a copy with rows of the word where `where` (mode L, 0 or 255) is white; all other pixels are unchanged."""
    word = lettering(_TEXT, max(9, min(picture.size) // 28))
    pattern = Image.new("L", picture.size)
    # The first and the last row lie at the edges, and every second row is shifted by a word, so that the rows together
    # reach every column: a narrow strip of new pixels gets some of the word on any side.
    margin, gaps = word.height // 4, max(1, picture.height // (word.height * 4))
    for row in range(gaps + 1):
        y = margin + row * (picture.height - word.height - 2 * margin) // gaps
        for x in range(-word.width * (row % 2), picture.width, word.width * 2):
            pattern.paste(word, (x, y))
    return _stamped(picture, pattern, where, 0.4, _offset(picture))


def corner(picture: Image.Image) -> Image.Image:
    """Return a copy with the word in the lower right corner."""
    word = lettering(_TEXT, max(7, min(picture.size) // 24))
    left, top = picture.width - word.width - word.height // 2, picture.height - word.height * 3 // 2
    offset = _offset(picture)
    # Blend only the box of the word: blending the whole of a large picture takes long.
    right, bottom = left + word.width + offset, top + word.height + offset
    box = (max(0, left), max(0, top), max(0, min(picture.width, right)), max(0, min(picture.height, bottom)))
    part = picture.crop(box)
    pattern = Image.new("L", part.size)
    pattern.paste(word, (left - box[0], top - box[1]))
    picture = picture.copy()
    picture.paste(_stamped(part, pattern, Image.new("L", part.size, 255), 0.8, offset), box)
    return picture


def lettering(text: str, height: int) -> Image.Image:
    """Return the text as a mask (mode L), `height` pixels high."""
    font = ImageFont.load_default()
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    word = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(word).text((1 - left, 1 - top), text, fill=255, font=font)
    return word.resize((max(1, word.width * height // word.height), height), Image.Resampling.BICUBIC)


def _offset(picture: Image.Image) -> int:
    return max(1, min(picture.size) // 500)


def _stamped(
    picture: Image.Image, pattern: Image.Image, where: Image.Image, strength: float, offset: int
) -> Image.Image:
    shadow = Image.new("L", picture.size)
    shadow.paste(pattern, (offset, offset))
    # A dark shadow below light letters is legible on any ground.
    for colour, shape in (("black", shadow), ("white", pattern)):
        visible = shape.point([round(level * strength) for level in range(256)])
        picture = Image.composite(Image.new("RGB", picture.size, colour), picture, ImageChops.multiply(visible, where))
    return picture
