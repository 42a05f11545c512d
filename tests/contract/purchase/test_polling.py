"""Waiting for a task: nothing that a poll brings or fails to bring loses what was paid for."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hidream_volcengine.api import (
    CallHandle,
    CancelToken,
    Deadlines,
    Delivery,
    Journal,
    ModerationError,
    Progress,
    RemoteImageError,
    TaskFailedError,
    TaskTimeoutError,
    fetch_task,
)
from hidream_volcengine.api.catalog.endpoints import hidream_model_photo_set
from hidream_volcengine.api.core.task import SubTask, TaskRef, Usual
from hidream_volcengine.api.journal.model import State
from hidream_volcengine.api.purchase import poll as polling
from hidream_volcengine.api.purchase.poll import jittered, next_pause
from hidream_volcengine.api.services import sub_tasks
from hidream_volcengine.api.services.answers import Reply
from hidream_volcengine.api.transport.received import Answer
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import Connection, RawServer, results, sub_task

IDS = ("sub-1", "sub-2", "sub-3")
SHORT = Deadlines(queue=0.4, run=0.4, poll=0.3, download=1)
PICTURE = "PICTURE"


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


class Service:
    """Answers poll i with the i-th of ``polls`` (the last one for ever) and delivers a picture at ``PICTURE``."""

    def __init__(self, *polls: Any, ids: Sequence[str] = ("sub-1",)) -> None:
        self._polls = polls
        self._numbers = itertools.count()
        self.server = RawServer(self._serve)
        self.ids = tuple(ids)

    @property
    def polls(self) -> list[Connection]:
        return [entry for entry in self.server.connections if "/results?" in entry.request_line]

    def _serve(self, connection: Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            return connection.answer(200, raw.accepted(sub_task_ids=self.ids))
        if "/results?" not in connection.request_line:
            # Of another width for each path, so that the order can be seen.
            width = 64 + int(connection.request_line.split("?")[0].rpartition("-")[2].split(" ")[0])
            return connection.answer(200, raw.png(width, 48), content_type="image/png")
        answer = self._polls[min(next(self._numbers), len(self._polls) - 1)]
        if callable(answer):
            return answer(connection)
        status, body, content_type = answer if isinstance(answer, tuple) else (200, answer, "application/json")
        data = raw.encoded_body(body).replace(PICTURE.encode(), self.server.url.encode())
        return connection.answer(status, data, content_type=content_type)

    def run(
        self,
        deadlines: Deadlines = raw.QUICK,
        reports: list[Progress] | None = None,
        journal: Journal | None = None,
    ) -> Delivery:
        with self.server:
            request = raw.img2img_request(max(1, len(self.ids)))
            call = raw.hidream_call(self.server.url, deadlines=deadlines, request=request)
            watch = CallHandle(CancelToken(), (reports if reports is not None else []).append)
            delivery = raw.bought(call, watch, journal)
            assert len([c for c in self.server.connections if c.request_line.startswith("POST")]) == 1
            return delivery

    def fail(self, deadlines: Deadlines = SHORT) -> RemoteImageError:
        with pytest.raises(RemoteImageError) as caught:
            self.run(deadlines)
        return caught.value


def done(sub_task_id: str = "sub-1") -> dict[str, Any]:
    return sub_task(sub_task_id, image=f"{PICTURE}/p-{sub_task_id[-1]}")


def waiting(sub_task_id: str = "sub-1") -> dict[str, Any]:
    return sub_task(sub_task_id, status=2)


def widths(delivery: Delivery) -> list[int]:
    return [picture.shape[1] - 64 for picture in delivery.pictures]


# ---- a poll's own error never ends a task

HTML = "<html>gateway</html>"


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {"code": 500}, "application/json"),
        (500, results(sub_task(status=3)), "application/json"),
        (502, HTML, "text/html"),
        (503, b"", "text/plain"),
        (200, HTML, "text/html"),
        (200, b"", "text/plain"),
        (200, b"[]", "application/json"),
        (200, b'{"code": 0', "application/json"),
        (401, {"code": 401, "message": "no"}, "application/json"),
        (403, {"code": 403}, "application/json"),
        (404, {"code": 404}, "application/json"),
        (404, HTML, "text/html"),
        (429, {"code": 429}, "application/json"),
        (301, b"", "text/plain"),
        {"code": 1001, "message": "task not found"},
        {"code": -1, "message": "x", "result": {"sub_task_results": [sub_task(status=3)]}},
        {"code": "0x", "result": {"sub_task_results": [sub_task(status=3)]}},
        {"code": 1001, "message": "record not found", "result": {"sub_task_results": []}},
        Connection.reset,
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
        results(),
        {"code": 0, "result": None},
        {"code": 0, "result": []},
        {"code": 0, "result": {}},
        {"code": 0, "result": {"sub_task_results": None}},
        {"code": 0, "result": {"sub_task_results": [None, 5, "text", []]}},
        results(sub_task(status=0)),
        results(sub_task(status=2)),
        results(sub_task(status=None)),
        results({}),
        *(results(sub_task(status=status)) for status in (-1, -2, -3, -4, -5, -99)),
        results(sub_task(status=1)),
        results(sub_task(status=1, image="")),
        results(sub_task(status="garbage")),
        results(sub_task(status=[1])),
    ],
    # Without addresses in memory: every process that runs these gives them the same names.
    ids=lambda trouble: trouble.__qualname__ if callable(trouble) else str(trouble),
)
def test_a_poll_without_a_state_is_asked_again(trouble: Any) -> None:
    service = Service(trouble, trouble, results(done()))
    assert widths(service.run()) == [1]
    assert len(service.polls) == 3


def test_a_poll_that_hangs_is_asked_again() -> None:
    service = Service(raw.hanging, results(done()))
    assert widths(service.run(Deadlines(poll=0.2))) == [1]


def test_a_poll_that_drips_is_asked_again() -> None:
    def drip(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(150):
            connection.send(b" ")
            time.sleep(0.02)

    began = time.monotonic()
    assert widths(Service(drip, results(done())).run(Deadlines(connect=0.2, poll=0.3))) == [1]
    assert time.monotonic() - began < 2.5


def test_polls_back_off_on_errors(back_offs: list[float]) -> None:
    Service((500, b"", "text/plain"), (500, b"", "text/plain"), (500, b"", "text/plain"), results(done())).run()
    assert back_offs == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "odd", [{"error": {"code": 1}}, {"error": 0}, {"description": ["x"]}, {"sub_task_id": 1}], ids=str
)
def test_a_finished_picture_is_delivered_whatever_stands_beside_it(odd: dict[str, Any]) -> None:
    service = Service(results({**done(), **odd}))
    assert widths(service.run(SHORT)) == [1]


def test_an_unreadable_sub_task_does_not_hide_the_finished_ones() -> None:
    service = Service(results(done("sub-1"), sub_task("sub-2", status="garbage"), done("sub-3")), ids=IDS)
    delivery = service.run(SHORT)
    assert widths(delivery) == [1, 3]
    assert [type(error) for error in delivery.errors] == [TaskTimeoutError]


# ---- as services and gateways put it


PLACE = f"{PICTURE}/p-1"
BASE64 = base64.b64encode(raw.png(65, 48)).decode("ascii")
DONE = ("1", "1.0", 1.0, "success", "Succeeded", "DONE", "finished", "completed", None, "unheard of", [1])
FINISHED: dict[str, Any] = {
    "url": sub_task(url=PLACE),
    "image_url": sub_task(image_url=PLACE),
    "media": sub_task(media=PLACE),
    "a list": sub_task(image=[PLACE]),
    "an object": sub_task(media={"url": PLACE, "type": "image"}),
    "a list of objects": sub_task(image=[{"image_url": PLACE}]),
    "image empty": sub_task(image="", url=PLACE),
    "image null": sub_task(image=None, media=PLACE) | {"image": None},
    "base64": sub_task(image=BASE64),
    "data URL": sub_task(url=f"data:image/png;base64,{BASE64}"),
    **{f"status {status!r}": sub_task(status=status, image=PLACE) for status in DONE},
    "a status of another name": {"sub_task_id": "sub-1", "status": "success", "url": PLACE},
    "an HTTP status in it": {"sub_task_id": "sub-1", "status": 200, "url": PLACE},
    "a picture under a second name": sub_task(image=PLACE, url=f"{PICTURE}/thumbnail-9", media=[PLACE]),
    "a number of another field": {"sub_task_id": "sub-1", "status": 3, "image": PLACE},
    "a gateway's ok": {"sub_task_id": "sub-1", "status": 0, "image": PLACE},
    "a word beside a picture": {"sub_task_id": "sub-1", "state": "error", "image": PLACE},
    "a bare address": PLACE,
    "an id that is a number": sub_task(1, image=PLACE),
}  # fmt: skip
LISTS: dict[str, Any] = {
    "an object": sub_task(image=PLACE),
    "objects by id": {"sub-1": {"task_status": 1, "image": PLACE}},
    "a text": json.dumps([sub_task(image=PLACE)]),
    "an address": PLACE,
    "nested": [[sub_task(image=PLACE)]],
    "between others": [None, 5, True, "words", sub_task(image=PLACE)],
}


def test_a_finished_picture_counts_however_it_is_told() -> None:
    answers = {name: results(entry) for name, entry in FINISHED.items()}
    answers |= {f"list: {name}": {"code": 0, "result": {"sub_task_results": told}} for name, told in LISTS.items()}
    answers["without a list"] = {"code": 0, "result": {"image": PLACE}}
    for name, answer in answers.items():
        service = Service(answer)
        assert (name, widths(service.run(SHORT)), len(service.polls)) == (name, [1], 1)


def test_an_address_beside_an_error_is_no_result() -> None:
    told = {"code": 1001, "message": "see the page", "result": {"url": f"{PICTURE}/help-9"}}
    service = Service(told, results(done()))
    assert (widths(service.run()), len(service.polls)) == ([1], 2)


def test_a_signature_is_not_shown_wherever_it_stands() -> None:
    odd = {"output": {"link": "https://host.invalid/p.png?sign=canary-signature"}, "why": "no face?"}
    for status in (99, 1, "unheard of"):
        error = Service(results(sub_task(status=status, **odd))).fail() if status != 99 else None
        if error is None:
            (error,) = Service(results(sub_task(status=status, **odd))).run().errors
        assert "host.invalid/p.png" in error.vendor_message and "canary-signature" not in str(error)


def test_an_input_that_a_poll_repeats_is_no_result() -> None:
    for waits in ({"sub_task_results": []}, {"sub_task_results": None}, {"task_status": 2}, {"status": "queued"}):
        service = Service({"code": 0, "result": {"image": f"{PICTURE}/input-9", **waits}}, results(done()))
        assert (widths(service.run()), len(service.polls)) == ([1], 2), waits


def test_several_pictures_of_one_sub_task_are_all_delivered() -> None:
    both = sub_task("sub-1", image=[PLACE, f"{PICTURE}/p-2"])
    service = Service(results(both, waiting("sub-2")), results(both, done("sub-2") | {"image": f"{PICTURE}/p-3"}),
                      ids=("sub-1", "sub-2"))  # fmt: skip
    with raw.fresh_journal() as journal:
        assert widths(service.run(journal=journal)) == [1, 2, 3]
        assert len(service.polls) == 2, "the second sub task was waited for"
        kept = sorted(journal.store.side_cars(), key=lambda side_car: side_car.position)
        assert [side_car.sub_task_id for side_car in kept] == ["sub-1", "sub-1#2", "sub-2"]


def test_a_picture_of_a_task_at_work_is_a_preview() -> None:
    for status in (0, 2, "running", "queued", "Processing", -1):
        service = Service(results(sub_task(status=status, image=PLACE)), results(done()))
        assert (widths(service.run()), len(service.polls)) == ([1], 2), status


def test_a_reason_is_shown_under_whatever_name() -> None:
    for name in ("error", "error_msg", "message", "fail_reason", "description"):
        for status in (3, "3", 3.0, "failed", "FAILURE", "error"):
            entry = {"sub_task_id": "sub-1", "task_status": status, name: "no face found"}
            (error,) = Service(results(entry)).run().errors
            assert (type(error), error.vendor_message) == (TaskFailedError, "no face found"), (name, status)
    (error,) = Service(results(sub_task(status=3, error={"code": 7, "message": "no face"}))).run().errors
    assert "no face" in error.vendor_message
    (error,) = Service(results(sub_task(status="rejected", odd="字"))).run().errors
    assert type(error) is ModerationError and "字" in error.vendor_message


@pytest.mark.parametrize("odd", [5, True, "words", {"a": {"b": {"c": {"d": []}}}}, [[[[[]]]]], "[", '{"a":', 1e400])
def test_results_of_any_type_raise_nothing_bare(odd: Any) -> None:
    named(Service({"code": 0, "result": {"sub_task_results": odd}}).fail())
    named(Service(results({"state": odd, "task_completion": odd, "sub_task_id": odd, "error": odd})).fail())


NAMES = st.sampled_from(["task_status", "status", "image", "url", "media", "error", "sub_task_id", "sub_task_results"])
NUMBERS = st.booleans() | st.integers() | st.floats()
LEAVES = st.none() | NUMBERS | st.text(max_size=5) | st.sampled_from(["done", PLACE, "half \ud83d of a character"])


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=8))
def test_no_shape_of_an_answer_raises(entry: Any) -> None:
    body = json.dumps({"code": 0, "result": {"sub_task_results": entry}}).encode()
    reply = Reply("HiDream", Answer(200, {}, body))
    for listed in sub_tasks.entries_of(reply):
        sub_tasks.has_picture(listed)
        sub_tasks.sub_tasks_of(listed, TaskRef("HiDream", "upscale", "task-1"))


@pytest.mark.parametrize("ids", [("sub-1",), ("sub-1", "sub-2"), ()])
def test_done_without_a_picture_is_asked_for_a_while_and_then_parked(
    ids: tuple[str, ...], monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_EMPTY_FOR", 0.2)
    empty = sub_task("sub-1", words="nowhere 字")
    entries = [empty, *(done(name) for name in ids[1:])]
    service = Service(results(*entries), ids=ids)
    with raw.fresh_journal() as journal:
        if len(ids) > 1:
            delivery = service.run(Deadlines(queue=60, run=60), journal=journal)
            assert widths(delivery) == [2]
            (error,) = delivery.errors
        else:
            with pytest.raises(TaskTimeoutError) as caught:
                service.run(Deadlines(queue=60, run=60), journal=journal)
            error = caught.value
        named(error)
        assert "nowhere 字" in error.vendor_message and "done" in error.what.en and "完成" in error.what.zh
        assert len(service.polls) > 2
        (attempt,) = journal.task_list.orphans(9)
        assert attempt.state is State.PARKED


def test_an_address_that_comes_a_little_later_is_waited_for() -> None:
    service = Service(*[results(sub_task(status=1))] * 3, results(done()))
    assert widths(service.run()) == [1]


def test_words_of_a_state_that_is_not_known_are_shown_at_the_deadline() -> None:
    error = Service(results(sub_task(status="unheard of 字"))).fail()
    named(error)
    assert "unheard of 字" in error.vendor_message


# ---- endings


def test_failed_is_the_services_own_word() -> None:
    service = Service(results(sub_task(status=3, description="out of 显存", error="E9")))
    delivery = service.run()
    (error,) = delivery.errors
    assert (type(error), error.billed) == (TaskFailedError, "unknown")
    assert error.code == "task_status 3"
    assert error.vendor_message == "out of 显存 E9"
    assert error.task_id == "task-1" and error.request_id
    for line in str(error).split("\n"):
        assert "task-1" in line and "out of 显存 E9" in line and "task_status 3" in line


@pytest.mark.parametrize(
    ("status", "expected"),
    [(4, ModerationError), (1004, TaskFailedError), (1005, TaskFailedError), (1006, TaskFailedError)],
)
def test_other_endings_without_a_picture(status: int, expected: type[RemoteImageError]) -> None:
    (error,) = Service(results(sub_task(status=status, description="words"))).run().errors
    assert (type(error), error.billed) == (expected, "unknown")
    assert "words" in str(error) and "task-1" in str(error)


@pytest.mark.parametrize("status", [5, 7, 1003, 1007, 99999])
def test_an_unknown_positive_status_stops_and_is_shown(status: int) -> None:
    entry = sub_task(status=status, image="https://host.invalid/p.png?sign=canary-signature", new_field="字")
    (error,) = Service(results(entry)).run().errors
    assert (type(error), error.billed) == (TaskFailedError, "unknown")
    assert str(status) in error.what.en and str(status) in error.what.zh
    assert "new_field" in error.vendor_message and "字" in error.vendor_message
    assert "canary-signature" not in str(error)


def test_staggered_sub_tasks_are_waited_for_and_keep_the_submits_order() -> None:
    service = Service(
        results(waiting("sub-3")),
        results(done("sub-3"), waiting("sub-1")),
        results(done("sub-3"), done("sub-1")),
        results(done("sub-3"), waiting("sub-2"), done("sub-1")),
        results(done("sub-2"), done("sub-3"), done("sub-1")),
        ids=IDS,
    )
    assert widths(service.run()) == [1, 2, 3]
    assert len(service.polls) == 5


@pytest.mark.parametrize("failed", range(3))
def test_a_failed_sub_task_does_not_throw_away_the_others(failed: int) -> None:
    entries = [done(name) for name in IDS]
    entries[failed] = sub_task(IDS[failed], status=3, description="words")
    delivery = Service(results(*entries), ids=IDS).run()
    assert widths(delivery) == [number for number in (1, 2, 3) if number != failed + 1]
    assert [type(error) for error in delivery.errors] == [TaskFailedError]
    assert delivery.task is not None and delivery.task.task_id == "task-1"


def test_a_failure_seen_early_still_waits_for_the_rest() -> None:
    failed = sub_task("sub-1", status=4)
    service = Service(
        results(failed, waiting("sub-2"), waiting("sub-3")), results(failed, done("sub-2"), done("sub-3")), ids=IDS
    )
    delivery = service.run()
    assert widths(delivery) == [2, 3]
    assert [type(error) for error in delivery.errors] == [ModerationError]


def test_more_sub_tasks_than_announced_are_all_delivered() -> None:
    service = Service(results(done("sub-3"), done("sub-9"), done("sub-1")), ids=("sub-1", "sub-3"))
    assert widths(service.run()) == [1, 3, 9]


@pytest.mark.service_sizes
def test_a_half_failed_task_of_the_emulator(emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "variation", "phase": "submit", "do": {"task_status": [1, 3]}})
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_TOKEN": "sandbox-hidream-token"})
    call = raw.hidream_call(
        emulator.url, account=account, endpoint=hidream_model_photo_set.ENDPOINT, request=raw.photo_set_request()
    )
    delivery = raw.run(call)
    assert [picture.shape[:2] for picture in delivery.pictures] == [(1024, 768), (1024, 768)]
    assert [type(error) for error in delivery.errors] == [TaskFailedError, TaskFailedError]
    assert emulator.billed == 4


# ---- deadlines


def named(error: RemoteImageError) -> None:
    assert type(error) is TaskTimeoutError
    assert (error.billed, error.task_id) == ("unknown", "task-1")
    assert "task_id=task-1" in str(error).split("\n")[0]
    assert "Remote Task Result" in error.advice.en and "取回" in error.advice.zh


@pytest.mark.parametrize(
    "stuck",
    [
        results(),
        results(sub_task(status=0)),
        results(sub_task(status=2)),
        results(sub_task(status=1)),
        (502, HTML, "x/y"),
    ],
    ids=["empty", "queued", "running", "done without image", "502"],
)
def test_a_task_that_never_ends_is_named(stuck: Any) -> None:
    began = time.monotonic()
    error = Service(stuck).fail()
    named(error)
    assert time.monotonic() - began < 4
    if isinstance(stuck, tuple):
        assert "502" in str(error)


def test_the_run_deadline_counts_from_the_start_of_the_work() -> None:
    queued = [results(sub_task(status=0))] * 8
    deadlines = Deadlines(queue=30, run=0.3)
    began = time.monotonic()
    named(Service(*queued, results(waiting())).fail(deadlines))
    assert 0.3 <= time.monotonic() - began < 5


def test_the_queue_deadline_ends_what_never_starts() -> None:
    began = time.monotonic()
    named(Service(results(sub_task(status=0))).fail(Deadlines(queue=0.3, run=30)))
    assert 0.3 <= time.monotonic() - began < 5


def test_work_that_has_started_is_not_ended_by_the_queue_deadline() -> None:
    working = [results(waiting())] * 20
    service = Service(*working, results(done()))
    assert widths(service.run(Deadlines(queue=0.1, run=20))) == [1]


@pytest.mark.parametrize(
    "listed", [[done("sub-1"), waiting("sub-2")], [done("sub-1")]], ids=["one waits", "one missing"]
)
def test_at_the_deadline_what_is_finished_is_delivered(listed: list[dict[str, Any]]) -> None:
    delivery = Service(results(*listed), ids=("sub-1", "sub-2")).run(SHORT)
    assert widths(delivery) == [1]
    (error,) = delivery.errors
    named(error)


def test_finished_pictures_known_before_the_polls_broke_are_delivered() -> None:
    service = Service(results(done("sub-1"), waiting("sub-2")), (502, HTML, "text/html"), ids=("sub-1", "sub-2"))
    delivery = service.run(SHORT)
    assert widths(delivery) == [1]
    named(delivery.errors[0])


def test_a_task_past_its_deadline_can_be_collected_later() -> None:
    service = Service(results(done()))
    with service.server, raw.fresh_journal() as journal:
        watch = CallHandle(CancelToken(), lambda progress: None)
        delivery = fetch_task(journal, raw.hidream_call(service.server.url).service, "task-1", watch)
        assert widths(delivery) == [1]
        assert service.server.submits == []
        # Only a request_id that this task was submitted with could be right here; none is known.
        assert "request_id" not in service.polls[0].request_line


# ---- progress


@pytest.mark.parametrize(("told", "fraction"), [(0.25, 0.25), (1.0, 1.0), (25, 0.25), (100, 1.0), (0, 0.0),
                                                 (-3, None), (101, None), (None, None)])  # fmt: skip
def test_fraction(told: Any, fraction: float | None) -> None:
    reports: list[Progress] = []
    Service(results(sub_task(status=2, task_completion=told)), results(done())).run(reports=reports)
    (running,) = [report for report in reports if report.stage == "running" and report.task_id]
    assert running.fraction == fraction
    assert running.task_id == "task-1"


def test_fraction_of_several_sub_tasks_and_the_stages() -> None:
    reports: list[Progress] = []
    half = [done("sub-1"), sub_task("sub-2", status=2, task_completion=0.5)]
    service = Service(
        results(), results(sub_task("sub-1", status=0)), results(*half), results(done("sub-1"), done("sub-2")),
        ids=("sub-1", "sub-2"),
    )  # fmt: skip
    service.run(reports=reports)
    stages = [stage for stage, _ in itertools.groupby(report.stage for report in reports)]
    assert [report.fraction for report in reports if report.stage == "running" and report.task_id] == [0.75]
    # Before it is accepted nobody works on it, and what works does not queue again.
    assert stages == ["waiting", "preparing", "submitting", "queued", "running", "downloading", "done"]


# ---- pauses


@given(waited=st.floats(0, 1e6), failures=st.integers(0, 10_000))
def test_next_pause_is_bounded_and_pure(waited: float, failures: int) -> None:
    pause = next_pause(waited, failures)
    assert 0.5 <= pause <= 8
    assert pause == next_pause(waited, failures)
    if failures:
        assert next_pause(waited, failures) <= next_pause(waited, failures + 1)
    else:
        assert pause <= next_pause(waited + 1, 0)


@given(waited=st.floats(0, 600), begins=st.floats(-50, 600), lasts=st.floats(0, 200))
def test_a_task_is_asked_for_closely_around_its_usual_end_only(waited: float, begins: float, lasts: float) -> None:
    pause, regular = next_pause(waited, 0, (begins, begins + lasts)), next_pause(waited, 0)
    if begins <= waited <= begins + lasts:
        assert pause == 0.5
    elif waited < begins <= waited + regular and regular >= 1:
        assert 0.5 <= pause <= regular
        assert waited + pause == pytest.approx(max(begins, waited + 0.5))
    else:
        assert pause == regular
    assert next_pause(waited, 3, (begins, begins + lasts)) == next_pause(waited, 3)


class _Clock(CancelToken):
    """Time that passes only where somebody waits or is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _asked(monkeypatch: MonkeyPatch, *, takes: float, ends: float, usual: Usual) -> list[float]:
    """When a task was asked for that ends after so many seconds, if each answer takes so long."""
    clock = _Clock()
    monkeypatch.setattr(polling, "time", clock)
    monkeypatch.setattr(polling, "jittered", lambda seconds: seconds)
    monkeypatch.setattr(polling, "_SECOND", 1.0)
    begun = clock.now
    asked: list[float] = []

    def query() -> list[SubTask]:
        asked.append(clock.now - begun)
        clock.now += takes
        return [SubTask("sub-1", started=True, image="u" if asked[-1] >= ends else "")]

    task = TaskRef("HiDream", "upscale", "task-1", sub_task_ids=("sub-1",))
    polling.poll_until_done(task, query, Deadlines(), CallHandle(clock, lambda _: None), usual)
    return asked


def test_the_first_poll_is_for_the_quickest_of_such_tasks_without_their_wait_for_a_poll(
    monkeypatch: MonkeyPatch,
) -> None:
    asked = _asked(monkeypatch, takes=0.0, ends=12.0, usual=Usual(4.25, 10.25))
    assert asked[0] == pytest.approx(0.85 * 4.0)
    # Once a second until most are likely to end, and then closely.
    assert asked[1:6] == pytest.approx([4.4, 5.4, 6.4, 7.4, 8.4])
    assert asked[6:] == pytest.approx([8.9 + 0.5 * number for number in range(len(asked) - 6)])
    assert asked[-1] - 12.0 < 0.5


@pytest.mark.parametrize("takes", [0.0, 0.04, 0.2, 0.5])
def test_two_polls_a_second_wherever_each_is_on_its_way(takes: float, monkeypatch: MonkeyPatch) -> None:
    """A poll arrives somewhere between its start and its answer."""
    asked = _asked(monkeypatch, takes=takes, ends=7.0, usual=Usual(6.0, 6.0))
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses and all(0.5 - 1e-9 <= pause <= 0.5 + takes + 1e-9 for pause in pauses)
    assert sum(pauses[:2]) == pytest.approx(1.0 + takes)
    assert all(third - (first + takes) >= 1.0 - 1e-9 for first, third in zip(asked, asked[2:], strict=False))


@given(
    takes=st.lists(st.floats(0, 0.9), min_size=20, max_size=20),
    arrives=st.lists(st.floats(0, 1), min_size=20, max_size=20),
    spread=st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20),
)
def test_never_three_polls_within_a_second_of_the_service(
    takes: list[float], arrives: list[float], spread: list[float]
) -> None:
    clock, spreads = _Clock(), iter(itertools.cycle(spread))
    arrived: list[float] = []

    def query() -> list[SubTask]:
        number = len(arrived)
        arrived.append(clock.now + arrives[number] * takes[number])
        clock.now += takes[number]
        return [SubTask("sub-1", started=True, image="u" if number == 19 else "")]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(polling, "time", clock)
        patched.setattr(polling, "jittered", lambda seconds: jittered(seconds, lambda: next(spreads)))
        patched.setattr(polling, "_SECOND", 1.0)
        task = TaskRef("HiDream", "upscale", "task-1", sub_task_ids=("sub-1",))
        polling.poll_until_done(task, query, Deadlines(), CallHandle(clock, lambda _: None), Usual(1.0, 30.0))
    assert len(arrived) == 20
    assert all(third - first >= 1.0 - 1e-9 for first, third in zip(arrived, arrived[2:], strict=False))


def test_an_answer_that_takes_longer_than_the_pause_is_followed_by_the_next_poll(monkeypatch: MonkeyPatch) -> None:
    asked = _asked(monkeypatch, takes=1.5, ends=6.0, usual=Usual(5.0, 5.0))
    assert asked[-1] - asked[0] == pytest.approx(1.5 * (len(asked) - 1))


@given(seconds=st.floats(0, 600), share=st.floats(0, 1, exclude_max=True))
def test_jittered_stays_within_a_tenth(seconds: float, share: float) -> None:
    spread = jittered(seconds, lambda: share)
    assert 0.9 * seconds <= spread <= 1.1 * seconds * (1 + 1e-12)
    assert jittered(seconds, lambda: 0.5) == pytest.approx(seconds)
