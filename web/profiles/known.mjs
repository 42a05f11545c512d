// Knows for which services each profile of the server has a key. Loaded when a node first needs it, and after each
// change.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { ask } from "../server.mjs";

/** @type {Map<string, string[]> | undefined} services by profile; undefined until loaded, and if the server refuses. */
let services;
let asked = false;

/** Return the services that a profile has a key for; undefined if that is not known, or there is no such profile. */
export function servicesOf(profile) {
  if (!asked) learn();
  return services?.get(profile);
}

async function learn() {
  asked = true;
  try {
    services = new Map((await ask("/profiles")).profiles.map(({ name, ready }) => [name, ready]));
  } catch {
    services = undefined;
  }
  // Nodes update their warnings when the canvas is drawn.
  app.canvas?.setDirty(true, true);
}

// "reconnected": the server may have been restarted with other keys in its environment.
for (const change of ["hidream_volcengine.profiles", "reconnected"]) {
  api.addEventListener(change, () => asked && learn());
}
