// One task of the list. It is updated in place, so that focus, selected text and unfolded details stay.
import { TaskActions } from "./actions.mjs";
import { TaskDetails } from "./details.mjs";
import { button, made, say } from "./elements.mjs";
import { addPicture, addTask, makeDraggable, middleBeside } from "./graph.mjs";
import { groupOf, isSettled, kindOf, shownState } from "./states.mjs";
import { texts } from "./texts.mjs";
import { Thumbnail } from "./thumbnail.mjs";

const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

const formats = new Map();

function ages(locale) {
  if (!formats.has(locale)) formats.set(locale, new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" }));
  return formats.get(locale);
}

export class TaskRow {
  task;
  element;
  #shown;
  #texts = texts();
  #panel;
  #now;
  #name = made("span", { className: "name" });
  #free = made("span", { className: "free" });
  #age = made("time", { className: "age quiet" });
  #word = made("span", { className: "word" });
  #money = made("span", { className: "quiet" });
  #facts = made("div", { className: "facts quiet" });
  #label = made("div", { className: "label" });
  #summary = made("div", { className: "summary" });
  #said = made("p", { className: "said", role: "status" });
  #thumbnail = new Thumbnail();
  #toggle;
  #actions;
  #details;

  /** `panel`: the tab's element; `now()` returns the server's time in seconds; `refresh()` loads the list again. */
  constructor({ panel, now, refresh }) {
    this.#panel = panel;
    this.#now = now;
    this.#toggle = button(this.#texts.more, () => this.#expand(!this.#details), {
      className: "toggle",
      aria: { expanded: false },
    });
    this.#actions = new TaskActions(this.#toggle, this.#tell, refresh);
    const title = made("div", { className: "title" }, this.#name, this.#free, this.#age);
    const state = made("div", { className: "state" }, this.#word, " ", this.#money);
    const words = made("div", {}, title, state, this.#facts, this.#label, this.#summary);
    const head = made("div", { className: "head", title: this.#texts.dragTask }, this.#thumbnail.element, words);
    head.addEventListener("click", () => this.#expand(!this.#details));
    makeDraggable(head, (place) => this.addTask(place));
    makeDraggable(this.#thumbnail.element, (place) => this.addPicture(this.#thumbnail.position, place));
    this.element = made("li", { className: "task" }, head, ...this.#actions.elements, this.#said);
  }

  update(task) {
    const state = JSON.stringify(task);
    if (state === this.#shown) return;
    this.#shown = state;
    this.task = task;
    const { element } = this;
    const [word, money] = this.#texts.states[shownState(task)] ?? [task.state, "", ""];
    const name = task.name?.[this.#texts.locale] ?? task.endpoint;
    element.dataset.task = task.journal_id;
    element.dataset.state = task.state;
    element.dataset.kind = kindOf(task);
    element.setAttribute("aria-label", this.#texts.row(name, word));
    say(this.#name, name);
    say(this.#word, word);
    say(this.#money, task.sandbox || !money ? "" : `– ${money}`);
    say(this.#free, this.#texts.free);
    this.#free.hidden = !task.sandbox;
    say(this.#facts, this.#texts.facts(task));
    say(this.#label, task.label);
    this.#label.hidden = !task.label;
    say(this.#summary, task.summary);
    this.#thumbnail.show(task);
    this.#actions.update(task);
    this.#details?.update(task, this.explanation());
    this.tick();
  }

  /** Return what the state means, for the details. */
  explanation() {
    const state = shownState(this.task);
    const [, , means] = this.#texts.states[state] ?? ["", "", ""];
    if (isSettled(this.task)) return this.#texts.settled;
    return (this.task.sandbox && this.#texts.inSandbox[state]) || means;
  }

  /** Whether the task matches the filter (TasksHeader.filter). */
  fits({ group, profile, words }) {
    const { task } = this;
    if (group !== "all" && groupOf(task) !== group) return false;
    if (profile && task.profile !== profile) return false;
    const ids = [task.journal_id, task.task_id, task.request_id];
    const said = [task.label, task.summary, ...ids, task.endpoint, this.#name.textContent, task.error?.en, task.error?.zh];
    return words.every((word) => said.some((text) => text?.toLowerCase().includes(word)));
  }

  /** Update the age of the task. */
  tick() {
    const { created_at: created } = this.task;
    const age = Math.max(this.#now() - created, 0);
    const [unit, seconds] = UNITS.find(([, length]) => age >= length) ?? UNITS.at(-1);
    say(this.#age, ages(this.#texts.locale).format(-Math.floor(age / seconds), unit));
    if (this.#age.dateTime) return;
    const date = new Date(created * 1000);
    this.#age.dateTime = date.toISOString();
    this.#age.title = date.toLocaleString(this.#texts.locale);
  }

  addTask = (place) => this.#adding(() => addTask(this.task, place ?? middleBeside(this.#panel)));

  addPicture = (position, place) =>
    this.#adding(() => {
      this.#tell(this.#texts.uploading);
      return addPicture(this.task, position, place ?? middleBeside(this.#panel));
    });

  async #adding(add) {
    try {
      this.#tell(this.#texts.added(await add()));
    } catch (problem) {
      this.#tell(problem.message, true);
    }
  }

  #tell = (text, isProblem = false) => {
    say(this.#said, text);
    this.#said.toggleAttribute("data-problem", isProblem);
  };

  #expand(wanted) {
    this.#toggle.setAttribute("aria-expanded", wanted);
    this.element.toggleAttribute("data-expanded", wanted);
    this.#details?.element.remove();
    this.#details = undefined;
    if (!wanted) return;
    this.#details = new TaskDetails({ addTask: this.addTask, addPicture: this.addPicture, tell: this.#tell });
    this.#details.update(this.task, this.explanation());
    this.element.append(this.#details.element);
  }
}
