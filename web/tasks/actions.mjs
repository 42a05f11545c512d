// The buttons of a task: the actions that the server accepts now. An action that may cost something asks first.
import { Refused, order } from "../server.mjs";
import { button, made } from "./elements.mjs";
import { texts } from "./texts.mjs";

const ACTIONS = ["collect", "stop-waiting", "submit-again"];

export class TaskActions {
  /** For the row: the buttons, and the question. */
  elements;
  #task;
  #texts = texts();
  #buttons;
  #question = made("div", { className: "question", role: "group", hidden: true });
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
    this.#question.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#leave();
    });
    this.elements = [made("div", { className: "buttons" }, ...this.#buttons, fallback), this.#question];
  }

  update(task) {
    this.#task = task;
    const focused = document.activeElement;
    for (const each of this.#buttons) each.hidden = !task.can?.includes(each.dataset.action);
    if (this.#asked && !task.can?.includes(this.#asked)) this.#leave();
    if (this.#buttons.includes(focused) && focused.hidden) this.#fallback.focus();
  }

  async #pressed(action) {
    if (this.#isBusy) return;
    if (this.#texts.actions[action].ask) this.#ask(action);
    else await this.#do(action);
  }

  #ask(action) {
    const { ask, yes, no } = this.#texts.actions[action];
    const why = ask(this.#task);
    const leave = button(no, () => this.#leave());
    const agree = button(yes, () => {
      this.#leave();
      this.#do(action);
    }, { data: { confirm: action } });
    this.#question.setAttribute("aria-label", why);
    this.#question.replaceChildren(made("p", {}, why), made("div", { className: "buttons" }, agree, leave));
    this.#question.hidden = false;
    this.#asked = action;
    // The answer that costs nothing gets the focus.
    leave.focus();
  }

  #leave() {
    const hadFocus = this.#question.contains(document.activeElement);
    const asker = this.#buttons.find((each) => each.dataset.action === this.#asked);
    this.#question.hidden = true;
    this.#question.replaceChildren();
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
