"""Downloads of results: what is cut or damaged is fetched again, and nothing is fetched that must not be."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import random
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.util.connection
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    BatchOutcome,
    CancelToken,
    ConnectionFailedError,
    Deadlines,
    Journal,
    RemoteImageError,
    Result,
    ServiceError,
    TaskFailedError,
    TaskTimeoutError,
)
from hidream_volcengine.api.catalog.endpoints import hidream_model_photo_set
from hidream_volcengine.api.pixels.picture_files import UndecodableImageError
from hidream_volcengine.api.pixels.tensors import decode
from hidream_volcengine.api.purchase import collect as collecting
from hidream_volcengine.api.purchase import pictures
from hidream_volcengine.api.transport import connection as connections
from hidream_volcengine.api.transport import download as downloads
from hidream_volcengine.api.transport.download import DownloadError, RefusedUrlError, downloaded
from PIL import Image
from pytest import MonkeyPatch

from emulator import Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import QUICK, Connection, RawServer, Step, answering, results, sub_task

PICTURE = raw.png(128, 96)
SHORT = Deadlines(poll=1, download=0.8)


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


good = answering(200, PICTURE, content_type="image/png")


def fetched(server: RawServer, url: str = "", **more: Any) -> bytes:
    options = {"max_bytes": 2**20, "allow_loopback": True, "deadlines": QUICK, "cancel": CancelToken(), **more}
    with downloaded(url or f"{server.url}/p.png?sign=s", **options) as stream:
        stream.seek(0)
        return stream.read()


def refused(url: str, **more: Any) -> str:
    """The reason why a URL is not fetched."""
    options = {"max_bytes": 2**20, "allow_loopback": True, "deadlines": QUICK, "cancel": CancelToken(), **more}
    with pytest.raises(RefusedUrlError) as caught:
        downloaded(url, **options)
    return str(caught.value)


def delivered(*steps: Step, deadlines: Deadlines = QUICK, journal: Journal | None = None) -> tuple[raw.Delivery, int]:
    """A HiDream call whose download meets ``steps``, and how many downloads there were."""
    with RawServer(*steps) as files:

        def service(connection: Connection) -> None:
            connection.read()
            if connection.request_line.startswith("POST"):
                return connection.answer(200, raw.accepted())
            return connection.answer(200, results(sub_task(image=f"{files.url}/p.png?sign=canary-signature")))

        with RawServer(service) as server:
            return raw.run(raw.hidream_call(server.url, deadlines=deadlines), journal), files.accepted


def no_picture(delivery: raw.Delivery) -> tuple[RemoteImageError, ...]:
    """The errors of a delivery that is nothing but an error: a node raises it."""
    assert delivery.pictures == ()
    assert BatchOutcome([Result(delivery)]).error(accept_partial=True) is delivery.errors[0]
    return delivery.errors


def test_an_answer_without_a_picture_of_its_own_does_not_wait_for_the_decode_pool(monkeypatch: MonkeyPatch) -> None:
    ran: list[Callable[..., Any]] = []

    def on_codec_pool(function: Callable[..., Any], *args: Any) -> Any:
        ran.append(function)
        return function(*args)

    monkeypatch.setattr(pictures, "on_codec_pool", on_codec_pool)
    delivery, _ = delivered(good)
    assert len(delivery.pictures) == 1
    assert len(ran) == 1, "of the downloaded file only"


# ---- tried again


def cut(connection: Connection) -> None:
    connection.read()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
    connection.send(head.encode() + PICTURE[: len(PICTURE) // 2])


def cut_without_length(connection: Connection) -> None:
    connection.read()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + PICTURE[: len(PICTURE) // 2])


def cut_in_chunks(connection: Connection) -> None:
    connection.read()
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + PICTURE[:1024] + b"\r\n")


def damaged() -> bytes:
    data = bytearray(PICTURE)
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    return bytes(data)


def cut_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(raw.photo(128, 96)).save(buffer, "JPEG")
    return buffer.getvalue()[:-600]


TROUBLES: dict[str, Step] = {
    "cut": cut,
    "cut without length": cut_without_length,
    "cut in chunks": cut_in_chunks,
    "reset": raw.resetting("headers"),
    "reset in the answer": raw.resetting("answer"),
    "damaged": answering(200, damaged(), content_type="image/png"),
    "cut jpeg": answering(200, cut_jpeg(), content_type="image/jpeg"),
    "page": answering(200, "<html>not yet</html>", content_type="text/html"),
    "empty": answering(200, b"", content_type="image/png"),
    "404": answering(404, b"", content_type="text/plain"),
    "403": answering(403, b"<Error/>", content_type="text/xml"),
    "429": answering(429),
    "500": answering(500),
    "503": answering(503, b"", {"Retry-After": "1"}),
    "204": answering(204),
    "206": answering(206, PICTURE[:50]),
    "304": answering(304, b"", {"Location": "/elsewhere"}),
    "300 without Location": answering(300, b""),
}


@pytest.mark.parametrize("trouble", list(TROUBLES))
def test_a_failed_download_is_made_again(trouble: str) -> None:
    delivery, downloads = delivered(TROUBLES[trouble], TROUBLES[trouble], good)
    assert [picture.shape for picture in delivery.pictures] == [(96, 128, 3)]
    assert (downloads, delivery.errors) == (3, ())


# What object stores write beside a plain file, and what they write around it; some do one, some the other, some both.
ENCODINGS = ["", "aws-chunked", "base64", "utf-8", "gzip", "deflate", "identity, aws-chunked", "none", "UTF8"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_bytes_decide_and_not_the_header_content_encoding(encoding: str) -> None:
    delivery, downloads = delivered(answering(200, PICTURE, {"Content-Encoding": encoding}, "image/png"))
    assert (len(delivery.pictures), downloads) == (1, 1)


@pytest.mark.parametrize("wrapped", [gzip.compress, base64.b64encode], ids=["gzip", "base64"])
@pytest.mark.parametrize("said", [True, False])
def test_what_a_store_put_around_a_picture_is_taken_off(wrapped: Callable[[bytes], bytes], said: bool) -> None:
    header = {"Content-Encoding": wrapped.__name__.removeprefix("b64")} if said else {}
    with raw.fresh_journal() as journal:
        delivery, downloads = delivered(answering(200, wrapped(PICTURE), header), journal=journal)
        assert (len(delivery.pictures), downloads) == (1, 1)
        assert journal.store.read(hashlib.sha256(PICTURE).hexdigest()) == PICTURE, "stored as a picture"


def test_a_picture_with_http_203_is_taken() -> None:
    delivery, downloads = delivered(answering(203, PICTURE, content_type="image/png"))
    assert (len(delivery.pictures), downloads) == (1, 1)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def test_a_kind_that_is_not_read_here_is_kept_and_one_error_and_not_fetched_again() -> None:
    with raw.fresh_journal() as journal, RawServer(answering(200, HEIC, content_type="image/heic")) as files:
        entries = [sub_task("s0", image=f"{files.url}/a"), sub_task("s1", image=f"{files.url}/b")]

        def service(connection: Connection) -> None:
            connection.read()
            post = connection.request_line.startswith("POST")
            connection.answer(200, raw.accepted(sub_task_ids=("s0", "s1")) if post else results(*entries))

        with RawServer(service) as server:
            call = raw.hidream_call(server.url)
            delivery = raw.run(call, journal)
            assert (delivery.pictures, files.accepted) == ((), 2), "each once"
            name = hashlib.sha256(HEIC).hexdigest()
            assert [(type(error), error.billed) for error in delivery.errors] == [(TaskFailedError, "yes")] * 2
            assert f"{name}.bin" in delivery.errors[0].what.en and f"{name}.bin" in delivery.errors[0].what.zh
            assert journal.store.read(name) == HEIC
            calls = server.accepted
            with pytest.raises(TaskFailedError, match=name):
                raw.run(call, journal)
            assert (server.accepted, files.accepted) == (calls, 2), "told again, with 0 calls"


def test_an_avif_link_is_taken() -> None:
    buffer = io.BytesIO()
    Image.fromarray(raw.photo(128, 96)).save(buffer, "AVIF")
    with raw.fresh_journal() as journal:
        delivery, downloads = delivered(answering(200, buffer.getvalue()), journal=journal)
        assert ([picture.shape for picture in delivery.pictures], downloads) == ([(96, 128, 3)], 1)
        assert next(journal.store.side_cars()).media_type == "image/avif"


def test_a_hanging_download_is_made_again() -> None:
    delivery, downloads = delivered(raw.hanging, good, deadlines=Deadlines(poll=0.3, download=5))
    assert (len(delivery.pictures), downloads) == (1, 2)


STAYS_DAMAGED = {"damaged": ".png", "cut without length": ".png", "cut jpeg": ".jpg"}


@pytest.mark.parametrize("trouble", list(STAYS_DAMAGED))
def test_a_file_that_stays_damaged_is_kept_and_asked_for_again_later(trouble: str) -> None:
    with raw.fresh_journal() as journal:
        delivery, downloads = delivered(TROUBLES[trouble], journal=journal)
        (error,) = delivery.errors
        assert (type(error), error.billed, downloads) == (TaskFailedError, "yes", 4)
        [side_car] = journal.store.side_cars()
        name = f"{side_car.sha256}{STAYS_DAMAGED[trouble]}"
        assert name in error.what.en and name in error.what.zh
        assert [task.state for task in journal.task_list.tasks()] == ["parked"]


@pytest.mark.parametrize("trouble", [name for name in TROUBLES if name not in STAYS_DAMAGED])
def test_what_never_comes_whole_is_never_delivered(trouble: str) -> None:
    delivery, downloads = delivered(TROUBLES[trouble], deadlines=SHORT)
    (error,) = delivery.errors
    assert delivery.pictures == ()
    assert type(error) is TaskTimeoutError
    assert (error.billed, error.task_id) == ("yes", "task-1")
    assert "task_id=task-1" in str(error) and "Remote Task Result" in str(error)
    assert downloads >= 2


def test_the_query_of_a_result_url_is_not_in_the_message() -> None:
    url = f"http://127.0.0.1:{raw.closed_port()}/p.png?sign=canary-signature"
    with RawServer(answering(200, raw.finished_picture(binary_data_base64=[], image_urls=[url]))) as server:
        (error,) = no_picture(raw.run(raw.volcengine_call(server.url, deadlines=SHORT)))
        assert type(error) is TaskTimeoutError
        assert "canary-signature" not in str(error)


def dripping(connection: Connection) -> None:
    connection.read()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(150):
        connection.send(b"x")
        time.sleep(0.02)


def test_a_dripping_download_ends_at_the_deadline() -> None:
    began = time.monotonic()
    delivery, _ = delivered(dripping, deadlines=Deadlines(poll=0.3, download=0.3))
    assert delivery.pictures == ()
    assert time.monotonic() - began < 2


def test_pauses_between_downloads_grow(back_offs: list[float]) -> None:
    delivered(*[TROUBLES["503"]] * 4, good)
    assert back_offs[-4:] == [0.5, 1, 2, 4]


def test_one_picture_that_cannot_be_had_leaves_the_others() -> None:
    def files(connection: Connection) -> None:
        connection.read()
        if "bad" in connection.request_line:
            return connection.answer(404)
        return connection.answer(200, PICTURE)

    with RawServer(files) as host:
        entries = [sub_task(f"s{number}", image=f"{host.url}/{name}") for number, name in enumerate(["a", "bad", "c"])]

        def service(connection: Connection) -> None:
            connection.read()
            post = connection.request_line.startswith("POST")
            ids = ("s0", "s1", "s2")
            connection.answer(200, raw.accepted(sub_task_ids=ids) if post else results(*entries))

        with RawServer(service) as server:
            delivery = raw.run(raw.hidream_call(server.url, deadlines=Deadlines(download=0.2)))
    assert len(delivery.pictures) == 2
    assert [type(error) for error in delivery.errors] == [TaskTimeoutError]


_ODD = ["https://[bad/p.png", "https://[::1/p.png", "http://[", "https://h\u2100st/p.png"]


@pytest.mark.parametrize(
    "url",
    [
        *_ODD,
        "p_0123456789",
        "/relative.png",
        "//host.invalid/p.png",
        "https:///p.png",
        "https://",
        "file:///etc/passwd",
        "ftp://host.invalid/p.png",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "http://host.invalid/p.png",
        "https://user:password@host.invalid/p.png",
    ],
)
def test_an_address_that_is_not_fetched_is_one_error_and_not_the_end_of_the_others(url: str) -> None:
    with RawServer(good) as files:
        entries = [sub_task("s0", image=url), sub_task("s1", image=f"{files.url}/p.png")]

        def service(connection: Connection) -> None:
            connection.read()
            post = connection.request_line.startswith("POST")
            connection.answer(200, raw.accepted(sub_task_ids=("s0", "s1")) if post else results(*entries))

        with RawServer(service) as server:
            delivery = raw.run(raw.hidream_call(server.url))
    assert len(delivery.pictures) == 1
    (error,) = delivery.errors
    assert type(error) is ServiceError
    assert (error.billed, error.task_id) == ("yes", "task-1")


# ---- addresses


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/p.png",
        "gopher://example.com/",
        "http://example.com/p.png",
        "HTTP://example.com/p.png",
        "http://127.0.0.1.example.com/p.png",
        "//example.com/p.png",
        "p.png",
        "",
    ],
)
def test_only_https_is_fetched(url: str) -> None:
    assert "scheme" in refused(url)


@pytest.mark.parametrize("user", ["user@", "user:password@", ":password@"])
def test_an_address_with_credentials_is_not_fetched(user: str) -> None:
    with RawServer(good) as server:
        assert "credentials" in refused(f"http://{user}127.0.0.1:{server.port}/p.png")
        assert server.accepted == 0


PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.0.1", "192.168.1.1", "169.254.169.254", "169.254.0.1",
    "100.100.100.200", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1",  # noqa: S104
    "[fe80::1]", "[fd00::1]", "[fd00:ec2::254]", "[::]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[ff02::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("allow_loopback", [True, False])
def test_a_private_address_is_not_fetched(host: str, allow_loopback: bool, monkeypatch: MonkeyPatch) -> None:
    def no_connection(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    assert "private network" in refused(f"https://{host}/latest/meta-data/", allow_loopback=allow_loopback)


@pytest.mark.parametrize("host", ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2002:0a00:0001::1", "64:ff9b::7f00:1"])
def test_a_private_address_inside_an_ipv6_one_is_not_fetched(host: str) -> None:
    assert not downloads._is_public(host, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_loopback_is_not_fetched_for_a_remote_profile(host: str, scheme: str) -> None:
    refused(f"{scheme}://{host}/p.png", allow_loopback=False)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
def test_loopback_in_another_spelling_is_not_fetched_for_a_remote_profile(host: str) -> None:
    with RawServer(good) as server:
        # A resolver may not know the spelling at all.
        with contextlib.suppress(DownloadError):
            refused(f"https://{host}:{server.port}/p.png", allow_loopback=False)
        assert all(not connection.head for connection in server.connections)


@pytest.mark.parametrize("address", ["198.18.0.1", "198.19.255.254", "8.8.8.8", "2606:4700::1111"])
def test_public_and_fake_ip_addresses_are_fetched(address: str) -> None:
    assert downloads._is_public(address, False)


@pytest.mark.parametrize("address", ["198.17.255.255", "198.20.0.0"])
def test_the_fake_ip_range_has_its_ends(address: str) -> None:
    # Public both ways; the next ones beyond the range are judged as any other.
    assert downloads._is_public(address, False)


@pytest.mark.parametrize("host", ["198.18.0.1", "198.19.255.254", "[::ffff:198.18.0.1]", "[64:ff9b::c612:1]"])
def test_the_fake_ip_range_as_a_literal_is_somebodys_network(host: str) -> None:
    """Names may resolve to it (proxies answer so); a service has no reason to write it."""
    assert "private network" in refused(f"https://{host}/p.png")


NUMERIC = ["3232235777", "0xC0A80101", "0xc0.0xa8.1.1", "0300.0250.1.1", "192.168.257", "10.1", "2852039166",
           "0x8080808", "198.18.1", "10.0.0.1.", "１０.0.0.1", "①⓪.0.0.1", "010.8.8.8"]  # fmt: skip


@pytest.mark.parametrize("host", NUMERIC)
def test_a_host_that_is_written_as_a_number_is_not_fetched(host: str, monkeypatch: MonkeyPatch) -> None:
    """Also behind a proxy, which would resolve it for itself."""

    def no_connection(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    refused(f"https://{host}/latest/meta-data/", proxy="http://127.0.0.1:9")


def resolving(monkeypatch: MonkeyPatch, address: str, port: int) -> None:
    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_that_resolves_to_loopback_is_not_fetched(monkeypatch: MonkeyPatch) -> None:
    with RawServer(good) as server:
        resolving(monkeypatch, "127.0.0.1", server.port)
        assert "resolves to 127.0.0.1" in refused("https://pictures.example.com/p.png", allow_loopback=False)
        assert all(not connection.head for connection in server.connections)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.0.1", "169.254.169.254"])
def test_a_name_that_resolves_to_a_private_address_is_not_fetched(address: str, monkeypatch: MonkeyPatch) -> None:
    """The peer is what counts: the name is resolved once, and what answered is looked at."""
    near, far = socket.socketpair()
    with near, far:
        monkeypatch.setattr(urllib3.util.connection, "create_connection", lambda *_, **__: Named(near, address))
        assert f"resolves to {address}" in refused("https://pictures.example.com/p.png")
        far.settimeout(1)
        assert far.recv(10) == b"", "not one byte goes there"


class Named:
    """A socket that says it is connected to somewhere else."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock, self._address = sock, address

    def getpeername(self) -> tuple[str, int]:
        return self._address, 443

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_no_connection_is_opened_to_a_private_address_behind_a_name(monkeypatch: MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    resolving(monkeypatch, "10.1.2.3", 443)
    monkeypatch.setattr(socket.socket, "connect", connect)
    assert "10.1.2.3" in refused("https://pictures.example.com/p.png")
    assert asked == []


# ---- redirects


def redirecting(target: str, status: int = 302) -> Step:
    return answering(status, b"", {"Location": target}, "text/plain")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_three_redirects_are_followed(status: int) -> None:
    with RawServer(
        redirecting("/a", status), redirecting("b?x=1", status), redirecting("//{host}/c", status), good
    ) as server:
        server._steps = (*server._steps[:2], redirecting(f"//127.0.0.1:{server.port}/c", status), good)
        assert fetched(server) == PICTURE
        lines = [connection.request_line.split(" ")[1] for connection in server.connections]
        assert lines == ["/p.png?sign=s", "/a", "/b?x=1", "/c"]


def test_a_fourth_redirect_is_not_followed() -> None:
    with RawServer(*[redirecting("/again")] * 4, good) as server:
        with pytest.raises(DownloadError, match="redirects"):
            fetched(server)
        assert server.accepted == 4


@pytest.mark.parametrize(
    "target",
    [
        "http://example.com/p.png", "https://10.0.0.1/p.png", "https://169.254.169.254/latest", "https://[fd00::1]/",
        "file:///etc/passwd", "ftp://example.com/p.png", "https://user:password@example.com/p.png", "//10.0.0.1/p.png",
    ],
)  # fmt: skip
def test_each_redirect_is_checked_again(target: str) -> None:
    with RawServer(redirecting(target), good) as server:
        with pytest.raises(RefusedUrlError):
            fetched(server)
        assert server.accepted == 1


def test_a_redirect_from_outside_to_loopback_is_not_followed() -> None:
    with pytest.raises(RefusedUrlError):
        downloads._checked_url("http://127.0.0.1:9/p.png", False)


def test_a_redirect_to_nonsense_is_a_failed_try() -> None:
    with RawServer(redirecting("https://[bad"), good) as server, pytest.raises((DownloadError, RefusedUrlError)):
        fetched(server)


def test_a_redirect_in_raw_utf_8_is_followed() -> None:
    address = "/图片/扩图.png?名=值".encode().decode("latin-1")
    with RawServer(redirecting(address), good) as server:
        assert fetched(server) == PICTURE
        path = server.connections[1].request_line.split(" ")[1]
        assert urllib.parse.unquote(path) == "/图片/扩图.png?名=值"


def test_what_a_redirect_says_beside_its_target_is_not_read() -> None:
    """It may be anything: without end, or packed a thousand times smaller than it is."""

    def endless(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 302 Found\r\nLocation: /p.png\r\nContent-Encoding: gzip\r\n\r\n")
        while not connection.stopping.wait(0.005):
            connection.send(bytes(1024))

    with RawServer(endless, good) as server:
        assert fetched(server) == PICTURE


# ---- size


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_larger_than_the_cap_is_given_up_early(announced: bool) -> None:
    def endless(connection: Connection) -> None:
        connection.read()
        length = b"Content-Length: 1000000000\r\n" if announced else b""
        connection.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while True:
            connection.send(bytes(65536))

    with RawServer(endless) as server:
        with pytest.raises(DownloadError, match="more than 1000000 bytes"):
            fetched(server, max_bytes=1_000_000)
        raw.until(lambda: not any(thread.name == "raw-connection" for thread in threading.enumerate()))


def test_what_is_too_large_is_not_fetched_again_and_again(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.Downloads, "_pixel_cap", 100)
    delivery, downloads = delivered(good)
    (error,) = delivery.errors
    assert (type(error), error.billed, downloads) == (TaskTimeoutError, "yes", 1)
    assert "400 bytes" in error.what.en


def tasks_pictures(count: int, journal: Journal) -> raw.Delivery:
    """The delivery of a task for which the service lists so many pictures."""
    with RawServer(good) as files:
        entries = [sub_task(f"s{number}", image=f"{files.url}/{number}") for number in range(count)]

        def service(connection: Connection) -> None:
            connection.read()
            post = connection.request_line.startswith("POST")
            connection.answer(200, raw.accepted(sub_task_ids=("s0",)) if post else results(*entries))

        with RawServer(service) as server:
            return raw.run(raw.hidream_call(server.url), journal)


def test_the_number_of_a_tasks_pictures_has_a_limit_and_that_is_said(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_MOST_PICTURES", 3)
    with raw.fresh_journal() as journal:
        delivery = tasks_pictures(5, journal)
        assert (len(delivery.pictures), delivery.errors) == (3, ())
        assert delivery.note is not None and "5" in delivery.note.en and "3" in delivery.note.zh


def test_the_memory_of_a_tasks_pictures_has_a_limit(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MOST_BYTES", 2 * 128 * 96 * 3 - 1)
    with raw.fresh_journal() as journal:
        delivery = tasks_pictures(5, journal)
        assert [len(delivery.pictures), *map(type, delivery.errors)] == [2, ServiceError, ServiceError, ServiceError]
        assert all(error.billed == "yes" for error in delivery.errors)
        assert [task.state for task in journal.task_list.tasks()] == ["parked"], "nothing is lost"


def test_a_picture_of_exactly_the_cap_is_fetched() -> None:
    with RawServer(good) as server:
        assert fetched(server, max_bytes=len(PICTURE)) == PICTURE
        with pytest.raises(DownloadError):
            fetched(server, max_bytes=len(PICTURE) - 1)


def test_a_bomb_is_refused_by_its_size() -> None:
    buffer = io.BytesIO()
    Image.new("1", (3000, 3000)).save(buffer, "PNG")
    with pytest.raises(UndecodableImageError, match="3000×3000"):
        decode(buffer, 8_999_999)
    assert decode(buffer, 9_000_000).shape == (3000, 3000, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_picture_is_decoded_or_refused_and_never_more(form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(raw.photo(40, 30)).save(buffer, form)
    whole = buffer.getvalue()
    chance = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(8, len(data))] = chance.randrange(256)
        with contextlib.suppress(UndecodableImageError):
            decode(io.BytesIO(bytes(data)), 64_000_000)


# ---- what goes along


def test_no_credentials_go_along(monkeypatch: MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary-user password canary-password\ndefault login x password y\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    biscuit = {"Set-Cookie": "session=canary-cookie; Path=/", "Location": "/next"}
    with RawServer(answering(302, b"", biscuit), good) as server:
        # The same file does name a password for this host: without a guard it would be sent.
        assert requests.utils.get_netrc_auth(server.url) == ("canary-user", "canary-password")
        fetched(server)
        for connection in server.connections:
            assert not {"authorization", "cookie", "api-key", "proxy-authorization"} & set(connection.headers)
            assert connection.headers["accept-encoding"] == "identity"


def test_the_emulator_gives_files_to_nobody_with_a_key(emulator: Emulator) -> None:
    account = raw.hidream_account(emulator.url, environment={"HIDREAM_TOKEN": "sandbox-hidream-token"})
    assert len(raw.run(raw.hidream_call(emulator.url, account=account)).pictures) == 1


def test_a_loopback_ec_host_may_deliver_from_loopback() -> None:
    """The variation endpoint has a host of its own; its result lies where that host says."""
    with RawServer(raw.serving) as server:
        account = raw.hidream_account(server.url)
        elsewhere = raw.replace(account, base_url="https://www.hidreamai.com")
        call = raw.hidream_call(
            server.url, account=elsewhere, endpoint=hidream_model_photo_set.ENDPOINT, request=raw.photo_set_request()
        )
        delivery = raw.run(call)
        assert (len(delivery.pictures), delivery.errors) == (1, ())


# ---- Volcengine's picture


def test_volcengine_url_is_fetched_again_when_cut() -> None:
    with RawServer(cut, cut_without_length, good) as files:
        body = raw.finished_picture(binary_data_base64=[], image_urls=[f"{files.url}/p.png"])
        with RawServer(answering(200, body)) as server:
            assert raw.run(raw.volcengine_call(server.url)).pictures[0].shape == (96, 128, 3)
            assert (server.accepted, files.accepted) == (1, 3)


def test_volcengine_url_stands_in_for_a_damaged_base64() -> None:
    with RawServer(good) as files:
        broken = base64.b64encode(damaged()).decode()
        body = raw.finished_picture(binary_data_base64=[broken], image_urls=[f"{files.url}/p.png"])
        with RawServer(answering(200, body)) as server:
            assert raw.run(raw.volcengine_call(server.url)).pictures[0].shape == (96, 128, 3)
            assert server.accepted == 1


@pytest.mark.parametrize(
    "text",
    [base64.b64encode(damaged()).decode(), "AAAA", "A", "=", "!!!", "图片"],
    ids=["damaged", "zeros", "odd length", "padding", "signs", "not ascii"],
)
def test_volcengine_base64_that_is_no_picture_was_billed(text: str) -> None:
    with RawServer(answering(200, raw.finished_picture(binary_data_base64=[text]))) as server:
        (error,) = no_picture(raw.run(raw.volcengine_call(server.url)))
        assert type(error) is TaskFailedError
        assert error.billed == "yes" and error.request_id == "vendor-request-1"
        assert server.accepted == 1


def test_volcengine_url_that_does_not_come_is_fetched_by_the_next_run() -> None:
    there = threading.Event()

    def files_that_come(connection: Connection) -> None:
        (good if there.is_set() else answering(404))(connection)

    with RawServer(files_that_come) as files, raw.fresh_journal() as journal:
        body = raw.finished_picture(binary_data_base64=[], image_urls=[f"{files.url}/p.png"])
        with RawServer(answering(200, body)) as server:
            call = raw.volcengine_call(server.url, deadlines=Deadlines(download=0.2))
            (error,) = no_picture(raw.run(call, journal))
            assert type(error) is TaskTimeoutError and error.billed == "yes"
            assert "vendor-request-1" in str(error) and error.advice.en and error.advice.zh
            there.set()
            assert raw.run(call, journal).pictures[0].shape == (96, 128, 3)
            assert server.accepted == 1


# ---- proxies


def proxy_refusing(connection: Connection) -> None:
    connection.read_head()
    connection.answer(403, b"no", content_type="text/plain")


@pytest.fixture
def proxy(monkeypatch: MonkeyPatch) -> Iterator[RawServer]:
    with RawServer(proxy_refusing) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, server.url)
            monkeypatch.setenv(name.lower(), server.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield server


def test_loopback_never_goes_through_a_proxy(proxy: RawServer) -> None:
    with RawServer(raw.serving) as server:
        assert len(raw.run(raw.hidream_call(server.url)).pictures) == 1
    with RawServer(answering(200, raw.finished_picture())) as server:
        assert len(raw.run(raw.volcengine_call(server.url)).pictures) == 1
    assert proxy.accepted == 0


@pytest.mark.parametrize("make", [raw.hidream_call, raw.volcengine_call])
def test_a_submit_elsewhere_goes_through_the_proxy(proxy: RawServer, make: Callable[..., Any]) -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        raw.run(make("https://host.invalid"))
    error = caught.value
    assert error.billed == "no"
    assert "proxy" in error.what.en and "代理" in error.what.zh
    assert {entry.request_line[:24] for entry in proxy.connections} == {"CONNECT host.invalid:443"}
    assert all("authorization" not in connection.headers for connection in proxy.connections)


def test_a_download_elsewhere_goes_through_the_proxy(proxy: RawServer) -> None:
    with pytest.raises(DownloadError, match=r"(?i)proxy"):
        fetched(proxy, "https://host.invalid/p.png", allow_loopback=False)
    assert [connection.request_line[:24] for connection in proxy.connections] == ["CONNECT host.invalid:443"]


def test_a_private_address_is_not_asked_of_the_proxy_either(proxy: RawServer) -> None:
    refused("https://169.254.169.254/latest", allow_loopback=False)
    assert proxy.accepted == 0


def test_a_submit_through_a_proxy_that_dies_after_the_last_byte_is_ambiguous(
    monkeypatch: MonkeyPatch, tmp_path: Path
) -> None:
    """The phase is known through a tunnel too."""
    certificate, with_key = raw.make_certificate(tmp_path)
    context = raw.server_context(with_key)

    def tunnel(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.head, connection.body = b"", bytearray()
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        raw.resetting("whole")(connection)

    # A host that is not loopback and that the certificate names: told by the proxy's eyes only.
    monkeypatch.setattr(connections, "is_loopback", lambda host: False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with RawServer(tunnel) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        monkeypatch.setenv("https_proxy", server.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(AmbiguousSubmitError):
            raw.run(raw.hidream_call("https://127.0.0.1:1", image=raw.LARGE))
        assert (server.accepted, server.whole) == (1, 1)
