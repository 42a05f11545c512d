"""A call that a user can stop while it waits for an attempt ("stop waiting").

That ends the call, never the purchase: a request that was not sent is not sent, an accepted task is parked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..core import Billed, CallCancelled, CancelToken, NotSubmitted, TaskTimeoutError, Text
from ..journal import Claim, State, StopRegistry


class StoppableCall:
    """One call from its beginning to its end; it may wait for several attempts, one after the other.

    Args:
        registry: where :meth:`on` enters it.
        cancel: the token of this call alone.
        on_stop: called when it is stopped; it must not block.
    """

    def __init__(self, registry: StopRegistry, cancel: CancelToken, on_stop: Callable[[], None]) -> None:
        self._registry = registry
        self._on_stop = on_stop
        self._claim: Claim | None = None
        self.cancel = cancel
        self.journal_id = ""
        self.works = False
        """Whether this call holds the claim on the attempt; else it waits for the call that does."""
        self.stopped = False

    def on(self, journal_id: str, claim: Claim | None = None) -> None:
        """From now on the call waits for this attempt; with ``claim`` it works on it.

        The last claim is kept for :meth:`error` if the call has sent this attempt itself and then lost it.
        """
        self.works = claim is not None
        if self.works or not self._sent(journal_id):
            self._claim = claim
        self._registry.move(self, journal_id)

    def _sent(self, journal_id: str) -> bool:
        """Whether this call held the claim on the attempt before, and the request was sent."""
        before = self._claim
        return before is not None and before.journal_id == journal_id and before.state is not State.PREPARED

    def stop(self) -> None:
        """End the call with :meth:`error`, by its own token; does not block."""
        self._on_stop()
        self.cancel.stop(self.error)

    def error(self) -> TaskTimeoutError:
        """The error of a stopped call, by the state of its attempt now: what was sent, and whether it is billed.

        It may be made while the call's thread still runs.
        """
        claim = self._claim
        if claim is None:
            return TaskTimeoutError(_OTHERS_WORK, advice=_NOT_TWICE)
        task = claim.attempt.task
        # Read the state once: the call's thread may change it meanwhile.
        what, billed, advice = _ERRORS_BY_STATE.get(claim.state, (_UNDECIDED, "unknown", _NOT_TWICE))
        return TaskTimeoutError(
            what,
            advice=advice,
            provider=task.provider,
            task_id=task.task_id,
            request_id=task.request_id,
            billed=billed,
        )


@contextmanager
def stoppable_call(
    registry: StopRegistry, cancel: CancelToken, on_stop: Callable[[], None] = lambda: None
) -> Iterator[StoppableCall]:
    """A call that can be stopped while the block runs.

    Args:
        cancel: the token of this call alone; a stop cancels it.
        on_stop: called at once when it is stopped; it must not block.

    Raises:
        TaskTimeoutError: it was stopped; any other error of the block but CallCancelled and NotSubmitted goes first.
    """
    call = StoppableCall(registry, cancel, on_stop)
    try:
        yield call
    except (CallCancelled, NotSubmitted):
        if registry.end(call):
            raise call.error() from None
        raise
    finally:
        registry.end(call)
    if call.stopped:
        raise call.error()


_NOT_TWICE = Text(
    "Queue again: nothing is bought twice by that.",
    "请重新运行：不会因此重复购买。",
)
_OTHERS_WORK = Text(
    "You stopped waiting for a task that another node or server works on. This node submitted nothing.",
    "已停止等待。该任务由其他节点或服务器处理，本节点未提交任何内容。",
)
_UNDECIDED = Text(
    "You stopped waiting; the task list says what became of the task.",
    "已停止等待；任务的结果请见任务列表。",
)
_UNSENT = Text(
    "You stopped waiting before the request was sent: nothing was submitted.",
    "请求发送前已停止等待，未提交任何内容。",
)
_SENT = Text(
    "You stopped waiting. The request was sent and may be billed; its answer is still listened for in the background "
    "and written down.",
    "已停止等待。请求已发出，可能会计费；后台仍会接收应答并记入付费日志。",
)
_PARKED = Text(
    "You stopped waiting. The task was submitted and may be billed; it is parked, not lost.",
    "已停止等待。任务已提交，可能会计费；任务已暂存，不会丢失。",
)
_CAME = Text(
    "You stopped waiting, and in the same moment it ended: what it brought is in the store.",
    "停止等待的同时任务已结束，结果已保存在图片库中。",
)
_FROM_STORE = Text("Queue again: it comes from the store, with 0 calls.", "请重新运行：将直接取自图片库，0 次调用。")
_SUBMITS = Text("Queue again to submit it.", "重新运行即可提交。")

_ERRORS_BY_STATE: dict[State, tuple[Text, Billed, Text | None]] = {
    State.PREPARED: (_UNSENT, "no", _SUBMITS),
    State.CANCELLED: (_UNSENT, "no", _SUBMITS),
    State.SUBMITTING: (_SENT, "unknown", _NOT_TWICE),
    State.SUBMITTED: (_PARKED, "unknown", None),
    State.DONE: (_PARKED, "unknown", None),
    State.PARKED: (_PARKED, "unknown", None),
    State.STORED: (_CAME, "yes", _FROM_STORE),
}
