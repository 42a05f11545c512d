// Where an input of a node gets its value from: across Reroute nodes, bypassed nodes and the borders of subgraphs.
import { rootGraph } from "./pack.js";

/** LiteGraph's id for what comes into a subgraph from outside. */
const SUBGRAPH_INPUTS = -10;
const BYPASSED = 4;
// A loop of links cannot run, but it can be drawn.
const LONGEST_WAY = 100;

function linkOf(graph, id) {
  if (id === null || id === undefined) return undefined;
  return graph?.getLink?.(id) ?? graph?.links?.get?.(id) ?? graph?.links?.[id];
}

function nodeIn(graph, id) {
  return graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
}

/** The node that is `subgraph` from outside; the first one where several are. */
function hostOf(subgraph) {
  const root = rootGraph();
  const graphs = [root, ...(root.subgraphs?.values() ?? [])];
  return graphs.flatMap((graph) => graph.nodes).find((node) => node.subgraph?.id === subgraph.id);
}

/** The input that a bypassed node passes on in place of an output. */
function passedInput(node, slot) {
  const type = node.outputs?.[slot]?.type;
  const fits = (input) => input && input.type === type;
  if (fits(node.inputs?.[slot])) return slot;
  return node.inputs?.findIndex(fits) ?? -1;
}

/** Whether a link decides the input `name` (a widget's, too). */
export function isLinked(node, name) {
  const input = node.inputs?.find((each) => each.name === name);
  return linkOf(node.graph, input?.link) !== undefined;
}

/** What feeds the input `name`.
 *
 * Returns {node, slot}: an output of a node; {node, widget}: a widget, shown on a subgraph's node for one inside it;
 * or undefined: nothing that can be found.
 */
export function feederOf(node, name) {
  const index = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return index < 0 ? undefined : follow(node, index);
}

function follow(node, index) {
  for (let way = 0; way < LONGEST_WAY && node; way++) {
    const input = node.inputs?.[index];
    const link = linkOf(node.graph, input?.link);
    if (!link) {
      const widget = input?.widget && node.widgets?.find(({ name }) => name === input.widget.name);
      return way > 0 && widget ? { node, widget } : undefined;
    }
    let slot = Number(link.origin_slot);
    if (Number(link.origin_id) === SUBGRAPH_INPUTS) {
      [node, index] = [hostOf(node.graph), slot];
      continue;
    }
    let origin = nodeIn(node.graph, link.origin_id);
    while (origin?.subgraph && origin.mode !== BYPASSED) {
      // Into the subgraph, from its output.
      const last = linkOf(origin.subgraph, origin.subgraph.outputs?.[slot]?.linkIds?.[0]);
      [origin, slot] = [last && nodeIn(origin.subgraph, last.origin_id), Number(last?.origin_slot)];
    }
    if (!origin) return undefined;
    const passes = origin.mode === BYPASSED ? passedInput(origin, slot) : origin.type === "Reroute" ? 0 : undefined;
    if (passes === undefined) return { node: origin, slot };
    [node, index] = [origin, passes];
  }
  return undefined;
}
