"""A child program that buys pictures from an emulator, and can be killed, stopped or deprived of modules meanwhile.

An ``Errand`` says what a child does. As a script with an errand (JSON) in its argument it does that one. Without one it
is the *nursery*: it loads the pack once, and forks a child for each errand on its standard input, which takes 20 ms
instead of 1 s. A child appends its results to a file line by line, so that those of a killed child stay.
The pack has no code for this: the signals are sent around SQLAlchemy's own commit.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import hashlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
# Seconds after which a child ends itself, even if the test that started it is gone.
LIFETIME = 180
# Seconds that a test waits at most; only a child that hangs takes so long.
PATIENCE = 90.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Errand:
    """What a child is to buy, and what is to happen to it meanwhile."""

    url: str
    """The emulator's."""
    directory: str
    """The journal's."""
    provider: str = "hidream"
    """``hidream``, ``volcengine``, or ``resumable`` (Volcengine's submit and result)."""
    pictures: tuple[int, ...] = (1,)
    """Seeds of the images that are sent; equal numbers are equal requests."""
    take: int = 0
    count: int = 0
    """0: each image is upscaled. More: image to image, so many pictures of each image."""
    together: bool = True
    """One node (one batch) with a call for each picture; else a node for each picture, side by side."""
    prompt_id: str = "prompt-1"
    journal_url: str = ""
    store: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    at: int = 0
    """Number of the database commit at which the signal ``deadly`` is sent; 0 = never."""
    side: str = "before"
    """Whether it is sent ``before`` or ``after`` the commit."""
    deadly: str = "SIGKILL"
    interrupt_at: str = ""
    """Stage in which the user interrupts."""
    interrupt_when: str = ""
    """A file; once it is there the user interrupts."""
    begin_at: float = 0.0
    """``time.monotonic()``, the same for all processes, so that several begin at once."""
    clock: str = ""
    """A file with the seconds by which the clock of SQLite's database time is off."""
    seconds: float = 60.0
    """Deadline of queue, run and download."""
    file_limit: int = 0
    """Bytes beyond which no file may grow, as on a full disk (with EFBIG in place of ENOSPC); 0 = no limit."""
    missing: tuple[str, ...] = ()
    """Modules that cannot be imported."""
    again: tuple[str, ...] = ()
    """Journal ids for which "submit again" is chosen first."""
    acknowledge: bool = False
    log: str = ""
    report: str = ""


@dataclass(frozen=True)
class Problem:
    """A RemoteImageError, read from the report. ``kinds``: the names of its class and its base classes."""

    kinds: tuple[str, ...]
    en: str
    zh: str
    request_id: str
    task_id: str
    billed: str
    provider: str | None

    def is_a(self, kind: str) -> bool:
        return kind in self.kinds


@dataclass(frozen=True)
class Outcome:
    """What became of one call: pictures (their hashes), an error, an interrupt, or (all empty) not submitted."""

    pictures: tuple[str, ...] = ()
    problem: Problem | None = None
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def delivered(self) -> bool:
        return bool(self.pictures) and self.problem is None


@dataclass(frozen=True)
class Visit:
    """What a child did: its report and its log."""

    outcomes: tuple[Outcome, ...]
    plan: tuple[int, int, int] | None
    """How many requests the batch was to buy, reuse and resume."""
    commits: int
    died: bool
    """It ended before it could report its outcomes."""
    log: str

    @property
    def outcome(self) -> Outcome:
        [only] = self.outcomes
        return only

    @property
    def all_delivered(self) -> bool:
        return bool(self.outcomes) and all(outcome.delivered for outcome in self.outcomes)


# ---- in the test's process


class Child:
    """A running child; its report is read when it has ended."""

    def __init__(self, pid: int, errand: Errand) -> None:
        self.pid = pid
        self.errand = errand

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by a signal and waits for SIGCONT."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
        return False

    @property
    def waits(self) -> bool:
        """Whether a call of it waits, or has waited, for an attempt that another call works on."""
        path = Path(self.errand.report)
        return path.exists() and '"waits_for"' in path.read_text(encoding="utf-8")

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> Visit:
        """Wait for its end, and return its report; a child that does not end in time is killed and fails the test."""
        try:
            until(lambda: not self.alive, seconds)
        except AssertionError:
            self.send(signal.SIGKILL)
            raise AssertionError(f"the child did not end in time:\n{self.log()}") from None
        return self._visit()

    def log(self) -> str:
        path = Path(self.errand.log)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _visit(self) -> Visit:
        lines = Path(self.errand.report).read_text(encoding="utf-8").splitlines()
        told = [json.loads(line) for line in lines]
        if not told:
            raise AssertionError(f"the child said nothing:\n{self.log()}")
        last = told[-1]
        if "crash" in last:
            raise AssertionError(f"the child program failed:\n{last['crash']}\n{self.log()}")
        outcomes = tuple(_outcome(entry) for entry in last.get("outcomes", ()))
        plan = tuple(last["plan"]) if last.get("plan") else None
        return Visit(outcomes, plan, last.get("commits", 0), "outcomes" not in last, self.log())


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    problem = entry.get("problem")
    told = Problem(**{**problem, "kinds": tuple(problem["kinds"])}) if problem else None
    return Outcome(tuple(entry["pictures"]), told, entry["interrupted"], entry["seconds"])


def until(condition: Callable[[], _T], seconds: float = PATIENCE) -> _T:
    """Wait for the first true value of ``condition``, and return it; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("the condition did not become true in time")


@functools.cache
def _nursery() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**_clean_environment(), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    # communicate() closes its standard input, at which it ends.
    atexit.register(process.communicate)
    return process


def _clean_environment() -> dict[str, str]:
    """Return this process's environment without any setting or key of this pack."""
    prefixes = ("REMOTE_IMAGE_", "HIDREAM_", "VOLCENGINE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


_numbers = iter(range(1, 10**9))


def start(errand: Errand, **changes: Any) -> Child:
    """Start a child on an errand; ``changes`` are its fields."""
    complete = _with_files(errand, **changes)
    nursery = _nursery()
    assert nursery.stdin is not None and nursery.stdout is not None
    nursery.stdin.write(json.dumps(asdict(complete)) + "\n")
    nursery.stdin.flush()
    answer = nursery.stdout.readline()
    assert answer, "the nursery is gone"
    return Child(int(answer), complete)


def _with_files(errand: Errand, **changes: Any) -> Errand:
    folder = Path(errand.directory).parent / "children"
    folder.mkdir(parents=True, exist_ok=True)
    number = next(_numbers)
    files: dict[str, Any] = {"log": str(folder / f"{number}.log"), "report": str(folder / f"{number}.report")}
    return replace(errand, **files, **changes)


@contextlib.contextmanager
def program(errand: Errand) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child of this process, not of the nursery. Killed, it is a zombie until the block ends."""
    complete = json.dumps(asdict(_with_files(errand)))
    process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), complete], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def visit(errand: Errand, **changes: Any) -> Visit:
    """Start a child on an errand, wait for its end, and return its report."""
    return start(errand, **changes).wait()


@contextlib.contextmanager
def children(*errands: Errand) -> Iterator[list[Child]]:
    """Run children side by side; those that are alive or stopped at the end of the block are killed."""
    born: list[Child] = []
    try:
        born.extend(start(errand) for errand in errands)
        yield born
    finally:
        for child in born:
            if child.alive:
                child.send(signal.SIGKILL)
                until(lambda child=child: not child.alive)  # type: ignore[misc]


def submits(emulator: Any) -> list[Any]:
    """Return all submits that arrived, accepted or not."""
    return [record for record in emulator.requests if record.phase == "submit"]


def accepted(emulator: Any) -> Counter[str]:
    """Count the accepted submits by what they asked for: the body without its request_id, as JSON."""
    found: Counter[str] = Counter()
    for record in submits(emulator):
        if record.accepted:
            body = {name: value for name, value in record.body.items() if name != "request_id"}
            found[json.dumps(body, sort_keys=True)] += 1
    return found


def polls(emulator: Any) -> list[Any]:
    return [record for record in emulator.requests if record.phase == "result"]


@contextlib.contextmanager
def slow(emulator: Any) -> Iterator[Callable[[], None]]:
    """Let no task finish before the block ends, or before the yielded function is called."""
    running = {"json": {"code": 10000, "data": {"status": "generating"}}}
    emulator.add_fault({"phase": "result", "times": None, "do": {"task_status": [2]}})
    emulator.add_fault({"endpoint": "cvsync2async", "phase": "result", "times": None, "do": running})
    finish = emulator._faults.clear
    try:
        yield finish
    finally:
        finish()


def tasks(errand: Errand) -> list[Any]:
    """Return the task list, read by this process from the errand's journal."""
    from hidream_volcengine.api import Journal

    journal = Journal(_settings(errand), clock=_clock(errand))
    try:
        return journal.task_list.tasks()
    finally:
        journal.close()


def states(errand: Errand) -> list[str]:
    return sorted(task.state for task in tasks(errand))


# ---- in the child's process; it imports the pack within the functions, so that importing this file does not need it


class _Fate:
    """Counts the database commits of this process and sends it a signal at one of them."""

    def __init__(self, errand: Errand, report: Callable[[Mapping[str, Any]], None]) -> None:
        self.commits = 0
        self._errand, self._report = errand, report
        self._lock = threading.Lock()

    def install(self) -> None:
        from sqlalchemy.engine.default import DefaultDialect

        commit = DefaultDialect.do_commit

        def do_commit(dialect: Any, connection: Any) -> None:
            with self._lock:
                self.commits += 1
                number = self.commits
            self._strike(number, "before")
            commit(dialect, connection)
            self._strike(number, "after")

        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]

    def _strike(self, number: int, side: str) -> None:
        if (number, side) == (self._errand.at, self._errand.side):
            self._report({"struck": number, "side": side})
            # To this thread: the kernel may deliver a signal of the process to another thread, while this one goes on.
            signal.pthread_kill(threading.get_ident(), getattr(signal, self._errand.deadly))


def _tell_of_waits(report: Callable[[Mapping[str, Any]], None]) -> None:
    """Report each call that waits for an attempt of another call, before it first looks whether that one has ended."""
    from hidream_volcengine.api.purchase.stop import StoppableCall

    on = StoppableCall.on

    def told(waiting: Any, journal_id: str, claim: Any = None) -> None:
        on(waiting, journal_id, claim)
        if claim is None:
            report({"waits_for": journal_id})

    StoppableCall.on = told  # type: ignore[method-assign]


def _clock(errand: Errand) -> Callable[[], float]:
    if not errand.clock:
        return time.time

    def now() -> float:
        return time.time() + float(Path(errand.clock).read_text(encoding="utf-8") or 0)

    return now


def _settings(errand: Errand) -> Any:
    from hidream_volcengine.api import JournalSettings

    store = Path(errand.store) if errand.store else None
    return JournalSettings(directory=Path(errand.directory), url=errand.journal_url, store=store)


def photo(seed: int) -> Any:
    """Return the image of a seed: noise, 64 × 48."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3)).astype(np.uint8)


def environment_of(errand: Errand) -> dict[str, str]:
    """Return variables with the emulator's keys and address, without a budget or limits unless the errand has some."""
    seconds = {f"REMOTE_IMAGE_{name}_SECONDS": str(errand.seconds) for name in ("QUEUE", "RUN", "DOWNLOAD")}
    free = ("PICTURES_PER_DAY", "PICTURES_PER_RUN", "HIDREAM_AT_ONCE", "HIDREAM_OUTPAINT_PER_MINUTE",
            "HIDREAM_IMG2IMG_PER_MINUTE", "VOLCENGINE_AT_ONCE", "POLLS_PER_SECOND")  # fmt: skip
    return {
        "HIDREAM_BASE_URL": errand.url,
        "HIDREAM_EC_BASE_URL": errand.url,
        "HIDREAM_TOKEN": "sandbox-hidream-token",
        "VOLCENGINE_GATEWAY_API_KEY": "sandbox-gateway-api-key",
        "VOLCENGINE_GATEWAY_BASE_URL": errand.url,
        **({"VOLCENGINE_RESUMABLE": "1"} if errand.provider == "resumable" else {}),
        **{f"REMOTE_IMAGE_{name}": "0" for name in free},
        **seconds,
        **errand.environment,
    }


def _calls(errand: Errand) -> list[Any]:
    from hidream_volcengine.api import PaidCall, Profiles, tensors
    from hidream_volcengine.api.catalog import checked
    from hidream_volcengine.api.catalog.endpoints import hidream_image_to_image, hidream_upscale, volcengine_outpaint
    from hidream_volcengine.api.services import HiDreamService, VolcengineService

    def no_sandbox() -> Any:
        raise AssertionError("the sandbox was not asked for")

    profiles = Profiles(environment_of(errand), no_sandbox)

    def call(seed: int) -> Any:
        service: Any
        request: Any
        pixels = photo(seed)
        printed = tensors.fingerprint(pixels)

        def encoded() -> str:
            return tensors.to_base64(tensors.encode(pixels))

        if errand.provider != "hidream":
            service = VolcengineService(profiles.volcengine("default"), volcengine_outpaint.ENDPOINT)
            request = checked(volcengine_outpaint.Request, binary_data_base64=[printed], top=0.5, left=0.25, seed=7)
            return PaidCall(service, request, lambda: {"binary_data_base64": [encoded()]}, 128 * 96, errand.take)
        account = profiles.hidream("default")
        if errand.count:
            request = checked(hidream_image_to_image.Request, image=printed, prompt="a storm", img_count=errand.count)
            service = HiDreamService(account, hidream_image_to_image.ENDPOINT)
        else:
            request = checked(hidream_upscale.Request, image=printed, upsale_ratio=2)
            service = HiDreamService(account, hidream_upscale.ENDPOINT)
        return PaidCall(
            service, request, lambda: {"image": encoded()}, 128 * 96, errand.take, max(1, errand.count)
        )  # fmt: skip

    return [call(seed) for seed in errand.pictures]


def _problem(error: Any) -> dict[str, Any]:
    text = error.text()
    kinds = [kind.__name__ for kind in type(error).__mro__]
    found = Problem(tuple(kinds), text.en, text.zh, error.request_id, error.task_id, error.billed, error.provider)
    return asdict(found)


class _Purchase:
    """The errand's calls, made as a node makes them."""

    def __init__(self, errand: Errand) -> None:
        from hidream_volcengine.api import Journal, Run

        self._errand = errand
        self.journal = Journal(_settings(errand), clock=_clock(errand))
        self._run = Run(errand.prompt_id)
        self.plan: list[int] | None = None
        self._results: list[Any] = []
        self._outcomes: list[dict[str, Any]] = []

    def make(self) -> list[dict[str, Any]]:
        from hidream_volcengine.api import Batch, BatchOutcome, RemoteImageError

        calls = _calls(self._errand)
        groups = [calls] if self._errand.together else [[call] for call in calls]
        empty = {"pictures": (), "problem": None, "interrupted": False, "seconds": 0.0}
        self._outcomes = [dict(empty) for _ in calls]
        self._results = [None for _ in calls]

        def node(first: int, group: Sequence[Any]) -> None:
            try:
                batch = Batch(self.journal, group, self._run.node().item())
                plan = batch.plan
            except RemoteImageError as error:
                for index in range(first, first + len(group)):
                    self._outcomes[index]["problem"] = _problem(error)
                return
            self.plan = [plan.buy, plan.reuse, plan.resume]
            _side_by_side([functools.partial(self._one, batch, first, index) for index in range(len(group))])
            results = self._results[first : first + len(group)]
            if None not in results and BatchOutcome(results).error(accept_partial=False) is None:
                batch.end(results, delivered=True)

        starts = [sum(len(group) for group in groups[:index]) for index in range(len(groups))]
        _side_by_side([functools.partial(node, first, group) for first, group in zip(starts, groups, strict=True)])
        return self._outcomes

    def _one(self, batch: Any, first: int, index: int) -> None:
        from hidream_volcengine.api import CallCancelled, CallHandle, CancelToken, RemoteImageError

        cancel = CancelToken()
        outcome = self._outcomes[first + index]

        def report(progress: Any) -> None:
            if progress.stage == self._errand.interrupt_at:
                cancel.cancel()

        def interrupted() -> None:
            while not Path(self._errand.interrupt_when).exists():
                time.sleep(0.01)
            cancel.cancel()

        if self._errand.interrupt_when:
            threading.Thread(target=interrupted, daemon=True).start()
        began = time.monotonic()
        try:
            result = batch.run(index, CallHandle(cancel, report))
            self._results[first + index] = result
            if result.error is not None:
                outcome["problem"] = _problem(result.error)
            if result.delivery is not None:
                outcome["pictures"] = [_hash(pixels) for pixels in result.delivery.pictures]
                for error in result.delivery.errors:
                    outcome["problem"] = _problem(error)
        except CallCancelled:
            outcome["interrupted"] = True
        except RemoteImageError as error:
            outcome["problem"] = _problem(error)
        outcome["seconds"] = time.monotonic() - began


def _hash(pixels: Any) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def _side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    problems: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def _prepare(errand: Errand) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.alarm(LIFETIME)
    logging.basicConfig(filename=errand.log, level=logging.DEBUG, format="%(levelname)s %(name)s %(message)s")
    for noisy in ("urllib3", "sqlalchemy", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in errand.missing:
        sys.modules[name] = None  # type: ignore[assignment]
    if errand.file_limit:
        import resource

        # Without the handler the signal that comes with EFBIG would end the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (errand.file_limit, errand.file_limit))
    for name, module in list(sys.modules.items()):
        # Back-offs and pauses between polls, fifty times shorter.
        if name.startswith("hidream_volcengine.api.") and hasattr(module, "jittered"):
            module.jittered = lambda seconds, *_: seconds / 50  # type: ignore[attr-defined]
        if name == "hidream_volcengine.api.purchase.poll":
            module._SECOND = 1 / 50  # type: ignore[attr-defined]
    time.sleep(max(0.0, errand.begin_at - time.monotonic()))


def _live(errand: Errand) -> None:
    """Do the errand in this process, and write the report."""
    lock = threading.Lock()
    with Path(errand.report).open("a", encoding="utf-8") as file:

        def report(what: Mapping[str, Any]) -> None:
            with lock:
                file.write(json.dumps(what, ensure_ascii=False) + "\n")
                file.flush()

        try:
            report({"born": os.getpid()})
            _prepare(errand)
            from hidream_volcengine.api import wait_for_submits

            fate = _Fate(errand, report)
            fate.install()
            _tell_of_waits(report)
            purchase = _Purchase(errand)
            if errand.acknowledge:
                purchase.journal.acknowledge()
            for journal_id in errand.again:
                assert purchase.journal.submit_again(journal_id), journal_id
            outcomes = purchase.make()
            wait_for_submits(5)
            purchase.journal.close()
            told = {"outcomes": outcomes, "plan": purchase.plan, "commits": fate.commits}
            report(told)
        except BaseException:
            report({"crash": traceback.format_exc()})


def _fork(errand: Errand) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        # Close the nursery's pipes in the child, which would keep them open otherwise.
        nothing = os.open(os.devnull, os.O_RDWR)
        for inherited in (0, 1):
            os.dup2(nothing, inherited)
        _live(errand)
    finally:
        os._exit(0)


def _load_pack() -> None:
    """Load the pack by importing tests/conftest.py, and all that the pack imports with its first purchase."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.conftest")
    pack = importlib.import_module("hidream_volcengine.api")
    # A child that imported this itself would take most of its time for it.
    assert pack.Journal and pack.Batch and pack.BackgroundPoller
    for late in ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "numpy.random", "psutil", "netrc"):
        importlib.import_module(late)
    importlib.import_module("PIL.Image").preinit()


def _errand(line: str) -> Errand:
    told: dict[str, Any] = json.loads(line)
    return Errand(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})


def _serve() -> None:
    _load_pack()
    gc.freeze()  # else the first collection in each child would write to, and so copy, all memory pages of the nursery
    # The kernel reaps ended children, so that their process ids do not stay as zombies.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        sys.stdout.write(f"{_fork(_errand(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _load_pack()
        _live(_errand(sys.argv[1]))
    else:
        _serve()
