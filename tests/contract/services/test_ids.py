"""Ids and result addresses are kept as they came, even with a key in them, and are redacted wherever they are shown."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

import pytest
from hidream_volcengine.api import (
    BatchOutcome,
    Delivery,
    Journal,
    RemoteImageError,
    TaskRef,
    Text,
    fetch_task,
    pack_logger,
)
from hidream_volcengine.api.purchase.batch import Result

from tests.contract import paying
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import TOKEN, RawServer

TASK_ID = f"task-{TOKEN}-7"
SUB_TASK_ID = f"sub-{TOKEN}-8"
REQUEST_ID = f"request-{TOKEN}-9"


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def journal() -> Iterator[Journal]:
    with raw.fresh_journal() as journal:
        yield journal


def service(connection: raw.Connection) -> None:
    """A HiDream whose ids have the caller's token in them; it knows them in that form only."""
    connection.read()
    if connection.request_line.startswith("POST"):
        return connection.answer(200, raw.accepted(TASK_ID, (SUB_TASK_ID,)))
    if "/results?" in connection.request_line:
        if not re.search(f"task_id={TASK_ID}[& ]", connection.request_line):
            return connection.answer(200, {"code": 1001, "message": "task not found"})
        image = f"http://{connection.headers['host']}/{TOKEN}.png"
        return connection.answer(200, raw.results(raw.sub_task(SUB_TASK_ID, image=image)))
    return connection.answer(200, raw.png(128, 96), content_type="image/png")


def rows(journal: Journal) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(journal.store.directory.parent / "journal.sqlite3")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM attempts")]


def test_a_task_whose_id_has_a_key_in_it_is_fetched(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, pack_logger().name)
    with RawServer(service) as server:
        call = raw.hidream_call(server.url)
        assert len(raw.run(call, journal).pictures) == 1
        (row,) = rows(journal)
        assert row["task_id"] == TASK_ID and SUB_TASK_ID in row["sub_task_ids"]
        # Its file is gone: the task is asked for again, by the id as it came.
        [picture] = journal.store._directory.rglob("*.png")
        picture.unlink()
        assert len(raw.run(call, journal).pictures) == 1
        assert len(server.submits) == 1
    assert TOKEN not in caplog.text
    (task,) = journal.task_list.tasks()
    assert TOKEN not in str(asdict(task)) and task.task_id.startswith("task-***")


def test_an_error_shows_no_key_in_its_ids(journal: Journal) -> None:
    def failing(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            return connection.answer(200, raw.accepted(TASK_ID, (SUB_TASK_ID,)))
        return connection.answer(200, raw.results(raw.sub_task(SUB_TASK_ID, status=3, description=TASK_ID)))

    with RawServer(failing) as server:
        (first,) = raw.run(raw.hidream_call(server.url), journal).errors
        with pytest.raises(RemoteImageError) as again:
            raw.run(raw.hidream_call(server.url), journal)
        for error in (first, again.value):
            assert TOKEN not in f"{error}{error!r}{vars(error)}"
            assert "task-***" in str(error)


def test_a_link_with_a_key_in_it_is_fetched_after_a_restart(journal: Journal) -> None:
    """A synchronous answer by address: the link is the only way to the picture."""

    def serve(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            address = f"http://{connection.headers['host']}/picture.png?signature={TOKEN}"
            told = raw.finished_picture(binary_data_base64=None, image_urls=[address])
            return connection.answer(200, {**told, "request_id": REQUEST_ID})
        if not ready:
            return connection.answer(503, b"")
        assert TOKEN in connection.request_line
        return connection.answer(200, raw.png(128, 96), content_type="image/png")

    ready: list[bool] = []
    deadlines = raw.Deadlines(download=0.2)
    with RawServer(serve) as server:
        raw.hidream_account(server.url)  # its token is a secret of this process
        call = raw.volcengine_call(server.url, deadlines=deadlines)
        (error,) = raw.run(call, journal).errors
        assert TOKEN not in str(error)
        (row,) = rows(journal)
        assert TOKEN in row["result_url"] and row["request_id"] == REQUEST_ID
        ready.append(True)
        assert len(raw.run(call, journal).pictures) == 1
        assert len(server.submits) == 1


def test_a_list_of_tasks_in_an_error_shows_no_key(journal: Journal) -> None:
    raw.hidream_account("http://127.0.0.1:1")
    came = Delivery(TaskRef("HiDream", "hidream upscale", TASK_ID), (raw.photo(),), (), "rv-0000000000000001")
    failed = RemoteImageError(Text("It failed.", "失败。"), task_id=TASK_ID)
    told = str(BatchOutcome([Result(came, None), Result(None, failed)]).error(accept_partial=False))
    assert TOKEN not in told and "task-***" in told


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d of a character", "plain"])
def test_what_no_database_takes_costs_nothing_else(text: str, journal: Journal) -> None:
    def serve(connection: raw.Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            return connection.answer(200, json.dumps(raw.accepted(text, (text,))))
        if "/results?" in connection.request_line:
            image = f"http://{connection.headers['host']}/1.png"
            return connection.answer(200, json.dumps(raw.results(raw.sub_task(text, image=image))))
        return connection.answer(200, raw.png(128, 96), content_type="image/png")

    with RawServer(serve) as server:
        assert len(raw.run(raw.hidream_call(server.url), journal).pictures) == 1
        assert len(raw.run(raw.hidream_call(server.url), journal).pictures) == 1
        assert len(server.submits) == 1


def test_an_adopted_id_is_asked_for_as_it_was_typed(journal: Journal) -> None:
    with RawServer(service) as server:
        call = raw.hidream_call(server.url)
        delivery = fetch_task(journal, call.service, TASK_ID, paying.idle_watch())
        assert len(delivery.pictures) == 1 and len(server.submits) == 0
