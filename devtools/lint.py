"""`dev.py lint`: ruff over everything, and mypy, which is strict about api/ and emulator/ (see pyproject.toml)."""

from __future__ import annotations

import shutil
import subprocess
import sys

from devtools.environment import HOST, ROOT

PACK = "hidream_volcengine"
FOLDERS = ("api", "emulator", "nodes")
_TOOLS = ("-p", "devtools", "-p", "benchmarks", "-m", "dev")
_STAGE = HOST / "lint"


def main() -> int:
    failed = [name for name, passed in (("ruff", _ruff()), ("mypy", _mypy())) if not passed]
    print(f"lint: {' and '.join(failed)} found problems" if failed else "lint: ruff and mypy found nothing", flush=True)
    return 1 if failed else 0


def _ruff() -> bool:
    return _run("ruff", "check", "--quiet", ".")


def _mypy() -> bool:
    _stage_pack()
    return _run("mypy", "-m", PACK, *(argument for name in FOLDERS for argument in ("-p", f"{PACK}.{name}")), *_TOOLS)


def _stage_pack() -> None:
    """Copy the pack into a folder whose name is an identifier.

    Its folders import each other relatively, so mypy must see its root as a package, and needs a name for that.
    """
    shutil.rmtree(_STAGE / PACK, ignore_errors=True)
    (_STAGE / PACK).mkdir(parents=True)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, _STAGE / PACK / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "__init__.py", _STAGE / PACK / "__init__.py")


def _run(tool: str, *arguments: str) -> bool:
    finished = subprocess.run([sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8")
    staged = str((_STAGE / PACK).relative_to(ROOT)) + ("\\" if sys.platform == "win32" else "/")
    print((finished.stdout + finished.stderr).replace(staged, ""), end="", flush=True)
    return finished.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
