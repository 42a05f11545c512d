"""`dev.py test [--thorough] [pytest arguments]`: lint first, then every test (or what the arguments choose).

Without --thorough the cases marked `thorough` are left out: tests/README.md has the table.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devtools import lint
from devtools.comfyui import checkout
from devtools.comfyui.host import ComfyUI, HostError
from devtools.environment import SetupError
from devtools.programs import browser, postgres

# Tests wait for servers, browsers and children of their own: more at a time than there are cores, a file each. What
# takes longest begins, and the short files of tests/unit fill the gaps at the end. Those that say how soon an interrupt
# is felt wait more than they work: beside these two files one worker computes, so that a core is left to them.
_INTERRUPTS = ("tests/contract/purchase/test_cancellation.py", "tests/host/money/test_parallel_and_interrupt.py")
BESIDE_THEM = tuple(
    f"tests/unit/pixels/paste/test_{name}.py" for name in ("pasting", "registration", "whereabouts", "color_match")
)
_FOLDERS = ("tests/browser", "tests/host", "tests/contract", "tests/unit")
_BY_FILE = ("--dist=loadfile", "--no-loadscope-reorder", "--durations=25")
STAGES = (
    (*_FOLDERS, *(f"--ignore={path}" for path in (*_INTERRUPTS, *BESIDE_THEM)), "--numprocesses=4", *_BY_FILE),
    (*_INTERRUPTS, *BESIDE_THEM, "--numprocesses=3", *_BY_FILE),
)
# Side by side they have no core to spare, and threads that wait for one by spinning cost a quarter more.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main(arguments: list[str]) -> int:
    if any(argument != "--thorough" for argument in arguments):
        return lint.main() or _pytest(arguments, {})
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(_prepare)
        failed = lint.main()
        ready.result()
    for chosen in STAGES:
        failed = failed or _pytest([*chosen, *arguments], _ONE_THREAD)
    return failed


def _pytest(arguments: tuple[str, ...] | list[str], environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


def _prepare() -> None:
    """Bring the programs of the tests, and compile what a ComfyUI loads: several workers at once would get in each
    other's way. What fails here is told better by the tests that need it."""
    for bring in (browser.ensure, checkout.newer_frontend, postgres.ensure):
        with contextlib.suppress(SetupError):
            bring()
    # pytest rewrites the tests' assertions when it first imports them: otherwise each worker would.
    subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q"], capture_output=True, check=False)
    base = tempfile.TemporaryDirectory(prefix="comfyui-", ignore_cleanup_errors=True)
    with contextlib.suppress(HostError), base, ComfyUI(Path(base.name)):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
