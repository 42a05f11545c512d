"""Renews requirements-dev.lock from pyproject's `dev` extra, and .github/publish.lock for the workflow *Publish*.

Run `pip install uv`, then `python -m devtools.lock`.

One lock serves Python 3.10 and later on Linux, Windows and macOS. What torch itself brings along for CUDA is left
out: it differs between builds of the same torch version, and pip finds it wherever a CUDA build is what it installs.
"""

import re
import subprocess
import sys

from devtools.environment import LOCK, ROOT

HEADER = "# Every development dependency, pinned. Renewed by `python -m devtools.lock`; not needed to use the pack.\n"
PUBLISHER = "comfy-cli==1.23.0"
PUBLISHER_LOCK = ROOT / ".github" / "publish.lock"
PUBLISHER_HEADER = f"# {PUBLISHER} and all that it brings along, by hash. Renewed by `python -m devtools.lock`.\n"
LEFT_OUT = re.compile(r"(nvidia|cuda)-|triton==|.*sys_platform == 'emscripten'")


def main() -> int:
    compiled = _compiled("pyproject.toml", "--extra=dev", "--universal", "--python-version=3.10")
    lines = [line for line in compiled.splitlines(keepends=True) if not LEFT_OUT.match(line)]
    LOCK.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"{LOCK.name}: {len(lines)} pins")
    platform = ("--python-version=3.13", "--python-platform=x86_64-unknown-linux-gnu")
    compiled = _compiled("-", *platform, "--generate-hashes", "--only-binary=:all:", given=PUBLISHER)
    PUBLISHER_LOCK.write_text(PUBLISHER_HEADER + compiled, encoding="utf-8")
    print(f"{PUBLISHER_LOCK.name}: {compiled.count('==')} pins")
    return 0


def _compiled(source: str, *options: str, given: str = "") -> str:
    command = [sys.executable, "-m", "uv", "pip", "compile", source, *options]
    quiet = ("--no-annotate", "--no-header", "--quiet")
    ran = subprocess.run(
        [*command, *quiet], cwd=ROOT, check=True, input=given, stdout=subprocess.PIPE, encoding="utf-8"
    )
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
