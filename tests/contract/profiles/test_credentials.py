"""Credentials: where they come from, where they go, and that they show nowhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import pickle
import string
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from hidream_volcengine.api import (
    AuthenticationError,
    CallHandle,
    CancelToken,
    ConfigurationError,
    ConnectionFailedError,
    Deadlines,
    ProfileEditor,
    ProfileFile,
    Profiles,
    RemoteImageError,
    Sandbox,
    catalog,
    pack_logger,
)
from hidream_volcengine.api.catalog import HiDreamEndpoint
from hidream_volcengine.api.catalog.endpoints import (
    hidream_image_to_image,
    hidream_model_photo_set,
    hidream_outpaint,
    hidream_upscale,
)
from hidream_volcengine.api.core.redaction import Secret, redact
from hidream_volcengine.api.transport import auth
from hidream_volcengine.api.transport import connection as connections
from hidream_volcengine.api.transport.auth import BearerAuth, ExchangedTokenAuth, SignatureAuth
from hidream_volcengine.api.transport.connection import Request, origin
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import LogCaptureFixture, MonkeyPatch

from emulator import Credentials, Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import QUICK, Connection, RawServer, answering

KEYS = Credentials()
SIGNED = {"VOLCENGINE_ACCESS_KEY_ID": "AKLTsome", "VOLCENGINE_SECRET_ACCESS_KEY": "secret-some"}
GATEWAY = {"VOLCENGINE_GATEWAY_API_KEY": "gateway-some", "VOLCENGINE_GATEWAY_BASE_URL": "https://gateway.example.com"}


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def profiles(**environment: str) -> Profiles:
    return Profiles(environment, raw.no_sandbox)


def wrong(resolve: Callable[[], Any]) -> str:
    """The message of a refused configuration, in both languages."""
    with pytest.raises(ConfigurationError) as caught:
        resolve()
    assert caught.value.billed == "no"
    english, chinese = str(caught.value).split("\n")
    assert english and any("一" <= character <= "鿿" for character in chinese)
    return str(caught.value)


def prepared(account: Any, url: str, method: str = "POST", body: bytes = b"{}") -> requests.PreparedRequest:
    return requests.Request(method, url, data=body, auth=account.auth).prepare()


# ---- the environment


def test_hidream_token_is_sent_as_it_is_and_wins() -> None:
    account = profiles(HIDREAM_TOKEN="token-1", HIDREAM_API_KEY="api-key-1").hidream("default")
    assert isinstance(account.auth, BearerAuth)
    request = prepared(account, "https://www.hidreamai.com/api-pub/gw/v3/image/outpainting/async")
    assert request.headers["Authorization"] == "Bearer token-1"
    assert (account.base_url, account.ec_base_url) == ("https://www.hidreamai.com", "https://hidreamai.com")
    assert prepared(account, "https://hidreamai.com/api-pub/ec/v3/x").headers["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize("unset", ["", " ", "\t\n"])
def test_empty_is_unset(unset: str) -> None:
    account = profiles(HIDREAM_TOKEN=unset, HIDREAM_API_KEY="api-key-1", HIDREAM_BASE_URL=unset).hidream("default")
    assert isinstance(account.auth, ExchangedTokenAuth)
    assert account.base_url == "https://www.hidreamai.com"
    assert "HIDREAM_TOKEN" in wrong(lambda: profiles(HIDREAM_TOKEN=unset).hidream("default"))
    emptied = {**SIGNED, "VOLCENGINE_GATEWAY_API_KEY": unset, "VOLCENGINE_GATEWAY_BASE_URL": unset}
    assert isinstance(profiles(**emptied).volcengine("default").auth, SignatureAuth)


def test_no_key_names_the_variables() -> None:
    message = wrong(lambda: profiles().hidream("default"))
    assert "HIDREAM_TOKEN" in message and "HIDREAM_API_KEY" in message and "sandbox" in message
    message = wrong(lambda: profiles().volcengine("default"))
    for name in (*SIGNED, *GATEWAY):
        assert name in message


def test_gateway_wins_over_the_signature() -> None:
    account = profiles(**SIGNED, **GATEWAY).volcengine("default")
    assert isinstance(account.auth, BearerAuth)
    assert (account.base_url, account.path) == ("https://gateway.example.com", "/volcv/v1")
    account = profiles(**SIGNED).volcengine("default")
    assert (account.base_url, account.path) == ("https://visual.volcengineapi.com", "/")


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"VOLCENGINE_GATEWAY_API_KEY": "k"}, "VOLCENGINE_GATEWAY_BASE_URL"),
        ({"VOLCENGINE_GATEWAY_API_KEY": "k", **SIGNED}, "VOLCENGINE_GATEWAY_BASE_URL"),
        ({"VOLCENGINE_ACCESS_KEY_ID": "k"}, "VOLCENGINE_SECRET_ACCESS_KEY"),
        ({"VOLCENGINE_SECRET_ACCESS_KEY": "k"}, "VOLCENGINE_ACCESS_KEY_ID"),
        ({"VOLCENGINE_GATEWAY_BASE_URL": "https://gateway.example.com"}, "VOLCENGINE_GATEWAY_API_KEY"),
    ],
    ids=str,
)
def test_half_a_pair_names_the_other_half(environment: Mapping[str, str], missing: str) -> None:
    assert missing in wrong(lambda: profiles(**environment).volcengine("default"))


URL_VARIABLES: dict[str, Callable[..., Any]] = {
    "HIDREAM_BASE_URL": lambda **more: profiles(HIDREAM_TOKEN="token-1", **more).hidream("default").base_url,
    "HIDREAM_EC_BASE_URL": lambda **more: profiles(HIDREAM_TOKEN="token-1", **more).hidream("default").ec_base_url,
    "VOLCENGINE_BASE_URL": lambda **more: profiles(**{**SIGNED, **more}).volcengine("default").base_url,
    "VOLCENGINE_GATEWAY_BASE_URL": lambda **more: profiles(**{**GATEWAY, **more}).volcengine("default").base_url,
}
each_url = pytest.mark.parametrize("variable", list(URL_VARIABLES))


@each_url
@pytest.mark.parametrize(
    "url",
    ["https://host.example.com", "https://host.example.com:8443", "https://host.example.com/prefix",
     "http://127.0.0.1:8900", "http://localhost:8900", "http://[::1]:8900", "http://127.3.2.1"],
)  # fmt: skip
def test_hosts_can_be_set(variable: str, url: str) -> None:
    assert URL_VARIABLES[variable](**{variable: url}) == url
    assert URL_VARIABLES[variable](**{variable: f" {url}/ "}) == url


@each_url
@pytest.mark.parametrize(
    "url",
    ["http://host.example.com", "http://10.0.0.1:8900", "http://0.0.0.0", "http://localhost.example.com",
     "ftp://127.0.0.1", "host.example.com", "//host.example.com", "https://", "https:///x", "file:///x",
     "https://user@host.example.com", "https://user:canary-word@host.example.com",
     "https://host.example.com?x=1", "https://host.example.com#x", "https://host.example.com/a?",
     "https://host.example.com/a#", "https://host.example.com/a/../b", "https://host.example.com/a/./b",
     "https://host.example.com/..", "https://host.example.com/a/%2e%2E/b", "https://host.example.com/a/..%2fb",
     "https://host.example.com/a/%252e%252e/b", "https://host.example.com/a\\..\\b",
     "https://host.example.com/a/..;x/b", "https://.example.com", "nonsense"],
)  # fmt: skip
def test_other_hosts_are_refused(variable: str, url: str) -> None:
    message = wrong(lambda: URL_VARIABLES[variable](**{variable: url}))
    assert variable in message
    assert "canary-word" not in message


@each_url
@pytest.mark.parametrize("url", ["https://[bad", "https://host.example.com:99999", "https://host.example.com:port"])
def test_a_host_that_cannot_be_parsed_is_explained(variable: str, url: str) -> None:
    assert variable in wrong(lambda: URL_VARIABLES[variable](**{variable: url}))


@each_url
def test_a_host_with_a_password_alone_is_refused(variable: str) -> None:
    assert variable in wrong(lambda: URL_VARIABLES[variable](**{variable: "https://:canary-word@host.example.com"}))


@pytest.mark.parametrize(
    "name", ["HIDREAM_TOKEN", "HIDREAM_API_KEY", "HIDREAM_USER_ID", *SIGNED, "VOLCENGINE_GATEWAY_API_KEY"]
)
@pytest.mark.parametrize("value", ["two words", "line\nbreak", "\x00zero", "密钥", "caf\u00e9", "a\u2028b"], ids=ascii)
def test_a_key_that_is_no_header_value_is_refused_and_not_shown(name: str, value: str) -> None:
    environment = {
        **({"HIDREAM_TOKEN": "token-1"} if name.startswith("HIDREAM") else {**SIGNED, **GATEWAY}),
        name: value,
    }
    if name == "HIDREAM_API_KEY":
        del environment["HIDREAM_TOKEN"]
    if name in SIGNED:
        environment = {key: known for key, known in environment.items() if key not in GATEWAY}
    provider = "hidream" if name.startswith("HIDREAM") else "volcengine"
    message = wrong(lambda: getattr(profiles(**environment), provider)("default"))
    assert name in message and value not in message


def test_language_and_user() -> None:
    account = profiles(HIDREAM_TOKEN="token-1").hidream("default")
    assert (account.language, account.user_id) == ("zh", "")
    account = profiles(HIDREAM_TOKEN="token-1", HIDREAM_LANGUAGE="en", HIDREAM_USER_ID="user-1").hidream("default")
    assert (account.language, account.user_id) == ("en", "user-1")
    assert "HIDREAM_LANGUAGE" in wrong(
        lambda: profiles(HIDREAM_TOKEN="token-1", HIDREAM_LANGUAGE="de").hidream("default")
    )


def test_unknown_profile_is_explained() -> None:
    known = profiles(HIDREAM_TOKEN="token-1")
    for resolve in (known.hidream, known.volcengine):
        message = wrong(lambda resolve=resolve: resolve("other"))
        assert "'other'" in message and "default" in message and "sandbox" in message
    assert known.check_name("default") is None and known.check_name("sandbox") is None


def test_keys_are_looked_up_at_call_time() -> None:
    environment: dict[str, str] = {}
    known = Profiles(environment, raw.no_sandbox)
    wrong(lambda: known.hidream("default"))
    environment["HIDREAM_TOKEN"] = "token-1"
    assert isinstance(known.hidream("default").auth, BearerAuth)


def test_the_sandbox_is_started_only_when_chosen_and_knows_no_real_key() -> None:
    started: list[int] = []

    def start() -> Sandbox:
        started.append(1)
        return Sandbox("http://127.0.0.1:1", "sandbox-token", "sandbox-key")

    known = Profiles({"HIDREAM_TOKEN": "real-token-1", **GATEWAY}, start)
    known.hidream("default")
    known.volcengine("default")
    assert started == []
    account = known.hidream("sandbox")
    request = prepared(account, "http://127.0.0.1:1/x")
    assert request.headers["Authorization"] == "Bearer sandbox-token"
    wrong(lambda: prepared(account, "https://www.hidreamai.com/x"))
    assert "sandbox-token" not in repr(start()) and "sandbox-key" not in repr(start())


# ---- deadlines


def test_deadlines_come_from_the_environment() -> None:
    for deadline in fields(Deadlines):
        seconds = 1234.5
        name = f"REMOTE_IMAGE_{deadline.name.upper()}_SECONDS"
        for account in (
            profiles(HIDREAM_TOKEN="token-1", **{name: str(seconds)}).hidream("default"),
            profiles(**SIGNED, **{name: f" {seconds} "}).volcengine("default"),
        ):
            assert getattr(account.deadlines, deadline.name) == seconds
    assert profiles(HIDREAM_TOKEN="token-1").hidream("default").deadlines == Deadlines()
    assert Deadlines() == Deadlines(10, 60, 120, 300, 30, 600, 600, 300)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "1e9", "86401", "soon", "0x10", "1,5"])
def test_an_impossible_deadline_is_refused(value: str) -> None:
    for deadline in fields(Deadlines):
        name = f"REMOTE_IMAGE_{deadline.name.upper()}_SECONDS"
        assert name in wrong(lambda name=name: profiles(HIDREAM_TOKEN="t-1", **{name: value}).hidream("default"))


@pytest.mark.parametrize(("name", "least"), [("HIDREAM_ANSWER", 120), ("CVPROCESS_ANSWER", 300)])
def test_the_answer_to_a_paid_call_is_never_cut_shorter(name: str, least: int) -> None:
    name = f"REMOTE_IMAGE_{name}_SECONDS"
    assert str(least) in wrong(lambda: profiles(HIDREAM_TOKEN="t-1", **{name: f"{least - 0.1}"}).hidream("default"))
    profiles(HIDREAM_TOKEN="t-1", **{name: str(least)}).hidream("default")


# ---- the rate of an endpoint


@pytest.mark.parametrize("endpoint", catalog.ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_the_rate_of_an_endpoint_is_a_setting(endpoint: Any, tmp_path: Path) -> None:
    """In the file, the dialog and the environment, by its name alone; the service's own where nothing sets it."""
    file = ProfileFile(lambda: tmp_path)
    key = {"HIDREAM_TOKEN": "token-1"} if endpoint.provider == "HiDream" else GATEWAY
    known = Profiles(key, raw.no_sandbox, file)
    editor = ProfileEditor(known, file)

    def per_minute(profile: str = "default", server: Profiles = known) -> int | None:
        return server.service(profile, endpoint).ceiling.per_minute

    if (rate := endpoint.rate) is None:
        assert per_minute() is None
        return
    assert per_minute() == editor.shown().defaults[rate.setting] == rate.default
    editor.add("none", "mine", {rate.setting: 7}, {"hidream_token": "token-1"})
    assert per_minute("mine") == editor.shown().profiles[1].settings[rate.setting] == 7
    for text, expected in (("5", 5), ("0", None)):
        variables = {"HIDREAM_TOKEN": "token-1", f"REMOTE_IMAGE_{rate.setting.upper()}": text}
        assert per_minute(server=profiles(**variables)) == expected


# ---- pinned to a host


def accounts() -> dict[str, tuple[Any, str]]:
    api_key = profiles(HIDREAM_API_KEY="api-key-1").hidream("default")
    return {
        "token": (profiles(HIDREAM_TOKEN="token-1").hidream("default"), "https://www.hidreamai.com"),
        "api key": (api_key, "https://www.hidreamai.com"),
        "gateway": (profiles(**GATEWAY).volcengine("default"), "https://gateway.example.com"),
        "signed": (profiles(**SIGNED).volcengine("default"), "https://visual.volcengineapi.com"),
    }


@pytest.mark.parametrize("kind", ["token", "api key", "gateway", "signed"])
@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://example.com/",
        "http://{host}/",
        "https://{host}:8443/",
        "https://{host}.example.com/",
        "https://evil-{host}/",
        "https://example.com/{host}",
        "https://example.com#@{host}/",
    ],
)
def test_a_key_goes_to_its_own_host_only(kind: str, elsewhere: str) -> None:
    account, base_url = accounts()[kind]
    url = elsewhere.format(host=urllib.parse.urlsplit(base_url).hostname)
    message = wrong(lambda: prepared(account, url))
    assert "does not belong" in message


UNDER_A_PATH = {
    "token": ({"HIDREAM_TOKEN": "token-1"}, "hidream"),
    "api key": ({"HIDREAM_API_KEY": "api-key-1"}, "hidream"),
    "gateway": ({"VOLCENGINE_GATEWAY_API_KEY": "gateway-1"}, "volcengine"),
    "signed": (SIGNED, "volcengine"),
}
URLS = ("HIDREAM_BASE_URL", "HIDREAM_EC_BASE_URL", "VOLCENGINE_BASE_URL", "VOLCENGINE_GATEWAY_BASE_URL")


@pytest.mark.parametrize("kind", UNDER_A_PATH)
def test_a_key_goes_to_its_own_part_of_a_host_only(kind: str, monkeypatch: MonkeyPatch) -> None:
    """A gateway is one host for many: what lies beside our address may be somebody else's."""
    monkeypatch.setattr(ExchangedTokenAuth, "token", lambda self: Secret("token-of-the-day"))
    environment, provider = UNDER_A_PATH[kind]
    urls = dict.fromkeys(URLS, "https://gateway.example.com/tenant-a%7E")
    account = getattr(profiles(**environment, **urls), provider)("default")
    ours = "https://gateway.example.com/tenant-a~"
    for url in (f"{ours}/", f"{ours}/volcv/v1?Action=CVProcess", f"{ours.upper().replace('TENANT-A', 'tenant-a')}/x"):
        assert prepared(account, url.replace("HTTPS", "https")).headers["Authorization"]
    for path in (
        "", "/", "/tenant-b/volcv/v1", "/tenant-a", "/tenant-a~2/x", "/TENANT-A~/x", "/x/tenant-a~/", "//tenant-a~/",
        "/tenant-a~/../tenant-b/x", "/tenant-a~/%2e%2E/tenant-b/x", "/tenant-a~/..%2Ftenant-b", "/?/tenant-a~/",
        "/tenant-a~/%252e%252e/tenant-b", "/tenant-a~/..;/tenant-b", "/tenant-a~/..\\tenant-b", "/#/tenant-a~/",
        "/tenant-a~/..%5ctenant-b",
    ):  # fmt: skip
        url = f"https://gateway.example.com{path}"
        assert "does not belong" in wrong(lambda url=url: prepared(account, url)), path


def test_a_redirect_on_the_same_host_is_not_followed() -> None:
    """Of a paid request, a poll and an exchange of a key."""
    with RawServer(answering(307, b"", {"Location": "/tenant-b/x"})) as server:
        for kind, (environment, provider) in UNDER_A_PATH.items():
            urls = dict.fromkeys(URLS, f"{server.url}/tenant-a")
            make = raw.hidream_account if provider == "hidream" else raw.volcengine_account
            account = make("", environment={**environment, **urls})
            call = (raw.hidream_call if provider == "hidream" else raw.volcengine_call)("", account=account)
            with pytest.raises(RemoteImageError):
                raw.run(call)
            asked = [connection.request_line for connection in server.connections]
            assert asked and all(" /tenant-a/" in line for line in asked), kind


@given(scheme=st.sampled_from(["http", "https"]), host=st.text(string.ascii_letters + "-.", min_size=1, max_size=12))
def test_origin_is_one_spelling(scheme: str, host: str) -> None:
    port = {"http": 80, "https": 443}[scheme]
    assert origin(f"{scheme}://{host}/x") == origin(f"{scheme}://{host.upper()}:{port}/y?z")
    assert origin(f"{scheme}://{host}") != origin(f"{scheme}://{host}:8443")


def test_no_redirect_of_a_submit_or_a_poll_is_followed() -> None:
    with RawServer(answering(200, raw.accepted())) as other:
        away = {"Location": f"{other.url}/elsewhere"}

        def service(connection: Connection) -> None:
            connection.read()
            if connection.request_line.startswith("POST"):
                return connection.answer(200, raw.accepted())
            return connection.answer(302, b"", away)

        with RawServer(service) as server, pytest.raises(RemoteImageError):
            raw.run(raw.hidream_call(server.url, deadlines=Deadlines(queue=0.2)))
        with RawServer(answering(307, b"", away)) as server, pytest.raises(ConfigurationError):
            raw.run(raw.hidream_call(server.url))
        assert other.accepted == 0


def test_netrc_does_not_replace_the_bearer(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canary-user password canary-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    # Loopback sessions trust no environment at all; the others have to be safe as well.
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    monkeypatch.setenv("NO_PROXY", "*")
    with RawServer(raw.serving) as server:
        call = raw.hidream_call(server.url)
        # The download is refused without loopback; it must not carry anything either.
        with contextlib.suppress(RemoteImageError):
            raw.run(call)
        kinds = {connection.request_line.split(" ")[0] for connection in server.connections}
        assert kinds == {"POST", "GET"}
        for connection in server.connections:
            if "/picture" not in connection.request_line:
                assert connection.headers["authorization"] == f"Bearer {raw.TOKEN}"
            else:
                assert "authorization" not in connection.headers


def test_netrc_adds_nothing_to_the_exchange(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canary-user password canary-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    monkeypatch.setenv("NO_PROXY", "*")
    with RawServer(answering(200, {"code": 0, "result": {"token": "token-of-the-day"}})) as server:
        exchanging = ExchangedTokenAuth(Secret("api-key-netrc"), server.url, frozenset({server.url}), QUICK)
        assert exchanging.token().reveal() == "token-of-the-day"
        (connection,) = server.connections
        assert connection.headers["api-key"] == "api-key-netrc"
        assert "authorization" not in connection.headers


# ---- the exchange


def exchanged(emulator: Emulator) -> Any:
    return raw.hidream_account(emulator.url, environment={"HIDREAM_API_KEY": KEYS.hidream_api_key})


def exchanges(emulator: Emulator) -> int:
    return sum(record.phase == "token" for record in emulator.requests)


def test_sixteen_calls_exchange_once(emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "token", "phase": "token", "do": {"hang": 0.2}})
    running = [raw.Running(raw.hidream_call(emulator.url, account=exchanged(emulator))) for _ in range(16)]
    for one in running:
        one.join()
        assert one.problem is None and one.delivery is not None
    assert exchanges(emulator) == 1
    assert emulator.billed == 16
    request_ids = [record.request_id for record in emulator.requests if record.phase == "submit"]
    assert len(set(request_ids)) == 16


def test_sixteen_calls_with_an_expired_token_exchange_once_more(emulator: Emulator) -> None:
    raw.run(raw.hidream_call(emulator.url, account=exchanged(emulator)))
    emulator.expire_tokens()
    running = [raw.Running(raw.hidream_call(emulator.url, account=exchanged(emulator))) for _ in range(16)]
    for one in running:
        one.join()
        assert one.problem is None and one.delivery is not None
    assert exchanges(emulator) == 2
    assert emulator.billed == 17


def test_a_token_is_renewed_when_it_is_old(emulator: Emulator, monkeypatch: MonkeyPatch) -> None:
    call = raw.hidream_call(emulator.url, account=exchanged(emulator))
    raw.run(call)
    raw.run(call)
    assert exchanges(emulator) == 1
    monkeypatch.setattr(auth, "_TOKEN_LIFETIME", -1.0)
    raw.run(call)
    assert exchanges(emulator) >= 2
    assert all(record.status == 200 for record in emulator.requests)


def test_a_token_that_expires_while_a_task_runs_is_renewed(emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "result", "times": 2, "do": {"task_status": [2]}})
    account = exchanged(emulator)
    seen: list[str] = []

    def report(progress: Any) -> None:
        if progress.stage == "running" and not seen:
            seen.append("running")
            emulator.expire_tokens()

    delivery = raw.bought(raw.hidream_call(emulator.url, account=account), CallHandle(CancelToken(), report))
    assert len(delivery.pictures) == 1 and seen
    assert exchanges(emulator) == 2
    assert emulator.billed == 1


def test_two_keys_have_two_tokens(emulator: Emulator) -> None:
    with RawServer(answering(200, {"code": 0, "result": {"token": "token-of-another"}})) as server:
        bases = frozenset({server.url})
        one = ExchangedTokenAuth(Secret("api-key-one"), server.url, bases, QUICK)
        two = ExchangedTokenAuth(Secret("api-key-two"), server.url, bases, QUICK)
        again = ExchangedTokenAuth(Secret("api-key-one"), server.url, bases, QUICK)
        for each in (one, two, again, one):
            each.token()
        assert [entry.headers["api-key"] for entry in server.connections] == ["api-key-one", "api-key-two"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, {"code": 0, "result": {"token": ""}}), AuthenticationError),
        ((200, {"code": 0, "result": None}), AuthenticationError),
        ((200, {"code": 7, "message": "words", "request_id": "r-9"}), AuthenticationError),
        ((400, {"code": 7, "message": "words"}), AuthenticationError),
        ((401, b""), AuthenticationError),
        ((403, b"<html/>"), AuthenticationError),
        ((302, b"", {"Location": "/elsewhere"}), AuthenticationError),
        ((408, b""), ConnectionFailedError),
        ((429, b""), ConnectionFailedError),
        ((500, b"<html/>"), ConnectionFailedError),
        ((503, {"code": 7}), ConnectionFailedError),
    ],
    ids=str,
)
def test_an_exchange_without_a_token(answer: Any, expected: type[RemoteImageError]) -> None:
    with RawServer(answering(*answer)) as server:
        account = raw.hidream_account(server.url, environment={"HIDREAM_API_KEY": raw.API_KEY})
        with raw.fresh_journal() as journal, pytest.raises(RemoteImageError) as caught:
            try:
                raw.run(raw.hidream_call(server.url, account=account), journal)
            finally:
                [task] = journal.task_list.tasks()
        assert type(caught.value) is expected
        assert caught.value.billed == "no" and raw.API_KEY not in str(caught.value)
        # The task list says why nothing was sent.
        assert task.state == "cancelled" and str(task.error) == str(caught.value)
        assert server.submits == [] and server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 0, "message": None, "request_id": None, "result": {"token": "abc", "expire_time": "1 day"}},
        {"code": 0, "message": 7, "request_id": 8, "result": {"token": "abc"}},
        {"code": 200, "message": "ok", "result": {"token": "abc"}},
        {"code": "success", "result": {"token": "abc"}},
        {"result": {"token": "abc"}},
    ],
    ids=str,
)
def test_a_token_decides_and_no_word_beside_it(answer: dict[str, Any]) -> None:
    with RawServer(answering(200, answer)) as server:
        bases = frozenset({server.url})
        auth = ExchangedTokenAuth(Secret(f"key-{answer}"), server.url, bases, QUICK)
        assert auth.token().reveal() == "abc"


def test_an_exchange_that_cannot_be_reached() -> None:
    account = raw.hidream_account(
        f"http://127.0.0.1:{raw.closed_port()}", environment={"HIDREAM_API_KEY": "some-api-key"}
    )
    with pytest.raises(ConnectionFailedError) as caught:
        raw.run(raw.hidream_call("", account=account))
    assert caught.value.billed == "no"


# ---- the header table

ENDPOINTS: dict[str, tuple[HiDreamEndpoint, Any, set[str]]] = {
    "outpaint": (hidream_outpaint.ENDPOINT, raw.outpaint_request, {"x-accept-language", "api-user-id"}),
    "img2img": (hidream_image_to_image.ENDPOINT, raw.img2img_request, {"api-user-id"}),
    "upscale": (hidream_upscale.ENDPOINT, raw.upscale_request, {"x-accept-language", "api-user-id"}),
    "variation": (hidream_model_photo_set.ENDPOINT, raw.photo_set_request, set()),
}


@pytest.mark.parametrize("with_user", [True, False])
@pytest.mark.parametrize("name", list(ENDPOINTS))
def test_header_table(name: str, with_user: bool) -> None:
    endpoint, request, optional = ENDPOINTS[name]
    more = {"HIDREAM_USER_ID": "user-1", "HIDREAM_LANGUAGE": "en"} if with_user else {}
    with RawServer(raw.serving) as server:
        account = raw.hidream_account(server.url, environment={"HIDREAM_TOKEN": raw.TOKEN, **more})
        raw.run(raw.hidream_call(server.url, account=account, endpoint=endpoint, request=request()))
        submit, poll, download = server.connections
        assert submit.headers["authorization"] == poll.headers["authorization"] == f"Bearer {raw.TOKEN}"
        assert submit.headers["content-type"] == "application/json"
        expected = optional if with_user else optional - {"api-user-id"}
        assert {header for header in submit.headers if header in ("x-accept-language", "api-user-id")} == expected
        if "x-accept-language" in optional:
            assert submit.headers["x-accept-language"] == ("en" if with_user else "zh")
        for other in (poll, download):
            assert not {"x-accept-language", "api-user-id"} & set(other.headers)
        assert "authorization" not in download.headers
        assert "cookie" not in submit.headers and "transfer-encoding" not in submit.headers
        assert submit.length == len(submit.body) > 0


@pytest.mark.parametrize("name", list(ENDPOINTS))
def test_the_emulator_takes_the_headers_of_every_endpoint(name: str, emulator: Emulator) -> None:
    endpoint, request, _ = ENDPOINTS[name]
    environment = {"HIDREAM_TOKEN": KEYS.hidream_token, "HIDREAM_USER_ID": "user-1", "HIDREAM_LANGUAGE": "en"}
    account = raw.hidream_account(emulator.url, environment=environment)
    call = raw.hidream_call(emulator.url, account=account, endpoint=endpoint, request=request())
    delivery = raw.run(call)
    assert delivery.errors == () and len(delivery.pictures) == emulator.billed
    assert {record.endpoint for record in emulator.requests} == {name}


# ---- nowhere to be seen

# One that every encoding changes.
CANARY = "Canary+key/with=odd&signs%41"


def spellings(key: str) -> list[str]:
    return [
        key,
        urllib.parse.quote(key, safe=""),
        urllib.parse.quote_plus(key),
        base64.b64encode(key.encode()).decode(),
    ]


def assert_hidden(text: str, key: str = CANARY) -> None:
    for spelling in spellings(key):
        assert spelling not in text, text
    assert key[:12] not in text, text


def test_a_secret_never_shows_itself() -> None:
    secret = Secret(CANARY)
    bearer = BearerAuth(secret, frozenset())
    exchanging = ExchangedTokenAuth(secret, "https://x.example.com", frozenset())
    signing = SignatureAuth(secret, secret, frozenset())
    account = profiles(HIDREAM_TOKEN=CANARY).hidream("default")
    signed = f"https://x.example.com/a.png?X-Signature={CANARY}"
    request = Request(signed, bearer, account.deadlines, "", {"k": CANARY}, {"K": CANARY}, CANARY.encode())
    for thing in (secret, bearer, exchanging, signing, account, [secret], {"k": bearer}, request):
        assert_hidden(f"{thing} {thing!r}")
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret == Secret(CANARY) and secret != CANARY and hash(secret) == hash(Secret(CANARY))


def test_a_variable_without_a_name_sets_nothing() -> None:
    """A profile's proxy has no variable."""
    known = Profiles({"": "http://elsewhere.example.com:1", "HIDREAM_TOKEN": CANARY}, raw.no_sandbox)
    assert known.hidream("default").proxy == ""


@given(st.text(string.ascii_letters + string.digits + string.punctuation, min_size=12, max_size=60))
@settings(max_examples=100)
def test_redact_takes_every_spelling_out(key: str) -> None:
    Secret(key)
    for spelling in spellings(key):
        assert spelling not in redact(f"<<{spelling}>>") or spelling in "<<***>>"


@pytest.mark.parametrize(
    "spelled",
    [
        lambda key: urllib.parse.quote(key, safe="").lower(),
        lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
        lambda key: key.replace("/", "\\/"),
        lambda key: key.replace("=", "\\u003d"),
    ],
    ids=["lower-case percent", "urlsafe base64", "escaped in JSON", "as Gson writes it"],
)
def test_redact_takes_other_spellings_out(spelled: Callable[[str], str]) -> None:
    # Of bytes that base64 spells with + and /.
    key = "canary~~~???>>>/key/1=="
    Secret(key)
    assert spelled(key) != key
    assert redact(spelled(key)) != spelled(key)


def everything_of(error: BaseException, caplog: LogCaptureFixture) -> str:
    lines = "".join(traceback.format_exception(error))
    shown = f"{error} {error!r} {error.args!r} {vars(error)!r}"
    records = [record for record in caplog.records if record.name == "hidream_volcengine"]
    logged = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in records)
    return f"{lines}\n{shown}\n{logged}"


def echo(status: int, form: str) -> Callable[[Connection], None]:
    """A service that repeats the key it was given, in its error message."""

    def step(connection: Connection) -> None:
        connection.read()
        given = connection.headers.get("authorization", "").removeprefix("Bearer ") or connection.headers["api-key"]
        spelled = spellings(given)[{"plain": 0, "percent": 1, "base64": 3}[form]]
        connection.answer(status, {"code": 7001, "message": f"the key {spelled} is not valid", "request_id": "r-9"})

    return step


@pytest.mark.parametrize("form", ["plain", "percent", "base64"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
@pytest.mark.parametrize("kind", ["token", "api key", "gateway"])
def test_an_echoed_key_is_hidden(status: int, form: str, kind: str, caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer(echo(status, form)) as server:
        call: Any
        if kind == "gateway":
            environment = {"VOLCENGINE_GATEWAY_API_KEY": CANARY, "VOLCENGINE_GATEWAY_BASE_URL": server.url}
            call = raw.volcengine_call(server.url, account=raw.volcengine_account("", environment=environment))
        else:
            variable = "HIDREAM_TOKEN" if kind == "token" else "HIDREAM_API_KEY"
            call = raw.hidream_call(server.url, account=raw.hidream_account(server.url, environment={variable: CANARY}))
        with pytest.raises(RemoteImageError) as caught:
            raw.run(call)
        assert_hidden(everything_of(caught.value, caplog))


def test_a_key_echoed_as_an_id_is_hidden() -> None:
    Secret(CANARY)
    with RawServer(answering(400, {"code": 7001, "message": "x", "request_id": CANARY})) as server:
        with pytest.raises(RemoteImageError) as caught:
            raw.run(raw.hidream_call(server.url))
        assert_hidden(str(caught.value))


@pytest.mark.parametrize("before", range(275, 300, 5))
def test_a_key_at_the_edge_of_an_excerpt_is_hidden(before: int) -> None:
    Secret(CANARY)
    with RawServer(answering(502, "x" * before + CANARY + "y" * 100, content_type="text/html")) as server:
        with pytest.raises(RemoteImageError) as caught:
            raw.run(raw.hidream_call(server.url))
        shown = caught.value.vendor_message
        assert not any(CANARY[:length] in shown for length in range(4, len(CANARY)))


def test_a_key_in_a_connection_error_is_hidden(caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Secret(CANARY)
    with RawServer(raw.resetting("whole")) as server:
        environment = {"HIDREAM_TOKEN": CANARY, "HIDREAM_USER_ID": "user-1"}
        account = raw.hidream_account(server.url, environment=environment)
        with pytest.raises(RemoteImageError) as caught:
            raw.run(raw.hidream_call(server.url, account=account))
        assert_hidden(everything_of(caught.value, caplog))


def test_a_token_that_is_no_header_value_is_hidden(caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = f"{CANARY}\r\nX-More: 1"
    with RawServer(answering(200, {"code": 0, "result": {"token": token}})) as server:
        account = raw.hidream_account(server.url, environment={"HIDREAM_API_KEY": "api-key-odd-token"})
        with pytest.raises(RemoteImageError) as caught:
            raw.run(raw.hidream_call(server.url, account=account))
        assert server.submits == []
        assert CANARY not in str(caught.value)


def test_the_log_hides_what_others_put_into_it(caplog: LogCaptureFixture) -> None:
    Secret(CANARY)
    log = pack_logger()
    with caplog.at_level(logging.DEBUG, log.name):
        log.info("plain %s, percent %s", CANARY, urllib.parse.quote(CANARY, safe=""))
        log.warning("%(key)s", {"key": CANARY})
        try:
            raise ValueError(CANARY)
        except ValueError:
            log.exception("failed with %r", CANARY)
    formatter = logging.Formatter()
    text = "\n".join(formatter.format(record) for record in caplog.records)
    assert text.count("***") >= 5
    assert_hidden(text)


# ---- V4

VECTOR_BODY = b'{"req_key": "i2i_outpainting"}'
VECTOR_URL = "https://visual.volcengineapi.com/?Action=CVProcess&Version=2022-08-31"
VECTOR_DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def signer(key_id: str = "AKLTtestAccessKey", key: str = "testSecretKey==") -> SignatureAuth:
    return SignatureAuth(Secret(key_id), Secret(key), frozenset({"https://visual.volcengineapi.com:443"}))


def test_v4_vector() -> None:
    signed = signer().sign(VECTOR_URL, VECTOR_BODY, VECTOR_DATE)
    assert signed["X-Date"] == "20260102T030405Z"
    assert signed["X-Content-Sha256"] == "4d29218a17a939c7b172eb384097eece3cbc23eee0b8de1705d8adf052321824"
    assert signed["Host"] == "visual.volcengineapi.com"
    assert signed["Authorization"] == (
        "HMAC-SHA256 Credential=AKLTtestAccessKey/20260102/cn-north-1/cv/request, "
        "SignedHeaders=content-type;host;x-content-sha256;x-date, "
        "Signature=baed40d0e8a5e24341f60adac526ce1856682fcbd90d446b02353d33c6bc2f78"
    )


def sdk_authorization(body: bytes, query: Mapping[str, str], key_id: str, key: str) -> str:
    from volcengine.auth.SignerV4 import SignerV4
    from volcengine.base.Request import Request
    from volcengine.Credentials import Credentials as SdkCredentials

    request = Request()
    request.set_method("POST")
    request.set_host("visual.volcengineapi.com")
    request.set_path("/")
    request.set_query(dict(query))
    request.set_headers({"Content-Type": "application/json", "Host": "visual.volcengineapi.com"})
    request.set_body(body.decode("utf-8"))
    SignerV4.sign(request, SdkCredentials(key_id, key, "cv", "cn-north-1"))
    return str(request.headers["Authorization"])


_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10)


@settings(max_examples=100)
@given(
    body=st.text(st.characters(codec="utf-8"), max_size=60),
    query=st.dictionaries(_words, _words, min_size=1, max_size=4),
    key=st.text(string.ascii_letters + string.digits + "=+/", min_size=8, max_size=40),
)
def test_v4_agrees_with_the_official_sdk(body: str, query: dict[str, str], key: str) -> None:
    from volcengine.auth.SignerV4 import SignerV4

    with MonkeyPatch.context() as patch:
        patch.setattr(SignerV4, "get_current_format_date", staticmethod(lambda: "20260102T030405Z"))
        theirs = sdk_authorization(body.encode(), query, "AKLTsomebody", key)
    url = requests.Request("POST", "https://visual.volcengineapi.com/", params=query).prepare().url
    assert url is not None
    ours = signer("AKLTsomebody", key).sign(url, body.encode(), VECTOR_DATE)["Authorization"]
    assert ours == theirs


def test_v4_goes_over_the_wire_as_it_was_signed(emulator: Emulator) -> None:
    environment = {
        "VOLCENGINE_ACCESS_KEY_ID": KEYS.access_key_id,
        "VOLCENGINE_SECRET_ACCESS_KEY": KEYS.secret_access_key,
        "VOLCENGINE_BASE_URL": emulator.url,
    }
    request = raw.sides_request(**{"custom_prompt": "海边 ☀", "prompt": "海边 ☀"})
    call = raw.volcengine_call("", account=raw.volcengine_account("", environment=environment), request=request)
    assert len(raw.run(call).pictures) == 1
    (record,) = emulator.requests
    assert (record.status, record.path) == (200, "/")
    wrong_key = {**environment, "VOLCENGINE_SECRET_ACCESS_KEY": CANARY}
    call = raw.volcengine_call("", account=raw.volcengine_account("", environment=wrong_key))
    with pytest.raises(AuthenticationError) as caught:
        raw.run(call)
    assert caught.value.billed == "no" and caught.value.code == "SignatureDoesNotMatch"
    assert_hidden(str(caught.value))


def test_v4_is_signed_anew_for_every_try() -> None:
    busy = answering(429, {}, {"Retry-After": "1.1"})
    with RawServer(busy, answering(200, raw.finished_picture())) as server:
        environment = {**SIGNED, "VOLCENGINE_BASE_URL": server.url}
        raw.run(raw.volcengine_call("", account=raw.volcengine_account("", environment=environment)))
        first, second = (connection.headers for connection in server.connections)
        assert first["x-date"] < second["x-date"]
        for connection in server.connections:
            assert connection.headers["x-content-sha256"] == hashlib.sha256(connection.body).hexdigest()


def test_exchanges_of_other_threads_are_seen_by_all() -> None:
    """One lock, one token: nobody gets a half-made one."""
    with RawServer(answering(200, {"code": 0, "result": {"token": "token-of-all"}})) as server:
        exchanging = ExchangedTokenAuth(Secret("api-key-all"), server.url, frozenset({server.url}), QUICK)
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(exchanging.token().reveal())) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert found == ["token-of-all"] * 16 and server.accepted == 1
