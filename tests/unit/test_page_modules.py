"""The modules of web/: which are fetched with the page and how they are served."""

from __future__ import annotations

import asyncio
import mimetypes
import re
import sys
import types
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web, web_fileresponse

from devtools.environment import ROOT

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(ROOT / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.routes import serve_as_script  # noqa: E402

WEB = ROOT / "web"
WITH_THE_PAGE = sorted(WEB.rglob("*.js"))
IMPORTED = re.compile(r'^(?:import|\}) .*from "(.+)";$', re.MULTILINE)


def test_few_modules_come_with_the_page() -> None:
    """ComfyUI imports every *.js; what those import is fetched with them."""
    assert 0 < len(WITH_THE_PAGE) <= 4
    for path in WITH_THE_PAGE:
        imported = IMPORTED.findall(path.read_text(encoding="utf-8"))
        assert imported
        ours = {(path.parent / name).resolve() for name in imported if "/scripts/" not in name}
        assert ours <= set(WITH_THE_PAGE), path


def test_every_module_is_served_fresh_and_as_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Windows' registry says of .mjs: a browser runs no module of another type."""
    for known in (mimetypes._db, web_fileresponse.CONTENT_TYPES):  # type: ignore[attr-defined]
        monkeypatch.setitem(known.types_map[True], ".mjs", "text/plain")
    (tmp_path / "theirs.mjs").touch()
    answers = asyncio.run(_ask(tmp_path, "/extensions/ours/server.mjs", "/extensions/theirs/theirs.mjs"))
    ours, theirs = ((answer.content_type, answer.headers.get("Cache-Control")) for answer in answers)
    assert ours == ("text/javascript", "no-cache")
    assert theirs == ("text/plain", None)


async def _ask(other_pack: Path, *addresses: str) -> list[aiohttp.ClientResponse]:
    app = web.Application()
    app.on_response_prepare.append(serve_as_script)
    # As ComfyUI does it.
    app.add_routes([web.static("/extensions/ours", str(WEB)), web.static("/extensions/theirs", str(other_pack))])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    try:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            answers = [await session.get(address) for address in addresses]
            assert [answer.status for answer in answers] == [200] * len(addresses)
            return answers
    finally:
        await runner.cleanup()
