"""The wire log at DEBUG: what a user sends in when a service answers otherwise than its pages say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hidream_volcengine.api import RemoteImageError, pack_logger
from hidream_volcengine.api.catalog.endpoints import hidream_upscale
from pytest import LogCaptureFixture, MonkeyPatch

from emulator import Credentials, Emulator
from tests.contract import raw_servers as raw
from tests.contract.raw_servers import SMALL, Connection, RawServer, answering, results, sub_task

KEYS = Credentials(
    hidream_token="canary-hidream-token",
    hidream_api_key="canary-hidream-api-key",
    gateway_api_key="canary-gateway-key",
    access_key_id="AKLTcanary",
    secret_access_key="canary-secret-access-key",
)


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> list[float]:
    return raw.brisk(monkeypatch)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(credentials=KEYS) as running:
        yield running


@pytest.fixture(autouse=True)
def at_debug(caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, pack_logger().name)


def lines(caplog: LogCaptureFixture) -> list[str]:
    """The pack's lines; whatever was logged, it holds no key and no picture."""
    found = [record.getMessage() for record in caplog.records if record.name == pack_logger().name]
    for line in found:
        assert "canary" not in line and "AKLTcanary" not in line
        assert SMALL[:40] not in line and "iVBORw0KGgo" not in line
        assert len(line) < 1000
    return found


def line_with(caplog: LogCaptureFixture, *parts: str) -> str:
    matching = [line for line in lines(caplog) if all(part in line for part in parts)]
    assert matching, (parts, lines(caplog))
    return matching[0]


def environments(emulator: Emulator) -> dict[str, Any]:
    url = emulator.url
    gateway = {"VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key, "VOLCENGINE_GATEWAY_BASE_URL": url}
    signed = {
        "VOLCENGINE_ACCESS_KEY_ID": KEYS.access_key_id,
        "VOLCENGINE_SECRET_ACCESS_KEY": KEYS.secret_access_key,
        "VOLCENGINE_BASE_URL": url,
    }
    return {
        "token": raw.hidream_account(url, environment={"HIDREAM_TOKEN": KEYS.hidream_token}),
        "api key": raw.hidream_account(url, environment={"HIDREAM_API_KEY": KEYS.hidream_api_key}),
        "gateway": raw.volcengine_account(url, environment=gateway),
        "signed": raw.volcengine_account(url, environment=signed),
    }


@pytest.mark.parametrize("kind", ["token", "api key"])
def test_a_hidream_call_tells_everything_but_keys_and_pictures(
    emulator: Emulator, caplog: LogCaptureFixture, kind: str
) -> None:
    delivery = raw.run(raw.hidream_call("", account=environments(emulator)[kind]))
    assert delivery.task is not None
    task_id, request_id = delivery.task.task_id, delivery.task.request_id
    submit = line_with(caplog, f"POST {emulator.url}{hidream_upscale.ENDPOINT.path} -> 200", "sent=", "received=")
    (record,) = [record for record in emulator.requests if record.phase == "submit"]
    assert f"sent={record.headers['Content-Length']}" in submit
    assert " 0." in submit and submit.split("s sent")[0].split()[-1].replace(".", "").isdigit(), "seconds"
    line_with(caplog, f"GET {emulator.url}{hidream_upscale.ENDPOINT.results_path} -> 200", "received=")
    (image,) = [record for record in emulator.requests if record.phase == "image"]
    line_with(caplog, f"GET {emulator.url}{image.path} -> 200", "received=")
    line_with(caplog, f"task_id={task_id}", f"request_id={request_id}")
    line_with(caplog, f"task_id={task_id}", "(1, 1.0)")
    if kind == "api key":
        line_with(caplog, f"GET {emulator.url}/prod-api/user/apikey2token -> 200")


@pytest.mark.parametrize("kind", ["gateway", "signed"])
def test_a_volcengine_call_tells_everything_but_keys_and_pictures(
    emulator: Emulator, caplog: LogCaptureFixture, kind: str
) -> None:
    delivery = raw.run(raw.volcengine_call("", account=environments(emulator)[kind]))
    assert delivery.task is not None
    line_with(caplog, f"POST {emulator.url}", "-> 200", "sent=", "received=")
    line_with(caplog, "code=10000", "algorithm=0", f"request_id={delivery.task.request_id}", "time_elapsed=")


@pytest.mark.parametrize("kind", ["token", "api key", "gateway", "signed"])
def test_nothing_else_of_the_process_logs_a_key(emulator: Emulator, caplog: LogCaptureFixture, kind: str) -> None:
    caplog.set_level(logging.DEBUG)
    make = raw.hidream_call if kind in ("token", "api key") else raw.volcengine_call
    raw.run(make("", account=environments(emulator)[kind]))
    assert "canary" not in caplog.text and SMALL[:40] not in caplog.text


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502])
def test_a_refused_submit_is_logged(caplog: LogCaptureFixture, status: int) -> None:
    with RawServer(answering(status, {"code": 7001, "message": "words"})) as server:
        with pytest.raises(RemoteImageError):
            raw.run(raw.hidream_call(server.url, deadlines=raw.Deadlines(queue=0.01)))
        request_id = server.connections[0].json["request_id"]
        line_with(caplog, f"POST {server.url}", f"-> {status}", f"sent={server.connections[0].length}")
        line_with(caplog, "code=7001", f"request_id={request_id}")


def test_what_was_not_sent_and_what_was_not_answered_are_told_apart(caplog: LogCaptureFixture) -> None:
    with RawServer(raw.resetting("body"), raw.resetting("whole")) as server:
        with pytest.raises(RemoteImageError):
            raw.run(raw.volcengine_call(server.url, image=raw.LARGE))
        cut = line_with(caplog, "-> not sent")
        whole = line_with(caplog, "-> no answer", f"sent={server.connections[1].length}")
        assert int(cut.split("sent=")[1].split()[0]) < server.connections[1].length
        assert "Error" in cut and "Error" in whole
        assert "A" * 40 not in "".join(lines(caplog))


def test_the_query_of_a_result_address_is_not_logged(caplog: LogCaptureFixture) -> None:
    def files(connection: Connection) -> None:
        connection.read()
        if "/first" in connection.request_line:
            return connection.answer(302, b"", {"Location": "/next?sign=canary-2"}, "text/plain")
        if "/next" in connection.request_line and len(host.connections) < 4:
            return connection.reset()
        return connection.answer(200, raw.png(128, 96))

    with RawServer(files) as host:

        def service(connection: Connection) -> None:
            connection.read()
            post = connection.request_line.startswith("POST")
            entry = sub_task(image=f"{host.url}/first.png?sign=canary-1#canary-3")
            connection.answer(200, raw.accepted() if post else results(entry))

        with RawServer(service) as server:
            assert len(raw.run(raw.hidream_call(server.url)).pictures) == 1
    line_with(caplog, f"GET {host.url}/first.png -> 302")
    line_with(caplog, f"GET {host.url}/next -> failed")
    line_with(caplog, f"GET {host.url}/next -> 200")


def test_the_query_of_an_unknown_ending_is_not_logged(caplog: LogCaptureFixture) -> None:
    def service(connection: Connection) -> None:
        connection.read()
        post = connection.request_line.startswith("POST")
        entry = sub_task(status=77, image="https://host.invalid/p.png?sign=canary-1")
        connection.answer(200, raw.accepted() if post else results(entry))

    with RawServer(service) as server:
        delivery = raw.run(raw.hidream_call(server.url))
    assert len(delivery.errors) == 1
    line_with(caplog, "task_id=task-1", "77")


def test_polls_that_bring_no_state_are_logged(caplog: LogCaptureFixture) -> None:
    answers = iter([(502, b"<html/>"), (200, results(sub_task(status=2)))])

    def service(connection: Connection) -> None:
        connection.read()
        if connection.request_line.startswith("POST"):
            return connection.answer(200, raw.accepted())
        if "/results?" in connection.request_line:
            done = results(sub_task(image=f"http://{connection.headers['host']}/p.png"))
            status, body = next(answers, (200, done))
            return connection.answer(status, body)
        return connection.answer(200, raw.png(128, 96))

    with RawServer(service) as server:
        raw.run(raw.hidream_call(server.url))
    line_with(caplog, "GET ", "/results -> 502", "received=7")
    line_with(caplog, "task_id=task-1", "(2, 0.5)")


def test_without_debug_only_what_happened_to_the_money_is_logged(emulator: Emulator, caplog: LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, pack_logger().name)
    delivery = raw.run(raw.hidream_call("", account=environments(emulator)["token"]))
    assert delivery.task is not None
    buys, accepted = lines(caplog)
    assert "buys 1 picture(s)" in buys
    assert "accepted" in accepted and f"task_id={delivery.task.task_id}" in accepted
