"""What the ComfyUI registry asks of a pack: its fields, its pictures, and its standards for code, one by one.

https://docs.comfy.org/registry/specifications and https://docs.comfy.org/registry/standards, read in November 2026.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from devtools import registry
from devtools.environment import ROOT
from tests.thinned import in_one_test

SHIPPED = registry.shipped()
PYTHON = [name for name in SHIPPED if name.endswith(".py")]
SCRIPTS = [name for name in SHIPPED if name.endswith((".js", ".mjs"))]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
READ = registry.project()
PROJECT, COMFY = READ["project"], READ["tool"]["comfy"]
ICON, BANNER = ROOT / "docs" / "icon.png", ROOT / "docs" / "banner.png"
ADDRESS, PUBLISHER = "https://github.com/someone/their-fork", "some-publisher"

RUNS_CODE = {"eval", "exec", "compile", "execfile", "__import__", "breakpoint"}
RUNS_MODULES = {
    "subprocess", "multiprocessing", "pty", "pip", "ensurepip", "venv", "importlib", "imp", "runpy", "pkgutil",
    "zipimport", "code", "codeop", "ctypes", "cffi", "pickle", "cPickle", "marshal", "shelve", "dill",
    "cloudpickle", "builtins",
}  # fmt: skip
RUNS_PROGRAMS = re.compile(r"system|popen|startfile|fork|forkpty|(exec|spawn|posix_spawn)[a-z]*")
# What ComfyUI itself installs, and the one requirement of the pack.
COMES_WITH_COMFYUI = {"PIL", "aiohttp", "numpy", "psutil", "pydantic", "scipy", "sqlalchemy", "torch"}
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server"}
REQUIRED = {"requests", "urllib3"}  # the second is how the first one connects
CALLS_OUT = {"requests", "urllib3", "http.client", "urllib.request", "ftplib", "smtplib", "imaplib", "xmlrpc.client"}
METHODS = {"get", "post", "put", "patch", "delete", "head", "options", "view", "route", "static"}
ADDS_ROUTES = {f"add_{name}" for name in METHODS} | {"add_routes", "add_subapp"}


def text(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name))


def imported(name: str) -> Iterator[str]:
    """The modules of others that a file imports."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# pyproject.toml


def test_name() -> None:
    assert re.fullmatch(r"[A-Za-z](?:[-_.]?[A-Za-z0-9])*", PROJECT["name"])
    assert len(PROJECT["name"]) < 100
    assert "comfyui" not in PROJECT["name"].lower()


def test_fields_of_the_project() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev)?", PROJECT["version"])
    assert PROJECT["description"] == " ".join(PROJECT["description"].split())
    assert PROJECT["license"] == {"file": "LICENSE"}
    assert text("LICENSE").startswith("MIT License")
    assert "License :: OSI Approved :: MIT License" in PROJECT["classifiers"]
    assert PROJECT["requires-python"] == ">=3.10"
    assert (ROOT / PROJECT["readme"]).is_file()


def test_classifiers_are_those_that_the_registry_knows() -> None:
    """One unknown "Environment ::" or "Operating System ::", and it takes none of them."""
    told = [name for name in PROJECT["classifiers"] if name.startswith(("Operating System", "Environment"))]
    assert told == ["Operating System :: OS Independent"], "the pack needs no accelerator"


def test_fields_of_the_registry() -> None:
    assert set(COMFY) == {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"}
    assert set(PROJECT["urls"]) == {"Repository", "Issues"}
    assert COMFY["DisplayName"] == "HiDream & Volcengine"
    assert re.fullmatch(r">=\d+\.\d+\.\d+", COMFY["requires-comfyui"])


def test_dependencies_are_few_and_the_same_everywhere() -> None:
    """ComfyUI-Manager installs requirements.txt, the registry shows pyproject's."""
    assert text("requirements.txt").split() == PROJECT["dependencies"]
    assert [re.split(r"[<>=~!]", name)[0] for name in PROJECT["dependencies"]] == ["requests"]


# What the owner fills in


def without_owner() -> str:
    line = re.compile(r'^(Repository|Issues|PublisherId|Icon|Banner) = ".*"$', re.MULTILINE)
    return line.sub(r'\1 = ""', text("pyproject.toml"))


def test_the_owners_values_are_all_there_or_none_of_them_is() -> None:
    """Before the first release there is none; nobody else's address may ever be there."""
    values = [*PROJECT["urls"].values(), COMFY["PublisherId"], COMFY["Icon"], COMFY["Banner"]]
    assert not any(values) or registry.missing(READ) == []


def test_without_the_owners_values_nothing_is_published() -> None:
    *problems, how = registry.missing(registry.project(without_owner()))
    assert [problem.split()[0] for problem in problems] == ["Repository", "Issues", "PublisherId", "Icon", "Banner"]
    assert "devtools.registry own" in how


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_the_owner_fills_in_five_values_and_nothing_else(address: str) -> None:
    before = text("pyproject.toml")
    written = registry.owned(before, address, PUBLISHER)
    read = registry.project(written)
    assert registry.missing(read) == []
    assert read["project"]["urls"] == {"Repository": ADDRESS, "Issues": f"{ADDRESS}/issues"}
    assert read["tool"]["comfy"]["PublisherId"] == PUBLISHER
    pictures = "https://raw.githubusercontent.com/someone/their-fork/HEAD"
    assert read["tool"]["comfy"]["Icon"] == f"{pictures}/{ICON.relative_to(ROOT).as_posix()}"
    assert read["tool"]["comfy"]["Banner"] == f"{pictures}/{BANNER.relative_to(ROOT).as_posix()}"
    assert sum(one != other for one, other in zip(written.split("\n"), before.split("\n"), strict=True)) <= 5
    assert registry.owned(written, address, PUBLISHER) == written


@pytest.mark.parametrize(
    ("address", "publisher"),
    [
        ("", PUBLISHER),
        ("http://github.com/someone/their-fork", PUBLISHER),
        ("https://github.com/someone", PUBLISHER),
        ("https://example.com/someone/their-fork", PUBLISHER),
        ('https://github.com/someone/x"\n', PUBLISHER),
        (ADDRESS, ""),
        (ADDRESS, "Some Publisher"),
        (ADDRESS, '"'),
    ],
)
def test_what_is_no_address_or_publisher_is_refused(address: str, publisher: str) -> None:
    with pytest.raises(registry.NotReadyError):
        registry.owned(text("pyproject.toml"), address, publisher)


def test_pictures_of_another_repository_are_noticed() -> None:
    read = registry.project(registry.owned(text("pyproject.toml"), ADDRESS, PUBLISHER))
    read["tool"]["comfy"]["Icon"] = read["tool"]["comfy"]["Icon"].replace("their-fork", "another")
    assert [problem.split()[0] for problem in registry.missing(read)] == ["Icon"]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another pyproject.toml for the commands."""
    path = tmp_path / "pyproject.toml"
    path.write_text(without_owner(), encoding="utf-8")
    monkeypatch.setattr(registry, "PYPROJECT", path)
    return path


def test_publishing_fails_until_the_owner_has_given_his_values(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert registry.main(["check"]) == 1
    assert "PublisherId in pyproject.toml is empty" in capsys.readouterr().err
    assert registry.main(["own", "https://example.com", PUBLISHER]) == 1
    assert registry.main(["own", ADDRESS, PUBLISHER]) == 0
    assert registry.main(["check"]) == 0
    copy.write_text(copy.read_text(encoding="utf-8").replace(PROJECT["version"], "9.9.9", 1), encoding="utf-8")
    capsys.readouterr()
    assert registry.main(["check"]) == 1
    assert "CHANGELOG.md says nothing about 9.9.9" in capsys.readouterr().err


# Versions


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == PROJECT["version"]
    released = [versions[0].removesuffix(".dev"), *versions[1:]]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in released)
    numbers = [tuple(map(int, version.split("."))) for version in released]
    assert numbers == sorted(set(numbers), reverse=True)


def test_the_registry_is_told_what_is_new() -> None:
    told = registry.changelog(PROJECT["version"])
    assert "## " not in told.replace("### ", "")
    assert len(told) > 200
    with pytest.raises(registry.NotReadyError, match=r"9\.9\.9"):
        registry.changelog("9.9.9")


def test_only_another_version_than_before_is_new(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy.write_text('[project]\nname = "x"\nversion = "9.9.9"\n', encoding="utf-8")
    assert registry.main(["changed", "HEAD"]) == 0
    assert capsys.readouterr().out == "9.9.9\n"
    copy.write_text('[project]\nname = "x"\nversion = "9.9.9.dev"\n', encoding="utf-8")
    assert registry.main(["changed", "HEAD"]) == 0
    assert capsys.readouterr().out == "", "what is under development is not published"
    copy.write_text(registry._git("show", "HEAD:pyproject.toml"), encoding="utf-8")
    assert registry.main(["changed", "HEAD"]) == 0
    assert capsys.readouterr().out == ""


def test_a_version_is_new_if_nobody_knows_the_one_before() -> None:
    assert registry.changed_since("")
    assert registry.changed_since("0" * 40)
    assert registry.changed_since("--output=somewhere")


# Icon and banner


@pytest.mark.parametrize(
    ("path", "size", "limit"),
    # The icon is square and at most 400 wide, the banner 21 to 9.
    [(ICON, (400, 400), 40_000), (BANNER, (1260, 540), 100_000)],
)
def test_pictures(path: Path, size: tuple[int, int], limit: int) -> None:
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", size)
    assert path.stat().st_size <= limit


# The standards for code, over every file that is shipped


@in_one_test("name", PYTHON)
def test_no_code_from_text(name: str) -> None:
    """No eval, no exec, and nothing that comes to the same."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Name):
            assert node.id not in RUNS_CODE, f"{name}:{node.lineno}"
    runs = {module.split(".")[0] for module in imported(name)} & RUNS_MODULES
    if name == "api/__init__.py":
        # Its lazy names: modules beside it only, out of a table of constants.
        assert "from importlib import import_module" in text(name)
        body = text(name).partition("def __getattr__")[2].splitlines()
        assert [line.strip() for line in body if "path" in line or "import_module" in line] == [
            "path = __name__",
            'path = f"{path}.{part}"',
            "module = import_module(path)",
        ]
        assert 'for part in _MODULES[name].split("."):' in text(name)
        assert text(name).count("import_module") == 2
        runs.remove("importlib")
    assert not runs, name


@in_one_test("name", PYTHON)
def test_no_other_program_is_run_and_nothing_installed(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute):
            of_the_system = ast.unparse(node.value) in ("os", "posix", "nt")
            assert not (of_the_system and RUNS_PROGRAMS.fullmatch(node.attr)), f"{name}:{node.lineno}"
            assert not node.attr.startswith("create_subprocess"), f"{name}:{node.lineno}"
    from_os = [module.split(".")[1] for module in imported(name) if module.startswith("os.")]
    assert not [member for member in from_os if RUNS_PROGRAMS.fullmatch(member)], name


@in_one_test("name", SCRIPTS)
def test_no_code_from_text_in_the_browser(name: str) -> None:
    assert not re.search(r"\beval\s*\(|\bFunction\s*\(|\bimport\s*\((?![\"']\.)", text(name))
    assert not re.search(r"document\.write|insertAdjacentHTML", text(name))
    assert not re.search(r"\.(inner|outer)HTML\s*[+]?=|set(Timeout|Interval)\(\s*[\"'`]", text(name))


@in_one_test("name", SCRIPTS)
def test_the_browser_loads_only_what_this_comfyui_serves(name: str) -> None:
    for source in re.findall(r"""(?:\bfrom|^import)\s+["']([^"']+)["']""", text(name), re.MULTILINE):
        assert source.startswith(("./", "../", "/scripts/")), f"{name} imports {source}"
    assert not re.search(r"""["'`](?:https?|wss?|blob|data:text)?:?//""", text(name)), name
    assert not re.search(r"\bXMLHttpRequest\b|\bnew WebSocket\b|\bsendBeacon\b|\bEventSource\b", text(name)), name


@in_one_test("name", [*PYTHON, *SCRIPTS])
def test_everything_can_be_read(name: str) -> None:
    """No obfuscation: short lines, no packed text, one statement a line (ruff's E702), no characters that hide."""
    for number, line in enumerate(text(name).split("\n"), 1):
        assert len(line) <= 200, f"{name}:{number}"
        assert not re.search(r"[A-Za-z0-9+/=_-]{120,}|(\\x[0-9a-fA-F]{2}){8,}", line), f"{name}:{number}"
        assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]", line), f"{name}:{number}"


def test_only_files_that_can_be_looked_at_are_shipped() -> None:
    kinds = {Path(name).suffix for name in SHIPPED}
    assert kinds <= {".py", ".js", ".mjs", ".css", ".json", ".md", ".toml", ".txt", ".jpg", ".png", ".webp", ""}
    assert [name for name in SHIPPED if not Path(name).suffix] == ["LICENSE"]


# Network


def test_hosts_are_declared() -> None:
    """The hosts in the source are those of the table in SECURITY.md, which says why."""
    table = [line.split("|")[1] for line in text("SECURITY.md").splitlines() if line.startswith("| `")]
    declared = {host for cell in table for host in re.findall(r"`([^`]+)`", cell)}
    address = re.compile(r"(?:https?|wss?)://([A-Za-z0-9.-]+)")
    used = {host for name in (*PYTHON, *SCRIPTS) for host in address.findall(text(name))}
    assert used - {"host"} == declared  # "https://host[:port]" explains the form


@in_one_test("name", PYTHON)
def test_requirements_are_declared(name: str) -> None:
    others = {module.split(".")[0] for module in imported(name)} - set(sys.stdlib_module_names)
    allowed = COMES_WITH_COMFYUI | (COMFYUI if name.startswith("nodes/") else set())
    assert others <= allowed | (REQUIRED if name.startswith("api/") else set()), name


@in_one_test("name", [name for name in PYTHON if not name.startswith("api/")])
def test_only_the_shared_module_calls_out(name: str) -> None:
    assert not set(imported(name)) & CALLS_OUT
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("ClientSession", "create_connection", "open_connection"), f"{name}:{node.lineno}"


def test_the_stand_in_listens_on_this_machine_only() -> None:
    hosts = [
        ast.literal_eval(node.value)
        for name in PYTHON
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["HOST"]
    ]
    assert hosts == ["127.0.0.1"]
    assert not [name for name in PYTHON if re.search(r"0\.0\.0\.0[\"']|[\"']::[\"']", text(name))]


# Routes in ComfyUI's own server


def test_every_route_has_the_guard() -> None:
    found = []
    for name in PYTHON:
        if not name.startswith("emulator/"):  # that one has a server of its own
            found += [(name, where) for where in _routes(name)]
    assert found, "the routes moved, and this test with them"


def _routes(name: str) -> Iterator[str]:
    decorators: dict[int, list[str]] = {}
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = [ast.unparse(decorator) for decorator in node.decorator_list]
            decorators |= {id(decorator): told[number + 1 :] for number, decorator in enumerate(node.decorator_list)}
    for node in ast.walk(tree(name)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        adds = node.func.attr in ADDS_ROUTES
        if adds or (node.func.attr in METHODS and ast.unparse(node.func.value).split(".")[-1] in ("routes", "router")):
            guards = [*decorators.get(id(node), []), *(ast.unparse(argument) for argument in node.args[1:])]
            assert any("guard" in guard.lower() for guard in guards), f"{name}:{node.lineno} adds a route without guard"
            yield ast.unparse(node)


# GitHub's workflows


def _workflow(path: Path) -> dict[str, Any]:
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    read["on"] = read.pop(True)  # YAML's word for yes
    return read


def _steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_there_are_three_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == ["publish.yml", "test.yml", "thorough.yml"]


def test_every_case_runs_every_night() -> None:
    workflow = _workflow(ROOT / ".github" / "workflows" / "thorough.yml")
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch"}
    assert [step["run"] for step in _steps(workflow) if "run" in step] == ["python dev.py test --thorough"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_read_and_nothing_else(path: Path) -> None:
    workflow = _workflow(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert not [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert "pull_request_target" not in workflow["on"]
    for job in workflow["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 90


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_tools_are_pinned(path: Path) -> None:
    """With all that they bring along, by hash and without building: in the publish job they stand beside the secret."""
    for step in _steps(_workflow(path)):
        for command in re.findall(r".*\b(?:pip3?|pipx|uvx?|npm|npx)\b.*", step.get("run", "")):
            found = re.fullmatch(
                r"python -m pip install --require-hashes --no-deps --only-binary=:all: -r (\S+\.lock)", command
            )
            assert found, command
            lines = text(found[1]).replace("\\\n", "").splitlines()
            pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
            assert len(pins) > 20
            for pin in pins:
                assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*(\s+--hash=sha256:[0-9a-f]{64})+\s*", pin), pin


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(path: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert uses
    for action, comment in uses:
        if not action.startswith("./"):
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    for step in _steps(_workflow(path)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_of_an_event_becomes_a_command(path: Path) -> None:
    assert not [step["run"] for step in _steps(_workflow(path)) if "${{" in step.get("run", "")]


def test_everything_is_tested_on_all_systems_and_pythons() -> None:
    workflow = _workflow(ROOT / ".github" / "workflows" / "test.yml")
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "windows", "macos"}
    classifiers = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
    assert matrix["python"] == classifiers == ["3.10", "3.11", "3.12", "3.13"]
    assert "python dev.py test" in [step.get("run") for step in _steps(workflow)]
    assert "secrets." not in text(".github/workflows/test.yml")


def test_only_a_new_version_is_published_and_only_after_the_tests() -> None:
    workflow = _workflow(ROOT / ".github" / "workflows" / "publish.yml")
    assert workflow["on"] == {"push": {"branches": ["main"], "paths": ["pyproject.toml"]}, "workflow_dispatch": None}
    jobs = workflow["jobs"]
    commands = [step.get("run", "") for step in jobs["version"]["steps"]]
    assert "registry changed" in commands[2] and commands[3] == "python -m devtools.registry check"
    assert jobs["publish"]["needs"] == ["version", "test"]
    assert jobs["test"]["if"] == jobs["publish"]["if"] == "needs.version.outputs.new"
    holders = [step for step in _steps(workflow) if "secrets." in str(step)]
    assert [step["name"] for step in holders] == ["Publish"]
