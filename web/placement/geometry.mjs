// Placement arithmetic, the same as `api/pixels/geometry.py`; `tests/vectors/placement.json` holds both to it.
// A placement is {canvasWidth, canvasHeight, x, y, width, height}: a canvas and the rectangle of the original in it.
// All are in pixels. A centred corner is rounded down; a share of a side is rounded half up. The functions that return
// a placement throw PlacementError.

/** The placement does not exist: the original would not lie within the canvas. */
export class PlacementError extends Error {
  name = "PlacementError";
}

export function roundHalfUp(value) {
  return Math.floor(value + 0.5);
}

function placement(canvasWidth, canvasHeight, x, y, width, height) {
  const fits =
    width >= 1 && height >= 1 && x >= 0 && y >= 0 && x + width <= canvasWidth && y + height <= canvasHeight;
  if (!fits) throw new PlacementError("outside of the canvas");
  return { canvasWidth, canvasHeight, x, y, width, height };
}

function corner(freeX, freeY, position, xOffset, yOffset) {
  if (position === "offset") return [xOffset, yOffset];
  const x = position.includes("left") ? 0 : position.includes("right") ? freeX : Math.floor(freeX / 2);
  const y = position.includes("top") ? 0 : position.includes("bottom") ? freeY : Math.floor(freeY / 2);
  return [x, y];
}

/** Return the placement of an original that is scaled to span `ratio` of the canvas on its tighter side, at
 * `position`. */
export function place(width, height, canvasWidth, canvasHeight, ratio, position, xOffset = 0, yOffset = 0) {
  const scale = ratio * Math.min(canvasWidth / width, canvasHeight / height);
  const placedWidth = Math.max(1, roundHalfUp(width * scale));
  const placedHeight = Math.max(1, roundHalfUp(height * scale));
  const [x, y] = corner(canvasWidth - placedWidth, canvasHeight - placedHeight, position, xOffset, yOffset);
  return placement(canvasWidth, canvasHeight, x, y, placedWidth, placedHeight);
}

/** Return the placement of an original at its own size: the canvas is the smallest one of the aspect ratio that holds
 * it, with its sides divided by `ratio`. */
export function placeInAspect(
  width, height, aspectWidth, aspectHeight, ratio, position, xOffset = 0, yOffset = 0,
) {
  const holdsWidth = Math.max(width, (height * aspectWidth) / aspectHeight);
  const holdsHeight = Math.max(height, (width * aspectHeight) / aspectWidth);
  const canvasWidth = Math.max(width, roundHalfUp(holdsWidth / ratio));
  const canvasHeight = Math.max(height, roundHalfUp(holdsHeight / ratio));
  const [x, y] = corner(canvasWidth - width, canvasHeight - height, position, xOffset, yOffset);
  return placement(canvasWidth, canvasHeight, x, y, width, height);
}

/** Return the placement in the canvas that adds pixels to each side of an original. */
export function pad(width, height, left, top, right, bottom) {
  return placement(left + width + right, top + height + bottom, left, top, width, height);
}

function scaledSpan(start, length, from, to) {
  const begin = Math.min(roundHalfUp((start * to) / from), to - 1);
  const end = Math.max(roundHalfUp(((start + length) * to) / from), begin + 1);
  return [begin, Math.min(end, to) - begin];
}

/** Return the same placement on a canvas of another size. Both edges are rounded, not the length, so that the parts of
 * a side add up to it. */
export function scaledTo(placed, canvasWidth, canvasHeight) {
  const [x, width] = scaledSpan(placed.x, placed.width, placed.canvasWidth, canvasWidth);
  const [y, height] = scaledSpan(placed.y, placed.height, placed.canvasHeight, canvasHeight);
  return placement(canvasWidth, canvasHeight, x, y, width, height);
}

/** Return the same placement, scaled down so that its canvas fits into the limits; unchanged if it fits. */
export function within(placed, maxWidth, maxHeight) {
  const { canvasWidth, canvasHeight } = placed;
  const scale = Math.min(1, maxWidth / canvasWidth, maxHeight / canvasHeight);
  const fitted = (side, most) => Math.min(most, Math.max(1, roundHalfUp(side * scale)));
  return scaledTo(placed, fitted(canvasWidth, maxWidth), fitted(canvasHeight, maxHeight));
}

/** Return the pixels that are added at each side: {left, top, right, bottom}. */
export function sidesOf({ canvasWidth, canvasHeight, x, y, width, height }) {
  return { left: x, top: y, right: canvasWidth - x - width, bottom: canvasHeight - y - height };
}
