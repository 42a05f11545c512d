"""Half of a character (a cut emoji, a byte that is no UTF-8) raises nothing bare, wherever it stands."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    Batch,
    CancelToken,
    ConfigurationError,
    Journal,
    JournalSettings,
    PaidCall,
    ProfileFile,
    Profiles,
    RemoteImageError,
    Run,
    fetch_task,
)
from hidream_volcengine.api.transport import download as downloads
from pytest import MonkeyPatch

from tests.contract import raw_servers as raw
from tests.contract.paying import idle_watch
from tests.contract.raw_servers import Connection, RawServer
from tests.contract.transport.test_networks import PROXY_VARIABLES

HALF = "\ud83d"
# What Python makes of a byte that is no UTF-8, in paths and in the environment.
BYTE = "\udcff"


@pytest.fixture(autouse=True)
def back_offs(monkeypatch: MonkeyPatch) -> None:
    raw.brisk(monkeypatch)
    for variable in PROXY_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def told(error: RemoteImageError) -> str:
    """All that is shown of an error, which UTF-8 can say."""
    text = f"{error} {error!r} {error.text()}"
    text.encode("utf-8")
    return text


# ---- what services answer


def spoiled(value: Any) -> Iterator[Any]:
    """``value`` with half a character behind each of its texts, one after another."""
    if isinstance(value, str):
        yield value + HALF
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from ([*value[:index], bad, *value[index + 1 :]] for bad in spoiled(part))
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from ({**value, name: bad} for bad in spoiled(part))


def wholly_spoiled(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(wholly_spoiled, value))
    if isinstance(value, dict):
        return {name + HALF * (name == "more"): wholly_spoiled(part) for name, part in value.items()}
    return value + HALF if isinstance(value, str) else value


PLACE = "http://HOST/picture.png"
DONE = raw.results(raw.sub_task(image=PLACE, description="图片"))
FAILED = raw.results(raw.sub_task(status=3, error="图片", description="失败"))
REFUSED = {"code": 7001, "message": "图片", "request_id": "r-1", "more": "x"}
WRAPPED = {"code": "upstream_error", "message": "图片", "upsream_message": f"not ok match: {json.dumps(REFUSED)}"}
UNSIGNED = {"ResponseMetadata": {"RequestId": "r-1", "Error": {"Code": "SignatureDoesNotMatch", "Message": "图片"}}}
TASK = {"code": 10000, "data": {"task_id": "task-1"}, "message": "Success", "request_id": "r-1"}
LINK = raw.finished_picture(binary_data_base64=None, image_urls=[PLACE])
CASES = [
    *(("hidream", 200, bad, DONE) for bad in spoiled(raw.accepted())),
    *(("hidream", 200, raw.accepted(), bad) for bad in (*spoiled(DONE), wholly_spoiled(FAILED))),
    *(("hidream", status, wholly_spoiled(body), DONE) for status, body in ((200, REFUSED), (406, WRAPPED))),
    *(("volcengine", 200, bad, DONE) for bad in (*spoiled(raw.finished_picture()), *spoiled(LINK))),
    *(("volcengine", status, wholly_spoiled(body), DONE) for status, body in ((400, REFUSED), (401, UNSIGNED))),
    *(("resumable", 200, bad, raw.finished_picture(status="done")) for bad in spoiled(TASK)),
    *(("resumable", 200, TASK, bad) for bad in spoiled(raw.finished_picture(status="done"))),
]


def serving(status: int, submitted: Any, found: Any) -> raw.Step:
    def step(connection: Connection) -> None:
        connection.read()
        line, host = connection.request_line, connection.headers["host"]
        if line.startswith("GET") and "/results?" not in line:
            return connection.answer(200, raw.png(128, 96), content_type="image/png")
        polled = "/results?" in line or "GetResult" in line
        # With escapes, as no other spelling has halves.
        body = json.dumps(found if polled else submitted).replace("HOST", host)
        return connection.answer(200 if polled else status, body)

    return step


def call_at(kind: str, url: str) -> PaidCall:
    deadlines = raw.Deadlines(queue=0.2, run=0.2, download=0.2, poll=5)
    if kind == "hidream":
        return raw.hidream_call(url, deadlines=deadlines)
    account = raw.resumable_account if kind == "resumable" else raw.volcengine_account
    return raw.volcengine_call("", account=account(url, deadlines))


def test_answers_of_services() -> None:
    """A picture or an error of the pack, a list of tasks that can be shown, and never a second purchase."""
    for kind, status, submitted, found in CASES:
        with RawServer(serving(status, submitted, found)) as server, raw.fresh_journal() as journal:
            for _ in range(2):
                try:
                    raw.run(call_at(kind, server.url), journal)
                except RemoteImageError as error:
                    told(error)
            submits = [each for each in server.submits if "GetResult" not in each.request_line]
            assert len(submits) == 1 or status >= 400 or submitted.get("code") == 7001, (submitted, found)
            for task in journal.task_list.tasks():
                f"{asdict(task)}".encode()


# ---- what comes from ComfyUI and its clients


def buy(call: PaidCall, journal: Journal, run: Run | None = None) -> int:
    batch = Batch(journal, [call], (run or Run()).node().item())
    result = batch.run(0, idle_watch())
    batch.end([result], delivered=True)
    if result.error is not None:
        raise result.error
    assert result.delivery is not None
    return len(result.delivery.pictures)


@pytest.mark.parametrize("text", [f"prompt {HALF}", f"{BYTE}", "with\0zero"])
def test_ids_that_a_client_chose(text: str) -> None:
    """Of a prompt, which a client may choose; and of a task, which somebody typed."""
    with RawServer(raw.serving) as server, raw.fresh_journal() as journal:
        call = raw.hidream_call(server.url)
        assert buy(call, journal, Run(text)) == 1
        assert len(server.submits) == 1
        assert journal.task_list.task(text) is None and journal.task_list.places_of(text) == []
        for wanted in (text, f"rv-{text}"):
            try:
                fetch_task(journal, call.service, wanted, idle_watch())
            except RemoteImageError as error:
                told(error)
        assert len(server.submits) == 1


# ---- the environment


def environment(url: str, **more: str) -> dict[str, str]:
    keys = {"HIDREAM_TOKEN": raw.TOKEN, "VOLCENGINE_GATEWAY_API_KEY": raw.TOKEN, "VOLCENGINE_GATEWAY_BASE_URL": url}
    return {**raw.UNLIMITED, **keys, "HIDREAM_BASE_URL": url, "HIDREAM_EC_BASE_URL": url, **more}


@pytest.mark.parametrize(
    "variable", ["HIDREAM_TOKEN", "HIDREAM_BASE_URL", "HIDREAM_USER_ID", "HIDREAM_LANGUAGE", "REMOTE_IMAGE_ACCOUNT",
                 "REMOTE_IMAGE_NOTIFY_URL", "REMOTE_IMAGE_PICTURES_PER_DAY", "REMOTE_IMAGE_QUEUE_SECONDS",
                 "REMOTE_IMAGE_STORE_MAX_GB", "REMOTE_IMAGE_JOURNAL_URL"]
)  # fmt: skip
@pytest.mark.parametrize("half", [HALF, BYTE])
def test_a_variable_of_the_environment(tmp_path: Path, variable: str, half: str) -> None:
    """The error names it, and comes before anything is sent."""
    with RawServer(raw.serving) as server:
        value = {
            "HIDREAM_BASE_URL": server.url + half,
            "REMOTE_IMAGE_JOURNAL_URL": f"postgresql+psycopg://user:pass{half}@127.0.0.1:1/x",
        }.get(variable, f"1{half}")
        settings = environment(server.url, REMOTE_IMAGE_STORE_DIR=str(tmp_path / "store")) | {variable: value}
        profiles = Profiles(settings, raw.no_sandbox)
        with pytest.raises(ConfigurationError, match=variable) as caught:
            account = profiles.hidream("default")
            buy(raw.hidream_call("", account=account), Journal(profiles.journal_settings(tmp_path)))
        assert server.connections == [] and "pass" not in told(caught.value)


@pytest.mark.parametrize("proxy", [BYTE, f"http://user:pass{BYTE}@127.0.0.1:9", f"http://{BYTE}:9", f"socks5://{BYTE}"])
def test_a_proxy_of_the_environment(monkeypatch: MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with raw.fresh_journal() as journal:
        for key in ("HIDREAM_TOKEN", "HIDREAM_API_KEY"):
            account = raw.hidream_account("https://host.invalid", raw.QUICK, {key: raw.TOKEN})
            with pytest.raises(RemoteImageError) as caught:
                buy(raw.hidream_call("", account=account), journal)
            assert caught.value.billed == "no" and "pass" not in told(caught.value)
    with pytest.raises(downloads.DownloadError):
        downloads.downloaded(
            "https://host.invalid/p.png", max_bytes=9, allow_loopback=False, deadlines=raw.QUICK, cancel=CancelToken()
        )


# ---- files


def _name(profile: dict[str, Any], half: str) -> None:
    profile["name"] += half


def _account(profile: dict[str, Any], half: str) -> None:
    profile["account"] += half


def _key(profile: dict[str, Any], half: str) -> None:
    profile["keys"]["hidream_token"]["value"] += half


def _host_of_key(profile: dict[str, Any], half: str) -> None:
    profile["keys"]["hidream_token"]["for"][0] += half


def _setting(profile: dict[str, Any], half: str) -> None:
    profile["settings"]["hidream_user_id"] = half


@pytest.mark.parametrize("where", [_name, _account, _key, _host_of_key, _setting])
def test_a_file_of_profiles(tmp_path: Path, where: Callable[[dict[str, Any], str], None]) -> None:
    """That somebody edited: it is told what cannot be used, and nothing is sent."""
    with RawServer(raw.serving) as server, raw.fresh_journal() as journal:
        profile: dict[str, Any] = {
            "name": "mine",
            "account": "account-1",
            "settings": {"hidream_base_url": server.url, "hidream_ec_base_url": server.url},
            "keys": {"hidream_token": {"value": raw.TOKEN, "for": [f"{server.url}/", f"{server.url}/"]}},
        }
        file = ProfileFile(lambda: tmp_path)
        for half in ("", HALF, BYTE):
            spoilt = copy.deepcopy(profile)
            where(spoilt, half)
            file.path.write_text(json.dumps({"version": 1, "profiles": [spoilt]}), "ascii")
            profiles = Profiles({}, raw.no_sandbox, file)
            if not half:
                account = replace(profiles.hidream("mine"), deadlines=raw.QUICK)
                assert buy(raw.hidream_call("", account=account), journal) == 1
                server.connections.clear()
                continue
            for name in (f"mine{half}", "mine"):
                with pytest.raises(ConfigurationError) as caught:
                    buy(raw.hidream_call("", account=profiles.hidream(name)), journal)
                told(caught.value)
                f"{profiles.check_name(name)}{profiles.names()}".encode()
        assert server.connections == []


@pytest.mark.skipif("sys.platform == 'win32'", reason="paths there are no bytes")
def test_a_folder_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    try:
        (tmp_path / f"folder{BYTE}").mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with RawServer(raw.serving) as server:
        for take, folder in enumerate((tmp_path / f"folder{BYTE}", Path("/proc") / BYTE)):
            journal = None
            try:
                journal = Journal(JournalSettings(folder))
                assert buy(raw.hidream_call(server.url, take=take), journal) == 1
            except RemoteImageError as error:
                assert folder.parent == Path("/proc"), told(error)
            finally:
                if journal is not None:
                    journal.close()
