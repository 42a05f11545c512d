"""Padding with a feathered mask: the node Outpaint Placement beside ComfyUI's ImagePadForOutpaint."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from api import geometry, padding
from benchmarks import Case, Table, side_by_side
from devtools.comfyui import checkout

TITLE = "padding with a feathered mask, beside ComfyUI's ImagePadForOutpaint"

# Width and height of the original, pixels added on each side, and pixels of feathering.
_SIZES = ((512, 512, 128, 40), (1024, 1024, 256, 40), (1920, 1280, 320, 80), (6000, 4000, 512, 200))

Padded = tuple[NDArray[np.float32], NDArray[np.float32]]


def table() -> Table:
    return side_by_side(TITLE, _cases())


def _cases() -> Iterator[Case]:
    node = _comfyuis_node()
    for width, height, sides, feathering in _SIZES:
        original = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
        yield _case(node, original, sides, feathering)


def _case(node: Any, original: NDArray[np.float32], sides: int, feathering: int) -> Case:
    height, width = original.shape[:2]

    def ours() -> Padded:
        placement = geometry.pad(width, height, sides, sides, sides, sides)
        canvas = np.empty((placement.canvas_height, placement.canvas_width, 3), np.float32)
        padding.pad_into(canvas, original, placement, "grey")
        return canvas, padding.feathered_mask(placement, feathering)

    def comfyuis() -> Padded:
        image, mask = node.expand_image(torch.from_numpy(original)[None], sides, sides, sides, sides, feathering)
        return image[0].numpy(), mask[0].numpy()

    return Case(f"{width}×{height} + {sides} a side, feathering {feathering}", ours, comfyuis, _same)


def _same(ours: Padded, comfyuis: Padded) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(ours, comfyuis, strict=True))


def _comfyuis_node() -> Any:
    # In front of our own folder, which has a package `nodes`, too.
    sys.path.insert(0, str(checkout.ensure()))
    importlib.import_module("comfy.cli_args").args.cpu = True
    logging.getLogger().setLevel(logging.ERROR)  # ComfyUI warns of missing packages that are not needed here
    return importlib.import_module("nodes").ImagePadForOutpaint()
