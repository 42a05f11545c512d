"""Pictures as services and object stores deliver them: taken if every row decodes, upright, in sRGB, on white."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hidream_volcengine.api import tensors
from hidream_volcengine.api.pixels import colour_profiles, picture_files
from hidream_volcengine.api.pixels.picture_files import UndecodableImageError
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

MOST = 10_000_000


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)


def saved(form: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture or Image.fromarray(smooth())).save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return tensors.decode(io.BytesIO(data), MOST)


@pytest.fixture(params=[False, True], ids=["strict Pillow", "tolerant Pillow"])
def tolerant_pillow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other nodes change this global."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", request.param)


# ---- kinds


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_what_pillow_reads_is_taken_exactly(form: str) -> None:
    picture = Image.fromarray(smooth()).quantize(64) if form == "GIF" else Image.fromarray(smooth())
    data = saved(form, picture)
    assert np.array_equal(decoded(data), np.asarray(picture.convert("RGB")))
    assert tensors.Encoded.of(data).media_type == f"image/{form.lower()}"


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_lossy_kinds_are_taken(form: str) -> None:
    assert np.abs(decoded(saved(form)).astype(int) - smooth()).mean() < 8


def test_of_a_moving_picture_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    for form in ("GIF", "PNG", "WEBP"):
        data = saved(form, frames[0], save_all=True, append_images=frames[1:], duration=50)
        assert (np.abs(decoded(data).astype(int) - (255, 0, 0)) < 8).all(), form


@pytest.mark.parametrize("missing", ["module", "support"])
def test_an_avif_that_this_pillow_cannot_read_is_foreign(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import AvifImagePlugin

    data = saved("AVIF")
    if missing == "module":
        monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
        monkeypatch.delattr("PIL.AvifImagePlugin")
    else:
        monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(UndecodableImageError, match="image/avif") as caught:
        decoded(data)
    assert caught.value.is_foreign
    with pytest.raises(UndecodableImageError):
        tensors.Encoded.of(data)


FOREIGN = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "boxed JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n",
    "PSD": b"8BPS\0\1",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "film": b"\0\0\0\x20ftypisom\0\0\2\0",
}


def test_a_kind_that_is_never_read_is_foreign() -> None:
    for kind, data in FOREIGN.items():
        with pytest.raises(UndecodableImageError) as caught:
            decoded(data)
        assert caught.value.is_foreign, kind


def test_what_may_be_a_picture_next_time_is_not_foreign() -> None:
    for data in (b"", b"<html>busy</html>", b"<?xml version='1.0'?><Error/>", b'{"code": 1}', bytes(99)):
        with pytest.raises(UndecodableImageError) as caught:
            decoded(data)
        assert not caught.value.is_foreign, data


# ---- files that Pillow refuses


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def with_chunk(data: bytes, extra: bytes) -> bytes:
    """A PNG with one more chunk behind its first."""
    return data[:33] + extra + data[33:]


def odd_pngs() -> dict[str, bytes]:
    png = saved("PNG")
    large = zlib.compress(bytes(80_000_000), 9)
    return {
        "10 kB behind its end": png + bytes(10_000),
        "without its end": png[:-12],
        "without its end and the checksum before": png[:-16],
        "without the last byte of the compressed data's checksum": png[:-17],
        "a large text": with_chunk(png, chunk(b"zTXt", b"prompt\0\0" + large)),
        "many texts": with_chunk(png, chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(900_000))) * 90),
        "a damaged text": with_chunk(png, chunk(b"zTXt", b"prompt\0\0garbage")),
        "a text with a wrong checksum": with_chunk(png, chunk(b"tEXt", b"prompt\0words")[:-1] + b"x"),
        "damaged EXIF": with_chunk(png, chunk(b"eXIf", b"II*\0garbage")),
        "a damaged profile": with_chunk(png, chunk(b"iCCP", b"icc\0\0garbage")),
    }


def test_an_odd_png_is_taken_exactly(tolerant_pillow: None) -> None:
    for oddity, data in odd_pngs().items():
        assert np.array_equal(decoded(data), smooth()), oddity


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_taken_and_a_cut_one_is_not(progressive: bool, tolerant_pillow: None) -> None:
    # With a thumbnail, which has an end marker of its own.
    thumbnail = saved("JPEG", Image.fromarray(smooth(16, 16)))
    exif = b"Exif\0\0" + thumbnail
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    data = saved("JPEG", noise, progressive=progressive, quality=60, exif=exif)
    whole = decoded(data)
    assert np.array_equal(whole, np.asarray(Image.open(io.BytesIO(data))))
    assert np.array_equal(decoded(data[:-2]), whole)
    assert np.array_equal(decoded(data + b"maker's own data \xff\xd8 \xff\xd9"), whole)
    for missing in (*range(20, 600, 29), len(data) // 2):
        with pytest.raises(UndecodableImageError):
            decoded(data[:-missing])


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_with_an_odd_size_is_taken_and_a_cut_one_is_not(lossless: bool, tolerant_pillow: None) -> None:
    for width in (55, 56, 57):
        data = saved("WEBP", Image.fromarray(smooth(40, width)), lossless=lossless)
        whole = decoded(data)
        size = len(data) - 8
        for wrong in (size - 1, size + 1, size + 2, 0, 2**32 - 2):
            assert np.array_equal(decoded(data[:4] + struct.pack("<I", wrong) + data[8:]), whole)
        assert np.array_equal(decoded(data + b"x"), whole)
        if struct.unpack("<I", data[16:20])[0] % 2:
            assert np.array_equal(decoded(data[:-1]), whole), "without its padding"
        for missing in (3, 10, len(data) // 2):
            with pytest.raises(UndecodableImageError):
                decoded(data[:-missing])


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_cut_file_is_found_out(form: str, tolerant_pillow: None) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    data = saved(form, noise)
    assert decoded(data).shape == (48, 64, 3)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UndecodableImageError):
            decoded(data[: int(len(data) * share)])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_between_two_of_its_parts_is_found_out(progressive: bool) -> None:
    """At a restart marker, behind which decoding could go on, and between two scans."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = saved("JPEG", noise, quality=60, progressive=progressive, restart_marker_blocks=1)
    assert decoded(data[:-2]).shape == (64, 64, 3)
    begins = data.index(b"\xff\xda")
    places = [at for at in range(begins, len(data) - 2) if data[at] == 0xFF and data[at + 1] not in (0, 0xFF)]
    assert len(places) > 8
    for at in places[1:]:
        for cut in (at, at + 1, at + 2):
            with pytest.raises(UndecodableImageError):
                decoded(data[:cut])


def test_what_libraries_raise_is_never_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    avif = saved("AVIF")
    for data in (avif.replace(b"pitm", b"mtip"), saved("TIFF").replace(b"\x0f\x01", b"\xff\xff"), avif[:-200]):
        for read in (decoded, tensors.Encoded.of):
            with contextlib.suppress(UndecodableImageError):
                read(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for form in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        with contextlib.suppress(UndecodableImageError):
            decoded(saved(form))


def test_an_announcement_without_bytes_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its size is known to be acceptable, nothing is decoded, and never more than its rows take."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(50_000_000), 9)), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)
    longest: list[int] = []
    inflate = zlib.decompressobj

    class Watched:
        def __init__(self, *_: Any) -> None:
            self._inflate = inflate()
            self.unconsumed_tail = b""

        def decompress(self, data: bytes, most: int) -> bytes:
            out = self._inflate.decompress(data, most)
            longest.append(len(out))
            self.unconsumed_tail = self._inflate.unconsumed_tail
            return out

    monkeypatch.setattr(picture_files.zlib, "decompressobj", Watched)
    assert decoded(bomb).shape == (8, 8, 3)
    assert sum(longest) <= 64 * 1024
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    assert tensors.Encoded.of(saved("PNG")).width == 56, "from its head"


def test_interlaced_pictures_are_whole_or_found_out(tolerant_pillow: None) -> None:
    """Pillow writes none: this one has the passes of a picture of 3×3 grey pixels."""
    head = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 1)
    passes = [[[1]], [], [], [[3]], [[7, 9]], [[2], [8]], [[4, 5, 6]]]
    rows = b"".join(b"\0" + bytes(row) for each in passes for row in each)
    for data, whole in ((rows, True), (rows[:-3], False)):
        chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
        png = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)
        if whole:
            assert decoded(png)[..., 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        else:
            with pytest.raises(UndecodableImageError):
                decoded(png)


# ---- what an object store has put around a file


def aws_chunked(data: bytes, signature: bytes = b";chunk-signature=" + b"0" * 64) -> bytes:
    pieces = [data[:700], data[700:], b""]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), signature, piece) for piece in pieces)


WRAPPINGS = {
    "nothing": lambda data: data,
    "gzip": gzip.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data)),
    "deflate": zlib.compress,
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "data URL": lambda data: b"data:image/png;base64," + base64.b64encode(data),
    "aws-chunked": aws_chunked,
    "aws-chunked without signatures": lambda data: aws_chunked(data, b""),
}


def test_what_a_store_put_around_a_picture_is_taken_off() -> None:
    data = saved("PNG")
    for wrapping, wrap in WRAPPINGS.items():
        assert picture_files.unwrapped(wrap(data), MOST) == data, wrapping


def test_what_is_no_picture_stays_as_it_came() -> None:
    for data in (b"", b"<html>busy</html>", b"not found " * 20, gzip.compress(b"<html>"), bytes(99)):
        assert picture_files.unwrapped(data, MOST) == data


def test_a_packed_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(saved("BMP", Image.new("RGB", (2000, 2000))))
    assert len(picture_files.unwrapped(bomb, 1_000_000)) <= 1_000_000


# ---- how it looks


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_orientation_of_exif_is_applied(form: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(form, exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        assert np.array_equal(decoded(data), expected), orientation
        assert tensors.Encoded.of(data).width == expected.shape[1], orientation


def wide_gamut() -> bytes:
    """A matrix profile with the red and green of another space: sRGB's, its columns changed."""
    profile = bytearray(SRGB)
    at = {bytes(profile[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    adobe = {b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087)}
    for tag, values in adobe.items():
        begins = int.from_bytes(profile[at[tag] + 4 : at[tag] + 8], "big")
        profile[begins + 8 : begins + 20] = b"".join(round(value * 65536).to_bytes(4, "big") for value in values)
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("named", [True, False])
def test_a_picture_tagged_as_srgb_has_the_pixels_of_an_untagged_one(form: str, named: bool) -> None:
    """Paid nodes downstream are keyed by pixels."""
    profile = SRGB if named else SRGB.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    assert np.array_equal(decoded(saved(form, icc_profile=profile)), decoded(saved(form)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_wide_gamut_is_converted(mode: str) -> None:
    picture = Image.new("RGB", (8, 100), (200, 60, 60))
    picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
    if mode == "RGBA":
        picture.putalpha(255)
    got = decoded(saved("PNG", picture, icc_profile=wide_gamut()))
    source = ImageCms.ImageCmsProfile(io.BytesIO(wide_gamut()))
    srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    one = Image.new("RGB", (1, 1), (200, 60, 60))
    expected = ImageCms.profileToProfile(one, source, srgb, renderingIntent=intent)
    assert np.abs(got.astype(int) - np.asarray(expected)).max() <= 1
    assert got[0, 0, 0] > 215, "redder than its numbers say"


def test_alpha_stays_what_it_is_beside_a_profile() -> None:
    picture = Image.new("RGBA", (4, 4), (200, 60, 60, 0))
    assert (decoded(saved("PNG", picture, icc_profile=wide_gamut())) == 255).all()


@pytest.mark.parametrize("profile", [b"x", b"x" * 400, SRGB[:200], SRGB + bytes(1_200_000)])
def test_a_damaged_profile_changes_nothing(profile: bytes) -> None:
    assert np.array_equal(decoded(saved("PNG", icc_profile=profile)), smooth())


def test_a_profile_of_another_space_than_the_picture_changes_nothing() -> None:
    grey = Image.fromarray(smooth()[..., 0])
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(decoded(saved("PNG", icc_profile=lab)), smooth())
    assert np.array_equal(decoded(saved("PNG", grey, icc_profile=SRGB)), np.stack([grey] * 3, axis=-1))


def test_without_little_cms_profiles_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved("PNG", icc_profile=wide_gamut())
    monkeypatch.setitem(sys.modules, "PIL.ImageCms", None)
    monkeypatch.delattr("PIL.ImageCms")
    assert colour_profiles.to_srgb(Image.open(io.BytesIO(data))) is None


def test_a_cmyk_jpeg_is_taken() -> None:
    picture = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert (np.abs(decoded(saved("JPEG", picture)).astype(int) - (255, 0, 0)) < 8).all()


def png_of(depth: int, colour: int, rows: np.ndarray, transparent: bytes) -> bytes:
    """An uncompressed PNG with a transparent level; ``rows`` are its bytes."""
    height, width = len(rows), rows.shape[1] * 8 // depth // (3 if colour == 2 else 1)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", head), (b"tRNS", transparent), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def test_sixteen_bit_grey_with_a_transparent_level_is_put_on_white() -> None:
    levels = np.array([[0, 1000, 0x1234, 0x12FF, 65535]] * 2, np.uint16)
    got = decoded(png_of(16, 0, levels.astype(">u2").view(np.uint8), struct.pack(">H", 0x1234)))
    assert got[0, :, 0].tolist() == [0, 3, 255, 0x12, 255]


@pytest.mark.parametrize(("depth", "level", "shown"), [(1, 1, 0), (2, 2, 170), (4, 9, 153), (8, 200, 200)])
def test_grey_with_a_transparent_level_is_put_on_white(depth: int, level: int, shown: int) -> None:
    """Pillow's pixels have 8 bits, its transparent level has those of the file."""
    solid = int(f"{level:0{depth}b}" * (8 // depth), 2)
    got = decoded(png_of(depth, 0, np.array([[solid, 0]], np.uint8), struct.pack(">H", level)))
    assert (got[0, : 8 // depth] == 255).all() and (got[0, 8 // depth :] == 0).all(), shown


def test_sixteen_bit_colours_with_a_transparent_one_are_put_on_white() -> None:
    colours = np.array([[[0x1234, 0x5678, 0x9ABC], [0x3412, 0x7856, 0xBC9A]]], np.uint16)
    rows = colours.reshape(1, -1).astype(">u2").view(np.uint8)
    got = decoded(png_of(16, 2, rows, struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC)))
    assert got[0].tolist() == [[255, 255, 255], [0x34, 0x78, 0xBC]]
