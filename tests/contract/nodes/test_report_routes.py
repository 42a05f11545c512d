"""The routes of the reports on a real server on loopback: what they answer, and what they refuse."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta

import pytest

from tests.contract.nodes.test_routes import BASE, FakeDesk, FakeRun, Reply, Served, assert_headers, assert_refused
from tests.contract.nodes.test_routes import desk as desk
from tests.contract.nodes.test_routes import served as served

SUBSTITUTE = "0f" * 16 + "-17"


def lines_of(reply: Reply) -> list[list[str]]:
    assert reply.status == 200, reply.body
    assert_headers(reply)
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="report.csv"'
    assert reply.body.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(reply.body.decode("utf-8-sig"), newline="")))


def test_the_newest_runs_and_the_days_that_can_be_asked_for(served: Served, desk: FakeDesk) -> None:
    before = date.today()
    reply = served.get(f"{BASE}/runs")
    assert reply.status == 200
    assert_headers(reply)
    run = {"run": FakeRun.run, "began_at": 1000.5, "items": 4, "pictures": 3, "missing": 1}
    assert reply.json["runs"] == [run]
    today, yesterday = map(date.fromisoformat, reply.json["days"])
    assert before <= today <= date.today()
    assert yesterday == today - timedelta(days=1)
    assert desk.asked == [("runs", 20)]


def test_the_report_of_a_run(served: Served, desk: FakeDesk) -> None:
    headings, row = lines_of(served.get(f"{BASE}/report?run={FakeRun.run}"))
    assert (headings[0], headings[3]) == ("label", "outcome")
    assert (row[0], row[3]) == ("'=茶壶", "refused")
    headings, row = lines_of(served.get(f"{BASE}/report?run={FakeRun.run}&language=zh"))
    assert (headings[0], row[3]) == ("标签", "被拒绝")
    assert desk.asked == [("rows_of_run", FakeRun.run)] * 2


def test_the_report_of_a_day(served: Served, desk: FakeDesk) -> None:
    assert len(lines_of(served.get(f"{BASE}/report?day=2026-11-30&language=en"))) == 2
    desk.rows.clear()
    assert len(lines_of(served.get(f"{BASE}/report?day=2026-11-30"))) == 1, "a day on which nothing ran"
    assert desk.asked == [("rows_of_day", date(2026, 11, 30))] * 2


@pytest.mark.parametrize("run", ["no-such-run", SUBSTITUTE])
def test_a_run_that_is_not_known(served: Served, desk: FakeDesk, run: str) -> None:
    assert_refused(served.get(f"{BASE}/report?run={run}"), 404)
    assert_refused(served.post(f"{BASE}/runs/{run}/forget"), 404)
    assert desk.asked == [("rows_of_run", run), ("forget_run", run)]


@pytest.mark.parametrize("run", ["%00", "x" * 65, "..%2f..%2fetc", "a%0d%0ab", "%27%20or%201%3D1--", "%D9%A3", "%25"])
def test_a_run_that_is_none_never_reaches_the_desk(served: Served, desk: FakeDesk, run: str) -> None:
    assert_refused(served.get(f"{BASE}/report?run={run}"), 404)
    assert_refused(served.post(f"{BASE}/runs/{run}/forget"), 404)
    assert desk.asked == []


@pytest.mark.parametrize(
    "query",
    ["", "?day=", "?day=today", "?day=2026-13-01", "?day=2026-02-30", "?day=20261130", "?day=1969-12-31",
     "?day=2026-1-1", "?day=2026-W01-1", "?day=%D9%A32026-01-01", "?day=2026-11-30&run=x", "?run=x&language=fr",
     "?run=x&language="],
)  # fmt: skip
def test_a_question_that_is_none(served: Served, desk: FakeDesk, query: str) -> None:
    assert_refused(served.get(f"{BASE}/report{query}"), 400)
    assert desk.asked == []


def test_an_empty_run_is_none(served: Served, desk: FakeDesk) -> None:
    assert_refused(served.get(f"{BASE}/report?run="), 404)
    assert desk.asked == []


def test_a_run_is_forgotten(served: Served, desk: FakeDesk) -> None:
    reply = served.post(f"{BASE}/runs/{FakeRun.run}/forget")
    assert (reply.status, reply.json) == (200, {"ok": True})
    assert_headers(reply)
    assert desk.asked == [("forget_run", FakeRun.run)]


FORGET = f"{BASE}/runs/{FakeRun.run}/forget"
READS = [f"{BASE}/runs", f"{BASE}/report?run={FakeRun.run}", f"{BASE}/report?day=2026-11-30"]


def test_another_page_gets_nothing(served: Served, desk: FakeDesk) -> None:
    evil = ("Origin", "http://evil.example")
    for path in READS:
        assert_refused(served.get(path, evil), 403)
        assert_refused(served.get(path, ("Referer", "http://evil.example/page")), 403)
        assert_refused(served.get(path, host="evil.example"), 403)
        assert_refused(served.get(path, ("X-Forwarded-For", "10.0.0.1")), 403)
    assert_refused(served.post(FORGET, evil, origin=None), 403)
    assert desk.asked == []


def test_forgetting_needs_the_token_and_json(served: Served, desk: FakeDesk) -> None:
    for wrong in (None, "", "another-token"):
        assert_refused(served.post(FORGET, token=wrong), 403)
    assert_refused(served.post(FORGET, content_type="text/plain"), 415)
    assert_refused(served.post(FORGET, body=b"[]"), 400)
    for method in ("GET", "PUT", "DELETE"):
        assert served.ask(method, FORGET).status == 405
    assert desk.asked == []
