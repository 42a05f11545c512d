// The Tasks tab in the sidebar: every remote task of the journal, live, and what can be done about it.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { CHANGED } from "./feed.js";
import { TasksPanel } from "./panel.js";
import { texts } from "./texts.js";

let panel;

function close() {
  panel?.end();
  panel = undefined;
}

/** Called anew whenever the frontend draws the sidebar. */
function render(place) {
  if (panel?.element.parentElement === place) return;
  close();
  // In another language.
  const renew = () => {
    close();
    render(place);
  };
  panel = new TasksPanel(renew);
  place.style.height = "100%";
  place.replaceChildren(panel.element);
}

app.registerExtension({
  name: "HiDreamVolcengine.Tasks",

  setup() {
    // Frontends complain about events that nobody ever listened for; the tab is closed at first.
    api.addEventListener(CHANGED, () => {});
    app.extensionManager.registerSidebarTab({
      id: "hidream-volcengine-tasks",
      icon: "pi pi-cloud-download",
      get title() {
        return texts().title;
      },
      get tooltip() {
        return texts().tooltip;
      },
      type: "custom",
      render,
      destroy: close,
    });
  },
});
