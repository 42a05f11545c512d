// The unfolded part of a task: what its state means, its error, its pictures, its ids.
import { chinese } from "../pack.js";
import { button, made, say } from "./elements.mjs";
import { makeDraggable, pictureOf } from "./graph.mjs";
import { texts } from "./texts.mjs";
import { Thumbnail, picturesOf } from "./thumbnail.mjs";

const IDS = ["journal_id", "task_id", "request_id"];

export class TaskDetails {
  element;
  #task;
  #texts = texts();
  #row;
  #means = made("p");
  #error = made("p", { className: "error" });
  #pictures = made("ul", { className: "pictures", role: "list" });
  #total;
  #ids = made("dl");
  #shownIds;
  #toCopy = made("textarea", { readOnly: true, rows: 3, hidden: true });

  /** `row`: {addTask(), addPicture(position, place), tell(text)}, see TaskRow. */
  constructor(row) {
    this.#row = row;
    const buttons = made(
      "div",
      { className: "buttons" },
      button(this.#texts.addTask, () => row.addTask(), { data: { add: "task" } }),
      button(this.#texts.copy, () => this.#copy(), { data: { copy: "" } }),
    );
    const parts = [this.#means, this.#error, this.#pictures, this.#ids, buttons, this.#toCopy];
    this.element = made("div", { className: "details" }, ...parts);
  }

  update(task, means) {
    this.#task = task;
    say(this.#means, means);
    say(this.#error, task.error?.[chinese() ? "zh" : "en"] ?? "");
    this.#error.hidden = !task.error;
    this.#showPictures(task);
    const known = ["label", ...IDS].filter((name) => task[name]);
    const state = JSON.stringify(known.map((name) => task[name]));
    if (state === this.#shownIds) return;
    this.#shownIds = state;
    this.#ids.replaceChildren(
      ...known.flatMap((name) => [
        made("dt", { className: "quiet" }, this.#texts.labels[name]),
        made("dd", { data: { known: name } }, task[name]),
      ]),
    );
  }

  #showPictures(task) {
    const total = `${task.stored}/${picturesOf(task)}`;
    if (total === this.#total) return;
    this.#total = total;
    this.#pictures.replaceChildren();
    for (let position = 0; position < picturesOf(task); position++) this.#pictures.append(this.#picture(position));
    this.#pictures.hidden = !this.#pictures.children.length;
  }

  #picture(position) {
    const thumbnail = new Thumbnail(position, () => item.remove());
    const href = pictureOf(this.#task, position);
    const number = `${position + 1}`;
    const link = (name, properties) =>
      made("a", { className: "button", href, textContent: name, aria: { label: `${name} ${number}` }, ...properties });
    const add = button(this.#texts.addPicture, () => this.#row.addPicture(position), {
      data: { add: "picture" },
      aria: { label: `${this.#texts.addPicture} ${number}` },
    });
    const open = link(this.#texts.open, { target: "_blank", rel: "noopener" });
    // Without an extension: the browser adds the one of the Content-Type.
    const save = link(this.#texts.save, { download: `${this.#task.journal_id}_${position}` });
    for (const each of [open, save]) each.draggable = false;
    const item = made("li", {}, thumbnail.element, made("div", { className: "buttons" }, add, open, save));
    makeDraggable(thumbnail.element, (place) => this.#row.addPicture(position, place));
    thumbnail.show(this.#task);
    return item;
  }

  async #copy() {
    const text = IDS.filter((name) => this.#task[name]).map((name) => `${name}: ${this.#task[name]}`).join("\n");
    try {
      // A page over plain http from another machine has no navigator.clipboard.
      await navigator.clipboard.writeText(text);
      this.#toCopy.hidden = true;
      this.#row.tell(this.#texts.copied);
    } catch {
      this.#row.tell(this.#texts.copyYourself);
      Object.assign(this.#toCopy, { value: text, hidden: false });
      this.#toCopy.setAttribute("aria-label", this.#texts.copy);
      this.#toCopy.focus();
      this.#toCopy.select();
    }
  }
}
