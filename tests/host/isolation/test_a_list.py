"""A list of sixty photographs of which some bring no picture: what is bought, what came, and the second run."""

from __future__ import annotations

from typing import Any

from emulator import Emulator
from tests.host.buying import buys, mend, sends_nothing
from tests.host.isolation.sets import (
    CURRENCY,
    PRICE,
    PROFILE,
    REST,
    SetOf,
    Shop,
    bought_once,
    labels,
    of,
    outcomes,
    summed,
)
from tests.thinned import thinned

WANTED, ALLOWED = 60, 50


def spoil(emulator: Emulator, endpoint: str) -> None:
    """Two pictures are moderated, one fails, one answer is lost: all after acceptance."""
    moderated: dict[str, Any] = {"task_status": [4]}
    broken: dict[str, Any] = {"task_status": [3]}
    if endpoint == "cvprocess":
        moderated, broken = {"vendor_code": 50511}, {"vendor_code": 50519}
    for skip, times, do in [(7, 2, moderated), (15, 1, broken), (25, 1, {"reset": "after"})]:
        emulator.add_fault({"endpoint": endpoint, "phase": "submit", "skip": skip, "times": times, "do": do})


@thinned(("class_type", "endpoint"), [("HiDreamAPIUpscale", "upscale"), ("VolcengineAPIOutpaint", "cvprocess")])
def test_the_night_and_the_morning(shop: Shop, emulator: Emulator, class_type: str, endpoint: str) -> None:
    shop.allow(a_run=ALLOWED)
    spoil(emulator, endpoint)
    night = SetOf(shop, WANTED, class_type)
    report_node = night.graph.add("RemoteSetReport", after=night.node[0])
    with buys(emulator, ALLOWED):
        run = night.run()
    rows = night.rows(run)
    # One row for each item of the list, in its order, under its label; the budget went to the first ones.
    assert [(row["item"], row["part"], row["label"]) for row in rows] == [
        (item, 0, label) for item, label in enumerate(labels(range(WANTED)))
    ]
    assert of(rows, "not submitted") == list(range(ALLOWED, WANTED))
    assert outcomes(rows) == {"came": 46, "failed": 3, "unclear": 1, "not submitted": 10}
    # Each row is about the task that the service has, and says what is true of it.
    came = of(rows, "came", "bought")
    assert len(came) == 46
    assert all(row["pictures"] == 1 and row["billed"] == "yes" for row in rows if row["item"] in came)
    assert all(row["billed"] == "unknown" for row in rows if row["outcome"] in ("failed", "unclear"))
    assert all(row["billed"] == "no" and not row["attempt"] for row in rows[ALLOWED:])
    assert {(row["price"], row["currency"]) for row in rows} == {(PRICE, CURRENCY)}
    if endpoint != "cvprocess":
        known = {row["task_id"] for row in rows if row["task_id"]}
        lost = {record.task_id for record in emulator.accepted} - known
        assert len(known) == 49
        assert len(lost) == 1
    # What is behind ran once for each picture that came, with the picture of its label.
    assert shop.counted() == {label: [item] for item, label in zip(came, labels(came), strict=True)}
    accounts = night.accounts(run)
    assert sorted(entry["index"] for entry in accounts) == list(range(WANTED))
    assert summed(accounts) == {"bought": 46, "failed": 3, "unclear": 1, "not_submitted": 10}
    assert night.plan(run) == {"wanted": WANTED, "allowed": ALLOWED, "price": "13.20", "currency": CURRENCY}
    [told] = run.texts(report_node.id)
    assert "46 pictures, 3 failed, 1 unclear, 10 not submitted, ≈ ¥10.12: " in told
    report = shop.report(run)
    assert [(line["label"], line["item"]) for line in report] == [
        (label, str(item + 1)) for item, label in enumerate(labels(range(WANTED)))
    ]
    assert [line["outcome"] for line in report] == [row["source"] or row["outcome"] for row in rows]
    assert [line["task id"] for line in report] == [row["task_id"] or "" for row in rows]

    # The morning: the budget is new.
    mend(emulator)
    with buys(emulator, WANTED - ALLOWED):
        again = night.run()
    assert bought_once(emulator)
    second = night.rows(again)
    assert of(second, "came", "bought") == list(range(ALLOWED, WANTED))
    assert of(second, "came", "reused") == came
    for before, after in zip(rows[:ALLOWED], second[:ALLOWED], strict=True):
        assert (after["attempt"], after["outcome"], after["label"]) == (
            before["attempt"],
            before["outcome"],
            before["label"],
        )
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(WANTED))) if item in
                              {*came, *range(ALLOWED, WANTED)}}  # fmt: skip
    assert summed(night.accounts(again)) == {"bought": 10, "reused": 46, "failed": 3, "unclear": 1}

    # Nothing else can be done for the four: ComfyUI's cache holds, for what is behind, too.
    with sends_nothing(emulator):
        third = night.run()
    assert not night.ran(third)
    assert shop.counted() == {}


# ---- what stands in a list


def test_a_photograph_that_no_node_takes_is_skipped(shop: Shop, emulator: Emulator) -> None:
    """A local check of one item keeps nothing else from being bought."""
    listed = SetOf(shop, 5, "VolcengineAPIOutpaint")
    spoiled = listed.graph.add("TestSpoil", image=listed.photos, label=listed.labels, bad="SKU-01")
    listed.change(image=spoiled[0])
    with buys(emulator, 4):
        run = listed.run()
    rows = listed.rows(run)
    assert [row["outcome"] for row in rows] == ["came", "not submitted", "came", "came", "came"]
    assert rows[1]["label"] == "SKU-01"
    assert rows[1]["error"]
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(5))) if item != 1}
    assert summed(listed.accounts(run)) == {"bought": 4, "not_submitted": 1}
    assert any("item 2 (SKU-01)" in text for text in run.texts(listed.node.id)), run.texts(listed.node.id)
    with sends_nothing(emulator):
        assert not listed.ran(listed.run()), "the same photograph is refused again"


def test_equal_photographs_are_one_purchase(shop: Shop, emulator: Emulator) -> None:
    """Each item of a list is a request of its own, so that equal ones share it, and its failure."""
    shop.allow(at_once=1)
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": 1, "do": {"task_status": [4]}})
    listed = SetOf(shop, 6, different=3)
    with buys(emulator, 3):
        run = listed.run()
    rows = listed.rows(run)
    assert [row["outcome"] for row in rows] == ["came", "failed", "came"] * 2
    assert [row["attempt"] for row in rows[:3]] == [row["attempt"] for row in rows[3:]]
    assert summed(listed.accounts(run)) == {"bought": 2, "reused": 2, "failed": 2}
    assert list(shop.counted().values()) == [[0], [2], [0], [2]]


def test_two_paid_nodes_in_a_row(shop: Shop, emulator: Emulator) -> None:
    """What the first one lacks the second one never sees; both keep labels and indices."""
    shop.allow(at_once=1)
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": 1, "do": {"task_status": [4]}})
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "skip": 2, "do": {"vendor_code": 50511}})
    listed = SetOf(shop, 5)
    first, graph = listed.node, listed.graph
    second = graph.paid("VolcengineAPIOutpaint", first[0], profile=PROFILE, on_partial=REST, label=listed.labels)
    saved = graph.save(second[0])
    with buys(emulator, 5 + 4):
        run = listed.run()
    rows = {node.id: [row for row in shop.rows(run) if row["node"] == node.id] for node in (first, second)}
    assert [(row["item"], row["label"]) for row in rows[first.id]] == list(enumerate(labels(range(5))))
    assert of(rows[first.id], "failed") == [1]
    assert [(row["item"], row["label"]) for row in rows[second.id]] == [
        (item, label) for item, label in enumerate(labels(range(5))) if item != 1
    ]
    assert of(rows[second.id], "failed") == [3]
    assert len(shop.comfy.images(run, saved)) == 3

    shop.submit_again(rows[first.id][1]["attempt"])
    with buys(emulator, 2):
        again = listed.run()
    second_rows = [row for row in shop.rows(again) if row["node"] == second.id]
    assert of(second_rows, "came", "bought") == [1]
    assert of(second_rows, "came", "reused") == [0, 2, 4]
    assert of(second_rows, "failed") == [3]
    assert len(shop.comfy.images(again, saved)) == 4
