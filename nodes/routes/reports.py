"""HTTP routes of the reports: the newest runs, a run or a day as a CSV file, and forgetting the items of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import Protocol

from aiohttp import web

from ... import api
from ...api import Text
from .context import BASE, RouteContext
from .guard import Answer, Refusal, answer

_RUNS_SHOWN = 20

# What ComfyUI takes as a prompt id, and what this pack makes where there is none.
_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DAY = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")

_NO_RUN = Text("The journal has no items of such a run.", "付费日志中没有此次运行的项目。")
_RUN_OR_DAY = Text(
    "A report is of a `run` or of a `day` (YYYY-MM-DD).", "报告须指定一次运行（`run`）或一天（`day`，YYYY-MM-DD）。"
)
_BAD_LANGUAGE = Text("`language` must be en or zh.", "`language` 必须为 en 或 zh。")


class ReportActions(Protocol):
    """What the routes need of the journal; see :class:`ServerJournal`. Every method blocks."""

    def runs(self, limit: int) -> Sequence[api.RunSummary]: ...
    def rows_of_run(self, run: str) -> Sequence[api.ItemRow]: ...
    def rows_of_day(self, day: date) -> Sequence[api.ItemRow]: ...
    def forget_run(self, run: str) -> int:
        """Delete the items of a run; returns how many there were."""


def add(context: RouteContext, actions: ReportActions) -> None:
    """Add the routes, each behind the guard; requests call ``actions`` in other threads."""
    routes, guarded, run = context.routes, context.guarded, context.run

    @routes.get(f"{BASE}/runs")
    @guarded
    async def runs(_: web.Request) -> Answer:
        today = date.today()
        shown = await run(actions.runs, _RUNS_SHOWN)
        days = [day.isoformat() for day in (today, today - timedelta(days=1))]
        return answer({"runs": [asdict(each) for each in shown], "days": days})

    @routes.get(f"{BASE}/report")
    @guarded
    async def report(request: web.Request) -> Answer:
        content = await run(_report, actions, request.query.get("run"), request.query.get("day"), _language(request))
        headers = {"Content-Disposition": 'attachment; filename="report.csv"'}
        return Answer(body=content, content_type="text/csv", charset="utf-8", headers=headers)

    @routes.post(f"{BASE}/runs/{{id}}/forget")
    @guarded
    async def forget(request: web.Request) -> Answer:
        if not await run(actions.forget_run, _run(request.match_info["id"])):
            raise Refusal(404, _NO_RUN)
        return answer({"ok": True})


def _report(actions: ReportActions, run: str | None, day: str | None, language: api.report.Language) -> bytes:
    if (run is None) == (day is None):
        raise Refusal(400, _RUN_OR_DAY)
    if day is not None:
        return api.report.csv_of(actions.rows_of_day(_day(day)), language)
    rows = actions.rows_of_run(_run(run or ""))
    if not rows:
        raise Refusal(404, _NO_RUN)
    return api.report.csv_of(rows, language)


def _run(given: str) -> str:
    if not _RUN.fullmatch(given):
        raise Refusal(404, _NO_RUN)
    return given


def _day(given: str) -> date:
    try:
        if _DAY.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise Refusal(400, _RUN_OR_DAY)


def _language(request: web.Request) -> api.report.Language:
    given = request.query.get("language", "en")
    if given not in ("en", "zh"):
        raise Refusal(400, _BAD_LANGUAGE)
    return "zh" if given == "zh" else "en"
