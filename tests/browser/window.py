"""A Chromium with one page of ComfyUI's frontend in it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import BrowserContext, ViewportSize, expect, sync_playwright

from devtools.comfyui.host import ComfyUI
from devtools.programs import browser as chromium
from tests.browser.frontend import CLOSED, READY, Frontend
from tests.host.buying import forget_purchases

# A limit for pages that hang only: CI's machine is slow, and busy with other tests.
MILLISECONDS = 90_000
expect.set_options(timeout=MILLISECONDS)
_VIEWPORT = ViewportSize(width=1600, height=1000)
_STORES = "cookies,local_storage,indexeddb,service_workers,cache_storage"
_PAGE = Path(__file__).with_name("page.js")


class Window:
    """Keeps its page for the next test module: a new one costs seven seconds of a core, an open one a tenth of that."""

    def __init__(self, program: Path, profile: Path) -> None:
        """Chromium is started with the first use.

        Args:
            profile: a folder in which Chromium caches what it fetched and compiled, which makes a new page cheaper.
        """
        self._program = program
        self._profile = profile
        self._running = ExitStack()
        self._context: BrowserContext | None = None
        self._frontend: Frontend | None = None
        self._shown: tuple[str, str, int] | None = None

    @property
    def context(self) -> BrowserContext:
        """The Chromium, started when it is asked for."""
        if self._context is None:
            playwright = self._running.enter_context(sync_playwright())
            self._context = playwright.chromium.launch_persistent_context(
                self._profile,
                executable_path=self._program,
                args=list(chromium.ARGUMENTS),
                viewport=_VIEWPORT,
                reduced_motion="reduce",
            )
            self._running.callback(self._context.close)
            self._context.add_init_script(path=_PAGE)
        return self._context

    def show(self, comfy: ComfyUI, version: str, look: str, failures: int) -> Frontend:
        """Return the page of this ComfyUI with this renderer and language ("vue-zh"); earlier purchases are deleted.

        Args:
            failures: how many tests have failed so far. A page that was open while one failed is not used again.
        """
        wanted = (version, look, failures)
        # No module may reuse what an earlier one has bought.
        forget_purchases(comfy)
        if self._frontend is not None and self._shown == wanted and self._frontend.tidied():
            return self._frontend
        if self._frontend is not None:
            self._frontend.page.close()
        self._frontend = self._open(comfy, version, look)
        self._shown = wanted
        return self._frontend

    def close(self) -> None:
        """End the Chromium; the next use starts another one."""
        self._frontend = self._context = None
        self._running.close()

    def _open(self, comfy: ComfyUI, version: str, look: str) -> Frontend:
        renderer, locale = look.split("-")
        settings = {"Comfy.Locale": locale, "Comfy.VueNodes.Enabled": renderer == "vue", **CLOSED}
        comfy.request("POST", "/settings", json=settings)
        page = self.context.new_page()
        # Delete what earlier pages have stored in the browser.
        self.context.new_cdp_session(page).send(
            "Storage.clearDataForOrigin", {"origin": comfy.url, "storageTypes": _STORES}
        )
        page.set_default_timeout(MILLISECONDS)
        frontend = Frontend(page, comfy, version)
        frontend.watch()
        page.goto(comfy.url)
        page.wait_for_function(READY)
        page.locator('[data-testid="queue-button"]').first.wait_for()
        return frontend
