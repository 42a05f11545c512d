"""Loads the pack the way ComfyUI does: as a package from a folder, whatever that folder is called.

Tests import it as ``hidream_volcengine`` (``from hidream_volcengine.api import ...``).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACK = "hidream_volcengine"


def _load_pack() -> None:
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


_load_pack()


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """A process knows every key it was ever given; what one test calls a key is a word in the next."""
    from hidream_volcengine.api import redaction

    known = set(redaction._known)
    yield
    redaction._known.clear()
    redaction._known.update(known)
