"""What the server's owner allows: a budget a run and a day, counted in pictures; and nothing more after a wrong key.

The ComfyUI of this file may buy 3 pictures a run and 5 a day, has a wrong key for Volcengine, and asks it one call at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devtools.comfyui.host import ComfyUI
from emulator import Emulator
from tests.host.buying import REUSED, Bought, buys, mend, sends_nothing, start_over, tasks, together, until_states
from tests.host.prompts import Graph, failed, photo, submits, until
from tests.thinned import thinned

A_RUN, A_DAY = "REMOTE_IMAGE_PICTURES_PER_RUN", "REMOTE_IMAGE_PICTURES_PER_DAY"


@pytest.fixture(scope="module")
def thrifty_comfyui(tmp_path_factory: pytest.TempPathFactory, service_environment: dict[str, str]) -> Iterator[ComfyUI]:
    chosen = {A_RUN: "3", A_DAY: "5", "VOLCENGINE_GATEWAY_API_KEY": "wrong", "REMOTE_IMAGE_VOLCENGINE_AT_ONCE": "1"}
    base = tmp_path_factory.mktemp("thrifty")
    with ComfyUI(base, environment=service_environment | chosen, preloaded=True) as comfyui:
        yield comfyui


@pytest.fixture
def thrifty(thrifty_comfyui: ComfyUI, emulator: Emulator) -> ComfyUI:
    start_over(thrifty_comfyui, emulator)
    return thrifty_comfyui


# ---- budget


def over_budget(comfy: ComfyUI, prompt: dict[str, Any], variable: str, *numbers: int) -> None:
    """Both languages name the variable and the numbers."""
    told = failed(comfy, prompt, "QuotaError")["exception_message"]
    for words in told.strip().split("\n"):
        assert variable in words
        assert [number for number in numbers if str(number) not in words] == [], words
    assert "Billed: no" in told


@thinned(
    ("class_type", "seeds", "widgets"),
    [
        ("HiDreamAPIUpscale", (1, 2, 3, 4), {}),
        ("HiDreamAPIOutpaint", (1, 2), {"variants": 2}),
        ("HiDreamAPIImageToImage", (1,), {"img_count": 4}),
        ("VolcengineAPIOutpaint", (1,), {"variants": 4}),
    ],
    kept=(0, 2),
)
def test_four_pictures_are_over_the_budget_of_a_run(
    thrifty: ComfyUI, emulator: Emulator, class_type: str, seeds: tuple[int, ...], widgets: dict[str, int]
) -> None:
    over_budget(thrifty, Bought(thrifty, class_type, *seeds, **widgets).graph.prompt, A_RUN, 3, 4)
    assert emulator.requests == []


def test_the_nodes_of_a_run_share_its_budget(thrifty: ComfyUI, emulator: Emulator) -> None:
    two, three = Bought(thrifty, "HiDreamAPIUpscale", 1, 2), Bought(thrifty, "HiDreamAPIOutpaint", 1, 2, 3)
    # The other node may have its pictures before this one is refused.
    refused = thrifty.run(together(two, three), expect="error")
    assert refused.error["exception_type"] == "hidream_volcengine.QuotaError"
    assert emulator.billed <= 3
    with buys(emulator, 2 + 3 - len(emulator.accepted)):
        two.run()
        three.run()
    assert emulator.billed == 5


def test_a_mapped_list_stops_at_the_budget(thrifty: ComfyUI, emulator: Emulator) -> None:
    """ComfyUI runs the node once for each item, all of them side by side in one run."""
    graph = Graph(thrifty)
    batch = graph.image(*(photo(32, 32, seed) for seed in range(5)))
    listed = graph.add("RebatchImages", images=batch, batch_size=1)
    saved = graph.save(graph.add("HiDreamAPIUpscale", image=listed[0])[0])
    over_budget(thrifty, graph.prompt, A_RUN, 3, 1)
    first = len(submits(emulator))
    assert first == emulator.billed <= 3
    # The next run has a budget of its own, and pays only for what is still missing.
    while len(emulator.accepted) < 5:
        before = len(emulator.accepted)
        thrifty.run(graph.prompt, expect=None)
        assert before < len(emulator.accepted) <= before + 3
    thrifty.forget_results()
    assert len(thrifty.images(thrifty.run(graph.prompt), saved)) == 5
    assert emulator.billed == 5


def test_a_day_has_a_budget_too(thrifty: ComfyUI, emulator: Emulator) -> None:
    three = Bought(thrifty, "HiDreamAPIUpscale", 1, 2, 3)
    pictures = three.run()
    assert len(pictures) == 3
    with sends_nothing(emulator):
        over_budget(thrifty, Bought(thrifty, "HiDreamAPIOutpaint", 1, 2, 3).graph.prompt, A_DAY, 5, 3)
    with buys(emulator, 2):
        Bought(thrifty, "HiDreamAPIUpscale", 4, 5).run()
    with sends_nothing(emulator):
        over_budget(thrifty, Bought(thrifty, "HiDreamAPIUpscale", 6).graph.prompt, A_DAY, 5, 1)
        three.run()
    assert three.says(REUSED), "what was bought costs nothing"


def test_a_run_without_an_id_has_a_budget_of_its_own(thrifty: ComfyUI, emulator: Emulator) -> None:
    """`POST /prompt` takes an empty `prompt_id`, but not in newer ComfyUIs."""

    def run(*seeds: int) -> None:
        prompt = Bought(thrifty, "HiDreamAPIUpscale", *seeds).graph.prompt
        answer = thrifty.request("POST", "/prompt", json={"prompt": prompt, "prompt_id": ""}, check=False)
        if answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_prompt_id":
            pytest.skip("this ComfyUI refuses an empty prompt_id: every run has an id")
        answer.raise_for_status()
        until(lambda: thrifty.request("GET", "/prompt").json()["exec_info"]["queue_remaining"] == 0, "the run ends")

    run(1, 2, 3, 4)
    assert emulator.requests == []
    run(1, 2)
    run(3, 4)
    assert emulator.billed == 4


def test_what_was_refused_is_given_back(thrifty: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault({"phase": "submit", "times": None, "do": {"status": 400}})
    three = Bought(thrifty, "HiDreamAPIUpscale", 1, 2, 3)
    failed(thrifty, three.graph.prompt, "ServiceError")
    assert sum(task["pictures"] for task in tasks(thrifty)) == len(emulator.accepted)
    mend(emulator)
    assert len(three.run()) == 3


def test_a_node_says_how_much_it_buys_before_it_does(thrifty: ComfyUI, emulator: Emulator) -> None:
    read = len(thrifty.log())
    workflow = Bought(thrifty, "HiDreamAPIUpscale", 1, 2)
    workflow.run()
    log = thrifty.log()[read:]
    assert 0 < log.index("this node buys 2 picture(s)") < log.index("accepted: ")
    told = [event.data["text"] for event in workflow.result.of_type("progress_text")]
    assert any("buys 2 购买 2 张" in text for text in told), told


# ---- a wrong key


def test_after_a_wrong_key_nothing_more_is_submitted(thrifty: ComfyUI, emulator: Emulator) -> None:
    """Three nodes side by side, one call at a time: the first answer is the last."""
    workflows = [Bought(thrifty, "VolcengineAPIOutpaint", seed) for seed in range(3)]
    failed(thrifty, together(*workflows), "AuthenticationError")
    assert [submit.status for submit in submits(emulator)] == [401]
    # The next run tries again: the key may have been mended.
    failed(thrifty, workflows[1].graph.prompt, "AuthenticationError")
    assert [submit.status for submit in submits(emulator)] == [401, 401]


def test_nor_in_a_node_of_several_calls(thrifty: ComfyUI, emulator: Emulator) -> None:
    failed(thrifty, Bought(thrifty, "VolcengineAPIOutpaint", variants=3).graph.prompt, "AuthenticationError")
    assert [submit.status for submit in submits(emulator)] == [401]
    assert sum(task["pictures"] for task in tasks(thrifty)) == 0


def test_the_other_services_node_of_that_run_buys_nothing_either(thrifty: ComfyUI, emulator: Emulator) -> None:
    emulator.add_fault(
        {"endpoint": "upscale", "phase": "submit", "do": {"status": 429, "headers": {"Retry-After": "30"}}}
    )
    failed(thrifty, together(Bought(thrifty), Bought(thrifty, "VolcengineAPIOutpaint")), "AuthenticationError")
    until_states(thrifty, "refused", "cancelled")
    assert emulator.accepted == []
