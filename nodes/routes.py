"""HTTP routes of the task list inside ComfyUI's server. They know no ComfyUI: ``nodes/host.py`` registers them."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from ..api import Text, pack_logger
from .guard import OPEN_VARIABLE, Answer, Guard, Refusal, answer
from .workers import DaemonPool

if TYPE_CHECKING:
    from ..api import Task

_BASE = "/hidream_volcengine"
_TASKS_SHOWN = 200
_MOST_TASKS = 1000

_JOURNAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POSITION = re.compile(r"[0-9]{1,4}")
_PICTURES = ("image/png", "image/jpeg", "image/webp")

_NO_TASK = Text("The journal has no such task.", "日志中没有此任务。")
_NO_PICTURE = Text("This picture is not in the store.", "存储中没有此图片。")
_BAD_LIMIT = Text(
    f"`limit` must be a whole number from 1 to {_MOST_TASKS}.", f"`limit` 必须为 1 到 {_MOST_TASKS} 的整数。"
)
_NOT_AGAIN = Text(
    "Only an ambiguous or failed attempt can be submitted again; this one is neither.",
    "只有结果不明（ambiguous）或失败（failed）的任务才能重新提交，此任务不属于这两种。",
)

OffLoop = Callable[..., Awaitable[Any]]


class Desk(Protocol):
    """What the routes need of the journal and the store. All of it blocks."""

    def tasks(self, limit: int) -> list[Task]: ...
    def task(self, journal_id: str) -> Task | None: ...
    def submit_again(self, journal_id: str) -> bool: ...
    def acknowledge(self) -> None: ...

    def picture(self, journal_id: str, position: int) -> tuple[bytes, str] | None:
        """The bytes and the media type."""


def register(
    routes: web.RouteTableDef, desk: Desk, token: str | None = None, *, off_loop: OffLoop | None = None
) -> None:
    """Add the routes, each behind the guard. Nothing is asked or started before the first request.

    Args:
        token: what state changes must show; without one, a new one for this start.
        off_loop: runs a blocking function and awaits it. The default has threads of its own; ``host.off_loop`` is for
            nodes, it ends with an interrupt of the prompt.
    """
    opened = os.environ.get(OPEN_VARIABLE, "").strip() == "1"
    if opened:
        pack_logger().warning("%s=1: the task list answers other machines, too", OPEN_VARIABLE)
    token = token or secrets.token_urlsafe(32)
    guarded = Guard(token, opened=opened)
    run = off_loop or _own_threads()

    @routes.get(f"{_BASE}/session")
    @guarded
    async def session(_: web.Request) -> Answer:
        return answer({"token": token})

    @routes.get(f"{_BASE}/tasks")
    @guarded
    async def tasks(request: web.Request) -> Answer:
        listed = await run(desk.tasks, _limit(request))
        return answer({"tasks": [_shown(task) for task in listed]})

    @routes.get(f"{_BASE}/tasks/{{id}}")
    @guarded
    async def task(request: web.Request) -> Answer:
        found = await run(desk.task, _journal_id(request))
        if found is None:
            raise Refusal(404, _NO_TASK)
        return answer({"task": _shown(found)})

    @routes.get(f"{_BASE}/tasks/{{id}}/pictures/{{position}}")
    @guarded
    async def picture(request: web.Request) -> Answer:
        position = request.match_info["position"]
        if not _POSITION.fullmatch(position):
            raise Refusal(404, _NO_PICTURE)
        found = await run(desk.picture, _journal_id(request), int(position))
        if found is None:
            raise Refusal(404, _NO_PICTURE)
        return _picture(*found)

    @routes.post(f"{_BASE}/tasks/{{id}}/submit-again")
    @guarded
    async def submit_again(request: web.Request) -> Answer:
        journal_id = _journal_id(request)
        if not await run(desk.submit_again, journal_id):
            known = await run(desk.task, journal_id)
            raise Refusal(404, _NO_TASK) if known is None else Refusal(409, _NOT_AGAIN)
        return answer({"ok": True})

    @routes.post(f"{_BASE}/journal/acknowledge")
    @guarded
    async def acknowledge(_: web.Request) -> Answer:
        await run(desk.acknowledge)
        return answer({"ok": True})


def _own_threads() -> OffLoop:
    pool = DaemonPool(4)

    async def off_loop(function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.submit(partial(function, *args)))

    return off_loop


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


def _picture(content: bytes, media_type: str) -> Answer:
    """It came from a service: shown if it is a plain picture; anything else could run as a page of ComfyUI's origin."""
    if media_type in _PICTURES:
        return Answer(body=content, content_type=media_type)
    headers = {"Content-Disposition": "attachment"}
    return Answer(body=content, content_type="application/octet-stream", headers=headers)


def _shown(task: Task) -> dict[str, Any]:
    error = task.error.text() if task.error is not None else None
    return {
        "journal_id": task.journal_id,
        "state": task.state,
        "provider": task.provider,
        "endpoint": task.endpoint,
        "profile": task.profile,
        "task_id": task.task_id,
        "request_id": task.request_id,
        "take": task.take,
        "pictures": task.pictures,
        "summary": task.summary,
        "created_at": task.created_at,
        "changed_at": task.changed_at,
        "error": {"en": error.en, "zh": error.zh} if error is not None else None,
        "stored": task.stored,
    }
