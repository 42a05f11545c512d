"""Rules about the source as a whole, which a reader of one file would not see broken."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hidream_volcengine import api

from tests.thinned import in_one_test

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("api", "nodes", "web", "devtools", "emulator", "tests")
SHIPPED = [path for folder in ("api", "nodes", "emulator") for path in sorted((ROOT / folder).rglob("*.py"))]

# What each package of api/ may import, by the faces of these packages. Inside a package imports are free.
PACKAGES: dict[str, set[str]] = {
    "core": set(),
    "pixels": {"core"},
    "transport": {"core"},
    "catalog": {"core", "pixels"},
    "services": {"core", "pixels", "transport", "catalog"},
    "journal": {"core", "pixels", "transport"},
    "profiles": {"core", "pixels", "transport", "catalog", "services", "journal"},
    "purchase": {"core", "pixels", "transport", "catalog", "services", "journal", "profiles"},
    "templates": {"core", "pixels", "transport", "catalog", "services", "journal", "profiles"},
}


def relative_imports(path: Path) -> Iterator[str]:
    """What a file of the pack imports of it, from the pack's folder on: modules, or names of packages."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            if (ROOT.joinpath(*parts)).is_dir():
                yield from (".".join([*parts, alias.name]) for alias in node.names)
            else:
                yield ".".join(parts)


def is_module(*names: str) -> bool:
    """Whether what is imported is a file or folder of the pack, and no name of a face."""
    path = ROOT.joinpath(*names)
    return path.with_suffix(".py").exists() or path.is_dir()


def test_packages_of_api_import_faces_below_them_only() -> None:
    assert {path.parent.name for path in (ROOT / "api").glob("*/__init__.py")} == PACKAGES.keys()
    for package, allowed in PACKAGES.items():
        for path in (ROOT / "api" / package).rglob("*.py"):
            for imported in relative_imports(path):
                top, *names = imported.split(".")
                assert top == "api" and names, f"{path} imports {imported}"
                # A package as a whole is its face, too.
                by_its_face = names[0] in allowed and (len(names) == 1 or not is_module(*imported.split(".")))
                assert names[0] == package or by_its_face, f"{path} imports {imported}"


def test_no_folder_has_more_than_eleven_modules() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    modules = Counter(
        path.parent.as_posix()
        for path in map(Path, listed.splitlines())
        if path.suffix in (".py", ".js", ".mjs") and path.name != "__init__.py"
    )
    assert len(modules) > 20
    assert {folder: count for folder, count in modules.items() if count > 11} == {}


def test_nodes_import_from_the_facade_only() -> None:
    for path in (ROOT / "nodes").rglob("*.py"):
        for imported in relative_imports(path):
            package, *names = imported.split(".")
            by_its_face = not names or (len(names) == 1 and not is_module(package, *names))
            assert package == "nodes" or (package in ("api", "emulator") and by_its_face), f"{path} imports {imported}"


def test_all_names_of_the_facade_are_there() -> None:
    """The imports that mypy sees are the table that is used when the pack runs."""
    tree = ast.parse((ROOT / "api" / "__init__.py").read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in typed.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(typed.body)
    seen = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}
    names = {name: (module, name) for name, module in api._MODULES.items() if name not in api._WHOLE}
    modules = {name: tuple(module.rsplit(".", 1)) for name, module in api._WHOLE.items()}
    assert seen == names | modules
    for name in seen:
        assert getattr(api, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        api.nothing  # noqa: B018


def test_the_emulator_imports_nothing_of_the_pack() -> None:
    for path in (ROOT / "emulator").rglob("*.py"):
        assert all(imported.startswith("emulator") for imported in relative_imports(path)), path


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
        "heavy = {'torch', 'aiohttp', 'comfy', 'numpy', 'sqlalchemy', 'pack.api.pixels.tensors',\n"
        "         'pack.emulator', 'pack.nodes'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1\n"
        "before = set(sys.modules); pack.api.Placement; loaded = set(sys.modules) - before\n"
        "loaded = {name for name in loaded if name.startswith('pack.')}\n"
        "assert {name.split('.')[2] for name in loaded} == {'core', 'pixels'}, loaded\n"
        "import pack.api.pixels.paste.paste; assert 'scipy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


FIRST_USED_BY_TWO_THREADS = """
import importlib.util, sys, threading, time
import numpy, PIL.Image, pydantic, requests, sqlalchemy, torch
root, first, second = sys.argv[1:]
spec = importlib.util.spec_from_file_location("pack", root + "/__init__.py", submodule_search_locations=[root])
failed = []

def use(name, delay):
    start.wait()
    time.sleep(delay)
    try:
        getattr(sys.modules["pack.api"], name)
    except Exception as problem:
        failed.append(f"{name} after {delay}: {problem!r}")

for step in range(3):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    spec.loader.exec_module(module)
    import pack.api
    start = threading.Barrier(2)
    threads = [threading.Thread(target=use, args=each) for each in ((first, 0), (second, step / 1000))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert not failed, failed
"""


@pytest.mark.parametrize(("first", "second"), [("Pictures", "tensors"), ("Journal", "paste")])
def test_two_threads_may_be_the_first_to_use_the_facade(first: str, second: str) -> None:
    """At different moments of the first import, in a fresh interpreter; no order of imports is a deadlock."""
    command = [sys.executable, "-c", FIRST_USED_BY_TWO_THREADS, str(ROOT), first, second]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_folder_is_named_in_architecture() -> None:
    """And exists if it is named there. A folder of tests may mirror one: `tests/unit/core/` mirrors `api/core/`."""
    named = set(re.findall(r"^\| `([\w/]+)/` \|", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert [folder for folder in sorted(named) if not (ROOT / folder).is_dir()] == []
    modules = (path for top in FOLDERS for path in (ROOT / top).rglob("*.*") if path.suffix in (".py", ".js", ".mjs"))
    folders = {path.parent.relative_to(ROOT).as_posix() for path in modules}
    assert len(folders) > len(FOLDERS)
    mirrors = {folder: re.sub("^tests/(unit|contract|browser)/", "", folder) for folder in folders}
    missing = [folder for folder, of in mirrors.items() if not {folder, of, f"api/{of}", f"web/{of}"} & named]
    assert missing == []
