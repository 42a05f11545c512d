"""Pictures: the only package that knows torch, numpy and Pillow."""

from .geometry import Placement, fit_within
from .picture_files import UndecodableImageError, is_picture, unwrapped
from .tensors import Encoded, Pixels, decode, encode, resize
from .thumbnail import Thumbnails
from .upload import Pictures, Upload

__all__ = [
    "Encoded",
    "Pictures",
    "Pixels",
    "Placement",
    "Thumbnails",
    "UndecodableImageError",
    "Upload",
    "decode",
    "encode",
    "fit_within",
    "is_picture",
    "resize",
    "unwrapped",
]
