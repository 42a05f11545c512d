"""Calls of one node: after a failure nothing more is bought, and what was bought is named."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hidream_volcengine.api import (
    Batch,
    CancelToken,
    Delivery,
    QuotaError,
    RemoteImageError,
    Result,
    TaskFailedError,
    TaskRef,
    TaskTimeoutError,
    Text,
    Watch,
    deliver,
    run_in_batch,
)

PICTURE = np.zeros((2, 2, 3), np.uint8)
WATCH = Watch(CancelToken(), lambda progress: None)


@dataclass
class Call:
    outcome: Delivery | BaseException
    ran: bool = field(default=False)

    def run(self, watch: Watch, batch: Batch) -> Delivery:
        self.ran = True
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def task(number: int) -> TaskRef:
    return TaskRef("HiDream", "hidream upscale", f"task-{number}")


def failed(number: int) -> TaskFailedError:
    return TaskFailedError(Text("It failed.", "失败了。"), task_id=f"task-{number}")


@pytest.mark.parametrize("trouble", [QuotaError(Text("a", "b")), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_whatever_ends_a_call_keeps_its_siblings_from_buying(trouble: BaseException) -> None:
    batch = Batch()
    if isinstance(trouble, RemoteImageError):
        assert run_in_batch(Call(trouble), WATCH, batch).error is trouble
    else:
        with pytest.raises(type(trouble)):
            run_in_batch(Call(trouble), WATCH, batch)
    sibling = Call(Delivery(task(1), (PICTURE,)))
    assert run_in_batch(sibling, WATCH, batch) == Result()
    assert not sibling.ran


def test_a_failed_sub_task_keeps_its_siblings_from_buying_and_its_own_finished_ones() -> None:
    batch = Batch()
    half = Delivery(task(1), (PICTURE,), (failed(1),))
    assert run_in_batch(Call(half), WATCH, batch).delivery is half
    assert run_in_batch(Call(Delivery(task(2))), WATCH, batch) == Result()


def test_an_error_names_every_accepted_task() -> None:
    timeouts = [TaskTimeoutError(Text("Late.", "超时。"), task_id=f"task-{number}") for number in (1, 2)]
    results = [Result(error=timeouts[0]), Result(error=timeouts[1]), Result(Delivery(task(3), (PICTURE,))), Result()]
    with pytest.raises(TaskTimeoutError) as caught:
        deliver(results, accept_partial=False)
    for line in str(caught.value).splitlines():
        for number in (1, 2, 3):
            assert f"task-{number}" in line
    assert "1 pictures came, 2 failed, 1 calls were not submitted" in str(caught.value)


def test_the_rest_is_returned_in_order_and_what_is_missing_is_told() -> None:
    first, second = Delivery(task(1), (PICTURE,)), Delivery(task(2), (PICTURE,), (failed(2), failed(2)))
    deliveries, notes = deliver([Result(first), Result(second), Result()], accept_partial=True)
    assert deliveries == [first, second]
    assert notes[0].en.startswith("Missing (2×): It failed.")
    assert notes[0].zh.startswith("缺失（2 项）：失败了。")
    assert "1 calls were not submitted" in notes[1].en


def test_nothing_at_all_is_an_error_even_where_the_rest_is_welcome() -> None:
    with pytest.raises(TaskFailedError):
        deliver([Result(Delivery(task(1), (), (failed(1),)))], accept_partial=True)
