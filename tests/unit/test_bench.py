"""`dev.py bench` says what it measured, and fails when both sides do not give the same."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from benchmarks import Case
from devtools import bench


@pytest.mark.parametrize(("same", "code", "word"), [(True, 0, "yes"), (False, 1, "NO")])
def test_another_result_is_a_failure(
    same: bool, code: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case("a case", lambda: 1, lambda: 1, lambda ours, other: same and ours == other)
    monkeypatch.setitem(sys.modules, "benchmarks.fake", SimpleNamespace(TITLE="one / another", cases=lambda: [case]))
    monkeypatch.setattr(bench, "NAMES", ["fake"])
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert bench.main() == code
    told = capsys.readouterr().out
    assert "one / another" in told
    assert f"| {word} |" in told


def test_an_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "nothing"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "choose from: feathering" in capsys.readouterr().err
