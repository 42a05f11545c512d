"""Runs a Python script that stops when its parent closes the pipe to its standard input, or dies in any way.

`python watched.py SCRIPT ARGUMENTS`. A closed pipe ends a child on every system, and also when the test run is killed,
so that no orphan is left.

Any byte that the parent writes there says that ComfyUI is up. What is loaded by then is never freed, so the garbage
collector is told to ignore it: ComfyUI runs a full collection whenever its cache is emptied, and that takes 0.2 s for
torch alone.
"""

import _thread
import gc
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

SECONDS_TO_LEAVE = 15


def stop_with_parent() -> None:
    """Wait until the pipe is closed; then interrupt the main thread, and end the process if that takes too long."""
    while os.read(0, 1024):  # not sys.stdin: a blocked read holds its lock, which Python takes when it exits
        gc.freeze()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes a sleeping event loop, too
    else:
        _thread.interrupt_main()
    time.sleep(SECONDS_TO_LEAVE)
    os._exit(1)


def run(command: list[str]) -> None:
    """Run a script with its arguments as Python would, in this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with SIGINT ignored
    threading.Thread(target=stop_with_parent, daemon=True).start()
    sys.argv[:] = command
    sys.path.insert(0, str(Path(command[0]).parent))
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        gc.freeze()  # Python collects several times when it exits


if __name__ == "__main__":
    del sys.path[0]
    run(sys.argv[1:])
