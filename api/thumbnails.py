"""Small JPEGs of stored pictures for the task list, made when they are asked for and kept in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

from .geometry import fit_within
from .images import UndecodableImageError, decode, encode, resize

_SIDE = 256
# 400 MB while it is being decoded, and one at a time.
_MOST_PIXELS = 2**27


class Thumbnails:
    """
    Args:
        most_bytes: of all that are kept; those that nobody asked for the longest go first.
    """

    def __init__(self, most_bytes: int = 32 * 2**20) -> None:
        self._most_bytes = most_bytes
        self._making = threading.Lock()
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def of(self, sha256: str, read: Callable[[], bytes | None]) -> bytes | None:
        """A JPEG, its longest side 256 pixels at most; ``None`` if there is no picture, or none that can be decoded.

        Args:
            read: the picture's bytes; asked for only if its thumbnail is not kept.
        """
        if (kept := self._known(sha256)) is not None:
            return kept
        with self._making:
            if (kept := self._known(sha256)) is not None:
                return kept
            data = read()
            small = _small(data) if data is not None else None
        if small is not None:
            self._keep(sha256, small)
        return small

    def _known(self, sha256: str) -> bytes | None:
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
            return self._kept.get(sha256)

    def _keep(self, sha256: str, small: bytes) -> None:
        with self._lock:
            self._kept[sha256] = small
            while sum(map(len, self._kept.values())) > self._most_bytes:
                self._kept.popitem(last=False)


def _small(data: bytes) -> bytes | None:
    try:
        pixels = decode(io.BytesIO(data), _MOST_PIXELS)
    except UndecodableImageError:
        return None
    height, width = pixels.shape[:2]
    return encode(resize(pixels, *fit_within(width, height, _SIDE, _SIDE)), "jpeg 95")
