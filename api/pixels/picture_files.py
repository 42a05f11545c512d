"""Picture files as services and object stores deliver them: recognized by their first bytes, opened with Pillow.

Wrappings of an object store are removed, and so is what some encoders put into or behind a file and Pillow refuses.
Files that are cut off are detected here, because other nodes set Pillow's process-wide ``LOAD_TRUNCATED_IMAGES``, with
which it accepts them.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..core import base64_bytes

_PNG, _JPEG, _WEBP = "image/png", "image/jpeg", "image/webp"
_GIF, _BMP, _TIFF, _AVIF = "image/gif", "image/bmp", "image/tiff", "image/avif"
# First bytes and the media type that they stand for.
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _PNG),
    (re.compile(rb"\xff\xd8\xff"), _JPEG),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _WEBP),
    (re.compile(rb"GIF8[79]a"), _GIF),
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), _BMP),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _TIFF),
    (re.compile(rb".{4}ftyp.{0,40}avi[fs]", re.DOTALL), _AVIF),
)
# Pictures (and films) that are not read here: HEIC, JPEG XL, JPEG 2000, PSD, PDF, ICO, SVG.
_FOREIGN = re.compile(
    rb".{4}ftyp|\xff\x0a|\0\0\0\x0cJXL |\0\0\0\x0cjP  |\xff\x4f\xff\x51|8BPS|%PDF-|\0\0\x01\0"
    rb"|\s*(?:<\?xml[^>]{0,200}>\s*)?<svg[\s>]",
    re.DOTALL,
)
# First bytes of gzip and zlib.
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# The header of each chunk of an "aws-chunked" body: its size in hex and, optionally, a signature.
_AWS_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})(?:;chunk-signature=[0-9a-f]+)?\r\n")
_MOST_WRAPPINGS = 3
_BASE64 = re.compile(rb"\s*(?:data:[\w/+.-]+;base64,)?[\w+/\s-]{64}")


class UndecodableImageError(Exception):
    """The bytes are no picture, one that is cut off, damaged or too large, or of a kind that cannot be read here.

    ``is_foreign``: it is that kind, so another download would bring the same.
    """

    def __init__(self, reason: str, *, is_foreign: bool = False) -> None:
        super().__init__(reason)
        self.is_foreign = is_foreign


@dataclass(frozen=True)
class PictureFile:
    """A recognized file: its media type, its bytes without what Pillow refuses, and Pillow's class for it."""

    media_type: str
    data: bytes
    plugin: type[ImageFile.ImageFile]
    had_no_end: bool = False
    """A JPEG that came without its end marker, so rows may be missing. See :meth:`check_rows`."""

    def check_rows(self, picture: Image.Image) -> None:
        """Check that no rows are missing, where Pillow may not notice; decodes a JPEG that had no end marker.

        Args:
            picture: the opened file.

        Raises:
            UndecodableImageError: the picture is cut off.
        """
        missing = self.had_no_end and not _has_every_row(self.data.removesuffix(_END_OF_JPEG))
        if missing or (ImageFile.LOAD_TRUNCATED_IMAGES and _is_too_short(self, picture)):
            raise UndecodableImageError(f"the picture is cut off ({len(self.data)} bytes)")

    def open(self) -> Image.Image:
        """The picture, not decoded yet; raises what Pillow raises.

        The plugin class is called directly, because ``Image.open`` applies a pixel limit that other packs change.
        """
        return self.plugin(io.BytesIO(self.data))


def recognized(data: bytes) -> PictureFile:
    """Recognize ``data`` by its first bytes, and remove or add what Pillow needs to read it.

    Raises:
        UndecodableImageError: it is no picture, of a kind that this Pillow cannot read, or certainly cut off.
    """
    kind = next((kind for kind in _KINDS if kind[0].match(data)), None)
    if kind is None:
        raise UndecodableImageError(f"not a picture ({len(data)} bytes)", is_foreign=_FOREIGN.match(data) is not None)
    media_type = kind[1]
    plugin = _plugin_for(media_type)
    if plugin is None:
        raise UndecodableImageError(f"this Pillow cannot read {media_type}", is_foreign=True)
    tidy = {_PNG: _tidy_png, _JPEG: _tidy_jpeg, _WEBP: _tidy_webp}.get(media_type, bytes)
    tidied = tidy(data)
    return PictureFile(media_type, tidied, plugin, had_no_end=media_type == _JPEG and not data.startswith(tidied))


def _plugin_for(media_type: str) -> type[ImageFile.ImageFile] | None:
    """The class of Pillow that reads ``media_type``; ``None`` if this Pillow was built without it."""
    if media_type == _AVIF:
        try:
            from PIL import AvifImagePlugin
        except ImportError:
            return None
        return AvifImagePlugin.AvifImageFile if AvifImagePlugin.SUPPORTED else None
    if media_type == _WEBP and not getattr(WebPImagePlugin, "SUPPORTED", True):
        return None
    return _PLUGINS[media_type]


_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    _PNG: PngImagePlugin.PngImageFile,
    _JPEG: JpegImagePlugin.JpegImageFile,
    _WEBP: WebPImagePlugin.WebPImageFile,
    _GIF: GifImagePlugin.GifImageFile,
    _BMP: BmpImagePlugin.BmpImageFile,
    _TIFF: TiffImagePlugin.TiffImageFile,
}


# ---- PNG

_PNG_HEAD = 8
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"
# Chunks that decide how a picture looks. Others are dropped: texts may be damaged, or larger than Pillow accepts.
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"IDAT")
# Channels by colour type; the other types have one.
_CHANNELS = {2: 3, 4: 2, 6: 4}
# Of the needed chunks, those that are dropped if they are damaged.
_MAY_GO = (b"tRNS", b"iCCP", b"eXIf")
_MOST_CHUNKS = 100_000
_INFLATED_AT_ONCE = 64 * 1024
# The passes of an interlaced picture (Adam7): first column, first row, column step, row step.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    content: memoryview
    checksum: bytes
    """As the file has it; it may be wrong."""


def _tidy_png(data: bytes) -> bytes:
    """The PNG with the chunks of ``_NEEDED`` only, their checksums computed anew, and no bytes behind its end."""
    kept: list[bytes | memoryview] = [data[:_PNG_HEAD]]
    for chunk in _png_chunks(data):
        if chunk.kind in _NEEDED and (chunk.kind not in _MAY_GO or _is_usable(chunk)):
            kept += [len(chunk.content).to_bytes(4, "big"), chunk.kind, chunk.content, _checksum(chunk)]
    return b"".join([*kept, _END_OF_PNG])


def _png_chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks before IEND; the last one may be cut. Raises UndecodableImageError if they are too many."""
    view = memoryview(data)
    at = _PNG_HEAD
    for _ in range(_MOST_CHUNKS):
        head = data[at : at + 8]
        if len(head) < 8 or head[4:] == b"IEND":
            return
        ends = at + 8 + int.from_bytes(head[:4], "big")
        yield _Chunk(head[4:], view[at + 8 : ends], data[ends : ends + 4])
        at = ends + 4
    raise UndecodableImageError(f"more than {_MOST_CHUNKS} parts")


def _is_usable(chunk: _Chunk) -> bool:
    """Whether its checksum is right and, for a colour profile, whether it inflates to no more than Pillow accepts."""
    if chunk.checksum != _checksum(chunk):
        return False
    if chunk.kind != b"iCCP":
        return True
    packed = bytes(chunk.content).partition(b"\0")[2][1:]
    with suppress(zlib.error):
        return len(zlib.decompressobj().decompress(packed, ImageFile.SAFEBLOCK + 1)) <= ImageFile.SAFEBLOCK
    return False


def _checksum(chunk: _Chunk) -> bytes:
    return zlib.crc32(chunk.content, zlib.crc32(chunk.kind)).to_bytes(4, "big")


def _is_png_too_short(data: bytes) -> bool:
    """Whether its compressed data ends before its last row."""
    chunks = list(_png_chunks(data))
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0].content)
    missing = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        missing += rows * (1 + (columns * depth * _CHANNELS.get(colour, 1) + 7) // 8) if columns else 0
    inflate = zlib.decompressobj()
    with suppress(zlib.error):
        for chunk in chunks:
            rest: bytes | memoryview = chunk.content if chunk.kind == b"IDAT" else b""
            while rest and missing > 0:
                missing -= len(inflate.decompress(rest, _INFLATED_AT_ONCE))
                rest = inflate.unconsumed_tail
    return missing > 0


# ---- JPEG

_END_OF_JPEG = b"\xff\xd9"
_PROGRESSIVE, _SCAN = 0xC2, 0xDA
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# A marker that cannot stand in the compressed data of a scan: no stuffed 0xFF, no fill byte, no restart.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
# Compressed data to append: if rows are missing, the decoder makes their pixels of it; else it skips it.
_MORE = (bytes.fromhex("feaa55cc330ff099") * 40, bytes.fromhex("550fccaaf03399fe") * 40)


def _tidy_jpeg(data: bytes) -> bytes:
    """The JPEG up to its end marker, which is added where an encoder left it out.

    Segments are skipped by their lengths, so that the end marker of an embedded thumbnail is not taken for it.

    Raises:
        UndecodableImageError: there is no end marker, and a segment or a scan is missing.
    """
    at = 2
    segments: list[tuple[int, bytes]] = []
    while marker := _MARKER.search(data, at):
        if marker[0] == _END_OF_JPEG:
            return data[: marker.end()]
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        segments.append((marker[1][0], data[marker.end() + 2 : at]))
    # The last byte may be the first half of the end marker.
    scans = data.rstrip(b"\xff")
    if at > len(scans) or not _has_every_scan(segments):
        raise UndecodableImageError(f"the picture is cut off ({len(data)} bytes)")
    return scans + _END_OF_JPEG


def _has_every_scan(segments: Sequence[tuple[int, bytes]]) -> bool:
    """Whether each component has a scan; of a progressive picture, whether the last bit of each coefficient has one.

    See ITU T.81, B.2.3.
    """
    kind, frame = next(((kind, content) for kind, content in segments if kind in _FRAMES), (0, b""))
    places = range(64) if kind == _PROGRESSIVE else range(1)
    missing = {(component, place) for component in frame[6::3] for place in places}
    for segment, content in segments:
        if segment == _SCAN:
            components, (first, last, bits) = content[1:-3:2], content[-3:]
            if kind != _PROGRESSIVE or bits & 0x0F == 0:
                missing -= {(component, place) for component in components for place in range(first, last + 1)}
    return not missing


def _has_every_row(scans: bytes) -> bool:
    """Whether the pixels stay the same when more compressed data is appended: then none of them was made up."""
    pixels = _jpeg_pixels(scans + _END_OF_JPEG)
    # In data that restart markers divide, the decoder goes on only behind the next of the eight, used in turn.
    restarts = len(_RESTART.findall(scans, scans.rfind(b"\xff\xda")))
    marker = bytes((0xFF, 0xD0 + restarts % 8))
    longer = [scans + between + more + _END_OF_JPEG for more in _MORE for between in (b"", marker)]
    return all(np.array_equal(pixels, _jpeg_pixels(each)) for each in longer)


def _jpeg_pixels(data: bytes) -> np.ndarray:
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as picture:
        return np.asarray(picture)


# ---- WebP

_WEBP_PICTURES = (b"VP8 ", b"VP8L", b"ANMF")


def _tidy_webp(data: bytes) -> bytes:
    """The WebP with its size and padding put right: some encoders announce one byte too many, or omit the last padding.

    Raises:
        UndecodableImageError: no chunk with a picture is complete.
    """
    chunks: list[bytes] = []
    at = 12
    while len(head := data[at : at + 8]) == 8:
        ends = at + 8 + int.from_bytes(head[4:], "little")
        if ends > len(data):
            break
        chunks.append(data[at:ends] + bytes((ends - at) % 2))
        at = ends + (ends - at) % 2
    if not any(chunk.startswith(_WEBP_PICTURES) for chunk in chunks):
        raise UndecodableImageError(f"the picture is cut off ({len(data)} bytes)")
    content = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(content).to_bytes(4, "little") + content


# ---- GIF, BMP, TIFF

# The terminator of the last block, and the trailer.
_GIF_END = b"\0;"
_STRIPS = ((273, 279), (324, 325))
"""Tags of TIFF: where strips and tiles begin, and how long they are."""


def _is_too_short(file: PictureFile, picture: Image.Image) -> bool:
    """Whether the file holds less data than its headers announce; ``False`` for kinds that are not checked here."""
    data = file.data
    if file.media_type == _PNG:
        return _is_png_too_short(data)
    if file.media_type == _GIF:
        return _GIF_END not in data
    if file.media_type == _BMP and int.from_bytes(data[30:34], "little") == 0:
        row = (picture.width * int.from_bytes(data[28:30], "little") + 31) // 32 * 4
        return int.from_bytes(data[10:14], "little") + row * picture.height > len(data)
    tags = getattr(picture, "tag_v2", {})
    strips = [zip(tags.get(begins, ()), tags.get(sizes, ()), strict=False) for begins, sizes in _STRIPS]
    return max((at + size for each in strips for at, size in each), default=0) > len(data)


# ---- around a file


def unwrapped(data: bytes, max_bytes: int) -> bytes:
    """A file without what an object store has put around it: gzip, zlib, base64 or aws-chunked, up to three times.

    ``data`` itself if that does not lead to a file of a known kind. The header ``Content-Encoding`` is not used: stores
    set it for plain files, and leave it out for others.

    Args:
        max_bytes: where decompressed data is cut off.
    """
    inner = data
    for _ in range(_MOST_WRAPPINGS):
        if inner.startswith(_COMPRESSED):
            with suppress(zlib.error):
                inner = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(inner, max_bytes)
        elif _AWS_CHUNK.match(inner):
            inner = _unframed(inner)
        elif _BASE64.match(inner):
            with suppress(ValueError):
                inner = base64_bytes(inner.decode("ascii"))
    return inner if _FOREIGN.match(inner) or is_picture(inner) else data


def is_picture(data: bytes) -> bool:
    """Whether ``data`` begins like a kind of picture that can be read here."""
    return any(pattern.match(data) for pattern, _ in _KINDS)


def _unframed(data: bytes) -> bytes:
    """The content of an aws-chunked body."""
    pieces: list[bytes] = []
    at = 0
    while frame := _AWS_CHUNK.match(data, at):
        size = int(frame[1], 16)
        pieces.append(data[frame.end() : frame.end() + size])
        at = frame.end() + size + 2
        if size == 0:
            break
    return b"".join(pieces)
