"""The items of a node's list in one run: what they want together, and whose turn it is.

ComfyUI maps a list input to one ``execute`` per item and starts all of them at once, so that a node cannot know how
many there are. They are counted here as they start, and go on one after the other, in list order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ... import api
from ...api import InvalidInputError, Text

# Items that are prepared or under way at a time, as many as a service's pool has threads: the pictures of the others
# are neither hashed nor held.
MOST_AT_ONCE = 32
# Rounds of the event loop without a new item after which all have started: ComfyUI starts one in each.
_ROUNDS = 5


@dataclass(eq=False)
class Item:
    """One ``execute`` of a node. ``wanted``: pictures that it wants at most. ``has_begun``: its turn has come."""

    wanted: int = 0
    has_begun: bool = False


class ItemsOfNode:
    """The items of one node in one run. Only coroutines of the run's event loop use it.

    Args:
        node: what its paid calls share.
        interrupted: returns the exception to raise if the user has interrupted the run, else ``None``.
    """

    def __init__(self, node: api.NodeRun, interrupted: Callable[[], BaseException | None]) -> None:
        self.node = node
        self._interrupted = interrupted
        self._interrupt: BaseException | None = None
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._items: set[Item] = set()
        self._started = 0
        self._all_started = False
        self._last_batch: object = None
        self._labels_one_batch = False

    def enter(self, labelled_batch: object = None) -> Item:
        """Count an item that has just started.

        Args:
            labelled_batch: its images, if they are several and it has a label. ComfyUI passes the same object to
                several items where one list is shorter.
        """
        if labelled_batch is not None and labelled_batch is self._last_batch:
            self._labels_one_batch = True
        self._last_batch = labelled_batch
        self._started += 1
        item = Item()
        self._items.add(item)
        return item

    def leave(self, item: Item) -> None:
        """An item has ended, with outputs or an exception."""
        self._items.discard(item)
        self._room.set()
        if not self._items:
            self._last_batch = None

    def interrupt(self, why: BaseException) -> None:
        """An item was interrupted: items that wait for a turn raise ``why``, too, even if ComfyUI clears its flag."""
        self._interrupt = why

    @property
    def wanted_later(self) -> int:
        """How many pictures the items want at most whose turn has not come."""
        return sum(item.wanted for item in self._items if not item.has_begun)

    @asynccontextmanager
    async def turn(self, item: Item) -> AsyncIterator[None]:
        """Wait for the item's turn, after all items before it and while fewer than ``MOST_AT_ONCE`` are under way.

        Raises:
            InterruptProcessingException: the user interrupted.
            InvalidInputError: a list of labels is connected beside one batch of several images.
            RemoteImageError: another item has failed, and the node does not keep going.
        """
        async with self._turn:
            await self._until_all_started()
            while sum(other.has_begun for other in self._items) >= MOST_AT_ONCE:
                self._room.clear()
                await self._room.wait()
            if (why := self._interrupt or self._interrupted()) is not None:
                raise why
            if self._labels_one_batch:
                raise _labels_beside_one_batch()
            if (failure := self.node.failure) is not None:
                raise failure.again()
            item.has_begun = True
            yield

    async def _until_all_started(self) -> None:
        before = 0
        while not self._all_started:
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)
            self._all_started, before = self._started == before, self._started


def _labels_beside_one_batch() -> InvalidInputError:
    return InvalidInputError(
        Text(
            "A list of labels is connected beside one batch of several images: a batch has one label, and its images "
            "are numbered.",
            "同一个多图批次旁连接了标签列表：一个批次只能有一个标签，其中的图片按序号区分。",
        ),
        advice=Text("Make a list of the images, or connect one label.", "请将图片拆成列表，或只连接一个标签。"),
    )
