"""When ComfyUI runs an incomplete node, and the paid node behind it, again: only if something else would happen."""

from __future__ import annotations

from emulator import Emulator
from tests.host.buying import buys, mend, sends_nothing, states, tasks, until_states
from tests.host.isolation.sets import SetOf, Shop, labels, of
from tests.host.prompts import Running, until


def moderate_one(emulator: Emulator, skip: int = 2) -> None:
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": skip, "do": {"task_status": [4]}})


def test_a_moderated_item_alone_runs_nothing_until_it_is_submitted_again(shop: Shop, emulator: Emulator) -> None:
    shop.allow(at_once=1)
    moderate_one(emulator)
    listed = SetOf(shop, 6)
    with buys(emulator, 6):
        first = listed.run()
    [missing] = of(listed.rows(first), "failed")
    assert missing == 2
    assert list(shop.counted()) == labels([0, 1, 3, 4, 5])
    for _ in range(2):
        with sends_nothing(emulator):
            run = listed.run()
        assert not listed.ran(run)
        assert shop.counted() == {}
        assert listed.rows(run) == []

    shop.submit_again(listed.rows(first)[missing]["attempt"])
    with buys(emulator, 1):
        again = listed.run()
    rows = listed.rows(again)
    assert of(rows, "came", "bought") == [missing]
    assert len(of(rows, "came", "reused")) == 5
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(6)))}
    with sends_nothing(emulator):
        assert not listed.ran(listed.run())
    assert shop.counted() == {}


def test_what_the_budget_did_not_hold_is_bought_once_there_is_room(shop: Shop, emulator: Emulator) -> None:
    shop.allow(a_run=4)
    listed = SetOf(shop, 6)
    with buys(emulator, 4):
        listed.run()
    assert list(shop.counted()) == labels(range(4))
    shop.allow()
    with buys(emulator, 2):
        run = listed.run()
    assert of(listed.rows(run), "came", "bought") == [4, 5]
    assert len(shop.counted()) == 6
    with sends_nothing(emulator):
        assert not listed.ran(listed.run())


def test_a_complete_run_is_not_run_again(shop: Shop, emulator: Emulator) -> None:
    """Nor is one that is complete after an incomplete one, whatever another set does in between."""
    shop.allow(a_run=2)
    one, other = SetOf(shop, 3), SetOf(shop, 2, first=50)
    for listed, pictures in ((one, 2), (one, 3), (other, 2)):
        assert listed.ran(listed.run())
        assert len(shop.counted()) == pictures
    assert len(emulator.accepted) == 5
    shop.comfy.forget_results()
    one.run()
    shop.counted()
    with sends_nothing(emulator):
        assert not one.ran(one.run())
    assert shop.counted() == {}


def test_what_was_bought_but_not_handed_on_is_handed_on_by_the_next_run(shop: Shop, emulator: Emulator) -> None:
    """ComfyUI has cached that the item was skipped, and the journal has its picture."""
    listed = SetOf(shop, 3)
    listed.change(take=listed.graph.add("TestBreak", take=0)[0])
    with buys(emulator, 3):
        run = listed.run()
    assert any("MemoryError" in text for text in run.texts(listed.node.id))
    assert of(listed.rows(run), "came", "bought") == [0, 1, 2]
    assert len(shop.counted()) == 2
    with sends_nothing(emulator):
        listed.run()
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(3)))}
    with sends_nothing(emulator):
        assert not listed.ran(listed.run())


def test_an_interrupted_list_goes_on(shop: Shop, emulator: Emulator) -> None:
    """An interrupted node has no outputs in ComfyUI's cache, so that it runs again anyway."""
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": 4, "times": None, "do": {"hang": 60}})
    listed = SetOf(shop, 6)
    running = Running(shop.comfy, listed.graph)
    until(lambda: sum(task["stored"] for task in tasks(shop.comfy)) == 4, "four pictures")
    until(lambda: states(shop.comfy).count("delivered") == 4, "the end of four items")
    running.interrupt()
    mend(emulator)
    emulator.release()
    until_states(shop.comfy, *["delivered"] * 4, *["parked"] * 2)
    with buys(emulator, 0):
        run = listed.run()
    assert sorted(of(listed.rows(run), "came")) == list(range(6))
    assert len(of(listed.rows(run), "came", "resumed")) == 2
    assert len(shop.counted()) == 6
