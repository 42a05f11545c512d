"""Result files in forms that are valid, or nearly, but that a careless reader fails on."""

import base64
import gzip
import io
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from PIL import Image

OddPicture = Literal["behind_end", "no_end", "on_its_side", "grey16", "gif", "avif", "heic"]

# The encodings that are applied. Any other Content-Encoding is sent as a label only, over unchanged bytes.
_WRAPPED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "base64": base64.b64encode}
_TURNED_BY_EXIF_6 = Image.Transpose.ROTATE_90
_ORIENTATION = 0x0112


def encoded(data: bytes, encoding: str) -> bytes:
    """Return the body for this Content-Encoding."""
    return _WRAPPED.get(encoding, bytes)(data)


def odd(data: bytes, kind: OddPicture) -> tuple[bytes, str]:
    """Return the picture of a PNG file in the form `kind`, and its media type."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if kind == "behind_end":
        return data + bytes(10_000), "image/png"
    if kind == "no_end":
        return _saved(picture, "JPEG")[:-2], "image/jpeg"
    if kind == "on_its_side":
        exif = Image.Exif()
        exif[_ORIENTATION] = 6
        return _saved(picture.transpose(_TURNED_BY_EXIF_6), "JPEG", exif=exif), "image/jpeg"
    if kind == "grey16":
        levels = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        return _saved(Image.fromarray(levels), "PNG", transparency=0), "image/png"
    if kind == "heic":
        return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + data, "image/heic"
    return _saved(picture, kind.upper()), f"image/{kind}"


def _saved(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


KINDS: tuple[OddPicture, ...] = get_args(OddPicture)
