"""The template picker's routes on a real server on loopback: what they answer, and what they refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hidream_volcengine.api import ConnectionFailedError, TemplatePage, Text
from hidream_volcengine.api.services.hidream_templates import Template

from tests.contract.nodes.test_routes import (
    BASE,
    DEADLINE,
    TOKEN,
    FakeDesk,
    Served,
    assert_headers,
    assert_refused,
    serving,
)

# isort: split
# After test_routes, which makes the package known without ComfyUI.
from hidream_volcengine.nodes.routes import register

JPEG = b"\xff\xd8\xffnot really\xff\xd9"
SECRET_ADDRESS = "https://cdn.example/p.jpg?sign=canary"


@dataclass
class FakeShelf:
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    trouble: Exception | None = None
    offline: Text | None = None
    free: threading.Event = field(default_factory=threading.Event)

    def page(self, profile: str, gender: Any, number: int, *, fresh: bool = False) -> TemplatePage:
        self._note("page", profile, gender, number, fresh)
        return TemplatePage(gender, [Template(7, gender, SECRET_ADDRESS)], number, 3, 61, self.offline)

    def page_with(self, profile: str, template_id: int) -> TemplatePage | None:
        self._note("page_with", profile, template_id)
        return self.page(profile, "man", 2) if template_id == 7 else None

    def thumbnail(self, profile: str, template_id: int) -> bytes | None:
        if template_id == 1000:
            assert self.free.wait(DEADLINE)
        self._note("thumbnail", profile, template_id)
        return JPEG if template_id == 7 else None

    def _note(self, *what: Any) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.asked.append(what)
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def shelf() -> Iterator[FakeShelf]:
    made = FakeShelf()
    yield made
    made.free.set()


@pytest.fixture
def served(shelf: FakeShelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.delenv("REMOTE_IMAGE_OPEN_ROUTES", raising=False)
    routes = web.RouteTableDef()
    register(routes, FakeDesk(), TOKEN, shelf=lambda: shelf)
    with serving(routes) as running:
        yield running


def test_a_page(served: Served, shelf: FakeShelf) -> None:
    reply = served.get(f"{BASE}/templates?profile=default&gender=woman&page=2")
    assert reply.status == 200
    assert_headers(reply)
    assert reply.json == {
        "gender": "woman", "templates": [{"id": 7, "gender": "woman"}], "page": 2, "pages": 3, "total": 61,
        "offline": None,
    }  # fmt: skip
    served.get(f"{BASE}/templates?profile={quote('我的 profile')}&gender=man&fresh=1")
    assert shelf.asked == [("page", "default", "woman", 2, False), ("page", "我的 profile", "man", 1, True)]


def test_an_old_list_says_so(served: Served, shelf: FakeShelf) -> None:
    shelf.offline = Text("old", "旧")
    reply = served.get(f"{BASE}/templates?profile=default&gender=woman")
    assert reply.json["offline"] == {"en": "old", "zh": "旧"}


def test_the_page_of_a_number_and_its_picture(served: Served) -> None:
    assert served.get(f"{BASE}/templates/7?profile=default").json["gender"] == "man"
    reply = served.get(f"{BASE}/templates/7/picture?profile=default")
    assert (reply.status, reply.body, reply.headers.get_content_type()) == (200, JPEG, "image/jpeg")
    assert_headers(reply)
    for path in ("/templates/8", "/templates/8/picture"):
        assert_refused(served.get(f"{BASE}{path}?profile=default"), 404)


def test_why_there_is_no_list(served: Served, shelf: FakeShelf) -> None:
    shelf.trouble = ConnectionFailedError(Text("DNS.", "域名。"), provider="HiDream")
    for path in ("/templates?gender=man&", "/templates/7?", "/templates/7/picture?"):
        reply = served.get(f"{BASE}{path}profile=default")
        assert_refused(reply, 409)
        assert reply.json["error"]["en"].startswith("DNS.")
        assert reply.json["error"]["zh"].startswith("域名。")


def test_a_slow_picture_keeps_no_list_waiting(served: Served, shelf: FakeShelf) -> None:
    path = f"{BASE}/templates/1000/picture?profile=default"
    waiting = [threading.Thread(target=served.get, args=[path], daemon=True) for _ in range(8)]
    for thread in waiting:
        thread.start()
    assert served.get(f"{BASE}/templates?profile=default&gender=man").status == 200
    assert served.get(f"{BASE}/tasks").status == 200
    shelf.free.set()
    for thread in waiting:
        thread.join(DEADLINE)


@pytest.mark.parametrize("query", [
    "", "gender=woman", "profile=&gender=woman", f"profile={'x' * 65}&gender=woman", "profile=default",
    "profile=default&gender=", "profile=default&gender=women", "profile=default&gender=WOMAN",
    "profile=default&gender=../man", "profile=default&gender=man&page=0", "profile=default&gender=man&page=-1",
    "profile=default&gender=man&page=1.5", "profile=default&gender=man&page=%EF%BC%91",
    "profile=default&gender=man&page=99999999999", "profile=default&gender=man&page=",
    "profile=default&gender=man&fresh=", "profile=default&gender=man&fresh=true",
])  # fmt: skip
def test_a_query_that_no_page_of_ours_would_send(served: Served, shelf: FakeShelf, query: str) -> None:
    assert_refused(served.get(f"{BASE}/templates?{query}"), 400)
    assert shelf.asked == []


@pytest.mark.parametrize("number", [
    "0", "-1", "x", "1.0", "1e3", "07", "99999999999", "2147483648", "%2e%2e", "..%2f..%2fprofiles.json", "7%00",
    "%EF%BC%97", "1" * 5000, "7%0a",
])  # fmt: skip
def test_an_id_that_is_none(served: Served, shelf: FakeShelf, number: str) -> None:
    for path in (f"{BASE}/templates/{number}", f"{BASE}/templates/{number}/picture"):
        assert_refused(served.get(f"{path}?profile=default"), 404)
    assert shelf.asked == []


@pytest.mark.parametrize("headers", [
    [("Origin", "https://evil.example")], [("Origin", "null")], [("Sec-Fetch-Site", "cross-site")],
    [("X-Forwarded-For", "203.0.113.7")], [("Forwarded", "for=203.0.113.7")],
])  # fmt: skip
def test_whoever_is_not_our_page_learns_nothing(served: Served, shelf: FakeShelf, headers: list[Any]) -> None:
    for path in ("/templates?profile=default&gender=man", "/templates/7?profile=default",
                 "/templates/7/picture?profile=default"):  # fmt: skip
        assert_refused(served.get(BASE + path, *headers), 403)
        assert_refused(served.get(BASE + path, host="evil.example"), 403)
    assert shelf.asked == []


def test_nothing_is_changed_here(served: Served) -> None:
    for path in ("/templates", "/templates/7", "/templates/7/picture"):
        assert served.post(f"{BASE}{path}?profile=default&gender=man").status == 405
