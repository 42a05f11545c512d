// Makes elements of the Tasks tab, and has its style sheet.

/** Width and height of thumbnails, pixels. */
const THUMBNAIL = 64;

const STYLE = `
[data-remote-tasks] {
  --open: #3b82f6; --good: #16a34a; --warn: #d97706; --bad: #dc2626; --off: #8a8a8a;
  box-sizing: border-box; height: 100%; min-width: 0; overflow: hidden auto; scrollbar-gutter: stable;
  font: 12px/1.45 var(--font-inter, Inter), sans-serif; color: var(--fg-color); background: var(--comfy-menu-bg);
}
[data-remote-tasks] :is(h2, p, ul, dl, dd, dt) { margin: 0; padding: 0; }
[data-remote-tasks] [hidden] { display: none !important; }
[data-remote-tasks] header { display: grid; gap: 8px; padding: 10px 12px 0; }
[data-remote-tasks] h2 { font-size: 14px; font-weight: 600; }
[data-remote-tasks] .heading { display: flex; justify-content: space-between; align-items: center; gap: 8px; }
[data-remote-tasks] .reports { display: grid; gap: 6px; padding: 8px; border-radius: 4px; border: 1px solid var(--border-color); }
[data-remote-tasks] .reports ul { display: grid; gap: 6px; list-style: none; max-height: 40vh; overflow-y: auto; }
[data-remote-tasks] .reports li > .buttons { align-items: center; justify-content: space-between; }
[data-remote-tasks] .reports a { color: inherit; }
[data-remote-tasks] .reports p:empty { display: none; }
[data-remote-tasks] .budgets { display: grid; gap: 6px; }
[data-remote-tasks] .budget { display: grid; gap: 3px; }
[data-remote-tasks] .bar { height: 4px; border-radius: 2px; overflow: hidden; background: var(--comfy-input-bg); }
[data-remote-tasks] .bar > div { height: 100%; background: var(--good); }
[data-remote-tasks] .bar[data-near] > div { background: var(--warn); }
[data-remote-tasks] .bar[data-full] > div { background: var(--bad); }
[data-remote-tasks] .filters {
  position: sticky; top: 0; z-index: 1; display: grid; grid-template-columns: 1fr 1fr; gap: 6px; padding: 8px 12px;
  background: var(--comfy-menu-bg); border-bottom: 1px solid var(--border-color);
}
[data-remote-tasks] .filters input { grid-column: 1 / -1; }
[data-remote-tasks] :is(select, input, textarea) {
  box-sizing: border-box; width: 100%; min-width: 0; padding: 5px 6px; border-radius: 4px; font: inherit;
  color: var(--input-text); background: var(--comfy-input-bg); border: 1px solid var(--border-color);
}
[data-remote-tasks] textarea { resize: vertical; font-family: monospace; }
[data-remote-tasks] :is(button, a.button) {
  padding: 4px 8px; border-radius: 4px; font: inherit; line-height: 1.3; text-decoration: none; cursor: pointer;
  color: var(--input-text); background: var(--comfy-input-bg); border: 1px solid var(--border-color);
}
[data-remote-tasks] :is(button, a.button):hover { border-color: var(--descrip-text); }
[data-remote-tasks] :is(button, a, select, input, textarea):focus-visible { outline: 2px solid var(--open); outline-offset: 1px; }
[data-remote-tasks] button:is(:disabled, [aria-disabled="true"]) { opacity: 0.5; cursor: default; }
[data-remote-tasks] .quiet { color: var(--descrip-text); }
[data-remote-tasks] .banner {
  display: grid; gap: 6px; justify-items: start; padding: 8px; border-radius: 4px; border: 1px solid var(--warn);
  background: color-mix(in srgb, var(--warn) 12%, transparent);
}
[data-remote-tasks] .list { list-style: none; }
[data-remote-tasks] .message { padding: 12px; }
[data-remote-tasks] .end { display: grid; gap: 6px; justify-items: start; padding: 10px 12px; }
[data-remote-tasks] .task { padding: 10px 12px; border-bottom: 1px solid var(--border-color); }
[data-remote-tasks] .head { display: grid; grid-template-columns: ${THUMBNAIL}px minmax(0, 1fr); gap: 10px; cursor: grab; }
[data-remote-tasks] .thumbnail {
  position: relative; box-sizing: border-box; width: ${THUMBNAIL}px; height: ${THUMBNAIL}px; border-radius: 4px;
  overflow: hidden; background: var(--comfy-input-bg);
}
[data-remote-tasks] .thumbnail[draggable="true"] { cursor: grab; }
[data-remote-tasks] .thumbnail img { display: block; width: 100%; height: 100%; object-fit: cover; }
[data-remote-tasks] .thumbnail i {
  position: absolute; inset: 0; display: grid; place-items: center; font-size: 20px; color: var(--colour); opacity: 0.7;
}
[data-remote-tasks] .thumbnail img + i { display: none; }
[data-remote-tasks] .badge {
  position: absolute; right: 2px; bottom: 2px; min-width: 10px; padding: 0 4px; border-radius: 8px; text-align: center;
  font-size: 11px; color: #fff; background: rgb(0 0 0 / 0.7);
}
[data-remote-tasks] .title { display: flex; flex-wrap: wrap; gap: 2px 6px; align-items: baseline; }
[data-remote-tasks] .name { font-weight: 600; }
[data-remote-tasks] .free { padding: 0 5px; border-radius: 8px; font-size: 11px; border: 1px solid var(--border-color); }
[data-remote-tasks] .age { margin-left: auto; white-space: nowrap; }
[data-remote-tasks] .state::before {
  content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 6px; border-radius: 50%;
  background: var(--colour);
}
[data-remote-tasks] .word { font-weight: 600; }
[data-remote-tasks] .task[data-kind="open"] { --colour: var(--open); }
[data-remote-tasks] .task[data-kind="good"] { --colour: var(--good); }
[data-remote-tasks] .task[data-kind="warn"] { --colour: var(--warn); }
[data-remote-tasks] .task[data-kind="bad"] { --colour: var(--bad); }
[data-remote-tasks] .task[data-kind="off"] { --colour: var(--off); }
[data-remote-tasks] :is(.facts, .label, .summary) { overflow-wrap: anywhere; }
[data-remote-tasks] .summary { overflow: hidden; display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; }
[data-remote-tasks] .task[data-expanded] .summary { display: block; }
[data-remote-tasks] .buttons { display: flex; flex-wrap: wrap; gap: 6px; }
[data-remote-tasks] .task > .buttons { margin-top: 8px; }
[data-remote-tasks] .toggle::before { content: "▸ "; }
[data-remote-tasks] .toggle[aria-expanded="true"]::before { content: "▾ "; }
[data-remote-tasks] .question {
  display: grid; gap: 6px; margin-top: 8px; padding: 8px; border-radius: 4px; border: 1px solid var(--warn);
  background: color-mix(in srgb, var(--warn) 12%, transparent);
}
[data-remote-tasks] .said:empty { display: none; }
[data-remote-tasks] .said { margin-top: 6px; overflow-wrap: anywhere; }
/* The palettes' own red is too faint for small words, on dark and on light. */
[data-remote-tasks] [data-problem] { color: color-mix(in srgb, var(--error-text, #ef4444) 60%, var(--fg-color)); }
[data-remote-tasks] .details { display: grid; gap: 8px; margin-top: 8px; }
[data-remote-tasks] .error { padding-left: 8px; border-left: 2px solid var(--colour); overflow-wrap: anywhere; user-select: text; }
[data-remote-tasks] dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 2px 8px; }
[data-remote-tasks] dd { overflow-wrap: anywhere; user-select: text; font-family: monospace; }
[data-remote-tasks] .pictures { display: grid; gap: 8px; list-style: none; }
[data-remote-tasks] .pictures li { display: grid; grid-template-columns: ${THUMBNAIL}px minmax(0, 1fr); gap: 10px; }
[data-remote-tasks] .pictures .buttons { align-content: start; }
`;

let styled = false;

export function addStyleOnce() {
  if (styled) return;
  document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  styled = true;
}

/** Return a new element with these properties and children: `made("p", { className: "quiet" }, "text", child)`. `data`,
 * `aria` and `role` among the properties become attributes. */
export function made(tag, properties = {}, ...children) {
  const { data = {}, aria = {}, role, ...own } = properties;
  const element = Object.assign(document.createElement(tag), own);
  if (role) element.setAttribute("role", role);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children);
  return element;
}

export function button(name, pressed, properties = {}) {
  const element = made("button", { type: "button", textContent: name, ...properties });
  element.addEventListener("click", pressed);
  return element;
}

/** A question with two answers below what it is about. */
export class Question {
  element = made("div", { className: "question", role: "group", hidden: true });
  #closed;

  constructor() {
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.leave();
    });
  }

  /** Ask. `data` becomes attributes of the button `yes`, which calls `agreed()`. `closed(hadFocus)` is called before
   * that, and when the user or leave() leaves it. */
  ask({ why, yes, no, data }, agreed, closed) {
    this.#closed = closed;
    const leave = button(no, () => this.leave());
    const agree = button(yes, () => {
      this.leave();
      agreed();
    }, { data });
    this.element.setAttribute("aria-label", why);
    this.element.replaceChildren(made("p", {}, why), made("div", { className: "buttons" }, agree, leave));
    this.element.hidden = false;
    // The answer that changes nothing gets the focus.
    leave.focus();
  }

  leave() {
    const hadFocus = this.element.contains(document.activeElement);
    this.element.hidden = true;
    this.element.replaceChildren();
    this.#closed?.(hadFocus);
    this.#closed = undefined;
  }
}

/** Set a text if it differs: setting the same one would drop the user's selection, and screen readers say it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
