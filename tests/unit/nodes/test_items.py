"""The items of a list take turns in list order, a bounded number at a time, after all of them have started."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hidream_volcengine.api import InvalidInputError, ModerationError, NodeRun, RemoteImageError, Run, Text

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.comfy.items import MOST_AT_ONCE, Item, ItemsOfNode  # noqa: E402


class Interrupted(Exception):
    pass


class List:
    """A node that ComfyUI maps over a list: one task is started in each round of the loop, as ComfyUI does it."""

    def __init__(self, node: NodeRun) -> None:
        self.interrupt: BaseException | None = None
        self.items = ItemsOfNode(node, lambda: self.interrupt)
        self.begun: list[int] = []
        self.under_way = self.most = 0

    async def one(self, index: int, work: Callable[[int], Awaitable[None]], batch: object = None) -> None:
        item = self.items.enter(batch)
        item.wanted = 1
        try:
            async with self.items.turn(item):
                self.begun.append(index)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                await work(index)
            finally:
                self.under_way -= 1
        finally:
            self.items.leave(item)

    async def run(self, count: int, work: Callable[[int], Awaitable[None]], batch: object = None) -> list[object]:
        tasks = []
        for index in range(count):
            tasks.append(asyncio.create_task(self.one(index, work, batch)))
            await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)


def list_of(*, keeps_going: bool = True) -> List:
    return List(Run("prompt").node("1", keeps_going=keeps_going))


async def nothing(_: int) -> None:
    await asyncio.sleep(0)


def test_the_first_turn_knows_how_many_items_there_are() -> None:
    mapped, known = list_of(), []

    async def look(index: int) -> None:
        known.append(mapped.items.wanted_later)
        await asyncio.sleep(0)

    asyncio.run(mapped.run(70, look))
    assert known[0] == 69
    assert mapped.begun == list(range(70))


def test_only_so_many_are_prepared_or_under_way() -> None:
    mapped = list_of()

    async def work(index: int) -> None:
        for _ in range(100 - index):
            await asyncio.sleep(0)

    asyncio.run(mapped.run(2 * MOST_AT_ONCE + 5, work))
    assert mapped.begun == list(range(2 * MOST_AT_ONCE + 5))
    assert 1 < mapped.most <= MOST_AT_ONCE


@pytest.mark.parametrize("keeps_going", [False, True])
def test_a_failure_ends_those_that_wait_unless_the_node_keeps_going(keeps_going: bool) -> None:
    mapped = list_of(keeps_going=keeps_going)

    async def work(index: int) -> None:
        if index == 3:
            mapped.items.node.note_failure(ModerationError(Text("No.", "不行。"), provider="HiDream"))
        await asyncio.sleep(0)

    ended = asyncio.run(mapped.run(100, work))
    failed = [one for one in ended if isinstance(one, RemoteImageError)]
    assert all(one.what.en == "No." for one in failed)
    assert bool(failed) is not keeps_going and (len(mapped.begun) == 100) is keeps_going


def test_an_interrupt_ends_those_that_wait_also_after_comfyui_has_cleared_its_flag() -> None:
    mapped = list_of()

    async def work(index: int) -> None:
        if index == 2:
            why = Interrupted()
            mapped.items.interrupt(why)
            raise why
        await asyncio.sleep(0)

    ended = asyncio.run(mapped.run(100, work))
    assert sum(isinstance(one, Interrupted) for one in ended) == 100 - len(mapped.begun) + 1
    assert len(mapped.begun) < 100


def test_comfyuis_own_flag_ends_those_that_wait() -> None:
    mapped = list_of()

    async def work(index: int) -> None:
        if index == 2:
            mapped.interrupt = Interrupted()
        await asyncio.sleep(0)

    ended = asyncio.run(mapped.run(100, work))
    assert any(isinstance(one, Interrupted) for one in ended) and len(mapped.begun) < 100


def test_labels_beside_one_batch_are_refused_before_anything_begins() -> None:
    mapped, batch = list_of(), object()
    ended = asyncio.run(mapped.run(3, nothing, batch))
    assert all(isinstance(one, InvalidInputError) and "one label" in one.text().en for one in ended)
    assert mapped.begun == []


def test_a_list_of_batches_may_have_a_label_each() -> None:
    mapped = list_of()

    async def run() -> list[object]:
        return await asyncio.gather(*(mapped.one(index, nothing, object()) for index in range(3)))

    assert asyncio.run(run()) == [None] * 3


def test_an_item_that_ends_before_its_turn_holds_up_nobody() -> None:
    mapped = list_of()

    async def run() -> None:
        gone: Item = mapped.items.enter()
        mapped.items.leave(gone)
        await mapped.one(1, nothing)

    asyncio.run(run())
    assert mapped.begun == [1]
