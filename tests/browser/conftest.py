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
from playwright.sync_api import BrowserContext, ViewportSize, expect, sync_playwright

from devtools import browser as chromium
from devtools import checkout
from devtools.environment import HOST, SetupError, logged
from devtools.host import ComfyUI
from tests.browser.frontend import NEWER, READY, Frontend
from tests.host.buying import collector_kept_away, forget_purchases

# Only against a hang: CI's machine is slow, and busy with other tests.
MILLISECONDS = 90_000
expect.set_options(timeout=MILLISECONDS)
_VIEWPORT = ViewportSize(width=1600, height=1000)
_STORES = "cookies,local_storage,indexeddb,service_workers,cache_storage"
_PAGE = Path(__file__).with_name("page.js")

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
            comfy = running.enter_context(ComfyUI(base, arguments=arguments_for(version)))
            running.enter_context(collector_kept_away(comfy))
            return comfy

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


@pytest.fixture(scope="session")
def chromium_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps what Chromium has fetched and compiled of a frontend: the next page takes a third less of a core."""
    return tmp_path_factory.mktemp("chromium")


@pytest.fixture(scope="module")
def browser(chromium_path: Path, chromium_profile: Path) -> Iterator[BrowserContext]:
    # For one module only: while it is open, no other test could use asyncio.run().
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            chromium_profile, executable_path=chromium_path, args=list(chromium.ARGUMENTS), viewport=_VIEWPORT
        )
        browser.add_init_script(path=_PAGE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_frontend(browser: BrowserContext, serve: Callable[[str], ComfyUI], version: str) -> Callable[..., Frontend]:
    """`open_frontend(locale="zh", vue_nodes=True)`: a new page with these settings."""
    return functools.partial(open_page, browser, serve(version), version)


@pytest.fixture(scope="module")
def look(request: pytest.FixtureRequest) -> str:
    """Renderer and language of a module that is parametrized with them: "vue-zh"."""
    return str(request.param)


@pytest.fixture(scope="module")
def language(look: str) -> str:
    return look.split("-")[1]


@pytest.fixture(scope="module")
def shared_frontend(open_frontend: Callable[..., Frontend], look: str) -> Iterator[Frontend]:
    """One page for all tests of a module with this look."""
    renderer, locale = look.split("-")
    frontend = open_frontend(locale=locale, vue_nodes=renderer == "vue")
    yield frontend
    frontend.page.close()


def open_page(
    browser: BrowserContext, comfy: ComfyUI, version: str, *, locale: str = "en", vue_nodes: bool = False
) -> Frontend:
    """A new page of this ComfyUI, with these settings."""
    # The frontend opens the panel by itself when a run fails, and keeps it open for the next page.
    closed = {"Comfy.Minimap.Visible": False, "Comfy.RightSidePanel.IsOpen": False}
    settings = {"Comfy.Locale": locale, "Comfy.VueNodes.Enabled": vue_nodes, **closed}
    comfy.request("POST", "/settings", json=settings)
    # Every page buys for itself.
    forget_purchases(comfy)
    page = browser.new_page()
    # And finds nothing that another has left in the browser.
    browser.new_cdp_session(page).send("Storage.clearDataForOrigin", {"origin": comfy.url, "storageTypes": _STORES})
    page.set_default_timeout(MILLISECONDS)
    frontend = Frontend(page, comfy, version)
    frontend.watch()
    page.goto(comfy.url)
    page.wait_for_function(READY)
    page.locator('[data-testid="queue-button"]').first.wait_for()
    return frontend


def arguments_for(version: str) -> list[str]:
    """ComfyUI's own, to serve that frontend."""
    return [] if version == "own" else [f"--front-end-root={_newer_frontend()}"]


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
