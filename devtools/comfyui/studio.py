"""Where benchmarks run: a ComfyUI with this pack and an emulator, with a line like a user's between them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from devtools.comfyui.host import ComfyUI, Prompt
from devtools.comfyui.line import Line
from devtools.environment import ROOT
from emulator import Credentials, Emulator

TOKEN = Credentials().hidream_token
RIVALS = ROOT / "benchmarks" / "rivals"


class Studio:
    """ComfyUI, emulator and line; they run inside of its `with` block.

    Args:
        mbits, round_trip: Mbit/s and seconds of the line; without them it is as fast as loopback.
        rivals: also install the nodes that call the service as others do (``benchmarks/rivals``).
        settings: values of the variables REMOTE_IMAGE_..., by the rest of their names; 0 = no limit.
    """

    def __init__(
        self,
        service: Emulator,
        *,
        mbits: float | None = None,
        round_trip: float = 0.0,
        rivals: bool = False,
        **settings: int,
    ) -> None:
        self.service = service
        self._settings = settings
        self.mbits = mbits
        self._round_trip = round_trip
        self._rivals = rivals
        self._running = ExitStack()

    def __enter__(self) -> Studio:
        with ExitStack() as unless_up:
            self.base = base = Path(unless_up.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            if self._rivals:
                shutil.copytree(RIVALS, base / "custom_nodes" / RIVALS.name)
            unless_up.enter_context(self.service)
            port = int(self.service.url.rpartition(":")[2])
            line = unless_up.enter_context(Line(port, mbits=self.mbits, round_trip=self._round_trip))
            self.url = line.url
            settings = {f"REMOTE_IMAGE_{name.upper()}": str(value) for name, value in self._settings.items()}
            environment = {"HIDREAM_TOKEN": TOKEN, "HIDREAM_BASE_URL": line.url, **settings}
            self.comfy = unless_up.enter_context(ComfyUI(base, environment=environment))
            self._running = unless_up.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def photos(self, side: int, count: int) -> list[str]:
        """Upload `count` square pictures of `side` pixels; return their names for LoadImage."""
        chance = np.random.default_rng(side)
        return [self.comfy.upload(_photo(chance, side), f"{side}-{number}.png") for number in range(count)]


def loaded(graph: Prompt, names: Sequence[str]) -> list[object]:
    """Add nodes to the graph that load these pictures as one batch; return the link to it."""
    link: list[object] = []
    for number, name in enumerate(names):
        graph[f"load{number}"] = {"class_type": "LoadImage", "inputs": {"image": name}}
        one: list[object] = [f"load{number}", 0]
        if link:
            graph[f"batch{number}"] = {"class_type": "ImageBatch", "inputs": {"image1": link, "image2": one}}
            one = [f"batch{number}", 0]
        link = one
    return link


def upscale(image: Sequence[object], take: int) -> dict[str, object]:
    inputs = {"image": image, "profile": "default", "upscale_ratio": 2, "take": take}
    return {"class_type": "HiDreamAPIUpscale", "inputs": inputs}


def preview(images: Sequence[object]) -> dict[str, object]:
    return {"class_type": "PreviewImage", "inputs": {"images": images}}


def _photo(chance: np.random.Generator, side: int) -> Image.Image:
    """Return a smooth picture with a sensor's noise, which compresses as a photograph does."""
    coarse = Image.fromarray(chance.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + chance.normal(0, 3, smooth.shape).round().astype(np.int16)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
