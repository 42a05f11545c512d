"""The placement editor, driven with mouse, wheel and keys: it shows what the widgets say, and saves nothing of its own.

The picture is 600×400. RemoteOutpaintPlacement starts with a canvas of 1000×800 in which it spans 0.6 of the width.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from devtools.comfyui.host import ComfyUI
from devtools.comfyui.workflow import to_prompt
from tests.browser.frontend import Frontend, Json
from tests.browser.looks import looks
from tests.thinned import thinned

LOADER, PLACEMENT, HIDREAM, MASK_TO_IMAGE, PREVIEW = range(1, 6)
PICTURE = "landscape.png"
WORDS = {
    "en": ("Canvas 1000×800", "Original 600×400 at 200, 200", "Image 600×400", "100 %", "L 200  T 200  R 200  B 200"),
    "zh": ("画布 1000×800", "原图 600×400，位于 200, 200", "图片 600×400", "100%", "左 200  上 200  右 200  下 200"),
}
ASSUMED = {"en": "Assumed: an original of 1024×1024", "zh": "假定原图为 1024×1024"}
LAST_RUN = {"en": "Picture of the last run.", "zh": "上次运行的图片。"}
OUTSIDE = {"en": "The offset leads out of the canvas.", "zh": "偏移超出画布"}
DECIDED = {"en": "The connected placement decides.", "zh": "由已连接的 placement 决定"}
READ_ONLY = {"en": "From a link, read-only here", "zh": "来自连线，此处只读"}

_VALUES = """(id) => Object.fromEntries((app.canvas.graph.getNodeById(id).widgets ?? [])
    .filter(({serialize}) => serialize !== false).map(({name, value}) => [name, value]))"""
_HAS_VALUES = f"""([id, wanted]) => {{
    const values = ({_VALUES})(id);
    return Object.entries(wanted).every(([name, value]) => values[name] === value);
}}"""
_SET = """([id, values]) => {
    const node = app.canvas.graph.getNodeById(id);
    for (const [name, value] of Object.entries(values)) {
        node.widgets.find((widget) => widget.name === name).value = value;
    }
    node.setDirtyCanvas(true, true);
}"""
_LOOK_AT = """(id) => {
    const node = app.canvas.graph.getNodeById(id);
    app.canvas.ds.scale = 0.8;
    app.canvas.ds.offset = [400 - node.pos[0], 100 - node.pos[1]];
    // Now: until the view is drawn, what was out of sight before is hidden and takes no focus.
    app.canvas.draw(true, true);
}"""
_DRAWN = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
_UNDO_STEPS = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
# For 50 ms after a step of the undo history the newest frontend counts every change as a part of that step.
_STEP_IS_OVER = "async () => { await app.extensionManager.workflow.activeWorkflow.changeTracker.squashState?.(); }"
_CHANGED = "(before) => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length > before"


pytestmark = looks("newer-canvas-zh", "newer-vue-en")


@pytest.fixture(scope="module")
def with_picture(shared_frontend: Frontend) -> Frontend:
    shared_frontend.comfy.upload(_landscape(), PICTURE)
    shared_frontend.refresh_choices()
    return shared_frontend


@pytest.fixture
def frontend(with_picture: Frontend) -> Iterator[Frontend]:
    with_picture.page.mouse.move(1300, 800)
    with_picture.load(_workflow())
    with_picture.page.evaluate(_LOOK_AT, PLACEMENT)
    yield with_picture
    assert with_picture.problems == []


@pytest.fixture
def editor(frontend: Frontend) -> Editor:
    editor = Editor(frontend.page, PLACEMENT)
    editor.shows(canvas="1000×800", original="600×400 200 200")
    frontend.page.evaluate(_STEP_IS_OVER)
    return editor


@dataclass
class Editor:
    """The editor of one node in the graph on the screen; distances are pixels of the canvas that it shows."""

    page: Page
    node: int

    @property
    def root(self) -> Locator:
        return self.page.locator(f'[data-placement-editor="{self.node}"]')

    def shows(self, *, canvas: str | None = None, original: str | None = None, sides: str | None = None) -> None:
        """Wait for these numbers, whatever the words between them."""
        for index, numbers in enumerate((canvas, original, sides)):
            if numbers is not None:
                line = self.root.locator(".numbers > div").nth(2 * index)
                expect(line).to_have_text(re.compile(r"\D*".join(["^", *re.split(r"[× ]", numbers), "$"])))

    def has(self, **values: Any) -> None:
        """Wait for these values of the node's widgets."""
        self.page.wait_for_function(_HAS_VALUES, arg=[self.node, values])

    def values(self) -> Json:
        values: Json = self.page.evaluate(_VALUES, self.node)
        return values

    def set(self, **values: Any) -> None:
        """Change widgets not by the editor, as a user does in the node."""
        self.page.evaluate(_SET, [self.node, values])

    def says(self, words: str) -> None:
        expect(self.root.locator(".note")).to_contain_text(words)

    def box(self, part: str) -> FloatRect:
        # The frontend lays a node's elements over it when it draws.
        self.page.evaluate(_DRAWN)
        box = self.root.locator(part).bounding_box()
        assert box is not None
        return box

    def centre(self) -> tuple[float, float]:
        box = self.box(".original")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def corner(self, name: str) -> tuple[float, float]:
        box = self.box(".original")
        return (
            box["x"] + box["width"] * ("right" in name),
            box["y"] + box["height"] * ("bottom" in name),
        )

    def focus(self) -> None:
        self.root.focus()
        expect(self.root).to_be_focused()

    def press(self, at: tuple[float, float]) -> None:
        self.page.mouse.move(*at)
        self.page.mouse.down()

    def pull(self, at: tuple[float, float], across: float, down: float, *, canvas_width: float = 1000) -> None:
        """Move the pressed mouse away from `at`."""
        scale = self.box(".frame")["width"] / canvas_width
        self.page.mouse.move(at[0] + across * scale / 2, at[1] + down * scale / 2)
        self.page.mouse.move(at[0] + across * scale, at[1] + down * scale)

    def drag(self, at: tuple[float, float], across: float, down: float, *, canvas_width: float = 1000) -> None:
        self.press(at)
        self.pull(at, across, down, canvas_width=canvas_width)
        self.page.mouse.up()

    def drawn_at(self) -> list[int]:
        """Left, top, width and height of the original in the frame, thousandths of the frame's sides."""
        frame, original = self.box(".frame"), self.box(".original")
        return [
            round(1000 * (original["x"] - frame["x"]) / frame["width"]),
            round(1000 * (original["y"] - frame["y"]) / frame["height"]),
            round(1000 * original["width"] / frame["width"]),
            round(1000 * original["height"] / frame["height"]),
        ]


@pytest.mark.smoke
def test_shows_the_placement_and_saves_nothing(frontend: Frontend, editor: Editor, look: str, language: str) -> None:
    for words in WORDS[language]:
        expect(editor.root.locator(".numbers")).to_contain_text(words)
    image = editor.root.locator("img")
    expect(image).to_have_js_property("naturalWidth", 600)
    expect(editor.root).to_be_in_viewport(ratio=0.99)
    assert editor.drawn_at() == [200, 250, 600, 500]

    saved = frontend.graph()
    assert "placement_editor" not in str(saved)
    values = {node["id"]: node["widgets_values"] for node in _workflow()["nodes"]}
    assert {number: kept or [] for number, kept in frontend.widget_values().items()} == values
    assert "placement_editor" not in str(frontend.prompt())
    frontend.screenshot(f"placement_editor-{look}")


def test_dragging_moves_and_is_one_step_to_undo(frontend: Frontend, editor: Editor) -> None:
    page = frontend.page
    before, steps = editor.values(), page.evaluate(_UNDO_STEPS)
    page.keyboard.down("Alt")
    editor.drag(editor.centre(), 63, -41)
    page.keyboard.up("Alt")
    editor.has(position="offset")
    after = editor.values()
    x, y = after["x_offset"], after["y_offset"]
    assert abs(x - 263) <= 5
    assert abs(y - 159) <= 5
    assert after == before | {"position": "offset", "x_offset": x, "y_offset": y}
    editor.shows(canvas="1000×800", original=f"600×400 {x} {y}", sides=f"{x} {y} {400 - x} {400 - y}")

    page.wait_for_function(_CHANGED, arg=steps)
    assert page.evaluate(_UNDO_STEPS) == steps + 1
    page.keyboard.press("Control+z")
    editor.has(**before)
    editor.shows(original="600×400 200 200")
    page.keyboard.press("Control+y")
    editor.has(**after)
    editor.shows(original=f"600×400 {x} {y}")


def test_snaps_to_edges_thirds_and_the_centre(editor: Editor) -> None:
    guides = editor.root.locator(".guide")
    at = editor.centre()
    editor.press(at)
    for across, down, x, y, lines in [
        (-198, 5, 0, 200, 2),  # the left edge, and the centre line across
        (203, -197, 400, 0, 2),  # the right and the upper edge
        (-170, 130, 33, 333, 2),  # the centre on the crossing of two thirds
        (4, -80, 200, 120, 1),  # the centre line down, and nothing across
    ]:
        editor.pull(at, across, down)
        editor.has(position="offset", x_offset=x)
        if lines == 2:
            editor.has(y_offset=y)
        else:
            assert editor.values()["y_offset"] == pytest.approx(y, abs=5)
        expect(guides).to_have_count(lines)
    editor.page.mouse.up()
    expect(guides).to_have_count(0)

    editor.page.keyboard.down("Alt")
    at = editor.centre()
    editor.press(at)
    editor.pull(at, -60, 0)
    editor.pull(at, 12, 0)
    editor.page.wait_for_function(
        "(id) => { const {x_offset} = (" + _VALUES + ")(id); return x_offset > 205 && x_offset < 220; }",
        arg=editor.node,
    )
    expect(guides).to_have_count(0)
    editor.page.mouse.up()
    editor.page.keyboard.up("Alt")


def test_never_leaves_the_canvas(editor: Editor) -> None:
    editor.drag(editor.centre(), 3000, 2000)
    editor.has(position="offset", x_offset=400, y_offset=400)
    editor.drag(editor.centre(), -3000, -2000)
    editor.has(position="offset", x_offset=0, y_offset=0)
    editor.shows(original="600×400 0 0", sides="0 0 400 400")


@thinned(
    ("corner", "pulled", "fixed"),
    [
        ("top-left", (-30, -20), "bottom-right"),
        ("top-right", (-150, 100), "bottom-left"),
        ("bottom-right", (-150, -100), "top-left"),
        ("bottom-left", (60, -40), "top-right"),
    ],
    kept=(0, 1),
)
def test_corners_scale_and_the_opposite_one_stays(
    editor: Editor, corner: str, pulled: tuple[int, int], fixed: str
) -> None:
    editor.page.keyboard.down("Alt")
    editor.drag(editor.corner(corner), *pulled)
    editor.page.keyboard.up("Alt")
    editor.has(position="offset")
    values = editor.values()
    grown = pulled[0] if "right" in corner else -pulled[0]
    assert abs(values["ratio"] - (600 + grown) / 1000) <= 0.006
    width, height = round(1000 * values["ratio"]), round(1000 * values["ratio"] * 2 / 3)
    x = 200 if "left" in fixed else 800 - width
    y = 200 if "top" in fixed else 600 - height
    assert values["x_offset"] == pytest.approx(x, abs=1)
    assert values["y_offset"] == pytest.approx(y, abs=1)
    editor.shows(original=f"{width}×{height} {values['x_offset']} {values['y_offset']}")


def test_a_corner_snaps_to_the_edge_of_the_canvas(editor: Editor) -> None:
    at = editor.corner("bottom-right")
    editor.press(at)
    editor.pull(at, 196, 131)
    editor.has(position="offset", ratio=0.8, x_offset=200, y_offset=200)
    expect(editor.root.locator(".guide")).to_have_count(1)
    editor.pull(at, 1500, 1000)
    editor.page.mouse.up()
    editor.shows(original="800×533 200 200", sides="200 200 0 67")


def test_wheel_and_keys_only_with_the_focus(frontend: Frontend, editor: Editor) -> None:
    page = frontend.page
    before, steps = editor.values(), page.evaluate(_UNDO_STEPS)
    page.mouse.move(*editor.centre())
    scale = page.evaluate("app.canvas.ds.scale")
    page.mouse.wheel(0, 100)
    page.wait_for_function("(before) => app.canvas.ds.scale < before", arg=scale)
    assert editor.values() == before
    page.evaluate(_LOOK_AT, PLACEMENT)

    editor.focus()
    page.mouse.move(*editor.centre())
    scale = page.evaluate("app.canvas.ds.scale")
    page.mouse.wheel(0, -100)
    page.mouse.wheel(0, -100)
    # An original at a named position keeps it: only the ratio changes.
    editor.has(position="center", ratio=0.663)
    editor.shows(original="663×442 168 179")
    assert page.evaluate("app.canvas.ds.scale") == scale
    page.wait_for_function(_CHANGED, arg=steps)
    assert page.evaluate(_UNDO_STEPS) == steps + 1

    page.evaluate(_STEP_IS_OVER)
    page.keyboard.press("ArrowRight")
    editor.has(position="offset", x_offset=169, y_offset=179)
    page.evaluate(_STEP_IS_OVER)
    page.keyboard.press("Shift+ArrowUp")
    editor.has(x_offset=169, y_offset=169)
    page.evaluate(_STEP_IS_OVER)
    page.keyboard.press("-")
    editor.has(ratio=0.653)
    assert page.evaluate(_UNDO_STEPS) == steps + 4
    values, count = editor.values(), len(frontend.graph()["nodes"])
    for key in ("Delete", "Backspace", "m", "Space"):
        page.keyboard.press(key)
    assert editor.values() == values
    assert len(frontend.graph()["nodes"]) == count
    assert page.evaluate("app.canvas.graph.getNodeById(2).mode") == 0

    # The editor lets Ctrl+Z through to the frontend; the node that the undo creates anew gets the focus back.
    page.keyboard.press("Control+z")
    editor.has(position="offset", x_offset=169, y_offset=169, ratio=0.663)
    expect(editor.root).to_be_focused()
    page.keyboard.press("Escape")
    expect(editor.root).not_to_be_focused()


def test_a_held_key_is_one_step_and_escape_takes_a_drag_back(frontend: Frontend, editor: Editor) -> None:
    page = frontend.page
    editor.focus()
    steps = page.evaluate(_UNDO_STEPS)
    for _ in range(5):
        page.keyboard.down("ArrowDown")
    page.keyboard.up("ArrowDown")
    editor.has(position="offset", x_offset=200, y_offset=205)
    page.wait_for_function(_CHANGED, arg=steps)
    assert page.evaluate(_UNDO_STEPS) == steps + 1

    page.evaluate(_STEP_IS_OVER)
    at = editor.centre()
    editor.press(at)
    editor.pull(at, 100, 77)
    editor.page.wait_for_function(f"(id) => ({_VALUES})(id).x_offset > 250", arg=PLACEMENT)
    page.keyboard.press("Escape")
    editor.has(position="offset", x_offset=200, y_offset=205)
    page.mouse.up()
    editor.shows(original="600×400 200 205")
    assert page.evaluate(_UNDO_STEPS) == steps + 1


def test_small_sizes_are_as_near_to_the_shape_as_whole_pixels_come(editor: Editor) -> None:
    editor.set(canvas_width=40, canvas_height=40, ratio=0.45)
    editor.shows(canvas="40×40", original="18×12 11 14")
    editor.focus()
    for _ in range(3):
        editor.page.keyboard.down("-")
    editor.page.keyboard.up("-")
    editor.has(ratio=0.42, position="center")
    editor.shows(canvas="40×40", original="17×11 11 14")
    editor.page.keyboard.press("ArrowLeft")
    editor.has(position="offset", x_offset=10, y_offset=14)


def test_the_picture_follows_the_widgets(editor: Editor, language: str) -> None:
    editor.set(position="top right", ratio=0.9)
    editor.shows(canvas="1000×800", original="900×600 100 0", sides="100 0 0 200")
    editor.set(target="aspect ratio", aspect_ratio="16:9", ratio=0.5, position="left")
    editor.shows(canvas="1422×800", original="600×400 0 200", sides="0 200 822 200")
    editor.set(target="pixels per side", left=1, top=20, right=300, bottom=4000)
    editor.shows(canvas="901×4420", original="600×400 1 20", sides="1 20 300 4000")
    editor.set(target="canvas size", position="offset", x_offset=999, y_offset=0)
    editor.says(OUTSIDE[language])
    editor.shows(original="500×333 500 0")
    editor.drag(editor.centre(), -250, 0)
    editor.has(position="offset", x_offset=250, y_offset=0)
    expect(editor.root.locator(".note")).not_to_contain_text(OUTSIDE[language])


def test_a_value_typed_into_a_widget_is_shown_at_once(frontend: Frontend, editor: Editor, look: str) -> None:
    page = frontend.page
    if look.startswith("vue"):
        box = page.locator(f'[data-node-id="{PLACEMENT}"] [data-widget-name="canvas_width"] input')
        box.fill("1200")
        box.press("Enter")
    else:
        x, y = page.evaluate(
            """(id) => {
                const node = app.canvas.graph.getNodeById(id);
                const {y} = node.widgets.find(({name}) => name === "canvas_width");
                const [left, top] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + 150, node.pos[1] + y + 10]);
                const area = app.canvas.canvas.getBoundingClientRect();
                return [area.left + left, area.top + top];
            }""",
            PLACEMENT,
        )
        page.mouse.dblclick(x, y)
        dialog = page.locator(".graphdialog input")
        dialog.fill("1200")
        dialog.press("Enter")
    editor.has(canvas_width=1200)
    editor.shows(canvas="1200×800", original="720×480 240 160")


def test_pixels_per_side(editor: Editor) -> None:
    editor.set(target="pixels per side", left=100, top=100, right=300, bottom=100)
    editor.shows(canvas="1000×600", original="600×400 100 100")
    editor.drag(editor.centre(), 98, 3)
    editor.has(left=200, top=100, right=200, bottom=100)
    editor.shows(canvas="1000×600", original="600×400 200 100")

    editor.page.keyboard.down("Alt")
    editor.drag(editor.corner("bottom-right"), -300, -200)
    editor.page.keyboard.up("Alt")
    editor.page.wait_for_function(f"(id) => ({_VALUES})(id).left > 350", arg=editor.node)
    values = editor.values()
    assert values["left"] == pytest.approx(400, abs=12)  # half the size: twice the canvas, the corner where it was
    assert values["top"] == pytest.approx(200, abs=6)
    assert values["right"] == pytest.approx(1000, abs=30)
    assert values["bottom"] == pytest.approx(600, abs=18)
    assert values["position"] == "center"

    editor.set(left=0, top=0, right=0, bottom=0)
    editor.shows(canvas="600×400")
    editor.focus()
    editor.page.keyboard.press("-")
    editor.shows(canvas="606×404", sides="3 2 3 2")


def test_linked_widgets_are_read_only(frontend: Frontend, editor: Editor, language: str) -> None:
    frontend.page.evaluate(
        """(id) => {
            const number = LiteGraph.createNode("PrimitiveInt");
            number.pos = [40, 700];
            app.graph.add(number);
            number.widgets[0].value = 77;
            const node = app.graph.getNodeById(id);
            number.connect(0, node, node.inputs.findIndex(({name}) => name === "x_offset"));
        }""",
        PLACEMENT,
    )
    editor.says(READ_ONLY[language])
    editor.set(position="offset", y_offset=33)
    editor.shows(original="600×400 77 33")
    before = editor.values()
    editor.drag(editor.centre(), 100, 100)
    editor.page.mouse.wheel(0, -100)
    editor.page.keyboard.press("ArrowUp")
    editor.shows(original="600×400 77 33")
    assert editor.values() == before
    expect(editor.root.locator(".handle").first).to_be_hidden()
    # At a named position the ratio is still free.
    editor.set(position="center")
    editor.shows(original="600×400 200 200")
    editor.focus()
    editor.page.keyboard.press("+")
    editor.has(ratio=0.61, position="center")


def test_hidream_and_a_connected_placement(frontend: Frontend, editor: Editor, language: str) -> None:
    page = frontend.page
    page.evaluate(_LOOK_AT, HIDREAM)
    hidream = Editor(page, HIDREAM)
    hidream.shows(canvas="1024×1024", original="512×341 256 341")
    hidream.drag(hidream.centre(), -3000, -3000, canvas_width=1024)
    hidream.has(position="offset", x_offset=0, y_offset=0)
    before = hidream.values()
    page.evaluate(
        """([from, to]) => {
            const node = app.graph.getNodeById(to);
            app.graph.getNodeById(from).connect(0, node, node.inputs.findIndex(({name}) => name === "placement"));
        }""",
        [PLACEMENT, HIDREAM],
    )
    hidream.says(DECIDED[language])
    hidream.drag(hidream.centre(), 100, 100, canvas_width=1024)
    page.mouse.wheel(0, -100)
    page.keyboard.press("ArrowRight")
    hidream.says(DECIDED[language])
    assert hidream.values() == before


def test_copies_have_editors_of_their_own(frontend: Frontend, editor: Editor) -> None:
    page = frontend.page
    editor.focus()
    page.keyboard.press("ArrowLeft")
    editor.has(position="offset", x_offset=199)
    page.evaluate("(id) => app.canvas.select?.(app.graph.getNodeById(id))", PLACEMENT)
    page.keyboard.press("Control+c")
    page.mouse.move(1300, 300)
    page.keyboard.press("Control+v")
    page.wait_for_function("app.graph.nodes.length === 6")
    number = page.evaluate("Math.max(...app.graph.nodes.map(({id}) => Number(id)))")
    copy = Editor(page, number)
    page.evaluate(_LOOK_AT, number)
    copy.has(position="offset", x_offset=199)
    copy.set(position="top")
    copy.shows(canvas="1000×800")
    assert editor.values()["position"] == "offset"
    page.evaluate("(id) => app.graph.remove(app.graph.getNodeById(id))", number)
    expect(copy.root).to_have_count(0)
    page.evaluate(_LOOK_AT, PLACEMENT)
    editor.shows(original="600×400 199 200")


def test_nothing_of_a_gone_node_reaches_the_next_workflow(frontend: Frontend, editor: Editor) -> None:
    page = frontend.page
    editor.focus()
    assert page.evaluate(_UNDO_STEPS) == 0
    page.keyboard.press("Control+z")
    # The frontend handles the key in the next frame: wait for it, or it would undo what the test does next.
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.evaluate(
        """(id) => {
            const {subgraph, node} = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            window.gone = subgraph.nodes[0];
            app.graph.remove(node);
        }""",
        PLACEMENT,
    )
    frontend.load(_workflow())
    page.evaluate(_LOOK_AT, PLACEMENT)
    editor.shows(original="600×400 200 200")
    page.evaluate(_LOOK_AT, PLACEMENT)
    # An undo that had nothing to undo does not give the focus to a node with the same number.
    expect(editor.root).not_to_be_focused()

    own = "(node) => node.widgets.find(({name}) => name === 'placement_editor').element"
    assert page.evaluate("Number(gone.id)") == PLACEMENT
    # Its picture comes late.
    page.evaluate(f"({own})(gone).querySelector('img').dispatchEvent(new Event('load'))")
    assert page.evaluate(f"(id) => ({own})(app.graph.getNodeById(id)).isConnected", PLACEMENT)


def test_bypassed_collapsed_and_opened_again(frontend: Frontend, editor: Editor, look: str) -> None:
    page = frontend.page
    page.evaluate("(id) => { app.graph.getNodeById(id).mode = 4; app.canvas.setDirty(true, true); }", PLACEMENT)
    if look.startswith("canvas"):  # the other renderer dims whole nodes
        expect(editor.root).to_have_attribute("data-off", "")
    editor.drag(editor.centre(), 3000, 0)
    editor.has(position="offset", x_offset=400)
    page.evaluate("(id) => { app.graph.getNodeById(id).mode = 0; app.canvas.setDirty(true, true); }", PLACEMENT)
    expect(editor.root).not_to_have_attribute("data-off", "")
    page.evaluate("(id) => app.graph.getNodeById(id).collapse()", PLACEMENT)
    expect(editor.root).to_be_hidden()
    page.evaluate("(id) => app.graph.getNodeById(id).collapse()", PLACEMENT)
    expect(editor.root).to_be_visible()
    editor.shows(original="600×400 400 200")


def test_inside_a_subgraph_with_the_picture_outside(frontend: Frontend, editor: Editor) -> None:
    page = frontend.page
    inner = page.evaluate(
        """(id) => {
            const {subgraph, node} = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            app.canvas.setGraph(subgraph);
            return `${subgraph.id}:${subgraph.nodes[0].id}`;
        }""",
        PLACEMENT,
    )
    node = page.evaluate("app.canvas.graph.nodes[0].id")
    page.evaluate(_LOOK_AT, node)
    inside = Editor(page, inner)
    inside.shows(canvas="1000×800", original="600×400 200 200")
    expect(inside.root.locator("img")).to_have_js_property("naturalWidth", 600)
    inside.drag(inside.centre(), -3000, -3000)
    inside.shows(original="600×400 0 0")
    page.wait_for_function(_HAS_VALUES, arg=[node, {"position": "offset", "x_offset": 0, "y_offset": 0}])
    assert "placement_editor" not in str(frontend.graph())
    page.evaluate("app.canvas.setGraph(app.rootGraph ?? app.graph)")


def test_a_value_promoted_to_the_subgraph(frontend: Frontend, editor: Editor, language: str) -> None:
    page = frontend.page
    inner, node = page.evaluate(
        """(id) => {
            const {subgraph, node} = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            const [inner] = subgraph.nodes;
            subgraph.addInput("ratio", "FLOAT").connect(inner.inputs.find(({name}) => name === "ratio"), inner);
            node.widgets.find(({name}) => name === "ratio").value = 0.3;
            app.canvas.setGraph(subgraph);
            return [`${subgraph.id}:${inner.id}`, inner.id];
        }""",
        PLACEMENT,
    )
    page.evaluate(_LOOK_AT, node)
    inside = Editor(page, inner)
    inside.shows(canvas="1000×800", original="300×200 350 300")
    inside.says(READ_ONLY[language])
    layouts = [sent for sent in frontend.prompt().values() if sent["class_type"] == "RemoteOutpaintPlacement"]
    assert [sent["inputs"]["ratio"] for sent in layouts] == [0.3]
    page.evaluate("app.canvas.setGraph(app.rootGraph ?? app.graph)")


def test_a_file_of_another_folder_and_one_that_is_missing(frontend: Frontend, editor: Editor, language: str) -> None:
    encoded = io.BytesIO()
    _landscape().resize((300, 100)).save(encoded, "PNG")
    place = {"type": "output", "subfolder": "made", "overwrite": "true"}
    files = {"image": ("strip #1.png", encoded.getvalue())}
    frontend.comfy.request("POST", "/upload/image", files=files, data=place)
    frontend.page.evaluate(_SET, [LOADER, {"image": "made/strip #1.png [output]"}])
    editor.shows(canvas="1000×800", original="600×200 200 300")
    expect(editor.root.locator("img")).to_have_js_property("naturalWidth", 300)
    frontend.page.evaluate(_SET, [LOADER, {"image": "not there.png"}])
    editor.says("not there.png")
    editor.says(ASSUMED[language])


def test_nothing_is_drawn_anew_while_nothing_changes(frontend: Frontend, editor: Editor) -> None:
    drawn = frontend.page.evaluate(
        """async (id) => {
            const element = app.canvas.graph.getNodeById(id).widgets
                .find(({name}) => name === "placement_editor").element;
            const watch = new MutationObserver(() => {});
            watch.observe(element, {subtree: true, childList: true, attributes: true, characterData: true});
            for (let frame = 0; frame < 5; frame++) {
                app.canvas.setDirty(true, true);
                await new Promise(requestAnimationFrame);
            }
            return watch.takeRecords().length;
        }""",
        PLACEMENT,
    )
    assert drawn == 0


def test_the_middle_button_pans(frontend: Frontend, editor: Editor) -> None:
    mouse = frontend.page.mouse
    x, y = editor.centre()
    before = frontend.page.evaluate("[...app.canvas.ds.offset]")
    mouse.move(x, y)
    mouse.down(button="middle")
    mouse.move(x + 40, y + 30)
    mouse.move(x + 80, y + 60)
    mouse.up(button="middle")
    frontend.page.wait_for_function(
        "([x, y]) => app.canvas.ds.offset[0] > x + 50 && app.canvas.ds.offset[1] > y + 30", arg=before
    )
    assert editor.values()["position"] == "center"


def test_through_reroutes_and_bypassed_nodes_but_not_through_others(
    frontend: Frontend, editor: Editor, language: str
) -> None:
    page = frontend.page
    page.evaluate(
        """([loader, id]) => {
            const add = (type, x) => {
                const node = LiteGraph.createNode(type);
                node.pos = [x, 800];
                app.graph.add(node);
                return node;
            };
            const [reroute, invert] = [add("Reroute", 40), add("ImageInvert", 200)];
            app.graph.getNodeById(loader).connect(0, reroute, 0);
            reroute.connect(0, invert, 0);
            invert.connect(0, app.graph.getNodeById(id), 0);
            invert.mode = 4;
            window.between = invert;
        }""",
        [LOADER, PLACEMENT],
    )
    editor.shows(original="600×400 200 200")
    expect(editor.root.locator("img")).to_have_js_property("naturalWidth", 600)
    page.evaluate("() => { between.mode = 0; app.canvas.setDirty(true, true); }")
    editor.says(ASSUMED[language])
    editor.shows(original="480×480 260 160")
    preview = {"filename": "none.jpg", "subfolder": "", "type": "temp", "width": 900, "height": 300}
    executed = {"node": str(PLACEMENT), "display_node": str(PLACEMENT), "prompt_id": "any"}
    page.evaluate(
        "(detail) => app.api.dispatchCustomEvent('executed', detail)",
        {**executed, "output": {"text": [], "outpaint_preview": [preview]}},
    )
    editor.says(LAST_RUN[language])
    editor.shows(original="600×200 200 300")


def test_what_is_shown_is_what_runs_without_a_browser(frontend: Frontend, editor: Editor) -> None:
    editor.drag(editor.corner("top-left"), 111, 77)
    editor.drag(editor.centre(), -57, 31)
    editor.has(position="offset")
    numbers = editor.root.locator(".numbers > div").nth(2).inner_text()
    width, height, x, y = map(int, re.findall(r"\d+", numbers))
    kept = _kept_area(frontend.comfy, frontend.graph())
    assert kept == (1000, 800, x, y, width, height)

    editor.set(target="pixels per side", left=70, top=80, right=90, bottom=100)
    editor.shows(canvas="760×580")
    editor.drag(editor.centre(), 33, -21, canvas_width=760)
    sides = editor.root.locator(".sides").inner_text()
    left, top, right, bottom = map(int, re.findall(r"\d+", sides))
    assert (left + right, top + bottom) == (160, 180)
    assert _kept_area(frontend.comfy, frontend.graph()) == (760, 580, left, top, 600, 400)


def test_the_preview_of_a_run(frontend: Frontend, editor: Editor, language: str) -> None:
    page = frontend.page
    page.evaluate(
        """([loader, id]) => {
            const invert = LiteGraph.createNode("ImageInvert");
            app.graph.add(invert);
            app.graph.getNodeById(loader).connect(0, invert, 0);
            invert.connect(0, app.graph.getNodeById(id), 0);
            app.graph.remove(app.graph.getNodeById(3));
        }""",
        [LOADER, PLACEMENT],
    )
    editor.says(ASSUMED[language])
    frontend.run()
    editor.says(LAST_RUN[language])
    editor.shows(canvas="1000×800", original="600×400 200 200")
    expect(editor.root.locator("img")).to_have_js_property("naturalWidth", 512)


def test_for_those_who_cannot_see_or_use_a_mouse(editor: Editor) -> None:
    expect(editor.root).to_have_attribute("role", "application")
    expect(editor.root).to_have_attribute("tabindex", "0")
    expect(editor.root).to_have_attribute("data-capture-wheel", "true")
    expect(editor.root).to_have_attribute("aria-label", re.compile(r"Placement editor|布局编辑器"))
    expect(editor.root).to_have_attribute("aria-description", re.compile(r"Arrow keys|方向键"))
    expect(editor.root.locator(".numbers")).to_have_attribute("aria-live", "polite")
    # Also as soon as the view is where the editor is.
    editor.page.evaluate(_LOOK_AT, HIDREAM)
    expect(editor.root).not_to_be_in_viewport()
    editor.page.evaluate(_LOOK_AT, PLACEMENT)
    editor.focus()
    editor.page.keyboard.press("Tab")
    expect(editor.root).not_to_be_focused()


def _kept_area(comfy: ComfyUI, workflow: Json) -> tuple[int, ...]:
    """Run it as a script would: the size of the mask and the rectangle in it that is not new."""
    workflow["nodes"] = [node for node in workflow["nodes"] if node["id"] != HIDREAM]
    result = comfy.run(to_prompt(workflow, comfy.object_info()))
    (mask,) = comfy.images(result, str(PREVIEW))
    rows, columns = np.nonzero(np.asarray(mask.convert("L")) == 0)
    x, y = int(columns.min()), int(rows.min())
    return (*mask.size, x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)


def _landscape() -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 1, 600), np.linspace(0, 1, 400))
    colours = np.stack([90 + 120 * across, 130 + 70 * down, 200 - 140 * down], axis=-1)
    colours[np.hypot(across - 0.75, (down - 0.3) * 2 / 3) < 0.09] = (250, 220, 120)
    encoded = io.BytesIO()
    picture = Image.fromarray(colours.astype(np.uint8))
    picture.save(encoded, "PNG")
    return picture


def _workflow() -> Json:
    def node(number: int, kind: str, x: int, inputs: list[Any], outputs: list[Any], values: list[Any]) -> Json:
        return {
            "id": number, "type": kind, "pos": [x, 0], "size": [300, 340], "flags": {}, "order": number, "mode": 0,
            "inputs": [{"name": name, "type": of, "link": link} for name, of, link in inputs],
            "outputs": [{"name": of.lower(), "type": of, "links": links} for of, links in outputs],
            "properties": {}, "widgets_values": values,
        }  # fmt: skip

    layout = ["canvas size", "16:9", 1000, 800, 0.6, "center", 0, 0, 0, 0, 0, 0, "grey", 0]
    integers = [("INT", []) for _ in range(6)]
    nodes = [
        node(LOADER, "LoadImage", 0, [], [("IMAGE", [1, 2]), ("MASK", [])], [PICTURE, "image"]),
        node(
            PLACEMENT, "RemoteOutpaintPlacement", 350, [("image", "IMAGE", 1)],
            [("OUTPAINT_PLACEMENT", []), *integers, ("IMAGE", []), ("MASK", [3])], layout,
        ),
        node(
            HIDREAM, "HiDreamAPIOutpaint", 1400, [("image", "IMAGE", 2)],
            [("IMAGE", []), ("MASK", []), ("OUTPAINT_PLACEMENT", [])],
            ["sandbox", 1024, 1024, 0.5, "center", 0, 0, 1, 0, "error"],
        ),
        node(MASK_TO_IMAGE, "MaskToImage", 700, [("mask", "MASK", 3)], [("IMAGE", [4])], []),
        node(PREVIEW, "PreviewImage", 1000, [("images", "IMAGE", 4)], [], []),
    ]  # fmt: skip
    links = [
        [1, LOADER, 0, PLACEMENT, 0, "IMAGE"],
        [2, LOADER, 0, HIDREAM, 0, "IMAGE"],
        [3, PLACEMENT, 8, MASK_TO_IMAGE, 0, "MASK"],
        [4, MASK_TO_IMAGE, 0, PREVIEW, 0, "IMAGE"],
    ]
    return {
        "last_node_id": 5, "last_link_id": 4, "nodes": nodes, "links": links, "groups": [], "config": {},
        "extra": {}, "version": 0.4,
    }  # fmt: skip
