// What a node's widgets say about a placement, and how to say something else with them.
import { PlacementError, pad, place, placeInAspect } from "./geometry.mjs";
import { isLinked } from "../graph_links.mjs";
import { valueBroughtTo } from "../widget_values.mjs";

export const ASPECT_RATIO = "aspect ratio";
export const CANVAS_SIZE = "canvas size";
export const PIXELS_PER_SIDE = "pixels per side";

const SIDES = ["left", "top", "right", "bottom"];
const MOVING = ["position", "x_offset", "y_offset"];
/** The widgets that count, by target. */
const COUNTING = {
  [ASPECT_RATIO]: ["aspect_ratio", "ratio", ...MOVING],
  [CANVAS_SIZE]: ["canvas_width", "canvas_height", "ratio", ...MOVING],
  [PIXELS_PER_SIDE]: SIDES,
};
const NAMES = new Set(["target", ...Object.values(COUNTING).flat()]);

export function widgetsOf(node) {
  return node.widgets?.filter((widget) => NAMES.has(widget.name)) ?? [];
}

/** What is in the widgets now.
 *
 * Returns:
 *   values: by name; of a linked widget what its link brings where that can be seen, else its own.
 *   target: which of them count.
 *   linked: names of those that count and that a link decides.
 *   unseen: those of `linked` whose value is only known when the graph runs.
 *   decided: whether the input `placement` is connected, which leaves nothing to any of them.
 */
export function readValues(node) {
  const values = {};
  const linked = [];
  const unseen = [];
  for (const { name, value } of widgetsOf(node)) {
    values[name] = value;
    if (!isLinked(node, name)) continue;
    linked.push(name);
    const brought = valueBroughtTo(node, name);
    if (brought === undefined) unseen.push(name);
    else values[name] = brought;
  }
  const target = values.target in COUNTING ? values.target : CANVAS_SIZE;
  const counts = (name) => name === "target" || COUNTING[target].includes(name);
  return {
    values,
    target,
    linked: linked.filter(counts),
    unseen: unseen.filter(counts),
    decided: isLinked(node, "placement"),
  };
}

/** What the user may do with these values: links are not ours to change. */
export function freedomOf({ linked, unseen, decided, target, values }) {
  const isFree = (...names) => !decided && !unseen.includes("target") && !names.some((name) => linked.includes(name));
  if (target === PIXELS_PER_SIDE) {
    const free = isFree(...SIDES);
    return { move: free, scale: free };
  }
  const move = isFree(...MOVING);
  // At a named position the ratio alone does it.
  return { move, scale: isFree("ratio") && (move || (isFree("position") && values.position !== "offset")) };
}

/** The placement of an original of `width` × `height`; with an offset that leads out of the canvas, the nearest one.
 *
 * Returns {placement, problem}: `problem` is undefined, or "outside"; `placement` is undefined where there is none.
 */
export function placementOf(read, { width, height }) {
  const placement = attempt(() => computed(read, width, height));
  return placement ? { placement } : { placement: attempt(() => nearest(read, width, height)), problem: "outside" };
}

/** What `compute` returns; undefined where there is no such placement. */
function attempt(compute) {
  try {
    return compute();
  } catch (error) {
    if (error instanceof PlacementError) return undefined;
    throw error;
  }
}

function computed({ values, target }, width, height) {
  if (target === PIXELS_PER_SIDE) return pad(width, height, ...SIDES.map((side) => values[side]));
  const where = [values.ratio, String(values.position), values.x_offset, values.y_offset];
  if (target === CANVAS_SIZE) return place(width, height, values.canvas_width, values.canvas_height, ...where);
  return placeInAspect(width, height, ...String(values.aspect_ratio).split(":").map(Number), ...where);
}

function nearest({ values, target }, width, height) {
  if (target === PIXELS_PER_SIDE) {
    return pad(width, height, ...SIDES.map((side) => Math.max(0, values[side])));
  }
  const { x, y, ...centred } = computed({ values: { ...values, position: "center" }, target }, width, height);
  const into = (offset, most) => Math.min(Math.max(0, offset), most);
  return {
    ...centred,
    x: into(values.x_offset, centred.canvasWidth - centred.width),
    y: into(values.y_offset, centred.canvasHeight - centred.height),
  };
}
