"""The one way of a paid call: check → claim → submit → wait → download → store → deliver.

"Claim" and "store" are the journal's places; until it is there, a claim is the batch's own rule that nothing more is
bought after a failure, and what is delivered lives in memory only.
"""

from __future__ import annotations

import base64
import email.utils
import io
import re
import socket
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timezone
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3

from .cancel import CallCancelled, CancelToken
from .connections import is_loopback
from .downloads import DownloadError, RefusedUrlError, download, without_query
from .errors import (
    AmbiguousSubmitError,
    ConnectionFailedError,
    Outcome,
    Provider,
    RemoteImageError,
    ServiceError,
    TaskFailedError,
    TaskTimeoutError,
    refusal,
)
from .hidream import HiDreamRequest, HiDreamService
from .images import Pixels, UndecodableImageError, decode
from .polling import Progress, SubTask, TaskRef, Watch, jittered, wait
from .redaction import pack_logger, shortened
from .text import Text
from .transport import Deadlines, NoAnswerError, NotSentError, find_cause
from .volcengine import ENDPOINT_NAME, FinishedPicture, OutpaintRequest, VolcengineService
from .wire import NotAccepted

MAX_RESENDS = 3

_T = TypeVar("_T")


@dataclass(frozen=True)
class Delivery:
    """What a call brought: pictures in the service's order, and an error for each that did not come."""

    task: TaskRef | None
    pictures: tuple[Pixels, ...] = ()
    errors: tuple[RemoteImageError, ...] = ()


class Batch:
    """The calls of one node: once one of them has failed, no further one is submitted."""

    def __init__(self) -> None:
        self._failed = threading.Event()

    def fail(self) -> None:
        self._failed.set()

    def check(self) -> None:
        """Raises NotSubmitted after a failure."""
        if self._failed.is_set():
            raise NotSubmitted


class NotSubmitted(Exception):
    """A sibling call failed before this one was submitted."""


# ---- HiDream


@dataclass(frozen=True)
class HiDreamCall:
    """One paid HiDream task. ``prepare`` encodes the images and runs in the worker, after its slot was taken."""

    service: HiDreamService
    prepare: Callable[[], HiDreamRequest]
    expected_pixels: int

    def run(self, watch: Watch, batch: Batch) -> Delivery:
        """Buy, wait and fetch.

        Raises:
            RemoteImageError: the submit was refused, failed or is ambiguous, or nothing at all came back.
            NotSubmitted: a sibling failed first.
            CallCancelled: cancelled; a task that was accepted by then is in the log.
        """
        watch.report(Progress("preparing"))
        request = self.prepare()
        request_id = str(uuid.uuid4())
        task = _submit_until_decided(
            "HiDream",
            lambda: self.service.submit(request, request_id, watch.cancel),
            self.service.renew_credentials,
            self.service.account.deadlines,
            watch,
            batch,
            request_id,
        )
        log = pack_logger()
        log.info("%s accepted: task_id=%s request_id=%s", task.endpoint, task.task_id, request_id)
        try:
            return collect(self.service, task, self.expected_pixels, watch)
        except CallCancelled:
            log.warning(
                "%s: stopped waiting; the task goes on and is not lost, fetch it with the node Remote Task Result: "
                "task_id=%s",
                task.endpoint,
                task.task_id,
            )
            raise


def collect(service: HiDreamService, task: TaskRef, expected_pixels: int, watch: Watch) -> Delivery:
    """Wait for an accepted task and fetch its pictures; free, and may be repeated.

    Raises:
        TaskTimeoutError: a deadline passed and nothing had ended.
        CallCancelled: cancelled.
    """
    deadlines = service.account.deadlines
    sub_tasks = wait(task, lambda: service.query(task), deadlines, watch)
    watch.report(Progress("downloading", 1.0, task.task_id))
    fetched = [
        _fetch_sub_task(sub_task, task, expected_pixels, _on_loopback(service.base_url), deadlines, watch)
        for sub_task in sub_tasks
    ]
    watch.report(Progress("done", 1.0, task.task_id))
    pictures = tuple(result for result in fetched if not isinstance(result, RemoteImageError))
    errors = tuple(result for result in fetched if isinstance(result, RemoteImageError))
    return Delivery(task, pictures, errors)


def _fetch_sub_task(
    sub_task: SubTask, task: TaskRef, expected_pixels: int, loopback: bool, deadlines: Deadlines, watch: Watch
) -> Pixels | RemoteImageError:
    if sub_task.error is not None:
        return sub_task.error
    try:
        return _fetch(sub_task.image, task, expected_pixels, loopback, deadlines, watch.cancel)
    except RemoteImageError as error:
        return error


# ---- Volcengine


@dataclass(frozen=True)
class VolcengineCall:
    """One paid ``CVProcess`` call. ``prepare`` encodes the images and runs in the worker, after its slot was taken."""

    service: VolcengineService
    prepare: Callable[[], OutpaintRequest]
    expected_pixels: int

    def run(self, watch: Watch, batch: Batch) -> Delivery:
        """Buy one picture; raises as :meth:`HiDreamCall.run` does."""
        watch.report(Progress("preparing"))
        request = self.prepare()
        deadlines = self.service.account.deadlines
        finished = _submit_until_decided(
            "Volcengine",
            lambda: self.service.submit(request, watch.cancel, lambda: watch.report(Progress("running"))),
            lambda: False,
            deadlines,
            watch,
            batch,
            "",
        )
        task = TaskRef("Volcengine", ENDPOINT_NAME, "", finished.request_id)
        log = pack_logger()
        log.info("%s answered: request_id=%s", ENDPOINT_NAME, finished.request_id)
        if watch.cancel.cancelled:
            log.warning("%s: nobody waits for this picture any more: request_id=%s", ENDPOINT_NAME, finished.request_id)
        picture = self._picture(finished, task, watch)
        watch.report(Progress("done", 1.0))
        return Delivery(task, (picture,))

    def _picture(self, finished: FinishedPicture, task: TaskRef, watch: Watch) -> Pixels:
        problem = ""
        if finished.base64:
            try:
                data = base64.b64decode(finished.base64.split(",", 1)[-1])
                return decode(io.BytesIO(data), _pixel_cap(self.expected_pixels))
            except (ValueError, UndecodableImageError) as cause:
                problem = str(cause)
        if finished.url:
            account = self.service.account
            loopback = _on_loopback(account.base_url)
            return _fetch(finished.url, task, self.expected_pixels, loopback, account.deadlines, watch.cancel)
        raise TaskFailedError(
            Text("The picture in the answer cannot be decoded.", "应答中的图片无法解码。"),
            provider="Volcengine",
            vendor_message=problem,
            request_id=task.request_id,
            billed="yes",
        )


# ---- submit


def _submit_until_decided(
    provider: Provider,
    send: Callable[[], _T],
    renew_credentials: Callable[[], bool],
    deadlines: Deadlines,
    watch: Watch,
    batch: Batch,
    request_id: str,
) -> _T:
    """The submit table: sends again only what certainly was not accepted, and says what became of the rest."""
    deadline = time.monotonic() + deadlines.queue
    resends = busy_answers = 0
    renewed = False
    while True:
        batch.check()
        watch.cancel.check()
        watch.report(Progress("submitting"))
        try:
            return send()
        except NotSentError as problem:
            if problem.permanent or resends == MAX_RESENDS:
                raise _unreachable(provider, problem) from problem
            resends += 1
            watch.cancel.sleep(jittered(0.5 * 2 ** (resends - 1)))
        except NoAnswerError as problem:
            error: RemoteImageError = AmbiguousSubmitError(
                Text(
                    "The request was sent, but no answer came: it may have been accepted.",
                    "请求已发出但没有收到应答，服务端可能已经受理。",
                ),
                provider=provider,
                vendor_message=shortened(str(problem), 200),
                request_id=request_id,
            )
            raise _heard(error, watch) from problem
        except NotAccepted as answer:
            if answer.status == 401 and not renewed and renew_credentials():
                renewed = True
                continue
            if answer.outcome is Outcome.BUSY:
                pause = _pause_when_busy(answer.retry_after, busy_answers)
                busy_answers += 1
                if time.monotonic() + pause < deadline:
                    watch.report(Progress("queued"))
                    watch.cancel.sleep(pause)
                    continue
            raise _heard(_error_of(provider, answer, request_id), watch) from None


def _heard(error: RemoteImageError, watch: Watch) -> RemoteImageError:
    """The error of a sent request whose node may be gone by now: then the log is the only one left to tell."""
    if watch.cancel.cancelled:
        pack_logger().warning("after the interrupt: %s", error.text().en)
    return error


def _error_of(provider: Provider, answer: NotAccepted, request_id: str) -> RemoteImageError:
    return refusal(
        provider,
        answer.meaning,
        code=answer.code,
        vendor_message=answer.vendor_message,
        request_id=answer.request_id or request_id,
    )


def _pause_when_busy(retry_after: str, busy_answers: int) -> float:
    told = seconds_of(retry_after, time.time())
    return max(told, 0.2) if told is not None else jittered(min(16.0, 2.0**busy_answers))


def seconds_of(retry_after: str, now: float) -> float | None:
    """``Retry-After`` in seconds, from seconds or an HTTP date; ``None`` if it says nothing readable."""
    text = retry_after.strip()
    if not text:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        # HTTP dates are GMT (RFC 9110 5.6.7), also in the form that does not say so.
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def _unreachable(provider: Provider, problem: NotSentError) -> ConnectionFailedError:
    what = Text("The service could not be reached; nothing was sent.", "无法连接服务端，未发送任何内容。")
    for kind, diagnosis in _DIAGNOSES:
        if find_cause(problem.cause, kind) is not None:
            what = diagnosis
            break
    return ConnectionFailedError(what, provider=provider, vendor_message=shortened(str(problem), 300))


# The most telling cause first: urllib3 wraps one in the other.
_DIAGNOSES: tuple[tuple[type[BaseException], Text], ...] = (
    (urllib3.exceptions.ProxyError, Text("The proxy could not be reached or refused.", "代理无法连接或拒绝了请求。")),
    (socket.gaierror, Text("The host name could not be resolved (DNS).", "无法解析主机名（DNS）。")),
    (
        ssl.SSLCertVerificationError,
        Text("The host's TLS certificate was not accepted.", "主机的 TLS 证书未通过验证。"),
    ),
    (ssl.SSLError, Text("The TLS handshake with the host failed.", "与主机的 TLS 握手失败。")),
    (
        ConnectionResetError,
        Text(
            "The connection was cut before the whole request was sent; if this stays, the images may be too large.",
            "请求尚未发完连接就被切断；若持续出现，可能是图片过大。",
        ),
    ),
    (ConnectionRefusedError, Text("The host refused the connection.", "主机拒绝连接。")),
    (TimeoutError, Text("The host did not answer in time.", "连接主机超时。")),
    (urllib3.exceptions.ConnectTimeoutError, Text("The host did not answer in time.", "连接主机超时。")),
)


# ---- download


def _on_loopback(base_url: str) -> bool:
    return is_loopback(urlsplit(base_url).hostname or "")


def _pixel_cap(expected_pixels: int) -> int:
    """More than expected is still delivered; only what cannot be a picture of this call is refused."""
    return max(4 * expected_pixels, 64_000_000)


def _fetch(
    url: str, task: TaskRef, expected_pixels: int, allow_loopback: bool, deadlines: Deadlines, cancel: CancelToken
) -> Pixels:
    """Download and decode one result picture, trying again until the download deadline.

    Raises:
        TaskTimeoutError: it could not be had in time.
        ServiceError: the URL is not one that is fetched.
        CallCancelled: cancelled.
    """
    deadline = time.monotonic() + deadlines.download
    cap = _pixel_cap(expected_pixels)
    tries = 0
    while True:
        try:
            with download(
                url, max_bytes=4 * cap, allow_loopback=allow_loopback, deadlines=deadlines, cancel=cancel
            ) as stream:
                return decode(stream, cap)
        except RefusedUrlError as problem:
            raise ServiceError(
                Text(
                    f"The result's address is not fetched: {problem.reason.en}. Address: {without_query(url)}",
                    f"不下载该结果地址：{problem.reason.zh}。地址：{without_query(url)}",
                ),
                advice=None if task.task_id else _NOT_AGAIN,
                provider=task.provider,
                request_id=task.request_id,
                task_id=task.task_id,
                billed="yes",
            ) from None
        except (DownloadError, UndecodableImageError) as problem:
            pause = jittered(min(8.0, 0.5 * 2**tries))
            tries += 1
            if time.monotonic() + pause >= deadline:
                raise TaskTimeoutError(
                    Text(
                        f"The finished picture could not be downloaded ({problem}).",
                        f"图片已生成，但下载失败（{problem}）。",
                    ),
                    advice=None if task.task_id else _NOT_AGAIN,
                    provider=task.provider,
                    request_id=task.request_id,
                    task_id=task.task_id,
                    billed="yes",
                ) from problem
            cancel.sleep(pause)


_NOT_AGAIN = Text(
    "This service keeps no task to fetch it from again; ask it with the request_id.",
    "该服务不保留可再次取回的任务，请凭 request_id 联系服务方。",
)


# ---- several calls of one node

PaidCall = HiDreamCall | VolcengineCall


@dataclass(frozen=True)
class Result:
    """What became of one call of a batch; ``delivery`` and ``error`` are both ``None`` if it was not submitted."""

    delivery: Delivery | None = None
    error: RemoteImageError | None = None


def run_in_batch(call: PaidCall, watch: Watch, batch: Batch) -> Result:
    """Run one call; its failure keeps its siblings from being submitted, and theirs this one.

    Raises:
        CallCancelled: cancelled.
    """
    try:
        batch.check()
        delivery = call.run(watch, batch)
    except NotSubmitted:
        return Result()
    except RemoteImageError as error:
        batch.fail()
        return Result(error=error)
    except BaseException:
        batch.fail()
        raise
    if delivery.errors:
        batch.fail()
    return Result(delivery)


def deliver(results: Sequence[Result], *, accept_partial: bool) -> tuple[list[Delivery], list[Text]]:
    """The deliveries of a batch in order, and what is to be told about it.

    Args:
        accept_partial: return what came although something is missing.

    Raises:
        RemoteImageError: the first error, if something is missing and that is not accepted, or nothing came at all; it
            names the accepted tasks, so that their pictures can be fetched.
    """
    deliveries = [result.delivery for result in results if result.delivery is not None]
    errors = [error for result in results for error in _errors_of(result)]
    pictures = sum(len(delivery.pictures) for delivery in deliveries)
    skipped = sum(1 for result in results if result.delivery is None and result.error is None)
    if not errors:
        return deliveries, []
    if accept_partial and pictures:
        notes = [
            Text(f"Missing ({count}×): {what.en}", f"缺失（{count} 项）：{what.zh}")
            for what, count in Counter(error.text() for error in errors).items()
        ]
        if skipped:
            notes.append(Text(f"{skipped} calls were not submitted after that.", f"之后有 {skipped} 次调用未提交。"))
        return deliveries, notes
    first = errors[0]
    accepted = [delivery.task.task_id for delivery in deliveries if delivery.task] + [error.task_id for error in errors]
    tasks = [task_id for task_id in dict.fromkeys(accepted) if task_id]
    if pictures or skipped or len(errors) > 1:
        first.add_context(_rest_of_batch(pictures, len(errors), skipped, tasks))
    raise first


def _errors_of(result: Result) -> Sequence[RemoteImageError]:
    if result.error is not None:
        return [result.error]
    return result.delivery.errors if result.delivery is not None else ()


def _rest_of_batch(pictures: int, failed: int, skipped: int, tasks: Sequence[str]) -> Text:
    en = f"In this node: {pictures} pictures came, {failed} failed, {skipped} calls were not submitted."
    zh = f"本节点共：已生成 {pictures} 张，失败 {failed} 项，未提交 {skipped} 次调用。"
    if tasks:
        listed = ", ".join(tasks)
        en += f" The node Remote Task Result fetches what these tasks made, free of charge: {listed}."
        zh += f"可用「取回远程任务」节点免费取回这些任务的图片：{listed}。"
    return Text(en, zh)
