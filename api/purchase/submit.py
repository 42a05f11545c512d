"""One submit from the first try to its outcome: only a try that was certainly not accepted is sent again."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable
from datetime import timezone
from typing import Literal

from ..core import (
    Accepted,
    AmbiguousSubmitError,
    CallCancelled,
    CallHandle,
    Progress,
    Provider,
    RemoteImageError,
    SubTask,
    Text,
    pack_logger,
    redact_data,
    shortened,
)
from ..journal import UNKNOWN_MEDIA, Claim, Journal, file_name
from ..pixels import Encoded
from ..services import Meaning, NotAccepted, Outcome, Service, WireRequest, refusal
from ..transport import NoAnswerError, NotSentError, Phases, unreachable
from .poll import jittered

# Tries after the first one that did not reach the service whole.
MAX_RESENDS = 3
# Bytes from which on an answer that is not understood may contain a picture.
_MAY_HOLD_A_PICTURE = 64 * 1024

# What became of a picture that came with an error; "lost": it may have been a picture, but is not in the store.
BesideError = Literal["stored", "lost", "no picture"]


def submit_until_decided(
    service: Service,
    request: WireRequest,
    claim: Claim,
    journal: Journal,
    handle: CallHandle,
    check: Callable[[], None],
    admit: Callable[[], None],
    keep: Callable[[SubTask], BesideError],
    expected: float | None,
) -> Accepted:
    """Submit a request, again only while it was certainly not accepted; returns the accepted task or its picture.

    Each try: ``check``, then the request is encoded and a connection opened; after its handshake ``submitting`` is
    written and synced, and only then the first byte goes out. What comes back decides
    (``tests/contract/purchase/test_submit_table.py`` has every case):

    - not sent whole: ``prepared`` is written, and it is sent again after a pause, three times at most;
    - accepted: returned; the caller writes the acceptance;
    - no usable answer: ``ambiguous`` is written, then raised;
    - busy (429): ``prepared`` without a place of the limiter is written, the account's limits are halved, and after a
      pause and a new admission it is sent again, until the queue deadline; then ``refused``;
    - 401 with a refused key: ``prepared`` is written, and it is sent again once, if a fresh token can be had;
    - any other answer: ``refused``, ``failed`` or ``ambiguous`` is written, then raised. With a picture it is
      ``ambiguous``, and the picture is kept in the store.

    Args:
        check: called before each try; what it raises ends the call, unsent.
        admit: waits for a place of the limiter and takes it, after a busy answer.
        keep: puts a picture that came with an error into the store.
        expected: seconds that such a call usually takes, if known; for the display.

    Raises:
        ConnectionFailedError: it was not sent; the end of the claim writes ``cancelled``.
        RemoteImageError: refused, failed or ambiguous; that is in the journal already.
        CallCancelled: cancelled before the request was sent whole; a later interrupt waits for the answer.
        JournalError, ClaimLost: the state could not be written, so the request was not sent (again).
    """
    provider, request_id = service.provider, claim.attempt.request_id
    deadline = time.monotonic() + service.account.deadlines.queue
    sent = Progress("running" if service.works_while_asked else "submitting", expected=expected)
    phases = Phases(handle.cancel, claim.submitting, lambda: handle.report(sent))
    resends = busy_answers = 0
    renewed = False
    while True:
        check()
        handle.cancel.check()
        handle.report(Progress("submitting"))
        try:
            return service.submit(request, request_id, phases)
        except CallCancelled:
            claim.unsent()
            raise
        except NotSentError as problem:
            claim.unsent()
            if problem.permanent or resends == MAX_RESENDS:
                raise unreachable(provider, problem) from problem
            claim.write_unsent()
            resends += 1
            handle.cancel.sleep(jittered(0.5 * 2 ** (resends - 1)))
        except NoAnswerError as problem:
            error: RemoteImageError = AmbiguousSubmitError(
                _with_kept_answer(
                    claim,
                    problem.body,
                    Text(
                        "The request was sent, but no answer came: it may have been accepted.",
                        "请求已发出但没有收到应答，服务端可能已经受理。",
                    ),
                ),
                provider=provider,
                vendor_message=shortened(str(problem), 200),
                request_id=request_id,
            )
            claim.ambiguous(error)
            raise _logged_after_cancel(error, handle) from problem
        except NotAccepted as answer:
            if answer.picture is not None:
                kept = keep(answer.picture)
                # A link beside a known error code may lead to the page that explains it: only a picture makes the
                # attempt ambiguous.
                if kept != "no picture" or not answer.is_known:
                    error = _with_a_picture(provider, answer, request_id, kept=kept == "stored")
                    claim.ambiguous(error)
                    raise _logged_after_cancel(error, handle) from None
            # The status 401 alone does not prove that the key was refused: a gateway may have wrapped a failure.
            key_refused = answer.status == 401 and answer.outcome is Outcome.REFUSED
            if answer.outcome is Outcome.BUSY or key_refused:
                claim.unsent()
                claim.write_unsent(holds_slot=answer.outcome is not Outcome.BUSY)
            if key_refused and not renewed and service.renew_credentials():
                renewed = True
                continue
            if answer.outcome is Outcome.BUSY:
                journal.limiter.slow_down(service.account.account_id, provider)
                pause = _pause_when_busy(answer.retry_after, busy_answers)
                busy_answers += 1
                if time.monotonic() + pause < deadline:
                    handle.report(Progress("queued"))
                    handle.cancel.sleep(pause)
                    admit()
                    continue
            error = _error_of(provider, answer, request_id)
            if answer.outcome is Outcome.AMBIGUOUS and answer.status < 300:
                error.what = _with_kept_answer(claim, answer.body, error.what)
            _settle(claim, answer.outcome, error)
            raise _logged_after_cancel(error, handle) from None


def _settle(claim: Claim, outcome: Outcome, error: RemoteImageError) -> None:
    """Write the last state of an attempt that was not accepted, or failed; ``BUSY`` is ``refused`` here."""
    if outcome is Outcome.AMBIGUOUS:
        claim.ambiguous(error)
    elif outcome is Outcome.FAILED:
        claim.failed(error)
    else:
        claim.refused(error)


def _logged_after_cancel(error: RemoteImageError, handle: CallHandle) -> RemoteImageError:
    """``error``; logged if the call was cancelled: nobody waits for it then, and only log and journal show it."""
    if handle.cancel.cancelled:
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


def _with_a_picture(provider: Provider, answer: NotAccepted, request_id: str, *, kept: bool) -> RemoteImageError:
    what = Text(
        f"The service answered with HTTP {answer.status}, and with a picture all the same.",
        f"服务端返回 HTTP {answer.status}，但应答中带有图片。",
    )
    if kept:
        what = Text(
            f"{what.en} The picture was kept in the store: see Remote tasks in the sidebar.",
            f"{what.zh}图片已保留在图片库中：见侧边栏「远程任务」。",
        )
    return refusal(
        provider,
        Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, what),
        code=answer.code,
        vendor_message=answer.vendor_message,
        request_id=answer.request_id or request_id,
    )


def _with_kept_answer(claim: Claim, body: bytes, what: Text) -> Text:
    """``what``, with the name of the file if the answer was large enough to hold a picture: it is kept in the store.

    ``body`` is redacted before it is kept.
    """
    if len(body) < _MAY_HOLD_A_PICTURE:
        return what
    shown = redact_data(body)
    if not claim.keep_beside_an_error(Encoded(shown, UNKNOWN_MEDIA, 0, 0)):
        return what
    name = file_name(shown, UNKNOWN_MEDIA)
    return Text(
        f"{what.en} What came was kept in the store as {name}.", f"{what.zh}收到的内容已保留在图片库中：{name}。"
    )


def _pause_when_busy(retry_after: str, busy_answers: int) -> float:
    """Seconds to wait after a busy answer: its ``Retry-After``, else 1 s, doubled with each one before, up to 16 s."""
    asked_for = seconds_of(retry_after, time.time())
    return max(asked_for, 0.2) if asked_for is not None else jittered(min(16.0, 2.0**busy_answers))


def seconds_of(retry_after: str, now: float) -> float | None:
    """The header ``Retry-After`` (seconds or an HTTP date) in seconds from ``now``; ``None`` if it is not readable."""
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
