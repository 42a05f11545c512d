"""A list of sixty photographs of which some bring no picture: what is bought, what came, and the second run."""

from __future__ import annotations

import pytest

from emulator import Emulator
from tests.host.buying import buys, mend, sends_nothing
from tests.host.isolation.sets import CURRENCY, PRICE, SetOf, Shop, bought_once, labels, of, outcomes, summed

WANTED, ALLOWED = 60, 50


def spoil(emulator: Emulator, endpoint: str) -> None:
    """Two pictures are moderated, one fails, one answer is lost: all after acceptance."""
    moderated, broken = {"task_status": [4]}, {"task_status": [3]}
    if endpoint == "cvprocess":
        moderated, broken = {"vendor_code": 50511}, {"vendor_code": 50519}
    for skip, times, do in [(7, 2, moderated), (15, 1, broken), (25, 1, {"reset": "after"})]:
        emulator.add_fault({"endpoint": endpoint, "phase": "submit", "skip": skip, "times": times, "do": do})


@pytest.mark.parametrize(
    ("class_type", "endpoint"), [("HiDreamAPIUpscale", "upscale"), ("VolcengineAPIOutpaint", "cvprocess")]
)
def test_the_night_and_the_morning(shop: Shop, emulator: Emulator, class_type: str, endpoint: str) -> None:
    shop.allow(a_run=ALLOWED)
    spoil(emulator, endpoint)
    night = SetOf(shop, WANTED, class_type)
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
