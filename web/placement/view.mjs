// The elements of the placement editor: a stage with the frame of the canvas and the original in it, numbers and a
// note.
import { sidesOf } from "./geometry.mjs";
import { urlOf } from "./source.mjs";

const CORNERS = ["top-left", "top-right", "bottom-right", "bottom-left"];

const STYLE = `
[data-placement-editor] {
  --accent: var(--p-primary-color, #3b82f6);
  box-sizing: border-box; display: flex; flex-direction: column; gap: 6px; overflow: hidden;
  font: 11px/1.45 var(--font-inter, Inter), sans-serif; color: var(--input-text); outline: none; user-select: none;
}
[data-placement-editor] .stage {
  flex: 1; min-height: 0; padding: 12px; border-radius: 6px; background: var(--comfy-input-bg);
  border: 1px solid transparent;
}
[data-placement-editor]:focus .stage { border-color: var(--accent); }
[data-placement-editor] .room {
  width: 100%; height: 100%; container-type: size; display: flex; align-items: center; justify-content: center;
}
[data-placement-editor] .frame {
  position: relative; flex: none; aspect-ratio: var(--shape); width: min(100cqw, 100cqh * var(--shape));
  outline: 1px solid color-mix(in srgb, var(--input-text) 45%, transparent);
  background: repeating-linear-gradient(
    -45deg, color-mix(in srgb, var(--input-text) 9%, transparent) 0 1px, transparent 1px 7px);
}
[data-placement-editor] .original {
  position: absolute; touch-action: none; background: color-mix(in srgb, var(--input-text) 22%, var(--comfy-input-bg));
  outline: 1px solid var(--accent);
}
[data-placement-editor] .original img { display: block; width: 100%; height: 100%; pointer-events: none; }
[data-placement-editor] .original img:not([src]) { visibility: hidden; }
/* A small original must leave room to take hold of it: the handles lie outside. */
[data-placement-editor] .handle { position: absolute; width: 20px; height: 20px; touch-action: none; z-index: 1; }
[data-placement-editor] .handle::after {
  content: ""; position: absolute; width: 8px; height: 8px; border-radius: 2px;
  background: var(--comfy-input-bg); outline: 1.5px solid var(--accent);
}
[data-placement-editor] .handle[class*="left"] { left: -17px; }
[data-placement-editor] .handle[class*="right"] { right: -17px; }
[data-placement-editor] .handle[class*="top"] { top: -17px; }
[data-placement-editor] .handle[class*="bottom"] { bottom: -17px; }
[data-placement-editor] .handle[class*="left"]::after { right: -1px; }
[data-placement-editor] .handle[class*="right"]::after { left: -1px; }
[data-placement-editor] .handle[class*="top"]::after { bottom: -1px; }
[data-placement-editor] .handle[class*="bottom"]::after { top: -1px; }
[data-placement-editor] .top-left, [data-placement-editor] .bottom-right { cursor: nwse-resize; }
[data-placement-editor] .top-right, [data-placement-editor] .bottom-left { cursor: nesw-resize; }
[data-placement-editor][data-move] .original { cursor: move; }
[data-placement-editor]:not([data-handles]) .handle { display: none; }
[data-placement-editor][data-off] :is(.stage, .numbers) { opacity: 0.4; }
[data-placement-editor] .guide { position: absolute; pointer-events: none; background: var(--accent); z-index: 1; }
[data-placement-editor] .guide.x { top: -6px; bottom: -6px; width: 1px; margin-left: -0.5px; }
[data-placement-editor] .guide.y { left: -6px; right: -6px; height: 1px; margin-top: -0.5px; }
[data-placement-editor] .numbers {
  display: grid; grid-template-columns: 1fr auto; column-gap: 8px; padding: 0 2px;
  font-variant-numeric: tabular-nums; white-space: pre;
}
[data-placement-editor] .numbers > * { min-height: 1.45em; }
[data-placement-editor] .numbers > :nth-child(even) { text-align: right; color: var(--descrip-text); }
[data-placement-editor] .sides { grid-column: 1 / -1; }
[data-placement-editor] .note {
  min-height: 32px; padding: 0 2px; color: var(--descrip-text); overflow: hidden;
  display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical;
}
[data-placement-editor] .note[data-problem] { color: color-mix(in srgb, var(--error-text, #ef4444) 60%, var(--fg-color)); }
`;

let styled = false;

function addStyleOnce() {
  if (styled) return;
  document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  styled = true;
}

function made(name, ...children) {
  const element = document.createElement("div");
  element.className = name;
  element.append(...children);
  return element;
}

const sizeText = (width, height) => `${width}×${height}`;
const percent = (share) => `${share * 100}%`;

export class PlacementView {
  /** `element`: the element that is filled. `language`: "en" or "zh". */
  constructor(element, texts, language) {
    addStyleOnce();
    this.texts = texts;
    this.image = document.createElement("img");
    this.image.alt = "";
    this.image.draggable = false;
    const handles = CORNERS.map((corner) => made(`handle ${corner}`));
    for (const [index, handle] of handles.entries()) handle.dataset.corner = CORNERS[index];
    this.original = made("original", this.image, ...handles);
    this.frame = made("frame", this.original);
    this.lines = { canvas: made(""), source: made(""), original: made(""), scale: made(""), sides: made("sides") };
    this.numbers = made("numbers", ...Object.values(this.lines));
    this.note = made("note");
    this.stage = made("stage", made("room", this.frame));
    this.element = element;
    element.append(this.stage, this.numbers, this.note);
    this.#describe(language);
  }

  #describe(language) {
    const { element, texts } = this;
    element.lang = language;
    element.tabIndex = 0;
    element.dataset.placementEditor = "";
    // With this the Vue renderer does not zoom by the wheel while the element has the focus.
    element.dataset.captureWheel = "true";
    element.setAttribute("role", "application");
    element.setAttribute("aria-label", texts.label);
    element.setAttribute("aria-description", texts.help);
    this.numbers.setAttribute("aria-live", "polite");
    this.note.setAttribute("aria-live", "polite");
  }

  /** The key of the picture that is shown as the original; undefined if there is none. */
  get shownKey() {
    return this.image.dataset.key;
  }

  picture(source) {
    if (source?.key === this.shownKey) return;
    if (!source) {
      this.image.removeAttribute("src");
      delete this.image.dataset.key;
      return;
    }
    this.image.dataset.key = source.key;
    this.image.src = urlOf(source);
  }

  /** Show a placement (undefined: there is none) of an original of `size` (undefined: not known yet). `freedom`: as of
   * freedomOf; `isOff`: dim it, since the editor has no effect. */
  show(placement, size, freedom, isOff) {
    const { element, texts, lines } = this;
    element.toggleAttribute("data-off", isOff);
    element.toggleAttribute("data-move", freedom.move);
    element.toggleAttribute("data-handles", freedom.move && freedom.scale && !!placement);
    this.frame.style.visibility = placement ? "" : "hidden";
    lines.source.textContent = size ? texts.source(sizeText(size.width, size.height)) : "";
    if (!placement) {
      for (const line of [lines.canvas, lines.original, lines.scale, lines.sides]) line.textContent = "";
      return;
    }
    const { canvasWidth, canvasHeight, x, y, width, height } = placement;
    this.frame.style.setProperty("--shape", canvasWidth / canvasHeight);
    Object.assign(this.original.style, {
      left: percent(x / canvasWidth),
      top: percent(y / canvasHeight),
      width: percent(width / canvasWidth),
      height: percent(height / canvasHeight),
    });
    lines.canvas.textContent = texts.canvas(sizeText(canvasWidth, canvasHeight));
    lines.original.textContent = texts.original(sizeText(width, height), x, y);
    lines.scale.textContent = size ? texts.scale(Number(((width / size.width) * 100).toFixed(1))) : "";
    lines.sides.textContent = texts.sides(sidesOf(placement));
  }

  /** Show the notes, [{text, isProblem}], or without any how to use the editor. */
  say(notes, freedom, isFocused) {
    const { note, texts } = this;
    const hint = !freedom.move ? "" : isFocused ? texts.focused : texts.unfocused;
    const said = texts.sentences(notes.map(({ text }) => text));
    note.textContent = said || hint;
    note.title = texts.sentences([said, freedom.move ? texts.focused : ""]).trim();
    note.toggleAttribute("data-problem", notes.some(({ isProblem }) => isProblem));
  }

  /** Show lines across the canvas in place of the last ones: {x: shares of its width, y: shares of its height}. */
  guide({ x = [], y = [] } = {}) {
    for (const line of this.frame.querySelectorAll(".guide")) line.remove();
    for (const share of x) this.frame.append(Object.assign(made("guide x"), { style: `left: ${percent(share)}` }));
    for (const share of y) this.frame.append(Object.assign(made("guide y"), { style: `top: ${percent(share)}` }));
  }
}
