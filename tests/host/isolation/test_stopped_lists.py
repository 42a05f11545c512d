"""A list that ends early: by a failure, an outage, an interrupt, kill -9, or because it was wired wrongly."""

from __future__ import annotations

import pytest

from emulator import Emulator
from tests.host.buying import buys, hold, mend, sends_nothing, tasks, until_states
from tests.host.isolation.sets import REST, Row, SetOf, Shop, bought_once, labels, of, outcomes, summed
from tests.host.prompts import Graph, Running, failed, photo, submits, until
from tests.thinned import thinned

FELT = 0.3
"""Seconds from the call of /interrupt to ComfyUI's event; with sixty items it may take twice as long."""


# ---- on_partial: error


def test_the_first_failure_stops_the_list_and_is_named(shop: Shop, emulator: Emulator) -> None:
    shop.allow(at_once=1)
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": 3, "do": {"task_status": [4]}})
    listed = SetOf(shop, 8, on_partial="error")
    with buys(emulator, 4):
        told = failed(shop.comfy, listed.prompt, "ModerationError")
    english, chinese = told["exception_message"].strip().split("\n")
    assert "It is about item 4 (SKU-03)." in english
    assert "对应第 4 项 (SKU-03)。" in chinese
    rows = listed.rows(told["prompt_id"])
    assert [row["outcome"] for row in rows] == ["came"] * 3 + ["failed"] + ["not submitted"] * 4
    assert [row["label"] for row in rows] == labels(range(8))
    assert shop.counted() == {}, "ComfyUI skips what is behind"

    # The same again: the failed one is explained, so that nothing new is bought.
    with sends_nothing(emulator):
        told = failed(shop.comfy, listed.prompt, "ModerationError")
    assert "It is about item 4 (SKU-03)." in told["exception_message"]
    again = listed.rows(told["prompt_id"])
    assert [row["attempt"] for row in again[:4]] == [row["attempt"] for row in rows[:4]]
    assert of(again, "came", "reused") == [0, 1, 2]

    listed.change(on_partial=REST)
    with buys(emulator, 4):
        run = listed.run()
    assert of(listed.rows(run), "came", "reused") == [0, 1, 2]
    assert of(listed.rows(run), "came", "bought") == [4, 5, 6, 7]
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(8))) if item != 3}


# ---- an outage


@thinned("fault", [{"reset": "after"}, {"status": 500}], ids=["lost", "status 500"])
def test_after_three_unclear_answers_nothing_more_is_submitted(
    shop: Shop, emulator: Emulator, fault: dict[str, object]
) -> None:
    shop.allow(at_once=1)
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "times": None, "do": fault})
    listed = SetOf(shop, 20)
    run = listed.run()
    assert len(submits(emulator)) == 3
    rows = listed.rows(run)
    assert [row["outcome"] for row in rows] == ["unclear"] * 3 + ["not submitted"] * 17
    assert summed(listed.accounts(run)) == {"unclear": 3, "not_submitted": 17}
    assert shop.counted() == {}
    [why] = {line for entry in listed.accounts(run) for line in entry["stopped"]}
    assert "HiDream seems to be down" in why
    assert "HiDream 疑似故障" in why

    # It is over: the three are explained, the others are bought.
    mend(emulator)
    shop.allow()
    with buys(emulator, 17):
        again = listed.run()
    assert outcomes(listed.rows(again)) == {"unclear": 3, "came": 17}
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(20))) if item >= 3}


# ---- labels beside one batch


@pytest.mark.parametrize("on_partial", ["error", REST])
def test_a_list_of_labels_beside_one_batch_is_refused(shop: Shop, emulator: Emulator, on_partial: str) -> None:
    batch = SetOf(shop, 3, as_list=False, on_partial=on_partial)
    batch.change(label=batch.labels)
    words = "A list of labels is connected beside one batch of several images"
    with sends_nothing(emulator):
        if on_partial == REST:
            run = batch.run()
            assert all(words in text for text in run.texts(batch.node.id)), run.texts(batch.node.id)
            assert run.texts(batch.node.id)
        else:
            assert words in failed(shop.comfy, batch.prompt, "InvalidInputError")["exception_message"]


def test_one_label_for_a_batch_and_a_list_of_batches_are_fine(shop: Shop, emulator: Emulator) -> None:
    graph = Graph(shop.comfy)
    photos = graph.image(*(photo(48, 64, seed) for seed in range(4)))
    pairs = graph.add("RebatchImages", images=photos, batch_size=2)
    names = graph.add("TestSet", count=2, first=0, different=2)[1]
    node = graph.paid("HiDreamAPIUpscale", pairs[0], profile="shop", label=names)
    saved = graph.save(node[0])
    with buys(emulator, 4):
        run = shop.comfy.run(graph.prompt)
    assert len(shop.comfy.images(run, saved)) == 4
    assert [(row["item"], row["part"], row["label"]) for row in shop.rows(run)] == [
        (0, 0, "SKU-00"), (0, 1, "SKU-00"), (1, 0, "SKU-01"), (1, 1, "SKU-01")
    ]  # fmt: skip


# ---- an interrupt


def interrupted(shop: Shop, emulator: Emulator, listed: SetOf, under_way: int) -> list[Row]:
    hold(emulator, "upscale")
    running = Running(shop.comfy, listed.graph)
    until(lambda: len({r.task_id for r in emulator.requests if r.phase == "result"}) == under_way, "the polls", 40)
    assert running.interrupt() < 2 * FELT
    until_states(shop.comfy, *["parked"] * under_way, *["cancelled"] * (len(tasks(shop.comfy)) - under_way))
    until(lambda: len(listed.rows(running.prompt_id)) == 60, "a row for each item")
    return listed.rows(running.prompt_id)


@thinned("at_once", [4, 0])
def test_an_interrupt_in_the_middle_of_sixty(shop: Shop, emulator: Emulator, at_once: int) -> None:
    shop.allow(at_once=at_once)
    listed = SetOf(shop, 60)
    under_way = at_once or 32
    with buys(emulator, under_way):
        interrupted(shop, emulator, listed, under_way)
    lines = shop.report(listed.shop.comfy.request("GET", "/hidream_volcengine/runs").json()["runs"][0]["run"])
    assert [line["outcome"] for line in lines] == ["waiting"] * under_way + ["not submitted"] * (60 - under_way)
    assert [line["label"] for line in lines] == labels(range(60))
    assert [line["task id"] for line in lines[:under_way]].count("") == 0

    # Then the user goes on: what is under way is fetched, and the others are bought.
    mend(emulator)
    shop.allow()
    with buys(emulator, 60 - under_way):
        run = listed.run()
    assert bought_once(emulator)
    rows = listed.rows(run)
    assert of(rows, "came", "resumed") == list(range(under_way))
    assert of(rows, "came", "bought") == list(range(under_way, 60))
    assert shop.counted() == {label: [item] for item, label in enumerate(labels(range(60)))}


# ---- kill -9


def test_kill_9_in_the_middle_of_a_list(shop: Shop, emulator: Emulator) -> None:
    """Of twenty some have come, two submits are not answered, some tasks run, and the others had no turn yet."""
    shop.allow(at_once=8)
    emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": 8, "times": 2, "do": {"hang": 120}})
    listed = SetOf(shop, 20)
    running = Running(shop.comfy, listed.graph)
    until(lambda: len(emulator.accepted) >= 12, "some tasks", 40)
    hold(emulator, "upscale")
    states = lambda: [task["state"] for task in tasks(shop.comfy)]  # noqa: E731
    until(lambda: states().count("submitted") == 6 and states().count("submitting") == 2, "two unanswered", 40)
    shop.comfy.kill()
    emulator.release()
    mend(emulator)
    before = len(emulator.accepted)
    assert 12 <= before < 20
    shop.comfy.start()

    first = listed.rows(running.prompt_id)
    assert [row["item"] for row in first] == list(range(before)), "the rows of those that had their turn"
    lines = shop.report(running.prompt_id)
    told = [line["outcome"] for line in lines]
    assert told.count("unclear") == 2
    assert told.count("waiting") == 6
    assert told.count("bought") == before - 8
    assert shop.counted() == {}
    unclear = [index for index, line in enumerate(lines) if line["outcome"] == "unclear"]

    with buys(emulator, 20 - before):
        run = listed.run()
    assert bought_once(emulator)
    rows = listed.rows(run)
    assert [row["attempt"] for row in rows[:before]] == [row["attempt"] for row in first]
    assert of(rows, "unclear") == unclear
    assert of(rows, "came", "reused") == [i for i, outcome in enumerate(told) if outcome == "bought"]
    assert of(rows, "came", "resumed") == [i for i, outcome in enumerate(told) if outcome == "waiting"]
    assert of(rows, "came", "bought") == list(range(before, 20))
    assert shop.counted() == {label: [i] for i, label in enumerate(labels(range(20))) if i not in unclear}
