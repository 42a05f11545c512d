"""One batch of which some pictures do not come: what came stays with its originals, and the second run."""

from __future__ import annotations

import numpy as np

from emulator import Emulator
from tests.host.buying import buys, mend, sends_nothing
from tests.host.isolation.sets import BATCH, PROFILE, REST, SetOf, Shop, bought_once, original, outcomes, summed, whose
from tests.host.prompts import Graph, Pixels, fields_of, pixels
from tests.thinned import thinned

IMAGE, MASK, PLACEMENT = range(3)


def test_a_batch_over_the_budget_with_pictures_missing(shop: Shop, emulator: Emulator) -> None:
    shop.allow(a_run=9)
    for skip, times, do in [(2, 2, {"task_status": [4]}), (6, 1, {"reset": "after"})]:
        emulator.add_fault({"endpoint": "upscale", "phase": "submit", "skip": skip, "times": times, "do": do})
    batch = SetOf(shop, 12, as_list=False, label="night")
    with buys(emulator, 9):
        run = batch.run()
    rows = batch.rows(run)
    assert [(row["item"], row["part"], row["label"]) for row in rows] == [(0, part, "night") for part in range(12)]
    assert outcomes(rows) == {"came": 6, "failed": 2, "unclear": 1, "not submitted": 3}
    assert [row["part"] for row in rows if row["outcome"] == "not submitted"] == [9, 10, 11]
    came = [row["part"] for row in rows if row["outcome"] == "came"]
    assert shop.counted() == {BATCH: came}
    assert summed(batch.accounts(run)) == {"bought": 6, "failed": 2, "unclear": 1, "not_submitted": 3}
    assert [line["item"].lstrip("'") for line in shop.report(run)] == [f"1.{part + 1}" for part in range(12)]
    plan = batch.plan(run)
    assert plan is not None
    assert (plan["wanted"], plan["allowed"]) == (12, 9)

    mend(emulator)
    with buys(emulator, 3):
        again = batch.run()
    assert bought_once(emulator)
    assert [row["source"] for row in batch.rows(again)] == [*(row["source"] and "reused" for row in rows[:9]),
                                                            *["bought"] * 3]  # fmt: skip
    assert shop.counted() == {BATCH: [*came, 9, 10, 11]}
    with sends_nothing(emulator):
        third = batch.run()
    assert not batch.ran(third)
    assert shop.counted() == {}


def cut(picture: Pixels, place: dict[str, int]) -> Pixels:
    return picture[place["y"] : place["y"] + place["height"], place["x"] : place["x"] + place["width"]]


def colours(picture: Pixels) -> Pixels:
    """The mean colours of 4 rows of 3 cells."""
    rows = [np.array_split(row, 3, axis=1) for row in np.array_split(picture, 4)]
    return np.array([[cell.mean((0, 1)) for cell in row] for row in rows])


@thinned(
    ("class_type", "endpoint", "moderated"),
    [
        ("VolcengineAPIOutpaint", "cvprocess", {"vendor_code": 50411}),
        ("VolcengineAPIOutpaint", "cvprocess", {"vendor_code": 50511}),
        ("VolcengineAPIOutpaintCanvas", "cvprocess", {"vendor_code": 50411}),
        ("HiDreamAPIOutpaint", "outpaint", {"task_status": [4]}),
    ],
    kept=(0, 2),
)
def test_each_picture_is_pasted_with_its_own_original(
    shop: Shop, emulator: Emulator, class_type: str, endpoint: str, moderated: dict[str, object]
) -> None:
    """Four originals in two variants, of which the second of the second one is moderated."""
    shop.allow(at_once=1)
    emulator.add_fault({"endpoint": endpoint, "phase": "submit", "skip": 3, "do": moderated})
    batch = SetOf(shop, 4, class_type, as_list=False, variants=2)
    originals_slot = last_output(shop, class_type)
    graph, node = batch.graph, batch.node
    pasted = graph.add(
        "RemoteOutpaintPasteBack", generated=node[IMAGE], original=node[originals_slot], placement=node[PLACEMENT]
    )
    saved = {name: graph.save(link) for name, link in [
        ("pasted", pasted[0]), ("generated", node[IMAGE]), ("originals", node[originals_slot]),
    ]}  # fmt: skip
    masks, shown, canvas = graph.save_mask(node[MASK]), graph.show(node[PLACEMENT]), graph.show(pasted[2])
    run = batch.run()
    expected = [0, 0, 1, 2, 2, 3, 3]
    assert [row["outcome"] == "came" for row in batch.rows(run)] == [part != 3 for part in range(8)]
    pictures = {name: [pixels(picture) for picture in shop.comfy.images(run, id_)] for name, id_ in saved.items()}
    assert [whose(colours(picture)) for picture in pictures["originals"]] == expected
    assert len(shop.comfy.images(run, masks)) == 1, "one mask fits all"
    place = fields_of(run.texts(shown)[0])
    assert [whose(colours(cut(picture, place))) for picture in pictures["generated"]] == expected
    assert len(pictures["pasted"]) == len(expected)
    assert run.texts(canvas)
    for number, picture in zip(expected, pictures["pasted"], strict=True):
        assert contains(picture, original(number)), f"the pixels of original {number}"


def test_the_masks_are_those_of_the_pictures_that_came(shop: Shop, emulator: Emulator) -> None:
    """Each image has a mask of its own, which is new on one side; the second variant of the second is moderated."""
    shop.allow(at_once=1)
    emulator.add_fault({"endpoint": "cvprocess", "phase": "submit", "skip": 3, "do": {"vendor_code": 50411}})
    graph = Graph(shop.comfy)
    whole = slice(None)
    sides = [(whole, slice(16)), (whole, slice(32, 48)), (slice(16), whole), (slice(48, 64), whole)]
    greys = [np.zeros((64, 48), np.uint8) for _ in sides]
    for grey, side in zip(greys, sides, strict=True):
        grey[side] = 255
    photos = graph.add("TestSet", count=4, first=0, different=4)
    node = graph.add(
        "VolcengineAPIOutpaintCanvas", image=photos[2], mask=graph.mask(*greys), variants=2, on_partial=REST,
        profile=PROFILE,
    )  # fmt: skip
    masks, originals = graph.save_mask(node[MASK]), graph.save(node[last_output(shop, "VolcengineAPIOutpaintCanvas")])
    pictures = graph.save(node[IMAGE])
    run = shop.comfy.run(graph.prompt)
    expected = [0, 0, 1, 2, 2, 3, 3]
    assert [whose(colours(pixels(picture))) for picture in shop.comfy.images(run, originals)] == expected
    assert len(shop.comfy.images(run, pictures)) == len(expected)
    came = [pixels(mask)[..., 0] for mask in shop.comfy.images(run, masks)]
    assert [[np.array_equal(mask, grey) for grey in greys].index(True) for mask in came] == expected


def last_output(shop: Shop, class_type: str) -> int:
    outputs = shop.comfy.request("GET", f"/object_info/{class_type}").json()[class_type]["output_name"]
    assert outputs[-1] == "originals"
    return len(outputs) - 1


def contains(picture: Pixels, part: Pixels) -> bool:
    """Whether the part's pixels stand somewhere in the picture, each as it was."""
    height, width = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width), (0, 1))
    return any(
        np.array_equal(windows[y, x].transpose(1, 2, 0), part)
        for y, x in np.argwhere((windows[..., 0, 0] == part[0, 0]).all(-1))
    )


def test_without_any_picture_the_batch_is_skipped(shop: Shop, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"vendor_code": 50411}})
    batch = SetOf(shop, 3, "VolcengineAPIOutpaint", as_list=False)
    run = batch.run()
    assert shop.counted() == {}
    assert outcomes(batch.rows(run)) == {"refused": 3}
    assert summed(batch.accounts(run)) == {"refused": 3}


def test_each_picture_of_a_set_has_the_label_of_its_photograph(shop: Shop, emulator: Emulator) -> None:
    """Of a list as it is, of a batch with the number of the photograph; and of a task that is fetched again."""
    graph = Graph(shop.comfy)
    photos = graph.add("TestSet", count=2, first=0, different=2)
    listed = graph.paid("HiDreamAPIModelPhotoSet", photos[0], profile=PROFILE, label=photos[1])
    batch = graph.paid("HiDreamAPIModelPhotoSet", photos[2], profile=PROFILE, label="night", take=1)
    shown = [graph.show(node[1]) for node in (listed, batch)]
    saved = [graph.save(node[0]) for node in (listed, batch)]
    run = shop.comfy.run(graph.prompt)
    for node, names, of_one in zip(shown, (["SKU-00", "SKU-01"], ["night_1", "night_2"]), saved, strict=True):
        each = len(shop.comfy.images(run, of_one)) // 2
        assert each > 1
        assert run.texts(node) == [name for name in names for _ in range(each)]
    task = next(row for row in shop.rows(run) if row["label"] == "SKU-01")
    again = Graph(shop.comfy)
    fetched = again.add("RemoteTaskResult", profile=PROFILE, task_id=task["attempt"])
    shown_again, _ = again.show(fetched[1]), again.save(fetched[0])
    with sends_nothing(emulator):
        assert set(shop.comfy.run(again.prompt).texts(shown_again)) == {"SKU-01"}
