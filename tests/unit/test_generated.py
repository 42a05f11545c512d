"""What is derived from the code is as the code is."""

from __future__ import annotations

from devtools.environment import ROOT
from devtools.generate import generated


def test_what_is_generated_is_up_to_date() -> None:
    stale = [path.relative_to(ROOT) for path, text in generated().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python dev.py generate"
