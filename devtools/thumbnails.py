"""`python -m devtools.thumbnails [name ...]`: runs example workflows on photographs and makes their thumbnails again.

They are put together here, since one picture alone says little. Nothing is fetched or paid: the photographs are
scikit-image's, the profile is `sandbox`, and no local model is run: the picture that it would be given is shown.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import skimage.data
from PIL import Image, ImageDraw, ImageFont, ImageOps

from devtools.environment import ROOT
from devtools.host import ComfyUI, HostError
from devtools.workflow import to_prompt

WORKFLOWS = ROOT / "example_workflows"
WIDTH, MAX_BYTES = 512, 60_000
_SECONDS = 180
_BEHIND, _ACCENT = "#21252d", "#6ea8fe"
Sheet = Callable[[Image.Image, Sequence[Image.Image]], Image.Image]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.thumbnails", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(_MADE) + "; all, if none is named")
    names = parser.parse_args().names or list(_MADE)
    if unknown := set(names) - set(_MADE):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    try:
        with tempfile.TemporaryDirectory() as folder, ComfyUI(Path(folder)) as comfy:
            for name in names:
                photo, together = _MADE[name]
                _save(name, together(photo(), _run(comfy, name, photo())))
    except HostError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _run(comfy: ComfyUI, name: str, photo: Image.Image) -> list[Image.Image]:
    """What it makes of the photograph; a task to be fetched again is bought before, a local model left out."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    comfy.upload(photo, "example.png")
    prompt = to_prompt(workflow, comfy.object_info())
    for node in prompt.values():
        if node["class_type"] == "RemoteTaskResult":
            _run(comfy, "hidream_model_photo_set", photo)
            tasks = comfy.request("GET", "/hidream_volcengine/tasks").json()["tasks"]
            node["inputs"]["task_id"] = tasks[0]["journal_id"]
    for number, node in prompt.items():
        if "pixels" in node["inputs"]:
            prompt = {number: prompt[number] for number in prompt if prompt[number]["class_type"] in _REMOTE}
            prompt["shown"] = _saving(node["inputs"]["pixels"])
            break
    return comfy.images(comfy.run(prompt, timeout=_SECONDS))


_REMOTE = ("LoadImage", "HiDreamAPIUpscale")


def _saving(image: list[str | int]) -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": image, "filename_prefix": "shown"}}


# ---- the photographs


def _product() -> Image.Image:
    return Image.fromarray(skimage.data.coffee()).crop((90, 0, 490, 400))


def _portrait() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut()).crop((32, 0, 416, 512))


def _old_photo() -> Image.Image:
    """Small, brown and with a little grain, as scans of old prints are."""
    small = Image.fromarray(skimage.data.camera()).resize((320, 320), Image.Resampling.BICUBIC)
    grain = Image.effect_noise(small.size, 18)
    return ImageOps.colorize(Image.blend(small, grain, 0.12), "#241a10", "#f3e6c8", "#9c8262")


# ---- how they are put together


def _id_and_set(_: Image.Image, made: Sequence[Image.Image]) -> Image.Image:
    card = Image.new("RGB", (400, 140), _ACCENT)
    draw = ImageDraw.Draw(card)
    draw.rectangle((4, 4, 395, 135), _BEHIND)
    draw.text((28, 42), "task_id  rv-…", _ACCENT, ImageFont.load_default(48))
    return _before_and_set(card, made)


def _before_and_set(photo: Image.Image, made: Sequence[Image.Image]) -> Image.Image:
    """The photograph, and four pictures in two columns."""
    sheet = Image.new("RGB", (1024, 640), _BEHIND)
    _fit(sheet, photo, (24, 120, 400, 400))
    _arrow(sheet, 452, 320)
    for number, one in enumerate(made[:4]):
        _fit(sheet, one, (520 + number % 2 * 246, 12 + number // 2 * 312, 230, 304))
    return sheet


def _old_and_new(photo: Image.Image, made: Sequence[Image.Image]) -> Image.Image:
    """One beside the other, the new one larger."""
    sheet = Image.new("RGB", (1024, 680), _BEHIND)
    _fit(sheet, photo, (24, 180, 320, 320))
    _arrow(sheet, 360, 340)
    _fit(sheet, made[0], (416, 48, 584, 584))
    return sheet


def _banner(photo: Image.Image, made: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (1024, 640), _BEHIND)
    _fit(sheet, photo, (24, 16, 150, 150))
    _arrow(sheet, 196, 92)
    _fit(sheet, made[0], (16, 184, 992, 440))
    return sheet


def _fit(sheet: Image.Image, picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    fitted = ImageOps.contain(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    sheet.paste(fitted, (x + (width - fitted.width) // 2, y + (height - fitted.height) // 2))


def _arrow(sheet: Image.Image, x: int, y: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.line((x, y, x + 30, y), _ACCENT, 8)
    draw.polygon(((x + 24, y - 16), (x + 46, y), (x + 24, y + 16)), _ACCENT)


_MADE: dict[str, tuple[Callable[[], Image.Image], Sheet]] = {
    "banner_from_a_square": (_product, _banner),
    "fetch_a_paid_task_again": (_portrait, _id_and_set),
    "old_photo_upscale_and_refine": (_old_photo, _old_and_new),
    "product_photo_to_model_set": (_product, _before_and_set),
}


def _save(name: str, picture: Image.Image) -> None:
    """As good as the limit allows."""
    height = round(picture.height * WIDTH / picture.width)
    small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    for quality in range(90, 30, -6):
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=quality, optimize=True)
        if encoded.tell() <= MAX_BYTES:
            break
    path = WORKFLOWS / f"{name}.jpg"
    path.write_bytes(encoded.getvalue())
    print(f"{path.relative_to(ROOT)}  {small.width} x {small.height}, {encoded.tell()} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
