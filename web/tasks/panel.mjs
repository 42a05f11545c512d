// The content of the Tasks tab: the remote tasks of the journal, kept up to date while the tab is open, with their
// actions.
import { tabTitle } from "../page.js";
import { addStyleOnce, button, made, say } from "./elements.mjs";
import { TaskFeed } from "./feed.mjs";
import { TasksHeader } from "./header.mjs";
import { TaskRow } from "./row.mjs";
import { texts } from "./texts.mjs";

const FORBIDDEN = 403;
const TICK = 1000;

class TasksPanel {
  element;
  #texts = texts();
  #header;
  #feed;
  #ticks;
  /** @type {Map<string, TaskRow>} by journal id */
  #rows = new Map();
  #loaded = 0;
  /** Seconds by which the server's clock is ahead of the browser's. */
  #ahead = 0;
  #message = made("p", { className: "message", role: "status" });
  #list = made("ul", { className: "list", role: "list" });
  #count = made("p", { className: "quiet", role: "status" });
  #newest = made("p", { className: "quiet" });
  #showMore;
  #end;
  #renew;

  /** `renew()` replaces this panel by a new one; called when the language has changed. */
  constructor(renew) {
    addStyleOnce();
    this.#renew = renew;
    const refresh = () => this.#feed.refresh();
    this.#header = new TasksHeader(() => this.#filter(), refresh);
    this.#list.setAttribute("aria-label", this.#texts.wholeList);
    this.#showMore = button(this.#texts.showMore, () => this.#feed.showMore(), { data: { more: "" } });
    this.#end = made("div", { className: "end", hidden: true }, this.#count, this.#newest, this.#showMore);
    const properties = { data: { remoteTasks: "" }, aria: { label: tabTitle() } };
    this.element = made("section", properties, ...this.#header.elements, this.#message, this.#list, this.#end);
    this.element.lang = this.#texts.locale;
    this.#say(this.#texts.loading);
    this.#feed = new TaskFeed((list) => this.#show(list), (refused) => this.#refused(refused));
    this.#ticks = setInterval(() => this.#tick(), TICK);
    refresh();
  }

  /** Stop all timers and listeners, and remove the element. */
  end() {
    this.#feed.end();
    clearInterval(this.#ticks);
    this.element.remove();
  }

  #now = () => Date.now() / 1000 + this.#ahead;

  #show(list) {
    const { tasks, now } = list;
    this.#ahead = (now ?? Date.now() / 1000) - Date.now() / 1000;
    this.#loaded = tasks.length;
    this.#header.show(list);
    this.#header.hidden = false;
    const listed = new Set(tasks.map(({ journal_id: id }) => id));
    for (const [id, row] of this.#rows) {
      if (listed.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    let place = this.#list.firstElementChild;
    for (const task of tasks) {
      const { element } = this.#updated(task);
      // Moving an element drops its focus: move only those that are not in their place.
      if (element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(element, place);
    }
    this.#filter();
  }

  #updated(task) {
    const { journal_id: id } = task;
    if (!this.#rows.has(id)) {
      const refresh = () => this.#feed.refresh();
      this.#rows.set(id, new TaskRow({ panel: this.element, now: this.#now, refresh }));
    }
    const row = this.#rows.get(id);
    row.update(task);
    return row;
  }

  #filter() {
    const { filter } = this.#header;
    let shown = 0;
    for (const row of this.#rows.values()) {
      row.element.hidden = !row.fits(filter);
      shown += !row.element.hidden;
    }
    const total = this.#rows.size;
    this.#say(total === 0 ? this.#texts.none : shown === 0 ? this.#texts.noMatch : "");
    const mayBeMore = this.#loaded >= this.#feed.limit;
    this.#list.hidden = shown === 0;
    this.#end.hidden = total === 0 || (!mayBeMore && shown === total);
    say(this.#count, this.#texts.shown(shown, total));
    this.#count.hidden = shown === total;
    say(this.#newest, this.#texts.newest(this.#loaded));
    this.#newest.hidden = !mayBeMore;
    this.#showMore.hidden = !mayBeMore || !this.#feed.canShowMore;
  }

  #refused({ status, message }) {
    this.#say(message, true);
    if (status !== FORBIDDEN) return;
    // This page may not see the tasks: remove those that it shows.
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#list.hidden = true;
    this.#header.hidden = true;
    this.#end.hidden = true;
  }

  #say(text, isProblem = false) {
    say(this.#message, text);
    this.#message.hidden = !text;
    this.#message.toggleAttribute("data-problem", isProblem);
  }

  #tick() {
    // Some frontends remove a tab's element without calling destroy() when another tab is opened.
    if (!this.element.isConnected) return this.end();
    if (texts() !== this.#texts) return this.#renew();
    if (document.hidden) return;
    for (const row of this.#rows.values()) row.tick();
  }
}

/** @type {TasksPanel | undefined} the open one */
let panel;

export function close() {
  panel?.end();
  panel = undefined;
}

/** Show the tasks in the element `place`, unless it shows them already. */
export function render(place) {
  if (panel?.element.parentElement === place) return;
  close();
  // The language has changed: make all elements anew.
  const renew = () => {
    close();
    render(place);
  };
  panel = new TasksPanel(renew);
  place.replaceChildren(panel.element);
}
