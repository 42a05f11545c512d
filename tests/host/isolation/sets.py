"""Sets of product photographs: a profile with a budget, workflows of a list or a batch, and the rows of a run."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from devtools.comfyui.host import ComfyUI, Prompt, Result
from emulator import Emulator
from tests.host.buying import journal_folder
from tests.host.prompts import Graph, Link, Node, Pixels
from tests.host.routes.test_task_list import ask, token

PROBE = '''
import importlib
import json
import sys
from pathlib import Path

import folder_paths
import numpy as np
import torch


def grid(seed):
    """The colours of a photograph: 4 rows of 3."""
    return np.random.default_rng(seed).integers(0, 256, (4, 3, 3), np.uint8)


class Set:
    """`count` photographs of 48x64 as a list, with their labels, and as a batch; after `different` they repeat."""

    RETURN_TYPES = ("IMAGE", "STRING", "IMAGE")
    OUTPUT_IS_LIST = (True, True, False)
    FUNCTION = "make"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {}), "first": ("INT", {}), "different": ("INT", {})}}

    def make(self, count, first, different):
        photos = [np.kron(grid(first + index % different), np.ones((16, 16, 1))) for index in range(count)]
        batch = torch.from_numpy(np.stack(photos).astype(np.float32) / 255)
        return ([batch[index : index + 1] for index in range(count)], [f"SKU-{i:02d}" for i in range(count)], batch)


class Spoil:
    """Makes the photograph with this label one that no node takes: not a number in each pixel."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "spoil"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {}), "label": ("STRING", {"forceInput": True}), "bad": ("STRING", {})}}

    def spoil(self, image, label, bad):
        return (image * float("nan") if label == bad else image,)


class Break:
    """Lets the pack fail once to make an IMAGE of bought pixels, as if there were no memory for it."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "break_once"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"take": ("INT", {})}}

    def break_once(self, take):
        paid = next(name for name in sys.modules if name.endswith(".nodes.paid"))
        tensors = importlib.import_module(paid.removesuffix("nodes.paid") + "api.pixels.tensors")
        whole = tensors.image_tensor

        def no_memory(pictures):
            tensors.image_tensor = whole
            raise MemoryError

        tensors.image_tensor = no_memory
        return (take,)


class Paid:
    """Counts its runs, as another pack's paid node would: one line for each, with the label and the colours."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "count"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {}), "label": ("STRING", {"forceInput": True})}}

    def count(self, image, label):
        image = torch.nn.functional.adaptive_avg_pool2d(image[..., :3].movedim(-1, 1), (4, 3)).movedim(1, -1)
        line = json.dumps({"label": label, "grids": (image * 255).round().int().tolist()})
        with (Path(folder_paths.get_output_directory()) / "counted.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\\n")
        return {"ui": {"text": [label]}}


NODE_CLASS_MAPPINGS = {"TestBreak": Break, "TestPaid": Paid, "TestSet": Set, "TestSpoil": Spoil}
'''

PROFILE = "shop"
PRICE, CURRENCY = "0.22", "CNY"
REST = "return the rest"
BATCH = "the batch"
MOST = 100
"""Photographs that :func:`whose` knows."""
Row = dict[str, Any]


class Shop:
    """A ComfyUI whose profile ``shop`` buys, and what its nodes behind the paid ones have counted."""

    def __init__(self, comfy: ComfyUI) -> None:
        self.comfy = comfy
        self._prices = {"price_hidream_upscale": PRICE, "price_volcengine_outpaint": PRICE, "prices_currency": CURRENCY}

    def found(self, url: str, **keys: str) -> None:
        hosts = ("hidream_base_url", "hidream_ec_base_url", "volcengine_base_url", "volcengine_gateway_base_url")
        self._order("add", settings=dict.fromkeys(hosts, url), keys=keys)

    def allow(self, *, a_run: int = 0, at_once: int = 0) -> None:
        """Set the budget of a run in pictures, and how many tasks run at once; 0: no limit."""
        limits = {"pictures_per_run": a_run, "hidream_at_once": at_once, "volcengine_at_once": at_once}
        no_rates = {"hidream_outpaint_per_minute": 0, "hidream_img2img_per_minute": 0, "polls_per_second": 0}
        self._order("change", settings={**limits, **no_rates, **self._prices})

    def _order(self, what: str, **body: Any) -> None:
        revision = ask(self.comfy, "/profiles").json()["revision"]
        shown = {"X-Remote-Image-Token": token(self.comfy)}
        body = {"revision": revision, "name": PROFILE, **body}
        answer = ask(self.comfy, f"/profiles/{what}", "POST", json=body, headers=shown, timeout=30)
        assert answer.status_code == 200, answer.text

    @property
    def _counted(self) -> Any:
        return self.comfy.base / "output" / "counted.jsonl"

    def forget_counts(self) -> None:
        self._counted.unlink(missing_ok=True)

    def counted(self) -> dict[str, list[int]]:
        """By label, whose pictures the node behind got since the last call; no label came twice."""
        lines = self._counted.read_text(encoding="utf-8").splitlines() if self._counted.exists() else []
        self.forget_counts()
        found = [json.loads(line) for line in lines]
        labels = [each["label"] for each in found]
        assert len(labels) == len(set(labels)), f"run twice: {labels}"
        return {each["label"]: [whose(np.array(grid)) for grid in each["grids"]] for each in found}

    def submit_again(self, attempt: str) -> None:
        shown = {"X-Remote-Image-Token": token(self.comfy)}
        answer = ask(self.comfy, f"/tasks/{attempt}/submit-again", "POST", json={}, headers=shown)
        assert answer.status_code == 200, answer.text

    # The rows of a run

    def rows(self, run: Result | str) -> list[Row]:
        """The table's rows of a run, in order, each with the task id of its attempt."""
        run = run if isinstance(run, str) else run.prompt_id
        with closing(sqlite3.connect(journal_folder(self.comfy) / "journal.sqlite3", timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(
                "SELECT run_items.*, attempts.task_id FROM run_items LEFT JOIN attempts ON attempts.id = attempt"
                " WHERE run = ? ORDER BY node, item, part",
                (run,),
            )
            return [dict(row) | {"outcome": row["outcome"].lower().replace("_", " ")} for row in found]

    def report(self, run: Result | str) -> list[dict[str, str]]:
        """The lines of a run's report, in English."""
        run = run if isinstance(run, str) else run.prompt_id
        text = ask(self.comfy, f"/report?run={run}&language=en").content.decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))


class SetOf:
    """A workflow: ``count`` photographs through a paid node to another paid node, as a list or as a batch.

    Args:
        first: the number of the first photograph; other sets have other photographs.
        different: how many photographs there are until they repeat; 0: all are different.
    """

    def __init__(
        self,
        shop: Shop,
        count: int,
        class_type: str = "HiDreamAPIUpscale",
        *,
        first: int = 0,
        different: int = 0,
        as_list: bool = True,
        on_partial: str = REST,
        **widgets: Any,
    ) -> None:
        self.shop = shop
        self.graph = graph = Graph(shop.comfy)
        photos = graph.add("TestSet", count=count, first=first, different=different or count)
        self.photos: Link = photos[0 if as_list else 2]
        self.labels: Link = photos[1]
        more = {"label": photos[1]} if as_list else {}
        self.node: Node = graph.paid(
            class_type, self.photos, profile=PROFILE, on_partial=on_partial, **{**more, **widgets}
        )
        graph.add("TestPaid", image=self.node[0], label=photos[1] if as_list else BATCH)

    @property
    def prompt(self) -> Prompt:
        return self.graph.prompt

    def change(self, **widgets: Any) -> None:
        self.prompt[self.node.id]["inputs"].update(widgets)

    def run(self, **more: Any) -> Result:
        return self.shop.comfy.run(self.prompt, timeout=120, **more)

    def rows(self, run: Result | str) -> list[Row]:
        """Those of the paid node, which must be all."""
        rows = self.shop.rows(run)
        assert {row["node"] for row in rows} <= {self.node.id}
        return rows

    def ran(self, run: Result) -> bool:
        """Whether ComfyUI ran the paid node in this run, instead of taking its outputs from its cache."""
        cached = [node for event in run.of_type("execution_cached") for node in event.data["nodes"]]
        return self.node.id not in cached

    def accounts(self, run: Result) -> list[dict[str, Any]]:
        return list(run.outputs[self.node.id]["account"])

    def plan(self, run: Result) -> dict[str, Any] | None:
        """What the page was told before the first submit."""
        events = [event for event in run.of_type("hidream_volcengine.progress") if event.data["node"] == self.node.id]
        return next((event.data["plan"] for event in events if event.data["plan"]), None)


_GRIDS = np.stack([np.random.default_rng(number).integers(0, 256, (4, 3, 3), np.uint8) for number in range(MOST)])


def whose(grid: Pixels) -> int:
    """The number of the photograph whose colours are nearest."""
    return int(np.abs(_GRIDS.astype(int) - grid.astype(int)).sum((1, 2, 3)).argmin())


def original(number: int) -> Pixels:
    return np.kron(_GRIDS[number], np.ones((16, 16, 1), np.uint8))


def outcomes(rows: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(row["outcome"] for row in rows))


def of(rows: Iterable[Row], outcome: str, source: str = "") -> list[int]:
    """The numbers of the items with this outcome (and this source)."""
    return [row["item"] for row in rows if row["outcome"] == outcome and source in ("", row["source"])]


def labels(items: Iterable[int]) -> list[str]:
    return [f"SKU-{item:02d}" for item in items]


COUNTS = ("bought", "resumed", "reused", "refused", "failed", "unclear", "waiting", "not_submitted")


def summed(accounts: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The entries of all items, added up; without what is 0."""
    total: Counter[str] = Counter()
    for entry in accounts:
        total.update({name: entry[name] for name in COUNTS})
    return {name: number for name, number in total.items() if number}


def bought_once(emulator: Emulator) -> bool:
    """Whether no request was accepted twice."""
    bodies = [
        json.dumps({name: value for name, value in record.body.items() if name != "request_id"}, sort_keys=True)
        for record in emulator.accepted
    ]
    return len(bodies) == len(set(bodies))
