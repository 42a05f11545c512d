// What a node of this pack has from the moment it is made: its widgets, all but the server's own. Their places must be
// there before a workflow is read into the node; what is in them comes with the modules that are imported then.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { FOLDER, after, chinese, importedInto, nodeOf, notLoaded } from "./pack.js";

// Category and titles are translated by the frontend; the module that a node comes from is not.
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
    // From top to bottom.
    if (WITH_EDITOR.has(node.comfyClass)) addEditor(node);
    if (node.comfyClass === WITH_PICKER) addPicker(node);
    addStatus(node);
  },
});

/** Have `makeRoom()` called now, before the size is saved for the first time (growing later would be a change that
 * comes back with every undo), and whenever a workflow brings another size. */
function makingRoom(node, makeRoom) {
  makeRoom();
  after(node, "onConfigure", makeRoom);
}

// The placement editor

const WITH_EDITOR = new Set(["RemoteOutpaintPlacement", "HiDreamAPIOutpaint"]);
const EDITOR_HEIGHT = 330;
const NODE_WIDTH = 300;
/** What a node needs when it is drawn, beyond what it computes. */
const SLACK = 10;
/** A hundredth of the canvas, as the frontend would have it, is too coarse to drag. */
const RATIO_DECIMALS = 3;

/** The module, when it is there. */
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
    // Whatever changes a widget or a link has the canvas drawn anew, in both renderers.
    after(app.canvas, "onDrawForeground", () => editor?.refresh());
  },
});

// The button of the template picker, which is never saved

const WITH_PICKER = "HiDreamAPIModelPhotoSet";

function addPicker(node) {
  const name = chinese() ? "选择模板…" : "Choose a template…";
  const tooltip = chinese()
    ? "显示服务端的模板，点击即填入 template_id。不产生费用。"
    : "Shows the service's templates; a click fills template_id. Nothing is bought.";
  // Last of all that ComfyUI knows: in a file, values have no names but their places. Some renderers show the name of a
  // button, and not its label.
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

// Below each node what it is doing, and what its last run had to say

const PROGRESS = "hidream_volcengine.progress";
const HEARD = [
  PROGRESS, "execution_start", "execution_success", "execution_error", "execution_interrupted", "executed", "status",
  "executing",
];

/** The module, when it is there. */
let status;
/** What is to be told to it, in order: [name of its function, arguments]. */
const untold = [];

/** Call a function of the module: at once if it is there, else when it could be imported. The next call tries that
 * again where it fails. */
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

/** It says the same in less, and older frontends would save it with the workflow. Theirs are the first listeners. */
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
        // As long as there is no node of this pack, nothing else is about one.
        if (type === PROGRESS || status || untold.length) tellStatus("hear", type, detail);
      });
    }
    keepProgressTextBack();
    // Whatever changes a widget or a link has the canvas drawn anew, in both renderers.
    after(app.canvas, "onDrawForeground", () => status?.look());
  },
});
