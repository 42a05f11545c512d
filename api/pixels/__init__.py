"""Pictures: the only package that knows torch, numpy and Pillow. It is loaded when a name of it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .geometry import (
        Placement,
        Sides,
        extend,
        fit_within,
        is_three_by_four,
        place,
        shrink_for_canvas,
        three_by_four_around,
        three_by_four_inside,
    )
    from .picture_files import UndecodableImageError, is_picture, unwrapped
    from .tensors import (
        Encoded,
        Grey,
        Pixels,
        binary_mask,
        cut_out,
        decode,
        encode,
        frame_mask,
        is_soft,
        kept_rectangle,
        mask_at_size,
        masks_from_tensor,
        paste_on_white,
        placement_mask,
        resize,
        resize_mask,
    )
    from .thumbnail import Thumbnails
    from .upload import Pictures, Upload

# The imports above, once more for the time when the pack runs: ComfyUI's start does not need them.
_LATER = {
    "Encoded", "Grey", "Pictures", "Pixels", "Placement", "Sides", "Thumbnails", "UndecodableImageError", "Upload",
    "binary_mask", "cut_out", "decode", "encode", "extend", "fit_within", "frame_mask", "is_picture", "is_soft",
    "is_three_by_four", "kept_rectangle", "mask_at_size", "masks_from_tensor", "paste_on_white", "place",
    "placement_mask", "resize", "resize_mask", "shrink_for_canvas", "three_by_four_around", "three_by_four_inside",
    "unwrapped",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import geometry, picture_files, tensors, thumbnail, upload

    homes = (geometry, picture_files, tensors, thumbnail, upload)
    return next(getattr(module, name) for module in homes if hasattr(module, name))
