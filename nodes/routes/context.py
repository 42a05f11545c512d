"""What every file with routes needs: the route table, the guard, and threads for blocking functions."""

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
    """Where and how a file adds its routes.

    Args:
        routes: the table to add to.
        guarded: decorator for each handler.
        run: runs a blocking function with arguments in another thread and awaits it.
    """

    routes: web.RouteTableDef
    guarded: Guard
    run: OffLoop


def own_threads(size: int) -> OffLoop:
    """A function that runs blocking functions on at most ``size`` threads of its own and awaits them.

    ``host.off_loop`` is not for routes: it raises when the user interrupts a prompt.
    """
    pool = DaemonPool(size)

    async def off_loop(function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.start(partial(function, *args)))

    return off_loop
