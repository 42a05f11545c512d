// What the modules of web/ share: which nodes are ours, the user's language, the canvas below an element.
import { app } from "../../scripts/app.js";

/** The name of the pack's folder, which is the user's. */
export const FOLDER = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));

// Category and titles are translated by the frontend; the module that a node comes from is not.
const MODULE = `custom_nodes.${FOLDER}`;

/** Ids of this pack's nodes. */
const ours = new Set();
/** @type {{order: number, build: (node: object) => void}[]} */
const builders = [];

/** Have `build(node)` called for each new node of this pack; a smaller `order` comes first (is drawn further up). */
export function onNewNode(order, build) {
  builders.push({ order, build });
  builders.sort((one, other) => one.order - other.order);
}

/** Have `run(...arguments)` called whenever `object[name]` is, after what is there already. */
export function after(object, name, run) {
  const before = object[name];
  object[name] = function (...received) {
    const result = before?.apply(this, received);
    run(...received);
    return result;
  };
}

/** Whether the user reads Chinese. Changing the language loads the graph anew: nothing has to be said again. */
export function chinese() {
  return String(app.ui.settings.getSettingValue("Comfy.Locale") ?? "").startsWith("zh");
}

/** The canvas renderer lays elements over the canvas, which would not get to know of the wheel. */
export function wheelToCanvas(event) {
  if (!LiteGraph.vueNodesMode) app.canvas.processMouseWheel(event);
}

/** Let the middle button pan over an element, as it does over the canvas. */
export function panWithMiddleButton(element) {
  element.addEventListener("pointerdown", (event) => event.button === 1 && app.canvas.processMouseDown(event));
  element.addEventListener("pointermove", (event) => event.buttons & 4 && app.canvas.processMouseMove(event));
  element.addEventListener("pointerup", (event) => event.button === 1 && app.canvas.processMouseUp(event));
}

app.registerExtension({
  name: "HiDreamVolcengine.Nodes",

  beforeRegisterNodeDef(_nodeType, definition) {
    if (definition.python_module === MODULE) ours.add(definition.name);
  },

  nodeCreated(node) {
    if (!ours.has(node.comfyClass)) return;
    for (const { build } of builders) build(node);
  },
});
