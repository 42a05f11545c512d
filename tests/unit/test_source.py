"""Rules of the house that a reader of one file would not notice being broken."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hidream_volcengine import api

from tests.thinned import in_one_test

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [path for folder in ("api", "nodes", "emulator") for path in sorted((ROOT / folder).rglob("*.py"))]

# Higher may import lower, never the other way round.
API_LAYERS = [
    {"text", "choices", "redaction", "settings", "keys", "files", "colour_profiles", "received"},
    {"errors", "marks"},
    {"cancel", "profile_file"},
    {"workers", "geometry", "checks", "connections", "wire", "owners", "filesystems", "records", "states"},
    {"picture_files", "time_limits"},
    {"images", "transport", "store", "schema", "profile_values"},
    {"downloads", "padding", "uploads", "resampling", "color_match", "accounts", "environment",
     "diagnosis"},
    {"auth", "polling", "registration", "whereabouts"},
    {"answers", "credentials", "orders", "leases", "pasting", "forgotten"},
    {"attempts", "admission", "sub_tasks"},
    {"hidream", "volcengine", "claims", "standing", "takeover", "thumbnails"},
    {"salvage", "task_list", "profile_check", "waiting"},
    {"access"},
    {"journal"},
    {"submits", "profile_edits"},
    {"templates"},
    {"template_cache"},
    {"template_shelf"},
    {"collecting"},
    {"calls"},
    {"collector"},
    {"__init__"},
]


def relative_imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield node.level, name.split(".")[0]


def test_imports_in_api_point_down() -> None:
    rank = {name: level for level, names in enumerate(API_LAYERS) for name in names}
    files = {path.stem: path for path in (ROOT / "api").glob("*.py")}
    assert files.keys() == rank.keys()
    for name, path in files.items():
        for level, imported in relative_imports(path):
            assert level == 1, f"api/{name}.py imports from outside of api/"
            assert rank[imported] < rank[name], f"api/{name}.py imports {imported}"


def test_nodes_import_from_the_facade_only() -> None:
    for path in (ROOT / "nodes").glob("*.py"):
        for level, imported in relative_imports(path):
            assert level == 1 or imported in ("api", "emulator"), f"{path.name} imports {imported}"


def test_all_names_of_the_facade_are_there() -> None:
    """The imports that mypy sees are the table that is used when the pack runs."""
    tree = ast.parse((ROOT / "api" / "__init__.py").read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in typed.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(typed.body)
    seen = {alias.name: node.module or alias.name for node in imports for alias in node.names}
    assert seen == api._MODULES
    for name in seen:
        assert getattr(api, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # noqa: B018


def test_the_emulator_imports_nothing_of_the_pack() -> None:
    for path in (ROOT / "emulator").glob("*.py"):
        assert all(level == 1 for level, _ in relative_imports(path)), path.name


@in_one_test("path", SHIPPED)
def test_only_relative_imports_of_our_own(path: Path) -> None:
    own = {"api", "nodes", "emulator", "devtools", "tests", "dev"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & own, path


@in_one_test("path", [path for path in SHIPPED if "api" in path.parts or "nodes" in path.parts])
def test_full_width_brackets_are_in_pairs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("（") == text.count("）")


def test_the_pack_imports_without_comfyui_torch_or_threads() -> None:
    """The root and the facade, in a fresh interpreter: no ComfyUI, torch or database, no network module of our own."""
    program = (
        "import importlib.util, sys, threading\n"
        f"spec = importlib.util.spec_from_file_location('pack', r'{ROOT / '__init__.py'}', "
        f"submodule_search_locations=[r'{ROOT}'])\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['pack'] = module\n"
        "spec.loader.exec_module(module)\n"
        "import pack.api\n"
        "heavy = {'torch', 'aiohttp', 'comfy', 'pydantic', 'numpy', 'sqlalchemy', 'pack.api.geometry',\n"
        "         'pack.emulator', 'pack.nodes'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1\n"
        "before = set(sys.modules); pack.api.Placement; loaded = set(sys.modules) - before\n"
        "assert {name for name in loaded if name.startswith('pack.')} == {'pack.api.geometry'}, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_the_map_has_every_file() -> None:
    words = set(re.findall(r"[\w*]+\.(?:py|js)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    files = [path for folder in ("api", "nodes", "web", "devtools") for path in (ROOT / folder).glob("*.[pj][ys]")]
    assert len(files) > 100
    unknown = {path.name for path in files if not any(fnmatch(path.name, word) for word in words)}
    assert unknown <= {"__init__.py"}
