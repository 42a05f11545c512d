"""Small JPEGs of stored pictures for the task list, made on request and kept in memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from .geometry import fit_within
from .picture_files import UndecodableImageError
from .tensors import decode, encode, resize

_SIDE = 256
# Pixels of the largest picture: 400 MB while it is decoded. One is decoded at a time.
_MOST_PIXELS = 2**27
# About 20 kB each.
_MOST_KEPT = 1000


class Thumbnails:
    """Thumbnails by SHA-256. The last 1,000 made are kept, because the browser is told to keep none."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._kept: dict[str, bytes] = {}

    def of(self, sha256: str, read: Callable[[], bytes | None]) -> bytes | None:
        """A JPEG, its longest side 256 pixels at most; ``None`` if there is no picture, or none that can be decoded.

        Args:
            sha256: of the picture's bytes.
            read: returns these bytes, ``None`` if they are gone; called only if the thumbnail is not kept.
        """
        return self._kept.get(sha256) or self._make(sha256, read)

    def _make(self, sha256: str, read: Callable[[], bytes | None]) -> bytes | None:
        with self._making:
            if sha256 in self._kept:  # another thread made it meanwhile
                return self._kept[sha256]
            data = read()
            small = _small(data) if data is not None else None
            if small is not None:
                self._kept[sha256] = small
            if len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            return small


def _small(data: bytes) -> bytes | None:
    try:
        pixels = decode(io.BytesIO(data), _MOST_PIXELS)
    except UndecodableImageError:
        return None
    height, width = pixels.shape[:2]
    return encode(resize(pixels, *fit_within(width, height, _SIDE, _SIDE)), "jpeg 95")
