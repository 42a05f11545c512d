"""One submit from the first try to its outcome: only a try that was certainly not accepted is sent again."""

from __future__ import annotations

import email.utils
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timezone
from enum import Enum
from functools import partial
from typing import Literal

from ..catalog import WireRequest
from ..core import (
    Accepted,
    AmbiguousSubmitError,
    CallCancelled,
    CallHandle,
    Progress,
    RemoteImageError,
    SubTask,
    Text,
    pack_logger,
    redact_data,
    shortened,
)
from ..journal import UNKNOWN_MEDIA, Claim, Journal, State, file_name
from ..pixels import Encoded
from ..services import Meaning, NotAccepted, Outcome, Service, refusal
from ..transport import NoAnswerError, NotSentError, Phases, unreachable
from .poll import jittered

# Tries after the first one that did not reach the service whole.
MAX_RESENDS = 3
# Bytes from which on an answer that is not understood may contain a picture.
_MAY_HOLD_A_PICTURE = 64 * 1024

# What became of a picture that came with an error; "lost": it may have been a picture, but is not in the store.
BesideError = Literal["stored", "lost", "no picture"]


class Again(Enum):
    """When a request that was certainly not accepted is sent again."""

    NEVER = "never"
    AFTER_A_PAUSE = "after 0.5 s, then 1 s, then 2 s"
    WHEN_RENEWED = "at once, if there is a new token; once"
    WHEN_ADMITTED = "after `Retry-After` and with a new place of the limiter, until the queue deadline"


@dataclass(frozen=True)
class Row:
    """A row of the submit table: what follows when a try has ended without an acceptance.

    Args:
        ended: how the try ended.
        unsent: the attempt is ``prepared`` again. That is written if the request may be sent again.
        again: when it is sent again.
        keeps_place: whether the attempt keeps its place of the limiter until then.
        end: the state that is written if it is not sent again; without one the end of the claim writes ``cancelled``.
    """

    ended: str
    unsent: bool = False
    again: Again = Again.NEVER
    keeps_place: bool = True
    end: State | None = None


# The submit table. docs/failures.md has it for users; tests/contract/purchase/test_submit_table.py tests it by cases.
NOT_SENT = Row("not sent whole", unsent=True, again=Again.AFTER_A_PAUSE)
UNREACHABLE = Row("not sent whole in four tries, or for a reason that stays", unsent=True)
BUSY = Row("429, 50429, 50430", unsent=True, again=Again.WHEN_ADMITTED, keeps_place=False, end=State.REFUSED)
KEY_REFUSED = Row("401, the key is refused", unsent=True, again=Again.WHEN_RENEWED, end=State.REFUSED)
REFUSED = Row("not accepted, for good", end=State.REFUSED)
FAILED = Row("accepted and failed, by the same answer", end=State.FAILED)
AMBIGUOUS = Row("may have been accepted: no answer, 5xx, an error with a picture, no clear words", end=State.AMBIGUOUS)

_ROWS = {Outcome.BUSY: BUSY, Outcome.REFUSED: REFUSED, Outcome.FAILED: FAILED, Outcome.AMBIGUOUS: AMBIGUOUS}


@dataclass(frozen=True)
class Submission:
    """One request to submit, and the functions that :func:`submit_until_decided` calls meanwhile.

    Args:
        check: called before each try; what it raises ends the call, unsent.
        admit: waits for a place of the limiter and takes it, after a busy answer.
        keep: puts a picture that came with an error into the store.
        expected: seconds that such a call usually takes, if known; for the display.
    """

    service: Service
    request: WireRequest
    claim: Claim
    journal: Journal
    handle: CallHandle
    _: KW_ONLY
    check: Callable[[], None]
    admit: Callable[[], None]
    keep: Callable[[SubTask], BesideError]
    expected: float | None


@dataclass(frozen=True)
class Ended:
    """How one try ended: its row, the error to raise if the request is not sent again, and the cause of that.

    ``body``: an answer that is not understood. ``retry_after``: that header of the answer.
    """

    row: Row
    error: RemoteImageError
    cause: Exception | None = None
    body: bytes = b""
    retry_after: str = ""


def submit_until_decided(call: Submission) -> Accepted:
    """Submit a request, again only while it was certainly not accepted; returns the accepted task or its picture.

    Each try: ``check``, then the request is encoded and a connection opened; after its handshake ``submitting`` is
    written and synced, and only then the first byte goes out. The caller writes an acceptance. Whatever else comes is a
    row of the submit table: a picture in the answer is put into the store; ``prepared`` is written, and the request is
    sent again; or its end is written, after an answer that may hold a picture has been put into the store.

    Raises:
        ConnectionFailedError: it was not sent; the end of the claim writes ``cancelled``.
        RemoteImageError: refused, failed or ambiguous; that is in the journal already.
        CallCancelled: cancelled before the request was sent whole; a later interrupt waits for the answer.
        JournalError, ClaimLost: the state could not be written, so the request was not sent (again).
    """
    service, claim, handle = call.service, call.claim, call.handle
    deadline = time.monotonic() + service.account.deadlines.queue
    sent = Progress("running" if service.works_while_asked else "submitting", expected=call.expected)
    phases = Phases(handle.cancel, partial(claim.submitting, service.account.options), lambda: handle.report(sent))
    tries: Counter[Row] = Counter()
    while True:
        call.check()
        handle.cancel.check()
        handle.report(Progress("submitting"))
        try:
            return service.submit(call.request, claim.attempt.request_id, phases)
        except CallCancelled:
            claim.unsent()
            raise
        except (NotSentError, NoAnswerError, NotAccepted) as problem:
            _follow_row(call, classify(call, problem, resends=tries[NOT_SENT]), tries, deadline)


def classify(call: Submission, problem: NotSentError | NoAnswerError | NotAccepted, resends: int) -> Ended:
    """The row of the submit table for a try that brought no acceptance, and its error.

    A picture in the answer is put into the store. ``resends``: how often the request was sent again because it had not
    been sent whole.
    """
    provider, request_id = call.service.provider, call.claim.attempt.request_id
    if isinstance(problem, NotSentError):
        row = UNREACHABLE if problem.permanent or resends == MAX_RESENDS else NOT_SENT
        return Ended(row, unreachable(provider, problem), problem)
    if isinstance(problem, NoAnswerError):
        words = shortened(str(problem), 200)
        error: RemoteImageError = AmbiguousSubmitError(
            _NO_ANSWER, provider=provider, vendor_message=words, request_id=request_id
        )
        return Ended(AMBIGUOUS, error, problem, problem.body)
    meaning = _meaning_with_picture(problem, call.keep)
    # The status 401 alone does not prove that the key was refused: a gateway may have wrapped a failure.
    key_refused = problem.status == 401 and meaning.outcome is Outcome.REFUSED
    row = KEY_REFUSED if key_refused else _ROWS[meaning.outcome]
    error = refusal(
        provider,
        meaning,
        code=problem.code,
        vendor_message=problem.vendor_message,
        request_id=problem.request_id or request_id,
    )
    is_unclear = row is AMBIGUOUS and meaning is problem.meaning and problem.status < 300
    return Ended(row, error, body=problem.body if is_unclear else b"", retry_after=problem.retry_after)


def _meaning_with_picture(answer: NotAccepted, keep: Callable[[SubTask], BesideError]) -> Meaning:
    """What an answer means: with a picture it is ambiguous, and the picture is put into the store."""
    if answer.picture is None:
        return answer.meaning
    kept = keep(answer.picture)
    if kept == "no picture" and answer.is_known:
        # A link beside a known error code may lead to the page that explains it.
        return answer.meaning
    what = Text(
        f"The service answered with HTTP {answer.status}, and with a picture all the same.",
        f"服务端返回 HTTP {answer.status}，但应答中带有图片。",
    )
    if kept == "stored":
        what = Text(
            f"{what.en} The picture was kept in the store: see Remote tasks in the sidebar.",
            f"{what.zh}图片已保留在图片库中：见侧边栏「远程任务」。",
        )
    return Meaning(AmbiguousSubmitError, Outcome.AMBIGUOUS, what)


_NO_ANSWER = Text(
    "The request was sent, but no answer came: it may have been accepted.",
    "请求已发出但没有收到应答，服务端可能已经受理。",
)


def _follow_row(call: Submission, ended: Ended, tries: Counter[Row], deadline: float) -> None:
    """Do what a row says: return when the request is to be sent again, or write the end and raise the error.

    Args:
        tries: how often the request was sent again because of each row.
        deadline: when to give up a busy service, by the monotonic clock.
    """
    row, error, claim = ended.row, ended.error, call.claim
    pack_logger().debug("%s: %s; sent again: %s", claim.journal_id, row.ended, row.again.value)
    if row.unsent:
        claim.unsent()
    if row.again is not Again.NEVER:
        claim.write_unsent(holds_slot=row.keeps_place)
        if _may_go_again(call, ended, tries[row], deadline):
            tries[row] += 1
            return
    error.what = _with_kept_answer(claim, ended.body, error.what)
    if row.end is not None:
        _END_WITH[row.end](claim, error)
        if call.handle.cancel.cancelled:  # nobody waits for the error: only log and journal show it
            pack_logger().warning("after the interrupt: %s", error.text().en)
    raise error from ended.cause


_END_WITH = {State.REFUSED: Claim.refused, State.FAILED: Claim.failed, State.AMBIGUOUS: Claim.ambiguous}


def _may_go_again(call: Submission, ended: Ended, times: int, deadline: float) -> bool:
    """Wait until the request may be sent again; returns whether it may.

    ``times``: how often it was sent again because of this row before.
    """
    if ended.row.again is Again.AFTER_A_PAUSE:
        call.handle.cancel.sleep(jittered(0.5 * 2**times))
        return True
    if ended.row.again is Again.WHEN_RENEWED:
        return times == 0 and call.service.renew_credentials()
    call.journal.limiter.slow_down(call.service.account.account_id, call.service.provider)
    pause = _pause_when_busy(ended.retry_after, times)
    if time.monotonic() + pause >= deadline:
        return False
    call.handle.report(Progress("queued"))
    call.handle.cancel.sleep(pause)
    call.admit()
    return True


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
