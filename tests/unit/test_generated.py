"""What is derived from the code is as the code is."""

from __future__ import annotations

from devtools.environment import ROOT
from devtools.generate import generated, is_up_to_date


def test_what_is_generated_is_up_to_date() -> None:
    stale = [path.relative_to(ROOT) for path, text in generated().items() if not is_up_to_date(path, text)]
    assert not stale, "run: python dev.py generate"
