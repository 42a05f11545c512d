// The template picker of HiDream Model Photo Set: it shows the service's templates, and a click writes the number into
// the widget `template_id`, as if it had been typed.
import { app } from "../../../scripts/app.js";
import { feederOf, isLinked } from "../graph_links.mjs";
import { chinese } from "../pack.js";
import { addressOf, ask } from "../server.mjs";
import { textsFor } from "./texts.mjs";
import { PickerView } from "./view.mjs";
import { valueBroughtTo, writeValues } from "../widget_values.mjs";

const INPUT = "template_id";
const FIRST_GENDER = "woman";
const NOT_FOUND = 404;
const SHOWN = "shown";
const NOT_LISTED = "not listed";

/** Return {node, name} of the widget that a click writes: the node's own, or that of the subgraph node that is linked
 * to it. undefined if another node's output is linked. */
function targetOf(node) {
  if (!isLinked(node, INPUT)) return { node, name: INPUT };
  const feeder = feederOf(node, INPUT);
  return feeder?.widget ? { node: feeder.node, name: feeder.widget.name } : undefined;
}

const valueOf = ({ node, name }) => node.widgets?.find((widget) => widget.name === name)?.value;

class TemplatePicker {
  #target;
  #whose;
  #texts = textsFor(chinese());
  #view;
  #gender = FIRST_GENDER;
  #page = 1;
  /** The number of the last call; answers to earlier calls are dropped. */
  #asked = 0;

  constructor(node) {
    this.#target = targetOf(node);
    const profile = valueBroughtTo(node, "profile") ?? valueOf({ node, name: "profile" });
    this.#whose = new URLSearchParams({ profile }).toString();
    this.#view = new PickerView(this.#texts, {
      show: (gender) => this.#show(gender, 1),
      turn: (by) => this.#turn(by),
      find: (text) => this.#find(text),
      reload: () => this.#show(this.#gender, this.#page, { more: "&fresh=1" }),
      choose: (id) => this.#choose(id),
    });
    const { element } = this.#view;
    element.addEventListener("close", () => element.remove());
    document.body.append(element);
    element.showModal();
    if (this.#target) this.#begin();
    else this.#view.only(this.#texts.linked);
  }

  #chosen() {
    return Number(valueOf(this.#target)) || 0;
  }

  async #begin() {
    const chosen = this.#chosen();
    this.#view.select(this.#gender);
    const outcome = chosen > 0 ? await this.#find(String(chosen)) : NOT_LISTED;
    if (outcome !== NOT_LISTED) return;
    const words = chosen > 0 ? this.#texts.notListed(chosen) : "";
    if ((await this.#show(this.#gender, 1, { words })) === SHOWN) this.#view.focus();
  }

  async #show(gender, page, { more = "", words = "" } = {}) {
    const isOther = gender !== this.#gender;
    [this.#gender, this.#page] = [gender, page];
    this.#view.select(gender);
    if (isOther) this.#view.clear();
    return await this.#load(`/templates?gender=${gender}&page=${page}&${this.#whose}${more}`, { words });
  }

  async #turn(by) {
    const button = by < 0 ? this.#view.previous : this.#view.next;
    if (button.disabled) return;
    if ((await this.#show(this.#gender, this.#page + by)) === SHOWN) this.#view.focus();
  }

  /** Show the page with the template of this number, and focus it. Returns SHOWN, NOT_LISTED, or something falsy if it
   * failed or a later call replaced it. */
  async #find(text) {
    const id = Number(text.trim());
    if (!Number.isInteger(id) || id < 1) return this.#view.say(this.#texts.noNumber, true);
    const outcome = await this.#load(`/templates/${id}?${this.#whose}`, { id });
    if (outcome === SHOWN) this.#view.focus(id);
    return outcome;
  }

  /** Show the answer of a route. `id`: the template that is looked for; `words`: a note to show with the answer.
   * Returns as #find. */
  async #load(path, { id, words = "" }) {
    const number = ++this.#asked;
    const isLate = () => number !== this.#asked || !this.#view.element.open;
    this.#view.busy(true);
    if (!this.#view.grid.children.length) this.#view.say(this.#texts.loading);
    let outcome = "";
    try {
      const answer = await ask(path);
      if (isLate()) return outcome;
      this.#answered(answer, words);
      outcome = SHOWN;
    } catch (refused) {
      if (isLate()) return outcome;
      if (id && refused.status === NOT_FOUND) outcome = NOT_LISTED;
      this.#refused(refused, outcome === NOT_LISTED ? this.#texts.notListed(id) : "");
    }
    this.#view.busy(false);
    return outcome;
  }

  #answered(answer, words) {
    [this.#gender, this.#page] = [answer.gender, answer.page];
    this.#view.select(answer.gender);
    this.#view.show(answer, this.#chosen(), (id) => addressOf(`/templates/${id}/picture?${this.#whose}`));
    const old = answer.offline?.[this.#texts.language] ?? "";
    const said = [words, old, answer.total ? "" : this.#texts.empty].filter(Boolean);
    this.#view.say(said.join("\n"), !!old);
  }

  #refused(refused, notListed) {
    if (notListed) return this.#view.say(notListed, true);
    this.#view.clear();
    this.#view.say(`${refused.message}\n${this.#texts.byHand}`, true);
  }

  #choose(id) {
    const { node, name } = this.#target;
    const { graph } = node;
    // One step of the undo history.
    app.canvas.emitBeforeChange();
    graph?.beforeChange(node);
    writeValues(node, { [name]: id });
    graph?.afterChange(node);
    app.canvas.emitAfterChange();
    this.#view.element.close();
  }
}

/** Show the picker of a node, unless one is open: the button may be pressed again while this module is being
 * imported. */
export function open(node) {
  if (!document.querySelector("dialog[data-template-picker]")) new TemplatePicker(node);
}
