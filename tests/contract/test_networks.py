"""A profile's own proxy and CA file: everything goes that way, and the proxy's login goes to the proxy alone."""

from __future__ import annotations

import base64
import logging
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    ConfigurationError,
    ConnectionFailedError,
    PaidCall,
    Profiles,
    RemoteImageError,
    ServiceError,
    connections,
    downloads,
)
from hidream_volcengine.api.accounts import HiDreamAccount
from hidream_volcengine.api.diagnosis import _TLS_ADVICE
from hidream_volcengine.api.networks import Network
from hidream_volcengine.api.redaction import redact
from hidream_volcengine.api.templates import Template, fetch_templates, fetch_thumbnail
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
def not_loopback(monkeypatch: MonkeyPatch) -> None:
    """`localhost` is taken for a host out there, which only a proxy reaches."""
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    monkeypatch.setattr("hidream_volcengine.api.downloads.is_loopback", lambda host: False)


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


def account(server: RawServer, network: Network, **environment: str) -> HiDreamAccount:
    keys = environment or {"HIDREAM_TOKEN": raw.TOKEN}
    url = f"https://localhost:{server.port}"
    found = raw.hidream_account(url, QUICK, keys)
    auth = replace(found.auth, network=network) if "HIDREAM_API_KEY" in environment else found.auth
    return replace(found, network=network, auth=auth)


def buy(who: HiDreamAccount) -> Any:
    return raw.run(raw.hidream_call("", account=who))


# ---- proxies


@pytest.mark.parametrize("key", ["HIDREAM_TOKEN", "HIDREAM_API_KEY"])
def test_everything_goes_through_the_profile_s_proxy(
    tls_files: tuple[Path, Path], not_loopback: None, key: str, monkeypatch: MonkeyPatch
) -> None:
    """Submit, polls, download and token exchange; the environment's proxy is not asked, nor its exceptions."""
    with secured(tls_files) as server, RawServer(tunnel(HEADER)) as proxy, RawServer(raw.hanging) as other:
        monkeypatch.setenv("HTTPS_PROXY", other.url)
        monkeypatch.setenv("NO_PROXY", "*")
        network = Network.of(proxy.url, LOGIN, str(tls_files[0]))
        delivery = buy(account(server, network, **{key: f"key-{proxy.port}"}))
        assert len(delivery.pictures) == 1
        expected = {"submit", "results", "picture"} | ({"token"} if key == "HIDREAM_API_KEY" else set())
        seen = {
            "token" if "apikey2token" in line else "submit" if line.startswith("POST") else
            "results" if "/results?" in line else "picture"
            for line in (connection.request_line for connection in server.connections)
        }  # fmt: skip
        assert seen == expected
        assert proxy.accepted == server.accepted and other.accepted == 0
        for connection in proxy.connections:
            assert connection.request_line.startswith(f"CONNECT localhost:{server.port} HTTP/1.")
            assert connection.headers["proxy-authorization"] == HEADER
            assert "authorization" not in connection.headers
        for connection in server.connections:
            assert "proxy-authorization" not in connection.headers and "canary" not in str(connection.headers)


def test_loopback_never_goes_through_a_profile_s_proxy() -> None:
    with RawServer(raw.serving) as server, RawServer(raw.hanging) as proxy:
        who = replace(raw.hidream_account(server.url), network=Network.of(proxy.url, LOGIN))
        assert len(buy(who).pictures) == 1
        assert proxy.accepted == 0
        for connection in server.connections:
            assert "proxy-authorization" not in connection.headers


@pytest.mark.parametrize("why", ["no login", "wrong login", "nobody there"])
def test_a_proxy_that_refuses(
    tls_files: tuple[Path, Path], not_loopback: None, why: str, caplog: LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = {"no login": "", "wrong login": f"{LOGIN}-wrong", "nobody there": LOGIN}[why]
    with secured(tls_files) as server, RawServer(tunnel(HEADER)) as proxy:
        url = f"http://127.0.0.1:{raw.closed_port()}" if why == "nobody there" else proxy.url
        with pytest.raises(ConnectionFailedError) as caught:
            buy(account(server, Network.of(url, login, str(tls_files[0]))))
        assert "proxy" in caught.value.what.en and caught.value.billed == "no"
        assert server.accepted == 0
        told = f"{caught.value} {caught.value!r} {caplog.text}"
        assert "canary" not in told and HEADER not in told


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
        downloads.download(
            "https://host.invalid/p.png", max_bytes=9, allow_loopback=False, deadlines=QUICK, cancel=raw.CancelToken()
        )
    assert caught.value.billed == "no"
    told = f"{caught.value} {caught.value!r} {missed.value}"
    assert "proxy" in told and "canary" not in told.replace(raw.TOKEN, "") + caplog.text


def test_two_networks_share_no_connection(tls_files: tuple[Path, Path], not_loopback: None) -> None:
    """In one thread, with the connections that are kept for polls."""
    with secured(tls_files) as server, RawServer(tunnel()) as one, RawServer(tunnel()) as other:
        ca_file = str(tls_files[0])
        for proxy in (one, other):
            assert len(buy(account(server, Network.of(proxy.url, "", ca_file))).pictures) == 1
        assert one.accepted == other.accepted >= 3
        with pytest.raises(RemoteImageError):
            buy(account(server, Network.of(one.url)))  # without the CA


def test_a_network_shows_no_login() -> None:
    network = Network.of("http://proxy.example.com:3128", "some body:canary-p@ssword/1".replace(" ", "-"))
    assert "canary" not in f"{network!r} {network}"
    for spelled in (network.proxy_authorization.split(" ")[1], network.proxy_with_login, "canary-p%40ssword%2F1"):
        assert "canary" not in redact(f"<{spelled}>") and "***" in redact(f"<{spelled}>")


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


def call_of(kind: str, url: str, network: Network) -> PaidCall:
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
        auth = replace(hidream.auth, network=network) if kind == "api key" else hidream.auth
        return raw.hidream_call("", account=replace(hidream, network=network, auth=auth))
    return raw.volcengine_call("", account=replace(raw.volcengine_account(url, QUICK, keys), network=network))


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
            monkeypatch.setattr(connections, "is_loopback", lambda host: False)
            monkeypatch.setattr(downloads, "is_loopback", lambda host: False)
        if way == "direct":
            monkeypatch.setenv("NO_PROXY", "*")
        if way == "the environment's proxy":
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        network = Network.of(proxy.url if way == "the profile's proxy" else "")
        call = call_of(kind, f"https://localhost:{server.port}", network)
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
            buy(account(server, Network()))
        assert server.whole == 0
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(both))
        assert buy_locally(server, Network()) == buy_locally(other, Network()) == 1


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
            buy(account(server, Network()))
        assert caught.value.billed == "no" and server.whole == 0
        assert "canary" not in str(caught.value)


# ---- CA files


def test_a_ca_file_is_trusted_beside_the_others(
    tls_files: tuple[Path, Path], tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    """Also where the environment names a bundle, directly, and for a host that only the environment's bundle knows."""
    ours, theirs = tls_files, raw.make_certificate(tmp_path)
    with secured(ours) as server, secured(theirs) as other:
        with pytest.raises(ConnectionFailedError, match="certificate"):
            buy(account(server, Network()))
        assert server.whole == 0
        network = Network.of(ca_file=str(ours[0]))
        assert network != Network()
        assert buy_locally(server, network) == 1
        monkeypatch.setattr(connections, "DEFAULT_CA_BUNDLE_PATH", str(theirs[0]))
        assert buy_locally(server, network) == buy_locally(other, network) == 1
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(theirs[0]))
        assert buy_locally(server, network) == 1


def buy_locally(server: RawServer, network: Network) -> int:
    """Submit and polls directly; the picture's host is loopback, as the service is."""
    return len(buy(account(server, network)).pictures)


BAD_FILES = {
    "empty": b"",
    "no PEM": b"canary-word of a file that is none of ours",
    "a key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "broken": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "binary": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("bad", [*BAD_FILES, "missing", "folder"])
def test_a_ca_file_that_is_none_ends_a_call_before_anything_is_sent(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "ca.pem"
    if bad == "folder":
        path.mkdir()
    elif bad in BAD_FILES:
        path.write_bytes(BAD_FILES[bad])
    with pytest.raises(ConfigurationError) as caught:
        Network.of(ca_file=str(path))
    assert str(path) in str(caught.value) and "canary" not in str(caught.value)


def test_a_ca_file_may_have_words_around_its_certificates(tls_files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    certificate = tls_files[0].read_bytes()
    path.write_bytes("# 公司根证书\n".encode() + certificate + b"\r\nmore\r\n" + certificate)
    with secured(tls_files) as server:
        assert buy_locally(server, Network.of(ca_file=str(path))) == 1


def test_a_ca_file_that_is_gone_is_found_when_the_profile_is_used(tmp_path: Path, tls_files: tuple[Path, Path]) -> None:
    from hidream_volcengine.api import ProfileEditor, ProfileFile

    path = tmp_path / "ca.pem"
    path.write_bytes(tls_files[0].read_bytes())
    file = ProfileFile(lambda: tmp_path / "private")
    profiles = Profiles({}, raw.no_sandbox, file)
    editor = ProfileEditor(profiles, file)
    editor.add("none", "a", {"ca_file": str(path)}, {"hidream_token": raw.TOKEN})
    assert "BEGIN CERTIFICATE" in profiles.hidream("a").network.certificates
    path.unlink()
    with pytest.raises(ConfigurationError, match="ca_file"):
        profiles.hidream("a")
    assert editor.shown().profiles[1].settings["ca_file"] == str(path), "it is to be seen nevertheless"
