"""Pictures: the only package that knows torch, numpy and Pillow."""

from .geometry import Placement, fit_within
from .picture_files import UndecodableImageError, is_picture, unwrapped
from .tensors import Encoded, Pixels, decode, encode, resize
from .thumbnail import Thumbnails
from .upload import Pictures, Upload
