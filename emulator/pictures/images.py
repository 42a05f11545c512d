"""Reads images as the services take them: base64 without a prefix, or a URL."""

import base64
import binascii
import io
import struct

import numpy as np
from PIL import Image

from ..message import ImageRefusedError
from .files import PREFIX, ResultFiles

# The emulator's own limits, so that it does not run out of memory; the limits of the services are unknown.
MAX_PIXELS, MAX_RESULT_PIXELS = 64_000_000, 200_000_000
FORMATS = ("PNG", "JPEG", "WEBP")


class Loader:
    """Loads the images of one request. All methods raise ImageRefusedError for an image that a service refuses."""

    def __init__(self, files: ResultFiles, base_url: str) -> None:
        self._files, self._base_url = files, base_url

    def data(self, text: str) -> bytes:
        """Return the bytes of an image file, from its base64 or from the URL of an own result."""
        if text.startswith(("http://", "https://")):
            # The emulator opens no connections, so the only URLs that it can load are those of its own results.
            file = self._files.get(text.removeprefix(self._base_url))
            if not text.startswith(self._base_url + PREFIX) or file is None:
                raise ImageRefusedError("the emulator takes no image URL but those of its own results")
            return file.data
        if text.startswith("data:"):
            raise ImageRefusedError("the data: prefix must be removed from a base64 image")
        try:
            return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise ImageRefusedError("the image is not base64") from None

    def image(self, text: str) -> Image.Image:
        return decode(self.data(text))

    def rgb(self, text: str) -> Image.Image:
        return as_rgb(self.image(text))

    def mask(self, text: str, size: tuple[int, int]) -> Image.Image:
        """Return a mask of this size: a PNG of one 8-bit grey channel, 255 (new) or 0 (kept), and somewhere 255."""
        data = self.data(text)
        mask = decode(data)
        if not _is_grey8_png(data):
            raise ImageRefusedError("the mask must be a PNG with one 8-bit grey channel")
        if mask.size != size:
            raise ImageRefusedError(f"the mask is {mask.width}*{mask.height}, the canvas {size[0]}*{size[1]}")
        levels = set(np.unique(np.asarray(mask)).tolist())
        if not levels <= {0, 255}:
            raise ImageRefusedError("the mask must have no grey levels but 0 and 255")
        if levels == {0}:
            raise ImageRefusedError("the mask is all black: nothing to generate")
        return mask


def check_result(width: float, height: float) -> None:
    """Raises: ImageRefusedError, if a result of this size is too large."""
    if width * height > MAX_RESULT_PIXELS:
        raise ImageRefusedError(f"the result would have more than {MAX_RESULT_PIXELS} pixels")


def decode(data: bytes) -> Image.Image:
    """Return the decoded image. Raises: ImageRefusedError, if it is no PNG, JPEG or WEBP, damaged or too large."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageRefusedError(f"the image has more than {MAX_PIXELS} pixels")
        image.load()
    # Pillow raises SyntaxError for a broken PNG, struct.error and EOFError for cut headers.
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError):
        raise ImageRefusedError("the image cannot be decoded") from None
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB, transparent parts over white."""
    if image.mode == "RGB":
        return image
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _is_grey8_png(data: bytes) -> bool:
    # Pillow reads grey of 2 and 4 bits as "L", too, so look into the PNG header: bit depth 8, colour type 0.
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:26] == b"\x08\x00"


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
