"""HTTP routes of the template picker: pages of the list, and a small picture of each template."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web

from ... import api
from ...api import Text, choices
from .context import BASE, RouteContext, own_threads
from .guard import Answer, Refusal, answer, or_404, text_json

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_MAX_INT = 2**31 - 1
_LONGEST_PROFILE = 64
# Threads of their own, so that slow downloads of pictures delay neither lists nor the routes of tasks.
_PICTURES_AT_ONCE = 4
_LISTS_AT_ONCE = 2

_BAD_PROFILE = Text(
    f"`profile` must be the name of a profile, at most {_LONGEST_PROFILE} characters.",
    f"`profile` 必须是配置的名称，最多 {_LONGEST_PROFILE} 个字符。",
)
_BAD_GENDER = Text("`gender` must be woman or man.", "`gender` 必须为 woman 或 man。")
_BAD_PAGE = Text("`page` must be a whole number from 1 on.", "`page` 必须为不小于 1 的整数。")
_BAD_FRESH = Text("`fresh` must be 1, or be left out.", "`fresh` 只能为 1 或省略。")
_NO_TEMPLATE = Text("The service's list has no template of this number.", "服务端的列表中没有此编号的模板。")


class Templates(Protocol):
    """What the routes need of the templates; implemented by :class:`api.TemplateShelf`. Every method blocks."""

    def page(self, profile: str, gender: Any, number: int, *, fresh: bool = False) -> api.TemplatePage: ...
    def page_with(self, profile: str, template_id: int) -> api.TemplatePage | None: ...
    def thumbnail(self, profile: str, template_id: int) -> bytes | None: ...


def add(context: RouteContext, shelf: Callable[[], Templates]) -> None:
    """Add the routes, each behind the guard; ``shelf`` is called for each request, in the thread that runs it."""
    routes, guarded = context.routes, context.guarded
    run_list, run_picture = own_threads(_LISTS_AT_ONCE), own_threads(_PICTURES_AT_ONCE)

    @routes.get(f"{BASE}/templates")
    @guarded
    async def templates(request: web.Request) -> Answer:
        profile, gender = _profile(request), request.query.get("gender")
        if gender not in choices.GENDERS:
            raise Refusal(400, _BAD_GENDER)
        number = _number(request.query.get("page", "1"), Refusal(400, _BAD_PAGE))
        fresh = request.query.get("fresh")
        if fresh not in (None, "1"):
            raise Refusal(400, _BAD_FRESH)
        return answer(_page_json(await run_list(lambda: shelf().page(profile, gender, number, fresh=fresh == "1"))))

    @routes.get(f"{BASE}/templates/{{id}}")
    @guarded
    async def page_with(request: web.Request) -> Answer:
        profile, template_id = _profile(request), _id(request)
        page = await run_list(lambda: shelf().page_with(profile, template_id))
        return answer(_page_json(or_404(page, _NO_TEMPLATE)))

    @routes.get(f"{BASE}/templates/{{id}}/picture")
    @guarded
    async def picture(request: web.Request) -> Answer:
        profile, template_id = _profile(request), _id(request)
        jpeg = await run_picture(lambda: shelf().thumbnail(profile, template_id))
        return Answer(body=or_404(jpeg, _NO_TEMPLATE), content_type="image/jpeg")


def _profile(request: web.Request) -> str:
    profile = request.query.get("profile", "")
    if not 1 <= len(profile) <= _LONGEST_PROFILE:
        raise Refusal(400, _BAD_PROFILE)
    return profile


def _number(given: str, refusal: Refusal) -> int:
    """A whole number from 1 to 2³¹ − 1; else raises ``refusal``."""
    if not _NUMBER.fullmatch(given) or int(given) > _MAX_INT:
        raise refusal
    return int(given)


def _id(request: web.Request) -> int:
    return _number(request.match_info["id"], Refusal(404, _NO_TEMPLATE))


def _page_json(page: api.TemplatePage) -> dict[str, Any]:
    offline = page.offline
    return {
        "gender": page.gender,
        "templates": [{"id": template.id, "gender": template.gender} for template in page.templates],
        "page": page.number,
        "pages": page.pages,
        "total": page.total,
        "offline": text_json(offline) if offline is not None else None,
    }
