"""`dev.py bench` says what it measured, and fails when both sides do not give the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import Case, side_by_side
from devtools import bench


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setattr(bench, "JSON", tmp_path / "out" / "bench.json")


@pytest.mark.parametrize(("same", "code"), [(True, 0), (False, 1)])
def test_another_result_is_a_failure(
    same: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case("a case", lambda: 1, lambda: 1, lambda ours, other: same and ours == other)
    monkeypatch.setitem(
        sys.modules, "benchmarks.fake", SimpleNamespace(table=lambda: side_by_side("one / another", [case]))
    )
    monkeypatch.setattr(bench, "NAMES", ["fake"])
    assert bench.main() == code
    told = capsys.readouterr().out
    assert "one / another" in told
    assert "| a case |" in told
    assert ("WRONG: a case" in told) is not same
    assert "| one / another: a case |" in told.partition("In ratios")[2]
    measured = json.loads(bench.JSON.read_text(encoding="utf-8"))["tables"]["fake"]["measured"]
    assert len(measured["a case"]["ours"]) == len(measured["a case"]["other"]) >= 5


def test_an_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "nothing"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "choose from: encoding, feathering" in capsys.readouterr().err
