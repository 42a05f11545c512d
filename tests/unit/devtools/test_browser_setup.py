"""Where the browser of the browser tests comes from: what is there is used, and what is not is brought, in order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from devtools.environment import SetupError
from devtools.programs import browser


class Machine:
    """One without any browser, whose downloads are fakes; `done` says what was tried on it."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.playwrights = folder / "playwright" / "chrome"
        self.playwrights.parent.mkdir()
        self.done: list[str] = []
        self.is_debian_and_root = True
        self.download: Callable[[], str | None] = lambda: "Error: getaddrinfo ENOTFOUND cdn.playwright.dev"
        self.package: Callable[[], object] = lambda: None

    def program(self, name: str, *, starts: bool = True) -> Path:
        return _script(self.bin / name, starts)

    def run_bounded(self, command: list[str], seconds: float, environment: dict[str, str]) -> str | None:
        assert command[1:4] == ["-m", "playwright", "install"] and command[-1] == "chromium"
        assert seconds > 0 and "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT" in environment
        self.done.append("download")
        return self.download()

    def logged(self, _doing: str, command: list[str]) -> None:
        self.done.append(" ".join(command[:2]))
        if command[1] == "install":
            self.package()


def _script(path: Path, starts: bool) -> Path:
    path.write_text(f"#!/bin/sh\nexit {0 if starts else 127}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.setattr(browser, "_USUAL_PLACES", ())
    own = machine.playwrights
    monkeypatch.setattr(browser, "_playwrights_own", lambda: own if own.is_file() else None)
    monkeypatch.setattr(browser, "_is_debian_and_root", lambda: machine.is_debian_and_root)
    monkeypatch.setattr(browser, "run_bounded", machine.run_bounded)
    monkeypatch.setattr(browser, "logged", machine.logged)
    return machine


def test_one_on_the_path_is_used_and_nothing_is_brought(machine: Machine) -> None:
    chrome = machine.program("google-chrome")
    _script(machine.playwrights, starts=True)
    assert browser.ensure() == chrome
    assert machine.done == []


def test_playwrights_own_is_used_when_it_is_there(machine: Machine) -> None:
    own = _script(machine.playwrights, starts=True)
    assert browser.ensure() == own
    assert machine.done == []


def test_one_that_does_not_start_is_passed_over(machine: Machine) -> None:
    machine.program("chromium", starts=False)
    chrome = machine.program("google-chrome")
    assert browser.ensure() == chrome


def test_the_download_comes_first(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.download = lambda: _script(machine.playwrights, starts=True) and None
    assert browser.ensure() == machine.playwrights
    assert machine.done == ["download"]
    assert "downloading Playwright's own" in capsys.readouterr().out


def test_debians_package_when_the_download_fails(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.package = lambda: machine.program("chromium")
    assert browser.ensure() == machine.bin / "chromium"
    assert machine.done == ["download", "apt-get update", "apt-get install"]
    assert "ENOTFOUND cdn.playwright.dev" in capsys.readouterr().out


def test_debians_package_when_the_download_misses_libraries(machine: Machine) -> None:
    machine.download = lambda: _script(machine.playwrights, starts=False) and None
    machine.package = lambda: machine.program("chromium")
    assert browser.ensure() == machine.bin / "chromium"


def test_what_to_do_where_nothing_helps(machine: Machine) -> None:
    machine.is_debian_and_root = False
    with pytest.raises(SetupError) as told:
        browser.ensure()
    assert machine.done == ["download"]
    for words in ("apt-get install chromium", "playwright install chromium", "BROWSER_PATH", "tried: ", "ENOTFOUND"):
        assert words in str(told.value)


def test_a_failing_package_is_told_too(machine: Machine) -> None:
    def fail() -> None:
        raise SetupError("Installing chromium failed")

    machine.package = fail
    with pytest.raises(SetupError, match=r"(?s)ENOTFOUND.*Installing chromium failed"):
        browser.ensure()


def test_a_path_that_was_chosen_is_the_only_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.program("chromium")
    monkeypatch.setenv("BROWSER_PATH", str(machine.bin / "missing"))
    with pytest.raises(SetupError, match="BROWSER_PATH"):
        browser.ensure()


def test_a_download_without_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    problem = browser.run_bounded(["sh", "-c", f"sleep 600 & echo $! > '{started}'; wait"], 2)
    assert problem == "no end after 2 s"
    assert not psutil.pid_exists(int(started.read_text()))


def test_the_first_error_is_what_went_wrong() -> None:
    program = "print('Downloading'); print('Error: no such host'); print('Error: failed'); raise SystemExit(1)"
    assert browser.run_bounded([sys.executable, "-c", program], 60) == "Error: no such host"
    assert browser.run_bounded([sys.executable, "-c", "raise SystemExit(3)"], 60) == "exit code 3"
    assert browser.run_bounded([sys.executable, "-c", ""], 60) is None
