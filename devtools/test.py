"""`dev.py test`: lint first, then every test (or what the pytest arguments choose)."""

from __future__ import annotations

import subprocess
import sys

from devtools import lint

# These mostly wait for servers and children of their own: side by side, a file each. The others say how soon an
# interrupt is felt, or watch a real ComfyUI's memory, and are left alone.
_INTERRUPTS = "tests/contract/test_cancellation.py"
SIDE_BY_SIDE = ("tests/unit", "tests/contract", f"--ignore={_INTERRUPTS}", "--numprocesses=2", "--dist=loadfile")
ALONE = (_INTERRUPTS, "tests/host", "tests/browser")


def main(arguments: list[str]) -> int:
    failed = lint.main()
    for chosen in [arguments] if arguments else [SIDE_BY_SIDE, ALONE]:
        failed = failed or subprocess.run([sys.executable, "-m", "pytest", *chosen], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
