"""Remote nodes of a prompt, calls of a batch and items of a list are sent side by side."""

from __future__ import annotations

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.prompts import Graph, overlap, photo, remote, submits

# Seconds that each submit takes: on a busy machine the last of several begins late, and all must be under way at once.
LASTING = 3.0


@pytest.mark.parametrize(
    "class_types",
    [
        ("HiDreamAPIOutpaint", "VolcengineAPIOutpaint"),
        ("HiDreamAPIOutpaint", "HiDreamAPIImageToImage", "HiDreamAPIUpscale", "HiDreamAPIModelPhotoSet"),
        ("VolcengineAPIOutpaint",) * 4,
    ],
)
def test_remote_nodes_of_one_graph_run_side_by_side(
    comfy: ComfyUI, emulator: Emulator, class_types: tuple[str, ...]
) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"delay": LASTING}})
    graph = Graph(comfy)
    for seed, class_type in enumerate(class_types):
        remote(graph, class_type, seed)
    comfy.run(graph.prompt)
    assert len(submits(emulator)) == len(class_types)
    assert overlap(submits(emulator))


def test_the_calls_of_one_batch_run_side_by_side(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"delay": LASTING}})
    graph = Graph(comfy)
    node = graph.add("HiDreamAPIOutpaint", image=graph.image(photo(64, 64), photo(64, 64, 1)), variants=4)
    graph.save(node[0])
    comfy.run(graph.prompt)
    assert len(submits(emulator)) == 8
    assert overlap(submits(emulator))


def test_a_list_is_mapped_side_by_side(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"delay": LASTING}})
    graph = Graph(comfy)
    batch = graph.image(*(photo(32, 32, seed) for seed in range(4)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    node = graph.add("VolcengineAPIOutpaint", image=listed[0])
    saved = graph.save(node[0])
    result = comfy.run(graph.prompt)
    assert len(comfy.images(result, saved)) == 4
    assert len(submits(emulator)) == 4
    assert overlap(submits(emulator))
    assert result.texts(node.id) == []


@pytest.mark.service_sizes
def test_words_of_a_mapped_list_come_together(comfy: ComfyUI) -> None:
    """ComfyUI wants the same ui keys from every item: one that has nothing to say must not break it."""
    graph = Graph(comfy)
    photos = graph.add("HiDreamAPIModelPhotoSet", image=graph.image(photo(300, 400)))
    node = graph.add("HiDreamAPIOutpaint", image=photos[0], canvas_width=1024, canvas_height=1024, ratio=1.0)
    saved = graph.save(node[0])
    # 768×1024 fills the height as it is; 900×1200 is reduced to that.
    result = comfy.run(graph.prompt)
    assert len(comfy.images(result, saved)) == 4
    assert ["900×1200 to 768×1024" in text for text in result.texts(node.id)] == [True, True]


def test_sixteen_nodes_take_hardly_longer_than_one(comfy: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"delay": 2 * LASTING}})
    graph = Graph(comfy)
    for seed in range(16):
        remote(graph, "HiDreamAPIUpscale", seed)
    result = comfy.run(graph.prompt)
    assert len(submits(emulator)) == 16
    assert overlap(submits(emulator))
    assert len(result.files()) == 16
