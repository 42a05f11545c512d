"""`python -m emulator --port N [--latency S] [--faults FILE]`: run the emulator until Ctrl-C."""

import argparse
import json
import logging
import threading
from pathlib import Path

from . import Emulator


def main() -> None:
    parser = argparse.ArgumentParser(prog="emulator", description="A local stand-in for HiDream and Volcengine.")
    parser.add_argument("--port", type=int, default=8900, help="0 = any free port (default %(default)s)")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds per task (default %(default)s)")
    parser.add_argument("--faults", type=Path, help="a JSON list of rules, see README.md")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    faults = json.loads(options.faults.read_text(encoding="utf-8")) if options.faults else ()
    with Emulator(options.port, options.latency, faults=faults) as emulator:
        print(f"listening on {emulator.url}", flush=True)
        try:
            # Wait in slices of 0.5 s: on Windows Ctrl-C does not interrupt a wait without a timeout.
            while not threading.Event().wait(0.5):
                pass
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
