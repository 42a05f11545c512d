"""Makes the result pictures: each from its input, the same for the same seed, with the watermark."""

import colorsys
import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from .. import extension
from . import watermark

LANCZOS = Image.Resampling.LANCZOS
Size = tuple[int, int]


def chance(*parts: object) -> int:
    """Return a seed of 32 bits, another one whenever a part is another one."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:4], "big")


def outpaint(original: Image.Image, canvas: Size, position: tuple[int, int], seed: int) -> Image.Image:
    """Return the canvas with the original at `position`, and new pixels around it."""
    (width, height), (x, y) = canvas, position
    picture = Image.fromarray(extension.extend(np.asarray(original), width, height, x, y, seed))
    new = Image.new("L", canvas, 255)
    new.paste(0, (x, y, x + original.width, y + original.height))
    return watermark.tiled(picture, new)


def outpaint_sides(original: Image.Image, top: float, bottom: float, left: float, right: float,
                   limit: Size | None, seed: int) -> Image.Image:
    """Return the original extended by shares of its own size (0.5 = half of it), scaled down into `limit` if any."""
    width, height = original.size
    full = (round(width * (1 + left + right)), round(height * (1 + top + bottom)))
    scale = _scale(full, limit)
    canvas = _scaled(full, scale)
    small = original if scale == 1 else original.resize(_scaled(original.size, scale), LANCZOS)
    # Rounding may put the original one pixel over the far edge.
    x = min(round(width * left * scale), canvas[0] - small.width)
    y = min(round(height * top * scale), canvas[1] - small.height)
    return outpaint(small, canvas, (x, y), seed)


def outpaint_canvas(canvas: Image.Image, mask: Image.Image, limit: Size | None, seed: int) -> Image.Image:
    """Return the canvas with new pixels where the mask is not 0, scaled down into `limit` if any."""
    picture = Image.fromarray(extension.fill(np.asarray(canvas), np.asarray(mask) > 0, seed))
    scale = _scale(canvas.size, limit)
    if scale < 1:
        size = _scaled(canvas.size, scale)
        picture, mask = picture.resize(size, LANCZOS), mask.resize(size, Image.Resampling.NEAREST)
    return watermark.tiled(picture, mask)


def restyle(references: Sequence[Image.Image], size: Size, seed: int, index: int) -> Image.Image:
    """Return the references, blended if there are several, in a style that depends on the seed and the index."""
    base = ImageOps.fit(references[0], size, LANCZOS)
    for count, reference in enumerate(references[1:], start=2):
        base = Image.blend(base, ImageOps.fit(reference, size, LANCZOS), 1 / count)
    random = np.random.default_rng([seed, index])
    hue = float(random.random())
    style = (seed + index) % 4
    if style == 0:
        graded = ImageOps.colorize(ImageOps.grayscale(base), _colour(hue, 0.75, 0.18), _colour(hue + 0.45, 0.3, 1.0),
                                   _colour(hue + 0.2, 0.55, 0.65))
        picture = Image.blend(base, graded, 0.75)
    elif style == 1:
        picture = ImageOps.posterize(base.filter(ImageFilter.GaussianBlur(2)), 3)
        picture = ImageEnhance.Color(picture).enhance(1.7)
        picture = Image.blend(picture, Image.new("RGB", size, _colour(hue, 0.6, 0.9)), 0.15)
    elif style == 2:
        edges = ImageOps.grayscale(base.filter(ImageFilter.GaussianBlur(1.5))).filter(ImageFilter.FIND_EDGES)
        lines = edges.point([max(0, 255 - level * 4) for level in range(256)])
        paper = Image.new("RGB", size, _colour(hue, 0.35, 1))
        washed = Image.blend(base.filter(ImageFilter.GaussianBlur(5)), paper, 0.25)
        picture = ImageChops.multiply(washed, lines.convert("RGB"))
    else:
        shifted = base.convert("HSV")
        band, saturation, value = shifted.split()
        turn = int(40 + 170 * hue)
        band = band.point([(level + turn) % 256 for level in range(256)])
        picture = Image.merge("HSV", (band, saturation, value)).convert("RGB")
    return watermark.corner(picture)


def upscale(original: Image.Image, ratio: int) -> Image.Image:
    larger = original.resize((original.width * ratio, original.height * ratio), LANCZOS)
    return watermark.corner(larger.filter(ImageFilter.UnsharpMask(radius=ratio, percent=40, threshold=2)))


def variation(photo: Image.Image, size: Size, template: int, index: int) -> Image.Image:
    """Return picture number `index` of a set: the photo, whole or cropped, plain or mirrored, on a studio wall."""
    hue = (template * 0.137 + index * 0.23) % 1
    wall = Image.new("L", (1, 256))
    wall.putdata(range(256))
    studio = ImageOps.colorize(wall.resize(size), _colour(hue, 0.12, 0.98), _colour(hue, 0.42, 0.62))
    if index >= 2:
        width, height = photo.size
        photo = photo.crop((width // 8, 0, width - width // 8, max(1, height * 3 // 4)))
    if index % 2:
        photo = ImageOps.mirror(photo)
    inner = (size[0] * 84 // 100, size[1] * 84 // 100)
    place = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    shape = Image.new("L", size)
    ImageDraw.Draw(shape).rounded_rectangle((*place, place[0] + inner[0] - 1, place[1] + inner[1] - 1),
                                            radius=size[0] // 30, fill=255)
    shadow = ImageChops.offset(shape.filter(ImageFilter.GaussianBlur(size[0] // 50)), size[0] // 90, size[0] // 70)
    studio.paste(_colour(hue, 0.5, 0.25), (0, 0), shadow.point([level // 2 for level in range(256)]))
    front = Image.new("RGB", size)
    front.paste(ImageOps.fit(photo, inner, LANCZOS), place)
    return watermark.corner(Image.composite(front, studio, shape))


def template(number: int, gender: str, size: Size) -> Image.Image:
    """Return the picture of a template: a figure in the colours of its variations, and its number."""
    width, height = size
    hue = number * 0.137 % 1
    picture = Image.new("RGB", size, _colour(hue, 0.25, 0.9))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, height * 4 // 5, width, height), fill=_colour(hue, 0.42, 0.62))
    middle, skin, clothes = width // 2, (222, 184, 155), _colour(hue + 0.5, 0.55, 0.55)
    lean = (number % 7 - 3) * width // 60
    shoulders, hips = (width // 7, width // 5) if gender == "woman" else (width // 5, width // 8)
    draw.polygon([(middle - shoulders + lean, height * 33 // 100), (middle + shoulders + lean, height * 33 // 100),
                  (middle + hips, height * 88 // 100), (middle - hips, height * 88 // 100)], fill=clothes)
    head = width // 9
    centre = (middle + lean, height * 22 // 100)
    if gender == "woman":
        draw.ellipse(_around(centre, head * 4 // 3), fill=(70, 45, 35))
    draw.ellipse(_around(centre, head), fill=skin)
    digits = watermark.lettering(str(number), width // 9)
    picture.paste("black", (width // 20, width // 20), digits)
    return watermark.corner(picture)


def _around(centre: tuple[int, int], radius: int) -> tuple[int, int, int, int]:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def resized(picture: Image.Image, size: Size) -> Image.Image:
    return picture.resize(size, LANCZOS)


def _scale(size: Size, limit: Size | None) -> float:
    return min(1.0, limit[0] / size[0], limit[1] / size[1]) if limit else 1.0


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
