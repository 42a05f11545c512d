// The placement editor: shows the original in its new canvas; mouse, wheel and keys move and scale it.
// It reads and writes the node's own widgets only; the editor itself saves nothing.
import { app } from "../../../scripts/app.js";
import { after, chinese, panWithMiddleButton, rootGraph, wheelToCanvas } from "../pack.js";
import {
  SMALLEST_RATIO, anchorAt, draggedCorner, insideCanvas, movedTo, ratioOf, scaledTo, snapped,
} from "./moves.mjs";
import { locatorOf, sourcesOf } from "./source.mjs";
import { textsFor } from "./texts.mjs";
import { PIXELS_PER_SIDE, freedomOf, placementOf, readValues, widgetsOf } from "./values.mjs";
import { PlacementView } from "./view.mjs";
import { writeValues } from "../widget_values.mjs";

/** LiteGraph's mode of a node that is neither muted nor bypassed. */
const ALWAYS = 0;
const NONE = { move: false, scale: false };
/** The assumed size of an original that is not known yet. */
const NEUTRAL = { width: 1024, height: 1024 };
const SNAP_PIXELS = 5;
const CLICK_PIXELS = 2;
const STEP = 1;
const BIG_STEP = 10;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const UNDO_KEYS = new Set(["z", "y"]);
const SCALING_KEYS = { "+": 0.01, "=": 0.01, "-": -0.01 };
const WHEEL_BASE = 1.0005;
const WHEEL_LINE_PIXELS = 33;
const WHEEL_PAUSE_MS = 400;
// By corner: the shares of the original's width and height that lie left of it and above it.
const SHARES = { "top-left": [0, 0], "top-right": [1, 0], "bottom-right": [1, 1], "bottom-left": [0, 1] };

/** @type {WeakMap<object, PlacementEditor>} by node */
const editorOf = new WeakMap();
/** Sizes of loaded pictures, by source key. An undo creates every node anew; without the size the original would jump
 * until its picture is decoded again. */
const sizes = new Map();
/** The editor that had the focus when an undo began, and its place: {editor, place}. The editor that the undo creates
 * at the same place gets the focus back. */
let lastFocused;
/** Identifies a node by workflow and position in it: an undo creates the node anew with the same place. */
const placeOf = (node) => `${rootGraph().id} ${locatorOf(node)}`;

class PlacementEditor {
  #node;
  #view;
  #shown;
  /** What is shown: {read, original, placement, freedom}; see values.mjs. */
  #now = { freedom: NONE };
  #unreadable = new Set();
  /** {move} while the pointer is down, {ratio, anchor} while the wheel turns or a scaling key is held, else
   * undefined. */
  #gesture;
  #graph;
  #before = {};
  #wheelPause;

  /** `element`: the element of the node's DOM widget. */
  constructor(node, element) {
    this.#node = node;
    const inChinese = chinese();
    this.#view = new PlacementView(element, textsFor(inChinese), inChinese ? "zh" : "en");
    const { image } = this.#view;
    after(node, "onExecuted", () => this.refresh());
    after(node, "onRemoved", () => this.#end());
    for (const widget of widgetsOf(node)) after(widget, "callback", () => this.refresh());
    for (const type of ["load", "error"]) image.addEventListener(type, () => this.#pictureCame(type === "load"));
    this.#listen(element);
  }

  // What is shown

  /** Show the state of widgets and links, if it has changed. */
  refresh() {
    const node = this.#node;
    // A picture may be loaded after the node was removed, when another node has its id. Some frontends leave
    // `node.graph` set on a removed node, so look the id up.
    if (app.canvas.graph?.getNodeById(node.id) !== node) return;
    const { element } = this.#view;
    if (LiteGraph.vueNodesMode && !element.isConnected) this.#takePlace();
    if (lastFocused && lastFocused.editor !== this && lastFocused.place === placeOf(node)) this.#takeFocusBack();
    const read = readValues(node);
    const sources = sourcesOf(node);
    const source = sources.find((each) => !this.#unreadable.has(each.key)) ?? sources.at(-1);
    const size = source && (source.size ?? sizes.get(source.key));
    const focused = document.activeElement === element;
    const { mode } = node;
    const state = JSON.stringify([read, sources, source, size, this.#unreadable.size, focused, mode]);
    if (state === this.#shown) return;
    this.#shown = state;
    element.dataset.placementEditor = locatorOf(node);
    this.#view.picture(source);
    const original = size ?? NEUTRAL;
    const { placement, problem } = placementOf(read, original);
    const freedom = placement ? freedomOf(read) : NONE;
    this.#now = { read, original, placement, freedom };
    // The Vue renderer dims a muted or bypassed node itself.
    const isOff = read.decided || (mode !== ALWAYS && !LiteGraph.vueNodesMode);
    this.#view.show(placement, size, freedom, isOff);
    this.#view.say(this.#notes(read, sources, source, size, problem), freedom, focused);
  }

  #notes(read, sources, source, size, problem) {
    const { texts } = this.#view;
    if (read.decided) return [{ text: texts.decided }];
    const notes = [];
    const labels = (names) =>
      texts.list(names.map((name) => this.#node.widgets.find((widget) => widget.name === name).label ?? name));
    const seen = read.linked.filter((name) => !read.unseen.includes(name));
    if (problem) notes.push({ text: texts[problem], isProblem: true });
    if (read.unseen.length) notes.push({ text: texts.unseen(labels(read.unseen)) });
    if (seen.length) notes.push({ text: texts.linked(labels(seen)) });
    for (const { key, file } of sources) {
      if (this.#unreadable.has(key)) notes.push({ text: texts.unreadable(file.filename) });
    }
    if (source?.kind === "run") notes.push({ text: texts.lastRun });
    if (!size) {
      const isComing = source && !this.#unreadable.has(source.key);
      notes.push({ text: isComing ? texts.loading : texts.assumed(`${NEUTRAL.width}×${NEUTRAL.height}`) });
    }
    return notes;
  }

  #pictureCame(loaded) {
    const { image, shownKey } = this.#view;
    if (loaded) sizes.set(shownKey, { width: image.naturalWidth, height: image.naturalHeight });
    else this.#unreadable.add(shownKey);
    this.refresh();
    this.#node.setDirtyCanvas(true, true);
  }

  /** Put this editor's element into the page in place of the old one: after an undo, and on entering or leaving a
   * subgraph, the Vue renderer still shows the element of the earlier node object. */
  #takePlace() {
    const { element } = this.#view;
    document.querySelector(`[data-node-id="${this.#node.id}"] [data-placement-editor]`)?.replaceWith(element);
  }

  #takeFocusBack() {
    const { element } = this.#view;
    // The user has focused something else meanwhile: leave the focus there.
    if (document.activeElement !== document.body) lastFocused = undefined;
    if (!lastFocused || element.getClientRects().length === 0) return;
    lastFocused = undefined;
    element.focus({ preventScroll: true });
  }

  // Gestures: each is one step of the undo history, from the first #write to #end

  #write(changes) {
    const node = this.#node;
    if (!this.#graph) {
      this.#graph = node.graph;
      this.#before = Object.fromEntries(widgetsOf(node).map(({ name, value }) => [name, value]));
      app.canvas.emitBeforeChange();
      this.#graph.beforeChange(node);
    }
    writeValues(node, changes);
    this.refresh();
  }

  #end() {
    clearTimeout(this.#wheelPause);
    this.#gesture = undefined;
    this.#view.guide();
    if (!this.#graph) return;
    const graph = this.#graph;
    this.#graph = undefined;
    graph.afterChange(this.#node);
    app.canvas.emitAfterChange();
  }

  #cancel() {
    if (this.#graph) this.#write(this.#before);
    this.#end();
  }

  #listen(element) {
    element.addEventListener("focus", () => this.refresh());
    element.addEventListener("blur", () => {
      this.#end();
      this.refresh();
    });
    element.addEventListener("pointerdown", (event) => this.#pointerDown(event));
    element.addEventListener("pointermove", (event) => this.#gesture?.move?.(event));
    element.addEventListener("pointerup", () => this.#end());
    element.addEventListener("lostpointercapture", () => this.#end());
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("keydown", (event) => this.#keyDown(event));
    element.addEventListener("keyup", () => !this.#gesture?.move && this.#end());
    panWithMiddleButton(element);
  }

  #pointerDown(event) {
    if (event.button !== 0) return;
    this.#end();
    this.#view.element.focus({ preventScroll: true });
    const { placement, freedom } = this.#now;
    if (!placement || !freedom.move || !this.#view.original.contains(event.target)) return;
    const shares = SHARES[event.target.dataset.corner];
    const frame = this.#view.frame.getBoundingClientRect();
    const follow = shares ? this.#scaling(event, frame, shares) : this.#moving(event, frame);
    this.#view.element.setPointerCapture(event.pointerId);
    this.#gesture = {
      move: (moved) => {
        const way = Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY);
        if (this.#graph || way > CLICK_PIXELS) follow(moved);
      },
    };
  }

  #moving(down, frame) {
    const { read, placement } = this.#now;
    const scale = placement.canvasWidth / frame.width;
    return (event) => {
      const wanted = insideCanvas({
        ...placement,
        x: placement.x + (event.clientX - down.clientX) * scale,
        y: placement.y + (event.clientY - down.clientY) * scale,
      });
      const { x, y, guides } = snapped(wanted, event.altKey ? 0 : SNAP_PIXELS * scale);
      this.#write(movedTo(read, placement, x, y));
      this.#view.guide(guides);
    };
  }

  #scaling(down, frame, [u, v]) {
    const { read, original, placement } = this.#now;
    const corner = anchorAt(placement, u, v);
    const opposite = anchorAt(placement, 1 - u, 1 - v);
    return (event) => {
      const x = corner.x + (event.clientX - down.clientX) / frame.width;
      const y = corner.y + (event.clientY - down.clientY) / frame.height;
      const reach = event.altKey ? 0 : SNAP_PIXELS;
      const within = { x: reach / frame.width, y: reach / frame.height };
      const { ratio, guides } = draggedCorner(placement, opposite, x, y, within);
      this.#write(scaledTo(read, original, placement, ratio, opposite, guides));
      this.#view.guide(guides);
    };
  }

  #wheel(event) {
    const isFocused = document.activeElement === this.#view.element;
    if (!isFocused || event.ctrlKey || event.metaKey || !this.#now.freedom.scale) return wheelToCanvas(event);
    event.preventDefault();
    event.stopPropagation();
    if (this.#gesture?.move) return;
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_LINE_PIXELS : 1);
    this.#scaleBy((ratio) => ratio * WHEEL_BASE ** -pixels);
    clearTimeout(this.#wheelPause);
    this.#wheelPause = setTimeout(() => this.#end(), WHEEL_PAUSE_MS);
  }

  /** Scale around the original's centre, or keep its named position. `change`: old ratio -> new ratio. */
  #scaleBy(change) {
    const { read, original, placement } = this.#now;
    const isNamed = read.target !== PIXELS_PER_SIDE && read.values.position !== "offset";
    const anchor = isNamed ? undefined : anchorAt(placement, 1 / 2, 1 / 2);
    this.#gesture ??= { ratio: ratioOf(placement), anchor };
    this.#gesture.ratio = Math.max(change(this.#gesture.ratio), SMALLEST_RATIO);
    if (read.target !== PIXELS_PER_SIDE) this.#gesture.ratio = Math.min(this.#gesture.ratio, 1);
    this.#write(scaledTo(read, original, placement, this.#gesture.ratio, this.#gesture.anchor));
  }

  #keyDown(event) {
    if (event.ctrlKey || event.metaKey) {
      this.#end();
      if (UNDO_KEYS.has(event.key.toLowerCase())) lastFocused = { editor: this, place: placeOf(this.#node) };
      return;
    }
    // Otherwise the canvas deletes, moves or mutes the selected node.
    event.stopPropagation();
    if (event.key === "Escape") {
      event.preventDefault();
      if (this.#gesture) this.#cancel();
      else app.canvas.canvas.focus();
      return;
    }
    const { read, placement, freedom } = this.#now;
    const arrow = ARROWS[event.key];
    const scaling = SCALING_KEYS[event.key];
    if (!arrow && !scaling) return;
    event.preventDefault();
    if (this.#gesture?.move) return;
    if (arrow && freedom.move) {
      if (this.#gesture) this.#end();
      const step = event.shiftKey ? BIG_STEP : STEP;
      this.#write(movedTo(read, placement, placement.x + arrow[0] * step, placement.y + arrow[1] * step));
    }
    if (scaling && freedom.scale) this.#scaleBy((ratio) => ratio + scaling);
  }
}

/** Create the editor of a node in `element`, the element of its DOM widget. */
export function add(node, element) {
  editorOf.set(node, new PlacementEditor(node, element));
  node.setDirtyCanvas(true, true);
}

/** Refresh the editors of all nodes of the visible graph. */
export function refresh() {
  for (const node of app.canvas.graph?.nodes ?? []) editorOf.get(node)?.refresh();
}
