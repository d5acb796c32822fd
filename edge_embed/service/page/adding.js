// Files that are dropped, or chosen, go into the index one after the other.

import { onDrop } from "./dropping.js";
import { bytes, count, element, find, plain } from "./elements.js";
import { ask, Cancelled, mayWrite } from "./service.js";

let waiting = Promise.resolve();

// limits: {upload_bytes}; added(): called after each file that was stored
export function prepareAdding(limits, added) {
  const take = (files) => {
    for (const file of files) {
      const line = listed(file.name);
      waiting = waiting.then(() => upload(file, line, limits, added));
    }
  };
  const input = find("#files");
  find("#add").hidden = false;
  find("#add").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(Array.from(input.files));
    input.value = "";
  });
  find("#uploads button").addEventListener("click", () => {
    find("#uploads").hidden = true;
    find("#uploads ul").replaceChildren();
  });
  onDrop("add", take);
}

function listed(name) {
  const said = element("span", {}, "waiting");
  find("#uploads").hidden = false;
  find("#uploads ul").append(element("li", {}, element("bdi", {}, plain(name, 120)), ": ", said));
  return said;
}

async function upload(file, said, limits, added) {
  said.textContent = "reading and embedding…";
  try {
    if (file.size > limits.upload_bytes) {
      throw new Error(`has ${bytes(file.size)}; a file may have ${bytes(limits.upload_bytes)}.`);
    }
    const raw = await file.arrayBuffer(); // a folder fails here
    await mayWrite();
    const result = await ask(`index/files?name=${encodeURIComponent(file.name)}`, { raw });
    said.textContent = summary(result);
    said.className = result.problems.length ? "warning" : "";
    added();
  } catch (error) {
    said.className = "warning";
    said.textContent = error instanceof Cancelled ? "not added: no token was given" : reason(error);
  }
}

function summary({ stored, unchanged, deleted, notes, problems }) {
  const parts = [`${count(stored, "document")} stored`];
  if (unchanged) parts.push(`${unchanged} unchanged`);
  if (deleted) parts.push(`${deleted} of an earlier upload deleted`);
  parts.push(...notes.slice(0, 3).map((note) => plain(note, 200)));
  if (problems.length) {
    const [{ line, reason: text }] = problems;
    const first = line === null ? text : `line ${line}: ${text}`;
    parts.push(`${count(problems.length, "problem")}, the first: ${plain(first, 200)}`);
  }
  return parts.join(", ");
}

function reason(error) {
  if (error.name === "NotReadableError" || error.name === "NotFoundError") return "cannot be read (folders cannot be added)";
  return `not added: ${plain(error.message, 400)}`;
}
