"""HTTP routes of the settings dialog: list, change and check profiles. No answer contains a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from ... import api
from ...api import ConfigurationError, Text
from .context import BASE, RouteContext
from .guard import Answer, Refusal, answer, body_of, text_json

_MOST_REVISION = 64
_BAD_BODY = Text("The request has other fields than it should have.", "请求字段不符合要求。")


class ProfileActions(Protocol):
    """What the routes need of the profiles; implemented by :class:`api.ProfileEditor`. Every method blocks."""

    def shown(self) -> api.ShownProfiles: ...
    def add(
        self, revision: str, name: object, settings: Mapping[str, object], keys: Mapping[str, object]
    ) -> api.ShownProfiles: ...
    def change(
        self, revision: str, name: object, settings: Mapping[str, object], keys: Mapping[str, object]
    ) -> api.ShownProfiles: ...
    def rename(self, revision: str, name: object, new_name: object) -> api.ShownProfiles: ...
    def remove(self, revision: str, name: object) -> api.ShownProfiles: ...
    def check(self, name: object, provider: object) -> api.Diagnosis: ...


def add(context: RouteContext, actions: Callable[[], ProfileActions], tell: Callable[[], None] = lambda: None) -> None:
    """Add the routes, each behind the guard.

    Args:
        actions: called for each request, in the thread that runs it.
        tell: called after each change.
    """
    routes, guarded = context.routes, context.guarded

    async def done(edit: Callable[[ProfileActions], api.ShownProfiles]) -> Answer:
        try:
            return answer(_profiles_json(await context.run(lambda: edit(actions()))))
        except api.RefusedEditError as refused:
            raise Refusal(400 if refused.kind == "invalid" else 409, refused.why) from None
        except ConfigurationError as error:
            why = Text(f"{error.what.en} {error.advice.en}", f"{error.what.zh}{error.advice.zh}")
            raise Refusal(409, why) from None

    async def changed(edit: Callable[[ProfileActions], api.ShownProfiles]) -> Answer:
        shown = await done(edit)
        tell()
        return shown

    @routes.get(f"{BASE}/profiles")
    @guarded
    async def profiles(_: web.Request) -> Answer:
        return await done(lambda found: found.shown())

    @routes.post(f"{BASE}/profiles/add")
    @guarded
    async def add_profile(request: web.Request) -> Answer:
        body = _fields(request, "revision", "name", optional=("settings", "keys"))
        revision, values = _revision(body), _values(body)
        return await changed(lambda found: found.add(revision, body["name"], *values))

    @routes.post(f"{BASE}/profiles/change")
    @guarded
    async def change(request: web.Request) -> Answer:
        body = _fields(request, "revision", "name", optional=("settings", "keys"))
        revision, values = _revision(body), _values(body)
        return await changed(lambda found: found.change(revision, body["name"], *values))

    @routes.post(f"{BASE}/profiles/rename")
    @guarded
    async def rename(request: web.Request) -> Answer:
        body = _fields(request, "revision", "name", "new_name")
        revision = _revision(body)
        return await changed(lambda found: found.rename(revision, body["name"], body["new_name"]))

    @routes.post(f"{BASE}/profiles/remove")
    @guarded
    async def remove(request: web.Request) -> Answer:
        body = _fields(request, "revision", "name")
        revision = _revision(body)
        return await changed(lambda found: found.remove(revision, body["name"]))

    @routes.post(f"{BASE}/profiles/check")
    @guarded
    async def check(request: web.Request) -> Answer:
        body = _fields(request, "name", "provider")
        try:
            found: api.Diagnosis = await context.run(lambda: actions().check(body["name"], body["provider"]))
        except api.RefusedEditError as refused:
            raise Refusal(400, refused.why) from None
        advice = text_json(found.advice) if found.advice is not None else None
        return answer(
            {"ok": found.cause == "ok", "cause": found.cause, "text": text_json(found.text), "advice": advice}
        )


def _fields(request: web.Request, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The body; raises Refusal unless it has all of ``names``, and no others but ``optional``."""
    body = body_of(request)
    if not set(names) <= body.keys() <= {*names, *optional}:
        raise Refusal(400, _BAD_BODY)
    return body


def _revision(body: Mapping[str, Any]) -> str:
    revision = body["revision"]
    if not isinstance(revision, str) or len(revision) > _MOST_REVISION:
        raise Refusal(400, _BAD_BODY)
    return revision


def _values(body: Mapping[str, Any]) -> tuple[dict[str, object], dict[str, object]]:
    """Settings and keys of a body, not checked yet."""
    settings, keys = body.get("settings", {}), body.get("keys", {})
    if not isinstance(settings, dict) or not isinstance(keys, dict):
        raise Refusal(400, _BAD_BODY)
    return settings, keys


def _profiles_json(profiles: api.ShownProfiles) -> dict[str, Any]:
    return {
        "revision": profiles.revision,
        "protection": text_json(profiles.protection),
        "profiles": [_profile_json(profile) for profile in profiles.profiles],
        "defaults": dict(profiles.defaults),
        "told": [text_json(text) for text in profiles.told],
    }


def _profile_json(profile: api.ShownProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "built_in": profile.built_in,
        "in_file": profile.in_file,
        "environment": list(profile.environment),
        "ready": list(profile.ready),
        "keys": dict(profile.keys),
        "settings": dict(profile.settings),
        "retired": [
            {"part": entry.part, "name": entry.name, "what": text_json(entry.what), "advice": text_json(entry.advice)}
            for entry in profile.retired
        ],
    }
