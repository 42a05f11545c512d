"""Every example workflow headless, as users get it: with the profile `sandbox`, on ComfyUI's own picture.

What came out is looked at: how many pictures, their sizes, and what is in them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from devtools import demo
from devtools.comfyui.host import PACK_FOLDER, ComfyUI, Prompt, Result
from devtools.comfyui.workflow import to_prompt
from devtools.demo_parts import checks as demo_checks
from devtools.demo_parts.planned import planned
from tests.endpoints import PAID
from tests.host import examples
from tests.host.buying import tasks
from tests.host.prompts import Pixels, pixels
from tests.thinned import thinned

PASSED_ON = "passed on"  # the number of a node that saves what the last paid node was given
TITLE_BAR = 30
SECONDS = 180
# The check that the demo makes, and the nodes whose values it needs.
CHECKS: dict[str, tuple[demo_checks.Check, tuple[str, ...]]] = {
    "hidream_image_to_image": (demo_checks.restyled, ("HiDreamAPIImageToImage",)),
    "hidream_model_photo_set": (demo_checks.photo_set, ("HiDreamAPIModelPhotoSet",)),
    "hidream_outpaint": (demo_checks.outpainted_on_canvas, ("HiDreamAPIOutpaint",)),
    "hidream_upscale": (demo_checks.upscaled, ("HiDreamAPIUpscale",)),
    "volcengine_outpaint_canvas": (
        demo_checks.outpainted_by_mask,
        ("ImagePadForOutpaint", "VolcengineAPIOutpaintCanvas"),
    ),
    "volcengine_outpaint_sides": (demo_checks.outpainted_by_sides, ("VolcengineAPIOutpaint",)),
}
# By example, the node of an endpoint that came later: checked by what the node plans.
PLANNED = {paid.node.example: node for node, paid in PAID.items() if paid.node.example not in CHECKS}
PASTED = ("banner_from_a_square", "outpaint_any_size_hidream", "outpaint_any_size_volcengine")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return examples.picture("any")


@pytest.fixture
def run(comfy: ComfyUI) -> Callable[..., tuple[Prompt, Result]]:
    """Runs an example by its name; `changed` may edit the prompt before."""
    examples.write_checkpoints(comfy)

    def run(name: str, changed: Callable[[Prompt], None] = lambda prompt: None) -> tuple[Prompt, Result]:
        comfy.upload(examples.picture(name), "example.png")
        prompt = to_prompt(examples.load(name), comfy.object_info())
        changed(prompt)
        return prompt, comfy.run(prompt, timeout=SECONDS)

    return run


# ---- the files


def test_there_is_an_example_of_every_node_of_ours(comfy: ComfyUI) -> None:
    used = {node["type"] for name in examples.NAMES for node in examples.ours(examples.load(name))}
    module = f"custom_nodes.{PACK_FOLDER}"
    assert used == {node for node, info in comfy.object_info().items() if info["python_module"] == module}
    assert {*examples.RESULTS, *PLANNED} == set(examples.NAMES)


every_example = pytest.mark.parametrize("name", examples.NAMES)


@every_example
def test_only_core_nodes_beside_ours(name: str, comfy: ComfyUI) -> None:
    known = comfy.object_info()
    prompt = to_prompt(examples.load(name), known)
    modules = {known[node["class_type"]]["python_module"] for node in prompt.values()}
    others = {module for module in modules if module != "nodes" and not module.startswith("comfy_extras.")}
    assert others == {f"custom_nodes.{PACK_FOLDER}"}


@every_example
def test_can_be_tried_without_a_key(name: str) -> None:
    workflow = examples.load(name)
    with_widgets = [node for node in examples.ours(workflow) if node["widgets_values"]]
    profiles = {node["widgets_values"][0] for node in with_widgets if "Placement" not in node["type"]}
    assert {profile for profile in profiles if profile in ("default", "sandbox")} <= {"sandbox"}
    assert all(node["widgets_values"][0] == "sandbox" for node in examples.charged(workflow))


@every_example
def test_thumbnail(name: str) -> None:
    path = examples.FOLDER / f"{name}.jpg"
    assert path.stat().st_size <= 60_000
    with Image.open(path) as thumbnail:
        thumbnail.load()
        assert thumbnail.width == 512


@every_example
def test_says_in_both_languages_what_to_change(name: str) -> None:
    (note,) = [node for node in examples.load(name)["nodes"] if node["type"] == "MarkdownNote"]
    english, chinese = (lines for lines in note["widgets_values"][0].replace("\n\n**", " **").split("\n\n"))
    assert not _is_chinese(english)
    assert _is_chinese(chinese)
    # Both name the same widgets, files and values.
    assert set(english.split("`")[1::2]) == set(chinese.split("`")[1::2])


@every_example
def test_a_note_says_what_is_needed_before_it_runs(name: str) -> None:
    workflow = examples.load(name)
    (note,) = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    for words in ("**Needed first:**", "**需要先准备：**"):
        assert (words in note) is examples.needs_something(workflow)
    files = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "CheckpointLoaderSimple"]
    told = [paragraph for paragraph in note.split("\n\n") if "**Needed first:**" in paragraph]
    assert all(f"`{file}`" in told[0] for file in files)


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


@every_example
def test_nodes_lie_apart(name: str) -> None:
    """Each with its title bar above it."""
    places = [(*node["pos"], *node["size"]) for node in examples.load(name)["nodes"]]
    for (x, y, width, height), (other_x, other_y, other_width, other_height) in combinations(places, 2):
        beside = x + width <= other_x or other_x + other_width <= x
        assert beside or y + height <= other_y - TITLE_BAR or other_y + other_height <= y - TITLE_BAR


# ---- what they make


@pytest.mark.parametrize("name", [*CHECKS, *PLANNED])
def test_of_one_node(
    name: str, run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI, picture: Image.Image
) -> None:
    prompt, result = run(name)
    made = comfy.images(result)
    if name in CHECKS:
        assert [one.size for one in made] == examples.RESULTS[name]
        check, nodes = CHECKS[name]
        check(picture, _values(prompt, *nodes), made)
    else:
        node = PLANNED[name]
        demo_checks.as_planned(picture, planned(demo.NODES[node], _values(prompt, node), picture), made)
    assert len(tasks(comfy)) == 1


@thinned("name", PASTED, kept=(1,))
def test_every_pixel_of_the_original_is_in_the_result(
    name: str, run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI, picture: Image.Image
) -> None:
    prompt, result = run(name)
    (made,) = comfy.images(result)
    assert [made.size] == examples.RESULTS[name]
    (remote,) = [kind for kind in ("HiDreamAPIOutpaint", "VolcengineAPIOutpaint") if _has(prompt, kind)]
    values = _values(prompt, remote, "RemoteOutpaintPlacement")
    demo_checks.pasted_back(picture, values, [made])
    x, y = demo_checks.where(picture, values)
    assert _around(pixels(made), x, y, picture).std() > 1, "nothing was painted"


def test_a_banner_has_its_room_on_the_right(
    run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI, picture: Image.Image
) -> None:
    prompt, result = run("banner_from_a_square")
    (made,) = comfy.images(result)
    assert demo_checks.where(picture, _values(prompt, "RemoteOutpaintPlacement")) == (0, 0)
    assert np.array_equal(pixels(made)[:, : picture.width], pixels(picture))


def test_the_local_model_gets_a_frame_around_the_picture(
    run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI, picture: Image.Image
) -> None:
    _, result = run("outpaint_any_size_local")
    (made,) = comfy.images(result)
    assert [made.size] == examples.RESULTS["outpaint_any_size_local"]
    x, y = (made.width - picture.width) // 2, (made.height - picture.height) // 2
    assert np.array_equal(pixels(made)[y : y + picture.height, x : x + picture.width], pixels(picture))
    assert _around(pixels(made), x, y, picture).std() > 1
    assert tasks(comfy) == [], "nothing of it is remote"


def test_a_square_product_photo_becomes_a_set(
    run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI, picture: Image.Image
) -> None:
    """The whole product is in what the set is made from, in 3:4 and not cropped; each picture of the set shows it."""

    def save_what_the_set_gets(prompt: Prompt) -> None:
        (image,) = [node["inputs"]["image"] for node in prompt.values() if node["class_type"] == _SET]
        prompt[PASSED_ON] = {"class_type": "SaveImage", "inputs": {"images": image, "filename_prefix": "passed_on"}}

    prompt, result = run("product_photo_to_model_set", save_what_the_set_gets)
    (given,) = comfy.images(result, PASSED_ON)
    (saved,) = [number for number in result.outputs if number != PASSED_ON and result.files(number)]
    made = comfy.images(result, saved)
    assert given.size == (768, 1024)
    assert np.array_equal(pixels(given)[128:896], pixels(picture))
    assert _around(pixels(given), 0, 128, picture).std() > 1
    assert [one.size for one in made] == examples.RESULTS["product_photo_to_model_set"]
    demo_checks.photo_set(given, _values(prompt, _SET), made)
    for one in made:
        # The stand-in hangs the photo up in front of a wall: whole or closer, as it is or mirrored.
        hung = one.crop((one.width * 8 // 100, one.height * 8 // 100, one.width * 92 // 100, one.height * 92 // 100))
        closer = given.crop((given.width // 8, 0, given.width * 7 // 8, given.height * 3 // 4))
        both_ways = (hung, hung.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        assert max(_likeness(shown, photo) for shown in both_ways for photo in (given, closer)) > 0.8
    assert sorted(task["endpoint"] for task in tasks(comfy)) == ["hidream model photo set", "hidream outpaint"]


@pytest.mark.thorough
def test_an_old_photo_is_enlarged_and_gone_over_lightly(
    run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI
) -> None:
    """It is still that photo, and not just what came from the service."""

    def save_what_came(prompt: Prompt) -> None:
        (upscale,) = [number for number, node in prompt.items() if node["class_type"] == "HiDreamAPIUpscale"]
        inputs = {"images": [upscale, 0], "filename_prefix": "passed_on"}
        prompt[PASSED_ON] = {"class_type": "SaveImage", "inputs": inputs}

    name = "old_photo_upscale_and_refine"
    picture = examples.picture(name)
    _, result = run(name, save_what_came)
    (came,) = comfy.images(result, PASSED_ON)
    (refined,) = [one for number in result.outputs if number != PASSED_ON for one in comfy.images(result, number)]
    assert [refined.size] == examples.RESULTS[name]
    demo_checks.upscaled(picture, {"upscale_ratio": 2}, [came])
    assert _likeness(refined, picture) > 0.9
    assert np.abs(pixels(refined).astype(np.int16) - pixels(came)).mean() > 0.5, "the local model changed nothing"
    assert [task["endpoint"] for task in tasks(comfy)] == ["hidream upscale"]


def test_a_paid_task_is_fetched_again(run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI) -> None:
    _, result = run(examples.BOUGHT_FOR_IT)
    (bought,) = comfy.images(result)
    [task] = tasks(comfy)

    def enter_its_id(prompt: Prompt) -> None:
        (node,) = [node for node in prompt.values() if node["class_type"] == "RemoteTaskResult"]
        node["inputs"]["task_id"] = task["journal_id"]

    _, result = run(examples.FETCH, enter_its_id)
    (fetched,) = comfy.images(result)
    assert [fetched.size] == examples.RESULTS[examples.FETCH]
    assert np.array_equal(pixels(fetched), pixels(bought))
    assert [one["journal_id"] for one in tasks(comfy)] == [task["journal_id"]], "nothing was bought for it"


def test_without_a_task_id_it_says_so(run: Callable[..., tuple[Prompt, Result]], comfy: ComfyUI) -> None:
    prompt = to_prompt(examples.load(examples.FETCH), comfy.object_info())
    result = comfy.run(prompt, expect="error")
    assert "task_id is empty" in result.error["exception_message"]


_SET = "HiDreamAPIModelPhotoSet"


def _has(prompt: Prompt, kind: str) -> bool:
    return any(node["class_type"] == kind for node in prompt.values())


def _values(prompt: Prompt, *kinds: str) -> dict[str, object]:
    """The widgets of these nodes, the later ones winning."""
    nodes = [node for kind in kinds for node in prompt.values() if node["class_type"] == kind]
    return {name: value for node in nodes for name, value in node["inputs"].items() if not isinstance(value, list)}


def _around(made: Pixels, x: int, y: int, original: Image.Image) -> Pixels:
    """All pixels but the original's own."""
    new = np.ones(made.shape[:2], bool)
    new[y : y + original.height, x : x + original.width] = False
    return made[new]


def _likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of the two, seen from afar."""
    small = [np.asarray(each.convert("L").resize((32, 32)), np.float64).ravel() for each in (one, other)]
    return float(np.corrcoef(*small)[0, 1])
