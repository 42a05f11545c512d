"""Pictures with an embedded ICC profile, as sRGB: what ComfyUI takes every IMAGE for."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

ToSrgb = Callable[[Image.Image], Image.Image]
# Levels of 255. A profile that moves no colour further is sRGB, whoever made it: applying it would only add noise, and
# paid nodes downstream are keyed by pixels.
_NEARLY_SRGB = 3
_STEPS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
_SPACES = {"L": "GRAY", "RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK"}


def to_srgb(picture: Image.Image) -> ToSrgb | None:
    """What converts parts of ``picture``, given as L, RGB, RGBA or CMYK, to sRGB (one of another space stays as it is).

    ``None`` if it has no profile, one that is sRGB, or one that cannot be used.
    """
    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return None
    try:
        return _conversion(profile)
    except Exception:  # a damaged profile of any kind, or a Pillow without Little CMS: the picture is taken without it
        return None


def _conversion(profile: bytes) -> ToSrgb | None:
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    space = source.profile.xcolor_space
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    if space == "RGB ":
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        plain = ImageCms.buildTransform(source, srgb, "RGB", "RGB", intent)
        samples = Image.fromarray(np.stack(np.meshgrid(*[_STEPS] * 3), axis=-1).reshape(1, -1, 3).astype(np.uint8))
        moved = ImageCms.applyTransform(samples, plain)
        if np.abs(np.asarray(moved).astype(int) - np.asarray(samples)).max() <= _NEARLY_SRGB:
            return None

    @cache
    def transform(mode: str) -> ImageCms.ImageCmsTransform:
        return ImageCms.buildTransform(source, srgb, mode, mode if mode == "RGBA" else "RGB", intent)

    def convert(part: Image.Image) -> Image.Image:
        own = part.convert("RGB") if part.mode == "L" and space == "RGB " else part
        if _SPACES.get(own.mode) != space:
            return own
        converted = ImageCms.applyTransform(own, transform(own.mode)) or own
        if own.mode == "RGBA":
            converted.putalpha(own.getchannel("A"))
        return converted

    return convert
