"""What the pack's logger writes down has no secret in it."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hidream_volcengine.api.redaction import Secret, pack_logger

ROOT = Path(__file__).parents[2]


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def test_no_secret_in_message_traceback_and_stack(written: io.StringIO) -> None:
    Secret("sk-canary-in-three-places")
    handler = logging.StreamHandler(written)
    pack_logger().logger.addHandler(handler)
    try:
        try:
            raise RuntimeError("sk-canary-in-three-places")  # with the line itself in the traceback
        except RuntimeError:
            pack_logger().error("%s", "sk-canary-in-three-places", exc_info=True, stack_info=True)
    finally:
        pack_logger().logger.removeHandler(handler)
    assert "RuntimeError: ***" in written.getvalue() and "Stack (most recent call last)" in written.getvalue()
    assert "sk-canary-in-three" not in written.getvalue()


_TWO_COPIES = f"""
import importlib, logging, sys, types
def copy_of_the_pack(name):
    pack = types.ModuleType(name); pack.__path__ = [{str(ROOT)!r}]; sys.modules[name] = pack
    return importlib.import_module(name + ".api.redaction")
first, second = copy_of_the_pack("first"), copy_of_the_pack("second")
handler = logging.StreamHandler(sys.stdout)
for copy in (first, second):
    copy.pack_logger().logger.addHandler(handler)
for copy, secret in ((first, "sk-canary-of-the-first"), (second, "sk-canary-of-the-second")):
    copy.Secret(secret)
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        copy.pack_logger().error("failed with %s", secret, exc_info=True)
"""


def test_two_copies_of_the_pack_hide_each_its_own_secrets() -> None:
    """They share the logger: the filter of the first one formats the traceback before the second one's sees it."""
    ran = subprocess.run([sys.executable, "-c", _TWO_COPIES], capture_output=True, text=True, check=True)
    assert ran.stdout.count("failed with ***") == 2 and ran.stdout.count("RuntimeError: ***") == 2
    assert "sk-canary" not in ran.stdout
