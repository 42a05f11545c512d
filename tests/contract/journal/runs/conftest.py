"""The journal of these tests, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.journal.runs.written import Written, opened


@pytest.fixture(params=["sqlite", "postgresql"])
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = opened(tmp_path / "user", url, monkeypatch)
    yield made
    made.journal.close()
