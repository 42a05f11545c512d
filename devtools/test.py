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
from devtools.comfyui import checkout, child
from devtools.comfyui.host import ComfyUI, HostError
from devtools.environment import SetupError
from devtools.programs import browser, postgres

# Tests mostly wait for servers, browsers and child processes, so there are more workers than cores; each runs one file
# at a time. The slowest folders come first, and the short files of tests/unit fill the gaps at the end. The two files
# that measure how soon an interrupt takes effect have a stage of their own: beside them only one worker computes, so
# that a core is left to them. A test that measures nothing does not belong there: the stage lasts as long as they do.
_INTERRUPTS = ("tests/contract/purchase/test_cancellation.py", "tests/host/money/test_interrupt.py")
BESIDE_THEM = tuple(
    f"tests/unit/pixels/paste/test_{name}.py" for name in ("pasting", "registration", "whereabouts", "color_match")
)
_FOLDERS = ("tests/browser", "tests/host", "tests/contract", "tests/unit")
_BY_FILE = ("--dist=loadfile", "--no-loadscope-reorder", "--durations=25")
STAGES = (
    (*_FOLDERS, *(f"--ignore={path}" for path in (*_INTERRUPTS, *BESIDE_THEM)), "--numprocesses=4", *_BY_FILE),
    (*_INTERRUPTS, *BESIDE_THEM, "--numprocesses=3", *_BY_FILE),
)
# The workers use all cores: more threads would spin while they wait for one, which costs a quarter more time.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main(arguments: list[str]) -> int:
    if any(argument != "--thorough" for argument in arguments):
        return lint.main() or _pytest(arguments)
    os.environ.update(_ONE_THREAD)
    # Fetching mostly waits, and mypy has one thread: lint, _fetch and _compile side by side keep two cores busy.
    with ThreadPoolExecutor(2) as beside:
        ready = [beside.submit(prepare) for prepare in (_fetch, _compile)]
        failed = lint.main()
        for prepared in ready:
            prepared.result()
    for chosen in STAGES:
        failed = failed or _pytest([*chosen, *arguments])
    return failed


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _fetch() -> None:
    """Fetch the programs of the tests before several workers would do it at once.

    Failures are ignored here: the tests that need the program report them.
    """
    for bring in (browser.ensure, checkout.newer_frontend, postgres.ensure):
        with contextlib.suppress(SetupError):
            bring()


def _compile() -> None:
    """Write the bytecode of the tests and of what a ComfyUI loads, before each worker would compile it.

    What ComfyUI loads stays loaded for the tests. Failures are ignored here, too.
    """
    # pytest rewrites the assertions of a test file when it first imports it.
    subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q"], capture_output=True, check=False)
    child.share()
    base = tempfile.TemporaryDirectory(prefix="comfyui-", ignore_cleanup_errors=True)
    with contextlib.suppress(HostError), base, ComfyUI(Path(base.name), preloaded=True):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
