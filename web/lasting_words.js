// Shows below each node of this pack what its last run has to say: sizes, what was resized, what was reused.
// The server sends `ui: {text: ["English\n中文", ...]}`; nothing of it is ever saved with the workflow.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { after, chinese, onNewNode, wheelToCanvas } from "./pack.js";

// Below everything else.
const ORDER = 100;
const MARGIN = 10;
const PROGRESS_TEXT = "$$node-text-preview";
// What a reader does inside a text; elsewhere on the canvas these keys act on the selected nodes.
const READING_KEYS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End"]);
const COPY_KEYS = new Set(["a", "c"]);

/** @type {WeakMap<object, LastingWords>} by node */
const wordsOf = new WeakMap();

class LastingWords {
  #node;
  #element = document.createElement("div");
  #body = document.createElement("div");
  #widget;
  #heightBefore = 0;

  constructor(node) {
    this.#node = node;
    this.#element.style.cssText =
      "box-sizing: border-box; overflow: auto; border-radius: 4px; font-size: 12px; line-height: 1.4;" +
      "color: var(--input-text); background: var(--comfy-input-bg); user-select: text; cursor: text;";
    this.#body.style.cssText = "padding: 6px 8px; overflow-wrap: anywhere;";
    this.#element.tabIndex = 0;
    this.#element.setAttribute("role", "status");
    this.#element.dataset.lastingWords = "";
    this.#element.append(this.#body);
    this.#keepEventsOfReaders();
    const height = () => this.#body.offsetHeight + 2 * MARGIN;
    const options = { serialize: false, hideInPanel: true, margin: MARGIN, getMinHeight: height, getMaxHeight: height };
    this.#widget = node.addDOMWidget("lasting_words", "lasting_words", this.#element, options);
    this.#widget.serialize = false;
    // The text wraps anew when the node is made wider or narrower.
    new ResizeObserver(() => node.setDirtyCanvas(true, true)).observe(this.#body);
    this.say([]);
  }

  /** A new run begins: what the last one said does not hold any more. */
  begin() {
    this.#heightBefore = this.#node.size[1];
    this.say([]);
  }

  end(items) {
    // These words take its place. Older frontends would leave it on the node.
    const progress = this.#progressText();
    if (progress) {
      this.#node.removeWidget(progress);
      const needed = this.#node.computeSize()[1];
      this.#node.setSize([this.#node.size[0], Math.max(this.#heightBefore, needed)]);
    }
    this.say(items);
  }

  /** Older frontends save their progress text with the workflow. */
  keepProgressTextOutOfFile() {
    const progress = this.#progressText();
    if (progress) progress.serialize = false;
  }

  #progressText() {
    return this.#node.widgets.find((widget) => widget.name === PROGRESS_TEXT);
  }

  say(items) {
    const inChinese = chinese();
    this.#element.lang = inChinese ? "zh" : "en";
    this.#element.setAttribute("aria-label", inChinese ? "上次运行的说明" : "Notes of the last run");
    const lines = items.map((item) => String(item).split("\n")).map(([en, zh]) => (inChinese && zh) || en);
    this.#body.replaceChildren(
      ...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line, style: "margin: 0" })),
    );
    const silent = lines.length === 0;
    this.#widget.hidden = silent;
    this.#element.style.display = silent ? "none" : "";
    this.#node.setDirtyCanvas(true, true);
  }

  #keepEventsOfReaders() {
    this.#element.addEventListener("wheel", wheelToCanvas);
    this.#element.addEventListener("copy", (event) => event.stopPropagation());
    this.#element.addEventListener("keydown", (event) => {
      const copying = (event.ctrlKey || event.metaKey) && COPY_KEYS.has(event.key);
      if (copying || READING_KEYS.has(event.key)) event.stopPropagation();
    });
  }
}

/** The node of an execution id: "7", or "12:7" for node 7 in the subgraph of node 12. */
function nodeOf(executionId) {
  const find = (graph, id) => graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
  const [first, ...rest] = String(executionId).split(":");
  return rest.reduce((node, id) => find(node?.subgraph, id), find(app.rootGraph ?? app.graph, first));
}

app.registerExtension({
  name: "HiDreamVolcengine.LastingWords",

  setup() {
    api.addEventListener("executing", ({ detail }) => wordsOf.get(nodeOf(detail))?.begin());
    api.addEventListener("progress_text", ({ detail }) => {
      wordsOf.get(nodeOf(detail.nodeId))?.keepProgressTextOutOfFile();
    });
  },
});

onNewNode(ORDER, (node) => {
  const words = new LastingWords(node);
  wordsOf.set(node, words);
  after(node, "onExecuted", (output) => words.end(output?.text ?? []));
});
