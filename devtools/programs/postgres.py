"""A PostgreSQL for the tests: finds its programs, or installs Debian's package, and runs a private cluster.

    with PostgreSQL(folder, password="canary") as server:
        url = server.new_database()
        server.kill()
        server.start()

Tests have it as the fixtures `postgres` and `postgres_url`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
import psycopg
from psycopg import sql

from devtools.comfyui.host import port_or_free
from devtools.environment import ROOT, SetupError, logged, tail

_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian and Ubuntu
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    r"C:\Program Files\PostgreSQL\*\bin",
)
_HOW = (
    "The PostgreSQL tests need its server programs (13 or later), and none were found. Any of these will do:\n"
    "  - install PostgreSQL (Debian, Ubuntu: apt-get install postgresql); the tests start a server of their own\n"
    "  - set POSTGRES_BIN to the folder of initdb, pg_ctl and postgres"
)
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/no-main-cluster.conf")
_USER = "tests"  # the cluster's superuser


class PostgreSQLError(Exception):
    """The server did not start or stop, or does not answer."""


def ensure() -> Path:
    """Return the folder of the server programs; if there are none, install the package (on Debian, as root).

    Raises:
        SetupError: there are none; the text says what to do.
    """
    found = find()
    if found is None and _can_install():
        print("No PostgreSQL here: installing Debian's package `postgresql` (apt-get, about 30 s).", flush=True)
        with _without_main_cluster():
            logged("Updating the package lists", ["apt-get", "update"])
            logged("Installing postgresql", ["apt-get", "install", "-y", "--no-install-recommends", "postgresql"])
        found = find()
    if found is None:
        raise SetupError(_HOW)
    return found


def find() -> Path | None:
    """Return the folder of the installed server programs, of several versions the newest, or None.

    Raises:
        SetupError: POSTGRES_BIN names a folder without them.
    """
    chosen = os.environ.get("POSTGRES_BIN")
    if chosen:
        if not _is_complete(Path(chosen)):
            raise SetupError(f"POSTGRES_BIN is {chosen}, and initdb, pg_ctl and postgres are not all there")
        return Path(chosen)
    on_path = shutil.which("postgres")
    if on_path and _is_complete(Path(on_path).parent):
        return Path(on_path).parent
    return max(filter(_is_complete, _usual_folders()), key=_version, default=None)


def _usual_folders() -> Iterator[Path]:
    for pattern in map(Path, _USUAL_PLACES):
        if pattern.is_absolute():  # a Windows path is not, on POSIX
            yield from Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))


def _is_complete(folder: Path) -> bool:
    return all(shutil.which(name, path=str(folder)) for name in _PROGRAMS)


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(folder)))


def _can_install() -> bool:
    if not _is_root() or shutil.which("apt-get") is None:
        return False
    release = Path("/etc/os-release")
    return release.is_file() and "ID=debian" in release.read_text(encoding="utf-8").splitlines()


@contextlib.contextmanager
def _without_main_cluster() -> Iterator[None]:
    """Keep Debian's package from creating and starting a permanent cluster on the standard port."""
    made = [folder for folder in _NO_CLUSTER.parents if not folder.exists()]
    _NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    _NO_CLUSTER.write_text("create_main_cluster = false\n", encoding="utf-8")
    try:
        yield
    finally:
        _NO_CLUSTER.unlink()
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: the package has put files there
                folder.rmdir()


class PostgreSQL:
    """A cluster in `base`, on 127.0.0.1 only, that ends when this process does, however that ends.

    PostgreSQL refuses to run as root. Started by root it runs as another user, who becomes the owner of `base` and
    must be able to reach it: below pytest's `tmp_path`, which only pytest's user may enter, it cannot start.
    """

    def __init__(self, base: Path, *, password: str = "", fsync: bool = True, programs: Path | None = None) -> None:
        self.base = base
        self.log_file = base / "postgres.log"
        self.password = password or secrets.token_urlsafe()
        self.port = 0
        self._data = base / "data"
        self._fsync = fsync
        self._programs = programs or ensure()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> PostgreSQL:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the database `postgres`; it stays the same over kill() and start()."""
        return self._url("postgres")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise PostgreSQLError("PostgreSQL is not running")
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # The process

    def start(self, timeout: float = 60) -> None:
        """Start the cluster, after creating it if need be, and return when it answers.

        Raises:
            PostgreSQLError: it runs already, ended while starting, or does not answer within ``timeout`` seconds.
        """
        if self.is_running():
            raise PostgreSQLError("PostgreSQL is running already")
        self.kill()  # clear up after a server that ended by itself
        if not self._data.exists():
            self._make_cluster()
        # Below the ports that the system gives to clients: a client could take one of those between kill() and start().
        self.port = self.port or port_or_free(20_000 + secrets.randbelow(12_000))
        command = [
            self._program("postgres"), "-D", str(self._data), f"--port={self.port}", "--listen-addresses=127.0.0.1",
            "--unix-socket-directories=", f"--fsync={'on' if self._fsync else 'off'}",
        ]  # fmt: skip
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.base, env=_environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,  # Ctrl-C reaches this process only
                **_as_unprivileged_user(),
            )  # fmt: skip
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "devtools.programs.postgres", str(self.pid), str(self._data)],
                cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            self._wait_until_up(timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: int = 30) -> None:
        """Shut it down (mode *fast* disconnects clients); kill it if that fails or takes over ``timeout`` seconds."""
        if self._process is not None and self.is_running():
            with contextlib.suppress(PostgreSQLError, subprocess.TimeoutExpired):
                self._run("pg_ctl", "stop", f"--pgdata={self._data}", "--mode=fast", f"--timeout={timeout}")
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill all its processes at once (SIGKILL); start() then has to recover the data."""
        process, self._process = self._process, None
        if process is not None:
            killed = _kill_tree(process.pid) if process.poll() is None else []
            process.wait()
            _wait_until_gone(killed)
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.kill()
            guard.wait()
            guard.stdin.close()

    # Databases

    def new_database(self) -> str:
        """Create an empty database, and return its URL."""
        name = f"test_{next(self._numbers)}"
        # Not template1: it cannot be copied while something, such as autovacuum, is connected to it.
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database of new_database(); clients that are connected to it lose their connections."""
        name = urlsplit(url).path.lstrip("/")
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    # Inside

    def _url(self, database: str) -> str:
        if not self.port:
            raise PostgreSQLError("PostgreSQL was never started")
        return f"postgresql://{_USER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _make_cluster(self) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        password_file = self.base / "password"  # not an argument: other users can read those
        password_file.touch(0o600)
        password_file.write_text(self.password, encoding="utf-8")
        if _is_root():
            for path in (self.base, password_file):
                os.chown(path, *_unprivileged_user())
        sync = () if self._fsync else ("--no-sync",)
        try:
            self._run(
                "initdb", f"--pgdata={self._data}", f"--username={_USER}", f"--pwfile={password_file}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", *sync,
            )  # fmt: skip
        finally:
            password_file.unlink()

    def _wait_until_up(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            if not self.is_running():
                raise PostgreSQLError(f"PostgreSQL ended while starting:\n{tail(self.log_file, 20)}")
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as problem:
                if time.monotonic() > deadline:
                    message = f"PostgreSQL is not up after {timeout:.0f} s ({problem}):\n{tail(self.log_file, 20)}"
                    raise PostgreSQLError(message) from problem
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._program(program), *arguments], cwd=self.base, env=_environment(), stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="replace", timeout=120, **_as_unprivileged_user(),
        )  # fmt: skip
        if done.returncode:
            raise PostgreSQLError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _program(self, name: str) -> str:
        return shutil.which(name, path=str(self._programs)) or name


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _as_unprivileged_user() -> dict[str, Any]:
    """Return the arguments of subprocess that run a program as another user; none if we are not root."""
    if not _is_root():
        return {}
    user, group = _unprivileged_user()
    return {"user": user, "group": group, "extra_groups": ()}


def _unprivileged_user() -> tuple[int, int]:
    """Return the ids of a user who is not root, and of the user's group."""
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return entry.pw_uid, entry.pw_gid


def _environment() -> dict[str, str]:
    """Return this process's environment without libpq's variables (PG...), and with English messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _kill_tree(pid: int) -> list[psutil.Process]:
    """Kill the postmaster and its children; return them, for _wait_until_gone."""
    try:
        postmaster = psutil.Process(pid)
        postmaster.suspend()  # so that it starts no new children meanwhile
        tree = [postmaster, *postmaster.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return tree


def _wait_until_gone(processes: list[psutil.Process], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while any(map(_is_alive, processes)):
        if time.monotonic() > deadline:
            raise PostgreSQLError(f"still there {timeout:.0f} s after kill -9: {processes}")
        time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # in a container nobody may reap it
    except psutil.NoSuchProcess:
        return False


def _guard(pid: int, data: Path) -> None:
    """Kill the cluster and delete its data when the parent has died; runs in a process of its own.

    The parent never closes this process's standard input before it dies, except after killing this process.
    """
    while os.read(0, 1024):
        pass
    _wait_until_gone(_kill_tree(pid))
    shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), Path(sys.argv[2]))
