"""Log lines and prints end no paid call: broken consoles, and handlers, filters and patches of other packs."""

from __future__ import annotations

import http.client
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import Batch, DaemonPool, PaidCall, Result, Run, pack_logger
from pytest import MonkeyPatch

from tests.contract.paying import ANY_CALL, PATIENCE, A, Shop, brisk, idle_watch, pictures


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: MonkeyPatch) -> Iterator[Shop]:
    brisk(monkeypatch)
    with Shop(tmp_path) as running:
        yield running


def on_a_thread_of_the_pack(*_: object) -> bool:
    """Whether this is a thread of the pack, not of the test or of the emulator, which stands for another machine."""
    return threading.current_thread().name.startswith("hidream-volcengine")


def failing(*_: Any, **__: Any) -> Any:
    if on_a_thread_of_the_pack():
        raise RuntimeError("another pack's logging is broken")


class FailingHandler(logging.Handler):
    handle = emit = handleError = failing  # noqa: N815 -- the name in logging


def on_a_console(stream: io.TextIOBase | None, monkeypatch: MonkeyPatch) -> None:
    """As ComfyUI has it: its handler writes to the stream that is ``sys.stderr`` as well, and it encodes strictly."""
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    handler.stream = stream  # None = sys.stderr to its constructor
    handler.addFilter(on_a_thread_of_the_pack)
    handler.setFormatter(logging.Formatter("🎨 图 %(message)s"))
    add(handler, monkeypatch)


def add(handler: logging.Handler, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])


def encoding(name: str, monkeypatch: MonkeyPatch) -> None:
    on_a_console(io.TextIOWrapper(io.BytesIO(), encoding=name), monkeypatch)


def closed(monkeypatch: MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    on_a_console(stream, monkeypatch)


def filtered(by: logging.Filterer, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(by, "filters", [failing, *by.filters])


def handler_with_a_filter(monkeypatch: MonkeyPatch) -> None:
    handler = logging.NullHandler()
    handler.addFilter(failing)
    add(handler, monkeypatch)


def patched(name: str, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, name, failing)


def record_factory(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", failing)


def printing(monkeypatch: MonkeyPatch) -> None:
    """As people who look for a fault in requests do it: http.client prints all it sends."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    sys.stdout.close()


BROKEN: dict[str, Callable[[MonkeyPatch], None]] = {
    "a Chinese Windows console": partial(encoding, "cp936"),
    "a Western Windows console": partial(encoding, "cp1252"),
    "a closed console": closed,
    "no console, as with pythonw": partial(on_a_console, None),
    "a handler": lambda monkeypatch: add(FailingHandler(), monkeypatch),
    "a handler's filter": handler_with_a_filter,
    "the logger's filter": lambda monkeypatch: filtered(logging.getLogger(pack_logger().name), monkeypatch),
    "Logger.handle": partial(patched, "handle"),
    "Logger.callHandlers": partial(patched, "callHandlers"),
    "Logger.makeRecord": partial(patched, "makeRecord"),
    "the record factory": record_factory,
    "http.client's printing": printing,
}
# At DEBUG these break the log lines of urllib3 and Pillow before a filter of the pack is called.
ONLY_AT_INFO = ("Logger.handle", "Logger.makeRecord", "the record factory")


@pytest.mark.parametrize("what", BROKEN)
def test_a_paid_picture_is_handed_on_whatever_is_broken(shop: Shop, monkeypatch: MonkeyPatch, what: str) -> None:
    """One submit, and its picture; with every line that is logged at INFO, and at DEBUG those of the libraries, too."""
    root = logging.getLogger()
    pool = DaemonPool(1)
    for take, level in enumerate((logging.INFO, logging.DEBUG)):
        if level == logging.DEBUG and what in ONLY_AT_INFO:
            continue
        for service in ("upscale", "cvprocess"):
            call = ANY_CALL[service](shop, A, take)
            with monkeypatch.context() as patching, at(level, root), shop.buys(1):
                BROKEN[what](patching)
                result = pool.start(partial(buy, shop, call)).result(PATIENCE)
            assert result.error is None and len(pictures([result])) == 1, (level, service)


def buy(shop: Shop, call: PaidCall) -> Result:
    """All that a node does with a call, on the thread that asks.

    Where a handler fails, logging writes this stack to the console: there may be Chinese in a path or a line of it.
    """
    batch = Batch(shop.journal, [call], Run().node().item())  # 图 🎨
    result = batch.run(0, idle_watch())  # 图 🎨
    batch.end([result], delivered=True)
    return result


@contextmanager
def at(level: int, logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
