"""Finds a Chromium for the browser tests, or installs Debian's where that is possible."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

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
"""What a headless Chromium needs in a container, and what keeps it from calling home."""


def ensure() -> Path:
    """The program to start; on Debian, and as root, the package is installed when there is none.

    Raises:
        SetupError: there is none, and it says what to do.
    """
    found = find()
    if found is None and _can_install():
        print("No Chromium here: installing Debian's package `chromium` (apt-get, about 30 s).", flush=True)
        logged("Updating the package lists", ["apt-get", "update"])
        logged("Installing chromium", ["apt-get", "install", "-y", "--no-install-recommends", "chromium"])
        found = find()
    if found is None:
        raise SetupError(_HOW)
    return found


def find() -> Path | None:
    """A Chromium that is there already."""
    chosen = os.environ.get("BROWSER_PATH")
    if chosen:
        if not Path(chosen).is_file():
            raise SetupError(f"BROWSER_PATH is {chosen}, and there is no such file")
        return Path(chosen)
    return next(_candidates(), None)


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


def _can_install() -> bool:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    # Ubuntu's package of that name is only a pointer to a snap.
    release = Path("/etc/os-release")
    return release.is_file() and "ID=debian" in release.read_text(encoding="utf-8").splitlines()
