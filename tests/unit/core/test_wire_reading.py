"""What came is read: JSON and base64 as gateways and services really send them."""

from __future__ import annotations

import base64
import json

import pytest
from hidream_volcengine.api.core.reading import base64_bytes, excerpt, json_object
from hidream_volcengine.api.core.redaction import words_of
from hypothesis import given
from hypothesis import strategies as st

TOLD = {"code": 0, "message": "提交成功", "result": {"task_id": "t1", "sub_task_ids": ["s1"]}}
TEXT = json.dumps(TOLD, ensure_ascii=False)


@pytest.mark.parametrize(
    "body",
    [
        TEXT.encode(),
        json.dumps(TOLD).encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        b"\r\n  " + TEXT.encode() + b"\r\n",
        TEXT.encode() + b"\0\0\0",
        TEXT.encode() + b"<!-- gateway 7 -->",
        TEXT.encode() + b'{"code": 500}',
        TEXT.encode("gbk"),
        TEXT.encode("gb18030"),
    ],
    ids=["utf-8", "ascii", "bom", "utf-16", "blanks", "zeros", "comment behind", "object behind", "gbk", "gb18030"],
)
def test_an_object_is_read_whatever_is_around_it(body: bytes) -> None:
    assert json_object(body) == TOLD


@given(st.integers(1, len("提交成功".encode()) - 1))
def test_a_cut_character_costs_its_message_and_no_id(length: int) -> None:
    cut = "提交成功".encode()[:length]
    body = TEXT.encode().replace("提交成功".encode(), cut)
    told = json_object(body)
    assert told is not None
    assert told["result"] == TOLD["result"]


@pytest.mark.parametrize("control", ["\n", "\t", "\0", "\x1b[0m"])
def test_raw_control_characters_in_a_text(control: str) -> None:
    told = json_object(TEXT.replace("提交", f"提{control}交").encode())
    assert told is not None and told["result"] == TOLD["result"]


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"{", b'{"a": ', b"<html>", b"\xff\xfe\xfd", b"{" * 100_000])
def test_what_is_no_object(body: bytes) -> None:
    assert json_object(body) is None


@given(st.binary(min_size=1, max_size=300), st.data())
def test_base64_in_any_dress(data: bytes, draw: st.DataObject) -> None:
    text = base64.b64encode(data).decode()
    if draw.draw(st.booleans(), "url-safe"):
        text = text.translate(str.maketrans("+/", "-_"))
    if draw.draw(st.booleans(), "without padding"):
        text = text.rstrip("=")
    if draw.draw(st.booleans(), "in lines"):
        text = "\r\n".join(text[at : at + 20] for at in range(0, len(text), 20)) + "\n"
    if draw.draw(st.booleans(), "with a prefix"):
        text = f"data:image/png;base64,{text}"
    assert base64_bytes(text) == data


def test_words_have_no_picture_in_them() -> None:
    picture = base64.b64encode(bytes(range(256)) * 2).decode()
    body = json.dumps({"error": f"field image: {picture} is not valid", "id": "a" * 64}).encode()
    for told in (excerpt(body), words_of(body.decode(), 500), words_of(f"data:image/png;base64,{picture}", 500)):
        assert picture[:20] not in told
        assert "characters of data" in told
    assert "a" * 64 in excerpt(body), "an id is no data"
