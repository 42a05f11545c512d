"""The templates and their cache: fetched once, kept over restarts, used if the service is away, dropped if damaged."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    Profiles,
    Sandbox,
    ServiceError,
    TemplateShelf,
)
from PIL import Image

from emulator import Credentials, Emulator
from tests.contract import raw_servers as raw

KEYS = Credentials()
DAY = 24 * 3600.0
WOMAN, MAN = 7, 8


class Clock:
    now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeShelf = Callable[..., TemplateShelf]


@pytest.fixture
def make_shelf(emulator: Emulator, clock: Clock, tmp_path: Path) -> MakeShelf:
    """Make the TemplateShelf of one start of the server; the next one is that of the next start."""

    def make(url: str = "", **environment: str) -> TemplateShelf:
        url = url or emulator.url
        settings = {"HIDREAM_TOKEN": KEYS.hidream_token, "HIDREAM_EC_BASE_URL": url, **environment}

        def sandbox() -> Sandbox:
            return Sandbox(emulator.url, KEYS.hidream_token, KEYS.gateway_api_key)

        return TemplateShelf(Profiles(settings, sandbox), lambda: tmp_path, clock)

    return make


def asked(emulator: Emulator, phase: str) -> int:
    return sum((record.endpoint, record.phase) == ("templates", phase) for record in emulator.requests)


def away(emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "templates", "phase": "list", "times": None, "do": {"reset": "headers"}})
    emulator.add_fault({"endpoint": "templates", "phase": "image", "times": None, "do": {"reset": "headers"}})


def test_pages(make_shelf: MakeShelf, emulator: Emulator) -> None:
    shelf = make_shelf()
    assert emulator.requests == [], "nothing before somebody asks"
    first, second = (shelf.page("default", "woman", number) for number in (1, 2))
    assert [len(page.templates) for page in (first, second)] == [30, 15]
    assert (second.number, second.pages, second.total, second.offline) == (2, 2, 45, None)
    assert not {template.id for template in first.templates} & {template.id for template in second.templates}
    assert shelf.page("default", "woman", 99) == second
    assert shelf.page("default", "man", 1).pages == 1
    assert asked(emulator, "list") == 2


def test_an_empty_list_is_one_page(make_shelf: MakeShelf, emulator: Emulator) -> None:
    emulator.add_fault({"endpoint": "templates", "phase": "list", "times": None, "do": {"empty": True}})
    page = make_shelf().page("default", "man", 1)
    assert (list(page.templates), page.number, page.pages, page.total) == ([], 1, 1, 0)


def test_the_page_of_a_number(make_shelf: MakeShelf) -> None:
    shelf = make_shelf()
    for number, gender, page in ((1, "woman", 1), (75, "woman", 2), (MAN, "man", 1)):
        found = shelf.page_with("default", number)
        assert found is not None
        assert (found.gender, found.number) == (gender, page)
        assert number in [template.id for template in found.templates]
    assert shelf.page_with("default", 76) is None


def test_the_other_list_is_enough(make_shelf: MakeShelf, emulator: Emulator) -> None:
    shelf = make_shelf()
    shelf.page("default", "man", 1)
    away(emulator)
    found = shelf.page_with("default", MAN)
    assert found is not None
    assert found.gender == "man"
    with pytest.raises(ConnectionFailedError):
        shelf.page_with("default", 4711)


def test_a_list_is_a_day_old_at_most(make_shelf: MakeShelf, emulator: Emulator, clock: Clock) -> None:
    shelf = make_shelf()
    for passed, requests in ((0, 1), (DAY - 1, 1), (1, 2), (-3600, 3)):
        clock.now += passed
        assert shelf.page("default", "woman", 1).offline is None
        assert asked(emulator, "list") == requests
    shelf.page("default", "woman", 1, fresh=True)
    assert asked(emulator, "list") == 3, "it came at this very moment"
    clock.now += 1
    shelf.page("default", "woman", 1, fresh=True)
    assert asked(emulator, "list") == 4


def test_another_start_knows_the_list_and_the_pictures(make_shelf: MakeShelf, emulator: Emulator) -> None:
    shelf = make_shelf()
    page, picture = shelf.page("default", "woman", 1), shelf.thumbnail("default", WOMAN)
    assert picture is not None
    with Image.open(io.BytesIO(picture)) as opened:
        assert (opened.format, opened.size) == ("JPEG", (192, 256))
    emulator.clear()
    again = make_shelf()
    assert (again.page("default", "woman", 1), again.thumbnail("default", WOMAN)) == (page, picture)
    assert emulator.requests == []
    assert again.thumbnail("default", 76) is None


def test_away_with_an_old_list(make_shelf: MakeShelf, emulator: Emulator, clock: Clock) -> None:
    shelf = make_shelf()
    page, picture = shelf.page("default", "woman", 1), shelf.thumbnail("default", WOMAN)
    away(emulator)
    emulator_asked = asked(emulator, "list")
    for this_start in (shelf, make_shelf()):
        clock.now += DAY
        old = this_start.page("default", "woman", 1)
        assert (old.templates, old.total) == (page.templates, 45)
        assert old.offline is not None
        assert "2025-06-1" in old.offline.en
        assert "could not be renewed" in old.offline.en
        assert "未能更新" in old.offline.zh
        assert "cut before" in old.offline.en, "and why"
        assert this_start.thumbnail("default", WOMAN) == picture
        assert this_start.page("default", "woman", 2).offline == old.offline
        emulator_asked += 1
        assert asked(emulator, "list") == emulator_asked, "it is left alone for a minute"
        clock.now += 61
        this_start.page("default", "woman", 1)
        emulator_asked += 1
        assert asked(emulator, "list") == emulator_asked
    emulator.clear()
    clock.now += 1
    assert shelf.page("default", "woman", 1, fresh=True).offline is None


def test_away_without_a_list(make_shelf: MakeShelf, emulator: Emulator) -> None:
    away(emulator)
    with pytest.raises(ConnectionFailedError):
        make_shelf().page("default", "woman", 1)
    with pytest.raises(ConnectionFailedError):
        make_shelf().thumbnail("default", WOMAN)


def test_a_refused_key_with_an_old_list(make_shelf: MakeShelf, emulator: Emulator, clock: Clock) -> None:
    make_shelf().page("default", "woman", 1)
    clock.now += DAY
    old = make_shelf(HIDREAM_TOKEN="mistyped").page("default", "woman", 1)
    assert old.offline is not None
    assert "did not accept the key" in old.offline.en
    with pytest.raises(AuthenticationError):
        make_shelf(HIDREAM_TOKEN="mistyped").page("default", "man", 1)


def test_a_profile_without_a_key_and_one_that_is_unknown(make_shelf: MakeShelf) -> None:
    for shelf, profile in ((make_shelf(HIDREAM_TOKEN=""), "default"), (make_shelf(), "nobody's")):
        for ask in (lambda s, p: s.page(p, "man", 1), lambda s, p: s.page_with(p, 1), lambda s, p: s.thumbnail(p, 1)):
            with pytest.raises(ConfigurationError):
                ask(shelf, profile)


def test_other_accounts_and_hosts_have_lists_of_their_own(make_shelf: MakeShelf, emulator: Emulator) -> None:
    make_shelf().page("default", "woman", 1)
    make_shelf(REMOTE_IMAGE_ACCOUNT="other").page("default", "woman", 1)
    assert asked(emulator, "list") == 2
    make_shelf(HIDREAM_TOKEN=KEYS.hidream_token).page("default", "woman", 1)
    assert asked(emulator, "list") == 2
    with pytest.raises(ConnectionFailedError):
        make_shelf(f"http://127.0.0.1:{raw.closed_port()}").page("default", "woman", 1)


def test_a_sandbox_leaves_nothing(make_shelf: MakeShelf, emulator: Emulator, tmp_path: Path) -> None:
    shelf = make_shelf(HIDREAM_TOKEN="")
    for _ in range(2):
        assert shelf.page("sandbox", "man", 1).total == 30
        assert shelf.thumbnail("sandbox", MAN)
    assert asked(emulator, "list") == 2, "the one with men, and the one that is looked at before"
    assert list(tmp_path.iterdir()) == []


# ---- on disk


def kept(tmp_path: Path, folder: str) -> list[Path]:
    return sorted((tmp_path / "templates" / folder).iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_for_this_user_only(make_shelf: MakeShelf, tmp_path: Path) -> None:
    make_shelf().thumbnail("default", WOMAN)
    for folder in ("lists", "pictures"):
        (path,) = kept(tmp_path, folder)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert KEYS.hidream_token not in path.read_bytes().decode("latin-1")


TEMPLATE = '{"id": 7, "gender": "woman", "show_image": "x"}'


@pytest.mark.parametrize("damage", [
    b"", b"\x00" * 300, b"{", b"[]", b"null", b'{"at": 1750000000}', b'{"at": "now", "templates": []}',
    b'{"at": 1e999, "templates": []}', b'{"at": NaN, "templates": []}', b'{"at": -1, "templates": []}',
    f'{{"at": 1750000000, "templates": [{TEMPLATE.replace("7", "0")}]}}'.encode(),
    f'{{"at": 1750000000, "templates": [{TEMPLATE.replace("woman", "x")}]}}'.encode(),
    b'{"at": 1750000000, "templates": [' + b"[" * 100_000, b"\xff\xfe",
])  # fmt: skip
def test_a_damaged_list_is_none(make_shelf: MakeShelf, emulator: Emulator, tmp_path: Path, damage: bytes) -> None:
    make_shelf().page("default", "woman", 1)
    (path,) = kept(tmp_path, "lists")
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert make_shelf().page("default", "woman", 1).total == 45
    assert path.read_bytes() == whole
    path.write_bytes(damage)
    away(emulator)
    with pytest.raises(ConnectionFailedError):
        make_shelf().page("default", "woman", 1)


def test_a_list_from_the_future_is_renewed(make_shelf: MakeShelf, emulator: Emulator, clock: Clock) -> None:
    make_shelf().page("default", "woman", 1)
    clock.now -= 3 * DAY
    assert make_shelf().page("default", "woman", 1).offline is None
    assert asked(emulator, "list") == 2


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-30], lambda data: b"<script>" + data[8:]])
def test_a_damaged_picture_is_fetched_again(make_shelf: MakeShelf, tmp_path: Path, damage: Any) -> None:
    picture = make_shelf().thumbnail("default", WOMAN)
    (path,) = kept(tmp_path, "pictures")
    path.write_bytes(damage(path.read_bytes()))
    assert make_shelf().thumbnail("default", WOMAN) == picture
    assert path.read_bytes() == picture


def test_a_folder_that_cannot_be_made_is_no_error(make_shelf: MakeShelf, tmp_path: Path) -> None:
    (tmp_path / "templates").write_text("a file", encoding="utf-8")
    shelf = make_shelf()
    assert shelf.page("default", "woman", 1).total == 45
    assert shelf.thumbnail("default", WOMAN)


def test_pictures_go_after_thirty_days(
    make_shelf: MakeShelf, emulator: Emulator, clock: Clock, tmp_path: Path
) -> None:
    shelf = make_shelf()
    shelf.thumbnail("default", WOMAN)
    (old,) = kept(tmp_path, "pictures")
    picture = shelf.thumbnail("default", MAN)
    for path in kept(tmp_path, "pictures"):
        os.utime(path, (clock.now - (31 if path == old else 28) * DAY,) * 2)
    assert len(kept(tmp_path, "pictures")) == 2, "only a new list looks at them"
    clock.now += DAY + 1
    shelf.page("default", "woman", 1)
    assert [path.read_bytes() for path in kept(tmp_path, "pictures")] == [picture]
    asked_for = asked(emulator, "image")
    assert shelf.thumbnail("default", WOMAN)
    assert asked(emulator, "image") == asked_for + 1


# ---- failures, and many calls at once


def test_a_picture_that_failed_is_left_alone_for_a_minute(
    make_shelf: MakeShelf, emulator: Emulator, clock: Clock
) -> None:
    shelf = make_shelf()
    emulator.add_fault({"endpoint": "templates", "phase": "image", "do": {"corrupt": True}})
    for _ in range(3):
        with pytest.raises(ServiceError, match="template 7 "):
            shelf.thumbnail("default", WOMAN)
    assert asked(emulator, "image") == 1
    clock.now += 61
    assert shelf.thumbnail("default", WOMAN)


def test_many_ask_and_one_is_sent(make_shelf: MakeShelf, emulator: Emulator) -> None:
    shelf = make_shelf()
    emulator.add_fault({"endpoint": "templates", "phase": "list", "do": {"delay": 0.2}})
    emulator.add_fault({"endpoint": "templates", "phase": "image", "do": {"delay": 0.2}})
    together = threading.Barrier(8)

    def ask(_: int) -> tuple[int, bytes | None]:
        together.wait(raw.PATIENCE)
        return shelf.page("default", "woman", 1, fresh=True).total, shelf.thumbnail("default", WOMAN)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len(set(answers)) == 1
    assert (asked(emulator, "list"), asked(emulator, "image")) == (1, 1)
