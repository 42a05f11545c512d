"""What came of an answer is read, however its transfer ended: a whole JSON object with a task id or a picture counts.

Each server counts the submits that reached it whole: a paid request is never sent again for a broken transfer.
"""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import io
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import AmbiguousSubmitError, Journal, JournalSettings, TaskFailedError
from hidream_volcengine.api.core import reading
from hidream_volcengine.api.transport import received
from hidream_volcengine.api.transport import submit as transport

from tests.contract import raw_servers as raw
from tests.contract.raw_servers import Connection, RawServer

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"

_EARLY = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX: y\r\n\r\n"


def _chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def _sized(body: bytes, more: int = 0) -> bytes:
    return f"Content-Length: {len(body) + more}\r\n\r\n".encode() + body


TRANSFERS: dict[str, Callable[[bytes], bytes]] = {
    "the last chunk is missing": lambda body: _OK + b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(body),
    "cut in the size of a chunk": lambda body: _OK + b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(body) + b"3f",
    "Content-Length is too large": lambda body: _OK + _sized(body, 100),
    "something behind the object": lambda body: _OK + _sized(body + b"\0\0<!-- gateway -->"),
    "102 and 103 first": lambda body: _EARLY + _OK + _sized(body),
    "labelled as gzip, and plain": lambda body: _OK + b"Content-Encoding: gzip\r\n" + _sized(body),
    "an unknown label": lambda body: _OK + b"Content-Encoding: aws-chunked\r\n" + _sized(body),
    "gzip without a label": lambda body: _OK + _sized(gzip.compress(body)),
    "gzip, cut behind the object": lambda body: _OK + b"Content-Encoding: gzip\r\n" + _sized(gzip.compress(body), 9),
    "deflate": lambda body: _OK + b"Content-Encoding: deflate\r\n" + _sized(zlib.compress(body)),
    "gzip in two members": lambda body: _OK + _sized(gzip.compress(body[:30]) + gzip.compress(body[30:])),
    "gzip, and the rest plain": lambda body: _OK + _sized(gzip.compress(body[:30]) + body[30:]),
    "a byte order mark": lambda body: _OK + _sized(b"\xef\xbb\xbf" + body),
    "characters cut in two": lambda body: _OK + _sized(body.replace(b"Success", "成功".encode()[:5])),
    "GBK": lambda body: _OK + _sized(body.replace(b"Success", "提交成功".encode("gbk"))),
    "a raw line break in a text": lambda body: _OK + _sized(body.replace(b"Success", b"Suc\ncess")),
}
every_transfer = pytest.mark.parametrize("transfer", TRANSFERS)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    raw.brisk(monkeypatch)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(JournalSettings(tmp_path))
    yield journal
    journal.close()


def sending(transfer: str, answer: dict[str, Any]) -> raw.Step:
    """Answers every submit in this way; polls and pictures are served as ever."""
    data = TRANSFERS[transfer](json.dumps(answer).encode())

    def step(connection: Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST") and "GetResult" not in connection.request_line:
            return connection.send(data)
        if "GetResult" in connection.request_line:
            return connection.answer(200, raw.finished_picture(status="done"))
        if "/results?" in connection.request_line:
            picture = f"http://{connection.headers['host']}/picture.png"
            return connection.answer(200, raw.results(raw.sub_task(image=picture)))
        return connection.answer(200, raw.png(128, 96), content_type="image/png")

    return step


def submits(server: RawServer) -> int:
    return sum(connection.whole and "GetResult" not in connection.request_line for connection in server.submits)


@every_transfer
@pytest.mark.parametrize("service", ["hidream", "cvprocess"])
def test_an_accepted_submit_is_accepted(service: str, transfer: str, journal: Journal) -> None:
    answer = raw.accepted() if service == "hidream" else raw.finished_picture()
    call = raw.hidream_call if service == "hidream" else raw.volcengine_call
    with RawServer(sending(transfer, answer)) as server:
        assert len(raw.run(call(server.url), journal).pictures) == 1
        assert len(raw.run(call(server.url), journal).pictures) == 1, "from the store"
        assert submits(server) == 1


@every_transfer
def test_a_poll_is_read(transfer: str) -> None:
    def step(connection: Connection) -> None:
        connection.read()
        if "/results?" in connection.request_line:
            picture = f"http://{connection.headers['host']}/picture.png"
            body = raw.results(raw.sub_task(image=picture))
            return connection.send(TRANSFERS[transfer](json.dumps(body).encode()))
        return raw.serving_what_was_read(connection)

    with RawServer(step) as server:
        assert len(raw.run(raw.hidream_call(server.url)).pictures) == 1
        assert submits(server) == 1


@pytest.mark.parametrize("transfer", ["the last chunk is missing", "Content-Length is too large"])
@pytest.mark.parametrize("refusal", [{"code": 1051, "message": "bad image"}, {"code": 0}, {"message": "x"}], ids=str)
def test_a_refusal_in_a_broken_transfer_refuses_nothing(
    transfer: str, refusal: dict[str, Any], journal: Journal
) -> None:
    with RawServer(sending(transfer, refusal)) as server:
        for _ in range(2):
            with pytest.raises(AmbiguousSubmitError):
                raw.run(raw.hidream_call(server.url), journal)
        assert submits(server) == 1


@pytest.mark.parametrize("service", ["hidream", "cvprocess"])
def test_half_an_object_is_no_answer(service: str, journal: Journal) -> None:
    whole = json.dumps(raw.accepted() if service == "hidream" else raw.finished_picture()).encode()
    call = raw.hidream_call if service == "hidream" else raw.volcengine_call

    def step(connection: Connection) -> None:
        connection.read()
        connection.send(_OK + f"Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:-20])

    with RawServer(step) as server:
        for _ in range(2):
            with pytest.raises(AmbiguousSubmitError):
                raw.run(call(server.url), journal)
        assert submits(server) == 1


# ---- pictures in an answer

_PNG = raw.png(128, 96)
_BASE64 = base64.b64encode(_PNG).decode()
DRESSES: dict[str, Any] = {
    "as the page has it": [_BASE64],
    "without padding": [_BASE64.rstrip("=")],
    "in lines": ["\r\n".join(_BASE64[at : at + 76] for at in range(0, len(_BASE64), 76))],
    "URL-safe": [_BASE64.translate(str.maketrans("+/", "-_"))],
    "a data: prefix": [f"data:image/png;base64,{_BASE64}"],
    "no list": _BASE64,
    "empty ones first": ["", "  ", _BASE64],
    "nulls first": [None, _BASE64],
}


@pytest.mark.parametrize("dress", DRESSES)
def test_a_picture_in_an_answer(dress: str, journal: Journal) -> None:
    with RawServer(raw.answering(200, raw.finished_picture(binary_data_base64=DRESSES[dress]))) as server:
        [picture] = raw.run(raw.volcengine_call(server.url), journal).pictures
        assert picture.shape == (96, 128, 3)
        raw.run(raw.volcengine_call(server.url), journal)
        assert submits(server) == 1


@pytest.mark.parametrize("text", ["A", "AAAAA", "no picture at all!", "iVBORw0KGgo" * 20])
def test_what_is_no_picture_is_kept_and_said_to_be_kept(text: str, journal: Journal, tmp_path: Path) -> None:
    with RawServer(raw.answering(200, raw.finished_picture(binary_data_base64=[text]))) as server:
        [error] = raw.run(raw.volcengine_call(server.url), journal).errors
        assert submits(server) == 1
    assert isinstance(error, TaskFailedError)
    assert "kept in the store" in error.what.en
    assert [path for path in (tmp_path / "store").rglob("*.bin") if path.is_file()], "it was said to be kept"


def test_no_error_quotes_a_picture(journal: Journal) -> None:
    """A validation error that echoes the request, and an answer that is not understood."""
    for number, answer in enumerate(
        (
            {"code": 50500, "message": f"field binary_data_base64[0]={raw.SMALL} is odd"},
            {"code": 1, "echo": {"binary_data_base64": [raw.SMALL]}},
            {"errors": [raw.SMALL]},
        )
    ):
        with RawServer(raw.answering(400 if number == 2 else 200, answer)) as server:
            with pytest.raises(Exception) as told:
                raw.run(raw.volcengine_call(server.url, take=number), journal)
            assert raw.SMALL[40:80] not in str(told.value)


# ---- large answers

LARGE = 4 * 2**20
PICTURE_AT_NO_PLACE = base64.b64encode(raw.png(256, 256)).decode("ascii")


def test_a_large_answer_that_is_not_understood_is_kept_as_it_came(journal: Journal) -> None:
    """A picture may be in it, where nobody looks for one; a key that it repeats is not kept."""
    body = json.dumps({"code": 0, "output": {"img": PICTURE_AT_NO_PLACE, "you sent": raw.TOKEN}}).encode()
    kept = body.replace(raw.TOKEN.encode(), b"***")
    name = f"{hashlib.sha256(kept).hexdigest()}.bin"

    def cut(connection: Connection) -> None:
        connection.read()
        connection.send(_OK + _sized(body[:-1], 9))

    for number, (make, step) in enumerate((make, step) for make in (raw.hidream_call, raw.volcengine_call)
                                          for step in (raw.answering(200, body), cut)):  # fmt: skip
        whole = step is not cut
        with RawServer(step) as server:
            for _ in range(2):
                with pytest.raises(AmbiguousSubmitError) as caught:
                    raw.run(make(server.url, take=number), journal)
                assert ".bin" in caught.value.what.en and ".bin" in caught.value.what.zh
                assert not whole or name in caught.value.what.en
            assert server.whole == 1
        assert not whole or journal.store.read(name.removesuffix(".bin")) == kept


@pytest.mark.parametrize("works_for", [0, 1, 2], ids=["no disk", "full at once", "full meanwhile"])
def test_a_paid_answer_is_read_although_the_disk_is_full(
    works_for: int, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a free one nothing is lost: it is asked for again."""
    picture = raw.png(2100, 1900)
    make = tempfile.TemporaryFile

    class Full(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes >= works_for:
                super().write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "no space left")
            return super().write(data)

    def temporary() -> Any:
        if works_for == 0:
            raise OSError(errno.ENOSPC, "no space left")
        return Full()

    # The store has temporary files, too, in a folder of its own.
    monkeypatch.setattr(received.tempfile, "TemporaryFile", lambda **where: make(**where) if where else temporary())
    answer = raw.finished_picture(binary_data_base64=[base64.b64encode(picture).decode("ascii")])
    with RawServer(raw.answering(200, answer)) as server:
        assert raw.run(raw.volcengine_call(server.url), journal).pictures[0].shape == (1900, 2100, 3)
        assert server.whole == 1


def polled(answer: bytes) -> tuple[raw.Delivery, list[Connection]]:
    """A resumable call whose first poll is answered so, and whose second brings the picture."""
    polls: list[Connection] = []

    def service(connection: Connection) -> None:
        connection.read()
        if "GetResult" not in connection.request_line:
            return connection.answer(200, {"code": 10000, "data": {"task_id": "task-1"}})
        polls.append(connection)
        if len(polls) > 1:
            return connection.answer(200, raw.finished_picture(status="done"))
        return connection.send(_OK + _sized(answer))

    with RawServer(service) as server:
        return raw.run(raw.volcengine_call("", account=raw.resumable_account(server.url))), polls


BOMBS = {
    "blanks": b" " * 64_000_000,
    "lists": b'{"code":10000,"data":' + b"[" * 32_000_000,
    "empty lists": b'{"code":10000,"data":[' + b"[]," * 16_000_000,
}


@pytest.mark.parametrize("bomb", list(BOMBS))
def test_a_poll_that_unpacks_to_a_bomb_is_asked_again(bomb: str) -> None:
    packed = gzip.compress(BOMBS[bomb], 6)
    assert len(received._unpacked(packed, max(LARGE, 50 * len(packed)))) <= LARGE
    delivery, polls = polled(packed)
    assert (len(delivery.pictures), len(polls)) == (1, 2)


def test_a_poll_of_more_than_4_mib_without_a_picture_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    came = transport.TimeLimit.came
    monkeypatch.setattr(transport.TimeLimit, "came", lambda limit, size: (read.append(size), came(limit, size))[1])
    delivery, polls = polled(json.dumps({"code": 10000, "data": {"status": "done"}, "words": "word " * LARGE}).encode())
    assert (len(delivery.pictures), len(polls)) == (1, 2)
    assert sum(read) < 2 * LARGE, "the rest was not read"


def test_words_that_are_packed_are_given_up_too() -> None:
    words = " ".join(map(str, range(1_500_000))).encode()
    packed = gzip.compress(b'{"code":10000,"data":{"status":"done"},"words":"' + words + b'"}')
    assert LARGE < 2 * LARGE < len(words) and len(packed) * 50 > len(words)
    delivery, polls = polled(packed)
    assert (len(delivery.pictures), len(polls)) == (1, 2)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_large_picture_in_a_poll_is_taken(pack: Callable[[bytes], bytes]) -> None:
    picture = base64.b64encode(raw.png(1400, 1200)).decode("ascii")
    assert len(picture) > LARGE
    delivery, polls = polled(pack(json.dumps(raw.finished_picture(binary_data_base64=[picture])).encode()))
    assert ([each.shape for each in delivery.pictures], len(polls)) == ([(1200, 1400, 3)], 1)


def test_looking_for_a_picture_takes_no_longer_than_reading() -> None:
    """Runs that are nearly long enough, and members of gzip without end, once took minutes and hours."""
    assert not received._has_long_run((b"a" * 4095 + b" ") * 1024)
    assert received._has_long_run(b" " * 100 + b"a" * 4096)
    assert received._unpacked(gzip.compress(b"") * 200_000, LARGE)[:2] == b"\x1f\x8b"


def test_what_stands_behind_the_last_compressed_member_is_kept() -> None:
    for rest in (b"plain", b"\x1f\x8bbroken", b"\x78no zlib either", b"\0\0"):
        assert received._unpacked(gzip.compress(b"begin ") + rest, LARGE) == b"begin " + rest
    assert received._unpacked(gzip.compress(b"begin ") + b"a" * 100, 10) == b"begin aaaa"


def test_an_answer_of_too_many_values_is_no_json() -> None:
    assert reading.json_object(b'{"a":[' + b"[]," * 600_000 + b"1]}") is None
