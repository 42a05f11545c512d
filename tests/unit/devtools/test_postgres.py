"""The PostgreSQL that tests run against is real, private and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from devtools.environment import ROOT, SetupError
from devtools.programs import postgres as tool
from devtools.programs.postgres import PostgreSQL, PostgreSQLError

PASSWORD = "c@n/ary: ü%41"


@pytest.fixture
def own_server(postgres: PostgreSQL) -> Iterator[PostgreSQL]:
    """One that only this test uses; `postgres` has found the programs, or skipped the test."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as base, PostgreSQL(Path(base), password=PASSWORD) as server:
        yield server


def test_it_answers_to_its_password_only(postgres: PostgreSQL, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() != ("postgres",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_url.replace(postgres.password, "another"))


def test_two_databases_are_apart(postgres: PostgreSQL, postgres_url: str) -> None:
    other = postgres.new_database()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE only_here (number integer)")
    with psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)
        postgres.drop_database(other)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_what_was_committed_survives_a_kill(own_server: PostgreSQL) -> None:
    url = own_server.new_database()
    committed = psycopg.connect(url)
    committed.execute("CREATE TABLE kept (number integer)")
    committed.commit()
    committed.execute("INSERT INTO kept VALUES (1)")
    processes = tree(own_server.pid)
    own_server.kill()
    assert not own_server.is_running()
    assert len(processes) > 2
    assert not any(map(is_alive, processes))
    with pytest.raises(psycopg.OperationalError):
        committed.commit()
    own_server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert "automatic recovery in progress" in own_server.log_file.read_text(encoding="utf-8")


def test_stop_leaves_no_process_behind(own_server: PostgreSQL) -> None:
    connected = psycopg.connect(own_server.url)
    ours = set(psutil.Process().children(recursive=True))
    processes = tree(own_server.pid)
    own_server.stop()
    own_server.stop()
    assert not any(map(is_alive, processes))
    assert len(ours - set(psutil.Process().children(recursive=True))) >= len(processes) + 1  # and its guard
    with pytest.raises(psycopg.OperationalError):
        connected.execute("SELECT 1")
    assert "database system is shut down" in own_server.log_file.read_text(encoding="utf-8")
    assert PASSWORD not in own_server.log_file.read_text(encoding="utf-8")


def test_it_dies_with_the_process_that_started_it(postgres: PostgreSQL) -> None:
    program = (
        "import sys; from pathlib import Path; from devtools.programs.postgres import PostgreSQL\n"
        "server = PostgreSQL(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); sys.stdin.read()"
    )
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as base:
        starter = subprocess.Popen(
            [sys.executable, "-c", program, base], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with starter:
            assert starter.stdout is not None
            processes = tree(int(starter.stdout.readline()))
            starter.kill()
        wait_for(lambda: not any(map(is_alive, processes)))
        wait_for(lambda: not (Path(base) / "data").exists())


def test_a_start_that_fails_says_why(own_server: PostgreSQL) -> None:
    with pytest.raises(PostgreSQLError, match="running already"):
        own_server.start()
    own_server.stop()
    (own_server.base / "data" / "PG_VERSION").unlink()
    with pytest.raises(PostgreSQLError, match="not a valid data directory"):
        own_server.start()
    assert not own_server.is_running()


def test_without_the_programs_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tool, "_USUAL_PLACES", (str(tmp_path / "*" / "bin"),))
    with pytest.raises(SetupError, match="apt-get install postgresql"):
        tool.ensure()
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
    with pytest.raises(SetupError, match="POSTGRES_BIN is "):
        tool.ensure()


@pytest.mark.skipif(os.name != "posix", reason="programs of Windows end in .exe")
def test_the_newest_of_several_versions_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for version, programs in {"9": 3, "15": 3, "16": 2}.items():
        (tmp_path / version / "bin").mkdir(parents=True)
        for name in ("initdb", "pg_ctl", "postgres")[:programs]:
            (tmp_path / version / "bin" / name).touch(0o755)
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tool, "_USUAL_PLACES", (str(tmp_path / "*" / "bin"),))
    assert tool.find() == tmp_path / "15" / "bin"


def test_debians_package_is_told_to_make_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = tmp_path / "postgresql-common" / "createcluster.d" / "none.conf"
    monkeypatch.setattr(tool, "_NO_CLUSTER", setting)
    with tool._without_main_cluster():
        assert setting.read_text(encoding="utf-8") == "create_main_cluster = false\n"
    assert list(tmp_path.iterdir()) == []


def tree(pid: int) -> list[psutil.Process]:
    postmaster = psutil.Process(pid)
    return [postmaster, *postmaster.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
