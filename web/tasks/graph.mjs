// Adds nodes to the graph: a LoadImage for a picture of a task, or a RemoteTaskResult for the task; and dragging for
// both.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { addressOf } from "../server.mjs";
import { texts } from "./texts.mjs";

const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
/** Pixels that a node is moved if another one is at its place. */
const CASCADE = 30;
const TYPE = "application/x-hidream-volcengine-task";
const NODES = "[data-node-id], .dom-widget";

/** Return the URL of a picture in its full size. */
export function pictureOf({ journal_id: id }, position) {
  return addressOf(`/tasks/${id}/pictures/${position}`);
}

/** Copy a picture into ComfyUI's input folder, and add a LoadImage with it at `place`, [x, y] in the graph. Returns the
 * node's title. Throws Error with a text for the user. */
export async function addPicture(task, position, place) {
  const graph = app.canvas.graph;
  const name = await uploaded(task, position);
  return add(graph, "LoadImage", place, { image: name });
}

/** Add a RemoteTaskResult of the task at `place`. Returns the node's title. Throws Error with a text for the user. */
export function addTask({ journal_id: task_id, profile, endpoint }, place) {
  return add(app.canvas.graph, "RemoteTaskResult", place, { profile, endpoint, task_id });
}

async function uploaded({ journal_id: id }, position) {
  const picture = await api.fetchApi(`/hidream_volcengine/tasks/${id}/pictures/${position}`, { cache: "no-store" });
  const type = picture.headers.get("Content-Type")?.split(";")[0];
  if (!picture.ok || !ENDINGS[type]) throw new Error(texts().notRead);
  const form = new FormData();
  // ComfyUI renames the file if another picture has this name already.
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
  // One step of the undo history.
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
  // A combo has the files and profiles of the time at which the page was loaded: add a newer one.
  const choices = widget.options?.values;
  if (Array.isArray(choices) && !choices.includes(value)) choices.push(value);
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
}

function freePlace(graph, [x, y]) {
  const taken = graph.nodes.some(({ pos }) => Math.abs(pos[0] - x) < 1 && Math.abs(pos[1] - y) < 1);
  return taken ? freePlace(graph, [x + CASCADE, y + CASCADE]) : [x, y];
}

/** Return the position of a pointer event in the graph, [x, y]. */
export function placeAt({ clientX, clientY }) {
  return app.clientPosToCanvasPos([clientX, clientY]);
}

/** Return the middle of the part of the graph that the sidebar's panel does not cover, [x, y] in the graph. */
export function middleBeside(panel) {
  const whole = app.canvas.canvas.getBoundingClientRect();
  const covered = panel.getBoundingClientRect();
  const isLeft = covered.left + covered.right < whole.left + whole.right;
  const left = isLeft ? Math.max(whole.left, covered.right) : whole.left;
  const right = isLeft ? whole.right : Math.min(whole.right, covered.left);
  return placeAt({ clientX: (left + right) / 2, clientY: (whole.top + whole.bottom) / 2 });
}

// Dragging. The frontend would read a dropped picture as a workflow and replace the graph, so during a drag of ours the
// drop events are stopped before it gets them.

/** Make `element` draggable; `dropped(place)` is called when it is dropped onto the graph, with [x, y] in the graph. */
export function makeDraggable(element, dropped) {
  element.draggable = true;
  element.addEventListener("dragstart", (event) => {
    // The row around a thumbnail is draggable, too, and would take over.
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
  // If the element is removed during the drag, there is no dragend. During a drag the pointer sends no pointermove, so
  // the next one shows that the drag is over.
  const listeners = { dragenter: over, dragover: over, drop, dragend: ended, pointermove: ended };
  for (const [type, listener] of Object.entries(listeners)) window.addEventListener(type, listener, true);
}

/** Whether the target of an event is the canvas, or an element that a renderer lays over it. */
function isGraph(target) {
  return target === app.canvas.canvas || !!target.closest?.(NODES);
}
