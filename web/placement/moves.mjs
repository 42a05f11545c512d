// Computes the widget values that a gesture leads to. Pure arithmetic: no widgets and no elements.
// `read` is the result of readValues (values.mjs); a share is a number from 0 to 1 of a side of the canvas or original.
import { roundHalfUp, sidesOf } from "./geometry.mjs";
import { PIXELS_PER_SIDE, placementOf } from "./values.mjs";

const RATIO_STEPS = 1000;
/** The minimum of the widget `ratio`. */
export const SMALLEST_RATIO = 0.05;
const THIRDS = [1 / 3, 2 / 3];
const LINES = [0, 1 / 2, 1, ...THIRDS];

const clamp = (value, least, most) => Math.min(Math.max(value, least), Math.max(least, most));

/** Return the placement with x and y moved to the nearest place inside of its canvas. */
export function insideCanvas(placement) {
  const { canvasWidth, canvasHeight, x, y, width, height } = placement;
  return { ...placement, x: clamp(x, 0, canvasWidth - width), y: clamp(y, 0, canvasHeight - height) };
}

/** Return the widget values that put the original at (x, y) of the same canvas, or at the nearest place in it. */
export function movedTo(read, placement, x, y) {
  const at = insideCanvas({ ...placement, x, y });
  return read.target === PIXELS_PER_SIDE ? sidesOf(at) : { position: "offset", x_offset: at.x, y_offset: at.y };
}

/** Return where a moved original snaps to: its centre to the canvas' centre and thirds, its edges to the canvas' edges.
 *
 * Args: placement: with the wanted x and y, fractions of pixels included; reach: in pixels of the canvas.
 * Returns {x, y, guides}: whole pixels; `guides` are the lines it snapped to, as shares of the canvas, by axis.
 */
export function snapped(placement, reach) {
  const across = snappedSpan(placement.x, placement.width, placement.canvasWidth, reach);
  const down = snappedSpan(placement.y, placement.height, placement.canvasHeight, reach);
  return { x: across.start, y: down.start, guides: { x: across.guides, y: down.guides } };
}

function snappedSpan(wanted, length, canvas, reach) {
  const free = canvas - length;
  const candidates = [
    { line: 0, start: 0 },
    { line: 1, start: free },
    // Rounded as geometry.mjs does for the position `center`.
    { line: 1 / 2, start: Math.floor(free / 2) },
    ...THIRDS.map((line) => ({ line, start: roundHalfUp(line * canvas - length / 2) })),
  ].filter(({ start }) => start >= 0 && start <= free && Math.abs(start - wanted) <= reach);
  if (candidates.length === 0) return { start: roundHalfUp(wanted), guides: [] };
  candidates.sort((one, other) => Math.abs(one.start - wanted) - Math.abs(other.start - wanted));
  const { start } = candidates[0];
  return { start, guides: candidates.filter((each) => each.start === start).map(({ line }) => line) };
}

/** Return the share of the canvas that the original spans on its tighter side. */
export function ratioOf({ canvasWidth, canvasHeight, width, height }) {
  return Math.max(width / canvasWidth, height / canvasHeight);
}

/** Return the point at the shares (u, v) of the original: {x, y} as shares of the canvas, {u, v} as given. It is the
 * anchor that stays where it is when the original is scaled. */
export function anchorAt({ canvasWidth, canvasHeight, x, y, width, height }, u, v) {
  return { x: (x + u * width) / canvasWidth, y: (y + v * height) / canvasHeight, u, v };
}

/** Return the widget values that make the original span `ratio` of the canvas, or the nearest possible ratio.
 *
 * Args: anchor: the point that stays where it is (anchorAt), undefined to keep the named position; guides: the lines
 * that an edge snapped to, as draggedCorner returns them.
 */
export function scaledTo(read, original, placement, ratio, anchor, guides) {
  if (read.target === PIXELS_PER_SIDE) {
    const scaled = withCanvasScaled(placement, ratioOf(placement) / Math.max(ratio, SMALLEST_RATIO));
    return movedTo(read, scaled, ...anchoredCorner(scaled, anchor, guides));
  }
  const rounded = clamp(Math.round(ratio * RATIO_STEPS) / RATIO_STEPS, SMALLEST_RATIO, 1);
  const centred = { ...read, values: { ...read.values, ratio: rounded, position: "center" } };
  const { placement: scaled } = placementOf(centred, original);
  return { ratio: rounded, ...(anchor && movedTo(read, scaled, ...anchoredCorner(scaled, anchor, guides))) };
}

/** Return the sizes with the canvas scaled by `factor`, but never smaller than the original, which keeps its size. */
function withCanvasScaled({ canvasWidth, canvasHeight, width, height }, factor) {
  return {
    canvasWidth: Math.max(width, roundHalfUp(canvasWidth * factor)),
    canvasHeight: Math.max(height, roundHalfUp(canvasHeight * factor)),
    width,
    height,
  };
}

function anchoredCorner({ canvasWidth, canvasHeight, width, height }, anchor, guides) {
  // The ratio is rounded, so an edge that snapped to the canvas' edge could end a pixel off it: put it there.
  const start = (canvas, length, share, part, lines = []) =>
    lines.includes(0) ? 0 : lines.includes(1) ? canvas - length : roundHalfUp(share * canvas - part * length);
  return [
    start(canvasWidth, width, anchor.x, anchor.u, guides?.x),
    start(canvasHeight, height, anchor.y, anchor.v, guides?.y),
  ];
}

/** Return {ratio, guides} for a corner that was dragged to (`x`, `y`), shares of the canvas; guides: the lines, as
 * shares by axis, that it snapped to.
 *
 * Args: anchor: the opposite corner; reach: how far it snaps, as shares of the canvas by axis; 0: not at all.
 */
export function draggedCorner(placement, anchor, x, y, reach) {
  const { canvasWidth, canvasHeight, width, height } = placement;
  const across = ((1 - 2 * anchor.u) * width) / canvasWidth;
  const down = ((1 - 2 * anchor.v) * height) / canvasHeight;
  // Project the pointer onto the original's diagonal, in pixels of the canvas, so that both axes count alike.
  const toward = (x - anchor.x) * across * canvasWidth ** 2 + (y - anchor.y) * down * canvasHeight ** 2;
  const whole = (across * canvasWidth) ** 2 + (down * canvasHeight) ** 2;
  const room = Math.min(
    ((across > 0 ? 1 : 0) - anchor.x) / across,
    ((down > 0 ? 1 : 0) - anchor.y) / down,
  );
  const factor = clamp(toward / whole, 0, room);
  const snap = bestSnap(factor, room, anchor, across, down, reach);
  return {
    ratio: ratioOf(placement) * (snap?.factor ?? factor),
    guides: { x: snap?.x ?? [], y: snap?.y ?? [] },
  };
}

function bestSnap(factor, room, anchor, across, down, reach) {
  const snaps = LINES.flatMap((line) => [
    { factor: (line - anchor.x) / across, off: Math.abs(anchor.x + across * factor - line) / reach.x, x: [line] },
    { factor: (line - anchor.y) / down, off: Math.abs(anchor.y + down * factor - line) / reach.y, y: [line] },
  ]).filter((snap) => snap.factor > 0 && snap.factor <= room * 1.000001 && snap.off <= 1);
  return snaps.sort((one, other) => one.off - other.off)[0];
}
