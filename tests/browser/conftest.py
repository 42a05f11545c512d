"""The pack in real frontends: the host's own and a newer one, each served by a ComfyUI of its own, in a Chromium.

The nodes use the profile `sandbox`, whose emulator the pack starts itself. The fixture `service` sets up `default`.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from devtools.comfyui import checkout
from devtools.comfyui.host import ComfyUI
from devtools.environment import SetupError
from devtools.programs import browser as chromium
from emulator import Credentials, Emulator
from tests.browser.frontend import Frontend
from tests.browser.looks import FIRST, look_of, mark_thorough, sort
from tests.browser.settings_dialog import forget_profiles, order
from tests.browser.window import Window
from tests.host.buying import collector_kept_away

_WINDOW = pytest.StashKey[Window]()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    mark_thorough(items)
    yield
    sort(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Close the window before tests of other folders: while it is open, they could not use asyncio.run()."""
    yield
    window = item.session.stash.get(_WINDOW, None)
    if window and nextitem and not nextitem.path.is_relative_to(Path(__file__).parent):
        window.close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ComfyUI]]:
    """`serve("own")`, `serve("newer")`: the ComfyUI that serves that frontend, started once for the whole run."""
    with ExitStack() as running:

        @functools.cache
        def serve(version: str) -> ComfyUI:
            base = tmp_path_factory.mktemp("comfyui")
            (base / "input").mkdir()
            shutil.copyfile(checkout.ensure() / "input" / "example.png", base / "input" / "example.png")
            arguments = [] if version == "own" else [f"--front-end-root={checkout.newer_frontend()}"]
            comfy = running.enter_context(ComfyUI(base, arguments=arguments, preloaded=True))
            running.enter_context(collector_kept_away(comfy))
            return comfy

        yield serve


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """The emulator in this process: it counts requests, and a test can add faults."""
    with Emulator(port=0, latency=0.2, credentials=Credentials()) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def service(serve: Callable[[str], ComfyUI], version: str, emulator: Emulator) -> Iterator[Emulator]:
    """The emulator as HiDream: the profile `default` has its address, a key and a budget."""
    settings = {"hidream_base_url": emulator.url, "hidream_ec_base_url": emulator.url, "pictures_per_day": 50}
    keys = {"hidream_token": Credentials().hidream_token}
    order(serve(version), "change", name="default", settings=settings, keys=keys)
    yield emulator
    forget_profiles(serve(version))


@pytest.fixture(scope="module")
def version(request: pytest.FixtureRequest) -> str:
    """Which frontend: "own" or "newer"."""
    return str(request.param)


@pytest.fixture(scope="module")
def look(request: pytest.FixtureRequest) -> str:
    """Renderer and language: "vue-zh"."""
    return str(request.param)


@pytest.fixture(scope="module")
def language(look: str) -> str:
    return look.split("-")[1]


@pytest.fixture
def first_look(request: pytest.FixtureRequest) -> bool:
    return look_of(request.node) == FIRST


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    try:
        return chromium.ensure()
    except SetupError as problem:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def window(
    chromium_path: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Window]:
    window = Window(chromium_path, tmp_path_factory.mktemp("chromium"))
    request.session.stash[_WINDOW] = window
    yield window
    window.close()


@pytest.fixture(scope="module")
def browser(window: Window) -> BrowserContext:
    return window.context


@pytest.fixture(scope="module")
def shared_frontend(
    window: Window, serve: Callable[[str], ComfyUI], version: str, look: str, request: pytest.FixtureRequest
) -> Frontend:
    """One page for all tests with this look. `example.png`, which the example workflows name, is restored."""
    comfy = serve(version)
    comfy.upload(checkout.ensure() / "input" / "example.png", "example.png")
    return window.show(comfy, version, look, request.session.testsfailed)
