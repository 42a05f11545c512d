"""Draws docs/scale.svg out of what `dev.py bench scale` measured last: `python -m devtools.growth`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from devtools.bench import JSON
from devtools.environment import ROOT

PICTURE = ROOT / "docs" / "scale.svg"
_WIDTH, _HEIGHT, _PANEL, _TOP, _GAP = 960, 300, 200, 56, 40
_STYLE = (
    "text{font:13px sans-serif;fill:#57606a} .title{font-weight:bold} .line{fill:none;stroke:#4c6ef5;stroke-width:2}"
    " .dot{fill:#4c6ef5} .target{stroke:#e8590c;stroke-dasharray:5 4} .axis{stroke:#8c959f}"
)

Values = Sequence[tuple[int, float]]


def main() -> int:
    measured = json.loads(JSON.read_text(encoding="utf-8"))["tables"]["scale"]["measured"]
    PICTURE.write_text(drawn(list(measured.values())), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn")
    return 0


def drawn(measured: Sequence[dict[str, Any]]) -> str:
    """Four figures for each N."""
    # Title, value, target, how it is written, and how far the axis reaches at least.
    panels: tuple[tuple[str, Callable[[dict[str, Any]], float], float | None, str, float], ...] = (
        ("seconds (dashed: ideal)", lambda one: one["wall"], None, "{:.0f}", 10),
        ("share of the throughput", lambda one: one["ideal"] / one["wall"], 0.9, "{:.2f}", 1),
        ("ms of processor per picture", lambda one: one["cpu"] / one["count"] * 1000, None, "{:.0f}", 200),
        ("MB beyond the pictures", lambda one: max(0.0, one["memory"] / 1e6), None, "{:.0f}", 100),
    )
    parts = []
    for number, (title, value, target, form, reach) in enumerate(panels):
        values = [(one["count"], value(one)) for one in measured]
        also = [(one["count"], one["ideal"]) for one in measured] if number == 0 else None
        x = _GAP + number * (_PANEL + _GAP - 8)
        parts.append(f'<g transform="translate({x} {_TOP})">{_panel(title, values, also, target, form, reach)}</g>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
    name = "<title>Growth with the number of pictures in a list</title>"
    return f"{head}{name}<style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def _panel(title: str, values: Values, also: Values | None, target: float | None, form: str, reach: float) -> str:
    """Logarithmic to the right; upwards, too, where the values grow with N by themselves (``also`` is given)."""
    high, wide = _HEIGHT - _TOP - 60, _PANEL - 40
    top = max(reach, *(value for _, value in [*values, *(also or [])]))
    steps = math.log10(max(count for count, _ in values)) or 1.0

    def place(count: int, value: float) -> tuple[float, float]:
        share = math.log10(max(value, 1.0)) / math.log10(top) if also is not None else value / (top * 1.15)
        return math.log10(count) / steps * wide, high - share * high * (0.9 if also is not None else 1.0)

    parts = [f'<text class="title" y="-20">{title}</text>', f'<path class="axis" d="M0 {high}H{wide}"/>']
    if target is not None:
        level = place(1, target)[1]
        parts.append(f'<path class="target" d="M0 {level:.1f}H{wide}"/>')
    if also is not None:
        parts.append(f'<path class="target" fill="none" d="{_path([place(*point) for point in also])}"/>')
    points = [place(*point) for point in values]
    parts.append(f'<path class="line" d="{_path(points)}"/>')
    for (x, y), (count, value) in zip(points, values, strict=True):
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{form.format(value)}</text>')
        parts.append(f'<text x="{x:.1f}" y="{high + 20}" text-anchor="middle">{count:,}</text>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


if __name__ == "__main__":
    sys.exit(main())
