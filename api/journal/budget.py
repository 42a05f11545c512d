"""May this be bought now? Budget and limiter in one look, inside one transaction of the journal."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, insert, or_, select

from ..core import SETTINGS_DIALOG, CancelToken, QuotaError, Text
from .model import Purchase
from .tables import attempts, limits, owners, request_rows

_WINDOW = 60.0
_LOOK_AGAIN = 0.25
# After a 429 the limits come back to their full size within this time.
_RECOVERY = 600.0
_ONE_429 = 5.0
_SMALLEST_FACTOR = 0.05


def check_budget(connection: Connection, now: float, purchase: Purchase, journal_id: str = "") -> None:
    """
    Args:
        journal_id: the attempt that asks; what it has reserved by an earlier try counts once.

    Raises:
        QuotaError: the budget does not hold these pictures.
    """
    # A profile that was renamed has spent what it spent; so has one that was removed and entered again.
    spent_by = or_(attempts.c.profile == purchase.profile, attempts.c.account == purchase.account)
    budget, others = purchase.budget, and_(spent_by, attempts.c.id != journal_id)
    if budget.per_run is not None and purchase.prompt_id:
        counted = _counted(connection, and_(others, attempts.c.prompt_id == purchase.prompt_id))
        if counted + purchase.pictures > budget.per_run:
            raise _used_up(purchase, counted, budget.per_run, _A_RUN, "pictures_per_run")
    if budget.per_day is not None:
        counted = _counted(connection, and_(others, _today(now)))
        if counted + purchase.pictures > budget.per_day:
            raise _used_up(purchase, counted, budget.per_day, _A_DAY, "pictures_per_day")


def counted_today(connection: Connection, now: float) -> dict[tuple[str, str], int]:
    """Pictures of this day by profile (as it was called then) and account, as :func:`check_budget` counts them."""
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
    return attempts.c.admitted_at >= _midnight(now)


def _midnight(now: float) -> float:
    """The beginning of this day in the server's time zone."""
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


_A_RUN = Text("a run", "每次运行")
_A_DAY = Text("a day", "每天")


def _used_up(purchase: Purchase, counted: int, limit: int, period: Text, setting: str) -> QuotaError:
    return QuotaError(
        Text(
            f"This server's budget for the profile {purchase.profile!r} is {limit} pictures {period.en}; {counted} are "
            f"counted already, and this would buy {purchase.pictures} more. Nothing was submitted.",
            f"此服务器为配置 {purchase.profile!r} 设定的预算为{period.zh} {limit} 张图片；已计 {counted} 张，"
            f"本次还要购买 {purchase.pictures} 张。未提交任何内容。",
        ),
        advice=_raise_it(setting, purchase.budget.by_environment),
    )


def _raise_it(setting: str, by_environment: bool) -> Text:
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
    """Seconds to wait before looking again; 0.0 if the limiter has room for this attempt."""
    factor = _factor(connection, now, purchase)
    at_once, per_minute = purchase.ceiling.at_once, purchase.ceiling.per_minute
    if at_once is not None and _running(connection, purchase, is_living) >= max(1, math.floor(at_once * factor)):
        return _LOOK_AGAIN
    if per_minute is not None:
        return _pause_for_rate(connection, now, journal_id, purchase, max(1, math.floor(per_minute * factor)))
    return 0.0


def _running(connection: Connection, purchase: Purchase, is_living: Callable[[Row[tuple[object, ...]]], bool]) -> int:
    """Tasks under way whose owner lives: a dead one frees its places."""
    held = and_(
        attempts.c.holds_slot.is_(True),
        attempts.c.account == purchase.account,
        attempts.c.provider == purchase.provider,
    )
    counts = connection.execute(select(attempts.c.owner, func.count()).where(held).group_by(attempts.c.owner)).all()
    rows = {row.id: row for row in connection.execute(select(owners).where(owners.c.id.in_([c[0] for c in counts])))}
    return sum(count for owner, count in counts if owner in rows and is_living(rows[owner]))


def _pause_for_rate(connection: Connection, now: float, journal_id: str, purchase: Purchase, allowed: int) -> float:
    rows = connection.execute(
        select(attempts.c.admitted_at, attempts.c.pictures, attempts.c.account, attempts.c.endpoint)
        .where(
            attempts.c.admitted_at > now - _WINDOW,
            attempts.c.admitted_at <= now,
            # Its own earlier try was not taken.
            attempts.c.id != journal_id,
        )
        .order_by(attempts.c.admitted_at)
    ).all()
    # Not asked of the database: SQLite would go through all that the endpoint ever had rather than through this minute.
    mine = (purchase.account, purchase.endpoint)
    recent = [(admitted_at, pictures) for admitted_at, pictures, *whose in rows if tuple(whose) == mine]
    used = sum(pictures for _, pictures in recent)
    for admitted_at, pictures in recent:
        # More than the whole rate at once still goes, alone.
        if used + purchase.pictures <= allowed:
            break
        used -= pictures
        wait = admitted_at + _WINDOW - now
        if used + purchase.pictures <= allowed or used == 0:
            return max(0.01, float(wait))
    return 0.0


def _factor(connection: Connection, now: float, purchase: Purchase) -> float:
    row = connection.execute(
        select(limits).where(limits.c.account == purchase.account, limits.c.provider == purchase.provider)
    ).first()
    if row is None:
        return 1.0
    return float(min(1.0, row.factor + max(0.0, now - row.changed_at) / _RECOVERY))


def slow_down(connection: Connection, now: float, account: str, provider: str) -> None:
    """After a 429: half of the limits. Calls that were refused together count as one."""
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


class AdmissionQueue:
    """Polls of one account pass one after the other, so many a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def pass_through(self, per_second: float | None, cancel: CancelToken) -> None:
        """Wait for this poll's turn; raises CallCancelled."""
        if not per_second:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 1.0 / per_second
        cancel.sleep(turn - now)
