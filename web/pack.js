// What the modules of web/ share. ComfyUI imports every *.js of this folder at page load, and newer versions fetch each
// of them again every time: so pack.js, nodes.js and page.js have only what is needed at once. The rest is *.mjs,
// imported when it is first used.
import { app } from "../../scripts/app.js";

/** The name of the pack's folder in custom_nodes; the user may have chosen another one. */
export const FOLDER = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));

/** Wrap the method `object[name]`, if there is one: `run` is called after it with the same arguments. */
export function after(object, name, run) {
  const before = object[name];
  object[name] = function (...received) {
    const result = before?.apply(this, received);
    run(...received);
    return result;
  };
}

/** Whether the page is in Chinese. A change of the language reloads the graph, so texts on nodes need no update. */
export function chinese() {
  return String(app.ui.settings.getSettingValue("Comfy.Locale") ?? "").startsWith("zh");
}

/** The text for a module that could not be imported. */
export function notLoaded() {
  return chinese()
    ? "无法加载此部分界面：ComfyUI 服务器可能已停止或无法连接。请重试；若仍无法加载，请刷新页面。"
    : "This part of the page could not be loaded: the ComfyUI server may have stopped, or cannot be reached. " +
        "Try again; if that does not help, reload the page.";
}

/** Return the module that `load()` imports. If that fails, show the reason and a button *Try again* in the element
 * `place`, and go on when it was pressed. */
export async function importedInto(place, load) {
  for (;;) {
    try {
      return await load();
    } catch (problem) {
      console.warn(problem);
      await new Promise((again) => place.replaceChildren(...notice(again)));
      place.replaceChildren();
    }
  }
}

function notice(again) {
  const words = Object.assign(document.createElement("p"), { textContent: notLoaded() });
  words.style.cssText = "margin: 12px; font-size: 13px; color: var(--fg-color);";
  words.setAttribute("role", "alert");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.textContent = chinese() ? "重试" : "Try again";
  button.style.cssText =
    "margin: 0 12px; padding: 4px 12px; border-radius: 4px; font: inherit; font-size: 13px; cursor: pointer;" +
    "color: var(--input-text); background: var(--comfy-input-bg); border: 1px solid var(--border-color);";
  button.addEventListener("click", again);
  return [words, button];
}

export function rootGraph() {
  return app.rootGraph ?? app.graph;
}

/** Return the nodes of an execution id from the outermost to the innermost: "12:7" is node 7 in the subgraph of node
 * 12. A node that is not in the open workflow is undefined or null. */
export function pathOf(executionId) {
  const find = (graph, id) => graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
  const [first, ...rest] = String(executionId).split(":");
  const path = [find(rootGraph(), first)];
  for (const id of rest) path.push(find(path.at(-1)?.subgraph, id));
  return path;
}

export function nodeOf(executionId) {
  return pathOf(executionId).at(-1) ?? undefined;
}

/** Pass a wheel event on to the canvas: the canvas renderer lays elements over it, so it does not get the event
 * itself. */
export function wheelToCanvas(event) {
  if (!LiteGraph.vueNodesMode) app.canvas.processMouseWheel(event);
}

/** Let the middle button pan over an element, as it does over the canvas. */
export function panWithMiddleButton(element) {
  element.addEventListener("pointerdown", (event) => event.button === 1 && app.canvas.processMouseDown(event));
  element.addEventListener("pointermove", (event) => event.buttons & 4 && app.canvas.processMouseMove(event));
  element.addEventListener("pointerup", (event) => event.button === 1 && app.canvas.processMouseUp(event));
}
