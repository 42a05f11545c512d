"""The server's journal at the end of a process, and its background poller beside a second copy of the pack."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import cast

import pytest

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.api import BackgroundPoller, Journal, Profiles  # noqa: E402
from hidream_volcengine.nodes.comfy import server_journal  # noqa: E402


class Closing:
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_leaves_the_journal_to_its_parent() -> None:
    journal, mine = Closing(), os.getpid()
    child = os.fork()
    if child == 0:
        server_journal._leave(cast(Journal, journal), mine)
        os._exit(int(journal.closed))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    server_journal._leave(cast(Journal, journal), mine)
    assert journal.closed


@pytest.mark.parametrize("collects", [True, False])
def test_only_the_first_copy_of_the_pack_collects(
    collects: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[BackgroundPoller] = []
    monkeypatch.setattr(BackgroundPoller, "start", lambda collector: started.append(collector))
    profiles = Profiles({}, lambda: pytest.fail("no sandbox"))
    server_journal.ServerJournal(lambda: tmp_path, lambda: profiles, collects=lambda: collects).open()
    assert len(started) == collects
