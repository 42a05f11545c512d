// A task's pictures and the task itself as nodes of the graph, by a button or dragged there.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { addressOf } from "../server.mjs";
import { texts } from "./texts.mjs";

const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
/** From one node to the next that is put at the same place. */
const CASCADE = 30;
const TYPE = "application/x-hidream-volcengine-task";
const NODES = "[data-node-id], .dom-widget";

/** The address of a picture in its full size. */
export function pictureOf({ journal_id: id }, position) {
  return addressOf(`/tasks/${id}/pictures/${position}`);
}

/** Add a LoadImage with a copy of the picture; `place` is where, in the graph. Returns the node's title. */
export async function addPicture(task, position, place) {
  const graph = app.canvas.graph;
  const name = await uploaded(task, position);
  return add(graph, "LoadImage", place, { image: name });
}

/** Add a RemoteTaskResult of the task. Returns the node's title. */
export function addTask({ journal_id: task_id, profile, endpoint }, place) {
  return add(app.canvas.graph, "RemoteTaskResult", place, { profile, endpoint, task_id });
}

async function uploaded({ journal_id: id }, position) {
  const picture = await api.fetchApi(`/hidream_volcengine/tasks/${id}/pictures/${position}`, { cache: "no-store" });
  const type = picture.headers.get("Content-Type")?.split(";")[0];
  if (!picture.ok || !ENDINGS[type]) throw new Error(texts().notRead);
  const form = new FormData();
  // ComfyUI takes another name where another picture has this one.
  form.append("image", await picture.blob(), `${id}_${position}.${ENDINGS[type]}`);
  form.append("type", "input");
  const answer = await api.fetchApi("/upload/image", { method: "POST", body: form });
  if (!answer.ok) throw new Error(texts().notUploaded(answer.status));
  const { name, subfolder } = await answer.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

function add(graph, type, place, values) {
  const node = LiteGraph.createNode(type);
  if (!node) throw new Error(texts().noNode(type));
  node.pos = freePlace(graph, place);
  // One step to undo.
  app.canvas.emitBeforeChange();
  graph.beforeChange();
  try {
    graph.add(node);
    for (const [name, value] of Object.entries(values)) choose(node, name, value);
  } finally {
    graph.afterChange();
    app.canvas.emitAfterChange();
  }
  app.canvas.selectItems([node]);
  return node.title;
}

function choose(node, name, value) {
  const widget = node.widgets.find((each) => each.name === name);
  // A combo knows the files and profiles that were there when the page was loaded.
  const choices = widget.options?.values;
  if (Array.isArray(choices) && !choices.includes(value)) choices.push(value);
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
}

function freePlace(graph, [x, y]) {
  const taken = graph.nodes.some(({ pos }) => Math.abs(pos[0] - x) < 1 && Math.abs(pos[1] - y) < 1);
  return taken ? freePlace(graph, [x + CASCADE, y + CASCADE]) : [x, y];
}

/** Where a pointer is in the graph. */
export function placeAt({ clientX, clientY }) {
  return app.clientPosToCanvasPos([clientX, clientY]);
}

/** The middle of what is seen of the graph beside the sidebar's panel. */
export function middleBeside(panel) {
  const whole = app.canvas.canvas.getBoundingClientRect();
  const covered = panel.getBoundingClientRect();
  const isLeft = covered.left + covered.right < whole.left + whole.right;
  const left = isLeft ? Math.max(whole.left, covered.right) : whole.left;
  const right = isLeft ? whole.right : Math.min(whole.right, covered.left);
  return placeAt({ clientX: (left + right) / 2, clientY: (whole.top + whole.bottom) / 2 });
}

// Dragging. The frontend would take a dropped picture for a workflow and replace the graph: while something of ours is
// under way, it hears of no drop.

/** Have `dropped(place)` called when `element` is dropped onto the graph. */
export function makeDraggable(element, dropped) {
  element.draggable = true;
  element.addEventListener("dragstart", (event) => {
    // The row around a thumbnail can be dragged, too.
    event.stopPropagation();
    event.dataTransfer.clearData();
    event.dataTransfer.setData(TYPE, "remote");
    event.dataTransfer.effectAllowed = "copy";
    guardDrops(element, dropped);
  });
}

function guardDrops(element, dropped) {
  const over = (event) => {
    event.stopImmediatePropagation();
    if (!isGraph(event.target)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  };
  const drop = (event) => {
    event.stopImmediatePropagation();
    event.preventDefault();
    if (isGraph(event.target)) dropped(placeAt(event));
  };
  const ended = () => {
    for (const [type, listener] of Object.entries(listeners)) window.removeEventListener(type, listener, true);
  };
  // The drag of an element that was removed meanwhile has no end; the next movement of the pointer is one.
  const listeners = { dragenter: over, dragover: over, drop, dragend: ended, pointermove: ended };
  for (const [type, listener] of Object.entries(listeners)) window.addEventListener(type, listener, true);
}

/** The canvas itself, or what a renderer lays over it. */
function isGraph(target) {
  return target === app.canvas.canvas || !!target.closest?.(NODES);
}
