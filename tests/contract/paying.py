"""Paid calls against an emulator that counts what it accepts: the tests of the journal buy with these.

A ``Shop`` is an emulator, a journal beside it and the settings of the server's owner; what it buys goes the way of a
node: one batch, one thread per call. Nothing here waits longer than ``PATIENCE``.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hidream_volcengine.api import (
    Batch,
    BatchOutcome,
    CallCancelled,
    CallHandle,
    CancelToken,
    Deadlines,
    Delivery,
    Journal,
    JournalSettings,
    PaidCall,
    Profiles,
    Progress,
    RemoteImageError,
    Result,
    Run,
    Sandbox,
    tensors,
)
from hidream_volcengine.api.catalog import HiDreamEndpoint, HiDreamRequest, checked
from hidream_volcengine.api.catalog.endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_upscale,
    volcengine_outpaint,
)
from hidream_volcengine.api.purchase.words import Counts
from hidream_volcengine.api.services import HiDreamService, VolcengineService
from hidream_volcengine.api.transport.account import HiDreamAccount, VolcengineAccount

from emulator import Credentials, Emulator, Recorded
from tests.contract.raw_servers import Connection, RawServer, photo, until

PATIENCE = 40.0
# Deadlines that no test reaches: a call that ends before them ends because of the test.
PATIENT = Deadlines(
    connect=10, upload_stall=10, hidream_answer=30, cvprocess_answer=30, poll=10, queue=60, run=60, download=20
)
SHORT = replace(PATIENT, queue=0.4, run=0.4)
RUNNING = {"json": {"code": 10000, "data": {"status": "generating"}}}
# The word canary is in no text of the pack or of a service: where it is found, a key has leaked.
KEYS = Credentials(
    hidream_token="canary-hidream-token-2b7e",
    hidream_api_key="canary-hidream-api-key-9c1d",
    gateway_api_key="canary-gateway-key-41aa",
    access_key_id="AKLTcanary08d3",
    secret_access_key="canary-secret-key-77fe",
)
UNLIMITED = {
    "REMOTE_IMAGE_HIDREAM_AT_ONCE": "0",
    "REMOTE_IMAGE_HIDREAM_OUTPAINT_PER_MINUTE": "0",
    "REMOTE_IMAGE_HIDREAM_IMG2IMG_PER_MINUTE": "0",
    "REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "0",
}
# Small pictures of 3:4, which every service accepts.
A, B, C, D = (photo(96, 128, seed) for seed in range(4))


def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every back-off and every pause between polls fifty times shorter, in all modules of the pack."""
    for name, module in list(sys.modules.items()):
        if name.startswith("hidream_volcengine.api.") and hasattr(module, "jittered"):
            monkeypatch.setattr(module, "jittered", lambda seconds, *_: seconds / 50)
        if name == "hidream_volcengine.api.purchase.poll":
            monkeypatch.setattr(module, "_SECOND", 1 / 50)


# ---- calls


def encoded(pixels: tensors.Pixels) -> str:
    return tensors.to_base64(tensors.encode(pixels))


def _hidream(
    account: HiDreamAccount,
    endpoint: HiDreamEndpoint,
    request: HiDreamRequest,
    pixels: tensors.Pixels,
    take: int,
    pictures: int = 1,
) -> PaidCall:
    service = HiDreamService(account, endpoint)
    return PaidCall(service, request, lambda: {"image": encoded(pixels)}, 1024 * 1024, take, pictures)


def upscale(account: HiDreamAccount, pixels: tensors.Pixels, take: int = 0, ratio: int = 2) -> PaidCall:
    request = checked(hidream_upscale.Request, image=tensors.fingerprint(pixels), upsale_ratio=ratio)
    return _hidream(account, hidream_upscale.ENDPOINT, request, pixels, take)


def outpaint(account: HiDreamAccount, pixels: tensors.Pixels, take: int = 0) -> PaidCall:
    printed = tensors.fingerprint(pixels)
    request = checked(hidream_outpaint.Request, image=printed, x_offset=10, y_offset=20, resolution="160*192")
    return _hidream(account, hidream_outpaint.ENDPOINT, request, pixels, take)


def img2img(
    account: HiDreamAccount, pixels: tensors.Pixels, take: int = 0, *, count: int = 1, prompt: str = "a storm"
) -> PaidCall:
    printed = tensors.fingerprint(pixels)
    request = checked(hidream_image_to_image.Request, image=printed, prompt=prompt, img_count=count)
    return _hidream(account, hidream_image_to_image.ENDPOINT, request, pixels, take, count)


def photo_set(account: HiDreamAccount, pixels: tensors.Pixels, take: int = 0) -> PaidCall:
    """Four pictures at the emulator; how many is not known before."""
    request = checked(hidream_model_photo_set.Request, image=tensors.fingerprint(pixels), template_id=20)
    return _hidream(account, hidream_model_photo_set.ENDPOINT, request, pixels, take)


def cvprocess(account: VolcengineAccount, pixels: tensors.Pixels, take: int = 0, *, seed: int = 7) -> PaidCall:
    printed = tensors.fingerprint(pixels)
    request = checked(volcengine_outpaint.Request, binary_data_base64=[printed], top=0.5, left=0.25, seed=seed)
    values = {"binary_data_base64": [encoded(pixels)]}
    service = VolcengineService(account, volcengine_outpaint.ENDPOINT)
    return PaidCall(service, request, lambda: values, 1024 * 1024, take)


# ---- buying


class Buying:
    """The calls of one node under way, each in a thread of its own. The constructor raises what Batch raises."""

    def __init__(self, journal: Journal, calls: Sequence[PaidCall], run: Run | None = None) -> None:
        self.batch = Batch(journal, calls, (run or Run()).node().item())
        self.cancels = [CancelToken() for _ in calls]
        self.progress: list[list[Progress]] = [[] for _ in calls]
        self._results: list[Result | BaseException | None] = [None for _ in calls]
        self._threads = [
            threading.Thread(target=self._one, args=(index,), daemon=True, name="call") for index in range(len(calls))
        ]
        for thread in self._threads:
            thread.start()

    def _one(self, index: int) -> None:
        try:
            watch = CallHandle(self.cancels[index], self.progress[index].append)
            self._results[index] = self.batch.run(index, watch)
        except BaseException as problem:
            self._results[index] = problem

    def stages(self, index: int = 0) -> list[str]:
        return [progress.stage for progress in self.progress[index]]

    def reaches(self, *stages: str) -> None:
        """Wait until the first call has reported one of these stages."""
        until(lambda: not self.alive or set(stages) & set(self.stages()), PATIENCE)
        assert set(stages) & set(self.stages()), self._results

    @property
    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def interrupt(self) -> None:
        for cancel in self.cancels:
            cancel.cancel()

    def wait(self, seconds: float = PATIENCE) -> list[Result]:
        """Wait for all calls; return their results, marked as delivered. Raises the first exception of a call."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            assert not thread.is_alive(), "a call did not end in time"
        for result in self._results:
            if isinstance(result, BaseException):
                raise result
        results = [result for result in self._results if isinstance(result, Result)]
        self.batch.end(results, delivered=True)
        return results

    @property
    def sources(self) -> Counts:
        return BatchOutcome([result for result in self._results if isinstance(result, Result)]).counts()


def buy(journal: Journal, calls: Sequence[PaidCall], run: Run | None = None) -> list[Result]:
    return Buying(journal, calls, run).wait()


def trouble(journal: Journal, calls: Sequence[PaidCall], run: Run | None = None) -> RemoteImageError:
    """Buy, and return the first error, raised or in a result; fails if any picture came."""
    try:
        results = buy(journal, calls, run)
    except RemoteImageError as error:
        return error
    assert pictures(results) == [], "something came"
    errors = [error for result in results for error in errors_of(result)]
    assert errors, "neither a picture nor an error"
    return errors[0]


def errors_of(result: Result) -> tuple[RemoteImageError, ...]:
    if result.error is not None:
        return (result.error,)
    return result.delivery.errors if result.delivery else ()


def pictures(results: Sequence[Result]) -> list[tensors.Pixels]:
    """Return the pictures of all results, in order."""
    return [pixels for result in results if result.delivery for pixels in result.delivery.pictures]


def equal(first: Sequence[tensors.Pixels], second: Sequence[tensors.Pixels]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def idle_watch() -> CallHandle:
    return CallHandle(CancelToken(), lambda progress: None)


# ---- the shop


class Clock:
    """A clock for the journal that stands still until the test sets ``now``."""

    def __init__(self, now: float = 1_780_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Shop:
    """An emulator, a journal and the environment of the server's owner; ``settings`` are variables of it."""

    def __init__(
        self,
        folder: Path,
        *,
        latency: float = 0.0,
        clock: Callable[[], float] = time.time,
        profile: str = "default",
        **settings: str,
    ) -> None:
        self.folder = folder
        self.emulator = Emulator(latency=latency, credentials=KEYS)
        self.clock = clock
        self.profile = profile
        self.deadlines = PATIENT
        self.settings = settings
        self.host = ""
        self._journals: list[Journal] = []

    def __enter__(self) -> Shop:
        self.emulator.start()
        self.journal = self.open()
        return self

    def __exit__(self, *_: object) -> None:
        for journal in self._journals:
            journal.close()
        self.emulator.stop()

    def open(self) -> Journal:
        """Return one more journal object on the same directory, as another process would open it."""
        self._journals.append(Journal(JournalSettings(self.folder), clock=self.clock))
        return self._journals[-1]

    def restart(self) -> None:
        """Close the journal and open it again, as an orderly restart of ComfyUI does."""
        self.journal.close()
        self.journal = self.open()

    # accounts

    @property
    def environment(self) -> dict[str, str]:
        host = self.host or self.emulator.url
        return {
            "HIDREAM_BASE_URL": host,
            "HIDREAM_EC_BASE_URL": host,
            "HIDREAM_TOKEN": KEYS.hidream_token,
            "VOLCENGINE_GATEWAY_BASE_URL": host,
            "VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key,
            # 0: no limit of polls.
            "REMOTE_IMAGE_POLLS_PER_SECOND": "0",
            **self.settings,
        }

    @property
    def profiles(self) -> Profiles:
        sandbox = Sandbox(self.emulator.url, KEYS.hidream_token, KEYS.gateway_api_key)
        return Profiles(self.environment, lambda: sandbox)

    @property
    def hidream(self) -> HiDreamAccount:
        return replace(self.profiles.hidream(self.profile), deadlines=self.deadlines)

    @property
    def volcengine(self) -> VolcengineAccount:
        return replace(self.profiles.volcengine(self.profile), deadlines=self.deadlines)

    # what the services do

    def fault(self, phase: str, times: int | None = 1, **do: Any) -> None:
        self.emulator.add_fault({"phase": phase, "times": times, "do": do})

    def hold(self, status: int = 2) -> None:
        """Let every poll answer that the task is queued (0) or running (2), until :meth:`mend`."""
        self.fault("result", None, task_status=[status])

    def mend(self) -> None:
        """Remove all faults; tasks and records stay."""
        self.emulator._faults.clear()

    @contextmanager
    def answers_held(self) -> Iterator[threading.Event]:
        """Within the block the answers to submits are held back until the yielded event is set."""
        may_answer = threading.Event()
        with RawServer(_relaying(self.emulator.url, may_answer)) as gate:
            self.host = gate.url
            try:
                yield may_answer
            finally:
                may_answer.set()
                self.host = ""

    # buying

    def buy(self, *calls: PaidCall, run: Run | None = None) -> list[Result]:
        return buy(self.journal, calls, run)

    def buying(self, *calls: PaidCall, run: Run | None = None) -> Buying:
        return Buying(self.journal, calls, run)

    def trouble(self, *calls: PaidCall, run: Run | None = None) -> RemoteImageError:
        return trouble(self.journal, calls, run)

    # what came of it

    @property
    def submits(self) -> list[Recorded]:
        return [record for record in self.emulator.requests if record.phase == "submit"]

    @property
    def accepted(self) -> int:
        return sum(record.accepted for record in self.submits)

    @contextmanager
    def buys(self, number: int) -> Iterator[None]:
        """Check that exactly so many submits are accepted within the block."""
        before = self.accepted
        yield
        assert self.accepted - before == number

    @contextmanager
    def sends_nothing(self) -> Iterator[None]:
        """Check that no request reaches a service within the block, not even a poll."""
        before = len(self.emulator.requests)
        yield
        assert [(record.endpoint, record.phase) for record in self.emulator.requests[before:]] == []

    @property
    def states(self) -> list[str]:
        """The states of all attempts, newest first."""
        return [task.state for task in self.journal.task_list.tasks()]

    def stored_pictures(self) -> list[Path]:
        """Files of the store that are pictures (or were)."""
        return sorted(path for path in (self.folder / "store").rglob("*.png") if path.is_file())


ANY_CALL: dict[str, Callable[..., PaidCall]] = {
    "outpaint": lambda shop, *rest: outpaint(shop.hidream, *rest),
    "img2img": lambda shop, *rest: img2img(shop.hidream, *rest),
    "upscale": lambda shop, *rest: upscale(shop.hidream, *rest),
    "variation": lambda shop, *rest: photo_set(shop.hidream, *rest),
    "cvprocess": lambda shop, *rest: cvprocess(shop.volcengine, *rest),
}
"""A call of each service: ``ANY_CALL[name](shop, pixels, take)``."""
every_service = pytest.mark.parametrize("service", list(ANY_CALL))
both_providers = pytest.mark.parametrize("service", ["upscale", "cvprocess"])


def _relaying(url: str, may_answer: threading.Event) -> Callable[[Connection], None]:
    port = urlsplit(url).port or 0

    def step(connection: Connection) -> None:
        connection.read()
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", connection.head) + b"\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as upstream:
            upstream.sendall(head + connection.body)
            answer = b"".join(iter(lambda: upstream.recv(65536), b""))
        if connection.request_line.startswith("POST"):
            may_answer.wait(PATIENCE)
        connection.send(answer)

    return step


def delivery_of(results: Sequence[Result]) -> Delivery:
    """Return the delivery of the only call; fails with its error."""
    [result] = results
    assert result.delivery is not None, result.error
    return result.delivery


def park(shop: Shop, service: str) -> None:
    """Buy A, and interrupt the call after its first poll, so that the attempt is parked."""
    if service == "cvsync2async":
        shop.settings["VOLCENGINE_RESUMABLE"] = "1"
        shop.fault("result", None, **RUNNING)
        call = cvprocess(shop.volcengine, A)
    else:
        shop.hold()
        call = ANY_CALL[service](shop, A)
    with shop.buys(1):
        before = len(shop.emulator.requests)
        buying = shop.buying(call)
        until(lambda: [one for one in shop.emulator.requests[before:] if one.phase == "result"], PATIENCE)
        buying.interrupt()
        with pytest.raises(CallCancelled):
            buying.wait()
    until(lambda: shop.states[0] == "parked" and not shop.journal._claims.ids(), PATIENCE)
