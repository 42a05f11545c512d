// A thumbnail of a task: of the picture at one position, or of the first one that is in the store.
import { made } from "./elements.mjs";
import { addressOf } from "../server.mjs";
import { kindOf } from "./states.mjs";
import { texts } from "./texts.mjs";

/** Icons in place of a missing picture, by kindOf. */
const ICONS = {
  open: "pi-hourglass", good: "pi-image", warn: "pi-question-circle", bad: "pi-times-circle", off: "pi-minus-circle",
};

/** Return how many positions of a task may have a picture; 0 if none is stored. */
export const picturesOf = ({ pictures, stored }) => (stored ? Math.max(pictures, stored) : 0);

export class Thumbnail {
  element;
  position = 0;
  #icon = made("i", { aria: { hidden: true } });
  #badge = made("span", { className: "badge" });
  #image;
  #first;
  #missing;
  #shown;

  /** `position`: which picture to show; without it the first that can be loaded, with a badge that says how many there
   * are. `missing()` is called if there is none. */
  constructor(position, missing) {
    this.element = made("div", { className: "thumbnail" }, this.#icon);
    this.#first = position;
    this.#missing = missing;
  }

  show(task) {
    this.#icon.className = `pi ${ICONS[kindOf(task)]}`;
    const total = picturesOf(task);
    const state = `${task.stored}/${total}`;
    if (state === this.#shown) return;
    this.#shown = state;
    this.#image?.remove();
    this.#image = undefined;
    this.#offer(false);
    if (total) this.#load(task, this.#first ?? 0, total);
    this.#badge.textContent = task.stored;
    this.#badge.title = texts().count(task.stored);
    if (this.#first === undefined && task.stored > 1) this.element.append(this.#badge);
  }

  #load(task, position, total) {
    const image = made("img", { loading: "lazy", draggable: false, alt: texts().picture(position + 1, total) });
    image.addEventListener("load", () => this.#offer(image.isConnected));
    image.addEventListener("error", () => {
      if (!image.isConnected) return;
      image.remove();
      // A picture of a set that failed has no file: try the next position.
      if (this.#first === undefined && position + 1 < total) this.#load(task, position + 1, total);
      else this.#missing?.();
    });
    this.position = position;
    this.#image = image;
    this.element.prepend(image);
    image.src = addressOf(`/tasks/${task.journal_id}/thumbnails/${position}`);
  }

  #offer(isThere) {
    this.element.draggable = isThere;
    this.element.title = isThere ? texts().dragPicture : "";
  }
}
