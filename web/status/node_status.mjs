// Below each node of this pack: that its profile has no key, what it is doing while it runs, and what its last run has
// to say: sizes, what was resized, what was reused. Nothing of it is ever saved with the workflow, and a node is no
// higher in the file for it.
//
// While it runs the server sends `hidream_volcengine.progress` (nodes/comfy/display.py says what is in it), at its end
// `ui: {text: ["English\n中文", ...], account: [{bought, resumed, reused, seconds, free}, ...]}`. An error of it stands
// here until its next run: the newest frontend hides the words of an exception behind a general message.
import { app } from "../../../scripts/app.js";
import { RunBlock, StatusView } from "./view.mjs";
import { textsFor, together } from "./texts.mjs";
import { isLinked } from "../graph_links.mjs";
import { after, chinese, nodeOf, pathOf, rootGraph, wheelToCanvas } from "../pack.js";
import { servicesOf } from "../profiles/known.mjs";
import { valueBroughtTo } from "../widget_values.mjs";

const SANDBOX = "sandbox";
/** Which services a node may ask, by the beginning of its id. */
const ASKS = { HiDream: ["HiDream"], Volcengine: ["Volcengine"], RemoteTaskResult: ["HiDream", "Volcengine"] };
/** A node that is drawn may be a little higher than it computes. */
const SLACK = 14;
// What a reader does inside a text; elsewhere on the canvas these keys act on the selected nodes.
const READING_KEYS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End"]);
const COPY_KEYS = new Set(["a", "c"]);

/** @type {WeakMap<object, NodeStatus>} by node */
const statusOf = new WeakMap();
/** What runs now: {state, at} by execution id. Nodes are made anew by undoing and by changing workflows. */
const runs = new Map();
/** The workflow of each prompt that has told it. */
const workflows = new Map();

class NodeStatus {
  #node;
  #view;
  #widget;
  #lines = [];
  /** What has to be known before it is queued. */
  #warning = "";
  #isError = false;
  #promptId;
  /** @type {Map<string, RunBlock>} by execution id: a node in a subgraph has one for each instance of it. */
  #blocks = new Map();
  #clock;
  #height = 0;
  /** The node's own height, while this element may have made it higher. */
  #heightWithout;

  /** `place`: {element, widget, height}: its widget in the node, and who is asked how high it is. */
  constructor(node, place) {
    this.#node = node;
    this.#view = new StatusView(place.element);
    this.#widget = place.widget;
    place.height = () => this.#bodyHeight();
    this.#keepEventsOfReaders(place.element);
    // The text wraps anew when the node is made wider or narrower.
    new ResizeObserver(() => node.setDirtyCanvas(true, true)).observe(this.#view.body);
    after(node, "onConfigure", () => this.#goOn());
    after(node, "onRemoved", () => clearInterval(this.#clock));
    after(node, "onSerialize", (saved) => this.#keepHeightOutOf(saved));
    this.#show();
    this.#goOn();
  }

  /** Whether its profile can pay: said before it is queued, and while it cannot. */
  look() {
    const warning = warningOf(this.#node);
    if (warning === this.#warning) return;
    this.#warning = warning;
    this.#show();
  }

  /** A new run begins: what the last one said does not hold any more. */
  begin() {
    this.#say([]);
  }

  /** @param {string[]} items  "English\n中文" */
  end(items, accounts) {
    const lines = items.map(inUsersLanguage);
    if (accounts.length) lines.push(textsFor(chinese()).account(together(accounts)));
    this.#say(lines);
  }

  /** @param {string} message  of an exception, in one language or in two */
  fail(message) {
    this.#say([inUsersLanguage(message)], true);
  }

  /** What became of an interrupted run, unless another one has begun since then. */
  leave(left, promptId) {
    if (this.#promptId !== undefined && this.#promptId !== promptId) return;
    this.#say([textsFor(chinese()).left(left)]);
  }

  run(id, promptId) {
    this.#promptId = promptId;
    if (!this.#blocks.has(id)) this.#blocks.set(id, new RunBlock());
    this.#show();
  }

  /** @param {number} parked  requests that go on at the service */
  stop(id, parked = 0) {
    this.#blocks.delete(id);
    if (parked > 0) this.#say([textsFor(chinese()).parked(parked)]);
    else this.#show();
  }

  #say(lines, isError = false) {
    this.#lines = lines;
    this.#isError = isError;
    this.#show();
  }

  #show() {
    const isHigher = this.#isHigher();
    const wasSilent = this.#widget.hidden ?? true;
    const texts = textsFor(chinese());
    // A run may have ended while another workflow was open, whose nodes have the same numbers.
    for (const id of [...this.#blocks.keys()]) if (!runs.has(id)) this.#blocks.delete(id);
    for (const [id, block] of this.#blocks) {
      const { state, at } = runs.get(id);
      const elapsed = state.elapsed + (performance.now() - at) / 1000;
      block.show(state, elapsed, this.#blocks.size > 1 ? instanceOf(id) : "", texts);
    }
    this.#view.show(this.#lines, [...this.#blocks.values()], texts, this.#isError, this.#warning);
    const silent = !this.#warning && this.#lines.length === 0 && this.#blocks.size === 0;
    this.#widget.hidden = silent;
    if (wasSilent && !silent) this.#heightWithout = this.#node.size[1];
    if (isHigher) this.#shrink();
    if (silent) this.#heightWithout = undefined;
    this.#takePlace();
    this.#keepTime();
    this.#node.setDirtyCanvas(true, true);
  }

  #keepTime() {
    if (this.#blocks.size > 0) this.#clock ??= setInterval(() => this.#show(), 1000);
    else this.#clock = void clearInterval(this.#clock);
  }

  /** Undoing mid-run leaves a new node. */
  #goOn() {
    for (const [id, { state }] of runs) {
      if (nodeOf(state.display_node) === this.#node) this.run(id, state.prompt_id);
    }
  }

  // Height

  #bodyHeight() {
    // One that is not shown has none, and one that has not got its place yet is narrow and high.
    const { offsetWidth, offsetHeight } = this.#view.body;
    if (offsetWidth > this.#node.size[0] / 2) this.#height = offsetHeight;
    return this.#widget?.hidden ? 0 : this.#height;
  }

  /** Whether the node has just the height that it needs with this element, and more than before. */
  #isHigher() {
    if (this.#heightWithout === undefined) return false;
    const height = this.#node.size[1];
    return height > this.#heightWithout && height <= this.#node.computeSize()[1] + SLACK;
  }

  #shrink() {
    const [width] = this.#node.size;
    this.#node.setSize([width, Math.max(this.#heightWithout, this.#node.computeSize()[1])]);
  }

  #keepHeightOutOf(saved) {
    if (this.#isHigher()) saved.size = [saved.size[0], this.#heightWithout];
  }

  // The page

  /** After undoing, the newest renderer goes on showing the element of the node that was there before. */
  #takePlace() {
    const { element } = this.#view;
    if (!LiteGraph.vueNodesMode || element.isConnected || this.#widget.hidden) return;
    // A gone node goes on with its clock until the run ends, and another one may have its number.
    if (app.canvas.graph?.getNodeById(this.#node.id) !== this.#node) return;
    document.querySelector(`[data-node-id="${this.#node.id}"] [data-node-status]`)?.replaceWith(element);
  }

  #keepEventsOfReaders(element) {
    element.addEventListener("wheel", wheelToCanvas);
    element.addEventListener("copy", (event) => event.stopPropagation());
    element.addEventListener("keydown", (event) => {
      const copying = (event.ctrlKey || event.metaKey) && COPY_KEYS.has(event.key);
      if (copying || READING_KEYS.has(event.key)) event.stopPropagation();
    });
  }
}

/** @param {string} told  "English\n中文", or in one language */
function inUsersLanguage(told) {
  const [en, zh] = String(told).trim().split("\n");
  return (chinese() && zh) || en;
}

function warningOf(node) {
  const widget = node.widgets?.find(({ name }) => name === "profile");
  if (!widget) return "";
  const profile = isLinked(node, "profile") ? valueBroughtTo(node, "profile") : widget.value;
  const wanted = Object.entries(ASKS).find(([id]) => node.comfyClass.startsWith(id))?.[1];
  const known = profile && profile !== SANDBOX && wanted ? servicesOf(profile) : undefined;
  if (!known || wanted.some((service) => known.includes(service))) return "";
  return textsFor(chinese()).noKey(profile, wanted);
}

/** The subgraph node that a run belongs to. */
function instanceOf(executionId) {
  const outer = pathOf(executionId).at(-2);
  return outer ? `${outer.title} #${outer.id}` : "";
}

/** Another workflow may be open by now, whose nodes have the same numbers. */
function isOfThisWorkflow({ workflow }) {
  return !workflow || !rootGraph()?.id || workflow === String(rootGraph().id);
}

function progressed(state) {
  workflows.set(state.prompt_id, state.workflow);
  if (workflows.size > 20) workflows.delete(workflows.keys().next().value);
  if (!isOfThisWorkflow(state)) return;
  const id = String(state.node);
  const status = statusOf.get(nodeOf(state.display_node));
  if (state.end === "left") {
    if (!runs.has(id)) status?.leave(state.left, state.prompt_id);
    return;
  }
  if (state.end === "stopped") {
    runs.delete(id);
    status?.stop(id, state.parked);
    return;
  }
  runs.set(id, { state, at: performance.now() });
  status?.run(id, state.prompt_id);
}

/** What still runs, for the page, has ended. */
function stop(isOver) {
  for (const [id, { state }] of [...runs]) {
    if (!isOver(state)) continue;
    runs.delete(id);
    statusOf.get(nodeOf(state.display_node))?.stop(id);
  }
}

function failed({ prompt_id, node_id, node_type, exception_message }) {
  if (!isOfThisWorkflow({ workflow: workflows.get(prompt_id) })) return;
  const node = nodeOf(node_id);
  // A prompt that has told no workflow may be of another one, whose nodes have the same numbers.
  if (node?.comfyClass === node_type) statusOf.get(node)?.fail(exception_message ?? "");
}

function ended(detail) {
  stop((state) => state.prompt_id === detail?.prompt_id);
}

/** What an event of the server means for the nodes. */
const ON = {
  "hidream_volcengine.progress": progressed,
  execution_start: (detail) => stop((state) => state.prompt_id !== detail?.prompt_id),
  execution_success: ended,
  execution_interrupted: ended,
  execution_error(detail) {
    ended(detail);
    failed(detail ?? {});
  },
  executed: (detail) => stop((state) => String(state.node) === String(detail?.node)),
  // The end may have been missed while the connection was down.
  status: (detail) => detail?.exec_info?.queue_remaining === 0 && stop(() => true),
  executing: (detail) => statusOf.get(nodeOf(detail))?.begin(),
};

// What ../nodes.js calls

export function add(node, place) {
  statusOf.set(node, new NodeStatus(node, place));
}

export function hear(type, detail) {
  ON[type](detail);
}

/** A node has run: `output` is what it left for the page. */
export function executed(node, output) {
  statusOf.get(node)?.end(output?.text ?? [], output?.account ?? []);
}

/** The graph is drawn anew: something may have changed a profile. */
export function look() {
  for (const node of app.canvas.graph?.nodes ?? []) statusOf.get(node)?.look();
}
