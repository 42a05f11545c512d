"""In which frontend a browser test runs. Frontend, renderer and language together are a look: "newer-vue-zh".

"own" is the frontend that ComfyUI itself installs, "newer" is `checkout.NEWER_FRONTEND`. Each test runs once, in
FIRST. Those marked `smoke` run in SMOKE, too: a few of each module, on its main path, so that a break of the old
frontend, of the canvas renderer or of English is seen. Other looks need --thorough.
"""

from __future__ import annotations

import pytest

FIRST = "newer-vue-zh"
SMOKE = "own-canvas-en"


def looks(*others: str) -> pytest.MarkDecorator:
    """Run in FIRST, in SMOKE and in these looks, except for what `mark_thorough` leaves out."""
    chosen = [FIRST, SMOKE, *others]
    return pytest.mark.parametrize(
        ("version", "look"), [each.split("-", 1) for each in chosen], ids=chosen, indirect=True, scope="module"
    )


def look_of(item: pytest.Item) -> str | None:
    """The look of this case; None for tests that need no frontend."""
    chosen = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return f"{chosen['version']}-{chosen['look']}" if "look" in chosen else None


def mark_thorough(items: list[pytest.Item]) -> None:
    """Mark the cases that only --thorough runs."""
    for item in items:
        look = look_of(item)
        if look not in (None, FIRST) and not (look == SMOKE and item.get_closest_marker("smoke")):
            item.add_marker("thorough")


def sort(items: list[pytest.Item]) -> None:
    """Sort the cases by look, so that test modules share a page and a ComfyUI."""
    places = [place for place, item in enumerate(items) if look_of(item)]
    chosen = sorted((items[place] for place in places), key=lambda item: (look_of(item) != FIRST, look_of(item)))
    for place, item in zip(places, chosen, strict=True):
        items[place] = item
