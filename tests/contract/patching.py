"""Changes that other node packs make to the package requests, and purchases that they must not affect.

As a script it applies the change named in its argument, loads the pack, and buys.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
import requests
import requests_cache


def _refused(*_: Any, **__: Any) -> Any:
    raise AssertionError("what another pack has put there was called")


@contextlib.contextmanager
def _cached() -> Iterator[None]:
    """requests-cache, which replaces ``requests.Session``; here it caches every answer of every method for ever."""
    requests_cache.install_cache(
        backend="memory", allowable_methods=("GET", "POST"), allowable_codes=range(100, 600), expire_after=-1,
        ignored_parameters=["Authorization"],
    )  # fmt: skip
    try:
        yield
        cache = requests_cache.get_cache()
        assert cache is not None and len(cache.responses) == 0
    finally:
        requests_cache.uninstall_cache()


@contextlib.contextmanager
def _replaced() -> Iterator[None]:
    """Replace the methods and classes that packs replace to retry, set timeouts, choose proxies or record."""
    session, adapter = requests.sessions.Session, requests.adapters.HTTPAdapter
    places: Sequence[tuple[Any, Sequence[str]]] = (
        (session, ("__init__", "request", "send", "get_adapter", "mount", "prepare_request")),
        (adapter, ("__init__", "send", "init_poolmanager", "cert_verify", "build_response")),
        (requests, ("Session", "session")),
        (requests.sessions, ("Session", "HTTPAdapter")),
        (requests.adapters, ("HTTPAdapter",)),
    )
    with contextlib.ExitStack() as patches:
        for place, names in places:
            for name in names:
                patches.enter_context(patch.object(place, name, _refused))
        yield


PATCHES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "requests-cache": _cached,
    "all of it": _replaced,
}


def buy_everything(folder: Path) -> None:
    """Make every kind of call: a token exchange, a task with several polls, its download, and two takes of one call."""
    from tests.contract.paying import KEYS, A, Shop, brisk, cvprocess, delivery_of, upscale

    settings = {"HIDREAM_TOKEN": "", "HIDREAM_API_KEY": KEYS.hidream_api_key}
    with pytest.MonkeyPatch.context() as patching, Shop(folder, **settings) as shop:
        brisk(patching)
        shop.fault("result", 3, task_status=[2])
        with shop.buys(1):
            assert len(delivery_of(shop.buy(upscale(shop.hidream, A))).pictures) == 1
        asked = [record.phase for record in shop.emulator.requests]
        assert asked.count("result") >= 4 and "image" in asked, asked
        with shop.buys(2):
            first, second = (delivery_of(shop.buy(cvprocess(shop.volcengine, A, take))) for take in (0, 1))
        assert first.task != second.task


def main() -> None:
    with PATCHES[sys.argv[1]](), TemporaryDirectory() as folder:
        import tests.pack  # noqa: F401 -- loads the pack

        buy_everything(Path(folder))


if __name__ == "__main__":
    main()
