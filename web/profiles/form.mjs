// One profile in the settings dialog: its head in the list, and its form below.
import { button, enable, made, Told } from "./elements.mjs";
import { Groups, keyedServices, providersNamed } from "./groups.mjs";

const NOTHING = { name: "", built_in: false, in_file: false, environment: [], keys: {}, settings: {}, retired: [] };
const MOST_NAME = 64;
let forms = 0;

/**
 * What a form needs of the panel.
 *
 * @typedef {object} Desk
 * @property {object} texts
 * @property {"en" | "zh"} language
 * @property {object} defaults the values that apply to settings that are left empty, by name
 * @property {{name: string, provider: string}[]} limits those that endpoints declare
 * @property {{name: string, provider: string}[]} prices the settings of the prices
 * @property {(form: ProfileForm, action: string, content: object) => Promise<void>} send
 * @property {(form: ProfileForm, provider: string) => Promise<{sentences: string[], isProblem: boolean}>} check
 * @property {(form: ProfileForm) => void} drop removes the form of a new profile
 */
export class ProfileForm {
  told = new Told();
  #desk;
  #profile;
  #groups;
  #id = `hidream-volcengine-profile-${++forms}`;
  #title = made("span");
  #tags = made("span", { className: "row" });
  #retired = made("div", { className: "told" });
  #removeRetired;
  #unsaved = made("small");
  #isBusy = false;
  #head;
  #body;
  #nameRow;
  #nameInput;
  #save;
  #discard;
  #rename;
  #remove;
  #renaming;
  #removing;

  /** @param {Desk} desk @param {object} [profile] as the server lists it; without one this is a new one */
  constructor(desk, profile) {
    this.#desk = desk;
    this.#profile = profile ?? NOTHING;
    this.#head = button("", () => this.open(this.#body.hidden), "head");
    this.#head.append(made("span", { className: "row" }, this.#title, this.#tags));
    this.#head.setAttribute("aria-controls", this.#id);
    this.#body = made("div", { id: this.#id, className: "body" });
    this.element = made("li", { className: "profile" }, this.#head, this.#body);
    if (this.#profile.built_in) this.#body.append(made("p", { textContent: desk.texts.sandbox }));
    else this.#buildForm(desk);
    this.show(this.#profile, false);
    this.open(this.isNew);
  }

  get isNew() {
    return this.#profile === NOTHING;
  }

  get name() {
    return this.#profile.name;
  }

  get isChanged() {
    if (this.#profile.built_in) return false;
    return this.#groups.fields.some((field) => field.isChanged) || (this.isNew && this.#nameInput.value !== "");
  }

  open(isOpen) {
    this.#body.hidden = !isOpen;
    this.#head.ariaExpanded = String(isOpen);
  }

  focus() {
    (this.isNew ? this.#nameInput : this.#save).focus();
  }

  /** Return a sentence of the server with the labels of the fields in place of their names. */
  labelled(sentence) {
    const label = (word) => {
      const field = this.#groups.fields.find(({ name }) => name === word);
      return field ? this.#desk.texts.quoted(field.said.label) : word;
    };
    // Only names with an underscore: one of a single word (language) may be a word of the sentence.
    return sentence.replace(/[a-z]+(_[a-z0-9]+)+/g, label);
  }

  /** Show why the server refused a value, and focus the first field that the sentence names. */
  refuse(sentence) {
    this.told.say([this.labelled(sentence)], true);
    const named = (word) => this.#groups.fields.find(({ name }) => name === word);
    sentence.split(/[^a-z0-9_]+/).map(named).find(Boolean)?.focus();
  }

  /** Close the open question: the server has done it. */
  done() {
    for (const question of [this.#renaming, this.#removing]) question.hidden = true;
  }

  /** Show the stored values of a profile; with `keep` typed ones stay. */
  show(profile, keep) {
    this.#profile = profile;
    for (const field of this.#groups?.fields ?? []) field.show(profile, keep);
    if (this.#nameInput && !keep) this.#nameInput.value = "";
    if (!profile.built_in) this.#drawRetired(profile.retired);
    this.#draw();
  }

  /** The profile was removed elsewhere: turn this into a new profile that keeps what was typed. */
  becomeNew() {
    this.#profile = NOTHING;
    this.show(NOTHING, true);
    this.open(true);
  }

  #buildForm(desk) {
    const { texts, defaults, limits, prices } = desk;
    const { environment } = this.#profile;
    this.#groups = new Groups(texts, defaults, limits, prices, environment, (provider) => desk.check(this, provider));
    this.#nameInput = made("input", { type: "text", maxLength: MOST_NAME, autocomplete: "off", spellcheck: false });
    this.#nameInput.dataset.field = "name";
    const label = made("label", {}, texts.profileName, this.#nameInput);
    this.#nameRow = made("div", { className: "field" }, label);
    this.#save = button(texts.save, () => this.#submit(), "main");
    this.#discard = button(texts.discard, () => this.#forget());
    this.#rename = button(texts.rename, () => this.#ask(this.#renaming));
    this.#remove = button(texts.remove, () => this.#ask(this.#removing));
    this.#removeRetired = button(texts.removeRetired, () => this.#submit(this.#profile.retired));
    this.#retired.toggleAttribute("data-problem", true);
    this.#buildQuestions(desk);
    const actions = made("div", { className: "row" }, this.#save, this.#discard, this.#rename, this.#remove);
    this.#body.append(made("div", {}, this.#retired));
    this.#body.append(this.#nameRow, ...this.#groups.elements, this.told.element, this.#unsaved, actions);
    this.#body.append(this.#renaming, this.#removing);
    this.#body.addEventListener("input", () => this.#draw());
    this.#body.addEventListener("keydown", (event) => this.#enter(event));
  }

  #buildQuestions(desk) {
    const { texts } = desk;
    const cancel = (question, back) => button(texts.cancel, () => ((question().hidden = true), back.focus()));
    const newName = made("input", { type: "text", maxLength: MOST_NAME, autocomplete: "off", spellcheck: false });
    newName.dataset.field = "new_name";
    const rename = () => newName.value.trim() && this.#send("rename", { new_name: newName.value.trim() });
    this.#renaming = made("div", { className: "stack", hidden: true });
    this.#renaming.append(
      made("label", {}, texts.renameTo, newName),
      made("div", { className: "row" }, button(texts.rename, rename, "main"), cancel(() => this.#renaming, this.#rename)),
    );
    this.#renaming.addEventListener("keydown", (event) => isEnter(event) && rename());
    const remove = button(texts.remove, () => this.#send("remove", {}), "main");
    this.#removing = made("div", { className: "stack", hidden: true });
    this.#removing.append(
      made("p", { className: "really" }),
      made("p", { textContent: texts.removeMeans }),
      made("div", { className: "row" }, remove, cancel(() => this.#removing, this.#remove)),
    );
  }

  #ask(question) {
    for (const each of [this.#renaming, this.#removing]) each.hidden = each !== question || !each.hidden;
    if (question === this.#renaming) question.querySelector("input").value = this.name;
    if (question.hidden) return;
    question.scrollIntoView({ block: "nearest" });
    // *Remove* cannot be undone, so its question focuses *Cancel*.
    (question.querySelector("input") ?? question.querySelector("button:not(.main)")).focus();
  }

  #draw() {
    const { texts } = this.#desk;
    const { isNew, isChanged } = this;
    const profile = this.#profile;
    this.element.dataset.profile = profile.name;
    this.#title.textContent = isNew ? texts.newProfile : profile.name;
    this.#drawTags(texts, profile, isChanged);
    if (profile.built_in) return;
    this.#nameRow.hidden = !isNew;
    enable(this.#removeRetired, !this.#isBusy);
    this.#discard.textContent = isNew ? texts.cancel : texts.discard;
    enable(this.#save, isChanged && !this.#isBusy);
    enable(this.#discard, (isChanged || isNew) && !this.#isBusy);
    this.#save.textContent = this.#isBusy ? texts.saving : texts.save;
    for (const each of [this.#rename, this.#remove]) each.hidden = !profile.in_file;
    this.#removing.querySelector(".really").textContent = texts.removeReally(profile.name);
    this.#unsaved.textContent = isChanged ? texts.unsaved : "";
    for (const check of this.#groups.checks) check.allow(!isChanged && !isNew);
  }

  #drawTags(texts, profile, isChanged) {
    const { environment } = profile;
    const services = keyedServices(profile, texts);
    const words = [];
    if (profile.built_in) words.push(texts.builtIn);
    if (environment.length) words.push(texts.fromEnvironment(providersNamed(texts, (each) => environment.includes(each))));
    if (services.length) words.push(texts.keyed(services));
    if (!words.length && !this.isNew) words.push(texts.unkeyed);
    if (profile.retired.length) words.push(texts.retired);
    if (isChanged) words.push(texts.draft);
    this.#tags.replaceChildren(...words.map((textContent) => made("span", { className: "tag", textContent })));
  }

  /** Show the settings that an earlier version stored and this one does not use: what they were, what to do instead,
   * and a button that removes them. @param {{what, advice, part, name}[]} entries */
  #drawRetired(entries) {
    const { language } = this.#desk;
    const sentences = entries.flatMap(({ what, advice }) => [what[language], advice[language]]);
    // If several entries have the same advice, show it once, behind the last of them.
    const distinct = [...new Set(sentences.reverse())].reverse();
    this.#retired.parentElement.hidden = !entries.length;
    this.#retired.replaceChildren(...distinct.map((textContent) => made("p", { textContent })));
    if (entries.length) this.#retired.append(made("div", { className: "row" }, this.#removeRetired));
  }

  #enter(event) {
    const isField = event.target instanceof HTMLInputElement && !this.#renaming.contains(event.target);
    if (isEnter(event) && isField && this.isChanged) this.#submit();
  }

  #forget() {
    if (this.isNew) this.#desk.drop(this);
    else this.show(this.#profile, false);
    this.told.say([]);
  }

  /** Save the changed fields, and clear `removed`, entries of an earlier version. */
  async #submit(removed = []) {
    const { fields } = this.#groups;
    if (this.isNew && !this.#nameInput.value.trim()) {
      this.#nameInput.focus();
      return;
    }
    // The form checks numbers only; the server checks everything.
    if (!fields.every((field) => field.isValid)) return;
    const content = { settings: {}, keys: {} };
    for (const { part, name } of removed) content[part][name] = "";
    for (const field of fields) if (field.isChanged) content[field.group][field.name] = field.value;
    if (this.isNew) await this.#send("add", content, this.#nameInput.value.trim());
    else await this.#send("change", content);
  }

  async #send(action, content, name = this.name) {
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.#draw();
    try {
      await this.#desk.send(this, action, { name, ...content });
    } finally {
      this.#isBusy = false;
      this.#draw();
    }
  }
}

function isEnter(event) {
  return event.key === "Enter" && !event.isComposing && event.target instanceof HTMLInputElement;
}
