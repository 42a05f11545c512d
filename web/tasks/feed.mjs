// Loads the task list from the server, and again whenever it may have changed, as long as the page is visible.
import { api } from "../../../scripts/api.js";
import { Refused, ask } from "../server.mjs";

const CHANGED = "hidream_volcengine.tasks";
/** Events on which the list is loaded. On "reconnecting" the call fails, which shows that the server is gone. */
const ASK_ON = [CHANGED, "reconnecting", "reconnected"];
/** Milliseconds between two loads without an event: other servers of the same journal send none to this page. */
const EVERY = 15_000;
/** How many tasks are loaded at first and more with each *Show more*, and at most. */
const STEP = 200;
const MOST = 1000;

export class TaskFeed {
  /** How many tasks are loaded. */
  limit = STEP;
  #told;
  #failed;
  #timer;
  #asking = false;
  #again = false;
  #over = false;

  /** `told(list)` is called with each answer of GET /tasks, `failed(refused)` with each Refused. */
  constructor(told, failed) {
    this.#told = told;
    this.#failed = failed;
    for (const type of ASK_ON) api.addEventListener(type, this.refresh);
    document.addEventListener("visibilitychange", this.refresh);
    this.#timer = setInterval(this.refresh, EVERY);
  }

  end() {
    this.#over = true;
    clearInterval(this.#timer);
    document.removeEventListener("visibilitychange", this.refresh);
    for (const type of ASK_ON) api.removeEventListener(type, this.refresh);
  }

  get canShowMore() {
    return this.limit < MOST;
  }

  async showMore() {
    this.limit = Math.min(this.limit + STEP, MOST);
    await this.refresh();
  }

  refresh = async () => {
    if (document.hidden || this.#over) return;
    // A change while a call is under way may not be in its answer: load again afterwards.
    this.#again = this.#asking;
    if (this.#asking) return;
    this.#asking = true;
    try {
      const list = await ask(`/tasks?limit=${this.limit}`);
      if (!this.#over) this.#told(list);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      if (!this.#over) this.#failed(problem);
    } finally {
      this.#asking = false;
    }
    if (this.#again) await this.refresh();
  };
}
