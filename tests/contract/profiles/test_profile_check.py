"""The free check of a profile: one request, and a cause for each kind of failure. Nothing is bought, no key shown."""

from __future__ import annotations

import email.utils
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hidream_volcengine.api import ProfileEditor, ProfileFile, Profiles, Sandbox
from hidream_volcengine.api.profiles import check as profile_check
from hidream_volcengine.api.transport import connection as connections
from hidream_volcengine.api.transport.diagnosis import Diagnosis
from pytest import LogCaptureFixture, MonkeyPatch

from emulator import Credentials, Emulator
from tests.contract import raw_servers as raw
from tests.contract.nodes.test_routes import BASE, TOKEN, FakeDesk, assert_headers, assert_refused, serving
from tests.contract.raw_servers import RawServer, answering
from tests.contract.transport.test_networks import HEADER, PROXY_VARIABLES, tunnel, with_login

from hidream_volcengine.nodes.routes import register  # isort: skip  # after test_routes, which makes it importable

KEYS = Credentials()
CANARY = "canary-key-of-check-81c2"
Checking = Callable[..., Diagnosis]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: MonkeyPatch) -> None:
    for variable in PROXY_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def editor(tmp_path: Path) -> ProfileEditor:
    file = ProfileFile(lambda: tmp_path / "private")
    sandbox = Sandbox("http://127.0.0.1:9", "sandbox-token", "sandbox-key")
    return ProfileEditor(Profiles({}, lambda: sandbox, file), file)


KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "token": ("HiDream", {"hidream_token": CANARY}),
    "api key": ("HiDream", {"hidream_api_key": CANARY}),
    "gateway": ("Volcengine", {"volcengine_gateway_api_key": CANARY}),
    "signed": (
        "Volcengine",
        {"volcengine_access_key_id": "AKLTsome", "volcengine_secret_access_key": CANARY},
    ),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture
def check(editor: ProfileEditor) -> Checking:
    """Check a profile whose services are all at ``url``, with one kind of key."""

    def run(kind: str, url: str, keys: dict[str, str] | None = None, **settings: str) -> Diagnosis:
        provider, usual = KINDS[kind]
        hosts = ("hidream_base_url", "hidream_ec_base_url", "volcengine_base_url", "volcengine_gateway_base_url")
        revision = editor.shown().revision
        if revision != "none":
            revision = editor.remove(revision, "a").revision
        editor.add(revision, "a", {**dict.fromkeys(hosts, url), **settings}, keys or usual)
        found = editor.check("a", provider)
        assert "canary" not in f"{found}" and found.text.en and found.text.zh
        assert found.cause == "ok" or found.advice is not None
        return found

    return run


# ---- it works


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(credentials=KEYS) as running:
        yield running


GOOD = {
    "token": {"hidream_token": KEYS.hidream_token},
    "api key": {"hidream_api_key": KEYS.hidream_api_key},
    "gateway": {"volcengine_gateway_api_key": KEYS.gateway_api_key},
    "signed": {
        "volcengine_access_key_id": KEYS.access_key_id,
        "volcengine_secret_access_key": KEYS.secret_access_key,
    },
}


@every_kind
def test_a_good_key_is_one_free_request(check: Checking, emulator: Emulator, kind: str) -> None:
    assert check(kind, emulator.url, GOOD[kind]).cause == "ok"
    assert len(emulator.requests) == 1
    assert emulator.accepted == [] and emulator.billed == 0


@every_kind
def test_a_wrong_key(check: Checking, emulator: Emulator, kind: str) -> None:
    found = check(kind, emulator.url)
    assert found.cause == "key"
    assert "HTTP 4" in found.text.en, "the service's own words"
    assert emulator.accepted == [] and emulator.billed == 0


def test_the_sandbox_asks_nobody(editor: ProfileEditor) -> None:
    assert editor.check("sandbox", "HiDream").cause == "ok"


@pytest.mark.parametrize("provider", ["HiDream", "Volcengine"])
def test_no_key(editor: ProfileEditor, provider: str) -> None:
    found = editor.check("default", provider)
    assert found.cause == "no_key" and found.advice is not None and "Settings" in found.advice.en
    half = {"volcengine_access_key_id": "AKLTsome"}
    editor.add("none", "half", {}, half)
    assert editor.check("half", provider).cause == "no_key"


# ---- what stands in the way

WAYS = {
    "a page": ((200, b"<!DOCTYPE html><h1>Log in to the network</h1>", {}, "text/html"), "host"),
    "a page with 403": ((403, b"<html>blocked by your company</html>", {}, "text/html"), "host"),
    "404": ((404, {"detail": "Not Found"}), "host"),
    "404 page": ((404, b"<html/>", {}, "text/html"), "host"),
    "redirect": ((302, b"", {"Location": "https://login.example.com"}), "host"),
    "empty": ((200, b""), "host"),
    "list": ((200, b"[]"), "host"),
    "500": ((500, {"code": 1, "message": "boom"}), "service"),
    "502 page": ((502, b"<html/>", {}, "text/html"), "service"),
    "429": ((429, {"code": 50429}), "service"),
    "401": ((401, {"code": 401, "message": "no"}), "key"),
    "401 page": ((401, b"<html/>", {}, "text/html"), "key"),
    "403": ((403, {"code": 7, "message": "no"}), "key"),
    "in words": ((200, {"code": 4711, "message": f"invalid token {CANARY}"}), "key"),
    "gateway's words": ((400, {"error": {"message": f"Incorrect API key provided: {CANARY}"}}), "key"),
    "signature": ((400, {"ResponseMetadata": {"Error": {"Code": "SignatureDoesNotMatch", "Message": "x"}}}), "key"),
    "access key": ((400, {"ResponseMetadata": {"Error": {"Code": "InvalidAccessKey", "Message": "x"}}}), "key"),
    "unknown object": ((200, {"hello": "world"}), "service"),
}  # fmt: skip


@every_kind
@pytest.mark.parametrize("way", WAYS)
def test_answers_are_told_apart(check: Checking, kind: str, way: str, caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer, cause = WAYS[way]
    with RawServer(answering(*answer)) as server:
        assert check(kind, server.url).cause == cause
        assert server.accepted == 1
    assert "canary" not in caplog.text


def test_an_exchange_that_is_refused_in_other_words(check: Checking) -> None:
    with RawServer(answering(200, {"code": 7, "message": "?"})) as server:
        assert check("api key", server.url).cause == "key", "documented: every other code"
        found = check("token", server.url)
        assert found.cause == "service" and '"code": 7' in found.text.en, "verbatim"


def test_a_token_by_another_name_is_not_told(check: Checking) -> None:
    with RawServer(answering(200, {"code": 0, "result": {"access_token": CANARY[::-1]}})) as server:
        found = check("api key", server.url)
    assert found.cause == "service" and CANARY[::-1] not in str(found)


@pytest.mark.parametrize("kind", ["gateway", "signed"])
def test_a_service_that_does_not_know_the_task(check: Checking, kind: str) -> None:
    with RawServer(answering(400, {"code": 50404, "message": "no such task", "data": None})) as server:
        found = check(kind, server.url)
        assert found.cause == "ok" and "did not refuse the key" in found.text.en and "no such task" in found.text.zh
        [connection] = server.connections
        assert "Action=CVSync2AsyncGetResult" in connection.request_line
        assert json.loads(bytes(connection.body))["task_id"] == "0"


def test_a_clock_that_is_wrong(check: Checking) -> None:
    there = email.utils.formatdate(time.time() - 3600, usegmt=True)
    refused = {"ResponseMetadata": {"Error": {"Code": "SignatureDoesNotMatch", "Message": "x"}}}
    with RawServer(answering(401, refused, {"Date": there})) as server:
        found = check("signed", server.url)
        assert found.cause == "clock" and "60 minutes" in found.text.en and "60 分钟" in found.text.zh
        assert check("gateway", server.url).cause == "key", "a Bearer key has no time in it"
    for date in ("", "nonsense", email.utils.formatdate(time.time() - 60, usegmt=True)):
        with RawServer(answering(401, refused, {"Date": date})) as server:
            assert check("signed", server.url).cause == "key"
    words = {"ResponseMetadata": {"Error": {"Code": "InvalidTimestamp", "Message": "X-Date is expired"}}}
    with RawServer(answering(400, words)) as server:
        assert check("signed", server.url).cause == "clock"


@every_kind
def test_nobody_there(check: Checking, kind: str) -> None:
    assert check(kind, f"http://127.0.0.1:{raw.closed_port()}").cause == "connection"


@every_kind
@pytest.mark.parametrize("phase", ["accept", "headers", "whole", "answer"])
def test_cut_off(check: Checking, kind: str, phase: str) -> None:
    with RawServer(raw.resetting(phase)) as server:
        assert check(kind, server.url).cause == "connection"


@every_kind
def test_no_answer(check: Checking, kind: str, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(profile_check, "_ANSWER_S", 0.2)
    with RawServer(raw.hanging) as server:
        assert check(kind, server.url).cause == "timeout"


def test_it_ends_within_fifteen_seconds() -> None:
    assert profile_check._CONNECT_S + profile_check._ANSWER_S * 2 <= 15


@every_kind
def test_a_name_that_nobody_knows(check: Checking, kind: str, monkeypatch: MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert check(kind, "https://nowhere.invalid").cause == "dns"


@every_kind
def test_certificates(check: Checking, kind: str, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    certificate, both = raw.make_certificate(tmp_path)
    with RawServer(answering(401, {}), tls=raw.server_context(both)) as server:
        found = check(kind, server.url)
        assert found.cause == "tls" and found.advice is not None
        assert "REQUESTS_CA_BUNDLE" in found.advice.en and "REQUESTS_CA_BUNDLE" in found.advice.zh
        assert server.whole == 0, "nothing was sent"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert check(kind, server.url).cause == "key"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        assert check(kind, server.url).cause == "tls", "it is looked up each time"
        assert server.whole == 1


@every_kind
def test_proxies(
    check: Checking, kind: str, tmp_path: Path, monkeypatch: MonkeyPatch, caplog: LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    certificate, both = raw.make_certificate(tmp_path)
    with (
        RawServer(answering(401, {}), tls=raw.server_context(both)) as server,
        RawServer(tunnel(HEADER)) as proxy,
    ):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        url = f"https://localhost:{server.port}"
        found = check(kind, url, proxy=proxy.url)
        assert found.cause == "proxy" and "login" in found.text.en
        assert found.advice is not None and "HTTPS_PROXY" in found.advice.en and "HTTPS_PROXY" in found.advice.zh
        nobody = f"http://127.0.0.1:{raw.closed_port()}"
        assert check(kind, url, proxy=nobody).cause == "proxy"
        monkeypatch.setenv("HTTPS_PROXY", with_login(proxy.url, "-wrong"))
        assert check(kind, url).cause == "proxy"
        assert server.accepted == 0
        assert check(kind, url, proxy="none").cause == "key"
        before = proxy.accepted
        monkeypatch.setenv("HTTPS_PROXY", with_login(proxy.url))
        assert check(kind, url).cause == "key"
        assert proxy.accepted == before + 1
    assert "canary" not in caplog.text


def test_a_socks_proxy_without_its_package(check: Checking, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", None)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    for kind in KINDS:
        found = check(kind, "https://host.invalid")
        assert found.cause == "proxy" and "PySocks" in found.text.en and "PySocks" in found.text.zh


def test_it_is_a_connection_of_its_own(check: Checking) -> None:
    """A kept connection would show nothing about the network as it is now."""
    with RawServer(answering(200, {"code": 0})) as server:
        for _ in range(2):
            assert check("token", server.url).cause == "ok"
        assert server.accepted == 2


# ---- the route


def test_the_route(editor: ProfileEditor, emulator: Emulator) -> None:
    editor.add("none", "a", {"hidream_ec_base_url": emulator.url}, {"hidream_token": KEYS.hidream_token})
    routes = web.RouteTableDef()
    register(routes, FakeDesk(), TOKEN, profiles=lambda: editor)
    with serving(routes) as served:

        def post(**body: Any) -> Any:
            return served.post(f"{BASE}/profiles/check", body=json.dumps(body).encode())

        reply = post(name="a", provider="HiDream")
        assert_headers(reply)
        assert (reply.status, reply.json["ok"], reply.json["cause"], reply.json["advice"]) == (200, True, "ok", None)
        assert reply.json["text"].keys() == {"en", "zh"}
        reply = post(name="a", provider="Volcengine")
        assert (reply.status, reply.json["ok"], reply.json["cause"]) == (200, False, "no_key")
        assert reply.json["advice"].keys() == {"en", "zh"}
        for body in ({}, {"name": "a"}, {"name": "a", "provider": "x"}, {"name": "b", "provider": "HiDream"},
                     {"name": 1, "provider": "HiDream"}, {"name": "a", "provider": []},
                     {"name": "a", "provider": "HiDream", "url": "http://127.0.0.1"}):  # fmt: skip
            assert_refused(post(**body), 400)
        assert_refused(served.post(f"{BASE}/profiles/check", body=b"{}", token="wrong"), 403)
