"""Runs a Python script that stops when its parent closes the pipe to its standard input, or dies in any way.

`python watched.py SCRIPT ARGUMENTS`. The one way to end a child that works alike on every system, and that leaves no
orphan behind when a test run is killed.

Whatever the parent writes there means "you are up". What was loaded until then stays, and the garbage collector need
not look at it any more: ComfyUI asks for a full collection whenever its cache is emptied, 0.2 s of it for torch alone.
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
    while os.read(0, 1024):  # sys.stdin would hold a lock that the interpreter wants at its end
        gc.freeze()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes a sleeping event loop, too
    else:
        _thread.interrupt_main()
    time.sleep(SECONDS_TO_LEAVE)
    os._exit(1)


def run(command: list[str]) -> None:
    """Run a script with its arguments as Python would, in this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    threading.Thread(target=stop_with_parent, daemon=True).start()
    sys.argv[:] = command
    sys.path.insert(0, str(Path(command[0]).parent))
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        gc.freeze()  # the interpreter's end collects several times


if __name__ == "__main__":
    del sys.path[0]
    run(sys.argv[1:])
