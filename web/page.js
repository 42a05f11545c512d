// What the page needs at load: the tab in the sidebar, the entry in the settings, the order of the example workflows.
// The content of tab and settings is imported when they are opened.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { FOLDER, chinese, importedInto } from "./pack.js";

// The Tasks tab

export function tabTitle() {
  return chinese() ? "远程任务" : "Remote tasks";
}

function tabTooltip() {
  return chinese()
    ? "远程任务：HiDream 与火山引擎节点的购买记录"
    : "Remote tasks: what HiDream and Volcengine nodes have bought";
}

/** The module tasks/panel.mjs; undefined until it is imported. */
let tasks;

/** Fill the tab's element. The frontend calls it whenever it draws the sidebar. */
async function render(place) {
  place.style.height = "100%";
  if (!tasks) {
    tasks = await importedInto(place, () => import("./tasks/panel.mjs"));
    // The tab was closed during the import.
    if (!place.isConnected) return;
  }
  tasks.render(place);
}

app.registerExtension({
  name: "HiDreamVolcengine.Tasks",

  setup() {
    // Frontends warn about an event without any listener; the modules that listen for these are imported later.
    for (const changed of ["tasks", "profiles"]) api.addEventListener(`hidream_volcengine.${changed}`, () => {});
    app.extensionManager.registerSidebarTab({
      id: "hidream-volcengine-tasks",
      icon: "pi pi-cloud-download",
      get title() {
        return tabTitle();
      },
      get tooltip() {
        return tabTooltip();
      },
      type: "custom",
      render,
      destroy: () => tasks?.close(),
    });
  },
});

// The profiles in the settings

// One element for the whole page: when a frontend draws the row again, it must get the same element with what was typed
// into it. profiles/panel.mjs, which is imported when the dialog shows it, defines the custom element.
const profiles = document.createElement("hidream-volcengine-profiles");

app.registerExtension({
  name: "HiDreamVolcengine.Profiles",
  settings: [
    {
      id: "HiDreamVolcengine.Profiles",
      category: ["HiDream & Volcengine", "Service profiles"],
      name: "Hosts, keys and limits of HiDream and Volcengine",
      type() {
        importedInto(profiles, () => import("./profiles/panel.mjs"));
        return profiles;
      },
      defaultValue: undefined,
    },
  ],
});

// The order of this pack's workflows in ComfyUI's template browser: by name, and last those that need something before
// they can run. The server lists them in the order of its file system.

/** Workflows that need a checkpoint, or a task that was bought before; their notes say what. */
const NEEDS_SOMETHING = new Set(["fetch_a_paid_task_again", "old_photo_upscale_and_refine", "outpaint_any_size_local"]);

const { getWorkflowTemplates } = api;

api.getWorkflowTemplates = async function (...asked) {
  const templates = await getWorkflowTemplates.apply(this, asked);
  const later = (name) => Number(NEEDS_SOMETHING.has(name));
  templates?.[FOLDER]?.sort((one, other) => later(one) - later(other) || (one < other ? -1 : 1));
  return templates;
};
