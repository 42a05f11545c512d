// For which services each profile of the server has a key: asked when a node needs it, and again after each change.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { ask } from "../server.mjs";

/** @type {Map<string, string[]> | undefined} by profile; undefined where the server does not tell this machine. */
let services;
let asked = false;

/** The services that a profile has a key for; undefined as long as that is not known. */
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
  // Nodes look when they are drawn.
  app.canvas?.setDirty(true, true);
}

// The server may have been started anew with other keys in its environment.
for (const change of ["hidream_volcengine.profiles", "reconnected"]) {
  api.addEventListener(change, () => asked && learn());
}
