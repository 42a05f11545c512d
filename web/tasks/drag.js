// Dragging out of the Tasks tab into the graph. The frontend would take a dropped picture for a workflow and replace
// the graph: while something of ours is under way, it hears of no drop.
import { app } from "../../../scripts/app.js";
import { placeAt } from "./graph.js";

const TYPE = "application/x-hidream-volcengine-task";
const NODES = "[data-node-id], .dom-widget";

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
