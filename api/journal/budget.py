"""The rules of admission: budget, limiter, and the pace of polls."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, insert, or_, select, update

from ..core import SETTINGS_DIALOG, CancelToken, QuotaError, Text
from .claim import Claim, Claims
from .lease import Heartbeat, Leases, release_unsent
from .model import ClaimLost, JournalError, Purchase
from .opening import JournalTransactions
from .runs.table import put_under_way
from .tables import attempts, limits, owners, request_rows

# Seconds in which the rate counts pictures, and seconds to wait before asking again for a place.
_WINDOW = 60.0
_LOOK_AGAIN = 0.25
# Seconds in which a factor recovers from 0 to 1 after a 429.
_RECOVERY = 600.0
# 429s within so many seconds of the first count as one.
_ONE_429 = 5.0
_SMALLEST_FACTOR = 0.05


def check_budget(connection: Connection, now: float, purchase: Purchase, journal_id: str = "") -> None:
    """Check that the budget of the run and of the day holds the pictures of a purchase; reserves nothing.

    Sandbox pictures do not count. The day begins at midnight in the server's time zone.

    Args:
        now: database time, epoch seconds.
        journal_id: the attempt that asks: what it has reserved already is left out of the sum.

    Raises:
        QuotaError: the budget does not hold these pictures.
    """
    budget, others = purchase.budget, and_(_spent_by(purchase), attempts.c.id != journal_id)
    if budget.per_run is not None and purchase.prompt_id:
        counted = _counted(connection, and_(others, attempts.c.prompt_id == purchase.prompt_id))
        if counted + purchase.pictures > budget.per_run:
            raise _used_up_error(purchase, counted, budget.per_run, _A_RUN, "pictures_per_run")
    if budget.per_day is not None:
        counted = _counted(connection, and_(others, _today(now)))
        if counted + purchase.pictures > budget.per_day:
            raise _used_up_error(purchase, counted, budget.per_day, _A_DAY, "pictures_per_day")


def budget_left(connection: Connection, now: float, purchase: Purchase) -> int | None:
    """How many more pictures the budget of the run and of the day holds; ``None``: no limit. Reserves nothing."""
    budget, mine = purchase.budget, _spent_by(purchase)
    left = []
    if budget.per_run is not None and purchase.prompt_id:
        left.append(budget.per_run - _counted(connection, and_(mine, attempts.c.prompt_id == purchase.prompt_id)))
    if budget.per_day is not None:
        left.append(budget.per_day - _counted(connection, and_(mine, _today(now))))
    return max(0, min(left)) if left else None


def _spent_by(purchase: Purchase) -> ColumnElement[bool]:
    # Attempts count by profile name or by account: after a renamed profile (same account), and after one that was
    # removed and entered again (same name), what was spent before still counts.
    return or_(attempts.c.profile == purchase.profile, attempts.c.account == purchase.account)


def counted_today(connection: Connection, now: float) -> dict[tuple[str, str], int]:
    """Pictures that count against a budget today, by (profile name at that time, account), as in check_budget()."""
    buyer = (attempts.c.profile, attempts.c.account)
    by_buyer = _total().add_columns(*buyer).where(_today(now), _paid()).group_by(*buyer)
    return {(profile, account): int(total) for total, profile, account in connection.execute(by_buyer)}


def _counted(connection: Connection, which: ColumnElement[bool]) -> int:
    return int(connection.execute(_total().where(which, _paid())).scalar_one())


def _total() -> Select[Any]:
    total: Select[Any] = select(func.coalesce(func.sum(attempts.c.counted), 0))
    return total.join(request_rows, request_rows.c.key == attempts.c.key)


def _paid() -> ColumnElement[bool]:
    return request_rows.c.sandbox.is_(False)


def _today(now: float) -> ColumnElement[bool]:
    return attempts.c.admitted_at >= midnight(now)


def midnight(now: float) -> float:
    """The beginning of this day in the server's time zone."""
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


_A_RUN = Text("a run", "每次运行")
_A_DAY = Text("a day", "每天")


def _used_up_error(purchase: Purchase, counted: int, limit: int, period: Text, setting: str) -> QuotaError:
    return QuotaError(
        Text(
            f"This server's budget for the profile {purchase.profile!r} is {limit} pictures {period.en}; {counted} are "
            f"counted already, and this would buy {purchase.pictures} more. Nothing was submitted.",
            f"此服务器为配置 {purchase.profile!r} 设定的预算为{period.zh} {limit} 张图片；已计 {counted} 张，"
            f"本次还要购买 {purchase.pictures} 张。未提交任何内容。",
        ),
        advice=_how_to_raise(setting, purchase.budget.by_environment),
    )


def _how_to_raise(setting: str, by_environment: bool) -> Text:
    if not by_environment:
        return Text(
            f"If that is meant, raise {setting} of this profile in {SETTINGS_DIALOG.en} (0 = no limit).",
            f"如确需购买，请在「{SETTINGS_DIALOG.zh}」中调高该配置的 {setting}（0 = 不限）。",
        )
    variable = f"REMOTE_IMAGE_{setting.upper()}"
    return Text(
        f"If that is meant, raise {setting} of this profile in {SETTINGS_DIALOG.en}, or {variable} in the environment "
        "of the ComfyUI server (0 = no limit), and restart it.",
        f"如确需购买，请在「{SETTINGS_DIALOG.zh}」中调高该配置的 {setting}，"
        f"或在 ComfyUI 服务器的环境变量中调高 {variable}（0 = 不限）并重启。",
    )


def pause_until_room(
    connection: Connection,
    now: float,
    journal_id: str,
    purchase: Purchase,
    is_living: Callable[[Row[tuple[object, ...]]], bool],
) -> float:
    """Seconds to wait before asking again; 0.0 if the limiter has room for this attempt. Reserves nothing.

    Args:
        now: database time, epoch seconds.
        is_living: whether the owner in a row of ``owners`` lives.
    """
    factor = _factor(connection, now, purchase)
    at_once, per_minute = purchase.ceiling.at_once, purchase.ceiling.per_minute
    if at_once is not None and _running(connection, purchase, is_living) >= max(1, math.floor(at_once * factor)):
        return _LOOK_AGAIN
    if per_minute is not None:
        return _pause_for_rate(connection, now, journal_id, purchase, max(1, math.floor(per_minute * factor)))
    return 0.0


def _running(connection: Connection, purchase: Purchase, is_living: Callable[[Row[tuple[object, ...]]], bool]) -> int:
    """The number of places that this account holds and that count together with those of this endpoint.

    Places of dead owners do not count.
    """
    held = and_(
        attempts.c.holds_slot.is_(True),
        attempts.c.account == purchase.account,
        attempts.c.provider == purchase.provider,
    )
    whose = (attempts.c.owner, attempts.c.endpoint)
    limit_of, mine = purchase.ceiling.at_once_of, purchase.ceiling.at_once_of(purchase.endpoint)
    counts = connection.execute(select(*whose, func.count()).where(held).group_by(*whose)).all()
    places = [(owner, count) for owner, endpoint, count in counts if limit_of(endpoint) == mine]
    holders = select(owners).where(owners.c.id.in_({owner for owner, _ in places}))
    rows = {row.id: row for row in connection.execute(holders)}
    return sum(count for owner, count in places if owner in rows and is_living(rows[owner]))


def _pause_for_rate(connection: Connection, now: float, journal_id: str, purchase: Purchase, allowed: int) -> float:
    """Seconds until the rate of this account and endpoint has room for the purchase; 0.0 if it has.

    Args:
        allowed: pictures that may be admitted in any ``_WINDOW`` seconds.
    """
    rows = connection.execute(
        select(attempts.c.admitted_at, attempts.c.pictures, attempts.c.account, attempts.c.endpoint)
        .where(
            attempts.c.admitted_at > now - _WINDOW,
            attempts.c.admitted_at <= now,
            # This attempt may have been admitted before; the service did not accept that try.
            attempts.c.id != journal_id,
        )
        .order_by(attempts.c.admitted_at)
    ).all()
    # Filtered here and not by SQL: with these conditions SQLite reads all rows of the endpoint instead of one minute's.
    rate_of, mine = purchase.ceiling.rate_of, (purchase.account, purchase.ceiling.rate_of(purchase.endpoint))
    recent = [(admitted_at, pictures) for admitted_at, pictures, account, at in rows if (account, rate_of(at)) == mine]
    used = sum(pictures for _, pictures in recent)
    for admitted_at, pictures in recent:
        # A purchase larger than the whole rate is admitted as soon as the window is empty.
        if used + purchase.pictures <= allowed:
            break
        used -= pictures
        wait = admitted_at + _WINDOW - now
        if used + purchase.pictures <= allowed or used == 0:
            return max(0.01, float(wait))
    return 0.0


def _factor(connection: Connection, now: float, purchase: Purchase) -> float:
    """The share (0-1) of the limits that this account may use now; less than 1 for a while after a 429."""
    row = connection.execute(
        select(limits).where(limits.c.account == purchase.account, limits.c.provider == purchase.provider)
    ).first()
    if row is None:
        return 1.0
    return float(min(1.0, row.factor + max(0.0, now - row.changed_at) / _RECOVERY))


def slow_down(connection: Connection, now: float, account: str, provider: str) -> None:
    """Halve the limits of an account at a service after a 429, down to a twentieth; they recover in 10 minutes.

    Calls that are refused within 5 s of the last halving change nothing: they count as one.
    """
    mine = and_(limits.c.account == account, limits.c.provider == provider)
    row = connection.execute(select(limits).where(mine)).first()
    factor = 1.0
    if row is not None:
        if 0 <= now - row.changed_at < _ONE_429:
            return
        factor = min(1.0, row.factor + max(0.0, now - row.changed_at) / _RECOVERY)
        connection.execute(delete(limits).where(mine))
    halved = max(_SMALLEST_FACTOR, factor / 2)
    connection.execute(insert(limits).values(account=account, provider=provider, factor=halved, changed_at=now))


class Limiter:
    """Who may submit now: budget, places of the limiter, and the pace of polls; thread-safe.

    Args:
        check_usable: checks that something paid may be begun: see Journal.
    """

    def __init__(
        self,
        transactions: JournalTransactions,
        leases: Leases,
        claims: Claims,
        heartbeat: Heartbeat,
        check_usable: Callable[[], None],
    ) -> None:
        self._transactions = transactions
        self._leases = leases
        self._claims = claims
        self._heartbeat = heartbeat
        self._check_usable = check_usable
        self._admission_locks: dict[tuple[str, str], threading.Lock] = {}
        self._poll_queues: dict[str, PollPacer] = {}

    def check_budget(self, purchase: Purchase) -> None:
        """Check the budget for a purchase, after releasing what dead processes have reserved; reserves nothing.

        Raises:
            QuotaError: the budget does not hold these pictures.
        """
        with self._transactions.writing() as (connection, now):
            release_unsent(connection, now, self._leases.living(connection, now))
            check_budget(connection, now, purchase)

    def budget_left(self, purchase: Purchase) -> int | None:
        """How many more pictures the budget holds; ``None``: no limit. The sandbox has none."""
        with self._transactions.reading() as (connection, now):
            return budget_left(connection, now, purchase)

    def admit(self, claim: Claim, purchase: Purchase, cancel: CancelToken) -> None:
        """Wait until the limiter has room; then take a place and reserve the pictures, in the transaction that checks.

        May be called again for a claim that has given its place up; its pictures count once.

        Raises:
            QuotaError: the budget does not hold these pictures.
            CallCancelled: cancelled, or the journal is closed.
            ClaimLost: another claim has the attempt.
            JournalError: it could not be written; or as :meth:`Journal.open`.
        """
        queue = (purchase.account, purchase.ceiling.rate_of(purchase.endpoint))
        lock = self._admission_locks.setdefault(queue, threading.Lock())
        # One call of this process at a time asks the database for this account and rate; the others wait here.
        while not lock.acquire(timeout=_LOOK_AGAIN):
            cancel.check()
        try:
            while pause := self._try_to_admit(claim, purchase):
                self._claims.wait_for_change(min(pause, _LOOK_AGAIN))
                cancel.check()
        finally:
            lock.release()

    def _try_to_admit(self, claim: Claim, purchase: Purchase) -> float:
        """Seconds until the limiter should be asked again; 0.0 if the attempt was admitted and that is written."""
        self._check_usable()
        with self._transactions.writing() as (connection, now):
            mine = and_(attempts.c.id == claim.journal_id, attempts.c.fence == claim.fence)
            if connection.execute(select(attempts.c.id).where(mine)).first() is None:
                raise ClaimLost
            check_budget(connection, now, purchase, claim.journal_id)
            pause = pause_until_room(
                connection, now, claim.journal_id, purchase, lambda owner: self._leases.is_living(owner, now)
            )
            if not pause:
                connection.execute(
                    update(attempts)
                    .where(mine)
                    .values(
                        counted=purchase.pictures,
                        holds_slot=True,
                        admitted_at=now,
                        prompt_id=purchase.prompt_id,
                        pictures=purchase.pictures,
                        profile=purchase.profile,
                    )
                )
                if purchase.item is not None:
                    put_under_way(connection, now, purchase.item, claim.attempt.key, claim.journal_id)
            return pause

    def slow_down(self, account: str, provider: str) -> None:
        """Halve the limits of an account after the service answered 429; a failure to write that is ignored."""
        with suppress(JournalError), self._transactions.writing() as (connection, now):
            slow_down(connection, now, account, provider)

    def poll_turn(self, account: str, per_second: int | None, cancel: CancelToken) -> None:
        """Wait for the turn of one poll; ``per_second`` holds for all processes together; raises CallCancelled.

        Each process takes an equal share; it counts the others at each heartbeat.
        """
        queue = self._poll_queues.setdefault(account, PollPacer())
        queue.pass_through(per_second / self._heartbeat.living_processes if per_second else None, cancel)


class PollPacer:
    """Spaces the polls of one account in this process; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def pass_through(self, per_second: float | None, cancel: CancelToken) -> None:
        """Wait for the turn of one poll, in the order of the calls.

        Args:
            per_second: polls a second; ``None`` or 0 = no limit.

        Raises:
            CallCancelled: cancelled while waiting; its turn stays taken.
        """
        if not per_second:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 1.0 / per_second
        cancel.sleep(turn - now)
