"""Finds a Chromium for the browser tests, or installs one: Playwright's own download, else Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from devtools.environment import SetupError, logged

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_USUAL_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_HOW = (
    "The browser tests need a Chromium, and none was found. Any of these will do:\n"
    "  - install Chromium or Chrome (Debian, Ubuntu: apt-get install chromium)\n"
    "  - .venv/bin/python -m playwright install chromium\n"
    "  - set BROWSER_PATH to the program"
)

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""Arguments that a headless Chromium needs in a container, and those that keep it from contacting its maker."""


_DOWNLOAD = [sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"]
_DOWNLOAD_SECONDS = 600.0
# How long Playwright waits for each of the hosts that it tries in turn; its default is 30 s.
_CONNECT_MILLISECONDS = "5000"


def ensure() -> Path:
    """Return the program to start. If there is none, install one; print why a way to do so failed.

    Raises:
        SetupError: there is none, and no way to install one worked; the text says what was tried, and what to do.
    """
    found = find()
    failures: list[str] = []
    for bring in (_download_playwrights, _install_debians):
        if found is not None:
            break
        try:
            bring()
        except SetupError as problem:
            print(problem, flush=True)
            failures.append(f"  tried: {problem}")
        found = find()
    if found is None:
        raise SetupError("\n".join([_HOW, *failures]))
    return found


def find() -> Path | None:
    """Return a Chromium that is installed and starts, or None.

    Raises:
        SetupError: BROWSER_PATH names no file.
    """
    chosen = os.environ.get("BROWSER_PATH")
    if chosen:
        if not Path(chosen).is_file():
            raise SetupError(f"BROWSER_PATH is {chosen}, and there is no such file")
        return Path(chosen)
    return next(filter(_starts, _candidates()), None)


def _candidates() -> Iterator[Path]:
    on_path = (shutil.which(name) for name in _NAMES)
    yield from (Path(found) for found in on_path if found)
    yield from (place for place in map(Path, _USUAL_PLACES) if place.is_file())
    playwrights = _playwrights_own()
    if playwrights is not None:
        yield playwrights


def _playwrights_own() -> Path | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.is_file() else None


def _starts(program: Path) -> bool:
    """Whether the program runs: Ubuntu's `chromium-browser` may only refer to a snap, and libraries may be missing."""
    if os.name != "posix":
        return True  # `--version` would open a window there
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _download_playwrights() -> None:
    """Download Chromium into Playwright's usual folder, where other projects find it, too. Raises: SetupError."""
    print("No Chromium here: downloading Playwright's own (150 MB, at most 10 minutes).", flush=True)
    environment = {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": _CONNECT_MILLISECONDS, **os.environ}
    problem = run_bounded(_DOWNLOAD, _DOWNLOAD_SECONDS, environment)
    if problem is None and _playwrights_own() is None:
        problem = "it ended well, but brought nothing"
    if problem is not None:
        raise SetupError(f"Playwright's own download failed: {problem}")


def run_bounded(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> str | None:
    """Run a command for at most ``seconds``, then kill it with all its children.

    Return None if it succeeded, or else one line that says what went wrong.
    """
    # Output goes into a file: reading a pipe would last as long as any grandchild holds its other end.
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            code = process.wait(seconds)
        except psutil.TimeoutExpired:
            return f"no end after {seconds:g} s"
        finally:
            if process.is_running():
                family = [*process.children(recursive=True), process]
                for member in family:
                    member.kill()
                psutil.wait_procs(family)
        if code == 0:
            return None
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    # The first error is the cause; after it come repetitions and a stack trace.
    return next((line for line in lines if line.startswith("Error:")), lines[-1] if lines else f"exit code {code}")


def _install_debians() -> None:
    if not _is_debian_and_root():
        return
    print("Installing Debian's package `chromium` (apt-get, about 30 s).", flush=True)
    logged("Updating the package lists", ["apt-get", "update"])
    logged("Installing chromium", ["apt-get", "install", "-y", "--no-install-recommends", "chromium"])


def _is_debian_and_root() -> bool:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    # Ubuntu's package `chromium` only refers to a snap, so it does not count as Debian here.
    release = Path("/etc/os-release")
    return release.is_file() and "ID=debian" in release.read_text(encoding="utf-8").splitlines()
