"""WakeUpTimer: one check wakes all that wait, however many they are."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path

# nodes/__init__.py imports ComfyUI; this module does not.
_package = types.ModuleType("hidream_volcengine.nodes")
_package.__path__ = [str(Path(__file__).resolve().parents[3] / "nodes")]
sys.modules.setdefault(_package.__name__, _package)

from hidream_volcengine.nodes.comfy.wake_up import WakeUpTimer  # noqa: E402

PAUSE, PATIENCE = 0.001, 10.0


class Flag:
    def __init__(self) -> None:
        self.up = False
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.up


async def woken(lookout: WakeUpTimer, overdue: Flag, display: object | None = None) -> None:
    with lookout.waiting(overdue, display) as wake:
        await asyncio.wait_for(wake.wait(), PATIENCE)


def test_an_interrupt_wakes_all_and_is_asked_for_once_for_all() -> None:
    interrupted = Flag()

    async def crowd() -> None:
        lookout = WakeUpTimer(PAUSE, interrupted)
        waiting = [asyncio.create_task(woken(lookout, Flag())) for _ in range(100)]
        while interrupted.asked < 5:
            await asyncio.sleep(PAUSE)
        assert not any(task.done() for task in waiting)
        before = interrupted.asked
        interrupted.up = True
        await asyncio.gather(*waiting)
        assert interrupted.asked <= before + 2

    asyncio.run(crowd())


def test_whoever_is_overdue_is_woken_and_the_others_are_not() -> None:
    async def two() -> None:
        lookout, overdue = WakeUpTimer(PAUSE, Flag()), Flag()
        one = asyncio.create_task(woken(lookout, overdue))
        other = asyncio.create_task(woken(lookout, Flag()))
        await asyncio.sleep(0)
        overdue.up = True
        await one
        assert not other.done()
        other.cancel()

    asyncio.run(two())


def test_one_of_each_display_is_woken_to_draw_it() -> None:
    interrupted = Flag()

    async def mapped_list() -> None:
        lookout = WakeUpTimer(PAUSE, interrupted)
        waiting = [asyncio.create_task(woken(lookout, Flag(), display)) for display in ("a", "b") for _ in range(50)]
        while sum(task.done() for task in waiting) < 2:
            await asyncio.sleep(0)
        assert sum(task.done() for task in waiting) <= 2 * interrupted.asked
        for task in waiting:
            task.cancel()

    asyncio.run(mapped_list())


def test_nobody_looks_when_nobody_waits_and_somebody_does_again_later() -> None:
    interrupted = Flag()

    async def one_after_the_other() -> None:
        lookout, overdue = WakeUpTimer(PAUSE, interrupted), Flag()
        overdue.up = True
        for _ in range(2):
            await woken(lookout, overdue)
            loop = asyncio.get_running_loop()
            asked, until = interrupted.asked, loop.time() + 20 * PAUSE
            while loop.time() < until:
                await asyncio.sleep(PAUSE)
            assert interrupted.asked == asked

    asyncio.run(one_after_the_other())


def test_each_prompt_has_a_loop_of_its_own() -> None:
    lookout, overdue = WakeUpTimer(PAUSE, Flag()), Flag()
    overdue.up = True
    for _ in range(3):
        asyncio.run(woken(lookout, overdue))
