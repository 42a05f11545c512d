"""What the host tests share: graphs in ComfyUI's API format, test pictures, and waiting for a condition."""

from __future__ import annotations

import ast
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from devtools.comfyui.host import ComfyUI, Prompt, Result
from emulator import Emulator
from tests.endpoints import PADDING, PAID

Pixels = NDArray[np.uint8]
Link = list[Any]
_T = TypeVar("_T")

HIDREAM_SUBMITS = {
    node: paid.vectors.recorded for node, paid in PAID.items() if paid.vectors.endpoint.provider == "HiDream"
}
"""By node, the emulator's name of its endpoint."""

WIDGETS: dict[str, dict[str, Any]] = {
    **{node: {"profile": "default", **paid.widgets} for node, paid in PAID.items()},
    "RemoteOutpaintPlacement": {
        "target": "aspect ratio",
        "aspect_ratio": "16:9",
        "canvas_width": 1024,
        "canvas_height": 1024,
        "ratio": 1.0,
        "position": "center",
        "x_offset": 0,
        "y_offset": 0,
        "left": 0,
        "top": 0,
        "right": 0,
        "bottom": 0,
        "fill": "grey",
        "feathering": 0,
    },
    "RemoteOutpaintPasteBack": {
        "mode": "exact",
        "blend_pixels": 16,
        "output_size": "native",
        "factor": 1.0,
        "match_color": False,
        "registration": "report",
    },
    "RemoteTaskResult": {"profile": "default", "endpoint": "hidream outpaint", "task_id": ""},
    "ImagePadForOutpaint": {"left": 0, "top": 0, "right": 0, "bottom": 0, "feathering": 0},
    "SaveImage": {"filename_prefix": "test"},
}
"""By node, the values of its widgets: the defaults, and of a paid node what its vectors say that a call needs."""


@dataclass(frozen=True)
class Node:
    """A node of a graph; ``node[1]`` is the link to its second output."""

    id: str

    def __getitem__(self, slot: int) -> Link:
        return [self.id, slot]


class Graph:
    """A prompt under construction. Widgets that are not given have the values of ``WIDGETS``."""

    def __init__(self, comfy: ComfyUI) -> None:
        self.prompt: Prompt = {}
        self._comfy = comfy

    def add(self, class_type: str, **inputs: Any) -> Node:
        number = str(len(self.prompt) + 1)
        self.prompt[number] = {"class_type": class_type, "inputs": {**WIDGETS.get(class_type, {}), **inputs}}
        return Node(number)

    def image(self, *pictures: Image.Image | Pixels) -> Link:
        """An IMAGE of these pictures, in order: LoadImage, and ImageBatch for more than one."""
        links = [self._load(picture)[0] for picture in pictures]
        batch = links[0]
        for link in links[1:]:
            batch = self.add("ImageBatch", image1=batch, image2=link)[0]
        return batch

    def rgba(self, picture: Image.Image) -> Link:
        """A four-channel IMAGE. LoadImage gives RGB and a mask of 1 − alpha; this joins them again."""
        loaded = self._load(picture)
        return self.add("JoinImageWithAlpha", image=loaded[0], alpha=loaded[1])[0]

    def mask(self, *greys: Pixels) -> Link:
        """A MASK of these grey pictures."""
        image = self.image(*(np.repeat(grey[..., None], 3, axis=-1) for grey in greys))
        return self.add("ImageToMask", image=image, channel="red")[0]

    def paid(self, class_type: str, image: Link, **inputs: Any) -> Node:
        """A paid node that gets these images, if it takes any; padded and with their mask, if it needs one."""
        paid, wires = PAID[class_type], {}
        if paid.needs_mask:
            padded = self.add("ImagePadForOutpaint", image=image, **PADDING)
            wires = {paid.image: padded[0], "mask": padded[1]}
        elif paid.image:
            wires = {paid.image: image}
        return self.add(class_type, **wires, **inputs)

    def save(self, image: Link) -> str:
        return self.add("SaveImage", images=image).id

    def save_mask(self, mask: Link) -> str:
        return self.save(self.add("MaskToImage", mask=mask)[0])

    def show(self, value: Link) -> str:
        return self.add("PreviewAny", source=value).id

    def _load(self, picture: Image.Image | Pixels) -> Node:
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        # The name is made of the pixels, so that no upload of another graph replaces the file.
        digest = hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).hexdigest()
        name = self._comfy.upload(picture, f"{digest[:16]}.png")
        return self.add("LoadImage", image=name)


@dataclass(frozen=True)
class Outpainted:
    """The outputs of an outpaint node, as the nodes behind it got them."""

    result: Result
    node: Node
    pictures: list[Pixels]
    masks: list[Pixels]
    placement: dict[str, int]

    @property
    def texts(self) -> list[str]:
        return self.result.texts(self.node.id)

    def kept(self, index: int = 0) -> Pixels:
        """Return the part of a picture in which, by the placement, the original lies."""
        place = self.placement
        rows = slice(place["y"], place["y"] + place["height"])
        return self.pictures[index][rows, place["x"] : place["x"] + place["width"]]

    def frame(self) -> Pixels:
        """Return the mask of the placement: 0 where the original lies, else 255."""
        place = self.placement
        mask = np.full((place["canvas_height"], place["canvas_width"]), 255, np.uint8)
        mask[place["y"] : place["y"] + place["height"], place["x"] : place["x"] + place["width"]] = 0
        return mask


def run_outpaint(comfy: ComfyUI, graph: Graph, node: Node) -> Outpainted:
    """Save the picture and the mask of an outpaint node, show its placement, and run."""
    picture, mask, placement = graph.save(node[0]), graph.save_mask(node[1]), graph.show(node[2])
    result = comfy.run(graph.prompt)
    return Outpainted(
        result,
        node,
        [pixels(image) for image in comfy.images(result, picture)],
        [pixels(image)[..., 0] for image in comfy.images(result, mask)],
        fields_of(result.texts(placement)[0]),
    )


def fields_of(shown: str) -> dict[str, int]:
    """Parse a placement as PreviewAny shows it, ``Placement(name=value, ...)``."""
    call = ast.parse(shown.strip(), mode="eval").body
    assert isinstance(call, ast.Call), shown
    return {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}


# ---- one node, and a prompt under way


def remote(graph: Graph, class_type: str = "HiDreamAPIUpscale", seed: int = 0) -> Node:
    """A remote node whose output is saved."""
    node = graph.paid(class_type, graph.image(photo(48, 64, seed)))
    graph.save(node[0])
    return node


class Running:
    """A queued prompt, to be interrupted at the right moment."""

    def __init__(self, comfy: ComfyUI, graph: Graph) -> None:
        self._comfy = comfy
        self.start = comfy.events.count()
        self._read = len(comfy.log())
        self.prompt_id = comfy.queue(graph.prompt)

    def log(self) -> str:
        """Return what ComfyUI has logged since the prompt was queued."""
        return self._comfy.log()[self._read :]

    def event(self, kind: str, node: str, timeout: float = 15) -> float:
        """Wait for an event of this node; return when it arrived (time.monotonic())."""
        return self._comfy.events.wait_for(
            lambda event: event.type == kind and event.node == node, timeout, self.start
        ).at

    def interrupt(self) -> float:
        """Interrupt; return the seconds until ComfyUI reported it, which must be as an interrupt, not as an error."""
        called = time.monotonic()
        self._comfy.interrupt()
        result = self.end()
        assert result.status == "interrupted", result.error
        assert result.error == {}
        assert "Exception during processing" not in self.log()
        assert "never retrieved" not in self.log()
        return result.events[-1].at - called

    def end(self, timeout: float = 60) -> Result:
        return self._comfy.wait(self.prompt_id, timeout=timeout, start=self.start)


# ---- pictures


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return soft shapes with fine detail, different for every seed, in which a shift by one pixel can be measured."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    detail = random.integers(-24, 25, (height, width, 3), np.int16)
    return Image.fromarray(np.clip(np.asarray(coarse) + detail, 0, 255).astype(np.uint8))


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def lanczos(image: Image.Image, width: int, height: int) -> Pixels:
    return pixels(image.resize((width, height), Image.Resampling.LANCZOS))


def mean_error(one: Pixels, other: Pixels) -> float:
    """Return the mean absolute difference, in levels of 255."""
    assert one.shape == other.shape, (one.shape, other.shape)
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


# ---- the emulator's records


def submits(emulator: Emulator, endpoint: str | None = None) -> list[Any]:
    return [
        request for request in emulator.requests if request.phase == "submit" and endpoint in (None, request.endpoint)
    ]


def bodies(emulator: Emulator, endpoint: str | None = None) -> list[dict[str, Any]]:
    return [request.body for request in submits(emulator, endpoint)]


def overlap(requests: Sequence[Any]) -> bool:
    """Whether there was a moment at which all of them were under way."""
    return max(request.started for request in requests) < min(request.ended for request in requests)


# ---- waiting


def until(condition: Callable[[], _T], what: str, timeout: float = 15) -> _T:
    """Wait for the first true value of ``condition``, and return it; fails after ``timeout`` seconds.

    The pause is three times as long as a look took: a look may be a request, whose work the other tests wait for.
    """
    deadline = time.monotonic() + timeout
    while True:
        looked = time.monotonic()
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(max(0.01, 3 * (time.monotonic() - looked)))


CHINESE = re.compile("[\u4e00-\u9fff]")


def failed(comfy: ComfyUI, prompt: Prompt, error: str, timeout: float = 60) -> dict[str, Any]:
    """Run a prompt that must end with this error of the pack, told in both languages; returns ComfyUI's error event."""
    result = comfy.run(prompt, expect="error", timeout=timeout)
    told = result.error
    assert told["exception_type"] == f"hidream_volcengine.{error}", told["exception_message"]
    english, chinese = told["exception_message"].strip().split("\n")
    assert not CHINESE.search(english.split("[")[0]), english
    assert CHINESE.search(chinese), chinese
    assert result.files() == []
    return told
