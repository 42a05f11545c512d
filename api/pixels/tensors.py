"""Conversions: ComfyUI IMAGE and MASK tensors <-> 8-bit pixels <-> PNG or JPEG bytes <-> base64.

The only file in ``api/`` that imports torch at run time.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core import Format, InvalidInputError, Text
from . import colour_profiles
from .colour_profiles import ToSrgb
from .geometry import Placement, strips
from .picture_files import UndecodableImageError, recognized

if TYPE_CHECKING:
    import torch

Pixels = NDArray[np.uint8]
"""An RGB picture: (H, W, 3) uint8."""
Grey = NDArray[np.uint8]
"""A mask: (H, W) uint8, 255 = new pixels."""
Values = NDArray[np.float32]
"""An RGB picture as ComfyUI has it: (H, W, 3) float32, nominally 0–1."""
_Scalar = TypeVar("_Scalar", bound=np.generic)

_WHITE = 255
# Rows converted at a time: the float values in between stay in the CPU cache, and no whole picture of them is held.
_STRIP = 64
_IMAGE, _MASK = Text("image", "图片"), Text("mask", "遮罩")


@dataclass(frozen=True)
class Encoded:
    """A picture file as a service delivered it: its bytes, their media type, and the picture's upright size."""

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int

    @classmethod
    def of(cls, data: bytes) -> Encoded:
        """Recognize ``data`` and read its size, turned as its EXIF says; no pixel is decoded.

        Raises:
            UndecodableImageError: not a picture that can be read here.
        """
        try:
            file = recognized(data)
            with file.open() as picture:
                width, height = picture.size
                return cls(data, file.media_type, *((height, width) if _lies_on_its_side(picture) else (width, height)))
        except (UndecodableImageError, MemoryError):
            raise
        except Exception as cause:  # Pillow's plugins and the libraries behind them raise whatever they like
            raise UndecodableImageError(str(cause)) from cause


# ---- tensors to pixels


def images_from_tensor(image: torch.Tensor, called: Text = _IMAGE) -> tuple[list[Pixels], list[Text]]:
    """Every image of a ComfyUI IMAGE as (H, W, 3) uint8 RGB, and notes that tell the user what the conversion changed.

    Args:
        image: (B, H, W, C) or (H, W, C) float, nominally 0–1, C = 1, 3 or 4. It may be an inference tensor on any
            device; it is not modified. Values beyond 0–1 are clipped; alpha is composited on white.
        called: the noun for the image in error messages.

    Raises:
        InvalidInputError: another shape, no image at all, or NaN pixels.
    """
    image = as_batch(image)
    return [rgb_pixels(image, index, called) for index in range(len(image))], notes_about(image)


def rgb_pixels(batch: torch.Tensor, index: int, called: Text = _IMAGE) -> Pixels:
    """Image ``index`` of a batch from :func:`as_batch`, converted and checked as by :func:`images_from_tensor`."""
    return _to_rgb(_to_uint8(batch[index], called))


def notes_about(batch: torch.Tensor) -> list[Text]:
    """Notes that tell the user what :func:`rgb_pixels` changes in this batch; empty if nothing."""
    if batch.shape[-1] != 4:
        return []
    return [Text("Transparent pixels were put on white.", "透明像素已合成到白色背景上。")]


def rgb_values(image: torch.Tensor, index: int) -> Values:
    """One image of a ComfyUI IMAGE as (H, W, 3) float32, neither clipped nor rounded, to be returned exactly.

    Args:
        image: as for :func:`images_from_tensor`; grey is repeated and alpha composited on white as there.
        index: of the image in the batch.

    Returns:
        Read-only: it may share the tensor's memory.

    Raises:
        InvalidInputError: another shape, or NaN pixels.
    """
    values = _real_values(as_batch(image)[index], _IMAGE)
    if values.shape[-1] == 1:
        values = np.repeat(values, 3, axis=-1)
    elif values.shape[-1] == 4:
        alpha = np.clip(values[..., 3:], 0.0, 1.0)
        # Where alpha is 0, colours are replaced first: infinity × 0 would be NaN.
        values = np.where(alpha > 0.0, values[..., :3], np.float32(1.0)) * alpha + (1.0 - alpha)
    read_only: Values = values.view()
    read_only.flags.writeable = False
    return read_only


def as_batch(image: torch.Tensor) -> torch.Tensor:
    """A ComfyUI IMAGE, (B, H, W, C) or (H, W, C), as (B, H, W, C) without copying it.

    Raises:
        InvalidInputError: another shape, or no image at all.
    """
    shape = tuple(image.shape)
    if image.ndim == 3:
        image = image.unsqueeze(0)
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in shape:
        raise InvalidInputError(
            Text(
                f"An IMAGE has the shape (batch, height, width, 1, 3 or 4 channels), but this one has {shape}.",
                f"IMAGE 的形状应为（批次、高、宽、1/3/4 个通道），实际为 {shape}。",
            )
        )
    return image


_NO_MASK_OF_ITS_OWN = Text(
    "LoadImage gives an empty 64×64 mask for pictures without transparency: connect the mask of the node that padded "
    "the image instead.",
    "对于没有透明通道的图片，LoadImage 会输出 64×64 的空遮罩：请改接补边节点输出的遮罩。",
)


def masks_from_tensor(mask: torch.Tensor, count: int, size: tuple[int, int]) -> list[Grey]:
    """A ComfyUI MASK as ``count`` 8-bit masks, (H, W) with 255 = new pixels; a single mask is used for every image.

    Args:
        mask: (H, W), (1, H, W) or (B, H, W) float 0–1, 1 = new pixels.
        count: number of images that the mask belongs to.
        size: their (width, height).

    Raises:
        InvalidInputError: another shape, size or count, or NaN values; both sizes are named.
    """
    shape = tuple(mask.shape)
    if mask.ndim == 2:
        mask = mask.unsqueeze(0)
    if mask.ndim != 3:
        raise InvalidInputError(
            Text(
                f"A MASK has the shape (height, width) or (batch, height, width), but this one has {shape}.",
                f"MASK 的形状应为（高、宽）或（批次、高、宽），实际为 {shape}。",
            )
        )
    if mask.shape[0] not in (1, count):
        raise InvalidInputError(
            Text(
                f"There are {count} images but {mask.shape[0]} masks.",
                f"图片有 {count} 张，遮罩却有 {mask.shape[0]} 张。",
            )
        )
    width, height = size
    if tuple(mask.shape[1:]) != (height, width):
        raise InvalidInputError(
            Text(
                f"The mask is {mask.shape[2]}×{mask.shape[1]} but the image is {width}×{height}.",
                f"遮罩尺寸为 {mask.shape[2]}×{mask.shape[1]}，而图片为 {width}×{height}。",
            ),
            advice=_NO_MASK_OF_ITS_OWN if tuple(mask.shape[1:]) == (64, 64) and not mask.any() else None,
        )
    masks = [_to_uint8(single, _MASK) for single in mask]
    return masks if len(masks) == count else masks * count


def _to_uint8(values: torch.Tensor, what: Text) -> NDArray[np.uint8]:
    real = _real_values(values, what)
    pixels = np.empty(real.shape, np.uint8)
    for rows in strips(slice(0, len(real)), _STRIP):
        levels = np.clip(real[rows], 0.0, 1.0)
        levels *= 255.0
        pixels[rows] = np.rint(levels, out=levels)
    return pixels


def _real_values(values: torch.Tensor, what: Text) -> NDArray[np.float32]:
    """Values as a float32 array, which may share the tensor's memory; raises InvalidInputError if one is NaN."""
    real: NDArray[np.float32] = values.detach().float().cpu().numpy()
    # A minimum over NaN is NaN: cheaper than isnan() of every value.
    if np.isnan(real.min(initial=0.0)):
        count = int(np.isnan(real).sum())
        raise InvalidInputError(
            Text(f"The {what.en} contains {count} NaN values.", f"{what.zh}中含有 {count} 个 NaN 值。"),
            advice=Text("Look at the node that made it.", "请检查生成它的上游节点。"),
        )
    return real


def _to_rgb(pixels: NDArray[np.uint8]) -> Pixels:
    channels = pixels.shape[-1]
    if channels == 1:
        return np.repeat(pixels, 3, axis=-1)
    if channels == 3:
        return pixels
    composited = np.empty((*pixels.shape[:2], 3), np.uint8)
    for rows in strips(slice(0, len(pixels)), _STRIP):
        alpha = pixels[rows, :, 3:].astype(np.float32) / 255.0
        composited[rows] = np.rint(pixels[rows, :, :3] * alpha + _WHITE * (1.0 - alpha))
    return composited


# ---- pixels to tensors


def image_tensor(pictures: Sequence[Pixels]) -> torch.Tensor:
    """Pictures of one size as a ComfyUI IMAGE: (B, H, W, 3) float32, 0–1."""
    height, width = pictures[0].shape[:2]
    return painted_tensor(len(pictures), width, height, lambda index, values: _divide(pictures[index], values))


def image_tensors(pictures: Sequence[Pixels]) -> list[torch.Tensor]:
    """Pictures of any sizes, each as an IMAGE of its own: (1, H, W, 3)."""
    return [image_tensor([pixels]) for pixels in pictures]


def values_of(pixels: Pixels) -> Values:
    """8-bit pixels as (H, W, 3) float32, 0–1."""
    return _divide(pixels, np.empty(pixels.shape, np.float32))


def _divide(pixels: Pixels, values: Values) -> Values:
    # In NumPy: six times as fast as torch for 8-bit pixels, and bit-identical.
    np.divide(pixels, np.float32(255.0), out=values, dtype=np.float32)
    return values


def painted_tensor(count: int, width: int, height: int, paint: Callable[[int, Values], object]) -> torch.Tensor:
    """A new IMAGE, (count, height, width, 3) float32, whose pictures ``paint(index, picture)`` writes in place.

    One at a time, into the tensor's own memory: a batch of large pictures is never held twice.
    """
    import torch

    batch = torch.empty((count, height, width, 3), dtype=torch.float32)
    for index in range(count):
        paint(index, batch[index].numpy())
    return batch


def mask_tensor(mask: NDArray[np.float32]) -> torch.Tensor:
    """A mask of (H, W) float32 as a ComfyUI MASK: (1, H, W)."""
    import torch

    return torch.from_numpy(mask).unsqueeze(0)


def placement_mask(placement: Placement) -> torch.Tensor:
    """(1, H, W) float32 mask of a canvas: 0 inside the original's rectangle, 1 (new pixels) around it."""
    return mask_tensor(mask_around(placement, np.float32(1)))


def mask_at_size(mask: torch.Tensor, width: int, height: int, chosen: Sequence[int] = (0,)) -> torch.Tensor:
    """A MASK as (B, height, width) float32: at that size already as it is, else resized (bilinear, antialiased).

    ``chosen``: the indices of the masks of a batch to return, in this order; a single mask stays one, for all pictures.
    """
    import torch

    if mask.ndim == 2:
        mask = mask.unsqueeze(0)
    mask = mask.float()
    if mask.shape[0] > 1:
        mask = mask[list(chosen)]
    if tuple(mask.shape[1:]) == (height, width):
        return mask
    resized = torch.nn.functional.interpolate(
        mask.unsqueeze(1), size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(1).clamp(0.0, 1.0)


# ---- pixels to pixels


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture at another size (Lanczos, antialiased); the same array if the size does not change."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def reduced(pixels: Pixels, width: int, height: int) -> Pixels:
    """A copy for previews: as :func:`resize`, but faster and less exact.

    Of a picture at least 8 times as large on both sides, only every n-th pixel is read; about 4 × 4 for each new one.
    """
    step = max(1, min(pixels.shape[1] // (4 * width), pixels.shape[0] // (4 * height)))
    return resize(pixels[::step, ::step], width, height)


def resize_mask(mask: Grey, width: int, height: int) -> Grey:
    """A mask at another size; a pixel that covers any new (non-zero) one is non-zero.

    By a box filter: Lanczos would ring, and so mark pixels as new inside the kept area.
    """
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BOX))


def cut_out(pixels: NDArray[_Scalar], placement: Placement) -> NDArray[_Scalar]:
    """The rectangle of ``placement`` in its canvas: a view, so that what is assigned to it lands in the canvas."""
    return pixels[placement.area]


def paste_on_white(pixels: Pixels, placement: Placement) -> Pixels:
    """A white canvas with ``pixels``, which have the placement's size, in the placement's rectangle."""
    canvas = np.full((placement.canvas_height, placement.canvas_width, 3), _WHITE, dtype=np.uint8)
    cut_out(canvas, placement)[...] = pixels
    return canvas


def mask_around(placement: Placement, new: _Scalar) -> NDArray[_Scalar]:
    """(H, W) of a canvas, of the type of ``new``: 0 inside the original's rectangle, ``new`` around it."""
    mask = np.full((placement.canvas_height, placement.canvas_width), new)
    cut_out(mask, placement)[...] = 0
    return mask


def frame_mask(placement: Placement) -> Grey:
    """(H, W) uint8 mask of a canvas: 0 inside the original's rectangle, 255 around it."""
    return mask_around(placement, np.uint8(255))


def binary_mask(mask: Grey) -> Grey:
    """The mask a service gets: 255 wherever the 8-bit mask is not 0, so that a feathered rim is generated too."""
    return np.where(mask >= 1, 255, 0).astype(np.uint8)


def is_soft(mask: Grey) -> bool:
    """Whether a mask has values other than 0 and 255, as a feathered one has."""
    return bool(((mask > 0) & (mask < 255)).any())


def kept_rectangle(mask: Grey) -> Placement | None:
    """The rectangle of kept (0) pixels in a mask, as a placement; ``None`` unless they fill one rectangle exactly."""
    kept = mask == 0
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    if rows.size == 0:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if not kept[top:bottom, left:right].all():
        return None
    height, width = mask.shape
    return Placement(width, height, left, top, right - left, bottom - top)


# ---- bytes


def fingerprint(pixels: NDArray[np.uint8]) -> str:
    """What stands for a picture or mask in a request's key: SHA-256 of its shape and 8-bit pixels, then its size."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{pixels.shape}".encode("ascii"))
    digest.update(np.ascontiguousarray(pixels).data)
    return f"sha256:{digest.hexdigest()}:{width}x{height}"


# zlib's Z_RLE.
_RUNS_ONLY = 3


def encode(pixels: NDArray[np.uint8], form: Format = "png") -> bytes:
    """PNG (lossless; 8-bit grey for a two-dimensional array) or JPEG quality 95 without chroma subsampling."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if form == "png":
        # By benchmarks/encoding.py: the least time to encode and send on any line, and nearly the smallest file.
        picture.save(buffer, "PNG", compress_level=1, compress_type=_RUNS_ONLY)
    else:
        picture.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def to_base64(data: bytes) -> str:
    """Raw base64, without a ``data:`` prefix: the services' pages ask for that."""
    return base64.b64encode(data).decode("ascii")


def decode(stream: IO[bytes], max_pixels: int) -> Pixels:
    """A whole picture as RGB pixels: upright, in sRGB, its alpha composited on white.

    PNG, JPEG, WebP, and what else of :mod:`picture_files` this Pillow reads; of a moving picture the first frame. A
    profile of another colour space is converted; an sRGB picture has the same pixels with and without its profile.

    ``max_pixels`` (width × height) replaces Pillow's own limit, a process-wide global that other packs change.

    Raises:
        UndecodableImageError: another format, cut or damaged data, or more than ``max_pixels``.
    """
    stream.seek(0)
    try:
        file = recognized(stream.read())
        with file.open() as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise UndecodableImageError(f"{width}×{height} is more than the {max_pixels} pixels expected at most")
            file.check_rows(picture)
            # Read before load(), which changes the info and tiles that it is taken from.
            transparent = _transparent_level(picture)
            picture.load()
            width, height = picture.size
            to_srgb = colour_profiles.to_srgb(picture)
            pixels = np.empty((height, width, 3), np.uint8)
            for rows in strips(slice(0, height), _STRIP):
                strip = picture.crop((0, rows.start, width, rows.stop))
                pixels[rows] = _rgb_of(strip, transparent, to_srgb)
            return _upright(pixels, _orientation(picture))
    except (UndecodableImageError, MemoryError):
        raise
    except Exception as cause:  # as in Encoded.of
        raise UndecodableImageError(str(cause)) from cause


def _rgb_of(picture: Image.Image, transparent: Level | None, to_srgb: ToSrgb | None) -> Pixels:
    """A strip of a decoded picture of any Pillow mode as RGB: in sRGB, alpha composited on white."""
    alpha: Grey | None = None
    if picture.mode in _GREY:
        picture.info.pop("transparency", None)
        levels = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
        if isinstance(transparent, int):
            alpha = np.where(levels == transparent, 0, 255).astype(np.uint8)
        if picture.mode in _DEEP_GREY:
            levels = (levels.astype(np.uint32) >> 8).astype(np.uint8)
        picture = Image.fromarray(levels)
    elif transparent is not None:
        picture.info["transparency"] = transparent
        picture = picture.convert("RGBA")
    else:
        picture = picture.convert(_CONVERTED.get(picture.mode, "RGB"))
    picture = to_srgb(picture) if to_srgb is not None else picture
    rgb = np.asarray(picture if picture.mode == "RGBA" else picture.convert("RGB"))
    return _to_rgb(rgb if alpha is None else np.dstack([rgb, alpha]))


_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L")
_GREY = ("1", "L", *_DEEP_GREY)
# Other modes become RGB.
_CONVERTED = {"CMYK": "CMYK", **dict.fromkeys(("RGBA", "RGBa", "LA", "La", "PA"), "RGBA")}
Level = int | tuple[int, ...] | bytes
# By Pillow's raw mode: what a PNG's transparent level, which has the file's bit depth, is multiplied by for 8 bits.
_SCALES = {"1": 255, "L;1": 255, "L;2": 85, "L;4": 17}


def _transparent_level(picture: Image.Image) -> Level | None:
    """What is transparent in a picture without an alpha channel, in values of Pillow's pixels; ``None`` if nothing is.

    A grey level or an RGB colour; of a palette, an index or the alpha of each index.
    """
    level: Level | None = picture.info.get("transparency")
    raw_mode = next((tile[3] for tile in getattr(picture, "tile", ())), None)
    if isinstance(level, int) and picture.mode != "P":
        return level * (_SCALES.get(raw_mode, 1) if isinstance(raw_mode, str) else 1)
    if isinstance(level, tuple) and raw_mode == "RGB;16B":
        return tuple(value >> 8 for value in level)
    return level


_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 is upright. Always 1 for a TIFF, which Pillow turns itself."""
    # getexif() of a PNG without EXIF would decode the whole picture to look for it.
    if picture.format == "TIFF" or (picture.format == "PNG" and "exif" not in picture.info):
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF of any kind is no reason to lose the picture
        return 1


def _lies_on_its_side(picture: Image.Image) -> bool:
    return _orientation(picture) in _ON_ITS_SIDE


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in _ON_ITS_SIDE:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
