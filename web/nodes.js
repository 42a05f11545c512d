// The widgets that the page adds to nodes of this pack: placement editor, picker button, status. They must be there
// before a workflow is read into the node, so they are added at once; their content is in modules that are imported
// later.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { FOLDER, after, chinese, importedInto, nodeOf, notLoaded } from "./pack.js";

// Tells this pack's nodes from others: the frontend translates category and titles, but not the module.
const MODULE = `custom_nodes.${FOLDER}`;
const MARGIN = 10;

/** Ids of this pack's nodes. */
const ours = new Set();

app.registerExtension({
  name: "HiDreamVolcengine.Nodes",

  beforeRegisterNodeDef(_nodeType, definition) {
    if (definition.python_module === MODULE) ours.add(definition.name);
  },

  nodeCreated(node) {
    if (!ours.has(node.comfyClass)) return;
    // In the order from top to bottom.
    if (WITH_EDITOR.has(node.comfyClass)) addEditor(node);
    if (node.comfyClass === WITH_PICKER) addPicker(node);
    addStatus(node);
  },
});

/** Call `makeRoom()`, which enlarges the node, now and whenever a workflow has set the node's size.
 *
 * Now is before the frontend first records the graph: growing later would be recorded as a change, again after every
 * undo. */
function makingRoom(node, makeRoom) {
  makeRoom();
  after(node, "onConfigure", makeRoom);
}

// The placement editor

const WITH_EDITOR = new Set(["RemoteOutpaintPlacement", "HiDreamAPIOutpaint"]);
const EDITOR_HEIGHT = 330;
const NODE_WIDTH = 300;
/** Pixels that a drawn node needs beyond the height that computeSize() returns. */
const SLACK = 10;
/** Decimals of the widget `ratio`. The frontend's own two are too coarse for dragging. */
const RATIO_DECIMALS = 3;

/** The module placement/editor.mjs; undefined until it is imported. */
let editor;

async function addEditor(node) {
  const element = document.createElement("div");
  element.style.minHeight = `${EDITOR_HEIGHT - 2 * MARGIN}px`;
  const options = { serialize: false, hideInPanel: true, margin: MARGIN, getMinHeight: () => EDITOR_HEIGHT };
  node.addDOMWidget("placement_editor", "placement_editor", element, options).serialize = false;
  const ratio = node.widgets.find(({ name }) => name === "ratio");
  if (ratio) ratio.options.precision = RATIO_DECIMALS;
  makingRoom(node, () => {
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width, NODE_WIDTH), Math.max(node.size[1], height + SLACK)]);
  });
  editor ??= await importedInto(element, () => import("./placement/editor.mjs"));
  editor.add(node, element);
}

app.registerExtension({
  name: "HiDreamVolcengine.PlacementEditor",

  setup() {
    // Every change of a widget or a link redraws the canvas, in both renderers.
    after(app.canvas, "onDrawForeground", () => editor?.refresh());
  },
});

// The button of the template picker; it is not saved with the workflow

const WITH_PICKER = "HiDreamAPIModelPhotoSet";

function addPicker(node) {
  const name = chinese() ? "选择模板…" : "Choose a template…";
  const tooltip = chinese()
    ? "显示服务端的模板，点击即填入 template_id。不产生费用。"
    : "Shows the service's templates; a click fills template_id. Nothing is bought.";
  // Behind all widgets that are saved: a workflow file lists widget values by position, without names. The text is the
  // widget's name because some renderers show the name of a button, not its label.
  const button = node.addWidget("button", name, "", () => openPicker(node), { serialize: false });
  Object.assign(button, { serialize: false, tooltip });
  makingRoom(node, () => node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]));
}

async function openPicker(node) {
  let picker;
  try {
    picker = await import("./templates/picker.mjs");
  } catch (problem) {
    console.warn(problem);
    app.extensionManager.toast.add({ severity: "error", summary: "HiDream & Volcengine", detail: notLoaded() });
    return;
  }
  picker.open(node);
}

// The status below each node: what it is doing, and what its last run said

const PROGRESS = "hidream_volcengine.progress";
const HEARD = [
  PROGRESS, "execution_start", "execution_success", "execution_error", "execution_interrupted", "executed", "status",
  "executing",
];

/** The module status/node_status.mjs; undefined until it is imported. */
let status;
/** Calls of its functions that wait for it, in order: [name of the function, arguments]. */
const untold = [];

/** Call a function of the module, after importing it if need be. If the import fails, the call stays in `untold`, and
 * the next call tries the import again. */
async function tellStatus(name, ...values) {
  untold.push([name, values]);
  try {
    status ??= await import("./status/node_status.mjs");
  } catch (problem) {
    console.warn(problem);
    return;
  }
  while (untold.length) {
    const [told, given] = untold.shift();
    status[told](...given);
  }
}

function addStatus(node) {
  const element = document.createElement("div");
  element.style.display = "none";
  const place = { element, height: () => 0 };
  const height = () => place.height() + 2 * MARGIN;
  const options = { serialize: false, hideInPanel: true, margin: MARGIN, getMinHeight: height, getMaxHeight: height };
  place.widget = node.addDOMWidget("node_status", "node_status", element, options);
  Object.assign(place.widget, { serialize: false, hidden: true });
  tellStatus("add", node, place);
  after(node, "onExecuted", (output) => tellStatus("executed", node, output));
}

/** Hide `progress_text` of this pack's nodes from the frontend, which would show it on the node although the status
 * says the same, and in older versions save it with the workflow. The frontend's own listeners are called first, so a
 * listener of ours could not stop them: the dispatch is replaced. */
function keepProgressTextBack() {
  const dispatch = api.dispatchCustomEvent;
  api.dispatchCustomEvent = function (type, detail) {
    const isOurs = type === "progress_text" && ours.has(nodeOf(detail?.nodeId)?.comfyClass);
    return isOurs || dispatch.apply(this, arguments);
  };
}

app.registerExtension({
  name: "HiDreamVolcengine.NodeStatus",

  setup() {
    for (const type of HEARD) {
      api.addEventListener(type, ({ detail }) => {
        // Until a node of this pack was added, only the pack's own event can be about one: do not import the module for
        // the others.
        if (type === PROGRESS || status || untold.length) tellStatus("hear", type, detail);
      });
    }
    keepProgressTextBack();
    // Every change of a widget or a link redraws the canvas, in both renderers.
    after(app.canvas, "onDrawForeground", () => status?.look());
  },
});
