"""What all tests have: the pack under its name (tests/pack.py), the options of pytest, and a PostgreSQL."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy.dialects import registry
from xdist.scheduler import LoadFileScheduling

from devtools.environment import SetupError
from devtools.test import BESIDE_THEM
from tests import pack, thinned  # noqa: F401 -- pack loads the pack under its name

if TYPE_CHECKING:
    from PIL.Image import Image
    from xdist.remote import Producer

    from devtools.programs.postgres import PostgreSQL

registry.register("sqlite", "tests.statements", "SharingSQLite")  # instead of SQLAlchemy's own, here and in buyer.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="also run the cases marked `thorough` (every night)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("thorough"):
        thinned.run_every_case()
    # No deadline for an example: on a busy machine any of them may be slow.
    settings.register_profile(
        "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=thinned.examples(100)
    )
    settings.load_profile("patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --thorough, deselect the cases marked `thorough`: they repeat a kind of fault that another case shows."""
    if thinned.every_case():
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("thorough")])
    items[:] = [item for item in items if not item.get_closest_marker("thorough")]


class _Units(LoadFileScheduling):
    """Gives a worker whole files. The browser tests are two units, so that few workers start a ComfyUI and a page.

    The files of BESIDE_THEM are one unit, so that beside the tests of interrupts only one worker computes.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if file in BESIDE_THEM:
            return "beside the tests of interrupts"
        if not file.startswith("tests/browser/"):
            return file
        old = "own-canvas" in nodeid or "own-vue" in nodeid
        return f"tests/browser in the {'old' if old else 'newer'} frontend"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Units | None:
    return _Units(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()  # torch and the tests are never freed: look for garbage neither among them nor while they are loaded
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Remove the secrets that a test has registered: redaction would mask these words in the next test."""
    from hidream_volcengine.api.core import redaction

    known = dict(redaction._known)
    yield
    redaction._known.clear()
    redaction._known.update(known)


# Folders whose tests look at who pays and what is kept, and rarely at the sizes of pictures.
_SMALL_PICTURES = tuple(
    f"tests/{folder}/"
    for folder in ("contract/crashes", "contract/journal", "contract/purchase", "contract/services", "host/money")
)


@pytest.fixture(autouse=True)
def _small_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the emulator paint sets and image to image, whose sizes it chooses, at a quarter of their width and height.

    Painting, encoding and decoding them was a fifth of the time of the tests that buy.
    """
    if not request.node.nodeid.startswith(_SMALL_PICTURES) or request.node.get_closest_marker("service_sizes"):
        yield
        return
    from emulator.pictures import pictures

    with pytest.MonkeyPatch.context() as patching:
        for name in ("restyle", "variation"):
            patching.setattr(pictures, name, _smaller(getattr(pictures, name)))
        yield


def _smaller(paint: Callable[..., Image]) -> Callable[..., Image]:
    def painted(photo: Any, size: tuple[int, int], *rest: int) -> Image:
        return paint(photo, (size[0] // 4, size[1] // 4), *rest)

    return painted


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """A PostgreSQL server for the whole run. A test may kill() it and start() it again."""
    from devtools.programs import postgres  # loads the driver, which most tests do without

    try:
        programs = postgres.ensure()
    except SetupError as problem:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(problem))
    # Not below pytest's folder, which only its owner may enter: under root the server runs as another user.
    with (
        tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as base,
        postgres.PostgreSQL(Path(base), password="canary-of-the-database", programs=programs) as server,
    ):
        yield server


@pytest.fixture
def postgres_url(postgres: PostgreSQL) -> Iterator[str]:
    """A database for this test alone."""
    if not postgres.is_running():  # a test killed it
        postgres.start()
    url = postgres.new_database()
    yield url
    if not postgres.is_running():
        postgres.start()
    postgres.drop_database(url)
