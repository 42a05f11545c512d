"""The fork server that the tests' ComfyUIs are forked from (devtools/comfyui/child.py)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from devtools.comfyui import child
from devtools.environment import ROOT

_SHARING = """
import subprocess, sys
from devtools.comfyui import child
child._LIBRARIES.clear()  # loading them is not what is tested
child.share()
for name in sys.argv[2:]:
    subprocess.run([sys.executable, "-c", sys.argv[1], name], check=True)
"""
_ONE_OF_ITS_CHILDREN = """
import os, sys
from pathlib import Path
from devtools.comfyui import child
log = Path(sys.argv[1])
log.touch()
process = child.PreloadedProcess([str(log.parent / "script.py")], log.parent, os.environ, log)
assert process.wait(60) == 3, log.read_text()
process.close_stdin()
"""


@pytest.mark.skipif(not child._CAN_SHARE, reason="a fork server that can be shared")
def test_children_of_the_process_that_shares_it_use_one_fork_server(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, sys; print(os.getppid()); sys.exit(3)", encoding="utf-8")
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    alone = {name: value for name, value in os.environ.items() if name != child._SHARED}
    command = [sys.executable, "-c", _SHARING, _ONE_OF_ITS_CHILDREN, *map(str, logs)]
    subprocess.run(command, cwd=ROOT, env=alone, check=True, timeout=120)
    one, two = (int(log.read_text(encoding="utf-8")) for log in logs)
    assert one == two != os.getpid()
    deadline = time.monotonic() + 60
    while _is_running(one):  # it ends with the process that shared it
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
