// What a task's state means for whoever looks: which words, which colour, and whether it waits for a decision.

const KINDS = {
  prepared: "off", submitting: "open", submitted: "open", parked: "open", done: "open", stored: "good",
  partly: "good", delivered: "good", refused: "off", ambiguous: "warn", unanswered: "warn", failed: "bad", cancelled: "off",
};
const OPEN = new Set(["prepared", "submitting", "submitted", "parked", "done"]);
const UNDECIDED = new Set(["ambiguous", "unanswered", "failed"]);

/** The state to be shown. One whose process died while it was sending is as unclear as a lost answer. */
export function shownState({ state, waiting, stored, pictures }) {
  if (state === "stored" && stored < pictures) return "partly";
  return state === "submitting" && waiting === false ? "unanswered" : state;
}

export function kindOf(task) {
  return isSettled(task) ? "off" : KINDS[shownState(task)] ?? "off";
}

/** Somebody chose "submit again" already: the server would not take that once more. */
export function isSettled(task) {
  return UNDECIDED.has(shownState(task)) && !task.can?.includes("submit-again");
}

export function groupOf(task) {
  const state = shownState(task);
  if (OPEN.has(state)) return "open";
  return UNDECIDED.has(state) && !isSettled(task) ? "attention" : "finished";
}
