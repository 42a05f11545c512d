"""HTTP routes of the pack inside ComfyUI's server. They know no ComfyUI: ``nodes/comfy/host.py`` registers them."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from aiohttp import web

from ...api import pack_logger
from . import profiles as profile_routes
from . import reports as report_routes
from . import tasks as task_routes
from . import templates as template_routes
from .context import BASE, OffLoop, RouteContext, own_threads
from .guard import OPEN_VARIABLE, Answer, Guard, answer


def other_copy(routes: web.RouteTableDef) -> Path | None:
    """The folder of another copy of this pack, of any version, whose routes are in the table; ``None`` for no copy."""
    for route in routes:
        if isinstance(route, web.RouteDef) and route.path.startswith(f"{BASE}/"):
            module = sys.modules.get(getattr(route.handler, "__module__", ""))
            file = getattr(module, "__file__", None)
            return _pack_of(Path(file).resolve()) if file else Path(BASE)
    return None


def _pack_of(file: Path) -> Path:
    """The folder of the pack to which ``file``, somewhere below its ``nodes``, belongs."""
    return next((folder.parent for folder in file.parents if folder.name == "nodes"), file.parent)


class JournalActions(task_routes.TaskActions, report_routes.ReportActions, Protocol):
    """What the routes need of the journal; see :class:`ServerJournal`. Every method blocks."""


_WEB = Path(__file__).resolve().parents[2] / "web"


async def serve_as_script(request: web.Request, response: web.StreamResponse) -> None:
    """Set type and ``Cache-Control`` of each ``*.mjs`` of the pack, as ComfyUI does for ``*.js``.

    It is a receiver of aiohttp's ``on_response_prepare``. A browser runs a module only if its type is JavaScript's,
    but older aiohttp takes the type of a file from Windows' registry. Without ``Cache-Control`` a browser does not ask
    again for a file that has not changed for long: after an update it would mix modules of both versions.
    """
    resource = request.match_info.route.resource
    if request.path.endswith(".mjs") and resource is not None and resource.get_info().get("directory") == _WEB:
        response.content_type = "text/javascript"
        response.headers["Cache-Control"] = "no-cache"


def register(
    routes: web.RouteTableDef,
    actions: JournalActions,
    token: str | None = None,
    *,
    profiles: Callable[[], profile_routes.ProfileActions] | None = None,
    tell_profiles: Callable[[], None] = lambda: None,
    shelf: Callable[[], template_routes.Templates] | None = None,
    off_loop: OffLoop | None = None,
) -> None:
    """Add all routes to the table ``routes``, each behind the guard. Nothing is loaded before the first request.

    Args:
        actions: of the task list.
        token: which requests that change state must send; by default a new one is made.
        profiles: called for each request, returns the actions of the profiles; ``None``: no routes for profiles.
        tell_profiles: called when one of these routes has changed a profile.
        shelf: called for each request, returns the templates; ``None``: no routes for templates.
        off_loop: runs a blocking function in another thread and awaits it. The default has four threads of its own.
            ``host.off_loop`` cannot be used: it raises when the user interrupts a prompt.
    """
    opened = os.environ.get(OPEN_VARIABLE, "").strip() == "1"
    if opened:
        pack_logger().warning("%s=1: the pack's routes answer other machines, too", OPEN_VARIABLE)
    token = token or secrets.token_urlsafe(32)
    guarded = Guard(token, opened=opened)
    context = RouteContext(routes, guarded, off_loop or own_threads(4))

    @routes.get(f"{BASE}/session")
    @guarded
    async def session(_: web.Request) -> Answer:
        return answer({"token": token})

    task_routes.add(context, actions)
    report_routes.add(context, actions)
    if profiles is not None:
        profile_routes.add(context, profiles, tell_profiles)
    if shelf is not None:
        template_routes.add(context, shelf)
