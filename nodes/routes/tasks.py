"""HTTP routes of the task list: tasks, their pictures, and the actions of the tab *Remote tasks*."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from ... import api
from ...api import ENDPOINTS, Text
from .context import BASE, RouteContext
from .guard import Answer, Refusal, answer, or_404, text_json

if TYPE_CHECKING:
    from ..comfy.server_journal import BudgetLine

_TASKS_SHOWN = 200
_MOST_TASKS = 1000

_JOURNAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POSITION = re.compile(r"[0-9]{1,4}")
_PICTURES = ("image/png", "image/jpeg", "image/webp")

_NO_TASK = Text("The journal has no such task.", "付费日志中没有此任务。")
_NO_PICTURE = Text("This picture is not in the store.", "图片库中没有此图片。")
_BAD_LIMIT = Text(
    f"`limit` must be a whole number from 1 to {_MOST_TASKS}.", f"`limit` 必须为 1 到 {_MOST_TASKS} 的整数。"
)
_NOT_AGAIN = Text(
    "Only an ambiguous or failed attempt can be submitted again; this one is neither.",
    "只有结果不明（ambiguous）或失败（failed）的任务才能重新提交，此任务不属于这两种。",
)
_NOT_NOW = Text(
    "Only an accepted task that nobody works on can be collected.",
    "只有已受理且当前无人处理的任务才能取回。",
)
_NOBODY_WAITS = Text(
    "Nobody on this server waits for this task.",
    "此服务器上没有节点在等待该任务。",
)


class TaskActions(Protocol):
    """What the routes need of the journal and the store; see :class:`ServerJournal`. Every method blocks."""

    def overview(self, limit: int) -> tuple[api.Overview, list[BudgetLine], Sequence[api.Spent]]: ...
    def task(self, journal_id: str) -> api.Task | None: ...
    def submit_again(self, journal_id: str) -> bool:
        """Let the next equal request be submitted anew; ``False`` if the attempt's state does not allow that."""

    def collect(self, journal_id: str) -> bool:
        """Ask the service for the task now, in the background; ``False`` if there is nothing to ask for."""

    def stop_waiting(self, journal_id: str) -> bool:
        """End the calls of this server that wait for the task; ``False`` if there are none."""

    def acknowledge(self) -> None:
        """Let the paid nodes buy again after the journal was damaged or lost."""

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        """The bytes and the media type; ``None`` if the store lacks the picture."""

    def thumbnail(self, journal_id: str, position: int) -> bytes | None:
        """A small JPEG; ``None`` if the store lacks the picture."""


def add(context: RouteContext, actions: TaskActions) -> None:
    """Add the routes, each behind the guard; requests call ``actions`` in other threads."""
    routes, guarded, run = context.routes, context.guarded, context.run

    @routes.get(f"{BASE}/tasks")
    @guarded
    async def tasks(request: web.Request) -> Answer:
        overview, budgets, spent = await run(actions.overview, _limit(request))
        shown = {
            "now": overview.now,
            "tasks": [_task_json(task) for task in overview.tasks],
            "budgets": [asdict(line) for line in budgets],
            "spent": [asdict(line) for line in spent],
            "unacknowledged": overview.unacknowledged,
        }
        return answer(shown)

    @routes.get(f"{BASE}/tasks/{{id}}")
    @guarded
    async def task(request: web.Request) -> Answer:
        return answer({"task": _task_json(or_404(await run(actions.task, _journal_id(request)), _NO_TASK))})

    @routes.get(f"{BASE}/tasks/{{id}}/pictures/{{position}}")
    @guarded
    async def picture(request: web.Request) -> Answer:
        found = await run(actions.picture, _journal_id(request), _position(request))
        return _picture(*or_404(found, _NO_PICTURE))

    @routes.get(f"{BASE}/tasks/{{id}}/thumbnails/{{position}}")
    @guarded
    async def thumbnail(request: web.Request) -> Answer:
        found = await run(actions.thumbnail, _journal_id(request), _position(request))
        return Answer(body=or_404(found, _NO_PICTURE), content_type="image/jpeg")

    def add_change(action: str, change: Callable[[str], bool], not_now: Text) -> None:
        @routes.post(f"{BASE}/tasks/{{id}}/{action}")
        @guarded
        async def changed(request: web.Request) -> Answer:
            journal_id = _journal_id(request)
            if not await run(change, journal_id):
                or_404(await run(actions.task, journal_id), _NO_TASK)
                raise Refusal(409, not_now)
            return answer({"ok": True})

    add_change("submit-again", actions.submit_again, _NOT_AGAIN)
    add_change("collect", actions.collect, _NOT_NOW)
    add_change("stop-waiting", actions.stop_waiting, _NOBODY_WAITS)

    @routes.post(f"{BASE}/journal/acknowledge")
    @guarded
    async def acknowledge(_: web.Request) -> Answer:
        await run(actions.acknowledge)
        return answer({"ok": True})


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", str(_TASKS_SHOWN))
    if not re.fullmatch(r"[0-9]{1,4}", given) or not 1 <= int(given) <= _MOST_TASKS:
        raise Refusal(400, _BAD_LIMIT)
    return int(given)


def _journal_id(request: web.Request) -> str:
    journal_id = request.match_info["id"]
    if not _JOURNAL_ID.fullmatch(journal_id):
        raise Refusal(404, _NO_TASK)
    return journal_id


def _position(request: web.Request) -> int:
    position = request.match_info["position"]
    if not _POSITION.fullmatch(position):
        raise Refusal(404, _NO_PICTURE)
    return int(position)


def _picture(content: bytes, media_type: str) -> Answer:
    """The response with a stored picture.

    Anything but PNG, JPEG and WebP is sent as a download: the bytes came from a service, and another type could run as
    a page of ComfyUI's origin.
    """
    if media_type in _PICTURES:
        return Answer(body=content, content_type=media_type)
    headers = {"Content-Disposition": "attachment"}
    return Answer(body=content, content_type="application/octet-stream", headers=headers)


def _name_of(endpoint: str) -> dict[str, str] | None:
    """The name of an endpoint for the user; ``None`` for one of a later version of the pack."""
    return next((text_json(known.shown) for known in ENDPOINTS if known.name == endpoint), None)


def _task_json(task: api.Task) -> dict[str, Any]:
    error = task.error.text() if task.error is not None else None
    return {
        "journal_id": task.journal_id,
        "state": task.state,
        "provider": task.provider,
        "endpoint": task.endpoint,
        "name": _name_of(task.endpoint),
        "profile": task.profile,
        "sandbox": task.sandbox,
        "task_id": task.task_id,
        "request_id": task.request_id,
        "take": task.take,
        "pictures": task.pictures,
        "summary": task.summary,
        "label": task.label,
        "created_at": task.created_at,
        "changed_at": task.changed_at,
        "error": text_json(error) if error is not None else None,
        "stored": task.stored,
        "waiting": task.waiting,
        "can": list(task.can),
    }
