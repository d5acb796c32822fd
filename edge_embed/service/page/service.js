// Requests to the service that this page came from.

import { find } from "./elements.js";

const KEPT = "edge-embed-token";
let token = sessionStorage.getItem(KEPT);

export class ServiceError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

// One request. With a 401 the token is asked for, and the request sent again.
export async function ask(path, { body, raw, signal } = {}) {
  for (;;) {
    const answer = await send(path, { body, raw, signal });
    if (answer.ok) return answer.json();
    const error = await problem(answer);
    if (answer.status !== 401) throw error;
    const refused = token !== null;
    keep(null);
    await askForToken(refused ? "The service does not accept this token." : "This needs the token of the service.");
  }
}

// Find out whether this page may write, by storing nothing, and ask for the token where it may not: before files are
// sent, which can be large.
export const mayWrite = () => ask("index/documents", { body: { documents: [] } });

async function send(path, { body, raw, signal }) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers, signal, credentials: "same-origin", cache: "no-store", redirect: "error" };
  if (raw !== undefined) {
    headers["Content-Type"] = "application/octet-stream";
    Object.assign(options, { method: "POST", body: raw });
  } else if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  try {
    // not relative to the page's address, which may hold a password
    return await fetch(new URL(path, location.origin + location.pathname), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, { code: "unreachable", message: "The service does not answer. Is it still running?" });
  }
}

async function problem(answer) {
  try {
    const { error } = await answer.json();
    if (error.message) return new ServiceError(answer.status, error);
  } catch {
    // no JSON: a proxy, or nothing
  }
  return new ServiceError(answer.status, { code: "error", message: `The service answered ${answer.status}.` });
}

function keep(value) {
  token = value;
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

export class Cancelled extends Error {}

let asking = null;

// Show the dialog once, also where several requests wait for it. Rejects with Cancelled.
function askForToken(reason) {
  asking ??= new Promise((resolve, reject) => {
    const dialog = find("#token-dialog");
    const field = find("#token");
    find("#token-reason").textContent = reason;
    field.value = "";
    const done = new AbortController();
    const finish = (settle) => {
      done.abort();
      asking = null;
      settle();
    };
    const { signal } = done;
    find("form", dialog).addEventListener("submit", (event) => {
      event.preventDefault();
      keep(field.value.trim() || null);
      finish(resolve);
      dialog.close();
      field.value = "";
    }, { signal });
    find(".cancel", dialog).addEventListener("click", () => dialog.close(), { signal });
    dialog.addEventListener("close", () => finish(() => reject(new Cancelled("No token was given."))), { signal });
    dialog.showModal();
  });
  return asking;
}
