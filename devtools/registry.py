"""What the ComfyUI registry gets, and what it needs from the pack's owner. With git, and tomli on Python 3.10 (.venv).

  python -m devtools.registry own ADDRESS PUBLISHER   write the owner's values into pyproject.toml
  python -m devtools.registry check                   fails, and says why, while something is missing for publishing
  python -m devtools.registry pack [FILE]             the archive as the registry gets it
  python -m devtools.registry changelog               what CHANGELOG.md says about this version
  python -m devtools.registry changed COMMIT          this version, if COMMIT has another one and it is no .dev
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from devtools.environment import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

PYPROJECT = ROOT / "pyproject.toml"
CHANGELOG = ROOT / "CHANGELOG.md"
_GIT = ("git", "-c", f"safe.directory={ROOT.as_posix()}")  # git refuses a folder of another user's
_OWNERS = ("Repository", "Issues", "PublisherId", "Icon", "Banner")
_REPOSITORY = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+?(?=\.git$|/$|$)")
_PUBLISHER = re.compile(r"[a-z0-9][a-z0-9_-]*")


class NotReadyError(Exception):
    """Something is missing for the registry; the text says what to do."""


# The archive


def shipped() -> list[str]:
    """Return the paths that are in git and not in .comfyignore, sorted, with slashes."""
    ignored = tracked("--cached", "--ignored", "--exclude-from=.comfyignore")
    return sorted(tracked() - ignored)


def tracked(*options: str) -> set[str]:
    """Return the paths that are in git, with slashes; ``options`` of `git ls-files` select among them."""
    return {name for name in _git("ls-files", "-z", *options).split("\0") if name}


def pack(target: Path) -> list[str]:
    """Write the archive and return the names in it."""
    names = shipped()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(ROOT / name, name)
    return names


# The owner's values and the version


def project(text: str | None = None) -> dict[str, Any]:
    """Return pyproject.toml (or ``text``) parsed."""
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8") if text is None else text)


def owned(text: str, address: str, publisher: str) -> str:
    """Return pyproject's text with the owner's values in it.

    Raises:
        NotReadyError: the address or the publisher's id is not valid, or a line is missing.
    """
    found = _REPOSITORY.match(address)
    if found is None:
        raise NotReadyError(f"{address!r} is no address of a GitHub repository (https://github.com/OWNER/REPOSITORY)")
    if not _PUBLISHER.fullmatch(publisher):
        raise NotReadyError(f"{publisher!r} is no publisher's id: small letters, digits, - and _")
    repository = found[0]
    pictures = repository.replace("github.com", "raw.githubusercontent.com", 1) + "/HEAD/docs/"
    values = (repository, f"{repository}/issues", publisher, f"{pictures}icon.png", f"{pictures}banner.png")
    for name, value in zip(_OWNERS, values, strict=True):
        text, count = re.subn(rf'^{name} = ".*"$', f'{name} = "{value}"', text, flags=re.MULTILINE)
        if count != 1:
            raise NotReadyError(f"pyproject.toml should have one line `{name} = ...`, and has {count}")
    return text


def missing(read: dict[str, Any]) -> list[str]:
    """Return what keeps the parsed pyproject from being published, a sentence each; empty if nothing does."""
    values = {**read["project"]["urls"], **read["tool"]["comfy"]}
    problems = [f"{name} in pyproject.toml is empty" for name in _OWNERS if not values.get(name)]
    if problems:
        how = "python -m devtools.registry own https://github.com/OWNER/REPOSITORY PUBLISHER"
        return [*problems, f"The owner fills them in with: {how}"]
    try:
        filled_in = owned("\n".join(f'{name} = ""' for name in _OWNERS), values["Repository"], values["PublisherId"])
    except NotReadyError as problem:
        return [str(problem)]
    wanted = dict(re.findall(r'^(\w+) = "(.*)"$', filled_in, re.MULTILINE))
    return [
        f"{name} in pyproject.toml is {values[name]}, of this repository it would be {wanted[name]}"
        for name in _OWNERS
        if values[name] != wanted[name]
    ]


def changelog(version: str) -> str:
    """Return what CHANGELOG.md says about a version, without its heading.

    Raises:
        NotReadyError: it has no section for it.
    """
    sections = re.split(r"^## ", CHANGELOG.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    section = next((section for section in sections if section.split()[0] == version), None)
    if section is None:
        raise NotReadyError(f"CHANGELOG.md says nothing about {version}")
    return section.partition("\n")[2].strip()


def changed_since(commit: str) -> bool:
    """Whether this version differs from that of the commit; also True with no commit or an unknown one."""
    if not commit:
        return True
    command = [*_GIT, "show", "--end-of-options", f"{commit}:pyproject.toml"]
    before = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    return before.returncode != 0 or project(before.stdout)["project"]["version"] != project()["project"]["version"]


def _git(*arguments: str) -> str:
    done = subprocess.run([*_GIT, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return done.stdout


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("own", "check", "pack", "changelog", "changed"))
    parser.add_argument("arguments", nargs="*")
    chosen = parser.parse_args(arguments)
    version = project()["project"]["version"]
    try:
        if chosen.command == "own":
            written = owned(PYPROJECT.read_text(encoding="utf-8"), *chosen.arguments)
            PYPROJECT.write_text(written, encoding="utf-8", newline="\n")
        elif chosen.command == "check":
            changelog(version)
            problems = missing(project())
            if problems:
                raise NotReadyError("\n".join(problems))
        elif chosen.command == "pack":
            target = Path(*chosen.arguments or (f"hidream-volcengine-{version}.zip",))
            print(f"{target}: {len(pack(target))} files, {target.stat().st_size} bytes")
        elif chosen.command == "changelog":
            print(changelog(version))
        elif not version.endswith(".dev") and changed_since(*chosen.arguments):
            print(version)
    except NotReadyError as problem:
        print(f"Not ready for the registry:\n{problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
