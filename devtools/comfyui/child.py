"""Two ways to run ComfyUI as a child process that ends when its standard input is closed (devtools/comfyui/watched.py).

`NewProcess` is a new Python, as users have it. `PreloadedProcess` is a fork of Python's fork server, which has imported
ComfyUI's libraries (torch and others, nothing of ComfyUI or of the pack): a start takes 0.4 s of a processor instead of
6, and the tests start about fifty. Systems without fork have the first way only.

Each process has a fork server of its own, which takes 6 s of a processor, unless one of its parents has called `share`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from devtools.comfyui import watched

AVAILABLE = "forkserver" in multiprocessing.get_all_start_methods()
# The fork server ignores names that cannot be imported.
_LIBRARIES = [
    "torch", "torch._dynamo", "torchvision", "torchsde", "transformers", "transformers.models.clip", "tokenizers",
    "safetensors.torch", "spandrel", "einops", "numpy", "scipy.stats", "scipy.ndimage", "av", "PIL.Image",
    "aiohttp.web", "alembic", "sqlalchemy", "pydantic", "pydantic_settings", "requests", "yaml", "psutil",
]  # fmt: skip
_SHARED = "PACK_FORK_SERVER"
# Python has no way to use a fork server of another process. Its own attributes are set for that, and 3.14 has more.
_CAN_SHARE = AVAILABLE and sys.version_info < (3, 14)


def share() -> None:
    """Start a fork server that the children of this process use, too; it ends with this process."""
    if not _CAN_SHARE:
        return
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server.set_forkserver_preload(_LIBRARIES)
    server.ensure_running()
    os.environ[_SHARED] = server._forkserver_address


def _use_the_shared_one() -> None:
    from multiprocessing import forkserver, resource_tracker

    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_address is None:
        server._forkserver_address = os.environ[_SHARED]
        server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)  # the process that shares it keeps it alive
        server.ensure_running = resource_tracker.ensure_running  # not a server of this process


class NewProcess:
    """Runs ``command``, a Python script and its arguments, and appends its output to ``log``."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, watched.__file__, *command], cwd=cwd, env=environment, stdin=subprocess.PIPE,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,  # Ctrl-C reaches this process only
            )  # fmt: skip
        self.pid = self._process.pid

    def write(self, data: bytes) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code, or None if the process still runs after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()


class PreloadedProcess:
    """The same interface for a fork of Python's fork server, which has imported the libraries."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        if os.environ.get(_SHARED):
            _use_the_shared_one()
        else:
            context.set_forkserver_preload(_LIBRARIES)
        theirs, self._ours = context.Pipe(duplex=False)
        arguments = (list(command), str(cwd), dict(environment), str(log), theirs)
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid or 0

    def write(self, data: bytes) -> None:
        os.write(self._ours.fileno(), data)

    def close_stdin(self) -> None:
        self._ours.close()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def _run(command: list[str], cwd: str, environment: dict[str, str], log: str, stdin: Connection) -> None:
    os.setsid()  # Ctrl-C in the terminal reaches the parent only
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(stdin.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    root = Path(__file__).resolve().parents[2]
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != root]  # ComfyUI has `nodes`, too
    try:
        watched.run(command)
    finally:
        # multiprocessing ends a forked process with os._exit. The pack relies on what Python does at a normal exit:
        # it joins the threads and runs the atexit functions.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
