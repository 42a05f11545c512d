// Above the task list: today's pictures beside the budget, the banner of a damaged journal, and the filter.
import { tabTitle } from "../page.js";
import { Refused, order } from "../server.mjs";
import { button, made, say } from "./elements.mjs";
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
    const heading = made("h2", { textContent: tabTitle() });
    this.elements = [
      made("header", {}, heading, this.#banner, this.#budgets),
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

  show({ tasks, budgets = [], unacknowledged = false }) {
    this.#banner.hidden = !unacknowledged;
    this.#offerProfiles(tasks.map(({ profile }) => profile));
    this.#showBudgets(budgets);
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
