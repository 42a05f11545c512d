"""Pictures of calls that wait: made when they go up, gone when they are up, and opened a few at a time."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from hidream_volcengine.api import Batch, CallCancelled, CallHandle, CancelToken, PaidCall, Pictures, Run, tensors
from hidream_volcengine.api.catalog import WireRequest, checked
from hidream_volcengine.api.catalog.endpoints import hidream_upscale
from hidream_volcengine.api.core import threads
from hidream_volcengine.api.purchase import collect
from hidream_volcengine.api.purchase import pictures as pictures_module
from hidream_volcengine.api.services import HiDreamService

from tests.contract import paying
from tests.contract.paying import (
    ANY_CALL,
    A,
    B,
    C,
    Shop,
    both_providers,
    encoded,
    equal,
    errors_of,
    img2img,
    pictures,
    upscale,
)
from tests.contract.raw_servers import photo


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: pytest.MonkeyPatch) -> None:
    paying.brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path, **paying.UNLIMITED) as running:
        yield running


def test_an_image_changed_before_it_goes_up_is_not_bought(shop: Shop) -> None:
    """Under its key the old picture would be looked for ever after."""
    tensor = torch.from_numpy(A).float().div_(255.0).unsqueeze(0)
    upload = Pictures(tensor).upload(0)
    request = checked(hidream_upscale.Request, image=upload.fingerprint, upsale_ratio=2)
    service = HiDreamService(shop.hidream, hidream_upscale.ENDPOINT)
    call = PaidCall(service, request, lambda: {"image": upload.base64()}, 1024 * 1024)
    tensor.mul_(0.5)
    with shop.sends_nothing():
        [result] = shop.buy(call)
    [error] = errors_of(result)
    assert "changed the image" in error.what.en
    assert error.billed == "no"
    tensor.copy_(torch.from_numpy(A).float().div_(255.0).unsqueeze(0))
    with shop.buys(1):
        bought = pictures(shop.buy(call))
    with shop.sends_nothing():
        assert equal(pictures(shop.buy(upscale(shop.hidream, A))), bought)


class _Text(str):
    """A str that allows weak references, which show when it is freed."""

    __slots__ = ("__weakref__",)


def test_what_went_up_is_not_held_while_its_task_waits(shop: Shop) -> None:
    held: list[weakref.ref[_Text]] = []

    def encode() -> dict[str, str]:
        text = _Text(encoded(A))
        held.append(weakref.ref(text))
        return {"image": text}

    shop.hold()
    buying = shop.buying(replace(upscale(shop.hidream, A), encode=encode))
    paying.until(lambda: any(record.phase == "result" for record in shop.emulator.requests), paying.PATIENCE)
    gc.collect()
    assert [reference() for reference in held] == [None]
    shop.mend()
    assert len(pictures(buying.wait())) == 1


def test_a_few_pictures_at_a_time_are_opened(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    # Two calls must be in there at the same time, or the test shows nothing.
    met = threading.Barrier(2)

    def decode(stream: IO[bytes], max_pixels: int) -> tensors.Pixels:
        nonlocal at_once, most
        with lock:
            at_once, most = at_once + 1, max(most, at_once + 1)
        met.wait(paying.PATIENCE)
        pixels = tensors.decode(stream, max_pixels)
        with lock:
            at_once -= 1
        return pixels

    monkeypatch.setattr(threads, "_large_work", threads.DaemonPool(2))
    for module in (collect, pictures_module):
        monkeypatch.setattr(module, "decode", decode)
    calls = [upscale(shop.hidream, pixels) for pixels in (A, B, C, *(photo(96, 128, seed) for seed in range(10, 15)))]
    bought = pictures(shop.buy(*calls))
    assert (len(bought), most) == (8, 2)
    assert equal(pictures(shop.buy(*calls)), bought)
    assert most == 2


def test_a_call_stopped_before_its_turn_is_not_encoded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, free = threads.DaemonPool(1), threading.Event()
    monkeypatch.setattr(threads, "_large_work", pool)
    pool.start(lambda: free.wait(paying.PATIENCE))
    encodings: list[str] = []

    def encode() -> dict[str, str]:
        encodings.append("encoded")
        return {"image": encoded(A)}

    with shop.sends_nothing():
        buying = shop.buying(replace(upscale(shop.hidream, A), encode=encode))
        buying.reaches("preparing")
        buying.interrupt()
        free.set()
        with pytest.raises(CallCancelled):
            buying.wait()
    assert encodings == []
    with shop.buys(1):
        assert len(pictures(shop.buy(upscale(shop.hidream, A)))) == 1


@both_providers
def test_nor_is_the_body_made_of_what_was_encoded(service: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, free = threads.DaemonPool(1), threading.Event()
    monkeypatch.setattr(threads, "_large_work", pool)
    bodies: list[object] = []
    original = WireRequest.json_bytes

    def json_bytes(request: WireRequest) -> bytes:
        bodies.append(request)
        return original(request)

    monkeypatch.setattr(WireRequest, "json_bytes", json_bytes)
    call = ANY_CALL[service](shop, A)

    def encode() -> Mapping[str, Any]:
        pool.start(lambda: free.wait(paying.PATIENCE))  # whatever comes next has to wait
        return call.encode()

    with shop.sends_nothing():
        buying = shop.buying(replace(call, encode=encode))
        buying.reaches("submitting")
        buying.interrupt()
        free.set()
        with pytest.raises(CallCancelled):
            buying.wait()
    assert bodies == []
    with shop.buys(1):
        shop.buy(call)


def test_a_call_stopped_while_it_reads_the_store_opens_no_further_picture(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = img2img(shop.hidream, A, count=4)
    bought = pictures(shop.buy(call))
    cancel, opened = CancelToken(), 0

    def decode(stream: IO[bytes], max_pixels: int) -> tensors.Pixels:
        nonlocal opened
        opened += 1
        cancel.cancel()
        return tensors.decode(stream, max_pixels)

    with shop.sends_nothing():
        with monkeypatch.context() as patch, pytest.raises(CallCancelled):
            patch.setattr(collect, "decode", decode)
            Batch(shop.journal, [call], Run().node().item()).run(0, CallHandle(cancel, lambda progress: None))
        assert opened == 1
        assert equal(pictures(shop.buy(call)), bought)
