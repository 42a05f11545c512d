"""`dev.py demo --serve` and Ctrl-C: what it started is gone, whatever it was doing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from devtools.environment import ROOT
from tests.host.prompts import until
from tests.thinned import thinned

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Ctrl-C for another process is POSIX's")

# One example is as good as all of them here.
DEMO = """
import signal, sys, pathlib
from devtools import demo
demo.EXAMPLES = [example for example in demo.EXAMPLES if example.node == "HiDreamAPIUpscale"][:1]
folder = pathlib.Path(sys.argv.pop())
demo._base_directory = lambda options: folder / "comfyui"
demo._out_directory = lambda options: folder
demo.ROOT = folder
{more}
sys.exit(demo.main())
"""
# Python drops an exception that is raised in a destructor, a signal's too.
DROPPED = """
class Dropping:
    def __del__(self):
        print("in a destructor", flush=True)
        signal.pause()

titles = demo._title
def title(*arguments):
    Dropping()
    return titles(*arguments)
demo._title = title
"""


@contextmanager
def serving(folder: Path, said: Path, more: str = "") -> Iterator[subprocess.Popen[bytes]]:
    with said.open("wb") as output:
        command = [sys.executable, "-c", DEMO.format(more=more), "--serve", str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), 5):
            return True
    except OSError:
        return False


@thinned(
    ("moment", "number", "more"),
    [
        ("in a destructor", signal.SIGTERM, DROPPED),
        ("ComfyUI with the pack: ", signal.SIGTERM, ""),
        ("Ctrl-C stops everything", signal.SIGINT, ""),
    ],
    ids=["where the first exception is dropped", "at work", "served"],
    kept=(0,),
)
def test_ctrl_c_ends_all_of_it(tmp_path: Path, moment: str, number: signal.Signals, more: str) -> None:
    said = tmp_path / "said.txt"
    with serving(tmp_path, said, more) as process:
        told = lambda: said.read_text(encoding="utf-8")  # noqa: E731
        until(lambda: moment in told() or process.poll() is not None, moment, timeout=120)
        urls = re.findall(r"http://127\.0\.0\.1:\d+", told())
        assert process.poll() is None and len(set(urls)) == 2, told()
        assert all(map(answers, urls))
        process.send_signal(number)
        until(lambda: process.poll() is not None, "its end", timeout=30)
        assert (process.returncode, told().splitlines()[-1]) == (130, "stopped"), told()
        assert more or "Traceback" not in told()
        assert not any(map(answers, urls)), "ComfyUI and the emulator are gone"
