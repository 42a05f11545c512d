"""Every route of the pack in a real ComfyUI, as its router knows them, attacked as a web page or a neighbour would.

Nobody has to add a new route here: it is attacked from its first day on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.contract.nodes.test_routes import BASE, FORGED, UNSET, Reply, Served, assert_refused, padded, status_of
from tests.host.buying import Bought, tasks
from tests.host.prompts import Graph, failed

ROUTES_PROBE = """
from server import PromptServer

class Routes:
    RETURN_TYPES = ()
    FUNCTION = "tell"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def tell(self):
        routes = PromptServer.instance.app.router.routes()
        files = [(route, getattr(getattr(route.handler, "__code__", None), "co_filename", "")) for route in routes]
        ours = [route for route, file in files
                if "hidream_volcengine" in route.resource.canonical or "ComfyUI-HiDream-Volcengine" in file]
        return {"ui": {"text": [f"{route.method} {route.resource.canonical}" for route in ours]}}

NODE_CLASS_MAPPINGS = {"TestRoutes": Routes}
"""
PROFILE = "a profile of somebody"


class Target(Served):
    """A ComfyUI, asked with exactly the headers that a test wants."""

    def __init__(self, comfy: ComfyUI) -> None:
        self.address, self.port, self.host = "127.0.0.1", comfy.port, f"127.0.0.1:{comfy.port}"
        self.token: str = self.get(f"{BASE}/session").json["token"]


@dataclass(frozen=True)
class Attacked:
    comfy: ComfyUI
    target: Target
    routes: list[tuple[str, str]]
    """Method and path, with a task, a picture and a profile that are there."""
    patterns: list[tuple[str, str]]
    logged: int

    def page(self, method: str, path: str, *headers: tuple[str, str], host: Any = UNSET, **more: Any) -> Reply:
        """As the page asks, with the right token, and headers of an attacker."""
        if method == "POST":
            return self.target.post(path, *headers, host=host, **{"token": self.target.token, **more})
        return self.target.ask(method, path, *headers, host=host, **more)

    def state(self) -> Any:
        """All that an attack might have changed."""
        shown = self.comfy.request("GET", f"{BASE}/tasks").json()
        profiles, runs = (self.comfy.request("GET", f"{BASE}/{name}").json() for name in ("profiles", "runs"))
        return shown["tasks"], shown["budgets"], profiles, runs["runs"]


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str], emulator: Emulator
) -> Iterator[Attacked]:
    base = tmp_path_factory.mktemp("attacked")
    probe = base / "custom_nodes" / "probe"
    probe.mkdir(parents=True)
    (probe / "__init__.py").write_text(ROUTES_PROBE, encoding="utf-8")
    emulator.clear()
    with ComfyUI(base, environment=service_environment, preloaded=True) as comfy:
        Bought(comfy).run()
        [bought] = tasks(comfy)
        emulator.add_fault({"phase": "submit", "do": {"status": 500, "accept": True}})
        failed(comfy, Bought(comfy, "HiDreamAPIOutpaint").graph.prompt, "AmbiguousSubmitError")
        target = Target(comfy)
        added = {"revision": "none", "name": PROFILE, "settings": {"hidream_ec_base_url": emulator.url}}
        assert target.post(f"{BASE}/profiles/add", body=json.dumps(added).encode(), token=target.token).status == 200
        graph = Graph(comfy)
        listed = comfy.run(graph.prompt | {"routes": {"class_type": "TestRoutes", "inputs": {}}}).texts("routes")
        patterns = [(method, path) for method, path in (line.split(" ", 1) for line in listed)]
        routes = [(method, _filled(path, bought["journal_id"])) for method, path in patterns]
        emulator.clear()
        yield Attacked(comfy, target, routes, patterns, len(comfy.log()))


def _filled(path: str, journal_id: str) -> str:
    if "/templates" in path:
        return f"{path.replace('{id}', '7')}?profile=default&gender=woman"
    if path.endswith("/report"):
        return f"{path}?day=2026-11-30"
    return path.replace("{id}", journal_id).replace("{position}", "0")


def test_the_router_tells_all_of_them(attacked: Attacked) -> None:
    methods = {method for method, _ in attacked.patterns}
    assert methods == {"GET", "HEAD", "POST"}, "whatever changes something is a POST"
    paths = {path for _, path in attacked.patterns}
    short = {path for path in paths if path.startswith(BASE)}
    assert paths == short | {f"/api{path}" for path in short}, "no place of somebody else"
    known = {"session", "tasks", "profiles", "profiles/add", "journal/acknowledge", "report", "templates/{id}/picture"}
    assert {f"{BASE}/{name}" for name in known} <= paths
    assert not [path for _, path in attacked.routes if "{" in path], "a placeholder that this test cannot fill in yet"


def test_the_page_itself_is_let_in(attacked: Attacked) -> None:
    """Or the refusals below would prove nothing."""
    for method, path in attacked.routes:
        if method == "GET":
            assert attacked.page(method, path).status == 200, path
        elif method == "POST":
            assert attacked.page(method, path, body=b"[]").status == 400, "as far as the body"


@pytest.mark.parametrize("attack", FORGED)
def test_a_forged_request(attacked: Attacked, emulator: Emulator, attack: str) -> None:
    """Other origins, other names, proxies: with the right token each."""
    before = attacked.state()
    emulator.clear()
    headers, host = FORGED[attack]
    port = attacked.target.port
    forged = [(name, value.format(port=port)) for name, value in headers]
    told = host.format(port=port) if isinstance(host, str) else host
    for method, path in attacked.routes:
        reply = attacked.page(method, path, *forged, host=told, **({"origin": None} if method == "POST" else {}))
        # ComfyUI itself refuses some of them, and says nothing.
        assert reply.status == 403, (method, path, reply.body)
        assert b"token" not in reply.body and PROFILE.encode() not in reply.body
    assert attacked.state() == before
    assert emulator.requests == []


def changes(attacked: Attacked) -> list[str]:
    return [path for method, path in attacked.routes if method == "POST"]


def test_a_change_needs_the_token_and_json(attacked: Attacked) -> None:
    before, token = attacked.state(), attacked.target.token
    for path in changes(attacked):
        for wrong in (None, "", token[:-1], token[::-1], f"{token}0", "t\u00f6ken"):
            assert_refused(attacked.page("POST", path, token=wrong), 403)
        for form in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            assert_refused(attacked.page("POST", path, content_type=form, origin=None), 415)
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
            reply = attacked.target.ask(method, path, ("X-Remote-Image-Token", token), body=b"{}")
            assert reply.status in (404, 405), (method, path)
    assert attacked.state() == before


BODIES = [b"", b"null", b"[]", b'"x"', b"{", b"{} {}", b'{"name": NaN}', b'{"name": 1' + b"0" * 5000 + b"}",
          b'{"name": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"name": "\xff"}', b'\xef\xbb\xbf{}']  # fmt: skip
FIELDS: list[Any] = [None, True, 0, -1, 10**400, 1e308, "", "\ud800", "\x00", "x" * 9000, [], {}, [{}], {"name": []}]


def test_bodies_that_are_none(attacked: Attacked) -> None:
    before = attacked.state()
    for path in changes(attacked):
        for body in BODIES:
            assert_refused(attacked.page("POST", path, body=body), 400)
        if "/profiles/" not in path:
            continue  # nothing is read of the others' bodies
        for value in FIELDS:
            names = ("revision", "name", "new_name", "provider", "settings", "keys")
            for fields in (dict.fromkeys(names[:count], value) for count in range(1, len(names) + 1)):
                for only in (fields, {"revision": before[2]["revision"], "name": PROFILE, **fields}):
                    reply = attacked.page("POST", path, body=json.dumps(only).encode())
                    assert reply.status in (400, 409, 413), (path, only, reply.body)
    assert attacked.state() == before
    assert " failed\n" not in attacked.comfy.log()[attacked.logged :], "an error that nobody thought of"


def test_ten_megabytes(attacked: Attacked) -> None:
    before = attacked.state()
    for path in changes(attacked):
        reply = attacked.page("POST", path, body=padded(10 * 2**20))
        assert_refused(reply, 413)
        assert reply.headers["Connection"] == "close"
        fixed = [f"POST {path} HTTP/1.1", f"Host: {attacked.target.host}", "Content-Type: application/json",
                 f"X-Remote-Image-Token: {attacked.target.token}", "Transfer-Encoding: chunked"]  # fmt: skip
        head = "\r\n".join([*fixed, "", ""]).encode()
        assert status_of(attacked.target.raw(head + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 2)) == 413
    for method, path in attacked.routes:
        if method == "GET":
            assert attacked.page(method, path, body=bytes(10 * 2**20)).status in (200, 400, 413)
    assert attacked.state() == before


TRICKS = ["..", "%2e%2e", "..%2f..%2fprofiles.json", "..%2F..%2Fstore", "%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
          "..%5c..%5cprofiles.json", "%00", "7%00", "{id}%00.jpg", "{id}%2f..%2f{id}", "{id}%0d%0aX-Y:%20z", "%ff",
          "%ed%a0%80", "%D9%A3", "-1", "0x0", "1e1", "99999999999999999999", "%25%32%65", "'%20or%201=1--", "*", "%",
          "x" * 4000, "%E5%AF%86", "~", "{id}%20", "+0", "00007", "rv-%2a"]  # fmt: skip


def test_tricks_in_a_path(attacked: Attacked, emulator: Emulator) -> None:
    before = attacked.state()
    [journal_id, *_] = [task["journal_id"] for task in before[0]]
    emulator.clear()
    for method, pattern in attacked.patterns:
        for place in re.findall("{[a-z]+}", pattern):
            for trick in TRICKS:
                value = trick.replace("{id}", journal_id)
                path = _filled(pattern.replace(place, value), journal_id)
                reply = attacked.page(method, path)
                # 200 is for a number in an unusual spelling.
                assert reply.status in (400, 404, 405) or (trick == "00007" and reply.status == 409), (path, reply.body)
                assert "X-Y" not in reply.headers
                assert b"root:" not in reply.body and PROFILE.encode() not in reply.body
    assert attacked.state() == before
    assert emulator.requests == []


def test_no_other_spelling_of_a_path_gets_around_the_guard(attacked: Attacked) -> None:
    """A stranger's page, with the right token, and every way to write the same address."""
    evil = ("Origin", "https://evil.example")
    for method, path in attacked.routes:
        name = path.partition(BASE)[2]
        encoded = BASE.replace("h", "%68")
        spellings = [f"/{path}", f"/.{path}", f"/x/..{path}", f"{path}/", f"{path};x", f"{encoded}{name}",
                     f"{BASE.upper()}{name}", f"{BASE}/.{name}", f"{BASE}/{name}", f"{BASE}/x/..{name}", f"{path}%00",
                     f"http://127.0.0.1:{attacked.target.port}{path}", f"/extensions/..{path}"]  # fmt: skip
        for spelling in spellings:
            reply = attacked.page(method, spelling, evil, **({"origin": None} if method == "POST" else {}))
            assert reply.status in (400, 403, 404, 405), (method, spelling, reply.status)
            assert attacked.target.token.encode() not in reply.body


def test_nothing_was_logged_that_a_stranger_wrote(attacked: Attacked) -> None:
    log = attacked.comfy.log()[attacked.logged :]
    assert "Traceback" not in log
    # ComfyUI's own words about an Origin are a warning.
    assert not [line for line in log.splitlines() if "evil" in line and not line.startswith("WARNING: request with")]
    assert attacked.target.token not in attacked.comfy.log()
