// The buttons of a task: the actions that the server accepts now. An action that may cost something asks first.
import { Refused, order } from "../server.mjs";
import { Question, button, made } from "./elements.mjs";
import { texts } from "./texts.mjs";

const ACTIONS = ["collect", "stop-waiting", "submit-again"];

export class TaskActions {
  /** For the row: the buttons, and the question. */
  elements;
  #task;
  #texts = texts();
  #buttons;
  #question = new Question();
  #asked;
  #fallback;
  #isBusy = false;
  #tell;
  #refresh;

  /** `fallback`: a button beside these; it gets the focus when the focused one is hidden. `tell(text, isProblem)` shows
   * a message; `refresh()` loads the list again. */
  constructor(fallback, tell, refresh) {
    this.#fallback = fallback;
    this.#tell = tell;
    this.#refresh = refresh;
    this.#buttons = ACTIONS.map((action) =>
      button(this.#texts.actions[action].name, () => this.#pressed(action), { data: { action } }),
    );
    this.elements = [made("div", { className: "buttons" }, ...this.#buttons, fallback), this.#question.element];
  }

  update(task) {
    this.#task = task;
    const focused = document.activeElement;
    for (const each of this.#buttons) each.hidden = !task.can?.includes(each.dataset.action);
    if (this.#asked && !task.can?.includes(this.#asked)) this.#question.leave();
    if (this.#buttons.includes(focused) && focused.hidden) this.#fallback.focus();
  }

  async #pressed(action) {
    if (this.#isBusy) return;
    if (this.#texts.actions[action].ask) this.#ask(action);
    else await this.#do(action);
  }

  #ask(action) {
    const { ask, yes, no } = this.#texts.actions[action];
    const words = { why: ask(this.#task), yes, no, data: { confirm: action } };
    this.#question.ask(words, () => this.#do(action), (hadFocus) => this.#left(hadFocus));
    this.#asked = action;
  }

  #left(hadFocus) {
    const asker = this.#buttons.find((each) => each.dataset.action === this.#asked);
    this.#asked = undefined;
    if (hadFocus) (asker?.hidden ? this.#fallback : asker)?.focus();
  }

  async #do(action) {
    this.#tell(this.#texts.working);
    this.#setBusy(true);
    try {
      await order(`/tasks/${this.#task.journal_id}/${action}`);
      this.#tell(this.#texts.actions[action].done);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      this.#tell(problem.message, true);
    } finally {
      this.#setBusy(false);
    }
    await this.#refresh();
  }

  /** Not `disabled`: that would drop the focus, and the next keys would go to the canvas. */
  #setBusy(isBusy) {
    this.#isBusy = isBusy;
    for (const each of this.#buttons) each.ariaDisabled = String(isBusy);
  }
}
