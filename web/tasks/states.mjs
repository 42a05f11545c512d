// What a task's state means in the tab: which state is shown, its colour, and the group of the filter.

const KINDS = {
  prepared: "off", submitting: "open", submitted: "open", parked: "open", done: "open", stored: "good",
  partly: "good", delivered: "good", refused: "off", ambiguous: "warn", unanswered: "warn", failed: "bad", cancelled: "off",
};
const OPEN = new Set(["prepared", "submitting", "submitted", "parked", "done"]);
const UNDECIDED = new Set(["ambiguous", "unanswered", "failed"]);

/** Return the state to show: the journal's, or "partly" (some of the pictures are stored), or "unanswered" (the process
 * ended while it was sending, so it is not known whether the service accepted the request). */
export function shownState({ state, waiting, stored, pictures }) {
  if (state === "stored" && stored < pictures) return "partly";
  return state === "submitting" && waiting === false ? "unanswered" : state;
}

/** Return the colour class of a task: "open", "good", "warn", "bad" or "off". */
export function kindOf(task) {
  return isSettled(task) ? "off" : KINDS[shownState(task)] ?? "off";
}

/** Whether the user has chosen *Submit again* for it already: the state is undecided, but the server no longer offers
 * it. */
export function isSettled(task) {
  return UNDECIDED.has(shownState(task)) && !task.can?.includes("submit-again");
}

/** Return the group of the filter: "open", "attention" or "finished". */
export function groupOf(task) {
  const state = shownState(task);
  if (OPEN.has(state)) return "open";
  return UNDECIDED.has(state) && !isSettled(task) ? "attention" : "finished";
}
