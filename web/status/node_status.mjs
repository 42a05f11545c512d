// The status below each node of this pack: a warning if its profile has no key, what it is doing while it runs, and
// what its last run said: sizes, what was resized, what was reused. None of it is saved with the workflow, and neither
// is the height that it adds to the node.
//
// While a node runs the server sends `hidream_volcengine.progress` (nodes/comfy/display.py defines it), and at its end
// `ui: {text: ["English\n中文", ...], account: [...]}` with one account for each item of a list (together() in texts.mjs
// names its fields). An error is shown here until the next run: the newest frontend shows a general message in place of
// an exception's text.
import { app } from "../../../scripts/app.js";
import { RunBlock, StatusView } from "./view.mjs";
import { textsFor, together } from "./texts.mjs";
import { isLinked } from "../graph_links.mjs";
import { after, chinese, nodeOf, pathOf, rootGraph, wheelToCanvas } from "../pack.js";
import { servicesOf } from "../profiles/known.mjs";
import { valueBroughtTo } from "../widget_values.mjs";

const SANDBOX = "sandbox";
/** By the beginning of a node's id, the services that it may call; one with a key is enough. */
const ASKS = { HiDream: ["HiDream"], Volcengine: ["Volcengine"], RemoteTaskResult: ["HiDream", "Volcengine"] };
/** Pixels by which a drawn node may be higher than computeSize() returns. */
const SLACK = 14;
// Keys for scrolling and copying a text; outside of one they act on the selected nodes.
const READING_KEYS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End"]);
const COPY_KEYS = new Set(["a", "c"]);

/** @type {WeakMap<object, NodeStatus>} by node */
const statusOf = new WeakMap();
/** The runs under way: {state, at} by execution id; `at` is performance.now() of the last event. They are kept here
 * because an undo, and a change of the workflow, create the nodes anew. */
const runs = new Map();
/** By prompt id, the id of its workflow, as far as progress events named one. */
const workflows = new Map();

class NodeStatus {
  #node;
  #view;
  #widget;
  #lines = [];
  /** That the profile has no key, or "". */
  #warning = "";
  #isError = false;
  #promptId;
  /** @type {Map<string, RunBlock>} by execution id: a node in a subgraph has one for each instance of it. */
  #blocks = new Map();
  #clock;
  #height = 0;
  /** The node's height before this element was shown, as long as it is shown; else undefined. */
  #heightWithout;

  /** `place`: {element, widget, height}: the element of the node's DOM widget, the widget, and the function that the
   * widget calls for its height, which is set here. */
  constructor(node, place) {
    this.#node = node;
    this.#view = new StatusView(place.element);
    this.#widget = place.widget;
    place.height = () => this.#bodyHeight();
    this.#keepEventsOfReaders(place.element);
    // The text wraps at another width, and so needs another height, when the node is resized.
    new ResizeObserver(() => node.setDirtyCanvas(true, true)).observe(this.#view.body);
    after(node, "onConfigure", () => this.#goOn());
    after(node, "onRemoved", () => clearInterval(this.#clock));
    after(node, "onSerialize", (saved) => this.#keepHeightOutOf(saved));
    this.#show();
    this.#goOn();
  }

  /** Show or remove the warning that the profile has no key. */
  look() {
    const warning = warningOf(this.#node);
    if (warning === this.#warning) return;
    this.#warning = warning;
    this.#show();
  }

  /** A new run begins: remove what the last one said. */
  begin() {
    this.#say([]);
  }

  /** The node has run: show its texts, and what it cost. @param {string[]} items  "English\n中文" */
  end(items, accounts) {
    const lines = items.map(inUsersLanguage);
    if (accounts.length) lines.push(...linesOf(together(accounts)));
    this.#say(lines);
  }

  /** The node has failed. @param {string} message  of the exception, in one language or as "English\n中文" */
  fail(message) {
    this.#say([inUsersLanguage(message)], true);
  }

  /** Show what became of the requests of an interrupted run (`left`: counts), unless another run has begun. */
  leave(left, promptId) {
    if (this.#promptId !== undefined && this.#promptId !== promptId) return;
    this.#say([textsFor(chinese()).left(left)]);
  }

  /** Show the run with this execution id, whose state is in `runs`. */
  run(id, promptId) {
    this.#promptId = promptId;
    if (!this.#blocks.has(id)) this.#blocks.set(id, new RunBlock());
    this.#show();
  }

  /** A run has ended. @param {number} parked  how many of its requests go on at the service */
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
    // Remove the blocks of runs that ended while another workflow was open.
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

  /** Show the runs of this node that are under way: an undo during a run creates the node anew. */
  #goOn() {
    for (const [id, { state }] of runs) {
      if (nodeOf(state.display_node) === this.#node) this.run(id, state.prompt_id);
    }
  }

  // Height

  #bodyHeight() {
    // Keep the last height while the element is hidden (0) or not laid out yet (narrow, so too high).
    const { offsetWidth, offsetHeight } = this.#view.body;
    if (offsetWidth > this.#node.size[0] / 2) this.#height = offsetHeight;
    return this.#widget?.hidden ? 0 : this.#height;
  }

  /** Whether this element made the node higher: it is higher than before, and just as high as it must be. If the user
   * has made it higher still, that is the user's height. */
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

  /** Put this element into the page in place of the old one: after an undo the Vue renderer still shows the element of
   * the earlier node object. */
  #takePlace() {
    const { element } = this.#view;
    if (!LiteGraph.vueNodesMode || element.isConnected || this.#widget.hidden) return;
    // The clock of a removed node goes on until its run ends, and another node may have its id.
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

/** Return a text in the user's language. @param {string} told  "English\n中文", or in one language */
function inUsersLanguage(told) {
  const [en, zh] = String(told).trim().split("\n");
  return (chinese() && zh) || en;
}

/** Return what is said of an account: the counts, why submits ended, and which items lack a picture. */
function linesOf(account) {
  const texts = textsFor(chinese());
  const lines = [texts.account(account), ...account.stopped.map(inUsersLanguage)];
  if (account.without.length) lines.push(texts.without(account.without));
  if (account.incomplete.length) lines.push(texts.incomplete(account.incomplete));
  return lines;
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

/** Return the name of the subgraph node that a run belongs to; "" in the root graph. */
function instanceOf(executionId) {
  const outer = pathOf(executionId).at(-2);
  return outer ? `${outer.title} #${outer.id}` : "";
}

/** Whether a state is of the open workflow: nodes of different workflows have the same ids. */
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

/** End the runs under way for whose state `isOver` returns true. */
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
  // If the workflow of the prompt is not known, it may be another one, where the id is that of another node.
  if (node?.comfyClass === node_type) statusOf.get(node)?.fail(exception_message ?? "");
}

function ended(detail) {
  stop((state) => state.prompt_id === detail?.prompt_id);
}

/** By event of the server, its handler; it gets the event's detail. */
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
  // The queue is empty: end runs whose end was missed while the connection was down.
  status: (detail) => detail?.exec_info?.queue_remaining === 0 && stop(() => true),
  executing: (detail) => statusOf.get(nodeOf(detail))?.begin(),
};

// What ../nodes.js calls

/** Create the status of a node; `place` as of NodeStatus. */
export function add(node, place) {
  statusOf.set(node, new NodeStatus(node, place));
}

/** Handle an event of the server; `type` is one of ON. */
export function hear(type, detail) {
  ON[type](detail);
}

/** A node has run; `output` is its `ui`. */
export function executed(node, output) {
  statusOf.get(node)?.end(output?.text ?? [], output?.account ?? []);
}

/** Update the warnings of the visible graph; called at each redraw, since a profile may have changed. */
export function look() {
  for (const node of app.canvas.graph?.nodes ?? []) statusOf.get(node)?.look();
}
