"""`python -m devtools.help_pictures`: makes the pictures of the help pages again, into web/docs/pictures/.

Before and after come from the last `dev.py demo`, the others from a browser with ComfyUI's own frontend. Each is small:
what the help panel shows is 300 px wide.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps
from playwright.sync_api import FloatRect, Page, sync_playwright

from devtools import browser
from devtools.environment import HOST, ROOT, SetupError
from devtools.host import ComfyUI

PICTURES = ROOT / "web" / "docs" / "pictures"
MAX_BYTES = 60_000
_PHOTOS = HOST / "demo" / "input"
_OUT = ROOT / "out"

_WIDTH, _MARGIN, _ARROW = 640, 14, 44
_CARD, _ACCENT = "#21252d", "#6ea8fe"

# Photograph, and what came of it.
_BEFORE_AFTER = {
    "HiDreamAPIOutpaint": ("coffee", ("hidream_outpaint",)),
    "HiDreamAPIImageToImage": ("chelsea", ("hidream_image_to_image_1", "hidream_image_to_image_2")),
    "HiDreamAPIUpscale": ("rocket", ("hidream_upscale",)),
    "HiDreamAPIModelPhotoSet": ("astronaut", tuple(f"hidream_model_photo_set_{number}" for number in range(1, 5))),
    "VolcengineAPIOutpaint": ("coffee", ("volcengine_outpaint_sides",)),
    "VolcengineAPIOutpaintCanvas": ("astronaut", ("volcengine_outpaint_canvas",)),
}
# How large the photograph is beside its results: an enlarged one smaller than they, a reference as they are.
_SHARE_BEFORE = {"HiDreamAPIUpscale": 0.25, "HiDreamAPIImageToImage": 0.36, "HiDreamAPIModelPhotoSet": 0.4}

_READY = "!!window.app?.graph && !!window.LiteGraph?.registered_node_types.RemoteTaskResult"
_PLACEMENT = """() => {
    const add = (type, x, y, values) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        for (const [name, value] of Object.entries(values)) {
            node.widgets.find((widget) => widget.name === name).value = value;
        }
        return node;
    };
    app.graph.clear();
    const loader = add("LoadImage", -2000, 0, {image: "coffee.png"});
    const node = add("RemoteOutpaintPlacement", 0, 0, {ratio: 0.75, position: "bottom right"});
    loader.connect(0, node, 0);
    node.setSize([480, Math.max(node.size[1], 900)]);
}"""
_TASK = """(id) => {
    app.graph.clear();
    const task = LiteGraph.createNode("RemoteTaskResult");
    task.pos = [0, 0];
    const shown = LiteGraph.createNode("PreviewImage");
    app.graph.add(task);
    app.graph.add(shown);
    const values = {profile: "sandbox", endpoint: "hidream model photo set", task_id: id};
    for (const [name, value] of Object.entries(values)) {
        task.widgets.find((widget) => widget.name === name).value = value;
    }
    task.setSize([340, 150]);
    shown.pos = [380, 0];
    shown.setSize([300, 330]);
    task.connect(0, shown, 0);
}"""
_RUN = """async () => {
    const ended = new Promise((resolve) => ["execution_success", "execution_error"].forEach((type) =>
        app.api.addEventListener(type, () => resolve(type), {once: true})));
    await app.queuePrompt(0, 1);
    return await ended;
}"""
# Looks at all nodes but those far outside, and returns the rectangle they have on the screen.
_LOOK = """() => {
    const [x, y] = [150, 200];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [x, y];
    app.canvas.setDirty(true, true);
    const boxes = app.graph.nodes.map((node) => node.getBounding()).filter(([left]) => left > -1000);
    const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
    const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
    return {x: left + x, y: top + y, width: right - left, height: bottom - top};
}"""
_DRAWN = "() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))"


def main() -> int:
    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        for node, (photo, results) in _BEFORE_AFTER.items():
            after = [_opened(_OUT / f"{name}.png") for name in results]
            _save(node, _before_after(_opened(_PHOTOS / f"{photo}.png"), after, _SHARE_BEFORE.get(node, 0.4)))
        _screenshots()
    except SetupError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _opened(path: Path) -> Image.Image:
    if not path.is_file():
        raise SetupError(f"{path} is not there: run `python dev.py demo` first")
    return Image.open(path).convert("RGB")


def _before_after(before: Image.Image, after: list[Image.Image], share: float) -> Image.Image:
    """Side by side, an arrow between them; several results in two columns."""
    room = _WIDTH - 2 * _MARGIN - _ARROW
    left = ImageOps.contain(before, (round(room * share), 400), Image.Resampling.LANCZOS)
    right = _grid(after, room - left.width)
    height = max(left.height, right.height)
    card = Image.new("RGB", (_WIDTH, height + 2 * _MARGIN), _CARD)
    card.paste(left, (_MARGIN, (card.height - left.height) // 2))
    space = room - left.width - right.width
    card.paste(right, (_MARGIN + left.width + _ARROW + space, (card.height - right.height) // 2))
    _draw_arrow(card, _MARGIN + left.width + (_ARROW + space) // 2, card.height // 2)
    return card


def _grid(pictures: list[Image.Image], width: int) -> Image.Image:
    if len(pictures) == 1:
        return ImageOps.contain(pictures[0], (width, 400), Image.Resampling.LANCZOS)
    cell = (width - 8) // 2
    fitted = [ImageOps.contain(picture, (cell, 200), Image.Resampling.LANCZOS) for picture in pictures]
    column, row = max(one.width for one in fitted) + 8, max(one.height for one in fitted) + 8
    sheet = Image.new("RGB", (2 * column - 8, (len(fitted) + 1) // 2 * row - 8), _CARD)
    for number, one in enumerate(fitted):
        sheet.paste(one, (number % 2 * column, number // 2 * row))
    return sheet


def _draw_arrow(card: Image.Image, x: int, y: int) -> None:
    draw = ImageDraw.Draw(card)
    draw.line((x - 13, y, x + 7, y), _ACCENT, 4)
    draw.polygon(((x + 3, y - 8), (x + 14, y), (x + 3, y + 8)), _ACCENT)


def _screenshots() -> None:
    program = browser.ensure()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "input").mkdir()
        for name in ("coffee", "astronaut"):
            _opened(_PHOTOS / f"{name}.png").save(base / "input" / f"{name}.png")
        with ComfyUI(base) as comfy, sync_playwright() as playwright:
            _save("RemoteOutpaintPasteBack", _seam(comfy))
            task = _bought_photo_set(comfy)
            chromium = playwright.chromium.launch(executable_path=program, args=list(browser.ARGUMENTS))
            page = chromium.new_page(viewport={"width": 1400, "height": 1100})
            comfy.request("POST", "/settings", json={"Comfy.Locale": "en", "Comfy.Minimap.Visible": False})
            page.goto(comfy.url)
            page.wait_for_function(_READY)
            page.locator('[data-testid="queue-button"]').first.wait_for()
            page.evaluate(_TASK, task)
            if page.evaluate(_RUN) != "execution_success":
                raise SetupError(f"the task {task} could not be fetched again: {comfy.log_file}")
            page.wait_for_function("() => app.graph.nodes.some((node) => node.imgs?.length === 4)")
            _save("RemoteTaskResult", _shot(page, page.evaluate(_LOOK)))
            page.evaluate(_PLACEMENT)
            page.evaluate(_LOOK)
            editor = page.locator("[data-placement-editor]")
            editor.locator("img").wait_for()
            page.wait_for_load_state("networkidle")
            box = editor.bounding_box()
            if box is None:
                raise SetupError("the placement editor is not on the screen")
            _save("RemoteOutpaintPlacement", _shot(page, box))
            chromium.close()


def _bought_photo_set(comfy: ComfyUI) -> str:
    """The journal id of a task of the sandbox."""
    comfy.run(
        {
            "1": _node("LoadImage", image="astronaut.png"),
            "2": _node(
                "HiDreamAPIModelPhotoSet",
                image=["1", 0],
                profile="sandbox",
                fit="error",
                template_id=1,
                on_partial="error",
                take=0,
            ),
            "3": _node("PreviewImage", images=["2", 0]),
        }
    )
    tasks: list[dict[str, Any]] = comfy.request("GET", "/hidream_volcengine/tasks").json()["tasks"]
    return str(tasks[0]["journal_id"])


def _seam(comfy: ComfyUI) -> Image.Image:
    """The same part at the seam of a reduced result, at the original's size: as it came, and pasted back."""
    sampling = {"prompt": "", "scale": 7.0, "steps": 30, "strength": 0.8, "seed": -1, "variants": 1, "upload": "png"}
    sides = dict.fromkeys(("top", "bottom", "left", "right"), 0.1)
    result = comfy.run(
        {
            "1": _node("LoadImage", image="coffee.png"),
            "2": _node(
                "RemoteOutpaintPlacement",
                **{"image": ["1", 0], "target": "pixels per side", "aspect_ratio": "1:1", "ratio": 1.0},
                **{"canvas_width": 1024, "canvas_height": 1024, "position": "center", "x_offset": 0, "y_offset": 0},
                **{"left": 400, "top": 0, "right": 0, "bottom": 0, "fill": "grey", "feathering": 0},
            ),
            "3": _node(
                "VolcengineAPIOutpaint",
                **{"image": ["1", 0], "placement": ["2", 0], "profile": "sandbox", "take": 0},
                **{"max_width": 400, "max_height": 400, **sides, **sampling},
            ),
            "4": _node(
                "RemoteOutpaintPasteBack",
                **{"generated": ["3", 0], "original": ["1", 0], "placement": ["3", 2], "mode": "exact"},
                **{"blend_pixels": 16, "output_size": "native", "factor": 1.0, "match_color": False},
                registration="report",
            ),
            "5": _node("PreviewImage", images=["3", 0]),
            "6": _node("PreviewImage", images=["4", 0]),
        }
    )
    (came,), (pasted,) = comfy.images(result, "5"), comfy.images(result, "6")
    part = (360, 40, 640, 360)
    before = came.convert("RGB").resize(pasted.size, Image.Resampling.BICUBIC).crop(part)
    return _before_after(before, [pasted.convert("RGB").crop(part)], 0.5)


def _node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _shot(page: Page, clip: FloatRect) -> Image.Image:
    page.mouse.move(5, 1095)
    page.evaluate(_DRAWN)
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def _save(node: str, picture: Image.Image) -> None:
    """As good as the limit allows."""
    fitted = ImageOps.contain(picture, (_WIDTH, 2 * _WIDTH), Image.Resampling.LANCZOS)
    for quality in range(88, 30, -6):
        encoded = io.BytesIO()
        fitted.save(encoded, "WEBP", quality=quality, method=6)
        if encoded.tell() <= MAX_BYTES:
            break
    path = PICTURES / f"{node}.webp"
    path.write_bytes(encoded.getvalue())
    print(f"{path.relative_to(ROOT)}  {fitted.width} x {fitted.height}, {encoded.tell()} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
