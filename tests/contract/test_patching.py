"""Other packs replace parts of the package requests in the whole process: our requests go out as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.patching import PATCHES, buy_everything

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("what", PATCHES)
def test_what_is_replaced_after_the_pack_was_loaded_changes_nothing(tmp_path: Path, what: str) -> None:
    with PATCHES[what]():
        buy_everything(tmp_path)


@pytest.mark.parametrize("what", PATCHES)
def test_what_was_replaced_before_the_pack_was_loaded_changes_nothing(what: str) -> None:
    program = "from tests.contract import patching; patching.main()"
    ran = subprocess.run([sys.executable, "-c", program, what], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
