// This pack's category in ComfyUI's settings dialog: the profiles. They are stored on the server; neither the browser
// nor ComfyUI's own settings keep anything that is typed here.
import { app } from "../../../scripts/app.js";
import { chinese } from "../pack.js";
import { addStyleOnce, button, made, Told } from "./elements.mjs";
import { ProfileForm } from "./form.mjs";
import { textsFor } from "./texts.mjs";
import { ask, order } from "../server.mjs";

const TAG = "hidream-volcengine-profiles";
// Keys that the dialog itself needs.
const KEYS_OF_THE_DIALOG = new Set(["Escape", "Tab"]);

/** Update the profile names in the combos of the nodes on the canvas, and the default of new nodes. Chosen values
 * stay. */
async function refreshNodes() {
  // reloadNodeDefs, where it exists, shows no message at the corner of the page.
  await (app.reloadNodeDefs ?? app.refreshComboInNodes).call(app);
}

class Panel {
  /** @type {Map<string, ProfileForm>} by name */
  #forms = new Map();
  /** @type {ProfileForm | undefined} the form of a profile that is not saved yet */
  #new;
  #told = new Told();
  #list = made("ul", { className: "stack" });
  #protection = made("small");
  #retry;
  #add;
  #revision;
  #choices;
  #desk;

  constructor() {
    const isChinese = chinese();
    this.language = isChinese ? "zh" : "en";
    const texts = textsFor(isChinese);
    this.#desk = {
      texts,
      language: this.language,
      send: (form, action, content) => this.#send(form, action, content),
      check: (form, provider) => this.#check(form, provider),
      drop: () => this.#drop(),
    };
    this.#add = button(texts.add, () => this.#addNew());
    this.#retry = button(texts.reload, () => this.load());
    this.#list.setAttribute("aria-label", texts.profiles);
    this.#told.say([texts.loading]);
    this.#found(false);
    const intro = made("p", { className: "quiet", textContent: texts.intro });
    const row = made("div", { className: "row" }, this.#add, this.#retry);
    this.element = made("div", { className: "stack", lang: this.language });
    this.element.append(intro, this.#told.element, this.#list, row, this.#protection);
  }

  async load() {
    try {
      this.#show(await ask("/profiles"));
      this.#told.say([]);
    } catch (refused) {
      this.#told.say([refused.message], true);
      this.#found(this.#revision !== undefined);
    }
  }

  #found(isThere) {
    this.#list.hidden = this.#add.hidden = !isThere;
    this.#retry.hidden = isThere;
  }

  #show(answer) {
    this.#revision = answer.revision;
    const { texts } = this.#desk;
    const labels = [...answer.limits, ...answer.prices].map(({ name, label }) => [name, { label: label[this.language] }]);
    this.#desk.texts = { ...texts, fields: { ...texts.fields, ...Object.fromEntries(labels) } };
    this.#desk.limits = answer.limits;
    this.#desk.prices = answer.prices;
    this.#desk.defaults = answer.defaults;
    this.#protection.textContent = answer.protection[this.language];
    const forms = new Map();
    for (const profile of answer.profiles) {
      const form = this.#forms.get(profile.name) ?? new ProfileForm(this.#desk, profile);
      form.show(profile, true);
      forms.set(profile.name, form);
    }
    const gone = [...this.#forms].find(([name, form]) => !forms.has(name) && form.isChanged);
    if (gone && !this.#new) this.#keep(...gone);
    this.#forms = forms;
    this.#lay();
    this.#found(true);
    // The default of new nodes depends on whether any key is set: without one it is the sandbox.
    const isKeyed = answer.profiles.some(({ keys }) => Object.values(keys).some(Boolean));
    this.#tellNodes(JSON.stringify([isKeyed, answer.profiles.map(({ name }) => name)]));
  }

  /** Keep the form of a profile that another page removed while something was typed into it here. */
  #keep(name, form) {
    form.becomeNew();
    form.told.say([this.#desk.texts.gone(name)], true);
    this.#new = form;
  }

  #lay() {
    const wanted = [...this.#forms.values(), this.#new].filter(Boolean).map(({ element }) => element);
    const shown = [...this.#list.children];
    // Moving an element drops its focus: move only those that are not in their place.
    for (const element of shown) if (!wanted.includes(element)) element.remove();
    for (const [index, element] of wanted.entries()) {
      if (this.#list.children[index] !== element) this.#list.insertBefore(element, this.#list.children[index] ?? null);
    }
  }

  async #tellNodes(choices) {
    const isNew = this.#choices !== undefined && this.#choices !== choices;
    this.#choices = choices;
    if (!isNew) return;
    try {
      await refreshNodes();
    } catch {
      this.#told.say([this.#desk.texts.notRefreshed], true);
    }
  }

  #addNew() {
    if (!this.#new) {
      this.#new = new ProfileForm(this.#desk);
      this.#lay();
    }
    this.#new.focus();
  }

  #drop() {
    this.#new = undefined;
    this.#lay();
    this.#add.focus();
  }

  async #send(form, action, content) {
    const before = this.#revision;
    try {
      const answer = await order(`/profiles/${action}`, { revision: before, ...content });
      this.#accept(form, action, content, answer);
    } catch (refused) {
      if (refused.status === 400) form.refuse(refused.message);
      else form.told.say([refused.message], true);
      if (refused.status === 409) await this.#afterConflict(form, before);
    }
  }

  async #afterConflict(form, before) {
    const said = [...form.told.element.children].map(({ textContent }) => textContent);
    await this.load();
    if (this.#revision !== before && !form.isNew) form.told.say([...said, this.#desk.texts.kept], true);
  }

  #accept(form, action, content, answer) {
    const { texts } = this.#desk;
    const told = (answer.told ?? []).map((text) => form.labelled(text[this.language]));
    const name = content.new_name ?? content.name;
    // Take the form out of the old name before #show compares: its changes are saved or obsolete. After a rename the
    // form, with what was typed into its fields, goes on under the new name.
    this.#forms.delete(content.name);
    if (action === "add") this.#new = undefined;
    if (action !== "remove") this.#forms.set(name, form);
    this.#show(answer);
    if (action === "remove") {
      // The profile `default` is always listed: after its removal it is there again, empty.
      this.#told.say([texts.removed(name), ...told]);
      this.#add.focus();
      return;
    }
    if (action !== "rename") form.show(answer.profiles.find((profile) => profile.name === name), false);
    const done = { add: texts.added, change: () => texts.saved, rename: texts.renamed }[action];
    form.told.say([done(name), ...told]);
    form.done();
    form.focus();
  }

  async #check(form, provider) {
    try {
      const { ok, cause, text, advice } = await order("/profiles/check", { name: form.name, provider });
      const title = this.#desk.texts.causes[cause] ?? cause;
      return { sentences: [title, text[this.language], advice?.[this.language]], isProblem: !ok };
    } catch (refused) {
      return { sentences: [refused.message], isProblem: true };
    }
  }
}

/** The custom element of the settings row. Frontends may remove it and insert it again at once; only if it stays out,
 * what was typed is dropped. */
class ProfilesElement extends HTMLElement {
  #panel;

  connectedCallback() {
    if (this.#panel) return;
    addStyleOnce();
    this.#panel = new Panel();
    this.replaceChildren(this.#panel.element);
    this.#panel.load();
  }

  disconnectedCallback() {
    setTimeout(() => {
      if (this.isConnected) return;
      for (const input of this.querySelectorAll("input")) input.value = "";
      this.replaceChildren();
      this.#panel = undefined;
    });
  }

  /** Stops keys before they reach the canvas, where they would queue, delete or paste. */
  constructor() {
    super();
    for (const type of ["keydown", "keyup", "copy", "cut", "paste"]) {
      this.addEventListener(type, (event) => KEYS_OF_THE_DIALOG.has(event.key) || event.stopPropagation());
    }
  }
}

// Turns the element that ../page.js has put into the dialog into a ProfilesElement.
customElements.define(TAG, ProfilesElement);
