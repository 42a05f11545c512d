"""Pictures to upload, made of ComfyUI's tensors only when they are sent, so that a waiting call holds no copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core import InvalidInputError, Text
from .tensors import Pixels, as_batch, encode, fingerprint, notes_about, rgb_pixels, to_base64

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Upload:
    """A picture or mask to upload.

    ``make`` returns its uint8 pixels, ``fingerprint`` stands for it in the key, ``encoder`` turns its pixels into
    the bytes of a file, PNG by default.
    """

    make: Callable[[], NDArray[np.uint8]] = field(repr=False)
    fingerprint: str
    encoder: Callable[[NDArray[np.uint8]], bytes] = field(default=encode, repr=False)

    @classmethod
    def of(
        cls, make: Callable[[], NDArray[np.uint8]], encoder: Callable[[NDArray[np.uint8]], bytes] = encode
    ) -> Upload:
        """Call ``make`` for the fingerprint; it is called again each time that the pixels are needed."""
        return cls(make, fingerprint(make()), encoder)

    def pixels(self) -> NDArray[np.uint8]:
        """The uint8 pixels, made anew: (H, W, 3), or (H, W) of a mask.

        Raises:
            InvalidInputError: their fingerprint has changed: another picture must not be bought under this key.
        """
        pixels = self.make()
        if fingerprint(pixels) != self.fingerprint:
            raise InvalidInputError(
                Text(
                    "Another node changed the image in place while this call waited. Nothing was submitted.",
                    "在等待提交期间，其他节点就地修改了该图片。未提交任何内容。",
                ),
                advice=Text(
                    "Queue again, or give that node a copy of the image.", "请重新运行，或让该节点使用图片的副本。"
                ),
            )
        return pixels

    def base64(self) -> str:
        """The encoded pixels in base64; raises as :meth:`pixels`."""
        return to_base64(self.encoder(self.pixels()))


class Pictures:
    """The images of a ComfyUI IMAGE as (H, W, 3) uint8 RGB; each is converted anew whenever it is read.

    Args:
        image: as for :func:`tensors.images_from_tensor`.

    Raises:
        InvalidInputError: another shape; when an image is read: NaN pixels.
    """

    def __init__(self, image: torch.Tensor) -> None:
        self._batch = as_batch(image)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        _, height, width, _ = self._batch.shape
        return width, height

    @property
    def notes(self) -> Sequence[Text]:
        """Notes that tell the user what the conversion changes."""
        return notes_about(self._batch)

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: int) -> Pixels:
        return rgb_pixels(self._batch, index)

    def __iter__(self) -> Iterator[Pixels]:
        return (self[index] for index in range(len(self)))

    def upload(
        self,
        index: int,
        change: Callable[[Pixels], Pixels] = lambda pixels: pixels,
        encoder: Callable[[Pixels], bytes] = encode,
    ) -> Upload:
        """Image ``index`` after ``change``, which is called again whenever the upload makes its pixels."""
        return Upload.of(lambda: change(self[index]), encoder)
