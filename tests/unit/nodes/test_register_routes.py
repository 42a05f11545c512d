"""The pack's routes in a server that is not as ComfyUI's: the pack loads all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FROZEN = "app = web.Application(); app.freeze(); server = SimpleNamespace(app=app, routes=web.RouteTableDef())"
WITHOUT_APP = "server = SimpleNamespace(routes=web.RouteTableDef())"


@pytest.mark.parametrize("server", [FROZEN, WITHOUT_APP], ids=["frozen", "without app"])
def test_a_server_that_takes_no_receiver_gets_the_routes(server: str) -> None:
    """In a fresh interpreter, because the stand-ins for ComfyUI's modules would stay in this one."""
    program = (
        "import importlib.util, logging, sys, types\n"
        "from types import SimpleNamespace\n"
        "from unittest.mock import MagicMock\n"
        "from aiohttp import web\n"
        f"{server}\n"
        "for name in ('comfy', 'comfy.model_management', 'comfy.cli_args', 'folder_paths', 'comfy_execution',\n"
        "             'comfy_execution.graph_utils', 'comfy_execution.progress', 'comfy_execution.utils'):\n"
        "    sys.modules[name] = MagicMock()\n"
        "sys.modules['server'] = MagicMock(PromptServer=SimpleNamespace(instance=server))\n"
        f"spec = importlib.util.spec_from_file_location('pack', r'{ROOT / '__init__.py'}',\n"
        f"                                              submodule_search_locations=[r'{ROOT}'])\n"
        "sys.modules['pack'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(sys.modules['pack'])\n"
        "sys.modules['pack.nodes'] = nodes = types.ModuleType('pack.nodes')\n"
        f"nodes.__path__ = [r'{ROOT / 'nodes'}']\n"
        "from pack.nodes.comfy.host import register_routes\n"
        "from pack.api import pack_logger\n"
        "logging.basicConfig(stream=sys.stdout, format='%(levelname)s')\n"
        "pack_logger().setLevel(logging.DEBUG)\n"
        "register_routes()\n"
        "assert len(server.routes) > 10\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["DEBUG"]
