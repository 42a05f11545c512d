// Above the task list: the reports, today's pictures beside the budget, what was spent, the banner of a damaged journal,
// and the filter.
import { tabTitle } from "../page.js";
import { Refused, addressOf, ask, order } from "../server.mjs";
import { Question, button, made, say } from "./elements.mjs";
import { texts } from "./texts.mjs";

/** From this share on the bar of a budget warns. */
const NEAR = 0.8;

/** The filter. It outlives the tab, but not the page. */
const chosen = { group: "all", profile: "", search: "" };

export class TasksHeader {
  /** The header, which scrolls away, and the filter, which stays visible. */
  elements;
  #texts = texts();
  #budgets = made("div", { className: "budgets" });
  #shownBudgets;
  #spent = made("div", { className: "spent" });
  #shownSpent;
  #banner;
  #group = made("select", { data: { filter: "group" } });
  #profile = made("select", { data: { filter: "profile" } });
  #search = made("input", { type: "search", data: { filter: "search" } });
  #refresh;

  /** `filtered()` is called after a change of the filter; `refresh()` loads the list again. */
  constructor(filtered, refresh) {
    const { group, profile, search, groups } = this.#texts;
    this.#refresh = refresh;
    this.#banner = this.#makeBanner();
    this.#group.append(...Object.entries(groups).map(([value, textContent]) => made("option", { value, textContent })));
    this.#search.placeholder = search;
    for (const [element, label] of [[this.#group, group], [this.#profile, profile], [this.#search, search]]) {
      element.setAttribute("aria-label", label);
    }
    const reports = new ReportMenu();
    const heading = made("div", { className: "heading" }, made("h2", { textContent: tabTitle() }), reports.button);
    this.elements = [
      made("header", {}, heading, reports.element, this.#banner, this.#budgets, this.#spent),
      made("div", { className: "filters", role: "search" }, this.#group, this.#profile, this.#search),
    ];
    this.#offerProfiles([]);
    for (const [name, element] of Object.entries({ group: this.#group, profile: this.#profile, search: this.#search })) {
      element.value = chosen[name];
      element.addEventListener("input", () => {
        chosen[name] = element.value;
        filtered();
      });
    }
  }

  set hidden(isHidden) {
    for (const element of this.elements) element.hidden = isHidden;
  }

  get filter() {
    const words = chosen.search.toLowerCase().split(/\s+/).filter(Boolean);
    return { group: chosen.group, profile: chosen.profile, words };
  }

  show({ tasks, budgets = [], spent = [], unacknowledged = false }) {
    this.#banner.hidden = !unacknowledged;
    this.#offerProfiles(tasks.map(({ profile }) => profile));
    this.#showBudgets(budgets);
    this.#showSpent(spent);
  }

  #makeBanner() {
    const said = made("p", { role: "status", data: { problem: "" } });
    const acknowledge = button(this.#texts.acknowledge, async () => {
      acknowledge.disabled = true;
      try {
        await order("/journal/acknowledge");
        say(said, "");
        await this.#refresh();
      } catch (problem) {
        if (!(problem instanceof Refused)) throw problem;
        say(said, problem.message);
      } finally {
        acknowledge.disabled = false;
      }
    });
    const explained = made("p", { textContent: this.#texts.damaged });
    return made("div", { className: "banner", role: "alert", hidden: true }, explained, acknowledge, said);
  }

  #offerProfiles(known) {
    const names = [...new Set([...known, chosen.profile])].filter(Boolean).sort();
    const offered = Array.from(this.#profile.options, ({ value }) => value);
    if (JSON.stringify(offered) === JSON.stringify(["", ...names])) return;
    this.#profile.replaceChildren(
      made("option", { value: "", textContent: this.#texts.allProfiles }),
      ...names.map((value) => made("option", { value, textContent: value })),
    );
    this.#profile.value = chosen.profile;
  }

  #showBudgets(budgets) {
    const state = JSON.stringify(budgets);
    if (state === this.#shownBudgets) return;
    this.#shownBudgets = state;
    this.#budgets.replaceChildren(...budgets.map((budget) => this.#budget(budget)));
    this.#budgets.hidden = !budgets.length;
  }

  #showSpent(spent) {
    const state = JSON.stringify(spent);
    if (state === this.#shownSpent) return;
    this.#shownSpent = state;
    const line = (each) => made("div", { data: { spent: each.profile } }, this.#texts.spent(each));
    this.#spent.replaceChildren(...spent.map(line));
    this.#spent.hidden = !spent.length;
  }

  #budget(budget) {
    const { profile, pictures_today: today, per_day: most, per_run: perRun } = budget;
    const words = this.#texts.budget(budget);
    const shown = made("div", { className: "budget", title: perRun ? this.#texts.perRun(perRun) : "" }, words);
    shown.dataset.budget = profile;
    if (!most) return shown;
    const share = Math.min(today / most, 1);
    const aria = { label: words, valuenow: Math.min(today, most), valuemin: 0, valuemax: most };
    const filled = made("div", { style: `width: ${share * 100}%` });
    const bar = made("div", { className: "bar", role: "progressbar", aria }, filled);
    bar.toggleAttribute("data-near", share >= NEAR);
    bar.toggleAttribute("data-full", share >= 1);
    shown.append(bar);
    return shown;
  }
}

/** The button *Report* and what it unfolds: two days and the newest runs, each a link to its CSV file. */
class ReportMenu {
  button;
  element;
  #texts = texts();
  #said = made("p", { role: "status" });
  #list = made("ul", { role: "list" });

  constructor() {
    this.button = button(this.#texts.report, () => this.#toggle(), { data: { reports: "" }, aria: { expanded: false } });
    const properties = { className: "reports", role: "group", aria: { label: this.#texts.report }, hidden: true };
    this.element = made("div", properties, this.#said, this.#list);
    for (const each of [this.button, this.element]) each.addEventListener("keydown", (event) => this.#escape(event));
  }

  #escape(event) {
    if (event.key !== "Escape" || this.element.hidden) return;
    event.stopPropagation();
    this.#toggle();
    this.button.focus();
  }

  async #toggle() {
    this.element.hidden = !this.element.hidden;
    this.button.ariaExpanded = String(!this.element.hidden);
    if (this.element.hidden) return;
    this.#tell(this.#texts.loading);
    try {
      const { runs, days } = await ask("/runs");
      this.#list.replaceChildren(...days.map((day, index) => this.#day(day, index)), ...runs.map((run) => this.#run(run)));
      this.#tell(runs.length ? "" : this.#texts.noRuns);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      this.#list.replaceChildren();
      this.#tell(problem.message, true);
    }
  }

  #tell(text, isProblem = false) {
    say(this.#said, text);
    this.#said.toggleAttribute("data-problem", isProblem);
  }

  /** A link that saves the report of a run or a day. */
  #link(name, of) {
    const query = new URLSearchParams({ ...of, language: this.#texts.locale });
    return made("a", { href: addressOf(`/report?${query}`), download: "report.csv", textContent: name, draggable: false });
  }

  #day(day, index) {
    return made("li", { data: { day } }, this.#link(this.#texts.days[index](day), { day }));
  }

  #run(run) {
    const item = made("li", { data: { run: run.run } });
    const question = new Question();
    const { forget } = this.#texts;
    const asker = button(forget.name, () => {
      const closed = (hadFocus) => hadFocus && asker.focus();
      question.ask({ ...forget, why: forget.ask, data: { confirm: "forget" } }, () => this.#forget(run, item), closed);
    }, { data: { forget: "" } });
    item.append(
      made("div", { className: "buttons" }, this.#link(this.#texts.run(run), { run: run.run }), asker),
      question.element,
    );
    return item;
  }

  async #forget({ run }, item) {
    this.#tell(this.#texts.working);
    try {
      await order(`/runs/${encodeURIComponent(run)}/forget`);
      item.remove();
      this.button.focus();
      this.#tell(this.#texts.forget.done);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      this.#tell(problem.message, true);
    }
  }
}
