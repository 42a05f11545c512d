"""The archive that the registry would get, unpacked where ComfyUI-Manager puts it, in a ComfyUI with no other pack.

Another folder name than the repository's, no developer's file, a home of its own: what works here works for a user.
A new file of the pack must be known to git (`git add`), or it is in no archive.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from devtools import registry
from devtools.comfyui import checkout
from devtools.comfyui.host import ComfyUI
from devtools.comfyui.workflow import to_prompt
from devtools.environment import ROOT

FOLDER = "hidream-volcengine"  # the registry's name of the pack; everywhere else in these tests it is the repository's
WORKFLOW = "example_workflows/hidream_outpaint.json"

KEPT = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "README.zh-CN.md",
    "SECURITY.md",
    "__init__.py",
    "api",
    "docs",
    "emulator",
    "example_workflows",
    "locales",
    "nodes",
    "pyproject.toml",
    "requirements.txt",
    "web",
}
"""All that is at the top of the archive."""
NO_KEY = re.compile(
    rb"AKLT[\w-]{20,}|\bsk-[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{20,}\.[\w-]{10,}|gh[pousr]_\w{30,}"
    rb"|-----BEGIN [A-Z ]*KEY"
)
NO_SUCH_FILE = re.compile(r"\.(env|pem|key|p12|sqlite3?|db|log|zip|pyc|exe|dll|so)$|credential[^/]*\.json$")
HOME_VARIABLES = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
MEGABYTES = 4

# Of `pixels` only the face, which loads nothing; and the catalog, however many endpoints it has.
AT_START = {
    *("pixels", "core", "core.choices", "core.disk", "core.errors", "core.redaction", "core.text", "core.threads"),
    *("profiles", "profiles.file"),
}
MODULES_PROBE = """
import sys

class Modules:
    RETURN_TYPES = ()
    FUNCTION = "tell"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def tell(self):
        return {"ui": {"text": list(sys.modules)}}

NODE_CLASS_MAPPINGS = {"TestModules": Modules}
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("archive") / "node.zip"
    registry.pack(target)
    return target


@pytest.fixture(scope="module")
def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as packed:
        return packed.namelist()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a careless pack would leave something: HOME, the caches and the temporary folder of ComfyUI's process."""
    home = tmp_path_factory.mktemp("home")
    (home / "tmp").mkdir()
    return home


@pytest.fixture(scope="module")
def comfyui(archive: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(base / "custom_nodes" / FOLDER)
    probe = base / "custom_nodes" / "probe"
    probe.mkdir()
    (probe / "__init__.py").write_text(MODULES_PROBE, encoding="utf-8")
    (base / "input").mkdir()
    shutil.copyfile(checkout.ensure() / "input" / "example.png", base / "input" / "example.png")
    variables = {name: str(home) for name in HOME_VARIABLES}
    variables |= {name: str(home / "tmp") for name in ("TMPDIR", "TEMP", "TMP")}
    with ComfyUI(base, environment=variables, pack=None) as comfyui:
        yield comfyui


def test_nothing_of_a_developer_is_in_it(names: list[str]) -> None:
    assert {name.split("/")[0] for name in names} == KEPT
    assert not [name for name in names if re.search(r"(^|/)(\.|tests?/|test_|conftest|__pycache__|node_modules)", name)]
    assert not [name for name in names if name.startswith("docs/") and not name.endswith(".md")]


def test_everything_that_comfyui_needs_is_in_it(names: list[str]) -> None:
    """The folders that are kept are kept as a whole."""
    for folder in ("api", "nodes", "emulator", "web", "locales", "example_workflows"):
        tracked = {name for name in registry.tracked() if name.startswith(f"{folder}/")}
        assert tracked and tracked <= set(names)


def test_no_key_is_in_it(archive: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            assert not NO_SUCH_FILE.search(entry.filename)
            assert not NO_KEY.search(packed.read(entry)), entry.filename


def test_it_is_small_and_unpacks_where_it_should(archive: Path) -> None:
    assert archive.stat().st_size < MEGABYTES * 2**20
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            assert not entry.filename.startswith("/") and ".." not in entry.filename and "\\" not in entry.filename
            assert entry.external_attr >> 28 != 0o12, f"{entry.filename} is a link"
            assert (ROOT / entry.filename).stat().st_size == entry.file_size


def test_all_its_nodes_are_loaded(comfyui: ComfyUI) -> None:
    assert "(IMPORT FAILED)" not in comfyui.log(), "is a new file not known to git?"
    infos = comfyui.object_info()
    ours = {name for name, info in infos.items() if info["python_module"] == f"custom_nodes.{FOLDER}"}
    assert ours == set(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")))


def test_its_pages_texts_and_examples_are_served(comfyui: ComfyUI, names: list[str]) -> None:
    scripts = comfyui.request("GET", "/extensions").json()
    for name in names:
        if name.startswith("web/"):
            served = f"/extensions/{FOLDER}/{name.removeprefix('web/')}"
            assert comfyui.request("GET", served).content == (ROOT / name).read_bytes()
            assert not name.endswith(".js") or served in scripts
    assert "HiDreamAPIOutpaint" in comfyui.request("GET", "/i18n").json()["zh"]["nodeDefs"]
    examples = {Path(name).stem for name in names if re.fullmatch(r"example_workflows/.*\.json", name)}
    assert set(comfyui.request("GET", "/workflow_templates").json()[FOLDER]) == examples


def test_a_start_loads_nothing_that_only_a_call_needs(comfyui: ComfyUI) -> None:
    comfyui.object_info()
    loaded = comfyui.run({"modules": {"class_type": "TestModules", "inputs": {}}}).texts("modules")
    ours = {name.partition(f"{FOLDER}.api.")[2] for name in loaded if f"{FOLDER}.api." in name}
    assert "profiles.file" in ours
    assert {name for name in ours if name.partition(".")[0] != "catalog"} <= AT_START


def test_an_example_runs_from_it_and_nothing_is_written_elsewhere(
    comfyui: ComfyUI, home: Path, names: list[str]
) -> None:
    installed = comfyui.base / "custom_nodes" / FOLDER
    workflow = json.loads((installed / WORKFLOW).read_text(encoding="utf-8"))
    result = comfyui.run(to_prompt(workflow, comfyui.object_info()), workflow=workflow)
    assert [picture.size for picture in comfyui.images(result)] == [(1024, 768)]
    (file,) = result.files()
    with Image.open(comfyui.base / "output" / file.filename) as saved:
        assert json.loads(saved.text["workflow"]) == workflow

    unpacked = {path.relative_to(installed).as_posix() for path in _files(installed) if "__pycache__" not in path.parts}
    assert unpacked == set(names)
    assert all((installed / name).read_bytes() == (ROOT / name).read_bytes() for name in names)
    written = {path.relative_to(comfyui.base).parts[0] for path in _files(comfyui.base)}
    assert written <= {"comfyui.log", "custom_nodes", "input", "output", "temp", "user"}
    users = {path.relative_to(comfyui.base / "user").parts[0] for path in _files(comfyui.base / "user")}
    assert {name for name in users if not name.startswith("comfyui")} <= {"__hidream_volcengine", "default"}
    assert list(_files(home)) == []


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
