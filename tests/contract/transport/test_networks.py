"""Proxies, a profile's own and the environment's, and the environment's CA bundle: everything goes that way."""

from __future__ import annotations

import base64
import logging
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from hidream_volcengine.api import CancelToken, ConnectionFailedError, PaidCall, ServiceError
from hidream_volcengine.api.core.task import PollError, TaskRef
from hidream_volcengine.api.services.hidream_templates import Template, fetch_templates, fetch_thumbnail
from hidream_volcengine.api.transport import connection as connections
from hidream_volcengine.api.transport import download as downloads
from hidream_volcengine.api.transport import free
from hidream_volcengine.api.transport.account import HiDreamAccount
from hidream_volcengine.api.transport.diagnosis import _TLS_ADVICE
from pytest import LogCaptureFixture, MonkeyPatch

from tests.contract import raw_servers as raw
from tests.contract.raw_servers import QUICK, Connection, RawServer

LOGIN = "somebody:canary-p@ssword"
HEADER = "Basic " + base64.b64encode(LOGIN.encode()).decode()
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY",
                   "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # fmt: skip


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: MonkeyPatch) -> None:
    raw.brisk(monkeypatch)
    for variable in PROXY_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return raw.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted_files(tls_files: tuple[Path, Path], monkeypatch: MonkeyPatch) -> tuple[Path, Path]:
    """A server's certificate that the environment's bundle vouches for."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[0]))
    return tls_files


@pytest.fixture
def not_loopback(monkeypatch: MonkeyPatch) -> None:
    """`localhost` is taken for a host out there, which only a proxy reaches."""
    out_there(monkeypatch)


def out_there(monkeypatch: MonkeyPatch) -> None:
    # In free.py, too: a session that is kept for loopback must not be one of these.
    for module in (connections, downloads, free):
        monkeypatch.setattr(module, "is_loopback", lambda host: False)


def tunnel(login: str = "") -> Callable[[Connection], None]:
    """A proxy for CONNECT: it asks for a login, if it has one, and passes bytes on."""

    def step(connection: Connection) -> None:
        connection.read_head()
        if login and connection.headers.get("proxy-authorization") != login:
            return connection.answer(407, b"", {"Proxy-Authenticate": "Basic"})
        host, _, port = connection.request_line.split(" ")[1].rpartition(":")
        with socket.create_connection((host, int(port)), 5) as onward:
            connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {connection.sock: onward, onward: connection.sock}
            while not connection.stopping.is_set():
                for ready in select.select(list(ends), [], [], 0.1)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return None
                    ends[ready].sendall(data)
        return None

    return step


def hidream(connection: Connection) -> None:
    if "apikey2token" in connection.request_line:
        return connection.answer(200, {"code": 0, "result": {"token": "token-of-the-day"}})
    if "/template/" in connection.request_line:
        picture = f"https://{connection.headers['host']}/picture.png"
        listed = [{"id": 1, "gender": "woman", "show_image": picture}]
        return connection.answer(200, {"code": 0, "result": {"total_count": 1, "templates": listed}})
    if connection.request_line.startswith("POST"):
        return connection.answer(200, raw.accepted())
    if "/results?" in connection.request_line:
        return connection.answer(
            200, raw.results(raw.sub_task(image=f"https://{connection.headers['host']}/picture.png"))
        )
    return connection.answer(200, raw.png(128, 96), content_type="image/png")


def with_login(url: str, more: str = "") -> str:
    """As it is written into HTTPS_PROXY."""
    scheme, _, host = url.partition("://")
    user, _, password = f"{LOGIN}{more}".partition(":")
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}"


def every_service(connection: Connection) -> None:
    """Both of Volcengine's ways to ask for a picture, and all of HiDream."""
    connection.read()
    if "Action=CVSync2AsyncSubmitTask" in connection.request_line:
        return connection.answer(200, {"code": 10000, "data": {"task_id": "task-1"}})
    if "Action=" in connection.request_line:
        return connection.answer(200, raw.finished_picture(status="done"))
    return hidream(connection)


@contextmanager
def secured(tls_files: tuple[Path, Path]) -> Iterator[RawServer]:
    with RawServer(every_service, tls=raw.server_context(tls_files[1])) as server:
        yield server


def account(server: RawServer, proxy: str = "", **environment: str) -> HiDreamAccount:
    keys = environment or {"HIDREAM_TOKEN": raw.TOKEN}
    url = f"https://localhost:{server.port}"
    found = raw.hidream_account(url, QUICK, keys)
    auth = replace(found.auth, proxy=proxy) if "HIDREAM_API_KEY" in environment else found.auth
    return replace(found, proxy=proxy, auth=auth)


def buy(who: HiDreamAccount) -> Any:
    return raw.run(raw.hidream_call("", account=who))


# ---- proxies


@pytest.mark.parametrize("whose", ["the profile's", "the environment's"])
@pytest.mark.parametrize("key", ["HIDREAM_TOKEN", "HIDREAM_API_KEY"])
def test_everything_goes_through_the_proxy(
    trusted_files: tuple[Path, Path], not_loopback: None, key: str, whose: str, monkeypatch: MonkeyPatch
) -> None:
    """Submit, polls, download and token exchange. Beside a profile's proxy that of the environment is not asked, nor
    its exceptions; a login in the environment's goes to that proxy alone."""
    login = HEADER if whose == "the environment's" else ""
    with secured(trusted_files) as server, RawServer(tunnel(login)) as proxy, RawServer(raw.hanging) as other:
        own = proxy.url if whose == "the profile's" else ""
        monkeypatch.setenv("HTTPS_PROXY", other.url if own else with_login(proxy.url))
        monkeypatch.setenv("NO_PROXY", "*" if own else "")
        delivery = buy(account(server, own, **{key: f"key-{proxy.port}"}))
        assert len(delivery.pictures) == 1
        expected = PHASES["api key" if key == "HIDREAM_API_KEY" else "token"]
        assert {phase(connection) for connection in server.connections} == expected
        assert proxy.accepted == server.accepted and other.accepted == 0
        for connection in proxy.connections:
            assert connection.request_line.startswith(f"CONNECT localhost:{server.port} HTTP/1.")
            assert connection.headers.get("proxy-authorization", "") == login
            assert "authorization" not in connection.headers
        for connection in server.connections:
            assert "proxy-authorization" not in connection.headers and "canary" not in str(connection.headers)


@pytest.mark.parametrize("key", ["HIDREAM_TOKEN", "HIDREAM_API_KEY"])
def test_none_goes_directly_whatever_the_environment_says(
    trusted_files: tuple[Path, Path], not_loopback: None, key: str, monkeypatch: MonkeyPatch
) -> None:
    with secured(trusted_files) as server, RawServer(raw.hanging) as other:
        for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, other.url)
        assert len(buy(account(server, "none", **{key: f"key-{other.port}"})).pictures) == 1
        assert other.accepted == 0


@pytest.mark.parametrize("proxy_of", ["the profile", "the environment"])
def test_loopback_never_goes_through_a_proxy(proxy_of: str, monkeypatch: MonkeyPatch) -> None:
    with RawServer(raw.serving) as server, RawServer(raw.hanging) as proxy:
        if proxy_of == "the environment":
            monkeypatch.setenv("HTTP_PROXY", with_login(proxy.url))
        own = proxy.url if proxy_of == "the profile" else ""
        assert len(buy(replace(raw.hidream_account(server.url), proxy=own)).pictures) == 1
        assert proxy.accepted == 0
        for connection in server.connections:
            assert "proxy-authorization" not in connection.headers


@pytest.mark.parametrize("why", ["no login", "wrong login", "nobody there"])
def test_a_proxy_that_refuses(
    trusted_files: tuple[Path, Path], not_loopback: None, why: str, caplog: LogCaptureFixture, monkeypatch: MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    with secured(trusted_files) as server, RawServer(tunnel(HEADER)) as proxy:
        url = f"http://127.0.0.1:{raw.closed_port()}" if why == "nobody there" else proxy.url
        monkeypatch.setenv("HTTPS_PROXY", url if why == "no login" else with_login(url, "-wrong"))
        with pytest.raises(ConnectionFailedError) as caught:
            buy(account(server))
        assert "proxy" in caught.value.what.en and caught.value.billed == "no"
        assert server.accepted == 0
        told = f"{caught.value} {caught.value!r} {caplog.text}"
        assert "canary" not in told and HEADER not in told


@pytest.mark.parametrize("whose", ["the environment's", "an account's"])
@pytest.mark.parametrize("scheme", ["socks4", "socks5", "SOCKS5h"])
@pytest.mark.parametrize("kind", ["token", "api key", "gateway", "signed", "tasks"])
def test_a_socks_proxy_without_its_package_is_told_before_anything_is_sent(
    monkeypatch: MonkeyPatch, caplog: LogCaptureFixture, kind: str, scheme: str, whose: str
) -> None:
    """With what to do, on the way of each request: a submit, a token exchange, a poll and a download."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", None)
    with RawServer(raw.hanging) as proxy:
        own = with_login(f"{scheme}://127.0.0.1:{proxy.port}")
        if whose == "the environment's":
            monkeypatch.setenv("HTTPS_PROXY", own)
            own = ""
        call = call_of(kind, "https://host.invalid", own)
        with pytest.raises(ConnectionFailedError) as caught:
            raw.run(call)
        task = TaskRef(call.service.provider, call.service.name, "task-1")
        with pytest.raises(PollError) as asked:
            call.service.query(task)
        with pytest.raises(downloads.DownloadError) as missed:
            downloads.downloaded(
                "https://host.invalid/p.png", max_bytes=9, allow_loopback=False, deadlines=QUICK, cancel=CancelToken(),
                proxy=own,
            )  # fmt: skip
        assert caught.value.billed == "no" and proxy.accepted == 0
        told = [caught.value.text().en, caught.value.text().zh, f"{asked.value}", f"{missed.value}"]
        assert all("pip install PySocks" in each and "http://" in each for each in told), told
        assert "canary" not in f"{caught.value!r} {told} {caplog.text}".replace(raw.TOKEN, "")


@pytest.mark.parametrize("password", ["canary#1", "canary/1", "canary?1", "canary\\1", "canary1"])
@pytest.mark.parametrize("key", ["HIDREAM_TOKEN", "HIDREAM_API_KEY"])
def test_a_proxy_of_the_environment_that_nobody_can_read_tells_no_password(
    monkeypatch: MonkeyPatch, caplog: LogCaptureFixture, key: str, password: str
) -> None:
    """Characters that have to be written as %23 or the like, or a port that is none."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:{password}@proxy.example.com:99999")
    who = raw.hidream_account("https://host.invalid", QUICK, {key: raw.TOKEN})
    with pytest.raises(ConnectionFailedError) as caught:
        buy(who)
    with pytest.raises(downloads.DownloadError) as missed:
        downloads.downloaded(
            "https://host.invalid/p.png", max_bytes=9, allow_loopback=False, deadlines=QUICK, cancel=raw.CancelToken()
        )
    assert caught.value.billed == "no"
    told = f"{caught.value} {caught.value!r} {missed.value}"
    assert "proxy" in told and "canary" not in told.replace(raw.TOKEN, "") + caplog.text


@pytest.mark.parametrize("kind", ["token", "api key"])
def test_a_socks_proxy_of_no_known_version_tells_no_password(
    monkeypatch: MonkeyPatch, caplog: LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)

    def unknown(proxy_url: str, **_: Any) -> None:
        # As urllib3 has it.
        raise ValueError(f"Unable to determine SOCKS version from {proxy_url}")

    socks = SimpleNamespace(SOCKSProxyManager=unknown, SOCKSConnection=None)
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", socks)
    monkeypatch.setenv("HTTPS_PROXY", with_login("socks://proxy.example.com"))
    with pytest.raises(ConnectionFailedError, match="proxy") as caught:
        raw.run(call_of(kind, "https://host.invalid"))
    assert "canary" not in f"{caught.value} {caught.value!r} {caplog.text}".replace(raw.TOKEN, "")


def test_two_proxies_share_no_connection(trusted_files: tuple[Path, Path], not_loopback: None) -> None:
    """In one thread, with the connections that are kept for polls."""
    with secured(trusted_files) as server, RawServer(tunnel()) as one, RawServer(tunnel()) as other:
        for proxy in (one, other):
            assert len(buy(account(server, proxy.url)).pictures) == 1
        assert one.accepted == other.accepted >= 3


# ---- the environment's bundle

# What each kind of account asks for when it buys one picture.
PHASES = {
    "token": {"submit", "results", "picture"},
    "api key": {"token", "submit", "results", "picture"},
    "gateway": {"CVProcess"},
    "signed": {"CVProcess"},
    "tasks": {"CVSync2AsyncSubmitTask", "CVSync2AsyncGetResult"},
}
WAYS = ("loopback", "direct", "the environment's proxy", "the profile's proxy")


def call_of(kind: str, url: str, proxy: str = "") -> PaidCall:
    keys = {
        "token": {"HIDREAM_TOKEN": raw.TOKEN},
        "api key": {"HIDREAM_API_KEY": f"key-for-{url}"},
        "gateway": {"VOLCENGINE_GATEWAY_API_KEY": raw.TOKEN, "VOLCENGINE_GATEWAY_BASE_URL": url},
        "signed": {"VOLCENGINE_ACCESS_KEY_ID": "AKLTsome", "VOLCENGINE_SECRET_ACCESS_KEY": raw.TOKEN,
                   "VOLCENGINE_BASE_URL": url},
        "tasks": {"VOLCENGINE_GATEWAY_API_KEY": raw.TOKEN, "VOLCENGINE_GATEWAY_BASE_URL": url,
                  "VOLCENGINE_RESUMABLE": "1"},
    }[kind]  # fmt: skip
    if kind in ("token", "api key"):
        hidream = raw.hidream_account(url, QUICK, keys)
        auth = replace(hidream.auth, proxy=proxy) if kind == "api key" else hidream.auth
        return raw.hidream_call("", account=replace(hidream, proxy=proxy, auth=auth))
    return raw.volcengine_call("", account=replace(raw.volcengine_account(url, QUICK, keys), proxy=proxy))


def phase(connection: Connection) -> str:
    line = connection.request_line
    if "Action=" in line:
        return line.partition("Action=")[2].partition("&")[0]
    if "apikey2token" in line:
        return "token"
    return "submit" if line.startswith("POST") else "results" if "/results?" in line else "picture"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", PHASES)
def test_the_environment_s_bundle_vouches_for_a_host(
    tls_files: tuple[Path, Path], monkeypatch: MonkeyPatch, way: str, kind: str
) -> None:
    """On every request of a purchase, and without the bundle none of them is made."""
    with secured(tls_files) as server, RawServer(tunnel()) as proxy:
        if way != "loopback":
            out_there(monkeypatch)
        if way == "direct":
            monkeypatch.setenv("NO_PROXY", "*")
        if way == "the environment's proxy":
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        own = proxy.url if way == "the profile's proxy" else ""
        call = call_of(kind, f"https://localhost:{server.port}", own)
        with pytest.raises(ConnectionFailedError, match="certificate") as caught:
            raw.run(call)
        assert caught.value.billed == "no" and server.whole == 0
        # Its auth has words of its own for an exchange that failed.
        assert kind == "api key" or caught.value.advice == _TLS_ADVICE
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[0]))
        assert len(raw.run(call).pictures) == 1
        assert {phase(connection) for connection in server.connections if connection.head} == PHASES[kind]
        assert (proxy.accepted > 0) == way.endswith("proxy")


def test_a_list_of_templates_and_their_pictures_trust_it_too(
    tls_files: tuple[Path, Path], monkeypatch: MonkeyPatch
) -> None:
    with secured(tls_files) as server:
        url = f"https://localhost:{server.port}"
        who = raw.hidream_account(url)
        listed = Template(1, "woman", f"{url}/picture.png")
        with pytest.raises(ConnectionFailedError, match="certificate"):
            fetch_templates(who, "woman")
        with pytest.raises(ServiceError, match="certificate"):
            fetch_thumbnail(who, listed)
        assert server.whole == 0
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls_files[0]))
        assert fetch_templates(who, "woman") == [listed]
        assert fetch_thumbnail(who, listed)


def test_a_bundle_replaces_the_usual_certificates(
    tls_files: tuple[Path, Path], tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    """So it must hold all that are needed; a file with several is one bundle, also with words around them."""
    ours, theirs = tls_files, raw.make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes("# 公司根证书\n".encode() + ours[0].read_bytes() + b"\r\nmore\r\n" + theirs[0].read_bytes())
    with secured(ours) as server, secured(theirs) as other:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(theirs[0]))
        with pytest.raises(ConnectionFailedError, match="certificate"):
            buy(account(server))
        assert server.whole == 0
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(both))
        for each in (server, other):
            assert len(buy(account(each)).pictures) == 1


@pytest.mark.parametrize("bad", ["missing", "no certificate"])
def test_a_bundle_that_cannot_be_read_sends_nothing(
    tls_files: tuple[Path, Path], tmp_path: Path, monkeypatch: MonkeyPatch, bad: str
) -> None:
    path = tmp_path / "bundle.pem"
    if bad != "missing":
        path.write_text("canary-word of a file that is none of ours")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with secured(tls_files) as server:
        with pytest.raises(ConnectionFailedError) as caught:
            buy(account(server))
        assert caught.value.billed == "no" and server.whole == 0
        assert "canary" not in str(caught.value)
