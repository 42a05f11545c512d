"""The project's tasks. Needs only Python 3.10 or later: everything else is installed into .venv and .host/ here.

  python dev.py demo [--serve | --live --yes]  real pictures out of a real ComfyUI, through all six paid nodes
  python dev.py test [--thorough] [pytest arguments]  lint and all tests; --thorough: every case, as every night
  python dev.py report NODE [--yes]            one real call with your keys, told in a redacted file for a bug report
  python dev.py bench [name ...]               this pack's ways and others' side by side, as ratios
  python dev.py lint                           ruff and mypy
  python dev.py generate                       write what is derived from the code: words, tables, test vectors
  python dev.py host [PATH | pinned]           which ComfyUI demo and tests use
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python would fail below with a syntax error)
    sys.exit("Python 3.10 or later is needed, this is " + sys.version.split()[0])

from devtools import environment
from devtools.comfyui import checkout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("demo", "test", "bench", "report", "lint", "generate", "host"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    try:
        if chosen.command == "host":
            return host(chosen.arguments)
        python = environment.ensure()
        if chosen.command not in ("lint", "generate", "report"):
            checkout.ensure()
    except environment.SetupError as problem:
        print(problem, file=sys.stderr)
        return 1
    return hand_over(python, "-m", f"devtools.{chosen.command}", *chosen.arguments)


def host(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py host", description="Tells or sets which ComfyUI is used.")
    parser.add_argument("path", nargs="?", help="a ComfyUI folder, or `pinned` for the one that dev.py fetches itself")
    path = parser.parse_args(arguments).path
    if path == "pinned":
        checkout.remember(None)
    elif path:
        checkout.remember(Path(path))
    print(checkout.describe())
    return 0


def hand_over(python: Path, *arguments: str) -> int:
    """Run the command in the project's own Python, which has everything installed; return its exit code.

    On POSIX it does not return: the command takes the place of this process.
    """
    os.chdir(environment.ROOT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode each start of ComfyUI takes 20 s instead of 8
    command = [str(python), *arguments]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(python, command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached the child as well: wait until it has cleaned up


if __name__ == "__main__":
    sys.exit(main())
