// Which picture a node gets: the file of the LoadImage before it, else what its last run has left.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { feederOf } from "../graph_links.mjs";
import { rootGraph } from "../pack.js";

const LOADERS = new Set(["LoadImage", "LoadImageOutput"]);
const ANNOTATION = / \[(input|output|temp)\]$/;

/** "folder/name.png [output]" as the parts that /view asks for. */
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

/** What the frontend calls a node, also one inside a subgraph. */
export function locatorOf(node) {
  const inRoot = node.graph === rootGraph();
  return inRoot ? String(node.id) : `${node.graph?.id}:${node.id}`;
}

/** The pictures there are, the better one first: [{kind, key, file, size}].
 *
 * `kind` is "loaded" (by a node before this one) or "run" (what the last run has left, reduced); `size` is the real
 * image's, where that is known without loading it.
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

/** Each file is fetched once while the page is open. */
const urls = new Map();

export function urlOf({ key, file }) {
  if (!urls.has(key)) {
    const { filename, subfolder, type } = file;
    const query = new URLSearchParams({ filename, subfolder, type });
    urls.set(key, api.apiURL(`/view?${query}${app.getRandParam()}`));
  }
  return urls.get(key);
}
