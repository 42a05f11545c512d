"""A limit of its own is written in an endpoint's file alone: everything else follows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hidream_volcengine.api.catalog import declared_limits
from hidream_volcengine.api.profiles.fields import SETTINGS

ROOT = Path(__file__).resolve().parents[3]
ENDPOINT = "api/catalog/endpoints/hidream_upscale.py"
DECLARED = """    name="hidream upscale",
    rate=Rate("hidream_upscale_per_minute", 30, Text("HiDream: upscales a minute", "HiDream：每分钟放大数")),
    at_once=AtOnce("hidream_upscale_at_once", 0, Text("HiDream: upscales at a time", "HiDream：同时放大数")),
"""
NAMES = ["hidream_upscale_at_once", "hidream_upscale_per_minute"]
# What a server with this endpoint says: of the settings, to the dialog, in its docs, and of an account's limits.
ASKED = """
import json, pathlib, sys
from api.catalog import endpoint_named
from api.profiles import ProfileEditor, ProfileFile, Profiles
from api.profiles.fields import SETTINGS
from devtools import generate

folder = pathlib.Path(sys.argv[1])
file = ProfileFile(lambda: folder)
variables = {"HIDREAM_TOKEN": "t", "REMOTE_IMAGE_HIDREAM_UPSCALE_PER_MINUTE": "20"}
profiles = Profiles(variables, lambda: None, file)
editor = ProfileEditor(profiles, file)
own = {"hidream_upscale_at_once": 3, "hidream_upscale_per_minute": 0}
shown = editor.add("none", "mine", own, {"hidream_token": "t"})

def ceiling(profile, name):
    found = profiles.service(profile, endpoint_named(name)).ceiling
    return [found.at_once, found.per_minute]

print(json.dumps({
    "settings": list(SETTINGS),
    "dialog": [[limit.setting, limit.label.zh, provider] for limit, provider in shown.limits.items()],
    "defaults": [shown.defaults[name] for name in own],
    "file": json.loads(file.path.read_text())["profiles"][0]["settings"],
    "ceilings": {profile: ceiling(profile, "hidream upscale") for profile in ("default", "mine")},
    "other": ceiling("mine", "hidream model photo set"),
    "docs": {page.name: text for page, text in generate._settings().items()},
}))
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the pack in which the limits are declared, and nothing else is edited."""
    pack = tmp_path / "pack"
    for folder in ("api", "devtools", "docs", "tests/vectors", "emulator"):
        shutil.copytree(ROOT / folder, pack / folder, ignore=shutil.ignore_patterns("__pycache__", "*.png", "*.jpg"))
    file = pack / ENDPOINT
    text = file.read_text(encoding="utf-8")
    for before, after in (
        ("import HiDreamEndpoint\n", "import AtOnce, HiDreamEndpoint, Rate\n"),
        ('    name="hidream upscale",\n', DECLARED),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")
    return pack


def test_it_is_declared_in_one_place(pack: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(pack), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", ASKED, str(tmp_path / "profiles")]
    done = subprocess.run(command, cwd=pack, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [name for name in found["settings"] if name not in SETTINGS] == NAMES
    assert [limit for limit in found["dialog"] if limit[0] in NAMES] == [
        ["hidream_upscale_at_once", "HiDream：同时放大数", "HiDream"],
        ["hidream_upscale_per_minute", "HiDream：每分钟放大数", "HiDream"],
    ]
    assert found["defaults"] == [0, 20], "the environment's, and 0 = no limit"
    assert found["file"] == {"hidream_upscale_at_once": 3, "hidream_upscale_per_minute": 0}
    assert found["ceilings"] == {"default": [None, 20], "mine": [3, None]}
    assert found["other"] == [4, None], "the provider's"
    for page, rows in {
        "settings.md": (
            "| `REMOTE_IMAGE_HIDREAM_UPSCALE_AT_ONCE` | HiDream: upscales at a time | none |",
            "| `REMOTE_IMAGE_HIDREAM_UPSCALE_PER_MINUTE` | HiDream: upscales a minute | 30 |",
        ),
        "settings.zh-CN.md": (
            "| `REMOTE_IMAGE_HIDREAM_UPSCALE_AT_ONCE` | HiDream：同时放大数 | 无 |",
            "| `REMOTE_IMAGE_HIDREAM_UPSCALE_PER_MINUTE` | HiDream：每分钟放大数 | 30 |",
        ),
    }.items():
        assert "\n".join(rows) in found["docs"][page]
        assert found["docs"][page].replace("\n".join(rows) + "\n", "") == (ROOT / "docs" / page).read_text("utf-8")


def test_no_two_limits_have_one_setting() -> None:
    """They would be one limit, with two defaults."""
    names = Counter(limit.setting for limit in declared_limits())
    assert set(names.values()) == {1}
    undeclared = {"pictures_per_day", "pictures_per_run", "hidream_at_once", "volcengine_at_once", "polls_per_second"}
    assert not undeclared & names.keys() and names.keys() <= SETTINGS.keys()
