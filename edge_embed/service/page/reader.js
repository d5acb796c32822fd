// A whole document in a dialog, with the passage that was found.

import { element, find, grouped, marked, plain } from "./elements.js";
import { shown, titleOf } from "./hits.js";
import { ask } from "./service.js";

// Characters of a document that are shown, the passage in their middle.
const SHOWN = 100_000;

export async function openDocument(hit) {
  const start = Math.max(0, Math.min(hit.start, hit.start - (SHOWN - (hit.end - hit.start)) / 2) | 0);
  const body = { where: { $key: hit.key }, limit: 1, start, end: start + SHOWN };
  const { documents } = await ask("index/find", { body });
  if (!documents.length) throw new Error(`${plain(hit.key, 80)} is no longer in the index.`);
  draw(documents[0], hit);
}

function draw(found, hit) {
  const dialog = find("#reader");
  find("#reader-title bdi").textContent = plain(titleOf(found), 200);
  const entries = [["key", found.key], ...Object.entries(found.metadata).filter(([name]) => name !== "title")];
  find(".metadata", dialog).replaceChildren(...entries.map(([name, value]) => element("div", {},
    element("dt", {}, element("bdi", {}, plain(name, 60))),
    element("dd", {}, element("bdi", {}, plain(value, 400))))));
  const picture = shown(found);
  find(".picture", dialog).hidden = picture === null;
  find(".picture", dialog).replaceChildren(...(picture ? [picture] : []));
  const text = find(".text", dialog);
  text.hidden = !found.text; // a picture or a sound without a caption
  const from = hit.start - found.start;
  const to = Math.min(hit.end - found.start, Array.from(found.text).length);
  const marks = (hit.marks ?? []).map(([start, end]) => [start + from, end + from]);
  if (hit.score !== undefined && (from > 0 || to < found.characters)) {
    const passage = element("span", { class: "found" }, marked(found.text, marks, from, to));
    text.replaceChildren(marked(found.text, [], 0, from), passage, marked(found.text, [], to));
  } else {
    text.replaceChildren(marked(found.text, marks));
  }
  const cut = find(".cut", dialog);
  cut.hidden = found.start === 0 && found.end === found.characters;
  cut.textContent = `Characters ${grouped(found.start)} to ${grouped(found.end)} of ${grouped(found.characters)}.`;
  dialog.showModal();
  text.scrollTop = 0;
  (find("mark", text) ?? find(".found", text))?.scrollIntoView({ block: "center" });
  text.focus({ preventScroll: true });
}

export function prepareReader() {
  const dialog = find("#reader");
  find(".close", dialog).addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
}
