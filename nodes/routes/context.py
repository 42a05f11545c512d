"""What every file with routes needs of the server that they are added to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from ...api import DaemonPool
from .guard import Guard

BASE = "/hidream_volcengine"

OffLoop = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class RouteContext:
    """Where requests are handed in: the table to add to, who may ask, and threads for what blocks."""

    routes: web.RouteTableDef
    guarded: Guard
    run: OffLoop


def own_threads(size: int) -> OffLoop:
    """At most ``size`` threads, made when needed. ``host.off_loop`` is for nodes: it ends with an interrupt."""
    pool = DaemonPool(size)

    async def off_loop(function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.submit(partial(function, *args)))

    return off_loop
