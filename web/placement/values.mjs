// Reads a node's widgets as a placement, and tells which of them the user may change.
import { PlacementError, pad, place, placeInAspect } from "./geometry.mjs";
import { isLinked } from "../graph_links.mjs";
import { valueBroughtTo } from "../widget_values.mjs";

export const ASPECT_RATIO = "aspect ratio";
export const CANVAS_SIZE = "canvas size";
export const PIXELS_PER_SIDE = "pixels per side";

const SIDES = ["left", "top", "right", "bottom"];
const MOVING = ["position", "x_offset", "y_offset"];
/** By target, the names of the widgets that have an effect. */
const COUNTING = {
  [ASPECT_RATIO]: ["aspect_ratio", "ratio", ...MOVING],
  [CANVAS_SIZE]: ["canvas_width", "canvas_height", "ratio", ...MOVING],
  [PIXELS_PER_SIDE]: SIDES,
};
const NAMES = new Set(["target", ...Object.values(COUNTING).flat()]);

export function widgetsOf(node) {
  return node.widgets?.filter((widget) => NAMES.has(widget.name)) ?? [];
}

/** Read the widgets of a node. Returns an object:
 *
 *   values: by name; for a linked widget the value of the link if it is known, else the widget's own.
 *   target: decides which widgets have an effect (COUNTING).
 *   linked: names of the linked ones among those.
 *   unseen: those of `linked` whose value is known only when the graph runs.
 *   decided: whether the input `placement` is linked; then no widget has any effect.
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

/** Return {move, scale}: whether the widgets that each of them writes are free, that is, not linked. */
export function freedomOf({ linked, unseen, decided, target, values }) {
  const isFree = (...names) => !decided && !unseen.includes("target") && !names.some((name) => linked.includes(name));
  if (target === PIXELS_PER_SIDE) {
    const free = isFree(...SIDES);
    return { move: free, scale: free };
  }
  const move = isFree(...MOVING);
  // At a named position scaling writes the ratio only.
  return { move, scale: isFree("ratio") && (move || (isFree("position") && values.position !== "offset")) };
}

/** Return {placement, problem} of an original of `width` × `height`.
 *
 * If the offset leads out of the canvas, `problem` is "outside", and the placement the nearest one inside. `placement`
 * is undefined if there is none at all.
 */
export function placementOf(read, { width, height }) {
  const placement = attempt(() => computed(read, width, height));
  return placement ? { placement } : { placement: attempt(() => nearest(read, width, height)), problem: "outside" };
}

/** Return the result of `compute`, or undefined if it throws PlacementError. */
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
