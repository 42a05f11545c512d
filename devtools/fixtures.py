"""`python -m devtools.fixtures`: write tests/fixtures/VERSION/, what a user of this version has on disk.

Made once for each released version and kept for ever: test_fixtures.py in tests/host/nodes and tests/contract/journal
open it with today's code. In it are the journal with an attempt in every state (SQLite, and a PostgreSQL dump), the
stores, profiles.json, and a workflow of every node as both frontends save it, with its API prompt. Everything is bought
from the emulator.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import certifi
import numpy as np
from PIL import Image

from api import (
    Batch,
    CallCancelled,
    CallHandle,
    CancelToken,
    Journal,
    JournalSettings,
    PaidCall,
    ProfileEditor,
    ProfileFile,
    Profiles,
    Result,
    Run,
    Sandbox,
    tensors,
)
from api.catalog import checked
from api.catalog.endpoints import hidream_image_to_image, hidream_upscale, volcengine_outpaint
from api.services import HiDreamService, VolcengineService
from devtools.comfyui.fixtures_workflows import pixels_sha256, save_workflows
from devtools.environment import ROOT
from devtools.programs import postgres
from emulator import Credentials, Emulator

FIXTURES = ROOT / "tests" / "fixtures"
KEYS = Credentials(
    hidream_token="fixture-hidream-token",  # noqa: S106
    hidream_api_key="fixture-hidream-api-key",
    gateway_api_key="fixture-gateway-key",
    access_key_id="AKLTfixture",
    secret_access_key="fixture-secret-key",  # noqa: S106
)
_HOSTS = {"hidream_base_url": "https://hidream.example", "hidream_ec_base_url": "https://ec.hidream.example"}
# Seconds: until a state must be reached, and for which an answer is held back (longer than this program runs).
_PATIENCE = 60.0
_HANG = 600.0
_WIDTH, _HEIGHT = 96, 128


@dataclass(frozen=True)
class Kept:
    """An attempt of the journal, and the request that made it."""

    name: str
    call: str
    profile: str
    take: int
    journal_id: str
    state: str
    task_id: str = ""
    sub_task_ids: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    """SHA-256 of the pixels of each delivered picture (RGB, rows from the top)."""


def main() -> int:
    version = _version()
    target = FIXTURES / version
    if target.exists():
        print(f"{target} is there already: fixtures of a version are made once and never changed", file=sys.stderr)
        return 2
    temporary = tempfile.TemporaryDirectory(prefix="fixtures-", ignore_cleanup_errors=True)
    with temporary as folder, Emulator(credentials=KEYS) as emulator:
        made = Path(folder) / version
        _make(made, Path(folder), emulator)
        shutil.copytree(made, target)
    print(f"{target}: {sum(path.stat().st_size for path in target.rglob('*') if path.is_file()) / 1000:.0f} kB")
    sys.stdout.flush()
    os._exit(0)  # end the calls that are still under way without a word to the journal, as a crash does


def _version() -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = text.split('\nversion = "', 1)[1].split('"', 1)[0]
    return ".".join(version.split(".")[:2])


def _make(made: Path, folder: Path, emulator: Emulator) -> None:
    made.mkdir()
    _photo().save(made / "photo.png")
    prompts = save_workflows(made, folder / "comfyui", environment_of(emulator.url), emulator)
    user = folder / "comfyui" / "user" / "__hidream_volcengine"
    attempts = _attempts(JournalSettings(user), user, emulator)
    _copy_sqlite(user / "journal.sqlite3", made / "user" / "journal.sqlite3")
    shutil.copytree(user / "store", made / "user" / "store")
    shutil.copyfile(user / "profiles.json", made / "user" / "profiles.json")
    (made / "user" / "journal.made").touch()
    emulator.clear()
    programs = postgres.ensure()
    with (
        tempfile.TemporaryDirectory(prefix="postgres-") as base,
        postgres.PostgreSQL(Path(base), password="fixture", programs=programs) as server,  # noqa: S106
    ):
        url = server.new_database()
        settings = JournalSettings(folder / "second", url=url, store=folder / "second" / "store")
        shared = _attempts(settings, folder / "second", emulator)
        dump = subprocess.run(
            [(programs / "postgres").resolve().with_name("pg_dump"), "--inserts", "--no-owner", "--no-privileges", url],
            check=True, capture_output=True, encoding="utf-8",
        ).stdout  # fmt: skip
    (made / "postgres").mkdir()
    # Drop psql's own commands and the settings of this server's version: any later server accepts the rest.
    lines = [line for line in dump.splitlines() if not line.startswith(("\\", "SET ", "SELECT pg_catalog", "--"))]
    (made / "postgres" / "journal.sql").write_text("\n".join(filter(None, lines)) + "\n", encoding="utf-8")
    shutil.copytree(folder / "second" / "store", made / "postgres" / "store")
    shutil.copyfile(folder / "second" / "profiles.json", made / "postgres" / "profiles.json")
    expected = {
        "prompts": prompts,
        "user": [asdict(kept) for kept in attempts],
        "postgres": [asdict(kept) for kept in shared],
    }
    (made / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def _photo() -> Image.Image:
    """Return a picture of gradients: what is made of it compresses into small files."""
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    shades = np.stack([rows * 255 // _HEIGHT, columns * 255 // _WIDTH, (rows + columns) % 256], axis=-1)
    return Image.fromarray(shades.astype(np.uint8))


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy the database with the content of its WAL into one file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")


# ---- attempts in every state


def environment_of(url: str) -> dict[str, str]:
    """Return the environment variables of a ComfyUI whose services are at ``url``."""
    return {
        "HIDREAM_BASE_URL": url,
        "HIDREAM_EC_BASE_URL": url,
        "HIDREAM_TOKEN": KEYS.hidream_token,
        "VOLCENGINE_GATEWAY_BASE_URL": url,
        "VOLCENGINE_GATEWAY_API_KEY": KEYS.gateway_api_key,
        "REMOTE_IMAGE_POLLS_PER_SECOND": "0",
        # One place only: while a call holds it, the next one waits and stays `prepared`.
        "REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "1",
    }


class _Shop:
    """A journal, and the accounts that buy into it."""

    def __init__(self, settings: JournalSettings, profiles_in: Path, emulator: Emulator) -> None:
        self.journal = Journal(settings)
        self.emulator = emulator
        self.file = ProfileFile(lambda: profiles_in)
        self.kept: list[Kept] = []

    def account(self, call: str, profile: str) -> Any:
        """Return the account of a profile; ``call`` "sides" and "resumable" are Volcengine's, all others HiDream's."""
        environment = environment_of(self.emulator.url)
        if call == "resumable":
            environment["VOLCENGINE_RESUMABLE"] = "1"
        sandbox = Sandbox(self.emulator.url, KEYS.hidream_token, KEYS.gateway_api_key)
        profiles = Profiles(environment, lambda: sandbox, self.file)
        return profiles.volcengine(profile) if call in ("sides", "resumable") else profiles.hidream(profile)

    def paid(self, call: str, profile: str, take: int) -> PaidCall:
        pixels = np.asarray(_photo())
        printed, account = tensors.fingerprint(pixels), self.account(call, profile)
        encoded = tensors.to_base64(tensors.encode(pixels))
        if call in ("sides", "resumable"):
            sides = checked(volcengine_outpaint.Request, binary_data_base64=[printed], top=0.5, left=0.25, seed=7)
            values: dict[str, Any] = {"binary_data_base64": [encoded]}
            volcengine = VolcengineService(account, volcengine_outpaint.ENDPOINT)
            return PaidCall(volcengine, sides, lambda: values, 2**20, take)
        image = {"image": encoded}
        if call == "img2img":
            four = checked(hidream_image_to_image.Request, image=printed, prompt="a storm", img_count=4)
            img2img = HiDreamService(account, hidream_image_to_image.ENDPOINT)
            return PaidCall(img2img, four, lambda: image, 2**20, take, 4)
        upscale = checked(hidream_upscale.Request, image=printed, upsale_ratio=2)
        return PaidCall(HiDreamService(account, hidream_upscale.ENDPOINT), upscale, lambda: image, 2**20, take)

    def buy(
        self,
        name: str,
        state: str,
        call: str = "upscale",
        *,
        profile: str = "default",
        fault: tuple[str, Mapping[str, Any]] | None = None,
        interrupt_at: str = "",
        delivered: bool = False,
    ) -> None:
        """Buy in a thread, return when the attempt is in ``state``, and add it to ``kept``.

        Unless it is delivered or interrupted, the call goes on waiting until the program ends.

        Args:
            fault: phase and action of a fault of the emulator for this call.
            interrupt_at: the state in which the call is cancelled.
            delivered: wait for the end of the call, and mark its pictures as delivered.
        """
        take = len(self.kept)
        if fault is not None:
            self.emulator.add_fault({"phase": fault[0], "do": fault[1]})
        batch = Batch(self.journal, [self.paid(call, profile, take)], Run(f"run-{name}").node().item())
        before = {task.journal_id for task in self.journal.task_list.tasks()}
        cancel, ended = CancelToken(), threading.Event()
        results: list[Result] = []

        def work() -> None:
            try:
                results.append(batch.run(0, CallHandle(cancel, lambda progress: None)))
            except CallCancelled:
                pass
            finally:
                ended.set()

        threading.Thread(target=work, daemon=True).start()

        def mine() -> Any:
            return next((task for task in self.journal.task_list.tasks() if task.journal_id not in before), None)

        if interrupt_at:
            _until(lambda: mine() is not None and mine().state == interrupt_at, name)
            cancel.cancel()
        if delivered:
            _until(ended.is_set, name)
            batch.end(results, delivered=True)
        _until(lambda: mine() is not None and mine().state == state, f"{name} is {state}")
        [row] = self._rows(mine().journal_id)
        shown = results[0].delivery.pictures if delivered and results[0].delivery else ()
        self.kept.append(
            Kept(
                name, call, profile, take, mine().journal_id, state, row["task_id"],
                tuple(json.loads(row["sub_task_ids"] or "[]")), tuple(map(pixels_sha256, shown)),
            )
        )  # fmt: skip

    def _rows(self, journal_id: str) -> list[Mapping[str, Any]]:
        from sqlalchemy import text

        with self.journal._transactions.reading() as (connection, _):
            found = connection.execute(text("SELECT * FROM attempts WHERE id = :id"), {"id": journal_id})
            return [dict(row) for row in found.mappings()]


def _attempts(settings: JournalSettings, profiles_in: Path, emulator: Emulator) -> list[Kept]:
    """Buy one attempt of every state into the journal, and write profiles.json; return the attempts."""
    shop = _Shop(settings, profiles_in, emulator)
    editor = ProfileEditor(Profiles({}, _no_sandbox, shop.file), shop.file)
    keys = {"hidream_token": KEYS.hidream_token}
    at_emulator = dict.fromkeys(_HOSTS, emulator.url)
    editor.add(shop.file.read().revision, "studio", {**at_emulator, "pictures_per_day": 50}, keys)
    shop.buy("delivered", "delivered", delivered=True)
    shop.buy("stored", "stored")
    shop.buy("bought with a profile of the file", "delivered", profile="studio", delivered=True)
    shop.buy("bought in the sandbox", "delivered", profile="sandbox", delivered=True)
    shop.buy("delivered by volcengine", "delivered", "sides", delivered=True)
    shop.buy("three of four", "delivered", "img2img", fault=("submit", {"task_status": [1, 1, 3, 1]}), delivered=True)
    shop.buy("failed", "failed", fault=("submit", {"task_status": [3]}))
    shop.buy("moderated", "failed", fault=("submit", {"task_status": [4]}))
    shop.buy("ambiguous", "ambiguous", fault=("submit", {"status": 500, "accept": True}))
    shop.buy("ambiguous, submit again", "ambiguous", fault=("submit", {"status": 500, "accept": True}))
    if not shop.journal.submit_again(shop.kept[-1].journal_id):
        raise AssertionError("submit again was refused")
    shop.buy("refused", "refused", fault=("submit", {"status": 400}))
    shop.buy("done", "done", fault=("image", {"hang": _HANG}))
    emulator.add_fault({"phase": "result", "times": None, "endpoint": "upscale", "do": {"task_status": [2]}})
    running = {"json": {"code": 10000, "data": {"status": "generating"}}}
    emulator.add_fault({"phase": "result", "times": None, "endpoint": "cvsync2async", "do": running})
    shop.buy("parked", "parked", interrupt_at="submitted")
    shop.buy("parked by volcengine", "parked", "resumable", interrupt_at="submitted")
    shop.buy("submitted", "submitted")
    shop.buy("submitting", "submitting", "sides", fault=("submit", {"hang": _HANG}))
    shop.buy("cancelled", "cancelled", "sides", interrupt_at="prepared")
    shop.buy("prepared", "prepared", "sides")
    # As users' files are: with public hosts, to which the keys are bound.
    editor.change(shop.file.read().revision, "studio", _HOSTS, keys)
    gateway = {"volcengine_gateway_base_url": "https://gateway.example/volcv"}
    editor.add(
        shop.file.read().revision, "网关", {**gateway, "language": "en", "volcengine_resumable": True},
        {"volcengine_gateway_api_key": KEYS.gateway_api_key},
    )  # fmt: skip
    editor.add(shop.file.read().revision, "proxy login", {"proxy": "http://user:word@proxy.example:3128"}, keys)
    editor.add(shop.file.read().revision, "own CA", {"ca_file": certifi.where()}, keys)
    return shop.kept


def _no_sandbox() -> Sandbox:
    raise AssertionError("not the sandbox")


def _until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
