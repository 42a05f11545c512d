"""The same request again: from the store, joined, resumed or explained; bought anew only when the user said so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    AuthenticationError,
    Batch,
    CallCancelled,
    InvalidInputError,
    ModerationError,
    Plan,
    RemoteImageError,
    Run,
    ServiceError,
    TaskFailedError,
    Text,
)
from hidream_volcengine.api.purchase.words import Counts
from pytest import LogCaptureFixture, MonkeyPatch

from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    KEYS,
    PATIENT,
    A,
    B,
    C,
    Shop,
    both_providers,
    cvprocess,
    equal,
    errors_of,
    every_service,
    img2img,
    park,
    photo_set,
    pictures,
    upscale,
)
from tests.thinned import thinned


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


# ---- finished before


@every_service
@thinned("meanwhile", ["another process", "the service forgot", "nothing", "a restart"], kept=(0, 1))
def test_what_was_bought_comes_from_the_store(shop: Shop, service: str, meanwhile: str) -> None:
    with shop.buys(1):
        first = pictures(shop.buy(ANY_CALL[service](shop, A)))
    if meanwhile == "another process":
        shop.journal = shop.open()
    elif meanwhile == "a restart":
        shop.restart()
    elif meanwhile == "the service forgot":
        shop.emulator.clear()

    def not_needed() -> Any:
        raise AssertionError("an image was encoded although nothing is bought")

    with shop.sends_nothing():
        buying = shop.buying(replace(ANY_CALL[service](shop, A), encode=not_needed))
        assert buying.batch.plan == Plan(buy=0, reuse=1, resume=0)
        assert equal(pictures(buying.wait()), first)
    assert buying.sources == Counts(bought=0, resumed=0, reused=len(first))
    assert shop.states == ["delivered"]


def test_a_purchase_is_not_called_reused(shop: Shop) -> None:
    buying = shop.buying(upscale(shop.hidream, A))
    assert buying.batch.plan == Plan(buy=1, reuse=0, resume=0)
    buying.wait()
    assert buying.sources == Counts(bought=1, resumed=0, reused=0)


def test_only_the_new_part_of_a_batch_is_bought_in_whatever_order(shop: Shop) -> None:
    a, b = (upscale(shop.hidream, pixels) for pixels in (A, B))
    first = pictures(shop.buy(a, b))
    with shop.buys(1):
        buying = shop.buying(upscale(shop.hidream, C), b, a)
        assert buying.batch.plan == Plan(buy=1, reuse=2, resume=0)
        again = pictures(buying.wait())
    assert equal(again[1:], [first[1], first[0]])
    shop.restart()
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(a, upscale(shop.hidream, C))), [first[0], again[0]])


def test_the_rest_of_a_batch_that_broke_off_is_all_that_is_bought(shop: Shop) -> None:
    account = replace(shop.hidream, limits=replace(shop.hidream.limits, at_once=1))
    batch = [upscale(account, pixels) for pixels in (A, B, C)]
    shop.emulator.add_fault({"phase": "submit", "skip": 1, "do": {"status": 400}})
    with shop.buys(1):
        results = shop.buy(*batch)
    assert [result.error for result in results if result.error] and len(pictures(results)) == 1
    with shop.buys(2):
        assert len(pictures(shop.buy(*batch))) == 3


def test_equal_images_of_one_batch_are_told_apart_by_their_occurrence(shop: Shop) -> None:
    same = img2img(shop.hidream, A)
    with shop.buys(2):
        first = pictures(shop.buy(same, same))
    assert not equal(first[:1], first[1:]), "the emulator gives other pictures for an equal request"
    other = img2img(shop.hidream, B)
    with shop.buys(1):
        again = pictures(shop.buy(other, same, same))
    assert equal(again[1:], first)
    with shop.buys(1):
        assert equal(pictures(shop.buy(same, same, same))[:2], first)
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(same, other)), [first[0], again[0]])


def test_what_may_not_be_bought_is_still_reused(shop: Shop) -> None:
    """A node refuses inputs that an earlier version bought with: only where something would be submitted."""
    of_before = img2img(shop.hidream, A, prompt="")
    bought = pictures(shop.buy(of_before))
    problem = InvalidInputError(Text("`prompt` is empty.", "`prompt` 为空。"))
    same, new = replace(of_before, problem=problem), replace(img2img(shop.hidream, B, prompt=""), problem=problem)
    assert equal(pictures(shop.buy(same)), bought)
    for calls in ([new], [same, new]):
        with pytest.raises(InvalidInputError, match="`prompt` is empty"):
            shop.buy(*calls)
    assert len(shop.emulator.accepted) == 1
    assert len(shop.journal.task_list.overview(10).tasks) == 1, "nothing was written down"


@every_service
def test_another_take_is_another_picture(shop: Shop, service: str) -> None:
    first = pictures(shop.buy(ANY_CALL[service](shop, A)))
    with shop.buys(1):
        shop.buy(ANY_CALL[service](shop, A, 1))
    with shop.sends_nothing():
        shop.buy(ANY_CALL[service](shop, A, 1))
        assert equal(pictures(shop.buy(ANY_CALL[service](shop, A))), first)


@thinned("restarted", [True, False])
def test_several_pictures_of_a_task_keep_their_order(shop: Shop, restarted: bool) -> None:
    with shop.buys(2):
        first = pictures(shop.buy(img2img(shop.hidream, A, count=3), photo_set(shop.hidream, A)))
    assert len(first) == 7
    if restarted:
        shop.restart()
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(img2img(shop.hidream, A, count=3), photo_set(shop.hidream, A))), first)
    tasks = shop.journal.task_list.tasks()
    assert [len(tasks), sorted(task.stored for task in tasks)] == [2, [3, 4]]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_task_of_which_half_failed_brings_the_same_half_and_the_same_error(shop: Shop, restarted: bool) -> None:
    shop.fault("submit", task_status=[1, 3, 4])
    [first] = shop.buy(img2img(shop.hidream, A, count=3))
    assert [type(error) for error in errors_of(first)] == [TaskFailedError, ModerationError]
    if restarted:
        shop.restart()
    with shop.sends_nothing():
        [again] = shop.buy(img2img(shop.hidream, A, count=3))
    assert len(pictures([first])) == 1 and equal(pictures([again]), pictures([first]))
    assert [(type(error), error.code) for error in errors_of(again)] == [
        (type(error), error.code) for error in errors_of(first)
    ]


# ---- ambiguous and failed: explained


def assert_frees_one(shop: Shop, error: RemoteImageError) -> None:
    """`take` buys the whole batch: the error names the way to buy this one alone, and what it is called there."""
    journal_id = shop.journal.task_list.tasks()[0].journal_id
    text = error.text()
    assert journal_id in text.en and "Submit again" in text.en
    assert journal_id in text.zh and "重新提交" in text.zh


def assert_explained(shop: Shop, again: RemoteImageError, first: RemoteImageError) -> None:
    assert (type(again), again.code, again.billed) == (type(first), first.code, "unknown")
    assert (again.request_id, again.task_id) == (first.request_id, first.task_id)
    text = again.text()
    assert re.search("(?i)nothing was sent now", text.en), text.en
    for words in (text.en, text.zh):
        assert re.search(r"\d\d:\d\d", words), "the time of the attempt is missing"
        assert "take" in words and again.request_id in words and again.task_id in words
    assert_frees_one(shop, again)
    assert_frees_one(shop, first)
    assert not re.search("to buy it anyway, queue again", text.en), "queueing again does not buy"


UNDECIDED: list[tuple[str, dict[str, Any]]] = [
    (service, fault)
    for service in ("upscale", "cvprocess")
    for fault in (
        {"reset": "after"},
        {"status": 500, "accept": True},
        {"status": 502, "html": True, "accept": True},
        {"html": True, "accept": True},
        {"json": {"code": 0 if service == "upscale" else 10000}, "accept": True},
        {"cut": 0.5},
        {"hang": 30},
    )
]


@pytest.mark.parametrize(("service", "fault"), UNDECIDED, ids=str)
def test_an_ambiguous_submit_is_explained_and_never_sent_again(shop: Shop, service: str, fault: dict[str, Any]) -> None:
    shop.fault("submit", **fault)
    if "hang" in fault:
        shop.deadlines = replace(PATIENT, hidream_answer=1, cvprocess_answer=1)
    with shop.buys(1):
        first = shop.trouble(ANY_CALL[service](shop, A))
    assert type(first) is AmbiguousSubmitError
    [moment] = re.findall(r"time=(\S+ \d\d:\d\d:\d\d)\]", first.text().en)
    assert moment in first.text().zh
    assert moment in shop.trouble(ANY_CALL[service](shop, A)).text().en, "the same time, told again"
    shop.deadlines = PATIENT
    if service == "upscale":
        assert first.request_id == shop.submits[0].request_id != ""
    for _ in range(2):
        with shop.sends_nothing():
            assert_explained(shop, shop.trouble(ANY_CALL[service](shop, A)), first)
        shop.restart()
    assert shop.states == ["ambiguous"]
    with shop.buys(1):
        assert pictures(shop.buy(ANY_CALL[service](shop, A, 1)))


@both_providers
@pytest.mark.parametrize("outcome", ["ambiguous", "failed"])
def test_submit_again_buys_anew_exactly_once(shop: Shop, service: str, outcome: str) -> None:
    failing = {"task_status": [3]} if service == "upscale" else {"algorithm": 1}
    shop.fault("submit", **({"reset": "after"} if outcome == "ambiguous" else failing))
    shop.trouble(ANY_CALL[service](shop, A))
    [task] = shop.journal.task_list.tasks()
    assert (task.state, task.pictures, task.stored) == (outcome, 1, 0)
    assert shop.journal.submit_again(task.journal_id)
    shop.journal.submit_again(task.journal_id)
    shop.restart()
    with shop.buys(1):
        bought = pictures(shop.buy(ANY_CALL[service](shop, A)))
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(ANY_CALL[service](shop, A))), bought)
        # From a task list that was not refreshed: the debt it was about is settled.
        assert not shop.journal.submit_again(task.journal_id)
        assert equal(pictures(shop.buy(ANY_CALL[service](shop, A))), bought)
    requests = [record.request_id for record in shop.submits]
    assert service == "cvprocess" or len(set(requests)) == 2


def test_submit_again_that_is_ambiguous_again_is_explained_again(shop: Shop) -> None:
    shop.fault("submit", 2, reset="after")
    shop.trouble(upscale(shop.hidream, A))
    assert shop.journal.submit_again(shop.journal.task_list.tasks()[0].journal_id)
    with shop.buys(1):
        second = shop.trouble(upscale(shop.hidream, A))
    with shop.sends_nothing():
        assert_explained(shop, shop.trouble(upscale(shop.hidream, A)), second)
    assert not shop.journal.submit_again("rv-0123456789abcdef")


@pytest.mark.parametrize("state", ["delivered", "refused", "parked"])
def test_only_what_is_explained_can_be_submitted_again(shop: Shop, state: str) -> None:
    if state == "refused":
        shop.fault("submit", status=400)
        shop.trouble(upscale(shop.hidream, A))
    elif state == "parked":
        park(shop, "upscale")
    else:
        shop.buy(upscale(shop.hidream, A))
    [task] = shop.journal.task_list.tasks()
    assert task.state == state
    assert not shop.journal.submit_again(task.journal_id)


FAILURES: list[tuple[str, dict[str, Any], type[RemoteImageError]]] = [
    ("upscale", {"task_status": [3]}, TaskFailedError),
    ("upscale", {"task_status": [4]}, ModerationError),
    ("upscale", {"task_status": [1004]}, TaskFailedError),
    ("variation", {"task_status": [3, 4]}, TaskFailedError),
    ("cvprocess", {"vendor_code": 50511}, ModerationError),
    ("cvprocess", {"algorithm": 1}, TaskFailedError),
]


@pytest.mark.parametrize(("service", "fault", "kind"), FAILURES, ids=str)
def test_a_failed_task_is_not_bought_again(
    shop: Shop, service: str, fault: dict[str, Any], kind: type[RemoteImageError]
) -> None:
    shop.fault("submit", **fault)
    with shop.buys(1):
        first = shop.trouble(ANY_CALL[service](shop, A))
    assert type(first) is kind
    for _ in range(2):
        with shop.sends_nothing():
            assert_explained(shop, shop.trouble(ANY_CALL[service](shop, A)), first)
        shop.restart()
    assert shop.states == ["failed"]
    with shop.buys(1):
        shop.buy(ANY_CALL[service](shop, A, 1))


# ---- refused and busy: free


REFUSALS: list[tuple[str, dict[str, Any], type[RemoteImageError]]] = [
    ("upscale", {"status": 401}, AuthenticationError),
    ("upscale", {"json": {"code": 1001, "message": "no"}}, ServiceError),
    ("cvprocess", {"status": 401}, AuthenticationError),
    ("cvprocess", {"vendor_code": 50411}, ModerationError),
]


@pytest.mark.parametrize(("service", "fault", "kind"), REFUSALS, ids=str)
def test_a_refused_request_is_submitted_again_when_queued_again(
    shop: Shop, service: str, fault: dict[str, Any], kind: type[RemoteImageError]
) -> None:
    shop.fault("submit", **fault)
    with shop.buys(0):
        error = shop.trouble(ANY_CALL[service](shop, A))
    assert (type(error), error.billed, shop.states) == (kind, "no", ["refused"])
    with shop.buys(1):
        shop.buy(ANY_CALL[service](shop, A))
    first, second = shop.submits
    assert service == "cvprocess" or first.request_id != second.request_id


BUSY: list[tuple[str, dict[str, Any]]] = [
    ("upscale", {"status": 429, "headers": {"Retry-After": "0"}}),
    ("cvprocess", {"vendor_code": 50429}),
    ("cvprocess", {"vendor_code": 50430}),
]


@pytest.mark.parametrize(("service", "fault"), BUSY, ids=str)
def test_429_is_sent_again_within_the_attempt(shop: Shop, service: str, fault: dict[str, Any]) -> None:
    shop.fault("submit", 2, **fault)
    with shop.buys(1):
        shop.buy(ANY_CALL[service](shop, A))
    assert len(shop.submits) == 3
    assert service == "cvprocess" or len({record.request_id for record in shop.submits}) == 1
    assert shop.states == ["delivered"]


def test_a_renewed_token_is_the_same_attempt_and_the_same_request(shop: Shop) -> None:
    shop.settings.update(HIDREAM_TOKEN="", HIDREAM_API_KEY=KEYS.hidream_api_key)
    shop.buy(upscale(shop.hidream, A))
    shop.emulator.expire_tokens()
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, B))
    refused, accepted = shop.submits[1:]
    assert (refused.status, accepted.status) == (401, 200) and refused.request_id == accepted.request_id
    with shop.sends_nothing():
        shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B))


# ---- the sandbox


def test_the_sandbox_is_one_whatever_its_port_and_makes_again_what_its_emulator_forgot(tmp_path: Path) -> None:
    with Shop(tmp_path, profile="sandbox") as old:
        kept = [pictures(old.buy(ANY_CALL[service](old, A))) for service in ("upscale", "cvprocess")]
        old.hold()
        buying = old.buying(upscale(old.hidream, B))
        buying.reaches("running")
        buying.interrupt()
        with pytest.raises(CallCancelled):
            buying.wait()
    with Shop(tmp_path, profile="sandbox") as new:
        assert new.hidream.sandbox and new.volcengine.sandbox
        with new.sends_nothing():
            assert equal(pictures(new.buy(upscale(new.hidream, A))), kept[0])
            assert equal(pictures(new.buy(cvprocess(new.volcengine, A))), kept[1])
        with new.buys(1):
            assert pictures(new.buy(upscale(new.hidream, B)))


def test_the_sandbox_and_a_real_account_do_not_share_pictures(shop: Shop) -> None:
    shop.profile = "sandbox"
    shop.buy(upscale(shop.hidream, A))
    shop.profile = "default"
    with shop.buys(1):
        shop.buy(upscale(shop.hidream, A))


# ---- secrets


# The emulator's first one-day token.
EXCHANGED = "sandbox-hidream-token-1"
NOTIFY_SECRETS = ("canary-notify-path-5d7a", "canary-notify-query-31f0")
NOTIFY_URL = "https://owner.example.com/{}/done?key={}".format(*NOTIFY_SECRETS)


def test_no_key_is_in_a_byte_that_is_kept_or_said(shop: Shop, caplog: LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    said: list[str] = []
    shop.settings["REMOTE_IMAGE_NOTIFY_URL"] = NOTIFY_URL
    for key in (KEYS.hidream_token, EXCHANGED):
        if key is EXCHANGED:
            shop.settings.update(HIDREAM_TOKEN="", HIDREAM_API_KEY=KEYS.hidream_api_key)
        calls = [upscale(shop.hidream, A), cvprocess(shop.volcengine, A)]
        shop.buy(*calls)
        said += [repr(calls), *(str(shop.trouble(call)) for call in failing_calls(shop, key))]
        with shop.sends_nothing():
            said.append(str(shop.trouble(upscale(shop.hidream, B, 1))))
        said += [repr(task) for task in shop.journal.task_list.tasks()]
    assert [record.phase for record in shop.emulator.requests].count("token") == 1
    kept = [path for path in shop.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} >= {".sqlite3", ".png", ".json"}
    # While it is open, for what has not left the write-ahead log; and closed.
    data = [path.read_bytes() for path in kept]
    shop.journal.close()
    data += [path.read_bytes() for path in shop.folder.rglob("*") if path.is_file()]
    for key in (*vars(KEYS).values(), EXCHANGED, *NOTIFY_SECRETS):
        assert not any(key.encode() in content for content in data)
        assert key not in caplog.text and not any(key in words for words in said)


def failing_calls(shop: Shop, key: str) -> Iterator[paying.PaidCall]:
    """Calls whose answer repeats a key, as those of gateways do."""
    for take, status in enumerate((400, 500)):
        message, request_id = f"bad {key} {NOTIFY_URL}", f"r {key} {' '.join(NOTIFY_SECRETS)}"
        shop.fault("submit", status=status, json={"code": 1001, "message": message, "request_id": request_id})
        yield upscale(shop.hidream, B, take)
    shop.fault("submit", status=500, json={"code": 50500, "message": KEYS.gateway_api_key})
    yield cvprocess(shop.volcengine, B, len(shop.submits))


# ---- a part of it


def test_a_picture_that_failed_before_keeps_the_rest_back_also_if_its_files_came_back(shop: Shop) -> None:
    """The attempt was reopened because files were missing; when it is claimed, they are there again."""
    shop.fault("result", None, task_status=[1, 4])
    half, other = img2img(shop.hidream, A, count=2), upscale(shop.hidream, B)
    shop.buy(half)
    shop.mend()
    attempt = shop.journal.finished(half.order("", 0).key)
    assert attempt is not None
    shop.journal.reopen(attempt)
    batch = Batch(shop.journal, [half, other], Run().node().item())
    with shop.buys(0):
        first, second = (batch.run(index, paying.idle_watch()) for index in range(2))
    assert first.delivery is not None and (first.delivery.source, len(first.delivery.errors)) == ("reused", 1)
    assert (second.delivery, second.error) == (None, None)
