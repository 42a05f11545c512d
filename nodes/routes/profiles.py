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

    @routes.get(f"{BASE}/profiles")
    @guarded
    async def profiles(_: web.Request) -> Answer:
        return await done(lambda found: found.shown())

    def add_edit(
        action: str,
        method: Callable[[ProfileActions], Callable[..., api.ShownProfiles]],
        *names: str,
        mappings: tuple[str, ...] = (),
    ) -> None:
        """Add the route of an edit; ``method`` takes revision, name, and the fields ``names`` and ``mappings``."""

        @routes.post(f"{BASE}/profiles/{action}")
        @guarded
        async def edited(request: web.Request) -> Answer:
            body = _fields(request, "revision", "name", *names, optional=mappings)
            fields = [body[name] for name in names] + [_mapping(body, name) for name in mappings]
            revision = _revision(body)
            shown = await done(lambda found: method(found)(revision, body["name"], *fields))
            tell()
            return shown

    add_edit("add", lambda found: found.add, mappings=("settings", "keys"))
    add_edit("change", lambda found: found.change, mappings=("settings", "keys"))
    add_edit("rename", lambda found: found.rename, "new_name")
    add_edit("remove", lambda found: found.remove)

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


def _mapping(body: Mapping[str, Any], name: str) -> dict[str, object]:
    """An optional field of a body that must be an object; what is in it is not checked yet."""
    mapping = body.get(name, {})
    if not isinstance(mapping, dict):
        raise Refusal(400, _BAD_BODY)
    return mapping


def _profiles_json(profiles: api.ShownProfiles) -> dict[str, Any]:
    return {
        "revision": profiles.revision,
        "protection": text_json(profiles.protection),
        "profiles": [_profile_json(profile) for profile in profiles.profiles],
        "defaults": dict(profiles.defaults),
        "limits": [
            {"name": limit.setting, "provider": provider, "label": text_json(limit.label)}
            for limit, provider in profiles.limits.items()
        ],
        "prices": [
            {"name": name, "provider": endpoint.provider, "label": text_json(_price_of(endpoint.shown))}
            for name, endpoint in profiles.prices.items()
        ],
        "told": [text_json(text) for text in profiles.told],
    }


def _price_of(endpoint: Text) -> Text:
    return Text(f"Price: {endpoint.en}", f"价格：{endpoint.zh}")


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
