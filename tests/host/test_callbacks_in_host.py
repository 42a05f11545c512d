"""A real ComfyUI that the emulator calls back, after its answer was lost; killed in between, too."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from devtools.host import ComfyUI, port_or_free
from emulator import Emulator
from tests.contract.calling_back import Caller, raw
from tests.host.buying import REUSED, Bought, buys, explained, sends_nothing, tasks, until_states
from tests.host.leaks import check_no_key
from tests.host.prompts import failed


@pytest.fixture
def caller(emulator: Emulator) -> Iterator[Caller]:
    emulator.clear()
    caller = Caller()
    caller.may_call.clear()
    emulator.call_back_with(caller)
    yield caller
    caller.may_call.set()
    emulator.call_back_with(None)
    emulator.clear()


@pytest.fixture
def port() -> int:
    return port_or_free()


@pytest.fixture
def called(make_comfyui: Callable[..., ComfyUI], port: int) -> ComfyUI:
    return make_comfyui(
        "--verbose",
        "DEBUG",
        REMOTE_IMAGE_CALLBACK_URL=f"http://127.0.0.1:{port}",
        REMOTE_IMAGE_CALLBACK_LISTEN=f"127.0.0.1:{port}",
    )


def listens(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def test_a_lost_answer_is_settled_by_the_callback(
    called: ComfyUI, emulator: Emulator, caller: Caller, port: int
) -> None:
    assert not listens(port), "nothing listens before the first paid call"
    workflow = Bought(called)
    with buys(emulator, 1):
        emulator.add_fault({"phase": "submit", "do": {"reset": "after"}})
        failed(called, workflow.graph.prompt, "AmbiguousSubmitError")
        assert "may have been accepted" in explained(called, workflow)[0]
        assert raw(port, b"POST /rv-0000000000000000/x HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 404 ")
        # The process that sent it is gone, and its successor listens once it has looked at its journal.
        called.kill()
        called.start()
        assert [task["state"] for task in tasks(called)] == ["ambiguous"]
        assert listens(port)
        caller.may_call.set()
        caller.heard()
        until_states(called, "stored")
        with sends_nothing(emulator):
            assert len(workflow.run()) == 1
    assert workflow.says(REUSED)
    assert emulator.billed == 1
    [url] = caller.urls
    check_no_key(called, workflow.result, url.rsplit("/", 1)[1])
    called.stop()
    assert not listens(port)
