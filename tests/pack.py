"""Loads the pack the way ComfyUI does: as a package from a folder, whatever that folder is called.

Tests import it as ``hidream_volcengine`` (``from hidream_volcengine.api import ...``). A child process that a test
starts imports this module: tests/conftest.py takes thirty times as long, for pytest, hypothesis and SQLAlchemy.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK = "hidream_volcengine"


def _load() -> None:
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


_load()
