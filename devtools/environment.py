"""The project's own Python environment: `.venv`, filled from the lock file. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-dev.lock"
HOST = ROOT / ".host"  # what the tools download and make; in .gitignore
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

_LOG = HOST / "install.log"
_STAMP = VENV / "installed.txt"
_SHIM = ROOT / "devtools" / "comfyui" / "torchvision_shim.py"


class SetupError(Exception):
    """Something could not be installed; the text says what, why, and what to do or where to read on."""


def ensure() -> Path:
    """Create or repair the environment if needed, and return its Python.

    Raises:
        SetupError: pip failed.
    """
    wanted = _fingerprint()
    installed = _STAMP.read_text(encoding="utf-8").split() if _STAMP.exists() else []
    if installed == wanted and PYTHON.exists():
        return PYTHON
    HOST.mkdir(exist_ok=True)
    _LOG.unlink(missing_ok=True)
    _STAMP.unlink(missing_ok=True)
    if installed[:1] != wanted[:1] or not PYTHON.exists():
        logged("Making .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    # The lock names every dependency, so pip need not resolve any. Unpacking takes most of the time: two pips share it.
    pip_install = [str(PYTHON), "-m", "pip", "install", "--no-deps", "--no-compile", "--progress-bar=off"]
    pinned = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    halves = [*pip_install, *pinned[::2]], [*pip_install, *pinned[1::2]]
    logged("Installing what requirements-dev.lock pins", *halves)
    _let_torchvision_import()
    _STAMP.write_text("\n".join(wanted), encoding="utf-8")
    return PYTHON


def logged(doing: str, *commands: list[str]) -> None:
    """Run commands side by side to their ends; their output goes into the log, and the terminal shows the progress.

    Raises:
        SetupError: one of them failed.
    """
    print(f"{doing} (log: {_LOG.relative_to(ROOT)}) ...", flush=True)
    started = shown = time.monotonic()
    with _LOG.open("a", encoding="utf-8") as log:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        run = [subprocess.Popen(command, **streams) for command in commands]
        try:
            while any(process.poll() is None for process in run):
                time.sleep(0.1)
                if time.monotonic() - shown >= 5:
                    shown = time.monotonic()
                    print(f"  {shown - started:3.0f} s  {_last_step()}", flush=True)
        finally:
            for process in run:
                if process.poll() is None:
                    process.kill()
                process.wait()
    if any(process.returncode for process in run):
        raise SetupError(f"{doing} failed. The end of {_LOG}:\n{tail(_LOG, 30)}")


def tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _last_step() -> str:
    """Return the last line of the log that says what pip is doing, or ""."""
    steps = ("Collecting", "Downloading", "Processing", "Installing")
    lines = [line.strip() for line in tail(_LOG, 50).splitlines()]
    return next((line[:100] for line in reversed(lines) if line.startswith(steps)), "")


def _fingerprint() -> list[str]:
    """Return what the environment is made of: Python's version, and a hash of the lock and the shim."""
    contents = LOCK.read_bytes() + _SHIM.read_bytes()
    return [sys.version.split()[0], hashlib.sha256(contents).hexdigest()]


def _let_torchvision_import() -> None:
    """Install the shim if torchvision needs it: its usual wheel expects CUDA operators, which a CPU torch lacks."""
    check = subprocess.run([str(PYTHON), "-c", "import torchvision"], capture_output=True, encoding="utf-8")
    if "operator torchvision::nms does not exist" not in check.stderr:
        return
    where = subprocess.run(
        [str(PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    site_packages = Path(where.stdout.strip())
    shutil.copyfile(_SHIM, site_packages / _SHIM.name)
    metadata = site_packages / "torchvision_shim-1.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision-shim\nVersion: 1\n", encoding="utf-8")
    entry_point = "[torch.backends]\ntorchvision_shim = torchvision_shim:declare_operators\n"
    (metadata / "entry_points.txt").write_text(entry_point, encoding="utf-8")
