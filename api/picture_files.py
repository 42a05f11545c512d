"""Files of pictures as services and object stores deliver them: recognized by their bytes, opened with Pillow.

What stands around a picture is taken off first: a wrapping of the object store, and what some encoders put into or
behind a file and Pillow refuses. A file that was cut is found out here where Pillow may not: other nodes switch on its
process-wide ``LOAD_TRUNCATED_IMAGES``.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

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

from .wire import base64_bytes

_PNG, _JPEG, _WEBP = "image/png", "image/jpeg", "image/webp"
_GIF, _BMP, _TIFF, _AVIF = "image/gif", "image/bmp", "image/tiff", "image/avif"
# By the first bytes.
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _PNG),
    (re.compile(rb"\xff\xd8\xff"), _JPEG),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _WEBP),
    (re.compile(rb"GIF8[79]a"), _GIF),
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), _BMP),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _TIFF),
    (re.compile(rb".{4}ftyp.{0,40}avi[fs]", re.DOTALL), _AVIF),
)
# Pictures (and films) that Pillow never reads: HEIC, JPEG XL, PSD, PDF, SVG.
_FOREIGN = re.compile(rb".{4}ftyp|\xff\x0a|\0\0\0\x0cJXL |8BPS|%PDF-|\s*(?:<\?xml[^>]{0,200}>\s*)?<svg[\s>]", re.DOTALL)
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# The frame around each piece of a body that is sent as "aws-chunked": its size and, perhaps, a signature.
_AWS_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})(?:;chunk-signature=[0-9a-f]+)?\r\n")
_MOST_WRAPPINGS = 3
_BASE64 = re.compile(rb"\s*(?:data:[\w/+.-]+;base64,)?[\w+/\s-]{64}")


class UndecodableImageError(Exception):
    """Bytes that are no whole picture of an acceptable size.

    ``is_foreign``: they are a file of a kind that cannot be read here, and another download would bring the same.
    """

    def __init__(self, reason: str, *, is_foreign: bool = False) -> None:
        super().__init__(reason)
        self.is_foreign = is_foreign


@dataclass(frozen=True)
class PictureFile:
    """A recognized file: its media type, and its bytes without what Pillow refuses."""

    media_type: str
    data: bytes
    plugin: type[ImageFile.ImageFile]
    had_no_end: bool = False
    """Of a JPEG: it may be cut. See :meth:`check_rows`."""

    def check_rows(self, picture: Image.Image) -> None:
        """Look for missing rows, where Pillow may pass them over. A JPEG that had no end marker is decoded for that.

        Args:
            picture: the opened file.

        Raises:
            UndecodableImageError: it is cut.
        """
        missing = self.had_no_end and not _has_every_row(self.data.removesuffix(_END_OF_JPEG))
        if missing or (ImageFile.LOAD_TRUNCATED_IMAGES and _is_shorter_than_announced(self, picture)):
            raise UndecodableImageError(f"the picture is cut off ({len(self.data)} bytes)")

    def open(self) -> Image.Image:
        """The picture, not decoded yet; raises what Pillow raises.

        Its class is used directly: ``Image.open`` keeps a limit of pixels that other packs change.
        """
        return self.plugin(io.BytesIO(self.data))


def recognized(data: bytes) -> PictureFile:
    """The file that ``data`` is.

    Raises:
        UndecodableImageError: it is no picture, of a kind that Pillow cannot read here, or certainly cut.
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
    """The class of Pillow that reads it; ``None`` if this Pillow cannot."""
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
# What decides how a picture looks. Texts may be damaged, or larger than Pillow takes.
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"IDAT")
_CHANNELS = {2: 3, 4: 2, 6: 4}
_MAY_GO = (b"tRNS", b"iCCP", b"eXIf")


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    content: memoryview
    is_whole: bool = False
    """Whether its checksum is right."""


def _tidy_png(data: bytes) -> bytes:
    """The chunks that decide how it looks, up to its end; anything behind that is left out."""
    chunks = list(_png_chunks(data))
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        _check_rows(chunks)
    kept: list[bytes | memoryview] = [data[:_PNG_HEAD]]
    for chunk in chunks:
        if chunk.kind in _NEEDED and (chunk.is_whole or chunk.kind not in _MAY_GO):
            kept += [len(chunk.content).to_bytes(4, "big"), chunk.kind, chunk.content, _checksum(chunk)]
    return b"".join([*kept, _END_OF_PNG])


def _png_chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks before IEND; the last one may be cut."""
    view = memoryview(data)
    at = _PNG_HEAD
    while len(head := data[at : at + 8]) == 8 and head[4:] != b"IEND":
        ends = at + 8 + int.from_bytes(head[:4], "big")
        chunk = _Chunk(head[4:], view[at + 8 : ends])
        yield replace(chunk, is_whole=data[ends : ends + 4] == _checksum(chunk))
        at = ends + 4


def _checksum(chunk: _Chunk) -> bytes:
    return zlib.crc32(chunk.content, zlib.crc32(chunk.kind)).to_bytes(4, "big")


def _check_rows(chunks: Sequence[_Chunk]) -> None:
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0].content)
    row = 1 + (width * depth * _CHANNELS.get(colour, 1) + 7) // 8
    missing = row * height
    inflate = zlib.decompressobj()
    with suppress(zlib.error):
        for chunk in chunks:
            if chunk.kind == b"IDAT":
                missing -= len(inflate.decompress(chunk.content))
    if not inflate.eof and (missing > 0 or interlaced):
        raise UndecodableImageError("the picture is cut off")


# ---- JPEG

_END_OF_JPEG = b"\xff\xd9"
_PROGRESSIVE, _SCAN = 0xC2, 0xDA
# Not in the compressed data of a scan.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
# More compressed data. Where rows are missing, it becomes their pixels; else it is skipped.
_MORE = (bytes.fromhex("feaa55cc330ff099") * 40, bytes.fromhex("550fccaaf03399fe") * 40)


def _tidy_jpeg(data: bytes) -> bytes:
    """Up to its end marker, which some encoders leave out; a thumbnail's is not taken for it."""
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
    """Whether a progressive picture has the last bit of each coefficient (ITU T.81, B.2.3); true of any other."""
    frame = next((content for kind, content in segments if kind == _PROGRESSIVE), None)
    if frame is None:
        return True
    missing = {(component, place) for component in frame[6::3] for place in range(64)}
    for kind, content in segments:
        if kind == _SCAN:
            components, (first, last, bits) = content[1:-3:2], content[-3:]
            if bits & 0x0F == 0:
                missing -= {(component, place) for component in components for place in range(first, last + 1)}
    return not missing


def _has_every_row(scans: bytes) -> bool:
    pixels = _jpeg_pixels(scans + _END_OF_JPEG)
    return all(np.array_equal(pixels, _jpeg_pixels(scans + more + _END_OF_JPEG)) for more in _MORE)


def _jpeg_pixels(data: bytes) -> np.ndarray:
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as picture:
        return np.asarray(picture)


# ---- WebP

_WEBP_PICTURES = (b"VP8 ", b"VP8L", b"ANMF")


def _tidy_webp(data: bytes) -> bytes:
    """With the size that it has: some encoders announce one too many, or leave out the last byte of padding."""
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

_GIF_END = b";"
_STRIPS = ((273, 279), (324, 325))
"""Tags of TIFF: where strips and tiles begin, and how long they are."""


def _is_shorter_than_announced(file: PictureFile, picture: Image.Image) -> bool:
    data = file.data
    if file.media_type == _GIF:
        return not data.rstrip(b"\0\r\n").endswith(_GIF_END)
    if file.media_type == _BMP:
        return int.from_bytes(data[2:6], "little") > len(data)
    tags = getattr(picture, "tag_v2", {})
    strips = [zip(tags.get(begins, ()), tags.get(sizes, ()), strict=False) for begins, sizes in _STRIPS]
    return max((at + size for each in strips for at, size in each), default=0) > len(data)


# ---- around a file


def unwrapped(data: bytes, max_bytes: int) -> bytes:
    """The bytes of a file, whatever an object store has put around them: gzip, base64, or the frames of aws-chunked.

    The header ``Content-Encoding`` is not asked: stores set it for plain files, and leave it out for others.

    Args:
        max_bytes: no more is decompressed.
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
    return inner if any(kind[0].match(inner) for kind in _KINDS) else data


def _unframed(data: bytes) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while frame := _AWS_CHUNK.match(data, at):
        size = int(frame[1], 16)
        pieces.append(data[frame.end() : frame.end() + size])
        at = frame.end() + size + 2
        if size == 0:
            break
    return b"".join(pieces)
