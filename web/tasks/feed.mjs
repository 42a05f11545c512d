// The task list as the server has it: asked for again whenever it may have changed, as long as somebody looks.
import { api } from "../../../scripts/api.js";
import { Refused, ask } from "../server.mjs";

const CHANGED = "hidream_volcengine.tasks";
/** A server that is gone is told, and what happened meanwhile is asked for when it is back. */
const ASK_ON = [CHANGED, "reconnecting", "reconnected"];
/** For what other servers of the same journal do; milliseconds. */
const EVERY = 15_000;
const STEP = 200;
const MOST = 1000;

export class TaskFeed {
  /** How many tasks are asked for. */
  limit = STEP;
  #told;
  #failed;
  #timer;
  #asking = false;
  #again = false;
  #over = false;

  /** `told(list)` gets each answer of GET /tasks, `failed(refused)` each refusal. */
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
    // A change during an answer may not be in it.
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
