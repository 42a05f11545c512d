"""The pack in real frontends: the host's own and a newer one, each served by a ComfyUI of its own, in a Chromium.

The nodes use the profile `sandbox`, whose emulator the pack starts by itself.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from devtools import browser as chromium
from devtools import checkout
from devtools.environment import HOST, SetupError, logged
from devtools.host import ComfyUI
from tests.browser.frontend import NEWER, READY, Frontend
from tests.host.buying import forget_purchases

MILLISECONDS = 30_000

_INSIDE_WHEEL = "comfyui_frontend_package/static/"


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ComfyUI]]:
    """`serve("own")`, `serve(NEWER)`: the ComfyUI that serves that frontend, started once for the whole run."""
    with ExitStack() as running:

        @functools.cache
        def serve(version: str) -> ComfyUI:
            base = tmp_path_factory.mktemp("comfyui")
            (base / "input").mkdir()
            shutil.copyfile(checkout.ensure() / "input" / "example.png", base / "input" / "example.png")
            arguments = [] if version == "own" else [f"--front-end-root={_newer_frontend()}"]
            return running.enter_context(ComfyUI(base, arguments=arguments))

        yield serve


@pytest.fixture(scope="module", params=["own", NEWER])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    try:
        return chromium.ensure()
    except SetupError as problem:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def browser(chromium_path: Path) -> Iterator[Browser]:
    # For one module only: while it is open, no other test could use asyncio.run().
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=list(chromium.ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_frontend(browser: Browser, serve: Callable[[str], ComfyUI], version: str) -> Callable[..., Frontend]:
    """`open_frontend(locale="zh", vue_nodes=True)`: a new page with these settings."""
    comfy = serve(version)

    def open_page(*, locale: str = "en", vue_nodes: bool = False) -> Frontend:
        settings = {"Comfy.Locale": locale, "Comfy.VueNodes.Enabled": vue_nodes, "Comfy.Minimap.Visible": False}
        comfy.request("POST", "/settings", json=settings)
        # Every page buys for itself.
        forget_purchases(comfy)
        context = browser.new_context(viewport={"width": 1600, "height": 1000})
        page = context.new_page()
        page.set_default_timeout(MILLISECONDS)
        frontend = Frontend(page, comfy, version)
        frontend.watch()
        page.goto(comfy.url)
        page.wait_for_function(READY)
        page.locator('[data-testid="queue-button"]').first.wait_for()
        return frontend

    return open_page


def _newer_frontend() -> Path:
    target = HOST / f"frontend-{NEWER}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=HOST) as temporary:
            requirement = Path(__file__).with_name(f"frontend-{NEWER}.txt")
            download = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--progress-bar=off"]
            logged(f"Fetching the frontend {NEWER}", [*download, "--dest", temporary, "-r", str(requirement)])
            unpacked = Path(temporary) / "unpacked"
            with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
                wheel.extractall(unpacked, [name for name in wheel.namelist() if name.startswith(_INSIDE_WHEEL)])
            shutil.move(unpacked / _INSIDE_WHEEL, target)
    return target
