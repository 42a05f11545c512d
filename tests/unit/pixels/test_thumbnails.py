"""Thumbnails: small whatever they are made of, made once, and not more of them kept than allowed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hidream_volcengine.api import Thumbnails
from hidream_volcengine.api.pixels import thumbnail as thumbnails
from PIL import Image, PngImagePlugin


def picture(width: int, height: int, form: str = "PNG", mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise if len(mode) > 1 else noise[..., 0], mode).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height", "small"), [
    (512, 256, (256, 128)), (100, 1000, (26, 256)), (3000, 2, (256, 1)), (30, 20, (30, 20)), (256, 256, (256, 256)),
])  # fmt: skip
def test_the_longest_side_fits(width: int, height: int, small: tuple[int, int]) -> None:
    made = Thumbnails().of("a", lambda: picture(width, height))
    assert made is not None
    shown = Image.open(io.BytesIO(made))
    assert (shown.format, shown.size) == ("JPEG", small)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_every_kind_of_picture(form: str) -> None:
    assert Thumbnails().of("a", lambda: picture(300, 300, form)) is not None


def test_transparency_is_on_white() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(clear, "PNG")
    made = Thumbnails().of("a", clear.getvalue)
    assert made is not None
    assert np.asarray(Image.open(io.BytesIO(made))).min() > 250


@pytest.mark.parametrize("data", [None, b"", b"<html>", picture(64, 64)[:-40], picture(64, 64, "JPEG")[:300]])
def test_what_is_no_picture_has_none(data: bytes | None) -> None:
    assert Thumbnails().of("a", lambda: data) is None


def test_a_picture_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_MOST_PIXELS", 64 * 64)
    assert Thumbnails().of("a", lambda: picture(64, 64)) is not None
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    assert Thumbnails().of("b", lambda: picture(64, 65)) is None


def test_one_is_made_once() -> None:
    read: list[str] = []

    def of(name: str) -> bytes | None:
        return kept.of(name, lambda: (read.append(name), picture(64, 64))[1])

    kept = Thumbnails()
    assert of("a") == of("a")
    of("b")
    assert read == ["a", "b"]


def test_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_MOST_KEPT", 2)
    read: list[str] = []
    kept = Thumbnails()
    for name in ("a", "b", "a", "c", "b", "a"):
        assert kept.of(name, lambda name=name: (read.append(name), picture(64, 64))[1])
    assert read == ["a", "b", "c", "a"]
