// Makes elements of the profiles in the settings dialog, and has their style sheet for both frontends, light and dark.

const STYLE = `
hidream-volcengine-profiles {
  --accent: var(--p-primary-color, #3b82f6);
  display: block; width: 100%; box-sizing: border-box; font-size: 14px; line-height: 1.45; color: var(--input-text);
  text-align: start; overflow-wrap: anywhere; container-type: inline-size;
}
/* The frontend lays a setting out as a label with a small control at its right: this one takes the whole width. */
div:has(> div > div > hidream-volcengine-profiles) { flex-direction: column; align-items: stretch; }
div:has(> div > hidream-volcengine-profiles) { display: block; width: 100%; }
div:has(+ div > div > hidream-volcengine-profiles) { display: none; }
hidream-volcengine-profiles :is(p, h4, ul, fieldset) { margin: 0; padding: 0; border: 0; min-width: 0; }
hidream-volcengine-profiles ul { list-style: none; }
hidream-volcengine-profiles [hidden] { display: none !important; }
hidream-volcengine-profiles :is(small, .quiet) { color: var(--descrip-text); font-size: 12px; }
hidream-volcengine-profiles .stack { display: flex; flex-direction: column; gap: 8px; }
hidream-volcengine-profiles .row { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; }
hidream-volcengine-profiles .profile { border: 1px solid var(--border-color); border-radius: 8px; }
hidream-volcengine-profiles .head {
  display: flex; align-items: baseline; gap: 8px; width: 100%; padding: 8px 12px; border: 0; background: none;
  text-align: start; font-weight: 600;
}
hidream-volcengine-profiles .head::before { content: "▸"; flex: none; width: 0.8em; }
hidream-volcengine-profiles .head[aria-expanded="true"]::before { content: "▾"; }
hidream-volcengine-profiles .tag {
  padding: 0 6px; border: 1px solid var(--border-color); border-radius: 8px; font-size: 12px; font-weight: 400;
  color: var(--descrip-text);
}
hidream-volcengine-profiles .body { display: flex; flex-direction: column; gap: 16px; padding: 4px 12px 12px; }
/* They stay on the page, or a screen reader would not hear them fill. */
hidream-volcengine-profiles .body > :is(.told, small):empty { margin-top: -16px; }
hidream-volcengine-profiles .stack > .told:empty { margin-top: -8px; }
hidream-volcengine-profiles :is(legend, summary) { padding: 0 0 6px; font-weight: 600; font-size: 14px; }
hidream-volcengine-profiles summary { cursor: pointer; }
hidream-volcengine-profiles h4 { font-size: 12px; font-weight: 600; grid-column: 1 / -1; }
hidream-volcengine-profiles .fields {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); gap: 10px 16px;
}
hidream-volcengine-profiles .fields > :is(p, .row) { grid-column: 1 / -1; }
hidream-volcengine-profiles .field { display: flex; flex-direction: column; gap: 3px; min-width: 0; }
hidream-volcengine-profiles .field .row { flex-wrap: nowrap; }
hidream-volcengine-profiles label { font-size: 12px; }
hidream-volcengine-profiles .state { color: var(--descrip-text); }
hidream-volcengine-profiles .state::before { content: "· "; }
hidream-volcengine-profiles .state[data-good] { color: var(--input-text); }
hidream-volcengine-profiles .state[data-good]::before { content: "✓ "; }
hidream-volcengine-profiles :is(input, select) {
  box-sizing: border-box; width: 100%; min-width: 0; height: 32px; padding: 4px 8px; border-radius: 6px; font: inherit;
  font-size: 13px; color: var(--input-text); background: var(--comfy-input-bg); border: 1px solid var(--border-color);
}
hidream-volcengine-profiles input::placeholder { color: var(--descrip-text); opacity: 0.75; }
hidream-volcengine-profiles button { font: inherit; color: inherit; cursor: pointer; }
hidream-volcengine-profiles button:not(.head) {
  flex: none; min-height: 32px; padding: 4px 12px; border-radius: 6px; font-size: 13px;
  background: var(--comfy-input-bg); border: 1px solid var(--border-color);
}
hidream-volcengine-profiles button.main:not([aria-disabled="true"]) { border-color: var(--accent); }
hidream-volcengine-profiles button:not([aria-disabled="true"]):hover { filter: brightness(1.1); }
hidream-volcengine-profiles :is([aria-disabled="true"], :disabled) { opacity: 0.5; cursor: default; }
hidream-volcengine-profiles :is(button, input, select, summary):focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
hidream-volcengine-profiles .told:not(:empty) {
  display: flex; flex-direction: column; gap: 4px; padding: 8px 12px; border-radius: 6px;
  background: color-mix(in srgb, var(--input-text) 8%, transparent); border-inline-start: 3px solid var(--accent);
}
hidream-volcengine-profiles .told[data-problem]:not(:empty) { border-color: var(--error-text, #ef4444); }
`;

let styled = false;

export function addStyleOnce() {
  if (styled) return;
  document.head.append(made("style", { textContent: STYLE }));
  styled = true;
}

/** Return a new element with these properties and children. */
export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Return a button that calls `click`, unless it is switched off with `enable`. */
export function button(textContent, click, className = "") {
  const element = made("button", { type: "button", textContent, className });
  element.addEventListener("click", () => element.ariaDisabled !== "true" && click());
  return element;
}

/** Switch a button off or on. Not with `disabled`: that would drop the focus out of the dialog. */
export function enable(element, isOn) {
  element.ariaDisabled = isOn ? "false" : "true";
}

/** An element for messages; screen readers announce them. */
export class Told {
  element = made("div", { className: "told" });

  constructor() {
    this.element.setAttribute("role", "status");
  }

  say(sentences, isProblem = false) {
    this.element.toggleAttribute("data-problem", isProblem);
    this.element.replaceChildren(...sentences.filter(Boolean).map((textContent) => made("p", { textContent })));
    if (sentences.length) this.element.scrollIntoView({ block: "nearest" });
  }
}
