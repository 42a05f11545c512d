// The pack's own routes in ComfyUI's server: questions, and orders with the token of this start.
import { api } from "../../scripts/api.js";
import { chinese } from "./pack.js";

const BASE = "/hidream_volcengine";

/** What the server refused, in the user's language; `status` is HTTP's, 0 if there was no answer. */
export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** The address of a route, for an `<img>` say. */
export function addressOf(path) {
  return api.apiURL(BASE + path);
}

/** GET; the answer's JSON. Throws Refused. */
export async function ask(path) {
  return await exchange(path, {});
}

/** POST a JSON object; the answer's JSON. Throws Refused. */
export async function order(path, content = {}) {
  // Asked for each time: ComfyUI may have been started anew below this page.
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
