"""Which owners are certainly dead, shown with real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hidream_volcengine.api.core import threads as owners
from hidream_volcengine.api.core.threads import Process, is_dead, this_process

ROOT = Path(__file__).resolve().parents[3]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
POSIX = pytest.mark.skipif(os.name != "posix", reason="forks")

CHILD = """
import json, sys
from tests import pack  # hidream_volcengine under its name
from hidream_volcengine.api.core import threads
this = getattr(threads, sys.argv[1])()
print(json.dumps([this.machine, this.pid, this.started]), flush=True)
sys.stdin.read()
"""


class Child:
    """A process that has printed its identity, and waits."""

    def __init__(self, told_by: str = "this_process") -> None:
        command = [sys.executable, "-c", CHILD, told_by]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.popen.stdout is not None
        self.process = Process(*json.loads(self.popen.stdout.readline()))

    def stop(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    started = Child()
    yield started
    started.stop()


@pytest.fixture(params=["this_process", "_other_process"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A child told apart by this system's own means, and by those of other systems, which work here, too."""
    if request.param == "_other_process":
        monkeypatch.setattr(owners, "_linux_process", owners._other_process)
        monkeypatch.setattr(owners, "_linux_is_dead", owners._other_is_dead)
        monkeypatch.setattr(owners, "_this", None)
    started = Child(request.param)
    yield started
    started.stop()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_this_process_is_alive_and_always_the_same(either: Child) -> None:
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()
    assert not is_dead(this_process())


def test_a_running_child_is_alive_on_the_same_machine(either: Child) -> None:
    assert either.process.machine == this_process().machine
    assert either.process.pid == either.popen.pid
    assert not is_dead(either.process)


def test_a_killed_child_is_dead(either: Child) -> None:
    either.popen.kill()
    either.popen.communicate()
    assert is_dead(either.process)


def test_an_exited_child_is_dead(either: Child) -> None:
    either.popen.communicate()
    assert either.popen.returncode == 0
    assert is_dead(either.process)


@POSIX
def test_a_zombie_is_dead(either: Child) -> None:
    either.popen.kill()
    # Nobody has waited for it yet, so its pid still exists.
    eventually(lambda: is_dead(either.process))
    os.kill(either.popen.pid, 0)


@pytest.mark.parametrize("started", ["1", "12345.00"])
def test_another_process_with_its_pid_does_not_make_it_alive(either: Child, started: str) -> None:
    assert is_dead(replace(either.process, started=started))


def test_of_another_machine_nothing_is_known(child: Child) -> None:
    child.stop()
    assert is_dead(child.process)
    assert not is_dead(replace(child.process, machine=child.process.machine + "x"))
    assert not is_dead(replace(child.process, machine=""))


@pytest.mark.parametrize("pid", [0, -1, -(2**40), 2**31, 2**70])
def test_a_pid_that_is_none_is_no_proof(pid: int) -> None:
    assert not is_dead(replace(this_process(), pid=pid))


@POSIX
def test_a_fork_is_another_process() -> None:
    before = this_process()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # nothing but this may run in it: it is a copy of pytest
        try:
            here = this_process()
            told = f"{here.pid == os.getpid()} {here.machine == before.machine} {here != before} {is_dead(before)}"
            os.write(writing, told.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    os.waitpid(pid, 0)
    assert told == "True True True False"
    assert this_process() == before


@LINUX
@pytest.mark.parametrize("name", ["a b", "x) Z 1 (", "((", ") ) ) ) )"])
def test_a_command_name_may_look_like_the_fields_behind_it(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    running = subprocess.Popen([program, "60"])
    try:
        eventually(lambda: Path(f"/proc/{running.pid}/comm").read_text() == name[:15] + "\n")
        fields = owners._stat(running.pid)
        assert int(fields[1]) == os.getpid()
        seen = Process(this_process().machine, running.pid, fields[owners._STARTED])
        assert not is_dead(seen)
    finally:
        running.kill()
        running.wait()
    assert is_dead(seen)


@LINUX
def test_processes_that_proc_hides_are_not_dead(child: Child, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    this_process()
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    assert not is_dead(child.process)
    child.stop()
    assert is_dead(child.process)


@LINUX
def test_a_process_whose_first_thread_has_ended_is_alive() -> None:
    program = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: owners._stat(running.pid)[owners._STATE] == "Z")
        seen = Process(this_process().machine, running.pid, owners._stat(running.pid)[owners._STARTED])
        assert not is_dead(seen)
    finally:
        running.kill()
        running.wait()
    assert is_dead(seen)


@LINUX
def test_without_a_trustworthy_proc_no_two_processes_share_a_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "self").symlink_to("1")  # a /proc of another container
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    one, other = owners._linux_process(), owners._linux_process()
    assert one.machine != other.machine
    assert one.machine.startswith("unknown ")


@LINUX
def test_two_containers_are_two_machines() -> None:
    program = CHILD.replace("sys.stdin.read()", "")
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    unshare = ["unshare", "--user", "--pid", "--fork", "--mount-proc"]
    command = [*unshare, sys.executable, "-c", program, "this_process"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or not done.stdout:
        pytest.skip("no namespaces for this user")
    inside = Process(*json.loads(done.stdout))
    assert inside.pid < 10
    assert inside.machine != this_process().machine
    assert inside.machine.split()[0] == this_process().machine.split()[0]
    assert not is_dead(inside)
