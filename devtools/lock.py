"""Renews requirements-dev.lock from pyproject's `dev` extra: `pip install uv`, then `python -m devtools.lock`.

One lock serves Python 3.10 and later on Linux, Windows and macOS. What torch itself brings along for CUDA is left
out: it differs between builds of the same torch version, and pip finds it wherever a CUDA build is what it installs.
"""

import re
import subprocess
import sys

from devtools.environment import LOCK, ROOT

HEADER = "# Every development dependency, pinned. Renewed by `python -m devtools.lock`; not needed to use the pack.\n"
LEFT_OUT = re.compile(r"(nvidia|cuda)-|triton==|.*sys_platform == 'emscripten'")


def main() -> int:
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra=dev"]
    options = ["--universal", "--python-version=3.10", "--no-annotate", "--no-header", "--quiet"]
    compiled = subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    lines = [line for line in compiled.stdout.splitlines(keepends=True) if not LEFT_OUT.match(line)]
    LOCK.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"{LOCK.name}: {len(lines)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
