// Finds where an input of a node gets its value from: through Reroute nodes, bypassed nodes and the borders of
// subgraphs.
import { rootGraph } from "./pack.js";

/** LiteGraph's node id for the inputs of a subgraph. */
const SUBGRAPH_INPUTS = -10;
const BYPASSED = 4;
// Links to follow at most: a user can draw a loop of links, although it cannot run.
const LONGEST_WAY = 100;

function linkOf(graph, id) {
  if (id === null || id === undefined) return undefined;
  return graph?.getLink?.(id) ?? graph?.links?.get?.(id) ?? graph?.links?.[id];
}

function nodeIn(graph, id) {
  return graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
}

/** Return the subgraph node of `subgraph`; the first one if it has several instances. */
function hostOf(subgraph) {
  const root = rootGraph();
  const graphs = [root, ...(root.subgraphs?.values() ?? [])];
  return graphs.flatMap((graph) => graph.nodes).find((node) => node.subgraph?.id === subgraph.id);
}

/** Return the index of the input that a bypassed node passes on in place of the output `slot`; -1 if there is none. */
function passedInput(node, slot) {
  const type = node.outputs?.[slot]?.type;
  const fits = (input) => input && input.type === type;
  if (fits(node.inputs?.[slot])) return slot;
  return node.inputs?.findIndex(fits) ?? -1;
}

/** Whether the input `name` of a node is linked; it may be the input of a widget. */
export function isLinked(node, name) {
  const input = node.inputs?.find((each) => each.name === name);
  return linkOf(node.graph, input?.link) !== undefined;
}

/** Return what feeds the input `name`.
 *
 * {node, slot}: an output of a node. {node, widget}: a widget of a subgraph node that stands for one inside of it.
 * undefined: nothing is linked, or the source cannot be found.
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
      // Enter the subgraph: go on at what feeds its output.
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
