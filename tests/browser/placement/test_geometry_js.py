"""The geometry of web/placement rounds as api/pixels/geometry.py does: the same vectors, in a browser."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import BrowserContext

from devtools.environment import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / "placement.json").read_text(encoding="utf-8"))
_ORIGIN = "http://pack.test"

_NAMES = {
    "place": "place",
    "place_in_aspect": "placeInAspect",
    "pad": "pad",
    "within": "within",
    "scaled_to": "scaledTo",
}
_RUN = """async ([url, calls]) => {
    const geometry = await import(url);
    return calls.map(([name, values]) => {
        try {
            return geometry[name](...values);
        } catch (error) {
            if (error instanceof geometry.PlacementError) return "error";
            throw error;
        }
    });
}"""


def test_same_placements_as_in_python(browser: BrowserContext) -> None:
    page = browser.new_page()
    # It needs nothing of ComfyUI.
    page.route(f"{_ORIGIN}/", lambda route: route.fulfill(body="", content_type="text/html"))
    page.route(f"{_ORIGIN}/geometry.mjs", lambda route: route.fulfill(path=ROOT / "web" / "placement" / "geometry.mjs"))
    page.goto(_ORIGIN)
    calls = [[_NAMES[vector["function"]], [_to_js(value) for value in vector["arguments"]]] for vector in VECTORS]
    given = page.evaluate(_RUN, ["/geometry.mjs", calls])
    wanted = ["error" if vector.get("error") else _to_js(vector["placement"]) for vector in VECTORS]
    wrong = [vector for vector, got, want in zip(VECTORS, given, wanted, strict=True) if got != want]
    assert wrong == []
    assert set(_NAMES) == {vector["function"] for vector in VECTORS}
    page.close()


def _to_js(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key.replace("_w", "W").replace("_h", "H"): number for key, number in value.items()}
