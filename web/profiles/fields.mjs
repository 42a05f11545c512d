// The form fields of a profile: each has the stored value, the typed value, and whether they differ.
import { made } from "./elements.mjs";

const MOST = 999_999_999;
let fields = 0;

/** A label, a control below it, and a hint. */
class Field {
  constructor(name, texts) {
    this.name = name;
    this.texts = texts;
    this.said = texts.fields[name];
    this.id = `hidream-volcengine-field-${++fields}`;
  }

  /** Create the field's element around its control; `beside` goes into the same row. */
  build(control, ...beside) {
    control.id = this.id;
    control.dataset.field = this.name;
    this.control = control;
    this.label = made("label", { htmlFor: this.id, textContent: this.said.label });
    this.element = made("div", { className: "field" }, this.label, made("div", { className: "row" }, control, ...beside));
    if (!this.said.hint) return;
    const hint = made("small", { id: `${this.id}-hint`, textContent: this.said.hint });
    control.setAttribute("aria-describedby", hint.id);
    this.element.append(hint);
  }

  /** Focus the control, and unfold its group if that is folded. */
  focus() {
    const group = this.control.closest("details");
    if (group) group.open = true;
    this.control.focus();
  }

  get isValid() {
    return this.control.reportValidity();
  }
}

/** A setting. `show` fills in the stored value; with `keep` a typed one stays. */
class Setting extends Field {
  group = "settings";
  #stored = "";

  get isChanged() {
    return this.control.value.trim() !== this.#stored;
  }

  show(profile, keep) {
    const typed = keep && this.isChanged ? this.control.value : undefined;
    this.#stored = this.textOf(profile.settings[this.name]);
    this.control.value = typed ?? this.#stored;
  }

  textOf(value) {
    return value === null || value === undefined ? "" : String(value);
  }

  get value() {
    return this.control.value.trim();
  }
}

export class TextSetting extends Setting {
  constructor(name, texts, defaults) {
    super(name, texts);
    const placeholder = String(defaults[name] || texts.none);
    this.build(made("input", { type: "text", maxLength: 1000, autocomplete: "off", spellcheck: false, placeholder }));
  }
}

export class NumberSetting extends Setting {
  constructor(name, texts, defaults) {
    super(name, texts);
    const placeholder = String(defaults[name] || texts.unlimited);
    this.build(made("input", { type: "number", min: 0, max: MOST, step: 1, autocomplete: "off", placeholder }));
  }

  // The value of a number input is "" for a text that is no number: badInput tells the difference.
  get isChanged() {
    return super.isChanged || this.control.validity.badInput;
  }

  get value() {
    return this.control.value === "" ? null : Number(this.control.value);
  }
}

export class ChoiceSetting extends Setting {
  #values = new Map();

  /** `choices`: [[value, text]]; the first one stands for the server's default. */
  constructor(name, texts, choices) {
    super(name, texts);
    for (const [value] of choices) this.#values.set(this.textOf(value), value);
    this.build(made("select", {}, ...choices.map(([value, words]) => new Option(words, this.textOf(value)))));
  }

  get value() {
    return this.#values.get(this.control.value);
  }
}

/** A key. It is sent to the server, which never sends it back and only says whether it has one. */
export class Key extends Field {
  group = "keys";
  #has = false;
  #isForgotten = false;
  #state = made("span", { className: "state" });
  #forget = made("button", { type: "button" });

  constructor(name, texts) {
    super(name, texts);
    // Keeps the browser and password managers from storing the key, or filling in another.
    const attributes = { autocomplete: "new-password", "data-1p-ignore": "", "data-lpignore": "true", "data-bwignore": "" };
    const input = made("input", { type: "password", maxLength: 4000, spellcheck: false });
    for (const [attribute, value] of Object.entries(attributes)) input.setAttribute(attribute, value);
    this.build(input, this.#forget);
    this.label.append(" ", this.#state);
    this.#forget.addEventListener("click", () => {
      this.#isForgotten = !this.#isForgotten;
      input.value = "";
      this.#draw();
      this.element.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }

  get isChanged() {
    return this.#isForgotten || this.control.value !== "";
  }

  get value() {
    return this.#isForgotten ? "" : this.control.value.trim();
  }

  show(profile, keep) {
    this.#has = profile.keys[this.name] === true;
    this.#isForgotten &&= keep && this.#has;
    if (!keep) this.control.value = "";
    this.#draw();
  }

  #draw() {
    const { texts, said, control } = this;
    this.#state.textContent = this.#isForgotten ? texts.forgotten : this.#has ? texts.stored : texts.notSet;
    this.#state.toggleAttribute("data-good", this.#has && !this.#isForgotten);
    control.placeholder = this.#has ? texts.newKey : texts.noKey;
    control.disabled = this.#isForgotten;
    this.#forget.hidden = !this.#has;
    this.#forget.textContent = this.#isForgotten ? texts.keep : texts.forget;
    const label = this.#isForgotten ? texts.keepLabel(said.label) : texts.forgetLabel(said.label);
    this.#forget.setAttribute("aria-label", label);
  }
}
