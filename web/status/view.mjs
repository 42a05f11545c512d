// The elements of the status below a node: the warning, a block for each run under way, and what the last run said.
import { api } from "../../../scripts/api.js";
import { estimated } from "./texts.mjs";

const THUMBNAIL = 48;
const STRIPES =
  "repeating-linear-gradient(-45deg, var(--descrip-text) 0 4px, transparent 4px 7px)";

const STYLE =
  "box-sizing: border-box; overflow: auto; border-radius: 4px; font-size: 12px; line-height: 1.4;" +
  "color: var(--input-text); background: var(--comfy-input-bg); user-select: text; cursor: text;";

function made(tag, style, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.style.cssText = style;
  return element;
}

export class StatusView {
  element;
  body = made("div", "padding: 6px 8px; overflow-wrap: anywhere;");
  #warning = made("p", "margin: 0; padding-left: 6px; border-left: 3px solid #d97706;");
  #blocks = made("div", "display: grid; grid-template-columns: minmax(0, 1fr); gap: 8px;");
  #words = made("div", "");

  /** `element`: the element that is filled. */
  constructor(element) {
    this.element = element;
    element.style.cssText += STYLE;
    element.tabIndex = 0;
    element.dataset.nodeStatus = "";
    element.setAttribute("role", "group");
    this.#words.dataset.lastingWords = "";
    this.#words.setAttribute("role", "status");
    this.#warning.dataset.warning = "";
    this.#warning.setAttribute("role", "status");
    this.body.append(this.#warning, this.#blocks, this.#words);
    element.append(this.body);
  }

  /** @param {string[]} lines  @param {RunBlock[]} blocks  @param {string} warning  "" for none */
  show(lines, blocks, texts, isError = false, warning = "") {
    const { element } = this;
    element.lang = texts.language;
    element.setAttribute("aria-label", texts.label);
    element.style.display = warning || lines.length || blocks.length ? "" : "none";
    write(this.#warning, warning);
    this.#warning.style.display = warning ? "" : "none";
    const told = [...this.#words.children].map((line) => line.textContent);
    if (JSON.stringify(told) !== JSON.stringify(lines)) {
      this.#words.replaceChildren(...lines.map((line) => made("p", "margin: 0", { textContent: line })));
    }
    this.#words.style.display = lines.length ? "" : "none";
    this.#words.style.color = isError ? "var(--error-text)" : "";
    this.#words.dataset.lastingWords = isError ? "error" : "";
    this.#words.setAttribute("role", isError ? "alert" : "status");
    const shown = blocks.map((block) => block.element);
    if (shown.some((each, index) => each !== this.#blocks.children[index]) || shown.length !== this.#blocks.children.length) {
      this.#blocks.replaceChildren(...shown);
    }
  }
}

/** One run of the node: its stage, a bar, its counts, what it may cost, and thumbnails of the finished pictures. */
export class RunBlock {
  element = made("div", "");
  #title = made("div", "font-weight: bold;");
  #stage = made("span", "");
  #time = made("span", "color: var(--descrip-text); font-variant-numeric: tabular-nums;");
  #counts = made("div", "color: var(--descrip-text);");
  #plan = made("div", "white-space: pre-line;");
  #bar = made("div", "height: 4px; margin: 4px 0; border-radius: 2px; overflow: hidden; background: var(--border-color);");
  #fill = made("div", "height: 100%; border-radius: 2px;");
  #strip = made("div", "display: flex; flex-wrap: wrap; gap: 4px; align-items: center;");
  #thumbnails = new Map();

  constructor() {
    this.element.dataset.progress = "";
    // Screen readers announce changes of these, but not of the seconds.
    for (const told of [this.#stage, this.#counts, this.#plan]) told.setAttribute("role", "status");
    this.#time.setAttribute("role", "timer");
    this.#bar.setAttribute("role", "progressbar");
    const line = made("div", "");
    line.append(this.#stage, this.#time);
    this.#bar.append(this.#fill);
    this.#plan.dataset.plan = "";
    this.element.append(this.#title, line, this.#bar, this.#counts, this.#plan, this.#strip);
  }

  /** @param {object} state  as in nodes/comfy/display.py  @param {number} elapsed  seconds
   *  @param {string} title  which instance of a subgraph; "" for a node's only run */
  show(state, elapsed, title, texts) {
    write(this.#title, title);
    this.#title.style.display = title ? "" : "none";
    write(this.#stage, state.stage?.[texts.language] ?? "");
    const times = [texts.seconds(Math.floor(elapsed))];
    // It takes longer than usual: the estimate is worth nothing any more.
    const isLate = state.expected > 0 && elapsed > state.expected;
    if (state.expected > 0 && !isLate) times.push(texts.usual(Math.max(1, Math.round(state.expected))));
    write(this.#time, ["", ...times].join(" · "));
    this.#showShare(state, isLate, texts);
    const counts = countsOf(state, texts);
    write(this.#counts, counts);
    this.#counts.style.display = counts ? "" : "none";
    const plan = planOf(state, texts);
    write(this.#plan, plan);
    this.#plan.style.display = plan ? "" : "none";
    this.#showPictures(state, texts);
  }

  #showShare({ share, estimate }, isLate, texts) {
    const bar = this.#bar;
    bar.setAttribute("aria-label", texts.bar);
    const percent = typeof share === "number" ? Math.round(100 * Math.min(Math.max(share, 0), 1)) : 0;
    // A late estimate leaves the fill where it is, but its percentage is no longer said.
    this.#fill.style.width = `${percent}%`;
    this.#fill.style.background = estimate ? STRIPES : "var(--fg-color)";
    const isKnown = typeof share === "number" && !(estimate && isLate);
    const words = isKnown ? texts.percent(percent, estimate) : "";
    if (isKnown) bar.setAttribute("aria-valuenow", percent);
    else bar.removeAttribute("aria-valuenow");
    bar.setAttribute("aria-valuetext", words);
    bar.title = words;
  }

  #showPictures({ previews, more }, texts) {
    const files = Array.isArray(previews) ? previews : [];
    const shown = files.map((file, index) => this.#thumbnail(file, index, texts));
    if (more > 0) shown.push(made("span", "color: var(--descrip-text);", { textContent: texts.more(more) }));
    const isSame = shown.length === this.#strip.children.length && shown.every((each) => each.isConnected);
    if (!isSame || more > 0) this.#strip.replaceChildren(...shown);
    this.#strip.style.display = shown.length ? "flex" : "none";
    this.#strip.style.marginTop = "4px";
  }

  #thumbnail({ filename, subfolder, type }, index, texts) {
    const key = `${index}/${filename}`;
    if (!this.#thumbnails.has(key)) {
      const style = `width: ${THUMBNAIL}px; height: ${THUMBNAIL}px; object-fit: cover; border-radius: 3px;`;
      const query = new URLSearchParams({ filename, subfolder, type });
      const image = made("img", style, { src: api.apiURL(`/view?${query}`), draggable: false });
      image.addEventListener("error", () => (image.style.visibility = "hidden"));
      this.#thumbnails.set(key, image);
    }
    const image = this.#thumbnails.get(key);
    image.alt = texts.picture(index + 1);
    return image;
  }
}

function countsOf({ done, total, buys, resumes, reused, failed }, texts) {
  const counts = [];
  if (total === null ? done > 0 : total > 1) counts.push(texts.done(done, total));
  if (buys > 0) counts.push(texts.buys(buys));
  if (reused > 0) counts.push(texts.reused(reused));
  if (resumes > 0) counts.push(texts.resumes(resumes));
  if (failed > 0) counts.push(texts.failed(failed));
  return counts.join(" · ");
}

/** Return a line each for the estimate and for what the budget leaves out; "" for nothing. */
function planOf({ plan }, texts) {
  if (!plan) return "";
  const { wanted, allowed } = plan;
  const lines = [];
  const price = estimated([plan]);
  if (price) lines.push(texts.price(price, wanted));
  if (typeof allowed === "number" && allowed < wanted) lines.push(texts.allowed(wanted, allowed));
  return lines.join("\n");
}

/** Set a text if it differs: setting the same one would make it blink, and screen readers say it again. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
