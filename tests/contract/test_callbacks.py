"""Callbacks: what they may do, and how little a stranger gets out of the listener."""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    Callbacks,
    CallCancelled,
    Collector,
    ConfigurationError,
    Profiles,
    TaskRef,
    Text,
    callback_server,
    callbacks,
    polling,
)
from hidream_volcengine.api.redaction import redact
from hidream_volcengine.api.settings import CallbackSettings
from hidream_volcengine.api.states import State

from tests.contract.calling_back import Caller, free_port, post, raw
from tests.contract.paying import (
    ANY_CALL,
    PATIENCE,
    A,
    B,
    C,
    Shop,
    buy,
    cvprocess,
    outpaint,
    park,
    pictures,
    trouble,
    upscale,
)
from tests.contract.raw_servers import until

HIDREAM = ["outpaint", "img2img", "upscale", "variation"]
WORDS = ("The service called back: it has accepted this request.", "服务端已发来回调，说明它已受理该请求。")


class Called(Shop):
    """A shop whose server may be called back; the emulator calls once a test gives it a ``Caller``."""

    def __enter__(self) -> Called:
        super().__enter__()
        self.port = free_port()
        self.settings |= {
            "REMOTE_IMAGE_CALLBACK_URL": f"http://127.0.0.1:{self.port}",
            "REMOTE_IMAGE_CALLBACK_LISTEN": f"127.0.0.1:{self.port}",
        }
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.callbacks.stop()
        super().__exit__()

    def listen(self) -> None:
        settings = self.profiles.callback_settings()
        assert settings is not None
        self.callbacks = Callbacks(settings, self.folder, self.journal, Collector(self.journal, self.profiles))
        self.callbacks.start()

    def restart(self) -> None:
        self.callbacks.stop()
        super().restart()
        self.listen()

    def called(self) -> Caller:
        caller = Caller()
        self.emulator.call_back_with(caller)
        return caller

    @property
    def url(self) -> str:
        """Where the newest accepted task is to be called back."""
        return str(self.emulator.accepted[-1].body["notify_url"])

    @property
    def path(self) -> str:
        return self.url.removeprefix(f"http://127.0.0.1:{self.port}")

    @property
    def body(self) -> bytes:
        """What the service posts there."""
        return told(task_id=self.emulator.accepted[-1].task_id)

    def lose_an_answer(self, service: str = "upscale") -> AmbiguousSubmitError:
        """A task that was accepted and nobody knows of."""
        self.fault("submit", reset="after")
        with self.buys(1):
            error = self.trouble(ANY_CALL[service](self, A))
        assert isinstance(error, AmbiguousSubmitError)
        assert self.states[0] == "ambiguous"
        return error

    def explained(self, service: str = "upscale") -> tuple[str, str]:
        """What queueing again says, without a call."""
        with self.sends_nothing():
            text = self.trouble(ANY_CALL[service](self, A)).text()
        return text.en, text.zh

    def becomes(self, *states: str) -> None:
        until(lambda: self.states == list(states), PATIENCE)

    def in_the_store(self, service: str = "upscale") -> None:
        with self.sends_nothing():
            assert pictures(self.buy(ANY_CALL[service](self, A)))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Called]:
    with Called(tmp_path) as running:
        yield running


def told(**result: Any) -> bytes:
    return json.dumps({"code": 0, "message": "Success", "request_id": "r", "result": result}).encode()


def sql(shop: Shop, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(shop.folder / "journal.sqlite3", timeout=30)) as connection, connection:
        assert connection.execute(statement, values).rowcount


def quiet(shop: Called) -> bool:
    """Whether nothing is left to be done about any callback."""
    return until(lambda: not shop.callbacks._waiting, PATIENCE)


# ---- only if the server's owner wants it


def settings_of(**environment: str) -> CallbackSettings | None:
    return Profiles(environment, lambda: pytest.fail("the sandbox was started")).callback_settings()


def test_without_an_address_there_is_no_listener() -> None:
    assert settings_of() is None
    assert settings_of(REMOTE_IMAGE_CALLBACK_URL=" ", REMOTE_IMAGE_CALLBACK_LISTEN="127.0.0.1:8190") is None


def test_without_callbacks_no_address_is_sent(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        shop.buy(upscale(shop.hidream, A))
        assert "notify_url" not in shop.submits[0].body
        assert not (tmp_path / callbacks.KEY_FILE).exists()


def test_the_listener_is_this_machines_own_unless_the_owner_says_otherwise() -> None:
    base = "https://pictures.example.com/hooks"
    assert settings_of(REMOTE_IMAGE_CALLBACK_URL=f"{base}/") == CallbackSettings(base, "127.0.0.1", 8190)
    chosen = settings_of(REMOTE_IMAGE_CALLBACK_URL=base, REMOTE_IMAGE_CALLBACK_LISTEN="[::1]:9000")
    assert chosen == CallbackSettings(base, "::1", 9000)


@pytest.mark.parametrize(
    "url",
    ["http://pictures.example.com", "ftp://127.0.0.1", "https://", "https://user:word@example.com", "https://a.b/?x=1"],
)
def test_an_address_that_would_show_the_secret_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="REMOTE_IMAGE_CALLBACK_URL"):
        settings_of(REMOTE_IMAGE_CALLBACK_URL=url)


@pytest.mark.parametrize(
    "listen", ["8190", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", ":8190", "a b:1", "::1:8190"]
)
def test_a_place_to_listen_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ConfigurationError, match="REMOTE_IMAGE_CALLBACK_LISTEN"):
        settings_of(REMOTE_IMAGE_CALLBACK_URL="https://a.example.com", REMOTE_IMAGE_CALLBACK_LISTEN=listen)


def test_a_port_that_is_taken_is_said_once_and_everything_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, Shop(tmp_path) as shop:
        port = other.getsockname()[1]
        settings = CallbackSettings(f"http://127.0.0.1:{port}", "127.0.0.1", port)
        calls = Callbacks(settings, tmp_path, shop.journal, Collector(shop.journal, shop.profiles))
        threads = threading.active_count()
        calls.start()
        assert threading.active_count() <= threads
        assert pictures(shop.buy(upscale(shop.hidream, A)))
        assert "notify_url" not in shop.submits[0].body
        calls.stop()
    assert [record.levelname for record in caplog.records if "callbacks are not heard" in record.message] == ["WARNING"]


def test_the_listener_is_gone_after_stop_and_can_come_back(shop: Called) -> None:
    for _ in range(2):
        shop.restart()
        assert raw(shop.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    shop.callbacks.stop()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", shop.port), 5)
    shop.buy(upscale(shop.hidream, A))
    assert "notify_url" not in shop.submits[0].body, "nobody would hear it"
    until(lambda: not [thread for thread in threading.enumerate() if "-callback" in thread.name])


# ---- the secret path


@pytest.mark.parametrize("service", HIDREAM)
def test_the_address_goes_to_hidream_and_changes_no_key(shop: Called, service: str) -> None:
    shop.buy(ANY_CALL[service](shop, A))
    [task] = shop.journal.tasks()
    assert shop.path.startswith(f"/{task.journal_id}/") and len(shop.path) == len(f"/{task.journal_id}/") + 64
    shop.callbacks.stop()
    shop.in_the_store(service)


def test_neither_volcengine_nor_the_sandbox_gets_one(shop: Called) -> None:
    shop.buy(cvprocess(shop.volcengine, A))
    shop.profile = "sandbox"
    shop.buy(upscale(shop.hidream, A))
    assert [record.body for record in shop.submits if "notify_url" in record.body] == []
    assert len(shop.submits) == 2


def test_every_attempt_has_its_own(shop: Called) -> None:
    shop.buy(upscale(shop.hidream, A), upscale(shop.hidream, B))
    first, second = (record.body["notify_url"].split("/")[-2:] for record in shop.submits)
    assert first[0] != second[0] and first[1] != second[1]


def test_a_retry_of_the_same_attempt_keeps_it(shop: Called) -> None:
    shop.fault("submit", status=429, headers={"Retry-After": "0"})
    shop.buy(upscale(shop.hidream, A))
    assert len({record.body["notify_url"] for record in shop.submits}) == 1 and len(shop.submits) == 2


def test_the_secret_is_this_users_alone_and_survives(shop: Called) -> None:
    file = shop.folder / callbacks.KEY_FILE
    key = file.read_bytes()
    assert len(key) == 32
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shop.restart()
    assert file.read_bytes() == key
    assert [path.name for path in shop.folder.iterdir() if path.name.endswith(".part")] == []


def test_everybody_who_makes_the_secret_at_once_has_the_same(tmp_path: Path) -> None:
    start, keys = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        keys.append(callbacks._secret_in(tmp_path / "new" / callbacks.KEY_FILE))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(keys) == 8 and len(set(keys)) == 1
    if os.name == "posix":
        # The journal comes to lie beside it.
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_damaged_secret_is_not_used(shop: Called, caplog: pytest.LogCaptureFixture) -> None:
    (shop.folder / callbacks.KEY_FILE).write_bytes(b"short")
    shop.restart()
    assert pictures(shop.buy(upscale(shop.hidream, A)))
    assert "notify_url" not in shop.submits[0].body
    assert "callback.key is damaged" in caplog.text


def test_the_secret_shows_nowhere(shop: Called, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caller = shop.called()
    error = shop.lose_an_answer()
    caller.heard()
    shop.becomes("stored")
    post(shop.url, b"again")
    post(shop.url[:-1] + "x")
    shop.buy(upscale(shop.hidream, B))
    macs = [record.body["notify_url"].rsplit("/", 1)[1] for record in shop.emulator.accepted]
    shop.journal.close()
    key = (shop.folder / callbacks.KEY_FILE).read_bytes()
    files = [path.read_bytes() for path in shop.folder.rglob("*") if path.is_file() and path.suffix != ".key"]
    texts = [caplog.text, str(error), repr(shop.callbacks), *(repr(record) for record in caplog.records)]
    for mac in macs:
        assert not [file for file in files if mac.encode() in file or key in file]
        assert not [text for text in texts if mac in text or key.hex() in text]


@pytest.mark.parametrize("slash", ["/", r"\/", "%2F", "%2f"])
def test_a_service_that_repeats_the_address_does_not_publish_it(slash: str) -> None:
    said = redact(f"invalid notify_url: https:{slash}{slash}host{slash}rv-0123456789abcdef{slash}{'ab' * 32}!")
    assert "abab" not in said and "rv-0123456789abcdef" in said and said.endswith("***!")


# ---- what a callback does


def test_it_wakes_the_poll_of_the_waiting_call(shop: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "next_pause", lambda *_: 3600.0)
    caller = shop.called()
    assert pictures(shop.buy(upscale(shop.hidream, A)))
    caller.heard()
    assert len([record for record in shop.emulator.requests if record.phase == "result"]) == 1
    assert quiet(shop) and shop.states == ["delivered"]


def test_it_wakes_only_its_own_call(shop: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "next_pause", lambda *_: 3600.0)
    caller = shop.called()
    caller.may_call.clear()
    waiting = [shop.buying(upscale(shop.hidream, pixels)) for pixels in (A, B)]
    until(lambda: len(caller.urls) == 2 and shop.states == ["submitted"] * 2)
    assert post(shop.url, shop.body) == 200
    until(lambda: not all(buying.alive for buying in waiting))
    asked = {record.task_id for record in shop.emulator.requests if record.phase == "result"}
    assert asked == {shop.emulator.accepted[-1].task_id}
    for buying in waiting:
        buying.interrupt()


def test_a_wake_that_comes_too_early_changes_nothing(shop: Called) -> None:
    shop.hold()
    buying = shop.buying(upscale(shop.hidream, A))
    until(lambda: shop.states == ["submitted"])
    assert post(shop.url, shop.body) == 200
    until(lambda: any(record.phase == "result" for record in shop.emulator.requests))
    shop.mend()
    assert pictures(buying.wait())


def test_an_interrupt_is_felt_as_ever(shop: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "next_pause", lambda *_: 3600.0)
    buying = shop.buying(upscale(shop.hidream, A))
    until(lambda: shop.states == ["submitted"])
    buying.interrupt()
    with pytest.raises(CallCancelled):
        buying.wait()
    assert shop.states == ["parked"]


def test_a_parked_task_is_looked_at_now(shop: Called) -> None:
    park(shop, "upscale")
    shop.mend()
    # The collector's own look is far away.
    sql(shop, "UPDATE attempts SET next_poll_at = ?", time.time() + 86400)
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    shop.in_the_store()


@pytest.mark.parametrize("service", HIDREAM)
def test_an_ambiguous_task_is_settled_and_not_bought_again(shop: Called, service: str) -> None:
    """The answer to the submit is lost; the callback comes, and the next run has the picture, bought once."""
    caller = shop.called()
    caller.may_call.clear()
    shop.lose_an_answer(service)
    assert "may have been accepted" in shop.explained(service)[0]
    caller.may_call.set()
    caller.heard()
    shop.becomes("stored")
    shop.in_the_store(service)
    assert (len(shop.emulator.accepted), shop.emulator.billed) == (1, 4 if service == "variation" else 1)
    [task] = shop.journal.tasks()
    assert (task.task_id, task.error) == (shop.emulator.accepted[0].task_id, None)


def test_it_is_settled_across_a_restart(shop: Called) -> None:
    shop.lose_an_answer()
    shop.restart()
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    shop.in_the_store()


def test_a_submit_whose_process_is_gone_is_settled(shop: Called) -> None:
    shop.lose_an_answer()
    sql(shop, "UPDATE attempts SET state = 'submitting', owner = 'nobody', error = NULL")
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    shop.in_the_store()


def test_it_goes_before_what_was_to_be_submitted_again(shop: Called) -> None:
    shop.lose_an_answer()
    assert shop.journal.submit_again(shop.journal.tasks()[0].journal_id)
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    shop.in_the_store()


def test_a_callback_before_the_answer_disturbs_nothing(shop: Called) -> None:
    caller = shop.called()
    with shop.buys(1), shop.answers_held() as may_answer:
        buying = shop.buying(upscale(shop.hidream, A))
        caller.heard()
        assert shop.states == ["submitting"]
        may_answer.set()
        assert pictures(buying.wait())
    assert quiet(shop) and shop.states == ["delivered"]


def test_a_callback_before_the_answer_is_remembered_if_that_is_lost(shop: Called) -> None:
    caller = shop.called()
    shop.fault("submit", hang=1.0, reset="after")
    buying = shop.buying(upscale(shop.hidream, A))
    caller.heard()
    assert shop.states == ["submitting"]
    [result] = buying.wait()
    assert isinstance(result.error, AmbiguousSubmitError)
    shop.becomes("stored")
    shop.in_the_store()
    assert shop.emulator.billed == 1


def test_a_service_that_does_not_answer_at_once_is_asked_again(shop: Called) -> None:
    shop.lose_an_answer()
    shop.fault("result", status=503)
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    shop.in_the_store()


@pytest.mark.parametrize("base", ["/hooks/pictures", ""])
def test_a_proxy_may_take_off_its_own_path(shop: Called, base: str) -> None:
    shop.settings["REMOTE_IMAGE_CALLBACK_URL"] += "/hooks/pictures"
    shop.restart()
    shop.lose_an_answer()
    assert shop.path.startswith("/hooks/pictures/rv-")
    url = f"http://127.0.0.1:{shop.port}{base}/{shop.path.split('/', 3)[3]}"
    assert post(url, shop.body) == 200
    shop.becomes("stored")


# ---- its body is only a hint


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_TRIES", 1)


LIES: dict[str, bytes] = {
    "another task": told(task_id="3f2c9a50-7f0e-4c3e-9b1a-000000000000"),
    "sql": told(task_id="x' OR '1'='1"),
    "nul": told(task_id="a\0b"),
    "long": told(task_id="a" * 129),
    "spaces": told(task_id="a b"),
    "path": told(task_id="../../etc"),
    "query": told(task_id="a&request_id=b"),
    "a list": told(task_id=["a"]),
    "an object": told(task_id={"a": 1}),
    "true": told(task_id=True),
    "two": json.dumps({"main_task_id": "a", "result": {"task_id": "b"}}).encode(),
    "nothing": b"",
    "no json": b"\xff\xfe<xml/>",
    "a list of results": b'{"result": [{"task_id": "a"}]}',
    "deep": b"[" * 60_000,
    "a number of many digits": b'{"main_task_id": ' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("lie", list(LIES))
def test_what_the_service_does_not_confirm_stays_ambiguous(shop: Called, impatient: None, lie: str) -> None:
    error = shop.lose_an_answer()
    asked = len(shop.emulator.requests)
    assert post(shop.url, LIES[lie]) == 200
    assert quiet(shop) and WORDS[0] in shop.explained()[0]
    told_again = shop.explained()
    assert [words in text for words, text in zip(WORDS, told_again, strict=True)] == [True, True]
    assert [text.count(words) for words, text in zip(WORDS, told_again, strict=True)] == [1, 1]
    assert error.what.en in told_again[0] and error.what.zh in told_again[1]
    assert shop.states == ["ambiguous"]
    later = shop.emulator.requests[asked:]
    assert {record.phase for record in later} <= {"result"}, "nothing else is asked for"
    assert len(later) == (2 if lie == "another task" else 0)


def test_a_task_that_the_journal_has_already_is_not_taken_for_another(shop: Called) -> None:
    shop.buy(upscale(shop.hidream, B))
    known = shop.journal.tasks()[0].task_id
    shop.lose_an_answer()
    asked = len(shop.emulator.requests)
    assert post(shop.url, told(task_id=known)) == 200
    assert quiet(shop) and WORDS[0] in shop.explained()[0]
    assert sorted(shop.states) == ["ambiguous", "delivered"]
    assert shop.emulator.requests[asked:] == []


def test_a_task_of_another_endpoint_is_not_taken(shop: Called, impatient: None) -> None:
    """The account's own, but nothing of the journal's: the service does not have it where this one was sent."""
    elsewhere = shop.folder / "elsewhere"
    elsewhere.mkdir()
    with Shop(elsewhere) as other:
        other.host = shop.emulator.url
        other.buy(outpaint(other.hidream, C))
    task_id = shop.emulator.accepted[-1].task_id
    shop.lose_an_answer("upscale")
    assert post(shop.url, told(task_id=task_id)) == 200
    assert quiet(shop) and WORDS[0] in shop.explained()[0]
    assert shop.states == ["ambiguous"]


def test_a_task_without_a_state_is_not_taken(shop: Called, impatient: None) -> None:
    shop.lose_an_answer()
    shop.fault("result", None, empty=True)
    assert post(shop.url, shop.body) == 200
    assert quiet(shop) and WORDS[0] in shop.explained()[0]
    assert shop.states == ["ambiguous"]


def test_no_address_in_it_is_ever_fetched(shop: Called) -> None:
    shop.lose_an_answer()
    with socket.create_server(("127.0.0.1", 0)) as trap:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/picture.png"
        task_id = shop.emulator.accepted[-1].task_id
        entry = {"sub_task_id": "s", "task_status": 1, "image": address, "video": address}
        lie = {"main_task_id": task_id, "sub_task_results": [entry], "notify_url": address, "image": address}
        assert post(shop.url, json.dumps(lie).encode()) == 200
        shop.becomes("stored")
        shop.in_the_store()
        trap.settimeout(0)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.mark.parametrize("state", [state for state in State if state is not State.AMBIGUOUS], ids=lambda s: s.value)
def test_only_an_ambiguous_attempt_is_settled(shop: Called, state: State) -> None:
    shop.lose_an_answer()
    journal_id = shop.journal.tasks()[0].journal_id
    sql(shop, "UPDATE attempts SET state = ?", state.value)
    assert not shop.journal.settle(journal_id, TaskRef("HiDream", "hidream upscale", "t-1"))
    shop.journal.say_beside(journal_id, Text("more", "更多"))
    [task] = shop.journal.tasks()
    assert (task.state, task.task_id) == (state.value, "")
    assert task.error is not None and "more" not in task.error.what.en


def test_one_task_settles_one_attempt(shop: Called) -> None:
    for pixels in (A, B):
        shop.fault("submit", reset="after")
        shop.trouble(upscale(shop.hidream, pixels))
    first, second = (task.journal_id for task in shop.journal.tasks())
    task = TaskRef("HiDream", "hidream upscale", "t-1")
    assert [shop.journal.settle(journal_id, task) for journal_id in (first, second, first)] == [True, False, False]
    assert sorted(shop.states) == ["ambiguous", "parked"]


def test_what_was_refused_is_not_revived(shop: Called, caplog: pytest.LogCaptureFixture) -> None:
    shop.fault("submit", json={"code": 1001, "message": "no"})
    shop.trouble(upscale(shop.hidream, A))
    assert shop.states == ["refused"]
    url = shop.submits[-1].body["notify_url"]
    with shop.sends_nothing():
        assert post(url, told(task_id="t-1")) == 200
        until(lambda: "look at the account's bill" in caplog.text)
        assert quiet(shop)
    assert shop.states == ["refused"]


# ---- strangers


HEAD = "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}"
CHUNKED = "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
FORGED: dict[str, Callable[[str], str]] = {
    "another method": lambda path: f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n",
    "put": lambda path: f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}",
    "options": lambda path: f"OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n",
    "the root": lambda path: HEAD.format(path="/"),
    "no mac": lambda path: HEAD.format(path=path.rsplit("/", 1)[0]),
    "an empty mac": lambda path: HEAD.format(path=path.rsplit("/", 1)[0] + "/"),
    "a wrong mac": lambda path: HEAD.format(path=path[:-1] + ("0" if path[-1] != "0" else "1")),
    "zeros": lambda path: HEAD.format(path=path[:-64] + "0" * 64),
    "capitals": lambda path: HEAD.format(path=path[:-64] + "A" * 64),
    "a short mac": lambda path: HEAD.format(path=path[:-1]),
    "a longer one": lambda path: HEAD.format(path=path + "0"),
    "an unknown id": lambda path: HEAD.format(path=f"/rv-{'0' * 16}/{path[-64:]}"),
    "no id": lambda path: HEAD.format(path=f"/{path[-64:]}"),
    "a slash too many": lambda path: HEAD.format(path="/" + path),
    "a slash behind": lambda path: HEAD.format(path=path + "/"),
    "dots": lambda path: HEAD.format(path="/x/.." + path),
    "encoded": lambda path: HEAD.format(path=path.replace("rv-", "%72v-")),
    "a query": lambda path: HEAD.format(path=path + "?a=b"),
    "a whole address": lambda path: HEAD.format(path="http://127.0.0.1" + path),
    "a space": lambda path: HEAD.format(path=path + " /x"),
    "http/2": lambda path: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a long line": lambda path: HEAD.format(path="/" + "a" * 20_000),
    "many headers": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\n" + "A: b\r\n" * 5_000 + "\r\n",
    "two lengths": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\n" + "Content-Length: 2\r\n" * 2 + "\r\n{}",
    "a length and chunks": lambda path: (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a signed length": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{{}}",
    "a negative length": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n{{}}",
    "a space before the colon": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n{{}}",
    "a folded header": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\nA: b\r\n c: d\r\n\r\n",
    "a bare line feed": lambda path: f"POST {path} HTTP/1.1\r\nHost: a\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n",
    "an odd chunk": lambda path: CHUNKED.format(path=path) + "0x2\r\n{}\r\n0\r\n\r\n",
    "a cut chunk": lambda path: CHUNKED.format(path=path) + "2\r\n{}xx\r\n",
}


@pytest.mark.parametrize("forgery", list(FORGED))
def test_forged_ones_learn_nothing(shop: Called, forgery: str) -> None:
    shop.lose_an_answer()
    with shop.sends_nothing():
        answer = raw(shop.port, FORGED[forgery](shop.path).encode())
        assert is_refused(answer)
        assert shop.states == ["ambiguous"]
        assert WORDS[0] not in shop.explained()[0]
    assert post(shop.url, shop.body) == 200, "and the service's own comes through"


def is_refused(answer: bytes) -> bool:
    """Nothing of ours is at that path, or it is no HTTP; whichever it is does not depend on what the journal knows."""
    head, body = answer.split(b"\r\n\r\n", 1)
    return (head.startswith(b"HTTP/1.1 404 ") and not body) or head[:13] in (b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")


def test_chunks_are_understood(shop: Called) -> None:
    shop.lose_an_answer()
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (shop.body[:7], shop.body[7:]))
    answer = raw(shop.port, CHUNKED.format(path=shop.path).encode() + chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    shop.becomes("stored")


def test_nothing_is_smuggled_behind_a_request(shop: Called) -> None:
    shop.lose_an_answer()
    first = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    second = HEAD.format(path=shop.path).encode()
    answer = raw(shop.port, first + second)
    assert is_refused(answer) and answer.count(b"HTTP/1.1 ") == 1
    assert shop.states == ["ambiguous"] and WORDS[0] not in shop.explained()[0]


def test_a_replay_is_refused(shop: Called) -> None:
    shop.lose_an_answer()
    assert [post(shop.url, shop.body) for _ in range(3)] == [200, 410, 410]
    shop.becomes("stored")
    with shop.sends_nothing():
        assert post(shop.url, told(task_id="another")) == 410
        assert quiet(shop)
    shop.in_the_store()


def test_a_replay_after_a_restart_does_nothing(shop: Called) -> None:
    shop.lose_an_answer()
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    shop.restart()
    with shop.sends_nothing():
        post(shop.url, told(task_id="another"))
        assert quiet(shop)
    shop.in_the_store()


def test_a_service_that_does_not_hear_the_answer_does_no_harm(shop: Called) -> None:
    shop.lose_an_answer()
    request = f"POST {shop.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(shop.body)}\r\n\r\n".encode() + shop.body
    with socket.create_connection(("127.0.0.1", shop.port), 5) as line:
        line.sendall(request)
    shop.becomes("stored")
    assert [post(shop.url, shop.body) for _ in range(2)] == [410, 410]
    shop.in_the_store()
    assert shop.emulator.billed == 1


def test_a_body_that_breaks_off_is_not_taken(shop: Called) -> None:
    shop.lose_an_answer()
    with socket.create_connection(("127.0.0.1", shop.port), 5) as line:
        line.sendall(f"POST {shop.path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{{".encode())
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")


TEN_MEGABYTES = 10 * 2**20


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_ten_megabytes_are_refused(shop: Called, framing: str) -> None:
    shop.lose_an_answer()
    if framing == "length":
        request = f"POST {shop.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {TEN_MEGABYTES}\r\n\r\n".encode() + bytes(
            TEN_MEGABYTES
        )
    else:
        chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
        request = CHUNKED.format(path=shop.path).encode() + chunk * (TEN_MEGABYTES // len(chunk))
    # So much is on its way that the answer may be lost with the connection; it is 413 if it comes.
    assert raw(shop.port, request)[:13] in (b"HTTP/1.1 413 ", b"")
    declared = f"POST {shop.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {callback_server.MAX_BODY + 1}\r\n\r\n"
    assert raw(shop.port, declared.encode()).startswith(b"HTTP/1.1 413 ")
    with shop.sends_nothing():
        assert WORDS[0] not in shop.explained()[0]
    assert post(shop.url, shop.body.ljust(callback_server.MAX_BODY)) == 200, "64 KB are taken"
    shop.becomes("stored")


def test_forged_ten_megabytes_are_not_told_apart(shop: Called) -> None:
    head = f"POST /rv-{'0' * 16}/{'0' * 64} HTTP/1.1\r\nHost: a\r\nContent-Length: {TEN_MEGABYTES}\r\n\r\n"
    assert is_refused(raw(shop.port, head.encode()))


@pytest.mark.parametrize("begun", ["", "POST /", "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"])
def test_slow_ones_lose_their_connection(shop: Called, begun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_server, "_DEADLINE", 0.3)
    shop.lose_an_answer()

    def drip() -> bool:
        """Byte by byte, so that no pause is long; whether it was let go in the end."""
        with socket.create_connection(("127.0.0.1", shop.port), 10) as line:
            line.sendall(begun.format(path=shop.path).encode())
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                try:
                    line.settimeout(0.02)
                    if line.recv(1000) == b"":
                        return True
                except TimeoutError:
                    line.sendall(b"a")
                except OSError:
                    return True
        return False

    with suppress(ConnectionError):
        assert drip()
    assert WORDS[0] not in shop.explained()[0]
    assert post(shop.url, shop.body) == 200


def test_two_hundred_idle_connections_keep_nobody_out(shop: Called, caplog: pytest.LogCaptureFixture) -> None:
    shop.lose_an_answer()
    threads = threading.active_count()
    with ExitStack() as lines:
        for _ in range(200):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", shop.port), 10))
            line.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n")
        server = shop.callbacks._server
        assert server is not None
        until(lambda: server.connections == callback_server.MAX_CONNECTIONS)
        assert threading.active_count() <= threads
        assert post(shop.url, shop.body) == 200
        assert server.connections <= callback_server.MAX_CONNECTIONS
    shop.becomes("stored")
    until(lambda: server.connections == 0)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_it_stops_in_silence_with_connections_open(shop: Called, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as lines:
        for begun in (b"", b"POST /", b"POST / HTTP/1.1\r\nHost: a\r\n"):
            lines.enter_context(socket.create_connection(("127.0.0.1", shop.port), 10)).sendall(begun)
        server = shop.callbacks._server
        assert server is not None
        until(lambda: server.connections == 3)
        shop.callbacks.stop()
        assert not server._thread.is_alive()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_refusals_do_not_fill_the_log(shop: Called, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(50):
        raw(shop.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len([record for record in caplog.records if "refused" in record.message]) == 1


def test_more_than_can_be_looked_at_is_sent_away_to_come_again(shop: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.lose_an_answer()
    monkeypatch.setattr(callbacks, "_MOST_WAITING", 0)
    assert post(shop.url, shop.body) == 503
    monkeypatch.undo()
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")


def test_a_worker_that_stumbles_goes_on(shop: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.lose_an_answer()
    with monkeypatch.context() as patched:
        looked = threading.Event()

        def broken(*_: Any) -> Any:
            looked.set()
            raise RuntimeError("broken")

        patched.setattr(shop.journal, "called_back", broken)
        assert post(shop.url, shop.body) == 200
        assert looked.wait(PATIENCE)
    shop.becomes("stored")


def test_two_servers_on_one_journal(shop: Called) -> None:
    """The one that is called back settles what the other one sent."""
    other = shop.open()
    other.callback_url = shop.journal.callback_url
    shop.fault("submit", reset="after")
    assert isinstance(trouble(other, [upscale(shop.hidream, A)]), AmbiguousSubmitError)
    assert post(shop.url, shop.body) == 200
    shop.becomes("stored")
    with shop.sends_nothing():
        assert pictures(buy(other, [upscale(shop.hidream, A)]))
