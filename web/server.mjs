// Calls the pack's own routes in ComfyUI's server: GET, and POST with the token of the running server.
import { api } from "../../scripts/api.js";
import { chinese } from "./pack.js";

const BASE = "/hidream_volcengine";

/** The server refused a call, or did not answer. `message` is in the user's language; `status` is the HTTP status, 0
 * without an answer. */
export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** Return the URL of a route, for an `<img>` for example. */
export function addressOf(path) {
  return api.apiURL(BASE + path);
}

/** GET a route; return the answer's JSON. Throws Refused. */
export async function ask(path) {
  return await exchange(path, {});
}

/** POST a JSON object to a route; return the answer's JSON. Throws Refused. */
export async function order(path, content = {}) {
  // Get the token for each call: ComfyUI may have been restarted while this page was open.
  const { token } = await ask("/session");
  const headers = { "Content-Type": "application/json", "X-Remote-Image-Token": token };
  return await exchange(path, { method: "POST", headers, body: JSON.stringify(content) });
}

async function exchange(path, request) {
  let response, content;
  try {
    response = await api.fetchApi(BASE + path, { cache: "no-store", ...request });
    content = await response.json();
  } catch {
    const silent = chinese() ? "ComfyUI 服务器没有应答。" : "The ComfyUI server did not answer.";
    throw new Refused(response?.status ?? 0, silent);
  }
  if (response.ok) return content;
  const why = content?.error?.[chinese() ? "zh" : "en"];
  throw new Refused(response.status, why ?? `HTTP ${response.status}`);
}
