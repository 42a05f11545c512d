// Finds the picture to show as a node's original: the file of the LoadImage that feeds it, or the preview of its last
// run.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { feederOf } from "../graph_links.mjs";
import { rootGraph } from "../pack.js";

const LOADERS = new Set(["LoadImage", "LoadImageOutput"]);
const ANNOTATION = / \[(input|output|temp)\]$/;

/** Split a value such as "folder/name.png [output]" into the parameters of the route /view; `type` is the default. */
function fileOf(value, type) {
  const annotated = ANNOTATION.exec(value)?.[1];
  const path = value.replace(ANNOTATION, "").replaceAll("\\", "/");
  const cut = path.lastIndexOf("/");
  return { filename: path.slice(cut + 1), subfolder: path.slice(0, Math.max(cut, 0)), type: annotated ?? type };
}

function loadedFile(node) {
  const feeder = feederOf(node, "image");
  if (!LOADERS.has(feeder?.node?.type) || feeder.slot !== 0) return undefined;
  const value = linkedOrOwnValue(feeder.node, "image");
  return typeof value === "string" && value ? fileOf(value, "input") : undefined;
}

function linkedOrOwnValue(node, name) {
  return (feederOf(node, name)?.widget ?? node.widgets?.find((widget) => widget.name === name))?.value;
}

/** Return the frontend's locator of a node: its id, with the subgraph's id before it if it is in one. */
export function locatorOf(node) {
  const inRoot = node.graph === rootGraph();
  return inRoot ? String(node.id) : `${node.graph?.id}:${node.id}`;
}

/** Return the available pictures, the better one first: [{kind, key, file, size}].
 *
 * `kind`: "loaded" (the file of the LoadImage before the node) or "run" (a reduced preview of the last run). `key`
 * identifies the file. `size`: that of the original, for "run" only; for "loaded" it is known when the file is loaded.
 */
export function sourcesOf(node) {
  const sources = [];
  const file = loadedFile(node);
  if (file) sources.push({ kind: "loaded", key: keyOf(file), file });
  const { width, height, ...preview } = app.nodeOutputs?.[locatorOf(node)]?.outpaint_preview?.[0] ?? {};
  if (width > 0 && height > 0) sources.push({ kind: "run", key: keyOf(preview), file: preview, size: { width, height } });
  return sources;
}

function keyOf({ filename, subfolder, type }) {
  return [type, subfolder, filename].join("/");
}

/** The URL of each file by key: it has a random part, so keep it, and the browser fetches the file once for each
 * page. */
const urls = new Map();

export function urlOf({ key, file }) {
  if (!urls.has(key)) {
    const { filename, subfolder, type } = file;
    const query = new URLSearchParams({ filename, subfolder, type });
    urls.set(key, api.apiURL(`/view?${query}${app.getRandParam()}`));
  }
  return urls.get(key);
}
