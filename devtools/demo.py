"""`dev.py demo`: the example workflows in a real ComfyUI, on photographs, through all paid nodes into out/.

Outpainting at any size is one of them: the original's own pixels are back in the result, which is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

import api
from devtools.comfyui import checkout
from devtools.comfyui.host import ComfyUI, HostError, Prompt, port_or_free
from devtools.comfyui.workflow import to_prompt
from devtools.demo_parts import checks
from devtools.demo_parts.contact_sheet import Card, Pair, contact_sheet
from devtools.demo_parts.planned import planned
from devtools.demo_parts.progress import shown
from devtools.environment import HOST, ROOT, SetupError
from emulator import Credentials, Emulator

OUT = ROOT / "out"
WORKFLOWS = ROOT / "example_workflows"
TEMPLATE_PICTURE = "example.png"
LATENCY = 1.5  # seconds the emulator takes for a picture, so that there is progress to see
GENERATED = "generated"  # node number of the SaveImage that saves the picture before the original is pasted back
SECONDS_PER_NODE = 120
SECONDS_PER_LIVE_NODE = 1500


@dataclass(frozen=True)
class Example:
    """One example workflow of the demo, with the photograph it runs on and the check of its pictures."""

    node: str
    workflow: str
    photo: str = "coffee"
    check: checks.Check | None = None
    """None: `checks.as_planned`, of what the node itself says."""
    placed: bool = False
    """Whether a placement is made first, and the original is pasted back at the end."""
    bought: int | None = None
    """How many pictures the service charges for, if that is not what the node plans."""
    and_upscaled: bool = False
    """Whether each of its pictures is sent to another paid node."""

    @property
    def service(self) -> str:
        return ENDPOINT_OF[self.node].provider

    @property
    def takes_photo(self) -> bool:
        return any(isinstance(one, api.Socket) and one.type == "IMAGE" for one in NODES[self.node].inputs)

    def paid(self, inputs: checks.Inputs) -> int:
        """How many pictures the service charges for."""
        count = self.bought or planned(NODES[self.node], inputs, STAND_IN).pictures
        return 2 * count if self.and_upscaled else count

    def verdict(self, photo: Image.Image, inputs: checks.Inputs, pictures: checks.Pictures) -> str:
        """What the check found in the pictures, in words. Raises CheckError."""
        if self.check is not None:
            return self.check(photo, inputs, pictures)
        return checks.as_planned(photo, planned(NODES[self.node], inputs, photo), pictures)


ENDPOINT_OF = {node.node_id: endpoint for endpoint in api.ENDPOINTS for node in endpoint.nodes}
NODES = {node.node_id: node for endpoint in api.ENDPOINTS for node in endpoint.nodes}
STAND_IN = Image.new("RGB", (384, 512))  # to count pictures, whatever the photograph
# The photographs and checks of nodes of which more can be checked than what their plan says.
_CHECKED: dict[str, dict[str, Any]] = {
    "HiDreamAPIOutpaint": {"check": checks.outpainted_on_canvas},
    "HiDreamAPIImageToImage": {"photo": "chelsea", "check": checks.restyled},
    "HiDreamAPIUpscale": {"photo": "rocket", "check": checks.upscaled},
    "HiDreamAPIModelPhotoSet": {"photo": "astronaut", "check": checks.photo_set, "bought": 4},
    "VolcengineAPIOutpaint": {"check": checks.outpainted_by_sides},
    "VolcengineAPIOutpaintCanvas": {"photo": "astronaut", "check": checks.outpainted_by_mask},
}
EXAMPLES = (
    *(Example(node.node_id, node.example, **_CHECKED.get(node.node_id, {})) for node in NODES.values()),
    Example(
        "HiDreamAPIOutpaint",
        "outpaint_any_size_hidream",
        "hubble",
        checks.pasted_back,
        placed=True,
        and_upscaled=True,
    ),
    Example("VolcengineAPIOutpaint", "outpaint_any_size_volcengine", check=checks.pasted_back, placed=True),
)
KEYS = {
    "HiDream": (("HIDREAM_TOKEN",), ("HIDREAM_API_KEY",)),
    "Volcengine": (
        ("VOLCENGINE_GATEWAY_API_KEY", "VOLCENGINE_GATEWAY_BASE_URL"),
        ("VOLCENGINE_ACCESS_KEY_ID", "VOLCENGINE_SECRET_ACCESS_KEY"),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave ComfyUI and the emulator running until Ctrl-C")
    parser.add_argument("--live", action="store_true", help="use the real services, with the keys of the environment")
    parser.add_argument("--template-id", type=int, help="with --live: the template of the model photo set")
    parser.add_argument("--yes", action="store_true", help="with --live: the pictures may be paid for")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console's encoding may have no Chinese
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)  # a shell's background job starts with SIGINT ignored
    try:
        with _emulator(options.live) as environment:
            return _demo(options, environment)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except (HostError, SetupError) as problem:
        print(problem, file=sys.stderr)
        return 1


_stopped = threading.Event()


def _stop(number: int, frame: object) -> None:
    _stopped.set()
    raise KeyboardInterrupt


def _leave_if_stopped() -> None:
    """Raise KeyboardInterrupt again: Python drops one that is raised while it runs a destructor."""
    if _stopped.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def _emulator(live: bool) -> Iterator[dict[str, str]]:
    """Run an emulator, and yield the variables that send the pack to it; yield none for the real services (live)."""
    if live:
        yield {}
        return
    keys = Credentials()
    with Emulator(port=0, latency=LATENCY, credentials=keys) as emulator:
        print(f"emulator of both services: {emulator.url}", flush=True)
        yield {
            "HIDREAM_TOKEN": keys.hidream_token,
            "HIDREAM_BASE_URL": emulator.url,
            "HIDREAM_EC_BASE_URL": emulator.url,
            "VOLCENGINE_GATEWAY_API_KEY": keys.gateway_api_key,
            "VOLCENGINE_GATEWAY_BASE_URL": emulator.url,
        }


def _demo(options: argparse.Namespace, environment: dict[str, str]) -> int:
    examples = [example for example in EXAMPLES if not options.live or _has_key(example.service)]
    if options.live and options.template_id is None:
        print("HiDreamAPIModelPhotoSet: left out; --template-id N names a template of the service's list")
        examples = [example for example in examples if example.node != "HiDreamAPIModelPhotoSet"]
    for service in KEYS:
        if service not in {example.service for example in examples}:
            print(f"{service}: no key in the environment ({_wanted_keys(service)}), left out")
    if not examples:
        return 2
    base = _base_directory(options)
    photos = _lay_out_photos(base / "input")
    port = port_or_free(8188) if options.serve else 0
    print("starting ComfyUI ...", flush=True)
    with ComfyUI(base, environment=environment, keep_keys=options.live, port=port) as comfy:
        print(f"ComfyUI with the pack: {comfy.url}", flush=True)
        object_info = comfy.object_info()
        prompts = {example: _prompt(example, object_info, options.template_id) for example in examples}
        titles = {example: _title(example, object_info) for example in examples}
        if options.live and not _may_pay(prompts, options.yes):
            return 2
        seconds = SECONDS_PER_LIVE_NODE if options.live else SECONDS_PER_NODE
        passed = _run_all(comfy, prompts, photos, titles, seconds, _out_directory(options))
        if options.serve:
            print(f"\nopen {comfy.url} (the photographs are in LoadImage's list); Ctrl-C stops everything", flush=True)
            while comfy.is_running():
                _leave_if_stopped()
                time.sleep(0.5)
    return 0 if passed else 1


def _title(example: Example, object_info: dict[str, Any]) -> str:
    title: str = object_info[example.node]["display_name"]
    return f"{title} and Paste Back" if example.placed else title


def _has_key(service: str) -> bool:
    return any(all(os.environ.get(name) for name in names) for names in KEYS[service])


def _wanted_keys(service: str) -> str:
    return " or ".join(" + ".join(names) for names in KEYS[service])


def _may_pay(prompts: dict[Example, Prompt], yes: bool) -> bool:
    count = sum(example.paid(_inputs(example, prompt)) for example, prompt in prompts.items())
    print(f"{len(prompts)} workflows on the real services: about {count} paid pictures", flush=True)
    if not yes:
        print("nothing was sent; add --yes to go on")
    return yes


def _base_directory(options: argparse.Namespace) -> Path:
    """Return ComfyUI's base directory. With --live and --serve it is kept for the next run, else emptied.

    --live has paid pictures in it, --serve what the user saved.
    """
    if options.live or options.serve:
        return HOST / ("live" if options.live else "serve")
    shutil.rmtree(HOST / "demo", ignore_errors=True)
    return HOST / "demo"


def _out_directory(options: argparse.Namespace) -> Path:
    """Return the folder for the pictures; with --live a new one, so that no paid picture is overwritten."""
    out = OUT / "live" / time.strftime("%Y%m%d-%H%M%S") if options.live else OUT
    out.mkdir(parents=True, exist_ok=True)
    return out


def _lay_out_photos(folder: Path) -> dict[str, Image.Image]:
    """Write photographs of scikit-image into ``folder`` for LoadImage, and return them by name.

    ComfyUI's own example picture, which the example workflows name, goes there, too.
    """
    arrays = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    arrays["hubble"] = skimage.data.hubble_deep_field()
    photos = {name: Image.fromarray(array) for name, array in arrays.items()}
    photos["astronaut"] = photos["astronaut"].crop((32, 0, 416, 512))  # 3:4, which the photo set requires
    photos["rocket"] = photos["rocket"].crop((160, 27, 480, 427))
    folder.mkdir(parents=True, exist_ok=True)
    for name, photo in photos.items():
        photo.save(folder / f"{name}.png")
    shutil.copyfile(checkout.ensure() / "input" / TEMPLATE_PICTURE, folder / TEMPLATE_PICTURE)
    return photos


def _prompt(example: Example, object_info: dict[str, Any], template_id: int | None) -> Prompt:
    """Return the prompt of the example workflow with our photograph and the profile ``default`` in it.

    If the original is pasted back, the node GENERATED also saves the picture before that.
    """
    path = WORKFLOWS / f"{example.workflow}.json"
    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), object_info)
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = f"{example.photo}.png"
        if "profile" in node["inputs"]:
            node["inputs"]["profile"] = "default"
        if template_id is not None and "template_id" in node["inputs"]:
            node["inputs"]["template_id"] = template_id
    if example.placed:
        paste_back = next(node for node in prompt.values() if node["class_type"] == "RemoteOutpaintPasteBack")
        inputs = {"images": paste_back["inputs"]["generated"], "filename_prefix": "generated"}
        prompt[GENERATED] = {"class_type": "SaveImage", "inputs": inputs}
    return prompt


def _inputs(example: Example, prompt: Prompt) -> dict[str, Any]:
    """Return the widget values of the remote node and of the node that pads or places for it."""
    wanted = (example.node, "RemoteOutpaintPlacement") if example.placed else ("ImagePadForOutpaint", example.node)
    nodes = [node for kind in wanted for node in prompt.values() if node["class_type"] == kind]
    return {name: value for node in nodes for name, value in node["inputs"].items() if not isinstance(value, list)}


def _run_all(
    comfy: ComfyUI,
    prompts: dict[Example, Prompt],
    photos: dict[str, Image.Image],
    titles: dict[Example, str],
    timeout: float,
    out: Path,
) -> bool:
    cards: list[Card] = []
    pairs: list[Pair] = []
    failures: list[str] = []
    with shown(comfy):
        for example, prompt in prompts.items():
            _leave_if_stopped()
            given = f", {example.photo}" if example.takes_photo else ""
            print(f"\n{titles[example]}  ({example.workflow}.json{given})", flush=True)
            photo = photos[example.photo]
            try:
                result = comfy.run(prompt, timeout=timeout)
                generated = comfy.images(result, GENERATED)
                shown_last = [node for node in result.outputs if node != GENERATED]
                pictures = [picture for node in shown_last for picture in comfy.images(result, node)]
                _save(example, pictures, out)
                verdict = example.verdict(photo, _inputs(example, prompt), pictures)
            except (HostError, checks.CheckError) as problem:
                print(f"  FAILED: {problem}", flush=True)
                failures.append(example.workflow)
                continue
            print(f"  passed in {result.seconds:.1f} s: {verdict}", flush=True)
            cards.append(Card(titles[example], verdict, photo if example.takes_photo else None, pictures))
            if generated and generated[0].size != pictures[0].size:
                corner = checks.where(photo, _inputs(example, prompt))
                pairs.append(_pair(titles[example], photo, corner, generated[0], pictures[0]))
    _report(cards, pairs, failures, out)
    return not failures


def _pair(title: str, photo: Image.Image, corner: tuple[int, int], generated: Image.Image, pasted: Image.Image) -> Pair:
    """Return the seam before and after the original was pasted back: at its left edge, where that has most detail.

    Args:
        corner: x and y of the original in the pasted picture.
    """
    before = generated.resize(pasted.size, Image.Resampling.LANCZOS)
    rim = np.asarray(photo.convert("L"), np.float32)[:, :180]
    middles = range(90, photo.height - 89, 30)
    middle = max(middles, key=lambda y: float(rim[y - 90 : y + 90].std()), default=photo.height // 2)
    centre = (corner[0], corner[1] + middle)
    return Pair(
        f"{title}: the seam, twice enlarged", "as it came", "with the original's pixels", before, pasted, centre
    )


def _save(example: Example, pictures: list[Image.Image], out: Path) -> None:
    for number, picture in enumerate(pictures, 1):
        path = out / f"{example.workflow}{f'_{number}' if len(pictures) > 1 else ''}.png"
        picture.save(path)
        print(f"  {path.relative_to(ROOT)}  {picture.width} x {picture.height}", flush=True)


def _report(cards: list[Card], pairs: list[Pair], failures: list[str], out: Path) -> None:
    print()
    if cards:
        sheet = contact_sheet("ComfyUI-HiDream-Volcengine", cards, pairs)
        path = out / "contact_sheet.png"
        sheet.save(path)
        print(f"{path.relative_to(ROOT)}  {sheet.width} x {sheet.height}")
    print(f"{len(cards)} of {len(cards) + len(failures)} workflows passed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
