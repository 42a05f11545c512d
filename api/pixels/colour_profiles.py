"""Conversion of pictures with an embedded ICC profile to sRGB, which ComfyUI takes every IMAGE for."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

ToSrgb = Callable[[Image.Image], Image.Image]
# In levels of 255. A profile that moves no colour further counts as sRGB: applying it would only add rounding noise,
# which would change the request keys of paid nodes downstream.
_NEARLY_SRGB = 3
# Levels of each channel at which a profile is sampled.
_STEPS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
# Pillow's modes and ICC's names of colour spaces.
_SPACES = {"L": "GRAY", "RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK"}


def to_srgb(picture: Image.Image) -> ToSrgb | None:
    """A function that converts parts of ``picture`` to sRGB: from mode L, RGB, RGBA or CMYK to RGB or RGBA.

    It returns a part whose mode does not fit the profile's colour space as it is. ``None`` if ``picture`` has no
    profile, one that is sRGB, or one that cannot be used.
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
        source_part = part.convert("RGB") if part.mode == "L" and space == "RGB " else part
        if _SPACES.get(source_part.mode) != space:
            return source_part
        converted = ImageCms.applyTransform(source_part, transform(source_part.mode)) or source_part
        if source_part.mode == "RGBA":
            converted.putalpha(source_part.getchannel("A"))
        return converted

    return convert
