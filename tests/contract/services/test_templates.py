"""The list of templates and their pictures: all of it once, whatever the pages begin with, and nothing hostile."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hidream_volcengine.api import (
    AuthenticationError,
    ConnectionFailedError,
    QuotaError,
    RateLimitError,
    RemoteImageError,
    ServiceError,
)
from hidream_volcengine.api.services import hidream_templates as templates
from hidream_volcengine.api.services.hidream_templates import Template, fetch_templates, fetch_thumbnail
from PIL import Image

from emulator import Credentials, Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import Connection, RawServer, Step, answering

KEYS = Credentials()
WOMEN = [number for number in range(1, 76) if number % 5 < 3]
MEN = [number for number in range(1, 76) if number % 5 >= 3]


def account(url: str, **environment: str) -> Any:
    return raw.hidream_account(url, environment={"HIDREAM_TOKEN": KEYS.hidream_token, **environment})


def ids(url: str, gender: Any = "woman") -> list[int]:
    return [template.id for template in fetch_templates(account(url), gender)]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


# ---- pages


def entry(number: Any, **changes: Any) -> dict[str, Any]:
    return {"id": number, "gender": "woman", "show_image": f"https://example.org/{number}.jpg", **changes}


def listing(entries: list[Any], **more: Any) -> dict[str, Any]:
    return {"code": 0, "message": "Success", "request_id": "r", "result": {"templates": entries, **more}}


REFUSED = {"code": 1001, "message": "no such page", "request_id": "r-7"}


def pages(answer: Callable[[int, int], Any]) -> Step:
    """A service that answers `answer(page_index, page_size)`."""

    def step(connection: Connection) -> None:
        connection.read()
        query = parse_qs(urlsplit(connection.request_line.split(" ")[1]).query)
        connection.answer(200, answer(int(query["page_index"][0]), int(query["page_size"][0])))

    return step


def service(count: int, first: int, *, most: int = 100, below: str = "refuse", beyond: str = "empty",
            total: bool = True, without_id: int = 1000) -> Step:  # fmt: skip
    """`count` templates in pages numbered from `first`, at most `most` a page.

    Args:
        below, beyond: what a page before the first and after the last is: "refuse", "empty", or "clamp" (to the
            nearest one that there is).
        without_id: every so many-th template has an id that is none.
    """
    everything = [entry(number if number % without_id else "none") for number in range(1, count + 1)]

    def answer(index: int, size: int) -> Any:
        size = min(size, most)
        last = first + max(0, count - 1) // size
        if not first <= index <= last:
            how = below if index < first else beyond
            if how == "refuse":
                return REFUSED
            if how == "empty":
                return listing([], **({"total_count": count} if total else {}))
            index = min(max(index, first), last)
        begin = (index - first) * size
        return listing(everything[begin : begin + size], **({"total_count": count} if total else {}))

    return pages(answer)


OTHER_PAGES = ("empty", "refuse", "clamp")


@pytest.mark.parametrize("total", [True, False], ids=["total", "no total"])
@pytest.mark.parametrize("most", [100, 20])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [1, 45, 100, 145])
def test_each_template_comes_once_and_in_order(count: int, first: int, most: int, total: bool) -> None:
    """Also where the service gives smaller pages than it was asked for, and whatever it says to pages it has not."""
    for below, beyond in product(OTHER_PAGES, OTHER_PAGES):
        with RawServer(service(count, first, most=most, below=below, beyond=beyond, total=total)) as server:
            assert ids(server.url) == list(range(1, count + 1)), (below, beyond)


def test_no_templates_at_all() -> None:
    with RawServer(pages(lambda index, size: listing([], total_count=0))) as server:
        assert ids(server.url) == []


@pytest.mark.parametrize("first", [0, 1])
def test_the_emulators_list_of_both_genders(first: int) -> None:
    with Emulator(first_template_page=first) as emulator:
        women, men = (fetch_templates(account(emulator.url), gender) for gender in ("woman", "man"))
        asked = [record.query for record in emulator.requests]
    assert ([template.id for template in women], [template.id for template in men]) == (WOMEN, MEN)
    assert {template.gender for template in women} == {"woman"}
    # One request is enough where pages begin with 1.
    assert [query["page_index"] for query in asked] == (["1", "1"] if first == 1 else ["1", "0", "1", "0"])


def test_a_service_without_end_is_left() -> None:
    with RawServer(pages(lambda index, size: listing([entry(index * size + n + 1) for n in range(size)]))) as server:
        assert len(ids(server.url)) == 100 * (templates._MOST_PAGES + 1)
        assert server.accepted == templates._MOST_PAGES + 1


def test_a_page_that_is_refused_in_the_middle_is_no_shorter_list() -> None:
    def answer(index: int, size: int) -> Any:
        return listing([entry(n) for n in range(1, 101)], total_count=250) if index == 1 else REFUSED

    with RawServer(pages(answer)) as server, pytest.raises(ServiceError) as caught:
        ids(server.url)
    assert (caught.value.code, caught.value.vendor_message, caught.value.request_id) == (1001, "no such page", "r-7")


def test_pages_that_repeat_before_the_end_are_no_shorter_list() -> None:
    """A service that ignores the number of the page gives the same one each time."""
    page = listing([entry(number) for number in range(1, 101)], total_count=250)
    with RawServer(pages(lambda index, size: page)) as server, pytest.raises(ServiceError) as caught:
        ids(server.url)
    assert "100 of 250" in caught.value.what.en and "100" in caught.value.what.zh


def test_more_pages_than_are_read_are_no_shorter_list() -> None:
    def answer(index: int, size: int) -> Any:
        return listing([entry(index * size + number + 1) for number in range(size)], total_count=10**6)

    with RawServer(pages(answer)) as server, pytest.raises(ServiceError, match="of 1000000"):
        ids(server.url)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("beyond", OTHER_PAGES)
def test_entries_that_are_of_no_use_are_counted_too(first: int, beyond: str) -> None:
    with RawServer(service(145, first, beyond=beyond, without_id=10)) as server:
        assert len(ids(server.url)) == 131


def test_what_other_types_or_missing_fields_leave() -> None:
    entries = [
        entry("11"), entry(12, gender="man"), {"id": 13}, entry(14, show_image=None), entry(15, gender="unisex"),
        entry(None), entry(0), entry(-3), entry(2**31), entry(True), entry("x"), {}, "no object", None, [],
        entry(16, added_later={"a": 1}), entry(16, gender="man"),
    ]  # fmt: skip
    answer = listing(entries, total_count="17", total_page=None, more=1)
    with RawServer(pages(lambda index, size: answer if index == 1 else listing([]))) as server:
        found = fetch_templates(account(server.url), "woman")
    assert [template.id for template in found] == [11, 13, 14, 15]
    assert [template.show_image for template in found[:3]] == ["https://example.org/11.jpg", "", ""]


@pytest.mark.parametrize("address", ["https://example.org/\ud800.jpg", f"https://example.org/{'x' * 5000}", "a\x00b"])
def test_an_address_that_is_none_leaves_the_template(address: str) -> None:
    body = json.dumps(listing([entry(7, show_image=address), entry(8)], total_count=2)).encode("ascii")
    with RawServer(answering(200, body)) as server:
        found = fetch_templates(account(server.url), "woman")
    assert [(template.id, template.show_image) for template in found] == [(7, ""), (8, "https://example.org/8.jpg")]


# ---- refusals


@pytest.mark.parametrize(("status", "body", "kind", "words"), [
    (401, {"code": 401, "message": "expired"}, AuthenticationError, "did not accept the key"),
    (403, "<html>no</html>", AuthenticationError, "denied access"),
    (402, {}, QuotaError, "balance"),
    (429, {}, RateLimitError, "limiting"),
    (500, "<html>oops</html>", ServiceError, "HTTP 500"),
    (200, "<html><title>Welcome</title></html>", ServiceError, "no list of templates"),
    (404, "<html>404</html>", ServiceError, "no list of templates"),
    (302, "", ServiceError, "no list of templates"),
    (200, {"code": 0, "result": None}, ServiceError, "no list of templates"),
    (200, {"code": 0, "result": []}, ServiceError, "no list of templates"),
    (200, {"result": {"templates": []}}, ServiceError, "no list of templates"),
    (200, "[" * 100_000, ServiceError, "no list of templates"),
    (200, listing([entry(7)]) | {"more": "x" * 5 * 2**20}, ServiceError, "no list of templates"),
    (200, {"code": 2031, "message": "not here"}, ServiceError, "not available"),
    (400, {"code": 1001, "message": "gender?"}, ServiceError, "refused"),
])  # fmt: skip
def test_an_answer_that_is_no_list(status: int, body: Any, kind: type[RemoteImageError], words: str) -> None:
    headers = {"Location": "https://login.example/"} if status == 302 else {}
    with RawServer(answering(status, body, headers)) as server, pytest.raises(kind) as caught:
        ids(server.url)
    assert type(caught.value) is kind
    assert words in caught.value.text().en
    assert "reload" in caught.value.advice.en.lower()
    assert KEYS.hidream_token not in str(caught.value)


def test_nobody_there() -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        ids(f"http://127.0.0.1:{raw.closed_port()}")
    assert "refused the connection" in caught.value.what.en
    assert "主机拒绝连接" in caught.value.text().zh


def test_an_exchanged_token_that_ended_early_is_renewed_once(emulator: Emulator) -> None:
    payer = raw.hidream_account(emulator.url, environment={"HIDREAM_API_KEY": KEYS.hidream_api_key})
    assert len(fetch_templates(payer, "woman")) == 45
    emulator.expire_tokens()
    assert len(fetch_templates(payer, "man")) == 30
    for _ in range(2):
        emulator.add_fault({"endpoint": "templates", "phase": "list", "do": {"status": 401}})
    with pytest.raises(AuthenticationError):
        fetch_templates(payer, "man")


# ---- pictures


def shown(url: str) -> Template:
    return Template(7, "woman", url)


def encoded(size: tuple[int, int], form: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, "salmon").save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(("data", "size"), [
    (encoded((300, 400)), (192, 256)), (encoded((4000, 1000), "JPEG"), (256, 64)),
    (encoded((40, 30), "WEBP"), (40, 30)), (encoded((300, 400), mode="RGBA"), (192, 256)),
    (encoded((1, 5000)), (1, 256)),
])  # fmt: skip
def test_a_picture_becomes_a_small_jpeg(data: bytes, size: tuple[int, int]) -> None:
    with RawServer(answering(200, data, content_type="image/png")) as server:
        jpeg = fetch_thumbnail(account(server.url), shown(f"{server.url}/p.png?sign=canary"))
        (connection,) = server.connections
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert (picture.format, picture.size) == ("JPEG", size)
    assert not {"authorization", "cookie", "api-key"} & connection.headers.keys()


def no_picture(template: Template, url: str) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        fetch_thumbnail(account(url), template)
    assert "7" in caught.value.what.en
    assert "canary" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("step", [
    answering(200, b"<svg xmlns='http://www.w3.org/2000/svg'/>", content_type="image/svg+xml"),
    answering(200, b""), answering(404, b"gone"), answering(200, encoded((64, 64))[:-40]),
])  # fmt: skip
def test_what_is_no_picture(step: Step) -> None:
    with RawServer(step) as server:
        no_picture(shown(f"{server.url}/p.png?sign=canary"), server.url)


def bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


def noise() -> bytes:
    return random.Random(1).randbytes(17 * 2**20)


# The tests make these: made here, they would cost each worker of pytest a second.
@pytest.mark.parametrize("made", [bomb, noise])
def test_what_is_too_large_is_no_picture(made: Callable[[], bytes]) -> None:
    with RawServer(answering(200, made())) as server:
        no_picture(shown(f"{server.url}/p.png?sign=canary"), server.url)


def test_the_bytes_of_a_picture_decide() -> None:
    odd = (answering(200, encoded((64, 64), "GIF")), answering(203, encoded((8, 8)), {"Content-Encoding": "gzip"}),
           answering(200, gzip.compress(encoded((8, 8)))))  # fmt: skip
    for step in odd:
        with RawServer(step) as server:
            assert fetch_thumbnail(account(server.url), shown(f"{server.url}/p.png")).startswith(b"\xff\xd8")


def test_a_hundred_megabytes_are_not_read() -> None:
    sent: list[int] = []

    def endless(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(100):
            connection.send(b"\x89" * 2**20)
            sent.append(1)

    with RawServer(endless) as server:
        assert "bytes" in no_picture(shown(f"{server.url}/p.png"), server.url).what.en
    assert len(sent) < 30


HOSTILE = [
    "", "x", "/p.png", "file:///etc/passwd", "ftp://example.org/p.png", "data:image/png;base64,AAAA",
    "http://example.org/p.png", "https://user:pass@example.org/p.png", "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/", "https://[::ffff:169.254.169.254]/", "https://10.0.0.1/p.png",
    "https://192.168.1.1/p.png", "https://[fd00::1]/p.png", "https://[::1", "https://metadata/\x00", "javascript:1",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
@pytest.mark.parametrize("where", ["https://hidreamai.com", "http://127.0.0.1:9"])
def test_an_address_that_is_not_fetched(url: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", connected)
    with pytest.raises(ServiceError):
        fetch_thumbnail(account(where), shown(url))


def test_loopback_only_for_a_profile_on_loopback() -> None:
    with RawServer(answering(200, encoded((64, 64)))) as server:
        for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
            no_picture(shown(f"{url}/p.png"), "https://hidreamai.com")
        assert server.accepted == 0
        assert fetch_thumbnail(account(server.url), shown(f"{server.url}/p.png"))


@pytest.mark.parametrize(("target", "why"), [
    ("http://169.254.169.254/latest/meta-data/", "not https"), ("https://169.254.169.254/", "private network"),
    ("https://10.0.0.1/", "private network"), ("file:///etc/passwd", "not https"),
])  # fmt: skip
def test_a_redirect_to_where_it_must_not_go(target: str, why: str) -> None:
    with RawServer(answering(302, b"", {"Location": target})) as server:
        assert why in no_picture(shown(f"{server.url}/p.png"), server.url).what.en
        assert server.accepted == 1
