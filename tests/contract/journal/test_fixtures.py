"""What older versions left on disk, opened with today's code: tests/fixtures has a folder for each of them.

`devtools/fixtures.py` made them. Nothing that is stored is bought again, tasks under way are resumed, what was
explained stays explained, and keys stay bound to their hosts.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hidream_volcengine.api import (
    AmbiguousSubmitError,
    ConfigurationError,
    Journal,
    JournalError,
    JournalSettings,
    ModerationError,
    PaidCall,
    ProfileEditor,
    ProfileFile,
    Profiles,
    Sandbox,
    TaskFailedError,
)
from hidream_volcengine.api.journal.tables import SCHEMA_VERSION
from PIL import Image

from devtools.comfyui.fixtures_workflows import pixels_sha256
from emulator import Emulator
from tests.contract.paying import KEYS, PATIENT, UNLIMITED, buy, cvprocess, img2img, pictures, trouble, upscale

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir())
REUSED = ("delivered", "stored", "bought with a profile of the file", "bought in the sandbox",
          "delivered by volcengine", "three of four")  # fmt: skip
RESUMED = ("parked", "parked by volcengine", "submitted", "done")
EXPLAINED = {
    "ambiguous": AmbiguousSubmitError,
    "submitting": AmbiguousSubmitError,
    "failed": TaskFailedError,
    "moderated": ModerationError,
}
SENT = ("refused", "cancelled", "prepared", "ambiguous, submit again")


@dataclass(frozen=True)
class Kept:
    """An attempt of a fixture's journal, and the request that made it: an entry of its expected.json."""

    name: str
    call: str
    profile: str
    take: int
    journal_id: str
    state: str
    task_id: str
    sub_task_ids: list[str]
    pictures: list[str]


class Opened:
    """A copy of a fixture's journal and store, with an emulator for both services.

    Args:
        kind: the folder of the fixture, "user" (SQLite) or "postgres".
        url: of the PostgreSQL database that holds the dump.
    """

    def __init__(self, fixture: Path, kind: str, folder: Path, emulator: Emulator, url: str = "") -> None:
        shutil.copytree(fixture / kind, folder)
        entries = json.loads((fixture / "expected.json").read_text(encoding="utf-8"))[kind]
        self.kept = {entry["name"]: Kept(**entry) for entry in entries}
        self.photo = np.asarray(Image.open(fixture / "photo.png").convert("RGB"))
        self.folder, self.emulator = folder, emulator
        self.journal = Journal(JournalSettings(folder, url=url, store=folder / "store"))

    def profiles(self, **environment: str) -> Profiles:
        sandbox = Sandbox(self.emulator.url, KEYS.hidream_token, KEYS.gateway_api_key)
        variables = {
            "HIDREAM_BASE_URL": self.emulator.url,
            "HIDREAM_EC_BASE_URL": self.emulator.url,
            "HIDREAM_TOKEN": KEYS.hidream_token,
            "VOLCENGINE_GATEWAY_BASE_URL": self.emulator.url,
            "VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key,
            "REMOTE_IMAGE_POLLS_PER_SECOND": "0",
            **UNLIMITED,
            **environment,
        }
        return Profiles(variables, lambda: sandbox, ProfileFile(lambda: self.folder))

    def paid(self, name: str) -> PaidCall:
        """The request that made an attempt, once more."""
        kept = self.kept[name]
        if kept.call in ("sides", "resumable"):
            resumable = {"VOLCENGINE_RESUMABLE": "1"} if kept.call == "resumable" else {}
            account = self.profiles(**resumable).volcengine(kept.profile)
            return cvprocess(replace(account, deadlines=PATIENT), self.photo, kept.take)
        hidream = replace(self.profiles().hidream(kept.profile), deadlines=PATIENT)
        if kept.call == "img2img":
            return img2img(hidream, self.photo, kept.take, count=4)
        return upscale(hidream, self.photo, kept.take)

    def let_the_service_know(self, name: str, folder: Path) -> None:
        """The emulator has the task of this attempt, as the service that accepted it has."""
        kept = self.kept[name]
        journal = Journal(JournalSettings(folder))
        buy(journal, [self.paid(name)])
        journal.close()
        tasks: dict[str, Any] = self.emulator._hidream._tasks  # type: ignore[assignment]
        if kept.call == "resumable":
            tasks = self.emulator._volcengine._tasks  # type: ignore[assignment]
        task = tasks.pop(self.emulator.accepted[-1].task_id)
        if kept.sub_task_ids:
            subs = [replace(sub, id=known) for sub, known in zip(task.subs, kept.sub_task_ids, strict=True)]
            task = replace(task, id=kept.task_id, subs=subs)
        tasks[kept.task_id] = task

    def accepted(self) -> int:
        return len(self.emulator.accepted)


@pytest.fixture(params=VERSIONS)
def fixture(request: pytest.FixtureRequest) -> Path:
    return FIXTURES / str(request.param)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(credentials=KEYS) as emulator:
        yield emulator


@pytest.fixture(params=["user", "postgres"])
def opened(request: pytest.FixtureRequest, fixture: Path, tmp_path: Path, emulator: Emulator) -> Iterator[Opened]:
    url = ""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
            connection.execute((fixture / "postgres" / "journal.sql").read_text(encoding="utf-8"))  # type: ignore[call-overload]
    opened = Opened(fixture, str(request.param), tmp_path / "user", emulator, url)
    yield opened
    opened.journal.close()


def test_every_state_is_in_the_fixtures(opened: Opened) -> None:
    assert {*REUSED, *RESUMED, *EXPLAINED, *SENT} == set(opened.kept)
    shown = {task.journal_id: task.state for task in opened.journal.task_list.tasks()}
    # Claims of the process that made them have ended: what was under way is shown as what it is now.
    assert set(shown) >= {kept.journal_id for kept in opened.kept.values()}
    opened.journal.open()  # no notice: nothing was lost


def test_what_is_stored_is_never_bought_again(opened: Opened) -> None:
    for name in REUSED:
        came = [pixels_sha256(picture) for picture in pictures(buy(opened.journal, [opened.paid(name)]))]
        assert came, name
        assert came == (opened.kept[name].pictures or came), name
    assert opened.emulator.requests == []


def test_tasks_under_way_are_resumed(opened: Opened, tmp_path: Path) -> None:
    for name in RESUMED:
        opened.let_the_service_know(name, tmp_path / name)
    before = opened.accepted()
    for name in RESUMED:
        assert len(pictures(buy(opened.journal, [opened.paid(name)]))) == 1, name
    assert opened.accepted() == before


def test_what_was_explained_stays_explained(opened: Opened) -> None:
    for name, kind in EXPLAINED.items():
        assert isinstance(trouble(opened.journal, [opened.paid(name)]), kind), name
    assert opened.emulator.requests == []


def test_what_was_never_accepted_is_sent_once(opened: Opened) -> None:
    for number, name in enumerate(SENT, start=1):
        assert len(pictures(buy(opened.journal, [opened.paid(name)]))) == 1, name
        assert opened.accepted() == number, name


def test_a_later_journal_is_refused_before_buying(fixture: Path, tmp_path: Path, emulator: Emulator) -> None:
    opened = Opened(fixture, "user", tmp_path / "user", emulator)
    with closing(sqlite3.connect(opened.folder / "journal.sqlite3")) as connection, connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", [str(SCHEMA_VERSION + 1)])
    for name in (*SENT, *REUSED, *RESUMED):
        error = trouble(opened.journal, [opened.paid(name)])
        assert isinstance(error, JournalError)
        assert "later version" in error.what.en
    assert emulator.requests == []


def test_keys_stay_bound_to_their_hosts(fixture: Path, tmp_path: Path, emulator: Emulator) -> None:
    opened = Opened(fixture, "user", tmp_path / "user", emulator)
    profiles = Profiles({}, _no_sandbox, ProfileFile(lambda: opened.folder))
    studio, gateway = profiles.hidream("studio"), profiles.volcengine("网关")
    assert studio.base_url == "https://hidream.example"
    assert studio.budget.per_day == 50
    assert (gateway.base_url, gateway.resumable) == ("https://gateway.example/volcv", True)
    file = ProfileFile(lambda: opened.folder)
    editor = ProfileEditor(profiles, file)
    # A key of 0.1 belongs to a host alone, and from now on to the address that its profile has there.
    for changed in ({"language": "zh"}, {"volcengine_gateway_base_url": "https://gateway.example:443/volcv/"}):
        assert editor.change(file.read().revision, "网关", changed, {}).told == ()
        profiles.volcengine("网关")
    before = file.path.read_bytes()
    [told] = editor.change(
        file.read().revision, "网关", {"volcengine_gateway_base_url": "https://gateway.example/another"}, {}
    ).told
    assert "volcengine_gateway_api_key was forgotten" in told.en
    path = opened.folder / "profiles.json"
    path.write_bytes(before)
    path.write_text(path.read_text(encoding="utf-8").replace('l": "https://', 'l": "https://evil.'), encoding="utf-8")
    for account in (lambda: profiles.hidream("studio"), lambda: profiles.volcengine("网关")):
        with pytest.raises(ConfigurationError, match="was entered for"):
            account()


def test_what_profiles_no_longer_have_is_told_before_buying(fixture: Path, tmp_path: Path, emulator: Emulator) -> None:
    """0.1 had logins of proxies and CA files in profiles; their keys stay once the old entry is removed."""
    opened = Opened(fixture, "user", tmp_path / "user", emulator)
    file = ProfileFile(lambda: opened.folder)
    profiles = Profiles({}, _no_sandbox, file)
    editor = ProfileEditor(profiles, file)
    for name, told, entry in (
        ("proxy login", "HTTPS_PROXY", ({}, {"proxy_login": ""})),
        ("own CA", "REQUESTS_CA_BUNDLE", ({"ca_file": ""}, {})),
    ):
        with pytest.raises(ConfigurationError, match=told):
            profiles.hidream(name)
        editor.change(file.read().revision, name, *entry)
        assert profiles.hidream(name).base_url == "https://www.hidreamai.com"


def _no_sandbox() -> Sandbox:
    raise AssertionError("the sandbox was not asked for")
