// What the page has from the start: the tab in the sidebar, the entry in the settings, the order of the examples. What is
// in the tab and in the settings is imported when it is opened.
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

/** The module, when it is there. */
let tasks;

/** Called anew whenever the frontend draws the sidebar. */
async function render(place) {
  place.style.height = "100%";
  if (!tasks) {
    tasks = await importedInto(place, () => import("./tasks/panel.mjs"));
    // The tab was closed meanwhile.
    if (!place.isConnected) return;
  }
  tasks.render(place);
}

app.registerExtension({
  name: "HiDreamVolcengine.Tasks",

  setup() {
    // Frontends complain about events that nobody ever listened for, and who does is imported later.
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

// One for all: a frontend that draws the row again must get what is there, with what was typed. It is defined by the
// module that is imported when the dialog shows it.
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

// The order of this pack's workflows in ComfyUI's template browser: by name, and last what needs something before it can
// run. The server lists them as they lie on its disk.

/** Their notes say what: a checkpoint, or a task that was bought before. */
const NEEDS_SOMETHING = new Set(["fetch_a_paid_task_again", "old_photo_upscale_and_refine", "outpaint_any_size_local"]);

const { getWorkflowTemplates } = api;

api.getWorkflowTemplates = async function (...asked) {
  const templates = await getWorkflowTemplates.apply(this, asked);
  const later = (name) => Number(NEEDS_SOMETHING.has(name));
  templates?.[FOLDER]?.sort((one, other) => later(one) - later(other) || (one < other ? -1 : 1));
  return templates;
};
