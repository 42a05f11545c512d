"""The pictures of one task: from the answer or by download, as bytes for the store and as pixels."""

from __future__ import annotations

import hashlib
import io
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, NamedTuple, TypeVar
from urllib.parse import urlsplit

from ..core import (
    CancelToken,
    RemoteImageError,
    ServiceError,
    SubTask,
    TaskFailedError,
    TaskRef,
    TaskTimeoutError,
    Text,
    base64_bytes,
    on_codec_pool,
    pack_logger,
)
from ..journal import UNKNOWN_MEDIA, Kept, file_name
from ..pixels import Encoded, Pixels, UndecodableImageError, decode, is_picture, unwrapped
from ..services import Service
from ..transport import DownloadError, RefusedUrlError, TooLargeError, downloaded, is_loopback, without_query
from .poll import jittered

# Bytes of pixels that the pictures of one task may take together in memory.
MOST_BYTES = 4 * 2**30
# After so many downloads in a row with the same undecodable bytes, the file itself is at fault and not the transfer.
_SAME_BYTES = 4


_Error = TypeVar("_Error", bound=RemoteImageError)


@dataclass(frozen=True)
class Brought:
    """The bytes of one picture, whether the store has them (``kept``), and its pixels; ``None`` if not decodable.

    ``is_foreign``: this Pillow does not read their format.
    """

    encoded: Encoded
    kept: Kept
    pixels: Pixels | None = None
    is_foreign: bool = False


class _Fetched(NamedTuple):
    """What a download brought; ``problem`` is why its bytes could not be decoded."""

    pixels: Pixels | None
    encoded: Encoded
    problem: UndecodableImageError | None = None


def _encoded(data: bytes) -> Encoded:
    """The bytes with media type and size in pixels; ``UNKNOWN_MEDIA`` and 0 x 0 if they are no picture for Pillow."""
    try:
        return Encoded.of(data)
    except UndecodableImageError:
        return Encoded(data, UNKNOWN_MEDIA, 0, 0)


@dataclass(frozen=True)
class Downloads:
    """Brings the pictures of one task.

    ``expected_pixels``: of one picture.
    """

    service: Service
    task: TaskRef
    expected_pixels: int
    cancel: CancelToken
    tries_for: float | None = None
    """Seconds for which a failed download is tried again; ``None`` = the account's download deadline."""

    @property
    def _pixel_cap(self) -> int:
        """Pixels that a picture may have: 4 times the expected ones, at least 64 million.

        A larger result than expected is still delivered; a larger one than this cannot be a picture of this call.
        """
        return max(4 * self.expected_pixels, 64_000_000)

    def bring(self, sub_task: SubTask, keep: Callable[[Encoded], Kept]) -> Brought:
        """Bring one picture of the task and ``keep`` its bytes; raises as :meth:`fetch`.

        The bytes of an answer are kept before they are decoded; a download is kept when it has decoded, or when its
        bytes are final although they do not. If the answer's bytes do not decode and it has a URL, too, both are kept.
        """
        encoded = self.in_answer(sub_task)
        if encoded is not None:
            # Keep before decoding: the bytes are paid, and decoding may fail.
            kept = keep(encoded)
            try:
                return Brought(encoded, kept, on_codec_pool(decode, io.BytesIO(encoded.data), self._pixel_cap))
            except UndecodableImageError as failure:
                pack_logger().warning("%s: the picture in the answer is not decoded: %s", self.task.endpoint, failure)
                if not sub_task.image:
                    return Brought(encoded, kept, is_foreign=failure.is_foreign)
        pixels, encoded, problem = self.fetch(sub_task)
        return Brought(encoded, keep(encoded), pixels, is_foreign=problem is not None and problem.is_foreign)

    def fetch(self, sub_task: SubTask) -> _Fetched:
        """Download the picture at a sub task's URL; nothing is kept.

        Raises:
            RemoteImageError: the sub task failed or has no URL, the download did not succeed in time, or the URL is not
                one that this pack fetches.
            CallCancelled: cancelled.
        """
        if sub_task.error is not None:
            raise sub_task.error
        if sub_task.image:
            return self._download(sub_task.image)
        raise self.undecodable(None)

    def undecodable(self, brought: Brought | None) -> TaskFailedError:
        """The error for a picture that cannot be decoded (``None``: it has no bytes); names its stored file."""
        where_en = where_zh = ""
        if brought is not None and brought.kept == "stored":
            name = file_name(brought.encoded.data, brought.encoded.media_type)
            where_en = f"; its bytes were kept in the store as {name}"
            where_zh = f"，其数据已保留在图片库中：{name}"
        return self._paid(
            TaskFailedError,
            Text(f"The picture that came cannot be decoded{where_en}.", f"收到的图片无法解码{where_zh}。"),
        )

    def in_answer(self, sub_task: SubTask) -> Encoded | None:
        """The bytes that the answer itself contains, whatever they are; ``None`` if it contains none."""
        if not sub_task.base64:  # a URL only: do not wait for a thread of the codec pool
            return None
        try:
            data = on_codec_pool(base64_bytes, sub_task.base64)
        except ValueError:
            # Not base64, but paid: keep the text as it came.
            data = sub_task.base64.encode("utf-8", "replace")
        return _encoded(data) if data else None

    def _download(self, url: str) -> _Fetched:
        """Download and decode a URL, again after failures until the deadline.

        A file that does not decode is downloaded again, for it may have been damaged on its way; it is returned with
        its problem when it came four times with the same bytes, or when Pillow does not read its format.

        Raises:
            TaskTimeoutError: no success in time, or the file is too large; the picture is paid and may still come.
            ServiceError: the URL is not one that this pack fetches.
            CallCancelled: cancelled.
        """
        account = self.service.account
        deadline = time.monotonic() + (account.deadlines.download if self.tries_for is None else self.tries_for)
        loopback = is_loopback(urlsplit(self.service.base_url).hostname or "")
        last_digests: deque[bytes] = deque(maxlen=_SAME_BYTES)
        tries = 0
        while True:
            problem: Exception
            try:
                with downloaded(
                    url,
                    max_bytes=4 * self._pixel_cap,
                    allow_loopback=loopback,
                    deadlines=account.deadlines,
                    cancel=self.cancel,
                    proxy=account.proxy,
                ) as stream:
                    fetched = on_codec_pool(self._read, stream)
                if fetched.problem is None or fetched.problem.is_foreign:
                    return fetched
                problem = fetched.problem
                last_digests.append(hashlib.sha256(fetched.encoded.data).digest())
                if last_digests.count(last_digests[-1]) == _SAME_BYTES:
                    return fetched
            except RefusedUrlError as refused:
                raise self._refused(url, refused) from None
            except TooLargeError as large:
                raise self._too_late(large) from large
            except (DownloadError, UndecodableImageError) as failure:
                problem = failure
            pause = jittered(min(8.0, 0.5 * 2**tries))
            tries += 1
            if time.monotonic() + pause >= deadline:
                raise self._too_late(problem) from problem
            self.cancel.sleep(pause)

    def _read(self, stream: IO[bytes]) -> _Fetched:
        """Decode a downloaded file, on the codec pool.

        Raises:
            UndecodableImageError: the bytes are of no known format, an error page for example.
            CallCancelled: cancelled.
        """
        self.cancel.check()
        stream.seek(0)
        data = unwrapped(stream.read(), 4 * self._pixel_cap)
        try:
            return _Fetched(decode(io.BytesIO(data), self._pixel_cap), _encoded(data))
        except UndecodableImageError as problem:
            if problem.is_foreign or is_picture(data):
                return _Fetched(None, _encoded(data), problem)
            raise

    def _paid(self, kind: type[_Error], what: Text) -> _Error:
        """An error about a picture of this task, which is billed."""
        return kind(
            what,
            provider=self.task.provider,
            request_id=self.task.request_id,
            task_id=self.task.task_id,
            billed="yes",
        )

    def too_much(self) -> ServiceError:
        """The error for a picture that is not fetched because those before it take more than ``MOST_BYTES``."""
        return self._paid(
            ServiceError,
            Text(
                f"This picture is not fetched: those before it take more than {MOST_BYTES / 2**30:.0f} GiB of memory.",
                f"不下载这张图片：之前的图片已占用超过 {MOST_BYTES / 2**30:.0f} GiB 内存。",
            ),
        )

    def _refused(self, url: str, problem: RefusedUrlError) -> ServiceError:
        return self._paid(
            ServiceError,
            Text(
                f"The result's address is not fetched: {problem.reason.en}. Address: {without_query(url)}",
                f"不下载该结果地址：{problem.reason.zh}。地址：{without_query(url)}",
            ),
        )

    def _too_late(self, problem: Exception) -> TaskTimeoutError:
        return self._paid(
            TaskTimeoutError,
            Text(
                f"The finished picture could not be downloaded ({problem}).",
                f"图片已生成，但下载失败（{problem}）。",
            ),
        )
