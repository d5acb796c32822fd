// A picture or a sound that is searched by: chosen, pasted or dropped. It stays in this tab, and is no part of the address.

import { bytes, element, find, plain } from "./elements.js";
import { ask } from "./service.js";

// "image/png" -> "image", where the index takes pictures.
const kindOf = (file, takes) => takes.find((kind) => file.type.startsWith(`${kind}/`)) ?? null;
export const searchable = (files, takes) => files.find((file) => kindOf(file, takes)) ?? null;

// {name, kind, raw, url} of a file; throws where it cannot be one.
export async function sampleOf(file, { takes, limits }) {
  const kind = kindOf(file, takes);
  if (kind === null) throw new Error(`${plain(file.name, 80)} is no ${takes.map(named).join(" and no ")}.`);
  if (file.size > limits.upload_bytes) {
    throw new Error(`${plain(file.name, 80)} has ${bytes(file.size)}; a file may have ${bytes(limits.upload_bytes)}.`);
  }
  const name = /\.\w+$/.test(file.name) ? file.name : `pasted.${file.type.split("/")[1].replace(/\W.*/, "")}`;
  return { name, kind, raw: await file.arrayBuffer(), url: kind === "image" ? URL.createObjectURL(file) : null };
}

export const named = (kind) => ({ image: "picture", audio: "sound", text: "text" })[kind];

export function forget(sample) {
  if (sample?.url) URL.revokeObjectURL(sample.url);
}

// body: the rest of the search
export function searchBy(sample, body, signal) {
  const asked = new URLSearchParams({ name: sample.name, ask: JSON.stringify(body) });
  return ask(`index/search/file?${asked}`, { raw: sample.raw, signal });
}

// What is searched by, with a button that takes it away; null hides it.
export function drawSample(sample, remove) {
  const place = find("#sample");
  place.hidden = sample === null;
  if (sample === null) {
    place.replaceChildren();
    return;
  }
  const name = plain(sample.name, 60);
  place.replaceChildren(
    sample.url
      ? element("img", { src: sample.url, alt: `The picture that is searched by: ${name}` })
      : element("span", { class: "note-sign", "aria-hidden": "true" }, "♪"),
    element("span", {}, `Like this ${named(sample.kind)}: `, element("bdi", {}, name)),
    element("button", { type: "button", class: "plain", "aria-label": `Remove ${name}`, onclick: remove }, "Remove ×"),
  );
}

// The button, and pasting. use(files): called with what was chosen or pasted
export function prepareSamples(takes, use) {
  const button = find("#by-file");
  const input = find("#sample-file");
  button.hidden = false;
  button.textContent = takes.length > 1 ? "By file" : `By ${named(takes[0])}`;
  button.setAttribute("aria-label", `Search by a ${takes.map(named).join(" or a ")}`);
  button.title = `${button.getAttribute("aria-label")}: choose, paste or drop one`;
  input.accept = takes.map((kind) => `${kind}/*`).join(",");
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    use(Array.from(input.files));
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = Array.from(event.clipboardData?.files ?? []);
    if (!searchable(files, takes)) return;
    event.preventDefault();
    use(files);
  });
}
