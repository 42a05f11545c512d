// Reading and writing a node's widgets as a user would.
import { app } from "../../scripts/app.js";
import { feederOf } from "./graph_links.mjs";

/** What the link of a widget brings, where that can be seen before it runs; else undefined. */
export function valueBroughtTo(node, name) {
  const feeder = feederOf(node, name);
  if (feeder?.widget) return feeder.widget.value;
  // A node that only holds a value.
  return String(feeder?.node?.type ?? "").startsWith("Primitive")
    ? feeder.node.widgets?.find((widget) => widget.name === "value")?.value
    : undefined;
}

/** Change widgets as a user would: within their limits, and everybody who listens gets to know. */
export function writeValues(node, changes) {
  for (const [name, wanted] of Object.entries(changes)) {
    const widget = node.widgets?.find((each) => each.name === name);
    if (!widget) continue;
    const { min = -Infinity, max = Infinity } = widget.options ?? {};
    const value = typeof wanted === "number" ? Math.min(Math.max(wanted, min), max) : wanted;
    const before = widget.value;
    if (value === before) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
    node.onWidgetChanged?.(name, value, before, widget);
  }
  node.setDirtyCanvas(true, true);
}
