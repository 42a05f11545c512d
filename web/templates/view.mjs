// The elements of the template picker: a modal dialog with tabs, a search by number, a grid of pictures and pages.

const STYLE = `
[data-template-picker] {
  box-sizing: border-box; width: min(900px, 94vw); height: min(760px, 90vh); margin: auto; padding: 0;
  border: 1px solid var(--border-color); border-radius: 8px; overflow: hidden;
  font: 13px/1.45 var(--font-inter, Inter), sans-serif; color: var(--fg-color); background: var(--comfy-menu-bg);
}
[data-template-picker][data-only] { height: auto; padding-bottom: 16px; }
[data-template-picker]::backdrop { background: rgb(0 0 0 / 50%); }
[data-template-picker] .all { display: flex; flex-direction: column; gap: 10px; height: 100%; }
[data-template-picker] [hidden] { display: none !important; }
[data-template-picker] :is(header, .tools, footer) { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; }
[data-template-picker] header { padding: 12px 16px 0; }
[data-template-picker] h2 { flex: 1; margin: 0; font-size: 16px; font-weight: 600; }
[data-template-picker] .tools { padding: 0 16px; }
[data-template-picker] .space { flex: 1; }
[data-template-picker] .note { margin: 0; padding: 0 16px; color: var(--descrip-text); white-space: pre-line; }
/* The palettes' own red is too faint for small words, on dark and on light. */
[data-template-picker] .note[data-problem] { color: color-mix(in srgb, var(--error-text, #ef4444) 60%, var(--fg-color)); }
[data-template-picker] :is(button, input) {
  box-sizing: border-box; padding: 5px 10px; border-radius: 4px; font: inherit; color: var(--input-text);
  background: var(--comfy-input-bg); border: 1px solid var(--border-color);
}
[data-template-picker] button { cursor: pointer; }
[data-template-picker] button:disabled { opacity: 0.45; cursor: default; }
[data-template-picker] button:not(:disabled):hover { border-color: var(--descrip-text); }
[data-template-picker] :is(button, input):focus-visible {
  outline: 2px solid var(--p-primary-color, #3b82f6); outline-offset: 1px;
}
[data-template-picker] label { display: flex; align-items: center; gap: 6px; }
[data-template-picker] input { width: 8em; }
[data-template-picker] [role="tab"][aria-selected="true"] {
  border-color: var(--p-primary-color, #3b82f6); box-shadow: inset 0 -2px var(--p-primary-color, #3b82f6);
}
[data-template-picker] .grid {
  flex: 1; min-height: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); gap: 8px;
  align-content: start; overflow: hidden auto; padding: 4px 16px;
}
[data-template-picker] .grid[aria-busy="true"] { opacity: 0.5; }
[data-template-picker] [role="option"] { display: grid; gap: 4px; padding: 4px; text-align: center; }
[data-template-picker] [role="option"][aria-selected="true"] {
  border-color: var(--p-primary-color, #3b82f6); box-shadow: 0 0 0 1px var(--p-primary-color, #3b82f6);
}
[data-template-picker] .picture {
  display: grid; place-items: center; aspect-ratio: 3 / 4; min-width: 0; overflow: hidden; border-radius: 2px;
  color: var(--descrip-text); background: color-mix(in srgb, var(--fg-color) 7%, transparent);
}
[data-template-picker] .picture img { display: block; width: 100%; height: 100%; object-fit: contain; }
[data-template-picker] footer { justify-content: center; padding: 0 16px 12px; }
`;

let styled = false;

function addStyleOnce() {
  if (styled) return;
  document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  styled = true;
}

function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function button(text, run, title = "") {
  const element = made("button", { type: "button", textContent: text, title });
  element.addEventListener("click", run);
  return element;
}

export class PickerView {
  /** @param actions {show(gender), turn(by pages), find(text), reload(), choose(id)} */
  constructor(texts, actions) {
    addStyleOnce();
    this.texts = texts;
    this.actions = actions;
    this.tabs = Object.entries(texts.genders).map(([gender, name]) => {
      const tab = button(name, () => actions.show(gender));
      tab.setAttribute("role", "tab");
      tab.dataset.gender = gender;
      return tab;
    });
    const tablist = made("div", { className: "tools", style: "padding: 0" }, ...this.tabs);
    tablist.setAttribute("role", "tablist");
    tablist.setAttribute("aria-label", texts.whose);
    this.number = made("input", { type: "text", inputMode: "numeric", autocomplete: "off", maxLength: 10 });
    this.find = button(texts.find, () => actions.find(this.number.value));
    this.reload = button(texts.reload, () => actions.reload(), texts.reloading);
    this.space = made("span", { className: "space" });
    const label = made("label", {}, texts.number, this.number);
    this.tools = made("div", { className: "tools" }, tablist, this.space, label, this.find, this.reload);
    this.note = made("p", { className: "note" });
    this.note.setAttribute("role", "status");
    this.grid = made("div", { className: "grid" });
    this.grid.setAttribute("role", "listbox");
    this.grid.setAttribute("aria-label", texts.list);
    this.previous = button(texts.previous, () => actions.turn(-1));
    this.next = button(texts.next, () => actions.turn(1));
    this.page = made("span", {});
    this.footer = made("footer", {}, this.previous, this.page, this.next);
    const title = made("h2", { textContent: texts.title });
    this.close = button("✕", () => this.element.close(), texts.close);
    this.close.setAttribute("aria-label", texts.close);
    const header = made("header", {}, title, this.close);
    this.element = made("dialog", { lang: texts.language },
      made("div", { className: "all" }, header, this.tools, this.note, this.grid, this.footer));
    this.element.dataset.templatePicker = "";
    this.element.setAttribute("aria-label", texts.title);
    this.#listen();
  }

  /** Show a text in place of everything else: nothing can be chosen. */
  only(words) {
    this.element.dataset.only = "";
    for (const part of [this.tools, this.grid, this.footer]) part.hidden = true;
    this.say(words);
  }

  say(words, isProblem = false) {
    this.note.textContent = words;
    this.note.hidden = !words;
    this.note.toggleAttribute("data-problem", isProblem);
  }

  busy(isBusy) {
    this.grid.setAttribute("aria-busy", String(isBusy));
    this.reload.disabled = isBusy;
  }

  select(gender) {
    for (const tab of this.tabs) {
      const isIt = tab.dataset.gender === gender;
      tab.setAttribute("aria-selected", String(isIt));
      tab.tabIndex = isIt ? 0 : -1;
    }
  }

  /** Remove the list. */
  clear() {
    this.grid.replaceChildren();
    this.footer.hidden = true;
  }

  /** Show a page of the list. `chosen`: the number in the node; `addressOf(id)` returns the URL of a template's
   * picture. */
  show({ templates, page, pages, total }, chosen, addressOf) {
    const options = templates.map(({ id }) => this.#option(id, id === chosen, addressOf(id)));
    this.grid.replaceChildren(...options);
    this.grid.scrollTop = 0;
    this.footer.hidden = false;
    this.page.textContent = this.texts.page(page, pages, total);
    this.previous.disabled = page <= 1;
    this.next.disabled = page >= pages;
    this.#mark(options.find(({ ariaSelected }) => ariaSelected === "true") ?? options[0]);
  }

  /** Focus the template `id`, by default the one that Tab leads to. */
  focus(id) {
    const option = id ? this.grid.querySelector(`[data-id="${id}"]`) : this.grid.querySelector('[tabindex="0"]');
    this.#mark(option);
    option?.focus();
  }

  #option(id, isChosen, address) {
    const { texts } = this;
    const image = made("img", { loading: "lazy", alt: "", draggable: false, src: address });
    const picture = made("span", { className: "picture" }, image);
    image.addEventListener("error", () => picture.replaceChildren(texts.noPicture));
    const option = made("button", { type: "button", tabIndex: -1 }, picture, made("span", { textContent: isChosen ? `✓ ${id}` : id }));
    option.dataset.id = id;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", String(isChosen));
    option.setAttribute("aria-label", isChosen ? texts.chosen(id) : texts.template(id));
    option.addEventListener("click", () => this.actions.choose(id));
    option.addEventListener("focus", () => this.#mark(option));
    return option;
  }

  /** Make this option the only one that Tab leads to. */
  #mark(option) {
    if (!option) return;
    for (const each of this.grid.children) each.tabIndex = each === option ? 0 : -1;
  }

  #listen() {
    // A click on the backdrop has the dialog itself as its target.
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
    this.number.addEventListener("keydown", (event) => event.key === "Enter" && this.actions.find(this.number.value));
    this.grid.addEventListener("keydown", (event) => this.#walk(event));
    for (const tab of this.tabs) tab.addEventListener("keydown", (event) => this.#walkTabs(event));
    // Otherwise the frontend's shortcuts would queue, delete or paste on the canvas below.
    for (const type of ["keydown", "keyup", "copy", "cut", "paste", "wheel"]) {
      this.element.addEventListener(type, (event) => event.stopPropagation());
    }
  }

  #walk(event) {
    const options = [...this.grid.children];
    const at = options.indexOf(document.activeElement);
    if (at < 0) return;
    const turn = { PageUp: -1, PageDown: 1 }[event.key];
    const columns = options.filter(({ offsetTop }) => offsetTop === options[0].offsetTop).length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const ends = { Home: 0, End: options.length - 1 };
    const to = ends[event.key] ?? at + (steps[event.key] ?? 0);
    if (!turn && to === at) return;
    event.preventDefault();
    if (turn) this.actions.turn(turn);
    else options[to]?.focus();
  }

  #walkTabs(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = this.tabs.indexOf(event.currentTarget);
    const tab = this.tabs[(at + by + this.tabs.length) % this.tabs.length];
    tab.focus();
    tab.click();
  }
}
