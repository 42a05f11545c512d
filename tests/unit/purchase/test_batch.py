"""Calls of one node: after a failure nothing more is bought, and what was bought is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hidream_volcengine.api import (
    AuthenticationError,
    Batch,
    BatchOutcome,
    CallHandle,
    CancelToken,
    Delivery,
    Journal,
    JournalSettings,
    PaidCall,
    Profiles,
    QuotaError,
    RemoteImageError,
    Result,
    Run,
    TaskFailedError,
    TaskRef,
    TaskTimeoutError,
    Text,
    tensors,
)
from hidream_volcengine.api.catalog.endpoints import hidream_upscale
from hidream_volcengine.api.core.limits import Ceiling
from hidream_volcengine.api.core.task import Accepted, SubTask
from hidream_volcengine.api.purchase import pictures as pictures_module
from hidream_volcengine.api.transport.account import HiDreamAccount
from hidream_volcengine.api.transport.submit import Phases

PICTURE = np.zeros((2, 2, 3), np.uint8)
WATCH = CallHandle(CancelToken(), lambda progress: None)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(JournalSettings(tmp_path))
    yield opened
    opened.close()


def account() -> HiDreamAccount:
    def no_sandbox() -> Any:
        raise AssertionError("the sandbox was not asked for")

    return Profiles({"HIDREAM_TOKEN": "some-token", "HIDREAM_BASE_URL": "http://127.0.0.1:1"}, no_sandbox).hidream(
        "default"
    )


@dataclass
class Service:
    """Answers one submit with ``outcome``, and a poll with ``told``."""

    outcome: Accepted | BaseException
    told: Sequence[SubTask] = ()
    account: HiDreamAccount = field(default_factory=account)
    submits: int = 0
    provider: ClassVar[str] = "HiDream"
    name: ClassVar[str] = "hidream upscale"
    base_url: ClassVar[str] = "http://127.0.0.1:1"
    ceiling: ClassVar[Ceiling] = Ceiling()
    works_while_asked: ClassVar[bool] = False

    def submit(self, request: hidream_upscale.Request, request_id: str, phases: Phases) -> Accepted:
        phases.before_sending()
        self.submits += 1
        phases.on_sent()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def query(self, task: TaskRef) -> Sequence[SubTask]:
        return self.told

    def renew_credentials(self) -> bool:
        return False


def task(number: int, *sub_task_ids: str) -> TaskRef:
    return TaskRef("HiDream", "hidream upscale", f"task-{number}", sub_task_ids=sub_task_ids)


def failed(number: int) -> TaskFailedError:
    return TaskFailedError(Text("It failed.", "失败了。"), task_id=f"task-{number}")


def picture(sub_task_id: str = "") -> SubTask:
    return SubTask(sub_task_id, started=True, base64=tensors.to_base64(tensors.encode(PICTURE)))


def brings_a_picture(number: int) -> Service:
    return Service(Accepted(task(number)), [picture()])


def call(service: Service, image: str = "one", encode: Callable[[], dict[str, Any]] = dict) -> PaidCall:
    request = hidream_upscale.Request(image=image, upsale_ratio=2)
    return PaidCall(service, request, encode, expected_pixels=4)  # type: ignore[arg-type]


TROUBLES = [QuotaError(Text("a", "b")), MemoryError(), KeyboardInterrupt()]


@pytest.mark.parametrize("trouble", TROUBLES, ids=repr)
@pytest.mark.parametrize("where", ["encode", "submit"])
def test_whatever_ends_a_call_keeps_its_siblings_from_buying(
    journal: Journal, trouble: BaseException, where: str
) -> None:
    def encode() -> dict[str, Any]:
        if where == "encode":
            raise trouble
        return {}

    first, sibling = Service(trouble), brings_a_picture(2)
    calls = [call(first, "one", encode), call(sibling, "two")]
    batch = Batch(journal, calls, Run().node().item())
    if isinstance(trouble, RemoteImageError):
        assert batch.run(0, WATCH).error is trouble
    else:
        with pytest.raises(type(trouble)):
            batch.run(0, WATCH)
    assert batch.run(1, WATCH) == Result()
    assert (first.submits, sibling.submits) == (int(where == "submit"), 0)
    # What was broken off before its first byte is bought the next time; what may be on its way is not.
    sent = where == "submit"
    states = [entry.state for entry in journal.task_list.tasks()]
    assert sorted(states) == (["ambiguous", "cancelled"] if sent else ["cancelled", "cancelled"])
    if sent:
        again = Batch(journal, [call(brings_a_picture(1), "one")], Run().node().item())
        assert (again.plan.buy, type(again.run(0, WATCH).error).__name__) == (0, "AmbiguousSubmitError")
    else:
        assert Batch(journal, [call(brings_a_picture(1), "one")], Run().node().item()).plan.buy == 1


def test_no_memory_for_a_bought_picture_loses_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> Any:
        raise MemoryError

    service = brings_a_picture(1)
    with monkeypatch.context() as patch:
        patch.setattr(pictures_module, "decode", no_memory)
        with pytest.raises(MemoryError):
            Batch(journal, [call(service)], Run().node().item()).run(0, WATCH)
    batch = Batch(journal, [call(service)], Run().node().item())
    assert (batch.plan.buy, batch.plan.resume) == (0, 1)
    delivery = batch.run(0, WATCH).delivery
    assert delivery is not None and len(delivery.pictures) == 1
    assert service.submits == 1


def test_a_failed_sub_task_keeps_its_siblings_from_buying_and_its_own_finished_ones(journal: Journal) -> None:
    sub_tasks = [picture("sub-1"), SubTask("sub-2", started=True, error=failed(1))]
    half, sibling = Service(Accepted(task(1, "sub-1", "sub-2")), sub_tasks), brings_a_picture(2)
    batch = Batch(journal, [call(half, "one"), call(sibling, "two")], Run().node().item())
    delivery = batch.run(0, WATCH).delivery
    assert delivery is not None
    assert len(delivery.pictures) == 1 and [error.what.en for error in delivery.errors] == ["It failed."]
    assert batch.run(1, WATCH) == Result()
    assert sibling.submits == 0


@pytest.mark.parametrize("kind", [AuthenticationError, QuotaError])
def test_a_refused_key_or_an_empty_account_stops_every_node_of_the_run(
    journal: Journal, kind: type[RemoteImageError]
) -> None:
    run, refused = Run("prompt-1"), kind(Text("No.", "不行。"), provider="HiDream")
    Batch(journal, [call(Service(refused))], run.node().item()).run(0, WATCH)
    later = brings_a_picture(2)
    error = Batch(journal, [call(later, "two")], run.node().item()).run(0, WATCH).error
    assert type(error) is kind and error.billed == "no"
    assert "No." in error.what.en and "不行。" in error.what.zh
    assert later.submits == 0
    assert Batch(journal, [call(later, "two")], Run("prompt-2").node().item()).run(0, WATCH).delivery is not None


def test_a_budget_of_the_server_does_not_speak_for_the_account(journal: Journal) -> None:
    run, service = Run("prompt-1"), brings_a_picture(1)
    run.note_failure(service, QuotaError(Text("This server's budget.", "此服务器的预算。")))  # type: ignore[arg-type]
    run.check(service)  # type: ignore[arg-type]


def test_an_error_names_every_accepted_task() -> None:
    timeouts = [TaskTimeoutError(Text("Late.", "超时。"), task_id=f"task-{number}") for number in (1, 2)]
    results = [Result(error=timeouts[0]), Result(error=timeouts[1]), Result(Delivery(task(3), (PICTURE,))), Result()]
    error = BatchOutcome(results).error(accept_partial=False)
    assert isinstance(error, TaskTimeoutError)
    for line in str(error).splitlines():
        for number in (1, 2, 3):
            assert f"task-{number}" in line
    assert "1 pictures came, 2 failed, 1 calls were not submitted" in str(error)


def test_the_rest_is_returned_in_order_and_what_is_missing_is_told() -> None:
    first, second = Delivery(task(1), (PICTURE,)), Delivery(task(2), (PICTURE,), (failed(2), failed(2)))
    outcome = BatchOutcome([Result(first), Result(second), Result()])
    assert outcome.error(accept_partial=True) is None
    assert outcome.deliveries == [first, second]
    notes = outcome.notes()
    assert notes[0].en.startswith("Missing (2×): It failed.")
    assert notes[0].zh.startswith("缺失（2 项）：失败了。")
    assert "1 calls were not submitted" in notes[1].en


def test_nothing_at_all_is_an_error_even_where_the_rest_is_welcome() -> None:
    nothing = BatchOutcome([Result(Delivery(task(1), (), (failed(1),)))])
    assert isinstance(nothing.error(accept_partial=True), TaskFailedError)
