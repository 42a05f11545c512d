"""The task list: what each line says, what may be done about it, and that it says so quickly."""

from __future__ import annotations

import io
import sys
import threading
import types
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

import pytest
from hidream_volcengine.api import (
    BackgroundPoller,
    CancelToken,
    ConfigurationError,
    Journal,
    JournalSettings,
    RemoteImageError,
    Task,
    TaskRef,
    TaskTimeoutError,
)
from hidream_volcengine.api.journal.claim import Claim
from hidream_volcengine.api.journal.model import ACCEPTED, Attempt, State
from hidream_volcengine.api.journal.rows import put_attempt, put_request
from hidream_volcengine.api.journal.tables import request_rows
from hidream_volcengine.api.purchase.stop import stoppable_call
from PIL import Image
from sqlalchemy import Engine, event, update

from tests.contract import paying
from tests.contract.paying import KEYS, PATIENCE, A, B, C, Clock, Shop, brisk, img2img, park, pictures, upscale
from tests.contract.profiles.test_file_profiles import FileShop
from tests.contract.raw_servers import until

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.comfy.server_journal import BudgetLine, ServerJournal  # noqa: E402


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    brisk(monkeypatch)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as running:
        yield running


def books(shop: Shop) -> ServerJournal:
    made = ServerJournal(lambda: shop.folder, lambda: shop.profiles)
    made._journal = shop.journal
    made._collector = BackgroundPoller(shop.journal, shop.profiles)
    return made


def line(journal: Journal, journal_id: str) -> Task:
    """As the list has it; the same as when it is asked for alone."""
    [listed] = [task for task in journal.task_list.overview(1000).tasks if task.journal_id == journal_id]
    alone = journal.task_list.task(journal_id)
    assert alone is not None and listed == replace(alone, error=listed.error)
    return listed


def only(shop: Shop) -> Task:
    [task] = shop.journal.task_list.tasks()
    return line(shop.journal, task.journal_id)


# ---- what a line says


def test_who_works_on_it_and_whether_it_is_free_of_charge(shop: Shop) -> None:
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    buying.reaches("queued", "running")
    until(lambda: only(shop).state == "submitted", PATIENCE)
    assert (only(shop).waiting, only(shop).sandbox) == (True, False)
    elsewhere = shop.open()
    assert line(elsewhere, only(shop).journal_id).waiting, "another process sees it, too"
    shop.mend()
    buying.wait()
    assert not only(shop).waiting
    sandbox = Shop(shop.folder / "sandbox", profile="sandbox")
    with sandbox:
        sandbox.buy(upscale(sandbox.hidream, A))
        assert only(sandbox).sandbox


def test_one_that_nobody_works_on(shop: Shop) -> None:
    park(shop, "upscale")
    assert (only(shop).state, only(shop).waiting) == ("parked", False)


def test_the_list_is_of_one_moment(tmp_path: Path) -> None:
    with Shop(tmp_path, clock=lambda: 1_780_000_000.25) as shop:
        shop.buy(upscale(shop.hidream, A))
        overview = shop.journal.task_list.overview(10)
        assert overview.now == 1_780_000_000.25 == overview.tasks[0].created_at
        assert not overview.unacknowledged
        (shop.folder / "JOURNAL-WAS-DAMAGED.txt").touch()
        assert shop.journal.task_list.overview(10).unacknowledged
        shop.journal.acknowledge()
        assert not shop.journal.task_list.overview(10).unacknowledged


# ---- budgets


def test_a_profile_with_a_budget(shop: Shop) -> None:
    shop.settings["REMOTE_IMAGE_PICTURES_PER_DAY"] = "50"
    assert books(shop).overview(10)[1] == [BudgetLine("default", 0, 50, 100)]
    shop.buy(img2img(shop.hidream, A, count=3), img2img(shop.hidream, B, count=2))
    assert books(shop).overview(10)[1] == [BudgetLine("default", 5, 50, 100)]


def test_a_profile_without_any_budget_is_shown_once_it_bought(shop: Shop) -> None:
    shop.settings["REMOTE_IMAGE_PICTURES_PER_RUN"] = "0"
    assert books(shop).overview(10)[1] == []
    shop.buy(upscale(shop.hidream, A))
    assert books(shop).overview(10)[1] == [BudgetLine("default", 1, None, None)]


def test_a_profile_that_is_broken_or_gone_keeps_its_count(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A))
    shop.settings["REMOTE_IMAGE_PICTURES_PER_DAY"] = "many"
    assert books(shop).overview(10)[1] == [BudgetLine("default", 1, None, None)]


def test_what_the_sandbox_paints_is_not_counted(tmp_path: Path) -> None:
    with Shop(tmp_path, profile="sandbox") as shop:
        shop.buy(upscale(shop.hidream, A))
        assert shop.journal.task_list.overview(10).today == {}
        assert [row.profile for row in books(shop).overview(10)[1]] == ["default"]


def test_the_day_is_counted_as_the_budget_counts_it(tmp_path: Path) -> None:
    """The last picture that the list says is left can be bought, and no other."""
    with Shop(tmp_path, REMOTE_IMAGE_PICTURES_PER_DAY="3") as shop:
        shop.buy(img2img(shop.hidream, A, count=2))
        [budget] = books(shop).overview(10)[1]
        assert (budget.pictures_today, budget.per_day) == (2, 3)
        assert "2 are counted already" in shop.trouble(img2img(shop.hidream, B, count=2)).what.en
        assert pictures(shop.buy(upscale(shop.hidream, B)))
        assert books(shop).overview(10)[1][0].pictures_today == 3


def test_each_profile_s_day_is_counted_as_the_budget_counts_it(tmp_path: Path) -> None:
    """Also of one that took over another's name: what was bought under that name counts for both."""
    with FileShop(tmp_path, Clock()) as shop:
        shop.add("mine")
        shop.buy(upscale(shop.of("mine"), A))
        shop.rename("mine", "renamed")
        shop.add("mine")
        shop.buy(upscale(shop.of("mine"), B))
        shown = {row.profile: row.pictures_today for row in books(shop).overview(10)[1]}
        for name, counted in (("mine", 2), ("renamed", 1)):
            shop.editor.change(shop.revision, name, {"pictures_per_day": counted}, {})
            assert f"{counted} are counted already" in shop.trouble(upscale(shop.of(name), C)).what.en
            assert shown[name] == counted


# ---- thumbnails


def test_a_thumbnail_of_a_stored_picture(shop: Shop) -> None:
    shop.buy(upscale(shop.hidream, A, ratio=4))
    desk, journal_id = books(shop), only(shop).journal_id
    small = desk.thumbnail(journal_id, 0)
    assert small is not None
    shown = Image.open(io.BytesIO(small))
    assert (shown.format, max(shown.size)) == ("JPEG", 256)
    assert desk.thumbnail(journal_id, 1) is None
    assert desk.thumbnail("rv-0000000000000000", 0) is None
    for path in shop.stored_pictures():
        path.unlink()
    assert desk.thumbnail(journal_id, 0) == small
    assert books(shop).thumbnail(journal_id, 0) is None


# ---- what may be done


OWNERS = ("nobody", "a dead process", "another server", "this server", "a call that can be stopped")
ACTIONS = ("collect", "submit-again", "stop-waiting")


def attempt(number: int, state: State, owner: str | None = None, key: int | None = None) -> Attempt:
    return Attempt(
        journal_id=f"rv-{number:016x}",
        key=f"{number if key is None else key:064x}",
        state=state,
        fence=1,
        owner=owner,
        request_id=f"request-{number}",
        task=TaskRef("HiDream", "hidream upscale", f"task-{number}"),
        result_url="",
        account="HIDREAM_TOKEN",
        profile="default",
        sandbox=False,
        take=0,
        pictures=1,
        expected_pixels=1,
        summary="",
        tried_at=1_780_000_000.0 + number,
        changed_at=1_780_000_000.0,
    )


def owner_id(journal: Journal) -> str:
    return journal._leases.owner


def put(journal: Journal, *rows: Attempt, again: Set[str] = frozenset()) -> None:
    with journal._transactions.writing() as (connection, now):
        for row in rows:
            put_request(connection, row, now)
            put_attempt(connection, row, now)
        connection.execute(update(request_rows).where(request_rows.c.key.in_(again)).values(submit_again=True))


def do(desk: ServerJournal, action: str, journal_id: str) -> bool:
    return {"collect": desk.collect, "submit-again": desk.submit_again, "stop-waiting": desk.stop_waiting}[action](
        journal_id
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_listed_is_what_would_be_taken(shop: Shop, action: str) -> None:
    """Every state, whoever works on it, asked for again or not: the routes do what the list offers, nothing else."""
    desk, elsewhere = books(shop), shop.open()
    servers = (shop.journal, elsewhere)
    for journal in servers:
        # Its heart beats from its first claim on.
        take = int(journal is elsewhere)
        assert isinstance(journal.claim(upscale(shop.hidream, B, take).order("", 0)), Claim)
    owner_of = {
        "nobody": None,
        "a dead process": "dead",
        "another server": owner_id(elsewhere),
        "this server": owner_id(shop.journal),
        "a call that can be stopped": owner_id(shop.journal),
    }
    cases = list(product(State, OWNERS, (False, True)))
    rows = [attempt(number, state, owner_of[owner]) for number, (state, owner, _) in enumerate(cases)]
    with ExitStack() as calls:
        # First, or the heartbeat would give up what nobody claims.
        owned = [(row, journal) for row in rows for journal in servers if row.owner == owner_id(journal)]
        claims = {row: journal._claims.own(row) for row, journal in owned}
        put(shop.journal, *rows, again={row.key for row, (*_, again) in zip(rows, cases, strict=True) if again})
        for row, (_, owner, _) in zip(rows, cases, strict=True):
            if owner == "a call that can be stopped":
                calls.enter_context(pytest.raises(TaskTimeoutError) if action == "stop-waiting" else nullcontext())
                call = calls.enter_context(stoppable_call(shop.journal.stop_registry, CancelToken()))
                call.on(row.journal_id, claims[row])
        listed = {task.journal_id: task for task in shop.journal.task_list.tasks(1000)}
        taken = set()
        for number, case in enumerate(cases):
            offered = action in listed[f"rv-{number:016x}"].can
            assert do(desk, action, f"rv-{number:016x}") == offered, case
            taken |= {case} if offered else set()
    expected = {
        "collect": {(state, owner) for state in ACCEPTED for owner in OWNERS[:2]},
        "submit-again": {(state, owner) for state in (State.AMBIGUOUS, State.FAILED) for owner in OWNERS}
        | {(State.SUBMITTING, owner) for owner in OWNERS[:2]},
        "stop-waiting": {(state, OWNERS[4]) for state in State},
    }[action]
    assert {case[:2] for case in taken} == expected
    assert all(not again for *_, again in taken) or action != "submit-again"


def test_of_several_attempts_only_the_last_is_submitted_again(shop: Shop) -> None:
    """Whatever the other one is: one that brought its picture late, say."""
    desk = books(shop)
    pairs = list(product(State, State))
    states = [state for pair in pairs for state in pair]
    put(shop.journal, *(attempt(number, state, key=number // 2) for number, state in enumerate(states)))
    listed = {task.journal_id: "submit-again" in task.can for task in shop.journal.task_list.tasks(1000)}
    taken = 0
    for number, pair in enumerate(pairs):
        for journal_id in (f"rv-{2 * number:016x}", f"rv-{2 * number + 1:016x}"):
            offered = listed[journal_id]
            assert desk.submit_again(journal_id) == offered, pair
            taken += offered
    assert 0 < taken < len(pairs)


# ---- collect


def test_a_parked_task_is_collected_at_once(shop: Shop) -> None:
    park(shop, "upscale")
    shop.mend()
    with shop.buys(0):
        assert books(shop).collect(only(shop).journal_id)
        until(lambda: shop.states == ["stored"], PATIENCE)
    with shop.sends_nothing():
        assert pictures(shop.buy(upscale(shop.hidream, A)))


def test_one_that_still_runs_stays_parked(shop: Shop) -> None:
    park(shop, "upscale")
    desk, before = books(shop), len(shop.emulator.requests)
    with shop.buys(0):
        for _ in range(2):
            assert desk.collect(only(shop).journal_id)
            until(lambda: shop.journal.task_list.tasks()[0].can == ("collect",), PATIENCE)
    assert {record.phase for record in shop.emulator.requests[before:]} == {"result"}


def test_one_task_is_asked_for_by_one_look(shop: Shop) -> None:
    park(shop, "upscale")
    desk, journal_id = books(shop), only(shop).journal_id
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: desk.collect(journal_id), range(4))) == 1
    until(lambda: shop.journal.task_list.tasks()[0].can == ("collect",), PATIENCE)


def test_a_task_of_the_sandbox_is_collected(tmp_path: Path) -> None:
    with Shop(tmp_path, profile="sandbox") as shop:
        park(shop, "upscale")
        shop.mend()
        assert books(shop).collect(only(shop).journal_id)
        until(lambda: shop.states == ["stored"], PATIENCE)


def test_a_task_that_the_sandbox_forgot_is_not_made_again(tmp_path: Path) -> None:
    with Shop(tmp_path, profile="sandbox") as shop:
        park(shop, "upscale")
        shop.emulator.clear()
        assert books(shop).collect(only(shop).journal_id)
        until(lambda: shop.states == ["refused"], PATIENCE)
        assert shop.submits == []


def test_nobody_is_left_to_ask_for_it(shop: Shop) -> None:
    park(shop, "upscale")
    shop.settings["HIDREAM_TOKEN"] = ""
    with pytest.raises(ConfigurationError, match="no key"):
        books(shop).collect(only(shop).journal_id)
    assert (only(shop).state, only(shop).waiting) == ("parked", False)
    shop.settings["HIDREAM_TOKEN"] = KEYS.hidream_token
    shop.settings["REMOTE_IMAGE_ACCOUNT"] = "another"
    with pytest.raises(RemoteImageError):
        books(shop).collect(only(shop).journal_id)
    assert (only(shop).state, only(shop).waiting) == ("parked", False)


def test_a_look_that_cannot_begin_leaves_the_task_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    park(shop, "upscale")

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    desk = books(shop)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError):
            desk.collect(only(shop).journal_id)
    assert (only(shop).state, only(shop).can) == ("parked", ("collect",))


# ---- changes are announced


def announced(shop: Shop) -> tuple[Journal, list[float]]:
    """A journal beside the shop's, and one entry for each change that it announced."""
    heard: list[float] = []
    journal = Journal(JournalSettings(shop.folder), on_change=lambda: heard.append(1.0))
    shop._journals.append(journal)
    journal.open()
    heard.clear()
    return journal, heard


def test_each_step_of_a_purchase_is_announced_once_it_can_be_seen(shop: Shop) -> None:
    seen: list[str] = []
    journal = Journal(JournalSettings(shop.folder), on_change=lambda: seen.extend(shop.states))
    shop._journals.append(journal)
    paying.buy(journal, [upscale(shop.hidream, A)])
    steps = [state for state, _ in groupby(seen)]
    assert steps == ["prepared", "submitting", "submitted", "done", "stored", "delivered"]


def test_looks_and_heartbeats_are_no_changes(shop: Shop) -> None:
    park(shop, "upscale")
    journal, heard = announced(shop)
    journal.task_list.overview(10)
    journal.look_up(["a"])
    journal._heartbeat.beat()
    journal.limiter.check_budget(upscale(shop.hidream, A).order("", 0).purchase)
    journal.mark_delivered(["rv-0000000000000000"])
    assert not journal.submit_again("rv-0000000000000000")
    assert heard == []
    journal.acknowledge()
    assert len(heard) == 1


def test_a_heartbeat_that_gives_something_up_is_one(shop: Shop) -> None:
    journal, heard = announced(shop)
    put(journal, attempt(1, State.PREPARED, owner="dead"))
    heard.clear()
    journal._heartbeat.beat()
    assert len(heard) == 1 and journal.task_list.tasks()[0].state == "cancelled"


def test_what_was_not_written_is_not_announced(shop: Shop) -> None:
    journal, heard = announced(shop)
    with pytest.raises(ZeroDivisionError), journal._transactions.writing() as (connection, _):
        connection.execute(update(request_rows).values(submit_again=True))
        put_request(connection, attempt(1, State.PREPARED), 0.0)
        raise ZeroDivisionError
    assert heard == []


def test_an_announcement_that_fails_ends_nothing(shop: Shop) -> None:
    def broken() -> None:
        raise RuntimeError("the loop is closed")

    journal = Journal(JournalSettings(shop.folder), on_change=broken)
    shop._journals.append(journal)
    with shop.buys(1):
        assert pictures(paying.buy(journal, [upscale(shop.hidream, A)]))


# ---- quickly


def test_a_long_list_takes_no_more_queries_than_a_short_one(shop: Shop) -> None:
    _fill(shop.journal, 2_000)
    asked: list[str] = []
    engine = shop.journal._transactions.open()._engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    numbers = []
    for limit in (1, 1000):
        asked.clear()
        assert len(shop.journal.task_list.overview(limit).tasks) == limit
        numbers.append(len([query for query in asked if query.startswith("SELECT")]))
    assert numbers[0] == numbers[1] <= 5
    plans = [row for query in asked if query.startswith("SELECT") for row in _plan(engine, query)]
    assert not [row for row in plans if "SCAN attempts" in row and "INDEX" not in row], plans


def _fill(journal: Journal, number: int) -> None:
    """Half of them a second attempt of the one before."""
    states = [State.AMBIGUOUS if index % 3 else State.STORED for index in range(number)]
    put(journal, *(attempt(index, state, key=index // 2) for index, state in enumerate(states)))


def _plan(engine: Engine, query: str) -> list[str]:
    with engine.connect() as connection:
        count = query.count("?")
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (1,) * count).all()]
