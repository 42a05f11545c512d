"""A throw-away node pack for benchmarks: ComfyUI's own loader loads another pack in several forks of the process.

It loads the pack BENCH_PACK, BENCH_ROUNDS times, and writes a line of JSON for each into the file BENCH_REPORT.
"""

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from comfy_api.latest import ComfyExtension

import nodes

_PACK, _ROUNDS, _REPORT = (os.environ[f"BENCH_{name}"] for name in ("PACK", "ROUNDS", "REPORT"))


class _Nothing(ComfyExtension):
    async def get_node_list(self):
        return []


async def comfy_entrypoint():
    with suppress(ImportError):
        from comfy_config import config_parser

        # ComfyUI does this for each pack, and the first pack loads the modules for it: do not count them.
        config_parser.extract_node_configuration(_PACK)
    for _ in range(int(_ROUNDS)):
        child = os.fork()
        if not child:
            _report(_load())
            os._exit(0)
        os.waitpid(child, 0)
    return _Nothing()


def _load():
    before, opened, connected = set(sys.modules), [], []

    def audit(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            opened.append(os.fsdecode(arguments[0]))
        elif event in ("socket.connect", "socket.getaddrinfo"):
            connected.append(repr(arguments[-1]))

    sys.addaudithook(audit)
    names = set(nodes.NODE_CLASS_MAPPINGS)
    begun = time.perf_counter(), time.process_time()
    try:
        # The coroutine never waits, so send(None) runs it to its end. It cannot be awaited here: the event loop belongs
        # to the process that was forked.
        nodes.load_custom_node(_PACK, names, module_parent="custom_nodes").send(None)
    except StopIteration as end:
        loaded = bool(end.value)
    else:
        loaded = False
    wall, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
    new = sorted(name for name in set(sys.modules) - before if _PACK not in str(sys.modules[name]))
    read = [name for name in opened if not name.endswith((".py", ".pyc")) and "__pycache__" not in name]
    return {"loaded": loaded, "wall": wall, "cpu": cpu, "new": new, "read": read, "connected": connected}


def _report(found):
    with Path(_REPORT).open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
