"""What the pack adds to the load of ComfyUI's page: requests, bytes, and the time from its first request to its last.

In a Chromium with a warm cache, in both frontends, with 0 and with 30 ms of latency to ComfyUI.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks import Table, told
from devtools.comfyui import checkout
from devtools.comfyui.host import PACK_FOLDER, ComfyUI
from devtools.programs import browser as chromium

ROUNDS = 5
_AWAY_MS = (0, 30)
_READY = "!!window.app?.graph && !!window.LiteGraph?.registered_node_types.VolcengineAPIOutpaintCanvas"
_OURS = """(folder) => performance.getEntriesByType("resource")
    .filter(({name}) => decodeURIComponent(name).includes(`/extensions/${folder}/`))
    .map(({startTime, responseEnd, decodedBodySize}) => [startTime, responseEnd, decodedBodySize])"""


def table() -> Table:
    rows, measured = [], {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = playwright.chromium.launch(executable_path=chromium.ensure(), args=list(chromium.ARGUMENTS))
        for version, arguments in _frontends().items():
            base = Path(folder) / version
            base.mkdir()
            with ComfyUI(base, arguments=arguments) as comfy:
                for away in _AWAY_MS:
                    rounds = _measure(browser, comfy.url, away)[1:]  # the first round fills the cache
                    requests, size, seconds = (median(one[place] for one in rounds) for place in range(3))
                    name = f"{version} frontend, {away} ms away"
                    rows.append((name, f"{requests:.0f}", f"{size / 1000:.0f} kB", told(seconds)))
                    measured[name] = rounds
    title = "The pack's part of a page load"
    return Table(title, ("page", "requests", "modules", "first to last"), rows, measured)


def _frontends() -> dict[str, list[str]]:
    return {"ComfyUI's own": [], "newest": [f"--front-end-root={checkout.newer_frontend()}"]}


def _measure(browser: Browser, url: str, away: int) -> list[tuple[int, int, float]]:
    context = browser.new_context()
    # The frontend alone fetches more than the 250 resources that a browser records by default.
    context.add_init_script("performance.setResourceTimingBufferSize(5000)")
    rounds = []
    for _ in range(ROUNDS + 1):
        page = context.new_page()
        network: dict[str, Any] = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
        context.new_cdp_session(page).send("Network.emulateNetworkConditions", {"latency": away, **network})
        page.goto(url)
        page.wait_for_function(_READY, timeout=90_000)
        fetched = page.evaluate(_OURS, PACK_FOLDER)
        starts, ends, sizes = zip(*fetched, strict=True)
        rounds.append((len(fetched), sum(sizes), (max(ends) - min(starts)) / 1000))
        page.close()
    context.close()
    return rounds
