// The order of this pack's workflows in ComfyUI's template browser: by name, and last what needs something before it can
// run. The server lists them as they lie on its disk.
import { api } from "../../../scripts/api.js";
import { FOLDER } from "../pack.js";

/** Their notes say what: a checkpoint, or a task that was bought before. */
const NEEDS_SOMETHING = new Set(["fetch_a_paid_task_again", "old_photo_upscale_and_refine", "outpaint_any_size_local"]);

const { getWorkflowTemplates } = api;

api.getWorkflowTemplates = async function (...asked) {
  const templates = await getWorkflowTemplates.apply(this, asked);
  const later = (name) => Number(NEEDS_SOMETHING.has(name));
  templates?.[FOLDER]?.sort((one, other) => later(one) - later(other) || (one < other ? -1 : 1));
  return templates;
};
