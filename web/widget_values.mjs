// Reads the value that a link brings to a widget, and writes widgets as a user would.
import { app } from "../../scripts/app.js";
import { feederOf } from "./graph_links.mjs";

/** Return the value that a link brings to the widget `name`; undefined if only a run can tell, or nothing is linked. */
export function valueBroughtTo(node, name) {
  const feeder = feederOf(node, name);
  if (feeder?.widget) return feeder.widget.value;
  // The Primitive nodes hold a value in a widget and do nothing else.
  return String(feeder?.node?.type ?? "").startsWith("Primitive")
    ? feeder.node.widgets?.find((widget) => widget.name === "value")?.value
    : undefined;
}

/** Set widgets as a user would: within their min and max, with their callbacks. `changes`: value by name; names that
 * the node does not have are ignored. */
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
